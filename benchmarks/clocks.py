"""How a benchmark reads the clock: the device waited for, before and after."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


def clock(step: Callable[[], Any], times: int, device: torch.device) -> float:
    """Seconds a call, the device waited for before and after."""
    wait(device)
    began = time.perf_counter()
    for _ in range(times):
        step()
    wait(device)
    return (time.perf_counter() - began) / times


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
