"""Read-only measurements of a network. A probe leaves weights, gradients, mode and RNG untouched."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from resnetlab.models import Network, Stage, count_parameters, evaluating, weighted_layers


def gradient_norms(network: nn.Module) -> Tensor:
    """L2 norm of each weighted layer's weight gradient, in the order of `weighted_layers`.

    Reads `.grad` as the last backward pass left it: the gradient of the mean loss, without weight
    decay. Returns a float tensor (L,) on the network's device, without waiting for the device; a layer
    that has no gradient yet raises ValueError. Sec. 4.1 speaks of these norms ("healthy norms with
    BN") without printing them.
    """
    gradients = []
    for name, layer in weighted_layers(network).items():
        if layer.weight.grad is None:
            raise ValueError(f"layer {name} has no gradient: run a backward pass first")
        gradients.append(layer.weight.grad)
    return torch.stack([torch.linalg.vector_norm(gradient.detach()) for gradient in gradients])


def saved_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes that a forward pass in training mode keeps for the backward pass.

    They grow with the batch and are most of the memory of training. Every storage counts once, the
    network's own parameters and buffers do not; of blocks that are computed again
    (`models.recompute_activations`) only the inputs are kept. On the meta device the count is the same
    and takes no memory.
    """
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # alive until the sum, so that no address comes twice

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    modes = {module: module.training for module in network.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    devices = [images.device] if images.is_cuda else []
    try:
        network.train()
        hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
        with torch.random.fork_rng(devices), torch.enable_grad(), hooks:
            network(images)
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
    return sum(storage.nbytes() for storage in kept.values())


def response_layers(network: nn.Module) -> dict[str, str]:
    """Convolution -> the batch norm behind it, of the layers whose responses Figure 7 shows.

    The first convolution and every 3x3 convolution in a block, in the order of the forward pass: 6n+1
    in a network of 6n+2 layers. Projections and the 1x1 convolutions of bottlenecks are not among them.
    """
    modules = dict(network.named_modules())
    found = {}
    for name, layer in weighted_layers(network).items():
        if not isinstance(layer, nn.Conv2d) or not (name == "conv" or layer.kernel_size == (3, 3)):
            continue
        head, dot, last = name.rpartition(".")
        norm = head + dot + last.replace("conv", "bn")
        if not isinstance(modules.get(norm), nn.BatchNorm2d):
            raise ValueError(f"layer {name} has no batch norm behind it")
        found[name] = norm
    if not found:
        raise ValueError("the network has no 3x3 convolution with a batch norm behind it")
    return found


def layer_responses(network: nn.Module, images: Tensor) -> Tensor:
    """Standard deviation of each 3x3 layer's response, in the order of `response_layers`.

    The response is the output after batch norm and before ReLU or addition (Sec. 4.2, Figure 7), in
    evaluation mode; the deviation is over images, channels and positions together. `images` are as the
    network takes them (B, C, H, W), normalised. Returns float64 (L,) on the network's device. Weights,
    statistics, gradients, modes and RNG are left as they were, also after an error. ValueError for a
    network without such layers and for images that it does not take.
    """
    norms = response_layers(network)
    deviations: dict[str, Tensor] = {}

    def note(norm: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            deviations[norm] = output.detach().double().std(correction=0)

        return hook

    hooks = [network.get_submodule(norm).register_forward_hook(note(norm)) for norm in norms.values()]
    devices = [images.device] if images.is_cuda else []
    try:
        with evaluating(network), torch.random.fork_rng(devices), torch.no_grad():
            network(images)
    finally:
        for handle in hooks:
            handle.remove()
    return torch.stack([deviations[norm] for norm in norms.values()])


def anatomy(network: Network, size: int) -> list[dict[str, Any]]:
    """The parts of a network in the order of the forward pass, read from its modules.

    One entry for the first convolution (with what follows it before the blocks), one a block, one for
    the classifier: `name` of the module; `stage` (0: before the first, last + 1: behind them); `kind`
    (the class of the block); `shortcut` (none, identity, padded or projection); `shape_in`, `shape_out`
    (C, H, W) of images of `size` x `size`; `parameters`; `multiply_adds` of one image as the paper
    counts them (`models.count_multiply_adds`); `layers`: name, kernel, stride and filters of the
    weighted ones. Nothing is computed: a copy without memory is run.
    """
    blank = copy.deepcopy(network).to("meta").eval()
    layers = weighted_layers(blank)
    names = {module: name for name, module in blank.named_modules()}
    blocks = {
        f"{name}.{index}": block
        for name, stage in blank.named_children()
        if isinstance(stage, Stage)
        for index, block in stage.named_children()
    }
    seen: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {}

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = getattr(module, "weight", None)
        work = (
            output.numel() * weight[0].numel() if names[module] in layers and weight is not None else 0
        )
        seen[names[module]] = (tuple(inputs[0].shape[1:]), tuple(output.shape[1:]), work)

    for module in (*layers.values(), *blocks.values()):
        module.register_forward_hook(look)
    with torch.no_grad():
        blank(torch.zeros(1, blank.in_channels, size, size, device="meta"))

    def entry(name: str, parts: list[nn.Module], **more: Any) -> dict[str, Any]:
        own = [key for key in layers if key == name or key.startswith(f"{name}.")]
        return {
            "name": name,
            **more,
            "parameters": sum(count_parameters(part) for part in parts),
            "multiply_adds": sum(seen[key][2] for key in own),
            "layers": [_layer(key, layers[key]) for key in own],
        }

    first = next(iter(blocks))
    head = {"stage": 0, "kind": "stem", "shortcut": "none"}
    head |= {"shape_in": list(seen["conv"][0]), "shape_out": list(seen[first][0])}
    found = [entry("conv", [blank.conv, blank.bn], **head)]
    for name, block in blocks.items():
        shortcut = {"NoneType": "none", "Identity": "identity", "PaddedIdentity": "padded"}.get(
            type(block.shortcut).__name__, "projection"
        )
        where = {"stage": int(name[len("stage")]), "kind": type(block).__name__, "shortcut": shortcut}
        shapes = {"shape_in": list(seen[name][0]), "shape_out": list(seen[name][1])}
        found.append(entry(name, [block], **where, **shapes))
    last = {"stage": found[-1]["stage"] + 1, "kind": "classifier", "shortcut": "none"}
    last |= {"shape_in": found[-1]["shape_out"], "shape_out": list(seen["classifier"][1])}
    found.append(entry("classifier", [blank.classifier], **last))
    return found


def _layer(name: str, layer: nn.Conv2d | nn.Linear) -> dict[str, Any]:
    if isinstance(layer, nn.Linear):
        return {"name": name, "kernel": 1, "stride": 1, "filters": layer.out_features}
    kernel, stride = int(layer.kernel_size[0]), int(layer.stride[0])
    return {"name": name, "kernel": kernel, "stride": stride, "filters": layer.out_channels}
