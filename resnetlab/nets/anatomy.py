"""What a network is made of: blocks, layers, parameters, multiply-adds, shapes; and its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from resnetlab import config
from resnetlab.nets.models import Network, PaddedIdentity, Projection, Stage, build
from resnetlab.nets.norms import without_norm

T = TypeVar("T")
Shape = tuple[int, ...]

SHORTCUT_KINDS = {
    type(None): "none",
    nn.Identity: "identity",
    PaddedIdentity: "padded",
    Projection: "projection",
}


def recompute_activations(network: nn.Module, recompute: bool = True) -> None:
    """Trade a third more work for the memory of all activations inside blocks (see `Stage`)."""
    for module in network.modules():
        if isinstance(module, Stage):
            module.recompute = recompute


# --- parts by name ------------------------------------------------------------------------------


def blocks(network: nn.Module) -> dict[str, Any]:
    """Every block by name (stage1.0, stage1.1, ...), in the order of the forward pass."""
    return {
        f"{name}.{index}": block
        for name, stage in network.named_children()
        if isinstance(stage, Stage)
        for index, block in stage.named_children()
    }


def weighted_layers(network: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Every convolution and the classifier by name, in the order of the forward pass.

    A network of depth d has d of them, plus its projections (names with `.shortcut.`).
    """
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


@torch.no_grad()
def observe(
    network: nn.Module, names: Iterable[str], images: Tensor, look: Callable[[Tensor, Tensor], T]
) -> dict[str, T]:
    """Name -> `look(input, output)` of these modules in one forward pass; no hook stays behind."""
    seen: dict[str, T] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda module, inputs, output: seen.update({name: look(inputs[0], output)})

    names = list(names)
    hooks = [network.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    try:
        network(images)
    finally:
        for handle in hooks:
            handle.remove()
    return {name: seen[name] for name in names}


# --- counts -------------------------------------------------------------------------------------


def count_parameters(network: nn.Module) -> int:
    """Trainable numbers in the network: convolutions, batch norms, classifier."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_multiply_adds(network: Network, size: int | None = None) -> int:
    """Multiply-adds of the convolutions and the classifier for one image: the paper's "FLOPs".

    Counted while an image of `size` x `size` (default: the network's native 224 or 32) runs through a
    copy without memory; batch norms, ReLUs, pooling and additions are left out, as in the paper.
    """
    size = network.spec.native_size if size is None else size
    return multiply_adds(network, (network.in_channels, size, size))


def multiply_adds(network: nn.Module, image: Shape) -> int:
    """The same of any network of convolutions and linear layers, such as torchvision's VGG.

    For one `image` (C, H, W). The network may be on the meta device: only shapes count.
    """
    layers = weighted_layers(network)
    shapes = _shapes(network, layers, image)
    return sum(_multiply_adds(layers[name], shape_out) for name, (_, shape_out) in shapes.items())


def _multiply_adds(layer: nn.Conv2d | nn.Linear, shape_out: Shape) -> int:
    return prod(shape_out) * layer.weight[0].numel()


def census(spec: config.Network) -> dict[str, int]:
    """Counted on the network itself, without memory for it, at its native size and classes.

    `layers` (weighted ones on the main path: the depth), `projections`, `parameters` and `macs`, the
    multiply-adds.
    """
    with torch.device("meta"):
        network = build(spec)
    names = weighted_layers(network)
    projections = sum(".shortcut." in name for name in names)
    return {
        "layers": len(names) - projections,
        "projections": projections,
        "parameters": count_parameters(network),
        "macs": count_multiply_adds(network),
    }


# --- shapes -------------------------------------------------------------------------------------


def _shapes(network: nn.Module, names: Iterable[str], image: Shape) -> dict[str, tuple[Shape, Shape]]:
    """Shapes in and out of these modules for one `image` (C, H, W); a copy without memory is run.

    Without batch norms too: they change no shape, and are half of the time.
    """
    blank = without_norm(network).to("meta").eval()
    images = torch.empty(1, *image, dtype=next(blank.parameters()).dtype, device="meta")
    return observe(blank, names, images, lambda x, y: (tuple(x.shape[1:]), tuple(y.shape[1:])))


def trace_shapes(network: nn.Module, image: tuple[int, int, int]) -> list[dict[str, object]]:
    """One row a stage: name, output shape (C, S, S) for that `image`, weighted layers, parameters."""
    children = dict(network.named_children())
    return [
        {
            "part": name,
            "output": " x ".join(map(str, shape_out)),
            "weighted layers": len(weighted_layers(children[name])),
            "parameters": count_parameters(children[name]),
        }
        for name, (_, shape_out) in _shapes(network, children, image).items()
    ]


def parts(network: Network, size: int) -> list[dict[str, Any]]:
    """The parts of a network in the order of the forward pass, read from its modules.

    One entry for the first convolution (with what follows it before the blocks), one a block, one for
    the classifier: `name` of the module; `stage` (0: before the first, last + 1: behind them); `kind`
    (stem, basic, bottleneck, single or classifier); `shortcut` (none, identity, padded or projection);
    `shape_in`, `shape_out` (C, H, W) of images of `size` x `size`; `parameters`; `multiply_adds` of
    one image as in `count_multiply_adds`; `layers`: name, kernel, stride and filters of the weighted
    ones. Nothing is computed: a copy without memory is run.
    """
    layers, inside = weighted_layers(network), blocks(network)
    shapes = _shapes(network, [*layers, *inside], (network.in_channels, size, size))
    stages = {"conv": 0, **{name: int(name[len("stage")]) for name in inside}}
    stages["classifier"] = max(stages.values()) + 1
    leaving = {name: shapes[name][1] for name in stages}
    leaving["conv"] = shapes[next(iter(inside))][0]  # what stands before the blocks belongs to it
    shape_in, rows = shapes["conv"][0], []
    for name, stage in stages.items():
        heads = ("conv.", "bn.") if name == "conv" else (f"{name}.",)
        weighted = {key: layer for key, layer in layers.items() if f"{key}.".startswith(heads)}
        sizes = [p.numel() for key, p in network.named_parameters() if key.startswith(heads)]
        work = [_multiply_adds(layer, shapes[key][1]) for key, layer in weighted.items()]
        rows.append(
            {
                "name": name,
                "stage": stage,
                "kind": {"conv": "stem", "classifier": "classifier"}.get(name, network.spec.block),
                "shortcut": SHORTCUT_KINDS[type(inside[name].shortcut)] if name in inside else "none",
                "shape_in": list(shape_in),
                "shape_out": list(leaving[name]),
                "parameters": sum(sizes),
                "multiply_adds": sum(work),
                "layers": [_layer(key, layer) for key, layer in weighted.items()],
            }
        )
        shape_in = leaving[name]
    return rows


def _layer(name: str, layer: nn.Conv2d | nn.Linear) -> dict[str, Any]:
    kernel, stride = (layer.kernel_size[0], layer.stride[0]) if isinstance(layer, nn.Conv2d) else (1, 1)
    return {"name": name, "kernel": kernel, "stride": stride, "filters": len(layer.weight)}
