"""Every page of the dashboard in every state that a run can be in, and with a folder it cannot read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dashboard_data import charts, write_run
from streamlit.testing.v1 import AppTest
from test_dashboard import texts

from resnetlab import store
from resnetlab.plots import series

APP = Path(__file__).resolve().parent.parent / "dashboard" / "app.py"
PAGES = [path.stem for path in sorted((APP.parent / "app_pages").glob("*.py"))]
STATES: dict[str, dict[str, Any]] = {
    "one run": {},
    "running": {"status": "running", "steps": 20},
    "failed": {"status": "failed", "steps": 20, "error": "the disk is full"},
    "interrupted": {"status": "interrupted", "steps": 20, "error": "stopped by a signal"},
    "diverged": {"status": "diverged", "steps": 20, "error": "the loss was not finite"},
    "thousands of points": {"steps": 20_000, "planned": 20_000},
}
DRAWN = ("compare", "degradation", "gradients", "runs")  # pages that draw the logs of a study
CURVES = {"compare": 1, "degradation": 2, "runs": 3}  # of one run, on the page's chart of its log


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESNETLAB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("RESNETLAB_LAB", "0")  # a page that is only looked at starts nothing
    return tmp_path / "results"


@pytest.fixture
def open_page(folder: Path) -> Callable[[str], AppTest]:
    def open_one(name: str) -> AppTest:
        app = AppTest.from_file(str(APP), default_timeout=300)
        if name != "degradation":
            app.switch_page(f"app_pages/{name}.py")
        app.run()
        assert not app.exception, app.exception
        assert app.title, "the page has come to its end or said why not"
        return app

    return open_one


def points(trace: dict[str, Any]) -> int:
    x = trace.get("x")
    return int(math.prod(np.atleast_1d(json.loads(f"[{x['shape']}]")))) if _packed(x) else len(x or ())


def _packed(x: Any) -> bool:
    return isinstance(x, dict) and "shape" in x


def usual(page: str, state: str) -> bool:
    """Whether `make test` opens that page so: every page and every state, not each with each."""
    return page in ("compare", "health") or state == "one run"


EACH = [
    pytest.param(page, state, marks=() if usual(page, state) else pytest.mark.deep)
    for page in PAGES
    for state in STATES
]


@pytest.mark.parametrize(("page", "state"), EACH)
def test_a_run_in_every_state(
    folder: Path, open_page: Callable[[str], AppTest], page: str, state: str
) -> None:
    study = "live-lab" if page == "lab" else "digits"
    path = write_run(folder, "plain-8", study=study, **STATES[state])
    app = open_page(page)
    status = store.read_run(path).status
    if page in DRAWN:
        assert charts(app)[0]["data"], "what was logged is drawn, however the run ended"
    if page == "runs":
        assert app.dataframe[0].value["status"].tolist() == [status]
    if page == "health":
        said = texts(app) + "".join(item.value for item in app.success)
        reason = STATES[state].get("error") or "Nothing is wrong: 1 run read whole"
        assert reason in said
    if state == "thousands of points":
        lines = [t for chart in charts(app) for t in chart["data"] if t.get("mode") == "lines"]
        assert all(points(line) <= 2 * series.MOST_POINTS for line in lines)
        if page in CURVES:
            said = texts(app) + "".join(item.value for item in app.caption)
            assert f" of {CURVES[page] * 5:,},000 points" in said


@pytest.mark.parametrize("page", PAGES)
def test_a_folder_that_cannot_be_read_is_said_to_be_one(
    folder: Path, open_page: Callable[[str], AppTest], page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(folder, "plain-8")
    forbid(monkeypatch, folder)
    app = open_page(page)
    if page not in ("lab", "why", "lesson", "notes"):  # which show no study of it
        assert app.error[0].value == "The results folder cannot be read."
        assert "Permission denied" in texts(app)


def test_a_study_that_cannot_be_read_leaves_the_others(
    folder: Path, open_page: Callable[[str], AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(folder, "plain-8")
    write_run(folder, "plain-8", study="locked")
    forbid(monkeypatch, folder / "locked")
    assert "locked/, left out: the folder: Permission denied" in texts(open_page("health"))
    assert charts(open_page("degradation"))


def forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The folder as one that may not be read: the tests may run as root, who may read everything."""
    listed = Path.iterdir

    def iterdir(self: Path) -> Any:
        if self == folder:
            raise PermissionError(13, os.strerror(13), str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
