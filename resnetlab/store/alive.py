"""Whether a run's writer still works: by its process on this machine, by its heartbeat from another."""

from __future__ import annotations

import datetime as dt
import math
import socket
import time
from collections.abc import Mapping
from typing import Any

import psutil

STALE_SECONDS = 180.0
HERE_STALE_SECONDS = 3600.0
SAME_START = 60.0  # seconds by which a process's start may seem to be later than what it wrote


def _process_lives(info: Mapping[str, Any]) -> bool:
    """Whether the process that run.json names runs here, and not one that got its number later."""
    pid, starts = info.get("pid"), info.get("starts")
    last = starts[-1] if isinstance(starts, list) and starts else None
    if type(pid) is not int or not 0 < pid < 2**31:
        return False
    try:
        began: float = psutil.Process(pid).create_time()
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False
    return began < _seconds(last, "time", math.inf) + SAME_START


def _seconds(row: object, name: str, unknown: float) -> float:
    """A moment as run.json writes it, in seconds since 1970; `unknown` for what is none."""
    try:
        moment = dt.datetime.fromisoformat(row[name])  # type: ignore[index]
        return (moment - dt.datetime.fromtimestamp(0, dt.UTC)).total_seconds()
    except (KeyError, TypeError, ValueError, OverflowError):
        return unknown


def silence(info: Mapping[str, Any]) -> float:
    """Seconds since the heartbeat in run.json; infinity if none is written.

    Infinity too for one from the future, which a wrong clock wrote: it would be fresh for ever.
    """
    seconds = time.time() - _seconds(info, "heartbeat", -math.inf)
    return seconds if seconds > -STALE_SECONDS else math.inf


def is_alive(info: Mapping[str, Any]) -> bool:
    """Whether the writer named in run.json still works.

    On its own machine its process decides (one that began after the run did, or a heartbeat of an hour
    ago, is then somebody else's process with the same number); from elsewhere, the heartbeat's age.
    """
    if info.get("host") == socket.gethostname():
        return _process_lives(info) and silence(info) < HERE_STALE_SECONDS
    return silence(info) < STALE_SECONDS
