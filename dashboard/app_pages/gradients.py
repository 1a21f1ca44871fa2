"""How strong the gradient is in every layer while a network trains."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import cached, frame
from resnetlab import plots, store, verdict

MOST_RUNS = 8  # panels of the heatmap


def page() -> None:
    study = frame.open_study("gradients")
    runs = frame.labelled((run.name, run) for run in study.runs)
    if not runs:
        return
    hint = f"Up to {MOST_RUNS}. At first: the shallowest and the deepest of each family."
    chosen = frame.choose_runs("Runs", runs, study, "runs", MOST_RUNS, hint)
    probes = cached.probes([*chosen.values()])
    if probes.empty:
        st.info("Choose runs with logged gradient norms.", icon=":material/gradient:")
        return
    frame.section("What is seen")
    seen = cached.said(verdict.on_gradients, probes)
    frame.sentences(seen)
    st.markdown(
        "The paper (Sec. 4.1): *“We also verify that the backward propagated gradients exhibit healthy "
        "norms with BN. So neither forward nor backward signals vanish.”* It gives no number; here a "
        "network is healthy where the ratio lies between {:g} and {:g}; vanishing or exploding are "
        "words for a factor of {:g}.".format(*verdict.HEALTHY, verdict.EXPLODING)
    )
    source = frame.Source(probes, "03_gradient_norms", study)
    alt = frame.alt("Gradient norm of the first layer over that of the last, by step.", seen)
    frame.chart(cached.figure(plots.gradient_ratio, probes), "ratio", source=source, alt=alt)
    frame.section(
        "Every layer, every step",
        "One panel per run, all on one logarithmic colour scale. Layer 1 is the first convolution, the "
        "last one the classifier. Read a column from bottom to top: an even colour "
        "means that no layer is starved of gradient.",
    )
    alt = frame.alt("Gradient norm of every layer at every step, a map per run.", seen)
    frame.chart(cached.figure(plots.gradient_norm_heatmap, probes), "heatmap", source=source, alt=alt)
    frame.section(
        "One step, layer by layer",
        "The same numbers at one step; move the slider through the training. Seeds are averaged.",
    )
    by_layer(study, probes, seen)


@st.fragment
def by_layer(study: store.Study, probes: pd.DataFrame, seen: Sequence[str]) -> None:
    """One moment of the training; the slider draws only this part again."""
    steps = [int(step) for step in np.sort(probes["step"].unique())]
    step = steps[-1]
    if len(steps) > 1:
        value = frame.follow("step", steps[-1], study)
        step = frame.ask(st.select_slider, "Optimizer step", "step", options=steps, value=value)
    figure = plots.layer_profile(probes, [step])
    # One scale for all steps, so that moving the slider moves the lines and not the axis.
    norms = np.log10(probes["value"][probes["value"] > 0])
    if len(norms):
        margin = 0.05 * (norms.max() - norms.min()) + 0.05
        figure.update_yaxes(range=[norms.min() - margin, norms.max() + margin])
    source = frame.Source(probes, "03_gradient_norms", study)
    alt = frame.alt(f"Gradient norm by layer at step {step:,}.", seen)
    frame.chart(figure, "profile", source=source, alt=alt)


page()
