"""One writer per run: a lock that its death releases, and a heartbeat where locks do not reach.

`flock` holds on one machine, and on some shared file systems between machines. Where it does not, the
heartbeat in run.json decides: what another machine has written within the last minutes is not touched.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnetlab.store import schema
from resnetlab.store.alive import is_alive
from resnetlab.store.reader import read_json

CONTENDED = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)
BEING_WRITTEN = "is being written by"  # how every AnotherWriterError puts it


class AnotherWriterError(RuntimeError):
    """The run is being written by another process."""


class Lock:
    """`flock` on a file that stays. A file system without it refuses nobody: the heartbeat decides.

    Not filelock's: where there is no `flock` that turns to a file whose mere being there locks, which a
    killed process leaves behind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, timeout: float) -> bool:
        """Whether it is held now, or cannot be; False if another process still has it then."""
        import fcntl  # not on Windows, where results can still be read

        deadline = time.monotonic() + timeout
        # A link would put the lock into somebody else's folder, a pipe would wait for ever.
        how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self.path, how, 0o666)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in CONTENDED:  # there is no such lock here: NFS, some others
                    os.close(descriptor)
                    return True
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return False
                time.sleep(0.05)
            else:
                self._descriptor = descriptor
                return True

    def renew(self) -> bool:
        """Whether nobody else has it. Where its file was removed, it is made and locked again."""
        if self._descriptor is None:
            return True
        try:
            same = os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except FileNotFoundError:
            same = False
        if same:
            return True
        self.release()
        return self.acquire(timeout=0)

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def job() -> str | None:
    """The scheduler's number of this process's job, `7, restart 1` for one it began again; or None."""
    names = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
    number = next((os.environ[name] for name in names if os.environ.get(name)), None)
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    return number if number is None or restarts in ("", "0") else f"{number}, restart {restarts}"


def living_writer(folder: Path, *, locks: bool) -> str | None:
    """Who writes the run, another process than this one; None if nobody does.

    With `locks`, this machine's processes are not asked about: the lock tells of them. A writer of this
    process's own job counts as gone: its scheduler has begun the job again.
    """
    info = read_json(folder / schema.RUN_FILE)[0] or {}
    here = info.get("host") == socket.gethostname()
    if info.get("status") != "running" or not is_alive(info) or _began_again(info):
        return None
    return None if here and (locks or info.get("pid") == os.getpid()) else owner(info)


def owner(info: Mapping[str, Any]) -> str:
    """`process 7 on cat`."""
    return f"process {info.get('pid', '?')} on {info.get('host', '?')}"


def _began_again(info: Mapping[str, Any]) -> bool:
    """Whether the writer's last start was of this job, and this is a later one.

    Slurm counts a job's starts; of other schedulers the same number on another machine is one.
    """
    starts = info.get("starts")
    last = starts[-1] if isinstance(starts, list) and starts else None
    before, now = last.get("job") if isinstance(last, dict) else None, job()
    if now is None or not isinstance(before, str) or before.split(",")[0] != now.split(",")[0]:
        return False
    return before != now or "SLURM_JOB_ID" not in os.environ


def being_written(folder: Path) -> bool:
    """Whether a process, here or on another machine, writes the run in this folder."""
    locks = True
    if (folder / schema.LOCK_FILE).exists():
        lock = Lock(folder / schema.LOCK_FILE)
        try:
            if not lock.acquire(timeout=0):
                return True
        except OSError:  # a folder that may only be read
            locks = False
        else:
            locks = lock.held
        lock.release()
    return living_writer(folder, locks=locks) is not None
