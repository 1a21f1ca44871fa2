"""Figures on a phone: panels one below the other, nothing cut, nothing overprinted."""

from __future__ import annotations

import itertools

import numpy as np
import plotly.graph_objects as go
import pytest

from resnetlab import plots
from resnetlab.plots import draw, narrow
from resnetlab.plots.style import finish

WORDS = "a subtitle of more words than the width of a phone has room for, whatever is done about it"


def panelled(rows: int = 1) -> go.Figure:
    """Panels side by side with all that stands beside them."""
    names = [f"panel {number}" for number in range(2 * rows)]
    figure = draw.panels(names, "step", "error (%)", rows=rows, columns=2)
    for number, place in enumerate(draw.places(2 * rows, 2)):
        figure.add_heatmap(z=np.eye(3), coloraxis="coloraxis", **place)
        figure.add_scatter(x=[0, 1], y=[1, 2], name=f"a network of the name {number}", **place)
    finish(figure, "A title that is longer than a phone is wide in its type", WORDS, ["colour: depth"])
    figure.update_layout(coloraxis={"colorbar": {"title": {"text": "norm"}}}, sliders=[{"steps": []}])
    return figure


@pytest.mark.parametrize("rows", [1, 2])
def test_panels_side_by_side_stand_one_below_the_other_in_their_order(rows: int) -> None:
    figure = plots.stack(panelled(rows))
    assert all(axis.domain == (0, 1) for axis in figure.select_xaxes())
    domains = [axis.domain for axis in figure.select_yaxes()]
    for above, below in itertools.pairwise(domains):
        assert above[0] > below[1]
    titles = {note.text: note.y for note in figure.layout.annotations}
    assert titles == {f"panel {at}": domain[1] for at, domain in enumerate(domains)}
    for axis in [*figure.select_xaxes(), *figure.select_yaxes()]:
        assert axis.title.text in ("step", "error (%)")
        assert axis.showticklabels is not False


def test_no_line_of_a_title_is_wider_than_a_phone_and_all_have_room() -> None:
    figure = plots.stack(panelled())
    title, _, small = figure.layout.title.text.partition("<br><span")
    lines = title.split("<br>"), small.partition(">")[2].removesuffix("</span>").split("<br>")
    assert max(map(len, lines[0])) <= narrow._LETTERS[0] + len("<b></b>")
    assert max(map(len, lines[1])) <= narrow._LETTERS[1]
    assert "whatever is done about it" in " ".join(lines[1])
    assert figure.layout.margin.t >= 20 * len(lines[0]) + narrow.TYPE * 1.3 * len(lines[1])


def test_what_stood_beside_the_panels_stands_below_them_each_in_its_own_room() -> None:
    figure = plots.stack(panelled())
    layout, height = figure.layout, figure.layout.height
    plot = height - layout.margin.t - layout.margin.b
    bar = layout.coloraxis.colorbar
    assert bar.orientation == "h"
    scale = -bar.y * plot  # pixels below the panels
    assert layout.sliders[0].pad.t < scale < layout.margin.b - layout.legend.maxheight
    assert layout.legend.orientation == "h"


def test_one_panel_keeps_its_axes() -> None:
    figure = draw.panels((), "step", "error (%)")
    figure.add_scatter(x=[0, 1], y=[1, 2])
    stacked = plots.stack(finish(figure, "One", "", []))
    assert stacked.layout.xaxis.title.text == "step"
    assert stacked.layout.height < 600


def test_names_beside_rows_have_room_and_their_axis_no_title() -> None:
    figure = go.Figure(go.Scatter(x=[1], y=["resnet-1202"], mode="markers"))
    figure.update_yaxes(type="category", title_text="network")
    stacked = plots.stack(finish(figure, "One", "", []))
    assert stacked.layout.margin.l > 6 * len("resnet-1202")
    assert stacked.layout.yaxis.title.text is None
