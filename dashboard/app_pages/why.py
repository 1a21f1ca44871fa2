"""Why it fails, why it works: what the question notebooks measured, in the order of the story."""

from __future__ import annotations

import re
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


@dataclass(frozen=True)
class Section:
    """One step of the story.

    `source` names a measurement, or says which runs are compared: a pattern of the study's folder that
    makes the comparison, whose group is the name of the usual study, and further folders, `{}` for
    that name.
    """

    title: str
    about: str
    notebook: str
    source: str | tuple[str, ...]
    draw: Callable[[pd.DataFrame], Sequence[go.Figure]]
    say: Callable[[pd.DataFrame], Sequence[str]]


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


def responses_drawn(values: pd.DataFrame) -> list[go.Figure]:
    far = bool(values["value"].max() > 10 * values["value"].median())  # as in notebook 07
    return [plots.layer_responses(values, log=far)]


def rounding_drawn(values: pd.DataFrame) -> list[go.Figure]:
    ends = values[values["depth"].isin([values["depth"].min(), values["depth"].max()])]
    by_layer = plots.gradient_error_by_layer(ends)
    return [by_layer, plots.gradient_error_by_depth(values)]


STORY = (
    Section(
        "Does a deep solution exist?",
        "A trained shallow network, with layers appended that change nothing, is a deep network with "
        "the same error: the argument of Sec. 1, built by hand. Is it the same function?",
        "02_constructed_solution",
        "same-function",
        lambda values: [],
        verdict.on_same_function,
    ),
    Section(
        "Does training keep it?",
        "Trained on from there at several rates: does SGD keep the solution that it was given? The "
        "paper says that solvers do not find one (Sec. 1), not what becomes of one.",
        "02_constructed_solution",
        "trained-on",
        lambda values: [plots.trained_on(values)],
        verdict.on_kept,
    ),
    Section(
        "Is it vanishing gradients?",
        "The usual suspect is a gradient that dies on its way down. With batch norm the paper found "
        "*healthy norms* (Sec. 4.1) and gave no number. Here is every layer before the first step, "
        "with batch norm and without.",
        "03_gradient_norms",
        "at-initialisation",
        lambda values: [plots.at_initialisation(norms(values), "gradient_norm")],
        norms_said,
    ),
    Section(
        "What breaks instead? Gradients at neighbouring inputs",
        "A gradient is useful if it still holds one small step further. The cosine between gradients "
        "at neighbouring inputs, at initialisation: 1 says the same, 0 something unrelated "
        "(Balduzzi et al. 2017; not in the paper).",
        "03_gradient_norms",
        "gradient-correlation",
        lambda values: [plots.gradient_correlation(values)],
        verdict.on_correlations,
    ),
    Section(
        "How much shortcut is enough?",
        "One network, y = F(x) + a x, with the shortcut at every strength from none (plain) to whole "
        "(residual). Not in the paper.",
        "04_shortcut_dial",
        "shortcut-dial",
        lambda values: [plots.shortcut_dial(values)],
        verdict.on_dial,
    ),
    Section(
        "What if blocks are taken away?",
        "Trained networks lose blocks when they are tested, one at a time and several at random (after "
        "Veit et al. 2016; not in the paper). Which networks need every block?",
        "04_shortcut_dial",
        "lesions",
        lambda values: [plots.lesions(values)],
        verdict.on_lesions,
    ),
    Section(
        "What does the loss surface look like?",
        "The loss on a plane through the trained weights, along two random directions, each filter of "
        "them as long as the network's own (Li et al. 2018; not in the paper). A slice shows 2 of "
        "hundreds of thousands of directions, and training followed neither.",
        "08_loss_surface",
        "loss-surface",
        lambda values: [plots.loss_surfaces(values)],
        verdict.on_surfaces,
    ),
    Section(
        "How much does each layer add?",
        "The deviation of what each layer adds (Figure 7). The paper expects residual functions to "
        "stay small, and smaller the deeper the network.",
        "07_layer_responses",
        "layer-responses",
        responses_drawn,
        verdict.on_responses,
    ),
    Section(
        "Is it just slow?",
        "Footnote 3: with three times the iterations the paper still saw the degradation, and "
        "concludes that more of them are no feasible way out.",
        "09_three_times_longer",
        (r"(.+)-times-\d+",),
        lambda values: [plots.error_by_condition(values, "steps_planned")],
        verdict.on_more_steps,
    ),
    Section(
        "Is it rounding?",
        "What one layer rounds the next may enlarge. How far is a gradient from "
        "float64's, by layer and by depth? Not in the paper.",
        "11_rounding",
        "gradient-error",
        rounding_drawn,
        verdict.on_rounding,
    ),
    Section(
        "How much of the failure is rounding?",
        "The same plain network trained with more and with less precision, seed by seed: what of its "
        "error is there in float64? Not in the paper.",
        "11_rounding",
        (r"(.+)-fp64", "{}-bf16", "{}-tf32"),
        lambda values: [plots.error_by_condition(values, "precision")],
        verdict.on_precisions,
    ),
)


# --- where the values come from ---------------------------------------------------------------

Read = Callable[[], tuple[pd.DataFrame, str]]  # the values, and in words what they are


def sources(section: Section) -> dict[str, Read]:
    """What there is of a section by the name of the study, the user's own before committed ones."""
    if isinstance(section.source, str):
        paths = store.find_measurements(section.source, cached.root())
        folder = f"{store.MEASUREMENTS}/"
        return {frame.place(path.parent).replace(folder, ""): partial(measured, path) for path in paths}
    pattern, *others = section.source
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
    st.title("Why it fails, why it works", anchor=False)
    st.markdown(
        "*Degradation* shows **that** deep plain networks fail on their training images. Here the "
        "question is taken apart, step by step, by what the question notebooks measured, in figures "
        "and in sentences computed from the same values. What has not been measured says so."
    )
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
        figures, sentences = section.draw(values), section.say(values)
    except UsageError as problem:
        refuse(str(problem), command)
        return
    except Exception as error:  # a file of another shape: whatever it lacks must not end the page
        refuse(f"its values are not those of this figure ({type(error).__name__}: {error})", command)
        return
    for number, figure in enumerate(figures):
        frame.chart(figure, f"{section.title} {number}")
    frame.sentences(sentences, AT_ONCE)
    frame.say(f"{label}: {origin}. Notebook {section.notebook}.", 1000)


def refuse(reason: str, command: str) -> None:
    """Say why a section cannot be shown, and what makes its values again."""
    frame.say(f"Cannot be shown: {reason}", 1000)
    st.markdown("This measures it again:")
    st.code(command, language="bash")


def state() -> Any:
    """What the page depends on; equal means that nothing has to be drawn again."""
    root = cached.root()
    places = [place / store.MEASUREMENTS for place in (root, root / store.REFERENCE)]
    paths = [path for place in places for path in sorted(place.glob("*/*.json"))]
    stamps = [(path, cached.stamp(path.parent, [path.name])) for path in paths]
    return [path.name for path in store.find_studies(root)], stamps


page()
