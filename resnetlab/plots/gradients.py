"""Gradient norms by layer: over the steps, as profiles and ratios, and at initialisation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from resnetlab import verdict
from resnetlab.config import edit_of
from resnetlab.plots.style import (
    _DASHES,
    _SHORTCUT_COLOURS,
    Theme,
    _edit_colours,
    _finish,
    _log_range,
    _one_depth,
    _rgba,
    conditions,
    depth_colour,
    empty,
)


def gradient_norm_heatmap(probes: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Layer against step, colour the gradient's norm, every run a panel, all on one log scale.

    `probes` as `store.probes_of`. Layer 1 is the first convolution, the last the classifier. Plain
    stands left and residual right, shallow above deep; at most eight runs, four of a family if there
    are two.
    """
    if probes.empty:
        return empty("No gradient norms logged yet.", theme)
    who = ["family", "depth", "network", "seed", "study", "run"]
    runs = probes[who].drop_duplicates().sort_values(who[:4])
    sides: list[list[Any]] = [list(own.itertuples()) for _, own in runs.groupby("family")]
    panels = [
        run
        for row in itertools.zip_longest(*(side[: 8 // len(sides)] for side in sides))
        for run in row
    ]
    columns = min(len(panels), 2 if len(panels) <= 4 else 4)
    rows = -(-len(panels) // columns)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[f"{run.network}, seed {run.seed}" if run else "" for run in panels],
        horizontal_spacing=0.2 / columns,
        vertical_spacing=0.26 / rows,
    )
    low, high = _log_range(probes["value"])
    for index, run in enumerate(panels):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        if run is None:  # a run of the other family without a partner
            figure.update_xaxes(visible=False, **place).update_yaxes(visible=False, **place)
            continue
        own = probes[(probes["study"] == run.study) & (probes["run"] == run.run)]
        grid = own.pivot_table(index="layer", columns="step", values="value")
        norms = grid.to_numpy(dtype=float)
        exponent = np.log10(norms, where=norms > 0, out=np.full_like(norms, np.nan))
        figure.add_heatmap(
            x=grid.columns,
            y=grid.index + 1,
            z=np.round(exponent, 3),
            customdata=norms,
            coloraxis="coloraxis",
            hovertemplate="layer %{y}, step %{x}: norm %{customdata:.3g}<extra></extra>",
            **place,
        )
    ticks = np.arange(np.ceil(low), np.floor(high) + 1)
    figure.update_layout(
        coloraxis={
            "colorscale": "Viridis",
            "cmin": low,
            "cmax": high,
            "colorbar": {
                "title": {"text": "norm"},
                "tickvals": ticks,
                "ticktext": [f"1e{int(tick)}" for tick in ticks],
            },
        }
    )
    figure.update_xaxes(title_text="step", row=rows)
    figure.update_yaxes(title_text="layer", col=1)
    return _finish(
        figure,
        "Gradient norm of every weighted layer (L2, log scale)",
        theme,
        height=160 + 290 * rows,
        subtitle=conditions(probes),
    ).update_layout(margin_b=60, margin_r=20)


def gradient_norm_profile(
    probes: pd.DataFrame, steps: Sequence[int] | None = None, *, theme: Theme = "neutral"
) -> go.Figure:
    """Gradient norm against layer at chosen steps (default: first, middle, last), log axis.

    `probes` as `store.probes_of`; plain left, residual right (one panel if there is one family);
    colour is depth (the shortcut option where all have one depth), dash is the step. Seeds are averaged
    geometrically. A step that was not logged takes the nearest logged one.
    """
    if probes.empty:
        return empty("No gradient norms logged yet.", theme)
    logged = np.sort(probes["step"].unique())
    if steps is None:
        steps = [int(logged[0]), int(logged[len(logged) // 2]), int(logged[-1])]
    chosen = sorted({int(logged[np.abs(logged - step).argmin()]) for step in steps})[: len(_DASHES)]
    families = [name for name in ("plain", "residual") if (probes["family"] == name).any()]
    figure = make_subplots(
        1, len(families), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=families
    )
    keys = probes[["depth", "shortcut", "network"]].drop_duplicates().sort_values(["depth", "shortcut"])
    by_option, edited = _one_depth(keys), _edit_colours(keys["network"])
    for depth, shortcut, network in keys.itertuples(index=False):
        for dash, step in zip(_DASHES, chosen, strict=False):
            at_step = probes[(probes["network"] == network) & (probes["step"] == step)]
            own = at_step[at_step["value"] > 0]
            if own.empty:
                continue
            line = np.exp(np.log(own["value"]).groupby(own["layer"]).mean())
            option = "no shortcut" if shortcut == "none" else f"option {shortcut}"
            edit = edit_of(network)
            words = [option if by_option else f"{depth} layers", *([edit] if edit else [])]
            name = ", ".join([*words, f"step {step}"])
            colour = _SHORTCUT_COLOURS[shortcut] if by_option else depth_colour(depth)
            colour = edited.get(edit, colour)
            figure.add_scatter(
                x=line.index + 1,
                y=line,
                mode="lines",
                name=name,
                legendgroup=name,
                showlegend=name not in {trace.name for trace in figure.data},
                line={"color": colour, "dash": dash, "width": 2},
                hovertemplate=f"{network}, step {step}, layer %{{x}}: %{{y:.3g}}<extra></extra>",
                row=1,
                col=families.index("plain" if shortcut == "none" else "residual") + 1,
            )
    figure.update_xaxes(title_text="layer (1 = first convolution)")
    low, high = _log_range(probes["value"])
    figure.update_yaxes(type="log", exponentformat="power", dtick=max(1, round((high - low) / 6)))
    figure.update_yaxes(title_text="gradient norm (L2)", title_standoff=14, automargin=True, col=1)
    return _finish(figure, "Gradient norm by layer", theme, height=500, subtitle=conditions(probes))


def gradient_ratio(probes: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Gradient norm of the first weighted layer over that of the last, against step, log axis.

    `probes` as `store.probes_of`. Lines are geometric means over seeds, bands reach from the lowest
    seed to the highest; dotted: beyond them `verdict` calls gradients exploding or vanishing.
    """
    ratios = verdict.gradient_ratios(probes)
    if ratios.empty:
        return empty("No gradient norms logged yet.", theme)
    figure = go.Figure()
    keys = ratios[["depth", "shortcut", "network"]].drop_duplicates().sort_values(["depth", "shortcut"])
    for depth, shortcut, network in keys.itertuples(index=False):
        own = ratios[ratios["network"] == network]
        logged = np.log10(own["ratio"]).groupby(own["step"]).agg(["mean", "min", "max", "count"])
        logged = logged[logged["count"] == logged["count"].max()]
        colour = _SHORTCUT_COLOURS[shortcut] if _one_depth(keys) else depth_colour(depth)
        colour = _edit_colours(keys["network"]).get(edit_of(network), colour)
        style = {"color": colour, "width": 3, "dash": "dash" if shortcut == "none" else "solid"}
        if logged["count"].max() > 1:
            figure.add_scatter(
                x=[*logged.index, *logged.index[::-1]],
                y=10 ** np.concatenate([logged["max"], logged["min"][::-1]]),
                mode="lines",
                fill="toself",
                fillcolor=_rgba(colour, 0.12),
                line={"width": 0},
                hoverinfo="skip",
                legendgroup=network,
                showlegend=False,
            )
        figure.add_scatter(
            x=logged.index,
            y=10 ** logged["mean"],
            mode="lines" if len(logged) > 1 else "markers",
            name=network,
            legendgroup=network,
            line=style,
            hovertemplate=f"{network}: %{{y:.3g}} at step %{{x:,}}<extra></extra>",
        )
    for limit, word in ((verdict.EXPLODING, "exploding"), (verdict.VANISHING, "vanishing")):
        figure.add_hline(y=limit, line={"dash": "dot", "color": "#78808c"})
        # On a log axis a line takes the value, an annotation its logarithm.
        place = {"x": 1, "xref": "paper", "xanchor": "right", "y": float(np.log10(limit))}
        above = limit > 1
        figure.add_annotation(
            text=word, showarrow=False, yanchor="bottom" if above else "top", font_size=12, **place
        )
    figure.update_xaxes(title_text="step (optimizer updates)")
    figure.update_yaxes(title_text="norm, first layer / last", type="log", exponentformat="power")
    title = "Gradient norm of the first layer over that of the last"
    said = f"Dashed: plain, solid: residual. {conditions(probes)}"
    return _finish(figure, title, theme, subtitle=said)


_AT_START = {
    "gradient_norm": ("Gradient norm by layer at initialisation", "gradient norm (L2)", "layer"),
    "activation_scale": (
        "Activation scale at initialisation",
        "root mean square",
        "place (1 = first layer, then each block)",
    ),
}
NORMS = ("with batch norm", "without batch norm")


def at_initialisation(
    frame: pd.DataFrame,
    quantity: Literal["gradient_norm", "activation_scale"],
    *,
    theme: Theme = "neutral",
) -> go.Figure:
    """A quantity by layer before the first update: left with batch norm, right without, log axes.

    `frame` has the columns of `store.IDENTITY`, norm (of NORMS), layer (0-based) and value
    (`probes.batch_gradient_norms`, `probes.activation_scales`). Colour is depth, plain is dashed; lines
    are geometric means over seeds. The two panels have axes of their own.
    """
    positive = frame[frame["value"] > 0] if len(frame) else frame
    if positive.empty:
        return empty("Nothing measured at initialisation yet.", theme)
    title, y_title, x_title = _AT_START[quantity]
    panels = [norm for norm in NORMS if (positive["norm"] == norm).any()]
    figure = make_subplots(1, len(panels), horizontal_spacing=0.1, subplot_titles=panels)
    keys = positive[["depth", "shortcut", "network"]].drop_duplicates()
    for depth, shortcut, network in keys.sort_values(["depth", "shortcut"]).itertuples(index=False):
        for column, norm in enumerate(panels, start=1):
            own = positive[(positive["network"] == network) & (positive["norm"] == norm)]
            if own.empty:
                continue
            line = np.exp(np.log(own["value"]).groupby(own["layer"]).mean())
            dash = "dash" if shortcut == "none" else "solid"
            figure.add_scatter(
                x=np.asarray(line.index, dtype=int) + 1,
                y=line,
                mode="lines",
                name=network,
                legendgroup=network,
                showlegend=network not in {trace.name for trace in figure.data},
                line={"color": depth_colour(depth), "dash": dash, "width": 2.2},
                hovertemplate=f"{network}, {norm}, {x_title.split(' ')[0]} %{{x}}: %{{y:.3g}}"
                "<extra></extra>",
                row=1,
                col=column,
            )
    figure.update_xaxes(title_text=x_title)
    for column, norm in enumerate(panels, start=1):
        low, high = _log_range(positive[positive["norm"] == norm]["value"])
        ticks = "D2" if high - low < 2 else max(1, round((high - low) / 6))  # D2: 1, 2 and 5
        figure.update_yaxes(type="log", exponentformat="power", dtick=ticks, col=column)
    figure.update_yaxes(title_text=y_title, title_standoff=14, automargin=True, col=1)
    subtitle = conditions(positive) + "; dashed plain, solid residual"
    return _finish(figure, title, theme, height=500, subtitle=subtitle)
