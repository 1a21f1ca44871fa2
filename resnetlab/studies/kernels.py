"""The kernel of a notebook: always the interpreter that asks for it, whatever kernels Jupyter finds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

# Holds one kernel, python3, whose command is `python`: Jupyter reads this as its own interpreter.
OURS = Path(__file__).with_name("jupyter")
VARIABLE = "JUPYTER_PATH"  # where Jupyter looks first; of two kernels of one name it takes the first


def path() -> str:
    """What `JUPYTER_PATH` is to be, so that python3 is the interpreter that starts the kernel."""
    return os.pathsep.join(filter(None, (str(OURS), os.environ.get(VARIABLE))))


@contextlib.contextmanager
def ours() -> Iterator[None]:
    """Within it, kernels called python3 that this process starts are this interpreter."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = path()
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
