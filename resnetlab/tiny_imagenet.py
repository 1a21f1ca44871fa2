"""Tiny ImageNet: photographs of 200 ImageNet classes, 64x64, no registration (Stanford's CS231n).

Its layout is not that of a data folder: training images lie one level deeper, the validation images
in one folder with a list of their classes, and classes are WordNet ids whose names stand in a file.
The test split has no labels; the validation images are what is tested on, as everywhere.
"""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

from resnetlab import fetch
from resnetlab.config import TINY_CLASSES
from resnetlab.data import DataError, image_files

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
BYTES, MD5 = 248_100_043, "90528d7ca1a48142e341f4ef8d21d0de"
IMAGES = {"train": 100_000, "test": 10_000}  # of the whole set
ANNOTATIONS = "val/val_annotations.txt"
HINT = "; `resnetlab data download tiny-imagenet` fetches the whole set"


def find_images(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """ "train" and "test" -> WordNet id -> image files, sorted, as `data.find_images` gives them.

    Raises DataError, naming the file, for a folder that is not laid out so: no train/ or val/, a class
    without images, a validation image without its class in val_annotations.txt or the other way
    round, classes that differ between train/, val/ and wnids.txt.
    """
    train = {}
    for place in sorted(_entries(folder / "train")):
        if place.is_dir():
            train[place.name] = image_files(place / "images")
            if not train[place.name]:
                raise DataError(f"{place / 'images'} has no images (JPEG)")
    test: dict[str, list[Path]] = {name: [] for name in train}
    classes = validation_classes(folder)
    images = {path.name: path for path in image_files(folder / "val" / "images")}
    for name, path in images.items():
        if name not in classes:
            raise DataError(f"{path} has no class: {folder / ANNOTATIONS} does not name it")
        if classes[name] not in test:
            raise DataError(f"{path} is of class {classes[name]}, which {folder / 'train'} has not")
        test[classes[name]].append(path)
    for name in classes:
        if name not in images:
            raise DataError(f"{folder / ANNOTATIONS} names {name}, which val/images has not")
    for name, paths in test.items():
        if not paths:
            raise DataError(f"{folder / 'val'} has no image of class {name}, which train/ has")
    listed = _lines(folder / "wnids.txt")
    if sorted(listed) != sorted(train):
        odd = sorted(set(listed) ^ set(train)) or [n for n, c in Counter(listed).items() if c > 1]
        raise DataError(
            f"{folder / 'wnids.txt'} and train/ have different classes: {', '.join(odd[:5])}"
        )
    if len(train) < 2:
        raise DataError(f"{folder / 'train'} has {len(train)} classes; at least two are needed")
    return {"train": train, "test": test}


def validation_classes(folder: Path) -> dict[str, str]:
    """Name of a validation image -> its WordNet id. DataError for a line that is no annotation."""
    found: dict[str, str] = {}
    for number, line in enumerate(_lines(folder / ANNOTATIONS), 1):
        name, *rest = line.split("\t")
        if not rest:
            raise DataError(f"{folder / ANNOTATIONS}, line {number}: a file and its class are needed")
        if name in found:
            raise DataError(f"{folder / ANNOTATIONS}, line {number}: {name} stands there twice")
        found[name] = rest[0].strip()
    return found


def class_names(folder: Path, classes: list[str]) -> list[str]:
    """The name in words.txt of each WordNet id: its first word, or, where two share it, all of them.

    Raises DataError for an id that words.txt has not.
    """
    words: dict[str, str] = {}
    for line in _lines(folder / "words.txt"):
        wnid, tab, names = line.partition("\t")
        if tab:
            words[wnid] = names.strip()
    missing = [wnid for wnid in classes if not words.get(wnid)]
    if missing:
        raise DataError(f"{folder / 'words.txt'} has no name for {', '.join(missing[:5])}")
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
    partial = root / ".tiny-imagenet.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        unpack(archive, partial)
        found = find_images(partial)
        for split, images in IMAGES.items():
            there = sum(map(len, found[split].values()))
            if there != images or len(found[split]) != TINY_CLASSES:
                raise DataError(
                    f"{archive} holds {there:,} {split} images of {len(found[split])} classes, not "
                    f"{images:,} of {TINY_CLASSES}: it is not the published set"
                )
        partial.rename(folder)
    except OSError as error:
        raise DataError(f"{folder} could not be made ({error.strerror or error})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    archive.unlink(missing_ok=True)
    return folder


def unpack(archive: Path, folder: Path) -> None:
    """The content of the archive's one top folder into `folder`.

    Raises DataError for a damaged archive, and, before anything is written, for a member whose path
    leads elsewhere.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [member for member in packed.infolist() if not member.is_dir()]
            for member in members:
                path = PurePosixPath(member.filename)
                if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
                    raise DataError(
                        f"{archive} is refused: {member.filename!r} leads out of its folder"
                    )
                if len(path.parts) < 2:
                    raise DataError(f"{archive} is refused: {member.filename!r} lies in no folder")
            made: set[Path] = set()
            for member in members:
                target = folder.joinpath(*PurePosixPath(member.filename).parts[1:])
                if target.parent not in made:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    made.add(target.parent)
                with packed.open(member) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out)  # checks each member's CRC at its end
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive} is damaged ({error})") from None


def _entries(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}){HINT}") from None


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}){HINT}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text") from None
    return [line for line in text.splitlines() if line.strip()]
