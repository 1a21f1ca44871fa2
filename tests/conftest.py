"""What tests share: the command, and Hypothesis without clock or database."""

import sys

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
