"""Benchmarks: where their figures go, and what of them depends on the machine."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
PAGE = (FOLDER / "README.md").read_text()
REPORT = {"machine": "a machine", "versions": "torch", "date": "today", "rows": []}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A script of the folder as a module, as it imports the others."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def tables(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`tables` on a copy of the page."""
    module: ModuleType = load("tables")
    (tmp_path / "README.md").write_text(PAGE)
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def between(page: str, name: str) -> str:
    return page.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]


def test_every_place_of_the_page_is_whole_and_there_once() -> None:
    begun = re.findall(r"<!-- (\w+) -->", PAGE)
    assert begun == re.findall(r"<!-- /(\w+) -->", PAGE)
    assert len(set(begun)) == len(begun)
    assert {"speed", "speed_cuda", "gpu_company"} <= set(begun)


def test_a_place_holds_what_was_measured_or_says_that_nothing_was() -> None:
    for name in re.findall(r"<!-- (\w+) -->", PAGE):
        measured = (FOLDER / f"{name}.json").exists()
        assert measured != ("Not measured." in between(PAGE, name)), name


def test_a_gpus_table_goes_beside_the_cpus(tables: ModuleType, load: Any, tmp_path: Path) -> None:
    speed = load("speed")
    assert len(set(speed.PLACES.values())) == len(speed.PLACES) == 2
    tables.publish(speed.PLACES["cuda"], REPORT, "A card.", "| a |")
    page = (tmp_path / "README.md").read_text()
    assert "A card." in between(page, "speed_cuda")
    for name in re.findall(r"<!-- (\w+) -->", PAGE):
        assert (between(page, name) == between(PAGE, name)) == (name != "speed_cuda")
    assert [path.name for path in tmp_path.glob("*.json")] == ["speed_cuda.json"]


def test_what_was_measured_elsewhere_comes_into_the_page(tables: ModuleType, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    tables.publish("gpu_company", REPORT, "A card.", "| a |", elsewhere)
    assert (tmp_path / "README.md").read_text() == PAGE
    tables.take(elsewhere / "gpu_company.json")
    assert "A card.\n\n| a |\n" in between((tmp_path / "README.md").read_text(), "gpu_company")
    assert json.loads((tmp_path / "gpu_company.json").read_text())["machine"] == "a machine"


def test_a_table_without_a_place_is_refused(tables: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no place"):
        tables.publish("nowhere", REPORT, "", "")


@pytest.mark.parametrize(
    ("device", "cores", "expected"),
    [("cpu", 64, 2), ("cuda", 2, 2), ("cuda", 8, 6), ("cuda", 16, 8), ("cuda", 128, 8)],
)
def test_the_loader_has_the_workers_that_the_cores_allow(
    device: str, cores: int, expected: int, load: Any
) -> None:
    assert load("peer").workers(device, cores) == expected


def test_a_gpus_remark_names_the_card_the_steps_and_the_workers(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = load("speed")
    monkeypatch.setattr(speed.machine, "usable_cores", lambda: 16)
    said = speed.remark_on("cuda", "NVIDIA Card", 5, speed.STEPS["cuda"], "Idle.")
    for words in ("NVIDIA Card.", "200 steps", "8 loader workers", "Idle."):
        assert words in said
    assert "NVIDIA" not in speed.remark_on("cpu", "a processor", 7, 3, "")


def test_a_gpu_has_more_images_so_that_an_epoch_is_long(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = load("speed")
    monkeypatch.setattr(speed, "images_32", lambda count: count)
    assert speed.images_of(32, "cuda") >= 128 * speed.STEPS["cuda"] > speed.images_of(32, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures on a GPU")
@pytest.mark.parametrize(("words", "code"), [([], 0), (["smoke"], 2)])
def test_without_a_gpu_its_script_measures_nothing(words: list[str], code: int, tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "gpu.py"), *words, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code
    assert "no GPU here" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.deep
@pytest.mark.parametrize("words", [["smoke", "company", "failures"], ["bits"], ["company"]])
def test_a_dry_trial_measures_into_its_own_folder(words: list[str], tmp_path: Path) -> None:
    before = (FOLDER / "README.md").read_bytes()
    command = [sys.executable, str(FOLDER / "gpu.py"), *words, "--dry", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert json.loads((tmp_path / f"gpu_{words[0]}.json").read_text())["rows"]
    assert (FOLDER / "README.md").read_bytes() == before
