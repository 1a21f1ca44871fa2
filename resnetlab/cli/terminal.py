"""What several verbs print: tables, progress, JSON, and the one line of an error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from resnetlab import machine, store, studies, verdict

FIRST_SPEAKS_WITHIN = 10.0  # seconds; under torchrun, see fail


def printable(text: object) -> str:
    """The text without control characters: a name from disk may hold some, and terminals obey them."""
    return "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(text)
    )


def watched() -> bool:
    """Whether a terminal shows what is printed."""
    return sys.stdout.isatty()


def say(*items: object, width: int = 160) -> None:
    """Print tables as they are and all else as text: no name from disk is read as markup.

    A table that is too wide for the terminal becomes a paragraph per row: nothing of it is cut off.
    """
    for item in items:
        # In a pipe or a log nothing is as narrow as a guess of 80 columns would make it.
        console = Console(highlight=False, width=None if watched() else width)
        if not isinstance(item, Table):
            console.print(item if isinstance(item, Text) else Text(printable(item)))
            continue
        wide = Measurement.get(console, console.options.update(max_width=10_000), item).maximum
        if wide <= console.width or not all(column.no_wrap for column in item.columns):
            console.print(item)
        elif watched():
            console.print(*_paragraphs(item), sep="\n")
        else:
            Console(highlight=False, width=wide).print(item)


def _paragraphs(rows: Table) -> Iterator[Text]:
    """The rows of a table of texts: the first cell, then every other one behind its heading."""
    first, *others = rows.columns
    for name, *cells in zip(first.cells, *(column.cells for column in others), strict=True):
        named = (f"{c.header}: {cell}" for c, cell in zip(others, cells, strict=True) if str(cell))
        yield Text(str(name))
        yield Text("  " + "; ".join(named))


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], *, wrap: bool = False, **how: Any
) -> Table:
    """A table of plain texts. A heading that begins with > is of numbers, which stand to the right."""
    usual: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)}
    out = Table(**usual | how)
    fold: Any = "fold" if wrap else "ellipsis"
    for heading in headings:
        side: Any = "right" if heading.startswith(">") else "left"
        out.add_column(
            Text(printable(heading.removeprefix(">"))), justify=side, no_wrap=not wrap, overflow=fold
        )
    for row in rows:
        out.add_row(*(Text(printable(cell)) for cell in row))
    return out


class StudyProgress(studies.Watcher):
    """A study's watcher: on a terminal a live bar per run, elsewhere lines as runs go on and end."""

    def __init__(self) -> None:
        console = Console(highlight=False)
        self._live = console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("step {task.completed:>5.0f}/{task.total:.0f}", markup=False),
            TextColumn("{task.fields[error]:<28}", markup=False),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not self._live,
        )
        self._tasks: dict[str, Any] = {}
        self._looked: dict[str, float] = {}

    def begin(self, todo: Sequence[object], done: Sequence[object], jobs: int, threads: int) -> None:
        each = f"{threads} thread{'' if threads == 1 else 's'} each"
        say(f"{len(todo)} runs to do, {len(done)} ended before; {jobs} at a time, {each}")
        if self._live:
            self._bars.start()

    def tick(self, running: Sequence[studies.Execution]) -> None:
        for execution in running:
            name, now = execution.name, time.monotonic()
            # Reading a run's log takes milliseconds that the training would miss.
            if now - self._looked.get(name, -1e9) < (1 if self._live else 10):
                continue
            first = name not in self._looked
            self._looked[name] = now
            record, total = execution.record(), execution.steps
            step, error, left = 0, "starting", ""
            if record is not None:
                step, error, left = record.steps_done, errors_of(record), _time_left(record)
            if self._live:
                if first:
                    self._tasks[name] = self._bars.add_task(name, total=total, error="starting")
                self._bars.update(self._tasks[name], completed=step, error=error)
            elif step or first:
                say(f"{name:<24} step {step:>5}/{total}  {error}{left}")

    def ended(self, execution: studies.Execution, status: store.Status) -> None:
        record = execution.record()
        step, error = (record.steps_done, errors_of(record)) if record is not None else (0, "")
        task = self._tasks.get(execution.name)
        if task is None:
            say(f"{execution.name:<24} {status}  {error}")
        else:
            self._bars.update(task, completed=step, error=f"{error}  {status}")
            self._bars.stop_task(task)

    def again(self, execution: studies.Execution, why: str) -> None:
        say(f"{execution.name:<24} started again: {why}")

    def elsewhere(self, execution: studies.Execution) -> None:
        say(f"{execution.name:<24} is trained by another process: watching it")

    def reporting(self, notebook_name: str) -> None:
        self.close()
        say(f"executing {notebook_name}")

    def close(self) -> None:
        if self._live:
            self._bars.stop()


def _time_left(record: store.RunRecord) -> str:
    step, total, seconds = record.steps_done, record.config.recipe.steps, record.final("seconds")
    if step >= total:
        return "  last tests"
    return f"  {seconds / step * (total - step):.0f} s left" if seconds and step else ""


def errors_of(record: store.RunRecord) -> str:
    """`train 3.10 %  test 4.00 %`: the last errors of a run."""
    labels = {"train_error": "train", "validation_error": "val", "test_error": "test"}
    values = {label: record.final(name) for name, label in labels.items()}
    return "  ".join(f"{label} {value:.2f} %" for label, value in values.items() if value is not None)


def number(value: float | None) -> str:
    """Two decimals; a dash for what is not known."""
    return "–" if value is None or value != value else f"{value:.2f}"


def say_means(means: Any) -> None:
    """The table of means and spreads, with what it was measured on."""
    records = means.to_dict("records")
    kinds = sorted({f"{row['data']}, recipe {row['recipe']}, {row['precision']}" for row in records})
    rows = []
    for row in records:
        extra = [f"{row[key]} {key}" for key in ("diverged", "unfinished") if row[key]]
        kind = f" ({row['data']}, {row['recipe']}, {row['precision']})" if len(kinds) > 1 else ""
        ours = ("train_error", "train_error_clean", "test_error")
        cells = [row["network"] + kind, ", ".join([str(row["n"]), *extra])]
        cells += [verdict.with_spread(row, quantity) or "–" for quantity in ours]
        cells.append(number(row["test_error_best"]))
        rows.append([*cells, number(row["paper_train_error"]), number(row["paper_test_error"])])
    headings = (
        *("network", ">seeds", ">train", ">train, clean", ">test", ">best seed"),
        *(">paper: train", ">paper: test"),
    )
    title = "Final error in percent, mean ± sample standard deviation (n - 1) over seeds"
    say(title, table(headings, rows))
    say(f"  Ours: {'; '.join(kinds) or 'no runs'}.")
    for conditions, group in means[means["paper_source"] != ""].groupby("paper_how"):
        sources = {source for line in group["paper_source"] for source in line.split(", ")}
        say(f"  The paper: {conditions} ({', '.join(sorted(sources))}).")
    say("  train: running, training mode. clean: a full pass, evaluation mode.\n")


def say_depth(effects: Any, recipe: str) -> None:
    """Deep minus shallow, paired by seed, on each error."""
    if effects.empty:
        return
    interval_title = f"{verdict.CONFIDENCE * 100:g} % interval"
    titles, rows = ("deep minus shallow", "error", ">points", interval_title, ">n"), []
    for row in effects.to_dict("records"):
        points = f"{row['mean']:+.2f}" + (f" ± {row['sd']:.2f}" if row["n"] > 1 else "")
        known = row["low"] == row["low"]
        interval = f"[{row['low']:+.2f}, {row['high']:+.2f}]" if known else "three seeds are needed"
        rows.append([f"{row['deep']} - {row['shallow']}", row["error"], points, interval, row["n"]])
    say("Paired by seed, final errors" + (f", by {recipe}" if recipe else ""), table(titles, rows))


def print_json(value: Any) -> None:
    """JSON without NaN: what is not known is null."""

    known = json.loads(json.dumps(value), parse_constant=lambda name: None)
    print(json.dumps(known, indent=1))


def first_process() -> bool:
    """Whether this process prints: under torchrun the others keep quiet, and a message stands once."""
    with contextlib.suppress(ValueError):
        return machine.processes_started()[0] == 0
    return True


def fail(message: str, code: int) -> None:
    """Say what went wrong in one line on standard error, and leave with that exit code."""
    message = printable(message)
    if first_process():
        print(f"error: {message}", file=sys.stderr)
    else:
        # The first process is about to say the same. torchrun ends all as soon as one has left: leaving
        # before it has spoken would silence it. torchrun ends this wait too.
        time.sleep(FIRST_SPEAKS_WITHIN)
        # Still here: the first process runs on, so this error is this process's own.
        print(f"error: process {os.environ['RANK']}: {message}", file=sys.stderr)
    sys.exit(code)
