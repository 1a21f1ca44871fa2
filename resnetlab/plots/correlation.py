"""How alike gradients at neighbouring inputs are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from resnetlab.plots.style import _SHORTCUT_COLOURS, _SHORTCUT_ORDER, Theme, _finish, conditions, empty


def gradient_correlation(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Mean cosine of the gradients at neighbouring inputs against depth: every seed, and the mean.

    `frame` has the columns of `store.IDENTITY` and value (`probes.gradient_correlation`, its entries
    beside the diagonal averaged).
    """
    values = frame.dropna(subset=["value"]) if len(frame) else frame
    if values.empty:
        return empty("No correlation of gradients measured yet.", theme)
    figure = go.Figure()
    for shortcut in (s for s in _SHORTCUT_ORDER if (values["shortcut"] == s).any()):
        own = values[values["shortcut"] == shortcut]
        name = "plain" if shortcut == "none" else f"residual ({shortcut})"
        colour, mean = _SHORTCUT_COLOURS[shortcut], own.groupby("depth")["value"].mean()
        figure.add_scatter(
            x=mean.index,
            y=mean,
            mode="lines",
            name=f"{name}, mean",
            line={"color": colour, "width": 2.6, "dash": "dash" if shortcut == "none" else "solid"},
            hovertemplate=f"{name}, %{{x}} layers: mean %{{y:.3f}}<extra></extra>",
        )
        figure.add_scatter(
            x=own["depth"],
            y=own["value"],
            mode="markers",
            name=f"{name}, one seed each",
            customdata=own["seed"],
            marker={"color": colour, "size": 9, "opacity": 0.6},
            hovertemplate=f"{name}, %{{x}} layers, seed %{{customdata}}: %{{y:.3f}}<extra></extra>",
        )
    figure.add_hline(y=0, line={"dash": "dot", "color": "#78808c"})
    figure.update_xaxes(title_text="depth (weighted layers)", tickvals=sorted(values["depth"].unique()))
    figure.update_yaxes(title_text="cosine", range=[min(-0.12, values["value"].min() - 0.05), 1.04])
    title = "How alike are the gradients at neighbouring inputs?"
    return _finish(figure, title, theme, subtitle=conditions(values))


def correlation_matrices(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Cosine of the gradients at every pair of points of a segment, a panel a network, one scale.

    `frame` has the columns of `store.IDENTITY`, i and j (0-based points) and value
    (`probes.gradient_correlation`). At most six networks, plain before residual.
    """
    if frame.empty:
        return empty("No correlation of gradients measured yet.", theme)
    runs = frame[["family", "depth", "network", "seed"]].drop_duplicates()
    runs = runs.sort_values(["family", "depth", "network", "seed"]).head(6)
    columns = min(3, len(runs)) if len(runs) != 4 else 2
    rows = -(-len(runs) // columns)
    titles = [f"{run.network}, seed {run.seed}" for run in runs.itertuples()]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, horizontal_spacing=0.07, vertical_spacing=0.16
    )
    for index, run in enumerate(runs.itertuples()):
        own = frame[(frame["network"] == run.network) & (frame["seed"] == run.seed)]
        grid = own.pivot_table(index="i", columns="j", values="value", dropna=False)
        figure.add_heatmap(
            x=np.asarray(grid.columns, dtype=int) + 1,
            y=np.asarray(grid.index, dtype=int) + 1,
            z=grid.to_numpy().round(3),
            coloraxis="coloraxis",
            hovertemplate="points %{x} and %{y}: cosine %{z:.2f}<extra></extra>",
            row=index // columns + 1,
            col=index % columns + 1,
        )
    scale = {"colorscale": "RdBu", "cmin": -1, "cmax": 1, "colorbar": {"title": {"text": "cosine"}}}
    figure.update_layout(coloraxis=scale)
    figure.update_xaxes(title_text="point on the segment", row=rows)
    figure.update_yaxes(title_text="point", col=1)
    title = "Cosine of the gradients at every two points between two images"
    figure = _finish(figure, title, theme, height=130 + 330 * rows, subtitle=conditions(frame))
    return figure.update_layout(margin_b=60)
