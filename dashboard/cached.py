"""What the pages read, remembered: the only place that caches.

Everything is keyed by path and by the modification time and size of the files behind it, so a growing
run is read again and a finished one is not. Caches are bounded and live in memory only. What they give
is shared by all pages and visitors, not copied: nobody may write into it. (Copies of a thousand runs
took seconds a page.)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
import streamlit as st

from resnetlab import results
from resnetlab.config import UsageError

Stamp = tuple[tuple[str, int, int], ...]  # (file, mtime in ns, bytes) of the files that are there
FILES = (results.RUN_FILE, results.SUMMARY_FILE, *results.LOGS)


def root() -> Path:
    """The results folder: RESNETLAB_RESULTS if it is set, else the project's."""
    return results.results_root(os.environ.get("RESNETLAB_RESULTS"))


def stamp(folder: Path, files: Iterable[str] = FILES) -> Stamp:
    """What the files of one run look like from outside, without opening them."""
    found = []
    for name in files:
        try:
            seen = (folder / name).stat()
        except OSError:
            continue
        found.append((name, seen.st_mtime_ns, seen.st_size))
    return tuple(found)


def study(path: Path) -> results.Study:
    """The study's runs, without their logs."""
    try:
        folders = sorted(item for item in path.iterdir() if item.is_dir())
    except OSError:
        folders = []
    return _study(_key(path, *((item, stamp(item)) for item in folders)), path)


@st.cache_resource(max_entries=32, show_spinner=False)
def _study(key: str, _path: Path) -> results.Study:
    return results.read_study(_path)


def _key(*parts: object) -> str:
    """One word for paths and stamps: Streamlit's own hashing of a thousand of them takes long.

    Through repr, because a name on disk need not be valid text.
    """
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def state(runs: results.Study) -> tuple[tuple[str, str, Stamp], ...]:
    """What a picture of the study depends on; equal means that nothing has to be drawn again.

    run.json is left out, because its heartbeat changes every few seconds; its status is in.
    """
    logs = (results.SUMMARY_FILE, *results.LOGS)
    return (
        *((run.name, run.status, stamp(run.path, logs)) for run in runs.runs),
        *((item.path.name, item.reason, ()) for item in runs.skipped),
    )


def metrics(runs: Sequence[results.RunRecord]) -> pd.DataFrame:
    """`results.metrics_of`. Shared: not to be written into."""
    return _metrics(_key(*((run.path, stamp(run.path)) for run in runs)), runs)


@st.cache_resource(max_entries=8, show_spinner=False)
def _metrics(key: str, _runs: Sequence[results.RunRecord]) -> pd.DataFrame:
    return results.metrics_of(_loaded(_runs, "metrics"))


def probes(runs: Sequence[results.RunRecord]) -> pd.DataFrame:
    """`results.probes_of` for the gradient norms."""
    return results.probes_of(_loaded(runs, "probes"))


def table(runs: Sequence[results.RunRecord]) -> pd.DataFrame:
    """`results.table_of`: one row a run."""
    return results.table_of(_loaded(runs, "metrics"))


def problems(run: results.RunRecord) -> tuple[str, ...]:
    """`RunRecord.problems`. Reads every log of the run once."""
    return _problems(_key(run.path, stamp(run.path), run.status), run.path)


def _loaded(
    runs: Sequence[results.RunRecord], part: Literal["metrics", "probes"]
) -> list[results.RunRecord]:
    """The runs with that part of their logs in memory; vanished runs are left out."""
    found = (_run(_key(run.path, stamp(run.path)), part, run.path) for run in runs)
    return [run for run in found if run is not None]


@st.cache_resource(max_entries=4096, show_spinner=False)
def _run(key: str, part: Literal["metrics", "probes"], _path: Path) -> results.RunRecord | None:
    try:
        run = results.read_run(_path)
    except UsageError:
        return None
    _ = run.metrics if part == "metrics" else run.probe()  # read now, so that the cache holds it
    return run


@st.cache_data(max_entries=4096, show_spinner=False)
def _problems(key: str, _path: Path) -> tuple[str, ...]:
    try:
        return results.read_run(_path).problems
    except UsageError:
        return ()


def logged(run: results.RunRecord) -> pd.DataFrame:
    """`RunRecord.metrics` of one run, no rows if it has vanished. Shared: not to be written into."""
    found = _loaded([run], "metrics")
    return found[0].metrics if found else pd.DataFrame({"step": pd.Series(dtype=int)})
