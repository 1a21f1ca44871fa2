"""Verbs that train: `study` and `train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnetlab.cli.options import (
    DATA_HELP,
    INTERRUPTED,
    BatchOption,
    ClipOption,
    CropOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    LrOption,
    PrecisionOption,
    RecipeOption,
    ResultsOption,
    StepsOption,
    ValidationOption,
    _list_of,
    app,
)
from resnetlab.cli.terminal import (
    _console,
    _errors,
    _first_process,
    _print_json,
    _print_means,
    _Progress,
)

if TYPE_CHECKING:
    from resnetlab import store
    from resnetlab import studies as study


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
