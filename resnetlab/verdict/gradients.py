"""Do gradients vanish, explode or stay healthy? In sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from resnetlab import config, store
from resnetlab.verdict.means import geometric_mean
from resnetlab.verdict.words import percent, rounded, seeds, times

# A first layer whose gradient is a hundred times the last one's, or a hundredth; within ten and a tenth
# it is healthy, and between the two there is no word for it. A convention, not the paper's: it writes
# "healthy norms" (Sec. 4.1) and gives no number.
EXPLODING, VANISHING = 1e2, 1e-2
HEALTHY = (0.1, 10.0)


_RUN = ["study", "run", "network", "depth", "shortcut", "seed"]


def gradient_ratios(probes: pd.DataFrame) -> pd.DataFrame:
    """Norm of the first weighted layer's gradient over the last one's: one row per run and logged step.

    `probes` as `store.probes_of`. Columns: study, run, network, depth, shortcut, seed, step, ratio. A
    norm of exactly 0, below what its precision holds, is a ratio of 0. Steps at which the last norm is
    zero, or either is not finite, are left out.
    """
    if probes.empty:
        return pd.DataFrame(columns=[*_RUN, "step", "ratio"])
    ends = probes.groupby(["study", "run"])["layer"].transform("max")
    first = probes[probes["layer"] == 0].set_index([*_RUN, "step"])["value"]
    last = probes[probes["layer"] == ends].set_index([*_RUN, "step"])["value"]
    ratios = (first / last).rename("ratio").reset_index()
    return pd.DataFrame(ratios[np.isfinite(ratios["ratio"])].reset_index(drop=True))


def on_gradients(probes: pd.DataFrame) -> list[str]:
    """One sentence per network: do its gradients vanish, explode, or stay healthy, with the numbers.

    The ratio of `gradient_ratios` at the first logged step, geometric mean over seeds, lowest and
    highest, and what all of them are called; then the share
    of the later logged steps at which it is out of bounds, over the runs together and by seed, with
    the most extreme value.
    """
    ratios = gradient_ratios(probes)
    if ratios.empty:
        return ["No gradient norms logged yet: nothing can be said."]
    sentences = []
    for network, runs in _networks(ratios):
        at_first = runs["step"] == runs["step"].min()
        begun = runs[at_first]["ratio"]
        low, high = begun.min(), begun.max()
        start = f"{times(geometric_mean(begun))} times the last one's"
        if times(low) != times(high):
            start += f" ({times(low)} to {times(high)} by seed)"
        head = f"{network} ({seeds(runs['seed'].nunique())}): at step {runs['step'].min():,} the first "
        head += "layer's gradient is "
        head += _called(start, low, high)
        later = runs[~at_first]
        parts = [head, *_out_of_bounds(later)] if len(later) else [head]
        sentences.append("; ".join(parts) + ".")
    return sentences


def _networks(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(network, its rows), shallow before deep, plain first."""
    keys = [frame["depth"], frame["shortcut"] != "none", frame["shortcut"], frame["network"]]
    return ((str(key[-1]), rows) for key, rows in frame.groupby(keys))


def _out_of_bounds(later: pd.DataFrame) -> Iterator[str]:
    low, high = later["ratio"].min(), later["ratio"].max()
    if low >= VANISHING and high <= EXPLODING:
        within = _called(f"between {times(low)} and {times(high)} times", low, high)
        yield f"at all later logged steps {within}"
    for extreme, to, out in (
        (low, "down to", later["ratio"] < VANISHING),
        (high, "up to", later["ratio"] > EXPLODING),
    ):
        if out.any():
            shares = out.groupby([later["study"], later["run"]]).mean()
            spread = f" ({percent(shares.min())} to {percent(shares.max())} by seed)"
            text = f"at {percent(out.mean())} of the later logged steps"
            text += f"{spread if len(shares) > 1 else ''} {_health(extreme, extreme)}, {to} "
            yield text + (f"{times(extreme)} times" if extreme else "exactly 0")


def turning(runs: Iterable[store.RunRecord]) -> pd.DataFrame:
    """By how many radians each logged step turned the weights of each layer behind a batch norm.

    Rows as `store.probes_of`, without the classifier, and the rate `lr` of the step. The gradient
    of such weights is orthogonal to them, weight decay acts along them: once it has settled, a step
    shortens them by lr * weight_decay / (1 - momentum) of their length. |dw|/|w| without that part
    is the turn; it is all that the network feels.
    """
    found = []
    for run in runs:
        steps, recipe = store.probes_of([run], "relative_update"), run.config.recipe
        if steps.empty:
            continue
        noted = run.info["events"]
        events = config.Events(noted["warm_until"], tuple(noted["drops"]))
        rates = {step: config.lr_at(step, recipe, events) for step in steps["step"].unique()}
        lr = steps["step"].map(rates)
        decay = lr * recipe.weight_decay / (1 - recipe.momentum)
        turns = np.sqrt((steps["value"] ** 2 - decay**2).clip(lower=0))
        found.append(steps.assign(value=turns, lr=lr)[steps["layer"] < steps["layer"].max()])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*_RUN, "lr"])


def on_turning(runs: Sequence[store.RunRecord]) -> list[str]:
    """One sentence per network: how far its weights grew, and how far a step turns each third of it.

    Of the layers behind a batch norm: the convolutions.

    Behind a batch norm a network does not feel the length of a weight, but its gradient falls as
    1/|w| and what a step turns it by (`turning`) as 1/|w|^2. Medians over the layers of a third and
    the logged steps after the first at the highest rate; means over seeds.
    """
    turns = turning(runs)
    if turns.empty:
        return ["The lengths of weights and steps were not logged in these runs."]
    weights, sentences, by_layer = store.probes_of(runs, "weight_norm"), [], [*_RUN, "layer"]
    for network, moved in _networks(turns):
        own = weights[(weights["network"] == network) & (weights["layer"] <= moved["layer"].max())]
        start = own[own["step"] == own["step"].min()].set_index(by_layer)["value"]
        growth = own.set_index([*by_layer, "step"])["value"].div(start).groupby(_RUN).max()
        at_first = moved["step"] == moved["step"].min()
        share = moved[at_first].groupby(_RUN)["value"].max()
        text = f"{network} ({seeds(moved['seed'].nunique())}): the first step changes a convolution by "
        text += f"up to {times(geometric_mean(share))} times its length, and one grows up to "
        text += f"{times(geometric_mean(growth))} times as long"
        later, third = moved[~at_first], (moved["layer"].max() + 1) // 3
        later = later[later["lr"] == later["lr"].max()]
        if len(later):
            first, last = (
                float(later[part].groupby(_RUN)["value"].median().mean())
                for part in (later["layer"] < third, later["layer"] > later["layer"].max() - third)
            )
            text += f"; later, at a rate of {later['lr'].max():g}, a step turns the first third of the "
            text += (
                f"layers by {rounded(first, 1)} and the last third by {rounded(last, 1)} (radians), "
            )
            text += f"{times(first / last)} times as far"
        sentences.append(f"{text}.")
    return sentences


def on_momentum(runs: Iterable[store.RunRecord]) -> list[str]:
    """One sentence per network: how far its first step is carried on, beside what momentum alone does.

    With momentum m a step comes again in the next one, m times as long: in k steps it alone carries the
    weights (1 - m^k) / (1 - m) times its own length, in the end 1 / (1 - m). Said of the layer behind
    a batch norm that the first step changes most, and of the length its weights come to; of a first
    step no longer than the weights that length shows nothing. Lowest to highest seed.
    """
    found = []
    for run in runs:
        steps, lengths = (run.probe(kind) for kind in ("relative_update", "weight_norm"))
        first = steps[(steps["step"] == 0) & (steps["layer"] < steps["layer"].max())]
        if first.empty or lengths.empty:
            continue
        share, layer = first["value"].max(), int(first.loc[first["value"].idxmax(), "layer"])
        own = lengths[lengths["layer"] == layer].set_index("step")["value"]
        carried = (own / own.iloc[0] / share).iloc[1:]
        if len(carried):
            row = {"m": run.config.recipe.momentum, "layer": layer + 1, "share": share}
            row |= {"step": carried.index[0], "then": carried.iloc[0], "most": carried.max()}
            found.append(run.identity() | row)
    sentences = []
    for network, rows in _networks(pd.DataFrame(found)) if found else ():
        (m, step), layers = rows.iloc[0][["m", "step"]], sorted(rows["layer"].unique())
        text = f"{network} ({seeds(rows['seed'].nunique())}): the first step is "
        text += f"{_from_to(rows['share'])} times as long as the weights of layer "
        text += " or ".join(map(str, layers))
        if rows["share"].min() > 1:
            then, most = (_from_to(rows[key], ".2f") for key in ("then", "most"))
            text += f"; after {step:,} steps these are {then} times as long as that step (momentum "
            text += f"alone makes {(1 - m**step) / (1 - m):.2f} of it) and at most {most}"
            text += f" times (momentum alone {1 / (1 - m):.2f} in the end)"
        else:
            text += ": too short for their length to show what momentum makes of it"
        sentences.append(f"{text}.")
    return sentences or ["The lengths of weights and steps were not logged in these runs."]


def _from_to(values: pd.Series[float], form: str = "") -> str:
    low, high = (format(end, form) if form else rounded(end) for end in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


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
        parts = ", ".join(f"{rounded(value)} ({depth} layers)" for depth, value in norms.items())
        text = f"{str(family).capitalize()}: the first layer's norm is {parts}."
        if len(norms) > 1:
            change = float(norms.iloc[-1] / norms.iloc[0])
            verb, factor = ("grows", change) if change > 1 else ("falls", 1 / change)
            large = f"more than {EXPLODING:,.0f}" if factor > EXPLODING else "within the ordinary"
            text += f" From {norms.index[0]} to {norms.index[-1]} layers"
            text += f" it {verb} {times(factor)} times, {large}."
        sentences.append(text)
    return sentences or ["No gradient norms measured yet: nothing can be said."]


def _called(ratios: str, low: float, high: float) -> str:
    """The ratios from `low` to `high`, in words, and what that is called."""
    return ", ".join(filter(None, (ratios, _health(low, high))))


def _health(low: float, high: float) -> str:
    """What ratios from `low` to `high` are called; "" where there is no word for all of them."""
    if low > EXPLODING:
        return f"exploding towards the input (more than {EXPLODING:,.0f})"
    if high < VANISHING:
        return f"vanishing towards the input (less than 1/{1 / VANISHING:,.0f})"
    return "healthy" if HEALTHY[0] <= low and high <= HEALTHY[1] else ""
