"""Activations inside blocks computed again for the backward pass instead of kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from resnetlab.nets.norms import BatchNorm


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """`block(x)` of which, in training, only `x` is kept for the backward pass: (B, C, H, W) both."""
    if not (block.training and torch.is_grad_enabled()):
        return block(x)  # type: ignore[no-any-return]

    def contexts() -> tuple[Any, Any]:
        return contextlib.nullcontext(), _frozen_statistics(block)

    out: Tensor = checkpoint(
        block, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
    )
    return out


@contextlib.contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """The second pass over a batch must not move the running statistics a second time.

    It moves copies: without any, batch norm would keep fewer tensors than in the first pass.
    """
    norms = [module for module in block.modules() if isinstance(module, BatchNorm)]
    kept = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    try:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
