"""The loop around the step: update, probe, log, test, save.

How a run begins and resumes is in `start`, the update itself in `state` and `step`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnetlab import config, machine, nets, store
from resnetlab.nets import probes
from resnetlab.training import evaluate, ranks
from resnetlab.training.device import (
    _check_threads,
    _thread_count,
    check_precision,
    resolve_device,
    set_precision,
)
from resnetlab.training.memory import OutOfMemoryError, _memory_report
from resnetlab.training.start import _begin, _check_share, _execution, _note
from resnetlab.training.state import Training, check_run, load_data, weights_sha256


def fit(
    run: config.Run,
    *,
    study: str = "runs",
    name: str | None = None,
    results_folder: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    engine: str = "auto",
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
    stay the same, the first process writes, batch norm sees each process's share. A run that began with
    another number of processes is refused.
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


_Fitting = Generator[torch.cuda.Stream | None, None, Any]


def _step(fitting: _Fitting, stream: torch.cuda.Stream | None) -> torch.cuda.Stream | None:
    """Let a training go on to its next update, on its own stream, which is returned; None: any."""
    with torch.cuda.stream(stream) if stream is not None else contextlib.nullcontext():
        return next(fitting)


# A generator, one step each, so that `together` can interleave trainings.
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
            _execution(writer, run, dataset, device, threads, engine, group)
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
    norms = [module for module in network.modules() if isinstance(module, nets.BatchNorm)]
    before = [(norm.momentum, norm.group) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.group = None, None  # None: the plain average of all batches
    try:
        with nets.in_mode(network, training=True):
            for images, _ in batches:
                network(images)
    finally:
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
        "seconds": store.significant(training.seconds),
        "images_per_second": store.significant(float(speed)),
        "weights_sha256": weights_sha256(training.network),
    }
    error = f"the loss of update {diverged_at} was not finite" if diverged_at >= 0 else None
    status: store.Status = "diverged" if diverged_at >= 0 else "finished"
    writer.finish(status, step=training.step, summary=summary, error=error)
    return store.read_run(writer.folder)
