"""What a run can go on from: a payload and its label, checked by SHA-256; the last two are kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetlab import config as configs
from resnetlab import files
from resnetlab.config import Run, UsageError
from resnetlab.store import logs, schema
from resnetlab.store.reader import parse_config, read_json, size_of


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint: `payload` is the file's bytes, checked against their SHA-256."""

    step: int
    payload: bytes
    offsets: Mapping[str, int]  # log file -> its length in bytes when the checkpoint was taken
    seconds: float  # training time up to here
    path: Path


def _payloads(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(path for path in (folder / schema.CHECKPOINTS).glob("step-*.pt") if path.is_file())


def whole_ones(folder: Path, run: Run, *, resumed: bool = False) -> Iterator[Checkpoint | str]:
    """A run's checkpoints, newest first; a damaged one comes as the sentence that says what is wrong.

    For a run that is to be `resumed` its logs must be what they were too, as far as they went then.
    Raises UsageError for a whole checkpoint of another configuration.
    """
    sizes = {name: size_of(folder / name) for name in schema.LOGS}
    for path in reversed(_payloads(folder)):
        label, problem = read_json(path.with_suffix(".json"))
        payload = path.read_bytes()
        if label is None or not _is_label(label):
            yield f"{path.name}: its label {path.stem}.json: {problem or 'is incomplete or damaged'}"
            continue
        if hashlib.sha256(payload).hexdigest() != label.get("sha256"):
            yield f"{path.name}: truncated or damaged (its SHA-256 does not match)"
            continue
        labelled, problem = parse_config(label)
        if labelled is None or labelled.spelt() != run.spelt():
            lines = configs.differences(labelled, run) if labelled else [problem]
            raise UsageError(
                f"{path} belongs to another configuration (there != asked):\n  " + "\n  ".join(lines)
            )
        short = [name for name in logs.NEEDED if sizes[name] < label["offsets"][name]]
        if short:
            yield f"{path.name}: {short[0]} is shorter than when it was taken"
            continue
        if resumed and (changed := logs.changed(folder, label.get(logs.DIGESTS), label["offsets"])):
            yield f"{path.name}: {changed[0]} is not what it was when it was taken, a row has changed"
            continue
        yield Checkpoint(label["step"], payload, label["offsets"], label["seconds"], path)


def save(folder: Path, run: Run, step: int, payload: bytes, seconds: float) -> None:
    """Label first, then the payload: a payload that is there has its label. Two are kept.

    The logs are on the disk before a label says how long they were.
    """
    (folder / schema.CHECKPOINTS).mkdir(exist_ok=True)
    for name in schema.LOGS:
        with files.open_log(folder / name, "ab") as log:
            os.fsync(log.fileno())
    path = folder / schema.CHECKPOINTS / f"step-{step:08d}.pt"
    label = {
        "step": step,
        "sha256": hashlib.sha256(payload).hexdigest(),
        "offsets": {name: size_of(folder / name) for name in schema.LOGS},
        logs.DIGESTS: logs.digests(folder),
        "seconds": round(seconds, 3),
        "config": run.model_dump(mode="json"),
    }
    schema.write_json(path.with_suffix(".json"), sealed(label))
    files.atomic_write(path, payload)
    for old in _payloads(folder)[: -schema.CHECKPOINTS_KEPT]:
        _remove(old)


def drop(folder: Path, after: int) -> None:
    """Remove those of later steps: kept, they would count as the newest of the new logs. -1: all."""
    for path in _payloads(folder):
        if path.stem > f"step-{after:08d}" or after < 0:
            _remove(path)


def _remove(path: Path) -> None:
    path.unlink()
    path.with_suffix(".json").unlink(missing_ok=True)


def configuration(folder: Path) -> Run | None:
    """What the newest whole label says of the run: for one whose run.json is lost. None without any."""
    for path in reversed(_payloads(folder)):
        label, _ = read_json(path.with_suffix(".json"))
        if label is not None and _is_label(label):
            return parse_config(label)[0]
    return None


def sealed(label: Mapping[str, Any]) -> dict[str, Any]:
    """The label with the SHA-256 of all else in it: one flipped bit may name a shorter log."""
    content = {key: value for key, value in label.items() if key != "label_sha256"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return content | {"label_sha256": digest}


def _is_label(label: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's label has what resuming needs."""
    offsets = label.get("offsets")
    return (
        sealed(label) == label
        and type(label.get("step")) is int
        and type(label.get("seconds")) in (int, float)
        and isinstance(offsets, dict)
        and set(offsets) == set(schema.LOGS)
        and all(type(offset) is int and offset >= 0 for offset in offsets.values())
    )
