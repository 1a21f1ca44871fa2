"""The constructed solution: the same function, and what training makes of it, in sentences."""

from __future__ import annotations

import pandas as pd

from resnetlab.verdict.means import ENOUGH_SEEDS, NEGLIGIBLE
from resnetlab.verdict.words import rounded, seeds, too_few


def on_same_function(frame: pd.DataFrame) -> list[str]:
    """Is the built network the same function? A sentence per network, over its seeds.

    `frame` has the columns of `store.IDENTITY`, which (before, after, disturbed), built (the deeper
    network's name), error (percent, test) and logits (largest change of a logit, in evaluation mode).
    """
    sentences = []
    for network, rows in frame.groupby("network", sort=True):
        parts = {str(which): part.set_index("seed") for which, part in rows.groupby("which")}
        before, after, disturbed = (parts[which] for which in ("before", "after", "disturbed"))
        apart = (after["error"] - before["error"]).abs().max()
        word = "equal" if apart == 0 else f"up to {apart:.2f} points apart"
        errors = ", ".join(f"{error:.2f}" for error in before["error"])
        sentences.append(
            f"{network} as {after['built'].iloc[0]} ({seeds(len(after))}): a logit changes by "
            f"{rounded(after['logits'].max())} at most; test errors {word} ({errors} %). With one "
            f"added weight disturbed a logit changes by {rounded(disturbed['logits'].min())} or more."
        )
    return sentences or ["Nothing was built: nothing can be said."]


LOST = 5.0  # points of running training error above the start; it is noisy: few images, training mode


def _in_percent(errors: pd.Series[float]) -> str:
    return ", ".join(f"{value:.1f}" if value == value else "diverged" for value in errors)


def kept(frame: pd.DataFrame) -> pd.Series[bool]:
    """Which runs of `on_kept`'s frame have kept the solution that they began with.

    A run has if its clean training error at the end is less than NEGLIGIBLE points above the
    solution's own, and its running one was always less than LOST points above it; a loss that is not
    finite has left it.
    """
    start = frame["start_train_error_clean"]  # what is compared with NaN is False
    at_the_end = frame["train_error_clean"] - start < NEGLIGIBLE
    return at_the_end & (frame["peak_train_error"] - start < LOST)


def on_kept(frame: pd.DataFrame) -> list[str]:
    """Does SGD keep a constructed solution (`kept`)? One sentence per family and rate, and a summary.

    `frame` as `plots.trained_on`, with peak_train_error, the highest running training error on the way,
    and, where it was measured, shallow_train_error_clean, what the shallow network itself came to at
    the same rate in as many steps.
    """
    if frame.empty:
        return ["Nothing was trained on: nothing can be said."]
    sentences, left_at = [], []
    for family, rows in frame.groupby("family", sort=True):
        for rate, runs in rows.groupby("lr", sort=True):
            start, stayed = runs["start_train_error_clean"], kept(runs)
            ends = _in_percent(runs["train_error_clean"])
            sentences.append(
                f"{str(family).capitalize()}, rate {rate:g}: kept by {int(stayed.sum())} of "
                f"{seeds(len(runs))}; training error at the end {ends} % (before {start.mean():.1f} "
                f"%), at most {runs['peak_train_error'].max():.1f} % on the way."
            )
            shallow = runs.get("shallow_train_error_clean", pd.Series(dtype=float))
            if len(shallow):
                sentences[-1] += f" Without the added layers: {_in_percent(shallow)} %."
            if not stayed.all():
                every = "every seed" if not stayed.any() else f"{int((~stayed).sum())} of {len(runs)}"
                both = len(shallow) and not (shallow - start < NEGLIGIBLE).all()
                too = "; the shallow one left its own too" if both else ""
                left_at.append(f"{family} networks at rate {rate:g} ({every}{too})")
    count = int(frame.groupby(["family", "lr"])["seed"].nunique().min())
    summary = "SGD kept the solution at every rate tried."
    if left_at:
        summary = f"The solution exists, and SGD left it: {', '.join(left_at)}."
    few = f" {too_few('seeds to say more')}" if count < ENOUGH_SEEDS else ""
    return [*sentences, summary + few]
