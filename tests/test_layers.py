"""The hourglass: imports run downward only, and reading never loads torch."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import resnetlab

PACKAGE = Path(resnetlab.__file__).parent

# From the bottom up: a folder imports what stands below it, never beside it. The only list of them.
FOLDERS = [
    {"paper", "machine", "files"},  # modules of the ground floor
    {"config"},
    {"nets", "images", "store"},
    {"training", "verdict"},
    {"plots"},
    {"pages"},
    {"studies"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(FOLDERS) for name in names}
COMPUTE = {"nets", "images", "training"}  # know torch and never draw; all others load without it
DRAWING = {"plotly", "streamlit", "matplotlib", "altair", "IPython", "ipywidgets"}
TORCH = {"torch", "torchvision", "torchaudio"}


def modules() -> dict[str, Path]:
    """Dotted name below the package -> file."""
    paths = (path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in paths}


MODULES = modules()


def folder(module: str) -> str:
    return module.split(".")[0]


def imports(module: str, *, at_load: bool = False) -> set[str]:
    """What a module imports, in functions too: `resnetlab.x.y` in full, others by their top name."""
    tree = ast.parse(MODULES[module].read_text())
    found: set[str] = set()
    for node in tree.body if at_load else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            base = node.module or ""
            of_package = base.split(".")[0] == "resnetlab"
            found |= {f"{base}.{alias.name}" for alias in node.names} if of_package else {base}
    return {name if name.startswith("resnetlab.") else name.split(".")[0] for name in found}


def own(module: str) -> set[str]:
    """The project's modules among its imports: `config`, `nets.models`."""
    found = set()
    for name in imports(module):
        parts = name.split(".")[1:] if name.startswith("resnetlab.") else []
        if parts and not parts[0].startswith("__"):
            found.add(".".join(parts[:2]) if ".".join(parts[:2]) in MODULES else parts[0])
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downward_only(module: str) -> None:
    for name in own(module):
        if folder(name) != folder(module):
            assert RANK[folder(name)] < RANK[folder(module)], f"{module} imports {name}"


@pytest.mark.parametrize("name", sorted({folder(module) for module in MODULES}))
def test_within_a_folder_there_is_no_circle_and_nothing_goes_through_its_door(name: str) -> None:
    """Its `__init__` only hands on: a module takes a sibling's names from the sibling."""
    inside = [m for m in MODULES if folder(m) == name and not m.endswith("__init__")]
    graph = {m: {other for other in own(m) if folder(other) == name} - {m} for m in inside}
    for module, siblings in graph.items():
        assert siblings <= set(inside), f"{module} imports its own folder"
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("module", [m for m in MODULES if folder(m) not in COMPUTE])
def test_what_reads_does_not_import_torch_when_it_loads(module: str) -> None:
    assert not imports(module, at_load=True) & TORCH


@pytest.mark.parametrize("module", [m for m in MODULES if folder(m) in COMPUTE])
def test_what_computes_never_draws(module: str) -> None:
    assert not imports(module) & DRAWING


def test_every_module_has_its_place() -> None:
    assert {folder(module) for module in MODULES} == set(RANK)
    for path in PACKAGE.iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert (path / "__init__.py").is_file(), path.name


def test_a_fresh_interpreter_reads_without_torch() -> None:
    reading = [module.removesuffix(".__init__") for module in MODULES if folder(module) not in COMPUTE]
    names = ["resnetlab", *(f"resnetlab.{module}" for module in reading if module != "__main__")]
    check = (
        f"import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "assert 'torch' not in sys.modules\n"
        "import resnetlab\n"
        "resnetlab.read_run, resnetlab.read_study, resnetlab.lr_at, resnetlab.RECIPES\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_configuration_loads_without_pandas_or_plotly() -> None:
    code = (
        "import sys, resnetlab.config, resnetlab.paper\n"
        "print(sorted({'torch', 'pandas', 'plotly', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_the_store_knows_the_names_of_the_files() -> None:
    names = ("run.json", "metrics.jsonl", "probes.jsonl", "timing.jsonl", "summary.json", "run.lock")
    for module, path in MODULES.items():
        if folder(module) == "store":
            continue
        tree = ast.parse(path.read_text())
        strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
        assert not [text for text in strings if text in names], f"{module} spells a file name"


def test_every_public_name_resolves() -> None:
    for name in resnetlab.__all__:
        assert getattr(resnetlab, name) is not None
    assert sorted(resnetlab.__all__) == resnetlab.__all__
    with pytest.raises(AttributeError, match="no attribute 'biuld'"):
        _ = resnetlab.biuld


def test_every_module_says_what_it_owns() -> None:
    for module, path in MODULES.items():
        said = ast.get_docstring(ast.parse(path.read_text()))
        assert said, module


# What a backticked `word.name` in text may also be: another library's, or a file.
ELSEWHERE = {"torch", "layout", "glibc", "resnetlab"}
ENDINGS = set("json jsonl py md ipynb npz yml toml html txt lock csv zip part pt png jpg cff".split())


def _spelt(path: Path) -> set[str]:
    """Names that a module defines or sets, in classes too."""
    found = {path.stem}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def test_what_texts_name_is_there() -> None:
    """`module.name` and `folder.name` in docstrings, comments, documents: no ghosts of a move."""
    project = PACKAGE.parent
    code = [*MODULES.values(), *(project / "dashboard").rglob("*.py")]
    code += (project / "benchmarks").glob("*.py")
    known: dict[str, set[str]] = {}
    for path in code:
        for owner in {path.stem, path.parent.name}:
            known.setdefault(owner, set()).update(_spelt(path))
    texts = [
        *code,
        project / "README.md",
        project / "CONTRIBUTING.md",
        *(project / "docs").glob("*.md"),
    ]
    texts += [project / "results" / "README.md", project / "benchmarks" / "README.md"]
    ghosts = []
    for path in texts:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for owner, name in re.findall(r"`(?:resnetlab\.)?([a-z_]+)\.([A-Za-z_]\w*)", line):
                if not (name in ENDINGS or owner in ELSEWHERE or name in known.get(owner, ())):
                    ghosts.append(f"{path.relative_to(project)}:{number}: {owner}.{name}")
    assert not ghosts, "\n".join(ghosts)


def test_what_is_imported_is_there_in_strings_too() -> None:
    """Code for another process stands in strings, where no checker looks."""
    project, missing = PACKAGE.parent, []
    folders = [project / name for name in ("tests", "benchmarks", "dashboard")]
    places = [path for folder in folders for path in folder.rglob("*.py")]
    for path in [*places, *(project / "notebooks").glob("*.ipynb")]:
        found = re.findall(r"from (resnetlab[\w.]*) import ([\w, ]+)", path.read_text())
        for module, names in found:
            owner = importlib.import_module(module)
            for name in (words.split()[0] for words in names.split(",") if words.strip()):
                if not hasattr(owner, name) and importlib.util.find_spec(f"{module}.{name}") is None:
                    missing.append(f"{path.relative_to(project)}: {module}.{name}")
    assert not missing, "\n".join(missing)
