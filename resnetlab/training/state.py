"""A training under way: its state, its step, and what is probed, saved and restored."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from resnetlab import config, nets
from resnetlab.config import schedule
from resnetlab.images import datasets, feeds, photographs, streaming
from resnetlab.nets import probes, surgery
from resnetlab.training import engine as engines
from resnetlab.training import ranks
from resnetlab.training.step import Step, train_step

Images = feeds.Dataset | photographs.Photos
RECOMPUTE_LAYERS = 500  # a network of more keeps only its blocks' inputs for the backward pass
NEVER = 2**62  # a step that no run reaches


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 of all parameters and batch-norm statistics, in the order of the state dict."""
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_data(run: config.Run) -> Images:
    """The run's images: in memory, or, where its recipe crops larger ones, as files."""
    return datasets.load(run.data) if run.recipe.crop is None else photographs.load(run.data)


def check_run(run: config.Run, dataset: Images) -> None:
    """Raises UsageError if these images cannot train that network, before anything is made."""
    side = image_side(run, dataset)
    nets.check_size(run.network, side, side)


def image_side(run: config.Run, dataset: Images) -> int:
    """Pixels a side of the square images that the network sees."""
    if isinstance(dataset, feeds.Dataset):
        return dataset.size
    assert run.recipe.crop is not None
    return run.recipe.crop


def _parameter_groups(network: nn.Module, recipe: config.Recipe) -> list[dict[str, Any]]:
    """The optimizer's groups: all weights decay, as in the paper; `decay_norm` off spares norms'."""
    norms = [module for module in network.modules() if isinstance(module, nets.BatchNorm)]
    spared = set() if recipe.decay_norm else {weight for norm in norms for weight in norm.parameters()}
    weights = list(network.parameters())
    groups = [
        {"params": [w for w in weights if w not in spared], "weight_decay": recipe.weight_decay},
        {"params": [w for w in weights if w in spared], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class Training:
    """The state that a checkpoint keeps: network, optimizer, schedule, step and the open log window.

    `advance` makes one step. Here each step asks for its batch and its rate when it comes; in
    `captured.CapturedTraining` a GPU finds both in its own memory.
    """

    COUNTERS = ("loss_sum", "wrong_sum", "clipped_sum", "diverged_at")  # on the device
    NUMBERS = ("step", "window", "window_began", "seconds")

    def __init__(
        self,
        run: config.Run,
        dataset: Images,
        device: torch.device,
        group: ranks.Ranks = ranks.ALONE,
        how: engines.Engine = engines.EAGER,
    ) -> None:
        self.run, self.device, self.group, self.engine = run, device, group, how
        dtype = torch.float64 if run.precision == "fp64" else torch.float32
        recipe = run.recipe
        self.network = surgery.build(
            run,
            num_classes=len(dataset.classes),
            in_channels=dataset.in_channels,
            generator=feeds.generator(run.seed, "weights"),
        ).to(device=device, dtype=dtype, memory_format=how.memory_format)  # type: ignore[call-overload]
        nets.use_ghost_batches(self.network, recipe.ghost_batch)
        nets.recompute_activations(self.network, run.network.depth > RECOMPUTE_LAYERS)
        self.model: nn.Module = self.network  # what a step calls: `spread` may wrap and compile it
        self.optimizer = torch.optim.SGD(
            _parameter_groups(self.network, recipe),
            lr=recipe.lr,
            momentum=recipe.momentum,
            # One kernel for all parameters, which takes its rate from the device.
            fused=True if how.graph or device.type == "cuda" else None,
        )
        self.schedule = schedule.Schedule(recipe)
        setting = feeds.Setting(recipe, run.seed, device, dtype, group)
        self.feed: feeds.Feed = streaming.feed(dataset, setting)
        self._batches: Iterator[tuple[Tensor, Tensor]] | None = None
        self._last: Step  # what the step just made saw
        self.step = 0
        self.seconds = 0.0  # spent training, all starts together
        # Counted on the device, in place: no step waits for them, and a graph can go on counting.
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.wrong_sum = torch.zeros((), dtype=torch.int64, device=device)
        self.clipped_sum = torch.zeros((), dtype=torch.int64, device=device)
        self.steps_counted = torch.zeros((), dtype=torch.int64, device=device)
        self.diverged_at = torch.tensor(-1, device=device)  # first step whose loss was not finite
        self._open_window()

    def spread(self) -> None:
        """Once, after `restore`: all ranks begin with the same weights; steps are compiled if asked."""
        self.model = self.group.wrap(self.network, self.device)
        if self.engine.compiled:
            self.model = engines.compiled(self.model)

    def on_its_stream(self) -> contextlib.AbstractContextManager[Any]:
        """Where everything of this run must happen; here anywhere."""
        return contextlib.nullcontext()

    def wait(self) -> None:
        """Until the device has done all work of this run; here it is done."""

    def advance(self) -> None:
        """One step at the schedule's learning rate; its gradients stay for the probes."""
        if self._batches is None:
            self._batches = self.feed.batches(self.step, self.run.recipe.steps)
        lr = self.schedule.lr(self.step)
        if self.run.precision != "fp64":  # the number that a graph finds in its memory
            lr = float(np.float32(lr))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        images, labels = next(self._batches)
        images = images.contiguous(memory_format=self.engine.memory_format)
        clip = self.run.recipe.clip
        self._count(train_step(self.model, self.optimizer, images, labels, self.run.precision, clip))
        self._after_step()

    def _count(self, step: Step) -> None:
        """What the step saw, added up on the device."""
        self._last = step
        clip = self.run.recipe.clip
        if step.norm is not None and clip is not None:
            self.clipped_sum += step.norm > clip
        self.loss_sum += step.loss
        self.wrong_sum += step.wrong
        self.steps_counted += 1
        first_bad = ~torch.isfinite(step.loss) & (self.diverged_at < 0)
        self.diverged_at.copy_(torch.where(first_bad, self.steps_counted, self.diverged_at))

    def _after_step(self) -> None:
        self.step += 1
        self.window += 1
        if self.schedule.warming:  # the only rule that waits for the device at every step
            self.schedule.after_step(self.step, int(self.group.total(self._last.wrong)))

    @property
    def first_bad_step(self) -> int | None:
        """The first step whose loss was not finite, on any rank, or None. Waits for the device."""
        here = int(self.diverged_at)
        first = self.group.smallest(here if here >= 0 else NEVER)
        return first if first < NEVER else None

    def _open_window(self) -> None:
        for total in (self.loss_sum, self.wrong_sum, self.clipped_sum):
            total.zero_()
        self.window = 0  # steps since the last row
        self.window_began = self.seconds

    def close_window(self) -> dict[str, Any]:
        """The row for the steps since the last one; waits for the device."""
        images = self.window * self.run.recipe.batch_size
        loss = float(self.group.total(self.loss_sum)) / self.group.count
        row = {
            "step": self.step,
            "epoch": self.step * self.run.recipe.batch_size / self.feed.images,
            "lr": self.schedule.lr(self.step - 1),
            "train_loss": loss / self.window,
            "train_error": 100 * int(self.group.total(self.wrong_sum)) / images,
        }
        if self.run.recipe.clip is not None:
            row["clipped"] = 100 * int(self.clipped_sum) / self.window
        self._open_window()
        return row

    def probe(self, weights: probes.Weights) -> dict[str, list[float]]:
        """Probe kind -> its values, of the step just made; `weights` were taken before it.

        Gradients as they were before clipping, which left them in proportion. Waits for the device.
        """
        gradients = probes.gradient_norms(self.network)
        total, clip = self._last.norm, self.run.recipe.clip
        if total is None or clip is None:
            total = probes.total_gradient_norm(self.network)
        else:
            gradients /= (clip / (total + 1e-6)).clamp(max=1.0)  # as clip_grad_norm_ shortened them
        measured = {
            "gradient_norm": gradients,
            "weight_norm": weights.norms(),
            "relative_update": weights.relative_steps(),
            "total_gradient_norm": total[None],
        }
        return {kind: values.tolist() for kind, values in measured.items()}

    def save(self) -> bytes:
        """All of the state as bytes that `restore` reads without executing anything."""
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state(),
            "normalise": {"mean": self.feed.normalise.mean, "divisor": self.feed.normalise.divisor},
        }
        state |= {name: getattr(self, name) for name in (*self.COUNTERS, *self.NUMBERS)}
        buffer = io.BytesIO()
        torch.save(state if self.device.type == "cpu" else on_the_cpu(state), buffer)
        return buffer.getvalue()

    def restore(self, payload: bytes) -> None:
        """Load what `save` gave.

        Raises ValueError for bytes that are no such checkpoint; what was loaded by then stays, so the
        object is to be thrown away.
        """
        try:
            state = torch.load(io.BytesIO(payload), map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.restore(state["schedule"])
            for name in self.COUNTERS:
                getattr(self, name).copy_(state[name])
            for name in self.NUMBERS:
                setattr(self, name, state[name])
            self.steps_counted.fill_(self.step)
        except Exception as error:  # torch raises many kinds for a file that is not its own
            raise ValueError(f"is no checkpoint of this run ({type(error).__name__})") from None


def on_the_cpu(state: Any) -> Any:
    """The same tree with its tensors on the CPU: one copy for all of a type, not one for each."""
    leaves, tree = pytree.tree_flatten(state)
    by_type: dict[torch.dtype, list[int]] = {}
    for position, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            by_type.setdefault(leaf.dtype, []).append(position)
    for positions in by_type.values():
        # As they lie in memory: `as_strided` gives every copy its tensor's layout, channels last too.
        dense = [leaves[position].detach() for position in positions]
        flat = torch.cat([tensor.as_strided((tensor.numel(),), (1,)) for tensor in dense]).cpu()
        parts = flat.split([tensor.numel() for tensor in dense])
        for position, tensor, part in zip(positions, dense, parts, strict=True):
            leaves[position] = part.as_strided(tensor.shape, tensor.stride(), part.storage_offset())
    return pytree.tree_unflatten(leaves, tree)


def probe_layers(network: nn.Module) -> dict[str, list[str]]:
    """Probe kind -> names of what its values belong to: run.json's `layers`."""
    names = list(nets.weighted_layers(network))
    kinds = dict.fromkeys(("gradient_norm", "weight_norm", "relative_update"), names)
    return kinds | {"total_gradient_norm": ["all parameters"]}
