"""How a run or a study is made again: the command, from its configuration and where it ran."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from resnetlab.config.grid import GRIDS, grid_named
from resnetlab.config.recipe import Recipe, default_recipe
from resnetlab.config.run import Run, parameters_of
from resnetlab.config.strict import UsageError

# Recipe fields that `resnetlab train` and `resnetlab study` have an option for. The notebook has a
# parameter for all others but `decay`.
OPTIONS = ("steps", "lr", "batch_size", "clip", "crop")
NO_COMMAND = "no command: "


def of_run(run: Run, execution: object = None) -> str:
    """The command that makes this run again: `resnetlab train`, or papermill where that is not enough.

    `execution` is where it ran, as run.json has it: device, threads, engine and the number of
    processes. What no command expresses gives a sentence that begins with NO_COMMAND.
    """
    place = execution if isinstance(execution, Mapping) else {}
    processes = place.get("ranks") or 1
    changed = {"decay"}
    with contextlib.suppress(UsageError):
        values = parameters_of(run)
        changed = values.keys() & Recipe.model_fields.keys()
    if "decay" in changed:
        return f"{NO_COMMAND}its recipe differs in fields that only the library sets (resnetlab.fit)"
    if "start_from" in values:
        values["start_from"] = "{study}/{run}".format_map(values["start_from"])
    if place.get("device") == "cpu":
        told = {name: place.get(name) for name in ("device", "threads", "engine")}
        values |= {name: value for name, value in told.items() if value is not None}
    if changed <= set(OPTIONS):
        program = ["resnetlab", "train", values.pop("network")]
        if processes > 1:
            program = ["torchrun", "--nproc-per-node", str(processes), "-m", *program]
        return shlex.join([*program, *_options(values)])
    if processes > 1:
        return (
            f"{NO_COMMAND}its recipe needs the notebook, which does not train in {processes} processes"
        )
    words = ["papermill", "notebooks/train.ipynb", "out.ipynb"]
    for name, value in values.items():
        listed = isinstance(value, list)  # -p takes no list
        words += ["-y", f"{name}: {value}"] if listed else ["-p", name, str(value)]
    return shlex.join(words)


def of_study(folder: str, runs: Mapping[str, Run]) -> str | None:
    """The `resnetlab study` command that makes exactly these runs, names and all; None if none does."""
    nearest = sorted(
        GRIDS, key=lambda preset: (-len(preset) * folder.startswith(preset), preset != "digits")
    )
    for preset in nearest:
        with contextlib.suppress(UsageError):  # no preset of the recipe, no such folder of images
            for wishes in _wishes(preset, list(runs.values())):
                if _makes(preset, wishes, runs):
                    usual = grid_named(preset, **wishes).name
                    options = (
                        wishes | wishes["overrides"] | ({"name": folder} if folder != usual else {})
                    )
                    del options["overrides"]
                    return shlex.join(["resnetlab", "study", preset, *_options(options)])
    return None


def _makes(preset: str, wishes: Mapping[str, Any], runs: Mapping[str, Run]) -> bool:
    with contextlib.suppress(UsageError):
        return grid_named(preset, **wishes).runs() == runs
    return False


def _wishes(preset: str, runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """What to change in a preset grid for these runs: as much as may be, else only what all share."""
    asked = parameters_of(runs[0])
    base = GRIDS[preset]
    shared: dict[str, Any] = {what: asked[what] for what in ("data", "precision") if what in asked}
    usual = grid_named(preset, **shared)
    shared = {what: value for what, value in shared.items() if value != getattr(base, what)}
    shared["overrides"] = {
        what: asked[what]
        for what in OPTIONS
        if what in asked and asked[what] != base.overrides.get(what)
    }
    recipe = usual.recipe or default_recipe(usual.data).name
    grown = [run.network for run in runs if run.network.name not in base.also]
    also = {run.network.name for run in runs}
    wishes = {
        "recipe": usual.recipe if asked["recipe"] == recipe else asked["recipe"],
        "depths": tuple(sorted({network.depth for network in grown})),
        "shortcuts": tuple(sorted({network.shortcut for network in grown}, key="none A B C".index)),
        "also": tuple(name for name in base.also if name in also),
        "seeds": tuple(sorted({run.seed for run in runs})),
        "validation": asked.get("validation", 0),
    }
    yield shared | {what: value for what, value in wishes.items() if value != getattr(usual, what)}
    yield shared


def _options(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        yield f"--{name.replace('_', '-')}"
        yield ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
