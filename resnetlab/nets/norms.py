"""Batch norm over the batch, or over groups of it (ghost batches)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """Batch norm; in training its statistics are those of the batch, or of each `group` of images.

    Groups of 64 ("ghost batches") are what each of the paper's two GPUs saw of a batch of 128. Every
    group moves the running statistics in turn.
    """

    group: int | None = None

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        if not self.training or self.group is None or len(x) <= self.group:
            return super().forward(x)
        parts = [nn.BatchNorm2d.forward(self, part) for part in x.split(self.group)]
        return torch.cat(parts)  # (B, C, H, W)


def use_ghost_batches(network: nn.Module, group: int | None) -> None:
    """Let every batch norm take its training statistics over groups of that many images."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.group = group
