"""Layer responses (Figure 7)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from resnetlab import paper
from resnetlab.plots import draw, style
from resnetlab.plots.style import DASHED_PLAIN, Look, conditions, empty, finish


def layer_responses(
    responses: pd.DataFrame,
    papers: Sequence[paper.Curve] = (),
    *,
    log: bool = False,
    by_size: bool = True,
) -> go.Figure:
    """Figure 7: deviation of each 3x3 layer's response; above in order, below by size.

    `responses` has the columns of `store.IDENTITY`, layer (0-based) and value
    (`probes.layer_responses`). Seeds are averaged, layer by layer. `papers` are lines of the paper's
    own figure, drawn thin. `log` takes a logarithmic axis, for networks that differ by orders of
    magnitude. Without `by_size` there is no panel below.
    """
    if responses.empty and not papers:
        return empty("No layer responses measured yet.")
    lines: list[tuple[str, Look, np.ndarray, np.ndarray]] = []
    for curve in papers:
        family, _, depth = curve.network.rpartition("-")
        colour = style.rgba(style.depth_colour(int(depth)), 0.75)
        usual = style.family_look("none" if family == "plain" else "A", colour)
        look, name = usual._replace(width=style.FAINT), f"{curve.network}, the paper (CIFAR-10)"
        lines.append((name, look, np.array(curve.x), np.array(curve.y)))
    shown, colours = draw.networks(responses) if len(responses) else ([], "colour: depth")
    for network in shown:
        mean = draw.arithmetic(network.rows, "value", "layer")
        name = f"{network.name} (n = {network.rows['seed'].nunique()})"
        lines.append((name, network.by_family(), mean.index.to_numpy() + 1, mean.to_numpy()))
    titles = ["in the order of the layers", "sorted by magnitude"] if by_size else []
    figure = draw.panels(titles, rows=2 if by_size else 1, vertical_spacing=0.2)
    for name, look, x, y in lines:
        draw.line(figure, x, y, look, name)
        if by_size:
            draw.line(figure, np.arange(1, len(y) + 1), np.sort(y)[::-1], look, name, row=2)
    figure.update_xaxes(title_text="layer (1 = first convolution)", row=1)
    if by_size:
        figure.update_xaxes(title_text="rank (1 = largest response)", row=2)
    figure.update_yaxes(title_text="deviation of the response", rangemode="tozero")
    if log:
        figure.update_yaxes(type="log", dtick="D2", minorloglabels="complete")
    subtitle = conditions(responses) if len(responses) else "The paper's own lines; none of ours."
    legend = [colours, DASHED_PLAIN, *(["thin: the paper's"] if papers else [])]
    low: dict[str, int] = {"height": 800, "below": 170} if by_size else {"height": 500, "below": 110}
    return finish(figure, "Layer responses after batch norm", subtitle, legend, **low)
