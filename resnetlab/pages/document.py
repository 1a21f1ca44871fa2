"""One HTML document that holds what it shows and asks no network for anything; for report and lesson.

Figures are drawn by the plotly.js that stands in the file or, shared by the pages of a lesson, beside
it; the page's own policy (Content-Security-Policy) lets nothing else run and nothing be fetched from a
server. Whatever comes from disk is escaped: a folder may be called anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from resnetlab import plots
from resnetlab.config import UsageError
from resnetlab.plots import series

CELL, SENTENCE = 400, 4000  # characters of one text from disk at most
SHORT = 24  # characters of a table's cell that are not broken into lines

_MARK = "<!doctype html>\n<!-- a {} of resnetlab -->\n"  # the first lines of every document
# What follows, and its style sheet and script, which stand in it; beside this file.
_PAGE, _STYLE, DRAW = (
    Path(__file__).with_suffix(kind).read_text("utf-8") for kind in (".html", ".css", ".js")
)


def text(value: object, length: int = CELL) -> str:
    """Text from anywhere as HTML, escaped: one line, what cannot be printed is marked, long is cut."""
    return escape(series.shown(value, length))


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def soft(html: str) -> str:
    """A note in the soft ink; what comes from disk in it is escaped before."""
    return f'<p class="soft">{html}</p>'


def items(sentences: Iterable[object]) -> str:
    return "<ul>" + "".join(f"<li>{text(sentence, SENTENCE)}</li>" for sentence in sentences) + "</ul>"


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Iterable[str] = ()
) -> str:
    """An HTML table, every cell escaped; the columns named in `numbers` stand to the right."""
    right = ["n" if heading in set(numbers) else "" for heading in headings]

    def cell(tag: str, value: object, kind: str) -> str:
        shown = text(value)
        kind = kind or ("s" if tag == "td" and len(shown) <= SHORT else "")
        return f'<{tag} class="{kind}">{shown}</{tag}>' if kind else f"<{tag}>{shown}</{tag}>"

    def line(tag: str, cells: Iterable[object]) -> str:
        written = (cell(tag, value, kind) for value, kind in zip(cells, right, strict=True))
        return f"<tr>{''.join(written)}</tr>"

    body = "\n".join(line("td", row) for row in rows)
    head = line("th", headings)
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def drawn(figure: go.Figure, label: str, *, caption: bool = True) -> str:
    """The figure as HTML: a place to draw into, and its data as JSON beside it.

    Its label is read aloud, and stands below it as `caption`.
    """
    # Transparent, in the page's ink (the style sheet): one figure for light, dark and paper.
    figure.update_layout(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", autosize=True)
    parts = json.loads(figure.to_json())
    settings = plots.CONFIG | {"responsive": True, "plotlyServerURL": ""}
    data = json.dumps({"data": parts["data"], "layout": parts["layout"], "config": settings})
    data = data.replace("<", "\\u003c")  # nothing in it can end the element
    label = escape(label)
    return (
        f'<figure><div class="plot" role="img" aria-label="{label}"></div>'
        f"{f'<figcaption>{label}</figcaption>' if caption else ''}\n"
        f'<script type="application/json">{data}</script></figure>'
    )


# --- the document -----------------------------------------------------------------------------


def check_target(path: Path, kind: str) -> None:
    """UsageError, with the reason, if none can be written to `path`; one of its kind may be there."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give a file with --out")
    if not path.parent.is_dir():
        raise UsageError(f"folder {path.parent} does not exist")
    mark = _MARK.format(kind).encode()
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(mark)) != mark:
                raise UsageError(f"{path} is there and is no {kind}; give another file with --out")


def whole(kind: str, title: str, body: str, *, beside: Sequence[str] = ()) -> bytes:
    """The file: `body` is HTML, `title` any text. `kind` marks it as ours: it may be replaced.

    Scripts named in `beside` lie in its folder, plotly and `DRAW` among them: pages can share them.
    """
    has_figures = '<div class="plot"' in body
    scripts = (get_plotlyjs(), DRAW) if has_figures and not beside else ()
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    # Opened from a disk a page has no origin: what lies beside it is named by the scheme.
    sources = ["'self'", "file:"] if beside else [f"'sha256-{digest}'" for digest in hashes]
    where = "folder" if beside else "file"
    without = f"<p>The figures need JavaScript, which is in this {where}; the tables do not.</p>"
    elements = [f'<script src="{name}"></script>' for name in beside]
    elements += [f"<script>{script}</script>" for script in scripts]
    page = Template(_PAGE).substitute(
        # No source but these scripts may run; images are figures that are saved.
        allowed=" ".join(sources) or "'none'",
        title=text(title),
        style=_STYLE,
        without=f"<noscript>{without}</noscript>" if has_figures else "",
        body=body,
        scripts="\n".join(elements),
    )
    return f"{_MARK.format(kind)}{page}".encode()
