"""The phrases that verdicts share: counts, ratios, and what paired differences settle."""

from __future__ import annotations

import pandas as pd

from resnetlab.verdict.means import CONFIDENCE, ENOUGH_SEEDS, NEGLIGIBLE, Contrast, plus_minus

NOTHING = "No finished run yet: nothing can be said."
MIXED = "These runs differ in data set, recipe or precision; choose one of each for a verdict."
SURELY = f"with {CONFIDENCE * 100:g} % confidence"
WITHIN = f"Less than {NEGLIGIBLE:g} point, {SURELY}"


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
    if gap.n < ENOUGH_SEEDS:
        return too_few()
    close = near if gap.negligible else ""
    sign = {1: higher, -1: lower}.get(gap.sign, "")
    return (close or sign if near_first else sign or close) or unsettled


def diverged(table: pd.DataFrame) -> list[str]:
    runs = table[table["status"] == "diverged"]["run"]
    if runs.empty:
        return []
    return [f"{len(runs)} run(s) diverged and are not in the means: {', '.join(runs)}."]


def seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def mean_error(runs: pd.DataFrame, quantity: str = "train_error") -> str:
    """`57.1 ± 22.0 %` of the final errors, one per seed."""
    errors = runs.drop_duplicates("seed")[quantity].dropna()
    return f"{plus_minus(errors.mean(), errors.std(), 1)} %"


def times(ratio: float) -> str:
    return f"{ratio:,.0f}" if 10 <= ratio < 1e6 else f"{ratio:.2g}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"
