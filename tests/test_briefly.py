"""Each question answered in a few words and one number, from the committed measurements and runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from resnetlab import store
from resnetlab.files import project
from resnetlab.verdict import briefly, words

REFERENCE = project() / "results" / "reference"
MEASURED: dict[str, Callable[[pd.DataFrame], briefly.Answer | None]] = {
    "constructed/same-function": briefly.same_function,
    "constructed/trained-on": briefly.trained_on,
    "digits/at-initialisation": briefly.at_initialisation,
    "digits/gradient-correlation": briefly.gradient_correlation,
    "dial/shortcut-dial": briefly.shortcut_dial,
    "dial/lesions": briefly.lesions,
    "surface/loss-surface": briefly.loss_surface,
    "responses/layer-responses": briefly.layer_responses,
    "digits/gradient-error": briefly.rounding,
}


@pytest.mark.parametrize("place", MEASURED)
def test_every_answer_has_one_number_and_its_n_and_no_machines_notation(place: str) -> None:
    answer = MEASURED[place](store.read_measurement(REFERENCE / "measurements" / f"{place}.json").frame)
    assert answer is not None
    assert len(answer.words.split()) <= 5
    assert re.search(r"n = \d+", answer.about)
    assert not re.search(r"\de[+-]?\d", answer.number + answer.about)


def table(**means: float) -> pd.DataFrame:
    """Finished runs of three seeds with these training errors, by network, `_` for `-`."""
    rows = []
    for network, mean in means.items():
        family, depth = network.split("_")
        for seed in range(3):
            who: dict[str, Any] = {"study": "s", "run": f"{network}{seed}", "seed": seed}
            who |= {"network": network.replace("_", "-"), "depth": int(depth), "data": "digits"}
            who |= {"shortcut": "none" if family == "plain" else "A", "recipe": "paper-400"}
            who |= {"family": "plain" if family == "plain" else "residual", "precision": "fp32"}
            errors = dict.fromkeys(["train_error", "train_error_clean", "test_error"], mean + seed / 10)
            rows.append(who | errors | {"status": "finished", "classes": 10, "steps_planned": 400})
    return pd.DataFrame(rows)


def test_a_shortcut_adds_no_number_to_learn_and_that_is_counted() -> None:
    rows = table(plain_8=5.0, plain_56=9.0, resnet_8=5.0, resnet_56=4.0)
    rows["parameters"] = [850 if depth == 56 else 75 for depth in rows["depth"]]
    answer = briefly.the_idea(rows)
    assert answer is not None
    assert (answer.words, answer.number) == ("None", "850 and 850")
    assert "of 56 layers" in answer.about
    rows.loc[rows["network"] == "resnet-56", "parameters"] = 900
    assert briefly.the_idea(rows).words == "50 more"  # type: ignore[union-attr]
    assert briefly.the_idea(rows[rows["shortcut"] == "none"]) is None


@pytest.mark.parametrize(
    ("deep", "words"),
    [(30.0, "The shallower one"), (2.0, "The deeper one"), (5.0, "Both alike")],
)
def test_the_answer_on_depth_follows_the_runs(deep: float, words: str) -> None:
    answer = briefly.degradation(table(plain_8=5.0, plain_56=deep, resnet_8=5.0, resnet_56=4.0))
    assert answer is not None
    assert (answer.words, answer.number) == (words, f"{deep + 0.1:.1f} and 5.1 %")
    assert f"{deep - 5:+.{1 if deep > 20 else 2}f} points" in answer.about


@pytest.mark.parametrize(
    ("clipped", "words"),
    [
        (5.0, "Nothing is left"),
        (8.0, "A little is left"),
        (25.0, "Most is left"),
        (40.0, "Most is left"),
    ],
)
def test_what_clipping_leaves_is_told_by_what_depth_still_costs(clipped: float, words: str) -> None:
    usual, tamed = table(plain_8=5.0, plain_56=30.0), table(plain_8=5.0, plain_56=clipped)
    both = pd.concat([usual, tamed.assign(recipe="paper-400 (clip 1.0)")])
    answer = briefly.first_step(both)
    assert answer is not None
    assert answer.words == words


def test_a_little_is_said_where_every_seed_and_the_interval_allow_it() -> None:
    usual, tamed = table(plain_8=5.0, plain_56=30.0), table(plain_8=5.0, plain_56=16.0)
    both = pd.concat([usual, tamed.assign(recipe="paper-400 (clip 1.0)")], ignore_index=True)
    last = (both["network"] == "plain-56") & (both["seed"] == 2) & (both["recipe"] != "paper-400")
    for error, expected in (
        (16.0, "A little is left"),
        (18.0, "Not settled"),
    ):  # half of what depth costs: 17.7
        both.loc[last, "train_error_clean"] = error
        answer = briefly.first_step(both)
        assert answer is not None
        assert answer.words == expected


@pytest.mark.parametrize(
    ("plain", "words"),
    [((10, 6, 4), "Not settled"), ((10, 9, 10), "More without")],
)
def test_more_is_said_where_the_interval_allows_it(
    plain: tuple[int, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = [("plain", seed, count) for seed, count in enumerate(plain)]
    counted += [("residual", seed, 1) for seed in range(3)]
    minima = pd.DataFrame(counted, columns=["family", "seed", "minima"])
    monkeypatch.setattr(briefly, "local_minima", lambda frame: minima)
    answer = briefly.loss_surface(pd.DataFrame())
    assert answer is not None
    assert answer.words == words


@pytest.mark.parametrize("value", [0.0, 1e-12, 3.7e-4, 0.37, 3.7, 372.0, 12_345.0, 3.7e6, float("inf")])
def test_no_number_of_a_sentence_is_in_a_machines_notation(value: float) -> None:
    for text in (words.rounded(value), words.times(value), words.percent(value)):
        assert not re.search(r"\de[+-]?\d", text)


def test_agreement_counts_the_claims_that_are_shown() -> None:
    rows = table(plain_20=5.0, plain_56=20.0, resnet_20=5.0, resnet_56=4.0).assign(study="digits")
    answer = briefly.agreement(rows)
    assert answer is not None
    assert (answer.words, answer.number) == ("All of them", "3 of 3")
    rows.loc[rows["network"] == "resnet-56", "train_error_clean"] += 3
    answer = briefly.agreement(rows)
    assert answer is not None
    assert (answer.words, answer.number) == ("2 of them", "2 of 3")
    assert answer.about.endswith("A deeper residual network trains better: the reverse is shown")
    assert briefly.agreement(rows.assign(study="mine")) is None  # asks no claim


def dial(**means: tuple[float, ...]) -> pd.DataFrame:
    """Errors of three seeds by scale: `a50=(...)` is a = 0.5."""
    rows = [
        {"scale": int(name[1:]) / 100, "seed": seed, "train_error_clean": error}
        for name, errors in means.items()
        for seed, error in enumerate(errors)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("half", "words"),
    [((20.0, 21.0, 19.0), "From a half on"), ((69.0, 75.0, 71.0), "From the whole on")],
)
def test_a_shortcut_helps_from_where_all_larger_ones_do(half: tuple[float, ...], words: str) -> None:
    answer = briefly.shortcut_dial(
        dial(a0=(70.0, 71.0, 72.0), a10=(72.0, 68.0, 71.0), a50=half, a100=(1.0, 2.0, 0.0))
    )
    assert answer is not None
    assert answer.words == words


def test_three_times_the_steps_are_set_against_once() -> None:
    once = table(plain_20=5.0, plain_56=60.0)
    longer = table(plain_20=5.0, plain_56=30.0).assign(steps_planned=1200)
    answer = briefly.more_steps(pd.concat([once, longer]))
    assert answer is not None
    assert (answer.words, answer.number) == ("It comes closer", "-30.0 points")
    assert "left beside plain-20: +25.0" in answer.about
    caught = table(plain_20=5.0, plain_56=5.2).assign(steps_planned=1200)
    assert briefly.more_steps(pd.concat([once, caught])).words == "It catches up"  # type: ignore[union-attr]
    assert briefly.more_steps(once) is None
