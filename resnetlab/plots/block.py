"""Blocks drawn layer by layer, plain and residual beside one another (Figures 2 and 5 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import plotly.graph_objects as go

from resnetlab.plots import draw, style
from resnetlab.plots.network import SHORTCUTS, Part
from resnetlab.plots.style import Look, empty, finish

_LINE = Look("rgba(128,128,128,0.9)", width=2)
_WAY = 1.0  # where a shortcut runs, beside boxes of width 1.3 around 0


def block_drawing(blocks: Mapping[str, Part]) -> go.Figure:
    """Blocks side by side: a box a layer, a line around them the shortcut, data flow downwards.

    `blocks` has a title -> an entry of `nets.parts` that is a block; one to four. What stands at a
    shortcut is what the network's module does: nothing, every second pixel and zeros, a projection.
    """
    if not blocks:
        return empty("No block to draw.")
    figure = draw.panels(
        [escape(title) for title in blocks], horizontal_spacing=0.02, shared_yaxes=False
    )
    paths = [_path(part) for part in blocks.values()]
    for column, (part, path) in enumerate(zip(blocks.values(), paths, strict=True), start=1):
        place = {"row": 1, "col": column}
        _add_boxes(figure, part, path, place)
        _add_words(figure, part, path, place)
        if part["shortcut"] != "none":
            _add_shortcut(figure, part, len(path), place)
    longest = max(map(len, paths))
    figure.update_xaxes(range=[-1.15, 2.15], visible=False, fixedrange=True)
    figure.update_yaxes(range=[-longest - 4.4, 0.5], visible=False, fixedrange=True)
    legend = [
        "colour of a box: stage, grey: no convolution",
        "colour of a line: shortcut",
        "/2: stride 2",
    ]
    title = "What a block computes: x enters at the top, y leaves below"
    finish(figure, title, "", legend, 40 * longest + 370)
    margin = {"l": 10, "r": 10, "t": figure.layout.margin.t + 10, "b": 50}
    return figure.update_layout(barmode="overlay", margin=margin, dragmode=False)


def block_strip() -> go.Figure:
    """The two blocks, layers from left to right: what a glance needs, without shapes and counts."""
    titles = ["plain: the layers learn all of H(x)", "residual: they learn the change F(x)"]
    figure = draw.panels(titles, rows=2, shared_yaxes=False, vertical_spacing=0.2)
    boxes = {1: "conv", 2: "ReLU", 3: "conv"}
    colours = [style.PALE if text == "ReLU" else style.STAGE_COLOURS[0] for text in boxes.values()]
    for row, way in enumerate(("none", "identity"), start=1):
        place: Any = {"row": row, "col": 1}
        end = 4.1 if way == "none" else 4.4
        stops = [0.12, 0.64, 1.36, 1.64, 2.36, 2.64, 3.36, end]
        for start, stop in zip(stops[::2], stops[1::2], strict=True):
            draw.line(figure, [start, stop], [0, 0], _LINE, hoverinfo="skip", **place)
        box = {"x": list(boxes), "y": [0.6] * 3, "base": [-0.3] * 3, "text": list(boxes.values())}
        look = style.HOUSE["box"] | {"width": 0.72, "hoverinfo": "skip"}
        figure.add_bar(**box, marker={"color": colours}, **look, **place)
        tip = {"symbol": "triangle-right", "size": 9, "color": _LINE.colour}
        figure.add_scatter(x=[end], y=[0], mode="markers", marker=tip, hoverinfo="skip", **place)
        out = "<i>H</i>(x)" if way == "none" else "<i>F</i>(x) + x"
        _write(figure, "x", 0, 0, place, font_size=15)
        _write(figure, out, end + 0.12, 0, place, xanchor="left", font_size=15)
    name, colour = SHORTCUTS["identity"]
    arc = ([0.35, 0.35, 3.75, 3.75], [0, 0.8, 0.8, 0.1])
    draw.line(figure, *arc, Look(colour, width=style.BOLD), hoverinfo="skip", row=2)
    _write(figure, f"{name}: x as it is", 2.05, 0.82, {"row": 2, "col": 1}, yanchor="bottom")
    sign = {"symbol": "circle-cross", "size": 20, "color": "#ffffff"}
    sign["line"] = {"width": 2, "color": colour}
    figure.add_scatter(x=[3.75], y=[0], mode="markers", marker=sign, hoverinfo="skip", row=2, col=1)
    figure.update_xaxes(range=[-0.15, 6.1], visible=False, fixedrange=True)
    figure.update_yaxes(range=[-0.4, 1.3], visible=False, fixedrange=True)
    finish(figure, "Two blocks", "", ["without batch norm and the last ReLU"], 350)
    margin = {"l": 4, "r": 4, "t": 104, "b": 8}
    return figure.update_layout(barmode="overlay", dragmode=False, margin=margin, showlegend=False)


def _path(part: Part) -> list[tuple[str, bool]]:
    """What stands on the main path: words, and whether it is a convolution."""
    path: list[tuple[str, bool]] = []
    for layer in part["layers"]:
        if ".shortcut." not in layer["name"]:
            path += [(_conv(layer), True), ("batch norm", False), ("ReLU", False)]
    return path[:-1]  # the last ReLU stands behind the addition


def _conv(layer: Mapping[str, Any]) -> str:
    """`3×3 conv, 32, /2`: kernel, filters and, as in the paper's Figure 3, the stride."""
    stride = f", /{layer['stride']}" if layer["stride"] > 1 else ""
    return f"{layer['kernel']}×{layer['kernel']} conv, {layer['filters']}{stride}"


def _add_boxes(figure: go.Figure, part: Part, path: list[tuple[str, bool]], place: Any) -> None:
    """The layers, and behind the place of the addition the last ReLU, which both families have."""
    rows = [*range(1, len(path) + 1), len(path) + 2]
    words = [*path, ("ReLU", False)]
    stage = style.STAGE_COLOURS[part["stage"] - 1]
    figure.add_bar(
        x=[0] * len(rows),
        y=[0.66] * len(rows),
        base=[-row - 0.33 for row in rows],
        marker={"color": [stage if weighted else style.PALE for _, weighted in words]},
        text=[text for text, _ in words],
        **style.HOUSE["box"] | {"width": 1.5, "hoverinfo": "skip"},
        **place,
    )
    ends = [*rows[: len(path)], len(path) + 2, len(path) + 3]
    x: list[float | None] = []
    y: list[float | None] = []
    for start, end in zip([0, *rows], ends, strict=True):
        x += [0, 0, None]
        y += [-start - 0.33, -end + 0.33, None]
    draw.line(figure, x, y, _LINE, hoverinfo="skip", **place)
    tips = {"symbol": "triangle-down", "size": 8, "color": _LINE.colour}
    at = {"x": [0] * len(ends), "y": [0.38 - end for end in ends]}
    figure.add_scatter(mode="markers", marker=tips, hoverinfo="skip", **at, **place)


def _write(figure: go.Figure, text: str, x: float, y: float, place: Any, **how: Any) -> None:
    figure.add_annotation(text=text, x=x, y=y, showarrow=False, **{"font_size": 12} | how | place)


def _add_words(figure: go.Figure, part: Part, path: list[tuple[str, bool]], place: Any) -> None:
    """x and y with their shapes, what the layers compute, and the block's parameters."""
    layers, shapes = len(path), ["×".join(map(str, part[key])) for key in ("shape_in", "shape_out")]
    _write(figure, f"<b>x</b>: {shapes[0]}", 0, 0, place)
    _write(figure, f"<b>y</b>: {shapes[1]}", 0, -layers - 3, place)
    _write(figure, f"{part['parameters']:,} parameters", 0, -layers - 4, place)
    bracket = ([-0.86, -0.92, -0.92, -0.86], [-0.7, -0.7, -layers - 0.3, -layers - 0.3])
    draw.line(figure, *bracket, _LINE, hoverinfo="skip", **place)
    name = "<i>H</i>(x)" if part["shortcut"] == "none" else "<i>F</i>(x)"
    beside = {"xanchor": "right", "textangle": -90, "font_size": 14}
    _write(figure, name, -0.95, -(layers + 1) / 2, place, **beside)


def _add_shortcut(figure: go.Figure, part: Part, layers: int, place: Any) -> None:
    """The line around the layers into the sum, and what it does on its way."""
    name, colour = SHORTCUTS[part["shortcut"]]
    way = ([0, _WAY, _WAY, 0.13], [-0.5, -0.5, -layers - 1, -layers - 1])
    draw.line(figure, *way, Look(colour, width=style.BOLD), name, hoverinfo="skip", **place)
    sign = {"symbol": "circle-cross-open", "size": 22, "color": colour, "line": {"width": 2}}
    figure.add_scatter(x=[0], y=[-layers - 1], mode="markers", marker=sign, hoverinfo="skip", **place)
    (channels, *size), (wider, *smaller) = part["shape_in"], part["shape_out"]
    kept = "x, and" if size == smaller else "every second<br>pixel, and"
    projection = [_conv(layer) for layer in part["layers"] if ".shortcut." in layer["name"]]
    does, added = {
        "identity": ("x as it is", "x"),
        "padded": (f"{kept}<br>{wider - channels} channels<br>of zeros", "pad(x)"),
        "projection": (
            "<br>".join([*projection, "batch norm"]).replace(", ", ",<br>", 1),
            "W<sub>s</sub>x",
        ),
    }[part["shortcut"]]
    _write(figure, does, _WAY + 0.08, -(layers + 1) / 2, place, xanchor="left", align="left")
    _write(figure, f"<i>F</i>(x)<br>+ {added}", -0.2, -layers - 1, place, xanchor="right")
