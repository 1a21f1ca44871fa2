"""Runs that train now, over what is known already and what the class expects."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from resnetlab import config
from resnetlab.plots import draw, style
from resnetlab.plots.degradation import error_curves
from resnetlab.plots.style import DASHED_TRAIN, Keywords, Look, finish

_VALUES = ", step %{x:,}: error %{y:.2f} %<extra></extra>"


def playground(metrics: pd.DataFrame, ghosts: pd.DataFrame, levels: Mapping[str, float]) -> go.Figure:
    """`error_curves` of the runs on screen, from the moment before their first row.

    Beneath it, pale, the mean training error of finished runs of the same networks (`ghosts`, as
    `store.metrics_of`); `levels`, network -> predicted final training error in percent, are dotted
    levels.
    """
    begun = not metrics.empty and metrics["train_error"].notna().any()
    if begun:
        figure = error_curves(metrics)
    else:
        figure = draw.panels(draw.FAMILIES, draw.STEP, "error (%)")
        legend = ["colour: depth", DASHED_TRAIN]
        finish(figure, "Error during training", "nothing trained here yet", legend, 520)
    for column in (1, 2):  # plotly draws no axes where there is no trace at all
        nothing: Keywords = {"x": [None], "y": [None], "hoverinfo": "skip", "hovertemplate": ""}
        figure.add_scatter(**nothing, showlegend=False, row=1, col=column)
    steps = [frame["step"].max() for frame in (metrics, ghosts) if len(frame)] or [1]
    drawn, _ = draw.networks(ghosts) if len(ghosts) else ([], "")
    for network in drawn:
        seeds = draw.over_seeds(network.rows, "train_error", "step")
        look = Look(style.rgba(network.colour, 0.7), style.DASHED, style.TRAIN)
        n = network.rows["seed"].nunique()
        who = f"{network.name} train before, mean of {n} seeds{_VALUES}"
        column = draw.FAMILIES.index(network.family) + 1
        place: Keywords = {"row": 1, "col": column, "showlegend": False}
        draw.line(figure, seeds.index, seeds["mean"], look, None, who, **place)
    for name, level in levels.items():
        told = config.Network.from_name(name)
        look = Look(style.GREY, style.DOTTED, style.MAIN)
        place = {"row": 1, "col": draw.FAMILIES.index(told.family) + 1}
        who = f"{name}, predicted{_VALUES}"
        ends: Keywords = {"x": [0, max(steps)], "y": [level, level], "showlegend": False}
        draw.line(figure, look=look, who=who, **ends, **place)
        note: Keywords = {"x": max(steps), "y": level, "xanchor": "right", "yanchor": "bottom"}
        figure.add_annotation(text=f"{told.depth} layers, predicted", showarrow=False, **note, **place)
    more = ["pale: earlier runs of these networks, not yours"] if drawn else []
    more += ["dotted: predicted final training error"] if levels else []
    if more:
        words = ". ".join(f"{word[0].upper()}{word[1:]}" for word in more)
        text = figure.layout.title.text or ""
        figure.layout.title.text = text.removesuffix("</span>") + f"<br>{words}.</span>"
        figure.layout.height += style.TITLE_LINE
        figure.layout.margin.t += style.TITLE_LINE
    return figure.update_yaxes(range=[0, 100])
