"""A study: a grid of runs, one papermill execution of train.ipynb each, then the question notebook.

Each execution is its own process (`worker`), so runs cannot disturb one another and a crash costs one
run. Only where several runs share a GPU are they trained by one notebook, train_together.ipynb, in one
process. Whether a run succeeded is what the library wrote last, never what the notebook's cells say.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnetlab import config, machine, store
from resnetlab.config import Grid, UsageError
from resnetlab.pages import pictures
from resnetlab.studies import notebook, processes

TRAIN_NOTEBOOK, TOGETHER_NOTEBOOK = "train.ipynb", "train_together.ipynb"
STOP_SECONDS = 60.0  # for the step under way, its checkpoint and the notebook's last cells


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
    watched: bool = False  # another process trained it, and this one looked on

    def work(self) -> processes.Work:
        """The process that executes it, not started yet."""
        paths = {"source": str(self.source), "target": str(self.target)}
        return processes.Local(
            [sys.executable, "-m", "resnetlab.studies.worker"],
            order=json.dumps(paths | {"parameters": dict(self.parameters)}),
            environment={"PYDEVD_DISABLE_FILE_VALIDATION": "1"},  # a warning of the debugger's
        )

    def record(self) -> store.RunRecord | None:
        """What lies on disk of this run now."""
        with contextlib.suppress(UsageError):
            return store.read_run(self.run_folder)
        return None

    @property
    def run_folder(self) -> Path:
        return self.folder or self.target.parent

    @property
    def members(self) -> tuple[Execution, ...]:
        """The runs that end with this process."""
        return (self, *self.company)


class Watcher:
    """Called by the runner as things happen; says nothing by itself."""

    def begin(
        self, todo: Sequence[Execution], done: Sequence[store.RunRecord], jobs: int, threads: int
    ) -> None:
        pass

    def tick(self, running: Sequence[Execution]) -> None:
        pass

    def ended(self, execution: Execution, status: store.Status) -> None:
        pass

    def again(self, execution: Execution, why: str) -> None:
        """It failed, and is started again in a fresh process."""

    def elsewhere(self, execution: Execution) -> None:
        """Another process trains it, and is watched until it ends."""

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
    elsewhere: tuple[str, ...] = ()  # runs that another process trains, left to it


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
    watch: bool = True,
    watcher: Watcher | None = None,
) -> Outcome:
    """Execute the grid: skip what has ended, resume what was interrupted, go on when one fails.

    Everything is checked before the first process starts: the grid, the results folder, that no run
    folder holds another configuration, the device and the data. By default one run per core, with one
    thread (`benchmarks/README.md` says why), and on a GPU all `together`, side by side in one process,
    as many as its memory holds (`training.fit_together`); `jobs` makes that so many processes instead.
    A run whose step a GPU cannot capture is started again in a fresh process, where it goes without.
    Any of `machine.STOPS` stops the running ones after their step, each with a checkpoint. Ends by
    executing the question notebook, unless `report` is off. `only` names the runs to execute.

    A run that another process trains, such as a second call of the same study, is watched until it
    ends, and gone on with if that process is stopped; without `watch` it is left, and named.
    """
    watcher = watcher or Watcher()
    folder = store.prepare_root(root) / store.check_name("study", grid.name)
    question, runs = notebook.find(grid.question), grid.runs()
    jobs, together = _side_by_side(len(runs), jobs, together, device)
    if engine != "auto":
        from resnetlab.training import engine as engines

        engines.parse(engine)
    threads = machine.threads(jobs)
    results = "" if root == store.results_root() else str(root)
    place: dict[str, Any] = {"study": grid.name, "results": results, "device": device}
    place |= {"engine": engine, "threads": threads}

    source, todo, done = notebook.find(TRAIN_NOTEBOOK), [], []
    for name, asked in runs.items():
        if only is not None and name not in only:
            continue
        record = store.check_folder(folder / name, asked)
        if record is not None and record.status in store.ENDED:
            done.append(record)
            continue
        values = config.parameters_of(asked) | {"run": name} | place
        target = folder / name / store.NOTEBOOK_FILE
        todo.append(Execution(name, source, target, values, asked.recipe.steps))
    if todo:
        _check_machine_and_data(list(runs.values()), device)
    watcher.begin(todo, done, len(todo) if together and todo else jobs, threads)

    failed, notes, left = list[str](), list[str](), list[str]()
    with machine.stop_signals() as stopped:
        while todo:
            batch, again = todo, list[Execution]()
            free = [item for item in todo if not store.being_written(item.run_folder)]
            if together and len(free) > 1:
                members = {item.name: runs[item.name] for item in free}
                batch = [item for item in todo if item.name not in members]
                batch = [_together(free, members, folder, place), *batch]
            for process in _execute(batch, jobs, stopped, watcher, watch):
                for execution in process.members:
                    why = _starts_again(execution) if engine == "auto" and not stopped else None
                    others = not stopped and _trained_by_others(execution, process)
                    if others and not watch:
                        left.append(execution.name)
                    elif why is not None or others:
                        again += [item for item in todo if item.name == execution.name]
                        if why is not None:
                            watcher.again(execution, why)
                    else:
                        status = _settle(execution, process, bool(stopped), failed, notes)
                        watcher.ended(execution, status)
            todo = again
        executed = None
        if report and not stopped:
            watcher.reporting(question.name)
            values = grid.question_parameters() | {"results": results}
            final = Execution(question.name, question, folder / question.name, values)
            list(_execute([final], 1, stopped, Watcher()))
            pictures.add_to(final.target)
            if final.error:
                failed.append(f"{question.name}: {final.error}")
            executed = None if final.error or stopped else final.target
    return Outcome(folder, tuple(failed), tuple(notes), bool(stopped), executed, tuple(left))


def _side_by_side(runs: int, jobs: int | None, together: bool | None, device: str) -> tuple[int, bool]:
    """How many processes at a time, and whether all runs are trained in one."""
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs must be at least 1, got {jobs}")
    if together and jobs not in (None, 1):
        raise UsageError("runs trained together are one process: jobs and together exclude each other")
    if together or jobs is not None:
        return jobs or 1, bool(together)
    if _on_gpu(device):
        return 1, together is None
    return max(1, min(runs, machine.usable_cores())), False


def _on_gpu(device: str) -> bool:
    """Whether the runs will be trained on a GPU. A driver that gives torch none is said."""
    if device != "auto":
        return device.startswith("cuda")
    if machine.torch_sees_gpu():
        return True
    if machine.has_driver():
        why = "torch sees no GPU" if machine.has_gpu() else "nvidia-smi lists no GPU"
        print(
            f"note: an NVIDIA driver is installed, but {why}: the study trains on the CPU, a process "
            "per core",
            file=sys.stderr,
            flush=True,
        )
    return False


def _together(
    todo: Sequence[Execution], runs: Mapping[str, config.Run], folder: Path, place: Mapping[str, Any]
) -> Execution:
    """One execution that trains all of these, in one process."""
    values = {"runs": {name: config.parameters_of(run) for name, run in runs.items()}} | dict(place)
    first, *rest = (replace(item, folder=item.target.parent) for item in todo)
    source, target = notebook.find(TOGETHER_NOTEBOOK), folder / TOGETHER_NOTEBOOK
    return replace(first, source=source, target=target, parameters=values, company=tuple(rest))


def _starts_again(execution: Execution) -> str | None:
    """Why a run failed, if it goes on in a fresh process: a step could not be captured; else None."""
    record = execution.record()
    if record is None or record.status != "failed":
        return None
    error: str = record.info.get("error") or ""
    return error if error.startswith(store.STARTED_AGAIN) else None


def _trained_by_others(execution: Execution, process: Execution) -> bool:
    """Whether another process had the run, which has not ended: watch it, or go on with it."""
    record = execution.record()
    status = record.status if record is not None else "interrupted"
    if status in store.ENDED:
        return False
    lost = f"/{execution.name} {store.BEING_WRITTEN} " in process.error
    return lost or (process.watched and status != "failed")


def _settle(
    execution: Execution, process: Execution, stopped: bool, failed: list[str], notes: list[str]
) -> store.Status:
    """What became of a run whose process has ended, by what the library wrote; noted if it is amiss."""
    record = execution.record()
    status = record.status if record is not None else "failed"
    alone = not process.company  # else the notebook's error may be another run's
    if status in store.ENDED:
        if process.error and alone:
            notes.append(f"{execution.name}: {status}; its notebook: {process.error}")
    elif not stopped:
        noted = record.info.get("error") if record is not None else None
        reasons = (process.error, noted) if alone else (noted, process.error)
        failed.append(f"{execution.name}: {reasons[0] or reasons[1] or 'it did not end'}")
        return "failed"
    return status


def execute(source: Path, target: Path, parameters: Mapping[str, Any]) -> str:
    """Execute one question notebook in a process of its own: "" or why it failed, one line.

    KeyboardInterrupt if a signal asked to stop. Runs that it was training go on from their checkpoints.
    """
    execution = Execution(source.stem, source, target, parameters)
    with machine.stop_signals() as stopped:
        list(_execute([execution], 1, stopped, Watcher()))
    if stopped:
        raise KeyboardInterrupt
    pictures.add_to(target)
    return execution.error


def _check_machine_and_data(runs: Sequence[config.Run], device: str) -> None:
    """What every run of the grid would trip over is said once, before the first process starts.

    It also decodes a folder of images once, in sight of its progress bar, rather than once a process.
    Loads torch, so the default study on the digits, which needs no check, goes without.
    """
    first = runs[0]
    small = all(run.network.design == "cifar" for run in runs)
    embedded = first.data == config.Data() and small
    if embedded and device in ("auto", "cpu") and first.precision != "tf32":
        return
    from resnetlab import training

    training.check_precision(first.precision, training.resolve_device(device))
    dataset = training.load_data(first)
    for run in runs:
        training.check_run(run, dataset)


def _execute(
    executions: Sequence[Execution],
    jobs: int,
    stopped: Sequence[str],
    watcher: Watcher,
    watch: bool = True,
) -> Iterator[Execution]:
    """Execute them, at most `jobs` at a time, and yield each as it ends. A stop starts no more.

    What another process trains by then is watched beside them; what it has ended is left as it is.
    """
    waiting, running = list(executions), dict[str, tuple[Execution, processes.Work]]()
    deadline: float | None = None
    try:
        while running or (waiting and not stopped):
            while waiting and not stopped and _own(running) < jobs:
                execution = waiting.pop(0)
                execution.error = ""
                record = None if execution.company else execution.record()
                if record is not None and record.status in store.ENDED:
                    yield execution
                    continue
                execution.watched = not execution.company and store.being_written(execution.run_folder)
                work: processes.Work
                if not execution.watched:
                    work = execution.work()
                elif watch:
                    work = processes.Elsewhere(execution.run_folder)
                    watcher.elsewhere(execution)
                else:
                    yield execution
                    continue
                work.start()
                running[execution.name] = execution, work
            if stopped and deadline is None:
                deadline = time.monotonic() + STOP_SECONDS
                for _, work in running.values():
                    work.stop()
            if deadline is not None and time.monotonic() > deadline:
                for _, work in running.values():
                    work.kill()
            time.sleep(0.2)
            watcher.tick([member for one, _ in running.values() for member in one.members])
            for name, (execution, work) in list(running.items()):
                error = work.ended()
                if error is not None:
                    work.close()
                    del running[name]
                    execution.error = error
                    if watch and not stopped and _trained_by_others(execution, execution):
                        waiting.insert(0, execution)
                    else:
                        yield execution
    finally:
        for _, work in running.values():  # only when the runner itself failed
            work.kill()
            work.close()


def _own(running: Mapping[str, tuple[Execution, processes.Work]]) -> int:
    """How many of them this machine works for."""
    return sum(not execution.watched for execution, _ in running.values())
