"""A grid of runs: every depth with every shortcut option and seed, on one recipe; the presets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from resnetlab.config.data import images_named
from resnetlab.config.network import Network
from resnetlab.config.recipe import IMAGENET_SMALL, IMAGENET_TINY, PAPER_110
from resnetlab.config.run import run_from_parameters
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

    def parameters(self) -> dict[str, dict[str, Any]]:
        """Run name -> the parameters of its notebook, in the order in which they start.

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
        out: dict[str, dict[str, Any]] = {}
        common = {
            "data": self.data,
            "validation": self.validation,
            "recipe": self.recipe,
            "precision": self.precision,
        }
        common |= {key: v for key, v in self.overrides.items() if v is not None}
        for own in asked:
            values = common | own
            run = run_from_parameters(**values)
            if run.name_in_study in out:
                raise UsageError(f"{run.network_name} is asked for twice")
            out[run.name_in_study] = values
        return out

    def networks(self) -> list[Network]:
        """The networks of the grid, each once."""
        runs = (run_from_parameters(**values) for values in self.parameters().values())
        return list(dict.fromkeys(run.network for run in runs))

    def question_parameters(self) -> dict[str, Any]:
        """The parameters with which the question notebook finds exactly these runs."""
        first = run_from_parameters(**next(iter(self.parameters().values())))
        if self.question == Grid.question:  # it looks at any study, by labels
            labels = {"data": first.data.label, "recipe": first.recipe.label}
            return {"study": self.name, "precision": first.precision} | labels
        return {
            "study": self.name,
            "data": self.data,
            "depths": list(self.depths),
            "shortcuts": list(self.shortcuts),
            "also": list(self.also),
            "seeds": list(self.seeds),
            "recipe": self.recipe,
            "precision": self.precision,
            "validation": self.validation,
            "overrides": {key: v for key, v in self.overrides.items() if v is not None},
        }


GRIDS: dict[str, Grid] = {
    "digits": Grid("digits"),
    "short": Grid("short", data="cifar10", recipe="short", depths=(20, 56)),
    "figure-6": Grid(
        "figure-6",
        data="cifar10",
        recipe="paper",
        edited=({"network": "resnet-110", "recipe": PAPER_110.name},),  # Sec. 4.2: a warm-up
    ),
    # The paper's two halves in an eighth of its steps. Residual networks, whose gain with depth is
    # small in the paper too, have two seeds more. 8 layers give the curves their left end.
    "depth-real": Grid(
        "depth-real",
        data="cifar10",
        recipe="paper-8k",
        depths=(8, 20, 44),
        seeds=(1, 2, 3),
        edited=tuple(
            {"depth": depth, "shortcut": "A", "seed": seed} for seed in (4, 5) for depth in (44, 20, 8)
        ),
    ),
    "depth-real-clip": Grid(
        "depth-real-clip",
        data="cifar10",
        recipe="paper-8k",
        depths=(20, 44),
        shortcuts=("none",),
        seeds=(1, 2, 3),
        overrides={"clip": 1.0},
    ),
    "imagenet-tiny": Grid(
        "imagenet-tiny",
        data="tiny-imagenet",
        recipe=IMAGENET_TINY.name,
        depths=(18, 34),
        seeds=(1, 2, 3),
        overrides={"clip": 1.0},
        question="06_imagenet.ipynb",
    ),
    "imagenet-tiny-unclipped": Grid(
        "imagenet-tiny-unclipped",
        data="tiny-imagenet",
        recipe=IMAGENET_TINY.name,
        depths=(18, 34),
        shortcuts=("none",),
        seeds=(1,),
        question="06_imagenet.ipynb",
    ),
    "shortcuts": Grid(
        "shortcuts",
        depths=(56,),
        shortcuts=("none", "A", "B", "C"),
        seeds=(0, 1, 2),
        question="05_shortcut_options.ipynb",
    ),
    "imagenet": Grid(
        "imagenet",
        data="digits-large",
        depths=(18, 34),
        also=("resnet-50",),
        question="06_imagenet.ipynb",
    ),
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
        label = re.sub(r"[^A-Za-z0-9._-]", "_", images_named(data).label)
        recipe = grid.recipe
        if grid is GRIDS["imagenet"] and data.startswith("folder:"):
            recipe = IMAGENET_SMALL.name  # a folder's default is for small images
        grid = replace(grid, name=f"{name}-{label}", data=data, recipe=recipe)
    precision = changes.get("precision")
    if precision not in (None, "fp32"):
        grid = replace(grid, name=f"{grid.name}-{precision}")
    if name_of_folder is not None:
        grid = replace(grid, name=name_of_folder)
    # What is asked for goes for all: no network keeps a recipe or a seed of its own beside it.
    edited = grid.edited
    if changes.get("recipe") is not None:
        edited = tuple({k: v for k, v in values.items() if k != "recipe"} for values in edited)
    if any(changes.get(what) is not None for what in ("depths", "shortcuts", "seeds")):
        edited = tuple(values for values in edited if "seed" not in values)
    asked = {key: value for key, value in changes.get("overrides", {}).items() if value is not None}
    changes |= {"overrides": {**grid.overrides, **asked}}
    grid = replace(grid, edited=edited)
    return replace(grid, **{key: value for key, value in changes.items() if value is not None})
