"""Curves of any runs of any studies, averaged over seeds or one by one, with numbers and files."""

import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import streamlit as st

from dashboard import cached, frame
from resnetlab import config, plots, store, verdict
from resnetlab.plots import series

MOST_RUNS = 200  # at a time; a browser draws no more curves in reasonable time
RUNS_AT_FIRST = 5  # of one depth
LOOK_SECONDS = 3.0  # between two looks at runs of other studies
# What stands in the page's address -> what it means; the first is what is shown at first.
AXES: dict[str, series.Axis] = {
    "step": "step",
    "epoch": "epoch",
    "wall time": "seconds",
    "images seen": "images",
}
BANDS: dict[str, series.Spread] = {
    "lowest to highest": "range",
    "standard deviation": "sd",
    "standard error": "se",
    "none": "none",
}
BANDS_SAID = {kind: said for said, kind in BANDS.items()}
SEEDS, SINGLE = "mean over seeds", "single runs"
BY = {f"mean by {what}": what for what in series.GROUPINGS}
FORMATS = ("svg", "png")

Runs = dict[str, store.RunRecord]  # by STUDY/RUN as shown


def every_run() -> Runs:
    """All readable runs in the results folder."""
    root = cached.root()
    return frame.labelled(
        (f"{path.relative_to(root).as_posix()}/{run.name}", run)
        for path in store.find_studies(root)
        for run in cached.study(path).runs
    )


def first_choice(runs: Runs, study: store.Study) -> list[str]:
    """A few seeds of the study's shallowest and deepest network of each family."""
    own = {label: run for label, run in runs.items() if run.path.parent == study.path}
    found: list[str] = []
    for family in ("plain", "residual"):
        depths = [run.network.depth for run in own.values() if run.network.family == family]
        for depth in sorted({min(depths), max(depths)}) if depths else []:
            found += [
                label
                for label, run in own.items()
                if (run.network.family, run.network.depth) == (family, depth)
            ][:RUNS_AT_FIRST]
    return found


def look_again(chosen: Runs, drawn: tuple[cached.Stamp, ...]) -> None:
    """Draw the page again when a chosen run of another study has grown."""
    if not st.session_state.get("pause") and stamps(chosen) != drawn:
        st.rerun()


def stamps(chosen: Runs) -> tuple[cached.Stamp, ...]:
    return tuple(cached.stamp(run.path, store.LOGS) for run in chosen.values())


def place_of(run: store.RunRecord) -> tuple[str, str]:
    study = run.path.parent.relative_to(cached.root()).as_posix()
    return frame.shown(study, 80), frame.shown(run.name, 80)


def lines_of(
    chosen: Runs,
    logs: dict[str, pd.DataFrame],
    quantity: str,
    axis: series.Axis,
    curves_are: str,
    kind: series.Spread,
    weight: float,
) -> tuple[list[series.Line], list[list[store.RunRecord]]]:
    """The curves in the order of the legend, and the runs of each."""
    labels = sorted(
        chosen,
        key=lambda label: (
            (run := chosen[label]).network.family,
            run.network.depth,
            run.config.network_name,
            run.config.seed,
        ),
    )
    records = [chosen[label] for label in labels]
    runs = [run.config for run in records]
    curves = series.smoothed(
        [
            series.curve(logs[label], quantity, axis, run.recipe.batch_size)
            for label, run in zip(labels, runs, strict=True)
        ],
        weight,
    )
    by = BY.get(curves_are)
    together = [[index] for index in range(len(runs))]
    if curves_are != SINGLE:
        together = series.groups(runs, by)
    places = [place_of(run) for run in records]
    firsts = [members[0] for members in together]
    if by:
        names = [series.GROUPINGS[by](runs[index]) for index in firsts]
    elif curves_are == SEEDS:
        names = series.names([runs[index] for index in firsts], seeds=False)
    else:
        names = series.names(runs, places)
    lines = []
    names = series.numbered([frame.shown(name, 120) for name in names])
    for name, members in zip(names, together, strict=True):
        own = [runs[index] for index in members]
        within = series.names(own, [places[index] for index in members]) if len(own) > 1 else [""]
        own_curves = [curves[index] for index in members]
        lines.append(series.line(name, within, own_curves, own[0].network.depth, kind))
    return lines, [[records[index] for index in members] for members in together]


def remarks(
    chosen: Runs,
    lines: list[series.Line],
    members: list[list[store.RunRecord]],
    axis: series.Axis,
) -> list[str]:
    """What the reader has to know about these curves, a sentence each; may hold names from disk."""
    found = []
    for line, own in zip(lines, members, strict=True):
        kinds = len(series.groups([run.config for run in own]))
        if kinds > 1:
            found.append(
                f"{line.name}: its {len(own)} runs have {kinds} configurations; each run counts once."
            )
        filled = [curve for curve in line.curves if len(curve)]
        if len(line.curves) > 1 and len(filled) < len(line.curves):
            missing = frame.count(len(line.curves) - len(filled), "run")
            found.append(f"{line.name}: {missing} without any value, not counted.")
        if len(filled) > 1 and line.mean.empty:
            found.append(f"{line.name}: its runs share no logged step, so there is no mean.")
        elif len(filled) > 1:
            last, longest = (
                int(line.mean["step"].iloc[-1]),
                max(int(c["step"].iloc[-1]) for c in filled),
            )
            if last < longest:
                found.append(
                    f"{line.name}: the mean ends at step {last:,}, the last that all "
                    f"{len(filled)} runs logged; one goes on to {longest:,}."
                )
    seeds = [run.config for run in chosen.values()]
    if len(set(seeds)) < len(seeds):
        found.append(
            "Some runs have the same configuration and the same seed: they are not independent, and a "
            "spread over them is too small."
        )
    for label, run in chosen.items():
        if run.status == "diverged":
            step = run.summary.get("diverged_at") if run.summary else None
            at = f" at step {step:,}" if type(step) is int else ""
            found.append(f"{label} diverged{at}: what was not finite is left out.")
        elif run.status in ("failed", "interrupted"):
            found.append(f"{label} is {run.status}: its curve is not at its end.")
    if axis == "seconds":
        found.append(
            "Wall time counts training only, all starts together. Compare it only between runs on the "
            "same machine; the mean stands at the mean time of its step."
        )
    return found


def differing(first: list[config.Run], second: list[config.Run], seeds: bool) -> pd.DataFrame:
    """Fields in which the runs of two curves differ, with the values of each; `seeds`: theirs too."""
    sides = [[config.fields(run) for run in runs] for runs in (first, second)]
    rows = []
    for key in dict.fromkeys(key for side in sides for own in side for key in own):
        values = [{json.dumps(own.get(key, config.USUAL)) for own in side} for side in sides]
        if values[0] != values[1] and (seeds or key != "seed"):
            rows.append([key, *(frame.shown(", ".join(sorted(own))) for own in values)])
    return pd.DataFrame(rows, columns=["field", "first", "second"])


def logged(run: store.RunRecord) -> pd.DataFrame:
    return series.with_gradient_norms(run.metrics, run.probe())


def outcomes(chosen: Runs) -> pd.DataFrame:
    """One row per run, as `store.table_of`; names from disk may hold what no text does."""
    rows = [{key: series.valid_text(v) for key, v in run.as_row().items()} for run in chosen.values()]
    return pd.DataFrame(rows, columns=[*store.IDENTITY, *store.OUTCOME])


def all_points(chosen: Runs) -> pd.DataFrame:
    """Every logged row of the runs, unsmoothed: who it is, the four axes, all quantities."""
    parts = []
    for run in chosen.values():
        rows = logged(run)
        identity = run.identity() | {"study": place_of(run)[0], "run": run.name}
        identity = {key: series.valid_text(value) for key, value in identity.items()}
        rows = rows.assign(**identity, images=rows["step"] * run.config.recipe.batch_size)
        parts.append(rows.reindex(columns=[*store.IDENTITY, *series.AXES, *series.QUANTITIES]))
    return pd.concat(parts, ignore_index=True).dropna(axis="columns", how="all")


study = frame.open_study(
    "Compare runs",
    "Any runs of any studies in one picture. At first: the shallowest and the deepest networks of each "
    f"family in the study chosen on the left, up to {RUNS_AT_FIRST} runs each.",
)
runs = every_run()
if not runs:
    st.stop()

picked = st.multiselect(
    "Runs (study/run)",
    list(runs),
    default=frame.follow("compare", first_choice(runs, study), study),
    key="compare",
    bind="query-params",
    max_selections=MOST_RUNS,
    help=f"Of all studies; type to search. Up to {MOST_RUNS}.",
)
chosen = {label: runs[label] for label in picked if label in runs}
if not chosen:
    st.info("Choose at least one run.", icon=":material/stacked_line_chart:")
    st.stop()
elsewhere = {
    label: run
    for label, run in chosen.items()
    if run.status == "running" and run.path.parent != study.path
}
if elsewhere:
    st.fragment(look_again, run_every=LOOK_SECONDS)(elsewhere, stamps(elsewhere))

logs = {label: run.metrics for label, run in chosen.items()}
quantities = [
    name
    for name in series.QUANTITIES
    if any(name in log and log[name].notna().any() for log in logs.values())
]
if any(len(run.probe()) for run in chosen.values()):
    quantities += [name for name in series.QUANTITIES if name.startswith("gradient_norm")]
if not quantities:
    st.info("These runs have not logged anything yet.", icon=":material/hourglass_empty:")
    st.stop()

# --- choices ----------------------------------------------------------------------------------

one, two, three, four = st.columns(4, vertical_alignment="bottom")
by_label = {name.replace("_", " "): name for name in quantities}
quantity = by_label[
    one.selectbox("Quantity", list(by_label), key="y", bind="query-params") or next(iter(by_label))
]
if quantity.startswith("gradient_norm"):
    logs = {label: logged(run) for label, run in chosen.items()}
axis = AXES[two.selectbox("Against", list(AXES), key="x", bind="query-params")]
curves_are = three.selectbox(
    "Curves",
    [SEEDS, SINGLE, *BY],
    key="group",
    bind="query-params",
    help="The mean is over runs whose configurations differ in nothing but the seed, or that have in "
    "common what is chosen here, at the steps that every one of them logged: nothing is interpolated.",
)
grouped = curves_are != SINGLE
kind = BANDS[
    four.selectbox(
        "Band",
        list(BANDS),
        key="band",
        bind="query-params",
        disabled=not grouped,
        help="Around the mean, of the runs at that step. Standard deviation: of the sample, mean ± "
        "one. Standard error: that divided by √n. Needs two runs.",
    )
]
left, middle, right, image = st.columns([2, 1, 1, 1.4], vertical_alignment="bottom")
weight = left.slider(
    "Smoothing",
    0.0,
    0.99,
    0.0,
    0.01,
    key="smooth",
    bind="query-params",
    help="Time-weighted exponential moving average, debiased, as Weights & Biases defines it: it "
    "reaches over a share of the axis, so short curves need more. The raw values stay faint beneath; "
    "the table below is never smoothed.",
)
log_x = middle.toggle("Log x", key="logx", bind="query-params")
log_y = right.toggle("Log y", key="logy", bind="query-params")
form = image.segmented_control(
    "Camera button saves",
    FORMATS,
    default=FORMATS[0],
    format_func=str.upper,
    key="image",
    help="The camera above the chart saves it as it is shown, made in the browser.",
)

# --- the chart --------------------------------------------------------------------------------

lines, members = lines_of(chosen, logs, quantity, axis, curves_are, kind, weight)
by_row = [line.name for line in lines]
# The table stands below the chart; which of its rows are selected is known from the last drawing.
selection = st.session_state.get("numbers")
rows_shown = st.session_state.get("numbers, as shown", [])
bold = (
    [rows_shown[row] for row in selection.selection.rows if row < len(rows_shown)] if selection else []
)
bold = [name for name in bold if name in by_row]


def draw(theme: plots.Theme) -> go.Figure:
    said = [frame.shown(series.common([run.config for run in chosen.values()]), 200)]
    said += [f"smoothed, weight {weight:g}"] if weight else []
    if any(line.averaged for line in lines):
        over = "seeds" if curves_are == SEEDS else f"all runs of one {BY[curves_are]}"
        said.append(f"mean over {over}" + ("" if kind == "none" else f", band: {BANDS_SAID[kind]}"))
    return plots.compare_curves(
        lines,
        quantity,
        axis,
        log_x=log_x,
        log_y=log_y,
        smoothing=weight,
        bold=bold,
        subtitle="; ".join(filter(None, said)),
        theme=theme,
    )


figure = draw(frame.theme())
camera = {"format": form or FORMATS[0], "filename": f"{quantity}-by-{axis}", "scale": 2}
frame.chart(figure, "curves", {"toImageButtonOptions": camera})
counts = figure.layout.meta or {"shown": 0, "logged": 0, "off": 0}
said = f"Shown: {counts['shown']:,} of {counts['logged']:,} points"
if counts["shown"] < counts["logged"]:
    said += ", the lowest and the highest of every stretch of a curve, so that no spike is lost"
said += (
    f". {counts['off']:,} of them are not positive: a log axis has no place." if counts["off"] else "."
)
if not counts["logged"]:
    said = f"No chosen run has {series.QUANTITIES[quantity]} by {series.AXES[axis]}."
st.text(said)
notes = remarks(chosen, lines, members, axis)
if notes:
    with st.expander(f"Notes on these curves ({len(notes)})", icon=":material/info:"):
        for note in notes[:40]:
            st.text(frame.shown(note))
        if len(notes) > 40:
            st.text(f"and {len(notes) - 40} more.")

# --- the numbers ------------------------------------------------------------------------------

st.header("Numbers", anchor=False)
steps = sorted({int(step) for line in lines for curve in line.curves for step in curve["step"]})
search, at = st.columns([3, 1], vertical_alignment="bottom")
wanted = search.text_input(
    "Filter", key="filter", bind="query-params", placeholder="words that the name must hold"
)
asked = at.number_input(
    "At step",
    min_value=0,
    value=None,
    key="at",
    bind="query-params",
    placeholder="last shared",
    help="The nearest step that a chosen run logged; runs without that step stay empty.",
)
logged_steps = [set(curve["step"]) for line in lines for curve in line.curves if len(curve)]
common = set.intersection(*logged_steps) if logged_steps else set()
step = int(max(common)) if common else (steps[-1] if steps else None)
if asked is not None and steps:
    step = steps[int(np.abs(np.array(steps) - asked).argmin())]

table = series.table_of(lines, quantity, step)
table.insert(
    2, "seeds", [", ".join(str(s) for s in sorted({r.config.seed for r in m})) for m in members]
)
table["status"] = [", ".join(sorted({run.status for run in own})) for own in members]
words = (wanted or "").casefold().split()
table = table[[all(word in name.casefold() for word in words) for name in table["name"]]]
if not grouped:
    table = table.drop(columns=["n", "last_sd", "best_sd", "at_sd", "at_n"])
else:
    table.loc[table["at_n"] == table["n"], "at_n"] = None
    table = table if table["at_n"].notna().any() else table.drop(columns="at_n")
if series.better(quantity) is None:
    table = table.drop(columns=["best", "best_sd"], errors="ignore")
names_shown = list(table["name"])
if names_shown != rows_shown:
    st.session_state["numbers, as shown"] = names_shown
end = {"min": "Lowest", "max": "Highest", None: ""}[series.better(quantity)]
form_of = "%.2f" if quantity.endswith("_error") else "%.4g"
at_label = f"At step {step:,}" if step is not None else "At step"
st.markdown(
    f"{series.QUANTITIES[quantity][0].upper()}{series.QUANTITIES[quantity][1:]}, as logged and not "
    "smoothed. Click a heading to sort; select rows to make their curves stand out."
)
if table.empty:
    st.info("No curve has these words in its name.", icon=":material/filter_alt_off:")
else:
    st.dataframe(
        table,
        hide_index=True,
        key="numbers",
        on_select="rerun",
        selection_mode="multi-row",
        height="content" if len(table) <= 20 else 600,
        placeholder="",
        column_config={
            "name": frame.text("Network" if len(lines) == 1 else "Curve", pinned=True),
            "n": frame.number("n", "Runs with values.", "%d"),
            "seeds": frame.text("Seeds"),
            "last": frame.number(
                "Last", "At the last logged step: final, where the run ended.", form_of
            ),
            "last_sd": frame.number("± sd", "Sample standard deviation of the last values.", form_of),
            "best": frame.number(end, "Of each run over all its steps, then averaged.", form_of),
            "best_sd": frame.number(
                "± sd", f"Sample standard deviation of the {end.lower()} values.", form_of
            ),
            "at": frame.number(at_label, "Empty for runs that did not log this step.", form_of),
            "at_sd": frame.number(
                "± sd", "Sample standard deviation of the values at that step.", form_of
            ),
            "at_n": frame.number("n there", "Runs that logged that step, where not all did.", "%d"),
            "status": frame.text("Status"),
        },
    )

# --- in words ---------------------------------------------------------------------------------

if len(chosen) > 1:
    st.header("In words", anchor=False)
    for sentence in verdict.answers(outcomes(chosen)):
        st.text(frame.shown(sentence, 2000))
    for sentence in store.notes(chosen.values()):
        st.text(frame.shown(sentence))

# --- two configurations -----------------------------------------------------------------------

st.header("What differs between two", anchor=False)
if len(lines) < 2:
    st.markdown("Choose runs of two configurations.")
else:
    first, second = st.columns(2)
    names = [line.name for line in lines]
    a = first.selectbox("First", names, key="first", bind="query-params")
    b = second.selectbox("Second", names, index=1, key="second", bind="query-params")
    ours, theirs = (
        [run.config for run in members[names.index(name) if name in names else index]]
        for index, name in enumerate((a, b))
    )
    found = differing(ours, theirs, seeds=not grouped)
    if len(found):
        st.dataframe(
            found,
            hide_index=True,
            key="differences",
            height="content",
            column_config={
                "field": frame.text("Field of the configuration"),
                "first": frame.text("First", width="medium"),
                "second": frame.text("Second", width="medium"),
            },
        )
    else:
        st.markdown("Nothing: their configurations are the same.")

# --- files ------------------------------------------------------------------------------------

st.header("Take it with you", anchor=False)
st.markdown(
    "The table of points holds every logged row of the chosen runs, all quantities, unsmoothed and not "
    "thinned. The page of the figure needs no network. SVG and PNG: the camera above the chart."
)
csv, html, _ = st.columns([1, 1, 2])
csv.download_button(
    "All points (CSV)",
    lambda: series.to_csv(all_points(chosen)),
    "points.csv",
    "text/csv",
    key="csv",
    on_click="ignore",
    icon=":material/table:",
    width="stretch",
)
html.download_button(
    "The figure (HTML)",
    lambda: pio.to_html(draw("light"), config=plots.CONFIG, include_plotlyjs=True).encode(),
    f"{quantity}-by-{axis}.html",
    "text/html",
    key="html",
    on_click="ignore",
    icon=":material/code:",
    width="stretch",
)
