"""How to train, as a value, and the presets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
        """The preset's name, with what was changed in it: `quick`, `quick (steps 600)`."""
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


PAPER = Recipe()
# The schedule's shape is the paper's; what changes is its length and how often it is measured.
SHORT = PAPER.shrink(3_200, "short").replace(
    log_every=20, test_every=400, probe_every=50, checkpoint_every=200
)
# An eighth of the paper's steps: where its own residual networks of 20 and 44 layers have crossed
# (Figure 6: between 3,000 and 4,000 steps) and both rates after the first have had their time.
PAPER_8K = PAPER.shrink(8_000, "paper-8k").replace(
    log_every=50, test_every=500, probe_every=50, checkpoint_every=200
)
# 8x8 digits: a mirrored 2 is not a 2, and with shifts of one pixel resnet-56 was still at 40 % training
# error after 300 steps. The rate drops late because 56 layers need most of these steps at 0.1.
QUICK = PAPER.shrink(400, "quick").replace(
    milestones=(350, 380),
    pad=0,
    flip=False,
    log_every=10,
    test_every=20,
    probe_every=10,
    checkpoint_every=100,
)
# Sec. 4.2, 110 layers: 0.1 is slightly too large to start converging.
PAPER_110 = PAPER.replace(name="paper-110", warmup_lr=0.01)
# Sec. 3.4. The paper drops the rate "when the error plateaus"; Figure 4 shows two drops. A test is an
# epoch of ImageNet, 5,005 steps, rounded; how many without progress make a plateau is our choice.
IMAGENET_RECIPE = Recipe(
    name="imagenet",
    steps=600_000,
    batch_size=256,
    milestones=(),
    plateau_patience=5,
    pad=0,
    crop=224,
    scale=(256, 480),
    colour="pca",
    test_every=5_000,
    probe_every=5_000,
    checkpoint_every=5_000,
)
# The same for Tiny ImageNet's 64x64 photographs on two cores: 56 of 64 to 120 pixels are the paper's
# 224 of 256 to 480. Ten epochs: the rate falls at fixed steps, so that no rule looks at the test set,
# and the colours stay, since so short a training overfits little.
IMAGENET_TINY = Recipe(
    name="imagenet-tiny",
    steps=4_000,
    milestones=(2_000, 3_000),
    pad=0,
    crop=56,
    scale=(64, 120),
    log_every=50,
    test_every=400,
    probe_every=50,
    checkpoint_every=100,
)
# The same in small, for folders of small pictures on two cores: minutes instead of weeks. Digits and
# the like: a mirrored 2 is not a 2, and a crop of a small picture sees less of it.
IMAGENET_SMALL = IMAGENET_RECIPE.at_resolution(32).replace(
    name="imagenet-small",
    steps=400,
    batch_size=64,
    flip=False,
    log_every=10,
    test_every=25,
    probe_every=25,
    checkpoint_every=200,
)
_PRESETS = (PAPER, PAPER_110, PAPER_8K, SHORT, QUICK, IMAGENET_RECIPE, IMAGENET_TINY, IMAGENET_SMALL)
RECIPES: dict[str, Recipe] = {preset.name: preset for preset in _PRESETS}


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
    """`quick` for the digits, the ImageNet ones for larger images, `short` for every other data set."""
    kinds = {"digits": QUICK, "digits-large": IMAGENET_SMALL, "tiny-imagenet": IMAGENET_TINY}
    return kinds.get(data.partition(":")[0], IMAGENET_RECIPE if data.startswith("imagenet:") else SHORT)
