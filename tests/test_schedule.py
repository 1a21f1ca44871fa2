"""The learning rate of every recipe as a table, and the two rules that look at errors."""

import itertools
import json
import math

import pytest

from resnetlab import config, paper
from resnetlab.config import RECIPES, Events, UsageError, lr_at
from resnetlab.config.schedule import Schedule, stretches, warm_up_mistakes
from resnetlab.config.schedule import tests_without_progress as without_progress

WARM, DROPS = Events(warm_until=paper.WARM_UNTIL), Events(drops=paper.FIGURE_4_DROPS)

# recipe, what its run's errors decided -> (step, rate) on both sides of every change
TRACES = {
    # Sec. 4.2: "0.1, divided by 10 at 32k and 48k, terminate at 64k"
    "paper": (Events(), [(0, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001)]),
    # Sec. 4.2: 0.01 until the training error is below 80 % (about 400 iterations), then as before
    "paper-110": (
        WARM,
        [(0, 0.01), (399, 0.01), (400, 0.1), (31_999, 0.1), (32_000, 0.01), (48_000, 0.001)],
    ),
    # a tenth from a half of the steps, a hundredth from three quarters, as above
    "paper-16k": (Events(), [(0, 0.1), (7_999, 0.1), (8_000, 0.01), (11_999, 0.01), (12_000, 0.001)]),
    "paper-8k": (Events(), [(0, 0.1), (3_999, 0.1), (4_000, 0.01), (5_999, 0.01), (6_000, 0.001)]),
    "imagenet-tiny": (
        Events(),
        [(0, 0.1), (1_999, 0.1), (2_000, 0.01), (2_999, 0.01), (3_000, 0.001)],
    ),
    "short": (Events(), [(0, 0.1), (1_599, 0.1), (1_600, 0.01), (2_399, 0.01), (2_400, 0.001)]),
    "paper-400": (Events(), [(0, 0.1), (199, 0.1), (200, 0.01), (299, 0.01), (300, 0.001)]),
    # what it says: later drops, for the sake of one network
    "tuned-on-resnet-56": (
        Events(),
        [(0, 0.1), (349, 0.1), (350, 0.01), (379, 0.01), (380, 0.001)],
    ),
    # Sec. 3.4, Figure 4: drops between 15.0 and 15.5 and between 30.0 and 30.5 x 10^4
    "imagenet": (
        DROPS,
        [(0, 0.1), (149_999, 0.1), (150_000, 0.01), (299_999, 0.01), (300_000, 0.001)],
    ),
    "imagenet-small": (Events(), [(199, 0.1), (200, 0.01), (299, 0.01), (300, 0.001)]),
}


def test_every_recipe_has_a_trace():
    assert set(TRACES) == set(RECIPES)


@pytest.mark.parametrize("name", TRACES)
def test_the_rate_of_every_recipe(name):
    events, trace = TRACES[name]
    last = RECIPES[name].steps - 1
    for step, rate in [*trace, (last, 0.001)]:
        assert lr_at(step, RECIPES[name], events) == rate, step


@pytest.mark.parametrize("name", TRACES)
def test_stretches_cover_the_run_and_agree_with_lr_at(name):
    recipe, events = RECIPES[name], TRACES[name][0]
    found = stretches(recipe, events)
    assert found[0].step == 0
    assert found[-1].until == recipe.steps
    for before, after in itertools.pairwise(found):
        assert before.until == after.step
        assert before.lr != after.lr
    for stretch in found:
        for step in (stretch.step, stretch.until - 1):
            assert lr_at(step, recipe, events) == stretch.lr


def test_a_milestone_during_the_warm_up_shows_when_it_is_over():
    recipe = RECIPES["paper-110"].replace(steps=10, milestones=(4, 8))
    found = stretches(recipe, Events(warm_until=6))
    # 0.01 until 6; then 0.1 divided once, by the milestone at 4: the same 0.01
    assert [tuple(stretch[:3]) for stretch in found] == [(0, 8, 0.01), (8, 10, 0.001)]


# --- the warm-up of 110 layers ----------------------------------------------------------------

WARMED = RECIPES["paper-110"]  # 100 steps of 128 images, below 80 %
LIMIT = 10_240  # wrong images of 12,800 that are exactly 80 %


def follow(schedule, wrong, start=0):
    """Feed the wrong images of each step; the step at which the warm-up ended, or None."""
    for step, count in enumerate(wrong, start + 1):
        schedule.after_step(step, count)
    return schedule.events.warm_until


def falling(steps):
    """90 % wrong, falling by one image every third step: a scripted error sequence."""
    return [115 - step // 3 for step in range(steps)]


def by_hand(wrong, window=100, limit=LIMIT):
    return next(n for n in range(window, len(wrong) + 1) if sum(wrong[n - window : n]) < limit)


def test_the_warm_up_ends_at_the_first_step_whose_running_error_is_below_80():
    wrong = falling(300)
    expected = by_hand(wrong)
    assert 100 <= expected < 200
    assert follow(Schedule(WARMED), wrong[: expected - 1]) is None
    schedule = Schedule(WARMED)
    assert follow(schedule, wrong) == expected
    assert schedule.lr(expected - 1) == 0.01
    assert schedule.lr(expected) == 0.1
    assert not schedule.warming


def test_exactly_80_percent_is_not_below_80():
    at_limit = [103] * 40 + [102] * 60  # 10,240
    assert sum(at_limit) == LIMIT
    assert follow(Schedule(WARMED), at_limit) is None
    assert follow(Schedule(WARMED), [*at_limit[:-1], 101]) == 100


def test_the_window_must_be_full_and_one_good_batch_is_not_enough():
    assert follow(Schedule(WARMED), [0] * 99) is None
    assert follow(Schedule(WARMED), [0] * 100) == 100
    assert follow(Schedule(WARMED), [115] * 150 + [0] + [115] * 99) is None


def test_regression_the_rate_is_restored_after_the_warm_up():
    """A known implementation sets 0.01 by hand and never returns: 110 layers train at 0.01."""
    schedule = Schedule(WARMED)
    follow(schedule, [0] * 100)
    assert {schedule.lr(step) for step in range(100, 32_000)} == {0.1}


def test_regression_the_rate_at_32k_is_not_taken_from_the_warm_up_rate():
    """A known implementation divides 0.01 by 10 at 32k: 0.001 where the paper has 0.01."""
    schedule = Schedule(WARMED)
    follow(schedule, [0] * 100)
    assert [schedule.lr(step) for step in (31_999, 32_000, 47_999, 48_000)] == [0.1, 0.01, 0.01, 0.001]


@pytest.mark.parametrize("stop", [0, 1, 50, 99, 100, 120, 150, 200])
def test_resumed_in_the_middle_it_decides_the_same_step(stop):
    wrong = falling(300)
    first = Schedule(WARMED)
    follow(first, wrong[:stop])
    state = json.loads(json.dumps(first.state()))
    resumed = Schedule(WARMED)
    resumed.restore(state)
    assert follow(resumed, wrong[stop:], stop) == by_hand(wrong)
    assert resumed.state() == _whole(wrong).state()


def _whole(wrong):
    schedule = Schedule(WARMED)
    follow(schedule, wrong)
    return schedule


def test_a_fixed_number_of_steps_does_not_look_at_errors():
    schedule = Schedule(WARMED.replace(warmup_steps=400))
    assert not schedule.warming
    assert follow(schedule, [0] * 200) is None
    assert (schedule.lr(399), schedule.lr(400)) == (0.01, 0.1)


def test_a_recipe_without_warm_up_follows_nothing():
    schedule = Schedule(config.PAPER)
    assert not schedule.warming
    follow(schedule, [0] * 200)
    schedule.after_test(500, 1.0)
    assert schedule.events == Events()
    assert schedule.state()["recent"] == []


# --- the plateau ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "count"),
    [
        ([], 0),
        ([50.0], 0),
        ([50.0, 49.0, 48.0], 0),
        ([50.0, 50.0, 50.0], 2),
        ([50.0, 49.95, 49.95], 2),  # less than the margin of 0.1
        ([50.0, 49.96, 49.92, 49.88], 0),  # but a slow descent adds up: 0.12 below the best
        ([50.0, 60.0, 49.0], 0),
        ([50.0, math.nan, math.nan], 2),
        ([math.nan, 50.0, 51.0], 1),
        ([50.0, math.inf], 1),
    ],
)
def test_tests_without_progress(errors, count):
    assert without_progress(errors, 0.1) == count


def test_progress_of_exactly_the_margin_counts():
    assert without_progress([50.0, 49.5], 0.5) == 0
    assert without_progress([50.0, 50.0], 0.0) == 1  # no margin: equal is still no progress


def test_the_rate_falls_at_plateaus_and_at_most_so_many_times():
    recipe = RECIPES["imagenet"]  # five tests, 0.1 points, twice
    schedule = Schedule(recipe)
    errors = [60.0, 50.0, *[50.0] * 5, 30.0, *[30.0] * 5, *[30.0] * 20]
    for test, error in enumerate(errors, 1):
        schedule.after_test(5_000 * test, error)
    # the fifth test in a row without progress is the 7th; a new best begins a new count
    assert schedule.events.drops == (35_000, 65_000)
    assert [schedule.lr(step) for step in (34_999, 35_000, 64_999, 65_000)] == [0.1, 0.01, 0.01, 0.001]
    assert schedule.lr(599_999) == 0.001


def test_the_first_test_after_a_drop_is_a_new_best():
    """Errors after a drop are not held against the best one before it."""
    schedule = Schedule(RECIPES["imagenet"].replace(plateau_patience=2))
    for test, error in enumerate([10.0, 20.0, 20.0, 40.0, 30.0], 1):
        schedule.after_test(test, error)
    assert schedule.events.drops == (3,)


def test_errors_that_are_not_numbers_are_a_plateau():
    schedule = Schedule(RECIPES["imagenet"])
    for test in range(1, 6):
        schedule.after_test(test, math.nan)
    assert schedule.events.drops == (5,)


def test_resumed_between_tests_the_plateau_is_the_same():
    errors = [60.0, 50.0, *[50.0] * 5, 30.0, *[30.0] * 5]
    for stop in range(len(errors)):
        first = Schedule(RECIPES["imagenet"])
        for test, error in enumerate(errors[:stop], 1):
            first.after_test(test, error)
        second = Schedule(RECIPES["imagenet"])
        second.restore(json.loads(json.dumps(first.state())))
        for test, error in enumerate(errors[stop:], stop + 1):
            second.after_test(test, error)
        assert second.events.drops == (7, 13)


# --- the warm-up's two known mistakes ----------------------------------------------------------


def followed(parts):
    """The rate of every step of a timeline."""
    return [part.lr for part in parts for _ in range(part.step, part.until)]


def test_the_mistakes_are_what_trainers_that_make_them_do():
    """Both spelt out, one with torch's own scheduler, on a hundredth of the paper's schedule."""
    import torch

    recipe, events = config.PAPER_110.shrink(640), Events(warm_until=4)
    found = warm_up_mistakes(recipe, events)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(recipe.milestones), gamma=0.1)
    (group,) = optimizer.param_groups
    group["lr"] = recipe.warmup_lr  # by hand, and nobody puts it back
    never = []
    for _ in range(recipe.steps):
        never.append(group["lr"])
        optimizer.step()
        scheduler.step()
    assert followed(found["never restored"]) == pytest.approx(never, rel=1e-12)

    base, rate, rebased = recipe.warmup_lr, recipe.warmup_lr, []
    for step in range(recipe.steps):
        if step == events.warm_until:
            rate = recipe.lr
        if step in recipe.milestones:
            rate = base * 0.1 ** (1 + recipe.milestones.index(step))
        rebased.append(rate)
    assert followed(found["drops from the warm-up's rate"]) == pytest.approx(rebased, rel=1e-12)
    right = followed(stretches(recipe, events))
    assert right == [lr_at(step, recipe, events) for step in range(recipe.steps)]
    assert sum(a != b for a, b in zip(right, never, strict=True)) == 640 - 4
    assert sum(a != b for a, b in zip(right, rebased, strict=True)) == 320


def test_the_rates_of_the_mistakes_at_full_length():
    found = warm_up_mistakes(config.PAPER_110, WARM)
    never, rebased = (followed(parts) for parts in found.values())
    assert [never[step] for step in (399, 400, 31_999, 32_000, 48_000)] == [0.01] * 3 + [0.001, 0.0001]
    assert [rebased[s] for s in (399, 400, 31_999, 32_000, 48_000)] == [0.01, 0.1, 0.1, 0.001, 0.0001]
    assert len(never) == len(rebased) == 64_000
    late = warm_up_mistakes(config.PAPER_110, Events(warm_until=40_000))
    assert len(followed(late["drops from the warm-up's rate"])) == 64_000


@pytest.mark.parametrize("name", ["paper", "imagenet"])
def test_a_recipe_without_a_warm_up_has_no_such_mistakes(name):
    with pytest.raises(UsageError, match="no warm-up with milestones"):
        warm_up_mistakes(RECIPES[name], Events())
