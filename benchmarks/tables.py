"""Where a benchmark's figures go: NAME.json, and the table between NAME's marks in README.md."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from resnetlab import files, machine, store, training

HERE = Path(__file__).parent


def conditions() -> dict[str, str]:
    """Day, machine and versions: a figure means nothing without them."""
    processor = training.device_name(torch.device("cpu"))
    return {
        "date": store.now()[:10],
        "machine": f"{processor}, {machine.usable_cores()} cores",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
    }


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def publish(name: str, report: dict[str, Any], remark: str, table: str) -> None:
    """Print the table, write NAME.json, and put both under their conditions into README.md."""
    shown = f"{report['machine']}; {report['versions']}; {report['date']}. {remark}\n\n{table}"
    print(shown)
    store.write_json(HERE / f"{name}.json", report)
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    page = HERE / "README.md"
    head, found, rest = page.read_text().partition(begin)
    if not found:
        raise SystemExit(f"error: {page} has no place {begin}")
    _, _, tail = rest.partition(end)
    files.atomic_write(page, f"{head}{begin}\n{shown}\n{end}{tail}".encode())
