"""Tiny ImageNet: photographs of 200 ImageNet classes, 64x64, no registration (Stanford's CS231n).

Its layout is not that of a data folder: training images lie one level deeper, the validation images
in one folder with a list of their classes, and classes are WordNet ids whose names stand in a file.
The test split has no labels; the validation images are what is tested on, as everywhere.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

from resnetlab.config import TINY_CLASSES
from resnetlab.images import fetch, folders
from resnetlab.images.cache import made
from resnetlab.images.folders import Layout
from resnetlab.images.pixels import DataError

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
BYTES, MD5 = 248_100_043, "90528d7ca1a48142e341f4ef8d21d0de"
IMAGES = {"train": 100_000, "test": 10_000}  # of the whole set
CLASSES, NAMES = "wnids.txt", "words.txt"
ANNOTATIONS = "val/val_annotations.txt"
KNOWN = {"train", "val", "test", CLASSES, NAMES}  # test/ has no labels
HINT = "; `resnetlab data download tiny-imagenet` fetches the whole set"


def look(folder: Path) -> Layout:
    """All images of the folder, and all problems: nothing is raised.

    A missing train/, val/ or list, a class without images, a validation image without its class in
    val_annotations.txt or the other way round, classes that differ between train/, val/, wnids.txt.
    """
    problems: list[str] = []
    train: dict[str, list[Path]] = {}
    ignored: list[Path] = []
    for place in _entries(folder / "train", ignored, problems):
        if not place.is_dir():
            ignored.append(place)
            continue
        train[place.name] = _images(place / "images", ignored, problems)
        known = {f"{place.name}_boxes.txt", "images"}
        ignored += [path for path in _entries(place, ignored, problems) if path.name not in known]
        if not train[place.name]:
            problems.append(f"{place / 'images'} has no images (JPEG)")
    for place, known in ((folder / "val", {"images", Path(ANNOTATIONS).name}), (folder, KNOWN)):
        if place.is_dir():
            ignored += [p for p in _entries(place, ignored, problems) if p.name not in known]
    classes = _validation_classes(folder, problems)
    test: dict[str, list[Path]] = {name: [] for name in train}
    images = {path.name: path for path in _images(folder / "val" / "images", ignored, problems)}
    for name, path in images.items():
        if name not in classes:
            problems.append(f"{path} has no class: {ANNOTATIONS} does not name it")
            continue
        if classes[name] not in train:
            problems.append(f"{path} is of class {classes[name]}, which train/ does not have")
        test.setdefault(classes[name], []).append(path)
    problems += [
        f"{folder / ANNOTATIONS} names {name}, which does not lie in val/images"
        for name in classes
        if name not in images
    ]
    problems += [
        f"{folder / 'val'} has no image of class {name}, which train/ has"
        for name, paths in test.items()
        if not paths and images
    ]
    listed = _lines(folder / CLASSES, problems)
    if listed and sorted(listed) != sorted(train):
        odd = sorted(set(listed) ^ set(train)) or [n for n, c in Counter(listed).items() if c > 1]
        problems.append(f"{folder / CLASSES} and train/ differ in classes: {', '.join(odd[:5])}")
    words = _words(folder, problems)
    if words and (missing := [wnid for wnid in train if not words.get(wnid)]):
        problems.append(f"{folder / NAMES} has no name for {', '.join(missing[:5])}")
    if not problems and len(train) < 2:
        problems.append(f"{folder / 'train'} has {len(train)} classes, two are needed")
    return Layout({"train": train, "test": test}, ignored, problems)


def _validation_classes(folder: Path, problems: list[str]) -> dict[str, str]:
    """Name of a validation image -> its WordNet id."""
    classes: dict[str, str] = {}
    for number, line in enumerate(_lines(folder / ANNOTATIONS, problems), 1):
        name, *rest = line.split("\t")
        if not rest:
            problems.append(f"{folder / ANNOTATIONS}, line {number}: a file and its class are needed")
        elif name in classes:
            problems.append(f"{folder / ANNOTATIONS}, line {number}: {name} stands there twice")
        else:
            classes[name] = rest[0].strip()
    return classes


def class_names(folder: Path, classes: list[str]) -> list[str]:
    """The name in words.txt of each WordNet id: its first word, or, where two share it, all of them.

    The folder has passed `look`, which wants a name for each.
    """
    words = _words(folder, [])
    first = {wnid: words[wnid].split(",")[0].strip() for wnid in classes}
    count = Counter(first.values())
    return [first[wnid] if count[first[wnid]] == 1 else f"{words[wnid]} ({wnid})" for wnid in classes]


def download(root: Path) -> Path:
    """Fetch the whole set into root/tiny-imagenet, once: 248 MB, its MD5 checked, then unpacked.

    A download that stalls or breaks off is kept and goes on from there at the next call. The folder
    takes its name when it is whole. Raises DataError without network, for a file that is not the
    published one, and for an archive that would write outside its folder.
    """
    folder = root / "tiny-imagenet"
    if folder.is_dir():
        return folder
    archive = fetch.file(URL, root / "tiny-imagenet-200.zip", size=BYTES, md5=MD5)
    with made(folder, root / ".tiny-imagenet.partial") as partial:
        unpacked = unpack(archive, partial)
        for split, classes in look(unpacked).checked().items():
            count = sum(map(len, classes.values()))
            if count != IMAGES[split] or len(classes) != TINY_CLASSES:
                raise DataError(
                    f"{archive} holds {count:,} {split} images of {len(classes)} classes, not "
                    f"{IMAGES[split]:,} of {TINY_CLASSES}: it is not the published set"
                )
        unpacked.rename(folder)
    archive.unlink(missing_ok=True)
    return folder


def unpack(archive: Path, folder: Path) -> Path:
    """Everything into `folder`; the archive's one top folder in it.

    Raises DataError for a damaged archive, and, before anything is written, for a member whose path
    leads elsewhere.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or "\\" in name:
                    raise DataError(f"{archive} is refused: {name!r} leads out of its folder")
                if len(path.parts) < 2 and not name.endswith("/"):
                    raise DataError(f"{archive} is refused: {name!r} lies in no folder")
            tops = {PurePosixPath(name).parts[0] for name in packed.namelist()}
            if len(tops) != 1:
                raise DataError(f"{archive} is refused: one top folder is needed, it has {len(tops)}")
            packed.extractall(folder)  # checks each member's CRC
        return folder / tops.pop()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive} is damaged ({error})") from None


def _words(folder: Path, problems: list[str]) -> dict[str, str]:
    """WordNet id -> all of its names, as words.txt has them."""
    lines = (line.partition("\t") for line in _lines(folder / NAMES, problems))
    return {wnid: names.strip() for wnid, _, names in lines}


def _images(folder: Path, ignored: list[Path], problems: list[str]) -> list[Path]:
    inside = _entries(folder, ignored, problems)
    ignored += [path for path in inside if not folders.is_image(path)]
    return list(filter(folders.is_image, inside))


def _entries(folder: Path, ignored: list[Path], problems: list[str]) -> list[Path]:
    try:
        return folders.entries(folder, ignored)
    except OSError as error:
        problems.append(f"{folder} cannot be read ({error.strerror})")
        return []


def _lines(path: Path, problems: list[str]) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        problems.append(f"{path} cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        problems.append(f"{path} is not text")
    return []
