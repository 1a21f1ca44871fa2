"""The playground: knobs of an untrained network, and what they do to its gradients, at once.

Depth, shortcut scale, batch norm and the rate of one step; after each move three pictures. It needs
ipywidgets (`pip install 'resnetlab[lab]'`) and somebody who moves a knob: a notebook that is executed
says one sentence instead.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go

from resnetlab import config
from resnetlab.config import UsageError
from resnetlab.plots import draw, style
from resnetlab.studies import notebook

if TYPE_CHECKING:
    from torch import Tensor

    from resnetlab import nets

DEPTHS = (8, 14, 20, 32, 44, 56)
RATES = (0.0, 0.001, 0.01, 0.1, 1.0)  # 0: at initialisation
IMAGES = 32  # of the batch
POINTS, WAY = 12, 128  # the first 12 of the 128 points that notebooks take from one image to another
PANELS = {
    "gradient_norm": ("gradient norm (L2)", "layer"),
    "activation_scale": ("root mean square", "first layer, then each block"),
    "cosine": ("cosine of neighbours", "point on the way"),
}


@functools.lru_cache(maxsize=len(DEPTHS))
def _start(depth: int) -> tuple[nets.Network, Tensor, Tensor]:
    """The residual network of the digits' recipe with seed 0, and a part of its first batch."""
    import torch

    from resnetlab import training

    grid = config.Grid("playground", "digits", depths=(), also=(f"resnet-{depth}",), seeds=(0,))
    (run,) = grid.runs().values()
    network, images, labels = training.beginning(run, torch.device("cpu"))
    return network, images[:IMAGES], labels[:IMAGES]


def measure(depth: int, scale: float = 1.0, norm: bool = True, rate: float = 0.0) -> pd.DataFrame:
    """What the probes say of a network of the digits with seed 0, untrained or after one step.

    `scale` is a in y = F(x) + a x, 0 (plain) to 1 (residual); without `norm` every batch norm is taken
    out; `rate` is that of one step of gradient descent, 0 for none. Columns: quantity, one of PANELS,
    place (from 1) and value: `probes.batch_gradient_norms`, `probes.activation_scales`, and beside the
    diagonal `probes.gradient_correlation`. Figure 7's responses are not among them: behind a batch norm
    that has not learnt yet they are 1 in every layer. UsageError for a depth that is not 6n+2, a scale
    outside 0 to 1 and a negative rate.
    """
    import torch

    from resnetlab import nets, training
    from resnetlab.nets import probes, surgery

    if not 0 <= scale <= 1 or rate < 0:
        raise UsageError(
            f"a scale from 0 to 1 and a rate from 0 are needed, got {scale:g} and {rate:g}"
        )
    whole, images, labels = _start(depth)
    network = surgery.scale_shortcuts(whole, scale)
    if not norm:
        network = nets.without_norm(network)
    if rate:
        training.train_step(network, torch.optim.SGD(network.parameters(), rate), images, labels)
    line = probes.segment(images[0], images[1], WAY)[:POINTS]
    values = (
        probes.batch_gradient_norms(network, images, labels),
        probes.activation_scales(network, images),
        probes.gradient_correlation(network, line, images).diagonal(1),
    )
    return pd.DataFrame(
        {"quantity": quantity, "place": place, "value": value}
        for quantity, part in zip(PANELS, values, strict=True)
        for place, value in enumerate(part.tolist(), start=1)
    )


def picture(now: pd.DataFrame, before: pd.DataFrame, title: str, depth: int, scale: float) -> go.Figure:
    """The three of `measure`, side by side; dotted: `before` the last move, if it is not empty."""
    figure = draw.panels(columns=len(PANELS), shared_yaxes=False)
    look = style.family_look("A" if scale else "none", style.depth_colour(depth))
    old = style.Look(style.GREY, style.DOTTED, style.TRAIN)
    for frame, drawn, name in ((before, old, "before the last move"), (now, look, "now")):
        for column, quantity in enumerate(PANELS, start=1):
            rows = frame[frame["quantity"] == quantity] if len(frame) else frame
            if len(rows):
                draw.line(figure, rows["place"], rows["value"], drawn, name, col=column)
    for column, (quantity, (y, x)) in enumerate(PANELS.items(), start=1):
        figure.update_xaxes(title_text=x, col=column).update_yaxes(title_text=y, col=column)
        if quantity != "cosine":
            draw.log_axis(figure, now[now["quantity"] == quantity]["value"], narrow="D2", col=column)
    figure.update_yaxes(range=[-0.3, 1.05], col=len(PANELS))
    legend = ["colour: depth", style.DASHED_PLAIN, "dotted: before the last move"]
    return style.finish(figure, title, f"digits, seed 0, {IMAGES} images", legend, 440)


def show(depth: int = 20, scale: float = 1.0, norm: bool = True, rate: float = 0.0) -> Any:
    """The knobs, set to these values, above the pictures that follow them.

    Where nobody looks, as under papermill, or without ipywidgets: a sentence that says so.
    """
    if not notebook.watched():
        return notebook.say(
            ["The playground has knobs: open this notebook in JupyterLab, VS Code or Colab."]
        )
    try:
        import ipywidgets
    except ImportError:
        return notebook.say(["The playground needs ipywidgets: `pip install 'resnetlab[lab]'`."])
    from IPython.display import display

    depths = sorted({*DEPTHS, depth})
    knobs = {
        "depth": ipywidgets.SelectionSlider(options=depths, value=depth, description="layers"),
        "scale": ipywidgets.FloatSlider(scale, min=0, max=1, step=0.05, description="shortcut a"),
        "norm": ipywidgets.Checkbox(norm, description="batch norm"),
        "rate": ipywidgets.SelectionSlider(options=RATES, value=rate, description="one step at"),
    }
    last: dict[str, Any] = {"frame": pd.DataFrame(), "handle": None}

    def move(_: object = None) -> None:
        values = {name: knob.value for name, knob in knobs.items()}
        now = measure(**values)
        title = f"{values['depth']} layers, y = F(x) + {values['scale']:g} x"
        title += ("" if values["norm"] else ", without batch norm") + (
            f", after one step at {values['rate']:g}" if values["rate"] else ""
        )
        figure = picture(now, last["frame"], title, values["depth"], values["scale"])
        last.update(frame=now, handle=notebook.redraw(figure, last["handle"]))

    display(ipywidgets.HBox(list(knobs.values())))
    for knob in knobs.values():
        knob.continuous_update = False
        knob.observe(move, "value")
    move()
    return None
