"""Batch norm over groups of a batch: its statistics, and where they do not matter."""

from __future__ import annotations

import pytest
import torch
from networks import generator, perturbed, same, state
from torch import nn

from resnetlab.nets import BatchNorm, build, use_ghost_batches


def test_ghost_batches_are_the_parts_one_after_the_other() -> None:
    x = torch.randn(10, 4, 3, 3, generator=generator(), dtype=torch.float64)
    ours, theirs = (perturbed(kind(4)).double() for kind in (BatchNorm, nn.BatchNorm2d))
    ours.group = 4
    wanted = torch.cat([theirs(x[:4]), theirs(x[4:8]), theirs(x[8:])])
    assert torch.equal(ours(x), wanted)
    assert same(state(ours), state(theirs))
    assert int(ours.num_batches_tracked) == 3
    # By hand: each part has mean 0 and variance 1 before scale and shift.
    plain = ((wanted - ours.bias[:, None, None]) / ours.weight[:, None, None]).detach()
    for part in plain.split(4):
        torch.testing.assert_close(part.mean(dim=(0, 2, 3)), torch.zeros(4).double())
        variance = part.var(dim=(0, 2, 3), unbiased=False)
        torch.testing.assert_close(variance, torch.ones(4).double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("group", [None, 10, 64])
def test_a_group_as_large_as_the_batch_is_batch_norm(group: int | None) -> None:
    x = torch.randn(10, 4, 3, 3, generator=generator())
    ours, theirs = BatchNorm(4), nn.BatchNorm2d(4)
    ours.group = group
    assert torch.equal(ours(x), theirs(x))
    assert same(state(ours), state(theirs))


def test_testing_does_not_know_of_ghost_batches() -> None:
    network = perturbed(build("resnet-8-C", generator=generator())).eval()
    x = torch.randn(9, 3, 8, 8, generator=generator(1))
    before = network(x)
    use_ghost_batches(network, 2)
    assert torch.equal(network(x), before)
    use_ghost_batches(network.train(), 3)
    ghost = network(x)
    use_ghost_batches(network, None)
    assert not torch.allclose(network(x), ghost)
