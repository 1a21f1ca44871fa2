"""The project around the package: dependencies, the README's promises, the make verbs."""

import math
import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from resnetlab import store, verdict

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"pytorch": "torch"}


def ours():
    extras = PYPROJECT["optional-dependencies"]
    return {
        requirement.name: str(requirement.specifier)
        for line in [*PYPROJECT["dependencies"], *extras["dev"], *extras["figures"]]
        for requirement in [Requirement(line)]
    }


def test_environment_yml_has_the_same_dependencies():
    listed = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    lines = [entry for entry in listed if isinstance(entry, str)] + pip
    theirs = {}
    for line in lines:
        if line in ("pip", "-e ."):
            continue
        requirement = Requirement(line)
        name = CONDA_NAMES.get(requirement.name, requirement.name)
        theirs[name] = str(requirement.specifier)
    assert theirs.pop("python") == PYPROJECT["requires-python"]
    assert theirs == ours()


def test_constraints_pin_what_the_ranges_allow():
    pinned = {}
    for line in (PROJECT / "constraints.txt").read_text().splitlines():
        requirement = Requirement(line)
        assert requirement.url is None, f"{line} names a place of one machine"
        pinned[requirement.name.lower().replace("_", "-")] = str(requirement.specifier)[2:]
    for line in [*PYPROJECT["dependencies"], *PYPROJECT["optional-dependencies"]["dev"]]:
        requirement = Requirement(line)
        assert pinned[requirement.name] in requirement.specifier, line


def test_ranges_reach_down_to_the_machines_with_a_gpu():
    assert "2.11.0" in Requirement(f"torch{ours()['torch']}").specifier
    assert "0.26.0" in Requirement(f"torchvision{ours()['torchvision']}").specifier


def make_verbs():
    text = (PROJECT / "Makefile").read_text()
    return set(re.search(r"\.PHONY: (.*)", text)[1].split())


def test_make_has_the_promised_verbs_and_the_readme_names_only_these():
    assert {"study", "test", "dashboard", "lab", "check", "clean", "bench"} <= make_verbs()
    named = set(re.findall(r"\bmake ([a-z-]+)\b", "\n".join(re.findall(r"`([^`]+)`", README))))
    assert named <= make_verbs()


def test_ci_calls_the_readmes_test_command():
    script = PROJECT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
    assert "make test" in README


def test_every_path_of_the_readmes_tree_exists():
    tree = README.split("## The tree")[1].split("```")[1]
    paths = [line.split()[0] for line in tree.splitlines()[1:] if line.strip()]
    assert len(paths) > 10
    folder = PROJECT
    for line, path in zip([line for line in tree.splitlines()[1:] if line.strip()], paths, strict=True):
        if not line.startswith(" "):
            folder = PROJECT / path
            assert folder.exists(), path
        else:
            assert (folder / path).exists(), f"{folder.name}/{path}"


def test_the_readmes_figures_exist():
    for target in re.findall(r"(?:\]\(|srcset=\"|src=\")([^)\"]+\.png)", README):
        assert (PROJECT / target).is_file(), target


@pytest.mark.parametrize(("study", "heading"), [("digits", "the digits"), ("depth-cpu", "real images")])
def test_the_readmes_numbers_are_those_of_the_committed_runs(study, heading):
    section = README.split(f"### On {heading}")[1]
    section = re.split(r"^##", section, flags=re.MULTILINE)[0]
    table = store.read_study(PROJECT / "results" / "reference" / study).table()
    for sentence in verdict.on_degradation(table):
        assert sentence in section
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


def test_the_committed_runs_reproduce_the_finding():
    """The claim of the README's first lines, seed by seed (three agree on the ordering)."""
    table = store.read_study(PROJECT / "results" / "reference" / "digits").table()
    assert (table["status"] == "finished").all()
    errors = table.pivot_table(index="seed", columns="network", values="train_error")
    assert len(errors) >= 3
    assert (errors["plain-56"] > errors["plain-20"] + 20).all()
    assert (errors["plain-56"] > errors["resnet-56"] + 20).all()
    assert (errors["resnet-56"] < 2).all()


def test_the_committed_studies_are_described():
    place = PROJECT / "results" / "reference"
    text = (place / "README.md").read_text()
    named = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)))
    there = {path.name for path in store.find_studies(place.parent)}
    assert there <= set(named)
    planned = re.findall(r"^\| `([^`]+)` \|", text[text.index("## Under way") :], re.MULTILINE)
    assert set(named) - there <= set(planned)  # a study is described before its first run has ended
    assert len(named) == len(set(named))


def test_the_readmes_python_example_runs(tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert "finished" in capsys.readouterr().out


def test_nothing_committed_names_a_private_place():
    pattern = re.compile(r"(?<![\w.])/(?:work|home|root)/")
    for path in PROJECT.rglob("*"):
        parts = set(path.relative_to(PROJECT).parts)
        skipped = {".git", ".venv", "data", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
        own_results = parts & {"results"} and "reference" not in parts
        if (
            parts & skipped
            or own_results
            or path.suffix not in (".py", ".md", ".ipynb", ".json", ".toml")
        ):
            continue
        found = pattern.search(path.read_text(errors="replace"))
        if found and path != Path(__file__):
            pytest.fail(f"{path.relative_to(PROJECT)} holds {found[0]}")
