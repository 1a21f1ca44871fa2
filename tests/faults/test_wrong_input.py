"""Every wrong input is one message and exit code 2, by every command that takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resnetlab import config, training
from resnetlab.config import UsageError
from resnetlab.images import pixels

LONG = "x" * 300
TRAIN = ["train", "plain-8", "--steps", "2", "--threads", "1"]


@pytest.mark.parametrize(
    "words",
    [
        [*TRAIN, "--data", "folder:/nonexistent"],
        [*TRAIN, "--data", "folder:~nobody-of-that-name/x"],
        [*TRAIN, "--data", f"folder:/tmp/{LONG}"],
        [*TRAIN, "--data", "imagenet:~nobody-of-that-name"],
        [*TRAIN, "--data", "tiny-imagenet:~nobody-of-that-name"],
        [*TRAIN, "--data", "cifar10"],
        [*TRAIN, "--device", "cpu:1"],
        [*TRAIN, "--device", "cuda:²"],
        [*TRAIN, "--results", "~nobody-of-that-name"],
        [*TRAIN, "--results", f"/tmp/{LONG}"],
        [*TRAIN, "--results", "/dev/null/x"],
        [*TRAIN, "--study", LONG],
        [*TRAIN, "--run", "a\x1b[31m"],
        ["study", "digits", "--results", f"/tmp/{LONG}"],
        ["study", "digits", "--name", LONG, "--plan"],
        ["list", "--results", "~nobody-of-that-name"],
        ["show", LONG],
        ["compare", LONG],
        ["data", "show", "folder:/nonexistent"],
        ["data", "show", "folder:~nobody-of-that-name"],
        ["data", "check", "~nobody-of-that-name"],
        ["report", "digits", "--out", "~nobody-of-that-name/x.html"],
        ["evaluate", LONG],
        ["lab", "~nobody-of-that-name", "--no-start"],
        ["recipe", LONG],
        ["notebook", LONG],
    ],
    ids=lambda words: " ".join(words)[:60],
)
def test_a_wrong_input_is_one_message_and_code_2(
    words: list[str], resnetlab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, error = resnetlab(*words)
    assert (code, out) == (2, "")
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert "\x1b" not in error
    assert not list(tmp_path.rglob("run.json"))


def test_only_what_may_go_well_later_is_no_wrong_input() -> None:
    assert (UsageError.code, pixels.DataError.code, pixels.DownloadError.code) == (2, 2, 1)


@pytest.mark.parametrize("name", ["cpu:0", "cpu:1", "cpu:", "cuda:²", "cuda:-1", "gpu", ""])
def test_a_device_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown device|no CUDA GPU"):
        training.resolve_device(name)


def test_a_users_home_is_spelt_out_or_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config.expanded("~/x") == tmp_path / "x"
    with pytest.raises(UsageError, match="no such user's home"):
        config.expanded("~nobody-of-that-name/x")


def test_a_download_that_stalls_ends_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    from resnetlab.images import datasets

    monkeypatch.setattr(datasets, "STALLED_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it never answers
        reader = datasets._torchvision_class("cifar10")
        monkeypatch.setattr(reader, "url", f"http://127.0.0.1:{silent.getsockname()[1]}/x.tar.gz")
        with pytest.raises(pixels.DownloadError, match="could not be downloaded"):
            datasets.download("cifar10", tmp_path)
    assert not list(tmp_path.iterdir())
    assert socket.getdefaulttimeout() is None
