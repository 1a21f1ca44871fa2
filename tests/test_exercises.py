"""Exercises that check themselves: what is said of right, near, wrong and missing answers, and the key.

The answers are computed by each notebook's own cell, from the committed runs and measurements.
"""

import functools
import re
import tomllib
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from resnetlab import config, nets, paper, plots, store, verdict
from resnetlab.studies import exercises, notebook
from resnetlab.verdict import comparison

FOLDER = Path(__file__).parents[1] / "notebooks"
LISTED = tomllib.loads(Path(exercises.__file__).with_suffix(".toml").read_text())
EACH = [(name, number) for name in LISTED for number in (1, 2, 3)]
REFERENCE = store.results_root() / store.REFERENCE
KEY = (FOLDER / "README.md").read_text()
LIBRARY = {"pd": pd, "config": config, "nets": nets, "paper": paper, "plots": plots, "store": store}
LIBRARY |= {"verdict": verdict, "notebook": notebook, "comparison": comparison}


def table(*studies):
    return store.table_of(run for name in studies for run in study(name))


def study(name):
    return store.read_study(REFERENCE / name).runs


def measured(name, folder):
    return store.read_measurement(REFERENCE / store.MEASUREMENTS / folder / f"{name}.json").frame


def run_cells(name, names, *beginnings):
    """Execute those code cells of a notebook, in its order."""
    for cell in nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code" and any(text in cell.source for text in beginnings):
            exec(cell.source, names)
    return names


def counted(**blocks):
    """The table of parameters of networks by name (`_` for `-`) and kind of block."""
    rows = []
    for name, block in blocks.items():
        one = nets.build(name.replace("_", "-"))
        counts = nets.count_parameters(one), nets.count_multiply_adds(one)
        rows.append((name.replace("_", "-"), block, *counts))
    columns = ["network", "block", "parameters", "multiply-adds"]
    return pd.DataFrame(rows, columns=columns).set_index("network")


def in_hand(name):
    """What a notebook has in hand when its exercises begin, of the committed runs."""
    names = dict(LIBRARY)
    match name[:2]:
        case "00":
            cells = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells
            names["In"] = [next(cell.source for cell in cells if cell.cell_type == "code")]
            run_cells(
                name,
                names,
                names["In"][0],
                "begun =",
                "parts =",
                "entering =",
                "measured =",
                "counts =",
            )
        case "01":
            names["table"] = table("digits")
            names["means"] = verdict.by_network(names["table"])
        case "02":
            after = measured("trained-on", "constructed")
            names |= {"after": after, "rates": sorted(after["lr"].unique()), "deep": 56, "shallow": 20}
        case "03":
            frame = measured("at-initialisation", "digits").query("quantity == 'gradient_norm'")
            halves = dict(list(frame.groupby("norm")))
            names["with_norm"], names["without"] = (halves[norm] for norm in plots.NORMS)
            deep = [run for run in study("digits") if run.network.depth == 56]
            names |= {"weights": store.probes_of(deep, "weight_norm"), "depths": [20, 56]}
        case "04":
            names |= {"dialled": measured("shortcut-dial", "dial"), "deep": 56}
            names |= {"lesions": measured("lesions", "dial"), "depths": [20, 56]}
        case "05":
            networks = ["plain_56", "resnet_56", "resnet_56_B", "resnet_56_C"]
            names |= {
                "table": table("shortcuts"),
                "counted": counted(**dict.fromkeys(networks, "basic")),
            }
        case "06":
            names |= {
                "table": table("depth-real"),
                "counted": counted(plain_34="basic", resnet_50="bottleneck"),
            }
            names |= {"depths": [8, 20], "images": study("depth-real")[0].info["dataset"]}
        case "07":
            names["responses"] = measured("layer-responses", "responses")
            run_cells(name, names, "compared =")
        case "08":
            names |= {"surface": measured("loss-surface", "surface"), "depths": [56]}
        case "09":
            names |= {"table": table("digits", "digits-times-3"), "depths": [20, 56]}
            names |= {"usual": config.default_recipe("digits"), "more": {"steps": 1200}}
            names["schedule"] = config.schedule
            run_cells(name, names, "timelines =", "spent =")
        case "10":
            whole = [store.read_study(path) for path in store.find_studies(FOLDER.parent / "results")]
            kept = [one for one in whole if one.path.parent == REFERENCE]
            names["ours"] = comparison.measured([(one.path.name, one.runs) for one in kept])
            run_cells(name, names, "sentences = []")
        case "11":
            names |= {"errors": measured("gradient-error", "digits"), "depths": [8, 20, 56]}
            names |= {"table": table("digits-fp64", "digits-bf16"), "runs": study("digits-bf16")}
        case "12":
            arms = ["digits", "first-step-clip", "first-step-tenth", "first-step-warm-up"]
            runs = [run for arm in arms for run in study(arm) if run.network.family == "plain"]
            deep = [run for run in runs if run.network.depth == 56]
            names["table"] = store.table_of(run for run in runs if run.network.depth in (20, 56))
            names["clipped"] = [run for run in deep if run.config.recipe.clip is not None]
            names |= {"base": min(names["table"]["recipe"], key=len), "depths": [20, 56]}
        case "13":
            names |= {"correlation": measured("gradient-correlation", "digits")}
            names |= {
                "here": notebook.Here(store.results_root(), {}),
                "starts": [study("digits")[0].config],
            }
            run_cells(name, names, "agreement =")
    return names


@functools.cache
def asked(name):
    """(check, hint, solution) of a notebook and the three answers that its cell computed."""
    answers = []

    def of(named, *values):
        assert named == name
        answers.extend(values)
        return original(named, *values)

    original, exercises.of = exercises.of, of
    try:
        names = run_cells(name, in_hand(name), "exercises.of(")
    finally:
        exercises.of = original
    return names["check"], names["hint"], names["solution"], answers


def answers_of(name, number):
    """Right, near and wrong answers to an exercise; a choice's near one is misspelt."""
    value, tolerance = asked(name)[3][number - 1], LISTED[name][number - 1].get("tolerance")
    if isinstance(value, tuple):
        right, options = value
        others = [option for option in options if option != right]
        return right, f"{right}x", others[0]
    value = float(value)
    assert value == value, "the committed runs have it"
    return value, value + (2 * tolerance or 1), value + 10 * (tolerance or 1)


@pytest.mark.parametrize(("name", "number"), EACH)
def test_right_near_and_wrong_answers(name, number, capsys):
    check, hint, solution, values = asked(name)
    right, near, wrong = answers_of(name, number)
    capsys.readouterr()
    near_words = "is not what is asked: one of" if isinstance(values[number - 1], tuple) else "near!"
    expected = ((right, "right."), (near, near_words), (wrong, "not yet"), (None, "not answered yet"))
    for answer, words in expected:
        check(number, answer)
        said = capsys.readouterr().out
        assert said.startswith(f"Exercise {number}: ")
        assert words in said
        assert said.count("\n") == 1
    check(number, None)
    hint(number)
    shown = capsys.readouterr().out
    value = exercises.word(right)
    if len(value) > 1:  # no text tells the answer
        assert not re.search(rf"(?<![\w.]){re.escape(value)}(?![\w.])", shown.split("(")[0])
    solution(number)
    assert value in capsys.readouterr().out


@pytest.mark.parametrize("name", LISTED)
def test_the_key_of_the_lesson_plan_holds_for_the_committed_runs(name):
    (row,) = re.findall(rf"^\| `{name}` \| (.+) \|$", KEY, re.MULTILINE)
    for cell, value in zip(row.split(" | "), asked(name)[3], strict=True):
        if within := re.match(r"(\S+) to (\S+)", cell):
            assert float(within[1]) <= value <= float(within[2]), cell
        elif cell != "–":
            right = value[0] if isinstance(value, tuple) else value
            assert cell.startswith(exercises.word(right)), cell


def test_every_question_notebook_has_its_three_exercises():
    questions = [path for path in FOLDER.glob("*.ipynb") if path.stem[0].isdecimal()]
    assert sorted(LISTED) == sorted(path.stem for path in questions)
    for path in questions:
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells]
        assert [cells.count(f"check({number}, None)") for number in (1, 2, 3)] == [1, 1, 1]
        assert sum(text.startswith("**Exercise ") for text in cells) == len(LISTED[path.stem]) == 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("check", 1, "many"), "'many' is not what is asked: a number, points; within 3 is right."),
        (("check", 1, True), "True is not what is asked"),
        (("check", 1, float("nan")), "nan is not what is asked"),
        (("check", 1, [60]), "[60] is not what is asked"),
        (("check", 1, "68.0"), "right."),
        (("check", 2, "resnet20"), "one of plain-8, resnet-20; did you mean 'resnet-20'?"),
        (("check", 2, "RESNET-20"), "right."),
        (("check", 3, 4.5), "near!"),
        (("check", 4, 1), "There is no exercise 4: they are 1 to 3."),
        (("hint", "one"), "There is no exercise 'one'"),
        (("hint", [1]), "There is no exercise [1]"),
        (("solution", 1), "Exercise 1: 68 points. "),
    ],
)
def test_bad_answers_are_told_in_one_line(call, words, capsys):
    asked = exercises.of("01_degradation", 68.0, ("resnet-20", ["plain-8", "resnet-20"]), 4)
    getattr(asked, call[0])(*call[1:])
    said = capsys.readouterr().out
    assert words in said
    assert said.count("\n") == 1


def test_what_the_runs_do_not_have_is_said(capsys):
    empty = exercises.cost_of_depth(store.table_of([]), "plain")
    check, _, solution = exercises.of("01_degradation", empty.mean(), empty.mean(), 4)
    for number in (1, 2):
        check(number, 5)
        solution(number)
        assert capsys.readouterr().out.count(exercises.NOTHING) == 2


def test_cost_of_depth_is_paired_by_seed():
    rows = table("digits")
    costs = exercises.cost_of_depth(rows[rows["depth"].isin([20, 56])], "plain")
    pair = verdict.contrast(rows, "plain-56", "plain-20", "train_error_clean")
    assert costs.tolist() == pytest.approx(list(pair.differences))
    assert exercises.cost_of_depth(rows[rows["depth"] == 20], "plain").empty


@pytest.mark.parametrize(
    "name", [name for name in LISTED if name[:2] in ("01", "05", "06", "09", "12")]
)
@pytest.mark.parametrize("kept", [0, 1])
def test_few_runs_stop_no_notebook(name, kept, capsys):
    """A trial has one shallow network, a study that was stopped may have no finished run."""
    names = in_hand(name)
    names["table"] = names["table"].head(kept)
    names["means"] = verdict.by_network(names["table"])
    run_cells(name, names, "exercises.of(")
    for number in (1, 2, 3):
        names["check"](number, 1)
        names["check"](number, None)
    assert "Exercise 3: not answered yet" in capsys.readouterr().out
