"""Why it fails, why it works: what the question notebooks measured, in the order of the story."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import cached, frame
from resnetlab import plots, store, verdict
from resnetlab.config import UsageError

AT_ONCE = 6  # sentences of a section; more can be unfolded


Draw = Callable[[pd.DataFrame], go.Figure]
Say = Callable[[pd.DataFrame], Sequence[str]]


@dataclass(frozen=True)
class Section:
    """One step of the story, as why.toml has it, with its figures and what is said of its values."""

    name: str
    draw: Sequence[Draw]
    say: Say
    title: str
    about: str
    notebook: str
    studies: Sequence[str] = ()  # that are compared; else the measurement of the section's name
    trained: bool = True  # what is measured are trained networks, made by a recipe


# --- the story --------------------------------------------------------------------------------


def norms(values: pd.DataFrame) -> pd.DataFrame:
    return values[values["quantity"] == "gradient_norm"]


def norms_said(values: pd.DataFrame) -> list[str]:
    """As notebook 03 says it."""
    halves = {str(norm): half for norm, half in norms(values).groupby("norm")}
    pairs = [(norm, verdict.on_first_layer_norms) for norm in plots.NORMS]
    pairs.append((plots.NORMS[0], verdict.on_gradients))
    return [
        f"{norm.capitalize()}. {sentence}"
        for norm, say in pairs
        if norm in halves
        for sentence in say(halves[norm])
    ]


def initial_norms(values: pd.DataFrame) -> go.Figure:
    return plots.at_initialisation(norms(values), "gradient_norm")


def responses(values: pd.DataFrame) -> go.Figure:
    far = bool(values["value"].max() > 10 * values["value"].median())  # as in notebook 07
    return plots.layer_responses(values, log=far)


def rounding_by_layer(values: pd.DataFrame) -> go.Figure:
    depths = values["depth"]
    return plots.gradient_error_by_layer(values[depths.isin([depths.min(), depths.max()])])


by_steps = partial(plots.error_by_condition, by="steps_planned")
by_precision = partial(plots.error_by_condition, by="precision")
SHOWN: dict[str, tuple[Sequence[Draw], Say]] = {
    "same-function": ([], verdict.on_same_function),
    "trained-on": ([plots.trained_on], verdict.on_kept),
    "at-initialisation": ([initial_norms], norms_said),
    "gradient-correlation": ([plots.gradient_correlation], verdict.on_correlations),
    "shortcut-dial": ([plots.shortcut_dial], verdict.on_dial),
    "lesions": ([plots.lesions], verdict.on_lesions),
    "loss-surface": ([plots.loss_surfaces], verdict.on_surfaces),
    "layer-responses": ([responses], verdict.on_responses),
    "times-longer": ([by_steps], verdict.on_more_steps),
    "gradient-error": ([rounding_by_layer, plots.gradient_error_by_depth], verdict.on_rounding),
    "precisions": ([by_precision], verdict.on_precisions),
}
TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
STORY = [Section(name, *SHOWN[name], **words) for name, words in TEXTS.items()]


# --- where the values come from ---------------------------------------------------------------

Read = Callable[[], tuple[pd.DataFrame, str]]  # the values, and in words what they are


def sources(section: Section) -> dict[str, Read]:
    """What there is of a section by the name of the study, the user's own before committed ones."""
    if not section.studies:
        paths = store.find_measurements(section.name, cached.root())
        own = cached.root() / store.MEASUREMENTS
        return {store.label_of(path.parent, own): partial(measured, path) for path in paths}
    pattern, *others = section.studies
    comparisons: dict[str, Read] = {}
    for path in store.find_studies(cached.root()):
        if usual := re.fullmatch(pattern, path.name):
            names = [path.name, usual[1], *(other.format(usual[1]) for other in others)]
            comparisons.setdefault(usual[1], partial(trained, names))
    return comparisons


def measured(path: Path) -> tuple[pd.DataFrame, str]:
    """The values of a measurement's file."""
    measurement = cached.measurement(path)
    info, choices = measurement.info, measurement.info.get("choices")
    pairs = choices.items() if isinstance(choices, dict) else ()
    parts = [str(info.get("what")), ", ".join(f"{key}: {value}" for key, value in pairs)]
    parts.append(f"measured {str(info.get('created'))[:10]}, commit {info.get('commit')}")
    return measurement.frame, "; ".join(filter(None, parts))


def trained(names: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """The runs of these studies, the user's own before committed ones of the same name.

    Only networks of the first study are taken.
    """
    runs: dict[tuple[str, str], store.RunRecord] = {}
    for path in store.find_studies(cached.root()):
        if path.name in names:
            for run in cached.study(path).runs:
                runs.setdefault((path.name, run.name), run)
    table = store.table_of(runs.values())
    table = table[table["network"].isin(table[table["study"] == names[0]]["network"])]
    return table, f"runs of {', '.join(sorted(table['study'].unique()))}"


# --- the page ---------------------------------------------------------------------------------


def page() -> None:
    frame.head("why")
    # A notebook that measures while the page is open fills it.
    frame.redraw_when_changed(state, frame.IDLE_SECONDS)
    for section in STORY:
        show(section)


def show(section: Section) -> None:
    """What there is of a step of the story, or the command that makes it."""
    frame.section(section.title, section.about)
    known = frame.labelled(sources(section).items())
    command = f"resnetlab notebook {section.notebook}"
    if not known:
        st.info("Not measured yet. This measures it:", icon=":material/hourglass_empty:")
        st.code(command, language="bash")
        return
    read = next(iter(known.values()))
    if len(known) > 1:
        key = re.sub(r"\W+", "-", section.title.lower()).strip("-")
        read = frame.choose("Measured in", known, key)
    label = next(label for label, item in known.items() if item is read)
    try:
        values, origin = read()
        figures = [draw(values) for draw in section.draw]
        sentences = section.say(values)
    except Exception as error:  # a file of another shape: whatever it lacks must not end the page
        reason = f"its values are not those of this figure ({type(error).__name__}: {error})"
        frame.say(f"Cannot be shown: {error if isinstance(error, UsageError) else reason}", length=1000)
        st.markdown("This measures it again:")
        st.code(command, language="bash")
        return
    if section.trained and {"data", "recipe"} <= set(values.columns):
        frame.say(*verdict.on_other_recipe(values))
    for number, figure in enumerate(figures):
        frame.chart(figure, f"{section.title} {number}")
    frame.sentences(sentences, AT_ONCE)
    frame.say(f"{label}: {origin}. Notebook {section.notebook}.", length=1000)


def state() -> Any:
    """What the page depends on; equal means that nothing has to be drawn again."""
    root = cached.root()
    places = [place / store.MEASUREMENTS for place in (root, store.reference_root(root))]
    paths = [path for place in places for path in sorted(place.glob("*/*.json"))]
    stamps = [(path, cached.stamp(path.parent, [path.name])) for path in paths]
    return [path.name for path in store.find_studies(root)], stamps


page()
