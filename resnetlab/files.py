"""Files, on the ground floor: where the project lies, and writing whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def project_root() -> Path:
    """The nearest folder at or above the working folder with notebooks/ and results/, or that folder.

    A notebook run by hand works in notebooks/, the command line in the project: both find one place.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "results").is_dir():
            return folder
    return here


def atomic_write(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `path` whole or not at all: a temporary name in the same folder, then replace."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
