"""The constructed solution: the same function as before, and training on from it."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from resnetlab.plots import draw, style
from resnetlab.plots.style import DASHED_TRAIN, Look, conditions, empty, finish

ENDS = {"test_error": "test error", "train_error_clean": "training error"}


WHICH = {"after": "layers added", "disturbed": "one added weight disturbed"}


def same_function(frame: pd.DataFrame) -> go.Figure:
    """The largest change of a logit in the built networks: layers added, and one weight disturbed.

    `frame` as `verdict.on_same_function`. The axis is logarithmic; no change at all has a place of its
    own below it.
    """
    rows = frame[frame["which"].isin(list(WHICH))] if len(frame) else frame
    if rows.empty:
        return empty("Nothing built yet.")
    low, high = draw.log_range(rows["logits"])
    nothing = 10.0 ** (math.floor(low) - 1)
    figure = draw.panels((), "network", "largest change of a logit")
    for which, word in WHICH.items():
        part = rows[rows["which"] == which]
        height = part["logits"].where(part["logits"] > 0, nothing)
        # As a dashed line would be, what is held against the other is hollow.
        look = Look(style.palette(0), style.SOLID if which == "after" else style.DASHED)
        draw.runs(figure, part, part["built"], height, look, word, name=word, size=12)
    powers = range(math.ceil(low), math.floor(high) + 1, max(1, round((high - low) / 5)))
    figure.update_xaxes(type="category")
    figure.update_yaxes(
        type="log",
        range=[math.floor(low) - 1.4, high + 0.4],
        tickvals=[nothing, *(10.0**power for power in powers)],
        ticktext=["none", *(f"10<sup>{power}</sup>" for power in powers)],
    )
    legend = ["full: layers added", "hollow: one added weight disturbed", "points: runs"]
    return finish(figure, "What added layers change", conditions(rows), legend)


def trained_on(frame: pd.DataFrame) -> go.Figure:
    """Error after training a constructed solution on, by learning rate: plain left, residual right.

    `frame` has the columns of `store.IDENTITY`, lr, train_error_clean and test_error in percent, and
    start_train_error_clean, the solution's own training error, which stands as a dotted line.
    """
    if frame.empty:
        return empty("Nothing trained on yet.")
    families = [name for name in draw.FAMILIES if (frame["family"] == name).any()]
    figure = draw.panels(families, "learning rate", "error (%)")
    frame = frame.assign(lr=draw.in_words(frame["lr"], sorted(frame["lr"].unique()), "{:g}"))
    rates = list(frame["lr"].cat.categories)
    order = {"categoryorder": "array", "categoryarray": rates}
    figure.update_xaxes(type="category", title_standoff=20, **order)  # else it meets the labels
    for column, family in enumerate(families, start=1):
        rows = frame[frame["family"] == family]
        colour = style.depth_colour(int(rows["depth"].max()))
        for quantity, word in ENDS.items():
            look, name = style.error_look(quantity, colour), f"{family}, {word}"
            draw.mean_and_runs(figure, rows, "lr", quantity, look, name, word, row=1, col=column)
        before = [rows["start_train_error_clean"].mean()] * len(rates)
        look, name = Look(style.GREY, style.DOTTED, style.TRAIN), "training error before"
        draw.line(figure, rates, before, look, name, mode="lines", col=column)
    legend = ["colour: depth", DASHED_TRAIN, "dotted: training error before", style.MEANS]
    return finish(figure, "After training on", conditions(frame), legend)
