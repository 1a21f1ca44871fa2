"""Do deeper plain networks train worse, and residual ones better? In sentences, and paired by seed."""

from __future__ import annotations

import pandas as pd

from resnetlab.verdict import means, words

FAMILIES = {"plain": ("none",), "residual": ("A", "B", "C")}  # and their shortcut options


def on_degradation(table: pd.DataFrame) -> list[str]:
    """Sentences that answer: do deeper plain networks train worse, and do residual ones?

    `table` is a table of runs on one data set with one recipe (`Study.table`). Every sentence carries
    n and spread, or says what is missing. Claims need three seeds that agree and a 95 % confidence
    interval that excludes zero (see `Contrast.sign`).
    """
    if not (table["status"] == "finished").any():
        return [words.NOTHING]
    if len(means.conditions(table)) > 1:
        return [words.MIXED]
    pairs = {family: means.deepest_pair(table, *options) for family, options in FAMILIES.items()}
    sentences = []
    for family, pair in pairs.items():
        if pair is None:
            sentences.append(f"Fewer than two depths of {family} networks are finished.")
        elif gap := means.contrast(table, *pair):
            sentences.append(_of_depth(family, gap))
        else:
            sentences.append(f"{pair[0]} and {pair[1]} share no finished seed.")
    plain, residual = pairs.values()
    if plain is not None and residual is not None:
        depths = table.drop_duplicates("network").set_index("network")["depth"]
        across = means.contrast(table, plain[0], residual[0])
        if across is not None and depths[plain[0]] == depths[residual[0]]:
            sentences.append(_of_shortcuts(across))
    return sentences + words.diverged(table)


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


def _of_depth(family: str, gap: means.Contrast) -> str:
    head = f"Final training error of {gap.worse} minus {gap.better}: {gap}."
    if gap.n < means.ENOUGH_SEEDS:
        lean = "Higher" if gap.mean > 0 else "Not higher"
        return f"{head} {lean}, but {words.too_few().lower()}"
    higher = {
        "plain": "The deeper plain network is worse on the TRAINING set: degradation, not overfitting.",
        "residual": "Here the deeper residual network is behind too, at this number of steps; compare "
        "it with the plain one.",
    }
    lower, near = "Deeper is better: no degradation.", f"{words.WITHIN}: no degradation."
    return f"{head} {words.settled(gap, higher=higher[family], lower=lower, near=near)}"


def _of_shortcuts(gap: means.Contrast) -> str:
    head = f"At equal depth, {gap.worse} minus {gap.better}: {gap}."
    if gap.n < means.ENOUGH_SEEDS:
        return head
    higher = "The shortcuts alone, which add no parameter, make the difference."
    if gap.better.endswith(("-B", "-C")):
        higher = "The shortcuts make the difference; their projections add parameters."
    return f"{head} {words.settled(gap, higher=higher, lower='Here the plain network is ahead.')}"
