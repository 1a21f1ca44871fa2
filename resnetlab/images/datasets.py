"""The images: digits, CIFAR-10/100, folders of images; splits; the order and the augmentation.

A data set is small enough to live on the device as uint8. Which images a step sees, and how each is
shifted and mirrored, is a function of (seed, step) alone: it is the same on every device, after every
resume, and whatever else runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import shutil
import sys
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from resnetlab import config
from resnetlab.config import UsageError
from resnetlab.files import atomic_write, project_root

CIFAR = ("cifar10", "cifar100")
DOWNLOADS = (*CIFAR, "tiny-imagenet")  # the last by `tiny_imagenet.download`
OFFLINE = "without network use --data digits, or --data folder:PATH with your own images"
BAR: dict[str, Any] = {
    "leave": False,
    "disable": None,
}  # of tqdm: none where nobody watches, as in a log
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_BYTES = 4 * 1024**3  # decoded; a larger set does not belong in memory


class DataError(RuntimeError):
    """A data set that is missing, damaged or not as it should be; the message names the file."""


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


def data_root() -> Path:
    """data/ in the project: downloads and decoded folders lie there, ignored by git."""
    return project_root() / "data"


def load(spec: config.Data, root: Path | None = None) -> Dataset:
    """The data set of that name. Never downloads: see `download`.

    Raises DataError if it is missing or damaged (with what to do), UsageError if `validation` takes
    all of it.
    """
    root = root or data_root()
    if spec.name.startswith("folder:"):
        dataset = _folder(Path(spec.name.removeprefix("folder:")).expanduser(), spec.label, root)
    elif spec.name == "digits":
        dataset = _digits()
    else:
        dataset = _cifar(spec.name, root)
    return _hold_out(dataset, spec.validation)


def held_out(images: int, count: int, label: str) -> tuple[Tensor, Tensor]:
    """Indices (kept, held out) of the training images: one permutation for all seeds of a study."""
    if count >= images:
        raise UsageError(f"validation {count} leaves no training image: {label} has {images}")
    order = torch.randperm(images, generator=generator(0, "validation"))
    return order[count:].sort().values, order[:count].sort().values


def _hold_out(dataset: Dataset, count: int) -> Dataset:
    if count == 0:
        return dataset
    kept, held = held_out(len(dataset.train), count, dataset.label)
    train = dataset.train
    return Dataset(dataset.label, dataset.classes, train.take(kept), dataset.test, train.take(held))


# --- digits -----------------------------------------------------------------------------------


def _digits() -> Dataset:
    """scikit-learn's 1,797 handwritten 8x8 digits, every fifth of a class for testing (1,442 / 355)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # 0..16 -> 0..255
    labels = bunch.target.astype(np.int64)
    test = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        test[np.flatnonzero(labels == digit)[4::5]] = True
    images, targets = torch.from_numpy(pixels), torch.from_numpy(labels)
    chosen = torch.from_numpy(test)
    return Dataset(
        "digits",
        tuple(str(digit) for digit in range(10)),
        Split(images[~chosen], targets[~chosen]),
        Split(images[chosen], targets[chosen]),
    )


# --- CIFAR ------------------------------------------------------------------------------------


def _torchvision_class(name: str) -> Any:
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def _cifar(name: str, root: Path) -> Dataset:
    """CIFAR-10 or CIFAR-100 as torchvision keeps it; every file's MD5 is checked at each load."""
    reader = _torchvision_class(name)
    folder = root / name
    try:
        parts = [reader(folder, train=train, download=False) for train in (True, False)]
    except RuntimeError:
        raise DataError(
            f"{name} is not in {folder}, or not whole; get it once with "
            f"`resnetlab data download {name}` (about 170 MB), or {OFFLINE}"
        ) from None
    train, test = (
        Split(
            torch.from_numpy(np.ascontiguousarray(part.data.transpose(0, 3, 1, 2))),
            torch.tensor(part.targets, dtype=torch.int64),
        )
        for part in parts
    )
    return Dataset(name, tuple(parts[0].classes), train, test)


def download(name: str, root: Path | None = None) -> Path:
    """Fetch cifar10 or cifar100 once into `root`; checksums verified before it takes its name.

    A download that breaks off leaves nothing that could be taken for the data set. Raises DataError
    without network, UsageError for a name that is not downloaded.
    """
    if name not in CIFAR:
        hint = config.did_you_mean(name, DOWNLOADS)
        raise UsageError(f"{name!r} is not downloaded{hint} (digits need no download)")
    folder = (root or data_root()) / name
    reader = _torchvision_class(name)
    with contextlib.suppress(RuntimeError):
        reader(folder, train=False, download=False)
        return folder
    partial = folder.with_name(f"{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        reader(partial, train=True, download=True)
        (partial / reader.filename).unlink(missing_ok=True)  # the archive; its content is checked
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DataError(
            f"{name} could not be downloaded from {reader.url} ({reason}); nothing was kept. "
            f"Try again later; {OFFLINE}"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


# --- folders of images ------------------------------------------------------------------------


def is_image(path: Path) -> bool:
    """Whether a file counts as an image, by its name: jpg or png, and no dot file."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _image_files(folder: Path) -> dict[str, list[Path]]:
    """Class name -> its image files, both sorted; other files and dot files are not images."""
    if not folder.is_dir():
        raise DataError(
            f"{folder} is missing; a data folder holds train/CLASS/*.jpg|png and test/CLASS/*.jpg|png"
        )
    found = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            found[entry.name] = sorted(filter(is_image, entry.iterdir()))
    if not any(found.values()):
        raise DataError(f"{folder} has no images (jpg, png) in class folders")
    for name, paths in found.items():
        if not paths:
            raise DataError(f"{folder / name} has no images (jpg, png)")
    return found


def find_images(path: Path) -> dict[str, dict[str, list[Path]]]:
    """ "train" and "test" -> class -> image files of a data folder; test/ may be called val/.

    Raises DataError for anything that is no such folder, and for classes that differ.
    """
    held = [name for name in ("test", "val") if (path / name).is_dir()]
    if len(held) == 2:
        raise DataError(f"{path} has both test/ and val/; only one of them can be the test set")
    splits = {"train": _image_files(path / "train"), "test": _image_files(path / (held or ["test"])[0])}
    classes = list(splits["train"])
    if len(classes) < 2:
        raise DataError(f"{path / 'train'} has one class ({classes[0]}); at least two are needed")
    if list(splits["test"]) != classes:
        odd = sorted(set(classes) ^ set(splits["test"]))
        raise DataError(f"train and test of {path} have different classes: {', '.join(odd[:5])}")
    return splits


def _decode(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One image as uint8 (3, H, W). DataError naming the file if it is damaged."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise DataError(f"{path} is damaged or no image ({error})") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is far too large ({error})") from None


def _decode_split(
    files: dict[str, list[Path]], size: int, what: str
) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.int64]]]:
    from tqdm import tqdm

    paths = [path for group in files.values() for path in group]
    labels = np.repeat(np.arange(len(files)), [len(group) for group in files.values()])
    images = np.empty((len(paths), 3, size, size), dtype=np.uint8)
    with ThreadPoolExecutor() as pool:
        try:
            decoded = pool.map(_decode, paths)
            for index, pixels in enumerate(tqdm(decoded, f"decoding {what}", len(paths), **BAR)):
                if pixels.shape[1:] != (size, size):
                    height, width = pixels.shape[1:]
                    raise DataError(
                        f"{paths[index]} is {width}x{height}, the first image is {size}x{size}: "
                        "all images of a folder must have one size"
                    )
                images[index] = pixels
        except BaseException:
            pool.shutdown(cancel_futures=True)  # do not decode the rest first
            raise
    return images, labels.astype(np.int64)


def _folder(path: Path, label: str, root: Path) -> Dataset:
    """train/CLASS/* and test/CLASS/*, decoded once into an array that file changes invalidate."""
    splits = find_images(path)
    classes = list(splits["train"])
    fingerprint = hashlib.sha256()
    for files in splits.values():
        for file in (file for group in files.values() for file in group):
            try:
                stat = file.stat()
            except OSError as error:  # a dangling link
                raise DataError(f"{file} cannot be read ({error.strerror})") from None
            entry = f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
            fingerprint.update(entry.encode("utf-8", "surrogateescape"))
    folder_key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    cache = root / "cache" / f"{folder_key}-{fingerprint.hexdigest()[:16]}.npz"

    arrays = _read_cache(cache)
    if arrays is None:
        height, width = _decode(splits["train"][classes[0]][0]).shape[1:]
        if height != width or height < 8:
            raise DataError(
                f"{splits['train'][classes[0]][0]} is {width}x{height}; "
                "images must be square and at least 8x8"
            )
        count = sum(len(group) for files in splits.values() for group in files.values())
        if count * 3 * height * width > MAX_BYTES:
            raise DataError(
                f"{path} would take {count * 3 * height * width / 1024**3:.1f} GiB decoded, more than "
                f"{MAX_BYTES // 1024**3} GiB; use smaller or fewer images"
            )
        arrays = {}
        for name, files in splits.items():
            images, labels = _decode_split(files, height, f"{label}/{name}")
            arrays |= {f"{name}_images": images, f"{name}_labels": labels}
        _write_cache(cache, arrays, folder_key)
    train, test = (
        Split(torch.from_numpy(arrays[f"{n}_images"]), torch.from_numpy(arrays[f"{n}_labels"]))
        for n in ("train", "test")
    )
    return Dataset(label, tuple(classes), train, test)


_CACHED = ("train_images", "train_labels", "test_images", "test_labels")


def _read_cache(cache: Path) -> dict[str, Any] | None:
    """The decoded arrays, or None if there are none or they are not whole."""
    try:
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in _CACHED}
    except Exception:  # numpy and zipfile raise a dozen kinds; a bad cache is only decoded anew
        return None


def _write_cache(cache: Path, arrays: dict[str, Any], folder_key: str) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(cache, buffer.getvalue())
    except OSError as error:
        print(
            f"note: {cache} could not be written ({error.strerror}); decoding again next time",
            file=sys.stderr,
        )
        return
    for old in cache.parent.glob(f"{folder_key}-*.npz"):
        if old != cache:
            old.unlink(missing_ok=True)


# --- order and augmentation -------------------------------------------------------------------


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
