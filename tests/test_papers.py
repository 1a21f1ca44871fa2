"""Every paper that a text names has its link there, and docs/papers.md has them all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resnetlab.pages import executed

PROJECT = Path(__file__).resolve().parent.parent
LIST = PROJECT / "docs" / "papers.md"
TEXTS = [
    *PROJECT.glob("[RC]*.md"),
    *(path for path in (PROJECT / "docs").glob("*.md") if path != LIST),
    *(PROJECT / "results").glob("*.md"),
    *(PROJECT / "results" / "reference").glob("*.md"),
    *(PROJECT / "notebooks").iterdir(),
    *(PROJECT / "dashboard" / "app_pages").glob("*.[pt]*"),
    *(PROJECT / "resnetlab" / "studies").glob("lesson.*ml"),
]
# A name, "et al.", "and" or more names, and a year.
CITED = re.compile(
    r"[A-Z]\w+(?: et al\.|(?:, [A-Z]\w+)*(?:,? and [A-Z]\w+|, [A-Z]\w+))[, ]+\(?(?:19|20)\d\d\)?"
)


def listed() -> dict[str, str]:
    """Name -> link, from the table of docs/papers.md."""
    rows = re.findall(
        r"^\| (.*?) \| \[.*?\]\((https://(?:arxiv|doi)\.org/\S+)\)", LIST.read_text(), re.M
    )
    return {name: link for names, link in rows for name in re.split(r"; |, (?=He)", names)}


PAPERS = listed()


def words(path: Path) -> str:
    """Its prose: of a notebook the words, of a module its strings, as one line."""
    if path.suffix == ".ipynb":
        cells = executed.cells(executed.parse(path.read_bytes()))
        text = "\n".join(executed.text_of(c["source"]) for c in cells if c["cell_type"] == "markdown")
    else:
        text = path.read_text("utf-8")
    if path.suffix == ".py":
        text = re.sub(r'"\s*\n\s*r?f?"', "", text)  # strings that stand one behind the other
    return " ".join(text.split())


def plain(name: str) -> str:
    """`He et al. (2015)` as `He et al. 2015`."""
    return re.sub(r"[(),]", "", name)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_a_paper_that_is_named_is_linked(path: Path) -> None:
    text = words(path)
    known = {plain(name): link for name, link in PAPERS.items()}
    for cited in CITED.findall(text):
        name = plain(cited)
        if name == "He et al. 2015" and f"{cited}, Rectifiers" in text:
            name = "He et al. 2015 Rectifiers"
        assert name in known, f"{cited} is not in docs/papers.md"
        assert known[name] in text, f"{cited} has no link"
    for name, link in PAPERS.items():
        if re.fullmatch(r"[\w-]+", name) and re.search(rf"\b{name}\b", text):
            assert link in text, f"{name} has no link"


def test_the_list_has_a_link_for_every_name_and_no_two_names_alike() -> None:
    rows = [line for line in LIST.read_text().splitlines() if line.startswith("| ")][1:]
    assert len({PAPERS[name] for name in PAPERS}) == len(rows)
    assert PAPERS["the paper"] == "https://arxiv.org/abs/1512.03385"
    assert PAPERS["VGG"] == PAPERS["Simonyan and Zisserman 2014"]
    assert len(PAPERS) >= 20


@pytest.mark.parametrize(
    "text",
    ["He et al. 2016", "He, Zhang, Ren, Sun 2015", "Simonyan and Zisserman 2014", "Li et al. (2018)"],
)
def test_what_counts_as_a_citation(text: str) -> None:
    assert CITED.fullmatch(text)
