"""How to train, as a value; the presets are in recipes.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import Field

from resnetlab.config.strict import UsageError, _Strict, did_you_mean

_Step = Annotated[int, Field(ge=1)]
_Side = Annotated[int, Field(ge=8)]
_FROM_JSON = Field(strict=False)  # which has lists, and no tuples


class Recipe(_Strict):
    """How to train. Errors are in percent.

    Every field is the paper's (Sec. 4.2) unless a preset says otherwise; `*_every` only decide what
    is measured and kept, not what is trained. One deviation: batch norm sees the whole batch, where
    the paper's two GPUs each saw half of it; `ghost_batch` 64 gives it that.

    Rate: divided by 1/`decay` at `milestones`, or, with `plateau_patience`, when that many tests in a
    row have not brought the followed error (the held-out part's, else the test set's) below its best
    by `plateau_margin` points, at most `plateau_drops` times. With `warmup_lr` that rate holds until
    the training error over the last `warmup_window` steps is below `warmup_error`, or for the fixed
    number of `warmup_steps`; then `lr`, and the schedule as before.

    Gradients: with `clip`, which the paper does not have, those of a step are scaled down until the L2
    norm of all of them together is at most that.

    Images: small ones are padded by `pad` and cropped to their size. With `crop` the shorter side of a
    larger one is drawn from `scale` and a square of `crop` is cut out (Sec. 3.4). `mean` "pixel"
    subtracts the mean image, "channel" the three means, divided by the three deviations.
    """

    name: str = "paper"
    steps: Annotated[int, Field(ge=1)] = 64_000
    batch_size: Annotated[int, Field(ge=2)] = 128
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.9
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    milestones: Annotated[tuple[_Step, ...], _FROM_JSON] = (32_000, 48_000)
    decay: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.1
    pad: Annotated[int, Field(ge=0)] = 4
    flip: bool = True
    warmup_lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    warmup_error: Annotated[float, Field(gt=0, le=100)] = 80.0
    warmup_window: Annotated[int, Field(ge=1)] = 100
    warmup_steps: Annotated[int, Field(ge=1)] | None = None
    plateau_patience: Annotated[int, Field(ge=1)] | None = None
    plateau_margin: Annotated[float, Field(ge=0, le=100)] = 0.1
    plateau_drops: Annotated[int, Field(ge=1)] = 2
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    crop: _Side | None = None
    scale: Annotated[tuple[_Side, _Side] | None, _FROM_JSON] = None
    colour: Literal["none", "pca"] = "none"
    mean: Literal["pixel", "channel"] = "pixel"
    ghost_batch: Annotated[int, Field(ge=2)] | None = None
    decay_norm: bool = True
    recompute_norm: bool = False
    log_every: Annotated[int, Field(ge=1)] = 100
    test_every: Annotated[int, Field(ge=1)] = 500
    probe_every: Annotated[int, Field(ge=1)] = 500
    checkpoint_every: Annotated[int, Field(ge=1)] = 2_000

    def _usual(self) -> Mapping[str, Any]:
        later = list(type(self).model_fields)
        later = later[later.index("warmup_lr") : later.index("log_every")]
        return {name: type(self).model_fields[name].default for name in later}

    def _mistakes(self) -> Iterator[str]:
        milestones, crop, scale = self.milestones, self.crop, self.scale
        if list(milestones) != sorted(set(milestones)):
            yield f"recipe.milestones must increase, got {list(milestones)}"
        if milestones and self.plateau_patience is not None:
            yield "recipe: the rate falls at milestones or at plateaus, not by both rules"
        if self.warmup_steps is not None and self.warmup_lr is None:
            yield "recipe.warmup_steps needs warmup_lr, the rate until then"
        if self.ghost_batch is not None and self.batch_size % self.ghost_batch:
            yield f"recipe.ghost_batch {self.ghost_batch} does not divide batch_size {self.batch_size}"
        if (crop is None) != (scale is None):
            yield "recipe.crop and recipe.scale belong together: [shortest, longest] side"
        if crop is not None and scale is not None and not crop <= scale[0] <= scale[1]:
            yield f"recipe.scale {list(scale)} must increase from crop {crop} or more"
        if crop is not None and self.pad:
            yield "recipe.pad is for small images; with crop it must be 0"
        if crop is None and self.colour != "none":
            yield "recipe.colour pca is part of the large-image recipes (crop, scale)"

    @property
    def choice(self) -> Choice | None:
        """What was looked at in choosing the preset of its name; None if nothing was."""
        return CHOICES.get(self.name)

    @property
    def follows_held_out(self) -> bool:
        """Whether its rate falls by the error on held-out training images.

        `imagenet` alone follows the images that are tested on: the paper divides its rate "when the
        error plateaus" (Sec. 3.4) and draws that of its validation set (Figure 4).
        """
        return self.plateau_patience is not None and self.name != "imagenet"

    def at_resolution(self, crop: int) -> Recipe:
        """The same recipe with smaller or larger images: crop and scale keep their proportion."""
        if self.crop is None or self.scale is None:
            raise UsageError(f"recipe {self.name!r} does not crop: its images keep their size")
        low, high = (round(side * crop / self.crop) for side in self.scale)
        return Recipe.parse(self.model_dump() | {"crop": crop, "scale": (low, high)})

    def shrink(self, steps: int, name: str | None = None) -> Recipe:
        """The same recipe over `steps` steps: milestones keep their place in the schedule."""
        ratio = steps / self.steps
        milestones = sorted({max(1, round(m * ratio)) for m in self.milestones})
        changes = {"steps": steps, "milestones": tuple(milestones), "name": name or self.name}
        return Recipe.parse(self.model_dump() | changes)

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some fields changed, validated, None = unchanged.

        A changed `steps` alone moves the milestones along, a changed `crop` alone the scale.
        """
        unknown = [key for key in changes if key not in type(self).model_fields]
        if unknown:
            hint = did_you_mean(unknown[0], type(self).model_fields)
            raise UsageError(f"unknown recipe parameter {unknown[0]!r}{hint}")
        changes = {key: value for key, value in changes.items() if value is not None}
        base = self
        crop = changes.get("crop")
        if type(crop) is int and crop >= 8 and base.crop not in (None, crop) and "scale" not in changes:
            base = base.at_resolution(crop)
        steps = changes.get("steps")
        if type(steps) is int and steps >= 1 and steps != self.steps and "milestones" not in changes:
            base = base.shrink(steps)
        return Recipe.parse(base.model_dump() | changes)

    def changes(self) -> dict[str, Any]:
        """The fields that `replace` must be given to make this recipe of the preset of its name.

        Milestones move along with the steps, and the scale with the crop.
        """
        preset = recipe_named(self.name)
        moved = preset.replace(steps=self.steps, crop=self.crop if preset.crop else None)
        return {
            name: value
            for name, value in self
            if value != getattr(preset if name in ("steps", "crop") else moved, name)
        }

    @property
    def label(self) -> str:
        """The preset's name, with what was changed in it: `short`, `short (steps 600)`."""
        preset = RECIPES.get(self.name)
        if preset is None:
            return self.name
        # log_every decides over how many images a row's training error is taken; the others only when
        # something is measured or kept.
        silent = ("test_every", "probe_every", "checkpoint_every")
        parts = [
            f"{name} {list(value) if isinstance(value, tuple) else value}"
            for name, value in self.changes().items()
            if name not in silent and value != getattr(preset, name)
        ]
        return f"{self.name} ({', '.join(parts)})" if parts else self.name


class Choice(_Strict):
    """The outcome by which a preset was chosen: of which data set and seeds (none: not noted)."""

    data: str
    words: str
    seeds: Annotated[tuple[int, ...], _FROM_JSON] = ()

    def __str__(self) -> str:
        seeds = f", seed {' and '.join(map(str, self.seeds))}" if self.seeds else ""
        return f"chosen by looking at outcomes on {self.data}{seeds}: {self.words}"


_TABLES = tomllib.loads((files("resnetlab") / "config/recipes.toml").read_text("utf-8"))
CHOICES = {
    name: Choice.parse(table.pop("choice")) for name, table in _TABLES.items() if "choice" in table
}
RECIPES = {name: Recipe.parse({"name": name} | table) for name, table in _TABLES.items()}
PAPER, PAPER_110, PAPER_400 = RECIPES["paper"], RECIPES["paper-110"], RECIPES["paper-400"]
SHORT, IMAGENET_RECIPE = RECIPES["short"], RECIPES["imagenet"]


def without_warmup(label: str) -> str:
    """The label of a recipe without its warm-up: paper-110 is the paper's, as 110 layers were given it.

    Runs of both stand in one Figure 6 and one Table 6.
    """
    return re.sub(rf"^{PAPER_110.name}\b", PAPER.name, label)


def recipe_named(name: str) -> Recipe:
    """The preset of that name. Raises UsageError with the nearest known one."""
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}{did_you_mean(name, RECIPES)}")
    return RECIPES[name]


def default_recipe(data: str) -> Recipe:
    """`paper-400` for the digits, the ImageNet ones for larger images, `short` for all others."""
    small = {
        "digits": PAPER_400.name,
        "digits-large": "imagenet-small",
        "tiny-imagenet": "imagenet-tiny",
    }
    kind = data.partition(":")[0]
    return RECIPES[small.get(kind, kind if data.startswith("imagenet:") else SHORT.name)]
