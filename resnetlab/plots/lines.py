"""Runs as the curves of one chart: what is averaged with what, and what a reader must know of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pandas as pd

from resnetlab import config, store
from resnetlab.config import Run
from resnetlab.plots import series

SEEDS, SINGLE = "seeds", "single"  # beside what `series.GROUPINGS` has
# What the curves may be -> what it is called
CURVES = {SEEDS: "mean over seeds", SINGLE: "single runs"}
CURVES |= {name: f"mean by {name}" for name in series.GROUPINGS}

Runs = Mapping[str, store.RunRecord]  # by STUDY/RUN as shown


def in_order(runs: Runs) -> dict[str, store.RunRecord]:
    """As a legend has them: plain before residual, shallow before deep."""

    def order(label: str) -> tuple[str, int, str, int]:
        run = runs[label].config
        return run.network.family, run.network.depth, run.network_name, run.seed

    return {label: runs[label] for label in sorted(runs, key=order)}


def logged(run: store.RunRecord) -> pd.DataFrame:
    """Every logged row of a run, with its gradient norms."""
    return series.with_gradient_norms(run.metrics, run.probe())


def quantities(runs: Runs) -> list[str]:
    """Those of `series.QUANTITIES` that any of the runs has logged."""
    with_values = [run.metrics.dropna(axis="columns", how="all") for run in runs.values()]
    filled = {str(name) for metrics in with_values for name in metrics}
    if any(len(run.probe()) for run in runs.values()):
        filled |= {name for name in series.QUANTITIES if name.startswith("gradient_norm")}
    return [name for name in series.QUANTITIES if name in filled]


def lines_of(
    runs: Runs, quantity: str, axis: series.Axis, by: str, spread: series.Spread, smoothing: float
) -> tuple[list[series.Line], list[Runs]]:
    """The curves in the order of `runs`, and the runs of each. `by` is one of CURVES."""
    labels, configs = list(runs), [run.config for run in runs.values()]
    places = [_place(run) for run in runs.values()]
    curves = []
    for run in runs.values():
        rows = logged(run) if quantity.startswith("gradient_norm") else run.metrics
        curves.append(series.curve(rows, quantity, axis, run.config.recipe.batch_size))
    curves = series.smoothed(curves, smoothing)
    if by == SINGLE:
        groups, names = [[index] for index in range(len(runs))], series.names(configs, places)
    else:
        alike = series.GROUPINGS.get(by)
        groups = series.groups(configs, alike)
        firsts = [configs[group[0]] for group in groups]
        names = [alike(run) for run in firsts] if alike else series.names(firsts, seeds=False)
    lines = []
    names = series.numbered([series.shown(name, 120) for name in names])
    for name, group in zip(names, groups, strict=True):
        # Several runs of one seed and configuration are averaged first: they count once.
        same: dict[Run, list[int]] = {}
        for index in group:
            same.setdefault(configs[index], []).append(index)
        group = [indices[0] for indices in same.values()]
        members = [configs[index] for index in group]
        within = series.names(members, [places[index] for index in group]) if len(group) > 1 else [""]
        parts = [series.averaged([curves[index] for index in indices]) for indices in same.values()]
        ended = [runs[labels[index]].status in store.ENDED for index in group]
        lines.append(series.line(name, within, parts, members[0].network.depth, spread, ended))
    return lines, [{labels[index]: runs[labels[index]] for index in group} for group in groups]


def _place(run: store.RunRecord) -> tuple[str, str]:
    """Its study, a committed one as reference/STUDY, and its name: in full, where a label is cut."""
    who, committed = run.identity(), run.path.parent.parent.name == store.REFERENCE
    return f"{store.REFERENCE}/{who['study']}" if committed else who["study"], who["run"]


def shared_step(lines: Sequence[series.Line], asked: float | None = None) -> int | None:
    """The last step that every curve has a value at, else the last of any; None without values.

    With `asked` the step nearest to it that any curve has.
    """
    steps = [set(curve["step"].astype(int)) for line in lines for curve in line.curves if len(curve)]
    if not steps:
        return None
    if asked is not None:
        return min(sorted(set.union(*steps)), key=lambda step: abs(step - asked))
    return max(set.intersection(*steps) or set.union(*steps))


def table_of(
    lines: Sequence[series.Line], members: Sequence[Runs], quantity: str, step: int | None, by: str
) -> pd.DataFrame:
    """`series.table_of` with the seeds and states of each curve's runs, without idle columns."""
    table = series.table_of(lines, quantity, step)
    seeds = [sorted({run.config.seed for run in runs.values()}) for runs in members]
    table.insert(2, "seeds", [", ".join(map(str, numbers)) for numbers in seeds])
    table["status"] = [", ".join(sorted({run.status for run in runs.values()})) for runs in members]
    table["at_n"] = table["at_n"].where(table["at_n"] != table["n"])
    idle = [] if table["at_n"].notna().any() else ["at_n"]
    if by == SINGLE:
        idle = ["n", "last_sd", "best_sd", "at_sd", "at_n"]
    if series.better(quantity) is None:
        idle += ["best", "best_sd"]
    return table.drop(columns=dict.fromkeys(idle))


def remarks(lines: Sequence[series.Line], members: Sequence[Runs], axis: series.Axis) -> list[str]:
    """What the reader has to know about these curves, a sentence each; may hold names from disk."""
    sentences = []
    for line, runs in zip(lines, members, strict=True):
        sentences += [f"{line.name}: {remark}" for remark in _of_a_mean(line, runs)]
    every = {label: run for runs in members for label, run in runs.items()}
    if len({run.config for run in every.values()}) < len(every):
        sentences.append(
            "Some runs have the same configuration and the same seed: they are not independent. A mean "
            "counts them once."
        )
    for label, run in every.items():
        if run.status == "diverged":
            step = run.summary.get("diverged_at") if run.summary else None
            at = f" at step {step:,}" if type(step) is int else ""
            sentences.append(f"{label} diverged{at}: what was not finite is left out.")
        elif run.status in ("failed", "interrupted"):
            sentences.append(f"{label} is {run.status}: its curve is not at its end.")
    if axis == "seconds":
        sentences.append(
            "Wall time counts training only, all starts together. Compare it only between runs on the "
            "same machine; the mean stands at the mean time of its step."
        )
    return sentences


def _of_a_mean(line: series.Line, runs: Runs) -> list[str]:
    """What is unequal among the runs of one curve."""
    remarks = []
    kinds = len(series.groups([run.config for run in runs.values()]))
    if kinds > 1:
        remarks.append(f"its {len(runs)} runs have {kinds} configurations; each run counts once.")
    ends = [int(curve["step"].iloc[-1]) for curve in line.curves if len(curve)]
    missing = len(line.curves) - len(ends)
    if missing and len(line.curves) > 1:
        noun = "1 run" if missing == 1 else f"{missing:,} runs"
        remarks.append(f"{noun} without any value, not counted.")
    if line.young:
        young = "1 run has" if line.young == 1 else f"{line.young:,} runs have"
        remarks.append(f"{young} not ended: thin, and in no mean or band.")
    elif len(ends) > 1 and line.mean.empty:
        remarks.append("its runs share no logged step, so there is no mean.")
    elif len(ends) > 1 and (last := int(line.mean["step"].iloc[-1])) < max(ends):
        remarks.append(
            f"the mean ends at step {last:,}, the last that all {len(ends)} runs logged; one goes on "
            f"to {max(ends):,}."
        )
    return remarks


def differences(first: Runs, second: Runs, *, seeds: bool) -> pd.DataFrame:
    """Fields in which the runs of two curves differ, with the values of each; `seeds`: theirs too."""
    sides = [[config.fields(run.config) for run in runs.values()] for runs in (first, second)]
    rows = []
    for key in dict.fromkeys(key for side in sides for fields in side for key in fields):
        a, b = ({json.dumps(fields.get(key, config.USUAL)) for fields in side} for side in sides)
        if a != b and (seeds or key != "seed"):
            rows.append([key, *(series.shown(", ".join(sorted(values))) for values in (a, b))])
    return pd.DataFrame(rows, columns=["field", "first", "second"])


def points(runs: Runs) -> pd.DataFrame:
    """Every logged row of the runs, unsmoothed: who it is, the four axes, all quantities."""
    parts = []
    for run in runs.values():
        rows, who = logged(run), run.identity() | {"study": _place(run)[0]}
        rows = rows.assign(**who, images=rows["step"] * run.config.recipe.batch_size)
        parts.append(rows.reindex(columns=[*store.IDENTITY, *series.AXES, *series.QUANTITIES]))
    return pd.concat(parts, ignore_index=True).dropna(axis="columns", how="all")
