"""What of a study is asked for: plan.json beside its runs, written where others will train them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetlab.config import Run
from resnetlab.store import schema
from resnetlab.store.reader import parse_config, read_versioned


@dataclass(frozen=True)
class Plan:
    """The runs that a study asks for, by name, and the number of the job that trains them."""

    runs: Mapping[str, Run]
    job: str | None = None


def write_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    """As `resnetlab study NAME --plan --json` prints it."""
    folder.mkdir(parents=True, exist_ok=True)
    schema.write_json(folder / schema.PLAN_FILE, plan)


def read_plan(folder: Path) -> Plan | None:
    """None where there is none, or none that can be read; a run that cannot be is left out."""
    info, _ = read_versioned(folder / schema.PLAN_FILE)
    cells = info.get("runs") if info is not None else None
    if info is None or not isinstance(cells, dict):
        return None
    runs = {name: parse_config(cell)[0] for name, cell in cells.items() if isinstance(cell, dict)}
    job = info.get("job")
    known = {name: run for name, run in runs.items() if run is not None}
    return Plan(known, job if isinstance(job, str) else None)
