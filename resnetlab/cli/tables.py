"""Verbs that read: `list`, `show`, `compare`, `claims`, `networks`."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from rich import box
from rich.text import Text
from typer import Argument, Option

from resnetlab import config, files, paper, store, verdict
from resnetlab.cli.options import JsonOption, ResultsOption, app
from resnetlab.cli.terminal import number, print_json, printable, say, say_depth, say_means, table
from resnetlab.cli.testing import protocol_in_words
from resnetlab.config import UsageError, commands
from resnetlab.studies import cluster
from resnetlab.verdict import claims

Asked = Literal["train_error_clean", "train_error", "test_error"]  # a claim, on which error


@app.command("list")
def list_command(
    study: Annotated[str | None, Argument(help="Only this study")] = None,
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """All runs of all studies, one line each. Errors are final and in percent."""
    root = store.results_root(results)
    if study is not None:
        studies = [store.find_study(study, results)]
    else:
        studies = [store.read_study(path) for path in store.find_studies(root)]
    if not studies and not root.is_dir():
        again = files.to_type("study")
        raise UsageError(f"no results folder {root}; run `{again}`, or give one with --results")
    for skipped in (folder for item in studies for folder in item.skipped):
        print(printable(f"skipped {skipped.path}: {skipped.reason}"), file=sys.stderr)
    runs = [run for item in studies for run in item.runs]
    rows = [run.as_row() for run in runs]
    for item in studies:
        rows += (waiting := item.queued())
        if waiting and item.plan and item.plan.job and cluster.in_queue(item.plan.job) is False:
            for row in waiting:
                row["status"] = "not begun"
    if as_json:
        print_json(rows)
        return
    cells = []
    for row in rows:
        recipe = row["recipe"] + ("" if row["precision"] == "fp32" else f", {row['precision']}")
        who, steps = f"{row['study']}/{row['run']}", f"{row['steps']}/{row['steps_planned']}"
        errors = number(row["train_error"]), number(row["test_error"])
        cells.append([who, row["data"], recipe, row["status"], steps, *errors])
    headings = ("run", "data", "recipe", "status", ">steps", ">train %", ">test %")
    say(table(headings, cells) if rows else f"No runs yet: `{files.to_type('study')}` makes some.")
    say(*(f"{run.study}/{run.name}: {problem}" for run in runs for problem in run.problems))


@app.command()
def show(
    run: Annotated[str, Argument(help="RUN, STUDY/RUN or a run's folder")],
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """One run: configuration, where it ran, final values, problems, and how to make it again."""
    record = store.find_run(run, results)
    again = commands.of_run(record.config, record.info.get("execution"))
    if as_json:
        info: dict[str, Any] = {"row": record.as_row(), "run": dict(record.info)}
        info |= {"summary": record.summary, "evaluations": record.evaluations.to_dict("records")}
        print_json(info | {"problems": list(record.problems), "command": again})
        return
    settings = record.config.model_dump(mode="json")
    lines: dict[str, Any] = {"status": record.status, "folder": record.path}
    lines["network"] = record.config.network_name
    kept = ("data", "recipe", "seed", "precision", "surgery")
    lines |= {key: settings[key] for key in kept if key in settings}
    noted = ("parameters", "commit", "versions", "execution", "created", "heartbeat")
    lines |= {key: record.info.get(key) for key in noted}
    lines |= {"images": _images_in_words(files.mapping(record.info.get("dataset")))}
    lines |= {"note": " ".join(notes)} if (notes := store.notes([record])) else {}
    lines |= {key: value for key, value in record.as_row().items() if key.endswith("_error")}
    lines |= {"seconds": record.final("seconds"), "problems": "; ".join(record.problems) or "none"}
    lines["again"] = again
    for row in record.evaluations.to_dict("records"):
        errors = {"top-1": number(row["top1_error"]), "top-5": number(row["top5_error"])}
        shown = ", ".join(f"{name} {value} %" for name, value in errors.items() if value != "–")
        what = protocol_in_words(row)
        lines[f"{what}, step {row['step']}"] = f"{shown} of {row['images']} images of {row['data']}"
    rows = [(key.replace("_", " "), _in_words(key, value)) for key, value in lines.items()]
    title = Text(printable(f"{record.study}/{record.name}"))
    say(
        table(("", ""), rows, wrap=True, box=box.SIMPLE, padding=(0, 1), show_header=False, title=title)
    )


def _images_in_words(images: Mapping[str, Any]) -> str | None:
    """`1,442 to train, 355 to test`, and what of a folder was not read."""
    counts = [(name, images.get(name)) for name in ("train", "test")]
    words = [f"{count:,} to {name}" for name, count in counts if type(count) is int]
    if type(left := images.get("left_out")) is int and left:
        words.append(f"{left:,} files or folders not read")
    return ", ".join(words) or None


def _in_words(key: str, value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    if isinstance(value, float):
        return f"{value:.2f}" + (" %" if key.endswith("_error") else "")
    return "–" if value is None else str(value)


@app.command()
def compare(
    names: Annotated[list[str], Argument(help="A study or several, or two or more runs")],
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """A study's means and verdict; or runs side by side, and how their configurations differ.

    Several studies are one table: where only their recipes differ, networks are paired by seed.
    """
    root = store.results_root(results)
    known = {
        name for path in store.find_studies(root) for name in (path.name, store.label_of(path, root))
    }
    if len(names) == 1 or known.issuperset(names):
        runs = [run for name in dict.fromkeys(names) for run in study_named(name, results).runs]
        _compare_networks(runs, as_json)
    else:
        _compare_runs([store.find_run(name, results) for name in names], as_json)


def _compare_networks(runs: Sequence[store.RunRecord], as_json: bool) -> None:
    """Means over seeds, differences between depths, and what they say."""
    runs_table = store.table_of(runs)
    means, sentences = verdict.by_network(runs_table), verdict.answers(runs_table)
    sentences = [*sentences, *store.notes(runs), verdict.ELSEWHERE]
    by_recipe = runs_table.groupby(verdict.conditions(runs_table)["recipe"], sort=False)
    depth = {recipe: verdict.depth_effects(group) for recipe, group in by_recipe}
    if as_json:
        effects = [
            {"recipe": name} | row for name, group in depth.items() for row in group.to_dict("records")
        ]
        networks = means.to_dict("records")
        print_json({"networks": networks, "depth": effects, "verdict": sentences})
        return
    say_means(means)
    for recipe, group in depth.items():
        say_depth(group, str(recipe) if len(depth) > 1 else "")
    say(*(f"  {sentence}" for sentence in sentences))


def _compare_runs(runs: Sequence[store.RunRecord], as_json: bool) -> None:
    """Runs side by side, and in what their configurations differ from the first one's."""
    who = [f"{run.study}/{run.name}" for run in runs]
    rows = [run.as_row() for run in runs]
    changes = {
        name: config.differences(runs[0].config, run.config)
        for name, run in zip(who[1:], runs[1:], strict=True)
    }
    if as_json:
        print_json({"runs": rows, "differences": changes})
        return
    cells = [
        [key.replace("_", " "), *(_in_words("", row[key]) for row in rows)]
        for key in rows[0]
        if key not in ("study", "run")
    ]
    say(table(["", *(f">{name}" for name in who)], cells, wrap=True, padding=(0, 1)))
    for name, lines in changes.items():
        say(f"{who[0]} != {name}:", "  " + ("\n  ".join(lines) or "the same configuration"))


@app.command("claims")
def claims_command(
    names: Annotated[
        list[str] | None, Argument(help="Only these studies (default: all that ask a claim)")
    ] = None,
    error: Annotated[Asked | None, Option(help="Only this final error (default: all three)")] = None,
    markdown: Annotated[bool, Option("--markdown", help="Markdown, a table per error")] = False,
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """The paper's claims about depth, one by one: its number, ours with interval and n, the verdict.

    From the logs of all studies that ask one, own and committed; points of final error.
    """
    wanted = [name for name in claims.ERRORS if error in (None, name)]
    if unknown := set(names or ()) - (known := {study.name: study for study in claims.asked()}).keys():
        raise UsageError(f"{min(unknown)!r} asks none of the claims; these do: {', '.join(known)}")
    rows = claims.in_results(store.results_root(results), *(names or ()))
    rows = [row for row in rows if row.error in wanted]
    if as_json:
        print_json([row.cells() | row.numbers() for row in rows])
        return
    for name in wanted:
        of_error = [row for row in rows if row.error == name]
        if markdown:
            print(claims.markdown(of_error), end="\n\n" if name != wanted[-1] else "\n")
            continue
        shown = [heading for heading in claims.COLUMNS if heading not in ("error", "trained on")]
        headings = [f">{heading}" if heading in claims.NUMBERS else heading for heading in shown]
        cells = claims.table(of_error)[shown].to_numpy().tolist()
        say(f"On the final {claims.ERRORS[name]} error", table(headings, cells))
    if not markdown:
        say(claims.RULE, *claims.FINE_PRINT)


def study_named(name: str, folder: str | None) -> store.Study:
    """The study called NAME or reference/NAME, or that lies in the folder NAME; it has a run.

    Folders in it that are no readable run are named on standard error. UsageError if there is no study,
    or nothing readable in it.
    """
    root = store.results_root(folder)
    named = {store.label_of(path, root): path for path in reversed(store.find_studies(root))}
    if name in named:
        study = store.read_study(named[name])
    elif name not in {path.name for path in named.values()} and Path(name).is_dir():
        study = store.read_study(Path(name).absolute())
    else:
        study = store.find_study(name, folder)
    reasons = [f"{item.path.name}: {item.reason}" for item in study.skipped]
    if not study.runs:
        raise UsageError("\n  ".join([f"{study.path} holds no readable run", *reasons]))
    for reason in reasons:
        print(printable(f"skipped {reason}"), file=sys.stderr)
    return study


# The paper's networks, and the note below their table.
_PAPERS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


@app.command()
def networks(
    names: Annotated[
        list[str] | None, Argument(help="Any networks, such as resnet-50 plain-26 (default: all)")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The paper's networks: layers, parameters and multiply-adds, ours counted, beside the paper's."""
    specs = [config.Network.from_name(name) for name in names or _PAPERS["networks"]]
    from resnetlab.nets import census  # torch: only once the names are known to be good

    rows: list[dict[str, Any]] = []
    for spec in specs:
        kept = ("design", "depth", "shortcut", "block", "stride_in", "zeros")
        row = {"name": spec.name} | {key: getattr(spec, key) for key in kept}
        row |= {"image_size": spec.native_size, **census(spec)}
        for ours, quantity in (("parameters", "parameters"), ("macs", "multiply_adds")):
            record = paper.reported(spec.name, quantity, protocol="counted")
            row[f"paper_{ours}"] = round(record.value) if record else None
            row[f"paper_{ours}_source"] = record.source if record else None
        rows.append(row)
    if as_json:
        print_json(rows)
        return
    headings = "network >depth shortcut block >layers >image >parameters >mult.-adds".split()
    shown = table([*headings, "the paper"], map(_network_cells, rows), padding=0, show_edge=False)
    for before, after, line in zip(rows, rows[1:], shown.rows, strict=False):
        line.end_section = before["design"] != after["design"]
    say(shown, "", _PAPERS["note"])


def _network_cells(row: Mapping[str, Any]) -> list[object]:
    projections = f" + {row['projections']}" if row["projections"] else ""
    block = "3x3 stride" if row["stride_in"] == "3x3" else row["block"]
    large = row["macs"] >= 1e9
    macs = f"{row['macs'] / 1e9:.3f} G" if large else f"{row['macs'] / 1e6:.2f} M"
    papers = [
        f"{row[key] / size:g} {unit} ({row[f'{key}_source']})"
        for key, size, unit in (("paper_parameters", 1e6, "M"), ("paper_macs", 1e9, "G"))
        if row[key]
    ]
    cells = [row["name"], row["depth"], row["shortcut"], block, f"{row['layers']}{projections}"]
    return [*cells, row["image_size"], f"{row['parameters']:,}", macs, ", ".join(papers) or "–"]
