"""What a slice of the loss surface holds, in sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.ndimage import minimum_filter

from resnetlab.verdict.words import rounded


def on_surfaces(frame: pd.DataFrame) -> list[str]:
    """A slice of the loss surface, a sentence per run: how high the weights stand, and how rough it is.

    `frame` as `plots.loss_surfaces` takes it; the trained weights are at x = y = 0. Rough is counted:
    the local minima of the slice, points lower than all eight neighbours (its edge is left out). Shares
    and counts are of the points measured; those with a loss that is not finite are counted apart.
    """
    if frame.empty:
        return ["No loss over a plane measured yet: nothing can be said."]
    sentences = []
    who = ["depth", "family", "network", "seed", "study", "run"]
    for key, points in frame.groupby(who, sort=True):
        table = points.pivot_table(index="y", columns="x", values="loss", dropna=False)
        grid = table.to_numpy(dtype=float)
        finite = np.isfinite(grid)
        at = points[(points["x"].abs() < 1e-9) & (points["y"].abs() < 1e-9)]["loss"]
        name = f"{key[2]}, seed {key[3]}"
        if at.empty or not np.isfinite(at.iloc[0]):
            sentences.append(f"{name}: no finite loss at the trained weights: nothing can be said.")
            continue
        here = float(at.iloc[0])
        low, high = float(grid[finite].min()), float(grid[finite].max())
        share = 100 * float((grid[finite] <= 2 * here).sum()) / grid.size
        minima = _local_minima(grid)
        text = (
            f"{name}: loss {rounded(here, 3)} at the trained weights, {rounded(low, 3)} to "
            f"{rounded(high, 3)} in the slice; "
            f"{share:.0f} % of it within twice the loss at the weights; "
            f"{minima} local minim{'um' if minima == 1 else 'a'}"
        )
        if not finite.all():
            text += f"; {int((~finite).sum())} of {grid.size} points are not finite"
        sentences.append(f"{text}.")
    return sentences


def local_minima(frame: pd.DataFrame) -> pd.DataFrame:
    """Local minima in the slice of each run: one row per run, family, network, seed, minima."""
    rows = []
    for key, points in frame.groupby(["family", "network", "seed", "study", "run"], sort=True):
        table = points.pivot_table(index="y", columns="x", values="loss", dropna=False)
        rows.append((*key[:3], _local_minima(table.to_numpy(dtype=float))))
    return pd.DataFrame(rows, columns=["family", "network", "seed", "minima"])


def _local_minima(grid: np.ndarray) -> int:
    """Inner points of (A, B) that are lower than all eight around them."""
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = False
    # What is NaN counts as lower than all: beside it there is no minimum to be seen.
    around = minimum_filter(np.where(np.isnan(grid), -np.inf, grid), footprint=ring)
    return int((np.isfinite(grid) & (grid < around))[1:-1, 1:-1].sum())
