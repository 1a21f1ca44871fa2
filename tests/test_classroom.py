"""The dashboard in class: the paper's curves, the projector, hidden controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dashboard_data import write_run, write_study
from test_dashboard import Open, charts, markdown, open_page, texts

from resnetlab import paper, store, verdict

__all__ = ["open_page"]  # a fixture
GRADIENTS = "app_pages/gradients.py"


def toggle(app: Any, key: str) -> Any:
    return next(item for item in app.toggle if item.key == key)


def test_the_papers_curves_stand_apart_from_runs_that_do_not_compare(
    folder: Path, open_page: Open
) -> None:
    write_study(folder)
    assert len(charts(open_page(theirs="false"))) == 4
    app = open_page()
    assert len(charts(app)) == 5
    assert "Not under our curves: the paper trained on CIFAR-10 and ImageNet" in texts(app)
    line = paper.curve("plain-20", "test_error")
    assert line is not None
    drawn = [trace for trace in charts(app)[3]["data"] if "plain-20 test" in trace["hovertemplate"]]
    assert len(drawn) == 1


def test_the_papers_curves_lie_under_runs_that_compare(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-20", data="cifar10", recipe="paper", planned=64_000)
    app = open_page()
    assert len(charts(app)) == 4
    assert "the paper, plain-20 test" in str(charts(app)[2])
    assert "the paper, plain-20 test" not in str(charts(open_page(theirs="false"))[2])


def test_the_projector_enlarges_every_figure(folder: Path, open_page: Open) -> None:
    write_study(folder)
    for page in ("app_pages/degradation.py", GRADIENTS):
        sizes = [
            [chart["layout"]["font"]["size"] for chart in charts(open_page(page, **query))]
            for query in ({}, {"projector": "true"})
        ]
        assert len(sizes[0]) == len(sizes[1])
        # A figure that shares the page with another has narrower places for its words.
        assert min(sizes[1]) > 1.2 * max(sizes[0])
        assert max(sizes[1]) > 1.5 * max(sizes[0])


def test_a_link_hides_the_controls_and_a_button_brings_them_back(folder: Path, open_page: Open) -> None:
    write_study(folder)
    assert not [item for item in open_page().button if item.label == "Show controls"]
    app = open_page(bare="true")
    button = next(item for item in app.button if item.label == "Show controls")
    button.click().run()
    assert not app.exception
    assert toggle(app, "bare").value is False


def test_values_in_the_address_that_are_none_fall_back(folder: Path, open_page: Open) -> None:
    write_study(folder)
    app = open_page(theirs="7", projector="", bare="x", study="none")
    assert len(charts(app)) == 5


def test_what_the_gradients_do_is_said_beside_the_papers_words(folder: Path, open_page: Open) -> None:
    write_study(folder)
    app = open_page(GRADIENTS)
    study = store.read_study(folder / "digits")
    for sentence in verdict.on_gradients(store.probes_of(study.runs)):
        assert sentence in texts(app)
    assert "exhibit healthy norms with BN" in markdown(app)
