"""What is wrong in the results folder: every run that is damaged, torn, stale or did not end well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
import streamlit as st

from dashboard import cached, frame
from resnetlab import store
from resnetlab.store.health import KINDS, Problem, problems

MOST_CARDS = 12  # problems with their command; the rest stand in one table
NEEDS_NOTHING = ("diverged",)  # kinds that are results
COLUMNS = frame.columns("health")


def page() -> None:
    study = frame.open_study("health")
    with st.spinner("Reading every log ..."):
        looked, rows = everything(study)
    if rows:
        rows = choose_kinds(rows, looked)
        # First what asks for something, then what only has to be known.
        asking = [problem for problem in rows if problem.kind not in NEEDS_NOTHING]
        for problem in asking[:MOST_CARDS]:
            card(problem)
        others(asking[MOST_CARDS:], "rest")
        known = [problem for problem in rows if problem.kind in NEEDS_NOTHING]
        if known and not asking:
            st.success("Nothing asks to be done.", icon=":material/check_circle:")
        if known:
            with st.expander(f"{frame.count(len(known), 'run')} with nothing to do"):
                for problem in known[:MOST_CARDS]:
                    card(problem)
                others(known[MOST_CARDS:], "known")
    else:
        runs = frame.count(looked, "run")
        st.success(
            f"Nothing is wrong: {runs} read whole, and each that ended, ended well.",
            icon=":material/check_circle:",
        )


def everything(chosen: store.Study) -> tuple[int, list[Problem]]:
    """How many runs and other folders there are in all studies, and what is wrong, worst first.

    The chosen study comes before the others.
    """
    looked, rows = 0, []
    for path in sorted(store.find_studies(cached.root()), key=lambda path: path != chosen.path):
        study = cached.study(path)
        looked += len(study.runs) + len(study.skipped)
        rows += problems(frame.place(path), study, cached.root())
    return looked, rows


def choose_kinds(rows: Sequence[Problem], looked: int) -> list[Problem]:
    """How many there are of each kind, and those that are to be shown."""
    ill = len({(problem.study, problem.run) for problem in rows})
    st.markdown(f"**{ill:,} of {frame.count(looked, 'folder')}** with something to say about them:")
    counts = Counter(problem.kind for problem in rows)
    kinds = [kind for kind in KINDS if counts[kind]]
    with st.container(horizontal=True):
        for kind in kinds:
            number, meaning = f"{counts[kind]:,}", KINDS[kind]["meaning"]
            st.metric(kind.capitalize(), number, help=meaning, border=True, width=170)
    chosen = kinds
    if len(kinds) > 1:
        hint = "Nothing chosen shows everything."
        chosen = frame.ask(st.pills, "Show only", "kinds", hint, options=kinds, selection_mode="multi")
    return [problem for problem in rows if not chosen or problem.kind in chosen]


def card(problem: Problem) -> None:
    """One problem with its remedy. Names and reasons may hold anything: never markdown."""
    with st.container(border=True, gap="xsmall"):
        frame.say(f"{problem.study}/{problem.run}, {problem.state}: {problem.reason}")
        st.markdown(f":material/build: {problem.kind.capitalize()}.")
        frame.say(problem.remedy)
        if problem.command:
            st.code(frame.shown(problem.command, 2000), language=None, wrap_lines=True)


def others(rows: Sequence[Problem], key: str) -> None:
    """The problems that have no card, in a table."""
    if rows:
        frame.section(f"{len(rows):,} more")
        table = pd.DataFrame([asdict(problem) for problem in rows])[list(COLUMNS)]
        frame.table(table.map(frame.shown), key, COLUMNS, rows=15)


page()
