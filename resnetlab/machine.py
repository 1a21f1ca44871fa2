"""The machine as a process sees it: usable cores, and the signals that ask it to stop. No torch."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from types import FrameType


def usable_cores() -> int:
    """Cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def has_gpu() -> bool:
    """Whether an NVIDIA driver is installed, asked without loading torch."""
    return shutil.which("nvidia-smi") is not None


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
