"""The pages Health, Ours and the paper, Inside the networks and Notebooks, in every state."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import os
import re
import shlex
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dashboard_data import EVERY, STEPS, charts, opened, write_run, write_study
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from dashboard import inside
from resnetlab import cli, config, nets, paper, store
from resnetlab.pages import executed
from resnetlab.verdict import comparison

PROJECT = Path(__file__).resolve().parent.parent
HEALTH, PAPER = "app_pages/health.py", "app_pages/paper.py"
NETWORKS, NOTEBOOKS = "app_pages/networks.py", "app_pages/notebooks.py"
PAGES = (HEALTH, PAPER, NETWORKS, NOTEBOOKS)
HOSTILE = "<img src=http://evil.example/x> ![a](http://evil.example/y) :red[z] $x$ \u202e\x00 =1+1"

Open = Callable[..., AppTest]


@pytest.fixture
def open_page(folder: Path) -> Open:
    return opened


def texts(app: AppTest) -> str:
    return "\n".join(item.value for item in app.text)


def codes(app: AppTest) -> list[str]:
    return [item.value for item in app.code]


def markup(app: AppTest) -> str:
    """All that is interpreted as markup."""
    kinds = (
        "markdown",
        "title",
        "header",
        "subheader",
        "caption",
        "info",
        "warning",
        "error",
        "success",
    )
    return "\n".join(item.value for kind in kinds for item in app.get(kind))


def spoil(run: Path, **changes: Any) -> None:
    """Change fields of a run's run.json."""
    info = json.loads((run / store.RUN_FILE).read_text())
    (run / store.RUN_FILE).write_text(json.dumps(info | changes))


# --- all of them ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("state", ["missing", "empty"])
def test_without_studies_every_page_says_what_makes_them(
    folder: Path, open_page: Open, page: str, state: str
) -> None:
    if state == "empty":
        folder.mkdir()
    elif state == "file":
        folder.write_text("no folder")
    app = open_page(page)
    assert "make study" in markup(app)
    assert not charts(app)


@pytest.mark.parametrize("page", [HEALTH, PAPER, NOTEBOOKS])
def test_hostile_names_are_never_interpreted(folder: Path, open_page: Open, page: str) -> None:
    write_run(folder, "plain-8", status="failed", steps=8, error=HOSTILE)
    hostile = write_run(folder, "plain-20", status="diverged", error=HOSTILE * 40)
    (hostile / store.NOTEBOOK_FILE).write_text(json.dumps({"nbformat": 4, "cells": []}))
    hostile.rename(hostile.with_name(HOSTILE.replace("/", "_").replace("\x00", "")))
    (folder / "digits" / os.fsdecode(b"bytes-\xff\xfe")).mkdir()
    (folder / "digits").rename(folder / "<b>![x](y)")
    app = open_page(page, study="<b>![x](y)")
    for sign in ("evil.example", ":red[", "![", "<b>", "<img"):
        assert sign not in markup(app)


@pytest.mark.parametrize("page", PAGES)
def test_a_run_that_has_only_begun(folder: Path, open_page: Open, page: str) -> None:
    write_run(folder, "plain-8", steps=0, status="running")
    open_page(page)


@pytest.mark.parametrize("page", PAGES)
def test_a_study_deleted_while_the_page_is_open(folder: Path, open_page: Open, page: str) -> None:
    write_run(folder, "plain-8")
    app = open_page(page)
    folder.rename(folder.with_name("away"))
    app.run()
    assert not app.exception
    assert "make study" in markup(app)


# --- health -----------------------------------------------------------------------------------


def test_a_healthy_folder_says_so(folder: Path, open_page: Open) -> None:
    write_study(folder)
    write_run(folder, "plain-8", study="other")
    app = open_page(HEALTH)
    assert "5 runs read whole" in app.success[0].value
    assert not app.metric


def test_what_asks_for_nothing_stands_last(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8", status="diverged", steps=12, error="loss not finite")
    app = open_page(HEALTH)
    assert "Nothing asks to be done." in markup(app)
    assert [item.label for item in app.expander] == ["1 run with nothing to do"]
    write_run(folder, "plain-14", status="failed", steps=12, error="no memory")
    app = open_page(HEALTH)
    assert "Nothing asks to be done." not in markup(app)
    assert texts(app).index("no memory") < texts(app).index("loss not finite")


def test_every_kind_of_damage_has_its_reason_remedy_and_command(folder: Path, open_page: Open) -> None:
    write_study(folder)
    write_run(folder, "plain-20", status="diverged", steps=12, error="loss not finite at step 13")
    write_run(folder, "plain-26", status="failed", steps=12, error="no memory")
    write_run(folder, "plain-38", status="interrupted", steps=12, error="stopped by a signal")
    torn = write_run(folder, "resnet-20")
    with (torn / store.METRICS_FILE).open("a") as file:
        file.write('{"step": 44, "train_er')
    spoil(write_run(folder, "resnet-26"), schema=99)
    damaged = write_run(folder, "resnet-32")
    (damaged / store.RUN_FILE).write_bytes(b"\x00\xff{")
    gone = write_run(folder, "resnet-38", steps=12, status="running")
    spoil(gone, pid=2**22 + 1)  # above the largest process number
    silent = write_run(folder, "resnet-44", steps=12, status="running")
    ago = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=10)
    spoil(silent, heartbeat=ago.isoformat(timespec="seconds"))
    (folder / "digits" / "photos").mkdir()
    other = write_run(folder, "plain-8", study="another")
    (other / store.EVALUATIONS_FILE).write_text('{"step": 40}\n{"st')

    app = open_page(HEALTH, study="digits")
    said = texts(app)
    for line in (
        "digits/plain-20-seed0, diverged: loss not finite at step 13",
        "digits/plain-26-seed0, failed: no memory",
        "digits/plain-38-seed0, interrupted: stopped by a signal",
        "digits/resnet-20-seed0, finished: 1 torn or damaged line left out of its metrics",
        "digits/resnet-26-seed0, left out: its format is version 99",
        "digits/resnet-32-seed0, left out: run.json is torn or not JSON",
        "digits/resnet-38-seed0, interrupted: its process is gone",
        "digits/resnet-44-seed0, running: no sign of life for 10 minutes",
        "digits/photos, left out: no run.json",
        "another/plain-8-seed0, finished: 1 torn or damaged line left out of its evaluations",
    ):
        assert line in said
    counts = {metric.label: metric.value for metric in app.metric}
    assert counts == {
        "Damaged": "1", "Unknown version": "1", "No run": "1", "Torn": "2", "Stale": "2", "Failed": "1",
        "Interrupted": "1", "Diverged": "1",
    }  # fmt: skip
    assert "**10 of 14 folders**" in markup(app)
    # The chosen study first, the worst first, what asks for nothing last.
    assert said.index("resnet-32-seed0") < said.index("plain-26-seed0") < said.index("another/")
    assert said.index("another/") < said.index("plain-20-seed0, diverged")
    app.pills[0].set_value(["failed"]).run()
    assert not app.exception
    assert "no memory" in texts(app)
    assert "loss not finite" not in texts(app)


def test_the_command_of_an_interrupted_run_goes_on_with_that_run(folder: Path, open_page: Open) -> None:
    words = f"train plain-8 --steps 4 --study digits --run mine --results {folder}".split()
    assert CliRunner().invoke(cli.app.app, words).exit_code == 0
    path = folder / "digits" / "mine"
    (path / store.SUMMARY_FILE).unlink()
    spoil(path, status="interrupted", error="stopped")
    command = next(code for code in codes(open_page(HEALTH)) if code.startswith("resnetlab train"))
    words = shlex.split(command)
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert words[:3] == ["resnetlab", "train", "plain-8"]
    assert Path(options["--results"], options["--study"], options["--run-name"]) == path
    done = CliRunner().invoke(cli.app.app, words[1:])
    assert done.exit_code == 0, done.output
    assert store.read_run(path).status == "finished"


def test_one_bad_run_among_many_blanks_nothing(
    folder: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(folder, seeds=5)
    bad = folder / "digits" / "plain-8-seed3"
    (bad / store.RUN_FILE).write_text("[" * 100_000)
    problems = store.RunRecord.problems.func  # type: ignore[attr-defined]

    def raising(run: store.RunRecord) -> tuple[str, ...]:
        if run.name == "plain-8-seed4":
            raise MemoryError
        return problems(run)

    monkeypatch.setattr(store.RunRecord, "problems", property(raising))
    app = open_page(HEALTH)
    assert "**2 of 20 folders**" in markup(app)
    assert "digits/plain-8-seed4, unknown: looking at it failed (MemoryError)" in texts(app)
    assert "digits/plain-8-seed3, left out: run.json is torn or not JSON" in texts(app)


def test_many_problems_stand_in_a_table_without_markup(folder: Path, open_page: Open) -> None:
    for index in range(20):
        (folder / "digits" / f"{index:02d}![x](evil.example)").mkdir(parents=True)
    app = open_page(HEALTH)
    assert "20 folders" in markup(app)
    assert len(app.dataframe[0].value) == 8
    assert "evil.example" not in markup(app)


# --- ours and the paper -----------------------------------------------------------------------


def evaluated(path: Path, **changes: Any) -> None:
    """A result of `resnetlab evaluate` as it keeps them."""
    row = {
        "step": 40, "protocol": "ten-crop", "average": "softmax", "crop": 224, "sides": [256],
        "data": "imagenet", "dataset_sha256": "0", "images": 50, "top1_error": 25.0, "top5_error": 8.0,
        "seconds": 1.0, "time": store.now(),
    }  # fmt: skip
    store.add_evaluation(store.read_run(path), row | changes)


def rows_of(app: AppTest, index: int, network: str) -> list[dict[str, Any]]:
    """Rows of a network in the table of that place behind the claims, empty cells left out."""
    shown = app.dataframe[index + 1].value
    own = shown[shown["network"] == network].to_dict("records")
    return [
        {key: value for key, value in row.items() if value == value and value is not None}
        for row in own
    ]


def test_without_runs_of_ours_the_papers_numbers_stand_alone(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8")
    app = open_page(PAPER)
    assert "No finished run is of a network in these tables yet." in markup(app)
    _, curves, two, three, four, five, six = (item.value for item in app.dataframe)
    for shown, records in ((two, paper.TABLE_2), (three, paper.TABLE_3), (four, paper.TABLE_4)):
        top1 = {r.network: f"{r.value:.2f}" for r in records if r.quantity == "top1_error"}
        stated = shown.dropna(subset=["paper_top1"])
        assert dict(zip(stated["network"], stated["paper_top1"], strict=True)) == top1
        assert set(shown["network"]) == {r.network for r in records}
        assert shown[["ours_top1", "n", "data", "recipe", "study"]].isna().all().all()
    assert dict(zip(five["network"], five["paper_top5"], strict=True)) == {
        record.network: f"{record.value:.2f}" for record in paper.TABLE_5
    }
    for item in app.dataframe[2:]:
        assert "network" in item.proto.column_order
        assert not [name for name in item.proto.column_order if name.startswith("ours_")], "all empty"
    ends = curves.set_index("network").loc["plain-56", ["paper_train", "paper_top1"]]
    assert list(ends) == ["5.80", "13.20"]
    assert list(two["network"]) == ["plain-18", "resnet-18", "plain-34", "resnet-34"]
    assert list(two["paper_top1"]) == ["27.94", "27.88", "28.54", "25.03"]
    best = six.set_index("network")
    assert best.loc["resnet-110", "paper_top1"] == "6.61 ± 0.16 (best 6.43)"
    assert best.loc["resnet-1202", "parameters"] == "19.4 M"
    assert best.loc["Highway-19", "paper_top1"] == "7.72 ± 0.16 (best 7.54)"


def test_table_6_has_mean_spread_n_and_conditions_of_ours(folder: Path, open_page: Open) -> None:
    paths = [write_run(folder, "resnet-20", seed=seed) for seed in range(3)]
    write_run(folder, "resnet-20", seed=3, status="diverged")
    write_run(folder, "resnet-56", study="other")
    app = open_page(PAPER)
    errors = [json.loads((p / store.SUMMARY_FILE).read_text())["test_error"] for p in paths]
    (row,) = rows_of(app, 5, "resnet-20")
    spread = f"{statistics.mean(errors):.2f} ± {statistics.stdev(errors):.2f}"
    assert row["ours_top1"] == f"{spread} (best {min(errors):.2f})"  # of three seeds, at the last step
    assert (row["n"], row["data"], row["study"]) == (3, "digits", "digits")
    assert row["protocol"] == "single view"
    assert row["comparable"].startswith("no: the paper trained on CIFAR-10 and ImageNet")
    assert row["our_parameters"] == "1,000"
    (row,) = rows_of(app, 5, "resnet-56")
    assert (row["n"], row["study"]) == (1, "other")
    assert "±" not in row["ours_top1"]
    (row,) = rows_of(app, 5, "resnet-44")
    assert not {"ours_top1", "n", "data", "comparable"} & set(row)
    assert "None of these runs is on the paper's own data" in markup(app)


def test_the_paper_is_a_picture_with_a_tick_for_each_order_that_is_told(
    folder: Path, open_page: Open
) -> None:
    for seed in range(3):
        for network in ("plain-20", "plain-56", "resnet-20", "resnet-56"):
            write_run(folder, network, seed=seed)
    training, test, table_6 = charts(open_page(PAPER))
    assert "Final training error" in training["layout"]["title"]["text"]
    hollow, full = training["data"]
    assert all(symbol.endswith("-open") for symbol in hollow["marker"]["symbol"])
    assert not any(symbol.endswith("-open") for symbol in full["marker"]["symbol"])
    figure_6 = [r for r in paper.FIGURE_6 if r.quantity == "train_error"]
    assert hollow["y"] == [record.network for record in figure_6]
    values = np.frombuffer(base64.b64decode(hollow["x"]["bdata"]), hollow["x"]["dtype"])
    assert list(values) == [record.value for record in figure_6]
    # The made-up plain networks get worse with depth, as the paper's; residual ones stay level.
    notes = {n["y"]: n["text"] for n in training["layout"]["annotations"] if n["xref"] == "paper"}
    ticks = {name: text for name, text in notes.items() if name in hollow["y"]}
    assert ticks == {"plain-56": "✓ as in the paper", "resnet-56": "· under 1 point"}
    # On other images the two have an axis each.
    assert hollow["xaxis"] != full["xaxis"]
    for figure in (test, table_6):
        assert "Final test error" in figure["layout"]["title"]["text"]


def test_protocols_are_taken_from_evaluations_of_the_last_step(folder: Path, open_page: Open) -> None:
    images = str(folder.parent)
    big = {"data": f"imagenet:{images}", "recipe": "imagenet"}
    paths = [write_run(folder, "resnet-34", seed=seed, **big) for seed in range(2)]
    for path, top1 in zip(paths, (25.5, 24.0), strict=True):
        evaluated(path, top1_error=99.0)
        evaluated(path, top1_error=top1)  # the latest counts
        evaluated(path, step=20, top1_error=1.0)
        evaluated(
            path, protocol="multi-scale", sides=[64, 96], crop=64, top1_error=30.0, top5_error=None
        )
    app = open_page(PAPER)
    (row,) = rows_of(app, 1, "resnet-34")
    mean, spread = statistics.mean([25.5, 24.0]), statistics.stdev([25.5, 24.0])
    assert row["ours_top1"].startswith(f"{mean:.2f} ± {spread:.2f} (best ")
    assert (row["n"], row["protocol"], row["data"]) == (2, "10-crop", "imagenet")
    (row,) = rows_of(app, 2, "resnet-34")
    assert row["ours_top5"] == "8.00 ± 0.00 (best 8.00)"
    assert "None of these runs" not in markup(app)
    # Another condition of the same network: its single view, said to be one.
    write_run(folder, "resnet-34-B", study="small", data="digits-large")
    (row,) = rows_of(open_page(PAPER), 3, "resnet-34-B")
    assert row["protocol"] == "single view"
    assert row["comparable"].startswith("no: the paper trained on")


def test_each_test_of_a_network_stands_beside_the_papers_same_test(folder: Path) -> None:
    """As notebook 06 shows them: a test that only one of the two made has empty cells of the other."""
    runs = []
    for seed, top1 in enumerate((25.5, 24.0)):
        path = write_run(folder, "resnet-34", seed=seed, data="digits-large")
        evaluated(path, top1_error=top1, data="digits-large")
        evaluated(path, protocol="multi-scale", sides=[64, 96], crop=64, data="digits-large")
        evaluated(path, top1_error=90.0, data="folder:else")
        runs.append(store.read_run(path))
    plain = store.read_run(write_run(folder, "plain-34", data="digits-large"))
    found = comparison.by_protocol(comparison.measured([("any", [*runs, plain])]))
    shown = found.set_index(["network", "protocol"])
    ours = {
        test: f"{row['ours']} of {row['n']}" for test, row in shown.dropna(subset="ours").iterrows()
    }
    single = [run.final("test_error") for run in runs]
    spread = f"{statistics.mean(single):.2f} ± {statistics.stdev(single):.2f}"
    assert ours == {
        ("plain-34", "single view"): f"{plain.final('test_error'):.2f} of 1",
        ("resnet-34", "single view"): f"{spread} (best {min(single):.2f}) of 2",
        ("resnet-34", "10-crop"): "24.75 ± 1.06 (best 24.00) of 2",
        ("resnet-34", "10-crop, on folder:else"): "90.00 ± 0.00 (best 90.00) of 2",
        ("resnet-34", "multi-scale, shorter sides 64, 96"): "25.00 ± 0.00 (best 25.00) of 2",
    }
    theirs = shown.dropna(subset="paper")[["paper", "source"]]
    assert {test: tuple(row) for test, row in theirs.iterrows()} == {
        ("plain-34", "single view"): ("32.40", "Figure 4"),
        ("plain-34", "10-crop"): ("28.54", "Table 3"),
        ("resnet-34", "single view"): ("28.30", "Figure 4"),
        ("resnet-34", "10-crop"): ("25.03", "Table 3"),
        ("resnet-34", "10-crop, on folder:else"): ("25.03", "Table 3"),
    }
    assert not len(comparison.by_protocol([]))


def test_comparable_only_with_the_papers_data_recipe_and_test(folder: Path, open_page: Open) -> None:
    run = {"data": "cifar10", "recipe": "paper", "planned": 64_000}
    write_run(folder, "resnet-20", name="ours", **run)
    write_run(folder, "resnet-32", name="short", data="cifar10", recipe="paper", planned=640)
    big = {"data": f"imagenet:{folder.parent}", "recipe": "imagenet", "planned": 600_000}
    evaluated(write_run(folder, "resnet-18", study="large", **big), top5_error=None)
    evaluated(write_run(folder, "plain-18", study="large", **big), sides=[288])
    write_run(folder, "plain-34", study="large", **big)
    app = open_page(PAPER)
    verdicts = {name: rows_of(app, 5, name)[0]["comparable"] for name in ("resnet-20", "resnet-32")}
    assert verdicts["resnet-20"] == "yes"
    assert verdicts["resnet-32"].startswith("no: the paper trained for 64,000 steps")
    large = {
        name: rows_of(app, 1, name)[0]["comparable"] for name in ("resnet-18", "plain-18", "plain-34")
    }
    assert large["resnet-18"] == "yes"
    usual = "crop 224 of shorter side 256"
    assert large["plain-18"] == f"no: ten-crop: crop 224 of shorter side 288; the paper: {usual}"
    assert large["plain-34"] == "no: another test, single view"


def test_evaluations_that_are_no_numbers_are_left_out(folder: Path, open_page: Open) -> None:
    path = write_run(folder, "resnet-34", data="digits-large")
    for bad in (
        {"top1_error": HOSTILE},
        {"protocol": ["ten-crop"]},
        {"sides": {"a": 1}, "crop": HOSTILE},
    ):
        evaluated(path, **bad)
    with (path / store.EVALUATIONS_FILE).open("a") as file:
        file.write('{"step": 40, "protocol": "ten-crop", "top1_error": NaN}\n{"step": 40}\n[]\n{"st')
    app = open_page(PAPER)
    assert any(math.isclose(row["n"], 1) for row in rows_of(app, 1, "resnet-34"))
    assert "evil.example" not in markup(app)


def test_what_comes_along_of_the_anatomy_is_what_torch_says() -> None:
    """The page of a committed study starts no torch; `python -m dashboard.inside write` renews it."""
    known = inside.known()
    assert {key.split()[0] for key in known} >= {"plain-56", "resnet-56", "resnet-56-B"}
    for key in ("plain-20 10 1 8", "resnet-20 10 1 8", "resnet-20 10 3 32"):
        name, *numbers = key.split()
        classes, channels, size = map(int, numbers)
        network = nets.build(config.Network.from_name(name), num_classes=classes, in_channels=channels)
        assert known[key] == nets.parts(network, size)


def test_the_page_of_a_committed_study_starts_no_process(
    monkeypatch: pytest.MonkeyPatch, open_page: Open
) -> None:
    monkeypatch.setenv("RESNETLAB_RESULTS", str(PROJECT / "results"))
    monkeypatch.setattr(inside.subprocess, "run", lambda *_, **__: pytest.fail("a process"))
    for study in ("reference/digits", "reference/depth-real", "reference/shortcuts"):
        app = open_page(NETWORKS, study=study)
        assert "could not be built" not in texts(app)
        assert charts(app)


def test_the_film_moves_drawings_and_error_curve_without_the_server(
    folder: Path, open_page: Open
) -> None:
    for network in ("plain-8", "resnet-8"):
        write_run(folder, network)
    (film,) = [one for one in charts(open_page(NETWORKS)) if one.get("frames")]
    steps = [frame["name"] for frame in film["frames"]]
    assert steps == [str(step) for step in range(EVERY, STEPS + 1, EVERY)]
    (slider,) = film["layout"]["sliders"]
    assert [mark["args"][0] for mark in slider["steps"]] == [[step] for step in steps]
    kinds = [film["data"][place]["type"] for place in film["frames"][0]["traces"]]
    assert kinds == ["heatmap", "heatmap", "scatter"], "a drawing per network and the curve's cursor"
    for frame in film["frames"]:
        drawn, other, cursor = frame["data"]
        step = int(frame["name"])
        assert cursor["x"] == [step, step]
        values = [math.log10(1 / (1 + index + step)) for index in range(8)]
        boxes = [value for row in drawn["z"] for value in row if value is not None]
        assert boxes == pytest.approx(values, abs=0.01), "of layer after layer, stage by stage"
        assert other["z"] == drawn["z"]


# --- inside the networks ----------------------------------------------------------------------


def table_with(app: AppTest, column: str) -> list[Any]:
    return [item.value for item in app.dataframe if column in item.value.columns]


@pytest.mark.slow
def test_the_drawing_has_every_block_and_the_numbers_are_the_modules_own(
    folder: Path, open_page: Open
) -> None:
    write_run(folder, "plain-20")
    write_run(folder, "resnet-20")
    app = open_page(NETWORKS, block="stage 2, block 1")
    assert next(box for box in app.selectbox if box.key == "network").value == "resnet-20"
    drawing = charts(app)[0]
    bars = [trace for trace in drawing["data"] if trace["type"] == "bar"]
    assert sum(len(trace["customdata"]) for trace in bars) == 2 * (9 + 2)
    names = {trace.get("name") for trace in drawing["data"]}
    assert {"identity shortcut", "identity, zero-padded"} <= names
    plain, residual = table_with(app, "what")
    # 3x3 convolutions from 16 to 32 filters and from 32 to 32, two batch norms of 32; on 32x32 images,
    # because the made-up runs name no shape.
    wanted = {"parameters": 9 * 16 * 32 + 9 * 32 * 32 + 4 * 32}
    wanted |= {"multiply-adds of one image": 16 * 16 * (9 * 16 * 32 + 9 * 32 * 32)}
    for table in (plain, residual):
        found = dict(zip(table["what"], table["value"], strict=True))
        assert found["out"] == "32 × 16 × 16"
        assert {key: found[key] for key in wanted} == {key: f"{n:,}" for key, n in wanted.items()}
    formulas = [item.value for item in app.get("latex")] or [m.value for m in app.markdown]
    assert any(r"F(x) + \mathrm{pad}(x)" in text for text in formulas)


@pytest.mark.slow
def test_images_of_many_sizes_are_drawn_as_they_are_cropped(folder: Path, open_page: Open) -> None:
    path = write_run(folder, "resnet-18", data="digits-large", recipe="imagenet-small", crop=56)
    spoil(path, dataset={"name": "tiny", "classes": ["a"] * 7, "shape": [3, None, None]})
    app = open_page(NETWORKS, network="resnet-18")
    assert "3 × 56 × 56" in texts(app)


def test_gradient_norms_are_those_of_the_last_logged_step(folder: Path, open_page: Open) -> None:
    names = ["conv", *(f"stage{s}.0.residual.conv{c}" for s in (1, 2, 3) for c in (1, 2)), "classifier"]
    path = write_run(folder, "plain-8")
    spoil(path, layers={"gradient_norm": names})
    rows = [json.loads(line) for line in (path / store.PROBES_FILE).read_text().splitlines()]
    app = open_page(NETWORKS, network="resnet-8", block="stage 3, block 1")
    layers = table_with(app, "gradient")[0].set_index("layer")
    assert layers["gradient"].to_dict() == {
        "conv1": rows[-1]["values"][5],
        "conv2": rows[-1]["values"][6],
    }
    assert f"Gradient norms of plain-8-seed0 at step {rows[-1]['step']}." in texts(app)
    assert "No run of it in this study" in markup(app)


def test_without_weights_the_page_says_so_and_draws_the_papers_lines(
    folder: Path, open_page: Open
) -> None:
    write_run(folder, "plain-8")
    app = open_page(NETWORKS)
    assert "No weights of this study" in app.info[0].value
    lines = {t["name"]: t for t in charts(app)[-1]["data"]}
    assert len(lines) == 5
    assert all("the paper" in name for name in lines)


def test_stored_responses_are_shown_where_the_weights_are_not(folder: Path, open_page: Open) -> None:
    for network in ("plain-20", "resnet-20-B"):
        write_run(folder, network)
    rows = [
        store.read_run(folder / "digits" / f"{network}-seed0").identity()
        | {"seed": seed, "run": f"{network}-seed{seed}", "layer": layer, "value": layer + seed + 1.0}
        for network in ("plain-20", "resnet-20-B")
        for seed in (0, 2)
        for layer in range(19)
    ]
    frame = pd.DataFrame(rows)
    others = frame.assign(study="others", value=99.0)
    for place, values in {"another": others, "elsewhere": frame}.items():
        store.save_measurement(folder, place, "layer-responses", values, what="made up", choices={})
    damaged = folder / store.MEASUREMENTS / "digits" / "layer-responses.json"
    damaged.parent.mkdir()
    damaged.write_text("{torn")
    app = open_page(NETWORKS)
    assert "study elsewhere, made up" in texts(app)
    lines = {trace["name"]: numbers(trace["y"]) for trace in charts(app)[-1]["data"][::2]}
    wanted = [layer + 2 for layer in range(19)]  # the mean of seeds 0 and 2
    assert lines == {"plain-20 (n = 2)": wanted, "resnet-20-B (n = 2)": wanted}
    # Stage 2, block 1 is opened: its convolutions are the 8th and 9th of the network.
    for shown in table_with(app, "response"):
        found = shown.dropna(subset=["response"]).set_index("layer")["response"].to_dict()
        assert found == {"conv1": 9.0, "conv2": 10.0}


@pytest.mark.slow
def test_responses_are_measured_on_the_runs_own_weights(folder: Path, open_page: Open) -> None:
    import torch

    from resnetlab import training
    from resnetlab.images import datasets
    from resnetlab.nets import probes

    words = f"train resnet-8 --steps 4 --study digits --run mine --results {folder}".split()
    assert CliRunner().invoke(cli.app.app, words).exit_code == 0
    run = store.read_run(folder / "digits" / "mine")
    rows = pd.DataFrame([run.identity() | {"layer": layer, "value": 1.0} for layer in range(7)])
    store.save_measurement(folder, "stored", "layer-responses", rows, what="made up", choices={})
    assert "study stored, made up" in texts(open_page(NETWORKS))  # until they are measured again
    app = open_page(NETWORKS, measure="true")
    trained = training.load_trained(run, torch.device("cpu"))
    test = datasets.load(run.config.data).test.images
    few = test[torch.linspace(0, len(test) - 1, min(256, len(test))).round().long()]
    wanted = probes.layer_responses(trained.network, trained.normalise(few)).tolist()
    shown = charts(app)[-1]["data"]
    assert [trace["name"] for trace in shown] == ["resnet-8 (n = 1)"] * 2
    ordered, by_size = ([float(v) for v in numbers(trace["y"])] for trace in shown)
    assert ordered == pytest.approx(wanted, rel=1e-4)
    assert by_size == pytest.approx(sorted(wanted, reverse=True), rel=1e-4)
    assert f"step 4, {len(few)} images" in texts(app)
    for item in (folder / "digits" / "mine" / store.CHECKPOINTS).glob("*.pt"):
        item.write_bytes(b"torn")
    app.run()
    assert not app.exception
    assert "no whole checkpoint" in texts(app)


def numbers(values: Any) -> list[float]:
    """The y of a trace, which plotly may have packed."""
    if isinstance(values, dict):
        import base64

        import numpy as np

        return list(np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]))
    return list(values)


def test_unknown_values_in_the_link_fall_back(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8")
    app = open_page(NETWORKS, network="resnet-9999", block="<b>", measured="nobody")
    assert len(charts(app)) == 3


# --- notebooks --------------------------------------------------------------------------------


def notebook_of(*cells: dict[str, Any], **given: Any) -> str:
    meta = {"papermill": {"parameters": given}}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": meta, "cells": list(cells)})


def output(**data: Any) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "source": "1",
        "metadata": {},
        "outputs": [{"output_type": "display_data", "data": data}],
    }


def test_a_notebook_is_shown_with_parameters_and_download(folder: Path, open_page: Open) -> None:
    path = write_run(folder, "plain-8")
    known = json.loads((PROJECT / "notebooks" / "train.ipynb").read_text())["cells"][0]
    figure = {"data": [{"type": "scatter", "y": [1, 2]}], "layout": {"title": {"text": "mine"}}}
    text = notebook_of(
        known,
        {
            "cell_type": "code",
            "source": ["depth: int = 20  # 6n+2"],
            "metadata": {"tags": ["parameters"]},
        },
        output(**{"application/vnd.plotly.v1+json": figure, "text/html": "<script>alert(1)</script>"}),
        output(**{"text/html": "<table>", "text/plain": "a table"}),
        depth=56,
    )
    (path / store.NOTEBOOK_FILE).write_text(text)
    app = open_page(NOTEBOOKS)
    assert "".join(known["source"]) in markup(app)
    assert app.dataframe[0].value.to_dict("records") == [{"name": "depth", "value": "56"}]
    (chart,) = charts(app)
    assert chart["layout"]["title"]["text"] == "mine"
    assert "a table" in codes(app)
    assert app.get("download_button")
    assert "script" not in markup(app)


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "results" / "reference").glob("*/*.ipynb")), ids=lambda path: path.stem
)
def test_every_figure_of_the_committed_notebooks_is_drawn(
    monkeypatch: pytest.MonkeyPatch, open_page: Open, path: Path
) -> None:
    monkeypatch.setenv("RESNETLAB_RESULTS", str(PROJECT / "results"))
    app = open_page(NOTEBOOKS, study=f"reference/{path.parent.name}", notebook=path.name)
    assert "Left out" not in texts(app)
    cells = json.loads(path.read_text())["cells"]
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    written = [item for found in data if (item := found.get("application/vnd.plotly.v1+json"))]
    drawn = charts(app)
    assert len(drawn) == len(written) > 0
    for ours, theirs in zip(drawn, written, strict=True):
        assert [numbers(t["y"]) for t in ours["data"]] == [numbers(t["y"]) for t in theirs["data"]]


def test_nothing_of_a_hostile_notebook_is_interpreted(folder: Path, open_page: Open) -> None:
    path = write_run(folder, "plain-8")
    source = {"source": "http://evil.example/x.png"}
    loading = {
        "data": [{"y": [1]}],
        "layout": {"images": [source], "template": {"layout": {"images": [source]}}},
    }
    tiles = {"data": [{"type": "scattermap", "lat": [1], "lon": [1]}], "layout": {}}
    plotly = "application/vnd.plotly.v1+json"
    text = notebook_of(
        {"cell_type": "markdown", "source": HOSTILE},
        {"cell_type": "raw", "source": HOSTILE},
        output(**{plotly: loading}),
        output(**{plotly: tiles}),
        output(**{plotly: {"data": [{"type": "scatter", "y": 7, "nonsense": {}}], "layout": {}}}),
        output(**{plotly: HOSTILE}),
        output(**{"text/markdown": HOSTILE}),
        output(**{"text/html": f"<script>{HOSTILE}</script>"}),
        output(**{"image/png": "no base64"}),
        {
            "cell_type": "code",
            "source": 7,
            "outputs": [None, {"output_type": "stream", "text": HOSTILE}],
        },
        7,  # type: ignore[arg-type]
        **{HOSTILE: HOSTILE},
    )
    (path / store.NOTEBOOK_FILE).write_text(text)
    app = open_page(NOTEBOOKS)
    for sign in ("evil.example", ":red[", "<script", "<img"):
        assert sign not in markup(app)
    (chart,) = charts(app)
    assert "evil.example" not in json.dumps(chart)
    assert texts(app).count("Left out:") == 6
    assert not app.get("iframe")
    assert "evil.example" not in "".join(str(item.proto) for item in app.get("html"))


def test_a_notebooks_verdict_is_prose_and_its_tables_are_whole(folder: Path, open_page: Open) -> None:
    path = write_run(folder, "plain-8")
    sentence = "Final training error of plain-56 minus plain-20: +70.2 points. " * 3
    table = "network    train   test\n" + "\n".join(f"plain-{n}  {n}.0  {n}.1" for n in range(30))
    rows = pd.DataFrame({"network": range(30), "sentence": [sentence] * 30})
    text = notebook_of(
        {"cell_type": "code", "outputs": [{"output_type": "stream", "text": sentence + "\n"}]},
        {"cell_type": "code", "outputs": [{"output_type": "stream", "text": table}]},
        output(**{"text/html": rows.to_html()}),
    )
    (path / store.NOTEBOOK_FILE).write_text(text)
    app = open_page(NOTEBOOKS)
    assert sentence.strip() in texts(app)
    assert table in codes(app), "columns stay columns"
    assert json.loads(app.dataframe[-1].proto.columns)["sentence"]["width"] == "large"


@pytest.mark.parametrize("link", ["<a href='http://x'>", "<A HREF=x>", "<<a>a href=x>", "</a >"])
def test_no_link_in_a_notebooks_figure_is_live(link: str) -> None:
    """Plotly makes an element of what stands between < and the next >, if it begins with an a."""
    figure = executed.figure_of(
        {
            "data": [{"y": [1], "text": [f"b {link} c"], "hovertemplate": link}],
            "layout": {"annotations": [{"text": link}], "title": {"text": f"<b>{link}"}},
        }
    )
    told = json.dumps(figure.to_plotly_json(), default=list)
    assert not re.search(r"<[\s/]*a\b[^<>]*>", told, re.IGNORECASE)
    assert "<b>" in told, "what only looks bold stays"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"cells": [', "it is torn or not JSON"),
        (b"[" * 100_000, "it is torn or not JSON"),
        (b"[]", "it is no notebook"),
        (b'{"nbformat": 3, "cells": []}', "its format is 3"),
        (b"\xff\xfe\x00", "it is torn or not JSON"),
    ],
)
def test_a_torn_or_foreign_notebook_leaves_the_others(
    folder: Path, open_page: Open, content: bytes, reason: str
) -> None:
    path = write_run(folder, "plain-8")
    (path / store.NOTEBOOK_FILE).write_text(notebook_of(output(**{"text/plain": "healthy"})))
    (folder / "digits" / "01_degradation.ipynb").write_bytes(content)
    app = open_page(NOTEBOOKS)
    assert f"01_degradation.ipynb cannot be shown: {reason}" in texts(app)
    picker = next(box for box in app.selectbox if box.key == "notebook")
    picker.select(picker.options[1]).run()
    assert not app.exception
    assert "healthy" in codes(app)


def test_a_study_without_notebooks_says_what_makes_them(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8")
    assert "no executed notebook" in open_page(NOTEBOOKS).info[0].value


def test_the_pages_ask_torch_only_in_a_process_of_its_own() -> None:
    import subprocess
    import sys

    code = "import sys, dashboard.inside; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, capture_output=True)
