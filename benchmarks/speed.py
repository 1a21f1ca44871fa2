"""Updates a second of each engine against the plain reference loop (`peer.py`), in the same run.

    python benchmarks/speed.py                        # two cores: minutes, most of them compiling
    python benchmarks/speed.py --device cuda
    python benchmarks/speed.py --networks resnet-20 --rounds 3

All take turns, `--rounds` times, a few updates each; medians, and the median of the ratios round by
round. The floor is the arithmetic alone: three times the forward pass's multiply-adds, at the rate
at which a large matrix product runs here in that precision, measured between the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import peer
import tables
import torch
from overhead import images_32

from resnetlab import config, data, engine, models, train

PREFETCHED = 2 * peer.WORKERS  # batches that wait in a DataLoader's queues
REST = 0.3  # seconds

ENGINES = {
    "cpu": [
        ("fp32", "eager"),
        ("fp32", "channels_last"),
        ("fp32", "compiled"),
        ("bf16", "channels_last"),
        ("bf16", "compiled+channels_last"),
    ],
    "cuda": [
        ("fp32", "eager"),
        ("fp32", "graph"),
        ("fp32", "graph+channels_last"),
        ("fp32", "compiled+graph"),
        ("tf32", "graph+channels_last"),
        ("bf16", "graph+channels_last"),
        ("bf16", "compiled+graph+channels_last"),
    ],
}


def subject(
    network: str, precision: str, how: str, images: data.Dataset, device: torch.device
) -> Callable[[], None]:
    """One update of our own training in that precision, by that engine."""
    run = config.run_from_parameters(
        network=network, data="cifar10", recipe="paper", precision=precision
    )
    training = train._Training(run, images, device, how=engine.parse(how))
    training.spread()
    training.network.train()

    def step() -> None:
        train._set_precision(run.precision)  # the subjects of one process differ in it
        if training.stream is None:
            training.advance()
            return
        with torch.cuda.stream(training.stream):
            training.advance()

    return step


def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Multiply-adds a second of a large matrix product of random numbers."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    a @ b
    return size**3 / clock(lambda: a @ b, 3, device)


def clock(step: Callable[[], Any], times: int, device: torch.device) -> float:
    """Seconds a call, the device waited for before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / times


def measure(
    network: str, images: data.Dataset, device: torch.device, rounds: int, steps: int
) -> list[dict[str, Any]]:
    spec = config.Network.from_name(network)
    plain = models.build(spec, num_classes=10, in_channels=3)
    work = 3 * 128 * models.count_multiply_adds(plain, 32)
    loop = peer.Loop(plain, images.train.images, images.train.labels, device)
    subjects: dict[tuple[str, str], Callable[[], None]] = {("fp32", "peer"): loop.step}
    first: dict[tuple[str, str], float] = {}
    for key in ENGINES[device.type]:
        subjects[key] = subject(network, *key, images, device)
    for key, step in subjects.items():
        first[key] = clock(step, 1, device)  # compiling included
        clock(step, 4, device)  # a captured graph is there after these
    times: dict[tuple[str, str], list[float]] = {key: [] for key in subjects}
    rates: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for _ in range(rounds):
        for key, step in subjects.items():
            if key == ("fp32", "peer"):
                clock(step, PREFETCHED, device)  # then its workers keep pace with it, as in a long run
            times[key].append(clock(step, steps, device))
            time.sleep(REST)  # its workers fill their queues again: not in the next one's time
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            train._set_precision("fp32")
            rates[precision].append(matmul_rate(dtype, device))
    rows = []
    for (precision, how), seconds in times.items():
        median = statistics.median(seconds)
        ratios = [p / s for p, s in zip(times["fp32", "peer"], seconds, strict=True)]
        known = rates.get(precision)
        rows.append(
            {
                "network": network,
                "precision": precision,
                "engine": how,
                "ms_per_update": 1e3 * median,
                "times_the_peer": statistics.median(ratios),
                "share_of_the_floor": work / statistics.median(known) / median if known else None,
                "first_update_seconds": first[precision, how],
            }
        )
    return rows


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--device", default="cpu", choices=list(ENGINES))
    options.add_argument("--networks", default="resnet-20,resnet-56")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--steps", type=int, default=3)
    options.add_argument("--note", default="", help="what else the machine was doing")
    asked = options.parse_args()
    device, images = train.resolve_device(asked.device), images_32()
    rows = [
        row
        for network in asked.networks.split(",")
        for row in measure(network, images, device, asked.rounds, asked.steps)
    ]
    where = (
        train._device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    report = {**tables.conditions(), "device": where, "rounds": asked.rounds, "rows": rows}
    columns = [
        "network",
        "precision",
        "engine",
        "update",
        "times the peer",
        "of the floor",
        "first update",
    ]
    lines = [
        [
            row["network"],
            row["precision"],
            row["engine"],
            f"{row['ms_per_update']:.{0 if row['ms_per_update'] > 20 else 2}f} ms",
            f"{row['times_the_peer']:.2f}",
            f"{100 * row['share_of_the_floor']:.0f} %" if row["share_of_the_floor"] else "",
            f"{row['first_update_seconds']:.1f} s",
        ]
        for row in rows
    ]
    note = f" {asked.note}" if asked.note else ""
    remark = f"{where}; batch 128, random 32x32 images; medians of {asked.rounds} rounds.{note}"
    name = "speed" if device.type == "cpu" else "speed_cuda"
    tables.publish(name, report, remark, tables.markdown(columns, lines))


if __name__ == "__main__":
    main()
