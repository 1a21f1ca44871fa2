"""The loss along a line and over a plane of weights."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from resnetlab.plots.style import Theme, _finish, _log_range, conditions, depth_colour, empty


def loss_lines(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Loss against the distance along a line of weights, a line a run, log axis.

    `frame` has the columns of `store.IDENTITY`, distance and loss (`landscape.loss_on_plane`). Colour
    is depth, plain is dashed. Losses that are not finite are gaps.
    """
    if frame.empty or not np.isfinite(frame["loss"]).any():
        return empty("No loss along a line measured yet.", theme)
    figure = go.Figure()
    runs = frame[["depth", "family", "shortcut", "network", "seed", "study", "run"]].drop_duplicates()
    for run in runs.sort_values(["depth", "family", "shortcut", "seed"]).itertuples(index=False):
        own = frame[(frame["study"] == run.study) & (frame["run"] == run.run)].sort_values("distance")
        dash = "dash" if run.shortcut == "none" else "solid"
        figure.add_scatter(
            x=own["distance"],
            y=own["loss"].where(np.isfinite(own["loss"]) & (own["loss"] > 0)),
            mode="lines",
            connectgaps=False,
            name=f"{run.network}, seed {run.seed}",
            line={"color": depth_colour(int(str(run.depth))), "dash": dash, "width": 2.4},
            hovertemplate=f"{run.network} at %{{x:.2f}}: loss %{{y:.3g}}<extra></extra>",
        )
    figure.update_xaxes(title_text="distance (filter-normalised: 1 = as long as the weights)")
    figure.update_yaxes(title_text="mean cross-entropy", type="log", exponentformat="power", dtick=1)
    title = "Loss along a line through the trained weights"
    return _finish(figure, title, theme, subtitle=conditions(frame))


def loss_surfaces(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Loss over a plane through the trained weights, a panel a run, all on one logarithmic scale.

    `frame` has the columns of `store.IDENTITY`, x and y (distances along two directions) and loss
    (`landscape.loss_on_plane`). At most six runs, plain before residual, shallow before deep; the cross
    marks the trained weights. Losses that are not finite are holes.
    """
    positive = frame[np.isfinite(frame["loss"]) & (frame["loss"] > 0)] if len(frame) else frame
    if positive.empty:
        return empty("No loss over a plane measured yet.", theme)
    who = ["family", "depth", "network", "seed", "study", "run"]
    runs = frame[who].drop_duplicates().sort_values(who).head(6)
    columns = min(2 if len(runs) in (2, 4) else 3, len(runs))
    rows = -(-len(runs) // columns)
    titles = [f"{run.network}, seed {run.seed}" for run in runs.itertuples()]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, horizontal_spacing=0.08, vertical_spacing=0.16
    )
    low, high = _log_range(positive["loss"])
    for index, run in enumerate(runs.itertuples()):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        own = frame[(frame["study"] == run.study) & (frame["run"] == run.run)]
        grid = own.pivot_table(index="y", columns="x", values="loss", dropna=False)
        losses = grid.to_numpy(dtype=float)
        good = np.isfinite(losses) & (losses > 0)
        exponent = np.log10(losses, where=good, out=np.full_like(losses, np.nan))
        figure.add_contour(
            x=grid.columns,
            y=grid.index,
            z=np.round(exponent, 4),
            customdata=np.where(good, losses, np.nan),
            coloraxis="coloraxis",
            contours={"start": low, "end": high, "size": (high - low) / 16},
            line={"width": 0.6},
            hovertemplate="at (%{x:.2f}, %{y:.2f}): loss %{customdata:.3g}<extra></extra>",
            **place,
        )
        figure.add_scatter(
            x=[0],
            y=[0],
            mode="markers",
            marker={"symbol": "cross-thin", "size": 12, "line": {"width": 2.5, "color": "#D55E00"}},
            showlegend=False,
            hovertemplate="the trained weights<extra></extra>",
            **place,
        )
    ticks = np.linspace(low, high, 6)
    bar = {
        "title": {"text": "loss"},
        "tickvals": ticks,
        "ticktext": [f"{10**tick:.2g}" for tick in ticks],
    }
    figure.update_layout(
        coloraxis={"colorscale": "Viridis", "cmin": low, "cmax": high, "colorbar": bar}
    )
    figure.update_xaxes(title_text="first direction", row=rows)
    figure.update_yaxes(title_text="second direction", col=1)
    title = "Loss over a plane through the trained weights (one scale, logarithmic)"
    figure = _finish(figure, title, theme, height=130 + 380 * rows, subtitle=conditions(frame))
    return figure.update_layout(margin_b=60)
