"""What several verbs print: tables, progress, JSON, and the one line of an error."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnetlab import store
    from resnetlab import studies as study


FIRST_SPEAKS_WITHIN = 10.0  # seconds; under torchrun, see _fail


def _console(width: int | None = None) -> Any:
    from rich.console import Console

    # In a pipe or a log nothing is as wide as a guess of 80 columns would make it.
    width = None if sys.stdout.isatty() else width or 160
    return Console(highlight=False, width=width)


class _Progress:
    """One line a run: live bars on a terminal, a line as a run starts, moves on and ends elsewhere."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = _console()
        self._live = self._console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("step {task.completed:>5.0f}/{task.total:.0f}", markup=False),
            TextColumn("{task.fields[error]:<28}", markup=False),
            TimeRemainingColumn(compact=True),
            console=self._console,
            disable=not self._live,
        )
        self._tasks: dict[str, Any] = {}
        self._said: dict[str, float] = {}

    def begin(
        self,
        todo: Sequence[study.Execution],
        done: Sequence[store.RunRecord],
        jobs: int,
        threads: int,
    ) -> None:
        unit = "thread" if threads == 1 else "threads"
        self._say(
            f"{len(todo)} runs to do, {len(done)} ended before; {jobs} at a time, {threads} {unit} each"
        )
        if self._live:
            self._bars.start()

    def _say(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(text))

    def tick(self, running: Sequence[study.Execution]) -> None:
        import time

        for execution in running:
            # Reading a run's log takes milliseconds that the training would miss.
            if time.monotonic() - self._said.get(execution.name, -1e9) < (1 if self._live else 10):
                continue
            first = execution.name not in self._said
            self._said[execution.name] = time.monotonic()
            record = execution.record()
            total = execution.steps
            step, error, left = 0, "starting", ""
            if record is not None:
                step, total = record.steps_done, record.config.recipe.steps
                error = _errors(record)
                seconds = record.final("seconds")
                if seconds and step:
                    left = f"  {seconds / step * (total - step):.0f} s left"
                if step >= total:
                    left = "  last tests"
            if self._live:
                if execution.name not in self._tasks:
                    task = self._bars.add_task(execution.name, total=total, error="starting")
                    self._tasks[execution.name] = task
                self._bars.update(self._tasks[execution.name], completed=step, error=error)
            elif step or first:
                self._say(f"{execution.name:<24} step {step:>5}/{total}  {error}{left}")

    def ended(self, execution: study.Execution, status: store.Status) -> None:
        record = execution.record()
        error = _errors(record) if record is not None else ""
        if self._live and execution.name in self._tasks:
            self._bars.update(
                self._tasks[execution.name],
                completed=record.steps_done if record is not None else 0,
                error=f"{error}  {status}",
            )
            self._bars.stop_task(self._tasks[execution.name])
        else:
            self._say(f"{execution.name:<24} {status}  {error}")

    def reporting(self, notebook_name: str) -> None:
        self.close()
        self._say(f"executing {notebook_name}")

    def close(self) -> None:
        if self._live:
            self._bars.stop()


def _errors(record: store.RunRecord) -> str:
    parts = []
    for name, label in (("train_error", "train"), ("validation_error", "val"), ("test_error", "test")):
        value = record.final(name)
        if value is not None:
            parts.append(f"{label} {value:.2f} %")
    return "  ".join(parts)


def _print_means(rows: Any) -> None:
    """The table of means and spreads, with what it was measured on."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from resnetlab import verdict

    ours = ("train_error", "train_error_clean", "test_error")
    theirs = ("paper_train_error", "paper_test_error")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("network", no_wrap=True)
    for heading in ("runs", "train", "train, clean", "test", "paper: train", "test"):
        table.add_column(heading, justify="right", no_wrap=True)

    records = rows.to_dict("records")
    kinds = sorted({f"{row['data']}, recipe {row['recipe']}, {row['precision']}" for row in records})
    for row in records:
        extra = [f"{row[key]} {key}" for key in ("diverged", "unfinished") if row[key]]
        runs = ", ".join([str(row["n"]), *extra])
        name = row["network"]
        if len(kinds) > 1:
            name += f" ({row['data']}, {row['recipe']}, {row['precision']})"
        cells = [verdict.with_spread(row, quantity) or "–" for quantity in ours]
        cells += [
            f"{row[quantity]:.2f}" if row[quantity] == row[quantity] else "–" for quantity in theirs
        ]
        table.add_row(name, runs, *cells)
    console = _console()
    console.print("Final error in percent, mean ± standard deviation over finished runs")
    console.print(table)
    console.print(Text(f"  Ours: {'; '.join(kinds) or 'no runs'}."))
    for said, group in rows[rows["paper_source"] != ""].groupby("paper_how"):
        sources = dict.fromkeys(source for line in group["paper_source"] for source in line.split(", "))
        console.print(Text(f"  The paper: {said} ({', '.join(sorted(sources))})."))
    console.print("  train: running, training mode. clean: a full pass, evaluation mode.\n")


def _print_depth(effects: Any, recipe: str) -> None:
    """Deep minus shallow, paired by seed, on each error."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if effects.empty:
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("deep minus shallow", "error", "points", "95 % interval", "n"):
        right = heading in ("points", "n")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for row in effects.to_dict("records"):
        known = row["n"] > 1
        points = f"{row['mean']:+.2f}" + (f" ± {row['sd']:.2f}" if known else "")
        settled = row["low"] == row["low"]
        interval = f"[{row['low']:+.2f}, {row['high']:+.2f}]" if settled else "three seeds are needed"
        cells = (f"{row['deep']} - {row['shallow']}", row["error"], points, interval, str(row["n"]))
        table.add_row(*map(Text, cells))
    console = _console()
    console.print(Text(f"Paired by seed, final errors{f', by {recipe}' if recipe else ''}"))
    console.print(table)


def _print_json(value: Any) -> None:
    """JSON without NaN: what is not known is null."""

    def clean(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {key: clean(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [clean(inner) for inner in item]
        return None if isinstance(item, float) and item != item else item

    print(json.dumps(clean(value), indent=1, allow_nan=False))


def _png(figure: Any) -> bytes:
    try:
        drawn: bytes = figure.to_image("png", width=1100, scale=1.5)
    except (ImportError, ValueError, RuntimeError) as error:
        raise RuntimeError(
            f"figures need `pip install 'resnetlab[figures]'` and Chromium or Chrome ({error})"
        ) from None
    return drawn


def _first_process() -> bool:
    """Under torchrun the others keep quiet, and every message stands once."""
    return os.environ.get("RANK", "0") == "0"


def _fail(message: str, code: int) -> None:
    if _first_process():
        print(f"error: {message}", file=sys.stderr)
    else:
        # The first process is about to say the same. torchrun ends all as soon as one has left: leaving
        # before it has spoken would silence it. torchrun ends this wait too.
        time.sleep(FIRST_SPEAKS_WITHIN)
        # Still here: the first process runs on, so this error is this process's own.
        print(f"error: process {os.environ['RANK']}: {message}", file=sys.stderr)
    sys.exit(code)
