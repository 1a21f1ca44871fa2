"""The networks: structure, shapes, shortcuts, initialisation."""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import NAMES, generator, on_meta, perturbed, same, state
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy, relu

from resnetlab.config import Network, UsageError
from resnetlab.nets import BatchNorm, CifarNetwork, build, weighted_layers
from resnetlab.nets.anatomy import observe
from resnetlab.nets.models import Block, PaddedIdentity, Projection, initialise, make_block

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
