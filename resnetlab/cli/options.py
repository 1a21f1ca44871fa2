"""The command itself, and options that several verbs share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

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


class Precision(StrEnum):
    fp32 = "fp32"
    fp64 = "fp64"
    tf32 = "tf32"
    bf16 = "bf16"


DATA_HELP = "digits, cifar10, cifar100, digits-large, tiny-imagenet[:PATH], folder:PATH, imagenet:PATH"
ResultsOption = Annotated[
    str | None, typer.Option("--results", help="Results folder [default: results/ of the project]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
EngineOption = Annotated[
    str, typer.Option(help="auto, eager, or compiled, graph (CUDA), channels_last joined by +")
]
PrecisionOption = Annotated[
    Precision | None, typer.Option(help="Precision of training [default: fp32, TF32 off]")
]
StepsOption = Annotated[
    int | None, typer.Option(help="Optimizer updates; milestones move along [default: the recipe's]")
]
LrOption = Annotated[float | None, typer.Option(help="Learning rate [default: the recipe's 0.1]")]
ClipOption = Annotated[
    float | None,
    typer.Option(help="Largest L2 norm of a step's gradient [default: none, as the paper]"),
]
BatchOption = Annotated[int | None, typer.Option("--batch-size", help="[default: the recipe's 128]")]
ValidationOption = Annotated[
    int | None, typer.Option(help="Training images held out and followed instead of the test set")
]
RecipeOption = Annotated[
    str | None,
    typer.Option(help="`resnetlab recipe` lists them [default: the data set's]"),
]
CropOption = Annotated[
    int | None,
    typer.Option(help="Pixels a side that large-image recipes cut out; the scale moves along"),
]


def _list_of(text: str, what: str, kind: type) -> tuple[Any, ...]:
    from resnetlab.config import UsageError

    try:
        return tuple(kind(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"{what}: a list like 20,56 is needed, got {text!r}") from None
