"""What holds for a while: the mode of a network, any attribute; and which precision a device has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from resnetlab.config import Precision, UsageError


@contextmanager
def meanwhile(changes: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """Each (object, attribute, value) holds; then the object's own value again, also after an error."""
    before = [(item, name, value, getattr(item, name)) for item, name, value in changes]
    try:
        for item, name, value, _ in before:
            setattr(item, name, value)
        yield
    finally:
        for item, name, _, own in before:
            setattr(item, name, own)


@contextmanager
def in_mode(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or evaluation mode; then every module's own mode again, also after an error."""
    with meanwhile((module, "training", training) for module in network.modules()):
        yield


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raises UsageError if the device cannot train in that precision."""
    if precision == "tf32" and device.type != "cuda":
        raise UsageError("precision tf32 needs a CUDA GPU; on a CPU use fp32, fp64 or bf16")
