"""Two runs of one thread each against one run of two threads, on the digits: steps per second in all.

    python benchmarks/side_by_side.py        # prints a table; needs two idle cores

Both arrangements in turn, `ROUNDS` times, each in fresh processes that warm up first; medians.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

ROUNDS, WARM_UP, STEPS = 3, 5, 40


def steps(network: str, threads: int, ready: Barrier, speeds: Queue[float]) -> None:
    """Child: put its steps per second, measured while the others of its arrangement work too."""
    import torch

    from resnetlab import config, training
    from resnetlab.images import datasets

    torch.set_num_threads(threads)
    run = config.run_from_parameters(network=network, steps=WARM_UP + STEPS)
    session = training.Training(run, datasets.load(run.data), torch.device("cpu"))
    for _ in range(WARM_UP):
        session.advance()
    ready.wait()
    began = time.perf_counter()
    for _ in range(STEPS):
        session.advance()
    speeds.put(STEPS / (time.perf_counter() - began))


def measure(network: str, processes: int, threads: int) -> float:
    """Steps per second of all processes together."""
    context = multiprocessing.get_context("spawn")
    ready, speeds = context.Barrier(processes), context.Queue()
    children = [
        context.Process(target=steps, args=(network, threads, ready, speeds)) for _ in range(processes)
    ]
    for child in children:
        child.start()
    total: float = sum(speeds.get(timeout=300) for _ in children)
    for child in children:
        child.join()
    return total


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print("| network | two runs, one thread each | one run, two threads | ratio |")
    print("|---|---|---|---|")
    for network in ("resnet-20", "resnet-56"):
        pairs = [(measure(network, 2, 1), measure(network, 1, 2)) for _ in range(rounds)]
        two, one = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"| {network} | {two:.1f} steps/s | {one:.1f} steps/s | {ratio:.2f} |")


if __name__ == "__main__":
    main()
