"""The questions of the lesson in its order: what measures each, what is drawn and said of it.

The order is that of the notebooks in studies/lesson.toml, the questions' words stand in story.toml. The
pages *Why, answered* and *Lesson* show the same.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dashboard import cached
from resnetlab import plots, store, verdict
from resnetlab.studies import lesson
from resnetlab.verdict import briefly, claims

Draw = Callable[[pd.DataFrame], go.Figure]
Say = Callable[[pd.DataFrame], Sequence[str]]
Brief = Callable[[pd.DataFrame], briefly.Answer | None]
# The committed studies that a fresh clone and the lesson begin with: photographs once there are enough
# seeds, else what `make study` makes.
FIRST = ("depth-real", "digits")
Read = Callable[[], tuple[pd.DataFrame, str]]  # the values, and in words what they are


@dataclass(frozen=True)
class Question:
    """One step of the story, as story.toml has it, with its figures and what is said of its values."""

    name: str
    draw: Sequence[Draw]
    verdict: Say
    brief: Brief
    title: str
    about: str
    notebook: str
    studies: Sequence[str] = ()  # that are compared; else the measurement of the question's name
    trained: bool = True  # what is measured are trained networks, made by a recipe
    asked: str = ""  # before the figure is seen; else what the notebook opens with
    choices: Sequence[str] = ()  # what a class may predict
    card: bool = True  # a question of *why*, which has its card on that page
    measured: bool = True  # false: a drawing, of which there is nothing to measure
    minutes: int = 0  # of the forty, notebooks/README.md; 0: where a class asks for it
    short: Mapping[str, str] = field(default_factory=dict)  # by the answer: a clause of the whole
    say: str = ""  # what a teacher says to the figure
    student: str = ""  # what a class may object, and what to answer

    @property
    def prediction(self) -> str:
        """What a class is asked."""
        return self.asked or chapter(self).prediction or self.about

    @property
    def command(self) -> str:
        return f"resnetlab notebook {self.notebook}"


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
    """In the order of the layers, of the runs that have learnt."""
    values = values[values["learnt"].astype(bool)] if "learnt" in values else values
    far = bool(values["value"].max() > 10 * values["value"].median())  # as in notebook 07
    return plots.layer_responses(values, log=far, by_size=False)


def by_option(table: pd.DataFrame) -> go.Figure:
    """Only networks with shortcuts: beside a plain one they could not be told apart."""
    return plots.error_by_network(table[table["shortcut"] != "none"])


def rounding_by_layer(values: pd.DataFrame) -> go.Figure:
    depths = values["depth"]
    return plots.gradient_error_by_layer(values[depths.isin([depths.min(), depths.max()])])


def beside_the_claims(table: pd.DataFrame) -> go.Figure:
    rows = claims.of_table(table)
    drawn = [
        row.cells() | row.numbers() | {"paper": row.paper[0], "settles": row.settles} for row in rows
    ]
    names = ["claim", "pair", "paper", "mean", "low", "high", "settles"]
    return plots.beside_the_claims(pd.DataFrame(drawn, columns=names), plots.conditions(table))


def training_curves(table: pd.DataFrame) -> go.Figure:
    """Error during training of the runs of a table."""
    wanted = set(zip(table["study"], table["run"], strict=True))
    runs: dict[tuple[str, str], store.RunRecord] = {}
    for path in store.find_studies(cached.root()):
        for run in cached.study(path).runs if path.name in set(table["study"]) else ():
            runs.setdefault((path.name, run.name), run)
    return plots.error_curves(cached.metrics([run for key, run in runs.items() if key in wanted]))


by_steps = partial(plots.error_by_condition, by="steps_planned")
by_precision = partial(plots.error_by_condition, by="precision")
by_recipe = partial(plots.error_by_condition, by="recipe")
SHOWN: dict[str, tuple[Sequence[Draw], Say, Brief]] = {
    "the-idea": ([lambda _: plots.block_strip()], lambda _: [], briefly.the_idea),
    "degradation": (
        [plots.error_against_depth, training_curves],
        verdict.on_degradation,
        briefly.degradation,
    ),
    "same-function": ([plots.same_function], verdict.on_same_function, briefly.same_function),
    "trained-on": ([plots.trained_on], verdict.on_kept, briefly.trained_on),
    "at-initialisation": ([initial_norms], norms_said, briefly.at_initialisation),
    "gradient-correlation": (
        [plots.gradient_correlation],
        verdict.on_correlations,
        briefly.gradient_correlation,
    ),
    "first-step": ([by_recipe], verdict.answers, briefly.first_step),
    "shortcut-dial": ([plots.shortcut_dial], verdict.on_dial, briefly.shortcut_dial),
    "lesions": ([plots.lesions], verdict.on_lesions, briefly.lesions),
    "loss-surface": ([plots.loss_surfaces], verdict.on_surfaces, briefly.loss_surface),
    "layer-responses": ([responses], verdict.on_responses, briefly.layer_responses),
    "times-longer": ([by_steps], verdict.on_more_steps, briefly.more_steps),
    "gradient-error": (
        [rounding_by_layer, plots.gradient_error_by_depth],
        verdict.on_rounding,
        briefly.rounding,
    ),
    "precisions": ([by_precision], verdict.on_precisions, briefly.precisions),
    "agreement": ([beside_the_claims], claims.in_words, briefly.agreement),
    "shortcut-options": ([by_option], verdict.on_shortcuts, briefly.options),
}
TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
_PLACES = [chapter.name for chapter in lesson.STORY]
# In the order of the lesson; questions of one notebook in that of story.toml.
STORY = sorted(
    (Question(name, *SHOWN[name], **words) for name, words in TEXTS.items()),
    key=lambda question: _PLACES.index(question.notebook),
)


CORE = [question for question in STORY if question.minutes]  # of the forty minutes, in order
ON_DEMAND = [question for question in STORY if not question.minutes]  # what a class may ask next


def when(question: Question) -> str:
    """Its minutes in the lesson: `minute 4 to 9`; else that it is shown where a class asks."""
    if question not in CORE:
        return "where the class asks"
    begins = sum(one.minutes for one in CORE[: CORE.index(question)])
    return f"minute {begins} to {begins + question.minutes}"


def answers(questions: Sequence[Question]) -> dict[str, briefly.Answer]:
    """The answers that there are to these questions, by title, each of the study that leads."""
    found = {}
    for question in questions:
        known = sources(question)
        try:
            answer = question.brief(first(known)[1]()[0]) if known else None
        except Exception:  # a file of another shape: its own screen says so
            continue
        if answer is not None:
            found[question.title] = answer
    return found


def in_short(found: Mapping[str, briefly.Answer]) -> str:
    """The whole in one sentence, from the clauses of the answers that lead to one."""
    clauses = [
        question.short[found[question.title].words]
        for question in CORE
        if question.title in found and found[question.title].words in question.short
    ]
    return f"Here {'; '.join(clauses)}." if clauses else ""


def chapter(question: Question) -> lesson.Chapter:
    """The chapter of the lesson that a question belongs to."""
    return lesson.STORY[_PLACES.index(question.notebook)]


# --- where the values come from ---------------------------------------------------------------


def sources(question: Question) -> dict[str, Read]:
    """What there is of a question by the name of the study, the user's own before committed ones."""
    if not question.measured:
        return {"the block": counted}
    if not question.studies:
        paths = store.find_measurements(question.name, cached.root())
        own = cached.root() / store.MEASUREMENTS
        return {store.label_of(path.parent, own): partial(measured, path) for path in paths}
    pattern, *others = question.studies
    comparisons: dict[str, Read] = {}
    for path in store.find_studies(cached.root()):
        if usual := re.fullmatch(pattern, path.name):
            names = [path.name, usual[1], *(other.format(usual[1]) for other in others)]
            comparisons.setdefault(usual[1], partial(trained, names))
    return comparisons


def counted() -> tuple[pd.DataFrame, str]:
    """The runs of the leading study with what their networks must learn; of nothing, no rows."""
    paths = [path for path in store.find_studies(cached.root()) if path.name == leading()]
    runs = [run for path in paths[:1] for run in cached.study(path).runs]
    numbers = [run.info.get("parameters") for run in runs]
    return store.table_of(runs).assign(parameters=pd.Series(numbers, dtype=object)), ""


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


def state() -> Any:
    """What the story depends on; equal means that nothing has to be drawn again."""
    root = cached.root()
    places = [place / store.MEASUREMENTS for place in (root, store.reference_root(root))]
    paths = [path for place in places for path in sorted(place.glob("*/*.json"))]
    stamps = [(path, cached.stamp(path.parent, [path.name])) for path in paths]
    return [path.name for path in store.find_studies(root)], stamps


# --- one question, looked at ------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """A question with the values that there are of it: drawn, said, answered."""

    values: pd.DataFrame
    origin: str
    figures: Sequence[go.Figure]
    sentences: Sequence[str]
    answer: briefly.Answer | None
    title: str

    @property
    def alt(self) -> str:
        """What the figures show, for who does not see them."""
        said = self.answer
        return f"{self.title} {said.words}: {said.number}, {said.about}." if said else self.title


def look(question: Question, read: Read) -> Shown:
    """Raises whatever a file of another shape makes of it."""
    values, origin = read()
    said = question.verdict(values)
    if question.trained and {"data", "recipe"} <= set(values.columns):
        said = [*verdict.on_other_recipe(values), *said]
    figures = [draw(values) for draw in question.draw]
    return Shown(values, origin, figures, said, question.brief(values), question.title)


def first(known: Mapping[str, Read]) -> tuple[str, Read]:
    """The one of `sources` to begin with: of the leading study if it is among them."""
    name = leading()
    return (name, known[name]) if name in known else next(iter(known.items()))


def leading() -> str:
    """The first committed study of FIRST whose three numbers have all their seeds, else the last."""
    for path in store.find_studies(cached.root()):
        if path.name == FIRST[0] and path.parent.name == store.REFERENCE:
            found = cached.said(verdict.findings, cached.table(cached.study(path).runs))
            if len(found) == 3 and not any(one.short for one in found):
                return path.name
    return FIRST[-1]
