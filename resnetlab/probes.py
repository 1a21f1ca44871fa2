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
