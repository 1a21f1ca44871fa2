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


def page() -> None:
    study = frame.open_study("notebooks")
    paths = notebooks(study)
    if not paths:
        st.info("This study has no executed notebook.", icon=":material/description:")
        st.markdown(
            "`resnetlab study` trains through notebooks and keeps them; `resnetlab train` does without."
        )
        return
    path = frame.choose("Notebook", paths, "notebook")
    try:
        content = path.read_bytes()
        notebook = parse(content)
    except (OSError, UnreadableError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        frame.say(f"{path.name} cannot be shown: {reason}.")
        st.markdown("The same command executes it again; the other notebooks can be chosen above.")
        return
    left, right = st.columns(2, vertical_alignment="center")
    with_code = frame.switch("Code", "code", on=True, place=left)
    name = f"{study.name}-{path.relative_to(study.path).as_posix()}"
    right.download_button(
        "Download the notebook",
        content,
        file_name=re.sub(r"[^A-Za-z0-9._-]", "_", name),
        mime="application/x-ipynb+json",
        icon=":material/download:",
    )
    show_parameters(notebook)
    prose = known_prose()
    for index, cell in enumerate(notebook["cells"][:MOST_CELLS]):
        show_cell(cell, index, prose, with_code)
    if len(notebook["cells"]) > MOST_CELLS:
        more = len(notebook["cells"]) - MOST_CELLS
        st.text(f"And {more:,} more cells: download it to see them.")


def notebooks(study: store.Study) -> dict[str, Path]:
    """Those that look at the study, then that of each run."""
    paths = []
    with contextlib.suppress(OSError):
        paths += sorted(
            path for path in study.path.glob("*.ipynb") if path.is_file() and path.name[0] != "."
        )
    paths += [path for run in study.runs if (path := run.path / store.NOTEBOOK_FILE).is_file()]
    return frame.labelled((path.relative_to(study.path).as_posix(), path) for path in paths)


def known_prose() -> set[str]:
    """The markdown cells of the project's own notebooks: only these are shown as markup."""
    prose: set[str] = set()
    for path in SHIPPED.glob("*.ipynb"):
        try:
            cells = parse(path.read_bytes())["cells"]
        except (OSError, UnreadableError):
            continue
        prose |= {text_of(c.get("source")) for c in cells if c.get("cell_type") == "markdown"}
    return prose


def show_parameters(notebook: Mapping[str, Any]) -> None:
    """What it was run with: the values that papermill gave it, else its own defaults."""
    given = executed.given(notebook)
    values = given or executed.defaults(notebook["cells"])
    rows = [(frame.shown(name), frame.shown(repr(value))) for name, value in values.items()]
    columns = {"name": frame.text("Parameter"), "value": frame.text("Value" if given else "Default")}
    with st.expander("Parameters", icon=":material/tune:", expanded=True):
        if rows:
            frame.table(pd.DataFrame(rows, columns=[*columns]), "parameters", columns, rows=20)
        else:
            st.markdown("It names none.")


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
        wide = {name: frame.text(name, width="large") for name in content if long(content[name])}
        frame.table(content, key, wide, rows=60)
    elif kind == "left out":
        frame.say(f"Left out: {content}.")
    elif kind == "text" and executed.is_prose(content):
        frame.sentences(content.splitlines())
    else:
        plain(content)


def long(column: Any) -> bool:
    """Whether a column of texts needs room."""
    return isinstance(column, pd.Series) and column.astype(str).str.len().max() > 60


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
            frame.say(f"Left out: an output that cannot be drawn ({type(error).__name__}).")


page()
