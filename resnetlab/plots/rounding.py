"""How far gradients are from float64's, and errors by precision and length."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from resnetlab import verdict
from resnetlab.plots.style import (
    _LINE,
    _SHORTCUT_ORDER,
    Theme,
    _finish,
    conditions,
    depth_colour,
    empty,
)

_ARITHMETIC_COLOURS = ("#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7")


def gradient_error_by_layer(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """How far gradients are from float64's, by layer, a panel an arithmetic, one logarithmic axis.

    `frame` has the columns of `store.IDENTITY`, arithmetic, layer (0-based), relative and norm
    (`probes.gradient_error`). Colour is depth, plain is dashed; lines are geometric means over seeds.
    Dotted: an error as large as the gradient.
    """
    positive = frame[frame["relative"] > 0] if len(frame) else frame
    if positive.empty:
        return empty("No gradient error measured yet.", theme)
    panels = list(positive["arithmetic"].unique())
    columns = len(panels) if len(panels) < 4 else 2
    rows = -(-len(panels) // columns)
    figure = make_subplots(
        rows,
        columns,
        shared_xaxes=True,
        shared_yaxes="all",
        horizontal_spacing=0.03,
        vertical_spacing=0.09,
        subplot_titles=panels,
    )
    keys = positive[["depth", "shortcut", "network"]].drop_duplicates()
    for depth, shortcut, network in keys.sort_values(["depth", "shortcut"]).itertuples(index=False):
        for index, arithmetic in enumerate(panels):
            own = positive[(positive["network"] == network) & (positive["arithmetic"] == arithmetic)]
            line = 100 * np.exp(np.log(own["relative"]).groupby(own["layer"]).mean())
            dash = "dash" if shortcut == "none" else "solid"
            figure.add_scatter(
                x=np.asarray(line.index, dtype=int) + 1,
                y=line,
                mode="lines",
                name=network,
                legendgroup=network,
                showlegend=network not in {trace.name for trace in figure.data},
                line={"color": depth_colour(depth), "dash": dash, "width": 2.2},
                hovertemplate=f"{network}, {arithmetic}, layer %{{x}}: %{{y:.3g}} %<extra></extra>",
                row=index // columns + 1,
                col=index % columns + 1,
            )
    figure.add_hline(y=100 * verdict.NOTHING_LEFT, line={"dash": "dot", "color": "#78808c"})
    figure.update_xaxes(title_text="layer", row=rows)
    figure.update_yaxes(type="log", exponentformat="power", dtick=2)
    figure.update_yaxes(title_text="error (% of the gradient)", automargin=True, col=1)
    subtitle = conditions(positive) + "; dashed plain, solid residual; dotted: nothing of it is left"
    title = "Rounding: gradients of one batch against float64"
    return _finish(figure, title, theme, height=220 + 300 * rows, subtitle=subtitle)


def gradient_error_by_depth(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """The same against depth: median over the layers, every seed, and the geometric mean; log axis.

    `frame` as for `gradient_error_by_layer`. Colour is the arithmetic, plain is dashed.
    """
    positive = frame[frame["relative"] > 0] if len(frame) else frame
    if positive.empty:
        return empty("No gradient error measured yet.", theme)
    medians = verdict.median_errors(positive)
    figure = go.Figure()
    for index, arithmetic in enumerate(medians["arithmetic"].unique()):
        colour = _ARITHMETIC_COLOURS[index % len(_ARITHMETIC_COLOURS)]
        width = max(2.0, 6.5 - 1.5 * index)  # where two agree the wider one shows beside the other
        for shortcut in (s for s in _SHORTCUT_ORDER if (medians["shortcut"] == s).any()):
            own = medians[(medians["arithmetic"] == arithmetic) & (medians["shortcut"] == shortcut)]
            if own.empty:
                continue
            family = "plain" if shortcut == "none" else f"residual ({shortcut})"
            name, dash = f"{arithmetic}, {family}", "dash" if shortcut == "none" else "solid"
            mean = 100 * np.exp(np.log(own["relative"]).groupby(own["depth"]).mean())
            figure.add_scatter(
                x=mean.index,
                y=mean,
                mode="lines",
                name=name,
                legendgroup=name,
                line={"color": colour, "width": width, "dash": dash},
                hovertemplate=f"{name}, %{{x}} layers: %{{y:.3g}} %<extra></extra>",
            )
            figure.add_scatter(
                x=own["depth"],
                y=100 * own["relative"],
                mode="markers",
                name=name,
                legendgroup=name,
                showlegend=False,
                customdata=own["seed"],
                marker={"color": colour, "size": 8, "opacity": 0.6},
                hovertemplate=f"{name}, %{{x}} layers, seed %{{customdata}}: %{{y:.3g}} %"
                "<extra></extra>",
            )
    figure.add_hline(y=100 * verdict.NOTHING_LEFT, line={"dash": "dot", "color": "#78808c"})
    figure.update_xaxes(
        title_text="depth (weighted layers)", tickvals=sorted(medians["depth"].unique())
    )
    figure.update_yaxes(
        title_text="error (% of the gradient)", type="log", exponentformat="power", dtick=1
    )
    title = "Rounding against depth: median error over the layers"
    subtitle = conditions(positive) + "; dashed plain, solid residual; dotted: nothing of it is left"
    return _finish(figure, title, theme, height=540, subtitle=subtitle).update_layout(margin_b=130)


_CONDITION_WORDS = {"precision": "precision", "steps_planned": "steps (optimizer updates)"}


def error_by_condition(
    table: pd.DataFrame, by: Literal["precision", "steps_planned"], *, theme: Theme = "neutral"
) -> go.Figure:
    """Final training error under two or more conditions: thin a seed each, bold the mean over seeds.

    `table` as `store.table_of`; only finished runs are drawn. Colour is depth, plain is dashed.
    """
    finished = table[table["status"] == "finished"] if len(table) else table
    finished = finished.dropna(subset=["train_error"])
    if finished.empty:
        return empty("No finished run yet.", theme)
    order = verdict.PRECISIONS if by == "precision" else tuple(sorted(finished[by].unique()))
    places = [value for value in order if (finished[by] == value).any()]
    label = {value: value if isinstance(value, str) else f"{value:,}" for value in places}
    figure = go.Figure()
    keys = finished[["depth", "family", "shortcut", "network"]].drop_duplicates()
    for depth, _, shortcut, network in keys.sort_values(["depth", "family"]).itertuples(index=False):
        own = finished[finished["network"] == network]
        colour, dash = depth_colour(depth), "dash" if shortcut == "none" else "solid"
        shared: dict[str, Any] = {"legendgroup": network, "marker_color": colour}
        for seed, one in own.drop_duplicates([by, "seed"]).groupby("seed"):
            errors = one.set_index(by)["train_error"].reindex(places)
            figure.add_scatter(
                x=[label[value] for value in places],
                y=errors,
                mode="lines+markers",
                name=network,
                showlegend=False,
                opacity=0.45,
                line={"color": colour, "dash": dash, "width": 1.2},
                marker_size=7,
                hovertemplate=f"{network}, seed {seed}, %{{x}}: %{{y:.2f}} %<extra></extra>",
                **shared,
            )
        means = own.groupby(by)["train_error"].mean().reindex(places)
        figure.add_scatter(
            x=[label[value] for value in places],
            y=means,
            mode="lines+markers",
            name=network,
            line={"color": colour, "dash": dash, "width": 3.2},
            marker_size=11,
            hovertemplate=f"{network}, %{{x}}: mean %{{y:.2f}} %<extra></extra>",
            **shared,
        )
    figure.update_xaxes(
        title_text=_CONDITION_WORDS[by], type="category", range=[-0.3, len(places) - 0.7]
    )
    figure.update_yaxes(title_text="final training error (%)", rangemode="tozero")
    title = f"Final training error by {_CONDITION_WORDS[by].split(' ')[0]}"
    said = f"{conditions(finished)}<br>Thin: one seed each, bold: their mean; dashed plain."
    finished_figure = _finish(figure, title, theme, height=460 + _LINE, subtitle=said)
    return finished_figure.update_layout(margin_t=96 + _LINE)
