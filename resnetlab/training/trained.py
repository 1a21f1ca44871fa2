"""Which weights are tested or measured: a run's newest checkpoint, the package's, or torchvision's."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from resnetlab import config, files, nets, store
from resnetlab.config import UsageError
from resnetlab.images import feeds
from resnetlab.nets import surgery
from resnetlab.training.device import note, resolve_device
from resnetlab.training.state import weights_sha256

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
    """The network of a run as its newest whole checkpoint has it, else as it came with the package.

    A damaged one is said on standard error and the one before it serves. UsageError if there is none.
    """
    who = f"{record.study}/{record.name}"

    def load(checkpoint: store.Checkpoint) -> Trained:
        try:
            state = torch.load(io.BytesIO(checkpoint.payload), map_location=device, weights_only=True)
            weights, normalise = state["network"], feeds.Normalise(**state["normalise"])
            network = _network(record, weights, device)
        except UsageError:
            raise
        except Exception as error:  # torch, pickle and zipfile raise many kinds
            raise ValueError(f"is no checkpoint of it ({type(error).__name__})") from None
        return Trained(network, normalise, checkpoint.step)

    trained = newest(store.whole_ones(record.path, record.config), load, who)
    if trained is None and record.shipped is not None:
        trained = _from_package(record, record.shipped, device)
    if trained is not None:
        return trained
    if record.has_weights:
        raise UsageError(
            f"{who} has no whole checkpoint to test; the command that trained it resumes it"
        )
    raise UsageError(f"{who} has no weights to test: {store.WITHOUT_WEIGHTS}")


def _network(
    record: store.RunRecord, weights: Mapping[str, Tensor], device: torch.device
) -> nets.Network:
    """The run's network with these weights; torch's errors where they are another's."""
    images = record.info["dataset"]
    network = surgery.build(
        record.config, num_classes=len(images["classes"]), in_channels=images["shape"][0]
    )
    network = network.to(device, next(v.dtype for v in weights.values() if v.is_floating_point()))
    network.load_state_dict(weights)
    return network


_NORMALISE = "normalise."  # before the names of what is no weight


def _from_package(record: store.RunRecord, path: Path, device: torch.device) -> Trained:
    """UsageError if the file has not the weights that the run's summary names."""
    try:
        tensors = safetensors.torch.load_file(path, device=str(device))
        parts = {name: tensors.pop(_NORMALISE + name) for name in ("mean", "divisor")}
        network = _network(record, tensors, device)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise UsageError(f"{path} is no whole file of weights ({type(error).__name__})") from None
    if weights_sha256(network) != record.weights_sha256:
        raise UsageError(f"{path} is damaged: its weights have another SHA-256 than the run's")
    return Trained(network, feeds.Normalise(**parts), record.steps_done)


def save_weights(record: store.RunRecord, folder: Path) -> Path:
    """Write a finished run's last weights as folder/NETWORK-DATA.safetensors, its run in the header.

    Beside the weights lies what its images are normalised by. UsageError
    for a run that has not ended, and if its newest checkpoint is not of its end.
    """
    trained = load_trained(record, torch.device("cpu"))
    if record.summary is None or weights_sha256(trained.network) != record.weights_sha256:
        raise UsageError(f"{record.study}/{record.name} has not the weights of a run that has ended")
    tensors = {name: value.contiguous() for name, value in trained.network.state_dict().items()}
    parts = trained.normalise
    tensors |= {_NORMALISE + "mean": parts.mean, _NORMALISE + "divisor": parts.divisor}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.config.network_name}-{record.config.data.slug}.safetensors"
    noted = store.header(record.info, record.summary)
    files.atomic_write(path, safetensors.torch.save(tensors, noted))
    return path


def pretrained(name: str, device: str = "cpu") -> nets.Network:
    """A trained network that comes with resnetlab, in evaluation mode.

    `name` is plain-20-digits, resnet-20-digits, plain-56-digits or resnet-56-digits. The weights are a
    committed run's own (study digits, seed 0), checked by their SHA-256; a deep plain network comes as
    badly trained as it ended. Attributes that only these networks have: `run`, the `Run` that trained
    it; `scored`, its final errors in percent (train_error over the last logged steps, train_error_clean
    in a full pass, test_error); `normalise`, which turns uint8 images (N, 1, 8, 8) into what it was
    trained on. It was never trained on the data set's test images. UsageError, with the nearest name,
    for an unknown one.
    """
    record = store.pretrained_run(name)
    trained = load_trained(record, resolve_device(device))
    errors = ("train_error", "train_error_clean", "test_error")
    scored = {quantity: record.final(quantity) for quantity in errors}
    # Plain attributes: to torch's modules they are neither weights nor parts.
    vars(trained.network).update(run=record.config, scored=scored, normalise=trained.normalise)
    return trained.network.eval()


def from_torchvision(path: str | Path, name: str, device: torch.device) -> Trained:
    """The network of that name with torchvision's weights from a file, of torch or safetensors.

    The file is read without executing anything in it. Raises UsageError if it is missing, truncated
    or no file of weights, and if the weights are another network's: never random weights in silence.
    A checkpoint or a file of weights of ours is refused too, with the command for it.
    """
    spec, file = config.Network.from_name(name), config.expanded(path)
    if not file.is_file():
        raise UsageError(f"there is no weights file {file}")
    try:
        if file.suffix == ".safetensors":
            state = safetensors.torch.load_file(file)
        else:
            state = nets.unwrapped(torch.load(file, map_location="cpu", weights_only=True))
    except PermissionError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror})") from None
    except Exception:  # torch, pickle, safetensors and zipfile raise many kinds
        raise UsageError(
            f"{file} is truncated or holds something else than weights, which is not executed"
        ) from None
    if isinstance(state, dict) and "classifier.weight" in state:
        raise UsageError(
            f"{file} holds weights of resnetlab's own: `resnetlab evaluate STUDY/RUN` tests a run's, "
            "`resnetlab.pretrained` loads those that come along"
        )
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
