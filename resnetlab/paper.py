"""What He, Zhang, Ren and Sun (2015) report, as records: value, unit, protocol, table or figure.

Errors are in percent. These are the paper's numbers only; ours come from runs, never from here.
Our names stand for networks throughout: resnet-34 is option A, resnet-50, 101 and 152 are option B.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

TITLE = "Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, 2015)"

Quantity = Literal[
    "train_error",
    "test_error",
    "top1_error",
    "top5_error",
    "parameters",
    "multiply_adds",
    "response_std",
]
Protocol = Literal["single", "ten-crop", "multi-scale", "ensemble", "own", "counted"]


@dataclass(frozen=True)
class Views:
    """How photographs are tested: the shorter sides they are resized to, the square cut out of them."""

    protocol: Protocol
    words: str  # in a table
    crop: int  # pixels a side; of multi-scale the training's, as its images stay whole
    sides: tuple[int, ...]
    source: str

    def at(self, crop: int) -> list[int]:
        """The shorter sides for a network trained at another crop: in proportion."""
        return [round(side * crop / self.crop) for side in self.sides]


VIEWS: dict[str, Views] = {
    views.protocol: views
    for views in (
        Views("single", "single view", 224, (256,), "Figure 4"),
        Views("ten-crop", "10-crop", 224, (256,), "Sec. 3.4"),
        Views("multi-scale", "multi-scale", 224, (224, 256, 384, 480, 640), "Sec. 3.4"),
    )
}
DATA_OF = {"cifar": "cifar10", "imagenet": "imagenet"}  # a network's design -> what it was trained on

# How a number was had, in words for captions and tables.
HOW: dict[tuple[str, Protocol], str] = {
    ("cifar10", "single"): "CIFAR-10, 64,000 steps, single view",
    ("cifar10", "own"): "CIFAR-10, as its authors trained and tested it",
    ("cifar10", "counted"): "3x32x32 images",
    ("imagenet", "single"): "ImageNet, single centre view",
    ("imagenet", "ten-crop"): "ImageNet validation, 10-crop",
    ("imagenet", "multi-scale"): (
        "ImageNet validation, fully convolutional at shorter sides "
        f"{', '.join(map(str, VIEWS['multi-scale'].sides))}, averaged"
    ),
    ("imagenet", "own"): "ImageNet validation, single model, as its authors tested it",
    ("imagenet", "ensemble"): "ImageNet test, six models, multi-scale",
    ("imagenet", "counted"): "3x224x224 images",
}


@dataclass(frozen=True)
class Reported:
    """One number of the paper.

    Where the paper repeated a run, `value` and `spread` are its mean and +-, and `best` is the number
    that the table leads with. One network has several errors: each belongs to its `protocol`.
    """

    network: str
    quantity: Quantity
    value: float
    data: str  # cifar10 or imagenet
    protocol: Protocol
    source: str
    spread: float | None = None
    best: float | None = None
    note: str = ""

    @property
    def how(self) -> str:
        """Data, schedule and views in words: what a number of ours must share to be compared."""
        return ", ".join(filter(None, (HOW[self.data, self.protocol], self.note)))


# --- ImageNet ---------------------------------------------------------------------------------

# Table 1 has one column a depth, which Sec. 4.1 uses for the plain and the residual network.
TABLE_1: tuple[Reported, ...] = tuple(
    Reported(network, "multiply_adds", value, "imagenet", "counted", "Table 1")
    for network, value in (
        ("plain-18", 1.8e9),
        ("resnet-18", 1.8e9),
        ("plain-34", 3.6e9),
        ("resnet-34", 3.6e9),
        ("resnet-50", 3.8e9),
        ("resnet-101", 7.6e9),
        ("resnet-152", 11.3e9),
    )
)


def _errors(
    network: str, top1: float | None, top5: float | None, protocol: Protocol, source: str
) -> Iterator[Reported]:
    errors: dict[Quantity, float | None] = {"top1_error": top1, "top5_error": top5}
    for quantity, value in errors.items():
        if value is not None:
            yield Reported(network, quantity, value, "imagenet", protocol, source)


TABLE_2: tuple[Reported, ...] = (
    *_errors("plain-18", 27.94, None, "ten-crop", "Table 2"),
    *_errors("resnet-18", 27.88, None, "ten-crop", "Table 2"),
    *_errors("plain-34", 28.54, None, "ten-crop", "Table 2"),
    *_errors("resnet-34", 25.03, None, "ten-crop", "Table 2"),
)

TABLE_3: tuple[Reported, ...] = (
    *_errors("VGG-16", 28.07, 9.33, "ten-crop", "Table 3"),
    *_errors("GoogLeNet", None, 9.15, "ten-crop", "Table 3"),
    *_errors("PReLU-net", 24.27, 7.38, "ten-crop", "Table 3"),
    *_errors("plain-34", 28.54, 10.02, "ten-crop", "Table 3"),
    *_errors("resnet-34", 25.03, 7.76, "ten-crop", "Table 3"),
    *_errors("resnet-34-B", 24.52, 7.46, "ten-crop", "Table 3"),
    *_errors("resnet-34-C", 24.19, 7.40, "ten-crop", "Table 3"),
    *_errors("resnet-50", 22.85, 6.71, "ten-crop", "Table 3"),
    *_errors("resnet-101", 21.75, 6.05, "ten-crop", "Table 3"),
    *_errors("resnet-152", 21.43, 5.71, "ten-crop", "Table 3"),
)

TABLE_4: tuple[Reported, ...] = (
    *_errors("VGG v5", 24.4, 7.1, "own", "Table 4"),
    *_errors("PReLU-net", 21.59, 5.71, "own", "Table 4"),
    *_errors("BN-inception", 21.99, 5.81, "own", "Table 4"),
    *_errors("resnet-34-B", 21.84, 5.71, "multi-scale", "Table 4"),
    *_errors("resnet-34-C", 21.53, 5.60, "multi-scale", "Table 4"),
    *_errors("resnet-50", 20.74, 5.25, "multi-scale", "Table 4"),
    *_errors("resnet-101", 19.87, 4.60, "multi-scale", "Table 4"),
    *_errors("resnet-152", 19.38, 4.49, "multi-scale", "Table 4"),
)

TABLE_5: tuple[Reported, ...] = (*_errors("ensemble of six", None, 3.57, "ensemble", "Table 5"),)


def _ends(
    curves: dict[str, tuple[float, float]], data: str, tested: Quantity, source: str, after: str = ""
) -> Iterator[Reported]:
    """Of curves at their end, (training, test) error, the two records each."""
    note = ", ".join(filter(None, (after, "mean of the last three points of the curve")))
    for network, (train, test) in curves.items():
        yield Reported(network, "train_error", train, data, "single", source, note=note)
        yield Reported(network, tested, test, data, "single", source, note=note)


# Figure 4 at the end: (train, validation). "The validation error of the center crops".
_FIGURE_4_ENDS = {
    "plain-18": (31.2, 31.4),
    "plain-34": (32.4, 32.4),
    "resnet-18": (30.1, 31.1),
    "resnet-34": (24.6, 28.3),
}

FIGURE_4 = tuple(_ends(_FIGURE_4_ENDS, "imagenet", "top1_error", "Figure 4", "550,000 steps"))


# When the paper's own errors ended the warm-up of 110 layers ("about 400 iterations", Sec. 4.2) and let
# the rate fall on ImageNet: Figure 4 drops at 15.0-15.5 and 30.0-30.5 x 10^4, of 60 x 10^4 at most.
WARM_UNTIL = 400
FIGURE_4_DROPS = (150_000, 300_000)
FIGURE_4_STEPS = 600_000


# --- CIFAR-10 ---------------------------------------------------------------------------------

# Figure 6, left and middle, at the end of training: (train, test).
_FIGURE_6_ENDS = {
    "plain-20": (1.4, 9.7),
    "plain-32": (1.1, 10.1),
    "plain-44": (2.9, 11.4),
    "plain-56": (5.8, 13.2),
    "resnet-20": (0.67, 8.82),
    "resnet-32": (0.25, 7.51),
    "resnet-44": (0.18, 7.15),
    "resnet-56": (0.09, 7.04),
    "resnet-110": (0.05, 6.56),
    "resnet-1202": (0.09, 7.86),
}

FIGURE_6: tuple[Reported, ...] = tuple(_ends(_FIGURE_6_ENDS, "cifar10", "test_error", "Figure 6"))

_FIVE = "mean of 5 runs"

# Table 6 leads with the best of five runs for 110 layers and for the highway network.
TABLE_6: tuple[Reported, ...] = (
    Reported("resnet-20", "test_error", 8.75, "cifar10", "single", "Table 6"),
    Reported("resnet-32", "test_error", 7.51, "cifar10", "single", "Table 6"),
    Reported("resnet-44", "test_error", 7.17, "cifar10", "single", "Table 6"),
    Reported("resnet-56", "test_error", 6.97, "cifar10", "single", "Table 6"),
    Reported("resnet-110", "test_error", 6.61, "cifar10", "single", "Table 6", 0.16, 6.43, _FIVE),
    Reported("resnet-1202", "test_error", 7.93, "cifar10", "single", "Table 6"),
)

# Not trained by this paper.
TABLE_6_OTHERS: tuple[Reported, ...] = (
    Reported("Maxout", "test_error", 9.38, "cifar10", "own", "Table 6"),
    Reported("NIN", "test_error", 8.81, "cifar10", "own", "Table 6"),
    Reported("DSN", "test_error", 8.22, "cifar10", "own", "Table 6"),
    Reported("FitNet", "test_error", 8.39, "cifar10", "own", "Table 6"),
    Reported("Highway", "test_error", 7.72, "cifar10", "own", "Table 6", 0.16, 7.54, _FIVE),
)

_SIZES = {20: 0.27e6, 32: 0.46e6, 44: 0.66e6, 56: 0.85e6, 110: 1.7e6, 1202: 19.4e6}

# Sec. 4.2: the residual networks have "exactly the same depth, width, and number of parameters as the
# plain counterparts", of which the paper has those up to 110 layers.
_EQUAL = "the residual network's (Sec. 4.2)"
TABLE_6_PARAMETERS: tuple[Reported, ...] = tuple(
    Reported(f"{family}-{depth}", "parameters", value, "cifar10", "counted", "Table 6", note=note)
    for family, note in (("resnet", ""), ("plain", _EQUAL))
    for depth, value in _SIZES.items()
    if family == "resnet" or depth <= 110
)

_RESPONSES = "mean over the 6n+1 layers of the response after batch norm, before ReLU or addition"

FIGURE_7: tuple[Reported, ...] = tuple(
    Reported(network, "response_std", value, "cifar10", "single", "Figure 7", note=_RESPONSES)
    for network, value in (
        ("plain-20", 1.82),
        ("plain-56", 1.51),
        ("resnet-20", 1.62),
        ("resnet-56", 1.13),
        ("resnet-110", 0.98),
    )
)

# Where a number stands both in a table and in a figure, the table comes first.
_OF_TABLES = TABLE_1 + TABLE_3 + TABLE_2 + TABLE_4 + TABLE_5 + TABLE_6 + TABLE_6_OTHERS
RECORDS: tuple[Reported, ...] = _OF_TABLES + TABLE_6_PARAMETERS + FIGURE_4 + FIGURE_6 + FIGURE_7


def reported(
    network: str, quantity: str, *, protocol: str = "single", data: str | None = None
) -> Reported | None:
    """The paper's value of that quantity for that network, by that test protocol.

    Without more words the final value in a single view; of CIFAR-10 networks that of Table 6 where it
    has one, else of Figure 6. `quantity` is one of Quantity, `protocol` one of Protocol (counts are
    "counted"), `data` cifar10 or imagenet; None: the one for which the paper built that network. A test
    error is a top-1 error: either word finds both. None if the paper does not say.
    """
    same = ("test_error", "top1_error")
    quantities = same if quantity in same else (quantity,)
    for record in RECORDS:
        same_network = (record.network, record.protocol) == (network, protocol)
        if same_network and data in (None, record.data) and record.quantity in quantities:
            return record
    return None


# --- curves -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """One line of a figure, read from the vector paths of the paper's own figures."""

    network: str
    quantity: str  # train_error or test_error: percent against steps; response: against layers
    data: str  # cifar10 or imagenet
    source: str
    x: tuple[float, ...]  # steps; for responses the layer, 1 the first convolution
    y: tuple[float, ...]


@cache
def curves() -> tuple[Curve, ...]:
    """The lines of Figures 4, 6 and 7 as numbers (`figure_points.csv`, beside this file).

    Figures 1 and 6 show plain-20 and -56 twice: 6 is kept; of 110 layers the middle panel. Responses
    stand in the order of layers: the sorted ones hide points.
    """
    points: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    with (files(__package__) / "figure_points.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            line = row["network"], row["quantity"], row["data"], row["figure"]
            points.setdefault(line, []).append((int(row["x"]), float(row["y"])))
    return tuple(Curve(*line, *zip(*pairs, strict=True)) for line, pairs in points.items())


def curve(network: str, quantity: str) -> Curve | None:
    """That network's line in Figure 4, 6 or 7; None where the paper draws none."""
    return next((c for c in curves() if (c.network, c.quantity) == (network, quantity)), None)
