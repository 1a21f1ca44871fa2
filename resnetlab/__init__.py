"""resnetlab: an interactive study of Deep Residual Learning for Image Recognition (He et al. 2015).

The public names load on first use, so that reading results never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnetlab.config import RECIPES, Run, lr_at, run_from_parameters
    from resnetlab.nets import build, load_torchvision, to_torchvision
    from resnetlab.store import find_run, read_run, read_study
    from resnetlab.training import fit, pretrained, train_step

__version__ = "0.1.0"

_ROOMS = {
    "config": ("RECIPES", "Run", "lr_at", "run_from_parameters"),
    "nets": ("build", "load_torchvision", "to_torchvision"),
    "store": ("find_run", "read_run", "read_study"),
    "training": ("fit", "pretrained", "train_step"),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"resnetlab.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'resnetlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
