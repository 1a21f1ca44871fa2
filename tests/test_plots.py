"""The figures: they show the frames' values, all of them, and nothing else."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from resnetlab import files, nets, paper, plots, store
from resnetlab.config import Network
from resnetlab.pages import executed
from resnetlab.plots import draw, series, style
from resnetlab.verdict.order import REVERSED

STEPS = (10, 20, 30, 40)


def identity(name: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    network = Network.from_name(name)
    return {
        "study": "s",
        "run": f"{name}-seed{seed}",
        "network": name,
        "depth": network.depth,
        "shortcut": network.shortcut,
        "family": network.family,
        "data": "digits",
        "recipe": "paper-400",
        "seed": seed,
        "precision": "fp32",
    } | changes


def metrics(*runs: tuple[str, int], **changes: Any) -> pd.DataFrame:
    """As `results.metrics_of`: train error each 10 steps, test error each 20."""
    rows = []
    for name, seed in runs:
        who = identity(name, seed, **changes)
        for step in STEPS:
            error = 90 - step + seed + who["depth"] / 100
            row = {"step": step, "epoch": step / 11, "lr": 0.1 if step < 30 else 0.01}
            row |= {"train_error": error, "train_loss": 1.0, "seconds": 1.0, "images_per_second": 1.0}
            row |= {"test_error": error + 5 if step % 20 == 0 else np.nan, "test_loss": np.nan}
            row |= {"validation_error": np.nan, "validation_loss": np.nan}
            rows.append(row | who)
    return pd.DataFrame(rows)


def probes(*runs: tuple[str, int], scale: float = 1.0) -> pd.DataFrame:
    """As `results.probes_of`: four layers, norm = scale * (layer + 1) * step."""
    return pd.DataFrame(
        {"step": step, "layer": layer, "name": f"l{layer}", "value": scale * (layer + 1) * step}
        | identity(name, seed)
        for name, seed in runs
        for step in STEPS
        for layer in range(4)
    )


def finals(*runs: tuple[str, int], status: str = "finished", **changes: Any) -> pd.DataFrame:
    """As `Study.table`."""
    rows = [
        dict.fromkeys([*store.IDENTITY, *store.OUTCOME], np.nan)
        | identity(name, seed, **changes)
        | {"status": status, "train_error": 10.0 + seed, "test_error": 20.0 + seed}
        for name, seed in runs
    ]
    return pd.DataFrame(rows, columns=[*store.IDENTITY, *store.OUTCOME])


def at_start(*runs: tuple[str, int]) -> pd.DataFrame:
    """Three layers with and without batch norm, norm = 10^layer, a thousandth of it without."""
    return pd.DataFrame(
        {"norm": norm, "layer": layer, "value": factor * 10.0**layer} | identity(name, seed)
        for name, seed in runs
        for norm, factor in zip(plots.NORMS, (1.0, 1e-3), strict=True)
        for layer in range(3)
    )


def draw_at_start(frame: pd.DataFrame, **how: Any) -> go.Figure:
    return plots.at_initialisation(frame, "gradient_norm", **how)


def draw_scales(frame: pd.DataFrame, **how: Any) -> go.Figure:
    return plots.at_initialisation(frame, "activation_scale", **how)


def correlations(*runs: tuple[str, int]) -> pd.DataFrame:
    return pd.DataFrame(
        identity(name, seed) | {"value": 10 / Network.from_name(name).depth + 0.01 * seed}
        for name, seed in runs
    )


def cosines(*runs: tuple[str, int]) -> pd.DataFrame:
    return pd.DataFrame(
        identity(name, seed) | {"i": i, "j": j, "value": 1.0 if i == j else (i - j) / 10}
        for name, seed in runs
        for i in range(3)
        for j in range(3)
    )


def line_losses(*runs: tuple[str, int]) -> pd.DataFrame:
    return pd.DataFrame(
        identity(name, seed) | {"distance": a, "loss": 1.0 + a * a}
        for name, seed in runs
        for a in (-1.0, 0.0, 1.0)
    )


def plane_losses(*runs: tuple[str, int]) -> pd.DataFrame:
    return pd.DataFrame(
        identity(name, seed) | {"x": x, "y": y, "loss": 10.0 ** (x + 2 * y)}
        for name, seed in runs
        for x in (-1.0, 0.0, 1.0)
        for y in (-0.5, 0.0, 0.5)
    )


def gradient_errors(*runs: tuple[str, int]) -> pd.DataFrame:
    """Four arithmetics, each ten times worse; three layers: once, ten and a hundred times as bad."""
    return pd.DataFrame(
        identity(name, seed)
        | {"arithmetic": way, "layer": layer, "relative": 10.0 ** (k + layer - 5), "norm": 0.01}
        for name, seed in runs
        for k, way in enumerate(("fp32", "fp32 channels_last", "bf16", "bf16 channels_last"))
        for layer in range(3)
    )


def draw_by_precision(table: pd.DataFrame, **how: Any) -> go.Figure:
    return plots.error_by_condition(table, "precision", **how)


def in_precisions(*runs: tuple[str, int]) -> pd.DataFrame:
    """`finals` in bf16 and in fp32, where the error is 4 less."""
    half, single = (finals(*runs, precision=name) for name in ("bf16", "fp32"))
    return pd.concat([half, single.assign(train_error=single["train_error"] - 4)])


def dialled(*runs: tuple[str, int]) -> pd.DataFrame:
    """Each network at three scales; the error falls with the scale."""
    return pd.DataFrame(
        identity(name, seed)
        | {"scale": scale, "train_error_clean": 40 * (1 - scale) + seed, "test_error": 50 * (1 - scale)}
        for name, seed in runs
        for scale in (0.0, 0.25, 1.0)
    )


def trained_on(*runs: tuple[str, int]) -> pd.DataFrame:
    return pd.DataFrame(
        identity(name, seed)
        | {"lr": lr, "train_error_clean": 100 * lr + seed, "test_error": 200 * lr, "source": "x"}
        | {"start_train_error_clean": 0.5}
        for name, seed in runs
        for lr in (0.001, 0.01, 0.1)
    )


def built(*runs: tuple[str, int]) -> pd.DataFrame:
    """Networks grown to 56 layers, where there are shortcuts without any change; and disturbed."""
    return pd.DataFrame(
        identity(name, seed)
        | {"which": which, "built": f"{name.split('-')[0]}-56", "error": 2.0, "logits": logits}
        for name, seed in runs
        for which, logits in (
            ("before", 0.0),
            ("after", 0.0 if name.startswith("resnet") else 5e-6),
            ("disturbed", 0.5),
        )
    )


def lesions(*runs: tuple[str, int]) -> pd.DataFrame:
    """Three single blocks and two pairs a network; the pair costs twice as much."""
    return pd.DataFrame(
        identity(name, seed)
        | {"removed": removed, "place": place, "blocks": 3, "intact_error": 2.0}
        | {"test_error": 2.0 + 10 * removed + place}
        for name, seed in runs
        for removed, place in ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1))
    )


def responses(*runs: tuple[str, int]) -> pd.DataFrame:
    return pd.DataFrame(
        identity(name, seed) | {"layer": layer, "value": 1.0 + (layer * 7) % 3}
        for name, seed in runs
        for layer in range(4)
    )


FOUR = (("plain-20", 0), ("plain-56", 0), ("resnet-20", 0), ("resnet-56", 0))
EIGHT = tuple((name, seed) for name, _ in FOUR for seed in (0, 1))


def lines(figure: go.Figure, panel: str = "") -> list[Any]:
    """Drawn curves, without bands; of the panel with that x axis if given."""
    found = [t for t in figure.data if t.type == "scatter" and t.fill is None]
    return [t for t in found if not panel or (t.xaxis or "x") == panel]


def curve(figure: go.Figure, dash: str, depth: int = 20) -> Any:
    """The one drawn line of that depth and dash: "dash" is training, "solid" is test."""
    (found,) = (
        t for t in lines(figure) if t.line.dash == dash and t.name.startswith(f"{depth} layers")
    )
    return found


def numbers(values: Any) -> list[float]:
    return [float(value) for value in np.asarray(values, dtype=float)]


# --- every figure -----------------------------------------------------------------------------

FIGURES: list[tuple[Callable[..., go.Figure], Callable[..., pd.DataFrame]]] = [
    (plots.error_curves, metrics),
    (plots.error_against_depth, finals),
    (plots.run_curves, metrics),
    (plots.gradient_norm_heatmap, probes),
    (plots.layer_profile, probes),
    (plots.layer_profiles, probes),
    (plots.gradient_ratio, probes),
    (plots.error_by_network, finals),
    (draw_at_start, at_start),
    (draw_scales, at_start),
    (plots.gradient_correlation, correlations),
    (plots.correlation_matrices, cosines),
    (plots.loss_lines, line_losses),
    (plots.loss_surfaces, plane_losses),
    (plots.loss_slices, plane_losses),
    (plots.dial_curves, metrics),
    (plots.gradient_error_by_layer, gradient_errors),
    (plots.gradient_error_by_depth, gradient_errors),
    (draw_by_precision, in_precisions),
    (plots.shortcut_dial, dialled),
    (plots.trained_on, trained_on),
    (plots.same_function, built),
    (plots.lesions, lesions),
    (plots.layer_responses, responses),
]
IDS = [draw.__name__ for draw, _ in FIGURES]


@pytest.mark.parametrize(("draw", "frame"), FIGURES, ids=IDS)
def test_the_frame_is_left_as_it_was(draw: Any, frame: Any) -> None:
    own = frame(("plain-20", 0), ("resnet-20", 0))
    before = own.copy(deep=True)
    draw(own)
    pd.testing.assert_frame_equal(own, before)


@pytest.mark.parametrize(("draw", "frame"), FIGURES, ids=IDS)
@pytest.mark.parametrize("theme", ["neutral", "light", "dark"])
def test_every_figure_has_a_title_axes_conditions_and_strict_json(
    draw: Any, frame: Any, theme: Any
) -> None:
    figure = plots.themed(draw(frame(("plain-20", 0))), theme)
    assert "<b>" in figure.layout.title.text
    for said in ("digits", "paper-400", "fp32"):
        assert said in figure.layout.title.text
    axes = [*figure.select_xaxes(), *figure.select_yaxes()]
    assert any(axis.title.text for axis in figure.select_xaxes())
    assert any(axis.title.text for axis in figure.select_yaxes())
    assert axes
    assert (
        figure.layout.paper_bgcolor
        == {
            "neutral": "rgba(0,0,0,0)",
            "light": "#ffffff",
            "dark": "#0d1117",
        }[theme]
    )
    assert "NaN" not in figure.to_json()


# --- one visual grammar -----------------------------------------------------------------------

ERRORS = "dashed: training, bold: test"
LAYERS = "dashed: plain, solid: residual"
GRAMMAR = {
    "error_curves": ERRORS,
    "playground": ERRORS,
    "film": LAYERS,
    "error_against_depth": ERRORS,
    "run_curves": ERRORS,
    "draw_by_precision": "dashed: training",
    "shortcut_dial": ERRORS,
    "trained_on": ERRORS,
    "same_function": "hollow: one added weight disturbed",
    "paper_error_curves": ERRORS,
    "compare_curves": "dashed: training",
    "layer_profile": LAYERS,
    "layer_profiles": LAYERS,
    "loss_slices": LAYERS,
    "dial_curves": ERRORS,
    "gradient_ratio": LAYERS,
    "draw_at_start": LAYERS,
    "draw_scales": LAYERS,
    "gradient_correlation": LAYERS,
    "loss_lines": LAYERS,
    "gradient_error_by_layer": LAYERS,
    "gradient_error_by_depth": LAYERS,
    "lesions": LAYERS,
    "layer_responses": LAYERS,
    "gradient_norm_heatmap": "colour: gradient norm",
    "correlation_matrices": "colour: cosine",
    "loss_surfaces": "colour: loss",
    "error_by_network": "marker: shortcut option",
    "learning_rate": "line: the rate",
    "learning_rates": "colour: schedule",
    "network_drawing": "colour of a box: stage",
    "block_drawing": "colour of a box: stage",
    "block_strip": "without batch norm",
    "beside_the_paper": "hollow: the paper",
    "beside_the_claims": "hollow: the paper",
}


def draw_compared(frame: pd.DataFrame) -> go.Figure:
    own = frame[frame["network"] == "plain-20"]
    curves = [series.curve(rows, "train_error", "step", 128) for _, rows in own.groupby("seed")]
    line = series.line("plain-20", ["seed 0", "seed 1"], series.smoothed(curves, 0.0), 20, "sd")
    return plots.compare_curves([line], "train_error")


def rates(*_: Any) -> pd.DataFrame:
    rows = [("right", 0, 4, 0.01, "warm-up"), ("right", 4, 100, 0.1, "from there")]
    return pd.DataFrame(rows, columns=["schedule", "step", "until", "lr", "why"])


def draw_network(_: Any) -> go.Figure:
    stem = {"kind": "stem", "stage": 0, "name": "conv", "shortcut": "none", "parameters": 432}
    stem |= {"shape_in": (3, 8, 8), "shape_out": (16, 8, 8), "multiply_adds": 9, "layers": []}
    block = stem | {"kind": "BasicBlock", "stage": 1, "name": "stage1.0", "shortcut": "padded"}
    block |= {"layers": [{"name": "stage1.0.residual.conv1", "kernel": 3, "filters": 16}]}
    end = stem | {"kind": "classifier", "stage": 2, "name": "fc", "layers": [{"filters": 10}]}
    return plots.network_drawing({"plain-20": [stem, block, end]}, "stage1.0")


def drawn_block(name: str, block: str) -> dict[str, Any]:
    """A block of the network itself, as `plots.block_drawing` takes it."""
    return next(part for part in nets.parts(nets.build(name), 32) if part["name"] == block)


def draw_blocks(_: Any) -> go.Figure:
    names = {"plain": "plain-8", "A": "resnet-8", "B": "resnet-8-B"}
    return plots.block_drawing({key: drawn_block(name, "stage2.0") for key, name in names.items()})


def draw_claims(_: pd.DataFrame) -> go.Figure:
    names = ["claim", "pair", "paper", "mean", "low", "high", "settles"]
    rows = [("Deeper is worse", "b minus a", 1.5, 20.0, 10.0, 30.0, "shown")]
    rows += [("Deeper is better", "c minus d", math.nan, 2.0, -1.0, 5.0, "not settled")]
    return plots.beside_the_claims(pd.DataFrame(rows, columns=names), "digits")


def draw_beside(_: Any) -> go.Figure:
    rows = [("plain-20", 1.4, 0.5, 0.1, 3, "", ""), ("plain-56", 5.8, 70, 9, 3, "plain-20", REVERSED)]
    columns = ["network", "paper", "ours", "sd", "n", "against", "order"]
    whose = "final training error", "digits", "CIFAR-10"
    return plots.beside_the_paper(pd.DataFrame(rows, columns=columns), *whose, apart=True)


def draw_film(frame: pd.DataFrame) -> go.Figure:
    return plots.film({"gradient_norm": probes(*EIGHT)}, frame)


EVERY: list[tuple[str, Callable[[pd.DataFrame], go.Figure], Callable[..., pd.DataFrame]]] = [
    *((draw.__name__, draw, frame) for draw, frame in FIGURES),
    ("paper_error_curves", lambda _: plots.paper_error_curves(), rates),
    ("compare_curves", draw_compared, metrics),
    ("film", draw_film, metrics),
    ("playground", lambda frame: plots.playground(frame, frame, {"plain-20": 30.0}), metrics),
    ("learning_rate", lambda frame: plots.learning_rate(frame, "paper"), rates),
    ("learning_rates", lambda frame: plots.learning_rates(frame, 8, "a title"), rates),
    ("network_drawing", draw_network, rates),
    ("block_drawing", draw_blocks, rates),
    ("block_strip", lambda _: plots.block_strip(), rates),
    ("beside_the_paper", draw_beside, rates),
    ("beside_the_claims", draw_claims, rates),
]


def legend_line(figure: go.Figure) -> str:
    """What stands under the title, to which the legend line is the end."""
    small: str = figure.layout.title.text.partition("</b>")[2]
    return re.sub("<[^>]*>", " ", small).strip().lower()


def test_every_figure_of_the_library_stands_in_the_table_of_the_grammar() -> None:
    drawn = {name for name, value in vars(plots).items() if callable(value) and name.islower()}
    none = {
        "conditions",
        "depth_colour",
        "empty",
        "compact",
        "enlarge",
        "small",
        "themed",
        "thin_lines",
        "untitled",
    }
    none |= {"part_label", "looks_of", "stack", "swatch"}
    own = {"at_initialisation", "error_by_condition"}  # drawn twice and by precision in FIGURES
    assert drawn - none - own == set(GRAMMAR) - {"draw_at_start", "draw_scales", "draw_by_precision"}
    assert set(GRAMMAR) == {name for name, _, _ in EVERY}


@pytest.mark.parametrize(("name", "draw", "frame"), EVERY, ids=[name for name, _, _ in EVERY])
def test_every_figure_follows_the_grammar_and_says_so(name: str, draw: Any, frame: Any) -> None:
    figure = draw(frame(*EIGHT))
    said = legend_line(figure)
    assert said.endswith(".")
    assert GRAMMAR[name] in said
    shown = [t for t in lines(figure) if t.line.dash is not None and "lines" in (t.mode or "")]
    assert shown or "dashed" not in GRAMMAR[name]
    for trace in shown:
        who = f"{trace.hovertemplate} {trace.legendgroup} {trace.name}"
        if trace.line.dash == "dot":
            assert trace.line.color == style.GREY, "dotted is only what one compares with"
        elif GRAMMAR[name] == LAYERS:
            assert (trace.line.dash == "dash") == ("plain" in who)
        elif "dashed" in GRAMMAR[name] and trace.name != "learning rate":
            train = "train" in who or (name == "error_against_depth" and (trace.xaxis or "x") == "x")
            assert (trace.line.dash, train) in [("dash", True), ("solid", False)]
            assert (trace.line.width == style.BOLD) == (not train)
        else:
            assert trace.line.dash == "solid"
        depths = {figure_depth for figure_depth in (20, 56) if f"-{figure_depth}" in who}
        if "colour: depth" in said and len(depths) == 1 and "pale" not in said:
            assert trace.line.color == plots.depth_colour(*depths)
    assert all(shape.line.dash == "dot" for shape in figure.layout.shapes), "limits are dotted"


@pytest.mark.parametrize(("name", "draw", "frame"), EVERY, ids=[name for name, _, _ in EVERY])
def test_hover_texts_say_names_of_axes_and_their_values(name: str, draw: Any, frame: Any) -> None:
    figure = draw(frame(*EIGHT))
    titles = {axis.title.text.partition(" (")[0] for axis in figure.select_yaxes() if axis.title.text}
    for trace in figure.data:
        if trace.hoverinfo == "skip" or name in ("network_drawing", "film"):
            continue
        assert trace.hovertemplate.endswith("<extra></extra>")
        if "the trained weights" not in trace.hovertemplate:
            assert "%{x" in trace.hovertemplate
            assert any(title in trace.hovertemplate for title in titles)


def options(several_depths: bool) -> tuple[tuple[str, int], ...]:
    names = ["plain-20", "resnet-20", "resnet-20-B", "resnet-20-C"]
    return tuple((name, 0) for name in names + (["plain-56"] if several_depths else []))


@pytest.mark.parametrize("several_depths", [False, True])
@pytest.mark.parametrize(
    ("draw", "frame"),
    [
        (plots.error_curves, metrics),
        (plots.layer_profile, probes),
        (plots.gradient_ratio, probes),
        (draw_at_start, at_start),
        (plots.gradient_error_by_layer, gradient_errors),
        (plots.error_against_depth, finals),
        (plots.error_by_network, finals),
        (plots.gradient_correlation, correlations),
        (plots.loss_lines, line_losses),
    ],
)
def test_shortcut_options_differ_in_marker(draw: Any, frame: Any, several_depths: bool) -> None:
    figure = draw(frame(*options(several_depths)))
    symbols = {trace.marker.symbol for trace in figure.data if trace.type == "scatter"}
    symbols = {symbol.removesuffix("-open") for symbol in symbols if symbol}
    assert symbols >= {"x", "circle", "square", "triangle-up"}
    assert "marker: shortcut option" in legend_line(figure)


def test_one_option_needs_no_markers() -> None:
    figure = plots.error_curves(metrics(*FOUR))
    assert {trace.mode for trace in figure.data} == {"lines"}
    assert "marker" not in legend_line(figure)


NOTHING: list[tuple[Callable[..., go.Figure], Any]] = [
    (plots.error_curves, store.metrics_of([])),
    (plots.error_curves, metrics(("plain-20", 0)).assign(train_error=np.nan)),
    (plots.run_curves, store.metrics_of([])),
    (plots.gradient_norm_heatmap, store.probes_of([])),
    (plots.layer_profile, store.probes_of([])),
    (plots.layer_profiles, store.probes_of([])),
    (plots.gradient_ratio, store.probes_of([])),
    (plots.gradient_ratio, probes(("plain-20", 0), scale=0.0)),
    (plots.error_by_network, finals()),
    (plots.error_against_depth, finals(*FOUR, status="running")),
    (plots.error_against_depth, finals()),
    (draw_at_start, store.probes_of([])),
    (draw_at_start, at_start(("plain-20", 0)).assign(value=0.0)),
    (plots.gradient_correlation, store.probes_of([])),
    (plots.gradient_correlation, correlations(("plain-20", 0)).assign(value=np.nan)),
    (plots.correlation_matrices, store.probes_of([])),
    (plots.shortcut_dial, store.probes_of([])),
    (plots.trained_on, store.probes_of([])),
    (plots.lesions, store.probes_of([])),
    (plots.loss_lines, store.probes_of([])),
    (plots.loss_surfaces, plane_losses(("plain-20", 0)).assign(loss=np.inf)),
    (plots.loss_slices, plane_losses(("plain-20", 0)).assign(loss=np.inf)),
    (plots.dial_curves, store.metrics_of([])),
    (plots.gradient_error_by_layer, store.probes_of([])),
    (plots.gradient_error_by_layer, gradient_errors(("plain-20", 0)).assign(relative=np.nan)),
    (plots.gradient_error_by_depth, store.probes_of([])),
    (draw_by_precision, finals()),
    (draw_by_precision, finals(*FOUR, status="running")),
]


@pytest.mark.parametrize(("draw", "frame"), NOTHING)
def test_nothing_to_draw_gives_a_figure_that_says_so(draw: Any, frame: pd.DataFrame) -> None:
    figure = draw(frame)
    assert len(figure.data) == 0
    assert figure.layout.annotations[0].text.endswith(("yet.", "yet"))


def test_a_precision_other_than_fp32_stands_in_the_conditions() -> None:
    assert "bf16" in plots.conditions(metrics(("plain-20", 0), precision="bf16"))
    mixed = pd.concat([metrics(("plain-20", 0)), metrics(("plain-20", 1), data="cifar10")])
    assert "cifar10 and digits" in plots.conditions(mixed)
    assert "1 seed per network" in plots.conditions(metrics(*FOUR))
    assert "2 seeds" in plots.conditions(metrics(*EIGHT))
    assert "1 to 2 seeds" in plots.conditions(metrics(*FOUR, ("plain-20", 1)))


def test_colours_are_by_depth_and_tell_the_papers_depths_apart() -> None:
    depths = (20, 32, 44, 56, 110)  # of Figure 6
    assert len({plots.depth_colour(depth) for depth in depths}) == len(depths)
    assert all(plots.depth_colour(6 * n + 2).startswith("#") for n in range(1, 250))


def test_figures_do_not_offer_to_upload_themselves() -> None:
    assert plots.CONFIG["showSendToCloud"] is False


# --- a block drawn ----------------------------------------------------------------------------


def words_of(figure: go.Figure) -> str:
    boxes = [text for trace in figure.data if trace.type == "bar" for text in trace.text]
    return " ".join([*boxes, *(note.text for note in figure.layout.annotations)]).replace("<br>", " ")


@pytest.mark.parametrize(
    ("name", "block", "kind", "words"),
    [
        ("resnet-8", "stage1.0", "identity shortcut", "x as it is"),
        (
            "resnet-8",
            "stage2.0",
            "identity, zero-padded",
            "every second pixel, and 16 channels of zeros",
        ),
        ("resnet-50-A", "stage1.0", "identity, zero-padded", "x, and 192 channels of zeros"),
        ("resnet-8-B", "stage2.0", "projection (1×1)", "1×1 conv, 32, /2 batch norm"),
        ("resnet-8-C", "stage1.0", "projection (1×1)", "1×1 conv, 16 batch norm"),
    ],
)
def test_a_drawn_shortcut_says_what_the_module_does(
    name: str, block: str, kind: str, words: str
) -> None:
    figure = plots.block_drawing({"one": drawn_block(name, block)})
    assert words in words_of(figure)
    assert [trace.name for trace in figure.data if trace.showlegend] == [kind]
    assert "<i>F</i>(x)" in words_of(figure)
    assert "<i>H</i>(x)" not in words_of(figure)


def test_a_plain_block_and_a_residual_one_differ_in_the_addition_alone() -> None:
    plain, residual = (drawn_block(name, "stage1.0") for name in ("plain-8", "resnet-8"))
    figure = plots.block_drawing({"plain": plain, "residual": residual})
    boxes = [trace for trace in figure.data if trace.type == "bar"]
    assert boxes[0].text == boxes[1].text
    assert boxes[0].base == boxes[1].base
    assert boxes[0].text == ("3×3 conv, 16", "batch norm", "ReLU", *boxes[0].text[:2], "ReLU")
    dots = [trace for trace in figure.data if trace.type == "scatter"]
    sums = [trace for trace in dots if trace.marker.symbol == "circle-cross-open"]
    assert [trace.xaxis for trace in sums] == ["x2"], "only the residual one adds"
    assert f"{plain['parameters']:,} parameters" in words_of(figure)
    assert plain["parameters"] == residual["parameters"]
    assert sums[0].y[0] < boxes[1].base[-2], "behind the last batch norm"
    assert sums[0].y[0] > boxes[1].base[-1], "in front of the last ReLU"


# --- error curves -----------------------------------------------------------------------------


def test_error_curves_draw_two_lines_a_network_in_two_panels() -> None:
    figure = plots.error_curves(metrics(*FOUR))
    assert [a.text for a in figure.layout.annotations] == ["plain", "residual"]
    for panel in ("x", "x2"):
        assert len(lines(figure, panel)) == 4
    assert len(figure.data) == 8  # one seed: no bands


def test_dashed_is_train_bold_is_test_colour_is_depth() -> None:
    figure = plots.error_curves(metrics(*FOUR))
    for trace in lines(figure):
        train = len(trace.x) == 4
        assert trace.line.dash == ("dash" if train else "solid")
        assert (trace.line.width > 2) == (not train)
        depth = int(trace.name.split()[0])
        assert trace.line.color == plots.depth_colour(depth)
    shown = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(shown) == ["20 layers", "56 layers"]  # once each, for both panels


def test_the_curves_are_the_frames_values() -> None:
    frame = metrics(("plain-20", 0), ("plain-56", 0))
    figure = plots.error_curves(frame)
    own = frame[frame["network"] == "plain-56"]
    train, test = curve(figure, "dash", 56), curve(figure, "solid", 56)
    assert numbers(train.x) == [10, 20, 30, 40]
    assert numbers(train.y) == own["train_error"].tolist()
    assert numbers(test.x) == [20, 40]
    assert numbers(test.y) == own["test_error"].dropna().tolist()


def test_several_seeds_give_their_mean_and_a_band_from_least_to_most() -> None:
    frame = metrics(("plain-20", 0), ("plain-20", 1), ("plain-20", 5))
    figure = plots.error_curves(frame)
    bands = [t for t in figure.data if t.fill == "toself"]
    assert len(bands) == 2
    own = frame.groupby("step")["train_error"]
    assert numbers(curve(figure, "dash").y) == pytest.approx(own.mean().tolist())
    (band,) = (b for b in bands if len(b.x) == 8)  # training: logged at four steps, there and back
    assert numbers(band.x) == [10, 20, 30, 40, 40, 30, 20, 10]
    assert numbers(band.y) == [*own.max(), *own.min()[::-1]]
    order = [trace.fill == "toself" for trace in figure.data]
    assert order == sorted(order, reverse=True), "bands lie under every line"


def test_a_seed_that_is_behind_does_not_bend_the_mean() -> None:
    frame = metrics(("plain-20", 0), ("plain-20", 1))
    frame = frame[(frame["seed"] == 0) | (frame["step"] <= 20)]
    line = curve(plots.error_curves(frame), "dash")
    assert numbers(line.x) == [10, 20]  # where both seeds are


def test_a_held_out_part_is_drawn_in_place_of_the_test_set_and_named() -> None:
    frame = metrics(("plain-20", 0))
    frame = frame.assign(validation_error=frame["test_error"] - 1, test_error=np.nan)
    figure = plots.error_curves(frame)
    assert "validation" in figure.layout.title.text
    assert numbers(curve(figure, "solid").y) == frame["validation_error"].dropna().tolist()


def test_shortcut_options_of_one_depth_are_told_apart() -> None:
    figure = plots.error_curves(metrics(("resnet-20", 0), ("resnet-20-B", 0)))
    shown = [trace.name for trace in figure.data if trace.showlegend]
    assert len(shown) == len(set(shown)) == 2
    assert any("B" in name for name in shown)


def test_gaps_in_a_log_are_not_filled() -> None:
    frame = metrics(("plain-20", 0))
    frame.loc[1, "train_error"] = np.nan
    assert numbers(curve(plots.error_curves(frame), "dash").x) == [10, 30, 40]


# --- error against depth ----------------------------------------------------------------------


def test_error_against_depth_shows_every_run_and_the_mean() -> None:
    figure = plots.error_against_depth(finals(*EIGHT))
    means = [t for t in lines(figure) if t.mode == "lines"]
    points = [t for t in lines(figure) if t.mode == "markers"]
    assert len(means) == len(points) == 4  # plain and residual, training and test
    for trace in means:
        base = 10 if (trace.xaxis or "x") == "x" else 20
        assert numbers(trace.x) == [20, 56]
        assert numbers(trace.y) == [base + 0.5] * 2
    assert sum(len(t.x) for t in points) == 16
    assert sorted(numbers(points[0].y)) == [10, 10, 11, 11]


def test_unfinished_and_diverged_runs_are_not_points() -> None:
    frame = pd.concat([finals(*FOUR), finals(("plain-110", 0), status="diverged")])
    figure = plots.error_against_depth(frame)
    assert 110 not in {int(x) for t in lines(figure) for x in t.x}


def diamonds(figure: go.Figure) -> list[Any]:
    return [t for t in figure.data if t.marker.symbol == "diamond-open"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "these runs on digits"),
        ({"data": "cifar10"}, "paper-400"),
        ({"data": "pets", "recipe": "paper"}, "these runs on pets"),
    ],
)
def test_the_papers_values_are_not_drawn_beside_other_conditions(changes: Any, reason: str) -> None:
    figure = plots.error_against_depth(finals(*FOUR, **changes))
    assert diamonds(figure) == []
    assert "The paper's values are not drawn" in figure.layout.title.text
    assert reason in figure.layout.title.text.replace("<br>", " ")


def test_the_papers_values_are_drawn_where_they_compare() -> None:
    figure = plots.error_against_depth(finals(*FOUR, ("resnet-8", 0), data="cifar10", recipe="paper"))
    assert "not drawn" not in figure.layout.title.text
    drawn = {
        (t.xaxis or "x", int(x)): float(y)
        for t in diamonds(figure)
        if "residual" in t.name
        for x, y in zip(t.x, t.y, strict=True)
    }
    # Figure 6 for training, Table 6 for testing; the paper has no ResNet-8.
    assert drawn == {("x", 20): 0.67, ("x", 56): 0.09, ("x2", 20): 8.75, ("x2", 56): 6.97}
    assert {s for t in diamonds(figure) for s in t.customdata} == {"Figure 6", "Table 6"}


def test_one_run_that_does_not_compare_keeps_the_papers_values_away() -> None:
    mixed = pd.concat(
        [finals(*FOUR, data="cifar10", recipe="paper"), finals(("plain-20", 1), data="cifar10")]
    )
    assert diamonds(plots.error_against_depth(mixed)) == []


# --- one run ----------------------------------------------------------------------------------


def test_run_curves_show_errors_and_the_learning_rate() -> None:
    frame = metrics(("resnet-20", 3))
    figure = plots.run_curves(frame)
    by_name = {trace.name: trace for trace in figure.data}
    assert set(by_name) == {"train error", "test error", "learning rate"}
    assert numbers(by_name["train error"].y) == frame["train_error"].tolist()
    assert numbers(by_name["test error"].y) == frame["test_error"].dropna().tolist()
    assert numbers(by_name["learning rate"].y) == [0.1, 0.1, 0.01, 0.01]
    assert "resnet-20 on digits" in figure.layout.title.text
    assert "seed 3" in figure.layout.title.text


def test_the_first_row_of_a_run_is_visible() -> None:
    figure = plots.run_curves(metrics(("resnet-20", 0)).head(1))
    train = next(t for t in figure.data if t.name == "train error")
    assert "markers" in train.mode


# --- gradient norms ---------------------------------------------------------------------------


def test_all_panels_of_the_heatmap_share_one_colour_scale_that_holds_every_value() -> None:
    frame = pd.concat([probes(("plain-20", 0)), probes(("resnet-20", 0), scale=1e-3)])
    figure = plots.gradient_norm_heatmap(frame)
    maps = [t for t in figure.data if t.type == "heatmap"]
    assert len(maps) == 2
    assert {t.coloraxis for t in maps} == {"coloraxis"}
    axis = figure.layout.coloraxis
    assert axis.cmin <= np.log10(frame["value"].min()) + 1e-9
    assert axis.cmax >= np.log10(frame["value"].max()) - 1e-9
    assert axis.cmin >= -3
    assert axis.cmax <= 3


def test_plain_heatmaps_stand_left_of_the_residual_ones_of_their_depth() -> None:
    frame = probes(("plain-20", 0), ("plain-56", 0), ("resnet-20", 0), ("resnet-56", 0))
    figure = plots.gradient_norm_heatmap(frame)
    titles = [note.text for note in figure.layout.annotations]
    assert titles == [f"{name}, seed 0" for name in ("plain-20", "resnet-20", "plain-56", "resnet-56")]
    left, right = figure.layout.xaxis.domain, figure.layout.xaxis2.domain
    assert left[1] < right[0]
    alone = plots.gradient_norm_heatmap(probes(("plain-20", 0), ("plain-56", 0), ("resnet-20", 0)))
    assert sum(trace.type == "heatmap" for trace in alone.data) == 3


def test_the_heatmaps_cells_are_the_frames_values() -> None:
    frame = probes(("plain-20", 0), ("resnet-20", 0), scale=0.01)
    for trace, network in zip(
        plots.gradient_norm_heatmap(frame).data, ("plain-20", "resnet-20"), strict=True
    ):
        own = frame[frame["network"] == network]
        assert numbers(trace.x) == list(STEPS)
        assert numbers(trace.y) == [1, 2, 3, 4]  # layer 1 is the first convolution
        for row in own.itertuples():
            cell = (row.layer, STEPS.index(row.step))
            assert np.asarray(trace.customdata)[cell] == row.value
            assert np.asarray(trace.z)[cell] == pytest.approx(np.log10(row.value), abs=1e-3)


def test_norms_that_are_zero_or_missing_are_holes_not_colours() -> None:
    frame = probes(("plain-20", 0))
    frame.loc[0, "value"] = 0.0
    frame.loc[1, "value"] = np.nan
    z = np.asarray(plots.gradient_norm_heatmap(frame).data[0].z, dtype=float)
    assert np.isnan(z).sum() == 2


def test_norms_that_are_all_missing_still_make_a_figure() -> None:
    frame = probes(("plain-20", 0)).assign(value=np.nan)
    plots.gradient_norm_heatmap(frame).to_json()
    plots.layer_profile(frame).to_json()


def test_two_runs_of_one_name_in_two_studies_are_two_panels() -> None:
    frame = pd.concat([probes(("plain-20", 0)), probes(("plain-20", 0)).assign(study="other")])
    maps = plots.gradient_norm_heatmap(frame).data
    assert len(maps) == 2
    assert np.asarray(maps[0].z).shape == (4, 4)


def test_the_profile_draws_chosen_steps_by_layer() -> None:
    frame = probes(*FOUR)
    figure = plots.layer_profile(frame, steps=[10, 40])
    assert len(lines(figure, "x")) == len(lines(figure, "x2")) == 4
    for trace in lines(figure):
        step = int(trace.name.split("step ")[1])
        assert numbers(trace.x) == [1, 2, 3, 4]
        assert numbers(trace.y) == pytest.approx([step * (layer + 1) for layer in range(4)])
        network = trace.name.partition(",")[0]
        assert trace.line.color == plots.depth_colour(int(network.split("-")[1]))
        assert trace.line.dash == ("dash" if network.startswith("plain") else "solid")
    # The legend has both dashes, not the first family's for all.
    assert {t.line.dash for t in lines(figure) if t.showlegend} == {"dash", "solid"}
    assert len({trace.opacity for trace in lines(figure, "x")}) == 2
    assert all(axis.type == "log" for axis in figure.select_yaxes())


def test_a_step_that_was_not_logged_takes_the_nearest_and_is_named_by_it() -> None:
    figure = plots.layer_profile(probes(("plain-20", 0)), steps=[0, 33, 999])
    assert [trace.name for trace in lines(figure)] == [
        f"plain-20, step {step}" for step in (10, 30, 40)
    ]


@pytest.mark.parametrize(
    ("kind", "title", "axis"),
    [
        ("weight_norm", "Length of the weights by layer", "|w| (L2)"),
        ("relative_update", "Step over weights by layer", "|\u0394w| / |w|"),
        ("turning", "How far a step turns each layer", "angle (radians)"),
    ],
)
def test_a_profile_names_what_it_shows(kind, title, axis):
    figure = plots.layer_profile(probes(("plain-20", 0)), kind=kind)
    assert title in figure.layout.title.text
    assert figure.layout.yaxis.title.text == axis


def test_profiles_that_are_to_be_compared_have_one_axis() -> None:
    small, large = probes(("plain-20", 0)), probes(("plain-20", 0), scale=1e3)
    both = pd.concat([small, large])
    axes = [plots.layer_profile(frame, beside=both).layout.yaxis for frame in (small, large)]
    assert axes[0].range == axes[1].range
    assert axes[0].dtick == axes[1].dtick
    low, high = axes[0].range
    assert low < np.log10(both["value"][both["value"] > 0].min())
    assert high > np.log10(both["value"].max())
    assert plots.layer_profile(small).layout.yaxis.range is None


def test_seeds_of_a_profile_are_averaged_geometrically() -> None:
    frame = pd.concat([probes(("plain-20", 0)), probes(("plain-20", 1), scale=100)])
    line = lines(plots.layer_profile(frame, steps=[10]))[0]
    assert numbers(line.y) == pytest.approx([100, 200, 300, 400])  # sqrt(1 * 100) = 10 times


# --- the paper's own curves -------------------------------------------------------------------


def test_the_papers_curves_lie_under_ours_only_where_they_compare() -> None:
    ours = metrics(*FOUR, data="cifar10", recipe="paper")
    figure = plots.error_curves(ours, with_paper=True)
    theirs = [trace for trace in figure.data if "the paper" in (trace.hovertemplate or "")]
    assert len(theirs) == 8  # train and test of four networks
    assert list(figure.data[:8]) == theirs, "first, so that ours lie above"
    assert all(trace.line.width < 1.6 and not trace.showlegend for trace in theirs)
    plain = next(t for t in theirs if "plain-56 train" in t.hovertemplate)
    line = paper.curve("plain-56", "train_error")
    assert line is not None
    assert (tuple(plain.x), tuple(plain.y)) == (line.x, line.y)
    assert len(plots.error_curves(ours).data) == len(figure.data) - 8
    with pytest.raises(ValueError, match="these runs on digits"):
        plots.error_curves(metrics(*FOUR), with_paper=True)


def test_the_papers_figure_by_itself_has_its_ten_networks_and_no_others() -> None:
    figure = plots.paper_error_curves()
    lines = [trace for trace in figure.data if trace.mode != "markers"]
    assert len(lines) == 18  # plain-110 has no curve
    assert len({trace.name for trace in lines}) == 5
    assert len(plots.paper_error_curves(["plain-20", "resnet-26"]).data) == 2


# --- gradient ratio and projector -------------------------------------------------------------


def test_the_ratio_is_first_over_last_layer_averaged_geometrically_over_seeds() -> None:
    two = pd.concat([probes(("plain-20", 0)), probes(("plain-20", 1))])
    two.loc[(two["seed"] == 1) & (two["layer"] == 0), "value"] *= 16
    figure = plots.gradient_ratio(two)
    line = next(trace for trace in figure.data if trace.name == "plain-20")
    drawn = numbers(line.y)
    assert drawn == pytest.approx([1.0] * len(drawn))  # 1/4 and 16/4
    band = next(trace for trace in figure.data if trace.fill == "toself")
    assert max(numbers(band.y)) == pytest.approx(4)
    assert min(numbers(band.y)) == pytest.approx(1 / 4)


@pytest.mark.parametrize(("draw", "frame"), FIGURES, ids=IDS)
def test_for_a_hall_everything_is_larger_and_no_value_changes(draw: Any, frame: Any) -> None:
    small, large = (draw(frame(*EIGHT)) for _ in range(2))
    plots.enlarge(large)
    assert large.layout.font.size > 1.5 * small.layout.font.size
    assert large.layout.height > small.layout.height
    for before, after in zip(small.data, large.data, strict=True):
        assert str(before.y) == str(after.y)
        if before.type == "scatter" and before.line.width:
            assert after.line.width > 1.5 * before.line.width


def test_long_curves_are_thinned_and_keep_their_spikes() -> None:
    steps = np.arange(1, 20_001)
    rows = [metrics(("plain-20", seed)).iloc[:1] for seed in (0, 1)]
    frame = pd.concat([row.loc[row.index.repeat(len(steps))].assign(step=steps) for row in rows])
    noise = np.random.default_rng(0).normal(50, 1, len(frame))
    noise[12_345] = 99.0
    figure = plots.error_curves(frame.assign(train_error=noise, test_error=noise))
    before = [trace for trace in figure.data if not trace.fill]
    highest = max(max(numbers(trace.y)) for trace in before)
    shown, logged = plots.thin_lines(figure)
    assert logged == 40_000
    assert shown <= 2 * 2_000
    for trace in figure.data:
        assert len(trace.x) <= 2 * 2_000
        assert len(trace.x) == len(trace.y)
    assert max(max(numbers(trace.y)) for trace in figure.data if not trace.fill) == highest
    band = next(trace for trace in figure.data if trace.fill == "toself")
    assert max(numbers(band.y)) == 99.0
    assert plots.thin_lines(plots.error_curves(metrics(*FOUR)))[0] > 0


def test_short_curves_are_left_whole() -> None:
    figure = plots.error_curves(metrics(*EIGHT))
    lengths = [len(trace.x) for trace in figure.data]
    shown, logged = plots.thin_lines(figure)
    assert shown == logged
    assert [len(trace.x) for trace in figure.data] == lengths


# --- what the question notebooks measure ----------------------------------------------------------


def test_at_initialisation_the_panels_are_with_and_without_batch_norm() -> None:
    figure = draw_at_start(at_start(("plain-20", 0), ("resnet-20", 0)))
    left, right = lines(figure, "x"), lines(figure, "x2")
    assert [a.text for a in figure.layout.annotations[:2]] == list(plots.NORMS)
    for panel, factor in ((left, 1.0), (right, 1e-3)):
        assert {t.line.dash for t in panel} == {"dash", "solid"}
        for trace in panel:
            assert numbers(trace.x) == [1, 2, 3]
            assert numbers(trace.y) == pytest.approx([factor, 10 * factor, 100 * factor])
    assert sum(t.showlegend for t in figure.data) == 2


def test_norms_of_several_seeds_are_averaged_geometrically() -> None:
    frame = at_start(("plain-20", 0), ("plain-20", 1))
    frame.loc[frame["seed"] == 1, "value"] *= 100
    trace = lines(draw_at_start(frame), "x")[0]
    assert numbers(trace.y) == pytest.approx([10, 100, 1000])


def test_correlation_shows_every_seed_and_the_mean() -> None:
    figure = plots.gradient_correlation(correlations(*EIGHT))
    mean, seeds = (t for t in figure.data if t.legendgroup == "plain")
    assert numbers(mean.x) == [20, 56]
    assert numbers(mean.y) == pytest.approx([0.505, 10 / 56 + 0.005])
    assert len(seeds.x) == 4
    assert (mean.line.dash, figure.data[2].line.dash) == ("dash", "solid")


def test_the_matrices_are_the_frames_values_on_one_scale() -> None:
    figure = plots.correlation_matrices(cosines(*FOUR))
    assert len(figure.data) == 4
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-1, 1)
    np.testing.assert_allclose(figure.data[0].z, [[1, -0.1, -0.2], [0.1, 1, -0.1], [0.2, 0.1, 1]])
    assert all(trace.coloraxis == "coloraxis" for trace in figure.data)


def test_surfaces_share_one_logarithmic_scale_that_holds_every_value() -> None:
    frame = plane_losses(("plain-56", 0), ("resnet-56", 0))
    frame.loc[frame["network"] == "resnet-56", "loss"] *= 100
    frame.loc[0, "loss"] = np.inf  # a hole, not a colour
    figure = plots.loss_surfaces(frame)
    surfaces = [t for t in figure.data if t.type == "contour"]
    assert [a.text for a in figure.layout.annotations[:2]] == ["plain-56, seed 0", "resnet-56, seed 0"]
    axis = figure.layout.coloraxis
    finite = frame["loss"][np.isfinite(frame["loss"])]
    assert 10**axis.cmin == pytest.approx(finite.min())
    assert 10**axis.cmax == pytest.approx(finite.max())
    first = np.asarray(surfaces[0].z, dtype=float)  # rows y, columns x
    assert np.isnan(first[0, 0])
    assert first[2, 1] == pytest.approx(1.0)  # x 0, y 0.5: 10^1
    assert first[1, 2] == pytest.approx(1.0)  # x 1, y 0: 10^1


def test_a_line_has_gaps_where_the_loss_is_not_finite() -> None:
    frame = line_losses(("plain-20", 0), ("resnet-20", 0))
    frame.loc[1, "loss"] = np.nan
    plain, residual = plots.loss_lines(frame).data
    assert np.isnan(np.asarray(plain.y, dtype=float)).tolist() == [False, True, False]
    assert not plain.connectgaps
    assert numbers(residual.y) == [2, 1, 2]


def test_gradient_errors_are_percent_by_layer_in_a_panel_an_arithmetic() -> None:
    frame = gradient_errors(("plain-20", 0), ("plain-20", 1), ("resnet-20", 0))
    frame.loc[frame["seed"] == 1, "relative"] *= 100
    figure = plots.gradient_error_by_layer(frame)
    ways = ["fp32", "fp32 channels_last", "bf16", "bf16 channels_last"]
    assert [a.text for a in figure.layout.annotations[:4]] == ways
    plain = [t for t in figure.data if t.name == "plain-20"]
    assert numbers(plain[2].x) == [1, 2, 3]
    assert numbers(plain[2].y) == pytest.approx([1, 10, 100])  # 1e-3 and 1e-1 in percent, geometric
    assert {t.line.dash for t in plain} == {"dash"}
    assert sum(t.showlegend for t in figure.data) == 2


def test_against_depth_the_error_is_the_median_over_layers() -> None:
    figure = plots.gradient_error_by_depth(gradient_errors(*EIGHT))
    line, points = (t for t in figure.data if t.legendgroup == "bf16, plain")
    assert numbers(line.x) == [20, 56]
    assert numbers(line.y) == pytest.approx([1, 1])
    assert len(points.x) == 4
    assert len({t.line.color for t in figure.data if t.mode == "lines"}) == 4


def test_conditions_stand_from_the_most_exact_on_with_a_line_a_seed() -> None:
    figure = draw_by_precision(in_precisions(("plain-56", 0), ("plain-56", 2)))
    seeds, mean = figure.data[:2], figure.data[2]
    assert list(mean.x) == ["fp32", "bf16"]
    assert [numbers(t.y) for t in seeds] == [[6, 10], [8, 12]]
    assert numbers(mean.y) == [7, 11]
    assert mean.line.width > seeds[0].line.width
    frame = finals(("plain-20", 0)).assign(steps_planned=400)
    long = frame.assign(steps_planned=1200, train_error=3.0)
    assert list(plots.error_by_condition(pd.concat([long, frame]), "steps_planned").data[0].x) == [
        "400",
        "1,200",
    ]


def test_timelines_share_one_axis_and_are_stairs() -> None:
    rows = [("right", 0, 4, 0.01), ("right", 4, 100, 0.1), ("wrong", 0, 100, 0.01)]
    rates = pd.DataFrame(rows, columns=["schedule", "step", "until", "lr"])
    figure = plots.learning_rates(rates, 8, "a <b>", "said")
    assert len(figure.data) == 4
    assert all(trace.line.shape == "hv" for trace in figure.data)
    assert numbers(figure.data[0].x) == [0, 4, 100]
    assert numbers(figure.data[0].y) == [0.01, 0.1, 0.1]
    assert list(figure.layout.xaxis.range) == [0, 8]
    assert "&lt;b&gt;" in figure.layout.title.text
    assert figure.data[0].line.width > figure.data[2].line.width, "where they agree both are seen"


def test_options_of_one_depth_have_colours_of_their_own() -> None:
    study = store.read_study(files.project() / "results" / "reference" / "shortcuts")
    probes = store.probes_of([run for run in study.runs if run.config.seed == 0])
    for figure in (plots.layer_profile(probes, [0]), plots.gradient_ratio(probes)):
        lines = [trace for trace in figure.data if trace.showlegend is not False]
        assert len({trace.line.color for trace in lines}) == len(lines) == 4


def test_the_dial_shows_every_seed_and_the_means() -> None:
    figure = plots.shortcut_dial(dialled(("resnet-56", 0), ("resnet-56", 1)))
    mean, seeds = (t for t in figure.data if t.legendgroup == "training error")
    assert (numbers(mean.x), numbers(mean.y)) == ([0, 0.25, 1], [40.5, 30.5, 0.5])
    assert mean.line.dash == "dash"
    assert len(seeds.x) == 6


def test_rates_stand_side_by_side_with_the_error_before() -> None:
    figure = plots.trained_on(trained_on(("plain-56", 0), ("plain-56", 2), ("resnet-56", 0)))
    assert [a.text for a in figure.layout.annotations[:2]] == ["plain", "residual"]
    plain = next(t for t in figure.data if t.name == "plain, training error")
    assert list(plain.x) == ["0.001", "0.01", "0.1"]
    assert numbers(plain.y) == pytest.approx([1.1, 2, 11])
    before = [t for t in figure.data if t.name == "training error before"]
    assert [numbers(t.y) for t in before] == [[0.5] * 3] * 2


def test_no_change_at_all_has_a_place_of_its_own_below_the_smallest() -> None:
    figure = plots.same_function(built(("plain-20", 0), ("resnet-20", 0)))
    added, disturbed = figure.data
    assert (added.name, disturbed.name) == ("layers added", "one added weight disturbed")
    assert list(added.x) == list(disturbed.x) == ["plain-56", "resnet-56"]
    nothing = figure.layout.yaxis.tickvals[0]
    assert figure.layout.yaxis.ticktext[0] == "none"
    assert numbers(added.y) == pytest.approx([5e-6, nothing])
    assert nothing < 5e-7
    assert numbers(disturbed.y) == [0.5, 0.5]


def test_long_names_under_an_axis_stand_upright_and_get_room() -> None:
    long = go.Figure(go.Scatter(x=["paper-400<br>(warmup_steps 30)", "short"], y=[1, 2]))
    plain = go.Figure(go.Scatter(x=["a", "b"], y=[1, 2]))
    for figure in (long, plain):
        style.finish(figure, "One", "", [])
    small = plots.small(long)
    assert small.layout.xaxis.tickangle == 90
    assert small.layout.margin.b > plots.small(plain).layout.margin.b + 6 * len("(warmup_steps 30)")
    assert plots.small(plain).layout.xaxis.tickangle is None


def test_in_a_part_of_a_hall_screen_words_break_earlier() -> None:
    whole, part = (plots.error_against_depth(finals(*EIGHT)) for _ in range(2))
    plots.enlarge(whole)
    plots.enlarge(part, share=0.5)
    lines_of_words = [figure.layout.title.text.count("<br>") for figure in (whole, part)]
    assert lines_of_words[0] < lines_of_words[1]


def test_single_and_several_removed_blocks_have_a_panel_each() -> None:
    figure = plots.lesions(lesions(("plain-20", 0), ("resnet-56", 0), ("resnet-56", 1)))
    single = [t for t in lines(figure, "x") if t.mode == "lines"]
    several = [t for t in lines(figure, "x2") if t.mode == "lines"]
    assert [(t.name, t.line.dash) for t in single] == [("plain-20", "dash"), ("resnet-56", "solid")]
    assert numbers(single[1].x) == [1, 2, 3]
    assert numbers(single[1].y) == [12, 13, 14]
    assert numbers(several[1].x) == [0, 2], "the intact network is where nothing is removed"
    assert numbers(several[1].y) == [2, 22.5]
    one = lesions(("plain-20", 0)).query("removed == 1")
    assert len(plots.lesions(one).layout.annotations) == 1


def test_many_recipes_do_not_fill_the_title() -> None:
    frame = trained_on(("plain-56", 0))
    frame["recipe"] = [f"paper-400 (lr {lr:g})" for lr in frame["lr"]]
    assert "3 recipes" in plots.conditions(frame)
    assert "recipe paper-400 (lr 0.001) and paper-400 (lr 0.01)" in plots.conditions(frame.head(2))


# --- sliders ----------------------------------------------------------------------------------


def at_slide(figure: go.Figure, number: int) -> list[Any]:
    """The traces that the slider's step of that number shows."""
    step = figure.layout.sliders[0].steps[number]
    assert step.method == "restyle"
    shown = step.args[0]["visible"]
    assert len(shown) == len(figure.data)
    return [trace for trace, visible in zip(figure.data, shown, strict=True) if visible]


def drawn(traces: Any) -> list[tuple[Any, ...]]:
    return [(t.name, t.xaxis, numbers(t.x), numbers(t.y), t.line.dash, t.line.color) for t in traces]


@pytest.mark.parametrize("kind", ["gradient_norm", "weight_norm"])
def test_a_slide_is_the_static_profile_of_its_step_and_labelled_with_it(kind: str) -> None:
    frame = probes(*FOUR)
    figure = plots.layer_profiles(frame, kind)
    assert [step.label for step in figure.layout.sliders[0].steps] == ["10", "20", "30", "40"]
    for number, step in enumerate(STEPS):
        static = plots.layer_profile(frame, [step], kind)
        assert drawn(at_slide(figure, number)) == drawn(static.data)
    assert [t for t in figure.data if t.visible] == at_slide(figure, 3), "an image shows the last step"
    assert figure.layout.sliders[0].active == 3


def test_a_slider_keeps_one_axis_that_holds_every_value() -> None:
    figure = plots.layer_profiles(probes(*FOUR))
    low, high = figure.layout.yaxis.range
    assert 10**low < 10 < 160 < 10**high
    assert figure.layout.yaxis2.matches == "y"
    assert figure.layout.yaxis2.range is None
    assert figure.layout.xaxis.range == figure.layout.xaxis2.range == (1, 4)


def test_a_long_log_has_at_most_fifty_slides_with_its_ends() -> None:
    frame = probes(("plain-20", 0))
    frame = pd.concat([frame.assign(step=frame["step"] + more) for more in range(0, 4000, 40)])
    labels = [step.label for step in plots.layer_profiles(frame).layout.sliders[0].steps]
    assert (len(labels), labels[0], labels[-1]) == (50, "10", "4,000")


def test_slices_of_a_surface_are_its_rows_and_the_weights_are_seen_first() -> None:
    frame = plane_losses(("plain-20", 0), ("resnet-20", 0))
    figure = plots.loss_slices(frame)
    places = sorted(frame["y"].unique())
    assert [step.label for step in figure.layout.sliders[0].steps] == [f"{y:.2f}" for y in places]
    assert places[figure.layout.sliders[0].active] == min(places, key=abs)
    for number, y in enumerate(places):
        rows = frame[frame["y"] == y].rename(columns={"x": "distance"})
        for ours, static in zip(at_slide(figure, number), plots.loss_lines(rows).data, strict=True):
            np.testing.assert_array_equal(np.asarray(ours.y), np.asarray(static.y))
    assert "through the trained weights" not in figure.layout.title.text


def test_the_dial_turns_through_the_scales() -> None:
    turned = metrics(("resnet-20", 0)).assign(network="resnet-20-scale0.25", run="resnet-20-scale0.25")
    frame = pd.concat([metrics(("plain-20", 0), ("resnet-20", 0)), turned])
    figure = plots.dial_curves(frame)
    assert [step.label for step in figure.layout.sliders[0].steps] == ["0", "0.25", "1"]
    parts = [metrics(("plain-20", 0)), turned, metrics(("resnet-20", 0))]
    for number, part in enumerate(parts):
        assert drawn(at_slide(figure, number)) == drawn(plots.error_curves(part).data)


def test_nothing_on_a_slider_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one figure"):
        draw.slider({}, "step")


def test_a_figure_with_a_slider_keeps_it_through_a_page_and_a_theme() -> None:
    figure = plots.themed(plots.layer_profiles(probes(*FOUR)), "dark")
    kept = executed.figure_of(json.loads(figure.to_json()))
    assert kept.layout.sliders[0].to_plotly_json() == figure.layout.sliders[0].to_plotly_json()
    assert [trace.visible for trace in kept.data] == [trace.visible for trace in figure.data]


def test_a_run_that_has_not_ended_changes_nobodys_curve() -> None:
    """One young seed once ended the mean of five finished ones at its own last step."""
    rows = metrics(*(("plain-20", seed) for seed in range(5))).assign(status="finished")
    young = rows[(rows["seed"] == 0) & (rows["step"] <= 20)].assign(
        seed=9, run="young", status="running"
    )
    alone, beside = (plots.error_curves(frame) for frame in (rows, pd.concat([rows, young])))
    kept = [trace for trace in beside.data if "unfinished" not in str(trace.hovertemplate)]
    for one, other in zip(kept, alone.data, strict=True):
        assert one.line == other.line
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.y, other.y)
    thin = [trace for trace in beside.data if "unfinished" in str(trace.hovertemplate)]
    assert thin
    assert max(max(trace.x) for trace in thin) == 20
    assert "5 seeds per network; 1 more run unfinished" in beside.layout.title.text


# --- a seed counts once -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "frame"),
    [
        (plots.error_curves, metrics),
        (plots.error_against_depth, finals),
        (plots.error_by_network, finals),
        (plots.gradient_ratio, probes),
        (plots.layer_profile, probes),
        (plots.layer_responses, responses),
        (draw_at_start, at_start),
        (plots.gradient_correlation, correlations),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_several_runs_of_one_seed_move_no_mean(draw: Any, frame: Any) -> None:
    """The same run of seed 1 twice, in two folders: every line and bar stays where it was."""
    pairs = [(name, seed) for name in ("plain-20", "plain-56") for seed in (0, 1)]
    alone = frame(*pairs)
    again = alone[alone["seed"] == 1].assign(run="again")

    def means(rows: pd.DataFrame) -> list[Any]:
        return [
            (one.name, np.round(np.asarray(one.y, dtype=float), 9).tolist())
            for one in draw(rows).data
            if one.type == "bar" or (one.mode or "").startswith("lines")
        ]

    assert means(alone)
    assert means(pd.concat([alone, again], ignore_index=True)) == means(alone)


def test_means_side_by_side_are_of_the_same_seeds() -> None:
    """Five seeds of 400 steps beside three of 1,200: the mean of all five answers another question."""
    short = finals(*(("plain-20", seed) for seed in range(5))).assign(steps_planned=400)
    long = finals(*(("plain-20", seed) for seed in range(3))).assign(steps_planned=1200)
    short["train_error"], long["train_error"] = [10.0, 20.0, 30.0, 90.0, 95.0], [1.0, 2.0, 3.0]
    figure = plots.error_by_condition(pd.concat([short, long]), by="steps_planned")
    (mean,) = [trace for trace in figure.data if "mean" in trace.hovertemplate]
    assert list(mean.y) == [20.0, 2.0]


def test_no_title_of_an_axis_stands_on_its_labels() -> None:
    for name, figure_of, frame in EVERY:
        for axis in figure_of(frame(*EIGHT)).select_xaxes():
            assert axis.title.standoff, name
