"""What the tests of networks share: generators, networks without memory, states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from resnetlab.nets import Network, build

NAMES = ["plain-14", "resnet-14", "resnet-14-B", "resnet-14-C"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_meta(name: str, **kwargs: Any) -> Network:
    """The network without memory: names, shapes and counts only."""
    with torch.device("meta"):
        return build(name, **kwargs)


def perturbed(network: nn.Module) -> nn.Module:
    """Batch norms away from the identity, so that a statistic in the wrong place is seen."""
    random = generator(7)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.5, 1.5, generator=random)
                for tensor in (module.bias, module.running_mean):
                    tensor.normal_(0, 0.3, generator=random)
    return network


def state(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
