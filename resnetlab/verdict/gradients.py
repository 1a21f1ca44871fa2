"""Do gradients vanish, explode or stay healthy? In sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from resnetlab.verdict.means import geometric_mean
from resnetlab.verdict.words import seeds, times

# A first layer whose gradient is a hundred times the last one's, or a hundredth. A convention, not the
# paper's: it writes "healthy norms" (Sec. 4.1) and gives no number.
EXPLODING, VANISHING = 1e2, 1e-2


def gradient_ratios(probes: pd.DataFrame) -> pd.DataFrame:
    """Norm of the first weighted layer's gradient over the last one's: one row per run and logged step.

    `probes` as `store.probes_of`. Columns: study, run, network, depth, shortcut, seed, step, ratio.
    Steps at which either norm is zero or not finite are left out.
    """
    who = ["study", "run", "network", "depth", "shortcut", "seed", "step"]
    if probes.empty:
        return pd.DataFrame(columns=[*who, "ratio"])
    ends = probes.groupby(["study", "run"])["layer"].transform("max")
    first = probes[probes["layer"] == 0].set_index(who)["value"]
    last = probes[probes["layer"] == ends].set_index(who)["value"]
    ratios = (first / last).rename("ratio").reset_index()
    usable = np.isfinite(ratios["ratio"]) & (ratios["ratio"] > 0)
    return pd.DataFrame(ratios[usable].reset_index(drop=True))


def on_gradients(probes: pd.DataFrame) -> list[str]:
    """One sentence per network: do its gradients vanish, explode, or stay healthy, with the numbers.

    The ratio of `gradient_ratios` at the first logged step, and its geometric mean over the later
    half of the logged steps; geometric means over seeds.
    """
    ratios = gradient_ratios(probes)
    if ratios.empty:
        return ["No gradient norms logged yet: nothing can be said."]
    sentences = []
    ratios["residual"] = ratios["shortcut"] != "none"  # plain first, as everywhere
    for (_, _, _, network), runs in ratios.groupby(["depth", "residual", "shortcut", "network"]):
        steps = sorted(runs["step"].unique())
        start = geometric_mean(runs[runs["step"] == steps[0]]["ratio"])
        head = f"{network} ({seeds(runs['seed'].nunique())}): at step {steps[0]:,} the first layer's "
        head += f"gradient is {times(start)} times the last one's, {_health(start)}"
        later = steps[len(steps) // 2 :]
        if len(steps) > 1:
            mean = geometric_mean(runs[runs["step"].isin(later)]["ratio"])
            head += f"; from step {later[0]:,} on {times(mean)} times, {_health(mean)}"
            between = runs[runs["step"] > steps[0]].groupby("step")["ratio"].agg(geometric_mean)
            for step, extreme in ((between.idxmin(), between.min()), (between.idxmax(), between.max())):
                if _health(extreme) not in ("healthy", _health(mean)):
                    head += f"; at step {step:,} {times(extreme)} times, {_health(extreme)}"
        sentences.append(head + ".")
    return sentences


def on_first_layer_norms(probes: pd.DataFrame) -> list[str]:
    """One sentence per family: the first layer's gradient norm by depth, and whether depth moves it.

    `probes` as for `on_gradients`, of one step. The ratio of first to last layer cannot see a gradient
    that shrinks or grows in all layers alike, as it does without batch norm. Geometric means over
    seeds.
    """
    first = probes[(probes["layer"] == 0) & (probes["value"] > 0)]
    sentences = []
    for family, runs in first.groupby("family"):
        norms = runs.groupby("depth")["value"].agg(geometric_mean)
        parts = ", ".join(f"{value:.2g} ({depth} layers)" for depth, value in norms.items())
        text = f"{str(family).capitalize()}: the first layer's norm is {parts}."
        if len(norms) > 1:
            change = float(norms.iloc[-1] / norms.iloc[0])
            verb, factor = ("grows", change) if change > 1 else ("falls", 1 / change)
            large = f"more than {EXPLODING:,.0f}" if factor > EXPLODING else "within the ordinary"
            text += f" From {norms.index[0]} to {norms.index[-1]} layers"
            text += f" it {verb} {times(factor)} times, {large}."
        sentences.append(text)
    return sentences or ["No gradient norms measured yet: nothing can be said."]


def _health(ratio: float) -> str:
    if ratio > EXPLODING:
        return f"exploding towards the input (more than {EXPLODING:,.0f})"
    if ratio < VANISHING:
        return f"vanishing towards the input (less than 1/{1 / VANISHING:,.0f})"
    return "healthy"
