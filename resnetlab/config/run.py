"""The configuration of a run: Network, Data, Recipe, Surgery and Run, strict and frozen; presets.

A `Run` is one value tree. It round-trips through JSON, refuses unknown keys by name, and says
everything that decides a result. Where it ran (device, threads) is recorded beside it, not in it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

Shortcut = Literal["none", "A", "B", "C"]
Design = Literal["cifar", "imagenet"]
Block = Literal["basic", "bottleneck", "single"]
StrideIn = Literal["1x1", "3x3"]
Zeros = Literal["split", "end"]
Precision = Literal["fp32", "fp64", "tf32", "bf16"]

SHORTCUTS: tuple[Shortcut, ...] = get_args(Shortcut)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class UsageError(ValueError):
    """The caller asked for something that cannot be; the message says what, where and what to do."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'depth'?"` for the nearest known name, or the list of all of them."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def _usual(self) -> Mapping[str, Any]:
        """Fields that are not written when they have this value."""
        return {}

    @model_serializer(mode="wrap")
    def _leave_out_usual(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Choices that came later stay unwritten at their usual value: older runs keep their hash."""
        usual = self._usual()
        written: dict[str, Any] = write(self)
        return {k: v for k, v in written.items() if k not in usual or getattr(self, k) != usual[k]}

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values (JSON, notebook parameters).

        Raises UsageError naming the field, the value and, for an unknown key, the nearest known one.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UsageError(_explain(error, cls)) from None


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            owner = model
            for part in item["loc"][:-1]:
                kind: Any = owner.model_fields[str(part)].annotation
                owner = next(  # of `Surgery | None` the model
                    one for one in (*get_args(kind), kind) if one is not type(None)
                )
            hint = did_you_mean(str(item["loc"][-1]), owner.model_fields)
            lines.append(f"unknown parameter {where!r}{hint}")
        elif item["type"] == "value_error":
            lines.append(str(item["ctx"]["error"]))
        else:
            got = f"{item['input']!r} ({type(item['input']).__name__})"
            message = item["msg"][0].lower() + item["msg"][1:]
            lines.append(f"{where or model.__name__}: {message}, got {got}")
    return "\n".join(lines)


# Table 1: depth -> the kind of block and how many of them conv2_x, conv3_x, conv4_x, conv5_x have.
IMAGENET: dict[int, tuple[Block, tuple[int, int, int, int]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}


class Network(_Strict):
    """A network of the paper: `depth` weighted layers; `shortcut` "none" makes it plain.

    `design` is "imagenet" (Table 1: 18, 34, 50, 101, 152) or "cifar" (Sec. 4.2: 6n+2); a depth of
    Table 1 means the former unless "cifar" is said (50 and 152 are both). `block` is the design's:
    basic, bottleneck from 50 layers on; "single" is the one-layer block of Sec. 3.2. A bottleneck's
    first block of a stage strides in its first 1x1 (the paper) or, `stride_in="3x3"`, in its 3x3.
    Option A's new channels are zeros, half before and half after the old ones ("split") or all of
    them at the "end", as several published weights have it; the paper does not say (Sec. 3.3).
    Without a word `shortcut` is what the paper used for that network: B for bottlenecks, else A.
    """

    depth: int
    shortcut: Shortcut = "A"
    design: Design = "cifar"
    block: Block = "basic"
    stride_in: StrideIn = "1x1"
    zeros: Zeros = "split"

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or type(values.get("depth")) is not int:
            return values
        return _usual_network(values["depth"], values.get("design")) | dict(values)

    @model_validator(mode="after")
    def _exists(self) -> Self:
        basic = _usual_network(self.depth, self.design)["block"]
        if self.design == "imagenet":
            if self.depth not in IMAGENET:
                known = ", ".join(map(str, IMAGENET))
                raise ValueError(
                    f"depth {self.depth} is not in Table 1; ImageNet networks have {known}"
                )
        elif self.depth < 8 or self.depth % 6 != 2:
            raise ValueError(
                f"depth {self.depth} is not 6n+2 with n >= 1; {_nearest_depths(self.depth)}"
                f" (ImageNet networks have {', '.join(map(str, IMAGENET))})"
            )
        if self.block != basic and (self.block != "single" or basic == "bottleneck"):
            raise ValueError(
                f"{self.depth} layers of the {self.design} design have {basic} blocks, not {self.block}"
            )
        if self.block == "single" and self.shortcut == "none":
            raise ValueError(
                "a plain network has no blocks: single-layer blocks need shortcut A, B or C"
            )
        if self.stride_in == "3x3" and self.block != "bottleneck":
            raise ValueError(
                "stride_in 3x3 is a choice of bottleneck blocks, "
                f"{self.depth} layers have {self.block} ones"
            )
        if self.zeros == "end" and self.shortcut != "A":
            raise ValueError(
                f"zeros 'end' is a choice of shortcut option A, {self.name} has "
                f"{'no shortcuts' if self.shortcut == 'none' else f'option {self.shortcut}'}"
            )
        return self

    def _usual(self) -> Mapping[str, Any]:
        usual = _usual_network(self.depth)
        if self.design != usual["design"]:
            usual |= {"block": _usual_network(self.depth, self.design)["block"]}
        return {name: usual[name] for name in ("design", "block", "stride_in", "zeros")}

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks of each stage: n three times for 6n+2 layers, Table 1's numbers for ImageNet."""
        found = IMAGENET[self.depth][1] if self.design == "imagenet" else ((self.depth - 2) // 6,) * 3
        return tuple(2 * count for count in found) if self.block == "single" else found

    @property
    def native_size(self) -> int:
        """Height and width of the images that the paper fed it: 224 or 32."""
        return 224 if self.design == "imagenet" else 32

    @property
    def smallest_image(self) -> int:
        """Below this the last stage would have less than one pixel (ImageNet) or 2x2 (CIFAR)."""
        return 32 if self.design == "imagenet" else 8

    @property
    def name(self) -> str:
        """The field's name: plain-56, resnet-56 (A), resnet-34-C, resnet-50 (B), resnet-50-3x3.

        Only what is not the paper's choice for that depth is spelt out.
        """
        usual = _usual_network(self.depth, self.design)
        parts = ["cifar"] if self.design == "cifar" and self.depth in IMAGENET else []
        parts += ["plain" if self.shortcut == "none" else "resnet", str(self.depth)]
        parts += [self.shortcut] if self.shortcut not in ("none", usual["shortcut"]) else []
        parts += ["single"] if self.block == "single" else []
        parts += ["3x3"] if self.stride_in == "3x3" else []
        parts += ["zeros-end"] if self.zeros == "end" else []
        return "-".join(parts)

    @property
    def family(self) -> Literal["plain", "residual"]:
        return "plain" if self.shortcut == "none" else "residual"

    @classmethod
    def from_name(cls, name: str, **changes: Any) -> Network:
        """Parse `[cifar-]plain-N` or `[cifar-]resnet-N[-A|B|C][-single][-3x3][-zeros-end]`.

        `changes` are fields.

        Raises UsageError on any other name, and on a network that the paper does not have.
        """
        name = name if isinstance(name, str) else repr(name)
        pattern = r"(cifar-)?(plain|resnet)-(0|[1-9][0-9]{0,4})(?:-([ABC]))?"
        pattern += r"(-single)?(-3x3)?(-zeros-end)?"
        match = re.fullmatch(pattern, name)
        if match is None or (match[2] == "plain" and match[4]):
            examples = ["plain-20", "plain-34", "plain-56", "resnet-20", "resnet-34", "resnet-50"]
            examples += ["resnet-56", "resnet-56-B", "resnet-50-3x3"]
            near = difflib.get_close_matches(name, examples, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"unknown network {name!r}{hint} Names are plain-N, resnet-N (shortcut option A; B for "
                "50, 101 and 152), resnet-N-B and resnet-N-C, with N = 6n+2 (8, 14, 20, 32, 44, 56, "
                "110, ...) or 18, 34, 50, 101, 152; `resnetlab networks` lists the paper's"
            )
        cifar, kind, depth, option, single, stride, zeros = match.groups()
        values: dict[str, Any] = {"depth": int(depth)}
        values |= {"design": "cifar"} if cifar else {}
        values |= {"shortcut": option} if option else {}
        values |= {"shortcut": "none"} if kind == "plain" else {}
        values |= {"block": "single"} if single else {}
        values |= {"stride_in": "3x3"} if stride else {}
        values |= {"zeros": "end"} if zeros else {}
        return cls.parse(values | changes)


def _usual_network(depth: int, design: Any = None) -> dict[str, Any]:
    """The paper's choices for that depth: design, block, shortcut option and stride."""
    design = design or ("imagenet" if depth in IMAGENET else "cifar")
    block = IMAGENET[depth][0] if design == "imagenet" and depth in IMAGENET else "basic"
    shortcut = "B" if block == "bottleneck" else "A"
    usual = {"design": design, "block": block, "shortcut": shortcut}
    return usual | {"stride_in": "1x1", "zeros": "split"}


def _nearest_depths(depth: int) -> str:
    if depth <= 8:
        return "the smallest is 8"
    below = depth - (depth - 2) % 6
    return f"the nearest valid depths are {below} and {below + 6}"


DATA_SETS = ("digits", "cifar10", "cifar100", "digits-large", "tiny-imagenet")
FOLDERS = {  # KIND:PATH -> what has to lie there
    "folder": "train/ and test/",
    "imagenet": "train/ and val/",
    "tiny-imagenet": "train/, val/, wnids.txt and words.txt",
}
DATA_KINDS = (*DATA_SETS, *(f"{kind}:PATH" for kind in FOLDERS))
TINY_CLASSES = 200  # of Tiny ImageNet


class Data(_Strict):
    """Which images: one of DATA_SETS, or folder:PATH, imagenet:PATH, tiny-imagenet:PATH.

    digits-large are the digits as JPEG files of many sizes, made on first use: a stand-in for larger
    photographs. imagenet:PATH is torchvision's layout, train/WNID/*.JPEG and val/WNID/*.JPEG.
    tiny-imagenet is the download, tiny-imagenet:PATH an unpacked copy of it or of some of its classes;
    `classes` is how many a copy has, and so what its results are called.

    `validation` > 0 takes that many training images, by a seeded permutation, as the set whose error
    is followed during training (the paper chose its schedule on 45k/5k). The test images are then
    read once, after the last step. A `damaged` image file is an error, or, "skip", left out and
    counted (images read from files while training only).
    """

    name: str = "digits"
    validation: Annotated[int, Field(ge=0)] = 0
    damaged: Literal["error", "skip"] = "error"
    classes: Annotated[int, Field(ge=2, le=TINY_CLASSES)] | None = None

    def _usual(self) -> Mapping[str, Any]:
        return {"damaged": "error", "classes": None}

    @model_validator(mode="after")
    def _counted(self) -> Self:
        copied = self.name.startswith("tiny-imagenet:")
        if copied != (self.classes is not None):
            raise ValueError(
                "data.classes belongs to tiny-imagenet:PATH, which may hold some of the 200 classes"
                f" (`config.images_named` counts them), not to {self.name}"
                if not copied
                else f"data.classes is missing: how many classes does {self.name} have?"
            )
        return self

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        kind, colon, path = name.partition(":")
        if colon and kind in FOLDERS:
            if not path.strip():
                raise ValueError(f"data '{kind}:' needs a path: {kind}:PATH with {FOLDERS[kind]}")
            return name
        if name not in DATA_SETS:
            raise ValueError(f"unknown data set {name!r}{did_you_mean(name, DATA_KINDS)}")
        return name

    @property
    def path(self) -> str | None:
        """The folder of folder:PATH, imagenet:PATH and tiny-imagenet:PATH."""
        return self.name.partition(":")[2] or None

    @property
    def large(self) -> bool | None:
        """Whether its images are cropped from larger ones (recipes with `crop`); None: either way."""
        if self.name.startswith("folder:"):
            return None
        kind = self.name.partition(":")[0]
        return kind in ("digits-large", "tiny-imagenet", "imagenet")

    @property
    def label(self) -> str:
        """The data set's own name, as every figure and table shows it.

        A folder's is its last part, marked if it would pass for one of the known sets; so many classes
        of Tiny ImageNet are said (tiny-imagenet-100), and a held-out part, because such runs trained on
        fewer images.
        """
        kind, _, path = self.name.partition(":")
        label = kind
        if kind == "tiny-imagenet" and self.classes not in (None, TINY_CLASSES):
            label = f"{kind}-{self.classes}"
        if kind == "folder":
            own = PurePath(path).name or "folder"
            taken = own in (*DATA_SETS, "imagenet") or own.startswith("tiny-imagenet-")
            label = f"folder:{own}" if taken else own
        return f"{label} ({self.validation} held out)" if self.validation else label


class Recipe(_Strict):
    """How to train. Steps count optimizer updates; errors are in percent.

    Every field is the paper's (Sec. 4.2) unless a preset says otherwise; `*_every` only decide what
    is measured and kept, not what is trained. One deviation: batch norm sees the whole batch, where
    the paper's two GPUs each saw half of it; `ghost_batch` 64 gives it that.

    Rate: divided by 1/`decay` at `milestones`, or, with `plateau_patience`, when that many tests in a
    row have not brought the followed error (the held-out part's, else the test set's) below its best
    by `plateau_margin` points, at most `plateau_drops` times. With `warmup_lr` that rate holds until
    the training error over the last `warmup_window` steps is below `warmup_error`, or for the fixed
    number of `warmup_steps`; then `lr`, and the schedule as before.

    Gradients: with `clip`, which the paper has not, those of a step are scaled down until the L2 norm
    of all of them together is at most that.

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
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = (32_000, 48_000)
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
    crop: Annotated[int, Field(ge=8)] | None = None
    scale: tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]] | None = None
    colour: Literal["none", "pca"] = "none"
    mean: Literal["pixel", "channel"] = "pixel"
    ghost_batch: Annotated[int, Field(ge=2)] | None = None
    decay_norm: bool = True
    recompute_norm: bool = False
    log_every: Annotated[int, Field(ge=1)] = 100
    test_every: Annotated[int, Field(ge=1)] = 500
    probe_every: Annotated[int, Field(ge=1)] = 500
    checkpoint_every: Annotated[int, Field(ge=1)] = 2_000

    @field_validator("milestones", "scale", mode="before")
    @classmethod
    def _tuple_from_json(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value  # JSON has no tuples

    def _usual(self) -> Mapping[str, Any]:
        later = list(type(self).model_fields)
        later = later[later.index("warmup_lr") : later.index("log_every")]
        return {name: type(self).model_fields[name].default for name in later}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"recipe.milestones must increase, got {list(self.milestones)}")
        if self.milestones and self.plateau_patience is not None:
            raise ValueError("recipe: the rate falls at milestones or at plateaus, not by both rules")
        if self.warmup_steps is not None and self.warmup_lr is None:
            raise ValueError("recipe.warmup_steps needs warmup_lr, the rate until then")
        if self.ghost_batch is not None and self.batch_size % self.ghost_batch:
            raise ValueError(
                f"recipe.ghost_batch {self.ghost_batch} does not divide batch_size {self.batch_size}"
            )
        if (self.crop is None) != (self.scale is None):
            raise ValueError("recipe.crop and recipe.scale belong together: [shortest, longest] side")
        if self.crop is not None and self.scale is not None:
            if not self.crop <= self.scale[0] <= self.scale[1]:
                raise ValueError(
                    f"recipe.scale {list(self.scale)} must increase from crop {self.crop} or more"
                )
            if self.pad:
                raise ValueError("recipe.pad is for small images; with crop it must be 0")
        elif self.colour != "none":
            raise ValueError("recipe.colour pca is part of the large-image recipes (crop, scale)")
        return self

    def at_resolution(self, crop: int) -> Recipe:
        """The same recipe with smaller or larger images: crop and scale keep their proportion."""
        if self.crop is None or self.scale is None:
            raise UsageError(f"recipe {self.name!r} does not crop: its images keep their size")
        low, high = (round(side * crop / self.crop) for side in self.scale)
        return Recipe.parse(self.model_dump() | {"crop": crop, "scale": (low, high)})

    def shrink(self, steps: int, name: str | None = None) -> Recipe:
        """The same recipe over `steps` updates: milestones keep their place in the schedule."""
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

    @property
    def label(self) -> str:
        """The preset's name, with what was changed in it: `quick`, `quick (steps 600)`."""
        preset = RECIPES.get(self.name)
        if preset is None:
            return self.name
        mine = {name: getattr(self, name) for name in type(self).model_fields}
        its = {name: getattr(preset, name) for name in mine}
        # log_every decides over how many images a row's training error is taken; the others only when
        # something is measured or kept.
        silent = ("name", "test_every", "probe_every", "checkpoint_every")
        changed = [key for key in mine if mine[key] != its[key] and key not in silent]
        if "steps" in changed and self.milestones == preset.shrink(self.steps).milestones:
            changed = [key for key in changed if key != "milestones"]
        if (
            "crop" in changed
            and preset.crop
            and self.scale == preset.at_resolution(self.crop or 8).scale
        ):
            changed = [key for key in changed if key != "scale"]
        parts = [f"{key} {list(v) if isinstance(v := mine[key], tuple) else v}" for key in changed]
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

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        PAPER,
        PAPER_110,
        PAPER_8K,
        SHORT,
        QUICK,
        IMAGENET_RECIPE,
        IMAGENET_TINY,
        IMAGENET_SMALL,
    )
}


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


class Events(NamedTuple):
    """What a run's own errors decided: the step before which the warm-up ended, those of the drops."""

    warm_until: int | None = None
    drops: tuple[int, ...] = ()


def lr_at(step: int, recipe: Recipe | str = PAPER, events: Events = Events()) -> float:  # noqa: B008
    """The learning rate of the update that follows `step` finished updates (Sec. 3.4, 4.2).

    With the paper's recipe: 0.1 for steps 0..31,999, 0.01 from 32,000, 0.001 from 48,000. `recipe` is
    a Recipe or the name of a preset. Rules that look at errors enter through `events`: without them a
    warm-up by error is not over and no plateau was met. A warm-up changes the rate until its end and
    nothing after it: milestones stay where they are. Raises ValueError for a negative step.
    """
    if step < 0:
        raise ValueError(f"step {step} is negative")
    if isinstance(recipe, str):
        recipe = recipe_named(recipe)
    if recipe.warmup_lr is not None:
        warm_until = recipe.warmup_steps or events.warm_until
        if warm_until is None or step < warm_until:
            return recipe.warmup_lr
    drops = sum(step >= at for at in (*recipe.milestones, *events.drops))
    # Dividing by a power of 1/decay gives 0.01 where 0.1 * 0.1 would give 0.010000000000000002.
    return recipe.lr / (1 / recipe.decay) ** drops


class Start(_Strict):
    """The trained weights that a run begins with: the run that has them, its network, their SHA-256.

    `sha256` is that run's `weights_sha256`; training refuses any other weights.
    """

    study: str
    run: str
    network: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @field_validator("network")
    @classmethod
    def _network(cls, name: str) -> str:
        return Network.from_name(name).name


class Surgery(_Strict):
    """An edit of the network before its first update (`surgery`); one of the two.

    `shortcut_scale` a makes y = relu(F(x) + a shortcut(x)), 0 < a < 1: 0 is the plain network and 1 the
    residual one, which have names of their own. `start` is a shallower network's trained weights:
    the run begins as that function, with identity layers appended (the constructed solution, Sec. 1).
    """

    shortcut_scale: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    start: Start | None = None

    def _usual(self) -> Mapping[str, Any]:
        return {"shortcut_scale": None, "start": None}

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.shortcut_scale is None) == (self.start is None):
            raise ValueError("surgery: either shortcut_scale or start must be said, and not both")
        return self


_EDIT = re.compile(
    r"-scale(?P<scale>[0-9.e-]+)$|-from-[a-z]+-(?P<depth>\d+).*-lr(?P<lr>[0-9.e-]+)$|-zeros-(?P<zeros>end)$"
)


def edit_of(network_name: str) -> str:
    """What is not the paper's or usual in a run's `network_name`; "" if nothing is.

    `scale 0.25`, `from 20 layers, lr 0.01`, `zeros at the end`. Only ordinary networks are compared
    by depth or by shortcut option.
    """
    found = _EDIT.search(network_name)
    if found is None:
        return ""
    if found["scale"]:
        return f"scale {found['scale']}"
    if found["zeros"]:
        return "zeros at the end"
    return f"from {found['depth']} layers, lr {found['lr']}"


class Run(_Strict):
    """Everything that decides a run's numbers on a given machine."""

    network: Network
    data: Data = Data()
    recipe: Recipe = QUICK
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Precision = "fp32"
    surgery: Surgery | None = None

    def _usual(self) -> Mapping[str, Any]:
        return {"surgery": None}

    @model_validator(mode="after")
    def _edit_fits(self) -> Self:
        if self.surgery is None:
            return self
        if self.surgery.shortcut_scale is not None and self.network.shortcut == "none":
            raise ValueError(
                f"{self.network.name} has no shortcuts to scale; take its residual network"
            )
        if self.surgery.start is not None:
            source = Network.from_name(self.surgery.start.network)
            if self.network.design != "cifar" or self.network.block != "basic":
                raise ValueError(
                    "identity layers are appended to 6n+2-layer networks with two-layer blocks, not to "
                    f"{self.network.name}"
                )
            same = ("design", "block", "shortcut")
            if any(getattr(source, name) != getattr(self.network, name) for name in same):
                raise ValueError(
                    f"{self.network.name} is no {source.name} with layers appended: only the depth may "
                    "differ"
                )
            if self.network.depth <= source.depth:
                raise ValueError(
                    f"{self.network.name} must be deeper than {source.name}, with which it begins"
                )
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        crop, large = self.recipe.crop, self.data.large
        if crop is None and large:
            raise ValueError(
                f"data {self.data.label} needs a recipe that crops larger images (imagenet, "
                f"imagenet-tiny, imagenet-small), not {self.recipe.name}"
            )
        if crop is not None and large is False:
            raise ValueError(
                f"recipe {self.recipe.name} crops larger images, {self.data.label} has small ones; use "
                "paper, short or quick, or data digits-large, tiny-imagenet, folder:PATH, imagenet:PATH"
            )
        if crop is not None and crop < self.network.smallest_image:
            raise ValueError(
                f"crop {crop} is too small for {self.network.name}, which needs images of "
                f"{self.network.smallest_image} pixels or more"
            )
        if self.data.damaged == "skip" and crop is None:
            raise ValueError("damaged 'skip' is for images read while training (recipes with crop)")
        return self

    def hash(self) -> str:
        """Twelve hex digits of the SHA-256 of the canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def network_name(self) -> str:
        """The network's name with its edit: resnet-56-scale0.25, plain-56-from-plain-20-lr0.01.

        What is averaged, compared and drawn as one goes by this name. The rate is in it because what
        becomes of weights that are there already depends on it.
        """
        edit = self.surgery
        if edit is not None and edit.shortcut_scale is not None:
            return f"{self.network.name}-scale{edit.shortcut_scale:g}"
        if edit is not None and edit.start is not None:
            return f"{self.network.name}-from-{edit.start.network}-lr{self.recipe.lr:g}"
        return self.network.name

    @property
    def name_in_study(self) -> str:
        """The run's folder in a study, where data set and recipe are one: plain-56-seed0."""
        parts = [self.network_name, f"seed{self.seed}"]
        return "-".join(parts if self.precision == "fp32" else [*parts, self.precision])

    @property
    def default_name(self) -> str:
        """The run's folder outside a study: with data set, recipe and, if changed, the hash."""
        data = re.sub(r"[^A-Za-z0-9._-]", "_", self.data.label)[:30]
        parts = [self.name_in_study, data, self.recipe.name]
        changed = self.recipe != RECIPES.get(self.recipe.name) or self.data.validation
        changed = changed or (self.surgery is not None and self.surgery.start is not None)
        return "-".join([*parts, self.hash()[:6]] if changed else parts)

    @property
    def label(self) -> str:
        """What a legend or a progress line calls it; clipping, and a precision not fp32, are said."""
        parts = [self.network_name, f"seed {self.seed}"]
        parts += [f"clip {self.recipe.clip:g}"] if self.recipe.clip is not None else []
        return " · ".join(parts if self.precision == "fp32" else [*parts, self.precision])


def fields(run: Run) -> dict[str, Any]:
    """Every field by its full name, as JSON has it: `recipe.steps` -> 300."""

    def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in values.items():
            if isinstance(value, Mapping):
                out |= flat(value, f"{prefix}{key}.")
            else:
                out[prefix + key] = value
        return out

    return flat(run.model_dump(mode="json"))


def differences(ours: Run, theirs: Run) -> list[str]:
    """One line for each field in which two configurations differ: `recipe.steps: 300 != 40`."""
    a, b = fields(ours), fields(theirs)
    keys = dict.fromkeys((*a, *b))  # what is left out at its usual value stands in one of them only
    return [
        f"{key}: {a.get(key, USUAL)!r} != {b.get(key, USUAL)!r}"
        for key in keys
        if a.get(key, USUAL) != b.get(key, USUAL)
    ]


USUAL = "the usual"  # said of a field that is left out


def default_recipe(data: str) -> Recipe:
    """`quick` for the digits, the ImageNet ones for larger images, `short` for every other data set."""
    kinds = {"digits": QUICK, "digits-large": IMAGENET_SMALL, "tiny-imagenet": IMAGENET_TINY}
    return kinds.get(data.partition(":")[0], IMAGENET_RECIPE if data.startswith("imagenet:") else SHORT)


def images_named(name: str, *, validation: int = 0, damaged: str = "error") -> Data:
    """The `Data` of that name. Of tiny-imagenet:PATH the classes that the copy has are counted there.

    Raises UsageError for an unknown name and for a path without train/ and folders in it.
    """
    values: dict[str, Any] = {"name": name, "validation": validation, "damaged": damaged}
    kind, _, path = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind == "tiny-imagenet" and path.strip():
        train = Path(path).expanduser() / "train"
        try:
            values["classes"] = sum(
                entry.is_dir() and not entry.name.startswith(".") for entry in train.iterdir()
            )
        except OSError as error:
            raise UsageError(
                f"{train} cannot be read ({error.strerror}); {name} needs {FOLDERS[kind]}, as in the "
                "public zip (`resnetlab data download tiny-imagenet` fetches it)"
            ) from None
    return Data.parse(values)


def run_from_parameters(
    *,
    depth: int | None = None,
    shortcut: str | None = None,
    network: str | None = None,
    data: str = "digits",
    validation: int = 0,
    damaged: str = "error",
    recipe: str = "",
    seed: int = 0,
    precision: str = "fp32",
    shortcut_scale: float | None = None,
    start_from: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> Run:
    """A strict `Run` from flat parameters, as notebooks, the command line and studies give them.

    `network` (plain-56), or `depth` and `shortcut`, name the network (50 and 152 layers are 6n+2 too:
    on digits and CIFAR a bare depth means that design); `recipe` "" means the data set's
    default; `shortcut_scale` and `start_from` (the fields of a Start, which
    `results.weights_named` finds by a run's name) are its surgery; any other keyword is a field of the
    recipe (steps, lr, batch_size, ...), None = unchanged. Raises UsageError with the offending name or
    value.
    """
    if not isinstance(data, str):
        raise UsageError(f"data: should be a name, got {data!r}")
    images = images_named(data, validation=validation, damaged=damaged)
    if network:
        net = Network.from_name(network)
    else:
        small = images.large is False and type(depth) is int and depth in IMAGENET and depth % 6 == 2
        design = {"design": "cifar"} if small else {}
        net = Network.parse({"depth": depth, "shortcut": shortcut} | design)
    if not isinstance(recipe, str):
        raise UsageError(f"recipe: should be a name, got {recipe!r}; known: {', '.join(RECIPES)}")
    for key, value in overrides.items():
        if key in Recipe.model_fields and isinstance(value, str) and key not in ("colour", "mean"):
            raise UsageError(
                f"{key}: should be a number or true/false, got the text {value!r} "
                "(YAML reads 1e-3 as text: write 1.0e-3)"
            )
    preset = recipe_named(recipe) if recipe else default_recipe(data)
    values = {
        "network": net,
        "data": images,
        "recipe": preset.replace(**overrides),
        "seed": seed,
        "precision": precision,
    }
    if isinstance(start_from, str):
        raise UsageError(
            f"start_from: study, run, network and sha256 are needed, got the text {start_from!r} "
            "(resnetlab.store.weights_named finds them)"
        )
    if shortcut_scale is not None or start_from is not None:
        start = dict(start_from) if isinstance(start_from, Mapping) else start_from
        values["surgery"] = {"shortcut_scale": shortcut_scale, "start": start}
    return Run.parse(values)
