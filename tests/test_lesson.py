"""`resnetlab notebook` and `resnetlab lesson`: what is executed, where it lies, the pages of it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from resnetlab import cli, config, files, paper, store, studies, verdict
from resnetlab.config import UsageError
from resnetlab.pages import document, executed, lesson_pages
from resnetlab.studies import lesson, notebook

PROJECT = Path(__file__).resolve().parent.parent
NOTEBOOKS = PROJECT / "notebooks"
MOST_BYTES = 1_500_000  # of a page
HOSTILE = "<script>alert(1)</script><img src=http://evil.example/x> ![a](http://evil.example/y)"


class Seen(HTMLParser):
    """Elements, addresses and event handlers of a page; scripts by what marks them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.fetched: list[str] = []  # from elsewhere, without a click
        self.handlers: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action"):
                self.addresses.append(value or "")
                if tag != "a" and (value or "").startswith(("http:", "https:", "//")):
                    self.fetched.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


def cell(kind: str, source: str, *outputs: dict[str, Any], tags: list[str] | None = None) -> Any:
    made: dict[str, Any] = {"cell_type": kind, "source": source, "metadata": {"tags": tags or []}}
    if kind == "code":
        made |= {"outputs": list(outputs), "execution_count": 1}
    return made


def content(*cells: Any, **given: Any) -> dict[str, Any]:
    return {"cells": list(cells), "nbformat": 4, "metadata": {"papermill": {"parameters": given}}}


def output(**data: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "data": data}


# --- parameters and places --------------------------------------------------------------------


def test_parameters_become_what_the_notebook_names_them() -> None:
    pairs = [("depths", "20,56"), ("seeds", "[0, 1]"), ("steps", "200"), ("device", "cpu")]
    pairs += [("quick", "true"), ("jobs", "none")]
    found = notebook.typed(NOTEBOOKS / "03_gradient_norms.ipynb", pairs)
    wanted = {"depths": [20, 56], "seeds": [0, 1], "steps": 200, "device": "cpu"}
    assert found == wanted | {"quick": True, "jobs": None}
    options = [("shortcuts", "none,A"), ("overrides", "{'lr': 0.05}"), ("also", "")]
    found = notebook.typed(NOTEBOOKS / "05_shortcut_options.ipynb", options)
    assert found == {"shortcuts": ["none", "A"], "overrides": {"lr": 0.05}, "also": []}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["03", "-p", "deph", "3"], "has no parameter 'deph'; did you mean 'depths'?"),
        (["03", "-p", "steps", "many"], "steps: should be a whole number, got 'many'"),
        (["08", "-p", "reach", "far"], "reach: should be a number, got 'far'"),
        (["03", "-p", "quick", "yes"], "quick: should be true or false, got 'yes'"),
        (["05", "-p", "overrides", "lr"], "overrides: should be like {'lr': 0.05}, got 'lr'"),
        (["03", "-p", "steps", "3", "-p", "steps", "4"], "parameter 'steps' is given twice"),
        (["03", "-p", "steps"], "-p NAME VALUE is needed, as in -p seeds 0,1,2; got '-p steps'"),
        (["03", "--deep"], "-p NAME VALUE is needed"),
        (["-p", "steps", "3"], "the notebook's name comes first"),
        (["03_gradinet_norms"], "no notebook '03_gradinet_norms'; did you mean '03_grad"),
        (["99"], "no notebook '99'"),
        (["../README"], "no notebook"),
        (["train"], "`resnetlab train`"),
        (["03", "-p", "results", "x"], "give the results folder with --results"),
        (["03", "-p", "study", "a/b"], "study name 'a/b' cannot be used"),
        (["03", "-p", "study", "lesson"], "kept for pages of the lesson"),
        (["03", "--out", "page.html"], "a file that ends in .ipynb is needed"),
    ],
)
def test_bad_words_are_refused_before_anything_runs(
    words: list[str], message: str, resnetlab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    code, _, said = resnetlab("notebook", *words, "--results", tmp_path / "here")
    assert code == 2
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "here").exists()


def test_executed_copies_lie_with_the_runs_they_look_at(tmp_path: Path) -> None:
    def place(name: str, **parameters: Any) -> str:
        found = lesson.place_of(NOTEBOOKS / f"{name}.ipynb", parameters, tmp_path)
        assert found.name == f"{name}.ipynb"
        return found.parent.relative_to(tmp_path).as_posix()

    assert place("01_degradation") == "digits"
    assert place("01_degradation", study="mine", data="digits") == "mine"
    assert place("03_gradient_norms") == "digits"
    assert place("03_gradient_norms", data="cifar10", steps=200) == "digits-cifar10-200-steps"
    assert place("05_shortcut_options", data="cifar10") == "shortcuts"
    assert place("07_layer_responses", quick=True) == "lesson-quick"
    assert place("10_ours_and_the_paper") == "lesson"
    for name in store.LESSONS:
        (tmp_path / name / "x").mkdir(parents=True)
    (tmp_path / "digits").mkdir()
    assert [path.name for path in store.find_studies(tmp_path)] == ["digits"]


# --- the story --------------------------------------------------------------------------------


def test_every_numbered_notebook_has_its_place_in_the_story() -> None:
    told = [chapter.name for chapter in lesson.STORY]
    assert len(set(told)) == len(told)
    assert {path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb")} <= set(told)
    for chapter in lesson.chapters():
        assert chapter.question.endswith("?")
        own = executed.defaults(executed.parse(chapter.source.read_bytes())["cells"])
        assert set(chapter.quick) <= set(own), "a trial names parameters that the notebook has"


def test_the_plan_names_commands_and_notebooks_that_there_are() -> None:
    plan = (NOTEBOOKS / "README.md").read_text()
    commands = {
        command.name or command.callback.__name__ for command in cli.app.app.registered_commands
    }
    named = set(re.findall(r"resnetlab ([a-z]+)", plan))
    assert named
    assert named <= commands
    notebooks = set(re.findall(r"`(\d\d_\w+)`", plan))
    assert notebooks >= {chapter.name for chapter in lesson.chapters()}
    assert all(notebook.find(name) for name in notebooks)


def prose() -> dict[str, str]:
    """Notebook -> its words, in the order of the lesson; code in them left out."""
    texts = {}
    for chapter in lesson.chapters():
        cells = executed.cells(executed.parse(chapter.source.read_bytes()))
        words = [executed.text_of(c["source"]) for c in cells if c["cell_type"] == "markdown"]
        texts[chapter.name] = re.sub(r"`[^`]*`", "", "\n".join(words))
    return texts


@pytest.mark.parametrize(
    "term",
    ["step", "recipe", "seed", "running error", "clean error", "option A", "option B", "option C"],
)
def test_a_term_of_the_lesson_is_explained_where_a_reader_meets_it_first(term: str) -> None:
    texts = prose()
    name, text = next((n, t) for n, t in texts.items() if re.search(rf"\b{term}s?\b", t, re.I))
    first = re.search(rf"(\*\*)?\b{term}s?\b(\*\*)?(.*)", text, re.I)
    assert first is not None
    assert (first[1], first[2]) == ("**", "**"), f"{name} uses {term!r} before it says what it is"
    assert len(first[3].split()) > 5, "and says it there"
    assert name == lesson.STORY[0].name


def test_every_notebook_names_the_paper_with_its_link_and_where_words_are_explained() -> None:
    for path in NOTEBOOKS.glob("*.ipynb"):
        first = executed.text_of(executed.parse(path.read_bytes())["cells"][0]["source"])
        assert "(https://arxiv.org/abs/1512.03385)" in first, path.name
        assert path.stem == lesson.STORY[0].name or f"`{lesson.STORY[0].name}`" in first, path.name


def project(folder: Path, monkeypatch: pytest.MonkeyPatch, **code: str) -> None:
    """A project whose notebooks are these: name -> the code of the cell after the parameters."""
    (folder / "notebooks").mkdir(exist_ok=True)
    (folder / "results").mkdir(exist_ok=True)
    (folder / "results" / files.MARKER).touch()
    monkeypatch.setattr(files, "project", lambda: folder)
    for name, source in code.items():
        made = nbformat.v4.new_notebook()
        made.cells = [
            nbformat.v4.new_markdown_cell(f"# Is {name} well?\n\nSome *prose*."),
            nbformat.v4.new_code_cell(
                'study: str = "s"  # a\nquick: bool = False  # trial\nresults: str = ""  # a folder'
            ),
            nbformat.v4.new_code_cell(source),
        ]
        made.cells[1].metadata["tags"] = ["parameters"]
        kernel = {"name": notebook.KERNEL, "display_name": "Python 3", "language": notebook.LANGUAGE}
        made.metadata = {"kernelspec": kernel}
        nbformat.write(made, folder / "notebooks" / f"{name}.ipynb")
    monkeypatch.chdir(folder)


def test_notebooks_that_the_story_does_not_know_follow_and_missing_ones_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["12_later", "10_ours_and_the_paper", "01_degradation", "train"]
    project(tmp_path, monkeypatch, **dict.fromkeys(names, "1"))
    told = [chapter.name for chapter in lesson.chapters()]
    assert told == ["01_degradation", "10_ours_and_the_paper", "12_later"]
    empty = tmp_path / "empty"
    (empty / "notebooks").mkdir(parents=True)
    monkeypatch.setattr(files, "project", lambda: empty)
    with pytest.raises(UsageError, match="holds no notebooks"):
        lesson.chapters()


@pytest.mark.deep
def test_the_lesson_goes_on_when_one_fails_and_executes_only_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resnetlab: Any
) -> None:
    good = "from pathlib import Path\nwith Path('count.txt').open('a') as file:\n    file.write(study)"
    names = {"01_degradation": good, "02_constructed_solution": "raise ValueError('<b>ill</b>')"}
    project(tmp_path, monkeypatch, **names, **{"03_gradient_norms": "print(quick)"})
    code, said, complaint = resnetlab("lesson")
    lines = [line for line in said.splitlines() if re.match(r"\d\d_", line)]
    assert code == 1
    assert [line.split()[0] for line in lines] == [*names, "03_gradient_norms"]
    assert "failed: ValueError: <b>ill</b>" in lines[1]
    assert "failed: 02_constructed_solution" in complaint
    folder = tmp_path / "results" / "lesson"
    index = (folder / "index.html").read_text()
    assert "&lt;b&gt;ill&lt;/b&gt;" in index
    assert "<b>ill" not in index
    for link in Seen(index).addresses:
        assert link.startswith("data:") or (folder / link.partition("#")[0]).is_file()
    assert (tmp_path / "results" / "s" / "01_degradation.ipynb").is_file()
    assert "ValueError" in (folder / "02_constructed_solution.html").read_text()
    # Mended, and asked again: only that one is executed.
    project(tmp_path, monkeypatch, **{"02_constructed_solution": "print('well')"})
    code, said, _ = resnetlab("lesson")
    assert code == 0
    states = [line.split()[1] for line in said.splitlines() if re.match(r"\d\d_", line)]
    assert [state == "there" for state in states] == [True, False, True]
    assert (tmp_path / "count.txt").read_text() == "s"
    code, _, _ = resnetlab("lesson", "--again")
    assert (code, (tmp_path / "count.txt").read_text()) == (0, "ss")
    # A trial lies apart, with its parameter given.
    code, _, _ = resnetlab("lesson", "--quick")
    assert code == 0
    trial = executed.parse((tmp_path / "results/lesson-quick/03_gradient_norms.ipynb").read_bytes())
    assert executed.given(trial) == {"quick": True}
    assert "True" in (tmp_path / "results/lesson-quick/03_gradient_norms.html").read_text()


def test_a_study_that_a_chapter_only_looks_at_is_trained_if_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    outcome = studies.Outcome(tmp_path, ("plain-56-seed0: no memory",), (), False, None)

    def run(grid: config.Grid, **how: Any) -> studies.Outcome:
        asked.append(f"{grid.name} {how['device']}")
        return outcome

    monkeypatch.setattr(studies.runner, "run", run)
    (first,) = (chapter for chapter in lesson.STORY if chapter.looks)
    own = executed.defaults(executed.parse((NOTEBOOKS / f"{first.name}.ipynb").read_bytes())["cells"])
    assert lesson._provide(own["study"], tmp_path, "cpu") == "plain-56-seed0: no memory"
    (tmp_path / "digits").mkdir()
    assert lesson._provide("digits", tmp_path, "cpu") == ""
    assert lesson._provide("mine", tmp_path, "cpu") == "", (
        "no preset: the notebook says what is missing"
    )
    assert asked == ["digits cpu"]
    outcome = studies.Outcome(tmp_path, (), (), True, None)
    with pytest.raises(KeyboardInterrupt):
        lesson._provide("digits", tmp_path / "other", "cpu")


@pytest.mark.slow
def test_one_notebook_prints_where_its_executed_copy_lies_and_says_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resnetlab: Any
) -> None:
    project(tmp_path, monkeypatch, **{"04_shortcut_dial": "assert study == 'well', study"})
    code, said, _ = resnetlab("notebook", "04", "-p", "study", "well", "--results", "there")
    assert code == 0
    (place,) = re.findall(r"\S+\.ipynb(?=  \()", said)
    copy = executed.parse(Path(place).read_bytes())
    assert Path(place) == Path("there/well/04_shortcut_dial.ipynb")
    assert executed.given(copy) == {"study": "well", "results": "there"}
    code, _, said = resnetlab("notebook", "04_shortcut_dial.ipynb")
    assert code == 1
    assert "04_shortcut_dial.ipynb: AssertionError: s" in said
    assert "as far as it came: " in said


@pytest.mark.slow
def test_ours_and_the_paper_through_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resnetlab: Any
) -> None:
    """On the committed studies: the numbers in its tables are the runs' own."""
    root = tmp_path / "here"
    root.mkdir()
    (root / "reference").symlink_to(PROJECT / "results" / "reference")
    monkeypatch.chdir(PROJECT)
    code, _, complaint = resnetlab("notebook", "10", "-p", "quick", "true", "--results", root)
    assert code == 0, complaint
    page = lesson_pages.body(
        executed.parse((root / "lesson-quick/10_ours_and_the_paper.ipynb").read_bytes())
    )
    runs = store.read_study(root / "reference" / "digits").runs
    errors = [run.final("test_error") for run in runs if run.network.name == "resnet-44"]
    mean = sum(errors) / len(errors)
    spread = (sum((e - mean) ** 2 for e in errors) / (len(errors) - 1)) ** 0.5
    assert f">{mean:.2f} ± {spread:.2f} (best {min(errors):.2f})<" in page
    for named in (
        "Table 2",
        "Table 3",
        "Table 4",
        "Table 5",
        "Table 6",
        "Figure 6",
        "6.61 ± 0.16 (best 6.43)",
    ):
        assert named in page
    assert "Table 2: 0 of 4 networks have a value of ours" in page
    assert "Warning" not in page
    assert page.count('<div class="plot"') == 2, "the paper's curves, and one group of ours"
    figure_6 = {record.network for record in paper.FIGURE_6}
    studies_there = [store.read_study(path) for path in store.find_studies(root)]
    _, count, name, data, recipe, precision = max(
        (group[0].config.recipe.steps, len(group), store.label_of(study.path, root), *condition)
        for study in studies_there
        for condition, group in verdict.by_condition(
            run for run in study.runs if run.config.network_name in figure_6
        ).items()
    )
    assert f"<strong>{name}</strong>, {data}, {recipe}, {precision}, {count} runs" in page


@pytest.mark.slow
def test_ours_and_the_paper_without_any_study_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resnetlab: Any
) -> None:
    monkeypatch.chdir(PROJECT)
    code, _, complaint = resnetlab("notebook", "10", "--results", tmp_path / "here")
    assert code == 0, complaint
    page = lesson_pages.body(
        executed.parse((tmp_path / "here/lesson/10_ours_and_the_paper.ipynb").read_bytes())
    )
    assert "No finished run is of a network in these tables yet." in page
    assert "Figure 6: 0 of 10 networks have a value of ours" in page
    assert page.count('<div class="plot"') == 1


# --- what was executed ------------------------------------------------------------------------


def test_an_execution_that_did_not_end_is_told_from_one_that_did() -> None:
    assert (
        executed.failure(content(cell("markdown", "a"), cell("code", "1"), cell("code", " "))) is None
    )
    killed = cell("code", "1") | {"execution_count": None}
    killed["metadata"] = {"papermill": {"status": "completed"}}  # as papermill leaves it
    assert executed.failure(content(killed)) == "it was not executed to its end"
    error = {"output_type": "error", "ename": "ValueError", "evalue": "a\nb", "traceback": ["t"]}
    assert executed.failure(content(cell("code", "1", error))) == "ValueError: a b"


def test_only_the_same_notebook_with_the_same_parameters_counts_as_there(tmp_path: Path) -> None:
    source, copy = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    own = [cell("code", "x: int = 1  # a", tags=["parameters"]), cell("code", "x")]
    source.write_text(json.dumps(content(*own)))
    injected = cell("code", "# Parameters\nx = 2\n", tags=["injected-parameters"])
    copy.write_text(json.dumps(content(own[0], injected, own[1], x=2, results="there")))
    assert lesson.is_there(source, copy, {"x": 2})
    assert not lesson.is_there(source, copy, {})
    assert not lesson.is_there(source, tmp_path / "none.ipynb", {"x": 2})
    source.write_text(json.dumps(content(own[0], cell("code", "x + 1"))))
    assert not lesson.is_there(source, copy, {"x": 2})
    copy.write_text("{")
    assert not lesson.is_there(source, copy, {"x": 2})


# --- pages ------------------------------------------------------------------------------------


def test_a_page_holds_prose_figures_tables_and_answers() -> None:
    figure = {
        "data": [{"type": "scatter", "y": [1, 2]}],
        "layout": {"title": {"text": "<b>mine</b><br>x"}},
    }
    frame = "<table><thead><tr><th></th><th>run</th><th>error</th></tr></thead><tbody>"
    frame += "<tr><th>0</th><td>a &amp; b</td><td>1.50</td></tr></tbody></table>"
    body = lesson_pages.body(
        content(
            cell(
                "markdown",
                "# Well?\n\n*Yes* & no\n\n**Predict first:** yes?\n\n| a | b |\n|---|---|\n| 1 | 2 |",
            ),
            cell("code", "x: int = 1  # a", tags=["parameters"]),
            cell("code", "# Parameters\nx = 2", tags=["injected-parameters"]),
            cell("code", "f(x)", output(**{executed.PLOTLY: figure, "text/html": "<b>no</b>"})),
            cell("code", "t", output(**{"text/html": frame, "text/plain": "not this"})),
            cell("code", "m", output(**{"text/markdown": "- **said**"})),
            cell("code", "p", {"output_type": "stream", "text": ["a\n", "\x1b[31mred\x1b[0m"]}),
            cell("markdown", "1. Why?\n<details><summary>Answer</summary>Because *so*.</details>"),
            x=2,
        )
    )
    assert "<h1>Well?</h1>" in body
    assert "<em>Yes</em> &amp; no" in body
    assert "<td>2</td>" in body
    assert "<details><summary>Answer</summary>Because <em>so</em>.</details>" in body
    assert '<details class="code"><summary>Code</summary><pre>f(x)</pre></details>' in body
    assert '<div class="opening"><h1>Well?</h1>' in body
    assert '<p class="predict"><strong>Predict first:</strong> yes?</p>' in body
    assert '<td class="s">a &amp; b</td><td class="n">1.50</td>' in body
    assert '<td class="s">x</td><td class="s">2</td>' in body
    assert "<strong>said</strong>" in body
    assert "<pre>a\nred</pre>" in body
    assert 'aria-label="mine"' in body
    assert "not this" not in body
    assert "<b>no</b>" not in body
    assert "injected" not in body


@pytest.mark.parametrize(
    ("index", "headings", "first"),
    [
        (None, ["error"], "1.5"),
        (pd.Index(["plain-8", "resnet-8"]), ["", "error"], "plain-8"),
        (pd.Index([100, 200], name="step"), ["step", "error"], "100"),
        (pd.Index(["a", "b"], name="who"), ["who", "error"], "a"),
    ],
)
def test_an_index_that_says_something_stays_with_its_table(
    index: pd.Index | None, headings: list[str], first: str
) -> None:
    frame = pd.DataFrame({"error": [1.5, 2.5]}, index=index)
    kind, table = executed.block(output(**{"text/html": frame.to_html()}))
    assert kind == "table"
    assert list(table.columns) == headings
    assert len(table) == 2
    assert table.iloc[0, 0] == first


def test_an_index_beside_named_headings_keeps_both_names() -> None:
    frame = pd.DataFrame([[1.5, ""], ["", ""]], pd.Index(["a", "b"], name="who"))
    frame.columns = pd.Index([0.1, 0.01], name="rate")
    _, table = executed.block(output(**{"text/html": frame.to_html()}))
    assert list(table.columns) == ["who \\ rate", "0.1", "0.01"]
    assert table.to_numpy().tolist() == [["a", "1.5", ""], ["b", "", ""]], "an empty row is no heading"


def test_nothing_of_a_hostile_notebook_runs_or_asks_a_server() -> None:
    figure = {
        "data": [{"y": [1]}],
        "layout": {"title": {"text": HOSTILE}, "images": [{"source": HOSTILE}]},
    }
    tiles = {"data": [{"type": "scattermap"}], "layout": {}}
    body = lesson_pages.body(
        content(
            cell("markdown", f"# {HOSTILE}\n\n{HOSTILE}\n\n[l](javascript:alert(1)) <details open>"),
            cell("code", HOSTILE, output(**{"text/html": HOSTILE, "text/plain": HOSTILE})),
            cell("code", "1", output(**{"text/html": f"<table><tr><td>{HOSTILE}</td></tr></table>"})),
            cell("code", "1", output(**{"text/markdown": HOSTILE})),
            cell("code", "1", output(**{executed.PLOTLY: figure}), output(**{executed.PLOTLY: tiles})),
            cell(
                "code", "1", output(**{executed.PLOTLY: HOSTILE}), output(**{"image/svg+xml": HOSTILE})
            ),
            cell("code", "1", {"output_type": "error", "traceback": HOSTILE}, {"output_type": HOSTILE}),
            {"cell_type": HOSTILE, "source": 7, "metadata": 7, "outputs": 7},
            7,
            **{HOSTILE: HOSTILE},
        )
    )
    seen = Seen(document.whole("page of a lesson", HOSTILE, body).decode())
    assert seen.tags.count("script") == 3, "the figure's data, plotly and the line that draws"
    assert "img" not in seen.tags
    assert not seen.handlers
    assert seen.addresses == ["data:,"]
    assert body.count("Left out:") == 5, "two figures, a table of one row, an SVG, and what is none"


def test_committed_copies_become_pages_for_a_room_without_computers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resnetlab: Any
) -> None:
    monkeypatch.chdir(PROJECT)
    out = tmp_path / "pages"
    root = tmp_path / "here"
    root.mkdir()
    (root / "reference").symlink_to(PROJECT / "results" / "reference")
    code, said, complaint = resnetlab("lesson", "--from-reference", "--results", root, "--out", out)
    assert code == 0, complaint
    index = Seen((out / "index.html").read_text())
    links = [link.partition("#")[0] for link in index.addresses if not link.startswith("data:")]
    assert len(links) >= 2 * 5, "five notebooks were committed with the first version of this page"
    assert all((out / link).is_file() for link in links)
    assert "script" not in index.tags
    order = json.loads(re.search(r"const STORY = (.*);", (out / "lesson.js").read_text())[1])
    pages = [link for link in links if link.endswith(".html")]
    firsts = (next((p for p in pages if p.startswith(one.name)), "") for one in lesson.STORY)
    assert order == list(filter(None, firsts)), "one list: that of lesson.toml"
    assert (out / "plotly.js").read_text() == get_plotlyjs(), "once, beside the pages"
    for page in out.glob("*.html"):
        text = page.read_text()
        assert page.stat().st_size < MOST_BYTES
        assert "default-src 'none'" in text
        assert not Seen(text).fetched, "links to papers are the reader's to follow"
        assert not re.search(r"/(?:work|home|root|tmp)/", text.split("<script>")[0])
    copies = [Path(line.split()[-1]) for line in said.splitlines() if "01_degradation" in line]
    assert len(copies) > 1
    assert copies[0].parent.name == "digits", "the default study before the others"
    chapters = [chapter.name for chapter in lesson.chapters()]
    assert [line.split()[0] for line in said.splitlines()[:-1]] == sorted(
        (line.split()[0] for line in said.splitlines()[:-1]), key=chapters.index
    )
    # What is not ours is not replaced.
    (out / "index.html").write_text("mine")
    code, _, said = resnetlab("lesson", "--from-reference", "--results", root, "--out", out)
    assert (code, (out / "index.html").read_text()) == (2, "mine")
    code, _, said = resnetlab("lesson", "--from-reference", "--results", tmp_path / "none")
    assert code == 2
    assert "holds no executed notebooks" in said
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("words", [["--from-reference", "--quick"], ["--from-reference", "--again"]])
def test_words_that_contradict_one_another(words: list[str], resnetlab: Any) -> None:
    code, _, said = resnetlab("lesson", *words)
    assert code == 2
    assert "--from-reference executes nothing" in said
