"""Several runs side by side on one device, each as if it were alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from resnetlab import config, machine, store
from resnetlab.config import UsageError
from resnetlab.training.device import _check_threads, _thread_count, resolve_device
from resnetlab.training.loop import _Fitting, _fitting, _step
from resnetlab.training.memory import bytes_needed


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
