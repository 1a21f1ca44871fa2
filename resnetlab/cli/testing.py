"""Verbs on trained weights: `evaluate` by the paper's test protocols, `weights` as files."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from typer import Argument, Option

from resnetlab import config, paper, store, verdict
from resnetlab.cli.options import DATA_HELP, DeviceOption, JsonOption, ResultsOption, app, list_of
from resnetlab.cli.terminal import number, print_json, say, table
from resnetlab.config import UsageError


def _usual(protocol: str) -> str:
    views = paper.VIEWS[protocol]
    return f"{','.join(map(str, views.sides))} at crop {views.crop}"


@app.command()
def evaluate(
    run: Annotated[str | None, Argument(help="RUN, STUDY/RUN or a run's folder")] = None,
    weights: Annotated[
        str | None,
        Option(help="Instead of a run: a file of torchvision's weights (with --network, --data)"),
    ] = None,
    network: Annotated[
        str | None, Option(help="What the weights are of: resnet-34-B, resnet-50-3x3, ...")
    ] = None,
    data: Annotated[str | None, Option(help=f"{DATA_HELP} (default: the run's)")] = None,
    protocol: Annotated[str, Option(help="single, ten-crop, multi-scale or all")] = "single",
    average: Annotated[
        str, Option(help="Of ten crops, or of scales: softmax (the paper) or logits")
    ] = "softmax",
    scales: Annotated[
        str | None, Option(help=f"Shorter sides of multi-scale (default: {_usual('multi-scale')})")
    ] = None,
    side: Annotated[
        int | None, Option(help=f"Shorter side of single and ten-crop (default: {_usual('single')})")
    ] = None,
    device: DeviceOption = "auto",
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Test a run, or torchvision's weights, by the paper's protocols, the paper's values beside ours.

    Results are stored with the run; those of weights given as a file are only shown.
    """
    sides = list_of(scales, "--scales", int)
    known, from_file = (*paper.VIEWS, "all"), weights is not None
    unnamed, only_scaled = None in (network, data), protocol == "multi-scale"
    scaled, cropped = sides is not None, side is not None
    several = protocol in ("multi-scale", "all")
    refusals = {
        "name a run, or give --weights FILE with --network and --data": (run is None) != from_file,
        "--weights needs --network (such as resnet-50-3x3) and --data": from_file and unnamed,
        "--network belongs to --weights: a run has its own network": None not in (run, network),
        f"unknown protocol {protocol!r}{config.did_you_mean(protocol, known)}": protocol not in known,
        f"--scales belongs to multi-scale, not to {protocol}": scaled and not several,
        "--side belongs to single and ten-crop; multi-scale has --scales": only_scaled and cropped,
        "--scales: a list like 224,256 is needed": sides == (),
    }
    for why, refused in refusals.items():
        if refused:
            raise UsageError(why)
    from resnetlab import training  # torch: only once the request is known to be good
    from resnetlab.images import datasets
    from resnetlab.training import evaluate as tests

    place = training.resolve_device(device)
    record = store.find_run(run, results) if run is not None else None
    unkept, failure, rows = "", "", []  # why the results are not stored, and what stopped that
    if record is not None:
        recipe, crop, who = record.config.recipe, record.config.recipe.crop, _name(record)
        images = record.config.data if data is None else config.images_named(data)
        subject = training.load_trained(record, place)
        if side is None and recipe.scale is not None:
            side = recipe.scale[0]  # as the run's own test; in the recipes that is the paper's 256
        if record.path.parent.parent.name == store.REFERENCE:
            unkept = "committed reference runs stay as they are"
    else:
        crop, who = paper.VIEWS["single"].crop, f"weights of {weights}"
        images = config.images_named(str(data))
        subject = training.from_torchvision(str(weights), str(network), place)
        unkept = "weights given as a file belong to no run"
    spec = subject.network.spec
    sides_of_crops = () if side is None else (side,)
    for name in _protocols(protocol, crop, spec):
        if not as_json and sys.stderr.isatty():
            print(f"testing {spec.name} on {images.label}: {name}", file=sys.stderr)
        measured = tests.evaluate(
            subject,
            images,
            name,
            crop=crop,
            sides=(sides or ()) if name == "multi-scale" else sides_of_crops,
            average=average,  # type: ignore[arg-type]
            root=datasets.data_root(),
        )
        rows.append(measured | _paper_beside(spec, measured))
        if record is not None and not unkept:
            try:
                store.add_evaluation(record, measured)
            except OSError as error:  # what took so long to measure is still shown
                unkept = failure = str(error)
    apart = _not_comparable(record, spec, rows)
    if as_json:
        info: dict[str, Any] = {
            "run": record and _name(record),
            "weights": weights,
            "network": spec.name,
        }
        info |= {"step": subject.step, "evaluations": rows, "not_comparable": apart}
        print_json(info | {"stored": not unkept})
    else:
        at = f", step {subject.step:,}" if subject.step is not None else ""
        _say_evaluations(f"{who}: {spec.name}{at}, tested on {images.label}", spec, rows, apart)
        stored = f"Stored in {record.path / store.EVALUATIONS_FILE}" if record is not None else ""
        say(f"  Not stored: {unkept}." if unkept else f"  {stored}.")
    if failure:
        raise RuntimeError(f"the results could not be stored ({failure})")


@app.command("weights")
def weights_command(
    runs: Annotated[list[str] | None, Argument(help="RUN, STUDY/RUN or a run's folder")] = None,
    out: Annotated[str, Option(help="Folder to write into")] = ".",
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write runs' trained weights as safetensors files; without a run, list those that come along.

    `resnetlab.pretrained(NAME)` loads one that comes along. Its run is in the file's header.
    """
    if runs:
        records = [store.find_run(name, results) for name in runs]
        from resnetlab import training  # torch: only once the runs are known

        for record in records:
            print(training.save_weights(record, config.expanded(out)))
        return
    rows = []
    for path in sorted(store.shipped().values()):
        record = store.shipped_run(path)
        row: dict[str, Any] = {"name": path.stem, "run": _name(record)}
        row["recipe"] = record.config.recipe.label
        row |= {name: record.final(name) for name in ("train_error", "train_error_clean", "test_error")}
        rows.append(row | {"sha256": record.weights_sha256})
    if as_json:
        print_json(rows)
        return
    headings = ("weights", "run", "recipe", ">train %", ">clean %", ">test %", "SHA-256")
    cells = [[number(v) if "error" in k else str(v) for k, v in row.items()] for row in rows]
    say("Final errors in percent; never trained on the test images", table(headings, cells))


def _name(record: store.RunRecord) -> str:
    return f"{record.study}/{record.name}"


def _protocols(asked: str, crop: int | None, spec: config.Network) -> list[str]:
    """Those to test by; all that the network and its images can do."""
    if asked != "all":
        return [asked]
    if crop is None:
        return ["single"]
    whole = spec.design == "imagenet"  # the others take square images only
    return [name for name in paper.VIEWS if whole or name != "multi-scale"]


def _not_comparable(
    record: store.RunRecord | None, spec: config.Network, rows: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Why these tests cannot stand beside the paper's, each reason once."""
    run, reasons = None if record is None else record.config, list[str]()
    if run is not None and (step := rows[0]["step"]) != run.recipe.steps:
        reasons.append(f"the checkpoint is of step {step:,} of {run.recipe.steps:,}")
    for row in rows:
        reasons += verdict.not_comparable(run, network=spec, test=row)
    return list(dict.fromkeys(reasons))


def _paper_beside(spec: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """The paper's errors for that network by that protocol; its 50 layers stride in the 1x1."""
    name = config.Network.parse(spec.model_dump() | {"stride_in": "1x1", "zeros": "split"}).name
    errors = ("top1_error", "top5_error")
    records = [paper.reported(name, quantity, protocol=row["protocol"]) for quantity in errors]
    source = next((record.source for record in records if record), None)
    values = {f"paper_{what}": one and one.value for what, one in zip(errors, records, strict=True)}
    return {"paper_source": source} | values


def _say_evaluations(
    title: str, spec: config.Network, rows: Sequence[Mapping[str, Any]], apart: Sequence[str]
) -> None:
    names = ("top1_error", "top5_error", "paper_top1_error", "paper_top5_error")
    cells = []
    for row in rows:
        errors = [number(row[name]) for name in names]
        source = row["paper_source"] or "–"
        cells.append([protocol_in_words(row), f"{row['images']:,}", *errors, source])
    headings = (
        "protocol",
        ">images",
        ">top-1 %",
        ">top-5 %",
        ">paper: top-1 %",
        ">paper: top-5 %",
        "source",
    )
    say(title, table(headings, cells))
    beside = [row for row in rows if row["paper_source"]]
    say(*(f"  Not comparable: {sentence}." for sentence in apart if beside))
    for row in beside:
        how = paper.HOW[paper.DATA_OF[spec.design], row["protocol"]]
        say(f"  The paper, {row['protocol']}: {how} ({row['paper_source']}).")


def protocol_in_words(row: Mapping[Any, Any]) -> str:
    """ten-crop, 224 of 256; multi-scale, 224 256 384; with what was averaged if not the usual."""
    parts = [str(row["protocol"])]
    if row["sides"]:
        sides = " ".join(map(str, row["sides"]))
        parts.append(sides if row["protocol"] == "multi-scale" else f"{row['crop']} of {sides}")
    if row["average"] != "softmax" and row["protocol"] != "single":
        parts.append(f"averaged {row['average']}")
    return ", ".join(parts)
