"""Runs as the curves of one chart: what is averaged with what, and what a reader must know of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pandas as pd

from resnetlab import config, store
from resnetlab.config import Run, UsageError
from resnetlab.plots import series
from resnetlab.verdict.means import paired

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


def matching(runs: Runs, words: str) -> dict[str, store.RunRecord]:
    """The runs that every word of a filter fits, and none of those after `-`.

    A word fits where it stands in name, network, data, precision or state; `a|b` where one of the two
    does. `depth:20,56` fits a field, those of a recipe too, that has one of these values whole.
    UsageError for a field that no run has.
    """
    wanted = words.casefold().split()
    if not wanted:
        return dict(runs)
    fields = {label: _fields(label, run) for label, run in runs.items()}
    known = {name for of_run in fields.values() for name in of_run}
    for word in wanted:
        name, colon, _ = word.removeprefix("-").partition(":")
        if colon and name not in known:
            raise UsageError(f"no run has a field {name!r}; there are {', '.join(sorted(known))}")
    return {
        label: runs[label]
        for label, of_run in fields.items()
        if all(_fits(of_run, word.removeprefix("-")) != word.startswith("-") for word in wanted)
    }


def _fields(label: str, run: store.RunRecord) -> dict[str, str]:
    """What a filter can ask of a run, as it is typed."""
    about = run.config
    values: dict[str, object] = dict(about.recipe.model_dump())
    values |= {"run": label, "study": run.path.parent.name, "network": about.network_name}
    values |= {"family": about.network.family, "depth": about.network.depth, "seed": about.seed}
    values |= {"shortcut": about.network.shortcut, "data": about.data.label}
    values |= {"recipe": about.recipe.label, "precision": about.precision, "status": run.status}
    return {name: str(value).casefold() for name, value in values.items()}


# What a word without a field is sought in.
_TEXTS = ("run", "network", "family", "data", "recipe", "precision", "status")


def _fits(of_run: Mapping[str, str], word: str) -> bool:
    name, colon, values = word.partition(":")
    if colon:
        return of_run.get(name) in values.split(",")
    return any(part in of_run[text] for part in word.split("|") for text in _TEXTS)


def latest(runs: Runs) -> str:
    """Label of the run that was begun last."""
    return max(runs, key=lambda label: store.begun(runs[label]))


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


def by_images(runs: Runs) -> list[Run]:
    """Their configurations, images known by what they are.

    One folder is one, however it is spelt or reached; two of one name are told apart.
    """
    configs = []
    records = list(runs.values())
    for run, who in zip(records, store.identities(records), strict=True):
        images = run.config.data
        if images.path is not None and run.images_sha256 is not None:
            name = f"{images.name.partition(':')[0]}:{who['data']}"
            images = images.model_copy(update={"name": name, "validation": 0})
        configs.append(run.config.model_copy(update={"data": images}))
    return configs


def lines_of(
    runs: Runs,
    quantity: str,
    axis: str,
    by: str,
    spread: series.Spread,
    smoothing: float,
    panels: str = "",
) -> tuple[list[series.Line], list[Runs]]:
    """The curves in the order of `runs`, and the runs of each. `by` is one of CURVES.

    `panels`, one of `series.GROUPINGS`, gives each curve the small multiple of its first run.
    """
    labels, configs = list(runs), by_images(runs)
    places = [_place(run) for run in runs.values()]
    curves = []
    for run in runs.values():
        norms = "gradient_norm" in f"{quantity} {axis}"
        rows = logged(run) if norms else run.metrics
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
        network = members[0].network
        panel = series.GROUPINGS[panels](members[0]) if panels else ""
        more = {"shortcut": network.shortcut, "panel": panel}
        lines.append(series.line(name, within, parts, network.depth, spread, ended, **more))
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


def minus(
    lines: Sequence[series.Line], members: Sequence[Runs], baseline: str, spread: series.Spread
) -> list[series.Line]:
    """The curves minus those of the line `baseline`, seed by seed, at the steps that both logged.

    The baseline itself, and seeds that it has not, are left out.
    """
    by_seed = _by_seed(lines, members, baseline)
    differences = []
    for line, runs in zip(lines, members, strict=True):
        seeds = _seeds(runs)
        pairs = [index for index, seed in enumerate(seeds) if seed in by_seed]
        if line.name == baseline or not pairs:
            continue
        parts = [_difference(line.curves[index], by_seed[seeds[index]]) for index in pairs]
        names = [line.runs[index] for index in pairs]
        more = {"shortcut": line.shortcut, "panel": line.panel}
        over = {run.config.seed for run in runs.values() if run.status in store.ENDED}
        ended = [seeds[index] in over for index in pairs]
        differences.append(series.line(line.name, names, parts, line.depth, spread, ended, **more))
    return differences


def _seeds(runs: Runs) -> list[int]:
    """The seed of each curve of a line: of several runs of one configuration there is one."""
    return [run.seed for run in dict.fromkeys(run.config for run in runs.values())]


def _by_seed(
    lines: Sequence[series.Line], members: Sequence[Runs], name: str
) -> dict[int, pd.DataFrame]:
    """seed -> its curve in the line of that name; a seed that occurs twice is no pair."""
    for line, runs in zip(lines, members, strict=True):
        if line.name == name:
            seeds = _seeds(runs)
            curves = zip(seeds, line.curves, strict=True)
            return {seed: curve for seed, curve in curves if seeds.count(seed) == 1}
    return {}


def _difference(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    both = one.merge(other[["step", "y", "line"]], on="step", suffixes=("", "_of_baseline"))
    differences = {name: both[name] - both[f"{name}_of_baseline"] for name in ("y", "line")}
    return both[["step", "x"]].assign(**differences)


def with_differences(
    table: pd.DataFrame,
    lines: Sequence[series.Line],
    members: Sequence[Runs],
    baseline: str,
    step: int | None,
) -> pd.DataFrame:
    """`table_of` with what each curve has more than `baseline` at `step`, seed by seed.

    `difference` is the mean over the seeds of both, `interval` its 95 % confidence interval (from three
    pairs on), `pairs` their number.
    """
    rows: list[tuple[float | None, str, int | None]] = []
    differences = {line.name: line for line in minus(lines, members, baseline, "none")}
    for name in table["name"]:
        curves = differences[name].curves if name in differences else ()
        values = [y for curve in curves for y in curve["y"][curve["step"] == step]]
        if not values:
            rows.append((None, "", None))
            continue
        pairs = paired(name, baseline, values)
        rows.append((pairs.mean, pairs.within.partition(" % ")[2], pairs.n))
    added = pd.DataFrame(rows, columns=["difference", "interval", "pairs"], index=table.index)
    return table.join(added.astype({"difference": float, "pairs": "Int64"}))


def remarks(lines: Sequence[series.Line], members: Sequence[Runs], axis: str) -> list[str]:
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
    kinds = len(series.groups(by_images(runs)))
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
