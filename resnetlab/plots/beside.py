"""The paper's numbers and ours as a picture: a row per network, and whether the two stand alike."""

from __future__ import annotations

import textwrap
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from resnetlab.plots import draw, style
from resnetlab.plots.style import empty, finish
from resnetlab.verdict import claims, order

# The sign of what `order.Claim.order` says of a network and the one above it, in words too.
_TICKS = {
    order.PAPERS: ("✓ as in the paper", style.GREEN),
    order.REVERSED: ("✗ reversed here", style.RED),
    order.TOO_FEW: ("· too few seeds", style.GREY),
    order.MISSING: ("· seeds are missing", style.GREY),
    order.LOST: ("· a seed against it", style.GREY),
    order.NEAR: ("· under 1 point", style.GREY),
    order.FLOOR: ("· nothing to order", style.GREY),
}
_OPEN = ("· not settled", style.GREY)
_SETTLED = {claims.SHOWN: style.GREEN, claims.REVERSED: style.RED}


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


def beside_the_claims(rows: pd.DataFrame, ours: str) -> go.Figure:
    """A row per claim: the paper's difference hollow, ours full with its interval, what that settles.

    `rows` has claim and pair (words), paper, mean, low and high (points; NaN where there is none) and
    settles; `ours` says on which data. The paper's and ours have an axis each.
    """
    if rows.empty:
        return empty("These runs ask none of the claims.")
    figure = draw.panels(["the paper's", "ours"], "points", "claim", horizontal_spacing=0.06)
    names = []
    for claim, word in rows[["claim", "settles"]].to_numpy():
        bold = [f"<b>{escape(line)}</b>" for line in textwrap.wrap(word, 24)]
        names.append("<br>".join([*map(escape, textwrap.wrap(claim, 24)), *bold]))
    hollow = {"symbol": "circle-open", "size": 13, "color": style.GREY, "line": {"width": 2}}
    pairs: dict[str, Any] = {"customdata": rows["pair"], "cliponaxis": False}
    draw.points(figure, rows["paper"], names, hollow, "the paper, %{customdata}", **pairs)
    colours = [_SETTLED.get(str(word), style.GREY) for word in rows["settles"]]
    reach: dict[str, Any] = {"type": "data", "array": rows["high"] - rows["mean"]}
    reach |= {"thickness": 2, "color": style.GREY}
    full = {"symbol": "circle", "size": 13, "color": colours}
    draw.points(figure, rows["mean"], names, full, "ours, %{customdata}", col=2, error_x=reach, **pairs)
    listed = {"type": "category", "categoryorder": "array", "categoryarray": names[::-1]}
    figure.update_yaxes(**listed).update_xaxes(rangemode="tozero", zeroline=True)
    figure.add_vline(x=0, line={"dash": style.DOTTED, "color": style.GREY})
    legend = ["hollow: the paper, full: ours with the 95 % interval of the mean"]
    finish(
        figure, "The paper's claims about depth", escape(ours), legend, 190 + 90 * len(rows), below=60
    )
    return figure.update_layout(margin_r=20, margin_l=225, showlegend=False)
