"""The extra `train` of the package: what trains needs it, what only reads does without."""

from __future__ import annotations

from importlib.util import find_spec

from resnetlab.config.strict import UsageError

TRAIN = ("torch", "torchvision", "papermill", "ipykernel", "IPython", "tqdm")  # as they are imported
INSTALL = "pip install 'resnetlab[train]'"


def missing(module: str) -> UsageError:
    """What to say where that module is not installed."""
    return UsageError(f"{module} is not installed, and what trains or tests needs it: {INSTALL}")


def require_train() -> None:
    """Raise UsageError, with the line to install, unless all of `TRAIN` is there. Loads none of it."""
    for module in TRAIN:
        try:
            there = find_spec(module) is not None
        except ImportError:
            there = False
        if not there:
            raise missing(module)
