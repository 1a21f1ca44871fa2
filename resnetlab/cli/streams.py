"""What a command prints: it never ends a training, and a terminal gets what it can show."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

# For terminals that are not UTF-8: what stands in our sentences and not in latin-1.
PLAIN = {"–": "-", "—": "-", "−": "-", "…": "...", "’": "'", "→": "->", "≤": "<=", "≥": ">=", "²": "2"}
PLAIN |= {"±": "+-", "×": "x", "·": "-", "σ": "s", "Δ": "D", "━": "-", "╸": "-", "╺": "-"}
PLAIN |= dict(zip("⁰¹³⁴⁵⁶⁷⁸⁹⁻", "013456789-", strict=True))


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    """What an encoding has no sign for, by signs of ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, "?") for sign in text), error.end


codecs.register_error("plainly", _plainly)


class Outlived(io.RawIOBase):
    """The bytes of a stream, as long as it takes them; what comes after its first error is dropped.

    A reader that has gone (`| head -1`), a full disk and a closed terminal end no work this way.
    """

    def __init__(self, number: int, name: str) -> None:
        self.number, self.name = number, name
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.number

    def isatty(self) -> bool:
        return os.isatty(self.number)

    @property
    def lost(self) -> bool:
        """Whether something could not be written that somebody still wanted to read."""
        return self.error is not None and self.error.errno != errno.EPIPE

    def write(self, content: Any) -> int:
        if self.error is None:
            try:
                return os.write(self.number, content)
            except OSError as error:
                self.error = error
                self._say(error)
        return len(content)

    def _say(self, error: OSError) -> None:
        """Once, on the other stream; nothing where a reader had enough."""
        if self.name == "standard output" and self.lost:
            with contextlib.suppress(OSError, ValueError):
                print(
                    f"note: {self.name} cannot be written ({error.strerror}); what is printed is lost",
                    file=sys.stderr,
                    flush=True,
                )


@contextlib.contextmanager
def outlived() -> Iterator[list[Outlived]]:
    """Let standard output and error be `Outlived` in the block. The list has the first, if it is.

    Streams that are no files, such as a test's, stay what they are; one that was closed before the
    start, as a service may be started, swallows everything.
    """
    before, taken = (sys.stdout, sys.stderr), list[Outlived]()
    for name, words in (("stdout", "standard output"), ("stderr", "standard error")):
        stream: TextIO | None = getattr(sys, name)
        try:
            number = stream.fileno() if stream is not None else os.open(os.devnull, os.O_WRONLY)
        except (OSError, ValueError):
            continue
        raw = Outlived(number, words)
        encoding = stream.encoding if stream is not None else "utf-8"
        text = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding=encoding, errors="plainly", line_buffering=raw.isatty()
        )
        if name == "stderr":
            text.reconfigure(line_buffering=True)
        setattr(sys, name, text)
        if name == "stdout":
            taken.append(raw)
    try:
        yield taken
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before
