"""Edits of networks: the same function where it must be, another one where it must not."""

from __future__ import annotations

import copy

import pytest
import torch

from resnetlab import config, nets
from resnetlab.config import UsageError
from resnetlab.images import feeds
from resnetlab.nets import surgery
from resnetlab.nets.models import Projection
from resnetlab.training import evaluate

NAMES = ("plain-8", "plain-14", "resnet-8", "resnet-14", "resnet-8-B", "resnet-8-C")


def images(count: int = 64, size: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=feeds.generator(seed, "images"))


def learnt(name: str, dtype: torch.dtype = torch.float32) -> nets.Network:
    """A network after a few steps, so that its batch norms have statistics, scales and shifts."""
    network = nets.build(name, generator=feeds.generator(1, "weights")).to(dtype)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for step in range(4):
        x = images(seed=step).to(dtype)
        loss = torch.nn.functional.cross_entropy(network(x), torch.arange(64) % 10)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


# --- the constructed solution -----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("deeper", [20, 32])
def test_appended_identity_layers_change_no_logit(name: str, deeper: int) -> None:
    network = learnt(name)
    deep = surgery.append_identity_layers(network, deeper, images())
    x = images(seed=9)
    with torch.no_grad():
        assert torch.allclose(deep(x), network(x), rtol=0, atol=1e-4)
    assert len(nets.weighted_layers(deep)) - deep_projections(deep) == deeper
    assert deep.spec.shortcut == network.spec.shortcut


def deep_projections(network: nets.Network) -> int:
    return sum(isinstance(module, Projection) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "depths"), [("plain-8", (14, 26)), ("resnet-8", (14, 26)), ("plain-14", (32,))]
)
def test_a_grown_network_grows_again_and_stays_the_same_function(
    name: str, depths: tuple[int, ...]
) -> None:
    network = learnt(name)
    x, labels = images(200, seed=9), torch.arange(200) % 10
    grown = network
    for depth in depths:
        grown = surgery.append_identity_layers(grown, depth, images())
        assert grown.spec == config.Network.parse(network.spec.model_dump() | {"depth": depth})
    batches = [(x, labels)]
    error, loss = evaluate.single_view(network, batches)
    assert evaluate.single_view(grown, batches)[0] == error
    assert evaluate.single_view(grown, batches)[1] == pytest.approx(loss, rel=1e-4)
    with torch.no_grad():
        assert (grown.eval()(x) - network(x)).abs().max() < 1e-4
        grown.stage3[-1].residual.conv2.weight[0, 0, 1, 1] += 1  # of an added layer
        grown.stage3[-1].residual.bn2.weight[0] += 0.5
        assert (grown(x) - network(x)).abs().max() > 1e-3


def test_in_float64_they_are_the_same_function_almost_exactly() -> None:
    for name in ("plain-14", "resnet-14-C"):
        network = learnt(name, torch.float64)
        x = images(seed=9).double()
        deep = surgery.append_identity_layers(network, 26, images().double())
        with torch.no_grad():
            assert (deep(x) - network(x)).abs().max() < 1e-9


def test_in_training_mode_the_batch_they_were_made_for_passes_unchanged() -> None:
    network = learnt("plain-8", torch.float64)
    x = images().double()
    deep = surgery.append_identity_layers(network, 14, x)
    entering = network.conv, network.bn
    stage, own = deep.stage1, network.stage1
    with torch.no_grad():
        h = torch.relu(entering[1](entering[0](x)))
        before = own(h)
        added = stage[1].train()
        # eps is in the scale and in the denominator of the same batch: what comes out is what went in.
        assert torch.allclose(added(before), before, atol=1e-9)


def test_the_deeper_network_is_an_ordinary_one_of_its_depth() -> None:
    deep = surgery.append_identity_layers(learnt("resnet-8-B"), 20, images())
    assert type(deep) is nets.CifarNetwork
    fresh = nets.build("resnet-20-B")
    fresh.load_state_dict(deep.state_dict())
    assert torch.equal(fresh.eval()(images()), deep(images()))
    assert all(parameter.requires_grad for parameter in deep.parameters())


@pytest.mark.parametrize("name", ["plain-8", "resnet-8-B"])
def test_fifty_layers_that_are_6n_plus_2_stay_what_they_are(name: str) -> None:
    """50 and 152 layers are also names of Table 1's bottlenecks."""
    grown = surgery.append_identity_layers(nets.build(name), 50, images(4))
    assert grown.spec.name == f"cifar-{name.replace('8', '50')}"
    assert grown.spec.blocks == (8, 8, 8)
    again = surgery.append_identity_layers(grown, 50, images(4))
    assert again.spec == grown.spec
    assert again.spec.at_depth(152).design == "cifar"


@pytest.mark.parametrize("name", ["plain-8", "resnet-8"])
def test_a_disturbed_added_weight_changes_the_output(name: str) -> None:
    network = learnt(name)
    deep = surgery.append_identity_layers(network, 14, images())
    x = images(seed=9)
    with torch.no_grad():
        for stage in (deep.stage1, deep.stage2, deep.stage3):
            disturbed = copy.deepcopy(deep)
            index = list(deep.children()).index(stage)
            block = list(disturbed.children())[index][1]
            block.residual.bn2.weight += 0.5
            assert (disturbed(x) - network(x)).abs().max() > 1e-2


def test_the_added_layers_can_learn() -> None:
    deep = surgery.append_identity_layers(learnt("resnet-8"), 14, images()).train()
    torch.nn.functional.cross_entropy(deep(images()), torch.arange(64) % 10).backward()
    assert deep.stage2[1].residual.bn2.weight.grad.abs().max() > 0


def test_the_given_network_is_left_as_it_was() -> None:
    network = learnt("plain-8").train()
    before = copy.deepcopy(network.state_dict())
    state = torch.random.get_rng_state()
    surgery.append_identity_layers(network, 14, images())
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(len(stage._forward_hooks) for stage in network.modules())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "depth", "message"),
    [
        ("plain-14", 8, "8 layers are less than the 14 of plain-14"),
        ("plain-14", 21, "nearest valid depths are 20 and 26"),
        ("resnet-20-single", 32, "not to resnet-20-single"),
        ("resnet-18", 34, "not to resnet-18"),
    ],
)
def test_depths_and_networks_without_such_a_solution_are_refused(
    name: str, depth: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        surgery.append_identity_layers(nets.build(name), depth, images())


# --- removing blocks --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet-14", "resnet-14-B", "resnet-50"])
def test_a_removed_block_is_one_whose_last_scale_and_shift_are_zero(name: str) -> None:
    network = nets.build(name, num_classes=10).eval()
    x = images(2, 32)
    for block in list(nets.blocks(network))[:4]:
        zeroed = copy.deepcopy(network)
        residual = zeroed.get_submodule(block).residual
        last = [module for module in residual if isinstance(module, nets.BatchNorm)][-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.zero_()
            assert torch.allclose(surgery.remove_blocks(network, [block])(x), zeroed(x), atol=1e-6)


@pytest.mark.parametrize("name", ["plain-14", "resnet-14", "plain-50", "resnet-14-B"])
def test_removable_blocks_are_those_that_can_be_removed(name: str) -> None:
    network = nets.build(name, num_classes=10).eval()
    removable = surgery.removable_blocks(network)
    for block in nets.blocks(network):
        if block in removable:
            surgery.remove_blocks(network, [block])(images(2, 32))
        else:
            with pytest.raises(UsageError, match="changes the shape"):
                surgery.remove_blocks(network, [block])
    assert len(removable) == {"plain-14": 4, "resnet-14": 6, "plain-50": 12, "resnet-14-B": 6}[name]


def test_several_blocks_are_removed_and_the_network_stays() -> None:
    network = learnt("resnet-14")
    before = network(images())
    names = list(nets.blocks(network))
    assert names == [f"stage{stage}.{index}" for stage in (1, 2, 3) for index in (0, 1)]
    without = surgery.remove_blocks(network, [names[1], names[3], names[1]])
    assert sum(isinstance(m, surgery.Removed) for m in without.modules()) == 2
    assert not torch.equal(without(images()), before)
    assert torch.equal(network(images()), before)
    twice = surgery.remove_blocks(surgery.remove_blocks(network, [names[1]]), [names[3]])
    assert torch.equal(twice(images()), without(images()))


def test_a_plain_block_vanishes_or_is_refused_where_the_shape_changes() -> None:
    network = learnt("plain-14")
    without = surgery.remove_blocks(network, ["stage1.0"])
    assert isinstance(without.get_submodule("stage1.0"), surgery.Removed)
    without(images())
    with pytest.raises(UsageError, match=r"stage2\.0 of plain-14 changes the shape"):
        surgery.remove_blocks(network, ["stage2.0"])
    with pytest.raises(UsageError, match=r"did you mean 'stage1\.1'"):
        surgery.remove_blocks(network, ["stage1.11"])


# --- the dial ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet-8", "resnet-8-C"])
def test_the_dial_turns_from_plain_to_residual(name: str) -> None:
    network = learnt(name)
    x = images(seed=5)
    assert torch.equal(surgery.scale_shortcuts(network, 1.0)(x), network(x))
    plain = nets.build("plain-8").eval()
    plain.load_state_dict(network.state_dict(), strict=False)
    assert torch.allclose(surgery.scale_shortcuts(network, 0.0)(x), plain(x), atol=1e-6)
    half = surgery.scale_shortcuts(network, 0.5)(x)
    assert not torch.allclose(half, network(x))


def test_spec_of_an_edit_is_that_of_the_network() -> None:
    network = nets.build("resnet-8")
    assert surgery.scale_shortcuts(network, 0.5).spec == config.Network.from_name("resnet-8")
