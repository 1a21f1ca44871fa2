"""Activations inside blocks computed again for the backward pass instead of kept."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from resnetlab.nets.mode import meanwhile


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """`block(x)` of which, in training, only `x` is kept for the backward pass: (B, C, H, W) both."""
    if not (block.training and torch.is_grad_enabled()):
        return block(x)  # type: ignore[no-any-return]
    out: Tensor = checkpoint(
        block,
        x,
        use_reentrant=False,
        preserve_rng_state=False,  # nothing in a block is drawn
        context_fn=lambda: (nullcontext(), _frozen_statistics(block)),
    )
    return out


def _frozen_statistics(block: nn.Module) -> AbstractContextManager[None]:
    """The second pass over a batch must not move the running statistics a second time.

    It moves copies: without any, batch norm would keep fewer tensors than in the first pass.
    """
    return meanwhile(
        (module, name, buffer.clone())
        for module in block.modules()
        for name, buffer in module.named_buffers(recurse=False)
    )
