"""Exercises that check themselves: a notebook's questions, against answers computed from its runs.

The questions stand in the notebooks, which compute the answers; units, tolerances, hints and what a
solution says beside its value are in exercises.toml. Nothing is graded and nothing stored.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from resnetlab.config import did_you_mean

NEAR = 3  # times the tolerance
NOTHING = "the runs at hand do not have an answer; take more depths or seeds."
WRONG = "A wrong guess shows where to look; the hint may help."


@dataclass(frozen=True)
class Number:
    """A number is asked for: right within `tolerance`, near within three times that.

    With a tolerance of 0 it is a count, and near is off by one.
    """

    value: float  # NaN: the runs at hand do not have it
    tolerance: float
    unit: str
    hint: str
    why: str

    @property
    def asked(self) -> str:
        within = f"a number, {self.unit}; within {self.tolerance:g} is right"
        return within if self.tolerance else f"a whole number, {self.unit}"

    def judge(self, answer: Any) -> str:
        """What is said of an answer. ValueError or TypeError for what is no number."""
        if isinstance(answer, bool) or not math.isfinite(off := float(answer) - self.value):
            raise ValueError
        if abs(off) <= self.tolerance:
            return f"right. {self.why}"
        if abs(off) <= (NEAR * self.tolerance or 1):
            return "near! Look again at what is counted or averaged, and over what."
        return f"not yet: too {'high' if off > 0 else 'low'}. {WRONG}"


@dataclass(frozen=True)
class Choice:
    """One of some words is asked for."""

    value: Any  # NaN: the runs at hand do not have it
    options: Sequence[Any]
    hint: str
    why: str
    unit: str = ""

    @property
    def asked(self) -> str:
        return f"one of {', '.join(map(word, self.options))}" if self.options else "a word"

    def judge(self, answer: Any) -> str:
        """What is said of an answer. ValueError, with the nearest option, for what is none."""
        known = {word(option).lower(): word(option) for option in self.options}
        if (said := word(answer).lower()) not in known:
            raise ValueError(did_you_mean(said, known.values()))
        return f"right. {self.why}" if known[said] == word(self.value) else f"not yet. {WRONG}"


class Asked(NamedTuple):
    """What a notebook gets for its exercises."""

    check: Callable[[int, Any], None]
    hint: Callable[[int], None]
    solution: Callable[[int], None]


def of(name: str, *answers: Any) -> Asked:
    """`check(1, answer)`, `hint(1)` and `solution(1)` of a notebook's exercises, numbered from 1.

    `answers` are what the notebook computed: a number each, for a choice the pair (right one, options);
    NaN is what its runs do not have. Each of the three prints one line, also for an exercise that does
    not exist or an answer of another kind: no traceback.
    """
    listed = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))[name]
    exercises: dict[object, Number | Choice] = {}
    for number, (words, answer) in enumerate(zip(listed, answers, strict=True), 1):
        if "tolerance" in words:
            exercises[number] = Number(float(answer), **words)
        else:
            exercises[number] = Choice(
                *(answer if isinstance(answer, tuple) else (answer, ())), **words
            )

    def line(number: object, words: Callable[[Number | Choice], str]) -> None:
        if number not in list(exercises):
            print(f"There is no exercise {number!r}: they are 1 to {len(exercises)}.")
        else:
            print(f"Exercise {number}: {words(exercises[number])}")

    def checked(exercise: Number | Choice, answer: Any) -> str:
        if answer is None:
            return f"not answered yet ({exercise.asked})."
        if exercise.value != exercise.value:
            return NOTHING
        try:
            return exercise.judge(answer)
        except (TypeError, ValueError) as error:
            nearest = str(error) if isinstance(exercise, Choice) and exercise.options else ""
            return f"{answer!r} is not what is asked: {exercise.asked}{nearest or '.'}"

    def solved(exercise: Number | Choice) -> str:
        if exercise.value != exercise.value:
            return NOTHING
        return f"{f'{word(exercise.value)} {exercise.unit}'.strip()}. {exercise.why}"

    return Asked(
        lambda number, answer: line(number, lambda exercise: checked(exercise, answer)),
        lambda number: line(number, lambda exercise: exercise.hint),
        lambda number: line(number, solved),
    )


def cost_of_depth(
    table: pd.DataFrame, family: str, quantity: str = "train_error_clean"
) -> pd.Series[float]:
    """By seed, the error of the deepest minus that of the shallowest network of a family, points.

    Empty where a table of runs does not have two depths of it.
    """
    rows = table[(table["family"] == family) & (table["status"] == "finished")]
    errors = rows.pivot_table(index="seed", columns="depth", values=quantity).dropna()
    if len(errors.columns) < 2:
        return pd.Series(dtype=float)
    return errors.iloc[:, -1] - errors.iloc[:, 0]


def word(value: object) -> str:
    """A value as it is typed and shown: three digits of a number that is not whole."""
    if isinstance(value, float):
        return f"{value:.3g}" if value % 1 else f"{value:.0f}"
    return str(value).strip()
