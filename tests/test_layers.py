"""The hourglass: imports run downward only, and reading never loads torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import resnetlab

PACKAGE = Path(resnetlab.__file__).parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")

# From the bottom up; a module imports only what stands below it. A new module takes its place here.
RANKS = [
    {"paper", "config", "machine"},
    {"schedule", "ranks", "series", "engine"},
    {"results", "models", "verdict"},
    {"data", "probes", "landscape", "surgery", "plots", "comparison"},
    {"fetch"},
    {"tiny_imagenet"},
    {"imagenet", "document", "executed"},
    {"evaluate", "census"},
    {"train", "notebook"},
    {"study"},
    {"cluster", "report", "export", "lesson"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}

# Know torch and never draw.
COMPUTE = {"engine", "ranks", "models", "data", "imagenet", "probes", "landscape", "surgery", "train"}
COMPUTE |= {"evaluate", "census", "fetch", "tiny_imagenet"}
READING = [m for m in MODULES if m not in COMPUTE]  # load without torch
DRAWING = {"plotly", "streamlit", "matplotlib", "altair", "IPython", "ipywidgets"}
TORCH = {"torch", "torchvision", "torchaudio"}


def imports(module: str, *, at_load: bool = False) -> set[str]:
    """Top names that a module imports, those inside functions too; `resnetlab.x` as `resnetlab.x`."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    found: set[str] = set()
    nodes = tree.body if at_load else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            if node.module == "resnetlab":
                found |= {f"resnetlab.{alias.name}" for alias in node.names}
            else:
                found.add(node.module or "")
    return {
        ".".join(name.split(".")[:2]) if name.startswith("resnetlab") else name.split(".")[0]
        for name in found
    }


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downward_only(module: str) -> None:
    assert module in RANK, f"give {module} its place in RANKS"
    for name in imports(module):
        if name.startswith("resnetlab.") and not name.startswith("resnetlab.__"):
            below = name.removeprefix("resnetlab.")
            assert RANK[below] < RANK[module], f"{module} must not import {below}"


@pytest.mark.parametrize("module", sorted(COMPUTE & set(MODULES)))
def test_what_computes_never_draws(module: str) -> None:
    assert not imports(module) & DRAWING
    assert not imports(module) & {f"resnetlab.{name}" for name in ("plots", "notebook", "cli", "study")}


@pytest.mark.parametrize("module", READING)
def test_what_reads_does_not_import_torch_when_it_loads(module: str) -> None:
    assert not imports(module, at_load=True) & TORCH
    assert not imports(module, at_load=True) & {f"resnetlab.{name}" for name in COMPUTE}


def test_a_fresh_interpreter_reads_without_torch() -> None:
    """All in one process, each looked at: nothing that a module pulls in loads torch either."""
    names = ["resnetlab", *(f"resnetlab.{module}" for module in READING)]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    loaded = {'torch', 'torchvision'} & set(sys.modules)\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
        "import resnetlab\n"
        "resnetlab.read_run, resnetlab.read_study, resnetlab.lr_at, resnetlab.RECIPES\n"
        "assert 'torch' not in sys.modules, 'a public name loads torch'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_configuration_loads_without_pandas_or_plotly() -> None:
    code = (
        "import sys, resnetlab.config, resnetlab.paper\n"
        "print(sorted({'torch', 'pandas', 'plotly', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_results_knows_the_names_of_the_files() -> None:
    names = ("run.json", "metrics.jsonl", "probes.jsonl", "timing.jsonl", "summary.json", "run.lock")
    for module in MODULES:
        if module == "results":
            continue
        tree = ast.parse((PACKAGE / f"{module}.py").read_text())
        strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
        assert not [text for text in strings if text in names], f"{module} spells a file name"


def test_every_public_name_resolves() -> None:
    for name in resnetlab.__all__:
        assert getattr(resnetlab, name) is not None
    assert sorted(resnetlab.__all__) == resnetlab.__all__
    with pytest.raises(AttributeError, match="no attribute 'biuld'"):
        _ = resnetlab.biuld


def test_every_module_says_what_it_owns() -> None:
    for module in MODULES:
        said = ast.get_docstring(ast.parse((PACKAGE / f"{module}.py").read_text()))
        assert said, module
