"""The configuration of a run: Network, Data, Recipe and Run, strict and frozen, and the presets.

A `Run` is one value tree. It round-trips through JSON, refuses unknown keys by name, and says
everything that decides a result. Where it ran (device, threads) is recorded beside it, not in it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

Shortcut = Literal["none", "A", "B", "C"]
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
                owner = owner.model_fields[str(part)].annotation  # type: ignore[assignment]
            hint = did_you_mean(str(item["loc"][-1]), owner.model_fields)
            lines.append(f"unknown parameter {where!r}{hint}")
        elif item["type"] == "value_error":
            lines.append(str(item["ctx"]["error"]))
        else:
            got = f"{item['input']!r} ({type(item['input']).__name__})"
            message = item["msg"][0].lower() + item["msg"][1:]
            lines.append(f"{where or model.__name__}: {message}, got {got}")
    return "\n".join(lines)


class Network(_Strict):
    """A CIFAR-family network (Sec. 4.2): 6n+2 weighted layers; `shortcut` "none" makes it plain."""

    depth: int
    shortcut: Shortcut = "A"

    @field_validator("depth")
    @classmethod
    def _depth(cls, depth: int) -> int:
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth {depth} is not 6n+2 with n >= 1; {_nearest_depths(depth)}")
        return depth

    @property
    def name(self) -> str:
        """The field's name: plain-56, resnet-56 (option A), resnet-56-B."""
        if self.shortcut == "none":
            return f"plain-{self.depth}"
        return f"resnet-{self.depth}" + ("" if self.shortcut == "A" else f"-{self.shortcut}")

    @property
    def family(self) -> Literal["plain", "residual"]:
        return "plain" if self.shortcut == "none" else "residual"

    @classmethod
    def from_name(cls, name: str) -> Network:
        """Parse `plain-N`, `resnet-N` (A) or `resnet-N-B|C`. Raises UsageError on any other name."""
        name = name if isinstance(name, str) else repr(name)
        match = re.fullmatch(r"(plain|resnet)-(0|[1-9][0-9]{0,4})(?:-([ABC]))?", name)
        if match is None or (match[1] == "plain" and match[3]):
            examples = ["plain-20", "plain-56", "resnet-20", "resnet-56", "resnet-56-B"]
            near = difflib.get_close_matches(name, examples, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"unknown network {name!r}{hint} Names are plain-N, resnet-N (shortcut option A), "
                "resnet-N-B and resnet-N-C, with N = 6n+2 (8, 14, 20, 32, 44, 56, 110, ...)"
            )
        shortcut = "none" if match[1] == "plain" else match[3] or "A"
        return cls.parse({"depth": int(match[2]), "shortcut": shortcut})


def _nearest_depths(depth: int) -> str:
    if depth <= 8:
        return "the smallest is 8"
    below = depth - (depth - 2) % 6
    return f"the nearest valid depths are {below} and {below + 6}"


DATA_SETS = ("digits", "cifar10", "cifar100")


class Data(_Strict):
    """Which images: digits | cifar10 | cifar100 | folder:PATH, and how many to hold out.

    `validation` > 0 takes that many training images, by a seeded permutation, as the set whose error
    is followed during training (the paper chose its schedule on 45k/5k). The test images are then
    read once, after the last step.
    """

    name: str = "digits"
    validation: Annotated[int, Field(ge=0)] = 0

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if name.startswith("folder:"):
            if not name.removeprefix("folder:").strip():
                raise ValueError("data 'folder:' needs a path: folder:PATH with train/ and test/")
            return name
        if name not in DATA_SETS:
            hint = did_you_mean(name, [*DATA_SETS, "folder:PATH"])
            raise ValueError(f"unknown data set {name!r}{hint}")
        return name

    @property
    def label(self) -> str:
        """The data set's own name, as every figure and table shows it.

        A folder's is its last part, marked if it would pass for one of the known sets; a held-out part
        is said, because such runs trained on fewer images.
        """
        label = self.name
        if label.startswith("folder:"):
            own = PurePath(label.removeprefix("folder:")).name or "folder"
            label = f"folder:{own}" if own in DATA_SETS else own
        return f"{label} ({self.validation} held out)" if self.validation else label


class Recipe(_Strict):
    """How to train. Steps count optimizer updates; errors are in percent.

    Every field is the paper's (Sec. 4.2) unless a preset says otherwise; `*_every` only decide what
    is measured and kept, not what is trained. One deviation: batch norm sees the whole batch, where
    the paper's two GPUs each saw half of it (64 images).
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
    log_every: Annotated[int, Field(ge=1)] = 100
    test_every: Annotated[int, Field(ge=1)] = 500
    probe_every: Annotated[int, Field(ge=1)] = 500
    checkpoint_every: Annotated[int, Field(ge=1)] = 2_000

    @field_validator("milestones", mode="before")
    @classmethod
    def _milestones_from_json(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value  # JSON has no tuples

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"recipe.milestones must increase, got {list(self.milestones)}")
        return self

    def shrink(self, steps: int, name: str | None = None) -> Recipe:
        """The same recipe over `steps` updates: milestones keep their place in the schedule."""
        ratio = steps / self.steps
        milestones = sorted({max(1, round(m * ratio)) for m in self.milestones})
        changes = {"steps": steps, "milestones": tuple(milestones), "name": name or self.name}
        return Recipe.parse(self.model_dump() | changes)

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some fields changed, validated; a changed `steps` alone moves the milestones."""
        unknown = [key for key in changes if key not in type(self).model_fields]
        if unknown:
            hint = did_you_mean(unknown[0], type(self).model_fields)
            raise UsageError(f"unknown recipe parameter {unknown[0]!r}{hint}")
        changes = {key: value for key, value in changes.items() if value is not None}
        base = self
        steps = changes.get("steps")
        if type(steps) is int and steps >= 1 and steps != self.steps and "milestones" not in changes:
            base = self.shrink(steps)
        return Recipe.parse(base.model_dump() | changes)

    @property
    def label(self) -> str:
        """The preset's name, with what was changed in it: `quick`, `quick (steps 600)`."""
        preset = RECIPES.get(self.name)
        if preset is None:
            return self.name
        mine, its = self.model_dump(), preset.model_dump()
        # log_every decides over how many images a row's training error is taken; the others only when
        # something is measured or kept.
        silent = ("name", "test_every", "probe_every", "checkpoint_every")
        changed = [key for key in mine if mine[key] != its[key] and key not in silent]
        if "steps" in changed and self.milestones == preset.shrink(self.steps).milestones:
            changed = [key for key in changed if key != "milestones"]
        parts = [f"{key} {list(v) if isinstance(v := mine[key], tuple) else v}" for key in changed]
        return f"{self.name} ({', '.join(parts)})" if parts else self.name


PAPER = Recipe()

# The schedule's shape is the paper's; what changes is its length and how often it is measured.
SHORT = PAPER.shrink(3_200, "short").replace(
    log_every=20, test_every=400, probe_every=50, checkpoint_every=200
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

RECIPES: dict[str, Recipe] = {"paper": PAPER, "short": SHORT, "quick": QUICK}


def recipe_named(name: str) -> Recipe:
    """The preset of that name. Raises UsageError with the nearest known one."""
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}{did_you_mean(name, RECIPES)}")
    return RECIPES[name]


def lr_at(step: int, recipe: Recipe | str = PAPER) -> float:
    """The learning rate of the update that follows `step` finished updates (Sec. 4.2).

    With the paper's recipe: 0.1 for steps 0..31,999, 0.01 from 32,000, 0.001 from 48,000.
    `recipe` is a Recipe or the name of a preset. Raises ValueError for a negative step.
    """
    if step < 0:
        raise ValueError(f"step {step} is negative")
    if isinstance(recipe, str):
        recipe = recipe_named(recipe)
    drops = sum(step >= milestone for milestone in recipe.milestones)
    # Dividing by a power of 1/decay gives 0.01 where 0.1 * 0.1 would give 0.010000000000000002.
    return recipe.lr / (1 / recipe.decay) ** drops


class Run(_Strict):
    """Everything that decides a run's numbers on a given machine."""

    network: Network
    data: Data = Data()
    recipe: Recipe = QUICK
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Precision = "fp32"

    def hash(self) -> str:
        """Twelve hex digits of the SHA-256 of the canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def name_in_study(self) -> str:
        """The run's folder in a study, where data set and recipe are one: plain-56-seed0."""
        parts = [self.network.name, f"seed{self.seed}"]
        return "-".join(parts if self.precision == "fp32" else [*parts, self.precision])

    @property
    def default_name(self) -> str:
        """The run's folder outside a study: with data set, recipe and, if changed, the hash."""
        data = re.sub(r"[^A-Za-z0-9._-]", "_", self.data.label)[:30]
        parts = [self.name_in_study, data, self.recipe.name]
        changed = self.recipe != RECIPES.get(self.recipe.name) or self.data.validation
        return "-".join([*parts, self.hash()[:6]] if changed else parts)

    @property
    def label(self) -> str:
        """What a legend or a progress line calls it; a precision other than fp32 is always said."""
        parts = [self.network.name, f"seed {self.seed}"]
        return " · ".join(parts if self.precision == "fp32" else [*parts, self.precision])


def differences(ours: Run, theirs: Run) -> list[str]:
    """One line for each field in which two configurations differ: `recipe.steps: 300 != 40`."""

    def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in values.items():
            if isinstance(value, Mapping):
                out |= flat(value, f"{prefix}{key}.")
            else:
                out[prefix + key] = value
        return out

    a, b = flat(ours.model_dump(mode="json")), flat(theirs.model_dump(mode="json"))
    return [f"{key}: {a[key]!r} != {b[key]!r}" for key in a if a[key] != b[key]]


def default_recipe(data: str) -> Recipe:
    """`quick` for the digits, `short` for every other data set."""
    return QUICK if data == "digits" else SHORT


def run_from_parameters(
    *,
    depth: int | None = None,
    shortcut: str | None = None,
    network: str | None = None,
    data: str = "digits",
    validation: int = 0,
    recipe: str = "",
    seed: int = 0,
    precision: str = "fp32",
    **overrides: Any,
) -> Run:
    """A strict `Run` from flat parameters, as notebooks, the command line and studies give them.

    `network` (plain-56) or `depth` and `shortcut` name the network; `recipe` "" means the data set's
    default; any other keyword is a field of the recipe (steps, lr, batch_size, ...), None = unchanged.
    Raises UsageError with the offending name or value.
    """
    if network is not None:
        net = Network.from_name(network)
    else:
        net = Network.parse({"depth": depth, "shortcut": shortcut})
    if not isinstance(recipe, str):
        raise UsageError(f"recipe: should be a name, got {recipe!r}; known: {', '.join(RECIPES)}")
    if not isinstance(data, str):
        raise UsageError(f"data: should be a name, got {data!r}")
    for key, value in overrides.items():
        if key in Recipe.model_fields and isinstance(value, str) and key != "name":
            raise UsageError(
                f"{key}: should be a number or true/false, got the text {value!r} "
                "(YAML reads 1e-3 as text: write 1.0e-3)"
            )
    preset = recipe_named(recipe) if recipe else default_recipe(data)
    values = {
        "network": net,
        "data": Data.parse({"name": data, "validation": validation}),
        "recipe": preset.replace(**overrides),
        "seed": seed,
        "precision": precision,
    }
    return Run.parse(values)
