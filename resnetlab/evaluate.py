"""Test protocols. Single view: each image once, as it is (Sec. 4.2, CIFAR-10)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


@torch.no_grad()
def single_view(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """(error in percent, mean cross-entropy) over all batches, in evaluation mode.

    The network's mode is left as it was. Raises ValueError if there is no image.
    """
    was_training = network.training
    network.eval()
    wrong: Tensor | int = 0  # sums stay on the device: no batch waits for the one before
    loss: Tensor | float = 0.0
    count = 0
    try:
        for images, labels in batches:
            logits = network(images)
            wrong = wrong + (logits.argmax(dim=1) != labels).sum()
            loss = loss + cross_entropy(logits, labels, reduction="sum").double()
            count += len(labels)
    finally:
        network.train(was_training)
    if count == 0:
        raise ValueError("no images to test on")
    return 100 * int(wrong) / count, float(loss) / count
