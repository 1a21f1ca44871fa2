"""The page of an executed notebook for a lesson: its prose, figures and tables; code is folded away."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from html import escape
from typing import Any

from markdown_it import MarkdownIt

from resnetlab.pages import document, executed, formulas

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
formulas.enable(_MARKDOWN)
# A picture would ask a server: its text stands instead.
_MARKDOWN.add_render_rule("image", lambda _, tokens, at, *rest: escape(tokens[at].content))


def body(content: Mapping[str, Any]) -> str:
    """The body of that page, as HTML that asks no network."""
    parts = []
    for index, cell in enumerate(executed.cells(content)):
        source = executed.text_of(cell.get("source"))
        tags = executed.tags(cell)
        if cell.get("cell_type") == "markdown":
            parts.append(prose(source) if index else _opening(source))
        elif cell.get("cell_type") == "code":
            if "parameters" in tags:
                parts.append(_parameters(content))
            elif "injected-parameters" not in tags and source.strip():
                parts.append(_folded("Code", f"<pre>{escape(source[: executed.MOST_TEXT])}</pre>"))
            parts += [_output(output) for output in executed.outputs(cell)]
    return "\n".join(parts)


def _opening(source: str) -> str:
    """The question, and what to predict before the figures are seen."""
    html = prose(source).replace("<p><strong>Predict first", '<p class="predict"><strong>Predict first')
    return f'<div class="opening">{html}</div>'


def _parameters(content: Mapping[str, Any]) -> str:
    given = executed.given(content)
    values = executed.defaults(content["cells"]) | given
    rows = [(name, repr(value)) for name, value in values.items() if name != "results"]
    table = document.table(["parameter", "value"], rows)
    return _folded("Parameters", table)


def _folded(name: str, html: str) -> str:
    """Not for every reader, and not for print."""
    return f'<details class="code"><summary>{name}</summary>{html}</details>'


def prose(source: str) -> str:
    """Markdown as HTML, formulas as MathML. Of HTML only what folds out an answer stays.

    Pictures are their text.
    """
    html = str(_MARKDOWN.render(source))
    for tag in ("details", "summary"):
        for mark in (tag, f"/{tag}"):
            html = html.replace(f"&lt;{mark}&gt;", f"<{mark}>")
    return html


def _output(output: object) -> str:
    """One output as HTML: a figure, a picture, a table, words or text."""
    kind, content = executed.block(output)
    if kind == "figure":
        title = getattr(content.layout.title, "text", None) or "figure"
        label = re.sub("<[^>]*>", "", str(title).partition("<br>")[0])
        return document.drawn(content, label, caption=False)
    if kind == "picture":
        data = base64.b64encode(content).decode()
        return f'<img alt="a picture" src="data:image/png;base64,{data}">'
    if kind == "table":
        numbers = [name for name, cells in content.items() if all(map(_is_number, filter(None, cells)))]
        return document.table(list(content), content.itertuples(index=False), numbers=numbers)
    if kind == "prose":
        return f'<div class="said">{prose(content)}</div>'
    if kind == "left out":
        return f'<p class="soft">Left out: {document.text(content)}.</p>'
    return f"<pre>{escape(content)}</pre>" if content.strip() else ""


def _is_number(text: str) -> bool:
    return all(
        part.replace(",", "").lstrip("+-").replace(".", "", 1).isdigit() for part in text.split(" ± ")
    )
