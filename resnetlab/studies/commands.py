"""How a run is made again: the command, from its configuration and where it ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnetlab import store


# Recipe fields that `resnetlab train` has an option for, and those only the notebook takes.
_TRAIN_FIELDS = ("steps", "lr", "batch_size", "clip", "crop")
_MEASURING_FIELDS = ("log_every", "test_every", "probe_every", "checkpoint_every")
_NOTEBOOK_FIELDS: tuple[str, ...] = (
    "momentum",
    "weight_decay",
    "pad",
    "flip",
    "mean",
    "colour",
    "ghost_batch",
)
_NOTEBOOK_FIELDS += ("decay_norm", "recompute_norm", "warmup_lr", "warmup_error", "warmup_window")
_NOTEBOOK_FIELDS += ("warmup_steps", "plateau_patience", "plateau_margin", "plateau_drops")
_NOTEBOOK_FIELDS += _MEASURING_FIELDS


def reproduce(record: store.RunRecord) -> str:
    """The command that makes this run again: `resnetlab train`, or papermill where that is not enough.

    A configuration that no command expresses is said to be one.
    """
    import shlex

    from resnetlab import config

    run = record.config
    preset = config.RECIPES.get(run.recipe.name, config.PAPER)
    fields = {name: getattr(run.recipe, name) for name in _TRAIN_FIELDS + _NOTEBOOK_FIELDS}
    changed = {name: value for name, value in fields.items() if value != getattr(preset, name)}
    if preset.replace(**changed).milestones != run.recipe.milestones:
        changed["milestones"] = list(run.recipe.milestones)
    if preset.name != run.recipe.name or preset.replace(**changed) != run.recipe:
        return "no command: its recipe differs in fields that only the library sets (resnetlab.fit)"
    common = {"data": run.data.name, "recipe": run.recipe.name, "seed": run.seed}
    common |= {"precision": run.precision} if run.precision != "fp32" else {}
    common |= {"validation": run.data.validation} if run.data.validation else {}
    edit = run.surgery
    if edit is not None and edit.shortcut_scale is not None:
        common["shortcut_scale"] = edit.shortcut_scale
    if edit is not None and edit.start is not None:
        common["start_from"] = f"{edit.start.study}/{edit.start.run}"
    execution = record.info.get("execution")
    if isinstance(execution, Mapping) and execution.get("device") == "cpu":
        common |= {"device": "cpu", "threads": execution.get("threads")}
        common |= {"engine": execution["engine"]} if "engine" in execution else {}
    if set(changed) <= set(_TRAIN_FIELDS):
        words = ["resnetlab", "train", run.network.name]
        for name, value in (common | changed).items():
            words += [f"--{name.replace('_', '-')}", str(value)]
    else:
        words = ["papermill", "notebooks/train.ipynb", "out.ipynb"]
        plain_words = {"depth": run.network.depth, "shortcut": run.network.shortcut}
        usual = config.Network.parse(plain_words) == run.network
        network = plain_words if usual else {"network": run.network.name}
        for name, value in (network | common | changed).items():
            listed = isinstance(value, list)  # -p takes no list
            words += ["-y", f"{name}: {value}"] if listed else ["-p", name, str(value)]
    return shlex.join(words)
