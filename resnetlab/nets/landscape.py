"""The loss around a network, over a plane of its weights. Reads, never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from resnetlab.config import UsageError
from resnetlab.nets.mode import in_mode
from resnetlab.nets.sizes import check_labels

Direction = Mapping[str, Tensor]  # parameter name -> what is added to it, times the distance


class Losses(NamedTuple):
    """Mean cross-entropy and error in percent at each place: float64, (A, B)."""

    loss: Tensor
    error: Tensor


def filter_normalised(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """A random direction whose every filter is as long as the network's own (Li et al. 2018, Sec. 4).

    Each filter of a convolution (its weights for one output channel) and each row of a linear layer
    is drawn from a normal distribution and scaled to the L2 norm of the same filter of the network:
    networks whose weights differ in scale can then be compared. Batch norms' scales and shifts and
    biases do not move, as there. `generator` is on the CPU; parameters come in order of name.
    """
    direction = {}
    for name, parameter in sorted(network.named_parameters()):
        weight = parameter.detach()
        if weight.dim() < 2:
            direction[name] = torch.zeros_like(weight)
            continue
        drawn = torch.randn(weight.shape, generator=generator).to(weight)
        length, drawn_length = (
            torch.linalg.vector_norm(filters.flatten(1), dim=1) for filters in (weight, drawn)
        )
        direction[name] = drawn * (length / drawn_length).view(-1, *[1] * (weight.dim() - 1))
    return direction


def loss_on_plane(
    network: nn.Module,
    directions: tuple[Direction, Direction],
    distances: tuple[Sequence[float], Sequence[float]],
    images: Tensor,
    labels: Tensor,
) -> Losses:
    """Loss and error with parameters w + a * first + b * second, for all a and b: (A, B) each.

    `images` (B, C, H, W), normalised, and `labels` (B,) are one batch. Batch norms use the statistics
    of these images at each place anew, as in training: the running ones belong to the network's own
    weights. Weights, statistics, gradients, mode and RNG are left as they were. A loss may be infinite
    or NaN, and then says so. Two drawn directions of a network are nearly, not exactly, at right
    angles. A plane is two of hundreds of thousands of dimensions: what it shows need not be what
    training meets. UsageError for a direction that does not fit, and without any distance or image.
    """
    check_labels(images, labels)
    weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
    shapes = {name: weight.shape for name, weight in weights.items()}
    for direction in directions:
        if {name: part.shape for name, part in direction.items()} != shapes:
            raise UsageError("the direction has other parameters than the network")
    first, second = directions
    places = [(a, b) for a in distances[0] for b in distances[1]]
    if not places:
        raise UsageError("no distances were given")
    measured = []
    with in_mode(network, training=True), torch.no_grad():
        for a, b in places:
            moved = {n: weight + a * first[n] + b * second[n] for n, weight in weights.items()}
            # Copies of the statistics take what a pass in training mode writes.
            statistics = {name: buffer.detach().clone() for name, buffer in network.named_buffers()}
            logits = functional_call(network, moved | statistics, (images,)).double()
            error = 100 * (logits.argmax(dim=1) != labels).double().mean()
            measured.append(torch.stack([cross_entropy(logits, labels), error]))
    loss, error = torch.stack(measured).T.reshape(2, len(distances[0]), len(distances[1]))
    return Losses(loss, error)
