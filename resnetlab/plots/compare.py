"""Any quantity of any runs against any axis, averaged over seeds or one by one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from resnetlab.plots import draw, series, style
from resnetlab.plots.style import Look, empty, finish

_MOST_DRAWN = 200_000  # points of one figure: a browser draws them in about a second
_MOST_IN_LEGEND = 40
_FADED, _FAINT = 0.2, 0.45  # opacities


def compare_curves(
    lines: Sequence[series.Line],
    quantity: str,
    axis: series.Axis = "step",
    *,
    log_x: bool = False,
    log_y: bool = False,
    smoothing: float = 0.0,
    bold: Collection[str] = (),
    subtitle: str = "",
) -> go.Figure:
    """Curves of any runs in one panel: one colour per line, its runs thin under their mean and band.

    `lines` as `series.line` makes them. With `smoothing` (only to say it and to draw the raw values
    faint beneath: the lines hold both). `bold`: names of lines to stand out, the others fade. Curves
    are thinned to `series.MOST_POINTS`, fewer if there are very many; `layout.meta` says the points
    of runs that are `shown` and `logged`, and how many of the latter a log axis cannot hold (`off`).
    """
    drawn = [line for line in lines if any(len(curve) for curve in line.curves)]
    if not drawn:
        return empty(f"No values of {quantity} logged yet.")
    title = series.QUANTITIES.get(quantity, quantity)
    figure = draw.panels((), series.AXES[axis], title)
    chart, (looks, words) = _Chart(figure, axis, log_y, smoothing > 0), _looks(drawn, quantity)
    for index, (line, look) in enumerate(zip(drawn, looks, strict=True)):
        more = {"legendgroup": str(index), "opacity": _FADED if bold and line.name not in bold else 1.0}
        chart.add_runs(line, look, more)
        if line.averaged:
            chart.add_mean(line, look, more)
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
    # What the legend needs: rows of about 950 pixels, 8 pixels a letter and the sample before it.
    rows = -(-sum(8 * len(line.name) + 60 for line in drawn) // 950)
    in_legend = len(drawn) <= _MOST_IN_LEGEND
    room = 22 * (min(rows, 20) - 1) if in_legend else 0
    title = title[0].upper() + title[1:]
    finish(figure, title, escape(subtitle, quote=False), words, 520 + room, 104 + room)
    # Zoom and hidden lines stay while the same axes are drawn, whatever is added to them.
    kept = f"{quantity} {axis} {log_x} {log_y}"
    return figure.update_layout(showlegend=in_legend, uirevision=kept, meta=counts)


def _looks(lines: Sequence[series.Line], quantity: str) -> tuple[list[Look], list[str]]:
    """Colour is depth where that tells the lines apart; dashed is training, as in all error curves."""
    by_depth = [style.depth_colour(line.depth) for line in lines]
    apart = len(set(by_depth)) == len(lines)
    dashes = (style.error_look(quantity, "").dash, *style.FURTHER_DASHES)
    width = style.MAIN if len(lines) <= 12 else style.TRAIN
    looks = []
    for index, colour in enumerate(by_depth):
        dash = dashes[0 if apart else index // len(style.PALETTE) % len(dashes)]
        looks.append(Look(colour if apart else style.palette(index), dash, width))
    words = ["colour: depth" if apart else "colour: one of the lines below"]
    words += ["dashed: training"] if dashes[0] == style.DASHED else []
    words += ["other dashes: the colours again"] if len({look.dash for look in looks}) > 1 else []
    return looks, words + (["thin: single runs"] if any(line.averaged for line in lines) else [])


def _in_hover(name: str) -> str:
    """Text for legends and tooltips: plotly reads tags there, and %{...} as a value."""
    return escape(name).replace("%{", "&#37;{")


@dataclass(frozen=True)
class _Chart:
    """The one panel, and what holds for every line of it."""

    figure: go.Figure
    axis: series.Axis
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
            group = {"legendgroup": more["legendgroup"], "alpha": 0.16 * more["opacity"]}
            draw.band(self.figure, band["x"], band["low"], band["high"], look.colour, **group)
        if self.raw:
            self._add_raw(line.raw["x"], line.raw["mean"], look, more)
        keywords = more | {"customdata": mean[["step", "low", "high"]].to_numpy()}
        who = f"{name}, mean of {n}{spread}"
        young = f" + {line.young} training" if line.young else ""
        smooth = self._positive(mean["mean"], line.raw["mean"])
        self._add(mean["x"], smooth, look, f"{name} (n = {n}{young})", who, **keywords)
