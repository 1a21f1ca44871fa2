"""The live lab without its page: what may be asked for, the queue on disk, starting and stopping.

The queue is one file, results/live-lab/.queue/queue.json, changed under one lock, so a killed server,
a killed worker and two browsers at once leave nothing half done. Any process may advance the queue: the
server does so when a page looks at it, and one worker (`python -m dashboard.lab RESULTS`) does so
when no page is open. Training itself is `resnetlab train`, a process in a session of its own.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import filelock
import pydantic

from resnetlab import config, files, machine, store
from resnetlab.config import UsageError, commands
from resnetlab.studies import processes

STUDY, FILE = "live-lab", "queue.json"
MOST_DEPTH, MOST_STEPS, MOST_LR, MOST_WAITING = 110, 2_000, 10.0, 20
MOST_ON_A_GPU = 4  # each process keeps a context of its own in the GPU's memory
STOP_SECONDS = 60.0  # for the step under way and its checkpoint; then the process is killed
POLL_SECONDS = 0.5
LOCK_SECONDS = 10.0
MOST_FAILURES = 1_000  # of the worker in a row, each POLL_SECONDS after the last
PROJECT = Path(__file__).resolve().parent.parent

Phase = Literal["waiting", "starting", "running", "stopping"]
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
    return min(cores, MOST_ON_A_GPU) if machine.has_gpu() else cores


def data_sets() -> list[str]:
    """The data sets that a run may use: the digits, and what has been fetched. No paths."""
    fetched = files.project_root() / "data"
    return ["digits", *(name for name in ("cifar10", "cifar100") if any(fetched.glob(f"{name}/*/")))]


# --- what may be asked for --------------------------------------------------------------------


def asked(
    depth: int, shortcut: str, lr: float = 0.1, data: str = "digits", steps: int = 400, seed: int = 0
) -> config.Run:
    """The run that the page asks for. UsageError for no valid run, or one beyond the lab's limits."""
    offered = data_sets()
    if data not in offered:
        raise UsageError(
            f"data {data!r} is not offered here: {', '.join(offered)} "
            "(`resnetlab data download cifar10` fetches more)"
        )
    run = config.run_from_parameters(
        depth=depth, shortcut=shortcut, lr=lr, data=data, steps=steps, seed=seed
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
    net, recipe = run.network, run.recipe
    with contextlib.suppress(UsageError):
        return run == asked(net.depth, net.shortcut, recipe.lr, run.data.name, recipe.steps, run.seed)
    return False


# 300 steps: with the digits' own 400 the three would not end within 90 seconds on two cores.
LESSON_STEPS = 300
LESSON = tuple(
    asked(depth, shortcut, steps=LESSON_STEPS)
    for depth, shortcut in ((20, "none"), (56, "none"), (56, "A"))
)


# --- the queue --------------------------------------------------------------------------------


class Job(pydantic.BaseModel):
    """A run that waits or has a process, as the queue's file holds it."""

    run: config.Run
    phase: Phase = "waiting"  # only `look` tells running from starting
    pid: int | None = pydantic.Field(None, gt=0)  # None: its starter was killed half way
    created: float | None = None  # start of its process, seconds since 1970
    stop: float | None = None  # when its end was asked for

    @property
    def name(self) -> str:
        """Of the run's folder."""
        return self.run.default_name


def submit(root: Path, runs: Sequence[config.Run]) -> list[Answer]:
    """Put runs, each as `asked` gives it, into the queue, all or none; start what there is room for.

    Returns for each what became of it; one that has ended, waits or trains is not queued again. Raises
    UsageError for a full queue and a results folder that cannot be written.
    """
    queue = _Queue(store.prepare_root(root))
    with queue.changing():
        queue.advance()
        answers = [queue.known(run) for run in runs]
        waiting, fresh = len(queue.waiting()), answers.count(None)
        room = max(0, slots() - queue.active())
        if fresh and waiting + fresh > MOST_WAITING + room:
            raise UsageError(
                f"{waiting} runs wait and {MOST_WAITING} may: take one out, or wait for an end"
            )
        for run, answer in zip(runs, answers, strict=True):
            if answer is None:
                queue.jobs[run.default_name] = Job(run=run)
        left = queue.advance()
    if left:
        _ensure_worker(queue)
    started = queue.jobs.keys() - queue.waiting()
    return [
        answer or ("started" if run.default_name in started else "waiting")
        for run, answer in zip(runs, answers, strict=True)
    ]


def stop(root: Path, name: str) -> None:
    """Take the run out of the queue, or ask its process to end after its step, with a checkpoint."""
    queue = _Queue(root)
    if not queue.folder.is_dir():
        return
    with queue.changing():
        job = queue.jobs.get(name)
        if job is not None and job.phase == "waiting":
            del queue.jobs[name]
        elif job is not None and job.stop is None:
            job.phase, job.stop = "stopping", time.time()
            queue.work(job).stop()


def tend(root: Path) -> list[Job]:
    """Close what has ended, start what waits, see to the worker; what is under way then."""
    queue = _Queue(root)
    if queue.folder.is_dir():
        with queue.changing():
            left = queue.advance()
        if left:
            _ensure_worker(queue)
    return look(root)


def look(root: Path) -> list[Job]:
    """What is under way, training first, then in the order of waiting. Changes nothing."""
    queue = _Queue(root)
    for job in queue.jobs.values():
        if job.phase != "starting":
            continue
        with contextlib.suppress(UsageError):
            record = store.read_run(queue.study / job.name)
            # A resumed run's file is from its earlier start until its process has loaded everything.
            if record.status == "running" and record.info.get("pid") == job.pid:
                job.phase = "running"
    return sorted(queue.jobs.values(), key=lambda job: job.phase == "waiting")


def notes(root: Path) -> dict[str, str]:
    """Run name -> why its process ended without finishing it, one line, until it is started again."""
    return _Queue(root).notes


class _File(pydantic.BaseModel):
    """What lies on disk: jobs and notes by run name."""

    jobs: dict[str, Any] = {}
    notes: dict[str, str] = {}


class _Queue:
    """The queue as its file has it: `jobs` by run name, in the order of asking, and `notes`.

    The file is written whole, and only inside `changing`; whoever only looks needs no lock.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.study = self.root / STUDY
        self.folder = self.study / ".queue"
        self.read()

    def read(self) -> None:
        """What the file holds; of a damaged job only a note, of a damaged file nothing."""
        self.jobs: dict[str, Job] = {}
        self._file = _File()
        with contextlib.suppress(OSError, ValueError):
            self._file = _File.model_validate_json((self.folder / FILE).read_bytes())
        self.notes = dict(self._file.notes)
        for name, values in self._file.jobs.items():
            with contextlib.suppress(ValueError):
                job = Job.model_validate(values)
                if job.name == name and may_be_asked(job.run):
                    self.jobs[name] = job
                    continue
            self.end(name, "its request in the queue was damaged and has been removed")

    def save(self) -> None:
        jobs = {name: job.model_dump(mode="json") for name, job in self.jobs.items()}
        file = _File(jobs=jobs, notes=self.notes)
        if file != self._file:
            store.write_json(self.folder / FILE, file.model_dump())
            self._file = file

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else changes the queue meanwhile; what was changed is written, whatever happens."""
        try:
            (self.folder / "logs").mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.folder / "queue.lock", timeout=LOCK_SECONDS):
                self.read()
                try:
                    yield
                finally:
                    self.save()
        except filelock.Timeout:
            raise UsageError("the lab's queue is busy; try again in a moment") from None
        except OSError as error:
            raise UsageError(f"the lab's queue cannot be written ({error.strerror})") from None

    def worker_lock(self) -> filelock.BaseFileLock:
        return filelock.FileLock(self.folder / "worker.lock")

    def waiting(self) -> list[str]:
        """Names of the runs without a process, in the order of asking."""
        return [name for name, job in self.jobs.items() if job.phase == "waiting"]

    def active(self) -> int:
        return len(self.jobs) - len(self.waiting())

    def known(self, run: config.Run) -> Answer | None:
        """What has become of the run already; None for a run to put into the queue."""
        record = store.check_folder(self.study / run.default_name, run)
        status = record.status if record is not None else None
        if run.default_name in self.jobs or status == "running":
            return "under way"
        return "ended" if status in store.ENDED else None

    def advance(self) -> bool:
        """Close what has ended, start what there is room for. True if something is left to do."""
        for job in [*self.jobs.values()]:
            if job.phase != "waiting" and self.work(job).ended() is not None:
                self._close(job)
            elif job.stop is not None and time.time() - job.stop > STOP_SECONDS:
                self.work(job).kill()
        for name in self.waiting():
            if self.active() < slots():
                self._start(self.jobs[name])
        return bool(self.jobs)

    def end(self, name: str, note: str) -> None:
        """Out of the queue, with a note why."""
        self.jobs.pop(name, None)
        self.notes[name] = note[:400]

    def log(self, job: Job) -> Path:
        return self.folder / "logs" / f"{job.name}.txt"

    def work(self, job: Job) -> processes.Local:
        """The process that trains for this job."""
        return processes.Local(
            _command(job.run, self.root),
            log=self.log(job),
            environment=_environment(),
            niceness=5,  # the page stays quick while all cores train
            pid=job.pid,
            created=job.created,
        )

    def _start(self, job: Job) -> None:
        """Start the job's process; with a note if that cannot be."""
        work = self.work(job)
        job.phase = "starting"
        self.notes.pop(job.name, None)
        self.save()  # should this process be killed now, the words of that one still lead to it
        try:
            work.start()
        except OSError as error:
            self.end(job.name, f"its process could not be started ({error.strerror})")
            return
        work.close()  # it outlives this process; its job leads back to it
        job.pid, job.created = work.pid, work.created

    def _close(self, job: Job) -> None:
        """Take out a job whose process is gone; note why that did not finish its run, if so."""
        status: str | None = None
        with contextlib.suppress(UsageError):
            status = store.read_run(self.study / job.name).status
        if status in store.ENDED or (status == "interrupted" and job.stop is not None):
            self.log(job).unlink(missing_ok=True)
            del self.jobs[job.name]
        elif job.stop is not None:
            self.end(job.name, "stopped before its first step")
        else:
            line = processes.last_line(self.log(job))
            last = f"; the last it said: {line}" if line else ""
            self.end(job.name, f"its process ended unexpectedly{last}")


def _command(run: config.Run, root: Path) -> list[str]:
    """The words of the training process; they tell it from every other, too."""
    words = [*shlex.split(commands.of_run(run)), "--threads", "1", "--study", STUDY]
    words += ["--run-name", run.default_name, "--results", str(root.absolute())]
    return [sys.executable, "-m", *words]


def _environment() -> dict[str, str]:
    """What a process of the lab needs, wherever the server was started."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))}


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
    words = [sys.executable, "-m", "dashboard.lab", str(queue.root)]
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
            with queue.changing():
                if not queue.advance():
                    lock.release()  # inside: a request that comes now finds no worker and starts one
                    return
            failures = 0
        except UsageError:  # a full disk, say: it may pass, and a page that looks says so
            failures += 1
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
