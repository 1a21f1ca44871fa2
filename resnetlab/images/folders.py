"""A folder of images with one folder per class: what lies there, and what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from resnetlab.images.pixels import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
KINDS = "(jpg, png)"


class Layout(NamedTuple):
    """The images of a data folder, and what is wrong with it, a sentence each."""

    images: dict[str, dict[str, list[Path]]]  # "train", "test" -> class -> image files, sorted
    ignored: list[Path]  # neither images nor folders of a class
    problems: list[str]
    test_folder: str = "val"

    def checked(self, hint: str = "") -> dict[str, dict[str, list[Path]]]:
        """The images. Raises DataError with the first problem, `hint` behind it."""
        if self.problems:
            raise DataError(self.problems[0] + hint)
        return self.images


def is_image(path: Path) -> bool:
    """Whether a file counts as an image, by its name: jpg or png, and no dot file."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name, dot files left out."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    return [folder / name for name in names]


def look(path: Path) -> Layout:
    """All images of train/CLASS and test/CLASS (or val/CLASS), and all problems: nothing is raised.

    A missing folder or one too many, a class without images, fewer than two classes, classes that
    differ between train and test.
    """
    problems: list[str] = []
    ignored: list[Path] = []
    held = [name for name in ("test", "val") if (path / name).is_dir()]
    if len(held) == 2:
        problems.append(f"{path} has both test/ and val/; only one of them can be the test set")
    test_folder = (held or ["test"])[0]
    images = {
        split: _classes(path / name, ignored, problems)
        for split, name in (("train", "train"), ("test", test_folder))
    }
    train, test = images["train"], images["test"]
    if not problems:
        if len(train) < 2:
            problems.append(f"{path / 'train'} has one class ({next(iter(train))}); two are needed")
        if odd := sorted(set(train) ^ set(test)):
            problems.append(
                f"train and {test_folder} of {path} have different classes: {', '.join(odd)}"
            )
    return Layout(images, ignored, problems, test_folder)


def _classes(folder: Path, ignored: list[Path], problems: list[str]) -> dict[str, list[Path]]:
    """Class -> its image files, both sorted."""
    if not folder.is_dir():
        problems.append(
            f"{folder} is missing; a data folder holds train/CLASS/*.jpg|png and test/CLASS/*.jpg|png"
        )
        return {}
    classes = {}
    try:
        for place in entries(folder):
            if not place.is_dir():
                ignored.append(place)
                continue
            inside = entries(place)
            classes[place.name] = [file for file in inside if is_image(file)]
            ignored += [file for file in inside if not is_image(file)]
    except OSError as error:
        problems.append(f"{error.filename} cannot be read ({error.strerror})")
        return {}
    empty = [folder / name for name, paths in classes.items() if not paths]
    if len(empty) == len(classes):
        problems.append(f"{folder} has no images {KINDS} in class folders")
    else:
        problems += [f"{place} has no images {KINDS}" for place in empty]
    return classes
