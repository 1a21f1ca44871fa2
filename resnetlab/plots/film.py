"""A film of gradients: two networks drawn layer by layer, coloured by what was probed, step by step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from resnetlab.plots import draw, style
from resnetlab.plots.style import Keywords, Look, empty, finish

PROBES = {"gradient_norm": "gradient norm", "relative_update": "|dw|/|w|"}
_SHORT = {"gradient_norm": "gradient", "relative_update": "step"}  # in the title of a panel
MOST_FRAMES = 60
_SECONDS = 0.25  # a frame


def film(probes: Mapping[str, pd.DataFrame], metrics: pd.DataFrame) -> go.Figure:
    """Two networks beside one another, a box a layer, an arc a shortcut; below them their error.

    `probes`, kind -> `store.probes_of` it, of one run per network; `metrics` of the same runs. The
    upper drawing is coloured by the gradient norm, the lower by the relative step, both logarithmic and
    alike for both networks. One slider moves drawings and curves; everything is in the figure. At most
    MOST_FRAMES of the probed steps are shown, the first and the last among them.
    """
    kinds = [kind for kind in PROBES if kind in probes and len(probes[kind])]
    names = [network.name for network in draw.networks(metrics)[0]] if len(metrics) else []
    names = [name for name in names if kinds and name in set(probes[kinds[0]]["network"])]
    if not names:
        return empty("No gradient norms logged yet.")
    steps = _steps([probes[kind] for kind in kinds], names)
    if not steps:
        return empty("These runs were probed at no common step.")
    titles = [f"{escape(name)}, {_SHORT[kind]}" for kind in kinds for name in names]
    rows, columns = len(kinds) + 1, len(names)
    specs: list[list[Any]] = [[{}] * columns for _ in kinds]
    specs.append([{"colspan": columns}, *[None] * (columns - 1)])
    figure = draw.panels(
        [*titles, "training error (%)"],
        rows=rows,
        columns=columns,
        specs=specs,
        shared_yaxes=False,
        horizontal_spacing=0.04,
        vertical_spacing=0.09,
        row_heights=[*[0.36] * len(kinds), 0.28],
    )
    scenes: list[list[Any]] = [[] for _ in steps]
    for row, kind in enumerate(kinds, start=1):
        axis = f"coloraxis{row if row > 1 else ''}"
        shown = probes[kind][probes[kind]["step"].isin(steps) & (probes[kind]["value"] > 0)]
        # A few layers that hardly move at the very end would take the colours from all others; the
        # first step's large gradients are what is to be seen.
        low, high = np.log10(shown["value"].quantile([0.02, 1.0]))
        bar = {
            "title": {"text": PROBES[kind]},
            "len": 0.3,
            "y": 0.98 - 0.41 * (row - 1),
            "yanchor": "top",
        }
        ticks = np.arange(np.ceil(low), np.floor(high) + 1, 2)
        bar |= {"tickvals": ticks, "ticktext": [f"{10.0**tick:g}" for tick in ticks]}
        colours = {"colorscale": "Viridis", "cmin": low, "cmax": high, "colorbar": bar}
        figure.update_layout({axis: colours})
        for column, name in enumerate(names, start=1):
            place = {"row": row, "col": column}
            layers, values = _layers(probes[kind], name, steps)
            grid, hovers = _grid(layers, values)
            pictures = [grid(index) for index in range(len(steps))]
            figure.add_heatmap(
                z=pictures[0],
                coloraxis=axis,
                xgap=1,
                ygap=14,
                text=hovers,
                hovertemplate="%{text}: 10^%{z:.2f}<extra></extra>",
                **place,
            )
            for scene, picture in zip(scenes, pictures, strict=True):
                scene.append({"type": "heatmap", "z": picture})
            _arcs(figure, layers, name, place)
            figure.update_xaxes(visible=False, range=[-0.6, len(hovers[0]) - 0.4], **place)
            figure.update_yaxes(visible=False, range=[len(hovers) - 0.5, -0.7], **place)
    moving = [index for index, trace in enumerate(figure.data) if trace.type == "heatmap"]
    place = {"row": rows, "col": 1}
    for network in draw.networks(metrics[metrics["network"].isin(names)])[0]:
        look = network.by_family()
        rows_of = network.rows.dropna(subset=["train_error"])
        who = f"{network.name}: step %{{x:,}}, %{{y:.2f}} %<extra></extra>"
        draw.line(figure, rows_of["step"], rows_of["train_error"], look, network.name, who, **place)
    cursor: Keywords = {"y": [0, 100], "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    cursor["line"] = {"color": style.GREY, "dash": style.DOTTED, "width": 2}
    figure.add_scatter(x=[steps[0]] * 2, **cursor, **place)
    moving.append(len(figure.data) - 1)
    figure.update_yaxes(range=[0, 100], **place).update_xaxes(title_text="step", **place)
    for scene, step in zip(scenes, steps, strict=True):
        scene.append({"type": "scatter", "x": [step, step]})
    legend = ["colour of a box: the value of its layer, logarithmic, darkest: that or less"]
    legend += [style.DASHED_PLAIN]
    legend += ["arcs: shortcuts"]
    for number, index in enumerate(moving):
        figure.data[index].ids = [str(number)]
    finish(figure, "A film of gradients", "", legend, 230 * len(kinds) + 400, 130)
    # `finish` puts the traces in another order: frames name them by where they are now.
    found = {
        int(trace.ids[0]): place for place, trace in enumerate(figure.data) if trace.ids is not None
    }
    places = [found[number] for number in sorted(found)]
    figure.frames = [
        go.Frame(data=scene, traces=places, name=str(step))
        for scene, step in zip(scenes, steps, strict=True)
    ]
    return _controls(figure, steps)


def _steps(frames: Sequence[pd.DataFrame], names: Sequence[str]) -> list[int]:
    """The probed steps that every network has, thinned evenly."""
    every = [set(frame.loc[frame["network"] == name, "step"]) for frame in frames for name in names]
    common = sorted(set.intersection(*every))
    if len(common) > MOST_FRAMES:
        kept = np.linspace(0, len(common) - 1, MOST_FRAMES).round().astype(int)
        common = [common[index] for index in dict.fromkeys(kept.tolist())]
    return [int(step) for step in common]


def _layers(frame: pd.DataFrame, name: str, steps: Sequence[int]) -> tuple[list[str], np.ndarray]:
    """Names of the layers in order, and log10 of their values, (steps, layers)."""
    rows = frame[(frame["network"] == name) & frame["step"].isin(steps)]
    table = rows.pivot_table(index="step", columns="layer", values="value", dropna=False)
    names = rows.drop_duplicates("layer").set_index("layer")["name"].reindex(table.columns)
    values = table.reindex(list(steps)).to_numpy(dtype=float)
    return [str(one) for one in names], np.log10(np.where(values > 0, values, np.nan))


def _stage(layer: str) -> int:
    """Row of a layer: the stem with the first stage, the classifier with the last."""
    found = re.match(r"stage(\d+)\.", layer)
    return int(found[1]) if found else 0


def _grid(layers: Sequence[str], values: np.ndarray) -> tuple[Any, list[list[str]]]:
    """A function from the frame's number to the drawing, rows of stages; and what each box is."""
    stages = [_stage(layer) for layer in layers]
    last = max(stages)
    rows: list[list[int]] = [[] for _ in range(max(1, last))]
    for index, stage in enumerate(stages):
        row = stage - 1 if stage else 0 if index == 0 else last - 1
        rows[max(0, row)].append(index)
    width = max(map(len, rows))

    def picture(number: int) -> list[list[float | None]]:
        def value(index: int) -> float | None:
            one = float(values[number, index])
            return round(one, 2) if np.isfinite(one) else None

        return [[*map(value, row), *[None] * (width - len(row))] for row in rows]

    hovers = [[escape(layers[i]) for i in row] + [""] * (width - len(row)) for row in rows]
    return picture, hovers


def _arcs(figure: go.Figure, layers: Sequence[str], name: str, place: Any) -> None:
    """A half ellipse over each block of a network with shortcuts."""
    if name.startswith("plain"):
        return
    turn = np.linspace(0, np.pi, 13)
    x: list[float | None] = []
    y: list[float | None] = []
    at: dict[int, int] = {}
    blocks: dict[str, list[int]] = {}
    for index, layer in enumerate(layers):
        stage = max(1, _stage(layer))
        column = at.get(stage, 0)
        at[stage] = column + 1
        if index and _stage(layer):
            blocks.setdefault(".".join(layer.split(".")[:2]), []).append(column)
    for block, columns in blocks.items():
        middle, half = (columns[0] + columns[-1]) / 2, (columns[-1] - columns[0]) / 2 + 0.45
        row = _stage(f"{block}.") - 1
        x += [*(middle - half * np.cos(turn)), None]
        y += [*(row - 0.36 - 0.12 * np.sin(turn)), None]
    look = Look(style.SHORTCUT_COLOURS["A"], width=1.5)
    draw.line(figure, x, y, look, None, hoverinfo="skip", **place)


def _controls(figure: go.Figure, steps: Sequence[int]) -> go.Figure:
    """Play, pause and one slider, in the figure itself."""
    still: dict[str, Any] = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}}
    still["transition"] = {"duration": 0}
    playing = still | {"frame": {"duration": 1000 * _SECONDS, "redraw": True}, "fromcurrent": True}
    buttons = [
        {"label": "Play", "method": "animate", "args": [None, playing]},
        {"label": "Pause", "method": "animate", "args": [[None], still]},
    ]
    menu = {"type": "buttons", "direction": "right", "buttons": buttons, "showactive": False}
    menu |= {"x": 0, "xanchor": "left", "y": 0, "yanchor": "top", "pad": {"t": 62}}
    marks = [
        {"label": f"{step:,}", "method": "animate", "args": [[str(step)], still]} for step in steps
    ]
    slide = {"steps": marks, "active": 0, "x": 0.2, "len": 0.8, "y": 0, "pad": {"t": 62}}
    slide["currentvalue"] = {"prefix": "step ", "xanchor": "right"}
    return figure.update_layout(
        updatemenus=[menu],
        sliders=[slide],
        legend={"orientation": "v", "x": 1.02, "y": 0.12, "yref": "paper"},
    )
