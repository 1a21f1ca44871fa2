"""Finding studies, runs and weights by name, and many runs as one table."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from resnetlab import config as configs
from resnetlab import files
from resnetlab.config import Data, Start, UsageError
from resnetlab.store import schema
from resnetlab.store.plan import Plan, read_plan
from resnetlab.store.pretrained import shipped
from resnetlab.store.reader import (
    RunRecord,
    Skipped,
    identity_of,
    read_folder,
    read_run,
    shipped_run,
)

WITHOUT_WEIGHTS = (
    "most committed runs come without; train it again (`resnetlab show` gives the command)"
)


@dataclass(frozen=True)
class Study:
    """The runs of one study folder, by name, and what lies there that is none."""

    path: Path
    runs: tuple[RunRecord, ...]
    skipped: tuple[Skipped, ...]

    @property
    def name(self) -> str:
        return self.path.name

    def table(self) -> pd.DataFrame:
        """One row per run, as `RunRecord.as_row`."""
        return table_of(self.runs)

    @property
    def plan(self) -> Plan | None:
        """What others were asked to train, if they were."""
        return read_plan(self.path)

    def queued(self) -> list[dict[str, Any]]:
        """As `RunRecord.as_row`, one row per run of the plan that has not begun: status queued."""
        there, plan = {run.name for run in self.runs}, self.plan
        waiting = {name: run for name, run in plan.runs.items() if name not in there} if plan else {}
        nothing: dict[str, Any] = dict.fromkeys((*schema.OUTCOME, *schema.FINAL))
        return [
            identity_of(run, self.name, name)
            | nothing
            | {"status": schema.QUEUED, "steps": 0, "steps_planned": run.recipe.steps}
            for name, run in waiting.items()
        ]


def identities(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """`RunRecord.identity` of each, where one name of images never stands for two sets of them.

    Where folders of one name hold other images, by the SHA-256 that run.json has of them, its first
    six digits are said behind the name: those runs are no seeds of one another.
    """
    found = [run.identity() for run in runs]
    several: dict[str, set[str]] = {}
    for run, who in zip(runs, found, strict=True):
        if run.config.data.path is not None and run.images_sha256 is not None:
            several.setdefault(who["data"], set()).add(run.images_sha256)
    for run, who in zip(runs, found, strict=True):
        if len(several.get(who["data"], ())) > 1 and run.images_sha256 is not None:
            who["data"] = f"{who['data']} [{run.images_sha256[:6]}]"
    return found


def table_of(runs: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per run, as `RunRecord.as_row`; what is not known is NaN."""
    runs = list(runs)
    rows = [run.as_row() | who for run, who in zip(runs, identities(runs), strict=True)]
    frame = pd.DataFrame(rows, columns=[*schema.IDENTITY, *schema.OUTCOME])
    return frame.astype(dict.fromkeys(schema.FINAL, float))


def _identified(runs: Sequence[RunRecord], frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The runs' frames below one another, each row with who it is."""
    parts = [(who, frame) for who, frame in zip(identities(runs), frames, strict=True) if len(frame)]
    if not parts:
        return pd.DataFrame(columns=list(schema.IDENTITY))
    together = pd.concat([frame for _, frame in parts], keys=range(len(parts)), names=["part"])
    who = pd.DataFrame([identity for identity, _ in parts], columns=list(schema.IDENTITY))
    return together.join(who, on="part").reset_index(drop=True)


def metrics_of(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """All metrics rows of the runs, with `status` and the columns of IDENTITY; frames for `plots`."""
    return _identified(runs, (run.metrics.assign(status=run.status) for run in runs))


def probes_of(runs: Sequence[RunRecord], kind: str = "gradient_norm") -> pd.DataFrame:
    """All rows of one probe kind (step, layer, name, value), with the columns of IDENTITY."""
    return _identified(runs, (run.probe(kind) for run in runs))


def folders_in(path: Path) -> list[Path]:
    try:
        folders = [item for item in path.iterdir() if item.is_dir() and item.name[0] not in "._"]
    except OSError:
        return []
    return sorted(folders, key=_natural)


def unreadable(folder: Path) -> str:
    """Why a folder cannot be listed, in the system's words; "" if it can or is not there."""
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts plain-8 before plain-20."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def read_study(path: str | Path, read: Callable[[Path], RunRecord | Skipped] = read_folder) -> Study:
    """All runs of one study folder. A missing or empty folder gives a study without runs.

    `read` reads one of its folders; the dashboard gives one that remembers.
    """
    no_runs = (schema.FIGURES, schema.MEASUREMENTS)
    items = [read(folder) for folder in folders_in(Path(path)) if folder.name not in no_runs]
    runs = tuple(item for item in items if isinstance(item, RunRecord))
    return Study(Path(path), runs, tuple(item for item in items if isinstance(item, Skipped)))


def find_studies(root: str | Path | None = None) -> list[Path]:
    """Study folders of the results folder: the user's own first, then the reference ones.

    An own folder without a run, but say with a notebook over the committed ones, hides none of these.
    """
    base = schema.results_root(root)
    shipped = folders_in(schema.reference_root(base))
    names = {folder.name for folder in shipped}
    own = [path for path in folders_in(base) if path.name not in names or folders_in(path)]
    folders = [*own, *shipped]
    no_studies = (schema.REFERENCE, schema.OF_REFERENCE, schema.MEASUREMENTS, *schema.LESSONS)
    return [folder for folder in folders if folder.name not in no_studies]


def label_of(study: Path, root: Path) -> str:
    """STUDY, or reference/STUDY for the folder of a committed one."""
    return study.name if study.parent == root else f"{schema.REFERENCE}/{study.name}"


def made_of(study: Path, root: Path) -> Path:
    """The folder for what is made of a study, such as its report: its own, never the installation."""
    shipped = files.project() / files.RESULTS / schema.REFERENCE
    if study.parent != shipped or shipped == root / schema.REFERENCE:
        return study
    return schema.prepare_root(root) / schema.OF_REFERENCE / study.name


def find_study(name: str, root: str | Path | None = None) -> Study:
    """The study of that name, the user's own before a reference one. UsageError if there is none."""
    paths = find_studies(root)
    for path in paths:
        if path.name == name:
            return read_study(path)
    known = list(dict.fromkeys(path.name for path in paths))
    none_yet = f"; there are no studies yet: `{files.to_type('study')}`"
    hint = configs.did_you_mean(name, known) if known else none_yet
    raise UsageError(f"no study {name!r} in {schema.results_root(root)}{hint}")


def find_run(name: str, root: str | Path | None = None) -> RunRecord:
    """The run called STUDY/RUN, reference/STUDY/RUN, RUN (if one study has it) or by its path.

    The user's own come before reference ones of the same name. UsageError if there is none.
    """
    if os.path.isfile(os.path.join(name, schema.RUN_FILE)):  # False for what can be no path
        return read_run(name)
    base = schema.results_root(root)
    # STUDY/RUN or reference/STUDY/RUN -> folder; the user's own come first
    paths = {
        f"{label_of(study, base)}/{folder.name}": folder
        for study in find_studies(root)
        for folder in folders_in(study)
    }
    short = {key: key.removeprefix(f"{schema.REFERENCE}/") for key in paths}
    hits = [key for key in paths if name in (key, short[key])][:1]
    if not hits:
        named = [key for key in paths if paths[key].name == name]
        hits = [key for key in named if key == short[key]] or named
    if len(hits) > 1:
        raise UsageError(f"several runs are called {name!r}: {', '.join(hits)}")
    if not hits:
        known = list(paths)
        hint = configs.did_you_mean(name, known) if known else "; there are no runs yet"
        raise UsageError(f"no run {name!r} in {schema.results_root(root)}{hint}")
    return read_run(paths[hits[0]])


def begun(run: RunRecord) -> str:
    """When the run was started last, as its file has it; "" where it does not say."""
    starts = run.info.get("starts")
    last = starts[-1] if isinstance(starts, list) and starts else {}
    return str(last.get("time", "")) if isinstance(last, dict) else ""


def notes(runs: Iterable[RunRecord]) -> list[str]:
    """What must stand beside the results of these runs, a sentence each.

    Test images that are training images, as run.json counted them; clipping, which is not the paper's;
    a rate that fell by the test error.
    """
    sentences = []
    for run in runs:
        if (clip := run.config.recipe.clip) is not None:
            sentences.append(
                f"The gradient norm of each step is clipped at {clip:g}; the paper did not clip."
            )
        recipe = run.config.recipe
        if recipe.plateau_patience is not None and not run.config.data.validation:
            paper = "" if recipe.follows_held_out else " (the paper: 'when the error plateaus')"
            sentences.append(
                f"The learning rate falls where the test error stands still{paper}: the test images "
                "had a say in the training; with `validation` held-out training images have it."
            )
        match run.info.get("dataset"):
            case {"in_both": int(shared), "test": int(images)} if shared > 0:
                folder = run.config.data.name.startswith("folder:")
                sentences.append(
                    f"{shared:,} of the {images:,} test images of {run.config.data.label} are training "
                    f"images too{'.' if folder else ': they stay in, as the set is distributed.'}"
                )
    return list(dict.fromkeys(sentences))


def weights_named(name: str, root: str | Path | None = None) -> dict[str, str]:
    """The `start_from` of `config.run_from_parameters` for a run's trained weights: see `find_run`."""
    return start_of(find_run(name, root))


def start_of(record: RunRecord) -> dict[str, str]:
    """The `start_from` of `config.run_from_parameters` for the trained weights of this run.

    Raises UsageError for a run that has not ended, has no weights, or is of an edited network whose
    layers are not the ordinary ones.
    """
    who = f"{record.study}/{record.name}"
    if record.weights_sha256 is None:
        raise UsageError(f"{who} is {record.status}: only a run that has ended can be started from")
    if not record.has_weights:
        raise UsageError(f"{who} has no weights to start from: {WITHOUT_WEIGHTS}")
    if _scaled(record):
        raise UsageError(f"{who} has scaled shortcuts: no ordinary network continues it")
    start = {"study": record.study, "run": record.name, "network": record.network.name}
    return start | {"sha256": record.weights_sha256}


def _scaled(record: RunRecord) -> bool:
    return record.config.surgery is not None and record.config.surgery.shortcut_scale is not None


def weights_of(start: Start, data: Data, root: Path) -> RunRecord:
    """The run whose trained weights `start` names: the user's own, a reference one, the package's.

    By what its summary says; whether the checkpoint holds them, its reader checks. Raises UsageError
    with what was found instead: no run, another network or data set, other weights, no checkpoint.
    """
    refused = []
    studies = (root / start.study, schema.reference_root(root) / start.study)
    found = [read_folder(study / start.run) for study in studies]
    found += [shipped_run(path) for path in [shipped().get(start.sha256)] if path]
    for record in found:
        if isinstance(record, Skipped):
            refused.append(f"{record.path}: {record.reason}")
            continue
        if record.network.name != start.network or _scaled(record):
            refused.append(f"{record.path} is of {record.config.network_name}, not of {start.network}")
        elif record.config.data != data:
            refused.append(f"{record.path} was trained on {record.config.data.label}, not {data.label}")
        elif record.weights_sha256 != start.sha256:
            refused.append(f"{record.path} has other weights ({str(record.weights_sha256)[:12]})")
        elif not record.has_weights:
            refused.append(f"{record.path} has them, but no checkpoint: train it again")
        else:
            return record
    raise UsageError(
        f"the weights of {start.study}/{start.run} (SHA-256 {start.sha256[:12]}) are not there:\n  "
        + "\n  ".join(refused)
    )
