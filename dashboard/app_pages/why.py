"""Why it fails, why it works: a card per question of the story with its answer; all else folds out."""

from __future__ import annotations

import re

import plotly.graph_objects as go
import streamlit as st

from dashboard import frame, story
from resnetlab import plots
from resnetlab.config import UsageError

AT_ONCE = 6  # sentences of a question; more can be unfolded


def page() -> None:
    frame.head("why")
    # A notebook that measures while the page is open fills it.
    frame.redraw_when_changed(story.state, frame.IDLE_SECONDS)
    recap()
    for question in story.STORY:
        if question.card:
            with st.container(border=True):
                card(question)


def recap() -> None:
    """The whole in a sentence, from the answers, before they stand one by one."""
    if whole := story.in_short(story.answers(story.CORE)):
        with st.container(border=True):
            st.markdown(f"**In short.** {whole}")


def card(question: story.Question) -> None:
    """What there is of a question, or the command that measures it."""
    left, right = st.columns([1, 1.5])
    left.header(question.title, anchor=question.name)
    known = frame.labelled(story.sources(question).items())
    if not known:
        left.info("Not measured yet. This measures it:", icon=":material/hourglass_empty:")
        left.code(question.command, language="bash")
        return
    key = re.sub(r"\W+", "-", question.title.lower()).strip("-")
    label, read = story.first(known)
    if len(known) > 1:
        with left:
            read = frame.choose("Measured in", known, key)
        label = next(label for label, item in known.items() if item is read)
    try:
        shown = story.look(question, read)
    except Exception as error:  # a file of another shape: whatever it lacks must not end the page
        reason = f"its values are not those of this figure ({type(error).__name__}: {error})"
        frame.say(f"Cannot be shown: {error if isinstance(error, UsageError) else reason}")
        st.markdown("This measures it again:")
        st.code(question.command, language="bash")
        return
    if shown.answer is not None:
        left.metric("Answer", shown.answer.words, label_visibility="collapsed")
        left.markdown(f"**{shown.answer.number}**")
        left.text(frame.shown(shown.answer.about))
    if shown.figures:
        with right:
            figure = plots.small(shown.figures[-1])
            frame.chart(figure, f"{question.name} small", alt=shown.alt, share=0.6)
            if not figure.layout.showlegend:  # too many names for so small a figure
                legend = plots.untitled(go.Figure(shown.figures[-1])).partition(". ")[2]
                st.caption(frame.shown(legend, 400))
    whole(question, shown, f"{label}: {shown.origin}. Notebook {question.notebook}.")


def whole(question: story.Question, shown: story.Shown, origin: str) -> None:
    """The question's figures, sentences and where they come from, drawn when they are unfolded."""
    fold = st.expander(
        "Read more", key=f"whole-{question.name}", on_change="rerun", bind="query-params"
    )
    if not fold.open:
        return
    with fold:
        st.markdown(question.about)
        source = frame.Source(shown.values, question.notebook)
        for number, figure in enumerate(shown.figures):
            frame.chart(figure, f"{question.name} {number}", source=source, alt=shown.alt)
        frame.sentences(shown.sentences, AT_ONCE)
        frame.say(origin)


page()
