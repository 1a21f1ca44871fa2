"""One optimizer step. `Training` calls it, for every engine and device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from resnetlab import config


class Step(NamedTuple):
    """What a step saw: the batch's mean cross-entropy and number of wrong images, by the old weights.

    `norm` is the L2 norm of the gradient over all parameters before clipping; None without clipping.
    """

    loss: Tensor
    wrong: Tensor
    norm: Tensor | None


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,  # (B, C, S, S), squares of S pixels a side
    labels: Tensor,  # (B,)
    precision: config.Precision = "fp32",
    clip: float | None = None,
) -> Step:
    """One step: forward, backward, new weights. What is returned was measured with the old ones.

    That stays on the device: no step waits for it. The gradients stay in `.grad` until the next step,
    for the probes; with `clip` they have been scaled down to that L2 norm over all parameters, if it
    was larger.
    """
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = network(images)
    loss = cross_entropy(logits.float() if precision == "bf16" else logits, labels)
    optimizer.zero_grad()
    loss.backward()
    norm = clip_grad_norm_(network.parameters(), clip) if clip is not None else None
    optimizer.step()
    return Step(loss.detach(), (logits.argmax(dim=1) != labels).sum(), norm)
