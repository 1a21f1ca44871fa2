"""What the runs say: means and spreads over seeds, and sentences, a file per question of the lesson.

`on_NAME(table)` gives the verdict on NAME in sentences.
"""

from resnetlab.verdict.briefly import Answer
from resnetlab.verdict.comparison import not_comparable, reasons_apart
from resnetlab.verdict.conditions import answers, between_recipes, on_more_steps, on_other_recipe
from resnetlab.verdict.construction import kept, on_kept, on_same_function
from resnetlab.verdict.correlation import on_correlations
from resnetlab.verdict.crossing import Lead, lead, on_crossing, papers_lead
from resnetlab.verdict.degradation import Finding, depth_effects, findings, on_degradation
from resnetlab.verdict.dial import on_dial, on_lesions
from resnetlab.verdict.gradients import (
    EXPLODING,
    HEALTHY,
    VANISHING,
    gradient_ratios,
    on_first_layer_norms,
    on_gradients,
    on_momentum,
    on_turning,
    turning,
)
from resnetlab.verdict.means import (
    CONFIDENCE,
    ENOUGH_SEEDS,
    NEGLIGIBLE,
    Contrast,
    by_condition,
    by_network,
    conditions,
    contrast,
    deepest_pair,
    learnt,
    one_condition,
    only,
    ordinary,
    with_spread,
)
from resnetlab.verdict.responses import left_by_decay, mean_responses, on_responses
from resnetlab.verdict.rounding import (
    AS_LARGE,
    PRECISIONS,
    median_errors,
    on_precisions,
    on_rounding,
)
from resnetlab.verdict.shortcuts import on_shortcuts
from resnetlab.verdict.surface import on_surfaces
from resnetlab.verdict.words import ELSEWHERE
