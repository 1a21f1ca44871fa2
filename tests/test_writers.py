"""Who may write a run: another process, another machine, the same job begun again."""

import errno
import fcntl
import json
import multiprocessing
import socket

import pytest

from resnetlab import store
from resnetlab.config import PAPER_400, Network, Run
from resnetlab.store import AnotherWriterError, RunWriter, lock, writer

RUN = Run(network=Network(depth=8), recipe=PAPER_400.replace(steps=40))
NOTHING = {"execution": {}, "versions": {}, "dataset": {}, "layers": {}, "parameters": 0}


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch):
    for name in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def begun(tmp_path):
    """A run as a process left it, status running; `edit` changes what its run.json says."""
    with RunWriter(tmp_path, "s", "r", RUN) as ours:
        ours.begin(**NOTHING)
    path = tmp_path / "s" / "r" / "run.json"

    def edit(**changes):
        info = json.loads(path.read_text())
        info["starts"][-1] |= {key: changes.pop(key) for key in ("job",) if key in changes}
        path.write_text(json.dumps(info | changes))

    return edit


def open_again(root):
    with RunWriter(root, "s", "r", RUN) as ours:
        ours.begin(**NOTHING)


def test_another_machines_fresh_heartbeat_is_a_writer(tmp_path, begun):
    begun(host="elsewhere", pid=7)
    assert store.being_written(tmp_path / "s" / "r")
    with pytest.raises(AnotherWriterError, match="s/r is being written by process 7 on elsewhere"):
        open_again(tmp_path)
    assert store.read_run(tmp_path / "s" / "r").info["host"] == "elsewhere"
    begun(heartbeat="2020-01-01T00:00:00+00:00")
    assert not store.being_written(tmp_path / "s" / "r")
    open_again(tmp_path)
    assert store.read_run(tmp_path / "s" / "r").info["host"] == socket.gethostname()


@pytest.mark.parametrize(
    ("before", "now", "restarts", "taken"),
    [
        ("7", "7", "1", True),
        ("7, restart 1", "7", "2", True),
        ("7", "7", "0", False),  # two processes of one job
        ("7", "8", "1", False),
        (None, "7", "1", False),
    ],
)
def test_a_job_that_slurm_has_begun_again_takes_its_run_over_at_once(
    tmp_path, begun, monkeypatch, before, now, restarts, taken
):
    begun(host="a-lost-node", pid=7, job=before)
    monkeypatch.setenv("SLURM_JOB_ID", now)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    if taken:
        open_again(tmp_path)
        assert (
            store.read_run(tmp_path / "s" / "r").info["starts"][-1]["job"] == f"7, restart {restarts}"
        )
    else:
        with pytest.raises(AnotherWriterError):
            open_again(tmp_path)


def test_elsewhere_the_same_job_number_is_enough(tmp_path, begun, monkeypatch):
    begun(host="a-lost-node", pid=7, job="7.server")
    monkeypatch.setenv("PBS_JOBID", "7.server")
    open_again(tmp_path)


def test_who_was_taken_over_writes_no_more(tmp_path, begun):
    with RunWriter(tmp_path, "s", "r", RUN) as ours:
        ours.begin(**NOTHING)
        begun(host="another", pid=8)
        before = (tmp_path / "s" / "r" / "run.json").read_bytes()
        for attempt in (
            lambda: ours.beat(3),
            lambda: ours.save_checkpoint(3, b"weights", 1.0),
            lambda: ours.finish("failed", step=3, error="x"),
        ):
            with pytest.raises(AnotherWriterError, match="process 8 on another"):
                attempt()
    assert (tmp_path / "s" / "r" / "run.json").read_bytes() == before
    assert not (tmp_path / "s" / "r" / "checkpoints").exists()


def test_a_run_begun_elsewhere_while_this_process_loaded_its_images_is_left(tmp_path, begun):
    begun(status="interrupted")
    with RunWriter(tmp_path, "s", "r", RUN) as ours:
        begun(host="another", pid=8, status="running", heartbeat=store.now())
        with pytest.raises(AnotherWriterError):
            ours.begin(**NOTHING)


def hold(root, ready, end):
    with RunWriter(root, "s", "r", RUN) as ours:
        ours.begin(**NOTHING)
        ready.set()
        end.wait(60)


@pytest.mark.parametrize("flock", [True, False], ids=["flock", "no flock"])
def test_a_process_of_this_machine_is_a_writer_with_flock_and_without(tmp_path, monkeypatch, flock):
    if not flock:

        def refuse(*words):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(writer, "LOCK_SECONDS", 0.1)
    fork = multiprocessing.get_context("fork")
    ready, end = fork.Event(), fork.Event()
    other = fork.Process(target=hold, args=(tmp_path, ready, end))
    other.start()
    assert ready.wait(60)
    assert store.being_written(tmp_path / "s" / "r")
    with pytest.raises(AnotherWriterError, match=f"process {other.pid} on "):
        open_again(tmp_path)
    end.set()
    other.join()
    assert not store.being_written(tmp_path / "s" / "r")
    open_again(tmp_path)


def test_a_folder_without_a_run_is_not_being_written(tmp_path):
    assert not store.being_written(tmp_path)
    assert not store.being_written(tmp_path / "none")


def test_the_command_says_another_writer_by_its_exit_code(tmp_path, resnetlab, monkeypatch):
    monkeypatch.setattr(writer, "LOCK_SECONDS", 0.1)
    (tmp_path / "s" / "r").mkdir(parents=True)
    held = lock.Lock(tmp_path / "s" / "r" / "run.lock")
    assert held.acquire(0)
    code, _, error = resnetlab(
        *("train", "plain-8", "--steps", "40", "--study", "s", "--run", "r", "--results", tmp_path)
    )
    held.release()
    assert code == 75
    assert "s/r is being written by" in error


def test_another_device_is_said_when_a_run_goes_on_and_stays_said(tmp_path, capsys):
    from resnetlab import fit
    from resnetlab.training import start

    record = fit(RUN.model_copy(update={"recipe": PAPER_400.replace(steps=2)}), results_folder=tmp_path)
    assert not record.problems
    path = record.path / "run.json"
    info = json.loads(path.read_text())
    info["starts"] = [info["starts"][0] | {"host": "a", "device": "X"}, *info["starts"]]
    path.write_text(json.dumps(info))
    (problem,) = store.read_run(record.path).problems
    assert problem.startswith("it went on on another device (X, then ")
    with RunWriter(tmp_path, "runs", record.name, record.config) as ours:
        start._say_moved(ours)
    said = capsys.readouterr().err
    assert "it was left on a (X), this is " in said
    assert "the bits may differ" in said
