"""What the runs say, in words: means and spreads over seeds, a file per question of the lesson."""

from resnetlab.verdict.conditions import answers, longer, recipes
from resnetlab.verdict.construction import LOST, kept, same_function
from resnetlab.verdict.correlation import SHATTERED, correlations
from resnetlab.verdict.degradation import degradation, depth_effects
from resnetlab.verdict.dial import dial, lesions
from resnetlab.verdict.gradients import (
    EXPLODING,
    VANISHING,
    first_layer_norms,
    gradient_ratios,
    gradients,
)
from resnetlab.verdict.means import (
    ENOUGH_SEEDS,
    GROUP,
    MEASURED,
    NEGLIGIBLE,
    Contrast,
    by_network,
    contrast,
    deepest_pair,
    one_condition,
    ordinary,
    with_spread,
)
from resnetlab.verdict.responses import mean_responses, responses
from resnetlab.verdict.rounding import NOTHING_LEFT, PRECISIONS, median_errors, precisions, rounding
from resnetlab.verdict.shortcuts import shortcuts
from resnetlab.verdict.surface import surfaces
