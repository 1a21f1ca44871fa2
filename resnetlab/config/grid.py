"""A grid of runs: every depth with every shortcut option and seed, on one recipe; the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from resnetlab.config.data import images_named
from resnetlab.config.network import Network
from resnetlab.config.recipe import IMAGENET_SMALL, IMAGENET_TINY, PAPER_110
from resnetlab.config.run import Run, run_from_parameters
from resnetlab.config.strict import UsageError, did_you_mean


@dataclass(frozen=True)
class Grid:
    """The runs of a study: every depth with every shortcut option and seed, on one recipe.

    `also` names further networks, `edited` describes those that take more than a name (surgery, a
    recipe or a seed of their own): flat parameters of `run_from_parameters`. `question` is the
    notebook that looks at the whole.
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
    validation: int = 0
    overrides: Mapping[str, Any] = field(default_factory=dict)  # recipe fields, None = unchanged
    question: str = "01_degradation.ipynb"

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

# What several presets share.
_LARGE: dict[str, Any] = {"depths": (18, 34), "question": "06_imagenet.ipynb"}
_TINY: dict[str, Any] = {"data": "tiny-imagenet", "recipe": IMAGENET_TINY.name, **_LARGE}
_EIGHTH: dict[str, Any] = {"data": "cifar10", "recipe": "paper-8k", "seeds": (1, 2, 3)}
_WARMED = {"network": "resnet-110", "recipe": PAPER_110.name}  # Sec. 4.2: a warm-up
_FURTHER = [{"depth": depth, "shortcut": "A", "seed": seed} for seed in (4, 5) for depth in (44, 20, 8)]
GRIDS: dict[str, Grid] = {
    grid.name: grid
    for grid in (
        Grid("digits"),
        Grid("short", data="cifar10", recipe="short", depths=(20, 56)),
        Grid("figure-6", data="cifar10", recipe="paper", edited=(_WARMED,)),
        # The paper's two halves in an eighth of its steps. Residual networks, whose gain with depth
        # is small in the paper too, have two seeds more. 8 layers give the curves their left end.
        Grid("depth-real", **_EIGHTH, depths=(8, 20, 44), edited=tuple(_FURTHER)),
        Grid(
            "depth-real-clip", **_EIGHTH, depths=(20, 44), shortcuts=("none",), overrides={"clip": 1.0}
        ),
        Grid("imagenet-tiny", **_TINY, seeds=(1, 2, 3), overrides={"clip": 1.0}),
        Grid("imagenet-tiny-unclipped", **_TINY, shortcuts=("none",), seeds=(1,)),
        Grid(
            "shortcuts",
            depths=(56,),
            shortcuts=("none", "A", "B", "C"),
            seeds=(0, 1, 2),
            question="05_shortcut_options.ipynb",
        ),
        Grid("imagenet", data="digits-large", also=("resnet-50",), **_LARGE),
    )
}


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
            recipe = IMAGENET_SMALL.name  # a folder's default is for small images
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
