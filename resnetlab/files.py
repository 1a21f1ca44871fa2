"""Files, on the ground floor: what lies where, and writing whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import psutil

HOST = socket.gethostname().replace("/", "-")
ABANDONED_SECONDS = 86_400.0

PACKAGE = Path(__file__).parent
CARRIED = "_carried"  # inside an installed package: what the wheel carries of the checkout (setup.py)
MARKER = ".resnetlab"  # lies in results folders of ours, and says so
MARKED = "Results of resnetlab. This file tells its commands that the folder is theirs to write into.\n"
COPIES = ".resnetlab-notebooks"  # lies beside notebooks that were copied out, see studies/copies.py
RESULTS, OWN_RESULTS, OWN_DATA = "results", "resnetlab-results", "resnetlab-data"


def project() -> Path:
    """Where notebooks/, dashboard/ and results/reference/ lie: in the checkout, or installed."""
    carried = PACKAGE / CARRIED
    return carried if carried.is_dir() else PACKAGE.parent


def installed() -> bool:
    """Whether the package comes from a wheel, not from a checkout."""
    return project() != PACKAGE.parent


def usual_results() -> Path:
    """The results folder of whoever names none.

    The nearest marked one: the working folder or one above it, or results/ in one of these, which finds
    that of a checkout from its notebooks/. Nearer than those above are the one noted beside copied
    notebooks and resnetlab-results/ in the working folder, which is it where there is none. A results/
    of somebody else is never it.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        for marked in (folder, folder / RESULTS):
            if (marked / MARKER).is_file():
                return marked
        if folder == here and (noted := copied(here).get("results")):
            return (here / str(noted)).resolve()
        if folder == here and (here / OWN_RESULTS).is_dir():
            return here / OWN_RESULTS
    return here / OWN_RESULTS


def is_usual(results: Path) -> bool:
    """Whether that is the results folder of whoever names none."""
    return results.resolve() == usual_results().resolve()


def usual_data() -> Path:
    """Where downloads and decoded images lie, beside the usual results: data/ in a checkout."""
    folder = usual_results().parent
    return folder / ("data" if (folder / PACKAGE.name / "files.py").is_file() else OWN_DATA)


def copied(folder: Path) -> dict[str, Any]:
    """What is noted beside notebooks that were copied into this folder; empty if none were."""
    try:
        return mapping(json.loads((folder / COPIES).read_bytes()))
    except (OSError, ValueError, RecursionError):
        return {}


def to_type(verb: str) -> str:
    """How a verb is typed here: by make in a checkout, where no environment need be activated."""
    return f"resnetlab {verb}" if installed() else f"make {verb}"


def temporary_name(path: Path, suffix: str) -> Path:
    """A name beside `path` that no other process uses, on any machine that shares the folder."""
    return path.with_name(f".{path.name.removesuffix(suffix)}.{HOST}.{os.getpid()}.tmp{suffix}")


def abandoned(temporary: Path) -> bool:
    """Whether a temporary name is of a process that is gone; another machine's after a day."""
    found = re.search(r"\.(\d+)\.tmp", temporary.name)
    try:
        if found is not None and f".{HOST}{found[0]}" in temporary.name:
            pid = int(found[1])
            return pid == os.getpid() or not psutil.pid_exists(pid)
        return time.time() - temporary.stat().st_mtime > ABANDONED_SECONDS
    except (OSError, OverflowError):
        return False


@contextlib.contextmanager
def whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside `path`; what was written there takes its place when all went well."""
    temporary = temporary_name(path, "")
    try:
        yield temporary
        if durable:
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `path` whole or not at all: a temporary name in the same folder, then replace."""
    with whole(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def _sync_folder(folder: Path) -> None:
    """A name is on the disk when its folder is; where a system knows no such thing, as it is."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


MEGABYTE = 2**20


def read(path: Path, most: int, start: int = 0) -> bytes:
    """A regular file's bytes from `start` on. OSError for one of more than `most`, a pipe or a device.

    Those would never end, or fill the memory of whoever only looks.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        if about.st_size > most:
            raise OSError(errno.EFBIG, f"of more than {most // MEGABYTE} MB", str(path))
    except OSError:
        os.close(number)
        raise
    with open(number, "rb") as file:
        file.seek(start)
        return file.read()


def open_log(path: Path, mode: str) -> IO[bytes]:
    """A file to write into, itself and not what a link of its name leads to. OSError for a link."""

    def opened(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

    try:
        return cast(IO[bytes], open(path, mode, opener=opened))
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(error.errno, f"{path} is a link; what it leads to is not written into") from None


def mapping(value: object) -> dict[str, Any]:
    """An object out of a JSON file; an empty one for anything else that stands there."""
    return value if isinstance(value, dict) else {}
