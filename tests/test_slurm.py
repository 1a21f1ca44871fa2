"""A study on a real Slurm: controller and two nodes on this machine, started and stopped here."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import slurm as daemons

from resnetlab import config, store, training

PROJECT = Path(__file__).parents[1]
WHY_NOT = daemons.missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(WHY_NOT != "" and "RESNETLAB_REQUIRE_SLURM" not in os.environ, reason=WHY_NOT),
]
LONG = ["--depths", "14", "--shortcuts", "none", "--steps", "600", "--name", "long"]
RUN = "plain-14-seed0"


@pytest.fixture
def slurm(request):
    # A path of its own: munge's socket must be short.
    cluster = daemons.Slurm(Path(tempfile.mkdtemp(prefix="slurm-")), grace=getattr(request, "param", 0))
    yield cluster
    cluster.close()


def submit(slurm, root, *words):
    """The numbers of the array and of the report."""
    command = [sys.executable, "-m", "resnetlab", "study", "digits", *words, "--results", str(root)]
    how = {"capture_output": True, "text": True, "cwd": PROJECT, "env": slurm.environment}
    done = subprocess.run([*command, "--on", "slurm"], **how)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.rpartition("scancel ")[2].split()


def listed(slurm, root, name):
    done = subprocess.run(
        [sys.executable, "-m", "resnetlab", "list", name, "--results", str(root)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=slurm.environment,
    )
    return done.stdout


def weights(root, study, run):
    return store.read_run(root / study / run).summary["weights_sha256"]


def wait_for_rows(slurm, root, run, rows):
    path = root / "long" / run / "metrics.jsonl"
    begun = lambda: path.exists() and path.read_bytes().count(b"\n") >= rows  # noqa: E731
    slurm.wait(begun, 300, f"row {rows} of {run}")


def logs_of(folder):
    return "\n".join(path.read_text() for path in sorted((folder / ".slurm").glob("*.log")))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The long run, by a study of this machine alone."""
    root = tmp_path_factory.mktemp("undisturbed")
    command = [sys.executable, "-m", "resnetlab", "study", "digits", *LONG, "--results", str(root)]
    subprocess.run([*command, "--jobs", "2", "--no-report"], check=True, cwd=PROJECT)
    return root


@pytest.mark.deep
def test_four_runs_on_two_nodes_and_a_report(slurm, tmp_path):
    words = ["--depths", "8", "--seeds", "0,1", "--steps", "20", "--name", "four"]
    array, report = submit(slurm, tmp_path, *words)
    assert listed(slurm, tmp_path, "four").count("queued") >= 2  # there are two nodes of one core
    nodes = set()

    def ended():
        nodes.update(line.split()[2] for line in slurm.queue() if " RUNNING " in line)
        return not slurm.queue()

    slurm.wait(ended, 600, "the end of the study")
    said = logs_of(tmp_path / "four")
    assert nodes == {"n1", "n2"}, said
    grid = config.grid_named("digits", depths=(8,), seeds=(0, 1), overrides={"steps": 20})
    local = tmp_path / "local"
    training.fit_together(grid.runs(), study="four", results_folder=local, device="cpu", threads=1)
    for run in grid.runs():
        assert weights(tmp_path, "four", run) == weights(local, "four", run), said
        assert (tmp_path / "four" / run / "train.ipynb").is_file()
        job = store.read_run(tmp_path / "four" / run).info["starts"][-1]["job"]
        assert job is not None
        assert int(job) >= int(array)
    assert (tmp_path / "four" / "01_degradation.ipynb").is_file(), said
    assert int(report) > int(array)


def test_scancel_ends_a_run_with_a_checkpoint_and_queues_nothing(slurm, tmp_path):
    jobs = submit(slurm, tmp_path, *LONG)
    wait_for_rows(slurm, tmp_path, RUN, 4)
    assert "scancel" not in slurm.ask("scancel", *jobs)
    slurm.wait(lambda: not slurm.queue(), 90, "an empty queue")
    time.sleep(3)
    assert not slurm.queue()
    record = store.read_run(tmp_path / "long" / RUN)
    assert (record.status, record.info["error"]) == ("interrupted", "stopped by SIGTERM")
    assert max((record.path / "checkpoints").glob("*.pt")).name == f"step-{record.info['step']:08d}.pt"
    assert not (tmp_path / "long" / "01_degradation.ipynb").exists()


@pytest.mark.deep
@pytest.mark.parametrize("slurm", [0, 30], indirect=True, ids=["at once", "with grace"])
def test_preempted_it_ends_with_a_checkpoint_and_goes_on(slurm, tmp_path, undisturbed):
    submit(slurm, tmp_path, *LONG, "--no-report")
    wait_for_rows(slurm, tmp_path, RUN, 4)
    urgent = ["sbatch", "--parsable", "--partition=high", "--nodes=2", "--output=/dev/null"]
    slurm.ask(*urgent, "--wrap", "sleep 5")
    slurm.wait(lambda: not slurm.queue(), 900, "the end of the study")
    record = store.read_run(tmp_path / "long" / RUN)
    assert len(record.info["starts"]) == 2, logs_of(tmp_path / "long")
    assert record.info["starts"][1]["job"] == f"{record.info['starts'][0]['job']}, restart 1"
    assert weights(tmp_path, "long", RUN) == weights(undisturbed, "long", RUN)


@pytest.mark.deep
def test_of_a_lost_node_the_run_goes_on_elsewhere(slurm, tmp_path, undisturbed):
    submit(slurm, tmp_path, *LONG, "--no-report")
    wait_for_rows(slurm, tmp_path, RUN, 11)  # past the checkpoint at 100
    (node,) = {line.split()[2] for line in slurm.queue() if " RUNNING " in line}
    lost = slurm.processes(node)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # all at once: nobody tells the controller
        for process in lost:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
    slurm.wait(lambda: not slurm.queue(), 900, "the end of the study")
    record = store.read_run(tmp_path / "long" / RUN)
    assert len(record.info["starts"]) == 2, logs_of(tmp_path / "long")
    assert weights(tmp_path, "long", RUN) == weights(undisturbed, "long", RUN)


@pytest.mark.deep
def test_at_the_time_limit_it_goes_on_until_no_step_is_gained(slurm, tmp_path, undisturbed):
    """Two minutes, of which the warning comes 60 to 120 seconds before the end."""
    submit(slurm, tmp_path, *LONG, "--no-report", "--slurm=--time=2", "--slurm=--signal=B:USR1@60")
    slurm.wait(lambda: not slurm.queue(), 1800, "the end of the study")
    record = store.read_run(tmp_path / "long" / RUN)
    assert record.status in ("finished", "interrupted")
    while record.status != "finished":  # where so little time was too little for a step
        submit(slurm, tmp_path, *LONG, "--no-report")
        slurm.wait(lambda: not slurm.queue(), 900, "the end of the study")
        record = store.read_run(tmp_path / "long" / RUN)
    assert weights(tmp_path, "long", RUN) == weights(undisturbed, "long", RUN)


@pytest.mark.deep
def test_where_no_step_was_gained_it_is_not_queued_again(slurm, tmp_path):
    """The warning comes with the start: nothing is trained, and nothing begins over and over."""
    submit(slurm, tmp_path, *LONG, "--no-report", "--slurm=--time=1", "--slurm=--signal=B:USR1@65000")
    slurm.wait(lambda: not slurm.queue(), 300, "an empty queue")
    time.sleep(3)
    assert not slurm.queue()
    assert logs_of(tmp_path / "long").count("exit code") == 1
    shutil.rmtree(tmp_path / "long")
