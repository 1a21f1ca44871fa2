"""The paper's question over one study: do deeper plain networks train worse, and residual ones not?"""

import streamlit as st

from dashboard import cached, frame
from resnetlab import plots, store, verdict

study = frame.open_study(
    "The degradation problem",
    "A deeper network could copy a shallower one and let its extra layers do nothing, so it should "
    "train at least as well.",
)
runs = frame.one_condition(study.runs)
if not runs:
    st.stop()
table, metrics, theme = cached.table(runs), cached.metrics(runs), frame.theme()

labels = table[["data", "recipe"]].drop_duplicates().itertuples(index=False)
reason = next((why for pair in labels for why in verdict.not_comparable(*pair)), None)


def predict() -> None:
    """Ask the class first; ends the page until the answer is given and revealed."""
    pair = verdict.deepest_pair(table, "none")
    if pair is None:
        st.info("To predict there must be two depths of plain networks.", icon=":material/help:")
        return
    deep, shallow = pair
    reached = table[(table["network"] == shallow) & (table["status"] == "finished")][
        "train_error"
    ].mean()
    st.header("What do you expect?", anchor=False)
    st.markdown(
        f"**{shallow}** ends at a training error of **{reached:.1f} %**. **{deep}** has more layers, "
        "the same data, the same recipe, no shortcuts. Its *training* error will be"
    )
    answer = st.segmented_control(
        "Your prediction",
        ["lower", "about the same", "higher"],
        key="guess",
        bind="query-params",
        label_visibility="collapsed",
    )
    if not st.toggle("Reveal", key="reveal", bind="query-params", disabled=answer is None):
        st.stop()
    found = verdict.contrast(table, deep, shallow)
    if answer is not None and found is not None:
        higher = found.mean > verdict.NEGLIGIBLE
        seen = "higher" if higher else "lower" if found.mean < -verdict.NEGLIGIBLE else "about the same"
        right = "as predicted" if answer == seen else f"predicted was: {answer}"
        st.subheader(f"It is {seen} ({found.mean:+.1f} points, n = {found.n}): {right}.", anchor=False)


if st.toggle(
    "Predict first",
    key="predict",
    bind="query-params",
    help="For a class: hides the results until a prediction is made.",
):
    predict()
st.markdown(
    "Plain networks do not: past some depth their *training* error rises. He et al. (2015) add "
    "shortcuts, and depth helps again."
)

st.header("What these runs say", anchor=False)
with st.container(border=True):
    for sentence in verdict.answers(table):
        st.text(frame.shown(sentence, 2000))
for sentence in store.notes(runs):
    st.text(frame.shown(sentence))

st.header("Error during training", anchor=False)
st.markdown(
    "As in Figure 6 of the paper: plain networks left, residual networks right, one colour a depth. "
    "If depth only overfitted, the dashed training curves of the deeper networks would lie *lower*."
)
theirs = st.toggle(
    "The paper's curves",
    value=True,
    key="theirs",
    bind="query-params",
    help="Under ours where data set and recipe are the paper's, else in a figure of their own.",
)
under_ours = theirs and reason is None
frame.chart(cached.figure(plots.error_curves, metrics, theme=theme, with_paper=under_ours), "curves")
if theirs and reason is not None:
    st.text(frame.shown(f"Not under our curves: {reason}. The paper's Figure 6 by itself:"))
    frame.chart(plots.paper_error_curves(theme=theme), "paper_curves")

st.header("Error against depth", anchor=False)
st.markdown(
    "The same runs at their last step. A line that rises to the right means that depth hurts; "
    "where it rises on the training error too, it is degradation and not overfitting."
)
frame.chart(cached.figure(plots.error_against_depth, table, theme=theme), "depth")

st.header("Ours beside the paper", anchor=False)
OURS = ("train_error", "train_error_clean", "test_error")
means = verdict.by_network(table)
if reason is not None:
    st.text(frame.shown(f"Not to be compared number by number: {reason}."))
else:
    st.markdown("Same data set and recipe as in the paper: the numbers may be compared.")
for conditions in sorted(set(means["paper_how"]) - {""}):
    st.markdown(f"The paper's values: {conditions}.")
st.markdown(
    "Final errors in percent, mean over finished runs that differ only in their seed; "
    "± is the sample standard deviation and needs two."
)


shape = means.drop(columns=["family", "depth", "shortcut", "data", "recipe", "precision"])
shape = shape.drop(columns="paper_how")
for quantity in OURS:
    shape[quantity] = [verdict.with_spread(row, quantity) or None for _, row in means.iterrows()]
shape = shape.drop(columns=[f"{quantity}_sd" for quantity in OURS]).dropna(axis="columns", how="all")
st.dataframe(
    shape.drop(columns=[name for name in ("diverged", "unfinished") if not shape[name].any()]),
    hide_index=True,
    key="means",
    height="content",
    placeholder="",
    column_config={
        "network": frame.text("Network", pinned=True),
        "n": frame.number("Runs", "Finished runs in the means, one a seed.", "%d"),
        "diverged": frame.number("Diverged", "Loss not finite: not in the means.", "%d"),
        "unfinished": frame.number("Unfinished", "Not in the means.", "%d"),
        **{name: frame.text(*frame.MEANING[name], alignment="right") for name in OURS},
        "paper_train_error": frame.number("Paper train", "Percent, on the paper's own data."),
        "paper_test_error": frame.number("Paper test", "Percent, on the paper's own data."),
        "paper_source": frame.text("Source", "Where the paper says it."),
    },
)

st.header("What the data cannot say", anchor=False)
few = (
    f"- Some networks have fewer than {verdict.ENOUGH_SEEDS} finished seeds: a difference between "
    "two of them may be chance. `make study ARGS='--seeds 0,1,2'` adds seeds.\n"
)
st.markdown(
    (few if means["n"].min() < verdict.ENOUGH_SEEDS else "")
    + "- The dashed curves are *running* errors: they lag behind the network, because it improves "
    "while they are counted. The clean column has no such lag.\n"
    "- A network that trains worse within these steps might catch up with many more; "
    "the paper saw the gap stay for 64,000.\n"
    "- A gap shows *that* depth makes the training harder, not *why*. The next page looks at one "
    "suspect, vanishing gradients."
)
