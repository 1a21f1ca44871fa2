"""Scaled shortcuts, and networks that lose blocks."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from resnetlab.plots.style import Theme, _finish, conditions, depth_colour, empty

_ENDS = (("test_error", "test", "solid", 3.2), ("train_error_clean", "training", "dash", 1.8))


def shortcut_dial(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Final error against the scale of the shortcuts, 0 (plain) to 1 (residual): seeds and their mean.

    `frame` has the columns of `store.IDENTITY`, scale, train_error_clean and test_error in percent.
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


def lesions(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Test error with blocks removed: left one at a time, by place; right several at random, by number.

    `frame` has the columns of `store.IDENTITY`, removed (how many), place (0-based, of the one block;
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
