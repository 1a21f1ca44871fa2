"""Under a figure: its link, how it is made again, its values, and the notebook that explains it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st

from dashboard import cached
from resnetlab import store
from resnetlab.config import commands
from resnetlab.plots import series

NOTEBOOKS = "app_pages/notebooks.py"
LOOKS = "01_degradation"  # the notebook that only looks at a study: it has to be told at which


@dataclass(frozen=True)
class Source:
    """What a figure of the dashboard is drawn from."""

    data: pd.DataFrame  # its values, as they are offered for download
    notebook: str = ""  # that explains it and draws it again, by its name without ending
    study: store.Study | None = None  # whose runs it shows; None: measurements or several studies


def name_of(key: str) -> str:
    """The figure `key` of a page in an address."""
    return re.sub(r"\W+", "-", key).strip("-").lower()


def anchor(key: str, words: str) -> None:
    """A heading that only a reader of screens meets, and where the figure's link leads."""
    # Markup has no place in a heading, and names from disk may hold some, addresses too.
    words = re.sub(r"[^\w\s.,;%()+-]|(?<=[^\W\d])\.(?=[^\W\d])", " ", words)
    st.header(words, anchor=f"figure-{name_of(key)}")


def line(source: Source, key: str) -> None:
    """One line of links under the figure `key` of a page."""
    anchor = name_of(key)
    with st.container(horizontal=True, gap="small", key=f"under-{anchor}", vertical_alignment="center"):
        st.markdown(f":material/link: [Link](#figure-{anchor})", width="content")
        with st.popover("Make it again", type="tertiary", icon=":material/replay:", key=f"again-{key}"):
            again(source)
        st.download_button(
            "CSV",
            lambda: series.to_csv(source.data),
            f"{anchor}.csv",
            "text/csv",
            key=f"csv-{key}",
            help=f"The {len(source.data):,} rows of values behind this figure, none left out.",
            on_click="ignore",
            type="tertiary",
            icon=":material/table:",
        )
        if copy := _executed(source):
            words, label = copy, ":material/description: Notebook"
            st.page_link(
                NOTEBOOKS, label=label, query_params=words, help=f"{source.notebook}, executed"
            )


def again(source: Source) -> None:
    """The commands that train the runs again, and that draw the figure again from what is there."""
    if source.study is not None and source.study.runs:
        st.markdown("Train these runs again")
        st.code(trained_by(source.study), language="bash", wrap_lines=True)
    if source.notebook:
        words = ["resnetlab", "notebook", source.notebook]
        if source.notebook == LOOKS and source.study is not None:
            words += ["-p", "study", source.study.name]
        st.markdown("Draw this figure again")
        st.code(series.shown(shlex.join(words)), language="bash", wrap_lines=True)


def trained_by(study: store.Study) -> str:
    """The command that makes all runs of a study, else what tells the command of each."""
    command = commands.of_study(study.name, {run.name: run.config for run in study.runs})
    each = (
        f"resnetlab show {shlex.quote(f'{study.name}/{study.runs[0].name}')}  # and so on, run by run"
    )
    return series.shown(command or each)


def _executed(source: Source) -> dict[str, str] | None:
    """Where the page of notebooks finds the executed copy, the study's own before others."""
    if not source.notebook:
        return None
    file, places = f"{source.notebook}.ipynb", store.find_studies(cached.root())
    own = source.study.path if source.study else None
    for path in sorted(places, key=lambda path: path != own):
        if (Path(path) / file).is_file():
            study = series.shown(store.label_of(path, cached.root()), 80)
            kept = {"projector": "true"} if st.session_state.get("projector") else {}
            return {"study": study, "notebook": file} | kept
    return None
