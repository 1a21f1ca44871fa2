"""Bring runs and measurements written in an earlier form to the one that `results/README.md` states.

    python results/rewrite.py results/reference     # everything below a folder, as often as one likes

Nothing that decides or measures a run changes: only a recipe that has another name now is called by it,
in configuration and hash, and logs stay as they are. What an
earlier resnetlab did not record is written as null (host, device and job of a start but the last, whose
host and device run.json has; test images that are training images), and what there was only one way of
then as that (one process, activations kept). A file that is in form already is left alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnetlab import store
from resnetlab.config import Run

NO_EVENTS = {"warm_until": None, "drops": []}
START = {"time": None, "commit": None, "torch": None, "host": None, "device": None, "job": None}
RENAMED = {"quick": "tuned-on-resnet-56"}  # recipes
GONE = ("norm",)  # of `execution`: batch norm is over each process's own images, always
DAMAGED = "skipped_images"  # of summary.json: a damaged image is an error


OPTIONAL = ("logs_sha256",)  # what was not known then is not known now


def filled(values: Mapping[str, Any], missing: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they are, and behind them what they lack."""
    return dict(values) | {key: value for key, value in missing.items() if key not in values}


def ordered(file: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in the order of the schema. ValueError for one that is unknown to it or missing."""
    fields = [name for name in store.SCHEMA[file] if name in values or name not in OPTIONAL]
    if set(values) != set(fields):
        raise ValueError(f"fields that do not fit: {', '.join(sorted(set(values) ^ set(fields)))}")
    return {name: values[name] for name in fields}


def labelled(value: Any) -> Any:
    """A measured table's cell: the label of a renamed recipe by its name of today."""
    name = value.partition(" (")[0] if isinstance(value, str) else None
    return RENAMED[name] + value.removeprefix(name) if name in RENAMED else value


def run_json(info: Mapping[str, Any]) -> dict[str, Any]:
    if Run.parse(info["config"]).hash() != info["config_hash"]:
        raise ValueError("its configuration is not the one that its config_hash names")
    execution = {key: value for key, value in info["execution"].items() if key not in GONE}
    starts = [START | start for start in info["starts"]]
    if starts:  # what run.json says of itself, it says of its last start
        starts[-1]["host"] = starts[-1]["host"] or info["host"]
        starts[-1]["device"] = starts[-1]["device"] or execution["device_name"]
    recipe = info["config"]["recipe"]
    config = info["config"] | {"recipe": recipe | {"name": labelled(recipe["name"])}}
    changes = {
        "config": config,
        "config_hash": Run.parse(config).hash(),
        "starts": starts,
        "execution": filled(execution, {"ranks": 1, "activations": "kept"}),
        "dataset": filled(info["dataset"], {"in_both": None}),
    }
    return ordered(store.RUN_FILE, filled(info, {"events": NO_EVENTS}) | changes)


def summary_json(summary: Mapping[str, Any]) -> dict[str, Any]:
    values = filled(summary, NO_EVENTS)
    if values.pop(DAMAGED, 0):
        raise ValueError(f"{DAMAGED} is not 0: the run left images out, which is no run any more")
    return ordered(store.SUMMARY_FILE, values)


def measurement(values: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {"choices" if key == "conditions" else key: value for key, value in values.items()}
    renamed["rows"] = [[labelled(cell) for cell in row] for row in renamed["rows"]]
    return ordered(f"{store.MEASUREMENTS}/STUDY/NAME.json", renamed)


def rewrite(folder: Path) -> list[Path]:
    """The files below the folder that were rewritten: all, or none if one cannot be (ValueError)."""
    kinds = {store.RUN_FILE: run_json, store.SUMMARY_FILE: summary_json}
    changed = {}
    for path in sorted(folder.rglob("*.json")):
        kept = path.parent.parent.name == store.MEASUREMENTS
        form = measurement if kept else kinds.get(path.name)
        if form is None:
            continue
        before = json.loads(path.read_bytes())
        try:
            after = form(before)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        if list(after.items()) != list(before.items()):
            changed[path] = (store.measurements.write_measurement if kept else store.write_json, after)
    for path, (write, after) in changed.items():
        write(path, after)
    return list(changed)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("give the folders whose runs and measurements are to be rewritten")
    for name in sys.argv[1:]:
        try:
            rewritten = rewrite(Path(name))
        except ValueError as error:
            sys.exit(f"error: {error}")
        for path in rewritten:
            print(f"rewrote {path}")
