"""One study under several conditions: another recipe, more steps; and what runs can say at all."""

from __future__ import annotations

import pandas as pd

from resnetlab.config import without_warmup
from resnetlab.verdict.degradation import on_degradation
from resnetlab.verdict.means import (
    _ERRORS,
    Contrast,
    _by_depth,
    _conditions,
    _mean_error,
    _moved,
    contrast,
    deepest_pair,
    ordinary,
)
from resnetlab.verdict.shortcuts import on_shortcuts


def answers(table: pd.DataFrame) -> list[str]:
    """What these runs can say: `on_degradation` where they have two depths, else `on_shortcuts`.

    Under several recipes, of one data set and precision, what each says and how they differ.
    """
    finished = ordinary(table[table["status"] == "finished"]) if len(table) else table
    one = len(table) and len(table[["data", "precision"]].drop_duplicates()) == 1
    if one and _conditions(table) > 1:
        return on_recipes(table)
    one_depth = len(finished) > 0 and finished["depth"].nunique() == 1
    return (
        on_shortcuts(table)
        if one_depth and finished["shortcut"].nunique() > 1
        else on_degradation(table)
    )


def on_recipes(table: pd.DataFrame) -> list[str]:
    """What another recipe does to each network, and what is left of the question under it, in words.

    `table` has runs of one data set and precision by two or more recipes, as of a study and the same
    with clipped gradients. The recipe with the fewest changes (the shortest label) is what the others
    are set against: network by network and seed by seed, on training and test error; then what depth
    costs under each, over the seeds that all four networks share. Last the verdict on each recipe.
    """
    table = table.assign(recipe=table["recipe"].map(without_warmup))
    finished = ordinary(table[table["status"] == "finished"])
    base, *others = sorted(table["recipe"].unique(), key=lambda name: (len(name), name))
    sentences = []
    for other in others:
        both = finished[finished["recipe"].isin([base, other])]
        for network, own in _by_depth(both):
            for quantity, word in _ERRORS.items():
                found = contrast(own, other, base, quantity, by="recipe")
                if found is None:
                    continue
                paired = _paired(own, "recipe", quantity)
                ends = " and ".join(
                    f"{_mean_error(paired[paired['recipe'] == name], quantity)} by {name}"
                    for name in (base, other)
                )
                sentences.append(
                    f"{network}: final {word} error {ends}; the second minus the first {found}. "
                    f"{_moved(found)}"
                )
        for shortcut in ("none", "A", "B", "C"):
            sentences += _cost_of_depth(both[both["shortcut"] == shortcut], base, other)
    for name in (base, *others):
        own = table[table["recipe"] == name]
        sentences += [f"By {name}: {sentence}" for sentence in answers(own)]
    return sentences


def _paired(own: pd.DataFrame, by: str, quantity: str = "train_error") -> pd.DataFrame:
    """The runs of the seeds that have this error under every value of `by`: what is subtracted."""
    own = own.dropna(subset=[quantity]).drop_duplicates([by, "seed"])
    return own[own.groupby("seed")[by].transform("nunique") == own[by].nunique()]


def _cost_of_depth(own: pd.DataFrame, base: str, other: str) -> list[str]:
    """Deep minus shallow by two recipes, and how much of it the second takes away, seed by seed."""
    # The two studies may have other networks besides: the pair is of those that both have.
    shared = set.intersection(*(set(own[own["recipe"] == name]["network"]) for name in (base, other)))
    own = own[own["network"].isin(shared)]
    pair = deepest_pair(own, *own["shortcut"].unique())
    if pair is None:
        return []
    sentences = []
    for quantity, word in _ERRORS.items():
        costs = []
        for name in (base, other):
            rows = own[own["recipe"] == name].drop_duplicates(["network", "seed"])
            errors = rows.pivot(index="seed", columns="network", values=quantity)
            costs.append((errors[pair[0]] - errors[pair[1]]).dropna())
        seeds = sorted(set(costs[0].index) & set(costs[1].index))
        if not seeds:
            continue
        first, second = (Contrast(*pair, tuple(float(cost[seed]) for seed in seeds)) for cost in costs)
        change = Contrast(
            other,
            base,
            tuple(b - a for a, b in zip(first.differences, second.differences, strict=True)),
        )
        sentences.append(
            f"Final {word} error of {pair[0]} minus {pair[1]}: {first} by {base}; {second} by {other}; "
            f"the second minus the first {change}. {_moved(change)}"
        )
    return sentences


def on_more_steps(table: pd.DataFrame) -> list[str]:
    """Footnote 3 in sentences: what more steps of one recipe change, and whether degradation is left.

    `table` has runs of two or more lengths (`steps_planned`); the longest is set against the shortest,
    network by network and seed by seed, and then gets the verdict of `on_degradation`.
    """
    finished = table[table["status"] == "finished"] if len(table) else table
    if finished.empty:
        return ["No finished run yet: nothing can be said."]
    lengths = sorted(finished["steps_planned"].unique())
    if len(lengths) < 2:
        return [f"All runs have {lengths[0]:,} steps: nothing to compare them with."]
    finished = finished.assign(length=finished["steps_planned"].map("{:,} steps".format))
    long, short = f"{lengths[-1]:,} steps", f"{lengths[0]:,} steps"
    words = {-1: "More steps help.", 1: "More steps made it worse.", 0: "These seeds do not settle it."}
    sentences = []
    for network, own in _by_depth(finished):
        found = contrast(own, long, short, by="length")
        if found is None:
            continue
        paired = _paired(own[own["length"].isin([short, long])], "length")
        ends = ", ".join(
            f"{_mean_error(paired[paired['length'] == length])} after {length}"
            for length in (short, long)
        )
        head = f"{network}: final training error {ends}; the longer minus the shorter {found}."
        sentences.append(f"{head} {_moved(found, words)}")
    at_end = table[table["steps_planned"] == lengths[-1]]
    return sentences + [f"After {long}: {sentence}" for sentence in on_degradation(at_end)]
