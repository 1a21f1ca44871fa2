"""What every page shares: the study picker, the live line, choices, charts, tables, safe text."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import plotly.graph_objects as go
import streamlit as st

from dashboard import cached, lab, live_chart, screen, story, tables, under
from resnetlab import files, plots, store, verdict
from resnetlab.pages import document
from resnetlab.plots import lines, series

LOOK_SECONDS = 2.0  # between two looks at the files while a run trains
IDLE_SECONDS = 15.0  # and while none does: a study that is started later shows up by itself
BARS = 4  # progress bars at most
LONG = 28  # characters of a study's name that the picker has room for
KEPT = "study, kept"  # that was chosen last, while a page without a picker is shown
HERE = Path(__file__).parent
PAGES, WORDS = (
    tomllib.loads((HERE / f"{name}.toml").read_text("utf-8")) for name in ("pages", "words")
)

T = TypeVar("T")
count = document.count  # `1 run`, `1,200 runs`
shown = series.shown  # text that may hold anything on one line, for what does not interpret markup
Source = under.Source  # what a figure is drawn from, for the line under it

# --- text -------------------------------------------------------------------------------------


def say(*texts: object) -> None:
    """Show texts that may hold anything as they are, by `shown`: never as markdown.

    No sentence of ours is near the limit in characters; what is longer came out of a file.
    """
    for text in texts:
        st.text(shown(text, 2000))


def sentences(texts: Sequence[str], most: int = 100) -> None:
    """What runs or measurements say, in a frame, a sentence per line; beyond `most` to unfold."""
    if not texts:
        return
    with st.container(border=True):
        say(*texts[:most])
        if len(texts) > most:
            with st.expander(f"{len(texts) - most} more"):
                say(*texts[most:])


def section(title: str, about: str = "") -> None:
    """A heading and what stands below it."""
    st.header(title, anchor=False)
    if about:
        st.markdown(about)


def labelled(items: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Items by a label to show, in order; names that look the same get a number."""
    pairs = [(shown(name, 80), item) for name, item in items]
    labels = series.numbered([label for label, _ in pairs])
    return {label: item for label, (_, item) in zip(labels, pairs, strict=True)}


# --- choices ----------------------------------------------------------------------------------


def ask(widget: Callable[..., Any], label: str, key: str, hint: str | None = None, **more: Any) -> Any:
    """What a widget of Streamlit is set to, which stands in the page's address.

    A number that stands there and cannot be is refused with a message.
    """
    usual = more.get("value", "")
    numeric = usual is None or (isinstance(usual, int | float) and type(usual) is not bool)
    asked = _first_asked(key) if numeric else None
    value = widget(label, key=key, bind="query-params", help=hint, **more)
    if asked is not None and value != asked:
        instead = "nothing" if value is None else f"{value:g}"
        st.warning(
            f"{label} {asked:g}, as the address has it, is not possible here: {instead} is taken.",
            icon=":material/block:",
        )
    return value


def whole(label: str, key: str, hint: str, value: int | None, *, place: Any = st, **more: Any) -> Any:
    """A field for a whole number: an int or None; a float where something else was typed.

    It has no limits, which the browser would enforce in silence: who uses it says what is wrong.
    """
    # Of floats: one of whole numbers ends the page where the address says `inf`.
    usual = None if value is None else float(value)
    more = {"step": 1.0, "format": "%.0f", "value": usual} | more
    typed = ask(place.number_input, label, key, hint, **more)
    return int(typed) if typed is not None and float(typed).is_integer() else typed


def _first_asked(key: str) -> float | None:
    """The number that the address gives the widget `key`, at the page's first drawing only."""
    memory = f"{key}, looked up"
    if memory in st.session_state or key not in st.query_params:
        return None
    st.session_state[memory] = True
    try:
        return float(st.query_params[key])
    except ValueError:
        return math.nan


def choose(
    label: str,
    options: Mapping[str, T],
    key: str,
    hint: str | None = None,
    *,
    first: int = 0,
    place: Any = st,
    **more: Any,
) -> T:
    """What is chosen of the labelled options.

    At first, and where the address names none of them, it is the one at `first`. `place` is the column
    to draw in.
    """
    chosen = ask(place.selectbox, label, key, hint, options=list(options), index=first, **more)
    return options.get(str(chosen), [*options.values()][first])


def switch(
    label: str, key: str, hint: str | None = None, *, on: bool = False, place: Any = st, **more: Any
) -> bool:
    """A choice of yes or no."""
    return bool(ask(place.toggle, label, key, hint, value=on, **more))


def choose_several(
    label: str,
    options: Mapping[str, T],
    key: str,
    hint: str,
    *,
    first: Sequence[str],
    most: int,
    study: store.Study,
    place: Any = st,
) -> dict[str, T]:
    """Up to `most` of the labelled options; at first those of `first`, see `follow`."""
    usual = follow(key, first[:most], study)
    several: dict[str, Any] = {"options": list(options), "default": usual, "max_selections": most}
    several["filter_mode"] = (
        "contains"  # what is typed is found as it is, and nothing that looks like it
    )
    chosen = ask(place.multiselect, label, key, hint, **several)
    return {label: options[label] for label in chosen[:most] if label in options}


def choose_runs(
    label: str, runs: lines.Runs, study: store.Study, key: str, most: int, hint: str, each: int = 1
) -> dict[str, store.RunRecord]:
    """Up to `most` of the labelled runs.

    At first the shallowest and the deepest networks of each family in `study`, the first `each` runs
    of both.
    """
    first = []
    for family in ("plain", "residual"):
        depths = {
            label: run.network.depth
            for label, run in runs.items()
            if run.network.family == family and run.path.parent == study.path
        }
        for depth in sorted({min(depths.values()), max(depths.values())}) if depths else ():
            first += [label for label in depths if depths[label] == depth][:each]
    return choose_several(label, runs, key, hint, first=first, most=most, study=study)


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


def one_condition(runs: Sequence[store.RunRecord]) -> list[store.RunRecord]:
    """The runs of one data set, recipe and precision, chosen if there are several."""
    groups = verdict.by_condition(runs)
    if len(groups) < 2:
        return list(runs)
    named = {
        shown(f"{data} · recipe {recipe} · {precision}", 120): group
        for (data, recipe, precision), group in groups.items()
    }
    return choose(
        "Data set, recipe and precision",
        named,
        "condition",
        "This study holds runs that cannot be averaged or subtracted; choose which to look at.",
    )


# --- the study --------------------------------------------------------------------------------


def sidebar(page: str) -> None:
    """What stands beside every page: the study picker and how the page is shown.

    The choices stand in the page's address, so that a link shows what its sender saw. Where a page
    shows no one study there is no picker, and the next page has it as it was.
    """
    with st.sidebar:
        hints = WORDS["hints"]
        if PAGES[page].get("study", True) and (studies := _studies()):
            told = "study" in st.session_state or "study" in st.query_params
            if not told and st.session_state.get(KEPT) in studies:
                st.session_state["study"] = st.session_state[KEPT]
            choose("Study", studies, "study", hints["study"])
            st.session_state[KEPT] = label = st.session_state["study"]
            if len(label) > LONG:
                say(label)
        switch("Projector", "projector", hints["projector"])
        bare = switch("Hide controls", "bare", hints["bare"])
    screen.look()
    for name, wanted in {"page": True, "projector": projector(), "bare": bare}.items():
        if wanted:
            st.html(HERE / "styles" / f"{name}.css")
    if bare:
        leave = partial(st.session_state.update, bare=False)
        st.button("Show controls", on_click=leave, icon=":material/tune:", type="tertiary")


def projector() -> bool:
    """Whether the page is shown to a hall."""
    return bool(st.session_state.get("projector"))


def head(page: str, **values: object) -> None:
    """The page's title and introduction from pages.toml, with `values` in it."""
    st.title(PAGES[page]["title"], anchor=False)
    st.markdown(PAGES[page]["intro"].format(**values))


def open_study(page: str, **values: object) -> store.Study:
    """Draw the page's head; the chosen study. Ends the page if there is none."""
    head(page, **values)
    study = chosen_study()
    if study is None:
        _no_results(cached.root())
        _watch(None)
        st.stop()
    _watch(study)
    if not study.runs:
        waiting = f", {count(len(queued), 'run')} queued" if (queued := study.queued()) else ""
        st.info(f"This study has no readable run yet{waiting}.", icon=":material/hourglass_empty:")
    return study


def chosen_study() -> store.Study | None:
    """The study that the picker has; the first one if the address names none that is there."""
    studies = _studies()
    chosen = st.session_state.get("study", st.session_state.get(KEPT))
    path = studies.get(str(chosen), next(iter(studies.values()), None))
    return cached.study(path) if path else None


def place(path: Path) -> str:
    """`digits` for a study of the user's own, `reference/digits` for one that ships."""
    return store.label_of(path, cached.root())


def _studies() -> dict[str, Path]:
    """By label, in the order in which they are offered; the first is shown if none is asked for."""
    paths = store.find_studies(cached.root())
    first = story.leading()
    others = (path.parent.name == store.REFERENCE and path.name != first for path in paths)
    # Last what the live lab trained: whatever was tried there is no finding to begin with.
    order = {path: (path.name == lab.STUDY, other) for path, other in zip(paths, others, strict=True)}
    paths.sort(key=order.__getitem__)
    return labelled((place(path), path) for path in paths)


def _no_results(root: Path) -> None:
    reason = store.unreadable(root)
    if reason:
        st.error("The results folder cannot be read.", icon=":material/folder_off:")
        say(f"{reason}: {root.absolute()}")
        st.markdown(WORDS["no results folder"])
        return
    st.info("There are no results yet.", icon=":material/folder_open:")
    st.markdown(WORDS["no results"].format(study=files.to_type("study")))
    st.code(shown(root.absolute(), 1000), language=None)


# --- live -------------------------------------------------------------------------------------


def redraw_when_changed(state: Callable[[], Any], every: float | None) -> None:
    """Look at `state()` every so many seconds; draw the page again when it is not what it was.

    What `state` draws changes at every look.
    """
    drawn: list[Any] = []  # the first look belongs to the drawing of the page itself

    def look() -> None:
        now = state()
        if not drawn:
            drawn.append(now)
        elif now != drawn[0]:
            st.rerun()

    st.fragment(look, run_every=every)()


def pause(key: str, place: Any) -> bool:
    return bool(place.toggle("Pause", key=key, help=WORDS["hints"]["pause"]))


def _watch(study: store.Study | None) -> None:
    """Look at the files now and then; draw the page again only when they changed."""
    running = bool(_running(study))
    live(running)
    where, paused = st.container(), False
    if running:
        where, beside = st.columns([6, 1], vertical_alignment="top")
        paused = pause("pause", beside)

    def state() -> Any:
        """What the page depends on; without a study, whether there is one by now."""
        now = cached.study(study.path) if study else None
        _show_running(_running(now), paused)
        if paused:
            return None
        return cached.state(now) if now else bool(store.find_studies(cached.root()))

    with where:
        redraw_when_changed(state, None if paused else LOOK_SECONDS if running else IDLE_SECONDS)


def _running(study: store.Study | None) -> list[store.RunRecord]:
    return [run for run in study.runs if run.status == "running"] if study else []


def _show_running(running: Sequence[store.RunRecord], paused: bool) -> None:
    """The live line, and how far the first few runs are."""
    if not running:
        return
    line = f":green-badge[:material/sensors: live] {count(len(running), 'run')} training"
    st.markdown(line + (", picture paused" if paused else ""))
    for column, run in zip(st.columns(min(len(running), BARS)), running, strict=False):
        planned, step = run.config.recipe.steps, run.info.get("step")
        done = min(step, planned) if type(step) is int and step > 0 else 0
        column.progress(done / planned, text=f"{run.config.label}: step {done:,} of {planned:,}")


def live(training: bool) -> None:
    """Say whether the page's charts are about to grow: `chart` then keeps the reader's zoom."""
    st.session_state["live"] = training
    if training:
        live_chart.offer()


def keep_zoom() -> None:
    """Keep what the reader zoomed into: for pages whose choices draw their charts anew."""
    if not st.session_state.get("live"):
        live(True)


# --- charts -----------------------------------------------------------------------------------


def chart(
    figure: go.Figure,
    key: str,
    config: Mapping[str, Any] | None = None,
    *,
    source: Source | None = None,
    alt: str = "",
    seconds: float = 0.0,
    share: float = 1.0,
    high: int = 0,
    **clicks: Any,
) -> None:
    """A figure of `plots` in the page's width, or in `share` of it; `high` are its pixels at most.

    `config` is Plotly's, `clicks` are Streamlit's.

    With `source` a line stands under it: its link, how it is made again, its values, its notebook.
    `alt` says what is seen to those who do not see it; without it title and subtitle do. With `seconds`
    its curves draw themselves in that time, on a page that has called `live(True)`.

    It is drawn in the page's ink, as far as the browser has told which; with the projector on larger
    and in full contrast. It keeps the background of its theme, the page's, so that a saved picture can
    be read anywhere.
    """
    kind = st.context.theme.type
    plots.themed(figure, kind if kind in ("light", "dark") else "neutral")
    spoken = shown(alt or re.sub(r"<[^>]*>", " ", figure.layout.title.text or key), 1000)
    if screen.narrow():
        plots.stack(figure)
    elif projector():
        rows = len({axis.domain for axis in figure.select_yaxes()})
        factor = 1.6 if share > 0.75 else 1.35 if share > 0.5 else 1.25
        # On a screen of a given height two rows of panels have no room for larger type.
        larger = plots.enlarge(figure, 1.05 if high and rows > 1 else factor, share)
        larger.update_layout(font_color="#ffffff" if kind == "dark" else "#000000")
    if high and not screen.narrow():
        plots.compact(figure, high)
    points, logged = plots.thin_lines(figure)
    options = plots.CONFIG | dict(config or {})
    with st.container(key=f"figure {key}"):
        if source is not None:  # a heading that is not seen: the link leads to it
            under.anchor(key, spoken)
        if st.session_state.get("live") and not clicks:
            same = f"{st.session_state.get('study')} {figure.layout.uirevision or ''}"
            live_chart.show(figure, f"live {key}", same, spoken, options, seconds)
        else:
            look: dict[str, Any] = {"width": "stretch", "theme": None, "config": options, "alt": spoken}
            st.plotly_chart(figure, key=key, **look, **clicks)
        if points < logged:
            st.caption(f"{points:,} of {logged:,} points: the lowest and highest of every stretch.")
        if source is not None:
            under.line(source, key)


def alt(head: str, sentences: Sequence[str]) -> str:
    """What a figure shows, for who does not see it: what it is, and what is to be said of it."""
    return " ".join([head, *sentences])


# --- tables -----------------------------------------------------------------------------------


table, number, text = tables.table, tables.number, tables.text


def columns(name: str) -> dict[str, Any]:
    """Those of words.toml under that name: with a `form` columns of numbers, else of text."""
    parts = WORDS["columns"][name].items()
    return {key: number(**about) if "form" in about else text(**about) for key, about in parts}


# What the outcomes of runs are called in every table, and what they mean.
MEANING: dict[str, tuple[str, str]] = {name: tuple(words) for name, words in WORDS["meaning"].items()}
