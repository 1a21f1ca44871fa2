"""Layer responses (Figure 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from resnetlab import paper
from resnetlab.plots.style import Theme, _finish, conditions, depth_colour, empty


def layer_responses(
    responses: pd.DataFrame,
    papers: Sequence[paper.Curve] = (),
    *,
    theme: Theme = "neutral",
    log: bool = False,
) -> go.Figure:
    """Figure 7: deviation of each 3x3 layer's response; above in order, below sorted by magnitude.

    `responses` has the columns of `store.IDENTITY`, layer (0-based) and value
    (`probes.layer_responses`).
    Colour is depth, plain networks are dashed, as in the paper; seeds are averaged, layer by layer.
    `papers` are lines of the paper's own figure, drawn thin. `log` takes a logarithmic axis, for
    networks that differ by orders of magnitude.
    """
    if responses.empty and not papers:
        return empty("No layer responses measured yet.", theme)
    figure = make_subplots(
        2,
        1,
        vertical_spacing=0.2,
        subplot_titles=["in the order of the layers", "sorted by magnitude"],
    )
    lines: list[tuple[str, int, bool, np.ndarray[Any, Any], np.ndarray[Any, Any], str]] = []
    for curve in papers:
        depth, plain = int(curve.network.rpartition("-")[2]), curve.network.startswith("plain")
        name = f"{curve.network}, the paper (CIFAR-10)"
        lines.append((name, depth, plain, np.array(curve.x), np.array(curve.y), "paper"))
    if len(responses):
        keys = responses[["depth", "shortcut", "network"]].drop_duplicates()
        for depth, shortcut, network in keys.sort_values(["depth", "shortcut"]).itertuples(index=False):
            own = responses[responses["network"] == network]
            mean = own.groupby("layer")["value"].mean()
            name = f"{network} (n = {own[['study', 'run']].drop_duplicates().shape[0]})"
            x, y = mean.index.to_numpy() + 1, mean.to_numpy()
            lines.append((name, depth, shortcut == "none", x, y, "ours"))
    for name, depth, plain, x, y, whose in lines:
        style: dict[str, Any] = {"color": depth_colour(depth), "dash": "dash" if plain else "solid"}
        style |= {"width": 2.6 if whose == "ours" else 1.1}
        ordered = np.sort(y)[::-1]
        for row, (at, values) in enumerate(((x, y), (np.arange(1, len(y) + 1), ordered)), start=1):
            what = "layer" if row == 1 else "rank"
            figure.add_scatter(
                x=at,
                y=values,
                mode="lines",
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                opacity=1 if whose == "ours" else 0.75,
                line=style,
                hovertemplate=f"{name}, {what} %{{x}}: %{{y:.3g}}<extra></extra>",
                row=row,
                col=1,
            )
    figure.update_xaxes(title_text="layer (1 = first convolution)", row=1)
    figure.update_xaxes(title_text="rank (1 = largest response)", row=2)
    figure.update_yaxes(title_text="standard deviation", rangemode="tozero")
    if log:
        figure.update_yaxes(type="log", dtick="D2")
    subtitle = conditions(responses) if len(responses) else "The paper's own lines; none of ours."
    title = "Layer responses after batch norm: dashed plain, solid residual"
    return _finish(figure, title, theme, height=800, subtitle=subtitle).update_layout(margin_b=170)
