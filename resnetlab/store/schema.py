"""The names and fields of what lies on disk, and where; results/README.md shows the table."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from resnetlab import files
from resnetlab.config import UsageError

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
        "step": "optimizer steps done at the last heartbeat",
        "created": "UTC time of the first start, ISO 8601",
        "heartbeat": "UTC time of the last sign of life, ISO 8601",
        "host": "name of the machine that writes or wrote",
        "pid": "process that writes or wrote",
        "commit": "git commit of the code at the first start, `+` if changed; null outside a checkout",
        "versions": "of Python, torch, numpy and resnetlab, at the first start",
        "starts": "one entry per start: its UTC time, commit, torch version, host, device and job (the "
        "scheduler's number, null without one); null: not recorded",
        "execution": "where and how it ran: device, its name, threads, engine (eager, or compiled, "
        "graph, channels_last joined by +); ranks (processes), activations (kept or recomputed)",
        "layers": "probe kind -> names of the layers, in the order of its values",
        "dataset": "classes, image shape, numbers of images, in_both (test images that are training "
        "images too: equal pixels, of larger images equal files; null where it was not counted), "
        "SHA-256 of the pixels and labels (of larger images: of their names and sizes)",
        "parameters": "number of trainable parameters",
        "events": "what its own errors decided so far: warm_until and drops, in steps",
    },
    METRICS_FILE: {
        "step": "optimizer steps done",
        "epoch": "training images seen / training images there are",
        "lr": "learning rate of the last step",
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
        "step": "optimizer steps done before the measured one",
        "kind": "gradient_norm: L2 norm of each weighted layer's weight gradient, before clipping; "
        "weight_norm: of its weights, before the step; relative_update: of what the step added to "
        "them, over weight_norm; total_gradient_norm: of the gradient over all parameters, before "
        "clipping",
        "values": "one number per layer, in the order of run.json `layers[kind]`; null if not finite",
    },
    TIMING_FILE: {
        "step": "optimizer steps done",
        "seconds": "training time so far, all starts together, without set-up",
        "images_per_second": "training images over seconds since the previous row, tests excluded",
    },
    EVALUATIONS_FILE: {
        "step": "optimizer steps of the checkpoint that was tested",
        "protocol": "single, ten-crop or multi-scale",
        "average": "what is averaged over views: softmax or logits",
        "crop": "pixels a side of the square cut out; null for small images, tested as they are",
        "sides": "shorter side to which images were resized; several for multi-scale",
        "data": "data set whose test images were used",
        "dataset_sha256": "as in run.json `dataset`",
        "images": "number of images",
        "top1_error": "percent whose class does not score highest",
        "top5_error": "percent whose class is not among the five highest; null with few classes",
        "seconds": "seconds that the test took",
        "time": "UTC time, ISO 8601",
    },
    SUMMARY_FILE: {
        "schema": "version of this table, an integer",
        "status": "finished or diverged; the file is written last, so its being there is success",
        "config_hash": "as in run.json",
        "steps": "optimizer steps done",
        "train_error": "the last row's running training error, percent",
        "train_loss": "the last row's running training loss",
        "train_error_clean": "a full pass over the training images, evaluation mode, no augmentation",
        "validation_error": "at the last step, percent; null without a held-out part",
        "test_error": "at the last step, percent (final, not best)",
        "test_loss": "at the last step",
        "diverged_at": "first step whose loss was not finite; null if none was",
        "warm_until": "step before which the warm-up by error ended; null without one",
        "drops": "steps before which the rate fell at a plateau of the followed error",
        "seconds": "training time, all starts together, without set-up",
        "images_per_second": "median over the timing rows",
        "weights_sha256": "SHA-256 of all parameters and batch-norm statistics in order",
    },
    f"{MEASUREMENTS}/STUDY/NAME.json": {
        "schema": "version of this table, an integer",
        "study": "study whose networks were measured",
        "name": "name of the measurement",
        "what": "what the values are and how they were measured, in words",
        "choices": "further ones that decide them: batch, points, number of images",
        "created": "UTC time, ISO 8601",
        "commit": "git commit of the code, `+` if changed; null outside a checkout",
        "columns": "names of the values of a row",
        "rows": "lists of values, in the order of `columns`; null for what is not finite",
    },
}


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
