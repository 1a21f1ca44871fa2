"""Where a run is trained: the device, its precision and its name; and how training speaks meanwhile."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from resnetlab import machine
from resnetlab.config import UsageError

# Hardware queues: CUDA's own eight would be shared by more streams than that, which then wait for each
# other. Read when CUDA starts, which is not before something here has been asked for a device.
os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")


def note(text: str) -> None:
    """What a user should know while training goes on: one line on standard error, at once."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def resolve_device(name: str) -> torch.device:
    """auto (a CUDA GPU if there is one), cpu, cuda or cuda:N. UsageError if it is not there."""
    if not isinstance(name, str):
        raise UsageError(f"device: should be text such as cpu or cuda:0, got {name!r}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if (
        kind not in ("cpu", "cuda")
        or (kind == "cpu" and name != "cpu")
        or not (number or "0").isdecimal()
    ):
        raise UsageError(f"unknown device {name!r}; known: auto, cpu, cuda, cuda:N")
    if kind == "cuda" and not torch.cuda.is_available():
        too_old = machine.has_gpu() and torch.version.cuda
        why = (
            f"; an NVIDIA driver is installed, and perhaps too old for CUDA {too_old} of this torch "
            "(nvidia-smi shows the CUDA version that it can do)"
        )
        raise UsageError(
            f"device cuda was asked for, but torch sees no CUDA GPU{why if too_old else ''}; "
            "use --device cpu"
        )
    if number and kind == "cuda" and int(number) >= torch.cuda.device_count():
        raise UsageError(f"device {name}: this machine has {torch.cuda.device_count()} GPU(s)")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """The product's name of a GPU or of this machine's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@contextlib.contextmanager
def threads_kept(asked: int | None) -> Iterator[None]:
    """After the block torch has as many threads as before it. UsageError for less than one."""
    if asked is not None and (type(asked) is not int or asked < 1):
        raise UsageError(f"threads must be a whole number of at least 1, got {asked!r}")
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
