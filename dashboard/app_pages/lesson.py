"""The story as one-figure screens: a question, a show of hands, then curves that draw themselves.

Every screen has an address, before and after its figure is shown. Right and left lead on and back, as a
presenter's keys do; Escape leaves. What to say stands on another page, `notes`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from dashboard import frame, story
from resnetlab import plots
from resnetlab.config import UsageError

SECONDS = 3.0  # in which curves draw themselves
HANDS = 999  # at most
HIGH = 440  # pixels of a figure at most: with its question and the keys on one screen of 720
HOME, LESSON = "app_pages/degradation.py", "app_pages/lesson.py"
MORE = "more"  # the screen behind the last of the forty minutes
QUESTIONS = {question.name: question for question in story.STORY}


def page() -> None:
    name, shown = place()
    st.session_state["lesson, left at"] = (name, shown)
    st.html(frame.HERE / "styles" / "lesson.css")
    frame.live(training=True)  # its charts are those that can draw themselves
    with st.container(key="lesson"):
        if name == MORE:
            close()
        else:
            screen(QUESTIONS[name], shown)
    steps(name, shown)


def screen(question: story.Question, shown: bool) -> None:
    """A question, or its figure and its answer."""
    part = story.CORE if question in story.CORE else story.ON_DEMAND
    about = "" if question in story.CORE else "Where the class asks, "
    hands = [f"{choice}: {count}" for choice, count in tally(question).items() if count and shown]
    voted = f", hands: {' · '.join(hands)}" if hands else ""
    st.caption(f"{about}{part.index(question) + 1} of {len(part)}{voted}")
    st.title(question.title, anchor=False)
    if shown:
        reveal(question)
    else:
        ask(question)


def place() -> tuple[str, bool]:
    """The screen that the address names and whether its figure is shown; else where one was last."""
    asked = st.query_params.get("screen", "")
    if not asked and (left := st.session_state.get("lesson, left at")):
        go(*left)
        asked = left[0]
    known = asked in QUESTIONS or asked == MORE
    return asked if known else story.CORE[0].name, st.query_params.get("shown") == "true"


def go(name: str, shown: bool) -> None:
    """Lead to a screen: its address."""
    st.query_params["screen"] = name
    if shown:
        st.query_params["shown"] = "true"
    else:
        st.query_params.pop("shown", None)


def around(name: str, shown: bool) -> tuple[tuple[str, bool], tuple[str, bool]]:
    """The screens before and after this one. What a class asks for leads back to what it may ask."""
    names = [question.name for question in story.CORE]
    if name == MORE:
        return (names[-1], True), (MORE, False)
    if name not in names:
        return ((name, False), (MORE, False)) if shown else ((MORE, False), (name, True))
    at = names.index(name)
    if not shown:
        return (names[at - 1], True) if at else (name, False), (name, True)
    return (name, False), (names[at + 1], False) if at + 1 < len(names) else (MORE, False)


def steps(name: str, shown: bool) -> None:
    """The buttons that lead on and back, each with its key, a presenter's clicker too."""
    back, on = around(name, shown)
    with st.container(horizontal=True, key="lesson-steps", vertical_alignment="center"):
        st.button("Back", shortcut="Left", on_click=go, args=back, key="back")
        label = "Next" if shown else "Reveal"
        ends = name == MORE
        look: dict[str, Any] = {"type": "primary", "disabled": ends}
        st.button(
            "The end" if ends else label, shortcut="Right", on_click=go, args=on, key="on", **look
        )
        if st.button("Leave", shortcut="Esc", key="leave", type="tertiary"):
            st.switch_page(HOME, query_params={})  # what widgets hold in the address stays there
        # In a window of its own: what stands there is not for the class.
        st.link_button("Speaker notes", "notes", icon=":material/open_in_new:", type="tertiary")
    with st.container(key="clicker"):
        st.button("Back by clicker", shortcut="PageUp", on_click=go, args=back, key="page-up")
        st.button("On by clicker", shortcut="PageDown", on_click=go, args=on, key="page-down")


def ask(question: story.Question) -> None:
    """What is to be predicted, and how many hands go up for each answer."""
    st.markdown(question.prediction)
    hands = tally(question)
    if not question.choices:
        return
    st.markdown("**Show of hands**")
    for column, choice in zip(st.columns(len(question.choices)), question.choices, strict=True):
        key, before = f"hands {question.name} {choice}", hands.get(choice, 0)
        count = partial(counted, question, choice, key)  # also where the next click leads on
        hands[choice] = int(column.number_input(choice, 0, HANDS, before, key=key, on_change=count))


def counted(question: story.Question, choice: str, key: str) -> None:
    tally(question)[choice] = int(st.session_state[key])


def tally(question: story.Question) -> dict[str, int]:
    """The hands of a question, kept while the lesson goes on."""
    every: dict[str, dict[str, int]] = st.session_state.setdefault("hands", {})
    return every.setdefault(question.name, {})


def close() -> None:
    """What came out, in a sentence and question by question; and what a class may ask next."""
    st.title("What would you ask next?", anchor=False)
    found = story.answers(story.CORE)
    if whole := story.in_short(found):
        st.markdown(whole)
    left, right = st.columns([1.5, 1])
    with left, st.container(key="lesson-recap", gap="xxsmall"):
        for title, answer in found.items():
            st.markdown(f"{title} **{answer.words}**")
    with right:
        for question in story.ON_DEMAND:
            st.page_link(LESSON, label=question.title, query_params={"screen": question.name})


def reveal(question: story.Question) -> None:
    """The figure, which draws itself, and the answer."""
    known = story.sources(question)
    if not known:
        st.info("Not measured yet. This measures it:", icon=":material/hourglass_empty:")
        st.code(question.command, language="bash")
        return
    try:
        seen = story.look(question, story.first(known)[1])
    except Exception as error:  # a file of another shape must not end the lesson
        frame.say(
            f"Cannot be shown: {error if isinstance(error, UsageError) else type(error).__name__}"
        )
        return
    left, right = st.columns([1, 2.6])
    figures = [(figure, plots.untitled(figure)) for figure in seen.figures[-1:]]
    with left:
        if seen.answer is not None:
            st.metric("Answer", seen.answer.words, label_visibility="collapsed")
            st.markdown(f"**{seen.answer.number}**")
            frame.say(seen.answer.about)
        with st.container(key="lesson-small"):
            frame.say(*(small_print for _, small_print in figures))
    with right:
        for figure, _ in figures:
            source = frame.Source(seen.values, question.notebook) if question.measured else None
            look: dict[str, Any] = {"seconds": SECONDS if question.measured else 0.0}
            look |= {"share": 0.72, "high": HIGH}
            frame.chart(figure, question.name, source=source, alt=seen.alt, **look)


page()
