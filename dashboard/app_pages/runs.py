"""Every run of a study: how far it is, how it ended, what is wrong with it, and its own curves."""

import json

import streamlit as st

from dashboard import cached, frame
from resnetlab import plots, results

MOST_PROBLEMS = 40  # shown

REMEDIES = {
    "failed": "Mend the cause; the same command tries this run again.",
    "diverged": "Nothing to mend: in this study that is a result, and its data are kept.",
    "interrupted": "The same command resumes it from its last checkpoint.",
    "running": "Nothing to do: it is still training.",
    "finished": "Nothing to do: everything else of it was read.",
}


def remedy(reason: str) -> str:
    """What to do about a folder that is no readable run."""
    if reason.startswith(f"no {results.RUN_FILE}"):
        return "If it is no run, move it out of the study's folder; if it is one, run it again."
    if "version" in reason:
        return "Written by another version of resnetlab: read it with that one, or update."
    return "Move the folder away and give the same command again: the run is made anew."


def problems(study: results.Study) -> list[tuple[str, str, str]]:
    """Where and in which state, the reason, the remedy: one a problem."""
    found = [
        (f"{run.name}, {run.status}", reason, REMEDIES[run.status])
        for run in study.runs
        for reason in cached.problems(run)
    ]
    return found + [
        (f"{item.path.name}, left out", item.reason, remedy(item.reason)) for item in study.skipped
    ]


study = frame.open_study(
    "Runs",
    "Every run of the study as it lies on disk. Errors are in percent and final, not best; a run that "
    "has not ended shows its last logged values.",
)

if study.runs:
    table = cached.table(study.runs)
    counts = table["status"].value_counts()
    states = [f"{counts[name]} {name}" for name in results.STATUSES if name in counts]
    st.markdown(f"**{frame.count(len(table), 'run')}:** {', '.join(states)}")

    table["run"] = table["run"].map(frame.shown)
    table["progress"] = (table["steps"] / table["steps_planned"]).clip(0, 1)
    condition = ["data", "recipe", "precision"]
    varying = [name for name in condition if table[name].nunique() > 1]
    if not varying:
        data, recipe, precision = (frame.shown(table[name].iloc[0]) for name in condition)
        st.text(f"All on {data}, recipe {recipe}, {precision}.")
    progress = ["progress"] if (table["progress"] < 1).any() else []
    columns = ["run", "status", *progress, "steps", "network", "seed", *varying, *results.FINAL]
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

found = problems(study)
st.header("Problems", anchor=False)
if not found:
    st.markdown("None: every folder of this study was read whole.")
else:
    st.markdown("What could not be read or did not end well. Everything healthy is shown regardless.")
for where, reason, what_to_do in found[:MOST_PROBLEMS]:
    with st.container(border=True, gap="xsmall"):
        st.text(frame.shown(f"{where}: {reason}"))  # may hold anything: never markdown
        st.markdown(f":material/build: {what_to_do}")
if len(found) > MOST_PROBLEMS:
    st.markdown(f"And {frame.count(len(found) - MOST_PROBLEMS, 'more problem')}.")

if study.runs:
    st.header("One run", anchor=False)
    runs = frame.labelled((run.name, run) for run in study.runs)
    live = [label for label, run in runs.items() if run.status == "running"]
    first = list(runs).index(live[0]) if live else 0
    label = st.selectbox("Run", list(runs), index=first, key="run", bind="query-params")
    run = runs.get(str(label), study.runs[0])
    frame.chart(plots.run_curves(cached.metrics([run]), theme=frame.theme()), "run_curves")
    with st.expander("How it was made: configuration, code, machine", icon=":material/description:"):
        st.code(json.dumps({k: v for k, v in run.info.items() if k != "layers"}, indent=1), "json")
