"""What took long to make, kept: arrays in one `.npz` file, a whole folder."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.files import atomic_write
from resnetlab.images.pixels import DataError

Arrays = dict[str, np.ndarray[Any, Any]]


def cached(
    path: Path, names: tuple[str, ...], make: Callable[[], Arrays], replaces: str = ""
) -> Arrays:
    """The arrays `names` that `path` holds, or else those that `make` gives, kept there for next time.

    The file's name is the key. One that is damaged, torn, not ours or full of pickles is made again;
    one that cannot be written is a note. `replaces` is a pattern of older files that go then.
    """
    # numpy and zipfile raise a dozen kinds; the zip checks its CRC where an array is read.
    with contextlib.suppress(Exception), path.open("rb") as file, np.load(file) as stored:
        return {name: stored[name] for name in names}
    arrays = make()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, buffer.getvalue())
    except OSError as error:
        print(
            f"note: {path} could not be written ({error.strerror}); it is made again next time",
            file=sys.stderr,
        )
        return arrays
    for old in path.parent.glob(replaces) if replaces else ():
        if old != path:
            old.unlink(missing_ok=True)
    return arrays


@contextlib.contextmanager
def made(folder: Path, partial: Path) -> Iterator[Path]:
    """A place for a folder, `partial`; what was made there takes its name when all went well.

    Nothing of it stays else, and nothing counts of an attempt that was killed. Where another process
    was faster, its folder stands. Raises DataError if it cannot be written.
    """
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        if not folder.is_dir():
            partial.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise DataError(f"{folder} could not be made ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
