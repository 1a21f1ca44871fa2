"""A network trained in front of the class: choose, predict, start, watch it grow, stop."""

import time
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

KNOWN = "digits"  # the committed study whose curves lie pale beneath
GUESSES = "lab guesses"  # network -> predicted final training error, percent
MOST_GUESSES = 4
PHASES = {
    "starting": "starting: its process loads the libraries",
    "ending": "done, its process ends",
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
    wish: config.Network | None = None
    where: Any = st
    if may_start:
        form, where = st.columns([1, 2.4], gap="medium")
        with form:
            wish = controls(root)
    else:
        st.info(frame.WORDS["lab closed" if on else "lab off"], icon=":material/lock:")
    busy = bool(lab.look(root))
    frame.live(busy)
    every = LOOK_SECONDS if busy else frame.IDLE_SECONDS
    with where.container():
        st.fragment(live, run_every=every)(root, busy, may_start, wish)


def live(root: Path, was_busy: bool, may_start: bool, wish: config.Network | None) -> None:
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
    figures(root, study, entries, wish, may_start)
    to_continue(root, entries, study.runs, may_start)


# --- what is asked for ------------------------------------------------------------------------


def message(icon: str, head: str, lines: Iterable[str]) -> None:
    """A message whose lines may hold anything."""
    with st.container(border=True, gap="xsmall"):
        st.markdown(f":material/{icon}: **{head}**")
        frame.say(*lines)


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


def controls(root: Path) -> config.Network | None:
    """The lesson's button and the form; the network that it is set to.

    What the browser sends is checked by the library.
    """
    with st.container(border=True):
        st.markdown(frame.WORDS["the lesson"].format(steps=lab.LESSON_STEPS))
        look: dict[str, Any] = {"type": "primary", "icon": ":material/school:", "width": "stretch"}
        taught = st.button("Start the lesson", key="lesson", **look)
    with st.container(border=True):
        hints = frame.WORDS["lab"]
        slide: dict[str, Any] = {"options": lab.DEPTHS, "value": 20}
        depth = frame.ask(st.select_slider, "Depth (6n+2)", "lab_depth", hints["depth"], **slide)
        shortcut = frame.choose("Shortcut", SHORTCUTS, "lab_shortcut")
        scale = 1.0
        if shortcut != "none":
            slide = {"options": lab.SCALES, "value": 1.0}
            scale = frame.ask(st.select_slider, "Shortcut scale", "lab_scale", hints["scale"], **slide)
        slide = {"options": lab.RATES, "value": 0.1}
        rate = frame.ask(st.select_slider, "Learning rate", "lab_lr", hints["rate"], **slide)
        with st.expander("Data, steps and seed"):
            images = {name: name for name in lab.data_sets()}
            data = frame.choose("Data", images, "lab_data", hints["data"])
            most = hints["steps"].format(most=lab.MOST_STEPS)
            usual = lab.LESSON_STEPS
            steps = frame.whole("Steps", "lab_steps", most, usual, step=100.0)
            seed = frame.whole("Seed", "lab_seed", hints["seed"], 0)
        start = st.button("Start", icon=":material/play_arrow:", key="start", width="stretch")
    if taught:
        ask(root, lambda: lab.LESSON)
    if start:
        ask(root, lambda: [lab.asked(depth, shortcut, rate, data, steps, seed, scale)])
    try:
        return lab.asked(depth, shortcut).network
    except UsageError:
        return None


def guesses(networks: Sequence[str]) -> dict[str, float]:
    """What the class predicts for each network, percent; nothing until it is asked."""
    hint = "Of the final training error, a slider for each network on screen: dotted in the chart."
    if not frame.switch("Predict", "lab_predict", hint):
        return {}
    kept: dict[str, float] = st.session_state.setdefault(GUESSES, {})
    names = list(dict.fromkeys(networks))[:MOST_GUESSES]
    for place, name in zip(st.columns(max(1, len(names))), names, strict=False):
        # Kept apart from the widget, which goes when its network leaves the screen.
        usual = int(kept.get(name, 50))
        slide: dict[str, Any] = {"min_value": 0, "max_value": 100, "value": usual, "format": "%d %%"}
        kept[name] = float(place.slider(name, key=f"lab guess {name}", **slide))
    return {name: kept[name] for name in names}


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
        if entry.phase == "starting" and entry.since:
            state += f", {max(0.0, time.time() - entry.since):.0f} s"
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


def held(runs: list[store.RunRecord], paused: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs' metrics and gradient norms, while paused as they were at its beginning."""
    names = [run.name for run in runs]
    before = st.session_state.get("lab held")
    if paused and before is not None and before[0] == names:
        return before[1], before[2]
    now = names, cached.metrics(runs), cached.probes(runs)
    st.session_state["lab held"] = now if paused else None
    return now[1], now[2]


def figures(
    root: Path,
    study: store.Study,
    entries: Sequence[lab.Entry],
    wish: config.Network | None,
    may_start: bool,
) -> None:
    """Error curves, one figure for each data set and recipe, and the gradient norms.

    From the first second: before a run has rows, over what is known of its network.
    """
    newest = sorted(study.runs, key=store.begun, reverse=True)
    labels = frame.labelled((title(run.config), run) for run in newest)
    busy = {entry.name for entry in entries}
    live = [label for label, run in labels.items() if run.name in busy]
    # The runs of the lesson that has just ended stay while the next one begins.
    offered = (live + [label for label in labels if label not in live])[: max(3, len(live))]
    pick, switch = st.columns([6, 1], vertical_alignment="bottom")
    hint = f"Up to {MOST_DRAWN}. At first what trains now, or the latest three."
    about: dict[str, Any] = {"first": offered, "most": MOST_DRAWN, "study": study, "place": pick}
    runs: list[store.RunRecord] = []
    if labels:
        runs = [*frame.choose_several("Runs to look at", labels, "lab_runs", hint, **about).values()]
    paused = bool(entries) and frame.pause("lab_pause", switch)
    metrics, probes = held(runs, paused)
    names = [run.network.name for run in runs] + [entry.run.network.name for entry in entries]
    names += [wish.name] if wish else []
    levels = guesses(names)
    both = [f"{kind}-{wish.depth}" for kind in ("plain", "resnet")] if wish else []
    # What is known would give away what is asked.
    ghosts = known([] if levels else [*names, *both])
    groups = [*verdict.by_condition(runs).values()] or [
        []
    ]  # what cannot be averaged: figures of its own
    for number, group in enumerate(groups):
        rows = metrics[metrics["run"].isin([run.name for run in group])]
        figure = plots.playground(rows, ghosts, levels)
        source = frame.Source(rows, study=study) if group else None
        table = cached.table(group)
        sentences = [*verdict.on_degradation(table), *verdict.on_shortcuts(table)]
        alt = frame.alt("Error during training of the runs of the lab.", sentences)
        frame.chart(figure, f"lab_curves_{number}", source=source, alt=alt)
        # What is missing goes without saying while a lesson runs.
        frame.say(*(line for line in dict.fromkeys(sentences) if " minus " in line))
    frame.say(*(told_apart(run, levels) for run in runs if run.network.name in levels))
    if runs and may_start:
        wanted = partial(lab.submit, root, lab.more_seeds([run.config for run in runs]))
        button(st, "Three more seeds of each", "more seeds", "add", wanted, width="content")
    if runs:
        alt = frame.alt("Gradient norm of every layer by step.", verdict.on_gradients(probes))
        source = frame.Source(probes, "03_gradient_norms", study)
        frame.chart(plots.gradient_norm_heatmap(probes), "lab_gradients", source=source, alt=alt)
    elif not entries:
        st.info("No run has been started here yet.", icon=":material/hourglass_empty:")


def known(names: Sequence[str]) -> pd.DataFrame:
    """The rows of finished committed runs of these networks."""
    for path in store.find_studies(cached.root()):
        if path.name == KNOWN and path.parent.name == store.REFERENCE:
            runs = [run for run in cached.study(path).runs if run.config.network_name in names]
            return cached.metrics([run for run in runs if run.status == "finished"])
    return pd.DataFrame()


def told_apart(run: store.RunRecord, levels: Mapping[str, float]) -> str:
    """The prediction beside what came of it."""
    level, error = levels[run.network.name], (run.summary or {}).get("train_error")
    if run.status != "finished" or not isinstance(error, int | float):
        return f"{run.config.label}: {level:.0f} % predicted."
    off = error - level
    return (
        f"{run.config.label}: {level:.0f} % predicted, {error:.1f} % measured, {off:+.1f} points apart."
    )


page()
