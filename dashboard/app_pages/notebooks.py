"""The executed notebooks of a study, drawn from their cells; nothing of them runs in the page.

A notebook is a file that anybody may have written. Its HTML and scripts are never shown, its prose is
markup only where it is that of a notebook of this project, and of plotly figures only plain traces.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import frame
from resnetlab import store
from resnetlab.pages import executed
from resnetlab.pages.executed import MOST_CELLS, MOST_TEXT, UnreadableError, parse, text_of

SHIPPED = Path(__file__).resolve().parents[2] / "notebooks"


def notebooks(study: store.Study) -> dict[str, Path]:
    """Those that look at the study, then that of each run."""
    found = []
    with contextlib.suppress(OSError):
        found += sorted(
            path for path in study.path.glob("*.ipynb") if path.is_file() and path.name[0] != "."
        )
    found += [path for run in study.runs if (path := run.path / store.NOTEBOOK_FILE).is_file()]
    return frame.labelled((path.relative_to(study.path).as_posix(), path) for path in found)


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


def parameters(notebook: Mapping[str, Any]) -> pd.DataFrame:
    """What it was run with: the values that papermill gave it, else its own defaults."""
    own, given = executed.defaults(notebook["cells"]), executed.given(notebook)
    rows = [
        (frame.shown(name), frame.shown(repr(given.get(name, own.get(name)))), name in given)
        for name in dict.fromkeys([*given, *own])
    ]
    return pd.DataFrame(rows, columns=["name", "value", "given"])


def plain(text: str) -> None:
    st.code(executed.legible(text), language=None, wrap_lines=False)


def show_output(output: object, key: str) -> None:
    """One output as `executed.block` reads it; its prose is text here."""
    kind, content = executed.block(output)
    if kind == "figure":
        frame.chart(content, key)
    elif kind == "picture":
        st.image(content)
    elif kind == "table":
        st.dataframe(content, hide_index=True, key=key)
    elif kind == "left out":
        st.text(frame.shown(f"Left out: {content}."))
    else:
        plain(content)


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
    for number, output in enumerate(executed.outputs(cell)):
        try:
            show_output(output, f"cell {index} output {number}")
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
