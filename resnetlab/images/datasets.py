"""The data sets that lie in memory: digits, CIFAR-10/100, folders of small images; downloads."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import shutil
import sys
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnetlab import config
from resnetlab.config import UsageError
from resnetlab.files import atomic_write, project_root
from resnetlab.images.feeds import Dataset, Split, generator

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
