"""Where a process finds itself: variables, a full place for temporary files, a user without a name."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from resnetlab import machine

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
TRAIN = "train plain-8 --steps 2 --threads 1 --run r --results".split()


@pytest.fixture(autouse=True)
def not_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("count", ["auto", "-1", "0", "²", "2.0", "two"])
def test_a_world_size_that_is_no_number_is_one_sentence(
    count: str, resnetlab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", count)
    code, _, error = resnetlab(*TRAIN, tmp_path)
    assert (code, error.count("\n")) == (2, 1)
    assert f"WORLD_SIZE={count!r} in the environment: start several processes with torchrun" in error
    assert resnetlab("recipe")[0] == 0  # what does not train does not ask


def test_a_world_size_that_is_no_number_is_one_sentence_of_the_module_too(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "resnetlab", *TRAIN, str(tmp_path)]
    environment = os.environ | {"WORLD_SIZE": "auto"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")


def test_a_rank_without_the_rest_is_no_torchrun(
    resnetlab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")
    code, out, _ = resnetlab(*TRAIN, tmp_path)
    assert code == 0
    assert "finished at step 2" in out  # a rank above 0 would keep quiet
    code, _, error = resnetlab("train", "plain-9")
    assert (code, "error: depth 9" in error) == (2, True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    code, _, error = resnetlab(*TRAIN, tmp_path)
    assert (code, "LOCAL_RANK='' in the environment" in error) == (2, True)


@pytest.mark.parametrize("which", ["cache", "TMPDIR"])
def test_a_full_place_for_temporary_files_makes_compiled_eager_in_one_line(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trial out of a cache would go well there, and the network's first step fail."""
    import torch

    from resnetlab.training import engine

    full, room = tmp_path / "full", tmp_path / "room"
    full.mkdir(), room.mkdir()
    monkeypatch.setattr(torch, "compile", lambda function: function)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(full if which == "cache" else room))
    monkeypatch.setenv("TMPDIR", str(full if which == "TMPDIR" else room))
    usage = namedtuple("usage", "free")
    free = {str(full): 2**20, str(room): 2**40}
    monkeypatch.setattr(engine.shutil, "disk_usage", lambda place: usage(free[str(place)]))
    engine.why_not_compile.cache_clear()
    how = engine.available(engine.Engine(compiled=True), torch.device("cpu"), resident=True, alone=True)
    engine.why_not_compile.cache_clear()
    assert how.name == "eager"
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line
        == f"note: torch.compile is not available ({full} has less than 256 MB free): eager instead"
    )


@pytest.mark.parametrize("home", [None, "/nonexistent", "/proc"])
def test_a_user_without_a_name_and_a_home_gets_both(
    home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import getpass

    def unknown(uid: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "/proc")  # root may do all
    machine.settle_home()
    monkeypatch.setattr(os, "access", os.access)
    given = Path(os.environ["HOME"])
    assert given.is_relative_to(tempfile.gettempdir())
    assert getpass.getuser() == f"uid-{os.getuid()}"
    machine.settle_home()
    assert Path.home() == given  # which is good enough now


def test_a_good_home_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    machine.settle_home()
    assert Path.home() == tmp_path


@pytest.mark.deep
def test_torchs_own_warnings_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """The compiler says "No CUDA runtime is found" where a toolkit is installed and no GPU is."""
    words = [sys.executable, "-m", "resnetlab", *TRAIN, str(tmp_path), "--engine", "compiled"]
    environment = os.environ | {"CUDA_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert "finished at step 2" in done.stdout
    assert [line for line in done.stderr.splitlines() if not line.startswith("note: ")] == []


def test_threads_wait_asleep_unless_somebody_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    machine.wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    machine.wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "active"


def test_a_training_of_two_threads_waits_asleep(tmp_path: Path) -> None:
    """Told by the OpenMP library itself, which reads the variable when torch is loaded."""
    words = [sys.executable, "-m", "resnetlab", *TRAIN, str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment["OMP_DISPLAY_ENV"] = "true"
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
