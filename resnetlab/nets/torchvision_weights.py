"""Weights exchanged with torchvision's resnet18, 34, 50, 101 and 152."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from resnetlab import config
from resnetlab.config import UsageError
from resnetlab.nets.models import Network


def _torchvision_names(network: Network) -> dict[str, str]:
    """Our name -> torchvision's for all of the state dict; UsageError if it has no such network."""
    spec = network.spec
    reason = None
    if spec.shortcut == "none":
        reason = "it has no shortcuts, and torchvision has no plain networks"
    elif spec.design != "imagenet":
        reason = "it is a network for small images; torchvision has resnet18, 34, 50, 101 and 152"
    elif spec.block == "single":
        reason = "its blocks have a single layer"
    elif spec.shortcut != "B":
        wanted = config.Network.parse({**spec.model_dump(), "shortcut": "B"}).name
        reason = f"torchvision uses shortcut option B: build {wanted!r} instead"
    if reason:
        raise UsageError(f"{spec.name} has no counterpart in torchvision: {reason}")
    names = {}
    for ours in network.state_dict():
        theirs = ours.replace("residual.", "").replace("stage", "layer").replace("classifier", "fc")
        theirs = theirs.replace("shortcut.conv", "downsample.0").replace("shortcut.bn", "downsample.1")
        names[ours] = re.sub(r"^(conv|bn)\.", r"\g<1>1.", theirs)
    return names


# Around the weights, in files of training scripts; before their names, by torch's own wrappers.
_AROUND = ("state_dict", "model_state_dict", "model", "network", "net")
_BEFORE = ("module.", "_orig_mod.", "model.")


def unwrapped(loaded: Any) -> Any:
    """The state dict in what a training script saved: out of its `state_dict` entry, names bare.

    Bare of what DataParallel, torch.compile and Lightning put before each of them. What is no such
    thing comes back as it is.
    """
    while isinstance(loaded, Mapping):
        inner = next((loaded[key] for key in _AROUND if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, Mapping) or not all(isinstance(name, str) for name in loaded):
        return loaded
    while loaded and (
        before := next((word for word in _BEFORE if all(name.startswith(word) for name in loaded)), "")
    ):
        loaded = {name.removeprefix(before): value for name, value in loaded.items()}
    return loaded


def load_torchvision(network: Network, state_dict: Mapping[str, Any]) -> None:
    """Load weights of torchvision's resnet18, 34, 50, 101 or 152 into the same network of ours.

    Strict: every name and shape must fit, or UsageError says which does not and nothing is loaded
    (`num_batches_tracked`, absent from old files, may be missing). What training scripts put around
    weights is taken off: a `state_dict` entry, `module.` before each name. torchvision strides in the
    3x3 of its bottlenecks: its logits come out of a network named so, `resnet-50-3x3`; with the paper's
    stride the weights fit, and the logits differ.
    """
    state_dict = unwrapped(state_dict)
    if not isinstance(state_dict, Mapping):
        raise UsageError(f"a state dict is needed, got {type(state_dict).__name__}")
    names, values = _torchvision_names(network), network.state_dict()

    def refused(reason: str) -> UsageError:
        return UsageError(f"these are not the weights of {network.spec.name}: {reason}")

    missing = [name for name in names.values() if name not in state_dict]
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    unknown = sorted(set(map(str, state_dict)) - set(names.values()))
    for what, wrong in (("missing", missing), ("not known to it", unknown)):
        if wrong:
            shown = ", ".join([*wrong[:3], *(["..."] if len(wrong) > 3 else [])])
            raise refused(f"{len(wrong)} {what} ({shown})")
    for ours, theirs in names.items():
        before, value = values[ours], state_dict.get(theirs, values[ours])
        if not isinstance(value, Tensor):
            raise refused(f"{theirs} is no tensor")
        if value.shape != before.shape:
            raise refused(f"{theirs} is {tuple(value.shape)}, not {tuple(before.shape)}")
        if value.is_floating_point() != before.is_floating_point():
            raise refused(f"{theirs} holds {value.dtype}")
        values[ours] = value
    network.load_state_dict(values)


def to_torchvision(network: Network) -> dict[str, Tensor]:
    """The network's weights and statistics under torchvision's names, as copies.

    Raises UsageError for networks that torchvision does not have: plain ones, options A and C, CIFAR's.
    """
    values = network.state_dict()
    return {
        theirs: values[ours].detach().clone() for ours, theirs in _torchvision_names(network).items()
    }
