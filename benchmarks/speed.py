"""Steps per second of each engine against the plain reference loop (`peer.py`), in the same run.

    python benchmarks/speed.py                        # two cores: minutes, most of them compiling
    python benchmarks/speed.py --device cuda
    python benchmarks/speed.py --cases resnet-20,32,2 --rounds 3

Each runs in a process of its own, so that none sees another's memory, and they take turns, `--rounds`
times, a few steps each, while the others wait; medians, and the median of the ratios round by
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

from resnetlab import config, nets, training
from resnetlab.images import datasets, feeds
from resnetlab.training import engine

Case = tuple[str, int, int]
PREFETCHED = 2 * peer.WORKERS  # batches that wait in a DataLoader's queues
REST = 0.3  # seconds

CASES = {  # network, pixels a side, threads: on the digits a study trains one run a core
    "cpu": [("resnet-20", 32, 2), ("resnet-56", 32, 2), ("resnet-20", 8, 1), ("resnet-56", 8, 1)],
    "cuda": [("resnet-20", 32, 2), ("resnet-56", 32, 2), ("resnet-110", 32, 2)],
}
ENGINES = {
    "cpu": [
        ("fp32", "eager"),
        ("fp32", "channels_last"),
        ("fp32", "compiled"),
        ("bf16", "eager"),
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


def images_of(side: int) -> feeds.Dataset:
    """The digits, or random images of their size of CIFAR's."""
    return datasets.load(config.Data()) if side == 8 else images_32()


def subject(
    network: str, precision: str, how: str, images: feeds.Dataset, device: torch.device
) -> Callable[[], None]:
    """One step of our own training in that precision, by that engine."""
    name = "cifar10" if images.size == 32 else "digits"
    run = config.run_from_parameters(network=network, data=name, recipe="paper", precision=precision)
    session = training.make_training(run, images, device, how=engine.parse(how))
    session.spread()
    session.network.train()

    def step() -> None:
        training.set_precision(run.precision)  # the subjects of one process differ in it
        with session.on_its_stream():
            session.advance()

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


def serve(pipe: Connection, case: Case, precision: str, how: str, place: str) -> None:
    """In a process of its own: for every number that comes, so many steps, and the seconds of one."""
    network, side, threads = case
    torch.set_num_threads(threads)
    device, images = torch.device(place), images_of(side)
    if how == "peer":
        plain = nets.build(network, num_classes=10, in_channels=images.in_channels)
        step = peer.Loop(plain, images.train.images, images.train.labels, device).step
    else:
        step = subject(network, precision, how, images, device)
    pipe.send(None)  # it is ready
    while times := pipe.recv():
        pipe.send(clock(step, times, device))


class Subject:
    """A process that trains in one way, a step or more when asked."""

    def __init__(self, case: Case, precision: str, how: str, device: torch.device) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        words = (theirs, case, precision, how, str(device))
        self.process = context.Process(target=serve, args=words)
        self.process.start()
        theirs.close()
        self.pipe.recv()

    def steps(self, times: int) -> float:
        """Seconds per step."""
        self.pipe.send(times)
        seconds: float = self.pipe.recv()
        return seconds

    def end(self) -> None:
        self.pipe.send(0)
        self.process.join()


def measure(case: Case, device: torch.device, rounds: int, steps: int) -> list[dict[str, Any]]:
    network, side, threads = case
    channels = images_of(side).in_channels
    plain = nets.build(network, num_classes=10, in_channels=channels)
    work = 3 * 128 * nets.count_multiply_adds(plain, side)
    steps *= (32 // side) ** 2 // 2 or 1  # a turn of some length also where a step has none
    torch.set_num_threads(threads)
    keys = [("fp32", "peer"), *ENGINES[device.type]]
    subjects = {key: Subject(case, *key, device) for key in keys}
    first: dict[tuple[str, str], float] = {}
    for key, one in subjects.items():
        first[key] = one.steps(1)  # compiling included
        one.steps(4)  # a captured graph is there after these
    times: dict[tuple[str, str], list[float]] = {key: [] for key in subjects}
    rates: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for _ in range(rounds):
        for key, one in subjects.items():
            # The first of a turn find caches cold and a DataLoader's queues full, as no long run does.
            one.steps(PREFETCHED if key == ("fp32", "peer") else 1)
            times[key].append(one.steps(steps))
            time.sleep(REST)  # its workers fill their queues again: not in the next one's time
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            training.set_precision("fp32")
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
                "side": side,
                "threads": threads,
                "precision": precision,
                "engine": how,
                "ms_per_step": 1e3 * median,
                "times_the_peer": statistics.median(ratios),
                "share_of_the_floor": work / statistics.median(known) / median if known else None,
                "first_step_seconds": first[precision, how],
            }
        )
    return rows


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--device", default="cpu", choices=list(ENGINES))
    options.add_argument("--cases", nargs="*", help="NETWORK,PIXELS A SIDE,THREADS [default: all]")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--steps", type=int, default=3)
    options.add_argument("--note", default="", help="what else the machine was doing")
    asked = options.parse_args()
    device = training.resolve_device(asked.device)
    cases = CASES[device.type]
    if asked.cases:
        parts = [case.split(",") for case in asked.cases]
        cases = [(network, int(side), int(threads)) for network, side, threads in parts]
    rows = [row for case in cases for row in measure(case, device, asked.rounds, asked.steps)]
    where = training.device_name(device)
    report = {**tables.conditions(), "device": where, "rounds": asked.rounds, "rows": rows}
    columns = [
        "network",
        "images",
        "threads",
        "precision",
        "engine",
        "step",
        "times the peer",
        "of the floor",
        "first step",
    ]
    lines = [
        [
            row["network"],
            f"{row['side']}x{row['side']}",
            str(row["threads"]),
            row["precision"],
            row["engine"],
            f"{row['ms_per_step']:.{0 if row['ms_per_step'] > 20 else 2}f} ms",
            f"{row['times_the_peer']:.2f}",
            f"{100 * row['share_of_the_floor']:.0f} %" if row["share_of_the_floor"] else "",
            f"{row['first_step_seconds']:.1f} s",
        ]
        for row in rows
    ]
    note = f" {asked.note}" if asked.note else ""
    place = f"{where}; " if device.type == "cuda" else ""
    remark = f"{place}Batch 128; medians of {asked.rounds} rounds.{note}"
    name = "speed" if device.type == "cpu" else "speed_cuda"
    tables.publish(name, report, remark, tables.markdown(columns, lines))


if __name__ == "__main__":
    main()
