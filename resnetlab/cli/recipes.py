"""The verb `recipe`: a recipe in words, its learning rate as a table, and as a figure file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from typer import Argument, Option

from resnetlab import config, files, paper, plots
from resnetlab.cli.options import JsonOption, app, list_of
from resnetlab.cli.terminal import print_json, say, table
from resnetlab.config import Events, UsageError, schedule
from resnetlab.pages import pictures


@app.command()
def recipe(
    name: Annotated[str | None, Argument(help="(default: all of them, one line each)")] = None,
    warm_until: Annotated[
        int | None, Option(help="Script when the training error ends the warm-up")
    ] = None,
    drops: Annotated[
        str | None, Option(help="Script the steps of the plateaus, such as 150000,300000")
    ] = None,
    out: Annotated[str | None, Option(help="Write the figure: FILE.html or FILE.png")] = None,
    as_json: JsonOption = False,
) -> None:
    """What a recipe does: its settings in words, its learning rate as a table (--out: as a figure).

    Where the rate follows a run's own errors, the events are scripted, and said to be.
    """
    if name is None:
        if out is not None or warm_until is not None or drops is not None:
            raise UsageError("name a recipe: `resnetlab recipe` alone lists them")
        presets = config.RECIPES.values()
        if as_json:
            print_json([preset.model_dump(mode="json") for preset in presets])
            return
        for preset in presets:
            length = f"{preset.steps:>7,} steps of {preset.batch_size:<3}"
            print(f"{preset.name:<15} {length}  {_rate_in_words(preset)}")
        return
    chosen = config.recipe_named(name)
    events, scripted = _scripted(chosen, warm_until, list_of(drops, "--drops", int))
    rates = schedule.stretches(chosen, events)
    if out is not None and Path(out).suffix not in (".html", ".png"):
        raise UsageError(f"--out: a file that ends in .html or .png is needed, got {out!r}")
    if as_json:
        shown = [stretch._asdict() for stretch in rates]
        info: dict[str, Any] = {"name": chosen.name, "recipe": chosen.model_dump(mode="json")}
        info |= {"choice": chosen.choice and chosen.choice.model_dump(mode="json")}
        print_json(info | {"events": events._asdict(), "scripted": scripted, "rates": shown})
    else:
        _say_recipe(chosen, rates, scripted)
    if out is not None:
        _write_figure(Path(out), chosen, rates, scripted)
        if not as_json:
            print(out)


def _scripted(
    recipe: config.Recipe, warm_until: int | None, drops: Sequence[int] | None
) -> tuple[Events, list[str]]:
    """Events for the rules that look at errors, and a sentence each on where they come from."""
    sentences = []
    by_error = recipe.warmup_lr is not None and recipe.warmup_steps is None
    by_plateau = recipe.plateau_patience is not None
    if warm_until is not None and not by_error:
        raise UsageError(f"recipe {recipe.name!r} has no warm-up that an error ends")
    if drops is not None and not by_plateau:
        raise UsageError(f"recipe {recipe.name!r} does not wait for plateaus")
    if by_error:
        source = "--warm-until"
        if warm_until is None:
            warm_until, source = paper.WARM_UNTIL, 'the paper\'s "about 400 iterations" (Sec. 4.2)'
        what = f"end of the warm-up at step {warm_until:,}"
        sentences.append(f"{what}: scripted, {source}; a run decides itself")
    if by_plateau:
        source = "--drops"
        if drops is None:
            ratio = recipe.steps / paper.FIGURE_4_STEPS
            drops = [round(step * ratio) for step in paper.FIGURE_4_DROPS][: recipe.plateau_drops]
            source = "Figure 4 (15.0-15.5 and 30.0-30.5 x 10^4)"
            source += "" if ratio == 1 else ", in proportion to the steps"
        where = " and ".join(f"{step:,}" for step in drops) or "no step"
        sentences.append(f"plateaus at {where}: scripted, {source}; a run decides itself")
        if list(drops) != sorted(set(drops)) or len(drops) > recipe.plateau_drops:
            raise UsageError(f"--drops: at most {recipe.plateau_drops} steps that increase are needed")
    events = Events(warm_until, tuple(drops or ()))
    for option, step in (("--warm-until", warm_until), *(("--drops", step) for step in events.drops)):
        if step is not None and not 1 <= step <= recipe.steps:
            raise UsageError(f"{option}: {step} is not a step of 1 to {recipe.steps:,}")
    return events, sentences


def _rate_in_words(recipe: config.Recipe) -> str:
    lower, fall = f"divided by {1 / recipe.decay:g}", "constant"
    if recipe.milestones:
        fall = f"{lower} at {' and '.join(f'{at:,}' for at in recipe.milestones)}"
    elif recipe.plateau_patience is not None:
        whose = "the error on the validation set, which is tested on too"
        whose += " (the paper: 'when the error plateaus'),"
        if recipe.follows_held_out:
            whose = "the error on held-out training images"
        fall = (
            f"{lower} when {recipe.plateau_patience} tests in a row have not brought {whose} down by "
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
    } | ({} if recipe.choice is None else {"choice": str(recipe.choice)})


def _say_recipe(
    recipe: config.Recipe, rates: Sequence[schedule.Stretch], scripted: Sequence[str]
) -> None:
    words = _recipe_in_words(recipe).items()
    settings = table(("", ""), words, wrap=True, box=None, show_header=False)
    settings.columns[0].style = "bold"
    rows = [(f"{s.step:,}", f"{s.until - 1:,}", f"{s.lr:g}", s.why) for s in rates]
    shown = table((">from step", ">to step", ">rate", "why"), rows, wrap=True)
    say(f"recipe {recipe.name}\n", settings, shown, *(f"  {line}" for line in scripted), width=100)


def _write_figure(
    path: Path, recipe: config.Recipe, rates: Sequence[schedule.Stretch], scripted: Sequence[str]
) -> None:
    figure = plots.learning_rate(pd.DataFrame(rates), recipe.name, "; ".join(scripted))
    path.parent.mkdir(parents=True, exist_ok=True)
    content = figure.to_html(config=plots.CONFIG).encode()
    if path.suffix == ".png":
        (content,) = pictures.pngs([plots.themed(figure, "light")], width=1100, scale=1.5)
    files.atomic_write(path, content)
