"""`resnetlab export`: what is read back is what was logged, to the last bit; each file whole or not."""

import csv
import errno
import json
import math
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from dashboard_data import write_run, write_study

from resnetlab import store
from resnetlab.pages import export

NO_TENSORBOARD = "tensorboard is not installed: pip install 'resnetlab[export]'"


def append(path: Path, **row: object) -> None:
    with path.open("a") as log:
        log.write(json.dumps(row) + "\n")


@pytest.fixture
def root(tmp_path):
    """Two runs; one has digits that only an exact copy keeps, gaps, and values that were not finite."""
    place = tmp_path / "results"
    write_run(place, "resnet-8", study="s")
    run = write_run(place, "plain-8", study="s", steps=8, planned=40, status="failed", error="=1+1")
    metrics = run / store.METRICS_FILE
    append(
        metrics, step=12, epoch=1.2, lr=0.1, train_loss=0.1 + 0.2, train_error=1 / 3, test_error=5e-324
    )
    append(
        metrics, step=16, epoch=1.6, lr=0.1, train_loss=None, train_error=90, nonfinite=["train_loss"]
    )
    append(run / store.TIMING_FILE, step=12, seconds=1e22, images_per_second=123456789.123456789)
    values = [2 / 3, None, *[1e-300] * 6]
    append(run / store.PROBES_FILE, step=12, kind="gradient_norm", values=values)
    return place


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def cells(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same(a: float, b: float) -> bool:
    """Equal to the last bit."""
    return struct.pack("d", a) == struct.pack("d", b)


def test_csv_has_every_logged_number_to_the_last_bit(resnetlab, root, tmp_path):
    code, out, _ = resnetlab(
        "export", "s", "--results", root, "--format", "csv", "--out", tmp_path / "x"
    )
    assert code == 0
    assert str(tmp_path / "x" / "metrics.csv") in out
    rows = cells(tmp_path / "x" / "metrics.csv")
    compared = 0
    for name in ("plain-8-seed0", "resnet-8-seed0"):
        own = {int(row["step"]): row for row in rows if row["run"] == name}
        for file in (store.METRICS_FILE, store.TIMING_FILE):
            for logged in lines(root / "s" / name / file):
                row = own[logged["step"]]
                unsound = logged.pop("nonfinite", [])
                for key, value in logged.items():
                    if value is None:
                        assert (key in unsound, row[key]) == (True, "nan")
                    else:
                        assert same(float(row[key]), float(value)), (name, key)
                        compared += 1
        logged_steps = {row["step"] for row in lines(root / "s" / name / store.METRICS_FILE)}
        assert set(own) == logged_steps
    assert compared > 80
    torn = next(row for row in rows if row["run"] == "plain-8-seed0" and row["step"] == "16")
    assert torn["train_loss"] == "nan"  # measured, and not finite
    assert torn["test_error"] == ""  # not measured at this step
    assert torn["images_seen"] == str(16 * 128)
    assert torn["network"] == "plain-8"


def test_probes_are_long_and_exact(resnetlab, root, tmp_path):
    resnetlab("export", "s", "--results", root, "--format", "csv,parquet", "--out", tmp_path)
    rows = cells(tmp_path / "probes.csv")
    run = store.read_run(root / "s" / "plain-8-seed0")
    for logged in lines(run.path / store.PROBES_FILE):
        own = [r for r in rows if r["run"] == run.name and int(r["step"]) == logged["step"]]
        assert [int(row["layer"]) for row in own] == list(range(1, 9))
        assert [row["name"] for row in own] == run.info["layers"]["gradient_norm"]
        for row, value in zip(own, logged["values"], strict=True):
            assert same(float(row["value"]), value) if value is not None else row["value"] == "nan"
    table = pq.read_table(tmp_path / "probes.parquet").to_pylist()
    assert len(table) == len(rows)
    for row, theirs in zip(table, rows, strict=True):
        value = float(theirs["value"])
        assert math.isnan(value) == math.isnan(row["value"])
        assert math.isnan(value) or same(row["value"], value)


def test_parquet_tells_missing_from_not_finite(resnetlab, root, tmp_path):
    assert resnetlab("export", "s", "--results", root, "--format", "parquet", "--out", tmp_path)[0] == 0
    rows = pq.read_table(tmp_path / "metrics.parquet").to_pylist()
    own = {row["step"]: row for row in rows if row["run"] == "plain-8-seed0"}
    assert math.isnan(own[16]["train_loss"])
    assert own[16]["test_error"] is None
    assert own[16]["seconds"] is None
    assert same(own[12]["train_loss"], 0.1 + 0.2)
    assert same(own[12]["test_error"], 5e-324)
    assert type(own[12]["step"]) is int
    runs = pq.read_table(tmp_path / "runs.parquet").to_pylist()
    assert [row["status"] for row in runs] == ["failed", "finished"]
    assert json.loads(runs[1]["config"]) == store.read_run(root / "s" / "resnet-8-seed0").info["config"]


def test_text_that_looks_like_a_formula_is_made_plain_in_csv(resnetlab, root, tmp_path):
    (root / "s" / "plain-8-seed0").rename(root / "s" / "=HYPERLINK(0)")
    (root / "s" / "resnet-8-seed0").rename(root / "s" / "@a,b")
    resnetlab("export", "s", "--results", root, "--format", "csv,parquet", "--out", tmp_path)
    for name in ("runs", "metrics", "probes"):
        assert {row["run"] for row in cells(tmp_path / f"{name}.csv")} == {"'=HYPERLINK(0)", "'@a,b"}
    rows = {row["run"]: row for row in cells(tmp_path / "runs.csv")}
    assert rows["'=HYPERLINK(0)"]["problems"] == "'=1+1"
    assert float(cells(tmp_path / "metrics.csv")[0]["train_loss"]) > 0  # numbers stay numbers
    runs = pq.read_table(tmp_path / "runs.parquet")["run"].to_pylist()
    assert set(runs) == {"=HYPERLINK(0)", "@a,b"}


def test_a_name_that_is_no_text_is_written(resnetlab, root, tmp_path):
    os.rename(root / "s" / "plain-8-seed0", os.fsencode(root / "s") + b"/bad\xff\nname")
    code, _, error = resnetlab("export", "s", "--results", root, "--out", tmp_path)
    assert code == 0, error
    assert "bad\\udcff\nname" in {row["run"] for row in cells(tmp_path / "metrics.csv")}


def test_every_column_is_described(resnetlab, root, tmp_path):
    resnetlab("export", "s", "--results", root, "--format", "csv", "--out", tmp_path)
    described = [(row["table"], row["column"]) for row in cells(tmp_path / "columns.csv")]
    assert all(row["meaning"] for row in cells(tmp_path / "columns.csv"))
    for name in export.TABLES:
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            header = next(csv.reader(file))
        assert header == [column for table, column in described if table == name]
    logged = set(store.SCHEMA[store.METRICS_FILE]) | set(store.SCHEMA[store.TIMING_FILE])
    assert logged - {"nonfinite"} <= set(export.TABLES["metrics"])
    assert set(store.SCHEMA[store.EVALUATIONS_FILE]) <= set(export.TABLES["evaluations"])
    kinds = {field.name: str(field.type) for field in export.SCHEMAS["metrics"]}
    assert {kinds[name] for name in logged - {"nonfinite", "step"}} == {"double"}


def test_evaluations_are_exported(resnetlab, root, tmp_path):
    record = store.read_run(root / "s" / "resnet-8-seed0")
    row = {
        "step": 40,
        "protocol": "multi-scale",
        "average": "softmax",
        "crop": None,
        "sides": [224, 256],
    }
    row |= {"data": "digits", "dataset_sha256": "ab", "images": 355, "top1_error": 2.53521}
    row |= {"top5_error": None, "seconds": 0.5, "time": store.now()}
    store.add_evaluation(record, row)
    store.add_evaluation(record, row | {"protocol": "single", "crop": 28, "top1_error": "x"})
    resnetlab("export", "s", "--results", root, "--format", "csv", "--out", tmp_path)
    first, second = cells(tmp_path / "evaluations.csv")
    assert (first["sides"], first["top1_error"], first["top5_error"]) == ("224 256", "2.53521", "")
    assert (first["crop"], second["crop"], second["top1_error"]) == ("", "28", "")
    assert first["step"] == "40"


# --- TensorBoard ------------------------------------------------------------------------------


def read_events(folder):
    """tag -> [(wall time, step, value)], as TensorBoard itself reads the folder."""
    pytest.importorskip("tensorboard", reason=NO_TENSORBOARD)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {
        tag: [(event.wall_time, event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


@pytest.mark.skipif(not export.has_tensorboard(), reason=NO_TENSORBOARD)
def test_tensorboard_reads_what_was_logged(resnetlab, root, tmp_path):
    words = ("export", "s", "--results", root, "--format", "tensorboard", "--out", tmp_path)
    assert resnetlab(*words)[0] == 0
    assert resnetlab(*words)[0] == 0  # again: no point is there twice
    place = tmp_path / "tensorboard"
    assert sorted(path.name for path in place.iterdir()) == ["plain-8-seed0", "resnet-8-seed0"]
    for run in place.iterdir():
        events = read_events(run)
        record = store.read_run(root / "s" / run.name)
        rows = lines(record.path / store.METRICS_FILE)
        for name in ("train_loss", "train_error", "test_error"):
            unsound = [row["step"] for row in rows if name in row.get("nonfinite", [])]
            logged = {row["step"]: row[name] for row in rows if row.get(name) is not None}
            tag = f"{name.split('_')[1]}/{name}"
            assert [step for _, step, _ in events[tag]] == sorted([*logged, *unsound])
            for _, step, value in events[tag]:
                if step in unsound:
                    assert math.isnan(value)
                else:
                    assert same(value, float(np.float32(logged[step])))
        probes = lines(record.path / store.PROBES_FILE)
        tag = "gradient_norm/001 layer0"
        assert [step for _, step, _ in events[tag]] == [row["step"] for row in probes]
        assert [v for _, _, v in events[tag]] == [float(np.float32(r["values"][0])) for r in probes]
        assert len([name for name in events if name.startswith("gradient_norm/")]) == 8
    finished = read_events(place / "resnet-8-seed0")["error/train_error"]
    times = [time for time, _, _ in finished]
    assert times[-1] - times[0] == pytest.approx((40 - 4) / 10)  # seconds of training, as logged


@pytest.mark.skipif(not export.has_tensorboard(), reason=NO_TENSORBOARD)
def test_export_loads_no_torch(root, tmp_path):
    import subprocess

    code = (
        "import sys\n"
        "root, out = sys.argv[1:]\n"
        "sys.argv = ['resnetlab', 'export', 's', '--results', root, '--out', out]\n"
        "from resnetlab import cli\n"
        "cli.app.app(standalone_mode=False)\n"
        "assert 'torch' not in sys.modules and 'tensorflow' not in sys.modules"
    )
    words = [sys.executable, "-c", code, str(root), str(tmp_path / "x")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x" / "tensorboard" / "plain-8-seed0" / export.EVENTS_FILE).stat().st_size > 1000


def test_without_tensorboard_the_rest_is_written_and_the_reason_said(
    resnetlab, root, tmp_path, monkeypatch
):
    monkeypatch.setattr(export, "has_tensorboard", lambda: False)
    code, out, error = resnetlab("export", "s", "--results", root, "--out", tmp_path / "all")
    assert code == 0
    assert "metrics.parquet" in out
    assert "left out" in error
    assert "pip install 'resnetlab[export]'" in error
    words = ("export", "s", "--results", root, "--out", tmp_path / "one", "--format", "tensorboard")
    code, _, error = resnetlab(*words)
    assert code == 1
    assert "pip install 'resnetlab[export]'" in error
    assert not (tmp_path / "one").exists()


# --- what can go wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "no study 'nothing'"),
        (["s", "--format", "cvs"], "unknown format 'cvs'; did you mean 'csv'?"),
        (["s", "--format", ","], "at least one of csv, parquet, tensorboard"),
        (["empty"], "holds no readable run"),
        (["broken"], "run.json is torn or not JSON"),
    ],
)
def test_requests_that_cannot_be_met_exit_with_2_and_write_nothing(words, message, resnetlab, root):
    (root / "empty").mkdir()
    (root / "broken" / "a-run").mkdir(parents=True)
    (root / "broken" / "a-run" / store.RUN_FILE).write_text("{")
    out = root.parent / "out"
    code, said, error = resnetlab("export", *words, "--results", root, "--out", out)
    assert (code, said) == (2, "")
    assert message in error
    assert "Traceback" not in error
    assert not out.exists()


def test_a_file_in_the_place_of_the_folder_stays(resnetlab, root, tmp_path):
    file = tmp_path / "mine"
    file.write_text("mine")
    code, _, error = resnetlab("export", "s", "--results", root, "--out", file)
    assert code == 2
    assert "is a file" in error
    assert file.read_text() == "mine"


def test_one_damaged_run_costs_only_itself(resnetlab, root, tmp_path):
    (root / "s" / "resnet-8-seed0" / store.RUN_FILE).write_text("{")
    with (root / "s" / "plain-8-seed0" / store.METRICS_FILE).open("a") as log:
        log.write('{"step": 20, "train_l')
    code, _, error = resnetlab("export", "s", "--results", root, "--format", "csv", "--out", tmp_path)
    assert code == 0
    assert "skipped resnet-8-seed0: run.json is torn" in error
    assert {row["run"] for row in cells(tmp_path / "metrics.csv")} == {"plain-8-seed0"}
    assert "1 torn or damaged line left out" in cells(tmp_path / "runs.csv")[0]["problems"]


def test_a_failure_midway_leaves_what_was_there(resnetlab, root, tmp_path, monkeypatch):
    words = ("export", "s", "--results", root, "--format", "csv,parquet", "--out", tmp_path / "x")
    assert resnetlab(*words)[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()}
    whole, done = export.metrics_table, []

    def full(run):
        if done:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(run)
        return whole(run)

    append(root / "s" / "plain-8-seed0" / store.METRICS_FILE, step=24, train_error=1.0)
    for kind in ("csv", "parquet"):
        done.clear()
        monkeypatch.setitem(export._BY_RUN, "metrics", full)
        code, _, error = resnetlab(*words[:5], kind, *words[6:])
        assert code == 1
        assert "disk is full" in error
    after = {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()}
    assert set(after) == set(before)  # no half file, no temporary one
    assert after["metrics.csv"] == before["metrics.csv"]
    assert after["metrics.parquet"] == before["metrics.parquet"]


def test_studies_are_found_by_name_by_reference_name_and_by_folder(
    resnetlab, root, tmp_path, monkeypatch
):
    write_study(root / store.REFERENCE, study="s")  # another of that name, of four runs
    monkeypatch.chdir(tmp_path)
    words = ("--results", root, "--format", "csv", "--out")
    for name, count in (("s", 2), ("reference/s", 4), (root / store.REFERENCE / "s", 4)):
        assert resnetlab("export", name, *words, tmp_path / "x")[0] == 0
        assert len(cells(tmp_path / "x" / "runs.csv")) == count
    assert resnetlab("export", "s", "--results", root, "--format", "csv")[0] == 0
    assert (tmp_path / "s-export" / "probes.csv").is_file()
    assert [item.name for item in store.read_study(root / "s").skipped] == []
