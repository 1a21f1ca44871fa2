"""The paper's question over one study: do deeper plain networks train worse, and residual ones not?"""

import pandas as pd
import streamlit as st

from dashboard import cached, frame
from resnetlab import plots, store, verdict

OURS = ("train_error", "train_error_clean", "test_error")
COLUMNS = {
    **frame.columns("means"),
    **{name: frame.text(*frame.MEANING[name], alignment="right") for name in OURS},
    **frame.columns("paper"),
}


def page() -> None:
    study = frame.open_study("degradation")
    runs = frame.one_condition(study.runs)
    if not runs:
        return
    table = cached.table(runs)
    hint = "For a class: hides the results until a prediction is made."
    if frame.switch("Predict first", "predict", hint):
        predict(table)
    st.markdown(
        "Plain networks do not: past some depth their *training* error rises. "
        "[He et al. (2015)](https://arxiv.org/abs/1512.03385) add shortcuts, and in their paper depth "
        "helps again."
    )
    frame.section("What these runs say")
    frame.sentences(verdict.answers(table))
    frame.say(*store.notes(runs))
    reason = next(iter(verdict.reasons_apart(table)), None)
    show_curves(cached.metrics(runs), reason)
    frame.section(
        "Error against depth",
        "The same runs at their last step. A line that rises to the right means that depth hurts; "
        "where it rises on the training error too, it is degradation and not overfitting.",
    )
    source = frame.Source(table, "01_degradation", study)
    frame.chart(cached.figure(plots.error_against_depth, table), "depth", source=source)
    means = verdict.by_network(table)
    beside_the_paper(means, reason)
    limits(means)


def predict(table: pd.DataFrame) -> None:
    """Ask the class first; ends the page until the answer is given and revealed."""
    pair = verdict.deepest_pair(table, "none")
    if pair is None:
        st.info("To predict there must be two depths of plain networks.", icon=":material/help:")
        return
    deep, shallow = pair
    finished = table[(table["network"] == shallow) & (table["status"] == "finished")]
    frame.section(
        "What do you expect?",
        f"**{shallow}** ends at a training error of **{finished['train_error'].mean():.1f} %**. "
        f"**{deep}** has more layers, the same data, the same recipe, no shortcuts. Its *training* "
        "error will be",
    )
    answers = ["lower", "about the same", "higher"]
    answer = frame.ask(
        st.segmented_control, "Your prediction", "guess", options=answers, label_visibility="collapsed"
    )
    if not frame.switch("Reveal", "reveal", disabled=answer is None):
        st.stop()
    cost = verdict.contrast(table, deep, shallow)
    if answer is not None and cost is not None:
        change = "higher" if cost.mean > 0 else "lower"
        truth = change if abs(cost.mean) > verdict.NEGLIGIBLE else "about the same"
        right = "as predicted" if answer == truth else f"predicted was: {answer}"
        st.subheader(f"It is {truth} ({cost.brief} points, n = {cost.n}): {right}.", anchor=False)


def show_curves(metrics: pd.DataFrame, reason: str | None) -> None:
    """Figure 6 of these runs; `reason` says why the paper's curves may not lie under them."""
    frame.section(
        "Error during training",
        "As in Figure 6 of the paper: plain networks left, residual networks right, one colour per "
        "depth. If depth only overfitted, the dashed training curves of the deeper networks would lie "
        "*lower*.",
    )
    hint = "Under ours where data set and recipe are the paper's, else in a figure of their own."
    with_paper = frame.switch("The paper's curves", "theirs", hint, on=True)
    under_ours = with_paper and reason is None
    curves = cached.figure(plots.error_curves, metrics, with_paper=under_ours)
    frame.chart(curves, "curves")
    if with_paper and reason is not None:
        frame.say(f"Not under our curves: {reason}. The paper's Figure 6 by itself:")
        frame.chart(plots.paper_error_curves(), "paper_curves")


def beside_the_paper(means: pd.DataFrame, reason: str | None) -> None:
    """The means of `verdict.by_network`, and whether they may be set against the paper's."""
    frame.section("Ours beside the paper")
    if reason is not None:
        frame.say(f"Not to be compared number by number: {reason}.")
    else:
        st.markdown("Same data set and recipe as in the paper: the numbers may be compared.")
    for conditions in sorted(set(means["paper_how"]) - {""}):
        st.markdown(f"The paper's values: {conditions}.")
    st.markdown(
        "Final errors in percent, mean over finished runs that differ only in their seed; "
        "± is the sample standard deviation and needs two runs."
    )
    cells = means.copy()
    for name in OURS:
        cells[name] = [verdict.with_spread(row, name) or None for _, row in means.iterrows()]
    cells = cells[list(COLUMNS)].dropna(axis="columns", how="all")
    none = [name for name in ("diverged", "unfinished") if not cells[name].any()]
    frame.table(cells.drop(columns=none), "means", COLUMNS)


def limits(means: pd.DataFrame) -> None:
    """What the numbers of the page leave open."""
    few = (
        f"- Some networks have fewer than {verdict.ENOUGH_SEEDS} finished seeds: a difference between "
        "two of them may be chance. `resnetlab study digits --seeds 0,1,2` adds seeds.\n"
    )
    frame.section(
        "What the data cannot say",
        (few if means["n"].min() < verdict.ENOUGH_SEEDS else "")
        + "- The dashed curves are *running* errors: they lag behind the network, because it improves "
        "while they are counted. The clean column has no such lag.\n"
        "- A network that trains worse within these steps might catch up with many more; "
        "the paper saw the gap stay for 64,000.\n"
        "- A gap shows *that* depth makes the training harder, not *why*. The next page looks at one "
        f"suspect, vanishing gradients.\n- {verdict.ELSEWHERE}",
    )


page()
