"""The page Compare runs in every state of a results folder; its numbers recomputed from the files."""

from __future__ import annotations

import base64
import csv
import functools
import io
import json
import math
import os
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dashboard_data import EVERY, STEPS, append_rows, charts, opened, write_run, write_study
from streamlit.testing.v1 import AppTest

from resnetlab import store
from resnetlab.plots import series

HOSTILE = "<img src=http://evil.example/x> ![a](http://evil.example/y) :red[z] $x$ \u202e =1+1"

Open = Callable[..., AppTest]


@pytest.fixture
def open_page(folder: Path) -> Open:
    return functools.partial(opened, "app_pages/compare.py")


def box(app: AppTest, kind: str, key: str) -> Any:
    return next(item for item in app.get(kind) if item.key == key)


def plain(value: Any) -> list:
    """Plotly's packed arrays as lists."""
    if not isinstance(value, dict):
        return value or []
    array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
    return (array.reshape(json.loads(f"[{value['shape']}]")) if "shape" in value else array).tolist()


def chart(app: AppTest) -> dict:
    (found,) = charts(app)
    return found


def traces(app: AppTest) -> list[dict]:
    return [
        trace | {"x": plain(trace.get("x")), "y": plain(trace.get("y"))} for trace in chart(app)["data"]
    ]


def named(app: AppTest) -> dict[str, dict]:
    """The traces in the legend."""
    return {trace["name"]: trace for trace in traces(app) if trace.get("showlegend", True)}


def numbers(app: AppTest) -> pd.DataFrame:
    return app.dataframe[0].value.set_index("name")


def texts(app: AppTest) -> str:
    return "\n".join(item.value for item in app.text)


def rows_of(path: Path, quantity: str) -> dict[int, float]:
    """step -> value, straight from the file."""
    lines = (path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {row["step"]: row[quantity] for row in rows if row.get(quantity) is not None}


def rewrite(path: Path, change: Callable[[dict], dict]) -> None:
    """The run's log with every row changed."""
    log = path / "metrics.jsonl"
    rows = [change(json.loads(line)) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))


# --- states of the folder ---------------------------------------------------------------------


@pytest.mark.parametrize("state", ["missing", "empty", "foreign"])
def test_without_results(folder: Path, open_page: Open, state: str) -> None:
    if state != "missing":
        folder.mkdir()
    if state == "foreign":
        (folder / "README.md").write_text("text")
    app = open_page()
    assert any("make study" in block.value for block in app.markdown)
    assert not app.get("plotly_chart")


def test_a_study_without_runs_and_a_run_without_rows(folder: Path, open_page: Open) -> None:
    (folder / "digits" / "notes").mkdir(parents=True)
    assert "no readable run" in open_page().info[0].value
    write_run(folder, "plain-8", steps=0, status="running")
    assert "have not logged anything" in open_page().info[0].value


def test_one_run_is_one_curve_with_its_own_numbers(folder: Path, open_page: Open) -> None:
    path = write_run(folder, "plain-8")
    app = open_page()
    values = rows_of(path, "train_error")
    (trace,) = traces(app)
    assert dict(zip(trace["x"], trace["y"], strict=True)) == values
    row = numbers(app).loc["plain-8"]
    assert row["last"] == values[STEPS]
    assert row["best"] == min(values.values())
    assert row["n"] == 1
    assert pd.isna(row["last_sd"])
    assert f"Shown: 1 run, {len(values)} of {len(values)} points." in texts(app)


def test_no_run_chosen(folder: Path, open_page: Open) -> None:
    write_study(folder)
    app = open_page()
    app.multiselect[0].set_value([]).run()
    assert not app.exception
    assert "Choose at least one run" in app.info[0].value


def test_a_running_run_grows(folder: Path, open_page: Open) -> None:
    path = write_run(folder, "plain-14", steps=16, status="running")
    app = open_page()
    assert traces(app)[0]["x"][-1] == 16
    revision = chart(app)["layout"]["uirevision"]
    run = store.read_run(path)
    writer = store.RunWriter(folder, run.study, run.name, run.config)
    writer.info = dict(run.info)
    append_rows(writer, 20, 24)
    app.run()
    assert traces(app)[0]["x"][-1] == 24
    assert chart(app)["layout"]["uirevision"] == revision
    assert numbers(app).loc["plain-14", "status"] == "running"


def test_a_diverged_run_ends_where_its_numbers_end(folder: Path, open_page: Open) -> None:
    whole = write_run(folder, "plain-8", seed=0)
    broken = write_run(folder, "plain-8", seed=1, status="diverged", error="loss not finite")
    rewrite(broken, lambda row: row | ({"train_error": None} if row["step"] > 20 else {}))
    app = open_page(y="train error")
    mean = named(app)["plain-8 (n = 2)"]
    assert mean["x"] == list(range(EVERY, 21, EVERY))
    a, b = rows_of(whole, "train_error"), rows_of(broken, "train_error")
    assert mean["y"] == pytest.approx([(a[step] + b[step]) / 2 for step in mean["x"]])
    assert "the mean ends at step 20" in texts(app)
    assert "digits/plain-8-seed1 diverged" in texts(app)
    assert numbers(app).loc["plain-8", "status"] == "diverged, finished"
    assert numbers(app).loc["plain-8", "last"] == pytest.approx((a[STEPS] + b[20]) / 2)


def test_a_run_of_nothing_but_null(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8", seed=0)
    nothing = write_run(folder, "plain-8", seed=1)
    rewrite(nothing, lambda row: {"step": row["step"], "train_error": None, "lr": float("inf")})
    app = open_page()
    assert numbers(app).loc["plain-8", "n"] == 1
    assert "without any value, not counted" in texts(app)


def test_seeds_that_share_no_step_have_no_mean(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8", seed=0)
    odd = write_run(folder, "plain-8", seed=1)
    rewrite(odd, lambda row: row | {"step": row["step"] + 1})
    app = open_page()
    assert not [name for name in named(app) if "n = 2" in name]
    assert "share no logged step" in texts(app)


def test_hostile_names_are_text(folder: Path, open_page: Open) -> None:
    path = write_run(folder, "plain-14", status="failed")
    path.rename(path.with_name(HOSTILE.replace("/", "_")))
    path = write_run(folder, "plain-14")
    path.rename(path.with_name(os.fsdecode(b"bytes-\xff\xfe")))
    study = folder / "<b>![x](y)"
    (folder / "digits").rename(study)
    for group in ("mean over seeds", "single runs"):
        app = open_page(group=group, study=study.name)
        assert len(app.multiselect[0].value) == 2
        parts = [*app.markdown, *app.title, *app.header, *app.caption, *app.info]
        interpreted = "\n".join(item.value for item in parts)
        spec = json.dumps(charts(app))
        for sign in ("evil.example", "![", "<b>", "<img"):
            assert sign not in interpreted
        assert "<img" not in spec
        assert "\\u003cimg" not in spec


def test_runs_deleted_while_the_page_is_open(folder: Path, open_page: Open) -> None:
    write_study(folder)
    app = open_page()
    (folder / "digits" / "plain-8-seed0").rename(folder.parent / "away")
    app.run()
    assert not app.exception
    assert "plain-8" not in numbers(app).index
    (folder / "digits").rename(folder.parent / "all-away")
    app.run()
    assert not app.exception


def test_five_thousand_points_are_thinned_and_said(folder: Path, open_page: Open) -> None:
    path = write_run(folder, "plain-8", planned=5_000)
    rows = [{"step": step, "train_error": 50 + step % 7} for step in range(1, 5_001)]
    rows[3_210]["train_error"] = 99.0
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    app = open_page()
    (trace,) = traces(app)
    assert len(trace["x"]) <= series.MOST_POINTS
    assert (3_211, 99.0) in zip(trace["x"], trace["y"], strict=True)
    shown = f"Shown: 1 run, {len(trace['x']):,} of 5,000 points, the lowest and the highest"
    assert shown in texts(app)
    assert numbers(app).loc["plain-8", "last"] == 50 + 5_000 % 7


# --- what is chosen ---------------------------------------------------------------------------


def test_at_first_all_seeds_of_shallowest_and_deepest_of_each_family(
    folder: Path, open_page: Open
) -> None:
    write_study(folder, seeds=2)
    write_run(folder, "plain-20")
    write_run(folder, "plain-8", study="other")
    networks = ("plain-8-seed0", "plain-8-seed1", "plain-20-seed0")
    networks += tuple(f"resnet-{depth}-seed{seed}" for depth in (8, 14) for seed in (0, 1))
    assert open_page().multiselect[0].value == [f"digits/{name}" for name in networks]
    app = open_page(study="other")
    assert app.multiselect[0].value == ["other/plain-8-seed0"]
    assert len(app.multiselect[0].options) == 10


def test_runs_of_several_studies_together(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8", study="mine", lr=0.05)
    write_run(folder / "reference", "plain-8", study="mine")
    both = ["mine/plain-8-seed0", "reference/mine/plain-8-seed0"]
    app = open_page(compare=both)
    assert app.multiselect[0].value == both
    assert set(numbers(app).index) == {"lr 0.05", "lr 0.1"}
    assert list(app.dataframe[1].value["field"]) == ["recipe.lr"]
    app = open_page(compare=both, group="single runs")
    assert len(named(app)) == 2


def test_the_same_seed_twice_is_said(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8", study="a")
    write_run(folder, "plain-8", study="b")
    app = open_page(compare=["a/plain-8-seed0", "b/plain-8-seed0"])
    assert "not independent" in texts(app)


def test_unknown_values_in_the_address_fall_back(folder: Path, open_page: Open) -> None:
    write_study(folder)
    app = open_page(
        study="../../etc",
        compare="nobody",
        y="<b>",
        x="moon",
        group="1",
        band="∞",
        smooth="9e99",
        logx="maybe",
        at="-5",
        first="x",
        second="y",
    )
    assert box(app, "selectbox", "y").value == "train error"
    assert box(app, "selectbox", "x").value == "step"
    assert app.slider[0].value == 0
    assert len(numbers(app)) > 0


def test_the_address_brings_the_page_back(folder: Path, open_page: Open) -> None:
    write_study(folder, seeds=2)
    app = open_page(
        y="test loss", x="epoch", group="single runs", smooth="0.9", logx="true", logy="true", at="8"
    )
    layout = chart(app)["layout"]
    assert layout["xaxis"]["type"] == layout["yaxis"]["type"] == "log"
    assert "epoch" in layout["xaxis"]["title"]["text"]
    assert "smoothed, weight 0.9" in layout["title"]["text"]
    assert box(app, "number_input", "at").value == 8
    assert "plain-8 · seed 1" in named(app)


# --- the numbers ------------------------------------------------------------------------------


def test_means_spreads_and_bands_are_those_of_the_files(folder: Path, open_page: Open) -> None:
    write_study(folder, seeds=3)
    path = folder / "digits" / "plain-14-seed1"
    rewrite(path, lambda row: row | {"test_error": row["test_error"] + row["step"] % 5})
    files = [rows_of(folder / "digits" / f"plain-14-seed{seed}", "test_error") for seed in range(3)]
    app = open_page(y="test error", at="13", band="standard deviation")
    row = numbers(app).loc["plain-14"]
    last, best = [run[STEPS] for run in files], [min(run.values()) for run in files]
    at = [run[12] for run in files]  # 13 was not logged
    for key, values in (("last", last), ("best", best), ("at", at)):
        assert row[key] == pytest.approx(statistics.fmean(values))
        assert row[f"{key}_sd"] == pytest.approx(statistics.stdev(values))
    assert row["seeds"] == "0, 1, 2"
    mean = named(app)["plain-14 (n = 3)"]
    expected = [statistics.fmean(run[int(step)] for run in files) for step in mean["x"]]
    assert mean["y"] == pytest.approx(expected)

    def band(app: AppTest) -> set[float]:
        group = named(app)["plain-14 (n = 3)"]["legendgroup"]
        (found,) = (t for t in traces(app) if t.get("fill") and t["legendgroup"] == group)
        return {round(y, 6) for x, y in zip(found["x"], found["y"], strict=True) if x == 12}

    centre, deviation = statistics.fmean(at), statistics.stdev(at)
    assert band(app) == {round(centre - deviation, 6), round(centre + deviation, 6)}
    box(app, "selectbox", "band").select("standard error").run()
    half = deviation / 3**0.5
    assert band(app) == {round(centre - half, 6), round(centre + half, 6)}
    box(app, "selectbox", "band").select("lowest to highest").run()
    assert band(app) == {round(min(at), 6), round(max(at), 6)}
    box(app, "selectbox", "band").select("none").run()
    assert not [trace for trace in traces(app) if trace.get("fill")]


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("family", {"plain": ["plain-8", "plain-14"], "residual": ["resnet-8", "resnet-14"]}),
        ("depth", {"8 layers": ["plain-8", "resnet-8"], "14 layers": ["plain-14", "resnet-14"]}),
        ("data set", {"digits": ["plain-8", "plain-14", "resnet-8", "resnet-14"]}),
    ],
)
def test_runs_can_be_gathered_by_what_they_have_in_common(
    folder: Path, open_page: Open, by: str, names: dict[str, list[str]]
) -> None:
    write_study(folder, seeds=2)
    app = open_page(y="test error", group=f"mean by {by}")
    assert len(numbers(app)) == len(names)
    for name, networks in names.items():
        files = [
            rows_of(folder / "digits" / f"{network}-seed{seed}", "test_error")
            for network in networks
            for seed in range(2)
        ]
        mean = named(app)[f"{name} (n = {len(files)})"]
        expected = [statistics.fmean(run[int(step)] for run in files) for step in mean["x"]]
        assert mean["y"] == pytest.approx(expected)
        row = numbers(app).loc[name]
        assert row["last_sd"] == pytest.approx(statistics.stdev(run[STEPS] for run in files))
        assert f"{name}: its {len(files)} runs have {len(networks)} configurations" in texts(app)
    if by == "family":
        first, second = app.dataframe[1].value.set_index("field")[["first", "second"]].to_numpy()[0]
        assert (first, second) == ('"none"', '"A"'), "they differ in nothing else"


@pytest.mark.parametrize(
    ("axis", "place"),
    [
        ("epoch", lambda row, _: row["epoch"]),
        ("wall time", lambda _, timing: timing["seconds"]),
        ("images seen", lambda row, _: row["step"] * 128),
    ],
)
def test_every_axis_is_that_of_the_files(
    folder: Path, open_page: Open, axis: str, place: Callable[[dict, dict], float]
) -> None:
    path = write_run(folder, "plain-8")
    logs = [
        [json.loads(line) for line in (path / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "timing.jsonl")
    ]
    (trace,) = traces(open_page(x=axis))
    assert trace["x"] == pytest.approx([place(*rows) for rows in zip(*logs, strict=True)])


def test_smoothing_leaves_the_raw_curve_and_the_table(folder: Path, open_page: Open) -> None:
    path = write_run(folder, "plain-8")
    values = list(rows_of(path, "train_error").values())
    app = open_page(smooth="0.99")
    raw, smooth = traces(app)
    assert raw["y"] == values
    assert raw["hoverinfo"] == "skip"
    weight = 0.99**0.5  # from one row to the next: there are fewer than a thousand
    expected = (values[1] + weight * values[0]) / (1 + weight)
    assert smooth["y"][1] == pytest.approx(expected)
    assert numbers(app).loc["plain-8", "last"] == values[-1]


def test_every_logged_quantity_can_be_drawn(folder: Path, open_page: Open) -> None:
    path = write_run(folder, "plain-8")
    app = open_page()
    picker = box(app, "selectbox", "y")
    assert "validation error" not in picker.options  # not logged
    for option in list(picker.options):
        box(app, "selectbox", "y").select(option).run()
        assert not app.exception
        name = option.replace(" ", "_")
        if name in ("images_per_second", *GRADIENTS):
            continue
        assert traces(app)[-1]["y"] == list(rows_of(path, name).values())


GRADIENTS: dict[str, Callable[[list[float]], float]] = {
    "gradient_norm_all": lambda values: math.hypot(*values),
    "gradient_norm_first": lambda values: values[0],
    "gradient_norm_last": lambda values: values[-1],
}


@pytest.mark.parametrize("quantity", GRADIENTS)
def test_gradient_norms_are_those_of_the_files(folder: Path, open_page: Open, quantity: str) -> None:
    path = write_run(folder, "plain-8")
    # One more, as training measures before an update what it logs after it: at step 39.
    lines = [json.loads(line) for line in (path / "probes.jsonl").read_text().splitlines()]
    lines.append(lines[-1] | {"step": STEPS - 1, "values": [3.0] * 8})
    lines.sort(key=lambda line: line["step"])
    (path / "probes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for axis, a_step in (("step", 1), ("images seen", 128), ("epoch", 0.1)):
        app = open_page(y=quantity.replace("_", " "), x=axis)
        (trace,) = traces(app)
        assert trace["x"] == pytest.approx([line["step"] * a_step for line in lines])
        wanted = [GRADIENTS[quantity](line["values"]) for line in lines]
        assert trace["y"] == pytest.approx(wanted)


def test_the_filter_and_the_differences(folder: Path, open_page: Open) -> None:
    write_study(folder, seeds=2)
    app = open_page()
    box(app, "text_input", "filter").set_value("RESNET 14").run()
    assert list(numbers(app).index) == ["resnet-14"]
    assert list(named(app)) == ["resnet-14 (n = 2)"], "filter, chart and table are one"
    box(app, "text_input", "filter").set_value("resnet -seed:1").run()
    assert list(numbers(app)["seeds"]) == ["0", "0"]
    for words, left in (
        ("depth:8,14 family:plain", ["plain-14", "plain-8"]),
        ("plain-8|resnet-8", ["plain-8", "resnet-8"]),
        ("depth:1", []),  # a field has a value whole
        ("-depth:8 -shortcut:a", ["plain-14"]),
    ):
        box(app, "text_input", "filter").set_value(words).run()
        assert sorted(numbers(app).index) == left if left else app.info, words
    box(app, "text_input", "filter").set_value("deep:8").run()
    assert any("no run has a field 'deep'; there are " in item.value for item in app.text)
    box(app, "text_input", "filter").set_value("nobody").run()
    assert "No run has these words" in app.info[0].value
    box(app, "text_input", "filter").set_value("").run()
    box(app, "selectbox", "first").select("plain-8").run()
    box(app, "selectbox", "second").select("resnet-14").run()
    assert app.dataframe[1].value.to_numpy().tolist() == [
        ["network.depth", "8", "14"],
        ["network.shortcut", '"none"', '"A"'],
    ]
    box(app, "selectbox", "second").select("plain-8").run()
    assert "their configurations are the same" in "\n".join(item.value for item in app.markdown)


def test_differences_to_the_baseline_are_of_the_same_seeds(folder: Path, open_page: Open) -> None:
    ends: dict[str, dict[int, float]] = {"plain-14": {}, "resnet-14": {}}
    for network, seeds in (("plain-14", range(5)), ("resnet-14", range(1, 4)), ("plain-8", [9])):
        for seed in seeds:
            path = write_run(folder, network, seed=seed)
            if network in ends:
                ends[network][seed] = list(rows_of(path, "train_error").values())[-1]
    app = open_page(compare=[f"digits/{path.name}" for path in (folder / "digits").iterdir()])
    box(app, "selectbox", "baseline").select("plain-14").run()
    pairs = [ends["resnet-14"][seed] - ends["plain-14"][seed] for seed in (1, 2, 3)]
    row = numbers(app).loc["resnet-14"]
    assert row["difference"] == pytest.approx(statistics.mean(pairs))
    assert row["pairs"] == 3
    low, high = (float(part) for part in row["interval"].strip("[]").split(","))
    assert low <= statistics.mean(pairs) <= high
    assert numbers(app).loc[["plain-14", "plain-8"], "difference"].isna().all(), "no seed in common"
    drawn = named(app)
    assert list(drawn) == ["resnet-14 (n = 3)"], "the chart shows the differences"
    assert drawn["resnet-14 (n = 3)"]["y"][-1] == pytest.approx(statistics.mean(pairs))
    assert "minus that of plain-14" in chart(app)["layout"]["title"]["text"]
    assert chart(app)["layout"]["yaxis"]["title"]["text"].endswith(", difference")

    # Single runs have other names: what was chosen by name comes back with it.
    box(app, "selectbox", "group").select("single runs").run()
    assert not app.exception
    assert "difference" not in numbers(app)
    box(app, "selectbox", "group").select("mean over seeds").run()
    assert box(app, "selectbox", "baseline").value == "plain-14"
    assert numbers(app).loc["resnet-14", "pairs"] == 3
    box(app, "selectbox", "baseline").select("none").run()
    app.run()
    assert "difference" not in numbers(app), "none is a choice too"


def test_a_curve_keeps_its_look_whatever_is_filtered(folder: Path, open_page: Open) -> None:
    write_study(folder, seeds=2)
    for seed in (0, 1):
        write_run(folder, "plain-8", seed=seed, lr=0.05, name=f"slow-{seed}")
    every = [f"digits/{path.name}" for path in (folder / "digits").iterdir()]
    app = open_page(compare=every)
    before = {name.partition(" (")[0]: trace["line"] for name, trace in named(app).items()}
    assert len({json.dumps(line) for line in before.values()}) > 2
    pictures = dict(numbers(app)["look"])
    box(app, "text_input", "filter").set_value("lr:0.05").run()
    (left,) = named(app).values()
    (name,) = [name for name in before if "0.05" in name]
    assert left["line"] == before[name]
    assert list(numbers(app)["look"]) == [pictures[name]], "in the table, too"
    box(app, "text_input", "filter").set_value("resnet").run()
    for short, trace in named(app).items():
        (name,) = [name for name in before if name.startswith(short.partition(" (")[0])]
        assert trace["line"] == before[name]


def test_small_multiples_share_their_axes(folder: Path, open_page: Open) -> None:
    write_study(folder, seeds=1)
    app = open_page(
        panels="per depth",
        compare=[f"digits/{n}-seed0" for n in ("plain-8", "plain-14", "resnet-8", "resnet-14")],
    )
    layout = chart(app)["layout"]
    assert {layout["xaxis2"]["matches"], layout["yaxis2"]["matches"]} == {"x", "y"}, "one zoom for all"
    assert [note["text"] for note in layout["annotations"]] == ["8 layers", "14 layers"]
    places = {trace["name"]: trace["xaxis"] for trace in traces(app)}
    assert places == {"plain-8": "x", "resnet-8": "x", "plain-14": "x2", "resnet-14": "x2"}


def test_any_quantity_stands_on_either_axis(folder: Path, open_page: Open) -> None:
    path = write_run(folder, "plain-8")
    app = open_page(y="test error", x="train error")
    (trace,) = traces(app)
    train, test = rows_of(path, "train_error"), rows_of(path, "test_error")
    assert trace["x"] == pytest.approx([train[step] for step in test])
    assert trace["y"] == pytest.approx([*test.values()])


def test_the_latest_run_and_the_whole_study_are_a_button_away(folder: Path, open_page: Open) -> None:
    write_study(folder, seeds=2)
    path = write_run(folder, "plain-20")
    info = json.loads((path / "run.json").read_text())
    info["starts"][-1]["time"] = "9999-01-01T00:00:00+00:00"
    (path / "run.json").write_text(json.dumps(info))
    app = open_page()
    next(item for item in app.button if item.key == "latest").click().run()
    assert box(app, "multiselect", "compare").value == ["digits/plain-20-seed0"]
    next(item for item in app.button if item.key == "every").click().run()
    assert len(box(app, "multiselect", "compare").value) == 9


def test_fifty_curves_have_a_legend_that_scrolls_beside_the_chart(
    folder: Path, open_page: Open
) -> None:
    for seed in range(50):
        write_run(folder, "plain-8", seed=seed)
    app = open_page(group="single runs", compare=[f"digits/plain-8-seed{n}" for n in range(50)])
    legend = chart(app)["layout"]["legend"]
    assert (legend["orientation"], legend["yref"]) == ("v", "paper")
    assert chart(app)["layout"]["height"] < 700
    assert len(named(app)) == len(numbers(app)) == 50


# --- files ------------------------------------------------------------------------------------


def download(app: AppTest, key: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What the button would give: AppTest cannot click it, so its callable is caught."""
    import streamlit.delta_generator as generator

    caught: dict[str, Any] = {}
    original = generator.DeltaGenerator.download_button

    def catch(self: Any, label: str, data: Any, *args: Any, **words: Any) -> Any:
        caught[words["key"]] = data
        return original(self, label, data, *args, **words)

    with monkeypatch.context() as patch:
        patch.setattr(generator.DeltaGenerator, "download_button", catch)
        app.run()
        assert not app.exception
        return caught[key]()


def test_the_export_holds_every_point_of_every_quantity(
    folder: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(folder)
    path = folder / "digits" / "plain-14-seed0"
    path = path.rename(path.with_name("-1+cmd"))
    app = open_page(smooth="0.9")
    content = download(app, "csv", monkeypatch).decode()
    rows = list(csv.DictReader(io.StringIO(content, newline="")))
    assert len(rows) == 4 * STEPS // EVERY
    own = [row for row in rows if row["run"] == "'-1+cmd"]
    for quantity in ("train_error", "test_error", "train_loss", "test_loss", "lr", "epoch"):
        values = {int(row["step"]): float(row[quantity]) for row in own}
        assert values == rows_of(path, quantity)
    assert {int(row["images"]) for row in own} == {128 * step for step in rows_of(path, "lr")}
    assert {row["seconds"] for row in own} == {f"{step / 10}" for step in rows_of(path, "lr")}


def test_the_figure_as_a_page_needs_no_network(
    folder: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(folder, "plain-8")
    write_run(folder, "plain-8", seed=1)
    path.rename(path.with_name("<script>alert(1)<script>"))
    app = open_page(group="single runs")
    page = download(app, "html", monkeypatch).decode()
    assert "<script>alert" not in page
    assert "Plotly.newPlot" in page
    assert "<script src" not in page
    assert 'showSendToCloud": false' in page or 'showSendToCloud":false' in page
    assert len(page) > 1_000_000  # plotly itself is in it
    drawn = page[page.rindex("Plotly.newPlot") :]
    assert re.findall(r'"opacity": ?([0-9.]+)', drawn) == ["1.0"] * 2  # no line is faded
    assert re.search(r'"paper_bgcolor": ?"#fff', drawn)


def test_the_camera_saves_what_is_asked_for(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8")
    app = open_page()

    def config() -> dict:
        drawn = next(
            i for i in app.get("bidi_component") if "figure" in json.loads(i.proto.json or "{}")
        )
        return json.loads(drawn.proto.json)["config"]

    assert config()["toImageButtonOptions"]["format"] == "svg"
    assert config()["showSendToCloud"] is False
    box(app, "button_group", "image").set_value("png").run()
    assert config()["toImageButtonOptions"]["format"] == "png"
