"""The paper's question over one study: do deeper plain networks train worse, and residual ones not?"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cached, frame
from resnetlab import paper, plots, store, verdict
from resnetlab.verdict import comparison

AT_ONCE = 8  # sentences of the verdict; more can be unfolded
NUMBER = """Final training error, running, of {pair} in percentage points: mean over seeds, each seed \
with itself. In brackets the 95 % interval of the mean. Clean: of the finished networks, on all their \
training images as they are. {recipe}"""
OTHER = "All of it under the recipe in the figure's subtitle, which is not the paper's."
# What a study's images are, for who has not heard of them.
IMAGES = {"digits": "on 8x8 images of digits", "cifar10-jpeg": "on photographs of 32x32 pixels"}
ORDER = {  # of a claim -> a word on whether the paper's two networks stand so
    "The paper's order": ":green-badge[as in the paper]",
    "Reversed here": ":orange-badge[reversed here]",
}
BLOCKS = """A plain block: x goes through two convolutions, which learn all of H(x). A residual block: \
they learn the change F(x), and a line around them adds x as it is."""
OURS = ("train_error", "train_error_clean", "test_error")
COLUMNS = {
    **frame.columns("means"),
    **{name: frame.text(*frame.MEANING[name], alignment="right") for name in OURS},
    **frame.columns("paper"),
}


def page() -> None:
    chosen = frame.chosen_study()
    on = {IMAGES.get(run.config.data.label, "in percent") for run in chosen.runs} if chosen else set()
    study = frame.open_study("degradation", on=on.pop() if len(on) == 1 else "in percent")
    runs = frame.one_condition(study.runs)
    if not runs:
        return
    table = cached.table(runs)
    reason = next(iter(verdict.reasons_apart(table)), None)
    source = frame.Source(table, "01_degradation", study)
    finding(table, reason, source)
    frame.section("What these runs say")
    answers = cached.said(verdict.answers, table)
    frame.sentences(answers, AT_ONCE)
    frame.say(*store.notes(runs))
    show_curves(cached.metrics(runs), reason, study, answers)
    frame.section(
        "Error against depth, training and test",
        "The same runs at their last step. A line that rises to the right means that depth hurts; "
        "where it rises on the training error too, it is degradation and not overfitting.",
    )
    alt = frame.alt("Final training and test error against depth.", answers)
    frame.chart(cached.figure(plots.error_against_depth, table), "both", source=source, alt=alt)
    means = cached.said(verdict.by_network, table)
    beside_the_paper(means, reason)
    limits(means)


def finding(table: pd.DataFrame, reason: str | None, source: frame.Source) -> None:
    """The first screen: three numbers, what a block is, error against depth."""
    found = cached.said(verdict.findings, table)
    if found:
        with st.container(key="findings", gap="xxsmall"):
            for column, one in zip(st.columns(len(found)), found, strict=True):
                # Another recipe may say something else; of the paper's own nothing is to be added.
                number(one, column, OTHER if reason is not None else "")
    left, right = st.columns([1, 1.9])
    with left:
        frame.chart(plots.block_strip(), "blocks", alt=BLOCKS, share=0.34)
    with right:
        said = " ".join(f"{one.head}: {one.claim.gap.size} points. {one.words}" for one in found)
        drawn = cached.figure(plots.error_against_depth, table, only_training=True)
        alt = f"Final training error against depth. {said}"
        frame.chart(drawn, "depth", source=source, alt=alt, share=0.62)


def number(one: verdict.Finding, place: Any, recipe: str) -> None:
    """One of the three differences, large, of what it is, and what it settles."""
    gap = one.claim.gap
    with place.container(border=True, height="stretch", gap="xxsmall"):
        hint = NUMBER.format(pair=one.pair, recipe=recipe)
        st.metric(one.head, f"{gap.size} points", help=hint)
        st.markdown(f"**{one.words}**")
        st.markdown(f"{gap.worse} {gap.ends[0]:.1f} %, {gap.better} {gap.ends[1]:.1f} %")
        st.markdown(", ".join(filter(None, [gap.within, f"n = {gap.n}"])))
        papers = paper.difference(gap.worse, gap.better, "train_error")
        clean = f"clean {one.clean.size}" if one.clean else ""
        theirs = f"the paper {papers[0]:+.2f}" if papers else ""
        st.markdown(f"{'; '.join(filter(None, [clean, theirs]))} {ORDER.get(one.claim.order, '')}")


def show_curves(
    metrics: pd.DataFrame, reason: str | None, study: store.Study, answers: Sequence[str]
) -> None:
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
    source, alt = frame.Source(metrics, "01_degradation", study), frame.alt("Error by step.", answers)
    frame.chart(curves, "curves", source=source, alt=alt)
    if with_paper and reason is not None:
        frame.say(f"Not under our curves: {reason}. The paper's Figure 6 by itself:")
        drawn = plots.paper_error_curves()
        frame.chart(drawn, "paper_curves", alt=frame.alt("The paper's own curves.", papers_ends()))
        frame.say(*verdict.on_crossing(metrics))


def papers_ends() -> list[str]:
    """Where the paper's training curves end, for who does not see them."""
    ends = [record for record in comparison.FIGURE_6.records if record.quantity == "train_error"]
    words = [f"{end.network} {end.value:.2f} %" for end in ends]
    return [f"Training error at the end: {', '.join(words)}."]


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
        "two of them may be chance. The command under *Make it again* adds them with `--seeds`.\n"
    )
    frame.section(
        "What the data cannot say",
        (few if means["n"].min() < verdict.ENOUGH_SEEDS else "")
        + "- The dashed curves are *running* errors: they lag behind the network, because it improves "
        "while they are counted. The clean column has no such lag.\n"
        "- A network that trains worse within these steps might catch up with many more; "
        "the paper saw the gap stay for 64,000.\n"
        "- A gap shows *that* depth makes the training harder, not *why*. *Gradient norms* looks at "
        f"one suspect, *Why, answered* at all that were measured.\n- {verdict.ELSEWHERE}",
    )


page()
