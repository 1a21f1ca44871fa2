"""The paper's claims about depth, one by one: its number, ours with its interval, what that settles.

A claim is shown where all paired differences have its sign and their 95 % interval excludes 0. Of seeds
with which a network has not learnt nothing is concluded, as in `order.claims`; only where the rule was
announced before the runs (results/reference/README.md) they count as they are. There nothing is settled
before all announced seeds have ended, but that a claim can no longer be shown.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from resnetlab import config, paper, store
from resnetlab.verdict import means, words

SHOWN, REVERSED = "shown", "the reverse is shown"
MISSING = "open: seeds are missing"
LOST = "can no longer be shown"  # and how many seeds go the other way
OPEN, NEAR = "not settled", f"less than {means.NEGLIGIBLE:g} point apart"
FLOOR, MIXED = "cannot show: {} at 0.0 %", "several recipes: choose one"
# The error that a claim is asked on first of all, then the others.
ERRORS = {name: means.MEASURED[name] for name in ("train_error_clean", "train_error", "test_error")}
RULE = (
    "Final error in percentage points: deep minus shallow, in the last column plain minus residual; "
    "mean over seeds, paired by seed, with the 95 % interval of that mean. Shown: the differences of "
    "all seeds have the claim's sign, and the interval excludes 0."
)
FINE_PRINT = (
    "Clean training error: that of the finished network on all its training images as they are. "
    "Training error: the running one, counted while it trains.",
    "Above 0 is what the paper claims of plain networks and of shortcuts, below 0 what it claims of "
    "depth in residual ones. The reverse is shown by the same rule with the other sign, but where the "
    f"whole interval lies within {means.NEGLIGIBLE:g} point of 0: that is less than "
    f"{means.NEGLIGIBLE:g} point apart, whatever its sign, unless the claim itself is shown.",
    "The paper's differences are of running training errors and of test errors: it reports no clean "
    "training errors.",
    f"At least {means.ENOUGH_SEEDS} seeds are needed. The interval is Student's t over seeds; of few "
    "seeds it can reach beyond what errors can be.",
    "Not learnt: less than "
    f"{means.LEARNT:g} points below a guess among the classes. Nothing is concluded from such seeds, "
    "unless the study was announced before it ran: there they count as they are.",
    "Of announced seeds nothing is concluded before all of both networks have ended; only that a claim "
    "can no longer be shown is said as soon as one of them goes the other way. That a deep network "
    "trains better with shortcuts is compared there too, but was no hypothesis of the plan.",
    "Where the shallow network makes no error at all with any seed, no deeper one can be better.",
    "Nothing is corrected for the number of claims, studies and errors; columns of one study share "
    "runs, and the studies of the digits share seeds.",
    "All committed studies with two depths stand here. The recipe of the digits was chosen by looking "
    "at their seed 0.",
)
BREAK = "  \n"  # of a line in Markdown
NUMBERS = ("the paper", "ours", "n")  # of COLUMNS
COLUMNS = ["claim", "pair", "study", "trained on", "error", "the paper", "ours", "n", "verdict"]


@dataclass(frozen=True)
class Claim:
    """What the paper says of depth: whether the difference is above or below 0."""

    kind: str  # plain, residual or both
    words: str
    sign: int
    announced: bool = True  # whether it is a hypothesis of results/reference/README.md


@dataclass(frozen=True)
class Asked:
    """A study that asks the claims, at two depths."""

    name: str
    depths: tuple[int, int]  # shallow and deep
    how: str
    shallow_from: str = ""  # the study that has its shallow networks, "" for itself

    @property
    def announced(self) -> bool:
        """Whether its seeds were announced before its first run."""
        return any(self.planned(self.pair(claim.kind)) for claim in CLAIMS)

    def pair(self, kind: str) -> tuple[str, str]:
        """(worse, better): deep and shallow of one family; of both the two deep ones."""
        shallow, deep = self.depths
        if kind == "both":
            return f"plain-{deep}", f"resnet-{deep}"
        family = "plain" if kind == "plain" else "resnet"
        return f"{family}-{deep}", f"{family}-{shallow}"

    def planned(self, pair: tuple[str, str]) -> int:
        """Seeds announced for both networks; 0 where nothing was announced, or not of these."""
        return config.announced(self.name, *pair)


_TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
CLAIMS = tuple(Claim(**row) for row in _TEXTS["claim"])


def asked() -> list[Asked]:
    """The studies that ask the claims, in the order of the table."""
    return [Asked(**row | {"depths": tuple(row["depths"])}) for row in _TEXTS["study"]]


@dataclass(frozen=True)
class Row:
    """One claim asked of one error in one study."""

    claim: Claim
    asked: Asked
    study: str  # its label: `digits` for a study of the user's own, `reference/digits`
    error: str  # a key of ERRORS
    gap: means.Contrast | None  # None: no seed that both networks have finished
    learnt: means.Contrast | None = None  # over the seeds with which both have learnt
    diverged: tuple[str, ...] = ()  # runs of the two that have no final error
    mixed: bool = False  # runs of several recipes, data sets or precisions
    stuck: Mapping[str, int] = field(default_factory=dict)  # network -> its seeds that have not learnt

    @property
    def pair(self) -> tuple[str, str]:
        return self.asked.pair(self.claim.kind)

    @property
    def planned(self) -> int:
        """Seeds announced; 0: none were."""
        return self.asked.planned(self.pair)

    @property
    def paper(self) -> tuple[float, str]:
        """The paper's own difference and where from; NaN and "" where it has not both networks.

        It reports running training errors and errors on test images, no clean training errors.
        """
        known = paper.difference(*self.pair, self.error.removesuffix("_clean"))
        return known or (float("nan"), "")

    @property
    def ours(self) -> str:
        return self.gap.brief if self.gap else ""

    @property
    def n(self) -> str:
        """Seeds in the difference; of a hypothesis of the plan also of how many announced ones."""
        count = self.gap.n if self.gap else 0
        return f"{count} of {self.planned}" if self.planned and self.claim.announced else str(count)

    @property
    def verdict(self) -> str:
        """What the difference settles, in a few words, and which networks in it have not learnt."""
        return "; ".join(filter(None, (self.settles, self.not_learnt, self.unannounced)))

    @property
    def unannounced(self) -> str:
        """Said of what an announced study compares beside its hypotheses."""
        beside = self.asked.announced and not self.claim.announced
        return "not among the announced hypotheses" if beside else ""

    @property
    def not_learnt(self) -> str:
        stuck = [f"{name} ({seeds} seed{'s' * (seeds > 1)})" for name, seeds in self.stuck.items()]
        if not stuck:
            return ""
        others = self.learnt if self.learnt and self.gap and self.learnt.n < self.gap.n else None
        without = f"; without them {others.brief}, n = {others.n}" if others else ""
        return f"not learnt: {', '.join(stuck)}{without}"

    @property
    def settles(self) -> str:
        """What the difference settles, in a few words: the only place that decides it."""
        count, announced = self.gap.n if self.gap else 0, self.asked.announced
        if self.mixed:
            return MIXED
        if self.diverged:
            return f"not shown: {len(self.diverged)} diverged"
        if not count:
            return "not run yet"
        if self.gap and announced and count < self.planned:
            against = self.gap.against(self.claim.sign)
            return f"{LOST}: against it in {against} of {words.seeds(count)}" if against else MISSING
        if count < means.ENOUGH_SEEDS:
            return "too few seeds"
        gap = self.gap if announced else self.learnt
        if gap is None or gap.n < means.ENOUGH_SEEDS:
            return "too few of these seeds have learnt"
        if gap.at_floor[1] and (all(gap.at_floor) or (self.claim.sign < 0 and gap.sign <= 0)):
            return FLOOR.format(gap.better)
        if gap.sign == self.claim.sign:
            return SHOWN
        if gap.negligible:
            return NEAR
        return REVERSED if gap.sign else OPEN

    def cells(self) -> dict[str, str]:
        """The row as words, by the names of COLUMNS."""
        who = (self.claim.words, " minus ".join(self.pair), self.study, self.asked.how)
        papers = "{:+.2f} ({})".format(*self.paper) if self.paper[1] else ""
        values = (*who, ERRORS[self.error], papers, self.ours, self.n, self.verdict)
        return dict(zip(COLUMNS, values, strict=True))

    def numbers(self) -> dict[str, Any]:
        """The row's numbers, NaN where there is none: mean, sd, low and high in points; seeds."""
        gap = self.gap
        names = ("mean", "sd", "low", "high")
        values = (gap.mean, gap.spread, *gap.interval) if gap else (float("nan"),) * len(names)
        counted = {"seeds": gap.n if gap else 0, "planned": self.planned}
        return dict(zip(names, values, strict=True)) | counted


def in_results(root: Path, *names: str) -> list[Row]:
    """`rows` of the results folder `root`: of the studies of these names, or of all."""
    wanted = {*names, *(study.shallow_from for study in asked() if study.name in names)}
    paths = [path for path in store.find_studies(root) if path.name in wanted or not names]
    found = rows((store.label_of(path, root), store.read_study(path).table()) for path in paths)
    return [row for row in found if not names or row.study.rpartition("/")[2] in names]


def rows(studies: Iterable[tuple[str, pd.DataFrame]], missing: bool = True) -> list[Row]:
    """Every claim on every error, of these studies, each a label and its table of runs; in their order.

    Studies that ask no claim are passed over. With `missing` the announced ones that are not among them
    stand there too, without numbers.
    """
    there: dict[str, list[tuple[str, pd.DataFrame]]] = {}
    for label, table in studies:
        there.setdefault(label.rpartition("/")[2], []).append((label, table))
    found = []
    for study in asked():
        unseen = [(study.name, store.table_of(()))] if study.announced and missing else []
        for label, table in there.get(study.name, unseen):
            beside = there.get(study.shallow_from, [("", table[:0])])[-1][1]
            whole = pd.concat([table, beside[beside["depth"] == study.depths[0]]])
            for claim in CLAIMS:
                found += _asked_of(study, label, whole, claim)
    return found


def _asked_of(study: Asked, label: str, table: pd.DataFrame, claim: Claim) -> list[Row]:
    pair = study.pair(claim.kind)
    own = table[table["network"].isin(pair)]
    if not study.planned(pair) and own["network"].nunique() < len(pair):
        return []
    # Where deep networks alone have a warm-up, their recipe is another one: `how` says so.
    shared = means.CONDITION if not study.shallow_from else ["data", "precision"]
    mixed = len(means.conditions(own)[shared].drop_duplicates()) > 1
    diverged = tuple(own[own["status"] == "diverged"]["run"])
    ended = own[own["status"] == "finished"]
    stuck = ended[~means.learnt(ended)].groupby("network")["seed"].nunique()
    named = {name: int(stuck[name]) for name in pair if name in stuck}
    found = []
    for error in ERRORS:
        gap, learnt = (
            None if mixed else means.contrast(part, *pair, error)
            for part in (own, own[means.learnt(own)])
        )
        found.append(Row(claim, study, label, error, gap, learnt, diverged, mixed, named))
    return found


def of_table(table: pd.DataFrame) -> list[Row]:
    """The claims that the runs of a table ask, study by study, on the error of the first place."""
    tables = ((str(name), part) for name, part in table.groupby("study", sort=False))
    return [row for row in rows(tables, missing=False) if row.error == next(iter(ERRORS))]


def in_words(table: pd.DataFrame) -> list[str]:
    """`of_table` as sentences, and the rule that decides."""
    found = of_table(table)
    said = [
        f"{row.claim.words}. {' minus '.join(row.pair)}, final {ERRORS[row.error]} error: "
        f"{row.ours or 'no pair'}, n = {row.n}. {row.verdict.capitalize()}."
        for row in found
    ]
    return [*said, RULE] if said else []


def table(found: Iterable[Row]) -> pd.DataFrame:
    """Rows as words: the columns of COLUMNS."""
    return pd.DataFrame([row.cells() for row in found], columns=COLUMNS)


def matrix(found: Iterable[Row]) -> pd.DataFrame:
    """Rows of one error, a line per study and a column per claim.

    A cell is what the difference settles, ours, and the paper's, a line of Markdown each.
    """
    lines: dict[str, dict[str, str]] = {}
    for row in found:
        shallow, deep = row.asked.depths
        plan = ", announced" if row.asked.announced else ""
        about = f"{row.asked.how}; {deep} and {shallow} layers{plan}{BREAK}`{row.study}`"
        cell = lines.setdefault(about, {})
        ours = ", ".join(filter(None, (row.ours, f"n = {row.n}")))
        papers = f"the paper {row.paper[0]:+.2f}" if row.paper[1] else ""
        parts = (f"**{row.settles}**", ours, row.not_learnt, papers, row.unannounced)
        cell[row.claim.words] = BREAK.join(filter(None, parts))
    shown = pd.DataFrame.from_dict(lines, orient="index", columns=[claim.words for claim in CLAIMS])
    return shown.fillna("not asked").rename_axis("Trained on")


def markdown(found: Iterable[Row]) -> str:
    """`matrix` as a table in Markdown."""
    shown = matrix(found)
    lines = [[shown.index.name, *shown.columns], ["---"] * (len(shown.columns) + 1)]
    lines += [[name, *cells] for name, cells in zip(shown.index, shown.to_numpy(), strict=True)]
    return "\n".join(f"| {' | '.join(cells)} |".replace(BREAK, "<br>") for cells in lines)
