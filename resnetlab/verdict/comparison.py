"""The paper's tables and Figure 6 with our measured values beside them, from any number of studies.

A value of ours stands with its data set, recipe, test, n and spread, and with the reason where it may
not be set against the paper's: `not_comparable` is the only place that decides it. What we have not
measured stays empty. The dashboard and a notebook ask the same with it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from resnetlab import config, paper, store
from resnetlab.verdict import means, order
from resnetlab.verdict.means import with_best

# --- may ours stand beside the paper's? -------------------------------------------------------

_PAPER = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
_DATA: dict[str, dict[str, str]] = _PAPER["data"]  # what the paper trained and tested on
LIMITS: list[str] = _PAPER["limits"]


def not_comparable(
    run: config.Run | None,
    *,
    network: config.Network | None = None,
    test: Mapping[str, Any] | None = None,
) -> list[str]:
    """Why errors of such a run may not be set against the paper's: a reason each, none if they may.

    `run` is None where the training of weights is not known. `test` is a row of a run's evaluations;
    without one it is the run's own test. `network` adds where it is not the paper's.
    """
    data = None if run is None else run.data.label
    if run is None:
        reasons = [
            "the file does not say how its weights were trained; torchvision's follow another recipe"
        ]
    else:
        reasons = _of_training(run.data.label, run.recipe.label, run.network.depth, run.precision)
    tested = data if test is None else str(test["data"])
    if data is not None and tested != data:
        reasons.append(f"trained on {data}, tested on {tested}")
    if network is not None:
        papers = paper.DATA_OF[network.design]
        if tested != papers and (data is None or tested in _DATA):
            name = _DATA[papers]["name"]
            reasons.append(f"the paper's {network.name} is tested on {name}, ours on {tested}")
        if network.zeros == "end":
            reasons.append(
                "option A's zeros stand at the end here, and the paper does not say where it has them"
            )
        if network.stride_in == "3x3":
            reasons.append("the paper's bottlenecks stride in the first 1x1, this network's in the 3x3")
    if test is not None:
        reasons += [f"{test['protocol']}: {ours}; {usual}" for ours, usual in _unusual(test)]
    return reasons


def reasons_apart(frame: pd.DataFrame) -> list[str]:
    """`not_comparable` of all runs in a frame with the columns of `store.IDENTITY`, each once."""
    kinds = frame[["data", "recipe", "depth", "precision"]].drop_duplicates().itertuples(index=False)
    return sorted({reason for kind in kinds for reason in _of_training(*kind)})


def _of_training(data: str, recipe: str, depth: int, precision: str) -> list[str]:
    """What of a training is not the paper's. `data` and `recipe` are labels of a configuration.

    The warm-up belongs to 110 layers (Sec. 4.2); of 1202 the paper does not say it.
    """
    reasons = []
    if data not in _DATA:
        names = " and ".join(own["name"] for own in _DATA.values())
        reasons.append(f"the paper trained on {names}, these runs on {data}: only orderings compare")
    else:
        own, usual = _DATA[data], config.without_warmup(recipe)
        one = f"(?:{own['open']})"
        if not re.fullmatch(rf"{own['recipe']}(?: \({one}(?:, {one})*\))?", usual):
            reasons.append(f"the paper trained {own['length']}, these runs follow the {recipe} recipe")
        elif usual != recipe and depth < means.WARMED:
            reasons.append(f"the paper warms up {means.WARMED} layers only, these runs {depth}")
        elif usual == recipe and depth == means.WARMED and data == "cifar10":
            reasons.append(f"the paper warms up its {depth} layers, these runs do not")
    if precision != "fp32":
        reasons.append(f"the paper trained in single precision, these runs in {precision}")
    return reasons


def _unusual(test: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What of a stored test is not the paper's, and what the paper has instead."""
    views, sides = paper.VIEWS[test["protocol"]], test["sides"]
    # not of small images, tested as they are
    if store.finite(test["crop"]) > 0 and isinstance(sides, list):
        form = (
            "shorter sides {1}" if views.protocol == "multi-scale" else "crop {0:g} of shorter side {1}"
        )
        pairs = ((test["crop"], sides), (views.crop, views.sides))
        ours, usual = (form.format(crop, ", ".join(map(str, shown))) for crop, shown in pairs)
        if ours != usual:
            yield ours, f"the paper: {usual}"
    if test["average"] == "logits" and views.protocol != "single":
        yield "logits averaged", "the default is the softmax"


# --- the tables -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A table or figure of the paper that stands beside ours."""

    name: str  # Table 2
    about: str
    records: tuple[paper.Reported, ...]
    protocol: paper.Protocol

    @property
    def how(self) -> str:
        return paper.HOW[self.records[0].data, self.protocol]


_TABLE_6 = (*paper.TABLE_6, *paper.TABLE_6_OTHERS)
TABLES = (
    Part("Table 2", "plain and residual", paper.TABLE_2, "ten-crop"),
    Part("Table 3", "options of shortcuts, deeper networks", paper.TABLE_3, "ten-crop"),
    Part("Table 4", "single models at their best", paper.TABLE_4, "multi-scale"),
    Part("Table 5", "ensembles", paper.TABLE_5, "ensemble"),
    Part("Table 6", "CIFAR-10", _TABLE_6, "single"),
)
FIGURE_6 = Part("Figure 6", "CIFAR-10 at the end of training", paper.FIGURE_6, "single")
# What an error of the paper's records is called here; a test error is a top-1 error.
_COLUMN = {"top1_error": "top1", "test_error": "top1", "top5_error": "top5", "train_error": "train"}
_ERRORS = ("train", "top1", "top5")


@dataclass(frozen=True)
class Ours:
    """Errors of one network by one recipe and one test, over seeds: percent."""

    study: str
    network: str
    trained_on: str  # labels of data set and recipe
    recipe: str
    precision: str
    tested_on: str
    protocol: str  # single, ten-crop or multi-scale
    details: str  # of the protocol, where it is not the paper's
    reasons: tuple[str, ...]  # see `not_comparable`
    n: int
    errors: Mapping[str, str]  # top1, top5, train -> mean, ± sample standard deviation, best seed

    def comparable(self, wanted: str) -> str:
        """Whether it may be set against a number of the paper by that protocol: yes, or why not."""
        views = paper.VIEWS[self.protocol]
        other = () if self.protocol == wanted else (f"another test, {views.words}",)
        reasons = [*self.reasons, *other]
        return f"no: {reasons[0]}" if reasons else "yes"


def _rows(run: store.RunRecord) -> Iterator[dict[str, Any]]:
    """A run's own single view at its last step, and what `resnetlab evaluate` kept of that step."""
    network, data, recipe = run.config.network, run.config.data.label, run.config.recipe.label
    last_test: dict[str, Any] = {"protocol": "single", "data": data, "average": "softmax"}
    last_test |= {"crop": None, "sides": None, "step": run.steps_done}
    last_test |= {"top1_error": run.final("test_error"), "top5_error": None}
    evaluations = run.evaluations
    kept = evaluations.to_dict("records") if len(evaluations) else ()  # to_dict is slow
    for test in (last_test, *kept):
        if test["step"] != run.steps_done or str(test["protocol"]) not in paper.VIEWS:
            continue
        if test is not last_test and (test["protocol"], test["data"]) == ("single", data):
            continue  # its own test once more
        yield {
            "network": run.config.network_name,
            "seed": run.config.seed,
            "trained_on": data,
            "recipe": recipe,
            "precision": run.config.precision,
            "tested_on": str(test["data"]),
            "protocol": test["protocol"],
            "details": ", ".join(ours for ours, _ in _unusual(test)),
            "reasons": tuple(not_comparable(run.config, network=network, test=test)),
            "train": run.final("train_error") if test is last_test else None,
            "top1": store.finite(test["top1_error"]),
            "top5": store.finite(test["top5_error"]),
        }


def measured(studies: Iterable[tuple[str, Iterable[store.RunRecord]]]) -> list[Ours]:
    """Everything measured on networks of the paper in these studies, each a name and its runs.

    Finished runs only, at their last step; those that share all but the seed are averaged, several of
    one seed first.
    """
    known = {record.network for record in paper.RECORDS}
    averaged = []
    for study, runs in studies:
        fitting = [r for r in runs if r.config.network_name in known and r.status == "finished"]
        frame = pd.DataFrame([row for run in fitting for row in _rows(run)])
        if frame.empty:
            continue
        keys = [name for name in frame.columns if name not in (*_ERRORS, "seed")]
        frame = frame.astype(dict.fromkeys(_ERRORS, float)).dropna(subset=["top1"])
        for key, group in frame.groupby(keys, sort=True):
            group = group.groupby("seed")[list(_ERRORS)].mean()
            shown = ((name, group[name]) for name in _ERRORS)
            errors = {name: with_best(one.mean(), one.std(), one.min()) for name, one in shown}
            who: dict[str, Any] = dict(zip(keys, key, strict=True))
            averaged.append(Ours(study, **who, n=len(group), errors=errors))
    return averaged


def _beside(ours: Sequence[Ours], network: str, protocol: str) -> list[Ours]:
    """Those of the network by that protocol; runs without such a test stand with their single view."""

    def runs_of(one: Ours) -> tuple[str, ...]:
        return one.study, one.trained_on, one.recipe, one.precision

    of_network = [one for one in ours if one.network == network]
    exact = [one for one in of_network if one.protocol == protocol]
    single, tested = [one for one in of_network if one.protocol == "single"], set(map(runs_of, exact))
    return exact + [one for one in single if runs_of(one) not in tested]


def in_words(record: paper.Reported) -> str:
    """6.97, or 6.61 ± 0.16 (best 6.43) where the paper repeated the run."""
    return with_best(record.value, record.spread, record.best)


def table(part: Part, ours: Sequence[Ours]) -> pd.DataFrame:
    """One row per network and condition of ours; a network that we have not stands with empty cells.

    Columns: network; paper_ and ours_ for each error of the part, as text; n, protocol, data, recipe,
    study; comparable: yes, or why ours may not be set against the paper's in that row.
    """
    rows: list[dict[str, Any]] = []
    errors = list(dict.fromkeys(_COLUMN[record.quantity] for record in part.records))
    for network in dict.fromkeys(record.network for record in part.records):
        records = [record for record in part.records if record.network == network]
        papers: dict[str, Any] = {"network": network}
        papers |= {f"paper_{_COLUMN[record.quantity]}": in_words(record) for record in records}
        beside = _beside(ours, network, records[0].protocol)
        rows += [] if beside else [papers]
        for one in beside:
            row = papers | {f"ours_{error}": one.errors[error] or None for error in errors}
            row |= {"n": one.n, "data": one.tested_on, "study": one.study}
            row["protocol"] = ", ".join(filter(None, (paper.VIEWS[one.protocol].words, one.details)))
            row["recipe"] = one.recipe + ("" if one.precision == "fp32" else f", {one.precision}")
            row["comparable"] = one.comparable(records[0].protocol)
            rows.append(row)
    names = [f"{whose}_{error}" for whose in ("paper", "ours") for error in errors]
    names = ["network", *names, "n", "protocol", "data", "recipe", "study", "comparable"]
    return pd.DataFrame(rows, columns=names)


def in_order(part: Part, runs: pd.DataFrame, quantity: str = "test_error") -> pd.DataFrame:
    """The networks of a part in its order, the paper's value and ours, and whether they stand alike.

    `runs` is a table of runs of one condition (`store.table_of`), `quantity` train_error or test_error,
    final. Columns: network; paper; ours, sd, n (NaN and 0 without a finished run); against, the next
    shallower network of the family that both have, "" for none; order, what `order.claims` says of the
    two.
    """
    rows, before = [], dict[str, str]()
    means_of = {str(row["network"]): row for row in means.by_network(runs).to_dict("records")}
    for network in dict.fromkeys(record.network for record in part.records):
        values = [
            record.value
            for record in part.records
            if record.network == network and _COLUMN.get(record.quantity) == _COLUMN[quantity]
        ]
        family, _, tail = network.partition("-")
        kind = family + tail.partition("-")[2]  # options apart
        row: dict[str, Any] = {"network": network, "paper": values[0] if values else None}
        row |= {"ours": None, "sd": None, "n": 0, "against": "", "order": ""}
        ours = means_of.get(network, {"n": 0})
        if ours["n"]:
            row |= {"ours": ours[quantity], "sd": ours[f"{quantity}_sd"], "n": int(ours["n"])}
            if other := before.get(kind):
                claims = order.claims(runs, network, other, {1: "", -1: ""}, [quantity])
                row |= {"against": other, "order": claims[0].order if claims else order.TOO_FEW}
            before[kind] = network
        if row["paper"] is not None:
            rows.append(row)
    columns = ["network", "paper", "ours", "sd", "n", "against", "order"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:4], float))


def by_protocol(ours: Sequence[Ours]) -> pd.DataFrame:
    """Top-1 error of the networks of `ours` by each test of the paper, beside the paper's own.

    One row per network, test and condition; a test that only the paper made stands with empty cells of
    ours. Columns: network; protocol, in words, with the images where they are not those of the training
    data set; n (seeds); ours and paper, percent, as text; source.
    """
    rows = []
    for network in dict.fromkeys(one.network for one in ours):
        for protocol, views in paper.VIEWS.items():
            record = paper.reported(network, "top1_error", protocol=protocol)
            theirs = (in_words(record), record.source) if record else (None, None)
            tested = [one for one in ours if (one.network, one.protocol) == (network, protocol)]
            for one in tested:
                other = "" if one.tested_on == one.trained_on else f"on {one.tested_on}"
                words = ", ".join(filter(None, (views.words, one.details, other)))
                rows.append((network, words, one.n, one.errors["top1"], *theirs))
            if record and not tested:
                rows.append((network, views.words, None, None, *theirs))
    columns = ["network", "protocol", "n", "ours", "paper", "source"]
    return pd.DataFrame(rows, columns=columns).astype({"n": "Int64"})


def with_parameters(shown: pd.DataFrame, runs: Iterable[store.RunRecord]) -> pd.DataFrame:
    """Table 6 also counts parameters: the paper's, and those written by our runs."""
    sizes = {record.network: record.value for record in paper.TABLE_6_PARAMETERS}
    ours: dict[str, set[int]] = {}
    for run in runs:
        count = run.info.get("parameters")
        if run.config.network_name in sizes and type(count) is int and 0 < count < 2**53:
            ours.setdefault(run.config.network_name, set()).add(count)
    papers = [f"{sizes[name] / 1e6:g} M" if name in sizes else None for name in shown["network"]]
    shown.insert(1, "parameters", papers)
    counted = [", ".join(f"{n:,}" for n in sorted(ours.get(name, ()))) for name in shown["network"]]
    shown.insert(2, "our_parameters", [text or None for text in counted])
    return shown


def overall(ours: Sequence[Ours]) -> tuple[str, str]:
    """May anything of ours be set against the paper? A sentence, and the names of our data sets.

    The names come from disk and are empty where the sentence needs none.
    """
    if not ours:
        return "No finished run is of a network in these tables yet.", ""
    if not any(one.tested_on.split(" ")[0] in _DATA for one in ours):
        return (
            "None of these runs is on the paper's own data (CIFAR-10 and ImageNet). Which network is "
            "ahead of which may be compared; the numbers may not. Ours are on:",
            ", ".join(sorted({one.tested_on for one in ours})),
        )
    return (
        "Numbers may be compared only where the last column says yes: same data, recipe and test.",
        "",
    )
