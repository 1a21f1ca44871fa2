"""What a folder of images holds, looked at whole before a long run: `resnetlab data check`."""

from __future__ import annotations

import functools
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from resnetlab.config import UsageError
from resnetlab.images import folders, tiny_imagenet
from resnetlab.images.feeds import digest_of
from resnetlab.images.pixels import CHECK, DataError, decode, in_threads, reading

Range = dict[str, float]  # least, median, greatest
Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]


def _range(numbers: Sequence[int]) -> Range:
    """The least, the median and the greatest of some numbers; all 0 if there are none."""
    numbers = numbers or [0]
    middle = statistics.median(numbers)
    return {"least": min(numbers), "median": middle, "greatest": max(numbers)}


@dataclass
class SplitCensus:
    """One of train/ and test/ (or val/). Files go by their name below the data folder."""

    folder: str
    classes: list[str]
    images: int
    bytes: int
    per_class: Range
    width: Range
    height: Range
    kinds: dict[str, int]  # "JPEG RGB" -> how many
    upright: int  # how many are turned upright because their metadata say so
    damaged: dict[str, str]  # file -> what is wrong with it
    ignored: list[str]  # neither images nor folders of a class


@dataclass
class Census:
    """`problems` would stop or spoil a run; `notes` one should know."""

    path: str
    headers_only: bool
    splits: dict[str, SplitCensus] = field(default_factory=dict)
    duplicates: dict[str, str] = field(default_factory=dict)  # training file -> the same as test file
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)  # what lies beside the splits and is not read


class _Facts(NamedTuple):
    """What is known about one file."""

    length: int = 0  # bytes
    kind: str = ""
    width: int = 0
    height: int = 0
    turned: bool = False
    digest: bytes = b""
    error: str = ""


def _facts(path: Path, headers_only: bool) -> _Facts:
    """Reads the header and, unless in a hurry, decodes all of it."""
    from PIL import ExifTags, Image

    try:
        if not path.is_file():  # a pipe would never end
            raise DataError("is no regular file")
        with reading(path), Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
            facts = _Facts(path.stat().st_size, f"{image.format} {image.mode}", *image.size, turned)
        if headers_only:
            return facts
        decode(path)
        return facts._replace(digest=digest_of(path.read_bytes()))
    except DataError as error:
        return _Facts(error=str(error).removeprefix(f"{path} ").removesuffix(CHECK))


def inspect(
    path: Path,
    *,
    classes: int | None = None,
    headers_only: bool = False,
    tiny: bool | None = None,
    progress: Progress = lambda items, what, total: items,
) -> Census:
    """Look at every file of train/ and test/ (or val/) of `path`; nothing that is wrong is raised.

    `tiny` says that it should be laid out as Tiny ImageNet (None: if it has wnids.txt). In that set,
    as it is distributed, some images stand in both splits: a note, which elsewhere is a problem.

    Every image is decoded whole, or, `headers_only`, only opened: then damage and files that stand in
    both splits stay undetected. `classes` is how many there should be. `progress(items, what, total)`
    passes the items on. Raises UsageError if there is no such folder.
    """
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}")
    census = Census(str(path), headers_only)
    is_tiny = (path / tiny_imagenet.CLASSES).is_file() if tiny is None else tiny
    layout = tiny_imagenet.look(path) if is_tiny else folders.look(path)
    census.problems += layout.problems
    left_out = layout.left_out(path)
    read = ("train/", f"{layout.test_folder}/")
    census.beside += [name for name in left_out if not name.startswith(read)]
    tested: dict[bytes, str] = {}  # content -> name
    for split, folder in (("test", layout.test_folder), ("train", "train")):
        if not (path / folder).is_dir():
            continue
        groups = list(layout.images[split].values())
        files = [file for group in groups for file in group]
        looked = in_threads(functools.partial(_facts, headers_only=headers_only), files)
        names = [file.relative_to(path).as_posix() for file in files]
        facts = dict(zip(names, progress(looked, folder, len(files)), strict=True))
        for name, fact in facts.items():
            if split == "test" and fact.digest:
                tested[fact.digest] = name
            elif fact.digest in tested:
                census.duplicates[name] = tested[fact.digest]
        whole = [fact for fact in facts.values() if not fact.error]
        census.splits[split] = SplitCensus(
            folder=folder,
            classes=list(layout.images[split]),
            images=len(files),
            bytes=sum(fact.length for fact in whole),
            per_class=_range(list(map(len, groups))),
            width=_range([fact.width for fact in whole]),
            height=_range([fact.height for fact in whole]),
            kinds=dict(Counter(fact.kind for fact in whole).most_common()),
            upright=sum(fact.turned for fact in whole),
            damaged={name: fact.error for name, fact in facts.items() if fact.error},
            ignored=[name for name in left_out if name.startswith(f"{folder}/")],
        )
    _compare(census, classes, duplicates_are_known=is_tiny)
    return census


def _compare(census: Census, classes: int | None, *, duplicates_are_known: bool) -> None:
    """Problems and notes about both splits together."""
    splits = census.splits
    for split in splits.values():
        if split.damaged:
            every = "; ".join(f"{name} {why}" for name, why in split.damaged.items())
            census.problems.append(f"{len(split.damaged)} damaged file(s): {every}")
    if classes is not None and "train" in splits and len(splits["train"].classes) != classes:
        census.problems.append(
            f"ImageNet has {classes} classes, this folder has {len(splits['train'].classes)}: "
            f"use it as folder:{census.path}"
        )
    if census.duplicates:
        named = folders.named([f"{name} = {tested}" for name, tested in census.duplicates.items()])
        both = f"{len(census.duplicates)} training file(s) are test files too"
        if duplicates_are_known:
            census.notes.append(f"{both}: they stay in, as the set is distributed ({named})")
        else:
            census.problems.append(f"{both}, so that the test error would be too good: {named}")
    odd = [name for split in splits.values() for name in split.ignored]
    litter = [name for name in odd if folders.is_litter(PurePath(name).name)]
    odd = [name for name in odd if name not in litter]
    for names, sentences in ((odd, census.problems), (litter + census.beside, census.notes)):
        if names:
            said = f"{len(names)} file(s) or folder(s) are not read: {folders.named(names)}"
            sentences.append(said)
    if "test" in census.beside:
        census.notes.append("test/ has no class of val/: val/ is the test set")
    for split in splits.values():
        if split.upright:
            census.notes.append(
                f"{split.upright} images of {split.folder}/ are turned upright, as their metadata ask"
            )
    if census.headers_only:
        census.notes.append(
            "only headers were read: damaged files and test files among the training files would not "
            "have been noticed"
        )
