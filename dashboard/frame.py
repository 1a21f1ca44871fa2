"""What every page shares: the study picker, the live line, charts, and names made safe to show."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import cached, live_chart
from resnetlab import plots, store

LOOK_SECONDS = 2.0  # between two looks at the files while a run trains
IDLE_SECONDS = 15.0  # and while none does: a study that is started later shows up by itself
BARS = 4  # progress bars at most
FIRST = "digits"  # the committed study that a fresh clone opens on: what `make study` makes

T = TypeVar("T")

# --- text -------------------------------------------------------------------------------------


def shown(text: object, length: int = 400) -> str:
    """Text from a file or folder name on one line: what cannot be printed becomes a mark, long is cut.

    Markup stays as it is: give the result only to elements that do not interpret it (st.text,
    st.dataframe, selectbox options), never to markdown.
    """
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return line if len(line) <= length else line[: length - 1] + "…"


def labelled(items: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Items by a label to show, in order; names that look the same get a number."""
    found: dict[str, T] = {}
    for name, item in items:
        label = base = shown(name, 80)
        number = 1
        while label in found:
            number += 1
            label = f"{base} ({number})"
        found[label] = item
    return found


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


# --- the study --------------------------------------------------------------------------------


def sidebar() -> None:
    """What stands beside every page: the study picker and how the page is shown.

    The choices stand in the page's address, so that a link shows what its sender saw.
    """
    _pick_study()
    st.sidebar.toggle(
        "Projector",
        key="projector",
        bind="query-params",
        help="Large type, thick lines, full contrast: for the back row of a hall.",
    )
    st.sidebar.toggle(
        "Hide controls",
        key="bare",
        bind="query-params",
        help="Only figures and words: for a slide, or a link that shows one thing. The page's address "
        "holds everything chosen here; copy it to share.",
    )
    st.html(f"<style>{_PAGE}{_PROJECTOR if projector() else ''}</style>")
    if st.session_state.get("bare"):
        st.html(f"<style>{_BARE}</style>")
        st.button("Show controls", icon=":material/tune:", type="tertiary", on_click=_show_controls)


def projector() -> bool:
    """Whether the page is shown to a hall."""
    return bool(st.session_state.get("projector"))


def _show_controls() -> None:
    st.session_state["bare"] = False


# Streamlit's own names of its parts: without them these rules do nothing, and a browser test notices.
_PAGE = """
[data-testid="stMainBlockContainer"] { padding: 3rem 2.5rem 4rem; max-width: 1500px; }
"""
_PROJECTOR = """
[data-testid="stMain"] { font-size: 1.5rem; }
[data-testid="stMain"] p, [data-testid="stMain"] li, [data-testid="stMain"] label p,
[data-testid="stText"], [data-testid="stText"] * { font-size: 1.5rem !important; line-height: 1.5; }
[data-testid="stMain"] button p { font-size: 1.05rem !important; }
[data-testid="stElementContainer"]:has([data-testid="stDataFrame"]) {
    zoom: 1.15; width: 87% !important; }
[data-testid="stColumn"] [data-testid="stElementContainer"]:has([data-testid="stDataFrame"]) {
    zoom: 1; width: 100% !important; }
[data-testid="stMain"] h1 { font-size: 3.2rem; }
[data-testid="stMain"] h2 { font-size: 2.4rem; }
[data-testid="stMainBlockContainer"] { padding-top: 2rem; max-width: 100%; }
[data-testid="stMain"] label:has([role="switch"]), [data-testid="stCheckbox"] label {
    align-items: center; }
"""
_BARE = """
[data-testid="stSidebar"], [data-testid="stSidebarCollapsedControl"],
[data-testid="stExpandSidebarButton"], [data-testid="stSelectbox"], [data-testid="stMultiSelect"],
[data-testid="stSlider"], [data-testid="stSelectSlider"], [data-testid="stCheckbox"],
[data-testid="stSegmentedControl"], [data-testid="stNumberInput"], [data-testid="stButtonGroup"],
[data-testid="stDownloadButton"], [data-testid="stHeader"] { display: none; }
"""


def _pick_study() -> None:
    studies = _studies()
    if studies:
        st.sidebar.selectbox(
            "Study",
            list(studies),
            key="study",
            bind="query-params",
            help="Your own studies come first, then the reference studies that ship with the project.",
        )


def open_study(title: str, intro: str) -> store.Study:
    """Draw the page's head; the chosen study. Ends the page if there is none."""
    st.title(title, anchor=False)
    st.markdown(intro)
    studies = _studies()
    if not studies:
        _no_results(cached.root())
        _watch(None)
        st.stop()
    # The first one if the address names none or one that is not there.
    path = studies.get(str(st.session_state.get("study")), next(iter(studies.values())))
    study = cached.study(path)
    _watch(study)
    if not study.runs:
        st.info("This study has no readable run yet.", icon=":material/hourglass_empty:")
    return study


def follow(key: str, offered: Any, study: store.Study) -> Any:
    """The default to give the widget `key`: `offered`, or None if it has just been set to that.

    A choice made by hand stays while the page shows the same study; an untouched widget follows what
    is offered as runs grow and appear.
    """
    memory = f"{key}, as offered"
    before = st.session_state.get(memory)
    st.session_state[memory] = (study.path, offered)
    if before is None or before == (study.path, offered):
        return offered
    if before[0] == study.path and st.session_state.get(key) != before[1]:
        return offered
    st.session_state[key] = offered
    return None


def _studies() -> dict[str, Path]:
    """By label, in the order in which they are offered; the first is shown if none is asked for."""
    root = cached.root()
    paths = store.find_studies(root)
    paths.sort(key=lambda path: path.parent.name == store.REFERENCE and path.name != FIRST)
    return labelled((_place(path, root), path) for path in paths)


def _place(path: Path, root: Path) -> str:
    """`digits` for a study of the user's own, `reference/digits` for one that ships."""
    return path.relative_to(root).as_posix()


def unreadable(folder: Path) -> str:
    """Why a folder cannot be listed, in the system's words; "" if it can or is not there."""
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _no_results(root: Path) -> None:
    reason = unreadable(root)
    if reason:
        st.error("The results folder cannot be read.", icon=":material/folder_off:")
        st.text(shown(f"{reason}: {root.absolute()}", 1000))
        st.markdown("Mend that, or name another one: `resnetlab dashboard --results FOLDER`.")
        return
    st.info("There are no results yet.", icon=":material/folder_open:")
    st.markdown("Train the default study (a few minutes on two cores) in a terminal:")
    st.code("make study", language="bash")
    st.markdown("or a smaller one:")
    st.code("resnetlab study digits --depths 8,14 --steps 100", language="bash")
    st.markdown("This page fills by itself as soon as the first run begins. The folder it looks at is")
    st.code(shown(root.absolute(), 1000), language=None)


def one_condition(runs: Sequence[store.RunRecord]) -> list[store.RunRecord]:
    """The runs of one data set, recipe and precision, chosen if there are several."""

    def condition(run: store.RunRecord) -> str:
        parts = (run.config.data.label, f"recipe {run.config.recipe.label}", run.config.precision)
        return shown(" · ".join(parts), 120)

    found = [name for name, _ in Counter(condition(run) for run in runs).most_common()]
    if len(found) < 2:
        return list(runs)
    choice = st.selectbox(
        "Data set, recipe and precision",
        found,
        key="condition",
        bind="query-params",
        help="This study holds runs that cannot be averaged or subtracted; choose which to look at.",
    )
    return [run for run in runs if condition(run) == (choice if choice in found else found[0])]


# --- live -------------------------------------------------------------------------------------


def _watch(study: store.Study | None) -> None:
    """Look at the files now and then; draw the page again only when they changed."""
    running = _running(study) if study else []
    live(bool(running))
    place, paused = st.container(), False
    if running:
        place, switch = st.columns([6, 1], vertical_alignment="top")
        paused = switch.toggle(
            "Pause",
            key="pause",
            help="Hold the picture still. Without it, charts grow and keep your zoom.",
        )
    every = None if paused else LOOK_SECONDS if running else IDLE_SECONDS
    state = cached.state(study) if study else ()
    with place:
        st.fragment(_look, run_every=every)(study, state, time.monotonic(), paused)


def live(training: bool) -> None:
    """Say whether the page's charts are about to grow: `chart` then keeps the reader's zoom."""
    st.session_state["live"] = training
    if training:
        live_chart.offer()


def _look(drawn: store.Study | None, state: tuple[Any, ...], since: float, paused: bool) -> None:
    # The first look belongs to the drawing of the page itself, which has just read the study.
    first = time.monotonic() - since < LOOK_SECONDS / 2
    study = drawn if first or drawn is None else cached.study(drawn.path)
    running = _running(study) if study else []
    if running:
        live = f":green-badge[:material/sensors: live] {count(len(running), 'run')} training"
        st.markdown(live + (", picture paused" if paused else ""))
        columns = st.columns(min(len(running), BARS))
        for column, run in zip(columns, running, strict=False):
            _bar(column, run)
    if paused or first:
        return
    there = bool(store.find_studies(cached.root()))
    if there if study is None else cached.state(study) != state:
        st.rerun()


def _running(study: store.Study) -> list[store.RunRecord]:
    return [run for run in study.runs if run.status == "running"]


def _bar(place: DeltaGenerator, run: store.RunRecord) -> None:
    planned = run.config.recipe.steps
    step = run.info.get("step")
    done = min(step, planned) if type(step) is int and step > 0 else 0
    place.progress(done / planned, text=f"{run.config.label}: step {done:,} of {planned:,}")


# --- charts -----------------------------------------------------------------------------------


def theme() -> plots.Theme:
    """The ink of figures: that of the page, as far as the browser has told."""
    kind = st.context.theme.type
    return kind if kind in ("light", "dark") else "neutral"


def for_hall(figure: go.Figure) -> go.Figure:
    """The figure, in place: with the projector on, larger and in full contrast."""
    if projector():
        dark = st.context.theme.type == "dark"
        plots.enlarge(figure).update_layout(font_color="#ffffff" if dark else "#000000")
    return figure


def chart(figure: go.Figure, key: str, config: Mapping[str, Any] | None = None) -> None:
    """A figure of `plots` in the page's width. `config` is Plotly's.

    It keeps the background of its theme, the page's, so that a saved picture can be read anywhere.
    """
    for_hall(figure)
    shown_points, logged = plots.thin_lines(figure)
    options = plots.CONFIG | dict(config or {})
    if st.session_state.get("live"):
        live_chart.show(figure, f"live {key}", str(st.session_state.get("study")), options)
    else:
        st.plotly_chart(figure, key=key, width="stretch", theme=None, config=options)
    if shown_points < logged:
        st.caption(f"{shown_points:,} of {logged:,} points: the lowest and highest of every stretch.")


# --- tables -----------------------------------------------------------------------------------


def number(label: str, hint: str | None = None, form: str = "%.2f") -> Any:
    """A column of numbers: heading with its unit, what it means on hover, two decimals by default."""
    return st.column_config.NumberColumn(label, help=hint, format=form)


def text(label: str, hint: str | None = None, **options: Any) -> Any:
    """A column of text, shown as it is."""
    return st.column_config.TextColumn(label, help=hint, **options)


# What the outcomes of runs are called in every table, and what they mean.
MEANING = {
    "train_error": ("Train (%)", "Running error: augmented images, training mode."),
    "train_error_clean": (
        "Train, clean (%)",
        "A full pass over the training images after the last step, evaluation mode.",
    ),
    "validation_error": ("Validation (%)", "On the held-out part of the training set."),
    "test_error": ("Test (%)", "Whole test set, single view, at the last step, not the best."),
    "seconds": ("Time (s)", "Training only, without set-up."),
    "images_per_second": ("Images/s", "Median over the training, tests excluded."),
}
