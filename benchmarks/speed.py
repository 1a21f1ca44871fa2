"""Updates a second of each engine against the plain reference loop (`peer.py`), in the same run.

    python benchmarks/speed.py                        # two cores: minutes, most of them compiling
    python benchmarks/speed.py --device cuda
    python benchmarks/speed.py --networks resnet-20 --rounds 3

Each runs in a process of its own, so that none sees another's memory, and they take turns, `--rounds`
times, a few updates each, while the others wait; medians, and the median of the ratios round by
round. The floor is the arithmetic alone: three times the forward pass's multiply-adds, at the rate
at which a large matrix product runs here in that precision, measured between the rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
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


def serve(pipe: Connection, network: str, precision: str, how: str, place: str) -> None:
    """In a process of its own: for every number that comes, so many updates, and the seconds of one."""
    device, images = torch.device(place), images_32()
    if how == "peer":
        plain = models.build(network, num_classes=10, in_channels=3)
        step = peer.Loop(plain, images.train.images, images.train.labels, device).step
    else:
        step = subject(network, precision, how, images, device)
    pipe.send(None)  # it is ready
    while times := pipe.recv():
        pipe.send(clock(step, times, device))


class Subject:
    """A process that trains in one way, an update or more when asked."""

    def __init__(self, network: str, precision: str, how: str, device: torch.device) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        words = (theirs, network, precision, how, str(device))
        self.process = context.Process(target=serve, args=words)
        self.process.start()
        theirs.close()
        self.pipe.recv()

    def updates(self, times: int) -> float:
        """Seconds an update."""
        self.pipe.send(times)
        seconds: float = self.pipe.recv()
        return seconds

    def end(self) -> None:
        self.pipe.send(0)
        self.process.join()


def measure(network: str, device: torch.device, rounds: int, steps: int) -> list[dict[str, Any]]:
    spec = config.Network.from_name(network)
    plain = models.build(spec, num_classes=10, in_channels=3)
    work = 3 * 128 * models.count_multiply_adds(plain, 32)
    keys = [("fp32", "peer"), *ENGINES[device.type]]
    subjects = {key: Subject(network, *key, device) for key in keys}
    first: dict[tuple[str, str], float] = {}
    for key, one in subjects.items():
        first[key] = one.updates(1)  # compiling included
        one.updates(4)  # a captured graph is there after these
    times: dict[tuple[str, str], list[float]] = {key: [] for key in subjects}
    rates: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for _ in range(rounds):
        for key, one in subjects.items():
            # The first of a turn find caches cold and a DataLoader's queues full, as no long run does.
            one.updates(PREFETCHED if key == ("fp32", "peer") else 1)
            times[key].append(one.updates(steps))
            time.sleep(REST)  # its workers fill their queues again: not in the next one's time
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            train._set_precision("fp32")
            rates[precision].append(matmul_rate(dtype, device))
    for one in subjects.values():
        one.end()
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
    device = train.resolve_device(asked.device)
    rows = [
        row
        for network in asked.networks.split(",")
        for row in measure(network, device, asked.rounds, asked.steps)
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
