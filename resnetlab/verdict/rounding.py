"""How much of a failure is rounding, in sentences."""

from __future__ import annotations

import pandas as pd

from resnetlab.verdict import means, words

PRECISIONS = ("fp64", "fp32", "tf32", "bf16")  # from the most exact to the least


def on_precisions(table: pd.DataFrame) -> list[str]:
    """How much of a failure is rounding, in sentences: every precision against fp64, seed by seed.

    `table` has runs that share everything but seed, network and precision; of a network those seeds
    count that all its precisions have. For each network with runs in fp64: the final training errors,
    whether it fails in fp64 too (the 95 % interval of its error above NEGLIGIBLE), and what is left
    there of the error of every other precision.
    """
    finished = table[table["status"] == "finished"]
    if finished.empty:
        return [words.NOTHING]
    sentences = []
    for network, runs in means.by_depth(finished):
        used = [name for name in PRECISIONS if (runs["precision"] == name).any()]
        seeds = [set(runs[runs["precision"] == name]["seed"]) for name in used]
        if shared := set.intersection(*seeds):  # what stands side by side is of the same seeds
            runs = runs[runs["seed"].isin(shared)]
        errors = [f"{words.mean_error(runs[runs['precision'] == name])} in {name}" for name in used]
        of = (
            f" ({words.seeds(len(shared))} that all have)"
            if len(set.union(*seeds)) > len(shared)
            else ""
        )
        head = f"{network}: final training error {', '.join(errors)}{of}."
        if used[0] != "fp64":
            sentences.append(f"{head} Without runs in fp64 rounding cannot be told apart.")
            continue
        exact = runs[runs["precision"] == "fp64"].groupby("seed")["train_error"].mean()
        errors_in_fp64 = means.paired(network, "no error", exact)
        sentences.append(f"{head} {_fails_exactly(errors_in_fp64)}")
        for name in used[1:]:
            gap = means.contrast(runs, name, "fp64", by="precision")
            if gap is None:
                continue
            conclusion = words.settled(
                gap,
                near=f"{words.WITHIN}: rounding adds no more.",
                near_first=True,
                higher="Rounding adds to the error.",
                lower=f"In {name} the error is lower.",
                unsettled="What rounding adds, these seeds do not settle.",
            )
            text = f"{network}, {name} minus fp64: {gap}. {conclusion}"
            both = runs[(runs["precision"] == name) & runs["seed"].isin(exact.index)]
            mean = float(both.groupby("seed")["train_error"].mean().mean())
            if mean > means.NEGLIGIBLE and gap.sign:
                left = 100 * (mean - gap.mean) / mean
                part = "all" if left >= 100 else f"{left:.0f} %"
                text += f" Of the error in {name}, {part} is there in fp64."
            sentences.append(text)
    return sentences + words.diverged(table)


def _fails_exactly(errors: means.Contrast) -> str:
    """Whether final errors in float64 (differences to zero) are a failure not made by rounding."""
    if errors.n < means.ENOUGH_SEEDS:
        return words.too_few("seeds in fp64 to say")
    low, high = errors.interval
    if low > means.NEGLIGIBLE:
        return f"It fails in fp64 too ({errors.brief}): rounding is not what makes it fail."
    if high < means.NEGLIGIBLE:
        return f"In fp64 it does not fail ({errors.brief})."
    return "Whether it fails in fp64, these seeds do not settle."


AS_LARGE = 1.0  # an error as large as the gradient itself


def median_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Median over the layers of `probes.gradient_error`: one row per network, seed and arithmetic.

    `frame` has the columns of `store.IDENTITY`, arithmetic, layer, relative and norm; those of the
    result are the same without layer.
    """
    who = [name for name in frame.columns if name not in ("layer", "relative", "norm")]
    return frame.groupby(who, sort=False)[["relative", "norm"]].median().reset_index()


def on_rounding(frame: pd.DataFrame) -> list[str]:
    """How far gradients are from float64's, a sentence per arithmetic: by family and depth.

    `frame` as `median_errors` takes it; geometric means over seeds of the medians over layers. Where
    an error is as large as the gradient or larger, the cosine between the two, taken as of one length
    (0.5 at 100 %, 0 at 141 %), and by how much the norm is off, which alone would not show it.
    """
    usable = frame[frame["relative"] > 0]
    if usable.empty:
        return ["No gradient error measured yet: nothing can be said."]
    sentences = []
    for arithmetic, medians in median_errors(usable).groupby("arithmetic", sort=False):
        parts, lost, errors = [], [], {}
        for family, rows in medians.groupby("family", sort=True):
            errors[family] = at_depth = rows.groupby("depth")["relative"].agg(means.geometric_mean)
            shares = (f"{words.percent(value)} ({depth} layers)" for depth, value in at_depth.items())
            parts.append(f"{family} {', '.join(shares)}")
            norms = rows.groupby("depth")["norm"].median()
            lost += [
                f"{family} with {depth} layers {1 - error**2 / 2:.2f} "
                f"(norms off by {words.percent(norm)})"
                for (depth, error), norm in zip(at_depth.items(), norms, strict=True)
                if error >= AS_LARGE
            ]
        sentence = f"{arithmetic}: {'; '.join(parts)}."
        shared = sorted(set.intersection(*(set(one.index) for one in errors.values())))
        if len(errors) == 2 and shared:
            factor = errors["plain"][shared[-1]] / errors["residual"][shared[-1]]
            sentence += f" At {shared[-1]} layers plain over residual: {words.times(factor)} times."
        if lost:
            sentence += f" Cosine where the error is as large as the gradient: {'; '.join(lost)}."
        sentences.append(sentence)
    return sentences
