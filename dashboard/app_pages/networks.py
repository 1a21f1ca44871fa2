"""What a network is made of: its blocks and shortcuts, one block in numbers, and layer responses."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cached, frame
from resnetlab import config, paper, plots, store, verdict
from resnetlab.config import UsageError

PAPERS = [f"resnet-{depth}" for depth in (20, 32, 44, 56, 110, 18, 34, 50, 101, 152)]
DEEPEST = 200  # a drawing of more layers would be a line
MOST_RUNS = 6  # whose responses are measured at a time
MOST_PIXELS, MOST_CLASSES = 1024, 100_000
FILMED = ("gradient_norm", "relative_update")  # the probes that colour the film
RESPONSES = "layer-responses"  # what notebook 07 calls its measurement

TEX = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
LAYER_COLUMNS = frame.columns("layers")

Part = Mapping[str, Any]  # an entry of `nets.parts`


def page() -> None:
    study = frame.open_study("networks")
    hint = "The study's networks first, deepest first; then those of the paper."
    network = frame.choose("Network", offered(study), "network", hint)
    networks = [one for one in (with_shortcut(network, "none"), network) if one is not None]
    runs = {one.name: run_of(study, one.name) for one in networks}
    run = runs[network.name] or next(iter(runs.values()))
    classes, channels, size, whose = images_of(run, network)
    try:
        with st.spinner("Building the networks ..."):
            parts = cached.anatomy([one.name for one in networks], classes, channels, size)
    except UsageError as error:
        frame.say(f"The networks could not be built: {error}")
        return
    block = choose_block(parts[network.name])
    drawing = plots.network_drawing(parts, block)
    every = [(one, part) for one, of_one in parts.items() for part in of_one]
    values = pd.DataFrame([{"network": one} | without_layers(part) for one, part in every])
    source, alt = (
        frame.Source(values, "00_the_idea"),
        frame.alt("Networks block by block.", drawn(parts)),
    )
    click: dict[str, Any] = {"on_select": take_click, "selection_mode": "points"}
    frame.chart(drawing, "drawing", source=source, alt=alt, **click)
    frame.say(f"Shapes and multiply-adds are for {whose}, {channels} × {size} × {size}.")

    show_film([found for found in runs.values() if found is not None], study)
    # Responses are asked for before the block that shows them, and drawn behind it.
    numbers, figure_7 = st.container(), st.container()
    with figure_7:
        responses = show_responses(study, network)
    with numbers:
        label = plots.part_label(next(part for part in parts[network.name] if part["name"] == block))
        frame.section(label.capitalize())
        for column, one in zip(st.columns(len(networks)), networks, strict=True):
            with column, st.container(border=True):
                show_block(one, parts[one.name], block, runs[one.name], responses)


# --- what there is to show --------------------------------------------------------------------


def with_shortcut(network: config.Network, shortcut: str) -> config.Network | None:
    """The network with another shortcut option; single-layer blocks have no plain counterpart."""
    try:
        return config.Network.parse(network.model_dump() | {"shortcut": shortcut})
    except UsageError:
        return None


def offered(study: store.Study) -> dict[str, config.Network]:
    """Residual networks to draw: the study's, deepest first, then the paper's others.

    A plain network stands for the residual one of its depth, option A as in the paper.
    """
    trained = [run.network for run in study.runs]
    residual = [with_shortcut(one, "A") if one.family == "plain" else one for one in trained]
    drawable = sorted(filter(None, residual), key=lambda network: (-network.depth, network.name))
    others = [config.Network.from_name(name) for name in PAPERS]
    return {network.name: network for network in (*drawable, *others) if network.depth <= DEEPEST}


def run_of(study: store.Study, name: str) -> store.RunRecord | None:
    """A run of that network: a finished one if there is one, of the lowest seed."""
    runs = [run for run in study.runs if run.config.network_name == name]
    return min(runs, key=lambda run: (run.status != "finished", run.config.seed), default=None)


def images_of(run: store.RunRecord | None, network: config.Network) -> tuple[int, int, int, str]:
    """Classes, channels and pixels a side of the images to draw for, and whose they are."""
    match run.info.get("dataset") if run else None:
        case {"classes": list(classes), "shape": [int(channels), height, _]} if run:
            size = run.config.recipe.crop or height  # files of many sizes have no height, but a crop
            if type(size) is not int:
                size = 0
            fits = network.smallest_image <= size <= MOST_PIXELS and 1 <= channels <= MOST_PIXELS
            if fits and 1 <= len(classes) <= MOST_CLASSES:
                return len(classes), channels, size, f"the images of {run.config.data.label}"
    usual = 1000 if network.design == "imagenet" else 10
    return usual, 3, network.native_size, "the images of the paper"


def show_film(runs: Sequence[store.RunRecord], study: store.Study) -> None:
    """Both networks through their training, coloured by what was probed."""
    probes = {kind: cached.probes(runs, kind) for kind in FILMED}
    if any(len(rows) for rows in probes.values()):
        figure = plots.film(probes, cached.metrics(runs))
        names = " and ".join(run.name for run in runs)
        alt = (
            f"{names}: gradient norm and relative step of each layer, one picture for each probed step."
        )
        values = pd.concat([rows.assign(kind=kind) for kind, rows in probes.items()])
        source = frame.Source(values, "03_gradient_norms", study)
        frame.section(
            "Through the training", "Play it, or draw the slider: boxes and cursor move together."
        )
        frame.chart(figure, "film", source=source, alt=alt)


# --- the drawing and one block of it ----------------------------------------------------------


def without_layers(part: Part) -> dict[str, Any]:
    """A part as a row of a table."""
    return {key: value for key, value in part.items() if key != "layers"}


def drawn(networks: Mapping[str, Sequence[Part]]) -> list[str]:
    """What is seen of the networks, a sentence each."""
    sentences = []
    for name, parts in networks.items():
        shortcuts = Counter(part["shortcut"] for part in parts if part["shortcut"] != "none")
        kinds = ", ".join(f"{count} {kind}" for kind, count in shortcuts.items()) or "none"
        blocks = sum(part["kind"] not in ("stem", "classifier") for part in parts)
        sentences.append(f"{name}: {frame.count(blocks, 'block')}; shortcuts: {kinds}.")
    return sentences


def choose_block(parts: Sequence[Part]) -> str:
    """The name of the block to show, at first the first one that changes the shape."""
    blocks = {plots.part_label(part): str(part["name"]) for part in parts}
    st.session_state["labels of blocks"] = {name: label for label, name in blocks.items()}
    changes = [part["shortcut"] not in ("none", "identity") for part in parts]
    first = changes.index(True) if any(changes) else 0
    return frame.choose("Block", blocks, "block", "Or click on a box in the drawing.", first=first)


def take_click() -> None:
    """A click on a box chooses its block."""
    points = st.session_state["drawing"]["selection"]["points"]
    clicked = points[0].get("customdata") if points else None
    if isinstance(clicked, list):
        clicked = clicked[0] if clicked else None
    if clicked in st.session_state.get("labels of blocks", {}):
        st.session_state["block"] = st.session_state["labels of blocks"][clicked]


def show_block(
    network: config.Network,
    parts: Sequence[Part],
    block: str,
    run: store.RunRecord | None,
    responses: pd.DataFrame,
) -> None:
    """A block's formula, its numbers, and gradient norm and response of its layers where known."""
    part = next(part for part in parts if part["name"] == block)
    st.markdown(f"**{network.name}**")
    st.latex(formula(part, network.design))
    columns = {
        "what": frame.text("Whole block" if "." in block else "Whole part"),
        "value": frame.text(network.name, alignment="right"),
    }
    facts = {
        "in (channels × height × width)": " × ".join(f"{side:,}" for side in part["shape_in"]),
        "out": " × ".join(f"{side:,}" for side in part["shape_out"]),
        "parameters": f"{part['parameters']:,}",
        "multiply-adds of one image": f"{part['multiply_adds']:,}",
    }
    frame.table(pd.DataFrame(facts.items(), columns=[*columns]), f"facts {network.name}", columns)
    norms = run.probe() if run else pd.DataFrame(columns=["step", "name", "value"])
    last = norms[norms["step"] == norms["step"].max()]
    gradients = dict(zip(last["name"], last["value"], strict=True))
    names = response_layers(parts)
    means = dict(responses[responses["network"] == network.name].groupby("layer")["value"].mean())
    layers = pd.DataFrame(
        {
            "layer": layer["name"].removeprefix(f"{block}.").removeprefix("residual."),
            "kernel": "linear" if block == "classifier" else f"{layer['kernel']}×{layer['kernel']}",
            "filters": layer["filters"],
            "stride": layer["stride"],
            "gradient": gradients.get(layer["name"]),
            "response": means.get(names.index(layer["name"])) if layer["name"] in names else None,
        }
        for layer in part["layers"]
    )
    layers = layers.astype({"gradient": float, "response": float})
    frame.table(layers.dropna(axis="columns", how="all"), f"layers {network.name}", LAYER_COLUMNS)
    if run is None:
        st.markdown("No run of it in this study: no gradient norm.")
    elif norms.empty:
        frame.say(f"No gradient norms are logged in {run.name}.")
    else:
        frame.say(f"Gradient norms of {run.name} at step {norms['step'].max():,}.")


def formula(part: Part, design: str) -> str:
    """What the part computes, as TeX."""
    kind, parts = part["kind"], TEX["part"]
    if kind in parts:
        return str(parts.get(f"{kind} of {design}", parts[kind]))
    lines = rf"{TEX['shortcut'][part['shortcut']]}\\{TEX['residual'][kind]}"
    return rf"\begin{{gathered}}{lines}\end{{gathered}}"


# --- layer responses --------------------------------------------------------------------------


def response_layers(parts: Sequence[Part]) -> list[str]:
    """Names of the layers that Figure 7 shows, as `probes.response_layers` has them."""
    layers = [(part["kind"], layer) for part in parts for layer in part["layers"]]
    return [layer["name"] for kind, layer in layers if kind == "stem" or layer["kernel"] == 3]


def show_responses(study: store.Study, network: config.Network) -> pd.DataFrame:
    """Draw Figure 7 of what is measured here or stored; the responses as `plots` takes them."""
    frame.section(
        "Layer responses",
        "Figure 7 of the paper: the standard deviation of what each 3×3 layer puts out, after batch "
        "norm and before ReLU or addition. The paper finds smaller responses in residual networks, "
        "and the smaller the deeper: a single block of a deep residual network changes its input less.",
    )
    with_weights = frame.labelled((run.name, run) for run in study.runs if cached.weights(run))
    stored = stored_responses(study)
    if stored is not None and with_weights and study.name not in {*stored.frame["study"]}:
        stored = None  # another study's, where this one's own can be measured
    chosen = choose_measured(with_weights, study, network) if with_weights or stored is None else []
    conditions: set[str] = set()
    if stored is not None and not chosen:
        responses = stored.frame
        where = f"study {stored.info.get('study')}, {stored.info.get('what')}"
        frame.say(f"Measured by notebook 07 on trained weights: {where}.")
    else:
        responses, conditions = measure(chosen)
    hint = "Read from the paper's Figure 7: CIFAR-10, 64,000 steps."
    with_paper = frame.switch(
        "The paper's lines", "papers", hint, on=not with_weights and stored is None
    )
    lines = [line for line in paper.curves() if line.quantity == "response"] if with_paper else []
    if len(responses) or lines:
        # Plain networks may answer far more strongly than residual ones.
        values = responses["value"][responses["value"] > 0]
        log = len(values) > 0 and values.max() > 20 * values.min()
        source = frame.Source(responses, "07_layer_responses", study) if len(responses) else None
        alt = frame.alt("Layer responses, layer by layer.", verdict.on_responses(responses))
        figure = plots.layer_responses(responses, lines, log=log)
        frame.chart(figure, "responses", source=source, alt=alt)
    if conditions:
        st.text(f"Measured on test images in evaluation mode: {'; '.join(sorted(conditions))}.")
    if lines:
        reasons = verdict.reasons_apart(responses)
        frame.say(*(f"Not to be compared number by number: {reason}." for reason in reasons))
    return responses


def stored_responses(study: store.Study) -> store.measurements.Measurement | None:
    """Responses that notebook 07 has measured on trained weights: of this study, else of another."""
    others = None
    for path in store.find_measurements(RESPONSES, cached.root()):
        try:
            measurement = cached.measurement(path)
        except UsageError:
            continue  # one that cannot be read is none; the notebook writes it anew
        responses = measurement.frame
        if {*store.IDENTITY, "layer", "value"} <= {*responses} and not responses.empty:
            if study.name in {*responses["study"]}:
                return measurement
            others = others or measurement
    return others


def choose_measured(
    with_weights: Mapping[str, store.RunRecord], study: store.Study, network: config.Network
) -> list[store.RunRecord]:
    """The runs whose responses are to be measured now; without weights what makes some."""
    if not with_weights:
        st.info(
            "No weights of this study are on this machine, so nothing can be measured here. Most "
            "reference runs come without them; a study that you train keeps its checkpoints:",
            icon=":material/straighten:",
        )
        st.code(f"resnetlab train {network.name} --study mine --data digits", language="bash")
        return []
    hint = f"Those whose weights are on this machine, up to {MOST_RUNS}."
    runs = frame.choose_runs("Runs to measure", with_weights, study, "measured", MOST_RUNS, hint)
    hint = "Loads the newest checkpoint of each run: a few seconds per run, then remembered."
    return [*runs.values()] if frame.switch("Measure", "measure", hint) else []


def measure(runs: Sequence[store.RunRecord]) -> tuple[pd.DataFrame, set[str]]:
    """Responses of the runs' newest weights as `plots` takes them, and how each was measured.

    Says what cannot be measured.
    """
    rows: list[dict[str, Any]] = []
    conditions = set()
    for run in runs:
        try:
            with st.spinner("Measuring ..."):
                answer = cached.responses(run)
        except UsageError as error:
            frame.say(f"{run.name}: {error}")
            continue
        conditions.add(f"step {answer['step']}, {answer['images']} images")
        who = run.identity()
        rows += [who | {"layer": i, "value": value} for i, value in enumerate(answer["values"])]
    responses = pd.DataFrame(rows, columns=[*store.IDENTITY, "layer", "value"])
    return responses.astype({"value": float}), conditions


page()
