"""Error during training and against depth, the paper's curves and values with it (Figures 1, 4, 6)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from resnetlab import paper, verdict
from resnetlab.config import edit_of
from resnetlab.plots.style import (
    _LINE,
    _SHORTCUT_COLOURS,
    _SHORTCUT_ORDER,
    Theme,
    _edit_colours,
    _finish,
    _in_order,
    _over_seeds,
    _rgba,
    conditions,
    depth_colour,
    empty,
)

FIGURE_6 = tuple(
    f"{family}-{depth}" for family in ("plain", "resnet") for depth in (20, 32, 44, 56, 110)
)


def error_curves(
    metrics: pd.DataFrame, *, theme: Theme = "neutral", with_paper: bool = False
) -> go.Figure:
    """Figure 6: error against step, plain left, residual right; mean over seeds, band from min to max.

    `metrics` as `store.metrics_of`. Dashed: running training error (augmented, training mode). Bold:
    test error, or the held-out part's where the runs have one. Where all networks have one depth,
    colour is the shortcut option; else options of one depth share it, and legend and hover tell. An
    edited network (`Run.surgery`) has the colour of its edit. `with_paper` lays the paper's own curves
    faint underneath; ValueError if data set or recipe are not the paper's (`verdict.not_comparable`).
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
    return min((reason for kind in kinds for reason in verdict.not_comparable(*kind)), default=None)


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
            sources.add((line.source, paper.HOW[line.data, "single"]))
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

    `metrics` as `store.metrics_of` of one run.
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
