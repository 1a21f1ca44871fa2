"""The learning rate of recipes: one with its reasons, several side by side."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from resnetlab.plots.compare import _LINE_COLOURS
from resnetlab.plots.style import _OTHER_COLOURS, Theme, _finish


def learning_rate(
    rates: pd.DataFrame, name: str, subtitle: str = "", *, theme: Theme = "neutral"
) -> go.Figure:
    """A recipe's learning rate against step on a log axis, with the rule behind every change.

    `rates` has a row for each stretch of one rate: step, until, lr, why (`schedule.stretches`).
    """
    figure = go.Figure()
    figure.add_scatter(
        x=[*rates["step"], rates["until"].iloc[-1]],
        y=[*rates["lr"], rates["lr"].iloc[-1]],
        line={"shape": "hv", "width": 3, "color": _OTHER_COLOURS[0]},
        mode="lines",
        showlegend=False,
        hovertemplate="step %{x:,}: %{y:g}<extra></extra>",
    )
    end = rates["until"].iloc[-1]
    for step, until, lr, why in rates[["step", "until", "lr", "why"]].itertuples(index=False):
        late = step > 0.75 * end
        short = until - step < 0.03 * end  # its words would lie on the next line's rise
        figure.add_annotation(
            x=until if short else step,
            y=float(np.log10(lr)),
            text=f"{lr:g} at {step:,}<br>{escape(str(why))}",
            showarrow=False,
            xanchor="right" if late else "left",
            xshift=-6 if late else 6,
            yanchor="bottom",
            align="right" if late else "left",
            font_size=12,
        )
    low, high = float(np.log10(rates["lr"].min())), float(np.log10(rates["lr"].max()))
    figure.update_xaxes(title_text="step (optimizer updates)", range=[-0.01 * end, 1.02 * end])
    figure.update_yaxes(title_text="learning rate", type="log", dtick=1, range=[low - 0.2, high + 0.4])
    title = f"Learning rate of recipe {escape(name)}"
    return _finish(
        figure, title, theme, height=420, subtitle=escape(subtitle, quote=False)
    ).update_layout(margin_b=60)


def learning_rates(
    rates: pd.DataFrame, zoom: int, title: str, subtitle: str = "", *, theme: Theme = "neutral"
) -> go.Figure:
    """Several timelines of the learning rate on one log axis: the first `zoom` steps, and all of them.

    `rates` has a row for each stretch of one rate: schedule (its name), step, until, lr
    (`schedule.stretches`, `schedule.warm_up_mistakes`).
    """
    end = int(rates["until"].max())
    figure = make_subplots(
        1,
        2,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        column_widths=[0.4, 0.6],
        subplot_titles=[f"the first {zoom:,} steps", f"all {end:,} steps"],
    )
    for index, name in enumerate(rates["schedule"].unique()):
        own = rates[rates["schedule"] == name]
        # The later lines are thinner: where timelines agree, all of them are seen.
        style = {"color": _LINE_COLOURS[index % len(_LINE_COLOURS)], "width": max(2.5, 11 - 4 * index)}
        for column in (1, 2):
            figure.add_scatter(
                x=[*own["step"], own["until"].iloc[-1]],
                y=[*own["lr"], own["lr"].iloc[-1]],
                mode="lines",
                name=escape(str(name)),
                legendgroup=str(index),
                showlegend=column == 1,
                line=style | {"shape": "hv"},
                hovertemplate=f"{escape(str(name))}, step %{{x:,}}: %{{y:g}}<extra></extra>",
                row=1,
                col=column,
            )
    low, high = float(np.log10(rates["lr"].min())), float(np.log10(rates["lr"].max()))
    figure.update_xaxes(title_text="step (optimizer updates)")
    figure.update_xaxes(range=[0, zoom], col=1)
    figure.update_xaxes(range=[0, 1.02 * end], col=2)
    figure.update_yaxes(type="log", dtick=1, exponentformat="none", range=[low - 0.2, high + 0.2])
    figure.update_yaxes(title_text="learning rate", col=1)
    return _finish(figure, escape(title), theme, subtitle=escape(subtitle, quote=False))
