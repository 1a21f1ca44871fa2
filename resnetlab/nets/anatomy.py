"""What a network is made of: layers, parameters, multiply-adds, shapes; and its memory."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnetlab import config
from resnetlab.nets.models import Network, Stage, build
from resnetlab.nets.norms import BatchNorm


def recompute_activations(network: nn.Module, recompute: bool = True) -> None:
    """Trade a third more work for the memory of all activations inside blocks (see `Stage`)."""
    for module in network.modules():
        if isinstance(module, Stage):
            module.recompute = recompute


def weighted_layers(network: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Every convolution and the classifier by name, in the order of the forward pass.

    A network of depth d has d of them, plus its projections (names with `.shortcut.`).
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
def count_multiply_adds(network: Network, size: int | None = None) -> int:
    """Multiply-adds of the convolutions and the classifier for one image: the paper's "FLOPs".

    Counted on a copy without memory while an image of `size` x `size` (default: the network's native
    224 or 32) runs through it; batch norms, ReLUs, pooling and additions are left out, as in the paper.
    """
    blank = copy.deepcopy(network).to("meta").eval()
    for module in list(blank.modules()):
        for name, part in module.named_children():
            if isinstance(part, BatchNorm):  # not counted, and half of the time
                setattr(module, name, nn.Identity())
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += output.numel() * module.weight[0].numel()  # type: ignore[index]

    for layer in weighted_layers(blank).values():
        layer.register_forward_hook(count)
    size = network.spec.native_size if size is None else size
    blank(torch.empty(1, network.in_channels, size, size, device="meta"))
    return total


def census(spec: config.Network) -> dict[str, int]:
    """Counted on the network itself, without memory for it, at its native size and classes.

    `layers` (weighted ones on the main path: the depth), `projections`, `parameters` and `macs`, the
    multiply-adds.
    """
    with torch.device("meta"):
        network = build(spec)
    names = list(weighted_layers(network))
    projections = sum(".shortcut." in name for name in names)
    return {
        "layers": len(names) - projections,
        "projections": projections,
        "parameters": count_parameters(network),
        "macs": count_multiply_adds(network),
    }


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
