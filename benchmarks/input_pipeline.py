"""Images a second of the ImageNet input pipeline, against plain decoding of the same files.

    python benchmarks/input_pipeline.py      # needs two idle cores; writes its .json, README.md

Plain decoding is as many processes as cores, which read and decode files with Pillow or with
torchvision's decoder and keep nothing. The pipeline decodes, cuts, resizes and hands over crops of 224,
as training takes them from its workers. All go over the same files, in turn, `ROUNDS` times; a ratio is
the median of the rounds' own ratios. Processes are started, and have worked, beforehand.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.pool import Pool
from pathlib import Path

import photos
import tables
import torch
from torch import Tensor

from resnetlab import config, machine
from resnetlab.images import photographs, streaming
from resnetlab.images.feeds import Setting

ROUNDS, IMAGES, BATCHES = 7, 1024, 8
PLAIN = ("Pillow", "torchvision")


def decode_with_pillow(paths: list[str]) -> int:
    import numpy as np
    from PIL import Image

    for path in paths:
        with Image.open(path) as image:
            np.asarray(image.convert("RGB"))
    return len(paths)


def decode_with_torchvision(paths: list[str]) -> int:
    from torchvision.io import ImageReadMode, decode_jpeg, read_file

    for path in paths:
        decode_jpeg(read_file(path), ImageReadMode.RGB)
    return len(paths)


def plainly(pool: Pool, decoder: str, parts: list[list[str]]) -> float:
    """Images a second."""
    function = decode_with_pillow if decoder == "Pillow" else decode_with_torchvision
    began = time.perf_counter()
    done = sum(pool.map(function, parts, chunksize=1))
    return done / (time.perf_counter() - began)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    cores = machine.usable_cores()
    recipe = config.IMAGENET_RECIPE.replace(batch_size=IMAGES // BATCHES)
    with tempfile.TemporaryDirectory() as folder:
        photos.make(Path(folder), IMAGES, 2)
        found = photographs.load(config.Data(name=f"folder:{folder}"), root=Path(folder))
        files = found.splits["train"]
        paths = [files.path(index) for index in range(len(files))]
        each = len(paths) // (8 * cores)
        parts = [paths[i : i + each] for i in range(0, len(paths), each)]
        kilobytes = float(files.sizes.mean()) / 1024
        with multiprocessing.get_context("spawn").Pool(cores, torch.set_num_threads, (1,)) as pool:
            rates = measure(pool, parts, found, recipe, rounds)
    ratio = statistics.median(
        ours / max(others)
        for ours, *others in zip(rates["pipeline"], *(rates[name] for name in PLAIN), strict=True)
    )
    report = {
        **tables.conditions(),
        "images": IMAGES,
        "kilobytes_each": round(kilobytes),
        "rounds": rounds,
        "images_per_second": {name: statistics.median(found) for name, found in rates.items()},
        "pipeline_over_the_faster": ratio,
    }
    rows = [[name, f"{statistics.median(values):.0f}"] for name, values in rates.items()]
    remark = (
        f"{IMAGES} JPEG files of {photos.WIDTH}x{photos.HEIGHT}, {kilobytes:.0f} kB each; {cores} "
        f"processes; medians of {rounds} rounds. The pipeline does {100 * ratio:.0f} % of the faster "
        "decoder."
    )
    table = tables.markdown(["on all cores", "images/s"], rows)
    tables.publish("input_pipeline", report, remark, table)


def measure(
    pool: Pool, parts: list[list[str]], found: photographs.Photos, recipe: config.Recipe, rounds: int
) -> dict[str, list[float]]:
    """Images a second of every round of each."""
    rates: dict[str, list[float]] = {name: [] for name in (*PLAIN, "pipeline")}
    for number in range(1 + rounds):
        for name, values in rates.items():
            rate = pipeline(found, recipe) if name == "pipeline" else plainly(pool, name, parts)
            if number:  # the first round warms up
                values.append(rate)
    return rates


def pipeline(found: photographs.Photos, recipe: config.Recipe) -> float:
    """Images a second of workers at full speed: what they cut while they start is not counted, and
    when the clock stops they still have work."""
    feed = streaming.Streamed(found, Setting(recipe, 0, torch.device("cpu"), torch.float32))
    images = feed.crops(0, 3 * BATCHES)  # an epoch before, one with the clock, one after
    _take(images, IMAGES // 2)
    began = time.perf_counter()
    done = _take(images, IMAGES)
    rate = done / (time.perf_counter() - began)
    del images  # ends the workers
    return rate


def _take(images: Iterator[tuple[Tensor, Tensor]], count: int) -> int:
    taken = 0
    while taken < count:
        pixels, _ = next(images)
        taken += len(pixels)
    return taken


if __name__ == "__main__":
    main()
