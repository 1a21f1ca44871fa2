"""resnetlab: an interactive study of Deep Residual Learning for Image Recognition (He et al. 2015).

The public names load on first use, so that reading results never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnetlab.config import RECIPES, Run, lr_at, run_from_parameters
    from resnetlab.models import build, load_torchvision, to_torchvision
    from resnetlab.results import find_run, read_run, read_study
    from resnetlab.train import fit, train_step

__version__ = "0.1.0"

__all__ = [
    "RECIPES",
    "Run",
    "build",
    "find_run",
    "fit",
    "load_torchvision",
    "lr_at",
    "read_run",
    "read_study",
    "run_from_parameters",
    "to_torchvision",
    "train_step",
]

_HOMES = {
    "RECIPES": "config",
    "Run": "config",
    "build": "models",
    "find_run": "results",
    "fit": "train",
    "load_torchvision": "models",
    "lr_at": "config",
    "read_run": "results",
    "read_study": "results",
    "run_from_parameters": "config",
    "to_torchvision": "models",
    "train_step": "train",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"resnetlab.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'resnetlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
