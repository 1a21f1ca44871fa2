"""What figures are made of: the networks of a frame, panels, lines, bands, runs, maps, log axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from resnetlab import store
from resnetlab.config import edit_of
from resnetlab.plots import style
from resnetlab.plots.style import Keywords, Look
from resnetlab.verdict.words import rounded

FAMILIES = ("plain", "residual")  # side by side in this order
KEYS = ["depth", "shortcut", "network"]
DEPTH, STEP = "depth (weighted layers)", "step"  # titles of axes
_RUN = ["family", "depth", "network", "seed", "study", "run"]


@dataclass(frozen=True)
class Drawn:
    """One network of a frame: its rows, and what it looks like in every figure."""

    name: str
    depth: int
    shortcut: str
    rows: pd.DataFrame
    colour: str
    symbol: str | None  # where shortcut options are to be told apart

    @property
    def family(self) -> str:
        return FAMILIES[self.shortcut != "none"]

    @property
    def option(self) -> str:
        return "no shortcut" if self.shortcut == "none" else f"option {self.shortcut}"

    def by_error(self, quantity: str) -> Look:
        """In error curves."""
        return style.error_look(quantity, self.colour, self.symbol)

    def by_family(self) -> Look:
        """In figures of layers, gradients and losses."""
        return style.family_look(self.shortcut, self.colour, self.symbol)


def networks(frame: pd.DataFrame, *, marked: bool = False) -> tuple[list[Drawn], str]:
    """The networks by depth, then by option; and what colour and marker say, for the legend line.

    Colour is depth, or the shortcut option where several have one depth; an edited network
    (`Run.surgery`) has the colour of its edit. Markers are there where a depth has several options, or
    with `marked`.
    """
    first = {"none": ""}  # sorts before A
    keys = frame[KEYS].drop_duplicates()
    keys = keys.sort_values(["depth", "shortcut"], key=lambda column: column.replace(first))
    several = keys[keys["shortcut"] != "none"].groupby("depth")["shortcut"].nunique().max() > 1
    by_option = several and keys["depth"].nunique() == 1
    marked = marked or several
    edits = style.edit_colours(edit_of(name) for name in keys["network"])
    rows = dict(iter(frame.groupby("network")))
    drawn = []
    for depth, shortcut, name in keys.itertuples(index=False):
        usual = style.SHORTCUT_COLOURS[shortcut] if by_option else style.depth_colour(depth)
        colour = edits.get(edit_of(name), usual)
        symbol = style.SHORTCUT_MARKERS[shortcut] if marked else None
        drawn.append(Drawn(name, depth, shortcut, rows[name], colour, symbol))
    if by_option and not edits:
        return drawn, style.BY_OPTION
    words = "colour: edit of the network" if edits else "colour: depth"
    return drawn, f"{words}, marker: shortcut option" if marked else words


def options(frame: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """(option, its name, its rows), plain first: where depth is the axis, not a colour."""
    parts = dict(iter(frame.groupby("shortcut")))
    names = {"none": "plain"} | {option: f"residual (option {option})" for option in "ABC"}
    return [(option, name, parts[option]) for option, name in names.items() if option in parts]


def by_seed(rows: pd.DataFrame, y: str, by: str, *, log: bool = False) -> pd.DataFrame:
    """One row per seed and value of `by`: several runs of one seed are averaged, and count once.

    Their mean is geometric with `log`. Rows without a `seed` stay what they are.
    """
    rows = rows.dropna(subset=[y])
    if "seed" not in rows:
        return rows
    values = rows.assign(**{y: np.log(rows[y])}) if log else rows
    alone = values.groupby([by, "seed"], observed=True)[y].mean().reset_index()
    return alone.assign(**{y: np.exp(alone[y])}) if log else alone


def geometric(rows: pd.DataFrame, y: str, by: str) -> pd.Series:
    """Geometric mean over seeds of positive values, group by group."""
    alone = by_seed(rows, y, by, log=True)
    means: pd.Series = np.exp(np.log(alone[y]).groupby(alone[by], observed=True).mean())
    return means


def arithmetic(rows: pd.DataFrame, y: str, by: str) -> pd.Series:
    """Mean over seeds, group by group."""
    return by_seed(rows, y, by).groupby(by, observed=True)[y].mean()


def ended(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The rows of runs that have ended, and those of each other run, which is not at its end yet.

    A mean of both would stop where the youngest run stands. A frame without `status` has ended.
    """
    if "status" not in frame:
        return frame, []
    over = frame["status"].isin(store.ENDED)
    return frame[over], [rows for _, rows in frame[~over].groupby(["network", "seed", "study", "run"])]


def over_seeds(rows: pd.DataFrame, y: str, by: str) -> pd.DataFrame:
    """mean, min, max and count of the seeds' values, group by group; no rows if there are no values.

    A group that only some seeds have reached would bend the mean: those that all have stay.
    """
    groups = by_seed(rows, y, by).groupby(by)[y].agg(["mean", "min", "max", "count"])
    return pd.DataFrame(groups[groups["count"] == groups["count"].max()])


def in_words(values: pd.Series, order: Sequence[Any], form: str) -> pd.Series:
    """Numbers or names as labels of a category axis, which sort as `order` does."""
    words = [form.format(value) for value in order]
    return pd.Series(pd.Categorical(values.map(form.format), words, ordered=True), values.index)


# --- panels and axes --------------------------------------------------------------------------


def panels(
    names: Sequence[str] = (), x: str = "", y: str = "", *, rows: int = 1, columns: int = 0, **more: Any
) -> go.Figure:
    """Named panels in a grid, row by row; the outermost axes have titles, percent begin at 0."""
    columns = columns or max(1, len(names) // rows)
    shared = more.setdefault("shared_yaxes", True)
    more.setdefault("horizontal_spacing", 0.03 if shared else 0.1)
    figure = make_subplots(rows, columns, subplot_titles=list(names), **more)
    figure.update_xaxes(title_text=x, row=rows).update_yaxes(title_text=y, col=1)
    return figure.update_yaxes(rangemode="tozero") if "(%)" in y else figure


def places(count: int, columns: int) -> list[dict[str, int]]:
    """Row and column of panels that fill a grid row by row."""
    return [{"row": at // columns + 1, "col": at % columns + 1} for at in range(count)]


def log_range(values: pd.Series) -> tuple[float, float]:
    """Smallest and largest exponent of ten of the positive values."""
    positive = values[values > 0]
    if positive.empty:
        return -1.0, 0.0
    low, high = float(np.log10(positive.min())), float(np.log10(positive.max()))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def log_axis(figure: go.Figure, values: pd.Series | None = None, narrow: Any = 1, **where: Any) -> None:
    """A logarithmic y axis; labels at powers of ten, fewer where `values` span many.

    `narrow` are the ticks where they span less than two ("D2": 1, 2 and 5).
    """
    if values is not None:
        low, high = log_range(values)
        where["dtick"] = narrow if high - low < 2 else max(1, round((high - low) / 6))
    figure.update_yaxes(type="log", **({"exponentformat": "power", "dtick": 1} | where))


def limit(figure: go.Figure, y: float) -> None:
    """A dotted line across every panel."""
    figure.add_hline(y=y, line={"dash": style.DOTTED, "color": style.GREY})


# --- lines and points -------------------------------------------------------------------------


def line(
    figure: go.Figure, x: Any, y: Any, look: Look, name: str | None = None, who: str = "", **more: Any
) -> None:
    """A line; one point of it is a marker. `who` is what a hover text says before the values."""
    shape = {"color": look.colour, "dash": look.dash, "width": look.width}
    drawn = {"line": shape | {"shape": more.pop("shape", None)}, "name": name, "row": 1, "col": 1}
    if look.symbol or len(x) < 2:
        # Of many points a few have the marker.
        drawn["marker"] = look.marker(size=style.SMALL_POINT, maxdisplayed=12)
    drawn["mode"] = "markers" if len(x) < 2 else "lines+markers" if look.symbol else "lines"
    figure.add_scatter(x=x, y=y, hovertemplate=who or name, **(drawn | more))


def band(
    figure: go.Figure, x: Any, low: Any, high: Any, colour: str, alpha: float = 0.12, **more: Any
) -> None:
    """The space between two edges."""
    edge = {"x": np.concatenate([x, x[::-1]]), "y": np.concatenate([high, low[::-1]]), "mode": "lines"}
    edge |= {"fill": "toself", "fillcolor": style.rgba(colour, alpha), "line": {"width": 0}}
    figure.add_scatter(**edge, **({"hoverinfo": "skip", "row": 1, "col": 1} | more))


def mean_and_band(
    figure: go.Figure, seeds: pd.DataFrame, look: Look, name: str, who: str = "", **more: Any
) -> bool:
    """The mean of `over_seeds`, with a band from the lowest to the highest of several seeds.

    True if there are several.
    """
    line(figure, seeds.index, seeds["mean"], look, name, who, **more)
    several = bool(seeds["count"].max() > 1)
    if several:
        edges = (seeds.index, seeds["min"], seeds["max"])
        band(figure, *edges, look.colour, **({"legendgroup": name} | more))
    return several


def by_layer(
    figure: go.Figure, network: Drawn, rows: pd.DataFrame, words: str, value: str = "value", **more: Any
) -> None:
    """A network's geometric mean over seeds, layer by layer, counted from 1; nothing of no rows."""
    rows = rows[rows[value] > 0]
    if len(rows):
        means = geometric(rows, value, "layer")
        x, who = np.asarray(means.index, dtype=int) + 1, f"{network.name}, {words}"
        line(figure, x, means, network.by_family(), more.pop("name", network.name), who, **more)


def points(figure: go.Figure, x: Any, y: Any, marker: dict[str, Any], who: str, **more: Any) -> None:
    """Markers; `who` is what a hover text says before the values."""
    whole = {"mode": "markers", "marker": marker, "hovertemplate": who, "row": 1, "col": 1} | more
    figure.add_scatter(x=x, y=y, **whole)


def runs(
    figure: go.Figure, rows: pd.DataFrame, x: Any, y: Any, look: Look, who: str = "", **more: Any
) -> None:
    """Every run a point that says its network and seed."""
    marker = look.marker(opacity=style.OPACITY, size=more.pop("size", style.POINT))
    if look.dash == style.DASHED:
        marker |= {"symbol": f"{look.symbol or 'circle'}-open", "line": {"width": 2}}
    who = ", ".join(filter(None, ["%{customdata[0]}, seed %{customdata[1]}", who]))
    points(figure, x, y, marker, who, customdata=rows[["network", "seed"]], **more)


def mean_and_runs(
    figure: go.Figure,
    rows: pd.DataFrame,
    x: str,
    y: str,
    look: Look,
    name: str,
    who: str = "",
    *,
    log: bool = False,
    **place: Any,
) -> None:
    """A line through the means over seeds at every x (geometric with `log`), and every run a point."""
    means = (geometric if log else arithmetic)(rows, y, x)
    line(figure, means.index, means, look, name, f"{name}, mean", mode="lines", **place)
    runs(figure, rows, rows[x], rows[y], look, who, legendgroup=name, **place)


def end_labels(figure: go.Figure, ends: Sequence[tuple[Any, float, str, str]]) -> None:
    """Names at the right ends of lines, in place of a legend: x, y, name, colour of each.

    Names that would lie on one another are moved apart, in their order.
    """
    apart = 0.09 * max((abs(y) for _, y, _, _ in ends), default=1.0)
    last = -np.inf
    for x, y, name, colour in sorted(ends, key=lambda end: end[1]):
        last = max(y, last + apart)
        words = {"text": f"<b>{name}</b>", "font": {"color": colour}, "showarrow": False}
        figure.add_annotation(x=x, y=last, xanchor="left", xshift=10, **words)
    letters = [len(part) for end in ends for part in end[2].split("<br>")]
    figure.update_layout(showlegend=False, margin_r=24 + 8 * max(letters, default=0))


# --- one figure out of several ------------------------------------------------------------------


def slider(figures: Mapping[str, go.Figure], what: str, at: int = -1) -> go.Figure:
    """Figures of one form behind a slider, each under its label; `at` is the one first seen.

    What the slider does stands in the figure itself, so it works without a kernel, on a page that lies
    on a disk too; an image and paper show the one that is chosen. All have the same axes, wide enough
    for every value. ValueError for none. Title and legend line are the first seen's.
    """
    labels, parts = list(figures), list(figures.values())
    if not parts:
        raise ValueError("a slider needs at least one figure")
    at %= len(parts)
    whole = go.Figure([trace for part in parts for trace in part.data], parts[at].layout)
    owner = [number for number, part in enumerate(parts) for _ in part.data]
    for trace, number in zip(whole.data, owner, strict=True):
        trace.visible = number == at
    for letter, select in (("x", whole.select_xaxes), ("y", whole.select_yaxes)):
        names = {axis.plotly_name.replace("axis", ""): axis for axis in select()}
        for name, axis in names.items():
            group = {name} | {other for other in names if names[other].matches == name}
            seen = [t[letter] for t in whole.data if (t[f"{letter}axis"] or letter) in group]
            if not axis.matches:
                axis.range = _range_of(seen, axis, room=0.05 * (letter == "y"))
    steps = [
        {"label": label, "method": "restyle", "args": [{"visible": [number == n for number in owner]}]}
        for n, label in enumerate(labels)
    ]
    bar = style.HOUSE["slider"] | {"active": at, "steps": steps}
    whole.update_layout(sliders=[bar | {"currentvalue": bar["currentvalue"] | {"prefix": f"{what} "}}])
    below = style.HOUSE["slider_room"]
    whole.layout.margin.b += below
    return whole.update_layout(height=whole.layout.height + below)


def _range_of(values: Sequence[Any], axis: Any, room: float) -> list[float] | None:
    """From the lowest to the highest value, with some room; None if there is none to draw."""
    flat = np.concatenate([np.empty(0), *(np.asarray(part, dtype=float) for part in values)])
    flat = flat[np.isfinite(flat) & ((flat > 0) | (axis.type != "log"))]
    if not len(flat):
        return None
    low, high = (np.log10(flat) if axis.type == "log" else flat)[[flat.argmin(), flat.argmax()]]
    low = min(low, 0) if axis.rangemode == "tozero" else low
    room = room * (high - low) if high > low else 0.5
    return [float(low - room * (axis.rangemode != "tozero")), float(high + room)]


# --- maps -------------------------------------------------------------------------------------


def pick_runs(frame: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """(family, title, rows), a run each: plain before residual, shallow before deep."""
    parts = frame.groupby(_RUN)
    return [(str(key[0]), f"{key[2]}, seed {key[3]}", rows) for key, rows in parts]


def maps(
    shown: Sequence[tuple[str, str, pd.DataFrame] | None],
    columns: int,
    axes: tuple[str, str, str],
    scale: dict[str, Any],
    titles: tuple[str, str],
    *,
    log: bool = False,
    digits: int = 3,
    **look: Any,
) -> go.Figure:
    """A panel a run, all on one scale of colour; `axes` are the columns of x, y and the value.

    With `log` colour is the exponent of ten, and what is not positive and finite is a hole. None
    leaves a place empty.
    """
    rows = -(-len(shown) // columns)
    gaps: Keywords = {"horizontal_spacing": 0.2 / columns, "vertical_spacing": 0.26 / rows}
    names = [panel[1] if panel else "" for panel in shown]
    figure = panels(names, *titles, rows=rows, columns=columns, shared_yaxes=False, **gaps)
    for panel, place in zip(shown, places(len(shown), columns), strict=True):
        if panel is None:
            figure.update_xaxes(visible=False, **place).update_yaxes(visible=False, **place)
            continue
        grid = panel[2].pivot_table(index=axes[1], columns=axes[0], values=axes[2], dropna=False)
        z = values = grid.to_numpy(dtype=float)
        trace = {"type": "heatmap", "x": grid.columns, "y": grid.index, "coloraxis": "coloraxis"} | look
        if log:
            values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
            z, trace["customdata"] = np.log10(values), values  # these for the hover text
        figure.add_trace(trace | {"z": z.round(digits)}, **place)
    return figure.update_layout(coloraxis=scale)


def log_scale(values: pd.Series, word: str, ticks: np.ndarray | None = None) -> dict[str, Any]:
    """A scale of colour over the exponents of positive values, labelled with the values."""
    low, high = log_range(values)
    at = np.arange(np.ceil(low), np.floor(high) + 1) if ticks is None else ticks
    text = [f"10<sup>{int(tick)}</sup>" if ticks is None else rounded(10**tick) for tick in at]
    bar = {"title": {"text": word}, "tickvals": at, "ticktext": text}
    return {"colorscale": "Viridis", "cmin": low, "cmax": high, "colorbar": bar}
