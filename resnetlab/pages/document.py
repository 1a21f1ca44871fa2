"""One HTML document that holds what it shows and asks no network for anything; for report and lesson.

Figures are drawn by the plotly.js that stands in the file; the page's own policy
(Content-Security-Policy) lets nothing else run and nothing be fetched. Whatever comes from disk is
escaped: a folder may be called anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from resnetlab import plots
from resnetlab.config import UsageError
from resnetlab.plots import series

CELL, SENTENCE = 400, 4000  # characters of one text from disk at most
SHORT = 24  # characters of a table's cell that are not broken into lines

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --card: #f6f8fa;
  --page: #ffffff; --accent: #0a58ab; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa4af; --line: #3a424c;
  --card: #161b22; --page: #0d1117; --accent: #79b8ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 32px 64px; }
h1 { font-size: 30px; line-height: 1.25; margin: 4px 0 12px; }
h2 { font-size: 22px; margin: 48px 0 12px; padding-top: 16px; border-top: 1px solid var(--line); }
h3 { font-size: 17px; margin: 28px 0 8px; }
p, ul, ol { max-width: 82ch; margin: 8px 0 12px; }
.over, .soft, figcaption { color: var(--soft); }
.over { font-size: 14px; letter-spacing: .04em; text-transform: uppercase; }
.soft, figcaption { font-size: 14px; }
ol { padding-left: 24px; } ol h3 { margin: 24px 0 2px; } ol p { margin: 2px 0; }
a { color: var(--accent); } summary { cursor: pointer; color: var(--soft); font-size: 14px; }
.said { border-left: 4px solid var(--accent); background: var(--card); padding: 4px 20px; }
.said ul { padding-left: 18px; max-width: none; }
figure { margin: 24px 0; }
.plot { min-height: 220px; }
.plot svg text:not(.hoverlayer text) { fill: var(--ink) !important; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; margin: 8px 0; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 16px 3px 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
td:first-child { min-width: 13ch; }
th { color: var(--soft); font-weight: 600; overflow-wrap: normal; }
.n { text-align: right; }
.n, .s { white-space: nowrap; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 12px 16px;
  overflow-x: auto; font: 13px/1.5 ui-monospace, 'DejaVu Sans Mono', monospace; }
@page { margin: 14mm; }
@media print {
  :root { color-scheme: light; --ink: #000000; --soft: #444444; --line: #bbbbbb; --card: #f4f4f4;
    --page: #ffffff; --accent: #0a58ab; }
  body { font-size: 12px; } main { max-width: none; padding: 0; } h1 { font-size: 22px; }
  h2 { font-size: 17px; margin-top: 24px; } h3 { font-size: 14px; } h2, h3 { break-after: avoid; }
  table, pre, .soft, figcaption { font-size: 10px; } th, td { padding-right: 8px; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; } .scroll { overflow: visible; }
  figure, tr, .said { break-inside: avoid; } .modebar-container { display: none !important; }
  .plot { zoom: .64; }
}
"""

_DRAW = """
for (const place of document.querySelectorAll(".plot")) {
  const drawn = JSON.parse(place.parentElement.querySelector("script").textContent);
  Plotly.newPlot(place, drawn.data, drawn.layout, drawn.config);
}
"""


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


def _mark(kind: str) -> str:
    return f"<!doctype html>\n<!-- a {kind} of resnetlab -->\n"


def check_target(path: Path, kind: str) -> None:
    """UsageError, with the reason, if none can be written to `path`; one of its kind may be there."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give a file with --out")
    if not path.parent.is_dir():
        raise UsageError(f"folder {path.parent} does not exist")
    mark = _mark(kind).encode()
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(mark)) != mark:
                raise UsageError(f"{path} is there and is no {kind}; give another file with --out")


def whole(kind: str, title: str, body: str) -> bytes:
    """The file: `body` is HTML, `title` any text. `kind` marks it as ours: it may be replaced."""
    has_figures = '<div class="plot"' in body
    scripts = (get_plotlyjs(), _DRAW) if has_figures else ()
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    # No source but these two scripts may run; images are the figures that the reader saves.
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    elements = "\n".join(f"<script>{script}</script>" for script in scripts)
    without = "<p>The figures need JavaScript, which is in this file; the tables do not.</p>"
    return f"""{_mark(kind)}<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{f"<noscript>{without}</noscript>" if has_figures else ""}
{body}
</main>
{elements}
</body>
</html>
""".encode()
