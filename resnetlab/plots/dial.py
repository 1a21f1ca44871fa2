"""Scaled shortcuts, and networks that lose blocks."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from resnetlab.config import edit_of
from resnetlab.plots import draw, style
from resnetlab.plots.construction import ENDS
from resnetlab.plots.degradation import error_curves
from resnetlab.plots.style import DASHED_PLAIN, DASHED_TRAIN, conditions, empty, finish


def shortcut_dial(frame: pd.DataFrame) -> go.Figure:
    """Final error against the scale of the shortcuts, 0 (plain) to 1 (residual): seeds and their mean.

    `frame` has the columns of `store.IDENTITY`, scale, train_error_clean and test_error in percent.
    """
    if frame.empty:
        return empty("No scaled shortcuts trained yet.")
    figure = draw.panels((), "a in y = F(x) + a x (0 plain, 1 residual)", "final error (%)")
    figure.update_xaxes(tickvals=sorted(frame["scale"].unique()))
    for quantity, word in ENDS.items():
        look = style.error_look(quantity, style.depth_colour(int(frame["depth"].max())))
        draw.mean_and_runs(figure, frame, "scale", quantity, look, word, word)
    depths = " and ".join(map(str, sorted(frame["depth"].unique())))
    title = f"How much shortcut is enough? {depths} layers"
    one_network = conditions(frame.assign(network=frame["scale"]))
    legend = ["colour: depth", DASHED_TRAIN, style.MEANS]
    return finish(figure, title, one_network, legend)


def dial_curves(metrics: pd.DataFrame) -> go.Figure:
    """`error_curves` while the dial is turned: error during training, a slider through the scales a.

    `metrics` as `store.metrics_of`, of one depth: scaled shortcuts, plain networks (a = 0)
    and residual ones (a = 1). All on one axis; seen first is the largest a.
    """
    if metrics.empty:
        return empty("No scaled shortcuts trained yet.")
    edits = metrics["network"].map(edit_of).str.extract(r"^scale (.+)$")[0].astype(float)
    scales = edits.fillna(metrics["shortcut"].ne("none").astype(float))
    curves = {f"{a:g}": error_curves(rows) for a, rows in metrics.groupby(scales)}
    return draw.slider(curves, "a =")


def lesions(frame: pd.DataFrame) -> go.Figure:
    """Test error with blocks removed: left one at a time, by place; right several at random, by number.

    `frame` has the columns of `store.IDENTITY`, removed (how many), place (0-based, of the one block;
    any number where several are removed), blocks (all there are), draw, test_error and intact_error in
    percent. Lines are means over seeds, points single removals.
    """
    if frame.empty:
        return empty("No blocks removed yet.")
    several = frame["removed"] > 1
    titles = ["one block", "several at random"][: 1 + int(several.any())]
    figure = draw.panels(titles, "number of removed blocks", "test error (%)")
    figure.update_xaxes(title_text="place of the removed block (1 = first)", col=1)
    figure.update_yaxes(range=[0, 100], col=1)
    texts = frame["intact_error"].map("intact {:.1f} %".format)
    shown, colours = draw.networks(frame.assign(place=frame["place"] + 1, intact=texts))
    for network in shown:
        removed, look, name = network.rows["removed"], network.by_family(), network.name
        for column, key in enumerate(["place", "removed"], start=1):
            rows = network.rows[removed == 1 if key == "place" else removed > 1]
            if rows.empty:
                continue
            mean = rows["test_error"].groupby(rows[key]).mean()
            if key == "removed":
                intact = pd.Series({0: network.rows["intact_error"].mean()})
                mean = pd.concat([intact, mean]).sort_index()
            place = {"row": 1, "col": column}
            draw.line(figure, mean.index, mean, look, name, f"{name}, mean", mode="lines", **place)
            point = place | {"size": style.SMALL_POINT, "text": rows["intact"], "legendgroup": name}
            draw.runs(figure, rows, rows[key], rows["test_error"], look, "%{text}", **point)
    legend = [colours, DASHED_PLAIN, "lines: means over seeds, points: removals"]
    title = "Blocks removed from trained networks"
    return finish(figure, title, conditions(frame), legend, 500)
