"""What a slice of the loss surface holds, in sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd


def on_surfaces(frame: pd.DataFrame) -> list[str]:
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
