"""`resnetlab data check`: what it counts, what it calls a problem, and its exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from resnetlab import cli
from resnetlab.config import UsageError
from resnetlab.images import census


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for label in ("cat", "dog"):
            place = tmp_path / split / label
            place.mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 256, (40 + index, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{index}.jpg")
    return tmp_path


def problems(folder: Path) -> list[str]:
    return census.inspect(folder).problems


def test_a_sound_folder_is_counted_and_has_no_problem(folder: Path) -> None:
    found = census.inspect(folder)
    assert found.problems == []
    train = found.splits["train"]
    assert (train.images, train.classes, train.kinds) == (6, ["cat", "dog"], {"JPEG RGB": 6})
    assert train.height == {"least": 40, "median": 41, "greatest": 42}
    assert train.width == {"least": 50, "median": 50, "greatest": 50}
    assert train.bytes == sum(path.stat().st_size for path in (folder / "train").rglob("*.jpg"))


def test_what_would_stop_or_spoil_a_run_is_a_problem(folder: Path) -> None:
    whole = folder / "train" / "cat" / "0.jpg"
    shutil.copy(whole, folder / "val" / "cat" / "leak.jpg")
    assert problems(folder) == [
        "1 training file(s) are test files too, so that the test error would be too good: "
        "train/cat/0.jpg = val/cat/leak.jpg"
    ]
    (folder / "val" / "cat" / "leak.jpg").unlink()
    whole.write_bytes(whole.read_bytes()[:500])
    (said,) = problems(folder)
    assert said.startswith("1 damaged file(s): train/cat/0.jpg is damaged or no image")
    for index in (1, 2):  # every damaged file is named, however many there are
        (folder / "train" / "dog" / f"{index}.jpg").write_bytes(b"torn")
    (said,) = problems(folder)
    assert [part.split(" is ")[0] for part in said.removeprefix("3 damaged file(s): ").split("; ")] == [
        "train/cat/0.jpg",
        "train/dog/1.jpg",
        "train/dog/2.jpg",
    ]
    for index in (1, 2):
        shutil.copy(folder / "train" / "dog" / "0.jpg", folder / "train" / "dog" / f"{index}.jpg")
    whole.unlink()
    (folder / "val" / "cow").mkdir()
    assert problems(folder) == [f"{folder / 'val' / 'cow'} has no images (jpg, png)"]
    shutil.copy(folder / "val" / "cat" / "0.jpg", folder / "val" / "cow" / "0.jpg")
    assert problems(folder) == [f"train and val of {folder} have different classes: cow"]
    shutil.rmtree(folder / "val" / "cow")
    assert problems(folder) == []
    (folder / "val").rename(folder / "validation")
    missing = "a data folder holds train/CLASS/*.jpg|png and test/CLASS/*.jpg|png"
    assert problems(folder) == [f"{folder / 'test'} is missing; {missing}"]
    shutil.rmtree(folder / "train")
    assert f"{folder / 'train'} is missing; {missing}" in problems(folder)


def test_headers_alone_say_what_they_do_not_see(folder: Path) -> None:
    path = folder / "train" / "cat" / "0.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    found = census.inspect(folder, headers_only=True)
    assert found.problems == []
    assert "only headers were read" in found.notes[-1]
    assert len(problems(folder)) == 1


def test_the_wrong_number_of_classes_and_other_files_are_said(folder: Path) -> None:
    (folder / "train" / "cat" / "notes.txt").write_text("x")
    found = census.inspect(folder, classes=1000)
    assert found.problems == [
        f"ImageNet has 1000 classes, this folder has 2: use it as folder:{folder}"
    ]
    assert found.notes == ["1 file(s) or folder(s) are not read: train/cat/notes.txt"]
    with pytest.raises(UsageError, match="there is no folder"):
        census.inspect(folder / "nowhere")


@pytest.mark.slow
def test_the_command_prints_counts_and_ends_with_1_for_problems(folder: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(cli.app.app, ["data", "check", str(folder)])
    assert done.exit_code == 0, done.output
    assert "train/  6 images in 2 classes" in done.output
    assert "no problem found" in done.output
    (folder / "train" / "cat" / "0.jpg").write_bytes(b"torn")
    done = runner.invoke(cli.app.app, ["data", "check", f"folder:{folder}", "--json"])
    assert done.exit_code == 1
    assert list(json.loads(done.output)["splits"]["train"]["damaged"]) == ["train/cat/0.jpg"]
