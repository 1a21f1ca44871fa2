"""A training whose step a GPU captures once, as a graph, and then replays without Python."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import torch

from resnetlab import config, nets
from resnetlab.images import feeds
from resnetlab.training import engine as engines
from resnetlab.training import ranks
from resnetlab.training.state import RECOMPUTE_LAYERS, Images, Training
from resnetlab.training.step import train_step


class CaptureError(RuntimeError):
    """A run's step cannot be captured; the message names what it did first that a capture forbids."""


class SpoiltProcessError(RuntimeError):
    """The capture of another run failed in this process, which cannot capture any more."""


def make_training(
    run: config.Run,
    dataset: Images,
    device: torch.device,
    group: ranks.Ranks = ranks.ALONE,
    how: engines.Engine = engines.EAGER,
) -> Training:
    """The training of a run as that engine makes its steps."""
    kind = CapturedTraining if how.graph else Training
    return kind(run, dataset, device, group, how)


class CapturedTraining(Training):
    """The same steps from fixed device memory: draws and rates of a block of steps, row by row.

    The memory stays where it is from block to block, so that a captured graph may read it. The first
    steps are made one by one; they create what a capture must find in place (momentum, cuDNN's
    choices). The capture itself computes nothing. Where it fails, CaptureError says why: torch's memory
    allocator is then left within a capture, so that nothing can be captured in this process again
    (SpoiltProcessError). Without a GPU steps go on being made one by one. A run has a stream of its
    own, on which everything of it must happen: one small batch of 128 leaves most of a GPU idle.
    """

    FIRST = 3  # steps before the capture
    process_spoilt = False

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        device = self.device
        assert isinstance(self.feed, feeds.Resident)
        self._resident, self._size = self.feed, self.feed.BLOCK
        self._draws = self.feed.draw(0, self._size).to(device)
        self._rates = torch.zeros(self._size, device=device)
        self._lr = torch.zeros((), device=device)  # the optimizer's
        self._row = torch.zeros(1, dtype=torch.int64, device=device)
        # The steps whose draws and rates lie there, and the schedule's events that these assume.
        self._block, self._events = range(0), config.Events()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._capturable, self._made = device.type == "cuda", 0
        self._stream: torch.cuda.Stream | None = None
        if self._capturable:  # the deepest network's steps take longest: they go first
            self._stream = torch.cuda.Stream(device, priority=-(self.run.network.depth // 20))

    def spread(self) -> None:
        """As of every training; from here on it has its stream."""
        super().spread()
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))

    def on_its_stream(self) -> contextlib.AbstractContextManager[Any]:
        """Its own, after `spread`; on a CPU anywhere."""
        return torch.cuda.stream(self._stream) if self._stream is not None else super().on_its_stream()

    def wait(self) -> None:
        """Until its stream has done all of its work."""
        if self._stream is not None:
            self._stream.synchronize()

    def advance(self) -> None:
        """One step, replayed once it is captured."""
        if self.step not in self._block or self._events != self.schedule.events:
            self._fill()
        if self._capturable and self._graph is None and self._made >= self.FIRST:
            self._capture()
        if self._graph is not None:
            self._graph.replay()
        else:
            self._step_from_memory()
        self._made += 1
        self._after_step()

    def _fill(self) -> None:
        """The next steps' draws and rates into the memory; a rate that waits for a step comes alone.

        On a GPU from pinned memory, behind the steps that still wait on its stream: nobody waits.
        """
        ahead = 1 if self.schedule.warming else self._size
        self._block = range(self.step, min(self.step + ahead, self.run.recipe.steps))
        self._events = self.schedule.events
        rows = len(self._block)
        draws = self._resident.draw(self._block.start, self._block.stop)
        rates = torch.tensor([self.schedule.lr(step) for step in self._block])
        for kept, new in zip((*self._draws, self._rates), (*draws, rates), strict=True):
            source = new.pin_memory() if self._capturable else new
            kept[:rows].copy_(source, non_blocking=True)
        self._row.zero_()
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr

    def _step_from_memory(self) -> None:
        """The step of the next row. All on the device: this is what the graph holds."""
        images, labels = self._resident.batch(self._draws, self._row)
        images = images.contiguous(memory_format=self.engine.memory_format)
        self._lr.copy_(self._rates.index_select(0, self._row)[0])
        self._row += 1
        recipe = self.run.recipe
        one_batch = recipe.ghost_batch is None and self.run.network.depth <= RECOMPUTE_LAYERS
        with nets.counted_together(self.network) if one_batch else contextlib.nullcontext():
            step = train_step(
                self.model, self.optimizer, images, labels, self.run.precision, recipe.clip
            )
        self._count(step)

    def _capture(self) -> None:
        if CapturedTraining.process_spoilt:
            raise SpoiltProcessError(
                "another run's capture failed in this process; start this run again"
            )
        graph = torch.cuda.CUDAGraph()
        try:
            with _no_collection(), torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
                self._step_from_memory()
        except RuntimeError as error:
            CapturedTraining.process_spoilt = True
            first: BaseException = error  # the end of a spoilt capture raises too, and says nothing
            while first.__context__ is not None:
                first = first.__context__
            reason = str(first).splitlines()[0][:160]
            raise CaptureError(
                f"the step cannot be captured ({reason}); the same command again trains without a graph"
            ) from None
        self._graph = graph


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """What ended runs hold in cycles is freed before the block; in it nothing is."""
    gc.collect()
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
