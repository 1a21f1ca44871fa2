"""Files, on the ground floor: where the project lies, and writing whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def project_root() -> Path:
    """The nearest folder at or above the working folder with notebooks/ and results/, or that folder.

    A notebook run by hand works in notebooks/, the command line in the project: both find one place.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "results").is_dir():
            return folder
    return here


@contextlib.contextmanager
def whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside `path`; what was written there takes its place when all went well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if durable:
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `path` whole or not at all: a temporary name in the same folder, then replace."""
    with whole(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def mapping(value: object) -> dict[str, Any]:
    """An object out of a JSON file; an empty one for anything else that stands there."""
    return value if isinstance(value, dict) else {}
