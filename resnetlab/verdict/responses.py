"""Do residual functions stay small (Figure 7)? In sentences."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from resnetlab import paper
from resnetlab.verdict.means import paired
from resnetlab.verdict.words import settled


def mean_responses(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over the layers, one row per run: study to precision, and response_std.

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
    for depth, at_depth in networks.groupby("depth"):
        plain = at_depth[at_depth["shortcut"] == "none"]["network"]
        for other in at_depth[at_depth["shortcut"] != "none"]["network"]:
            if len(plain):
                sentences += _ratio(means, str(other), str(plain.iloc[0]), f"At {depth} layers")
    for family in ("plain", "residual"):
        members = networks[networks["family"] == family]
        members = members[members["shortcut"].isin(["none", members["shortcut"].min()])]
        if members["depth"].nunique() > 1:
            deep, shallow = members.iloc[-1]["network"], members.iloc[0]["network"]
            sentences += _ratio(means, str(deep), str(shallow), "With depth")
    return sentences or ["No two networks that share a seed: nothing can be compared."]


def _ratio(means: pd.DataFrame, upper: str, lower: str, head: str) -> list[str]:
    both = means[means["network"].isin([upper, lower])]
    by_seed = both.pivot(index="seed", columns="network", values="response_std")
    ratios = (by_seed[upper] / by_seed[lower]).dropna()
    if ratios.empty:
        return []
    logs = paired(upper, lower, np.log(ratios))
    spread = f", seeds from {ratios.min():.2f} to {ratios.max():.2f}" if len(ratios) > 1 else ""
    text = f"{head}, mean response of {upper} over {lower}: {math.exp(logs.mean):.2f}{spread}"
    text += f", n = {logs.n}"
    papers = [paper.reported(name, "response_std") for name in (upper, lower)]
    if papers[0] and papers[1]:
        text += f"; the paper's {papers[0].value / papers[1].value:.2f} ({papers[0].source}, CIFAR-10)"
    lower_word, higher = f"{upper} responds less.", f"{upper} responds more."
    return [f"{text}. {settled(logs, lower=lower_word, higher=higher, unsettled='Not settled.')}"]
