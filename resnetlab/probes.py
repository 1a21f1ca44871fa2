"""Read-only measurements of a network. A probe leaves weights, gradients, mode and RNG untouched."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resnetlab.models import weighted_layers


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
