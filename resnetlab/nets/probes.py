"""Read-only measurements of a network. A probe leaves weights, gradients, mode and RNG untouched."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from resnetlab.config import Precision, UsageError, did_you_mean
from resnetlab.nets.anatomy import blocks, observe, weighted_layers
from resnetlab.nets.mode import check_precision, in_mode, in_precision
from resnetlab.nets.models import Network
from resnetlab.nets.norms import recompute_norm
from resnetlab.nets.sizes import check_labels


def gradient_norms(network: nn.Module) -> Tensor:
    """L2 norm of each weighted layer's weight gradient, in the order of `weighted_layers`.

    Reads `.grad` as the last backward pass left it: the gradient of the mean loss, without weight
    decay. Returns a float tensor (L,) on the network's device, without waiting for the device; a layer
    that has no gradient yet raises ValueError. Sec. 4.1 speaks of these norms ("healthy norms with
    BN") without printing them.
    """
    weights = {name: layer.weight for name, layer in weighted_layers(network).items()}
    return _norms(_gradients(weights, "layer"))


def total_gradient_norm(network: nn.Module) -> Tensor:
    """L2 norm of the gradient over all parameters together, batch norms' and biases' included.

    Reads `.grad` as the last backward pass left it; equals what `torch.nn.utils.clip_grad_norm_`
    returns. A scalar tensor; a parameter without a gradient raises ValueError.
    """
    return nn.utils.get_total_norm(_gradients(dict(network.named_parameters()), "parameter"))


def _gradients(parameters: Mapping[str, Tensor], what: str) -> list[Tensor]:
    gradients = []
    for name, parameter in parameters.items():
        if parameter.grad is None:
            raise ValueError(f"{what} {name} has no gradient: run a backward pass first")
        gradients.append(parameter.grad)
    return gradients


def _norms(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of each, (len(tensors),): one call for all of them, and none that waits for a device."""
    return torch.stack(torch._foreach_norm(list(tensors)))


class Weights:
    """Copies of each weighted layer's weights, taken before a step so that its size can be told.

    A batch norm behind a layer hides the length of its weights w from the function, not from the
    step: the gradient falls as 1/|w|, and what turns the layer is the relative step |dw|/|w|, which
    no scale of w changes. About 1e-3 is usual for networks that learn.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._before = [layer.weight.detach().clone() for layer in weighted_layers(network).values()]

    def norms(self) -> Tensor:
        """|w| of each layer as it was: L2, (L,), in the order of `weighted_layers`."""
        return _norms(self._before)

    def relative_steps(self) -> Tensor:
        """|w now - w then| / |w then| of each layer, (L,); not finite for one that was all zeros."""
        now = [layer.weight.detach() for layer in weighted_layers(self._network).values()]
        return _norms(torch._foreach_sub(now, self._before)) / self.norms()


# --- one batch, on a copy -----------------------------------------------------------------------


def batch_gradient_norms(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """`gradient_norms` of the mean cross-entropy over one batch, in training mode.

    `images` (B, C, H, W) as the network takes them, normalised; `labels` (B,). Batch norms use this
    batch's statistics, as in a training step. Returns (L,) in the order of `weighted_layers`. It is
    done on a copy: weights, statistics, gradients, mode and RNG of `network` are not touched.
    """
    check_labels(images, labels)
    copied = copy.deepcopy(network).train()
    copied.zero_grad()
    with torch.enable_grad():
        cross_entropy(copied(images), labels).backward()
    return gradient_norms(copied)


def batch_gradients(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    precision: Precision = "fp32",
    *,
    channels_last: bool = False,
) -> list[Tensor]:
    """Gradient of the mean cross-entropy over one batch by each layer's weights, in that precision.

    As `training.train_step` computes it, in training mode: "fp64" casts weights and images, "bf16" is
    autocast, "fp32" has TF32 off. `channels_last` only lays weights and images out differently in
    memory, which chooses other kernels. `images` (B, C, H, W), normalised; `labels` (B,). Float64, in
    the order of `weighted_layers`, each in the shape of its weight. On a copy: weights, statistics,
    gradients, mode and RNG are not touched. UsageError for TF32 without a GPU.
    """
    check_labels(images, labels)
    if precision not in get_args(Precision):
        hint = did_you_mean(str(precision), get_args(Precision))
        raise UsageError(f"precision: unknown value {precision!r}{hint}")
    check_precision(precision, images.device)
    dtype = torch.float64 if precision == "fp64" else torch.float32
    memory = torch.channels_last if channels_last else torch.contiguous_format
    copied = copy.deepcopy(network).train().to(dtype=dtype).to(memory_format=memory)
    inputs = images.to(dtype).contiguous(memory_format=memory)
    weights = [layer.weight for layer in weighted_layers(copied).values()]
    with torch.enable_grad(), in_precision(precision):
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = copied(inputs)
        loss = cross_entropy(logits.float() if precision == "bf16" else logits, labels)
        return [gradient.double() for gradient in torch.autograd.grad(loss, weights)]


class GradientError(NamedTuple):
    """How far gradients are from exact ones, by layer: float64 (L,) each, 1 is as much as they are."""

    relative: Tensor  # |g - exact| / |exact|: of equal lengths: a cosine of 0.5 at 1, of 0 at sqrt(2)
    norm: Tensor  # | |g| / |exact| - 1 |: what the gradient norms show of it


def gradient_error(gradients: Sequence[Tensor], exact: Sequence[Tensor]) -> GradientError:
    """Distance of `batch_gradients` from those of the same weights and batch in float64, by layer.

    With L2 norms over a layer's weights. Rounding is at most 2^-24 of a number in fp32 and 2^-8 in
    bf16; what lies above that is what the network makes of it on the way there and back. NaN where
    the exact gradient is zero or either is not finite. UsageError if the two do not fit.
    """
    if [g.shape for g in gradients] != [g.shape for g in exact] or not len(exact):
        raise UsageError("gradients of two different networks have no error: their shapes differ")

    def lengths(tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack([torch.linalg.vector_norm(tensor.double()) for tensor in tensors])

    distance = lengths([g.double() - e.double() for g, e in zip(gradients, exact, strict=True)])
    length = torch.where(lengths(exact) > 0, lengths(exact), torch.nan)
    return GradientError(distance / length, (lengths(gradients) / length - 1).abs())


def activation_scales(network: Network, images: Tensor) -> Tensor:
    """Root mean square of the activations that leave the first layer and each block.

    Behind the ReLU, over images, channels and positions together, in training mode (batch norms use
    this batch's statistics), on a copy. With He et al. 2015's initialisation and without batch norm a
    plain network keeps this size from layer to layer, but for what the padding's zeros take away;
    y = relu(F(x) + x) then grows with every block (Zhang, Dauphin, Ma 2019, Sec. 2). Returns float64
    (1 + blocks,): of the first layer, then in the order of `anatomy.blocks`.
    """

    def scale(values: Tensor) -> Tensor:
        return values.double().square().mean().sqrt()

    copied = copy.deepcopy(network).train()
    # Between the first layer and the first block there is no module to listen to: what enters counts.
    scales = observe(copied, blocks(copied), images, lambda x, y: (scale(x), scale(y)))
    entering, leaving = zip(*scales.values(), strict=True)
    return torch.stack([entering[0], *leaving])


# --- how gradients at neighbouring inputs agree ---------------------------------------------------


def segment(start: Tensor, end: Tensor, points: int) -> Tensor:
    """`points` evenly spaced inputs from one image to another: 2 x (C, H, W) -> (points, C, H, W)."""
    if start.shape != end.shape or start.dim() != 3:
        shapes = f"{tuple(start.shape)} and {tuple(end.shape)}"
        raise UsageError(f"a segment joins two images (C, H, W) of one shape, got {shapes}")
    if points < 2:
        raise UsageError(f"a segment has at least 2 points, got {points}")
    part = torch.linspace(0, 1, points, dtype=start.dtype, device=start.device).view(-1, 1, 1, 1)
    return torch.lerp(start.expand(points, -1, -1, -1), end, part)


def input_gradients(network: nn.Module, points: Tensor, images: Tensor, *, logit: int = 0) -> Tensor:
    """Gradient of one logit with respect to the input, at each of `points` (P, C, H, W).

    Batch norms use the statistics of `images` (B, C, H, W), held fixed: in training mode a point's
    output would depend on the other points. On a copy. Returns (P, C, H, W). UsageError for a logit
    that the network does not have.
    """
    copied = copy.deepcopy(network)
    recompute_norm(copied, [images])
    inputs = points.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = copied.eval()(inputs)
        if not 0 <= logit < logits.shape[1]:
            raise UsageError(f"logit {logit} is none of 0 to {logits.shape[1] - 1}")
        return torch.autograd.grad(logits[:, logit].sum(), inputs)[0]


def gradient_correlation(
    network: nn.Module, points: Tensor, images: Tensor, *, logit: int = 0
) -> Tensor:
    """Cosine of the input gradients at every pair of points: (P, P), float64, 1 on the diagonal.

    On a segment (`segment`) the entries beside the diagonal say how much the gradient at one input
    tells of that at the next: "shattered gradients" (Balduzzi et al. 2017, Sec. 2), whose correlation
    falls as 2^-depth in plain networks and as 1/sqrt(depth) in residual ones with batch norm. The
    value depends on how near the points are. NaN where a gradient is zero or not finite.
    Parameters as `input_gradients`.
    """
    gradients = input_gradients(network, points, images, logit=logit).double().flatten(1)
    # Without batch norm gradients of 1e-30 are real: their squares must not become zero.
    scaled = gradients / gradients.abs().amax(dim=1, keepdim=True)
    directions = normalize(scaled, dim=1, eps=0.0)
    return directions @ directions.T


# --- memory -------------------------------------------------------------------------------------


def saved_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes that a forward pass in training mode keeps for the backward pass.

    They grow with the batch and are most of the memory of training. Every storage counts once, the
    network's own parameters and buffers do not; of blocks that are computed again
    (`anatomy.recompute_activations`) only the inputs are kept. On the meta device the count is the same
    and takes no memory.
    """
    copied = copy.deepcopy(network).train()
    tensors = (*copied.parameters(), *copied.buffers())
    not_counted = {tensor.untyped_storage()._cdata for tensor in tensors}
    kept: dict[int, torch.UntypedStorage] = {}  # alive until the sum, so that no address comes twice

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in not_counted:
            kept[storage._cdata] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with torch.enable_grad(), hooks:
        copied(images)
    return sum(storage.nbytes() for storage in kept.values())


def response_layers(network: nn.Module) -> dict[str, str]:
    """Convolution -> the batch norm behind it, of the layers whose responses Figure 7 shows.

    The first convolution and every 3x3 convolution in a block, in the order of the forward pass: 6n+1
    in a network of 6n+2 layers. Projections and the 1x1 convolutions of bottlenecks are not among them.
    """
    norms = {
        name: name.replace("conv", "bn")
        for name, layer in weighted_layers(network).items()
        if isinstance(layer, nn.Conv2d) and (name == "conv" or layer.kernel_size == (3, 3))
    }
    if not norms:
        raise ValueError("the network has no 3x3 convolution with a batch norm behind it")
    modules = dict(network.named_modules())
    for name, norm in norms.items():
        if not isinstance(modules.get(norm), nn.BatchNorm2d):
            raise ValueError(f"layer {name} has no batch norm behind it")
    return norms


def layer_responses(network: nn.Module, images: Tensor) -> Tensor:
    """Standard deviation of each 3x3 layer's response, in the order of `response_layers`.

    The response is the output after batch norm and before ReLU or addition (Sec. 4.2, Figure 7), in
    evaluation mode; the deviation is over images, channels and positions together. `images` are as the
    network takes them (B, C, H, W), normalised. Returns float64 (L,) on the network's device. Weights,
    statistics, gradients, modes and RNG are left as they were, also after an error. ValueError for a
    network without such layers and for images that it does not take.
    """
    norms = response_layers(network).values()
    with in_mode(network, training=False):
        deviations = observe(network, norms, images, lambda _, y: y.double().std(correction=0))
    return torch.stack(list(deviations.values()))
