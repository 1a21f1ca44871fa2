"""What test protocols cost: ten crops, and five scales, against the single view.

    python benchmarks/protocols.py            # prints the table, writes protocols.json and README.md

ResNet-18 with random weights (the time does not depend on them) over a small folder of JPEG files,
read, resized and tested as `resnetlab evaluate` does. The protocols take turns, `ROUNDS` times;
medians are compared, and a ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import photos
import tables
import torch

from resnetlab import config, nets, paper, training
from resnetlab.images import feeds
from resnetlab.training import evaluate

ROUNDS, IMAGES = 5, 32
NETWORK = "resnet-18"


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of every round of each protocol."""
    network = nets.build(NETWORK, num_classes=2, generator=feeds.generator(0, "weights"))
    mean, divisor = torch.full((3, 1, 1), 127.0), torch.full((3, 1, 1), 255.0)
    subject = training.Trained(network, feeds.Normalise(mean, divisor), None)
    images = config.Data(name=f"folder:{folder}")
    times: dict[str, list[float]] = {name: [] for name in paper.VIEWS}
    for number in range(rounds + 1):
        for name in paper.VIEWS:
            if number == 0 and name != "single":
                continue  # one warm-up is enough
            began = time.perf_counter()
            evaluate.evaluate(subject, images, name, crop=paper.VIEWS[name].crop)
            if number:
                times[name].append(time.perf_counter() - began)
    return times


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        photos.make(Path(folder), 2, IMAGES)
        times = measure(Path(folder), rounds)
    rows = [
        {
            "protocol": name,
            "seconds": statistics.median(seconds),
            "times_the_single_view": statistics.median(
                ours / single for ours, single in zip(seconds, times["single"], strict=True)
            ),
        }
        for name, seconds in times.items()
    ]
    report = {
        **tables.conditions(),
        "network": NETWORK,
        "images": IMAGES,
        "rounds": rounds,
        "rows": rows,
    }
    lines = [
        [str(row["protocol"]), f"{row['seconds']:.1f}", f"{row['times_the_single_view']:.2f}"]
        for row in rows
    ]
    table = tables.markdown(["protocol", "seconds", "times the single view"], lines)
    remark = (
        f"{NETWORK}, {IMAGES} images of {photos.WIDTH}x{photos.HEIGHT}, medians of {rounds} rounds."
    )
    tables.publish("protocols", report, remark, table)


if __name__ == "__main__":
    main()
