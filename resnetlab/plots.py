"""The figures: frames of measured values in, plotly Figures out, for notebooks and dashboard alike.

Colour is depth, dashed is training, bold is test, plain stands left and residual right, as in the
paper's Figure 6. Callers load, show and save; nothing here reads a file or invents a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from resnetlab import paper

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

_SHORTCUT_ORDER = ("none", "A", "B", "C")
Theme = Literal["neutral", "light", "dark"]
# neutral is drawn on whatever page it stands on; light and dark are for files.
_THEMES: dict[Theme, tuple[str, str]] = {
    "neutral": ("rgba(0,0,0,0)", "#78808c"),
    "light": ("#ffffff", "#24292f"),
    "dark": ("#0d1117", "#e6edf3"),
}
_GRID = "rgba(128,128,128,0.25)"

# For notebooks and HTML files: plotly's share button would upload the figure to a server.
CONFIG: dict[str, Any] = {"showSendToCloud": False, "displaylogo": False}


def depth_colour(depth: int) -> str:
    """The colour of a depth, the same in every figure."""
    return _DEPTH_COLOURS.get(depth, _OTHER_COLOURS[depth // 6 % len(_OTHER_COLOURS)])


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
    return f"{parts[0]}, recipe {parts[1]}, {' and '.join(precisions)}, {count} {noun} a network"


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


def error_curves(metrics: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Figure 6: error against step, plain left, residual right; mean over seeds, band from min to max.

    `metrics` as `results.metrics_of`. Dashed: running training error (augmented, training mode). Bold:
    test error, or the held-out part's where the runs have one. Where all networks have one depth,
    colour is the shortcut option; else options of one depth share it, and legend and hover tell.
    """
    drawn = metrics.dropna(subset=["train_error"]) if len(metrics) else metrics
    if drawn.empty:
        return empty("No errors logged yet.", theme)
    figure = make_subplots(
        1, 2, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=["plain", "residual"]
    )
    held_out = metrics["validation_error"].notna().any()
    tested = "validation_error" if held_out else "test_error"
    keys = (
        metrics[["depth", "shortcut", "network"]].drop_duplicates().sort_values(["depth", "shortcut"])
    )
    options = keys[keys["shortcut"] != "none"].groupby("depth")["shortcut"].nunique()
    several = bool((options > 1).any())
    by_option = several and keys["depth"].nunique() == 1
    lines = []
    for depth, shortcut, network in keys.itertuples(index=False):
        own = metrics[metrics["network"] == network]
        apart = by_option or (several and shortcut not in ("none", "A"))
        group = f"{depth}-{shortcut}" if apart else f"{depth}"
        shared = {"legendgroup": group, "row": 1, "col": 1 if shortcut == "none" else 2}
        option = "no shortcut" if shortcut == "none" else f"option {shortcut}"
        name = f"{depth} layers" + (f", {option}" if apart else "")
        for quantity, dash, width in ((tested, "solid", 3.2), ("train_error", "dash", 1.6)):
            line = _over_seeds(own, quantity)
            if line.empty:
                continue
            colour = _SHORTCUT_COLOURS[shortcut] if by_option else depth_colour(depth)
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
            mode="lines",
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
    subtitle = conditions(metrics) + (note if banded else "")
    finished = _finish(figure, title, theme, height=520, subtitle=subtitle)
    return finished.update_layout(margin_t=118 if banded else 96)


def error_against_depth(table: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Final error against depth, plain and residual: every finished run a point, the mean a line.

    `table` as `Study.table`. Left training error (running), right test error. The paper's values stand
    as hollow diamonds only where data set and recipe are the paper's; otherwise the subtitle says why
    not.
    """
    finished = table[table["status"] == "finished"]
    if finished.empty:
        return empty("No finished run yet.", theme)
    figure = make_subplots(
        1,
        2,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=["training error", "test error"],
    )
    reasons = {
        paper.comparable(data, recipe)
        for data, recipe in finished[["data", "recipe"]].drop_duplicates().itertuples(index=False)
    }
    colours = {"plain": "#D55E00", "residual": "#0072B2"}
    for column, quantity in enumerate(("train_error", "test_error"), start=1):
        for shortcut in sorted(finished["shortcut"].unique(), key=_SHORTCUT_ORDER.index):
            own = finished[finished["shortcut"] == shortcut]
            family = "plain" if shortcut == "none" else "residual"
            name = "plain" if shortcut == "none" else f"residual (option {shortcut})"
            colour = colours[family]
            mean = own.groupby("depth")[quantity].mean()
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
            if reasons == {None}:
                _add_paper_points(figure, own, quantity, colour, name, column)
    figure.update_xaxes(
        title_text="depth (weighted layers)", tickvals=sorted(finished["depth"].unique())
    )
    figure.update_yaxes(title_text="final error (%)", rangemode="tozero", row=1, col=1)
    note = next((escape(reason) for reason in sorted(filter(None, reasons))), "")
    subtitle = conditions(finished) + (f"<br>Paper's values not drawn: {note}" if note else "")
    return _finish(
        figure, "Error against depth: one point a run, the line is the mean", theme, subtitle=subtitle
    ).update_layout(margin_t=118 if note else 96)


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

    `probes` as `results.probes_of`. Layer 1 is the first convolution, the last the classifier. At most
    eight runs, plain before residual and shallow before deep.
    """
    if probes.empty:
        return empty("No gradient norms logged yet.", theme)
    who = ["family", "depth", "network", "seed", "study", "run"]
    runs = probes[who].drop_duplicates().sort_values(who[:4]).head(8)
    columns = min(len(runs), 2 if len(runs) in (2, 4) else 4)
    rows = -(-len(runs) // columns)
    titles = [f"{row.network}, seed {row.seed}" for row in runs.itertuples()]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, horizontal_spacing=0.06, vertical_spacing=0.26 / rows
    )
    low, high = _log_range(probes["value"])
    for index, row in enumerate(runs.itertuples()):
        own = probes[(probes["study"] == row.study) & (probes["run"] == row.run)]
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
            row=index // columns + 1,
            col=index % columns + 1,
        )
    ticks = np.arange(np.ceil(low), np.floor(high) + 1)
    figure.update_layout(
        coloraxis={
            "colorscale": "Viridis",
            "cmin": low,
            "cmax": high,
            "colorbar": {
                "title": {"text": "gradient norm"},
                "tickvals": ticks,
                "ticktext": [f"1e{int(tick)}" for tick in ticks],
            },
        }
    )
    figure.update_xaxes(title_text="step (optimizer updates)", row=rows)
    figure.update_yaxes(title_text="layer", col=1)
    return _finish(
        figure,
        "Gradient norm of every weighted layer (L2, log scale)",
        theme,
        height=160 + 290 * rows,
        subtitle=conditions(probes),
    ).update_layout(margin_b=60, margin_r=20)


def gradient_norm_profile(
    probes: pd.DataFrame, steps: Sequence[int] | None = None, *, theme: Theme = "neutral"
) -> go.Figure:
    """Gradient norm against layer at chosen steps (default: first, middle, last), log axis.

    `probes` as `results.probes_of`; plain left, residual right (one panel if there is one family);
    colour is depth, dash is the step. Seeds are averaged geometrically. A step that was not logged
    takes the nearest logged one.
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
    for depth, shortcut, network in keys.itertuples(index=False):
        for dash, step in zip(_DASHES, chosen, strict=False):
            at_step = probes[(probes["network"] == network) & (probes["step"] == step)]
            own = at_step[at_step["value"] > 0]
            if own.empty:
                continue
            line = np.exp(np.log(own["value"]).groupby(own["layer"]).mean())
            name = f"{depth} layers, step {step}"
            figure.add_scatter(
                x=line.index + 1,
                y=line,
                mode="lines",
                name=name,
                legendgroup=name,
                showlegend=name not in {trace.name for trace in figure.data},
                line={"color": depth_colour(depth), "dash": dash, "width": 2},
                hovertemplate=f"{network}, step {step}, layer %{{x}}: %{{y:.3g}}<extra></extra>",
                row=1,
                col=families.index("plain" if shortcut == "none" else "residual") + 1,
            )
    figure.update_xaxes(title_text="layer (1 = first convolution)")
    low, high = _log_range(probes["value"])
    figure.update_yaxes(type="log", exponentformat="power", dtick=max(1, round((high - low) / 6)))
    figure.update_yaxes(title_text="gradient norm (L2)", title_standoff=14, automargin=True, col=1)
    return _finish(figure, "Gradient norm by layer", theme, height=500, subtitle=conditions(probes))


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
