"""The command `resnetlab`."""

from resnetlab.cli.app import main

__all__ = ["main"]
