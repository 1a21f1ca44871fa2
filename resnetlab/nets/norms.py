"""Batch norm over the batch, over groups of it (ghost batches), or over several processes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """Batch norm; in training its statistics are those of the batch, or of each `group` of images.

    Groups of 64 ("ghost batches") are what each of the paper's two GPUs saw of a batch of 128. Every
    group moves the running statistics in turn. With `across`, which averages a tensor over the
    processes of a training, the statistics are those of the whole batch, wherever its images are.
    """

    group: int | None = None
    across: Callable[[Tensor], Tensor] | None = None
    processes = 1

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        if self.training and self.across is not None:
            return self._synchronised(x, self.across)
        if not self.training or self.group is None or len(x) <= self.group:
            return super().forward(x)
        parts = [nn.BatchNorm2d.forward(self, part) for part in x.split(self.group)]
        return torch.cat(parts)  # (B, C, H, W)

    def _synchronised(self, x: Tensor, across: Callable[[Tensor], Tensor]) -> Tensor:
        mean = across(x.mean(dim=(0, 2, 3)))  # (C,)
        centred = x - mean.view(1, -1, 1, 1)
        variance = across(centred.square().mean(dim=(0, 2, 3)))  # (C,), biased
        if self.track_running_stats and self.momentum is not None:
            values = self.processes * x.numel() / x.shape[1]  # that each channel's statistics are of
            assert self.running_mean is not None
            assert self.running_var is not None
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(variance.detach() * (values / (values - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)  # (B, C, H, W)


def use_ghost_batches(network: nn.Module, group: int | None) -> None:
    """Let every batch norm take its training statistics over groups of that many images."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.group = group


def synchronise_norms(network: nn.Module, across: Callable[[Tensor], Tensor], processes: int) -> None:
    """Let every batch norm take its training statistics over the equal shares of all processes."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.across, module.processes = across, processes
