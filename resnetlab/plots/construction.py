"""Training on from the constructed solution."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from resnetlab.plots import draw, style
from resnetlab.plots.style import DASHED_TRAIN, Look, conditions, empty, finish

ENDS = {"test_error": "test error", "train_error_clean": "training error"}


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
