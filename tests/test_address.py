"""What stands in a page's address: nothing in it ends a page, and what cannot be is refused aloud."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dashboard_data import write_run, write_study
from streamlit.testing.v1 import AppTest

from dashboard import door, lab

DASHBOARD = Path(__file__).resolve().parent.parent / "dashboard"
APP, PAGES = DASHBOARD / "app.py", sorted((DASHBOARD / "app_pages").glob("*.py"))
# Every short word in quotes, keys of widgets among them: what a page asks for, and more.
KEYS = {
    word
    for path in (*PAGES, DASHBOARD / "frame.py")
    for word in re.findall(r'"([a-z_]{1,16})"', path.read_text())
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESNETLAB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("RESNETLAB_LAB", "1")
    monkeypatch.setattr(door, "enters", lambda: True)
    return tmp_path / "results"


def opened(page: str, /, **query: str) -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=120)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    return app.switch_page(f"app_pages/{page}.py").run()


def warnings(app: AppTest) -> str:
    return "\n".join(item.value for item in app.warning)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(one, marks=() if one in ("compare", "lab") else pytest.mark.deep)
        for one in [path.stem for path in PAGES]
    ],
)
def test_no_number_in_an_address_ends_a_page(folder: Path, page: str) -> None:
    assert {"study", "lab_seed", "at", "step", "smooth"} <= KEYS
    write_study(folder, seeds=2)
    write_run(folder, "plain-8", study=lab.STUDY)
    for value in ("inf", "-inf", "nan", "1e308", "9" * 400, "-1"):
        app = opened(page, **dict.fromkeys(KEYS, value))
        assert not app.exception, (value, app.exception)


def test_a_seed_that_is_none_is_refused_where_it_would_be_used(folder: Path) -> None:
    for value, reason in (("1e308", "seed"), ("0.5", "seed"), ("-1", "seed")):
        app = opened("lab", lab_seed=value)
        next(button for button in app.button if button.label == "Start").click().run()
        assert not app.exception
        said = "\n".join(item.value for item in (*app.text, *app.markdown))
        assert "Not started" in said, value
        assert reason in said
    assert not (folder / lab.STUDY / ".queue" / "waiting").is_dir()


def test_a_number_beyond_its_limits_is_refused_with_a_message(folder: Path) -> None:
    write_run(folder, "plain-8")
    app = opened("compare", smooth="7")
    assert "Smoothing 7, as the address has it, is not possible here: 0 is taken" in warnings(app)
    assert not warnings(app.run()), "said once"
    assert not warnings(opened("compare", smooth="0.5"))
