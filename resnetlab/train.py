"""Training: one optimizer step, and the loop around it that measures, saves and resumes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from resnetlab import __version__, config, data, evaluate, machine, models, probes, results
from resnetlab.config import UsageError, lr_at

BLOCK = 100  # steps whose random draws travel to the device together


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,  # (B, C, S, S)
    labels: Tensor,  # (B,)
    precision: config.Precision = "fp32",
) -> tuple[Tensor, Tensor]:
    """One update. Returns the mean cross-entropy and the number of wrong images, before the update.

    Both stay on the device. The gradients stay in `.grad` until the next step, for the probes.
    """
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = network(images)
    loss = cross_entropy(logits.float() if precision == "bf16" else logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach(), (logits.argmax(dim=1) != labels).sum()


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
            raise UsageError("device cuda was asked for, but torch sees no CUDA GPU; use --device cpu")
        if number and int(number) >= torch.cuda.device_count():
            raise UsageError(f"device {name}: this machine has {torch.cuda.device_count()} GPU(s)")
    return torch.device(name)


def check_precision(precision: config.Precision, device: torch.device) -> None:
    """Raises UsageError if the device cannot train in that precision."""
    if precision == "tf32" and device.type != "cuda":
        raise UsageError("precision tf32 needs a CUDA GPU; on a CPU use fp32, fp64 or bf16")


def _set_precision(precision: config.Precision) -> None:
    """fp32 means fp32: TF32 is off unless asked for, and cuDNN keeps to deterministic algorithms."""
    mode = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = mode
    torch.backends.cudnn.conv.fp32_precision = mode  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def _device_name(device: torch.device) -> str:
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


class _Training:
    """The state that a checkpoint keeps: network, optimizer, step and the open log window."""

    def __init__(self, run: config.Run, dataset: data.Dataset, device: torch.device) -> None:
        self.run = run
        dtype = torch.float64 if run.precision == "fp64" else torch.float32
        self.network = models.build(
            run.network,
            num_classes=len(dataset.classes),
            in_channels=dataset.in_channels,
            generator=data.generator(run.seed, "weights"),
        ).to(device, dtype)
        recipe = run.recipe
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,  # on every parameter, as in the paper
        )
        self.batches = data.Batches(dataset.train, recipe, device, dtype)
        self.order = data.Order(len(dataset.train), recipe, run.seed)
        self.step = 0
        self.seconds = 0.0  # spent training, all starts together
        self._block: tuple[range, data.Draws] | None = None
        self._open_window()
        # first update whose loss was not finite; kept on the device so that no step waits for it
        self.diverged_at = torch.tensor(-1, device=device)

    def _open_window(self) -> None:
        device = self.batches.device
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.wrong_sum = torch.zeros((), dtype=torch.int64, device=device)
        self.window = 0  # steps since the last row
        self.window_began = self.seconds

    def _draws(self) -> tuple[data.Draws, int]:
        """The draws that hold the current step and its row in them."""
        if self._block is None or self.step not in self._block[0]:
            steps = range(self.step, min(self.step + BLOCK, self.run.recipe.steps))
            draws = self.order.draws(steps.start, steps.stop).to(self.batches.device)
            self._block = steps, draws
        return self._block[1], self.step - self._block[0].start

    def advance(self) -> None:
        """One update at the schedule's learning rate; gradients stay for the probes."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr_at(self.step, self.run.recipe)
        images, labels = self.batches.train(*self._draws())
        loss, wrong = train_step(self.network, self.optimizer, images, labels, self.run.precision)
        self.step += 1
        self.window += 1
        self.loss_sum += loss
        self.wrong_sum += wrong
        fresh = ~torch.isfinite(loss) & (self.diverged_at < 0)
        self.diverged_at = torch.where(fresh, self.step, self.diverged_at)

    def close_window(self) -> dict[str, Any]:
        """The row for the steps since the last one; waits for the device."""
        images = self.window * self.run.recipe.batch_size
        row = {
            "step": self.step,
            "epoch": self.step * self.run.recipe.batch_size / self.order.images,
            "lr": lr_at(self.step - 1, self.run.recipe),
            "train_loss": float(self.loss_sum) / self.window,
            "train_error": 100 * int(self.wrong_sum) / images,
        }
        self._open_window()
        return row

    def save(self) -> bytes:
        """Everything above as bytes that `restore` reads without executing anything."""
        buffer = io.BytesIO()
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss_sum": self.loss_sum,
            "wrong_sum": self.wrong_sum,
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
        device = self.batches.device
        try:
            state = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.window = int(state["step"]), int(state["window"])
            self.seconds, self.window_began = float(state["seconds"]), float(state["window_began"])
            self.loss_sum = state["loss_sum"].reshape(())
            self.wrong_sum = state["wrong_sum"].reshape(())
            self.diverged_at = state["diverged_at"].reshape(())
        except Exception as error:  # torch raises many kinds for a file that is not its own
            raise ValueError(f"is no checkpoint of this run ({type(error).__name__})") from None


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _restored(
    writer: results.RunWriter, fresh: Callable[[], _Training]
) -> tuple[_Training, results.Checkpoint | None]:
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
    on_row: Callable[[Mapping[str, Any]], None] | None = None,
) -> results.RunRecord:
    """Train `run` to its end, or continue it, or return it at once if it has ended.

    Writes results_folder/study/name as `results.py` describes. `threads` defaults to all usable cores;
    a resumed run keeps the threads and the kind of device it began with, because on a CPU the result
    is then the same to the last bit. `on_row` gets each row of metrics. SIGINT and SIGTERM end the run
    after the current step with a checkpoint, status `interrupted`; a loss that is not finite ends it as
    `diverged`. Raises UsageError before anything is written for a request that cannot be met, and
    whatever went wrong later, after marking the run `failed`.
    """
    name = name or run.default_name
    if threads is not None and (type(threads) is not int or threads < 1):
        raise UsageError(f"threads must be a whole number of at least 1, got {threads!r}")
    check_precision(run.precision, resolve_device(device))
    dataset = data.load(run.data)

    with results.RunWriter(results.results_root(results_folder), study, name, run) as writer:
        if writer.ended:
            return results.read_run(writer.folder)
        began = writer.info.get("execution", {})
        if device == "auto":
            device = began.get("device", "auto")
        place = resolve_device(device)
        if began.get("device", place.type) != place.type:
            raise UsageError(
                f"{study}/{name} began on {began['device']} and cannot go on exactly on {place.type}; "
                f"use --device {began['device']} or another run name"
            )
        check_precision(run.precision, place)
        _set_precision(run.precision)
        threads = began.get("threads") or threads or machine.usable_cores()
        execution = {
            "device": place.type,
            "device_name": _device_name(place),
            "threads": threads,
            "engine": "eager",
        }
        with _thread_count(threads), machine.stop_signals() as stopped:
            training = _begin(run, dataset, place, writer, execution)
            return _follow(training, dataset.to(place), writer, stopped, on_row)


def _begin(
    run: config.Run,
    dataset: data.Dataset,
    device: torch.device,
    writer: results.RunWriter,
    execution: Mapping[str, Any],
) -> _Training:
    """The training to go on with, run.json written and the logs cut to where it stands."""
    described = dataset.describe()
    before = writer.info.get("dataset")
    if before and before.get("sha256") != described["sha256"]:
        raise UsageError(
            f"the images of {run.data.label} have changed since {writer.study}/{writer.name} began; "
            "it cannot go on exactly: use another run name"
        )
    training, checkpoint = _restored(writer, lambda: _Training(run, dataset, device))
    began_with = writer.info.get("versions", {}).get("torch", torch.__version__)
    if checkpoint is not None and began_with != torch.__version__:
        _note(f"it began with torch {began_with}, this is {torch.__version__}: the bits may differ")
    writer.begin(
        execution=execution,
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "resnetlab": __version__,
        },
        dataset=described,
        layers={"gradient_norm": list(models.weighted_layers(training.network))},
        parameters=models.count_parameters(training.network),
    )
    if checkpoint is not None:
        writer.resume_from(checkpoint)
    else:
        writer.start_over()
    return training


def _follow(
    training: _Training,
    dataset: data.Dataset,
    writer: results.RunWriter,
    stopped: list[str],
    on_row: Callable[[Mapping[str, Any]], None] | None,
) -> results.RunRecord:
    """Train to the end, measuring and saving on the way; whatever goes wrong marks the run failed."""
    recipe, network = training.run.recipe, training.network
    try:
        network.train()
        # A run that diverged and was killed before its summary must not train on.
        diverged = training.window == 0 and int(training.diverged_at) >= 0
        clock = time.perf_counter()
        while training.step < recipe.steps and not diverged and not stopped:
            before = training.step
            training.advance()
            step, last = training.step, training.step == recipe.steps
            if before % recipe.probe_every == 0 or last:
                norms = probes.gradient_norms(network).tolist()
                row = {"step": before, "kind": "gradient_norm", "values": norms}
                writer.append(results.PROBES_FILE, row)
            if step % recipe.log_every == 0 or step % recipe.test_every == 0 or last:
                images = training.window * recipe.batch_size
                began = training.window_began
                diverged = int(training.diverged_at) >= 0  # waits for the device
                training.seconds += time.perf_counter() - clock
                row = training.close_window()
                if (step % recipe.test_every == 0 or last) and not diverged:
                    row |= _test(training, dataset, writer, last=last)
                timing = {
                    "step": step,
                    "seconds": training.seconds,
                    "images_per_second": images / max(training.seconds - began, 1e-9),
                }
                writer.append(results.METRICS_FILE, row)
                writer.append(results.TIMING_FILE, timing)
                if on_row is not None:
                    on_row(row | timing)
                clock = time.perf_counter()
            if step % recipe.checkpoint_every == 0 or last or diverged:
                training.seconds += time.perf_counter() - clock
                clock = time.perf_counter()
                writer.save_checkpoint(step, training.save(), training.seconds)
            writer.beat(step)
        if stopped and training.step < recipe.steps and not diverged:
            training.seconds += time.perf_counter() - clock
            writer.save_checkpoint(training.step, training.save(), training.seconds)
            writer.finish("interrupted", step=training.step, error=f"stopped by {stopped[0]}")
            return results.read_run(writer.folder)
        return _summarise(training, dataset, writer)
    except BaseException as error:
        # The disk may be full or gone: the first error is the one to report, not this one.
        with contextlib.suppress(OSError):
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            writer.finish("failed", step=training.step, error=reason)
        raise


def _beating(
    training: _Training, split: data.Split, writer: results.RunWriter
) -> Iterator[tuple[Tensor, Tensor]]:
    """A split's images for a test, with signs of life: a pass over 50,000 takes minutes on a CPU."""
    for batch in training.batches.plain(split):
        writer.beat(training.step)
        yield batch


def _test(
    training: _Training, dataset: data.Dataset, writer: results.RunWriter, *, last: bool
) -> dict[str, float]:
    """Errors of the followed set; with a held-out part, the test set waits for the last step."""
    splits = {"validation": dataset.validation} if dataset.validation is not None else {}
    if dataset.validation is None or last:
        splits["test"] = dataset.test
    out: dict[str, float] = {}
    for name, split in splits.items():
        error, loss = evaluate.single_view(training.network, _beating(training, split, writer))
        out |= {f"{name}_error": error, f"{name}_loss": loss}
    return out


def _summarise(
    training: _Training, dataset: data.Dataset, writer: results.RunWriter
) -> results.RunRecord:
    """Write the summary of a run that has ended, from its own log, and read the run back."""
    log = results.read_run(writer.folder)
    diverged_at = int(training.diverged_at)
    clean = None
    if diverged_at < 0:
        images = _beating(training, dataset.train, writer)
        clean = evaluate.single_view(training.network, images)[0]
    speed = log.metrics["images_per_second"].median()
    summary = {
        "steps": training.step,
        "train_error": log.final("train_error"),
        "train_loss": log.final("train_loss"),
        "train_error_clean": results.significant(clean),
        "validation_error": log.final("validation_error"),
        "test_error": log.final("test_error"),
        "test_loss": log.final("test_loss"),
        "diverged_at": diverged_at if diverged_at >= 0 else None,
        "seconds": results.significant(training.seconds),
        "images_per_second": results.significant(float(speed)),
        "weights_sha256": weights_sha256(training.network),
    }
    error = f"the loss of update {diverged_at} was not finite" if diverged_at >= 0 else None
    status: results.Status = "diverged" if diverged_at >= 0 else "finished"
    writer.finish(status, step=training.step, summary=summary, error=error)
    return results.read_run(writer.folder)
