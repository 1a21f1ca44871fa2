"""What a disk, a link or another's file can do to a run: nothing is lost in silence, nothing hangs."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_results import RUN, begin, fill, make

from resnetlab import config, files, fit, store
from resnetlab.config import UsageError
from resnetlab.store import Checkpoint, RunWriter, Skipped


def within_seconds(work: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What `work` gives; a failure, not a hang, where it does not come back."""
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert got, "it does not come back"
    return got[0]


@pytest.fixture
def saved(tmp_path: Path) -> RunWriter:
    """A run of 40 steps with checkpoints of steps 20 and 30."""
    with RunWriter(tmp_path, "s", "r", RUN) as writer:
        begin(writer)
        writer.start_over()
        for step in (20, 30):
            fill(writer, step)
            writer.save_checkpoint(step, b"payload %d" % step, 1.0)
    return writer


# --- labels of checkpoints ----------------------------------------------------------------------


def test_no_flipped_bit_of_a_label_goes_unnoticed(saved: RunWriter) -> None:
    """With a log's name misspelt, or its length shorter, a resume would cut rows away in silence."""
    path = saved.folder / "checkpoints" / "step-00000030.json"
    content = path.read_bytes()
    whole = json.loads(content)
    for position in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(bytes(flipped))
        first, second = saved.checkpoints()
        try:
            same = json.loads(flipped) == whole  # a blank between two words
        except ValueError:
            same = False
        assert isinstance(first, Checkpoint) == same, (position, first)
        assert isinstance(second, Checkpoint)


# --- links --------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", store.LOGS)
@pytest.mark.parametrize("act", ["append", "start over", "resume"])
def test_a_log_that_is_a_link_is_not_written_through(saved: RunWriter, log: str, act: str) -> None:
    checkpoint = next(iter(saved.checkpoints()))
    assert isinstance(checkpoint, Checkpoint)
    elsewhere = saved.folder.parents[1] / "somebody's file"
    elsewhere.write_bytes(b"precious\n" * 1000)
    (saved.folder / log).unlink()
    (saved.folder / log).symlink_to(elsewhere)
    with RunWriter(saved.folder.parents[1], "s", "r", RUN) as writer:
        acts: dict[str, Callable[[], None]] = {
            "append": lambda: writer.append(log, {"step": 40}),
            "start over": writer.start_over,
            "resume": lambda: writer.resume_from(checkpoint),
        }
        with pytest.raises(OSError, match="link"):
            acts[act]()
    assert elsewhere.read_bytes() == b"precious\n" * 1000


# --- odd files ----------------------------------------------------------------------------------


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(40 * 2**30)  # 40 GB of NULs that take no place


def _deep(path: Path) -> None:
    path.write_text("[" * 200_000)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("odd", [_pipe, _endless, _huge, _deep, _folder])
@pytest.mark.parametrize("name", ["run.json", "summary.json", *store.LOGS, "evaluations.jsonl"])
def test_an_odd_file_costs_itself_and_hangs_nobody(tmp_path: Path, name: str, odd: Any) -> None:
    path, beside = make(tmp_path), make(tmp_path, name="beside")
    (path / name).unlink(missing_ok=True)
    odd(path / name)

    def read() -> store.Study:
        study = store.read_study(tmp_path / "s")
        for run in study.runs:
            run.as_row(), run.metrics, run.probe(), run.problems, run.evaluations
        return study

    study = within_seconds(read)
    assert beside in [run.path for run in study.runs]
    if name == "run.json":
        assert [item.path for item in study.skipped] == [path]
        assert study.skipped[0].reason


def test_a_line_longer_than_any_of_ours_is_left_out(tmp_path: Path) -> None:
    path = make(tmp_path)
    with (path / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 40, "train_error": 1.0, "more": "x" * 2**20}) + "\n")
    record = store.read_run(path)
    assert record.final("train_error") == 50.0
    assert "1 torn or damaged line left out of its metrics" in record.problems


def test_a_row_behind_the_last_step_is_no_final_value(tmp_path: Path) -> None:
    path = make(tmp_path, status=None)
    with (path / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 2**52, "train_error": 1.0}) + "\n")
    record = store.read_run(path)
    assert (record.steps_done, record.final("train_error")) == (40, 50.0)
    assert "1 torn or damaged line left out of its metrics" in record.problems


def test_a_folder_named_like_a_checkpoint_is_none(saved: RunWriter) -> None:
    (saved.folder / "checkpoints" / "step-00000040.pt").mkdir()
    first = next(iter(saved.checkpoints()))
    assert isinstance(first, Checkpoint)
    assert first.step == 30


# --- rows of logs -------------------------------------------------------------------------------


def other_digit(path: Path, line: int) -> None:
    """Another digit in that row: it keeps the form of a row."""
    rows = path.read_bytes().splitlines(keepends=True)
    head, tail = rows[line].rsplit(b":", 1)
    rows[line] = head + b":" + tail.translate(bytes.maketrans(b"0123456789", b"1234567890"))
    assert rows[line] != head + b":" + tail
    path.write_bytes(b"".join(rows))


@pytest.mark.parametrize("log", ["metrics.jsonl", "probes.jsonl"])
def test_another_digit_in_a_row_is_noticed_where_the_run_goes_on(
    tmp_path: Path, log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stopped(tmp_path)
    whole = fit(tiny(), name="whole", results_folder=tmp_path, device="cpu", threads=1)
    other_digit(folder / log, 1 if log == "metrics.jsonl" else 0)  # of step 8; of step 0
    record = fit(tiny(), name="a", results_folder=tmp_path, device="cpu", threads=1)
    said = capsys.readouterr().err
    assert f"step-00000008.pt: {log} is not what it was when it was taken, a row has changed" in said
    again = "resumed at step 4" if log == "metrics.jsonl" else "it starts over"
    assert again in said
    assert record.weights_sha256 == whole.weights_sha256
    assert record.problems == ()
    assert (folder / log).read_bytes() == (whole.path / log).read_bytes(), "what was measured is back"


@pytest.mark.parametrize("log", ["metrics.jsonl", "probes.jsonl"])
def test_another_digit_in_a_row_of_a_run_that_has_ended_is_said(tmp_path: Path, log: str) -> None:
    record = fit(tiny(), name="a", results_folder=tmp_path, device="cpu", threads=1)
    assert record.problems == ()
    other_digit(record.path / log, 0)
    changed = store.read_run(record.path)
    assert changed.problems == (f"its {log} is not what it was when the run ended",)
    assert changed.has_weights
    summary = json.loads((record.path / "summary.json").read_text())
    del summary["logs_sha256"]  # as versions before wrote it
    (record.path / "summary.json").write_text(json.dumps(summary))
    assert store.read_run(record.path).problems == ()


# --- what is lost beside whole checkpoints ------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"{", None])
def test_a_lost_run_json_does_not_lose_the_checkpoints(saved: RunWriter, content: bytes | None) -> None:
    path = saved.folder / "run.json"
    path.unlink() if content is None else path.write_bytes(content)
    with RunWriter(saved.folder.parents[1], "s", "r", RUN) as writer:
        steps = [item.step for item in writer.checkpoints() if isinstance(item, Checkpoint)]
    assert steps == [30, 20]
    other = RUN.model_copy(update={"seed": 7})
    if content is not None:
        with pytest.raises(UsageError, match="cannot be read"):
            RunWriter(saved.folder.parents[1], "s", "r", other).__enter__()


def tiny(**changes: Any) -> config.Run:
    often = {"steps": 12, "batch_size": 32, "log_every": 4, "test_every": 12, "checkpoint_every": 4}
    return config.run_from_parameters(network="plain-8", **(often | changes))


def stopped(root: Path) -> Path:
    """A run that ended after step 8, with its checkpoints."""

    def stop(row: Any) -> None:
        if row["step"] == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), name="a", results_folder=root, device="cpu", threads=1, on_row=stop)
    return root / "runs" / "a"


def test_a_run_goes_on_without_its_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stopped(tmp_path)
    whole = fit(tiny(), name="whole", results_folder=tmp_path, device="cpu", threads=1)
    (folder / "timing.jsonl").unlink()
    record = fit(tiny(), name="a", results_folder=tmp_path, device="cpu", threads=1)
    assert "resumed at step 8" in capsys.readouterr().err
    assert record.weights_sha256 == whole.weights_sha256
    assert b"\0" not in (folder / "timing.jsonl").read_bytes()


def test_it_is_said_where_no_checkpoint_can_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stopped(tmp_path)
    for payload in (folder / "checkpoints").glob("*.pt"):
        payload.write_bytes(b"")
    record = fit(tiny(), name="a", results_folder=tmp_path, device="cpu", threads=1)
    assert record.status == "finished"
    assert "none of its checkpoints can be used: it starts over" in capsys.readouterr().err


# --- a log and its summary ----------------------------------------------------------------------


def test_a_log_that_disagrees_with_its_summary_is_said(tmp_path: Path) -> None:
    path = make(tmp_path)
    assert store.read_run(path).problems == ()
    log = path / "metrics.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    problems = store.read_run(path).problems
    assert any("its log ends at step 30, its summary was made at step 40" in said for said in problems)
    rows[-1]["train_error"] = 3.0
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert store.read_run(path).problems == ("its log's last train_error is 3, its summary's 50",)


def test_no_committed_run_disagrees_with_its_summary() -> None:
    root = files.project() / "results"
    runs = [run for path in store.find_studies(root) for run in store.read_study(path).runs]
    assert len(runs) > 100
    assert not [(run.path, said) for run in runs for said in run._disagreements()]
    assert not [item for path in store.find_studies(root) for item in store.read_study(path).skipped
                if isinstance(item, Skipped)]  # fmt: skip
