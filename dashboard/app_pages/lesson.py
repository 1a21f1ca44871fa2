"""The story as one-figure screens: a question, a show of hands, then curves that draw themselves.

Every screen has an address, before and after its figure is shown. Right and left lead on and back, as a
presenter's keys do; Escape leaves. What to say stands on another page, `notes`.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import frame, story
from resnetlab import plots
from resnetlab.config import UsageError

SECONDS = 3.0  # in which curves draw themselves
HANDS = 999  # at most
HIGH = 440  # pixels of a figure at most: with its question and the keys on one screen of 720
HOME, NOTES = "app_pages/degradation.py", "app_pages/notes.py"


def page() -> None:
    at, shown = place()
    question = story.STORY[at]
    st.html(frame.HERE / "styles" / "lesson.css")
    frame.live(training=True)  # its charts are those that can draw themselves
    with st.container(key="lesson"):
        st.caption(f"{at + 1} of {len(story.STORY)}")
        st.title(question.title, anchor=False)
        if shown:
            reveal(question)
        else:
            ask(question)
    steps(at, shown)


def place() -> tuple[int, bool]:
    """Which screen the address asks for, else the first; and whether its figure is shown."""
    names = [question.name for question in story.STORY]
    asked = st.query_params.get("screen", "")
    return names.index(asked) if asked in names else 0, st.query_params.get("shown") == "true"


def go(at: int, shown: bool) -> None:
    """Lead to a screen: its address."""
    st.query_params["screen"] = story.STORY[at].name
    if shown:
        st.query_params["shown"] = "true"
    else:
        st.query_params.pop("shown", None)


def steps(at: int, shown: bool) -> None:
    """The buttons that lead on and back, each with its key, a presenter's clicker too."""
    on = (at, True) if not shown else (min(at + 1, len(story.STORY) - 1), at == len(story.STORY) - 1)
    back = (at, False) if shown else (max(at - 1, 0), at > 0)
    with st.container(horizontal=True, key="lesson-steps", vertical_alignment="center"):
        st.button("Back", shortcut="Left", on_click=go, args=back, key="back")
        label = "Next" if shown else "Reveal"
        st.button(label, shortcut="Right", on_click=go, args=on, key="on", type="primary")
        if st.button("Leave", shortcut="Esc", key="leave", type="tertiary"):
            st.switch_page(HOME, query_params={})  # what widgets hold in the address stays there
        st.page_link(NOTES, label="Speaker notes", icon=":material/notes:")
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
        hands[choice] = int(column.number_input(choice, 0, HANDS, before, key=key))


def tally(question: story.Question) -> dict[str, int]:
    """The hands of a question, kept while the lesson goes on."""
    every: dict[str, dict[str, int]] = st.session_state.setdefault("hands", {})
    return every.setdefault(question.name, {})


def reveal(question: story.Question) -> None:
    """The figure, which draws itself, the answer, and what had been predicted."""
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
    words = [f"{choice}: {count}" for choice, count in tally(question).items() if count]
    left, right = st.columns([1, 2.6])
    figures = [(figure, plots.untitled(figure)) for figure in seen.figures[-1:]]
    with left:
        if seen.answer is not None:
            st.metric("Answer", seen.answer.words, label_visibility="collapsed")
            st.markdown(f"**{seen.answer.number}**")
            frame.say(seen.answer.about)
        if words:
            st.markdown("**Hands**  \n" + "  \n".join(words))
        with st.container(key="lesson-small"):
            frame.say(*(small_print for _, small_print in figures), length=800)
    with right:
        for figure, _ in figures:
            source = frame.Source(seen.values, question.notebook) if question.measured else None
            look: dict[str, Any] = {"seconds": SECONDS if question.measured else 0.0}
            look |= {"share": 0.72, "high": HIGH}
            frame.chart(figure, question.name, source=source, alt=seen.alt, **look)


page()
