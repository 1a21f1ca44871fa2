"""What ends a training from outside, and who is taken for its writer afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_disk import tiny
from test_results import RUN, ago, begin, make, rewritten

from resnetlab import fit, machine, store
from resnetlab.store import AnotherWriterError, RunWriter, lock


@pytest.mark.parametrize("kind", machine.STOPS, ids=lambda kind: kind.name)
def test_every_stop_signal_ends_a_run_with_a_checkpoint(tmp_path: Path, kind: signal.Signals) -> None:
    before = signal.getsignal(kind)

    def on_row(row: Any) -> None:
        if row["step"] == 8:
            os.kill(os.getpid(), kind)

    record = fit(tiny(), results_folder=tmp_path, device="cpu", threads=1, on_row=on_row)
    assert (record.status, record.info["error"]) == ("interrupted", f"stopped by {kind.name}")
    assert record.steps_done == 8
    assert list((record.path / "checkpoints").glob("step-00000008.pt"))
    assert signal.getsignal(kind) == before


def test_a_hang_up_that_nohup_turned_off_stays_off() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with machine.stop_signals() as caught:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        assert caught == []
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("kind", machine.STOPS, ids=lambda kind: kind.name)
def test_a_worker_without_a_kernel_ends_at_any_of_them(kind: signal.Signals) -> None:
    from resnetlab.studies import worker

    words = [sys.executable, "-m", "resnetlab.studies.worker"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        while process.poll() is None and not set(machine.STOPS) <= _caught(process.pid):
            time.sleep(0.05)
        process.send_signal(kind)
        assert process.wait(60) == worker.STOPPED


def _caught(pid: int) -> set[int]:
    """The signals that a process has handlers for."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return {number for number in range(1, 64) if mask >> (number - 1) & 1}


def test_a_process_that_began_after_the_run_is_not_its_writer(tmp_path: Path) -> None:
    folder = make(tmp_path, status=None)
    here = {"host": socket.gethostname(), "pid": os.getpid(), "heartbeat": ago(5)}
    began = psutil.Process().create_time()
    for earlier, status in ((-30, "running"), (300, "interrupted")):
        start = {"time": ago(time.time() - began + earlier)}
        assert rewritten(folder, **here, starts=[start]).status == status
    for starts in ([], [{}], "x", [{"time": 7}]):  # nothing to compare with: the heartbeat decides
        assert rewritten(folder, **here, starts=starts).status == "running"


def test_a_heartbeat_from_the_future_is_seen_through(tmp_path: Path) -> None:
    folder = make(tmp_path, status=None)
    elsewhere = {"host": "another", "pid": 7}
    clocks_differ, wrong = -store.alive.STALE_SECONDS / 2, -10 * store.alive.STALE_SECONDS
    assert rewritten(folder, **elsewhere, heartbeat=ago(clocks_differ)).status == "running"
    record = rewritten(folder, **elsewhere, heartbeat=ago(wrong))
    assert record.status == "interrupted"
    assert not store.being_written(folder)
    here = {"host": socket.gethostname(), "pid": os.getpid()}
    assert rewritten(folder, **here, heartbeat=ago(wrong)).status == "interrupted"


def test_a_lock_file_removed_under_a_writer_is_made_again(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "s", "r", RUN) as writer:
        begin(writer)
        path = writer.folder / "run.lock"
        path.unlink()
        writer.save_checkpoint(4, b"weights", 1.0)
        assert not lock.Lock(path).acquire(0)
        path.unlink()
        path.touch()  # another file of that name
        writer.finish("interrupted", step=4)
        assert not lock.Lock(path).acquire(0)
    assert lock.Lock(path).acquire(0)


def test_a_lock_that_another_has_taken_meanwhile_ends_the_writer(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "s", "r", RUN) as writer:
        begin(writer)
        path = writer.folder / "run.lock"
        path.unlink()
        other = lock.Lock(path)
        assert other.acquire(0)
        with pytest.raises(AnotherWriterError):
            writer.save_checkpoint(4, b"weights", 1.0)
        assert not (writer.folder / "checkpoints").exists()
        other.release()
