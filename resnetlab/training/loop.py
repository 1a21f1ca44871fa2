"""The loop around the step, in reading order: step, probe, log, test, save. Before it comes `start`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from resnetlab import config, machine, nets, store
from resnetlab.nets import probes
from resnetlab.training import evaluate, ranks
from resnetlab.training.device import threads_kept
from resnetlab.training.ending import failing_in_words, summary_of
from resnetlab.training.start import Asked, begin
from resnetlab.training.state import Training


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

    Writes results_folder/study/name as `store` describes. `threads` defaults to all usable cores; a
    resumed run keeps the threads and the kind of device it began with, because on a CPU the result is
    then the same to the last bit. `engine` says how a step is executed (by default the rule of
    `engine.choose`); it is kept too. `on_row` gets each row of metrics. Any of `machine.STOPS` ends the
    run after the current step with a checkpoint, status `interrupted`; a loss that is not finite ends
    it as `diverged`. Weights that a run starts from are found in `results_folder` or its reference
    runs, and are needed once: a resumed run has its own. Raises UsageError before anything is written
    for a request that cannot be met. Whatever goes wrong later marks the run `failed` and is raised
    too.

    Started by torchrun, all processes train this one run (`ranks`): the batch and the order of images
    stay the same, the first process writes, batch norm sees each process's share. A run that began with
    another number of processes is refused.
    """
    writer = store.RunWriter(store.results_root(results_folder), study, name or run.default_name, run)
    with (
        threads_kept(threads),
        nets.in_precision(run.precision),
        ranks.join(device) as (group, place),
        machine.stop_signals() as stopped,
        begin(writer, Asked(place, threads, engine), group) as begun,
    ):
        if isinstance(begun, store.RunRecord):
            return begun
        with begun.training.on_its_stream(), failing_in_words(*begun):
            loop = Loop(*begun, stopped, on_row)
            while loop.going:
                loop.advance()
            record = loop.end()
        record = group.tell(record)
        assert record is not None
        return record


class Loop:
    """A run under way: `advance` makes a step and what is due with it, `end` writes how it ended.

    All ranks come through here step for step; only the first has a `writer`. Whoever calls does so on
    the training's own stream, if it has one (`together` has several).
    """

    def __init__(
        self,
        training: Training,
        writer: store.RunWriter | None,
        stopped: list[str],
        on_row: Callable[[Mapping[str, Any]], None] | None,
    ) -> None:
        self.training, self.writer = training, writer
        self._stopped, self._on_row = stopped, on_row
        self._stopping = False
        # A run that diverged and was killed before its summary must not train on.
        self._diverged = training.window == 0 and training.first_bad_step is not None
        self._clock = time.perf_counter()
        training.network.train()

    @property
    def going(self) -> bool:
        """Whether there is a step to make."""
        done = self.training.step == self.training.run.recipe.steps
        return not (done or self._diverged or self._stopping)

    def advance(self) -> None:
        """One step, and what is measured, logged, tested and saved with it."""
        training, recipe = self.training, self.training.run.recipe
        before, step = training.step, training.step + 1
        last = step == recipe.steps
        probing = self.writer is not None and (before % recipe.probe_every == 0 or last)
        weights = probes.Weights(training.network) if probing else None

        training.advance()

        if self.writer is not None and weights is not None:
            measured = training.probe(weights).items()
            rows = [{"step": before, "kind": kind, "values": values} for kind, values in measured]
            self.writer.append(store.PROBES_FILE, *rows)
        testing = step % recipe.test_every == 0 or last
        if testing or step % recipe.log_every == 0:
            self._log(testing=testing, last=last)
        if step % recipe.checkpoint_every == 0 or last or self._diverged:
            self._save()
        self._beat()
        self._stopping = training.group.any(bool(self._stopped))

    def _log(self, *, testing: bool, last: bool) -> None:
        """A row for the steps since the last one, and, `testing`, the errors of a test."""
        training, recipe = self.training, self.training.run.recipe
        images, began = training.window * recipe.batch_size, training.window_began
        self._diverged = training.first_bad_step is not None
        self._count_time()
        row = training.close_window()
        if testing and not self._diverged:
            row |= self._test(last)
        timing = {
            "step": training.step,
            "seconds": training.seconds,
            "images_per_second": images / max(training.seconds - began, 1e-9),
        }
        if self.writer is not None:
            self.writer.note_events(training.schedule.events)
            self.writer.append(store.METRICS_FILE, row)
            self.writer.append(store.TIMING_FILE, timing)
            if self._on_row is not None:
                self._on_row(row | timing)
        self._clock = time.perf_counter()  # a test is no time spent training

    def _test(self, last: bool) -> dict[str, float]:
        """Errors of the followed set; with a held-out part, the test set waits for the last step."""
        training, held_out = self.training, self.training.run.data.validation > 0
        if last and training.run.recipe.recompute_norm:
            batches = (images for images, _ in self._images("train"))
            nets.recompute_norm(training.network, batches, training.group.average)
        splits = ["validation", *(["test"] if last else [])] if held_out else ["test"]
        errors: dict[str, float] = {}
        for split in splits:
            errors[f"{split}_error"], errors[f"{split}_loss"] = self._error_and_loss(split)
        training.schedule.after_test(training.step, errors[f"{splits[0]}_error"])
        return errors

    def _error_and_loss(self, split: str) -> tuple[float, float]:
        training = self.training
        training.group.agree_on_statistics(training.network)
        return evaluate.single_view(training.network, self._images(split), training.group.total)

    def _images(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """A split's images, and the writer's heartbeat: a pass over 50,000 takes minutes on a CPU."""
        for batch in self.training.feed.plain(split):
            self._beat()
            yield batch

    def _beat(self) -> None:
        if self.writer is not None:
            self.writer.beat(self.training.step)

    def _count_time(self) -> None:
        now = time.perf_counter()
        self.training.seconds += now - self._clock
        self._clock = now

    def _save(self) -> None:
        self._count_time()
        if self.writer is not None:
            training = self.training
            self.writer.save_checkpoint(training.step, training.save(), training.seconds)

    def end(self) -> store.RunRecord | None:
        """Write how the run ended: finished, diverged or interrupted. Its record, on the first rank."""
        training, writer = self.training, self.writer
        diverged_at, clean = training.first_bad_step if self._diverged else None, None
        status: store.Status
        if diverged_at is not None:
            status, error = "diverged", f"the loss of step {diverged_at} was not finite"
        elif training.step == training.run.recipe.steps:
            status, error = "finished", None
            clean = self._error_and_loss("train")[0]
        else:
            by = self._stopped[0] if self._stopped else "another process's signal"
            status, error = "interrupted", f"stopped by {by}"
            self._save()
        if writer is None:
            return None
        log = store.read_run(writer.folder)
        summary = summary_of(training, log, clean, diverged_at) if status in store.ENDED else None
        writer.finish(status, step=training.step, summary=summary, error=error)
        return store.read_run(writer.folder)
