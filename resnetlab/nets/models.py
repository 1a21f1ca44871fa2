"""The networks: shortcut, block, stage, the CIFAR and the ImageNet design (Sec. 3, 4; Table 1).

Two dials make a network: `depth` and `shortcut`. A plain network is the same class with shortcut
"none", so plain-n and resnet-n (option A) have the same parameters, by name and by count. `spec`, a
`config.Network`, holds both dials, the block, and what differs between published networks.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from resnetlab import config
from resnetlab.config import UsageError
from resnetlab.nets.norms import BatchNorm
from resnetlab.nets.recompute import recomputed
from resnetlab.nets.sizes import check_images


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """1x1 convolution without bias: the batch norm behind it has one."""
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias: the batch norm behind it has one."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


# --- the shortcut (Sec. 3.3) --------------------------------------------------------------------


class PaddedIdentity(nn.Module):
    """Option A: every second pixel where the map halves, zeros for the new channels.

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
        self.padding = (0, 0, 0, 0, before, new - before)  # last axis first: W, H, then C

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
        return projected  # (B, 2C, H/2, W/2); elsewhere (B, C, H, W) or, in stage 1, (B, 4C, H, W)


def make_shortcut(
    in_channels: int, out_channels: int, stride: int, spec: config.Network
) -> nn.Module | None:
    """The shortcut of one block, or None in a plain network.

    A: identity, zero-padded where dimensions grow. B: projection there, identity elsewhere.
    C: projection everywhere.
    """
    grows = in_channels != out_channels
    if spec.shortcut == "none":
        return None
    if spec.shortcut == "C" or (spec.shortcut == "B" and grows):
        return Projection(in_channels, out_channels, stride)
    if grows:
        return PaddedIdentity(in_channels, out_channels, stride, spec.zeros)
    return nn.Identity()


# --- the residual function F, and the block around it -------------------------------------------


def basic(in_channels: int, width: int, stride: int) -> nn.Sequential:
    """F of two 3x3 convolutions (Fig. 5 left)."""
    return nn.Sequential(
        OrderedDict(
            conv1=conv3x3(in_channels, width, stride),
            bn1=BatchNorm(width),
            relu=nn.ReLU(),
            conv2=conv3x3(width, width),
            bn2=BatchNorm(width),
        )
    )


def bottleneck(in_channels: int, width: int, stride: int, stride_in: config.StrideIn) -> nn.Sequential:
    """F of 1x1 to a quarter of the channels, 3x3, 1x1 back to all of them (Fig. 5 right).

    The paper strides in the first 1x1; `stride_in` "3x3" is torchvision's place, 6 % more work.
    """
    first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
    return nn.Sequential(
        OrderedDict(
            conv1=conv1x1(in_channels, width, first),
            bn1=BatchNorm(width),
            relu1=nn.ReLU(),
            conv2=conv3x3(width, width, second),
            bn2=BatchNorm(width),
            relu2=nn.ReLU(),
            conv3=conv1x1(width, 4 * width),
            bn3=BatchNorm(4 * width),
        )
    )


def single(in_channels: int, width: int, stride: int) -> nn.Sequential:
    """F of one 3x3 convolution: y = W x + x is nearly linear, and of no advantage (Sec. 3.2)."""
    return nn.Sequential(OrderedDict(conv1=conv3x3(in_channels, width, stride), bn1=BatchNorm(width)))


class Block(nn.Module):
    """A few layers F and the shortcut around them; the last ReLU after the addition (Eqn. 1, Fig. 2).

    Plain: y = relu(F(x)). Residual: y = relu(F(x) + shortcut(x)). Every addition is out of place:
    an in-place one would overwrite the response that Figure 7 measures.
    """

    def __init__(self, residual: nn.Sequential, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        if self.shortcut is None:
            return relu(self.residual(x))  # (B, C, H, W) or (B, 2C, H/2, W/2)
        return relu(self.residual(x) + self.shortcut(x))  # (B, C, H, W) or (B, 2C, H/2, W/2)


# Channels that leave a block, over the width of its stage.
EXPANSION: dict[config.Block, int] = {"basic": 1, "single": 1, "bottleneck": 4}


def make_block(in_channels: int, width: int, stride: int, spec: config.Network) -> Block:
    """One block of the network's kind with `width` filters, and its shortcut."""
    if spec.block == "bottleneck":
        residual = bottleneck(in_channels, width, stride, spec.stride_in)
    elif spec.block == "basic":
        residual = basic(in_channels, width, stride)
    else:
        residual = single(in_channels, width, stride)
    out_channels = width * EXPANSION[spec.block]
    return Block(residual, make_shortcut(in_channels, out_channels, stride, spec))


# --- the stage ----------------------------------------------------------------------------------


class Stage(nn.Sequential):
    """Blocks on one map size; the first may change size and width.

    With `recompute` only the blocks' inputs are kept for the backward pass, which computes each block
    once more: a third more work, a fraction of the memory, the same numbers to the last bit.
    """

    recompute = False

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        for block in self:
            x = recomputed(block, x) if self.recompute else block(x)
        return x  # (B, C', H', W')


def make_stage(in_channels: int, width: int, blocks: int, stride: int, spec: config.Network) -> Stage:
    """`blocks` blocks with `width` filters; the first one has the stride."""
    first = make_block(in_channels, width, stride, spec)
    channels = width * EXPANSION[spec.block]
    return Stage(first, *(make_block(channels, width, 1, spec) for _ in range(blocks - 1)))


# --- the two networks ---------------------------------------------------------------------------


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
        check_images(x, self.spec, self.in_channels)
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
        wider = EXPANSION[spec.block]
        one, two, three, four = spec.blocks
        self.conv = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn = BatchNorm(64)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)  # the paper does not say which padding
        self.stage1 = make_stage(64, 64, one, 1, spec)
        self.stage2 = make_stage(64 * wider, 128, two, 2, spec)
        self.stage3 = make_stage(128 * wider, 256, three, 2, spec)
        self.stage4 = make_stage(256 * wider, 512, four, 2, spec)
        self.classifier = nn.Linear(512 * wider, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 224, 224)
        check_images(x, self.spec, self.in_channels)
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


# --- initialisation, and one by name ------------------------------------------------------------


def initialise(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """Random weights of variance 2 / fan-in (He et al., arXiv:1502.01852), biases of 0.

    Batch norms stay as torch makes them: scale 1, shift 0.

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
    generator: torch.Generator | None = None,
) -> Network:
    """The network of that name: plain-56, resnet-56-B, plain-34, resnet-34-C, resnet-50, ...

    Any depth 6n+2 and Table 1's 18, 34, 50, 101, 152; `resnetlab networks` lists the paper's.
    `num_classes` is 1000 for Table 1's networks and 10 for the others unless said. Raises
    config.UsageError for an unknown name or depth, for a combination that the paper does not have,
    and for counts below one.
    """
    spec = name if isinstance(name, config.Network) else config.Network.from_name(name)
    if num_classes is None:
        num_classes = 1000 if spec.design == "imagenet" else 10
    for what, count in (("num_classes", num_classes), ("in_channels", in_channels)):
        if type(count) is not int or count < 1:
            raise UsageError(f"{what} must be a whole number of at least 1, got {count!r}")
    kind = ImageNetNetwork if spec.design == "imagenet" else CifarNetwork
    network = kind(spec, num_classes, in_channels)
    initialise(network, generator)
    return network
