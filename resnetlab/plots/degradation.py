"""Error during training and against depth, the paper's curves and values with it (Figures 1, 4, 6)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd
import plotly.graph_objects as go

from resnetlab import paper, verdict
from resnetlab.config import edit_of
from resnetlab.plots import draw, style
from resnetlab.plots.style import DASHED_TRAIN, Keywords, Look, conditions, empty, finish

_FIGURE_6 = "plain-20 plain-32 plain-44 plain-56 resnet-20 resnet-32 resnet-44 resnet-56 resnet-110"
_FINAL = {"train_error": "training error", "test_error": "test error"}


def error_curves(metrics: pd.DataFrame, *, with_paper: bool = False) -> go.Figure:
    """Figure 6: error against step, plain left, residual right; mean over seeds, band from min to max.

    Both are of the runs that have ended; each other is a thin line of its own. `metrics` as
    `store.metrics_of`. Dashed: running training error (augmented, training mode). Bold:
    test error, or the held-out part's where the runs have one. `with_paper` lays the paper's own curves
    faint underneath; ValueError if data set or recipe are not the paper's (`verdict.not_comparable`).
    """
    if metrics.empty or metrics["train_error"].isna().all():
        return empty("No errors logged yet.")
    tested = "validation_error" if metrics["validation_error"].notna().any() else "test_error"
    # Once: of a thousand runs each look for what differs takes its time.
    who = metrics[~metrics.duplicated(["network", "seed", "data", "recipe", "precision"])]
    if with_paper and (reasons := verdict.reasons_apart(who)):
        raise ValueError(reasons[0])
    figure = draw.panels(draw.FAMILIES, draw.STEP, "error (%)")
    shown, colours = draw.networks(metrics)
    one_depth = len({network.depth for network in shown}) == 1
    legend = [colours, DASHED_TRAIN.replace("test", tested.removesuffix("_error"))]
    for network in shown:
        apart = network.symbol and (one_depth or network.shortcut in "BC")
        option = network.option if apart else ""
        words = [f"{network.depth} layers", option, edit_of(network.name)]
        name = ", ".join(filter(None, words))
        place: Keywords = {"legendgroup": name, "col": draw.FAMILIES.index(network.family) + 1}
        if with_paper:
            _draw_papers(figure, network.name, faint=True)
        whole, unfinished = draw.ended(network.rows)
        for quantity in (tested, "train_error"):
            look, word = network.by_error(quantity), quantity.removesuffix("_error")
            for rows in unfinished:
                seen, thin = (
                    rows.dropna(subset=[quantity]),
                    look._replace(width=style.HAIR, symbol=None),
                )
                label = f"{network.name} {word}, seed {rows['seed'].iloc[0]}, unfinished"
                draw.line(figure, seen["step"], seen[quantity], thin, name, label, **place)
            seeds = draw.over_seeds(whole, quantity, "step")
            if seeds.empty:
                continue
            if draw.mean_and_band(figure, seeds, look, name, f"{network.name} {word}", **place):
                legend = [*legend[:2], style.BANDS]
    legend += ["thin and pale: the paper's"] if with_paper else []
    subtitle, young = conditions(draw.ended(who)[0]), len(draw.ended(who)[1])
    if young:
        legend.append("hair lines: runs that have not ended")
        noun = "run" if young == 1 else "runs"
        subtitle = (
            f"{conditions(who) if subtitle == 'no runs' else subtitle}; {young} more {noun} unfinished"
        )
    return finish(figure, "Error during training", subtitle, legend, 520)


def _draw_papers(figure: go.Figure, name: str, *, faint: bool) -> list[paper.Curve]:
    """The paper's curves of a network, in the panel of its family: those that there are."""
    depth, column = int(name.split("-")[1]), 1 if name.startswith("plain") else 2
    errors = ("test_error", "train_error")
    shown = [curve for quantity in errors if (curve := paper.curve(name, quantity))]
    for curve in shown:
        look = style.error_look(curve.quantity, style.depth_colour(depth))
        if faint:
            look = Look(style.rgba(look.colour, 0.45), look.dash, style.FAINT)
        who = f"the paper, {name} {curve.quantity.removesuffix('_error')} ({curve.source})"
        label = None if faint else f"{depth} layers"
        draw.line(figure, curve.x, curve.y, look, label, who, col=column)
    return shown


def paper_error_curves(names: Sequence[str] = tuple(_FIGURE_6.split())) -> go.Figure:
    """The paper's own error curves of these networks, plain left, residual right: nothing of ours.

    Names without a curve in Figure 4 or 6 are left out. Those figures end at 20 % (6) and 63 % (4). A
    ring marks the last crossing of a residual training curve with that of the first one named.
    """
    figure = draw.panels(draw.FAMILIES, draw.STEP, "error (%)")
    shown = [curve for name in names for curve in _draw_papers(figure, name, faint=False)]
    ringed = _ring_crossings(figure, [name for name in names if name.startswith("resnet")])
    last = max((curve.x[-1] for curve in shown), default=1)
    figure.update_xaxes(range=[0, last])
    sources = sorted({(curve.source, paper.HOW[curve.data, "single"]) for curve in shown})
    subtitle = escape("; ".join(f"{source}: {where}" for source, where in sources))
    legend = ["colour: depth", DASHED_TRAIN, *ringed]
    return finish(figure, "The paper's own curves", subtitle, legend, 520)


def _ring_crossings(figure: go.Figure, names: Sequence[str]) -> list[str]:
    """A ring where the training curve of a residual network gets below the first one's for good."""
    shallow, *deeper = names or [""]
    rings = 0
    for name in deeper:
        curve, found = paper.curve(name, "train_error"), verdict.papers_lead(name, shallow)
        if curve is None or found is None or not found.crossed:
            continue
        colour = style.depth_colour(int(name.split("-")[1]))
        marker = {"symbol": "circle-open", "size": 15, "color": colour, "line": {"width": 3}}
        error = [curve.y[curve.x.index(int(found.step))]]
        who = f"{name}, from here on below {shallow}"
        draw.points(figure, [found.step], error, marker, who, col=2, showlegend=False)
        rings += 1
    return [f"ring: from there on below {shallow.split('-')[1]} layers"] if rings else []


def error_against_depth(table: pd.DataFrame, *, only_training: bool = False) -> go.Figure:
    """Final error against depth, plain and residual: every finished run a point, the mean a line.

    `table` as `Study.table`. Left training error (running), right test error. The paper's values stand
    as open diamonds only where data set and recipe are the paper's; otherwise the subtitle says why
    not. Edited networks (`Run.surgery`) are left out. `only_training` is the left half, low enough for
    a first screen.
    """
    finished = verdict.ordinary(table[table["status"] == "finished"])
    if finished.empty:
        edited = (table["status"] == "finished").any()
        return empty(f"No finished run{' of an unedited network' if edited else ''} yet.")
    quantities = ["train_error"] if only_training else list(_FINAL)
    names = [] if only_training else list(_FINAL.values())
    word = "final training error (%)" if only_training else "final error (%)"
    figure = draw.panels(names, draw.DEPTH, word)
    figure.update_xaxes(tickvals=sorted(finished["depth"].unique()))
    reason = next(iter(verdict.reasons_apart(finished)), None)
    for column, quantity in enumerate(quantities, start=1):
        place: Keywords = {"row": 1, "col": column}
        for option, name, rows in draw.options(finished):
            usual = style.option_look(option)
            look = style.error_look(quantity, usual.colour, usual.symbol)
            seeds = draw.over_seeds(rows, quantity, "depth")
            if seeds["count"].max() > 1 and len(seeds) > 1:
                edges = (seeds.index, seeds["min"], seeds["max"])
                draw.band(figure, *edges, look.colour, legendgroup=name, **place)
            draw.mean_and_runs(figure, rows, "depth", quantity, look, name, **place)
            networks = rows[["depth", "network"]].drop_duplicates().itertuples(index=False)
            records = [(depth, paper.reported(network, quantity)) for depth, network in networks]
            papers = {depth: record for depth, record in records if record and reason is None}
            if papers:
                values = [record.value for record in papers.values()]
                marker = look.marker(symbol=style.PAPER_MARKER, size=12, line={"width": 2})
                more = place | {"customdata": [record.source for record in papers.values()]}
                more |= {"name": f"{name}, the paper"}
                draw.points(figure, list(papers), values, marker, "the paper (%{customdata})", **more)
    subtitle = conditions(finished)
    if reason and not only_training:
        subtitle += f"<br>The paper's values are not drawn: {escape(reason).replace(': ', ':<br>')}"
    said = DASHED_TRAIN.partition(",")[0] if only_training else DASHED_TRAIN
    title = "Training error against depth" if only_training else "Error against depth"
    legend = [style.BY_OPTION, said, "points: runs" if only_training else style.MEANS]
    if not only_training:
        return finish(figure, title, subtitle, legend)
    finish(figure, title, subtitle, legend, 330, below=60)
    lines = [
        (option, name, rows.groupby("depth")["train_error"].mean())
        for option, name, rows in draw.options(finished)
    ]
    figure.layout.margin.t -= 22
    draw.end_labels(
        figure,
        [
            (
                means.index[-1],
                means.iloc[-1],
                name.replace(" (", "<br>("),
                style.option_look(option).colour,
            )
            for option, name, means in lines
        ],
    )
    return figure


def error_by_network(table: pd.DataFrame) -> go.Figure:
    """Final error of each network side by side: every finished run a point, the mean a bar.

    `table` as `Study.table`. Left training error (running), right test error; by depth, then by
    shortcut option.
    """
    finished = table[table["status"] == "finished"]
    if finished.empty:
        return empty("No finished run yet.")
    own_axes: Keywords = {"shared_yaxes": False, "horizontal_spacing": 0.08}
    figure = draw.panels(list(_FINAL.values()), "network", "final error (%)", **own_axes)
    shown, colours = draw.networks(finished, marked=True)
    for column, quantity in enumerate(_FINAL, start=1):
        for network in shown:
            rows, look = network.rows, network.by_error(quantity)
            place: Keywords = {"row": 1, "col": column}
            seeds = draw.over_seeds(rows, quantity, "network")
            mean, count = (seeds[name].sum() for name in ("mean", "count"))
            edge = {"color": look.colour, "width": 2}
            bar = place | {"x": [network.name], "y": [mean], "hovertemplate": f"mean of {count} seeds"}
            bar |= {"text": [f"{mean:.1f}"], "textposition": "outside", "cliponaxis": False}
            figure.add_bar(**bar, marker={"color": style.rgba(look.colour, 0.3), "line": edge})
            x = [network.name] * len(rows)
            draw.runs(figure, rows, x, rows[quantity], look._replace(dash=style.SOLID), **place)
    legend = [colours, "bars: means over seeds, points: runs"]
    return finish(figure, "Final error of each network", conditions(finished), legend)


def run_curves(metrics: pd.DataFrame) -> go.Figure:
    """One run while it trains: training and test error above, learning rate below.

    `metrics` as `store.metrics_of` of one run.
    """
    if metrics.empty:
        return empty("No row logged yet.")
    below: Keywords = {"shared_xaxes": True, "row_heights": [0.78, 0.22], "vertical_spacing": 0.1}
    figure = draw.panels((), draw.STEP, "error (%)", rows=2, **below)
    row = metrics.iloc[0]
    for quantity in ("train_error", "validation_error", "test_error"):
        rows = metrics.dropna(subset=[quantity])
        if len(rows):
            look = style.error_look(quantity, style.depth_colour(int(row["depth"])))
            draw.line(figure, rows["step"], rows[quantity], look, quantity.replace("_", " "))
    rate, name = Look(style.GREY, width=style.TRAIN), "learning rate"
    stairs: Keywords = {"shape": "vh", "mode": "lines", "row": 2}
    draw.line(figure, metrics["step"], metrics["lr"], rate, name, **stairs)
    draw.log_axis(figure, title_text="rate", row=2)
    title = f"{row['network']} on {escape(row['data'])}"
    subtitle = f"recipe {escape(row['recipe'])}, {row['precision']}, seed {row['seed']}"
    legend = ["colour: depth", DASHED_TRAIN, "grey: learning rate"]
    return finish(figure, title, subtitle, legend, 480)
