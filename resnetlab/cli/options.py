"""The command itself, and options that several verbs share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer import Option

from resnetlab.config import Precision, UsageError

app = typer.Typer(
    name="resnetlab",
    help="An interactive study of Deep Residual Learning for Image Recognition (He et al. 2015).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Data sets: fetch them once, look at them.", no_args_is_help=True)
app.add_typer(data_app, name="data")
INTERRUPTED = 130

DATA_HELP = "digits, cifar10, cifar100, digits-large, tiny-imagenet[:PATH], folder:PATH, imagenet:PATH"
ResultsOption = Annotated[
    str | None, Option("--results", help="Results folder (default: results/ of the project)")
]
JsonOption = Annotated[bool, Option("--json", help="Machine-readable output")]
DeviceOption = Annotated[str, Option(help="auto, cpu, cuda or cuda:N")]
EngineOption = Annotated[
    str, Option(help="auto, eager, or compiled, graph (CUDA), channels_last joined by +")
]


def training_options(
    recipe: Annotated[
        str | None, Option(help="`resnetlab recipe` lists them (default: the data set's)")
    ] = None,
    steps: Annotated[
        int | None, Option(help="Optimizer steps; milestones move along (default: the recipe's)")
    ] = None,
    lr: Annotated[float | None, Option(help="Learning rate (default: the recipe's 0.1)")] = None,
    batch_size: Annotated[
        int | None, Option("--batch-size", help="(default: the recipe's 128)")
    ] = None,
    clip: Annotated[
        float | None, Option(help="Largest L2 norm of a step's gradient (default: none, as the paper)")
    ] = None,
    crop: Annotated[
        int | None, Option(help="Pixels a side that large-image recipes cut out; the scale moves along")
    ] = None,
    validation: Annotated[
        int | None, Option(help="Training images held out and followed instead of the test set")
    ] = None,
    precision: Annotated[
        Precision | None, Option(help="Precision of training (default: fp32, TF32 off)")
    ] = None,
) -> None:
    """How a run is trained: options of `train` and of `study`."""


def with_training_options(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with the training options too: its `**chosen` gets them, None where not given."""
    signature = inspect.signature(verb, eval_str=True)
    more = inspect.signature(training_options, eval_str=True).parameters.values()
    named = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    verb.__signature__ = signature.replace(parameters=[*named, *more])  # type: ignore[attr-defined]
    verb.__annotations__ = {one.name: one.annotation for one in (*named, *more)}
    return verb


def list_of(text: str | None, what: str, kind: type) -> tuple[Any, ...] | None:
    """`20,56` as a tuple of that kind; None for an option that is not given."""
    if text is None:
        return None
    try:
        return tuple(kind(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"{what}: a list like 20,56 is needed, got {text!r}") from None
