"""The process that executes one notebook: `python -m resnetlab.studies.worker`, started by `runner`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import psutil

from resnetlab import machine, store
from resnetlab.studies import notebook

ELSEWHERE = 75  # EX_TEMPFAIL: another process trains the run
STOPPED = 3  # the exit code of a worker that its parent ended before it had a kernel, or by dying


def main() -> int:
    """Execute the notebook that the first line of standard input describes.

    The rest of standard input is the parent's life: when it ends, so does this process, and with it
    the kernel, which watches its own parent. A signal goes to the kernel, once: what trains in it ends
    after its step, and then the notebook by itself; what does not train ends at once.
    """
    for number in machine.STOPS:  # a scheduler sends them to every process of a job
        signal.signal(number, _pass_on)
    machine.wait_passively()  # the kernel inherits it
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        notebook.execute(Path(order["source"]), Path(order["target"]), order["parameters"])
    except Exception as error:
        kind = getattr(error, "ename", type(error).__name__)
        text = " ".join(str(getattr(error, "evalue", None) or error).split())
        print(f"{kind}: {text}", file=sys.stderr)  # one line: the study repeats the last one
        return ELSEWHERE if kind == store.AnotherWriterError.__name__ else 1
    return 0


def _follow_parent() -> None:
    sys.stdin.read()
    os._exit(STOPPED)


def _pass_on(number: int, frame: FrameType | None) -> None:
    for kind in machine.STOPS:  # the scheduler's, then the study's: one is enough,
        signal.signal(kind, signal.SIG_IGN)  # and a second would end a kernel that has just saved
    kernels = [child for child in psutil.Process().children() if _is_kernel(child)]
    if not kernels:
        os._exit(STOPPED)
    for kernel in kernels:
        with contextlib.suppress(psutil.Error):
            kernel.send_signal(signal.SIGTERM)


def _is_kernel(child: psutil.Process) -> bool:
    """Not what an import has started for a moment: a signal to that would end nothing."""
    with contextlib.suppress(psutil.Error):
        return any("ipykernel" in word for word in child.cmdline())
    return False


if __name__ == "__main__":
    sys.exit(main())
