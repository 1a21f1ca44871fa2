"""How a run begins or goes on: drawn weights, trained ones, or its newest whole checkpoint."""

from __future__ import annotations

import itertools
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnetlab import __version__, config, machine, nets, store
from resnetlab.config import UsageError
from resnetlab.images import feeds, photographs
from resnetlab.nets import surgery
from resnetlab.training import engine as engines
from resnetlab.training import evaluate, ranks
from resnetlab.training.device import check_precision, device_name, resolve_device
from resnetlab.training.state import (
    RECOMPUTE_LAYERS,
    Training,
    check_run,
    load_data,
    probe_layers,
    weights_sha256,
)

STATISTICS_BATCHES = 4  # of the run's first ones: what added identity layers take their statistics from


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
    source = evaluate.trained(record, training.device)
    found, who = weights_sha256(source.network), f"{start.study}/{start.run}"
    if found != start.sha256:
        raise UsageError(
            f"the checkpoint of {record.path} has not the weights that {run.label} begins with "
            f"(SHA-256 {found[:12]}, asked {start.sha256[:12]}); train {who} again in an empty folder"
        )
    ours = training.feed.normalise
    theirs = source.normalise.to(training.device, ours.mean.dtype)
    if not (torch.equal(ours.mean, theirs.mean) and torch.equal(ours.divisor, theirs.divisor)):
        raise UsageError(f"{who} was trained on images normalised otherwise than those of {run.label}")
    batches = itertools.islice(training.feed.batches(0, STATISTICS_BATCHES), STATISTICS_BATCHES)
    images = torch.cat([images for images, _ in batches])
    network = source.network.to(images.dtype)
    assert isinstance(network, nets.CifarNetwork)
    grown = surgery.append_identity_layers(network, run.network.depth, images)
    training.network.load_state_dict(grown.state_dict())
    return True


def beginning(
    run: config.Run, device: torch.device, results_folder: str | Path | None = None
) -> tuple[nets.Network, Tensor, Tensor]:
    """What the run's first update sees: the network as it begins, in training mode, and its batch.

    Images (B, C, S, S), normalised and augmented, and labels (B,). Nothing is trained or written. The
    gradient norms of this batch are those that the run logs for step 0. Trained weights that the run
    begins with are looked for in `results_folder`.
    """
    check_precision(run.precision, device)
    dataset = load_data(run)
    check_run(run, dataset)
    training = Training(run, dataset, device)
    _start_from_weights(training, store.results_root(results_folder))
    images, labels = next(training.feed.batches(0, 1))
    return training.network.train(), images, labels


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def _restored(
    writer: store.RunWriter, fresh: Callable[[], Training]
) -> tuple[Training, store.Checkpoint | None]:
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


def _check_share(run: config.Run, group: ranks.Ranks) -> None:
    batch, ghost = run.recipe.batch_size, run.recipe.ghost_batch
    if batch % group.count or batch // group.count < 2:
        raise UsageError(f"batch_size {batch} cannot be divided among {group.count} processes")
    if ghost is not None and batch // group.count % ghost:
        raise UsageError(
            f"ghost_batch {ghost} does not divide the {batch // group.count} images of each of "
            f"{group.count} processes"
        )


def _execution(
    writer: store.RunWriter,
    run: config.Run,
    dataset: feeds.Dataset | photographs.Photos,
    device: str,
    threads: int | None,
    engine: str,
    group: ranks.Ranks,
) -> dict[str, Any]:
    """Where and how the run is executed: as it began, if it did. UsageError if that cannot be."""
    who, began = f"{writer.study}/{writer.name}", writer.info.get("execution", {})
    if device == "auto":
        device = began.get("device", "auto")
    place = resolve_device(device)
    if began.get("device", place.type) != place.type:
        raise UsageError(
            f"{who} began on {began['device']} and cannot go on exactly on {place.type}; "
            f"use --device {began['device']} or another run name"
        )
    before = began.get("ranks", 1) if began else group.count
    if before != group.count:
        raise UsageError(
            f"{who} began with {before} process(es) and cannot go on exactly with {group.count}, "
            "because batch norm sees each one's share; start as many, or use another run name"
        )
    share = max(1, machine.usable_cores() // group.here)
    size = dataset.size if isinstance(dataset, feeds.Dataset) else run.recipe.crop
    assert size is not None
    resident = isinstance(dataset, feeds.Dataset)
    chosen = engines.choose(run, place, size, resident=resident, alone=group.count == 1)
    if engine != "auto":
        chosen = engines.parse(engine)
    if "engine" in began:
        if engine != "auto" and chosen.name != began["engine"]:
            raise UsageError(
                f"{who} began with engine {began['engine']} and cannot go on exactly with "
                f"{chosen.name}; leave --engine out, or use another run name"
            )
        chosen = engines.parse(began["engine"])
    chosen = engines.available(chosen, place, resident=resident, alone=group.count == 1)
    return {
        "device": place.type,
        "device_name": device_name(place),
        "threads": began.get("threads") or threads or share,
        "engine": chosen.name,
        "ranks": group.count,
    }


def _begin(
    run: config.Run,
    dataset: feeds.Dataset | photographs.Photos,
    device: torch.device,
    group: ranks.Ranks,
    writer: store.RunWriter | None,
    execution: Mapping[str, Any],
) -> Training:
    """The training to go on with, run.json written and the logs cut to where it stands."""

    def fresh() -> Training:
        how = engines.parse(execution["engine"])
        return Training(run, dataset, device, group, how)

    if writer is None:
        training = fresh()
        payload = group.tell(b"")
        if payload:
            training.restore(payload)
        training.spread()
        return training

    described = dataset.describe()
    before = writer.info.get("dataset")
    if before and before.get("sha256") != described["sha256"]:
        raise UsageError(
            f"the images of {run.data.label} have changed since {writer.study}/{writer.name} began; "
            "it cannot go on exactly: use another run name"
        )
    training, checkpoint = _restored(writer, fresh)
    payload = checkpoint.payload if checkpoint is not None else b""
    if checkpoint is None and _start_from_weights(training, writer.folder.parents[1]):
        payload = training.save()
    group.tell(payload)
    training.spread()
    began_with = writer.info.get("versions", {}).get("torch", torch.__version__)
    if checkpoint is not None and began_with != torch.__version__:
        _note(f"it began with torch {began_with}, this is {torch.__version__}: the bits may differ")
    recomputed = run.network.depth > RECOMPUTE_LAYERS
    writer.begin(
        execution=dict(execution) | {"activations": "recomputed" if recomputed else "kept"},
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "resnetlab": __version__,
        },
        dataset=described,
        layers=probe_layers(training.network),
        parameters=nets.count_parameters(training.network),
    )
    if checkpoint is not None:
        writer.resume_from(checkpoint)
    else:
        writer.start_over()
    return training
