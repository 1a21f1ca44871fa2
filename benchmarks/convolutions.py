"""The convolutions of a network alone, forward and backward: what no engine can undercut here.

    python benchmarks/convolutions.py        # seconds; writes convolutions.json and README.md

Every convolution of the network by itself, on random numbers of the shape that it meets in training,
one after the other; no batch norm, no ReLU, no optimizer. Medians.
"""

from __future__ import annotations

import statistics
import sys
import time

import tables
import torch
from torch import nn

from resnetlab import machine, nets

ROUNDS, BATCH = 7, 128
NETWORKS = ("resnet-20", "resnet-56")


def seconds(network: str, dtype: torch.dtype, layout: torch.memory_format, rounds: int) -> float:
    """Of all convolutions of one step."""
    built = nets.build(network, num_classes=10, in_channels=3).to(dtype).to(memory_format=layout)
    met: list[tuple[nn.Conv2d, torch.Size]] = []
    for layer in built.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda own, given, out: met.append((own, given[0].shape)))
    with torch.no_grad():
        built(torch.randn(2, 3, 32, 32, dtype=dtype))
    work = []
    for index, (layer, shape) in enumerate(list(met)):
        images = torch.randn(BATCH, *shape[1:], dtype=dtype).contiguous(memory_format=layout)
        images.requires_grad_(index > 0)  # nobody asks for the gradient of the pixels
        with torch.no_grad():
            above = torch.randn_like(layer(images))
        work.append((layer, images, above))
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        for layer, images, above in work:
            layer(images).backward(above)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    machine.keep_freed_memory()
    rows = [
        {
            "network": network,
            "precision": precision,
            "layout": name,
            "ms": 1e3 * seconds(network, dtype, layout, rounds),
        }
        for network in NETWORKS
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
        for name, layout in (
            ("contiguous", torch.contiguous_format),
            ("channels_last", torch.channels_last),
        )
    ]
    lines = [
        [str(row["network"]), str(row["precision"]), str(row["layout"]), f"{row['ms']:.0f} ms"]
        for row in rows
    ]
    table = tables.markdown(["network", "precision", "memory", "convolutions of one step"], lines)
    remark = (
        f"{torch.get_num_threads()} threads; batch {BATCH}, 32x32 images; medians of {rounds} rounds."
    )
    tables.publish(
        "convolutions", {**tables.conditions(), "rounds": rounds, "rows": rows}, remark, table
    )


if __name__ == "__main__":
    main()
