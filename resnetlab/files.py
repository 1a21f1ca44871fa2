"""Files, on the ground floor: where the project lies, and writing whole or not at all."""

from __future__ import annotations

import contextlib
import errno
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


def project_root() -> Path:
    """The nearest folder at or above the working folder with notebooks/ and results/, or that folder.

    A notebook run by hand works in notebooks/, the command line in the project: both find one place.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "results").is_dir():
            return folder
    return here


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
    with open(number, "rb") as file:
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "no regular file")
        if about.st_size > most:
            raise OSError(errno.EFBIG, f"of more than {most // MEGABYTE} MB")
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
