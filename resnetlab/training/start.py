"""How a run begins or goes on: drawn weights, trained ones, or its newest whole checkpoint."""

from __future__ import annotations

import contextlib
import functools
import itertools
import platform
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resnetlab import __version__, config, machine, nets, store
from resnetlab.config import UsageError
from resnetlab.images import feeds
from resnetlab.images.folders import named
from resnetlab.nets import surgery
from resnetlab.training import engine as engines
from resnetlab.training import ranks, state
from resnetlab.training.captured import CaptureError, make_training
from resnetlab.training.device import device_name, note, resolve_device
from resnetlab.training.state import Training
from resnetlab.training.trained import load_trained, newest

STATISTICS_BATCHES = 4  # of the run's first ones: what added identity layers take their statistics from


class Asked(NamedTuple):
    """How a user wants a run to be executed; None and "auto": as it began, or as this machine can."""

    device: str
    threads: int | None
    engine: str


class Begun(NamedTuple):
    """A training that can make its next step, and its run's writer, which only the first rank has."""

    training: Training
    writer: store.RunWriter | None


@contextlib.contextmanager
def begin(
    own: store.RunWriter, asked: Asked, group: ranks.Ranks = ranks.ALONE
) -> Iterator[Begun | store.RunRecord]:
    """All that comes before the next step of `fit`; or the record of a run that has ended.

    The first rank opens the run's `own` writer: run.json is written and the logs are cut to where the
    training stands. The run's folder is this process's until the end of the block. UsageError before
    anything is written for a request that cannot be met.
    """
    run = own.run
    nets.check_precision(run.precision, resolve_device(asked.device))
    _check_share(run, group)
    dataset = state.load_data(run)
    state.check_run(run, dataset)
    with own if group.first else contextlib.nullcontext() as writer:
        ended = group.tell(store.read_run(writer.folder) if writer and writer.ended else None)
        if ended is not None:
            yield ended
            return
        execution = group.tell(_execution(writer, dataset, asked, group) if writer else {})
        place = asked.device if asked.device.startswith("cuda") else execution["device"]
        torch.set_num_threads(execution["threads"])

        how = engines.parse(execution["engine"])
        fresh = functools.partial(make_training, run, dataset, resolve_device(place), group, how)
        if writer is not None:
            described = _unchanged_images(writer, dataset)
            training, checkpoint, payload = _as_it_was_left(writer, fresh)
            group.tell(payload)
        else:
            training, checkpoint = fresh(), None
            if payload := group.tell(b""):
                training.restore(payload)
        training.spread()
        if writer is not None:  # run.json, and the logs cut: the first change on disk
            versions = {"python": platform.python_version(), "torch": torch.__version__}
            writer.begin(
                execution=execution,
                versions=versions | {"numpy": np.__version__, "resnetlab": __version__},
                dataset=described,
                layers=state.probe_layers(training.network),
                parameters=nets.count_parameters(training.network),
            )
            if checkpoint is not None:
                _say_moved(writer)
                writer.resume_from(checkpoint)
            else:
                writer.start_over()
        yield Begun(training, writer)


def beginning(
    run: config.Run, device: torch.device, results_folder: str | Path | None = None
) -> tuple[nets.Network, Tensor, Tensor]:
    """What the run's first step sees: the network as it begins, in training mode, and its batch.

    Images (B, C, S, S), normalised and augmented, and labels (B,). Nothing is trained or written. The
    gradient norms of this batch are those that the run logs for step 0. Trained weights that the run
    begins with are looked for in `results_folder`.
    """
    nets.check_precision(run.precision, device)
    dataset = state.load_data(run)
    state.check_run(run, dataset)
    training = Training(run, dataset, device)
    _start_from_weights(training, store.results_root(results_folder))
    images, labels = next(training.feed.batches(0, 1))
    return training.network.train(), images, labels


def _check_share(run: config.Run, group: ranks.Ranks) -> None:
    batch, ghost = run.recipe.batch_size, run.recipe.ghost_batch
    share, rest = divmod(batch, group.count)
    if rest or share < 2:
        raise UsageError(f"batch_size {batch} cannot be divided among {group.count} processes")
    if ghost is not None and share % ghost:
        raise UsageError(
            f"ghost_batch {ghost} does not divide the {share} images of each of {group.count} processes"
        )


def _execution(
    writer: store.RunWriter, dataset: state.Images, asked: Asked, group: ranks.Ranks
) -> dict[str, Any]:
    """Where and how the run is executed: as it began, if it did. UsageError if that cannot be."""
    run, began = writer.run, writer.info.get("execution", {})
    device, threads, engine = asked
    place = resolve_device(began.get("device", "auto") if device == "auto" else device)
    resident, alone = isinstance(dataset, feeds.Dataset), group.count == 1
    wanted = began.get("engine", "auto") if engine == "auto" else engine
    if wanted == "auto":
        side = state.image_side(run, dataset)
        chosen = engines.choose(run, place, side, resident=resident, alone=alone)
    else:
        chosen = engines.parse(wanted)
    not_captured = began.get("not_captured") or _why_not_captured(writer)
    if not_captured and engine == "auto":
        chosen = replace(chosen, graph=False)
    for key, now, words, advice in (
        ("device", place.type, "on {}", "use --device {}"),
        ("ranks", group.count, "with {} process(es)", "batch norm sees each one's share: start {}"),
        ("engine", _by_bits(chosen.name), "with engine {}", "leave --engine out"),
    ):
        before = began.get(key, now) if key != "engine" else _by_bits(began.get(key, now))
        if before != now:
            raise UsageError(
                f"{writer.study}/{writer.name} began {words.format(before)} and cannot go on exactly "
                f"{words.format(now)}; {advice.format(before)}, or use another run name"
            )
    chosen = engines.available(chosen, place, resident=resident, alone=alone)
    kept = began.get("threads")
    if kept and threads not in (None, kept):
        note(
            f"{writer.study}/{writer.name} keeps the {kept} thread(s) that it began with, not "
            f"{threads}: another number gives other bits"
        )
    execution = {
        "device": place.type,
        "device_name": device_name(place),
        "threads": kept or threads or machine.threads(group.here, told=group.count == 1),
        "engine": chosen.name,
        "ranks": group.count,
        "activations": "recomputed" if run.network.depth > state.RECOMPUTE_LAYERS else "kept",
    }
    return execution | ({"not_captured": not_captured} if not_captured and not chosen.graph else {})


def _by_bits(engine: str) -> str:
    """The engine's name without graph: a step is replayed as it was captured, to the last bit."""
    return replace(engines.parse(engine), graph=False).name


def _why_not_captured(writer: store.RunWriter) -> str | None:
    """What a start of this run before said of its step; None if it could be captured, or was not."""
    error: str | None = writer.info.get("error")
    return error if error is not None and error.startswith(CaptureError.__name__) else None


def _unchanged_images(writer: store.RunWriter, dataset: state.Images) -> dict[str, Any]:
    """What run.json says of the images. UsageError if the run began with others."""
    before, described = writer.info.get("dataset"), dataset.describe()
    if before and before.get("sha256") != described["sha256"]:
        raise UsageError(
            f"the images of {writer.run.data.label} have changed since {writer.study}/{writer.name} "
            "began; it cannot go on exactly: use another run name"
        )
    if left := dataset.left_out:
        note(f"{len(left)} file(s) or folder(s) of {writer.run.data.label} are not read: {named(left)}")
    return described


def _as_it_was_left(
    writer: store.RunWriter, fresh: Callable[[], Training]
) -> tuple[Training, store.Checkpoint | None, bytes]:
    """The training of the newest whole checkpoint, that checkpoint and its bytes; or one that begins.

    The bytes are what other ranks have to load, b"" for nothing. Changes nothing on disk.
    """
    who = f"{writer.study}/{writer.name}"

    def restored(checkpoint: store.Checkpoint) -> tuple[Training, store.Checkpoint]:
        training = fresh()
        training.restore(checkpoint.payload)
        return training, checkpoint

    resumed = newest(writer.checkpoints(), restored, who)
    if resumed is None:
        if next(writer.checkpoints(), None) is not None:
            note(f"{who}: none of its checkpoints can be used: it starts over")
        training = fresh()
        grown = _start_from_weights(training, writer.folder.parents[1])
        return training, None, training.save() if grown else b""
    training, checkpoint = resumed
    note(f"{who}: resumed at step {training.step}")
    began_with = writer.info.get("versions", {}).get("torch", torch.__version__)
    if began_with != torch.__version__:
        note(f"it began with torch {began_with}, this is {torch.__version__}: the bits may differ")
    return training, checkpoint, checkpoint.payload


def _say_moved(writer: store.RunWriter) -> None:
    """Whether the run goes on elsewhere than it was left, perhaps on another kind of processor."""
    places = [f"{start.get('host')} ({start.get('device')})" for start in writer.info["starts"][-2:]]
    if places[0] != places[-1] and "None" not in places[0]:
        note(f"it was left on {places[0]}, this is {places[-1]}: the bits may differ")


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
    source, who = load_trained(record, training.device), f"{start.study}/{start.run}"
    sha256 = state.weights_sha256(source.network)
    if sha256 != start.sha256:
        raise UsageError(
            f"the checkpoint of {record.path} has not the weights that {run.label} begins with "
            f"(SHA-256 {sha256[:12]}, asked {start.sha256[:12]}); train {who} again in an empty folder"
        )
    normalise = training.feed.normalise
    learnt = source.normalise.to(training.device, normalise.mean.dtype)
    alike = torch.equal(normalise.mean, learnt.mean) and torch.equal(normalise.divisor, learnt.divisor)
    if not alike:
        raise UsageError(f"{who} was trained on images normalised otherwise than those of {run.label}")
    batches = itertools.islice(training.feed.batches(0, STATISTICS_BATCHES), STATISTICS_BATCHES)
    images = torch.cat([images for images, _ in batches])
    network = source.network.to(images.dtype)
    assert isinstance(network, nets.CifarNetwork)
    grown = surgery.append_identity_layers(network, run.network.depth, images)
    training.network.load_state_dict(grown.state_dict())
    return True
