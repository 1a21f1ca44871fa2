"""A study on a cluster: its cells as a plan for any engine, and on Slurm as a job array and a report.

Nothing waits here: the array is Slurm's, and how its runs stand is in the results folder, which all its
machines share. Slurm's accounting is not asked, as many clusters have none.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetlab import files, store
from resnetlab.config import Grid, UsageError

FOLDER = ".slurm"  # in the study's: the script and the output of its tasks
WARNING = 120  # seconds before the time limit
ANSWER_SECONDS = 30.0
SCRIPT = """\
#!/bin/bash
# Written by `resnetlab study --on slurm`: a run a task. Further options stand on sbatch's command line.
#SBATCH --job-name={study}
#SBATCH --array=0-{last}{at_once}
#SBATCH --cpus-per-task=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@{warning}
#SBATCH --output={logs}/%a.log
runs=({runs})
run=${{runs[$SLURM_ARRAY_TASK_ID]}}
task=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
saved() {{ ls {folder}/"$run"/checkpoints 2>/dev/null | tail -n 1; }}
before=$(saved)
# USR1: the time limit is near. TERM: cancelled or preempted. Either ends the run with a checkpoint.
trap 'kill -TERM "$child" 2>/dev/null' USR1 TERM
{command} --only "$run" & child=$!
while kill -0 "$child" 2>/dev/null; do wait "$child"; done
wait "$child"
code=$?
state=$(scontrol --oneliner show job "$task" | sed -n 's/.* JobState=\\([A-Z]*\\).*/\\1/p')
echo "$run: exit code $code, job $state, checkpoint ${{before:-none}} before, $(saved) now"
# Interrupted, and neither cancelled nor requeued by Slurm itself: once more, if a step was gained.
if [ "$code" = {interrupted} ] && [ "$state" = RUNNING ] && [ "$(saved)" != "$before" ]; then
    scontrol requeue "$task" && sleep 60
fi
exit "$code"
"""
INTERRUPTED = 130  # the command's exit code for it


@dataclass
class Job:
    """Work that Slurm runs: a script handed to sbatch. It outlives this process."""

    words: Sequence[str]  # sbatch's
    number: str | None = None

    def start(self) -> None:
        """Hand it over. UsageError if Slurm refuses it, or is not there."""
        try:
            done = _slurm("sbatch", "--parsable", *self.words)
        except FileNotFoundError:
            raise UsageError("--on slurm: no sbatch on this machine; log in to the cluster") from None
        if done.returncode:
            raise UsageError(f"Slurm refused the study: {done.stderr.strip()}")
        self.number = done.stdout.strip().split(";")[0]

    def ended(self) -> str | None:
        return None if self.number is not None and in_queue(self.number) else ""

    def stop(self) -> None:
        """Cancel it: what trains ends with a checkpoint, what waits is not begun."""
        if self.number is not None:
            _slurm("scancel", self.number)

    def kill(self) -> None:
        if self.number is not None:
            _slurm("scancel", "--full", "--signal=KILL", self.number)
            self.stop()

    def close(self) -> None:
        pass


def _slurm(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_SECONDS)


def in_queue(number: str) -> bool | None:
    """Whether Slurm still has this job, waiting or running; None where it cannot be asked."""
    if shutil.which("squeue") is None:
        return None
    try:
        done = _slurm("squeue", "--noheader", "--format=%i", f"--jobs={number}")
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode:
        return False if "Invalid job id" in done.stderr else None
    return bool(done.stdout.strip())


def plan(grid: Grid, root: Path, command: Sequence[str]) -> dict[str, Any]:
    """The study's cells: each run's status and the words that train it; then those of the report.

    `command` is the study's, without options on where it runs. Raises UsageError, as a study does
    before it starts, for a folder that holds another configuration. Images and devices are looked at
    where a cell runs.
    """
    folder, cells = root / store.check_name("study", grid.name), {}
    for name, run in grid.runs().items():
        record = store.check_folder(folder / name, run)
        words = [*command, "--jobs", "1", "--no-report", "--only", name]
        status = record.status if record is not None else store.QUEUED
        cells[name] = {"status": status, "command": words, "config": run.model_dump(mode="json")}
    head = {"schema": store.SCHEMA_VERSION, "study": grid.name, "job": None}
    return head | {"runs": cells, "report": {"command": [*command, "--only", ""]}}


@dataclass(frozen=True)
class Submitted:
    """What Slurm was given: the runs, the job array that trains them, the job of the report."""

    runs: tuple[str, ...]
    array: Job | None  # None if there was nothing left to train
    report: Job | None


def submit(
    grid: Grid,
    root: Path,
    command: Sequence[str],
    *,
    options: Sequence[str] = (),
    at_once: int | None = None,
    report: bool = True,
    only: Sequence[str] | None = None,
) -> Submitted:
    """Hand a study to Slurm: one array, a cell a task, then a job that makes the report of the whole.

    `options` go to sbatch, for the array. Preempted or near its time limit, a cell ends with a
    checkpoint and is queued again, unless it gained no step; cancelled, it ends with one. Raises
    UsageError if Slurm refuses, and if an array of this study is still in its queue.
    """
    folder = store.prepare_root(root).resolve() / grid.name
    earlier = store.read_plan(folder)
    if earlier is not None and earlier.job is not None and in_queue(earlier.job):
        raise UsageError(
            f"{grid.name} is in Slurm's queue already, as job {earlier.job}: `resnetlab list "
            f"{grid.name}` follows it, `scancel {earlier.job}` cancels it"
        )
    asked = plan(grid, root.resolve(), command)
    wanted = asked["runs"].items()
    left = [name for name, cell in wanted if cell["status"] not in (*store.ENDED, "running")]
    left = [name for name in left if only is None or name in only]
    place, logs = str(Path.cwd()), folder / FOLDER
    logs.mkdir(parents=True, exist_ok=True)
    array = last = None
    if left:
        script = logs / "array.sh"
        files.atomic_write(script, _script(grid.name, left, folder, command, at_once).encode())
        array = Job([f"--chdir={place}", *options, str(script)])
        array.start()
        asked["job"] = array.number
        store.write_plan(folder, asked)
    if report:
        after = [f"--dependency=afterany:{array.number}"] if array is not None else []
        head = [f"--chdir={place}", f"--job-name={grid.name}-report", f"--output={logs}/report.log"]
        last = Job([*after, *head, *_places(options), "--wrap", shlex.join(asked["report"]["command"])])
        last.start()
    return Submitted(tuple(left), array, last)


def _script(
    study: str, runs: Sequence[str], folder: Path, command: Sequence[str], at_once: int | None
) -> str:
    return SCRIPT.format(
        study=study,
        last=len(runs) - 1,
        at_once=f"%{at_once}" if at_once else "",
        warning=WARNING,
        logs=str(folder / FOLDER).replace("%", "%%"),
        runs=shlex.join(runs),
        folder=shlex.quote(str(folder)),
        command=shlex.join([*command, "--jobs", "1", "--no-report"]),
        interrupted=INTERRUPTED,
    )


def _places(options: Sequence[str]) -> list[str]:
    """Those options of the array that say where it may run: the report needs no GPU."""
    kept = ("--partition", "--account", "--qos", "--reservation", "--clusters")
    return [option for option in options if option.startswith(kept)]


def words_of(arguments: Sequence[str], dropped: Mapping[str, bool]) -> list[str]:
    """A command's words without some of its options: name -> whether a value follows it."""
    words, skip = list[str](), False
    for word in arguments:
        name, _, value = word.partition("=")
        if skip:
            skip = False
        elif name in dropped:
            skip = dropped[name] and not value
        else:
            words.append(word)
    return words
