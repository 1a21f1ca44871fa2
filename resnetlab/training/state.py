"""A training under way: its state, one update by `train_step`, what is probed, saved, restored."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from resnetlab import config, nets
from resnetlab.config import schedule
from resnetlab.images import datasets, feeds, photographs
from resnetlab.nets import probes, surgery
from resnetlab.training import engine as engines
from resnetlab.training import ranks
from resnetlab.training.step import train_step

RECOMPUTE_LAYERS = 500  # a network of more keeps only its blocks' inputs for the backward pass


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 of all parameters and batch-norm statistics, in the order of the state dict."""
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_data(run: config.Run) -> feeds.Dataset | photographs.Photos:
    """The run's images: in memory, or, where its recipe crops larger ones, as files."""
    return datasets.load(run.data) if run.recipe.crop is None else photographs.load(run.data)


def check_run(run: config.Run, dataset: feeds.Dataset | photographs.Photos) -> None:
    """Raises UsageError if these images cannot train that network, before anything is made."""
    size = dataset.size if isinstance(dataset, feeds.Dataset) else run.recipe.crop
    assert size is not None
    nets.check_size(run.network, size, size)


def _weights_to_decay(network: nn.Module, recipe: config.Recipe) -> list[dict[str, Any]]:
    """All parameters, as in the paper; or, `decay_norm` off, batch norms' scales and shifts without."""
    if recipe.decay_norm:
        return [{"params": list(network.parameters()), "weight_decay": recipe.weight_decay}]
    norms = [module for module in network.modules() if isinstance(module, nets.BatchNorm)]
    spared = [parameter for norm in norms for parameter in norm.parameters()]
    rest = {id(parameter) for parameter in spared}
    decayed = [parameter for parameter in network.parameters() if id(parameter) not in rest]
    return [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]


class _Block:
    """What some steps see and at which rate, on the device: a step finds its row there by itself.

    The memory stays the same from block to block, so that a captured graph may read it.
    """

    def __init__(self, feed: feeds.Resident, device: torch.device) -> None:
        self.feed, self.size = feed, feed.BLOCK
        self.draws = feed.draw(0, self.size)
        self.rates = torch.zeros(self.size, device=device)
        self.lr = torch.zeros((), device=device)  # the optimizer's
        self.row = torch.zeros(1, dtype=torch.int64, device=device)
        self.start = self.stop = 0
        self.events = config.Events()

    def fill(self, start: int, stop: int, schedule: schedule.Schedule) -> None:
        """Steps [start, stop), at most `size` of them, at the rates that the schedule has for them."""
        rows = stop - start
        new = self.feed.draw(start, stop)
        for name in ("index", "dy", "dx", "flip"):
            getattr(self.draws, name)[:rows].copy_(getattr(new, name))
        self.rates[:rows].copy_(torch.tensor([schedule.lr(step) for step in range(start, stop)]))
        self.row.zero_()
        self.start, self.stop, self.events = start, stop, schedule.events

    def take(self) -> tuple[Tensor, Tensor]:
        """The next row's images and labels; sets `lr`. All on the device."""
        images, labels = self.feed.batch(self.draws, self.row)
        self.lr.copy_(self.rates.index_select(0, self.row)[0])
        self.row += 1
        return images, labels


class Training:
    """The state that a checkpoint keeps: network, optimizer, schedule, step and the open log window."""

    def __init__(
        self,
        run: config.Run,
        dataset: feeds.Dataset | photographs.Photos,
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
        self.model: nn.Module = self.network
        self.optimizer = torch.optim.SGD(
            _weights_to_decay(self.network, recipe),
            lr=recipe.lr,
            momentum=recipe.momentum,
            # One kernel for all parameters, which takes its rate from the device.
            fused=True if how.graph or device.type == "cuda" else None,
        )
        self.schedule = schedule.Schedule(recipe)
        share = feeds.Share(group.rank, group.count)
        self.feed: feeds.Feed = dataset.feed(recipe, run.seed, device, dtype, share)
        self._stream: Iterator[tuple[Tensor, Tensor]] | None = None
        self.step = 0
        self.seconds = 0.0  # spent training, all starts together
        # Counted on the device, in place: no step waits for them, and a graph can go on counting.
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.wrong_sum = torch.zeros((), dtype=torch.int64, device=device)
        self.clipped_sum = torch.zeros((), dtype=torch.int64, device=device)
        self.updates = torch.zeros((), dtype=torch.int64, device=device)
        self.norm: Tensor | None = None  # of the last step's gradient, where it is clipped
        self.diverged_at = torch.tensor(-1, device=device)  # first update whose loss was not finite
        self._open_window()
        self._block: _Block | None = None
        self._replay = engines.Replayed(self._update_from_block, device)
        self.stream = torch.cuda.Stream(device) if how.graph and device.type == "cuda" else None

    def spread(self) -> None:
        """From here on the ranks train together. After `restore`: all begin with the same weights."""
        self.model = self.group.wrap(self.network, self.device)
        if self.engine.compiled:
            self.model = engines.compiled(self.model)

    def _open_window(self) -> None:
        self.loss_sum.zero_()
        self.wrong_sum.zero_()
        self.clipped_sum.zero_()
        self.window = 0  # steps since the last row
        self.window_began = self.seconds

    def advance(self) -> None:
        """One update at the schedule's learning rate; gradients stay for the probes."""
        warming = self.schedule.warming
        if self.engine.graph:
            self._open_block()
            self._replay()
        else:
            if self._stream is None:
                self._stream = self.feed.batches(self.step, self.run.recipe.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = self.schedule.lr(self.step)
            self._update(*next(self._stream))
        self.step += 1
        self.window += 1
        if warming:  # the only rule that waits for the device at every step
            self.schedule.after_step(self.step, int(self.group.total(self.wrong)))

    def _update(self, images: Tensor, labels: Tensor) -> None:
        images = images.contiguous(memory_format=self.engine.memory_format)
        clip = self.run.recipe.clip
        loss, self.wrong, self.norm = train_step(
            self.model, self.optimizer, images, labels, self.run.precision, clip
        )
        if self.norm is not None and clip is not None:
            self.clipped_sum += self.norm > clip
        self.updates += 1
        self.loss_sum += loss
        self.wrong_sum += self.wrong
        fresh = ~torch.isfinite(loss) & (self.diverged_at < 0)
        self.diverged_at.copy_(torch.where(fresh, self.updates, self.diverged_at))

    def _open_block(self) -> None:
        """The next steps' draws and rates into fixed device memory, where a graph looks them up."""
        if self._block is None:
            assert isinstance(self.feed, feeds.Resident)
            self._block = _Block(self.feed, self.device)
            for group in self.optimizer.param_groups:
                group["lr"] = self._block.lr
        block, events = self._block, self.schedule.events
        if block.start <= self.step < block.stop and block.events == events:
            return
        ahead = 1 if self.schedule.warming else block.size
        block.fill(self.step, min(self.step + ahead, self.run.recipe.steps), self.schedule)

    def _update_from_block(self) -> None:
        assert self._block is not None
        self._update(*self._block.take())

    @property
    def first_bad_update(self) -> int:
        """The first update whose loss was not finite, on any rank; -1 if none. Waits for the device."""
        never = 2**62
        here = int(self.diverged_at)
        found = self.group.smallest(here if here >= 0 else never)
        return -1 if found == never else found

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
        clip, norm = self.run.recipe.clip, self.norm
        if norm is None or clip is None:
            norm = probes.total_gradient_norm(self.network)
            share = torch.ones_like(norm)
        else:
            share = (clip / (norm + 1e-6)).clamp(max=1.0)  # as clip_grad_norm_ has it
        measured = {
            "gradient_norm": probes.gradient_norms(self.network) / share,
            "weight_norm": weights.norms(),
            "relative_update": weights.relative_steps(),
            "total_gradient_norm": norm[None],
        }
        return {kind: values.tolist() for kind, values in measured.items()}

    def save(self) -> bytes:
        """Everything above as bytes that `restore` reads without executing anything."""
        buffer = io.BytesIO()
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state(),
            "normalise": {"mean": self.feed.normalise.mean, "divisor": self.feed.normalise.divisor},
            "loss_sum": self.loss_sum,
            "wrong_sum": self.wrong_sum,
            "clipped_sum": self.clipped_sum,
            "window": self.window,
            "window_began": self.window_began,
            "seconds": self.seconds,
            "diverged_at": self.diverged_at,
        }
        torch.save(state, buffer)
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
            if "schedule" in state:  # not in checkpoints older than the rules it follows
                self.schedule.restore(state["schedule"])
            self.step, self.window = int(state["step"]), int(state["window"])
            self.seconds, self.window_began = float(state["seconds"]), float(state["window_began"])
            self.loss_sum.copy_(state["loss_sum"].reshape(()))
            self.wrong_sum.copy_(state["wrong_sum"].reshape(()))
            self.clipped_sum.copy_(state["clipped_sum"].reshape(()))
            self.diverged_at.copy_(state["diverged_at"].reshape(()))
            self.updates.fill_(self.step)
        except Exception as error:  # torch raises many kinds for a file that is not its own
            raise ValueError(f"is no checkpoint of this run ({type(error).__name__})") from None


def probe_layers(network: nn.Module) -> dict[str, list[str]]:
    """Probe kind -> names of what its values belong to: run.json's `layers`."""
    names = list(nets.weighted_layers(network))
    kinds = dict.fromkeys(("gradient_norm", "weight_norm", "relative_update"), names)
    return kinds | {"total_gradient_norm": ["all parameters"]}
