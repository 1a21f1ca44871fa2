"""Grids of runs and notebooks, each executed in a process of its own; the lesson in order."""

from resnetlab.studies.collection import collect, folder_name
from resnetlab.studies.runner import Execution, Outcome, Watcher, run
