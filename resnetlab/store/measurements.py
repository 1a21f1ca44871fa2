"""What notebooks measured beside the runs: a table each, with the words that say what it is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from resnetlab import files
from resnetlab.config import UsageError
from resnetlab.store import logs, schema
from resnetlab.store.find import folders_in
from resnetlab.store.reader import read_versioned


@dataclass(frozen=True)
class Measurement:
    """What was measured beside a study's runs: a table, and the words that say what it is."""

    path: Path
    info: Mapping[str, Any]
    frame: pd.DataFrame


def save_measurement(
    root: Path, study: str, name: str, frame: pd.DataFrame, *, what: str, choices: Mapping[str, Any]
) -> Path:
    """Keep a table of measured values as measurements/STUDY/NAME.json, whole or not at all.

    Columns are numbers, text or true/false; what is not finite becomes null. One of that name is
    replaced. UsageError for names that cannot be used and a folder that cannot be written.
    """
    schema.check_name("study", study)
    schema.check_name("measurement", name)
    folder = schema.prepare_root(root) / schema.MEASUREMENTS / study
    folder.mkdir(parents=True, exist_ok=True)
    rows = [schema.plain(list(row)) for row in frame.itertuples(index=False, name=None)]
    info = {
        "schema": schema.SCHEMA_VERSION,
        "study": study,
        "name": name,
        "what": what,
        "choices": dict(choices),
        "created": schema.now(),
        "commit": schema.git_commit(Path(__file__)),
        "columns": [str(column) for column in frame.columns],
        "rows": rows,
    }
    path = folder / f"{name}.json"
    write_measurement(path, info)
    return path


def write_measurement(path: Path, info: Mapping[str, Any]) -> None:
    """The file, a line per row of the table."""
    text = json.dumps(info, allow_nan=False, ensure_ascii=False)
    files.atomic_write(path, (text.replace("], [", "],\n[") + "\n").encode())


def read_measurement(path: str | Path) -> Measurement:
    """The measurement in that file. Raises UsageError, with the reason, if there is none to read."""
    info, problem = read_versioned(Path(path), logs.MOST_LOG)  # a table grows with runs and layers
    if info is None:
        raise UsageError(f"{path} is not a readable measurement: {problem}")
    columns, rows = info.get("columns"), info.get("rows")
    if not (
        isinstance(columns, list)
        and isinstance(rows, list)
        and all(isinstance(row, list) and len(row) == len(columns) for row in rows)
    ):
        raise UsageError(f"{path} is not a readable measurement: its rows do not fit its columns")
    frame = pd.DataFrame(rows, columns=[str(column) for column in columns])
    if len(frame):  # a column of nothing but nulls is one of objects to pandas
        frame = frame.astype(dict.fromkeys(frame.columns[frame.isna().all()], float))
    return Measurement(Path(path), info, frame)


def find_measurements(name: str, root: str | Path | None = None) -> list[Path]:
    """The files of that measurement in all studies: the user's own first, the longer training first.

    A study whose name ends in -N-steps has so many (`studies.folder_name`), the others their recipe's.
    """
    schema.check_name("measurement", name)
    base = schema.results_root(root)
    places = (base / schema.MEASUREMENTS, schema.reference_root(base) / schema.MEASUREMENTS)
    paths = [folder / f"{name}.json" for place in places for folder in folders_in(place)]

    def length(path: Path) -> float:
        steps = re.search(r"-(\d+)-steps", path.parent.name)
        return float(steps[1]) if steps else math.inf

    return sorted(filter(Path.is_file, paths), key=length, reverse=True)
