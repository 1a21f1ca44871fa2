"""Read-only measurements of a network. A probe leaves weights, gradients, mode and RNG untouched."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from resnetlab.config import Precision, UsageError, did_you_mean
from resnetlab.nets.anatomy import count_parameters, weighted_layers
from resnetlab.nets.mode import in_mode
from resnetlab.nets.models import Network, Stage
from resnetlab.nets.norms import BatchNorm


def gradient_norms(network: nn.Module) -> Tensor:
    """L2 norm of each weighted layer's weight gradient, in the order of `weighted_layers`.

    Reads `.grad` as the last backward pass left it: the gradient of the mean loss, without weight
    decay. Returns a float tensor (L,) on the network's device, without waiting for the device; a layer
    that has no gradient yet raises ValueError. Sec. 4.1 speaks of these norms ("healthy norms with
    BN") without printing them.
    """
    gradients = {name: layer.weight.grad for name, layer in weighted_layers(network).items()}
    return _norms(_present(gradients, "layer"))


def total_gradient_norm(network: nn.Module) -> Tensor:
    """L2 norm of the gradient over all parameters together, batch norms' and biases' included.

    Reads `.grad` as the last backward pass left it; equals what `torch.nn.utils.clip_grad_norm_`
    returns. A scalar tensor; a parameter without a gradient raises ValueError.
    """
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    total: Tensor = torch.linalg.vector_norm(_norms(_present(gradients, "parameter")))
    return total


def _present(gradients: Mapping[str, Tensor | None], what: str) -> list[Tensor]:
    missing = [name for name, gradient in gradients.items() if gradient is None]
    if missing:
        raise ValueError(f"{what} {missing[0]} has no gradient: run a backward pass first")
    return [gradient for gradient in gradients.values() if gradient is not None]


def _norms(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of each, (len(tensors),): one call for all of them, and none that waits for a device."""
    return torch.stack(torch._foreach_norm(list(tensors)))


class Weights:
    """Copies of each weighted layer's weights, taken before a step so that its size can be told.

    A batch norm behind a layer hides the length of its weights w from the function, not from the
    step: the gradient falls as 1/|w|, and what turns the layer is the relative update |dw|/|w|, which
    no scale of w changes. About 1e-3 is usual of networks that learn.
    """

    @torch.no_grad()
    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._before = [layer.weight.detach().clone() for layer in weighted_layers(network).values()]

    def norms(self) -> Tensor:
        """|w| of each layer as it was: L2, (L,), in the order of `weighted_layers`."""
        return _norms(self._before)

    @torch.no_grad()
    def relative_updates(self) -> Tensor:
        """|w now - w then| / |w then| of each layer, (L,); not finite for one that was all zeros."""
        now = [layer.weight for layer in weighted_layers(self._network).values()]
        return _norms(torch._foreach_sub(now, self._before)) / self.norms()


# --- one batch, on a copy -----------------------------------------------------------------------


def without_norm(network: Network) -> Network:
    """A copy without batch norms: each gives on what it gets. For measurements at initialisation.

    There they are the identity but for dividing by the batch's deviation and subtracting its mean
    (their scales are 1 and shifts 0), so what differs is the normalising alone. He et al. 2015's
    initialisation was made for such networks. The convolutions then have no bias.
    """
    bare = copy.deepcopy(network)
    for module in list(bare.modules()):
        for name, part in module.named_children():
            if isinstance(part, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return bare


def batch_gradient_norms(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """`gradient_norms` of the mean cross-entropy over one batch, in training mode.

    `images` (B, C, H, W) as the network takes them, normalised; `labels` (B,). Batch norms use this
    batch's statistics, as in a training step. Returns (L,) in the order of `weighted_layers`. It is
    done on a copy: weights, statistics, gradients, mode and RNG of `network` are not touched.
    """
    _same_length(images, labels)
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
    _same_length(images, labels)
    if precision not in get_args(Precision):
        hint = did_you_mean(str(precision), get_args(Precision))
        raise UsageError(f"precision: unknown value {precision!r}{hint}")
    if precision == "tf32" and not images.is_cuda:
        raise UsageError("precision tf32 needs a CUDA GPU; on a CPU use fp32, fp64 or bf16")
    dtype = torch.float64 if precision == "fp64" else torch.float32
    memory = torch.channels_last if channels_last else torch.contiguous_format
    copied = copy.deepcopy(network).train().to(dtype=dtype).to(memory_format=memory)
    inputs = images.to(dtype).contiguous(memory_format=memory)
    weights = [layer.weight for layer in weighted_layers(copied).values()]
    with torch.enable_grad(), _matrix_products("tf32" if precision == "tf32" else "ieee"):
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = copied(inputs)
        loss = cross_entropy(logits.float() if precision == "bf16" else logits, labels)
        return [gradient.double() for gradient in torch.autograd.grad(loss, weights)]


@contextmanager
def _matrix_products(mode: str) -> Iterator[None]:
    """How a GPU multiplies fp32 numbers meanwhile: "ieee" or "tf32"."""
    backends: tuple[Any, ...] = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    )
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = mode
        yield
    finally:
        for backend, was in zip(backends, before, strict=True):
            backend.fp32_precision = was


class GradientError(NamedTuple):
    """How far gradients are from exact ones, by layer: float64 (L,) each, 1 is as much as they are."""

    relative: Tensor  # |g - exact| / |exact|: at 1 nothing of it is left, at sqrt(2) it is unrelated
    norm: Tensor  # | |g| / |exact| - 1 |: what the gradient norms show of it


def gradient_error(gradients: Sequence[Tensor], exact: Sequence[Tensor]) -> GradientError:
    """Distance of `batch_gradients` from those of the same weights and batch in float64, by layer.

    With L2 norms over a layer's weights. Rounding is at most 2^-24 of a number in fp32 and 2^-8 in
    bf16; what lies above that is what the network makes of it on the way there and back. NaN where
    the exact gradient is zero or either is not finite. UsageError if the two do not fit.
    """
    if [g.shape for g in gradients] != [g.shape for g in exact] or not len(exact):
        raise UsageError("gradients of two different networks have no error: their shapes differ")
    pairs = [(g.double(), e.double()) for g, e in zip(gradients, exact, strict=True)]
    own, true, apart = (
        torch.stack([torch.linalg.vector_norm(part) for part in parts])
        for parts in ([g for g, _ in pairs], [e for _, e in pairs], [g - e for g, e in pairs])
    )
    true = torch.where(true > 0, true, torch.nan)
    return GradientError(apart / true, (own / true - 1).abs())


def activation_places(network: Network) -> list[str]:
    """The places of `activation_scales`: "conv" (the first layer), then every block by name."""
    stages = [(name, part) for name, part in network.named_children() if isinstance(part, Stage)]
    return ["conv", *(f"{name}.{index}" for name, stage in stages for index in range(len(stage)))]


def activation_scales(network: Network, images: Tensor) -> Tensor:
    """Root mean square of the activations that leave the first layer and each block.

    Behind the ReLU, over images, channels and positions together, in training mode (batch norms use
    this batch's statistics), on a copy. With He et al. 2015's initialisation and without batch norm a
    plain network keeps this size from layer to layer, but for what the padding's zeros take away;
    y = relu(F(x) + x) then grows with every block (Zhang, Dauphin, Ma 2019, Sec. 2). Returns float64
    (1 + blocks,), ordered as `activation_places`.
    """
    copied = copy.deepcopy(network).train()
    places = activation_places(copied)
    found: dict[str, Tensor] = {}

    def scale(values: Tensor) -> Tensor:
        return values.detach().double().square().mean().sqrt()

    def enters(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found["conv"] = scale(inputs[0])

    def leaves(place: str) -> Any:
        return lambda module, inputs, output: found.__setitem__(place, scale(output))

    # Between the first layer and the first block there is no module to listen to.
    copied.get_submodule(places[1]).register_forward_pre_hook(enters)
    for place in places[1:]:
        copied.get_submodule(place).register_forward_hook(leaves(place))
    with torch.no_grad():
        copied(images)
    return torch.stack([found[place] for place in places])


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
    that the network has not.
    """
    copied = copy.deepcopy(network)
    for module in copied.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain average: of one batch, that batch's statistics
        if isinstance(module, BatchNorm):
            module.group = None
    with torch.no_grad():
        copied.train()(images)
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
    largest = gradients.abs().amax(dim=1, keepdim=True)
    scaled = gradients / largest
    directions = scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    cosines: Tensor = directions @ directions.T
    return cosines


def _same_length(images: Tensor, labels: Tensor) -> None:
    if len(images) != len(labels) or not len(images):
        raise UsageError(f"as many labels as images are needed, got {len(labels)} for {len(images)}")


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
    modules = dict(network.named_modules())
    found = {}
    for name, layer in weighted_layers(network).items():
        if not isinstance(layer, nn.Conv2d) or not (name == "conv" or layer.kernel_size == (3, 3)):
            continue
        head, dot, last = name.rpartition(".")
        norm = head + dot + last.replace("conv", "bn")
        if not isinstance(modules.get(norm), nn.BatchNorm2d):
            raise ValueError(f"layer {name} has no batch norm behind it")
        found[name] = norm
    if not found:
        raise ValueError("the network has no 3x3 convolution with a batch norm behind it")
    return found


def layer_responses(network: nn.Module, images: Tensor) -> Tensor:
    """Standard deviation of each 3x3 layer's response, in the order of `response_layers`.

    The response is the output after batch norm and before ReLU or addition (Sec. 4.2, Figure 7), in
    evaluation mode; the deviation is over images, channels and positions together. `images` are as the
    network takes them (B, C, H, W), normalised. Returns float64 (L,) on the network's device. Weights,
    statistics, gradients, modes and RNG are left as they were, also after an error. ValueError for a
    network without such layers and for images that it does not take.
    """
    norms = response_layers(network)
    deviations: dict[str, Tensor] = {}

    def note(norm: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            deviations[norm] = output.detach().double().std(correction=0)

        return hook

    hooks = [network.get_submodule(norm).register_forward_hook(note(norm)) for norm in norms.values()]
    devices = [images.device] if images.is_cuda else []
    try:
        with in_mode(network, training=False), torch.random.fork_rng(devices), torch.no_grad():
            network(images)
    finally:
        for handle in hooks:
            handle.remove()
    return torch.stack([deviations[norm] for norm in norms.values()])


def anatomy(network: Network, size: int) -> list[dict[str, Any]]:
    """The parts of a network in the order of the forward pass, read from its modules.

    One entry for the first convolution (with what follows it before the blocks), one a block, one for
    the classifier: `name` of the module; `stage` (0: before the first, last + 1: behind them); `kind`
    (the class of the block); `shortcut` (none, identity, padded or projection); `shape_in`, `shape_out`
    (C, H, W) of images of `size` x `size`; `parameters`; `multiply_adds` of one image as the paper
    counts them (`anatomy.count_multiply_adds`); `layers`: name, kernel, stride and filters of the
    weighted ones. Nothing is computed: a copy without memory is run.
    """
    blank = copy.deepcopy(network).to("meta").eval()
    layers = weighted_layers(blank)
    names = {module: name for name, module in blank.named_modules()}
    blocks = {
        f"{name}.{index}": block
        for name, stage in blank.named_children()
        if isinstance(stage, Stage)
        for index, block in stage.named_children()
    }
    seen: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {}

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = getattr(module, "weight", None)
        work = (
            output.numel() * weight[0].numel() if names[module] in layers and weight is not None else 0
        )
        seen[names[module]] = (tuple(inputs[0].shape[1:]), tuple(output.shape[1:]), work)

    for module in (*layers.values(), *blocks.values()):
        module.register_forward_hook(look)
    with torch.no_grad():
        blank(torch.zeros(1, blank.in_channels, size, size, device="meta"))

    def entry(name: str, parts: list[nn.Module], **more: Any) -> dict[str, Any]:
        own = [key for key in layers if key == name or key.startswith(f"{name}.")]
        return {
            "name": name,
            **more,
            "parameters": sum(count_parameters(part) for part in parts),
            "multiply_adds": sum(seen[key][2] for key in own),
            "layers": [_layer(key, layers[key]) for key in own],
        }

    first = next(iter(blocks))
    head = {"stage": 0, "kind": "stem", "shortcut": "none"}
    head |= {"shape_in": list(seen["conv"][0]), "shape_out": list(seen[first][0])}
    found = [entry("conv", [blank.conv, blank.bn], **head)]
    for name, block in blocks.items():
        shortcut = {"NoneType": "none", "Identity": "identity", "PaddedIdentity": "padded"}.get(
            type(block.shortcut).__name__, "projection"
        )
        where = {"stage": int(name[len("stage")]), "kind": type(block).__name__, "shortcut": shortcut}
        shapes = {"shape_in": list(seen[name][0]), "shape_out": list(seen[name][1])}
        found.append(entry(name, [block], **where, **shapes))
    last = {"stage": found[-1]["stage"] + 1, "kind": "classifier", "shortcut": "none"}
    last |= {"shape_in": found[-1]["shape_out"], "shape_out": list(seen["classifier"][1])}
    found.append(entry("classifier", [blank.classifier], **last))
    return found


def _layer(name: str, layer: nn.Conv2d | nn.Linear) -> dict[str, Any]:
    if isinstance(layer, nn.Linear):
        return {"name": name, "kernel": 1, "stride": 1, "filters": layer.out_features}
    kernel, stride = int(layer.kernel_size[0]), int(layer.stride[0])
    return {"name": name, "kernel": kernel, "stride": stride, "filters": layer.out_channels}
