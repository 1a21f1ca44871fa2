"""What the runs of a study say: means and spreads over seeds, and the verdict in words.

The question is the paper's (Sec. 4.1, 4.2): is a deeper network worse on the *training* set? Higher
test error alone would be overfitting. Only runs that share everything but the seed are averaged; only
runs with the same seed are subtracted from one another.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from resnetlab import paper
from resnetlab.config import UsageError, edit_of, without_warmup

GROUP = ["data", "recipe", "precision", "family", "depth", "shortcut", "network"]
MEASURED = ["train_error", "train_error_clean", "test_error"]
ENOUGH_SEEDS = 3
# 97.5 % quantile of Student's t by degrees of freedom: n seeds give n - 1. (Any table of t.)
_STUDENT = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
_STUDENT_MANY = 2.228  # 10 degrees of freedom, on the safe side for more
NEGLIGIBLE = 1.0  # percentage points of training error


def by_network(table: pd.DataFrame) -> pd.DataFrame:
    """One row a network (and data set, recipe, precision) of a table of runs, seeds averaged.

    Columns: those of GROUP; n (finished runs), diverged, unfinished; for train_error,
    train_error_clean and test_error (percent, final): mean, and `_sd`, the sample standard deviation
    (NaN for n = 1); paper_train_error, paper_test_error, paper_source and paper_conditions (in a
    single view, by the paper's own data and schedule, whatever ours).
    """
    rows = []
    for key, group in table.groupby(GROUP, sort=True):
        finished = group[group["status"] == "finished"]
        row: dict[str, Any] = dict(zip(GROUP, key, strict=True))
        row["n"] = len(finished)
        row["diverged"] = int((group["status"] == "diverged").sum())
        row["unfinished"] = len(group) - row["n"] - row["diverged"]
        for quantity in MEASURED:
            values = pd.to_numeric(finished[quantity])
            row[quantity], row[f"{quantity}_sd"] = values.mean(), values.std()
        sources, conditions = [], []
        for quantity in ("train_error", "test_error"):
            record = paper.reported(row["network"], quantity)
            row[f"paper_{quantity}"] = record.value if record else math.nan
            if record:
                sources.append(record.source)
                conditions.append(paper.CONDITIONS[record.data, record.protocol])
        row["paper_source"] = ", ".join(dict.fromkeys(sources))
        row["paper_conditions"] = "; ".join(dict.fromkeys(conditions))
        rows.append(row)
    counts, spreads = ["n", "diverged", "unfinished"], [f"{quantity}_sd" for quantity in MEASURED]
    means = [name for pair in zip(MEASURED, spreads, strict=True) for name in pair]
    papers = ["paper_train_error", "paper_test_error", "paper_source", "paper_conditions"]
    return pd.DataFrame(rows, columns=[*GROUP, *counts, *means, *papers])


def with_spread(row: Mapping[str, Any] | pd.Series[Any], quantity: str, digits: int = 2) -> str:
    """`12.30 ± 0.45` of a row of `by_network`; `12.30` for one run, "" for none."""
    mean, spread = row[quantity], row[f"{quantity}_sd"]
    if pd.isna(mean):
        return ""
    return f"{mean:.{digits}f}" + ("" if pd.isna(spread) else f" ± {spread:.{digits}f}")


def one_condition(
    table: pd.DataFrame, data: str = "", recipe: str = "", precision: str = ""
) -> pd.DataFrame:
    """The rows of one data set, recipe and precision ("" = the only one there is).

    The warm-up of 110 layers is part of the paper's recipe: paper-110 counts as paper.

    Runs of several must not be averaged: UsageError names them, so that one can be chosen.
    """
    asked = {"data": data, "recipe": without_warmup(recipe), "precision": precision}
    for key, value in asked.items():
        if value:
            column = table[key].map(without_warmup) if key == "recipe" else table[key]
            table = table[column == value]
    kinds = table[list(asked)].assign(recipe=table["recipe"].map(without_warmup)).drop_duplicates()
    if len(kinds) > 1:
        found = "; ".join(", ".join(kind) for kind in kinds.itertuples(index=False))
        raise UsageError(
            f"these runs differ in data set, recipe or precision and cannot be averaged: {found}. "
            "Choose one with the parameters data, recipe and precision"
        )
    return table


@dataclass(frozen=True)
class Contrast:
    """Final error of one network minus another's, seed by seed (percentage points)."""

    worse: str  # the network that the question suspects
    better: str
    differences: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.differences)

    @property
    def mean(self) -> float:
        return sum(self.differences) / self.n

    @property
    def spread(self) -> float:
        """Sample standard deviation of the differences; NaN for one seed."""
        if self.n < 2:
            return math.nan
        return math.sqrt(sum((d - self.mean) ** 2 for d in self.differences) / (self.n - 1))

    @property
    def margin(self) -> float:
        """Half the 95 % confidence interval of the mean (Student's t); NaN below three seeds."""
        if self.n < ENOUGH_SEEDS:
            return math.nan
        return _STUDENT.get(self.n - 1, _STUDENT_MANY) * self.spread / math.sqrt(self.n)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the mean (Student's t); NaN below three seeds."""
        return self.mean - self.margin, self.mean + self.margin

    @property
    def sign(self) -> int:
        """+1 or -1 if three seeds or more all agree and the 95 % interval excludes 0, else 0."""
        if self.n < ENOUGH_SEEDS:
            return 0
        agree = all(d > 0 for d in self.differences) or all(d < 0 for d in self.differences)
        return int(math.copysign(1, self.mean)) if agree and abs(self.mean) > self.margin else 0

    @property
    def negligible(self) -> bool:
        """True if the 95 % interval lies within NEGLIGIBLE points of 0."""
        return abs(self.mean) + self.margin < NEGLIGIBLE  # False for NaN

    def __str__(self) -> str:
        # Two decimals where they decide: an end of the interval at -0.0 could lie on either side of 0.
        digits = 2 if abs(self.mean) < 10 else 1
        if self.n == 1:
            return f"{self.mean:+.{digits}f} points, n = 1"
        said = f"{self.mean:+.{digits}f} ± {self.spread:.{digits}f} points (mean ± standard deviation)"
        if self.n >= ENOUGH_SEEDS:
            low, high = (f"{end:+.{digits}f}" for end in self.interval)
            said += f", 95 % [{low}, {high}]"
        return f"{said}, n = {self.n}"


def contrast(
    table: pd.DataFrame,
    worse: str,
    better: str,
    quantity: str = "train_error",
    *,
    by: str = "network",
) -> Contrast | None:
    """Paired over the seeds that both networks finished; None if there is none.

    With `by` the two are values of another column (precision, recipe), of runs of one network.
    """
    finished = table[table["status"] == "finished"].dropna(subset=[quantity])
    finished = finished.drop_duplicates([by, "seed"])
    errors = {
        name: finished[finished[by] == name].set_index("seed")[quantity] for name in (worse, better)
    }
    seeds = sorted(set(errors[worse].index) & set(errors[better].index))
    if not seeds:
        return None
    pairs = (float(errors[worse][seed] - errors[better][seed]) for seed in seeds)
    return Contrast(worse, better, tuple(pairs))


def ordinary(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the rows of edited networks (`Run.surgery`): those are not the paper's."""
    return frame[frame["network"].map(edit_of) == ""]


def deepest_pair(table: pd.DataFrame, *shortcuts: str) -> tuple[str, str] | None:
    """(deepest, shallowest) network of the first of these shortcut options that has two depths.

    20 stands for shallow where it was run. Both have one option: only depth may differ, so edited
    networks do not count.
    """
    finished = ordinary(table[table["status"] == "finished"])
    for shortcut in shortcuts:
        own = finished[finished["shortcut"] == shortcut]
        depths = sorted(own["depth"].unique())
        if len(depths) >= 2:
            shallow = 20 if 20 in depths and depths[-1] > 20 else depths[0]
            name = own.drop_duplicates("depth").set_index("depth")["network"]
            return str(name[depths[-1]]), str(name[shallow])
    return None


_MIXED = "These runs differ in data set, recipe or precision; choose one of each for a verdict."


def _conditions(table: pd.DataFrame) -> int:
    """Data sets, recipes and precisions in a table of runs, counted together; see `one_condition`."""
    kinds = table[["data", "recipe", "precision"]].assign(recipe=table["recipe"].map(without_warmup))
    return len(kinds.drop_duplicates())


def degradation(table: pd.DataFrame) -> list[str]:
    """Sentences that answer: do deeper plain networks train worse, and do residual ones?

    `table` is a table of runs on one data set with one recipe (`Study.table`). Every sentence carries
    n and spread, or says what is missing. Claims need three seeds that agree and a 95 % confidence
    interval that excludes zero (see `Contrast.sign`).
    """
    if table.empty or not (table["status"] == "finished").any():
        return ["No finished run yet: nothing can be said."]
    if _conditions(table) > 1:
        return [_MIXED]
    sentences = []
    plain, residual = deepest_pair(table, "none"), deepest_pair(table, "A", "B", "C")
    for family, pair in (("plain", plain), ("residual", residual)):
        if pair is None:
            sentences.append(f"Fewer than two depths of {family} networks are finished.")
            continue
        found = contrast(table, *pair)
        if found is None:
            sentences.append(f"{pair[0]} and {pair[1]} share no finished seed.")
        else:
            sentences.append(_depth_sentence(family, found))
    if plain is not None and residual is not None:
        across = contrast(table, plain[0], residual[0])
        depths = table.drop_duplicates("network").set_index("network")["depth"]
        if across is not None and depths[plain[0]] == depths[residual[0]]:
            sentences.append(_shortcut_sentence(across))
    return sentences + _diverged(table)


def depth_effects(table: pd.DataFrame) -> pd.DataFrame:
    """What depth costs or gains, per family and error: deep minus shallow, paired by seed.

    `table` as for `degradation`, of one condition. Columns: family, deep, shallow, error (training,
    clean training, test: final, in percent), mean, sd, low and high (the 95 % interval of the mean by
    Student's t; NaN below three seeds), n. Runs that diverged stand in no pair.
    """
    rows = []
    for family, options in (("plain", ("none",)), ("residual", ("A", "B", "C"))):
        pair = deepest_pair(table, *options) if len(table) else None
        for quantity, word in _ERRORS.items() if pair is not None else ():
            assert pair is not None
            found = contrast(table, *pair, quantity)
            if found is not None:
                rows.append((family, *pair, word, found.mean, found.spread, *found.interval, found.n))
    columns = ["family", "deep", "shallow", "error", "mean", "sd", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def _diverged(table: pd.DataFrame) -> list[str]:
    runs = table[table["status"] == "diverged"]["run"]
    if runs.empty:
        return []
    return [f"{len(runs)} run(s) diverged and are not in the means: {', '.join(runs)}."]


def shortcuts(table: pd.DataFrame) -> list[str]:
    """Sentences that answer Table 3's question: what do shortcuts A, B and C gain at equal depth?

    `table` as for `degradation`. Neighbours in the order none, A, B, C are compared, on the training
    error (is the degradation gone?) and on the test error (Table 3), at every depth that has them.
    """
    if table.empty or not (table["status"] == "finished").any():
        return ["No finished run yet: nothing can be said."]
    if _conditions(table) > 1:
        return [_MIXED]
    sentences = []
    for _, own in ordinary(table[table["status"] == "finished"]).groupby("depth"):
        names = own.drop_duplicates("shortcut").set_index("shortcut")["network"]
        there = [names[option] for option in ("none", "A", "B", "C") if option in names]
        for worse, better in itertools.pairwise(there):
            for quantity, word in (("train_error", "training"), ("test_error", "test")):
                found = contrast(table, worse, better, quantity)
                if found is None:
                    continue
                head = f"Final {word} error of {worse} minus {better}: {found}."
                sentences.append(f"{head} {_comparison(found)}")
    missing = ["No two shortcut options of one depth share a finished seed."]
    return (sentences or missing) + _diverged(table)


def answers(table: pd.DataFrame) -> list[str]:
    """What these runs can say: `degradation` where they have two depths, else `shortcuts`.

    Under several recipes, of one data set and precision, what each says and how they differ: `recipes`.
    """
    finished = ordinary(table[table["status"] == "finished"]) if len(table) else table
    one = len(table) and len(table[["data", "precision"]].drop_duplicates()) == 1
    if one and _conditions(table) > 1:
        return recipes(table)
    one_depth = len(finished) > 0 and finished["depth"].nunique() == 1
    return shortcuts(table) if one_depth and finished["shortcut"].nunique() > 1 else degradation(table)


def _comparison(found: Contrast) -> str:
    if found.n < ENOUGH_SEEDS:
        return f"Too few seeds to say: {ENOUGH_SEEDS} are needed."
    if found.sign > 0:
        return f"{found.better} is ahead."
    if found.sign < 0:
        return f"{found.worse} is ahead."
    if found.negligible:
        return f"Less than {NEGLIGIBLE:g} point apart, with 95 % confidence."
    return "These seeds do not settle it."


def _depth_sentence(family: str, found: Contrast) -> str:
    deep, shallow = found.worse, found.better
    head = f"Final training error of {deep} minus {shallow}: {found}."
    if found.n < ENOUGH_SEEDS:
        lean = "higher" if found.mean > 0 else "not higher"
        return f"{head} {lean.capitalize()}, but too few seeds to say: {ENOUGH_SEEDS} are needed."
    if found.sign > 0 and family == "plain":
        return (
            f"{head} The deeper plain network is worse on the TRAINING set: "
            "degradation, not overfitting."
        )
    if found.sign > 0:
        return (
            f"{head} Here the deeper residual network is behind too, at this number of steps; "
            "compare it with the plain one."
        )
    if found.sign < 0:
        return f"{head} Deeper is better: no degradation."
    if found.negligible:
        return f"{head} Less than {NEGLIGIBLE:g} point, with 95 % confidence: no degradation."
    return f"{head} These seeds do not settle it."


def _shortcut_sentence(found: Contrast) -> str:
    head = f"At equal depth, {found.worse} minus {found.better}: {found}."
    if found.n < ENOUGH_SEEDS:
        return head
    if found.sign > 0:
        if found.better.endswith(("-B", "-C")):
            return f"{head} The shortcuts make the difference; their projections add parameters."
        return f"{head} The shortcuts alone, which add no parameter, make the difference."
    if found.sign < 0:
        return f"{head} Here the plain network is ahead."
    return f"{head} These seeds do not settle it."


# --- one network under several conditions -------------------------------------------------------


def recipes(table: pd.DataFrame) -> list[str]:
    """What another recipe does to each network, and what is left of the question under it, in words.

    `table` has runs of one data set and precision by two or more recipes, as of a study and the same
    with clipped gradients. The recipe with the fewest changes (the shortest label) is what the others
    are set against: network by network and seed by seed, on training and test error; then what depth
    costs under each, over the seeds that all four networks share. Last the verdict on each recipe.
    """
    table = table.assign(recipe=table["recipe"].map(without_warmup))
    finished = ordinary(table[table["status"] == "finished"])
    base, *others = sorted(table["recipe"].unique(), key=lambda name: (len(name), name))
    sentences = []
    for other in others:
        both = finished[finished["recipe"].isin([base, other])]
        for network, own in _by_depth(both):
            for quantity, word in _ERRORS.items():
                found = contrast(own, other, base, quantity, by="recipe")
                if found is None:
                    continue
                paired = _paired(own, "recipe", quantity)
                ends = " and ".join(
                    f"{_mean_error(paired[paired['recipe'] == name], quantity)} by {name}"
                    for name in (base, other)
                )
                sentences.append(
                    f"{network}: final {word} error {ends}; the second minus the first {found}. "
                    f"{_moved(found)}"
                )
        for shortcut in ("none", "A", "B", "C"):
            sentences += _cost_of_depth(both[both["shortcut"] == shortcut], base, other)
    for name in (base, *others):
        own = table[table["recipe"] == name]
        sentences += [f"By {name}: {sentence}" for sentence in answers(own)]
    return sentences


def _paired(own: pd.DataFrame, by: str, quantity: str = "train_error") -> pd.DataFrame:
    """The runs of the seeds that have this error under every value of `by`: what is subtracted."""
    own = own.dropna(subset=[quantity]).drop_duplicates([by, "seed"])
    return own[own.groupby("seed")[by].transform("nunique") == own[by].nunique()]


_ERRORS = {
    "train_error": "training",
    "train_error_clean": "clean training",
    "test_error": "test",
}


def _moved(
    found: Contrast,
    words: Mapping[int, str] = MappingProxyType(
        {-1: "Lower.", 1: "Higher.", 0: "These seeds do not settle it."}
    ),
) -> str:
    """What a paired difference between two conditions settles, in words by its sign."""
    if found.n < ENOUGH_SEEDS:
        return f"Too few seeds to say: {ENOUGH_SEEDS} are needed."
    if found.negligible:
        return f"Less than {NEGLIGIBLE:g} point, with 95 % confidence."
    return words[found.sign]


def _cost_of_depth(own: pd.DataFrame, base: str, other: str) -> list[str]:
    """Deep minus shallow by two recipes, and how much of it the second takes away, seed by seed."""
    # The two studies may have other networks besides: the pair is of those that both have.
    shared = set.intersection(*(set(own[own["recipe"] == name]["network"]) for name in (base, other)))
    own = own[own["network"].isin(shared)]
    pair = deepest_pair(own, *own["shortcut"].unique())
    if pair is None:
        return []
    sentences = []
    for quantity, word in _ERRORS.items():
        costs = []
        for name in (base, other):
            rows = own[own["recipe"] == name].drop_duplicates(["network", "seed"])
            errors = rows.pivot(index="seed", columns="network", values=quantity)
            costs.append((errors[pair[0]] - errors[pair[1]]).dropna())
        seeds = sorted(set(costs[0].index) & set(costs[1].index))
        if not seeds:
            continue
        first, second = (Contrast(*pair, tuple(float(cost[seed]) for seed in seeds)) for cost in costs)
        change = Contrast(
            other,
            base,
            tuple(b - a for a, b in zip(first.differences, second.differences, strict=True)),
        )
        sentences.append(
            f"Final {word} error of {pair[0]} minus {pair[1]}: {first} by {base}; {second} by {other}; "
            f"the second minus the first {change}. {_moved(change)}"
        )
    return sentences


def longer(table: pd.DataFrame) -> list[str]:
    """Footnote 3 in sentences: what more steps of one recipe change, and whether degradation is left.

    `table` has runs of two or more lengths (`steps_planned`); the longest is set against the shortest,
    network by network and seed by seed, and then gets the verdict of `degradation`.
    """
    finished = table[table["status"] == "finished"] if len(table) else table
    if finished.empty:
        return ["No finished run yet: nothing can be said."]
    lengths = sorted(finished["steps_planned"].unique())
    if len(lengths) < 2:
        return [f"All runs have {lengths[0]:,} steps: nothing to compare them with."]
    finished = finished.assign(length=finished["steps_planned"].map("{:,} steps".format))
    long, short = f"{lengths[-1]:,} steps", f"{lengths[0]:,} steps"
    words = {-1: "More steps help.", 1: "More steps made it worse.", 0: "These seeds do not settle it."}
    sentences = []
    for network, own in _by_depth(finished):
        found = contrast(own, long, short, by="length")
        if found is None:
            continue
        paired = _paired(own[own["length"].isin([short, long])], "length")
        ends = ", ".join(
            f"{_mean_error(paired[paired['length'] == length])} after {length}"
            for length in (short, long)
        )
        head = f"{network}: final training error {ends}; the longer minus the shorter {found}."
        sentences.append(f"{head} {_moved(found, words)}")
    at_end = table[table["steps_planned"] == lengths[-1]]
    return sentences + [f"After {long}: {sentence}" for sentence in degradation(at_end)]


PRECISIONS = ("fp64", "fp32", "tf32", "bf16")  # from the most exact to the least


def precisions(table: pd.DataFrame) -> list[str]:
    """How much of a failure is rounding, in sentences: every precision against fp64, seed by seed.

    `table` has runs that share everything but seed, network and precision. For each network with runs
    in fp64: the final training errors, whether it fails in fp64 too (the 95 % interval of its error
    above NEGLIGIBLE), and what is left there of the error of every other precision.
    """
    finished = table[table["status"] == "finished"] if len(table) else table
    if finished.empty:
        return ["No finished run yet: nothing can be said."]
    sentences = []
    for network, own in _by_depth(finished):
        there = [name for name in PRECISIONS if (own["precision"] == name).any()]
        errors = [f"{_mean_error(own[own['precision'] == name])} in {name}" for name in there]
        head = f"{network}: final training error {', '.join(errors)}."
        if there[0] != "fp64":
            sentences.append(f"{head} Without runs in fp64 rounding cannot be told apart.")
            continue
        exact = own[own["precision"] == "fp64"].drop_duplicates("seed").set_index("seed")["train_error"]
        sentences.append(f"{head} {_fails_exactly(Contrast(network, 'no error', tuple(exact)))}")
        for name in there[1:]:
            found = contrast(own, name, "fp64", by="precision")
            if found is None:
                continue
            both = own[(own["precision"] == name) & own["seed"].isin(exact.index)]
            mean = float(both.drop_duplicates("seed")["train_error"].mean())
            said = f"{network}, {name} minus fp64: {found}."
            if found.n < ENOUGH_SEEDS:
                said += f" Too few seeds to say: {ENOUGH_SEEDS} are needed."
            elif found.negligible:
                said += f" Less than {NEGLIGIBLE:g} point, with 95 % confidence: rounding adds nothing."
            else:
                words = {1: "Rounding adds to the error.", -1: f"In {name} the error is lower."}
                said += f" {words.get(found.sign, 'What rounding adds, these seeds do not settle.')}"
            if mean > NEGLIGIBLE:
                left = 100 * (mean - found.mean) / mean
                part = "all" if left >= 100 else f"{left:.0f} %"
                said += f" Of the error in {name}, {part} is there in fp64."
            sentences.append(said)
    return sentences + _diverged(table)


def _fails_exactly(errors: Contrast) -> str:
    """Whether final errors in float64 (differences to zero) are a failure not made by rounding."""
    if errors.n < ENOUGH_SEEDS:
        return f"Too few seeds in fp64 to say: {ENOUGH_SEEDS} are needed."
    if errors.mean - errors.margin > NEGLIGIBLE:
        return "It fails in fp64 too: rounding is not what makes it fail."
    if errors.mean + errors.margin < NEGLIGIBLE:
        return "In fp64 it does not fail."
    return "Whether it fails in fp64, these seeds do not settle."


def _by_depth(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(network, its rows), shallow before deep and plain before residual."""
    keys = ["depth", "family", "shortcut", "network"]
    return [(str(key[-1]), own) for key, own in table.groupby(keys, sort=True)]


def _mean_error(own: pd.DataFrame, quantity: str = "train_error") -> str:
    """`57.1 ± 22.0 %` of the final errors, one per seed."""
    errors = own.drop_duplicates("seed")[quantity].dropna()
    spread = "" if len(errors) < 2 else f" ± {errors.std():.1f}"
    return f"{errors.mean():.1f}{spread} %"


# --- gradient norms ---------------------------------------------------------------------------

# A first layer whose gradient is a hundred times the last one's, or a hundredth. A convention, not the
# paper's: it writes "healthy norms" (Sec. 4.1) and gives no number.
EXPLODING, VANISHING = 1e2, 1e-2


def gradient_ratios(probes: pd.DataFrame) -> pd.DataFrame:
    """Norm of the first weighted layer's gradient over the last one's: one row a run and logged step.

    `probes` as `results.probes_of`. Columns: study, run, network, depth, shortcut, seed, step, ratio.
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


def gradients(probes: pd.DataFrame) -> list[str]:
    """One sentence a network: do its gradients vanish, explode, or stay healthy, with the numbers.

    The ratio of `gradient_ratios` at the first logged step, and its geometric mean over the later
    half of the logged steps; geometric means over seeds.
    """
    ratios = gradient_ratios(probes)
    if ratios.empty:
        return ["No gradient norms logged yet: nothing can be said."]
    sentences = []
    ratios["residual"] = ratios["shortcut"] != "none"  # plain first, as everywhere
    for (_, _, _, network), own in ratios.groupby(["depth", "residual", "shortcut", "network"]):
        seeds = own["seed"].nunique()
        steps = sorted(own["step"].unique())
        start = _geometric(own[own["step"] == steps[0]]["ratio"])
        head = f"{network} ({seeds} seed{'s' if seeds > 1 else ''}): at step {steps[0]:,} the first "
        head += f"layer's gradient is {_times(start)} times the last one's, {_health(start)}"
        later = steps[len(steps) // 2 :]
        if len(steps) > 1:
            mean = _geometric(own[own["step"].isin(later)]["ratio"])
            head += f"; from step {later[0]:,} on {_times(mean)} times, {_health(mean)}"
            between = own[own["step"] > steps[0]].groupby("step")["ratio"].agg(_geometric)
            for step, extreme in ((between.idxmin(), between.min()), (between.idxmax(), between.max())):
                if _health(extreme) not in ("healthy", _health(mean)):
                    head += f"; at step {step:,} {_times(extreme)} times, {_health(extreme)}"
        sentences.append(head + ".")
    return sentences


def first_layer_norms(probes: pd.DataFrame) -> list[str]:
    """One sentence a family: the first layer's gradient norm by depth, and whether depth moves it.

    `probes` as for `gradients`, of one step. The ratio of first to last layer cannot see a gradient
    that shrinks or grows in all layers alike, as it does without batch norm. Geometric means over
    seeds.
    """
    first = probes[(probes["layer"] == 0) & (probes["value"] > 0)]
    sentences = []
    for family in ("plain", "residual"):
        own = first[first["family"] == family]
        if own.empty:
            continue
        norms = own.groupby("depth")["value"].agg(_geometric)
        parts = ", ".join(f"{value:.2g} ({depth} layers)" for depth, value in norms.items())
        head = f"{family.capitalize()}: the first layer's norm is {parts}"
        if len(norms) < 2:
            sentences.append(f"{head}.")
            continue
        change = float(norms.iloc[-1] / norms.iloc[0])
        verb = "grows" if change > 1 else "falls"
        factor = change if change > 1 else 1 / change
        large = f"more than {EXPLODING:,.0f}" if factor > EXPLODING else "within the ordinary"
        ends = f"From {norms.index[0]} to {norms.index[-1]} layers"
        sentences.append(f"{head}. {ends} it {verb} {_times(factor)} times, {large}.")
    return sentences or ["No gradient norms measured yet: nothing can be said."]


def _geometric(values: pd.Series[Any]) -> float:
    return float(np.exp(np.log(values).mean()))


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if 10 <= ratio < 1e6 else f"{ratio:.2g}"


def _health(ratio: float) -> str:
    if ratio > EXPLODING:
        return f"exploding towards the input (more than {EXPLODING:,.0f})"
    if ratio < VANISHING:
        return f"vanishing towards the input (less than 1/{1 / VANISHING:,.0f})"
    return "healthy"


# --- rounding -------------------------------------------------------------------------------------

NOTHING_LEFT = 1.0  # an error as large as the gradient itself: nothing of it is left


def median_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Median over the layers of `probes.gradient_error`: one row a network, seed and arithmetic.

    `frame` has the columns of `results.IDENTITY`, arithmetic, layer, relative and norm; those of the
    result are the same without layer.
    """
    who = [name for name in frame.columns if name not in ("layer", "relative", "norm")]
    return frame.groupby(who, sort=False)[["relative", "norm"]].median().reset_index()


def rounding(frame: pd.DataFrame) -> list[str]:
    """How far gradients are from float64's, a sentence an arithmetic: by family and depth.

    `frame` as `median_errors` takes it; geometric means over seeds of the medians over layers. Where
    nothing of a gradient is left, by how much its norm is off: norms alone would not show it.
    """
    usable = frame[frame["relative"] > 0] if len(frame) else frame
    if usable.empty:
        return ["No gradient error measured yet: nothing can be said."]
    medians = median_errors(usable)
    sentences = []
    for arithmetic in medians["arithmetic"].unique():
        own = medians[medians["arithmetic"] == arithmetic]
        said, lost, errors = [], [], {}
        for family, part in own.groupby("family", sort=True):
            errors[family] = by_depth = part.groupby("depth")["relative"].agg(_geometric)
            parts = (f"{_percent(value)} ({depth} layers)" for depth, value in by_depth.items())
            said.append(f"{family} {', '.join(parts)}")
            norms = part.groupby("depth")["norm"].median()
            lost += [
                f"{family} with {depth} layers, whose norms are off by {_percent(norms[depth])}"
                for depth, value in by_depth.items()
                if value >= NOTHING_LEFT
            ]
        sentence = f"{arithmetic}: {'; '.join(said)}."
        shared = sorted(set.intersection(*(set(found.index) for found in errors.values())))
        if len(errors) == 2 and shared:
            factor = errors["plain"][shared[-1]] / errors["residual"][shared[-1]]
            sentence += f" At {shared[-1]} layers plain over residual: {_times(factor)} times."
        if lost:
            sentence += f" Nothing of the gradient is left in {'; '.join(lost)}."
        sentences.append(sentence)
    return sentences


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


# --- correlation of gradients -------------------------------------------------------------------

SHATTERED = 0.1  # cosine below which neighbours' gradients are called unrelated; a convention


def correlations(frame: pd.DataFrame) -> list[str]:
    """How alike gradients at neighbouring inputs are, by family and depth, in sentences.

    `frame` has the columns of `results.IDENTITY` and value, the mean cosine of neighbours, one row a
    network and seed. Means and sample standard deviations over seeds.
    """
    values = frame.dropna(subset=["value"])
    if values.empty:
        return ["No correlation measured yet: nothing can be said."]
    sentences = []
    for family in ("plain", "residual"):
        own = values[values["family"] == family]
        if own.empty:
            continue
        by_depth = own.groupby("depth")["value"].agg(["mean", "std", "count"])
        parts = []
        for depth, row in by_depth.iterrows():
            spread = "" if pd.isna(row["std"]) else f" ± {row['std']:.2f}"
            parts.append(f"{depth} layers {row['mean']:.2f}{spread}")
        count = int(by_depth["count"].min())
        head = f"{family.capitalize()}: {', '.join(parts)} ({count} seed{'s' if count > 1 else ''})."
        low = [depth for depth in by_depth.index if by_depth["mean"][depth] < SHATTERED]
        if not low:
            said = f"No depth measured falls below {SHATTERED:g}."
        elif all(by_depth["mean"][depth] < SHATTERED for depth in by_depth.index if depth >= low[0]):
            said = f"Below {SHATTERED:g} from {low[0]} layers on: one step further the gradient is new."
        else:
            said = f"Below {SHATTERED:g} at {', '.join(map(str, low))} layers."
        sentences.append(f"{head} {said}")
    return sentences


# --- layer responses ----------------------------------------------------------------------------


def mean_responses(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over the layers, one row a run: study to precision, and response_std.

    `frame` has the columns of `results.IDENTITY`, layer and value (`probes.layer_responses`). The
    paper's means are in `paper.FIGURE_7`.
    """
    who = [name for name in frame.columns if name not in ("layer", "value", "name")]
    return frame.groupby(who)["value"].mean().rename("response_std").reset_index()


def responses(frame: pd.DataFrame) -> list[str]:
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


# --- the surface ------------------------------------------------------------------------------


def surfaces(frame: pd.DataFrame) -> list[str]:
    """A slice of the loss surface, a sentence a run: how high the weights stand, and how rough it is.

    `frame` as `plots.loss_surfaces` takes it; the trained weights are at x = y = 0. Rough is counted:
    the hollows of the slice, points lower than all eight neighbours (its edge is left out). Shares and
    counts are of the points measured; those with a loss that is not finite are counted apart.
    """
    if frame.empty:
        return ["No loss over a plane measured yet: nothing can be said."]
    sentences = []
    who = ["depth", "family", "network", "seed", "study", "run"]
    for key, own in frame.groupby(who, sort=True):
        grid = own.pivot_table(index="y", columns="x", values="loss", dropna=False).to_numpy(
            dtype=float
        )
        finite = np.isfinite(grid)
        at = own[(own["x"].abs() < 1e-9) & (own["y"].abs() < 1e-9)]["loss"]
        name = f"{key[2]}, seed {key[3]}"
        if at.empty or not np.isfinite(at.iloc[0]):
            sentences.append(f"{name}: no finite loss at the trained weights: nothing can be said.")
            continue
        here = float(at.iloc[0])
        low, high = float(grid[finite].min()), float(grid[finite].max())
        share = 100 * float((grid[finite] <= 2 * here).sum()) / grid.size
        said = (
            f"{name}: loss {here:.3g} at the trained weights, {low:.3g} to {high:.3g} in the slice; "
            f"{share:.0f} % of it within twice the loss at the weights; {_hollows(grid)} hollow(s)"
        )
        if not finite.all():
            said += f"; {int((~finite).sum())} of {grid.size} points are not finite"
        sentences.append(f"{said}.")
    return sentences


def _hollows(grid: np.ndarray) -> int:
    """Inner points of (A, B) that are lower than all eight around them."""
    inner = grid[1:-1, 1:-1]
    lower = np.isfinite(inner)
    for down in range(3):
        for right in range(3):
            if (down, right) != (1, 1):
                around = grid[down : down + inner.shape[0], right : right + inner.shape[1]]
                lower &= inner < around
    return int(lower.sum())


# --- the constructed solution -------------------------------------------------------------------


def same_function(frame: pd.DataFrame) -> list[str]:
    """Is the built network the same function? A sentence a network, over its seeds.

    `frame` has the columns of `results.IDENTITY`, which (before, after, disturbed), built (the deeper
    network's name), error (percent, test) and logits (largest change of a logit, in evaluation mode).
    """
    sentences = []
    for network, own in frame.groupby("network", sort=True):
        parts = {str(which): rows.set_index("seed") for which, rows in own.groupby("which")}
        before, after, disturbed = (parts[which] for which in ("before", "after", "disturbed"))
        apart = (after["error"] - before["error"]).abs().max()
        word = "equal" if apart == 0 else f"up to {apart:.2f} points apart"
        errors = ", ".join(f"{error:.2f}" for error in before["error"])
        seeds = f"{len(after)} seed{'s' if len(after) > 1 else ''}"
        sentences.append(
            f"{network} as {after['built'].iloc[0]} ({seeds}): a logit changes by "
            f"{after['logits'].max():.2g} at most; test errors {word} ({errors} %). With one added "
            f"weight disturbed a logit changes by {disturbed['logits'].min():.2g} or more."
        )
    return sentences or ["Nothing was built: nothing can be said."]


LOST = 5.0  # points of running training error above the start; it is noisy: few images, training mode


def kept(frame: pd.DataFrame) -> list[str]:
    """Does SGD keep a constructed solution? One sentence a family and learning rate, and a summary.

    `frame` as `plots.trained_on`, with peak_train_error, the highest running training error on the way,
    and control_train_error_clean, what the shallow network itself came to meanwhile at the largest
    rate. A run has kept it if its clean training error at the end is less
    than NEGLIGIBLE points above the solution's own, and its running one never LOST points above; a
    loss that is not finite has left it.
    """
    if frame.empty:
        return ["Nothing was trained on: nothing can be said."]
    sentences, left_at = [], []
    for family, own in frame.groupby("family", sort=True):
        for rate, runs in own.groupby("lr", sort=True):
            start = runs["start_train_error_clean"]
            stayed = runs["train_error_clean"] - start < NEGLIGIBLE  # False for NaN
            stayed &= runs["peak_train_error"] - start < LOST
            ends = ", ".join(
                f"{value:.1f}" if value == value else "diverged" for value in runs["train_error_clean"]
            )
            seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
            said = (
                f"{str(family).capitalize()}, rate {rate:g}: kept by {int(stayed.sum())} of {seeds}; "
                f"training error at the end {ends} % (before "
                f"{start.mean():.1f} %), at most "
                f"{runs['peak_train_error'].max():.1f} % on the way"
            )
            sentences.append(f"{said}.")
            if not stayed.all():
                every = "every seed" if not stayed.any() else f"{int((~stayed).sum())} of {len(runs)}"
                left_at.append(f"{family} networks at rate {rate:g} ({every})")
        control = own.drop_duplicates("seed")["control_train_error_clean"]
        sentences.append(
            f"{str(family).capitalize()}, without the added layers, at rate {own['lr'].max():g} "
            f"meanwhile: {', '.join(f'{value:.1f}' for value in control)} %."
        )
    count = int(frame.groupby(["family", "lr"])["seed"].nunique().min())
    if left_at:
        sentences.append(f"The solution exists, and SGD left it: {', '.join(left_at)}.")
    else:
        sentences.append("SGD kept the solution at every rate tried.")
    if count < ENOUGH_SEEDS:
        sentences[-1] += f" Too few seeds to say more: {ENOUGH_SEEDS} are needed."
    return sentences


# --- the dial and the lesion --------------------------------------------------------------------


def dial(frame: pd.DataFrame) -> list[str]:
    """How much shortcut is enough: the error at each scale, and from which on it is the full one's.

    `frame` as `plots.shortcut_dial`. Paired over seeds with scale 1: enough is a scale from which on
    every scale's clean training error is within NEGLIGIBLE points of scale 1, with 95 % confidence.
    """
    if frame.empty:
        return ["No scaled shortcuts trained yet: nothing can be said."]
    errors = frame.pivot_table(index="seed", columns="scale", values="train_error_clean")
    parts = []
    for scale in errors:
        own = errors[scale].dropna()
        spread = f" ± {own.std():.1f}" if len(own) > 1 else ""
        parts.append(f"{own.mean():.1f}{spread} (a = {scale:g})")
    count = int(errors.count().min())
    noun = "seed" if count == 1 else "seeds"
    sentences = [f"Clean training error in percent, {count} {noun}: {', '.join(parts)}."]
    means = errors.mean()
    risen = [
        f"{low:g} to {high:g}"
        for low, high in itertools.pairwise(means.index)
        if means[high] > means[low] + NEGLIGIBLE
    ]
    if risen:
        sentences.append(f"The mean does not only fall: it rises from a = {', '.join(risen)}.")
    if 1.0 not in errors or len(errors.columns) < 2:
        return [*sentences, "Without a = 1 and another scale nothing can be compared."]
    if count < ENOUGH_SEEDS:
        return [*sentences, f"Too few seeds to say how much is enough: {ENOUGH_SEEDS} are needed."]
    enough: float | None = None
    for scale in reversed([one for one in errors if one != 1.0]):
        pairs = (errors[scale] - errors[1.0]).dropna()
        if not Contrast(f"a = {scale:g}", "a = 1", tuple(map(float, pairs))).negligible:
            break
        enough = float(str(scale))
    if enough is None:
        return [*sentences, "No scale below 1 is within 1 point of the full shortcut for sure."]
    return [
        *sentences,
        f"From a = {enough:g} on it is within {NEGLIGIBLE:g} point of a = 1, with 95 % confidence.",
    ]


def lesions(frame: pd.DataFrame) -> list[str]:
    """What a network loses with its blocks: one sentence for single ones, one for several at random.

    `frame` as `plots.lesions`. Points are test error with blocks removed minus intact, run by run.
    """
    if frame.empty:
        return ["No block was removed: nothing can be said."]
    sentences = []
    added = frame.assign(added=frame["test_error"] - frame["intact_error"])
    for (_, _, network), own in added.groupby(["depth", "family", "network"], sort=True):
        seeds = own["seed"].nunique()
        single, several = own[own["removed"] == 1], own[own["removed"] > 1]
        if len(single):
            by_place = single.groupby("place")["added"].mean()
            worst = int(str(by_place.idxmax()))
            sentences.append(
                f"{network} ({seeds} seed{'s' if seeds > 1 else ''}): without one of its "
                f"{int(own['blocks'].max())} blocks {_signed(by_place.min())} to "
                f"{_signed(by_place.max())} points of test error (means over seeds), median "
                f"{_signed(single['added'].median())}; most without block {worst + 1}."
            )
        if len(several):
            means = several.groupby("removed")["added"].agg(["mean", "std"])
            parts = [
                f"{_signed(row['mean'])} ± {row['std']:.1f} without {number}"
                for number, row in means.iterrows()
            ]
            sentences.append(f"{network}: {', '.join(parts)} at random (seeds and draws).")
    return sentences


def _signed(points: float) -> str:
    return f"{points:+.1f}"
