"""The learning rate: a pure function of step and recipe, and the rules that look at a run's errors."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from resnetlab.config.recipe import PAPER, Recipe, recipe_named
from resnetlab.config.strict import UsageError


class Events(NamedTuple):
    """What a run's own errors decided: the step before which the warm-up ended, those of the drops."""

    warm_until: int | None = None
    drops: tuple[int, ...] = ()


def lr_at(step: int, recipe: Recipe | str = PAPER, events: Events = Events()) -> float:  # noqa: B008
    """The learning rate of the step that follows `step` finished ones (Sec. 3.4, 4.2).

    With the paper's recipe: 0.1 for steps 0..31,999, 0.01 from 32,000, 0.001 from 48,000. `recipe` is
    a Recipe or the name of a preset. Rules that look at errors enter through `events`: without them a
    warm-up by error is not over and no plateau was met. A warm-up changes the rate until its end and
    nothing after it: milestones stay where they are. Raises ValueError for a negative step.
    """
    if step < 0:
        raise ValueError(f"step {step} is negative")
    if isinstance(recipe, str):
        recipe = recipe_named(recipe)
    if recipe.warmup_lr is not None:
        warm_until = recipe.warmup_steps or events.warm_until
        if warm_until is None or step < warm_until:
            return recipe.warmup_lr
    drops = sum(step >= at for at in (*recipe.milestones, *events.drops))
    # Dividing by a power of 1/decay gives 0.01 where 0.1 * 0.1 would give 0.010000000000000002.
    return recipe.lr / (1 / recipe.decay) ** drops


class Schedule:
    """Follows a run's errors and turns them into `Events`, which `lr_at` takes.

    Two rules of the paper look at errors: the warm-up of 110 layers, "until the training error is
    below 80 %" (Sec. 4.2), and the drop "when the error plateaus" (Sec. 3.4). All of its state goes
    through `state` and `restore`, so a resumed run decides what an undisturbed one would.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.events = Events()
        self._recent: deque[int] = deque(maxlen=recipe.warmup_window)  # wrong images of each step
        self._followed: list[float] = []  # tested errors since the last drop, percent

    def lr(self, step: int) -> float:
        """The rate of the step that follows `step` finished ones."""
        return lr_at(step, self.recipe, self.events)

    @property
    def warming(self) -> bool:
        """Whether the training error still has to end the warm-up."""
        by_error = self.recipe.warmup_lr is not None and self.recipe.warmup_steps is None
        return by_error and self.events.warm_until is None

    def after_step(self, step: int, wrong: int) -> None:
        """`step` steps are done, the last batch had `wrong` wrong images. Only read while warming.

        The running error is that of the last `warmup_window` steps, all of which must have been made.
        """
        if not self.warming:
            return
        self._recent.append(wrong)
        seen = self.recipe.warmup_window * self.recipe.batch_size
        full = len(self._recent) == self.recipe.warmup_window
        if full and 100 * sum(self._recent) / seen < self.recipe.warmup_error:
            self.events = self.events._replace(warm_until=step)

    def after_test(self, step: int, error: float) -> None:
        """After `step` steps the followed error (percent) was measured."""
        recipe = self.recipe
        if recipe.plateau_patience is None or len(self.events.drops) == recipe.plateau_drops:
            return
        self._followed.append(error)
        if tests_without_progress(self._followed, recipe.plateau_margin) >= recipe.plateau_patience:
            self.events = self.events._replace(drops=(*self.events.drops, step))
            self._followed.clear()

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "warm_until": self.events.warm_until,
            "drops": list(self.events.drops),
            "recent": list(self._recent),
            "followed": list(self._followed),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave."""
        self.events = Events(state["warm_until"], tuple(state["drops"]))
        self._recent = deque(state["recent"], maxlen=self.recipe.warmup_window)
        self._followed = list(state["followed"])


def tests_without_progress(errors: Sequence[float], margin: float) -> int:
    """How many of the last tests in a row have not brought the best error down by `margin` points.

    An error that is not finite is no progress.
    """
    best, since = math.inf, 0
    for error in errors:
        if error < best and not error > best - margin:
            best, since = error, 0
        else:
            since += 1
    return since


class Stretch(NamedTuple):
    """Steps that share one rate: those after `step` finished ones up to, not including, `until`."""

    step: int
    until: int
    lr: float
    why: str


def stretches(recipe: Recipe, events: Events) -> list[Stretch]:
    """The learning rate of a whole run, in the order of its changes, each with the rule behind it."""
    reasons = {0: ["from the start"]}
    warm_until = recipe.warmup_steps or events.warm_until
    if recipe.warmup_lr is not None:
        by_error = f"training error over {recipe.warmup_window} steps < {recipe.warmup_error:g} %"
        ends = f"{recipe.warmup_steps:,} steps" if recipe.warmup_steps else by_error
        reasons[0] = [f"warm-up until {ends}"]
        if warm_until is not None:
            reasons.setdefault(warm_until, []).append(f"warm-up over: {ends}")
    for at in recipe.milestones:
        reasons.setdefault(at, []).append("milestone")
    for at in events.drops:
        reasons.setdefault(at, []).append(f"plateau: {recipe.plateau_patience} tests without progress")
    starts = sorted(step for step in reasons if step < recipe.steps)
    parts: list[Stretch] = []
    for step, until in zip(starts, [*starts[1:], recipe.steps], strict=True):
        lr, why = lr_at(step, recipe, events), ", ".join(reasons[step])
        if parts and parts[-1].lr == lr:  # a milestone during the warm-up changes nothing yet
            parts[-1] = parts[-1]._replace(until=until)
        else:
            parts.append(Stretch(step, until, lr, why))
    return parts


def warm_up_mistakes(recipe: Recipe, events: Events) -> dict[str, list[Stretch]]:
    """Two mistakes of widely used trainers with the warm-up of 110 layers, as the rates they train at.

    "never restored": the warm-up's rate is set by hand once, and every later drop starts from it.
    "drops from the warm-up's rate": it is restored, but the first milestone computes its rate from the
    warm-up's. Exactly what `lr_at` gives for a recipe whose rate is the warm-up's. UsageError for a
    recipe without a warm-up or without milestones.
    """
    if recipe.warmup_lr is None or not recipe.milestones:
        raise UsageError(f"recipe {recipe.name!r} has no warm-up with milestones after it")
    changes = {"lr": recipe.warmup_lr, "warmup_lr": None, "warmup_steps": None}
    slow = stretches(Recipe.parse(recipe.model_dump() | changes), Events())
    first = recipe.milestones[0]
    right = (part for part in stretches(recipe, events) if part.step < first)
    until = [part._replace(until=min(part.until, first)) for part in right]
    return {
        "never restored": slow,
        "drops from the warm-up's rate": until + [part for part in slow if part.step >= first],
    }
