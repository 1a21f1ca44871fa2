"""What the pages read, remembered: the only place that caches.

A run is read again when the modification time or the size of one of its files changes, and then only
what is new in its logs; a finished one is read once. Caches hold what is on disk, no more, and live in
memory only. What they give is shared by all pages and visitors, not copied: nobody may write into it.
(Copies of a thousand runs took seconds a page.)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import inside
from resnetlab import store

T = TypeVar("T")
Stamp = tuple[tuple[str, int, int], ...]  # (file, mtime in ns, bytes) of the files that are there
FILES = (store.RUN_FILE, store.SUMMARY_FILE, *store.LOGS)


def root() -> Path:
    """The results folder: RESNETLAB_RESULTS if it is set, else the usual one."""
    return store.results_root()


def stamp(folder: Path, files: Iterable[str] = FILES) -> Stamp:
    """What the files of one run look like from outside, without opening them."""
    seen = []
    for name in files:
        try:  # a page asks thousands; paths joined by pathlib are slow
            status = os.stat(f"{folder}{os.sep}{name}")
        except OSError:
            continue
        seen.append((name, status.st_mtime_ns, status.st_size))
    return tuple(seen)


# --- runs -------------------------------------------------------------------------------------

# folder -> what its files looked like when it was read, and what was in it
_shelf: dict[Path, tuple[Stamp, store.RunRecord | store.Skipped]] = {}


def study(path: Path) -> store.Study:
    """The study's runs. A run whose files have not changed is the same object as before."""
    read = store.read_study(path, _read)
    present = {run.path for run in read.runs} | {item.path for item in read.skipped}
    for folder in [item for item in _shelf if item.parent == path and item not in present]:
        _shelf.pop(folder, None)  # another visitor's page may have been faster
    return read


def _read(folder: Path) -> store.RunRecord | store.Skipped:
    seen = stamp(folder)
    known = _shelf.get(folder)
    if known is not None and known[0] == seen and not _died(known[1]):
        return known[1]
    record = store.read_folder(folder, known[1] if known else None)
    _shelf[folder] = (seen, record)
    return record


def _died(record: store.RunRecord | store.Skipped) -> bool:
    """Whether a run's process has gone without a word: nothing in its files tells."""
    return (
        isinstance(record, store.RunRecord)
        and record.status == "running"
        and not store.is_alive(record.info)
    )


def state(runs: store.Study) -> tuple[tuple[str, str, Stamp], ...]:
    """What a picture of the study depends on; equal means that nothing has to be drawn again.

    run.json is left out, because its heartbeat changes every few seconds; its status is in.
    """
    logs = (store.SUMMARY_FILE, *store.LOGS)
    return (
        *((run.name, run.status, stamp(run.path, logs)) for run in runs.runs),
        *((item.path.name, item.reason, ()) for item in runs.skipped),
    )


def metrics(runs: Sequence[store.RunRecord]) -> pd.DataFrame:
    """`store.metrics_of`. Shared: not to be written into."""
    return _together(_same(runs), "metrics", store.metrics_of, runs)[1]


def table(runs: Sequence[store.RunRecord]) -> pd.DataFrame:
    """`store.table_of`: one row per run. Shared: not to be written into."""
    return _together(_same(runs), "table", store.table_of, runs)[1]


def probes(runs: Sequence[store.RunRecord], kind: str = "gradient_norm") -> pd.DataFrame:
    """`store.probes_of` that kind. Shared: not to be written into."""
    return _together(_same(runs), kind, partial(store.probes_of, kind=kind), runs)[1]


@st.cache_resource(max_entries=24, show_spinner=False)
def _together(
    key: str, name: str, _frame_of: Callable[..., pd.DataFrame], _runs: Sequence[store.RunRecord]
) -> tuple[Sequence[store.RunRecord], pd.DataFrame]:
    return _runs, _frame_of(_runs)


def _same(runs: Sequence[store.RunRecord]) -> str:
    """One word for these very objects, which stand for their files as they were when they were read.

    What is cached under it keeps them, so no later object can have the address of one of them.
    Streamlit's own hashing of a thousand paths and stamps takes long.
    """
    return hashlib.sha256(repr([id(run) for run in runs]).encode()).hexdigest()


# --- measurements -----------------------------------------------------------------------------


def measurement(path: Path) -> store.measurements.Measurement:
    """`store.read_measurement`, remembered until its file changes. Shared: not to be written into."""
    return _measurement(path, stamp(path.parent, [path.name]))


@st.cache_resource(max_entries=32, show_spinner=False)
def _measurement(path: Path, seen: Stamp) -> store.measurements.Measurement:
    return store.read_measurement(path)


@st.cache_resource(max_entries=64, show_spinner=False)
def anatomy(names: Sequence[str], classes: int, channels: int, size: int) -> dict[str, Any]:
    """`inside.anatomy` of the networks of these names. Raises UsageError with what went wrong."""
    return inside.anatomy(names, classes, channels, size)


def responses(run: store.RunRecord) -> dict[str, Any]:
    """`probes.layer_responses` of the run's newest whole checkpoint: values, step, images.

    Raises UsageError with what went wrong.
    """
    return _responses(os.fsencode(run.path), weights(run))


@st.cache_resource(max_entries=256, show_spinner=False)
def _responses(path: bytes, seen: Stamp) -> dict[str, Any]:
    return inside.ask({"run": os.fsdecode(path)})


def weights(run: store.RunRecord) -> Stamp:
    """The run's checkpoints as they look from outside, or the package's file; empty without weights."""
    folder = run.path / store.CHECKPOINTS
    checkpoints = stamp(folder, sorted(path.name for path in folder.glob("*.pt")))
    along = run.shipped
    return checkpoints or (stamp(along.parent, [along.name]) if along else checkpoints)


# --- figures ----------------------------------------------------------------------------------


def figure(
    draw: Callable[..., go.Figure], frame: pd.DataFrame, **choices: str | bool | int
) -> go.Figure:
    """`draw(frame, **choices)`, a function of `plots` over a frame of this module, drawn once.

    A copy, to be changed. What only restyles a page (the projector) then costs no average over seeds.
    """
    return go.Figure(_figure(draw.__qualname__, id(frame), choices, draw, frame)[1])


@st.cache_resource(max_entries=16, show_spinner=False)
def _figure(
    name: str,
    key: int,
    choices: dict[str, str | bool | int],
    _draw: Callable[..., go.Figure],
    _frame: pd.DataFrame,
) -> tuple[pd.DataFrame, go.Figure]:
    return _frame, _draw(_frame, **choices)


# --- words ------------------------------------------------------------------------------------


def said(say: Callable[[pd.DataFrame], T], frame: pd.DataFrame) -> T:
    """`say(frame)`, a function of `verdict` over a frame of this module, said once: it is shared."""
    words: T = _said(say.__qualname__, id(frame), say, frame)[1]
    return words


@st.cache_resource(max_entries=64, show_spinner=False)
def _said(
    name: str, key: int, _say: Callable[[pd.DataFrame], Any], _frame: pd.DataFrame
) -> tuple[pd.DataFrame, Any]:
    return _frame, _say(_frame)
