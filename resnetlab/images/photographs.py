"""Larger images as files, not read before they are needed: ImageNet, any folder of photographs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnetlab import config, machine
from resnetlab.config import UsageError
from resnetlab.images import datasets, folders, tiny_imagenet
from resnetlab.images.cache import made
from resnetlab.images.feeds import digest_of, generator
from resnetlab.images.pixels import BAR, DataError, content_of, decode, in_threads, reading

IMAGENET_CLASSES = 1000
MOST_READ = 1024**3  # bytes of files that are read to find test images among the training images
TINY_PIXELS = 64 * 64  # of an image of Tiny ImageNet
TINY_SET = 8 * 1024**2  # bytes of files that are decoded before worker processes have started
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

    @classmethod
    def below(cls, folder: Path, classes: Mapping[str, list[Path]]) -> Files:
        """Those of class -> paths. Raises DataError naming one that cannot be read."""
        paths = [path for group in classes.values() for path in group]
        with reading(folder):  # a dangling link
            sizes = [os.stat(path).st_size for path in paths]
        names = [os.fsencode(path.relative_to(folder)) for path in paths]
        labels = np.repeat(np.arange(len(classes)), [len(group) for group in classes.values()])
        return cls(folder, np.array(names), labels, np.array(sizes))

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> str:
        return os.path.join(self.folder, os.fsdecode(self.names[index]))

    def digests(self) -> Iterator[bytes]:
        """Of each file's content. Raises DataError naming a file that cannot be read."""
        for index in range(len(self)):
            with reading(self.path(index)):
                content = content_of(self.path(index))
            yield digest_of(content)

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
        paths = [self.path(index) for index in range(len(self))]
        bar = tqdm(in_threads(decode, paths), f"decoding {what}", len(self), **BAR)
        for index, image in enumerate(bar):
            if image.shape[1:] != pixels.shape[1:3]:
                return self
            pixels[index] = image.permute(1, 2, 0)
        return replace(self, pixels=pixels)


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
    left_out: tuple[str, ...] = ()  # what lies in the folder and is not read

    in_channels = 3

    def describe(self) -> dict[str, Any]:
        """What run.json keeps of it. Images of many sizes: their height and width are null.

        The hash is over names and sizes of the files, not over pixels: to read all of ImageNet takes an
        hour, at each start.
        """
        return {
            "classes": list(self.classes),
            "shape": [3, None, None],
            **{split: len(self.splits.get(split, ())) for split in ("train", "validation", "test")},
            "in_both": self.in_both,
            "sha256": self.fingerprint,
            "left_out": len(self.left_out),
        }

    @cached_property
    def in_both(self) -> int | None:
        """Test files that are training files too, byte for byte; None where reading all takes long."""
        if sum(int(files.sizes.sum()) for files in self.splits.values()) > MOST_READ:
            return None
        training = [files for split, files in self.splits.items() if split != "test"]
        known = {digest for files in training for digest in files.digests()}
        return sum(digest in known for digest in self.splits["test"].digests())

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names, classes and sizes of all files, split by split."""
        digest = hashlib.sha256()
        for split, files in self.splits.items():
            digest.update(f"{split}\n".encode())
            for name, size in zip(files.names.tolist(), files.sizes.tolist(), strict=True):
                digest.update(b"%s\0%d\n" % (name, size))
        return digest.hexdigest()

    def workers_for(self, files: Files) -> int:
        """Processes that decode these files; 0: this one does."""
        if files.pixels is not None:
            return 0
        if self.workers is not None:
            return self.workers
        tiny = int(files.sizes.sum()) < TINY_SET
        return 0 if tiny else min(torch.get_num_threads(), machine.usable_cores())


def load(spec: config.Data, root: Path | None = None) -> Photos:
    """The files of digits-large, tiny-imagenet, folder:PATH, imagenet:PATH or tiny-imagenet:PATH.

    No image is opened, but for Tiny ImageNet's, which are decoded at once where memory has room.
    Raises DataError for a folder that is not laid out as its kind asks, or has another number of
    classes than ImageNet, Tiny ImageNet or the copy of it; UsageError for a data set of small images,
    and if `validation` takes all of the training images.
    """
    root, kind = root or datasets.data_root(), spec.name.partition(":")[0]
    tiny = kind == "tiny-imagenet"
    if kind == "digits-large":
        folder = make_digits(root)
    elif spec.path is not None:
        folder = config.expanded(spec.path)
    elif tiny:
        folder = root / kind
    else:
        raise UsageError(f"{spec.label} has small images, which are not read from files while training")
    layout = tiny_imagenet.look(folder) if tiny else folders.look(folder)
    images = layout.checked(tiny_imagenet.HINT if tiny else "")
    names = list(images["train"])
    classes = tiny_imagenet.class_names(folder, names) if tiny else names
    if tiny and len(names) != (needed := spec.classes or config.TINY_CLASSES):
        raise DataError(f"{folder} has {len(names)} classes, {spec.label} has {needed}")
    if kind == "imagenet" and len(names) != IMAGENET_CLASSES:
        raise DataError(
            f"{folder} has {len(names)} classes, ImageNet has {IMAGENET_CLASSES}; use "
            f"--data folder:{spec.path}, so that no result passes for ImageNet's"
        )
    splits = {split: Files.below(folder, groups) for split, groups in images.items()}
    needed = sum(map(len, splits.values())) * TINY_PIXELS * 3
    if tiny and needed <= machine.free_memory() // 2:
        splits = {split: files.decoded(f"{spec.label}/{split}") for split, files in splits.items()}
    if spec.validation:
        train = splits["train"]
        kept, held = datasets.held_out(len(train), spec.validation, spec.label)
        splits |= {"train": train.take(kept), "validation": train.take(held)}
    return Photos(spec.label, tuple(classes), splits, root, left_out=layout.left_out(folder))


def make_digits(root: Path) -> Path:
    """root/digits-large: the digits as grey JPEG files of 40 to 80 pixels, made once.

    Larger images where there are no photographs: for trying the ImageNet networks and recipes, and no
    stand-in for their results. Training and test images are those of `digits`. The folder takes its
    name when it is whole. Raises DataError if it cannot be written.
    """
    from PIL import Image

    folder = root / "digits-large"
    if folder.is_dir():
        return folder
    digits = datasets.load(config.Data())
    random = generator(0, "digits-large")
    with made(folder, root / f".digits-large.{os.getpid()}") as partial:
        for name, split in (("train", digits.train), ("test", digits.test)):
            sizes = torch.randint(40, 81, (len(split), 2), generator=random).tolist()
            for index, size in enumerate(sizes):
                place = partial / name / digits.classes[int(split.labels[index])]
                place.mkdir(parents=True, exist_ok=True)
                image = Image.fromarray(split.images[index, 0].numpy())
                image = image.resize(tuple(size), Image.Resampling.BICUBIC)
                image.save(place / f"{index:04d}.jpg", quality=90)
    return folder
