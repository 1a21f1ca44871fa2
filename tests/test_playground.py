"""The playground: its numbers are those of the real networks; its knobs move; it can be silent."""

import numpy as np
import pytest
import torch

from resnetlab import config, training
from resnetlab.config import UsageError
from resnetlab.nets import probes, surgery, without_norm
from resnetlab.studies import notebook, playground


def numbers(frame, quantity):
    return frame[frame["quantity"] == quantity]["value"].to_numpy()


@pytest.fixture
def handles(monkeypatch):
    """Somebody looks; the figures that were drawn, in order."""
    drawn = []
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    monkeypatch.setattr(notebook, "redraw", lambda figure, handle=None: drawn.append(figure) or 1)
    return drawn


@pytest.mark.parametrize(("scale", "norm"), [(0.0, True), (0.5, True), (1.0, True), (1.0, False)])
def test_its_numbers_are_those_of_the_real_network(scale, norm):
    edited = [{"network": "resnet-8", "shortcut_scale": scale}] if 0 < scale < 1 else []
    also = () if edited else ("resnet-8" if scale else "plain-8",)
    (run,) = config.Grid("s", "digits", depths=(), also=also, edited=edited, seeds=[0]).runs().values()
    network, images, labels = training.beginning(run, torch.device("cpu"))
    network = network if norm else without_norm(network)
    images, labels = images[: playground.IMAGES], labels[: playground.IMAGES]
    line = probes.segment(images[0], images[1], playground.WAY)[: playground.POINTS]
    wanted = {
        "gradient_norm": probes.batch_gradient_norms(network, images, labels),
        "activation_scale": probes.activation_scales(network, images),
        "cosine": probes.gradient_correlation(network, line, images).diagonal(1),
    }
    measured = playground.measure(8, scale, norm)
    for quantity, values in wanted.items():
        np.testing.assert_allclose(numbers(measured, quantity), values.numpy(), rtol=1e-5, atol=1e-7)


def test_a_step_is_one_of_gradient_descent_and_leaves_the_start_as_it_was():
    before = playground.measure(8)
    after = playground.measure(8, rate=0.1)
    assert not np.allclose(numbers(before, "gradient_norm"), numbers(after, "gradient_norm"))
    network, images, labels = playground._start(8)
    stepped, rate = surgery.scale_shortcuts(network, 1.0), 0.1
    torch.nn.functional.cross_entropy(stepped(images), labels).backward()
    with torch.no_grad():
        for parameter in stepped.parameters():
            parameter -= rate * parameter.grad
    norms = probes.batch_gradient_norms(stepped, images, labels)
    np.testing.assert_allclose(numbers(after, "gradient_norm"), norms.numpy(), rtol=1e-4)
    np.testing.assert_array_equal(before["value"], playground.measure(8)["value"])


@pytest.mark.parametrize(
    ("values", "message"),
    [({"scale": 1.5}, "scale from 0 to 1"), ({"rate": -1}, "rate from 0"), ({"depth": 9}, "6n\\+2")],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(UsageError, match=message):
        playground.measure(**({"depth": 8} | values))


def test_every_knob_draws_anew_in_place_with_the_last_move_dotted(handles, monkeypatch):
    import IPython.display
    import ipywidgets

    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    assert playground.show(depth=8) is None
    (box,) = shown
    assert isinstance(box, ipywidgets.HBox)
    depth, scale, norm, rate = box.children
    assert [knob.description for knob in box.children] == [
        "layers", "shortcut a", "batch norm", "one step at",
    ]  # fmt: skip
    first, now = handles[0], playground.measure(8)
    assert [trace.name for trace in first.data] == ["now"] * 3
    for trace, quantity in zip(first.data, playground.PANELS, strict=True):
        np.testing.assert_array_equal(np.asarray(trace.y), numbers(now, quantity))
    scale.value = 0.0
    assert "F(x) + 0 x" in handles[1].layout.title.text
    dotted = [trace for trace in handles[1].data if trace.line.dash == "dot"]
    np.testing.assert_array_equal(np.asarray(dotted[0].y), numbers(now, "gradient_norm"))
    assert {t.line.dash for t in handles[1].data if t.name == "now"} == {"dash"}, "plain is dashed"
    norm.value, rate.value, depth.value = False, 0.1, 14
    words = "14 layers, y = F(x) + 0 x, without batch norm, after one step at 0.1"
    assert len(handles) == 5
    assert words in handles[-1].layout.title.text


def test_it_is_silent_where_nobody_looks(monkeypatch, capsys):
    for name in ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(playground, "measure", None)  # nothing is computed
    assert "open this notebook in JupyterLab" in playground.show().data
    assert capsys.readouterr().out == ""


def test_without_ipywidgets_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    monkeypatch.setitem(__import__("sys").modules, "ipywidgets", None)
    assert "resnetlab[lab]" in playground.show().data


def test_colab_gets_figures_that_it_draws_and_counts_as_watched(monkeypatch):
    import IPython.display
    import plotly.graph_objects as go
    import plotly.io

    before, bundles = plotly.io.renderers.default, []
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setattr(IPython.display, "display", lambda content, **_: bundles.append(content))
    try:
        notebook.begin({"In": []})
        assert notebook.watched()
        notebook.redraw(go.Figure())
    finally:
        plotly.io.renderers.default = before
    assert set(bundles[0]) == {"text/html"}
