"""Every logged point of a study as files for other tools: CSV, Parquet, TensorBoard event files.

Five tables (`TABLES`), one row per run, a logged step, a probed layer, a test; and the event files of
each run. What the log has no value for is empty; what was measured and was not finite is NaN (the log
does not say whether infinite or not a number). Every file is written whole or not at all.
"""

from __future__ import annotations

import csv
import datetime as dt
import importlib.util
import io
import json
import math
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from resnetlab import files, store
from resnetlab.config import UsageError, did_you_mean
from resnetlab.plots import series

FORMATS = ("csv", "parquet", "tensorboard")
TENSORBOARD = "tensorboard"  # the folder of event files, a folder per run in it
# A fixed name: exported again, the file is replaced, and TensorBoard shows no point twice.
EVENTS_FILE = "events.out.tfevents.0.resnetlab"
TO_INSTALL = "event files need the package tensorboard: pip install 'resnetlab[export]'"

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
_EXACT = 2**53  # whole numbers up to here are the same in every tool

_COLUMNS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
_WORDS = store.SCHEMA | _COLUMNS["tables"]
# table -> column -> meaning; they are written beside the tables, as the table `columns`.
TABLES: dict[str, dict[str, str]] = {
    table: {column: _WORDS.get(words, {}).get(column, words) for column, words in columns.items()}
    for table, columns in _COLUMNS["tables"].items()
}
_TYPES = dict.fromkeys(_COLUMNS["types"]["whole"], _WHOLE)
_TYPES |= dict.fromkeys(_COLUMNS["types"]["real"], _REAL)
SCHEMAS = {
    table: pa.schema([(name, _TYPES.get(name, _TEXT)) for name in columns])
    for table, columns in TABLES.items()
}


# --- tables -----------------------------------------------------------------------------------


def printable(value: object) -> str:
    """Text as UTF-8 can hold it: a file name's bytes that are none become `\\udc..`."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _cell(value: Any, kind: pa.DataType) -> Any:
    """`value` as that kind of column takes it, None for what is no such value."""
    if value is None:
        return None
    if kind == _TEXT:
        return printable(value)
    if type(value) not in (int, float):
        return None
    if kind == _WHOLE:
        return int(value) if abs(value) < _EXACT and value == int(value) else None
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _table(name: str, run: store.RunRecord, rows: Iterable[Mapping[Any, Any]]) -> pa.Table:
    """What the rows and the run's identity have of that table's columns."""
    schema, who = SCHEMAS[name], run.identity()
    cells = [
        {field.name: _cell(row.get(field.name), field.type) for field in schema}
        for row in (who | dict(row) for row in rows)
    ]
    return pa.Table.from_pylist(cells, schema=schema)


def runs_table(run: store.RunRecord) -> pa.Table:
    """One row: who the run is, its outcome, where it ran, its configuration, its problems."""
    versions, execution = (files.mapping(run.info.get(key)) for key in ("versions", "execution"))
    device = [str(execution[key]) for key in ("device", "device_name") if execution.get(key)]
    row = dict(run.info) | run.as_row() | {"problems": "; ".join(run.problems)}
    row |= {"device": ", ".join(device) or None, "torch": versions.get("torch")}
    return _table("runs", run, [row | {"config": json.dumps(run.config.model_dump(mode="json"))}])


def metrics_table(run: store.RunRecord) -> pa.Table:
    """One row a logged step of the run, with its time and the images seen so far.

    null: the log has no such value at this step; NaN: it has, and the value was not finite.
    """
    logged, rows = set[tuple[int, str]](), []
    for line in store.read_lines(run.path / store.METRICS_FILE)[0]:
        unsound = line.get("nonfinite")
        names = [key for key, value in line.items() if value is not None]
        names += unsound if isinstance(unsound, list) else []
        logged |= {(line["step"], name) for name in names if isinstance(name, str)}
    for row in run.metrics.to_dict("records"):
        step = row["step"]
        # Times are never noted as not finite: a missing one is missing.
        known = {name: value for name, value in row.items() if value == value or (step, name) in logged}
        # Every step sees a whole batch.
        rows.append(known | {"images_seen": step * run.config.recipe.batch_size})
    return _table("metrics", run, rows)


def probes_table(run: store.RunRecord) -> pa.Table:
    """One row a probed layer and step of the run; NaN where the measured number was not finite."""
    rows = [
        row | {"kind": kind, "layer": row["layer"] + 1}
        for kind in sorted(files.mapping(run.info.get("layers")))
        for row in run.probe(kind).to_dict("records")
    ]
    return _table("probes", run, rows)


def evaluations_table(run: store.RunRecord) -> pa.Table:
    """One row a test protocol by which the run was tested (`resnetlab evaluate`)."""
    rows = []
    for row in run.evaluations.to_dict("records"):
        known = {key: None if value != value else value for key, value in row.items()}
        sides = known["sides"]
        known["sides"] = " ".join(map(str, sides)) if isinstance(sides, list) else sides
        rows.append(known)
    return _table("evaluations", run, rows)


_BY_RUN: dict[str, Callable[[store.RunRecord], pa.Table]] = {
    "runs": runs_table,
    "metrics": metrics_table,
    "probes": probes_table,
    "evaluations": evaluations_table,
}


# --- files ------------------------------------------------------------------------------------


def _write_csv(path: Path, schema: pa.Schema, parts: Iterable[pa.Table]) -> None:
    """Numbers as Python's repr writes them: they read back as they were, to the last bit.

    Empty: there is no value; nan: it was not finite. Text is made safe by `series.safe_cell`.
    """
    with files.whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(schema.names)
        for part in parts:
            cells = [column.to_pylist() for column in part.itercolumns()]
            for index, field in enumerate(part.schema):
                if field.type == _TEXT:
                    cells[index] = [series.safe_cell(value) for value in cells[index]]
            writer.writerows(zip(*cells, strict=True))


def _write_parquet(path: Path, schema: pa.Schema, parts: Iterable[pa.Table]) -> None:
    with files.whole(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for part in parts:
            if part.num_rows:
                writer.write_table(part)


_WRITERS = {"csv": _write_csv, "parquet": _write_parquet}


# --- TensorBoard ------------------------------------------------------------------------------


def has_tensorboard() -> bool:
    return importlib.util.find_spec("tensorboard") is not None


def _tag(metric: str) -> str:
    """TensorBoard puts what stands before the slash under one heading: error/train_error, loss/..."""
    last = metric.rsplit("_", 1)[-1]
    return f"{last if last in ('error', 'loss') else 'progress'}/{metric}"


def scalars(run: store.RunRecord) -> Iterator[tuple[float, int, dict[str, float]]]:
    """What TensorBoard is told of a run: (wall time in seconds since 1970, step, tag -> value).

    The wall time is the first start plus the training time so far: breaks between starts are left out.
    Values that were not finite are NaN.
    """
    try:
        began = dt.datetime.fromisoformat(str(run.info.get("created"))).timestamp()
    except (ValueError, OverflowError):
        began = 0.0
    rows = metrics_table(run).to_pylist()
    timed = [(row["step"], row["seconds"]) for row in rows if row["seconds"] is not None]
    steps, seconds = zip(*timed, strict=True) if timed else ((0,), (0.0,))
    names = [name for name in TABLES["metrics"] if name not in (*store.IDENTITY, "step")]
    values: dict[int, dict[str, float]] = {}
    for row in rows:
        values[row["step"]] = {_tag(name): row[name] for name in names if row[name] is not None}
    for row in probes_table(run).to_pylist():
        tag = f"{printable(row['kind'])}/{row['layer']:03d} {row['name']}"
        values.setdefault(row["step"], {})[tag] = row["value"]
    for step in sorted(values):
        yield began + float(np.interp(step, steps, seconds)), step, values[step]


def event_file(run: store.RunRecord) -> bytes:
    """A run as a TensorBoard event file. Its values have 32 bits, which hold the log's six digits."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    for number, (time, step, values) in enumerate(scalars(run)):
        if number == 0:
            writer.write(Event(wall_time=time, file_version="brain.Event:2").SerializeToString())
        with np.errstate(over="ignore"):
            points = [
                Summary.Value(tag=tag, simple_value=float(np.float32(value)))
                for tag, value in values.items()
            ]
        event = Event(wall_time=time, step=step, summary=Summary(value=points))
        writer.write(event.SerializeToString())
    return buffer.getvalue()


# --- a study ----------------------------------------------------------------------------------


def formats_asked(asked: Sequence[str] | None) -> tuple[str, ...]:
    """The formats to write; None: all that is possible here.

    UsageError for an unknown one, RuntimeError for `tensorboard` where that package is missing.
    """
    if asked is None:
        return FORMATS if has_tensorboard() else FORMATS[:-1]
    for name in asked:
        if name not in FORMATS:
            raise UsageError(f"unknown format {name!r}{did_you_mean(name, FORMATS)}")
    if not asked:
        raise UsageError(f"--format: at least one of {', '.join(FORMATS)} is needed")
    if TENSORBOARD in asked and not has_tensorboard():
        raise RuntimeError(TO_INSTALL)
    return tuple(dict.fromkeys(asked))


def write(
    study: store.Study, folder: Path, formats: Sequence[str], note: Callable[[Path], None]
) -> None:
    """Write the study's readable runs into `folder`; `note` is told each file, or folder of runs.

    What an earlier export left there under the same names is replaced. UsageError if `folder` cannot
    be a folder, OSError if it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    described = pa.Table.from_pylist(
        [
            {"table": table, "column": column, "meaning": meaning}
            for table, columns in TABLES.items()
            for column, meaning in columns.items()
        ]
    )
    for kind in (kind for kind in formats if kind != TENSORBOARD):
        for name, schema in (*SCHEMAS.items(), ("columns", described.schema)):
            path = folder / f"{name}.{kind}"
            # Of a thousand runs no more than one is held: a copy, with which goes what it read.
            parts = (_BY_RUN[name](replace(run)) for run in study.runs)
            _WRITERS[kind](path, schema, [described] if name == "columns" else parts)
            note(path)
    if TENSORBOARD in formats:
        for run in study.runs:
            place = folder / TENSORBOARD / printable(run.name)
            place.mkdir(parents=True, exist_ok=True)
            files.atomic_write(place / EVENTS_FILE, event_file(replace(run)))
        note(folder / TENSORBOARD)
