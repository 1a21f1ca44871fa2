"""The networks and what they are made of; `surgery` edits them, `probes` and `landscape` read them."""

from resnetlab.nets.anatomy import (
    blocks,
    census,
    count_multiply_adds,
    count_parameters,
    multiply_adds,
    parts,
    recompute_activations,
    trace_shapes,
    weighted_layers,
)
from resnetlab.nets.mode import check_precision, in_mode, in_precision, set_precision
from resnetlab.nets.models import CifarNetwork, Network, build
from resnetlab.nets.norms import (
    BatchNorm,
    counted_together,
    recompute_norm,
    use_ghost_batches,
    without_norm,
)
from resnetlab.nets.sizes import check_size
from resnetlab.nets.torchvision_weights import load_torchvision, to_torchvision, unwrapped
