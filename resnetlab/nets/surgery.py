"""Edits of a network: append identity layers, remove a block, scale the shortcuts.

Each returns a new network and leaves the given one as it was. `build` makes a run's network, edited.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from resnetlab import config
from resnetlab.config import UsageError
from resnetlab.nets import models
from resnetlab.nets.anatomy import blocks, observe
from resnetlab.nets.mode import in_mode
from resnetlab.nets.models import Block, CifarNetwork, Network, Projection


def build(
    run: config.Run, *, num_classes: int, in_channels: int, generator: torch.Generator | None = None
) -> Network:
    """The network of a run, its shortcuts scaled if its surgery says so; the weights are drawn.

    A run that starts from trained weights has an ordinary network; `training.start` loads them.
    """
    network = models.build(
        run.network, num_classes=num_classes, in_channels=in_channels, generator=generator
    )
    if run.surgery is None or run.surgery.shortcut_scale is None:
        return network
    return scale_shortcuts(network, run.surgery.shortcut_scale)


def append_identity_layers(network: CifarNetwork, depth: int, images: Tensor) -> CifarNetwork:
    """A network of `depth` layers that computes what `network` does: the constructed solution (Sec. 1).

    "The added layers are identity mapping, and the other layers are copied from the learned shallower
    model." It is an ordinary network of that depth with the same shortcut option; each stage's new
    blocks stand behind its learnt ones. What enters them has passed a ReLU, so x = relu(x), and

    - a plain block is twice: a Dirac kernel and a batch norm that undoes itself, its scale and shift
      being the deviation and mean that it subtracts and divides by;
    - a residual block has F(x) = 0, the scale and shift of its last batch norm being 0; with option C
      its projection is a Dirac kernel and a batch norm that undoes itself.

    `images` (B, C, S, S), normalised as in training, give those means and deviations: running ones, for
    evaluation mode, and near those of any batch in training mode. The other weights of the new layers
    are the identity's, not drawn; of the same depth it is a copy. Raises UsageError for a depth that is
    not 6n+2 or smaller, and for other networks than the CIFAR design's with two-layer blocks.
    """
    spec = network.spec
    if spec.design != "cifar" or spec.block != "basic":
        raise UsageError(f"identity layers are appended to 6n+2-layer networks, not to {spec.name}")
    if depth < spec.depth:
        raise UsageError(f"{depth} layers are less than the {spec.depth} of {spec.name}")
    with torch.random.fork_rng([]):  # nothing of what is drawn here stays
        deeper = models.build(
            spec.at_depth(depth),
            num_classes=network.classifier.out_features,
            in_channels=network.in_channels,
        )
    assert isinstance(deeper, CifarNetwork)
    like = network.conv.weight
    deeper.to(like.device, like.dtype).train(network.training)
    deeper.load_state_dict(network.state_dict(), strict=False)  # all of its names are among the new
    learnt = blocks(network)
    stages = ("stage1", "stage2", "stage3")
    with in_mode(network, training=False):
        moments = observe(network, stages, images, lambda _, output: _moments(output))
    for name, block in blocks(deeper).items():
        if name not in learnt:
            _become_identity(block, *moments[name.partition(".")[0]])
    return deeper


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel: (C,) both."""
    wide = values.double()
    mean = wide.mean(dim=(0, 2, 3))
    return mean.to(values.dtype), wide.var(dim=(0, 2, 3), correction=0).to(values.dtype)


@torch.no_grad()
def _become_identity(block: Block, mean: Tensor, variance: Tensor) -> None:
    layers: Any = block.residual
    _undo(layers.conv1, layers.bn1, mean, variance)
    _undo(layers.conv2, layers.bn2, mean, variance)
    if block.shortcut is not None:
        layers.bn2.weight.zero_()
        layers.bn2.bias.zero_()
    if isinstance(block.shortcut, Projection):
        _undo(block.shortcut.conv, block.shortcut.bn, mean, variance)


def _undo(conv: nn.Conv2d, norm: Any, mean: Tensor, variance: Tensor) -> None:
    """conv becomes a Dirac kernel, norm gives back what it takes: sqrt(v + eps) (x - m) / ... + m."""
    nn.init.dirac_(conv.weight)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean)


class Removed(nn.Module):
    """What is left of a block without its layers: its shortcut, or nothing."""

    def __init__(self, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        if self.shortcut is None:
            return x  # (B, C, H, W)
        return relu(self.shortcut(x))  # (B, C, H, W) or (B, 2C, H/2, W/2)


def removable_blocks(network: Network) -> list[str]:
    """The blocks that `remove_blocks` takes: in a plain network those that keep the shape."""
    names = list(blocks(network))
    if network.spec.shortcut != "none":
        return names
    keeps = [] if network.spec.block == "bottleneck" else names[:1]  # the first stage's first block
    return [name for name in names if name in keeps or not name.endswith(".0")]


def remove_blocks(network: Network, names: list[str]) -> Network:
    """The network without the layers of these blocks (a lesion; Veit, Wilber, Belongie 2016).

    y = relu(F(x) + shortcut(x)) becomes relu(shortcut(x)), which for an identity shortcut is x; a plain
    block vanishes, y = x. Raises UsageError for an unknown name and for a plain block that changes the
    shape, which nothing can stand in for.
    """
    known, removable = blocks(network), removable_blocks(network)
    edited = copy.deepcopy(network)
    for name in names:
        if name not in known:
            raise UsageError(f"no block {name!r}{config.did_you_mean(name, list(known))}")
        if name not in removable:
            raise UsageError(f"{name} of {network.spec.name} changes the shape: it cannot be removed")
        edited.set_submodule(name, Removed(blocks(edited)[name].shortcut))
    return edited


class ScaledShortcut(nn.Module):
    """scale * shortcut(x)."""

    def __init__(self, shortcut: nn.Module, scale: float) -> None:
        super().__init__()
        self.shortcut, self.scale = shortcut, scale

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        scaled: Tensor = self.scale * self.shortcut(x)
        return scaled  # (B, C, H, W) or (B, 2C, H/2, W/2)


def scale_shortcuts(network: Network, scale: float) -> Network:
    """The network with y = relu(F(x) + scale * shortcut(x)): 0 is plain, 1 the residual network.

    Not in the paper: a dial between its two families. (Constant scaling of shortcuts is the subject of
    He et al. 2016, Sec. 3.1.) A `config.Run` refuses a plain network, and a scale outside (0, 1).
    """
    edited = copy.deepcopy(network)
    for block in blocks(edited).values():
        block.shortcut = ScaledShortcut(block.shortcut, scale)
    return edited
