"""How alike gradients at neighbouring inputs are, in sentences."""

from __future__ import annotations

import pandas as pd

from resnetlab.verdict.means import plus_minus
from resnetlab.verdict.words import seeds

SHATTERED = 0.1  # cosine below which neighbours' gradients are called unrelated; a convention


def on_correlations(frame: pd.DataFrame) -> list[str]:
    """How alike gradients at neighbouring inputs are, by family and depth, in sentences.

    `frame` has the columns of `store.IDENTITY` and value, the mean cosine of neighbours, one row per
    network and seed. Means and sample standard deviations over seeds.
    """
    values = frame.dropna(subset=["value"])
    if values.empty:
        return ["No correlation measured yet: nothing can be said."]
    sentences = []
    for family, members in values.groupby("family"):
        by_depth = members.groupby("depth")["value"].agg(["mean", "std", "count"])
        rows = by_depth[["mean", "std"]].itertuples()
        parts = [f"{depth} layers {plus_minus(mean, std)}" for depth, mean, std in rows]
        count = seeds(int(by_depth["count"].min()))
        head = f"{str(family).capitalize()}: {', '.join(parts)} ({count})."
        shattered = by_depth["mean"] < SHATTERED
        low = by_depth.index[shattered]
        if low.empty:
            conclusion = f"No depth measured falls below {SHATTERED:g}."
        elif shattered.loc[low[0] :].all():
            on = f"from {low[0]} layers on: one step further the gradient is new."
            conclusion = f"Below {SHATTERED:g} {on}"
        else:
            conclusion = f"Below {SHATTERED:g} at {', '.join(map(str, low))} layers."
        sentences.append(f"{head} {conclusion}")
    return sentences
