"""Notebooks copied out of the package to be worked with, never over what somebody has changed."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from resnetlab import files
from resnetlab.config import UsageError

USUAL = "resnetlab-notebooks"


@dataclass(frozen=True)
class Copied:
    """What became of the notebooks, by file name, and where the results of these copies lie."""

    new: tuple[str, ...]
    renewed: tuple[str, ...]  # copies of an earlier version that nobody had changed
    same: tuple[str, ...]
    left: tuple[str, ...]  # changed, or somebody else's
    results: Path

    def __str__(self) -> str:
        parts = {"copied": self.new, "brought up to date": self.renewed, "there already": self.same}
        counts = [f"{len(names)} {what}" for what, names in parts.items() if names]
        if self.left:
            counts.append(f"{len(self.left)} left alone, changed here: {', '.join(self.left)}")
        return "; ".join(counts)


def source() -> Path:
    """The notebooks as they come."""
    return files.project() / "notebooks"


def is_source(folder: Path) -> bool:
    """Whether these are the notebooks of a checkout, which are worked on where they are."""
    return folder.resolve() == source().resolve() and not files.installed()


def place(folder: Path | None) -> Path:
    """The folder asked for; by default that of a checkout, or a new one beside the usual results."""
    if folder is not None:
        return folder.absolute()
    if not files.installed() and files.is_usual(files.project() / files.RESULTS):
        return source()
    here = Path.cwd()
    return here if files.copied(here) else here / USUAL


def copy_out(folder: Path, results: Path | None = None) -> Copied:
    """Copy the notebooks and their two texts into a folder, and note there what was copied.

    A file that differs is replaced only where the note says that it is still as it was copied.
    `results` is where the copies work from then on (default: the folder noted, else the usual one).
    UsageError for a folder that cannot be written or is the package's own.
    """
    if folder.resolve().is_relative_to(files.PACKAGE.resolve()):
        raise UsageError(f"{folder} lies in the package; choose another folder")
    noted = files.copied(folder)
    before = files.mapping(noted.get("copied"))
    if results is None:
        known = noted.get("results")
        results = (folder / str(known)).resolve() if known else files.usual_results()
    outcome: dict[str, list[str]] = {"new": [], "renewed": [], "same": [], "left": []}
    digests: dict[str, object] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(item for item in source().iterdir() if item.suffix in (".ipynb", ".md")):
            content, target = path.read_bytes(), folder / path.name
            there = target.read_bytes() if target.exists() else None
            digests[path.name] = digest = _digest(content)
            if there is None:
                became = "new"
            elif _digest(there) == digest:
                became = "same"
            elif _digest(there) == before.get(path.name):
                became = "renewed"
            else:
                became = "left"
                digests[path.name] = before.get(path.name)
            if became in ("new", "renewed"):
                files.atomic_write(target, content)
            outcome[became].append(path.name)
        note = {"results": os.path.relpath(results.resolve(), folder.resolve()), "copied": digests}
        files.atomic_write(folder / files.COPIES, (json.dumps(note, indent=1) + "\n").encode())
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror}); choose another") from None
    new, renewed, same, left = (tuple(names) for names in outcome.values())
    return Copied(new, renewed, same, left, results)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
