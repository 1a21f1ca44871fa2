"""A study: a grid of runs, one papermill execution of train.ipynb each, then the question notebook.

Each execution is its own process (`python -m resnetlab.studies.runner`, the worker below), so runs
cannot disturb one another and a crash costs one run. Only where several runs share a GPU are they
trained by one notebook, train_together.ipynb, in one process. Whether a run succeeded is what the
library wrote last, never what the notebook's cells say.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

import psutil

from resnetlab import config, machine, store
from resnetlab.config import Grid, UsageError
from resnetlab.studies import notebook

TRAIN_NOTEBOOK, TOGETHER_NOTEBOOK = "train.ipynb", "train_together.ipynb"


def _worker() -> int:
    """The child process: execute one notebook, described on the first line of standard input.

    The rest of standard input is the parent's life: when it ends, so does this process, and with it
    the kernel, which watches its own parent.
    """
    job = json.loads(sys.stdin.readline())

    def follow_parent() -> None:
        sys.stdin.read()
        os._exit(3)

    threading.Thread(target=follow_parent, daemon=True).start()
    try:
        notebook.execute(Path(job["source"]), Path(job["target"]), job["parameters"])
    except Exception as error:
        kind = getattr(error, "ename", type(error).__name__)
        said = " ".join(str(getattr(error, "evalue", None) or error).split())
        print(f"{kind}: {said}", file=sys.stderr)  # one line: the study repeats the last one
        return 1
    return 0


@dataclass
class Execution:
    """A notebook under way in a process of its own; in `company`, the other runs that it trains."""

    name: str
    source: Path
    target: Path
    parameters: Mapping[str, Any]
    steps: int = 0  # planned
    company: tuple[Execution, ...] = ()  # never started themselves
    folder: Path | None = None  # of the run, if it is not that of `target`
    error: str = ""  # what the process said last, once it has failed
    _process: subprocess.Popen[str] | None = None
    _stderr: IO[str] | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        self._stderr = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (poll closes it)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "resnetlab.studies.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            text=True,
            env=dict(environment),
            start_new_session=True,  # Ctrl-C in the terminal reaches the study, which stops its runs
        )
        job = {
            "source": str(self.source),
            "target": str(self.target),
            "parameters": dict(self.parameters),
        }
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()

    def poll(self) -> bool:
        """True once the process has ended."""
        assert self._process is not None
        assert self._stderr is not None
        code = self._process.poll()
        if code is None:
            return False
        if code != 0 and not self.error:
            self._stderr.seek(0)
            lines = [line for line in self._stderr.read().splitlines() if line.strip()]
            self.error = lines[-1] if lines else f"its process ended with exit code {code}"
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._stderr.close()
        return True

    def record(self) -> store.RunRecord | None:
        """What lies on disk of this run now."""
        with contextlib.suppress(UsageError):
            return store.read_run(self.folder or self.target.parent)
        return None

    @property
    def members(self) -> tuple[Execution, ...]:
        """The runs that end with this process."""
        return (self, *self.company)

    def stop(self) -> None:
        """Ask the training process to end after its step; the notebook then ends by itself."""
        kernel = self._kernel()
        if kernel is not None:
            with contextlib.suppress(psutil.Error):
                kernel.send_signal(signal.SIGTERM)
        else:
            self.kill()  # it has not begun to train

    def _kernel(self) -> psutil.Process | None:
        """The process that trains for this execution, if it does: run.json may name somebody else's."""
        assert self._process is not None
        for record in [member.record() for member in self.members]:
            if record is None or record.status != "running":
                continue
            with contextlib.suppress(psutil.Error):
                kernel = psutil.Process(int(record.info["pid"]))
                if kernel.ppid() == self._process.pid:
                    return kernel
        return None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()


BRIEF_STEPS = 50  # of small networks on the digits: done before a process has loaded torch
STOP_SECONDS = 60.0  # for the step under way, its checkpoint and the notebook's last cells


class Watcher(Protocol):
    """Called by the runner as things happen; the command line draws progress with it."""

    def begin(
        self, todo: Sequence[Execution], done: Sequence[store.RunRecord], jobs: int, threads: int
    ) -> None: ...
    def tick(self, running: Sequence[Execution]) -> None: ...
    def ended(self, execution: Execution, status: store.Status) -> None: ...
    def reporting(self, notebook_name: str) -> None: ...


class Silent:
    """A watcher that says nothing."""

    def begin(
        self, todo: Sequence[Execution], done: Sequence[store.RunRecord], jobs: int, threads: int
    ) -> None:
        pass

    def tick(self, running: Sequence[Execution]) -> None:
        pass

    def ended(self, execution: Execution, status: store.Status) -> None:
        pass

    def reporting(self, notebook_name: str) -> None:
        pass


@dataclass(frozen=True)
class Outcome:
    """How a study ended."""

    folder: Path
    failed: tuple[str, ...]  # "RUN: why"
    notes: tuple[str, ...]  # runs that ended well whose notebook did not
    interrupted: bool
    report: Path | None  # the executed question notebook


def run(
    grid: Grid,
    *,
    root: Path,
    jobs: int | None = None,
    device: str = "auto",
    engine: str = "auto",
    together: bool | None = None,
    report: bool = True,
    only: Collection[str] | None = None,
    watcher: Watcher | None = None,
) -> Outcome:
    """Execute the grid: skip what has ended, resume what was interrupted, go on when one fails.

    Everything is checked before the first process starts: the grid, the results folder, that no run
    folder holds another configuration, the device and the data. By default one run a core, with one
    thread (`benchmarks/README.md` says why), and on a GPU all `together`, side by side in one process,
    as many as its memory holds (`training.fit_together`); `jobs` makes that so many processes instead.
    SIGINT and SIGTERM stop the running ones after their step, each with a checkpoint. Ends by executing
    the question notebook, unless `report` is off. `only` names the runs to execute.
    """
    watcher = watcher or Silent()
    folder = store.prepare_root(root) / store.check_name("study", grid.name)
    source, question = notebook.find(TRAIN_NOTEBOOK), notebook.find(grid.question)
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs must be at least 1, got {jobs}")
    runs = grid.runs()
    cores = machine.usable_cores()
    on_gpu = device.startswith("cuda") or (device == "auto" and machine.has_gpu())
    if engine != "auto":
        from resnetlab.training import engine as engines

        engines.parse(engine)
    if together and jobs not in (None, 1):
        raise UsageError(
            "runs that are trained together are one process: jobs and together exclude each other"
        )
    together = on_gpu and jobs is None if together is None else together
    jobs = 1 if together else jobs or (1 if on_gpu else max(1, min(len(runs), cores)))
    threads = max(1, cores // jobs)

    # The project's own folder needs no path: what is executed can then be shared as it is.
    place = "" if root == store.results_root() else str(root)
    todo, done = [], []
    for name, asked in runs.items():
        if only is not None and name not in only:
            continue
        there = store.check_folder(folder / name, asked)
        if there is not None and there.status in store.ENDED:
            done.append(there)
            continue
        values = config.parameters_of(asked) | {"study": grid.name, "run": name, "results": place}
        values |= {"device": device, "threads": threads, "engine": engine}
        target = folder / name / store.NOTEBOOK_FILE
        todo.append(Execution(name, source, target, values, asked.recipe.steps))

    if todo:
        _check_machine_and_data(grid, device)
    environment = _environment()
    watcher.begin(todo, done, len(todo) if together and todo else jobs, threads)
    if together and len(todo) > 1:
        todo = [_together(todo, folder, device, engine, threads, place)]
    failed, notes = [], []
    with machine.stop_signals() as stopped:
        finished = _side_by_side(todo, jobs, environment, stopped, watcher)
        for process, execution in ((one, member) for one in finished for member in one.members):
            record = execution.record()
            status = record.status if record is not None else "failed"
            alone = not process.company  # else the notebook's error may be another run's
            if status in store.ENDED:
                if process.error and alone:
                    notes.append(f"{execution.name}: {status}; its notebook: {process.error}")
            elif not stopped:
                noted = record.info.get("error") if record is not None else None
                said = process.error or noted if alone else noted or process.error
                failed.append(f"{execution.name}: {said or 'it did not end'}")
                status = "failed"
            watcher.ended(execution, status)
        if stopped or not report:
            return Outcome(folder, tuple(failed), tuple(notes), bool(stopped), None)

        watcher.reporting(question.name)
        values = grid.question_parameters() | {"results": place}
        final = Execution(question.name, question, folder / question.name, values)
        for _ in _side_by_side([final], 1, environment, stopped, Silent()):
            if final.error:
                failed.append(f"{question.name}: {final.error}")
    executed = None if final.error or stopped else final.target
    return Outcome(folder, tuple(failed), tuple(notes), bool(stopped), executed)


def _together(
    todo: Sequence[Execution], folder: Path, device: str, engine: str, threads: int, place: str
) -> Execution:
    """One execution that trains all of these, in one process."""
    shared = {"study", "run", "results", "device", "engine", "threads"}
    runs = {
        item.name: {key: v for key, v in item.parameters.items() if key not in shared} for item in todo
    }
    values: dict[str, Any] = {"runs": runs, "study": folder.name, "results": place}
    values |= {"device": device, "engine": engine, "threads": threads}
    first, *rest = (replace(item, folder=item.target.parent) for item in todo)
    source, target = notebook.find(TOGETHER_NOTEBOOK), folder / TOGETHER_NOTEBOOK
    return replace(first, source=source, target=target, parameters=values, company=tuple(rest))


def folder_name(study: str, data: str, steps: int | None = None) -> str:
    """The study's folder, with what is not its usual: `digits`, `digits-cifar10-200-steps`.

    For question notebooks: no folder says one thing and holds another. UsageError for a bad name.
    """
    label = re.sub(r"[^A-Za-z0-9._-]", "_", config.images_named(data).label)
    parts = [store.check_name("study", study)]
    parts += [label] if data != "digits" else []
    parts += [f"{steps}-steps"] if steps is not None else []
    return store.check_name("study", "-".join(parts))


def collect(
    grid: Grid,
    *,
    root: Path,
    jobs: int | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
    weights: bool = False,
) -> list[store.RunRecord]:
    """The grid's runs, all ended: those that are there, own or committed, and the rest trained now.

    For question notebooks. A run counts if it is the same configuration, in the study's own folder of
    the results, else in that of the reference results, else in any other study, whatever its name
    there; with `weights`, only if a checkpoint lies with it.
    Runs of at most BRIEF_STEPS are trained in this process, together: to start one for each would take
    longer than they do.
    Raises RuntimeError, with the reasons, if one fails, UsageError if one that has ended has lost its
    checkpoints, and KeyboardInterrupt if it was stopped.
    """
    wanted = grid.runs()
    names = {run.hash(): name for name, run in wanted.items()}

    def look(places: Iterable[Path]) -> dict[str, store.RunRecord]:
        found: dict[str, store.RunRecord] = {}
        for record in (record for place in places for record in store.read_study(place).runs):
            name = names.get(record.config.hash())
            if name is None or record.status not in store.ENDED:
                continue
            if record.has_weights or not weights:
                found.setdefault(name, record)
        return found

    def there() -> dict[str, store.RunRecord]:
        named = (root / grid.name, root / store.REFERENCE / grid.name)
        found = look(named)
        if len(found) < len(wanted):
            found = look(place for place in store.find_studies(root) if place not in named) | found
        return found

    missing = wanted.keys() - there()
    if missing:
        brief = all(wanted[name].recipe.steps <= BRIEF_STEPS for name in missing)
        if brief and jobs is None:
            runs = {name: wanted[name] for name in wanted if name in missing}
            _here(runs, root / grid.name, device, watcher)
        else:
            outcome = run(
                grid,
                root=root,
                jobs=jobs,
                device=device,
                report=False,
                only=missing,
                watcher=watcher,
            )
            if outcome.interrupted:
                raise KeyboardInterrupt
            if outcome.failed:
                raise RuntimeError("\n".join(outcome.failed))
    found = there()
    for name in wanted:
        if name not in found:
            raise UsageError(
                f"{grid.name}/{name} has ended and its checkpoints are gone: remove the folder "
                f"{root / grid.name / name}, and it is trained again"
            )
    return [found[name] for name in wanted]


def _here(runs: Mapping[str, config.Run], folder: Path, device: str, watcher: Watcher | None) -> None:
    """Train them in this process; raises as `collect` does."""
    from resnetlab import training

    watcher, source = watcher or Silent(), notebook.find(TRAIN_NOTEBOOK)
    executions = {
        name: Execution(name, source, folder / name / store.NOTEBOOK_FILE, {}, run.recipe.steps)
        for name, run in runs.items()
    }
    watcher.begin(list(executions.values()), [], len(runs), machine.usable_cores())
    ended = training.fit_together(runs, study=folder.name, results_folder=folder.parent, device=device)
    failed, interrupted = [], False
    for name, said in ended.items():
        if isinstance(said, Exception):
            failed.append(f"{name}: {said}")
            watcher.ended(executions[name], "failed")
        else:
            watcher.ended(executions[name], said.status)
            interrupted |= said.status not in store.ENDED
    if failed:
        raise RuntimeError("\n".join(failed))
    if interrupted or len(ended) < len(runs):
        raise KeyboardInterrupt


def execute(source: Path, target: Path, parameters: Mapping[str, Any]) -> str:
    """Execute one notebook in a process of its own: "" or why it failed, one line.

    KeyboardInterrupt if a signal asked to stop. Runs that it was training go on from their checkpoints.
    """
    execution = Execution(source.stem, source, target, parameters)
    with machine.stop_signals() as stopped:
        for _ in _side_by_side([execution], 1, _environment(), stopped, Silent()):
            pass
    if stopped:
        raise KeyboardInterrupt
    return execution.error


def _environment() -> dict[str, str]:
    return os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # the debugger's warning


def _check_machine_and_data(grid: Grid, device: str) -> None:
    """What every run of the grid would trip over is said once, before the first process starts.

    It also decodes a folder of images once, in sight of its progress bar, rather than once a process.
    Loads torch, so the default study on the digits, which needs no check, goes without.
    """
    asked = list(grid.runs().values())
    small = all(run.network.design == "cifar" for run in asked)
    embedded = grid.data == "digits" and grid.validation == 0 and small
    if embedded and device in ("auto", "cpu") and grid.precision != "tf32":
        return
    from resnetlab import training

    training.check_precision(asked[0].precision, training.resolve_device(device))
    dataset = training.load_data(asked[0])
    for run in asked:
        training.check_run(run, dataset)


def _side_by_side(
    executions: Sequence[Execution],
    jobs: int,
    environment: Mapping[str, str],
    stopped: Sequence[str],
    watcher: Watcher,
) -> Iterator[Execution]:
    """Run them, at most `jobs` at a time, and yield each as it ends. A stop request starts no more."""
    waiting, running = list(executions), list[Execution]()
    deadline: float | None = None
    try:
        while running or (waiting and not stopped):
            while waiting and len(running) < jobs and not stopped:
                running.append(waiting.pop(0))
                running[-1].start(environment)
            if stopped and deadline is None:
                deadline = time.monotonic() + STOP_SECONDS
                for execution in running:
                    execution.stop()
            if deadline is not None and time.monotonic() > deadline:
                for execution in running:
                    execution.kill()
            time.sleep(0.2)
            watcher.tick([member for execution in running for member in execution.members])
            for execution in [item for item in running if item.poll()]:
                running.remove(execution)
                yield execution
    finally:
        for execution in running:  # only when the runner itself failed
            execution.kill()


if __name__ == "__main__":
    sys.exit(_worker())
