"""The live lab without its page: what may be asked for, the queue on disk, starting and stopping.

Everything lies in files under results/live-lab/.queue, changed under one lock, so a killed server, a
killed worker and two browsers at once leave nothing half done. Any process may advance the queue: the
server does so when a page looks at it, and one worker (`python -m dashboard.lab RESULTS`) does so
when no page is open. Training itself is `resnetlab train`, a process in a session of its own.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import filelock

from resnetlab import config, files, machine, store
from resnetlab.config import UsageError, commands, extras
from resnetlab.studies import processes

STUDY = "live-lab"
MOST_DEPTH, MOST_STEPS, MOST_LR, MOST_WAITING = 110, 2_000, 10.0, 20
MOST_ON_A_GPU = 4  # each process keeps a context of its own in the GPU's memory
STOP_SECONDS = 60.0  # for the step under way and its checkpoint; then the process is killed
POLL_SECONDS = 0.5
LOCK_SECONDS = 10.0
MOST_FAILURES = 1_000  # of the worker in a row, each POLL_SECONDS after the last
PROJECT = Path(__file__).resolve().parent.parent

DEPTHS = tuple(range(8, MOST_DEPTH + 1, 6))
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SCALES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)  # of the shortcut; 1 is the residual network as it is
MORE_SEEDS = 3

Phase = Literal["waiting", "starting", "running", "stopping", "ending"]
Answer = Literal["started", "waiting", "under way", "ended"]

# The worker that this process started, by queue: it needs a moment until it holds its lock.
_workers: dict[Path, processes.Local] = {}


def enabled(address: str | None) -> bool:
    """Whether this server may start runs: as RESNETLAB_LAB says, else only if it listens here alone."""
    switch = os.environ.get("RESNETLAB_LAB")
    if switch in ("0", "1"):
        return switch == "1"
    return address in ("127.0.0.1", "localhost", "::1")


def slots() -> int:
    """How many runs train at a time, one thread each."""
    cores = machine.usable_cores()
    return min(cores, MOST_ON_A_GPU) if machine.torch_sees_gpu() else cores


def data_sets() -> list[str]:
    """The data sets that a run may use: the digits, and what has been fetched. No paths."""
    fetched = files.usual_data()
    return ["digits", *(name for name in ("cifar10", "cifar100") if any(fetched.glob(f"{name}/*/")))]


# --- what may be asked for --------------------------------------------------------------------


def asked(
    depth: int,
    shortcut: str,
    lr: float = 0.1,
    data: str = "digits",
    steps: int = 400,
    seed: int = 0,
    scale: float = 1.0,
) -> config.Run:
    """The run that the page asks for. UsageError for no valid run, or one beyond the lab's limits."""
    offered = data_sets()
    if data not in offered:
        raise UsageError(
            f"data {data!r} is not offered here: {', '.join(offered)} "
            "(`resnetlab data download cifar10` fetches more)"
        )
    part = None if scale == 1 else scale
    run = config.run_from_parameters(
        depth=depth, shortcut=shortcut, lr=lr, data=data, steps=steps, seed=seed, shortcut_scale=part
    )
    limits = {
        "depth": (depth, MOST_DEPTH),
        "steps": (steps, MOST_STEPS),
        "learning rate": (lr, MOST_LR),
    }
    for what, (value, most) in limits.items():
        if value > most:
            raise UsageError(f"{what} {value:,} is more than the lab's limit of {most:,}")
    return run


def may_be_asked(run: config.Run) -> bool:
    """Whether the page can ask for exactly that run."""
    with contextlib.suppress(UsageError):
        return run == _again(run, run.seed)
    return False


def _again(run: config.Run, seed: int) -> config.Run:
    net, recipe = run.network, run.recipe
    scale = (run.surgery.shortcut_scale if run.surgery else None) or 1.0
    return asked(net.depth, net.shortcut, recipe.lr, run.data.name, recipe.steps, seed, scale)


def more_seeds(runs: Sequence[config.Run]) -> list[config.Run]:
    """MORE_SEEDS more runs of each network and recipe among `runs`, with the next seeds."""
    last: dict[config.Run, int] = {}
    for run in filter(may_be_asked, runs):
        alike = _again(run, 0)
        last[alike] = max(run.seed, last.get(alike, 0))
    return [_again(run, seed + more) for more in range(1, MORE_SEEDS + 1) for run, seed in last.items()]


# 300 steps: with the digits' own 400 the three would not end within 90 seconds on two cores.
LESSON_STEPS = 300
LESSON = tuple(
    asked(depth, shortcut, steps=LESSON_STEPS)
    for depth, shortcut in ((20, "none"), (56, "none"), (56, "A"))
)


# --- the queue --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A run that is waiting or has a process."""

    name: str  # of the run's folder
    run: config.Run
    phase: Phase
    since: float | None = None  # when its process was started, s since 1970


def submit(root: Path, runs: Sequence[config.Run]) -> list[Answer]:
    """Put runs, each as `asked` gives it, into the queue, all or none; start what there is room for.

    Returns for each what became of it; one that has ended, waits or trains is not queued again. Raises
    UsageError for a full queue, a results folder that cannot be written, and without torch.
    """
    extras.require_train()
    queue = _Queue(store.prepare_root(root))
    with queue.locked():
        queue.advance()
        answers = [queue.known(run) for run in runs]
        waiting, fresh = queue.waiting(), answers.count(None)
        room = max(0, slots() - len(queue.markers()))
        if fresh and len(waiting) + fresh > MOST_WAITING + room:
            raise UsageError(
                f"{len(waiting)} runs wait and {MOST_WAITING} may: take one out, or wait for an end"
            )
        for run, answer in zip(runs, answers, strict=True):
            if answer is None:
                queue.add(run)
        left = queue.advance()
        active = queue.markers()
    if left:
        _ensure_worker(queue)
    return [
        answer or ("started" if run.default_name in active else "waiting")
        for run, answer in zip(runs, answers, strict=True)
    ]


def stop(root: Path, name: str) -> None:
    """Take the run out of the queue, or ask its process to end after its step, with a checkpoint."""
    queue = _Queue(root)
    if not queue.folder.is_dir():
        return
    with queue.locked():
        if waits := queue.waiting().get(name):
            waits.unlink(missing_ok=True)
        marker = queue.markers().get(name)
        if marker is not None and marker.get("stop") is None:
            queue.mark(name, marker | {"stop": time.time()})
            if work := queue.work(name, marker):
                work.stop()


def tend(root: Path) -> list[Entry]:
    """Close what has ended, start what waits, see to the worker; what is under way then."""
    queue = _Queue(root)
    if queue.folder.is_dir():
        with queue.locked():
            left = queue.advance()
        if left:
            _ensure_worker(queue)
    return look(root)


def look(root: Path) -> list[Entry]:
    """What is under way, training first, then in the order of waiting. Changes nothing."""
    queue = _Queue(root)
    entries = []
    active = queue.markers()
    for name, marker in active.items():
        run = _run_of(marker.get("run"), name)
        if run is None:
            continue
        phase: Phase = "starting"
        with contextlib.suppress(UsageError):
            record = store.read_run(queue.study / name)
            # A resumed run's file is from its earlier start until its process has loaded everything.
            if record.info.get("pid") == marker.get("pid"):
                if record.status == "running":
                    phase = "running"
                elif record.status in store.ENDED:
                    phase = "ending"
        if marker.get("stop") is not None:
            phase = "stopping"
        created = marker.get("created")
        since = created if isinstance(created, int | float) else None
        entries.append(Entry(name, run, phase, since))
    for name, path in queue.waiting().items():
        run = _run_of(store.read_json(path)[0], name)
        if run is not None and name not in active:
            entries.append(Entry(name, run, "waiting"))
    return entries


def notes(root: Path) -> dict[str, str]:
    """Run name -> why its process ended without finishing it, one line, until it is started again."""
    texts = {path.stem: store.read_json(path)[0] for path in _files(_Queue(root).folder / "notes")}
    return {name: str(text["note"]) for name, text in texts.items() if text and "note" in text}


class _Queue:
    """The queue's folder: `waiting` requests, `running` markers, `notes` of what went wrong, `logs`.

    Methods that change something are called inside `locked`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.study = self.root / STUDY
        self.folder = self.study / ".queue"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        slots()  # the first time it waits for torch in another process: not while the lock is held
        try:
            for name in ("waiting", "running", "notes", "logs"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.folder / "queue.lock", timeout=LOCK_SECONDS):
                yield
        except filelock.Timeout:
            raise UsageError("the lab's queue is busy; try again in a moment") from None
        except OSError as error:
            raise UsageError(f"the lab's queue cannot be written ({error.strerror})") from None

    def worker_lock(self) -> filelock.BaseFileLock:
        return filelock.FileLock(self.folder / "worker.lock")

    def waiting(self) -> dict[str, Path]:
        """Run name -> its file, in the order of asking. NUMBER.NAME.json is a file's name."""
        return {path.stem.partition(".")[2]: path for path in _files(self.folder / "waiting")}

    def markers(self) -> dict[str, dict[str, Any]]:
        """Run name -> run, pid, created (process start, s since 1970) and stop (asked when)."""
        markers = {path.stem: store.read_json(path)[0] for path in _files(self.folder / "running")}
        return {name: marker for name, marker in markers.items() if marker is not None}

    def known(self, run: config.Run) -> Answer | None:
        """What has become of the run already; None for a run to put into the queue."""
        record = store.check_folder(self.study / run.default_name, run)
        if run.default_name in self.waiting() or run.default_name in self.markers():
            return "under way"
        if record is not None and record.status in store.ENDED:
            return "ended"
        return "under way" if record is not None and record.status == "running" else None

    def mark(self, name: str, marker: Mapping[str, Any]) -> None:
        store.write_json(self.folder / "running" / f"{name}.json", marker)

    def add(self, run: config.Run) -> None:
        numbers = [path.name.partition(".")[0] for path in _files(self.folder / "waiting")]
        number = max((int(n) for n in numbers if n.isdecimal()), default=0) + 1
        path = self.folder / "waiting" / f"{number:08d}.{run.default_name}.json"
        store.write_json(path, run.model_dump(mode="json"))

    def note(self, name: str, text: str) -> None:
        store.write_json(self.folder / "notes" / f"{name}.json", {"note": text[:400]})

    def advance(self) -> bool:
        """Close what has ended, start what there is room for. True if something is left to do."""
        active = 0
        for path in _files(self.folder / "running"):
            name, marker = path.stem, store.read_json(path)[0]
            work = self.work(name, marker) if marker is not None else None
            if marker is None or work is None or work.ended() is not None:
                self._close(name, marker)
                path.unlink(missing_ok=True)
                continue
            active += 1
            asked = marker.get("stop")
            if isinstance(asked, int | float) and time.time() - asked > STOP_SECONDS:
                work.kill()
        left = 0
        for name, path in self.waiting().items():
            alive = (self.folder / "running" / f"{name}.json").exists()
            if not alive and active >= slots():
                left += 1
                continue
            if not alive:  # else its starter was killed before it could remove the request
                active += self._start(name, store.read_json(path)[0])
            path.unlink(missing_ok=True)
        return active + left > 0

    def work(self, name: str, marker: Mapping[str, Any]) -> processes.Local | None:
        """The process that trains for this marker; None if the marker is damaged."""
        run = _run_of(marker.get("run"), name)
        if run is None:
            return None
        pid, created = marker.get("pid"), marker.get("created")
        return processes.Local(
            _command(run, self.root),
            log=self.folder / "logs" / f"{name}.txt",
            environment=_environment(),
            niceness=5,  # the page stays quick while all cores train
            pid=pid if type(pid) is int and pid > 0 else None,
            created=created if isinstance(created, int | float) else None,
        )

    def _start(self, name: str, values: object) -> bool:
        """Start the run's process; False, with a note, if that cannot be."""
        marker = {"run": values, "pid": None, "created": None, "stop": None}
        work = self.work(name, marker)
        if work is None:
            self.note(name, "its request in the queue was damaged and has been removed")
            return False
        (self.folder / "notes" / f"{name}.json").unlink(missing_ok=True)
        self.mark(name, marker)
        try:
            work.start()
        except OSError as error:
            self.note(name, f"its process could not be started ({error.strerror})")
            (self.folder / "running" / f"{name}.json").unlink(missing_ok=True)
            return False
        work.close()  # it outlives this process; its marker leads back to it
        self.mark(name, marker | {"pid": work.pid, "created": work.created})
        return True

    def _close(self, name: str, marker: Mapping[str, Any] | None) -> None:
        """Note why a process that is gone did not finish its run, if it did not."""
        log = self.folder / "logs" / f"{name}.txt"
        status: str | None = None
        with contextlib.suppress(UsageError):
            status = store.read_run(self.study / name).status
        asked = marker is not None and marker.get("stop") is not None
        if status in store.ENDED or (status == "interrupted" and asked):
            log.unlink(missing_ok=True)
        elif asked:
            self.note(name, "stopped before its first step")
        else:
            line = processes.last_line(log)
            last = f"; the last it said: {line}" if line else ""
            self.note(name, f"its process ended unexpectedly{last}")


def _command(run: config.Run, root: Path) -> list[str]:
    """The words of the training process; they tell it from every other, too."""
    words = [*shlex.split(commands.of_run(run)), "--threads", "1", "--study", STUDY]
    words += ["--run-name", run.default_name, "--results", str(root.absolute())]
    return [sys.executable, "-m", *words]


def _environment() -> dict[str, str]:
    """What a process of the lab needs, wherever the server was started."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))}


def _run_of(values: object, name: str) -> config.Run | None:
    """The run that a queue file asks for, None if the file is damaged or belongs to another name."""
    with contextlib.suppress(UsageError):
        run = config.Run.parse(values)  # type: ignore[arg-type]
        return run if run.default_name == name and may_be_asked(run) else None
    return None


def _files(folder: Path) -> list[Path]:
    """The JSON files of a folder of the queue, by name; half-written ones have other names."""
    try:
        return sorted(p for p in folder.iterdir() if p.suffix == ".json" and p.name[0] != ".")
    except OSError:
        return []


# --- the worker -------------------------------------------------------------------------------


def worker_lives(root: Path) -> bool:
    """Whether some process holds the worker's lock; its death releases it."""
    queue = _Queue(root)
    if not queue.folder.is_dir():
        return False
    try:
        with queue.worker_lock().acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True


def _ensure_worker(queue: _Queue) -> None:
    started = _workers.get(queue.root)
    if (started is not None and started.ended() is None) or worker_lives(queue.root):
        return
    # -P: the working folder may have a dashboard of its own
    words = [sys.executable, "-P", "-m", "dashboard.lab", str(queue.root)]
    worker = processes.Local(words, environment=_environment(), log=Path(os.devnull))
    with contextlib.suppress(OSError):  # the page still advances the queue while it is open
        worker.start()
        worker.close()
        _workers[queue.root] = worker


def work(root: Path) -> None:
    """Advance the queue until nothing is left in it; returns at once if another worker does so."""
    queue = _Queue(root)
    lock = queue.worker_lock()
    try:
        lock.acquire(timeout=LOCK_SECONDS)  # whoever asks whether a worker lives holds it for a moment
    except filelock.Timeout:
        return
    failures = 0
    while failures < MOST_FAILURES and queue.folder.is_dir():
        try:
            with queue.locked():
                if not queue.advance():
                    lock.release()  # inside: a request that comes now finds no worker and starts one
                    return
            failures = 0
        except UsageError:  # a full disk, say: it may pass, and a page that looks says so
            failures += 1
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
