"""What an engine and a precision do to a gradient: one step against float64, median over layers.

    python benchmarks/numerics.py                      # random 32x32 images
    python benchmarks/numerics.py --data folder:PATH   # real ones

For each network and seed: the weights as initialised, the first batch of its training, the gradient of
the mean cross-entropy. Relative error of a layer: |g - g64| / |g64|, and of its norm alone. Median over
layers, then mean and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import tables
import torch
from overhead import images_32
from speed import ENGINES
from torch.nn.functional import cross_entropy

from resnetlab import config, nets, training
from resnetlab.images import datasets, feeds
from resnetlab.training import engine


def gradients(
    run: config.Run, images: feeds.Dataset, how: engine.Engine, device: torch.device
) -> list[torch.Tensor]:
    """Every weighted layer's gradient at the run's first batch, in float64."""
    training.set_precision(run.precision)
    session = training.make_training(run, images, device, how=how)
    session.spread()
    session.network.train()
    pixels, labels = next(session.feed.batches(0, 1))
    pixels = pixels.contiguous(memory_format=how.memory_format)
    with torch.autocast(device.type, torch.bfloat16, enabled=run.precision == "bf16"):
        logits = session.model(pixels)
    cross_entropy(logits.float() if run.precision == "bf16" else logits, labels).backward()
    layers = nets.weighted_layers(session.network).values()
    return [
        layer.weight.grad.detach().double().cpu() for layer in layers if layer.weight.grad is not None
    ]


def measure(
    network: str, images: feeds.Dataset, label: str, seeds: list[int], device: torch.device
) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for seed in seeds:
        common: dict[str, Any] = {"network": network, "data": label, "recipe": "paper", "seed": seed}
        exact = gradients(
            config.run_from_parameters(**common, precision="fp64"), images, engine.EAGER, device
        )
        for precision, name in ENGINES[device.type]:
            how = engine.parse(
                name.replace("graph+", "").replace("+graph", "").replace("graph", "eager")
            )
            run = config.run_from_parameters(**common, precision=precision)
            pairs = list(zip(gradients(run, images, how, device), exact, strict=True))
            errors = [float((g - e).norm() / e.norm()) for g, e in pairs]
            norms = [abs(float(g.norm() / e.norm()) - 1) for g, e in pairs]
            key = precision, how.name
            found.setdefault(key, []).append((statistics.median(errors), statistics.median(norms)))
    rows = []
    for (precision, name), values in found.items():
        errors, norms = ([pair[part] for pair in values] for part in (0, 1))
        rows.append(
            {
                "network": network,
                "precision": precision,
                "engine": name,
                "seeds": len(values),
                "gradient_error_percent": 100 * statistics.mean(errors),
                "spread_percent": 100 * statistics.stdev(errors) if len(errors) > 1 else None,
                "norm_error_percent": 100 * statistics.mean(norms),
            }
        )
    return rows


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--device", default="cpu", choices=list(ENGINES))
    options.add_argument("--networks", default="plain-20,resnet-20,plain-56,resnet-56")
    options.add_argument("--data", default="cifar10", help="folder:PATH; without it random images")
    options.add_argument("--seeds", default="0,1,2")
    asked = options.parse_args()
    device = training.resolve_device(asked.device)
    images = images_32() if asked.data == "cifar10" else datasets.load(config.Data(name=asked.data))
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    rows = [
        row
        for network in asked.networks.split(",")
        for row in measure(network, images, asked.data, seeds, device)
    ]
    report = {**tables.conditions(), "data": images.label, "rows": rows}
    columns = ["network", "precision", "engine", "gradient error", "error of the norm"]
    lines = [
        [
            row["network"],
            row["precision"],
            row["engine"],
            f"{row['gradient_error_percent']:.2g} ± {row['spread_percent'] or 0:.2g} %",
            f"{row['norm_error_percent']:.2g} %",
        ]
        for row in rows
    ]
    remark = f"{images.label}, batch 128, at initialisation; mean ± sd over {len(seeds)} seeds."
    tables.publish("numerics", report, remark, tables.markdown(columns, lines))


if __name__ == "__main__":
    main()
