"""What notebooks need: `begin`, `say`, `limits` and `outcomes` inside them; around them, papermill."""

from __future__ import annotations

import ast
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetlab import config, files, machine, store, verdict
from resnetlab.config import UsageError
from resnetlab.pages import executed
from resnetlab.studies import kernels
from resnetlab.studies import limits as parameter_limits

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    import torch
    from IPython.display import Markdown

KERNEL, LANGUAGE = "python3", "python"
INJECTED = "# Parameters\n"  # papermill begins with it the cell that it writes
COLAB = "COLAB_RELEASE_TAG"  # it names its version in the environment
COLUMNS = "run status steps train_error train_error_clean test_error seconds".split()


# --- parameters -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameter:
    """A line of the parameters cell: its annotation, such as list[int], its default, its comment."""

    kind: str
    default: Any
    comment: str = ""


def parameters_of(source: str) -> dict[str, Parameter]:
    """The parameters in the text of a cell; none if it holds anything but annotated literals."""
    parameters, lines = {}, source.splitlines()
    try:
        for line in ast.parse(source).body:
            match line:
                case ast.AnnAssign(ast.Name(name), kind, ast.expr() as value):
                    comment = lines[line.lineno - 1].partition("  # ")[2]
                    parameters[name] = Parameter(ast.unparse(kind), ast.literal_eval(value), comment)
                case _:
                    return {}
    except (SyntaxError, ValueError):
        return {}
    return parameters


def _switch(value: object) -> bool:
    """`-p quick true` arrives as text, and any text would count as true."""
    value = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(value, bool):
        raise ValueError
    return value


def _list(element: Callable[[Any], Any], value: object) -> list[Any]:
    """`[18, 34]`, or the texts `18,34` and `[18,34]` that the command line makes of it."""
    if isinstance(value, str):
        words = value.strip().removeprefix("[").removesuffix("]").split(",")
        value = [word.strip().strip("'\"") for word in words if word.strip()]
    parts = list(value) if isinstance(value, list | tuple) else [value]
    return [element(part) for part in parts]


def _whole(value: Any) -> int:
    if isinstance(value, bool | float):
        raise ValueError
    return int(value)


def _dict(value: object) -> dict[str, Any]:
    value = ast.literal_eval(value) if isinstance(value, str) else value
    if not isinstance(value, dict):
        raise ValueError
    return value


# The kinds that a parameters cell may name: what one should be, and how text becomes it.
KINDS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "bool": ("true or false", _switch),
    "list[int]": ("a list such as [18, 34]", partial(_list, _whole)),
    "list[float]": ("a list such as [0.1, 0.5]", partial(_list, float)),
    "list[str]": ("a list such as ['none', 'A']", partial(_list, str)),
    "dict": ("like {'lr': 0.05}", _dict),
    "int": ("a whole number", _whole),
    "float": ("a number", float),
    "str": ("a text", str),
}


def value_of(value: object, kind: str, name: str) -> Any:
    """A parameter's value as its annotation has it, also where it arrived as text.

    Raises UsageError, naming the parameter, for what is of another kind.
    """
    wanted, read = KINDS[kind]
    try:
        return read(value)
    except (SyntaxError, TypeError, ValueError):
        raise UsageError(f"{name}: should be {wanted}, got {value!r}") from None


# --- inside a notebook ------------------------------------------------------------------------


@dataclass(frozen=True)
class Here:
    """The results folder of a notebook, and how the runs that are missing there are trained."""

    root: Path
    how: Mapping[str, Any]  # what `studies.collect` takes beside the grid

    @property
    def place(self) -> torch.device:
        """The device that the parameter `device` names."""
        from resnetlab import training

        return training.resolve_device(self.how["device"])


def begin(names: dict[str, Any], quick: Mapping[str, Any] | None = None) -> Here:
    """The first line of a notebook, `here = notebook.begin(globals())`: parameters taken strictly.

    The names and kinds are read from the parameters cell itself. Lists, switches and whole numbers
    that arrived as text are replaced in `names` by their values, and in a trial, which the parameter
    `quick` asks for, others by those of `quick`.
    Figures are drawn by plotly's JSON from here on: kilobytes, no script. No cell of a table is cut.
    Raises UsageError for a value of another kind or outside its limits (`limits.check`), and, with the
    nearest name, for one that papermill injected under a name that the cell does not have: papermill
    only warns, and runs the defaults.
    """
    import pandas as pd
    import plotly.io

    from resnetlab import plots

    machine.follow_niceness(os.getpid())  # a kernel has a session of its own
    cells = names.get("In", [])
    known = next((named for cell in cells if (named := parameters_of(cell))), {})
    for line in (line for cell in cells if cell.startswith(INJECTED) for line in ast.parse(cell).body):
        for target in line.targets if isinstance(line, ast.Assign) else ():
            if isinstance(target, ast.Name) and target.id not in known:
                raise UsageError(
                    f"unknown parameter {target.id!r}{config.did_you_mean(target.id, known)}"
                )
    if quick and value_of(names["quick"], "bool", "quick"):
        names.update(quick)
    for name, parameter in known.items():
        if parameter.default is not None and parameter.kind.startswith(("list", "bool", "int")):
            names[name] = value_of(names[name], parameter.kind, name)
        parameter_limits.check(name, names[name], parameter.comment)
    renderer = "colab" if COLAB in os.environ else "plotly_mimetype"  # Colab knows no such JSON
    plotly.io.renderers[renderer].config = plots.CONFIG
    plotly.io.renderers.default = renderer
    pd.set_option("display.max_colwidth", None)
    root = store.results_root(names.get("results") or None)
    chosen: dict[str, Any] = {name: names[name] for name in ("device", "jobs") if name in known}
    return Here(root, {"root": root, "watcher": Lines(), **chosen})


def say(sentences: Iterable[str] | Mapping[str, Iterable[str]]) -> Markdown:
    """Sentences as a list, or several lists, each under its heading."""
    from IPython.display import Markdown

    if isinstance(sentences, Mapping):
        parts = [f"{heading}\n{say(group).data}" for heading, group in sentences.items()]
        return Markdown("\n\n".join(parts))
    return Markdown("\n".join(f"- {sentence}" for sentence in sentences))


def limits(notes: Iterable[str], runs: Iterable[store.RunRecord | config.Run] = ()) -> Markdown:
    """What the data cannot say: `notes`; that the seeds are too few; why the paper's values differ."""
    configurations = [run.config if isinstance(run, store.RunRecord) else run for run in runs]
    notes, seeds = list(notes), len({run.seed for run in configurations})
    if 0 < seeds < verdict.ENOUGH_SEEDS:
        notes.append(f"{seeds} seed(s): too few to tell chance from a difference")
    reasons = [reason for run in configurations for reason in verdict.not_comparable(run)]
    return say(f"{_capital(note).rstrip('.')}." for note in dict.fromkeys(notes + reasons))


def _capital(note: str) -> str:
    """With a capital letter to begin with; a name such as bf16 or resnet-56 stays as it is written."""
    named = any(letter.isdigit() for letter in note.split(maxsplit=1)[0])
    return note if named else f"{note[0].upper()}{note[1:]}"


def outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """How runs ended: what matters of `store.table_of`, with the study where there are several."""
    return table[["study", *COLUMNS] if table["study"].nunique() > 1 else COLUMNS]


def watched() -> bool:
    """Whether somebody looks: JupyterLab, VS Code and Colab name their session to the kernel."""
    return any(name in os.environ for name in ("JPY_SESSION_NAME", "VSCODE_PID", COLAB))


def redraw(figure: go.Figure, handle: Any = None) -> Any:
    """Show a figure, in the place of the one that `handle` stands for; the handle of that place."""
    import plotly.io
    from IPython.display import display

    # A figure displays itself, always as a new output: only its bare content can be replaced.
    content = plotly.io.renderers[plotly.io.renderers.default].to_mimebundle(figure.to_dict())
    if handle is None:
        return display(content, raw=True, display_id=True)
    handle.update(content, raw=True)
    return handle


class Lines:
    """A watcher for `studies.collect` that prints a line as each run ends."""

    def begin(self, todo: Sequence[Any], done: Sequence[Any], jobs: int, threads: int) -> None:
        print(f"{len(todo)} runs to train, {len(done)} there; {jobs} at a time", flush=True)

    def tick(self, running: Sequence[Any]) -> None:
        pass

    def ended(self, execution: Any, status: str) -> None:
        print(f"{execution.name}: {status}", flush=True)

    def again(self, execution: Any, why: str) -> None:
        print(f"{execution.name}: started again: {why}", flush=True)

    def elsewhere(self, execution: Any) -> None:
        print(f"{execution.name}: another process trains it", flush=True)

    def reporting(self, notebook_name: str) -> None:
        pass


class Progress:
    """`on_row` for `training.fit`: curves that grow when run by hand, a line a test under papermill."""

    def __init__(self, run: config.Run) -> None:
        self.run = run
        self.rows: list[dict[str, Any]] = []
        self._watched = watched()
        self._handle: Any = None
        self._drawn = 0.0

    def __call__(self, row: Mapping[str, Any]) -> None:
        self.rows.append(dict(row))
        if self._watched:
            if row["step"] == self.run.recipe.steps or time.monotonic() - self._drawn > 1.5:
                self._draw()
        elif "test_error" in row or "validation_error" in row:
            print(progress_line(row, self.run), flush=True)

    def _draw(self) -> None:
        import pandas as pd

        from resnetlab import plots

        columns = [name for name in store.SCHEMA[store.METRICS_FILE] if name != "nonfinite"]
        metrics = pd.DataFrame(self.rows).reindex(columns=columns).assign(**store.identity_of(self.run))
        self._handle = redraw(plots.run_curves(metrics), self._handle)
        self._drawn = time.monotonic()


def progress_line(row: Mapping[str, Any], run: config.Run) -> str:
    """`step 120/300  train 3.1 %  test 4.0 %  lr 0.1  3,100 images/s`."""
    errors = {name: row.get(f"{name}_error") for name in ("train", "validation", "test")}
    parts = [f"{name} {error:.2f} %" for name, error in errors.items() if error is not None]
    step, speed = f"step {row['step']}/{run.recipe.steps}", f"{row['images_per_second']:,.0f} images/s"
    return "  ".join([step, *parts, f"lr {row['lr']:g}", speed])


# --- around a notebook ------------------------------------------------------------------------


def names() -> list[str]:
    """The project's notebooks by file name. UsageError if there are none."""
    folder = files.project() / "notebooks"
    known = sorted(item.name for item in folder.glob("*.ipynb"))
    if not known:
        raise UsageError(f"{folder} holds no notebooks: install resnetlab again")
    return known


def find(name: str) -> Path:
    """A notebook of the project: 03_gradient_norms, with or without `.ipynb`, 03, or a word: norms.

    UsageError if there is none, or several have the word.
    """
    known, wanted = names(), name.removesuffix(".ipynb")
    stems = [item.removesuffix(".ipynb") for item in known]
    hits = [stem for stem in stems if stem == wanted]
    if not hits and wanted.isdecimal():
        hits = [stem for stem in stems if stem.startswith(f"{int(wanted):02}_")]
    elif not hits:
        words = re.findall(r"[^\W_]+", wanted.lower())
        parts = {stem: stem.split("_") for stem in stems}
        hits = [stem for stem in stems if words and all(_begins(w, parts[stem]) for w in words)]
    if len(hits) > 1:
        raise UsageError(f"several notebooks are called {name!r}: {', '.join(hits)}")
    if not hits:
        questions = [stem for stem in stems if stem[0].isdecimal()]
        raise UsageError(f"no notebook {name!r}{config.did_you_mean(wanted, questions)}")
    return files.project() / "notebooks" / f"{hits[0]}.ipynb"


def _begins(word: str, parts: Iterable[str]) -> bool:
    return any(part.startswith(word) for part in parts)


def known_parameter(source: Path, name: str) -> Parameter:
    """That parameter of a notebook. UsageError, with the nearest name, if it has none of that name."""
    try:
        cells = executed.cells(executed.parse(source.read_bytes()))
    except executed.UnreadableError as error:
        raise UsageError(f"{source.name} cannot be executed: {error}") from None
    tagged = [executed.text_of(c.get("source")) for c in cells if "parameters" in executed.tags(c)]
    known = parameters_of("\n".join(tagged))
    if name not in known:
        raise UsageError(f"{source.name} has no parameter {name!r}{config.did_you_mean(name, known)}")
    return known[name]


def typed(source: Path, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Parameters given as text, each as the kind of value that the notebook names for it.

    `steps 200` is a number, `depths 20,56` or `depths [20,56]` a list, `quick true` a switch, `None` or
    `none` nothing where nothing is the default. Raises UsageError for a name that the notebook does not
    have, with the nearest one, for one given twice, and for a value of another kind or outside its
    limits: before a kernel starts.
    """
    values: dict[str, Any] = {}
    for name, text in pairs:
        parameter = known_parameter(source, name)
        if name in values:
            raise UsageError(f"parameter {name!r} is given twice")
        nothing = parameter.default is None and text.lower() == "none"
        values[name] = None if nothing else value_of(text, parameter.kind, name)
        parameter_limits.check(name, values[name], parameter.comment)
    return values


def execute(source: Path, target: Path, parameters: Mapping[str, Any]) -> None:
    """Run a notebook through papermill; `target` is replaced when the execution has ended.

    Parameter names must be known to the notebook: papermill would only warn, and names are code.
    UsageError with the nearest one otherwise. A failing cell raises papermill's error after the
    notebook, with the traceback in it, has been written. An execution that was stopped, or whose
    kernel died, is written only where there is no earlier copy; one whose run another process trains
    is not written.
    """
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    for name in parameters:
        known_parameter(source, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    for left_over in filter(files.abandoned, target.parent.glob(f".{target.stem}.*.tmp.ipynb")):
        left_over.unlink(missing_ok=True)  # of an execution that was killed
    temporary = files.temporary_name(target, ".ipynb")
    # papermill formats paths, so braces in them are doubled.
    paths = [str(path).replace("{", "{{").replace("}", "}}") for path in (source, temporary)]
    how = {"kernel_name": KERNEL, "language": LANGUAGE, "progress_bar": False, "log_output": False}
    before, told, others = (
        _stamp(target),
        False,
        False,
    )  # how it went, by its last cell or by one that failed; who trains the run
    try:
        with kernels.ours():
            papermill.execute_notebook(*paths, dict(parameters), **how)
        told = True
    except PapermillExecutionError as error:
        others = error.ename == store.AnotherWriterError.__name__
        told = error.ename != "KeyboardInterrupt"
        raise
    finally:
        # Of a run that another process has ended meanwhile, its own notebook stays.
        others = others or (target.name == store.NOTEBOOK_FILE and _stamp(target) != before)
        if others or (not told and target.exists()):
            temporary.unlink(missing_ok=True)
        if temporary.exists():
            # It notes absolute paths of this machine: only the names belong in what is shared.
            content = nbformat.read(temporary, as_version=4)
            noted = content.metadata.get("papermill", {})
            noted.update(input_path=source.name, output_path=target.name)
            nbformat.write(content, temporary)
            temporary.replace(target)


def _stamp(path: Path) -> int | None:
    """When a file was last replaced; None where there is none."""
    return path.stat().st_mtime_ns if path.exists() else None
