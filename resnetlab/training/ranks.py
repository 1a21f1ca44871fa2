"""One training over several processes (torch.distributed): who is first, and what they share.

`torchrun --nproc-per-node 2 -m resnetlab train ...` starts the processes ("ranks"). Each computes the
gradient of its share of every batch; their average is the gradient of the batch. Alone, everything
here does nothing.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resnetlab import machine
from resnetlab.config import UsageError
from resnetlab.images.feeds import Share

T = TypeVar("T")


class RankLostError(RuntimeError):
    """Another process of this training is gone; what it was about to say is in its own output."""


@dataclass(frozen=True)
class Ranks(Share):
    """This process among the `count` that train one network. Rank 0 is `first`: it alone writes."""

    here: int = 1  # how many of them run on this machine
    _control: Any = None  # a group for small messages between CPUs, which never wait for a GPU

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network as `train_step` calls it: its backward pass averages gradients over ranks.

        Batch norm keeps to each rank's own images, as on the paper's GPUs; its running statistics
        stay each rank's own too until `agree_on_statistics`.
        """
        if self.count == 1:
            return network
        ids = [device] if device.type == "cuda" else None
        known = inspect.signature(DistributedDataParallel).parameters
        sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {"device_ids": ids, sync: False}
        return DistributedDataParallel(network, **options)

    def agree_on_statistics(self, network: nn.Module) -> None:
        """Give every rank the first one's buffers: what is tested and saved is the same network."""
        if self.count > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def total(self, values: Tensor) -> Tensor:
        """The sum over ranks."""
        if self.count == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values

    def average(self, values: Tensor) -> Tensor:
        """The mean over ranks."""
        return self.total(values) / self.count

    def smallest(self, value: int) -> int:
        """The smallest over ranks."""
        if self.count == 1:
            return value
        message = torch.tensor(value)
        dist.all_reduce(message, dist.ReduceOp.MIN, group=self._control)
        return int(message)

    def any(self, flag: bool) -> bool:
        """Whether it is true on any rank: all of them stop after the same step."""
        return self.smallest(0 if flag else 1) == 0

    def tell(self, value: T) -> T:
        """The first rank's value, on every rank."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0, group=self._control)
        return box[0]


ALONE = Ranks()


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal():
        raise UsageError(f"{name}={text!r} in the environment: start several processes with torchrun")
    return int(text)


@contextlib.contextmanager
def join(device: str) -> Iterator[tuple[Ranks, str]]:
    """The ranks that torchrun started, and this one's device; `ALONE` and `device` without torchrun.

    Raises UsageError for more ranks than GPUs, or than CPU cores.
    """
    try:
        alone = machine.processes_started()[1] == 1
    except ValueError as error:
        raise UsageError(str(error)) from None
    if alone:
        yield ALONE, device
        return
    rank, count = _number("RANK"), _number("WORLD_SIZE")
    local, here = _number("LOCAL_RANK"), _number("LOCAL_WORLD_SIZE")
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if device.startswith("cuda:"):
        raise UsageError(f"device {device}: with several processes say cuda, each takes one of its own")
    places = torch.cuda.device_count() if on_gpu else machine.usable_cores()
    if here > places:
        unit = "GPU(s)" if on_gpu else "usable CPU core(s)"
        raise UsageError(f"{here} processes were started on a machine with {places} {unit}")
    if on_gpu:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        ranks = Ranks(rank, count, here, dist.new_group(backend="gloo") if on_gpu else dist.group.WORLD)
        yield ranks, f"cuda:{local}" if on_gpu else device
        gc.collect()  # what still refers to the group in a cycle would keep its threads at exit
        dist.barrier()  # nobody leaves while another still listens
    finally:
        with contextlib.suppress(RuntimeError):  # after a loss there may be nobody to say goodbye to
            dist.destroy_process_group()


def lost(error: BaseException, ranks: Ranks) -> RankLostError | None:
    """What a failed exchange with another process means; None for any other error."""
    words = ("gloo", "nccl", "connection reset", "connection closed")
    exchange = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    if ranks.count == 1 or not exchange:
        return None
    return RankLostError(
        f"another of the {ranks.count} processes of this training is gone (process {ranks.rank} "
        "noticed); the same command goes on from the last checkpoint"
    )
