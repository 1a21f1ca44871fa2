"""Curves side by side: smoothing, thinning, means over seeds, names and tables against plain loops."""

from __future__ import annotations

import csv
import io
import math
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_results import RUN, make

from resnetlab import plots, store
from resnetlab.config import Network, Run, run_from_parameters
from resnetlab.plots import lines, series, style

VALUES = st.floats(-1e6, 1e6, allow_nan=False)
CURVES = st.lists(VALUES, min_size=1, max_size=400)


def metrics(steps: list[int], **columns: list[float]) -> pd.DataFrame:
    frame = pd.DataFrame({"step": steps, "epoch": [step / 10 for step in steps], **columns})
    return frame if "seconds" in columns else frame.assign(seconds=[step / 4 for step in steps])


def curve(steps: list[int], values: list[float]) -> pd.DataFrame:
    found = series.curve(metrics(steps, train_error=values), "train_error", "step", 128)
    return series.smoothed([found], 0.0)[0]


# --- one curve --------------------------------------------------------------------------------


def test_a_curve_has_the_rows_with_a_value_and_a_place() -> None:
    nan, inf = math.nan, math.inf
    frame = metrics([1, 2, 3, 4], test_error=[9.0, nan, inf, 7.0], seconds=[1.0, 2.0, 3.0, nan])
    by_step = series.curve(frame, "test_error", "step", 128)
    assert by_step.to_dict("list") == {"step": [1, 4], "x": [1.0, 4.0], "y": [9.0, 7.0]}
    assert list(series.curve(frame, "test_error", "epoch", 128)["x"]) == [0.1, 0.4]
    assert list(series.curve(frame, "test_error", "images", 128)["x"]) == [128.0, 512.0]
    assert list(series.curve(frame, "test_error", "seconds", 128)["x"]) == [1.0]
    assert series.curve(frame, "train_loss", "step", 128).empty
    assert series.curve(frame.head(0), "test_error", "step", 128).empty


@given(
    st.lists(st.tuples(st.floats(0.01, 50), VALUES), min_size=1, max_size=60),
    st.floats(0, 0.99),
)
def test_smoothing_is_the_weighted_mean_of_what_came_before(
    points: list[tuple[float, float]], weight: float
) -> None:
    x = np.cumsum([gap for gap, _ in points])
    y = np.array([value for _, value in points])
    found = series.smooth(x, y, weight, span=100.0)
    for i in range(len(y)):
        weights = [math.sqrt(weight) ** ((x[i] - x[j]) / 100 * 1000) for j in range(i + 1)]
        expected = sum(w * v for w, v in zip(weights, y[: i + 1], strict=True)) / sum(weights)
        assert found[i] == pytest.approx(expected, rel=1e-6, abs=1e-3)
        assert y[: i + 1].min() - 1e-6 <= found[i] <= y[: i + 1].max() + 1e-6


def test_evenly_logged_smoothing_is_the_usual_debiased_average() -> None:
    """TensorBoard's: last = w last + (1 - w) y, divided by 1 - w ** count."""
    y = np.array([5.0, 1.0, 4.0, 4.0, 0.0])
    found = series.smooth(np.arange(5.0), y, 0.81, span=1000.0)  # one thousandth apart: w = 0.9
    last, w = 0.0, 0.9
    for count, value in enumerate(y, start=1):
        last = w * last + (1 - w) * value
        assert found[count - 1] == pytest.approx(last / (1 - w**count))


def test_smoothing_of_nothing_one_point_and_one_place() -> None:
    assert series.smooth(np.array([]), np.array([]), 0.5).tolist() == []
    assert series.smooth(np.array([3.0]), np.array([7.0]), 0.5).tolist() == [7.0]
    still = series.smooth(np.array([3.0, 3.0]), np.array([7.0, 9.0]), 0.5)
    assert 7 < still[1] < 9
    assert series.smooth(np.array([1.0, 2.0]), np.array([7.0, 9.0]), 0).tolist() == [7.0, 9.0]
    backwards = series.smooth(np.array([9.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]), 0.9)
    assert np.isfinite(backwards).all()
    with pytest.raises(ValueError, match=r"0 <= weight < 1"):
        series.smooth(np.array([1.0]), np.array([1.0]), 1.0)


def test_all_curves_are_smoothed_over_the_axis_they_share() -> None:
    long = series.curve(metrics([0, 500, 1000], train_error=[1.0, 2.0, 3.0]), "train_error", "step", 1)
    short = series.curve(metrics([0, 100], train_error=[1.0, 2.0]), "train_error", "step", 1)
    nothing = short.head(0)
    found = series.smoothed([long, short, nothing], 0.5)[1]["line"].iloc[1]
    weight = math.sqrt(0.5) ** (2 * 100 / 1000)  # two places between three rows
    assert found == pytest.approx((2 + weight) / (1 + weight))


def test_a_weight_does_something_to_a_curve_of_ten_rows() -> None:
    steps = [*range(0, 64_000, 6_400)]
    zigzag = series.curve(metrics(steps, train_error=[9.0, 1.0] * 5), "train_error", "step", 1)
    spreads = [np.ptp(series.smoothed([zigzag], weight)[0]["line"][3:]) for weight in (0.0, 0.3, 0.6)]
    assert spreads[0] > 1.3 * spreads[1] > 1.3 * 1.3 * spreads[2]


def test_smoothing_on_a_log_axis_draws_no_error_that_no_run_had() -> None:
    values = [50.0, 4.0, 0.5, *[0.0] * 500]
    found = series.curve(metrics([*range(503)], train_error=values), "train_error", "step", 1)
    (smooth,) = series.smoothed([found], 0.6)
    line = series.line("x", [""], [smooth], 8, "sd")
    both = series.line("x", ["a", "b"], [smooth, smooth], 8, "sd")
    for one in (line, both):
        figure = plots.compare_curves([one], "train_error", log_y=True, smoothing=0.6)
        shown = [y for trace in figure.data for y in trace.y if y is not None and y > 0]
        assert min(shown) == 0.5


@given(CURVES, st.integers(4, 60), st.booleans())
def test_thinning_keeps_ends_extremes_and_order(values: list[float], most: int, log: bool) -> None:
    x, y = np.arange(1.0, len(values) + 1), np.array(values)
    kept = series.thin(x, y, most, log=log)
    assert len(kept) <= most
    assert np.all(np.diff(kept) > 0)
    assert kept[0] == 0
    assert kept[-1] == len(y) - 1
    assert y[kept].min() == y.min()
    assert y[kept].max() == y.max()
    if len(values) <= most:
        assert len(kept) == len(values)


@given(CURVES, st.integers(4, 60), st.booleans())
def test_every_point_has_one_as_high_and_one_as_low_within_a_bucket(
    values: list[float], most: int, log: bool
) -> None:
    x, y = np.arange(1.0, len(values) + 1), np.array(values)
    kept = series.thin(x, y, most, log=log)
    place = np.log(x) if log else x
    width = np.ptp(place) / ((most - 2) // 2) * (1 + 1e-9)
    for i in range(len(y)):
        near = kept[np.abs(place[kept] - place[i]) <= width]
        assert y[near].max() >= y[i]
        assert y[near].min() <= y[i]


@given(st.integers(5_000, 20_000), st.data())
def test_no_spike_is_lost(length: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, length - 1))
    sign = data.draw(st.sampled_from([-1, 1]))
    y = np.sin(np.arange(length) / 50)
    y[at] = 5.0 * sign
    kept = series.thin(np.arange(length), y)
    assert at in kept
    assert len(kept) <= series.MOST_POINTS


def test_thinning_takes_odd_places_and_refuses_a_budget_of_nothing() -> None:
    same = series.thin(np.full(100, 3.0), np.arange(100.0), 10)
    assert same.tolist() == [0, 99]
    with_zero = series.thin(np.arange(100.0), np.arange(100.0), 10, log=True)
    assert {0, 99} <= set(with_zero.tolist())
    assert series.thin(np.full(100, -1.0), np.arange(100.0), 10, log=True).tolist() == [0, 99]
    with pytest.raises(ValueError, match="4 or more"):
        series.thin(np.arange(9), np.arange(9), 3)


# --- several runs -----------------------------------------------------------------------------


@given(
    st.lists(
        st.dictionaries(st.integers(0, 12), VALUES, min_size=1, max_size=12), min_size=2, max_size=5
    )
)
def test_means_stand_at_the_steps_that_all_runs_logged(runs: list[dict[int, float]]) -> None:
    curves = [curve(sorted(run), [run[step] for step in sorted(run)]) for run in runs]
    shared = sorted(set.intersection(*(set(run) for run in runs)))
    for kind in ("sd", "se", "range", "none"):
        found = series.over_runs(curves, kind)
        assert list(found["step"]) == shared
        for row in found.itertuples():
            values = [run[int(row.step)] for run in runs]
            mean, deviation = statistics.fmean(values), statistics.stdev(values)
            assert row.n == len(runs)
            assert row.x == row.step
            assert row.mean == pytest.approx(mean, rel=1e-9, abs=1e-6)
            if kind == "range":
                assert (row.low, row.high) == (min(values), max(values))
            elif kind == "none":
                assert math.isnan(row.low)
                assert math.isnan(row.high)
            else:
                half = deviation / (math.sqrt(len(values)) if kind == "se" else 1)
                assert row.high - mean == pytest.approx(half, rel=1e-6, abs=1e-5)
                assert mean - row.low == pytest.approx(half, rel=1e-6, abs=1e-5)


def test_a_run_that_broke_off_ends_the_mean_and_an_empty_one_does_not() -> None:
    long, short = curve([1, 2, 3], [1.0, 2.0, 3.0]), curve([1, 2], [3.0, 4.0])
    line = series.line("both", ["a", "b", "c"], [long, short, long.head(0)], 8, "range")
    assert list(line.mean["step"]) == [1, 2]
    assert list(line.mean["mean"]) == [2.0, 3.0]
    assert set(line.mean["n"]) == {2}
    assert not series.line("one", ["a", "b"], [long, long.head(0)], 8, "range").averaged
    assert series.over_runs([], "sd").empty


def test_wall_time_of_a_mean_is_the_mean_wall_time() -> None:
    quick = metrics([1, 2], lr=[0.1, 0.1], seconds=[10.0, 20.0])
    slow = metrics([1, 2], lr=[0.1, 0.1], seconds=[30.0, 60.0])
    curves = [series.curve(frame, "lr", "seconds", 128) for frame in (quick, slow)]
    assert list(series.over_runs(curves, "sd")["x"]) == [20.0, 40.0]


def test_groups_are_equal_but_for_the_seed() -> None:
    runs = [
        run_from_parameters(network="plain-8", seed=0),
        run_from_parameters(network="resnet-8", seed=0),
        run_from_parameters(network="plain-8", seed=5),
        run_from_parameters(network="plain-8", seed=0, lr=0.05),
    ]
    assert series.groups(runs) == [[0, 2], [1], [3]]


def test_the_step_of_a_table_is_the_last_that_all_share_or_the_nearest_to_a_wish() -> None:
    drawn = [
        series.line("a", ["", ""], [curve([2, 4, 6], [1.0] * 3), curve([2, 4], [1.0] * 2)], 8, "sd"),
        series.line("b", [""], [curve([1, 2, 4, 5, 9], [1.0] * 5)], 8, "sd"),
    ]
    assert lines.shared_step(drawn) == 4
    assert [lines.shared_step(drawn, asked) for asked in (0, 3, 7, 100)] == [1, 2, 6, 9]
    apart = [
        series.line(name, [""], [curve([step], [1.0])], 8, "sd") for name, step in (("a", 3), ("b", 5))
    ]
    assert lines.shared_step(apart) == 5
    assert lines.shared_step([series.line("none", [""], [curve([1], [1.0]).head(0)], 8, "sd")]) is None


# --- names ------------------------------------------------------------------------------------


def named(*parameters: dict, places: list | None = None, seeds: bool = True) -> list[str]:
    runs = [run_from_parameters(**one) for one in parameters]
    return series.names(runs, places, seeds=seeds)


def test_names_say_only_what_differs() -> None:
    plain, deep = {"network": "plain-8"}, {"network": "plain-14"}
    assert named(plain) == ["plain-8"]
    assert named(plain, deep) == ["plain-8", "plain-14"]
    assert named(plain | {"seed": 1}, plain | {"seed": 2}) == ["seed 1", "seed 2"]
    assert named(plain, deep | {"seed": 1}) == ["plain-8 · seed 0", "plain-14 · seed 1"]
    assert named(plain, deep | {"seed": 1}, seeds=False) == ["plain-8", "plain-14"]
    assert named(plain, plain | {"lr": 0.05}) == ["lr 0.1", "lr 0.05"]
    assert named(plain, deep | {"precision": "bf16"}) == ["plain-8 · fp32", "plain-14 · bf16"]
    assert named(plain, plain | {"recipe": "short"}) == ["recipe paper-400", "recipe short"]


def test_names_of_equal_runs_say_where_they_lie() -> None:
    plain = {"network": "plain-8"}
    assert named(plain, plain, places=[("mine", "a"), ("reference/digits", "a")]) == [
        "mine",
        "reference/digits",
    ]
    assert named(plain, plain, places=[("s", "a"), ("s", "b")]) == ["plain-8 · a", "plain-8 · b"]
    assert named(plain, plain, plain) == ["plain-8", "plain-8 (2)", "plain-8 (3)"]
    assert series.numbered(["a", "a", "a (2)"]) == ["a", "a (2)", "a (2) (2)"]


def test_recipes_of_one_label_are_told_apart_by_what_they_measure() -> None:
    runs = ({"recipe": "paper-400", "test_every": 20}, {"recipe": "paper-400", "test_every": 40})
    others = {"network": "plain-8", "recipe": "short"}
    found = named(*({"network": "plain-8"} | one for one in runs), others)
    assert len(set(found)) == 3
    assert "test_every 20" in found[0]
    assert found[2] == "recipe short"


def test_what_all_share_is_said_once() -> None:
    runs = [run_from_parameters(network=name) for name in ("plain-8", "plain-14")]
    assert series.common(runs) == "digits, recipe paper-400, fp32"
    assert series.common(runs[:1]) == "plain-8, digits, recipe paper-400, fp32"


# --- tables and files -------------------------------------------------------------------------


def test_the_table_counts_what_is_there() -> None:
    a, b = curve([1, 2, 3], [9.0, 2.0, 5.0]), curve([1, 3], [7.0, 3.0])
    line = series.line("x", ["a", "b"], [a, b], 8, "sd")
    row = series.table_of([line], "train_error", 2).iloc[0]
    assert (row["n"], row["last"], row["best"], row["at"], row["at_n"]) == (2, 4.0, 2.5, 2.0, 1)
    assert row["last_sd"] == pytest.approx(statistics.stdev([5, 3]))
    assert row["best_sd"] == pytest.approx(statistics.stdev([2, 3]))
    assert math.isnan(row["at_sd"])
    assert math.isnan(series.table_of([line], "lr", 2).iloc[0]["best"])
    assert series.table_of([line], "images_per_second", 2).iloc[0]["best"] == 8.0
    empty = series.table_of([series.line("x", ["a"], [a.head(0)], 8, "sd")], "train_error", None)
    assert empty.iloc[0]["n"] == 0
    assert math.isnan(empty.iloc[0]["last"])


@pytest.mark.parametrize("cell", ["=1+1", "+1+cmd|x", "-1-A1", "-A1", "@x", "\tx", "\rx", "+1 ± =2"])
def test_cells_that_look_like_formulas_are_text(cell: str) -> None:
    assert series.safe_cell(cell) == "'" + cell


@given(st.text(max_size=20))
def test_no_text_cell_begins_a_formula(cell: str) -> None:
    first = series.safe_cell(cell)[:1]
    assert first not in ("=", "+", "-", "@", "\t", "\r") or set(cell) <= set("+-0123456789.,")


@pytest.mark.parametrize("cell", ["+1", "-2.5", "+70.2 ± 11.6", "-8.94 ± 3.0 [-1.0, +20.81]"])
def test_numbers_with_a_sign_stay_as_they_are(cell: str) -> None:
    assert series.safe_cell(cell) == cell


def test_a_table_with_headings_that_occur_twice_is_made_safe() -> None:
    frame = pd.DataFrame([["=a", 1.0, "=b"]], columns=["x", "=y", "x"])
    safe = series.safe(frame)
    assert list(safe.columns) == ["x", "'=y", "x"]
    assert safe.to_numpy().tolist() == [["'=a", 1.0, "'=b"]]
    assert list(series.safe(frame.head(0)).columns) == ["x", "'=y", "x"]


def test_csv_keeps_numbers_and_survives_names() -> None:
    names = ["=cmd|' /C calc'!A0", 'a,"b"\n', "\\udcff"]
    frame = pd.DataFrame({"run": names, "y": [-0.1, 1e-17, 2]})
    content = series.to_csv(frame).decode()
    rows = list(csv.reader(io.StringIO(content, newline="")))
    assert rows[0] == ["run", "y"]
    assert [row[0] for row in rows[1:]] == ["'=cmd|' /C calc'!A0", 'a,"b"\n', "\\udcff"]
    assert [float(row[1]) for row in rows[1:]] == [-0.1, 1e-17, 2.0]


# --- the figure -------------------------------------------------------------------------------


def test_the_figure_says_how_much_it_shows_and_keeps_the_spike() -> None:
    steps = list(range(1, 64_001))
    values = [2.0 + math.sin(step / 100) for step in steps]
    values[40_000] = 99.0
    line = series.line("a", [""], [curve(steps, values)], 8, "sd")
    figure = plots.compare_curves([line], "train_error")
    assert figure.layout.meta["logged"] == 64_000
    assert figure.layout.meta["shown"] == len(figure.data[0].x) <= series.MOST_POINTS
    assert max(figure.data[0].y) == 99.0
    assert figure.layout.uirevision == plots.compare_curves([line], "train_error").layout.uirevision
    other = plots.compare_curves([line], "lr")
    assert figure.layout.xaxis.uirevision == other.layout.xaxis.uirevision, "another quantity keeps x"
    assert figure.layout.yaxis.uirevision != other.layout.yaxis.uirevision
    later = plots.compare_curves([line], "train_error", "epoch")
    assert figure.layout.xaxis.uirevision != later.layout.xaxis.uirevision


def test_many_curves_share_what_a_browser_can_draw() -> None:
    own = curve(list(range(1, 3_001)), [float(step % 7) for step in range(3_000)])
    lines = [series.line(str(index), [""], [own], 8, "sd") for index in range(200)]
    figure = plots.compare_curves(lines, "train_error")
    assert sum(len(trace.x) for trace in figure.data) <= 200_000
    assert len({(trace.line.color, trace.line.dash) for trace in figure.data}) >= 40
    assert figure.layout.legend.orientation == "v", "it scrolls beside the chart"


def test_bands_means_and_raw_values_are_drawn_where_they_belong() -> None:
    curves = [curve([1, 2, 3], [4.0, 0.5, 1.0]), curve([1, 2, 3], [1.0, 0.1, 3.0])]
    line = series.line("x", ["seed 0", "seed 1"], curves, 8, "sd")
    flat = plots.compare_curves([line], "train_loss", smoothing=0.5)
    band = next(trace for trace in flat.data if trace.fill)
    assert min(band.y) == pytest.approx(0.3 - statistics.stdev([0.5, 0.1]))
    assert [trace.name for trace in flat.data if trace.showlegend is not False] == ["x (n = 2)"]
    assert sum(trace.hoverinfo == "skip" for trace in flat.data) == 2  # the band, the raw mean
    steep = plots.compare_curves([line], "train_loss", log_x=True, log_y=True)
    assert (steep.layout.xaxis.type, steep.layout.yaxis.type) == ("log", "log")
    assert min(next(trace for trace in steep.data if trace.fill).y) == 0.1  # cut, not below 0
    assert list(steep.data[-1].y) == [2.5, 0.3, 2.0]  # values, never their logarithms


def test_what_a_log_axis_cannot_hold_is_counted() -> None:
    line = series.line("x", [""], [curve([0, 1, 2], [4.0, 0.0, 1.0])], 8, "sd")
    assert plots.compare_curves([line], "train_error").layout.meta["off"] == 0
    assert plots.compare_curves([line], "train_error", log_y=True).layout.meta["off"] == 1
    assert plots.compare_curves([line], "train_error", log_x=True, log_y=True).layout.meta["off"] == 2


def test_a_young_run_cuts_no_mean_and_changes_no_other_curve() -> None:
    whole = [curve([0, 100, 200, 300], [90.0, 40.0 + k, 20.0, 10.0]) for k in range(5)]
    young = curve([0, 100], [90.0, 80.0])
    alone = series.line("x", list("abcde"), whole, 8, "range")
    line = series.line("x", list("abcdef"), [*whole, young], 8, "range", [True] * 5 + [False])
    pd.testing.assert_frame_equal(line.mean, alone.mean)
    before, after = (plots.compare_curves([one], "train_error") for one in (alone, line))
    assert [t.name for t in after.data if t.showlegend is not False] == ["x (n = 5 + 1 training)"]
    thick = [[t for t in f.data if t.line.width == style.MAIN] for f in (before, after)]
    assert [list(trace.y) for trace in thick[0]] == [list(trace.y) for trace in thick[1]]
    thin = [trace for trace in after.data if trace.line.width == style.HAIR]
    assert len(thin) == 6


def test_names_in_the_figure_are_text() -> None:
    name = "<b>x</b> %{y} </script>"
    line = series.line(name, [""], [curve([1, 2], [1.0, 2.0])], 8, "sd")
    figure = plots.compare_curves([line], "train_error", subtitle="<a href='http://evil.example'>")
    assert figure.data[0].name == "&lt;b&gt;x&lt;/b&gt; &#37;{y} &lt;/script&gt;"
    assert "<a " not in figure.layout.title.text
    assert "%{y}" not in figure.data[0].hovertemplate.replace("%{y:", "")


def test_nothing_to_draw_says_so() -> None:
    line = series.line("x", [""], [curve([], [])], 8, "sd")
    assert "No values of lr" in plots.compare_curves([line], "lr").layout.annotations[0].text
    one = series.line("x", [""], [curve([5], [1.0])], 8, "sd")
    assert plots.compare_curves([one], "train_error").data[0].mode == "markers"


def test_highlighted_lines_stand_out() -> None:
    lines = [series.line(name, [""], [curve([1, 2], [1.0, 2.0])], 8, "sd") for name in "ab"]
    figure = plots.compare_curves(lines, "train_error", bold=["b"])
    assert [trace.opacity for trace in figure.data] == [0.2, 1.0]


def test_several_runs_of_one_seed_and_configuration_are_one_curve(tmp_path: Path) -> None:
    runs = {}
    for name, seed in (("a", 0), ("b", 1), ("c", 1)):
        run = Run(network=Network(depth=8), recipe=RUN.recipe, seed=seed)
        runs[name] = store.read_run(make(tmp_path, name=name, run=run))
    drawn, members = lines.lines_of(runs, "train_error", "step", lines.SEEDS, "sd", 0.0)
    (line,) = drawn
    assert (len(line.curves), line.mean["n"].unique().tolist()) == (2, [2])
    assert list(members[0]) == ["a", "b", "c"]
    assert "counts them once" in " ".join(lines.remarks(drawn, members, "step"))
    assert lines.table_of(drawn, members, "train_error", None, lines.SEEDS)["n"].tolist() == [2]
    singles, _ = lines.lines_of(runs, "train_error", "step", lines.SINGLE, "sd", 0.0)
    assert len(singles) == 3
