"""A network drawn block by block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from resnetlab.plots.style import _THEMES, Theme, _finish, empty

# Before the first stage, the stages, the classifier.
_STAGE_COLOURS = ("#999999", "#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#999999")
_SHORTCUT_LINES = {
    "identity": ("identity shortcut", "solid"),
    "padded": ("identity, zero-padded", "dot"),
    "projection": ("projection (1×1)", "dash"),
}


def part_label(part: Mapping[str, Any]) -> str:
    """`stage 2, block 1` of an entry of `nets.parts`; counted from 1."""
    if part["kind"] == "stem":
        return "first convolution"
    if part["kind"] == "classifier":
        return "classifier"
    return f"stage {part['stage']}, block {int(part['name'].rpartition('.')[2]) + 1}"


def _kernels(part: Mapping[str, Any]) -> list[str]:
    """`3×3, 16` for each convolution on the main path, `10 classes` for the classifier."""
    if part["kind"] == "classifier":
        return [f"{part['layers'][0]['filters']} classes"]
    main = [layer for layer in part["layers"] if ".shortcut." not in layer["name"]]
    return [f"{layer['kernel']}×{layer['kernel']}, {layer['filters']}" for layer in main]


def network_drawing(
    networks: Mapping[str, Sequence[Mapping[str, Any]]],
    chosen: str = "",
    *,
    theme: Theme = "neutral",
) -> go.Figure:
    """Networks side by side: a row a stage, a box a block, an arc a shortcut; data flow downwards.

    `networks` has name -> `nets.parts`; one or two. The block named `chosen` is outlined. Every
    box carries its module's name as customdata.
    """
    if not networks:
        return empty("No network to draw.", theme)
    _, ink = _THEMES[theme]
    figure = make_subplots(
        1, len(networks), horizontal_spacing=0.04, subplot_titles=[escape(name) for name in networks]
    )
    drawn: set[str] = set()
    rows = max(part["stage"] for parts in networks.values() for part in parts)
    stages = Counter((name, part["stage"]) for name, parts in networks.items() for part in parts)
    widest = max(4, *stages.values())
    roomy = widest <= 4  # words fit into a box
    for column, parts in enumerate(networks.values(), start=1):
        place = {"row": 1, "col": column}
        for stage in range(rows + 1):
            own = [part for part in parts if part["stage"] == stage]
            if not own:
                continue
            y = -stage
            # Between the boxes only: plotly draws lines above bars.
            across: list[tuple[float | None, float | None]] = []
            for index in range(len(own) + 1):
                start = -0.6 if index == 0 else index - 0.69
                across += [(start, y), (index - 0.31 if index < len(own) else index - 0.4, y)]
                across += [(None, None)] if index < len(own) else []
            if any(part["stage"] > stage for part in parts):  # on to the next row
                end = len(own) - 0.4
                across += [(end, y - 0.52), (-0.6, y - 0.52), (-0.6, y - 1)]
            figure.add_scatter(
                x=[point[0] for point in across],
                y=[point[1] for point in across],
                mode="lines",
                line={"color": "rgba(128,128,128,0.7)", "width": 1.5},
                hoverinfo="skip",
                showlegend=False,
                **place,
            )
            text = ["<br>".join(_kernels(part)) if roomy else "" for part in own]
            picked = [part["name"] == chosen for part in own]
            figure.add_bar(
                x=list(range(len(own))),
                y=[0.46] * len(own),
                base=[y - 0.23] * len(own),
                width=0.62,
                marker={
                    "color": _STAGE_COLOURS[stage if stage <= rows - 1 else -1],
                    "line": {"color": ink, "width": [3.5 if one else 0 for one in picked]},
                },
                # A click is a selection: the others shall not fade.
                selected={"marker": {"opacity": 1}},
                unselected={"marker": {"opacity": 1}},
                text=text,
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                textfont={"color": "#111111", "size": 11},
                constraintext="none",
                customdata=[part["name"] for part in own],
                hovertext=[_hover(part) for part in own],
                hovertemplate="%{hovertext}<extra></extra>",
                showlegend=False,
                **place,
            )
            for kind, (name, dash) in _SHORTCUT_LINES.items():
                arcs = [index for index, part in enumerate(own) if part["shortcut"] == kind]
                if not arcs:
                    continue
                x, height = _arcs(arcs, y)
                figure.add_scatter(
                    x=x,
                    y=height,
                    mode="lines",
                    name=name,
                    legendgroup=kind,
                    showlegend=kind not in drawn,
                    line={"color": "#0072B2", "width": 2.2, "dash": dash},
                    hoverinfo="skip",
                    **place,
                )
                drawn.add(kind)
            alone = len(own) == 1  # its line to the next row runs where the words would stand
            figure.add_annotation(
                x=0.75 if alone else -0.5,
                y=y if alone else y - 0.38,
                text=_row_label(own, stage),
                showarrow=False,
                xanchor="left",
                font_size=11,
                **place,
            )
    figure.update_xaxes(range=[-0.8, widest - 0.2], visible=False, fixedrange=True)
    figure.update_yaxes(range=[-rows - 0.55, 0.6], visible=False, fixedrange=True)
    title = "A box is a block, an arc its shortcut; images enter at the top"
    return _finish(figure, title, theme, height=100 * (rows + 1) + 130).update_layout(
        barmode="overlay", margin={"l": 10, "r": 10, "t": 80, "b": 50}, dragmode=False
    )


def _arcs(blocks: Sequence[int], y: float) -> tuple[list[float | None], list[float | None]]:
    """Half ellipses over boxes at these places, with gaps between them."""
    turn = np.linspace(0, np.pi, 15)
    x: list[float | None] = []
    height: list[float | None] = []
    for block in blocks:
        x += [*(block - 0.42 * np.cos(turn)), None]
        height += [*(y + 0.41 * np.sin(turn)), None]
    return x, height


def _row_label(parts: Sequence[Mapping[str, Any]], stage: int) -> str:
    shape = parts[-1]["shape_out"]
    if parts[0]["kind"] == "classifier":
        return f"average pooling and classifier: {shape[0]} scores"
    size = "×".join(str(side) for side in shape)
    if parts[0]["kind"] == "stem":
        return f"first convolution: {size} out"
    blocks = f"{len(parts)} block" + ("" if len(parts) == 1 else "s")
    return f"stage {stage}: {blocks}, {size} out"


def _hover(part: Mapping[str, Any]) -> str:
    shapes = " → ".join("×".join(map(str, part[key])) for key in ("shape_in", "shape_out"))
    lines = [f"<b>{part_label(part)}</b>", "; ".join(_kernels(part)), shapes]
    lines.append(f"{part['parameters']:,} parameters, {part['multiply_adds']:,} multiply-adds")
    return "<br>".join(lines)
