"""Probes: right to the last digit, and without a trace."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from resnetlab.config import UsageError
from resnetlab.nets import (
    BatchNorm,
    build,
    count_parameters,
    parts,
    recompute_activations,
    weighted_layers,
    without_norm,
)
from resnetlab.nets.probes import (
    Weights,
    activation_scales,
    batch_gradient_norms,
    batch_gradients,
    gradient_correlation,
    gradient_error,
    gradient_norms,
    input_gradients,
    layer_responses,
    response_layers,
    saved_bytes,
    segment,
    total_gradient_norm,
)
from resnetlab.training import train_step

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


@pytest.mark.parametrize("probe", [gradient_norms, total_gradient_norm])
@pytest.mark.parametrize("training", [True, False])
def test_a_probe_leaves_no_trace(training: bool, probe: Callable[[nn.Module], Tensor]) -> None:
    network = backward("resnet-8-C").train(training)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    rng, threads = torch.get_rng_state(), torch.get_num_threads()
    norms = probe(network)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradients[name])
        assert parameter.requires_grad
    assert all(module.training == training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.get_num_threads() == threads
    assert not norms.requires_grad
    assert torch.equal(probe(network), norms)


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


@pytest.mark.parametrize("name", NAMES)
def test_all_layers_together_have_the_norm_that_clipping_reports(name: str) -> None:
    network = backward(name)
    total = total_gradient_norm(network)
    torch.testing.assert_close(total, nn.utils.clip_grad_norm_(network.parameters(), 1e9))
    with pytest.raises(ValueError, match=r"parameter conv\.weight has no gradient"):
        total_gradient_norm(build("plain-8"))


def test_weights_and_their_steps_by_hand() -> None:
    network = build("plain-8", generator=torch.Generator().manual_seed(0))
    layers = list(weighted_layers(network).values())
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
        layers[0].weight[0, 0] = 2.0  # nine twos: length 6
        layers[1].weight[0, 0, 0, 0] = 5.0
    before = Weights(network)
    with torch.no_grad():
        layers[0].weight[0, 0] += 1.0  # nine ones: length 3
        layers[1].weight[0, 0, 0, 0] = -5.0
        layers[2].weight[0, 0, 0, 0] = 1.0
    assert before.norms().tolist() == [6.0, 5.0, *[0.0] * 6]
    moved = before.relative_steps()
    assert moved[:2].tolist() == [0.5, 2.0]
    assert moved[2].isinf()  # from nothing
    assert moved[3:].isnan().all()  # nothing over nothing


def test_the_relative_step_does_not_see_the_scale_of_the_weights() -> None:
    """Behind a batch norm c w computes what w does; its gradient is 1/c of it, and |dw|/|w| 1/c^2."""
    images, labels = batch()
    found = []
    for scale in (1.0, 4.0):
        network = build("plain-8", generator=torch.Generator().manual_seed(0)).double()
        with torch.no_grad():
            network.conv.weight *= scale
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1 * scale**2)
        before = Weights(network)
        train_step(network, optimizer, images.double(), labels)
        found.append((float(before.relative_steps()[0]), float(gradient_norms(network)[0])))
    (small, gradient), (large, weaker) = found
    assert weaker == pytest.approx(gradient / 4, rel=1e-2)  # not exactly: batch norm's epsilon
    assert large == pytest.approx(small, rel=1e-2)


# --- one batch, on a copy -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_norms_of_a_batch_are_those_of_a_training_step(name: str) -> None:
    images, labels = batch()
    stepped = backward(name)
    fresh = build(name, generator=torch.Generator().manual_seed(0)).eval()
    torch.testing.assert_close(batch_gradient_norms(fresh, images, labels), gradient_norms(stepped))
    with pytest.raises(UsageError, match="as many labels as images"):
        batch_gradient_norms(fresh, images, labels[:2])


# --- rounding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_the_gradients_of_a_batch_are_those_of_a_training_step(name: str, precision: Any) -> None:
    images, labels = batch()
    dtype = torch.float64 if precision == "fp64" else torch.float32
    stepped = build(name, generator=torch.Generator().manual_seed(0)).to(dtype)
    optimizer = torch.optim.SGD(stepped.parameters(), lr=0.1)
    train_step(stepped, optimizer, images.to(dtype), labels, precision)
    fresh = build(name, generator=torch.Generator().manual_seed(0)).eval()
    found = batch_gradients(fresh, images, labels, precision)
    layers = weighted_layers(stepped).values()
    for gradient, layer in zip(found, layers, strict=True):
        assert layer.weight.grad is not None
        assert gradient.dtype == torch.float64
        assert torch.equal(gradient, layer.weight.grad.double())
    relaid = batch_gradients(fresh, images, labels, precision, channels_last=True)
    for gradient, other in zip(found, relaid, strict=True):
        assert gradient.shape == other.shape
        assert float((gradient - other).norm() / gradient.norm()) < (
            1e-10 if precision == "fp64" else 0.5
        )


def test_exact_gradients_are_the_slopes_by_finite_differences() -> None:
    network = build("resnet-8-C", generator=torch.Generator().manual_seed(0))
    images, labels = batch()
    exact = batch_gradients(network, images, labels, "fp64")
    moved, step = copy.deepcopy(network).double(), 1e-6
    random = torch.Generator().manual_seed(2)
    for gradient, layer in zip(exact, weighted_layers(moved).values(), strict=True):
        direction = torch.randn(gradient.shape, generator=random, dtype=torch.float64)
        losses = []
        with torch.no_grad():
            for sign in (+1, -2, +1):
                layer.weight += sign * step * direction
                losses.append(float(cross_entropy(moved(images.double()), labels)))
        slope = (losses[0] - losses[1]) / (2 * step)
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-4, abs=1e-7)


def test_the_error_of_a_gradient_by_hand() -> None:
    exact = [torch.tensor([[3.0, 4.0]]), torch.tensor([2.0]), torch.zeros(2), torch.tensor([1.0])]
    measured = [
        torch.tensor([[3.0, -4.0]]),
        torch.tensor([2.5]),
        torch.ones(2),
        torch.tensor([torch.nan]),
    ]
    relative, norm = gradient_error(measured, exact)
    assert relative[:2].tolist() == [8 / 5, 0.25]
    assert norm[:2].tolist() == [0.0, 0.25]  # turned around, it is as long as before
    assert relative[2:].isnan().all()
    assert norm[2:].isnan().all()
    assert torch.equal(gradient_error(exact[:2], exact[:2]).relative, torch.zeros(2).double())
    with pytest.raises(UsageError, match="two different networks"):
        gradient_error(measured[:1], exact)


def test_deep_plain_networks_make_more_of_rounding_than_residual_ones() -> None:
    """On random images: the finding, not its size. In bf16 plain-56's error is as large as it."""
    random = torch.Generator().manual_seed(0)
    images, labels = torch.randn(32, 3, 8, 8, generator=random), torch.arange(32) % 10
    errors = {}
    for name in ("plain-56", "resnet-56"):
        network = build(name, generator=torch.Generator().manual_seed(0))
        exact = batch_gradients(network, images, labels, "fp64")
        for precision in ("fp32", "bf16"):
            found = batch_gradients(network, images, labels, precision)  # type: ignore[arg-type]
            errors[name, precision] = float(gradient_error(found, exact).relative.median())
    assert errors["plain-56", "bf16"] > 1
    assert errors["resnet-56", "bf16"] < 0.8
    assert errors["resnet-56", "fp32"] < 0.01
    assert errors["plain-56", "fp32"] > errors["resnet-56", "fp32"]


def test_precisions_that_cannot_be_are_refused() -> None:
    network, (images, labels) = build("plain-8"), batch()
    with pytest.raises(UsageError, match="tf32 needs a CUDA GPU"):
        batch_gradients(network, images, labels, "tf32")
    with pytest.raises(UsageError, match="did you mean 'bf16'"):
        batch_gradients(network, images, labels, "bf15")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="as many labels as images"):
        batch_gradients(network, images, labels[:2])


def linear_chain(depth: int) -> nn.Module:
    """`depth` linear layers of 4 numbers without bias, and the last one to 2 classes."""
    layers = [nn.Linear(4, 4, bias=False) for _ in range(depth)]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(4, 2, bias=False)).double()


def test_the_gradient_of_a_linear_network_by_hand() -> None:
    """dL/dW_k = (W_L ... W_k+1)^T (p - y) (W_k-1 ... W_1 x)^T: an outer product, one image."""
    network = linear_chain(2)
    one, two, last = (layer.weight.detach() for layer in list(network)[1:])
    x, label = torch.tensor([[1.0, -2.0, 0.5, 3.0]], dtype=torch.float64), torch.tensor([1])
    wrong = (last @ two @ one @ x[0]).softmax(0) - torch.tensor([0.0, 1.0])
    wanted = [
        (two.T @ last.T @ wrong).norm() * x.norm(),
        (last.T @ wrong).norm() * (one @ x[0]).norm(),
        wrong.norm() * (two @ one @ x[0]).norm(),
    ]
    torch.testing.assert_close(batch_gradient_norms(network, x, label), torch.stack(wanted))


def test_without_norm_only_the_normalising_is_gone() -> None:
    network = build("resnet-14-B")
    bare = without_norm(network)
    assert not any(isinstance(m, BatchNorm) for m in bare.modules())
    assert sum(isinstance(m, BatchNorm) for m in network.modules()) == 15
    assert list(weighted_layers(bare)) == list(weighted_layers(network))
    for name, layer in weighted_layers(bare).items():
        assert torch.equal(layer.weight, weighted_layers(network)[name].weight)
    # A batch norm in evaluation mode with its first statistics divides by sqrt(1 + eps) and no more.
    images, _ = batch()
    torch.testing.assert_close(bare(images), network.eval()(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_activation_scales_are_those_of_the_forward_pass_spelt_out(name: str) -> None:
    network, (images, _) = build(name), batch()
    spelt = build(name)
    spelt.load_state_dict(network.state_dict())
    with torch.no_grad():
        x = spelt.bn(spelt.conv(images)).clamp(min=0)
        wanted = [float((x.double() ** 2).mean().sqrt())]
        for stage in (spelt.stage1, spelt.stage2, spelt.stage3):
            x = stage(x)
            wanted.append(float((x.double() ** 2).mean().sqrt()))
    assert activation_scales(network, images).tolist() == pytest.approx(wanted, rel=1e-5)


def test_without_norm_plain_keeps_its_scale_and_residual_grows() -> None:
    """He et al. 2015: fan-in and the ReLU's gain keep the scale; adding the input cannot."""
    images = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    scales = {}
    for name in ("plain-32", "resnet-32"):
        network = build(name, generator=torch.Generator().manual_seed(0))
        scales[name] = activation_scales(without_norm(network), images)
    # Of 3x3 positions on a map of S x S the share (1 - 2/3S)^2 is no padding: ten layers on each of
    # 16, 8 and 4 leave a factor of about 0.05 of the scale; more at the edges, and by chance.
    kept = ((1 - 2 / 48) * (1 - 2 / 24) * (1 - 2 / 12)) ** 10
    assert kept / 4 < scales["plain-32"][-1] / scales["plain-32"][0] < 4 * kept
    assert scales["resnet-32"][-1] / scales["resnet-32"][0] > 20
    # Within a stage each identity block at least as large as the one before it.
    within = scales["resnet-32"][1:6]
    assert (within[1:] > within[:-1]).all()


# --- correlation of gradients ---------------------------------------------------------------------


def test_a_segment_joins_its_ends() -> None:
    start, end = batch()[0][:2]
    points = segment(start, end, 5)
    assert points.shape == (5, 3, 8, 8)
    assert torch.equal(points[0], start)
    assert torch.equal(points[-1], end)
    torch.testing.assert_close(points[2], (start + end) / 2)
    with pytest.raises(UsageError, match="at least 2 points"):
        segment(start, end, 1)
    with pytest.raises(UsageError, match="two images"):
        segment(start, end[:1], 3)


def test_of_a_linear_network_all_gradients_are_one_and_of_a_square_they_are_known() -> None:
    points = segment(torch.ones(1, 1, 2, dtype=torch.float64), -torch.ones(1, 1, 2).double(), 4)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(2, 3)).double()
    gradients = input_gradients(linear, points, points, logit=2)
    wanted = linear[1].weight[2].detach().expand(4, 2)
    torch.testing.assert_close(gradients.flatten(1), wanted)
    torch.testing.assert_close(gradient_correlation(linear, points, points), torch.ones(4, 4).double())

    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).square().sum(dim=1, keepdim=True) * 1e-200  # gradient 2e-200 x

    found = gradient_correlation(Square(), points, points)  # x and -x: cosine -1
    wanted = torch.tensor([1, 1, -1, -1], dtype=torch.float64)
    torch.testing.assert_close(found, wanted[:, None] * wanted)
    zero = gradient_correlation(Square(), torch.zeros(2, 1, 1, 2).double(), points)
    assert zero.isnan().all()


def test_each_points_gradient_is_its_own() -> None:
    """Statistics are those of the images, so the other points have no say; and by differences."""
    network, (images, _) = build("resnet-8").double(), batch(torch.float64)
    points = segment(images[0], images[1], 6)
    gradients = input_gradients(network, points, images, logit=3)
    alone = input_gradients(network, points[2:3], images, logit=3)
    torch.testing.assert_close(gradients[2:3], alone, rtol=1e-9, atol=1e-12)
    fixed = build("resnet-8").double()
    fixed.load_state_dict(network.state_dict())
    for module in fixed.modules():
        if isinstance(module, BatchNorm):
            module.momentum = 1.0  # unbiased variances, as those that are kept
    with torch.no_grad():
        fixed(images)
        fixed.eval()
        slope = gradients[2] / gradients[2].norm() * 1e-6
        ends = fixed(torch.stack([points[2] + slope, points[2] - slope]))[:, 3]
    assert float(ends[0] - ends[1]) / 2e-6 == pytest.approx(float(gradients[2].norm()), rel=1e-4)
    with pytest.raises(UsageError, match="none of 0 to 9"):
        input_gradients(network, points, images, logit=10)


def test_deep_plain_gradients_shatter_and_residual_ones_less() -> None:
    """Balduzzi et al. 2017, on random images: the finding, not its size."""
    random = torch.Generator().manual_seed(0)
    images = torch.randn(32, 3, 8, 8, generator=random)
    points = segment(images[0], images[1], 64)
    neighbours = {}
    for name in ("plain-8", "plain-56", "resnet-56"):
        network = build(name, generator=torch.Generator().manual_seed(0))
        cosines = gradient_correlation(network, points, images)
        neighbours[name] = float(cosines.diagonal(1).mean())
    assert neighbours["plain-8"] > 0.5
    assert abs(neighbours["plain-56"]) < 0.15
    assert neighbours["resnet-56"] > 0.3


@pytest.mark.parametrize(
    "which", ["gradients", "scales", "correlation", "bare", "exact", "bf16", "channels_last", "anatomy"]
)
def test_what_is_measured_on_a_copy_leaves_no_trace(which: str) -> None:
    network, (images, labels) = backward("resnet-8-C"), batch()
    network.get_submodule("stage2").eval()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    modes = [module.training for module in network.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()]
    rng = torch.get_rng_state()
    measure = {
        "gradients": lambda: batch_gradient_norms(network, images, labels),
        "scales": lambda: activation_scales(network, images),  # type: ignore[arg-type]
        "correlation": lambda: gradient_correlation(network, images, images),
        "bare": lambda: batch_gradient_norms(without_norm(network), images, labels),  # type: ignore[arg-type]
        "exact": lambda: batch_gradients(network, images, labels, "fp64")[0],
        "bf16": lambda: batch_gradients(network, images, labels, "bf16")[0],
        "channels_last": lambda: batch_gradients(network, images, labels, channels_last=True)[0],
        "anatomy": lambda: torch.tensor([part["parameters"] for part in parts(network, 8)]),  # type: ignore[arg-type]
    }[which]
    math = (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision)  # type: ignore[attr-defined]
    with torch.no_grad():  # as a caller may have it
        found = measure()
    assert not found.requires_grad
    assert torch.equal(measure(), found)
    after = (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision)  # type: ignore[attr-defined]
    assert after == math
    assert all(p.dtype == torch.float32 and p.is_contiguous() for p in network.parameters())
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradients[name])
    assert [module.training for module in network.modules()] == modes
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()] == hooks
    assert torch.equal(torch.get_rng_state(), rng)


# --- bytes kept for the backward pass ---------------------------------------------------------


def on_meta(name: str, *, recompute: bool = False) -> nn.Module:
    with torch.device("meta"):
        network = build(name)
    recompute_activations(network, recompute)
    return network


def small_images(batch: int, device: str = "meta") -> Tensor:
    return torch.zeros(batch, 3, 32, 32, device=device)


def test_saved_bytes_of_two_linear_layers_by_hand() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    # The input, 2x4 floats, and the ReLU's output, 2x3: two operations keep it, it counts once.
    assert saved_bytes(network, torch.zeros(2, 4)) == 4 * (2 * 4 + 2 * 3)


def resnet_20_by_hand(batch: int) -> int:
    """Floats: of the batch, and mean and deviation of each batch norm's channels."""
    maps = {16: 16 * 32 * 32, 32: 32 * 16 * 16, 64: 64 * 8 * 8}
    image = 3 * 32 * 32 + 2 * maps[16] + 64  # conv's input; its output, ReLU's output; pooled
    norms = 16
    # A block keeps the outputs of conv1, relu, conv2 and of the last ReLU: the next one's input.
    image += 4 * 3 * sum(maps.values())
    norms += 6 * (16 + 32 + 64)
    return batch * image + 2 * norms


@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_saved_bytes_of_a_network_by_hand(batch: int, device: str) -> None:
    network = build("resnet-20") if device == "cpu" else on_meta("resnet-20")
    assert saved_bytes(network, small_images(batch, device)) == 4 * resnet_20_by_hand(batch)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_with_blocks_computed_again_only_their_inputs_are_kept(device: str) -> None:
    network = build("resnet-20") if device == "cpu" else on_meta("resnet-20")
    recompute_activations(network)
    full, half, quarter = 16 * 32 * 32, 32 * 16 * 16, 64 * 8 * 8
    # The image, conv's output, the inputs of nine blocks, what is pooled; one batch norm outside.
    inputs = 3 * full + (full + 2 * half) + (half + 2 * quarter)
    wanted = 4 * (2 * (3 * 32 * 32 + full + inputs + 64) + 2 * 16)
    assert saved_bytes(network, small_images(2, device)) == wanted


@pytest.mark.parametrize("name", ["plain-20", "resnet-20", "resnet-20-C"])
@pytest.mark.parametrize("recompute", [False, True])
def test_saved_bytes_grow_in_proportion_to_the_batch(name: str, recompute: bool) -> None:
    network = on_meta(name, recompute=recompute)
    two, four, eight = (saved_bytes(network, small_images(batch)) for batch in (2, 4, 8))
    assert 0 < four - two < two < four
    assert eight - four == 2 * (four - two)
    constant = two - (four - two)  # batch norms' means and deviations
    assert 0 < constant < 0.01 * two


def test_saved_bytes_leave_no_trace() -> None:
    network = backward("resnet-8-C").train()
    network.get_submodule("stage2").eval()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    buffers = dict(network.named_buffers())
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    modes = [module.training for module in network.modules()]
    rng = torch.get_rng_state()
    images, _ = batch()
    kept = saved_bytes(network, images)
    with torch.no_grad():
        assert saved_bytes(network, images) == kept > 0
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert all(buffer is buffers[name] for name, buffer in network.named_buffers())
    assert all(
        p.grad is not None and torch.equal(p.grad, gradients[n]) for n, p in network.named_parameters()
    )
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), rng)
    with pytest.raises(ValueError, match="takes images"):
        saved_bytes(network, images[:, :1])
    assert [module.training for module in network.modules()] == modes


@pytest.mark.slow
@pytest.mark.deep  # half a minute for one network; the claim on resnet-20 is tested always
def test_resnet_1202_trains_in_16_gb_at_batch_128() -> None:
    """Saved for the backward pass, one block twice (again, and its gradients), weights thrice."""
    network = on_meta("resnet-1202")
    block, x = network.get_submodule("stage1.1"), torch.zeros(128, 16, 32, 32, device="meta")
    block_bytes = saved_bytes(block, x.requires_grad_())
    assert block_bytes == pytest.approx(4 * 5 * x.numel(), rel=1e-4)  # input, conv, ReLU, conv, ReLU
    weights = 3 * 4 * count_parameters(network)  # themselves, gradients, momentum
    totals = {}
    for recompute in (False, True):
        recompute_activations(network, recompute)
        two, four, all_images = (saved_bytes(network, small_images(batch)) for batch in (2, 4, 128))
        assert all_images == two + 63 * (four - two)
        totals[recompute] = all_images + 2 * block_bytes + weights
    assert totals[True] < 4e9 < 16e9
    assert totals[False] > 3 * totals[True]


# --- layer responses (Figure 7) ---------------------------------------------------------------


def trained_a_little(name: str) -> nn.Module:
    """Running statistics and gradients that are nobody's defaults."""
    return backward(name).train()


def responses_by_hand(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The forward pass of a CIFAR network of basic blocks, spelt out, with every response."""
    modules, found = dict(network.named_modules()), []

    def respond(x: Tensor, conv: str, bn: str) -> Tensor:
        weight, norm = modules[conv].weight, modules[bn]
        y = nn.functional.conv2d(x, weight, stride=modules[conv].stride, padding=1)
        shape = (1, -1, 1, 1)
        y = (y - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
        y = y * norm.weight.view(shape) + norm.bias.view(shape)
        found.append(y)
        return y

    with torch.no_grad():
        x = respond(images, "conv", "bn").clamp(min=0)
        for stage in ("stage1", "stage2", "stage3"):
            for index, block in enumerate(modules[stage].children()):
                head = f"{stage}.{index}.residual."
                y = respond(x, f"{head}conv1", f"{head}bn1").clamp(min=0)
                y = respond(y, f"{head}conv2", f"{head}bn2")
                if block.shortcut is not None:
                    was = block.shortcut.training
                    y = y + block.shortcut.eval()(x)
                    block.shortcut.train(was)
                x = y.clamp(min=0)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_responses_are_those_of_the_forward_pass_spelt_out(name: str) -> None:
    network, (images, _) = trained_a_little(name).double(), batch(torch.float64)
    wanted = []
    for response in responses_by_hand(network, images):
        values = response.flatten()
        wanted.append(float(((values - values.sum() / len(values)) ** 2).sum() / len(values)) ** 0.5)
    found = layer_responses(network, images)
    assert found.shape == (7,)  # 6n+1
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-10, atol=0)


def test_the_response_is_before_relu_and_before_the_addition() -> None:
    """Statistics 0 and 1, scale s, shift 5: the deviation scales with s and ignores the shift."""
    network, (images, _) = build("resnet-8").double(), batch(torch.float64)
    before = layer_responses(network, images)
    norm = network.get_submodule("stage3.0.residual.bn2")  # the last: nothing comes after it
    with torch.no_grad():
        norm.weight.mul_(3)
        norm.bias.fill_(-5)
    after = layer_responses(network, images)
    torch.testing.assert_close(after[-1], 3 * before[-1])
    assert torch.equal(after[:-1], before[:-1])


@pytest.mark.parametrize(
    ("name", "count"),
    [("plain-20", 19), ("resnet-56", 55), ("resnet-20-C", 19), ("resnet-34", 33), ("resnet-50", 17)],
)
def test_layers_are_the_first_convolution_and_all_3x3_ones(name: str, count: int) -> None:
    layers = response_layers(on_meta(name))
    assert len(layers) == count
    assert next(iter(layers)) == "conv"
    assert not any("shortcut" in layer for layer in layers)
    assert len(set(layers.values())) == count


@pytest.mark.parametrize("error", [False, True])
def test_responses_leave_no_trace_even_after_an_error(error: bool) -> None:
    network, (images, _) = trained_a_little("resnet-8-C"), batch()
    network.get_submodule("stage2").eval()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    modes = [module.training for module in network.modules()]
    hooks = [len(module._forward_hooks) for module in network.modules()]
    rng = torch.get_rng_state()
    if error:
        with pytest.raises(ValueError, match="takes images"):
            layer_responses(network, images[:, :1])
    else:
        found = layer_responses(network, images)
        assert not found.requires_grad
        assert torch.equal(layer_responses(network, images), found)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert all(
        p.grad is not None and torch.equal(p.grad, gradients[n]) for n, p in network.named_parameters()
    )
    assert [module.training for module in network.modules()] == modes
    assert [len(module._forward_hooks) for module in network.modules()] == hooks
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.is_grad_enabled()


def test_a_network_without_such_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="no 3x3 convolution"):
        layer_responses(nn.Sequential(nn.Linear(2, 2)), torch.zeros(1, 2))
    bare = nn.Sequential(nn.Conv2d(1, 1, 3))
    with pytest.raises(ValueError, match="no batch norm behind it"):
        layer_responses(bare, torch.zeros(1, 1, 4, 4))
