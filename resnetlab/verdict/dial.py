"""How much shortcut is enough, and what blocks are worth, in sentences."""

from __future__ import annotations

import itertools

import pandas as pd

from resnetlab.verdict.means import ENOUGH_SEEDS, NEGLIGIBLE, Contrast, paired, plus_minus
from resnetlab.verdict.words import SURELY, seeds, too_few


def on_dial(frame: pd.DataFrame) -> list[str]:
    """How much shortcut is enough: the error at each scale, and from which on it is the full one's.

    `frame` as `plots.shortcut_dial`. Paired over seeds with scale 1: enough is a scale from which on
    every scale's clean training error is within NEGLIGIBLE points of scale 1, with 95 % confidence.
    """
    if frame.empty:
        return ["No scaled shortcuts trained yet: nothing can be said."]
    errors = frame.pivot_table(index="seed", columns="scale", values="train_error_clean")
    means, count = errors.mean(), int(errors.count().min())
    by_scale = [(scale, plus_minus(run.mean(), run.std(), 1)) for scale, run in errors.items()]
    parts = [f"{words} (a = {scale:g})" for scale, words in by_scale]
    sentences = [f"Clean training error in percent, {seeds(count)}: {', '.join(parts)}."]
    steps = itertools.pairwise(means.index)
    risen = [
        f"from a = {low:g} to {high:g} by {_gap(errors, high, low).brief}"
        for low, high in steps
        if means[high] > means[low] + NEGLIGIBLE
    ]
    if risen:
        sentences.append(f"The mean does not only fall: it rises {'; '.join(risen)}.")
    if 1.0 not in errors or len(errors.columns) < 2:
        return [*sentences, "Without a = 1 and another scale nothing can be compared."]
    if count < ENOUGH_SEEDS:
        return [*sentences, too_few("seeds to say how much is enough")]
    if 0.0 in errors:
        helps = "; ".join(f"a = {scale:g} {gap.brief}" for scale, gap in helping(errors).items())
        sentences.append(f"Minus a = 0, seed by seed, in points: {helps}.")
    below = [scale for scale in means.index if scale != 1.0]
    gaps = {scale: _gap(errors, scale, 1.0) for scale in below}
    apart = "; ".join(f"a = {scale:g} {gap.brief}" for scale, gap in gaps.items())
    sentences.append(f"Minus a = 1, seed by seed, in points: {apart}.")
    near = [gap.negligible for gap in gaps.values()]
    enough = [scale for at, scale in enumerate(below) if all(near[at:])]
    conclusion = f"No scale below 1 is within {NEGLIGIBLE:g} point of the full shortcut, {SURELY}."
    if enough:
        conclusion = f"From a = {enough[0]:g} on it is within {NEGLIGIBLE:g} point of a = 1, {SURELY}."
    return [*sentences, conclusion]


def helping(errors: pd.DataFrame) -> dict[float, Contrast]:
    """Error at each scale minus that without any shortcut, seed by seed; a row per seed."""
    scales = [float(scale) for scale in errors.columns.astype(float) if scale]
    return {scale: _gap(errors, scale, 0.0) for scale in scales}


def _gap(errors: pd.DataFrame, scale: float, other: float) -> Contrast:
    return paired(f"a = {scale:g}", f"a = {other:g}", (errors[scale] - errors[other]).dropna())


def on_lesions(frame: pd.DataFrame) -> list[str]:
    """What a network loses with its blocks: one sentence for single ones, one for several at random.

    `frame` as `plots.lesions`. Points are test error with blocks removed minus intact, run by run.
    """
    if frame.empty:
        return ["No block was removed: nothing can be said."]
    sentences = []
    added = frame.assign(added=frame["test_error"] - frame["intact_error"])
    for (_, _, network), rows in added.groupby(["depth", "family", "network"], sort=True):
        single, several = rows[rows["removed"] == 1], rows[rows["removed"] > 1]
        if len(single):
            by_place = single.groupby("place")["added"].mean()
            worst = int(str(by_place.idxmax()))
            sentences.append(
                f"{network} ({seeds(rows['seed'].nunique())}): without one of its "
                f"{int(rows['blocks'].max())} blocks {by_place.min():+.1f} to "
                f"{by_place.max():+.1f} points of test error (means over seeds), median "
                f"{single['added'].median():+.1f}; most without block {worst + 1}."
            )
        if len(several):
            by_seed = several.groupby(["removed", "seed"])["added"].mean()  # draws are no seeds
            means = by_seed.groupby("removed").agg(["mean", "std"]).itertuples()
            parts = [f"{mean:+.1f} ± {std:.1f} without {number}" for number, mean, std in means]
            over = f"{seeds(several['seed'].nunique())}, each the mean of its draws"
            sentences.append(f"{network}: {', '.join(parts)} at random ({over}).")
    return sentences
