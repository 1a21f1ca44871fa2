"""The verb `recipe`: a recipe in words, its learning rate as a table, and as a figure file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetlab.cli.options import JsonOption, _list_of, app
from resnetlab.cli.terminal import _console, _png, _print_json

if TYPE_CHECKING:
    from resnetlab import config
    from resnetlab.config import schedule


@app.command()
def recipe(
    name: Annotated[str | None, typer.Argument(help="[default: all of them, a line each]")] = None,
    warm_until: Annotated[
        int | None, typer.Option(help="Script when the training error ends the warm-up")
    ] = None,
    drops: Annotated[
        str | None, typer.Option(help="Script the steps of the plateaus, such as 150000,300000")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Write the figure: FILE.html or FILE.png")] = None,
    as_json: JsonOption = False,
) -> None:
    """What a recipe does: its settings in words, its learning rate as a table (--out: as a figure).

    Where the rate follows a run's own errors, the events are scripted, and said to be.
    """
    from resnetlab import config
    from resnetlab.config import UsageError, schedule

    if name is None:
        if out is not None or warm_until is not None or drops is not None:
            raise UsageError("name a recipe: `resnetlab recipe` alone lists them")
        lines = {name: _rate_in_words(preset) for name, preset in config.RECIPES.items()}
        if as_json:
            _print_json([config.RECIPES[name].model_dump(mode="json") for name in lines])
            return
        for name, line in lines.items():
            preset = config.RECIPES[name]
            print(f"{name:<15} {preset.steps:>7,} steps of {preset.batch_size:<3}  {line}")
        return
    chosen = config.recipe_named(name)
    at = _list_of(drops, "--drops", int) if drops is not None else None
    events, scripted = _scripted(chosen, warm_until, at)
    rates = schedule.stretches(chosen, events)
    if out is not None and Path(out).suffix not in (".html", ".png"):
        raise UsageError(f"--out: a file that ends in .html or .png is needed, got {out!r}")
    if as_json:
        shown = [stretch._asdict() for stretch in rates]
        info: dict[str, Any] = {"name": chosen.name, "recipe": chosen.model_dump(mode="json")}
        _print_json(info | {"events": events._asdict(), "scripted": scripted, "rates": shown})
    else:
        _print_recipe(chosen, rates, scripted)
    if out is not None:
        _write_recipe_figure(Path(out), chosen, rates, scripted)
        if not as_json:
            print(out)


def _scripted(
    recipe: config.Recipe, warm_until: int | None, drops: Sequence[int] | None
) -> tuple[config.Events, list[str]]:
    """Events for the rules that look at errors, and a sentence each on where they come from."""
    from resnetlab import paper
    from resnetlab.config import Events, UsageError

    said = []
    by_error = recipe.warmup_lr is not None and recipe.warmup_steps is None
    if warm_until is not None and not by_error:
        raise UsageError(f"recipe {recipe.name!r} has no warm-up that an error ends")
    if drops is not None and recipe.plateau_patience is None:
        raise UsageError(f"recipe {recipe.name!r} does not wait for plateaus")
    if by_error:
        if warm_until is None:
            warm_until = paper.WARM_UNTIL
            source = 'the paper\'s "about 400 iterations" (Sec. 4.2)'
        else:
            source = "--warm-until"
        said.append(
            f"end of the warm-up at step {warm_until:,}: scripted, {source}; a run decides itself"
        )
    if recipe.plateau_patience is not None:
        if drops is None:
            ratio = recipe.steps / paper.FIGURE_4_STEPS
            drops = [round(step * ratio) for step in paper.FIGURE_4_DROPS][: recipe.plateau_drops]
            source = "Figure 4 (15.0-15.5 and 30.0-30.5 x 10^4)"
            source += "" if ratio == 1 else ", in proportion to the steps"
        else:
            source = "--drops"
        where = " and ".join(f"{step:,}" for step in drops) or "no step"
        said.append(f"plateaus at {where}: scripted, {source}; a run decides itself")
        if list(drops) != sorted(set(drops)) or len(drops) > recipe.plateau_drops:
            raise UsageError(f"--drops: at most {recipe.plateau_drops} steps that increase are needed")
    for option, steps in (("--warm-until", [warm_until]), ("--drops", drops or [])):
        for step in steps:
            if step is not None and not 1 <= step <= recipe.steps:
                raise UsageError(f"{option}: {step} is not a step of 1 to {recipe.steps:,}")
    return Events(warm_until, tuple(drops or ())), said


def _rate_in_words(recipe: config.Recipe) -> str:
    lower, fall = f"divided by {1 / recipe.decay:g}", "constant"
    if recipe.milestones:
        fall = f"{lower} at {' and '.join(f'{at:,}' for at in recipe.milestones)}"
    elif recipe.plateau_patience is not None:
        fall = (
            f"{lower} when {recipe.plateau_patience} tests in a row have not brought the error down by "
            f"{recipe.plateau_margin:g} points, at most {recipe.plateau_drops} times"
        )
    warm = ""
    if recipe.warmup_lr is not None:
        until = f"the training error of {recipe.warmup_window} steps is below {recipe.warmup_error:g} %"
        if recipe.warmup_steps is not None:
            until = f"{recipe.warmup_steps:,} steps are done"
        warm = f"{recipe.warmup_lr:g} until {until}, then "
    return f"{warm}{recipe.lr:g}, {fall}"


def _recipe_in_words(recipe: config.Recipe) -> dict[str, str]:
    decayed = "all parameters" if recipe.decay_norm else "all but batch norm's"
    if recipe.crop is not None and recipe.scale is not None:
        low, high = recipe.scale
        views = [f"shorter side drawn from [{low}, {high}], a square of {recipe.crop} cut out"]
    else:
        views = [f"{recipe.pad} pixels of padding and a random crop" if recipe.pad else "as they are"]
    views += ["mirrored half the time"] if recipe.flip else ["not mirrored"]
    views += ["PCA colour shift"] if recipe.colour == "pca" else []
    means = {"pixel": "the mean image", "channel": "the channel means"}
    views += [f"{means[recipe.mean]} subtracted"]
    views += ["divided by the deviations"] if recipe.mean == "channel" else []
    norm = "over the batch of a device"
    if recipe.ghost_batch is not None:
        norm = f"over groups of {recipe.ghost_batch} images"
    norm += "; statistics of the test: " + (
        "averaged over the training images at the end" if recipe.recompute_norm else "running"
    )
    return {
        "length": f"{recipe.steps:,} steps of {recipe.batch_size} images",
        "optimizer": f"SGD, momentum {recipe.momentum:g}, "
        f"weight decay {recipe.weight_decay:g} on {decayed}"
        + ("" if recipe.clip is None else f", gradient norm clipped at {recipe.clip:g}"),
        "rate": _rate_in_words(recipe),
        "images": ", ".join(views),
        "batch norm": norm,
        "measured": f"log every {recipe.log_every:,} steps, test {recipe.test_every:,}, "
        f"gradients and weights {recipe.probe_every:,}, checkpoint {recipe.checkpoint_every:,}",
    }


def _print_recipe(
    recipe: config.Recipe, rates: Sequence[schedule.Stretch], scripted: Sequence[str]
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = _console(100)
    settings = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    for key, value in _recipe_in_words(recipe).items():
        settings.add_row(Text(key, style="bold"), Text(value))
    console.print(Text(f"recipe {recipe.name}\n"))
    console.print(settings)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("from step", "to step", "rate", "why"):
        table.add_column(
            heading, justify="left" if heading == "why" else "right", no_wrap=heading != "why"
        )
    for stretch in rates:
        cells = (f"{stretch.step:,}", f"{stretch.until - 1:,}", f"{stretch.lr:g}", stretch.why)
        table.add_row(*map(Text, cells))
    console.print(table)
    for sentence in scripted:
        console.print(Text(f"  {sentence}"))


def _write_recipe_figure(
    path: Path, recipe: config.Recipe, rates: Sequence[schedule.Stretch], scripted: Sequence[str]
) -> None:
    import pandas as pd

    from resnetlab import files, plots

    light = "light" if path.suffix == ".png" else "neutral"
    frame = pd.DataFrame([stretch._asdict() for stretch in rates])
    figure = plots.learning_rate(frame, recipe.name, "; ".join(scripted), theme=light)  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        files.atomic_write(path, figure.to_html(config=plots.CONFIG).encode())
    else:
        files.atomic_write(path, _png(figure))
