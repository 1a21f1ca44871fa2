"""What lies on disk: `results/STUDY/RUN/`, the only module that knows its file names.

Writing is for one process at a time (`RunWriter` holds a lock that its death releases). Reading takes
what it finds: torn lines, damaged files, unknown versions and half-made folders are skipped and said,
never raised. The schema stands as a table in results/README.md; a test compares it with `SCHEMA`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import math
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import filelock
import pandas as pd

from resnetlab import config as configs
from resnetlab import files
from resnetlab.config import Data, Network, Run, Start, UsageError

SCHEMA_VERSION = 1

Status = Literal["running", "finished", "interrupted", "diverged", "failed"]
STATUSES: tuple[Status, ...] = ("running", "finished", "interrupted", "diverged", "failed")
ENDED: tuple[Status, ...] = ("finished", "diverged")  # nothing is left to do for these

RUN_FILE, SUMMARY_FILE, LOCK_FILE = "run.json", "summary.json", "run.lock"
METRICS_FILE, PROBES_FILE, TIMING_FILE = "metrics.jsonl", "probes.jsonl", "timing.jsonl"
LOGS = (METRICS_FILE, PROBES_FILE, TIMING_FILE)
EVALUATIONS_FILE = "evaluations.jsonl"
CHECKPOINTS, NOTEBOOK_FILE = "checkpoints", "train.ipynb"
CHECKPOINTS_KEPT = 2
FIGURES = "figures"  # drawn from a study, beside its runs
# results/measurements/STUDY/NAME.json: what a notebook measured. Not in the study's own folder: that
# would hide committed runs of the same name.
MEASUREMENTS = "measurements"
LESSON = "lesson"
LESSONS = (LESSON, f"{LESSON}-quick", f"{LESSON}-reference")  # pages of notebooks, no studies
REFERENCE = "reference"  # results/reference/STUDY/RUN is committed; results/STUDY/RUN is the user's

HEARTBEAT_SECONDS = 5.0
LOCK_SECONDS = 10.0  # a killed study's last process needs a moment to go
STALE_SECONDS = 180.0
HERE_STALE_SECONDS = 3600.0

# file -> field -> meaning; results/README.md shows it, and the reader's frames have these columns.
SCHEMA: dict[str, dict[str, str]] = {
    RUN_FILE: {
        "schema": "version of this table, an integer",
        "study": "name of the study folder",
        "run": "name of the run folder",
        "config": "the full configuration: network, data, recipe, seed, precision, surgery if any",
        "config_hash": "first 12 hex digits of the SHA-256 of `config` as canonical JSON",
        "status": "running, finished, interrupted, diverged or failed",
        "error": "why it failed, diverged or was interrupted, one line; null otherwise",
        "step": "optimizer updates done at the last heartbeat",
        "created": "UTC time of the first start, ISO 8601",
        "heartbeat": "UTC time of the last sign of life, ISO 8601",
        "host": "name of the machine that writes or wrote",
        "pid": "process that writes or wrote",
        "commit": "git commit of the code at the first start, `+` if changed; null outside a checkout",
        "versions": "of Python, torch, numpy and resnetlab, at the first start",
        "starts": "one entry per start: its UTC time, commit, torch version, host and device",
        "execution": "where and how it ran: device, its name, threads, engine (eager, or compiled, "
        "graph, channels_last joined by +); ranks (processes), norm (batch norm over each one's `own` "
        "images or over `all`), activations (kept or recomputed)",
        "layers": "probe kind -> names of the layers, in the order of its values",
        "dataset": "classes, image shape, numbers of images, in_both (test images that are training "
        "images too: equal pixels, of larger images equal files; null where it was not counted), "
        "SHA-256 of the pixels and labels (of larger images: of their names and sizes)",
        "parameters": "number of trainable parameters",
        "events": "what its own errors decided so far: warm_until and drops, in updates",
    },
    METRICS_FILE: {
        "step": "optimizer updates done",
        "epoch": "training images seen / training images there are",
        "lr": "learning rate of the last update",
        "train_loss": "mean cross-entropy over the images since the previous row (training mode)",
        "train_error": "percent wrong among them: running, augmented, training mode",
        "clipped": "percent of the steps since the previous row whose gradient was scaled down; absent "
        "without `clip`",
        "validation_loss": "as test_loss, on the held-out part of the training set",
        "validation_error": "as test_error, on the held-out part of the training set",
        "test_loss": "mean cross-entropy on the whole test set, single view, evaluation mode",
        "test_error": "percent wrong on it",
        "nonfinite": "names of the values of this row that were not finite and stand as null",
    },
    PROBES_FILE: {
        "step": "optimizer updates done before the measured one",
        "kind": "gradient_norm: L2 norm of each weighted layer's weight gradient, before clipping; "
        "weight_norm: of its weights, before the update; relative_update: of what the update added to "
        "them, over weight_norm; total_gradient_norm: of the gradient over all parameters, before "
        "clipping",
        "values": "one number per layer, in the order of run.json `layers[kind]`; null if not finite",
    },
    TIMING_FILE: {
        "step": "optimizer updates done",
        "seconds": "training time so far, all starts together, without set-up",
        "images_per_second": "training images over seconds since the previous row, tests excluded",
    },
    EVALUATIONS_FILE: {
        "step": "optimizer updates of the checkpoint that was tested",
        "protocol": "single, ten-crop or multi-scale",
        "average": "what is averaged over views: softmax or logits",
        "crop": "pixels a side of the square cut out; null for small images, tested as they are",
        "sides": "shorter side to which images were resized; several for multi-scale",
        "data": "data set whose test images were used",
        "dataset_sha256": "as in run.json `dataset`",
        "images": "number of images",
        "top1_error": "percent whose class has not the highest score",
        "top5_error": "percent whose class is not among the five highest; null with few classes",
        "seconds": "that the test took",
        "time": "UTC time, ISO 8601",
    },
    SUMMARY_FILE: {
        "schema": "version of this table, an integer",
        "status": "finished or diverged; the file is written last, so its being there is success",
        "config_hash": "as in run.json",
        "steps": "optimizer updates done",
        "train_error": "the last row's running training error, percent",
        "train_loss": "the last row's running training loss",
        "train_error_clean": "a full pass over the training images, evaluation mode, no augmentation",
        "validation_error": "at the last step, percent; null without a held-out part",
        "test_error": "at the last step, percent (final, not best)",
        "test_loss": "at the last step",
        "diverged_at": "first update whose loss was not finite; null if none was",
        "warm_until": "update before which the warm-up by error ended; null without one",
        "drops": "updates before which the rate fell at a plateau of the followed error",
        "skipped_images": "damaged files that were left out, where that was asked for",
        "seconds": "training time, all starts together, without set-up",
        "images_per_second": "median over the timing rows",
        "weights_sha256": "SHA-256 of all parameters and batch-norm statistics in order",
    },
    f"{MEASUREMENTS}/STUDY/NAME.json": {
        "schema": "version of this table, an integer",
        "study": "study whose networks were measured",
        "name": "name of the measurement",
        "what": "what the values are and how they were measured, in words",
        "conditions": "further choices that decide them: batch, points, number of images",
        "created": "UTC time, ISO 8601",
        "commit": "git commit of the code, `+` if changed; null outside a checkout",
        "columns": "names of the values of a row",
        "rows": "lists of values, in the order of `columns`; null for what is not finite",
    },
}


# --- names and places -------------------------------------------------------------------------


def check_name(kind: str, name: str) -> str:
    """`name` if it can be a folder of its own; UsageError otherwise (kind is "run" or "study")."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise UsageError(
            f"{kind} name {name!r} cannot be used: 1 to 80 letters, digits, '.', '_' and '-', "
            "the first a letter or digit, no path"
        )
    if name in (FIGURES, MEASUREMENTS):
        raise UsageError(f"{kind} name {name!r} is taken; choose another")
    if kind == "study" and name == REFERENCE:
        raise UsageError(f"study name {name!r} is kept for the committed runs; choose another")
    if kind == "study" and name in LESSONS:
        raise UsageError(f"study name {name!r} is kept for pages of the lesson; choose another")
    return name


def results_root(path: str | Path | None = None) -> Path:
    """The results folder: `path` if given, else results/ in the project."""
    if path is not None and not isinstance(path, str | Path):
        raise UsageError(f"results: should be a folder's path, got {path!r}")
    return Path(path).expanduser() if path else files.project_root() / "results"


def prepare_root(root: Path) -> Path:
    """Make the results folder if need be. UsageError if it is a file or cannot be written."""
    if root.exists() and not root.is_dir():
        raise UsageError(f"results folder {root} is a file; give a folder with --results")
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Of its own name, because the threads of a server come here at once; gone when it is closed.
        tempfile.TemporaryFile(dir=root).close()
    except OSError as error:
        raise UsageError(
            f"results folder {root} cannot be written ({error.strerror}); give another with --results"
        ) from None
    return root


# --- writing ----------------------------------------------------------------------------------


def write_json(path: Path, value: Mapping[str, Any], *, durable: bool = True) -> None:
    """Strict JSON (no NaN), written whole or not at all."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    files.atomic_write(path, (text + "\n").encode(), durable=durable)


def significant(value: float | None, digits: int = 6) -> float | None:
    """`value` with that many significant digits; None if it is not finite or None."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def git_commit(source: Path) -> str | None:
    """The commit that a source file belongs to: twelve digits, `+` if files of its folder differ.

    None if git does not track the file: an installed package may lie in another project's checkout.
    """

    def git(*words: str) -> str:
        command = ["git", "-C", str(source.parent), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", source.name)
        commit = git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if git("status", "--porcelain", "--untracked-files=no", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


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


# --- reading ----------------------------------------------------------------------------------


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read_json(path: Path) -> tuple[dict[str, Any] | None, str]:
    """The object in a JSON file, or None and why not."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None, f"no {path.name}"
    except OSError as error:
        return None, f"{path.name} cannot be read ({error.strerror})"
    except (ValueError, RecursionError):
        return None, f"{path.name} is torn or not JSON"
    if not isinstance(value, dict):
        return None, f"{path.name} is not a JSON object"
    return value, ""


def _is_label(label: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's label has what resuming needs."""
    offsets = label.get("offsets")
    return (
        type(label.get("step")) is int
        and isinstance(offsets, dict)
        and all(type(offset) is int and offset >= 0 for offset in offsets.values())
        and type(label.get("seconds")) in (int, float)
    )


def _parse_config(info: Mapping[str, Any]) -> tuple[Run | None, str]:
    try:
        return Run.parse(info.get("config")), ""  # type: ignore[arg-type]
    except UsageError as error:
        return None, f"its configuration is not readable: {error}"


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The objects of a JSON-lines file and the number of torn or damaged lines left out."""
    try:
        return _parse_lines(path.read_bytes())
    except OSError:
        return [], 0


def _parse_lines(content: bytes) -> tuple[list[dict[str, Any]], int]:
    rows, bad = [], 0
    for line in content.splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            bad += 1
            continue
        if isinstance(row, dict) and type(row.get("step")) is int and 0 <= row["step"] < 2**53:
            rows.append(row)
        else:
            bad += 1
    return rows, bad


def _finite(value: object) -> float:
    """`value` as a float; NaN for what is no finite number (JSON also says true, NaN and 1e999)."""
    try:
        number = float(value) if type(value) in (int, float) else math.nan  # type: ignore[arg-type]
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


@dataclass(frozen=True)
class _SoFar:
    """A growing log as far as it has been read: what was in it, and where its last whole line ends."""

    frame: pd.DataFrame
    bad: int  # lines left out
    end: int  # bytes
    last: bytes  # that line: where it is not found again, the log was cut back or replaced


# Rows of a log -> a frame, and how many of the rows had to be left out.
_Parse = Callable[[list[dict[str, Any]]], tuple[pd.DataFrame, int]]


def _read_log(
    path: Path, before: _SoFar | None, parse: _Parse, keys: list[str]
) -> tuple[pd.DataFrame, int, _SoFar]:
    """The whole log, sorted by `keys`, each once, the last one written; only what is new is parsed.

    Gives the frame, the number of lines left out, and what the next read goes on from.
    """
    content = b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if before is not None:
            file.seek(before.end - len(before.last))
            if file.read(len(before.last)) != before.last:
                file.seek(0)
                before = None
        content = file.read()
    cut = content.rfind(b"\n") + 1  # after it there may be a line that is being written
    frames = [] if before is None else [before.frame]
    bad = 0 if before is None else before.bad

    def add(part: bytes) -> pd.DataFrame:
        nonlocal bad
        rows, torn = _parse_lines(part)
        frame, unfit = parse(rows)
        bad += torn + unfit
        if frames and frame.empty:
            return frames[-1]
        frame = pd.concat([*frames[-1:], frame], ignore_index=True) if frames else frame
        frames.append(
            frame.drop_duplicates(keys, keep="last").sort_values(keys, kind="stable", ignore_index=True)
        )
        return frames[-1]

    whole = add(content[:cut])
    start = 0 if before is None else before.end
    last = content[content.rfind(b"\n", 0, cut - 1) + 1 : cut]
    if not cut and before is not None:
        last = before.last
    so_far = _SoFar(whole, bad, start + cut, last)
    return add(content[cut:]), bad, so_far


def _numbers(columns: Iterable[str]) -> _Parse:
    """Rows as numbers: known columns only, what is not a number as NaN."""
    names = list(columns)

    def parse(rows: list[dict[str, Any]]) -> tuple[pd.DataFrame, int]:
        cells = [[_finite(row.get(name)) for name in names] for row in rows]
        frame = pd.DataFrame(cells, columns=names)
        return frame.astype(dict.fromkeys(names, float) | {"step": int}), 0

    return parse


def _lines(count: int) -> str:
    return "1 torn or damaged line" if count == 1 else f"{count} torn or damaged lines"


def _process_lives(pid: object) -> bool:
    if type(pid) is not int or pid <= 0:
        return False
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True


def is_alive(info: Mapping[str, Any]) -> bool:
    """Whether the writer named in run.json still works.

    On its own machine its process decides (a heartbeat of an hour ago is then somebody else's process
    with the same number); from elsewhere, the age of the heartbeat.
    """
    try:
        beat = dt.datetime.fromisoformat(info["heartbeat"])
        age = (dt.datetime.now(dt.UTC) - beat).total_seconds()
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
    if info.get("host") == socket.gethostname():
        return _process_lives(info.get("pid")) and age < HERE_STALE_SECONDS
    return age < STALE_SECONDS


# fmt: off
IDENTITY = (
    "study", "run", "network", "depth", "shortcut", "family", "data", "recipe", "seed", "precision",
)
FINAL = (
    "train_error", "train_error_clean", "validation_error", "test_error", "seconds",
    "images_per_second",
)
# fmt: on
OUTCOME = ("status", "steps", "steps_planned", *FINAL)


def identity_of(run: Run, study: str = "", name: str | None = None) -> dict[str, Any]:
    """Who a run is, as every table and frame names it, on disk or not: the keys are IDENTITY.

    `network` tells an edited network from an ordinary one: `Run.network_name`.
    """
    return {
        "study": study,
        "run": name or run.name_in_study,
        "network": run.network_name,
        "depth": run.network.depth,
        "shortcut": run.network.shortcut,
        "family": run.network.family,
        "data": run.data.label,
        "recipe": run.recipe.label,
        "seed": run.seed,
        "precision": run.precision,
    }


@dataclass(frozen=True)
class RunRecord:
    """A run as it lies on disk. Frames are read when first asked for, as they are then."""

    path: Path
    info: Mapping[str, Any]
    config: Run
    summary: Mapping[str, Any] | None
    _logs: dict[str, _SoFar] = field(default_factory=dict, repr=False, compare=False)

    @property
    def study(self) -> str:
        return self.path.parent.name

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def network(self) -> Network:
        return self.config.network

    @cached_property
    def status(self) -> Status:
        """As written, but a `running` whose writer is gone reads `interrupted`."""
        if self.summary is not None:
            return "diverged" if self.summary.get("status") == "diverged" else "finished"
        written = self.info.get("status")
        if written == "running" and is_alive(self.info):
            return "running"
        # A run whose end was decided but not yet summarised has something left to do.
        return "failed" if written == "failed" else "interrupted"

    def _log(self, name: str, parse: _Parse, keys: list[str]) -> tuple[pd.DataFrame, int]:
        """A log's frame and the number of its lines left out."""
        frame, bad, so_far = _read_log(self.path / name, self._logs.get(name), parse, keys)
        if self.status == "running":  # no other grows
            self._logs[name] = so_far
        else:
            self._logs.pop(name, None)
        return frame, bad

    @cached_property
    def _metrics(self) -> tuple[pd.DataFrame, int]:
        columns = [name for name in SCHEMA[METRICS_FILE] if name != "nonfinite"]
        metrics, bad = self._log(METRICS_FILE, _numbers(columns), ["step"])
        timing, bad_timing = self._log(TIMING_FILE, _numbers(SCHEMA[TIMING_FILE]), ["step"])
        return metrics.merge(timing, on="step", how="left"), bad + bad_timing

    @property
    def metrics(self) -> pd.DataFrame:
        """One row a logged step: the columns of metrics.jsonl and timing.jsonl; absent is NaN."""
        return self._metrics[0]

    @cached_property
    def _probes(self) -> tuple[pd.DataFrame, int]:
        """All probe rows, long: kind, step, layer (0-based), name, value."""
        return self._read_probes()

    def _read_probes(self) -> tuple[pd.DataFrame, int]:
        known = self.info.get("layers")
        layers = known if isinstance(known, dict) else {}

        def parse(rows: list[dict[str, Any]]) -> tuple[pd.DataFrame, int]:
            bad, records = 0, []
            for row in rows:
                kind, values = row.get("kind"), row.get("values")
                names = layers.get(kind) if isinstance(kind, str) else None
                if isinstance(names, list) and isinstance(values, list) and len(values) == len(names):
                    records += [
                        (kind, row["step"], index, str(names[index]), _finite(value))
                        for index, value in enumerate(values)
                    ]
                else:
                    bad += 1
            frame = pd.DataFrame(records, columns=["kind", "step", "layer", "name", "value"])
            return frame.astype({"step": int, "layer": int, "value": float}), bad

        return self._log(PROBES_FILE, parse, ["kind", "step", "layer"])

    def probe(self, kind: str = "gradient_norm") -> pd.DataFrame:
        """Rows of one probe kind: step, layer (0-based, in forward order), name, value."""
        frame = self._probes[0]
        return frame[frame["kind"] == kind].drop(columns="kind").reset_index(drop=True)

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """Results of `resnetlab evaluate`, the latest of each protocol, checkpoint and data set."""
        columns = list(SCHEMA[EVALUATIONS_FILE])
        rows = [
            [row.get(name) for name in columns] for row in read_lines(self.path / EVALUATIONS_FILE)[0]
        ]
        frame = pd.DataFrame(rows, columns=columns)
        what = ["step", "protocol", "average", "crop", "sides", "data", "dataset_sha256"]
        same = frame[what].astype(str).duplicated(keep="last")
        return frame[~same].reset_index(drop=True)

    @cached_property
    def problems(self) -> tuple[str, ...]:
        """What was skipped or is wrong, in sentences; empty for a healthy run."""
        found = []
        if self._metrics[1]:
            found.append(f"{_lines(self._metrics[1])} left out of its metrics")
        # Without keeping them: of a thousand healthy runs they would fill the memory for nothing.
        bad = self._probes[1] if "_probes" in self.__dict__ else self._read_probes()[1]
        if bad:
            found.append(f"{_lines(bad)} left out of its probes")
        if self.summary is None and (self.path / SUMMARY_FILE).exists():
            found.append(f"{SUMMARY_FILE} is torn or damaged: the run does not count as ended")
        if self.info.get("status") == "running" and self.status == "interrupted":
            found.append(
                f"its process is gone (last heartbeat {self.info.get('heartbeat')}); "
                "the same command resumes it"
            )
        if self.info.get("error"):
            found.append(str(self.info["error"]))
        return tuple(found)

    def final(self, quantity: str) -> float | None:
        """The last value of a metric: the summary's, or while there is none, the log's."""
        value = _finite(self.summary.get(quantity)) if self.summary is not None else math.nan
        if math.isnan(value) and quantity in self.metrics:
            seen = self.metrics[quantity].dropna()
            value = float(seen.iloc[-1]) if len(seen) else math.nan
        return None if math.isnan(value) else value

    @property
    def steps_done(self) -> int:
        if self.summary is not None and type(self.summary.get("steps")) is int:
            return int(self.summary["steps"])
        return int(self.metrics["step"].max()) if len(self.metrics) else 0

    def identity(self) -> dict[str, Any]:
        """Who the run is, as every table and frame names it: the keys are IDENTITY."""
        return identity_of(self.config, self.study, self.name)

    @property
    def has_weights(self) -> bool:
        """Whether a checkpoint lies with it; committed reference runs come without."""
        return any((self.path / CHECKPOINTS).glob("step-*.pt"))

    def as_row(self) -> dict[str, Any]:
        """The run as one flat record, for tables and `resnetlab list --json`. Errors in percent."""
        return (
            self.identity()
            | {
                "status": self.status,
                "steps": self.steps_done,
                "steps_planned": self.config.recipe.steps,
            }
            | {quantity: self.final(quantity) for quantity in FINAL}
        )


@dataclass(frozen=True)
class Skipped:
    """A folder that is no readable run, and why."""

    path: Path
    reason: str


def read_folder(path: Path, earlier: RunRecord | Skipped | None = None) -> RunRecord | Skipped:
    """What lies in a study's folder. Logs are read on from where `earlier`, of the same run, ended."""
    info, problem = _read_json(path / RUN_FILE)
    if info is None:
        return Skipped(path, problem)
    if info.get("schema") != SCHEMA_VERSION:
        return Skipped(
            path,
            f"its format is version {info.get('schema')!r}, this reader knows {SCHEMA_VERSION}",
        )
    run, problem = _parse_config(info)
    if run is None:
        return Skipped(path, problem)
    summary = _read_json(path / SUMMARY_FILE)[0]
    if summary is not None and summary.get("status") not in ENDED:
        summary = None
    same = isinstance(earlier, RunRecord) and earlier.info.get("layers") == info.get("layers")
    logs = dict(earlier._logs) if isinstance(earlier, RunRecord) and same else {}
    return RunRecord(path, info, run, summary, logs)


def read_run(path: str | Path) -> RunRecord:
    """The run in that folder. Raises UsageError, with the reason, if there is none to read."""
    found = read_folder(Path(path).absolute())  # "." has no name, its absolute path has
    if isinstance(found, Skipped):
        raise UsageError(f"{path} is not a readable run: {found.reason}")
    return found


@dataclass(frozen=True)
class Study:
    """The runs of one study folder, by name, and what lies there that is none."""

    path: Path
    runs: tuple[RunRecord, ...]
    skipped: tuple[Skipped, ...]

    @property
    def name(self) -> str:
        return self.path.name

    def table(self) -> pd.DataFrame:
        """One row a run, as `RunRecord.as_row`."""
        return table_of(self.runs)


def table_of(runs: Iterable[RunRecord]) -> pd.DataFrame:
    """One row a run, as `RunRecord.as_row`; what is not known is NaN."""
    frame = pd.DataFrame([run.as_row() for run in runs], columns=[*IDENTITY, *OUTCOME])
    return frame.astype(dict.fromkeys(FINAL, float))


def _identified(runs: Iterable[RunRecord], frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The runs' frames below one another, each row with who it is."""
    parts = [(run.identity(), frame) for run, frame in zip(runs, frames, strict=True) if len(frame)]
    if not parts:
        return pd.DataFrame(columns=list(IDENTITY))
    together = pd.concat([frame for _, frame in parts], ignore_index=True)
    lengths = [len(frame) for _, frame in parts]
    who = pd.DataFrame([identity for identity, _ in parts], columns=list(IDENTITY))
    each_row = who.loc[who.index.repeat(lengths)].reset_index(drop=True)
    return pd.concat([together, each_row], axis="columns")


def metrics_of(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """All metrics rows of the runs, with the columns of IDENTITY; frames for `plots`."""
    return _identified(runs, (run.metrics for run in runs))


def probes_of(runs: Sequence[RunRecord], kind: str = "gradient_norm") -> pd.DataFrame:
    """All rows of one probe kind (step, layer, name, value), with the columns of IDENTITY."""
    return _identified(runs, (run.probe(kind) for run in runs))


def _folders(path: Path) -> list[Path]:
    try:
        found = [item for item in path.iterdir() if item.is_dir() and item.name[0] not in "._"]
    except OSError:
        return []
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts plain-8 before plain-20."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def read_study(path: str | Path, read: Callable[[Path], RunRecord | Skipped] = read_folder) -> Study:
    """All runs of one study folder. A missing or empty folder gives a study without runs.

    `read` reads one of its folders; the dashboard gives one that remembers.
    """
    folders = [item for item in _folders(Path(path)) if item.name not in (FIGURES, MEASUREMENTS)]
    found = [read(folder) for folder in folders]
    return Study(
        Path(path),
        tuple(item for item in found if isinstance(item, RunRecord)),
        tuple(item for item in found if isinstance(item, Skipped)),
    )


def find_studies(root: str | Path | None = None) -> list[Path]:
    """Study folders below the results folder: the user's own first, then the reference ones."""
    base = results_root(root)
    found = [*_folders(base), *_folders(base / REFERENCE)]
    return [folder for folder in found if folder.name not in (REFERENCE, MEASUREMENTS, *LESSONS)]


def find_study(name: str, root: str | Path | None = None) -> Study:
    """The study of that name, the user's own before a reference one. UsageError if there is none."""
    paths = find_studies(root)
    for path in paths:
        if path.name == name:
            return read_study(path)
    known = list(dict.fromkeys(path.name for path in paths))
    hint = configs.did_you_mean(name, known) if known else "; there are no studies yet: `make study`"
    raise UsageError(f"no study {name!r} in {results_root(root)}{hint}")


def find_run(name: str, root: str | Path | None = None) -> RunRecord:
    """The run called STUDY/RUN, reference/STUDY/RUN, RUN (if one study has it) or by its path.

    The user's own come before reference ones of the same name. UsageError if there is none.
    """
    try:
        is_path = (Path(name) / RUN_FILE).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL in it
        is_path = False
    if is_path:
        return read_run(name)
    base = results_root(root)
    # STUDY/RUN or reference/STUDY/RUN -> folder; the user's own come first
    paths = {
        folder.relative_to(base).as_posix(): folder
        for study in find_studies(root)
        for folder in _folders(study)
    }
    short = {key: key.removeprefix(f"{REFERENCE}/") for key in paths}
    hits = [key for key in paths if name in (key, short[key])][:1]
    if not hits:
        named = [key for key in paths if paths[key].name == name]
        hits = [key for key in named if key == short[key]] or named
    if len(hits) > 1:
        raise UsageError(f"several runs are called {name!r}: {', '.join(hits)}")
    if not hits:
        known = list(paths)
        hint = configs.did_you_mean(name, known) if known else "; there are no runs yet"
        raise UsageError(f"no run {name!r} in {results_root(root)}{hint}")
    return read_run(paths[hits[0]])


def notes(runs: Iterable[RunRecord]) -> list[str]:
    """What must stand beside the results of these runs, a sentence each.

    Test images that are training images, as run.json counted them; clipping, which the paper has not.
    """
    found = []
    for run in runs:
        if (clip := run.config.recipe.clip) is not None:
            found.append(
                f"The gradient norm of each step is clipped at {clip:g}; the paper did not clip."
            )
        dataset = run.info.get("dataset")
        known = dataset if isinstance(dataset, dict) else {}
        shared, images = known.get("in_both"), known.get("test")
        if type(shared) is int and type(images) is int and shared > 0:
            folder = run.config.data.name.startswith("folder:")
            found.append(
                f"{shared:,} of the {images:,} test images of {run.config.data.label} are training "
                + ("images too." if folder else "images too: they stay in, as the set is distributed.")
            )
    return list(dict.fromkeys(found))


# --- weights that another run begins with -----------------------------------------------------


def weights_named(name: str, root: str | Path | None = None) -> dict[str, str]:
    """The `start_from` of `config.run_from_parameters` for a run's trained weights: see `find_run`.

    Raises UsageError for a run that has not ended, has no checkpoint, or is of an edited network whose
    layers are not the ordinary ones.
    """
    record = find_run(name, root)
    who, edit = f"{record.study}/{record.name}", record.config.surgery
    sha256 = (record.summary or {}).get("weights_sha256")
    if record.status not in ENDED or not isinstance(sha256, str):
        raise UsageError(f"{who} is {record.status}: only a run that has ended can be started from")
    if not record.has_weights:
        raise UsageError(
            f"{who} has no checkpoint to start from: committed reference runs come without weights; "
            "train it again (`resnetlab show` gives the command)"
        )
    if edit is not None and edit.shortcut_scale is not None:
        raise UsageError(f"{who} has scaled shortcuts: no ordinary network continues it")
    return {
        "study": record.study,
        "run": record.name,
        "network": record.network.name,
        "sha256": sha256,
    }


def weights_of(start: Start, data: Data, root: Path) -> RunRecord:
    """The run whose trained weights `start` names, the user's own before a reference one.

    By what its summary says; whether the checkpoint holds them, its reader checks. Raises UsageError
    with what was found instead: no run, another network or data set, other weights, no checkpoint.
    """
    found = []
    for study in (root / start.study, root / REFERENCE / start.study):
        record = read_folder(study / start.run)
        if isinstance(record, Skipped):
            found.append(f"{record.path}: {record.reason}")
            continue
        theirs = (record.summary or {}).get("weights_sha256")
        scaled = record.config.surgery is not None and record.config.surgery.shortcut_scale is not None
        if record.network.name != start.network or scaled:
            found.append(f"{record.path} is of {record.config.network_name}, not of {start.network}")
        elif record.config.data != data:
            found.append(f"{record.path} was trained on {record.config.data.label}, not {data.label}")
        elif theirs != start.sha256:
            found.append(f"{record.path} has other weights ({str(theirs)[:12]})")
        elif not record.has_weights:
            found.append(f"{record.path} has them, but no checkpoint: train it again")
        else:
            return record
    raise UsageError(
        f"the weights of {start.study}/{start.run} (SHA-256 {start.sha256[:12]}) are not there:\n  "
        + "\n  ".join(found)
    )


# --- measurements -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Measurement:
    """What was measured beside a study's runs: a table, and the words that say what it is."""

    path: Path
    info: Mapping[str, Any]
    frame: pd.DataFrame


def save_measurement(
    root: Path, study: str, name: str, frame: pd.DataFrame, *, what: str, conditions: Mapping[str, Any]
) -> Path:
    """Keep a table of measured values as measurements/STUDY/NAME.json, whole or not at all.

    Columns are numbers, text or true/false; what is not finite becomes null. One of that name is
    replaced. UsageError for names that cannot be used and a folder that cannot be written.
    """
    check_name("study", study)
    check_name("measurement", name)
    folder = prepare_root(root) / MEASUREMENTS / study
    folder.mkdir(parents=True, exist_ok=True)

    def plain(value: Any) -> Any:
        value = value.item() if hasattr(value, "item") else value
        return significant(value) if isinstance(value, float) else value

    rows = [[plain(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    info = {
        "schema": SCHEMA_VERSION,
        "study": study,
        "name": name,
        "what": what,
        "conditions": dict(conditions),
        "created": now(),
        "commit": git_commit(Path(__file__)),
        "columns": [str(column) for column in frame.columns],
        "rows": rows,
    }
    path = folder / f"{name}.json"
    text = json.dumps(info, allow_nan=False, ensure_ascii=False)
    files.atomic_write(path, (text.replace("], [", "],\n[") + "\n").encode())
    return path


def read_measurement(path: str | Path) -> Measurement:
    """The measurement in that file. Raises UsageError, with the reason, if there is none to read."""
    info, problem = _read_json(Path(path))
    if info is None:
        raise UsageError(f"{path} is not a readable measurement: {problem}")
    if info.get("schema") != SCHEMA_VERSION:
        raise UsageError(
            f"{path}: its format is version {info.get('schema')!r}, this reader knows {SCHEMA_VERSION}"
        )
    columns, rows = info.get("columns"), info.get("rows")
    if not (
        isinstance(columns, list)
        and isinstance(rows, list)
        and all(isinstance(row, list) and len(row) == len(columns) for row in rows)
    ):
        raise UsageError(f"{path} is not a readable measurement: its rows do not fit its columns")
    frame = pd.DataFrame(rows, columns=[str(column) for column in columns])
    # A column of numbers with a null is one of objects to pandas.
    for name in frame.columns:
        present = frame[name].dropna()
        if len(present) < len(frame) and all(type(value) in (int, float) for value in present):
            frame[name] = frame[name].astype(float)
    return Measurement(Path(path), info, frame)


def find_measurements(name: str, root: str | Path | None = None) -> list[Path]:
    """The files of that measurement in all studies: the user's own first, the longer training first.

    A study whose name ends in -N-steps has so many (`study.folder_name`), the others their recipe's.
    """
    check_name("measurement", name)
    base, found = results_root(root), []
    for place in (base, base / REFERENCE):
        own = [folder / f"{name}.json" for folder in _folders(place / MEASUREMENTS)]
        found += [path for path in own if path.is_file()]

    def length(path: Path) -> float:
        steps = re.search(r"-(\d+)-steps", path.parent.name)
        return float(steps[1]) if steps else math.inf

    return sorted(found, key=length, reverse=True)


def find_measurement(study: str, name: str, root: str | Path | None = None) -> Measurement | None:
    """That measurement of that study, the user's own before a committed one; None if there is none.

    Raises UsageError for one that cannot be read.
    """
    check_name("study", study)
    check_name("measurement", name)
    base = results_root(root)
    for place in (base, base / REFERENCE):
        path = place / MEASUREMENTS / study / f"{name}.json"
        if path.exists():
            return read_measurement(path)
    return None
