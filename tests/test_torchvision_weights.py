"""Weights exchanged with torchvision: the same logits in both directions, others refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from networks import generator, on_meta, perturbed, same, state
from torch import Tensor, nn

from resnetlab.config import UsageError
from resnetlab.nets import build, load_torchvision, to_torchvision

PAIRS = {"resnet-18-B": "resnet18", "resnet-34-B": "resnet34", "resnet-50-3x3": "resnet50"}
LARGE_PAIRS = {"resnet-101-3x3": "resnet101", "resnet-152-3x3": "resnet152"}
SIZES = [(224, 224), (160, 192)]


def theirs_named(name: str, **kwargs: Any) -> nn.Module:
    """torchvision's network with random weights and batch norms away from the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network: nn.Module = getattr(torchvision.models, name)(weights=None, **kwargs)
    return perturbed(network).eval()


def images_of(height: int, width: int) -> Tensor:
    return torch.randn(1, 3, height, width, generator=generator(2), dtype=torch.float64)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        *PAIRS.items(),
        *(pytest.param(*pair, marks=pytest.mark.deep) for pair in LARGE_PAIRS.items()),
    ],
)
@torch.no_grad()
def test_logits_equal_torchvisions_in_both_directions(ours: str, theirs: str) -> None:
    source = theirs_named(theirs).double()
    network = build(ours).double().eval()
    load_torchvision(network, source.state_dict())
    back = to_torchvision(network)
    assert same(back, state(source))
    target = theirs_named(theirs).double()
    for parameter in target.parameters():
        parameter.zero_()
    target.load_state_dict(back, strict=True)
    for size in SIZES:
        x = images_of(*size)
        wanted = source(x)
        assert wanted.std() > 0.1
        assert torch.equal(target(x), wanted)
        # In double precision all that is left is the order of additions in pooling.
        torch.testing.assert_close(network(x), wanted, rtol=1e-9, atol=1e-9 * float(wanted.abs().max()))


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_in_single_precision_too(size: tuple[int, int]) -> None:
    source = theirs_named("resnet18")
    network = build("resnet-18-B").eval()
    load_torchvision(network, source.state_dict())
    x = images_of(*size).float()
    wanted = source(x)
    torch.testing.assert_close(network(x), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@torch.no_grad()
def test_the_papers_stride_takes_the_same_weights_and_gives_other_logits() -> None:
    source = theirs_named("resnet50")
    x = images_of(64, 64).float()
    wanted, found = source(x), {}
    for name in ("resnet-50", "resnet-50-3x3"):
        network = build(name).eval()
        load_torchvision(network, source.state_dict())
        assert same(to_torchvision(network), state(source))
        found[name] = float((network(x) - wanted).abs().max() / wanted.abs().max())
    assert found["resnet-50-3x3"] < 1e-4
    assert found["resnet-50"] > 0.01


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("plain-34", "plain-34 has no counterpart in torchvision: it has no shortcuts"),
        ("plain-50", "no shortcuts"),
        ("resnet-34", "option B: build 'resnet-34-B' instead"),
        ("resnet-34-C", "option B: build 'resnet-34-B' instead"),
        ("resnet-50-A", "option B: build 'resnet-50' instead"),
        ("resnet-18-B-single", "its blocks have a single layer"),
        ("resnet-20-B", "small images; torchvision has resnet18, 34, 50, 101 and 152"),
        ("cifar-resnet-50-B", "small images"),
        ("plain-20", "no shortcuts"),
    ],
)
def test_networks_that_torchvision_does_not_have_say_why(name: str, said: str) -> None:
    network = on_meta(name)
    with pytest.raises(UsageError, match=said):
        to_torchvision(network)
    with pytest.raises(UsageError, match=said):
        load_torchvision(network, {})


def refused(network: nn.Module, weights: Any, said: str) -> None:
    before = state(network)
    with pytest.raises(UsageError, match=said):
        load_torchvision(network, weights)  # type: ignore[arg-type]
    assert same(before, state(network)), "nothing is loaded"


def test_weights_of_another_network_are_refused_and_nothing_is_loaded() -> None:
    network = build("resnet-18-B", generator=generator())
    good = {key: value + 1 for key, value in to_torchvision(network).items()}
    deeper = to_torchvision(build("resnet-34-B"))
    refused(network, deeper, r"not the weights of resnet-18-B: 96 not known to it \(layer1.2.bn1.bias,")
    refused(build("resnet-34-B"), good, r"weights of resnet-34-B: \d+ missing \(layer1.2.conv1.weight,")
    refused(network, {k: v for k, v in good.items() if k != "fc.bias"}, r"1 missing \(fc.bias\)$")
    refused(network, good | {"layer1.9.conv1.weight": torch.zeros(1)}, r"1 not known to it \(layer1.9")
    refused(network, good | {3: torch.zeros(1)}, r"1 not known to it \(3\)")
    refused(
        network, good | {"fc.weight": torch.zeros(10, 512)}, r"fc.weight is \(10, 512\), not \(1000"
    )
    refused(network, good | {"fc.weight": [[0.0]]}, "fc.weight is no tensor")
    refused(network, good | {"fc.weight": None}, "fc.weight is no tensor")
    refused(
        network, good | {"fc.bias": torch.zeros(1000, dtype=torch.int8)}, "fc.bias holds torch.int8"
    )
    refused(
        network, good | {"fc.bias": torch.zeros(1000, dtype=torch.cfloat)}, "fc.bias holds torch.comp"
    )
    refused(network, {"state_dict": [good]}, "missing")
    refused(network, {"state_dict": {"state_dict": deeper}}, "96 not known to it")
    refused(network, {}, "missing")
    for weights in (None, [], "resnet18.pth", list(good.items())):
        refused(network, weights, "a state dict is needed")
    load_torchvision(network, good)
    assert same(good, to_torchvision(network))


def test_old_files_without_counts_of_batches_are_accepted() -> None:
    network = build("resnet-18-B", generator=generator())
    good = {key: value + 1 for key, value in to_torchvision(network).items()}
    old = {key: value for key, value in good.items() if not key.endswith("num_batches_tracked")}
    load_torchvision(network, old)
    loaded = to_torchvision(network)
    assert same({key: loaded[key] for key in old}, old)
    assert all(not value for key, value in loaded.items() if key not in old)


def test_exported_weights_are_copies() -> None:
    network = build("resnet-18-B", generator=generator())
    weights = to_torchvision(network)
    before = state(network)
    for value in weights.values():
        assert not value.requires_grad
        value.zero_()
    assert same(before, state(network))
