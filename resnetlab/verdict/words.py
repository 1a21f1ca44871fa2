"""The phrases that verdicts share: counts, ratios, and what paired differences settle."""

from __future__ import annotations

import re

import pandas as pd

from resnetlab.verdict import means
from resnetlab.verdict.means import CONFIDENCE, ENOUGH_SEEDS, NEGLIGIBLE, Contrast, plus_minus

NOTHING = "No finished run yet: nothing can be said."
MIXED = "These runs differ in data set, recipe or precision; choose one of each for a verdict."
SURELY = f"with {CONFIDENCE * 100:g} % confidence"
AT_FLOOR = "Both at 0.0 % with every seed: at the floor, nothing to order."
WITHIN = f"Less than {NEGLIGIBLE:g} point, {SURELY}"

ELSEWHERE = (
    "Trained again on another kind of processor, the same seed gives other numbers, and a deep plain "
    "network by much: the value of one seed does not survive that. Signs that all seeds share, and "
    "intervals over seeds, are what should come again."
)


def too_few(what: str = "seeds to say") -> str:
    return f"Too few {what}: {ENOUGH_SEEDS} are needed."


def settled(
    gap: Contrast,
    *,
    higher: str,
    lower: str,
    near: str = "",
    near_first: bool = False,
    unsettled: str = "These seeds do not settle it.",
) -> str:
    """What a paired difference settles, in words: one of these, or that there are too few seeds.

    `near` is said of a difference within NEGLIGIBLE ("": nothing is), with `near_first` even of one
    that has a sign.
    """
    if all(gap.at_floor):
        return AT_FLOOR
    if gap.n < ENOUGH_SEEDS:
        return too_few()
    close = near if gap.negligible else ""
    sign = {1: higher, -1: lower}.get(gap.sign, "")
    return (close or sign if near_first else sign or close) or unsettled


def notes(table: pd.DataFrame) -> list[str]:
    """What must be known of the runs behind a verdict, a sentence each."""
    return [*_not_learnt(table), *_repeated(table), *_warmed(table), *diverged(table)]


def diverged(table: pd.DataFrame) -> list[str]:
    runs = table[table["status"] == "diverged"]["run"]
    if runs.empty:
        return []
    return [f"{len(runs)} run(s) diverged and are not in the means: {', '.join(runs)}."]


def _not_learnt(table: pd.DataFrame) -> list[str]:
    stuck = table[(table["status"] == "finished") & ~means.learnt(table)]
    runs = [
        f"{name} with seed {', '.join(map(str, sorted(set(rows['seed']))))}"
        for name, rows in means.by_depth(stuck)
    ]
    if not runs:
        return []
    return [
        f"Not learnt: {'; '.join(runs)}. To have learnt means a final training error of "
        f"{means.LEARNT:g} points or more below chance, a guess among the classes."
    ]


def _repeated(table: pd.DataFrame) -> list[str]:
    finished = table[table["status"] == "finished"]
    same = ["network", "seed", *means.CONDITION]
    runs = finished.assign(count=finished.groupby(same)["run"].transform("size")).drop_duplicates(same)
    return [
        f"{run.network} was trained {run.count} times with seed {run.seed}: averaged, one seed."
        for run in runs[runs["count"] > 1].itertuples()
    ]


def _warmed(table: pd.DataFrame) -> list[str]:
    warm = table["recipe"] != means.conditions(table)["recipe"]
    return [
        f"{name} begins with the warm-up that the paper gives it (Sec. 4.2), the others do not."
        for name in table[warm]["network"].unique()
    ]


_WARM = re.compile(r"warmup_lr \S+, warmup_steps (\S+)")


def changes(recipe: str) -> str:
    """The label of a recipe, or its changes, with a warm-up called by its name: `warm-up, 30 steps`."""
    return _WARM.sub(r"warm-up, \1 steps", recipe)


def seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def mean_error(runs: pd.DataFrame, quantity: str = "train_error") -> str:
    """`57.1 ± 22.0 %` of the final errors, one per seed."""
    errors = runs.groupby("seed")[quantity].mean().dropna()
    return f"{plus_minus(errors.mean(), errors.std(), 1)} %"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def rounded(value: float, digits: int = 2) -> str:
    """370, 0.0037 or 3.7 × 10⁶: so many digits at most, and no 3.7e+06."""
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if not exponent or -5 < int(exponent) < 6:
        return f"{float(f'{value:.{digits}g}'):,.6g}"
    return f"{float(mantissa):g} × 10{str(int(exponent)).translate(_RAISED)}"


def times(ratio: float) -> str:
    return f"{ratio:,.0f}" if 10 <= ratio < 1e6 else rounded(ratio)


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{rounded(100 * share)} %"
