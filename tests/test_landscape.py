"""The loss around a network: right where it is known in closed form, and without a trace."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from resnetlab.config import UsageError
from resnetlab.images.feeds import generator
from resnetlab.nets import build, landscape


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 3, 8, 8, generator=generator(1, "images")), torch.arange(6)


def along(
    network: nn.Module,
    direction: landscape.Direction,
    distances: list[float],
    images: Tensor,
    labels: Tensor,
) -> Tensor:
    """Losses on a line: a plane whose second distance is 0."""
    grid = (distances, [0.0])
    losses = landscape.loss_on_plane(network, (direction, direction), grid, images, labels)
    return losses.loss[:, 0]


class TwoClasses(nn.Module):
    """logits (w, 0) whatever the input: the loss for class 0 is log(1 + exp(-w))."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[0.5]], dtype=torch.float64))
        self.v = nn.Parameter(torch.tensor([[0.25]], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        score = (self.w + 2 * self.v).expand(len(x), 1)
        return torch.cat([score, torch.zeros_like(score)], dim=1)


def test_a_plane_whose_losses_are_known() -> None:
    network = TwoClasses()
    x, labels = torch.zeros(3, 1), torch.zeros(3, dtype=torch.long)
    one, nil = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    along_w, along_v = {"w": one, "v": nil}, {"w": nil, "v": one}
    line = landscape.loss_on_plane(network, (along_w, along_v), ([-2.0, 0.0, 3.0], [0]), x, labels)
    wanted = [math.log1p(math.exp(-(1.0 + a))) for a in (-2.0, 0.0, 3.0)]
    assert line.loss.flatten().tolist() == pytest.approx(wanted, rel=1e-12)
    assert line.error.tolist() == [[100.0], [0.0], [0.0]]
    plane = landscape.loss_on_plane(network, (along_w, along_v), ([0, 1], [-1, 0, 1]), x, labels)
    assert plane.loss.shape == (2, 3)
    for i, a in enumerate((0, 1)):
        for j, b in enumerate((-1, 0, 1)):
            assert float(plane.loss[i, j]) == pytest.approx(math.log1p(math.exp(-(1 + a + 2 * b))))


@pytest.mark.parametrize("name", ["plain-8", "resnet-8-B"])
def test_the_loss_at_a_place_is_that_of_a_network_with_these_weights(name: str) -> None:
    network = build(name, generator=generator(0, "weights")).train()
    images, labels = batch()
    network(images)  # statistics that are not the first ones
    direction = landscape.filter_normalised(network, generator(0, "direction"))
    losses = along(network, direction, [0.0, 0.3], images, labels)
    for distance, loss in zip((0.0, 0.3), losses, strict=True):
        moved = copy.deepcopy(network).train()
        with torch.no_grad():
            for key, parameter in moved.named_parameters():
                parameter += distance * direction[key]
            wanted = cross_entropy(moved(images).double(), labels)
        torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)


def test_every_filter_of_the_direction_is_as_long_as_the_networks() -> None:
    network = build("resnet-8-C", generator=generator(0, "weights"))
    direction = landscape.filter_normalised(network, generator(3, "direction"))
    for name, parameter in network.named_parameters():
        if parameter.dim() < 2:  # batch norms, bias
            assert not direction[name].any()
            continue
        for own, its in zip(parameter.detach(), direction[name], strict=True):
            assert float(its.norm()) == pytest.approx(float(own.norm()), rel=1e-5)
    again = landscape.filter_normalised(network, generator(3, "direction"))
    other = landscape.filter_normalised(network, generator(4, "direction"))
    assert torch.equal(direction["conv.weight"], again["conv.weight"])
    assert not torch.equal(direction["conv.weight"], other["conv.weight"])


def test_scaling_a_filter_before_a_batch_norm_changes_nothing_on_the_line() -> None:
    """What filter-wise normalising is for (Li et al. 2018): the same function, the same line."""
    network = build("plain-8", generator=generator(0, "weights")).double()
    images, labels = batch()
    scaled = copy.deepcopy(network)
    with torch.no_grad():
        scaled.stage2[0].residual.conv1.weight *= 7
    lines = []
    for each in (network, scaled):
        direction = landscape.filter_normalised(each, generator(0, "direction"))
        lines.append(along(each, direction, [-0.5, 0, 0.5], images.double(), labels))
    torch.testing.assert_close(lines[0], lines[1], rtol=1e-3, atol=1e-4)  # eps of the norm


def test_it_leaves_no_trace() -> None:
    network = build("resnet-8-C").train()
    images, labels = batch()
    cross_entropy(network(images), labels).backward()
    network.get_submodule("stage2").eval()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    modes, rng = [m.training for m in network.modules()], torch.get_rng_state()
    directions = tuple(landscape.filter_normalised(network, generator(s, "d")) for s in (0, 1))
    landscape.loss_on_plane(network, directions, ([-1, 0], [0, 1]), images, labels)
    with pytest.raises(ValueError, match="takes images"):
        along(network, directions[0], [0], images[:, :1], labels)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradients[name])
    assert [m.training for m in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), rng)


def test_what_does_not_fit_is_refused() -> None:
    network = build("plain-8")
    images, labels = batch()
    direction = landscape.filter_normalised(network, generator(0, "d"))
    with pytest.raises(UsageError, match="no distances"):
        along(network, direction, [], images, labels)
    with pytest.raises(UsageError, match="as many labels as images"):
        along(network, direction, [0], images, labels[:3])
    deeper = landscape.filter_normalised(build("plain-14"), generator(0, "d"))
    with pytest.raises(UsageError, match="other parameters than the network"):
        along(network, deeper, [0], images, labels)
