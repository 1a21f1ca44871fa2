"""The paper's numbers, against a second copy typed from the paper."""

from __future__ import annotations

import pytest

from resnetlab import paper
from resnetlab.config import PAPER, Network
from resnetlab.paper import comparable, reported

# He et al. 2015, Table 6, test error on CIFAR-10. For 110 layers the table prints the best of five
# runs, 6.43, and their mean and deviation, 6.61 +- 0.16; a mean is what is compared with means here.
TABLE_6 = {20: 8.75, 32: 7.51, 44: 7.17, 56: 6.97, 110: 6.61, 1202: 7.93}

# The ends of the curves of Figure 6, left and middle: train, test.
FIGURE_6 = {
    "plain-20": (1.4, 9.7),
    "plain-32": (1.1, 10.1),
    "plain-44": (2.9, 11.4),
    "plain-56": (5.8, 13.2),
    "resnet-20": (0.67, 8.82),
    "resnet-32": (0.25, 7.51),
    "resnet-44": (0.18, 7.15),
    "resnet-56": (0.09, 7.04),
    "resnet-110": (0.05, 6.56),
}


@pytest.mark.parametrize("depth", TABLE_6)
def test_table_6(depth: int) -> None:
    record = reported(f"resnet-{depth}", "test_error")
    assert record is not None
    assert (record.value, record.source, record.data) == (TABLE_6[depth], "Table 6", "cifar10")
    assert record.spread == (0.16 if depth == 110 else None)


@pytest.mark.parametrize("network", FIGURE_6)
def test_figure_6(network: str) -> None:
    train = reported(network, "train_error")
    assert train is not None
    assert (train.value, train.source) == (FIGURE_6[network][0], "Figure 6")
    test = next(r for r in paper.FIGURE_6 if (r.network, r.quantity) == (network, "test_error"))
    assert test.value == FIGURE_6[network][1]


def test_the_figure_and_the_table_agree_within_reading_error() -> None:
    for depth, value in TABLE_6.items():
        curve = [
            r for r in paper.FIGURE_6 if (r.network, r.quantity) == (f"resnet-{depth}", "test_error")
        ]
        assert abs(curve[0].value - value) < 0.1


def test_in_the_papers_own_data_degradation_starts_at_44_layers() -> None:
    train = {depth: reported(f"plain-{depth}", "train_error") for depth in (20, 32, 44, 56)}
    values = {depth: record.value for depth, record in train.items() if record}
    assert values[32] < values[20] < values[44] < values[56]


def test_what_the_paper_does_not_say_is_none() -> None:
    assert reported("plain-110", "train_error") is None  # "above 60 %", not drawn
    assert reported("resnet-56-B", "test_error") is None
    assert reported("plain-8", "test_error") is None
    assert reported("resnet-56", "train_error_clean") is None


def test_every_record_is_complete_and_stands_once() -> None:
    for records in (paper.TABLE_6, paper.FIGURE_6):
        assert len({(r.network, r.quantity) for r in records}) == len(records)
        for record in records:
            assert Network.from_name(record.network).name == record.network
            assert record.quantity in ("train_error", "test_error")
            assert 0 < record.value < 100
            assert record.protocol == "single"


def test_only_cifar_10_with_the_papers_recipe_is_comparable() -> None:
    assert comparable("cifar10", PAPER.label) is None
    for data in ("digits", "cifar100", "a folder"):
        assert data in str(comparable(data, PAPER.label))
    for recipe in ("quick", "short", PAPER.replace(steps=100).label, PAPER.replace(lr=0.2).label):
        assert recipe in str(comparable("cifar10", recipe))
    assert comparable("cifar10", PAPER.replace(log_every=7).label) is None  # measured, not trained
