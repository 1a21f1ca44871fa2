"""From which step on is the deeper network ahead? Where its error curve crosses the shallower one's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from resnetlab import paper
from resnetlab.verdict import means
from resnetlab.verdict.words import percent, seeds


class Lead(NamedTuple):
    """A curve ends below another one: from `step` on it is nowhere above it, and there it is below."""

    step: float
    crossed: bool  # False: it is above it nowhere, and `step` is the first at which they differ


def lead(deep: pd.Series[float], shallow: pd.Series[float]) -> Lead | None:
    """From which step on the first curve stays below the second; None if it does not end below it.

    Both: errors by step, ascending. Compared at the steps of the first that lie within the second,
    whose values between its own steps are interpolated. Nothing is smoothed: where two curves wind
    round each other this is their last crossing, not the first.
    """
    deep, known = deep.dropna(), shallow.dropna()
    deep = deep[(deep.index >= known.index.min()) & (deep.index <= known.index.max())]
    gap = deep.to_numpy() - np.interp(deep.index, known.index, known)
    if not len(gap) or gap[-1] >= 0:
        return None
    above = np.flatnonzero(gap > 0)
    below = np.flatnonzero(gap < 0)  # a tie, of two lines in one pixel, is neither
    return Lead(float(deep.index[below[below > max(above, default=-1)][0]]), len(above) > 0)


def papers_lead(deep: str, shallow: str) -> Lead | None:
    """The same of two training curves in the paper's Figure 4 or 6, where it draws both.

    What those figures cut off (above 20 and 63 %) is not known: an early crossing may lie there. Two
    lines that come into the figure at one point have not been told apart there.
    """
    drawn = [paper.curve(network, "train_error") for network in (deep, shallow)]
    lines = [pd.Series(line.y, index=line.x) for line in drawn if line]
    return lead(*lines) if len(lines) == 2 else None


def on_crossing(metrics: pd.DataFrame) -> list[str]:
    """From which step on the deepest residual network is ahead in running training error, over seeds.

    `metrics` as `store.metrics_of`, of one condition; the paper's two networks beside it.
    """
    finished = metrics[metrics["status"] == "finished"] if len(metrics) else metrics
    pair = means.deepest_pair(finished, "A", "B", "C") if len(finished) else None
    if pair is None:
        return ["Fewer than two depths of residual networks are finished: no curves to compare."]
    errors = finished.groupby(["seed", "step", "network"])["train_error"].mean().unstack()[list(pair)]
    by_seed = [rows.droplevel("seed").dropna() for _, rows in errors.groupby("seed")]
    both = [rows for rows in by_seed if len(rows)]
    leads = [(found.step, rows.index[-1]) for rows in both if (found := lead(*(rows[n] for n in pair)))]
    said = "{} stays below {} in running training error to the end with ".format(*pair)
    said += f"{len(leads)} of {seeds(len(both))}"
    if leads:
        steps, shares = [step for step, _ in leads], [step / last for step, last in leads]
        said += (
            f", from step {_span(steps, '{:,.0f}'.format)} on ({_span(shares, percent)} of the steps)"
        )
    apart = _distances(finished, both, *pair) if 0 < len(both) != len(leads) else []
    return [f"{said}.", *apart, *_papers(*pair)]


def _distances(
    metrics: pd.DataFrame, both: Sequence[pd.DataFrame], deep: str, shallow: str
) -> list[str]:
    """How far behind the deeper one is at first, before the rate falls, and at the end."""
    gaps = pd.concat([rows[deep] - rows[shallow] for rows in both], axis=1).dropna().mean(axis=1)
    if gaps.empty:
        return []
    tenth, end = gaps.index[-1] / 10, gaps.index[-1]
    rates = metrics.groupby("step")["lr"].agg(["min", "max"]) if "lr" in metrics else None
    falls = []
    if rates is not None and (rates["min"] == rates["max"]).all():  # by milestones, not by seed
        rate = rates["min"].loc[:end]
        falls = [step for step in rate.index[rate.shift(-1) < rate] if step < end]
    parts = []
    for last, when in (
        (tenth, "over the first tenth of the steps"),
        *((step, f"over the tenth before the rate falls at step {step:,}") for step in falls),
        (end, "over the last tenth"),
    ):
        if len(within := gaps[(gaps.index > last - tenth) & (gaps.index <= last)]):
            parts.append(f"{within.mean():+.2f} {when}")
    return [f"{deep} minus {shallow} in points, mean over {seeds(len(both))}: {', '.join(parts)}."]


def _span(values: list[float], write: Callable[[float], str]) -> str:
    """The value, or the lowest and the highest: `3,900 … 4,300`."""
    return " … ".join(dict.fromkeys(write(value) for value in (min(values), max(values))))


def _papers(deep: str, shallow: str) -> list[str]:
    line, found = paper.curve(deep, "train_error"), papers_lead(deep, shallow)
    if line is None or found is None:
        return []
    where = f"{line.source}, {'CIFAR-10' if line.data == 'cifar10' else 'ImageNet'}"
    since = f"step {found.step:,.0f} on, {percent(found.step / line.x[-1])} of its steps"
    seen = "" if found.crossed else "; that is the first step at which they can be told apart"
    return [f"The paper's {deep} stays below its {shallow} from {since}{seen} ({where})."]
