"""`resnetlab data check`: what it counts, what it calls a problem, and its exit code."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from resnetlab import cli, config
from resnetlab.config import UsageError
from resnetlab.images import census, folders, photographs, pixels


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
    assert problems(folder) == [f"{folder / 'val' / 'cow'} has no images {folders.KINDS}"]
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
        f"ImageNet has 1000 classes, this folder has 2: use it as folder:{folder}",
        "1 file(s) or folder(s) are not read: train/cat/notes.txt",
    ]
    assert found.notes == []
    with pytest.raises(UsageError, match="there is no folder"):
        census.inspect(folder / "nowhere")


def test_images_in_deeper_folders_and_of_other_kinds_are_read(folder: Path) -> None:
    cats = folder / "train" / "cat"
    (cats / "images" / "more").mkdir(parents=True)
    (cats / "0.jpg").rename(cats / "images" / "more" / "0.jpg")
    for index, kind in enumerate(("webp", "bmp", "gif", "TIFF")):
        values = np.full((40, 50, 3), 10 * index, dtype=np.uint8)
        Image.fromarray(values).save(cats / f"other.{kind}")
    found = census.inspect(folder)
    assert (found.problems, found.notes, found.splits["train"].images) == ([], [], 10)
    photos = photographs.load(config.Data(name=f"folder:{folder}"), folder)
    assert b"train/cat/images/more/0.jpg" in photos.splits["train"].names
    assert photos.describe()["left_out"] == 0


def test_what_is_not_read_is_counted_said_and_a_problem(
    folder: Path, resnetlab: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for litter in ("__MACOSX/cat/._0.jpg", "train/__MACOSX/._cat", "train/cat/.DS_Store", "val/.x.jpg"):
        (folder / litter).parent.mkdir(parents=True, exist_ok=True)
        (folder / litter).write_bytes(b"x")
    found = census.inspect(folder)
    assert found.problems == []
    assert "4 file(s) or folder(s) are not read" in found.notes[0]
    assert found.splits["train"].classes == ["cat", "dog"]
    (folder / "train" / "dog" / "9.heic").write_bytes(b"x")
    (folder / "train" / "dog" / "more").symlink_to(folder / "train" / "cat")
    (folder / "valid").mkdir()
    found = census.inspect(folder)
    assert found.problems == ["2 file(s) or folder(s) are not read: train/dog/9.heic, train/dog/more"]
    assert "valid" in found.notes[0]
    for place in folder.rglob("[0-9].jpg"):  # of one size, so that they are read into memory
        Image.open(place).resize((8, 8)).save(place)
    data = ("--data", f"folder:{folder}")
    code, out, _ = resnetlab("data", "show", data[1])
    assert code == 0
    assert "left_out    7" in out
    assert "not read    train/dog/9.heic, train/dog/more, valid, " in out
    root = tmp_path_factory.mktemp("results")
    words = ["--steps", "1", "--threads", "1", "--run", "r", "--results", root]
    code, _, error = resnetlab("train", "plain-8", *data, *words)
    assert code == 0, error
    assert "7 file(s) or folder(s) of " in error
    assert "are not read: train/dog/9.heic" in error
    (run,) = root.rglob("run.json")
    assert json.loads(run.read_text())["dataset"]["left_out"] == 7
    _, out, _ = resnetlab("show", "r", "--results", root)
    assert "7 files or folders not read" in " ".join(out.split())


def test_a_test_folder_without_classes_leaves_the_part_to_val(folder: Path) -> None:
    """ImageNet as it is distributed: the images of test/ have no labels."""
    (folder / "test").mkdir()
    shutil.copy(folder / "val" / "cat" / "0.jpg", folder / "test" / "ILSVRC2012_test_00000001.JPEG")
    found = census.inspect(folder)
    assert (found.problems, found.splits["test"].folder) == ([], "val")
    assert found.notes[-1] == "test/ has no class of val/: val/ is the test set"


def test_a_name_that_macos_writes_with_its_accents_apart_is_the_same_class(folder: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    (folder / "train" / "cat").rename(folder / "train" / composed)
    (folder / "val" / "cat").rename(folder / "val" / apart)
    found = census.inspect(folder)
    assert (found.problems, found.splits["test"].classes) == ([], [composed, "dog"])
    (folder / "train" / apart).mkdir()
    (folder / "train" / composed / "0.jpg").rename(folder / "train" / apart / "a.jpg")
    layout = folders.look(folder)
    assert [path.name for path in layout.images["train"][composed]] == ["a.jpg", "1.jpg", "2.jpg"]


@pytest.mark.parametrize("split", ["train/", "train/cat/"])
def test_a_name_that_is_no_utf_8_is_refused_at_the_check(folder: Path, split: str) -> None:
    place = os.path.join(os.fsencode(folder), split.encode())
    source = b"dog" if split == "train/" else b"0.jpg"
    try:
        os.rename(place + source, place + b"caf\xe9.jpg")
    except OSError:
        pytest.skip("this file system takes no such name")
    if split == "train/":
        os.rename(os.fsencode(folder) + b"/val/dog", os.fsencode(folder) + b"/val/caf\xe9.jpg")
    (said,) = problems(folder)
    assert "has names that are no UTF-8, rename them: '" in said
    assert "caf\\udce9.jpg" in said
    with pytest.raises(pixels.DataError, match="no UTF-8"):
        photographs.load(config.Data(name=f"folder:{folder}"), folder)


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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_named_like_an_image_hangs_nobody(folder: Path) -> None:
    """It would never end: the check names it, and so does who reads it."""
    pipe = folder / "train" / "cat" / "pipe.jpg"
    os.mkfifo(pipe)
    found = census.inspect(folder)
    (said,) = [said for said in found.problems if "damaged" in said]
    assert "train/cat/pipe.jpg is no regular file" in said
    with pytest.raises(pixels.DataError, match=r"pipe\.jpg .*no regular file"):
        pixels.decode(pipe)
    sizes = photographs.Files.below(folder, {"cat": [pipe]})
    with pytest.raises(pixels.DataError, match="no regular file"):
        list(sizes.digests())


def test_what_a_system_leaves_beside_tiny_imagenets_classes_is_no_class(tmp_path: Path) -> None:
    for name in ("n01443537", "n01629819", "__MACOSX", ".DS_Store"):
        (tmp_path / "train" / name).mkdir(parents=True)
    assert config.images_named(f"tiny-imagenet:{tmp_path}").classes == 2
