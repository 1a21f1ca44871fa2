"""Which images, as a value, and what their results are called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Annotated, Any

from pydantic import Field, field_validator

from resnetlab.config.strict import UsageError, _Strict, did_you_mean, expanded

DATA_SETS = ("digits", "cifar10", "cifar100", "digits-large", "tiny-imagenet")
FOLDERS = {  # KIND:PATH -> what has to lie there
    "folder": "train/ and test/",
    "imagenet": "train/ and val/",
    "tiny-imagenet": "train/, val/, wnids.txt and words.txt",
}
DATA_KINDS = (*DATA_SETS, *(f"{kind}:PATH" for kind in FOLDERS))
TINY_CLASSES = 200  # of Tiny ImageNet
HELD_OUT = 0.05  # of the training images, where a recipe's rate follows an error and nothing is said


class Data(_Strict):
    """Which images: one of DATA_SETS, or folder:PATH, imagenet:PATH, tiny-imagenet:PATH.

    digits-large are the digits as JPEG files of many sizes, made on first use: a stand-in for larger
    photographs. imagenet:PATH is torchvision's layout, train/WNID/*.JPEG and val/WNID/*.JPEG.
    tiny-imagenet is the download, tiny-imagenet:PATH an unpacked copy of it or of some of its classes;
    `classes` is how many a copy has, and so what its results are called.

    `validation` > 0 takes that many training images, below 1 that share of them, by a seeded
    permutation, as the set whose error is followed during training (the paper chose its schedule on
    45k/5k). The test images are then read once, after the last step.
    """

    name: str = "digits"
    validation: Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)] = 0
    classes: Annotated[int, Field(ge=2, le=TINY_CLASSES)] | None = None

    unwritten = ("classes",)

    def _mistakes(self) -> Iterator[str]:
        copied = self.name.startswith("tiny-imagenet:")
        if copied and self.classes is None:
            yield f"data.classes is missing: how many classes does {self.name} have?"
        if not copied and self.classes is not None:
            yield (
                "data.classes belongs to tiny-imagenet:PATH, which may hold some of the 200 classes "
                f"(`config.images_named` counts them), not to {self.name}"
            )

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        kind, colon, path = name.partition(":")
        if kind in FOLDERS and (colon or kind not in DATA_SETS):
            if not path.strip():
                raise ValueError(f"data '{kind}:' needs a path: {kind}:PATH with {FOLDERS[kind]}")
            return name
        if name not in DATA_SETS and ("/" in name or os.sep in name):
            raise ValueError(f"unknown data set {name!r}; your own images are folder:{name}")
        if name not in DATA_SETS:
            raise ValueError(f"unknown data set {name!r}{did_you_mean(name, DATA_KINDS)}")
        return name

    @property
    def path(self) -> str | None:
        """The folder of folder:PATH, imagenet:PATH and tiny-imagenet:PATH."""
        return self.name.partition(":")[2] or None

    @property
    def large(self) -> bool | None:
        """Whether its images are cropped from larger ones (recipes with `crop`); None: either way."""
        if self.name.startswith("folder:"):
            return None
        kind = self.name.partition(":")[0]
        return kind in ("digits-large", "tiny-imagenet", "imagenet")

    @property
    def label(self) -> str:
        """The data set's own name, as every figure and table shows it.

        A folder's is its last part, marked if it would pass for one of the known sets; so many classes
        of Tiny ImageNet are said (tiny-imagenet-100), and a held-out part, because such runs trained on
        fewer images.
        """
        kind, _, path = self.name.partition(":")
        label = kind
        if kind == "tiny-imagenet" and self.classes not in (None, TINY_CLASSES):
            label = f"{kind}-{self.classes}"
        if kind == "folder":
            last = PurePath(path).name or "folder"
            taken = last in (*DATA_SETS, "imagenet") or last.startswith("tiny-imagenet-")
            label = f"folder:{last}" if taken else last
        if not self.validation:
            return label
        held = self.validation if self.validation >= 1 else f"{100 * self.validation:g} %"
        return f"{label} ({held} held out)"

    @property
    def slug(self) -> str:
        """The label as a part of a folder's name."""
        return re.sub(r"[^A-Za-z0-9._-]", "_", self.label)


def spelt(name: str) -> str:
    """A data set's name with one spelling of its folder, by letters alone: nothing has to lie there.

    Relative to the working folder where it lies below that, else absolute; the others as they are.
    """
    kind, colon, path = name.partition(":")
    if kind not in FOLDERS or not path.strip():
        return name
    whole = Path(os.path.abspath(expanded(path)))
    below = whole.is_relative_to(here := Path.cwd()) and whole != here
    return f"{kind}{colon}{whole.relative_to(here) if below else whole}"


def images_named(name: str, *, validation: float = 0) -> Data:
    """The `Data` of that name, its folder as `spelt`.

    Of tiny-imagenet:PATH the classes that the copy has are counted there.

    Raises UsageError for an unknown name and for a path without train/ and folders in it.
    """
    name = spelt(name) if isinstance(name, str) else name
    values: dict[str, Any] = {"name": name, "validation": validation}
    kind, _, path = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind == "tiny-imagenet" and path.strip():
        train = expanded(path) / "train"
        try:
            values["classes"] = sum(
                entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
                for entry in train.iterdir()
            )
        except OSError as error:
            raise UsageError(
                f"{train} cannot be read ({error.strerror}); {name} needs {FOLDERS[kind]}, as in the "
                "public zip (`resnetlab data download tiny-imagenet` fetches it)"
            ) from None
    return Data.parse(values)
