"""What holds for a while: the mode of a network, any attribute, the precision of the arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
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


def _arithmetic(precision: Precision) -> list[tuple[Any, str, Any]]:
    """How a GPU multiplies numbers of 32 bits; and cuDNN keeps to deterministic algorithms."""
    mode, cudnn = "tf32" if precision == "tf32" else "ieee", torch.backends.cudnn
    kinds = (torch.backends.cuda.matmul, cudnn.conv)  # type: ignore[attr-defined]
    settings = [(kind, "fp32_precision", mode) for kind in kinds]
    return [*settings, (cudnn, "benchmark", False), (cudnn, "deterministic", True)]


def set_precision(precision: Precision) -> None:
    """fp32 means fp32: cuDNN's own default is TF32. Whoever imports resnetlab's networks has fp32."""
    for item, name, value in _arithmetic(precision):
        setattr(item, name, value)


def in_precision(precision: Precision) -> AbstractContextManager[None]:
    """The block computes so; what comes after it in the process, as before."""
    return meanwhile(_arithmetic(precision))


set_precision("fp32")


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raises UsageError if the device cannot train in that precision."""
    if precision == "tf32" and device.type != "cuda":
        raise UsageError("precision tf32 needs a CUDA GPU; on a CPU use fp32, fp64 or bf16")
