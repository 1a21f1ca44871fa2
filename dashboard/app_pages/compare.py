"""Curves of any runs of any studies, averaged over seeds or one by one, with numbers and files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
import streamlit as st

from dashboard import cached, frame
from resnetlab import plots, store, verdict
from resnetlab.plots import lines, series

MOST_RUNS = 200  # at a time; a browser draws no more curves in reasonable time
MOST_NOTES = 40
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
FORMATS = ("svg", "png")


@dataclass(frozen=True)
class View:
    """What is drawn of the chosen runs, and how."""

    quantity: str
    axis: series.Axis
    by: str  # of lines.CURVES
    band: series.Spread
    smoothing: float
    log_x: bool
    log_y: bool
    image: str  # what the camera saves


def page() -> None:
    study = frame.open_study("compare", each=RUNS_AT_FIRST)
    runs = frame.labelled(
        (f"{frame.place(path)}/{run.name}", run)
        for path in store.find_studies(cached.root())
        for run in cached.study(path).runs
    )
    if not runs:
        return
    hint = f"Of all studies; type to search. Up to {MOST_RUNS}."
    label = "Runs (study/run)"
    chosen = frame.choose_runs(label, runs, study, "compare", MOST_RUNS, hint, RUNS_AT_FIRST)
    if not chosen:
        st.info("Choose at least one run.", icon=":material/stacked_line_chart:")
        return
    watch_elsewhere(chosen, study)
    quantities = lines.quantities(chosen)
    if not quantities:
        st.info("These runs have not logged anything yet.", icon=":material/hourglass_empty:")
        return
    view = choose_view(quantities)
    curves, members = lines.lines_of(
        lines.in_order(chosen), view.quantity, view.axis, view.by, view.band, view.smoothing
    )
    figure = draw(chosen, curves, view)
    show_curves(figure, view)
    show_notes(lines.remarks(curves, members, view.axis))
    show_numbers(curves, members, view)
    if len(chosen) > 1:
        frame.section("In words")
        frame.say(*verdict.answers(cached.table([*chosen.values()])), length=2000)
        frame.say(*store.notes(chosen.values()))
    show_differences(curves, members, view)
    offer_files(chosen, figure, view)


def watch_elsewhere(chosen: lines.Runs, study: store.Study) -> None:
    """Draw the page again when a chosen run of another study has grown."""
    growing = [
        run.path for run in chosen.values() if run.status == "running" and run.path.parent != study.path
    ]
    if growing and not st.session_state.get("pause"):
        frame.redraw_when_changed(
            lambda: [cached.stamp(path, store.LOGS) for path in growing], LOOK_SECONDS
        )


def choose_view(quantities: Sequence[str]) -> View:
    """What to draw and how, from the controls above the chart."""
    one, two, three, four = st.columns(4, vertical_alignment="bottom")
    by_label = {name.replace("_", " "): name for name in quantities}
    quantity = frame.choose("Quantity", by_label, "y", place=one)
    axis = frame.choose("Against", AXES, "x", place=two)
    by = frame.choose(
        "Curves",
        {label: by for by, label in lines.CURVES.items()},
        "group",
        "The mean is over runs whose configurations differ in nothing but the seed, or that have in "
        "common what is chosen here, at the steps that every one of them logged: nothing is "
        "interpolated.",
        place=three,
    )
    band = frame.choose(
        "Band",
        BANDS,
        "band",
        "Around the mean, of the runs at that step. Standard deviation: of the sample, mean ± "
        "one. Standard error: that divided by √n. Needs two runs.",
        place=four,
        disabled=by == lines.SINGLE,
    )
    left, middle, right, image = st.columns([2, 1, 1, 1.4], vertical_alignment="bottom")
    hint = (
        "Time-weighted exponential moving average, debiased, as Weights & Biases defines it, over a "
        "thousandth of the axis, or a row where there are fewer. The raw values stay faint "
        "beneath; the table below is never smoothed."
    )
    scale = {"min_value": 0.0, "max_value": 0.99, "value": 0.0, "step": 0.01}
    smoothing = frame.ask(left.slider, "Smoothing", "smooth", hint, **scale)
    log_x = frame.switch("Log x", "logx", place=middle)
    log_y = frame.switch("Log y", "logy", place=right)
    form = image.segmented_control(
        "Camera button saves",
        FORMATS,
        default=FORMATS[0],
        format_func=str.upper,
        key="image",
        help="The camera above the chart saves it as it is shown, made in the browser.",
    )
    return View(quantity, axis, by, band, smoothing, log_x, log_y, form or FORMATS[0])


# --- the chart --------------------------------------------------------------------------------


def draw(chosen: lines.Runs, curves: Sequence[series.Line], view: View) -> go.Figure:
    """The curves with what they are in the subtitle, those of the selected rows of the table bold."""
    # The table stands below the chart; which of its rows are selected is known from the last drawing.
    selection = st.session_state.get("numbers")
    rows = st.session_state.get("numbers, as shown", [])
    selected = [rows[row] for row in selection.selection.rows if row < len(rows)] if selection else []
    parts = [frame.shown(series.common([run.config for run in chosen.values()]), 200)]
    parts += [f"smoothed, weight {view.smoothing:g}"] if view.smoothing else []
    if any(line.averaged for line in curves):
        over = "seeds" if view.by == lines.SEEDS else f"all runs of one {view.by}"
        band = next(label for label, band in BANDS.items() if band == view.band)
        parts.append(f"mean over {over}" + ("" if band == "none" else f", band: {band}"))
    return plots.compare_curves(
        curves,
        view.quantity,
        view.axis,
        log_x=view.log_x,
        log_y=view.log_y,
        smoothing=view.smoothing,
        bold=[line.name for line in curves if line.name in selected],
        subtitle="; ".join(filter(None, parts)),
    )


def show_curves(figure: go.Figure, view: View) -> None:
    """The chart, and how many points it shows."""
    file = {"format": view.image, "filename": f"{view.quantity}-by-{view.axis}", "scale": 2}
    frame.chart(figure, "curves", {"toImageButtonOptions": file})
    counts = figure.layout.meta or {"shown": 0, "logged": 0, "off": 0}
    if not counts["logged"]:
        st.text(f"No chosen run has {series.QUANTITIES[view.quantity]} by {series.AXES[view.axis]}.")
        return
    sentence = f"Shown: {counts['shown']:,} of {counts['logged']:,} points"
    if counts["shown"] < counts["logged"]:
        sentence += ", the lowest and the highest of every stretch of a curve, so that no spike is lost"
    if counts["off"]:
        sentence += f". {counts['off']:,} of them are not positive: a log axis has no place"
    st.text(f"{sentence}.")


def show_notes(notes: Sequence[str]) -> None:
    """What the reader has to know about the curves, to unfold."""
    if notes:
        with st.expander(f"Notes on these curves ({len(notes)})", icon=":material/info:"):
            frame.say(*notes[:MOST_NOTES])
            if len(notes) > MOST_NOTES:
                st.text(f"and {len(notes) - MOST_NOTES} more.")


# --- the numbers ------------------------------------------------------------------------------


def show_numbers(curves: Sequence[series.Line], members: Sequence[lines.Runs], view: View) -> None:
    """One row per curve: last, best and at one step, as logged."""
    frame.section("Numbers")
    search, at = st.columns([3, 1], vertical_alignment="bottom")
    example = "words that the name must hold"
    wanted = frame.ask(search.text_input, "Filter", "filter", placeholder=example)
    hint = "The nearest step that a chosen run logged; runs without that step stay empty."
    asked = frame.whole("At step", "at", hint, None, place=at, placeholder="last shared")
    step = lines.shared_step(curves, asked)
    table = lines.table_of(curves, members, view.quantity, step, view.by)
    words = (wanted or "").casefold().split()
    table = table[[all(word in name.casefold() for word in words) for name in table["name"]]]
    st.session_state["numbers, as shown"] = list(table["name"])
    name = series.QUANTITIES[view.quantity]
    st.markdown(
        f"{name[0].upper()}{name[1:]}, as logged and not smoothed. Click a heading to sort; select "
        "rows to make their curves stand out."
    )
    if table.empty:
        st.info("No curve has these words in its name.", icon=":material/filter_alt_off:")
        return
    columns = columns_of(view.quantity, step)
    columns["name"] = frame.text("Network" if len(curves) == 1 else "Curve", pinned=True)
    select = {"on_select": "rerun", "selection_mode": "multi-row"}
    frame.table(table, "numbers", columns, rows=20, **select)


def columns_of(quantity: str, step: int | None) -> dict[str, Any]:
    """Headings of the table: what each value is, and of what the deviation beside it."""
    end = {"min": "Lowest", "max": "Highest", None: ""}[series.better(quantity)]
    at = f"At step {step:,}" if step is not None else "At step"
    columns = {
        "n": frame.number("n", "Runs with values.", "%d"),
        "seeds": frame.text("Seeds"),
        "at_n": frame.number("n at step", "Runs that logged that step, where not all did.", "%d"),
        "status": frame.text("Status"),
    }
    form = "%.2f" if quantity.endswith("_error") else "%.4g"
    for key, label, hint, of in (
        ("last", "Last", "At the last logged step: final, where the run ended.", "last values"),
        ("best", end, "Of each run over all its steps, then averaged.", f"{end.lower()} values"),
        ("at", at, "Empty for runs that did not log this step.", "values at that step"),
    ):
        columns[key] = frame.number(label, hint, form)
        columns[f"{key}_sd"] = frame.number("± sd", f"Sample standard deviation of the {of}.", form)
    return columns


def show_differences(curves: Sequence[series.Line], members: Sequence[lines.Runs], view: View) -> None:
    """What two of the curves differ in, field by field."""
    frame.section("What differs between two")
    if len(curves) < 2:
        st.markdown("Choose runs of two configurations.")
        return
    left, right = st.columns(2)
    by_name = {line.name: runs for line, runs in zip(curves, members, strict=True)}
    first = frame.choose("First", by_name, "first", place=left)
    second = frame.choose("Second", by_name, "second", first=1, place=right)
    differences = lines.differences(first, second, seeds=view.by == lines.SINGLE)
    if differences.empty:
        st.markdown("Nothing: their configurations are the same.")
        return
    columns = {
        "field": frame.text("Field of the configuration"),
        "first": frame.text("First", width="medium"),
        "second": frame.text("Second", width="medium"),
    }
    frame.table(differences, "differences", columns)


def offer_files(chosen: lines.Runs, figure: go.Figure, view: View) -> None:
    """The points as a table and the figure as a page, made when they are asked for."""
    frame.section(
        "Take it with you",
        "The table of points holds every logged row of the chosen runs, all quantities, unsmoothed "
        "and not thinned. The page of the figure needs no network. SVG and PNG: the camera above the "
        "chart.",
    )

    def points() -> bytes:
        return series.to_csv(lines.points(chosen))

    def as_page() -> bytes:
        drawn = plots.themed(go.Figure(figure), "light")
        return str(pio.to_html(drawn, config=plots.CONFIG, include_plotlyjs=True)).encode()

    csv, html, _ = st.columns([1, 1, 2])
    words: dict[str, Any] = {"on_click": "ignore", "width": "stretch"}
    icon, file = ":material/table:", "points.csv"
    csv.download_button("All points (CSV)", points, file, "text/csv", key="csv", icon=icon, **words)
    icon, file = ":material/code:", f"{view.quantity}-by-{view.axis}.html"
    html.download_button(
        "The figure (HTML)", as_page, file, "text/html", key="html", icon=icon, **words
    )


page()
