"""The machine as a process sees it: cores, free memory, the signals that ask it to stop. No torch."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import getpass
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psutil

# What asks a run to end after its step: Ctrl-C, a scheduler, a closed terminal, a scheduler's warning.
STOPS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)  # Windows has two of them
ANSWER_SECONDS = 60.0  # a first import of torch from a slow disk takes half of it


# How schedulers tell a job its cores on a machine: Slurm's task, else job; PBS, Grid Engine, LSF.
SHARES = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "NCPUS", "NSLOTS", "LSB_DJOB_NUMPROC")
CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores this process may use: by affinity, its control groups' quota and its scheduler's share."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    shares = (_whole_number(os.environ.get(name)) for name in SHARES)
    share = next((cores for cores in shares if cores), cores)
    return max(1, int(min(cores, share, _quota())))


def _quota() -> float:
    """Cores that the control groups above this process pay for, their smallest; infinity for no limit.

    Affinity does not show it: a container limited to two cores sees all of its machine's.
    """
    quota = math.inf
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            # Version 2 has one tree, 1 one per controllers. A container's own is mounted as the root.
            trees = (controllers, "cpu") if controllers else ("", "unified")
            for folder in (Path(place), *Path(place).parents):
                for tree in trees:
                    quota = min(quota, _quota_of(CGROUPS / tree / str(folder).lstrip("/")))
    return quota


def _quota_of(group: Path) -> float:
    """Of one control group: one file in version 2, two in version 1."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        if (group / "cpu.max").exists():
            share, period = (group / "cpu.max").read_text().split()
        else:
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            share, period = ((group / name).read_text() for name in files)
        if share != "max" and int(share) > 0:  # version 1 says -1 for no limit
            return int(share) / int(period)
    return math.inf


def threads(processes: int = 1, *, told: bool = True) -> int:
    """Threads for each of so many processes here; `told`, not more than OMP_NUM_THREADS says."""
    each = max(1, usable_cores() // processes)
    most = _whole_number(os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]) if told else None
    return min(each, most or each)


def wait_passively() -> None:
    """Let threads that wait for each other sleep; to be said before torch is loaded.

    libgomp's turn in a loop instead, which beside other work on the cores takes many times the CPU time
    of the step itself (benchmarks/README.md). Who has set OMP_WAIT_POLICY keeps it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _whole_number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdecimal() else None


def settle_home() -> None:
    """Give this process and its children a home and a name where the system gives them none.

    A container may run as a number that nobody has, with no HOME or one that it may not write: kernels,
    compilers and the dashboard all want to keep something there. The home is a temporary one.
    """
    with contextlib.suppress(RuntimeError):
        home = Path.home()
        if home.is_dir() and os.access(home, os.W_OK | os.X_OK):
            return
    os.environ["HOME"] = temporary = tempfile.mkdtemp(prefix="resnetlab-home-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        os.environ["LOGNAME"] = f"uid-{os.getuid()}"


def follow_niceness(pid: int) -> None:
    """Give a session, if process `pid` leads it, the niceness of that process.

    Where the kernel shares cores out by session (autogroup), niceness alone counts only within one:
    a kernel that trains at the lowest priority would have as much as everything in a terminal.
    """
    with contextlib.suppress(OSError, psutil.Error):
        niceness = psutil.Process(pid).nice()
        if niceness > 0 and os.getsid(pid) == pid:
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


def free_memory() -> int:
    """Bytes that this machine could still give."""
    return int(psutil.virtual_memory().available)


def processes_started() -> tuple[int, int]:
    """This process's number and how many of them torchrun says it started; (0, 1) without torchrun.

    A RANK alone is none of torchrun's. ValueError for a WORLD_SIZE that is no number.
    """
    count = os.environ.get("WORLD_SIZE") or "1"
    if not count.isdecimal() or int(count) < 1:
        raise ValueError(
            f"WORLD_SIZE={count!r} in the environment: start several processes with torchrun"
        )
    rank = _whole_number(os.environ.get("RANK")) if int(count) > 1 else 0
    return rank or 0, int(count)


def has_driver() -> bool:
    """Whether an NVIDIA driver is installed, for a GPU or for none."""
    return shutil.which("nvidia-smi") is not None


@functools.cache
def has_gpu() -> bool:
    """Whether that driver lists a GPU. Whether torch can use it, `torch_sees_gpu` says."""
    return any(line.startswith("GPU ") for line in _answer("nvidia-smi", "-L").splitlines())


@functools.cache
def torch_sees_gpu() -> bool:
    """Whether torch would train on a GPU here.

    Asked only where the driver lists one, and in a process of its own: this one stays without torch.
    """
    question = "import torch; print(torch.cuda.is_available())"
    return has_gpu() and _answer(sys.executable, "-c", question).split()[-1:] == ["True"]


def _answer(*command: str) -> str:
    """What the command prints; "" if it is not there, fails or takes too long."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees; False where the C library cannot (not glibc).

    glibc gives large blocks back to the system when they are freed and asks for them again, page by
    page, in the next step: a sixth of a compiled one of 20 layers (benchmarks/README.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    # malloc.h: never trim the heap, let it grow in steps of 256 MB, take no block from outside it.
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    return all(mallopt(*pair) for pair in ((trim_threshold, -1), (top_pad, 2**28), (mmap_max, 0)))


def ignored(kind: signal.Signals) -> bool:
    """Whether this process was started deaf to that signal."""
    return signal.getsignal(kind) is signal.SIG_IGN


@contextlib.contextmanager
def stop_signals() -> Iterator[list[str]]:
    """A list that gets the name of one of STOPS when it arrives, instead of an exception.

    Outside the main thread, to which Python gives signals, the list stays empty. A SIGHUP that `nohup`
    has turned off stays off.
    """
    caught: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(signal.Signals(number).name)

    heeded = [kind for kind in STOPS if kind.name != "SIGHUP" or not ignored(kind)]
    try:
        before = {kind: signal.signal(kind, note) for kind in heeded}
    except ValueError:
        yield caught
        return
    try:
        yield caught
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
