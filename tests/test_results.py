"""What lies on disk: written whole or not at all, one writer, and a reader that never fails."""

from __future__ import annotations

import datetime as dt
import errno
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnetlab import files, store
from resnetlab.config import PAPER_400, Network, Run, UsageError
from resnetlab.files import atomic_write
from resnetlab.store import (
    Checkpoint,
    RunRecord,
    RunWriter,
    check_folder,
    check_name,
    find_run,
    find_studies,
    find_study,
    metrics_of,
    prepare_root,
    probes_of,
    read_lines,
    read_run,
    read_study,
    write_json,
)
from resnetlab.store.writer import AnotherWriterError

RUN = Run(network=Network(depth=8), recipe=PAPER_400.replace(steps=40))
LAYERS = ["conv", "classifier"]
git_commit = store.schema.git_commit


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.writer, "LOCK_SECONDS", 0.05)
    commit = "0123456789ab"
    monkeypatch.setattr(store.schema, "git_commit", lambda folder: commit)  # three processes a call


def begin(writer: RunWriter) -> None:
    writer.begin(
        execution={"device": "cpu", "threads": 1},
        versions={"torch": "2"},
        dataset={"train": 4},
        layers={"gradient_norm": LAYERS},
        parameters=3,
    )


def fill(writer: RunWriter, last: int = 40) -> None:
    for step in range(10, last + 1, 10):
        row = {"step": step, "lr": 0.1, "train_error": 90 - step, "train_loss": 2.0}
        if step % 20 == 0:
            row |= {"test_error": 91.0 - step, "test_loss": 2.5}
        writer.append(store.METRICS_FILE, row)
        writer.append(store.PROBES_FILE, {"step": step, "kind": "gradient_norm", "values": [0.5, step]})
        writer.append(store.TIMING_FILE, {"step": step, "seconds": step / 10, "images_per_second": 9.0})


SUMMARY = {"steps": 40, "train_error": 50.0, "test_error": 51.0, "seconds": 4.0}


def make(
    root: Path, study: str = "s", name: str = "r", run: Run = RUN, status: Any = "finished"
) -> Path:
    with RunWriter(root, study, name, run) as writer:
        begin(writer)
        writer.start_over()
        fill(writer)
        if status is not None:
            writer.finish(status, step=40, summary=SUMMARY)
        return writer.folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path)


def whole(record: RunRecord) -> None:
    """Everything a reader can ask of a run; the answers must be fit for tables and strict JSON."""
    assert record.status in store.STATUSES
    row = record.as_row()
    json.dumps(row, allow_nan=False)
    assert list(row) == [*store.IDENTITY, *store.OUTCOME]
    assert all(isinstance(line, str) for line in record.problems)
    for frame in (record.metrics, record.probe()):
        assert all(frame[c].dtype.kind in "if" for c in frame.columns if c != "name")
        assert not np.isinf(frame.select_dtypes("number").to_numpy()).any()
    assert record.metrics["step"].is_monotonic_increasing
    assert record.metrics["step"].is_unique
    assert metrics_of([record])["run"].eq(record.name).all()
    assert probes_of([record])["run"].eq(record.name).all()


# --- round trip -------------------------------------------------------------------------------


def test_what_was_written_is_read(folder: Path) -> None:
    record = read_run(folder)
    whole(record)
    assert (record.study, record.name, record.status) == ("s", "r", "finished")
    assert record.config == RUN
    assert record.problems == ()
    assert record.metrics["step"].tolist() == [10, 20, 30, 40]
    assert record.metrics["train_error"].tolist() == [80, 70, 60, 50]
    assert record.metrics["test_error"].dropna().tolist() == [71, 51]
    assert record.metrics["seconds"].tolist() == [1, 2, 3, 4]
    assert record.probe()["value"].tolist() == [0.5, 10, 0.5, 20, 0.5, 30, 0.5, 40]
    assert record.probe()["name"].tolist() == LAYERS * 4
    assert record.probe()["layer"].tolist() == [0, 1] * 4
    assert record.as_row() == {
        "study": "s", "run": "r", "network": "resnet-8", "depth": 8, "shortcut": "A",
        "family": "residual", "data": "digits", "recipe": RUN.recipe.label, "seed": 0,
        "precision": "fp32", "status": "finished", "steps": 40, "steps_planned": 40, "classes": None,
        "train_error": 50.0, "train_error_clean": None, "validation_error": None, "test_error": 51.0,
        "seconds": 4.0, "images_per_second": 9.0,
    }  # fmt: skip


def test_run_json_says_everything_before_the_first_step(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "s", "r", RUN) as writer:
        begin(writer)
        info = json.loads((writer.folder / "run.json").read_text())
        assert list(info) == list(store.SCHEMA["run.json"])
        assert info["status"] == "running"
        assert info["pid"] == os.getpid()
        assert info["host"] == socket.gethostname()
        assert info["config_hash"] == RUN.hash()
        assert Run.parse(info["config"]) == RUN
        assert read_run(writer.folder).status == "running"


def test_each_start_says_its_machine_and_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"):
        monkeypatch.delenv(name, raising=False)
    make(tmp_path, status=None)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    first, second = read_run(make(tmp_path, status=None)).info["starts"]
    assert (first["host"], first["job"], second["job"]) == (socket.gethostname(), None, "4711")
    assert list(second) == ["time", "commit", "torch", "host", "device", "job"]


def test_final_values_come_from_the_log_until_there_is_a_summary(tmp_path: Path) -> None:
    record = read_run(make(tmp_path, status=None))
    assert record.final("train_error") == 50.0
    assert record.final("test_error") == 51.0
    assert record.final("validation_error") is None
    assert record.steps_done == 40
    assert record.summary is None


@pytest.mark.parametrize(
    ("status", "ended"),
    [("finished", True), ("diverged", True), ("failed", False), ("interrupted", False)],
)
def test_only_an_end_writes_a_summary(tmp_path: Path, status: Any, ended: bool) -> None:
    place = make(tmp_path, status=status)
    assert read_run(place).status == status
    assert (place / "summary.json").exists() == ended
    with RunWriter(tmp_path, "s", "r", RUN) as writer:
        assert writer.ended == ended


def test_a_status_of_finished_without_the_summary_is_not_believed(folder: Path) -> None:
    (folder / "summary.json").unlink()
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    assert read_run(folder).status == "interrupted"


# --- nothing that is not finite reaches JSON --------------------------------------------------


def test_values_that_are_not_finite_become_null_and_are_named(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "s", "r", RUN) as writer:
        begin(writer)
        writer.append(
            "metrics.jsonl", {"step": 1, "train_loss": math.nan, "lr": math.inf, "epoch": 0.5}
        )
        writer.append(
            "probes.jsonl", {"step": 1, "kind": "gradient_norm", "values": [math.inf, -math.inf]}
        )
        metrics, probes = (
            json.loads((writer.folder / name).read_text(), parse_constant=pytest.fail)
            for name in ("metrics.jsonl", "probes.jsonl")
        )
    assert metrics == {
        "step": 1,
        "train_loss": None,
        "lr": None,
        "epoch": 0.5,
        "nonfinite": ["train_loss", "lr"],
    }
    assert probes["values"] == [None, None]
    record = read_run(tmp_path / "s" / "r")
    whole(record)
    assert record.metrics["train_loss"].isna().all()
    assert record.probe()["value"].isna().all()


@given(st.lists(st.floats(), min_size=1), st.floats())
def test_every_float_gives_strict_json(values: list[float], value: float) -> None:
    with tempfile.TemporaryDirectory() as place, RunWriter(Path(place), "s", "r", RUN) as writer:
        writer.append("probes.jsonl", {"step": 1, "values": values, "seconds": value})
        text = (writer.folder / "probes.jsonl").read_text()
        row = json.loads(text, parse_constant=pytest.fail)
    for written, kept in zip(values, row["values"], strict=True):
        assert (kept is None) == (not math.isfinite(written))
        assert kept is None or kept == pytest.approx(written, rel=1e-5)


def test_write_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"x": math.nan})
    assert json.loads(path.read_text()) == {"x": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("value", "kept"),
    [(1 / 3, 0.333333), (123456789.0, 123457000.0), (0.0, 0.0), (math.nan, None), (None, None)],
)
def test_significant(value: float | None, kept: float | None) -> None:
    assert store.significant(value) == kept


def test_the_commit_is_named_and_marked_when_files_differ(tmp_path: Path) -> None:
    assert git_commit(tmp_path / "a") is None  # no checkout

    def git(*words: str) -> str:
        who = ["-c", "user.name=n", "-c", "user.email=e"]
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "m")
    assert git_commit(tmp_path / "a") == git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "new").write_text("not tracked")
    assert git_commit(tmp_path / "a") == git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path / "a") == git("rev-parse", "--short=12", "HEAD") + "+"


# --- atomic writing ---------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["fsync", "replace", "write"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_full_disk_leaves_the_old_content_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, old: bytes | None
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif where == "replace":
        monkeypatch.setattr(Path, "replace", full)
    content: Any = b"new" * 1000
    if where == "write":  # a buffered file fails half way: here by a content that is no bytes
        content = 17
    with pytest.raises((OSError, TypeError)):
        atomic_write(path, content)
    assert [item.name for item in tmp_path.iterdir()] == ([] if old is None else ["file"])
    assert old is None or path.read_bytes() == old


def test_a_reader_sees_the_old_or_the_new_file_never_a_half_one(tmp_path: Path) -> None:
    path, seen = tmp_path / "file", []
    path.write_bytes(b"old")
    real = os.fsync

    def look(descriptor: int) -> None:
        seen.append(path.read_bytes())
        real(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", look)
        atomic_write(path, b"new")
    assert seen == [b"old", b"new"]  # the file's content, then the folder's names
    assert path.read_bytes() == b"new"


def test_what_a_killed_writer_left_half_written_is_cleared_away(folder: Path) -> None:
    (folder / "checkpoints").mkdir()
    left = [folder / ".run.json.77.tmp", folder / "checkpoints" / ".step-00000010.pt.77.tmp"]
    for path in left:
        path.write_bytes(b"half")
    with RunWriter(folder.parents[1], "s", "r", RUN):
        pass
    assert not any(path.exists() for path in left)


# --- names and places -------------------------------------------------------------------------

BAD_NAMES = [
    "", ".", "..", "../x", "a/b", "a\\b", "/etc", "-rf", ".hidden", "_x", "a b", "a\n", "a\0b",
    "\x1b[31m", "a\tb", "x" * 81, "é", "名前", "a:b", "a*", "a?", "{x}", "~", "$HOME", None, 5,
    "reference/digits",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["run", "study"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_no_plain_folder_are_refused_before_anything_is_made(
    tmp_path: Path, kind: str, name: Any
) -> None:
    with pytest.raises(UsageError, match=f"{kind} name"):
        check_name(kind, name)
    values = {"study": "s", "name": "r"} | {"study" if kind == "study" else "name": name}
    with pytest.raises(UsageError):
        RunWriter(tmp_path, values["study"], values["name"], RUN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "plain-56-seed0", "A.b_c-9", "0", "x" * 80])
def test_good_names_pass(name: str) -> None:
    assert check_name("run", name) == name


def test_the_committed_runs_folder_is_no_study_name() -> None:
    with pytest.raises(UsageError, match="reference"):
        check_name("study", "reference")


@given(st.text(max_size=90))
def test_a_name_that_passes_is_one_folder_deep(name: str) -> None:
    try:
        check_name("run", name)
    except UsageError:
        return
    assert Path("a", name).name == name
    assert len(Path("a", name).parts) == 2
    assert name.isascii()
    assert name.isprintable()


def test_a_results_folder_that_is_a_file_or_below_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"), RunWriter(tmp_path / "file", "s", "r", RUN):
        pass
    with pytest.raises(UsageError, match="cannot be written"):
        prepare_root(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "x"


def test_a_results_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    with pytest.raises(UsageError, match="denied"), RunWriter(tmp_path / "new", "s", "r", RUN):
        pass


def test_a_missing_results_folder_is_made(tmp_path: Path) -> None:
    assert prepare_root(tmp_path / "a" / "b").is_dir()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [files.MARKER]


@pytest.mark.parametrize("in_the_way", ["s", "s/r"])
def test_a_file_where_the_study_or_run_should_be_is_named(tmp_path: Path, in_the_way: str) -> None:
    (tmp_path / in_the_way).parent.mkdir(exist_ok=True)
    (tmp_path / in_the_way).write_text("x")
    with pytest.raises(UsageError, match="cannot be made"), RunWriter(tmp_path, "s", "r", RUN):
        pass


# --- one writer -------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from resnetlab.config import PAPER_400, Network, Run
from resnetlab.store import RunWriter
run = Run(network=Network(depth=8), recipe=PAPER_400.replace(steps=40))
with RunWriter(Path(sys.argv[1]), "s", "r", run) as writer:
    writer.begin(execution={}, versions={}, dataset={}, layers={}, parameters=0)
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_with_the_pid_and_may_go_on_after_a_kill(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "ready\n"
            before = (tmp_path / "s" / "r" / "run.json").read_bytes()
            with (
                pytest.raises(AnotherWriterError, match=f"process {owner.pid} on "),
                RunWriter(tmp_path, "s", "r", RUN),
            ):
                pass
            assert (tmp_path / "s" / "r" / "run.json").read_bytes() == before
            assert read_run(tmp_path / "s" / "r").status == "running"
        finally:
            owner.send_signal(signal.SIGKILL)
            owner.wait()
    record = read_run(tmp_path / "s" / "r")
    assert record.status == "interrupted"
    assert any("the same command resumes it" in line for line in record.problems)
    with RunWriter(tmp_path, "s", "r", RUN) as writer:
        begin(writer)
        assert read_run(writer.folder).status == "running"


def test_another_configuration_is_refused_with_the_differences_and_nothing_changes(
    folder: Path,
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = Run(network=Network(depth=14), recipe=RUN.recipe.replace(lr=0.5), seed=0)
    for attempt in (
        lambda: RunWriter(folder.parents[1], "s", "r", other).__enter__(),
        lambda: check_folder(folder, other),
    ):
        with pytest.raises(UsageError, match=r"network\.depth: 8 != 14") as caught:
            attempt()
        assert "recipe.lr: 0.1 != 0.5" in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with RunWriter(folder.parents[1], "s", "r", RUN) as writer:  # the refusal has released the lock
        assert writer.ended


def test_check_folder_tells_nothing_there_from_the_same_run(folder: Path) -> None:
    assert check_folder(folder.parent / "other", RUN) is None
    same = check_folder(folder, RUN)
    assert same is not None
    assert same.status == "finished"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema": 1}', b'{"schema": 99, "config": {}}']
)
def test_a_damaged_run_json_is_not_written_over(folder: Path, content: bytes) -> None:
    (folder / "run.json").write_bytes(content)
    with (
        pytest.raises(UsageError, match="cannot be read"),
        RunWriter(folder.parents[1], "s", "r", RUN),
    ):
        pass
    assert (folder / "run.json").read_bytes() == content


# --- checkpoints ------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> RunWriter:
    """A closed writer whose run has checkpoints at 10, 20 and 30 (the first dropped), logs to 40."""
    with RunWriter(tmp_path, "s", "r", RUN) as writer:
        begin(writer)
        writer.start_over()
        for step in (10, 20, 30, 40):
            writer.append("metrics.jsonl", {"step": step, "train_error": 1.0})
            if step < 40:
                writer.save_checkpoint(step, b"payload %d " % step * 50, step / 2)
    return writer


def names(writer: RunWriter) -> list[str]:
    return sorted(path.name for path in (writer.folder / "checkpoints").iterdir())


def test_the_last_two_are_kept_newest_first(saved: RunWriter) -> None:
    assert names(saved) == [f"step-000000{n}.{end}" for n in (20, 30) for end in ("json", "pt")]
    found = list(saved.checkpoints())
    assert all(isinstance(item, Checkpoint) for item in found)
    assert [(c.step, c.payload, c.seconds) for c in found if isinstance(c, Checkpoint)] == [
        (30, b"payload 30 " * 50, 15.0),
        (20, b"payload 20 " * 50, 10.0),
    ]


def test_the_label_is_written_before_the_payload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real = files.atomic_write

    def spy(path: Path, content: bytes, **kwargs: Any) -> None:
        order.append(path.name)
        real(path, content, **kwargs)

    monkeypatch.setattr(files, "atomic_write", spy)
    with RunWriter(tmp_path, "s", "r", RUN) as writer:
        writer.save_checkpoint(10, b"x", 0.0)
    assert order == ["step-00000010.json", "step-00000010.pt"]


def test_the_old_two_survive_a_disk_that_is_full(
    saved: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(saved.checkpoints())
    real = files.atomic_write

    def full(path: Path, content: bytes, **kwargs: Any) -> None:
        if path.suffix == ".pt":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content, **kwargs)

    monkeypatch.setattr(files, "atomic_write", full)
    with pytest.raises(OSError, match="No space"):
        saved.save_checkpoint(40, b"x" * 100, 20.0)
    assert list(saved.checkpoints()) == before


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "truncated":
        content = content[:-1]
    elif how == "empty":
        content = b""
    else:
        middle = len(content) // 2
        content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "empty", "one bit"])
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_found(saved: RunWriter, how: str) -> None:
    damage(saved.folder / "checkpoints" / "step-00000030.pt", how)
    first, second = saved.checkpoints()
    assert isinstance(first, str)
    assert re.match(r"step-00000030\.pt: truncated or damaged", first)
    assert isinstance(second, Checkpoint)
    assert second.step == 20


@pytest.mark.parametrize(
    "label", [None, b"", b"{", b"[]", b"{}", b'{"sha256": "x"}', "step", "offsets", "seconds", "sha256"]
)
def test_a_damaged_label_is_said_too(saved: RunWriter, label: Any) -> None:
    path = saved.folder / "checkpoints" / "step-00000030.json"
    if label is None:
        path.unlink()
    elif isinstance(label, str):
        values = json.loads(path.read_text())
        values[label] = {"metrics.jsonl": "12"}
        path.write_text(json.dumps(values))
    else:
        path.write_bytes(label)
    first, second = saved.checkpoints()
    assert isinstance(first, str)
    assert first.startswith("step-00000030.pt: ")
    assert isinstance(second, Checkpoint)


def test_a_checkpoint_of_another_configuration_is_refused_with_the_difference(saved: RunWriter) -> None:
    path = saved.folder / "checkpoints" / "step-00000030.json"
    label = json.loads(path.read_text())
    label["config"]["recipe"]["weight_decay"] = 0.5
    path.write_text(json.dumps(store.checkpoints.sealed(label)))
    with pytest.raises(UsageError, match=r"recipe\.weight_decay: 0\.5 != 0\.0001"):
        list(saved.checkpoints())


def test_resuming_cuts_the_logs_back_to_the_checkpoint(saved: RunWriter) -> None:
    log = saved.folder / "metrics.jsonl"
    with log.open("ab") as file:
        file.write(b'{"step": 50, "train_')  # torn by a kill
    checkpoint = next(iter(saved.checkpoints()))
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.offsets["metrics.jsonl"] < log.stat().st_size
    with RunWriter(saved.folder.parents[1], "s", "r", RUN) as writer:
        writer.resume_from(checkpoint)
        assert read_lines(log) == ([{"step": s, "train_error": 1.0} for s in (10, 20, 30)], 0)
        writer.append("metrics.jsonl", {"step": 40, "train_error": 2.0})
    assert [row["step"] for row in read_lines(log)[0]] == [10, 20, 30, 40]


def test_a_log_that_is_shorter_than_the_checkpoint_knows_disqualifies_it(saved: RunWriter) -> None:
    log = saved.folder / "metrics.jsonl"
    size = json.loads((saved.folder / "checkpoints" / "step-00000030.json").read_text())["offsets"]
    with log.open("ab") as file:
        file.truncate(size["metrics.jsonl"] - 1)
    first, second = saved.checkpoints()
    assert isinstance(first, str)
    assert "metrics.jsonl is shorter" in first
    assert isinstance(second, Checkpoint)


def test_resuming_from_the_older_one_drops_the_newer(saved: RunWriter) -> None:
    # Else, interrupted at 25, the checkpoints at 25 and 30 would be kept, and 30 is of another life.
    damage(saved.folder / "checkpoints" / "step-00000030.pt", "one bit")
    _, second = saved.checkpoints()
    assert isinstance(second, Checkpoint)
    saved.resume_from(second)
    assert names(saved) == ["step-00000020.json", "step-00000020.pt"]
    saved.save_checkpoint(25, b"x", 0.0)
    assert [c.step for c in saved.checkpoints() if isinstance(c, Checkpoint)] == [25, 20]


def test_starting_over_keeps_nothing_of_the_earlier_start(saved: RunWriter) -> None:
    saved.start_over()
    assert names(saved) == []
    assert all((saved.folder / log).read_bytes() == b"" for log in store.LOGS)
    saved.save_checkpoint(5, b"x", 0.0)
    assert [c.step for c in saved.checkpoints() if isinstance(c, Checkpoint)] == [5]


# --- a reader that never fails ----------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([10**400, -(10**30), 2**63, 1e308])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["step", "kind", "values", "train_error", "test_error", "lr", "seconds", "train_loss"]
KEYS = st.sampled_from(FIELDS) | st.text(max_size=5)
lines = st.one_of(
    st.binary(max_size=30),
    anything.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(KEYS, anything, max_size=6).map(lambda row: json.dumps(row).encode()),
    st.tuples(st.integers(0, 9), st.dictionaries(KEYS, anything, max_size=6)).map(
        lambda pair: json.dumps(pair[1] | {"step": pair[0]}).encode()
    ),
    st.sampled_from(
        [
            b'{"step": 1, "train_error": NaN}',
            b'{"step": 2, "lr": Infinity}',
            b'{"step": 3, "lr": 1e999}',
        ]
    ),
)
logs = st.lists(lines, max_size=8).map(b"\n".join)


@pytest.fixture(scope="module")
def unended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a summary, for tests that write over its files."""
    return make(tmp_path_factory.mktemp("unended"), status=None)


@settings(max_examples=80)
@given(logs, logs, logs)
def test_any_bytes_in_the_logs_can_be_read(
    unended: Path, metrics: bytes, probes: bytes, timing: bytes
) -> None:
    (unended / "summary.json").unlink(missing_ok=True)
    (unended / "metrics.jsonl").write_bytes(metrics)
    (unended / "probes.jsonl").write_bytes(probes)
    (unended / "timing.jsonl").write_bytes(timing)
    whole(read_run(unended))


@settings(max_examples=50)
@given(st.sampled_from(list(store.SCHEMA["run.json"])), anything)
def test_any_value_in_run_json_can_be_read(unended: Path, key: str, value: Any) -> None:
    good = (unended / "run.json").read_bytes()
    try:
        (unended / "run.json").write_text(json.dumps(json.loads(good) | {key: value}))
        study = read_study(unended.parent)
        assert len(study.runs) + len(study.skipped) == 1
        for record in study.runs:
            whole(record)
        assert all(item.reason for item in study.skipped)
        study.table()
    finally:
        (unended / "run.json").write_bytes(good)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(list(store.SCHEMA["summary.json"])), anything), st.booleans())
def test_any_summary_can_be_read(unended: Path, values: dict[str, Any], ended: bool) -> None:
    values |= {"status": "finished"} if ended else {}
    (unended / "summary.json").write_text(json.dumps(values))
    whole(read_run(unended))
    read_study(unended.parent).table()


@given(st.binary(max_size=60), st.sampled_from(["run.json", "summary.json"]))
def test_any_bytes_in_a_json_file_can_be_read(unended: Path, content: bytes, name: str) -> None:
    good = (unended / "run.json").read_bytes()
    try:
        (unended / name).write_bytes(content)
        study = read_study(unended.parent)
        assert len(study.runs) + len(study.skipped) == 1
    finally:
        (unended / "run.json").write_bytes(good)


def test_a_folder_whose_name_is_no_utf_8_is_a_row_like_any_other(folder: Path) -> None:
    folder.rename(folder.with_name(os.fsdecode(b"run-\xff")))
    assert read_study(folder.parent).table()["run"].tolist() == ["run-\\udcff"]


@pytest.mark.parametrize("name", ["run.json", "summary.json", "metrics.jsonl", "probes.jsonl"])
@pytest.mark.parametrize("nested", ["[" * 100_000, '{"a":' * 100_000, "[" * 900 + "]" * 900])
def test_deep_nesting_is_only_damaged(folder: Path, name: str, nested: str) -> None:
    (folder / name).write_text(nested)
    for record in read_study(folder.parent).runs:
        whole(record)


@pytest.mark.parametrize("field", ["config", "layers", "error", "heartbeat", "schema"])
def test_deep_nesting_inside_run_json_is_only_damaged(folder: Path, field: str) -> None:
    info = json.loads((folder / "run.json").read_text())
    del info[field]
    text = json.dumps(info)[:-1] + f', "{field}": {"[" * 900}{"]" * 900}}}'
    (folder / "run.json").write_text(text)
    for record in read_study(folder.parent).runs:
        whole(record)


@settings(max_examples=80)
@given(logs, logs, st.integers(0, 200), st.integers(0, 200))
def test_a_growing_log_read_in_pieces_is_the_log_read_at_once(
    unended: Path, metrics: bytes, probes: bytes, one: int, two: int
) -> None:
    """Cut anywhere, also inside a line: the later look gives the same frames and the same count."""
    (unended / "summary.json").unlink(missing_ok=True)
    earlier = None
    for share in [*sorted((one, two)), 200]:
        for name, content in (("metrics.jsonl", metrics), ("probes.jsonl", probes)):
            (unended / name).write_bytes(content[: len(content) * share // 200])
        record = store.read_folder(unended, earlier)
        assert isinstance(record, RunRecord)
        record.__dict__["status"] = "running"  # it is: only a running run's logs are remembered
        fresh = read_run(unended)
        pd.testing.assert_frame_equal(record.metrics, fresh.metrics)
        pd.testing.assert_frame_equal(record.probe(), fresh.probe())
        assert (record._metrics[1], record._probes[1]) == (fresh._metrics[1], fresh._probes[1])
        earlier = record


def test_a_growing_log_is_read_from_where_the_last_read_ended(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "s", "r", RUN) as writer:
        begin(writer)
        fill(writer)
        first = store.read_folder(writer.folder)
        assert isinstance(first, RunRecord)
        assert first.status == "running"
        seen = list(first.metrics["train_error"])
        log = writer.folder / "metrics.jsonl"
        length = log.stat().st_size
        with log.open("r+b") as file:  # what has been read is not looked at again
            file.write(b"x" * 20)
        writer.append("metrics.jsonl", {"step": 39, "train_error": 7.0})
        second = store.read_folder(writer.folder, first)
        assert isinstance(second, RunRecord)
        assert list(second.metrics["train_error"]) == [*seen[:-1], 7.0, seen[-1]]
        assert second.problems == ()
        # Cut back, as when a run resumes, and grown beyond: everything is read anew.
        log.write_bytes(b'{"step": 10, "train_error": 1.0}\n' * (2 + length // 30))
        third = store.read_folder(writer.folder, second)
        assert isinstance(third, RunRecord)
        assert list(third.metrics["train_error"]) == [1.0]


def test_a_torn_last_line_is_left_out_and_counted(folder: Path) -> None:
    for name in ("metrics.jsonl", "probes.jsonl"):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-9])
    record = read_run(folder)
    whole(record)
    assert record.metrics["step"].tolist() == [10, 20, 30]
    assert record.problems == (
        "1 torn or damaged line left out of its metrics",
        "1 torn or damaged line left out of its probes",
    )


def test_damaged_lines_in_the_middle_cost_only_themselves(folder: Path) -> None:
    path = folder / "metrics.jsonl"
    rows = path.read_bytes().splitlines()
    rows[1:1] = [b"\xff\xfe", b"null", b'{"step": "12"}', b'{"step": true}', b"", b'{"step": -1}']
    path.write_bytes(b"\n".join(rows))
    record = read_run(folder)
    assert record.metrics["step"].tolist() == [10, 20, 30, 40]
    assert record.problems[0].startswith("5 torn or damaged lines")  # an empty line is no line


def test_a_repeated_step_keeps_the_later_row(folder: Path) -> None:
    with (folder / "metrics.jsonl").open("ab") as log:
        log.write(b'{"step": 20, "train_error": 7.0}\n')
    frame = read_run(folder).metrics
    assert frame["step"].tolist() == [10, 20, 30, 40]
    assert frame["train_error"].tolist() == [80, 7, 60, 50]


def test_what_is_no_number_is_not_drawn_as_one(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text(
        '{"step": 1, "train_error": true, "lr": "0.1", "epoch": [1], "test_error": NaN}\n'
        '{"step": 2, "train_error": 1e999, "lr": {}, "epoch": null, "test_error": -Infinity}\n'
    )
    frame = read_run(folder).metrics
    assert frame["step"].tolist() == [1, 2]
    assert frame[["train_error", "lr", "epoch", "test_error"]].isna().all(axis=None)


@pytest.mark.parametrize("missing", ["metrics.jsonl", "timing.jsonl", "probes.jsonl", "all"])
def test_a_half_made_folder_can_be_read(folder: Path, missing: str) -> None:
    for name in store.LOGS if missing == "all" else [missing]:
        (folder / name).unlink()
    record = read_run(folder)
    whole(record)
    assert len(record.metrics) == (0 if missing in ("metrics.jsonl", "all") else 4)
    assert len(metrics_of([record])) == len(record.metrics)


@pytest.mark.parametrize("name", ["run.json", "summary.json", "metrics.jsonl", "probes.jsonl"])
def test_a_folder_where_a_file_should_be_does_not_stop_the_reader(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    study = read_study(folder.parent)
    assert len(study.runs) + len(study.skipped) == 1
    for record in study.runs:
        whole(record)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no run.json"),
        ("", "torn or not JSON"),
        ("{", "torn or not JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "version None"),
        ('{"schema": 2}', "version 2, this reader knows 1"),
        ('{"schema": "1"}', "version '1'"),
        ('{"schema": 1}', "configuration is not readable"),
        ('{"schema": 1, "config": {"network": {"depth": 21}}}', "20 and 26"),
    ],
)
def test_what_is_no_run_is_skipped_with_the_reason(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    make(tmp_path, name="good")
    (tmp_path / "s" / "bad").mkdir()
    if content is not None:
        (tmp_path / "s" / "bad" / "run.json").write_text(content)
    study = read_study(tmp_path / "s")
    assert [run.name for run in study.runs] == ["good"]
    assert [item.path.name for item in study.skipped] == ["bad"]
    assert reason in study.skipped[0].reason
    with pytest.raises(UsageError, match="is not a readable run"):
        read_run(tmp_path / "s" / "bad")


def test_a_damaged_summary_is_said_and_not_counted_as_an_end(folder: Path) -> None:
    (folder / "summary.json").write_text('{"status": "fini')
    record = read_run(folder)
    assert record.status == "interrupted"
    assert any("summary.json" in line for line in record.problems)


def test_foreign_files_in_a_study_do_not_disturb(tmp_path: Path) -> None:
    make(tmp_path, name="plain-20")
    make(tmp_path, name="plain-8")
    study = tmp_path / "s"
    (study / "01_degradation.ipynb").write_text("{}")
    (study / ".cache").mkdir()
    (study / "_old").mkdir()
    (study / "²").mkdir()
    (study / "größe\n").mkdir()
    (study / "link").symlink_to("nowhere")
    assert [run.name for run in read_study(study).runs] == ["plain-8", "plain-20"]  # as people sort
    assert len(read_study(study).skipped) == 2


def test_missing_and_empty_places_are_empty_studies(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        study = read_study(path)
        assert study.runs == ()
        assert study.table().empty
        assert set(store.IDENTITY) <= set(study.table().columns)
    assert find_studies(tmp_path / "nowhere") == []
    assert metrics_of([]).empty
    assert probes_of([]).empty


# --- status -----------------------------------------------------------------------------------


def rewritten(folder: Path, **changes: Any) -> RunRecord:
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(info | changes))
    return read_run(folder)


def ago(seconds: float) -> str:
    return (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)).isoformat()


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_running_is_believed_only_of_a_living_process_with_a_fresh_heartbeat(tmp_path: Path) -> None:
    folder = make(tmp_path, status=None)
    old = store.alive.STALE_SECONDS + 5
    here = {"host": socket.gethostname(), "pid": os.getpid()}
    assert rewritten(folder, **here, heartbeat=ago(5)).status == "running"
    assert rewritten(folder, **here, heartbeat=ago(old)).status == "running"  # a long test pass
    reused = store.alive.HERE_STALE_SECONDS + 5
    assert rewritten(folder, **here, heartbeat=ago(reused)).status == "interrupted"
    assert rewritten(folder, **(here | {"pid": dead_pid()}), heartbeat=ago(5)).status == "interrupted"
    elsewhere = {"host": "another", "pid": dead_pid()}
    assert rewritten(folder, **elsewhere, heartbeat=ago(5)).status == "running"
    assert rewritten(folder, **elsewhere, heartbeat=ago(old)).status == "interrupted"
    record = rewritten(folder, **elsewhere, heartbeat=ago(old))
    assert any("its process is gone" in line for line in record.problems)


@pytest.mark.parametrize("heartbeat", [None, 5, "", "yesterday", "2026-01-01T00:00:00", [], {}])
def test_a_heartbeat_that_cannot_be_read_is_no_sign_of_life(tmp_path: Path, heartbeat: Any) -> None:
    folder = make(tmp_path, status=None)
    assert rewritten(folder, heartbeat=heartbeat).status == "interrupted"


@pytest.mark.parametrize("pid", [None, 0, -1, True, "1", 10**30, 1.5])
def test_a_pid_that_cannot_be_is_no_living_process(tmp_path: Path, pid: Any) -> None:
    folder = make(tmp_path, status=None)
    assert rewritten(folder, pid=pid, heartbeat=ago(1)).status == "interrupted"


def test_the_heartbeat_is_written_when_due_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(store.writer.time, "monotonic", lambda: clock[0])
    with RunWriter(tmp_path, "s", "r", RUN) as writer:
        begin(writer)

        def step() -> int:
            return int(json.loads((writer.folder / "run.json").read_text())["step"])

        writer.beat(1)
        assert step() == 1
        clock[0] += store.writer.HEARTBEAT_SECONDS - 0.1
        writer.beat(2)
        assert step() == 1
        clock[0] += 0.2
        writer.beat(3)
        assert step() == 3


# --- many runs --------------------------------------------------------------------------------


def test_a_study_is_a_table_with_one_row_a_run(tmp_path: Path) -> None:
    for seed in (0, 1):
        for depth in (8, 14):
            run = Run(network=Network(depth=depth, shortcut="none"), recipe=RUN.recipe, seed=seed)
            make(tmp_path, name=f"plain-{depth}-seed{seed}", run=run)
    study = read_study(tmp_path / "s")
    table = study.table()
    assert table["run"].tolist() == [
        "plain-8-seed0", "plain-8-seed1", "plain-14-seed0", "plain-14-seed1",
    ]  # fmt: skip
    assert table["train_error"].dtype == float
    assert table["seed"].tolist() == [0, 1, 0, 1]
    metrics = metrics_of(study.runs)
    assert len(metrics) == 16
    assert metrics.groupby("run")["step"].apply(list).map(lambda s: s == [10, 20, 30, 40]).all()
    assert set(store.IDENTITY) <= set(probes_of(study.runs).columns)
    assert isinstance(probes_of(study.runs, "no such kind"), pd.DataFrame)


def test_runs_are_found_by_name_by_study_and_by_path(tmp_path: Path) -> None:
    make(tmp_path, "one", "a")
    make(tmp_path, "two", "b")
    make(tmp_path, "two", "a")
    make(tmp_path / "reference", "digits", "c")
    assert find_run("b", tmp_path).study == "two"
    assert find_run("two/a", tmp_path).study == "two"
    assert find_run("c", tmp_path).study == "digits"
    assert find_run(str(tmp_path / "one" / "a"), tmp_path).study == "one"
    with pytest.raises(UsageError, match="several runs are called 'a': one/a, two/a"):
        find_run("a", tmp_path)
    with pytest.raises(UsageError, match=r"no run 'two/bb'.*did you mean 'two/b'"):
        find_run("two/bb", tmp_path)
    with pytest.raises(UsageError, match="there are no runs yet"):
        find_run("a", tmp_path / "nowhere")
    for impossible in ("x" * 300, "x" * 5000, "a\0b"):
        with pytest.raises(UsageError, match="no run"):
            find_run(impossible, tmp_path)


def test_a_run_read_by_a_relative_path_keeps_its_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert (read_run(".").study, read_run(".").name) == ("s", "r")


def test_the_users_own_studies_come_before_the_reference_ones(tmp_path: Path) -> None:
    make(tmp_path, "zoo")
    make(tmp_path, "digits")
    make(tmp_path / "reference", "digits", "theirs")
    assert [str(p.relative_to(tmp_path)) for p in find_studies(tmp_path)] == [
        "digits",
        "zoo",
        "reference/digits",
    ]
    assert [run.name for run in find_study("digits", tmp_path).runs] == ["r"]
    with pytest.raises(UsageError, match=r"no study 'zoom'.*did you mean 'zoo'"):
        find_study("zoom", tmp_path)


# --- the schema as documented -----------------------------------------------------------------

README = Path(__file__).parents[1] / "results" / "README.md"


def documented() -> dict[str, dict[str, str]]:
    """`file` -> field -> meaning, as the tables of results/README.md say."""
    found: dict[str, dict[str, str]] = {}
    for section in README.read_text().split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        rows = re.findall(r"^\| `([^`|]+)` \| (.+) \|$", text, flags=re.MULTILINE)
        found[title.strip("`")] = dict(rows)
    return found


def test_the_readme_states_the_schema_field_by_field_in_order() -> None:
    tables = documented()
    for file, fields in store.SCHEMA.items():
        assert list(tables[file].items()) == list(fields.items()), file
    assert f"version {store.schema.SCHEMA_VERSION};" in README.read_text()


def test_the_readme_states_the_statuses_and_the_label_of_a_checkpoint(saved: RunWriter) -> None:
    tables = documented()
    assert list(tables["Statuses"]) == list(store.STATUSES)
    label = json.loads((saved.folder / "checkpoints" / "step-00000030.json").read_text())
    assert list(tables["checkpoints/step-NNNNNNNN.json"]) == list(label)
    assert f"older than {int(store.alive.STALE_SECONDS)} seconds" in README.read_text()


def test_the_reader_has_a_column_for_every_documented_quantity(folder: Path) -> None:
    record = read_run(folder)
    wanted = {*store.SCHEMA["metrics.jsonl"], *store.SCHEMA["timing.jsonl"]} - {"nonfinite"}
    assert set(record.metrics.columns) == wanted


def test_many_threads_prepare_one_folder_at_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(store.prepare_root, [tmp_path / "results"] * 400))
    assert set(found) == {tmp_path / "results"}
    assert [path.name for path in (tmp_path / "results").iterdir()] == [files.MARKER]


# --- measurements -----------------------------------------------------------------------------


def test_a_measurement_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "network": ["plain-8", "resnet-8"],
            "layer": [0, 1],
            "value": [0.123456789, math.inf],
            "with norm": [True, False],
        }
    )
    path = store.save_measurement(
        tmp_path, "digits", "norms", frame, what="norms", choices={"images": 128}
    )
    assert path == tmp_path / "measurements" / "digits" / "norms.json"
    assert store.find_measurements("norms", tmp_path) == [path]
    found = store.read_measurement(path)
    assert list(found.info) == list(store.SCHEMA["measurements/STUDY/NAME.json"])
    assert found.info["choices"] == {"images": 128}
    assert found.frame["value"].tolist()[0] == 0.123457
    assert math.isnan(found.frame["value"].tolist()[1])
    for column in ("network", "layer", "with norm"):
        assert found.frame[column].tolist() == frame[column].tolist()
    assert store.find_measurements("other", tmp_path) == []


def test_a_measurement_of_many_layers_can_be_read_again(tmp_path: Path) -> None:
    """110 layers, ten runs and two quantities make more than a megabyte, which a run.json never has."""
    frame = pd.DataFrame({"run": ["resnet-110-seed0" * 4] * 15_000, "value": range(15_000)})
    path = store.save_measurement(tmp_path, "digits", "norms", frame, what="norms", choices={})
    assert path.stat().st_size > 2**20
    assert len(store.read_measurement(path).frame) == len(frame)


def test_measurements_are_no_study_and_hide_none(tmp_path: Path) -> None:
    frame = pd.DataFrame({"value": [1.0]})
    reference = tmp_path / store.REFERENCE
    store.save_measurement(reference, "digits", "norms", frame, what="theirs", choices={})
    assert store.find_studies(tmp_path) == []
    (committed,) = store.find_measurements("norms", tmp_path)
    assert store.read_measurement(committed).info["what"] == "theirs"
    store.save_measurement(tmp_path, "digits", "norms", frame, what="mine", choices={})
    first, _ = store.find_measurements("norms", tmp_path)
    assert store.read_measurement(first).info["what"] == "mine"
    assert store.find_studies(tmp_path) == []
    with pytest.raises(UsageError, match="taken"):
        store.check_name("study", "measurements")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "torn"),
        (b'{"schema": 9}', "version 9"),
        (b'{"schema": 1, "columns": ["a"], "rows": [[1, 2]]}', "do not fit"),
        (b'{"schema": 1, "columns": ["a"], "rows": [3]}', "do not fit"),
    ],
)
def test_a_damaged_measurement_says_why(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        store.read_measurement(path)


def test_bad_names_of_measurements_are_refused(tmp_path: Path) -> None:
    for study, name in (("../up", "a"), ("a", "../up")):
        with pytest.raises(UsageError, match="cannot be used"):
            store.save_measurement(tmp_path, study, name, pd.DataFrame(), what="", choices={})
