"""Each question of the lesson answered in a few words and one number; `on_...` says it at length.

A function per question, named after it, from the frame that its sentences are made of. None where the
frame holds nothing to answer from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from resnetlab.verdict import claims, means, order, shortcuts
from resnetlab.verdict.conditions import depth_under
from resnetlab.verdict.construction import kept
from resnetlab.verdict.correlation import SHATTERED
from resnetlab.verdict.degradation import findings
from resnetlab.verdict.gradients import EXPLODING, VANISHING, gradient_ratios
from resnetlab.verdict.means import ENOUGH_SEEDS, NEGLIGIBLE
from resnetlab.verdict.responses import mean_responses
from resnetlab.verdict.rounding import AS_LARGE, median_errors
from resnetlab.verdict.surface import local_minima
from resnetlab.verdict.words import percent, times

UNSETTLED = "Not settled"
ROUNDED = 1e-3  # of what one disturbed weight changes: less is rounding, and the function is the same


@dataclass(frozen=True)
class Answer:
    """A question's answer: a few words, one number, and of what and of how many it is."""

    words: str
    number: str
    about: str


def _interval(gap: means.Contrast, of: str) -> str:
    return ", ".join(filter(None, [of, gap.within, f"n = {gap.n}"]))


def the_idea(table: pd.DataFrame) -> Answer | None:
    """How many more numbers must a residual network learn than the plain one of the same depth?

    `table` as `store.table_of` with the column parameters; option A, the deepest depth of both.
    """
    known = table[table["shortcut"].isin(["none", "A"])].dropna(subset=["parameters"])
    counts = known.pivot_table(index="depth", columns="shortcut", values="parameters", aggfunc="max")
    counts = counts.dropna()
    if counts.empty or len(counts.columns) < 2:
        return None
    plain, residual = (int(counts.iloc[-1][name]) for name in ("none", "A"))
    about = f"numbers to learn in plain and residual networks of {counts.index[-1]} layers (option A)"
    words = "None more" if residual == plain else f"{residual - plain:,} more"
    return Answer(words, f"{plain:,} and {residual:,}", about)


def degradation(table: pd.DataFrame) -> Answer | None:
    """Does depth help plain networks to train?"""
    for one in findings(table)[:1]:
        words = {1: "Not plain networks", -1: "Plain networks, too"}.get(one.claim.sign, UNSETTLED)
        about = _interval(one.claim.gap, f"training error of {one.pair}")
        return Answer(words, f"{one.claim.gap.size} points", about)
    return None


def same_function(frame: pd.DataFrame) -> Answer | None:
    """Does a deep solution exist? What appended layers change, beside one disturbed weight."""
    logits = frame.pivot_table(index=["network", "seed"], columns="which", values="logits")
    share = float(logits["after"].max() / logits["disturbed"].min())
    about = "largest change of a logit in deep networks made of shallow ones, beside that by one added"
    about += f" weight disturbed, n = {len(logits)}"
    return Answer("Yes" if share < ROUNDED else "Not found", percent(share), about)


def trained_on(frame: pd.DataFrame) -> Answer | None:
    """Does training keep it?"""
    stayed = kept(frame)
    rates = frame["lr"].nunique()
    words = "Yes" if stayed.all() else "At some rates" if stayed.any() else "At no rate tried"
    count = int(frame.groupby(["family", "lr"])["seed"].nunique().min())
    left = frame[~stayed].groupby(["family", "lr"])["seed"].nunique().reset_index()
    where = [f"{family} at {rate:g}: {seeds}" for family, rate, seeds in left.to_numpy()]
    about = f"trainings left it ({', '.join(where)}): " if where else "trainings left it: "
    about += f"{rates} rates, plain and residual, n = {count} each"
    return Answer(words, f"{int((~stayed).sum())} of {len(frame)}", about)


def at_initialisation(frame: pd.DataFrame) -> Answer | None:
    """Do gradients vanish with batch norm? The deepest plain network's, first layer over last."""
    rows = frame[(frame["quantity"] == "gradient_norm") & (frame["norm"] == "with batch norm")]
    ratios = gradient_ratios(rows[rows["family"] == "plain"])
    if ratios.empty:
        return None
    deepest = ratios[ratios["depth"] == ratios["depth"].max()]
    ratio = means.geometric_mean(deepest["ratio"])
    words = "No: they explode" if ratio > EXPLODING else "Yes" if ratio < VANISHING else "No"
    about = (
        "first layer's norm over the last one's before the first step, with batch norm, "
        f"{deepest['network'].iloc[0]}"
    )
    return Answer(words, f"{times(ratio)} times", f"{about}, n = {deepest['seed'].nunique()}")


def gradient_correlation(frame: pd.DataFrame) -> Answer | None:
    """Do gradients agree from one input to the next? Plain and residual at the largest shared depth."""
    grid = frame.pivot_table(index="depth", columns="family", values="value").dropna()
    if grid.empty or len(grid.columns) < 2:
        return None
    plain, residual = grid.iloc[-1][["plain", "residual"]]
    lost = [name for name, value in (("plain", plain), ("residual", residual)) if value < SHATTERED]
    words = {0: "Yes", 1: f"Not in {'/'.join(lost)} ones", 2: "No"}[len(lost)]
    count = int(frame.groupby(["depth", "family"])["seed"].nunique().min())
    about = f"mean cosine at {grid.index[-1]} layers, plain and residual, n = {count}"
    return Answer(words, f"{plain:.2f} and {residual:.2f}", about)


def shortcut_dial(frame: pd.DataFrame) -> Answer | None:
    """How much shortcut is enough? The smallest scale from which on all are as good as the whole."""
    errors = frame.pivot_table(index="seed", columns="scale", values="train_error_clean")
    if 1.0 not in errors or len(errors.columns) < 2:
        return None
    below = [float(scale) for scale in errors.columns.astype(float) if scale != 1.0]
    gaps = {
        scale: means.paired(f"a = {scale:g}", "a = 1", (errors[scale] - errors[1.0]).dropna())
        for scale in below
    }
    near = [gap.negligible for gap in gaps.values()]
    enough = [scale for at, scale in enumerate(below) if all(near[at:])]
    words = f"From a = {enough[0]:g} on" if enough else UNSETTLED
    scale = enough[0] if enough else below[-1]  # the number is of what is said to be settled or not
    about = _interval(gaps[scale], f"clean training error of a = {scale:g} minus the whole shortcut")
    return Answer(words, f"{gaps[scale].size} points", about)


def lesions(frame: pd.DataFrame) -> Answer | None:
    """What if a block is taken away? The median loss of one, plain and residual."""
    single = frame[frame["removed"] == 1]
    families = single.groupby("depth")["family"].transform("nunique")
    single = single[families == 2]  # of one depth: a block of many is missed less
    added = (single["test_error"] - single["intact_error"]).groupby(single["family"]).median()
    if len(added) < 2:
        return None
    depths = ", ".join(str(depth) for depth in sorted(single["depth"].unique()))
    plain, residual = added["plain"], added["residual"]
    words = "Residual ones hardly mind" if residual < min(5, plain / 2) else "All of them mind"
    count = int(single.groupby("network")["seed"].nunique().min())
    about = f"of test error, median without one block, plain and residual, {depths} layers, n = {count}"
    return Answer(words, f"{plain:+.1f} and {residual:+.1f} points", about)


def loss_surface(frame: pd.DataFrame) -> Answer | None:
    """What does the loss surface look like? Its local minima, without shortcuts and with them."""
    minima = local_minima(frame).pivot_table(index="seed", columns="family", values="minima").dropna()
    if minima.empty or len(minima.columns) < 2:
        return None
    gap = means.paired("plain", "residual", minima["plain"] - minima["residual"])
    words = {1: "Rougher without shortcuts", -1: "Rougher with shortcuts"}.get(gap.sign, UNSETTLED)
    plain, residual = minima.mean()[["plain", "residual"]]
    about = _interval(gap, "local minima in a slice, without and with shortcuts; without minus with")
    return Answer(words, f"{plain:.1f} and {residual:.1f}", about)


def layer_responses(frame: pd.DataFrame) -> Answer | None:
    """How much does each layer add? Residual over plain, at the deepest depth that both have learnt."""
    learnt = frame["learnt"] if "learnt" in frame else pd.Series(True, index=frame.index)
    by_run = mean_responses(frame[learnt.astype(bool)])
    grid = by_run.pivot_table(index=["depth", "seed"], columns="family", values="response_std").dropna()
    if grid.empty or len(grid.columns) < 2:
        return None
    at_depth = grid.loc[grid.index.get_level_values("depth").max()]
    logs = means.paired("residual", "plain", np.log(at_depth["residual"] / at_depth["plain"]))
    words = {1: "More with shortcuts", -1: "Less with shortcuts"}.get(logs.sign, UNSETTLED)
    ratio, depth = math.exp(logs.mean), grid.index[-1][0]
    low, high = np.exp(logs.interval)
    between = f", 95 % [{low:.2f}, {high:.2f}]" if logs.n >= ENOUGH_SEEDS else ""
    about = f"mean response of residual over plain at {depth} layers{between}, n = {logs.n}"
    return Answer(words, f"{ratio:.2f} times", about)


def more_steps(table: pd.DataFrame) -> Answer | None:
    """Is it just slow? What depth still costs plain networks after the longest training."""
    longest = table[table["steps_planned"] == table["steps_planned"].max()]
    for one in findings(longest)[:1]:
        words = {1: "No: it stays", -1: "Yes"}.get(one.claim.sign, UNSETTLED)
        steps = int(longest["steps_planned"].max())
        about = _interval(one.claim.gap, f"training error of {one.pair} after {steps:,} steps")
        return Answer(words, f"{one.claim.gap.size} points", about)
    return None


def rounding(frame: pd.DataFrame) -> Answer | None:
    """Is it rounding? How far the deepest plain network's gradient is from float64's, in float32."""
    medians = median_errors(frame[(frame["relative"] > 0) & (frame["family"] == "plain")])
    medians = medians[medians["arithmetic"] == "fp32"]
    if medians.empty:
        return None
    deepest = medians[medians["depth"] == medians["depth"].max()]
    error = means.geometric_mean(deepest["relative"])
    words = "In single precision, yes" if error >= AS_LARGE else "Not in single precision"
    about = f"of the gradient is rounding in fp32, {deepest['network'].iloc[0]} before the first step"
    return Answer(words, percent(error), f"{about}, n = {deepest['seed'].nunique()}")


def precisions(table: pd.DataFrame) -> Answer | None:
    """How much of the failure is rounding? Whether it fails in float64 too."""
    exact = table[(table["status"] == "finished") & (table["precision"] == "fp64")]
    if exact.empty:
        return None
    network, rows = means.by_depth(exact)[-1]
    errors = means.paired(network, "no error", rows.groupby("seed")["train_error"].mean())
    low, high = errors.interval
    words = UNSETTLED
    if low > NEGLIGIBLE:
        words = "Not what makes it fail"
    elif high < NEGLIGIBLE:
        words = "All of it"
    about = f"training error of {network} in float64"
    if errors.n >= ENOUGH_SEEDS:  # no error is below nothing or above everything
        about += f", 95 % [{max(0.0, low):.1f}, {min(100.0, high):.1f}]"
    about += f", n = {errors.n}"
    return Answer(words, f"{errors.mean:.1f} %", about)


def first_step(table: pd.DataFrame) -> Answer | None:
    """Do smaller steps help? What depth costs with gradients clipped, beside what it costs without."""
    names = sorted(table["recipe"].unique(), key=lambda name: (len(name), name))
    tamed = [name for name in names if "clip" in name]
    pair = depth_under(table, names[0], tamed[0]) if tamed else None
    if pair is None:
        return None
    usual, clipped = pair
    change = means.paired("clipped", "usual", np.subtract(clipped.differences, usual.differences))
    words = UNSETTLED
    if change.sign < 0:
        halves = np.subtract(clipped.differences, np.divide(usual.differences, 2))
        most = means.paired("clipped", "half of the usual", halves).sign < 0
        words = "Clipped, mostly" if most else "Clipped, partly"
    elif change.sign > 0:
        words = "No"
    about = f"clean training error of {usual.worse} minus {usual.better}, clipped gradients minus usual"
    return Answer(words, f"{change.size} points", _interval(change, about))


def options(table: pd.DataFrame) -> Answer | None:
    """Which shortcut? The last option's test error against the first one's."""
    claims = [one for one in shortcuts.claims(table) if "test" in one.head and "plain" not in one.head]
    if not claims:
        return None
    settled = [one for one in claims if one.sign]
    last = settled[-1] if settled else claims[-1]
    words = UNSETTLED
    if last.sign:
        words = "It matters here" if abs(last.gap.mean) >= NEGLIGIBLE else "Hardly matters"
    about = _interval(last.gap, f"test error of {last.gap.worse} minus {last.gap.better}")
    reverse = f"; {last.order.lower()}" if last.order == order.REVERSED else ""
    count = f"; {len(settled)} of {len(claims)} pairs settled"
    return Answer(words, f"{last.gap.size} points", about + reverse + count)


def agreement(table: pd.DataFrame) -> Answer | None:
    """Do the runs agree with the paper? How many of its claims about depth these runs show."""
    rows = claims.of_table(table)
    if not rows:
        return None
    shown, reversed_ = (
        sum(row.settles == word for row in rows) for word in (claims.SHOWN, claims.REVERSED)
    )
    words = "Yes" if shown == len(rows) else "In part" if shown else "No" if reversed_ else UNSETTLED
    settled = f"; {reversed_} reversed" if reversed_ else ""
    others = ", ".join(
        f"{row.claim.words.lower()}: {row.verdict}" for row in rows if row.settles != claims.SHOWN
    )
    about = f"claims about depth are shown on the clean training error{settled}"
    return Answer(
        words, f"{shown} of {len(rows)}", about + (f". {others.capitalize()}" if others else "")
    )
