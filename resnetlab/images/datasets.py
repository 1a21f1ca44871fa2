"""The data sets that lie in memory: digits, CIFAR-10/100, folders of small images; downloads."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import shutil
import socket
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from resnetlab import config
from resnetlab import files as places
from resnetlab.config import UsageError
from resnetlab.images import folders
from resnetlab.images.cache import Arrays, cached, made
from resnetlab.images.feeds import Dataset, Split, generator
from resnetlab.images.pixels import BAR, DataError, DownloadError, decode, in_threads, reading

CIFAR = ("cifar10", "cifar100")
DIGITS = Path(__file__).with_name("digits.csv.gz")
DOWNLOADS = (*CIFAR, "tiny-imagenet")  # the last by `tiny_imagenet.download`
OFFLINE = "without network use --data digits, or --data folder:PATH with your own images"
DECODER = 2  # counts changes of what `decode` makes of a file; older caches are made again then
MAX_BYTES = 4 * 1024**3  # decoded; a larger set does not belong in memory


def data_root() -> Path:
    """Where downloads and decoded folders lie: `files.usual_data`, ignored by git."""
    return places.usual_data()


class _Source(NamedTuple):
    """Where a data set is read from."""

    state: str  # of the files there: another one after any change of them
    read: Callable[[], Dataset]


# What was loaded and is still in use, by what was asked for and the state of its files.
_in_use: WeakValueDictionary[tuple[config.Data, str], Dataset] = WeakValueDictionary()


def load(spec: config.Data, root: Path | None = None) -> Dataset:
    """The data set of that name. Never downloads: see `download`.

    Runs of one process share it: while one holds it and its files stay as they were, the next one gets
    the same object. It is only read.

    Raises DataError if it is missing or damaged (with what to do), UsageError if `validation` takes
    all of it, and for a data set of larger images.
    """
    source = _source(spec, root or data_root())
    dataset = _in_use.get((spec, source.state))
    if dataset is None:
        dataset = source.read()
        if spec.validation:
            train = dataset.train
            kept, held = held_out(len(train), spec.validation, dataset.label)
            dataset = replace(dataset, train=train.take(kept), validation=train.take(held))
        _in_use[spec, source.state] = dataset
    return dataset


def _source(spec: config.Data, root: Path) -> _Source:
    if spec.name.startswith("folder:"):
        return _folder(config.expanded(spec.name.removeprefix("folder:")), spec.label, root)
    if spec.name == "digits":
        return _Source("", _digits)
    if spec.name in CIFAR:
        folder = (root / spec.name).absolute()
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return _Source(f"{folder} {_state(folder, files)}", functools.partial(_cifar, spec.name, root))
    raise UsageError(
        f"{spec.label} is not read into memory as small images; here are digits, "
        f"{', '.join(CIFAR)} and folder:PATH (larger ones: `images.photographs`)"
    )


def _state(folder: Path, files: Iterable[Path]) -> str:
    """SHA-256 over names, sizes and times of files below the folder, and over what `decode` is."""
    digest = hashlib.sha256(f"decoder {DECODER}\n".encode())
    for file in files:
        with reading(file):  # a dangling link
            stat = file.stat()
        entry = f"{file.relative_to(folder)}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        digest.update(entry.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def held_out(images: int, count: float, label: str) -> tuple[Tensor, Tensor]:
    """Indices (kept, held out) of the training images: one permutation for all seeds of a study.

    `count` of them, below 1 that share, but one at least.
    """
    count = int(count) if count >= 1 else max(1, round(count * images))
    if count >= images:
        raise UsageError(f"validation {count} leaves no training image: {label} has {images}")
    order = torch.randperm(images, generator=generator(0, "validation"))
    return order[count:].sort().values, order[:count].sort().values


def _digits() -> Dataset:
    """UCI's 1,797 handwritten 8x8 digits, every fifth of a class for testing (1,442 / 355).

    The file is scikit-learn's `load_digits`; digits.LICENSE.txt beside it says whose the images are.
    """
    table = np.loadtxt(DIGITS, delimiter=",")  # an image a row, its label last
    images, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    pixels = np.rint(images * (255 / 16)).astype(np.uint8)[:, None]  # 0..16 -> 0..255
    test = torch.zeros(len(labels), dtype=torch.bool)
    for digit in range(10):
        test[np.flatnonzero(labels == digit)[4::5]] = True
    every = Split(torch.from_numpy(pixels), torch.from_numpy(labels))
    return Dataset("digits", tuple("0123456789"), every.take(~test), every.take(test))


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
    from torchvision.datasets.utils import download_url

    folder = (root or data_root()) / name
    reader = _torchvision_class(name)
    with contextlib.suppress(RuntimeError):
        reader(folder, train=False, download=False)
        return folder
    with made(folder, folder.with_name(f"{name}.partial")) as partial:
        try:
            partial.mkdir(parents=True)
            with _impatient():
                download_url(reader.url, partial, reader.filename, reader.tgz_md5)
            _unpack(reader, partial)
            reader(partial, train=False, download=False)  # checks all its files
            shutil.rmtree(folder, ignore_errors=True)
        except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise DownloadError(
                f"{name} could not be downloaded from {reader.url} ({reason}); nothing was kept. "
                f"Try again later; {OFFLINE}"
            ) from None
    return folder


STALLED_SECONDS = 30.0  # without a byte


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Within it a connection that brings nothing is an error: torchvision's would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALLED_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _unpack(reader: Any, folder: Path) -> None:
    """The files that torchvision's class reads, out of its archive in the folder, which goes then.

    By name, for torchvision 0.26 unpacks without the filter that Python 3.12 warns about, and Python
    before 3.11.4 (Debian 12's) has none.
    """
    names = [name for name, _ in (*reader.train_list, *reader.test_list)]
    place = folder / reader.base_folder
    place.mkdir()
    with tarfile.open(folder / reader.filename) as archive:
        for name in (*names, reader.meta["filename"]):
            content = archive.extractfile(f"{reader.base_folder}/{name}")
            assert content is not None  # a file: the archive's MD5 is the one that torchvision knows
            with content, (place / name).open("wb") as file:
                shutil.copyfileobj(content, file)
    (folder / reader.filename).unlink()


def _folder(path: Path, label: str, root: Path) -> _Source:
    """train/CLASS/* and test/CLASS/*, decoded once into arrays that file changes invalidate."""
    layout = folders.look(path)
    splits = layout.checked()
    every = [file for classes in splits.values() for group in classes.values() for file in group]
    folder_key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    cache = root / "cache" / f"{folder_key}-{_state(path, every)[:16]}.npz"

    def read() -> Dataset:
        arrays = cached(
            cache,
            ("train_images", "train_labels", "test_images", "test_labels"),
            lambda: _decode_folder(path, label, splits),
            replaces=f"{folder_key}-*.npz",
        )
        train, test = (
            Split(torch.from_numpy(arrays[f"{n}_images"]), torch.from_numpy(arrays[f"{n}_labels"]))
            for n in ("train", "test")
        )
        return Dataset(label, tuple(splits["train"]), train, test, left_out=layout.left_out(path))

    return _Source(str(cache), read)


def _decode_folder(path: Path, label: str, splits: dict[str, dict[str, list[Path]]]) -> Arrays:
    """Images uint8 (N, 3, S, S) and labels (N,) of both splits, S the first image's side."""
    from tqdm import tqdm

    first = next(iter(splits["train"].values()))[0]
    height, width = decode(first).shape[1:]
    if height != width or height < 8:
        raise DataError(f"{first} is {width}x{height}; images must be square and at least 8x8")
    paths = {
        name: [file for group in split.values() for file in group] for name, split in splits.items()
    }
    needed = sum(map(len, paths.values())) * 3 * height * width
    if needed > MAX_BYTES:
        raise DataError(
            f"{path} would take {needed / 1024**3:.1f} GiB decoded, more than "
            f"{MAX_BYTES // 1024**3} GiB; use smaller or fewer images"
        )
    arrays: Arrays = {}
    for name, files in paths.items():
        images = np.empty((len(files), 3, height, width), dtype=np.uint8)
        with contextlib.closing(in_threads(decode, files)) as decoded:
            bar = tqdm(decoded, f"decoding {label}/{name}", len(files), **BAR)
            for index, image in enumerate(bar):
                if image.shape[1:] != (height, width):
                    raise DataError(
                        f"{files[index]} is {image.shape[2]}x{image.shape[1]}, the first image is "
                        f"{width}x{height}: all images of a folder must have one size"
                    )
                images[index] = image.numpy()
        counts = [len(group) for group in splits[name].values()]
        labels = np.repeat(np.arange(len(counts)), counts)
        arrays |= {f"{name}_images": images, f"{name}_labels": labels}
    return arrays
