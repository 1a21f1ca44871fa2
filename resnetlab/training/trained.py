"""Which weights are tested or measured: a run's newest checkpoint, or torchvision's from a file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from resnetlab import config, nets, store
from resnetlab.config import UsageError
from resnetlab.images import feeds
from resnetlab.nets import surgery
from resnetlab.training.device import note

T = TypeVar("T")

# torchvision's weights expect these channel means and deviations, of pixels in 0..1.
_TORCHVISION_MEAN = (0.485, 0.456, 0.406)
_TORCHVISION_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Trained:
    """A network with its weights, and how its images are normalised."""

    network: nets.Network
    normalise: feeds.Normalise
    step: int | None  # of the checkpoint; None for weights from a file


def newest(
    checkpoints: Iterable[store.Checkpoint | str], load: Callable[[store.Checkpoint], T], who: str
) -> T | None:
    """What `load` makes of the newest checkpoint that is whole; None if none is.

    `load` raises ValueError for one that it cannot read; each such is said on standard error. Its
    UsageError is raised: the checkpoint before would meet it too.
    """
    for checkpoint in checkpoints:
        problem = checkpoint if isinstance(checkpoint, str) else ""
        if not isinstance(checkpoint, str):
            try:
                return load(checkpoint)
            except UsageError:
                raise  # no checkpoint can help
            except ValueError as error:
                problem = f"{checkpoint.path.name} {error}"
        note(f"{who}: {problem}; trying the checkpoint before it")
    return None


def load_trained(record: store.RunRecord, device: torch.device) -> Trained:
    """The network of a run as its newest whole checkpoint has it.

    A damaged one is said on standard error and the one before it serves. UsageError if there is none.
    """
    who = f"{record.study}/{record.name}"

    def load(checkpoint: store.Checkpoint) -> Trained:
        try:
            state = torch.load(io.BytesIO(checkpoint.payload), map_location=device, weights_only=True)
            weights, normalise = state["network"], feeds.Normalise(**state["normalise"])
            images = record.info["dataset"]
            network = surgery.build(
                record.config,
                num_classes=len(images["classes"]),
                in_channels=images["shape"][0],
            )
            network = network.to(device, next(iter(weights.values())).dtype)
            network.load_state_dict(weights)
        except UsageError:
            raise
        except Exception as error:  # torch, pickle and zipfile raise many kinds
            raise ValueError(f"is no checkpoint of it ({type(error).__name__})") from None
        return Trained(network, normalise, checkpoint.step)

    trained = newest(store.whole_ones(record.path, record.config), load, who)
    if trained is not None:
        return trained
    if record.has_weights:
        raise UsageError(
            f"{who} has no whole checkpoint to test; the command that trained it resumes it"
        )
    raise UsageError(
        f"{who} has no checkpoint to test: committed reference runs come without weights; train it "
        "again (`resnetlab show` gives the command)"
    )


def from_torchvision(path: str | Path, name: str, device: torch.device) -> Trained:
    """The network of that name with torchvision's weights from a file.

    The file is read without executing anything in it. Raises UsageError if it is missing, truncated
    or no file of weights, and if the weights are another network's: never random weights in silence.
    """
    spec, file = config.Network.from_name(name), Path(path).expanduser()
    if not file.is_file():
        raise UsageError(f"there is no weights file {file}")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror})") from None
    except Exception:  # torch, pickle and zipfile raise many kinds
        raise UsageError(
            f"{file} is truncated or holds something else than weights, which is not executed"
        ) from None
    bias = state.get("fc.bias") if isinstance(state, dict) else None
    classes = len(bias) if isinstance(bias, Tensor) and bias.dim() == 1 and len(bias) else None
    network = nets.build(spec, num_classes=classes)
    nets.load_torchvision(network, state)
    if spec.block == "bottleneck" and spec.stride_in != "3x3":
        raise UsageError(
            f"torchvision's bottlenecks stride in the 3x3: use {spec.name}-3x3 (in {spec.name} its "
            "weights fit, but were not trained for the paper's stride)"
        )
    mean, deviation = (
        255 * torch.tensor(values).view(3, 1, 1)
        for values in (_TORCHVISION_MEAN, _TORCHVISION_DEVIATION)
    )
    return Trained(network.to(device), feeds.Normalise(mean, deviation).to(device, torch.float32), None)
