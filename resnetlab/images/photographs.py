"""Larger images, read from files while training (Sec. 3.4): ImageNet, any folder of photographs.

Worker processes decode and crop; everything that is arithmetic on pixels (mirroring, colour, the mean)
happens in batches on the device. What a step sees is a function of (seed, step) alone, whatever the
number of workers or of processes that share a batch.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resnetlab import config, machine
from resnetlab.config import UsageError
from resnetlab.files import atomic_write
from resnetlab.images import datasets, feeds, tiny_imagenet
from resnetlab.images.datasets import DataError
from resnetlab.images.feeds import Normalise, Share, generator
from resnetlab.images.pixels import Pixels, centre_crop, decode, resize, scaled_crop
from resnetlab.images.workers import _Slots, in_order

IMAGENET_CLASSES = 1000
MOST_READ = 1024**3  # bytes of files that are read to find test images among the training images
TINY_PIXELS = 64 * 64  # of an image of Tiny ImageNet
MEASURED_IMAGES = 10_000  # training images from which the mean and the colours are measured
TINY_SET = 8 * 1024**2  # bytes of files that are decoded before worker processes have started
TASK_PIXELS = 32 * 224 * 224  # pixels that a worker decodes at a time: 32 crops of 224
Names = np.ndarray[Any, np.dtype[np.bytes_]]
Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Files:
    """Image files and their classes. Arrays, not lists, so that worker processes share the memory.

    `pixels` are all images decoded, where they have one size and fit into memory: nothing is read any
    more, and what is cut out of them is the same to the last bit.
    """

    folder: Path
    names: Names  # (N,), of the files, below `folder`
    labels: Integers  # (N,)
    sizes: Integers  # (N,), in bytes
    pixels: Tensor | None = None  # uint8 (N, H, W, 3)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return os.fsdecode(self.names[index])

    def path(self, index: int) -> str:
        return os.path.join(self.folder, self.name(index))

    def image(self, index: int, at_least: int | None = None) -> Tensor:
        """uint8 (3, H, W): see `decode`."""
        if self.pixels is not None:
            return self.pixels[index].permute(2, 0, 1)
        return decode(self.path(index), at_least)

    def take(self, indices: Tensor) -> Files:
        which = indices.numpy()
        pixels = self.pixels[indices] if self.pixels is not None else None
        return Files(self.folder, self.names[which], self.labels[which], self.sizes[which], pixels)

    def decoded(self, what: str) -> Files:
        """The same with `pixels`, if all images are of the first one's size; else as they are.

        `what` is said beside the progress bar. Raises DataError naming a file that is damaged.
        """
        from tqdm import tqdm

        pixels = torch.empty((len(self), *decode(self.path(0)).shape[1:], 3), dtype=torch.uint8)
        with ThreadPoolExecutor(machine.usable_cores()) as pool:
            images = pool.map(decode, map(self.path, range(len(self))))
            try:
                for index, image in enumerate(
                    tqdm(images, f"decoding {what}", len(self), **datasets.BAR)
                ):
                    if image.shape[1:] != pixels.shape[1:3]:
                        pool.shutdown(cancel_futures=True)
                        return self
                    pixels[index] = image.permute(1, 2, 0)
            except BaseException:
                pool.shutdown(cancel_futures=True)  # do not decode the rest first
                raise
        return replace(self, pixels=pixels)


def _digest(path: str) -> bytes:
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None


def _files(folder: Path, classes: Mapping[str, list[Path]]) -> Files:
    names, labels, sizes = [], [], []
    for label, paths in enumerate(classes.values()):
        for path in paths:
            try:
                sizes.append(os.stat(path).st_size)
            except OSError as error:  # a dangling link
                raise DataError(f"{path} cannot be read ({error.strerror})") from None
            names.append(os.fsencode(path.relative_to(folder)))
            labels.append(label)
    return Files(folder, np.array(names), np.array(labels), np.array(sizes))


@dataclass(frozen=True)
class Photos:
    """The files of training and test images, and of the held-out part if one was asked for.

    `workers` processes decode them; None: as many as this process computes with threads, and none for
    a set so small that it is decoded before they have started.
    """

    label: str
    classes: tuple[str, ...]
    splits: Mapping[str, Files]  # train, test and perhaps validation
    root: Path  # of the cache
    workers: int | None = None

    in_channels = 3

    def describe(self) -> dict[str, Any]:
        """What run.json keeps of it. Images of many sizes: their height and width are null.

        The hash is over names and sizes of the files, not over pixels: to read all of ImageNet takes an
        hour, at each start.
        """
        return {
            "classes": list(self.classes),
            "shape": [3, None, None],
            "train": len(self.splits["train"]),
            "validation": len(self.splits["validation"]) if "validation" in self.splits else 0,
            "test": len(self.splits["test"]),
            "in_both": self.in_both,
            "sha256": self.fingerprint,
        }

    @cached_property
    def in_both(self) -> int | None:
        """Test files that are training files too, byte for byte; None where reading all takes long."""
        if sum(int(files.sizes.sum()) for files in self.splits.values()) > MOST_READ:
            return None
        known = {_digest(files.path(i)) for name, files in self.splits.items() if name != "test"
                 for i in range(len(files))}  # fmt: skip
        test = self.splits["test"]
        return sum(_digest(test.path(index)) in known for index in range(len(test)))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names, classes and sizes of all files, split by split."""
        digest = hashlib.sha256()
        for split, files in self.splits.items():
            digest.update(f"{split}\n".encode())
            for name, size in zip(files.names.tolist(), files.sizes.tolist(), strict=True):
                digest.update(b"%s\0%d\n" % (name, size))
        return digest.hexdigest()

    def feed(
        self,
        recipe: config.Recipe,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        share: Share = feeds.ALONE,
    ) -> Streamed:
        """These images as training takes them, by a recipe with `crop`."""
        return Streamed(self, recipe, seed, device, dtype, share)

    def workers_for(self, files: Files) -> int:
        """Processes that decode these files; 0: this one does."""
        if files.pixels is not None:
            return 0
        if self.workers is not None:
            return self.workers
        tiny = int(files.sizes.sum()) < TINY_SET
        return 0 if tiny else min(torch.get_num_threads(), machine.usable_cores())

    def resized(
        self, split: str, side: int, workers: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image of a split whole, shorter side resized to `side`, in the order of the files.

        Batches of uint8 (B, 3, h, w) and labels (B,); neighbours of one size come together.
        """
        files = self.splits[split]
        each = _task_size(side)
        tasks = (range(i, min(i + each, len(files))) for i in range(0, len(files), each))
        count = self.workers_for(files) if workers is None else workers
        for batches in in_order(_Resizer(files, side), tasks, count):
            for pixels, labels in batches:
                yield torch.from_numpy(pixels), torch.from_numpy(labels)


def load(spec: config.Data, root: Path | None = None) -> Photos:
    """The files of digits-large, tiny-imagenet, folder:PATH, imagenet:PATH or tiny-imagenet:PATH.

    No image is opened, but for Tiny ImageNet's, which are decoded at once where memory has room.
    Raises DataError for a folder without train/ and one of val/ and test/, with classes that differ
    between them, or, under the name imagenet, with another number of classes than 1,000; UsageError
    for a data set of small images, and if `validation` takes all of the training images.
    """
    root = root or datasets.data_root()
    if spec.name.partition(":")[0] == "tiny-imagenet":
        return _load_tiny(spec, root)
    if spec.name == "digits-large":
        folder = make_digits(root)
    elif spec.path is not None:
        folder = Path(spec.path).expanduser()
    else:
        raise UsageError(f"{spec.label} has small images, which are not read from files while training")
    found = datasets.find_images(folder)
    classes = tuple(found["train"])
    if spec.name.startswith("imagenet:") and len(classes) != IMAGENET_CLASSES:
        raise DataError(
            f"{folder} has {len(classes)} classes, ImageNet has {IMAGENET_CLASSES}; use "
            f"--data folder:{spec.path}, so that no result passes for ImageNet's"
        )
    return _photos(spec, classes, {name: _files(folder, files) for name, files in found.items()}, root)


def _load_tiny(spec: config.Data, root: Path) -> Photos:
    folder = root / spec.name if spec.path is None else Path(spec.path).expanduser()
    found = tiny_imagenet.find_images(folder)
    wnids, said = list(found["train"]), spec.classes or config.TINY_CLASSES
    classes = tuple(tiny_imagenet.class_names(folder, wnids))
    if len(wnids) != said:
        raise DataError(f"{folder} has {len(wnids)} classes, {spec.label} has {said}")
    splits = {name: _files(folder, files) for name, files in found.items()}
    room = machine.free_memory() // 2
    if sum(map(len, splits.values())) * TINY_PIXELS * 3 <= room:
        splits = {name: files.decoded(f"{spec.label}/{name}") for name, files in splits.items()}
    return _photos(spec, classes, splits, root)


def _photos(
    spec: config.Data, classes: tuple[str, ...], splits: dict[str, Files], root: Path
) -> Photos:
    if spec.validation:
        kept, held = datasets.held_out(len(splits["train"]), spec.validation, spec.label)
        train = splits["train"]
        splits = splits | {"train": train.take(kept), "validation": train.take(held)}
    return Photos(spec.label, classes, splits, root)


def make_digits(root: Path) -> Path:
    """root/digits-large: scikit-learn's digits as grey JPEG files of 40 to 80 pixels, made once.

    Larger images where there are no photographs: for trying the ImageNet networks and recipes, and no
    stand-in for their results. Training and test images are those of `digits`. The folder takes its
    name when it is whole. Raises DataError if it cannot be written.
    """
    from PIL import Image

    folder = root / "digits-large"
    if folder.is_dir():
        return folder
    partial = root / f".digits-large.{os.getpid()}"
    digits = datasets.load(config.Data())
    random = generator(0, "digits-large")
    try:
        for name, split in (("train", digits.train), ("test", digits.test)):
            sizes = torch.randint(40, 81, (len(split), 2), generator=random).tolist()
            for index, size in enumerate(sizes):
                place = partial / name / digits.classes[int(split.labels[index])]
                place.mkdir(parents=True, exist_ok=True)
                image = Image.fromarray(split.images[index, 0].numpy())
                image = image.resize(tuple(size), Image.Resampling.BICUBIC)
                image.save(place / f"{index:04d}.jpg", quality=90)
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    except OSError as error:
        raise DataError(f"{folder} could not be made ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


class Cut(NamedTuple):
    """One image to be decoded and cut: its number, the shorter side, and where the crop lies.

    Without a place it is the single view: shorter side resized, centre crop.
    """

    which: int
    side: int
    place: tuple[float, float] | None = None


class _Cutter:
    """What a worker does: decodes images, writes the crops into a slot, returns labels."""

    def __init__(self, files: Files, crop: int, slots: _Slots) -> None:
        self.files, self.crop, self.slots = files, crop, slots

    @torch.inference_mode()
    def __call__(self, task: tuple[int, list[Cut]]) -> Integers:
        slot, cuts = task
        for row, cut in enumerate(cuts):
            self.slots[slot][row] = self._view(cut).permute(1, 2, 0)
        return self.files.labels[[cut.which for cut in cuts]]

    def _view(self, cut: Cut) -> Tensor:
        if cut.place is None:
            return centre_crop(resize(self.files.image(cut.which), cut.side), self.crop)
        image = self.files.image(cut.which, at_least=cut.side)
        return scaled_crop(image, cut.side, self.crop, *cut.place)


class _Resizer:
    """What a worker does for `Photos.resized`: neighbours of one size, stacked."""

    def __init__(self, files: Files, side: int) -> None:
        self.files, self.side = files, side

    @torch.inference_mode()
    def __call__(self, task: range) -> list[tuple[Pixels, Integers]]:
        images = [resize(self.files.image(index), self.side).numpy() for index in task]
        groups = [
            list(group) for _, group in itertools.groupby(task, lambda i: images[i - task.start].shape)
        ]
        return [
            (np.stack([images[i - task.start] for i in group]), self.files.labels[group])
            for group in groups
        ]


def _task_size(side: int) -> int:
    """Images of about that size that a worker takes at a time."""
    return max(1, min(500, TASK_PIXELS // side**2))


def crops(
    photos: Photos, split: str, cuts: Iterable[list[Cut]], crop: int, together: int, ahead: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Crops uint8 (n, crop, crop, 3) and labels (n,) for each list of at most `together` cuts.

    The pixels hold until the next are asked for. At least `ahead` lists are cut beforehand.
    """
    files = photos.splits[split]
    workers = photos.workers_for(files)
    each = max(2, -(-ahead // workers)) if workers else 0
    slots = _Slots(workers * each + 1, together, crop)
    turns = itertools.cycle(range(workers * each + 1))
    tasks = zip(itertools.cycle(range(workers * each + 1)), cuts, strict=False)
    for labels in in_order(_Cutter(files, crop, slots), tasks, workers, each):
        yield slots[next(turns)][: len(labels)], torch.from_numpy(labels)


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
        return [Cut(which, side, (x, y)) for which, side, x, y in zip(*columns, strict=True)]


class Streamed:
    """A `feeds.Feed` from files: images of Sec. 3.4, by a recipe with `crop` and `scale`."""

    def __init__(
        self,
        photos: Photos,
        recipe: config.Recipe,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        share: Share = feeds.ALONE,
    ) -> None:
        if recipe.crop is None or recipe.scale is None:
            raise UsageError(f"recipe {recipe.name} does not crop; {photos.label} has larger images")
        self.images = len(photos.splits["train"])
        self._photos, self._recipe, self._seed = photos, recipe, seed
        self._device, self._share = device, share
        self._crop, self._scale = recipe.crop, recipe.scale
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)
        statistics = measure(photos, self._crop, self._scale[0])
        self.normalise = statistics.normalise(recipe.mean).to(device, dtype)
        self._colours = statistics.colours().to(device, dtype)

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
        """This process's share of what `step` sees; a batch may straddle epochs: `feeds.Order`."""
        rows = self._share.of(self._recipe.batch_size)
        first = step * self._recipe.batch_size + rows.start
        last = step * self._recipe.batch_size + rows.stop
        pieces = []
        for epoch in range(first // self.images, (last - 1) // self.images + 1):
            begin = max(first - epoch * self.images, 0)
            pieces.append(self._epoch(epoch).rows(slice(begin, last - epoch * self.images)))
        return Views(*(torch.cat(parts) for parts in zip(*pieces, strict=True)))

    def batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, 3, crop, crop), labels (B,), on the device.

        Sec. 3.4: the shorter side drawn from `scale` (both ends included), a random square, its mirror
        image half the time, the mean subtracted, the colours shifted.
        """
        parts = self._parts()
        found = self.crops(start, stop)
        for step in range(start, stop):
            views, labels = self.views(step), []
            images = torch.empty(
                (parts[-1].stop, 3, self._crop, self._crop),
                dtype=self.normalise.mean.dtype,
                device=self._device,
            )
            for part in parts:
                pixels, classes = next(found)
                images[part] = self.augment(self._moved(pixels), views.rows(part))
                labels.append(classes)
            yield images, torch.cat(labels).to(self._device)

    def crops(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The same images as they come from the workers: uint8 (n, crop, crop, 3), labels (n,).

        Several together are a batch. The pixels hold until the next are asked for.
        """
        parts = self._parts()
        cuts = (self.views(step).rows(part).cuts() for step in range(start, stop) for part in parts)
        together = parts[0].stop
        return crops(self._photos, "train", cuts, self._crop, together, ahead=len(parts))

    def _parts(self) -> list[slice]:
        """A batch, or this process's share of it, in the parts that workers take."""
        rows = self._share.of(self._recipe.batch_size)
        count, each = rows.stop - rows.start, _task_size(self._crop)
        return [slice(i, min(i + each, count)) for i in range(0, count, each)]

    def _moved(self, pixels: Tensor) -> Tensor:
        """uint8 (n, S, S, 3) of a slot -> (n, 3, S, S) on the device; the slot is free again."""
        if self._device.type == "cuda":
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        return pixels.permute(0, 3, 1, 2).contiguous()

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
        mine = range(self._share.rank, len(self._photos.splits[split]), self._share.ranks)
        for pixels, labels in _single_views(self._photos, split, mine, self._scale[0], self._crop):
            yield self.normalise(self._moved(pixels)), labels.to(self._device)


def _single_views(
    photos: Photos, split: str, indices: range | list[int], side: int, crop: int
) -> Iterator[tuple[Tensor, Tensor]]:
    each = _task_size(crop)
    cuts = ([Cut(index, side) for index in indices[i : i + each]] for i in range(0, len(indices), each))
    yield from crops(photos, split, cuts, crop, min(each, len(indices)))


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
        found: Tensor = vectors * largest.sign() * values.clamp(min=0)  # no library decides the sign
        return found


def measure(photos: Photos, crop: int, side: int) -> Statistics:
    """Statistics of at most MEASURED_IMAGES training images, a seeded choice, kept in the cache.

    In the single view: shorter side `side`, centre `crop`. (The paper does not say of which images or
    views its mean is.) The sums are exact, so the number of workers does not matter.
    """
    from tqdm import tqdm

    key = f"{photos.fingerprint}-{side}-{crop}-{MEASURED_IMAGES}"
    key = hashlib.sha256(key.encode()).hexdigest()[:16]
    cache = photos.root / "cache" / f"statistics-{key}.npz"
    # A bad cache is only measured anew.
    with contextlib.suppress(Exception), np.load(cache, allow_pickle=False) as stored:
        return Statistics(torch.from_numpy(stored["mean"]), torch.from_numpy(stored["covariance"]))

    train = photos.splits["train"]
    chosen = torch.randperm(len(train), generator=generator(0, "mean"))[:MEASURED_IMAGES]
    indices = chosen.sort().values.tolist()
    count = 0
    total = torch.zeros(crop, crop, 3, dtype=torch.float64)
    products = torch.zeros(3, 3, dtype=torch.float64)
    with tqdm(total=len(indices), desc=f"mean and colours of {photos.label}", **datasets.BAR) as bar:
        for pixels, labels in _single_views(photos, "train", indices, side, crop):
            values = pixels.double()  # whole numbers far below 2**53: sums have no rounding
            total += values.sum(dim=0)
            flat = values.flatten(0, 2)  # (B * crop * crop, 3)
            products += flat.T @ flat
            count += len(labels)
            bar.update(len(labels))
    mean = total.permute(2, 0, 1).contiguous() / count  # (3, crop, crop)
    channels = mean.mean(dim=(1, 2))
    covariance = products / (count * crop * crop) - torch.outer(channels, channels)
    statistics = Statistics(mean, covariance / 255**2)
    _keep(cache, statistics)
    return statistics


def _keep(cache: Path, statistics: Statistics) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, mean=statistics.mean.numpy(), covariance=statistics.covariance.numpy())
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(cache, buffer.getvalue())
    except OSError as error:
        print(
            f"note: {cache} could not be written ({error.strerror}); measured again next time",
            file=sys.stderr,
        )
