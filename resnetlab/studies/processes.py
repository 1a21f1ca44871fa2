"""Work that goes on in another process: the five verbs of every kind, and the kind on this machine."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import psutil

from resnetlab import machine, store

SAME_START = 60.0  # seconds by which two readings of a process's start may differ
LOOK_SECONDS = 1.0  # between two looks at a run that another process trains


class Work(Protocol):
    """Something that trains outside this process, whatever runs it."""

    def start(self) -> None:
        """Begin. OSError if that cannot be."""

    def ended(self) -> str | None:
        """None while it goes on; then "", or in one line what it said last if it may have failed."""

    def stop(self) -> None:
        """Ask it to end after its step, with a checkpoint."""

    def kill(self) -> None:
        """End it at once."""

    def close(self) -> None:
        """Release what is held of it here."""


@dataclass
class Local:
    """A process on this machine, in a session of its own: Ctrl-C in the terminal does not reach it.

    With an `order`, one line for its standard input, it is tied to this process: when that input ends,
    it has lost its parent, and ends too. Without one it outlives this process, and any other that knows
    its `words`, `pid` and `created` can ask about it. What it prints goes to `log`, or is forgotten.
    """

    words: Sequence[str]  # the command
    order: str | None = None
    log: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)  # beside this process's own
    niceness: int = 0
    pid: int | None = None
    created: float | None = None  # its start, seconds since 1970
    _child: subprocess.Popen[str] | None = None
    _output: IO[bytes] | None = None  # closed by `close`

    def start(self) -> None:
        tied = self.order is not None
        self._output = self.log.open("wb") if self.log else tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._child = subprocess.Popen(
                self.words,
                stdin=subprocess.PIPE if tied else subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                text=True,
                env=os.environ | self.environment,
                start_new_session=True,
            )
        except OSError:
            self._output.close()
            raise
        # Unless somebody waits for it, it stays a zombie after its end and reads as a running run.
        threading.Thread(target=self._child.wait, daemon=True).start()
        self.pid = self._child.pid
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            self.created = process.create_time()
            if self.niceness:
                process.nice(self.niceness)
        machine.follow_niceness(self.pid)
        if self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.write(f"{self.order}\n")
                self._child.stdin.flush()

    def ended(self) -> str | None:
        if self._child is None:  # another process started it
            return last_line(self.log) if self._process() is None else None
        code = self._child.poll()
        if not code:
            return None if code is None else ""
        return last_line(self.log or self._output) or f"its process ended with exit code {code}"

    def stop(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        if self._child is not None and self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()
        if self._output is not None:
            self._output.close()

    def _signal(self, number: signal.Signals) -> None:
        if (
            self._child is not None
        ):  # no other can have its number; its words come a moment after its start
            self._child.send_signal(number)
            return
        process = self._process()
        if process is not None:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)

    def _process(self) -> psutil.Process | None:
        """The process itself, and no other that has got its number since."""
        try:
            # Without a number its starter was killed in between: its words then tell which it is.
            known = psutil.process_iter() if self.pid is None else [psutil.Process(self.pid)]
        except (psutil.Error, OverflowError):
            return None
        for process in known:
            with contextlib.suppress(psutil.Error):
                began = process.create_time()
                same_start = self.created is None or abs(began - self.created) < SAME_START
                if same_start and process.cmdline()[1:] == list(self.words[1:]):
                    return process
        return None


@dataclass
class Elsewhere:
    """A run that another process trains, here or on another machine: it is watched, never touched."""

    folder: Path  # of the run
    _left: bool = False
    _looked: float = -math.inf
    _lives: bool = True

    def start(self) -> None:
        pass

    def ended(self) -> str | None:
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked, self._lives = time.monotonic(), store.being_written(self.folder)
        return None if self._lives and not self._left else ""

    def stop(self) -> None:
        self._left = True

    def kill(self) -> None:
        self._left = True

    def close(self) -> None:
        pass


def last_line(output: Path | IO[bytes] | None) -> str:
    """The last line of a file that says something; "" if there is none."""
    try:
        if isinstance(output, Path):
            content = output.read_bytes()
        elif output is not None:
            output.seek(0)
            content = output.read()
        else:
            return ""
    except OSError:
        return ""
    lines = content[-4_000:].decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
