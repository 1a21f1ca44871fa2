"""results/rewrite.py: a run of an earlier form comes into the present one, once, and stays that run."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from dashboard_data import write_run

from resnetlab import store

SCRIPT = Path(__file__).resolve().parents[1] / "results" / "rewrite.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rewrite", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def change(path: Path, *gone: str, **changes: Any) -> None:
    """Write fields of a JSON file anew, and take some out."""
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if key not in gone}))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run as it was written before starts had a machine and summaries had events: two starts."""
    run = write_run(tmp_path, "plain-8")
    execution = store.read_run(run).info["execution"] | {"norm": "own"}
    start = {"time": "2026-01-01T00:00:00+00:00", "commit": "0123456789ab", "torch": "2"}
    starts = [start, start | {"time": "2026-01-02T00:00:00+00:00"}]
    change(run / store.RUN_FILE, "events", starts=starts, execution=execution)
    written = json.loads((run / store.SUMMARY_FILE).read_text())
    values = dict.fromkeys(store.SCHEMA[store.SUMMARY_FILE]) | written | {"skipped_images": 0}
    change(run / store.SUMMARY_FILE, "warm_until", "drops", **values)
    return run


def test_an_old_run_is_brought_into_form_once(old: Path, script: ModuleType) -> None:
    before, logs = store.read_run(old), [(old / name).read_bytes() for name in store.LOGS]
    assert script.rewrite(old.parent) == [old / store.RUN_FILE, old / store.SUMMARY_FILE]
    assert script.rewrite(old.parent) == []
    after = store.read_run(old)
    assert list(after.info) == list(store.SCHEMA[store.RUN_FILE])
    assert list(after.summary or {}) == list(store.SCHEMA[store.SUMMARY_FILE])
    assert (after.config, after.as_row()) == (before.config, before.as_row())
    assert after.info["config_hash"] == after.config.hash() == before.info["config_hash"]
    assert [(old / name).read_bytes() for name in store.LOGS] == logs
    first, last = after.info["starts"]
    assert (first["host"], first["device"], first["job"]) == (None, None, None)
    assert (last["host"], last["device"]) == (before.info["host"], "test")
    assert last["time"] == "2026-01-02T00:00:00+00:00"
    assert after.info["execution"]["ranks"] == 1
    assert "norm" not in after.info["execution"]
    assert after.info["dataset"]["in_both"] is None
    assert after.info["events"] == {"warm_until": None, "drops": []}


@pytest.mark.parametrize(
    ("file", "gone", "changes", "reason"),
    [
        (store.RUN_FILE, (), {"config_hash": "0" * 12}, "not the one that its config_hash names"),
        (store.RUN_FILE, (), {"colour": "red"}, "fields that do not fit: colour"),
        (store.RUN_FILE, ("parameters",), {}, "fields that do not fit: parameters"),
        (store.SUMMARY_FILE, (), {"skipped_images": 3}, "left images out"),
    ],
)
def test_what_cannot_be_rewritten_is_named_and_left(
    old: Path, script: ModuleType, file: str, gone: tuple[str], changes: dict[str, Any], reason: str
) -> None:
    change(old / file, *gone, **changes)
    before = {path: path.read_bytes() for path in old.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=f"{file}: .*{reason}"):
        script.rewrite(old)
    assert {path: path.read_bytes() for path in old.iterdir() if path.is_file()} == before


def test_a_measurements_choices_were_once_its_conditions(tmp_path: Path, script: ModuleType) -> None:
    reference = SCRIPT.parent / store.REFERENCE / store.MEASUREMENTS
    source = next(reference.glob("*/lesions.json"))
    path = tmp_path / store.MEASUREMENTS / "digits" / "lesions.json"
    path.parent.mkdir(parents=True)
    path.write_text(source.read_text().replace('"choices": ', '"conditions": '))
    assert script.rewrite(tmp_path) == [path]
    assert path.read_bytes() == source.read_bytes()


def test_all_committed_files_are_in_form(tmp_path: Path, script: ModuleType) -> None:
    copies = tmp_path / "reference"
    keep = shutil.ignore_patterns("*.jsonl", "*.ipynb", "*.png", "*.html")
    shutil.copytree(SCRIPT.parent / store.REFERENCE, copies, ignore=keep)
    assert script.rewrite(copies) == []
