"""The verb `evaluate`: the paper's test protocols on a run or on torchvision's weights."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from resnetlab import paper
from resnetlab.cli.options import DATA_HELP, DeviceOption, JsonOption, ResultsOption, _list_of, app
from resnetlab.cli.terminal import _console, _print_json


def _usual(protocol: str) -> str:
    views = paper.VIEWS[protocol]
    return f"{','.join(map(str, views.sides))} at crop {views.crop}"


@app.command()
def evaluate(
    run: Annotated[str | None, typer.Argument(help="RUN, STUDY/RUN or a run's folder")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Instead of a run: a file of torchvision's weights (with --network, --data)"),
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="What the weights are of: resnet-34-B, resnet-50-3x3, ...")
    ] = None,
    data: Annotated[str | None, typer.Option(help=f"{DATA_HELP} [default: the run's]")] = None,
    protocol: Annotated[str, typer.Option(help="single, ten-crop, multi-scale or all")] = "single",
    average: Annotated[
        str, typer.Option(help="Of ten crops, or of scales: softmax (the paper) or logits")
    ] = "softmax",
    scales: Annotated[
        str | None,
        typer.Option(help=f"Shorter sides of multi-scale [default: {_usual('multi-scale')}]"),
    ] = None,
    side: Annotated[
        int | None,
        typer.Option(help=f"Shorter side of single and ten-crop [default: {_usual('single')}]"),
    ] = None,
    device: DeviceOption = "auto",
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Test a run, or torchvision's weights, by the paper's protocols, the paper's values beside ours.

    Results are stored with the run; those of weights given as a file are only shown.
    """
    from resnetlab import config, store, training, verdict
    from resnetlab.config import UsageError
    from resnetlab.images import datasets as images
    from resnetlab.training import evaluate as tests

    if (run is None) == (weights is None):
        raise UsageError("name a run, or give --weights FILE with --network and --data")
    if weights is not None and (network is None or data is None):
        raise UsageError("--weights needs --network (such as resnet-50-3x3) and --data")
    if run is not None and network is not None:
        raise UsageError("--network belongs to --weights: a run has its own network")
    known = (*tests.PROTOCOLS, "all")
    if protocol not in known:
        raise UsageError(f"unknown protocol {protocol!r}{config.did_you_mean(protocol, known)}")
    if scales is not None and protocol not in ("multi-scale", "all"):
        raise UsageError(f"--scales belongs to multi-scale, not to {protocol}")
    if side is not None and protocol == "multi-scale":
        raise UsageError("--side belongs to single and ten-crop; multi-scale has --scales")
    sides = _list_of(scales, "--scales", int) if scales is not None else ()
    if scales is not None and not sides:
        raise UsageError("--scales: a list like 224,256 is needed")

    place = training.resolve_device(device)
    record, recipe = None, None
    crop: int | None = paper.VIEWS["single"].crop
    if run is not None:
        record = store.find_run(run, results)
        recipe, crop = record.config.recipe, record.config.recipe.crop
        subject = training.load_trained(record, place)
        chosen = record.config.data if data is None else config.images_named(data)
    else:
        assert weights is not None
        assert network is not None
        assert data is not None
        subject = training.from_torchvision(weights, network, place)
        chosen = config.images_named(data)
    if protocol != "all":
        protocols = [protocol]
    elif crop is None:
        protocols = ["single"]
    else:
        whole = subject.network.spec.design == "imagenet"  # the others take square images only
        protocols = [name for name in tests.PROTOCOLS if whole or name != "multi-scale"]

    keep = record if record is not None and record.path.parent.parent.name != store.REFERENCE else None
    if side is None and recipe is not None and recipe.scale:
        side = recipe.scale[0]  # a run's own test took it; in the recipes that is the paper's 256
    scaled, cropped = sides, () if side is None else (side,)
    unkept, rows = None, []
    spec = subject.network.spec
    for name in protocols:
        if not as_json and sys.stderr.isatty():
            print(f"testing {spec.name} on {chosen.label}: {name}", file=sys.stderr)
        found = tests.evaluate(
            subject,
            chosen,
            name,  # type: ignore[arg-type]
            crop=crop,
            sides=scaled if name == "multi-scale" else cropped,
            average=average,  # type: ignore[arg-type]
            root=images.data_root(),
        )
        if keep is not None:
            try:
                store.add_evaluation(keep, found)
            except OSError as error:  # what took so long to measure is still shown
                keep, unkept = None, f"the results could not be stored ({error})"
        rows.append(found | _paper_beside(spec, found))
    label = recipe.label if recipe is not None else None
    trained_on = record.config.data.label if record is not None else None
    apart = [
        reason
        for row in rows
        for reason in verdict.not_comparable(trained_on, label, network=spec, test=row)
    ]
    apart = list(dict.fromkeys(apart))
    if record is not None and recipe is not None and subject.step != recipe.steps:
        apart.insert(0, f"the checkpoint is of step {subject.step:,} of {recipe.steps:,}")
    if keep is not None:
        place_kept = f"stored in {keep.path / store.EVALUATIONS_FILE}"
    elif record is not None:
        place_kept = unkept or "not stored: committed reference runs stay as they are"
    else:
        place_kept = "not stored: weights given as a file belong to no run"
    who = f"{record.study}/{record.name}" if record is not None else f"weights of {weights}"
    if as_json:
        out: dict[str, Any] = {"run": who if record is not None else None, "weights": weights}
        out |= {"network": spec.name, "step": subject.step, "evaluations": rows}
        _print_json(out | {"not_comparable": apart, "stored": keep is not None})
    else:
        at = f", step {subject.step:,}" if subject.step is not None else ""
        _print_evaluations(f"{who}: {spec.name}{at}, tested on {chosen.label}", rows)
        console = _console()
        from rich.text import Text

        for sentence in apart if any(row["paper_source"] for row in rows) else ():
            console.print(Text(f"  Not comparable: {sentence}."))
        for row in rows:
            if row["paper_source"]:
                said = paper.HOW[paper.DATA_OF[spec.design], row["protocol"]]
                console.print(Text(f"  The paper, {row['protocol']}: {said} ({row['paper_source']})."))
        console.print(Text(f"  {place_kept[0].upper()}{place_kept[1:]}."))
    if unkept:
        raise RuntimeError(unkept)


def _paper_beside(spec: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """The paper's errors for that network by that protocol; its 50 layers stride in the 1x1."""
    from resnetlab import config

    name = config.Network.parse(spec.model_dump() | {"stride_in": "1x1", "zeros": "split"}).name
    out: dict[str, Any] = {"paper_source": None}
    for quantity in ("top1_error", "top5_error"):
        record = paper.reported(name, quantity, protocol=row["protocol"])
        out[f"paper_{quantity}"] = record.value if record else None
        if record and out["paper_source"] is None:
            out["paper_source"] = record.source
    return out


def _print_evaluations(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("protocol", "images", "top-1 %", "top-5 %", "paper: top-1 %", "top-5 %", "source"):
        right = heading not in ("protocol", "source")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        names = ("top1_error", "top5_error", "paper_top1_error", "paper_top5_error")
        errors = ["–" if row[name] is None else f"{row[name]:.2f}" for name in names]
        cells = [
            _protocol_in_words({str(key): value for key, value in row.items()}),
            f"{row['images']:,}",
            *errors,
            row["paper_source"] or "–",
        ]
        table.add_row(*map(Text, cells))
    console = _console()
    console.print(Text(title))
    console.print(table)


def _protocol_in_words(row: Mapping[str, Any]) -> str:
    """ten-crop, 224 of 256; multi-scale, 224 256 384; with what was averaged if not the usual."""
    parts = [str(row["protocol"])]
    if row["sides"]:
        sides = " ".join(map(str, row["sides"]))
        parts.append(sides if row["protocol"] == "multi-scale" else f"{row['crop']} of {sides}")
    if row["average"] != "softmax" and row["protocol"] != "single":
        parts.append(f"averaged {row['average']}")
    return ", ".join(parts)
