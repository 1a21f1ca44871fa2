"""The loss around a network: along a line of weights and over a plane of them. Reads, never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from resnetlab.config import UsageError, did_you_mean
from resnetlab.nets.mode import in_mode

Direction = Mapping[str, Tensor]  # parameter name -> what is added to it, times the distance
Norm = Literal["batch", "running"]


class Losses(NamedTuple):
    """Mean cross-entropy and error in percent at each place: float64, (A,) or (A, B)."""

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
        own, its = (torch.linalg.vector_norm(w.flatten(1), dim=1) for w in (weight, drawn))
        direction[name] = drawn * (own / its).view(-1, *[1] * (weight.dim() - 1))
    return direction


def towards(network: nn.Module, other: nn.Module) -> dict[str, Tensor]:
    """The direction that ends, at distance 1, in the parameters of `other` (Goodfellow et al. 2015).

    UsageError if the two have not the same parameters by name and shape.
    """
    own, theirs = dict(network.named_parameters()), dict(other.named_parameters())
    if {n: p.shape for n, p in own.items()} != {n: p.shape for n, p in theirs.items()}:
        raise UsageError("a line joins two networks with the same parameters; these differ")
    return {name: (theirs[name] - own[name]).detach() for name in own}


def loss_on_line(
    network: nn.Module,
    direction: Direction,
    distances: Sequence[float],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "batch",
) -> Losses:
    """Loss and error with parameters w + a * direction, for each a of `distances`: (A,) each.

    `images` (B, C, H, W), normalised, and `labels` (B,) are one batch. Batch norms use, "batch", the
    statistics of these images at each place anew, as in training; or, "running", the network's running
    ones, which belong to its own weights and fit less the farther one goes. Weights, statistics,
    gradients, mode and RNG are left as they were. A loss may be infinite or NaN, and then says so.
    UsageError for a direction that does not fit and for an unknown `norm`.
    """
    found = [_at(network, [(a, direction)], images, labels, norm) for a in distances]
    return _losses(found, (len(distances),))


def loss_on_plane(
    network: nn.Module,
    directions: tuple[Direction, Direction],
    distances: tuple[Sequence[float], Sequence[float]],
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "batch",
) -> Losses:
    """Loss and error with parameters w + a * first + b * second: (A, B) each, otherwise `loss_on_line`.

    Two drawn directions of a network are nearly, not exactly, at right angles. A plane is two of
    hundreds of thousands of dimensions: what it shows need not be what training meets.
    """
    first, second = directions
    found = [
        _at(network, [(a, first), (b, second)], images, labels, norm)
        for a in distances[0]
        for b in distances[1]
    ]
    return _losses(found, (len(distances[0]), len(distances[1])))


def _losses(found: list[Tensor], shape: tuple[int, ...]) -> Losses:
    if not found:
        raise UsageError("no distances were given")
    loss, error = torch.stack(found).T
    return Losses(loss.reshape(shape), error.reshape(shape))


def _at(
    network: nn.Module,
    moves: list[tuple[float, Direction]],
    images: Tensor,
    labels: Tensor,
    norm: Norm,
) -> Tensor:
    """(loss, error in percent), float64, at the moved parameters."""
    if norm not in get_args(Norm):
        raise UsageError(f"norm: unknown value {norm!r}{did_you_mean(str(norm), get_args(Norm))}")
    if len(images) != len(labels) or not len(images):
        raise UsageError(f"as many labels as images are needed, got {len(labels)} for {len(images)}")
    own = {name: parameter.detach() for name, parameter in network.named_parameters()}
    for _, direction in moves:
        if {n: p.shape for n, p in own.items()} != {n: p.shape for n, p in direction.items()}:
            raise UsageError("the direction has other parameters than the network")
    moved = {}
    for name, value in own.items():
        for distance, direction in moves:
            value = value + distance * direction[name]
        moved[name] = value
    # Copies of the statistics take what a pass in training mode writes.
    buffers = {name: buffer.detach().clone() for name, buffer in network.named_buffers()}
    with in_mode(network, training=norm == "batch"), torch.no_grad():
        logits = functional_call(network, moved | buffers, (images,)).double()
        wrong = (logits.argmax(dim=1) != labels).double().mean()
        return torch.stack([cross_entropy(logits, labels), 100 * wrong])
