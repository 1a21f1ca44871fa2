"""Verbs that read: `list`, `show`, `compare`, `networks`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetlab.cli.options import JsonOption, ResultsOption, app
from resnetlab.cli.terminal import _console, _print_depth, _print_json, _print_means
from resnetlab.cli.testing import _protocol_in_words
from resnetlab.config import commands

if TYPE_CHECKING:
    from resnetlab import store


def _studies(folder: str | None) -> list[store.Study]:
    from resnetlab import store
    from resnetlab.config import UsageError

    root = store.results_root(folder)
    if not root.is_dir():
        raise UsageError(f"no results folder {root}; run `make study`, or give one with --results")
    return [store.read_study(path) for path in store.find_studies(root)]


@app.command("list")
def list_command(
    study: Annotated[str | None, typer.Argument(help="Only this study")] = None,
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """All runs of all studies, a line each. Errors are final and in percent."""
    from resnetlab import store

    studies = _studies(results) if study is None else [store.find_study(study, results)]
    for item in studies:
        for skipped in item.skipped:
            print(f"skipped {skipped.path}: {skipped.reason}", file=sys.stderr)
    runs = [run for item in studies for run in item.runs]
    if as_json:
        _print_json([run.as_row() for run in runs])
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("run", "data", "recipe", "status", "steps", "train %", "test %"):
        right = heading in ("steps", "train %", "test %")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for run in runs:
        row = run.as_row()
        errors = [row["train_error"], row["test_error"]]
        recipe = row["recipe"] + ("" if row["precision"] == "fp32" else f", {row['precision']}")
        cells = [f"{row['study']}/{row['run']}", row["data"], recipe, row["status"]]
        cells += [f"{row['steps']}/{row['steps_planned']}"]
        cells += ["–" if error is None else f"{error:.2f}" for error in errors]
        table.add_row(*map(Text, cells))
    console = _console()
    console.print(table if runs else "No runs yet: `make study` makes some.")
    for run in runs:
        for problem in run.problems:
            console.print(Text(f"{run.study}/{run.name}: {problem}"))


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="RUN, STUDY/RUN or a run's folder")],
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """One run: configuration, where it ran, final values, problems, and how to make it again."""
    from resnetlab import store

    record = store.find_run(run, results)
    again = commands.of_run(record.config, record.info.get("execution"))
    if as_json:
        info: dict[str, Any] = {"row": record.as_row(), "run": dict(record.info)}
        info |= {"summary": record.summary, "evaluations": record.evaluations.to_dict("records")}
        _print_json(info | {"problems": list(record.problems), "command": again})
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_header=False, title=Text(f"{record.study}/{record.name}"))
    settings = record.config.model_dump(mode="json")
    lines: dict[str, Any] = {"status": record.status, "folder": record.path}
    lines |= {
        "network": record.config.network_name,
        "data": settings["data"],
        "recipe": settings["recipe"],
    }
    lines |= {"seed": settings["seed"], "precision": settings["precision"]}
    lines |= {"surgery": settings["surgery"]} if "surgery" in settings else {}
    for key in ("parameters", "commit", "versions", "execution", "created", "heartbeat"):
        lines[key] = record.info.get(key)
    lines |= {"note": " ".join(store.notes([record]))} if store.notes([record]) else {}
    lines |= {key: value for key, value in record.as_row().items() if key.endswith("_error")}
    lines |= {"seconds": record.final("seconds"), "problems": "; ".join(record.problems) or "none"}
    lines["again"] = again
    for row in record.evaluations.to_dict("records"):
        errors = {"top-1": row["top1_error"], "top-5": row["top5_error"]}
        known = {k: float(v) for k, v in errors.items() if v is not None and v == v}  # 0 is known too
        shown = ", ".join(f"{name} {value:.2f} %" for name, value in known.items())
        what = _protocol_in_words({str(key): value for key, value in row.items()})
        lines[f"{what}, step {row['step']}"] = f"{shown} of {row['images']} images of {row['data']}"
    for key, value in lines.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {inner}" for name, inner in value.items())
        elif isinstance(value, float):
            value = f"{value:.2f}" + (" %" if key.endswith("_error") else "")
        table.add_row(key.replace("_", " "), Text("–" if value is None else str(value)))
    _console().print(table)


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(help="A study or several, or two or more runs")],
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """A study's means and verdict; or runs side by side, and how their configurations differ.

    Several studies are one table: where only their recipes differ, networks are paired by seed.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from resnetlab import config, store, verdict

    root = store.results_root(results)
    known = {name for path in store.find_studies(root) for name in (path.name, _place(path, root))}
    if len(names) == 1 or known.issuperset(names):
        found = [run for name in dict.fromkeys(names) for run in _one_study(name, results).runs]
        table = store.table_of(found)
        means, said = verdict.by_network(table), [*verdict.answers(table), *store.notes(found)]
        depth = {
            recipe: verdict.depth_effects(own) for recipe, own in table.groupby("recipe", sort=False)
        }
        if as_json:
            effects = [
                {"recipe": name} | row for name, own in depth.items() for row in own.to_dict("records")
            ]
            _print_json({"networks": means.to_dict("records"), "depth": effects, "verdict": said})
            return
        console = _console()
        _print_means(means)
        for recipe, own in depth.items():
            _print_depth(own, str(recipe) if len(depth) > 1 else "")
        for sentence in said:
            console.print(Text(f"  {sentence}"))
        return
    runs = [store.find_run(name, results) for name in names]
    changes = {
        f"{run.study}/{run.name}": config.differences(runs[0].config, run.config) for run in runs[1:]
    }
    if as_json:
        _print_json({"runs": [run.as_row() for run in runs], "differences": changes})
        return
    side = Table(box=box.SIMPLE_HEAD)
    side.add_column("")
    for run in runs:
        side.add_column(Text(f"{run.study}/{run.name}"), justify="right")
    rows = [run.as_row() for run in runs]
    for key in rows[0]:
        if key not in ("study", "run"):
            cells = ["–" if row[key] is None else row[key] for row in rows]
            shown = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells]
            side.add_row(key.replace("_", " "), *map(Text, shown))
    console = _console()
    console.print(side)
    for name, lines in changes.items():
        console.print(Text(f"{runs[0].study}/{runs[0].name} != {name}:"))
        console.print(Text("  " + ("\n  ".join(lines) or "the same configuration")))


def _place(path: Path, root: Path) -> str:
    """STUDY or reference/STUDY."""
    return path.relative_to(root).as_posix()


def _one_study(name: str, folder: str | None) -> store.Study:
    """The study called NAME or reference/NAME, or that lies in the folder NAME; it has a run.

    Folders in it that are no readable run are named on standard error. UsageError if there is no study,
    or nothing readable in it.
    """
    from resnetlab import store
    from resnetlab.config import UsageError

    root = store.results_root(folder)
    named = {_place(path, root): path for path in reversed(store.find_studies(root))}
    if name in named:
        found = store.read_study(named[name])
    elif name not in {path.name for path in named.values()} and Path(name).is_dir():
        found = store.read_study(Path(name).absolute())
    else:
        found = store.find_study(name, folder)
    reasons = [f"{item.path.name}: {item.reason}" for item in found.skipped]
    if not found.runs:
        raise UsageError("\n  ".join([f"{found.path} holds no readable run", *reasons]))
    for reason in reasons:
        print(f"skipped {reason}", file=sys.stderr)
    return found


_NETWORKS = (
    *("plain-18", "resnet-18", "resnet-18-B", "resnet-18-C", "resnet-18-single"),
    *("plain-34", "resnet-34", "resnet-34-B", "resnet-34-C"),
    *("plain-50", "resnet-50", "resnet-50-A", "resnet-50-C", "resnet-50-3x3"),
    *("plain-101", "resnet-101", "resnet-101-A", "resnet-101-C", "resnet-101-3x3"),
    *("plain-152", "resnet-152", "resnet-152-A", "resnet-152-C", "resnet-152-3x3"),
    *("plain-20", "resnet-20", "resnet-20-B", "resnet-20-C", "resnet-20-single"),
    *("plain-32", "resnet-32", "plain-44", "resnet-44"),
    *("plain-56", "resnet-56", "resnet-56-B", "resnet-56-C"),
    *("plain-110", "resnet-110", "plain-1202", "resnet-1202"),
)
_NETWORKS_NOTE = (
    "layers: weighted ones + projections. mult.-adds: the paper's FLOPs, of convolutions and the",
    "classifier, for one image. 3x3 stride: bottlenecks that stride there, not in their first 1x1 as",
    "in the paper. The paper: – where it prints no value for that network.",
)


@app.command()
def networks(
    names: Annotated[
        list[str] | None, typer.Argument(help="Any networks, such as resnet-50 plain-26 [default: all]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The paper's networks: layers, parameters and multiply-adds, ours counted, beside the paper's."""
    from resnetlab import config, paper

    specs = [config.Network.from_name(name) for name in names or _NETWORKS]
    from resnetlab.nets import census  # torch: only once the names are known to be good

    rows: list[dict[str, Any]] = []
    for spec in specs:
        row = {"name": spec.name, "design": spec.design, "depth": spec.depth}
        row |= {"shortcut": spec.shortcut, "block": spec.block, "stride_in": spec.stride_in}
        row |= {"zeros": spec.zeros}
        row |= {"image_size": spec.native_size, **census(spec)}
        for ours, theirs in (("parameters", "parameters"), ("macs", "multiply_adds")):
            record = paper.reported(spec.name, theirs, protocol="counted")
            row[f"paper_{ours}"] = round(record.value) if record else None
            row[f"paper_{ours}_source"] = record.source if record else None
        rows.append(row)
    if as_json:
        _print_json(rows)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    right = ("depth", "layers", "image", "parameters", "mult.-adds")
    headings = ("network", "depth", "shortcut", "block", "layers", "image", "parameters", "mult.-adds")
    for heading in (*headings, "the paper"):
        table.add_column(heading, justify="right" if heading in right else "left", no_wrap=True)
    for before, row in zip([rows[0], *rows], rows, strict=False):
        if row["design"] != before["design"]:
            table.add_section()
        table.add_row(*map(Text, _network_cells(row)))
    console = _console()
    console.print(table)
    console.print()
    for line in _NETWORKS_NOTE:
        console.print(line)


def _network_cells(row: Mapping[str, Any]) -> list[str]:
    projections = f" + {row['projections']}" if row["projections"] else ""
    block = "3x3 stride" if row["stride_in"] == "3x3" else row["block"]
    large = row["macs"] >= 1e9
    macs = f"{row['macs'] / 1e9:.3f} G" if large else f"{row['macs'] / 1e6:.2f} M"
    theirs = []
    if row["paper_parameters"]:
        theirs.append(f"{row['paper_parameters'] / 1e6:g} M ({row['paper_parameters_source']})")
    if row["paper_macs"]:
        theirs.append(f"{row['paper_macs'] / 1e9:g} G ({row['paper_macs_source']})")
    cells = [row["name"], str(row["depth"]), row["shortcut"], block, f"{row['layers']}{projections}"]
    cells += [str(row["image_size"]), f"{row['parameters']:,}", macs, ", ".join(theirs) or "–"]
    return cells
