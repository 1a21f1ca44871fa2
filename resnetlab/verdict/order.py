"""Which of two networks is ahead, and whether the paper's two stand in that order; in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from resnetlab import config, paper
from resnetlab.verdict import means, words

PAPERS, REVERSED, UNKNOWN = "The paper's order", "Reversed here", "The paper has no such pair"
TOO_FEW, FLOOR, NEAR, OPEN = "too few seeds", "nothing to order", "less than 1 point", "not settled"
MISSING, LOST = "seeds are missing", "can no longer be shown"  # of those that were announced
PENDING = (TOO_FEW, MISSING, LOST)  # nothing is concluded
CHOSEN = "Recipe"  # begins the sentence on how one was chosen
_IMAGES = {"train": "the images it trains on", "test": "test images"}


@dataclass(frozen=True)
class Claim:
    """One network's final error minus another's, and what it settles."""

    head: str  # what is subtracted
    numbers: str  # by how much, over how many seeds; the paper's
    order: str  # one of the words above
    words: str  # the sentence that says so
    gap: means.Contrast  # over all seeds that both finished
    sign: int  # +1 or -1 where it is settled which is ahead, else 0

    def __str__(self) -> str:
        return f"{self.head}: {self.numbers}. {self.words}"


def claims(
    table: pd.DataFrame,
    worse: str,
    better: str,
    says: Mapping[int, str],
    quantities: Iterable[str] = means.MEASURED,
    like: tuple[str, str] | None = None,
) -> list[Claim]:
    """A claim on each of these errors that both networks have with a shared seed.

    `says` has the words for +1 (worse has the higher error) and -1, with {images} for which; `like` the
    pair of the paper to set them against, if not the two themselves. Seeds with which one of the two
    has not learnt stand in the numbers and in no conclusion. Announced seeds count as they are, once
    all of the table's study have ended; before that nothing is concluded (claims.py has the same rule).
    The clean training error stands with the running one where both settle the same.
    """
    found = list[Claim]()
    planned = max(
        (config.announced(str(name), worse, better) for name in set(table["study"])), default=0
    )
    learnt = table if planned else table[means.learnt(table)]
    for quantity in quantities:
        if (gap := means.contrast(table, worse, better, quantity)) is None:
            continue
        papers = paper.difference(*(like or (worse, better)), quantity.removesuffix("_clean"))
        theirs = ""
        if papers is not None:
            whose = f" of {like[0]} and {like[1]}" if like else ""
            theirs = f"; the paper's{whose} {papers[0]:+.2f} ({papers[1]})"
        both = means.contrast(learnt, worse, better, quantity)
        order, sentence = _settled(both, papers[0] if papers else 0.0, says)
        if (n := both.n if both else 0) < gap.n:
            few = f"too few to order them, {means.ENOUGH_SEEDS} are needed."
            sentence = few if order == TOO_FEW else f"{both}. {sentence}"
            sentence = f"Both have learnt with {n} of these {gap.n} seeds: {sentence}"
        if gap.n < planned:
            order, sentence = MISSING, f"{gap.n} of {planned} announced seeds have ended"
            if papers and (against := gap.against(papers[0])):
                order = LOST
                sentence += f", {against} of them not in the paper's order: that these seeds can no "
                sentence += "longer show."
            else:
                sentence += "; before all have, nothing is said."
        sentence = sentence.format(images=_IMAGES[quantity.partition("_")[0]])
        if quantity == "train_error_clean" and found and found[-1].order == order:
            ours = found[-1].numbers.removesuffix(theirs)
            found[-1] = replace(found[-1], numbers=f"{ours}; clean {gap.brief}{theirs}")
        else:
            head = f"Final {means.MEASURED[quantity]} error of {worse} minus {better}"
            sign = both.sign if both and order in (PAPERS, REVERSED, UNKNOWN) else 0
            found.append(Claim(head, f"{gap}{theirs}", order, sentence, gap, sign))
    return found


def _settled(gap: means.Contrast | None, papers: float, says: Mapping[int, str]) -> tuple[str, str]:
    """The order that a difference settles, and in words; `papers`: the paper's, 0 if it has none."""
    if gap is not None and all(gap.at_floor):
        return FLOOR, words.AT_FLOOR
    if gap is None or gap.n < means.ENOUGH_SEEDS:
        return TOO_FEW, words.too_few()
    if gap.sign:
        order = UNKNOWN if not papers else PAPERS if papers * gap.sign > 0 else REVERSED
        if order == REVERSED and gap.negligible:
            near = f"Less than {means.NEGLIGIBLE:g} point apart, {words.SURELY}"
            return NEAR, f"{near}, the other way than the paper's."
        return order, f"{order}: {says[gap.sign]}."
    order, sentence = OPEN, "Which is ahead, these seeds do not settle."
    if gap.negligible:
        order, sentence = (
            NEAR,
            f"Less than {means.NEGLIGIBLE:g} point apart, {words.SURELY}; {sentence.lower()}",
        )
    if gap.at_floor[1] and papers < 0:
        sentence += f" With {gap.better} at 0.0 % the paper's order could not show."
    return order, sentence


def in_words(
    table: pd.DataFrame, claims_on: Callable[[pd.DataFrame], list[Claim]], missing: Iterable[str] = ()
) -> list[str]:
    """The claims on a table as sentences, and what is missing; then what must be known of its runs."""
    found = claims_on(table)
    sentences = [*map(str, found), *missing, *words.notes(table)]
    for recipe in dict.fromkeys(name.partition(" (")[0] for name in table["recipe"]):
        choice = config.CHOICES.get(recipe)
        if choice is None or not table["data"].str.startswith(choice.data).all():
            continue
        sentences.append(f"{CHOSEN} {recipe} was {choice}.")
        if looked_at := sorted(set(choice.seeds) & set(table["seed"])):
            left = claims_on(table[~table["seed"].isin(looked_at)])
            orders = {claim.head: claim.order for claim in found}
            moved = [f"{one.head} ({one.order})" for one in left if one.order != orders.get(one.head)]
            conclusion = f"changes: {'; '.join(moved)}" if moved else "every conclusion above stays"
            if not left or all(claim.order in PENDING for claim in left):
                conclusion = "too few seeds that have learnt are left to say anything"
            if all(claim.order in PENDING for claim in found):
                continue  # nothing is concluded with it either
            sentences.append(f"Without seed {' and '.join(map(str, looked_at))} {conclusion}.")
    return sentences
