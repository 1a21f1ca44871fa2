"""What the README's first lines and docs/findings.md say of the committed runs, computed again."""

import json
import math
import re
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from resnetlab import config, store, verdict
from resnetlab.verdict import claims

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
FINDINGS = (PROJECT / "docs" / "findings.md").read_text()
SAID = " ".join(FINDINGS.split())


def test_the_readmes_first_lines_say_what_became_of_both_halves_on_photographs():
    """Asked on the clean training error, in the announced study."""
    found = claims.in_results(PROJECT / "results" / "reference", "depth-real")
    rows = {row.claim.kind: row for row in found if row.error == next(iter(claims.ERRORS))}
    first = " ".join(README.split("<picture>")[0].split())
    plain, residual = rows["plain"].gap, rows["residual"].gap
    assert rows["plain"].settles == claims.SHOWN
    words = (
        "plain-44 ends {:+.1f} points [{:+.1f}, {:+.1f}] behind plain-20 in clean training error (of "
    )
    words += "the finished network; {} announced seeds, 95 % interval)"
    assert words.format(plain.mean, *plain.interval, plain.n) in first
    settled = rows["residual"].settles
    assert settled.startswith(claims.LOST) or settled in (claims.OPEN, claims.NEAR, claims.REVERSED)
    assert ("can no longer be shown at this length" in first) == settled.startswith(claims.LOST)
    against = sum(difference > 0 for difference in residual.differences)
    assert (
        "on photographs each of the announced seeds that has ended goes the other way"
        if against == residual.n
        else f"on photographs {against} of the {residual.n} announced seeds that have ended go the"
    ) in first


def test_the_readme_says_by_which_seeds_recipes_were_chosen():
    text = " ".join(README.split())
    assert (
        "on the digits at seed 0, one of the five; on photographs at a pilot's seed, which is" in text
    )
    for study, recipe, among in (("digits", "paper-400", True), ("depth-real", "paper-8k", False)):
        runs = store.read_study(PROJECT / "results" / "reference" / study).runs
        assert {run.config.recipe.name for run in runs} == {recipe}
        assert config.CHOICES[recipe].seeds == (0,)
        assert (0 in {run.config.seed for run in runs}) == among


def test_the_numbers_are_those_of_the_committed_runs():
    section = FINDINGS.split("## On the digits")[1].split("\n##")[0]
    table = store.read_study(PROJECT / "results" / "reference" / "digits").table()
    for sentence in verdict.on_degradation(table):  # the numbers stand in the table of claims
        assert sentence in section or not sentence.startswith(("Recipe", "Without seed"))
    means = verdict.by_network(table).set_index("network")
    lines = re.findall(r"^\| ((?:plain|resnet)-\d+) \| (.*) \|$", section, re.MULTILINE)
    assert [name for name, _ in lines] == list(means.index)
    for name, cells in lines:
        row, wanted = means.loc[name], []
        for quantity in ("train_error", "test_error"):
            spread = row.get(f"{quantity}_sd", math.nan)
            wanted.append(f"{row[quantity]:.1f}" + ("" if math.isnan(spread) else f" ± {spread:.1f}"))
        theirs = [row[f"paper_{q}"] for q in ("train_error", "test_error")]
        wanted += ["–" if math.isnan(value) else f"{value:.2f}" for value in theirs]
        assert cells.split(" | ") == wanted


def test_the_table_of_photographs_is_that_of_the_runs_that_have_ended():
    """By hand from their summaries; what is said around it holds for the whole plan."""
    section = FINDINGS.split("## On real images")[1].split("\n##")[0]
    ends: dict[str, dict[str, dict[str, float]]] = {}  # by network and seed
    for path in sorted((PROJECT / "results" / "reference" / "depth-real").glob("*/summary.json")):
        network, _, seed = path.parent.name.rpartition("-seed")
        ends.setdefault(network, {})[seed] = json.loads(path.read_text())
    lines = re.findall(r"^\| ((?:plain|resnet)-\d+.*?) \| ([\d, ]+) \| (.*) \|$", section, re.MULTILINE)
    seeds_of = {name: seeds.split(", ") for name, seeds, _ in lines}
    pairs = [("plain-44", "plain-20"), ("resnet-44", "resnet-20"), ("plain-44", "resnet-44")]
    pairs += [("plain-20", "plain-8"), ("resnet-20", "resnet-8")]
    shared = {" minus ".join(pair): sorted({*ends[pair[0]]} & {*ends[pair[1]]}) for pair in pairs}
    assert seeds_of == {name: sorted(of_one) for name, of_one in ends.items()} | shared
    for name, seeds, cells in lines:
        for cell, quantity in zip(
            cells.split(" | "), ("train_error", "train_error_clean", "test_error"), strict=True
        ):
            mean, _, spread = cell.partition(" ± ")
            one, _, other = name.partition(" minus ")
            errors = [
                ends[one][seed][quantity] - (ends[other][seed][quantity] if other else 0)
                for seed in seeds.split(", ")
            ]
            assert float(mean) == pytest.approx(statistics.mean(errors), abs=0.0051)
            assert bool(spread) == (len(errors) > 1)
            if spread:
                assert float(spread) == pytest.approx(statistics.stdev(errors), abs=0.0051)
    grid = config.GRIDS["depth-real"]
    steps = {run.recipe.steps for run in grid.runs().values()}
    words = " ".join(section.split())
    assert steps == {8_000}
    assert "8,000 steps, an eighth of the paper's" in words
    seeds = {
        family: {run.seed for run in grid.runs().values() if run.network.family == family}
        for family in ("plain", "residual")
    }
    assert {family: len(them) for family, them in seeds.items()} == {"plain": 3, "residual": 5}
    assert "three seeds of every plain network and five of every residual one" in words


def test_what_must_be_known_with_the_photographs_is_computed_from_the_runs():
    """The list below their table in docs/findings.md, and the plan's notes on it."""
    place = PROJECT / "results" / "reference"
    study = store.read_study(place / "depth-real")
    table, clean = study.table(), "train_error_clean"
    words = " ".join(FINDINGS.split("## On real images")[1].split("\n##")[0].split())
    assert f"ahead from step {verdict.papers_lead('resnet-44', 'resnet-20').step:,.0f} on" in SAID
    plan = " ".join((place / "README.md").read_text().split())

    wider = [verdict.contrast(table, f"{one}-20", f"{one}-8", clean) for one in ("plain", "resnet")]
    (plain, low, high), (residual, *ends) = ((gap.mean, *gap.interval) for gap in wider)
    said = f"{plain:+.1f} points [{low:+.1f}, {high:+.1f}] the plain, {residual:+.1f} "
    said += "[{:+.1f}, {:+.1f}] the residual ones (clean, {} seeds, 95 %)".format(*ends, wider[0].n)
    assert said in words

    found = re.search(r"\((\d+\.\d+) and (\d+\.\d+) % clean", config.CHOICES["paper-8k"].words)
    pilot = float(found[1]) - float(found[2])
    assert f"resnet-20 {found[2]} and resnet-44 {found[1]} % clean training error" in plan
    gap = verdict.contrast(table, "resnet-44", "resnet-20", clean)
    first = gap.differences[:3]  # the note is of the seeds that had ended when it was written
    three = "seeds 1 to 3 have it behind by {:.2f}, {:.2f} and {:.2f}".format(*first)
    assert f"ahead of resnet-20 by {-pilot:.2f} points, and {three}" in plan
    values = [*gap.differences, pilot]
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.mean(values)
    count = {4: "four", 5: "five", 6: "six"}[len(values)]
    assert f"there resnet-44 ended {-pilot:.2f} points ahead of resnet-20" in words
    assert f"the {count} seeds give {mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]" in words

    behind = verdict.on_crossing(store.metrics_of(study.runs))[1]
    numbers = re.findall(r"[+-]\d+\.\d+", behind)
    said = "by {} points of running training error over the first tenth of the steps, {} over the "
    said += "tenth before the rate falls first, {} over the last"
    assert said.format(numbers[0], numbers[1], numbers[-1]) in words

    (sentence,) = (one for one in verdict.on_turning(study.runs) if one.startswith("plain-44"))
    grown = re.search(r"grows up to (\d+) times", sentence)[1]
    assert f"one of its convolutions grow up to {grown} times as long" in words
    recipe = study.runs[0].config.recipe
    assert 1 / (recipe.lr * recipe.weight_decay / (1 - recipe.momentum)) == pytest.approx(10_000)
    assert "0.1 weight decay would undo 63 % of that in 10,000 steps; here there are 4,000" in words
    assert (recipe.lr, recipe.milestones[0]) == (0.1, 4_000)
    spread = verdict.contrast(table, "plain-44", "plain-20", clean)
    assert f"ours is {spread.mean:+.1f} points where the paper's is +1.50" in words
    names = [f"{name}-seed{seed}" for name in ("plain-20", "plain-44") for seed in (1, 2, 3)]
    ended = [(place / "depth-real-clip" / name / "summary.json").is_file() for name in names]
    assert ("`depth-real-clip` (its runs are under way) asks" in words) != all(ended)

    tamed = store.read_study(place / "depth-real-clip").table()
    left = verdict.contrast(tamed, "plain-44", "plain-20", clean)
    assert left.n >= 2
    shared = sorted(seed for seed, ended in tamed.groupby("seed") if len(ended) == 2)
    whole = verdict.contrast(table[table["seed"].isin(shared)], "plain-44", "plain-20", clean)
    if left.n < 3:
        said = [" and ".join(f"{value:+.1f}" for value in one.differences) for one in (left, whole)]
        said = f"With {left.n} of 3 seeds plain-44 minus plain-20 is {said[0]} points, and {said[1]}"
        assert f"{said} without the clip (clean: nothing is concluded)" in words
    else:
        said = [
            f"{one.mean:+.1f} points [{', '.join(f'{end:+.1f}' for end in one.interval)}]"
            for one in (left, whole)
        ]
        assert f"plain-44 minus plain-20 is {said[0]} with the clip, and {said[1]} without it" in words

    over = []
    for run in study.runs:
        if run.network.name == "plain-44" and run.config.seed <= 3:
            over.append(100 * (run.probe("total_gradient_norm")["value"] > 1).mean())
    low, high = min(over), max(over)
    assert f"above 1.0 at {low:.0f} to {high:.0f} % of the measured steps of plain-44" in plan


def test_what_is_said_of_the_first_step_is_computed_from_the_runs():
    place = PROJECT / "results" / "reference"
    runs = [
        run for name in ("digits", "first-step-clip") for run in store.read_study(place / name).runs
    ]
    table = store.table_of(run for run in runs if run.network.name in ("plain-20", "plain-56"))
    recipes, clean = ("paper-400", "paper-400 (clip 1.0)"), ["train_error_clean"]
    gaps = [
        verdict.contrast(table[table["recipe"] == one], "plain-56", "plain-20", *clean)
        for one in recipes
    ]
    words = "plain-20 is {:+.1f} points [{:+.1f}, {:+.1f}] without the clip".format(
        gaps[0].mean, *gaps[0].interval
    )
    words += " and {:+.2f} [{:+.2f}, {:+.2f}] with it".format(gaps[1].mean, *gaps[1].interval)
    apart = verdict.Contrast("", "", tuple(np.subtract(gaps[0].differences, gaps[1].differences)))
    words += "; the clip takes away {:.1f} [{:.1f}, {:.1f}] (clean)".format(apart.mean, *apart.interval)
    assert words in SAID
    tamed = table[table["recipe"] == recipes[1]]
    other = {
        quantity: verdict.contrast(tamed, "plain-56", "plain-20", quantity)
        for quantity in ("train_error", "test_error")
    }
    words = {
        quantity: "{:+.1f}{} [{:+.1f}, {:+.1f}]".format(
            gap.mean, " points" if quantity == "train_error" else "", *gap.interval
        )
        for quantity, gap in other.items()
    }
    assert f"By the running error {words['train_error']} are left" in SAID
    assert f"on the test images {words['test_error']}." in SAID
    clipped_alike = store.table_of(run for run in runs if run.config.recipe.clip)
    left = verdict.contrast(clipped_alike, "plain-56", "resnet-56", *clean)
    (residual,) = clipped_alike[clipped_alike["network"] == "resnet-56"]["train_error_clean"].unique()
    deepest = store.read_study(place / "digits-110").table()
    reversed_at_110 = verdict.contrast(deepest, "resnet-110", "resnet-20", *clean)
    low, high, (worst, best) = *left.interval, reversed_at_110.interval
    assert (left.n, reversed_at_110.n, reversed_at_110.sign) == (5, 5, 1)
    assert f"resnet-56 ends at {residual:.1f} % with every seed and plain-56 {left.mean:+.1f} " in SAID
    assert f"[{low:+.1f}, {high:+.1f}] behind it (clean, 5 seeds), as far as behind plain-20" in SAID
    assert clipped_alike[clipped_alike["network"] == "plain-20"]["train_error_clean"].max() == residual
    words = f"resnet-110 ends {reversed_at_110.mean:+.1f} points [{worst:+.1f}, {best:+.1f}] behind"
    assert words in SAID
    assert not verdict.learnt(deepest[deepest["network"] == "plain-110"]).any()
    warmed = store.read_study(place / "digits-warm-up").table()
    both = pd.concat([deepest[deepest["network"] == "resnet-110"], warmed])
    change = verdict.contrast(both, *warmed["recipe"].unique(), "paper-400", *clean, by="recipe")
    words = "by {:+.1f} points [{:+.1f}, {:+.1f}] in three of these seeds, and leaves it"
    assert words.format(change.mean, *change.interval) in SAID
    assert change.n == 3
    beside = pd.concat([deepest[deepest["network"] == "resnet-20"], warmed])
    behind = verdict.contrast(beside, "resnet-110", "resnet-20", *clean)
    words = (
        "leaves it {:+.1f} [{:+.1f}, {:+.1f}] behind: not settled (`digits-warm-up`, clean, {} seeds"
    )
    assert words.format(behind.mean, *behind.interval, behind.n) in SAID
    assert behind.sign == 0
    errors = table.pivot_table(index="seed", columns=["recipe", "network"], values="train_error_clean")
    costs = [errors[recipe, "plain-56"] - errors[recipe, "plain-20"] for recipe in recipes]
    most, left = (verdict.Contrast("", "", tuple(gaps)) for gaps in (costs[1] - costs[0] / 2, costs[1]))
    assert (most.sign, left.sign) == (-1, 1), "most of it is gone, and some is left"
    clipped = [run for run in runs if run.config.recipe.clip]
    for name, words in (
        ("plain-56", "acts at {:.0f} % of the steps"),
        ("plain-20", "at {:.0f} % of those"),
    ):
        own = [run for run in clipped if run.network.name == name]
        assert f"{words.format(store.metrics_of(own)['clipped'].mean())} of {name}" in SAID
    deep = [run for run in runs if run.network.name == "plain-56" and not run.config.recipe.clip]
    weights = store.probes_of(deep, "weight_norm").pivot(
        index=["run", "layer"], columns="step", values="value"
    )
    assert f"up to {weights.div(weights[0], axis=0).max().max() / 10:.0f}0 times as long" in SAID
    assert f"The passes over the images ({400 * 128 / 1442:.0f})" in SAID
    for arm, settled in (("tenth", -1), ("warm-up", 0)):
        other = store.read_study(place / f"first-step-{arm}").table()
        other = other.pivot_table(index="seed", columns="network", values="train_error_clean")
        change = other["plain-56"] - other["plain-20"] - costs[0]
        assert verdict.Contrast("", "", tuple(change)).sign == settled


def test_the_committed_runs_reproduce_the_finding():
    """The claim of the README's first lines, seed by seed (three agree on the ordering)."""
    table = store.read_study(PROJECT / "results" / "reference" / "digits").table()
    assert (table["status"] == "finished").all()
    errors = table.pivot_table(index="seed", columns="network", values="train_error")
    assert len(errors) >= 3
    assert (errors["plain-56"] > errors["plain-20"] + 20).all()
    assert (errors["plain-56"] > errors["resnet-56"] + 20).all()
    assert (errors["resnet-56"] < 2).sum() == len(errors) - 1, "in one of them, says the page"
    low, high = errors["plain-56"].min(), errors["plain-56"].max()
    assert f"plain-56 hardly trains here at all (it ends between {low:.0f} and {high:.0f} %)" in SAID
    study = store.read_study(PROJECT / "results" / "reference" / "digits")
    stuck = next(run for run in study.runs if run.final("train_error") > 2 and "resnet" in run.name)
    stayed = stuck.metrics.set_index("step")["train_error"][[300, 400]].round()
    assert f"stays at {stayed[300]:.0f} % after the second drop" in SAID
    assert stayed[300] == stayed[400]
    turned = verdict.turning(run for run in study.runs if run.network.name == "plain-56")
    turned = turned.query("step > 0 and lr == 0.1")
    thirds = [
        turned.query(part).groupby("seed")["value"].median() for part in ("layer < 18", "layer > 36")
    ]
    assert (thirds[0] < thirds[1] / 5).all(), "they hardly turn any more"
    costs = errors["plain-56"] - errors["plain-20"], errors["resnet-56"] - errors["resnet-20"]
    left = verdict.Contrast("", "", tuple(costs[1] - costs[0] / 2))
    assert left.sign == -1, "most: the residual cost of depth is below half of the plain one"
