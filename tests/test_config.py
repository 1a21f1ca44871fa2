"""Configurations: names, strict values, the learning-rate table, hashes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from resnetlab import config
from resnetlab.config import (
    PAPER,
    PAPER_400,
    RECIPES,
    SHORT,
    SHORTCUTS,
    Data,
    Network,
    Recipe,
    Run,
    UsageError,
    differences,
    lr_at,
    recipe_named,
    run_from_parameters,
)
from resnetlab.config.network import IMAGENET

depths = st.integers(1, 250).map(lambda n: 6 * n + 2)
networks = st.builds(Network, depth=depths, shortcut=st.sampled_from(SHORTCUTS))
steps = st.integers(1, 100_000)
recipes = st.builds(
    Recipe,
    name=st.sampled_from(["paper", "paper-400", "mine"]),
    steps=steps,
    batch_size=st.integers(2, 512),
    lr=st.floats(1e-6, 10),
    momentum=st.floats(0, 0.999),
    weight_decay=st.floats(0, 1),
    milestones=st.lists(steps, max_size=4, unique=True).map(lambda found: tuple(sorted(found))),
    decay=st.floats(0.01, 1),
    pad=st.integers(0, 8),
    flip=st.booleans(),
    test_every=steps,
)
runs = st.builds(
    Run,
    network=networks,
    data=st.builds(
        Data,
        name=st.sampled_from(["digits", "cifar10", "cifar100", "folder:/a b/ä"]),
        validation=st.integers(0, 9),
    ),
    recipe=recipes,
    seed=st.integers(0, 2**31 - 1),
    precision=st.sampled_from(config.PRECISIONS),
)


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "depth", "shortcut", "family"),
    [
        ("plain-56", 56, "none", "plain"),
        ("resnet-56", 56, "A", "residual"),
        ("resnet-56-B", 56, "B", "residual"),
        ("resnet-1202-C", 1202, "C", "residual"),
        ("plain-8", 8, "none", "plain"),
    ],
)
def test_names_stand_for_networks(name: str, depth: int, shortcut: str, family: str) -> None:
    network = Network.from_name(name)
    assert (network.depth, network.shortcut, network.family) == (depth, shortcut, family)
    assert network.name == name


@given(networks)
def test_every_network_has_one_name(network: Network) -> None:
    assert Network.from_name(network.name) == network


def test_the_explicit_name_of_option_a_is_the_short_one() -> None:
    assert Network.from_name("resnet-20-A").name == "resnet-20"


every_network = st.one_of(
    networks,
    st.builds(
        lambda depth, shortcut, block: Network(
            depth=depth, shortcut=shortcut, block=block, design="cifar"
        ),
        depth=st.one_of(depths, st.sampled_from([50, 152])),
        shortcut=st.sampled_from(["A", "B", "C"]),
        block=st.sampled_from(["basic", "single"]),
    ),
    st.builds(Network, depth=st.sampled_from([18, 34]), shortcut=st.sampled_from(SHORTCUTS)),
    st.builds(
        Network,
        depth=st.sampled_from([18, 34]),
        shortcut=st.sampled_from(["A", "B", "C"]),
        block=st.just("single"),
    ),
    st.builds(
        Network,
        depth=st.sampled_from([50, 101, 152]),
        shortcut=st.sampled_from(SHORTCUTS),
        stride_in=st.sampled_from(["1x1", "3x3"]),
    ),
)


@given(every_network)
def test_every_network_of_both_designs_has_one_name_and_one_json(network: Network) -> None:
    assert Network.from_name(network.name) == network
    written = json.loads(json.dumps(network.model_dump(mode="json")))
    assert Network.parse(written) == network
    assert {"depth", "shortcut"} <= set(written)
    assert Network.parse(network.model_dump()) == network


@given(every_network, every_network)
def test_two_networks_never_share_a_name_or_a_hash(one: Network, other: Network) -> None:
    assert (one == other) == (one.name == other.name)
    assert (one == other) == (one.model_dump(mode="json") == other.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("plain-18", (18, "none", "imagenet", "basic", "1x1")),
        ("resnet-34", (34, "A", "imagenet", "basic", "1x1")),
        ("resnet-34-C", (34, "C", "imagenet", "basic", "1x1")),
        ("resnet-50", (50, "B", "imagenet", "bottleneck", "1x1")),
        ("resnet-101-A", (101, "A", "imagenet", "bottleneck", "1x1")),
        ("resnet-152-3x3", (152, "B", "imagenet", "bottleneck", "3x3")),
        ("resnet-50-C-3x3", (50, "C", "imagenet", "bottleneck", "3x3")),
        ("plain-50", (50, "none", "imagenet", "bottleneck", "1x1")),
        ("resnet-18-single", (18, "A", "imagenet", "single", "1x1")),
        ("resnet-20-B-single", (20, "B", "cifar", "single", "1x1")),
        ("cifar-resnet-50", (50, "A", "cifar", "basic", "1x1")),
        ("cifar-plain-152", (152, "none", "cifar", "basic", "1x1")),
    ],
)
def test_names_of_table_1_and_of_its_namesakes(name: str, fields: tuple[Any, ...]) -> None:
    network = Network.from_name(name)
    keys = ("depth", "shortcut", "design", "block", "stride_in")
    assert tuple(getattr(network, key) for key in keys) == fields
    assert network.name == name


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ("resnet-34-A", "resnet-34"),
        ("resnet-50-B", "resnet-50"),
        ("resnet-101-B-3x3", "resnet-101-3x3"),
        ("cifar-resnet-50-A", "cifar-resnet-50"),
        ("cifar-resnet-20", "resnet-20"),
    ],
)
def test_the_papers_choice_is_not_spelt_out(long: str, short: str) -> None:
    assert Network.from_name(long).name == short


@pytest.mark.parametrize(
    ("depth", "blocks", "native", "smallest"),
    [
        (18, (2, 2, 2, 2), 224, 32),
        (34, (3, 4, 6, 3), 224, 32),
        (50, (3, 4, 6, 3), 224, 32),
        (101, (3, 4, 23, 3), 224, 32),
        (152, (3, 8, 36, 3), 224, 32),
        (110, (18, 18, 18), 32, 8),
        (1202, (200, 200, 200), 32, 8),
    ],
)
def test_blocks_and_sizes(depth: int, blocks: tuple[int, ...], native: int, smallest: int) -> None:
    network = Network(depth=depth)
    assert (network.blocks, network.native_size, network.smallest_image) == (blocks, native, smallest)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"depth": 20, "design": "imagenet"}, "depth 20 is not in Table 1; .* 18, 34, 50, 101, 152"),
    ({"depth": 18, "design": "cifar"}, r"depth 18 is not 6n\+2 .* 14 and 20"),
    ({"depth": 36}, r"32 and 38 \(ImageNet networks have 18, 34, 50, 101, 152\)"),
    ({"depth": 18, "shortcut": "D"}, "shortcut: input should be 'none', 'A', 'B' or 'C', got 'D'"),
    (
        {"depth": 34, "block": "bottleneck"},
        "34 layers of the imagenet design have basic blocks, not bott",
    ),
    (
        {"depth": 50, "block": "basic"},
        "50 layers of the imagenet design have bottleneck blocks, not basic",
    ),
    ({"depth": 50, "block": "single"}, "have bottleneck blocks, not single"),
    ({"depth": 56, "block": "bottleneck"}, "56 layers of the cifar design have basic blocks"),
    (
        {"depth": 50, "design": "cifar", "block": "bottleneck"},
        "50 layers of the cifar design have basic",
    ),
    (
        {"depth": 34, "block": "single", "shortcut": "none"},
        "a plain network has no blocks: single-layer",
    ),
    (
        {"depth": 34, "stride_in": "3x3"},
        "stride_in 3x3 is a choice of bottleneck blocks, 34 .* basic ones",
    ),
    ({"depth": 56, "stride_in": "3x3"}, "stride_in 3x3 is a choice of bottleneck blocks"),
    ({"depth": 50, "stride_in": "3x1"}, "stride_in: input should be '1x1' or '3x3', got '3x1'"),
    ({"depth": 50, "design": "vgg"}, "design: input should be 'cifar' or 'imagenet', got 'vgg'"),
    ({"depth": 50, "block": None}, "block: .*got None"),
    ({"depth": 50, "strides": "3x3"}, "'strides'; did you mean 'stride_in'"),
]


@pytest.mark.parametrize(("values", "said"), WRONG)
def test_combinations_that_the_paper_does_not_have_say_why(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Network.parse(values)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("plain-34-single", "a plain network has no blocks"),
        ("resnet-34-3x3", "stride_in 3x3 is a choice of bottleneck"),
        ("resnet-50-single", "bottleneck blocks, not single"),
        ("plain-50-B", "unknown network"),
        ("resnet-50-1x1", "unknown network 'resnet-50-1x1'; did you mean 'resnet-50"),
        ("resnet-50-3x3-B", "unknown network"),
        ("cifar-resnet-18", "14 and 20"),
        ("resnet-19", "14 and 20"),
        ("imagenet-resnet-50", "unknown network"),
        ("resnet50", "did you mean 'resnet-50'"),
    ],
)
def test_names_of_networks_that_do_not_exist_say_why(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Network.from_name(name)


@pytest.mark.parametrize(
    ("depth", "said"),
    [
        (21, "the nearest valid depths are 20 and 26"),
        (25, "20 and 26"),
        (57, "56 and 62"),
        (9, "8 and 14"),
        (2, "the smallest is 8"),
        (0, "the smallest is 8"),
        (-4, "the smallest is 8"),
    ],
)
def test_a_wrong_depth_names_the_nearest_valid_ones(depth: int, said: str) -> None:
    with pytest.raises(UsageError, match=f"depth {depth} is not 6n\\+2 .*{said}"):
        Network.parse({"depth": depth, "shortcut": "A"})


def test_a_wrong_depth_in_a_name_says_the_same() -> None:
    with pytest.raises(UsageError, match="20 and 26"):
        Network.from_name("plain-21")


@given(st.integers(9, 5000).filter(lambda depth: depth % 6 != 2 and depth not in IMAGENET))
def test_the_depths_that_are_proposed_exist_and_enclose_the_wrong_one(depth: int) -> None:
    with pytest.raises(UsageError) as caught:
        Network.parse({"depth": depth})
    below, above = (
        int(word) for word in str(caught.value).split(" are ")[1].split(" (")[0].split(" and ")
    )
    assert below < depth < above == below + 6
    assert Network(depth=below).depth == below
    assert Network(depth=above).depth == above


@pytest.mark.parametrize(
    "name",
    [
        "plane-20", "plain-20-B", "resnet-20-D", "resnet20", "ResNet-20", "resnet-20 ", "plain-",
        "plain--20", "plain-020", "plain-٢٠", "", "resnet-20-A\n", "plain-9999999999",
    ],
)  # fmt: skip
def test_other_names_are_refused_with_the_forms_there_are(name: str) -> None:
    with pytest.raises(UsageError, match="unknown network") as caught:
        Network.from_name(name)
    assert "plain-N, resnet-N" in str(caught.value)


@pytest.mark.parametrize("name", [56, None, ["plain-56"]])
def test_a_name_that_is_no_text_is_refused_too(name: Any) -> None:
    with pytest.raises(UsageError, match="unknown network"):
        Network.from_name(name)


def test_a_mistyped_network_gets_a_proposal() -> None:
    with pytest.raises(UsageError, match="did you mean 'plain-20'"):
        Network.from_name("plane-20")


# --- strictness -------------------------------------------------------------------------------


def good() -> dict[str, Any]:
    values: dict[str, Any] = Run(network=Network(depth=20)).model_dump(mode="json")
    return values


@pytest.mark.parametrize(
    ("path", "key", "said"),
    [
        ((), "sed", "'sed'; did you mean 'seed'"),
        (("network",), "deph", "'network.deph'; did you mean 'depth'"),
        (("data",), "validaton", "'data.validaton'; did you mean 'validation'"),
        (("recipe",), "weight_dacay", "'recipe.weight_dacay'; did you mean 'weight_decay'"),
    ],
)
def test_unknown_keys_raise_at_every_level(path: tuple[str, ...], key: str, said: str) -> None:
    values = good()
    place = values
    for part in path:
        place = place[part]
    place[key] = 1
    with pytest.raises(UsageError, match=said):
        Run.parse(values)


def test_an_unknown_key_like_none_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="known: depth, shortcut"):
        Network.parse({"depth": 20, "zzzzzz": 1})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("network.depth", 56.0),
        ("network.depth", "56"),
        ("network.depth", True),
        ("network.depth", None),
        ("network.shortcut", "a"),
        ("network.shortcut", None),
        ("data.name", 10),
        ("data.validation", "5"),
        ("data.validation", -1),
        ("data.validation", True),
        ("recipe.lr", "1e-3"),
        ("recipe.lr", 0.0),
        ("recipe.lr", -0.1),
        ("recipe.lr", float("nan")),
        ("recipe.lr", float("inf")),
        ("recipe.lr", True),
        ("recipe.momentum", 1.0),
        ("recipe.weight_decay", -1e-4),
        ("recipe.decay", 0.0),
        ("recipe.decay", 2.0),
        ("recipe.flip", "false"),
        ("recipe.flip", 0),
        ("recipe.steps", True),
        ("recipe.steps", 300.0),
        ("recipe.steps", "300"),
        ("recipe.steps", 0),
        ("recipe.batch_size", 1),
        ("recipe.pad", -1),
        ("recipe.milestones", [48_000, 32_000]),
        ("recipe.milestones", [10, 10]),
        ("recipe.milestones", [0]),
        ("recipe.milestones", ["32000"]),
        ("recipe.milestones", "32000"),
        ("recipe.milestones", 32_000),
        ("recipe", None),
        ("recipe", "paper-400"),
        ("seed", True),
        ("seed", 0.0),
        ("seed", "0"),
        ("seed", -1),
        ("seed", 2**31),
        ("precision", "FP32"),
        ("precision", "fp16"),
    ],
)
def test_values_of_another_type_or_range_are_refused_by_name(path: str, value: Any) -> None:
    values = good()
    *parents, last = path.split(".")
    place = values
    for part in parents:
        place = place[part]
    place[last] = value
    with pytest.raises(UsageError) as caught:
        Run.parse(values)
    assert last in str(caught.value)


@pytest.mark.parametrize("values", [None, [], "text", 3, {1: 2}])
def test_what_is_no_configuration_at_all_is_refused(values: Any) -> None:
    with pytest.raises(UsageError):
        Run.parse(values)


def test_every_mistake_is_named_not_only_the_first() -> None:
    with pytest.raises(UsageError, match="batch_size") as caught:
        Recipe.parse({"batch_size": 0, "lr": "1e-3", "stepps": 4})
    assert "lr" in str(caught.value)
    assert "did you mean 'steps'" in str(caught.value)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PAPER_400.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("digit", "did you mean 'digits'"),
        ("cifar-10", "did you mean 'cifar10'"),
        ("mnist", "unknown data set 'mnist'"),
        ("folder:", "needs a path"),
        ("folder:  ", "needs a path"),
        ("folder", "folder:PATH"),
        ("imagenet", "needs a path: imagenet:PATH"),
        ("CIFAR10", "did you mean 'cifar10'"),
        ("../photos", "your own images are folder:../photos"),
    ],
)
def test_unknown_data_sets_name_the_nearest(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Data.parse({"name": name})


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("digits", "digits"),
        ("folder:/somewhere/pets", "pets"),
        ("folder:pets/", "pets"),
        ("folder:/", "folder"),
    ],
)
def test_a_folder_carries_its_own_name(name: str, label: str) -> None:
    assert Data(name=name).label == label


# --- JSON -------------------------------------------------------------------------------------


@given(runs)
def test_a_run_round_trips_through_json(run: Run) -> None:
    text = json.dumps(run.model_dump(mode="json"), allow_nan=False)
    again = Run.parse(json.loads(text))
    assert again == run
    assert again.hash() == run.hash()
    assert differences(run, again) == []


def test_the_hash_is_the_sha256_of_the_canonical_json() -> None:
    run = Run(network=Network(depth=56, shortcut="none"), recipe=PAPER, seed=3)
    canonical = json.dumps(run.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    assert run.hash() == hashlib.sha256(canonical.encode()).hexdigest()[:12]


def test_the_hash_does_not_depend_on_the_order_of_the_keys() -> None:
    values = good()
    backwards = dict(reversed(values.items()))
    backwards["recipe"] = dict(reversed(values["recipe"].items()))
    assert Run.parse(backwards).hash() == Run.parse(values).hash()


def test_the_hash_is_the_same_in_another_process() -> None:
    code = "from resnetlab.config import *; print(Run(network=Network(depth=20)).hash())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == Run(network=Network(depth=20)).hash()


def test_choices_that_came_later_stay_unwritten_and_old_runs_keep_their_hash() -> None:
    # As results/reference/digits/plain-20-seed0 was written before there were designs and blocks.
    old = {
        "network": {"depth": 20, "shortcut": "none"},
        "data": {"name": "digits", "validation": 0},
        "recipe": {
            "name": "quick", "steps": 400, "batch_size": 128, "lr": 0.1, "momentum": 0.9,
            "weight_decay": 0.0001, "milestones": [350, 380], "decay": 0.1, "pad": 0, "flip": False,
            "log_every": 10, "test_every": 20, "probe_every": 10, "checkpoint_every": 100,
        },
        "seed": 0,
        "precision": "fp32",
    }  # fmt: skip
    run = Run.parse(old)
    assert run.hash() == "98e6b23ae45e"
    assert run.model_dump(mode="json") == old
    same = recipe_named("tuned-on-resnet-56").model_dump() | {"name": "quick"}  # its name then
    network = Network(depth=20, shortcut="none")
    assert run == Run(network=network, recipe=Recipe.parse(same))
    longer = old | {"network": {"depth": 20, "shortcut": "none", "design": "cifar", "block": "basic"}}
    assert Run.parse(longer).hash() == "98e6b23ae45e"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("resnet-34", {"depth": 34, "shortcut": "A"}),
        ("resnet-50", {"depth": 50, "shortcut": "B"}),
        ("resnet-50-3x3", {"depth": 50, "shortcut": "B", "stride_in": "3x3"}),
        ("resnet-18-single", {"depth": 18, "shortcut": "A", "block": "single"}),
        ("cifar-plain-50", {"depth": 50, "shortcut": "none", "design": "cifar"}),
        (
            "cifar-resnet-50-single",
            {"depth": 50, "shortcut": "A", "design": "cifar", "block": "single"},
        ),
    ],
)
def test_only_unusual_choices_are_written(name: str, written: dict[str, Any]) -> None:
    network = Network.from_name(name)
    assert network.model_dump(mode="json") == written
    assert Network.parse(written) == network


def test_a_whole_number_and_its_float_are_one_rate() -> None:
    assert PAPER.replace(lr=1).model_dump_json() == PAPER.replace(lr=1.0).model_dump_json()


OTHER: dict[str, Any] = {
    "network.depth": 26,
    "network.shortcut": "B",
    "data.name": "cifar10",
    "data.validation": 5,
    "recipe.name": "mine",
    "recipe.steps": 999,
    "recipe.batch_size": 64,
    "recipe.lr": 0.05,
    "recipe.momentum": 0.8,
    "recipe.weight_decay": 0.0,
    "recipe.milestones": [10, 20],
    "recipe.decay": 0.2,
    "recipe.pad": 2,
    "recipe.flip": True,
    "recipe.log_every": 7,
    "recipe.test_every": 7,
    "recipe.probe_every": 7,
    "recipe.checkpoint_every": 7,
    "seed": 1,
    "precision": "fp64",
}


def leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return found


def test_every_field_is_in_the_table_above() -> None:
    assert sorted(OTHER) == sorted(leaves(good()))


@pytest.mark.parametrize("path", sorted(OTHER))
def test_every_field_changes_the_hash_and_shows_in_the_differences(path: str) -> None:
    ours = Run.parse(good())
    values = good()
    place, last = values, path
    if "." in path:
        parent, last = path.split(".")
        place = values[parent]
    old, place[last] = place[last], OTHER[path]
    theirs = Run.parse(values)
    assert theirs != ours
    assert theirs.hash() != ours.hash()
    assert differences(ours, theirs) == [f"{path}: {old!r} != {OTHER[path]!r}"]


# --- recipes ----------------------------------------------------------------------------------


# Sec. 4.2: "We start with a learning rate of 0.1, divide it by 10 at 32k and 48k iterations, and
# terminate training at 64k iterations."
@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001), (63_999, 0.001)],
)
def test_the_papers_learning_rates_exactly(step: int, rate: float) -> None:
    assert lr_at(step) == rate
    assert lr_at(step, "paper") == rate
    assert lr_at(step, PAPER) == rate


@pytest.mark.parametrize(
    ("recipe", "step", "rate"),
    [
        ("short", 0, 0.1),
        ("short", 1_599, 0.1),
        ("short", 1_600, 0.01),
        ("short", 2_399, 0.01),
        ("short", 2_400, 0.001),
        ("short", 3_199, 0.001),
        ("paper-400", 199, 0.1),
        ("paper-400", 200, 0.01),
        ("paper-400", 399, 0.001),
    ],
)
def test_the_short_recipes_learning_rates(recipe: str, step: int, rate: float) -> None:
    assert lr_at(step, recipe) == rate


@given(recipes)
def test_the_rate_starts_at_lr_and_falls_by_decay_at_each_milestone(recipe: Recipe) -> None:
    rates = [lr_at(0, recipe)]
    for milestone in recipe.milestones:
        assert lr_at(milestone - 1, recipe) == rates[-1]
        rates.append(lr_at(milestone, recipe))
    assert rates[0] == recipe.lr
    for index, rate in enumerate(rates):
        assert rate == pytest.approx(recipe.lr * recipe.decay**index, rel=1e-12)
    assert lr_at(10**9, recipe) == rates[-1]


def test_a_negative_step_and_an_unknown_recipe_have_no_rate() -> None:
    with pytest.raises(ValueError, match="negative"):
        lr_at(-1)
    with pytest.raises(UsageError, match="did you mean 'paper'"):
        lr_at(0, "papr")


def test_the_paper_recipe_is_the_papers() -> None:
    # Sec. 4.2: mini-batch of 128, weight decay 0.0001, momentum 0.9, 4 pixels padded, 64k iterations.
    values = PAPER.model_dump()
    wanted = {"steps": 64_000, "batch_size": 128, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    wanted |= {"milestones": (32_000, 48_000), "decay": 0.1, "pad": 4, "flip": True}
    assert {key: values[key] for key in wanted} == wanted


def test_derived_recipes_train_as_the_paper_does_but_for_what_they_say() -> None:
    for recipe in (SHORT, PAPER_400):
        assert recipe.steps < PAPER.steps
        assert [m / recipe.steps for m in recipe.milestones] == [
            m / PAPER.steps for m in PAPER.milestones
        ]
        for same in ("batch_size", "lr", "momentum", "weight_decay", "decay"):
            assert getattr(recipe, same) == getattr(PAPER, same)
    assert (SHORT.pad, SHORT.flip) == (4, True)
    assert (PAPER_400.pad, PAPER_400.flip) == (0, False)  # a mirrored 2 is not a 2
    assert config.default_recipe("digits") is PAPER_400
    assert config.default_recipe("cifar10") is SHORT


def test_presets_are_found_by_their_own_names() -> None:
    assert {name: recipe.name for name, recipe in RECIPES.items()} == {n: n for n in RECIPES}
    assert recipe_named("short") is SHORT
    with pytest.raises(UsageError, match="did you mean 'paper-400'"):
        recipe_named("paper-40")


@given(recipes, st.integers(1, 10_000))
def test_shrink_keeps_the_milestones_places_and_everything_else(recipe: Recipe, steps: int) -> None:
    shrunk = recipe.shrink(steps, "other")
    changed = {"steps", "milestones", "name"}
    ours, its = recipe.model_dump(), shrunk.model_dump()
    assert {key: its[key] for key in its if key not in changed} == {
        key: ours[key] for key in ours if key not in changed
    }
    assert (shrunk.steps, shrunk.name) == (steps, "other")
    for milestone in recipe.milestones:
        place = milestone * steps / recipe.steps
        assert any(abs(found - place) <= 1 for found in shrunk.milestones)


def test_shrink_gives_the_numbers_one_expects() -> None:
    assert PAPER.shrink(640).milestones == (320, 480)
    assert PAPER.shrink(640).name == "paper"
    assert PAPER.shrink(1).milestones == (1,)
    with pytest.raises(UsageError, match="steps"):
        PAPER.shrink(0)


def test_replace_changes_validates_and_moves_milestones_with_the_steps() -> None:
    assert PAPER.replace() == PAPER
    assert PAPER.replace(lr=None, steps=None) == PAPER
    assert PAPER.replace(lr=0.01).lr == 0.01
    assert PAPER.replace(steps=640).milestones == (320, 480)
    assert PAPER.replace(steps=640, milestones=[100]).milestones == (100,)
    assert PAPER.replace(steps=64_000) == PAPER
    with pytest.raises(UsageError, match="lr"):
        PAPER.replace(lr="1e-3")
    with pytest.raises(UsageError, match="steps"):
        PAPER.replace(steps=True)


@pytest.mark.parametrize("value", [1, None])
def test_replace_refuses_an_unknown_field_whatever_its_value(value: Any) -> None:
    with pytest.raises(UsageError, match="'stepps'; did you mean 'steps'"):
        PAPER.replace(stepps=value)


@pytest.mark.parametrize(
    ("recipe", "label"),
    [
        (PAPER, "paper"),
        (PAPER_400, "paper-400"),
        (PAPER_400.replace(steps=777), "paper-400 (steps 777)"),
        (PAPER_400.replace(lr=0.05), "paper-400 (lr 0.05)"),
        (PAPER_400.replace(test_every=3, probe_every=1), "paper-400"),
        (PAPER_400.replace(log_every=1), "paper-400 (log_every 1)"),
        (PAPER_400.replace(milestones=[10]), "paper-400 (milestones [10])"),
        (PAPER.replace(steps=640, flip=False), "paper (steps 640, flip False)"),
        (PAPER.shrink(640, "mine"), "mine"),
    ],
)
def test_a_recipes_label_says_what_was_changed(recipe: Recipe, label: str) -> None:
    assert recipe.label == label


def test_a_runs_label_always_says_another_precision() -> None:
    run = Run(network=Network(depth=56, shortcut="none"), seed=2)
    assert run.label == "plain-56 · seed 2"
    assert Run.parse(run.model_dump() | {"precision": "bf16"}).label == "plain-56 · seed 2 · bf16"


# --- flat parameters --------------------------------------------------------------------------


def test_flat_parameters_make_the_run_they_name() -> None:
    run = run_from_parameters(depth=56, shortcut="none", seed=2, steps=40, lr=0.05)
    assert run.network.name == "plain-56"
    assert run.recipe == PAPER_400.replace(steps=40, lr=0.05)
    assert run == run_from_parameters(network="plain-56", seed=2, steps=40, lr=0.05)
    assert run_from_parameters(network="resnet-20", data="cifar10").recipe == SHORT
    assert run_from_parameters(network="resnet-20", data="cifar10", recipe="paper").recipe == PAPER


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lr": "1e-3"}, "lr.*1e-3.*1.0e-3"),
        ({"flip": "false"}, "flip.*'false'"),
        ({"depth": 56.0}, "depth"),
        ({"depth": "56"}, "depth"),
        ({"depth": True}, "depth"),
        ({"depth": 21}, "20 and 26"),
        ({"shortcut": "D"}, "shortcut"),
        ({"shortcut": None}, "shortcut"),
        ({"seed": True}, "seed"),
        ({"recipe": "fast"}, "unknown recipe"),
        ({"recipe": 3}, "recipe"),
        ({"data": "digit"}, "did you mean 'digits'"),
        ({"data": 10}, "data"),
        ({"precision": "fp23"}, "precision"),
        ({"validation": "0"}, "validation"),
        ({"stepz": 3}, "did you mean 'steps'"),
        ({"stepz": "3"}, "did you mean 'steps'"),
    ],
)
def test_flat_parameters_are_strict(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run_from_parameters(**({"depth": 20, "shortcut": "A"} | values))
