"""The command `resnetlab`. Each verb loads what it needs, so that help answers at once."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from resnetlab import config, store
    from resnetlab import studies as study
    from resnetlab.config import schedule
    from resnetlab.studies import lesson

app = typer.Typer(
    name="resnetlab",
    help="An interactive study of Deep Residual Learning for Image Recognition (He et al. 2015).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Data sets: fetch them once, look at them.", no_args_is_help=True)
app.add_typer(data_app, name="data")

INTERRUPTED = 130
FIRST_SPEAKS_WITHIN = 10.0  # seconds; under torchrun, see _fail


class Precision(StrEnum):
    fp32 = "fp32"
    fp64 = "fp64"
    tf32 = "tf32"
    bf16 = "bf16"


DATA_HELP = "digits, cifar10, cifar100, digits-large, tiny-imagenet[:PATH], folder:PATH, imagenet:PATH"
ResultsOption = Annotated[
    str | None, typer.Option("--results", help="Results folder [default: results/ of the project]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
EngineOption = Annotated[
    str, typer.Option(help="auto, eager, or compiled, graph (CUDA), channels_last joined by +")
]
PrecisionOption = Annotated[
    Precision | None, typer.Option(help="Precision of training [default: fp32, TF32 off]")
]
StepsOption = Annotated[
    int | None, typer.Option(help="Optimizer updates; milestones move along [default: the recipe's]")
]
LrOption = Annotated[float | None, typer.Option(help="Learning rate [default: the recipe's 0.1]")]
ClipOption = Annotated[
    float | None,
    typer.Option(help="Largest L2 norm of a step's gradient [default: none, as the paper]"),
]
BatchOption = Annotated[int | None, typer.Option("--batch-size", help="[default: the recipe's 128]")]
ValidationOption = Annotated[
    int | None, typer.Option(help="Training images held out and followed instead of the test set")
]
RecipeOption = Annotated[
    str | None,
    typer.Option(help="`resnetlab recipe` lists them [default: the data set's]"),
]
CropOption = Annotated[
    int | None,
    typer.Option(help="Pixels a side that large-image recipes cut out; the scale moves along"),
]
DamagedOption = Annotated[
    str | None,
    typer.Option(help="error, or skip: leave damaged image files out and count them (with --crop)"),
]


def _list_of(text: str, what: str, kind: type) -> tuple[Any, ...]:
    from resnetlab.config import UsageError

    try:
        return tuple(kind(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"{what}: a list like 20,56 is needed, got {text!r}") from None


def _console(width: int | None = None) -> Any:
    from rich.console import Console

    # In a pipe or a log nothing is as wide as a guess of 80 columns would make it.
    width = None if sys.stdout.isatty() else width or 160
    return Console(highlight=False, width=width)


# --- study ------------------------------------------------------------------------------------


@app.command("study")
def study_command(
    name: Annotated[
        str, typer.Argument(help="digits, short, depth-real, figure-6, shortcuts, imagenet-tiny, ...")
    ] = "digits",
    depths: Annotated[str | None, typer.Option(help="Such as 20,56 or 18,34")] = None,
    shortcuts: Annotated[str | None, typer.Option(help="Of none,A,B,C; none is plain")] = None,
    also: Annotated[
        str | None, typer.Option(help="Further networks by name, such as resnet-50,resnet-101")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Such as 0,1,2")] = None,
    data: Annotated[str | None, typer.Option(help=DATA_HELP)] = None,
    recipe: RecipeOption = None,
    steps: StepsOption = None,
    lr: LrOption = None,
    batch_size: BatchOption = None,
    clip: ClipOption = None,
    crop: CropOption = None,
    damaged: DamagedOption = None,
    validation: ValidationOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    jobs: Annotated[
        int | None, typer.Option(help="Processes side by side [default: one a core; one on a GPU]")
    ] = None,
    together: Annotated[
        bool | None,
        typer.Option(
            "--together/--apart",
            help="All runs in one process, in turn [default: on a GPU without --jobs]",
        ),
    ] = None,
    folder: Annotated[
        str | None, typer.Option("--name", help="Study folder [default: NAME, or NAME-DATA]")
    ] = None,
    results: ResultsOption = None,
) -> None:
    """Run a grid of networks, one notebook each, and answer the question over them.

    Finished runs are skipped, interrupted ones resumed; a run that fails does not stop the others.
    """
    from resnetlab import config, store
    from resnetlab import studies as study

    grid = config.grid_named(
        name,
        data=data,
        name_of_folder=folder,
        depths=_list_of(depths, "--depths", int) if depths is not None else None,
        shortcuts=_list_of(shortcuts, "--shortcuts", str) if shortcuts is not None else None,
        also=_list_of(also, "--also", str) if also is not None else None,
        seeds=_list_of(seeds, "--seeds", int) if seeds is not None else None,
        recipe=recipe,
        precision=precision.value if precision else None,
        validation=validation,
        damaged=damaged,
        overrides={"steps": steps, "lr": lr, "batch_size": batch_size, "clip": clip, "crop": crop},
    )
    root = store.results_root(results)
    watcher = _Progress()
    outcome = study.run(
        grid, root=root, jobs=jobs, device=device, engine=engine, together=together, watcher=watcher
    )
    watcher.close()
    _tell_outcome(outcome, store.read_study(outcome.folder))
    if outcome.interrupted:
        raise typer.Exit(INTERRUPTED)
    if outcome.failed:
        raise typer.Exit(1)


def _tell_outcome(outcome: study.Outcome, found: store.Study) -> None:
    from rich.text import Text

    from resnetlab import store, verdict

    console = _console()
    table = found.table()
    console.print()
    _print_means(verdict.by_network(table))
    for sentence in verdict.answers(table):
        console.print(Text(f"  {sentence}"))
    for sentence in store.notes(found.runs):
        console.print(Text(f"  {sentence}"))
    for note in outcome.notes:
        console.print(Text(f"note: {note}"), style="yellow")
    for failure in outcome.failed:
        console.print(Text(f"failed: {failure}"), style="red")
    console.print()
    if outcome.interrupted:
        console.print("Interrupted; the same command goes on from here.")
    if outcome.report is not None:
        console.print(Text(f"Figures and table   {outcome.report}"))
    console.print(Text(f"Runs                {outcome.folder}"))
    console.print("Look in a browser   make dashboard   (or: resnetlab dashboard)")


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
    for said, group in rows[rows["paper_source"] != ""].groupby("paper_conditions"):
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


# --- train ------------------------------------------------------------------------------------


@app.command()
def train(
    network: Annotated[
        str, typer.Argument(help="plain-56, resnet-56-B, resnet-50, ...: `resnetlab networks`")
    ],
    data: Annotated[str, typer.Option(help=DATA_HELP)] = "digits",
    recipe: RecipeOption = None,
    steps: StepsOption = None,
    lr: LrOption = None,
    batch_size: BatchOption = None,
    clip: ClipOption = None,
    crop: CropOption = None,
    damaged: DamagedOption = None,
    validation: ValidationOption = None,
    seed: Annotated[int, typer.Option(help="Weights, order and augmentation follow from it")] = 0,
    precision: PrecisionOption = None,
    shortcut_scale: Annotated[
        float | None,
        typer.Option(help="y = F(x) + a x with this a, between 0 and 1 (nets/surgery.py)"),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(help="STUDY/RUN of a shallower network: begin with it, layers appended"),
    ] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads [default: all cores]")] = None,
    sync_norm: Annotated[
        bool, typer.Option("--sync-norm", help="With torchrun: batch norm over all processes' images")
    ] = False,
    study: Annotated[str, typer.Option(help="Study folder to write into")] = "runs",
    run: Annotated[
        str | None,
        typer.Option(
            "--run", "--run-name", help="Run folder [default: network, seed, data and recipe]"
        ),  # torchrun takes --run for an abbreviation of an option of its own
    ] = None,
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one network without a notebook; the same command resumes it after an interruption.

    On several devices: torchrun --nproc-per-node N -m resnetlab train NETWORK ...
    """
    from resnetlab import config, store
    from resnetlab.studies import notebook

    asked = config.run_from_parameters(
        network=network,
        data=data,
        recipe=recipe or "",
        seed=seed,
        precision=precision.value if precision else "fp32",
        validation=validation or 0,
        steps=steps,
        lr=lr,
        batch_size=batch_size,
        clip=clip,
        crop=crop,
        damaged=damaged or "error",
        shortcut_scale=shortcut_scale,
        start_from=store.weights_named(start_from, results) if start_from else None,
    )
    store.check_name("study", study)
    if run is not None:
        store.check_name("run", run)
    store.prepare_root(store.results_root(results))
    from resnetlab.training import fit  # torch: only once the request is known to be good

    def on_row(row: Mapping[str, Any]) -> None:
        if not as_json:
            print(notebook.progress_line(row, asked), flush=True)

    record = fit(
        asked,
        study=study,
        name=run,
        results_folder=results,
        device=device,
        threads=threads,
        engine=engine,
        sync_norm=sync_norm,
        on_row=on_row,
    )
    if not _first_process():
        pass
    elif as_json:
        _print_json(record.as_row())
    else:
        head = f"{record.study}/{record.name}: {record.status} at step {record.steps_done}"
        print(f"{head}  {_errors(record)}")
        print(record.path)
    if record.status == "interrupted":
        raise typer.Exit(INTERRUPTED)


# --- evaluate ---------------------------------------------------------------------------------


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
        typer.Option(help="Shorter sides of multi-scale [default: 224,256,384,480,640 at crop 224]"),
    ] = None,
    side: Annotated[
        int | None, typer.Option(help="Shorter side of single and ten-crop [default: 256 at crop 224]")
    ] = None,
    device: DeviceOption = "auto",
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Test a run, or torchvision's weights, by the paper's protocols, the paper's values beside ours.

    Results are stored with the run; those of weights given as a file are only shown.
    """
    from resnetlab import config, paper, store, training  # fmt: skip
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
    crop: int | None = tests.CROP
    if run is not None:
        record = store.find_run(run, results)
        recipe, crop = record.config.recipe, record.config.recipe.crop
        subject = tests.trained(record, place)
        chosen = record.config.data if data is None else config.images_named(data)
    else:
        assert weights is not None
        assert network is not None
        assert data is not None
        subject = tests.from_torchvision(weights, network, place)
        chosen = config.images_named(data)
    if protocol != "all":
        protocols = [protocol]
    elif crop is None:
        protocols = ["single"]
    else:
        whole = subject.network.spec.design == "imagenet"  # the others take square images only
        protocols = [name for name in tests.PROTOCOLS if whole or name != "multi-scale"]

    keep = record if record is not None and record.path.parent.parent.name != store.REFERENCE else None
    unkept, rows = None, []
    spec = subject.network.spec
    for name in protocols:
        if not as_json and sys.stderr.isatty():
            print(f"testing {spec.name} on {chosen.label}: {name}", file=sys.stderr)
        # A run's own test took the lower end of its scale; in the recipes that is the paper's 256.
        usual = recipe.scale[0] if recipe is not None and recipe.scale else None
        found = tests.evaluate(
            subject,
            chosen,
            name,  # type: ignore[arg-type]
            crop=crop,
            side=None if name == "multi-scale" else (usual if side is None else side),
            scales=sides if name == "multi-scale" else (),
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
    apart = _apart(spec, rows, trained_on, label)
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
                said = paper.CONDITIONS[_theirs(spec), row["protocol"]]
                console.print(Text(f"  The paper, {row['protocol']}: {said} ({row['paper_source']})."))
        console.print(Text(f"  {place_kept[0].upper()}{place_kept[1:]}."))
    if unkept:
        raise RuntimeError(unkept)


def _theirs(spec: Any) -> str:
    """The data set on which the paper has numbers for a network of that design."""
    return "imagenet" if spec.design == "imagenet" else "cifar10"


def _paper_beside(spec: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """The paper's errors for that network by that protocol; its 50 layers stride in the 1x1."""
    from resnetlab import config, paper

    name = config.Network.parse(spec.model_dump() | {"stride_in": "1x1", "zeros": "split"}).name
    out: dict[str, Any] = {"paper_source": None}
    for quantity in ("top1_error", "top5_error"):
        record = paper.reported(name, quantity, protocol=row["protocol"])
        out[f"paper_{quantity}"] = record.value if record else None
        if record and out["paper_source"] is None:
            out["paper_source"] = record.source
    return out


def _apart(
    spec: Any, rows: Sequence[Mapping[str, Any]], trained_on: str | None, recipe: str | None
) -> list[str]:
    """Why these numbers must not be set against the paper's: one sentence each, none if they may."""
    from resnetlab import paper
    from resnetlab.training import evaluate

    said, tested = [], rows[0]["data"]
    names = {"imagenet": "ImageNet", "cifar10": "CIFAR-10"}
    if trained_on is None or recipe is None:
        said.append(
            "the file does not say how its weights were trained; torchvision's follow another recipe"
        )
    elif (reason := paper.comparable(trained_on, recipe)) is not None:
        said.append(reason)
    if trained_on is not None and tested != trained_on:
        said.append(f"the run was trained on {trained_on} and tested on {tested}")
    if tested != _theirs(spec) and (tested in names or trained_on is None):
        said.append(f"the paper's {spec.name} is tested on {names[_theirs(spec)]}, ours on {tested}")
    if spec.zeros == "end":
        said.append(
            "option A's zeros stand at the end here, and the paper does not say where it has them"
        )
    if spec.stride_in == "3x3":
        said.append("the paper's bottlenecks stride in the first 1x1, this network's in the 3x3")
    for row in rows:
        usual = list(evaluate.SCALES) if row["protocol"] == "multi-scale" else [evaluate.SIDE]
        if row["crop"] and (row["crop"], row["sides"]) != (evaluate.CROP, usual):
            ours, paper_has = (", ".join(map(str, value)) for value in (row["sides"], usual))
            crops = row["protocol"] != "multi-scale"
            mine, its = (f"crop {c} of " if crops else "" for c in (row["crop"], evaluate.CROP))
            said.append(f"{row['protocol']}: {mine}shorter side {ours}; the paper: {its}{paper_has}")
        if row["average"] != "softmax" and row["protocol"] != "single":
            said.append(f"{row['protocol']}: logits are averaged, the default is the softmax")
    return said


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


# --- reading ----------------------------------------------------------------------------------


def _print_json(value: Any) -> None:
    """JSON without NaN: what is not known is null."""

    def clean(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {key: clean(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [clean(inner) for inner in item]
        return None if isinstance(item, float) and item != item else item

    print(json.dumps(clean(value), indent=1, allow_nan=False))


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
    if as_json:
        info: dict[str, Any] = {"row": record.as_row(), "run": dict(record.info)}
        info |= {"summary": record.summary, "evaluations": record.evaluations.to_dict("records")}
        _print_json(info | {"problems": list(record.problems), "command": reproduce(record)})
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
    lines["again"] = reproduce(record)
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


# Recipe fields that `resnetlab train` has an option for, and those only the notebook takes.
_TRAIN_FIELDS = ("steps", "lr", "batch_size", "clip", "crop")
_MEASURING_FIELDS = ("log_every", "test_every", "probe_every", "checkpoint_every")
_NOTEBOOK_FIELDS: tuple[str, ...] = (
    "momentum",
    "weight_decay",
    "pad",
    "flip",
    "mean",
    "colour",
    "ghost_batch",
)
_NOTEBOOK_FIELDS += ("decay_norm", "recompute_norm", "warmup_lr", "warmup_error", "warmup_window")
_NOTEBOOK_FIELDS += ("warmup_steps", "plateau_patience", "plateau_margin", "plateau_drops")
_NOTEBOOK_FIELDS += _MEASURING_FIELDS


def reproduce(record: store.RunRecord) -> str:
    """The command that makes this run again: `resnetlab train`, or papermill where that is not enough.

    A configuration that no command expresses is said to be one.
    """
    import shlex

    from resnetlab import config

    run = record.config
    preset = config.RECIPES.get(run.recipe.name, config.PAPER)
    fields = {name: getattr(run.recipe, name) for name in _TRAIN_FIELDS + _NOTEBOOK_FIELDS}
    changed = {name: value for name, value in fields.items() if value != getattr(preset, name)}
    if preset.replace(**changed).milestones != run.recipe.milestones:
        changed["milestones"] = list(run.recipe.milestones)
    if preset.name != run.recipe.name or preset.replace(**changed) != run.recipe:
        return "no command: its recipe differs in fields that only the library sets (resnetlab.fit)"
    common = {"data": run.data.name, "recipe": run.recipe.name, "seed": run.seed}
    common |= {"precision": run.precision} if run.precision != "fp32" else {}
    common |= {"validation": run.data.validation} if run.data.validation else {}
    common |= {"damaged": run.data.damaged} if run.data.damaged != "error" else {}
    edit = run.surgery
    if edit is not None and edit.shortcut_scale is not None:
        common["shortcut_scale"] = edit.shortcut_scale
    if edit is not None and edit.start is not None:
        common["start_from"] = f"{edit.start.study}/{edit.start.run}"
    execution = record.info.get("execution")
    if isinstance(execution, Mapping) and execution.get("device") == "cpu":
        common |= {"device": "cpu", "threads": execution.get("threads")}
        common |= {"engine": execution["engine"]} if "engine" in execution else {}
    if set(changed) <= set(_TRAIN_FIELDS):
        words = ["resnetlab", "train", run.network.name]
        for name, value in (common | changed).items():
            words += [f"--{name.replace('_', '-')}", str(value)]
    else:
        words = ["papermill", "notebooks/train.ipynb", "out.ipynb"]
        plain_words = {"depth": run.network.depth, "shortcut": run.network.shortcut}
        usual = config.Network.parse(plain_words) == run.network
        network = plain_words if usual else {"network": run.network.name}
        for name, value in (network | common | changed).items():
            listed = isinstance(value, list)  # -p takes no list
            words += ["-y", f"{name}: {value}"] if listed else ["-p", name, str(value)]
    return shlex.join(words)


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


@app.command()
def figures(
    study: Annotated[str, typer.Argument(help="A study, or the folder of one")],
    results: ResultsOption = None,
    out: Annotated[str | None, typer.Option(help="Folder [default: figures/ in the study]")] = None,
    data: Annotated[str, typer.Option(help="Only runs on this data set")] = "",
    recipe: Annotated[str, typer.Option(help="Only runs with this recipe")] = "",
    precision: Annotated[str, typer.Option(help="Only runs in this precision")] = "",
) -> None:
    """Draw a study's figures as PNG files, light and dark (needs the extra `figures` and Chromium)."""
    from resnetlab import files, plots, store, verdict
    from resnetlab.config import UsageError

    path = Path(study)
    found = store.read_study(path) if path.is_dir() else store.find_study(study, results)
    if not found.runs:
        raise UsageError(f"{found.path} holds no readable run")
    table = verdict.one_condition(found.table(), data, recipe, precision)
    runs = [run for run in found.runs if run.name in set(table["run"])]
    if not runs:
        raise UsageError(f"{found.path} holds no run on that data set, recipe and precision")
    folder = Path(out) if out else found.path / store.FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    depths = [run.network.depth for run in runs]
    ends = {min(depths), max(depths)}
    seed = min(run.config.seed for run in runs)
    probes = store.probes_of(
        [run for run in runs if run.config.seed == seed and run.network.depth in ends]
    )
    for theme in ("light", "dark"):
        drawn = {
            "error_curves": plots.error_curves(store.metrics_of(runs), theme=theme),
            "error_against_depth": plots.error_against_depth(table, theme=theme),
            "gradient_norms": plots.gradient_norm_heatmap(probes, theme=theme),
        }
        for name, figure in drawn.items():
            target = folder / f"{name}-{theme}.png"
            files.atomic_write(target, _png(figure))
            print(target)


@app.command()
def report(
    study: Annotated[str, typer.Argument(help="A study, reference/STUDY, or the folder of one")],
    results: ResultsOption = None,
    out: Annotated[
        str | None, typer.Option(help="File to write [default: report.html in the study]")
    ] = None,
) -> None:
    """Write a study as one HTML file that needs no network: figures, tables, verdict, versions."""
    from resnetlab import files
    from resnetlab.pages import document
    from resnetlab.pages import report as reports

    found = _one_study(study, results)
    target = Path(out).expanduser() if out else found.path / reports.FILE
    document.check_target(target, reports.KIND)
    page = reports.page(found, {run.name: reproduce(run) for run in found.runs})
    files.atomic_write(target, page)
    print(f"{target}  ({len(page) / 1e6:.1f} MB, opens in any browser without a network)")


@app.command("notebook", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def notebook_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Such as 03_gradient_norms, or just 03")],
    results: ResultsOption = None,
    out: Annotated[
        str | None, typer.Option(help="Executed notebook to write [default: in its study's folder]")
    ] = None,
) -> None:
    """Execute a question notebook into the results, as in: resnetlab notebook 03 -p seeds 0,1,2

    Each -p NAME VALUE is checked before anything runs; `-p quick true` is a trial. Which parameters
    there are stands in the notebook's first code cell.
    """
    from resnetlab import store
    from resnetlab.config import UsageError
    from resnetlab.studies import lesson, notebook

    if name.startswith("-"):
        raise UsageError("the notebook's name comes first: resnetlab notebook 03 -p seeds 0,1,2")
    source = notebook.find(name)
    if not source.name[0].isdecimal():
        raise UsageError(f"{source.name} trains: `resnetlab train` and `resnetlab study` do that")
    parameters = notebook.typed(source, _pairs(context.args))
    root = store.results_root(results)
    if "results" in parameters:
        raise UsageError("give the results folder with --results")
    target = Path(out).expanduser().absolute() if out else None
    if target is not None and target.suffix != ".ipynb":
        raise UsageError(f"--out: a file that ends in .ipynb is needed, got {out!r}")
    target = target or lesson.place_of(source, parameters, root)
    print(f"executing {source.name}", flush=True)
    began = time.monotonic()
    error = lesson.execute(source, target, parameters, root)
    if error:
        raise RuntimeError(f"{source.name}: {error}\n  as far as it came: {target}")
    print(f"{target}  ({time.monotonic() - began:.0f} s)")


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """`-p NAME VALUE -p NAME VALUE` as pairs. UsageError for anything else."""
    from resnetlab.config import UsageError

    pairs, left = [], list(words)
    while left:
        if left[0] != "-p" or len(left) < 3:
            raise UsageError(f"-p NAME VALUE is needed, as in -p seeds 0,1,2; got {' '.join(left)!r}")
        pairs.append((left[1], left[2]))
        left = left[3:]
    return pairs


@app.command("lesson")
def lesson_command(
    quick: Annotated[bool, typer.Option("--quick", help="A trial: tiny networks, few steps")] = False,
    again: Annotated[bool, typer.Option("--again", help="Execute what is there already, too")] = False,
    from_reference: Annotated[
        bool,
        typer.Option("--from-reference", help="Execute nothing: pages of the committed copies"),
    ] = False,
    device: DeviceOption = "auto",
    results: ResultsOption = None,
    out: Annotated[
        str | None, typer.Option(help="Folder for the pages [default: results/lesson]")
    ] = None,
) -> None:
    """Execute the question notebooks in teaching order and make pages of them, index.html first.

    What is there already is not executed again; one that fails does not stop the others.
    """
    from resnetlab import store
    from resnetlab.config import UsageError
    from resnetlab.studies import lesson

    if from_reference and (quick or again):
        raise UsageError("--from-reference executes nothing: it goes without --quick and --again")
    root = store.results_root(results)
    usual = lesson.COMMITTED if from_reference else lesson.TRIALS if quick else store.LESSON
    folder = Path(out).expanduser().absolute() if out else root / usual
    if from_reference:
        parts = lesson.from_reference(root, folder)
        for part in parts:
            _tell_part(part, 0)
    else:
        began = 0.0

        def begins(chapter: lesson.Chapter) -> None:
            nonlocal began
            began = time.monotonic()
            print(f"{chapter.name:<26}", end=" ", flush=True)

        def ends(part: lesson.Part) -> None:
            _tell_part(part, time.monotonic() - began, named=True)

        store.prepare_root(root)
        parts = lesson.teach(
            root, folder, quick=quick, again=again, device=device, begins=begins, ends=ends
        )
    print(f"{folder / lesson.INDEX}  (opens in any browser, without a network)")
    failed = [part.chapter.name for part in parts if part.error]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


def _tell_part(part: lesson.Part, seconds: float, named: bool = False) -> None:
    """The rest of a chapter's line: what became of it, and where its executed copy lies."""
    name = "" if named else f"{part.chapter.name:<26} "
    if part.error:
        print(f"{name}failed: {part.error}", flush=True)
    elif part.copy is None:
        print(f"{name}no executed copy", flush=True)
    else:
        took = f"{seconds:.0f} s" if part.state == "executed" else "there"
        print(f"{name}{took:<7} {part.copy}", flush=True)


@app.command()
def export(
    study: Annotated[str, typer.Argument(help="A study, reference/STUDY, or the folder of one")],
    formats: Annotated[
        str | None,
        typer.Option(
            "--format", help="csv, parquet, tensorboard, or several: csv,parquet [default: all]"
        ),
    ] = None,
    results: ResultsOption = None,
    out: Annotated[
        str | None, typer.Option(help="Folder to write into [default: STUDY-export here]")
    ] = None,
) -> None:
    """Write every logged point of a study for other tools: CSV, Parquet, TensorBoard event files."""
    from resnetlab.pages import export as exports

    asked = _list_of(formats, "--format", str) if formats is not None else None
    wanted = exports.formats_asked(asked)
    found = _one_study(study, results)
    # Not in the study's folder, where it would pass for a run.
    folder = Path(out).expanduser() if out else Path(f"{found.name}-export")
    exports.write(found, folder, wanted, print)
    if exports.TENSORBOARD not in wanted and asked is None:
        print(f"left out: {exports.TO_INSTALL}", file=sys.stderr)


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


# --- networks ---------------------------------------------------------------------------------

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


# --- recipe -----------------------------------------------------------------------------------


@app.command()
def recipe(
    name: Annotated[str | None, typer.Argument(help="[default: all of them, a line each]")] = None,
    warm_until: Annotated[
        int | None, typer.Option(help="Script when the training error ends the warm-up")
    ] = None,
    drops: Annotated[
        str | None, typer.Option(help="Script the steps of the plateaus, such as 150000,300000")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Write the figure: FILE.html or FILE.png")] = None,
    as_json: JsonOption = False,
) -> None:
    """What a recipe does: its settings in words, its learning rate as a table and a figure.

    Where the rate follows a run's own errors, the events are scripted, and said to be.
    """
    from resnetlab import config
    from resnetlab.config import UsageError, schedule

    if name is None:
        if out is not None or warm_until is not None or drops is not None:
            raise UsageError("name a recipe: `resnetlab recipe` alone lists them")
        lines = {name: _rate_in_words(preset) for name, preset in config.RECIPES.items()}
        if as_json:
            _print_json([config.RECIPES[name].model_dump(mode="json") for name in lines])
            return
        for name, line in lines.items():
            preset = config.RECIPES[name]
            print(f"{name:<15} {preset.steps:>7,} steps of {preset.batch_size:<3}  {line}")
        return
    chosen = config.recipe_named(name)
    at = _list_of(drops, "--drops", int) if drops is not None else None
    events, scripted = _scripted(chosen, warm_until, at)
    rates = schedule.stretches(chosen, events)
    if out is not None and Path(out).suffix not in (".html", ".png"):
        raise UsageError(f"--out: a file that ends in .html or .png is needed, got {out!r}")
    if as_json:
        shown = [stretch._asdict() for stretch in rates]
        info: dict[str, Any] = {"name": chosen.name, "recipe": chosen.model_dump(mode="json")}
        _print_json(info | {"events": events._asdict(), "scripted": scripted, "rates": shown})
    else:
        _print_recipe(chosen, rates, scripted)
    if out is not None:
        _write_recipe_figure(Path(out), chosen, rates, scripted)
        if not as_json:
            print(out)


def _scripted(
    recipe: config.Recipe, warm_until: int | None, drops: Sequence[int] | None
) -> tuple[config.Events, list[str]]:
    """Events for the rules that look at errors, and a sentence each on where they come from."""
    from resnetlab import paper
    from resnetlab.config import Events, UsageError

    said = []
    by_error = recipe.warmup_lr is not None and recipe.warmup_steps is None
    if warm_until is not None and not by_error:
        raise UsageError(f"recipe {recipe.name!r} has no warm-up that an error ends")
    if drops is not None and recipe.plateau_patience is None:
        raise UsageError(f"recipe {recipe.name!r} does not wait for plateaus")
    if by_error:
        if warm_until is None:
            warm_until = paper.WARM_UNTIL
            source = 'the paper\'s "about 400 iterations" (Sec. 4.2)'
        else:
            source = "--warm-until"
        said.append(
            f"end of the warm-up at step {warm_until:,}: scripted, {source}; a run decides itself"
        )
    if recipe.plateau_patience is not None:
        if drops is None:
            ratio = recipe.steps / paper.FIGURE_4_STEPS
            drops = [round(step * ratio) for step in paper.FIGURE_4_DROPS][: recipe.plateau_drops]
            source = "Figure 4 (15.0-15.5 and 30.0-30.5 x 10^4)"
            source += "" if ratio == 1 else ", in proportion to the steps"
        else:
            source = "--drops"
        where = " and ".join(f"{step:,}" for step in drops) or "no step"
        said.append(f"plateaus at {where}: scripted, {source}; a run decides itself")
        if list(drops) != sorted(set(drops)) or len(drops) > recipe.plateau_drops:
            raise UsageError(f"--drops: at most {recipe.plateau_drops} steps that increase are needed")
    for option, steps in (("--warm-until", [warm_until]), ("--drops", drops or [])):
        for step in steps:
            if step is not None and not 1 <= step <= recipe.steps:
                raise UsageError(f"{option}: {step} is not a step of 1 to {recipe.steps:,}")
    return Events(warm_until, tuple(drops or ())), said


def _rate_in_words(recipe: config.Recipe) -> str:
    lower, fall = f"divided by {1 / recipe.decay:g}", "constant"
    if recipe.milestones:
        fall = f"{lower} at {' and '.join(f'{at:,}' for at in recipe.milestones)}"
    elif recipe.plateau_patience is not None:
        fall = (
            f"{lower} when {recipe.plateau_patience} tests in a row have not brought the error down by "
            f"{recipe.plateau_margin:g} points, at most {recipe.plateau_drops} times"
        )
    warm = ""
    if recipe.warmup_lr is not None:
        until = f"the training error of {recipe.warmup_window} steps is below {recipe.warmup_error:g} %"
        if recipe.warmup_steps is not None:
            until = f"{recipe.warmup_steps:,} steps are done"
        warm = f"{recipe.warmup_lr:g} until {until}, then "
    return f"{warm}{recipe.lr:g}, {fall}"


def _recipe_in_words(recipe: config.Recipe) -> dict[str, str]:
    decayed = "all parameters" if recipe.decay_norm else "all but batch norm's"
    if recipe.crop is not None and recipe.scale is not None:
        low, high = recipe.scale
        views = [f"shorter side drawn from [{low}, {high}], a square of {recipe.crop} cut out"]
    else:
        views = [f"{recipe.pad} pixels of padding and a random crop" if recipe.pad else "as they are"]
    views += ["mirrored half the time"] if recipe.flip else ["not mirrored"]
    views += ["PCA colour shift"] if recipe.colour == "pca" else []
    means = {"pixel": "the mean image", "channel": "the channel means"}
    views += [f"{means[recipe.mean]} subtracted"]
    views += ["divided by the deviations"] if recipe.mean == "channel" else []
    norm = "over the batch of a device"
    if recipe.ghost_batch is not None:
        norm = f"over groups of {recipe.ghost_batch} images"
    norm += "; statistics of the test: " + (
        "averaged over the training images at the end" if recipe.recompute_norm else "running"
    )
    return {
        "length": f"{recipe.steps:,} steps (updates) of {recipe.batch_size} images",
        "optimizer": f"SGD, momentum {recipe.momentum:g}, "
        f"weight decay {recipe.weight_decay:g} on {decayed}"
        + ("" if recipe.clip is None else f", gradient norm clipped at {recipe.clip:g}"),
        "rate": _rate_in_words(recipe),
        "images": ", ".join(views),
        "batch norm": norm,
        "measured": f"log every {recipe.log_every:,} steps, test {recipe.test_every:,}, "
        f"gradients and weights {recipe.probe_every:,}, checkpoint {recipe.checkpoint_every:,}",
    }


def _print_recipe(
    recipe: config.Recipe, rates: Sequence[schedule.Stretch], scripted: Sequence[str]
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = _console(100)
    settings = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    for key, value in _recipe_in_words(recipe).items():
        settings.add_row(Text(key, style="bold"), Text(value))
    console.print(Text(f"recipe {recipe.name}\n"))
    console.print(settings)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("from step", "to step", "rate", "why"):
        table.add_column(
            heading, justify="left" if heading == "why" else "right", no_wrap=heading != "why"
        )
    for stretch in rates:
        cells = (f"{stretch.step:,}", f"{stretch.until - 1:,}", f"{stretch.lr:g}", stretch.why)
        table.add_row(*map(Text, cells))
    console.print(table)
    for sentence in scripted:
        console.print(Text(f"  {sentence}"))
    console.print()
    for line in _rate_figure(rates):
        console.print(Text(line))


def _rate_figure(rates: Sequence[schedule.Stretch], width: int = 86) -> list[str]:
    """The rate against the step in block characters, on a log scale, two lines a factor of ten."""
    import math

    end, per_decade, eighths = rates[-1].until, 2, " ▁▂▃▄▅▆▇█"
    low = math.log10(min(stretch.lr for stretch in rates))
    levels = {s: 8 * (1 + per_decade * (math.log10(s.lr) - low)) for s in rates}
    # A column shows the rate at its first step, so that a short warm-up is still to be seen.
    columns = [
        round(levels[next(s for s in rates if s.step <= c * end // width < s.until)])
        for c in range(width)
    ]
    height = -(-max(columns) // 8)
    named = {math.ceil(round(level) / 8) - 1: stretch.lr for stretch, level in levels.items()}
    lines = []
    for row in reversed(range(height)):
        label = f"{named[row]:g}" if row in named else ""
        lines.append(f"{label:>8} │" + "".join(eighths[min(8, max(0, c - 8 * row))] for c in columns))
    last = f"{end:,}"
    lines.append(" " * 9 + "└" + "─" * width)
    return [*lines, " " * 10 + "0" + last.rjust(width - 1), " " * 10 + "step".center(width).rstrip()]


def _write_recipe_figure(
    path: Path, recipe: config.Recipe, rates: Sequence[schedule.Stretch], scripted: Sequence[str]
) -> None:
    import pandas as pd

    from resnetlab import files, plots

    light = "light" if path.suffix == ".png" else "neutral"
    frame = pd.DataFrame([stretch._asdict() for stretch in rates])
    figure = plots.learning_rate(frame, recipe.name, "; ".join(scripted), theme=light)  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        files.atomic_write(path, figure.to_html(config=plots.CONFIG).encode())
    else:
        files.atomic_write(path, _png(figure))


def _png(figure: Any) -> bytes:
    try:
        drawn: bytes = figure.to_image("png", width=1100, scale=1.5)
    except (ImportError, ValueError, RuntimeError) as error:
        raise RuntimeError(
            f"figures need `pip install 'resnetlab[figures]'` and Chromium or Chrome ({error})"
        ) from None
    return drawn


# --- data, dashboard --------------------------------------------------------------------------


@data_app.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100 or tiny-imagenet")],
) -> None:
    """Fetch CIFAR-10, CIFAR-100 (170 MB) or Tiny ImageNet (248 MB) into data/, checksums verified."""
    from resnetlab.images import datasets

    if name == "tiny-imagenet":
        from resnetlab.images import tiny_imagenet

        place = tiny_imagenet.download(datasets.data_root())
    else:
        place = datasets.download(name)
    print(f"{name} is in {place}")


@data_app.command("check")
def data_check(
    path: Annotated[
        str, typer.Argument(help="A folder with train/ and test/ or val/; KIND:PATH; tiny-imagenet")
    ],
    fast: Annotated[bool, typer.Option("--fast", help="Read headers only, decode nothing")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at every image of a folder before a long run; exit code 1 if something would spoil it."""
    from collections.abc import Iterable

    from tqdm import tqdm

    from resnetlab import config
    from resnetlab.images import census, datasets, photographs

    def progress(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
        return tqdm(items, what, total, leave=False, disable=as_json or None)  # type: ignore[no-any-return]

    kind, colon, rest = path.partition(":")
    named = bool(colon) and kind in config.FOLDERS
    place = Path(rest if named else path).expanduser()
    if path == "tiny-imagenet" and not place.is_dir():
        place = datasets.data_root() / path
    found = census.inspect(
        place,
        classes=photographs.IMAGENET_CLASSES if named and kind == "imagenet" else None,
        tiny=kind == "tiny-imagenet" if named or path == "tiny-imagenet" else None,
        headers_only=fast,
        progress=progress,
    )
    if as_json:
        _print_json(found.as_dict())
    else:
        for split in found.splits.values():
            kinds = ", ".join(f"{count:,} {name}" for name, count in split.kinds.items())
            print(f"{split.folder}/  {split.images:,} images in {len(split.classes):,} classes")
            for what, numbers in (
                ("a class", split.per_class),
                ("width", split.width),
                ("height", split.height),
            ):
                span = f"{numbers.least:,} to {numbers.greatest:,}, median {numbers.median:,g}"
                print(f"  {what:<8} {span}")
            print(f"  {'kinds':<8} {kinds or 'none'}; {split.bytes / 1e6:,.1f} MB")
        for word, sentences in (("note", found.notes), ("problem", found.problems)):
            for sentence in sentences:
                print(f"{word}: {sentence}")
        print(f"{len(found.problems)} problem(s)" if found.problems else "no problem found")
    if found.problems:
        raise typer.Exit(1)


@data_app.command("show")
def data_show(
    name: Annotated[str, typer.Argument(help=DATA_HELP)],
    as_json: JsonOption = False,
) -> None:
    """Classes, image shape, sizes and hash of a data set, read whole."""
    from resnetlab import config
    from resnetlab.images import datasets, photographs

    spec = config.images_named(name)
    found = photographs.load(spec) if spec.large else datasets.load(spec)
    info = {"data": spec.label} | found.describe()
    if as_json:
        _print_json(info)
        return
    for key, value in info.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        print(f"{key:<11} {shown}")


@app.command()
def bench(
    parts: Annotated[
        list[str] | None, typer.Argument(help="Scripts in benchmarks/, such as speed [default: all]")
    ] = None,
) -> None:
    """Measure speed here and write the tables of benchmarks/. Leave the machine alone meanwhile."""
    import subprocess

    from resnetlab import config, files

    folder = files.project_root() / "benchmarks"
    known = [path.stem for path in sorted(folder.glob("*.py")) if "def main" in path.read_text()]
    if not known:
        raise config.UsageError(f"{folder} holds no benchmarks: run this inside the project's folder")
    for part in parts or known:
        if part not in known:
            raise config.UsageError(f"no benchmark {part!r}{config.did_you_mean(part, known)}")
    failed = []
    for part in parts or known:
        print(f"-- {part}", flush=True)
        if subprocess.run([sys.executable, str(folder / f"{part}.py")]).returncode:
            failed.append(part)
    if failed:
        print(f"error: failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8501,
    listen: Annotated[
        str, typer.Option(help="Address to listen on; another than this machine's opens it to others")
    ] = "127.0.0.1",
    lab: Annotated[
        bool | None,
        typer.Option("--lab/--no-lab", help="Start runs from the page [default: only on 127.0.0.1]"),
    ] = None,
    results: ResultsOption = None,
    browser: Annotated[bool, typer.Option(help="Open the page")] = True,
) -> None:
    """Open the dashboard on 127.0.0.1. It reads results and never loads torch."""
    import ipaddress

    from resnetlab import files, store
    from resnetlab.config import UsageError

    script = files.project_root() / "dashboard" / "app.py"
    if not script.is_file():
        raise UsageError(f"{script} is missing: run this inside the project's folder")
    listen = "127.0.0.1" if listen == "localhost" else listen
    try:
        address = ipaddress.ip_address(listen)
    except ValueError:
        raise UsageError(
            f"--listen: an address such as 127.0.0.1 or 0.0.0.0 is needed, got {listen!r}"
        ) from None
    with_lab = address.is_loopback if lab is None else lab
    settings = {
        "server.address": listen,
        "server.port": port,
        "server.headless": "false" if browser else "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
    }
    if not address.is_loopback:
        settings["server.allowedHosts"] = "*"  # the names by which others reach it are not known here
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    environment = os.environ | {
        "RESNETLAB_RESULTS": str(store.results_root(results).resolve()),
        "RESNETLAB_LAB": "1" if with_lab else "0",
    }
    host = f"[{listen}]" if address.version == 6 else listen
    print(f"http://{host}:{port}  (Ctrl-C ends it)", flush=True)
    if not address.is_loopback:
        may = "read every result here" + (" and start runs on this machine" if with_lab else "")
        off = "--no-lab turns the Live lab off" if with_lab else "the Live lab is off"
        print(
            f"warning: everyone who can reach {listen} may {may}: no password, no encryption; {off}.",
            flush=True,
        )
    command = [sys.executable, "-m", "streamlit", "run", str(script), *words]
    os.execve(sys.executable, command, environment)  # signals then reach Streamlit itself


def main() -> None:
    """Entry point: a usage error exits with 2, any other known failure with 1, each in one message."""
    from resnetlab.config import UsageError

    try:
        app()
    except UsageError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except (RuntimeError, OSError, MemoryError) as error:
        if os.environ.get("RESNETLAB_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _fail("the disk is full; free some space, then the same command goes on", 1)
        _fail(f"{error or type(error).__name__}", 1)


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


if __name__ == "__main__":
    main()
