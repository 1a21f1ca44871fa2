"""The executed notebooks of a study, drawn from their cells; nothing of them runs in the page.

A notebook is a file that anybody may have written. Its HTML and scripts are never shown, its prose is
markup only where it is that of a notebook of this project, and of plotly figures only plain traces.
"""

from __future__ import annotations

import ast
import base64
import binascii
import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import frame
from resnetlab import results

PLOTLY = "application/vnd.plotly.v1+json"
MOST_BYTES = 40_000_000  # of a notebook
MOST_CELLS = 300
MOST_TEXT = 20_000  # characters of one output
# Traces that draw numbers and ask no server for anything, as maps do.
TRACES = {"scatter", "scattergl", "bar", "heatmap", "histogram", "box", "violin", "contour"}
PACKED = {name: f"<{name}" for name in ("f4", "f8", "i1", "i2", "i4", "u1", "u2", "u4")}
# Parts of a layout that load pictures or map tiles.
LOADING = re.compile(r"images?|source|mapbox\d*|map\d*|geo\d*")
SHIPPED = Path(__file__).resolve().parents[2] / "notebooks"


class UnreadableError(ValueError):
    """What is wrong with a notebook or with one output, in a sentence."""


def notebooks(study: results.Study) -> dict[str, Path]:
    """Those that look at the study, then that of each run."""
    found = []
    with contextlib.suppress(OSError):
        found += sorted(
            path for path in study.path.glob("*.ipynb") if path.is_file() and path.name[0] != "."
        )
    found += [path for run in study.runs if (path := run.path / results.NOTEBOOK_FILE).is_file()]
    return frame.labelled((path.relative_to(study.path).as_posix(), path) for path in found)


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


def known_prose() -> set[str]:
    """The markdown cells of the project's own notebooks: only these are shown as markup."""
    found: set[str] = set()
    for path in SHIPPED.glob("*.ipynb"):
        try:
            cells = parse(path.read_bytes())["cells"]
        except (OSError, UnreadableError):
            continue
        found |= {text_of(c.get("source")) for c in cells if c.get("cell_type") == "markdown"}
    return found


def defaults(cells: list[Any]) -> dict[str, Any]:
    """Names and literal values of the cell tagged `parameters`."""
    for cell in cells:
        meta = cell.get("metadata") if isinstance(cell, dict) else None
        tags = meta.get("tags") if isinstance(meta, dict) else None
        if not isinstance(tags, list) or "parameters" not in tags:
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


def parameters(notebook: Mapping[str, Any]) -> pd.DataFrame:
    """What it was run with: the values that papermill gave it, else its own defaults."""
    own = defaults(notebook["cells"])
    meta = notebook.get("metadata")
    given = meta.get("papermill") if isinstance(meta, dict) else None
    given = given.get("parameters") if isinstance(given, dict) else None
    given = given if isinstance(given, dict) else {}
    rows = [
        (frame.shown(name), frame.shown(repr(given.get(name, own.get(name)))), name in given)
        for name in dict.fromkeys([*given, *own])
    ]
    return pd.DataFrame(rows, columns=["name", "value", "given"])


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


def plain(text: str) -> None:
    """Text as it is, without terminal colours, cut if it is very long."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    text = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    cut = len(text) > MOST_TEXT
    st.code(text[:MOST_TEXT] + ("\n… cut here" if cut else ""), language=None, wrap_lines=False)


def show_output(output: Any, key: str) -> None:
    """One output: a figure, a picture or text; of several forms the richest that is safe."""
    if not isinstance(output, dict):
        raise UnreadableError("an output that is none")
    kind, data = output.get("output_type"), output.get("data")
    if kind == "stream":
        plain(text_of(output.get("text")))
    elif kind == "error":
        plain(text_of(output.get("traceback")) or f"{output.get('ename')}: {output.get('evalue')}")
    elif isinstance(data, dict) and PLOTLY in data:
        frame.chart(figure_of(data[PLOTLY]), key)
    elif isinstance(data, dict) and "image/png" in data:
        try:
            st.image(base64.b64decode(text_of(data["image/png"]), validate=False))
        except (binascii.Error, ValueError, OSError):
            raise UnreadableError("a picture that cannot be read") from None
    elif isinstance(data, dict) and "text/markdown" in data:
        plain(text_of(data["text/markdown"]))
    elif isinstance(data, dict) and "text/plain" in data:
        plain(text_of(data["text/plain"]))
    else:
        raise UnreadableError("an output of a kind that is not shown here")


def show_cell(cell: Any, index: int, prose: set[str], with_code: bool) -> None:
    if not isinstance(cell, dict):
        st.text("A cell that is none was left out.")
        return
    source = text_of(cell.get("source"))
    if cell.get("cell_type") == "markdown" and source in prose:
        st.markdown(source)
    elif cell.get("cell_type") == "code" and with_code and source.strip():
        st.code(source[:MOST_TEXT], language="python")
    elif cell.get("cell_type") != "code" and source.strip():
        plain(source)
    outputs = cell.get("outputs")
    for number, output in enumerate(outputs if isinstance(outputs, list) else []):
        try:
            show_output(output, f"cell {index} output {number}")
        except UnreadableError as error:
            st.text(frame.shown(f"Left out: {error}."))
        except Exception as error:  # one output that nobody thought of must not end the page
            st.text(frame.shown(f"Left out: an output that cannot be drawn ({type(error).__name__})."))


study = frame.open_study(
    "Notebooks",
    "What was executed: the notebook that looks at the study, and the one that trained each run. "
    "Shown from its cells; nothing in it runs here.",
)
found = notebooks(study)
if not found:
    st.info("This study has no executed notebook.", icon=":material/description:")
    st.markdown("`make study` trains through notebooks and keeps them; `resnetlab train` does without.")
    st.stop()
label = st.selectbox("Notebook", list(found), key="notebook", bind="query-params")
path = found.get(str(label), next(iter(found.values())))
try:
    content = path.read_bytes()
    notebook = parse(content)
except (OSError, UnreadableError) as problem:
    reason = problem.strerror if isinstance(problem, OSError) else str(problem)
    st.text(frame.shown(f"{path.name} cannot be shown: {reason}."))
    st.markdown("The same command executes it again; the other notebooks can be chosen above.")
    st.stop()

left, right = st.columns(2, vertical_alignment="center")
with_code = left.toggle("Code", value=True, key="code", bind="query-params")
with right:
    st.download_button(
        "Download the notebook",
        content,
        file_name=re.sub(r"[^A-Za-z0-9._-]", "_", f"{study.name}-{label}"),
        mime="application/x-ipynb+json",
        icon=":material/download:",
    )
table = parameters(notebook)
with st.expander("Parameters", icon=":material/tune:", expanded=True):
    if table.empty:
        st.markdown("It names none.")
    else:
        st.dataframe(
            table[table["given"]].drop(columns="given") if table["given"].any() else table,
            hide_index=True,
            key="parameters",
            height="content" if len(table) <= 20 else 400,
            column_config={
                "name": frame.text("Parameter"),
                "value": frame.text("Value"),
                "given": st.column_config.CheckboxColumn("Given", help="Otherwise its own default."),
            },
        )
known = known_prose()
for index, cell in enumerate(notebook["cells"][:MOST_CELLS]):
    show_cell(cell, index, known, with_code)
if len(notebook["cells"]) > MOST_CELLS:
    st.text(f"And {len(notebook['cells']) - MOST_CELLS:,} more cells: download it to see them.")
