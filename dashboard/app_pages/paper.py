"""Tables 2, 3, 4 and 6 of the paper with our measured values beside them, from all studies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cached, frame
from resnetlab import paper, results, verdict

OWN_DATA = ("cifar10", "imagenet")  # what the paper trained and tested on
IN_WORDS = {"single": "single view", "ten-crop": "10-crop", "multi-scale": "multi-scale"}
VALUES = ("paper_top1", "paper_top5", "ours_top1", "ours_top5")
CONDITION = ("n", "data", "comparable", "study", "protocol", "recipe")  # of ours
# What a number must have been tested with to stand against the paper's: crop and shorter sides.
USUAL = {
    "single": (224, [256]),
    "ten-crop": (224, [256]),
    "multi-scale": (224, [224, 256, 384, 480, 640]),
}


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
    errors: Mapping[str, str]  # top1_error, top5_error -> mean, ± sample standard deviation

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


def number(value: object) -> float:
    """A finite number of a log, else NaN."""
    usable = type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    return float(value) if usable else math.nan  # type: ignore[arg-type]


def finals(study: str, runs: Iterable[results.RunRecord]) -> list[Ours]:
    """The single view at the last step, as `verdict.by_network` averages it."""
    rows = [
        run.identity() | {"status": run.status} | {name: run.final(name) for name in verdict.MEASURED}
        for run in runs
    ]
    if not rows:
        return []
    means = verdict.by_network(pd.DataFrame(rows))
    found = []
    for _, row in means[means["n"] > 0].iterrows():
        error = verdict.with_spread(row, "test_error")
        if error:
            where = (row["data"], row["recipe"], row["precision"])
            errors = {"top1_error": error}
            found.append(
                Ours(study, row["network"], *where, row["data"], "single", "", int(row["n"]), errors)
            )
    return found


def tests(study: str, runs: Iterable[results.RunRecord]) -> list[Ours]:
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
            if number(row["crop"]) > 0 and (row["crop"], sides) != (crop, usual_sides):
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
                    "top1_error": number(row["top1_error"]),
                    "top5_error": number(row["top5_error"]),
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
            errors[name] = verdict.with_spread(cell, name)
        where = dict(zip(keys, map(str, key), strict=True))
        found.append(Ours(study, **where, n=len(group), errors=errors))
    return found


def measured() -> list[Ours]:
    """Everything measured on networks of the paper in any study of the results folder."""
    root = cached.root()
    known = {record.network for record in paper.RECORDS}
    found: list[Ours] = []
    for path in results.find_studies(root):
        name = path.relative_to(root).as_posix()
        runs = [
            run
            for run in cached.study(path).runs
            if run.config.network_name in known and run.status == "finished"
        ]
        found += tests(name, runs) + finals(name, runs)
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


def table(records: Sequence[paper.Reported], ours: Sequence[Ours]) -> pd.DataFrame:
    """One row a network and condition of ours; a network that we have not stands with empty cells."""
    rows = []
    for network in dict.fromkeys(record.network for record in records):
        own = {record.quantity: record for record in records if record.network == network}
        first = next(iter(own.values()))
        top1 = own.get("top1_error") or own.get("test_error")
        row: dict[str, Any] = {
            "network": network,
            "paper_top1": in_words(top1) if top1 else None,
            "paper_top5": in_words(own["top5_error"]) if "top5_error" in own else None,
        }
        found = fitting(ours, network, first.protocol)
        for one in found:
            condition = {
                "ours_top1": one.errors.get("top1_error") or None,
                "ours_top5": one.errors.get("top5_error") or None,
                "n": one.n,
                "protocol": IN_WORDS[one.protocol] + (f", {one.details}" if one.details else ""),
                "data": one.tested_on,
                "recipe": one.recipe + ("" if one.precision == "fp32" else f", {one.precision}"),
                "study": one.study,
                "comparable": one.comparable(first.protocol),
            }
            rows.append(row | {name: _text(value) for name, value in condition.items()})
        if not found:
            rows.append(row)
    return pd.DataFrame(rows, columns=["network", *VALUES, *CONDITION])


def _text(value: Any) -> Any:
    return frame.shown(value) if isinstance(value, str) else value


def draw(key: str, shown: pd.DataFrame) -> None:
    """A table of the page: no top-5 where the paper has none, no conditions where no run is."""
    empty = [name for name in ("paper_top5", "ours_top5") if shown["paper_top5"].isna().all()]
    without_runs = list(CONDITION) if shown["n"].isna().all() else []
    st.dataframe(
        shown.drop(columns=empty + without_runs),
        hide_index=True,
        key=key,
        height="content",
        placeholder="",
        column_config={
            "network": frame.text("Network", pinned=True),
            "parameters": frame.text("Paper: parameters", alignment="right"),
            "our_parameters": frame.text("Ours: parameters", alignment="right"),
            "paper_top1": frame.text(
                "Paper (%)" if empty else "Paper top-1 (%)",
                alignment="right",
                width=200 if key == "table 6" else None,
            ),
            "paper_top5": frame.text("Paper top-5 (%)", alignment="right"),
            "ours_top1": frame.text(
                "Ours (%)" if empty else "Ours top-1 (%)",
                "Mean over finished seeds at the last step; ± is the sample standard deviation.",
                alignment="right",
            ),
            "ours_top5": frame.text("Ours top-5 (%)", alignment="right"),
            "n": frame.number("n", "Finished runs in the mean, one a seed.", "%d"),
            "data": frame.text("Our data"),
            "comparable": frame.text(
                "To be compared?", "With the paper's number in the same row.", width=180
            ),
            "study": frame.text("Study"),
            "protocol": frame.text("Our test"),
            "recipe": frame.text("Our recipe"),
        },
    )


def with_parameters(shown: pd.DataFrame, root_studies: Sequence[results.Study]) -> pd.DataFrame:
    """Table 6 also counts parameters: the paper's, and those written by our runs."""
    sizes = {record.network: record.value for record in paper.TABLE_6_PARAMETERS}
    ours: dict[str, set[int]] = {}
    for study in root_studies:
        for run in study.runs:
            count = run.info.get("parameters")
            if run.config.network_name in sizes and type(count) is int and 0 < count < 2**53:
                ours.setdefault(run.config.network_name, set()).add(count)
    paper_has = [f"{sizes[name] / 1e6:g} M" if name in sizes else None for name in shown["network"]]
    shown["parameters"] = paper_has
    counted = [", ".join(f"{n:,}" for n in sorted(ours.get(name, ()))) for name in shown["network"]]
    shown["our_parameters"] = [text or None for text in counted]
    return shown


study = frame.open_study(
    "Ours and the paper",
    "Every error that the paper reports in Tables 2, 3, 4 and 6, and beside it what runs of ours "
    "reached, from **all** studies of the results folder. A cell without a run stays empty.",
)
ours = measured()
studies = [cached.study(path) for path in results.find_studies(cached.root())]

with st.container(border=True):
    if not ours:
        st.markdown("No finished run is of a network in these tables yet.")
    elif not any(one.tested_on.split(" ")[0] in OWN_DATA for one in ours):
        named = ", ".join(sorted({one.tested_on for one in ours}))
        st.markdown(
            "**None of these runs is on the paper's own data** (CIFAR-10 and ImageNet). Which network "
            "is ahead of which may be compared; the numbers may not. Ours are on:"
        )
        st.text(frame.shown(named))
    else:
        st.markdown(
            "Numbers may be compared only where *To be compared?* says yes: same data, recipe and test."
        )

for number_of, title, records, key in (
    (2, "plain and residual, 18 and 34 layers", paper.TABLE_2, "imagenet ten-crop"),
    (3, "the options of shortcuts, and deeper networks", paper.TABLE_3, "imagenet ten-crop"),
    (4, "single models at their best", paper.TABLE_4, "imagenet multi-scale"),
    (6, "CIFAR-10", (*paper.TABLE_6, *paper.TABLE_6_OTHERS), "cifar10 single"),
):
    st.header(f"Table {number_of}: {title}", anchor=False)
    data, protocol = key.split()
    st.markdown(f"The paper's: {paper.CONDITIONS[data, protocol]}. Errors in percent.")  # type: ignore[index]
    shown = table(records, ours)
    if number_of == 6:
        shown = with_parameters(shown, studies)
    draw(f"table {number_of}", shown)
    if not shown["ours_top1"].notna().any():
        st.markdown("No finished run of ours is of these networks.")
    if number_of == 6:
        st.markdown(
            "± and best are over five runs, which the paper gives for those two only. Maxout to "
            "Highway are not its own. Plain networks do not stand in Table 6: *Degradation* has "
            "them beside Figure 6."
        )

st.header("What these tables cannot say", anchor=False)
st.markdown(
    "- The paper gives no spread where no ± stands: a difference of a few tenths to one of ours "
    "may be chance.\n"
    "- Ours are at the last step, never the best over the training. The paper does not say "
    "which its are.\n"
    "- `resnetlab evaluate STUDY/RUN --protocol all` tests a trained network by the other protocols; "
    "its result then stands here."
)
