"""Several runs side by side on one device, each as if it were alone."""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from resnetlab import config, machine, nets, store
from resnetlab.config import UsageError
from resnetlab.training.device import resolve_device, threads_kept
from resnetlab.training.ending import failing_in_words
from resnetlab.training.loop import Loop
from resnetlab.training.memory import bytes_needed
from resnetlab.training.start import Asked, begin


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

    They take turns, a step each; on a GPU every run has a stream of its own, so that one small
    batch of 128 does not leave most of the device idle. Each keeps its seed, order of images, batch
    norm statistics, log and checkpoints: what a run computes does not depend on its company. A run
    that does not fit into `memory` bytes (by default what the GPU has free, less a tenth) beside those
    under way waits until one of them has ended (`bytes_needed`). What went wrong with one is its
    value in the result, and the others go on. UsageError for runs of different precisions, which are
    a setting of the whole process.
    """
    precision = _one_precision(runs.values())
    place = resolve_device(device)
    if memory is None and place.type == "cuda":
        memory = int(0.9 * torch.cuda.mem_get_info(place)[0])
    needs = {name: bytes_needed(run) if memory is not None else 0 for name, run in runs.items()}
    ended: dict[str, store.RunRecord | Exception] = {}
    waiting, going = list(runs), dict[str, tuple[Loop, contextlib.ExitStack]]()

    def fits(name: str) -> bool:
        return memory is None or not going or sum(needs[n] for n in (*going, name)) <= memory

    def start(name: str) -> None:
        with contextlib.ExitStack() as held:
            writer = store.RunWriter(store.results_root(results_folder), study, name, runs[name])
            begun = held.enter_context(begin(writer, Asked(device, threads, engine)))
            if isinstance(begun, store.RunRecord):
                ended[name] = begun
                return
            follow = functools.partial(on_row, name) if on_row is not None else None
            with begun.training.on_its_stream(), failing_in_words(*begun):
                loop = Loop(*begun, stopped, follow)
            going[name] = loop, held.pop_all()

    def advance(name: str) -> None:
        loop, _ = going[name]
        with loop.training.on_its_stream(), failing_in_words(loop.training, loop.writer):
            if loop.going:
                loop.advance()
            if loop.going:
                return
            record = loop.end()
            assert record is not None
            ended[name] = record

    def turn(work: Callable[[str], None], name: str) -> None:
        """What goes wrong with one run is that run's; the others go on."""
        try:
            work(name)
        except Exception as error:
            ended[name] = _without_frames(error)
        if name in ended and name in going:
            going.pop(name)[1].close()

    with threads_kept(threads), nets.in_precision(precision), machine.stop_signals() as stopped:
        while going or (waiting and not stopped):
            while waiting and not stopped and fits(waiting[0]):
                turn(start, waiting.pop(0))
            for name in list(going):
                turn(advance, name)
    return ended


def _one_precision(runs: Iterable[config.Run]) -> config.Precision:
    precisions = {run.precision for run in runs}
    if len(precisions) > 1:
        raise UsageError("runs side by side in one process have one precision: start the others apart")
    return precisions.pop() if precisions else "fp32"


def _without_frames(error: Exception) -> Exception:
    """The error with its traceback as a note: frames hold a network, and the memory of its graph."""
    error.add_note("".join(traceback.format_exception(error)))
    link: BaseException | None = error
    while link is not None:
        link.__traceback__, link = None, link.__cause__ or link.__context__
    return error
