"""Curves of any runs of any studies, averaged over seeds or one by one, with numbers and files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
import streamlit as st

from dashboard import cached, frame
from resnetlab import plots, store, verdict
from resnetlab.config import UsageError
from resnetlab.plots import lines, series

MOST_RUNS = 200  # at a time; a browser draws no more curves in reasonable time
MOST_NOTES = 40
RUNS_AT_FIRST = 5  # of one depth
LOOK_SECONDS = 3.0  # between two looks at runs of other studies
# What stands in the page's address -> what it means; the first is what is shown at first.
AXES: dict[str, str] = {
    "step": "step",
    "epoch": "epoch",
    "wall time": "seconds",
    "images seen": "images",
}
NONE = "none"
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
    axis: str
    by: str  # of lines.CURVES
    band: series.Spread
    smoothing: float
    log_x: bool
    log_y: bool
    panels: str  # of series.GROUPINGS, "" for one panel
    image: str  # what the camera saves


@dataclass(frozen=True)
class Curves:
    """The curves on screen: the runs of each, what each looks like, the one the others are held to."""

    shown: Sequence[series.Line]
    members: Sequence[lines.Runs]
    looks: Mapping[str, Any]
    baseline: str = ""  # its name, "" for none


def page() -> None:
    study = frame.open_study("compare", each=RUNS_AT_FIRST)
    runs = frame.labelled(
        (f"{frame.place(path)}/{run.name}", run)
        for path in store.find_studies(cached.root())
        for run in cached.study(path).runs
    )
    if not runs:
        return
    frame.keep_zoom()
    chosen = choose_runs(runs, study)
    if not chosen:
        st.info("Choose at least one run.", icon=":material/stacked_line_chart:")
        return
    watch_elsewhere(chosen, study)
    quantities = lines.quantities(chosen)
    if not quantities:
        st.info("These runs have not logged anything yet.", icon=":material/hourglass_empty:")
        return
    *places, search, baseline = st.columns([1, 1, 1.2, 1, 1.5, 1], vertical_alignment="bottom")
    view = choose_view(quantities, places)
    curves = curves_of(chosen, view, search, baseline)
    if curves is None:
        return
    left = {label: run for runs in curves.members for label, run in runs.items()}
    if curves.baseline and view.log_y:  # half of the differences lie below 0
        view = replace(view, log_y=False)
        st.caption("Differences stand on a linear axis: a logarithmic one has no place below 0.")
    figure = draw(left, curves, view)
    answers = cached.said(verdict.answers, cached.table([*left.values()]))
    show_curves(figure, left, view, answers)
    show_notes(lines.remarks(curves.shown, curves.members, view.axis))
    show_numbers(curves, view)
    if len(left) > 1:
        frame.section("In words")
        frame.say(*answers)
        frame.say(*store.notes(left.values()))
    show_differences(curves, view)
    offer_files(left, figure, view)


def choose_runs(runs: lines.Runs, study: store.Study) -> dict[str, store.RunRecord]:
    """The chosen runs; two buttons choose a whole study or the run that was begun last."""
    own = [label for label, run in runs.items() if run.path.parent == study.path]

    def take(labels: Sequence[str]) -> None:
        st.session_state["compare"] = list(labels)[:MOST_RUNS]

    place, every, last = st.columns([5, 1.3, 1.3], vertical_alignment="bottom")
    words: dict[str, Any] = {"width": "stretch", "disabled": not own}
    every.button("Whole study", key="every", on_click=take, args=(own,), **words)
    newest = [lines.latest({label: runs[label] for label in own})] if own else []
    last.button("Latest run", key="latest", on_click=take, args=(newest,), **words)
    hint = f"Of all studies; type to search. Up to {MOST_RUNS}."
    with place:
        return frame.choose_runs(
            "Runs (study/run)", runs, study, "compare", MOST_RUNS, hint, RUNS_AT_FIRST
        )


def curves_of(chosen: lines.Runs, view: View, search: Any, place: Any) -> Curves | None:
    """The curves of those chosen runs that have the words of the filter; None if none has.

    Looks are given before the filter, so that a curve keeps its own whatever is filtered.
    """
    hint = """Words that a run must have, `a|b` for one of two, `-` for without; or a field: \
`depth:20,56 family:plain lr:0.1 -seed:3`."""
    example: dict[str, Any] = {"placeholder": "depth:20,56 -seed:3"}
    wanted = frame.ask(search.text_input, "Filter", "filter", hint, **example)
    ordered = lines.in_order(chosen)
    try:
        left = lines.matching(ordered, wanted or "")
    except UsageError as error:
        st.warning("This filter asks for what runs do not have:", icon=":material/filter_alt_off:")
        frame.say(f"{error}.")
        return None
    if not left:
        st.info("No run has these words.", icon=":material/filter_alt_off:")
        return None
    shown, members = lines_of(left, view)
    # By a run of each curve, as a curve is called by less where less is left to tell it from.
    every = (shown, members) if len(left) == len(ordered) else lines_of(ordered, view)
    looks = look_of_each(*every, view.quantity)
    looks = {line.name: looks[next(iter(runs))] for line, runs in zip(shown, members, strict=True)}
    hint = "Each other curve gets its difference to this one, seed by seed, in chart and table."
    names = {NONE: ""} | {line.name: line.name for line in shown}
    noted = kept("baseline", names)
    baseline = frame.choose("Baseline", names, "baseline", hint, place=place, on_change=noted)
    return Curves(shown, members, looks, baseline)


def kept(key: str, names: Mapping[str, Any]) -> Callable[[], None]:
    """Choose again what was chosen by name, once there is such a curve again; what notes a choice.

    Other curves have other names: the widget then forgets, while the address still has it.
    """
    memory = f"{key}, by name"
    wanted = st.session_state.setdefault(memory, st.query_params.get(key, ""))
    if wanted in names:
        st.session_state[key] = wanted
    return lambda: st.session_state.update({memory: st.session_state[key]})


def lines_of(runs: lines.Runs, view: View) -> tuple[list[series.Line], list[lines.Runs]]:
    return lines.lines_of(
        runs, view.quantity, view.axis, view.by, view.band, view.smoothing, view.panels
    )


def look_of_each(
    curves: Sequence[series.Line], members: Sequence[lines.Runs], quantity: str
) -> dict[str, Any]:
    """Run -> what its curve looks like."""
    looks = plots.looks_of(curves, quantity)
    pairs = zip(curves, members, strict=True)
    return {label: looks[line.name] for line, runs in pairs for label in runs}


def watch_elsewhere(chosen: lines.Runs, study: store.Study) -> None:
    """Draw the page again when a chosen run of another study has grown."""
    growing = [
        run.path for run in chosen.values() if run.status == "running" and run.path.parent != study.path
    ]
    if growing and not st.session_state.get("pause"):
        frame.redraw_when_changed(
            lambda: [cached.stamp(path, store.LOGS) for path in growing], LOOK_SECONDS
        )


def choose_view(quantities: Sequence[str], places: Sequence[Any]) -> View:
    """What to draw and how: three controls above the chart, the others fold out beside them."""
    by_label = {name.replace("_", " "): name for name in quantities}
    quantity = frame.choose("Quantity", by_label, "y", place=places[0])
    others = {label: name for label, name in by_label.items() if name != quantity}
    axis = frame.choose("Against", AXES | others, "x", place=places[1])
    by = frame.choose(
        "Curves",
        {label: by for by, label in lines.CURVES.items()},
        "group",
        "The mean is over runs whose configurations differ in nothing but the seed, or that have in "
        "common what is chosen here, at the steps that every one of them logged: nothing is "
        "interpolated.",
        place=places[2],
    )
    with places[3].popover("Display", icon=":material/tune:", width="stretch"):
        band = frame.choose(
            "Band",
            BANDS,
            "band",
            "Around the mean, of the runs at that step. Standard deviation: of the sample, mean ± "
            "one. Standard error: that divided by √n. Needs two runs.",
            disabled=by == lines.SINGLE,
        )
        groups = {"one": ""} | {f"per {name}": name for name in series.GROUPINGS}
        hint = "Panels share their axes: zoom into one, and all follow."
        panels = frame.choose("Panels", groups, "panels", hint)
        hint = (
            "Time-weighted exponential moving average, debiased, as Weights & Biases defines it, over "
            "a thousandth of the axis, or a row where there are fewer. The raw values stay faint "
            "beneath; the table below is never smoothed."
        )
        scale = {"min_value": 0.0, "max_value": 0.99, "value": 0.0, "step": 0.01}
        smoothing = frame.ask(st.slider, "Smoothing", "smooth", hint, **scale)
        log_x = frame.switch("Log x", "logx")
        log_y = frame.switch("Log y", "logy")
        form = st.segmented_control(
            "Camera button saves",
            FORMATS,
            default=FORMATS[0],
            format_func=str.upper,
            key="image",
            help="The camera above the chart saves it as it is shown, made in the browser.",
        )
    smoothing = smoothing if axis in AXES.values() else 0.0  # no axis along which to average
    return View(quantity, axis, by, band, smoothing, log_x, log_y, panels, form or FORMATS[0])


# --- the chart --------------------------------------------------------------------------------


def draw(chosen: lines.Runs, curves: Curves, view: View) -> go.Figure:
    """The curves with what they are in the subtitle, those of the selected rows of the table bold."""
    # The table stands below the chart; which of its rows are selected is known from the last drawing.
    selection = st.session_state.get("numbers")
    rows = st.session_state.get("numbers, as shown", [])
    selected = [rows[row] for row in selection.selection.rows if row < len(rows)] if selection else []
    drawn = curves.shown
    if curves.baseline:
        drawn = lines.minus(drawn, curves.members, curves.baseline, view.band)
    parts = [frame.shown(series.common(lines.by_images(chosen)), 200)]
    parts += [f"smoothed, weight {view.smoothing:g}"] if view.smoothing else []
    parts += ["differences seed by seed"] if curves.baseline else []
    if any(line.averaged for line in drawn):
        over = "seeds" if view.by == lines.SEEDS else f"all runs of one {view.by}"
        band = next(label for label, band in BANDS.items() if band == view.band)
        parts.append(f"mean over {over}" + ("" if band == "none" else f", band: {band}"))
    return plots.compare_curves(
        drawn,
        view.quantity,
        view.axis,
        log_x=view.log_x,
        log_y=view.log_y,
        smoothing=view.smoothing,
        bold=[line.name for line in drawn if line.name in selected],
        baseline=curves.baseline,
        looks=curves.looks,
        subtitle="; ".join(filter(None, parts)),
    )


def show_curves(figure: go.Figure, left: lines.Runs, view: View, answers: Sequence[str]) -> None:
    """The chart, and how many points it shows."""
    file = {"format": view.image, "filename": f"{view.quantity}-by-{view.axis}", "scale": 2}
    own = {run.path.parent: run for run in left.values()}
    study = cached.study(next(iter(own))) if len(own) == 1 else None
    source = frame.Source(cached.metrics([*left.values()]), "01_degradation", study)
    what = f"{series.QUANTITIES[view.quantity]} by {series.TITLES[view.axis]}, {lines.CURVES[view.by]}."
    alt = frame.alt(what, answers)
    frame.chart(figure, "curves", {"toImageButtonOptions": file}, source=source, alt=alt)
    counts = figure.layout.meta or {"shown": 0, "logged": 0, "off": 0}
    if not counts["logged"]:
        st.text(f"No chosen run has {series.QUANTITIES[view.quantity]} by {series.TITLES[view.axis]}.")
        return
    runs = frame.count(len(left), "run")
    sentence = f"Shown: {runs}, {counts['shown']:,} of {counts['logged']:,} points"
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


def show_numbers(curves: Curves, view: View) -> None:
    """One row per curve: what it looks like, last, best and at one step, as logged."""
    text, at = st.columns([3, 1], vertical_alignment="bottom")
    name = series.QUANTITIES[view.quantity]
    text.markdown(
        f"**{name[0].upper()}{name[1:]}**, as logged and not smoothed. Click a heading to sort; select "
        "rows to make their curves stand out."
    )
    hint = "The nearest step that a chosen run logged; runs without that step stay empty."
    asked = frame.whole("At step", "at", hint, None, place=at, placeholder="last shared")
    step = lines.shared_step(curves.shown, asked)
    if asked is not None and asked != step:
        frame.say(f"Step {asked:g} was logged by no run on screen: {step:,} is the nearest.")
    table = lines.table_of(curves.shown, curves.members, view.quantity, step, view.by)
    if curves.baseline:
        table = lines.with_differences(table, curves.shown, curves.members, curves.baseline, step)
    table.insert(1, "look", [plots.swatch(curves.looks[name]) for name in table["name"]])
    st.session_state["numbers, as shown"] = list(table["name"])
    columns = columns_of(view.quantity, step) | difference_columns(step)
    columns["name"] = frame.text("Network" if len(curves.shown) == 1 else "Curve", pinned=True)
    columns["look"] = st.column_config.ImageColumn("Line", width=60)
    select = {"on_select": "rerun", "selection_mode": "multi-row"}
    frame.table(table, "numbers", columns, rows=20, **select)


def difference_columns(step: int | None) -> dict[str, Any]:
    """Headings of what each curve has more than the baseline."""
    at = f" at step {step:,}" if step is not None else ""
    hint = f"Minus that of the baseline{at}, the mean over the seeds of both."
    return {
        "difference": frame.number("Minus baseline", hint, "%+.2f"),
        "interval": frame.text(
            "95 %", "Confidence interval of that mean (Student's t), from three pairs."
        ),
        "pairs": frame.number("Pairs", "Seeds of both.", "%d"),
    }


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


def show_differences(curves: Curves, view: View) -> None:
    """What two of the curves differ in, field by field."""
    frame.section("What differs between two")
    if len(curves.shown) < 2:
        st.markdown("Choose runs of two configurations.")
        return
    left, right = st.columns(2)
    by_name = {line.name: runs for line, runs in zip(curves.shown, curves.members, strict=True)}
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
