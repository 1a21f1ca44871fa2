"""The command itself, and options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
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
ANOTHER_WRITER = 75  # EX_TEMPFAIL of sysexits.h: the same command may succeed later

DATA_HELP = "digits, cifar10, cifar100, digits-large, tiny-imagenet[:PATH], folder:PATH, imagenet:PATH"
ResultsOption = Annotated[
    str | None,
    Option(
        "--results",
        help="Results folder (default: $RESNETLAB_RESULTS; results/ in a clone; resnetlab-results/)",
    ),
]
JsonOption = Annotated[bool, Option("--json", help="Machine-readable output")]
DeviceOption = Annotated[str, Option(help="auto, cpu, cuda or cuda:N")]
EngineOption = Annotated[
    str, Option(help="auto, eager, or compiled, graph (CUDA), channels_last joined by +")
]


# How a run is trained, options of `train` and of `study`: name -> kind and help; None where not given.
TRAINING: dict[str, tuple[Any, str]] = {
    "recipe": (str, "`resnetlab recipe` lists them (default: the data set's)"),
    "steps": (int, "Optimizer steps; milestones move along (default: the recipe's)"),
    "lr": (float, "Learning rate (default: the recipe's 0.1)"),
    "batch_size": (int, "(default: the recipe's 128)"),
    "clip": (float, "Largest L2 norm of a step's gradient (default: none, as the paper)"),
    "crop": (int, "Pixels a side that large-image recipes cut out; the scale moves along"),
    "validation": (float, "Training images held out and followed, or below 1 the share of them"),
    "precision": (Precision, "Precision of training (default: fp32, TF32 off)"),
}


def with_training_options(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with the training options too: its `**chosen` gets them."""
    given = signature(verb, eval_str=True)
    options = [one for one in given.parameters.values() if one.kind is not one.VAR_KEYWORD]
    for name, (kind, words) in TRAINING.items():
        option = Annotated[kind | None, Option(help=words)]  # type: ignore[valid-type]
        options.append(Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=option))
    verb.__signature__ = given.replace(parameters=options)  # type: ignore[attr-defined]
    verb.__annotations__ = {one.name: one.annotation for one in options}
    return verb


def list_of(text: str | None, what: str, kind: type) -> tuple[Any, ...] | None:
    """`20,56` as a tuple of that kind; None for an option that is not given."""
    if text is None:
        return None
    try:
        return tuple(kind(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"{what}: a list like 20,56 is needed, got {text!r}") from None
