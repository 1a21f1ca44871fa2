"""Verbs that train: `study` and `train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.text import Text
from typer import Argument, Option

from resnetlab import config, store, studies, verdict
from resnetlab.cli import options
from resnetlab.cli.options import DeviceOption, EngineOption, JsonOption, ResultsOption, app, list_of
from resnetlab.cli.terminal import StudyProgress, errors_of, first_process, print_json, say, say_means
from resnetlab.config import commands, extras
from resnetlab.studies import notebook


@app.command()
@options.with_training_options
def study(
    name: Annotated[
        str, Argument(help="digits, short, depth-real, figure-6, shortcuts, imagenet-tiny, ...")
    ] = "digits",
    depths: Annotated[str | None, Option(help="Such as 20,56 or 18,34")] = None,
    shortcuts: Annotated[str | None, Option(help="Of none,A,B,C; none is plain")] = None,
    also: Annotated[
        str | None, Option(help="Further networks by name, such as resnet-50,resnet-101")
    ] = None,
    seeds: Annotated[str | None, Option(help="Such as 0,1,2")] = None,
    data: Annotated[str | None, Option(help=options.DATA_HELP)] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    jobs: Annotated[
        int | None, Option(help="Processes side by side (default: one per core; one on a GPU)")
    ] = None,
    together: Annotated[
        bool | None,
        Option(
            "--together/--apart",
            help="All runs in one process, in turn (default: on a GPU without --jobs)",
        ),
    ] = None,
    folder: Annotated[
        str | None, Option("--name", help="Study folder (default: NAME, or NAME-DATA)")
    ] = None,
    results: ResultsOption = None,
    **chosen: Any,
) -> None:
    """Run a grid of networks, one notebook each, and answer the question over them.

    Finished runs are skipped, interrupted ones resumed; a run that fails does not stop the others.
    """
    grid = config.grid_named(
        name,
        data=data,
        name_of_folder=folder,
        depths=list_of(depths, "--depths", int),
        shortcuts=list_of(shortcuts, "--shortcuts", str),
        also=list_of(also, "--also", str),
        seeds=list_of(seeds, "--seeds", int),
        overrides={option: chosen.pop(option) for option in commands.OPTIONS},
        **chosen,
    )
    extras.require_train()
    root, watcher = store.results_root(results), StudyProgress()
    outcome = studies.run(
        grid, root=root, jobs=jobs, device=device, engine=engine, together=together, watcher=watcher
    )
    watcher.close()
    _tell_outcome(outcome, store.read_study(outcome.folder))
    if outcome.interrupted:
        raise typer.Exit(options.INTERRUPTED)
    if outcome.failed:
        raise typer.Exit(1)


def _tell_outcome(outcome: studies.Outcome, ended: store.Study) -> None:
    table = ended.table()
    say("")
    say_means(verdict.by_network(table))
    say(*(f"  {sentence}" for sentence in (*verdict.answers(table), *store.notes(ended.runs))))
    say(*(Text(f"note: {note}", style="yellow") for note in outcome.notes))
    say(*(Text(f"failed: {failure}", style="red") for failure in outcome.failed), "")
    if outcome.interrupted:
        say("Interrupted; the same command goes on from here.")
    if outcome.report is not None:
        say(f"Figures and table   {outcome.report}")
    say(f"Runs                {outcome.folder}")
    say("Look in a browser   make dashboard   (or: resnetlab dashboard)")


@app.command()
@options.with_training_options
def train(
    network: Annotated[
        str, Argument(help="plain-56, resnet-56-B, resnet-50, ...: `resnetlab networks`")
    ],
    data: Annotated[str, Option(help=options.DATA_HELP)] = "digits",
    seed: Annotated[int, Option(help="Weights, order and augmentation follow from it")] = 0,
    shortcut_scale: Annotated[
        float | None, Option(help="y = F(x) + a x with this a, between 0 and 1 (nets/surgery.py)")
    ] = None,
    start_from: Annotated[
        str | None, Option(help="STUDY/RUN of a shallower network: begin with it, layers appended")
    ] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    threads: Annotated[int | None, Option(help="CPU threads (default: all cores)")] = None,
    study: Annotated[str, Option(help="Study folder to write into")] = "runs",
    run: Annotated[
        str | None,
        Option(
            "--run", "--run-name", help="Run folder (default: network, seed, data and recipe)"
        ),  # torchrun takes --run for an abbreviation of an option of its own
    ] = None,
    results: ResultsOption = None,
    as_json: JsonOption = False,
    **chosen: Any,
) -> None:
    """Train one network without a notebook; the same command resumes it after an interruption.

    On several devices: torchrun --nproc-per-node N -m resnetlab train NETWORK ...
    """
    asked = config.run_from_parameters(
        network=network,
        data=data,
        seed=seed,
        shortcut_scale=shortcut_scale,
        start_from=store.weights_named(start_from, results) if start_from else None,
        **{option: value for option, value in chosen.items() if value is not None},
    )
    store.check_name("study", study)
    if run is not None:
        store.check_name("run", run)
    extras.require_train()
    store.prepare_root(store.results_root(results))
    from resnetlab.training import fit  # torch: only once the request is known to be good

    def on_row(row: Mapping[str, Any]) -> None:
        if not as_json:
            print(notebook.progress_line(row, asked), flush=True)

    how: dict[str, Any] = {"device": device, "threads": threads, "engine": engine, "on_row": on_row}
    record = fit(asked, study=study, name=run, results_folder=results, **how)
    if as_json and first_process():
        print_json(record.as_row())
    elif first_process():
        head = f"{record.study}/{record.name}: {record.status} at step {record.steps_done}"
        print(f"{head}  {errors_of(record)}\n{record.path}")
    if record.status == "interrupted":
        raise typer.Exit(options.INTERRUPTED)
