"""The networks: parameter counts to the unit, shapes, shortcuts, initialisation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resnetlab.config import SHORTCUTS, Network, UsageError
from resnetlab.models import (
    BasicBlock,
    CifarNetwork,
    PaddedIdentity,
    Projection,
    build,
    count_parameters,
    initialise,
    trace_shapes,
    weighted_layers,
)

NAMES = ["plain-14", "resnet-14", "resnet-14-B", "resnet-14-C"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_meta(name: str, **kwargs: Any) -> CifarNetwork:
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


# --- shortcuts --------------------------------------------------------------------------------


def test_option_a_takes_every_second_pixel_and_pads_half_before_half_after() -> None:
    x = torch.randn(2, 16, 9, 9, generator=generator())
    y = PaddedIdentity(16, 32, 2)(x)
    assert y.shape == (2, 32, 5, 5)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()
    assert not list(PaddedIdentity(16, 32, 2).parameters())


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
    kinds = [type(b.shortcut) for b in network.modules() if isinstance(b, BasicBlock)]
    assert kinds == [within, within, growing, within, growing, within]


def zeroed(block: BasicBlock) -> BasicBlock:
    """The block with a residual branch that gives exactly zero."""
    with torch.no_grad():
        bn = block.residual.get_submodule("bn2")
        assert isinstance(bn, nn.BatchNorm2d)
        bn.weight.zero_()
    return block.eval()


def test_with_a_zero_residual_the_block_is_relu_of_the_shortcut() -> None:
    x = torch.randn(2, 16, 8, 8, generator=generator())
    assert torch.equal(zeroed(BasicBlock(16, 16, 1, "A"))(x), x.relu())
    wide = zeroed(BasicBlock(16, 32, 2, "A"))(x)
    assert torch.equal(wide[:, 8:24], x[:, :, ::2, ::2].relu())
    assert not zeroed(BasicBlock(16, 16, 1, "none"))(x).any()


def test_the_second_relu_stands_after_the_addition() -> None:
    block = BasicBlock(16, 16, 1, "A").eval()
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
