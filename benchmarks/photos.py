"""A small folder of photograph-like JPEG files, 500x375 and about 100 kB each as ImageNet's are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 500, 375


def make(folder: Path, train: int, test: int) -> None:
    """`train` and `test` images in two classes. What they show is noise whose detail falls off with
    its size, as in photographs, so that the decoder has as much to do."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for index in range(count):
            place = folder / split / "ab"[index % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(_image(random)).save(place / f"{index:04d}.jpg", quality=90)


def _image(random: np.random.Generator) -> np.ndarray:
    total = np.zeros((HEIGHT, WIDTH, 3))
    for cell in (125, 25, 5, 1):
        shape = (-(-HEIGHT // cell), -(-WIDTH // cell), 3)
        coarse = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))
        fine = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=float)
        total += (fine - 127.5) * {125: 0.6, 25: 0.35, 5: 0.2, 1: 0.12}[cell]
    return (127.5 + total).clip(0, 255).astype(np.uint8)
