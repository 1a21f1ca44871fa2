"""Verbs that train: `study` and `train`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.text import Text
from typer import Argument, Option

from resnetlab import config, files, machine, store, studies, verdict
from resnetlab.cli import options
from resnetlab.cli.options import DeviceOption, EngineOption, JsonOption, ResultsOption, app, list_of
from resnetlab.cli.terminal import StudyProgress, errors_of, first_process, print_json, say, say_means
from resnetlab.config import UsageError, commands, extras
from resnetlab.studies import cluster, notebook

# Options of a study that say where it runs: a cell's command has its own. Whether a value follows.
WHERE = dict.fromkeys(("--on", "--slurm", "--at-once", "--jobs", "--results", "--only"), True)
WHERE |= dict.fromkeys(("--plan", "--json", "--together", "--apart", "--report", "--no-report"), False)


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
    only: Annotated[
        str | None,
        Option(help="Only these runs, such as plain-20-seed0,plain-56-seed0; '': only the report"),
    ] = None,
    report: Annotated[
        bool, Option("--report/--no-report", help="End with the notebook over the whole study")
    ] = True,
    plan: Annotated[
        bool, Option("--plan", help="Start nothing: each run, how it stands, and its command")
    ] = False,
    on: Annotated[str, Option(help="here, or slurm: a job array, in the background")] = "here",
    slurm: Annotated[
        list[str] | None, Option(help="Passed on to sbatch, such as --slurm=--gres=shard:1; repeatable")
    ] = None,
    at_once: Annotated[int | None, Option(min=1, help="Runs at a time on the cluster")] = None,
    results: ResultsOption = None,
    as_json: JsonOption = False,
    **chosen: Any,
) -> None:
    """Run a grid of networks, one notebook each, and answer the question over them.

    Finished runs are skipped, interrupted ones resumed; a run that fails does not stop the others.
    Exit codes: 0 all has ended, 1 something failed, 2 a request that cannot be met, 75 another process
    trains it (only with --only and --no-report; otherwise it is watched), 130 interrupted.
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
    root, named = store.results_root(results), _runs_named(only, grid)
    if on not in ("here", "slurm"):
        raise UsageError(f"--on: here or slurm is needed, got {on!r}")
    if not plan:
        extras.require_train()
    if plan or on == "slurm":
        command = [sys.executable, "-m", "resnetlab", *cluster.words_of(sys.argv[1:], WHERE)]
        command += ["--results", str(root.resolve())]
        if plan:
            _tell_plan(cluster.plan(grid, root, command), as_json)
        else:
            how: dict[str, Any] = {"at_once": at_once, "report": report, "only": named}
            _tell_submitted(grid, cluster.submit(grid, root, command, options=slurm or (), **how))
        return
    watcher = StudyProgress()
    outcome = studies.run(
        grid,
        root=root,
        jobs=jobs,
        device=device,
        engine=engine,
        together=together,
        report=report,
        only=named,
        watch=report or named is None,
        watcher=watcher,
    )
    watcher.close()
    _tell_outcome(outcome, store.read_study(outcome.folder), whole=report or named is None)
    if outcome.interrupted:
        raise typer.Exit(options.INTERRUPTED)
    if outcome.failed:
        raise typer.Exit(1)
    if outcome.elsewhere:
        raise typer.Exit(options.ANOTHER_WRITER)


def _runs_named(only: str | None, grid: config.Grid) -> tuple[str, ...] | None:
    """The runs that `--only` names; None without it. UsageError for one that the grid does not have."""
    named, known = list_of(only, "--only", str), grid.runs()
    for name in named or ():
        if name not in known:
            raise UsageError(f"{grid.name} has no run {name!r}{config.did_you_mean(name, known)}")
    return named


def _tell_plan(plan: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    for name, cell in plan["runs"].items():
        say(f"{name:<24} {cell['status']:<12} {shlex.join(cell['command'])}", width=10_000)
    say(f"{'then the report':<37} {shlex.join(plan['report']['command'])}", width=10_000)


def _tell_submitted(grid: config.Grid, given: cluster.Submitted) -> None:
    numbers = [job.number or "" for job in (given.array, given.report) if job is not None]
    if given.array is None:
        say(f"Every run of {grid.name} has ended or is running.")
    else:
        count = f"{len(given.runs)} of {len(grid.runs())} runs"
        say(f"{count} handed to Slurm as job {given.array.number}, a task each")
    if given.report is not None:
        say(f"The report           job {given.report.number}")
    say(f"How they stand       resnetlab list {grid.name}")
    if numbers:
        say(f"Cancel               scancel {' '.join(numbers)}")


def _tell_outcome(outcome: studies.Outcome, ended: store.Study, *, whole: bool) -> None:
    """How it ended; of the `whole` study its table and verdict, of a cell only what is its own."""
    if whole:
        table = ended.table()
        say("")
        say_means(verdict.by_network(table))
        say(*(f"  {sentence}" for sentence in (*verdict.answers(table), *store.notes(ended.runs))))
    say(*(Text(f"note: {note}", style="yellow") for note in outcome.notes))
    say(*(Text(f"failed: {failure}", style="red") for failure in outcome.failed), "")
    say(*(f"Another process trains {name}; try again later." for name in outcome.elsewhere))
    if outcome.interrupted:
        say("Interrupted; the same command goes on from here.")
    if outcome.report is not None:
        say(f"Figures and table   {outcome.report}")
    if not whole:
        return
    say(f"Runs                {outcome.folder}")
    say(f"Look in a browser   {files.to_type('dashboard')}")


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
    machine.wait_passively()
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
