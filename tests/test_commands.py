"""How runs and studies are made again: the commands printed are read by the programs they name."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import papermill
import papermill.cli
import pytest
from click.testing import CliRunner

from resnetlab import config, store, studies, training
from resnetlab.config import UsageError, commands
from resnetlab.config.recipe import Recipe
from resnetlab.studies import notebook

REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference"
STUDIES = sorted(path.name for path in store.find_studies(REFERENCE))
Call = Callable[..., tuple[int, str, str]]
Read = Callable[[str], Any]


class AskedError(RuntimeError):
    """Ends a command where it would begin to train."""


@pytest.fixture
def read(resnetlab: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """What a command asks for, by its own parser: a run, or the grid of a study. Nothing is trained."""
    asked: list[Any] = []

    def take(value: Any, *rest: Any, **how: Any) -> None:
        asked.append(value)
        raise AskedError("that is all")

    def weights_named(name: str, root: Path | None = None) -> dict[str, str]:
        record = store.find_run(name, REFERENCE)
        sha256 = (record.summary or {})["weights_sha256"]
        names = {"study": record.study, "run": record.name, "network": record.network.name}
        return names | {"sha256": sha256}

    def papermilled(*paths: str, parameters: Mapping[str, Any], **how: Any) -> None:
        values = dict(parameters)
        assert set(values) <= set(papermill.inspect_notebook(str(notebook.find("train"))))
        for name in ("device", "threads", "engine"):
            values.pop(name, None)
        if "start_from" in values:
            values["start_from"] = weights_named(values["start_from"])
        asked.append(config.run_from_parameters(**values))

    monkeypatch.setattr(training, "fit", take)
    monkeypatch.setattr(studies, "run", take)
    monkeypatch.setattr(store, "weights_named", weights_named)
    monkeypatch.setattr(papermill.cli, "execute_notebook", papermilled)

    def call(command: str) -> Any:
        asked.clear()
        program, *words = shlex.split(command)
        if program == "torchrun":
            words = words[words.index("-m") + 1 :]
            program, *words = words
        if program == "papermill":
            done = CliRunner().invoke(papermill.cli.papermill, words)
            assert done.exit_code == 0, done.output
        else:
            assert program == "resnetlab"
            code, _, error = resnetlab(*words, "--results", tmp_path / "results")
            assert "that is all" in error, (code, error)
        return asked[0]

    return call


# --- flat parameters and back -----------------------------------------------------------------


def all_runs() -> dict[str, config.Run]:
    """Every run of every preset, and every committed one."""
    runs = {f"{name}/{run}": r for name, grid in config.GRIDS.items() for run, r in grid.runs().items()}
    for name in STUDIES:
        study = store.read_study(REFERENCE / name)
        runs |= {f"reference/{name}/{record.name}": record.config for record in study.runs}
    return runs


def test_flat_parameters_lead_back_to_the_run() -> None:
    known = set(papermill.inspect_notebook(str(notebook.find("train"))))
    runs = all_runs()
    assert len(runs) > 150
    for name, run in runs.items():
        values = config.parameters_of(run)
        assert config.run_from_parameters(**values) == run, name
        assert set(values) <= known


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 40, "milestones": [3, 9]},
        {"steps": 40, "milestones": []},
        {"recipe": "paper-110", "warmup_steps": 7, "flip": False},
        {"recipe": "imagenet-small", "data": "digits-large", "network": "resnet-50-3x3", "crop": 48},
        {"recipe": "imagenet-tiny", "data": "folder:/a b", "network": "plain-18", "scale": [60, 70]},
        {"validation": 100, "precision": "fp64", "decay": 0.5, "seed": 3},
        {"network": "resnet-8", "shortcut_scale": 0.5},
        {"start_from": {"study": "s", "run": "r", "network": "plain-8", "sha256": "0" * 64}},
    ],
)
def test_changed_fields_are_parameters_and_what_moves_along_is_not(changes: dict[str, Any]) -> None:
    run = config.run_from_parameters(**{"network": "plain-20"} | changes)
    values = config.parameters_of(run)
    assert config.run_from_parameters(**values) == run
    assert values.keys() <= {"network", "data", "recipe", "seed", *changes}


def test_a_recipe_that_parameters_cannot_say_is_refused() -> None:
    run = config.run_from_parameters(network="plain-8")
    for changes in ({"name": "mine"}, {"name": "paper-110", "warmup_lr": None}):
        recipe = Recipe.parse(run.recipe.model_dump() | changes)
        other = config.Run.parse(run.model_dump() | {"recipe": recipe})
        with pytest.raises(UsageError, match=r"unknown recipe|a field is empty"):
            config.parameters_of(other)
        assert commands.of_run(other).startswith(commands.NO_COMMAND)


# --- one run ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", config.GRIDS)
def test_the_command_of_each_run_of_a_preset_makes_that_run(name: str, read: Read) -> None:
    for run in config.GRIDS[name].runs().values():
        assert read(commands.of_run(run)) == run


@pytest.mark.parametrize("name", STUDIES)
def test_the_command_of_each_committed_run_makes_that_run(name: str, read: Read) -> None:
    for record in store.read_study(REFERENCE / name).runs:
        assert read(commands.of_run(record.config, record.info["execution"])) == record.config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lr": 0.2}, "resnetlab train plain-8 --data digits --recipe paper-400 --seed 0 --lr 0.2"),
        ({"pad": 2, "flip": True}, "papermill notebooks/train.ipynb out.ipynb -p network plain-8"),
        ({"milestones": [3]}, "papermill notebooks/train.ipynb out.ipynb -p network plain-8"),
        ({"ghost_batch": 64, "decay_norm": False}, "papermill notebooks/train.ipynb out.ipynb -p"),
        ({"decay": 0.5}, "no command"),
    ],
)
def test_a_command_says_what_it_takes(changes: dict[str, Any], words: str, read: Read) -> None:
    run = config.run_from_parameters(network="plain-8", **changes)
    command = commands.of_run(run)
    assert command.startswith(words)
    assert ("-p pad 2 -p flip True" in command) == ("pad" in changes)
    if "decay" not in changes:
        assert read(command) == run


def test_where_a_run_was_trained_is_part_of_its_command(read: Read) -> None:
    run = config.run_from_parameters(network="plain-8")
    here = {"device": "cpu", "threads": 1, "engine": "eager", "ranks": 1}
    assert commands.of_run(run, here).endswith("--device cpu --threads 1 --engine eager")
    several = commands.of_run(run, here | {"ranks": 2})
    assert several.startswith("torchrun --nproc-per-node 2 -m resnetlab train plain-8 ")
    assert read(several) == run
    padded = config.run_from_parameters(network="plain-8", pad=2)
    assert "2 processes" in commands.of_run(padded, {"ranks": 2})


# --- a study ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {}) for name in config.GRIDS),
        ("digits", {"depths": (8, 14), "seeds": (0, 2)}),
        ("digits", {"depths": (8,), "shortcuts": ("A",), "overrides": {"steps": 40, "lr": 0.05}}),
        ("digits", {"depths": (8, 14), "name_of_folder": "mine", "precision": "fp64"}),
        ("digits", {"depths": (8, 20), "recipe": "short", "validation": 100}),
        ("digits", {"depths": (8,), "data": "cifar10", "overrides": {"batch_size": 64}}),
        ("shortcuts", {"depths": (8,), "seeds": (1,)}),
        ("digits", {"depths": (8,), "overrides": {"steps": 40, "clip": 0.5}}),
        ("depth-real-clip", {"overrides": {"steps": 40}}),
        ("depth-real", {"overrides": {"steps": 40}}),  # residual networks have seeds more
        ("imagenet", {"depths": (18,), "also": ("resnet-50",), "overrides": {"steps": 40}}),
        ("imagenet", {"depths": (18, 34), "also": (), "data": "folder:/some where/photos"}),
    ],
)
def test_the_command_of_a_study_makes_the_same_runs(
    name: str, changes: dict[str, Any], read: Read
) -> None:
    asked = config.grid_named(name, **changes)
    command = commands.of_study(asked.name, asked.runs())
    assert command is not None
    grid = read(command)
    assert (grid.name, grid.runs()) == (asked.name, asked.runs())


def test_a_committed_study_is_made_again_whole_or_not_at_all(read: Read) -> None:
    found = 0
    for name in STUDIES:
        runs = {record.name: record.config for record in store.read_study(REFERENCE / name).runs}
        command = commands.of_study(name, runs)
        if command is not None:
            found += 1
            assert read(command).runs() == runs
    assert found >= 2


def test_runs_that_are_no_grid_have_no_command_together() -> None:
    runs = [config.run_from_parameters(network=network) for network in ("plain-8", "resnet-14")]
    assert commands.of_study("s", {run.name_in_study: run for run in runs}) is None
