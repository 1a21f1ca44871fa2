"""The machine as a process sees it: cores, free memory, the signals that ask it to stop. No torch."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType

import psutil

ANSWER_SECONDS = 60.0  # a first import of torch from a slow disk takes half of it


def usable_cores() -> int:
    """Cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that this machine could still give."""
    return int(psutil.virtual_memory().available)


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


@contextlib.contextmanager
def stop_signals() -> Iterator[list[str]]:
    """A list that gets the name of SIGINT or SIGTERM when one arrives, instead of an exception.

    Outside the main thread, to which Python gives signals, the list stays empty.
    """
    caught: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(signal.Signals(number).name)

    try:
        before = {kind: signal.signal(kind, note) for kind in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:
        yield caught
        return
    try:
        yield caught
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
