"""Training: one optimizer step, and the loop around it that measures, saves and resumes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import platform
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from resnetlab import __version__, config, machine, nets, store
from resnetlab.config import UsageError, schedule
from resnetlab.images import datasets, photographs
from resnetlab.nets import probes, surgery
from resnetlab.training import engine as engines
from resnetlab.training import evaluate, ranks

RECOMPUTE_LAYERS = 500  # a network of more keeps only its blocks' inputs for the backward pass


class Step(NamedTuple):
    """What a step saw: the batch's mean cross-entropy and number of wrong images, both before it.

    `norm` is the L2 norm of the gradient over all parameters before clipping; None where none is done.
    """

    loss: Tensor
    wrong: Tensor
    norm: Tensor | None


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,  # (B, C, S, S)
    labels: Tensor,  # (B,)
    precision: config.Precision = "fp32",
    clip: float | None = None,
) -> Step:
    """One step: forward, backward, update. What is returned was measured before the update.

    It stays on the device. The gradients stay in `.grad` until the next step, for the probes; with
    `clip` they have been scaled down to that L2 norm over all parameters, if it was larger.
    """
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = network(images)
    loss = cross_entropy(logits.float() if precision == "bf16" else logits, labels)
    optimizer.zero_grad()
    loss.backward()
    norm = clip_grad_norm_(network.parameters(), clip) if clip is not None else None
    optimizer.step()
    return Step(loss.detach(), (logits.argmax(dim=1) != labels).sum(), norm)


def resolve_device(name: str) -> torch.device:
    """auto (a CUDA GPU if there is one), cpu, cuda or cuda:N. UsageError if it is not there."""
    if not isinstance(name, str):
        raise UsageError(f"device: should be text such as cpu or cuda:0, got {name!r}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UsageError(f"unknown device {name!r}; known: auto, cpu, cuda, cuda:N")
    if kind == "cuda":
        if not torch.cuda.is_available():
            built = torch.version.cuda
            why = (
                f"; an NVIDIA driver is installed, and perhaps too old for CUDA {built} of this torch "
                "(nvidia-smi shows the CUDA version that it can do)"
                if machine.has_gpu() and built
                else ""
            )
            raise UsageError(
                f"device cuda was asked for, but torch sees no CUDA GPU{why}; use --device cpu"
            )
        if number and int(number) >= torch.cuda.device_count():
            raise UsageError(f"device {name}: this machine has {torch.cuda.device_count()} GPU(s)")
    return torch.device(name)


def check_precision(precision: config.Precision, device: torch.device) -> None:
    """Raises UsageError if the device cannot train in that precision."""
    if precision == "tf32" and device.type != "cuda":
        raise UsageError("precision tf32 needs a CUDA GPU; on a CPU use fp32, fp64 or bf16")


def set_precision(precision: config.Precision) -> None:
    """fp32 means fp32: TF32 is off unless asked for, and cuDNN keeps to deterministic algorithms."""
    mode = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = mode
    torch.backends.cudnn.conv.fp32_precision = mode  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@contextlib.contextmanager
def _thread_count(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 of all parameters and batch-norm statistics, in the order of the state dict."""
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_data(run: config.Run) -> datasets.Dataset | photographs.Photos:
    """The run's images: in memory, or, where its recipe crops larger ones, as files."""
    return datasets.load(run.data) if run.recipe.crop is None else photographs.load(run.data)


def check_run(run: config.Run, dataset: datasets.Dataset | photographs.Photos) -> None:
    """Raises UsageError if these images cannot train that network, before anything is made."""
    size = dataset.size if isinstance(dataset, datasets.Dataset) else run.recipe.crop
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


class OutOfMemoryError(RuntimeError):
    """A run that did not fit on its device; the message says what it needed, had, and can change."""


class _Block:
    """What some steps see and at which rate, on the device: a step finds its row there by itself.

    The memory stays the same from block to block, so that a captured graph may read it.
    """

    def __init__(self, feed: datasets.Resident, device: torch.device) -> None:
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
        dataset: datasets.Dataset | photographs.Photos,
        device: torch.device,
        group: ranks.Ranks = ranks.ALONE,
        sync_norm: bool = False,
        how: engines.Engine = engines.EAGER,
    ) -> None:
        self.run, self.device, self.group, self.engine = run, device, group, how
        dtype = torch.float64 if run.precision == "fp64" else torch.float32
        recipe = run.recipe
        self.network = surgery.build(
            run,
            num_classes=len(dataset.classes),
            in_channels=dataset.in_channels,
            generator=datasets.generator(run.seed, "weights"),
        ).to(device=device, dtype=dtype, memory_format=how.memory_format)  # type: ignore[call-overload]
        nets.use_ghost_batches(self.network, recipe.ghost_batch)
        nets.recompute_activations(self.network, run.network.depth > RECOMPUTE_LAYERS)
        if sync_norm and group.count > 1:
            nets.synchronise_norms(self.network, group.mean, group.count)
        self.model: nn.Module = self.network
        self.optimizer = torch.optim.SGD(
            _weights_to_decay(self.network, recipe),
            lr=recipe.lr,
            momentum=recipe.momentum,
            # One kernel for all parameters, which takes its rate from the device.
            fused=True if how.graph or device.type == "cuda" else None,
        )
        self.schedule = schedule.Schedule(recipe)
        share = datasets.Share(group.rank, group.count)
        self.feed: datasets.Feed = dataset.feed(recipe, run.seed, device, dtype, share)
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
            assert isinstance(self.feed, datasets.Resident)
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
            "relative_update": weights.relative_updates(),
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


STATISTICS_BATCHES = 4  # of the run's first ones: what added identity layers take their statistics from


def _start_from_weights(training: Training, root: Path) -> bool:
    """Load the trained weights that the run begins with, identity layers appended, into its network.

    False, and nothing done, for a run that begins with drawn ones. Raises UsageError if the weights
    that its surgery names are not found below the results folder `root`, or are others.
    """
    run = training.run
    start = run.surgery.start if run.surgery is not None else None
    if start is None:
        return False
    record = store.weights_of(start, run.data, root)
    source = evaluate.trained(record, training.device)
    found, who = weights_sha256(source.network), f"{start.study}/{start.run}"
    if found != start.sha256:
        raise UsageError(
            f"the checkpoint of {record.path} has not the weights that {run.label} begins with "
            f"(SHA-256 {found[:12]}, asked {start.sha256[:12]}); train {who} again in an empty folder"
        )
    ours = training.feed.normalise
    theirs = source.normalise.to(training.device, ours.mean.dtype)
    if not (torch.equal(ours.mean, theirs.mean) and torch.equal(ours.divisor, theirs.divisor)):
        raise UsageError(f"{who} was trained on images normalised otherwise than those of {run.label}")
    batches = itertools.islice(training.feed.batches(0, STATISTICS_BATCHES), STATISTICS_BATCHES)
    images = torch.cat([images for images, _ in batches])
    network = source.network.to(images.dtype)
    assert isinstance(network, nets.CifarNetwork)
    grown = surgery.append_identity_layers(network, run.network.depth, images)
    training.network.load_state_dict(grown.state_dict())
    return True


def beginning(
    run: config.Run, device: torch.device, results_folder: str | Path | None = None
) -> tuple[nets.Network, Tensor, Tensor]:
    """What the run's first update sees: the network as it begins, in training mode, and its batch.

    Images (B, C, S, S), normalised and augmented, and labels (B,). Nothing is trained or written. The
    gradient norms of this batch are those that the run logs for step 0. Trained weights that the run
    begins with are looked for in `results_folder`.
    """
    check_precision(run.precision, device)
    dataset = load_data(run)
    check_run(run, dataset)
    training = Training(run, dataset, device)
    _start_from_weights(training, store.results_root(results_folder))
    images, labels = next(training.feed.batches(0, 1))
    return training.network.train(), images, labels


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _restored(
    writer: store.RunWriter, fresh: Callable[[], Training]
) -> tuple[Training, store.Checkpoint | None]:
    """The training as its newest whole checkpoint left it, or a fresh one. Changes nothing on disk."""
    who = f"{writer.study}/{writer.name}"
    training = fresh()
    for found in writer.checkpoints():
        if isinstance(found, str):
            _note(f"{who}: {found}; trying the checkpoint before it")
            continue
        try:
            training.restore(found.payload)
        except ValueError as error:
            _note(f"{who}: {found.path.name} {error}; trying the checkpoint before it")
            training = fresh()
            continue
        _note(f"{who}: resumed at step {training.step}")
        return training, found
    return training, None


def fit(
    run: config.Run,
    *,
    study: str = "runs",
    name: str | None = None,
    results_folder: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    engine: str = "auto",
    sync_norm: bool = False,
    on_row: Callable[[Mapping[str, Any]], None] | None = None,
) -> store.RunRecord:
    """Train `run` to its end, or continue it, or return it at once if it has ended.

    Writes results_folder/study/name as `store` describes. `threads` defaults to all usable cores;
    a resumed run keeps the threads and the kind of device it began with, because on a CPU the result
    is then the same to the last bit. `engine` says how an update is executed (by default the rule of
    `engine.choose`); it is kept too. `on_row` gets each row of metrics. SIGINT and SIGTERM end the run
    after the current step with a checkpoint, status `interrupted`; a loss that is not finite ends it as
    `diverged`. Weights that a run starts from are found in `results_folder` or its reference runs, and
    are needed once: a resumed run has its own. Raises UsageError before anything is written for a
    request that cannot be met, and whatever went wrong later, after marking the run `failed`.

    Started by torchrun, all processes train this one run (`ranks`): the batch and the order of images
    stay the same, the first process writes, batch norm sees each process's share, or, `sync_norm`, the
    whole batch. A run that began with another number of processes is refused.
    """
    _check_threads(threads)
    with (
        ranks.join(device) as (group, own),
        machine.stop_signals() as stopped,
        _thread_count(torch.get_num_threads()),
    ):
        fitting = _fitting(
            run,
            study=study,
            name=name,
            results_folder=results_folder,
            device=own,
            threads=threads,
            engine=engine,
            sync_norm=sync_norm,
            group=group,
            stopped=stopped,
            on_row=on_row,
        )
        stream = None
        while True:
            try:
                stream = _step(fitting, stream)
            except StopIteration as ended:
                record: store.RunRecord = ended.value
                return record


def fit_together(
    runs: Mapping[str, config.Run],
    *,
    study: str = "runs",
    results_folder: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    engine: str = "auto",
    memory: int | None = None,
    on_row: Callable[[str, Mapping[str, Any]], None] | None = None,
) -> dict[str, store.RunRecord | Exception]:
    """Train several runs (by name) side by side on one device, as `fit` trains each alone.

    They take turns, an update each; on a GPU every run has a stream of its own, so that one small
    batch of 128 does not leave most of the device idle. Each keeps its seed, order of images, batch
    norm statistics, log and checkpoints: what a run computes does not depend on its company. A run
    that does not fit into `memory` bytes (by default what the GPU has free, less a tenth) beside those
    under way waits until one of them has ended (`bytes_needed`). What went wrong with one is its
    value in the result, and the others go on. UsageError for runs of different precisions, which are
    a setting of the whole process.
    """
    _check_threads(threads)
    if len({run.precision for run in runs.values()}) > 1:
        raise UsageError("runs side by side in one process have one precision: start the others apart")
    place = resolve_device(device)
    if memory is None and place.type == "cuda":
        memory = int(0.9 * torch.cuda.mem_get_info(place)[0])
    out: dict[str, store.RunRecord | Exception] = {}
    waiting, going = list(runs), dict[str, tuple[_Fitting, torch.cuda.Stream | None]]()
    needs = {name: bytes_needed(run) if memory is not None else 0 for name, run in runs.items()}

    def fits(name: str) -> bool:
        return memory is None or not going or sum(needs[n] for n in (*going, name)) <= memory

    with machine.stop_signals() as stopped, _thread_count(torch.get_num_threads()):
        while going or (waiting and not stopped):
            while waiting and not stopped and fits(waiting[0]):
                name = waiting.pop(0)
                fitting = _fitting(
                    runs[name],
                    study=study,
                    name=name,
                    results_folder=results_folder,
                    device=device,
                    threads=threads,
                    engine=engine,
                    stopped=stopped,
                    on_row=functools.partial(on_row, name) if on_row is not None else None,
                )
                going[name] = fitting, None
            for name, (fitting, stream) in list(going.items()):
                try:
                    going[name] = fitting, _step(fitting, stream)
                except StopIteration as ended:
                    out[name] = ended.value
                    del going[name]
                except Exception as error:  # its own: the others go on
                    out[name] = error
                    del going[name]
    return out


def bytes_needed(run: config.Run) -> int:
    """About the device memory that training this run takes, worked out on the meta device.

    Activations kept for the backward pass, as much again for gradients on their way and libraries'
    workspaces, and weights, gradients and momentum. The images themselves are not counted: together
    the small sets are below 0.2 GB.
    """
    dtype = torch.float64 if run.precision == "fp64" else torch.float32
    size = run.recipe.crop or run.network.native_size
    with torch.device("meta"):
        network = nets.build(run.network, num_classes=10, in_channels=3).to(dtype)
        images = torch.empty(run.recipe.batch_size, 3, size, size, dtype=dtype)
    nets.recompute_activations(network, run.network.depth > RECOMPUTE_LAYERS)
    kept = probes.saved_bytes(network, images)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return 2 * kept + 4 * weights


def _check_threads(threads: int | None) -> None:
    if threads is not None and (type(threads) is not int or threads < 1):
        raise UsageError(f"threads must be a whole number of at least 1, got {threads!r}")


_Fitting = Generator[torch.cuda.Stream | None, None, Any]


def _step(fitting: _Fitting, stream: torch.cuda.Stream | None) -> torch.cuda.Stream | None:
    """Let a training go on to its next update, on its own stream, which is returned; None: any."""
    with torch.cuda.stream(stream) if stream is not None else contextlib.nullcontext():
        return next(fitting)


def _fitting(
    run: config.Run,
    *,
    study: str,
    name: str | None,
    results_folder: str | Path | None,
    device: str,
    threads: int | None,
    engine: str,
    stopped: list[str],
    on_row: Callable[[Mapping[str, Any]], None] | None,
    group: ranks.Ranks = ranks.ALONE,
    sync_norm: bool = False,
) -> _Fitting:
    """`fit`, update by update: yields the stream to go on with after each. Returns the record."""
    with contextlib.ExitStack() as stack:
        check_precision(run.precision, resolve_device(device))
        _check_share(run, group)
        dataset = load_data(run)
        check_run(run, dataset)

        writer: store.RunWriter | None = None
        if group.first:
            root = store.results_root(results_folder)
            writer = stack.enter_context(store.RunWriter(root, study, name or run.default_name, run))
        ended = store.read_run(writer.folder) if writer is not None and writer.ended else None
        ended = group.tell(ended)
        if ended is not None:
            return ended
        execution = group.tell(
            _execution(writer, run, dataset, device, threads, engine, group, sync_norm)
            if writer is not None
            else {}
        )
        place = resolve_device(device if device.startswith("cuda") else execution["device"])
        check_precision(run.precision, place)
        set_precision(run.precision)
        torch.set_num_threads(execution["threads"])
        training = _begin(run, dataset, place, group, writer, execution)
        if training.stream is not None:
            training.stream.wait_stream(torch.cuda.current_stream(place))
            yield training.stream
        record = yield from _follow(training, writer, stopped, on_row if group.first else None)
        return group.tell(record)


def _check_share(run: config.Run, group: ranks.Ranks) -> None:
    batch, ghost = run.recipe.batch_size, run.recipe.ghost_batch
    if batch % group.count or batch // group.count < 2:
        raise UsageError(f"batch_size {batch} cannot be divided among {group.count} processes")
    if ghost is not None and batch // group.count % ghost:
        raise UsageError(
            f"ghost_batch {ghost} does not divide the {batch // group.count} images of each of "
            f"{group.count} processes"
        )


def _execution(
    writer: store.RunWriter,
    run: config.Run,
    dataset: datasets.Dataset | photographs.Photos,
    device: str,
    threads: int | None,
    engine: str,
    group: ranks.Ranks,
    sync_norm: bool,
) -> dict[str, Any]:
    """Where and how the run is executed: as it began, if it did. UsageError if that cannot be."""
    who, began = f"{writer.study}/{writer.name}", writer.info.get("execution", {})
    if device == "auto":
        device = began.get("device", "auto")
    place = resolve_device(device)
    if began.get("device", place.type) != place.type:
        raise UsageError(
            f"{who} began on {began['device']} and cannot go on exactly on {place.type}; "
            f"use --device {began['device']} or another run name"
        )
    before = began.get("ranks", 1) if began else group.count
    if before != group.count:
        raise UsageError(
            f"{who} began with {before} process(es) and cannot go on exactly with {group.count}, "
            "because batch norm sees each one's share; start as many, or use another run name"
        )
    norm = "all" if sync_norm and group.count > 1 else "own"
    if began.get("norm", norm if not began else "own") != norm:
        raise UsageError(
            f"{who} began with batch norm over "
            f"{'each process alone' if norm == 'all' else 'all processes'}; it cannot change on the way"
        )
    share = max(1, machine.usable_cores() // group.here)
    size = dataset.size if isinstance(dataset, datasets.Dataset) else run.recipe.crop
    assert size is not None
    resident = isinstance(dataset, datasets.Dataset)
    chosen = engines.choose(run, place, size, resident=resident, alone=group.count == 1)
    if engine != "auto":
        chosen = engines.parse(engine)
    if "engine" in began:
        if engine != "auto" and chosen.name != began["engine"]:
            raise UsageError(
                f"{who} began with engine {began['engine']} and cannot go on exactly with "
                f"{chosen.name}; leave --engine out, or use another run name"
            )
        chosen = engines.parse(began["engine"])
    chosen = engines.available(chosen, place, resident=resident, alone=group.count == 1)
    return {
        "device": place.type,
        "device_name": device_name(place),
        "threads": began.get("threads") or threads or share,
        "engine": chosen.name,
        "ranks": group.count,
        "norm": norm,
    }


def _begin(
    run: config.Run,
    dataset: datasets.Dataset | photographs.Photos,
    device: torch.device,
    group: ranks.Ranks,
    writer: store.RunWriter | None,
    execution: Mapping[str, Any],
) -> Training:
    """The training to go on with, run.json written and the logs cut to where it stands."""

    def fresh() -> Training:
        how = engines.parse(execution["engine"])
        return Training(run, dataset, device, group, execution["norm"] == "all", how)

    if writer is None:
        training = fresh()
        payload = group.tell(b"")
        if payload:
            training.restore(payload)
        training.spread()
        return training

    described = dataset.describe()
    before = writer.info.get("dataset")
    if before and before.get("sha256") != described["sha256"]:
        raise UsageError(
            f"the images of {run.data.label} have changed since {writer.study}/{writer.name} began; "
            "it cannot go on exactly: use another run name"
        )
    training, checkpoint = _restored(writer, fresh)
    payload = checkpoint.payload if checkpoint is not None else b""
    if checkpoint is None and _start_from_weights(training, writer.folder.parents[1]):
        payload = training.save()
    group.tell(payload)
    training.spread()
    began_with = writer.info.get("versions", {}).get("torch", torch.__version__)
    if checkpoint is not None and began_with != torch.__version__:
        _note(f"it began with torch {began_with}, this is {torch.__version__}: the bits may differ")
    recomputed = run.network.depth > RECOMPUTE_LAYERS
    writer.begin(
        execution=dict(execution) | {"activations": "recomputed" if recomputed else "kept"},
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "resnetlab": __version__,
        },
        dataset=described,
        layers=probe_layers(training.network),
        parameters=nets.count_parameters(training.network),
    )
    if checkpoint is not None:
        writer.resume_from(checkpoint)
    else:
        writer.start_over()
    return training


def _follow(
    training: Training,
    writer: store.RunWriter | None,
    stopped: list[str],
    on_row: Callable[[Mapping[str, Any]], None] | None,
) -> Generator[torch.cuda.Stream | None, None, store.RunRecord | None]:
    """Train to the end, measuring and saving on the way; whatever goes wrong marks the run failed.

    All ranks come through here step for step; only the first has a `writer` and returns the record.
    """
    recipe, network, group = training.run.recipe, training.network, training.group
    try:
        network.train()
        # A run that diverged and was killed before its summary must not train on.
        diverged = training.window == 0 and training.first_bad_update >= 0
        stopping = False
        clock = time.perf_counter()
        while training.step < recipe.steps and not diverged and not stopping:
            before, step = training.step, training.step + 1
            last = step == recipe.steps
            probing = writer is not None and (before % recipe.probe_every == 0 or last)
            weights = probes.Weights(network) if probing else None
            training.advance()
            if writer is not None and weights is not None:
                probed = training.probe(weights).items()
                rows = [{"step": before, "kind": kind, "values": values} for kind, values in probed]
                writer.append(store.PROBES_FILE, *rows)
            if step % recipe.log_every == 0 or step % recipe.test_every == 0 or last:
                images = training.window * recipe.batch_size
                began = training.window_began
                diverged = training.first_bad_update >= 0
                training.seconds += time.perf_counter() - clock
                row = training.close_window()
                if (step % recipe.test_every == 0 or last) and not diverged:
                    if last and recipe.recompute_norm:
                        recompute_norm(network, _beating(training, "train", writer), group.average)
                    row |= _test(training, writer, last=last)
                timing = {
                    "step": step,
                    "seconds": training.seconds,
                    "images_per_second": images / max(training.seconds - began, 1e-9),
                }
                if writer is not None:
                    writer.note_events(training.schedule.events)
                    writer.append(store.METRICS_FILE, row)
                    writer.append(store.TIMING_FILE, timing)
                if on_row is not None:
                    on_row(row | timing)
                clock = time.perf_counter()
            if step % recipe.checkpoint_every == 0 or last or diverged:
                training.seconds += time.perf_counter() - clock
                clock = time.perf_counter()
                _save(training, writer)
            if writer is not None:
                writer.beat(step)
            stopping = group.any(bool(stopped))
            if not stopping:
                yield training.stream
        if stopping and training.step < recipe.steps and not diverged:
            training.seconds += time.perf_counter() - clock
            _save(training, writer)
            if writer is None:
                return None
            by = stopped[0] if stopped else "another process's signal"
            writer.finish("interrupted", step=training.step, error=f"stopped by {by}")
            return store.read_run(writer.folder)
        return _summarise(training, writer)
    except BaseException as error:
        lost: Exception | None = ranks.lost(error, group)
        if isinstance(error, torch.OutOfMemoryError):
            lost = OutOfMemoryError(_memory_report(training))
        # The disk may be full or gone: the first error is the one to report, not this one.
        with contextlib.suppress(OSError):
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            if writer is not None:
                writer.finish("failed", step=training.step, error=str(lost) if lost else reason)
        if lost is None:
            raise
        if writer is not None:
            _note(str(lost))  # now: torchrun ends this process within moments
        raise lost from error


def _memory_report(training: Training) -> str:
    run, place = training.run, training.device
    had = ""
    if place.type == "cuda":
        free, total = (part / 1024**3 for part in torch.cuda.mem_get_info(place))
        own = torch.cuda.memory_reserved(place) / 1024**3
        had = f"; of {total:.1f} GB this process holds {own:.1f}, {free:.1f} are free"
    return (
        f"{run.network.name} does not fit into the memory of {place}: it needs about "
        f"{bytes_needed(run) / 1024**3:.1f} GB{had}. Use fewer runs side by side (--jobs 1), a smaller "
        "--batch-size, or --precision bf16"
    )


def probe_layers(network: nn.Module) -> dict[str, list[str]]:
    """Probe kind -> names of what its values belong to: run.json's `layers`."""
    names = list(nets.weighted_layers(network))
    kinds = dict.fromkeys(("gradient_norm", "weight_norm", "relative_update"), names)
    return kinds | {"total_gradient_norm": ["all parameters"]}


def _save(training: Training, writer: store.RunWriter | None) -> None:
    if writer is not None:
        writer.save_checkpoint(training.step, training.save(), training.seconds)


def _beating(
    training: Training, split: str, writer: store.RunWriter | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """A split's images for a test, with signs of life: a pass over 50,000 takes minutes on a CPU."""
    for batch in training.feed.plain(split):
        if writer is not None:
            writer.beat(training.step)
        yield batch


def _test(training: Training, writer: store.RunWriter | None, *, last: bool) -> dict[str, float]:
    """Errors of the followed set; with a held-out part, the test set waits for the last step."""
    held_out = training.run.data.validation > 0
    splits = (["validation"] if held_out else []) + (["test"] if last or not held_out else [])
    training.group.agree_on_statistics(training.network)
    out: dict[str, float] = {}
    for name in splits:
        images = _beating(training, name, writer)
        error, loss = evaluate.single_view(training.network, images, training.group.total)
        out |= {f"{name}_error": error, f"{name}_loss": loss}
    training.schedule.after_test(training.step, out[f"{splits[0]}_error"])
    return out


@torch.no_grad()
def recompute_norm(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    mean: Callable[[Tensor], Tensor] = lambda values: values,
) -> None:
    """Set every batch norm's statistics to their averages over `batches`, as the authors did.

    They fixed the means and variances after training, over the training images. Here each batch
    counts alike, and the images are not augmented. `mean` averages over processes with equal shares.
    """
    was_training = network.training
    norms = [module for module in network.modules() if isinstance(module, nets.BatchNorm)]
    before = [(norm.momentum, norm.group) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.group = None, None  # None: the plain average of all batches
    network.train()
    try:
        for images, _ in batches:
            network(images)
    finally:
        network.train(was_training)
        for norm, (momentum, group) in zip(norms, before, strict=True):
            norm.momentum, norm.group = momentum, group
            for statistic in (norm.running_mean, norm.running_var):
                assert statistic is not None
                statistic.copy_(mean(statistic))


def _summarise(training: Training, writer: store.RunWriter | None) -> store.RunRecord | None:
    """Write the summary of a run that has ended, from its own log, and read the run back."""
    diverged_at = training.first_bad_update
    clean = None
    if diverged_at < 0:
        training.group.agree_on_statistics(training.network)
        images = _beating(training, "train", writer)
        clean = evaluate.single_view(training.network, images, training.group.total)[0]
    skipped = sorted({name for part in training.group.gather(_damaged(training)) for name in part})
    if writer is None:
        return None
    log = store.read_run(writer.folder)
    speed = log.metrics["images_per_second"].median()
    events = training.schedule.events
    summary = {
        "steps": training.step,
        "train_error": log.final("train_error"),
        "train_loss": log.final("train_loss"),
        "train_error_clean": store.significant(clean),
        "validation_error": log.final("validation_error"),
        "test_error": log.final("test_error"),
        "test_loss": log.final("test_loss"),
        "diverged_at": diverged_at if diverged_at >= 0 else None,
        "warm_until": events.warm_until,
        "drops": list(events.drops),
        "skipped_images": skipped,
        "seconds": store.significant(training.seconds),
        "images_per_second": store.significant(float(speed)),
        "weights_sha256": weights_sha256(training.network),
    }
    error = f"the loss of update {diverged_at} was not finite" if diverged_at >= 0 else None
    status: store.Status = "diverged" if diverged_at >= 0 else "finished"
    writer.finish(status, step=training.step, summary=summary, error=error)
    return store.read_run(writer.folder)


def _damaged(training: Training) -> list[str]:
    """Files that this process has left out so far, where that was asked for."""
    return sorted(getattr(training.feed, "damaged", ()))
