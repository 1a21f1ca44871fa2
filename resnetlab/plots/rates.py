"""The learning rate of recipes: one with its reasons, several side by side."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from resnetlab.plots import draw, style
from resnetlab.plots.style import Look, finish

_RATE = "learning rate"


def learning_rate(rates: pd.DataFrame, name: str, subtitle: str = "") -> go.Figure:
    """A recipe's learning rate against step on a log axis, with the rule behind every change.

    `rates` has a row for each stretch of one rate: step, until, lr, why (`schedule.stretches`).
    """
    figure = draw.panels((), draw.STEP, _RATE)
    _stairs(figure, rates, Look(style.palette(0), width=style.BOLD))
    end = rates["until"].iloc[-1]
    for step, until, lr, why in rates[["step", "until", "lr", "why"]].itertuples(index=False):
        late = step > 0.75 * end
        short = until - step < 0.03 * end  # its words would lie on the next line's rise
        side, shift = ("right", -6) if late else ("left", 6)
        place = {"x": until if short else step, "xanchor": side, "align": side, "xshift": shift}
        place |= {"y": float(np.log10(lr)), "yanchor": "bottom"}
        words = f"{lr:g} at {step:,}<br>{escape(str(why))}"
        figure.add_annotation(place, text=words, showarrow=False, font_size=12)
    figure.update_xaxes(range=[-0.01 * end, 1.02 * end])
    _log_axis(figure, rates, 0.4)
    title, below = f"Learning rate of recipe {escape(name)}", escape(subtitle, quote=False)
    legend = ["line: the rate of every step, words: the rule behind each change"]
    return finish(figure, title, below, legend, 420, below=60)


def learning_rates(rates: pd.DataFrame, zoom: int, title: str, subtitle: str = "") -> go.Figure:
    """Several timelines of the learning rate on one log axis: the first `zoom` steps, and all of them.

    `rates` has a row for each stretch of one rate: schedule (its name), step, until, lr
    (`schedule.stretches`, `schedule.warm_up_mistakes`).
    """
    end = int(rates["until"].max())
    titles = [f"the first {zoom:,} steps", f"all {end:,} steps"]
    figure = draw.panels(titles, draw.STEP, _RATE, column_widths=[0.4, 0.6])
    for index, name in enumerate(rates["schedule"].unique()):
        # The later lines are thinner: where timelines agree, all of them are seen.
        look = Look(style.palette(index), width=max(2.5, 11 - 4 * index))
        for column in (1, 2):
            rows = rates[rates["schedule"] == name]
            _stairs(figure, rows, look, escape(str(name)), col=column)
    figure.update_xaxes(range=[0, zoom], col=1).update_xaxes(range=[0, 1.02 * end], col=2)
    _log_axis(figure, rates, 0.2)
    words = escape(subtitle, quote=False)
    return finish(figure, escape(title), words, ["colour: schedule"])


def _stairs(figure: go.Figure, rates: pd.DataFrame, look: Look, name: str = "", col: int = 1) -> None:
    x, y = ([*rates[key], rates[last].iloc[-1]] for key, last in (("step", "until"), ("lr", "lr")))
    draw.line(figure, x, y, look, name, shape="hv", col=col)


def _log_axis(figure: go.Figure, rates: pd.DataFrame, room: float) -> None:
    low, high = draw.log_range(rates["lr"])
    draw.log_axis(figure, exponentformat="none", range=[low - 0.2, high + room])
