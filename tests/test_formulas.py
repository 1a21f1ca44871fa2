"""Formulas: MathML on the pages, nothing else of what a formula may hold, and no TeX left over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resnetlab.pages import executed, formulas, lesson_pages

PROJECT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
# Words that the dashboard and GitHub typeset themselves.
OTHERS = [PROJECT / "dashboard" / "story.toml", PROJECT / "notebooks" / "README.md"]
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$", re.DOTALL)


def prose_of(notebook: Path) -> list[str]:
    cells = executed.cells(executed.parse(notebook.read_bytes()))
    return [executed.text_of(c["source"]) for c in cells if c["cell_type"] == "markdown"]


def words_of(html: str) -> str:
    """What a reader sees as words: no formulas, no code, no marks."""
    return re.sub(r"<[^>]*>", "", re.sub(r"(?s)<(math|code|pre|script)\b.*?</\1>", "", html))


def test_formulas_become_mathml_inline_and_as_blocks() -> None:
    html = lesson_pages.prose("The change $F(x) := H(x) - x$, so\n\n$$y = F(x, \\{W_i\\}) + x$$\n")
    assert re.findall(r'<math [^>]*display="(\w+)"', html) == ["inline", "block"]
    assert "<msub><mi>W</mi><mi>i</mi></msub>" in html
    assert "$" not in html
    assert words_of(html).split() == ["The", "change", ",", "so"]


def test_formulas_stand_in_tables_and_folded_answers_and_not_in_code() -> None:
    answer = "1. Why?\n<details><summary>Answer</summary>$0.5^{27}$</details>"
    html = lesson_pages.prose(f"| a |\n|---|\n| $x^2$ |\n\n{answer}\n\n`$HOME`")
    assert html.count("<math ") == 2
    assert "<code>$HOME</code>" in html


def test_a_lone_dollar_stays() -> None:
    assert lesson_pages.prose("It costs 5 $ or so.") == "<p>It costs 5 $ or so.</p>\n"


@pytest.mark.parametrize(
    "tex",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{<img src=http://evil.example/x>}",
        r"\href{javascript:alert(1)}{x}",
        r"\style{background:url(http://evil.example)}{x}",
        r"\color{red}x",
        r"\unknown{x}",
        r"\sqrt",
        "a & b",
        "{",
    ],
)
def test_what_is_no_formula_is_shown_as_code(tex: str) -> None:
    html = lesson_pages.prose(f"a ${tex}$ b")
    assert "<math" not in html
    assert "<code>" in html
    assert not re.search(r"<(script|img|a)\b|href=|style=", html)
    with pytest.raises(ValueError, match="no formula"):
        formulas.mathml(tex)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_formula_of_a_notebook_is_typeset_and_no_tex_is_left_on_its_page(notebook: Path) -> None:
    for cell in prose_of(notebook):
        for block, inline in FORMULA.findall(re.sub(r"`[^`]*`", "", cell)):
            formulas.mathml(block or inline)
        left = words_of(lesson_pages.prose(cell))
        assert "$" not in left
        assert not re.search(r"\\[a-z]+|\b\w+\^\w|\b[A-Za-z]_[A-Za-z0-9]\b", left), left


@pytest.mark.parametrize("path", [*NOTEBOOKS, *OTHERS], ids=lambda path: path.stem)
def test_no_formula_stands_in_plain_words(path: Path) -> None:
    plain = r"\b[FHf]\(x\)|\by = |\b[a-z] = [0-9]|\bto the power of\b|sqrt\(|\|d?w\|"
    for cell in prose_of(path) if path in NOTEBOOKS else [path.read_text("utf-8")]:
        words = FORMULA.sub("", re.sub(r"`[^`]*`", "", cell))
        assert not re.search(plain, words), words
