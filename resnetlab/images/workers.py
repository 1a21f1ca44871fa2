"""Processes that decode images ahead of training, in order."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from resnetlab.images.datasets import DataError

T = TypeVar("T")
R = TypeVar("R")


class _Worker(torch.utils.data.Dataset[Any]):
    """`function` as a DataLoader's workers call it. A DataError travels back as a value.

    (Raised there, it would arrive with a traceback for its message.)
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __getitem__(self, task: Any) -> Any:
        try:
            return self.function(task)
        except DataError as error:
            return error


def _as_it_is(result: Any) -> Any:
    return result


def _leave_the_group(worker: int) -> None:
    """A Ctrl-C goes to the whole group of processes; it is for training, which ends its workers."""
    os.setpgrp()


def in_order(
    function: Callable[[T], R], tasks: Iterable[T], workers: int, ahead: int = 2
) -> Iterator[R]:
    """`function` of each task, in the order of the tasks, computed by `workers` processes (0: here).

    Each has at most `ahead` tasks waiting or done. Raises the DataError that `function` raised, and
    one that says so if a worker was killed. However the loop over it ends, the workers end.
    """
    if workers == 0:
        yield from map(function, tasks)
        return
    with warnings.catch_warnings():
        # More workers than cores are slow, not wrong, and are somebody's explicit wish.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader: DataLoader[Any] = DataLoader(
            _Worker(function),
            batch_size=None,
            sampler=tasks,
            num_workers=workers,
            collate_fn=_as_it_is,
            prefetch_factor=ahead,
            worker_init_fn=_leave_the_group,
            generator=torch.Generator(),  # else it would draw from the global one
        )
        found = iter(loader)
    try:
        for result in found:
            if isinstance(result, DataError):
                raise result
            yield result
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        said = str(error).splitlines()[0].strip()
        raise DataError(
            f"a process that decodes images is gone ({said}); was memory short? A run goes on from its "
            "last checkpoint with the same command"
        ) from None
    finally:
        del found  # the last reference: its workers end now, whatever still holds this frame


class _Slots:
    """Memory that workers write crops into and this process reads: uint8 (slots, n, crop, crop, 3).

    Sent through the workers' queue every pixel would be copied five times. torch's shared tensors need
    /dev/shm, of which containers have 64 MB; `RawArray` takes a temporary file where that is short.
    """

    def __init__(self, slots: int, images: int, crop: int) -> None:
        self.shape = (slots, images, crop, crop, 3)
        self._memory = multiprocessing.RawArray(ctypes.c_uint8, math.prod(self.shape))

    def __getitem__(self, slot: int) -> Tensor:
        return torch.frombuffer(self._memory, dtype=torch.uint8).view(self.shape)[slot]
