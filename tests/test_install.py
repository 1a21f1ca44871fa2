"""What is installed: what each extra brings, where torch comes from, what is said without it."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from resnetlab.config import extras

PROJECT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
IMPORTED_AS = {  # where the module is called otherwise than the package
    "beautifulsoup4": "bs4",
    "ipython": "IPython",
    "markdown-it-py": "markdown_it",
    "mdit-py-plugins": "mdit_py_plugins",
    "pillow": "PIL",
}
# Torch is asked for beneath these folders only (test_layers); the others are what reads.
TRAINING_FOLDERS = {"images", "nets", "training"}


def modules(*lines):
    names = {Requirement(line).name for line in lines}
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def third_party(path):
    """Modules of other packages that a file imports, each with whether at its top."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in ("resnetlab", "dashboard"):
                yield top, node in tree.body


def test_what_is_imported_is_declared_and_what_reads_needs_the_base_alone():
    base = modules(*PYPROJECT["project"]["dependencies"])
    every = base | modules(
        *(line for name in EXTRAS if name not in ("test", "dev") for line in EXTRAS[name])
    )
    seen = set()
    for folder in ("resnetlab", "dashboard"):
        for path in (PROJECT / folder).rglob("*.py"):
            reads = not TRAINING_FOLDERS & set(path.relative_to(PROJECT).parts)
            for module, at_top in third_party(path):
                if path.name == "photograph.py":  # a tool of the project's, with the tests' browser
                    continue
                assert module in every, f"{path.name} imports {module}, which no extra brings"
                assert module in base or not (reads and at_top), (
                    f"{path.name} needs {module} to be read"
                )
                seen.add(module)
    by_name = {
        "ipykernel",
        "jupyterlab",
        "torchvision",
        "streamlit",
        "kaleido",
        "ipywidgets",
        "tensorboard",
    }
    assert every - seen <= by_name | {"pyarrow"}, "declared, and never imported"
    assert set(extras.TRAIN) == modules(*EXTRAS["train"])


def test_nothing_stands_in_two_extras_and_uv_has_torch_from_one_place_each():
    assert EXTRAS["cpu"] == EXTRAS["gpu"] == EXTRAS["train"]
    apart = [lines for name, lines in EXTRAS.items() if name not in ("cpu", "gpu")]
    names = [
        Requirement(line).name
        for lines in [PYPROJECT["project"]["dependencies"], *apart]
        for line in lines
    ]
    assert len(names) == len(set(names))
    uv = PYPROJECT["tool"]["uv"]
    assert uv["conflicts"] == [[{"extra": name} for name in ("train", "cpu", "gpu")]]
    (index,) = uv["index"]
    assert index["explicit"], "all else comes from PyPI"
    assert uv["sources"] == {
        name: [{"index": index["name"], "extra": "cpu"}] for name in ("torch", "torchvision")
    }
    assert index["url"] in (PROJECT / "docs" / "install.md").read_text(), (
        "pip's line names the same place"
    )


def test_streamlit_and_plotly_have_upper_bounds():
    ranges = {Requirement(line).name: line for line in PYPROJECT["project"]["dependencies"]}
    assert all("<" in ranges[name] for name in ("streamlit", "plotly"))


def test_a_lock_file_names_public_places_only():
    lock = PROJECT / "uv.lock"
    if not lock.exists():
        pytest.skip("there is no uv.lock")
    places = set(re.findall(r"https?://([^/\"]+)/", lock.read_text()))
    assert places <= {"pypi.org", "files.pythonhosted.org", "download.pytorch.org"}


WITHOUT_TORCH = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

MISSING = "torch torchvision papermill ipykernel IPython tqdm sklearn".split()

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
from resnetlab import cli

answers = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["resnetlab", *words]
    said, error, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(said), redirect_stderr(error):
        try:
            cli.main()
        except SystemExit as leaving:
            code = leaving.code
    answers.append([code, said.getvalue(), error.getvalue()])
print(json.dumps(answers))
"""

TRAINING_COMMANDS = [
    "train resnet-8 --results OUT/results",
    "study digits --results OUT/results",
    "notebook 03",
    "lesson --quick",
    "evaluate digits/plain-56-seed0",
    "networks",
    "weights digits/plain-56-seed0",
    "data show digits",
    "data check .",
]
READING_COMMANDS = [
    "list digits",
    "show digits/plain-56-seed0",
    "compare digits",
    "recipe paper-400",
    "weights",
    "report digits --out OUT/report.html",
    "lesson --from-reference --out OUT/pages",
    "export digits --format csv,parquet --out OUT/exported",
]


@pytest.mark.slow
def test_without_torch_what_reads_works_and_what_trains_names_the_line_to_install(tmp_path):
    commands = (*TRAINING_COMMANDS, *READING_COMMANDS)
    lines = [line.replace("OUT", str(tmp_path)).split() for line in commands]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, json.dumps(lines)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    for line, (code, _, error) in zip(commands, answers, strict=True):
        if line in READING_COMMANDS:
            assert code == 0, (line, error)
        else:
            assert code == 2, line
            assert re.fullmatch(r"error: [^\n]+: pip install 'resnetlab\[train\]'\n", error), (
                line,
                error,
            )
    # What was refused has written nothing; what reads, only where it was told to.
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "pages", "exported"}


def setting_up(*words):
    """The pip commands by which make would set up an environment."""
    shown = subprocess.run(
        ["make", "--no-print-directory", "-n", "study", "VENV=.venv-not-there", *words],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [line for line in shown.splitlines() if "pip" in line and "install" in line], shown


@pytest.mark.parametrize(
    ("torch", "place", "version"),
    [
        ("", "", ""),
        ("cpu", "cpu", ""),
        ("cu130", "cu130", ""),
        ("2.11.0", "", "2.11.0"),
        ("2.11.0+cpu", "cpu", "2.11.0"),
    ],
)
def test_makes_torch_is_a_version_a_place_or_both(torch, place, version):
    pips, shown = setting_up(f"TORCH={torch}")
    assert len(pips) == (2 if place else 1)
    assert "-e '.[train,lab,figures,export,test,dev]'" in pips[-1]
    assert (f" torch=={version} -e" in pips[-1]) == bool(version)
    assert "--index-url" not in pips[-1], "all but torch and torchvision from where pip usually looks"
    pinned = re.findall(
        r"^torch(?:vision)?==.*", (PROJECT / "constraints.txt").read_text(), re.MULTILINE
    )
    if place:
        wanted = [f"torch=={version}", "torchvision"] if version else pinned
        assert pips[0].endswith(
            f"--index-url https://download.pytorch.org/whl/{place} {' '.join(wanted)}"
        )
    assert (".ready-" + torch in shown) == bool(torch), (
        "asked for another torch, make does not keep the one there"
    )


def test_the_oldest_versions_are_those_that_pyproject_allows():
    shown = subprocess.run(
        [sys.executable, ".ci/oldest.py"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    pins = dict(line.split("==") for line in shown.splitlines())
    lines = [
        *PYPROJECT["project"]["dependencies"],
        *(line for lines in EXTRAS.values() for line in lines),
    ]
    ranges = {Requirement(line).name: Requirement(line).specifier for line in lines}
    assert set(pins) == set(ranges)
    assert all(pins[name] in ranges[name] for name in ranges)
    tools = {Requirement(line).name for name in ("test", "dev") for line in EXTRAS[name]}
    for name in set(ranges) - tools:
        assert f">={pins[name]}" in str(ranges[name]), name
        assert name == canonicalize_name(name)
    pips, shown = setting_up("PINS=oldest")
    assert ".ci/oldest.py" in shown
    assert len(pips) == 1
