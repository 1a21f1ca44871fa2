"""A network trained in front of the class: choose, start, watch it grow, stop."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cached, door, frame, lab
from resnetlab import config, plots, store, verdict
from resnetlab.config import UsageError

MOST_DRAWN = 8  # runs in the figures
LOOK_SECONDS = 1.0  # while something is under way

PHASES = {
    "starting": "starting: its process loads the libraries",
    "running": "training",
    "stopping": "stopping after its step, with a checkpoint",
}
ANSWERS = {
    "started": "started",
    "waiting": "waits for a free core and then starts by itself",
    "under way": "is under way already",
    "ended": "has ended already: it is drawn below, nothing has to be trained again",
}
SHORTCUTS = {
    "none: a plain network": "none",
    "A: identity, zero padding": "A",
    "B: projection where shapes change": "B",
    "C: projection everywhere": "C",
}


# --- the page ---------------------------------------------------------------------------------


def page() -> None:
    """Choose, start and watch; everything below the form changes by itself."""
    frame.head("lab", study=lab.STUDY)
    root, on = cached.root(), lab.enabled(st.get_option("server.address"))
    may_start = on and door.enters()
    if may_start:
        controls(root)
    else:
        st.info(frame.WORDS["lab closed" if on else "lab off"], icon=":material/lock:")
    busy = bool(lab.look(root))
    frame.live(busy)
    every = LOOK_SECONDS if busy else frame.IDLE_SECONDS
    st.fragment(live, run_every=every)(root, busy, may_start)


def live(root: Path, was_busy: bool, may_start: bool) -> None:
    """Everything that changes by itself."""
    try:
        entries = lab.tend(root) if may_start else lab.look(root)
    except UsageError as error:
        message("error", "The queue does not move", str(error).splitlines())
        entries = lab.look(root)
    if bool(entries) != was_busy:
        st.rerun()  # looks more or less often from now on
    study = cached.study(root / lab.STUDY)
    if refused := st.session_state.pop("lab refused", None):
        message("error", "Not done", refused)
    if entries:
        under_way(root, entries, {run.name: run for run in study.runs}, may_start)
    to_continue(root, entries, study.runs, may_start)
    if study.runs:
        figures(study, entries)
    elif not entries:
        st.info("No run has been started here yet.", icon=":material/hourglass_empty:")


# --- what is asked for ------------------------------------------------------------------------


def message(icon: str, head: str, lines: Iterable[str]) -> None:
    """A message whose lines may hold anything."""
    with st.container(border=True, gap="xsmall"):
        st.markdown(f":material/{icon}: **{head}**")
        frame.say(*lines, length=1000)


def ask(root: Path, wish: Callable[[], Sequence[config.Run]]) -> None:
    """Hand the runs wished for to the queue and say what became of them."""
    try:
        runs = wish()
        answers = lab.submit(root, runs)
    except UsageError as error:
        message("error", "Not started", str(error).splitlines())
        return
    lines = (f"{run.label} {ANSWERS[answer]}" for run, answer in zip(runs, answers, strict=True))
    message("science", "In the lab", lines)


def controls(root: Path) -> None:
    """The lesson's button and the form. What the browser sends is checked by the library."""
    with st.container(border=True):
        text, button = st.columns([3, 1], vertical_alignment="center")
        text.markdown(
            "**The lesson:** plain-20, plain-56 and resnet-56 on the digits, one seed, "
            f"{lab.LESSON_STEPS} steps each. Does depth make a plain network train worse, and do "
            "shortcuts fix it? About a minute on two cores."
        )
        look: dict[str, Any] = {"type": "primary", "icon": ":material/school:", "width": "stretch"}
        taught = button.button("Start the lesson", key="lesson", **look)
    with st.container(border=True):
        top, bottom = st.columns(3), st.columns(3)
        layers = f"Weighted layers: 8, 14, 20, … at most {lab.MOST_DEPTH}."
        depth = frame.whole("Depth (6n+2)", "lab_depth", layers, 20, step=6.0, place=top[0])
        shortcut = frame.choose("Shortcut", SHORTCUTS, "lab_shortcut", place=top[1])
        images = {name: name for name in lab.data_sets()}
        fetched = "The digits, and CIFAR where `resnetlab data download` has fetched it."
        data = frame.choose("Data", images, "lab_data", fetched, place=top[2])
        rule = "Until the schedule divides it by ten; the paper's is 0.1."
        field: dict[str, Any] = {"value": 0.1, "step": 0.01, "format": "%.4g"}
        lr = frame.ask(bottom[0].number_input, "Learning rate", "lab_lr", rule, **field)
        most = f"Optimizer steps, at most {lab.MOST_STEPS:,}; the schedule moves along."
        usual = lab.LESSON_STEPS
        steps = frame.whole("Steps", "lab_steps", most, usual, step=100.0, place=bottom[1])
        follows = "Weights, order and augmentation follow from it."
        seed = frame.whole("Seed", "lab_seed", follows, 0, place=bottom[2])
        start = st.button("Start", icon=":material/play_arrow:", key="start")
    if taught:
        ask(root, lambda: lab.LESSON)
    if start:
        ask(root, lambda: [lab.asked(depth, shortcut, lr, data, steps, seed)])


# --- what is under way ------------------------------------------------------------------------


def under_way(
    root: Path, entries: Sequence[lab.Entry], runs: Mapping[str, store.RunRecord], may_start: bool
) -> None:
    """A line for each run that trains or waits, with the button that ends it."""
    waiting = [entry.name for entry in entries if entry.phase == "waiting"]
    active = len(entries) - len(waiting)
    st.markdown(
        f":green-badge[:material/sensors: live] {active} training of at most {lab.slots()} at a time"
        + (f", {len(waiting)} waiting" if waiting else "")
    )
    for entry in entries:
        record, planned = runs.get(entry.name), entry.run.recipe.steps
        step = record.info.get("step") if record is not None else 0
        logged = record.steps_done if record is not None else 0
        done = min(planned, max(logged, step if type(step) is int else 0))
        state = PHASES.get(entry.phase) or f"waiting, number {waiting.index(entry.name) + 1}"
        text, place = st.columns([6, 1], vertical_alignment="center")
        text.progress(done / planned, text=f"{title(entry.run)}: {state}, {done:,} done")
        if may_start:
            label = "Take out" if entry.phase == "waiting" else "Stop"
            stopping = entry.phase == "stopping"
            action = partial(lab.stop, root, entry.name)
            button(place, label, f"stop {entry.name}", "stop", action, disabled=stopping)


def button(
    place: Any, label: str, key: str, icon: str, action: Callable[[], object], **how: Any
) -> None:
    """A button beside a run; a refusal is said at the next drawing."""

    def attempt() -> None:
        try:
            action()
        except UsageError as error:
            st.session_state["lab refused"] = str(error).splitlines()

    words = {"icon": f":material/{icon}:", "key": key, "width": "stretch", "on_click": attempt}
    place.button(label, **words | how)


def title(run: config.Run) -> str:
    """What tells a run of the lab from the others, in its own numbers."""
    what = f"{run.network.name}, seed {run.seed}, {run.data.label}"
    return f"{what}, rate {run.recipe.lr:g}, {run.recipe.steps:,} steps"


def to_continue(
    root: Path, entries: Sequence[lab.Entry], runs: Sequence[store.RunRecord], may_start: bool
) -> None:
    """Runs that did not end, each with why and the button that goes on with it."""
    busy, notes = {entry.name for entry in entries}, lab.notes(root)
    for name, reason in notes.items():
        if name not in busy | {run.name for run in runs}:
            frame.say(f"{name}: {reason}")
    for run in runs:
        if run.name in busy or run.status not in ("interrupted", "failed"):
            continue
        reason = notes.get(run.name) or str(run.info.get("error") or "its process is gone")
        text, place = st.columns([6, 1], vertical_alignment="center")
        where = f"{run.status} after {run.steps_done:,}"
        with text:
            frame.say(f"{title(run.config)}: {where}; {reason}")
        if may_start and lab.may_be_asked(run.config):
            action = partial(lab.submit, root, [run.config])
            button(place, "Continue", f"continue {run.name}", "resume", action)


# --- the figures ------------------------------------------------------------------------------


def begun(run: store.RunRecord) -> str:
    """When the run was started last; "" where its file does not say."""
    starts = run.info.get("starts")
    last = starts[-1] if isinstance(starts, list) and starts else {}
    return str(last.get("time", "")) if isinstance(last, dict) else ""


def held(runs: list[store.RunRecord], paused: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs' metrics and gradient norms, while paused as they were at its beginning."""
    names = [run.name for run in runs]
    before = st.session_state.get("lab held")
    if paused and before is not None and before[0] == names:
        return before[1], before[2]
    now = names, cached.metrics(runs), cached.probes(runs)
    st.session_state["lab held"] = now if paused else None
    return now[1], now[2]


def figures(study: store.Study, entries: Sequence[lab.Entry]) -> None:
    """Error curves, one figure for each data set and recipe, and the gradient norms."""
    newest = sorted(study.runs, key=begun, reverse=True)
    labels = frame.labelled((title(run.config), run) for run in newest)
    busy = {entry.name for entry in entries}
    live = [label for label, run in labels.items() if run.name in busy]
    # The runs of the lesson that has just ended stay while the next one begins.
    offered = (live + [label for label in labels if label not in live])[: max(3, len(live))]
    pick, switch = st.columns([6, 1], vertical_alignment="bottom")
    hint = f"Up to {MOST_DRAWN}. At first what trains now, or the latest three."
    about: dict[str, Any] = {"first": offered, "most": MOST_DRAWN, "study": study, "place": pick}
    runs = [*frame.choose_several("Runs to look at", labels, "lab_runs", hint, **about).values()]
    if not runs:
        st.info("Choose runs to look at.", icon=":material/show_chart:")
        return
    paused = bool(entries) and frame.pause("lab_pause", switch)
    metrics, probes = held(runs, paused)
    groups = verdict.by_condition(runs)  # those that cannot be averaged get figures of their own
    for number, group in enumerate(groups.values()):
        names = [run.name for run in group]
        figure = plots.error_curves(metrics[metrics["run"].isin(names)])
        if len(groups) > 1:  # one scale, so that figures can be compared with one another
            figure.update_yaxes(range=[0, 100])
        frame.chart(figure, f"lab_curves_{number}")
        table = cached.table(group)
        sentences = [*verdict.on_degradation(table), *verdict.on_shortcuts(table)]
        # What is missing goes without saying while a lesson runs.
        frame.say(*(line for line in dict.fromkeys(sentences) if " minus " in line), length=2000)
    frame.chart(plots.gradient_norm_heatmap(probes), "lab_gradients")


page()
