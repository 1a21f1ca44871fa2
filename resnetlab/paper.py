"""What He, Zhang, Ren and Sun (2015) report, as records: value, unit, protocol, table or figure.

Errors are in percent. These are the paper's numbers only; ours come from runs, never from here.
Our names stand for networks throughout: resnet-34 is option A, resnet-50, 101 and 152 are option B.
"""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

TITLE = "Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, 2015)"

Error = Literal["train_error", "test_error", "top1_error", "top5_error"]
Quantity = Literal[Error, "parameters", "multiply_adds", "response_std"]
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


_TOML = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
VIEWS = {row["protocol"]: Views(**row | {"sides": tuple(row["sides"])}) for row in _TOML["views"]}
DATA_OF = {"cifar": "cifar10", "imagenet": "imagenet"}  # a network's design -> what it was trained on

# How a number was had, in words for captions and tables: by data and protocol.
HOW: dict[tuple[str, str], str] = {
    (data, protocol): words.format(sides=", ".join(map(str, VIEWS["multi-scale"].sides)))
    for data, ways in _TOML["how"].items()
    for protocol, words in ways.items()
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


def _records() -> Iterator[Reported]:
    """The rows of the tables in `paper.toml`, which lies beside this file, in its order."""
    for table in _TOML["table"]:
        same = {key: table[key] for key in ("data", "protocol", "source", "note") if key in table}
        for network, values in table["rows"].items():
            for quantity, value in zip(table["quantities"], values, strict=True):
                number = value if isinstance(value, dict) else {"value": value}
                if not math.isnan(number["value"]):
                    yield Reported(network, quantity, **same | number)


def _printed(source: str, *protocols: Protocol) -> tuple[Reported, ...]:
    """Those of a table or figure, by all protocols if none is named."""
    records = (record for record in RECORDS if record.source == source)
    return tuple(record for record in records if record.protocol in protocols or not protocols)


RECORDS = tuple(_records())
TABLE_2, TABLE_3, TABLE_4 = _printed("Table 2"), _printed("Table 3"), _printed("Table 4")
TABLE_5 = _printed("Table 5")
TABLE_6, TABLE_6_OTHERS = _printed("Table 6", "single"), _printed("Table 6", "own")
TABLE_6_PARAMETERS = _printed("Table 6", "counted")
FIGURE_6, FIGURE_7 = _printed("Figure 6"), _printed("Figure 7")

# When the paper's own errors ended the warm-up of 110 layers ("about 400 iterations", Sec. 4.2) and let
# the rate fall on ImageNet: Figure 4 drops at 15.0-15.5 and 30.0-30.5 x 10^4, of 60 x 10^4 at most.
WARM_UNTIL = 400
FIGURE_4_DROPS = (150_000, 300_000)
FIGURE_4_STEPS = 600_000


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


def difference(worse: str, better: str, quantity: str) -> tuple[float, str] | None:
    """The first network's value minus the second's (points), and where from: `Table 6, CIFAR-10`.

    Both from one table or figure, a single view before other tests; `quantity` as in `reported`. None
    if the paper has them nowhere together.
    """
    same = ("test_error", "top1_error")
    quantities = same if quantity in same else (quantity,)
    records = [record for record in RECORDS if record.quantity in quantities]
    for one in sorted(records, key=lambda record: record.protocol != "single"):
        place = (one.source, one.protocol, one.data)
        for other in records if one.network == worse else ():
            if (other.source, other.protocol, other.data) == place and other.network == better:
                where = "CIFAR-10" if one.data == "cifar10" else "ImageNet"
                return one.value - other.value, f"{one.source}, {where}"
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
    with Path(__file__).with_name("figure_points.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            line = row["network"], row["quantity"], row["data"], row["figure"]
            points.setdefault(line, []).append((int(row["x"]), float(row["y"])))
    return tuple(Curve(*line, *zip(*pairs, strict=True)) for line, pairs in points.items())


def curve(network: str, quantity: str) -> Curve | None:
    """That network's line in Figure 4, 6 or 7; None where the paper draws none."""
    return next((c for c in curves() if (c.network, c.quantity) == (network, quantity)), None)
