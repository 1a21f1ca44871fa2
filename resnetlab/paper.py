"""What He, Zhang, Ren and Sun (2015) report, as records: value, unit, protocol, table or figure.

Errors are in percent. These are the paper's numbers only; ours come from runs, never from here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TITLE = "Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, 2015)"


@dataclass(frozen=True)
class Reported:
    """One number of the paper. `spread` is the paper's own +-, where it gives one."""

    network: str
    quantity: str  # train_error or test_error
    value: float
    data: str
    protocol: str
    source: str
    spread: float | None = None


_FIGURE_6 = "single view, mean of the last three points of the curve, 64,000 steps"
_TABLE_6 = "single view, 64,000 steps"

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

FIGURE_6: tuple[Reported, ...] = tuple(
    Reported(network, quantity, value, "cifar10", _FIGURE_6, "Figure 6")
    for network, ends in _FIGURE_6_ENDS.items()
    for quantity, value in zip(("train_error", "test_error"), ends, strict=True)
)

# Table 6: 110 is the best of five runs, 6.61 +- 0.16 over them.
TABLE_6: tuple[Reported, ...] = (
    Reported("resnet-20", "test_error", 8.75, "cifar10", _TABLE_6, "Table 6"),
    Reported("resnet-32", "test_error", 7.51, "cifar10", _TABLE_6, "Table 6"),
    Reported("resnet-44", "test_error", 7.17, "cifar10", _TABLE_6, "Table 6"),
    Reported("resnet-56", "test_error", 6.97, "cifar10", _TABLE_6, "Table 6"),
    Reported("resnet-110", "test_error", 6.61, "cifar10", _TABLE_6 + ", 5 runs", "Table 6", 0.16),
    Reported("resnet-1202", "test_error", 7.93, "cifar10", _TABLE_6, "Table 6"),
)


def reported(network: str, quantity: str) -> Reported | None:
    """The paper's final CIFAR-10 value for that network: Table 6 where it has one, else Figure 6.

    `quantity` is train_error or test_error. None if the paper does not say.
    """
    for record in (*TABLE_6, *FIGURE_6):
        if record.network == network and record.quantity == quantity:
            return record
    return None


def comparable(data: str, recipe: str) -> str | None:
    """None if such a run may be set against the paper's numbers, else the reason why not."""
    if data != "cifar10":
        return f"the paper trained on CIFAR-10, these runs on {data}: only orderings compare"
    if not re.fullmatch(r"paper( \(log_every \d+\))?", recipe):  # how often one looks is no difference
        return f"the paper trained for 64,000 steps, these runs follow the {recipe} recipe"
    return None
