"""Logged curves of several runs side by side: axes, smoothing, thinning, means over seeds, their names.

Pure functions of frames and configurations; nothing here reads a file or draws.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype as is_number

from resnetlab.config import Recipe, Run

Axis = Literal["step", "epoch", "seconds", "images"]
Spread = Literal["sd", "range", "se", "none"]

_NAMES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
QUANTITIES: dict[str, str] = _NAMES["quantities"]  # quantity -> its name on an axis, with the unit
AXES: dict[Axis, str] = _NAMES["axes"]
TITLES: dict[str, str] = AXES | QUANTITIES  # of whatever may be an axis
MOST_POINTS = 2_000  # of one curve on a chart
_VIEWPORT = 1_000  # steps across the axis, as in W&B's definition


# --- one curve --------------------------------------------------------------------------------


def curve(metrics: pd.DataFrame, quantity: str, axis: str, batch_size: int) -> pd.DataFrame:
    """The rows of one run that have the quantity, by step: step, x, y (floats, finite).

    `metrics` as `RunRecord.metrics`. Rows without a place on the axis (no wall time logged) are left
    out. The axis may be another quantity: a point for every step that has both. Images seen are step x
    batch size: every batch of the training loop is full.
    """
    if quantity not in metrics or axis not in {*AXES, *metrics}:
        return pd.DataFrame({"step": pd.Series(dtype=int), "x": [], "y": []}, dtype=float)
    step, y = metrics["step"].to_numpy(), metrics[quantity].to_numpy(dtype=float)
    x = step * float(batch_size) if axis == "images" else metrics[axis].to_numpy(dtype=float)
    finite = np.isfinite(x) & np.isfinite(y)
    return pd.DataFrame({"step": step[finite], "x": x[finite], "y": y[finite]})


def with_gradient_norms(metrics: pd.DataFrame, probes: pd.DataFrame) -> pd.DataFrame:
    """The rows of `RunRecord.metrics` with the gradient norms of `RunRecord.probe`, by step.

    `gradient_norm_all` is the root of the sum of squares over the weighted layers. A step at which only
    gradients were measured gets a row: its epoch is in proportion, its wall time is not known.
    """
    if metrics.empty or probes.empty:
        return metrics
    grid = probes.pivot_table(index="step", columns="layer", values="value", dropna=False)
    norms = {
        "gradient_norm_all": np.sqrt((grid**2).sum(axis="columns", skipna=False)),
        "gradient_norm_first": grid.iloc[:, 0],
        "gradient_norm_last": grid.iloc[:, -1],
    }
    rows = metrics.merge(pd.DataFrame(norms).reset_index(), on="step", how="outer", sort=True)
    epochs = metrics["epoch"].iloc[-1] / metrics["step"].iloc[-1]
    return rows.assign(epoch=rows["epoch"].fillna(rows["step"] * epochs))


def smooth(
    x: np.ndarray, y: np.ndarray, weight: float, span: float | None = None, rows: int | None = None
) -> np.ndarray:
    """Time-weighted exponential moving average, debiased, of y at x; the same shape.

    As Weights & Biases defines it for line plots: an older value fades by
    sqrt(`weight`) ** (distance in x / `span` * 1000), `span` the range of the x axis (default: that of
    `x`). Where the axis has fewer than 1,000 `rows`, their number stands for the 1,000: else no weight
    would reach from one row to the next. Dividing by the weights so far removes the pull of the start,
    as in TensorBoard. Evenly or unevenly logged runs are smoothed alike. `weight` 0 changes nothing;
    ValueError outside 0..1.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"weight {weight} is not in 0 <= weight < 1")
    if weight == 0 or len(y) < 2:
        return np.asarray(y, dtype=float).copy()
    span = float(np.ptp(x)) if span is None else span
    places = _VIEWPORT if rows is None else min(_VIEWPORT, max(1, rows - 1))
    # A run whose clock ran backwards must not make a factor above 1.
    distance = np.maximum(np.diff(x), 0) / span * places if span > 0 else np.ones(len(x) - 1)
    factors = min(math.sqrt(weight), 0.999) ** distance
    total, mass, out = float(y[0]), 1.0, [float(y[0])]
    for value, factor in zip(y[1:].tolist(), factors.tolist(), strict=True):
        total = total * factor + value
        mass = mass * factor + 1
        out.append(total / mass)
    return np.array(out)


def thin(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS, *, log: bool = False) -> np.ndarray:
    """Indices, ascending, of at most `most` points that look like the whole curve on the screen.

    All of them if they are few enough. Else the axis (its logarithm with `log`) is cut into equal
    buckets; the first and last point of the curve and the lowest and highest of every bucket stay, so
    no spike is lost, only moved by less than a bucket. ValueError for `most` below 4.
    """
    if most < 4:
        raise ValueError(f"a curve of {most} points cannot be thinned: 4 or more")
    if len(y) <= most:
        return np.arange(len(y))
    buckets = (most - 2) // 2
    place = np.asarray(x, dtype=float)
    if log:
        positive = place[place > 0]
        place = np.log(np.maximum(place, positive.min() if len(positive) else 1.0))
    share = (place - place.min()) / (np.ptp(place) or 1.0)
    bucket = np.minimum((share * buckets).astype(int), buckets - 1)
    order = np.lexsort((y, bucket))  # by bucket, then by value
    last = np.flatnonzero(np.diff(bucket[order], append=buckets))  # the highest of each bucket
    lowest = order[np.concatenate([[0], last[:-1] + 1])]
    return np.unique(np.concatenate([[0], lowest, order[last], [len(y) - 1]]))


# --- several runs -----------------------------------------------------------------------------


def over_runs(curves: Sequence[pd.DataFrame], kind: Spread, column: str = "y") -> pd.DataFrame:
    """step, x, mean, low, high, n over the runs, at the steps that every one of them logged.

    low and high are mean -+ the sample standard deviation ("sd") or its standard error ("se"), or the
    lowest and highest run ("range"); NaN without a spread ("none", or one run).

    Nothing is interpolated, and no run drops out on the way: if one diverged, the mean ends there,
    because a mean of the survivors would look better than the runs are. A run without any row is not
    counted. x is the mean place of the step (wall times differ).
    """
    counted = [curve.set_index("step")[["x", column]] for curve in curves if len(curve)]
    if not counted:
        return pd.DataFrame(columns=["step", "x", "mean", "low", "high", "n"], dtype=float)
    together = pd.concat(counted, axis="columns", join="inner").sort_index()
    # (runs, steps)
    x, y = (np.ascontiguousarray(together[[key]].to_numpy().T) for key in ("x", column))
    n, mean = len(counted), y.mean(axis=0)
    low = high = np.full(len(mean), math.nan)
    if kind == "range" and n > 1:
        low, high = y.min(axis=0), y.max(axis=0)
    elif kind != "none" and n > 1:
        half = y.std(axis=0, ddof=1) / (math.sqrt(n) if kind == "se" else 1)
        low, high = mean - half, mean + half
    values = {"step": together.index, "x": x.mean(axis=0), "mean": mean, "low": low, "high": high}
    return pd.DataFrame(values | {"n": n}).reset_index(drop=True)


def averaged(curves: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Curves of one seed and configuration as one, at the steps that every one of them logged."""
    if len(curves) == 1:
        return curves[0]
    y, line = over_runs(curves, "none"), over_runs(curves, "none", "line")
    return pd.DataFrame({"step": y["step"], "x": y["x"], "y": y["mean"], "line": line["mean"]})


def better(quantity: str) -> Literal["min", "max"] | None:
    """Which end of a quantity is its best; None where neither is (learning rate)."""
    if quantity.endswith(("_error", "_loss")):
        return "min"
    return "max" if quantity == "images_per_second" else None


@dataclass(frozen=True)
class Line:
    """What gets one colour: one run, or all chosen runs that have something in common (`groups`)."""

    name: str
    runs: tuple[str, ...]  # what tells each run from the others of the line
    curves: tuple[pd.DataFrame, ...]  # one per run, as `curve`, with `line`: y smoothed
    depth: int
    mean: pd.DataFrame  # of `line` over the runs that have ended, as `over_runs`; empty for one run
    raw: pd.DataFrame  # of y
    young: int = 0  # runs that have not ended: in no mean, thin beside it
    shortcut: str = ""  # of its network, where it has one
    panel: str = ""  # the small multiple that it is drawn in

    @property
    def averaged(self) -> bool:
        return len(self.mean) > 0


def line(
    name: str,
    runs: Sequence[str],
    curves: Sequence[pd.DataFrame],
    depth: int,
    kind: Spread,
    ended: Sequence[bool] = (),
    **more: str,
) -> Line:
    """A Line, with mean and spread if it has several runs with values.

    Both are over the runs that have `ended` (all, if nothing is said): a mean with one that has not
    would stop where that one stands.
    """
    whole = ended or [True] * len(curves)
    filled = [(curve, over) for curve, over in zip(curves, whole, strict=True) if len(curve)]
    averaged = [curve for curve, over in filled if over] if len(filled) > 1 else []
    mean, raw = over_runs(averaged, kind, "line"), over_runs(averaged, "none", "y")
    young = sum(not over for _, over in filled)
    return Line(name, tuple(runs), tuple(curves), depth, mean, raw, young, **more)


def smoothed(curves: Sequence[pd.DataFrame], weight: float) -> list[pd.DataFrame]:
    """The curves with `line`, y smoothed over one common span: what the axis of all of them shows."""
    filled = [curve["x"] for curve in curves if len(curve)]
    span = max(x.max() for x in filled) - min(x.min() for x in filled) if filled else 0.0
    rows = max(map(len, curves), default=0)
    return [
        curve.assign(line=smooth(curve["x"].to_numpy(), curve["y"].to_numpy(), weight, span, rows))
        for curve in curves
    ]


# What the runs of one curve may have in common, and what the curve is then called.
GROUPINGS: dict[str, Callable[[Run], str]] = {
    "network": lambda run: run.network_name,
    "depth": lambda run: f"{run.network.depth} layers",
    "family": lambda run: run.network.family,
    "shortcut": lambda run: f"shortcut {run.network.shortcut}",
    "data set": lambda run: run.data.label,
    "recipe": lambda run: f"recipe {run.recipe.label}",
    "precision": lambda run: run.precision,
}


def groups(runs: Sequence[Run], by: Callable[[Run], Hashable] | None = None) -> list[list[int]]:
    """Positions of the runs that are equal but for the seed, or alike `by` one of GROUPINGS.

    In order of first appearance. Weights that runs start from are each seed's own: the name of the
    edited network stands for them.
    """

    def but_for_seed(run: Run) -> tuple[Run, str]:
        return run.model_copy(update={"seed": 0, "surgery": None}), run.network_name

    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        members[(by or but_for_seed)(run)].append(index)
    return list(members.values())


# --- names ------------------------------------------------------------------------------------


def _fields(run: Run) -> dict[str, str]:
    """What can tell a run from another, in the words of a legend."""
    recipe = {
        key: f"{key} {list(value) if isinstance(value, tuple) else value}"
        for key in Recipe.model_fields
        if key != "name" and (value := getattr(run.recipe, key)) is not None
    }
    return {
        "network": run.network_name,
        "data": run.data.label,
        "recipe": f"recipe {run.recipe.label}",
        **{f"recipe.{key}": words for key, words in recipe.items()},
        "precision": run.precision,
        "seed": f"seed {run.seed}",
    }


def names(
    runs: Sequence[Run], places: Sequence[tuple[str, str]] | None = None, *, seeds: bool = True
) -> list[str]:
    """One name a run, of only what differs among them; the network's if nothing does.

    `places` are (study, run) names: the study is said if it differs, the run where nothing else
    tells two apart. Names that are still equal get a number.
    """
    fields = [_fields(run) for run in runs]
    if places is not None:
        fields = [one | {"study": study} for one, (study, _) in zip(fields, places, strict=True)]
    keys = dict.fromkeys(key for one in fields for key in one if seeds or key != "seed")
    varying = [key for key in keys if len({one.get(key) for one in fields}) > 1]
    # Another recipe differs in a dozen fields: its name says them. A change in one is said by itself.
    several = len({run.recipe.name for run in runs}) > 1
    hidden = [key for key in varying if (key.startswith("recipe.") if several else key == "recipe")]

    def joined(one: Mapping[str, str], words: Iterable[str]) -> str:
        return " · ".join(one[key] for key in words if key in one) or one["network"]

    labels = [joined(one, [key for key in varying if key not in hidden]) for one in fields]
    labels = _told_apart(labels, [joined(one, varying) for one in fields])
    if places is not None:
        placed = zip(labels, places, strict=True)
        labels = _told_apart(labels, [f"{label} · {run}" for label, (_, run) in placed])
    return numbered(labels)


def common(runs: Sequence[Run]) -> str:
    """What all of them share of network, data set, recipe and precision: for a subtitle."""
    fields = [_fields(run) for run in runs]
    words = [{one[key] for one in fields} for key in ("network", "data", "recipe", "precision")]
    return ", ".join(next(iter(values)) for values in words if len(values) == 1)


def _told_apart(labels: Sequence[str], longer: Sequence[str]) -> list[str]:
    """The labels; in place of those that are equal the longer ones."""
    count = Counter(labels)
    return [more if count[label] > 1 else label for label, more in zip(labels, longer, strict=True)]


def shown(text: object, length: int = 400) -> str:
    """Text from a file or folder name on one line: what cannot be printed becomes a mark, long is cut.

    Markup stays as it is: give the result only to what does not interpret it, never to markdown.
    """
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return line if len(line) <= length else line[: length - 1] + "…"


def numbered(labels: Sequence[str]) -> list[str]:
    """The labels, with a number after those that were there before."""
    taken: dict[str, None] = {}
    for label in labels:
        name, number = label, 1
        while name in taken:
            number += 1
            name = f"{label} ({number})"
        taken[name] = None
    return list(taken)


# --- tables -----------------------------------------------------------------------------------


def table_of(lines: Sequence[Line], quantity: str, step: int | None) -> pd.DataFrame:
    """One row a line: name, n (runs with values), then last, best and at, each the mean and `_sd`.

    Values as logged, not smoothed; `_sd` is the sample standard deviation, NaN for one run. `at` is
    over the runs that logged that very step, `at_n` of them.
    """
    end, rows = better(quantity), []
    for line in lines:
        curves = [curve for curve in line.curves if len(curve)]
        values = {
            "last": [curve["y"].iloc[-1] for curve in curves],
            "best": [curve["y"].agg(end) for curve in curves if end],
            "at": [y for curve in curves for y in curve["y"][curve["step"] == step]],
        }
        row: dict[str, Any] = {"name": line.name, "n": len(curves)}
        for key, numbers in values.items():
            of_runs = pd.Series(numbers, dtype=float)
            row |= {key: of_runs.mean(), f"{key}_sd": of_runs.std()}
        rows.append(row | {"at_n": len(values["at"])})
    columns = ["name", "n", "last", "last_sd", "best", "best_sd", "at", "at_sd", "at_n"]
    return pd.DataFrame(rows, columns=columns)


# What begins like a formula and is a number: +1.5, -3 and -2.1 ± 0.4 [-3, +1].
_SIGNED = re.compile(r"[+-][\d.,]+( ± [\d.,]+)?( \[[+-]?[\d.,]+, [+-]?[\d.,]+\])?")


def safe_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets a ' in front."""
    dangerous = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if dangerous and not _SIGNED.fullmatch(value) else value


def safe(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with texts and headings made safe by `safe_cell`."""
    if frame.empty:
        return frame.rename(columns=safe_cell)
    columns = [frame.iloc[:, index] for index in range(frame.shape[1])]  # a heading may occur twice
    safe = [column if is_number(column) else column.map(safe_cell) for column in columns]
    return pd.concat(safe, axis="columns").rename(columns=safe_cell)


def to_csv(frame: pd.DataFrame) -> bytes:
    """The frame as CSV in UTF-8, made `safe`; numbers keep every digit."""
    return safe(frame).to_csv(index=False, lineterminator="\r\n").encode()
