"""An executed notebook as data: its cells, parameters and figures, nothing of it run or trusted.

A notebook is a file that anybody may have written. Of plotly figures only plain traces are taken. The
dashboard shows what is read here, and `lesson` makes pages of it.
"""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

PLOTLY = "application/vnd.plotly.v1+json"
MOST_BYTES = 40_000_000  # of a notebook
MOST_CELLS = 300
MOST_TEXT = 20_000  # characters of one output
# Traces that draw numbers and ask no server for anything, as maps do.
TRACES = {"scatter", "scattergl", "bar", "heatmap", "histogram", "box", "violin", "contour"}
PACKED = {name: f"<{name}" for name in ("f4", "f8", "i1", "i2", "i4", "u1", "u2", "u4")}
# Parts of a layout that load pictures or map tiles.
LOADING = re.compile(r"images?|source|mapbox\d*|map\d*|geo\d*")


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
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise UnreadableError("it is torn or not JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("cells"), list):
        raise UnreadableError("it is no notebook: it has no list of cells")
    if found.get("nbformat") != 4:
        raise UnreadableError(f"its format is {found.get('nbformat')!r}, this page knows 4")
    return found


def printable(text: str) -> str:
    """Text as it is to be shown: without terminal colours, what cannot be printed marked."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def defaults(cells: list[Any]) -> dict[str, Any]:
    """Names and literal values of the cell tagged `parameters`."""
    for cell in cells:
        if not isinstance(cell, dict) or "parameters" not in tags(cell):
            continue
        found = {}
        try:
            statements = ast.parse(text_of(cell.get("source"))).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return {}
        for item in statements:
            target = item.target if isinstance(item, ast.AnnAssign) else None
            if isinstance(item, ast.Assign) and len(item.targets) == 1:
                target = item.targets[0]  # type: ignore[assignment]
            if isinstance(target, ast.Name) and isinstance(item, ast.Assign | ast.AnnAssign):
                try:
                    found[target.id] = ast.literal_eval(item.value) if item.value else None
                except (ValueError, TypeError, RecursionError, MemoryError):
                    found[target.id] = "(computed)"
        return found
    return {}


def given(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """The values that papermill gave it, by name."""
    meta = notebook.get("metadata")
    noted = meta.get("papermill") if isinstance(meta, dict) else None
    values = noted.get("parameters") if isinstance(noted, dict) else None
    return values if isinstance(values, dict) else {}


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
    meta = cell.get("metadata")
    found = meta.get("tags") if isinstance(meta, dict) else None
    return found if isinstance(found, list) else []


def outputs(cell: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The outputs that are outputs."""
    found = cell.get("outputs")
    yield from (item for item in (found if isinstance(found, list) else []) if isinstance(item, dict))


def failure(notebook: Mapping[str, Any]) -> str | None:
    """None if every code cell was executed to its end, else what went wrong, one line.

    What papermill writes about a cell is no proof: after a kernel was killed it says completed.
    """
    for cell in cells(notebook):
        if cell.get("cell_type") != "code":
            continue
        for output in outputs(cell):
            if output.get("output_type") == "error":
                said = f"{text_of(output.get('ename'))}: {text_of(output.get('evalue'))}"
                return " ".join(said.split())
        if text_of(cell.get("source")).strip() and type(cell.get("execution_count")) is not int:
            return "it was not executed to its end"
    return None


def harmless(value: Any) -> Any:
    """Traces or a layout without what would load anything from elsewhere, packed numbers unpacked."""
    if isinstance(value, dict) and {"bdata", "dtype"} <= value.keys():  # as plotly writes arrays
        if value["dtype"] not in PACKED:
            raise UnreadableError("a figure with numbers of an unknown kind")
        numbers = np.frombuffer(base64.b64decode(value["bdata"]), PACKED[value["dtype"]])
        sides = str(value.get("shape", len(numbers))).split(",")
        return numbers.reshape([int(side) for side in sides])
    if isinstance(value, dict):
        return {k: harmless(v) for k, v in value.items() if not LOADING.fullmatch(str(k))}
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
