"""How alike gradients at neighbouring inputs are."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from resnetlab.plots import draw, style
from resnetlab.plots.style import DASHED_PLAIN, conditions, empty, finish

_NOTHING = "No correlation of gradients measured yet."


def gradient_correlation(frame: pd.DataFrame) -> go.Figure:
    """Mean cosine of the gradients at neighbouring inputs against depth: every seed, and the mean.

    `frame` has the columns of `store.IDENTITY` and value (`probes.gradient_correlation`, its entries
    beside the diagonal averaged).
    """
    values = frame.dropna(subset=["value"]) if len(frame) else frame
    if values.empty:
        return empty(_NOTHING)
    figure = draw.panels((), draw.DEPTH, "cosine")
    figure.update_xaxes(tickvals=sorted(values["depth"].unique()))
    figure.update_yaxes(range=[min(-0.12, values["value"].min() - 0.05), 1.04])
    for option, name, rows in draw.options(values):
        draw.mean_and_runs(figure, rows, "depth", "value", style.option_look(option), name)
    draw.limit(figure, 0)
    title = "How alike are the gradients at neighbouring inputs?"
    legend = [style.BY_OPTION, DASHED_PLAIN, style.MEANS]
    return finish(figure, title, conditions(values), legend)


def correlation_matrices(frame: pd.DataFrame) -> go.Figure:
    """Cosine of the gradients at every pair of points of a segment, a panel per run, one scale.

    `frame` has the columns of `store.IDENTITY`, i and j (0-based points) and value
    (`probes.gradient_correlation`). At most six runs, plain before residual.
    """
    if frame.empty:
        return empty(_NOTHING)
    shown = draw.pick_runs(frame.assign(i=frame["i"] + 1, j=frame["j"] + 1))[:6]
    columns = min(3, len(shown)) if len(shown) != 4 else 2
    bar = {"title": {"text": "cosine"}}
    scale = {"colorscale": "RdBu", "cmin": -1, "cmax": 1, "colorbar": bar}
    titles = ("point on the segment", "point")
    figure = draw.maps(shown, columns, ("j", "i", "value"), scale, titles)
    title = "Cosine of the gradients at every two points between two images"
    legend, height = ["plain before residual, colour: cosine"], 130 + 330 * -(-len(shown) // columns)
    return finish(figure, title, conditions(frame), legend, height, below=60)
