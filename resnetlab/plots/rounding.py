"""How far gradients are from float64's, and errors by precision and length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go

from resnetlab import verdict
from resnetlab.plots import draw, style
from resnetlab.plots.style import DASHED_PLAIN, Keywords, conditions, empty, finish
from resnetlab.verdict import words

_AXIS = "error (% of the gradient)"
_NOTHING = "No gradient error measured yet."
_LIMIT = "dotted: an error as large as the gradient"


def gradient_error_by_layer(frame: pd.DataFrame) -> go.Figure:
    """How far gradients are from float64's, by layer, a panel an arithmetic, one logarithmic axis.

    `frame` has the columns of `store.IDENTITY`, arithmetic, layer (0-based), relative and norm
    (`probes.gradient_error`). Lines are geometric means over seeds. Dotted: an error as large as the
    gradient.
    """
    positive = frame[frame["relative"] > 0] if len(frame) else frame
    if positive.empty:
        return empty(_NOTHING)
    ways = list(positive["arithmetic"].unique())
    columns = len(ways) if len(ways) < 4 else 2
    rows = -(-len(ways) // columns)
    shared = {"shared_xaxes": True, "shared_yaxes": "all", "vertical_spacing": 0.09}
    figure = draw.panels(ways, "layer", _AXIS, rows=rows, columns=columns, **shared)
    shown, colours = draw.networks(positive.assign(percent=100 * positive["relative"]))
    for network in shown:
        for way, place in zip(ways, draw.places(len(ways), columns), strict=True):
            part = network.rows[network.rows["arithmetic"] == way]
            draw.by_layer(figure, network, part, way, "percent", **place)
    draw.limit(figure, 100 * verdict.AS_LARGE)
    draw.log_axis(figure, dtick=2)
    figure.update_yaxes(automargin=True, col=1)
    title, legend = "Rounding: gradients of one batch against float64", [colours, DASHED_PLAIN, _LIMIT]
    return finish(figure, title, conditions(positive), legend, 220 + 300 * rows)


def gradient_error_by_depth(frame: pd.DataFrame) -> go.Figure:
    """The same against depth: median over the layers, every seed, and the geometric mean; log axis.

    `frame` as for `gradient_error_by_layer`. Colour is the arithmetic.
    """
    positive = frame[frame["relative"] > 0] if len(frame) else frame
    if positive.empty:
        return empty(_NOTHING)
    medians = verdict.median_errors(positive)
    medians = medians.assign(percent=100 * medians["relative"])
    figure = draw.panels((), draw.DEPTH, _AXIS)
    figure.update_xaxes(tickvals=sorted(medians["depth"].unique()))
    for index, way in enumerate(medians["arithmetic"].unique()):
        # Where two agree the wider one shows beside the other.
        other: Keywords = {"colour": style.palette(index), "width": max(2.0, 6.5 - 1.5 * index)}
        for option, family, rows in draw.options(medians[medians["arithmetic"] == way]):
            look, name = style.option_look(option)._replace(**other), f"{way}, {family}"
            draw.mean_and_runs(figure, rows, "depth", "percent", look, name, way, log=True)
    draw.limit(figure, 100 * verdict.AS_LARGE)
    draw.log_axis(figure)
    title = "Rounding against depth: median error over the layers"
    legend = ["colour: arithmetic, marker: shortcut option", DASHED_PLAIN, style.MEANS, _LIMIT]
    return finish(figure, title, conditions(positive), legend, 540, below=130)


def error_by_condition(
    table: pd.DataFrame, by: Literal["precision", "steps_planned", "recipe"]
) -> go.Figure:
    """Final training error under two or more conditions: faint a seed each, and their mean.

    `table` as `store.table_of`; only finished runs are drawn, plain left, residual right.
    """
    finished = table[table["status"] == "finished"] if len(table) else table
    finished = finished.dropna(subset=["train_error"])
    if finished.empty:
        return empty("No finished run yet.")
    values, word = finished[by], str(by).removesuffix("_planned")
    every = list(verdict.PRECISIONS if by == "precision" else sorted(values.unique(), key=_in_order))
    if by == "recipe":
        named = _changes(every)
        values, every, word = values.map(named), list(named.values()), f"recipe {every[0]}"
    order = [value for value in every if (values == value).any()]
    labels = draw.in_words(values, order, "{:,}" if by == "steps_planned" else "{}")
    places = list(labels.cat.categories)
    shown, colours = draw.networks(finished.assign(place=labels), marked=True)
    families = [name for name in draw.FAMILIES if (finished["family"] == name).any()]
    figure = draw.panels(families, word, "final training error (%)")
    figure.update_xaxes(type="category", range=[-0.3, len(places) - 0.7])
    for network in shown:
        look, column = network.by_error("train_error"), families.index(network.family) + 1
        group: Keywords = {"legendgroup": network.name, "col": column, "mode": "lines+markers"}
        for seed, rows in network.rows.drop_duplicates(["place", "seed"]).groupby("seed"):
            errors = rows.set_index("place")["train_error"].reindex(places)
            who, faint = f"{network.name}, seed {seed}", look._replace(width=style.FAINT)
            draw.line(figure, places, errors, faint, None, who, opacity=0.45, **group)
        # Means of the same seeds side by side: those that are at every place the network is at.
        seeds = network.rows.groupby("seed")["place"].nunique()
        paired = network.rows["seed"].isin(seeds.index[seeds == seeds.max()])
        by_place = network.rows[paired].groupby("place", observed=True)["train_error"]
        means = by_place.mean().reindex(places)
        mean, who = look._replace(width=style.MAIN), f"{network.name}, mean"
        draw.line(figure, places, means, mean, network.name, who, **group)
    legend = [
        colours,
        "dashed: training",
        "faint: one seed each, strong: the mean of those at every place",
    ]
    what = "steps" if by == "steps_planned" else by
    return finish(figure, f"Final training error by {what}", conditions(finished), legend)


def _changes(recipes: Sequence[str]) -> dict[str, str]:
    """Label of a recipe -> what it changes in the first one, short enough to stand under an axis.

    The labels themselves, their changes below the names, where they are not changes of one recipe.
    """
    base, *others = recipes
    changes = [recipe.removeprefix(f"{base} (").removesuffix(")") for recipe in others]
    if any(change == recipe for change, recipe in zip(changes, others, strict=True)):
        return {name: name.replace(" (", "<br>(").replace(", ", ",<br>") for name in recipes}
    short = [words.changes(change).replace(", ", ",<br>") for change in changes]
    return dict(zip(recipes, ["as it is", *short], strict=True))


def _in_order(value: Any) -> tuple[Any, ...]:
    """Fewer steps before more; of recipes the one with the fewest changes, which is the shortest."""
    return (len(value), value) if isinstance(value, str) else (value,)
