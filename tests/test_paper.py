"""The paper's numbers, against a second copy typed from the paper."""

from __future__ import annotations

from typing import get_args

import pandas as pd
import pytest

from resnetlab import paper
from resnetlab.config import IMAGENET_RECIPE, PAPER, PAPER_110, Network, run_from_parameters
from resnetlab.paper import difference, reported
from resnetlab.verdict import not_comparable, reasons_apart

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


# --- ImageNet ---------------------------------------------------------------------------------

TABLE_1 = {18: 1.8e9, 34: 3.6e9, 50: 3.8e9, 101: 7.6e9, 152: 11.3e9}  # FLOPs, its last row


# Tables 2 and 3, 10-crop: top-1, top-5 (None: not printed).
TEN_CROP = {
    "plain-18": (27.94, None),
    "resnet-18": (27.88, None),
    "plain-34": (28.54, 10.02),
    "resnet-34": (25.03, 7.76),
    "resnet-34-B": (24.52, 7.46),
    "resnet-34-C": (24.19, 7.40),
    "resnet-50": (22.85, 6.71),
    "resnet-101": (21.75, 6.05),
    "resnet-152": (21.43, 5.71),
    "VGG-16": (28.07, 9.33),
    "GoogLeNet": (None, 9.15),
    "PReLU-net": (24.27, 7.38),
}
# Table 4, single model; ours by fully convolutional testing at several scales.
MULTI_SCALE = {
    "resnet-34-B": (21.84, 5.71),
    "resnet-34-C": (21.53, 5.60),
    "resnet-50": (20.74, 5.25),
    "resnet-101": (19.87, 4.60),
    "resnet-152": (19.38, 4.49),
}
TABLE_4_OTHERS = {
    "VGG (ILSVRC'14)": (None, 8.43),  # on the test set
    "GoogLeNet (ILSVRC'14)": (None, 7.89),
    "VGG v5": (24.4, 7.1),
    "PReLU-net": (21.59, 5.71),
    "BN-inception": (21.99, 5.81),
}
TABLE_5 = {
    "VGG (ILSVRC'14)": 7.32,
    "GoogLeNet (ILSVRC'14)": 6.66,
    "VGG v5": 6.8,
    "PReLU-net": 4.94,
    "BN-inception": 4.82,
    "ResNet (ILSVRC'15)": 3.57,
}
# Figure 4 at the end: training, validation by centre crop.
FIGURE_4 = {
    "plain-18": (31.2, 31.4),
    "plain-34": (32.4, 32.4),
    "resnet-18": (30.1, 31.1),
    "resnet-34": (24.6, 28.3),
}


def value(network: str, quantity: str, protocol: str, data: str = "imagenet") -> float | None:
    record = reported(network, quantity, protocol=protocol, data=data)
    return None if record is None else record.value


@pytest.mark.parametrize("depth", TABLE_1)
def test_table_1(depth: int) -> None:
    for name in [f"resnet-{depth}", *([f"plain-{depth}"] if depth < 50 else [])]:
        assert value(name, "multiply_adds", "counted") == TABLE_1[depth]


def test_table_1_says_nothing_of_options_and_plain_bottlenecks() -> None:
    for name in ("resnet-34-B", "resnet-34-C", "plain-50", "resnet-50-A", "resnet-50-3x3"):
        assert value(name, "multiply_adds", "counted") is None


@pytest.mark.parametrize(
    ("protocol", "table"),
    [("ten-crop", TEN_CROP), ("multi-scale", MULTI_SCALE), ("own", TABLE_4_OTHERS)],
)
def test_tables_2_3_and_4(protocol: str, table: dict[str, tuple[float | None, float | None]]) -> None:
    for network, (top1, top5) in table.items():
        assert value(network, "top1_error", protocol) == top1
        assert value(network, "test_error", protocol) == top1  # the same thing by another name
        assert value(network, "top5_error", protocol) == top5
    said = {r.network for r in paper.RECORDS if (r.protocol, r.data) == (protocol, "imagenet")}
    assert said == set(table)


@pytest.mark.parametrize("network", FIGURE_4)
def test_figure_4(network: str) -> None:
    train, validation = FIGURE_4[network]
    assert value(network, "train_error", "single") == train
    assert value(network, "top1_error", "single") == validation
    record = reported(network, "top1_error", data="imagenet")
    assert record is not None
    assert (record.source, record.how) == (
        "Figure 4",
        "ImageNet, single centre view, 550,000 steps, mean of the last three points of the curve",
    )


def test_one_network_has_one_error_by_each_protocol_and_they_are_not_mixed_up() -> None:
    # More views, fewer errors: 34 layers with option A and B, as the paper tested them.
    assert value("resnet-34", "top1_error", "single") == 28.3
    assert value("resnet-34", "top1_error", "ten-crop") == 25.03
    assert value("resnet-34", "top1_error", "multi-scale") is None  # Table 4 has B and C only
    assert value("resnet-34-B", "top1_error", "ten-crop") == 24.52
    assert value("resnet-34-B", "top1_error", "multi-scale") == 21.84
    assert reported("resnet-34", "top1_error", data="cifar10") is None
    assert value("resnet-50", "top1_error", "single") is None


def test_table_5() -> None:
    for network, top5 in TABLE_5.items():
        assert value(network, "top5_error", "ensemble") == top5
    assert {record.network for record in paper.TABLE_5} == set(TABLE_5)
    ours = reported("ResNet (ILSVRC'15)", "top5_error", protocol="ensemble")
    assert ours is not None
    assert ours.how == "ImageNet test, an ensemble of models, six models, multi-scale"
    vgg = reported("VGG (ILSVRC'14)", "top5_error", protocol="own")
    assert vgg is not None
    assert vgg.how.endswith("on the test set")


# --- CIFAR-10, the rest -----------------------------------------------------------------------


def test_table_6_parameters() -> None:
    printed = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7, 1202: 19.4}  # millions
    for depth, millions in printed.items():
        assert value(f"resnet-{depth}", "parameters", "counted", "cifar10") == millions * 1e6
    for name, millions in (("FitNet", 2.5), ("Highway-19", 2.3), ("Highway-32", 1.25)):
        assert value(name, "parameters", "counted", "cifar10") == millions * 1e6
    assert value("plain-56", "parameters", "counted", "cifar10") == 0.85e6  # as many, Sec. 4.2
    assert value("plain-1202", "parameters", "counted", "cifar10") is None  # no such net in the paper
    assert value("resnet-20-B", "parameters", "counted", "cifar10") is None


def test_table_6_others_and_the_best_of_five_runs() -> None:
    others = {r.network: r.value for r in paper.TABLE_6_OTHERS}
    assert others == {
        "Maxout": 9.38,
        "NIN": 8.81,
        "DSN": 8.22,
        "FitNet": 8.39,
        "Highway-19": 7.72,
        "Highway-32": 8.80,
    }
    best = {r.network: (r.value, r.spread, r.best) for r in paper.RECORDS if r.best is not None}
    assert best == {"resnet-110": (6.61, 0.16, 6.43), "Highway-19": (7.72, 0.16, 7.54)}
    assert all("its authors" in record.how for record in paper.TABLE_6_OTHERS)


def test_figure_7() -> None:
    means = {r.network: r.value for r in paper.FIGURE_7}
    assert means == {
        "plain-20": 1.82,
        "plain-56": 1.51,
        "resnet-20": 1.62,
        "resnet-56": 1.13,
        "resnet-110": 0.98,
    }
    record = reported("resnet-56", "response_std")
    assert record is not None
    assert "before ReLU or addition" in record.how


# --- all of them ------------------------------------------------------------------------------


def test_every_record_is_complete() -> None:
    foreign = {
        "VGG-16",
        "VGG-19",
        "VGG v5",
        "GoogLeNet",
        "PReLU-net",
        "BN-inception",
        "ensemble of six",
    }
    foreign |= {record.network for record in (*paper.TABLE_5, *paper.TABLE_6_OTHERS)}
    for record in paper.RECORDS:
        if record.network not in foreign:
            network = Network.from_name(record.network)
            assert network.name == record.network
            assert record.data == {"cifar": "cifar10", "imagenet": "imagenet"}[network.design]
            assert record.protocol != "own"
        assert record.quantity in get_args(paper.Quantity)
        assert record.protocol in get_args(paper.Protocol)
        assert record.source.split()[0] in ("Table", "Figure", "Sec.")
        assert record.how.startswith(paper.HOW[record.data, record.protocol])
        assert record.value > 0
        if record.quantity.endswith("_error"):
            assert record.value < 100
        assert (record.protocol == "counted") == (record.quantity in ("parameters", "multiply_adds"))


def test_the_work_of_vgg() -> None:
    """Sec. 4.1: "VGG-16/19 nets (15.3/19.6 billion FLOPs)"."""
    for name, billions in (("VGG-16", 15.3), ("VGG-19", 19.6)):
        record = reported(name, "multiply_adds", protocol="counted")
        assert record is not None
        assert (record.value, record.source) == (billions * 1e9, "Sec. 4.1")


def test_a_question_has_one_answer_in_all_tables() -> None:
    found: dict[tuple[str, ...], set[float]] = {}
    for r in paper.RECORDS:
        found.setdefault((r.network, r.quantity, r.protocol, r.data), set()).add(r.value)
    several = {key for key, values in found.items() if len(values) > 1}
    # Table 6 against the end of the curve of Figure 6, which `reported` takes only without a table.
    assert several <= {(f"resnet-{depth}", "test_error", "single", "cifar10") for depth in TABLE_6}


@pytest.mark.parametrize("protocol", ["tencrop", "counted", "", "own"])
def test_a_protocol_that_the_paper_did_not_use_has_no_value(protocol: str) -> None:
    assert reported("resnet-50", "top1_error", protocol=protocol, data="imagenet") is None


@pytest.mark.parametrize(
    ("worse", "better", "quantity", "points", "source"),
    [
        ("resnet-56", "resnet-20", "test_error", 6.97 - 8.75, "Table 6, CIFAR-10"),
        ("plain-56", "plain-20", "train_error", 5.8 - 1.4, "Figure 6, CIFAR-10"),
        ("plain-56", "resnet-56", "test_error", 13.2 - 7.04, "Figure 6, CIFAR-10"),  # of one figure
        (
            "plain-34",
            "plain-18",
            "test_error",
            32.4 - 31.4,
            "Figure 4, ImageNet",
        ),  # a single view first
        ("resnet-34-C", "resnet-34", "test_error", 24.19 - 25.03, "Table 3, ImageNet"),
    ],
)
def test_a_difference_is_within_one_table_or_figure(worse, better, quantity, points, source) -> None:
    found = difference(worse, better, quantity)
    assert found == (pytest.approx(points), source)


def test_pairs_that_the_paper_has_nowhere_together_have_no_difference() -> None:
    assert difference("plain-110", "plain-20", "train_error") is None
    assert difference("resnet-34-C", "resnet-34", "train_error") is None
    assert difference("resnet-20", "resnet-18", "test_error") is None


# --- what may be compared ---------------------------------------------------------------------


KINDS = ["data", "recipe", "depth", "precision"]


def comparable(data: str, recipe: str, depth: int = 20, precision: str = "fp32") -> str | None:
    who = pd.DataFrame([(data, recipe, depth, precision)], columns=KINDS)
    return "; ".join(reasons_apart(who)) or None


def test_only_the_papers_data_with_the_papers_recipe_are_comparable() -> None:
    assert comparable("cifar10", PAPER.label) is None
    assert comparable("cifar10", PAPER_110.label, 110) is None
    assert comparable("imagenet", IMAGENET_RECIPE.label) is None
    for data in ("digits", "cifar100", "a folder", "digits-large", "cifar10 (5000 held out)"):
        assert data in str(comparable(data, PAPER.label))
    for recipe in ("paper-400", "short", PAPER.replace(steps=100).label, PAPER.replace(lr=0.2).label):
        assert recipe in str(comparable("cifar10", recipe))
        assert recipe in str(comparable("imagenet", recipe))
    assert "imagenet-small" in str(comparable("imagenet", "imagenet-small"))
    assert "the paper recipe" in str(comparable("imagenet", PAPER.label))
    assert "the imagenet recipe" in str(comparable("cifar10", IMAGENET_RECIPE.label))


def test_what_is_the_papers_own_or_only_measured_stays_comparable() -> None:
    for changes in (
        {"log_every": 7},
        {"ghost_batch": 64},  # two GPUs, 64 images each
        {"recompute_norm": True},
        {"ghost_batch": 64, "recompute_norm": True, "log_every": 7},
    ):
        assert comparable("cifar10", PAPER.replace(**changes).label) is None
        assert comparable("cifar10", PAPER_110.replace(**changes).label, 110) is None
    assert comparable("imagenet", IMAGENET_RECIPE.replace(log_every=7).label) is None
    for changes in ({"ghost_batch": 32}, {"decay_norm": False}, {"log_every": 7, "mean": "channel"}):
        assert comparable("cifar10", PAPER.replace(**changes).label) is not None
    small = IMAGENET_RECIPE.replace(crop=112)
    assert small.label in str(comparable("imagenet", small.label))


def test_the_warm_up_belongs_to_110_layers_and_the_precision_is_single() -> None:
    assert comparable("cifar10", "paper-110") == "the paper warms up 110 layers only, these runs 20"
    assert comparable("cifar10", "paper", 110) == "the paper warms up its 110 layers, these runs do not"
    for recipe in ("paper", "paper-110"):  # "trained as described above": which, is not said
        assert comparable("cifar10", recipe, 1202) is None
    for precision in ("bf16", "tf32", "fp64"):
        reason = f"the paper trained in single precision, these runs in {precision}"
        assert comparable("cifar10", "paper", precision=precision) == reason
        run = run_from_parameters(network="resnet-34", data="imagenet:x", precision=precision)
        assert reason in not_comparable(run)


TEN_CROP = {
    "protocol": "ten-crop",
    "crop": 224,
    "sides": [256],
    "data": "imagenet",
    "average": "softmax",
}


@pytest.mark.parametrize(
    ("network", "test", "reason"),
    [
        ("resnet-34", {}, ""),
        ("resnet-34", {"protocol": "multi-scale", "sides": [224, 256, 384, 480, 640]}, ""),
        (
            "resnet-34",
            {"sides": [288]},
            "ten-crop: crop 224 of shorter side 288; the paper: crop 224 of",
        ),
        ("resnet-34", {"crop": 112}, "ten-crop: crop 112 of shorter side 256; the paper"),
        (
            "resnet-34",
            {"protocol": "multi-scale"},
            "multi-scale: shorter sides 256; the paper: shorter",
        ),
        ("resnet-34", {"average": "logits"}, "ten-crop: logits averaged"),
        ("resnet-34", {"protocol": "single", "average": "logits"}, ""),
        ("resnet-34", {"data": "tiny"}, "trained on imagenet, tested on tiny"),
        ("resnet-20", {}, "the paper's resnet-20 is tested on CIFAR-10, ours on imagenet"),
        ("resnet-50-3x3", {}, "stride in the first 1x1"),
        ("resnet-34-A-zeros-end", {}, "option A's zeros stand at the end here"),
    ],
)
def test_what_is_unusual_in_a_test_or_a_network_is_the_reason(network, test, reason) -> None:
    spec = Network.from_name(network.replace("-A-zeros-end", ""))
    if network.endswith("-zeros-end"):
        spec = Network.parse(spec.model_dump() | {"zeros": "end"})
    run = run_from_parameters(network="resnet-34", data="imagenet:x")
    reasons = not_comparable(run, network=spec, test=TEN_CROP | test)
    assert len(reasons) == bool(reason)
    assert reason in "".join(reasons)


def test_the_reasons_of_many_runs_are_named_once_each() -> None:
    labels = [
        ("cifar10", "paper"),
        ("digits", "paper-400"),
        ("digits", "short"),
        ("cifar10", "paper-400"),
    ]
    frame = pd.DataFrame([(*kind, 20, "fp32") for kind in (*labels, *labels)], columns=KINDS)
    reasons = reasons_apart(frame)
    assert reasons == [comparable("cifar10", "paper-400"), comparable("digits", "short")]
    assert reasons_apart(frame[:1]) == reasons_apart(frame[:0]) == []


def test_weights_of_unknown_training_are_never_comparable() -> None:
    spec = Network.from_name("resnet-34")
    assert "does not say how its weights were trained" in not_comparable(None)[0]
    away = not_comparable(None, network=spec, test=TEN_CROP | {"data": "folder"})
    assert "the paper's resnet-34 is tested on ImageNet, ours on folder" in away


def test_test_protocols_scale_with_the_crop_and_are_worded_once() -> None:
    assert paper.VIEWS["single"].at(224) == [256]
    assert paper.VIEWS["ten-crop"].at(56) == [64]
    assert paper.VIEWS["multi-scale"].at(112) == [112, 128, 192, 240, 320]
    assert "224, 256, 384, 480, 640" in paper.HOW["imagenet", "multi-scale"]


# --- curves -----------------------------------------------------------------------------------


def test_the_curves_end_where_the_tables_say() -> None:
    # Figure 6 ends at 64,000 updates; its last points are the errors that RECORDS hold for Figure 6.
    for network in ("plain-20", "plain-32", "plain-44", "plain-56", "resnet-56", "resnet-110"):
        for quantity in ("train_error", "test_error"):
            line = paper.curve(network, quantity)
            assert line is not None
            assert (line.source, line.data) == ("Figure 6", "cifar10")
            assert line.x[-1] == pytest.approx(64_000, rel=0.01)
            assert max(line.y) <= 20.1, "the figure is cut off at 20 %"
    assert paper.curve("plain-56", "train_error").y[-1] == pytest.approx(5.8, abs=0.15)
    assert paper.curve("resnet-110", "test_error").y[-1] == pytest.approx(6.5, abs=0.15)


def test_imagenet_curves_are_those_of_figure_4() -> None:
    line = paper.curve("resnet-34", "test_error")
    assert line is not None
    assert (line.source, line.data) == ("Figure 4", "imagenet")
    assert line.x[-1] == pytest.approx(550_000, rel=0.01)
    assert line.y[-1] == pytest.approx(28.2, abs=0.1)


def test_responses_have_one_value_a_3x3_layer() -> None:
    for network, layers in (("plain-20", 19), ("plain-56", 55), ("resnet-20", 19), ("resnet-110", 109)):
        line = paper.curve(network, "response")
        assert line is not None
        assert list(line.x) == list(range(1, layers + 1)), network
    assert paper.curve("resnet-26", "response") is None


def test_every_curve_has_steps_that_rise_and_errors_in_percent() -> None:
    assert len(paper.curves()) == 33
    for line in paper.curves():
        assert list(line.x) == sorted(line.x)
        assert len(line.x) == len(line.y)
        assert all(0 <= value <= 100 for value in line.y)
