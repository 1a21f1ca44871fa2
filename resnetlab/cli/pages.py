"""Verbs that make pages and files: `figures`, `report`, `notebook`, `lesson`, `export`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from resnetlab import files, plots, store, verdict
from resnetlab.cli.options import DeviceOption, ResultsOption, app, list_of
from resnetlab.cli.tables import study_named
from resnetlab.config import UsageError, expanded, extras
from resnetlab.pages import document, pictures
from resnetlab.pages import report as reports
from resnetlab.studies import lesson, limits, notebook


@app.command()
def figures(
    study: Annotated[str, Argument(help="A study, or the folder of one")],
    results: ResultsOption = None,
    out: Annotated[str | None, Option(help="Folder (default: figures/ in the study)")] = None,
    data: Annotated[str, Option(help="Only runs on this data set")] = "",
    recipe: Annotated[str, Option(help="Only runs with this recipe")] = "",
    precision: Annotated[str, Option(help="Only runs in this precision")] = "",
) -> None:
    """Draw a study's figures as PNG files, light and dark (needs the extra `figures` and Chromium)."""
    read = study_named(study, results)
    table = verdict.one_condition(read.table(), data, recipe, precision)
    runs = [run for run in read.runs if run.name in set(table["run"])]
    folder = Path(out) if out else _made_of(read, results) / store.FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    depths = [run.network.depth for run in runs]
    ends = {min(depths), max(depths)}
    seed = min(run.config.seed for run in runs)
    probes = store.probes_of(
        [run for run in runs if run.config.seed == seed and run.network.depth in ends]
    )
    drawn = {
        "error_curves": plots.error_curves(store.metrics_of(runs)),
        "error_against_depth": plots.error_against_depth(table),
        "gradient_norms": plots.gradient_norm_heatmap(probes),
    }
    for theme in ("light", "dark"):
        shown = [plots.themed(figure, theme) for figure in drawn.values()]
        for name, picture in zip(drawn, pictures.pngs(shown, width=1100, scale=1.5), strict=True):
            files.atomic_write(folder / f"{name}-{theme}.png", picture)
            print(folder / f"{name}-{theme}.png")


@app.command()
def report(
    study: Annotated[str, Argument(help="A study, reference/STUDY, or the folder of one")],
    results: ResultsOption = None,
    out: Annotated[str | None, Option(help="File to write (default: report.html in the study)")] = None,
) -> None:
    """Write a study as one HTML file that needs no network: figures, tables, verdict, versions."""
    read = study_named(study, results)
    target = expanded(out) if out else _made_of(read, results) / reports.FILE
    document.check_target(target, reports.KIND)
    page = reports.page(read)
    files.atomic_write(target, page)
    print(f"{target}  ({len(page) / 1e6:.1f} MB, opens in any browser without a network)")


def _made_of(study: store.Study, results: str | None) -> Path:
    """The folder for what is made of a study, there by now."""
    folder = store.made_of(study.path, store.results_root(results))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@app.command("notebook", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def notebook_command(
    context: typer.Context,
    name: Annotated[str, Argument(help="Such as 03_gradient_norms, or just 03")],
    results: ResultsOption = None,
    out: Annotated[
        str | None, Option(help="Executed notebook to write (default: in its study's folder)")
    ] = None,
) -> None:
    """Execute a question notebook into the results, as in: resnetlab notebook 03 -p seeds 0,1,2

    Each -p NAME VALUE is checked before anything runs; `-p quick true` is a trial. Which parameters
    there are stands in the notebook's first code cell.
    """
    if name.startswith("-"):
        raise UsageError("the notebook's name comes first: resnetlab notebook 03 -p seeds 0,1,2")
    source = notebook.find(name)
    if not source.name[0].isdecimal():
        raise UsageError(f"{source.name} trains: `resnetlab train` and `resnetlab study` do that")
    parameters = notebook.typed(source, _pairs(context.args))
    root = store.results_root(results)
    if "results" in parameters:
        raise UsageError("give the results folder with --results")
    target = expanded(out).absolute() if out else None
    if target is not None and target.suffix != ".ipynb":
        raise UsageError(f"--out: a file that ends in .ipynb is needed, got {out!r}")
    target = target or lesson.place_of(source, parameters, root)
    lesson.check(source, parameters, root)
    extras.require_train()
    print(f"executing {source.name}", flush=True)
    began = time.monotonic()
    error = lesson.execute(source, target, parameters, root)
    if error:
        raise RuntimeError(f"{source.name}: {error}\n  as far as it came: {target}")
    print(f"{target}  ({time.monotonic() - began:.0f} s)")


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """`-p NAME VALUE -p NAME VALUE` as pairs. UsageError for anything else."""
    pairs, left = [], list(words)
    while left:
        if left[0] != "-p" or len(left) < 3:
            raise UsageError(f"-p NAME VALUE is needed, as in -p seeds 0,1,2; got {' '.join(left)!r}")
        pairs.append((left[1], left[2]))
        left = left[3:]
    return pairs


@app.command("lesson")
def lesson_command(
    quick: Annotated[bool, Option("--quick", help="A trial: tiny networks, few steps")] = False,
    again: Annotated[bool, Option("--again", help="Execute what is there already, too")] = False,
    from_reference: Annotated[
        bool, Option("--from-reference", help="Execute nothing: pages of the committed copies")
    ] = False,
    device: DeviceOption = "auto",
    results: ResultsOption = None,
    out: Annotated[str | None, Option(help="Folder for the pages (default: results/lesson)")] = None,
) -> None:
    """Execute the question notebooks in teaching order and make pages of them, index.html first.

    What is there already is not executed again; one that fails does not stop the others.
    """
    if from_reference and (quick or again):
        raise UsageError("--from-reference executes nothing: it goes without --quick and --again")
    limits.device(device)
    if not from_reference:
        extras.require_train()
    root = store.results_root(results)
    usual = lesson.COMMITTED if from_reference else lesson.TRIALS if quick else store.LESSON
    folder = expanded(out).absolute() if out else root / usual

    def begins(chapter: lesson.Chapter) -> None:
        print(f"{chapter.name:<26}", end=" ", flush=True)

    def ends(part: lesson.Part) -> None:
        took = "there" if part.seconds is None else f"{part.seconds:.0f} s"
        line = f"{took:<7} {part.copy}" if part.copy is not None else "no executed copy"
        print(f"failed: {part.error}" if part.error else line, flush=True)

    if from_reference:
        parts = lesson.from_reference(root, folder)
        for part in parts:
            begins(part.chapter)
            ends(part)
    else:
        store.prepare_root(root)
        parts = lesson.teach(
            root, folder, quick=quick, again=again, device=device, begins=begins, ends=ends
        )
    print(f"{folder / lesson.INDEX}  (opens in any browser, without a network)")
    failed = [part.chapter.name for part in parts if part.error]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def export(
    study: Annotated[str, Argument(help="A study, reference/STUDY, or the folder of one")],
    formats: Annotated[
        str | None,
        Option("--format", help="csv, parquet, tensorboard, or several: csv,parquet (default: all)"),
    ] = None,
    results: ResultsOption = None,
    out: Annotated[str | None, Option(help="Folder to write into (default: STUDY-export here)")] = None,
) -> None:
    """Write every logged point of a study for other tools: CSV, Parquet, TensorBoard event files."""
    from resnetlab.pages import export as exports  # pyarrow: for this verb alone

    asked = list_of(formats, "--format", str)
    wanted = exports.formats_asked(asked)
    read = study_named(study, results)
    # Not in the study's folder, where it would pass for a run.
    folder = expanded(out) if out else Path(f"{read.name}-export")
    exports.write(read, folder, wanted, print)
    if exports.TENSORBOARD not in wanted and asked is None:
        print(f"left out: {exports.TO_INSTALL}", file=sys.stderr)
