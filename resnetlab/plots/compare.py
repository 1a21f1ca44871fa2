"""Any quantity of any runs against any axis, averaged over seeds or one by one."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from resnetlab.plots import draw, series, style
from resnetlab.plots.style import Look, empty, finish

_MOST_DRAWN = 200_000  # points of one figure: a browser draws them in about a second
_MOST_BELOW = 12  # lines in a legend below; more stand in a column that scrolls
_FADED, _FAINT = 0.2, 0.45  # opacities


def compare_curves(
    lines: Sequence[series.Line],
    quantity: str,
    axis: str = "step",
    *,
    log_x: bool = False,
    log_y: bool = False,
    smoothing: float = 0.0,
    bold: Collection[str] = (),
    baseline: str = "",
    looks: Mapping[str, Look] | None = None,
    subtitle: str = "",
) -> go.Figure:
    """Curves of any runs, a panel for each `Line.panel`: one look per line, its runs thin under their
    mean and band. Panels share both axes, and zoom together.

    `lines` as `series.line` makes them. With `smoothing` (only to say it and to draw the raw values
    faint beneath: the lines hold both). `bold`: names of lines to stand out, the others fade. Curves
    are thinned to `series.MOST_POINTS`, fewer if there are very many; `layout.meta` says the points
    of runs that are `shown` and `logged`, and how many of the latter a log axis cannot hold (`off`).
    `looks` are those of `looks_of` for these and perhaps more lines, so that a line looks the same
    whatever is filtered. With `baseline`, a name, the lines are differences to it.
    """
    drawn = [line for line in lines if any(len(curve) for curve in line.curves)]
    if not drawn:
        return empty(f"No values of {quantity} logged yet.")
    title = series.QUANTITIES.get(quantity, quantity)
    places = _panels(drawn)
    names = [escape(name, quote=False) for name in places if name]
    columns = min(3, len(places))
    grid: dict[str, Any] = {"rows": -(-len(places) // columns), "columns": columns}
    what = f"{title}, difference" if baseline else title
    figure = draw.panels(
        names, series.TITLES[axis], what, **grid, shared_xaxes="all", shared_yaxes="all"
    )
    chart, looks = _Chart(figure, axis, log_y, smoothing > 0), looks or looks_of(drawn, quantity)
    for index, line in enumerate(drawn):
        place = dict(zip(("row", "col"), places[line.panel], strict=True))
        more = {"legendgroup": str(index), "opacity": _FADED if bold and line.name not in bold else 1.0}
        chart.add_runs(line, looks[line.name], more | place)
        if line.averaged:
            chart.add_mean(line, looks[line.name], more | place)
    if baseline:
        figure.add_hline(y=0, line={"dash": style.DOTTED, "color": style.GREY})
    number = sum(len(line.curves) * (1 + (smoothing > 0)) + 4 * line.averaged for line in drawn)
    style.thin_lines(figure, max(100, min(series.MOST_POINTS, _MOST_DRAWN // number)), log=log_x)
    points = pd.concat([curve for line in drawn for curve in line.curves])
    off = (log_y & (points["y"] <= 0)) | (log_x & (points["x"] <= 0))
    shown = sum(len(trace.x) for trace in figure.data if trace.meta == "run")
    counts = {"shown": shown, "logged": len(points), "off": int(off.sum())}
    # Every label whole: a 2 between 10 and 100 may be read as two. 9k, as 8000 and 9000 would touch.
    labels = {"automargin": True, "minorloglabels": "complete"}
    short = {"tickformat": "~s"} if log_x and axis in ("step", "images") else {}
    figure.update_xaxes(type="log" if log_x else "linear", **labels, **short)
    figure.update_yaxes(type="log" if log_y else "linear", rangemode="normal", **labels)
    title = f"{title[0].upper()}{title[1:]}" + (f", minus that of {baseline}" if baseline else "")
    words = _words(drawn, looks, quantity)
    if (
        len(drawn) <= _MOST_BELOW
    ):  # rows of about 950 pixels, 8 pixels a letter and the sample before it
        room = 22 * (-(-sum(8 * len(line.name) + 60 for line in drawn) // 950) - 1)
        legend: dict[str, Any] = {}
    else:  # a column of its own, which scrolls
        room = 0
        legend = {"orientation": "v", "x": 1.01, "y": 1, "xanchor": "left", "yanchor": "top"}
        legend["yref"] = "paper"
    height = 520 + room + 260 * (grid["rows"] - 1)
    finish(figure, escape(title, quote=False), escape(subtitle, quote=False), words, height, 104 + room)
    figure.update_layout(legend=legend, showlegend=True)
    # Zoom and hidden lines stay while the same axes are drawn, whatever is added to them.
    kept = f"{axis} {log_x}"
    figure.update_xaxes(uirevision=kept)
    figure.update_yaxes(uirevision=f"{quantity} {log_y} {bool(baseline)}")
    return figure.update_layout(uirevision=kept, meta=counts)


def _panels(lines: Sequence[series.Line]) -> dict[str, tuple[int, int]]:
    """Row and column of each panel, in the order of the lines, at most three beside one another."""
    names = dict.fromkeys(line.panel for line in lines)
    return {name: (index // 3 + 1, index % 3 + 1) for index, name in enumerate(names)}


def looks_of(lines: Sequence[series.Line], quantity: str) -> dict[str, Look]:
    """line name -> its look: as everywhere, colour is depth, the marker the shortcut option.

    The marker is there where several options have one depth. Lines that are still alike get further
    dashes. Lines of no one network (grouped by a recipe, say) take the palette in turn.
    """
    one_network = all(line.shortcut for line in lines)
    options = {(line.depth, line.shortcut) for line in lines}
    marked = len({depth for depth, _ in options}) < len(options)
    dashes = (style.error_look(quantity, "").dash, *style.FURTHER_DASHES)
    width = style.MAIN if len(lines) <= _MOST_BELOW else style.TRAIN
    taken: Counter[tuple[str, str]] = Counter()
    looks = {}
    for index, line in enumerate(lines):
        colour = style.depth_colour(line.depth) if one_network else style.palette(index)
        symbol = style.SHORTCUT_MARKERS[line.shortcut] if one_network and marked else None
        alike = taken[colour, symbol or ""]
        taken[colour, symbol or ""] += 1
        looks[line.name] = Look(colour, dashes[alike % len(dashes)], width, symbol)
    return looks


def _words(lines: Sequence[series.Line], looks: Mapping[str, Look], quantity: str) -> list[str]:
    """What colours, dashes and markers mean here."""
    shown = [looks[line.name] for line in lines]
    usual = style.error_look(quantity, "").dash
    words = [
        "colour: depth" if all(line.shortcut for line in lines) else "colour: one of the lines below"
    ]
    words += ["marker: shortcut option"] if any(look.symbol for look in shown) else []
    words += ["dashed: training"] if usual == style.DASHED else []
    words += ["other dashes: the colours again"] if {look.dash for look in shown} - {usual} else []
    return words + (["thin: single runs"] if any(line.averaged for line in lines) else [])


def swatch(look: Look) -> str:
    """A line's look as a small picture for a table: the address of an SVG that needs no network."""
    dash = {style.SOLID: "", style.DASHED: "8 5", style.DOTTED: "2 4"}.get(look.dash, "12 4 3 4")
    marks = {
        "circle": '<circle cx="24" cy="8" r="5"/>',
        "square": '<rect x="19" y="3" width="10" height="10"/>',
        "triangle-up": '<path d="M24 2l6 11h-12z"/>',
        "x": '<path d="M19 3l10 10M29 3l-10 10" stroke-width="3"/>',
    }
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="48" height="16" fill="{look.colour}" '
        f'stroke="{look.colour}"><path d="M0 8h48" stroke-width="3" stroke-dasharray="{dash}"/>'
        f"{marks.get(look.symbol or '', '')}</svg>"
    )
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _in_hover(name: str) -> str:
    """Text for legends and tooltips: plotly reads tags there, and %{...} as a value."""
    return escape(name).replace("%{", "&#37;{")


@dataclass(frozen=True)
class _Chart:
    """The one panel, and what holds for every line of it."""

    figure: go.Figure
    axis: str
    log_y: bool
    raw: bool  # what was smoothed is drawn faint beneath

    def _add(self, x: Any, y: Any, look: Look, name: str | None, who: str, **more: Any) -> None:
        at = "" if self.axis == "step" else ", step %{customdata[0]:,}"
        draw.line(self.figure, x, y, look, name, f"{who}{at}", **more)

    def _positive(self, smooth: pd.Series[float], raw: pd.Series[float]) -> pd.Series[float]:
        """What a log axis may show of a smoothed line: nothing below the lowest value ever logged.

        A mean fades towards logged zeros without end, and 10^-104 % is no error that a run had.
        """
        if not (self.log_y and self.raw):
            return smooth
        return smooth.where(smooth >= raw[raw > 0].min())

    def _add_raw(self, x: Any, y: Any, look: Look, more: dict[str, Any]) -> None:
        faint = more | {"opacity": _FAINT * more["opacity"], "hoverinfo": "skip"}
        draw.line(self.figure, x, y, look._replace(width=style.HAIR), **faint)

    def add_runs(self, line: series.Line, look: Look, more: dict[str, Any]) -> None:
        """A line's runs: thin under their mean, or the one that the line is."""
        name, thin = _in_hover(line.name), look._replace(width=style.HAIR)
        for run, curve in zip(line.runs, line.curves, strict=True):
            if curve.empty:
                continue
            keywords = more | {"customdata": curve[["step"]].to_numpy(), "meta": "run"}
            if line.averaged:
                keywords["opacity"] *= _FAINT
                who = f"{name}, {_in_hover(run)}" if run else name
                smooth = self._positive(curve["line"], curve["y"])
                self._add(curve["x"], smooth, thin, None, who, **keywords)
                continue
            if self.raw:
                self._add_raw(curve["x"], curve["y"], look, more)
            self._add(
                curve["x"], self._positive(curve["line"], curve["y"]), look, name, name, **keywords
            )

    def add_mean(self, line: series.Line, look: Look, more: dict[str, Any]) -> None:
        """The mean of a line's runs over their spread."""
        mean, name, n = line.mean, _in_hover(line.name), int(line.mean["n"].iloc[0])
        band = mean.dropna(subset=["low", "high"])
        spread = " (%{customdata[1]:.4~g} to %{customdata[2]:.4~g})" if len(band) else ""
        if self.log_y:  # mean minus deviation may reach below 0, which has no place there: cut the band
            positive = [curve["y"][curve["y"] > 0].min() for curve in line.curves]
            floor = min((value for value in positive if value > 0), default=np.nan)
            band = band.assign(low=band["low"].clip(lower=floor))
            band = band[(band["low"] > 0) & (band["high"] >= band["low"])]
        if len(band) > 1:
            group = {key: more[key] for key in ("legendgroup", "row", "col")}
            group["alpha"] = 0.16 * more["opacity"]
            draw.band(self.figure, band["x"], band["low"], band["high"], look.colour, **group)
        if self.raw:
            self._add_raw(line.raw["x"], line.raw["mean"], look, more)
        keywords = more | {"customdata": mean[["step", "low", "high"]].to_numpy()}
        who = f"{name}, mean of {n}{spread}"
        young = f" + {line.young} training" if line.young else ""
        smooth = self._positive(mean["mean"], line.raw["mean"])
        self._add(mean["x"], smooth, look, f"{name} (n = {n}{young})", who, **keywords)
