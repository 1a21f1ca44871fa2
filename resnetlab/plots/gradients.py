"""Gradient norms by layer: over the steps, as profiles and ratios, and at initialisation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from resnetlab import verdict
from resnetlab.plots import draw, style
from resnetlab.plots.style import DASHED_PLAIN, Keywords, conditions, empty, finish

NORMS = ("with batch norm", "without batch norm")
_MOST_STEPS = 5  # of a profile
_MOST_SLIDES = 50  # steps of a slider
_ROOM = 0.1  # powers of ten beyond the values of an axis that several figures share
_NOTHING = "No gradient norms logged yet."


def gradient_norm_heatmap(probes: pd.DataFrame) -> go.Figure:
    """Layer against step, colour the gradient's norm, every run a panel, all on one log scale.

    `probes` as `store.probes_of`. Layer 1 is the first convolution, the last the classifier. Plain
    stands left and residual right, shallow above deep; at most eight runs, four of a family if there
    are two.
    """
    if probes.empty:
        return empty(_NOTHING)
    runs = draw.pick_runs(probes.assign(layer=probes["layer"] + 1))
    sides = [list(side) for _, side in itertools.groupby(runs, key=lambda run: run[0])]
    # A run of one family without a partner leaves a place empty.
    pairs = itertools.zip_longest(*(side[: 8 // len(sides)] for side in sides))
    shown = list(itertools.chain.from_iterable(pairs))
    columns = min(len(shown), 2 if len(shown) <= 4 else 4)
    axes, scale = ("step", "layer", "value"), draw.log_scale(probes["value"], "norm")
    figure = draw.maps(shown, columns, axes, scale, (draw.STEP, "layer"), log=True)
    legend = ["plain left, residual right"] if len(sides) > 1 else []
    legend += ["colour: gradient norm, log scale"]
    title, height = "Gradient norm of every weighted layer (L2)", 160 + 290 * -(-len(shown) // columns)
    return finish(figure, title, conditions(probes), legend, height, below=60)


_PROFILES = {
    "gradient_norm": ("Gradient norm by layer", "gradient norm (L2)"),
    "weight_norm": ("Length of the weights by layer", "|w| (L2)"),
    "relative_update": ("Step over weights by layer", "|\u0394w| / |w|"),
    "turning": ("How far a step turns each layer", "angle (radians)"),
}


def layer_profile(
    probes: pd.DataFrame,
    steps: Sequence[int] | None = None,
    kind: str = "gradient_norm",
    *,
    beside: pd.DataFrame | None = None,
) -> go.Figure:
    """What a run logs of every layer, against layer at chosen steps (first, middle, last); log axis.

    `probes` as `store.probes_of`, of one kind, or as `verdict.turning`; plain left, residual right
    (one panel if there is one family). Later steps are drawn darker. Seeds are averaged
    geometrically. A step that was not logged takes the nearest logged one. Figures that the eye is to
    compare are given the probes of all of them as `beside`: they then have one axis.
    """
    if probes.empty:
        return empty(_NOTHING)
    title, y_title = _PROFILES[kind]
    logged = np.sort(probes["step"].unique())
    asked = logged[[0, len(logged) // 2, -1]] if steps is None else steps
    chosen = sorted({int(logged[np.abs(logged - step).argmin()]) for step in asked})[:_MOST_STEPS]
    families = [name for name in draw.FAMILIES if (probes["family"] == name).any()]
    figure = draw.panels(families, "layer (1 = first convolution)", y_title)
    shown, colours = draw.networks(probes)
    for network, (at, step) in itertools.product(shown, enumerate(chosen, start=1)):
        # The network and not its depth: a name stands in the legend once, with the dash of one family.
        words = [network.name, f"step {step}"]
        place: Keywords = {"col": families.index(network.family) + 1, "opacity": at / len(chosen)}
        place |= {"name": ", ".join(words)}
        rows = network.rows[network.rows["step"] == step]
        draw.by_layer(figure, network, rows, f"step {step}", **place)
    draw.log_axis(figure, (probes if beside is None else beside)["value"])
    if beside is not None:
        low, high = draw.log_range(beside["value"])
        figure.update_yaxes(range=[low - _ROOM, high + _ROOM])
    figure.update_yaxes(title_standoff=14, automargin=True, col=1)
    legend = [colours, DASHED_PLAIN, *(["darker: later step"] if len(chosen) > 1 else [])]
    return finish(figure, title, conditions(probes), legend, 500)


def layer_profiles(probes: pd.DataFrame, kind: str = "gradient_norm") -> go.Figure:
    """`layer_profile` at every logged step (at most 50 of them, evenly), a slider through the steps.

    All on one axis; seen first is the last step.
    """
    if probes.empty:
        return empty(_NOTHING)
    logged = np.sort(probes["step"].unique())
    some = logged[np.unique(np.linspace(0, len(logged) - 1, _MOST_SLIDES).round().astype(int))]
    return draw.slider({f"{step:,}": layer_profile(probes, [step], kind) for step in some}, draw.STEP)


def gradient_ratio(probes: pd.DataFrame) -> go.Figure:
    """Gradient norm of the first weighted layer over that of the last, against step, log axis.

    `probes` as `store.probes_of`. Lines are geometric means over seeds, bands reach from the lowest
    seed to the highest; dotted: beyond them `verdict` calls gradients exploding or vanishing.
    """
    ratios = verdict.gradient_ratios(probes)
    ratios = ratios[ratios["ratio"] > 0]  # a log axis has no place for 0
    if ratios.empty:
        return empty(_NOTHING)
    figure = draw.panels((), draw.STEP, "norm, first layer / last")
    shown, colours = draw.networks(ratios)
    banded = False
    for network in shown:
        seeds = draw.over_seeds(network.rows.assign(log=np.log10(network.rows["ratio"])), "log", "step")
        ratios = (10 ** seeds[["mean", "min", "max"]]).join(seeds["count"])
        banded |= draw.mean_and_band(figure, ratios, network.by_family(), network.name)
    for border, word in ((verdict.EXPLODING, "exploding"), (verdict.VANISHING, "vanishing")):
        draw.limit(figure, border)
        # On a log axis a line takes the value, an annotation its logarithm.
        place = {"x": 1, "xref": "paper", "xanchor": "right", "y": float(np.log10(border))}
        place |= {"yanchor": "bottom" if border > 1 else "top", "font_size": 12}
        figure.add_annotation(text=word, showarrow=False, **place)
    draw.log_axis(figure, dtick=None)
    title = "Gradient norm of the first layer over that of the last"
    legend = [colours, DASHED_PLAIN, *([style.BANDS] if banded else [])]
    return finish(figure, title, conditions(probes), legend)


_PLACE = "place (1 = first layer, then each block)"
_AT_START = {
    "gradient_norm": ("Gradient norm by layer at initialisation", "gradient norm (L2)", "layer"),
    "activation_scale": ("Activation scale at initialisation", "root mean square", _PLACE),
}


def at_initialisation(
    frame: pd.DataFrame, quantity: Literal["gradient_norm", "activation_scale"]
) -> go.Figure:
    """A quantity by layer before the first step: left with batch norm, right without, log axes.

    `frame` has the columns of `store.IDENTITY`, norm (of NORMS), layer (0-based) and value
    (`probes.batch_gradient_norms`, `probes.activation_scales`). Lines are geometric means over seeds.
    The two panels have axes of their own.
    """
    positive = frame[frame["value"] > 0] if len(frame) else frame
    if positive.empty:
        return empty("Nothing measured at initialisation yet.")
    title, y_title, x_title = _AT_START[quantity]
    halves = [norm for norm in NORMS if (positive["norm"] == norm).any()]
    figure = draw.panels(halves, x_title, y_title, shared_yaxes=False)
    shown, colours = draw.networks(positive)
    for network, (column, norm) in itertools.product(shown, enumerate(halves, start=1)):
        rows = network.rows[network.rows["norm"] == norm]
        draw.by_layer(figure, network, rows, norm, col=column)
    for column, norm in enumerate(halves, start=1):
        draw.log_axis(figure, positive[positive["norm"] == norm]["value"], narrow="D2", col=column)
    figure.update_yaxes(title_standoff=14, automargin=True, col=1)
    return finish(figure, title, conditions(positive), [colours, DASHED_PLAIN], 500)
