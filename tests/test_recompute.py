"""Activations computed again: the same numbers to the last bit, statistics moved once."""

from __future__ import annotations

import pytest
import torch
from networks import generator, state
from torch import Tensor
from torch.nn.functional import cross_entropy

from resnetlab.nets import build, recompute_activations, use_ghost_batches


def one_step(name: str, size: int, group: int | None, recompute: bool) -> dict[str, Tensor]:
    """Loss, gradients and all statistics after two forward and backward passes."""
    network = build(name, num_classes=5, generator=generator())
    use_ghost_batches(network, group)
    recompute_activations(network, recompute)
    out: dict[str, Tensor] = {}
    for step in range(2):
        images = torch.randn(6, 3, size, size, generator=generator(step))
        loss = cross_entropy(network(images), torch.arange(6) % 5)
        loss.backward()
        out[f"loss {step}"] = loss.detach()
    out |= {f"gradient of {n}": p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert len(out) == 2 + len(list(network.parameters()))
    return out | state(network)


@pytest.mark.parametrize("group", [None, 2])
@pytest.mark.parametrize(
    ("name", "size"),
    [("plain-14", 8), ("resnet-14", 8), ("resnet-14-C", 8), ("resnet-18-B", 64), ("resnet-50-A", 64)],
)
def test_recomputing_gives_the_same_to_the_last_bit(name: str, size: int, group: int | None) -> None:
    usual, again = (one_step(name, size, group, recompute) for recompute in (False, True))
    assert usual.keys() == again.keys()
    different = [key for key in usual if not torch.equal(usual[key], again[key])]
    assert not different
    tracked = {int(value) for key, value in again.items() if key.endswith("num_batches_tracked")}
    assert tracked == {2 if group is None else 6}  # once a forward pass and group, not twice


def test_recomputing_leaves_the_very_same_statistics_in_place() -> None:
    network = build("resnet-8", generator=generator())
    recompute_activations(network)
    before = dict(network.named_buffers())
    network(torch.randn(4, 3, 8, 8, generator=generator())).sum().backward()
    assert all(buffer is before[name] for name, buffer in network.named_buffers())
    recompute_activations(network, False)
    assert not any(getattr(module, "recompute", False) for module in network.modules())
