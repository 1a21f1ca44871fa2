"""What two threads cost in company: CPU time and wall time of a step, by how the threads wait.

    python benchmarks/waiting.py           # writes waiting.json, README.md

libgomp's threads wait for each other by turning in a loop; passive ones (OMP_WAIT_POLICY) sleep. Each
way is a process of its own; they take turns, a few steps each, alone and beside as many busy processes
as there are cores. Medians of the rounds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Any

import tables

from resnetlab import machine

ROUNDS, STEPS, WARM_UP = 3, 5, 2
CASES = (("resnet-20", "8x8"), ("resnet-20", "32x32"))
WAYS = (("1", "active"), ("2", "active"), ("2", "passive"))  # threads, OMP_WAIT_POLICY


def child(network: str, images: str, threads: str) -> None:
    """At each line of standard input, STEPS steps; their seconds of wall and of CPU, a line."""
    import torch
    from overhead import images_32

    from resnetlab import config, training

    torch.set_num_threads(int(threads))
    small = images == "8x8"
    how: dict[str, Any] = {"data": "digits" if small else "cifar10", "recipe": "paper", "steps": 10_000}
    run = config.run_from_parameters(network=network, **how)
    dataset = training.load_data(run) if small else images_32()
    session = training.Training(run, dataset, torch.device("cpu"))
    for _ in range(WARM_UP):
        session.advance()
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(STEPS):
            session.advance()
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


def main() -> None:
    rows, lines = [], []
    busy = [sys.executable, "-c", "while True: pass"]
    for network, images in CASES:
        children: list[Any] = []
        for threads, policy in WAYS:
            environment = os.environ | {"OMP_WAIT_POLICY": policy}
            environment.pop("OMP_NUM_THREADS", None)
            words = [sys.executable, __file__, network, images, threads]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            children.append(subprocess.Popen(words, env=environment, **pipes))
        for one in children:
            assert one.stdout.readline() == "ready\n"
        for company in (0, machine.usable_cores()):
            others = [subprocess.Popen(busy) for _ in range(company)]
            taken: list[list[tuple[float, ...]]] = [[] for _ in WAYS]
            for _ in range(ROUNDS):
                for one, steps in zip(children, taken, strict=True):
                    one.stdin.write("\n")
                    one.stdin.flush()
                    steps.append(tuple(map(float, one.stdout.readline().split())))
            for other in others:
                other.kill()
                other.wait()
            for (threads, policy), steps in zip(WAYS, taken, strict=True):
                wall, cpu = (1e3 * statistics.median(part) / STEPS for part in zip(*steps, strict=True))
                how = f"{threads}, {policy}" if threads != "1" else threads
                row = {"network": network, "images": images, "threads": int(threads), "waiting": policy}
                rows.append(row | {"company": company, "wall": wall, "cpu": cpu})
                beside = str(company) if company else "–"
                lines.append([network, images, beside, how, f"{wall:.0f} ms", f"{cpu:.0f} ms"])
        for one in children:
            one.stdin.close()
            one.wait()
    load = os.getloadavg()[1]
    report = {**tables.conditions(), "rounds": ROUNDS, "rows": rows, "load": load}
    columns = ["network", "images", "busy processes", "threads", "a step", "its CPU time"]
    remark = f"Batch 128, fp32, eager; medians of {ROUNDS} rounds; load of the machine {load:.1f}."
    tables.publish("waiting", report, remark, tables.markdown(columns, lines))


if __name__ == "__main__":
    child(*sys.argv[1:]) if sys.argv[1:] else main()
