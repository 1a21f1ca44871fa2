"""Do deeper plain networks train worse, and residual ones better? In sentences, and paired by seed."""

from __future__ import annotations

import pandas as pd

from resnetlab.verdict import means, order, words

FAMILIES = {"plain": ("none",), "residual": ("A", "B", "C")}  # and their shortcut options
_BY_DEPTH = {1: "the deeper one is worse on {images}", -1: "the deeper one is better on {images}"}


def on_degradation(table: pd.DataFrame) -> list[str]:
    """Sentences that answer: do deeper plain networks train worse, and residual ones better?

    `table` is a table of runs on one data set with one recipe (`Study.table`). The deepest network of
    each family, and the one at the largest depth that both have, against that of 20 layers (or the
    shallowest), and plain against residual at that depth; on training and test error. Claims need three
    seeds that agree and a 95 % confidence interval that excludes zero (see `Contrast.sign`); every one
    stands with that interval and with n.
    """
    if not (table["status"] == "finished").any():
        return [words.NOTHING]
    if len(means.conditions(table).drop_duplicates()) > 1:
        return [words.MIXED]
    return order.in_words(table, _claims, _missing(table))


def _claims(table: pd.DataFrame) -> list[order.Claim]:
    finished = means.ordinary(table[table["status"] == "finished"])
    names = finished.groupby(["depth", "shortcut"])["network"].first().unstack()
    options = [option for option in FAMILIES["residual"] if option in names]
    twins = names[["none", options[0]]].dropna() if "none" in names and options else names[:0]
    shared = table[table["depth"] <= twins.index.max()]  # none, where no depth has both
    pairs = [
        means.deepest_pair(part, *FAMILIES[family]) for family in FAMILIES for part in (table, shared)
    ]
    found = []
    for pair in dict.fromkeys(filter(None, pairs)):
        found += order.claims(table, *pair, _BY_DEPTH)
    if len(twins):
        why = "the shortcuts alone, which add no parameter, make the difference"
        if options[0] != "A":
            why = "the shortcuts make the difference; their projections add parameters"
        plain, residual = twins.iloc[-1]
        found += order.claims(table, plain, residual, {1: why, -1: "the plain one is ahead"})
    return found


def _missing(table: pd.DataFrame) -> list[str]:
    """What there is no claim on, and why."""
    sentences = []
    for family, options in FAMILIES.items():
        pair = means.deepest_pair(table, *options)
        if pair is None:
            sentences.append(f"Fewer than two depths of {family} networks are finished.")
        elif means.contrast(table, *pair) is None:
            sentences.append(f"{pair[0]} and {pair[1]} share no finished seed.")
    return sentences


def depth_effects(table: pd.DataFrame) -> pd.DataFrame:
    """What depth costs or gains, per family and error: deep minus shallow, paired by seed.

    `table` as for `on_degradation`, of one condition. Columns: family, deep, shallow, error (training,
    clean training, test: final, in percent), mean, sd, low and high (the 95 % interval of the mean by
    Student's t; NaN below three seeds), n. Runs that diverged stand in no pair.
    """
    rows = []
    for family, options in FAMILIES.items():
        pair = means.deepest_pair(table, *options) if len(table) else None
        if pair is None:
            continue
        for quantity, word in means.MEASURED.items():
            if gap := means.contrast(table, *pair, quantity):
                rows.append((family, *pair, word, gap.mean, gap.spread, *gap.interval, gap.n))
    columns = ["family", "deep", "shallow", "error", "mean", "sd", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)
