"""Training on from the constructed solution."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from resnetlab.plots.dial import _ENDS
from resnetlab.plots.style import _FAMILY_COLOURS, Theme, _finish, conditions, empty


def trained_on(frame: pd.DataFrame, *, theme: Theme = "neutral") -> go.Figure:
    """Error after training a constructed solution on, by learning rate: plain left, residual right.

    `frame` has the columns of `store.IDENTITY`, lr, train_error_clean and test_error in percent, and
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
