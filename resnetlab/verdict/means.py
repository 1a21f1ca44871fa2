"""Means and spreads over seeds; differences paired by seed, with their 95 % interval.

The question is the paper's (Sec. 4.1, 4.2): is a deeper network worse on the *training* set? Higher
test error alone would be overfitting. Only runs that share everything but the seed are averaged; only
runs with the same seed are subtracted from one another. The sentences stand in the siblings.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # the quantiles of Student's t

from resnetlab import paper
from resnetlab.config import UsageError, edit_of, without_warmup

CONDITION = ["data", "recipe", "precision"]  # what runs must share to be averaged, seeds aside
GROUP = [*CONDITION, "family", "depth", "shortcut", "network"]
MEASURED = {"train_error": "training", "train_error_clean": "clean training", "test_error": "test"}
ENOUGH_SEEDS = 3
CONFIDENCE = 0.95  # of every interval
NEGLIGIBLE = 1.0  # percentage points of training error


def by_network(table: pd.DataFrame) -> pd.DataFrame:
    """One row per network and condition of a table of runs, seeds averaged.

    Columns: those of GROUP; n (finished runs), diverged, unfinished; for train_error,
    train_error_clean and test_error (percent, final): mean, and `_sd`, the sample standard deviation
    (NaN for n = 1); paper_train_error, paper_test_error, paper_source and paper_how (single view, on
    the paper's data by its schedule, whatever data and schedule ours has).
    """
    rows = []
    for key, group in table.groupby(GROUP, sort=True):
        finished = group[group["status"] == "finished"]
        row: dict[str, Any] = dict(zip(GROUP, key, strict=True)) | {"n": len(finished)}
        row["diverged"] = int((group["status"] == "diverged").sum())
        row["unfinished"] = len(group) - row["n"] - row["diverged"]
        for quantity in MEASURED:
            values = pd.to_numeric(finished[quantity])
            row |= {quantity: values.mean(), f"{quantity}_sd": values.std()}
        records = {name: paper.reported(row["network"], name) for name in ("train_error", "test_error")}
        row |= {f"paper_{name}": one.value if one else math.nan for name, one in records.items()}
        known = [record for record in records.values() if record]
        row["paper_source"] = ", ".join(dict.fromkeys(one.source for one in known))
        row["paper_how"] = "; ".join(dict.fromkeys(paper.HOW[one.data, one.protocol] for one in known))
        rows.append(row)
    means = [name for quantity in MEASURED for name in (quantity, f"{quantity}_sd")]
    papers = ["paper_train_error", "paper_test_error", "paper_source", "paper_how"]
    columns = [*GROUP, "n", "diverged", "unfinished", *means, *papers]
    return pd.DataFrame(rows, columns=columns)


def with_spread(row: Mapping[str, Any] | pd.Series[Any], quantity: str, digits: int = 2) -> str:
    """`12.30 ± 0.45` of a row of `by_network`; `12.30` for one run, "" for none."""
    return plus_minus(row[quantity], row[f"{quantity}_sd"], digits)


def plus_minus(mean: float, spread: float | None, digits: int = 2) -> str:
    """`12.30 ± 0.45`; without the spread if that is None or NaN; "" for a mean of NaN."""
    if pd.isna(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if pd.isna(spread) else f" ± {spread:.{digits}f}")


def geometric_mean(values: pd.Series[Any]) -> float:
    return float(np.exp(np.log(values).mean()))


# --- which runs belong together ---------------------------------------------------------------


def conditions(table: pd.DataFrame) -> pd.DataFrame:
    """The conditions in a table of runs, a row each: data set, recipe and precision.

    The warm-up of 110 layers is part of the paper's recipe: paper-110 counts as paper.
    """
    return table[CONDITION].assign(recipe=table["recipe"].map(without_warmup)).drop_duplicates()


def only(table: pd.DataFrame, **asked: Any) -> pd.DataFrame:
    """The rows that have the values asked for, column by column; "", None and [] ask for nothing.

    UsageError, with what there is, for a value that no row has.
    """
    for key, value in asked.items():
        if value in ("", None, []):
            continue
        values, there = value if isinstance(value, list) else [value], table[key].unique()
        if missing := [one for one in values if one not in there]:
            known = ", ".join(map(str, sorted(there))) or "none at all"
            raise UsageError(
                f"no run has the {key.partition('_')[0]} {missing[0]!r}; what there is: {known}"
            )
        table = table[table[key].isin(values)]
    return table


def one_condition(
    table: pd.DataFrame, data: str = "", recipe: str = "", precision: str = ""
) -> pd.DataFrame:
    """The rows of one data set, recipe and precision ("" = the only one there is): see `conditions`.

    Runs of several must not be averaged: UsageError names them, so that one can be chosen; it also
    names what there is, where no run is of what was asked for.
    """
    table = only(table, data=data, precision=precision)
    if recipe:
        alike = table["recipe"].map(without_warmup)
        only(alike.to_frame(), recipe=without_warmup(recipe))
        table = table[alike == without_warmup(recipe)]
    several = conditions(table)
    if len(several) > 1:
        names = "; ".join(", ".join(one) for one in several.itertuples(index=False))
        raise UsageError(
            f"these runs differ in data set, recipe or precision and cannot be averaged: {names}. "
            "Choose one with the parameters data, recipe and precision"
        )
    return table


def ordinary(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the rows of edited networks (`Run.surgery`): those are not the paper's."""
    return frame[frame["network"].map(edit_of) == ""]


def by_depth(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(network, its rows), shallow before deep and plain before residual."""
    keys = ["depth", "family", "shortcut", "network"]
    return [(str(key[-1]), rows) for key, rows in table.groupby(keys, sort=True)]


def deepest_pair(table: pd.DataFrame, *shortcuts: str) -> tuple[str, str] | None:
    """(deepest, shallowest) network of the first of these shortcut options that has two depths.

    20 stands for shallow where it was run. Both have one option: only depth may differ, so edited
    networks do not count.
    """
    finished = ordinary(table[table["status"] == "finished"])
    for shortcut in shortcuts:
        names = finished[finished["shortcut"] == shortcut].groupby("depth")["network"].first()
        if len(names) >= 2:
            shallow = 20 if 20 in names.index[:-1] else names.index[0]
            return str(names.iloc[-1]), str(names[shallow])
    return None


# --- differences ------------------------------------------------------------------------------


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
        return statistics.stdev(self.differences) if self.n > 1 else math.nan

    @property
    def margin(self) -> float:
        """Half the confidence interval of the mean (Student's t); NaN below three seeds."""
        if self.n < ENOUGH_SEEDS:
            return math.nan
        return float(stdtrit(self.n - 1, (1 + CONFIDENCE) / 2)) * self.spread / math.sqrt(self.n)

    @property
    def interval(self) -> tuple[float, float]:
        """The confidence interval of the mean (Student's t); NaN below three seeds."""
        return self.mean - self.margin, self.mean + self.margin

    @property
    def sign(self) -> int:
        """+1 or -1 if three seeds or more all agree and the interval excludes 0, else 0."""
        agree = all(d > 0 for d in self.differences) or all(d < 0 for d in self.differences)
        # False for NaN, of fewer seeds
        return int(math.copysign(1, self.mean)) if agree and abs(self.mean) > self.margin else 0

    @property
    def negligible(self) -> bool:
        """True if the interval lies within NEGLIGIBLE points of 0."""
        return abs(self.mean) + self.margin < NEGLIGIBLE  # False for NaN

    def __str__(self) -> str:
        # Two decimals where they decide: an end of the interval at -0.0 could lie on either side of 0.
        digits = 2 if abs(self.mean) < 10 else 1
        if self.n == 1:
            return f"{self.mean:+.{digits}f} points, n = 1"
        text = f"{self.mean:+.{digits}f} ± {self.spread:.{digits}f} points (mean ± standard deviation)"
        if self.n >= ENOUGH_SEEDS:
            low, high = (f"{end:+.{digits}f}" for end in self.interval)
            text += f", {CONFIDENCE * 100:g} % [{low}, {high}]"
        return f"{text}, n = {self.n}"


def paired(worse: str, better: str, differences: Iterable[float]) -> Contrast:
    """Their contrast by its differences, one per seed."""
    return Contrast(worse, better, tuple(map(float, differences)))


def contrast(
    table: pd.DataFrame, worse: str, better: str, quantity: str = "train_error", *, by: str = "network"
) -> Contrast | None:
    """Paired over the seeds that both networks finished; None if there is none.

    With `by` the two are values of another column (precision, recipe), of runs of one network.
    """
    finished = table[table["status"] == "finished"].dropna(subset=[quantity])
    errors = finished.drop_duplicates([by, "seed"]).pivot(index="seed", columns=by, values=quantity)
    if not {worse, better} <= set(errors):
        return None
    pairs = (errors[worse] - errors[better]).dropna()
    return paired(worse, better, pairs) if len(pairs) else None
