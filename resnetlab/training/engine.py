"""The engine: how a step is executed on this machine. What it computes is `training.train_step`.

Three switches, each off by `--engine eager` and each on by its name, joined by "+":

- compiled: torch.compile fuses the operations between the convolutions (batch norm, ReLU, addition)
  into loops that read and write memory once; on a CPU the process also keeps the memory it frees;
- channels_last: the channels of a pixel lie side by side in memory;
- graph (CUDA): the whole step, gathering and augmenting its images included, is captured once and
  replayed without Python.

None changes the precision of a number that is stored; each changes the order of additions, so a run
keeps the engine it began with, and run.json names it.
"""

from __future__ import annotations

import functools
import os
import shutil
from dataclasses import dataclass, fields, replace
from typing import cast

import torch
from torch import nn

from resnetlab import config, files, machine
from resnetlab.config import UsageError
from resnetlab.training.device import note

COMPILE_STEPS = 1_000  # after which compiling has paid (benchmarks/README.md)
# A side of the image: on 8x8 digits 14 to 18 s of compiling save 3 to 8 ms per step.
COMPILE_PIXELS = 16
COMPILE_BYTES = 256 * files.MEGABYTE  # a network of 56 layers leaves a tenth of that on the disk
COMPILE_LAYERS = 200  # compiling took 0.3 to 2 s a layer where it was tried, 20 and 56 layers


@dataclass(frozen=True)
class Engine:
    """Which of the switches are on. `name` is what run.json keeps: "eager", "compiled", ..."""

    compiled: bool = False
    graph: bool = False
    channels_last: bool = False

    @property
    def name(self) -> str:
        return "+".join(f.name for f in fields(self) if getattr(self, f.name)) or "eager"

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


EAGER = Engine()


def parse(name: str) -> Engine:
    """The engine of that name: "eager", or switches joined by "+". UsageError for any other."""
    known = [f.name for f in fields(Engine)]
    words = [] if name == "eager" else name.split("+") if isinstance(name, str) else [repr(name)]
    for word in words:
        if word not in known:
            hint = config.did_you_mean(word, ["auto", "eager", *known])
            raise UsageError(f"unknown engine {name!r}{hint}; switches are joined by +")
    return Engine(**dict.fromkeys(words, True))


def choose(run: config.Run, device: torch.device, size: int, *, resident: bool, alone: bool) -> Engine:
    """The engine for a run, by rule; the measurements behind it are in benchmarks/README.md.

    `size`: pixels a side of the images; `resident`: they lie on the device; `alone`: one process
    trains. On a CPU: compiled where that pays before the run's end; bf16 in channels_last. Not so
    fp32: the eager CPU batch norm is less exact there, and a compiled network chooses for itself. fp64,
    the reference of exactness, is always eager. On a GPU: a captured graph; channels_last where tensor
    cores compute.
    """
    if not alone or run.precision == "fp64":
        return EAGER
    if device.type == "cuda":
        return Engine(graph=resident, channels_last=run.precision in ("bf16", "tf32"))
    if size < COMPILE_PIXELS:
        return EAGER
    pays = run.recipe.steps >= COMPILE_STEPS and run.network.depth <= COMPILE_LAYERS
    return Engine(compiled=pays, channels_last=run.precision == "bf16")


def compiled(network: nn.Module) -> nn.Module:
    """The network, compiled at its first call; weights and gradients are those of `network`."""
    if next(network.parameters()).device.type == "cpu":
        machine.keep_freed_memory()
    # One process may train many networks; from the ninth on they would run uncompiled, in silence.
    torch._dynamo.config.recompile_limit = 1_000
    return cast(nn.Module, torch.compile(network, dynamic=False))


def available(engine: Engine, device: torch.device, *, resident: bool, alone: bool) -> Engine:
    """The engine without what this machine cannot do, which is said in one line on standard error.

    UsageError for what no machine could: a graph on a CPU, of images read from files, or of a training
    that several processes share.
    """
    if engine.graph and (device.type != "cuda" or not resident):
        raise UsageError(
            f"engine {engine.name}: a graph is captured on a CUDA GPU, with images that lie on it; "
            "leave graph out"
        )
    if not alone and (engine.graph or engine.compiled):
        raise UsageError(f"engine {engine.name}: a training over several processes is eager")
    if engine.compiled and (reason := why_not_compile()):
        note(f"torch.compile is not available ({reason}): eager instead")
        return replace(engine, compiled=False)
    return engine


@functools.cache
def why_not_compile() -> str:
    """Why torch.compile cannot be used here, in one line; "" if it can. Compiles a trial, once."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    try:
        torch.compile(lambda x: x + 1)(torch.ones(8))
        # The trial may come out of a cache; a network does not, and would fail in its first step.
        for place in filter(os.path.isdir, (cache_dir(), os.environ.get("TMPDIR", ""))):
            if shutil.disk_usage(place).free < COMPILE_BYTES:
                return f"{place} has less than {COMPILE_BYTES // files.MEGABYTE} MB free"
    except Exception as error:  # no compiler, no headers, an unsupported Python: many kinds
        return " ".join(f"{type(error).__name__}: {error}".split())[:160]
    return ""
