"""A figure for a narrow screen: panels stacked, title in lines, scales and legend below with room."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import plotly.graph_objects as go

from resnetlab.plots import style

TYPE = 11  # pixels
_LETTERS = 38, 60  # of a line of title and subtitle
_WIDE, _LETTER, _KEY = 310, 6.8, 52  # pixels: of a legend, of its letters, of an entry besides its name
_PANEL, _GAP = 240, 84  # pixels of a panel, and between two for numbers, axis title and panel title
_AXIS, _LINE, _MENU, _SCALE = 62, 25, 110, 64  # pixels below: of the axis, a legend line, and so on
_MOST_LINES = 10  # of a legend, which scrolls beyond


def stack(figure: go.Figure) -> go.Figure:
    """The figure, in place, as it can be read on a phone, about 360 pixels wide.

    Panels side by side stand one below the other in their order, each with numbers and titles on its
    axes. What stood beside them stands below: slider and buttons, scales of colour, legend.
    """
    layout = figure.layout
    layout.font.size = TYPE
    style.wrap_title(layout, TYPE, *_LETTERS)
    title = layout.title.text or ""
    layout.title.update(xref="container", x=0.02, pad_t=22, font_size=15)
    above = 84 + round(1.4 * TYPE) * title.count("<br>") if title else layout.margin.t or 30
    panels = _panels(figure)
    turned = style.turn_labels(figure, TYPE)
    if len({x.domain for x, _ in panels}) > 1:
        height = len(panels) * _PANEL + (len(panels) - 1) * (_GAP + turned)
        _stack_panels(figure, panels, height)
    else:
        whole = (layout.height or 460) - (layout.margin.t or 0) - (layout.margin.b or 0)
        rows = len({y.domain for _, y in panels})
        height = max(180, min(whole, 320)) if rows < 2 else max(whole, 130 * rows)
    below = _put_below(figure, height, turned)
    left = _names_left(figure) or min(layout.margin.l or 0, 58)
    right = min(layout.margin.r or 0, 130) if layout.showlegend is False else 12
    margin = {"l": left, "r": max(12, right), "t": above, "b": below}
    return figure.update_layout(margin=margin, height=round(above + height + below))


def _panels(figure: go.Figure) -> list[tuple[Any, Any]]:
    """The axes of each panel, row by row as a page is read."""
    pairs = []
    for x in figure.select_xaxes():
        other = (x.anchor or "y").replace("y", "yaxis", 1)
        pairs.append((x, figure.layout[other]))
    return sorted(
        pairs, key=lambda pair: (-(pair[1].domain or (0, 1))[1], (pair[0].domain or (0, 1))[0])
    )


def _stack_panels(figure: go.Figure, panels: list[tuple[Any, Any]], height: int) -> None:
    """Give every panel the whole width, below the one before it, with its own title and axis titles."""
    apart = (height - _PANEL) / max(1, len(panels) - 1)  # from top to top
    notes = [note for note in figure.layout.annotations if (note.xref, note.yref) == ("paper", "paper")]
    named = {
        axis.plotly_name[0]: axis.title.text for pair in panels for axis in pair if axis.title.text
    }
    for number, (x, y) in enumerate(panels):
        left, right = x.domain or (0, 1)
        top = (y.domain or (0, 1))[1]
        start = 1 - number * apart / height
        for note in list(notes):
            if note.x is not None and left <= note.x <= right and abs((note.y or 0) - top) < 0.01:
                note.update(x=0, xanchor="left", y=start)
                note.text = "<br>".join(textwrap.wrap(note.text, _LETTERS[1]))
                notes.remove(note)
        x.domain, y.domain = (0, 1), (max(0.0, start - _PANEL / height), start)
        for axis in (x, y):
            if axis.visible is not False:
                axis.showticklabels = True
                axis.title.text = axis.title.text or named.get(axis.plotly_name[0])


def _names_left(figure: go.Figure) -> int:
    """The pixels that names beside the rows take, whose axis needs no title then; 0 without names."""
    axes = {axis.plotly_name.replace("axis", ""): axis for axis in figure.select_yaxes()}
    axes = {key: axis for key, axis in axes.items() if axis.type == "category"}
    names = [name for trace in figure.data if (trace.yaxis or "y") in axes for name in trace.y]
    for axis in axes.values():
        axis.title.text = None
    lines = [re.sub("<[^>]*>", "", line) for name in names for line in str(name).split("<br>")]
    return round(14 + _LETTER * max(map(len, lines))) if names else 0


def _put_below(figure: go.Figure, height: float, turned: int) -> int:
    """Move what controls and explains the panels below them; the pixels that this takes.

    `turned` are those of names that stand upright under the axis.
    """
    layout = figure.layout
    below = _AXIS if any(axis.visible is not False for axis in figure.select_xaxes()) else 24
    below += turned
    for menu in layout.updatemenus:
        menu.update(x=0, xanchor="left", y=0, yanchor="top", pad_t=below)
    if layout.updatemenus:
        below += 40
    for slider in layout.sliders:
        slider.update(x=0, len=1, y=0, yanchor="top", pad_t=below)
        below += _MENU
    for name in sorted(name for name in layout if str(name).startswith("coloraxis")):
        bar = layout[name].colorbar
        if layout[name].showscale is not False:
            bar.update(orientation="h", x=0, xanchor="left", len=1, lenmode="fraction", thickness=12)
            bar.update(y=-below / height, yanchor="top", title_side="top")
            below += _SCALE
    names = [trace.name for trace in figure.data if trace.showlegend and trace.name]
    if names and layout.showlegend is not False:
        wide = _KEY + _LETTER * max(map(len, names))
        lines = min(_MOST_LINES, -(-len(names) // max(1, int(_WIDE // wide))))
        layout.legend = style.HOUSE["layout"]["legend"] | {
            "xref": "container",
            "maxheight": lines * _LINE + 12,
        }
        below += lines * _LINE + 16
    return below
