"""Where output goes, or cannot go, decides nothing: a training ends as it would have."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from resnetlab import store
from resnetlab.cli import streams

FULL = Path("/dev/full")
COMMAND = [sys.executable, "-m", "resnetlab"]
TRAIN = "train plain-8 --steps 12 --threads 1 --run r".split()


def called(*words: str | Path, **how: Any) -> subprocess.CompletedProcess[bytes]:
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 300} | how
    how["env"] = os.environ | how.get("env", {})
    return subprocess.run([*COMMAND, *map(str, words)], **how)


def status(root: Path) -> tuple[str, int]:
    record = store.read_run(root / "runs" / "r")
    return record.status, record.steps_done


@pytest.mark.slow
def test_neither_a_full_disk_nor_a_reader_who_left_ends_a_training(tmp_path: Path) -> None:
    with FULL.open("wb") as full:
        done = called(*TRAIN, "--results", tmp_path / "full", stdout=full)
    assert (done.returncode, status(tmp_path / "full")) == (0, ("finished", 12))
    assert done.stderr.decode().count("standard output cannot be written") == 1
    with FULL.open("wb") as full:
        done = called(*TRAIN, "--results", tmp_path / "both", stdout=full, stderr=full)
    assert (done.returncode, status(tmp_path / "both")) == (0, ("finished", 12))
    words = " ".join([*COMMAND, *TRAIN, "--results", str(tmp_path / "head")])
    done = subprocess.run(  # `| head -1`, for both streams
        ["bash", "-c", f"set -o pipefail; {words} 2>&1 | true"], capture_output=True, timeout=300
    )
    assert (done.returncode, status(tmp_path / "head")) == (0, ("finished", 12))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "code", "ended"),
    [("trap '' HUP;", 0, "finished"), ("", 130, "interrupted")],
    ids=["nohup", "hang-up"],
)
def test_a_closed_terminal_ends_a_training_in_order_or_not_at_all(
    tmp_path: Path, before: str, code: int, ended: str
) -> None:
    """Closing it sends the hang-up signal, and gives EIO to whoever goes on to print."""
    words = [*COMMAND, *TRAIN, "--steps", "200" if code else "60", "--results", str(tmp_path)]
    master, terminal = pty.openpty()
    with subprocess.Popen(
        ["bash", "-c", f"{before} exec {' '.join(words)}"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(terminal)
        os.read(master, 1)  # its first row
        os.close(master)
        assert process.wait(300) == code
    record = store.read_run(tmp_path / "runs" / "r")
    assert record.status == ended
    assert (record.info["error"] == "stopped by SIGHUP") == bool(code)


def test_a_study_is_told_on_a_stream_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from resnetlab.cli.terminal import StudyProgress

    with FULL.open("w") as out, FULL.open("w") as error:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", error)
        with streams.outlived() as taken:
            StudyProgress().begin([], [], 2, 1)
            sys.stdout.flush()
            print("note: more", file=sys.stderr, flush=True)
        assert taken[0].lost
        monkeypatch.undo()


def test_a_command_that_could_not_print_its_table_says_so() -> None:
    with FULL.open("wb") as full:
        done = called("recipe", stdout=full)
    assert done.returncode == 1
    assert b"standard output cannot be written (No space left on device)" in done.stderr
    words = " ".join([*COMMAND, "recipe"])
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {words} | head -1"], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") == 1


def test_streams_that_were_closed_before_the_start_swallow_everything() -> None:
    done = subprocess.run(["bash", "-c", " ".join([*COMMAND, "recipe", ">&-", "2>&-"])])
    assert done.returncode == 0


COMMANDS = [
    ["list"],
    ["show", "reference/digits/plain-8-seed0"],
    ["compare", "digits"],
    ["compare", "reference/digits/plain-8-seed0", "reference/digits/resnet-8-seed0"],
    ["recipe"],
    ["recipe", "paper-110"],
    ["weights"],
    ["networks", "resnet-50"],
    ["data", "show", "digits"],
    ["--help"],
    ["study", "nonsense"],
    ["study", "digits", "--plan"],
]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_terminal_that_is_not_utf8_gets_what_it_can_print(
    words: list[str], encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every sign of every table has a form for it; nothing raises and little is a question mark."""
    from resnetlab import cli

    monkeypatch.setattr(sys, "argv", ["resnetlab", *words])
    out, error = tmp_path / "out", tmp_path / "error"
    with out.open("w", encoding=encoding) as o, error.open("w", encoding=encoding) as e:
        monkeypatch.setattr(sys, "stdout", o)
        monkeypatch.setattr(sys, "stderr", e)
        with pytest.raises(SystemExit) as left:
            cli.main()
        monkeypatch.undo()
    assert left.value.code == (2 if "nonsense" in words else 0)
    text = out.read_text(encoding) + error.read_text(encoding)
    assert len(text) > 100
    assert "?" not in text.replace("did you mean", "").replace("'?", "").replace("?\n", "")


def test_every_sign_that_the_package_prints_has_a_plain_form() -> None:
    package = Path(store.__file__).parents[1]
    files = [*package.glob("cli/*.*"), *package.glob("verdict/*.*"), *package.glob("store/*.*")]
    signs = {sign for path in files if path.suffix in (".py", ".toml")
             for sign in path.read_text("utf-8") if ord(sign) > 127}  # fmt: skip
    assert {"±", "–"} <= signs <= set(streams.PLAIN)


def test_only_a_reader_who_had_enough_is_no_loss() -> None:
    raw = streams.Outlived(1, "standard output")
    assert not raw.lost
    raw.error = OSError(errno.EPIPE, "Broken pipe")
    assert not raw.lost
    raw.error = OSError(errno.EIO, "Input/output error")
    assert raw.lost
