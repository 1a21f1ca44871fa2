"""What a folder of images holds, looked at whole before a long run: `resnetlab data check`."""

from __future__ import annotations

import hashlib
import os
import statistics
import warnings
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from resnetlab import machine
from resnetlab.config import UsageError
from resnetlab.images import tiny_imagenet
from resnetlab.images.datasets import IMAGE_SUFFIXES, DataError
from resnetlab.images.pixels import CHECK, decode
from resnetlab.images.workers import in_order

SHOWN = 5  # names of files that a sentence gives; the JSON has all
TOGETHER = 32  # files that a worker looks at between two answers

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]


@dataclass
class Range:
    """The least, the median and the greatest of some numbers; all 0 if there are none."""

    least: int
    median: float
    greatest: int

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Range:
        if not numbers:
            return cls(0, 0, 0)
        return cls(min(numbers), statistics.median(numbers), max(numbers))


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

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class _Facts(NamedTuple):
    """What a worker found out about one file."""

    name: str
    length: int = 0  # bytes
    kind: str = ""
    width: int = 0
    height: int = 0
    turned: bool = False
    digest: bytes = b""
    error: str = ""


class _Looker:
    """What a worker does: reads the header of each file and, unless in a hurry, decodes all of it."""

    def __init__(self, folder: Path, headers_only: bool) -> None:
        self.folder, self.headers_only = folder, headers_only

    def __call__(self, names: list[str]) -> list[_Facts]:
        return [self._look(name) for name in names]

    def _look(self, name: str) -> _Facts:
        from PIL import ExifTags, Image

        path = self.folder / name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about metadata
                with Image.open(path) as image:
                    kind = f"{image.format} {image.mode}"
                    width, height = image.size
                    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
            facts = _Facts(name, path.stat().st_size, kind, width, height, turned)
            if self.headers_only:
                return facts
            decode(path)
            return facts._replace(digest=hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
        except DataError as error:
            return _Facts(name, error=str(error).removeprefix(f"{path} ").removesuffix(CHECK))
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises a dozen kinds for damaged files
            reason = error.strerror if isinstance(error, OSError) else None
            said = f"cannot be read ({reason})" if reason else f"is damaged or no image ({error})"
            return _Facts(name, error=said)


def _no_progress(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    return items


def inspect(
    path: Path,
    *,
    classes: int | None = None,
    headers_only: bool = False,
    tiny: bool | None = None,
    workers: int | None = None,
    progress: Progress = _no_progress,
) -> Census:
    """Look at every file of train/ and test/ (or val/) of `path`; nothing that is wrong is raised.

    `tiny` says that it should be laid out as Tiny ImageNet (None: if it has wnids.txt). In that set,
    as it is distributed, some images stand in both splits: a note, which elsewhere is a problem.

    Every image is decoded whole, by `workers` processes (None: one per core), or, `headers_only`, only
    opened: then damage and files that stand in both splits stay undetected. `classes` is how many
    there should be. `progress(items, what, total)` passes the items on. Raises UsageError if there is
    no such folder.
    """
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}")
    census = Census(str(path), headers_only)
    is_tiny = tiny_imagenet.is_laid_out(path) if tiny is None else tiny
    layout = tiny_imagenet.look(path) if is_tiny else None
    census.problems += layout.problems if layout is not None else []
    count = machine.usable_cores() if workers is None else workers
    tested: dict[bytes, str] = {}  # content -> name
    folders = _split_folders(path, census) if layout is None else {"test": "val", "train": "train"}
    for split, folder in folders.items():
        found = dict(_walk(path, folder) if layout is None else _of_tiny(path, split, layout))
        ignored = found.pop("", [])
        names = [name for group in found.values() for name in group]
        tasks = [names[i : i + TOGETHER] for i in range(0, len(names), TOGETHER)]
        looked = in_order(_Looker(path, headers_only), tasks, count)
        facts = (fact for several in looked for fact in several)
        widths, heights, kinds = array("L"), array("L"), Counter[str]()
        damaged: dict[str, str] = {}
        size = turned = 0
        for fact in progress(facts, folder, len(names)):
            if fact.error:
                damaged[fact.name] = fact.error
                continue
            widths.append(fact.width)
            heights.append(fact.height)
            kinds[fact.kind] += 1
            size, turned = size + fact.length, turned + fact.turned
            if split == "test" and fact.digest:
                tested[fact.digest] = fact.name
            elif fact.digest in tested:
                census.duplicates[fact.name] = tested[fact.digest]
        census.splits[split] = SplitCensus(
            folder=folder,
            classes=list(found),
            images=len(names),
            bytes=size,
            per_class=Range.of([len(group) for group in found.values()]),
            width=Range.of(widths),
            height=Range.of(heights),
            kinds=dict(kinds.most_common()),
            upright=turned,
            damaged=damaged,
            ignored=ignored,
        )
        if layout is None:
            census.problems += _problems_of(census.splits[split], found)
        census.problems += _damage_of(census.splits[split])
    _compare(census, classes, duplicates_are_known=layout is not None)
    return census


def _split_folders(path: Path, census: Census) -> dict[str, str]:
    """Split -> its folder, the test images first; what is missing or too much becomes a problem."""
    there = [name for name in ("test", "val", "train") if (path / name).is_dir()]
    if "train" not in there:
        census.problems.append("there is no train/ with a folder for each class")
    held = [name for name in there if name != "train"]
    if not held:
        census.problems.append("there is neither test/ nor val/ with a folder for each class")
    if len(held) == 2:
        census.problems.append("there are both test/ and val/; only one can be the test set")
    return {("train" if name == "train" else "test"): name for name in (*held[:1], *there[-1:])}


def _walk(path: Path, folder: str) -> Iterator[tuple[str, list[str]]]:
    """Class -> names of its image files below `path`, sorted; "" -> what is ignored."""
    ignored = []
    for entry in sorted(os.scandir(path / folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            ignored.append(f"{folder}/{entry.name}")
            continue
        inside = sorted(name for name in os.listdir(entry) if not name.startswith("."))
        images = [name for name in inside if name.lower().endswith(IMAGE_SUFFIXES)]
        ignored += [f"{folder}/{entry.name}/{name}" for name in sorted({*inside} - {*images})]
        yield entry.name, [f"{folder}/{entry.name}/{name}" for name in images]
    yield "", ignored


def _of_tiny(path: Path, split: str, layout: tiny_imagenet.Layout) -> Iterator[tuple[str, list[str]]]:
    """Class -> names of its image files below `path`; "" -> what is ignored, as `_walk` gives them."""
    for wnid, files in layout.images[split].items():
        yield wnid, [file.relative_to(path).as_posix() for file in files]
    below = {"train": "train", "test": "val"}[split]
    ignored = (file.relative_to(path).as_posix() for file in layout.ignored)
    yield "", [name for name in ignored if name.startswith(f"{below}/")]


def _named(names: Iterable[str], total: int) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(list(names)[:SHOWN])
    return f"{shown} and {total - SHOWN} more" if total > SHOWN else shown


def _problems_of(split: SplitCensus, found: dict[str, list[str]]) -> list[str]:
    problems = []
    if len(split.classes) < 2:
        problems.append(f"{split.folder}/ has {len(split.classes)} classes; at least two are needed")
    empty = [f"{split.folder}/{name}" for name, group in found.items() if not group]
    if empty:
        problems.append(
            f"{len(empty)} class(es) without an image (jpg, png): {_named(empty, len(empty))}"
        )
    return problems


def _damage_of(split: SplitCensus) -> list[str]:
    if not split.damaged:
        return []
    every = "; ".join(f"{name} {why}" for name, why in split.damaged.items())
    return [f"{len(split.damaged)} damaged file(s): {every}"]


def _compare(census: Census, classes: int | None, *, duplicates_are_known: bool) -> None:
    """Problems and notes about both splits together."""
    splits = census.splits
    if {"train", "test"} <= set(splits):
        train, test = (set(splits[name].classes) for name in ("train", "test"))
        for more, less, odd in (("train", "test", train - test), ("test", "train", test - train)):
            if odd:
                census.problems.append(
                    f"{len(odd)} class(es) of {splits[more].folder}/ not in {splits[less].folder}/: "
                    f"{_named(sorted(odd), len(odd))}"
                )
    if classes is not None and "train" in splits and len(splits["train"].classes) != classes:
        census.problems.append(
            f"ImageNet has {classes} classes, this folder has {len(splits['train'].classes)}: "
            f"use it as folder:{census.path}"
        )
    if census.duplicates:
        pairs = [f"{ours} = {theirs}" for ours, theirs in list(census.duplicates.items())[:SHOWN]]
        said = f"{len(census.duplicates)} training file(s) are test files too"
        named = _named(pairs, len(census.duplicates))
        if duplicates_are_known:
            census.notes.append(f"{said}: they stay in, as the set is distributed ({named})")
        else:
            census.problems.append(f"{said}, so that the test error would be too good: {named}")
    for split in splits.values():
        if split.ignored:
            names = _named(split.ignored, len(split.ignored))
            census.notes.append(f"{len(split.ignored)} file(s) or folder(s) are not read: {names}")
        if split.upright:
            census.notes.append(
                f"{split.upright} images of {split.folder}/ are turned upright, as their metadata ask"
            )
    if census.headers_only:
        census.notes.append(
            "only headers were read: damaged files and test files among the training files would not "
            "have been noticed"
        )
