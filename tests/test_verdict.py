"""The words: hand-computed means and contrasts, and no claim without three seeds that agree."""

from __future__ import annotations

import json
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from dashboard_data import write_run
from hypothesis import given
from hypothesis import strategies as st

from resnetlab import config, files, store
from resnetlab.config import CHOICES, GRIDS, Network, UsageError
from resnetlab.pages import report
from resnetlab.verdict import (
    Contrast,
    answers,
    by_condition,
    by_network,
    contrast,
    depth_effects,
    gradient_ratios,
    kept,
    learnt,
    left_by_decay,
    mean_responses,
    median_errors,
    on_correlations,
    on_degradation,
    on_dial,
    on_first_layer_norms,
    on_gradients,
    on_kept,
    on_lesions,
    on_momentum,
    on_more_steps,
    on_other_recipe,
    on_precisions,
    on_responses,
    on_rounding,
    on_same_function,
    on_shortcuts,
    on_surfaces,
    on_turning,
    one_condition,
    turning,
)
from resnetlab.verdict.conditions import between_recipes, on_recipes
from resnetlab.verdict.words import rounded


def rows(name: str, errors: dict[int, float | None], **changes: Any) -> list[dict[str, Any]]:
    """One run a seed of that network; None stands for a run that diverged."""
    network = Network.from_name(name)
    return [
        {
            "study": "s",
            "run": f"{name}-seed{seed}",
            "network": name,
            "depth": network.depth,
            "shortcut": network.shortcut,
            "family": network.family,
            "data": "digits",
            "recipe": "short",
            "seed": seed,
            "precision": "fp32",
            "status": "diverged" if error is None else "finished",
            "steps": 300,
            "steps_planned": 300,
            "classes": 10,
            "train_error": math.nan if error is None else error,
            "train_error_clean": math.nan if error is None else error + 1,
            "validation_error": math.nan,
            "test_error": math.nan if error is None else error + 2,
            "seconds": 1.0,
            "images_per_second": 1.0,
        }
        | changes
        for seed, error in errors.items()
    ]


def table(*parts: list[dict[str, Any]]) -> pd.DataFrame:
    columns = [*store.IDENTITY, *store.OUTCOME]
    return pd.DataFrame([row for part in parts for row in part], columns=columns)


DEGRADED = table(
    rows("plain-20", {0: 1.0, 1: 2.0, 2: 3.0}),
    rows("plain-56", {0: 11.0, 1: 13.0, 2: 12.0}),  # differences 10, 11, 9
    rows("resnet-20", {0: 1.0, 1: 1.0, 2: 1.0}),
    rows("resnet-56", {0: 0.5, 1: 0.3, 2: 0.4}),  # differences -0.5, -0.7, -0.6
)


# --- means ------------------------------------------------------------------------------------


def test_means_and_sample_deviations_by_hand() -> None:
    found = by_network(DEGRADED).set_index("network")
    assert found.loc["plain-20", "train_error"] == 2.0
    assert found.loc["plain-20", "train_error_sd"] == pytest.approx(1.0)  # of 1, 2, 3, with n - 1
    assert found.loc["plain-56", "test_error"] == pytest.approx(14.0)
    assert found.loc["plain-56", "train_error_clean"] == pytest.approx(13.0)
    assert (found["n"] == 3).all()
    assert (found[["diverged", "unfinished"]] == 0).all(axis=None)


def test_one_seed_has_no_spread_and_two_have() -> None:
    found = by_network(table(rows("plain-20", {0: 4.0}), rows("plain-56", {0: 4.0, 1: 8.0})))
    found = found.set_index("network")
    assert math.isnan(found.loc["plain-20", "train_error_sd"])
    assert found.loc["plain-56", "train_error_sd"] == pytest.approx(math.sqrt(8))


def test_only_finished_runs_are_averaged_and_the_others_counted() -> None:
    found = by_network(
        table(
            rows("plain-20", {0: 4.0, 1: None}),
            rows("plain-20", {2: 90.0}, status="running"),
            rows("plain-20", {3: 90.0}, status="interrupted"),
            rows("plain-20", {4: 90.0}, status="failed"),
        )
    )
    assert len(found) == 1
    row = found.iloc[0]
    assert (row["n"], row["diverged"], row["unfinished"], row["train_error"]) == (1, 1, 3, 4.0)


def test_a_network_whose_runs_all_diverged_has_no_mean() -> None:
    row = by_network(table(rows("plain-56", {0: None, 1: None}))).iloc[0]
    assert (row["n"], row["diverged"]) == (0, 2)
    assert math.isnan(row["train_error"])


@pytest.mark.parametrize("key", ["data", "recipe", "precision"])
def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(key: str) -> None:
    found = by_network(table(rows("plain-20", {0: 4.0}), rows("plain-20", {1: 8.0}, **{key: "other"})))
    assert sorted(found["train_error"]) == [4.0, 8.0]


def test_the_papers_values_stand_beside_where_it_has_them() -> None:
    found = by_network(DEGRADED).set_index("network")
    assert found.loc["resnet-56", "paper_test_error"] == 6.97  # Table 6
    assert found.loc["plain-56", "paper_train_error"] == 5.8  # Figure 6, end of the curve
    other = by_network(table(rows("plain-8", {0: 1.0}), rows("resnet-56-B", {0: 1.0})))
    assert other[["paper_train_error", "paper_test_error"]].isna().all(axis=None)


def test_an_empty_table_gives_an_empty_one_with_its_columns() -> None:
    assert by_network(table()).empty
    assert list(by_network(table()).columns) == list(by_network(DEGRADED).columns)


# --- contrasts --------------------------------------------------------------------------------


def test_a_contrast_by_hand() -> None:
    found = contrast(DEGRADED, "plain-56", "plain-20")
    assert found is not None
    assert found.differences == (10.0, 11.0, 9.0)
    assert found.mean == 10.0
    assert found.spread == pytest.approx(1.0)
    assert found.sign == 1
    assert str(found) == "+10.0 ± 1.0 points (mean ± standard deviation), 95 % [+7.5, +12.5], n = 3"


def test_the_interval_is_students_at_three_and_at_five_seeds() -> None:
    """97.5 % quantiles from a table of t: 4.303 at 2 degrees of freedom, 2.776 at 4, 2.262 at 9."""
    for n, quantile in ((3, 4.303), (5, 2.776), (10, 2.262)):
        found = Contrast("a", "b", tuple(float(i) for i in range(n)))
        assert found.margin == pytest.approx(quantile * found.spread / math.sqrt(n), rel=3e-4)
    assert math.isnan(Contrast("a", "b", (1.0, 2.0)).margin)
    # At n = 5 the quantile of the normal distribution (1.96), or that of 5 degrees of freedom (2.571)
    # instead of 4 (2.776), would call this settled.
    near = Contrast("a", "b", (0.25, 0.4, 1.9, 2.0, 0.6))
    assert 2.571 < near.mean / (near.spread / math.sqrt(5)) < 2.776
    assert near.sign == 0


def test_a_contrast_is_paired_by_seed_whatever_the_order_of_the_rows() -> None:
    shuffled = DEGRADED.sample(frac=1, random_state=3)
    assert contrast(shuffled, "plain-56", "plain-20") == contrast(DEGRADED, "plain-56", "plain-20")
    # Unpaired, the means differ by 5; the two seeds that both networks have give 1 and 1.
    lop = table(rows("plain-20", {0: 1.0, 1: 5.0}), rows("plain-56", {0: 2.0, 1: 6.0, 2: 16.0}))
    found = contrast(lop, "plain-56", "plain-20")
    assert found is not None
    assert found.differences == (1.0, 1.0)


def test_diverged_and_unfinished_runs_are_in_no_contrast() -> None:
    half = table(
        rows("plain-20", {0: 1.0, 1: 1.0}),
        rows("plain-56", {0: None}),
        rows("plain-56", {1: 9.0}, status="running"),
    )
    assert contrast(half, "plain-56", "plain-20") is None
    assert contrast(half, "plain-110", "plain-20") is None


@pytest.mark.parametrize(
    ("differences", "sign"),
    [
        ((5.0,), 0),  # n = 1
        ((5.0, 5.0), 0),  # n = 2
        ((5.0, 5.0, 5.0), 1),
        ((-5.0, -5.0, -5.0), -1),
        ((9.0, 10.0, 11.0), 1),
        ((10.0, 10.0, -0.1), 0),  # one seed disagrees
        ((0.1, 0.1, 10.0), 0),  # agree, but 3.4 is less than 4.30 standard errors (4.30 x 3.3)
        ((1.0, 2.0, 6.0), 0),  # 3.0 against 4.30 x 1.53: two standard errors would not have been enough
        ((1.0, 2.0, 3.0, 4.0), 1),  # 2.5 against 3.18 x 0.65
        ((0.0, 0.0, 0.0), 0),
        ((0.0, 1.0, 1.0), 0),
    ],
)
def test_a_sign_needs_three_seeds_that_agree_clearly(differences: tuple[float, ...], sign: int) -> None:
    assert Contrast("a", "b", differences).sign == sign


differences = st.lists(st.floats(-100, 100), min_size=1, max_size=8).map(tuple)


@given(differences)
def test_signs_are_antisymmetric_and_never_without_agreement(values: tuple[float, ...]) -> None:
    found = Contrast("a", "b", values)
    assert Contrast("b", "a", tuple(-v for v in values)).sign == -found.sign
    if found.sign:
        assert len(values) >= 3
        assert len({v > 0 for v in values}) == 1
        # Student's t by n - 1 degrees of freedom, from a table; never below the normal quantile
        assert abs(found.mean) > 2 * found.spread / math.sqrt(len(values))
        assert abs(found.mean) > found.margin


def test_one_seed_is_said_without_a_spread() -> None:
    assert str(Contrast("a", "b", (3.25,))) == "+3.25 points, n = 1"
    assert math.isnan(Contrast("a", "b", (3.25,)).spread)


# --- the verdict ------------------------------------------------------------------------------


def test_three_agreeing_seeds_are_called_degradation_and_its_absence() -> None:
    plain, plain_test, residual, residual_test, across, across_test = on_degradation(DEGRADED)
    # t of 2 degrees of freedom 4.303, over the root of 3: 2.48 times the deviation.
    assert plain == (
        "Final training error of plain-56 minus plain-20: +10.0 ± 1.0 points (mean ± standard "
        "deviation), 95 % [+7.5, +12.5], n = 3; clean +10.0, 95 % [+7.5, +12.5]; the paper's +4.40 "
        "(Figure 6, CIFAR-10). The paper's order: the deeper one is worse on the images it trains on."
    )
    assert plain_test.startswith("Final test error of plain-56 minus plain-20: +10.0 ± 1.0 points")
    assert "n = 3; the paper's +3.50 (Figure 6, CIFAR-10)" in plain_test
    assert plain_test.endswith("The paper's order: the deeper one is worse on test images.")
    assert residual.startswith("Final training error of resnet-56 minus resnet-20: -0.60 ± 0.10 points")
    assert "the paper's -0.58 (Figure 6, CIFAR-10). The paper's order: the deeper one is" in residual
    # Table 6: 6.97 - 8.75
    assert "the paper's -1.78 (Table 6, CIFAR-10)" in residual_test
    assert residual_test.endswith("The paper's order: the deeper one is better on test images.")
    # 11 - 0.5, 13 - 0.3, 12 - 0.4 = 10.5, 12.7, 11.6
    assert across.startswith("Final training error of plain-56 minus resnet-56: +11.6 ± 1.1 points")
    assert across.endswith(
        "The paper's order: the shortcuts alone, which add no parameter, make the difference."
    )
    assert "the paper's +6.16 (Figure 6, CIFAR-10)" in across_test  # 13.2 - 7.04, of one figure


CLAIM = "the deeper one is"


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_fewer_than_three_seeds_claim_nothing(seeds: tuple[int, ...]) -> None:
    said = on_degradation(DEGRADED[DEGRADED["seed"].isin(seeds)])
    assert not any(CLAIM in line or "order:" in line or "%" in line for line in said)
    assert all(line.endswith("Too few seeds to say: 3 are needed.") for line in said)
    assert all(f"n = {len(seeds)}" in line for line in said)


def test_seeds_that_disagree_claim_nothing() -> None:
    said = on_degradation(
        table(rows("plain-20", {0: 5.0, 1: 5.0, 2: 5.0}), rows("plain-56", {0: 50.0, 1: 60.0, 2: 4.0}))
    )
    assert CLAIM not in said[0]
    assert said[0].endswith("Which is ahead, these seeds do not settle.")


def test_close_is_said_only_of_a_difference_bounded_by_one_point() -> None:
    """0.0, 0.3, 0.3: 0.2 + 4.30 x 0.1 = 0.63 < 1, whereas 0.0, 0.9, 0.9: 0.6 + 4.30 x 0.3 > 1."""
    shallow = rows("resnet-20", dict.fromkeys(range(3), 1.0))
    near = on_degradation(table(shallow, rows("resnet-56", {0: 1.0, 1: 1.3, 2: 1.3})))
    assert "Less than 1 point apart, with 95 % confidence; which is ahead, these seeds" in near[0]
    wide = on_degradation(table(shallow, rows("resnet-56", {0: 1.0, 1: 1.9, 2: 1.9})))
    assert "Less than" not in wide[0]
    assert "Which is ahead, these seeds do not settle." in wide[0]


@pytest.mark.parametrize("key", ["data", "recipe", "precision"])
def test_runs_of_several_conditions_are_refused_until_one_is_chosen(key: str) -> None:
    mixed = pd.concat([DEGRADED, DEGRADED.assign(**{key: "other"})])
    with pytest.raises(UsageError, match=r"cannot be averaged.*other"):
        one_condition(mixed)
    chosen = one_condition(mixed, **{key: "other"})
    assert (chosen[key] == "other").all()
    assert len(chosen) == len(DEGRADED)
    assert one_condition(DEGRADED).equals(DEGRADED)


def test_the_warm_up_of_110_layers_is_part_of_the_papers_recipe() -> None:
    paper = DEGRADED.assign(recipe="paper")
    warmed = DEGRADED.iloc[:2].assign(recipe="paper-110", network="resnet-110", depth=110)
    mixed = pd.concat([paper, warmed], ignore_index=True)
    for asked in ("", "paper", "paper-110"):
        assert one_condition(mixed, recipe=asked).equals(mixed)
    # 20 layers with the warm-up, or 110 without, are not the paper's: nothing is one with anything.
    for network, depth, recipe in (("resnet-20", 20, "paper-110"), ("resnet-110", 110, "paper")):
        other = DEGRADED.iloc[:1].assign(recipe=recipe, network=network, depth=depth)
        more = pd.concat([mixed, other], ignore_index=True)
        with pytest.raises(UsageError, match=r"paper, fp32; digits, paper-110"):
            one_condition(more)
        assert set(one_condition(more, recipe="paper-110")["recipe"]) == {"paper-110"}
    shorter = warmed.assign(recipe="paper-110 (steps 300)")
    with pytest.raises(UsageError, match=r"paper \(steps 300\)"):
        one_condition(pd.concat([paper, shorter], ignore_index=True))


def test_a_deeper_plain_network_that_trains_better_is_said_to() -> None:
    said = on_degradation(
        table(rows("plain-20", {0: 5.0, 1: 5.0, 2: 5.0}), rows("plain-32", {0: 1.0, 1: 2.0, 2: 1.5}))
    )
    assert (
        "the paper's -0.30 (Figure 6, CIFAR-10). The paper's order: the deeper one is better" in said[0]
    )


def test_a_residual_network_that_degrades_is_not_hidden() -> None:
    """8.0, 8.5, 8.9: 8.47 ± 0.45, and 2.48 times that on either side."""
    said = on_degradation(
        table(rows("resnet-20", {0: 1.0, 1: 1.0, 2: 1.0}), rows("resnet-56", {0: 9.0, 1: 9.5, 2: 9.9}))
    )
    assert "+8.47 ± 0.45 points (mean ± standard deviation), 95 % [+7.35, +9.59], n = 3" in said[0]
    assert said[0].endswith("Reversed here: the deeper one is worse on the images it trains on.")
    assert said[1].endswith("Reversed here: the deeper one is worse on test images.")


def test_a_shortcut_that_does_not_help_is_said() -> None:
    worse = dict.fromkeys(range(3), 40.0)
    said = on_degradation(
        table(
            rows("plain-20", {0: 1.0, 1: 1.0, 2: 1.0}),
            rows("plain-56", {0: 2.0, 1: 2.0, 2: 2.0}),
            rows("resnet-20", worse),
            rows("resnet-56", worse),
        )
    )
    assert said[4].endswith("Reversed here: the plain one is ahead.")


def test_the_deep_ones_seeds_decide_not_the_pooled_mean() -> None:
    said = on_degradation(
        table(rows("plain-20", {0: 1.0, 1: 1.0, 2: 1.0}), rows("plain-56", {3: 60.0, 4: 60.0, 5: 60.0}))
    )
    assert said[0] == "plain-56 and plain-20 share no finished seed."
    assert not any("minus" in sentence for sentence in said)


def test_diverged_runs_are_named_and_not_averaged() -> None:
    said = on_degradation(table(rows("plain-20", {0: 1.0}), rows("plain-56", {0: 9.0, 1: None})))
    assert said[-1] == "1 run(s) diverged and are not in the means: plain-56-seed1."
    assert "+8.00 points, n = 1" in said[0]


@pytest.mark.parametrize("key", ["data", "recipe", "precision"])
def test_mixed_conditions_get_no_verdict(key: str) -> None:
    mixed = pd.concat([DEGRADED, DEGRADED.assign(**{key: "other"})])
    assert on_degradation(mixed) == [
        "These runs differ in data set, recipe or precision; choose one of each for a verdict."
    ]


def test_missing_families_and_depths_are_said() -> None:
    plain = DEGRADED[DEGRADED["family"] == "plain"]
    assert on_degradation(plain)[-1] == "Fewer than two depths of residual networks are finished."
    shallow = DEGRADED[DEGRADED["depth"] == 20]
    said = on_degradation(shallow)
    assert said[0].startswith("Final training error of plain-20 minus resnet-20: ")  # of equal depth
    assert [line.split(" of ")[1].split()[0] for line in said[2:]] == ["plain", "residual"]


def test_no_finished_run_says_so() -> None:
    for nothing in (table(), table(rows("plain-20", {0: 5.0}, status="running"))):
        assert on_degradation(nothing) == ["No finished run yet: nothing can be said."]
    assert on_degradation(table(rows("plain-20", {0: None})))[0].startswith("No finished run")


def test_only_depth_differs_in_a_contrast_of_depths() -> None:
    said = on_degradation(
        table(
            rows("resnet-20", {0: 1.0}),
            rows("resnet-56", {0: 2.0}),
            rows("resnet-56-B", {0: 3.0}),
            rows("resnet-110-C", {0: 4.0}),
        )
    )
    assert "resnet-56 minus resnet-20:" in said[0]


def test_20_layers_stand_for_shallow_where_they_were_run() -> None:
    said = on_degradation(
        table(*(rows(name, {0: 1.0}) for name in ("plain-8", "plain-20", "plain-32")))
    )
    assert "plain-32 minus plain-20" in said[0]
    said = on_degradation(
        table(*(rows(name, {0: 1.0}) for name in ("plain-8", "plain-14", "plain-20")))
    )
    assert "plain-20 minus plain-8" in said[0]


def test_an_error_at_the_floor_orders_nothing() -> None:
    """0.04 is printed as 0.0; 0.06 is not."""
    zeros = dict.fromkeys(range(3), 0.0)
    for deep, sentence in ((0.04, "Both at 0.0 % with every seed"), (0.06, "Less than 1 point apart")):
        frame = table(rows("resnet-20", zeros), rows("resnet-44", zeros | {1: deep}))
        said = on_degradation(frame)[0]
        assert sentence in said
    assert said.endswith("With resnet-20 at 0.0 % the paper's order could not show.")
    apart = table(rows("resnet-20", zeros, test_error=3.0), rows("resnet-44", zeros))
    assert on_degradation(apart)[2].endswith(
        "The paper's order: the deeper one is better on test images."
    )


def test_nothing_is_said_of_a_network_that_has_not_learnt() -> None:
    """Chance is 90 % of ten classes: a clean error of 80.0 has learnt, one of 80.5 has not."""
    shallow = rows("plain-20", dict.fromkeys(range(4), 1.0))
    errors = {0: 11.0, 1: 12.0, 2: 13.0, 3: 79.0}
    assert learnt(table(rows("plain-56", errors))).tolist() == [True] * 4  # clean: one point more
    stuck = table(shallow, rows("plain-56", errors | {3: 79.5}))
    assert learnt(stuck).tolist() == [True] * 7 + [False]
    said = on_degradation(stuck)
    # 10, 11, 12 and 78.5: mean 27.875; of the three that learnt 11 ± 1, 2.48 on either side
    assert said[0].startswith("Final training error of plain-56 minus plain-20: +27.9 ± 33.8 points")
    assert said[0].endswith(
        "Both have learnt with 3 of these 4 seeds: +11.0 ± 1.0 points (mean ± standard deviation), 95 "
        "% [+8.5, +13.5], n = 3. The paper's order: the deeper one is worse on the images it trains on."
    )
    assert said[-1] == (
        "Not learnt: plain-56 with seed 3. To have learnt means a final training error of 10 points or "
        "more below chance, a guess among the classes."
    )
    none = on_degradation(table(shallow, rows("plain-110", dict.fromkeys(range(4), 89.0))))
    assert none[0].endswith(
        "Both have learnt with 0 of these 4 seeds: too few to order them, 3 are needed."
    )
    assert CLAIM not in "".join(none)
    # A hundred classes: chance is 99 %. Without the number of classes nothing is called not learnt.
    hundred = rows("plain-56", {0: 88.0, 1: 88.5}, classes=100)
    assert learnt(table(hundred)).tolist() == [True, False]
    assert learnt(table(rows("plain-56", {0: 89.0}, classes=None))).tolist() == [True]


def test_a_second_run_of_a_seed_is_averaged_and_counts_once() -> None:
    again = rows("plain-56", {0: 15.0}, run="again", study="other")  # 11 and 15: 13
    found = contrast(table(DEGRADED.to_dict("records"), again), "plain-56", "plain-20")
    assert found is not None
    assert found.differences == (12.0, 11.0, 9.0)
    twice = table(DEGRADED.to_dict("records"), again)
    row = by_network(twice).set_index("network").loc["plain-56"]
    assert (row["n"], row["unfinished"]) == (3, 0)
    assert row["train_error"] == pytest.approx(38 / 3)  # 13, 13, 12
    assert row["train_error_sd"] == pytest.approx(math.sqrt(1 / 3))
    assert "plain-56 was trained 2 times with seed 0: averaged, one seed." in on_degradation(twice)
    few = table(rows("plain-20", {0: 1.0}), *[rows("plain-56", {0: 9.0}, run=name) for name in "abc"])
    assert "n = 1" in on_degradation(few)[0]


def test_a_recipe_chosen_by_its_outcome_says_so_and_what_stays_without_that_seed() -> None:
    """Without seed 0: 10, 11, 9 stays above 0; 0.2, 0.3, -0.1 does not, with 0.2 of seed 0 neither."""
    plain = [
        rows("plain-20", dict.fromkeys(range(4), 1.0)),
        rows("plain-56", {0: 11.0, 1: 11.0, 2: 12.0, 3: 10.0}),
    ]
    frame = table(*plain).assign(recipe="paper-400")
    assert on_degradation(frame)[-2:] == [
        f"Recipe paper-400 was {CHOICES['paper-400']}.",
        "Without seed 0 every conclusion above stays.",
    ]
    assert "looking at outcomes on digits, seed 0: of two candidates" in str(CHOICES["paper-400"])
    # 40, 1, 1, 1 is open; 1, 1, 1 is not.
    moved = table(
        rows("plain-20", dict.fromkeys(range(4), 1.0)),
        rows("plain-56", {0: 41.0, 1: 2.0, 2: 2.0, 3: 2.0}),
    )
    assert on_degradation(moved.assign(recipe="paper-400 (clip 1.0)"))[-1].endswith(
        "Without seed 0 changes: Final training error of plain-56 minus plain-20 (The paper's order); "
        "Final test error of plain-56 minus plain-20 (The paper's order)."
    )
    few = on_degradation(frame[frame["seed"] < 3])
    assert few[-1].endswith("Without seed 0 too few seeds that have learnt are left to say anything.")
    assert "Recipe" not in "".join(on_degradation(frame.assign(data="cifar10")))
    later = on_degradation(frame[frame["seed"] > 0])
    assert later[-1].endswith("resnet-56 0.0 and 16.5 %.")
    tuned = on_degradation(frame.assign(recipe="tuned-on-resnet-56"))
    assert "because resnet-56 needed most of these steps" in tuned[-1]


def test_figure_6_is_one_study_everywhere(tmp_path: Path) -> None:
    """Its 110 layers have the warm-up's recipe, which verdict and pages take for the paper's."""
    for run in replace(GRIDS["figure-6"], seeds=(0, 1, 2)).runs().values():
        write_run(
            tmp_path,
            run.network.name,
            study="figure-6",
            seed=run.seed,
            data="cifar10",
            recipe=run.recipe.name,
        )
    study = store.read_study(tmp_path / "figure-6")
    assert {run.config.recipe.name for run in study.runs} == {"paper", "paper-110"}
    assert list(by_condition(study.runs)) == [("cifar10", "paper (steps 40)", "fp32")]
    assert one_condition(study.table()).equals(study.table())
    said = answers(study.table())
    heads = [
        f"Final training error of {pair}:"
        for pair in (
            "plain-56 minus plain-20",
            "resnet-110 minus resnet-20",
            "resnet-56 minus resnet-20",
            "plain-56 minus resnet-56",
        )
    ]
    assert [line.partition(":")[0] + ":" for line in said if "Final training" in line] == heads
    assert (
        said[-1]
        == "resnet-110 begins with the warm-up that the paper gives it (Sec. 4.2), the others do not."
    )
    page = report.page(study).decode()
    assert page.count("What the data cannot say") == 1
    assert all(head in page for head in heads)


def test_the_order_of_the_runs_changes_no_word() -> None:
    mixed = list(range(len(DEGRADED)))
    for seed in range(3):
        random.Random(seed).shuffle(mixed)
        assert on_degradation(DEGRADED.iloc[mixed]) == on_degradation(DEGRADED)


def test_the_table_is_left_as_it_was() -> None:
    before = DEGRADED.copy()
    by_network(DEGRADED)
    on_degradation(DEGRADED)
    pd.testing.assert_frame_equal(DEGRADED, before)


OPTIONS = table(
    rows("plain-56", {0: 50.0, 1: 52.0, 2: 51.0}),
    rows("resnet-56", {0: 5.0, 1: 6.0, 2: 5.5}),
    rows("resnet-56-B", {0: 4.9, 1: 6.1, 2: 5.6}),  # -0.1, +0.1, +0.1 from A
    rows("resnet-56-C", {0: 9.0, 1: 3.0, 2: 5.0}),  # the seeds disagree
)


def test_options_are_compared_with_a_and_with_the_papers_34_layers() -> None:
    said = on_shortcuts(OPTIONS)
    heads = [line.partition(":")[0] for line in said]
    assert heads == [
        f"Final {word} error of {other} minus resnet-56"
        for other in ("resnet-56-B", "resnet-56-C", "plain-56")
        for word in ("training", "test")
    ]
    # -0.1, 0.1, 0.1
    assert said[0].endswith(
        "Less than 1 point apart, with 95 % confidence; which is ahead, these seeds do not settle."
    )
    # Table 3: 24.52 - 25.03 and 24.19 - 25.03
    assert "; the paper's of resnet-34-B and resnet-34 -0.51 (Table 3, ImageNet)" in said[1]
    assert "; the paper's of resnet-34-C and resnet-34 -0.84 (Table 3, ImageNet)" in said[3]
    assert said[3].endswith("Which is ahead, these seeds do not settle.")
    assert "+45.5 ± 0.5 points" in said[4]
    assert said[4].endswith("The paper's order: plain-56 is behind.")
    behind = rows("resnet-56-C", {0: 7.0, 1: 8.1, 2: 7.6})  # 2.0, 2.1, 2.1
    said = on_shortcuts(table(rows("resnet-56", {0: 5.0, 1: 6.0, 2: 5.5}), behind))
    assert said[0].endswith("The paper has no such pair: resnet-56-C is behind.")  # no training error
    assert said[1].endswith("Reversed here: resnet-56-C is behind.")


def test_options_need_three_seeds_and_a_shared_one() -> None:
    few = on_shortcuts(OPTIONS[OPTIONS["seed"] < 2])
    assert all(line.endswith("Too few seeds to say: 3 are needed.") for line in few)
    apart = table(rows("plain-56", {0: 50.0}), rows("resnet-56", {1: 5.0, 2: None}))
    assert on_shortcuts(apart) == [
        "No two shortcut options of one depth share a finished seed.",
        "1 run(s) diverged and are not in the means: resnet-56-seed2.",
    ]
    assert on_shortcuts(table()) == ["No finished run yet: nothing can be said."]
    assert "differ in data set" in on_shortcuts(pd.concat([OPTIONS, OPTIONS.assign(recipe="x")]))[0]


def test_the_answer_is_about_what_varies() -> None:
    assert answers(OPTIONS) == on_shortcuts(OPTIONS)
    assert answers(DEGRADED) == on_degradation(DEGRADED)
    one = OPTIONS[OPTIONS["shortcut"] == "A"]
    assert answers(one) == on_degradation(one)
    assert answers(table()) == on_degradation(table())


def test_imagenet_networks_have_their_own_numbers_of_the_paper() -> None:
    means = by_network(table(rows("plain-34", {0: 1.0}), rows("resnet-34", {0: 1.0})))
    assert means["paper_test_error"].round(1).tolist() == [32.4, 28.3]  # Figure 4, its last points
    assert set(means["paper_source"]) == {"Figure 4"}


# --- gradients --------------------------------------------------------------------------------


def norms(name: str, ratios: dict[int, float], seed: int = 0) -> pd.DataFrame:
    """As `results.probes_of`: three layers; the first one's norm is `ratio` times the last one's."""
    network = Network.from_name(name)
    who = {"study": "s", "run": f"{name}-seed{seed}", "network": name, "depth": network.depth}
    who |= {"shortcut": network.shortcut, "family": network.family, "seed": seed}
    return pd.DataFrame(
        who | {"step": step, "layer": layer, "name": f"l{layer}", "value": value}
        for step, ratio in ratios.items()
        for layer, value in enumerate((0.5 * ratio, 7.0, 0.5))
    )


def test_gradients_are_named_by_their_numbers() -> None:
    frame = norms("plain-56", {0: 2400.0, 10: 1e-4, 20: 0.5, 30: 200.0, 40: 0.5})
    assert on_gradients(frame) == [
        "plain-56 (1 seed): at step 0 the first layer's gradient is 2,400 times the last one's, "
        "exploding towards the input (more than 100); at 25 % of the later logged steps vanishing "
        "towards the input (less than 1/100), down to 0.0001 times; at 25 % of the later logged steps "
        "exploding towards the input (more than 100), up to 200 times."
    ]


def test_gradients_over_seeds_are_averaged_at_the_start_and_counted_later() -> None:
    frame = pd.concat([norms("resnet-20", {0: 1.0, 5: 1.0}), norms("resnet-20", {0: 16.0, 5: 4.0}, 1)])
    (said,) = on_gradients(frame)
    assert said == (
        "resnet-20 (2 seeds): at step 0 the first layer's gradient is 4 times the last one's (1 to 16 "
        "by seed); at all later logged steps between 1 and 4 times, healthy."
    )
    (said,) = on_gradients(pd.concat([norms("resnet-20", {0: 1.0}), norms("resnet-20", {0: 9.0}, 1)]))
    assert said.endswith("3 times the last one's (1 to 9 by seed), healthy."), "with every seed"
    (said,) = on_gradients(norms("plain-44", {0: 99.0, 5: 0.04, 10: 1.1}))  # between the words
    assert said == (
        "plain-44 (1 seed): at step 0 the first layer's gradient is 99 times the last one's; "
        "at all later logged steps between 0.04 and 1.1 times."
    )
    frame = pd.concat([frame, norms("resnet-20", {10: 1e-3}, 1)])
    assert "at 33 % of the later logged steps (0 % to 50 % by seed) vanishing" in on_gradients(frame)[0]


def test_a_norm_of_exactly_zero_has_vanished_and_one_that_is_none_has_no_ratio() -> None:
    frame = norms("plain-8", {0: 1.0, 5: 0.0})
    assert gradient_ratios(frame)["ratio"].tolist() == [1.0, 0.0]
    assert "at 100 % of the later logged steps vanishing" in on_gradients(frame)[0]
    assert on_gradients(frame)[0].endswith("down to exactly 0.")
    frame["value"] = math.nan
    assert on_gradients(frame) == ["No gradient norms logged yet: nothing can be said."]
    assert on_gradients(store.probes_of([])) == on_gradients(frame)


DEEP = files.project() / "results" / store.REFERENCE / "digits" / "plain-56-seed0"


def test_a_step_turns_what_weight_decay_does_not_shorten() -> None:
    """From what a run logged: without lr * decay / (1 - momentum); the classifier is left out."""
    logged = {}
    for line in (DEEP / "probes.jsonl").read_text().splitlines():
        row = json.loads(line)
        logged[row["kind"], row["step"]] = row["values"]
    turned = turning([store.read_run(DEEP)])
    assert turned["layer"].max() == 54, "the classifier has no batch norm behind it"
    for step, lr in ((0, 0.1), (50, 0.1), (190, 0.1), (200, 0.01), (350, 0.001)):
        rows = turned[turned["step"] == step]
        assert set(rows["lr"]) == {lr}
        decay = lr * 1e-4 / (1 - 0.9)
        whole = logged["relative_update", step][:-1]
        wanted = [math.sqrt(max(value**2 - decay**2, 0)) for value in whole]
        assert rows["value"].tolist() == pytest.approx(wanted, rel=1e-9)


def test_how_far_weights_grow_and_steps_turn_is_said_by_thirds() -> None:
    run = store.read_run(DEEP)
    (said,) = on_turning([run])
    weights = run.probe("weight_norm").pivot(index="step", columns="layer", values="value")
    assert (
        f"up to {(weights / weights.iloc[0]).max().max():,.0f} times as long; later, at a rate of 0.1"
        in said
    )
    later = turning([run]).query("0 < step < 200").groupby("layer")["value"]
    ends = [turning([run]).query(f"0 < step < 200 and {part}")["value"].median() for part in THIRDS]
    assert later.ngroups == 55
    assert f"first third of the layers by {rounded(ends[0], 1)} and the last" in said
    assert "not logged" in on_turning([])[0]


def test_what_momentum_makes_of_the_first_step_is_said_beside_the_lengths(tmp_path: Path) -> None:
    run = store.read_run(DEEP)
    (said,) = on_momentum([run])
    steps, lengths = (
        run.probe(kind).pivot(index="step", columns="layer", values="value")
        for kind in ("relative_update", "weight_norm")
    )
    first = steps.loc[0].drop(steps.columns[-1])
    times = lengths[first.idxmax()] / lengths.loc[0, first.idxmax()] / first.max()
    alone = sum(0.9**k for k in range(10))
    assert f"is {first.max():.2g} times as long as the weights of layer {first.idxmax() + 1}; " in said
    assert f"after 10 steps these are {times[10]:.2f} times as long as that step" in said
    assert f"(momentum alone makes {alone:.2f} of it) and at most {times.max():.2f} times" in said
    clipped = store.read_run(DEEP.parent.parent / "first-step-clip" / DEEP.name)
    assert on_momentum([clipped])[0].endswith(
        "too short for their length to show what momentum makes of it."
    )
    assert "not logged" in on_momentum([])[0]
    old = tmp_path / DEEP.name  # by an early version, which did not log how far a step goes
    shutil.copytree(DEEP, old)
    probes = (old / store.PROBES_FILE).read_text().splitlines(keepends=True)
    (old / store.PROBES_FILE).write_text("".join(x for x in probes if "relative_update" not in x))
    assert "not logged" in on_momentum([store.read_run(old)])[0]


def test_another_recipe_than_the_usual_one_is_said() -> None:
    frame = pd.DataFrame({"data": "digits", "recipe": ["paper-400", "paper-400 (clip 1.0)"]})
    assert on_other_recipe(frame) == []
    (said,) = on_other_recipe(frame.assign(recipe="tuned-on-resnet-56 (steps 150)"))
    assert said.startswith(
        "These networks were trained by the recipe tuned-on-resnet-56, not by paper-400"
    )
    (some,) = on_other_recipe(frame.assign(recipe=["paper-400", "tuned-on-resnet-56"]))
    assert some.startswith("Some of these networks were")
    assert on_other_recipe(frame.assign(data="my-photographs", recipe="paper")) == []


THIRDS = ("layer < 18", "layer > 36")  # of the 55 that a batch norm follows


# --- correlation of gradients, layer responses ----------------------------------------------------


def valued(name: str, values: dict[int, float], **changes: Any) -> list[dict[str, Any]]:
    kept = store.IDENTITY
    found = rows(name, dict.fromkeys(values, 1.0), **changes)
    return [{k: r[k] for k in kept} | {"value": values[r["seed"]]} for r in found]


def test_correlations_name_the_depth_from_which_they_are_gone() -> None:
    frame = pd.DataFrame(
        valued("plain-20", {0: 0.5, 1: 0.7})
        + valued("plain-44", {0: 0.05, 1: 0.07})
        + valued("plain-56", {0: 0.01, 1: 0.01})
        + valued("resnet-56", {0: 0.6, 1: 0.6})
    )
    plain, residual = on_correlations(frame)
    assert plain.startswith("Plain: 20 layers 0.60 ± 0.14, 44 layers 0.06 ± 0.01, 56 layers 0.01")
    assert "(2 seeds). Below 0.1 from 44 layers on" in plain
    assert residual.endswith("56 layers 0.60 ± 0.00 (2 seeds). No depth measured falls below 0.1.")
    back = on_correlations(frame.assign(value=[0.01, 0.01, 0.5, 0.5, 0.02, 0.02, 1, 1]))[0]
    assert "Below 0.1 at 20, 56 layers." in back
    assert on_correlations(frame.iloc[:0]) == ["No correlation measured yet: nothing can be said."]


def response_frame(values: dict[str, list[float]]) -> pd.DataFrame:
    """Two layers a run, one 0.1 above and one 0.1 below the mean, a value a seed."""
    return pd.DataFrame(
        row | {"layer": layer, "value": row["value"] + offset}
        for name, means in values.items()
        for row in valued(name, dict(enumerate(means)))
        for layer, offset in enumerate((-0.1, 0.1))
    )


def test_responses_are_compared_seed_by_seed_with_the_papers_ratio_beside() -> None:
    frame = response_frame({"plain-56": [1.0, 1.1, 0.9], "resnet-56": [0.5, 0.54, 0.46]})
    assert mean_responses(frame)["response_std"].tolist() == pytest.approx(
        [1.0, 1.1, 0.9, 0.5, 0.54, 0.46]
    )
    (said,) = on_responses(frame.assign(learnt=True))
    # Logarithms of 0.500, 0.491 and 0.511: -0.692 ± 0.0202, 2.484 times that on either side; Figure 7:
    # 1.13 / 1.51.
    assert said == (
        "At 56 layers, mean response of resnet-56 over plain-56: 0.50, 95 % [0.48, 0.53], n = 3; the "
        "paper's 0.75 (Figure 7, CIFAR-10). The paper's order: 50 % smaller."
    )
    # Settled and of next to no size: the sentence says the size.
    near = response_frame({"plain-56": [1.0, 1.0, 1.0], "resnet-56": [0.98, 0.981, 0.979]})
    assert on_responses(near)[0].endswith("The paper's order: 2 % smaller.")
    other = response_frame({"plain-56": [1.0, 1.0, 1.0], "resnet-56": [1.2, 1.21, 1.19]})
    assert on_responses(other)[0].endswith("Reversed here: 20 % larger.")
    assert on_responses(other)[-1].endswith("learnt was not kept with their responses.")


def test_responses_of_networks_that_have_not_learnt_stand_in_no_ratio() -> None:
    frame = response_frame({"plain-56": [1.0, 1.1, 0.9, 30.0], "resnet-56": [0.5, 0.54, 0.46, 0.5]})
    frame["learnt"] = (frame["network"] != "plain-56") | (frame["seed"] != 3)
    said = on_responses(frame)
    assert "plain-56: 0.50, 95 % [0.48, 0.53], n = 3;" in said[0]
    assert said[1:] == ["Not learnt, and in no ratio: plain-56 with seed 3."]


def test_responses_claim_nothing_where_seeds_disagree_or_are_few() -> None:
    apart = response_frame({"plain-20": [1.0, 1.0, 1.0], "resnet-20": [0.5, 1.5, 1.1]})
    assert on_responses(apart)[0].endswith("Not settled.")
    one = response_frame({"plain-20": [1.0], "resnet-20": [0.5], "resnet-56": [0.4]})
    said = on_responses(one)
    assert all("Too few seeds to say" in sentence for sentence in said[:2])
    assert "With depth, mean response of resnet-56 over resnet-20: 0.80" in said[1]
    wider = pd.concat([one, response_frame({"resnet-8": [0.1]})])
    assert "resnet-56 over resnet-20: 0.80" in on_responses(wider)[1], "20 layers are the shallow ones"
    alone = response_frame({"plain-20": [1.0]})
    assert on_responses(alone)[0] == "No two networks that share a seed: nothing can be compared."
    assert "nothing can be said" in on_responses(alone.iloc[:0])[0]


def test_weight_decay_alone_leaves_of_a_scale_what_sgd_leaves_without_a_gradient() -> None:
    run = store.read_study(DEEP.parents[1] / "depth-real").runs[0]
    recipe = run.config.recipe
    scale = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    chosen = {"lr": recipe.lr, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
    optimizer = torch.optim.SGD([scale], **chosen)
    for step in range(recipe.steps):
        optimizer.param_groups[0]["lr"] = config.lr_at(step, recipe, config.Events(None, ()))
        scale.grad = torch.zeros_like(scale)
        optimizer.step()
    assert left_by_decay(run) == pytest.approx(scale.item(), rel=1e-3) == pytest.approx(0.656, abs=1e-3)


def test_first_layers_norms_say_what_the_ratio_of_first_to_last_cannot() -> None:
    """All layers a millionth: the ratio is 1, the gradient is gone."""
    frame = pd.DataFrame(
        row | {"step": 0, "layer": layer}
        for name, value in (("plain-8", 1.0), ("plain-56", 1e-7), ("resnet-8", 2.0), ("resnet-56", 8.0))
        for row in valued(name, {0: value * 10, 1: value / 10})
        for layer in (0, 1)
    )
    assert all("healthy" in sentence for sentence in on_gradients(frame))
    plain, residual = on_first_layer_norms(frame)
    assert plain == (
        "Plain: the first layer's norm is 1 (8 layers), 1 × 10⁻⁷ (56 layers). "
        "From 8 to 56 layers it falls 1 × 10⁷ times, more than 100."
    )
    assert residual.endswith("it grows 4 times, within the ordinary.")
    assert on_first_layer_norms(frame.iloc[:0]) == [
        "No gradient norms measured yet: nothing can be said."
    ]
    assert on_first_layer_norms(frame[frame["depth"] == 8])[0].endswith("1 (8 layers).")


# --- the surface ------------------------------------------------------------------------------


def slice_of(loss, network="plain-56", reach=1.0, points=9):
    """The loss function on a square of points, as notebook 08 stores it."""
    ticks = [reach * (2 * i / (points - 1) - 1) for i in range(points)]
    depth = int(network.split("-")[1])
    who = {"study": "s", "run": network, "network": network, "depth": depth, "seed": 0}
    who |= {"family": "plain" if network.startswith("plain") else "residual"}
    return pd.DataFrame([who | {"x": x, "y": y, "loss": loss(x, y)} for x in ticks for y in ticks])


def test_a_bowl_has_one_minimum_and_waves_are_several():
    bowl = slice_of(lambda x, y: 0.1 + x * x + y * y, "resnet-56")
    (said,) = on_surfaces(bowl)
    inside = sum(0.1 + x * x + y * y <= 0.2 for x, y in zip(bowl["x"], bowl["y"], strict=True))
    assert said.startswith(
        "resnet-56, seed 0: loss 0.1 at the trained weights, 0.1 to 2.1 in the slice"
    )
    assert f"; {100 * inside / 81:.0f} % of it within twice" in said
    assert "1 local minimum." in said
    # cos has its minima at odd multiples of pi: x, y = -0.5 and 0.5 here
    waves = slice_of(lambda x, y: 3 + math.cos(2 * math.pi * x) + math.cos(2 * math.pi * y))
    assert "; 4 local minima." in on_surfaces(waves)[0]


def test_a_slice_with_holes_says_so():
    holes = slice_of(lambda x, y: math.inf if x > 0.9 else 1.0)
    assert "9 of 81 points are not finite" in on_surfaces(holes)[0]
    assert "nothing can be said" in on_surfaces(slice_of(lambda x, y: math.nan))[0]
    assert "nothing can be said" in on_surfaces(holes.iloc[:0])[0]


# --- one network under several conditions -----------------------------------------------------


def lengths(name: str, short: list[float], long: list[float]) -> list[dict[str, Any]]:
    return rows(name, dict(enumerate(short)), steps_planned=400, recipe="short") + rows(
        name, dict(enumerate(long)), steps_planned=1200, recipe="short (steps 1200)"
    )


def test_more_steps_are_judged_seed_by_seed_and_then_the_degradation_that_is_left() -> None:
    frame = table(
        lengths("plain-20", [1.0, 2.0, 3.0], [0.0, 1.0, 2.0]),
        lengths("plain-56", [60.0, 70.0, 80.0], [21.0, 30.0, 42.0]),
        lengths("resnet-20", [0.1, 0.0, 0.1], [0.0, 0.1, 0.1]),
    )
    said = on_more_steps(frame)
    assert said[0].startswith("plain-20: final training error 2.0 ± 1.0 % after 400 steps, 1.0 ± 1.0 %")
    assert said[0].endswith("n = 3. More steps help.")
    assert "resnet-20" in said[1]
    assert said[1].endswith("Less than 1 point, with 95 % confidence.")
    # -39, -40, -38
    assert "the longer minus the shorter -39.0 ± 1.0 points" in said[2]
    assert said[3].startswith(
        "After 1,200 steps: Final training error of plain-56 minus plain-20: +30.0"
    )
    assert "The paper's order: the deeper one is worse" in said[3]
    assert on_more_steps(frame.sample(frac=1, random_state=1)) == said


CLIP = "short (clip 1.0)"
CLIPPED = table(
    rows("plain-20", {1: 2.0, 2: 3.0, 3: 4.0, 4: 90.0}),  # seed 4 stands in no pair
    rows("plain-44", {1: 12.0, 2: 14.0, 3: 13.0}),  # deep minus shallow: 10, 11, 9
    rows("plain-8", {1: 50.0, 2: 51.0, 3: 52.0}),  # not in the other study
    rows("plain-20", {1: 1.0, 2: 2.0, 3: 3.0}, recipe=CLIP, study="clip"),
    rows("plain-44", {1: 4.0, 2: 6.0, 3: 5.0}, recipe=CLIP, study="clip"),  # 3, 4, 2
)


def test_a_clipped_study_is_paired_with_the_same_without_by_seed() -> None:
    found = "\n".join(on_recipes(CLIPPED))
    assert (
        f"plain-20: final training error 3.0 ± 1.0 % by short and 2.0 ± 1.0 % by {CLIP}; the "
        "second minus the first -1.00 ± 0.00 points (mean ± standard deviation), 95 % [-1.00, -1.00], "
        "n = 3. Lower."
    ) in found
    assert "plain-44: final training error 13.0 ± 1.0 % by short and 5.0 ± 1.0 % by" in found
    # What depth costs under each, over shared seeds and depths, and how much of it the other leaves.
    assert (
        "Final training error of plain-44 minus plain-20: +10.0 ± 1.0 points (mean ± standard "
        "deviation), 95 % [+7.5, +12.5], n = 3 by short; +3.00 ± 1.00 points (mean ± standard "
        f"deviation), 95 % [+0.52, +5.48], n = 3 by {CLIP}; the second minus the first "
        "-7.00 ± 0.00 points"
    ) in found
    assert "Final test error of plain-44 minus plain-20:" in found
    assert f"By {CLIP}: Final training error of plain-44 minus plain-20: +3.00 ± 1.00 points" in found
    assert "By short: Final training error of plain-44 minus plain-20" in found  # 20 stands for shallow
    assert answers(CLIPPED) == on_recipes(CLIPPED)


def test_the_shorter_label_is_the_base_whichever_has_more_runs() -> None:
    few = table(rows("plain-20", {1: 5.0}), rows("plain-20", {1: 4.0, 2: 4.0, 3: 4.0}, recipe=CLIP))
    (_, _, *rest) = found = on_recipes(few)
    assert found[0] == (
        f"plain-20: final training error 5.0 % by short and 4.0 % by {CLIP}; the second minus the "
        "first -1.00 points, n = 1. Too few seeds to say: 3 are needed."
    )
    assert not [sentence for sentence in rest if "minus plain" in sentence]


def test_what_clipping_leaves_open_is_said_to_be_open() -> None:
    open_ended = table(
        rows("plain-20", {1: 2.0, 2: 3.0, 3: 4.0}),
        rows("plain-20", {1: 8.0, 2: 1.0, 3: 6.0}, recipe=CLIP),
        rows("plain-32", {1: 2.0, 2: 3.0, 3: 4.0}),
        rows("plain-32", {1: 2.1, 2: 3.1, 3: 4.1}, recipe=CLIP),
    )
    found = on_recipes(open_ended)
    assert "These seeds do not settle it." in found[0]
    assert any(
        sentence.startswith("plain-32: final training") and "Less than 1 point" in sentence
        for sentence in found
    )


def test_a_study_whose_partner_has_not_ended_says_so_and_goes_on() -> None:
    for status in ("running", "diverged"):
        partner = rows("plain-44", {1: 9.0}, recipe=CLIP, status=status)
        found = answers(table(rows("plain-20", {1: 2.0}), rows("plain-44", {1: 8.0}), partner))
        assert f"By {CLIP}: No finished run yet: nothing can be said." in found
        assert any(one.startswith("By short: Final training error of plain-44") for one in found)


def test_only_networks_of_both_studies_are_set_against_each_other() -> None:
    """The same depth is not yet the same network."""
    end = rows("resnet-44", {1: 3.0}, recipe=CLIP, network="resnet-44-zeros-end")
    base = [rows(name, {1: 2.0}) for name in ("resnet-20", "resnet-44")]
    found = on_recipes(table(*base, end, rows("resnet-20", {1: 2.0}, recipe=CLIP)))
    assert not [
        sentence for sentence in found if "resnet-44 minus" in sentence and " by short;" in sentence
    ]


def test_two_recipes_are_set_against_one_another_on_the_error_that_is_asked_for() -> None:
    frame = pd.concat(
        table(rows(name, errors, recipe=recipe))
        for recipe, by_name in (
            (
                "paper-400",
                {"plain-20": {0: 1.0, 1: 1.0, 2: 1.0}, "plain-56": {0: 61.0, 1: 62.0, 2: 63.0}},
            ),
            (CLIP, {"plain-20": {0: 1.0, 1: 1.0, 2: 1.0}, "plain-56": {0: 11.0, 1: 12.0, 2: 13.0}}),
        )
        for name, errors in by_name.items()
    )
    shallow, deep, cost = between_recipes(frame, "paper-400", CLIP, ["train_error"])
    assert "+0.00 ± 0.00" in shallow
    assert (
        f"plain-56: final training error 62.0 ± 1.0 % by paper-400 and 12.0 ± 1.0 % by {CLIP}" in deep
    )
    assert "the second minus the first -50.0 ± 0.0 points" in deep
    assert cost.startswith("Final training error of plain-56 minus plain-20: +61.0 ± 1.0 points")
    assert "n = 3 by paper-400; +11.0 ± 1.0 points" in cost


def test_the_warm_up_of_110_layers_is_no_second_recipe() -> None:
    """figure-6: paper-110 counts as paper, so that 110 layers are compared with 20."""
    seeds = {1: 1.0, 2: 1.1, 3: 1.2}
    found = answers(
        table(
            rows("resnet-20", seeds, recipe="paper"),
            rows("resnet-110", {1: 0.1, 2: 0.2, 3: 0.3}, recipe="paper-110"),
        )
    )
    assert "Final training error of resnet-110 minus resnet-20: -0.90" in found[0]
    assert "resnet-110 begins with the warm-up that the paper gives it (Sec. 4.2)" in found[-1]


def test_depth_is_told_on_every_error_with_its_interval() -> None:
    found = depth_effects(DEGRADED)
    assert list(found["error"]) == 2 * ["training", "clean training", "test"]
    plain, residual = found[found["family"] == "plain"], found[found["family"] == "residual"]
    assert set(zip(plain["deep"], plain["shallow"], strict=True)) == {("plain-56", "plain-20")}
    assert plain["mean"].tolist() == [10.0, 10.0, 10.0]
    assert plain["low"].tolist() == pytest.approx([10 - 4.303 / math.sqrt(3)] * 3, abs=1e-3)
    assert residual["high"].tolist() == pytest.approx([-0.6 + 4.303 * 0.1 / math.sqrt(3)] * 3, abs=1e-3)
    one = depth_effects(table(rows("plain-20", {0: 1.0}), rows("plain-56", {0: 4.0})))
    assert one["mean"].tolist() == [3.0] * 3
    assert one[["sd", "low", "high"]].isna().all(axis=None)
    assert depth_effects(table()).empty
    assert depth_effects(table(rows("plain-20", {0: 1.0}))).empty


def test_an_interval_that_ends_near_zero_shows_on_which_side() -> None:
    found = Contrast("a", "b", (-0.8, -0.9, -1.0, -0.7, -1.1))
    assert str(found).startswith("-0.90 ± 0.16 points")
    assert "95 % [-1.10, -0.70]" in str(found)
    assert "-12.0 ± 0.0" in str(Contrast("a", "b", (-12.0, -12.0)))


def test_networks_with_the_zeros_elsewhere_are_compared_with_no_other() -> None:
    both = table(
        rows("resnet-20", {1: 2.0}, network="resnet-20-zeros-end"),
        rows("resnet-20", {1: 3.0}),
        rows("resnet-44", {1: 1.0}),
    )
    assert "resnet-44 minus resnet-20:" in "".join(on_degradation(both))


def test_other_data_or_precision_is_never_paired() -> None:
    mixed = table(rows("plain-20", {1: 2.0}), rows("plain-20", {1: 3.0}, recipe=CLIP, data="cifar10"))
    assert answers(mixed) == [
        "These runs differ in data set, recipe or precision; choose one of each for a verdict."
    ]


def test_too_few_lengths_seeds_or_agreement_claim_nothing_of_more_steps() -> None:
    one = table(rows("plain-56", {0: 1.0}))
    assert on_more_steps(one) == ["All runs have 300 steps: nothing to compare them with."]
    assert on_more_steps(one.iloc[:0]) == ["No finished run yet: nothing can be said."]
    assert "Too few seeds to say" in on_more_steps(table(lengths("plain-56", [60.0], [20.0])))[0]
    apart = on_more_steps(table(lengths("plain-56", [60.0, 20.0, 30.0], [20.0, 60.0, 31.0])))
    assert "These seeds do not settle it." in apart[0]
    worse = on_more_steps(table(lengths("plain-56", [20.0, 21.0, 22.0], [60.0, 62.0, 61.0])))
    assert "More steps made it worse." in worse[0]


def in_precisions(**errors: list[float]) -> pd.DataFrame:
    return table(
        *(rows("plain-56", dict(enumerate(own)), precision=name) for name, own in errors.items())
    )


def test_a_failure_in_float64_is_not_rounding_and_what_rounding_adds_is_paired() -> None:
    frame = in_precisions(bf16=[90.0, 80.0, 85.0], fp32=[61.0, 50.0, 56.0], fp64=[60.0, 50.0, 55.0])
    head, single, half = on_precisions(frame)
    assert head == (
        "plain-56: final training error 55.0 ± 5.0 % in fp64, 55.7 ± 5.5 % in fp32, 85.0 ± 5.0 % in "
        "bf16. It fails in fp64 too (+55.0, 95 % [+42.6, +67.4]): rounding is not what makes it fail."
    )
    assert single.startswith("plain-56, fp32 minus fp64: +0.67 ± 0.58 points")
    assert single.endswith("What rounding adds, these seeds do not settle.")  # so no share of it
    assert half.startswith("plain-56, bf16 minus fp64: +30.0 ± 0.0 points")
    assert half.endswith("Rounding adds to the error. Of the error in bf16, 65 % is there in fp64.")


def test_seeds_that_only_one_precision_has_do_not_move_the_share() -> None:
    frame = in_precisions(fp64=[10.0, 10.0, 10.0], fp32=[20.0, 20.0, 20.0, 99.0])
    assert "Of the error in fp32, 50 % is there in fp64." in on_precisions(frame)[1]
    lucky = in_precisions(fp64=[60.0, 61.0, 62.0], fp32=[50.0, 51.0, 50.0])
    assert on_precisions(lucky)[1].endswith(
        "In fp32 the error is lower. Of the error in fp32, all is there in fp64."
    )


def test_errors_side_by_side_are_of_the_same_seeds() -> None:
    """57 from five seeds, 41 from three and a difference of three beside them do not add up."""
    frame = in_precisions(fp64=[40.0, 41.0, 42.0], fp32=[42.0, 43.0, 44.0, 80.0, 90.0])
    head, pair = on_precisions(frame)[:2]
    assert "41.0 ± 1.0 % in fp64, 43.0 ± 1.0 % in fp32 (3 seeds that all have)" in head
    assert "fp32 minus fp64: +2.00" in pair


def test_precisions_claim_nothing_without_float64_seeds_or_a_failure() -> None:
    assert "Without runs in fp64" in on_precisions(in_precisions(fp32=[60.0, 60.0, 60.0]))[0]
    few = on_precisions(in_precisions(fp64=[60.0], fp32=[61.0]))
    assert all("Too few seeds" in sentence for sentence in few)
    fine = on_precisions(in_precisions(fp64=[0.1, 0.1, 0.2], fp32=[0.1, 0.2, 0.1]))
    assert fine[0].endswith("In fp64 it does not fail (+0.13, 95 % [-0.01, +0.28]).")
    assert fine[1].endswith("Less than 1 point, with 95 % confidence: rounding adds no more.")
    wide = on_precisions(in_precisions(fp64=[0.0, 90.0, 3.0]))
    assert wide[0].endswith("Whether it fails in fp64, these seeds do not settle.")
    assert on_precisions(table()) == ["No finished run yet: nothing can be said."]


def error_frame(*parts: tuple[str, str, float, float]) -> pd.DataFrame:
    """Three layers a network: error, ten times less and ten times more, over two seeds 4x apart."""
    return pd.DataFrame(
        row | {"arithmetic": way, "layer": layer, "relative": row["value"] * factor, "norm": norm}
        for name, way, error, norm in parts
        for row in valued(name, {0: error / 2, 1: error * 2})
        for layer, factor in enumerate((1.0, 0.1, 10.0))
    ).drop(columns="value")


def test_rounding_is_the_median_over_layers_and_the_geometric_mean_over_seeds() -> None:
    frame = error_frame(
        ("plain-20", "fp32", 1e-6, 1e-7),
        ("plain-56", "fp32", 0.08, 0.001),
        ("resnet-56", "fp32", 2e-6, 1e-7),
        ("plain-56", "bf16", 1.4, 0.03),
        ("resnet-56", "bf16", 0.28, 0.01),
    )
    assert median_errors(frame)["relative"].tolist()[:2] == pytest.approx([5e-7, 2e-6])
    single, half = on_rounding(frame)
    assert single == (
        "fp32: plain 0.0001 % (20 layers), 8 % (56 layers); residual 0.0002 % (56 layers). "
        "At 56 layers plain over residual: 40,000 times."
    )
    assert half == (
        "bf16: plain 140 % (56 layers); residual 28 % (56 layers). At 56 layers plain over residual: "
        "5 times. Cosine where the error is as large as the gradient: plain with 56 layers 0.02 (norms "
        "off by 3 %)."
    )
    alone = on_rounding(frame[frame["family"] == "plain"])
    assert "over residual" not in alone[0]
    assert on_rounding(frame.iloc[:0]) == ["No gradient error measured yet: nothing can be said."]


# --- the constructed solution, the dial, the lesion ---------------------------------------------


def test_the_same_function_is_said_with_its_numbers() -> None:
    frame = pd.DataFrame(
        {"network": "plain-20", "built": "plain-56", "seed": seed, "which": which}
        | {"error": 2.0 + seed, "logits": {"before": 0.0, "after": 3e-6, "disturbed": 0.5}[which]}
        for seed in (0, 1)
        for which in ("before", "after", "disturbed")
    )
    assert on_same_function(frame) == [
        "plain-20 as plain-56 (2 seeds): a logit changes by 3 × 10⁻⁶ at most; test errors equal "
        "(2.00, 3.00 %). With one added weight disturbed a logit changes by 0.5 or more."
    ]
    frame.loc[frame["which"] == "after", "error"] += 0.25
    assert "test errors up to 0.25 points apart" in on_same_function(frame)[0]
    assert on_same_function(frame.iloc[:0]) == ["Nothing was built: nothing can be said."]


def went_on(
    errors: dict[float, list[float]], peaks: float = 1.0, family: str = "plain"
) -> pd.DataFrame:
    return pd.DataFrame(
        {"family": family, "lr": lr, "seed": seed, "train_error_clean": error, "source": "plain-20"}
        | {"start_train_error_clean": 0.5, "peak_train_error": max(error, peaks)}
        | {"shallow_train_error_clean": 0.25}
        for lr, values in errors.items()
        for seed, error in enumerate(values)
    )


def test_what_was_kept_is_counted_by_family_and_rate() -> None:
    low, high, summary = on_kept(went_on({0.01: [0.5, 0.4, 0.6], 0.1: [0.0, 90.0, math.nan]}))
    assert low.startswith("Plain, rate 0.01: kept by 3 of 3 seeds; training error at the end 0.5, 0.4,")
    assert high.startswith("Plain, rate 0.1: kept by 1 of 3 seeds;")
    assert "0.0, 90.0, diverged %" in high
    assert high.endswith("on the way. Without the added layers: 0.2, 0.2, 0.2 %.")
    assert summary == "The solution exists, and SGD left it: plain networks at rate 0.1 (2 of 3)."
    assert kept(went_on({0.1: [0.0, 90.0, math.nan, 1.5]})).tolist() == [True, False, False, False]


def test_a_rate_at_which_the_shallow_network_is_lost_too_is_said() -> None:
    frame = went_on({0.1: [30.0, 40.0, 50.0]}).assign(shallow_train_error_clean=[20.0, 0.5, 0.5])
    assert on_kept(frame)[-1].endswith("at rate 0.1 (every seed; the shallow one left its own too).")
    without = on_kept(frame.drop(columns="shallow_train_error_clean"))
    assert "ithout the added layers" not in " ".join(without)


def test_lost_and_found_again_is_lost_and_few_seeds_are_said() -> None:
    found = on_kept(went_on({0.1: [0.5, 0.5, 0.5]}, peaks=30.0))
    assert found[0].startswith("Plain, rate 0.1: kept by 0 of 3")
    assert "at most 30.0 % on the way." in found[0]
    assert found[-1].endswith("plain networks at rate 0.1 (every seed).")
    calm = on_kept(went_on({0.1: [0.5]}))
    assert calm[-1].startswith("SGD kept the solution at every rate tried. Too few seeds to say more")
    assert on_kept(went_on({}))[0] == "Nothing was trained on: nothing can be said."


def turned(errors: dict[float, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        {"scale": scale, "seed": seed, "train_error_clean": error}
        for scale, values in errors.items()
        for seed, error in enumerate(values)
    )


def test_enough_shortcut_is_where_all_larger_ones_are_as_good_as_the_whole() -> None:
    errors = {0.0: [70.0, 60, 80], 0.25: [75.0, 65, 85], 0.5: [0.1, 9, 0], 0.75: [0.3, 0.2, 0.1]}
    said = on_dial(turned(errors | {1.0: [0.1, 0.1, 0.1]}))
    assert said[0].startswith("Clean training error in percent, 3 seeds: 70.0 ± 10.0 (a = 0), ")
    assert said[1] == (
        "The mean does not only fall: it rises from a = 0 to 0.25 by +5.00, 95 % [+5.00, +5.00]."
    )
    assert said[2].startswith("Minus a = 0, seed by seed, in points: a = 0.25 +5.00, ")
    assert said[3].endswith("a = 0.75 +0.10, 95 % [-0.15, +0.35].")  # 0.2, 0.1, 0.0
    assert said[4] == "From a = 0.75 on it is within 1 point of a = 1, with 95 % confidence."
    unsure = on_dial(turned({0.75: [0.0, 5.0, 0.0], 1.0: [0.0, 0.0, 0.0]}))
    assert (
        unsure[-1] == "No scale below 1 is within 1 point of the full shortcut, with 95 % confidence."
    )
    assert "Too few seeds" in on_dial(turned({0.5: [3.0], 1.0: [0.0]}))[-1]
    assert "nothing can be compared" in on_dial(turned({0.5: [3.0, 2.0, 1.0]}))[-1]
    assert on_dial(turned({})) == ["No scaled shortcuts trained yet: nothing can be said."]


def test_lesions_are_said_in_points_by_network() -> None:
    frame = pd.DataFrame(
        {"depth": 56, "family": "residual", "network": "resnet-56", "seed": seed, "blocks": 27}
        | {"removed": removed, "place": place, "intact_error": 2.0, "test_error": 2.0 + points + seed}
        for seed in (0, 1)
        for removed, place, points in (
            (1, 0, 12.0),
            (1, 1, -1.0),
            (1, 2, 1.0),
            (4, 0, 5.0),
            (4, 1, 7.0),
        )
    )
    single, several = on_lesions(frame)
    assert single == (
        "resnet-56 (2 seeds): without one of its 27 blocks -0.5 to +12.5 points of test error (means "
        "over seeds), median +1.5; most without block 1."
    )
    assert several == (
        "resnet-56: +6.5 ± 0.7 without 4 at random (2 seeds, each the mean of its draws)."  # 6 and 7
    )
    assert on_lesions(frame.iloc[:0]) == ["No block was removed: nothing can be said."]
