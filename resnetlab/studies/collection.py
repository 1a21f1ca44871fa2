"""The runs that a question notebook asks for: those that are there, and the rest trained now."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from resnetlab import config, machine, store
from resnetlab.config import Grid, UsageError
from resnetlab.studies import notebook, runner

BRIEF_STEPS = 50  # of small networks on the digits: done before a process has loaded torch


def folder_name(study: str, data: str, steps: int | None = None, recipe: str = "") -> str:
    """The study's folder, with what is not its usual: `digits`, `digits-cifar10-short-200-steps`.

    No folder says one thing and holds another. UsageError for a bad name.
    """
    parts = [store.check_name("study", study)]
    parts += [config.images_named(data).slug] if data != "digits" else []
    parts += [config.recipe_named(recipe).name] if recipe else []
    parts += [f"{steps}-steps"] if steps is not None else []
    return store.check_name("study", "-".join(parts))


def collect(
    grid: Grid,
    *,
    root: Path,
    jobs: int | None = None,
    device: str = "auto",
    watcher: runner.Watcher | None = None,
    weights: bool = False,
) -> list[store.RunRecord]:
    """The grid's runs, all ended: those that are there, own or committed, and the rest trained now.

    A run counts if it is the same configuration, in the study's own folder of the results, else in
    that of the reference results, else in any other study, whatever its name there; with `weights`,
    only if it has some: a checkpoint, or those that come with the package, which then need no run in
    the results (such a run has no logs). Runs of at most BRIEF_STEPS are trained in this process,
    together: to start one for each would take longer than they do.

    Raises RuntimeError, with the reasons, if one fails, UsageError if one that has ended has lost its
    checkpoints, and KeyboardInterrupt if it was stopped.
    """
    wanted = grid.runs()
    records = _ended(wanted, grid.name, root, weights)
    missing = {name: run for name, run in wanted.items() if name not in records}
    if missing and jobs is None and all(run.recipe.steps <= BRIEF_STEPS for run in missing.values()):
        _train_here(missing, root / grid.name, device, watcher or runner.Watcher())
    elif missing:
        outcome = runner.run(
            grid, root=root, jobs=jobs, device=device, report=False, only=missing, watcher=watcher
        )
        if outcome.interrupted:
            raise KeyboardInterrupt
        if outcome.failed:
            raise RuntimeError("\n".join(outcome.failed))
    if missing:
        records = _ended(wanted, grid.name, root, weights)
    for name in wanted:
        if name not in records:
            raise UsageError(
                f"{grid.name}/{name} has ended and its checkpoints are gone: remove the folder "
                f"{root / grid.name / name}, and it is trained again"
            )
    return [records[name] for name in wanted]


def _ended(
    wanted: Mapping[str, config.Run], study: str, root: Path, weights: bool
) -> dict[str, store.RunRecord]:
    """Those of the runs that have ended, by their names in the grid."""
    names = {run.spelt().hash(): name for name, run in wanted.items()}
    records: dict[str, store.RunRecord] = {}
    # Those of the study's name first; a place that comes again adds nothing.
    places = (root / study, store.reference_root(root) / study, *store.find_studies(root))
    there = (record for place in places for record in store.read_study(place).runs)
    along = (store.shipped_run(path) for path in store.shipped().values()) if weights else ()
    for record in itertools.chain(there, along):
        name = names.get(record.config.spelt().hash())
        usable = record.status in store.ENDED and (record.has_weights or not weights)
        if name is not None and usable:
            records.setdefault(name, record)
        if len(records) == len(wanted):
            break
    return records


def _train_here(
    runs: Mapping[str, config.Run], folder: Path, device: str, watcher: runner.Watcher
) -> None:
    """Train them in this process; raises as `collect` does."""
    from resnetlab import training

    source = notebook.find(runner.TRAIN_NOTEBOOK)
    executions = {
        name: runner.Execution(name, source, folder / name / store.NOTEBOOK_FILE, {}, run.recipe.steps)
        for name, run in runs.items()
    }
    watcher.begin(list(executions.values()), [], len(runs), machine.usable_cores())
    ended = training.fit_together(runs, study=folder.name, results_folder=folder.parent, device=device)
    failed, statuses = list[str](), dict[str, store.Status]()
    for name, result in ended.items():
        if isinstance(result, Exception):
            failed.append(f"{name}: {result}")
        statuses[name] = "failed" if isinstance(result, Exception) else result.status
        watcher.ended(executions[name], statuses[name])
    if failed:
        raise RuntimeError("\n".join(failed))
    if any(statuses.get(name) not in store.ENDED for name in runs):
        raise KeyboardInterrupt
