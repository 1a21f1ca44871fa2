"""What test protocols cost: ten crops, and five scales, against the single view.

    python benchmarks/protocols.py            # prints the table, writes protocols.json and README.md

ResNet-18 with random weights (the time does not depend on them) over a small folder of JPEG files,
read, resized and tested as `resnetlab evaluate` does. The protocols take turns, `ROUNDS` times;
medians are compared, and a ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from resnetlab import config, data, evaluate, machine, models, results, train

ROUNDS, IMAGES = 5, 32
NETWORK = "resnet-18"
HERE = Path(__file__).parent
BEGIN, END = "<!-- protocols -->", "<!-- /protocols -->"  # the table's place in README.md


def make_photos(folder: Path, count: int) -> None:
    """`count` test images in two classes, 500x375 JPEG files: ImageNet's usual size, smooth noise."""
    random = np.random.default_rng(0)
    for split, images in (("train", 2), ("test", count)):
        for index in range(images):
            place = folder / split / "ab"[index % 2]
            place.mkdir(parents=True, exist_ok=True)
            small = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            large = small.resize((500, 375), Image.Resampling.BICUBIC)
            large.save(place / f"{index:04d}.jpg", quality=90)


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of every round of each protocol."""
    network = models.build(NETWORK, num_classes=2, generator=data.generator(0, "weights"))
    mean, divisor = torch.full((3, 1, 1), 127.0), torch.full((3, 1, 1), 255.0)
    subject = evaluate.Trained(network, data.Normalise(mean, divisor), None)
    images = config.Data(name=f"folder:{folder}")
    times: dict[str, list[float]] = {name: [] for name in evaluate.PROTOCOLS}
    for number in range(rounds + 1):
        for name in evaluate.PROTOCOLS:
            if number == 0 and name != "single":
                continue  # one warm-up is enough
            began = time.perf_counter()
            evaluate.evaluate(subject, images, name, crop=evaluate.CROP)
            if number:
                times[name].append(time.perf_counter() - began)
    return times


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder), IMAGES)
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
    processor = train._device_name(torch.device("cpu"))
    report = {
        "date": results.now()[:10],
        "machine": f"{processor}, {machine.usable_cores()} cores",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        "network": NETWORK,
        "images": IMAGES,
        "rounds": rounds,
        "rows": rows,
    }
    results.write_json(HERE / "protocols.json", report)
    table = as_table(report)
    print(table)
    page = HERE / "README.md"
    head, _, rest = page.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    results.atomic_write(page, f"{head}{BEGIN}\n{table}\n{END}{tail}".encode())


def as_table(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    lines = [
        f"{report['machine']}; {report['versions']}; {report['date']}. {report['network']}, "
        f"{report['images']} images of 500x375, medians of {report['rounds']} rounds.",
        "",
        "| protocol | seconds | times the single view |",
        "|---|---|---|",
    ]
    for row in report["rows"]:
        ratio = row["times_the_single_view"]
        lines.append(f"| {row['protocol']} | {row['seconds']:.1f} | {ratio:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
