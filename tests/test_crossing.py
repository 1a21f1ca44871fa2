"""From which step on the deeper network is ahead: by the definition, step by step, and in the paper."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetlab import config, paper, plots, store
from resnetlab.verdict import Lead, lead, on_crossing, papers_lead

ERRORS = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@given(ERRORS, ERRORS)
def test_from_that_step_on_it_is_nowhere_above_and_just_before_it_was(
    deep: list[int], shallow: list[int]
) -> None:
    n = min(len(deep), len(shallow))
    one, other = (pd.Series(map(float, errors[:n]), index=range(n)) for errors in (deep, shallow))
    found = lead(one, other)
    assert (found is None) == (deep[n - 1] >= shallow[n - 1])
    if found:
        step = int(found.step)
        assert deep[step] < shallow[step]
        assert all(deep[k] <= shallow[k] for k in range(step, n))
        assert found.crossed == any(deep[k] > shallow[k] for k in range(n))
        before = next((k for k in reversed(range(step)) if deep[k] != shallow[k]), None)
        assert before is None or deep[before] > shallow[before]


def test_curves_with_other_steps_are_compared_where_both_are_known() -> None:
    shallow = pd.Series([30.0, 20.0, 10.0], index=[100, 200, 300])
    deep = pd.Series([90.0, math.nan, 24.0, 16.0, 8.0, 99.0], index=[50, 120, 150, 250, 290, 310])
    assert lead(deep, shallow) == Lead(290, crossed=True), "26 and 15 between; 310 is beyond the end"
    assert lead(deep.loc[:50], shallow) is None, "no step in common"


def runs(network: str, seed: int, errors: list[float], status: str = "finished") -> pd.DataFrame:
    asked = config.Network.from_name(network)
    who = {"network": network, "depth": asked.depth, "shortcut": asked.shortcut, "seed": seed}
    steps = range(100, 100 * len(errors) + 1, 100)
    return pd.DataFrame({"step": steps, "train_error": errors, "status": status, **who})


def test_seeds_are_counted_and_only_finished_pairs() -> None:
    slow = [runs("resnet-20", seed, [50, 40, 30, 20]) for seed in (1, 2, 3, 4, 5)]
    deep = [
        runs("resnet-44", 1, [60, 30, 20, 10]),
        runs("resnet-44", 2, [60, 50, 20, 10]),
        runs("resnet-44", 3, [60, 50, 20, 30]),
        runs("resnet-44", 4, [40, 30, 20, 10], "diverged"),
        runs("plain-44", 5, [40, 30, 20, 10]),
    ]
    said, apart, papers = on_crossing(pd.concat([*slow, *deep]))
    assert said == (
        "resnet-44 stays below resnet-20 in running training error to the end with 2 of 3 seeds, from "
        "step 200 … 300 on (50 % … 75 % of the steps)."
    )
    assert apart == "resnet-44 minus resnet-20 in points, mean over 3 seeds: -3.33 over the last tenth."
    assert papers == (
        "The paper's resnet-44 stays below its resnet-20 from step 2,989 on, 4.7 % of its steps; that "
        "is the first step at which they can be told apart (Figure 6, CIFAR-10)."
    )
    (none,) = on_crossing(pd.concat(slow))
    assert none.startswith("Fewer than two depths")
    assert on_crossing(store.metrics_of([])) == [none], "a run that has only begun"
    said, *_ = on_crossing(pd.concat([slow[2], deep[2]]))
    assert said.endswith("with 0 of 1 seed.")


def test_a_deeper_network_that_is_behind_has_its_distance_at_every_rate() -> None:
    """Means over seeds of the tenths that end at the first, before each fall of the rate, and last."""
    rate = [0.1] * 10 + [0.01] * 5 + [0.001] * 5
    behind = [9.0, 8.0, *range(8, 0, -1), *[1.0] * 5, *[0.5] * 4, 0.25]
    slow = [runs("resnet-20", seed, [20.0] * 20).assign(lr=rate) for seed in (1, 2)]
    deep = [
        runs("resnet-44", seed, [20 + far + more for far in behind]).assign(lr=rate)
        for seed, more in ((1, 0.0), (2, 1.0))
    ]
    _, apart, _ = on_crossing(pd.concat([*slow, *deep]))
    assert apart == (
        "resnet-44 minus resnet-20 in points, mean over 2 seeds: +9.00 over the first tenth of the "
        "steps, +2.00 over the tenth before the rate falls at step 1,000, +1.50 over the tenth before "
        "the rate falls at step 1,500, +0.88 over the last tenth."
    )
    by_plateau = deep[1].assign(lr=[0.1] * 12 + [0.01] * 8)
    _, apart, _ = on_crossing(pd.concat([*slow, deep[0], by_plateau]))
    assert "rate" not in apart, "it falls elsewhere with each seed"
    first, *_ = on_crossing(pd.concat([*slow, *(one.assign(train_error=10.0) for one in deep)]))
    ahead = on_crossing(pd.concat([*slow, *(one.assign(train_error=10.0) for one in deep)]))
    assert "2 of 2 seeds" in first
    assert not any("minus" in one for one in ahead), "ahead with every seed"


@pytest.mark.parametrize("study", ["digits", "depth-real"])
def test_the_committed_studies_have_a_sentence(study: str) -> None:
    assert "stays below" in on_crossing(store.metrics_of(store.find_study(study).runs))[0]


def test_the_papers_crossings_are_ringed_where_its_curves_cross() -> None:
    figure = plots.paper_error_curves()
    rings = {t.hovertemplate.split(",")[0]: t for t in figure.data if t.mode == "markers"}
    found = {name: papers_lead(name, "resnet-20") for name in ("resnet-32", "resnet-56", "resnet-110")}
    assert set(rings) == set(found), "resnet-44 is ahead wherever both can be read"
    for name, ring in rings.items():
        lead_of, line = found[name], paper.curve(name, "train_error")
        assert lead_of is not None
        assert line is not None
        assert ring.x == (lead_of.step,)
        assert (ring.x[0], ring.y[0]) in set(zip(line.x, line.y, strict=True))
    (ring,) = (
        t for t in plots.paper_error_curves(["resnet-18", "resnet-34"]).data if t.mode == "markers"
    )
    assert ring.x == (19877,)
    assert papers_lead("plain-34", "plain-18") is None
    assert papers_lead("resnet-26", "resnet-20") is None
