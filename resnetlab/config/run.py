"""A run as one strict value: network, data, recipe, seed, precision, surgery; from flat parameters.

It round-trips through JSON, refuses unknown keys by name, and says everything that decides a result.
Where it ran (device, threads) is recorded beside it, not in it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from resnetlab.config.data import HELD_OUT, Data, images_named, spelt
from resnetlab.config.network import IMAGENET, Network
from resnetlab.config.recipe import PAPER_400, RECIPES, Recipe, default_recipe, recipe_named
from resnetlab.config.strict import UsageError, _Strict

Precision = Literal["fp32", "fp64", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


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
    """An edit of the network before its first step (`surgery`); one of the two.

    `shortcut_scale` a makes y = relu(F(x) + a shortcut(x)), 0 < a < 1: 0 is the plain network and 1 the
    residual one, which have names of their own. `start` is a shallower network's trained weights:
    the run begins as that function, with identity layers appended (the constructed solution, Sec. 1).
    """

    shortcut_scale: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    start: Start | None = None

    unwritten = ("shortcut_scale", "start")

    def _mistakes(self) -> Iterator[str]:
        if (self.shortcut_scale is None) == (self.start is None):
            yield "surgery: either shortcut_scale or start must be said, and not both"


_EDIT = re.compile(
    r"-scale(?P<scale>[0-9.e-]+)$|-from-[a-z]+-(?P<depth>\d+).*-lr(?P<lr>[0-9.e-]+)$|-zeros-(?P<zeros>end)$"
)


def edit_of(network_name: str) -> str:
    """What is not the paper's or usual in a run's `network_name`; "" if nothing is.

    `scale 0.25`, `from 20 layers, lr 0.01`, `zeros at the end`. Only ordinary networks are compared
    by depth or by shortcut option.
    """
    match = _EDIT.search(network_name)
    if match is None:
        return ""
    if match["scale"]:
        return f"scale {match['scale']}"
    if match["zeros"]:
        return "zeros at the end"
    return f"from {match['depth']} layers, lr {match['lr']}"


class Run(_Strict):
    """Everything that decides a run's numbers on a given machine."""

    network: Network
    data: Data = Data()
    recipe: Recipe = PAPER_400
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Precision = "fp32"
    surgery: Surgery | None = None

    unwritten = ("surgery",)

    def _mistakes(self) -> Iterator[str]:
        edit, network, images = self.surgery, self.network, self.data
        if edit is not None and edit.shortcut_scale is not None and network.shortcut == "none":
            yield f"{network.name} has no shortcuts to scale; take its residual network"
        if edit is not None and edit.start is not None:
            yield from _unfit_start(network, Network.from_name(edit.start.network))
        crop, name = self.recipe.crop, self.recipe.name
        if crop is None and images.large:
            yield (
                f"data {images.label} needs a recipe that crops larger images (imagenet, "
                f"imagenet-tiny, imagenet-small), not {name}"
            )
        if crop is not None and images.large is False:
            yield (
                f"recipe {name} crops larger images, {images.label} has small ones; use paper, short "
                "or paper-400, or data digits-large, tiny-imagenet, folder:PATH, imagenet:PATH"
            )
        if crop is not None and crop < network.smallest_image:
            yield (
                f"crop {crop} is too small for {network.name}, which needs images of "
                f"{network.smallest_image} pixels or more"
            )

    def hash(self) -> str:
        """Twelve hex digits of the SHA-256 of the canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def spelt(self) -> Run:
        """The same with one spelling of its images' folder: what is compared, before and after."""
        return self.model_copy(
            update={"data": self.data.model_copy(update={"name": spelt(self.data.name)})}
        )

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
        parts = [self.name_in_study, self.data.slug[:30], self.recipe.name]
        changed = self.recipe != RECIPES.get(self.recipe.name) or self.data.validation
        changed = changed or (self.surgery is not None and self.surgery.start is not None)
        return "-".join([*parts, self.hash()[:6]] if changed else parts)

    @property
    def label(self) -> str:
        """What a legend or a progress line calls it; clipping, and a precision not fp32, are said."""
        parts = [self.network_name, f"seed {self.seed}"]
        parts += [f"clip {self.recipe.clip:g}"] if self.recipe.clip is not None else []
        return " · ".join(parts if self.precision == "fp32" else [*parts, self.precision])


def _unfit_start(network: Network, source: Network) -> Iterator[str]:
    """Why identity layers appended to `source` do not make `network`."""
    if network.design != "cifar" or network.block != "basic":
        yield (
            "identity layers are appended to 6n+2-layer networks with two-layer blocks, not to "
            f"{network.name}"
        )
    if any(getattr(network, name) != getattr(source, name) for name in ("design", "block", "shortcut")):
        yield f"{network.name} is no {source.name} with layers appended: only the depth may differ"
    if network.depth < source.depth:
        yield f"{network.name} must not be shallower than {source.name}, with which it begins"


def fields(run: Run) -> dict[str, Any]:
    """Every field by its full name, as JSON has it: `recipe.steps` -> 300."""

    def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in values.items():
            if isinstance(value, Mapping):
                yield from flat(value, f"{prefix}{key}.")
            else:
                yield prefix + key, value

    return dict(flat(run.model_dump(mode="json")))


def differences(ours: Run, theirs: Run) -> list[str]:
    """One line for each field in which two configurations differ: `recipe.steps: 300 != 40`."""
    a, b = fields(ours), fields(theirs)
    keys = dict.fromkeys((*a, *b))  # what is left out at its usual value stands in one of them only
    pairs = {key: (a.get(key, USUAL), b.get(key, USUAL)) for key in keys}
    return [f"{key}: {one!r} != {other!r}" for key, (one, other) in pairs.items() if one != other]


USUAL = "the usual"  # said of a field that is left out


def run_from_parameters(
    *,
    depth: int | None = None,
    shortcut: str | None = None,
    network: str | None = None,
    data: str = "digits",
    validation: float = 0,
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
    default; where its rate follows an error, HELD_OUT of the training images are held out unless
    `validation` says how many (`imagenet` alone follows the test images); `shortcut_scale` and
    `start_from` (the fields of a Start, which `store.weights_named` finds by a run's name) are its
    surgery; any other keyword is a field of the
    recipe (steps, lr, batch_size, ...), None = unchanged. Raises UsageError with the offending name or
    value.
    """
    if not isinstance(data, str):
        raise UsageError(f"data: should be a name, got {data!r}")
    if isinstance(validation, float) and validation.is_integer():
        validation = int(validation)  # as a command line gives it
    images = images_named(data, validation=validation)
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
    changed = preset.replace(**overrides)
    if images.validation == 0 and changed.follows_held_out:
        images = images.model_copy(update={"validation": HELD_OUT})
    values: dict[str, Any] = {"network": net, "data": images, "recipe": changed}
    values |= {"seed": seed, "precision": precision}
    if isinstance(start_from, str):
        raise UsageError(
            f"start_from: study, run, network and sha256 are needed, got the text {start_from!r} "
            "(resnetlab.store.weights_named finds them)"
        )
    if shortcut_scale is not None or start_from is not None:
        start = dict(start_from) if isinstance(start_from, Mapping) else start_from
        values["surgery"] = {"shortcut_scale": shortcut_scale, "start": start}
    return Run.parse(values)


def parameters_of(run: Run) -> dict[str, Any]:
    """The flat parameters that `run_from_parameters` makes this very run of; what is usual is left out.

    Only papermill and commands need them. Raises UsageError if there are none: of the preset that a
    recipe is named after, a field can be changed, but not emptied.
    """
    preset = recipe_named(run.recipe.name)
    values: dict[str, Any] = {"network": run.network.name, "data": run.data.name}
    values |= {"recipe": preset.name, "seed": run.seed}
    values |= {"precision": run.precision} if run.precision != "fp32" else {}
    values |= {"validation": run.data.validation} if run.data.validation else {}
    if run.surgery is not None:
        scale, start = run.surgery.shortcut_scale, run.surgery.start
        values |= {"start_from": start.model_dump()} if start else {"shortcut_scale": scale}
    changed = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in run.recipe.changes().items()
    }
    if run.recipe.follows_held_out and not run.data.validation:
        raise UsageError("no parameters make this run: its rate follows the error on the test images")
    if preset.replace(**changed) != run.recipe:
        raise UsageError(
            f"no parameters make this recipe of the preset {preset.name}: a field is empty"
        )
    return values | changed
