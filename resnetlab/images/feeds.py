"""What a step sees: images in memory, their order and augmentation, by (seed, step) alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from resnetlab import config


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of several processes takes (`ranks`); alone, all of it."""

    rank: int = 0
    ranks: int = 1

    def of(self, rows: int) -> slice:
        """Its rows of a batch: the batch itself does not depend on how many share it."""
        each = rows // self.ranks
        return slice(self.rank * each, (self.rank + 1) * each)


ALONE = Share()


@dataclass(frozen=True)
class Split:
    """Some images and their classes: uint8 (N, C, S, S) and int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.labels.to(device))

    def share(self, share: Share) -> Split:
        """Every so-manieth image: together the shares are the split."""
        if share.ranks == 1:
            return self
        return Split(self.images[share.rank :: share.ranks], self.labels[share.rank :: share.ranks])

    def take(self, indices: Tensor) -> Split:
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """Training and test images of one data set, and the held-out part if one was asked for.

    `test` is only to be read where testing is meant.
    """

    label: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None

    @property
    def in_channels(self) -> int:
        return int(self.train.images.shape[1])

    @property
    def size(self) -> int:
        """Height and width of an image."""
        return int(self.train.images.shape[-1])

    def feed(
        self,
        recipe: config.Recipe,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        share: Share = ALONE,
    ) -> Resident:
        """These images as training takes them."""
        return Resident(self, recipe, seed, device, dtype, share)

    def describe(self) -> dict[str, Any]:
        """What run.json keeps of it: classes, shape, sizes and the hash of all pixels and labels."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            if split is not None:
                digest.update(split.images.numpy().data)
                digest.update(split.labels.numpy().data)
        return {
            "classes": list(self.classes),
            "shape": list(self.train.images.shape[1:]),
            "train": len(self.train),
            "validation": len(self.validation) if self.validation else 0,
            "test": len(self.test),
            "in_both": in_both(self.train.images, self.test.images),
            "sha256": digest.hexdigest(),
        }


def in_both(train: Tensor, test: Tensor) -> int:
    """How many test images stand among the training images, pixel by pixel: both (N, ...), uint8."""

    def digests(images: Tensor) -> Iterator[bytes]:
        return (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images.numpy())

    known = set(digests(train))
    return sum(digest in known for digest in digests(test))


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """A CPU random generator that depends on (seed, purpose, index) alone."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Draws:
    """What a block of steps sees: image indices, crop offsets and flips, each (steps, batch)."""

    index: Tensor
    dy: Tensor
    dx: Tensor
    flip: Tensor

    def to(self, device: torch.device) -> Draws:
        return Draws(*(t.to(device) for t in (self.index, self.dy, self.dx, self.flip)))

    def share(self, share: Share) -> Draws:
        rows = share.of(self.index.shape[1])
        return Draws(*(t[:, rows] for t in (self.index, self.dy, self.dx, self.flip)))

    def at(self, row: int | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What one step sees, each (batch,). A `row` (1,) on the device is looked up there."""
        parts = (self.index, self.dy, self.dx, self.flip)
        if isinstance(row, int):
            return tuple(t[row] for t in parts)  # type: ignore[return-value]
        return tuple(t.index_select(0, row)[0] for t in parts)  # type: ignore[return-value]


class Order:
    """The endless stream of training images: one permutation an epoch, cut into batches.

    A batch may straddle two epochs, so every batch is full and every image is seen equally often.
    """

    def __init__(self, images: int, recipe: config.Recipe, seed: int) -> None:
        self.images = images
        self.recipe = recipe
        self.seed = seed
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def _draw_epoch(self, epoch: int) -> Tensor:
        """int64 (4, images): index, dy, dx, flip of every image of the epoch, in order."""
        random = generator(self.seed, "epoch", epoch)
        shifts = 2 * self.recipe.pad + 1
        return torch.stack(
            [
                torch.randperm(self.images, generator=random),
                torch.randint(shifts, (self.images,), generator=random),
                torch.randint(shifts, (self.images,), generator=random),
                torch.randint(2, (self.images,), generator=random) * int(self.recipe.flip),
            ]
        )

    def draws(self, start: int, stop: int) -> Draws:
        """Steps [start, stop), on the CPU."""
        batch = self.recipe.batch_size
        first, last = start * batch, stop * batch  # positions in the stream
        pieces = []
        for epoch in range(first // self.images, (last - 1) // self.images + 1):
            begin = max(first - epoch * self.images, 0)
            end = min(last - epoch * self.images, self.images)
            pieces.append(self._epoch(epoch)[:, begin:end])
        index, dy, dx, flip = torch.cat(pieces, dim=1).view(4, stop - start, batch)
        return Draws(index, dy, dx, flip.bool())


@dataclass(frozen=True)
class Normalise:
    """What is subtracted from pixels of 0..255, and what they are divided by.

    `mean` is the mean training image (C, S, S) as in the paper, or (C, 1, 1). Images of another size
    than the mean's get its average a channel. `divisor` is (C, 1, 1): 255, or a channel's deviation.
    """

    mean: Tensor
    divisor: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Normalise:
        return Normalise(self.mean.to(device, dtype), self.divisor.to(device, dtype))

    def __call__(self, pixels: Tensor) -> Tensor:  # (B, C, H, W)
        mean = self.mean
        if mean.shape[-2:] not in (pixels.shape[-2:], (1, 1)):
            mean = mean.mean(dim=(1, 2), keepdim=True)
        images: Tensor = (pixels.to(mean.dtype) - mean) / self.divisor
        return images  # (B, C, H, W)


def normalisation(images: Tensor, kind: str) -> Normalise:
    """That of the training images, uint8 (N, C, S, S): `kind` "pixel" or "channel", in float64."""
    parts = images.split(1000)
    count = torch.tensor(len(images), dtype=torch.float64)
    mean = sum(part.sum(dim=0, dtype=torch.int64) for part in parts) / count  # (C, S, S), exact
    assert isinstance(mean, Tensor)
    if kind == "pixel":
        return Normalise(mean, torch.full((mean.shape[0], 1, 1), 255.0, dtype=torch.float64))
    squares = sum(part.long().square().sum(dim=(0, 2, 3)) for part in parts)  # (C,)
    mean = mean.mean(dim=(1, 2), keepdim=True)  # (C, 1, 1)
    variance = (squares / (count * images[0, 0].numel())).view(-1, 1, 1) - mean.square()
    return Normalise(mean, variance.clamp(min=1e-6).sqrt())


class Batches:
    """Normalised images on the device, training batches augmented there (Sec. 4.2).

    The mean training image (or the channel means) is subtracted; then `pad` zeros on each side, a
    random crop of the old size, a random mirror image.
    """

    def __init__(
        self, train: Split, recipe: config.Recipe, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.device, self.dtype, self.recipe = device, dtype, recipe
        self.normalise = normalisation(train.images, recipe.mean).to(device, dtype)
        self.split = train.to(device)

    def train(self, draws: Draws, row: int | Tensor) -> tuple[Tensor, Tensor]:
        """Batch `row` of the drawn block: images (B, C, S, S) in `dtype`, labels (B,)."""
        index, dy, dx, flip = draws.at(row)
        p = self.recipe.pad
        images = self.normalise(self.split.images[index])  # (B, C, S, S)
        if p:
            size = images.shape[-1]
            padded = pad(images, (p, p, p, p))  # (B, C, S+2p, S+2p)
            windows = padded.unfold(2, size, 1).unfold(3, size, 1)  # (B, C, 2p+1, 2p+1, S, S), a view
            each = torch.arange(len(index), device=self.device)
            images = windows[each, :, dy, dx]  # (B, C, S, S)
        mirrored = flip.view(-1, 1, 1, 1)
        return torch.where(mirrored, images.flip(-1), images), self.split.labels[index]

    def plain(self, split: Split, size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image of a split once, not augmented, in batches of at most `size`.

        By default 500, on a CPU fewer where the activations would no longer fit into its caches.
        """
        if size is None:
            size = 500
            if self.device.type == "cpu":  # 500 of 32x32 take twice as long as 100 (around.py)
                size = max(1, min(size, 100 * 32**2 // split.images.shape[-1] ** 2))
        for start in range(0, len(split), size):
            pixels = split.images[start : start + size].to(self.device)
            yield self.normalise(pixels), split.labels[start : start + size].to(self.device)


class Feed(Protocol):
    """A data set as training takes it. All images come normalised, on the device."""

    images: int  # for training
    normalise: Normalise

    def batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of the batches of steps [start, stop): images (B, C, S, S), labels (B,).

        What a step sees is a function of (seed, step): nothing else moves it.
        """

    def plain(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Each image of "train", "validation" or "test" once over all processes, in the single view."""


class Resident:
    """A `Feed` from images that stay on the device."""

    BLOCK = 100  # steps whose random draws travel to the device together

    def __init__(
        self,
        dataset: Dataset,
        recipe: config.Recipe,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        share: Share,
    ) -> None:
        self.images, self.share = len(dataset.train), share
        self._batches = Batches(dataset.train, recipe, device, dtype)
        self.normalise = self._batches.normalise
        self._order = Order(len(dataset.train), recipe, seed)
        self._splits = {"train": self._batches.split, "test": dataset.test.to(device)}
        if dataset.validation is not None:
            self._splits["validation"] = dataset.validation.to(device)

    def draw(self, start: int, stop: int) -> Draws:
        """This process's share of what steps [start, stop) see, on the device."""
        return self._order.draws(start, stop).share(self.share).to(self._batches.device)

    def batch(self, draws: Draws, row: int | Tensor) -> tuple[Tensor, Tensor]:
        """One of the drawn batches: images (B, C, S, S), labels (B,)."""
        return self._batches.train(draws, row)

    def batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        for begin in range(start, stop, self.BLOCK):
            end = min(begin + self.BLOCK, stop)
            draws = self.draw(begin, end)
            for row in range(end - begin):
                yield self.batch(draws, row)

    def plain(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        return self._batches.plain(self._splits[split].share(self.share))
