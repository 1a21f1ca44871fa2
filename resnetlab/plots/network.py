"""A network drawn block by block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from resnetlab.plots import draw, style
from resnetlab.plots.style import Look, empty, finish

Part = Mapping[str, Any]  # an entry of `nets.parts`
SHORTCUTS = {
    "identity": ("identity shortcut", style.GREY),
    "padded": ("identity, zero-padded", style.SHORTCUT_COLOURS["A"]),
    "projection": ("projection (1×1)", style.SHORTCUT_COLOURS["B"]),
}
_MOST_WORDS = 4  # blocks of a row into whose boxes words fit


def part_label(part: Part) -> str:
    """`stage 2, block 1` of an entry of `nets.parts`; counted from 1."""
    if part["kind"] == "stem":
        return "first convolution"
    if part["kind"] == "classifier":
        return "classifier"
    return f"stage {part['stage']}, block {int(part['name'].rpartition('.')[2]) + 1}"


def network_drawing(networks: Mapping[str, Sequence[Part]], chosen: str = "") -> go.Figure:
    """Networks side by side: a row a stage, a box a block, an arc a shortcut; data flow downwards.

    `networks` has name -> `nets.parts`; one or two. The block named `chosen` is outlined. Every
    box carries its module's name as customdata.
    """
    if not networks:
        return empty("No network to draw.")
    titles = [escape(name) for name in networks]
    figure = draw.panels(titles, horizontal_spacing=0.04, shared_yaxes=False)
    last = max(part["stage"] for parts in networks.values() for part in parts)
    stages = Counter((name, part["stage"]) for name, parts in networks.items() for part in parts)
    widest = max(_MOST_WORDS, *stages.values())
    for column, parts in enumerate(networks.values(), start=1):
        place, end = {"row": 1, "col": column}, max(part["stage"] for part in parts)
        for stage in range(end + 1):
            row = [part for part in parts if part["stage"] == stage]
            if row:
                _add_path(figure, len(row), stage, stage < end, place)
                colour = style.STAGE_COLOURS[stage - 1] if 0 < stage < last else style.PALE
                widths = [3.5 if part["name"] == chosen else 0 for part in row]
                marker = {"color": colour, "line": {"width": widths}}
                _add_boxes(figure, row, stage, marker, widest <= _MOST_WORDS, place)
                _add_arcs(figure, row, stage, place)
                _add_label(figure, row, stage, place)
    figure.update_xaxes(range=[-0.8, widest - 0.2], visible=False, fixedrange=True)
    figure.update_yaxes(range=[-last - 0.55, 0.6], visible=False, fixedrange=True)
    legend = ["colour of a box: stage, colour of an arc: kind of shortcut"]
    title = "A box is a block, an arc its shortcut; images enter at the top"
    finish(figure, title, "", legend, 100 * (last + 1) + 156)
    margin = {"l": 10, "r": 10, "t": 106, "b": 50}
    return figure.update_layout(barmode="overlay", margin=margin, dragmode=False)


def _add_path(figure: go.Figure, blocks: int, stage: int, goes_on: bool, place: Any) -> None:
    """The line of the data, between the boxes only, as plotly draws lines above bars; None is a gap."""
    starts = [-0.6, *(index - 0.69 for index in range(1, blocks + 1))]
    ends = [*(index - 0.31 for index in range(blocks)), blocks - 0.4]
    points: list[tuple[float | None, float | None]] = []
    for start, end in zip(starts, ends, strict=True):
        points += [(start, -stage), (end, -stage), (None, None)]
    points.pop()
    if goes_on:  # to the next row
        points += [(ends[-1], -stage - 0.52), (-0.6, -stage - 0.52), (-0.6, -stage - 1)]
    x, y = zip(*points, strict=True)
    look = Look("rgba(128,128,128,0.7)", width=1.5)
    draw.line(figure, x, y, look, hoverinfo="skip", **place)


def _add_boxes(
    figure: go.Figure, row: Sequence[Part], stage: int, marker: Any, words: bool, place: Any
) -> None:
    box = place | style.HOUSE["box"] | {"marker": marker, "meta": style.INKED}
    box |= {"x": list(range(len(row))), "y": [0.46] * len(row), "base": [-stage - 0.23] * len(row)}
    box["text"] = ["<br>".join(_kernels(part)) if words else "" for part in row]
    names, hovers = [part["name"] for part in row], [_hover(part) for part in row]
    figure.add_bar(**box, customdata=names, hovertext=hovers)


def _add_arcs(figure: go.Figure, row: Sequence[Part], stage: int, place: Any) -> None:
    """Half ellipses over the boxes that have a shortcut, with gaps between them."""
    turn = np.linspace(0, np.pi, 15)
    for kind, (name, colour) in SHORTCUTS.items():
        x: list[float | None] = []
        y: list[float | None] = []
        for block, part in enumerate(row):
            if part["shortcut"] == kind:
                x += [*(block - 0.42 * np.cos(turn)), None]
                y += [*(-stage + 0.41 * np.sin(turn)), None]
        if x:
            draw.line(figure, x, y, Look(colour), name, hoverinfo="skip", **place)


def _add_label(figure: go.Figure, row: Sequence[Part], stage: int, place: Any) -> None:
    shape = row[-1]["shape_out"]
    size = "×".join(map(str, shape))
    blocks = f"{len(row)} block" + ("" if len(row) == 1 else "s")
    text = {
        "classifier": f"average pooling and classifier: {shape[0]} scores",
        "stem": f"first convolution: {size} out",
    }.get(row[0]["kind"], f"stage {stage}: {blocks}, {size} out")
    # The line of a single box to the next row runs where the words would stand.
    at = {"x": 0.75, "y": -stage} if len(row) == 1 else {"x": -0.5, "y": -stage - 0.38}
    figure.add_annotation(text=text, showarrow=False, xanchor="left", font_size=11, **at, **place)


def _kernels(part: Part) -> list[str]:
    """`3×3, 16` for each convolution on the main path, `10 classes` for the classifier."""
    if part["kind"] == "classifier":
        return [f"{part['layers'][0]['filters']} classes"]
    main = [layer for layer in part["layers"] if ".shortcut." not in layer["name"]]
    return [f"{layer['kernel']}×{layer['kernel']}, {layer['filters']}" for layer in main]


def _hover(part: Part) -> str:
    shapes = " → ".join("×".join(map(str, part[key])) for key in ("shape_in", "shape_out"))
    lines = [f"<b>{part_label(part)}</b>", "; ".join(_kernels(part)), shapes]
    lines.append(f"{part['parameters']:,} parameters, {part['multiply_adds']:,} multiply-adds")
    return "<br>".join(lines)
