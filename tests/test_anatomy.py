"""What a network is made of: counts to the unit against counts by hand, shapes, parts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from networks import NAMES, generator, on_meta, same, state

from resnetlab.config import SHORTCUTS, Network
from resnetlab.nets import (
    blocks,
    build,
    census,
    count_multiply_adds,
    count_parameters,
    parts,
    trace_shapes,
    weighted_layers,
)

# By hand, Sec. 4.2 with batch norm and without biases: 97,216 n - 21,926 for plain and option A; the
# paper's Table 6 prints them as 0.27, 0.46, 0.66, 0.85, 1.7 and 19.4 million.
COUNTS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 1202: 19_421_274}
PRINTED = {20: "0.27", 32: "0.46", 44: "0.66", 56: "0.85", 110: "1.7", 1202: "19.4"}
# Each projection adds its 1x1 weights and a batch norm: B two of them, C one a block.
PROJECTED = {
    "resnet-20-B": 272_474,
    "resnet-20-C": 283_962,
    "resnet-56-B": 855_770,
    "resnet-56-C": 900_858,
}


@pytest.mark.parametrize("depth", COUNTS)
def test_plain_and_option_a_have_the_papers_parameters_to_the_unit(depth: int) -> None:
    plain, residual = on_meta(f"plain-{depth}"), on_meta(f"resnet-{depth}")
    assert count_parameters(plain) == count_parameters(residual) == COUNTS[depth]
    digits = len(PRINTED[depth].split(".")[1])
    assert f"{COUNTS[depth] / 1e6:.{digits}f}" == PRINTED[depth]
    shapes = [{n: tuple(p.shape) for n, p in net.named_parameters()} for net in (plain, residual)]
    assert shapes[0] == shapes[1]
    assert list(plain.state_dict()) == list(residual.state_dict())


@pytest.mark.parametrize("name", PROJECTED)
def test_projections_add_exactly_their_weights(name: str) -> None:
    assert count_parameters(on_meta(name)) == PROJECTED[name]


# Sec. 4.2, convolutions and classifier, in millions: plain and A.
CIFAR_MULTIPLY_ADDS = {20: "40.55", 32: "68.86", 44: "97.17", 56: "125.49", 110: "252.89"}

# Table 1 with batch norm and without biases: parameters (torchvision documents the same for 18 B, 34 B,
# 50, 101, 152) and multiply-adds in billions, which the paper prints as 1.8, 3.6, 3.8, 7.6 and 11.3.
IMAGENET_COUNTS = {
    "plain-18": (11_515_688, "1.795"),
    "resnet-18": (11_515_688, "1.795"),
    "resnet-18-B": (11_689_512, "1.814"),
    "plain-34": (21_623_848, "3.644"),
    "resnet-34": (21_623_848, "3.644"),
    "resnet-34-B": (21_797_672, "3.664"),
    "resnet-34-C": (22_716_840, "3.831"),
    "resnet-50": (25_557_032, "3.858"),
    "resnet-101": (44_549_160, "7.570"),
    "resnet-152": (60_192_808, "11.282"),
    "resnet-50-3x3": (25_557_032, "4.089"),
    "resnet-101-3x3": (44_549_160, "7.801"),
    "resnet-152-3x3": (60_192_808, "11.514"),
}

Convolution = tuple[int, int, int, int]  # kernel, channels in and out, side of the map it writes


def cifar_by_hand(depth: int, option: str) -> Iterator[Convolution]:
    """Sec. 4.2: 3x3/16, then 2n layers each on maps 32, 16, 8 with 16, 32, 64 filters."""
    n = (depth - 2) // 6
    yield 3, 3, 16, 32
    for before, width, side in ((16, 16, 32), (16, 32, 16), (32, 64, 8)):
        yield 3, before, width, side
        for _ in range(2 * n - 1):
            yield 3, width, width, side
        if option == "C" or (option == "B" and before != width):
            yield 1, before, width, side
        if option == "C":
            for _ in range(n - 1):
                yield 1, width, width, side


def table_1_by_hand(depth: int, option: str, stride_in: str) -> Iterator[Convolution]:
    """Table 1: 7x7/64 to 112, then conv2_x to conv5_x on maps 56, 28, 14, 7."""
    counts = {
        18: (2, 2, 2, 2),
        34: (3, 4, 6, 3),
        50: (3, 4, 6, 3),
        101: (3, 4, 23, 3),
        152: (3, 8, 36, 3),
    }
    yield 7, 3, 64, 112
    channels, came = 64, 56
    for width, side, count in zip((64, 128, 256, 512), (56, 28, 14, 7), counts[depth], strict=True):
        for _ in range(count):
            out = width if depth < 50 else 4 * width
            if depth < 50:
                yield 3, channels, width, side
                yield 3, width, width, side
            else:
                yield 1, channels, width, side if stride_in == "1x1" else came
                yield 3, width, width, side
                yield 1, width, out, side
            if option == "C" or (option == "B" and channels != out):
                yield 1, channels, out, side
            channels, came = out, side


def added_up(layers: list[Convolution], classes: int) -> tuple[int, int]:
    """Parameters (each convolution with a batch norm of two numbers a channel) and multiply-adds."""
    out = layers[-1][2]
    parameters = sum(k * k * i * o + 2 * o for k, i, o, _ in layers) + out * classes + classes
    return parameters, sum(k * k * i * o * side**2 for k, i, o, side in layers) + out * classes


@pytest.mark.parametrize("name", IMAGENET_COUNTS)
def test_table_1_to_the_unit(name: str) -> None:
    network = on_meta(name)
    parameters, multiply_adds = IMAGENET_COUNTS[name]
    assert count_parameters(network) == parameters
    assert f"{count_multiply_adds(network) / 1e9:.3f}" == multiply_adds


@pytest.mark.parametrize("option", SHORTCUTS)
@pytest.mark.parametrize(
    ("depth", "stride_in"),
    [(18, "1x1"), (34, "1x1"), (50, "1x1"), (50, "3x3"), (101, "1x1"), (101, "3x3"), (152, "1x1")],
)
def test_imagenet_counts_are_those_of_a_count_by_hand(depth: int, stride_in: Any, option: Any) -> None:
    layers = list(table_1_by_hand(depth, option, stride_in))
    spec = Network.parse({"depth": depth, "shortcut": option, "stride_in": stride_in})
    found = census(spec)
    assert (found["parameters"], found["macs"]) == added_up(layers, 1000)
    assert found["layers"] == depth
    assert found["layers"] + found["projections"] == len(layers) + 1


@pytest.mark.parametrize("option", SHORTCUTS)
@pytest.mark.parametrize("depth", [8, 14, 20, 26, 50, 56, 98, 110, 152, 164])
def test_cifar_counts_are_those_of_a_count_by_hand(depth: int, option: Any) -> None:
    layers = list(cifar_by_hand(depth, option))
    found = census(Network.parse({"depth": depth, "shortcut": option, "design": "cifar"}))
    assert (found["parameters"], found["macs"]) == added_up(layers, 10)
    assert found["layers"] + found["projections"] == len(layers) + 1
    if option in ("none", "A"):
        assert found["parameters"] == 97_216 * (depth - 2) // 6 - 21_926
    if option in ("none", "A") and depth in CIFAR_MULTIPLY_ADDS:
        assert f"{found['macs'] / 1e6:.2f}" == CIFAR_MULTIPLY_ADDS[depth]


@pytest.mark.parametrize("depth", CIFAR_MULTIPLY_ADDS)
def test_multiply_adds_of_section_4_2(depth: int) -> None:
    for name in (f"plain-{depth}", f"resnet-{depth}"):
        assert f"{count_multiply_adds(on_meta(name)) / 1e6:.2f}" == CIFAR_MULTIPLY_ADDS[depth]


@pytest.mark.parametrize(
    ("single", "basic"), [("resnet-20-single", "plain-20"), ("resnet-34-single", "plain-34")]
)
def test_single_layer_blocks_cost_what_the_plain_network_costs(single: str, basic: str) -> None:
    ours, theirs = (census(Network.from_name(name)) for name in (single, basic))
    assert ours == theirs
    assert len(blocks(on_meta(single))) == ours["layers"] - 2


def test_multiply_adds_follow_the_size_and_leave_the_network_alone() -> None:
    network = build("resnet-18", generator=generator()).train()
    before = state(network)
    native = count_multiply_adds(network)
    classifier = 512 * 1000
    assert count_multiply_adds(network, 448) - classifier == 4 * (native - classifier)
    assert same(before, state(network))
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_counts_follow_classes_and_channels() -> None:
    base = count_parameters(on_meta("resnet-20"))
    assert count_parameters(on_meta("resnet-20", num_classes=100)) == base + 90 * 65
    assert count_parameters(on_meta("resnet-20", in_channels=1)) == base - 2 * 9 * 16


@pytest.mark.parametrize("depth", [8, 20, 56, 110])
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_depth_counts_the_weighted_layers(depth: int, shortcut: Any) -> None:
    with torch.device("meta"):
        layers = weighted_layers(build(Network(depth=depth, shortcut=shortcut)))
    main = [name for name in layers if ".shortcut." not in name]
    assert len(main) == depth
    projections = {"none": 0, "A": 0, "B": 2, "C": (depth - 2) // 2}  # C: one a block, 3n of them
    assert len(layers) - len(main) == projections[shortcut]


@pytest.mark.parametrize("name", NAMES)
def test_weighted_layers_come_in_the_order_of_the_forward_pass(name: str) -> None:
    network, seen = build(name), list[str]()
    for layer_name, layer in weighted_layers(network).items():
        layer.register_forward_hook(lambda *_, name=layer_name: seen.append(name))
    network.eval()(torch.zeros(1, 3, 8, 8))
    assert seen == list(weighted_layers(network))


# --- shapes and parts -------------------------------------------------------------------------


def test_trace_shapes_reports_what_hooks_see_and_leaves_the_network_alone() -> None:
    network = build("resnet-20-B").train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    rows = {row["part"]: row for row in trace_shapes(network, (3, 32, 32))}
    assert rows["stage2"]["output"] == "32 x 16 x 16"
    assert rows["stage3"]["output"] == "64 x 8 x 8"
    assert sum(int(str(row["parameters"])) for row in rows.values()) == 272_474
    assert sum(int(str(row["weighted layers"])) for row in rows.values()) == 20 + 2
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_trace_shapes_of_table_1() -> None:
    rows = {row["part"]: row for row in trace_shapes(on_meta("resnet-50"), (3, 224, 224))}
    assert rows["stage4"]["output"] == "2048 x 7 x 7"
    assert sum(int(str(row["parameters"])) for row in rows.values()) == 25_557_032
    assert sum(int(str(row["weighted layers"])) for row in rows.values()) == 50 + 4


@pytest.mark.parametrize(
    ("name", "size"),
    [("plain-20", 32), ("resnet-20", 8), ("resnet-56-B", 32), ("resnet-20-C", 32), ("resnet-50", 224)],
)
def test_the_parts_add_up_to_the_network(name: str, size: int) -> None:
    network = build(name)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    rows = parts(network, size)
    assert sum(part["parameters"] for part in rows) == count_parameters(network)
    assert sum(part["multiply_adds"] for part in rows) == count_multiply_adds(network, size)
    assert [layer["name"] for part in rows for layer in part["layers"]] == list(
        weighted_layers(network)
    )
    assert len(rows) == 2 + sum(network.spec.blocks)
    for before, after in itertools.pairwise(rows):
        assert before["shape_out"] == after["shape_in"]
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert network.training


def test_the_anatomy_of_resnet_20_by_hand() -> None:
    rows = {part["name"]: part for part in parts(build("resnet-20"), 32)}
    block = rows["stage2.0"]
    assert (block["stage"], block["kind"], block["shortcut"]) == (2, "basic", "padded")
    assert (block["shape_in"], block["shape_out"]) == ([16, 32, 32], [32, 16, 16])
    assert block["parameters"] == 9 * 16 * 32 + 9 * 32 * 32 + 4 * 32
    assert block["multiply_adds"] == 16 * 16 * (9 * 16 * 32 + 9 * 32 * 32)
    assert block["layers"][0] == {
        "name": "stage2.0.residual.conv1", "kernel": 3, "stride": 2, "filters": 32,
    }  # fmt: skip
    assert rows["stage2.1"]["shortcut"] == "identity"
    assert (rows["conv"]["stage"], rows["classifier"]["stage"]) == (0, 4)
    assert rows["classifier"]["shape_out"] == [10]
    options = {name: parts(build(name), 32)[1]["shortcut"] for name in ("plain-20", "resnet-20-C")}
    assert options == {"plain-20": "none", "resnet-20-C": "projection"}
