"""Do deeper plain networks train worse, and residual ones better? In sentences, and paired by seed."""

from __future__ import annotations

import pandas as pd

from resnetlab.verdict.means import (
    _ERRORS,
    _MIXED,
    ENOUGH_SEEDS,
    NEGLIGIBLE,
    Contrast,
    _conditions,
    _diverged,
    contrast,
    deepest_pair,
)


def on_degradation(table: pd.DataFrame) -> list[str]:
    """Sentences that answer: do deeper plain networks train worse, and do residual ones?

    `table` is a table of runs on one data set with one recipe (`Study.table`). Every sentence carries
    n and spread, or says what is missing. Claims need three seeds that agree and a 95 % confidence
    interval that excludes zero (see `Contrast.sign`).
    """
    if table.empty or not (table["status"] == "finished").any():
        return ["No finished run yet: nothing can be said."]
    if _conditions(table) > 1:
        return [_MIXED]
    sentences = []
    plain, residual = deepest_pair(table, "none"), deepest_pair(table, "A", "B", "C")
    for family, pair in (("plain", plain), ("residual", residual)):
        if pair is None:
            sentences.append(f"Fewer than two depths of {family} networks are finished.")
            continue
        found = contrast(table, *pair)
        if found is None:
            sentences.append(f"{pair[0]} and {pair[1]} share no finished seed.")
        else:
            sentences.append(_depth_sentence(family, found))
    if plain is not None and residual is not None:
        across = contrast(table, plain[0], residual[0])
        depths = table.drop_duplicates("network").set_index("network")["depth"]
        if across is not None and depths[plain[0]] == depths[residual[0]]:
            sentences.append(_shortcut_sentence(across))
    return sentences + _diverged(table)


def depth_effects(table: pd.DataFrame) -> pd.DataFrame:
    """What depth costs or gains, per family and error: deep minus shallow, paired by seed.

    `table` as for `on_degradation`, of one condition. Columns: family, deep, shallow, error (training,
    clean training, test: final, in percent), mean, sd, low and high (the 95 % interval of the mean by
    Student's t; NaN below three seeds), n. Runs that diverged stand in no pair.
    """
    rows = []
    for family, options in (("plain", ("none",)), ("residual", ("A", "B", "C"))):
        pair = deepest_pair(table, *options) if len(table) else None
        for quantity, word in _ERRORS.items() if pair is not None else ():
            assert pair is not None
            found = contrast(table, *pair, quantity)
            if found is not None:
                rows.append((family, *pair, word, found.mean, found.spread, *found.interval, found.n))
    columns = ["family", "deep", "shallow", "error", "mean", "sd", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def _depth_sentence(family: str, found: Contrast) -> str:
    deep, shallow = found.worse, found.better
    head = f"Final training error of {deep} minus {shallow}: {found}."
    if found.n < ENOUGH_SEEDS:
        lean = "higher" if found.mean > 0 else "not higher"
        return f"{head} {lean.capitalize()}, but too few seeds to say: {ENOUGH_SEEDS} are needed."
    if found.sign > 0 and family == "plain":
        return (
            f"{head} The deeper plain network is worse on the TRAINING set: "
            "degradation, not overfitting."
        )
    if found.sign > 0:
        return (
            f"{head} Here the deeper residual network is behind too, at this number of steps; "
            "compare it with the plain one."
        )
    if found.sign < 0:
        return f"{head} Deeper is better: no degradation."
    if found.negligible:
        return f"{head} Less than {NEGLIGIBLE:g} point, with 95 % confidence: no degradation."
    return f"{head} These seeds do not settle it."


def _shortcut_sentence(found: Contrast) -> str:
    head = f"At equal depth, {found.worse} minus {found.better}: {found}."
    if found.n < ENOUGH_SEEDS:
        return head
    if found.sign > 0:
        if found.better.endswith(("-B", "-C")):
            return f"{head} The shortcuts make the difference; their projections add parameters."
        return f"{head} The shortcuts alone, which add no parameter, make the difference."
    if found.sign < 0:
        return f"{head} Here the plain network is ahead."
    return f"{head} These seeds do not settle it."
