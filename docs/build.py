"""The manual and the committed lesson as pages: `make pages`, or python docs/build.py FOLDER.

Every Markdown page that people read becomes one HTML file that asks no network, in the folders in which
it lies here; the lesson, `resnetlab lesson --from-reference`, is their heart. A link leads to a page or
to the lesson's page of a notebook; what is not among the pages stays as words.
"""

from __future__ import annotations

import base64
import mimetypes
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from markdown_it import MarkdownIt
from markdown_it.token import Token

from resnetlab import files
from resnetlab.pages import document, formulas
from resnetlab.studies import lesson

PROJECT = Path(__file__).parents[1]
KIND = "page of the manual"
FOLDERS = ("", "docs", "notebooks", "results", "results/reference", "benchmarks")
LESSON = "lesson"
PICTURE = re.compile(r"<picture>.*?<img alt=\"([^\"]*)\" src=\"([^\"]*)\">.*?</picture>", re.DOTALL)


def sources() -> dict[str, str]:
    """Each Markdown page, as its path here, and the page that it becomes."""
    paths = [path for folder in FOLDERS for path in sorted((PROJECT / folder).glob("*.md"))]
    names = [path.relative_to(PROJECT).as_posix() for path in paths]
    return {name: re.sub(r"README\.html$", "index.html", name[:-2] + "html") for name in names}


def anchor(heading: str) -> str:
    """What a link to a heading says, as on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _link(target: str, page: str, pages: Mapping[str, str]) -> str | None:
    """Where a link on a page leads among the pages, which include the lesson's; None for nowhere."""
    if "://" in target or target.startswith("#"):
        return target
    path, mark, place = target.partition("#")
    aim = os.path.normpath(PurePosixPath(page).parent / path)
    if aim.endswith(".ipynb"):
        stem = PurePosixPath(aim).stem
        found = pages.get(f"{stem}.html") or pages.get(f"{stem}-{lesson.DEFAULT}.html")
    else:
        found = pages.get(aim) or pages.get(f"{aim}/README.md")
    if found is None:
        return None
    return os.path.relpath(found, PurePosixPath(pages[page]).parent) + mark + place


def _embedded(target: str, page: str) -> str:
    """A picture as the page holds it."""
    path = (PROJECT / page).parent / target
    kind = mimetypes.guess_type(path.name)[0]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _resolve(tokens: Sequence[Token], page: str, pages: Mapping[str, str]) -> None:
    """Links, pictures and anchors of a page, changed where they stand."""
    for before, token in zip((None, *tokens), tokens, strict=False):
        if before is not None and before.type == "heading_open":
            before.attrSet("id", anchor(token.content))
        for inner in token.children or ():
            if inner.type == "image":
                inner.attrSet("src", _embedded(str(inner.attrGet("src")), page))
            elif inner.type == "link_open":
                target = _link(str(inner.attrGet("href")), page, pages)
                inner.attrs = {} if target is None else {"href": target}


def page_of(name: str, pages: Mapping[str, str]) -> bytes:
    """One Markdown page as a document."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    formulas.enable(markdown)
    source = PICTURE.sub(r"![\1](\2)", (PROJECT / name).read_text("utf-8"))
    tokens = markdown.parse(source)
    _resolve(tokens, name, pages)
    body = markdown.renderer.render(tokens, markdown.options, {})
    title = next(token.content for token in tokens if token.type == "inline")
    here = PurePosixPath(pages[name]).parent
    ways = {"resnetlab": "index.html", "manual": "docs/index.html", "lesson": f"{LESSON}/index.html"}
    over = " · ".join(
        f'<a href="{os.path.relpath(target, here)}">{word}</a>' for word, target in ways.items()
    )
    return document.whole(KIND, title, f'<p class="over">{over}</p>\n{body}')


def build(folder: Path) -> list[Path]:
    """Write all pages into the folder, the lesson's too, and say which."""
    lesson.from_reference(PROJECT / "results", folder / LESSON)
    pages = sources()
    known = pages | {
        path.name: path.relative_to(folder).as_posix() for path in (folder / LESSON).glob("*.html")
    }
    written = []
    for name, target in pages.items():
        place = folder / target
        place.parent.mkdir(parents=True, exist_ok=True)
        document.check_target(place, KIND)
        files.atomic_write(place, page_of(name, known), durable=False)
        written.append(place)
    return written


if __name__ == "__main__":
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "site")
    print(f"{len(build(out))} pages and the lesson: {out / 'index.html'}")
