"""How much shortcut is enough, and what blocks are worth, in sentences."""

from __future__ import annotations

import itertools

import pandas as pd

from resnetlab.verdict.means import ENOUGH_SEEDS, NEGLIGIBLE, Contrast, _signed


def on_dial(frame: pd.DataFrame) -> list[str]:
    """How much shortcut is enough: the error at each scale, and from which on it is the full one's.

    `frame` as `plots.shortcut_dial`. Paired over seeds with scale 1: enough is a scale from which on
    every scale's clean training error is within NEGLIGIBLE points of scale 1, with 95 % confidence.
    """
    if frame.empty:
        return ["No scaled shortcuts trained yet: nothing can be said."]
    errors = frame.pivot_table(index="seed", columns="scale", values="train_error_clean")
    parts = []
    for scale in errors:
        own = errors[scale].dropna()
        spread = f" ± {own.std():.1f}" if len(own) > 1 else ""
        parts.append(f"{own.mean():.1f}{spread} (a = {scale:g})")
    count = int(errors.count().min())
    noun = "seed" if count == 1 else "seeds"
    sentences = [f"Clean training error in percent, {count} {noun}: {', '.join(parts)}."]
    means = errors.mean()
    risen = [
        f"{low:g} to {high:g}"
        for low, high in itertools.pairwise(means.index)
        if means[high] > means[low] + NEGLIGIBLE
    ]
    if risen:
        sentences.append(f"The mean does not only fall: it rises from a = {', '.join(risen)}.")
    if 1.0 not in errors or len(errors.columns) < 2:
        return [*sentences, "Without a = 1 and another scale nothing can be compared."]
    if count < ENOUGH_SEEDS:
        return [*sentences, f"Too few seeds to say how much is enough: {ENOUGH_SEEDS} are needed."]
    enough: float | None = None
    for scale in reversed([one for one in errors if one != 1.0]):
        pairs = (errors[scale] - errors[1.0]).dropna()
        if not Contrast(f"a = {scale:g}", "a = 1", tuple(map(float, pairs))).negligible:
            break
        enough = float(str(scale))
    if enough is None:
        return [*sentences, "No scale below 1 is within 1 point of the full shortcut for sure."]
    return [
        *sentences,
        f"From a = {enough:g} on it is within {NEGLIGIBLE:g} point of a = 1, with 95 % confidence.",
    ]


def on_lesions(frame: pd.DataFrame) -> list[str]:
    """What a network loses with its blocks: one sentence for single ones, one for several at random.

    `frame` as `plots.lesions`. Points are test error with blocks removed minus intact, run by run.
    """
    if frame.empty:
        return ["No block was removed: nothing can be said."]
    sentences = []
    added = frame.assign(added=frame["test_error"] - frame["intact_error"])
    for (_, _, network), own in added.groupby(["depth", "family", "network"], sort=True):
        seeds = own["seed"].nunique()
        single, several = own[own["removed"] == 1], own[own["removed"] > 1]
        if len(single):
            by_place = single.groupby("place")["added"].mean()
            worst = int(str(by_place.idxmax()))
            sentences.append(
                f"{network} ({seeds} seed{'s' if seeds > 1 else ''}): without one of its "
                f"{int(own['blocks'].max())} blocks {_signed(by_place.min())} to "
                f"{_signed(by_place.max())} points of test error (means over seeds), median "
                f"{_signed(single['added'].median())}; most without block {worst + 1}."
            )
        if len(several):
            means = several.groupby("removed")["added"].agg(["mean", "std"])
            parts = [
                f"{_signed(row['mean'])} ± {row['std']:.1f} without {number}"
                for number, row in means.iterrows()
            ]
            sentences.append(f"{network}: {', '.join(parts)} at random (seeds and draws).")
    return sentences
