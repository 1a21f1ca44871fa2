"""Larger images, read from files while training (Sec. 3.4): ImageNet, any folder of photographs.

Worker processes decode and crop; everything that is arithmetic on pixels (mirroring, colour, the mean)
happens in batches on the device. What a step sees is a function of (seed, step) alone, whatever the
number of workers or of processes that share a batch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from resnetlab import config, data, machine
from resnetlab.config import UsageError
from resnetlab.data import DataError, Normalise, Share, generator

IMAGENET_CLASSES = 1000
MEASURED_IMAGES = 10_000  # training images from which the mean and the colours are measured
PREFETCH = 3  # batches that each worker keeps ready
GROUP = 50  # images of one size that are tested together

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class Photo(NamedTuple):
    """One image file and its class."""

    path: str
    label: int


def decode(path: str | Path, side: int | None = None) -> Image.Image:
    """The upright RGB image in a file; DataError naming it if it is damaged.

    With `side`, a JPEG whose shorter side is at least twice that may come in half or a quarter of its
    size: the decoder then skips work that resizing would throw away.
    """
    try:
        with Image.open(path) as image:
            if side is not None:
                image.draft("RGB", (side, side))
            upright: Image.Image = ImageOps.exif_transpose(image)
            return upright.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise DataError(f"{path} is damaged or no image ({reason})") from None


def resize(image: Image.Image, side: int) -> Image.Image:
    """The whole image with its shorter side resized to `side` (bilinear, antialiased)."""
    width, height = image.size
    scale = side / min(width, height)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def crop_scaled(image: Image.Image, side: int, crop: int, x: float, y: float) -> Image.Image:
    """A square of `crop` from the image as if its shorter side were `side`; (x, y) in 0..1 place it.

    Only the square is resized: the rest of the larger image would be thrown away.
    """
    width, height = image.size
    scale = side / min(width, height)
    wide, high = max(side, round(width * scale)), max(side, round(height * scale))
    left, top = int(x * (wide - crop + 1)), int(y * (high - crop + 1))
    across, down = width / wide, height / high
    box = (left * across, top * down, (left + crop) * across, (top + crop) * down)
    return image.resize((crop, crop), Image.Resampling.BILINEAR, box=box)


# --- what lies in the folder ------------------------------------------------------------------


@dataclass(frozen=True)
class Photos:
    """Files of training and test images with their classes, and the held-out part if asked for."""

    label: str
    folder: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[Photo, ...]]  # train, test and perhaps validation
    root: Path  # of caches
    damaged: str = "error"

    in_channels = 3

    def describe(self) -> dict[str, Any]:
        """What run.json keeps of it. The hash is over names and sizes of files, not over pixels.

        Reading all of ImageNet to hash it would take hours before the first step.
        """
        return {
            "classes": list(self.classes),
            "shape": [3, None, None],
            "train": len(self.splits["train"]),
            "validation": len(self.splits.get("validation", ())),
            "test": len(self.splits["test"]),
            "sha256": self.fingerprint,
        }

    @property
    def fingerprint(self) -> str:
        return _fingerprint(self.folder, tuple(self.splits.items()))

    def feed(
        self,
        recipe: config.Recipe,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        share: Share = data.ALONE,
    ) -> Streamed:
        """These images as training takes them, by a recipe with `crop`."""
        return Streamed(self, recipe, seed, device, dtype, share)

    def resized(
        self, split: str, side: int, workers: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image of a split whole, shorter side resized to `side`, in the order of the files.

        Batches of uint8 (B, 3, H, W) and labels (B,); neighbours of one size come together. Decoded by
        worker processes (`workers` None: one a core). A damaged file raises DataError, also where
        training would leave it out: a test is over all images.
        """
        photos = self.splits[split]
        cutter = _Cutter(photos, "whole", 0, "error")
        order = [[(index, side, 0.0, 0.0)] for index in range(len(photos))]
        together: list[Tensor] = []
        labels: list[int] = []
        for pixels, truth, _ in _loaded(cutter, order, workers, pin=False):
            image = pixels.permute(0, 3, 1, 2)  # (1, 3, H, W)
            if together and (together[0].shape != image.shape or len(together) == GROUP):
                yield torch.cat(together), torch.tensor(labels)
                together, labels = [], []
            together.append(image)
            labels.append(int(truth))
        if together:
            yield torch.cat(together), torch.tensor(labels)


@lru_cache(maxsize=8)
def _fingerprint(folder: Path, splits: tuple[tuple[str, tuple[Photo, ...]], ...]) -> str:
    digest = hashlib.sha256()
    for name, photos in splits:
        digest.update(f"{name}\n".encode())
        for photo in photos:
            try:
                size = os.stat(photo.path).st_size
            except OSError as error:  # a dangling link
                raise DataError(f"{photo.path} cannot be read ({error.strerror})") from None
            inside = os.path.relpath(photo.path, folder)
            digest.update(f"{inside}\0{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def load(spec: config.Data, root: Path | None = None) -> Photos:
    """The files of digits-large, folder:PATH or imagenet:PATH; no image is opened.

    Raises DataError for a folder without train/ and one of val/ and test/, with classes that differ
    between them, or, under the name imagenet, with another number of classes than 1,000; UsageError
    if `validation` takes all of it.
    """
    root = root or data.data_root()
    if spec.name == "digits-large":
        folder = make_digits(root)
    elif spec.path is not None:
        folder = Path(spec.path).expanduser()
    else:
        raise UsageError(f"{spec.label} has small images, which are not read from files while training")
    found = data.find_images(folder)
    classes = tuple(found["train"])
    if spec.name.startswith("imagenet:") and len(classes) != IMAGENET_CLASSES:
        raise DataError(
            f"{folder} has {len(classes)} classes, ImageNet has {IMAGENET_CLASSES}; use "
            f"--data folder:{spec.path}, so that no result passes for ImageNet's"
        )
    splits = {
        name: tuple(
            Photo(str(path), label) for label, group in enumerate(files.values()) for path in group
        )
        for name, files in found.items()
    }
    if spec.validation:
        kept, held = data.held_out(len(splits["train"]), spec.validation, spec.label)
        train = splits["train"]
        splits = splits | {
            "train": tuple(train[i] for i in kept.tolist()),
            "validation": tuple(train[i] for i in held.tolist()),
        }
    return Photos(spec.label, folder, classes, splits, root, spec.damaged)


def make_digits(root: Path) -> Path:
    """root/digits-large: scikit-learn's digits enlarged to JPEG files of 40 to 80 pixels, made once.

    Larger images with a class each where there are no photographs: for trying the ImageNet networks
    and recipes, and no stand-in for their results. Same training and test images as `digits`.
    """
    folder = root / "digits-large"
    if folder.is_dir():
        return folder
    partial = root / f".digits-large.{os.getpid()}"
    digits = data.load(config.Data(name="digits"))
    random = generator(0, "digits-large")
    try:
        for name, split in (("train", digits.train), ("test", digits.test)):
            sides = torch.randint(40, 81, (len(split), 2), generator=random).tolist()
            for index, size in enumerate(sides):
                place = partial / name / digits.classes[int(split.labels[index])]
                place.mkdir(parents=True, exist_ok=True)
                image = Image.fromarray(split.images[index, 0].numpy())
                image.resize(size, Image.Resampling.BICUBIC).save(
                    place / f"{index:04d}.jpg", quality=90
                )
        with contextlib.suppress(OSError):  # somebody else was faster
            partial.rename(folder)
    except OSError as error:
        raise DataError(f"{folder} could not be made ({error.strerror})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


# --- decoding in worker processes -------------------------------------------------------------

Key = tuple[int, int, float, float]  # index of the photo, shorter side, place of the crop (x, y)


class _Cutter:
    """The data set that workers see: a key in, uint8 pixels (H, W, 3) and what was skipped out."""

    def __init__(self, photos: Sequence[Photo], view: str, crop: int, damaged: str) -> None:
        self.photos, self.view, self.crop, self.damaged = photos, view, crop, damaged

    def __getitem__(self, key: Key) -> tuple[Pixels, int, list[str]]:
        index, side, x, y = key
        skipped: list[str] = []
        for step in range(len(self.photos)):
            photo = self.photos[(index + step) % len(self.photos)]
            try:
                return self._cut(photo.path, side, x, y), photo.label, skipped
            except DataError:
                if self.damaged != "skip":
                    raise
                skipped.append(photo.path)  # the next file takes its place
        raise DataError("every image file is damaged")

    def _cut(self, path: str, side: int, x: float, y: float) -> Pixels:
        image = decode(path, side)
        if self.view == "crop":
            image = crop_scaled(image, side, self.crop, x, y)
        else:
            image = resize(image, side)
            if self.view == "centre":
                left, top = (round((length - self.crop) / 2.0) for length in image.size)
                image = image.crop((left, top, left + self.crop, top + self.crop))
        return np.asarray(image)


def _collate(items: list[tuple[Pixels, int, list[str]]]) -> tuple[Tensor, Tensor, list[str]]:
    pixels = torch.from_numpy(np.stack([item[0] for item in items]))
    labels = torch.tensor([item[1] for item in items], dtype=torch.int64)
    return pixels, labels, [path for item in items for path in item[2]]


def _quiet(worker: int) -> None:
    """A worker decodes on one thread and leaves Ctrl-C to the training, which then lets it go."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert get_worker_info() is not None


def _loaded(
    cutter: _Cutter, batches: Sequence[list[Key]], workers: int | None, *, pin: bool
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """uint8 (B, H, W, 3), labels (B,) and skipped files of each batch of keys, in their order."""
    count = machine.usable_cores() if workers is None else workers
    options: dict[str, Any] = {}
    if count:
        options = {"prefetch_factor": PREFETCH, "worker_init_fn": _quiet}
    loader: DataLoader[Any] = DataLoader(
        cutter,  # type: ignore[arg-type]
        batch_sampler=batches,
        num_workers=count,
        collate_fn=_collate,
        pin_memory=pin,
        generator=torch.Generator(),  # its base seed must not come from the global state
        **options,
    )
    try:
        yield from loader
    except DataError:
        raise
    except RuntimeError as error:
        if "DataLoader worker" in str(error):
            raise DataError(
                f"a process that decodes images is gone ({str(error).splitlines()[0]}); "
                "out of memory? The same command goes on from the last checkpoint"
            ) from None
        raise


# --- training ---------------------------------------------------------------------------------


class Views(NamedTuple):
    """What the images of one epoch, in order, go through: all (N,), colour (N, 3)."""

    which: Tensor  # index of the image
    side: Tensor
    x: Tensor
    y: Tensor
    flip: Tensor
    colour: Tensor

    def cut(self, rows: slice) -> Views:
        return Views(*(part[rows] for part in self))


@dataclass(frozen=True)
class Statistics:
    """Of the training images in their single view: mean image, channels, and colours in 0..1.

    `mean` (3, crop, crop) and `deviation` (3,) in 0..255. `colours` (3, 3): the columns are the
    eigenvectors of the covariance of RGB values in 0..1, each times its eigenvalue.
    """

    mean: Tensor
    deviation: Tensor
    colours: Tensor


class Streamed:
    """A `data.Feed` from files."""

    def __init__(
        self,
        photos: Photos,
        recipe: config.Recipe,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        share: Share,
        workers: int | None = None,
    ) -> None:
        assert recipe.crop is not None
        assert recipe.scale is not None
        self.images = len(photos.splits["train"])
        self.damaged: set[str] = set()  # files left out so far, as far as this process has seen
        self._photos, self._recipe, self._seed = photos, recipe, seed
        self._device, self._share = device, share
        self._crop, self._scale = recipe.crop, recipe.scale
        cores = machine.usable_cores()
        self._workers = max(1, cores // share.ranks) if workers is None else workers
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)
        statistics = measure(photos, self._crop, self._scale[0], self._workers)
        self._colours = statistics.colours.to(device, dtype)
        mean, divisor = statistics.mean, torch.full((3, 1, 1), 255.0, dtype=torch.float64)
        if recipe.mean == "channel":
            mean, divisor = mean.mean(dim=(1, 2), keepdim=True), statistics.deviation.view(3, 1, 1)
        self.normalise = Normalise(mean, divisor).to(device, dtype)

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
            colour=0.1 * torch.randn(count, 3, generator=random),  # AlexNet's deviation of alpha
        )

    def views(self, step: int) -> Views:
        """This process's share of what `step` sees; a batch may straddle epochs, as in `data.Order`."""
        batch = self._recipe.batch_size
        rows = self._share.of(batch)
        first, last = step * batch + rows.start, step * batch + rows.stop
        parts = []
        for epoch in range(first // self.images, (last - 1) // self.images + 1):
            begin = max(first - epoch * self.images, 0)
            parts.append(self._epoch(epoch).cut(slice(begin, last - epoch * self.images)))
        return Views(*(torch.cat(pieces) for pieces in zip(*parts, strict=True)))

    def batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, 3, crop, crop), labels (B,), on the device.

        Sec. 3.4: the shorter side drawn from `scale`, a random square, its mirror image half the time,
        AlexNet's colour shift, the mean subtracted. The shift is E (alpha * lambda) on pixels in 0..1,
        with alpha drawn from N(0, 0.1) for each image, E and lambda from `Statistics`.
        """
        photos = self._photos
        cutter = _Cutter(photos.splits["train"], "crop", self._crop, photos.damaged)
        keys = _Steps(self, start, stop)
        pin = self._device.type == "cuda"
        for step, (pixels, labels, skipped) in enumerate(
            _loaded(cutter, keys, self._workers, pin=pin),  # type: ignore[arg-type]
            start,
        ):
            self.damaged.update(skipped)
            yield self._finish(pixels, self.views(step)), labels.to(self._device, non_blocking=pin)

    def _finish(self, pixels: Tensor, views: Views) -> Tensor:
        pixels = pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2)  # (B, 3, crop, crop)
        flip = views.flip.to(self._device).view(-1, 1, 1, 1)
        pixels = torch.where(flip, pixels.flip(-1), pixels)
        images = self.normalise(pixels)
        if self._recipe.colour == "pca":
            shift = views.colour.to(self._device, self._colours.dtype) @ self._colours.T  # (B, 3)
            images = images + (255 * shift).view(-1, 3, 1, 1) / self.normalise.divisor
        return images

    def plain(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Each image once over all processes: shorter side at the lower end of `scale`, centre crop.

        A damaged file is replaced as in training, where that was asked for.
        """
        photos = self._photos.splits[split]
        cutter = _Cutter(photos, "centre", self._crop, self._photos.damaged)
        mine = range(self._share.rank, len(photos), self._share.ranks)
        keys = [
            [(index, self._scale[0], 0.0, 0.0) for index in mine[i : i + 100]]
            for i in range(0, len(mine), 100)
        ]
        for pixels, labels, skipped in _loaded(cutter, keys, self._workers, pin=False):
            self.damaged.update(skipped)
            images = pixels.to(self._device).permute(0, 3, 1, 2)
            yield self.normalise(images), labels.to(self._device)


class _Steps:
    """The keys of steps [start, stop), drawn as the loader asks for them."""

    def __init__(self, feed: Streamed, start: int, stop: int) -> None:
        self._feed, self._start, self._stop = feed, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self._start, self._stop):
            views = self._feed.views(step)
            columns = (views.which, views.side, views.x, views.y)
            yield list(zip(*(column.tolist() for column in columns), strict=True))


def measure(photos: Photos, crop: int, side: int, workers: int | None = None) -> Statistics:
    """Mean image, deviations and colours of at most MEASURED_IMAGES training images, cached.

    The images are a seeded choice in their single view: shorter side `side`, centre `crop`. (The paper
    takes the mean over all 1.28 million and does not say of which view.) Damaged files are left out
    where that was asked for, else DataError.
    """
    cache = photos.root / "cache" / f"statistics-{photos.fingerprint[:16]}-{side}-{crop}.npz"
    with contextlib.suppress(Exception), np.load(cache, allow_pickle=False) as stored:
        # A bad cache is only measured anew.
        return Statistics(
            *(torch.from_numpy(stored[name]) for name in ("mean", "deviation", "colours"))
        )
    train = photos.splits["train"]
    chosen = torch.randperm(len(train), generator=generator(0, "mean"))[:MEASURED_IMAGES].tolist()
    cutter = _Cutter(train, "centre", crop, photos.damaged)
    keys = [
        [(index, side, 0.0, 0.0) for index in chosen[i : i + 100]] for i in range(0, len(chosen), 100)
    ]
    total = torch.zeros(crop, crop, 3, dtype=torch.float64)
    products = torch.zeros(3, 3, dtype=torch.float64)
    for pixels, _, _ in _loaded(cutter, keys, workers, pin=False):
        values = pixels.double()  # (B, crop, crop, 3)
        total += values.sum(dim=0)
        flat = values.flatten(0, 2)
        products += flat.T @ flat
    mean = total.permute(2, 0, 1) / len(chosen)  # (3, crop, crop)
    channel = mean.mean(dim=(1, 2))
    covariance = products / (len(chosen) * crop * crop) - torch.outer(channel, channel)
    values, vectors = torch.linalg.eigh(covariance / 255**2)
    vectors = vectors * vectors.sum(dim=0).sign()  # an eigenvector's sign is arbitrary: fix it
    statistics = Statistics(
        mean.contiguous(),
        covariance.diagonal().clamp(min=1e-6).sqrt(),
        vectors * values.clamp(min=0),
    )
    _keep(cache, statistics)
    return statistics


def _keep(cache: Path, statistics: Statistics) -> None:
    import io

    from resnetlab import results

    buffer = io.BytesIO()
    arrays = {name: getattr(statistics, name).numpy() for name in ("mean", "deviation", "colours")}
    np.savez(buffer, **arrays)
    with contextlib.suppress(OSError):  # measured again next time
        cache.parent.mkdir(parents=True, exist_ok=True)
        results.atomic_write(cache, buffer.getvalue())
