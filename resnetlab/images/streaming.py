"""Larger images as training takes them (Sec. 3.4): worker processes decode and cut.

Mirroring, colour and the mean happen in batches on the device. What a step sees is a function of
(seed, step) alone, whatever the number of workers or of processes that share a batch.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from resnetlab.config import UsageError
from resnetlab.images import feeds
from resnetlab.images.cache import Arrays, cached
from resnetlab.images.datasets import DECODER
from resnetlab.images.feeds import Normalise, Setting, generator
from resnetlab.images.photographs import Files, Photos
from resnetlab.images.pixels import BAR, DataError, centre_crop, resize, scaled_crop

MEASURED_IMAGES = 10_000  # training images from which the mean and the colours are measured
TASK_PIXELS = 32 * 224 * 224  # pixels that a worker decodes at a time: 32 crops of 224


def feed(images: feeds.Dataset | Photos, setting: Setting) -> feeds.Feed:
    """These images as training takes them: larger ones by a recipe with `crop`."""
    return Streamed(images, setting) if isinstance(images, Photos) else feeds.Resident(images, setting)


class Cut(NamedTuple):
    """One image to be decoded and cut: its number, the shorter side, and where the crop lies, 0 to 1.

    Without a place it is the single view: shorter side resized, centre crop.
    """

    which: int
    side: int
    x: float | None = None
    y: float | None = None


class _Cutter(torch.utils.data.Dataset[Any]):
    """What a worker does: decodes and cuts the images of a task; `crop` None leaves them whole.

    A list of uint8 (n, 3, h, w) and labels (n,): neighbours of one shape come together. Arrays, which
    go through a pipe: torch's shared tensors need /dev/shm, of which containers have 64 MB. An error
    of the data comes as a value: raised here, it would have a traceback for its message.
    """

    def __init__(self, files: Files, crop: int | None) -> None:
        self.files, self.crop = files, crop

    @torch.inference_mode()
    def __getitem__(self, task: list[Cut]) -> list[Any]:
        try:
            views = [self._view(cut) for cut in task]
        except DataError as error:
            return [error]
        labelled = zip(views, self.files.labels[[cut.which for cut in task]], strict=True)
        groups = []
        for _, group in itertools.groupby(labelled, lambda pair: pair[0].shape):
            pixels, labels = zip(*group, strict=True)
            groups.append((torch.stack(pixels).numpy(), np.stack(labels)))
        return groups

    def _view(self, cut: Cut) -> Tensor:
        if cut.x is not None and cut.y is not None and self.crop is not None:
            image = self.files.image(cut.which, at_least=cut.side)
            return scaled_crop(image, cut.side, self.crop, cut.x, cut.y)
        whole = resize(self.files.image(cut.which), cut.side)
        return whole if self.crop is None else centre_crop(whole, self.crop)


def _leave_the_group(worker: int) -> None:
    """A Ctrl-C goes to the whole group of processes; it is for training, which ends its workers."""
    os.setpgrp()


def load_views(
    photos: Photos, split: str, tasks: Iterable[list[Cut]], crop: int | None, ahead: int = 2
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images uint8 (n, 3, h, w) and labels (n,) in the order of the tasks, by its `workers`.

    One pair per task, or, `crop` None, one for each run of images of one size. At least `ahead` tasks
    are done beforehand. Raises the DataError of a damaged file, and one that says so if a worker was
    killed. However the loop over it ends, the workers end.
    """
    files = photos.splits[split]
    workers = photos.workers_for(files)
    with warnings.catch_warnings():
        # More workers than cores are slow, not wrong, and are somebody's explicit wish.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader: DataLoader[Any] = DataLoader(
            _Cutter(files, crop),
            batch_size=None,
            sampler=tasks,
            num_workers=workers,
            collate_fn=list,  # as it is
            prefetch_factor=max(2, -(-ahead // workers)) if workers else None,
            worker_init_fn=_leave_the_group,
            generator=torch.Generator(),  # else it would draw from the global one
        )
        results = iter(loader)
    try:
        for result in itertools.chain.from_iterable(results):
            if isinstance(result, DataError):
                raise result
            yield torch.from_numpy(result[0]), torch.from_numpy(result[1])
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        reason = str(error).splitlines()[0].strip()
        raise DataError(
            f"a process that decodes images is gone ({reason}); was memory short? "
            "A run goes on from its last checkpoint with the same command"
        ) from None
    finally:
        del results  # the last reference: its workers end now, whatever still holds this frame


def _single_views(
    photos: Photos, split: str, indices: Sequence[int], side: int, crop: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    each = _task_size(crop or side)
    tasks = (
        [Cut(index, side) for index in indices[i : i + each]] for i in range(0, len(indices), each)
    )
    return load_views(photos, split, tasks, crop)


def _task_size(side: int) -> int:
    """Images of about that size that a worker takes at a time."""
    return max(1, min(500, TASK_PIXELS // side**2))


def resized(photos: Photos, split: str, side: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image of a split whole, shorter side resized to `side`, in the order of the files.

    Batches of uint8 (B, 3, h, w) and labels (B,); neighbours of one size come together.
    """
    return _single_views(photos, split, range(len(photos.splits[split])), side, None)


class Views(NamedTuple):
    """What the images of an epoch, in order, go through: all (N,), colour (N, 3)."""

    which: Tensor
    side: Tensor
    x: Tensor
    y: Tensor
    flip: Tensor
    colour: Tensor  # AlexNet's alpha

    def rows(self, rows: slice) -> Views:
        return Views(*(part[rows] for part in self))

    def cuts(self) -> list[Cut]:
        columns = (part.tolist() for part in (self.which, self.side, self.x, self.y))
        return list(map(Cut, *columns))


class Streamed:
    """A `feeds.Feed` from files: images of Sec. 3.4, by a recipe with `crop` and `scale`."""

    def __init__(self, photos: Photos, setting: Setting) -> None:
        recipe, self._seed, self._device, dtype, self._share = setting
        if recipe.crop is None or recipe.scale is None:
            raise UsageError(f"recipe {recipe.name} does not crop; {photos.label} has larger images")
        self.images = len(photos.splits["train"])
        self._photos, self._recipe = photos, recipe
        self._crop, self._scale = recipe.crop, recipe.scale
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)
        statistics = measure(photos, self._crop, self._scale[0])
        self.normalise = statistics.normalise(recipe.mean).to(self._device, dtype)
        self._colours = statistics.colours().to(self._device, dtype)

    def _draw_epoch(self, epoch: int) -> Views:
        """The epoch's permutation, and each image's scale, place, mirroring and colour."""
        random, count = generator(self._seed, "views", epoch), self.images
        low, high = self._scale
        return Views(
            which=torch.randperm(count, generator=random),
            side=torch.randint(low, high + 1, (count,), generator=random),
            x=torch.rand(count, generator=random, dtype=torch.float64),
            y=torch.rand(count, generator=random, dtype=torch.float64),
            flip=(torch.randint(2, (count,), generator=random) * int(self._recipe.flip)).bool(),
            colour=0.1 * torch.randn(count, 3, generator=random, dtype=torch.float64),
        )

    def views(self, step: int) -> Views:
        """This process's share of what `step` sees."""
        rows, batch = self._share.of(self._recipe.batch_size), self._recipe.batch_size
        span = feeds.epochs(step * batch + rows.start, step * batch + rows.stop, self.images)
        pieces = [self._epoch(epoch).rows(part) for epoch, part in span]
        return Views(*(torch.cat(parts) for parts in zip(*pieces, strict=True)))

    def batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, 3, crop, crop), labels (B,), on the device.

        Sec. 3.4: the shorter side drawn from `scale` (both ends included), a random square, its mirror
        image half the time, the mean subtracted, the colours shifted.
        """
        crops = self.crops(start, stop)
        for step in range(start, stop):
            views, images, labels = self.views(step), [], []
            for part in self._parts():
                pixels, classes = next(crops)
                images.append(self.augment(self._moved(pixels), views.rows(part)))
                labels.append(classes)
            yield torch.cat(images), torch.cat(labels).to(self._device)

    def crops(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The same images as they come from the workers: uint8 (n, 3, crop, crop), labels (n,).

        Several together are a batch.
        """
        parts = self._parts()
        tasks = (self.views(step).rows(part).cuts() for step in range(start, stop) for part in parts)
        return load_views(self._photos, "train", tasks, self._crop, ahead=len(parts))

    def _parts(self) -> list[slice]:
        """A batch, or this process's share of it, in the parts that workers take."""
        rows = self._share.of(self._recipe.batch_size)
        count, each = rows.stop - rows.start, _task_size(self._crop)
        return [slice(i, min(i + each, count)) for i in range(0, count, each)]

    def _moved(self, pixels: Tensor) -> Tensor:
        if self._device.type == "cuda":
            return pixels.pin_memory().to(self._device, non_blocking=True)
        return pixels

    def augment(self, pixels: Tensor, views: Views) -> Tensor:
        """uint8 (n, 3, S, S) -> mirrored, normalised, colours shifted (n, 3, S, S), on the device.

        AlexNet's shift: E (alpha * lambda) is added to every pixel of an image, alpha drawn from
        N(0, 0.1) anew for each image and use, E and lambda from the covariance of pixels in 0..1.
        """
        if self._recipe.flip:
            flip = views.flip.to(self._device).view(-1, 1, 1, 1)
            pixels = torch.where(flip, pixels.flip(-1), pixels)
        images = self.normalise(pixels)
        if self._recipe.colour == "pca":
            shift = views.colour.to(self._device, images.dtype) @ self._colours.T  # (n, 3), in 0..1
            images += 255 * shift.view(-1, 3, 1, 1) / self.normalise.divisor
        return images

    def plain(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Each image once over all processes: shorter side at the lower end of `scale`, centre crop."""
        part = range(self._share.rank, len(self._photos.splits[split]), self._share.count)
        for pixels, labels in _single_views(self._photos, split, part, self._scale[0], self._crop):
            yield self.normalise(self._moved(pixels)), labels.to(self._device)


@dataclass(frozen=True)
class Statistics:
    """Of training images in their single view: the mean image, and how the colours vary.

    `mean` (3, crop, crop), of pixels in 0..255. `covariance` (3, 3) of red, green and blue over all
    pixels of all these images, in 0..1.
    """

    mean: Tensor
    covariance: Tensor

    def normalise(self, kind: str) -> Normalise:
        """ "pixel": the mean image is subtracted, divided by 255; "channel": means and deviations."""
        if kind == "pixel":
            return Normalise(self.mean, torch.full((3, 1, 1), 255.0, dtype=torch.float64))
        variance = 255**2 * self.covariance.diagonal().view(3, 1, 1)
        return Normalise(self.mean.mean(dim=(1, 2), keepdim=True), variance.clamp(min=1e-6).sqrt())

    def colours(self) -> Tensor:
        """(3, 3): the eigenvectors of the covariance as columns, each times its eigenvalue.

        The unit matters, as eigenvalues are squares: AlexNet's 0.1 fits pixels in 0..1.
        """
        values, vectors = torch.linalg.eigh(self.covariance)
        largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
        scaled: Tensor = vectors * largest.sign() * values.clamp(min=0)  # no library decides the sign
        return scaled


def measure(photos: Photos, crop: int, side: int) -> Statistics:
    """Statistics of at most MEASURED_IMAGES training images, a seeded choice, kept in the cache.

    In the single view: shorter side `side`, centre `crop`. (The paper does not say of which images or
    views its mean is.) The sums are exact, so the number of workers does not matter.
    """
    key = f"{photos.fingerprint}-{side}-{crop}-{MEASURED_IMAGES}-{DECODER}"
    key = hashlib.sha256(key.encode()).hexdigest()[:16]
    cache = photos.root / "cache" / f"statistics-{key}.npz"
    stored = cached(cache, ("mean", "covariance"), lambda: _measure(photos, crop, side))
    return Statistics(torch.from_numpy(stored["mean"]), torch.from_numpy(stored["covariance"]))


def _measure(photos: Photos, crop: int, side: int) -> Arrays:
    from tqdm import tqdm

    chosen = torch.randperm(len(photos.splits["train"]), generator=generator(0, "mean"))
    indices = chosen[:MEASURED_IMAGES].sort().values.tolist()
    total = torch.zeros(3, crop, crop, dtype=torch.float64)
    products = torch.zeros(3, 3, dtype=torch.float64)
    with tqdm(total=len(indices), desc=f"mean and colours of {photos.label}", **BAR) as bar:
        for pixels, labels in _single_views(photos, "train", indices, side, crop):
            values = pixels.double()  # whole numbers far below 2**53: sums have no rounding
            total += values.sum(dim=0)
            flat = values.transpose(0, 1).flatten(1)  # (3, B * crop * crop)
            products += flat @ flat.T
            bar.update(len(labels))
    mean = total / len(indices)  # (3, crop, crop)
    channels = mean.mean(dim=(1, 2))
    covariance = products / (len(indices) * crop * crop) - torch.outer(channels, channels)
    return {"mean": mean.numpy(), "covariance": (covariance / 255**2).numpy()}
