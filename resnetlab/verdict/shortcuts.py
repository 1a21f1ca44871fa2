"""What shortcuts A, B and C gain at equal depth (Table 3), in sentences."""

from __future__ import annotations

import itertools

import pandas as pd

from resnetlab.verdict.means import (
    _MIXED,
    ENOUGH_SEEDS,
    NEGLIGIBLE,
    Contrast,
    _conditions,
    _diverged,
    contrast,
    ordinary,
)


def on_shortcuts(table: pd.DataFrame) -> list[str]:
    """Sentences that answer Table 3's question: what do shortcuts A, B and C gain at equal depth?

    `table` as for `on_degradation`. Neighbours in the order none, A, B, C are compared, on the training
    error (is the degradation gone?) and on the test error (Table 3), at every depth that has them.
    """
    if table.empty or not (table["status"] == "finished").any():
        return ["No finished run yet: nothing can be said."]
    if _conditions(table) > 1:
        return [_MIXED]
    sentences = []
    for _, own in ordinary(table[table["status"] == "finished"]).groupby("depth"):
        names = own.drop_duplicates("shortcut").set_index("shortcut")["network"]
        there = [names[option] for option in ("none", "A", "B", "C") if option in names]
        for worse, better in itertools.pairwise(there):
            for quantity, word in (("train_error", "training"), ("test_error", "test")):
                found = contrast(table, worse, better, quantity)
                if found is None:
                    continue
                head = f"Final {word} error of {worse} minus {better}: {found}."
                sentences.append(f"{head} {_comparison(found)}")
    missing = ["No two shortcut options of one depth share a finished seed."]
    return (sentences or missing) + _diverged(table)


def _comparison(found: Contrast) -> str:
    if found.n < ENOUGH_SEEDS:
        return f"Too few seeds to say: {ENOUGH_SEEDS} are needed."
    if found.sign > 0:
        return f"{found.better} is ahead."
    if found.sign < 0:
        return f"{found.worse} is ahead."
    if found.negligible:
        return f"Less than {NEGLIGIBLE:g} point apart, with 95 % confidence."
    return "These seeds do not settle it."
