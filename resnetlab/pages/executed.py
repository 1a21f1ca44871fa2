"""An executed notebook as data: its cells, parameters and outputs, nothing of it run or trusted.

A notebook is a file that anybody may have written. Of plotly figures only plain traces are taken, of
HTML only the texts of a table. The dashboard shows what is read here, and `lesson` makes pages of it.
"""

from __future__ import annotations

import ast
import base64
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from bs4 import BeautifulSoup

from resnetlab.files import mapping

PLOTLY = "application/vnd.plotly.v1+json"
MOST_BYTES = 40_000_000  # of a notebook
MOST_CELLS = 300
MOST_TEXT = 20_000  # characters of one output
# Traces that draw numbers and ask no server for anything, as maps do.
TRACES = {"scatter", "scattergl", "bar", "heatmap", "histogram", "box", "violin", "contour"}
PACKED = {name: f"<{name}" for name in ("f4", "f8", "i1", "i2", "i4", "u1", "u2", "u4")}
_NOT_PYTHON = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)
# Parts of a layout that load pictures or map tiles.
LOADING = re.compile(r"images?|source|mapbox\d*|map\d*|geo\d*")
_LINK = re.compile(r"<(?=\s*/?\s*a\b)", re.IGNORECASE)  # plotly makes live links of them


class UnreadableError(ValueError):
    """What is wrong with a notebook or with one output, in a sentence."""


def text_of(value: object) -> str:
    """A notebook's text: one string or a list of them."""
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""


def parse(content: bytes) -> dict[str, Any]:
    """The notebook in these bytes. Raises UnreadableError for what is none of format 4."""
    if len(content) > MOST_BYTES:
        raise UnreadableError(f"it has {len(content):,} bytes, more than a notebook of this project")
    try:
        notebook = json.loads(content)
    except (ValueError, RecursionError):
        raise UnreadableError("it is torn or not JSON") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise UnreadableError("it is no notebook: it has no list of cells")
    if notebook.get("nbformat") != 4:
        raise UnreadableError(f"its format is {notebook.get('nbformat')!r}, this page knows 4")
    return notebook


def legible(text: str) -> str:
    """Text to be shown: no terminal colours, what cannot be printed marked, cut if very long."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    cut = "\n… cut here" if len(text) > MOST_TEXT else ""
    allowed = (c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return "".join(itertools.islice(allowed, MOST_TEXT)) + cut


def is_prose(text: str) -> bool:
    """Whether printed text is sentences, to be wrapped, and nothing that is kept in columns."""
    lines = [line for line in text.splitlines() if line.strip()]
    aligned = any(re.search(r"\S {2,}\S|\t|^\s", line) for line in lines)
    return bool(lines) and not aligned and max(map(len, lines)) > 100


def defaults(cells: list[Any]) -> dict[str, Any]:
    """Names and literal values of the cell tagged `parameters`."""
    tagged = (cell for cell in cells if isinstance(cell, dict) and "parameters" in tags(cell))
    try:
        statements = ast.parse(text_of(next(tagged, {}).get("source"))).body
    except _NOT_PYTHON:
        return {}
    values: dict[str, Any] = {}
    for item in statements:
        if not isinstance(item, ast.Assign | ast.AnnAssign):
            continue
        for target in item.targets if isinstance(item, ast.Assign) else [item.target]:
            if isinstance(target, ast.Name):
                try:
                    values[target.id] = ast.literal_eval(item.value) if item.value else None
                except _NOT_PYTHON:
                    values[target.id] = "(computed)"
    return values


def noted(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """What papermill noted about the execution: parameters, start_time, duration, ..."""
    return mapping(mapping(notebook.get("metadata")).get("papermill"))


def given(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """The values that papermill gave it, by name."""
    return mapping(noted(notebook).get("parameters"))


def sources(notebook: Mapping[str, Any]) -> list[str]:
    """The text of its own cells, without the one that papermill wrote: what was executed."""
    return [
        text_of(cell.get("source"))
        for cell in cells(notebook)
        if "injected-parameters" not in tags(cell)
    ]


def cells(notebook: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The cells that are cells."""
    yield from (cell for cell in notebook["cells"] if isinstance(cell, dict))


def tags(cell: Mapping[str, Any]) -> Sequence[str]:
    names = mapping(cell.get("metadata")).get("tags")
    return names if isinstance(names, list) else []


def outputs(cell: Mapping[str, Any]) -> list[Any]:
    """Its outputs, whatever they are: `block` takes all."""
    listed = cell.get("outputs")
    return listed if isinstance(listed, list) else []


def failure(notebook: Mapping[str, Any]) -> str | None:
    """None if every code cell was executed to its end, else what went wrong, one line.

    What papermill writes about a cell is no proof: after a kernel was killed it says completed.
    """
    for cell in cells(notebook):
        if cell.get("cell_type") != "code":
            continue
        for output in map(mapping, outputs(cell)):
            if output.get("output_type") == "error":
                message = f"{text_of(output.get('ename'))}: {text_of(output.get('evalue'))}"
                return " ".join(message.split())
        if text_of(cell.get("source")).strip() and type(cell.get("execution_count")) is not int:
            return "it was not executed to its end"
    return None


def harmless(value: Any) -> Any:
    """Traces or a layout without what would load anything from elsewhere or lead there.

    Packed numbers are unpacked.
    """
    if isinstance(value, dict) and {"bdata", "dtype"} <= value.keys():  # as plotly writes arrays
        if value["dtype"] not in PACKED:
            raise UnreadableError("a figure with numbers of an unknown kind")
        numbers = np.frombuffer(base64.b64decode(value["bdata"]), PACKED[value["dtype"]])
        sides = str(value.get("shape", len(numbers))).split(",")
        return numbers.reshape([int(side) for side in sides])
    if isinstance(value, dict):
        return {k: harmless(v) for k, v in value.items() if not LOADING.fullmatch(str(k))}
    if isinstance(value, str):
        return _LINK.sub("&lt;", value)
    return [harmless(item) for item in value] if isinstance(value, list) else value


def figure_of(content: object) -> go.Figure:
    """The figure of a plotly output, from its data and layout only. Raises UnreadableError."""
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise UnreadableError("a figure without data")
    kinds = {
        trace.get("type", "scatter") if isinstance(trace, dict) else None for trace in content["data"]
    }
    if not all(isinstance(kind, str) and kind in TRACES for kind in kinds):
        raise UnreadableError("a figure of a kind that is not drawn here")
    layout = content.get("layout", {})
    try:
        return go.Figure(harmless(content["data"]), harmless(layout))
    except UnreadableError:
        raise
    except Exception as error:  # plotly raises many kinds for values that it does not take
        raise UnreadableError(f"a figure that plotly refuses ({type(error).__name__})") from None


def block(output: object) -> tuple[str, Any]:
    """What to show of an output, of several forms the richest that is safe: its kind and its content.

    figure: a plotly Figure. picture: the bytes of a PNG. table: a frame of texts. prose: Markdown, not
    to be trusted. text: text as it is. left out: why.
    """
    try:
        return _block(output)
    except UnreadableError as error:
        return "left out", str(error)


def _block(output: object) -> tuple[str, Any]:
    if not isinstance(output, dict):
        raise UnreadableError("an output that is none")
    if output.get("output_type") == "stream":
        return "text", legible(text_of(output.get("text")))
    if output.get("output_type") == "error":
        short = f"{output.get('ename')}: {output.get('evalue')}"
        return "text", legible(text_of(output.get("traceback")) or short)
    data = mapping(output.get("data"))
    texts = {name: text_of(value) for name, value in data.items()}
    if PLOTLY in data:
        return "figure", figure_of(data[PLOTLY])
    if "image/png" in data:
        return "picture", _picture(texts["image/png"])
    if "text/markdown" in data:
        return "prose", texts["text/markdown"]
    if (table := _table(texts.get("text/html", ""))) is not None:
        return "table", table
    if "text/plain" in data:
        return "text", legible(texts["text/plain"])
    raise UnreadableError("an output of a kind that is not shown here")


def _picture(text: str) -> bytes:
    try:
        content = base64.b64decode(text)
    except ValueError:
        content = b""
    if not content.startswith(b"\x89PNG"):
        raise UnreadableError("a picture that cannot be read")
    return content


def _table(html: str) -> pd.DataFrame | None:
    """The texts of an HTML table's cells, as pandas writes tables; None for what is no plain table."""
    lines = BeautifulSoup(html, "html.parser").find_all("tr") if "<table" in html else []
    rows = [[" ".join(cell.get_text().split()) for cell in line(["td", "th"])] for line in lines]
    if len(rows) < 2 or len({len(row) for row in rows}) != 1:
        return None
    headings = lines[0].find_next_siblings("tr")
    if len(headings) == 1 and not any(rows[1][1:]):
        # pandas writes the index's name below the headings, and that of the headings before them.
        rows[0][0] = " \\ ".join(filter(None, (rows.pop(1)[0], rows[0][0])))
    table = pd.DataFrame(rows[1:], columns=rows[0]).replace({"None": "", "NaN": ""})
    counted = not rows[0][0] and all(row[0].isdecimal() or row[0] == "..." for row in rows[1:])
    return table.iloc[:, 1:] if counted else table  # an index that only counts rows says nothing
