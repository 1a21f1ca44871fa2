"""Cores and niceness as this process has them: quotas, a scheduler's share, sessions."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from resnetlab import files, machine
from resnetlab.studies import processes


@pytest.fixture
def unlimited(monkeypatch, tmp_path):
    """No scheduler, no quota, 16 cores by affinity."""
    for name in (*machine.SHARES, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    return tmp_path


def control_groups(monkeypatch, text):
    whole = Path.read_text
    own = Path("/proc/self/cgroup")
    monkeypatch.setattr(Path, "read_text", lambda path: text if path == own else whole(path))


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "cpu.max": "max 100000"}, 16),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "250000 100000"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "nonsense"}, 16),
        (
            "5:memory:/x\n3:cpu,cpuacct:/x\n0::/\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "300000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            3,
        ),
        # a container whose own group is mounted as the root, under a path of its host
        ("3:cpu:/docker/7\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ("3:cpu:/docker/7\n", {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
    ],
)
def test_a_control_groups_quota_counts(unlimited, monkeypatch, own, files, cores):
    for name, text in files.items():
        (unlimited / name).parent.mkdir(parents=True, exist_ok=True)
        (unlimited / name).write_text(text + "\n")
    control_groups(monkeypatch, own)
    assert machine.usable_cores() == cores
    assert machine.threads(4) == max(1, cores // 4)


def test_without_control_groups_there_is_no_quota(unlimited, monkeypatch):
    control_groups(monkeypatch, "")
    assert machine._quota() == math.inf
    assert machine.usable_cores() == 16


def test_a_schedulers_share_counts(unlimited, monkeypatch):
    control_groups(monkeypatch, "")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "8")
    assert machine.usable_cores() == 8
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert machine.usable_cores() == 2
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "99")
    assert machine.usable_cores() == 16
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "many")
    assert machine.usable_cores() == 8


def test_threads_are_no_more_than_omp_num_threads(unlimited, monkeypatch):
    control_groups(monkeypatch, "")
    assert machine.threads() == 16
    for text, threads in (("3", 3), ("4,2", 4), ("99", 16), ("", 16), ("0", 16)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert machine.threads() == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as torchrun sets it where nobody has
    assert machine.threads(2, told=False) == 8


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="the kernel has no autogroup")
def test_a_session_gets_the_niceness_of_its_process():
    """Else a kernel at the lowest priority would have as much as everything in a terminal."""
    work = processes.Local([sys.executable, "-c", "import time; time.sleep(60)"], niceness=7)
    work.start()
    try:
        assert psutil.Process(work.pid).nice() == 7
        assert Path(f"/proc/{work.pid}/autogroup").read_text().endswith("nice 7\n")
    finally:
        work.kill()
        work.close()


def test_a_session_that_is_led_by_another_process_stays(monkeypatch):
    monkeypatch.setattr(Path, "write_text", lambda *words: pytest.fail("written"))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        psutil.Process(child.pid).nice(5)
        machine.follow_niceness(child.pid)
        machine.follow_niceness(os.getpid())
        machine.follow_niceness(2**22 + 1)
    finally:
        child.communicate(b"")


def test_temporary_names_are_of_one_process_on_one_machine(tmp_path):
    name = files.temporary_name(tmp_path / "train.ipynb", ".ipynb")
    assert name.name == f".train.{files.HOST}.{os.getpid()}.tmp.ipynb"
    gone = psutil.Popen([sys.executable, "-c", ""])
    gone.wait()
    alive = os.getppid()
    for owner, old, abandoned in (
        (f"{files.HOST}.{gone.pid}", False, True),
        (f"{files.HOST}.{alive}", True, False),
        (f"another.{gone.pid}", False, False),
        (f"another.{alive}", True, True),
    ):
        path = tmp_path / f".train.{owner}.tmp.ipynb"
        path.touch()
        if old:
            os.utime(path, (time.time() - 2 * files.ABANDONED_SECONDS,) * 2)
        assert files.abandoned(path) == abandoned, owner
