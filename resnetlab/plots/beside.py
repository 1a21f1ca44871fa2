"""The paper's numbers and ours as a picture: a row per network, and whether the two stand alike."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from resnetlab.plots import draw, style
from resnetlab.plots.style import empty, finish
from resnetlab.verdict import order

# The sign of what `order.Claim.order` says of a network and the one above it, in words too.
_TICKS = {
    order.PAPERS: ("✓ as in the paper", style.GREEN),
    order.REVERSED: ("✗ reversed here", style.RED),
    order.TOO_FEW: ("· too few seeds", style.GREY),
    order.NEAR: ("· under 1 point", style.GREY),
    order.FLOOR: ("· nothing to order", style.GREY),
}
_OPEN = ("· not settled", style.GREY)


def beside_the_paper(rows: pd.DataFrame, error: str, ours: str, papers: str, apart: bool) -> go.Figure:
    """A row per network: the paper's value hollow, ours full with its deviation, a tick for the order.

    `rows` as `verdict.in_order`, `error` what is measured, `ours` and `papers` on which data. `apart`:
    the numbers may not be compared, so each has an axis of its own.
    """
    if rows.empty:
        return empty("The paper has no such number.")
    titles = ["the paper's", "ours"] if apart else ["the paper's and ours"]
    figure = draw.panels(titles, f"{error} (%)", "network", horizontal_spacing=0.04)
    depths = rows["network"].str.extract(r"-(\d+)")[0].astype(float)
    plain = rows["network"].str.startswith("plain")
    shapes = ["x" if is_plain else "circle" for is_plain in plain]
    colours = [style.GREY if pd.isna(depth) else style.depth_colour(int(depth)) for depth in depths]
    hollow = {"symbol": [f"{shape}-open" for shape in shapes], "size": 13, "color": colours}
    draw.points(
        figure,
        rows["paper"],
        rows["network"],
        hollow | {"line": {"width": 2}},
        "the paper",
        cliponaxis=False,
    )
    full = {"symbol": shapes, "size": 13, "color": colours}
    # An error has no negative values, whatever its deviation.
    spread: dict[str, Any] = {
        "type": "data",
        "array": rows["sd"],
        "arrayminus": rows[["sd", "ours"]].min(axis=1),
    }
    spread |= {"thickness": 1.5, "color": style.GREY}
    who = "ours, n = %{customdata}"
    place = {"col": len(titles), "error_x": spread, "customdata": rows["n"], "cliponaxis": False}
    draw.points(figure, rows["ours"], rows["network"], full, who, **place)
    for network, settled in rows.loc[rows["order"] != "", ["network", "order"]].to_numpy():
        text, colour = _TICKS.get(str(settled), _OPEN)
        words = {"text": text, "font": {"color": colour, "size": 13}, "showarrow": False}
        at = {"x": 1.01, "xref": "paper", "y": network, "xanchor": "left"}
        figure.add_annotation(words | at)
    # The order of the rows is the paper's, read downward.
    listed = {"type": "category", "categoryorder": "array", "categoryarray": [*rows["network"]][::-1]}
    figure.update_yaxes(**listed).update_xaxes(rangemode="tozero")
    legend = [
        "hollow: the paper, full: ours with ± sd",
        "colour: depth, cross: plain, circle: residual",
    ]
    legend += ["ticks: against the next shallower network of the family"]
    title = f"{error[0].upper()}{error[1:]}, the paper's and ours"
    subtitle = escape(f"the paper: {papers}; ours: {ours}")
    finish(figure, title, subtitle, legend, 200 + 30 * len(rows), below=60)
    return figure.update_layout(margin_r=150, margin_l=120, showlegend=False)
