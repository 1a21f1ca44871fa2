"""What measuring costs: logging, probes of gradients and weights, checkpoints, against the bare step.

    python benchmarks/overhead.py            # prints the table, writes overhead.json and README.md

Each part is timed by itself, in turn with a bare step, `ROUNDS` times; medians are compared. Its share
is its median over how often it happens at the recipe's default settings, over the median step. (Timing
whole runs with and without would bury 1 % in the machine's noise.)
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tables
import torch

from resnetlab import config, nets, store, training
from resnetlab.images import datasets, feeds
from resnetlab.nets import probes

ROUNDS = 40


def images_32(train: int = 2_000) -> feeds.Dataset:
    """Random 32x32 colour images: the time of a step does not depend on what they show."""
    random = feeds.generator(0, "benchmark")
    splits = [
        feeds.Split(
            torch.randint(256, (count, 3, 32, 32), generator=random, dtype=torch.uint8),
            torch.randint(10, (count,), generator=random),
        )
        for count in (train, 500)
    ]
    return feeds.Dataset("random 32x32", tuple("0123456789"), *splits)


def seconds(part: Callable[[], Any]) -> float:
    began = time.perf_counter()
    part()
    return time.perf_counter() - began


def measure(network: str, dataset: feeds.Dataset, recipe: config.Recipe, rounds: int) -> dict[str, Any]:
    """Median seconds of a step and of each part, and the parts' shares in percent of a step."""
    run = config.Run(network=config.Network.from_name(network), recipe=recipe)
    session = training.Training(run, dataset, torch.device("cpu"))
    with (
        tempfile.TemporaryDirectory() as folder,
        store.RunWriter(Path(folder), "b", "r", run) as writer,
    ):
        layers = training.probe_layers(session.network)
        parameters = nets.count_parameters(session.network)
        writer.begin(execution={}, versions={}, dataset={}, layers=layers, parameters=parameters)
        writer.start_over()

        def log() -> None:
            row = session.close_window()
            writer.append(store.METRICS_FILE, row)
            timing = {"step": session.step, "seconds": 1.0, "images_per_second": 1.0}
            writer.append(store.TIMING_FILE, timing)

        def probe() -> None:
            weights = probes.Weights(session.network)  # in a training, before the step
            probed = session.probe(weights).items()
            rows = [{"step": session.step, "kind": kind, "values": values} for kind, values in probed]
            writer.append(store.PROBES_FILE, *rows)

        def save() -> None:
            writer.save_checkpoint(session.step, session.save(), 0.0)

        parts = {"log": log, "probe": probe, "checkpoint": save}
        every = {
            "log": recipe.log_every,
            "probe": recipe.probe_every,
            "checkpoint": recipe.checkpoint_every,
        }
        times: dict[str, list[float]] = {"step": [], **{name: [] for name in parts}}
        for _ in range(3):
            session.advance()
        for _ in range(rounds):
            times["step"].append(seconds(session.advance))
            for name, part in parts.items():
                times[name].append(seconds(part))
                session.advance()  # so that the next log has a window and the caches are a step's
    medians = {name: statistics.median(values) for name, values in times.items()}
    shares = {name: 100 * medians[name] / every[name] / medians["step"] for name in parts}
    return {"network": network, "data": dataset.label, "recipe": recipe.name, "seconds": medians,
            "percent_of_a_step": shares}  # fmt: skip


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    torch.set_num_threads(1)
    digits, large = datasets.load(config.Data()), images_32()
    rows = [
        measure(network, dataset, recipe, max(3, rounds // divide))
        for dataset, recipe, divide in ((digits, config.PAPER_400, 1), (large, config.SHORT, 5))
        for network in ("plain-20", "resnet-20", "plain-56", "resnet-56")
    ]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    report = {**tables.conditions(), "peak_memory_mb": memory, "rows": rows}
    columns = ["network", "data, recipe", "step", "log and probes", "checkpoint"]
    table = tables.markdown(columns, [as_line(row) for row in rows])
    tables.publish("overhead", report, f"One thread used, peak memory {memory} MB.", table)


def as_line(row: dict[str, Any]) -> list[str]:
    share, step = row["percent_of_a_step"], 1e3 * row["seconds"]["step"]
    return [
        row["network"],
        f"{row['data']}, {row['recipe']}",
        f"{step:.0f} ms",
        f"{share['log'] + share['probe']:.2f} %",
        f"{share['checkpoint']:.2f} %",
    ]


if __name__ == "__main__":
    main()
