"""What lies around the steps: first step, testing, a study's share of a run, resuming, memory.

    python benchmarks/around.py

Each in fresh processes where it matters, in turn, `ROUNDS` times; medians.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peer
import tables
import torch
from overhead import images_32
from torch.utils.data import DataLoader
from torchvision import transforms

from resnetlab import config, nets, training
from resnetlab.images import streaming
from resnetlab.images.feeds import Setting
from resnetlab.training import evaluate

ROUNDS = 5
START = """
import sys, time
began = time.perf_counter()
from resnetlab import config
from resnetlab import training
run = config.run_from_parameters(network="resnet-20", data=sys.argv[1], steps=1, checkpoint_every=1)
import torch
images = training.load_data(run)
session = training.Training(run, images, torch.device("cpu"))
session.advance()
print(time.perf_counter() - began)
"""


def first_step() -> float:
    """Seconds to the first step on the digits in a fresh process: import, data, step."""
    out = subprocess.run(
        [sys.executable, "-c", START, "digits"], capture_output=True, text=True, check=True
    )
    return float(out.stdout)


def command(*words: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "resnetlab", *words], capture_output=True, check=True)
    return time.perf_counter() - began


def training_of(folder: Path, steps: int) -> dict[str, float]:
    """The same short run without a notebook, and through the study runner with one."""
    common = ["--steps", str(steps), "--results", str(folder), "--engine", "eager"]
    bare = command("train", "resnet-20", *common, "--study", f"bare{steps}")
    study = ["--depths", "20", "--shortcuts", "A", "--name", f"study{steps}", "--jobs", "1"]
    through = command("study", "digits", *study, *common)
    again = command("study", "digits", *study, *common)
    return {"train": bare, "study": through, "study again": again}


MEMORY = """
import resource, sys
import torch
from overhead import images_32
from resnetlab import config
from resnetlab import training
from resnetlab.training import engine
run = config.run_from_parameters(network=sys.argv[1], data="cifar10", recipe="paper")
session = training.make_training(run, images_32(), torch.device("cpu"), how=engine.parse(sys.argv[2]))
for _ in range(5):
    session.advance()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def memory_of(network: str, how: str) -> float:
    """Peak memory in MB of a fresh process that trains on 32x32 images, batch 128."""
    words = [sys.executable, "-c", MEMORY, network, how]
    out = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    return float(out.stdout)


def resuming() -> dict[str, float]:
    """Seconds from `fit` to its first row, in a warm process: of a fresh run, and of a resumed one."""
    run = config.run_from_parameters(network="resnet-20", steps=200, log_every=1)
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for which in ("warming up", "fresh", "resumed"):
            rows: list[float] = []

            def stop(row: Mapping[str, Any], rows: list[float] = rows) -> None:
                rows.append(time.perf_counter())
                if len(rows) == 20:
                    os.kill(os.getpid(), signal.SIGTERM)

            name = "warm" if which == "warming up" else "run"
            began = time.perf_counter()
            training.fit(
                run, name=name, results_folder=folder, device="cpu", engine="eager", on_row=stop
            )
            seconds[which] = rows[0] - began
    return seconds


def testing(rounds: int) -> tuple[float, float]:
    """Seconds to test resnet-20 on 2,000 images: ours, and a DataLoader with per-image transforms."""
    images = images_32()
    network = nets.build("resnet-20", num_classes=10, in_channels=3).eval()
    run = config.run_from_parameters(network="resnet-20", data="cifar10", recipe="paper")
    feed = streaming.feed(images, Setting(run.recipe, 0, torch.device("cpu"), torch.float32))
    pictures = peer.Pictures(images.train.images, images.train.labels)
    pictures.transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(peer.MEAN, peer.DEVIATION)]
    )
    loader = DataLoader(pictures, batch_size=128, num_workers=peer.workers("cpu", 0))
    ours, theirs = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        evaluate.single_view(network, feed.plain("train"))
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        with torch.no_grad():
            for pixels, labels in loader:
                (network(pixels).argmax(1) != labels).sum().item()
        theirs.append(time.perf_counter() - began)
    return statistics.median(ours), statistics.median(theirs)


def decoding(rounds: int) -> tuple[float, float]:
    """Seconds for the augmented batches of 50 steps: ours, and the DataLoader's."""
    images = images_32()
    run = config.run_from_parameters(network="resnet-20", data="cifar10", recipe="paper")
    feed = streaming.feed(images, Setting(run.recipe, 0, torch.device("cpu"), torch.float32))
    loader = peer.Loop(
        torch.nn.Linear(1, 1), images.train.images, images.train.labels, torch.device("cpu")
    )
    ours, theirs = [], []
    next(loader.batches)
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in feed.batches(0, 50):
            pass
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        for _ in range(50):
            next(loader.batches)
        theirs.append(time.perf_counter() - began)
    return statistics.median(ours), statistics.median(theirs)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    starts = [first_step() for _ in range(rounds)]
    runs: list[dict[str, float]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(training_of(Path(folder), 20))
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    test, decode = testing(rounds), decoding(rounds)
    resumed = [resuming() for _ in range(rounds)]
    first_row = {which: statistics.median(one[which] for one in resumed) for which in resumed[0]}
    rows: list[dict[str, Any]] = [
        {"what": "import, digits, first step of resnet-20", "seconds": statistics.median(starts)},
        {"what": "resnetlab train resnet-20, 20 steps, digits", "seconds": medians["train"]},
        {
            "what": "the same through a study: papermill, its notebook, the report",
            "seconds": medians["study"],
        },
        {"what": "the study again: nothing to train, the report", "seconds": medians["study again"]},
        {"what": "test of 2,000 images 32x32, resnet-20", "seconds": test[0], "peer": test[1]},
        {"what": "augmented batches of 50 steps, 32x32", "seconds": decode[0], "peer": decode[1]},
        {"what": "a fresh run to its first row (1 step)", "seconds": first_row["fresh"]},
        {"what": "a resumed one (checkpoint checked and read)", "seconds": first_row["resumed"]},
    ]
    rows += [
        {"what": f"peak memory, {network}, 32x32, {how}", "mb": memory_of(network, how)}
        for network in ("resnet-20", "resnet-56")
        for how in ("eager", "compiled")
    ]
    lines = [
        [
            row["what"],
            f"{row['seconds']:.2f} s" if "seconds" in row else f"{row['mb']:,.0f} MB",
            f"{row['peer']:.2f} s" if "peer" in row else "",
            f"{row['peer'] / row['seconds']:.1f}" if "peer" in row else "",
        ]
        for row in rows
    ]
    table = tables.markdown(["what", "ours", "DataLoader loop", "times faster"], lines)
    report = {**tables.conditions(), "rounds": rounds, "rows": rows}
    tables.publish("around", report, f"Medians of {rounds} rounds.", table)


if __name__ == "__main__":
    main()
