"""Tables 2, 3, 4, 6 and Figure 6 of the paper, our measured values beside them, from all studies."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import cached, frame
from resnetlab import store
from resnetlab.verdict import comparison

# What is said of our runs, in the order that a narrow page cuts last.
CONDITION = ("n", "data", "comparable", "study", "protocol", "recipe", "parameters", "our_parameters")


def draw(key: str, shown: pd.DataFrame) -> None:
    """A table of the page; of runs that there are none, nothing more is said."""
    word = "top-1" if "paper_top5" in shown else "test"
    errors = [str(name) for name in shown if name not in CONDITION]
    said = CONDITION if shown["n"].notna().any() else ("parameters",)
    st.dataframe(
        shown,
        hide_index=True,
        key=key,
        height="content",
        placeholder="",
        column_order=[*errors, *(name for name in said if name in shown)],
        column_config={
            "network": frame.text("Network", pinned=True),
            "parameters": frame.text("Paper: parameters", alignment="right"),
            "our_parameters": frame.text("Ours: parameters", alignment="right"),
            "paper_top1": frame.text(
                f"Paper {word} (%)",
                alignment="right",
                width=200 if key == "Table 6" else None,
            ),
            "paper_top5": frame.text("Paper top-5 (%)", alignment="right"),
            "ours_top1": frame.text(
                f"Ours {word} (%)",
                "Mean over finished seeds at the last step; ± is the sample standard deviation.",
                alignment="right",
            ),
            "ours_top5": frame.text("Ours top-5 (%)", alignment="right"),
            "paper_train": frame.text("Paper train (%)", alignment="right"),
            "ours_train": frame.text("Ours train (%)", "Running, in training mode.", alignment="right"),
            "n": frame.number("n", "Finished runs in the mean, one a seed.", "%d"),
            "protocol": frame.text("Our test"),
            "data": frame.text("Our data"),
            "recipe": frame.text("Our recipe"),
            "study": frame.text("Study"),
            "comparable": frame.text(
                "To be compared?", "With the paper's number in the same row.", width=180
            ),
        },
    )


study = frame.open_study(
    "Ours and the paper",
    "Every error that the paper reports in Tables 2, 3, 4 and 6 and at the end of Figure 6, and "
    "beside it what runs of ours reached, from **all** studies of the results folder. A cell without a "
    "run stays empty.",
)
root = cached.root()
studies = {path.relative_to(root).as_posix(): cached.study(path) for path in store.find_studies(root)}
ours = comparison.measured((name, found.runs) for name, found in studies.items())

with st.container(border=True):
    sentence, named = comparison.overall(ours)
    st.markdown(f"**{sentence}**" if named else sentence)
    if named:
        st.text(frame.shown(named))

for part in (*comparison.TABLES, comparison.FIGURE_6):
    st.header(f"{part.name}: {part.about}", anchor=False)
    st.markdown(f"The paper's: {part.how}. Errors in percent.")
    shown = comparison.table(part, ours)
    if part.name == "Table 6":
        comparison.with_parameters(shown, (run for found in studies.values() for run in found.runs))
    draw(part.name, shown.map(lambda value: frame.shown(value) if isinstance(value, str) else value))
    if not shown["ours_top1"].notna().any():
        st.markdown("No finished run of ours is of these networks.")
    if part.name == "Table 6":
        st.markdown(
            "± and best are over five runs, which the paper gives for those two only. Maxout to "
            "Highway are not its own. Plain networks do not stand in Table 6: Figure 6 has them."
        )

st.header("What these tables cannot say", anchor=False)
limits = (
    *comparison.LIMITS,
    "`resnetlab evaluate STUDY/RUN --protocol all` tests a trained network by the other protocols; "
    "its result then stands here.",
)
st.markdown("\n".join(f"- {limit}" for limit in limits))
