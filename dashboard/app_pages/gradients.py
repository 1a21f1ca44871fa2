"""How strong the gradient is in every layer while a network trains."""

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cached, frame
from resnetlab import plots, store, verdict

MOST_RUNS = 8  # panels of the heatmap


def first_choice(runs: dict[str, store.RunRecord]) -> list[str]:
    """Shallowest and deepest network of each family, lowest seed."""
    found: list[str] = []
    for family in ("plain", "residual"):
        own = {label: run for label, run in runs.items() if run.network.family == family}
        order = sorted(own, key=lambda label: (own[label].network.depth, own[label].config.seed))
        if order:
            deepest = own[order[-1]].network.depth
            last = next(label for label in order if own[label].network.depth == deepest)
            found += [order[0], last]
    return list(dict.fromkeys(found))


@st.fragment
def by_layer(study: store.Study, probes: pd.DataFrame, theme: plots.Theme) -> None:
    """One moment of the training; the slider draws only this part again."""
    steps = [int(step) for step in np.sort(probes["step"].unique())]
    step = steps[-1]
    if len(steps) > 1:
        step = st.select_slider(
            "Step (optimizer updates)",
            steps,
            value=frame.follow("step", steps[-1], study),
            key="step",
            bind="query-params",
        )
    figure = plots.gradient_norm_profile(probes, [step], theme=theme)
    # One scale for all steps, so that moving the slider moves the lines and not the axis.
    norms = probes["value"][probes["value"] > 0]
    if len(norms):
        low, high = np.log10(norms.min()), np.log10(norms.max())
        margin = 0.05 * (high - low) + 0.05
        figure.update_yaxes(range=[low - margin, high + margin])
    frame.chart(figure, "profile")


study = frame.open_study(
    "Gradient norms",
    "Every few steps the L2 norm of each layer's weight gradient was written down. "
    "If it shrank by orders of magnitude towards the first layers, they would hardly learn. The paper "
    "argues (Sec. 4.1) that batch normalisation keeps plain networks from this: see whether it does.",
)
runs = frame.labelled((run.name, run) for run in study.runs)
if not runs:
    st.stop()
chosen = st.multiselect(
    "Runs",
    list(runs),
    default=frame.follow("runs", first_choice(runs), study),
    key="runs",
    bind="query-params",
    max_selections=MOST_RUNS,
    help=f"Up to {MOST_RUNS}. At first: the shallowest and the deepest of each family.",
)
theme = frame.theme()
probes = cached.probes([runs[label] for label in chosen if label in runs][:MOST_RUNS])
if probes.empty:
    st.info("Choose runs with logged gradient norms.", icon=":material/gradient:")
    st.stop()

st.header("What is seen", anchor=False)
with st.container(border=True):
    for sentence in verdict.on_gradients(probes):
        st.text(frame.shown(sentence, 2000))
st.markdown(
    "The paper (Sec. 4.1): *“We also verify that the backward propagated gradients exhibit healthy "
    "norms with BN. So neither forward nor backward signals vanish.”* It gives no number; here a "
    f"network is healthy while the ratio stays between {verdict.VANISHING:g} and "
    f"{verdict.EXPLODING:g}."
)
frame.chart(cached.figure(plots.gradient_ratio, probes, theme=theme), "ratio")

st.header("Every layer, every step", anchor=False)
st.markdown(
    "One panel a run, all on one logarithmic colour scale. Layer 1 is the first convolution, the last "
    "one the classifier. Read a column from bottom to top: an even colour "
    "means that no layer is starved of gradient."
)
frame.chart(cached.figure(plots.gradient_norm_heatmap, probes, theme=theme), "heatmap")

st.header("One step, layer by layer", anchor=False)
st.markdown("The same numbers at one step; move the slider through the training. Seeds are averaged.")
by_layer(study, probes, theme)
