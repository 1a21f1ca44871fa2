"""The machine as a process sees it: cores, free memory, the signals that ask it to stop. No torch."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
from collections.abc import Iterator
from types import FrameType

import psutil


def usable_cores() -> int:
    """Cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that this machine could still give."""
    return int(psutil.virtual_memory().available)


def has_gpu() -> bool:
    """Whether an NVIDIA driver is installed, asked without loading torch."""
    return shutil.which("nvidia-smi") is not None


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
