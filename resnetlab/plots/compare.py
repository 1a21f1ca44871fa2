"""Any quantity of any runs against any axis, averaged over seeds or one by one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from resnetlab.plots import series
from resnetlab.plots.style import _DASHES, Theme, _finish, _rgba, depth_colour, empty

# As many as can be told apart at a glance; then the same again, dashed.
_LINE_COLOURS = tuple("#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #7A5195 #8C6D31".split())
_MOST_DRAWN = 200_000  # points of one figure: a browser draws them in about a second
_MOST_IN_LEGEND = 40


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
    theme: Theme = "neutral",
) -> go.Figure:
    """Curves of any runs in one panel: one colour a line, its runs thin under their mean and band.

    `lines` as `series.line` makes them. With `smoothing` (only to say it and to draw the raw values
    faint beneath: the lines hold both). `bold`: names of lines to stand out, the others fade. Curves
    are thinned to `series.MOST_POINTS`, fewer if there are very many; `layout.meta` says the points
    of runs that are `shown` and `logged`, and how many of the latter a log axis cannot hold (`off`).
    """
    drawn = [line for line in lines if any(len(curve) for curve in line.curves)]
    if not drawn:
        return empty(f"No values of {quantity} logged yet.", theme)
    number = sum(len(line.curves) * (1 + (smoothing > 0)) + 4 * line.averaged for line in drawn)
    most = max(100, min(series.MOST_POINTS, _MOST_DRAWN // number))
    colours = [depth_colour(line.depth) for line in drawn]
    if len(set(colours)) < len(colours):  # depths alone do not tell them apart
        colours = [_LINE_COLOURS[index % len(_LINE_COLOURS)] for index in range(len(drawn))]
    figure = go.Figure()
    foreground: list[dict[str, Any]] = []
    shown = logged = off = 0
    width = 2.6 if len(drawn) <= 12 else 1.8
    y_name = series.QUANTITIES.get(quantity, quantity)
    at = "step %{customdata[0]:,}" + ("" if axis == "step" else f", {_AXIS_WORDS[axis]}")
    for index, (line, colour) in enumerate(zip(drawn, colours, strict=True)):
        name = _in_hover(line.name)
        dash = _DASHES[index // len(_LINE_COLOURS) % len(_DASHES)]
        fade = 0.2 if bold and line.name not in bold else 1.0
        shared = {"mode": "lines", "legendgroup": str(index)}
        style = {"color": colour, "dash": dash, "width": width}
        for run, curve in zip(line.runs, line.curves, strict=True):
            if curve.empty:
                continue
            x, step = curve["x"].to_numpy(), curve["step"].to_numpy()
            y, smooth = curve["y"].to_numpy(), curve["line"].to_numpy()
            logged += len(y)
            off += int(((log_y & (y <= 0)) | (log_x & (x <= 0))).sum())
            kept = series.thin(x, smooth, most, log=log_x)
            shown += len(kept)
            if smoothing > 0 and not line.averaged:
                raw = series.thin(x, y, most, log=log_x)
                figure.add_scatter(
                    x=x[raw],
                    y=y[raw],
                    line=style | {"width": 1, "dash": "solid"},
                    opacity=0.45 * fade,
                    showlegend=False,
                    hoverinfo="skip",
                    **shared,
                )
            who = f"{name}, {_in_hover(run)}" if line.averaged and run else name
            trace: dict[str, Any] = {
                "x": x[kept],
                "y": smooth[kept],
                "customdata": step[kept, None],
                "hovertemplate": f"{who}: %{{y:.4~g}} at {at}<extra></extra>",
                "opacity": fade * (0.45 if line.averaged else 1),
                "showlegend": not line.averaged,
                "name": name,
                "line": style | ({"width": 1, "dash": "solid"} if line.averaged else {}),
            }
            if len(kept) == 1:
                trace |= {"mode": "markers", "marker": {"color": colour, "size": 8}}
            if line.averaged:
                figure.add_scatter(**(shared | trace))
            else:
                foreground.append(shared | trace)
        if line.averaged:
            _add_band(figure, line, colour, fade, most, log_x, log_y, shared)
            foreground += _means(line, name, style, fade, most, log_x, smoothing, at, shared)
    for trace in foreground:
        figure.add_scatter(**trace)
    figure.update_xaxes(title_text=series.AXES[axis], type="log" if log_x else "linear")
    figure.update_yaxes(title_text=y_name, type="log" if log_y else "linear")
    # Every label whole: a 2 between 10 and 100 may be read as two. 9k, as 8000 and 9000 would touch.
    figure.update_xaxes(automargin=True, minorloglabels="complete")
    if log_x and axis in ("step", "images"):
        figure.update_xaxes(tickformat="~s")
    figure.update_yaxes(automargin=True, minorloglabels="complete")
    # What the legend needs: rows of about 950 pixels, 8 pixels a letter and the sample before it.
    rows = -(-sum(8 * len(line.name) + 60 for line in drawn) // 950)
    in_legend = len(drawn) <= _MOST_IN_LEGEND
    room = 22 * (min(rows, 20) - 1) if in_legend else 0
    title = y_name[0].upper() + y_name[1:]
    _finish(figure, title, theme, height=520 + room, subtitle=escape(subtitle, quote=False))
    # Zoom and hidden lines stay while the same axes are drawn, whatever is added to them.
    return figure.update_layout(
        margin_b=104 + room,
        showlegend=in_legend,
        uirevision=f"{quantity} {axis} {log_x} {log_y}",
        meta={"shown": shown, "logged": logged, "off": off},
    )


_AXIS_WORDS: dict[series.Axis, str] = {
    "epoch": "epoch %{x:.4~g}",
    "seconds": "%{x:,.1f} s",
    "images": "%{x:,} images",
}


def _in_hover(name: str) -> str:
    """Text for legends and tooltips: plotly reads tags there, and %{...} as a value."""
    return escape(name).replace("%{", "&#37;{")


def _add_band(
    figure: go.Figure,
    line: series.Line,
    colour: str,
    fade: float,
    most: int,
    log_x: bool,
    log_y: bool,
    shared: dict[str, Any],
) -> None:
    """The spread of a line's runs as a filled shape, under its mean."""
    band = line.mean.dropna(subset=["low", "high"])
    if log_y:  # mean minus deviation may reach below 0, which has no place there: cut the band
        positive = [curve["line"][curve["line"] > 0].min() for curve in line.curves]
        floor = min((value for value in positive if value > 0), default=np.nan)
        band = band.assign(low=band["low"].clip(lower=floor))
        band = band[(band["low"] > 0) & (band["high"] >= band["low"])]
    if len(band) < 2:
        return
    x, low, high = (band[key].to_numpy() for key in ("x", "low", "high"))
    above, below = series.thin(x, high, most, log=log_x), series.thin(x, low, most, log=log_x)
    figure.add_scatter(
        x=np.concatenate([x[above], x[below][::-1]]),
        y=np.concatenate([high[above], low[below][::-1]]),
        fill="toself",
        fillcolor=_rgba(colour, 0.16 * fade),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        **shared,
    )


def _means(
    line: series.Line,
    name: str,
    style: dict[str, Any],
    fade: float,
    most: int,
    log_x: bool,
    smoothing: float,
    at: str,
    shared: dict[str, Any],
) -> list[dict[str, Any]]:
    """The mean of a line's runs, and faint beneath it the mean of their raw values."""
    traces: list[dict[str, Any]] = []
    mean = line.mean
    x = mean["x"].to_numpy()
    if smoothing > 0:
        y = line.raw["mean"].to_numpy()
        kept = series.thin(x, y, most, log=log_x)
        faint = {"line": style | {"width": 1, "dash": "solid"}, "opacity": 0.45 * fade}
        traces.append(shared | faint | {"x": x[kept], "y": y[kept]})
        traces[-1] |= {"showlegend": False, "hoverinfo": "skip"}
    y = mean["mean"].to_numpy()
    kept = series.thin(x, y, most, log=log_x)
    banded = mean["low"].notna().any()
    spread = " (%{customdata[1]:.4~g} to %{customdata[2]:.4~g})" if banded else ""
    n = int(mean["n"].iloc[0])
    mode = {} if len(mean) > 1 else {"mode": "markers", "marker": {"color": style["color"], "size": 8}}
    traces.append(
        shared
        | {
            "x": x[kept],
            "y": y[kept],
            "customdata": mean[["step", "low", "high"]].to_numpy()[kept],
            "name": f"{name} (n = {n})",
            "hovertemplate": f"{name}, mean of {n}: %{{y:.4~g}}{spread} at {at}<extra></extra>",
            "line": style,
            "opacity": fade,
        }
        | mode
    )
    return traces
