"""Do residual functions stay small (Figure 7)? In sentences."""

from __future__ import annotations

import math

import pandas as pd

from resnetlab import paper
from resnetlab.verdict.means import ENOUGH_SEEDS, Contrast


def mean_responses(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over the layers, one row a run: study to precision, and response_std.

    `frame` has the columns of `store.IDENTITY`, layer and value (`probes.layer_responses`). The
    paper's means are in `paper.FIGURE_7`.
    """
    who = [name for name in frame.columns if name not in ("layer", "value", "name")]
    return frame.groupby(who)["value"].mean().rename("response_std").reset_index()


def on_responses(frame: pd.DataFrame) -> list[str]:
    """Figure 7 in sentences: are residual responses smaller than plain ones, and smaller with depth?

    `frame` as `mean_responses` takes it. Ratios of means over layers, seed by seed; a claim needs three
    seeds that agree and a 95 % confidence interval of the logarithm without zero.
    """
    if frame.empty:
        return ["No layer responses measured yet: nothing can be said."]
    means = mean_responses(frame)
    sentences = []
    networks = means.drop_duplicates("network").sort_values(["depth", "shortcut"])
    for depth, own in networks.groupby("depth"):
        plain = own[own["shortcut"] == "none"]["network"]
        for other in own[own["shortcut"] != "none"]["network"]:
            if len(plain):
                sentences += _ratio(means, str(other), str(plain.iloc[0]), f"At {depth} layers")
    for family in ("plain", "residual"):
        own = networks[networks["family"] == family]
        own = own[own["shortcut"].isin(["none", own["shortcut"].min()])]
        if own["depth"].nunique() > 1:
            deep, shallow = own.iloc[-1]["network"], own.iloc[0]["network"]
            sentences += _ratio(means, str(deep), str(shallow), "With depth")
    return sentences or ["No two networks that share a seed: nothing can be compared."]


def _ratio(means: pd.DataFrame, upper: str, lower: str, head: str) -> list[str]:
    both = [
        means[means["network"] == name].set_index("seed")["response_std"] for name in (upper, lower)
    ]
    seeds = sorted(set(both[0].index) & set(both[1].index))
    ratios = [float(both[0][seed] / both[1][seed]) for seed in seeds]
    if not ratios:
        return []
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    logs = Contrast(upper, lower, tuple(math.log(ratio) for ratio in ratios))
    spread = f", seeds from {min(ratios):.2f} to {max(ratios):.2f}" if len(ratios) > 1 else ""
    said = f"{head}, mean response of {upper} over {lower}: {mean:.2f}{spread}, n = {logs.n}"
    theirs = [paper.reported(name, "response_std") for name in (upper, lower)]
    if theirs[0] and theirs[1]:
        said += f"; the paper's {theirs[0].value / theirs[1].value:.2f} ({theirs[0].source}, CIFAR-10)"
    if logs.n < ENOUGH_SEEDS:
        return [f"{said}. Too few seeds to say: {ENOUGH_SEEDS} are needed."]
    words = {-1: f"{upper} responds less.", 1: f"{upper} responds more.", 0: "Not settled."}
    return [f"{said}. {words[logs.sign]}"]
