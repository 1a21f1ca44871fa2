"""The networks: shortcut, block, plain and residual networks for small images (Sec. 3, 4.2).

Two dials make a network: `depth` and `shortcut`. A plain network is the same class with shortcut
"none", so plain-n and resnet-n (option A) have the same parameters, by name and by count.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from resnetlab import config

SMALLEST_IMAGE = 8  # two halvings leave a 2x2 map


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias: the batch norm behind it has one."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


class PaddedIdentity(nn.Module):
    """Option A (Sec. 3.3): every second pixel where the map halves, zeros for the new channels.

    The paper does not say where the zeros go: here half before and half after. No parameters.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        before = (out_channels - in_channels) // 2
        self.padding = (0, 0, 0, 0, before, out_channels - in_channels - before)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return pad(x[:, :, :: self.stride, :: self.stride], self.padding)  # (B, 2C, H/2, W/2)


class Projection(nn.Module):
    """Options B and C (Eqn. 2): a 1x1 convolution and batch norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        projected: Tensor = self.bn(self.conv(x))
        return projected  # (B, 2C, H/2, W/2), or (B, C, H, W) within a stage


def make_shortcut(
    option: config.Shortcut, in_channels: int, out_channels: int, stride: int
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
    return PaddedIdentity(in_channels, out_channels, stride) if grows else nn.Identity()


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the second ReLU after the addition (Fig. 2, Eqn. 1).

    Plain: y = relu(F(x)). Residual: y = relu(F(x) + shortcut(x)). Every addition is out of place:
    an in-place one would overwrite the response that Figure 7 measures.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, option: config.Shortcut
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            OrderedDict(
                conv1=conv3x3(in_channels, out_channels, stride),
                bn1=nn.BatchNorm2d(out_channels),
                relu=nn.ReLU(),
                conv2=conv3x3(out_channels, out_channels),
                bn2=nn.BatchNorm2d(out_channels),
            )
        )
        self.shortcut = make_shortcut(option, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        if self.shortcut is None:
            return relu(self.residual(x))
        return relu(self.residual(x) + self.shortcut(x))  # (B, C, H, W) or (B, 2C, H/2, W/2)


def make_stage(
    in_channels: int, out_channels: int, blocks: int, stride: int, option: config.Shortcut
) -> nn.Sequential:
    """`blocks` blocks on one map size; the first changes the size and the width."""
    first = BasicBlock(in_channels, out_channels, stride, option)
    rest = (BasicBlock(out_channels, out_channels, 1, option) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


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
        blocks = (spec.depth - 2) // 6
        self.in_channels = in_channels
        self.conv = conv3x3(in_channels, 16)
        self.bn = nn.BatchNorm2d(16)
        self.stage1 = make_stage(16, 16, blocks, 1, spec.shortcut)
        self.stage2 = make_stage(16, 32, blocks, 2, spec.shortcut)
        self.stage3 = make_stage(32, 64, blocks, 2, spec.shortcut)
        self.classifier = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 32, 32)
        self._check(x)
        x = relu(self.bn(self.conv(x)))  # (B, 16, 32, 32)
        x = self.stage1(x)  # (B, 16, 32, 32)
        x = self.stage2(x)  # (B, 32, 16, 16)
        x = self.stage3(x)  # (B, 64, 8, 8)
        x = x.mean(dim=(2, 3))  # (B, 64)
        logits: Tensor = self.classifier(x)
        return logits  # (B, 10)

    def _check(self, x: Tensor) -> None:
        wanted = f"(batch, {self.in_channels}, S, S) with S >= {SMALLEST_IMAGE}"
        if (
            x.dim() != 4
            or x.shape[1] != self.in_channels
            or x.shape[2] != x.shape[3]
            or x.shape[2] < SMALLEST_IMAGE
        ):
            raise ValueError(f"{self.spec.name} takes images {wanted}, got {tuple(x.shape)}")


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
    num_classes: int = 10,
    in_channels: int = 3,
    generator: torch.Generator | None = None,
) -> CifarNetwork:
    """The network of that name: plain-56, resnet-56 (option A), resnet-56-B, any depth 6n+2.

    Raises config.UsageError for an unknown name or depth, and for counts below one.
    """
    for what, count in (("num_classes", num_classes), ("in_channels", in_channels)):
        if type(count) is not int or count < 1:
            raise config.UsageError(f"{what} must be a whole number of at least 1, got {count!r}")
    spec = name if isinstance(name, config.Network) else config.Network.from_name(name)
    network = CifarNetwork(spec, num_classes, in_channels)
    initialise(network, generator)
    return network


def weighted_layers(network: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Every convolution and the classifier by name, in the order of the forward pass.

    A network of depth 6n+2 has 6n+2 of them, plus its projections (names with `.shortcut.`).
    """
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def count_parameters(network: nn.Module) -> int:
    """Trainable numbers in the network: convolutions, batch norms, classifier."""
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def trace_shapes(network: nn.Module, image: tuple[int, int, int]) -> list[dict[str, object]]:
    """One row a stage: name, output shape (C, S, S), weighted layers and parameters.

    Measured by sending two blank images of shape `image` (C, S, S) through a copy of the network in
    evaluation mode; the network itself is left as it was.
    """
    probe = copy.deepcopy(network).eval()
    rows: list[dict[str, object]] = []

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            rows.append(
                {
                    "part": name,
                    "output": " x ".join(map(str, output.shape[1:])),
                    "weighted layers": len(weighted_layers(module)),
                    "parameters": count_parameters(module),
                }
            )

        return hook

    for name, part in probe.named_children():
        part.register_forward_hook(note(name))
    parameter = next(probe.parameters())
    probe(torch.zeros(2, *image, dtype=parameter.dtype, device=parameter.device))
    return rows
