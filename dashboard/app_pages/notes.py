"""What to say at each screen of the lesson, for the teacher's own screen or on paper."""

from __future__ import annotations

import streamlit as st

from dashboard import frame, story

MOST = 1  # sentences of the verdict at once; the others fold out
LESSON = "app_pages/lesson.py"
CLOSE = """The last screen has the whole in a sentence, the answers one by one, and the questions that \
a class asks next; each leads to its screen, and Right leads back. Ask what they would measure, before \
you show what was."""


def page() -> None:
    frame.head("notes", count=len(story.STORY))
    for number, question in enumerate([*story.CORE, *story.ON_DEMAND], start=1):
        note(number, question)
    frame.section("Minutes 38 to 40: what would you ask next?", CLOSE)


def note(number: int, question: story.Question) -> None:
    """One screen: what it is for, what is asked, what comes out, and where it is."""
    chapter = story.chapter(question)
    frame.section(
        f"{number}. {question.title}", f"*{story.when(question).capitalize()}*. {chapter.role}"
    )
    address = {"screen": question.name}
    st.page_link(LESSON, label="To this screen", icon=":material/slideshow:", query_params=address)
    st.markdown(f"**Ask.** {question.prediction} *{' · '.join(question.choices)}*")
    known = story.sources(question)
    if not known:
        st.markdown(f"Not measured yet: `{question.command}`")
        return
    try:
        seen = story.look(question, story.first(known)[1])
    except Exception as error:  # a file of another shape must not end the page
        frame.say(f"Cannot be shown: {type(error).__name__}")
        return
    if seen.answer is not None:
        st.markdown(f"**Comes out.** **{seen.answer.words}: {seen.answer.number}**")
        frame.say(seen.answer.about)
    st.markdown(f"**Say.** {question.say}")
    st.markdown(f"**If they object.** {question.student}")
    st.markdown(question.about)
    frame.sentences(seen.sentences, MOST)


page()
