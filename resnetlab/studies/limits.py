"""What a parameter of a question notebook may be: within its limits, and no name that there is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from resnetlab import config
from resnetlab.config import UsageError

# Numbers, a list's one by one -> least and greatest; what a comment calls odd must be odd besides.
LIMITS: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("seed", "seeds", "validation", "curves"), (0, float("inf"))),
    **dict.fromkeys(
        ("steps", "further", "warm_up_steps", "images", "numbers", "draws", "jobs"), (1, float("inf"))
    ),
    **dict.fromkeys(("points", "times", "slower"), (2, float("inf"))),
    "scales": (0, 1),
    "learnt": (0, 100),
    "crop": (8, float("inf")),
}
ABOVE_ZERO = ("rates", "reach", "clip")
NOT_EMPTY = ("depths", "seeds", "rates", "scales", "shortcuts")


def _depth(depth: int) -> None:
    config.Network.from_name(f"plain-{depth}")


def _depth_or_none(depth: int) -> None:
    if depth != 0:
        _depth(depth)


def _one_of(known: Iterable[str], what: str, word: str) -> None:
    if word not in known:
        raise UsageError(f"unknown {what} {word!r}{config.did_you_mean(word, known)}")


def device(word: str) -> None:
    """UsageError for what is no device's name; whether there is one, torch says."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", word):
        raise UsageError(f"device: auto, cpu, cuda or cuda:N is needed, got {word!r}")


# Names, a list's one by one -> what refuses one that there is not.
NAMES: Mapping[str, Callable[[Any], object]] = {
    "depth": _depth,
    "depths": _depth,
    "deeper": _depth,
    "train_depth": _depth_or_none,
    "warm_up_depth": _depth_or_none,
    "also": config.Network.from_name,
    "shortcuts": partial(_one_of, config.SHORTCUTS, "shortcut option"),
    "precision": partial(_one_of, config.PRECISIONS, "precision"),
    "precisions": partial(_one_of, config.PRECISIONS, "precision"),
    "recipe": config.recipe_named,
    "data": config.images_named,
    "device": device,
}


def check(name: str, value: Any, comment: str) -> None:
    """UsageError, naming the parameter, for a value that its notebook could not use.

    Where the comment begins with "only", the parameter chooses among runs: what there is, they know.
    """
    if comment.startswith("only") or value in (None, ""):
        return
    if name in NOT_EMPTY and not value:
        raise UsageError(f"{name}: at least one is needed")
    least, greatest = LIMITS.get(name, (-float("inf"), float("inf")))
    for one in value if isinstance(value, list | tuple) else (value,):
        if name in LIMITS and not least <= one <= greatest:
            wanted = f"{least:g} or more" if greatest == float("inf") else f"{least:g} to {greatest:g}"
            raise UsageError(f"{name}: should be {wanted}, got {one}")
        if name in ABOVE_ZERO and not one > 0:
            raise UsageError(f"{name}: should be above 0, got {one}")
        if re.search(r"\bodd\b", comment) and one % 2 == 0:
            raise UsageError(f"{name}: should be odd, got {one}")
        if name in NAMES:
            NAMES[name](one)
    if name == "data" and "small images" in comment and config.images_named(value).large:
        raise UsageError(f"data: should be {comment}, got {value!r}")
