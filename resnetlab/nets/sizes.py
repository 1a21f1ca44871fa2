"""Which images a network takes: asked before a run begins, and again in every forward pass."""

from __future__ import annotations

from torch import Tensor

from resnetlab import config
from resnetlab.config import UsageError


def check_size(spec: config.Network, height: int, width: int) -> None:
    """Raises UsageError if images of that size are too small for the network."""
    if min(height, width) >= spec.smallest_image:
        return
    hint = ""
    if spec.design == "imagenet" and spec.depth % 6 == 2:
        small = f"cifar-{'plain' if spec.shortcut == 'none' else 'resnet'}-{spec.depth}"
        hint = f"; the {spec.depth}-layer network for small images is {small}"
    elif spec.design == "imagenet":
        hint = "; for small images take a depth of 6n+2, such as 20 or 32"
    raise UsageError(
        f"images of {width}x{height} are too small for {spec.name}, which needs "
        f"{spec.smallest_image} pixels or more{hint}"
    )


def check_images(x: Tensor, spec: config.Network, channels: int) -> None:
    """Raises ValueError, with both shapes, for a batch that the network cannot take."""
    square, least = spec.design == "cifar", spec.smallest_image
    fits = x.dim() == 4 and x.shape[1] == channels and min(x.shape[2:]) >= least
    if not fits or (square and x.shape[2] != x.shape[3]):
        size = f"S, S) with S >= {least}" if square else f"H, W) with H, W >= {least}"
        got = tuple(x.shape)
        raise ValueError(f"{spec.name} takes images (batch, {channels}, {size}, got {got}")


def check_labels(images: Tensor, labels: Tensor) -> None:
    """Raises UsageError unless there are as many labels as images, and one at least."""
    if len(images) != len(labels) or not len(images):
        raise UsageError(f"as many labels as images are needed, got {len(labels)} for {len(images)}")
