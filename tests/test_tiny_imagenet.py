"""Tiny ImageNet: its layout, on a copy made here, and its faults; its images; its download."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnetlab import config, paper, store, training
from resnetlab.config import UsageError
from resnetlab.images import census, datasets, feeds, fetch, photographs, streaming, tiny_imagenet
from resnetlab.images.pixels import DataError, decode

WNIDS = ["n01443537", "n02123045", "n03126707", "n03126708"]
WORDS = {
    "n01443537": "goldfish, Carassius auratus",
    "n02123045": "tabby, tabby cat",
    "n03126707": "crane",
    "n03126708": "crane, wading bird",
}
CPU = torch.device("cpu")


def picture(seed: int, grey: bool = False) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (8, 8) if grey else (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four classes, five training and two validation images each, some of them grey."""
    place = tmp_path / "tiny-imagenet-200"
    annotations = []
    for number, wnid in enumerate(WNIDS):
        images = place / "train" / wnid / "images"
        images.mkdir(parents=True)
        for index in range(5):
            picture(10 * number + index, grey=index == 0).save(images / f"{wnid}_{index}.JPEG")
        boxes = "".join(f"{wnid}_{index}.JPEG\t0\t0\t62\t62\n" for index in range(5))
        (place / "train" / wnid / f"{wnid}_boxes.txt").write_text(boxes)
        (place / "val" / "images").mkdir(parents=True, exist_ok=True)
        for index in range(2):
            name = f"val_{index * 4 + number}.JPEG"
            picture(1000 + 10 * number + index).save(place / "val" / "images" / name)
            annotations.append(f"{name}\t{wnid}\t0\t32\t44\t62\n")
    (place / tiny_imagenet.ANNOTATIONS).write_text("".join(sorted(annotations)))
    (place / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in reversed(WNIDS)))
    (place / "words.txt").write_text("".join(f"{wnid}\t{said}\n" for wnid, said in WORDS.items()))
    return place


def spec(folder: Path, **changes: Any) -> config.Data:
    return config.images_named(f"tiny-imagenet:{folder}", **changes)


# --- what it is called ------------------------------------------------------------------------


def test_a_part_of_the_classes_is_never_called_the_whole(folder: Path) -> None:
    found = spec(folder)
    assert (found.classes, found.label, found.large) == (4, "tiny-imagenet-4", True)
    whole = config.Data.parse({"name": "tiny-imagenet:copy", "classes": 200})
    assert whole.label == config.Data(name="tiny-imagenet").label == "tiny-imagenet"
    held = spec(folder, validation=3)
    assert held.label == "tiny-imagenet-4 (3 held out)"
    assert config.Data(name="folder:some/tiny-imagenet-4").label == "folder:tiny-imagenet-4"
    assert config.Data.parse(found.model_dump()) == found
    assert "classes" not in config.Data(name="tiny-imagenet").model_dump()  # older runs keep their hash


def test_the_number_of_classes_belongs_to_a_copy_alone(folder: Path) -> None:
    with pytest.raises(UsageError, match="classes belongs to tiny-imagenet:PATH"):
        config.Data.parse({"name": "digits", "classes": 10})
    with pytest.raises(UsageError, match="how many classes does tiny-imagenet:x have"):
        config.Data.parse({"name": "tiny-imagenet:x"})
    with pytest.raises(UsageError, match=r"nowhere/train cannot be read .*data download tiny-imagenet"):
        config.images_named("tiny-imagenet:nowhere")
    with pytest.raises(UsageError, match="needs a path"):
        config.images_named("tiny-imagenet:")
    with pytest.raises(DataError, match="has 4 classes, tiny-imagenet-7 has 7"):
        photographs.load(config.Data.parse({"name": f"tiny-imagenet:{folder}", "classes": 7}))


def test_its_recipe_is_its_own_and_a_study_on_a_copy_says_so(folder: Path) -> None:
    run = config.run_from_parameters(network="plain-18", data=f"tiny-imagenet:{folder}")
    assert run.recipe == config.recipe_named("imagenet-tiny")
    assert (run.recipe.crop, run.recipe.scale) == (56, (64, 120))
    paper = config.IMAGENET_RECIPE.at_resolution(56)  # 224 of 256 to 480, in proportion
    assert (paper.crop, paper.scale) == (run.recipe.crop, run.recipe.scale)
    with pytest.raises(UsageError, match="needs a recipe that crops"):
        config.run_from_parameters(network="plain-20", data=f"tiny-imagenet:{folder}", recipe="paper")


# --- what lies there --------------------------------------------------------------------------


def test_the_layout_is_read_by_wordnet_id(folder: Path) -> None:
    found = tiny_imagenet.look(folder).checked()
    assert list(found["train"]) == list(found["test"]) == WNIDS
    assert [len(paths) for paths in found["train"].values()] == [5] * 4
    named = {path.name: wnid for wnid, paths in found["test"].items() for path in paths}
    assert named == {f"val_{index * 4 + n}.JPEG": w for n, w in enumerate(WNIDS) for index in (0, 1)}


def test_classes_go_by_their_first_name_and_by_all_where_two_share_it(folder: Path) -> None:
    assert photographs.load(spec(folder)).classes == (
        "goldfish",
        "tabby",
        "crane (n03126707)",
        "crane, wading bird (n03126708)",
    )


def test_images_are_decoded_once_and_are_those_of_the_files(folder: Path) -> None:
    photos = photographs.load(spec(folder))
    train = photos.splits["train"]
    assert train.pixels is not None
    assert train.pixels.shape == (20, 64, 64, 3)
    for index in range(len(train)):
        assert torch.equal(train.image(index), decode(train.path(index)))
    grey = train.image(0)
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])
    assert photos.workers_for(train) == 0


def test_what_a_step_sees_is_the_same_from_memory_and_from_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = config.recipe_named("imagenet-tiny").replace(batch_size=6)
    seen = []
    for room in (1 << 40, 0):
        monkeypatch.setattr("resnetlab.machine.free_memory", lambda room=room: room)
        photos = photographs.load(spec(folder), tmp_path / f"root{room}")
        assert (photos.splits["train"].pixels is None) == (room == 0)
        feed = streaming.feed(photos, feeds.Setting(recipe, 3, CPU, torch.float64))
        batches = [(images.clone(), labels) for images, labels in feed.batches(0, 4)]
        tests = [(images.clone(), labels) for images, labels in feed.plain("test")]
        resized = [(pixels.clone(), labels) for pixels, labels in streaming.resized(photos, "test", 96)]
        seen.append((batches + tests + resized, photos.describe()))
    (ours, mine), (theirs, its) = seen
    for (images, labels), (other, others) in zip(ours, theirs, strict=True):
        assert torch.equal(images, other)
        assert torch.equal(labels, others)
    assert mine == its
    assert mine["in_both"] == 0


def test_images_of_other_sizes_stay_files(folder: Path) -> None:
    path = folder / "train" / WNIDS[2] / "images" / f"{WNIDS[2]}_3.JPEG"
    picture(1).resize((80, 64)).save(path)
    assert photographs.load(spec(folder)).splits["train"].pixels is None


def spoil_annotation(folder: Path) -> None:
    path = folder / tiny_imagenet.ANNOTATIONS
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def spoil_class(folder: Path) -> None:
    for path in (folder / "train" / WNIDS[1] / "images").iterdir():
        path.unlink()


def spoil_list(folder: Path) -> None:
    (folder / "wnids.txt").write_text("\n".join(WNIDS[:3]))


def spoil_image(folder: Path) -> None:
    (folder / "val" / "images" / "val_5.JPEG").unlink()


def spoil_line(folder: Path) -> None:
    with (folder / tiny_imagenet.ANNOTATIONS).open("a") as file:
        file.write("val_99.JPEG\n")


def spoil_twice(folder: Path) -> None:
    with (folder / tiny_imagenet.ANNOTATIONS).open("a") as file:
        file.write(f"val_0.JPEG\t{WNIDS[1]}\n")


def spoil_foreign(folder: Path) -> None:
    path = folder / tiny_imagenet.ANNOTATIONS
    path.write_text(path.read_text().replace(WNIDS[3], "n09999999"))


def spoil_val(folder: Path) -> None:
    shutil.rmtree(folder / "val")


def spoil_text(folder: Path) -> None:
    (folder / "wnids.txt").write_bytes(b"\xff\xfe\xff")


def spoil_names(folder: Path) -> None:
    (folder / "words.txt").write_text("n01443537\tgoldfish\n")


def spoil_words(folder: Path) -> None:
    (folder / "words.txt").unlink()


def spoil_ids(folder: Path) -> None:
    (folder / "wnids.txt").unlink()


FAULTS = [
    (spoil_names, r"words\.txt has no name for n02123045, n03126707, n03126708"),
    (spoil_words, r"words\.txt cannot be read \(No such file"),
    (spoil_ids, r"wnids\.txt cannot be read \(No such file"),
    (spoil_annotation, r"val_0\.JPEG has no class: val/val_annotations\.txt does not name it"),
    (spoil_class, r"n02123045/images has no images"),
    (spoil_list, r"wnids\.txt and train/ differ in classes: n03126708"),
    (spoil_image, r"names val_5\.JPEG, which does not lie in val/images"),
    (spoil_line, r"line 9: a file and its class are needed"),
    (spoil_twice, r"line 9: val_0\.JPEG stands there twice"),
    (spoil_foreign, r"is of class n09999999, which train/ does not have"),
    (spoil_val, r"val_annotations\.txt cannot be read \(No such file"),
    (spoil_text, r"wnids\.txt is not text"),
]


@pytest.mark.parametrize(("spoil", "said"), FAULTS, ids=[spoil.__name__ for spoil, _ in FAULTS])
def test_a_spoilt_copy_is_refused_by_name_and_the_check_says_the_same(
    spoil: Any, said: str, folder: Path
) -> None:
    spoil(folder)
    with pytest.raises(DataError, match=said):
        tiny_imagenet.look(folder).checked()
    found = census.inspect(folder, tiny=True)
    assert any(re.search(said, problem) for problem in found.problems), found.problems


def test_a_damaged_image_is_named(folder: Path) -> None:
    path = folder / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_2.JPEG"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"{WNIDS[0]}_2\.JPEG is damaged"):
        photographs.load(spec(folder))


# --- the check, the run and its pages ---------------------------------------------------------


def both(folder: Path) -> None:
    """A training image becomes a validation image of another class, byte for byte, as in the set."""
    source = folder / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_1.JPEG"
    shutil.copyfile(source, folder / "val" / "images" / "val_1.JPEG")


def test_the_check_knows_the_layout_and_notes_what_stands_in_both(folder: Path, resnetlab: Any) -> None:
    both(folder)
    (folder / "train" / WNIDS[0] / ".DS_Store").write_text("x")
    code, out, _ = resnetlab("data", "check", f"tiny-imagenet:{folder}")
    assert code == 0, out
    assert "20 images in 4 classes" in out
    assert "8 images in 4 classes" in out
    assert "16 JPEG RGB, 4 JPEG L" in out
    assert "they stay in, as the set is distributed (train/n01443537/images/n01443537_1.JPEG =" in out
    assert f"not read: train/{WNIDS[0]}/.DS_Store" in out
    assert "no problem found" in out
    assert resnetlab("data", "check", folder)[0] == 0  # known without its kind, by wnids.txt
    code, out, _ = resnetlab("data", "check", f"folder:{folder}")
    assert code == 1  # which is how `--data folder:` would read it
    assert "problem: " in out
    (folder / "val" / "notes.txt").write_text("x")
    code, out, _ = resnetlab("data", "check", folder)
    assert (code, "problem: 1 file(s) or folder(s) are not read: val/notes.txt" in out) == (1, True)
    (folder / "val" / "notes.txt").unlink()
    spoil_annotation(folder)
    assert resnetlab("data", "check", folder)[0] == 1


def test_data_show_names_the_classes(folder: Path, resnetlab: Any) -> None:
    code, out, _ = resnetlab("data", "show", f"tiny-imagenet:{folder}", "--json")
    info = json.loads(out)
    assert (code, info["data"], info["train"], info["test"]) == (0, "tiny-imagenet-4", 20, 8)
    assert info["classes"][:2] == ["goldfish", "tabby"]


def test_a_run_says_that_test_images_are_training_images(
    folder: Path, tmp_path: Path, resnetlab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step of each of the three networks; every protocol on the first; the pages' sentence."""
    monkeypatch.setattr("resnetlab.images.datasets.data_root", lambda: tmp_path / "data")
    both(folder)
    for network in ("resnet-18", "plain-34", "resnet-50"):
        run = config.run_from_parameters(
            network=network, data=f"tiny-imagenet:{folder}", steps=1, batch_size=4, clip=1.0
        )
        record = training.fit(run, study="s", name=network, results_folder=tmp_path, threads=1)
        assert record.status == "finished"
        assert record.info["dataset"]["in_both"] == 1
        assert record.config.data.label == "tiny-imagenet-4"
    said = "1 of the 8 test images of tiny-imagenet-4 are training images too"
    clipped = "The gradient norm of each step is clipped at 1; the paper did not clip."
    assert store.notes([record, record])[0] == clipped
    assert said in store.notes([record, record])[1]
    assert len(store.notes([record, record])) == 2
    assert said in " ".join(resnetlab("show", "s/resnet-18", "--results", tmp_path)[1].split())
    code, out, err = resnetlab(
        *("evaluate", "s/resnet-18", "--protocol", "all", "--results", tmp_path, "--json")
    )
    assert code == 0, err
    rows = json.loads(out)["evaluations"]
    assert [(row["protocol"], row["crop"], row["sides"]) for row in rows] == [
        ("single", 56, [64]),
        ("ten-crop", 56, [64]),
        ("multi-scale", 56, [56, 64, 96, 120, 160]),  # the paper's 224 to 640, in proportion
    ]
    assert paper.VIEWS["multi-scale"].sides == (224, 256, 384, 480, 640)


# --- the download -----------------------------------------------------------------------------


def archive_of(folder: Path, *extra: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder.parent))
        for name in extra:
            packed.writestr(name, "x")
    return buffer.getvalue()


class Server:
    """Gives `content` on 127.0.0.1, by ranges; breaks off or stalls after `after` bytes of each."""

    def __init__(self, content: bytes) -> None:
        self.content, self.after, self.ranges, self.stalls = content, 0, True, False
        self.asked: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.asked.append(wanted)
                start = int(wanted.split("=")[1][:-1]) if wanted and outer.ranges else 0
                self.send_response(206 if start else 200)
                rest = outer.content[start:]
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                self.wfile.write(rest[: outer.after] if outer.after else rest)
                if outer.stalls:
                    self.wfile.flush()
                    threading.Event().wait(1.0)

            def log_message(self, *words: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/tiny-imagenet-200.zip"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = Server(archive_of(folder))
    publish(running, monkeypatch)
    monkeypatch.setattr(tiny_imagenet, "IMAGES", {"train": 20, "test": 8})
    monkeypatch.setattr(tiny_imagenet, "TINY_CLASSES", 4)
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", 0.0)
    yield running
    running.http.shutdown()
    running.http.server_close()


def publish(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server has now is what was published."""
    monkeypatch.setattr(tiny_imagenet, "URL", server.url)
    monkeypatch.setattr(tiny_imagenet, "BYTES", len(server.content))
    monkeypatch.setattr(tiny_imagenet, "MD5", hashlib.md5(server.content).hexdigest())


def test_the_published_file_is_the_one_that_is_known() -> None:
    assert tiny_imagenet.URL == "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
    assert (tiny_imagenet.BYTES, tiny_imagenet.MD5) == (248_100_043, "90528d7ca1a48142e341f4ef8d21d0de")
    assert tiny_imagenet.IMAGES == {"train": 100_000, "test": 10_000}


def test_a_download_is_unpacked_under_its_own_name_once(server: Server, tmp_path: Path) -> None:
    place = tiny_imagenet.download(tmp_path / "data")
    assert place == tmp_path / "data" / "tiny-imagenet"
    assert list(tiny_imagenet.look(place).images["train"]) == WNIDS
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["tiny-imagenet"]
    assert tiny_imagenet.download(tmp_path / "data") == place
    assert len(server.asked) == 1


@pytest.mark.parametrize("stalls", [False, True])
def test_a_download_that_breaks_off_or_stalls_goes_on_where_it_was(
    stalls: bool, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "STALLED_SECONDS", 0.2)
    server.after, server.stalls = -(-len(server.content) // 3), stalls
    place = tiny_imagenet.download(tmp_path)
    assert place.is_dir()
    third = server.after
    assert server.asked == [None, f"bytes={third}-", f"bytes={2 * third}-"]


def test_a_half_download_is_never_the_data_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept as a part, and another call goes on from it."""
    whole = server.content
    server.content = whole[:1000]
    with pytest.raises(DataError, match=rf"1,000 of {len(whole):,} bytes are kept in .*\.zip\.part"):
        tiny_imagenet.download(tmp_path)
    assert not (tmp_path / "tiny-imagenet").exists()
    assert (tmp_path / "tiny-imagenet-200.zip.part").read_bytes() == whole[:1000]
    server.content, server.asked = whole, []
    assert tiny_imagenet.download(tmp_path).is_dir()
    assert server.asked == ["bytes=1000-"]


def test_a_server_without_ranges_sends_it_again_from_the_start(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny-imagenet-200.zip.part").write_bytes(server.content[:500])
    server.ranges = False
    assert tiny_imagenet.download(tmp_path).is_dir()
    assert server.asked == ["bytes=500-"]


def test_another_file_than_the_published_one_is_removed(server: Server, tmp_path: Path) -> None:
    server.content = server.content[:-1] + bytes([server.content[-1] ^ 1])
    with pytest.raises(DataError, match=r"is not the published file \(MD5 [0-9a-f]{32}, "):
        tiny_imagenet.download(tmp_path)
    assert list(tmp_path.glob("tiny-imagenet*zip*")) == []
    longer = server.content + b"more"
    server.content = longer
    with pytest.raises(DataError, match="is not the published file"):
        tiny_imagenet.download(tmp_path)


def test_a_file_of_that_name_from_elsewhere_is_looked_at_first(server: Server, tmp_path: Path) -> None:
    archive = tmp_path / "tiny-imagenet-200.zip"
    archive.write_bytes(server.content[:-1] + b"x")  # as long as the published one
    with pytest.raises(DataError, match="is not the published file"):
        tiny_imagenet.download(tmp_path)
    archive.write_bytes(server.content)
    server.asked = []
    assert tiny_imagenet.download(tmp_path).is_dir()
    assert server.asked == []
    shutil.rmtree(tmp_path / "tiny-imagenet")
    archive.write_bytes(b"a browser's first half")
    assert tiny_imagenet.download(tmp_path).is_dir()


def test_without_network_the_message_says_what_to_do(server: Server, tmp_path: Path) -> None:
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(DataError, match=r"could not be downloaded .*0 of .* --data digits"):
        tiny_imagenet.download(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["tiny-imagenet-200/../../evil", "/evil", "tiny\\..\\evil", "evil", "__MACOSX/evil"],
)
def test_a_path_that_leads_out_of_the_archive_writes_nothing(
    name: str, folder: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = archive_of(folder, name)
    publish(server, monkeypatch)
    root = tmp_path / "root" / "data"
    with pytest.raises(DataError, match="is refused: "):
        tiny_imagenet.download(root)
    assert [path.name for path in (tmp_path / "root").rglob("*")] == ["data", "tiny-imagenet-200.zip"]


def test_a_truncated_archive_is_damaged(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = server.content[:-100]
    publish(server, monkeypatch)
    with pytest.raises(DataError, match=r"zip is damaged \("):
        tiny_imagenet.download(tmp_path)
    assert not (tmp_path / "tiny-imagenet").exists()


def test_an_archive_of_fewer_images_is_not_the_published_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_imagenet, "IMAGES", {"train": 21, "test": 8})
    with pytest.raises(DataError, match="holds 20 train images of 4 classes, not 21 of 4"):
        tiny_imagenet.download(tmp_path)
    assert not (tmp_path / "tiny-imagenet").exists()


def test_the_command_downloads_it(
    server: Server, resnetlab: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("resnetlab.images.datasets.data_root", lambda: tmp_path / "data")
    code, out, _ = resnetlab("data", "download", "tiny-imagenet")
    assert (code, out) == (0, f"tiny-imagenet is in {tmp_path / 'data' / 'tiny-imagenet'}\n")
    code, _, err = resnetlab("data", "download", "tiny-imagnet")
    assert code != 0
    assert "did you mean 'tiny-imagenet'" in err


def test_test_images_among_the_training_images_are_counted_by_their_pixels() -> None:
    train_images = torch.arange(24, dtype=torch.uint8).view(4, 1, 2, 3)
    test_images = torch.stack([train_images[2], train_images[2], train_images[0] + 1])
    assert feeds.in_both(train_images, test_images) == 2
    assert datasets.load(config.Data()).describe()["in_both"] == 0
