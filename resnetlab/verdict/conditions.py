"""One study under several conditions: another recipe, more steps; and what runs can say at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from resnetlab import config
from resnetlab.config.data import DATA_SETS
from resnetlab.verdict import means, order, words
from resnetlab.verdict.degradation import on_degradation
from resnetlab.verdict.shortcuts import on_shortcuts


def answers(table: pd.DataFrame) -> list[str]:
    """What these runs can say: `on_degradation` where they have two depths, else `on_shortcuts`.

    Under several recipes, of one data set and precision, what each says and how they differ.
    """
    several = means.conditions(table).drop_duplicates()
    if len(several) > 1 and len(several[["data", "precision"]].drop_duplicates()) == 1:
        return on_recipes(table)
    finished = means.ordinary(table[table["status"] == "finished"])
    if finished["depth"].nunique() == 1 and finished["shortcut"].nunique() > 1:
        return on_shortcuts(table)
    return on_degradation(table)


def on_recipes(table: pd.DataFrame) -> list[str]:
    """What another recipe does to each network, and what is left of the question under it, in words.

    `table` has runs of one data set and precision by two or more recipes, as of a study and the same
    with clipped gradients. The recipe with the fewest changes (the shortest label) is what the others
    are set against: network by network and seed by seed, on training and test error; then what depth
    costs under each, over the seeds that all four networks share. Last the verdict on each recipe.
    """
    whole, table = table, table.assign(recipe=means.conditions(table)["recipe"])
    base, *others = sorted(table["recipe"].unique(), key=lambda name: (len(name), name))
    sentences = [sentence for other in others for sentence in between_recipes(table, base, other)]
    for name in (base, *others):
        for sentence in answers(whole[table["recipe"] == name]):
            general = sentence.startswith(order.CHOSEN)  # the same of a recipe with a change in it
            sentences.append(sentence if general else f"By {name}: {sentence}")
    return list(dict.fromkeys(sentences))


def between_recipes(
    table: pd.DataFrame, base: str, other: str, quantities: Iterable[str] = means.MEASURED
) -> list[str]:
    """What the recipe `other` does that `base` does not: to each network's errors, to depth's cost.

    Recipes by their labels, quantities of means.MEASURED; seed by seed, as in `on_recipes`.
    """
    both = means.ordinary(table[(table["status"] == "finished") & table["recipe"].isin([base, other])])
    asked = {quantity: means.MEASURED[quantity] for quantity in quantities}
    sentences = []
    for network, runs in means.by_depth(both):
        for quantity, word in asked.items():
            if gap := means.contrast(runs, other, base, quantity, by="recipe"):
                ends = " and ".join(_ends(runs, "recipe", (base, other), "by", quantity))
                sentences.append(
                    f"{network}: final {word} error {ends}; the second minus the first {gap}. "
                    f"{_moved(gap)}"
                )
    for shortcut in ("none", "A", "B", "C"):
        sentences += _cost_of_depth(both[both["shortcut"] == shortcut], base, other, asked)
    return sentences


def on_other_recipe(frame: pd.DataFrame) -> list[str]:
    """What must be said of networks that were not trained by the usual recipe of their images.

    `frame` has the columns data and recipe of `store.IDENTITY`. The usual one is that of
    `config.default_recipe`, with or without changes in brackets; images of a user's own have none.
    """
    sentences = []
    for data, rows in frame.astype({"data": str}).groupby("data")["recipe"]:
        if str(data) not in DATA_SETS:
            continue
        usual, names = config.default_recipe(str(data)).name, set(rows.str.partition(" (")[0])
        if others := sorted(names - {usual}):
            who = "Some of these networks" if usual in names else "These networks"
            sentences.append(
                f"{who} were trained by the recipe {', '.join(others)}, not by {usual}, the usual one "
                f"of {data!s} now: no number here is to be set beside one by {usual}."
            )
    return sentences


def _ends(
    runs: pd.DataFrame, by: str, values: tuple[str, str], word: str, quantity: str = "train_error"
) -> list[str]:
    """The mean error at each value of `by`, over the seeds that have both: what is subtracted."""
    runs = runs[runs[by].isin(values)].dropna(subset=[quantity])
    paired = runs[runs.groupby("seed")[by].transform("nunique") == 2]
    return [f"{words.mean_error(paired[paired[by] == one], quantity)} {word} {one}" for one in values]


def _moved(gap: means.Contrast, lower: str = "Lower.", higher: str = "Higher.") -> str:
    return words.settled(gap, lower=lower, higher=higher, near=f"{words.WITHIN}.", near_first=True)


def _cost_of_depth(runs: pd.DataFrame, base: str, other: str, asked: Mapping[str, str]) -> list[str]:
    """Deep minus shallow by two recipes, and how much of it the second takes away, seed by seed."""
    sentences = []
    for quantity, word in asked.items():
        if (pair := depth_under(runs, base, other, quantity)) is None:
            continue
        (first, second), (deep, shallow) = pair, (pair[0].worse, pair[0].better)
        moved = [b - a for a, b in zip(first.differences, second.differences, strict=True)]
        change = means.paired(other, base, moved)
        sentences.append(
            f"Final {word} error of {deep} minus {shallow}: {first} by {base}; {second} by {other}; "
            f"the second minus the first {change}. {_moved(change)}"
        )
    return sentences


def depth_under(
    runs: pd.DataFrame, base: str, other: str, quantity: str = "train_error_clean"
) -> tuple[means.Contrast, means.Contrast] | None:
    """Deep minus shallow by each of two recipes, over the seeds that have all four; None without.

    The two studies may have other networks besides: the pair is of those that both have.
    """
    runs = runs[runs["status"] == "finished"]
    shared = set.intersection(*(set(runs[runs["recipe"] == name]["network"]) for name in (base, other)))
    runs = runs[runs["network"].isin(shared)]
    pair = means.deepest_pair(runs, *runs["shortcut"].unique())
    if pair is None:
        return None
    deep, shallow = pair
    errors = runs.pivot_table(index="seed", columns=["recipe", "network"], values=quantity)
    costs = pd.DataFrame({r: errors[r, deep] - errors[r, shallow] for r in (base, other)}).dropna()
    if costs.empty:
        return None
    first, second = (means.paired(deep, shallow, costs[name]) for name in (base, other))
    return first, second


def on_more_steps(table: pd.DataFrame) -> list[str]:
    """Footnote 3 in sentences: what more steps of one recipe change, and whether degradation is left.

    `table` has runs of two or more lengths (`steps_planned`); the longest is set against the shortest,
    network by network and seed by seed, and then gets the verdict of `on_degradation`.
    """
    finished = table[table["status"] == "finished"]
    if finished.empty:
        return [words.NOTHING]
    finished = finished.assign(length=finished["steps_planned"].map("{:,} steps".format))
    lengths = finished.sort_values("steps_planned")["length"].unique()
    short, long = str(lengths[0]), str(lengths[-1])
    if short == long:
        return [f"All runs have {short}: nothing to compare them with."]
    sentences = []
    for network, runs in means.by_depth(finished):
        if gap := means.contrast(runs, long, short, by="length"):
            ends = ", ".join(_ends(runs, "length", (short, long), "after"))
            sentences.append(
                f"{network}: final training error {ends}; the longer minus the shorter {gap}. "
                f"{_moved(gap, 'More steps help.', 'More steps made it worse.')}"
            )
    at_end = table[table["steps_planned"] == finished["steps_planned"].max()]
    return sentences + [f"After {long}: {sentence}" for sentence in on_degradation(at_end)]
