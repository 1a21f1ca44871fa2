"""Do deeper plain networks train worse, and residual ones better? In sentences, and paired by seed."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from resnetlab.verdict import means, order, words

FAMILIES = {"plain": ("none",), "residual": ("A", "B", "C")}  # and their shortcut options
_SHORT = {  # what a difference settles in training, by its sign
    "plain": {1: "Deeper trains worse.", -1: "Deeper trains better."},
    "residual": {1: "Deeper trains worse.", -1: "Deeper trains better."},
    "both": {1: "Shortcuts help.", -1: "Shortcuts hurt."},
}
_HEADS = {
    "plain": "Depth without shortcuts",
    "residual": "Depth with shortcuts",
    "both": "Without minus with shortcuts",
}
_OPEN = {
    order.TOO_FEW: f"Too few seeds to say: {means.ENOUGH_SEEDS} are needed.",
    order.MISSING: "Open: seeds are missing.",
    order.FLOOR: "Both at 0.0 %: nothing to order.",
    order.NEAR: f"Less than {means.NEGLIGIBLE:g} point apart.",
    order.OPEN: "Not settled by these seeds.",
}


@dataclass(frozen=True)
class Finding:
    """One of the three differences in final training error that everything here is about."""

    kind: str  # plain or residual: what depth does there; both: what the shortcuts do
    claim: order.Claim  # on the running error, which is the paper's
    clean: means.Contrast | None = None  # the same of the clean one, on which claims.py asks first

    @property
    def head(self) -> str:
        return _HEADS[self.kind]

    @property
    def pair(self) -> str:
        return f"{self.claim.gap.worse} minus {self.claim.gap.better}"

    @property
    def short(self) -> bool:
        """Whether seeds are missing, of those announced or of the three that any claim needs."""
        few = self.claim.gap.n < means.ENOUGH_SEEDS
        return few or self.claim.order in (order.MISSING, order.LOST)

    @property
    def words(self) -> str:
        """What it settles, in a few words."""
        if self.claim.order == order.TOO_FEW and self.claim.gap.n >= means.ENOUGH_SEEDS:
            return "Too few of these seeds have learnt to say."
        if self.claim.order == order.LOST:
            against = self.claim.gap.against(-1 if self.kind == "residual" else 1)
            return f"Not the paper's order in {against} of {words.seeds(self.claim.gap.n)}."
        return _SHORT[self.kind].get(self.claim.sign) or _OPEN[self.claim.order]


_BY_DEPTH = {1: "the deeper one is worse on {images}", -1: "the deeper one is better on {images}"}


def on_degradation(table: pd.DataFrame) -> list[str]:
    """Sentences that answer: do deeper plain networks train worse, and residual ones better?

    `table` is a table of runs on one data set with one recipe (`Study.table`). The deepest network of
    each family, and the one at the largest depth that both have, against that of 20 layers (or the
    shallowest), and plain against residual at that depth; on training and test error. Claims need three
    seeds that agree and a 95 % confidence interval that excludes zero (see `Contrast.sign`); every one
    stands with that interval and with n.
    """
    if not (table["status"] == "finished").any():
        return [words.NOTHING]
    if len(means.conditions(table).drop_duplicates()) > 1:
        return [words.MIXED]
    return order.in_words(table, _claims, _missing(table))


def findings(table: pd.DataFrame) -> list[Finding]:
    """The three numbers of a study: what depth costs without shortcuts, with them, and what these do.

    `table` as for `on_degradation`; final training error, paired by seed. What has no shared finished
    seed is left out; empty for runs of several conditions.
    """
    if table.empty or len(means.conditions(table).drop_duplicates()) > 1:
        return []
    pairs = {family: means.deepest_pair(table, *FAMILIES[family]) for family in FAMILIES}
    twins, _ = _twins(table)
    if len(twins):
        pairs["both"] = (str(twins.iloc[-1].iloc[0]), str(twins.iloc[-1].iloc[1]))
    found = []
    for kind, pair in pairs.items():
        if pair and (claims := order.claims(table, *pair, _SHORT[kind], ["train_error"])):
            clean = means.contrast(table, *pair, "train_error_clean")
            found.append(Finding(kind, claims[0], clean))
    return found


def _twins(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """By depth, the plain and the residual network where there are both; the options there are."""
    finished = means.ordinary(table[table["status"] == "finished"])
    names = finished.groupby(["depth", "shortcut"])["network"].first().unstack()
    options = [option for option in FAMILIES["residual"] if option in names]
    return names[["none", options[0]]].dropna() if "none" in names and options else names[:0], options


def _claims(table: pd.DataFrame) -> list[order.Claim]:
    twins, options = _twins(table)
    shared = table[table["depth"] <= twins.index.max()]  # none, where no depth has both
    pairs = [
        means.deepest_pair(part, *FAMILIES[family]) for family in FAMILIES for part in (table, shared)
    ]
    found = []
    for pair in dict.fromkeys(filter(None, pairs)):
        found += order.claims(table, *pair, _BY_DEPTH)
    if len(twins):
        why = "the shortcuts alone, which add no parameter, make the difference"
        if options[0] != "A":
            why = "the shortcuts make the difference; their projections add parameters"
        plain, residual = twins.iloc[-1]
        found += order.claims(table, plain, residual, {1: why, -1: "the plain one is ahead"})
    return found


def _missing(table: pd.DataFrame) -> list[str]:
    """What there is no claim on, and why."""
    sentences = []
    for family, options in FAMILIES.items():
        pair = means.deepest_pair(table, *options)
        if pair is None:
            sentences.append(f"Fewer than two depths of {family} networks are finished.")
        elif means.contrast(table, *pair) is None:
            sentences.append(f"{pair[0]} and {pair[1]} share no finished seed.")
    return sentences


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
