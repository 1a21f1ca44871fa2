"""A study as one HTML file for the road: it holds what it shows and asks no network for anything.

Figures are those of `plots`, drawn by the plotly.js that stands in the file; the page's own policy
(Content-Security-Policy) lets nothing else run and nothing be fetched. Whatever comes from disk is
escaped: a folder may be called anything.
"""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from html import escape
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from resnetlab import config, files, paper, plots, store, verdict
from resnetlab.config import UsageError, commands
from resnetlab.pages import document
from resnetlab.plots import series
from resnetlab.verdict import claims

FILE = "report.html"
KIND = "report"
MOST_PROBED_STEPS = 160  # of a heatmap: a screen has no more columns for it

# What it says beside the runs' own values: questions, captions, notes and limits.
_WORDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
_CAPTIONS, _NOTES = _WORDS["captions"], _WORDS["notes"]


def _number(value: object, form: str = "{:.2f}") -> str:
    known = isinstance(value, int | float) and value == value
    return form.format(value) if known else "–"


# --- what is measured, a part for each condition ----------------------------------------------


def _probed(runs: Sequence[store.RunRecord]) -> tuple[pd.DataFrame, str]:
    """Gradient norms of the shallowest and deepest networks of a family, and which runs they are of.

    Of each network the lowest seed that has some; of many steps every k-th, and the last.
    """
    families = store.table_of(runs).groupby("family")["depth"]
    ends = {*families.min(), *families.max()}
    chosen: dict[str, store.RunRecord] = {}
    for run in sorted(runs, key=lambda run: run.config.seed):
        wanted = run.network.depth in ends and run.config.network_name not in chosen
        if wanted and not run.probe().empty:
            chosen[run.config.network_name] = run
    probes = store.probes_of(list(chosen.values()))
    all_ends = ends == {run.network.depth for run in runs}
    which = "every network" if all_ends else "the shallowest and the deepest networks"
    which += ", the lowest seed of each"
    parts = []
    for _, rows in probes.groupby("run", sort=False):
        steps = np.sort(rows["step"].unique())
        every = -(-len(steps) // MOST_PROBED_STEPS)
        parts.append(rows[rows["step"].isin([*steps[::every], steps[-1]])])
        if every > 1 and ";" not in which:
            which += f"; of each {len(steps):,} measured steps one in {every} is drawn"
    return pd.concat(parts, ignore_index=True) if parts else probes, which


def _limits(table: pd.DataFrame, runs: Sequence[store.RunRecord]) -> list[str]:
    """What these runs cannot say, in sentences."""
    first, words = runs[0].config, _WORDS["limits"]
    reasons = verdict.reasons_apart(table)
    limits = [f"{reason[0].upper()}{reason[1:]}." for reason in reasons] + store.notes(runs)
    finished = table[table["status"] == "finished"]
    seeds = finished.groupby("network")["seed"].nunique()
    if few := ", ".join(seeds.index[seeds < verdict.ENOUGH_SEEDS]):
        limits.append(words["seeds"].format(few=few, enough=verdict.ENOUGH_SEEDS))
    if left := len(table) - len(finished):
        limits.append(words["unfinished"].format(runs=document.count(left, "run"), all=len(table)))
    limits.append(words["steps"].format(steps=first.recipe.steps))
    if first.recipe.ghost_batch is None:
        limits.append(words["batch"].format(batch=first.recipe.batch_size))
    if set(finished["shortcut"]) & {"B", "C"}:
        limits.append(words["projections"])
    return [*limits, verdict.ELSEWHERE, words["cause"]]


def _means(table: pd.DataFrame) -> str:
    """The table of means, ours beside the paper's, each with its conditions."""
    means = verdict.by_network(table)
    quantities = {"train": "train_error", "train, clean": "train_error_clean", "test": "test_error"}
    headings = ["network", "finished", "diverged", "unfinished", *quantities]
    headings += ["paper: train", "paper: test", "paper: source"]
    rows = [
        [row["network"], row["n"], row["diverged"], row["unfinished"]]
        + [verdict.with_spread(row, quantity) or "–" for quantity in quantities.values()]
        + [_number(row[f"paper_{quantity}"]) for quantity in ("train_error", "test_error")]
        + [row["paper_source"] or "–"]
        for _, row in means.iterrows()
    ]
    notes = [
        _NOTES["means"],
        f"Ours: {plots.conditions(table)}.",  # escaped there
        *(f"The paper: {escape(how)}." for how in sorted(set(means["paper_how"]) - {""})),
    ]
    return document.table(headings, rows, numbers=headings[1:-1]) + "".join(map(document.soft, notes))


def _evaluations(runs: Sequence[store.RunRecord]) -> str:
    """What `resnetlab evaluate` stored with the runs; "" if nothing is."""
    headings = ["run", "step", "protocol", "tested on", "images", "top-1 (%)", "top-5 (%)"]
    rows = [
        [run.name, *(row[name] for name in ("step", "protocol", "data", "images"))]
        + [_number(row[name]) for name in ("top1_error", "top5_error")]
        for run in runs
        for row in run.evaluations.to_dict("records")
    ]
    table = document.table(headings, rows, numbers=headings[4:])
    return f"<h3>Other test protocols</h3>{table}" if rows else ""


def _measured(runs: Sequence[store.RunRecord], title: str) -> str:
    """Verdict, figures, means and limits of runs that share data set, recipe and precision."""
    table, metrics = store.table_of(runs), store.metrics_of(runs)
    answers = f'<div class="said">{document.items(verdict.answers(table))}</div>'
    parts = [f"<h2>{document.text(title)}</h2>", answers]
    if len(metrics):
        curves = plots.error_curves(metrics, with_paper=not verdict.reasons_apart(table))
        plots.thin_lines(curves, series.MOST_POINTS // 2)
        parts.append(document.drawn(curves, _CAPTIONS["error_curves"]))
    if (table["status"] == "finished").any():
        several = table["depth"].nunique() > 1
        parts.append(_drawn(plots.error_against_depth if several else plots.error_by_network, table))
    probes, which = _probed(runs)
    if len(probes):
        for plot in (plots.gradient_norm_heatmap, plots.layer_profile):
            parts.append(_drawn(plot, probes, which=which))
        parts += ["<h3>Are the gradients gone?</h3>", document.items(verdict.on_gradients(probes))]
        parts.append(document.soft(_NOTES["healthy"]))
    parts += ["<h3>Means</h3>", _means(table), _evaluations(runs)]
    parts += ["<h3>What the data cannot say</h3>", document.items(_limits(table, runs))]
    return "\n".join(parts)


def _drawn(plot: Callable[[pd.DataFrame], go.Figure], frame: pd.DataFrame, **words: str) -> str:
    return document.drawn(plot(frame), _CAPTIONS[plot.__name__].format(**words))


# --- the runs themselves ----------------------------------------------------------------------


_OUTCOMES = {  # heading -> column of `RunRecord.as_row`
    "train (%)": "train_error",
    "train, clean (%)": "train_error_clean",
    "validation (%)": "validation_error",
    "test (%)": "test_error",
    "time (s)": "seconds",
    "images/s": "images_per_second",
}


def _outcomes(study: store.Study) -> str:
    rows = []
    for run in study.runs:
        row = run.as_row()
        steps = f"{row['steps']:,} of {row['steps_planned']:,}"
        forms = {name: "{:.2f}" if "%" in name else "{:,.0f}" for name in _OUTCOMES}
        numbers = [_number(row[column], forms[name]) for name, column in _OUTCOMES.items()]
        rows.append([run.name, row["status"], steps, *numbers])
    headings = ["run", "status", "steps", *_OUTCOMES]
    table = document.table(headings, rows, numbers=headings[2:])
    return table + document.soft(_NOTES["outcomes"])


def _claims(study: store.Study) -> str:
    """The paper's claims that this study asks; "" for none."""
    table = claims.table(claims.rows([(study.name, study.table())], missing=False))
    headings = [name for name in claims.COLUMNS if name != "study"]
    numbers = [name for name in headings if name in claims.NUMBERS]
    shown = document.table(headings, table[headings].to_numpy().tolist(), numbers=numbers)
    rule = document.soft(" ".join((claims.RULE, *claims.FINE_PRINT)))
    return f"<h3>The paper's claims</h3>{shown}{rule}" if len(table) else ""


def _problems(study: store.Study) -> str:
    # Copies: the logs read for this go with them.
    rows = [(run.name, problem) for run in study.runs for problem in replace(run).problems]
    rows += [(item.path.name, f"left out: {item.reason}") for item in study.skipped]
    if rows:
        return document.table(["run", "what was skipped or is wrong"], rows)
    return f"<p>{_NOTES['no_problems']}</p>"


def _configurations(study: store.Study) -> str:
    """What all runs share, and what differs between them."""
    settings = {run.name: config.fields(run.config) for run in study.runs}
    keys = dict.fromkeys(key for values in settings.values() for key in values)
    texts = {
        key: [_setting(of_run.get(key, config.USUAL)) for of_run in settings.values()] for key in keys
    }
    common = [(key, values[0]) for key, values in texts.items() if len(set(values)) == 1]
    differ = [key for key, values in texts.items() if len(set(values)) > 1]
    parts = ["<h3>The same in all runs</h3>", document.table(["setting", "value"], common)]
    if differ:
        rows = [[name, *(texts[key][at] for key in differ)] for at, name in enumerate(settings)]
        parts += ["<h3>What differs</h3>", document.table(["run", *differ], rows)]
    return "\n".join(parts)


def _setting(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _noted(run: store.RunRecord) -> Iterator[tuple[str, object]]:
    """Versions, code, machine and data set of a run."""
    info, data = run.info, files.mapping(run.info.get("dataset"))
    yield from files.mapping(info.get("versions")).items()
    yield "commit of the code", info.get("commit")
    for name, value in files.mapping(info.get("execution")).items():
        yield str(name).replace("_", " "), value
    for name in ("train", "validation", "test"):
        yield f"{name} images", data.get(name)
    yield "files not read", data.get("left_out") or None
    yield "data, SHA-256", data.get("sha256")
    starts = info.get("starts")
    yield "starts", len(starts) if isinstance(starts, list) else None


def _origins(study: store.Study) -> str:
    """What is noted of the runs, and how many have each; their times."""
    noted = [item for run in study.runs for item in _noted(run) if item[1] not in (None, "")]
    order = list(dict.fromkeys(what for what, _ in noted))
    counts = Counter((str(what), str(value)) for what, value in noted)
    ranked = sorted(counts.items(), key=lambda item: (order.index(item[0][0]), -item[1]))
    rows = [(*item, f"{number} of {len(study.runs)}") for item, number in ranked]
    for what, key, end in (("first start", "created", min), ("last sign of life", "heartbeat", max)):
        times = [value for run in study.runs if isinstance(value := run.info.get(key), str)]
        rows += [(what, end(times), "")] if times else []
    seconds = sum(value for run in study.runs if (value := run.final("seconds")) is not None)
    rows.append(("training time", f"{seconds:,.0f} s, all runs together", ""))
    return document.table(["what", "value", "runs"], rows, numbers=["runs"])


# --- making it again --------------------------------------------------------------------------


def _again(study: store.Study) -> str:
    """How to make the study again, or else each run by itself."""
    command, words = None, []
    with contextlib.suppress(UsageError):
        store.check_name("study", study.name)
        command = commands.of_study(study.name, {run.name: run.config for run in study.runs})
    if command is None:
        words.append(f"<p>{_NOTES['no_command']}</p>")
        lines = [commands.of_run(run.config, run.info.get("execution")) for run in study.runs]
    else:
        lines = [command]
    shown = "\n".join(document.text(line, document.SENTENCE) for line in lines)
    words.append(f"<pre>{shown}</pre>")
    if command and study.skipped:
        words.append(f"<p>{_NOTES['not_in_it']}</p>")
    return "\n".join([*words, document.soft(_NOTES["again"])])


# --- the page ---------------------------------------------------------------------------------


def _question(table: pd.DataFrame) -> dict[str, str]:
    """By what the finished runs have, or all of them, as `verdict.answers` decides it."""
    finished = table[table["status"] == "finished"]
    rows = finished if len(finished) else table
    one_depth = rows["depth"].nunique() == 1
    about = "shortcuts" if one_depth and rows["shortcut"].nunique() > 1 else "degradation"
    return dict(_WORDS["questions"][about])


def _facts(study: store.Study) -> str:
    statuses = Counter(run.status for run in study.runs)
    parts = [f"{statuses[name]} {name}" for name in store.STATUSES if statuses[name]]
    parts += [f"{len(study.skipped)} not readable"] if study.skipped else []
    return f"{document.count(len(study.runs), 'run')} ({', '.join(parts)}), read {store.now()}"


SECTIONS: dict[str, Callable[[store.Study], str]] = {  # below what is measured
    "Every run": _outcomes,
    "Problems": _problems,
    "Configurations": _configurations,
    "Versions and machine": _origins,
    "Make it again": _again,
}


def page(study: store.Study) -> bytes:
    """The whole report as one HTML file.

    Runs that differ in data set, recipe or precision are never averaged: each condition has its own
    part. UsageError for a study without a readable run.
    """
    if not study.runs:
        raise UsageError(f"{study.path} holds no readable run")
    conditions = verdict.by_condition(study.runs)
    question = _question(study.table())
    body = [
        f'<p class="over">Study {document.text(study.name)}</p><h1>{escape(question["title"])}</h1>',
        f"<p>{escape(question['why'])}</p>",
        document.soft(f"{escape(_facts(study))}. The paper: {escape(paper.TITLE)}."),
    ]
    if len(conditions) > 1:
        body.append(f"<p>{_NOTES['conditions']}</p>")
    for (data, recipe, precision), runs in conditions.items():
        title = f"{data}, recipe {recipe}, {precision}"
        body.append(_measured(runs, "What the runs say" if len(conditions) == 1 else title))
    body.append(_claims(study))
    body += [f"<h2>{title}</h2>\n{section(study)}" for title, section in SECTIONS.items()]
    body.append(document.soft(f"Written by resnetlab {escape(version('resnetlab'))}."))
    return document.whole(KIND, f"{study.name}: {question['title']}", "\n".join(body))
