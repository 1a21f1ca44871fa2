"""Grids of runs and notebooks, each executed in a process of its own; the lesson in order."""

from resnetlab.studies.runner import (
    BRIEF_STEPS,
    STOP_SECONDS,
    TOGETHER_NOTEBOOK,
    TRAIN_NOTEBOOK,
    Execution,
    Outcome,
    Silent,
    Watcher,
    collect,
    execute,
    folder_name,
    run,
)
