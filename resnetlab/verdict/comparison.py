"""The paper's tables and Figure 6 with our measured values beside them, from any number of studies.

A value of ours stands with its data set, recipe, test, n and spread, and with the reason where it may
not be set against the paper's. What we have not measured stays empty. The dashboard and a notebook ask
the same with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from resnetlab import paper, store
from resnetlab.verdict.means import MEASURED, by_network, with_spread

OWN_DATA = ("cifar10", "imagenet")  # what the paper trained and tested on
IN_WORDS = {"single": "single view", "ten-crop": "10-crop", "multi-scale": "multi-scale"}
# What a number must have been tested with to stand against the paper's: crop and shorter sides.
USUAL = {
    "single": (224, [256]),
    "ten-crop": (224, [256]),
    "multi-scale": (224, [224, 256, 384, 480, 640]),
}


@dataclass(frozen=True)
class Part:
    """A table or figure of the paper, and which errors of it stand beside ours."""

    name: str  # Table 2
    about: str
    records: tuple[paper.Reported, ...]
    data: str
    protocol: paper.Protocol
    errors: tuple[str, ...] = ("top1", "top5")  # of _RECORDED: the columns paper_top1, ours_top1, ...

    @property
    def conditions(self) -> str:
        return paper.CONDITIONS[self.data, self.protocol]


TABLES = (
    Part("Table 2", "plain and residual", paper.TABLE_2, "imagenet", "ten-crop", ("top1",)),
    Part("Table 3", "options of shortcuts, deeper networks", paper.TABLE_3, "imagenet", "ten-crop"),
    Part("Table 4", "single models at their best", paper.TABLE_4, "imagenet", "multi-scale"),
    Part(
        "Table 6", "CIFAR-10", (*paper.TABLE_6, *paper.TABLE_6_OTHERS), "cifar10", "single", ("top1",)
    ),
)
FIGURE_6 = Part(
    "Figure 6",
    "CIFAR-10 at the end of training",
    paper.FIGURE_6,
    "cifar10",
    "single",
    ("train", "top1"),
)
# What an error is called in the paper's records; a test error is a top-1 error.
_RECORDED = {"top1": ("top1_error", "test_error"), "top5": ("top5_error",), "train": ("train_error",)}


@dataclass(frozen=True)
class Ours:
    """Errors of one network in one condition, over seeds: percent."""

    study: str
    network: str
    trained_on: str  # labels of data set and recipe
    recipe: str
    precision: str
    tested_on: str
    protocol: str  # single, ten-crop or multi-scale
    details: str  # of the protocol, where it is not the paper's
    n: int
    errors: Mapping[str, str]  # top1, top5, train -> mean, ± sample standard deviation

    def comparable(self, wanted: str) -> str:
        """Whether it may be set against a number of the paper by that protocol: yes, or why not."""
        reason = paper.comparable(self.trained_on, self.recipe)
        if reason is not None:
            return f"no: {reason}"
        if self.tested_on != self.trained_on:
            return f"no: trained on {self.trained_on}, tested on {self.tested_on}"
        if self.protocol != wanted:
            return f"no: another test, {IN_WORDS[self.protocol]}"
        return f"no: {self.details}" if self.details else "yes"


def _number(value: object) -> float:
    """A finite number of a log, else NaN."""
    usable = type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    return float(value) if usable else math.nan  # type: ignore[arg-type]


def finals(study: str, runs: Iterable[store.RunRecord]) -> list[Ours]:
    """The single view at the last step, as `by_network` averages it."""
    rows = [
        run.identity() | {"status": run.status} | {name: run.final(name) for name in MEASURED}
        for run in runs
    ]
    if not rows:
        return []
    means = by_network(pd.DataFrame(rows))
    found = []
    for _, row in means[means["n"] > 0].iterrows():
        error = with_spread(row, "test_error")
        if error:
            where = (row["data"], row["recipe"], row["precision"])
            errors = {"top1": error, "train": with_spread(row, "train_error")}
            found.append(
                Ours(study, row["network"], *where, row["data"], "single", "", int(row["n"]), errors)
            )
    return found


def tests(study: str, runs: Iterable[store.RunRecord]) -> list[Ours]:
    """What `resnetlab evaluate` kept with the runs, of their last step, averaged over seeds."""
    rows = []
    for run in runs:
        evaluations = run.evaluations
        for row in evaluations.to_dict("records") if len(evaluations) else ():  # to_dict is slow
            protocol, sides = str(row["protocol"]), row["sides"]
            if row["step"] != run.steps_done or protocol not in IN_WORDS:
                continue
            if protocol == "single" and row["data"] == run.config.data.label:
                continue  # the run's own last test, which `finals` has for every run
            crop, usual_sides = USUAL[protocol]
            sides = sides if isinstance(sides, list) else []
            odd = []
            if _number(row["crop"]) > 0 and (row["crop"], sides) != (crop, usual_sides):
                odd.append(f"crop {row['crop']:g} of shorter side {', '.join(map(str, sides))}")
            if row["average"] == "logits" and protocol != "single":
                odd.append("logits averaged")
            rows.append(
                {
                    "network": run.config.network_name,
                    "trained_on": run.config.data.label,
                    "recipe": run.config.recipe.label,
                    "precision": run.config.precision,
                    "tested_on": str(row["data"]),
                    "protocol": protocol,
                    "details": ", ".join(odd),
                    "seed": run.config.seed,
                    "top1_error": _number(row["top1_error"]),
                    "top5_error": _number(row["top5_error"]),
                }
            )
    if not rows:
        return []
    keys = ["network", "trained_on", "recipe", "precision", "tested_on", "protocol", "details"]
    found = []
    for key, group in pd.DataFrame(rows).dropna(subset=["top1_error"]).groupby(keys, sort=True):
        errors = {}
        for name in ("top1_error", "top5_error"):
            values = group[name].dropna()
            cell = {name: values.mean(), f"{name}_sd": values.std()}
            errors[name.removesuffix("_error")] = with_spread(cell, name)
        where = dict(zip(keys, map(str, key), strict=True))
        found.append(Ours(study, **where, n=len(group), errors=errors))
    return found


def measured(studies: Iterable[tuple[str, Iterable[store.RunRecord]]]) -> list[Ours]:
    """Everything measured on networks of the paper in these studies, each a name and its runs."""
    known = {record.network for record in paper.RECORDS}
    found: list[Ours] = []
    for name, runs in studies:
        own = [run for run in runs if run.config.network_name in known and run.status == "finished"]
        found += tests(name, own) + finals(name, own)
    return found


def fitting(ours: Sequence[Ours], network: str, protocol: str) -> list[Ours]:
    """Those of the network by that protocol; a condition that has none stands with its single view."""

    def condition(one: Ours) -> tuple[str, ...]:
        return one.study, one.trained_on, one.recipe, one.precision

    own = [one for one in ours if one.network == network]
    exact = [one for one in own if one.protocol == protocol]
    tested = {condition(one) for one in exact}
    return exact + [one for one in own if one.protocol == "single" and condition(one) not in tested]


def in_words(record: paper.Reported) -> str:
    """6.97, or 6.61 ± 0.16 (best 6.43) where the paper repeated the run."""
    if record.spread is None:
        return f"{record.value:.2f}"
    best = "" if record.best is None else f" (best {record.best:.2f})"
    return f"{record.value:.2f} ± {record.spread:.2f}{best}"


def table(part: Part, ours: Sequence[Ours]) -> pd.DataFrame:
    """One row a network and condition of ours; a network that we have not stands with empty cells.

    Columns: network; paper_ and ours_ for each error of the part, as text; n, protocol, data, recipe,
    study; comparable: yes, or why ours may not be set against the paper's in that row.
    """
    rows = []
    for network in dict.fromkeys(record.network for record in part.records):
        row: dict[str, Any] = {"network": network}
        for error in part.errors:
            for record in part.records:
                if record.network == network and record.quantity in _RECORDED[error]:
                    row[f"paper_{error}"] = in_words(record)
        protocol = next(record.protocol for record in part.records if record.network == network)
        found = fitting(ours, network, protocol)
        for one in found:
            condition: dict[str, Any] = {
                f"ours_{error}": one.errors.get(error) or None for error in part.errors
            }
            condition |= {
                "n": one.n,
                "protocol": IN_WORDS[one.protocol] + (f", {one.details}" if one.details else ""),
                "data": one.tested_on,
                "recipe": one.recipe + ("" if one.precision == "fp32" else f", {one.precision}"),
                "study": one.study,
                "comparable": one.comparable(protocol),
            }
            rows.append(row | condition)
        if not found:
            rows.append(row)
    names = [f"{whose}_{error}" for whose in ("paper", "ours") for error in part.errors]
    names = ["network", *names, "n", "protocol", "data", "recipe", "study", "comparable"]
    return pd.DataFrame(rows, columns=names)


def with_parameters(shown: pd.DataFrame, runs: Iterable[store.RunRecord]) -> pd.DataFrame:
    """Table 6 also counts parameters: the paper's, and those written by our runs."""
    sizes = {record.network: record.value for record in paper.TABLE_6_PARAMETERS}
    ours: dict[str, set[int]] = {}
    for run in runs:
        count = run.info.get("parameters")
        if run.config.network_name in sizes and type(count) is int and 0 < count < 2**53:
            ours.setdefault(run.config.network_name, set()).add(count)
    paper_has = [f"{sizes[name] / 1e6:g} M" if name in sizes else None for name in shown["network"]]
    shown.insert(1, "parameters", paper_has)
    counted = [", ".join(f"{n:,}" for n in sorted(ours.get(name, ()))) for name in shown["network"]]
    shown.insert(2, "our_parameters", [text or None for text in counted])
    return shown


def overall(ours: Sequence[Ours]) -> tuple[str, str]:
    """May anything of ours be set against the paper? A sentence, and the names of our data sets.

    The names come from disk and are empty where the sentence needs none.
    """
    if not ours:
        return "No finished run is of a network in these tables yet.", ""
    if not any(one.tested_on.split(" ")[0] in OWN_DATA for one in ours):
        return (
            "None of these runs is on the paper's own data (CIFAR-10 and ImageNet). Which network is "
            "ahead of which may be compared; the numbers may not. Ours are on:",
            ", ".join(sorted({one.tested_on for one in ours})),
        )
    return (
        "Numbers may be compared only where the last column says yes: same data, recipe and test.",
        "",
    )


LIMITS = (
    "The paper gives no spread where no ± stands: a difference of a few tenths to one of ours may be "
    "chance.",
    "Ours are at the last step, never the best over the training; the paper does not say which its "
    "are.",
)
