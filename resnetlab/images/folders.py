"""A folder of images with one folder per class: what lies there, and what is wrong with it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from resnetlab.images.pixels import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
KINDS = "(jpg, png, webp, bmp, gif, tiff)"
LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")  # that systems leave behind, beside dot files
SHOWN = 5  # names that a sentence gives


class Layout(NamedTuple):
    """The images of a data folder, and what is wrong with it, a sentence each."""

    images: dict[str, dict[str, list[Path]]]  # "train", "test" -> class -> image files, sorted
    ignored: list[Path]  # neither images nor folders of a class: what is not read
    problems: list[str]
    test_folder: str = "val"

    def left_out(self, folder: Path) -> tuple[str, ...]:
        """What is not read, by its name below the folder; a system's litter comes last."""
        paths = sorted(self.ignored, key=lambda path: (is_litter(path.name), path))
        return tuple(path.relative_to(folder).as_posix() for path in paths)

    def checked(self, hint: str = "") -> dict[str, dict[str, list[Path]]]:
        """The images. Raises DataError with the first problem, `hint` behind it."""
        if self.problems:
            raise DataError(self.problems[0] + hint)
        return self.images


def is_image(path: str | Path) -> bool:
    """Whether a file counts as an image, by its name."""
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


def is_litter(name: str) -> bool:
    """Whether a system left it there: a dot file, __MACOSX and the like."""
    return name.startswith(".") or name in LITTER


def named(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown


def entries(folder: Path, ignored: list[Path]) -> list[Path]:
    """What lies in a folder, sorted by name; a system's litter goes to `ignored`."""
    names = sorted(os.listdir(folder))
    ignored += [folder / name for name in names if is_litter(name)]
    return [folder / name for name in names if not is_litter(name)]


def _images_below(folder: Path, ignored: list[Path]) -> list[Path]:
    """All images in a class's folder, in folders below it too, sorted; links to folders stay unread."""

    def fail(error: OSError) -> None:
        raise error

    found = []
    for place, inner, names in os.walk(folder, onerror=fail):
        left = [name for name in inner if is_litter(name) or os.path.islink(os.path.join(place, name))]
        inner[:] = [name for name in inner if name not in left]
        images = [name for name in names if is_image(name) and not is_litter(name)]
        found += [os.path.join(place, name) for name in images]
        left += set(names) - set(images)
        ignored += [Path(place, name) for name in sorted(left)]
    return [Path(path) for path in sorted(found)]


def look(path: Path) -> Layout:
    """All images of train/CLASS and test/CLASS (or val/CLASS), and all problems: nothing is raised.

    Images in folders below a class's are its own. Where test/ has no class of val/, as in ImageNet as
    distributed, val/ is the test set. Problems: a missing folder or one too many, a class without
    images, fewer than two classes, classes that differ between train and test, names that are no UTF-8.
    """
    problems: list[str] = []
    ignored: list[Path] = []
    held = [name for name in ("test", "val") if (path / name).is_dir()]
    if len(held) == 2 and not set.intersection(*(_folders_in(path / name) for name in held)):
        held = ["val"]
    if len(held) == 2:
        problems.append(f"{path} has both test/ and val/; only one of them can be the test set")
    test_folder = (held or ["test"])[0]
    images = {
        split: _classes(path / name, ignored, problems)
        for split, name in (("train", "train"), ("test", test_folder))
    }
    if path.is_dir() and os.access(path, os.R_OK):
        ignored += [e for e in entries(path, ignored) if e.name not in ("train", test_folder)]
    train, test = images["train"], images["test"]
    if not problems:
        if len(train) < 2:
            problems.append(f"{path / 'train'} has one class ({next(iter(train))}); two are needed")
        every = (file for split in images.values() for group in split.values() for file in group)
        if wrong := [ascii(str(file.relative_to(path))) for file in every if not _is_text(str(file))]:
            problems.append(f"{path} has names that are no UTF-8, rename them: {named(wrong)}")
        if odd := sorted(set(train) ^ set(test)):
            problems.append(
                f"train and {test_folder} of {path} have different classes: {', '.join(odd)}"
            )
    return Layout(images, ignored, problems, test_folder)


def _folders_in(folder: Path) -> set[str]:
    try:
        return {_one_form(entry.name) for entry in entries(folder, []) if entry.is_dir()}
    except OSError:
        return set()  # said where its images are looked for


def _one_form(name: str) -> str:
    """The name with accents composed (NFC): macOS writes them apart, and they look alike."""
    return unicodedata.normalize("NFC", name)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _classes(folder: Path, ignored: list[Path], problems: list[str]) -> dict[str, list[Path]]:
    """Class -> its image files, both sorted."""
    if not folder.is_dir():
        problems.append(
            f"{folder} is missing; a data folder holds train/CLASS/*.jpg|png and test/CLASS/*.jpg|png"
        )
        return {}
    classes: dict[str, list[Path]] = {}
    try:
        for place in sorted(entries(folder, ignored), key=lambda place: _one_form(place.name)):
            if not place.is_dir():
                ignored.append(place)
                continue
            classes.setdefault(_one_form(place.name), []).extend(_images_below(place, ignored))
    except OSError as error:
        problems.append(f"{error.filename} cannot be read ({error.strerror})")
        return {}
    empty = [folder / name for name, paths in classes.items() if not paths]
    if len(empty) == len(classes):
        problems.append(f"{folder} has no images {KINDS} in class folders")
    else:
        problems += [f"{place} has no images {KINDS}" for place in empty]
    return classes
