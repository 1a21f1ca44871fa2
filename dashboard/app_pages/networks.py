"""What a network is made of: its blocks and shortcuts, one block in numbers, and layer responses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cached, frame, inside
from resnetlab import config, paper, plots, store, verdict
from resnetlab.config import UsageError

PAPERS = [f"resnet-{depth}" for depth in (20, 32, 44, 56, 110, 18, 34, 50, 101, 152)]
DEEPEST = 200  # a drawing of more layers would be a line
MOST_RUNS = 6  # whose responses are measured at a time
MOST_PIXELS = 1024
RESPONSES = "layer-responses"  # what notebook 07 calls its measurement

FORMULAS = {
    "stem": r"y = \mathrm{ReLU}(\mathrm{BN}(W x))",
    "classifier": r"y = W\,\overline{x} + b,\quad \overline{x}: \text{mean over all positions}",
}
RESIDUALS = {
    "basic": r"F(x) = \mathrm{BN}(W_2\,\mathrm{ReLU}(\mathrm{BN}(W_1 x)))",
    "bottleneck": (
        r"F(x) = \mathrm{BN}(W_3\,\mathrm{ReLU}(\mathrm{BN}(W_2\,\mathrm{ReLU}(\mathrm{BN}(W_1 x)))))"
    ),
    "single": r"F(x) = \mathrm{BN}(W_1 x)",
}
SHORTCUTS = {
    "none": r"y = \mathrm{ReLU}(F(x))",
    "identity": r"y = \mathrm{ReLU}(F(x) + x)",
    "padded": r"y = \mathrm{ReLU}(F(x) + \mathrm{pad}(x))",
    "projection": r"y = \mathrm{ReLU}(F(x) + \mathrm{BN}(W_s x))",
}


def residual_of(network: config.Network) -> config.Network | None:
    """The residual network of a plain one's depth: option A, as in the paper."""
    if network.shortcut != "none":
        return network
    return _changed(network, "A")


def _changed(network: config.Network, shortcut: str) -> config.Network | None:
    try:
        return config.Network.parse(network.model_dump() | {"shortcut": shortcut})
    except UsageError:
        return None  # single-layer blocks have no plain counterpart


def offered(study: store.Study) -> dict[str, config.Network]:
    """Residual networks to draw: the study's, deepest first, then the paper's others."""
    own = [found for run in study.runs if (found := residual_of(run.network)) is not None]
    own.sort(key=lambda network: (-network.depth, network.name))
    others = [config.Network.from_name(name) for name in PAPERS]
    return {network.name: network for network in (*own, *others) if network.depth <= DEEPEST}


def images_of(run: store.RunRecord | None, network: config.Network) -> tuple[int, int, int, str]:
    """Classes, channels and pixels a side of the images to draw for, and whose they are."""
    usual = 1000 if network.design == "imagenet" else 10
    native = (usual, 3, network.native_size, "the images of the paper")
    if run is None:
        return native
    described = run.info.get("dataset")
    described = described if isinstance(described, dict) else {}
    classes, shape = described.get("classes"), described.get("shape")
    if not isinstance(classes, list) or not isinstance(shape, list) or len(shape) != 3:
        return native
    size = run.config.recipe.crop or shape[1]
    fits = [type(n) is int and 1 <= n <= MOST_PIXELS for n in (shape[0], size)]
    if not all(fits) or size < network.smallest_image or not 1 <= len(classes) <= 100_000:
        return native
    return len(classes), shape[0], size, f"the images of {run.config.data.label}"


def run_of(study: store.Study, name: str) -> store.RunRecord | None:
    """A run of that network: a finished one if there is one, of the lowest seed."""
    own = [run for run in study.runs if run.config.network_name == name]
    return min(own, key=lambda run: (run.status != "finished", run.config.seed), default=None)


def last_norms(run: store.RunRecord | None) -> tuple[int, dict[str, float]]:
    """The last logged step and the gradient norm of each layer there; step -1 if none is logged."""
    if run is None:
        return -1, {}
    probes = cached.probes([run])
    if probes.empty:
        return -1, {}
    step = int(probes["step"].max())
    last = probes[probes["step"] == step]
    return step, {str(name): float(v) for name, v in zip(last["name"], last["value"], strict=True)}


def formula(part: Mapping[str, Any], design: str) -> str:
    if part["kind"] == "stem" and design == "imagenet":
        return r"y = \mathrm{maxpool}(\mathrm{ReLU}(\mathrm{BN}(W x)))"
    if part["kind"] in FORMULAS:
        return FORMULAS[part["kind"]]
    return (
        rf"\begin{{gathered}}{SHORTCUTS[part['shortcut']]}\\{RESIDUALS[part['kind']]}\end{{gathered}}"
    )


def times(shape: Sequence[int]) -> str:
    return " × ".join(f"{side:,}" for side in shape)


def facts(part: Mapping[str, Any]) -> pd.DataFrame:
    """The block as a whole."""
    rows = [
        ("in (channels × height × width)", times(part["shape_in"])),
        ("out", times(part["shape_out"])),
        ("parameters", f"{part['parameters']:,}"),
        ("multiply-adds of one image", f"{part['multiply_adds']:,}"),
    ]
    return pd.DataFrame(rows, columns=["what", "value"])


def layers(
    part: Mapping[str, Any], norms: Mapping[str, float], deviations: Mapping[str, float]
) -> pd.DataFrame:
    """Its weighted layers; gradient norm and response where they are known."""
    rows = [
        (
            layer["name"].removeprefix(f"{part['name']}.").removeprefix("residual."),
            f"{layer['kernel']}×{layer['kernel']}" if part["kind"] != "classifier" else "linear",
            layer["filters"],
            layer["stride"],
            norms.get(layer["name"], math.nan),
            deviations.get(layer["name"], math.nan),
        )
        for layer in part["layers"]
    ]
    names = ["layer", "kernel", "filters", "stride", "gradient", "response"]
    return pd.DataFrame(rows, columns=names)


def take_click() -> None:
    """A click on a box chooses its block."""
    points = st.session_state["drawing"]["selection"]["points"]
    clicked = points[0].get("customdata") if points else None
    if isinstance(clicked, list):
        clicked = clicked[0] if clicked else None
    if clicked in st.session_state.get("labels of blocks", {}):
        st.session_state["block"] = st.session_state["labels of blocks"][clicked]


def drawing(parts: Mapping[str, list[dict[str, Any]]], chosen: str) -> None:
    """`frame.chart`, with clicks."""
    st.plotly_chart(
        frame.for_hall(plots.network_drawing(parts, chosen, theme=frame.theme())),
        key="drawing",
        width="stretch",
        theme=None,
        config=plots.CONFIG,
        on_select=take_click,
        selection_mode="points",
    )


def first_choice(runs: Mapping[str, store.RunRecord]) -> list[str]:
    """Shallowest and deepest of each family, lowest seed: as Figure 7 has 20 and 56 layers."""
    found: list[str] = []
    for family in ("plain", "residual"):
        own = [label for label, run in runs.items() if run.network.family == family]
        own.sort(key=lambda label: (runs[label].network.depth, runs[label].config.seed))
        if own:
            deepest = runs[own[-1]].network.depth
            found += [own[0], next(label for label in own if runs[label].network.depth == deepest)]
    return list(dict.fromkeys(found))


def measured(
    chosen: Sequence[store.RunRecord],
) -> tuple[pd.DataFrame, dict[str, dict[str, float]], list[str]]:
    """Responses as a frame for `plots`, by run and layer name, and what could not be measured."""
    rows: list[dict[str, Any]] = []
    by_name: dict[str, dict[str, float]] = {}
    problems = []
    for run in chosen:
        try:
            found = inside.responses(run)
        except UsageError as error:
            problems.append(f"{run.name}: {error}")
            continue
        numbers = [math.nan if value is None else value for value in found["values"]]
        by_name[run.name] = dict(zip(found["layers"], numbers, strict=True))
        rows += [run.identity() | {"layer": i, "value": value} for i, value in enumerate(numbers)]
        images.add((found["step"], found["images"]))
    return pd.DataFrame(rows, columns=[*store.IDENTITY, "layer", "value"]), by_name, problems


def stored(study: store.Study) -> store.Measurement | None:
    """Responses that notebook 07 has measured on trained weights: of this study, else of another."""
    paths = store.find_measurements(RESPONSES, cached.root())
    for path in sorted(paths, key=lambda path: path.parent.name != study.name):
        try:
            found = store.read_measurement(path)
        except UsageError:
            continue  # one that cannot be read is none; the notebook writes it anew
        if {*store.IDENTITY, "layer", "value"} <= {*found.frame} and not found.frame.empty:
            return found
    return None


def by_name(
    found: store.Measurement, network: str, anatomy: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """The stored responses of a network by the names of its layers, averaged over seeds."""
    layers = [layer["name"] for part in anatomy[:-1] for layer in part["layers"]]
    main = [name for name in layers if ".shortcut." not in name]
    own = found.frame[found.frame["network"] == network]
    return dict(zip(main, own.groupby("layer")["value"].mean().tolist(), strict=False))


study = frame.open_study(
    "Inside the networks",
    "A plain network and a residual one of the same depth differ in nothing but the shortcuts: "
    "same layers, same filters, and with option A the same number of parameters.",
)
networks = offered(study)
name = st.selectbox(
    "Network",
    list(networks),
    key="network",
    bind="query-params",
    help="The study's networks first, deepest first; then those of the paper.",
)
network = networks.get(str(name), next(iter(networks.values())))
plain = _changed(network, "none")
shown = [one for one in (plain, network) if one is not None]
runs = {one.name: run_of(study, one.name) for one in shown}
classes, channels, size, whose = images_of(runs[network.name] or next(iter(runs.values())), network)

parts: dict[str, list[dict[str, Any]]] = {}
try:
    with st.spinner("Building the networks ..."):
        for one in shown:
            parts[one.name] = inside.anatomy(one.name, classes, channels, size)
except UsageError as error:
    st.text(frame.shown(f"The networks could not be built: {error}"))
    st.stop()

labels = {part["name"]: plots.part_label(part) for part in parts[network.name]}
st.session_state["labels of blocks"] = labels
growing = next(
    (p["name"] for p in parts[network.name] if p["shortcut"] not in ("none", "identity")), ""
)
picked = st.selectbox(
    "Block",
    list(labels.values()),
    index=list(labels).index(growing) if growing else 0,
    key="block",
    bind="query-params",
    help="Or click on a box in the drawing.",
)
chosen = next((key for key, label in labels.items() if label == picked), "conv")
drawing(parts, chosen)
st.text(frame.shown(f"Shapes and multiply-adds are for {whose}, {channels} × {size} × {size}."))

# --- layer responses: asked for before one block is shown, drawn behind it ---
images: set[tuple[int | None, int]] = set()
with_weights = frame.labelled((run.name, run) for run in study.runs if inside.weights(run))
measure = False
responses, by_run, problems = measured([])
numbers, figure_7 = st.container(), st.container()
with figure_7:
    st.header("Layer responses", anchor=False)
    st.markdown(
        "Figure 7 of the paper: the standard deviation of what each 3×3 layer puts out, after batch "
        "norm and before ReLU or addition. The paper finds smaller responses in residual networks, "
        "and the smaller the deeper: a single block of a deep residual network changes its input less."
    )
    kept = None if with_weights else stored(study)
    if kept is not None:
        responses = kept.frame
        where = f"study {kept.info.get('study')}, {kept.info.get('what')}"
        st.text(frame.shown(f"Measured by notebook 07 on weights that are not here: {where}."))
    elif not with_weights:
        st.info(
            "No weights of this study are on this machine, so nothing can be measured here. The "
            "reference studies ship without them; a study that you train keeps its checkpoints:",
            icon=":material/straighten:",
        )
        st.code(f"resnetlab train {network.name} --study mine --data digits", language="bash")
    else:
        selected = st.multiselect(
            "Runs to measure",
            list(with_weights),
            default=frame.follow("measured", first_choice(with_weights)[:MOST_RUNS], study),
            key="measured",
            bind="query-params",
            max_selections=MOST_RUNS,
            help=f"Those with a checkpoint on this machine, up to {MOST_RUNS}.",
        )
        measure = st.toggle(
            "Measure",
            key="measure",
            bind="query-params",
            help="Loads the newest checkpoint of each run: a few seconds a run, then remembered.",
        )
        if measure:
            wanted = [with_weights[label] for label in selected if label in with_weights]
            with st.spinner("Measuring ..."):
                responses, by_run, problems = measured(wanted[:MOST_RUNS])
    for problem in problems:
        st.text(frame.shown(problem))
    papers = st.toggle(
        "The paper's lines",
        value=not with_weights and kept is None,
        key="papers",
        bind="query-params",
        help="Read from the paper's Figure 7: CIFAR-10, 64,000 steps.",
    )
    lines = [line for line in paper.curves() if line.quantity == "response"] if papers else []
    if len(responses) or lines:
        # Plain networks may answer far more strongly than residual ones.
        values = responses["value"][responses["value"] > 0]
        log = len(values) > 0 and values.max() > 20 * values.min()
        figure = plots.layer_responses(responses, lines, theme=frame.theme(), log=log)
        frame.chart(figure, "responses")
    if images:
        step_and_images = "; ".join(
            f"step {step}, {count} images" for step, count in sorted(images, key=str)
        )
        st.text(f"Measured on test images in evaluation mode: {step_and_images}.")
    if len(responses) and lines:
        labels_of = responses[["data", "recipe"]].drop_duplicates().itertuples(index=False)
        for reason in sorted({why for pair in labels_of for why in verdict.not_comparable(*pair)}):
            st.text(frame.shown(f"Not to be compared number by number: {reason}."))

with numbers:
    st.header(labels[chosen].capitalize(), anchor=False)
    columns = st.columns(len(shown))
    for column, one in zip(columns, shown, strict=True):
        part = next(part for part in parts[one.name] if part["name"] == chosen)
        run = runs[one.name]
        step, norms = last_norms(run)
        deviations = by_run.get(run.name, {}) if run is not None else {}
        if kept is not None:
            deviations = by_name(kept, one.name, parts[one.name])
        with column, st.container(border=True):
            st.markdown(f"**{one.name}**")
            st.latex(formula(part, one.design))
            st.dataframe(
                facts(part),
                hide_index=True,
                key=f"facts {one.name}",
                column_config={
                    "what": frame.text("Whole block" if "block" in labels[chosen] else "Whole part"),
                    "value": frame.text(one.name, alignment="right"),
                },
            )
            table = layers(part, norms, deviations)
            st.dataframe(
                table.dropna(axis="columns", how="all"),
                hide_index=True,
                key=f"layers {one.name}",
                placeholder="",
                column_config={
                    "layer": frame.text("Layer"),
                    "kernel": frame.text("Kernel"),
                    "filters": frame.number("Filters", form="%d"),
                    "stride": frame.number("Stride", form="%d"),
                    "gradient": frame.number(
                        "Gradient",
                        "L2 norm, of the weight's gradient, at the last logged step.",
                        "%.3g",
                    ),
                    "response": frame.number(
                        "Response", "Standard deviation after batch norm, Figure 7.", "%.3g"
                    ),
                },
            )
            if run is None:
                st.markdown("No run of it in this study: no gradient norm.")
            elif step < 0:
                st.text(frame.shown(f"No gradient norms are logged in {run.name}."))
            else:
                st.text(frame.shown(f"Gradient norms of {run.name} at step {step:,}."))
