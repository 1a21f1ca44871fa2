"""The lesson on the dashboard: a prediction, then one figure per screen, in the order of the story."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from dashboard_data import charts, opened, write_study
from streamlit.testing.v1 import AppTest
from test_pages import markup, texts
from test_why import copy

from dashboard import story
from resnetlab import paper, store, verdict
from resnetlab.studies import lesson
from resnetlab.verdict import briefly
from resnetlab.verdict.surface import local_minima

LESSON, NOTES = "app_pages/lesson.py", "app_pages/notes.py"
Open = Callable[..., AppTest]


@pytest.fixture
def open_page(folder: Path) -> Open:
    return lambda page=LESSON, **query: opened(page, **query)


def press(app: AppTest, key: str) -> AppTest:
    next(button for button in app.button if button.key == key).click().run()
    assert not app.exception, app.exception
    return app


def test_the_story_has_one_order_the_lessons_own() -> None:
    places = [chapter.name for chapter in lesson.STORY]
    order = [places.index(question.notebook) for question in story.STORY]
    assert order == sorted(order)
    assert {question.name for question in story.STORY} == set(story.SHOWN)


@pytest.mark.parametrize("question", story.STORY, ids=lambda question: question.name)
def test_every_question_can_be_predicted_and_has_its_figure(question: story.Question) -> None:
    assert 2 <= len(question.choices) <= 4
    assert question.draw
    assert question.say
    assert question.student
    assert not re.search(r"\w = [\[\d\"]", question.about), (
        "a line of the file has slipped into the text"
    )


def test_the_minutes_of_the_screens_are_those_of_the_plan() -> None:
    """Of forty; the last two are for what the class would ask next (notebooks/README.md)."""
    plan = (Path(__file__).parents[1] / "notebooks" / "README.md").read_text()
    told = {question.name: story.when(question) for question in story.STORY}
    assert told["the-idea"] == "minute 0 to 4"
    assert told["agreement"] == "minute 33 to 38"
    assert told["precisions"] == "where the class asks"
    ends = {int(line.split()[-1]) for line in told.values() if line.startswith("minute")}
    planned = [int(end) for end in re.findall(r"^\| \d+-(\d+) \| \*\*", plan, re.MULTILINE)]
    assert len(planned) >= 8
    assert set(planned[:-1]) <= ends


def test_what_says_nothing_leaves_no_empty_frame(folder: Path, open_page: Open) -> None:
    write_study(folder)  # of which there is something to say, unlike of the block
    app = open_page(NOTES)
    frames = [block for block in app.main.children.values() if block.type == "flex_container"]
    assert frames
    assert all(frame.children for frame in frames)


def test_until_it_is_revealed_nothing_gives_the_answer_away(folder: Path, open_page: Open) -> None:
    values = store.read_measurement(copy(folder, "gradient-correlation")).frame
    answer = briefly.gradient_correlation(values)
    assert answer is not None
    app = open_page(screen="gradient-correlation")
    assert not charts(app)
    said = markup(app) + texts(app) + "".join(metric.value for metric in app.metric)
    assert answer.words not in said
    assert answer.number not in said
    question = next(one for one in story.STORY if one.name == "gradient-correlation")
    assert question.asked.strip() in markup(app)

    app = press(app, "on")
    assert len(charts(app)) == 1
    assert [metric.value for metric in app.metric] == [answer.words]
    assert answer.about in texts(app)


def test_hands_are_counted_and_stand_beside_the_answer(folder: Path, open_page: Open) -> None:
    copy(folder, "gradient-correlation")
    app = open_page(screen="gradient-correlation")
    choices = next(q for q in story.STORY if q.name == "gradient-correlation").choices
    assert [box.label for box in app.number_input] == list(choices)
    app.number_input[1].set_value(14).run()
    app = press(app, "on")
    assert f"{choices[1]}: 14" in markup(app)
    app = press(app, "back")
    assert [box.value for box in app.number_input] == [0, 14, 0]


def test_keys_lead_through_every_screen_and_each_has_its_address(folder: Path, open_page: Open) -> None:
    write_study(folder)
    app = open_page()
    for question in story.CORE:
        assert app.title[0].value == question.title
        app = press(app, "page-down")  # its figure, or what makes it
        assert (
            app.query_params["screen"] == [question.name] or app.query_params["screen"] == question.name
        )
        app = press(app, "on")
    assert app.query_params["screen"] in ("more", ["more"])
    links = [link.proto.label for link in app.main.get("page_link")]
    assert [question.title for question in story.ON_DEMAND] == links
    for question in story.ON_DEMAND:  # each leads to its figure and back to what may be asked
        app = opened(LESSON, screen=question.name)
        assert app.title[0].value == question.title
        app = press(press(app, "on"), "on")
        assert app.query_params["screen"] in ("more", ["more"])
    shortcuts = {button.key: button.proto.shortcut for button in app.button}
    assert shortcuts["on"].lower() == "right"
    assert shortcuts["back"].lower() == "left"


@pytest.mark.parametrize("question", story.STORY, ids=lambda question: question.name)
def test_an_answer_is_one_of_the_choices_or_not_settled(
    question: story.Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the committed runs and measurements; what leads to a clause of the whole is a choice, too."""
    monkeypatch.setenv("RESNETLAB_RESULTS", str(Path(__file__).parents[1] / "results"))
    assert set(question.short) <= set(question.choices)
    answer = story.look(question, story.first(story.sources(question))[1]).answer
    assert answer is not None
    assert answer.words in {*question.choices, briefly.UNSETTLED}


def test_the_whole_in_a_sentence_has_the_clauses_of_the_answers() -> None:
    core = {question.name: question for question in story.CORE}
    clipped, depth = core["first-step"], core["degradation"]
    found = {
        depth.title: briefly.Answer("The shallower one", "", ""),
        clipped.title: briefly.Answer("Most is left", "", ""),
    }
    assert story.in_short(found) == "Here a deeper plain network trains worse."
    found[clipped.title] = briefly.Answer("A little is left", "", "")
    assert story.in_short(found).endswith(f"; {clipped.short['A little is left']}.")
    assert story.in_short({}) == ""


def test_the_lesson_is_taken_up_where_it_was_left(folder: Path, open_page: Open) -> None:
    write_study(folder)
    app = press(open_page(), "on")
    app.switch_page("app_pages/degradation.py").run()
    app.query_params.clear()
    app.switch_page(LESSON).run()
    assert app.title[0].value == story.CORE[0].title
    assert app.query_params["shown"] in ("true", ["true"])


def test_a_count_is_kept_though_the_next_click_comes_with_it(folder: Path, open_page: Open) -> None:
    """A browser sends what was typed last together with the click that leaves the field."""
    copy(folder, "gradient-correlation")
    app = open_page(screen="gradient-correlation")
    app.number_input[2].set_value(9)
    app = press(app, "on")
    assert ": 9" in markup(app)


@pytest.mark.parametrize(("seeds", "begins"), [(3, "depth-real"), (2, "digits")])
def test_the_lesson_begins_with_the_study_of_the_first_page(
    folder: Path, seeds: int, begins: str
) -> None:
    write_study(folder / "reference", study="depth-real", seeds=seeds)
    write_study(folder / "reference")
    question = next(question for question in story.STORY if question.name == "degradation")
    name, read = story.first(story.sources(question))
    assert name == begins
    assert set(read()[0]["study"]) == {begins}


@pytest.mark.parametrize("screen", ["", "nothing", "../../etc", "inf"])
def test_an_address_that_names_no_screen_leads_to_the_first(open_page: Open, screen: str) -> None:
    assert open_page(screen=screen).title[0].value == story.STORY[0].title


def test_a_damaged_measurement_does_not_end_the_lesson(folder: Path, open_page: Open) -> None:
    copy(folder, "gradient-correlation").write_text("{")
    app = open_page(screen="gradient-correlation", shown="true")
    assert "is not a readable measurement" in texts(app)
    assert next(button for button in app.button if button.key == "on").label == "Next"


def test_the_notes_say_what_each_screen_is_for_and_what_comes_out(
    folder: Path, open_page: Open
) -> None:
    path = copy(folder, "gradient-correlation")
    app = open_page(NOTES)
    assert len(app.header) == len(story.STORY) + 1  # and the close
    answer = briefly.gradient_correlation(store.read_measurement(path).frame)
    assert answer is not None
    assert f"**{answer.words}: {answer.number}**" in markup(app)
    addresses = [link.proto.query_string for link in app.get("page_link")]
    assert [f"screen={question.name}" in addresses[n] for n, question in enumerate(story.STORY)]
    for question in story.STORY:
        assert story.chapter(question).role in markup(app)


def test_charts_that_draw_themselves_are_told_how_long(folder: Path, open_page: Open) -> None:
    copy(folder, "gradient-correlation")
    app = open_page(screen="gradient-correlation", shown="true")
    (chart,) = [item for item in app.get("bidi_component") if "live_chart" in item.proto.component_name]
    assert json.loads(chart.proto.json)["seconds"] > 0


def committed(name: str) -> pd.DataFrame:
    """The values that a screen of the lesson shows of the committed results."""
    question = next(question for question in story.STORY if question.name == name)
    return story.first(story.sources(question))[1]()[0]


def settled(first: pd.Series, second: pd.Series) -> int:
    """Whether the differences over shared seeds have a sign that their interval allows."""
    gaps = (first - second).dropna()
    return verdict.Contrast("", "", tuple(gaps)).sign


def test_what_a_teacher_is_told_to_say_is_so_in_the_committed_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sentences of story.toml that are written by hand and speak of what a figure shows."""
    monkeypatch.setenv("RESNETLAB_RESULTS", str(Path(__file__).parents[1] / "results"))
    told = {question.name: question.say + question.student for question in story.STORY}

    runs = committed("degradation")
    deep = runs[runs["network"] == "resnet-56"]["train_error"]
    assert ((deep > 20).sum(), (deep < 2).sum()) == (1, len(deep) - 1)
    assert "One of the deep residual networks is bad" in told["degradation"]

    norms = story.norms(committed("at-initialisation"))
    bare = norms[(norms["norm"] != "with batch norm") & (norms["network"] == "plain-110")]["value"]
    assert bare.max() < 1e-9
    assert bare.max() / bare.min() < 100
    assert "tiny, in all layers alike" in " ".join(told["at-initialisation"].split())

    dial = committed("shortcut-dial").pivot_table("train_error_clean", "seed", "scale")
    assert dial[0.75].mean() < dial[1.0].mean()
    assert settled(dial[0.75], dial[1.0]) == 0
    assert ((dial[1.0] > 20).sum(), (dial[1.0] < 2).sum()) == (1, len(dial) - 1)
    assert "these seeds do not settle it: one run of" in told["shortcut-dial"]

    cut = committed("lesions")
    cut = cut.assign(added=cut["test_error"] - cut["intact_error"])
    one = cut[(cut["removed"] == 1) & (cut["family"] == "residual")]
    for _, rows in one.groupby("network"):
        by_place = rows.groupby("place")["added"].mean()
        assert by_place.idxmax() == 0, "most without the first block"
        assert (by_place < 5).mean() > 0.5, "most blocks are hardly missed"
    several = cut[(cut["family"] == "residual") & (cut["removed"] > 1)]
    assert several.groupby(["network", "removed"])["added"].mean().groupby("network").max().min() > 20
    assert "then residual networks break as well" in " ".join(told["lesions"].split())

    minima = local_minima(committed("loss-surface")).pivot_table("minima", "seed", "family")
    assert (minima["plain"] > minima["residual"]).all()
    assert settled(minima["plain"], minima["residual"]) == 0
    assert "Every seed points the same way" in told["loss-surface"]

    exact = committed("precisions").pivot_table("train_error", "seed", "precision")
    assert not any(settled(exact[one], exact["fp64"]) for one in exact if one != "fp64")
    assert "float64 is no cure" in told["precisions"]

    ends = {name: paper.reported(f"plain-{name}", "train_error").value for name in (20, 32, 44, 56)}
    assert ends[32] < ends[20] < ends[44] < ends[56]
    assert "rises from 44 layers on" in " ".join(told["agreement"].split())
    assert -1 < paper.difference("resnet-34-C", "resnet-34", "top1_error")[0] < 0
    assert "By less than a point" in told["shortcut-options"]
