"""The names and fields of what lies on disk, and where; results/README.md shows the table."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from resnetlab import files
from resnetlab.config import UsageError, expanded

SCHEMA_VERSION = 1
Status = Literal["running", "finished", "interrupted", "diverged", "failed"]
STATUSES: tuple[Status, ...] = ("running", "finished", "interrupted", "diverged", "failed")
ENDED: tuple[Status, ...] = ("finished", "diverged")  # nothing is left to do for these
RUN_FILE, SUMMARY_FILE, LOCK_FILE = "run.json", "summary.json", "run.lock"
PLAN_FILE, QUEUED = "plan.json", "queued"  # of a study: runs that others will train; what those are
METRICS_FILE, PROBES_FILE, TIMING_FILE = "metrics.jsonl", "probes.jsonl", "timing.jsonl"
# How errors begin after which a run goes on in a fresh process: its step could not be captured (it is
# trained without a graph then), or another run's could not, in the same process.
STARTED_AGAIN = ("CaptureError", "SpoiltProcessError")
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
OF_REFERENCE = "of-reference"  # what is made of committed studies where they lie in the installation
RESULTS_VARIABLE = "RESNETLAB_RESULTS"  # environment: the results folder of commands that name none
# file -> field -> meaning; results/README.md shows it, and the reader's frames have these columns.
SCHEMA: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text("utf-8")
)


def check_name(kind: str, name: str) -> str:
    """`name` if it can be a folder of its own; UsageError otherwise (kind is "run" or "study")."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise UsageError(
            f"{kind} name {name!r} cannot be used: 1 to 80 letters, digits, '.', '_' and '-', "
            "the first a letter or digit, no path"
        )
    if name in (FIGURES, MEASUREMENTS):
        raise UsageError(f"{kind} name {name!r} is taken; choose another")
    if kind == "study" and name in (REFERENCE, OF_REFERENCE):
        raise UsageError(f"study name {name!r} is kept for the committed runs; choose another")
    if kind == "study" and name in LESSONS:
        raise UsageError(f"study name {name!r} is kept for pages of the lesson; choose another")
    return name


def results_root(path: str | Path | None = None) -> Path:
    """The results folder: `path` if given, else RESNETLAB_RESULTS, else `files.usual_results`."""
    if path is not None and not isinstance(path, str | Path):
        raise UsageError(f"results: should be a folder's path, got {path!r}")
    path = path or os.environ.get(RESULTS_VARIABLE)
    return expanded(path) if path else files.usual_results()


def reference_root(root: Path) -> Path:
    """The committed studies that belong to a results folder: its own reference/ if it has one.

    The usual results folder has else those that come with the package; another one has none.
    """
    inside = root / REFERENCE
    if inside.is_dir() or not files.is_usual(root):
        return inside
    return files.project() / files.RESULTS / REFERENCE


def prepare_root(root: Path) -> Path:
    """Make the results folder if need be, marked as ours.

    UsageError if it is a file, cannot be written, or lies in the installed package.
    """
    if root.exists() and not root.is_dir():
        raise UsageError(f"results folder {root} is a file; give a folder with --results")
    if root.resolve().is_relative_to(files.PACKAGE.resolve()):
        raise UsageError(f"results folder {root} lies in the package; give another with --results")
    try:
        if not root.is_dir():
            root.mkdir(parents=True, exist_ok=True)
            (root / files.MARKER).write_text(files.MARKED)
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


def plain(value: Any) -> Any:
    """A value as strict JSON takes it, also one of numpy's: None for a number that is not finite."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    return significant(value) if isinstance(value, float) else value


def json_line(row: Mapping[str, Any]) -> str:
    """A row of a log."""
    return json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n"


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


IDENTITY = tuple("study run network depth shortcut family data recipe seed precision".split())
FINAL = tuple(
    "train_error train_error_clean validation_error test_error seconds images_per_second".split()
)
OUTCOME = ("status", "steps", "steps_planned", "classes", *FINAL)
