"""One training over two processes: the same batches, one writer, and what happens when one is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from resnetlab import config, machine, nets, store, training
from resnetlab.config import UsageError
from resnetlab.images import datasets, feeds
from resnetlab.training import ranks

pytestmark = pytest.mark.skipif(machine.usable_cores() < 2, reason="two processes need two cores")

# In float64 rounding stays small for 20 steps: equal means equal.
WORDS = "resnetlab train resnet-8 --steps 20 --precision fp64 --study s --json --device cpu".split()
WORDS += ["--clip", str(CLIP := 1.0), "--results"]  # of the averaged gradient: the same on every rank
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def torchrun(*words: str, processes: int = 2) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, "--nproc-per-node", str(processes), "-m", *words]


def run(*words: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    command = torchrun(*words, processes=processes)
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = sorted((folder / "checkpoints").glob("*.pt"))[-1]
    found: dict[str, torch.Tensor] = torch.load(newest, weights_only=True)["network"]
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two")
    done = run(*WORDS, str(root), "--run-name", "r")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "finished", "the first process alone prints"
    return root


def alone(root: Path, name: str, **changes: object) -> store.RunRecord:
    asked = config.run_from_parameters(
        network="resnet-8", steps=20, precision="fp64", clip=CLIP, **changes
    )  # type: ignore[arg-type]
    return training.fit(asked, study="s", name=name, results_folder=root, threads=1)


def largest_difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert list(ours) == list(theirs)
    learnt = [name for name in ours if "running" not in name and "num_batches" not in name]
    return max(float((ours[name] - theirs[name]).abs().max()) for name in learnt)


def test_shares_are_the_batch_in_order() -> None:
    order = feeds.Order(1442, config.PAPER_400, seed=0).draws(0, 15)
    for count in (2, 4):
        parts = [order.share(feeds.Share(rank, count)) for rank in range(count)]
        assert torch.equal(torch.cat([part.which for part in parts], dim=1), order.which)
        assert torch.equal(torch.cat([part.flip for part in parts], dim=1), order.flip)


def test_shares_of_a_split_are_the_split() -> None:
    test = datasets.load(config.Data()).test
    parts = [test.share(feeds.Share(rank, 3)) for rank in range(3)]
    assert sum(map(len, parts)) == len(test)
    together = torch.cat([part.images.flatten(1) for part in parts]).sum(dim=0)
    assert torch.equal(together, test.images.flatten(1).sum(dim=0))


@pytest.mark.slow
def test_two_processes_are_ghost_batches_of_half_the_size(two: Path) -> None:
    """Each process's batch norm sees its own 64 images, as on the paper's two GPUs."""
    ghost = alone(two, "ghost", ghost_batch=64)
    assert largest_difference(weights(two / "s" / "r"), weights(ghost.path)) < 1e-9
    whole = alone(two, "whole")
    assert largest_difference(weights(two / "s" / "r"), weights(whole.path)) > 1e-2
    ours, theirs = (store.read_run(two / "s" / name) for name in ("r", "ghost"))
    assert ours.metrics["step"].tolist() == theirs.metrics["step"].tolist()
    assert abs(ours.final("train_error") - theirs.final("train_error")) < 0.5
    assert ours.info["execution"]["ranks"] == 2
    norms = [record.probe().query("step == 0")["value"].to_numpy() for record in (ours, theirs)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5), "the averaged gradient is the batch's"


@pytest.mark.slow
def test_it_resumes_with_as_many_processes_and_with_no_other_number(two: Path) -> None:
    """Killed between its last checkpoint and its summary, it ends at the same bits."""
    folder = two / "s" / "r"
    wanted = json.loads((folder / "summary.json").read_text())
    logs = {name: (folder / name).read_bytes() for name in ("metrics.jsonl", "probes.jsonl")}
    again = [*WORDS, str(two), "--run-name", "r"]
    (folder / "summary.json").unlink()
    one = run(*again, processes=1)
    assert one.returncode != 0  # torchrun has its own exit codes
    assert "began with 2 process(es)" in one.stderr
    done = run(*again)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "summary.json").read_text())
    assert found["weights_sha256"] == wanted["weights_sha256"]
    assert {name: (folder / name).read_bytes() for name in logs} == logs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "processes", "said"),
    [
        (["--batch-size", "127"], 2, "batch_size 127 cannot be divided among 2 processes"),
        ([], machine.usable_cores() + 1, f"machine with {machine.usable_cores()} usable CPU core(s)"),
        (["--lr", "-1"], 2, "lr"),
    ],
)
def test_what_cannot_be_is_said_once_before_training(
    words: list[str], processes: int, said: str, tmp_path: Path
) -> None:
    done = run(*WORDS, str(tmp_path), *words, processes=processes)
    assert done.returncode != 0
    assert sum(line.startswith("error: ") and said in line for line in done.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("run.json"))


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if path.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    if not path.exists():
        process.kill()  # what it has said ends with it, and 100,000 steps are long
        raise AssertionError(process.communicate()[1])


def start(root: Path) -> subprocess.Popen[str]:
    command = torchrun(*WORDS, str(root), "--run-name", "r", "--steps", "100000")
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


@pytest.mark.deep
def test_a_dead_process_ends_the_run_with_a_message_and_it_can_be_resumed(tmp_path: Path) -> None:
    import psutil

    process = start(tmp_path)
    folder = tmp_path / "s" / "r"
    try:
        wait_for(folder / "checkpoints" / "step-00000100.pt", process)
        first = json.loads((folder / "run.json").read_text())["pid"]
        others = [child for child in psutil.Process(process.pid).children() if child.pid != first]
        for other in others:
            other.kill()
        error = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode != 0
    record = store.read_run(folder)
    assert record.status == "failed"
    said = "another of the 2 processes of this training is gone"
    assert said in record.info["error"]
    assert said in error


@pytest.mark.deep
def test_a_stop_signal_ends_all_processes_after_the_same_step(tmp_path: Path) -> None:
    process = start(tmp_path)
    folder = tmp_path / "s" / "r"
    try:
        wait_for(folder / "checkpoints" / "step-00000100.pt", process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    finally:
        process.kill()
    record = store.read_run(folder)
    assert record.status == "interrupted"
    newest = sorted((folder / "checkpoints").glob("*.pt"))[-1]
    assert newest.stem == f"step-{record.info['step']:08d}"


def test_without_torchrun_nothing_is_shared() -> None:
    group = ranks.ALONE
    values = torch.arange(3.0)
    assert group.first
    assert group.total(values) is values
    assert group.tell("x") == "x"
    assert group.smallest(3) == 3
    network = nets.build("resnet-8")
    assert group.wrap(network, torch.device("cpu")) is network


def test_a_half_set_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="RANK"), ranks.join("cpu"):
        pass
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="say cuda"), ranks.join("cuda:1"):
        pass
