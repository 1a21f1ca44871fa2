"""The loss along a line and over a plane of weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from resnetlab.plots import draw, style
from resnetlab.plots.style import DASHED_PLAIN, Keywords, conditions, empty, finish

_LINE = "Loss along a line through the trained weights"


def loss_lines(frame: pd.DataFrame) -> go.Figure:
    """Loss against the distance along a line of weights, a line per run, log axis.

    `frame` has the columns of `store.IDENTITY`, distance and loss (`landscape.loss_on_plane`). Losses
    that are not finite are gaps.
    """
    if frame.empty or not np.isfinite(frame["loss"]).any():
        return empty("No loss along a line measured yet.")
    distance = "distance (filter-normalised: 1 = as long as the weights)"
    figure = draw.panels((), distance, "mean cross-entropy")
    shown, colours = draw.networks(frame)
    for network in shown:
        for _, name, rows in draw.pick_runs(network.rows.sort_values("distance")):
            loss = rows["loss"].where(np.isfinite(rows["loss"]) & (rows["loss"] > 0))
            draw.line(figure, rows["distance"], loss, network.by_family(), name, connectgaps=False)
    draw.log_axis(figure)
    return finish(figure, _LINE, conditions(frame), [colours, DASHED_PLAIN])


def loss_slices(frame: pd.DataFrame) -> go.Figure:
    """`loss_lines` along the first direction, a slider through the second; first seen: the weights'.

    `frame` as `loss_surfaces`. All lines have one axis, so heights compare from slice to slice.
    """
    if frame.empty or not np.isfinite(frame["loss"]).any():
        return empty("No loss over a plane measured yet.")
    lines = {
        f"{y:.2f}": loss_lines(rows.rename(columns={"x": "distance"})) for y, rows in frame.groupby("y")
    }
    at = int(np.abs(np.sort(frame["y"].unique())).argmin())
    figure = draw.slider(lines, "along the second direction", at)
    title = figure.layout.title.text.replace(_LINE, "Loss along lines through the plane")
    return figure.update_layout(title_text=title)


def loss_surfaces(frame: pd.DataFrame) -> go.Figure:
    """Loss over a plane through the trained weights, a panel per run, all on one logarithmic scale.

    `frame` has the columns of `store.IDENTITY`, x and y (distances along two directions) and loss
    (`landscape.loss_on_plane`). At most six runs, plain before residual, shallow before deep; the cross
    marks the trained weights. Losses that are not finite are holes.
    """
    positive = frame[np.isfinite(frame["loss"]) & (frame["loss"] > 0)] if len(frame) else frame
    if positive.empty:
        return empty("No loss over a plane measured yet.")
    shown = draw.pick_runs(frame)[:6]
    columns = min(2 if len(shown) in (2, 4) else 3, len(shown))
    low, high = draw.log_range(positive["loss"])
    contours = {"start": low, "end": high, "size": (high - low) / 16}
    look: Keywords = {"type": "contour", "contours": contours, "line": {"width": 0.6}, "digits": 4}
    scale = draw.log_scale(positive["loss"], "loss", np.linspace(low, high, 6))
    titles = ("first direction", "second direction")
    figure = draw.maps(shown, columns, ("x", "y", "loss"), scale, titles, log=True, **look)
    edge = {"width": 2.5, "color": style.PALETTE[1]}
    cross = {"symbol": "cross-thin", "size": 12, "line": edge}
    for place in draw.places(len(shown), columns):
        draw.points(figure, [0], [0], cross, "the trained weights<extra></extra>", **place)
    title = "Loss over a plane through the trained weights"
    legend = ["plain before residual, colour: loss, log scale, cross: the trained weights"]
    height = 130 + 380 * -(-len(shown) // columns)
    return finish(figure, title, conditions(frame), legend, height, below=60)
