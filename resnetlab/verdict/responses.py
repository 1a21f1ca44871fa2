"""Do residual functions stay small (Figure 7)? In sentences."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from resnetlab import config, paper, store
from resnetlab.verdict.means import CONFIDENCE, ENOUGH_SEEDS, deepest_pair, paired
from resnetlab.verdict.order import PAPERS, REVERSED
from resnetlab.verdict.words import settled


def mean_responses(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over the layers, one row per run: study to precision, and response_std.

    `frame` has the columns of `store.IDENTITY`, layer and value (`probes.layer_responses`), and learnt,
    whether the run has (`means.learnt`). The paper's means are in `paper.FIGURE_7`.
    """
    who = [name for name in frame.columns if name not in ("layer", "value", "name")]
    return frame.groupby(who)["value"].mean().rename("response_std").reset_index()


def on_responses(frame: pd.DataFrame) -> list[str]:
    """Figure 7 in sentences: are residual responses smaller than plain ones, and smaller with depth?

    `frame` as `mean_responses` takes it. Ratios of means over layers, seed by seed, of networks that
    have learnt; an order needs three seeds that agree and a 95 % confidence interval of the logarithm
    without zero, and stands with its size.
    """
    if frame.empty:
        return ["No layer responses measured yet: nothing can be said."]
    learnt = frame["learnt"] if "learnt" in frame else pd.Series(True, index=frame.index)
    means, sentences = mean_responses(frame[learnt.astype(bool)]), []
    networks = means.drop_duplicates("network").sort_values(["depth", "shortcut"])
    for depth, at_depth in networks.groupby("depth"):
        plain = at_depth[at_depth["shortcut"] == "none"]["network"]
        for other in at_depth[at_depth["shortcut"] != "none"]["network"]:
            if len(plain):
                sentences += _ratio(means, str(other), str(plain.iloc[0]), f"At {depth} layers")
    for family in ("plain", "residual"):
        members = networks[networks["family"] == family].assign(status="finished")
        if pair := deepest_pair(members, *sorted(members["shortcut"].unique())[:1]):
            sentences += _ratio(means, *pair, "With depth")
    sentences = sentences or ["No two networks that share a seed: nothing can be compared."]
    stuck = frame[~learnt.astype(bool)].drop_duplicates(["network", "seed"])
    if len(stuck):
        runs = (f"{row.network} with seed {row.seed}" for row in stuck.itertuples())
        sentences.append(f"Not learnt, and in no ratio: {', '.join(runs)}.")
    if "learnt" not in frame:
        sentences.append("Whether these networks have learnt was not kept with their responses.")
    return sentences


def left_by_decay(run: store.RunRecord) -> float:
    """What weight decay alone makes of a batch norm's scale of 1 in a run: of one with no gradient.

    Each step shortens it by lr * weight_decay / (1 - momentum) of its length; 1.0 where the recipe does
    not decay such scales.
    """
    recipe, noted = run.config.recipe, run.info["events"]
    if not recipe.decay_norm:
        return 1.0
    events = config.Events(noted["warm_until"], tuple(noted["drops"]))
    rates = sum(config.lr_at(step, recipe, events) for step in range(recipe.steps))
    return math.exp(-rates * recipe.weight_decay / (1 - recipe.momentum))


def _ratio(means: pd.DataFrame, upper: str, lower: str, head: str) -> list[str]:
    both = means[means["network"].isin([upper, lower])]
    by_seed = both.pivot_table(index="seed", columns="network", values="response_std")
    ratios = (by_seed[upper] / by_seed[lower]).dropna()
    if ratios.empty:
        return []
    logs = paired(upper, lower, np.log(ratios))
    ratio, (low, high) = math.exp(logs.mean), np.exp(logs.interval)
    between = f", {100 * CONFIDENCE:g} % [{low:.2f}, {high:.2f}]" if logs.n >= ENOUGH_SEEDS else ""
    text = f"{head}, mean response of {upper} over {lower}: {ratio:.2f}{between}, n = {logs.n}"
    papers = [paper.reported(name, "response_std") for name in (upper, lower)]
    change, order = f"{100 * abs(ratio - 1):.0f} % {'smaller' if ratio < 1 else 'larger'}", ""
    if papers[0] and papers[1]:
        theirs = papers[0].value / papers[1].value
        text += f"; the paper's {theirs:.2f} ({papers[0].source}, CIFAR-10)"
        order = f"{PAPERS if (theirs < 1) == (ratio < 1) else REVERSED}: "
    sentence = f"{order}{change}."
    return [f"{text}. {settled(logs, lower=sentence, higher=sentence, unsettled='Not settled.')}"]
