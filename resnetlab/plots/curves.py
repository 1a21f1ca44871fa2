"""The figures: frames of measured values in, plotly Figures out, for notebooks and dashboard alike.

Colour is depth, dashed is training, bold is test, plain stands left and residual right, as in the
paper's Figure 6. Callers load, show and save; nothing here reads a file or invents a value.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from resnetlab import paper, verdict
from resnetlab.config import edit_of
from resnetlab.plots import series

# Okabe-Ito, which colour-blind readers can tell apart; the paper's depths keep one colour everywhere.
_DEPTH_COLOURS = {
    8: "#999999",
    14: "#0072B2",
    18: "#56B4E9",
    20: "#E69F00",
    26: "#7A5195",
    32: "#56B4E9",
    34: "#D55E00",
    38: "#8C6D31",
    44: "#009E73",
    50: "#009E73",
    56: "#D55E00",
    101: "#7A5195",
    110: "#CC79A7",
    152: "#8C6D31",
}
_SHORTCUT_COLOURS = {"none": "#D55E00", "A": "#0072B2", "B": "#009E73", "C": "#CC79A7"}
_OTHER_COLOURS = ("#0072B2", "#7A5195", "#8C6D31", "#999999", "#CC79A7")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")

FIGURE_6 = tuple(
    f"{family}-{depth}" for family in ("plain", "resnet") for depth in (20, 32, 44, 56, 110)
)
_SHORTCUT_ORDER = ("none", "A", "B", "C")
Theme = Literal["neutral", "light", "dark"]
# neutral is drawn on whatever page it stands on; light and dark are for files.
_THEMES: dict[Theme, tuple[str, str]] = {
    "neutral": ("rgba(0,0,0,0)", "#78808c"),
    "light": ("#ffffff", "#24292f"),
    "dark": ("#0d1117", "#e6edf3"),
}
_LINE = 26  # pixels a line of a title or subtitle takes at the usual size: 1.3 x 1.4 x 14
_GRID = "rgba(128,128,128,0.25)"

# For notebooks and HTML files: plotly's share button would upload the figure to a server.
CONFIG: dict[str, Any] = {"showSendToCloud": False, "displaylogo": False}


def depth_colour(depth: int) -> str:
    """The colour of a depth, the same in every figure."""
    return _DEPTH_COLOURS.get(depth, _OTHER_COLOURS[depth // 6 % len(_OTHER_COLOURS)])


def _edit_colours(networks: Iterable[str]) -> dict[str, str]:
    """edit -> its colour, for edited networks (`Run.surgery`): there depth does not tell them apart.

    A scale is dark at its lower and light at its upper end; "" (ordinary networks) is not among them.
    """
    edits = sorted({edit for name in networks if (edit := edit_of(name))}, key=_natural_order)
    return dict(zip(edits, _steps_of_colour(len(edits)), strict=True))


def _natural_order(text: str) -> list[float]:
    return [float(part) for part in re.findall(r"[0-9.]+(?:e-?[0-9]+)?", text)]


def _steps_of_colour(count: int) -> list[str]:
    """So many colours from dark to light (plotly's Plasma, its pale end left out)."""
    places = [0.8 * index / max(1, count - 1) for index in range(count)]
    triples = [re.findall(r"[0-9.]+", colour) for colour in sample_colorscale("Plasma", places)]
    return ["#" + "".join(f"{round(float(part)):02x}" for part in triple[:3]) for triple in triples]


def _rgba(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _finish(
    figure: go.Figure, title: str, theme: Theme, *, height: int = 460, subtitle: str = ""
) -> go.Figure:
    """House style: title left, horizontal legend below, one grid, hover by point."""
    background, ink = _THEMES[theme]
    text = f"<b>{title}</b>" + (
        f"<br><span style='font-size:13px'>{subtitle}</span>" if subtitle else ""
    )
    figure.update_layout(
        title={
            "text": text,
            "x": 0,
            "xref": "paper",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 30},
        },
        font={"size": 14, "color": ink, "family": "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"},
        paper_bgcolor=background,
        plot_bgcolor=background,
        height=height,
        margin={"l": 70, "r": 20, "t": 96, "b": 104},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        hoverlabel={"namelength": -1},
    )
    figure.update_xaxes(
        gridcolor=_GRID, zeroline=False, linecolor=_GRID, ticks="outside", tickcolor=_GRID
    )
    figure.update_yaxes(
        gridcolor=_GRID, zeroline=False, linecolor=_GRID, ticks="outside", tickcolor=_GRID
    )
    return figure


def conditions(frame: pd.DataFrame) -> str:
    """Where the values of a frame come from: data set, recipe, precision, seeds. For subtitles.

    Names are escaped: plotly reads tags in titles, and a folder may be called anything.
    """
    if frame.empty:
        return "no runs"
    parts = [
        " and ".join(sorted(escape(str(value)) for value in frame[key].unique()))
        for key in ("data", "recipe")
    ]
    precisions = sorted(frame["precision"].unique())
    seeds = frame.groupby("network")["seed"].nunique()
    count = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    noun = "seed" if count == "1" else "seeds"
    kinds = frame["recipe"].nunique()  # a title has no room for the names of many
    recipe = f"recipe {parts[1]}" if kinds < 3 else f"{kinds} recipes"
    return f"{parts[0]}, {recipe}, {' and '.join(precisions)}, {count} {noun} a network"


def empty(message: str, theme: Theme = "neutral") -> go.Figure:
    """A figure that says why there is nothing to draw."""
    figure = go.Figure()
    figure.add_annotation(text=message, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    return _finish(figure, "", theme, height=220)


def _over_seeds(frame: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """step -> mean, min, max and n over the seeds that have the value there."""
    values = frame.dropna(subset=[quantity])
    out = values.groupby("step")[quantity].agg(["mean", "min", "max", "count"]).reset_index()
    # A step that only some seeds have reached would bend the mean: keep the steps all have.
    return out[out["count"] == out["count"].max()] if len(out) else out


def error_curves(
    metrics: pd.DataFrame, *, theme: Theme = "neutral", with_paper: bool = False
) -> go.Figure:
    """Figure 6: error against step, plain left, residual right; mean over seeds, band from min to max.

    `metrics` as `results.metrics_of`. Dashed: running training error (augmented, training mode). Bold:
    test error, or the held-out part's where the runs have one. Where all networks have one depth,
    colour is the shortcut option; else options of one depth share it, and legend and hover tell. An
    edited network (`Run.surgery`) has the colour of its edit. `with_paper` lays the paper's own curves
    faint underneath; ValueError if data set or recipe are not the paper's (`paper.comparable`).
    """
    if metrics.empty or metrics["train_error"].isna().all():
        return empty("No errors logged yet.", theme)
    figure = make_subplots(
        1, 2, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=["plain", "residual"]
    )
    held_out = metrics["validation_error"].notna().any()
    tested = "validation_error" if held_out else "test_error"
    # Once: of a thousand runs each look for what differs takes its time.
    who = metrics[~metrics.duplicated(["network", "seed", "data", "recipe", "precision"])]
    keys = who[["depth", "shortcut", "network"]].drop_duplicates().sort_values(["depth", "shortcut"])
    options = keys[keys["shortcut"] != "none"].groupby("depth")["shortcut"].nunique()
    several = bool((options > 1).any())
    by_option = several and keys["depth"].nunique() == 1
    if with_paper:
        if reason := _not_comparable(who):
            raise ValueError(reason)
        for depth, shortcut, network in keys.itertuples(index=False):
            _add_paper_curves(figure, network, depth_colour(depth), 1 if shortcut == "none" else 2)
    lines, edited = [], _edit_colours(keys["network"])
    # Once, and only what is drawn.
    by_network = dict(iter(metrics[["network", "step", tested, "train_error"]].groupby("network")))
    for depth, shortcut, network in keys.itertuples(index=False):
        own = by_network[network]
        apart = by_option or (several and shortcut not in ("none", "A"))
        group = f"{depth}-{shortcut}" if apart else f"{depth}"
        edit = edit_of(network)
        shared = {"legendgroup": group + edit, "row": 1, "col": 1 if shortcut == "none" else 2}
        option = "no shortcut" if shortcut == "none" else f"option {shortcut}"
        name = f"{depth} layers" + (f", {option}" if apart else "") + (f", {edit}" if edit else "")
        for quantity, dash, width in ((tested, "solid", 3.2), ("train_error", "dash", 1.6)):
            line = _over_seeds(own, quantity)
            if line.empty:
                continue
            colour = _SHORTCUT_COLOURS[shortcut] if by_option else depth_colour(depth)
            colour = edited.get(edit, colour)
            label = f"{network} {quantity.removesuffix('_error')}"
            style = {"color": colour, "dash": dash, "width": width}
            lines.append((line, name, label, style, shared))
            if line["count"].max() > 1:  # bands first: they lie under every line
                figure.add_scatter(
                    x=np.concatenate([line["step"], line["step"][::-1]]),
                    y=np.concatenate([line["max"], line["min"][::-1]]),
                    mode="lines",
                    fill="toself",
                    fillcolor=_rgba(colour, 0.12),
                    line={"width": 0},
                    hoverinfo="skip",
                    showlegend=False,
                    **shared,
                )
    in_legend: set[str] = set()
    for line, name, label, style, shared in lines:
        figure.add_scatter(
            x=line["step"],
            y=line["mean"],
            mode="lines" if len(line) > 1 else "markers",
            name=name,
            showlegend=name not in in_legend,
            line=style,
            hovertemplate=f"{label}: %{{y:.2f}} % at step %{{x}}<extra></extra>",
            **shared,
        )
        in_legend.add(name)
    figure.update_xaxes(title_text="step (optimizer updates)")
    figure.update_yaxes(title_text="error (%)", row=1, col=1)
    figure.update_yaxes(rangemode="tozero")
    title = f"Error during training: dashed train, bold {tested.removesuffix('_error')}"
    note = "<br>Lines are means over seeds, bands reach from the lowest seed to the highest."
    banded = any(line["count"].max() > 1 for line, *_ in lines)
    theirs = "; thin, without markers: the paper's" if with_paper else ""
    subtitle = conditions(who) + theirs + (note if banded else "")
    finished = _finish(figure, title, theme, height=520, subtitle=subtitle)
    return finished.update_layout(margin_t=96 + _LINE * banded)


def _not_comparable(frame: pd.DataFrame) -> str | None:
    """Why the paper's numbers may not stand beside these runs; None if they may."""
    kinds = frame[["data", "recipe"]].drop_duplicates().itertuples(index=False)
    reasons = sorted(filter(None, {paper.comparable(data, recipe) for data, recipe in kinds}))
    return reasons[0] if reasons else None


def _add_paper_curves(figure: go.Figure, network: str, colour: str, column: int) -> None:
    for quantity, dash in (("test_error", "solid"), ("train_error", "dash")):
        line = paper.curve(network, quantity)
        if line is None:
            continue
        label = f"the paper, {network} {quantity.removesuffix('_error')}"
        figure.add_scatter(
            x=line.x,
            y=line.y,
            mode="lines",
            showlegend=False,
            line={"color": _rgba(colour, 0.45), "dash": dash, "width": 1.2},
            hovertemplate=f"{label}: %{{y:.1f}} % at step %{{x:,}} ({line.source})<extra></extra>",
            row=1,
            col=column,
        )


def paper_error_curves(networks: Sequence[str] = FIGURE_6, *, theme: Theme = "neutral") -> go.Figure:
    """The paper's own error curves of these networks, plain left, residual right: nothing of ours.

    Names without a curve in Figure 4 or 6 are left out. Those figures end at 20 % (6) and 63 % (4).
    """
    figure = make_subplots(
        1, 2, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=["plain", "residual"]
    )
    sources = set()
    for network in networks:
        depth, column = int(network.split("-")[1]), 1 if network.startswith("plain") else 2
        for quantity, dash, width in (("test_error", "solid", 3.2), ("train_error", "dash", 1.6)):
            line = paper.curve(network, quantity)
            if line is None:
                continue
            sources.add((line.source, paper.CONDITIONS[line.data, "single"]))
            name = f"{depth} layers"
            figure.add_scatter(
                x=line.x,
                y=line.y,
                mode="lines",
                name=name,
                legendgroup=name,
                showlegend=name not in {trace.name for trace in figure.data},
                line={"color": depth_colour(depth), "dash": dash, "width": width},
                hovertemplate=f"{network} {quantity.removesuffix('_error')}: "
                "%{y:.1f} % at step %{x:,}<extra></extra>",
                row=1,
                col=column,
            )
    figure.update_xaxes(title_text="step (optimizer updates)")
    figure.update_yaxes(title_text="error (%)", row=1, col=1)
    figure.update_yaxes(rangemode="tozero")
    said = "; ".join(f"{source}: {where}" for source, where in sorted(sources))
    title = "The paper's own curves: dashed train, bold test"
    return _finish(figure, title, theme, height=520, subtitle=escape(said))


def error_against_depth(table: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Final error against depth, plain and residual: every finished run a point, the mean a line.

    `table` as `Study.table`. Left training error (running), right test error. The paper's values stand
    as hollow diamonds only where data set and recipe are the paper's; otherwise the subtitle says why
    not. Edited networks (`Run.surgery`) are left out.
    """
    finished = verdict.ordinary(table[table["status"] == "finished"])
    if finished.empty:
        edited = (table["status"] == "finished").any()
        which = "run of an unedited network" if edited else "run"
        return empty(f"No finished {which} yet.", theme)
    figure = make_subplots(
        1,
        2,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=["training error", "test error"],
    )
    reason = _not_comparable(finished)
    colours = {"plain": "#D55E00", "residual": "#0072B2"}
    for column, quantity in enumerate(("train_error", "test_error"), start=1):
        for shortcut in sorted(finished["shortcut"].unique(), key=_SHORTCUT_ORDER.index):
            own = finished[finished["shortcut"] == shortcut]
            family = "plain" if shortcut == "none" else "residual"
            name = "plain" if shortcut == "none" else f"residual (option {shortcut})"
            colour = colours[family]
            over_seeds = own.groupby("depth")[quantity].agg(["mean", "min", "max", "count"])
            mean = over_seeds["mean"]
            if over_seeds["count"].max() > 1 and len(mean) > 1:
                figure.add_scatter(
                    x=[*mean.index, *mean.index[::-1]],
                    y=[*over_seeds["max"], *over_seeds["min"][::-1]],
                    mode="lines",
                    fill="toself",
                    fillcolor=_rgba(colour, 0.12),
                    line={"width": 0},
                    hoverinfo="skip",
                    legendgroup=name,
                    showlegend=False,
                    row=1,
                    col=column,
                )
            dash = "solid" if shortcut in ("none", "A") else {"B": "dash", "C": "dot"}[shortcut]
            figure.add_scatter(
                x=mean.index,
                y=mean,
                mode="lines",
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                line={"color": colour, "width": 3, "dash": dash},
                hovertemplate=f"{name}, %{{x}} layers: mean %{{y:.2f}} %<extra></extra>",
                row=1,
                col=column,
            )
            figure.add_scatter(
                x=own["depth"],
                y=own[quantity],
                mode="markers",
                legendgroup=name,
                showlegend=False,
                marker={"color": colour, "size": 9, "opacity": 0.65},
                customdata=own["seed"],
                hovertemplate=f"{name}, %{{x}} layers, seed %{{customdata}}: %{{y:.2f}} %"
                "<extra></extra>",
                row=1,
                col=column,
            )
            if reason is None:
                _add_paper_points(figure, own, quantity, colour, name, column)
    figure.update_xaxes(
        title_text="depth (weighted layers)", tickvals=sorted(finished["depth"].unique())
    )
    figure.update_yaxes(title_text="final error (%)", rangemode="tozero", row=1, col=1)
    subtitle = conditions(finished)
    if reason:
        subtitle += f"<br>The paper's values are not drawn: {escape(reason).replace(': ', ':<br>')}"
    title = "Error against depth: points are runs, lines their means"
    lines = subtitle.count("<br>")
    finished_figure = _finish(figure, title, theme, height=460 + _LINE * lines, subtitle=subtitle)
    return finished_figure.update_layout(margin_t=96 + _LINE * lines)


def error_by_network(table: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Final error of each network side by side: every finished run a point, the mean a bar.

    `table` as `Study.table`. Left training error (running), right test error; by depth, then by
    shortcut option, whose colour they have.
    """
    finished = table[table["status"] == "finished"]
    if finished.empty:
        return empty("No finished run yet.", theme)
    figure = make_subplots(
        1, 2, horizontal_spacing=0.08, subplot_titles=["training error", "test error"]
    )
    keys = finished[["depth", "shortcut", "network"]].drop_duplicates()
    keys = keys.sort_values(["depth", "shortcut"], key=_in_order)
    for column, quantity in enumerate(("train_error", "test_error"), start=1):
        for _, shortcut, network in keys.itertuples(index=False):
            own = finished[finished["network"] == network]
            colour = _SHORTCUT_COLOURS[shortcut]
            mean = own[quantity].mean()
            figure.add_bar(
                x=[network],
                y=[mean],
                marker={"color": _rgba(colour, 0.3), "line": {"color": colour, "width": 2}},
                text=[f"{mean:.1f}"],
                textposition="outside",
                cliponaxis=False,
                showlegend=False,
                hovertemplate=f"{network}: mean %{{y:.2f}} %, n = {len(own)}<extra></extra>",
                row=1,
                col=column,
            )
            figure.add_scatter(
                x=[network] * len(own),
                y=own[quantity],
                mode="markers",
                showlegend=False,
                marker={"color": colour, "size": 9},
                customdata=own["seed"],
                hovertemplate=f"{network}, seed %{{customdata}}: %{{y:.2f}} %<extra></extra>",
                row=1,
                col=column,
            )
    figure.update_yaxes(title_text="final error (%)", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(rangemode="tozero", row=1, col=2)
    figure.update_xaxes(title_text="network")
    title = "Final error: a bar is the mean, a point is a run"
    return _finish(figure, title, theme, subtitle=conditions(finished))


def _in_order(column: pd.Series[Any]) -> pd.Series[Any]:
    return column.map(_SHORTCUT_ORDER.index) if column.name == "shortcut" else column


def _add_paper_points(
    figure: go.Figure, own: pd.DataFrame, quantity: str, colour: str, name: str, column: int
) -> None:
    records = [
        (depth, record)
        for depth, network in own[["depth", "network"]].drop_duplicates().itertuples(index=False)
        if (record := paper.reported(network, quantity))
    ]
    if not records:
        return
    figure.add_scatter(
        x=[depth for depth, _ in records],
        y=[record.value for _, record in records],
        mode="markers",
        name=f"{name}, the paper",
        showlegend=column == 1,
        marker={"color": colour, "size": 12, "symbol": "diamond-open", "line": {"width": 2}},
        customdata=[record.source for _, record in records],
        hovertemplate="the paper, %{x} layers: %{y:.2f} % (%{customdata})<extra></extra>",
        row=1,
        col=column,
    )


def run_curves(metrics: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """One run while it trains: training and test error above, learning rate below.

    `metrics` as `results.metrics_of` of one run.
    """
    if metrics.empty:
        return empty("No row logged yet.", theme)
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.78, 0.22], vertical_spacing=0.06)
    colour = depth_colour(int(metrics["depth"].iloc[0]))
    for quantity, dash, width in (
        ("train_error", "dash", 1.6),
        ("validation_error", "solid", 3.2),
        ("test_error", "solid", 3.2),
    ):
        line = metrics.dropna(subset=[quantity])
        if len(line):
            name = quantity.replace("_error", " error")
            figure.add_scatter(
                x=line["step"],
                y=line[quantity],
                mode="lines" if len(line) > 1 else "markers",
                name=name,
                line={"color": colour, "dash": dash, "width": width},
                hovertemplate=f"{name}: %{{y:.2f}} % at step %{{x}}<extra></extra>",
                row=1,
                col=1,
            )
    figure.add_scatter(
        x=metrics["step"],
        y=metrics["lr"],
        mode="lines",
        name="learning rate",
        line={"color": "#78808c", "shape": "vh", "width": 1.6},
        hovertemplate="learning rate %{y:g} at step %{x}<extra></extra>",
        row=2,
        col=1,
    )
    figure.update_yaxes(title_text="error (%)", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="rate", type="log", dtick=1, row=2, col=1)
    figure.update_xaxes(title_text="step (optimizer updates)", row=2, col=1)
    row = metrics.iloc[0]
    title = f"{row['network']} on {escape(row['data'])}"
    subtitle = f"recipe {escape(row['recipe'])}, {row['precision']}, seed {row['seed']}"
    return _finish(figure, title, theme, height=480, subtitle=subtitle)


def _log_range(values: pd.Series) -> tuple[float, float]:
    """Smallest and largest decade that hold every positive value."""
    positive = values[values > 0]
    if positive.empty:
        return -1.0, 0.0
    low, high = float(np.log10(positive.min())), float(np.log10(positive.max()))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def gradient_norm_heatmap(probes: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Layer against step, colour the gradient's norm, every run a panel, all on one log scale.

    `probes` as `results.probes_of`. Layer 1 is the first convolution, the last the classifier. Plain
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


def _one_depth(keys: pd.DataFrame) -> bool:
    """Whether the networks are several shortcut options of one depth: then colour tells the option."""
    options = keys[keys["shortcut"] != "none"]["shortcut"].nunique()
    return bool(keys["depth"].nunique() == 1 and options > 1)


def gradient_norm_profile(
    probes: pd.DataFrame, steps: Sequence[int] | None = None, *, theme: Theme = "neutral"
) -> go.Figure:
    """Gradient norm against layer at chosen steps (default: first, middle, last), log axis.

    `probes` as `results.probes_of`; plain left, residual right (one panel if there is one family);
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

    `probes` as `results.probes_of`. Lines are geometric means over seeds, bands reach from the lowest
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


def thin_lines(figure: go.Figure) -> tuple[int, int]:
    """Leave at most `series.MOST_POINTS` points of every line, in place: points left, points before.

    The lowest and highest of every stretch stay (`series.thin`), so no spike is lost; of a band the
    upper and the lower edge each. Markers, bars and heatmaps are left as they are.
    """
    shown = logged = 0
    for trace in figure.data:
        if trace.type != "scatter" or trace.x is None or "lines" not in (trace.mode or ""):
            continue
        x, y = np.asarray(trace.x), np.asarray(trace.y)
        logged += 0 if trace.fill else len(x)
        ends = [(0, len(x))]
        if trace.fill == "toself":
            half = len(x) // 2  # there along the upper edge, back along the lower one
            ends = [(0, half), (half, len(x))]
        if max(stop - start for start, stop in ends) > series.MOST_POINTS:
            kept = [start + series.thin(x[start:stop], y[start:stop]) for start, stop in ends]
            trace.x, trace.y = x[np.concatenate(kept)], y[np.concatenate(kept)]
        shown += 0 if trace.fill else len(trace.x)
    return shown, logged


def enlarge(figure: go.Figure, factor: float = 1.6) -> go.Figure:
    """The same figure for the back row of a hall: type, lines and markers larger, in place."""
    layout = figure.layout
    size = layout.font.size or 14
    layout.font.size = round(size * factor)
    head = re.fullmatch(
        r"<b>(.*)</b>(?:<br><span style='font-size:13px'>(.*)</span>)?", layout.title.text or "", re.S
    )
    more = 0  # lines
    if head:
        # Plotly breaks no lines by itself, and cuts what is wider than the page.
        title = textwrap.wrap(head[1], 36)
        said = [line for part in (head[2] or "").split("<br>") for line in textwrap.wrap(part, 74)]
        more = len(title) - 1 + len(said) - (head[2] or "").count("<br>") - bool(said)
        small = f"<br><span style='font-size:{round(13 * factor * 0.85)}px'>{'<br>'.join(said)}</span>"
        layout.title.text = f"<b>{'<br>'.join(title)}</b>" + (small if said else "")
    for note in layout.annotations:
        note.font.size = round((note.font.size or size) * factor)
    for trace in figure.data:
        if trace.type in ("scatter", "scattergl"):
            if trace.line.width != 0:  # 0 is the edge of a band
                trace.line.width = (trace.line.width or 2) * factor
            trace.marker.size = (trace.marker.size or 6) * factor if trace.mode != "lines" else None
    margin = layout.margin
    grown = {side: round((getattr(margin, side) or 0) * factor) for side in ("l", "t", "b")}
    grown["t"] += round(more * _LINE * factor)
    below = 0  # lines: the titles of panels side by side must not run into one another
    for axis in figure.select_xaxes():
        start, end = axis.domain or (0, 1)
        if axis.title.text and end - start < 0.6:
            said = textwrap.wrap(axis.title.text, 24)
            axis.title.text = "<br>".join(said)
            below = max(below, len(said) - 1)
    grown["b"] += round(below * size * factor * 1.3)
    more_room = grown["t"] + grown["b"] - (margin.t or 0) - (margin.b or 0)
    panels = len({axis.domain for axis in figure.select_yaxes()})
    height = (layout.height or 460) + more_room + 150 * (panels - 1)
    figure.update_layout(margin=grown, height=round(height))
    return figure


def learning_rate(
    rates: pd.DataFrame, name: str, subtitle: str = "", *, theme: Theme = "neutral"
) -> go.Figure:
    """A recipe's learning rate against step on a log axis, with the rule behind every change.

    `rates` has a row for each stretch of one rate: step, until, lr, why (`schedule.stretches`).
    """
    figure = go.Figure()
    figure.add_scatter(
        x=[*rates["step"], rates["until"].iloc[-1]],
        y=[*rates["lr"], rates["lr"].iloc[-1]],
        line={"shape": "hv", "width": 3, "color": _OTHER_COLOURS[0]},
        mode="lines",
        showlegend=False,
        hovertemplate="step %{x:,}: %{y:g}<extra></extra>",
    )
    end = rates["until"].iloc[-1]
    for step, until, lr, why in rates[["step", "until", "lr", "why"]].itertuples(index=False):
        late = step > 0.75 * end
        short = until - step < 0.03 * end  # its words would lie on the next line's rise
        figure.add_annotation(
            x=until if short else step,
            y=float(np.log10(lr)),
            text=f"{lr:g} at {step:,}<br>{escape(str(why))}",
            showarrow=False,
            xanchor="right" if late else "left",
            xshift=-6 if late else 6,
            yanchor="bottom",
            align="right" if late else "left",
            font_size=12,
        )
    low, high = float(np.log10(rates["lr"].min())), float(np.log10(rates["lr"].max()))
    figure.update_xaxes(title_text="step (optimizer updates)", range=[-0.01 * end, 1.02 * end])
    figure.update_yaxes(title_text="learning rate", type="log", dtick=1, range=[low - 0.2, high + 0.4])
    title = f"Learning rate of recipe {escape(name)}"
    return _finish(
        figure, title, theme, height=420, subtitle=escape(subtitle, quote=False)
    ).update_layout(margin_b=60)


def learning_rates(
    rates: pd.DataFrame, zoom: int, title: str, subtitle: str = "", *, theme: Theme = "neutral"
) -> go.Figure:
    """Several timelines of the learning rate on one log axis: the first `zoom` steps, and all of them.

    `rates` has a row for each stretch of one rate: schedule (its name), step, until, lr
    (`schedule.stretches`, `schedule.warm_up_mistakes`).
    """
    end = int(rates["until"].max())
    figure = make_subplots(
        1,
        2,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        column_widths=[0.4, 0.6],
        subplot_titles=[f"the first {zoom:,} steps", f"all {end:,} steps"],
    )
    for index, name in enumerate(rates["schedule"].unique()):
        own = rates[rates["schedule"] == name]
        # The later lines are thinner: where timelines agree, all of them are seen.
        style = {"color": _LINE_COLOURS[index % len(_LINE_COLOURS)], "width": max(2.5, 11 - 4 * index)}
        for column in (1, 2):
            figure.add_scatter(
                x=[*own["step"], own["until"].iloc[-1]],
                y=[*own["lr"], own["lr"].iloc[-1]],
                mode="lines",
                name=escape(str(name)),
                legendgroup=str(index),
                showlegend=column == 1,
                line=style | {"shape": "hv"},
                hovertemplate=f"{escape(str(name))}, step %{{x:,}}: %{{y:g}}<extra></extra>",
                row=1,
                col=column,
            )
    low, high = float(np.log10(rates["lr"].min())), float(np.log10(rates["lr"].max()))
    figure.update_xaxes(title_text="step (optimizer updates)")
    figure.update_xaxes(range=[0, zoom], col=1)
    figure.update_xaxes(range=[0, 1.02 * end], col=2)
    figure.update_yaxes(type="log", dtick=1, exponentformat="none", range=[low - 0.2, high + 0.2])
    figure.update_yaxes(title_text="learning rate", col=1)
    return _finish(figure, escape(title), theme, subtitle=escape(subtitle, quote=False))


# --- comparing runs ---------------------------------------------------------------------------

# As many as can be told apart at a glance; then the same again, dashed.
_LINE_COLOURS = tuple("#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #7A5195 #8C6D31".split())
_MOST_DRAWN = 200_000  # points of one figure: a browser draws them in about a second
_MOST_IN_LEGEND = 40


def compare_curves(
    lines: Sequence[series.Line],
    quantity: str,
    axis: series.Axis = "step",
    *,
    log_x: bool = False,
    log_y: bool = False,
    smoothing: float = 0.0,
    bold: Collection[str] = (),
    subtitle: str = "",
    theme: Theme = "neutral",
) -> go.Figure:
    """Curves of any runs in one panel: one colour a line, its runs thin under their mean and band.

    `lines` as `series.line` makes them. With `smoothing` (only to say it and to draw the raw values
    faint beneath: the lines hold both). `bold`: names of lines to stand out, the others fade. Curves
    are thinned to `series.MOST_POINTS`, fewer if there are very many; `layout.meta` says the points
    of runs that are `shown` and `logged`, and how many of the latter a log axis cannot hold (`off`).
    """
    drawn = [line for line in lines if any(len(curve) for curve in line.curves)]
    if not drawn:
        return empty(f"No values of {quantity} logged yet.", theme)
    number = sum(len(line.curves) * (1 + (smoothing > 0)) + 4 * line.averaged for line in drawn)
    most = max(100, min(series.MOST_POINTS, _MOST_DRAWN // number))
    colours = [depth_colour(line.depth) for line in drawn]
    if len(set(colours)) < len(colours):  # depths alone do not tell them apart
        colours = [_LINE_COLOURS[index % len(_LINE_COLOURS)] for index in range(len(drawn))]
    figure = go.Figure()
    foreground: list[dict[str, Any]] = []
    shown = logged = off = 0
    width = 2.6 if len(drawn) <= 12 else 1.8
    y_name = series.QUANTITIES.get(quantity, quantity)
    at = "step %{customdata[0]:,}" + ("" if axis == "step" else f", {_AXIS_WORDS[axis]}")
    for index, (line, colour) in enumerate(zip(drawn, colours, strict=True)):
        name = _in_hover(line.name)
        dash = _DASHES[index // len(_LINE_COLOURS) % len(_DASHES)]
        fade = 0.2 if bold and line.name not in bold else 1.0
        shared = {"mode": "lines", "legendgroup": str(index)}
        style = {"color": colour, "dash": dash, "width": width}
        for run, curve in zip(line.runs, line.curves, strict=True):
            if curve.empty:
                continue
            x, step = curve["x"].to_numpy(), curve["step"].to_numpy()
            y, smooth = curve["y"].to_numpy(), curve["line"].to_numpy()
            logged += len(y)
            off += int(((log_y & (y <= 0)) | (log_x & (x <= 0))).sum())
            kept = series.thin(x, smooth, most, log=log_x)
            shown += len(kept)
            if smoothing > 0 and not line.averaged:
                raw = series.thin(x, y, most, log=log_x)
                figure.add_scatter(
                    x=x[raw],
                    y=y[raw],
                    line=style | {"width": 1, "dash": "solid"},
                    opacity=0.45 * fade,
                    showlegend=False,
                    hoverinfo="skip",
                    **shared,
                )
            who = f"{name}, {_in_hover(run)}" if line.averaged and run else name
            trace: dict[str, Any] = {
                "x": x[kept],
                "y": smooth[kept],
                "customdata": step[kept, None],
                "hovertemplate": f"{who}: %{{y:.4~g}} at {at}<extra></extra>",
                "opacity": fade * (0.45 if line.averaged else 1),
                "showlegend": not line.averaged,
                "name": name,
                "line": style | ({"width": 1, "dash": "solid"} if line.averaged else {}),
            }
            if len(kept) == 1:
                trace |= {"mode": "markers", "marker": {"color": colour, "size": 8}}
            if line.averaged:
                figure.add_scatter(**(shared | trace))
            else:
                foreground.append(shared | trace)
        if line.averaged:
            _add_band(figure, line, colour, fade, most, log_x, log_y, shared)
            foreground += _means(line, name, style, fade, most, log_x, smoothing, at, shared)
    for trace in foreground:
        figure.add_scatter(**trace)
    figure.update_xaxes(title_text=series.AXES[axis], type="log" if log_x else "linear")
    figure.update_yaxes(title_text=y_name, type="log" if log_y else "linear")
    # Every label whole: a 2 between 10 and 100 may be read as two. 9k, as 8000 and 9000 would touch.
    figure.update_xaxes(automargin=True, minorloglabels="complete")
    if log_x and axis in ("step", "images"):
        figure.update_xaxes(tickformat="~s")
    figure.update_yaxes(automargin=True, minorloglabels="complete")
    # What the legend needs: rows of about 950 pixels, 8 pixels a letter and the sample before it.
    rows = -(-sum(8 * len(line.name) + 60 for line in drawn) // 950)
    in_legend = len(drawn) <= _MOST_IN_LEGEND
    room = 22 * (min(rows, 20) - 1) if in_legend else 0
    title = y_name[0].upper() + y_name[1:]
    _finish(figure, title, theme, height=520 + room, subtitle=escape(subtitle, quote=False))
    # Zoom and hidden lines stay while the same axes are drawn, whatever is added to them.
    return figure.update_layout(
        margin_b=104 + room,
        showlegend=in_legend,
        uirevision=f"{quantity} {axis} {log_x} {log_y}",
        meta={"shown": shown, "logged": logged, "off": off},
    )


_AXIS_WORDS: dict[series.Axis, str] = {
    "epoch": "epoch %{x:.4~g}",
    "seconds": "%{x:,.1f} s",
    "images": "%{x:,} images",
}


def _in_hover(name: str) -> str:
    """Text for legends and tooltips: plotly reads tags there, and %{...} as a value."""
    return escape(name).replace("%{", "&#37;{")


def _add_band(
    figure: go.Figure,
    line: series.Line,
    colour: str,
    fade: float,
    most: int,
    log_x: bool,
    log_y: bool,
    shared: dict[str, Any],
) -> None:
    """The spread of a line's runs as a filled shape, under its mean."""
    band = line.mean.dropna(subset=["low", "high"])
    if log_y:  # mean minus deviation may reach below 0, which has no place there: cut the band
        positive = [curve["line"][curve["line"] > 0].min() for curve in line.curves]
        floor = min((value for value in positive if value > 0), default=np.nan)
        band = band.assign(low=band["low"].clip(lower=floor))
        band = band[(band["low"] > 0) & (band["high"] >= band["low"])]
    if len(band) < 2:
        return
    x, low, high = (band[key].to_numpy() for key in ("x", "low", "high"))
    above, below = series.thin(x, high, most, log=log_x), series.thin(x, low, most, log=log_x)
    figure.add_scatter(
        x=np.concatenate([x[above], x[below][::-1]]),
        y=np.concatenate([high[above], low[below][::-1]]),
        fill="toself",
        fillcolor=_rgba(colour, 0.16 * fade),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        **shared,
    )


def _means(
    line: series.Line,
    name: str,
    style: dict[str, Any],
    fade: float,
    most: int,
    log_x: bool,
    smoothing: float,
    at: str,
    shared: dict[str, Any],
) -> list[dict[str, Any]]:
    """The mean of a line's runs, and faint beneath it the mean of their raw values."""
    traces: list[dict[str, Any]] = []
    mean = line.mean
    x = mean["x"].to_numpy()
    if smoothing > 0:
        y = line.raw["mean"].to_numpy()
        kept = series.thin(x, y, most, log=log_x)
        faint = {"line": style | {"width": 1, "dash": "solid"}, "opacity": 0.45 * fade}
        traces.append(shared | faint | {"x": x[kept], "y": y[kept]})
        traces[-1] |= {"showlegend": False, "hoverinfo": "skip"}
    y = mean["mean"].to_numpy()
    kept = series.thin(x, y, most, log=log_x)
    banded = mean["low"].notna().any()
    spread = " (%{customdata[1]:.4~g} to %{customdata[2]:.4~g})" if banded else ""
    n = int(mean["n"].iloc[0])
    mode = {} if len(mean) > 1 else {"mode": "markers", "marker": {"color": style["color"], "size": 8}}
    traces.append(
        shared
        | {
            "x": x[kept],
            "y": y[kept],
            "customdata": mean[["step", "low", "high"]].to_numpy()[kept],
            "name": f"{name} (n = {n})",
            "hovertemplate": f"{name}, mean of {n}: %{{y:.4~g}}{spread} at {at}<extra></extra>",
            "line": style,
            "opacity": fade,
        }
        | mode
    )
    return traces


# --- inside a network -------------------------------------------------------------------------

# Before the first stage, the stages, the classifier.
_STAGE_COLOURS = ("#999999", "#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#999999")
_SHORTCUT_LINES = {
    "identity": ("identity shortcut", "solid"),
    "padded": ("identity, zero-padded", "dot"),
    "projection": ("projection (1×1)", "dash"),
}


def part_label(part: Mapping[str, Any]) -> str:
    """`stage 2, block 1` of an entry of `probes.anatomy`; counted from 1."""
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

    `networks` has name -> `probes.anatomy`; one or two. The block named `chosen` is outlined. Every
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


def layer_responses(
    responses: pd.DataFrame,
    papers: Sequence[paper.Curve] = (),
    *,
    theme: Theme = "neutral",
    log: bool = False,
) -> go.Figure:
    """Figure 7: deviation of each 3x3 layer's response; above in order, below sorted by magnitude.

    `responses` has the columns of `results.IDENTITY`, layer (0-based) and value
    (`probes.layer_responses`).
    Colour is depth, plain networks are dashed, as in the paper; seeds are averaged, layer by layer.
    `papers` are lines of the paper's own figure, drawn thin. `log` takes a logarithmic axis, for
    networks that differ by orders of magnitude.
    """
    if responses.empty and not papers:
        return empty("No layer responses measured yet.", theme)
    figure = make_subplots(
        2,
        1,
        vertical_spacing=0.2,
        subplot_titles=["in the order of the layers", "sorted by magnitude"],
    )
    lines: list[tuple[str, int, bool, np.ndarray[Any, Any], np.ndarray[Any, Any], str]] = []
    for curve in papers:
        depth, plain = int(curve.network.rpartition("-")[2]), curve.network.startswith("plain")
        name = f"{curve.network}, the paper (CIFAR-10)"
        lines.append((name, depth, plain, np.array(curve.x), np.array(curve.y), "paper"))
    if len(responses):
        keys = responses[["depth", "shortcut", "network"]].drop_duplicates()
        for depth, shortcut, network in keys.sort_values(["depth", "shortcut"]).itertuples(index=False):
            own = responses[responses["network"] == network]
            mean = own.groupby("layer")["value"].mean()
            name = f"{network} (n = {own[['study', 'run']].drop_duplicates().shape[0]})"
            x, y = mean.index.to_numpy() + 1, mean.to_numpy()
            lines.append((name, depth, shortcut == "none", x, y, "ours"))
    for name, depth, plain, x, y, whose in lines:
        style: dict[str, Any] = {"color": depth_colour(depth), "dash": "dash" if plain else "solid"}
        style |= {"width": 2.6 if whose == "ours" else 1.1}
        ordered = np.sort(y)[::-1]
        for row, (at, values) in enumerate(((x, y), (np.arange(1, len(y) + 1), ordered)), start=1):
            what = "layer" if row == 1 else "rank"
            figure.add_scatter(
                x=at,
                y=values,
                mode="lines",
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                opacity=1 if whose == "ours" else 0.75,
                line=style,
                hovertemplate=f"{name}, {what} %{{x}}: %{{y:.3g}}<extra></extra>",
                row=row,
                col=1,
            )
    figure.update_xaxes(title_text="layer (1 = first convolution)", row=1)
    figure.update_xaxes(title_text="rank (1 = largest response)", row=2)
    figure.update_yaxes(title_text="standard deviation", rangemode="tozero")
    if log:
        figure.update_yaxes(type="log", dtick="D2")
    subtitle = conditions(responses) if len(responses) else "The paper's own lines; none of ours."
    title = "Layer responses after batch norm: dashed plain, solid residual"
    return _finish(figure, title, theme, height=800, subtitle=subtitle).update_layout(margin_b=170)


# --- what the question notebooks measure ----------------------------------------------------------

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

    `frame` has the columns of `results.IDENTITY`, norm (of NORMS), layer (0-based) and value
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


def gradient_correlation(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Mean cosine of the gradients at neighbouring inputs against depth: every seed, and the mean.

    `frame` has the columns of `results.IDENTITY` and value (`probes.gradient_correlation`, its entries
    beside the diagonal averaged).
    """
    values = frame.dropna(subset=["value"]) if len(frame) else frame
    if values.empty:
        return empty("No correlation of gradients measured yet.", theme)
    figure = go.Figure()
    for shortcut in (s for s in _SHORTCUT_ORDER if (values["shortcut"] == s).any()):
        own = values[values["shortcut"] == shortcut]
        name = "plain" if shortcut == "none" else f"residual ({shortcut})"
        colour, mean = _SHORTCUT_COLOURS[shortcut], own.groupby("depth")["value"].mean()
        figure.add_scatter(
            x=mean.index,
            y=mean,
            mode="lines",
            name=f"{name}, mean",
            line={"color": colour, "width": 2.6, "dash": "dash" if shortcut == "none" else "solid"},
            hovertemplate=f"{name}, %{{x}} layers: mean %{{y:.3f}}<extra></extra>",
        )
        figure.add_scatter(
            x=own["depth"],
            y=own["value"],
            mode="markers",
            name=f"{name}, one seed each",
            customdata=own["seed"],
            marker={"color": colour, "size": 9, "opacity": 0.6},
            hovertemplate=f"{name}, %{{x}} layers, seed %{{customdata}}: %{{y:.3f}}<extra></extra>",
        )
    figure.add_hline(y=0, line={"dash": "dot", "color": "#78808c"})
    figure.update_xaxes(title_text="depth (weighted layers)", tickvals=sorted(values["depth"].unique()))
    figure.update_yaxes(title_text="cosine", range=[min(-0.12, values["value"].min() - 0.05), 1.04])
    title = "How alike are the gradients at neighbouring inputs?"
    return _finish(figure, title, theme, subtitle=conditions(values))


def correlation_matrices(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Cosine of the gradients at every pair of points of a segment, a panel a network, one scale.

    `frame` has the columns of `results.IDENTITY`, i and j (0-based points) and value
    (`probes.gradient_correlation`). At most six networks, plain before residual.
    """
    if frame.empty:
        return empty("No correlation of gradients measured yet.", theme)
    runs = frame[["family", "depth", "network", "seed"]].drop_duplicates()
    runs = runs.sort_values(["family", "depth", "network", "seed"]).head(6)
    columns = min(3, len(runs)) if len(runs) != 4 else 2
    rows = -(-len(runs) // columns)
    titles = [f"{run.network}, seed {run.seed}" for run in runs.itertuples()]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, horizontal_spacing=0.07, vertical_spacing=0.16
    )
    for index, run in enumerate(runs.itertuples()):
        own = frame[(frame["network"] == run.network) & (frame["seed"] == run.seed)]
        grid = own.pivot_table(index="i", columns="j", values="value", dropna=False)
        figure.add_heatmap(
            x=np.asarray(grid.columns, dtype=int) + 1,
            y=np.asarray(grid.index, dtype=int) + 1,
            z=grid.to_numpy().round(3),
            coloraxis="coloraxis",
            hovertemplate="points %{x} and %{y}: cosine %{z:.2f}<extra></extra>",
            row=index // columns + 1,
            col=index % columns + 1,
        )
    scale = {"colorscale": "RdBu", "cmin": -1, "cmax": 1, "colorbar": {"title": {"text": "cosine"}}}
    figure.update_layout(coloraxis=scale)
    figure.update_xaxes(title_text="point on the segment", row=rows)
    figure.update_yaxes(title_text="point", col=1)
    title = "Cosine of the gradients at every two points between two images"
    figure = _finish(figure, title, theme, height=130 + 330 * rows, subtitle=conditions(frame))
    return figure.update_layout(margin_b=60)


_ARITHMETIC_COLOURS = ("#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7")


def gradient_error_by_layer(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """How far gradients are from float64's, by layer, a panel an arithmetic, one logarithmic axis.

    `frame` has the columns of `results.IDENTITY`, arithmetic, layer (0-based), relative and norm
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

    `table` as `results.table_of`; only finished runs are drawn. Colour is depth, plain is dashed.
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


def loss_lines(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Loss against the distance along a line of weights, a line a run, log axis.

    `frame` has the columns of `results.IDENTITY`, distance and loss (`landscape.loss_on_line`). Colour
    is depth, plain is dashed. Losses that are not finite are gaps.
    """
    if frame.empty or not np.isfinite(frame["loss"]).any():
        return empty("No loss along a line measured yet.", theme)
    figure = go.Figure()
    runs = frame[["depth", "family", "shortcut", "network", "seed", "study", "run"]].drop_duplicates()
    for run in runs.sort_values(["depth", "family", "shortcut", "seed"]).itertuples(index=False):
        own = frame[(frame["study"] == run.study) & (frame["run"] == run.run)].sort_values("distance")
        dash = "dash" if run.shortcut == "none" else "solid"
        figure.add_scatter(
            x=own["distance"],
            y=own["loss"].where(np.isfinite(own["loss"]) & (own["loss"] > 0)),
            mode="lines",
            connectgaps=False,
            name=f"{run.network}, seed {run.seed}",
            line={"color": depth_colour(int(str(run.depth))), "dash": dash, "width": 2.4},
            hovertemplate=f"{run.network} at %{{x:.2f}}: loss %{{y:.3g}}<extra></extra>",
        )
    figure.update_xaxes(title_text="distance (filter-normalised: 1 = as long as the weights)")
    figure.update_yaxes(title_text="mean cross-entropy", type="log", exponentformat="power", dtick=1)
    title = "Loss along a line through the trained weights"
    return _finish(figure, title, theme, subtitle=conditions(frame))


def loss_surfaces(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Loss over a plane through the trained weights, a panel a run, all on one logarithmic scale.

    `frame` has the columns of `results.IDENTITY`, x and y (distances along two directions) and loss
    (`landscape.loss_on_plane`). At most six runs, plain before residual, shallow before deep; the cross
    marks the trained weights. Losses that are not finite are holes.
    """
    positive = frame[np.isfinite(frame["loss"]) & (frame["loss"] > 0)] if len(frame) else frame
    if positive.empty:
        return empty("No loss over a plane measured yet.", theme)
    who = ["family", "depth", "network", "seed", "study", "run"]
    runs = frame[who].drop_duplicates().sort_values(who).head(6)
    columns = min(2 if len(runs) in (2, 4) else 3, len(runs))
    rows = -(-len(runs) // columns)
    titles = [f"{run.network}, seed {run.seed}" for run in runs.itertuples()]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, horizontal_spacing=0.08, vertical_spacing=0.16
    )
    low, high = _log_range(positive["loss"])
    for index, run in enumerate(runs.itertuples()):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        own = frame[(frame["study"] == run.study) & (frame["run"] == run.run)]
        grid = own.pivot_table(index="y", columns="x", values="loss", dropna=False)
        losses = grid.to_numpy(dtype=float)
        good = np.isfinite(losses) & (losses > 0)
        exponent = np.log10(losses, where=good, out=np.full_like(losses, np.nan))
        figure.add_contour(
            x=grid.columns,
            y=grid.index,
            z=np.round(exponent, 4),
            customdata=np.where(good, losses, np.nan),
            coloraxis="coloraxis",
            contours={"start": low, "end": high, "size": (high - low) / 16},
            line={"width": 0.6},
            hovertemplate="at (%{x:.2f}, %{y:.2f}): loss %{customdata:.3g}<extra></extra>",
            **place,
        )
        figure.add_scatter(
            x=[0],
            y=[0],
            mode="markers",
            marker={"symbol": "cross-thin", "size": 12, "line": {"width": 2.5, "color": "#D55E00"}},
            showlegend=False,
            hovertemplate="the trained weights<extra></extra>",
            **place,
        )
    ticks = np.linspace(low, high, 6)
    bar = {
        "title": {"text": "loss"},
        "tickvals": ticks,
        "ticktext": [f"{10**tick:.2g}" for tick in ticks],
    }
    figure.update_layout(
        coloraxis={"colorscale": "Viridis", "cmin": low, "cmax": high, "colorbar": bar}
    )
    figure.update_xaxes(title_text="first direction", row=rows)
    figure.update_yaxes(title_text="second direction", col=1)
    title = "Loss over a plane through the trained weights (one scale, logarithmic)"
    figure = _finish(figure, title, theme, height=130 + 380 * rows, subtitle=conditions(frame))
    return figure.update_layout(margin_b=60)


_FAMILY_COLOURS = {"plain": "#D55E00", "residual": "#0072B2"}
_ENDS = (("test_error", "test", "solid", 3.2), ("train_error_clean", "training", "dash", 1.8))


def shortcut_dial(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Final error against the scale of the shortcuts, 0 (plain) to 1 (residual): seeds and their mean.

    `frame` has the columns of `results.IDENTITY`, scale, train_error_clean and test_error in percent.
    """
    if frame.empty:
        return empty("No scaled shortcuts trained yet.", theme)
    figure = go.Figure()
    for quantity, word, dash, width in _ENDS:
        mean = frame.groupby("scale")[quantity].mean()
        open_marker = {"symbol": "circle-open", "line": {"width": 2}} if dash == "dash" else {}
        figure.add_scatter(
            x=mean.index,
            y=mean,
            mode="lines",
            name=f"{word} error, mean",
            line={"color": "#0072B2", "dash": dash, "width": width},
            hovertemplate=f"{word}, scale %{{x:g}}: mean %{{y:.2f}} %<extra></extra>",
        )
        figure.add_scatter(
            x=frame["scale"],
            y=frame[quantity],
            mode="markers",
            name=f"{word} error, one seed each",
            customdata=frame["seed"],
            marker={"color": "#0072B2", "size": 9, "opacity": 0.65} | open_marker,
            hovertemplate=f"{word}, scale %{{x:g}}, seed %{{customdata}}: %{{y:.2f}} %<extra></extra>",
        )
    figure.update_xaxes(
        title_text="a in y = F(x) + a x (0 plain, 1 residual)", tickvals=sorted(frame["scale"].unique())
    )
    figure.update_yaxes(title_text="final error (%)", rangemode="tozero")
    depths = " and ".join(map(str, sorted(frame["depth"].unique())))
    title = f"How much shortcut is enough? {depths} layers"
    one_network = conditions(frame.assign(network=frame["scale"]))
    return _finish(figure, title, theme, subtitle=one_network)


def trained_on(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Error after training a constructed solution on, by learning rate: plain left, residual right.

    `frame` has the columns of `results.IDENTITY`, lr, train_error_clean and test_error in percent, and
    start_train_error_clean, the solution's own training error, which stands as a dotted line.
    """
    if frame.empty:
        return empty("Nothing trained on yet.", theme)
    families = [name for name in _FAMILY_COLOURS if (frame["family"] == name).any()]
    figure = make_subplots(
        1, len(families), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=families
    )
    rates = [f"{rate:g}" for rate in sorted(frame["lr"].unique())]
    for column, family in enumerate(families, start=1):
        own, colour = frame[frame["family"] == family], _FAMILY_COLOURS[family]
        place = {"row": 1, "col": column}
        for quantity, word, dash, width in _ENDS:
            mean = own.groupby("lr")[quantity].mean()
            open_marker = {"symbol": "circle-open", "line": {"width": 2}} if dash == "dash" else {}
            figure.add_scatter(
                x=[f"{rate:g}" for rate in mean.index],
                y=mean,
                mode="lines",
                name=f"{family}, {word} error",
                line={"color": colour, "dash": dash, "width": width},
                hovertemplate=f"{family}, {word}, rate %{{x}}: mean %{{y:.2f}} %<extra></extra>",
                **place,
            )
            figure.add_scatter(
                x=[f"{rate:g}" for rate in own["lr"]],
                y=own[quantity],
                mode="markers",
                showlegend=False,
                customdata=own[["network", "seed"]],
                marker={"color": colour, "size": 9, "opacity": 0.65} | open_marker,
                hovertemplate=f"%{{customdata[0]}}, seed %{{customdata[1]}}, {word}: "
                "%{y:.2f} %<extra></extra>",
                **place,
            )
        before = own["start_train_error_clean"].mean()
        figure.add_scatter(
            x=rates,
            y=[before] * len(rates),
            mode="lines",
            name="training error before",
            legendgroup="before",
            showlegend=column == 1,
            line={"color": "#78808c", "dash": "dot", "width": 1.6},
            hovertemplate="training error before: %{y:.2f} %<extra></extra>",
            **place,
        )
    figure.update_xaxes(
        title_text="learning rate", type="category", categoryorder="array", categoryarray=rates
    )
    figure.update_yaxes(title_text="error (%)", rangemode="tozero", col=1)
    title = "After training on: lines are means, points are runs"
    return _finish(figure, title, theme, subtitle=conditions(frame))


def lesions(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Test error with blocks removed: left one at a time, by place; right several at random, by number.

    `frame` has the columns of `results.IDENTITY`, removed (how many), place (0-based, of the one block;
    any number where several are removed), blocks (all there are), draw, test_error and intact_error in
    percent. Colour is depth, plain is dashed; lines are means over seeds, points single removals.
    """
    if frame.empty:
        return empty("No blocks removed yet.", theme)
    panels = ["one block", "several at random"][: 1 + int((frame["removed"] > 1).any())]
    figure = make_subplots(
        1, len(panels), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=panels
    )
    keys = frame[["depth", "shortcut", "network"]].drop_duplicates().sort_values(["depth", "shortcut"])
    for depth, shortcut, network in keys.itertuples(index=False):
        own = frame[frame["network"] == network]
        intact = own["intact_error"].mean()
        style = {"color": depth_colour(depth), "dash": "dash" if shortcut == "none" else "solid"}
        groups = ((own[own["removed"] == 1], "place", 1), (own[own["removed"] > 1], "removed", 2))
        for part, key, column in groups:
            if part.empty:
                continue
            x = part[key] + 1 if key == "place" else part[key]
            mean = part["test_error"].groupby(x).mean()
            if key == "removed":
                mean.loc[0] = intact
                mean = mean.sort_index()
            what = "block" if key == "place" else "blocks removed:"
            figure.add_scatter(
                x=mean.index,
                y=mean,
                mode="lines",
                name=network,
                legendgroup=network,
                showlegend=column == 1,
                line=style | {"width": 2.6},
                hovertemplate=f"{network}, {what} %{{x}}: mean %{{y:.1f}} %<extra></extra>",
                row=1,
                col=column,
            )
            figure.add_scatter(
                x=x,
                y=part["test_error"],
                mode="markers",
                legendgroup=network,
                showlegend=False,
                customdata=part[["seed", "intact_error"]],
                marker={"color": style["color"], "size": 6, "opacity": 0.5},
                hovertemplate=f"{network}, {what} %{{x}}, seed %{{customdata[0]}}: %{{y:.1f}} % "
                "(intact %{customdata[1]:.1f} %)<extra></extra>",
                row=1,
                col=column,
            )
    figure.update_xaxes(title_text="place of the removed block (1 = first)", col=1)
    if len(panels) > 1:
        figure.update_xaxes(title_text="number of removed blocks", col=2)
    figure.update_yaxes(title_text="test error (%)", range=[0, 100], col=1)
    title = "Blocks removed from trained networks: dashed plain, solid residual"
    return _finish(figure, title, theme, height=500, subtitle=conditions(frame))
