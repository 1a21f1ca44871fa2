"""The figures: functions from frames to plotly figures, a file per question of the lesson."""

from resnetlab.plots.beside import beside_the_claims, beside_the_paper
from resnetlab.plots.block import block_drawing, block_strip
from resnetlab.plots.compare import compare_curves, looks_of, swatch
from resnetlab.plots.construction import same_function, trained_on
from resnetlab.plots.correlation import correlation_matrices, gradient_correlation
from resnetlab.plots.degradation import (
    error_against_depth,
    error_by_network,
    error_curves,
    paper_error_curves,
    run_curves,
)
from resnetlab.plots.dial import dial_curves, lesions, shortcut_dial
from resnetlab.plots.film import film
from resnetlab.plots.gradients import (
    NORMS,
    at_initialisation,
    gradient_norm_heatmap,
    gradient_ratio,
    layer_profile,
    layer_profiles,
)
from resnetlab.plots.narrow import stack
from resnetlab.plots.network import network_drawing, part_label
from resnetlab.plots.playground import playground
from resnetlab.plots.rates import learning_rate, learning_rates
from resnetlab.plots.responses import layer_responses
from resnetlab.plots.rounding import (
    error_by_condition,
    gradient_error_by_depth,
    gradient_error_by_layer,
)
from resnetlab.plots.style import (
    CONFIG,
    compact,
    conditions,
    depth_colour,
    empty,
    enlarge,
    small,
    themed,
    thin_lines,
    untitled,
)
from resnetlab.plots.surface import loss_lines, loss_slices, loss_surfaces
