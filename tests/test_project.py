"""The project around the package: dependencies, the README's promises, the make verbs."""

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path, PurePath

import pytest
import typer.core
import typer.main
import yaml
from packaging.requirements import Requirement

from resnetlab import cli, store
from resnetlab.studies import notebook

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


def test_the_tree_is_what_is_there():
    """Both ways: no line without its file, no file without its line."""
    tree, folder = {"": set(), "resnetlab/": set()}, ""
    for line in (
        (PROJECT / "CONTRIBUTING.md")
        .read_text()
        .split("The files:\n\n```")[1]
        .split("```")[0]
        .strip()
        .splitlines()
    ):
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
