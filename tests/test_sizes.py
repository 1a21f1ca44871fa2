"""Which images a network takes: others are refused, with both shapes named."""

from __future__ import annotations

import pytest
import torch
from networks import on_meta

from resnetlab.config import Network, UsageError
from resnetlab.nets import build, check_size


@pytest.mark.parametrize(
    "shape",
    [(2, 3, 8, 9), (2, 3, 7, 7), (2, 1, 8, 8), (2, 4, 8, 8), (3, 8, 8), (2, 8, 8, 3), (2, 3, 8, 8, 1)],
)
def test_images_of_another_shape_are_refused_with_both_shapes_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"resnet-8 takes images \(batch, 3, S, S\)") as caught:
        build("resnet-8")(torch.zeros(shape))
    assert str(shape) in str(caught.value)


def test_images_need_not_be_square_and_small_ones_are_refused() -> None:
    network = on_meta("resnet-18", num_classes=7).eval()
    assert network(torch.empty(1, 3, 160, 192, device="meta")).shape == (1, 7)
    assert network(torch.empty(1, 3, 32, 33, device="meta")).shape == (1, 7)
    for shape in ((1, 3, 31, 64), (1, 3, 64, 31), (1, 1, 64, 64), (3, 64, 64)):
        with pytest.raises(ValueError, match=r"resnet-18 takes images \(batch, 3, H, W\)") as caught:
            network(torch.empty(shape, device="meta"))
        assert "H, W >= 32" in str(caught.value)
        assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("plain-34", (28, 28), "28x28 are too small for plain-34, which needs 32.*such as 20 or 32"),
        ("resnet-50", (8, 8), "8x8 are too small for resnet-50, .* is cifar-resnet-50$"),
        ("resnet-50-3x3", (224, 31), "31x224 are too small.* is cifar-resnet-50$"),
        ("plain-152", (31, 224), "224x31 are too small.* is cifar-plain-152$"),
        ("resnet-20", (7, 32), "32x7 are too small for resnet-20, which needs 8 pixels or more$"),
    ],
)
def test_too_small_images_are_refused_before_any_training(
    name: str, size: tuple[int, int], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        check_size(Network.from_name(name), *size)
    proposed = str(caught.value).partition("small images is ")[2]
    assert not proposed or Network.from_name(proposed).design == "cifar"
    check_size(Network.from_name(name), 32, 32)
