"""What a run needs of its device's memory, and what is said when it does not fit."""

from __future__ import annotations

import torch

from resnetlab import config, nets
from resnetlab.nets import probes
from resnetlab.training.state import RECOMPUTE_LAYERS, Training


class OutOfMemoryError(RuntimeError):
    """A run that did not fit on its device; the message says what it needed, had, and can change."""


def bytes_needed(run: config.Run) -> int:
    """About the device memory that training this run takes, worked out on the meta device.

    Activations kept for the backward pass, as much again for gradients on their way and libraries'
    workspaces, and weights, gradients and momentum. The images themselves are not counted: together
    the small sets are below 0.2 GB.
    """
    dtype = torch.float64 if run.precision == "fp64" else torch.float32
    size = run.recipe.crop or run.network.native_size
    with torch.device("meta"):
        network = nets.build(run.network, num_classes=10, in_channels=3).to(dtype)
        images = torch.empty(run.recipe.batch_size, 3, size, size, dtype=dtype)
    nets.recompute_activations(network, run.network.depth > RECOMPUTE_LAYERS)
    kept = probes.saved_bytes(network, images)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return 2 * kept + 4 * weights


def out_of_memory(error: BaseException, training: Training) -> OutOfMemoryError | None:
    """What it means that torch found no memory; None for any other error."""
    if not isinstance(error, torch.OutOfMemoryError):
        return None
    run, place = training.run, training.device
    had = ""
    if place.type == "cuda":
        free, total = (part / 1024**3 for part in torch.cuda.mem_get_info(place))
        held = torch.cuda.memory_reserved(place) / 1024**3
        had = f"; of {total:.1f} GB this process holds {held:.1f}, {free:.1f} are free"
    return OutOfMemoryError(
        f"{run.network.name} does not fit into the memory of {place}: it needs about "
        f"{bytes_needed(run) / 1024**3:.1f} GB{had}. Use fewer runs side by side (--jobs 1), a smaller "
        "--batch-size, or --precision bf16"
    )
