"""The networks: parameter counts to the unit, shapes, shortcuts, initialisation."""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy, relu

from resnetlab.config import SHORTCUTS, Network, UsageError
from resnetlab.nets import (
    BatchNorm,
    CifarNetwork,
    ImageNetNetwork,
    blocks,
    build,
    census,
    check_size,
    count_multiply_adds,
    count_parameters,
    load_torchvision,
    recompute_activations,
    to_torchvision,
    trace_shapes,
    use_ghost_batches,
    weighted_layers,
)
from resnetlab.nets.anatomy import observe
from resnetlab.nets.models import Block, PaddedIdentity, Projection, initialise, make_block

NAMES = ["plain-14", "resnet-14", "resnet-14-B", "resnet-14-C"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_meta(name: str, **kwargs: Any) -> CifarNetwork | ImageNetNetwork:
    """The network without memory: names, shapes and counts only."""
    with torch.device("meta"):
        return build(name, **kwargs)


# --- counts -----------------------------------------------------------------------------------

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


# --- structure --------------------------------------------------------------------------------


def test_the_network_is_that_of_section_4_2() -> None:
    network = build("resnet-20")
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(layer.kernel_size == (3, 3) for layer in convolutions)
    assert all(layer.bias is None for layer in convolutions)
    assert [layer.out_channels for layer in convolutions] == [16] * 7 + [32] * 6 + [64] * 6
    assert network.classifier.in_features == 64
    assert network.classifier.bias is not None


@pytest.mark.parametrize("name", NAMES)
def test_strides_stand_in_the_first_convolution_of_stages_two_and_three_only(name: str) -> None:
    strided = [
        layer_name
        for layer_name, module in build(name).named_modules()
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1)
        if ".shortcut." not in layer_name
    ]
    assert strided == ["stage2.0.residual.conv1", "stage3.0.residual.conv1"]


@pytest.mark.parametrize("name", NAMES)
def test_every_convolution_without_bias_is_followed_by_its_batch_norm(name: str) -> None:
    network, seen = build(name), list[nn.Module]()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_hook(lambda module, *_: seen.append(module))
    network.eval()(torch.zeros(1, 3, 8, 8))
    for convolution, norm in zip(seen[::2], seen[1::2], strict=True):
        assert isinstance(convolution, nn.Conv2d)
        assert convolution.bias is None
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.num_features == convolution.out_channels


def test_the_first_batch_norm_is_really_used() -> None:
    network = build("plain-8").eval()
    x = torch.randn(2, 3, 8, 8, generator=generator())
    before = network(x)
    with torch.no_grad():
        network.bn.weight.mul_(0)
    assert not torch.equal(network(x), before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "halves"), [(8, (8, 4, 2)), (9, (9, 5, 3)), (32, (32, 16, 8))])
@pytest.mark.parametrize(("classes", "channels"), [(10, 3), (3, 1), (100, 4)])
def test_shapes_after_every_stage(
    name: str, size: int, halves: tuple[int, int, int], classes: int, channels: int
) -> None:
    network = build(name, num_classes=classes, in_channels=channels)
    seen = {}
    for part, module in network.named_children():
        module.register_forward_hook(lambda _m, _i, out, part=part: seen.update({part: out.shape}))
    logits = network(torch.zeros(2, channels, size, size))
    first, second, third = halves
    assert seen["conv"] == seen["bn"] == seen["stage1"] == (2, 16, first, first)
    assert seen["stage2"] == (2, 32, second, second)
    assert seen["stage3"] == (2, 64, third, third)
    assert logits.shape == (2, classes)


@pytest.mark.parametrize("name", ["resnet-20-B", "resnet-34-B"])
def test_the_shapes_at_line_ends_of_the_forward_pass_are_those_that_come_out(name: str) -> None:
    network = on_meta(name).eval()
    source = inspect.getsource(type(network).forward)
    written = dict(re.findall(r"self\.(\w+)\(.*# \(B, ([\d, ]+)\)", source))
    size = network.spec.native_size
    parts = {part: module for part, module in network.named_children() if part in written}
    found = observe(network, parts, torch.empty(1, 3, size, size, device="meta"), lambda _, y: y.shape)
    assert {part: ", ".join(map(str, shape[1:])) for part, shape in found.items()} == written
    assert set(written) == set(dict(network.named_children())) - {"conv", "classifier"}
    assert f"x: Tensor) -> Tensor:  # (B, 3, {size}, {size})" in source
    assert f"return logits  # (B, {network.classifier.out_features})" in source


def test_every_forward_pass_says_its_shapes() -> None:
    for path in Path(inspect.getfile(CifarNetwork)).parent.glob("*.py"):
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "forward":
                ends = [node.lineno, *(n.lineno for n in ast.walk(node) if isinstance(n, ast.Return))]
                bare = [lines[n - 1].strip() for n in ends if "# (B, " not in lines[n - 1]]
                assert not bare, f"{path.name}: {bare}"


def test_a_larger_image_and_a_single_one_in_evaluation_pass() -> None:
    assert build("resnet-8").eval()(torch.zeros(1, 3, 40, 40)).shape == (1, 10)


@pytest.mark.parametrize(
    "shape",
    [(2, 3, 8, 9), (2, 3, 7, 7), (2, 1, 8, 8), (2, 4, 8, 8), (3, 8, 8), (2, 8, 8, 3), (2, 3, 8, 8, 1)],
)
def test_images_of_another_shape_are_refused_with_both_shapes_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"resnet-8 takes images \(batch, 3, S, S\)") as caught:
        build("resnet-8")(torch.zeros(shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("count", [0, -1, 1.0, "10", True])
@pytest.mark.parametrize("what", ["num_classes", "in_channels"])
def test_counts_below_one_or_of_another_type_are_refused(what: str, count: Any) -> None:
    with pytest.raises(UsageError, match=what):
        build("resnet-8", **{what: count})


def test_names_and_networks_build_the_same() -> None:
    assert build("resnet-14-B").spec == build(Network(depth=14, shortcut="B")).spec
    with pytest.raises(UsageError, match="20 and 26"):
        build("resnet-21")
    with pytest.raises(UsageError, match="unknown network"):
        build("densenet-20")


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


# --- structure of Table 1 ---------------------------------------------------------------------

IMAGENET_NAMES = [
    *("plain-18", "resnet-18", "resnet-18-C", "resnet-18-single", "resnet-34-B"),
    *("plain-50", "resnet-50", "resnet-50-A", "resnet-50-C", "resnet-50-3x3", "resnet-101"),
]


@pytest.mark.parametrize("name", [*IMAGENET_NAMES, "plain-34", "resnet-152"])
def test_shapes_of_table_1_at_224(name: str) -> None:
    network = on_meta(name).eval()
    seen, blocks = {}, dict[str, set[tuple[int, ...]]]()
    for part, module in network.named_children():
        module.register_forward_hook(lambda _m, _i, out, part=part: seen.update({part: out.shape}))
        if part.startswith("stage"):
            for block in module.children():
                block.register_forward_hook(
                    lambda _m, _i, out, part=part: blocks.setdefault(part, set()).add(tuple(out.shape))
                )
    logits = network(torch.empty(2, 3, 224, 224, device="meta"))
    wider = 4 if network.spec.block == "bottleneck" else 1
    assert seen["conv"] == seen["bn"] == (2, 64, 112, 112)
    assert seen["pool"] == (2, 64, 56, 56)
    for stage, (width, side) in enumerate(((64, 56), (128, 28), (256, 14), (512, 7)), start=1):
        assert seen[f"stage{stage}"] == (2, width * wider, side, side)
        assert blocks[f"stage{stage}"] == {(2, width * wider, side, side)}  # the first has the stride
    assert logits.shape == (2, 1000)


@pytest.mark.parametrize("name", [*IMAGENET_NAMES, "plain-50-3x3"])
def test_only_the_first_block_of_conv3_to_conv5_strides_and_in_the_right_place(name: str) -> None:
    network = on_meta(name)
    convolutions = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    strided = [n for n, m in convolutions if m.stride != (1, 1) and ".shortcut." not in n]
    where = "conv2" if name.endswith("3x3") else "conv1"
    assert strided == ["conv", *(f"stage{stage}.0.residual.{where}" for stage in (2, 3, 4))]
    beside = [n for n, m in convolutions if m.stride != (1, 1) and ".shortcut." in n]
    projects = network.spec.shortcut in ("B", "C")
    assert beside == [f"stage{stage}.0.shortcut.conv" for stage in (2, 3, 4) if projects]
    assert all(m.stride in ((1, 1), (2, 2)) for _, m in convolutions)
    assert (network.pool.kernel_size, network.pool.stride, network.pool.padding) == (3, 2, 1)


@pytest.mark.parametrize(
    ("name", "kernels", "filters"),
    [
        ("resnet-34", [3, 3], [128, 128]),
        ("plain-50", [1, 3, 1], [128, 128, 512]),
        ("resnet-50-3x3", [1, 3, 1], [128, 128, 512]),
        ("resnet-18-single", [3], [128]),
    ],
)
def test_a_block_is_that_of_figure_5(name: str, kernels: list[int], filters: list[int]) -> None:
    block = on_meta(name).stage2[1]
    layers = [m for m in block.residual if isinstance(m, nn.Conv2d)]
    assert [m.kernel_size for m in layers] == [(k, k) for k in kernels]
    assert [m.out_channels for m in layers] == filters
    assert all(m.padding == (k // 2, k // 2) for m, k in zip(layers, kernels, strict=True))
    assert isinstance(block.residual[-1], BatchNorm)  # no ReLU before the addition


@pytest.mark.parametrize("name", IMAGENET_NAMES)
def test_every_layer_of_table_1_has_its_batch_norm_and_no_bias(name: str) -> None:
    network, seen = on_meta(name).eval(), list[nn.Module]()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_hook(lambda module, *_: seen.append(module))
    network(torch.empty(1, 3, 64, 64, device="meta"))
    for convolution, norm in zip(seen[::2], seen[1::2], strict=True):
        assert isinstance(convolution, nn.Conv2d)
        assert convolution.bias is None
        assert isinstance(norm, BatchNorm)
        assert norm.num_features == convolution.out_channels
    assert network.classifier.bias is not None


@pytest.mark.parametrize("name", IMAGENET_NAMES)
def test_the_order_of_layers_is_that_of_the_forward_pass(name: str) -> None:
    network, seen = on_meta(name).eval(), list[str]()
    for layer_name, layer in weighted_layers(network).items():
        layer.register_forward_hook(lambda *_, name=layer_name: seen.append(name))
    network(torch.empty(1, 3, 64, 64, device="meta"))
    assert seen == list(weighted_layers(network))
    assert len([n for n in seen if ".shortcut." not in n]) == network.spec.depth


def test_plain_and_option_a_of_table_1_have_equal_names_and_shapes() -> None:
    for depth in (18, 34):
        plain, residual = on_meta(f"plain-{depth}"), on_meta(f"resnet-{depth}")
        assert [(n, p.shape) for n, p in plain.named_parameters()] == [
            (n, p.shape) for n, p in residual.named_parameters()
        ]


@pytest.mark.parametrize(
    ("option", "kinds"),
    [
        ("A", [PaddedIdentity, nn.Identity, nn.Identity]),  # 64 to 256 channels on the same map
        ("B", [Projection, nn.Identity, nn.Identity]),
        ("C", [Projection] * 3),
        ("none", [type(None)] * 3),
    ],
)
def test_shortcuts_of_the_first_bottleneck_stage(option: Any, kinds: list[type]) -> None:
    with torch.device("meta"):
        network = build(Network(depth=50, shortcut=option))
    assert [type(block.shortcut) for block in network.stage1] == kinds
    assert all(isinstance(block, Block) for block in network.stage1)


def test_a_single_layer_block_is_nearly_linear() -> None:
    block = build("resnet-8-single").stage1[0].eval()
    x = torch.randn(2, 16, 8, 8, generator=generator())
    wanted = torch.relu(conv2d(x, block.residual.conv1.weight, padding=1) / (1 + 1e-5) ** 0.5 + x)
    torch.testing.assert_close(block(x), wanted)


def test_images_need_not_be_square_and_small_ones_are_refused() -> None:
    network = on_meta("resnet-18", num_classes=7).eval()
    assert network(torch.empty(1, 3, 160, 192, device="meta")).shape == (1, 7)
    assert network(torch.empty(1, 3, 32, 33, device="meta")).shape == (1, 7)
    for shape in ((1, 3, 31, 64), (1, 3, 64, 31), (1, 1, 64, 64), (3, 64, 64)):
        with pytest.raises(ValueError, match=r"resnet-18 takes images \(batch, 3, H, W\)") as caught:
            network(torch.empty(shape, device="meta"))
        assert "H, W >= 32" in str(caught.value)
        assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("plain-34", (28, 28), "28x28 are too small for plain-34, which needs 32.*such as 20 or 32"),
        ("resnet-50", (8, 8), "8x8 are too small for resnet-50, .* is cifar-resnet-50$"),
        ("resnet-50-3x3", (224, 31), "31x224 are too small.* is cifar-resnet-50$"),
        ("plain-152", (31, 224), "224x31 are too small.* is cifar-plain-152$"),
        ("resnet-20", (7, 32), "32x7 are too small for resnet-20, which needs 8 pixels or more$"),
    ],
)
def test_too_small_images_are_refused_before_any_training(
    name: str, size: tuple[int, int], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        check_size(Network.from_name(name), *size)
    proposed = str(caught.value).partition("small images is ")[2]
    assert not proposed or Network.from_name(proposed).design == "cifar"
    check_size(Network.from_name(name), 32, 32)


def test_trace_shapes_of_table_1() -> None:
    rows = {row["part"]: row for row in trace_shapes(on_meta("resnet-50"), (3, 224, 224))}
    assert rows["stage4"]["output"] == "2048 x 7 x 7"
    assert sum(int(str(row["parameters"])) for row in rows.values()) == 25_557_032
    assert sum(int(str(row["weighted layers"])) for row in rows.values()) == 50 + 4


def test_the_stride_is_in_the_name_and_the_classes_are_the_designs() -> None:
    assert on_meta("resnet-50-3x3").spec.stride_in == "3x3"
    assert on_meta("resnet-50").spec.stride_in == "1x1"
    assert on_meta("resnet-50").classifier.out_features == 1000
    assert on_meta("cifar-resnet-50").classifier.out_features == 10
    with pytest.raises(UsageError, match="stride_in 3x3 is a choice of bottleneck blocks"):
        build("resnet-34-3x3")


def test_pooling_then_classifying_is_the_mean_of_the_1x1_convolutions_score_map() -> None:
    network = perturbed(build("resnet-18", num_classes=7, generator=generator())).double().eval()
    features: list[Tensor] = []
    network.stage4.register_forward_hook(lambda _m, _i, out: features.append(out))
    with torch.no_grad():
        logits = network(torch.randn(2, 3, 96, 160, generator=generator(1), dtype=torch.float64))
        weight, bias = network.classifier.weight, network.classifier.bias
        score_map = conv2d(features[0], weight[:, :, None, None], bias)  # (2, 7, 3, 5)
    assert score_map.shape == (2, 7, 3, 5)
    assert score_map.std(dim=(2, 3)).min() > 0
    torch.testing.assert_close(logits, score_map.mean(dim=(2, 3)))


# --- shortcuts --------------------------------------------------------------------------------


def test_option_a_takes_every_second_pixel_and_pads_half_before_half_after() -> None:
    x = torch.randn(2, 16, 9, 9, generator=generator())
    y = PaddedIdentity(16, 32, 2)(x)
    assert y.shape == (2, 32, 5, 5)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()
    assert not list(PaddedIdentity(16, 32, 2).parameters())


def test_zeros_at_the_end_or_split_half_and_half() -> None:
    x = torch.randn(2, 16, 8, 8)
    split, end = PaddedIdentity(16, 32, 2)(x), PaddedIdentity(16, 32, 2, "end")(x)
    kept = x[:, :, ::2, ::2]
    assert torch.equal(split[:, 8:24], kept)
    assert torch.equal(end[:, :16], kept)
    assert not end[:, 16:].any()
    odd = PaddedIdentity(16, 31, 1, "end")(x)
    assert torch.equal(odd[:, :16], x)
    assert odd.shape[1] == 31


class PublishedBlock(nn.Module):
    """A basic block as published with weights named conv_a, bn_a, conv_b, bn_b (ResNeXt-DenseNet)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.grows = stride, width != channels
        self.conv_a = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn_a = nn.BatchNorm2d(width)
        self.conv_b = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn_b = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn_b(self.conv_b(relu(self.bn_a(self.conv_a(x)))))
        if self.grows:  # its DownsampleA: an average pool of size 1, and x times zero behind it
            x = nn.functional.avg_pool2d(x, 1, self.stride)
            x = torch.cat((x, x.mul(0)), 1)
        return relu(x + out)


class Published(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv_1_3x3 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn_1 = nn.BatchNorm2d(16)
        widths = ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        for number, (channels, width, stride) in enumerate(widths, 1):
            blocks = [PublishedBlock(channels, width, stride)]
            blocks += [PublishedBlock(width, width, 1) for _ in range(n - 1)]
            setattr(self, f"stage_{number}", nn.Sequential(*blocks))
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.bn_1(self.conv_1_3x3(x)))
        x = self.stage_3(self.stage_2(self.stage_1(x)))  # type: ignore[operator]
        logits: Tensor = self.classifier(nn.functional.avg_pool2d(x, 8).flatten(1))
        return logits


def test_weights_published_with_the_zeros_at_the_end_give_their_logits() -> None:
    """By name and shape they fit both; only `zeros` tells which function they were trained as."""
    torch.manual_seed(0)
    theirs = Published(3).eval()
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
                nn.init.normal_(module.running_mean, std=0.2)
    names = {"conv_1_3x3": "conv", "bn_1": "bn", "stage_": "stage"}
    names |= {"conv_a": "residual.conv1", "bn_a": "residual.bn1"}
    names |= {"conv_b": "residual.conv2", "bn_b": "residual.bn2"}
    state = {}
    for name, value in theirs.state_dict().items():
        for published, ours in names.items():
            name = name.replace(published, ours)
        state[name] = value
    images = torch.randn(4, 3, 32, 32)
    found = {}
    for name in ("resnet-20-zeros-end", "resnet-20"):
        network = build(name).eval()
        network.load_state_dict(state)
        found[name] = network(images)
    torch.testing.assert_close(found["resnet-20-zeros-end"], theirs(images), rtol=1e-5, atol=1e-5)
    assert float((found["resnet-20"] - theirs(images)).detach().abs().max()) > 0.1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("plain-20-zeros-end", "has no shortcuts"),
        ("resnet-20-B-zeros-end", "has option B"),
        ("resnet-50-zeros-end", "has option B"),
    ],
)
def test_only_option_a_has_zeros(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"zeros 'end' is a choice of shortcut option A, .*{said}"):
        build(name)


def test_the_place_of_the_zeros_is_in_the_name_and_not_written_where_it_is_usual() -> None:
    spec = Network.from_name("resnet-34-zeros-end")
    assert (spec.zeros, spec.name) == ("end", "resnet-34-zeros-end")
    assert spec.model_dump()["zeros"] == "end"
    assert "zeros" not in Network.from_name("resnet-34").model_dump()
    assert build("resnet-34-zeros-end", num_classes=3).stage2[0].shortcut.padding[4:] == (0, 64)


@pytest.mark.parametrize(
    ("option", "within", "growing"),
    [
        ("A", nn.Identity, PaddedIdentity),
        ("B", nn.Identity, Projection),
        ("C", Projection, Projection),
        ("none", type(None), type(None)),
    ],
)
def test_each_option_stands_where_section_3_3_puts_it(option: Any, within: type, growing: type) -> None:
    network = build(Network(depth=14, shortcut=option))
    kinds = [type(b.shortcut) for b in network.modules() if isinstance(b, Block)]
    assert kinds == [within, within, growing, within, growing, within]


def basic_block(in_channels: int, width: int, stride: int, option: Any) -> Block:
    return make_block(in_channels, width, stride, Network(depth=20, shortcut=option))


def zeroed(block: Block) -> Block:
    """The block with a residual branch that gives exactly zero."""
    with torch.no_grad():
        bn = block.residual.get_submodule("bn2")
        assert isinstance(bn, nn.BatchNorm2d)
        bn.weight.zero_()
    return block.eval()


def test_with_a_zero_residual_the_block_is_relu_of_the_shortcut() -> None:
    x = torch.randn(2, 16, 8, 8, generator=generator())
    assert torch.equal(zeroed(basic_block(16, 16, 1, "A"))(x), x.relu())
    wide = zeroed(basic_block(16, 32, 2, "A"))(x)
    assert torch.equal(wide[:, 8:24], x[:, :, ::2, ::2].relu())
    assert not zeroed(basic_block(16, 16, 1, "none"))(x).any()


def test_the_second_relu_stands_after_the_addition() -> None:
    block = basic_block(16, 16, 1, "A").eval()
    x = torch.randn(2, 16, 8, 8, generator=generator())
    assert torch.equal(block(x), torch.relu(block.residual(x) + x))
    assert (block.residual(x) < 0).any(), "no ReLU at the end of the residual branch"


def test_a_projection_is_a_1x1_convolution_and_batch_norm() -> None:
    projection = Projection(16, 32, 2)
    assert (projection.conv.kernel_size, projection.conv.stride) == ((1, 1), (2, 2))
    assert projection.conv.bias is None
    x = torch.randn(2, 16, 8, 8, generator=generator())
    wanted = projection.bn(
        torch.einsum("oc,bchw->bohw", projection.conv.weight[:, :, 0, 0], x[..., ::2, ::2])
    )
    torch.testing.assert_close(projection(x), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_no_operation_changes_a_stored_response(name: str) -> None:
    network, stored = build(name), list[tuple[Tensor, Tensor]]()

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        stored.extend((tensor, tensor.clone()) for tensor in (*inputs, output))

    for module in network.modules():
        module.register_forward_hook(keep)
    network(torch.randn(4, 3, 8, 8, generator=generator()))
    assert len(stored) > 50
    assert all(torch.equal(tensor, copy) for tensor, copy in stored)


# --- gradients and initialisation -------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = build(name, generator=generator())
    images = torch.randn(8, 3, 8, 8, generator=generator(1))
    nn.functional.cross_entropy(network(images), torch.arange(8)).backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", IMAGENET_NAMES[:-1])
def test_every_parameter_of_an_imagenet_network_gets_a_gradient(name: str) -> None:
    network = build(name, num_classes=5, generator=generator())
    images = torch.randn(4, 3, 64, 64, generator=generator(1))
    cross_entropy(network(images), torch.arange(4)).backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


# Of each network with seed 0: state_dict's names (sha256), the last weight that is drawn, the sum of
# all squared parameters, and in float64 loss and total gradient norm of one batch. A change of any of
# them breaks every committed run: same names, same order of draws, same function. Last bits are the
# processor's, hence the tolerances.
FINGERPRINTS = {
    "plain-20": ("e79e0ce83a14", -0.3248456, 2085.50138, 1.9407044, 27.505225),
    "resnet-20": ("e79e0ce83a14", -0.3248456, 2085.50138, 2.4693988, 15.785042),
    "resnet-20-B": ("900c8f8133df", -0.08812108, 2363.32282, 2.8602252, 19.821643),
    "resnet-20-C": ("ab07b08bc583", -0.2234465, 3093.36883, 2.4580105, 24.532617),
    "resnet-56-B": ("a80420158864", 0.2444595, 6404.76969, 3.7434268, 146.20521),
    "plain-18": ("1e82c51c59f1", 0.02133558, 11732.2351, 2.6136329, 111.56488),
    "resnet-34-C": ("85d4aff9129d", 0.04430425, 34184.8641, 2.8138957, 708.39052),
    "resnet-50": ("27c5ffbf5e19", 0.001208345, 79714.7137, 2.1401682, 1611.784),
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_names_first_weights_and_function_of_a_seed_stay(name: str) -> None:
    names, last, squares, loss, gradient = FINGERPRINTS[name]
    network = build(name, num_classes=10, generator=generator())
    assert hashlib.sha256("\n".join(network.state_dict()).encode()).hexdigest().startswith(names)
    assert network.classifier.weight[-1, -1].item() == pytest.approx(last, rel=1e-5)
    parameters = [parameter.detach().double() for parameter in network.parameters()]
    assert float(sum(p.square().sum() for p in parameters)) == pytest.approx(squares, rel=1e-6)
    size = 64 if network.spec.design == "imagenet" else 16
    images = torch.randn(4, 3, size, size, generator=generator(1), dtype=torch.float64)
    found = cross_entropy(network.double()(images), torch.arange(4))
    found.backward()
    assert found.item() == pytest.approx(loss, rel=1e-4)
    total = nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
    assert float(total) == pytest.approx(gradient, rel=1e-3)


def test_weights_start_as_in_he_et_al_2015() -> None:
    network = build("resnet-20-C", generator=generator())
    for name, layer in weighted_layers(network).items():
        fan_in = layer.weight[0].numel()
        wanted = (2 / fan_in) ** 0.5
        # The spread of a sample standard deviation is about 1/sqrt(2N): five of those.
        tolerance = 5 * wanted / (2 * layer.weight.numel()) ** 0.5
        assert abs(float(layer.weight.detach().std()) - wanted) < tolerance, name
        assert abs(float(layer.weight.detach().mean())) < 5 * wanted / layer.weight.numel() ** 0.5, name
    assert network.classifier.bias is not None
    assert not network.classifier.bias.any()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()
            assert not module.running_mean.any()  # type: ignore[union-attr]
            assert (module.running_var == 1).all()  # type: ignore[union-attr, operator]


def perturbed(network: nn.Module) -> nn.Module:
    """Batch norms away from the identity, so that a statistic in the wrong place is seen."""
    random = generator(7)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.5, 1.5, generator=random)
                for tensor in (module.bias, module.running_mean):
                    tensor.normal_(0, 0.3, generator=random)
    return network


def state(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_weights_are_the_generators_alone() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = state(build("resnet-14-B", generator=generator(5)))
        torch.manual_seed(2)
        second = state(build("resnet-14-B", generator=generator(5)))
        assert same(first, second)
        assert not same(first, state(build("resnet-14-B", generator=generator(6))))


def test_plain_and_option_a_start_from_the_same_weights() -> None:
    plain = state(build("plain-20", generator=generator(3)))
    assert same(plain, state(build("resnet-20", generator=generator(3))))


def test_initialise_with_a_generator_leaves_the_global_state_alone() -> None:
    network = build("resnet-8")
    before = torch.get_rng_state()
    initialise(network, generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_global_seed_decides() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = state(build("resnet-8"))
        torch.manual_seed(1)
        assert same(first, state(build("resnet-8")))
        assert not same(first, state(build("resnet-8")))


# --- ghost batches ----------------------------------------------------------------------------


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


# --- activations computed again ---------------------------------------------------------------


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


# --- torchvision's weights --------------------------------------------------------------------

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
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in LARGE_PAIRS.items()),
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
    refused(network, {"state_dict": good}, "missing")
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
