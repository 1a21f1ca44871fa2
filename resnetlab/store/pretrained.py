"""Trained weights that come along: safetensors files, each with its run in its header.

The header's one entry holds what lay with the weights, run.json and summary.json, as JSON: which study,
recipe, seed and images, on what machine, what it scored, and the weights' SHA-256.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from resnetlab import files
from resnetlab.config import UsageError
from resnetlab.store import schema

FOLDER = Path(__file__).with_name("weights")
HEADER = "resnetlab"


def header(info: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, str]:
    """The header of a file of weights; the keys are in order, so equal runs give equal bytes."""
    return {HEADER: json.dumps({schema.RUN_FILE: info, schema.SUMMARY_FILE: summary})}


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """run.json and summary.json out of a file of weights. UsageError for a file that is none."""
    try:
        with safe_open(path, "np") as file:
            noted = json.loads(file.metadata()[HEADER])
        return noted[schema.RUN_FILE], noted[schema.SUMMARY_FILE]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is no whole file of weights ({type(error).__name__})") from None


@cache
def shipped() -> Mapping[str, Path]:
    """SHA-256 of the weights -> the file that holds them, by name."""
    return _by_sha256(FOLDER.glob("*.safetensors"))


@cache
def kept() -> Mapping[str, Path]:
    """The same of committed long runs, which `make keep` keeps in results/.weights of a clone."""
    return _by_sha256((files.project() / files.RESULTS / ".weights").glob("*/*/*.safetensors"))


def _by_sha256(paths: Iterable[Path]) -> dict[str, Path]:
    return {read_header(path)[1]["weights_sha256"]: path for path in sorted(paths)}
