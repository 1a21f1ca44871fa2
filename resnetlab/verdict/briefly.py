"""Each question of the lesson answered in a few words and one number; `on_...` says it at length.

A function per question, named after it, from the frame that its sentences are made of. None where the
frame holds nothing to answer from. The words are those that a class may predict (`choices` in
dashboard/story.toml), or UNSETTLED.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from resnetlab.verdict import claims, dial, means, order, shortcuts
from resnetlab.verdict.conditions import depth_under
from resnetlab.verdict.construction import kept
from resnetlab.verdict.correlation import SHATTERED
from resnetlab.verdict.degradation import findings
from resnetlab.verdict.gradients import HEALTHY, gradient_ratios
from resnetlab.verdict.means import ENOUGH_SEEDS, NEGLIGIBLE
from resnetlab.verdict.responses import mean_responses
from resnetlab.verdict.rounding import median_errors
from resnetlab.verdict.surface import local_minima
from resnetlab.verdict.words import changes, percent, times

UNSETTLED = "Not settled"
_PARTS = {0.1: "a tenth", 0.25: "a quarter", 0.5: "a half", 0.75: "three quarters", 1.0: "the whole"}
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
    about = f"parameters of the plain and the residual network of {counts.index[-1]} layers (option A)"
    words = "None" if residual == plain else f"{residual - plain:,} more"
    return Answer(words, f"{plain:,} and {residual:,}", about)


def degradation(table: pd.DataFrame) -> Answer | None:
    """Which of a shallow and a deep plain network trains better?"""
    for one in findings(table)[:1]:
        gap = one.claim.gap
        words = {1: "The shallower one", -1: "The deeper one"}.get(one.claim.sign, UNSETTLED)
        if one.claim.order in (order.NEAR, order.FLOOR):
            words = "Both alike"
        about = (
            f"training error of {gap.worse} and {gap.better}; {_interval(gap, f'{gap.size} points')}"
        )
        return Answer(words, gap.two, about)
    return None


def same_function(frame: pd.DataFrame) -> Answer | None:
    """Does a deep solution exist? What appended layers change, beside one disturbed weight."""
    families = frame["network"].str.startswith("plain").map({True: "plain", False: "residual"})
    logits = frame.assign(family=families).pivot_table(
        index=["family", "network", "seed"], columns="which", values="logits"
    )
    shares = (logits["after"] / logits["disturbed"]).groupby("family").max()
    same = set(shares.index[shares < ROUNDED])
    words = {0: "Neither can", len(shares): "Both can"}.get(len(same), f"Only {''.join(same)}")
    about = (
        "of what one disturbed weight changes: the largest change of an output when a deep network is "
    )
    about += f"made of a shallow one, n = {len(logits)}"
    return Answer(words, percent(float(shares.max())), about)


def trained_on(frame: pd.DataFrame) -> Answer | None:
    """Does training keep it? Which family keeps it at every rate."""
    stayed = kept(frame)
    by_family = stayed.groupby(frame["family"]).all()
    stays = set(by_family.index[by_family])
    alone = f"Only the {''.join(stays)} one"
    words = {0: "Neither", len(by_family): "Both"}.get(len(stays), alone)
    count = int(frame.groupby(["family", "lr"])["seed"].nunique().min())
    left = frame[~stayed].groupby(["family", "lr"])["seed"].nunique().reset_index()
    where = [f"{family} at {rate:g}: {seeds}" for family, rate, seeds in left.to_numpy()]
    about = f"trainings left it ({', '.join(where)}): " if where else "trainings left it: "
    about += f"{frame['lr'].nunique()} rates, plain and residual, n = {count} each"
    return Answer(words, f"{int((~stayed).sum())} of {len(frame)}", about)


def at_initialisation(frame: pd.DataFrame) -> Answer | None:
    """Do gradients vanish with batch norm? The deepest plain network's, first layer over last."""
    rows = frame[(frame["quantity"] == "gradient_norm") & (frame["norm"] == "with batch norm")]
    ratios = gradient_ratios(rows[rows["family"] == "plain"])
    if ratios.empty:
        return None
    deepest = ratios[ratios["depth"] == ratios["depth"].max()]
    ratio = means.geometric_mean(deepest["ratio"])
    words = "About as large"
    if not HEALTHY[0] <= ratio <= HEALTHY[1]:
        words = "No: much larger" if ratio > 1 else "Yes: much smaller"
    about = (
        "first layer's gradient over the last one's before the first step, with batch norm, "
        f"{deepest['network'].iloc[0]}; the paper found healthy norms"
    )
    return Answer(words, f"{times(ratio)} times", f"{about}, n = {deepest['seed'].nunique()}")


def gradient_correlation(frame: pd.DataFrame) -> Answer | None:
    """Do gradients agree from one input to the next? Plain and residual at the largest shared depth."""
    grid = frame.pivot_table(index="depth", columns="family", values="value").dropna()
    if grid.empty or len(grid.columns) < 2:
        return None
    plain, residual = grid.iloc[-1][["plain", "residual"]]
    lost = plain < SHATTERED, residual < SHATTERED
    words = "Not in any deep one" if all(lost) else "At every depth"
    if any(lost) and not all(lost):
        words = f"Not in deep {'plain' if lost[0] else 'residual'} ones"
    count = int(frame.groupby(["depth", "family"])["seed"].nunique().min())
    about = f"mean cosine at {grid.index[-1]} layers, plain and residual, n = {count}"
    shallow = grid.iloc[0]
    about += f"; at {grid.index[0]} layers {shallow['plain']:.2f} and {shallow['residual']:.2f}"
    return Answer(words, f"{plain:.2f} and {residual:.2f}", about)


def shortcut_dial(frame: pd.DataFrame) -> Answer | None:
    """How much shortcut helps? The smallest scale from which on all are better than none at all."""
    errors = frame.pivot_table(index="seed", columns="scale", values="train_error_clean")
    if 0.0 not in errors or len(errors.columns) < 2:
        return None
    helps = dial.helping(errors)
    scales = list(helps)
    enough = [
        scale for at, scale in enumerate(scales) if all(helps[one].sign < 0 for one in scales[at:])
    ]
    scale = enough[0] if enough else scales[-1]  # the number is of what is said to be settled or not
    words = f"From {_PARTS.get(scale, f'a = {scale:g}')} on" if enough else UNSETTLED
    about = _interval(helps[scale], f"clean training error of a = {scale:g} minus no shortcut at all")
    if below := [one for one in scales if one < scale]:
        about += f"; of a = {below[-1]:g} {helps[below[-1]].brief}"
    return Answer(words, f"{helps[scale].size} points", about)


def lesions(frame: pd.DataFrame) -> Answer | None:
    """What if a block is taken away? The median loss of one, plain and residual, and the largest."""
    single = frame[frame["removed"] == 1]
    families = single.groupby("depth")["family"].transform("nunique")
    single = single[families == 2]  # of one depth: a block of many is missed less
    single = single.assign(added=single["test_error"] - single["intact_error"])
    added = single.groupby("family")["added"].median()
    if len(added) < 2:
        return None
    depths = ", ".join(str(depth) for depth in sorted(single["depth"].unique()))
    plain, residual = added["plain"], added["residual"]
    spared = residual < min(5, plain / 2)
    words = "Mostly the plain one" if spared else "Neither breaks" if plain < 5 else "Both break"
    count = int(single.groupby("network")["seed"].nunique().min())
    about = f"of test error, median without one block, plain and residual, {depths} layers, n = {count}"
    worst = single.groupby(["family", "network", "place"])["added"].mean().groupby("family").max()
    about += f"; without the block missed most {worst['plain']:+.1f} and {worst['residual']:+.1f}"
    return Answer(words, f"{plain:+.1f} and {residual:+.1f} points", about)


def loss_surface(frame: pd.DataFrame) -> Answer | None:
    """What does the loss surface look like? Its local minima, without shortcuts and with them."""
    minima = local_minima(frame).pivot_table(index="seed", columns="family", values="minima").dropna()
    if minima.empty or len(minima.columns) < 2:
        return None
    gap = means.paired("plain", "residual", minima["plain"] - minima["residual"])
    words = {1: "More without", -1: "More with"}.get(gap.sign, UNSETTLED)
    plain, residual = minima.mean()[["plain", "residual"]]
    about = _interval(gap, "local minima in a slice, without and with shortcuts; without minus with")
    more = sum(difference > 0 for difference in gap.differences)
    about += f", more without in {more} of {gap.n}"
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
    """Is it just slow? What the longest training changes of the deep network, and what is left."""
    table = table.assign(length=table["steps_planned"].astype(str))
    lengths = sorted(table["steps_planned"].unique())
    longest = table[table["steps_planned"] == lengths[-1]]
    for one in findings(longest)[:1] if len(lengths) > 1 else ():
        left, ends = one.claim.gap, (str(lengths[-1]), str(lengths[0]))
        deep = table[table["network"] == left.worse]
        change = means.contrast(deep, *ends, by="length")
        if change is None:
            return None
        words = UNSETTLED
        if left.negligible:
            words = "It catches up"
        elif change.sign < 0:
            words = "It comes closer"
        elif change.sign > 0 or change.negligible:
            words = "No closer"
        about = f"training error of {left.worse}, {lengths[-1]:,} steps minus {lengths[0]:,}"
        about = f"{_interval(change, about)}; left beside {left.better}: {left.brief}"
        return Answer(words, f"{change.size} points", about)
    return None


def rounding(frame: pd.DataFrame) -> Answer | None:
    """Is it rounding? How far the deepest plain network's gradient is from float64's, in float32."""
    medians = median_errors(frame[(frame["relative"] > 0) & (frame["family"] == "plain")])
    medians = medians[medians["arithmetic"] == "fp32"]
    if medians.empty:
        return None
    deepest = medians[medians["depth"] == medians["depth"].max()]
    error = means.geometric_mean(deepest["relative"])
    bounds = [name for limit, name in ((0.01, "Under 1 %"), (0.1, "1 to 10 %")) if error < limit]
    words = (bounds or ["Over 10 %"])[0]
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
        words = "It fails there, too"
    elif high < NEGLIGIBLE:
        words = "It learns"
    about = f"training error of {network} in float64"
    if errors.n >= ENOUGH_SEEDS:  # no error is below nothing or above everything
        about += f", 95 % [{max(0.0, low):.1f}, {min(100.0, high):.1f}]"
    about += f", n = {errors.n}"
    return Answer(words, f"{errors.mean:.1f} %", about)


def first_step(table: pd.DataFrame) -> Answer | None:
    """What is left when steps are clipped? What depth costs then, beside what it costs as it is."""
    base, *others = sorted(table["recipe"].unique(), key=lambda name: (len(name), name))
    costs = {name: pair for name in others if (pair := depth_under(table, base, name))}
    tamed = [name for name in costs if "clip" in name]
    if not tamed:
        return None
    usual, left = costs.pop(tamed[0])
    halves = np.subtract(left.differences, np.divide(usual.differences, 2))
    half = means.paired("clipped", "half of the usual", halves).sign
    words = UNSETTLED
    if left.negligible and left.sign <= 0:
        words = "Nothing is left"
    elif left.sign > 0 and half:
        words = "A little is left" if half < 0 else "Most is left"
    about = f"clean training error of {left.worse} minus {left.better}, as it is and clipped; clipped"
    about = _interval(left, about)
    for name, (_, cost) in costs.items():
        change = changes(name.partition("(")[2].rstrip(")"))
        about += f"; {change}: {cost.size}"
    return Answer(words, f"{usual.size} and {left.size} points", about)


def options(table: pd.DataFrame) -> Answer | None:
    """Which shortcut? The last option's test error against the first one's."""
    claims = [one for one in shortcuts.claims(table) if "test" in one.head and "plain" not in one.head]
    if not claims:
        return None
    settled = [one for one in claims if one.sign]
    last = settled[-1] if settled else claims[-1]
    ahead = last.gap.better if last.sign > 0 else last.gap.worse
    option = {name: letter for letter, name in shortcuts.named(table).items()}
    words = f"{option[ahead]} is best" if last.sign else UNSETTLED
    about = _interval(last.gap, f"test error of {last.gap.worse} minus {last.gap.better}")
    reverse = f"; {last.order.lower()}" if last.order == order.REVERSED else ""
    count = f"; {len(settled)} of {len(claims)} pairs settled"
    return Answer(words, f"{last.gap.size} points", about + reverse + count)


def agreement(table: pd.DataFrame) -> Answer | None:
    """Do the runs agree with the paper? How many of its claims about depth these runs show."""
    found = claims.of_table(table)
    rows = [row for row in found if not row.unannounced]
    if not rows:
        return None
    shown, reversed_ = (
        sum(row.settles == word for row in rows) for word in (claims.SHOWN, claims.REVERSED)
    )
    words = {len(rows): "All of them", 0: "None"}.get(shown, f"{shown} of them")
    settled = f"; {reversed_} reversed" if reversed_ else ""
    others = ", ".join(
        f"{row.claim.words.lower()}: {row.verdict}"
        for row in found
        if row.settles != claims.SHOWN or row.unannounced
    )
    about = f"claims about depth are shown on the clean training error{settled}"
    return Answer(
        words, f"{shown} of {len(rows)}", about + (f". {others.capitalize()}" if others else "")
    )
