"""Writing a run: one process at a time, by a lock that its death releases; checkpoints with SHA-256."""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock

from resnetlab import config as configs
from resnetlab import files
from resnetlab.config import Run, UsageError
from resnetlab.store.reader import RunRecord, Skipped, _parse_config, _read_json, _size, read_folder
from resnetlab.store.schema import (
    CHECKPOINTS,
    CHECKPOINTS_KEPT,
    ENDED,
    EVALUATIONS_FILE,
    LOCK_FILE,
    LOGS,
    RUN_FILE,
    SCHEMA_VERSION,
    SUMMARY_FILE,
    Status,
    check_name,
    git_commit,
    now,
    prepare_root,
    significant,
    write_json,
)

HEARTBEAT_SECONDS = 5.0
LOCK_SECONDS = 10.0  # a killed study's last process needs a moment to go


def check_folder(folder: Path, run: Run) -> RunRecord | None:
    """The run that lies there if it has this configuration, None if there is none yet.

    Raises UsageError, with the differences, if the folder holds another configuration, and if what it
    holds cannot be read.
    """
    if not (folder / RUN_FILE).exists():
        return None
    found = read_folder(folder)
    if isinstance(found, Skipped):
        raise UsageError(
            f"{folder / RUN_FILE} cannot be read ({found.reason}); "
            "move the folder away or choose another run name"
        )
    if found.config != run:
        lines = "\n  ".join(configs.differences(found.config, run))
        raise UsageError(
            f"{found.study}/{found.name} holds another configuration (there != asked):\n  {lines}\n"
            "choose another run or study name, or remove that folder"
        )
    return found


class AnotherWriterError(RuntimeError):
    """The run is being written by another process."""


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint: `payload` is the file's bytes, checked against their SHA-256."""

    step: int
    payload: bytes
    offsets: Mapping[str, int]  # log file -> its length in bytes when the checkpoint was taken
    seconds: float  # training time up to here
    path: Path


def checkpoints(folder: Path, run: Run) -> Iterator[Checkpoint | str]:
    """A run's checkpoints, newest first; a damaged one comes as the sentence that says what is wrong.

    Raises UsageError for a whole checkpoint of another configuration.
    """
    for path in sorted((folder / CHECKPOINTS).glob("step-*.pt"), reverse=True):
        label, problem = _read_json(path.with_suffix(".json"))
        payload = path.read_bytes()
        if label is None or not _is_label(label):
            yield f"{path.name}: its label {path.stem}.json: {problem or 'is incomplete'}"
            continue
        if hashlib.sha256(payload).hexdigest() != label.get("sha256"):
            yield f"{path.name}: truncated or damaged (its SHA-256 does not match)"
            continue
        theirs, problem = _parse_config(label)
        if theirs != run:
            lines = configs.differences(theirs, run) if theirs else [str(problem)]
            raise UsageError(
                f"{path} belongs to another configuration (there != asked):\n  " + "\n  ".join(lines)
            )
        sizes = {name: _size(folder / name) for name in LOGS}
        short = [name for name in LOGS if sizes[name] < label["offsets"].get(name, 0)]
        if short:
            yield f"{path.name}: {short[0]} is shorter than when it was taken"
            continue
        yield Checkpoint(label["step"], payload, label["offsets"], label.get("seconds", 0.0), path)


class RunWriter:
    """The one writer of a run's folder, a context manager.

    Opening takes the lock, refuses another configuration (UsageError with the differences) and
    another living writer (AnotherWriterError). Then either `resume_from(checkpoint)` or
    `start_over()`, rows, and `finish`.
    """

    def __init__(self, root: Path, study: str, name: str, run: Run) -> None:
        self.study = check_name("study", study)
        self.name = check_name("run", name)
        self.folder = prepare_root(root) / study / name
        self.run = run
        self.info: dict[str, Any] = {}
        self._lock = filelock.FileLock(self.folder / LOCK_FILE)
        self._last_beat = -math.inf

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"run folder {self.folder} cannot be made ({error.strerror})") from None
        try:
            self._lock.acquire(timeout=LOCK_SECONDS)
        except filelock.Timeout:
            owner = _read_json(self.folder / RUN_FILE)[0] or {}
            raise AnotherWriterError(
                f"{self.study}/{self.name} is being written by process {owner.get('pid', '?')} on "
                f"{owner.get('host', '?')}; wait for it, stop it, or choose another run name"
            ) from None
        try:
            there = check_folder(self.folder, self.run)
            self.info = dict(there.info) if there is not None else {}
            places = (self.folder, self.folder / CHECKPOINTS)
            for left_over in (path for place in places for path in place.glob(".*.tmp")):
                left_over.unlink(missing_ok=True)  # of a writer that was killed
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    @property
    def ended(self) -> bool:
        """True if an earlier process brought this run to its end."""
        summary = _read_json(self.folder / SUMMARY_FILE)[0]
        return summary is not None and summary.get("config_hash") == self.run.hash()

    def begin(
        self,
        *,
        execution: Mapping[str, Any],
        versions: Mapping[str, str],
        dataset: Mapping[str, Any],
        layers: Mapping[str, Sequence[str]],
        parameters: int,
    ) -> None:
        """Write run.json, status running: the first file of a run.

        `created`, `commit` and `versions` stay those of the first start; `starts` has every start's.
        """
        commit = git_commit(Path(__file__))
        start = {"time": now(), "commit": commit, "torch": versions.get("torch")}
        start |= {"host": socket.gethostname(), "device": execution.get("device_name")}
        earlier = self.info.get("starts")
        self.info = {
            "schema": SCHEMA_VERSION,
            "study": self.study,
            "run": self.name,
            "config": self.run.model_dump(mode="json"),
            "config_hash": self.run.hash(),
            "status": "running",
            "error": None,
            "step": self.info.get("step", 0),
            "created": self.info.get("created", now()),
            "heartbeat": now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "commit": self.info.get("commit", commit),
            "versions": self.info.get("versions", dict(versions)),
            "starts": [*(earlier if isinstance(earlier, list) else []), start],
            "execution": dict(execution),
            "layers": {kind: list(names) for kind, names in layers.items()},
            "dataset": dict(dataset),
            "parameters": parameters,
            "events": {},
        }
        write_json(self.folder / RUN_FILE, self.info)

    def checkpoints(self) -> Iterator[Checkpoint | str]:
        """Those of this run, newest first: see `checkpoints`."""
        return checkpoints(self.folder, self.run)

    def resume_from(self, checkpoint: Checkpoint) -> None:
        """Cut the logs back to what they were when the checkpoint was taken; later ones go."""
        self._drop_checkpoints(after=checkpoint.step)
        for name in LOGS:
            with (self.folder / name).open("ab") as file:
                file.truncate(checkpoint.offsets.get(name, 0))

    def start_over(self) -> None:
        """Empty logs, no checkpoints: nothing of an earlier start is kept."""
        self._drop_checkpoints(after=-1)
        for name in LOGS:
            (self.folder / name).write_bytes(b"")

    def _drop_checkpoints(self, after: int) -> None:
        """Remove those of later steps: kept, they would count as the newest of the new logs."""
        for path in (self.folder / CHECKPOINTS).glob("step-*.pt"):
            if path.stem > f"step-{after:08d}" or after < 0:
                path.unlink()
                path.with_suffix(".json").unlink(missing_ok=True)

    def append(self, file: str, *rows: Mapping[str, Any]) -> None:
        """A JSON line per row, written at once. What is not finite is null; metrics rows name it."""
        lines = []
        for row in rows:
            clean: dict[str, Any] = {}
            for key, value in row.items():
                if isinstance(value, float):
                    clean[key] = significant(value)
                    if clean[key] is None:
                        clean.setdefault("nonfinite", []).append(key)
                elif isinstance(value, list):
                    clean[key] = [significant(item) for item in value]
                elif value is not None:
                    clean[key] = value
            lines.append(json.dumps(clean, allow_nan=False, separators=(",", ":")) + "\n")
        with (self.folder / file).open("ab") as log:
            log.write("".join(lines).encode())

    def beat(self, step: int) -> None:
        """A sign of life, at most every HEARTBEAT_SECONDS."""
        if time.monotonic() - self._last_beat < HEARTBEAT_SECONDS:
            return
        self._last_beat = time.monotonic()
        self.info |= {"heartbeat": now(), "step": step}
        write_json(self.folder / RUN_FILE, self.info, durable=False)

    def note_events(self, events: configs.Events) -> None:
        """What the run's own errors have decided; written with the next heartbeat or status."""
        self.info["events"] = {"warm_until": events.warm_until, "drops": list(events.drops)}

    def save_checkpoint(self, step: int, payload: bytes, seconds: float) -> None:
        """Label first, then the payload: a payload that is there has its label. Two are kept."""
        folder = self.folder / CHECKPOINTS
        folder.mkdir(exist_ok=True)
        for name in LOGS:
            with (self.folder / name).open("ab") as log:
                os.fsync(log.fileno())
        path = folder / f"step-{step:08d}.pt"
        label = {
            "step": step,
            "sha256": hashlib.sha256(payload).hexdigest(),
            "offsets": {name: _size(self.folder / name) for name in LOGS},
            "seconds": round(seconds, 3),
            "config": self.run.model_dump(mode="json"),
        }
        write_json(path.with_suffix(".json"), label)
        files.atomic_write(path, payload)
        for old in sorted(folder.glob("step-*.pt"))[:-CHECKPOINTS_KEPT]:
            old.unlink()
            old.with_suffix(".json").unlink(missing_ok=True)

    def finish(
        self,
        status: Status,
        *,
        step: int,
        summary: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        """The last word: run.json's status, then, for a run that has ended, summary.json."""
        self.info |= {"status": status, "heartbeat": now(), "step": step, "error": error}
        write_json(self.folder / RUN_FILE, self.info)
        if status in ENDED:
            head = {"schema": SCHEMA_VERSION, "status": status, "config_hash": self.run.hash()}
            write_json(self.folder / SUMMARY_FILE, head | dict(summary or {}))


def add_evaluation(record: RunRecord, row: Mapping[str, Any]) -> None:
    """Store the result of a test protocol with the run: one more line, after a whole one."""
    path = record.path / EVALUATIONS_FILE
    clean = {k: significant(v) if isinstance(v, float) else v for k, v in row.items()}
    line = json.dumps(clean, allow_nan=False, separators=(",", ":")) + "\n"
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line  # a torn line stays alone
        file.write(line.encode())


def _is_label(label: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's label has what resuming needs."""
    offsets = label.get("offsets")
    return (
        type(label.get("step")) is int
        and isinstance(offsets, dict)
        and all(type(offset) is int and offset >= 0 for offset in offsets.values())
        and type(label.get("seconds")) in (int, float)
    )
