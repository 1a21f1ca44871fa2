"""Batch norm over the batch, or over groups of it; its statistics made anew; a network without it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from resnetlab.nets.mode import in_mode, meanwhile

Net = TypeVar("Net", bound=nn.Module)


class BatchNorm(nn.BatchNorm2d):
    """Batch norm; in training its statistics are those of the batch, or of each `group` of images.

    Groups of 64 ("ghost batches") are what each of the paper's two GPUs saw of a batch of 128. Every
    group moves the running statistics in turn.
    """

    group: int | None = None

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        if not self.training or self.group is None or len(x) <= self.group:
            return super().forward(x)  # (B, C, H, W)
        parts = [nn.BatchNorm2d.forward(self, part) for part in x.split(self.group)]
        return torch.cat(parts)  # (B, C, H, W)


def use_ghost_batches(network: nn.Module, group: int | None) -> None:
    """Let every batch norm take its training statistics over groups of that many images."""
    for norm in _norms(network):
        norm.group = group


@contextmanager
def counted_together(network: nn.Module) -> Iterator[None]:
    """In the block each batch norm sees one batch, and all count it in one operation at its end.

    On a GPU the counters' own kernels, one for each layer, are a tenth of a step's. Not for groups.
    """
    norms = _norms(network)
    counters = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    with meanwhile((norm, "num_batches_tracked", None) for norm in norms):
        yield
    torch._foreach_add_(counters, 1)


@torch.no_grad()
def recompute_norm(
    network: nn.Module,
    batches: Iterable[Tensor],  # (B, C, H, W) each
    mean: Callable[[Tensor], Tensor] = lambda statistic: statistic,
) -> None:
    """Set every batch norm's statistics to their averages over `batches`, as the authors did.

    They fixed the means and variances after training, over the training images. Here each batch
    counts alike, whole, whatever its groups were in training. `mean` averages a statistic over
    processes with equal shares.
    """
    norms = _norms(network)
    for norm in norms:
        norm.reset_running_stats()
    # Without a momentum: the plain average of all batches.
    plain = [(norm, name, None) for norm in norms for name in ("momentum", "group")]
    with meanwhile(plain), in_mode(network, training=True):
        for images in batches:
            network(images)
    for norm in norms:
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            statistic.copy_(mean(statistic))


def without_norm(network: Net) -> Net:
    """A copy without batch norms: each gives on what it gets. For measurements at initialisation.

    There they are the identity but for dividing by the batch's deviation and subtracting its mean
    (their scales are 1 and shifts 0), so what differs is the normalising alone. He et al. 2015's
    initialisation was made for such networks. The convolutions then have no bias.
    """
    bare = copy.deepcopy(network)
    for name, module in list(bare.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            bare.set_submodule(name, nn.Identity())
    return bare


def _norms(network: nn.Module) -> list[BatchNorm]:
    return [module for module in network.modules() if isinstance(module, BatchNorm)]
