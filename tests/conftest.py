"""What tests share: the command, a results folder, and Hypothesis without clock or database."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

from resnetlab import cli

settings.register_profile("resnetlab", deadline=None, max_examples=40, database=None, derandomize=True)
settings.load_profile("resnetlab")


@pytest.fixture
def resnetlab(capsys, monkeypatch):
    """Run the command in this process: (exit code, standard output, standard error)."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["resnetlab", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results folder that command and dashboard take for the user's; it is not there yet."""
    monkeypatch.setenv("RESNETLAB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"
