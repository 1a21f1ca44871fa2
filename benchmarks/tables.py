"""Where a benchmark's figures go: NAME.json, and the table between NAME's marks in README.md.

python benchmarks/tables.py FOLDER/speed_cuda.json ...   # figures of another machine into this page
"""

from __future__ import annotations

import json
import platform
import sys
import textwrap
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


def publish(
    name: str, report: dict[str, Any], remark: str, table: str, folder: Path | None = None
) -> None:
    """Print the table, write NAME.json, and put both under their conditions into README.md.

    Into another `folder` goes the JSON alone; it holds the table, for `take`.
    """
    measured = f"{report['machine']}; {report['versions']}; {report['date']}. {remark}"
    shown = f"{textwrap.fill(measured, 104)}\n\n{table}"
    print(shown)
    store.write_json((folder or HERE) / f"{name}.json", report | {"shown": shown.splitlines()})
    if folder in (None, HERE):
        _fill(name, shown)


def take(path: Path) -> None:
    """The figures that `publish` wrote into another folder, perhaps elsewhere, into this one."""
    report = json.loads(path.read_text())
    store.write_json(HERE / path.name, report)
    _fill(path.stem, "\n".join(report["shown"]))


def _fill(name: str, shown: str) -> None:
    """What stands between NAME's marks in README.md is this from now on; the rest stays."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    page = HERE / "README.md"
    head, found, rest = page.read_text().partition(begin)
    if not found:
        raise SystemExit(f"error: {page} has no place {begin}")
    _, _, tail = rest.partition(end)
    files.atomic_write(page, f"{head}{begin}\n{shown}\n{end}{tail}".encode())


if __name__ == "__main__":
    for word in sys.argv[1:]:
        take(Path(word))
