"""What notebooks need: strict parameters, figures that stay small, live curves, and papermill."""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from resnetlab import config, files, store
from resnetlab.config import UsageError

KERNEL, LANGUAGE = "python3", "python"
T = TypeVar("T")


# --- inside a notebook ------------------------------------------------------------------------


def check_injected(known: Iterable[str]) -> None:
    """Refuse what papermill injected under a name that the notebook does not have.

    papermill only warns of `-p deph 56` and runs with the default depth. `known` are the names of the
    parameters cell. Raises UsageError with the nearest name. Does nothing when run by hand.
    """
    import IPython

    shell = IPython.get_ipython()
    cells = shell.user_ns.get("In", []) if shell is not None else []
    names = list(known)
    for name in injected_names(cells):
        if name not in names:
            raise UsageError(f"unknown parameter {name!r}{config.did_you_mean(name, names)}")


def injected_names(cells: Iterable[str]) -> list[str]:
    """The names assigned in cells that papermill wrote; it begins each with `# Parameters`."""
    names = []
    for cell in cells:
        if cell.startswith("# Parameters\n"):
            for statement in ast.parse(cell).body:
                targets = statement.targets if isinstance(statement, ast.Assign) else []
                names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


def by_hand() -> bool:
    """True where somebody watches: a kernel that JupyterLab or VS Code started, not papermill."""
    return any(name in os.environ for name in ("JPY_SESSION_NAME", "VSCODE_PID"))


def values_of(value: object, kind: type[T], what: str) -> tuple[T, ...]:
    """A list parameter: `[18, 34]`, or the text `18,34` that papermill's -p makes of it.

    Raises UsageError if it is neither, naming the parameter.
    """
    parts: list[Any]
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",") if part.strip()]
    elif isinstance(value, list | tuple):
        parts = list(value)
    else:
        parts = [value]
    try:
        whole = kind is int and any(isinstance(part, bool | float) for part in parts)
        found = tuple(kind(part) for part in parts)  # type: ignore[call-arg]
    except (TypeError, ValueError):
        whole = True
        found = ()
    if whole:
        raise UsageError(f"{what}: should be a list such as [18, 34], got {value!r}")
    return found


def switch(value: object, what: str) -> bool:
    """A true/false parameter; `-p quick true` arrives as text, and any text would count as true.

    Raises UsageError for anything else, naming the parameter.
    """
    words = {"true": True, "false": False}
    found = words.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise UsageError(f"{what}: should be true or false, got {value!r}")
    return found


class Lines:
    """A watcher for `studies.collect` that prints a line as each run ends."""

    def begin(self, todo: Sequence[Any], done: Sequence[Any], jobs: int, threads: int) -> None:
        print(f"{len(todo)} runs to train, {len(done)} there; {jobs} at a time", flush=True)

    def tick(self, running: Sequence[Any]) -> None:
        pass

    def ended(self, execution: Any, status: str) -> None:
        print(f"{execution.name}: {status}", flush=True)

    def reporting(self, notebook_name: str) -> None:
        pass


def set_up_figures() -> None:
    """Figures as plotly's JSON, which JupyterLab draws: kilobytes, no script, no upload button."""
    import plotly.io

    from resnetlab import plots

    renderer = plotly.io.renderers["plotly_mimetype"]
    renderer.config = plots.CONFIG
    plotly.io.renderers.default = "plotly_mimetype"


class Progress:
    """`on_row` for `training.fit`: curves that grow when run by hand, a line a test under papermill."""

    def __init__(self, run: config.Run) -> None:
        self.run = run
        self.rows: list[dict[str, Any]] = []
        self._handle: Any = None
        self._drawn = 0.0

    def __call__(self, row: Mapping[str, Any]) -> None:
        self.rows.append(dict(row))
        last = row["step"] == self.run.recipe.steps
        if by_hand():
            if last or time.monotonic() - self._drawn > 1.5:
                self._draw()
        elif "test_error" in row or "validation_error" in row:
            print(progress_line(row, self.run), flush=True)

    def _draw(self) -> None:
        import pandas as pd
        import plotly.io
        from IPython.display import display

        from resnetlab import plots

        columns = [name for name in store.SCHEMA[store.METRICS_FILE] if name != "nonfinite"]
        who: dict[str, Any] = {
            "network": self.run.network_name,
            "depth": self.run.network.depth,
            "data": self.run.data.label,
            "recipe": self.run.recipe.label,
            "precision": self.run.precision,
            "seed": self.run.seed,
        }
        figure = plots.run_curves(pd.DataFrame(self.rows).reindex(columns=columns).assign(**who))
        # A figure displays itself, always as a new output: only its bare content can be replaced.
        content = plotly.io.renderers["plotly_mimetype"].to_mimebundle(figure.to_dict())
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)
        self._drawn = time.monotonic()


def progress_line(row: Mapping[str, Any], run: config.Run) -> str:
    """`step 120/300  train 3.1 %  test 4.0 %  lr 0.1  3,100 images/s`."""
    parts = [f"step {row['step']}/{run.recipe.steps}", f"train {row['train_error']:.2f} %"]
    for name in ("validation", "test"):
        if row.get(f"{name}_error") is not None:
            parts.append(f"{name} {row[f'{name}_error']:.2f} %")
    parts += [f"lr {row['lr']:g}", f"{row['images_per_second']:,.0f} images/s"]
    return "  ".join(parts)


# --- around a notebook ------------------------------------------------------------------------


def folder() -> Path:
    """Where the project's notebooks lie."""
    return files.project_root() / "notebooks"


def find(name: str) -> Path:
    """A notebook of the project: 03_gradient_norms, with or without `.ipynb`, or just 03.

    UsageError if there is none.
    """
    known = sorted(item.name for item in folder().glob("*.ipynb"))
    if not known:
        raise UsageError(f"{folder()} holds no notebooks: run this inside the project's folder")
    wanted = name if name.endswith(".ipynb") else f"{name}.ipynb"
    numbered = [item for item in known if item.startswith(f"{name}_")] if name.isdecimal() else []
    if wanted not in known and len(numbered) != 1:
        raise UsageError(f"no notebook {wanted!r}{config.did_you_mean(wanted, known)}")
    return folder() / (wanted if wanted in known else numbered[0])


def typed(source: Path, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Parameters given as text, each as the kind of value that the notebook names for it.

    `steps 200` is a number, `depths 20,56` or `depths [20,56]` a list, `quick true` a switch, `None` or
    `none` nothing where nothing is the default. Raises UsageError for a name that the notebook does not
    have, with the nearest one, for one given twice, and for a value of another kind.
    """
    known = _named(source)
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name not in known:
            hint = config.did_you_mean(name, known)
            raise UsageError(f"{source.name} has no parameter {name!r}{hint}")
        if name in values:
            raise UsageError(f"parameter {name!r} is given twice")
        kind, default = known[name]["inferred_type_name"], known[name]["default"]
        nothing = default == "None" and text.lower() == "none"
        values[name] = None if nothing else _value(text, kind, name)
    return values


def _named(source: Path) -> dict[str, Any]:
    """The parameters of a notebook: name -> what papermill infers of it. UsageError for none to run."""
    import papermill

    try:
        return dict(papermill.inspect_notebook(_literal(source)))
    except ValueError as error:  # no kernel is named, or it is not Python
        raise UsageError(f"{source.name} cannot be executed: {error}") from None


def _value(text: str, kind: str, what: str) -> Any:
    if kind == "bool":
        return switch(text, what)
    if kind == "list":
        inside = text.strip().removeprefix("[").removesuffix("]")
        return [_plain(part.strip()) for part in inside.split(",") if part.strip()]
    if kind == "dict":
        try:
            found = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            found = None
        if not isinstance(found, dict):
            raise UsageError(f"{what}: should be like {{'lr': 0.05}}, got {text!r}")
        return found
    try:
        return {"int": int, "float": float}.get(kind, str)(text)
    except ValueError:
        noun = "a whole number" if kind == "int" else "a number"
        raise UsageError(f"{what}: should be {noun}, got {text!r}") from None


def _plain(text: str) -> Any:
    """A number, a quoted text or, as it stands, a word."""
    try:
        found = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return found if isinstance(found, int | float | str) else text


def _literal(path: Path) -> str:
    """A path as papermill wants it: it formats paths, so braces in them are doubled."""
    return str(path).replace("{", "{{").replace("}", "}}")


def execute(source: Path, target: Path, parameters: Mapping[str, Any]) -> None:
    """Run a notebook through papermill; `target` is replaced when the execution has ended.

    Parameter names must be known to the notebook: papermill would only warn, and names are code.
    UsageError with the nearest one otherwise. A failing cell raises papermill's error after the
    notebook, with the traceback in it, has been written.
    """
    import papermill

    known = _named(source)
    for name in parameters:
        if name not in known:
            hint = config.did_you_mean(name, known)
            raise UsageError(f"{source.name} has no parameter {name!r}{hint}")
    target.parent.mkdir(parents=True, exist_ok=True)
    for left_over in target.parent.glob(f".{target.stem}.*.tmp.ipynb"):
        left_over.unlink(missing_ok=True)  # of an execution that was killed
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp.ipynb")
    try:
        papermill.execute_notebook(
            _literal(source),
            _literal(temporary),
            dict(parameters),
            kernel_name=KERNEL,
            language=LANGUAGE,
            progress_bar=False,
            log_output=False,
        )
    finally:
        if temporary.exists():
            _forget_paths(temporary, source, target)
            temporary.replace(target)


def _forget_paths(executed: Path, source: Path, target: Path) -> None:
    """papermill notes absolute paths of this machine: only the names belong in what is shared."""
    import nbformat

    content = nbformat.read(executed, as_version=4)
    content.metadata.get("papermill", {}).update(input_path=source.name, output_path=target.name)
    nbformat.write(content, executed)
