"""The configuration: network, data, recipe, run, grid, the schedule; strict and frozen."""

from resnetlab.config.data import FOLDERS, HELD_OUT, TINY_CLASSES, Data, images_named
from resnetlab.config.grid import GRIDS, Grid, announced, grid_named
from resnetlab.config.network import SHORTCUTS, Block, Network, StrideIn, Zeros
from resnetlab.config.recipe import (
    CHOICES,
    IMAGENET_RECIPE,
    PAPER,
    PAPER_110,
    PAPER_400,
    RECIPES,
    SHORT,
    Recipe,
    default_recipe,
    recipe_named,
    without_warmup,
)
from resnetlab.config.run import (
    PRECISIONS,
    USUAL,
    Precision,
    Run,
    Start,
    differences,
    edit_of,
    fields,
    parameters_of,
    run_from_parameters,
)
from resnetlab.config.schedule import Events, lr_at
from resnetlab.config.strict import UsageError, WordedError, did_you_mean, expanded
