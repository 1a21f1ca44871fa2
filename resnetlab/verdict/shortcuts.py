"""What shortcuts A, B and C gain at equal depth (Table 3), in sentences."""

from __future__ import annotations

import pandas as pd

from resnetlab import paper
from resnetlab.verdict import means, order, words

_OF_34_LAYERS = {"A": "resnet-34", "B": "resnet-34-B", "C": "resnet-34-C", "none": "plain-34"}


def on_shortcuts(table: pd.DataFrame) -> list[str]:
    """Sentences that answer Table 3's question: what do shortcuts A, B and C gain at equal depth?

    `table` as for `on_degradation`. At every depth that has them none, B and C are set against A (or
    the first option there is), on the final training error and on the test error. Where the paper has
    not that depth, its 34 layers stand beside ours.
    """
    finished = table[table["status"] == "finished"]
    if finished.empty:
        return [words.NOTHING]
    if len(means.conditions(table).drop_duplicates()) > 1:
        return [words.MIXED]
    missing = [] if claims(table) else ["No two shortcut options of one depth share a finished seed."]
    return order.in_words(table, claims, missing)


def named(table: pd.DataFrame) -> dict[str, str]:
    """Shortcut option -> its network, of the deepest in the table."""
    ordered = means.ordinary(table).sort_values("depth")
    return dict(zip(ordered["shortcut"], ordered["network"], strict=True))


def claims(table: pd.DataFrame) -> list[order.Claim]:
    """Every option against the first there is, at every depth, on training and test error."""
    found = []
    finished = means.ordinary(table[table["status"] == "finished"])
    for _, runs in finished.groupby("depth"):
        names = runs.drop_duplicates("shortcut").set_index("shortcut")["network"]
        first, *others = [option for option in _OF_34_LAYERS if option in names]
        for other in others:
            pair = names[other], names[first]
            known = paper.difference(*pair, "test_error")
            like = None if known else (_OF_34_LAYERS[other], _OF_34_LAYERS[first])
            says = {1: f"{pair[0]} is behind", -1: f"{pair[0]} is ahead"}
            found += order.claims(table, *pair, says, ("train_error", "test_error"), like)
    return found
