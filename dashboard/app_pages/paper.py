"""Tables 2, 3, 4, 6 and Figure 6 of the paper, our measured values beside them, from all studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from dashboard import cached, frame
from resnetlab import plots, store, verdict
from resnetlab.verdict import claims, comparison

# What is said of our runs, in the order that a narrow page cuts last.
CONDITION = ("n", "data", "comparable", "study", "protocol", "recipe", "parameters", "our_parameters")


# Drawn; of the tables the last one.
QUANTITIES = {"train_error": "final training error", "test_error": "final test error"}
CLAIMED = "Clean training errors come first: of the finished network, on the images as they are."


def page() -> None:
    study = frame.open_study("paper")
    paths = store.find_studies(cached.root())
    studies = {frame.place(path): cached.study(path).runs for path in paths}
    ours = comparison.measured(studies.items())
    sentence, named = comparison.overall(ours)
    with st.container(border=True):
        st.markdown(f"**{sentence}**" if named else sentence)
        if named:
            frame.say(named)
    one_by_one(studies)
    runs = frame.one_condition(study.runs)
    table = verdict.ordinary(cached.table(runs)) if runs else cached.table(runs)
    for part in (comparison.FIGURE_6, *comparison.TABLES):
        frame.section(f"{part.name}: {part.about}", f"The paper's: {part.how}. Errors in percent.")
        picture(part, table, study)
        rows = comparison.table(part, ours)
        if part.name == "Table 6":
            comparison.with_parameters(rows, (run for runs in studies.values() for run in runs))
        show(part.name, rows.map(lambda value: frame.shown(value) if isinstance(value, str) else value))
    frame.section(
        "What these tables cannot say",
        "\n".join(f"- {limit}" for limit in comparison.LIMITS)
        + "\n- `resnetlab evaluate STUDY/RUN --protocol all` tests a trained network by the other "
        "protocols; its result then stands here.",
    )


def one_by_one(studies: Mapping[str, Sequence[store.RunRecord]]) -> None:
    """The claims on one error, and what these runs settle of them."""
    frame.section("The paper's claims about depth", claims.RULE)
    with st.expander("The rule in full"):
        st.markdown("\n".join(f"- {sentence}" for sentence in claims.FINE_PRINT))
    errors = {words.capitalize(): name for name, words in claims.ERRORS.items()}
    error = frame.choose("Final error", errors, "error", CLAIMED)
    tables = [(name, cached.table(runs)) for name, runs in studies.items()]
    rows = [row for row in claims.rows(tables) if row.error == error]
    unbroken = "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"  # by a line's end in a narrow cell
    st.table(claims.matrix(rows).replace("n = ", unbroken, regex=True))
    cells = pd.DataFrame([row.cells() | row.numbers() for row in rows])
    cells["interval"] = [row.gap.within.partition(" % ")[2] if row.gap else "" for row in rows]
    cells[["the paper", "source"]] = [row.paper for row in rows]
    cells["study"] = cells["study"].map(frame.shown)
    columns = frame.columns("claims")
    with st.expander("As a table of numbers"):
        frame.table(cells, "claims", columns, column_order=list(columns))


def picture(part: comparison.Part, table: pd.DataFrame, study: store.Study) -> None:
    """The part drawn beside the chosen study's runs; nothing of a study without its networks."""
    for quantity, error in [*QUANTITIES.items()][0 if part.name == "Figure 6" else -1 :]:
        rows = comparison.in_order(part, table, quantity)
        if not rows["n"].any():
            continue
        finished = table[(table["status"] == "finished") & table["network"].isin(rows["network"])]
        apart = bool(verdict.reasons_apart(finished))
        drawn = plots.beside_the_paper(rows, error, plots.conditions(finished), part.how, apart)
        settled = rows.loc[rows["order"] != "", ["network", "against", "order"]].to_numpy()
        ticks = [f"{network} against {other}: {word}" for network, other, word in settled]
        alt = f"{part.name}, {error}, the paper's and ours. {'; '.join(ticks)}."
        source = frame.Source(rows, "10_ours_and_the_paper", study)
        frame.chart(drawn, f"{part.name} {quantity}", source=source, alt=alt)


def show(name: str, rows: pd.DataFrame) -> None:
    """A table of the paper beside ours; without runs of ours only the paper's columns."""
    measured = rows.filter(regex="^ours_").notna().any(axis=None)
    word = "top-1" if "paper_top5" in rows else "test"
    errors = [str(column) for column in rows if column not in CONDITION]
    if not measured:
        errors = [column for column in errors if not column.startswith("ours_")]
    about_ours = CONDITION if rows["n"].notna().any() else ("parameters",)
    columns = {
        "network": frame.text(
            "Network", pinned=True, width=20 + 9 * int(rows["network"].str.len().max())
        ),
        "n": frame.number("n", "Finished runs in the mean, one per seed.", "%d"),
        "protocol": frame.text("Our test"),
        "data": frame.text("Our data"),
        "recipe": frame.text("Our recipe"),
        "study": frame.text("Study"),
        "comparable": frame.text(
            "To be compared?", "With the paper's number in the same row.", width=180
        ),
    }
    spread = (
        "Mean over finished seeds at the last step; ± is the sample standard deviation (over n - 1), "
        "best the best of these seeds, never of the steps of one."
    )
    for column, label, hint in (
        ("parameters", "Paper: parameters", None),
        ("our_parameters", "Ours: parameters", None),
        ("paper_top1", f"Paper {word} (%)", None),
        ("paper_top5", "Paper top-5 (%)", None),
        ("ours_top1", f"Ours {word} (%)", spread),
        ("ours_top5", "Ours top-5 (%)", None),
        ("paper_train", "Paper train (%)", None),
        ("ours_train", "Ours train (%)", "Running, in training mode."),
    ):
        columns[column] = frame.text(label, hint, alignment="right")
    # Ours beside the paper's, so that a narrow screen shows both.
    kinds = list(dict.fromkeys(name.partition("_")[2] for name in errors))
    errors.sort(key=lambda name: kinds.index(name.partition("_")[2]))
    order = [*errors, *(column for column in about_ours if column in rows)]
    frame.table(rows, name, columns, column_order=order)
    if not measured:
        st.markdown("No finished run of ours is of these networks.")
    if name == "Table 6":
        st.markdown(
            "± and best are over five runs, which the paper gives for those two only. Plain networks "
            "do not stand in Table 6: Figure 6 has them.\n\nNot its own, in these tables, are "
            "[VGG](https://arxiv.org/abs/1409.1556), [GoogLeNet](https://arxiv.org/abs/1409.4842), "
            "[PReLU-net](https://arxiv.org/abs/1502.01852), "
            "[BN-inception](https://arxiv.org/abs/1502.03167), "
            "[Maxout](https://arxiv.org/abs/1302.4389), [NIN](https://arxiv.org/abs/1312.4400), "
            "[DSN](https://arxiv.org/abs/1409.5185), [FitNet](https://arxiv.org/abs/1412.6550) and "
            "[Highway](https://arxiv.org/abs/1505.00387)."
        )


page()
