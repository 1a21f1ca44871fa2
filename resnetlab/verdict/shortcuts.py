"""What shortcuts A, B and C gain at equal depth (Table 3), in sentences."""

from __future__ import annotations

import itertools

import pandas as pd

from resnetlab.verdict.means import NEGLIGIBLE, conditions, contrast, ordinary
from resnetlab.verdict.words import MIXED, NOTHING, SURELY, diverged, settled

_NEAR = f"Less than {NEGLIGIBLE:g} point apart, {SURELY}."


def on_shortcuts(table: pd.DataFrame) -> list[str]:
    """Sentences that answer Table 3's question: what do shortcuts A, B and C gain at equal depth?

    `table` as for `on_degradation`. Neighbours in the order none, A, B, C are compared, on the training
    error (is the degradation gone?) and on the test error (Table 3), at every depth that has them.
    """
    finished = table[table["status"] == "finished"]
    if finished.empty:
        return [NOTHING]
    if len(conditions(table)) > 1:
        return [MIXED]
    sentences = []
    for _, runs in ordinary(finished).groupby("depth"):
        names = runs.drop_duplicates("shortcut").set_index("shortcut")["network"]
        networks = [names[option] for option in ("none", "A", "B", "C") if option in names]
        for worse, better in itertools.pairwise(networks):
            for quantity, word in (("train_error", "training"), ("test_error", "test")):
                if gap := contrast(table, worse, better, quantity):
                    higher, lower = f"{better} is ahead.", f"{worse} is ahead."
                    sentences.append(
                        f"Final {word} error of {worse} minus {better}: {gap}. "
                        f"{settled(gap, higher=higher, lower=lower, near=_NEAR)}"
                    )
    missing = ["No two shortcut options of one depth share a finished seed."]
    return (sentences or missing) + diverged(table)
