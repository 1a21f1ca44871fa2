"""The networks and what they are made of; `surgery` edits them, `probes` and `landscape` read them."""

from resnetlab.nets.anatomy import (
    census,
    count_multiply_adds,
    count_parameters,
    recompute_activations,
    trace_shapes,
    weighted_layers,
)
from resnetlab.nets.mode import in_mode
from resnetlab.nets.models import (
    BLOCKS,
    BasicBlock,
    BottleneckBlock,
    CifarNetwork,
    ImageNetNetwork,
    Network,
    PaddedIdentity,
    Projection,
    SingleBlock,
    Stage,
    build,
    check_size,
    conv1x1,
    conv3x3,
    initialise,
    make_shortcut,
    make_stage,
)
from resnetlab.nets.norms import BatchNorm, use_ghost_batches
from resnetlab.nets.torchvision_weights import load_torchvision, to_torchvision
