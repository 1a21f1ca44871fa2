"""The dashboard's pages in every state of a results folder, without a browser."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dashboard_data import APP, STEPS, append_rows, charts, opened, write_run, write_study
from streamlit.testing.v1 import AppTest

from resnetlab import run_from_parameters, store, verdict

PROJECT = Path(__file__).resolve().parent.parent
PAGES = ("app_pages/degradation.py", "app_pages/gradients.py", "app_pages/runs.py")
HOSTILE = "<img src=http://evil.example/x> ![a](http://evil.example/y) :red[z] $x$ \u202e\x00 =1+1"

Open = Callable[..., AppTest]


@pytest.fixture
def open_page(folder: Path) -> Open:
    return opened


def study_picker(app: AppTest) -> Any:
    return next(box for box in app.selectbox if box.key == "study")


def texts(app: AppTest) -> str:
    return "\n".join(item.value for item in app.text)


def markdown(app: AppTest) -> str:
    """All that is interpreted as markup."""
    parts = [*app.markdown, *app.title, *app.header, *app.subheader, *app.caption, *app.info]
    return "\n".join(item.value for item in parts) + "".join(
        item.proto.text for item in app.get("progress")
    )


# --- without results --------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("state", ["missing", "empty", "foreign"])
def test_without_studies_every_page_says_what_makes_them(
    folder: Path, open_page: Open, page: str, state: str
) -> None:
    if state == "empty":
        folder.mkdir()
    elif state == "foreign":
        folder.mkdir()
        (folder / "README.md").write_text("text")
        (folder / ".hidden").mkdir()
    app = open_page(page)
    assert "make study" in markdown(app)
    assert not charts(app)


@pytest.mark.parametrize("page", PAGES)
def test_a_study_without_runs(folder: Path, open_page: Open, page: str) -> None:
    (folder / "digits" / "notes").mkdir(parents=True)
    app = open_page(page)
    assert "no readable run" in app.info[0].value
    if page == "app_pages/runs.py":
        assert "1 folder of this study with something wrong" in markdown(app)


# --- finished studies -------------------------------------------------------------------------


def test_verdict_curves_and_table_are_those_of_the_library(folder: Path, open_page: Open) -> None:
    write_study(folder, seeds=3)
    app = open_page()
    study = store.read_study(folder / "digits")
    for sentence in verdict.on_degradation(study.table()):
        assert sentence in texts(app)
    assert len(charts(app)) == 5
    shown = app.dataframe[0].value
    mean = study.table().query("network == 'plain-14'")["train_error"]
    row = shown[shown["network"] == "plain-14"].iloc[0]
    assert row["train_error"] == f"{mean.mean():.2f} ± {mean.std():.2f}"
    assert row["n"] == 3
    assert not {"diverged", "unfinished", "paper_train_error", "data"} & set(shown.columns)
    assert "Not to be compared" in texts(app)
    assert "fewer than" not in markdown(app)


@pytest.mark.parametrize("study", ["digits", "depth-real"])
@pytest.mark.parametrize("page", [PAGES[0], "app_pages/lesson.py"])
def test_no_sentence_on_the_committed_studies_is_cut(
    open_page: Open, monkeypatch: pytest.MonkeyPatch, page: str, study: str
) -> None:
    reference = PROJECT / "results" / store.REFERENCE
    monkeypatch.setenv("RESNETLAB_RESULTS", str(reference))
    screen = "agreement" if page != PAGES[0] else ""
    app = open_page(page, study=study, **({"screen": screen, "shown": "true"} if screen else {}))
    shown = texts(app)
    assert shown
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(line[-1:] for line in shown.splitlines())
    if not screen:
        read = store.read_study(reference / study)
        said = [
            *verdict.on_degradation(read.table()),
            *verdict.on_crossing(store.metrics_of(read.runs)),
        ]
        for sentence in said:
            assert sentence in shown


def test_one_seed_has_no_spread_and_says_so(folder: Path, open_page: Open) -> None:
    write_study(folder)
    app = open_page()
    assert all("±" not in cell for cell in app.dataframe[0].value["train_error"])
    assert "fewer than 3 finished seeds" in markdown(app)
    assert "study digits" not in markdown(app), "the page is of any study"


def test_the_papers_values_stand_beside_networks_that_it_has(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-20")
    write_run(folder, "resnet-20")
    shown = open_page().dataframe[0].value.set_index("network")
    assert shown.loc["plain-20", "paper_train_error"] == 1.4
    assert shown.loc["resnet-20", "paper_test_error"] == 8.75


def test_runs_of_two_recipes_are_not_mixed(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8", name="a")
    write_run(folder, "plain-8", name="b", lr=0.05)
    write_run(folder, "plain-14", name="c")
    app = open_page()
    choice = next(box for box in app.selectbox if box.key == "condition")
    assert len(choice.options) == 2
    assert list(app.dataframe[0].value["network"]) == ["plain-8", "plain-14"]
    choice.select(choice.options[1]).run()
    assert list(app.dataframe[0].value["network"]) == ["plain-8"]


def test_gradients_start_with_shallowest_and_deepest_of_each_family(
    folder: Path, open_page: Open
) -> None:
    write_study(folder, seeds=2)
    write_run(folder, "plain-20")
    app = open_page("app_pages/gradients.py")
    expected = [f"{name}-seed0" for name in ("plain-8", "plain-20", "resnet-8", "resnet-14")]
    assert app.multiselect[0].value == expected
    _, heatmap, profile = charts(app)
    assert sum(trace["type"] == "heatmap" for trace in heatmap["data"]) == 4
    assert all(f"step {STEPS}" in trace["name"] for trace in profile["data"])
    app.select_slider[0].set_value(8).run()
    assert all("step 8" in trace["name"] for trace in charts(app)[-1]["data"])
    app.multiselect[0].set_value([]).run()
    assert not app.exception
    assert not charts(app)


def test_changing_the_study_changes_the_runs_to_choose_from(folder: Path, open_page: Open) -> None:
    write_study(folder)
    write_run(folder, "resnet-20", study="other")
    app = open_page("app_pages/gradients.py")
    study_picker(app).select("other").run()
    assert not app.exception
    assert app.multiselect[0].options == ["resnet-20-seed0"]
    assert app.multiselect[0].value == ["resnet-20-seed0"]
    app.switch_page("app_pages/runs.py").run()
    assert not app.exception
    assert study_picker(app).value == "other"


def test_the_users_studies_come_before_the_reference_ones(folder: Path, open_page: Open) -> None:
    for study in ("constructed", "digits"):
        write_run(folder / "reference", "plain-8", study=study)
    write_run(folder, "plain-8", study="mine")
    write_run(folder, "plain-8", study="digits")
    app = open_page()
    committed = ["reference/digits", "reference/constructed"]
    assert study_picker(app).options == ["digits", "mine", *committed]


def test_a_fresh_clone_opens_on_the_default_study(folder: Path, open_page: Open) -> None:
    for study in ("constructed", "depth-real", "digits"):
        write_run(folder / "reference", "plain-8", study=study)
    assert study_picker(open_page()).value == "reference/digits"


def test_the_link_chooses_the_study_and_a_bad_one_falls_back(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8", study="a")
    write_run(folder, "plain-14", study="b")
    assert study_picker(open_page(study="b")).value == "b"
    assert study_picker(open_page(study="../../etc")).value == "a"
    assert study_picker(open_page("app_pages/gradients.py", step="-5", runs="nobody")).value == "a"


# --- runs in other states ---------------------------------------------------------------------


def test_a_running_run_is_live_and_can_be_paused(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8")
    write_run(folder, "plain-14", steps=16, status="running")
    app = open_page("app_pages/runs.py")
    assert "live] 1 run training" in markdown(app)
    assert "plain-14 · seed 0: step 16 of 40" in markdown(app)
    table = app.dataframe[0].value.set_index("run")
    assert table.loc["plain-14-seed0", "status"] == "running"
    assert table.loc["plain-14-seed0", "progress"] == pytest.approx(0.4)
    assert next(box for box in app.selectbox if box.key == "run").value == "plain-14-seed0"
    next(item for item in app.toggle if item.key == "pause").set_value(True).run()
    assert "picture paused" in markdown(app)


def test_nothing_is_live_when_nothing_runs(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8")
    app = open_page()
    assert "pause" not in {item.key for item in app.toggle}
    assert "live" not in markdown(app)


def test_new_rows_are_read_at_the_next_look(folder: Path, open_page: Open) -> None:
    path = write_run(folder, "plain-14", steps=16, status="running")
    app = open_page("app_pages/runs.py")
    assert app.dataframe[0].value["steps"].item() == 16
    run = store.read_run(path)
    writer = store.RunWriter(folder, run.study, run.name, run.config)
    writer.info = dict(run.info)
    append_rows(writer, 20, 24)
    app.run()
    assert app.dataframe[0].value["steps"].item() == 24


def test_a_run_killed_without_a_word_is_noticed(folder: Path, open_page: Open) -> None:
    """Nothing in its files changes: only its process is gone."""
    path = write_run(folder, "plain-14", steps=16, status="running") / store.RUN_FILE
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": process.pid}))
        app = open_page("app_pages/runs.py")
        assert app.dataframe[0].value["status"].item() == "running"
        process.kill()
    app.run()
    assert app.dataframe[0].value["status"].item() == "interrupted"


def test_damage_is_counted_and_the_rest_is_shown(folder: Path, open_page: Open) -> None:
    write_study(folder)
    write_run(folder, "plain-20", status="diverged", steps=12, error="loss not finite at step 13")
    write_run(folder, "plain-26", status="failed", steps=12, error="no memory")
    torn = write_run(folder, "resnet-20")
    with (torn / store.METRICS_FILE).open("a") as file:
        file.write('{"step": 44, "train_er')
    newer = write_run(folder, "resnet-26")
    (newer / store.RUN_FILE).write_text(json.dumps({"schema": 99}))
    damaged = write_run(folder, "resnet-32")
    (damaged / store.RUN_FILE).write_bytes(b"\x00\xff{")
    (folder / "digits" / "photos").mkdir()
    (folder / "digits" / "photos" / "cat.jpg").write_bytes(b"\xff\xd8")
    (folder / "digits" / "notes.txt").write_text("text")

    app = open_page("app_pages/runs.py")
    assert "6 folders of this study with something wrong: **Health**" in markdown(app)
    assert len(app.dataframe[0].value) == 7

    app = open_page()
    assert len(charts(app)) == 5
    networks = app.dataframe[0].value.set_index("network")
    assert networks.loc["plain-20", "diverged"] == 1
    assert networks.loc["plain-26", "unfinished"] == 1
    assert pd.isna(networks.loc["plain-26", "train_error"])
    open_page("app_pages/gradients.py")


@pytest.mark.parametrize("page", PAGES)
def test_a_run_that_has_only_begun(folder: Path, open_page: Open, page: str) -> None:
    write_run(folder, "plain-8", steps=0, status="running")
    open_page(page)


@pytest.mark.parametrize("page", PAGES)
def test_hostile_names_and_texts_are_never_interpreted(
    folder: Path, open_page: Open, page: str
) -> None:
    write_run(folder, "plain-8", status="failed", steps=8, error=HOSTILE)
    hostile = write_run(folder, "plain-14", status="failed", error=HOSTILE * 40)
    hostile.rename(hostile.with_name(HOSTILE.replace("/", "_").replace("\x00", "")))
    (folder / "digits" / os.fsdecode(b"bytes-\xff\xfe")).mkdir()
    study = folder / "<b>![x](y)"
    (folder / "digits").rename(study)
    odd = write_run(folder, "plain-20", study="odd")
    info = json.loads((odd / store.RUN_FILE).read_text())
    (odd / store.RUN_FILE).write_text(
        json.dumps(info | {"step": 10**400, "layers": 7, "dataset": HOSTILE, "error": "\ud800"})
    )
    for name in (study.name, "odd"):
        app = open_page(page, study=name)
        assert study_picker(app).value == name
        for sign in ("evil.example", ":red[", "![", "<b>", "<img"):
            assert sign not in markdown(app)


@pytest.mark.parametrize("page", PAGES)
def test_values_that_are_no_numbers(folder: Path, open_page: Open, page: str) -> None:
    path = write_run(folder, "plain-8")
    rows = [
        '{"step": 1, "train_error": NaN, "lr": 1e999}',
        '{"step": 2, "train_error": "high", "test_error": [], "lr": null}',
        '{"step": -3}',
        "null",
        "\x00\x00",
    ]
    with (path / store.METRICS_FILE).open("a") as file:
        file.write("\n".join(rows))
    with (path / store.PROBES_FILE).open("a") as file:
        file.write('{"step": 1, "kind": "gradient_norm", "values": [null, 1e999]}\n')
    open_page(page)


def test_a_study_deleted_while_the_page_is_open(folder: Path, open_page: Open) -> None:
    write_study(folder)
    app = open_page()
    folder.rename(folder.with_name("away"))
    app.run()
    assert not app.exception
    assert "make study" in markdown(app)


# --- the frame --------------------------------------------------------------------------------


def test_every_chart_keeps_the_upload_button_away_and_its_own_key(
    folder: Path, open_page: Open
) -> None:
    write_study(folder)
    for page in PAGES:
        found = open_page(page).get("plotly_chart")
        assert all(json.loads(item.proto.config)["showSendToCloud"] is False for item in found)
        ids = [item.proto.id for item in found]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("page", [path.stem for path in (APP.parent / "app_pages").glob("*.py")])
def test_a_page_is_functions_and_one_call(page: str) -> None:
    """What stands at its top level is imports, constants and definitions: a reader begins at `page`."""
    docstring, *statements, last = ast.parse((APP.parent / "app_pages" / f"{page}.py").read_text()).body
    assert isinstance(docstring, ast.Expr)
    assert ast.unparse(last) == "page()"
    kinds = ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.FunctionDef | ast.ClassDef
    assert all(isinstance(statement, kinds) for statement in statements)


def test_only_one_file_caches() -> None:
    caching = {path.name for path in APP.parent.rglob("*.py") if "st.cache_" in path.read_text()}
    assert caching == {"cached.py"}


def test_settings_beside_the_script_are_the_safe_ones() -> None:
    settings = tomllib.loads((APP.parent / ".streamlit" / "config.toml").read_text())
    assert settings["server"]["address"] == "127.0.0.1"
    assert settings["server"]["fileWatcherType"] == "none"
    assert settings["browser"]["gatherUsageStats"] is False
    assert settings["client"]["showErrorDetails"] == "none"
    assert "enableXsrfProtection" not in settings["server"]
    assert "enableCORS" not in settings["server"]


def test_the_dashboard_never_imports_torch(folder: Path) -> None:
    write_study(folder)
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
app = AppTest.from_file({str(APP)!r}, default_timeout=60).run()
assert not app.exception, app.exception
for page in {PAGES[1:]!r}:
    app.switch_page(page).run()
    assert not app.exception, app.exception
heavy = [name for name in ("torch", "torchvision", "papermill") if name in sys.modules]
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_the_live_lab_trained_is_nobodys_first_page(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8", study="live-lab")
    write_run(folder / "reference", "plain-8", study="digits")
    assert study_picker(open_page()).value == "reference/digits"
    write_run(folder, "plain-8", study="mine")
    assert study_picker(open_page()).options == ["mine", "reference/digits", "live-lab"]


def test_where_no_study_is_shown_none_is_picked_and_the_next_page_has_it_as_it_was(
    folder: Path, open_page: Open
) -> None:
    write_run(folder, "plain-8", study="a")
    write_run(folder, "plain-8", study="b-with-a-name-that-the-picker-cuts")
    app = open_page()
    study_picker(app).select("b-with-a-name-that-the-picker-cuts").run()
    assert "b-with-a-name-that-the-picker-cuts" in texts(app), "in full below the picker"
    for page in ("health", "lab", "why"):
        app.switch_page(f"app_pages/{page}.py").run()
        assert "study" not in {box.key for box in app.selectbox}, page
    app.switch_page("app_pages/runs.py").run()
    assert study_picker(app).value == "b-with-a-name-that-the-picker-cuts"


def test_a_run_has_the_command_that_makes_it_again(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8", seed=3)
    app = open_page("app_pages/runs.py")
    assert "resnetlab train plain-8" in app.code[0].value
    assert "--seed 3" in app.code[0].value


def test_a_tables_own_button_saves_no_formula(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8").rename(folder / "digits" / "=HYPERLINK(A1)")
    assert open_page("app_pages/runs.py").dataframe[0].value["run"].tolist() == ["'=HYPERLINK(A1)"]


def test_runs_that_wait_for_a_cluster_are_seen(folder: Path, open_page: Open) -> None:
    write_run(folder, "plain-8")
    waiting = run_from_parameters(network="resnet-8").model_dump(mode="json")
    plan = {"schema": 1, "job": None, "runs": {"resnet-8-seed0": {"config": waiting}}}
    store.write_json(folder / "digits" / store.PLAN_FILE, plan)
    app = open_page("app_pages/runs.py")
    assert app.dataframe[0].value["status"].tolist() == ["finished", "queued"]
    assert "1 finished, 1 queued" in markdown(app)
    shutil.rmtree(folder / "digits" / "plain-8-seed0")
    assert "no readable run yet, 1 run queued" in open_page("app_pages/runs.py").info[0].value


# --- the first screen -------------------------------------------------------------------------


def test_the_first_screen_has_the_three_numbers_with_n_and_interval(
    folder: Path, open_page: Open
) -> None:
    write_study(folder, seeds=3)
    app = open_page()
    table = store.read_study(folder / "digits").table()
    found = verdict.findings(table)
    assert [one.kind for one in found] == ["plain", "residual", "both"]
    assert [metric.value for metric in app.metric] == [f"{one.claim.gap.size} points" for one in found]
    for one in found:
        gap = one.claim.gap
        ends = f"{gap.worse} {gap.ends[0]:.1f} %, {gap.better} {gap.ends[1]:.1f} %"
        assert ends in markdown(app)
        assert f"{gap.within}, n = 3" in markdown(app)
        assert one.clean is not None
        assert f"clean {one.clean.size}" in markdown(app)
    assert all("under the recipe" in metric.proto.help for metric in app.metric)
    first = [json.loads(item.proto.spec) for item in app.get("plotly_chart")][:2]
    titles = [chart["layout"]["title"]["text"] for chart in first]
    assert ["blocks" in titles[0], "against depth" in titles[1]] == [True, True]


def test_no_word_of_the_first_screen_contradicts_the_runs(folder: Path, open_page: Open) -> None:
    """Without three seeds nothing is claimed, and nothing stands there whatever the runs say."""
    write_study(folder)
    app = open_page()
    assert markdown(app).count("Too few seeds to say") >= 3
    for claim in ("helps again", "Deeper trains", "Shortcuts help"):
        assert claim not in markdown(app)


@pytest.mark.parametrize(("residual_seeds", "first"), [(5, "depth-real"), (4, "digits")])
def test_photographs_are_the_first_study_once_all_announced_seeds_are_in(
    folder: Path, open_page: Open, residual_seeds: int, first: str
) -> None:
    """Before that no page concludes anything of them, however clear the three seeds of both are."""
    for family, seeds in (("plain", 3), ("resnet", residual_seeds)):
        for network, seed in product((f"{family}-20", f"{family}-44"), range(1, seeds + 1)):
            write_run(folder / "reference", network, study="depth-real", seed=seed)
    write_study(folder / "reference")
    assert study_picker(open_page()).value == f"reference/{first}"
    words = [
        one.words for one in verdict.findings(store.read_study(folder / "reference/depth-real").table())
    ]
    page = markdown(open_page(study="reference/depth-real"))
    pending = {"Open: seeds are missing.", "Not the paper's order in 4 of 4 seeds."}
    assert bool(pending & set(words)) == (first == "digits")
    assert any(word in page for word in pending) == (first == "digits")
