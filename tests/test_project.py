"""The project around the package: dependencies, the README's promises, the make verbs."""

import json
import math
import os
import re
import shlex
import statistics
import subprocess
import tomllib
from pathlib import Path, PurePath

import pandas as pd
import pytest
import typer.core
import typer.main
import yaml
from packaging.requirements import Requirement
from scipy import stats

from resnetlab import cli, config, store, verdict
from resnetlab.studies import notebook
from resnetlab.verdict import claims

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
# Every page that people read, the manual among them; not what lies in folders of their own.
PAGES = [
    *PROJECT.glob("*.md"),
    *(PROJECT / "docs").glob("*.md"),
    *(
        PROJECT / folder / "README.md"
        for folder in ("notebooks", "results", "results/reference", "benchmarks")
    ),
]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
MAKEFILE = (PROJECT / "Makefile").read_text()
COMMAND = typer.main.get_command(cli.app.app)
CONDA_NAMES = {"pytorch-cpu": "torch"}  # without CUDA


def on_disk(page):
    return page.relative_to(PROJECT).as_posix()


def ours(*extras):
    listed = PYPROJECT["optional-dependencies"]
    return {
        requirement.name: str(requirement.specifier)
        for line in [*PYPROJECT["dependencies"], *(line for extra in extras for line in listed[extra])]
        for requirement in [Requirement(line)]
    }


def test_environment_yml_is_what_trains_reads_and_opens_notebooks():
    listed = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
    assert [entry["pip"] for entry in listed if isinstance(entry, dict)] == [["-e ."]]
    theirs = {}
    for line in listed:
        if isinstance(line, str) and line != "pip":
            requirement = Requirement(line)
            name = CONDA_NAMES.get(requirement.name, requirement.name)
            theirs[name] = str(requirement.specifier)
    assert theirs.pop("python") == PYPROJECT["requires-python"]
    assert theirs == ours("train", "lab")


def test_constraints_pin_what_the_ranges_allow():
    pinned = {}
    for line in (PROJECT / "constraints.txt").read_text().splitlines():
        requirement = Requirement(line)
        assert requirement.url is None, f"{line} names a place of one machine"
        pinned[requirement.name.lower().replace("_", "-")] = str(requirement.specifier)[2:]
    for name, specifier in ours(*PYPROJECT["optional-dependencies"]).items():
        assert pinned[name] in Requirement(f"{name}{specifier}").specifier, name


def test_ranges_reach_down_to_the_machines_with_a_gpu():
    assert "2.11.0" in Requirement(f"torch{ours('train')['torch']}").specifier
    assert "0.26.0" in Requirement(f"torchvision{ours('train')['torchvision']}").specifier


def make_verbs():
    return set(re.search(r"\.PHONY: (.*)", MAKEFILE)[1].split())


def commands(page):
    """The commands on a page, each with whether it stands on a line of its own, to be typed as it is.

    Placeholders are words in capitals; what follows `#` is a comment.
    """
    text = page.read_text()
    for command in re.findall(
        r"^ {4,}(?:nohup )?((?:resnetlab|make|papermill|torchrun) .*)$", text, re.MULTILINE
    ):
        yield shlex.split(command, comments=True), True
    for command in re.findall(r"`((?:resnetlab|make|papermill) [^`]+)`", " ".join(text.split())):
        yield shlex.split(command), False


def check_words(command, words, whole):
    """That the command line takes these words: commands, options, and the values that each needs."""
    if isinstance(command, typer.core.TyperGroup):
        if words != ["--help"]:
            assert words[0] in command.commands, f"there is no command {words[0]}"
            check_words(command.commands[words[0]], words[1:], whole)
        return
    context = typer.Context(command, **command.context_settings)
    given, rest, _ = command.make_parser(context).parse_args([*words])  # refuses unknown options
    needed = [p.name for p in command.params if p.param_type_name == "argument" and p.required]
    missing = [name for name in needed if not given.get(name)]
    assert not missing or not whole or "--help" in words, f"{words}: {missing} is missing"
    assert not rest or context.allow_extra_args, f"{words}: {rest} is too much"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=on_disk)
def test_every_command_on_a_page_is_taken_as_it_stands(page):
    for words, whole in commands(page):
        match words:
            case ["make", *rest]:
                variables = {word.partition("=")[0] for word in rest if "=" in word}
                assert variables <= set(re.findall(r"^(\w+) \??=", MAKEFILE, re.MULTILINE)), words
                assert {word for word in rest if re.fullmatch("[a-z-]+", word)} <= make_verbs(), words
            case ["resnetlab", *rest] | ["torchrun", "--nproc-per-node", _, "-m", "resnetlab", *rest]:
                check_words(COMMAND, rest, whole)
        if words[:2] == ["resnetlab", "notebook"] or words[0] == "papermill":
            source = notebook.find(Path(words[1 if words[0] == "papermill" else 2]).stem)
            for name in (words[at + 1] for at, word in enumerate(words) if word == "-p"):
                notebook.known_parameter(source, name)


def test_make_has_the_promised_verbs_and_help_names_each():
    wanted = {
        "study",
        "test",
        "test-fast",
        "test-deep",
        "test-oldest",
        "dashboard",
        "lab",
        "check",
        "clean",
        "bench",
    }
    assert wanted <= make_verbs()
    shown = set(re.findall(r"make ([a-z-]+)", MAKEFILE.partition("help:")[2].partition("\n\n")[0]))
    assert shown | {"help"} == make_verbs()


def test_ci_calls_the_readmes_test_command():
    script = PROJECT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
    assert "make test" in README


def test_the_readmes_tree_is_what_is_there():
    """Both ways: no line without its file, no file without its line."""
    tree, folder = {"": set(), "resnetlab/": set()}, ""
    for line in README.split("## The tree")[1].split("```")[1].strip().splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else ""
        tree[folder].add(name.rstrip("/"))
        folder = name if name == "resnetlab/" else folder
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("the project's files are known from git")
    files = [PurePath(line).parts for line in listed.stdout.splitlines() if line[0] != "."]
    assert tree[""] == {parts[0] for parts in files}
    inside = {parts[1] for parts in files if parts[0] == "resnetlab"}
    assert tree["resnetlab/"] == {name for name in inside if not name.startswith("__")} - {"py.typed"}


@pytest.mark.parametrize("page", PAGES, ids=on_disk)
def test_what_a_page_links_to_is_there(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)|(?:srcset|src)=\"([^\"]+)\"", text):
        target = "".join(target)
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=on_disk)
def test_prose_is_wrapped(page):
    code = False
    for line in page.read_text().splitlines():
        code ^= line.startswith("```")
        if not (code or line.startswith(("    ", "|", ">", "!", "  <", "<!--"))):
            assert len(line) <= 104, line


def test_the_manual_names_every_page():
    pages = {page.name for page in (PROJECT / "docs").glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\(([a-z]+\.md)\)", (PROJECT / "docs" / "README.md").read_text()))


def test_the_readmes_numbers_are_those_of_the_committed_runs():
    section = README.split("### On the digits")[1].split("\n##")[0]
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


def test_the_readmes_table_of_photographs_is_that_of_the_runs_that_have_ended():
    """By hand from their summaries; what is said around it holds for the whole plan."""
    section = README.split("### On real images")[1].split("\n##")[0]
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


def test_the_readmes_first_lines_say_what_became_of_both_halves_on_photographs():
    """Asked on the clean training error, in the announced study."""
    found = claims.in_results(PROJECT / "results" / "reference", "depth-real")
    rows = {row.claim.kind: row for row in found if row.error == next(iter(claims.ERRORS))}
    first = " ".join(README.split("<picture>")[0].split())
    plain, residual = rows["plain"].gap, rows["residual"].gap
    assert rows["plain"].settles == claims.SHOWN
    words = "plain-44 ends {:+.1f} points [{:+.1f}, {:+.1f}] behind plain-20 in clean training error "
    assert f"{words}({{}} announced seeds, 95 %)".format(plain.mean, *plain.interval, plain.n) in first
    settled = rows["residual"].settles
    assert settled.startswith(claims.LOST) or settled in (claims.OPEN, claims.NEAR, claims.REVERSED)
    against = sum(difference > 0 for difference in residual.differences)
    assert (
        "on photographs each of the announced seeds that has ended goes the other way"
        if against == residual.n
        else f"on photographs {against} of the {residual.n} announced seeds that have ended go the"
    ) in first


def test_what_must_be_known_with_the_photographs_is_computed_from_the_runs():
    """The list below their table in README.md, and the notes on it in results/reference/README.md."""
    place = PROJECT / "results" / "reference"
    study = store.read_study(place / "depth-real")
    table, clean = study.table(), "train_error_clean"
    words = " ".join(README.split("### On real images")[1].split("\n##")[0].split())
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
    assert f"one of its convolutions grows up to {grown} times as long" in words
    recipe = study.runs[0].config.recipe
    assert 1 / (recipe.lr * recipe.weight_decay / (1 - recipe.momentum)) == pytest.approx(10_000)
    assert "63 % of that in 10,000 steps at a rate of 0.1, and there are 4,000" in words
    assert recipe.milestones[0] == 4_000
    names = [f"{name}-seed{seed}" for name in ("plain-20", "plain-44") for seed in (1, 2, 3)]
    ended = [(place / "depth-real-clip" / name / "summary.json").is_file() for name in names]
    assert ("`depth-real-clip` asks (its runs are under way)" in words) != all(ended)

    over = []
    for run in study.runs:
        if run.network.name == "plain-44" and run.config.seed <= 3:
            over.append(100 * (run.probe("total_gradient_norm")["value"] > 1).mean())
    low, high = min(over), max(over)
    assert f"above 1.0 at {low:.0f} to {high:.0f} % of the probed steps of plain-44" in plan


def test_what_the_readme_says_of_the_first_step_is_computed_from_the_runs():
    place = PROJECT / "results" / "reference"
    runs = [
        run for name in ("digits", "first-step-clip") for run in store.read_study(place / name).runs
    ]
    table = store.table_of(run for run in runs if run.network.name in ("plain-20", "plain-56"))
    recipes, clean = ("paper-400", "paper-400 (clip 1.0)"), ["train_error_clean"]
    assert f"> {verdict.between_recipes(table, *recipes, clean)[-1]}" in README
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
    assert f"that of the table above, {words['train_error']} are left" in " ".join(README.split())
    assert f"on the test images {words['test_error']} (5 seeds, 95 %)" in " ".join(README.split())
    clipped_alike = store.table_of(run for run in runs if run.config.recipe.clip)
    left = verdict.contrast(clipped_alike, "plain-56", "resnet-56", *clean)
    (residual,) = clipped_alike[clipped_alike["network"] == "resnet-56"]["train_error_clean"].unique()
    deepest = store.read_study(place / "digits-110").table()
    reversed_at_110 = verdict.contrast(deepest, "resnet-110", "resnet-20", *clean)
    low, high, (worst, best) = *left.interval, reversed_at_110.interval
    assert (left.n, reversed_at_110.n, reversed_at_110.sign) == (5, 5, 1)
    text = " ".join(README.split())
    assert f"resnet-56 ends at {residual:.1f} % with every seed and plain-56 {left.mean:+.1f} " in text
    assert f"[{low:+.1f}, {high:+.1f}] behind it" in text
    words = f"resnet-110 ends {reversed_at_110.mean:+.1f} points [{worst:+.1f}, {best:+.1f}] behind"
    assert words in text
    assert not verdict.learnt(deepest[deepest["network"] == "plain-110"]).any()
    warmed = store.read_study(place / "digits-warm-up").table()
    both = pd.concat([deepest[deepest["network"] == "resnet-110"], warmed])
    change = verdict.contrast(both, *warmed["recipe"].unique(), "paper-400", *clean, by="recipe")
    words = "by {:+.1f} points [{:+.1f}, {:+.1f}] in three of these seeds, and leaves it"
    assert words.format(change.mean, *change.interval) in text
    assert change.n == 3
    beside = pd.concat([deepest[deepest["network"] == "resnet-20"], warmed])
    behind = verdict.contrast(beside, "resnet-110", "resnet-20", *clean)
    words = (
        "leaves it {:+.1f} [{:+.1f}, {:+.1f}] behind: not settled (`digits-warm-up`, clean, {} seeds"
    )
    assert words.format(behind.mean, *behind.interval, behind.n) in text
    assert behind.sign == 0
    errors = table.pivot_table(index="seed", columns=["recipe", "network"], values="train_error_clean")
    costs = [errors[recipe, "plain-56"] - errors[recipe, "plain-20"] for recipe in recipes]
    most, left = (verdict.Contrast("", "", tuple(gaps)) for gaps in (costs[1] - costs[0] / 2, costs[1]))
    assert (most.sign, left.sign) == (-1, 1), "most of it is gone, and some is left"
    text = " ".join(README.split())
    clipped = [run for run in runs if run.config.recipe.clip]
    for name, words in (
        ("plain-56", "acts at {:.0f} % of the steps"),
        ("plain-20", "at {:.0f} % of those"),
    ):
        own = [run for run in clipped if run.network.name == name]
        assert f"{words.format(store.metrics_of(own)['clipped'].mean())} of {name}" in text
    deep = [run for run in runs if run.network.name == "plain-56" and not run.config.recipe.clip]
    weights = store.probes_of(deep, "weight_norm").pivot(
        index=["run", "layer"], columns="step", values="value"
    )
    assert f"up to {weights.div(weights[0], axis=0).max().max() / 10:.0f}0 times as long" in text
    assert f"The passes over the images ({400 * 128 / 1442:.0f})" in text
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
    assert (errors["resnet-56"] < 2).sum() == len(errors) - 1, "in one of them, says the README"
    low, high = errors["plain-56"].min(), errors["plain-56"].max()
    assert f"plain-56 hardly trains here at all (it ends between {low:.0f} and {high:.0f} %)" in README
    study = store.read_study(PROJECT / "results" / "reference" / "digits")
    stuck = next(run for run in study.runs if run.final("train_error") > 2 and "resnet" in run.name)
    stayed = stuck.metrics.set_index("step")["train_error"][[300, 400]].round()
    assert f"stays at {stayed[300]:.0f} % after the second drop" in " ".join(README.split())
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


def test_the_committed_studies_are_described():
    place = PROJECT / "results" / "reference"
    text = (place / "README.md").read_text()
    named = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)))
    there = {path.name for path in store.find_studies(place.parent)}
    assert there <= set(named)
    planned = re.findall(r"^\| `([^`]+)` \|", text[text.index("## Under way") :], re.MULTILINE)
    assert set(named) - there <= set(planned)  # a study is described before its first run has ended
    assert len(named) == len(set(named))


def test_the_manuals_python_examples_run(tmp_path, monkeypatch, capsys):
    examples = re.findall(
        r"```python\n(.*?)```", (PROJECT / "docs" / "library.md").read_text(), re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    names = {}
    for example in examples:
        exec(compile(example, "library.md", "exec"), names)
    said = capsys.readouterr().out
    assert "finished" in said
    assert float(said.split()[-1]) == pytest.approx(names["network"].scored["test_error"], abs=1e-3)


def test_nothing_committed_names_a_private_place():
    pattern = re.compile(r"(?<![\w.])/(?:work|home|root)/")
    for path in PROJECT.rglob("*"):
        parts = set(path.relative_to(PROJECT).parts)
        skipped = {".git", "data", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
        own_results = parts & {"results"} and "reference" not in parts
        if (
            parts & skipped
            or any(part.startswith(".venv") for part in parts)
            or own_results
            or path.suffix not in (".py", ".md", ".ipynb", ".json", ".toml")
        ):
            continue
        found = pattern.search(path.read_text(errors="replace"))
        if found and path != Path(__file__):
            pytest.fail(f"{path.relative_to(PROJECT)} holds {found[0]}")
