"""What is wrong with the runs of a study, why, and what to do about it."""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

from resnetlab import files
from resnetlab.config import UsageError, commands
from resnetlab.store.alive import STALE_SECONDS, silence
from resnetlab.store.find import Study, unreadable
from resnetlab.store.reader import RunRecord, Skipped, read_lines, torn_lines
from resnetlab.store.schema import EVALUATIONS_FILE, REFERENCE, RUN_FILE, check_name

# kind -> its meaning and remedy; the worst first
KINDS: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, its kind (of KINDS), why, and what to do; maybe a command."""

    study: str
    run: str
    state: str
    kind: str
    reason: str
    remedy: str
    command: str = ""


def problems(name: str, study: Study, root: Path) -> list[Problem]:
    """Everything that is wrong in a study of that name, the worst first; `root`: the results folder.

    What goes wrong while looking at one run is that run's problem only.
    """
    rows = [
        Problem(name, item.path.name, "left out", *_of_skipped(item, root)) for item in study.skipped
    ]
    if reason := unreadable(study.path):
        remedy = "Give yourself the right to read it; its runs then show by themselves."
        rows.append(Problem(name, "", "left out", "damaged", f"the folder: {reason}", remedy))
    for run in study.runs:
        try:
            rows += [
                Problem(name, run.name, run.status, kind, reason, *_remedy(kind, run, root))
                for kind, reason in _of_run(run)
            ]
        except Exception as error:  # a page on damage must not fall to a kind nobody thought of
            reason = f"looking at it failed ({type(error).__name__})"
            rows.append(Problem(name, run.name, "unknown", "damaged", reason, "Look at its files."))
    return sorted(rows, key=lambda problem: list(KINDS).index(problem.kind))


def _of_skipped(item: Skipped, root: Path) -> tuple[str, str, str, str]:
    """Kind, reason, remedy and command of a folder that is no readable run."""
    if item.reason.startswith(f"no {RUN_FILE}"):
        return "no run", item.reason, KINDS["no run"]["remedy"], ""
    if "format is version" in item.reason:
        return "unknown version", item.reason, KINDS["unknown version"]["remedy"], ""
    if _committed(item.path):
        return "damaged", item.reason, *_checkout(item.path)
    away = root.absolute().parent / f"{item.path.name}.damaged"
    command = shlex.join(["mv", str(item.path.absolute()), str(away)])
    return "damaged", item.reason, KINDS["damaged"]["remedy"], command


def _committed(path: Path) -> bool:
    return path.parent.parent.name == REFERENCE


def _checkout(path: Path) -> tuple[str, str]:
    if files.installed():
        command = "pip install --force-reinstall --no-deps resnetlab"
        return "It comes with the package: install that again.", command
    command = shlex.join(["git", "checkout", "--", str(path.absolute())])
    return "It ships with the project: get the committed files back.", command


def _of_run(run: RunRecord) -> list[tuple[str, str]]:
    """Kind and reason of all that is wrong with one readable run; empty for a healthy one."""
    gone = run.status == "interrupted" and run.info.get("status") == "running"
    kind = "stale" if gone else run.status if run.status in KINDS else "torn"
    rows: list[tuple[str, str]]
    rows = [("torn" if "torn or damaged" in reason else kind, reason) for reason in run.problems]
    if bad := read_lines(run.path / EVALUATIONS_FILE)[1]:
        rows.append(("torn", f"{torn_lines(bad)} left out of its evaluations"))
    minutes = silence(run.info) / 60
    if run.status == "running" and minutes > STALE_SECONDS / 60:
        reason = f"no sign of life for {minutes:,.0f} minutes, but its process still runs"
        rows.append(("stale", reason))
    if run.status not in ("running", "finished") and kind not in dict(rows):
        rows.append((kind, "no reason was written down"))
    return rows


def _remedy(kind: str, run: RunRecord, root: Path) -> tuple[str, str]:
    """What to do in words, and the command for it ("" if there is nothing to type)."""
    if kind == "torn" and _committed(run.path):
        return _checkout(run.path)
    if kind == "torn" and run.status == "running":
        return "Nothing to do now: it is still training; half a line is read at the next look.", ""
    if kind == "torn" and run.status == "finished":
        return "Nothing has to be done: everything else of it was read and is shown.", ""
    command = "" if kind == "diverged" else _again(run, root)
    if kind == "stale" and run.status == "running":
        where = f"process {run.info.get('pid')} on {run.info.get('host')}"
        return f"See what {where} does; if it hangs, end it, and the command resumes the run.", command
    return KINDS[kind]["remedy"], command


def _again(run: RunRecord, root: Path) -> str:
    """The command that resumes or repeats the run in its own folder; "" if none can say it."""
    try:
        check_name("study", run.study)
        check_name("run", run.name)
    except UsageError:
        return ""
    command = commands.of_run(run.config, run.info.get("execution"))
    if command.startswith(commands.NO_COMMAND):
        return ""
    notebook = command.startswith("papermill")
    # torchrun takes --run for an abbreviation of an option of its own.
    places = {"study": run.study, "run" if notebook else "run-name": run.name}
    if not files.is_usual(root):  # the command is for a terminal that was told nothing
        places["results"] = str(root.absolute())
    option = "-p {} {}" if notebook else "--{} {}"
    return " ".join([command, *(option.format(key, shlex.quote(v)) for key, v in places.items())])
