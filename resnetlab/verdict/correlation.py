"""How alike gradients at neighbouring inputs are, in sentences."""

from __future__ import annotations

import pandas as pd

SHATTERED = 0.1  # cosine below which neighbours' gradients are called unrelated; a convention


def on_correlations(frame: pd.DataFrame) -> list[str]:
    """How alike gradients at neighbouring inputs are, by family and depth, in sentences.

    `frame` has the columns of `store.IDENTITY` and value, the mean cosine of neighbours, one row a
    network and seed. Means and sample standard deviations over seeds.
    """
    values = frame.dropna(subset=["value"])
    if values.empty:
        return ["No correlation measured yet: nothing can be said."]
    sentences = []
    for family in ("plain", "residual"):
        own = values[values["family"] == family]
        if own.empty:
            continue
        by_depth = own.groupby("depth")["value"].agg(["mean", "std", "count"])
        parts = []
        for depth, row in by_depth.iterrows():
            spread = "" if pd.isna(row["std"]) else f" ± {row['std']:.2f}"
            parts.append(f"{depth} layers {row['mean']:.2f}{spread}")
        count = int(by_depth["count"].min())
        head = f"{family.capitalize()}: {', '.join(parts)} ({count} seed{'s' if count > 1 else ''})."
        low = [depth for depth in by_depth.index if by_depth["mean"][depth] < SHATTERED]
        if not low:
            said = f"No depth measured falls below {SHATTERED:g}."
        elif all(by_depth["mean"][depth] < SHATTERED for depth in by_depth.index if depth >= low[0]):
            said = f"Below {SHATTERED:g} from {low[0]} layers on: one step further the gradient is new."
        else:
            said = f"Below {SHATTERED:g} at {', '.join(map(str, low))} layers."
        sentences.append(f"{head} {said}")
    return sentences
