"""Pictures of figures: in executed notebooks, for viewers that draw no plotly data."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import plotly.graph_objects as go
import pytest
from PIL import Image

from resnetlab import config, store
from resnetlab.pages import executed, pictures
from resnetlab.studies import lesson, runner

REFERENCE = Path(__file__).resolve().parent.parent / "results" / store.REFERENCE
COPIES = sorted(REFERENCE.rglob("*.ipynb"))
MOST_CHARACTERS = 200_000  # of one picture in a notebook, which is text
FIGURE = {"data": [{"type": "scatter", "y": [1, 2]}], "layout": {"height": 300}}


def bundles(copy: Path) -> list[Any]:
    """The figures among a notebook's outputs, each with its other forms."""
    cells = nbformat.read(copy, as_version=4).cells
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]
    return [bundle for bundle in outputs if executed.PLOTLY in bundle]


def write(path: Path, *outputs: dict[str, Any]) -> Path:
    made = [nbformat.v4.new_output("display_data", data) for data in outputs]
    cells = [nbformat.v4.new_markdown_cell("# Well?"), nbformat.v4.new_code_cell("f()", outputs=made)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def drawing(counts: list[int]) -> Callable[..., list[bytes]]:
    """Stands for `pngs`: white pictures; how many figures each call was given is noted."""

    def pngs(figures: list[go.Figure], **how: Any) -> list[bytes]:
        counts.append(len(figures))
        assert all(figure.layout.paper_bgcolor == "#ffffff" for figure in figures)
        out = io.BytesIO()
        Image.new("RGBA", (9, 3), "white").save(out, "PNG")
        return [out.getvalue()] * len(figures)

    return pngs


@pytest.mark.parametrize("copy", COPIES, ids=lambda copy: f"{copy.parent.name}-{copy.stem}")
def test_nbconvert_shows_as_many_figures_as_a_committed_copy_has(copy: Path) -> None:
    """`resnetlab notebook` draws them; `make figures` those of the one `train.ipynb`."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_filename(str(copy))
    shown = re.findall(r'<img[^>]* src="data:image/png;base64,([^"]+)"', page)
    assert len(shown) == len(bundles(copy)) > 0
    for picture in shown:
        assert len(picture) < MOST_CHARACTERS
        image = Image.open(io.BytesIO(base64.b64decode(picture)))
        assert (image.width, image.mode) == (pictures.WIDTH, "P")


def test_each_figure_gets_its_picture_once_and_all_else_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    monkeypatch.setattr(pictures, "pngs", drawing(counts))
    unknown = {executed.PLOTLY: {"data": [{"type": "scattermap"}], "layout": {}}}
    told = {"text/markdown": "- said", "text/plain": "said"}
    copy = write(
        tmp_path / "a.ipynb", {executed.PLOTLY: FIGURE}, told, unknown, {executed.PLOTLY: FIGURE}
    )
    before = bundles(copy)
    pictures.add_to(copy)
    after = bundles(copy)
    assert counts == [2], "all in one call: starting a browser takes seconds"
    assert [pictures.PNG in bundle for bundle in after] == [True, False, True]
    assert [bundle[executed.PLOTLY] for bundle in after] == [b[executed.PLOTLY] for b in before]
    assert after[0][executed.PLOTLY]["layout"] == {"height": 300}, "the data are drawn on any page"
    content = copy.read_bytes()
    pictures.add_to(copy)
    assert (counts, copy.read_bytes()) == ([2], content)
    assert executed.block({"data": after[0]})[0] == "figure", "what can draw it still does"
    (tmp_path / "torn.ipynb").write_text("{")
    for name in ("torn.ipynb", "none.ipynb"):
        pictures.add_to(tmp_path / name)
    assert (tmp_path / "torn.ipynb").read_text() == "{"


def test_without_a_browser_copies_stay_as_they_are_and_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kaleido = pytest.importorskip("kaleido")

    def no_browser(*words: Any, **how: Any) -> None:
        raise RuntimeError("no Chrome\nhere")

    monkeypatch.setattr(kaleido, "write_fig_from_object_sync", no_browser)
    pictures._say_once.cache_clear()
    for name in ("a.ipynb", "b.ipynb"):
        copy = write(tmp_path / name, {executed.PLOTLY: FIGURE})
        content = copy.read_bytes()
        pictures.add_to(copy)
        assert copy.read_bytes() == content
    (line,) = capsys.readouterr().err.splitlines()
    assert "without pictures" in line
    assert "Chromium or Chrome (no Chrome here)" in line


def test_question_notebooks_get_pictures_and_the_runs_of_a_study_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(pictures, "add_to", lambda copy: seen.append(copy.name))
    monkeypatch.setattr(runner, "_execute", lambda executions, *words: iter(()))
    runner.run(config.Grid("s", depths=(8,), seeds=(0,)), root=tmp_path)
    assert seen == ["01_degradation.ipynb"]
    lesson.execute(tmp_path / "a.ipynb", tmp_path / "s" / "03.ipynb", {}, tmp_path)
    assert seen == ["01_degradation.ipynb", "03.ipynb"]


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_one_browser_draws_all_in_their_own_height() -> None:
    pytest.importorskip("kaleido")
    heights = [300, 200]
    drawn = pictures.pngs([go.Figure(layout={"height": h}) for h in heights], width=400, scale=1.5)
    assert [Image.open(io.BytesIO(one)).size for one in drawn] == [(600, 450), (600, 300)]
