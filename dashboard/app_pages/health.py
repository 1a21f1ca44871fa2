"""What is wrong in the results folder: every run that is damaged, torn, stale or did not end well."""

from __future__ import annotations

import datetime as dt
import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st

from dashboard import cached, frame
from resnetlab import store
from resnetlab.config import UsageError, commands

MOST_CARDS = 12  # problems with their command; the rest stand in one table

# What a row is called, from the worst to what needs nothing done.
KINDS = {
    "damaged": "Its files cannot be read.",
    "unknown version": "Written by another version of resnetlab.",
    "no run": "A folder in a study that is no run.",
    "torn": "The run is there, but lines or files of it are torn.",
    "stale": "Said to run, without a sign of life.",
    "failed": "Stopped by an error.",
    "interrupted": "Stopped before its end.",
    "diverged": "The loss was not finite.",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (study, run), its kind (of KINDS), why, and what to do."""

    study: str
    run: str
    state: str
    kind: str
    reason: str
    remedy: str
    command: str = ""


def skipped_problem(study: str, item: store.Skipped) -> Problem:
    """A folder that is no readable run."""
    kind, remedy = "damaged", "Move the folder away; the command that made the run makes it anew."
    if item.reason.startswith(f"no {store.RUN_FILE}"):
        kind = "no run"
        remedy = "If it is no run, move it out of the study's folder; if it was one, train it again."
    elif "format is version" in item.reason:
        kind, remedy = (
            "unknown version",
            "Read it with the resnetlab that wrote it, or update this one.",
        )
    command = skipped_command(item) if kind == "damaged" else ""
    if kind == "damaged" and item.path.parent.parent.name == store.REFERENCE:
        remedy, command = committed(item.path)
    return Problem(study, item.path.name, "left out", kind, item.reason, remedy, command)


def committed(path: Path) -> tuple[str, str]:
    """Remedy and command for a run that ships with the project."""
    where = shlex.quote(str(path.absolute()))
    return "It ships with the project: get the committed files back.", f"git checkout -- {where}"


def run_problems(study: str, run: store.RunRecord) -> list[Problem]:
    """What is wrong with one readable run; empty for a healthy one."""
    status, written = run.status, run.info.get("status")
    gone = status == "interrupted" and written == "running"
    found: list[tuple[str, str]] = []  # kind, reason
    for reason in run.problems:
        kind = "torn" if "torn or damaged" in reason else "stale" if gone else status
        found.append((kind if kind in KINDS else "torn", reason))
    bad = store.read_lines(run.path / store.EVALUATIONS_FILE)[1]
    if bad:
        found.append(
            ("torn", f"{frame.count(bad, 'torn or damaged line')} left out of its evaluations")
        )
    silent = silence(run)
    if status == "running" and silent is not None and silent > store.STALE_SECONDS:
        found.append(
            ("stale", f"no sign of life for {silent / 60:,.0f} minutes, but its process is there")
        )
    if status in ("failed", "interrupted", "diverged") and not any(
        kind in (status, "stale") for kind, _ in found
    ):
        found.append((status, "no reason was written down"))
    command = again(run)
    return [
        Problem(study, run.name, status, kind, reason, *_remedy(kind, run, command))
        for kind, reason in found
    ]


def silence(run: store.RunRecord) -> float | None:
    """Seconds since the last heartbeat; None if none is written."""
    try:
        beat = dt.datetime.fromisoformat(run.info["heartbeat"])
        return (dt.datetime.now(dt.UTC) - beat).total_seconds()
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def again(run: store.RunRecord) -> str:
    """The command that resumes or repeats the run in its own folder; "" if none can say it."""
    try:
        store.check_name("study", run.study)
        store.check_name("run", run.name)
    except UsageError:
        return ""
    command = commands.of_run(run.config, run.info.get("execution"))
    if command.startswith(commands.NO_COMMAND):
        return ""
    places = {"study": run.study, "run": run.name}
    if cached.root().absolute() != store.results_root().absolute():
        places["results"] = str(cached.root().absolute())
    option = "-p {} {}" if command.startswith("papermill") else "--{} {}"
    return " ".join([command, *(option.format(key, shlex.quote(v)) for key, v in places.items())])


def _remedy(kind: str, run: store.RunRecord, command: str) -> tuple[str, str]:
    """What to do in words, and the command for it ("" if there is nothing to type)."""
    if kind in ("torn", "damaged") and run.path.parent.parent.name == store.REFERENCE:
        return committed(run.path)
    if kind == "stale" and run.status == "running":
        where = f"process {run.info.get('pid')} on {run.info.get('host')}"
        return f"See what {where} does; if it hangs, end it, and the command resumes the run.", command
    if kind == "failed":
        return "Mend the cause; the same command tries this run again.", command
    if kind == "diverged":
        return "Nothing to mend: in this study that is a result, and its data are kept.", ""
    if kind in ("interrupted", "stale"):
        return "The same command resumes it from its last checkpoint.", command
    if run.status == "running":
        return (
            "Nothing to do now: it is still training; a line half written is read at the next look.",
            "",
        )
    if run.status == "finished":
        return "Nothing has to be done: everything else of it was read and is shown.", ""
    return "Everything else of it was read; the same command resumes it.", command


def skipped_command(item: store.Skipped) -> str:
    """Moves a damaged folder aside, out of the results folder."""
    away = cached.root().absolute().parent / f"{item.path.name}.damaged"
    return f"mv {shlex.quote(str(item.path.absolute()))} {shlex.quote(str(away))}"


def problems(name: str, study: store.Study) -> list[Problem]:
    """All of one study. Whatever goes wrong with one run is said of that run and ends there."""
    found = [skipped_problem(name, item) for item in study.skipped]
    reason = frame.unreadable(study.path)
    if reason:
        remedy = "Give yourself the right to read it; its runs then show by themselves."
        found.append(Problem(name, "", "left out", "damaged", f"the folder: {reason}", remedy))
    for run in study.runs:
        try:
            found += run_problems(name, run)
        except Exception as error:  # a page on damage must not fall to a kind nobody thought of
            reason = f"looking at it failed ({type(error).__name__})"
            found.append(Problem(name, run.name, "unknown", "damaged", reason, "Look at its files."))
    return found


def everything(chosen: store.Study) -> tuple[int, list[Problem]]:
    """How many runs and other folders there are in all studies, and what is wrong, worst first.

    The chosen study comes before the others.
    """
    root = cached.root()
    paths = sorted(store.find_studies(root), key=lambda path: path != chosen.path)
    looked, found = 0, []
    for path in paths:
        study = cached.study(path)
        looked += len(study.runs) + len(study.skipped)
        own = problems(path.relative_to(root).as_posix(), study)
        found += sorted(own, key=lambda problem: list(KINDS).index(problem.kind))
    return looked, found


def as_table(found: list[Problem]) -> pd.DataFrame:
    rows = [
        [problem.study, problem.run, problem.kind, problem.reason, problem.remedy, problem.command]
        for problem in found
    ]
    names = ["study", "run", "kind", "reason", "remedy", "command"]
    return pd.DataFrame([[frame.shown(cell) for cell in row] for row in rows], columns=names)


study = frame.open_study(
    "Health",
    "Every run of every study that is damaged, torn, stale, diverged, stopped early or of an unknown "
    "version, with the reason and the remedy. Everything healthy is shown on the other pages.",
)
with st.spinner("Reading every log ..."):
    looked, found = everything(study)

if not found:
    st.success(
        f"Nothing is wrong: {frame.count(looked, 'run')} read whole, and each that ended, ended well.",
        icon=":material/check_circle:",
    )
    st.stop()

kinds = Counter(problem.kind for problem in found)
ill = len({(problem.study, problem.run) for problem in found})
st.markdown(f"**{ill:,} of {frame.count(looked, 'folder')}** with something to say about them:")
with st.container(horizontal=True):
    for kind in KINDS:
        if kinds[kind]:
            st.metric(kind.capitalize(), f"{kinds[kind]:,}", help=KINDS[kind], border=True, width=170)

offered = [kind for kind in KINDS if kinds[kind]]
if len(offered) > 1:
    chosen = st.pills(
        "Show only",
        offered,
        selection_mode="multi",
        key="kinds",
        bind="query-params",
        help="Nothing chosen shows everything.",
    )
    found = [problem for problem in found if not chosen or problem.kind in chosen]

for problem in found[:MOST_CARDS]:
    with st.container(border=True, gap="xsmall"):
        # Names and reasons may hold anything: never markdown.
        where = f"{problem.study}/{problem.run}, {problem.state}"
        st.text(frame.shown(f"{where}: {problem.reason}"))
        st.markdown(f":material/build: {problem.kind.capitalize()}.")
        st.text(frame.shown(problem.remedy))
        if problem.command:
            st.code(frame.shown(problem.command, 2000), language=None, wrap_lines=True)
rest = found[MOST_CARDS:]
if rest:
    st.header(f"{len(rest):,} more", anchor=False)
    st.dataframe(
        as_table(rest),
        hide_index=True,
        key="rest",
        height="content" if len(rest) <= 15 else 560,
        placeholder="",
        column_config={
            "study": frame.text("Study"),
            "run": frame.text("Run"),
            "kind": frame.text("Kind"),
            "reason": frame.text("Reason", width="large"),
            "remedy": frame.text("What to do", width="large"),
            "command": frame.text("Command", "To copy into a terminal.", width="large"),
        },
    )
