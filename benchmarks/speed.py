"""Steps per second of each engine against the plain reference loop (`peer.py`), in the same run.

    python benchmarks/speed.py                        # two cores: minutes, most of them compiling
    python benchmarks/speed.py --device cuda          # a table of its own; the CPU's stays
    python benchmarks/speed.py --cases resnet-20,32,2 --rounds 3
    python benchmarks/speed.py --device cuda --engines fp32:graph bf16:graph+channels_last

Each runs in a process of its own, so that none sees another's memory, and they take turns, `--rounds`
times, a few steps each, while the others wait; medians, and the median of the ratios round by
round. The floor is the arithmetic alone: three times the forward pass's multiply-adds, at the rate
at which a large matrix product runs here in that precision, measured between the rounds.

On a GPU the plain loop is as torch comes, with TF32 in its convolutions, and its images are as many as
CIFAR's, so that its loader begins an epoch as rarely as it would.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import peer
import tables
import torch
from clocks import clock
from overhead import images_32

from resnetlab import config, machine, nets, training
from resnetlab.images import datasets, feeds
from resnetlab.training import engine

Case = tuple[str, int, int]
STEPS = {"cpu": 3, "cuda": 200}  # of a turn: on a GPU one takes a few milliseconds
PEER = {"cpu": ("fp32", "peer"), "cuda": ("tf32", "peer")}  # as torch comes
PLACES = {
    "cpu": "speed",
    "cuda": "speed_cuda",
}  # the table and its file: one does not replace the other
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


def images_of(side: int, place: str = "cpu") -> feeds.Dataset:
    """The digits, or random images of the size of CIFAR's; on a GPU also as many of them."""
    if side == 8:
        return datasets.load(config.Data())
    return images_32(2_000 if place == "cpu" else 50_000)


def prefetched(device: torch.device) -> int:
    """Batches that wait in the queues of the plain loop's DataLoader."""
    return 2 * peer.workers(device.type, machine.usable_cores())


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


def serve(pipe: Connection, case: Case, precision: str, how: str, place: str) -> None:
    """In a process of its own: for every number that comes, so many steps, and the seconds of one."""
    network, side, threads = case
    torch.set_num_threads(threads)
    device, images = torch.device(place), images_of(side, place)
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

    def ready(self) -> None:
        """Returns when it can make its first step."""
        self.pipe.recv()

    def steps(self, times: int) -> float:
        """Seconds per step."""
        self.pipe.send(times)
        seconds: float = self.pipe.recv()
        return seconds

    def end(self) -> None:
        self.pipe.send(0)
        self.process.join()


def measure(
    case: Case, ways: list[tuple[str, str]], device: torch.device, rounds: int, steps: int
) -> list[dict[str, Any]]:
    network, side, threads = case
    channels = images_of(side).in_channels
    plain = nets.build(network, num_classes=10, in_channels=channels)
    work = 3 * 128 * nets.count_multiply_adds(plain, side)
    steps *= (32 // side) ** 2 // 2 or 1  # a turn of some length also where a step has none
    torch.set_num_threads(threads)
    loop = PEER[device.type]
    subjects = {key: Subject(case, *key, device) for key in (loop, *ways)}
    for one in subjects.values():
        one.ready()
    first: dict[tuple[str, str], float] = {}
    for key, one in subjects.items():
        first[key] = one.steps(1)  # compiling included
        one.steps(4)  # a captured graph is there after these
    times: dict[tuple[str, str], list[float]] = {key: [] for key in subjects}
    rates: dict[config.Precision, list[float]] = {"fp32": [], "bf16": []}
    if device.type == "cuda":
        rates["tf32"] = []
    for _ in range(rounds):
        for key, one in subjects.items():
            # The first of a turn find caches cold and a DataLoader's queues full, as no long run does.
            one.steps(prefetched(device) if key == loop else 1)
            times[key].append(one.steps(steps))
            time.sleep(REST)  # its workers fill their queues again: not in the next one's time
        for known, measured in rates.items():
            training.set_precision(known)
            dtype = torch.bfloat16 if known == "bf16" else torch.float32
            measured.append(matmul_rate(dtype, device))
    for one in subjects.values():
        one.end()
    rows = []
    for (precision, how), seconds in times.items():
        median = statistics.median(seconds)
        ratios = [p / s for p, s in zip(times[loop], seconds, strict=True)]
        rate = rates.get(precision)  # type: ignore[call-overload]
        rows.append(
            {
                "network": network,
                "side": side,
                "threads": threads,
                "precision": precision,
                "engine": how,
                "ms_per_step": 1e3 * median,
                "times_the_peer": statistics.median(ratios),
                "share_of_the_floor": work / statistics.median(rate) / median if rate else None,
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
    options.add_argument("--engines", nargs="*", help="PRECISION:ENGINE [default: all]")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--steps", type=int, help=f"of a turn [default: {STEPS}]")
    options.add_argument("--out", type=Path, help="folder of the JSON file [default: this one]")
    options.add_argument("--note", default="", help="what else the machine was doing")
    asked = options.parse_args()
    device = training.resolve_device(asked.device)
    cases = CASES[device.type]
    if asked.cases:
        parts = [case.split(",") for case in asked.cases]
        cases = [(network, int(side), int(threads)) for network, side, threads in parts]
    ways = ENGINES[device.type]
    if asked.engines:
        pairs = [way.partition(":") for way in asked.engines]
        ways = [(precision, how) for precision, _, how in pairs]
    steps = asked.steps or STEPS[device.type]
    rows = [row for case in cases for row in measure(case, ways, device, asked.rounds, steps)]
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
    remark = remark_on(device.type, where, asked.rounds, steps, asked.note)
    table = tables.markdown(columns, lines)
    tables.publish(PLACES[device.type], report, remark, table, asked.out)


def remark_on(place: str, card: str, rounds: int, steps: int, note: str) -> str:
    """What must be known beside the machine: on a GPU which, and what the plain loop had."""
    words = f"Batch 128; medians of {rounds} rounds."
    if place == "cuda":
        loaders = peer.workers(place, machine.usable_cores())
        words = (
            f"{card}. Batch 128; medians of {rounds} rounds of {steps} steps; the plain loop with "
            f"{loaders} loader workers and TF32 in its convolutions, as torch comes."
        )
    return f"{words} {note}" if note else words


if __name__ == "__main__":
    main()
