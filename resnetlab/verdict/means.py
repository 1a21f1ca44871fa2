"""Means and spreads over seeds; differences paired by seed, with their 95 % interval.

The question is the paper's (Sec. 4.1, 4.2): is a deeper network worse on the *training* set? Higher
test error alone would be overfitting. Only runs that share everything but the seed are averaged; only
runs with the same seed are subtracted from one another. The sentences stand in the siblings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # the quantiles of Student's t

from resnetlab import paper
from resnetlab.config import UsageError, edit_of, without_warmup

GROUP = ["data", "recipe", "precision", "family", "depth", "shortcut", "network"]
MEASURED = ["train_error", "train_error_clean", "test_error"]
ENOUGH_SEEDS = 3
NEGLIGIBLE = 1.0  # percentage points of training error


def by_network(table: pd.DataFrame) -> pd.DataFrame:
    """One row a network (and data set, recipe, precision) of a table of runs, seeds averaged.

    Columns: those of GROUP; n (finished runs), diverged, unfinished; for train_error,
    train_error_clean and test_error (percent, final): mean, and `_sd`, the sample standard deviation
    (NaN for n = 1); paper_train_error, paper_test_error, paper_source and paper_how (in a
    single view, by the paper's own data and schedule, whatever ours).
    """
    rows = []
    for key, group in table.groupby(GROUP, sort=True):
        finished = group[group["status"] == "finished"]
        row: dict[str, Any] = dict(zip(GROUP, key, strict=True))
        row["n"] = len(finished)
        row["diverged"] = int((group["status"] == "diverged").sum())
        row["unfinished"] = len(group) - row["n"] - row["diverged"]
        for quantity in MEASURED:
            values = pd.to_numeric(finished[quantity])
            row[quantity], row[f"{quantity}_sd"] = values.mean(), values.std()
        sources, how = [], []
        for quantity in ("train_error", "test_error"):
            record = paper.reported(row["network"], quantity)
            row[f"paper_{quantity}"] = record.value if record else math.nan
            if record:
                sources.append(record.source)
                how.append(paper.HOW[record.data, record.protocol])
        row["paper_source"] = ", ".join(dict.fromkeys(sources))
        row["paper_how"] = "; ".join(dict.fromkeys(how))
        rows.append(row)
    counts, spreads = ["n", "diverged", "unfinished"], [f"{quantity}_sd" for quantity in MEASURED]
    means = [name for pair in zip(MEASURED, spreads, strict=True) for name in pair]
    papers = ["paper_train_error", "paper_test_error", "paper_source", "paper_how"]
    return pd.DataFrame(rows, columns=[*GROUP, *counts, *means, *papers])


def with_spread(row: Mapping[str, Any] | pd.Series[Any], quantity: str, digits: int = 2) -> str:
    """`12.30 ± 0.45` of a row of `by_network`; `12.30` for one run, "" for none."""
    return plus_minus(row[quantity], row[f"{quantity}_sd"], digits)


def plus_minus(mean: float, spread: float | None, digits: int = 2) -> str:
    """`12.30 ± 0.45`; without the spread if that is None or NaN; "" for a mean of NaN."""
    if pd.isna(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if pd.isna(spread) else f" ± {spread:.{digits}f}")


def one_condition(
    table: pd.DataFrame, data: str = "", recipe: str = "", precision: str = ""
) -> pd.DataFrame:
    """The rows of one data set, recipe and precision ("" = the only one there is).

    The warm-up of 110 layers is part of the paper's recipe: paper-110 counts as paper.

    Runs of several must not be averaged: UsageError names them, so that one can be chosen.
    """
    asked = {"data": data, "recipe": without_warmup(recipe), "precision": precision}
    for key, value in asked.items():
        if value:
            column = table[key].map(without_warmup) if key == "recipe" else table[key]
            table = table[column == value]
    kinds = table[list(asked)].assign(recipe=table["recipe"].map(without_warmup)).drop_duplicates()
    if len(kinds) > 1:
        found = "; ".join(", ".join(kind) for kind in kinds.itertuples(index=False))
        raise UsageError(
            f"these runs differ in data set, recipe or precision and cannot be averaged: {found}. "
            "Choose one with the parameters data, recipe and precision"
        )
    return table


@dataclass(frozen=True)
class Contrast:
    """Final error of one network minus another's, seed by seed (percentage points)."""

    worse: str  # the network that the question suspects
    better: str
    differences: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.differences)

    @property
    def mean(self) -> float:
        return sum(self.differences) / self.n

    @property
    def spread(self) -> float:
        """Sample standard deviation of the differences; NaN for one seed."""
        if self.n < 2:
            return math.nan
        return math.sqrt(sum((d - self.mean) ** 2 for d in self.differences) / (self.n - 1))

    @property
    def margin(self) -> float:
        """Half the 95 % confidence interval of the mean (Student's t); NaN below three seeds."""
        if self.n < ENOUGH_SEEDS:
            return math.nan
        return float(stdtrit(self.n - 1, 0.975)) * self.spread / math.sqrt(self.n)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the mean (Student's t); NaN below three seeds."""
        return self.mean - self.margin, self.mean + self.margin

    @property
    def sign(self) -> int:
        """+1 or -1 if three seeds or more all agree and the 95 % interval excludes 0, else 0."""
        if self.n < ENOUGH_SEEDS:
            return 0
        agree = all(d > 0 for d in self.differences) or all(d < 0 for d in self.differences)
        return int(math.copysign(1, self.mean)) if agree and abs(self.mean) > self.margin else 0

    @property
    def negligible(self) -> bool:
        """True if the 95 % interval lies within NEGLIGIBLE points of 0."""
        return abs(self.mean) + self.margin < NEGLIGIBLE  # False for NaN

    def __str__(self) -> str:
        # Two decimals where they decide: an end of the interval at -0.0 could lie on either side of 0.
        digits = 2 if abs(self.mean) < 10 else 1
        if self.n == 1:
            return f"{self.mean:+.{digits}f} points, n = 1"
        said = f"{self.mean:+.{digits}f} ± {self.spread:.{digits}f} points (mean ± standard deviation)"
        if self.n >= ENOUGH_SEEDS:
            low, high = (f"{end:+.{digits}f}" for end in self.interval)
            said += f", 95 % [{low}, {high}]"
        return f"{said}, n = {self.n}"


def contrast(
    table: pd.DataFrame,
    worse: str,
    better: str,
    quantity: str = "train_error",
    *,
    by: str = "network",
) -> Contrast | None:
    """Paired over the seeds that both networks finished; None if there is none.

    With `by` the two are values of another column (precision, recipe), of runs of one network.
    """
    finished = table[table["status"] == "finished"].dropna(subset=[quantity])
    finished = finished.drop_duplicates([by, "seed"])
    errors = {
        name: finished[finished[by] == name].set_index("seed")[quantity] for name in (worse, better)
    }
    seeds = sorted(set(errors[worse].index) & set(errors[better].index))
    if not seeds:
        return None
    pairs = (float(errors[worse][seed] - errors[better][seed]) for seed in seeds)
    return Contrast(worse, better, tuple(pairs))


def ordinary(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the rows of edited networks (`Run.surgery`): those are not the paper's."""
    return frame[frame["network"].map(edit_of) == ""]


def deepest_pair(table: pd.DataFrame, *shortcuts: str) -> tuple[str, str] | None:
    """(deepest, shallowest) network of the first of these shortcut options that has two depths.

    20 stands for shallow where it was run. Both have one option: only depth may differ, so edited
    networks do not count.
    """
    finished = ordinary(table[table["status"] == "finished"])
    for shortcut in shortcuts:
        own = finished[finished["shortcut"] == shortcut]
        depths = sorted(own["depth"].unique())
        if len(depths) >= 2:
            shallow = 20 if 20 in depths and depths[-1] > 20 else depths[0]
            name = own.drop_duplicates("depth").set_index("depth")["network"]
            return str(name[depths[-1]]), str(name[shallow])
    return None


_MIXED = "These runs differ in data set, recipe or precision; choose one of each for a verdict."


def _conditions(table: pd.DataFrame) -> int:
    """Data sets, recipes and precisions in a table of runs, counted together; see `one_condition`."""
    kinds = table[["data", "recipe", "precision"]].assign(recipe=table["recipe"].map(without_warmup))
    return len(kinds.drop_duplicates())


def _diverged(table: pd.DataFrame) -> list[str]:
    runs = table[table["status"] == "diverged"]["run"]
    if runs.empty:
        return []
    return [f"{len(runs)} run(s) diverged and are not in the means: {', '.join(runs)}."]


_ERRORS = {
    "train_error": "training",
    "train_error_clean": "clean training",
    "test_error": "test",
}


def _moved(
    found: Contrast,
    words: Mapping[int, str] = MappingProxyType(
        {-1: "Lower.", 1: "Higher.", 0: "These seeds do not settle it."}
    ),
) -> str:
    """What a paired difference between two conditions settles, in words by its sign."""
    if found.n < ENOUGH_SEEDS:
        return f"Too few seeds to say: {ENOUGH_SEEDS} are needed."
    if found.negligible:
        return f"Less than {NEGLIGIBLE:g} point, with 95 % confidence."
    return words[found.sign]


def _by_depth(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(network, its rows), shallow before deep and plain before residual."""
    keys = ["depth", "family", "shortcut", "network"]
    return [(str(key[-1]), own) for key, own in table.groupby(keys, sort=True)]


def _mean_error(own: pd.DataFrame, quantity: str = "train_error") -> str:
    """`57.1 ± 22.0 %` of the final errors, one per seed."""
    errors = own.drop_duplicates("seed")[quantity].dropna()
    spread = "" if len(errors) < 2 else f" ± {errors.std():.1f}"
    return f"{errors.mean():.1f}{spread} %"


def _geometric(values: pd.Series[Any]) -> float:
    return float(np.exp(np.log(values).mean()))


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if 10 <= ratio < 1e6 else f"{ratio:.2g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _signed(points: float) -> str:
    return f"{points:+.1f}"
