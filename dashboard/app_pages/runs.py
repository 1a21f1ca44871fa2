"""Every run of a study: how far it is, how it ended, and its own curves."""

import json
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cached, frame
from resnetlab import plots, store
from resnetlab.config import commands

SHOWN = "runs, as shown"
CONDITION = {"data": "Data set", "recipe": "Recipe", "precision": "Precision"}
COLUMNS = {
    "run": frame.text("Run", pinned=True),
    "status": "Status",
    "progress": st.column_config.ProgressColumn("Progress", format="percent", width="small"),
    **frame.columns("run"),
    **CONDITION,
    **{
        name: frame.number(*meaning, "%.2f" if name.endswith(("error", "clean")) else "%.0f")
        for name, meaning in frame.MEANING.items()
    },
}


def page() -> None:
    study = frame.open_study("runs")
    if study.runs:
        every_run(study)
        one_run(study)
    # Last, because it reads every log once.
    ill = sum(1 for run in study.runs if run.problems) + len(study.skipped)
    if ill:
        st.markdown(
            f":material/monitor_heart: {frame.count(ill, 'folder')} of this study with something "
            "wrong: **Health** has the reason and the remedy."
        )


def every_run(study: store.Study) -> None:
    """All runs in one table, queued ones last, with what they have in common above it."""
    table = cached.table(study.runs)
    if queued := study.queued():
        table = pd.concat([table, pd.DataFrame(queued).astype(table.dtypes)], ignore_index=True)
    counts = table["status"].value_counts()
    states = [f"{counts[name]} {name}" for name in (*store.STATUSES, store.QUEUED) if name in counts]
    st.markdown(f"**{frame.count(len(table), 'run')}:** {', '.join(states)}")
    varying = [name for name in CONDITION if table[name].nunique() > 1]
    if not varying:
        data, recipe, precision = table[[*CONDITION]].iloc[0]
        frame.say(f"All on {data}, recipe {recipe}, {precision}.")
    done = (table["steps"] / table["steps_planned"]).clip(0, 1)
    progress = ["progress"] if (done < 1).any() else []
    columns = ["run", "status", *progress, "steps", "network", "seed", *varying, *store.FINAL]
    rows = table.assign(run=table["run"].map(frame.shown), progress=done)[columns]
    st.session_state[SHOWN] = [run.name for run in study.runs]
    click: dict[str, Any] = {"on_select": take_click, "selection_mode": "single-row"}
    frame.table(rows.dropna(axis="columns", how="all"), "table", COLUMNS, rows=30, **click)


def take_click() -> None:
    """A click on a run's row chooses it; one that waits in a queue has nothing to show."""
    rows = st.session_state["table"].selection.rows
    names = st.session_state.get(SHOWN, [])
    if rows and rows[0] < len(names):
        labels = frame.labelled((name, name) for name in names)
        st.session_state["run"] = [*labels][rows[0]]


def one_run(study: store.Study) -> None:
    """The curves of the run that is chosen, at first of one that trains, and how it was made."""
    frame.section("One run")
    runs = frame.labelled((run.name, run) for run in study.runs)
    first = next((i for i, run in enumerate(study.runs) if run.status == "running"), 0)
    run = frame.choose("Run", runs, "run", first=first)
    frame.say(*store.notes([run]))
    command = commands.of_run(run.config, run.info.get("execution"))
    if command.startswith(commands.NO_COMMAND):
        frame.say(command)
    else:
        st.markdown("Make this run again:")
        st.code(frame.shown(command, 2000), language="bash", wrap_lines=True)
    metrics = cached.metrics([run])
    source, alt = (
        frame.Source(metrics, study=study),
        frame.alt(f"Error of {run.name} by step.", final(run)),
    )
    frame.chart(plots.run_curves(metrics), "run_curves", source=source, alt=alt)
    with st.expander("How it was made: configuration, code, machine", icon=":material/description:"):
        st.code(json.dumps({k: v for k, v in run.info.items() if k != "layers"}, indent=1), "json")


def final(run: store.RunRecord) -> list[str]:
    """What the curves of a run come to, in words."""
    errors = {name: (run.summary or {}).get(f"{name}_error") for name in ("train", "test")}
    known = [
        f"{name} error {error:.2f} %" for name, error in errors.items() if isinstance(error, float)
    ]
    return [f"{run.status.capitalize()}: {', '.join(known) or 'no final error'}."]


page()
