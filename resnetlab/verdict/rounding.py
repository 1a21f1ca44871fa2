"""How much of a failure is rounding, in sentences."""

from __future__ import annotations

import pandas as pd

from resnetlab.verdict.means import (
    ENOUGH_SEEDS,
    NEGLIGIBLE,
    Contrast,
    _by_depth,
    _diverged,
    _geometric,
    _mean_error,
    _percent,
    _times,
    contrast,
)

PRECISIONS = ("fp64", "fp32", "tf32", "bf16")  # from the most exact to the least


def on_precisions(table: pd.DataFrame) -> list[str]:
    """How much of a failure is rounding, in sentences: every precision against fp64, seed by seed.

    `table` has runs that share everything but seed, network and precision. For each network with runs
    in fp64: the final training errors, whether it fails in fp64 too (the 95 % interval of its error
    above NEGLIGIBLE), and what is left there of the error of every other precision.
    """
    finished = table[table["status"] == "finished"] if len(table) else table
    if finished.empty:
        return ["No finished run yet: nothing can be said."]
    sentences = []
    for network, own in _by_depth(finished):
        there = [name for name in PRECISIONS if (own["precision"] == name).any()]
        errors = [f"{_mean_error(own[own['precision'] == name])} in {name}" for name in there]
        head = f"{network}: final training error {', '.join(errors)}."
        if there[0] != "fp64":
            sentences.append(f"{head} Without runs in fp64 rounding cannot be told apart.")
            continue
        exact = own[own["precision"] == "fp64"].drop_duplicates("seed").set_index("seed")["train_error"]
        sentences.append(f"{head} {_fails_exactly(Contrast(network, 'no error', tuple(exact)))}")
        for name in there[1:]:
            found = contrast(own, name, "fp64", by="precision")
            if found is None:
                continue
            both = own[(own["precision"] == name) & own["seed"].isin(exact.index)]
            mean = float(both.drop_duplicates("seed")["train_error"].mean())
            said = f"{network}, {name} minus fp64: {found}."
            if found.n < ENOUGH_SEEDS:
                said += f" Too few seeds to say: {ENOUGH_SEEDS} are needed."
            elif found.negligible:
                said += f" Less than {NEGLIGIBLE:g} point, with 95 % confidence: rounding adds nothing."
            else:
                words = {1: "Rounding adds to the error.", -1: f"In {name} the error is lower."}
                said += f" {words.get(found.sign, 'What rounding adds, these seeds do not settle.')}"
            if mean > NEGLIGIBLE:
                left = 100 * (mean - found.mean) / mean
                part = "all" if left >= 100 else f"{left:.0f} %"
                said += f" Of the error in {name}, {part} is there in fp64."
            sentences.append(said)
    return sentences + _diverged(table)


def _fails_exactly(errors: Contrast) -> str:
    """Whether final errors in float64 (differences to zero) are a failure not made by rounding."""
    if errors.n < ENOUGH_SEEDS:
        return f"Too few seeds in fp64 to say: {ENOUGH_SEEDS} are needed."
    if errors.mean - errors.margin > NEGLIGIBLE:
        return "It fails in fp64 too: rounding is not what makes it fail."
    if errors.mean + errors.margin < NEGLIGIBLE:
        return "In fp64 it does not fail."
    return "Whether it fails in fp64, these seeds do not settle."


NOTHING_LEFT = 1.0  # an error as large as the gradient itself: nothing of it is left


def median_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Median over the layers of `probes.gradient_error`: one row a network, seed and arithmetic.

    `frame` has the columns of `store.IDENTITY`, arithmetic, layer, relative and norm; those of the
    result are the same without layer.
    """
    who = [name for name in frame.columns if name not in ("layer", "relative", "norm")]
    return frame.groupby(who, sort=False)[["relative", "norm"]].median().reset_index()


def on_rounding(frame: pd.DataFrame) -> list[str]:
    """How far gradients are from float64's, a sentence an arithmetic: by family and depth.

    `frame` as `median_errors` takes it; geometric means over seeds of the medians over layers. Where
    nothing of a gradient is left, by how much its norm is off: norms alone would not show it.
    """
    usable = frame[frame["relative"] > 0] if len(frame) else frame
    if usable.empty:
        return ["No gradient error measured yet: nothing can be said."]
    medians = median_errors(usable)
    sentences = []
    for arithmetic in medians["arithmetic"].unique():
        own = medians[medians["arithmetic"] == arithmetic]
        said, lost, errors = [], [], {}
        for family, part in own.groupby("family", sort=True):
            errors[family] = by_depth = part.groupby("depth")["relative"].agg(_geometric)
            parts = (f"{_percent(value)} ({depth} layers)" for depth, value in by_depth.items())
            said.append(f"{family} {', '.join(parts)}")
            norms = part.groupby("depth")["norm"].median()
            lost += [
                f"{family} with {depth} layers, whose norms are off by {_percent(norms[depth])}"
                for depth, value in by_depth.items()
                if value >= NOTHING_LEFT
            ]
        sentence = f"{arithmetic}: {'; '.join(said)}."
        shared = sorted(set.intersection(*(set(found.index) for found in errors.values())))
        if len(errors) == 2 and shared:
            factor = errors["plain"][shared[-1]] / errors["residual"][shared[-1]]
            sentence += f" At {shared[-1]} layers plain over residual: {_times(factor)} times."
        if lost:
            sentence += f" Nothing of the gradient is left in {'; '.join(lost)}."
        sentences.append(sentence)
    return sentences
