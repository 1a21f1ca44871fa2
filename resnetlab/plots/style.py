"""What all figures share: colours, dashes, the frame of a figure, and the sizes of a hall."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from resnetlab.config import edit_of
from resnetlab.plots import series

# Okabe-Ito, which colour-blind readers can tell apart; the paper's depths keep one colour everywhere.
_DEPTH_COLOURS = {
    8: "#999999",
    14: "#0072B2",
    18: "#56B4E9",
    20: "#E69F00",
    26: "#7A5195",
    32: "#56B4E9",
    34: "#D55E00",
    38: "#8C6D31",
    44: "#009E73",
    50: "#009E73",
    56: "#D55E00",
    101: "#7A5195",
    110: "#CC79A7",
    152: "#8C6D31",
}
_SHORTCUT_COLOURS = {"none": "#D55E00", "A": "#0072B2", "B": "#009E73", "C": "#CC79A7"}
_OTHER_COLOURS = ("#0072B2", "#7A5195", "#8C6D31", "#999999", "#CC79A7")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SHORTCUT_ORDER = ("none", "A", "B", "C")
Theme = Literal["neutral", "light", "dark"]
# neutral is drawn on whatever page it stands on; light and dark are for files.
_THEMES: dict[Theme, tuple[str, str]] = {
    "neutral": ("rgba(0,0,0,0)", "#78808c"),
    "light": ("#ffffff", "#24292f"),
    "dark": ("#0d1117", "#e6edf3"),
}
_LINE = 26  # pixels a line of a title or subtitle takes at the usual size: 1.3 x 1.4 x 14
_GRID = "rgba(128,128,128,0.25)"
# For notebooks and HTML files: plotly's share button would upload the figure to a server.
CONFIG: dict[str, Any] = {"showSendToCloud": False, "displaylogo": False}


def depth_colour(depth: int) -> str:
    """The colour of a depth, the same in every figure."""
    return _DEPTH_COLOURS.get(depth, _OTHER_COLOURS[depth // 6 % len(_OTHER_COLOURS)])


def _edit_colours(networks: Iterable[str]) -> dict[str, str]:
    """edit -> its colour, for edited networks (`Run.surgery`): there depth does not tell them apart.

    A scale is dark at its lower and light at its upper end; "" (ordinary networks) is not among them.
    """
    edits = sorted({edit for name in networks if (edit := edit_of(name))}, key=_natural_order)
    return dict(zip(edits, _steps_of_colour(len(edits)), strict=True))


def _natural_order(text: str) -> list[float]:
    return [float(part) for part in re.findall(r"[0-9.]+(?:e-?[0-9]+)?", text)]


def _steps_of_colour(count: int) -> list[str]:
    """So many colours from dark to light (plotly's Plasma, its pale end left out)."""
    places = [0.8 * index / max(1, count - 1) for index in range(count)]
    triples = [re.findall(r"[0-9.]+", colour) for colour in sample_colorscale("Plasma", places)]
    return ["#" + "".join(f"{round(float(part)):02x}" for part in triple[:3]) for triple in triples]


def _rgba(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _finish(
    figure: go.Figure, title: str, theme: Theme, *, height: int = 460, subtitle: str = ""
) -> go.Figure:
    """House style: title left, horizontal legend below, one grid, hover by point."""
    background, ink = _THEMES[theme]
    text = f"<b>{title}</b>" + (
        f"<br><span style='font-size:13px'>{subtitle}</span>" if subtitle else ""
    )
    figure.update_layout(
        title={
            "text": text,
            "x": 0,
            "xref": "paper",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 30},
        },
        font={"size": 14, "color": ink, "family": "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"},
        paper_bgcolor=background,
        plot_bgcolor=background,
        height=height,
        margin={"l": 70, "r": 20, "t": 96, "b": 104},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        hoverlabel={"namelength": -1},
    )
    figure.update_xaxes(
        gridcolor=_GRID, zeroline=False, linecolor=_GRID, ticks="outside", tickcolor=_GRID
    )
    figure.update_yaxes(
        gridcolor=_GRID, zeroline=False, linecolor=_GRID, ticks="outside", tickcolor=_GRID
    )
    return figure


def conditions(frame: pd.DataFrame) -> str:
    """Where the values of a frame come from: data set, recipe, precision, seeds. For subtitles.

    Names are escaped: plotly reads tags in titles, and a folder may be called anything.
    """
    if frame.empty:
        return "no runs"
    parts = [
        " and ".join(sorted(escape(str(value)) for value in frame[key].unique()))
        for key in ("data", "recipe")
    ]
    precisions = sorted(frame["precision"].unique())
    seeds = frame.groupby("network")["seed"].nunique()
    count = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    noun = "seed" if count == "1" else "seeds"
    kinds = frame["recipe"].nunique()  # a title has no room for the names of many
    recipe = f"recipe {parts[1]}" if kinds < 3 else f"{kinds} recipes"
    return f"{parts[0]}, {recipe}, {' and '.join(precisions)}, {count} {noun} a network"


def empty(message: str, theme: Theme = "neutral") -> go.Figure:
    """A figure that says why there is nothing to draw."""
    figure = go.Figure()
    figure.add_annotation(text=message, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    return _finish(figure, "", theme, height=220)


def _over_seeds(frame: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """step -> mean, min, max and n over the seeds that have the value there."""
    values = frame.dropna(subset=[quantity])
    out = values.groupby("step")[quantity].agg(["mean", "min", "max", "count"]).reset_index()
    # A step that only some seeds have reached would bend the mean: keep the steps all have.
    return out[out["count"] == out["count"].max()] if len(out) else out


def _in_order(column: pd.Series[Any]) -> pd.Series[Any]:
    return column.map(_SHORTCUT_ORDER.index) if column.name == "shortcut" else column


def _log_range(values: pd.Series) -> tuple[float, float]:
    """Smallest and largest decade that hold every positive value."""
    positive = values[values > 0]
    if positive.empty:
        return -1.0, 0.0
    low, high = float(np.log10(positive.min())), float(np.log10(positive.max()))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _one_depth(keys: pd.DataFrame) -> bool:
    """Whether the networks are several shortcut options of one depth: then colour tells the option."""
    options = keys[keys["shortcut"] != "none"]["shortcut"].nunique()
    return bool(keys["depth"].nunique() == 1 and options > 1)


def thin_lines(figure: go.Figure) -> tuple[int, int]:
    """Leave at most `series.MOST_POINTS` points of every line, in place: points left, points before.

    The lowest and highest of every stretch stay (`series.thin`), so no spike is lost; of a band the
    upper and the lower edge each. Markers, bars and heatmaps are left as they are.
    """
    shown = logged = 0
    for trace in figure.data:
        if trace.type != "scatter" or trace.x is None or "lines" not in (trace.mode or ""):
            continue
        x, y = np.asarray(trace.x), np.asarray(trace.y)
        logged += 0 if trace.fill else len(x)
        ends = [(0, len(x))]
        if trace.fill == "toself":
            half = len(x) // 2  # there along the upper edge, back along the lower one
            ends = [(0, half), (half, len(x))]
        if max(stop - start for start, stop in ends) > series.MOST_POINTS:
            kept = [start + series.thin(x[start:stop], y[start:stop]) for start, stop in ends]
            trace.x, trace.y = x[np.concatenate(kept)], y[np.concatenate(kept)]
        shown += 0 if trace.fill else len(trace.x)
    return shown, logged


def enlarge(figure: go.Figure, factor: float = 1.6) -> go.Figure:
    """The same figure for the back row of a hall: type, lines and markers larger, in place."""
    layout = figure.layout
    size = layout.font.size or 14
    layout.font.size = round(size * factor)
    head = re.fullmatch(
        r"<b>(.*)</b>(?:<br><span style='font-size:13px'>(.*)</span>)?", layout.title.text or "", re.S
    )
    more = 0  # lines
    if head:
        # Plotly breaks no lines by itself, and cuts what is wider than the page.
        title = textwrap.wrap(head[1], 36)
        said = [line for part in (head[2] or "").split("<br>") for line in textwrap.wrap(part, 74)]
        more = len(title) - 1 + len(said) - (head[2] or "").count("<br>") - bool(said)
        small = f"<br><span style='font-size:{round(13 * factor * 0.85)}px'>{'<br>'.join(said)}</span>"
        layout.title.text = f"<b>{'<br>'.join(title)}</b>" + (small if said else "")
    for note in layout.annotations:
        note.font.size = round((note.font.size or size) * factor)
    for trace in figure.data:
        if trace.type in ("scatter", "scattergl"):
            if trace.line.width != 0:  # 0 is the edge of a band
                trace.line.width = (trace.line.width or 2) * factor
            trace.marker.size = (trace.marker.size or 6) * factor if trace.mode != "lines" else None
    margin = layout.margin
    grown = {side: round((getattr(margin, side) or 0) * factor) for side in ("l", "t", "b")}
    grown["t"] += round(more * _LINE * factor)
    below = 0  # lines: the titles of panels side by side must not run into one another
    for axis in figure.select_xaxes():
        start, end = axis.domain or (0, 1)
        if axis.title.text and end - start < 0.6:
            said = textwrap.wrap(axis.title.text, 24)
            axis.title.text = "<br>".join(said)
            below = max(below, len(said) - 1)
    grown["b"] += round(below * size * factor * 1.3)
    more_room = grown["t"] + grown["b"] - (margin.t or 0) - (margin.b or 0)
    panels = len({axis.domain for axis in figure.select_yaxes()})
    height = (layout.height or 460) + more_room + 150 * (panels - 1)
    figure.update_layout(margin=grown, height=round(height))
    return figure


_FAMILY_COLOURS = {"plain": "#D55E00", "residual": "#0072B2"}
