"""The networks: shortcut, blocks, stages, the CIFAR and the ImageNet design (Sec. 3, 4; Table 1).

Two dials make a network: `depth` and `shortcut`. A plain network is the same class with shortcut
"none", so plain-n and resnet-n (option A) have the same parameters, by name and by count.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from resnetlab import config
from resnetlab.config import UsageError
from resnetlab.nets.norms import BatchNorm
from resnetlab.nets.recompute import _recomputed


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """1x1 convolution without bias: the batch norm behind it has one."""
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias: the batch norm behind it has one."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


class PaddedIdentity(nn.Module):
    """Option A (Sec. 3.3): every second pixel where the map halves, zeros for the new channels.

    The paper does not say where the zeros go: here half before and half after, or, `zeros` "end", all
    behind. No parameters.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, zeros: config.Zeros = "split"
    ) -> None:
        super().__init__()
        self.stride = stride
        new = out_channels - in_channels
        before = new // 2 if zeros == "split" else 0
        self.padding = (0, 0, 0, 0, before, new - before)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return pad(x[:, :, :: self.stride, :: self.stride], self.padding)  # (B, 2C, H/2, W/2)


class Projection(nn.Module):
    """Options B and C (Eqn. 2): a 1x1 convolution and batch norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = conv1x1(in_channels, out_channels, stride)
        self.bn = BatchNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        projected: Tensor = self.bn(self.conv(x))
        return projected  # (B, 2C, H/2, W/2), or (B, C, H, W) within a stage


def make_shortcut(
    option: config.Shortcut,
    in_channels: int,
    out_channels: int,
    stride: int,
    zeros: config.Zeros = "split",
) -> nn.Module | None:
    """The shortcut of one block (Sec. 3.3), or None in a plain network.

    A: identity, zero-padded where dimensions grow. B: projection there, identity elsewhere.
    C: projection everywhere.
    """
    if option == "none":
        return None
    grows = in_channels != out_channels
    if option == "C" or (option == "B" and grows):
        return Projection(in_channels, out_channels, stride)
    return PaddedIdentity(in_channels, out_channels, stride, zeros) if grows else nn.Identity()


class _Block(nn.Module):
    """A few layers F and the shortcut around them; the last ReLU after the addition (Eqn. 1, Fig. 2).

    Plain: y = relu(F(x)). Residual: y = relu(F(x) + shortcut(x)). Every addition is out of place:
    an in-place one would overwrite the response that Figure 7 measures.
    """

    expansion = 1  # output channels over the stage's width

    def __init__(
        self,
        layers: dict[str, nn.Module],
        in_channels: int,
        out_channels: int,
        stride: int,
        option: Any,
        zeros: config.Zeros = "split",
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(OrderedDict(layers))
        self.shortcut = make_shortcut(option, in_channels, out_channels, stride, zeros)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        if self.shortcut is None:
            return relu(self.residual(x))
        return relu(self.residual(x) + self.shortcut(x))  # (B, C, H, W) or (B, 2C, H/2, W/2)


class BasicBlock(_Block):
    """Two 3x3 convolutions (Fig. 5 left)."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        option: config.Shortcut,
        zeros: config.Zeros = "split",
    ) -> None:
        layers: dict[str, nn.Module] = {
            "conv1": conv3x3(in_channels, width, stride),
            "bn1": BatchNorm(width),
            "relu": nn.ReLU(),
            "conv2": conv3x3(width, width),
            "bn2": BatchNorm(width),
        }
        super().__init__(layers, in_channels, width, stride, option, zeros)


class BottleneckBlock(_Block):
    """1x1 to a quarter of the channels, 3x3, 1x1 back to all of them (Fig. 5 right).

    The paper strides in the first 1x1; `stride_in` "3x3" is torchvision's place, 6 % more work.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        option: config.Shortcut,
        zeros: config.Zeros = "split",
        stride_in: config.StrideIn = "1x1",
    ) -> None:
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        layers: dict[str, nn.Module] = {
            "conv1": conv1x1(in_channels, width, first),
            "bn1": BatchNorm(width),
            "relu1": nn.ReLU(),
            "conv2": conv3x3(width, width, second),
            "bn2": BatchNorm(width),
            "relu2": nn.ReLU(),
            "conv3": conv1x1(width, width * self.expansion),
            "bn3": BatchNorm(width * self.expansion),
        }
        super().__init__(layers, in_channels, width * self.expansion, stride, option, zeros)


class SingleBlock(_Block):
    """One 3x3 convolution: y = W x + x is nearly linear, and of no advantage (Sec. 3.2)."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        option: config.Shortcut,
        zeros: config.Zeros = "split",
    ) -> None:
        layers: dict[str, nn.Module] = {
            "conv1": conv3x3(in_channels, width, stride),
            "bn1": BatchNorm(width),
        }
        super().__init__(layers, in_channels, width, stride, option, zeros)


BLOCKS: dict[config.Block, type[BasicBlock | BottleneckBlock | SingleBlock]] = {
    "basic": BasicBlock,
    "bottleneck": BottleneckBlock,
    "single": SingleBlock,
}


class Stage(nn.Sequential):
    """Blocks on one map size; the first may change size and width.

    With `recompute` only the blocks' inputs are kept for the backward pass, which computes each block
    once more: a third more work, a fraction of the memory, the same numbers to the last bit.
    """

    recompute = False

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        for block in self:
            if self.recompute and self.training and torch.is_grad_enabled():
                x = _recomputed(block, x)
            else:
                x = block(x)
        return x  # (B, C', H', W')


def make_stage(in_channels: int, width: int, blocks: int, stride: int, spec: config.Network) -> Stage:
    """`blocks` blocks of the network's kind with `width` filters; the first one has the stride."""
    kind = BLOCKS[spec.block]
    choices: dict[str, Any] = {"zeros": spec.zeros}
    choices |= {"stride_in": spec.stride_in} if spec.block == "bottleneck" else {}
    first = kind(in_channels, width, stride, spec.shortcut, **choices)
    rest = (kind(width * kind.expansion, width, 1, spec.shortcut, **choices) for _ in range(blocks - 1))
    return Stage(first, *rest)


class CifarNetwork(nn.Module):
    """The 6n+2-layer network of Sec. 4.2, plain or residual.

    3x3 convolution with 16 filters; three stages of n blocks with 16, 32, 64 filters on maps of
    full, half and quarter size; global average pooling; one linear classifier. The forward pass takes
    float images of shape (B, in_channels, S, S), S >= 8, and returns logits (B, num_classes);
    it raises ValueError for any other shape.
    """

    def __init__(self, spec: config.Network, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.spec = spec
        self.in_channels = in_channels
        one, two, three = spec.blocks
        self.conv = conv3x3(in_channels, 16)
        self.bn = BatchNorm(16)
        self.stage1 = make_stage(16, 16, one, 1, spec)
        self.stage2 = make_stage(16, 32, two, 2, spec)
        self.stage3 = make_stage(32, 64, three, 2, spec)
        self.classifier = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 32, 32)
        _check_images(x, self.spec, self.in_channels, square=True)
        x = relu(self.bn(self.conv(x)))  # (B, 16, 32, 32)
        x = self.stage1(x)  # (B, 16, 32, 32)
        x = self.stage2(x)  # (B, 32, 16, 16)
        x = self.stage3(x)  # (B, 64, 8, 8)
        x = x.mean(dim=(2, 3))  # (B, 64)
        logits: Tensor = self.classifier(x)
        return logits  # (B, 10)


class ImageNetNetwork(nn.Module):
    """The 18- to 152-layer network of Table 1, plain or residual.

    7x7 convolution with 64 filters, stride 2; 3x3 max pooling, stride 2; four stages (the paper's
    conv2_x to conv5_x) on maps of a quarter to a 32nd of the size; global average pooling; one linear
    classifier. The forward pass takes float images of shape (B, in_channels, H, W), H and W at least
    32 and not necessarily equal, and returns logits (B, num_classes); it raises ValueError otherwise.
    Pooling over all positions and then classifying is the fully convolutional form: it equals the
    classifier as a 1x1 convolution, averaged over all positions of its score map.
    """

    def __init__(self, spec: config.Network, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.spec = spec
        self.in_channels = in_channels
        wider = BLOCKS[spec.block].expansion
        one, two, three, four = spec.blocks
        self.conv = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn = BatchNorm(64)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)  # the paper's padding is not said
        self.stage1 = make_stage(64, 64, one, 1, spec)
        self.stage2 = make_stage(64 * wider, 128, two, 2, spec)
        self.stage3 = make_stage(128 * wider, 256, three, 2, spec)
        self.stage4 = make_stage(256 * wider, 512, four, 2, spec)
        self.classifier = nn.Linear(512 * wider, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 224, 224)
        _check_images(x, self.spec, self.in_channels, square=False)
        x = relu(self.bn(self.conv(x)))  # (B, 64, 112, 112)
        x = self.pool(x)  # (B, 64, 56, 56)
        x = self.stage1(x)  # (B, 64, 56, 56); four times the channels with bottlenecks
        x = self.stage2(x)  # (B, 128, 28, 28)
        x = self.stage3(x)  # (B, 256, 14, 14)
        x = self.stage4(x)  # (B, 512, 7, 7)
        x = x.mean(dim=(2, 3))  # (B, 512)
        logits: Tensor = self.classifier(x)
        return logits  # (B, 1000)


Network = CifarNetwork | ImageNetNetwork


def check_size(spec: config.Network, height: int, width: int) -> None:
    """Raises UsageError if images of that size are too small for the network."""
    if min(height, width) < spec.smallest_image:
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


def _check_images(x: Tensor, spec: config.Network, channels: int, *, square: bool) -> None:
    least = spec.smallest_image
    size = f"S, S) with S >= {least}" if square else f"H, W) with H, W >= {least}"
    if (
        x.dim() != 4
        or x.shape[1] != channels
        or min(x.shape[2:]) < least
        or (square and x.shape[2] != x.shape[3])
    ):
        got = tuple(x.shape)
        raise ValueError(f"{spec.name} takes images (batch, {channels}, {size}, got {got}")


def initialise(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """He et al. 2015 (fan-in, gain of ReLU) for every weight; batch norms start as the identity.

    With a generator the weights depend on it alone, not on torch's global random state.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def build(
    name: str | config.Network,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    stride_in: config.StrideIn | None = None,
    generator: torch.Generator | None = None,
) -> Network:
    """The network of that name: plain-56, resnet-56-B, plain-34, resnet-34-C, resnet-50, ...

    Any depth 6n+2 and Table 1's 18, 34, 50, 101, 152; `resnetlab networks` lists the paper's.
    `num_classes` is 1000 for Table 1's networks and 10 for the others unless said. `stride_in` "3x3"
    moves a bottleneck's stride. Raises config.UsageError for an unknown name or depth, for a
    combination that the paper does not have, and for counts below one.
    """
    changes = {} if stride_in is None else {"stride_in": stride_in}
    if isinstance(name, config.Network):
        spec = config.Network.parse(name.model_dump() | changes)
    else:
        spec = config.Network.from_name(name, **changes)
    if num_classes is None:
        num_classes = 1000 if spec.design == "imagenet" else 10
    for what, count in (("num_classes", num_classes), ("in_channels", in_channels)):
        if type(count) is not int or count < 1:
            raise UsageError(f"{what} must be a whole number of at least 1, got {count!r}")
    kind = ImageNetNetwork if spec.design == "imagenet" else CifarNetwork
    network = kind(spec, num_classes, in_channels)
    initialise(network, generator)
    return network
