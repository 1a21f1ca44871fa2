"""Probes: right to the last digit, and without a trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from resnetlab.models import build, weighted_layers
from resnetlab.probes import gradient_norms

NAMES = ["plain-8", "resnet-8", "resnet-8-C"]


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, 8, 8, generator=random, dtype=dtype), torch.arange(6)


def backward(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    network = build(name, generator=torch.Generator().manual_seed(0)).to(dtype)
    images, labels = batch(dtype)
    cross_entropy(network(images), labels).backward()
    return network


@pytest.mark.parametrize("name", NAMES)
def test_the_norms_are_those_of_autograd_layer_by_layer(name: str) -> None:
    network = backward(name, torch.float64)
    images, labels = batch(torch.float64)
    weights = [layer.weight for layer in weighted_layers(network).values()]
    gradients = torch.autograd.grad(cross_entropy(network(images), labels), weights)
    wanted = torch.tensor([float((g**2).sum().sqrt()) for g in gradients], dtype=torch.float64)
    norms = gradient_norms(network)
    assert norms.shape == (len(weights),)
    torch.testing.assert_close(norms, wanted, rtol=1e-12, atol=0)
    assert (norms > 0).all()


@pytest.mark.parametrize("name", ["plain-8", "resnet-8"])
def test_the_norm_is_the_slope_along_the_gradient_by_finite_differences(name: str) -> None:
    # Independent of autograd: along g/|g| the loss rises by |g| per unit of length.
    network = backward(name, torch.float64)
    images, labels = batch(torch.float64)
    norms = gradient_norms(network)
    for index, layer in enumerate(weighted_layers(network).values()):
        assert layer.weight.grad is not None
        direction, step = layer.weight.grad / layer.weight.grad.norm(), 1e-6
        losses = []
        with torch.no_grad():
            for sign in (+1, -2, +1):
                layer.weight += sign * step * direction
                losses.append(float(cross_entropy(network(images), labels)))
        slope = (losses[0] - losses[1]) / (2 * step)
        assert slope == pytest.approx(float(norms[index]), rel=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_a_probe_leaves_no_trace(training: bool) -> None:
    network = backward("resnet-8-C").train(training)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    rng, threads = torch.get_rng_state(), torch.get_num_threads()
    norms = gradient_norms(network)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradients[name])
        assert parameter.requires_grad
    assert all(module.training == training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.get_num_threads() == threads
    assert not norms.requires_grad
    assert torch.equal(gradient_norms(network), norms)


def test_later_steps_do_not_change_norms_that_were_taken() -> None:
    network = backward("plain-8")
    norms = gradient_norms(network)
    kept = norms.clone()
    for parameter in network.parameters():
        assert parameter.grad is not None
        parameter.grad.mul_(3)
    assert torch.equal(norms, kept)
    torch.testing.assert_close(gradient_norms(network), 3 * kept)


def test_a_network_without_gradients_names_the_layer() -> None:
    with pytest.raises(ValueError, match=r"layer conv has no gradient: run a backward pass"):
        gradient_norms(build("plain-8"))


def test_gradients_that_are_not_finite_are_reported_not_hidden() -> None:
    network = backward("plain-8")
    layer = weighted_layers(network)["conv"]
    assert layer.weight.grad is not None
    layer.weight.grad[0, 0, 0, 0] = torch.nan
    norms = gradient_norms(network)
    assert norms[0].isnan()
    assert norms[1:].isfinite().all()
