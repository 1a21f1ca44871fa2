"""What a step sees: images in memory, their order and augmentation, by (seed, step) alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.nn.functional import pad

from resnetlab import config


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of several processes takes (`ranks`); alone, all of it."""

    rank: int = 0
    count: int = 1

    def of(self, rows: int) -> slice:
        """Its rows of a batch: the batch itself does not depend on how many share it."""
        each = rows // self.count
        return slice(self.rank * each, (self.rank + 1) * each)


ALONE = Share()


class Setting(NamedTuple):
    """How and where a feed's batches are made."""

    recipe: config.Recipe
    seed: int
    device: torch.device
    dtype: torch.dtype
    share: Share = ALONE


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
        """This process's images, one in every `count`: together the shares are the split."""
        return Split(self.images[share.rank :: share.count], self.labels[share.rank :: share.count])

    def take(self, indices: Tensor) -> Split:
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class OnDevice:
    """The images of a data set as they lie on one device: "train", "test" and perhaps "validation"."""

    splits: dict[str, Split]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test images of one data set, and the held-out part if one was asked for.

    `test` is only to be read where testing is meant. Several runs may hold the same one: its tensors
    are only read, and what takes a pass over all of them is made once.
    """

    label: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    # Of a folder: what lies there and is not read.
    left_out: tuple[str, ...] | None = field(default=None, kw_only=True)

    @property
    def in_channels(self) -> int:
        return int(self.train.images.shape[1])

    @property
    def size(self) -> int:
        """Height and width of an image."""
        return int(self.train.images.shape[-1])

    def describe(self) -> dict[str, Any]:
        """What run.json keeps of it: classes, shape, sizes and the hash of all pixels and labels."""
        return dict(self._description)

    @cached_property
    def _description(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for split in filter(None, (self.train, self.validation, self.test)):
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
            **({} if self.left_out is None else {"left_out": len(self.left_out)}),
        }

    def normalisation(self, kind: str) -> Normalise:
        """That of the training images (`normalisation`), in float64 on the CPU."""
        if kind not in self._normalisations:
            self._normalisations[kind] = normalisation(self.train.images, kind)
        return self._normalisations[kind]

    @cached_property
    def _normalisations(self) -> dict[str, Normalise]:
        return {}

    def on(self, device: torch.device) -> OnDevice:
        """Its images there: one copy for all who hold it, which goes with the last of them."""
        place = torch.empty(0, device=device).device  # "cuda" is the current one of several
        copy = self._copies.get(place)
        if copy is None:
            parts = {"train": self.train, "test": self.test, "validation": self.validation}
            copy = OnDevice({name: part.to(place) for name, part in parts.items() if part is not None})
            self._copies[place] = copy
        return copy

    @cached_property
    def _copies(self) -> WeakValueDictionary[torch.device, OnDevice]:
        return WeakValueDictionary()


def in_both(train: Tensor, test: Tensor) -> int:
    """How many test images stand among the training images, pixel by pixel: both (N, ...), uint8."""
    known = {digest_of(image.tobytes()) for image in train.numpy()}
    return sum(digest_of(image.tobytes()) in known for image in test.numpy())


def digest_of(content: bytes) -> bytes:
    """By which equal images are found."""
    return hashlib.blake2b(content, digest_size=16).digest()


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """A CPU random generator that depends on (seed, purpose, index) alone."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class Draws(NamedTuple):
    """What a block of steps sees: image indices, crop offsets and flips, each (steps, batch)."""

    which: Tensor
    dy: Tensor
    dx: Tensor
    flip: Tensor

    def to(self, device: torch.device) -> Draws:
        return Draws(*(t.to(device) for t in self))

    def share(self, share: Share) -> Draws:
        rows = share.of(self.which.shape[1])
        return Draws(*(t[:, rows] for t in self))

    def at(self, row: int | Tensor) -> Draws:
        """What one step sees, each (batch,). A `row` (1,) on the device is looked up there."""
        return Draws(*(t[row] if isinstance(row, int) else t.index_select(0, row)[0] for t in self))


def epochs(first: int, last: int, images: int) -> Iterator[tuple[int, slice]]:
    """Positions [first, last) of the endless stream of images, epoch by epoch: its number, its part.

    A batch may straddle two epochs, so every batch is full and every image is seen equally often.
    """
    for epoch in range(first // images, (last - 1) // images + 1):
        yield epoch, slice(max(first - epoch * images, 0), last - epoch * images)


class Order:
    """The endless stream of training images: one permutation per epoch, cut into batches."""

    def __init__(self, images: int, recipe: config.Recipe, seed: int) -> None:
        self.images, self.recipe, self.seed = images, recipe, seed
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def _draw_epoch(self, epoch: int) -> Tensor:
        """int64 (4, images): which, dy, dx, flip of every image of the epoch, in order."""
        random, count = generator(self.seed, "epoch", epoch), self.images
        shifts = 2 * self.recipe.pad + 1
        which = torch.randperm(count, generator=random)
        dy, dx = (torch.randint(shifts, (count,), generator=random) for _ in "yx")
        flip = torch.randint(2, (count,), generator=random) * int(self.recipe.flip)
        return torch.stack([which, dy, dx, flip])

    def draws(self, start: int, stop: int) -> Draws:
        """Steps [start, stop), on the CPU."""
        batch = self.recipe.batch_size
        parts = epochs(start * batch, stop * batch, self.images)
        stream = torch.cat([self._epoch(epoch)[:, part] for epoch, part in parts], dim=1)
        which, dy, dx, flip = stream.view(4, stop - start, batch)
        return Draws(which, dy, dx, flip.bool())


@dataclass(frozen=True)
class Normalise:
    """What is subtracted from pixels of 0..255, and what they are divided by.

    `mean` is the mean training image (C, S, S) as in the paper, or (C, 1, 1). Images of another size
    than the mean's get its average per channel. `divisor` is (C, 1, 1): 255, or a channel's deviation.
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
    """A `Feed` from images that stay on the device, where training batches are augmented (Sec. 4.2).

    The mean training image (or the channel means) is subtracted; then `pad` zeros on each side, a
    random crop of the old size, a random mirror image.
    """

    BLOCK = 100  # steps whose random draws travel to the device together

    def __init__(self, dataset: Dataset, setting: Setting) -> None:
        recipe, seed, device, dtype, self.share = setting
        self.images, self.device, self.pad = len(dataset.train), device, recipe.pad
        self.normalise = dataset.normalisation(recipe.mean).to(device, dtype)
        self._order = Order(self.images, recipe, seed)
        # Held as long as the run goes on, so that the next one finds them: see `datasets.load`.
        self._dataset, self._there = dataset, dataset.on(device)

    def draw(self, start: int, stop: int) -> Draws:
        """This process's share of what steps [start, stop) see, on the CPU."""
        return self._order.draws(start, stop).share(self.share)

    def batch(self, draws: Draws, row: int | Tensor) -> tuple[Tensor, Tensor]:
        """Batch `row` of the drawn block: images (B, C, S, S), labels (B,)."""
        seen, split, p = draws.at(row), self._there.splits["train"], self.pad
        images = self.normalise(split.images[seen.which])  # (B, C, S, S)
        if p:
            size = images.shape[-1]
            padded = pad(images, (p, p, p, p))  # (B, C, S+2p, S+2p)
            windows = padded.unfold(2, size, 1).unfold(3, size, 1)  # (B, C, 2p+1, 2p+1, S, S), a view
            each = torch.arange(len(seen.which), device=self.device)
            images = windows[each, :, seen.dy, seen.dx]  # (B, C, S, S)
        mirrored = seen.flip.view(-1, 1, 1, 1)
        return torch.where(mirrored, images.flip(-1), images), split.labels[seen.which]

    def batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        for begin in range(start, stop, self.BLOCK):
            end = min(begin + self.BLOCK, stop)
            draws = self.draw(begin, end).to(self.device)
            for row in range(end - begin):
                yield self.batch(draws, row)

    def plain(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """In batches of 2,000; on a CPU of fewer, whose activations still fit into its caches."""
        part = self._there.splits[split].share(self.share)
        size = 2_000  # a GPU is kept busy by few launches
        if self.device.type == "cpu":  # 500 of 32x32 take twice as long as 100 (around.py)
            size = max(1, min(500, 100 * 32**2 // part.images.shape[-1] ** 2))
        for pixels, labels in zip(part.images.split(size), part.labels.split(size), strict=True):
            yield self.normalise(pixels), labels
