"""Every run of a study: how far it is, how it ended, and its own curves."""

import json

import streamlit as st

from dashboard import cached, frame
from resnetlab import plots, store

study = frame.open_study(
    "Runs",
    "Every run of the study as it lies on disk. Errors are in percent and final, not best; a run that "
    "has not ended shows its last logged values.",
)

if study.runs:
    table = cached.table(study.runs).copy()
    counts = table["status"].value_counts()
    states = [f"{counts[name]} {name}" for name in store.STATUSES if name in counts]
    st.markdown(f"**{frame.count(len(table), 'run')}:** {', '.join(states)}")

    table["run"] = table["run"].map(frame.shown)
    table["progress"] = (table["steps"] / table["steps_planned"]).clip(0, 1)
    condition = ["data", "recipe", "precision"]
    varying = [name for name in condition if table[name].nunique() > 1]
    if not varying:
        data, recipe, precision = (frame.shown(table[name].iloc[0]) for name in condition)
        st.text(f"All on {data}, recipe {recipe}, {precision}.")
    progress = ["progress"] if (table["progress"] < 1).any() else []
    columns = ["run", "status", *progress, "steps", "network", "seed", *varying, *store.FINAL]
    st.dataframe(
        table[columns].dropna(axis="columns", how="all"),
        hide_index=True,
        key="table",
        height="content" if len(table) <= 30 else 600,
        placeholder="",
        column_config={
            "run": frame.text("Run", pinned=True),
            "status": "Status",
            "progress": st.column_config.ProgressColumn("Progress", format="percent", width="small"),
            "steps": frame.number("Steps", "Optimizer updates done.", "localized"),
            "network": "Network",
            "seed": "Seed",
            "data": "Data set",
            "recipe": "Recipe",
            "precision": "Precision",
            **{
                name: frame.number(*meaning, "%.2f" if name.endswith(("error", "clean")) else "%.0f")
                for name, meaning in frame.MEANING.items()
            },
        },
    )

if study.runs:
    st.header("One run", anchor=False)
    runs = frame.labelled((run.name, run) for run in study.runs)
    live = [label for label, run in runs.items() if run.status == "running"]
    first = list(runs).index(live[0]) if live else 0
    label = st.selectbox("Run", list(runs), index=first, key="run", bind="query-params")
    run = runs.get(str(label), study.runs[0])
    for sentence in store.notes([run]):
        st.text(frame.shown(sentence))
    frame.chart(plots.run_curves(cached.metrics([run]), theme=frame.theme()), "run_curves")
    with st.expander("How it was made: configuration, code, machine", icon=":material/description:"):
        st.code(json.dumps({k: v for k, v in run.info.items() if k != "layers"}, indent=1), "json")

# Last, because it reads every log once.
ill = sum(1 for run in study.runs if run.problems) + len(study.skipped)
if ill:
    st.markdown(
        f":material/monitor_heart: {frame.count(ill, 'folder')} of this study with something wrong: "
        "**Health** has the reason and the remedy."
    )
