"""Means and spreads over seeds; differences paired by seed, with their 95 % interval.

The question is the paper's (Sec. 4.1, 4.2): is a deeper network worse on the *training* set? Higher
test error alone would be overfitting. Only runs that share everything but the seed are averaged; only
runs with the same seed are subtracted from one another. Several runs of one seed and configuration are
averaged first: they count once. The sentences stand in the siblings.
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

from resnetlab import paper, store
from resnetlab.config import UsageError, edit_of, without_warmup

CONDITION = ["data", "recipe", "precision"]  # what runs must share to be averaged, seeds aside
GROUP = [*CONDITION, "family", "depth", "shortcut", "network"]
MEASURED = {"train_error": "training", "train_error_clean": "clean training", "test_error": "test"}
ENOUGH_SEEDS = 3
CONFIDENCE = 0.95  # of every interval
NEGLIGIBLE = 1.0  # percentage points of error
FLOOR = 0.05  # percent: below it an error is printed as 0.0
LEARNT = 10.0  # points of training error below chance from which on a network has learnt
WARMED = 110  # layers from which on the paper begins at a lower rate (Sec. 4.2)


def by_network(table: pd.DataFrame) -> pd.DataFrame:
    """One row per network and condition of a table of runs, seeds averaged.

    Columns: those of GROUP; n (seeds with a finished run), diverged, unfinished (runs); for
    train_error, train_error_clean and test_error (percent, final): mean, and `_sd`, the sample standard
    deviation (over n - 1; NaN for n = 1), and `_best`, the lowest of its seeds (Table 6's form, never
    of the steps of one); paper_train_error, paper_test_error, paper_source and paper_how (single
    view, on the paper's data by its schedule, whatever data and schedule ours has).
    """
    rows = []
    for key, group in table.groupby(GROUP, sort=True):
        finished = group[group["status"] == "finished"]
        row: dict[str, Any] = dict(zip(GROUP, key, strict=True)) | {"n": finished["seed"].nunique()}
        row["diverged"] = int((group["status"] == "diverged").sum())
        row["unfinished"] = len(group) - len(finished) - row["diverged"]
        for quantity in MEASURED:
            values = finished.groupby("seed")[quantity].mean()
            row |= {quantity: values.mean(), f"{quantity}_sd": values.std()}
            row |= {f"{quantity}_best": values.min()}
        records = {name: paper.reported(row["network"], name) for name in ("train_error", "test_error")}
        row |= {f"paper_{name}": one.value if one else math.nan for name, one in records.items()}
        known = [record for record in records.values() if record]
        row["paper_source"] = ", ".join(dict.fromkeys(one.source for one in known))
        row["paper_how"] = "; ".join(dict.fromkeys(paper.HOW[one.data, one.protocol] for one in known))
        rows.append(row)
    means = [f"{quantity}{what}" for quantity in MEASURED for what in ("", "_sd", "_best")]
    papers = ["paper_train_error", "paper_test_error", "paper_source", "paper_how"]
    columns = [*GROUP, "n", "diverged", "unfinished", *means, *papers]
    return pd.DataFrame(rows, columns=columns)


def with_spread(row: Mapping[str, Any] | pd.Series[Any], quantity: str, digits: int = 2) -> str:
    """`12.30 ± 0.45` of a row of `by_network`; `12.30` for one run, "" for none."""
    return plus_minus(row[quantity], row[f"{quantity}_sd"], digits)


def with_best(mean: float, spread: float | None, best: float | None) -> str:
    """`6.61 ± 0.16 (best 6.43)`, Table 6's form, of several seeds; `6.61` of one; "" of none."""
    text = plus_minus(mean, spread)
    return text if pd.isna(spread) or best is None or pd.isna(best) else f"{text} (best {best:.2f})"


def plus_minus(mean: float, spread: float | None, digits: int = 2) -> str:
    """`12.30 ± 0.45`; without the spread if that is None or NaN; "" for a mean of NaN."""
    if pd.isna(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if pd.isna(spread) else f" ± {spread:.{digits}f}")


def geometric_mean(values: pd.Series[Any]) -> float:
    return float(np.exp(np.log(values).mean()))


# --- which runs belong together ---------------------------------------------------------------


def conditions(table: pd.DataFrame) -> pd.DataFrame:
    """Data set, recipe and precision of each row: rows that are alike in them belong together.

    The paper gives its deepest network a warm-up (Sec. 4.2): where every network of WARMED layers or
    more has it, and no shallower one, paper-110 counts as paper. This is the only place that decides
    which recipes are one.
    """
    who = table[CONDITION]
    usual = who["recipe"].map(without_warmup)
    as_the_paper = (usual != who["recipe"]) == (table["depth"] >= WARMED)
    as_the_paper = as_the_paper.groupby([who["data"], usual, who["precision"]]).transform("all")
    return who.assign(recipe=usual.where(as_the_paper, who["recipe"]))


def by_condition(runs: Iterable[store.RunRecord]) -> dict[tuple[str, ...], list[store.RunRecord]]:
    """The runs of each condition: (data set, recipe, precision) -> runs, most runs first."""
    runs = list(runs)
    who = conditions(pd.DataFrame(store.identities(runs), columns=list(store.IDENTITY)))
    groups: dict[tuple[str, ...], list[store.RunRecord]] = {}
    for run, condition in zip(runs, who.itertuples(index=False, name=None), strict=True):
        groups.setdefault(condition, []).append(run)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


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
    who = conditions(table).reset_index(drop=True)
    recipe = recipe if recipe in set(who["recipe"]) else without_warmup(recipe)
    who = only(who, data=data, recipe=recipe, precision=precision)
    several = who.drop_duplicates()
    if len(several) > 1:
        names = "; ".join(", ".join(one) for one in several.itertuples(index=False))
        raise UsageError(
            f"these runs differ in data set, recipe or precision and cannot be averaged: {names}. "
            "Choose one with the parameters data, recipe and precision"
        )
    return table.iloc[who.index]


def ordinary(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the rows of edited networks (`Run.surgery`): those are not the paper's."""
    return frame[frame["network"].map(edit_of) == ""]


def learnt(table: pd.DataFrame) -> pd.Series[bool]:
    """Whether each run has learnt: its final training error is LEARNT points or more below chance.

    Chance is a guess among the data set's classes (90 % of ten). The clean error counts, the running
    one where there is no clean one. True where the number of classes or the error is not known.
    """
    error = table["train_error_clean"].fillna(table["train_error"])
    return ~(error > 100 * (1 - 1 / table["classes"].astype(float)) - LEARNT)


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
    highest: tuple[float, float] = (math.nan, math.nan)  # error of either over those seeds, percent
    ends: tuple[float, float] = (math.nan, math.nan)  # their means, whose difference is `mean`

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

    def against(self, sign: float) -> int:
        """How many differences have not this sign: one, and further seeds cannot give it to all."""
        return sum(difference * sign <= 0 for difference in self.differences)

    @property
    def negligible(self) -> bool:
        """True if the interval lies within NEGLIGIBLE points of 0."""
        return abs(self.mean) + self.margin < NEGLIGIBLE  # False for NaN

    @property
    def at_floor(self) -> tuple[bool, bool]:
        """Whether each of the two is at 0.0 % with every seed."""
        return self.highest[0] < FLOOR, self.highest[1] < FLOOR  # False for NaN

    def __str__(self) -> str:
        spread = f" ± {self._rounded(self.spread)}" if self.n > 1 else ""
        words = " points (mean ± standard deviation)" if self.n > 1 else " points"
        return f"{self._rounded(self.mean, '+')}{spread}{words}{self._between}, n = {self.n}"

    @property
    def brief(self) -> str:
        """`+10.0, 95 % [+7.5, +12.5]`: the mean and, from three seeds on, its interval."""
        return self.size + self._between

    @property
    def size(self) -> str:
        """`+10.0`: the mean."""
        return self._rounded(self.mean, "+")

    @property
    def two(self) -> str:
        """`70.2 and 0.0 %`: what is subtracted."""
        return "{:.1f} and {:.1f} %".format(*self.ends)

    @property
    def within(self) -> str:
        """`95 % [+7.5, +12.5]`: the interval, from three seeds on; else ""."""
        return self._between.removeprefix(", ")

    @property
    def _between(self) -> str:
        if self.n < ENOUGH_SEEDS:
            return ""
        low, high = (self._rounded(end, "+") for end in self.interval)
        return f", {CONFIDENCE * 100:g} % [{low}, {high}]"

    def _rounded(self, value: float, sign: str = "") -> str:
        # Two decimals where they decide: an end of the interval at -0.0 could lie on either side of 0.
        return f"{value:{sign}.{2 if abs(self.mean) < 10 else 1}f}"


def paired(worse: str, better: str, differences: Iterable[float]) -> Contrast:
    """Their contrast by its differences, one per seed."""
    return Contrast(worse, better, tuple(map(float, differences)))


def contrast(
    table: pd.DataFrame, worse: str, better: str, quantity: str = "train_error", *, by: str = "network"
) -> Contrast | None:
    """Paired over the seeds that both networks finished; None if there is none.

    With `by` the two are values of another column (precision, recipe), of runs of one network. Several
    runs of one seed are averaged.
    """
    finished = table[(table["status"] == "finished") & table[by].isin([worse, better])]
    errors = finished.pivot_table(index="seed", columns=by, values=quantity).dropna()
    if len(errors.columns) < 2 or errors.empty:
        return None
    differences = tuple(map(float, errors[worse] - errors[better]))
    both = errors[[worse, better]]
    return Contrast(worse, better, differences, tuple(both.max()), tuple(both.mean()))
