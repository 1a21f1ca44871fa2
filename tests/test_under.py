"""Under a figure: its link, how it is made again, its values, and the notebook that explains it."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from dashboard_data import APP, opened, write_run, write_study
from streamlit.testing.v1 import AppTest
from test_dashboard import PROJECT, markdown
from typer.testing import CliRunner

from dashboard import frame
from resnetlab import cli, store
from resnetlab.config import commands

Open = Callable[..., AppTest]
COPY = PROJECT / "results" / "reference" / "digits" / "01_degradation.ipynb"


@pytest.fixture
def open_page(folder: Path) -> Open:
    return opened


def codes(app: AppTest) -> list[str]:
    return [item.value for item in app.code]


def test_the_link_leads_to_a_heading_that_is_there(folder: Path, open_page: Open) -> None:
    write_study(folder)
    app = open_page()
    anchors = {item.proto.anchor for item in app.header}
    assert "figure-depth" in anchors
    assert "[Link](#figure-depth)" in markdown(app)


def test_the_commands_make_these_runs_and_draw_this_study(folder: Path, open_page: Open) -> None:
    for network in ("plain-8", "resnet-8"):
        write_run(folder, network, study="mine", planned=2, steps=0, status="running")
    app = open_page()
    study = store.read_study(folder / "mine")
    made = commands.of_study("mine", {run.name: run.config for run in study.runs})
    assert made is not None
    assert made in codes(app)
    assert "resnetlab notebook 01_degradation -p study mine" in codes(app)


def test_runs_that_no_study_makes_are_told_one_by_one(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8", name="one")
    write_run(folder, "plain-14", name="two")
    app = open_page()
    command = next(code for code in codes(app) if code.startswith("resnetlab show"))
    words = shlex.split(command.partition("#")[0])
    assert CliRunner().invoke(cli.app.app, [*words[1:], "--results", str(folder)]).exit_code == 0


def test_the_values_are_the_table_of_the_figure(folder: Path, open_page: Open) -> None:
    write_study(folder, seeds=2)
    app = open_page()
    (button,) = [item for item in app.get("download_button") if "depth" in item.proto.id]
    assert "8 rows" in button.proto.help


@pytest.mark.parametrize("there", [True, False])
def test_the_notebook_is_linked_where_it_was_executed(
    folder: Path, open_page: Open, there: bool
) -> None:
    write_study(folder)
    if there:
        shutil.copy(COPY, folder / "digits")
    links = open_page().get("page_link")
    assert bool(links) == there
    for link in links:
        assert "notebook=01_degradation.ipynb" in link.proto.query_string
        assert "study=digits" in link.proto.query_string


def test_hostile_names_under_a_figure_are_text(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8")
    write_run(folder, "plain-14", name="a")
    (folder / "digits").rename(folder / "![x](evil.example) <b> $x$")
    assert "evil.example" not in markdown(open_page())


@pytest.mark.parametrize(
    ("page", "figures"),
    [
        ("gradients", ["ratio", "heatmap", "profile"]),
        ("networks", ["drawing", "film"]),
        ("compare", ["curves"]),
        ("runs", ["run_curves"]),
    ],
)
def test_every_figure_has_its_line_and_its_words(
    folder: Path, page: str, figures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(folder, seeds=2)
    spoken: dict[str, tuple[str, bool]] = {}
    draw = frame.chart

    def chart(figure: go.Figure, key: str, *rest: Any, **more: Any) -> None:
        spoken[key] = (more.get("alt", ""), more.get("source") is not None)
        draw(figure, key, *rest, **more)

    monkeypatch.setattr(frame, "chart", chart)
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.switch_page(f"app_pages/{page}.py").run()
    assert not app.exception, app.exception
    for figure in figures:
        words, has_line = spoken[figure]
        assert has_line
        assert len(words) > len("Gradient norm by layer.")
        assert f"[Link](#figure-{figure})" in markdown(app)
