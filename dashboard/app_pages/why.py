"""Why it fails, why it works: what the question notebooks measured, in the order of the story."""

from __future__ import annotations

import re
import time
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
class Source:
    """Values to show, and in words what they are: from a measurement's file, or from runs."""

    frame: pd.DataFrame
    said: str


@dataclass(frozen=True)
class Section:
    """One step of the story. `find` gives what there is of it, by the name of the study."""

    title: str
    about: str
    notebook: str
    find: Callable[[], dict[str, Callable[[], Source]]]
    draw: Callable[[pd.DataFrame, plots.Theme], Sequence[go.Figure]]
    say: Callable[[pd.DataFrame], Sequence[str]]


# --- where the values come from ---------------------------------------------------------------


def measured(name: str) -> Callable[[], dict[str, Callable[[], Source]]]:
    """The measurements of that name, of any study, the user's own before committed ones."""

    def find() -> dict[str, Callable[[], Source]]:
        root = cached.root()
        found: dict[str, Callable[[], Source]] = {}
        for path in store.find_measurements(name, root):
            place = path.parent.relative_to(root).as_posix()
            found[place.replace(f"{store.MEASUREMENTS}/", "")] = partial(_read, path)
        return found

    return find


def _read(path: Path) -> Source:
    found = cached.measurement(path)
    choices = found.info.get("choices")
    given = choices.items() if isinstance(choices, dict) else ()
    parts = [str(found.info.get("what")), ", ".join(f"{key}: {value}" for key, value in given)]
    parts.append(f"measured {str(found.info.get('created'))[:10]}, commit {found.info.get('commit')}")
    return Source(found.frame, "; ".join(part for part in parts if part))


def compared(pattern: str, *others: str) -> Callable[[], dict[str, Callable[[], Source]]]:
    """Runs of a study under two or more conditions, each in a folder of its own.

    `pattern` matches the folder that makes the comparison and gives the name of the usual one; `others`
    are further folders, `{}` for that name. Only networks of the first are taken.
    """

    def find() -> dict[str, Callable[[], Source]]:
        root = cached.root()
        found: dict[str, Callable[[], Source]] = {}
        for path in store.find_studies(root):
            if usual := re.fullmatch(pattern, path.name):
                names = [path.name, usual[1], *(other.format(usual[1]) for other in others)]
                found.setdefault(usual[1], partial(_runs, names))
        return found

    return find


def _runs(names: Sequence[str]) -> Source:
    """The runs of these studies, the user's own before committed ones of the same name."""
    found: dict[tuple[str, str], store.RunRecord] = {}
    for path in store.find_studies(cached.root()):
        if path.name in names:
            for run in cached.study(path).runs:
                found.setdefault((path.name, run.name), run)
    networks = {run.config.network_name for (study, _), run in found.items() if study == names[0]}
    runs = [run for run in found.values() if run.config.network_name in networks]
    return Source(store.table_of(runs), f"runs of {', '.join(sorted({run.study for run in runs}))}")


# --- the story --------------------------------------------------------------------------------


def norms(values: pd.DataFrame) -> pd.DataFrame:
    return values[values["quantity"] == "gradient_norm"]


def norms_said(values: pd.DataFrame) -> list[str]:
    """As notebook 03 says it."""
    halves = dict(list(norms(values).groupby("norm")))
    there = [norm for norm in plots.NORMS if norm in halves]
    said = [
        (norm, sentence) for norm in there for sentence in verdict.on_first_layer_norms(halves[norm])
    ]
    ratios = verdict.on_gradients(halves[plots.NORMS[0]]) if plots.NORMS[0] in halves else []
    said += [(plots.NORMS[0], sentence) for sentence in ratios]
    return [f"{norm.capitalize()}. {sentence}" for norm, sentence in said]


def responses_drawn(values: pd.DataFrame, theme: plots.Theme) -> list[go.Figure]:
    far = bool(values["value"].max() > 10 * values["value"].median())  # as in notebook 07
    return [plots.layer_responses(values, theme=theme, log=far)]


def rounding_drawn(values: pd.DataFrame, theme: plots.Theme) -> list[go.Figure]:
    ends = values[values["depth"].isin([values["depth"].min(), values["depth"].max()])]
    return [
        plots.gradient_error_by_layer(ends, theme=theme),
        plots.gradient_error_by_depth(values, theme=theme),
    ]


STORY = (
    Section(
        "Does a deep solution exist?",
        "A trained shallow network, with layers appended that change nothing, is a deep network with "
        "the same error: the argument of Sec. 1, built by hand. Is it the same function?",
        "02_constructed_solution",
        measured("same-function"),
        lambda values, theme: [],
        verdict.on_same_function,
    ),
    Section(
        "Does training keep it?",
        "Trained on from there at several rates: does SGD keep the solution that it was given? The "
        "paper says that solvers do not find one (Sec. 1), not what becomes of one.",
        "02_constructed_solution",
        measured("trained-on"),
        lambda values, theme: [plots.trained_on(values, theme=theme)],
        verdict.on_kept,
    ),
    Section(
        "Is it vanishing gradients?",
        "The usual suspect is a gradient that dies on its way down. With batch norm the paper found "
        "*healthy norms* (Sec. 4.1) and gave no number. Here is every layer before the first step, "
        "with batch norm and without.",
        "03_gradient_norms",
        measured("at-initialisation"),
        lambda values, theme: [plots.at_initialisation(norms(values), "gradient_norm", theme=theme)],
        norms_said,
    ),
    Section(
        "What breaks instead? Gradients at neighbouring inputs",
        "A gradient is useful if it still holds one small step further. The cosine between gradients "
        "at neighbouring inputs, at initialisation: 1 says the same, 0 something unrelated "
        "(Balduzzi et al. 2017; not in the paper).",
        "03_gradient_norms",
        measured("gradient-correlation"),
        lambda values, theme: [plots.gradient_correlation(values, theme=theme)],
        verdict.on_correlations,
    ),
    Section(
        "How much shortcut is enough?",
        "One network, y = F(x) + a x, with the shortcut at every strength from none (plain) to whole "
        "(residual). Not in the paper.",
        "04_shortcut_dial",
        measured("shortcut-dial"),
        lambda values, theme: [plots.shortcut_dial(values, theme=theme)],
        verdict.on_dial,
    ),
    Section(
        "What if blocks are taken away?",
        "Trained networks lose blocks when they are tested, one at a time and several at random (after "
        "Veit et al. 2016; not in the paper). Which networks need every block?",
        "04_shortcut_dial",
        measured("lesions"),
        lambda values, theme: [plots.lesions(values, theme=theme)],
        verdict.on_lesions,
    ),
    Section(
        "What does the loss surface look like?",
        "The loss on a plane through the trained weights, along two random directions, each filter of "
        "them as long as the network's own (Li et al. 2018; not in the paper). A slice shows 2 of "
        "hundreds of thousands of directions, and training followed neither.",
        "08_loss_surface",
        measured("loss-surface"),
        lambda values, theme: [plots.loss_surfaces(values, theme=theme)],
        verdict.on_surfaces,
    ),
    Section(
        "How much does each layer add?",
        "The deviation of what each layer adds (Figure 7). The paper expects residual functions to "
        "stay small, and smaller the deeper the network.",
        "07_layer_responses",
        measured("layer-responses"),
        responses_drawn,
        verdict.on_responses,
    ),
    Section(
        "Is it just slow?",
        "Footnote 3: with three times the iterations the paper still saw the degradation, and "
        "concludes that more of them are no feasible way out.",
        "09_three_times_longer",
        compared(r"(.+)-times-\d+"),
        lambda values, theme: [plots.error_by_condition(values, "steps_planned", theme=theme)],
        verdict.on_more_steps,
    ),
    Section(
        "Is it rounding?",
        "What one layer rounds the next may enlarge. How far is a gradient from "
        "float64's, by layer and by depth? Not in the paper.",
        "11_rounding",
        measured("gradient-error"),
        rounding_drawn,
        verdict.on_rounding,
    ),
    Section(
        "How much of the failure is rounding?",
        "The same plain network trained with more and with less precision, seed by seed: what of its "
        "error is there in float64? Not in the paper.",
        "11_rounding",
        compared(r"(.+)-fp64", "{}-bf16", "{}-tf32"),
        lambda values, theme: [plots.error_by_condition(values, "precision", theme=theme)],
        verdict.on_precisions,
    ),
)


# --- the page ---------------------------------------------------------------------------------


def show(section: Section) -> None:
    """What is there of a step of the story, or the command that makes it."""
    st.header(section.title, anchor=False)
    st.markdown(section.about)
    found = frame.labelled(section.find().items())
    command = f"resnetlab notebook {section.notebook}"
    if not found:
        st.info("Not measured yet. This measures it:", icon=":material/hourglass_empty:")
        st.code(command, language="bash")
        return
    label = next(iter(found))
    if len(found) > 1:
        key = re.sub(r"\W+", "-", section.title.lower()).strip("-")
        asked = st.selectbox("Measured in", list(found), key=key, bind="query-params")
        label = asked if asked in found else label
    try:
        source = found[label]()
        figures = section.draw(source.frame, frame.theme())
        sentences = section.say(source.frame)
    except UsageError as problem:
        refuse(str(problem), command)
        return
    except Exception as error:  # a file of another shape: whatever it lacks must not end the page
        refuse(f"its values are not those of this figure ({type(error).__name__}: {error})", command)
        return
    for number, figure in enumerate(figures):
        frame.chart(figure, f"{section.title} {number}")
    with st.container(border=True):
        for sentence in sentences[:AT_ONCE]:
            st.text(frame.shown(sentence, 2000))
        if len(sentences) > AT_ONCE:
            with st.expander(f"{len(sentences) - AT_ONCE} more, network by network"):
                for sentence in sentences[AT_ONCE:]:
                    st.text(frame.shown(sentence, 2000))
    st.text(frame.shown(f"{label}: {source.said}. Notebook {section.notebook}.", 1000))


def refuse(reason: str, command: str) -> None:
    st.text(frame.shown(f"Cannot be shown: {reason}", 1000))
    st.markdown("This measures it again:")
    st.code(command, language="bash")


def state() -> Any:
    """What the page depends on; equal means that nothing has to be drawn again."""
    root = cached.root()
    seen: list[Any] = [path.name for path in store.find_studies(root)]
    for place in (root, root / store.REFERENCE):
        for path in sorted((place / store.MEASUREMENTS).glob("*/*.json")):
            seen.append((path, cached.stamp(path.parent, [path.name])))
    return seen


@st.fragment(run_every=frame.IDLE_SECONDS)
def look(drawn: Any, since: float) -> None:
    """A notebook that measures while the page is open fills it."""
    if time.monotonic() - since > frame.LOOK_SECONDS / 2 and state() != drawn:
        st.rerun()


st.title("Why it fails, why it works", anchor=False)
st.markdown(
    "*Degradation* shows **that** deep plain networks fail on their training images. Here the question "
    "is taken apart, step by step, by what the question notebooks measured, in figures and in "
    "sentences computed from the same values. What has not been measured says so."
)
look(state(), time.monotonic())
for step in STORY:
    show(step)
