"""A grid of runs: every depth with every shortcut option and seed, on one recipe."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from resnetlab.config.data import images_named
from resnetlab.config.network import Network
from resnetlab.config.run import Run, run_from_parameters
from resnetlab.config.strict import UsageError, did_you_mean


@dataclass(frozen=True)
class Grid:
    """The runs of a study: every depth with every shortcut option and seed, on one recipe.

    `also` names further networks, `edited` describes those that take more than a name (surgery, a
    recipe or a seed of their own): flat parameters of `run_from_parameters`. `question` is the
    notebook that looks at the whole. `announced`: its seeds were written down before the first run
    (results/reference/README.md), and nothing is concluded before all of them have ended.
    """

    name: str
    data: str = "digits"
    recipe: str = ""  # "" is the data set's default
    depths: tuple[int, ...] = (20, 32, 44, 56)
    shortcuts: tuple[str, ...] = ("none", "A")
    also: tuple[str, ...] = ()
    edited: tuple[Mapping[str, Any], ...] = ()
    seeds: tuple[int, ...] = (0,)
    precision: str = "fp32"
    validation: float = 0
    overrides: Mapping[str, Any] = field(default_factory=dict)  # recipe fields, None = unchanged
    question: str = "01_degradation.ipynb"
    announced: bool = False

    def runs(self) -> dict[str, Run]:
        """Run name -> the run, in the order in which they start.

        Raises UsageError for anything that is no valid run, for an empty grid and for repetitions.
        """
        needed = {"seeds"} if self.also or self.edited else {"depths", "shortcuts", "seeds"}
        for what in ("depths", "shortcuts", "seeds", "also"):
            values = getattr(self, what)
            if (not values and what in needed) or len(set(values)) != len(values):
                raise UsageError(f"{what} must name each value once, got {list(values)}")
        networks: list[dict[str, Any]] = [{"network": name} for name in self.also]
        # Deep networks take longest: started first, no core waits for one at the end.
        for depth in sorted(self.depths, reverse=True):
            networks += [{"depth": depth, "shortcut": shortcut} for shortcut in self.shortcuts]
        networks += [dict(values) for values in self.edited if "seed" not in values]
        # Seed by seed: whatever has ended when a study is stopped can be compared.
        asked = [network | {"seed": seed} for seed in self.seeds for network in networks]
        asked += [dict(values) for values in self.edited if "seed" in values]
        common = {name: getattr(self, name) for name in _COMMON} | dict(self.overrides)
        runs: dict[str, Run] = {}
        for values in asked:
            run = run_from_parameters(**(common | values))
            if run.name_in_study in runs:
                raise UsageError(f"{run.network_name} is asked for twice")
            runs[run.name_in_study] = run
        return runs

    def networks(self) -> list[Network]:
        """The networks of the grid, each once."""
        return list(dict.fromkeys(run.network for run in self.runs().values()))

    def question_parameters(self) -> dict[str, Any]:
        """The parameters with which the question notebook finds exactly these runs."""
        first = next(iter(self.runs().values()))
        if self.question == Grid.question:  # it looks at any study, by labels
            labels = {"data": first.data.label, "recipe": first.recipe.label}
            return {"study": self.name, "precision": first.precision} | labels
        lists = {what: list(getattr(self, what)) for what in ("depths", "shortcuts", "also", "seeds")}
        overrides = {key: value for key, value in self.overrides.items() if value is not None}
        common = {name: getattr(self, name) for name in _COMMON}
        return {"study": self.name} | common | lists | {"overrides": overrides}


_COMMON = ("data", "recipe", "precision", "validation")  # to all runs of a grid


def _presets() -> dict[str, Grid]:
    tables = tomllib.loads((files("resnetlab") / "config/grids.toml").read_text("utf-8"))
    lists = {name for name, usual in vars(Grid).items() if isinstance(usual, tuple)}
    grids = {}
    for name, table in tables.items():
        fields: dict[str, Any] = {key: tuple(v) if key in lists else v for key, v in table.items()}
        grids[name] = Grid(name, **fields)
    return grids


GRIDS: dict[str, Grid] = _presets()


@cache
def announced(study: str, *networks: str) -> int:
    """How many seeds were announced of all these networks of a study; 0 where none were."""
    grid = GRIDS.get(study)
    if grid is None or not grid.announced:
        return 0
    runs = grid.runs().values()
    seeds = ({run.seed for run in runs if run.network_name == network} for network in networks)
    return len(set.intersection(*seeds))


def grid_named(
    name: str, *, data: str | None = None, name_of_folder: str | None = None, **changes: Any
) -> Grid:
    """The preset grid of that name with some fields changed (None = unchanged).

    On another data set than its own its folder is NAME-DATA, in another precision NAME-PRECISION,
    unless `name_of_folder` says otherwise: no folder says one thing and holds another, and what is
    averaged over a folder belongs together. Raises UsageError for an unknown name.
    """
    if name not in GRIDS:
        raise UsageError(f"unknown study {name!r}{did_you_mean(name, GRIDS)}")
    grid = GRIDS[name]
    if data is not None and data != grid.data:
        recipe = grid.recipe
        if grid is GRIDS["imagenet"] and data.startswith("folder:"):
            recipe = "imagenet-small"  # a folder's default is for small images
        grid = replace(grid, name=f"{name}-{images_named(data).slug}", data=data, recipe=recipe)
    precision = changes.get("precision")
    if precision not in (None, "fp32"):
        grid = replace(grid, name=f"{grid.name}-{precision}")
    if name_of_folder is not None:
        grid = replace(grid, name=name_of_folder)
    # What is asked for goes for all: no network keeps a recipe or a seed of its own beside it.
    changes = {key: value for key, value in changes.items() if value is not None}
    edited = grid.edited
    if "recipe" in changes:
        edited = tuple({k: v for k, v in values.items() if k != "recipe"} for values in edited)
    if changes.keys() & {"depths", "shortcuts", "seeds"}:
        edited = tuple(values for values in edited if "seed" not in values)
    asked = {key: value for key, value in changes.get("overrides", {}).items() if value is not None}
    changes["overrides"] = {**grid.overrides, **asked}
    return replace(grid, edited=edited, **changes)
