"""One training over two processes, against two separate trainings of half the batch.

    python benchmarks/processes.py           # needs two idle cores; writes processes.json, README.md

Two processes of one thread each, in both arrangements: together, they average gradients after every
step (gloo); apart, they do not. Both in turn, `ROUNDS` times, in fresh processes that warm up first; a
ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import sys
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

import tables
from overhead import images_32

ROUNDS, WARM_UP = 5, 3
DATA = {8: "digits", 32: "cifar10", 224: "digits-large"}  # in place of CIFAR-10 random images
CASES = (  # network, pixels a side, batch of both together, steps with the clock
    ("resnet-20", 32, 128, 20),
    ("resnet-56", 32, 128, 8),
    ("resnet-18", 224, 32, 5),
    ("resnet-20", 8, 128, 60),
    ("resnet-56", 8, 128, 20),
)


def images_per_second(
    rank: int, port: int | None, case: tuple[str, int, int, int], ready: Barrier, speeds: Queue[float]
) -> None:
    """Child: put its images a second, measured while the other works too."""
    import torch

    from resnetlab import config, training
    from resnetlab.images import datasets, feeds, photographs
    from resnetlab.training import ranks

    network, side, batch, steps = case
    together = port is not None
    if together:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        here = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        os.environ.update(place | here)
    torch.set_num_threads(1)
    run = config.run_from_parameters(
        network=network,
        data=DATA[side],
        recipe="imagenet" if side == 224 else "paper",
        batch_size=batch if together else batch // 2,
        steps=WARM_UP + steps,
    )
    dataset: feeds.Dataset | photographs.Photos
    if side == 32:
        dataset = images_32()
    else:
        dataset = photographs.load(run.data) if side == 224 else datasets.load(run.data)
    with ranks.join("cpu") as (us, device):
        session = training.Training(run, dataset, torch.device(device), us)
        session.spread()
        for _ in range(WARM_UP):
            session.advance()
        ready.wait()
        began = time.perf_counter()
        for _ in range(steps):
            session.advance()
        speeds.put(steps * batch / 2 / (time.perf_counter() - began))


def measure(case: tuple[str, int, int, int], together: bool) -> float:
    """Images a second of both processes."""
    port = None
    if together:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    ready, speeds = context.Barrier(2), context.Queue()
    children = [
        context.Process(target=images_per_second, args=(rank, port, case, ready, speeds))
        for rank in range(2)
    ]
    for child in children:
        child.start()
    total: float = sum(speeds.get(timeout=600) for _ in children)
    for child in children:
        child.join()
    return total


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    rows, lines = [], []
    for case in CASES:
        pairs = [(measure(case, True), measure(case, False)) for _ in range(rounds)]
        one, two = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(together / apart for together, apart in pairs)
        network, side, batch, _ = case
        rows.append({"network": network, "pixels": side, "batch": batch, "together": one, "apart": two,
                     "ratio": ratio})  # fmt: skip
        lines.append(
            [network, f"{side}x{side}", str(batch), f"{one:.0f}", f"{two:.0f}", f"{ratio:.2f}"]
        )
    report = {**tables.conditions(), "rounds": rounds, "rows": rows}
    columns = [
        "network",
        "images",
        "batch",
        "one training, images/s",
        "two trainings, images/s",
        "ratio",
    ]
    remark = f"Two processes of one thread each, medians of {rounds} rounds."
    tables.publish("processes", report, remark, tables.markdown(columns, lines))


if __name__ == "__main__":
    main()
