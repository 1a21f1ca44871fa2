"""Training: one step, the loop around it, how it is executed, and the test protocols."""

from resnetlab.nets import check_precision, set_precision
from resnetlab.training.captured import make_training
from resnetlab.training.device import device_name, resolve_device
from resnetlab.training.loop import fit
from resnetlab.training.memory import bytes_needed
from resnetlab.training.start import beginning
from resnetlab.training.state import Training, check_run, load_data, probe_layers, weights_sha256
from resnetlab.training.step import train_step
from resnetlab.training.together import fit_together
from resnetlab.training.trained import (
    Trained,
    from_torchvision,
    load_trained,
    pretrained,
    save_weights,
)
