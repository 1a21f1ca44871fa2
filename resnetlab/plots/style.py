"""The look of all figures: one visual grammar, the frame of a figure, and the sizes of a hall.

The grammar. In error curves colour is depth, dashed is training and bold is test, as in the paper. In
figures of layers, gradients and losses dashed is plain and solid is residual. Shortcut options differ
in marker; where depth does not tell networks apart, colour says the option too. Dotted is a limit or
a start to compare with. Every figure says in its legend line which of this it uses.
"""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb, sample_colorscale

from resnetlab.plots import series

# Okabe-Ito, which colour-blind readers can tell apart, and what it lacks.
BLUE, RED, GREEN, PINK, ORANGE, SKY = "#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9".split()
PURPLE, BROWN, PALE, GREY = "#7A5195", "#8C6D31", "#999999", "#78808c"
# The paper's depths keep one colour everywhere.
_DEPTH_COLOURS = {8: PALE, 14: BLUE, 18: SKY, 20: ORANGE, 26: PURPLE, 32: SKY, 34: RED, 38: BROWN}
_DEPTH_COLOURS |= {44: GREEN, 50: GREEN, 56: RED, 101: PURPLE, 110: PINK, 152: BROWN}
_OTHER_DEPTHS = (BLUE, PURPLE, BROWN, PALE, PINK)
SHORTCUT_COLOURS = {"none": RED, "A": BLUE, "B": GREEN, "C": PINK}
SHORTCUT_MARKERS = {"none": "x", "A": "circle", "B": "square", "C": "triangle-up"}
PAPER_MARKER = "diamond-open"
# For lines that are neither depths nor options. As many as can be told apart at a glance.
PALETTE = (BLUE, RED, GREEN, PINK, ORANGE, SKY, PURPLE, BROWN)
STAGE_COLOURS = (SKY, ORANGE, GREEN, PINK)  # of a drawn network; its ends are pale

DASHED, SOLID, DOTTED = "dash", "solid", "dot"
FURTHER_DASHES = ("dot", "dashdot", "longdash", "longdashdot")  # when the palette is used up
BOLD, MAIN, TRAIN, FAINT, HAIR = 3.2, 2.4, 1.6, 1.2, 1.0  # widths of lines in pixels
POINT, SMALL_POINT = 9, 6  # widths of markers in pixels
OPACITY = 0.6  # of a point that is one of several runs
# Sentences of legend lines.
DASHED_TRAIN = "dashed: training, bold: test"
DASHED_PLAIN = "dashed: plain, solid: residual"
BY_OPTION = "colour and marker: shortcut option"
MEANS = "lines: means over seeds, points: runs"
BANDS = "lines: means over seeds, bands: from lowest to highest seed"

Theme = Literal["neutral", "light", "dark"]
Keywords = dict[str, Any]  # further arguments of plotly
# What plotly calls the layout of every figure, its axes, themes and the boxes of a drawn network.
HOUSE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
CONFIG: dict[str, Any] = HOUSE["config"]
INKED = "outline in ink"  # `meta` of a trace whose outline is drawn like text
_WIDE = 90  # letters of a legend line in the narrowest notebook
TITLE_LINE = 26  # pixels a line of a title or subtitle takes at the usual size: 1.3 x 1.4 x 14


class Look(NamedTuple):
    """How a line is drawn; with a `symbol` it carries a few markers, which tell shortcut options."""

    colour: str
    dash: str = SOLID
    width: float = MAIN
    symbol: str | None = None

    def marker(self, **more: Any) -> dict[str, Any]:
        return {"color": self.colour, "symbol": self.symbol, "size": POINT} | more


def depth_colour(depth: int) -> str:
    """The colour of a depth, the same in every figure."""
    return _DEPTH_COLOURS.get(depth, _OTHER_DEPTHS[depth // 6 % len(_OTHER_DEPTHS)])


def palette(index: int) -> str:
    """A colour for the line of that number, from 0."""
    return PALETTE[index % len(PALETTE)]


def edit_colours(edits: Iterable[str]) -> dict[str, str]:
    """edit -> its colour, for edited networks (`Run.surgery`): there depth does not tell them apart.

    Dark at the lower and light at the upper end of a scale (plotly's Plasma, its pale end left out).
    """

    def natural(edit: str) -> list[float]:
        return [float(part) for part in re.findall(r"[0-9.]+(?:e-?[0-9]+)?", edit)]

    ordered = sorted(set(edits) - {""}, key=natural)
    places = [0.8 * index / max(1, len(ordered) - 1) for index in range(len(ordered))]
    shades = sample_colorscale("Plasma", places, colortype="tuple")
    colours = ["#" + "".join(f"{round(255 * part):02x}" for part in shade) for shade in shades]
    return dict(zip(ordered, colours, strict=True))


def rgba(colour: str, alpha: float) -> str:
    return f"rgba({','.join(map(str, hex_to_rgb(colour)))},{alpha})"


def error_look(quantity: str, colour: str, symbol: str | None = None) -> Look:
    """Dashed is training, bold is test (or the held-out part)."""
    train = quantity.startswith("train")
    return Look(colour, DASHED if train else SOLID, TRAIN if train else BOLD, symbol)


def family_look(shortcut: str, colour: str, symbol: str | None = None) -> Look:
    """Dashed is plain, solid is residual."""
    return Look(colour, DASHED if shortcut == "none" else SOLID, MAIN, symbol)


def option_look(shortcut: str) -> Look:
    """Where depth is the axis: colour and marker are the option's."""
    return family_look(shortcut, SHORTCUT_COLOURS[shortcut], SHORTCUT_MARKERS[shortcut])


# --- a whole figure ---------------------------------------------------------------------------


def finish(
    figure: go.Figure,
    title: str,
    subtitle: str,
    legend: Sequence[str],
    height: int = 460,
    below: int = 104,
) -> go.Figure:
    """House style: title left, legend below, one grid; legend line and hover texts.

    `legend` says what colours, dashes and markers mean, a few words each. It stands under title and
    subtitle; every line beyond the first of them makes the figure higher. `below` is the room under the
    axes in pixels. A trace's `hovertemplate` names it: what is shown of its values follows from
    titles and units of the axes.
    """
    grammar = " ".join(f"{words[0].upper()}{words[1:]}." for words in legend)
    small = "<br>".join(filter(None, [subtitle, *textwrap.wrap(grammar, _WIDE)]))
    text = f"<b>{title}</b>" + (f"<br><span style='font-size:13px'>{small}</span>" if small else "")
    more = TITLE_LINE * small.count("<br>")
    margin = {"l": 70, "r": 20, "t": 96 + more, "b": below}
    figure.update_layout(HOUSE["layout"], title_text=text, height=height + more, margin=margin)
    figure.update_xaxes(HOUSE["axis"]).update_yaxes(HOUSE["axis"])
    figure.data = sorted(figure.data, key=_on_top)
    _name_once(figure)
    _derive_hover(figure)
    return themed(figure)


def themed(figure: go.Figure, theme: Theme = "neutral") -> go.Figure:
    """The figure, in place, on the paper and in the ink of a theme; every figure is drawn neutral."""
    figure.update_layout(HOUSE["themes"][theme])
    if theme == "dark":  # words in the colour of their curve would be too dark there to be read
        for note in figure.layout.annotations:
            if (note.font.color or "").startswith("#"):
                light = [round(part + 0.45 * (255 - part)) for part in hex_to_rgb(note.font.color)]
                note.font.color = "#" + "".join(f"{part:02x}" for part in light)
    return figure.update_traces(marker_line_color=figure.layout.font.color, selector={"meta": INKED})


def _on_top(trace: Any) -> int:
    """Bands lie under faint lines, faint lines under those with a name."""
    if getattr(trace, "fill", None):
        return 0
    return 1 if trace.name is None and "lines" in (getattr(trace, "mode", None) or "") else 2


def _name_once(figure: go.Figure) -> None:
    """A name stands in the legend once, and hides or shows all traces that have it or its group."""
    named: set[str] = set()
    for trace in figure.data:
        if trace.type in ("scatter", "bar"):
            trace.showlegend = bool(trace.name) and trace.showlegend is None and trace.name not in named
            trace.legendgroup = trace.legendgroup or trace.name
            named |= {trace.name} if trace.showlegend else set()


def _derive_hover(figure: go.Figure) -> None:
    """`who, step 100: error 12.30 %`, from a trace's `hovertemplate` and the axes' titles."""
    axes = {axis.plotly_name: axis for axis in [*figure.select_xaxes(), *figure.select_yaxes()]}
    # Of panels that share an axis only the outermost has its title.
    titles = {(name[0], axis.domain): axis.title.text for name, axis in axes.items() if axis.title.text}
    scale = figure.layout.coloraxis.colorbar.title.text

    def shown(trace: Any, letter: str, digits: str) -> str:
        axis = axes[f"{letter}axis{(trace[f'{letter}axis'] or letter)[1:]}"]
        title = axis.title.text or titles.get((letter, axis.domain), "")
        name, _, unit = title.rstrip(")").partition(" (")
        values = np.asarray(trace[letter])
        if values.dtype.kind not in "iuf" or axis.type == "category":
            digits = ""
        elif unit.startswith("%"):
            digits = ":.2f"
        elif np.array_equal(values, np.floor(values)):
            digits = ":,"
        tail = " %" if unit.startswith("%") else " s" if unit == "s" else ""
        return f"{name} %{{{letter}{digits}}}{tail}"

    for trace in figure.data:
        who = trace.hovertemplate or ""
        if trace.hoverinfo == "skip" or who.endswith("</extra>"):
            continue
        x, y = shown(trace, "x", ":,.5~r"), shown(trace, "y", ":.4~g")
        if trace.type in ("heatmap", "contour"):
            value = "z" if trace.customdata is None else "customdata"
            words = f"{y}, {x}: {scale} %{{{value}:.4~g}}"
        else:
            words = f"{x}: {y}"
        trace.hovertemplate = ", ".join(filter(None, [who, words])) + "<extra></extra>"


def empty(message: str) -> go.Figure:
    """A figure that says why there is nothing to draw."""
    figure = go.Figure()
    figure.add_annotation(text=message, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    return finish(figure, "", "", [], height=220)


def conditions(frame: pd.DataFrame) -> str:
    """Where the values of a frame come from: data set, recipe, precision, seeds. For subtitles.

    Names are escaped: plotly reads tags in titles, and a folder may be called anything.
    """
    if frame.empty:
        return "no runs"
    data, recipes, precisions = (
        [escape(str(value)) for value in sorted(frame[key].unique())]
        for key in ("data", "recipe", "precision")
    )
    seeds = frame.groupby("network")["seed"].nunique()
    count = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    noun = "seed" if count == "1" else "seeds"
    # A title has no room for the names of many.
    recipe = f"recipe {' and '.join(recipes)}" if len(recipes) < 3 else f"{len(recipes)} recipes"
    return f"{' and '.join(data)}, {recipe}, {' and '.join(precisions)}, {count} {noun} per network"


# --- for a screen -----------------------------------------------------------------------------


def thin_lines(
    figure: go.Figure, most: int = series.MOST_POINTS, *, log: bool = False
) -> tuple[int, int]:
    """Leave at most `most` points of every line, in place: points left, points before.

    The lowest and highest of every stretch stay (`series.thin`), so no spike is lost; of a band the
    upper and the lower edge each. Markers, bars and heatmaps are left as they are.
    """
    shown = logged = 0
    for trace in figure.data:
        if trace.type != "scatter" or trace.x is None or "lines" not in (trace.mode or ""):
            continue
        x, y = np.asarray(trace.x), np.asarray(trace.y)
        # A band goes there along the upper edge, back along the lower one.
        edges = np.split(np.arange(len(x)), [len(x) // 2] if trace.fill else [])
        if max(map(len, edges)) > most:
            kept = np.concatenate(
                [edge[series.thin(x[edge], y[edge], most, log=log)] for edge in edges]
            )
            trace.x, trace.y = x[kept], y[kept]
            if trace.customdata is not None:
                trace.customdata = np.asarray(trace.customdata)[kept]
        shown += 0 if trace.fill else len(trace.x)
        logged += 0 if trace.fill else len(x)
    return shown, logged


def small(figure: go.Figure) -> go.Figure:
    """A copy beside its question: without title, whose legend line the whole figure has."""
    copy = go.Figure(figure)
    rows = len({axis.domain for axis in copy.select_yaxes()})
    named = sum(trace.showlegend is True for trace in copy.data)
    below = 56 + turn_labels(copy, 11)
    legend = {"y": 1, "yanchor": "top"}  # where no label of an axis can reach it
    above = 28 + (24 * -(-named // 2) if named <= 6 else 0)
    copy.update_layout(title_text="", height=60 + below + 165 * rows, font_size=11, sliders=[])
    copy.update_layout(
        margin={"l": 60, "r": 28 if below > 56 else 8, "t": above, "b": below}, dragmode=False
    )
    copy.update_layout(showlegend=named <= 6, legend=legend)
    copy.update_xaxes(title_text=None, selector={"type": "category"})  # its names say what they are
    return copy.update_annotations(font_size=12)


def untitled(figure: go.Figure) -> str:
    """Take the title from a figure, in place: subtitle and legend line, to be said beside it."""
    text = figure.layout.title.text or ""
    figure.update_layout(title_text="", margin_t=44)
    subtitle, *legend = re.sub(r"</?span[^>]*>", "", text.partition("</b><br>")[2]).split("<br>")
    return " ".join([f"{subtitle.rstrip('.')}.", *legend]) if subtitle else ""


def compact(figure: go.Figure, high: int) -> go.Figure:
    """The same figure in at most `high` pixels, in place; what rows of panels share is said once."""
    figure.update_layout(height=min(figure.layout.height, high), legend_font_size=13)
    layout, axes = figure.layout, list(figure.select_xaxes())
    floors = [(layout[(x.anchor or "y").replace("y", "yaxis", 1)].domain or (0, 1))[0] for x in axes]
    last = {x.title.text for x, floor in zip(axes, floors, strict=True) if floor == min(floors)}
    for x, floor in zip(axes, floors, strict=True):
        if floor > min(floors) and x.title.text in (None, *last):
            x.update(showticklabels=False, title_text=None)
    return figure


def turn_labels(figure: go.Figure, size: int, fit: int = 9) -> int:
    """Stand the names under an axis upright where they are long, in place; the pixels that this takes.

    `size` is that of the letters, `fit` how many of them a name may have lying.
    """
    named: dict[str, int] = {}  # axis -> letters of its longest line
    for trace in figure.data:
        for name in trace.x if trace.x is not None else ():
            if isinstance(name, str):
                axis, lines = (trace.xaxis or "x").replace("x", "xaxis", 1), name.split("<br>")
                named[axis] = max(named.get(axis, 0), *map(len, lines))
    longest = max(named.values(), default=0)
    if longest <= fit:
        return 0
    for axis in named:
        figure.layout[axis].tickangle = 90
    return round(0.72 * size * longest)


def enlarge(figure: go.Figure, factor: float = 1.6, share: float = 1.0) -> go.Figure:
    """The same figure for the back row of a hall: type, lines and markers larger, in place.

    `share` is the part of the page's width that it has: its words are broken to fit.
    """
    layout = figure.layout
    size = layout.font.size or 14
    layout.font.size = round(size * factor)
    more = wrap_title(layout, round(13 * factor * 0.85), round(36 * share), round(74 * share))
    columns = len({axis.domain for axis in figure.select_xaxes()})
    crowded = share < 1 and columns > 2  # panels too narrow for larger names
    drawing = not any(axis.visible is not False for axis in figure.select_yaxes())
    for note in layout.annotations:  # in a drawing words stand beside words, whose places do not grow
        note.font.size = round((note.font.size or size) * (1 if crowded or drawing else factor))
        note.yshift = (note.yshift or 0) + (7 if crowded else 0)  # clear of the next panel's numbers
        if share < 1 and "<" not in (note.text or ""):
            letters = (90 if crowded else 60) * share / columns
            note.text = "<br>".join(textwrap.wrap(note.text, round(letters)))
    for trace in figure.data:
        if trace.type in ("scatter", "scattergl"):
            if trace.line.width != 0:  # 0 is the edge of a band
                trace.line.width = (trace.line.width or 2) * factor
            trace.marker.size = (trace.marker.size or 6) * factor if trace.mode != "lines" else None
    for part in (*layout.sliders, *layout.updatemenus):
        part.pad.t = round((part.pad.t or 0) * factor)
    margin = layout.margin
    standing = any(axis.tickangle for axis in figure.select_xaxes())
    turned = 0 if standing else turn_labels(figure, layout.font.size)
    grown = {side: round((getattr(margin, side) or 0) * factor) for side in ("l", "r", "t", "b")}
    grown["t"] += round(more * TITLE_LINE * factor)
    grown["b"] += turned
    below = 0  # lines: the titles of panels side by side must not run into one another
    for axis in figure.select_xaxes():
        start, end = axis.domain or (0, 1)
        if axis.title.text and end - start < 0.6:
            wrapped = textwrap.wrap(axis.title.text, max(8, round(42 * share * (end - start))))
            axis.title.text = "<br>".join(wrapped)
            below = max(below, len(wrapped) - 1)
    grown["b"] += round(below * size * factor * 1.3)
    more_room = grown["t"] + grown["b"] - (margin.t or 0) - (margin.b or 0)
    panels = len({axis.domain for axis in figure.select_yaxes()})
    inner = ((layout.height or 460) - (margin.t or 0) - (margin.b or 0)) / panels
    # Too low for the numbers of its axis; in a drawing, for the words in their places.
    low = inner * (factor**1.5 - 1) if inner < 200 else inner * (factor - 1) if drawing else 0
    height = (layout.height or 460) + more_room + max(150 * (panels - 1), low * panels)
    return figure.update_layout(margin=grown, height=round(height))


def wrap_title(layout: Any, size: int, title: int, small: int) -> int:
    """Break title and subtitle, as plotly cuts what is wider than a page; how many lines that adds.

    `size` is that of the subtitle in pixels, `title` and `small` the letters of a line.
    """
    head = re.fullmatch(
        r"<b>(.*)</b>(?:<br><span style='font-size:13px'>(.*)</span>)?", layout.title.text or "", re.S
    )
    if head is None:
        return 0
    small_print = re.sub(r"(?<=[^.])<br>(?=[a-z])", " ", head[2] or "")  # a sentence over two lines
    before = small_print.split("<br>") if small_print else []
    above = [line for part in head[1].split("<br>") for line in textwrap.wrap(part, title)]
    below = [line for part in before for line in textwrap.wrap(part, small)]
    text = f"<br><span style='font-size:{size}px'>{'<br>'.join(below)}</span>"
    layout.title.text = f"<b>{'<br>'.join(above)}</b>" + (text if below else "")
    return int(layout.title.text.count("<br>")) - head[0].count("<br>")
