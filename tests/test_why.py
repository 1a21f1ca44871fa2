"""The page Why it fails, why it works: every card in every state, from stored measurements."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from dashboard_data import charts, opened, write_run, write_study
from streamlit.testing.v1 import AppTest
from test_pages import HOSTILE, PROJECT, codes, markup, texts

from dashboard import story
from resnetlab import store, verdict
from resnetlab.studies import notebook

WHY = "app_pages/why.py"
REFERENCE = PROJECT / "results" / "reference" / store.MEASUREMENTS
# measurement -> the study whose committed copy is read here
COMMITTED = {
    "at-initialisation": "digits",
    "gradient-correlation": "digits",
    "loss-surface": "surface",
    "layer-responses": "responses",
    "same-function": "constructed",
    "trained-on": "constructed",
    "gradient-error": "digits",
}
Open = Callable[..., AppTest]


@pytest.fixture
def open_page(folder: Path) -> Open:
    def open_one(*whole: str, **query: str) -> AppTest:
        """With the questions of these names unfolded."""
        return opened(WHY, **query, **{f"whole-{name}": "true" for name in whole})

    return open_one


def copy(folder: Path, name: str, *, reference: bool = True, study: str | None = None) -> Path:
    """A committed measurement in the test's results folder, as the user's own or as a committed one."""
    place = folder / store.REFERENCE if reference else folder
    target = place / store.MEASUREMENTS / (study or COMMITTED[name]) / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(REFERENCE / COMMITTED[name] / f"{name}.json", target)
    return target


def sections(app: AppTest) -> list[str]:
    return [item.value for item in app.header if not item.proto.anchor.startswith("figure-")]


def commands(app: AppTest) -> list[str]:
    return [code for code in codes(app) if code.startswith("resnetlab notebook ")]


@pytest.mark.parametrize("state", ["missing", "empty", "file", "studies"])
def test_what_is_not_measured_says_so_and_names_the_command(
    folder: Path, open_page: Open, state: str
) -> None:
    if state == "empty":
        folder.mkdir()
    elif state == "file":
        folder.write_text("no folder")
    elif state == "studies":
        write_study(folder)
    app = open_page()
    assert not charts(app)
    assert len(commands(app)) == len(sections(app)) == len(app.info)
    for command in commands(app):
        assert notebook.find(command.split()[-1]).is_file(), "the command executes a notebook there is"


def test_a_measurement_is_drawn_and_said_as_the_notebook_says_it(folder: Path, open_page: Open) -> None:
    path = copy(folder, "gradient-correlation")
    assert len(charts(open_page())) == 1
    app = open_page("gradient-correlation")
    small, chart = charts(app)
    assert not small["layout"]["title"].get("text")
    assert "How alike are the gradients" in chart["layout"]["title"]["text"]
    for sentence in verdict.on_correlations(store.read_measurement(path).frame):
        assert sentence in texts(app)
    info = json.loads(path.read_text())
    assert f"reference/digits: {info['what']}; points: 128" in texts(app)
    assert len(app.info) == len(sections(app)) - 1


def test_all_that_is_committed_is_there_in_the_order_of_the_story(
    folder: Path, open_page: Open
) -> None:
    frames = {name: store.read_measurement(copy(folder, name)).frame for name in COMMITTED}
    app = open_page(*COMMITTED)
    # Of each question a small figure and the whole one, of rounding two whole ones.
    assert len(charts(app)) == 2 * len(COMMITTED) + 1
    said = texts(app)
    for name, say in (
        ("same-function", verdict.on_same_function),
        ("trained-on", verdict.on_kept),
        ("gradient-correlation", verdict.on_correlations),
        ("loss-surface", verdict.on_surfaces),
        ("layer-responses", verdict.on_responses),
        ("gradient-error", verdict.on_rounding),
    ):
        places = [said.index(sentence) for sentence in say(frames[name])]
        assert places == sorted(places)
    assert not any(verdict.on_other_recipe(frame) for frame in frames.values())
    path = copy(folder, "trained-on")
    path.write_text(path.read_text().replace('"paper-400', '"tuned-on-resnet-56'))
    (sentence,) = verdict.on_other_recipe(store.read_measurement(path).frame)
    assert texts(open_page("trained-on")).count(sentence) == 1
    assert "With batch norm. plain-110 (5 seeds): at step 0 the first layer's gradient is" in said
    assert "Without batch norm. Plain: the first layer's norm is" in said
    wanted = [
        "solution",
        "keep",
        "vanishing",
        "clipped",
        "shortcut",
        "block",
        "add",
        "surface",
    ]
    order = [next(i for i, title in enumerate(sections(app)) if word in title) for word in wanted]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not a readable measurement"),
        ("[]", "is not a readable measurement"),
        (json.dumps({"schema": 99, "columns": [], "rows": []}), "its format is version 99"),
        (json.dumps({"schema": 1, "columns": ["a"], "rows": [[1, 2]]}), "rows do not fit its columns"),
        (json.dumps({"schema": 1, "columns": ["a"], "rows": [[1]]}), "are not those of this figure"),
        (
            json.dumps({"schema": 1, "columns": ["value", HOSTILE], "rows": [["x", HOSTILE]]}),
            "are not those of this figure",
        ),
    ],
)
def test_a_damaged_measurement_leaves_the_other_sections(
    folder: Path, open_page: Open, content: str, reason: str
) -> None:
    copy(folder, "layer-responses")
    copy(folder, "gradient-correlation").write_text(content)
    app = open_page()
    assert len(charts(app)) == 1
    assert reason in texts(app)
    assert "resnetlab notebook 13_gradient_correlation" in commands(app)
    assert "evil.example" not in markup(app)


def test_the_users_own_comes_first_and_a_trial_last(folder: Path, open_page: Open) -> None:
    copy(folder, "gradient-correlation")
    copy(folder, "gradient-correlation", reference=False, study="digits-10-steps")
    copy(folder, "gradient-correlation", reference=False, study="cifar10")
    app = open_page("gradient-correlation")
    (picker,) = [box for box in app.selectbox if box.label == "Measured in"]
    assert list(picker.options) == ["cifar10", "reference/digits", "digits-10-steps"]
    assert picker.value == "cifar10"
    picker.select("digits-10-steps").run()
    assert not app.exception
    assert "digits-10-steps: mean cosine" in texts(app)


def test_runs_of_two_lengths_and_of_several_precisions_are_compared(
    folder: Path, open_page: Open
) -> None:
    """The user's own run stands for the committed one of that name; other networks are left out."""
    reference = folder / store.REFERENCE
    for seed in range(3):
        write_run(reference, "plain-8", seed=seed)
        write_run(reference, "plain-14", seed=seed)
        long = {"planned": 120, "steps": 120, "seed": seed}
        write_run(folder, "plain-8", study="digits-times-3", **long)
        write_run(folder, "plain-8", study="digits-fp64", precision="fp64", seed=seed)
        write_run(folder, "plain-8", study="digits-bf16", precision="bf16", seed=seed)
    write_run(folder, "plain-8", seed=0)
    app = open_page("times-longer", "precisions")
    assert len(charts(app)) == 4
    studies = {
        name: store.read_study(reference / name if name == "digits" else folder / name).table()
        for name in ("digits", "digits-times-3", "digits-fp64", "digits-bf16")
    }
    usual = studies["digits"].query("network == 'plain-8'")
    for others, say in (
        (["digits-times-3"], verdict.on_more_steps),
        (["digits-fp64", "digits-bf16"], verdict.on_precisions),
    ):
        sentences = say(pd.concat([usual, *(studies[name] for name in others)]))
        assert "plain-8" in sentences[0]
        for sentence in sentences:
            assert sentence in texts(app)
    assert "digits: runs of digits, digits-times-3" in texts(app)


def test_hostile_names_and_words_are_never_interpreted(folder: Path, open_page: Open) -> None:
    path = copy(folder, "gradient-correlation")
    info = json.loads(path.read_text())
    info |= {"what": HOSTILE, "choices": {HOSTILE: HOSTILE}, "created": HOSTILE, "commit": HOSTILE}
    path.write_text(json.dumps(info))
    path.parent.rename(path.parent.with_name("![x](evil.example) <b>"))
    app = open_page("gradient-correlation")
    for sign in ("evil.example", ":red[", "![", "<img"):
        assert sign not in markup(app)
    assert len(charts(app)) == 2


def test_a_study_deleted_while_the_page_is_open(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8")
    copy(folder, "gradient-correlation")
    app = open_page()
    folder.rename(folder.with_name("away"))
    app.run()
    assert not app.exception
    assert not charts(app)


def test_every_card_answers_in_a_few_words_and_one_number(folder: Path, open_page: Open) -> None:
    frames = {name: store.read_measurement(copy(folder, name)).frame for name in COMMITTED}
    app = open_page()
    answers = [q.brief(frames[q.name]) for q in story.STORY if q.name in frames]
    assert [metric.value for metric in app.metric] == [one.words for one in answers if one]
    for one in filter(None, answers):
        assert f"**{one.number}**" in markup(app)
        assert one.about in texts(app)
    # 3.7e+02 nowhere, folded out or not
    said = texts(open_page(*COMMITTED)) + markup(app)
    assert not re.search(r"\d\.?\d*e[+-]\d", said)
