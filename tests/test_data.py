"""The images: splits, the order of a run, augmentation against a slow reference, damaged inputs."""

from __future__ import annotations

import functools
import gc
import hashlib
import http.server
import io
import itertools
import json
import os
import pickle
import shutil
import tarfile
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from resnetlab import store
from resnetlab.config import PAPER, PAPER_400, Data, Recipe, UsageError
from resnetlab.images import datasets, feeds
from resnetlab.images.feeds import Dataset, Draws, Order, Resident, Setting, Split
from resnetlab.images.pixels import DataError

CPU = torch.device("cpu")


# --- digits -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load(Data())


def test_digits_are_the_1797_of_uci(digits: Dataset) -> None:
    # scikit-learn's documentation of the same file: 1797 samples, 8x8, pixels 0..16.
    assert len(digits.train) + len(digits.test) == 1797
    assert (len(digits.train), len(digits.test)) == (1442, 355)
    assert digits.train.images.shape[1:] == (1, 8, 8)
    assert digits.in_channels == 1
    assert digits.classes == tuple("0123456789")
    for split in (digits.train, digits.test):
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert (int(split.images.min()), int(split.images.max())) == (0, 255)
        assert len(split.images.unique()) <= 17  # 0..16 stretched to 0..255, no value merged


def test_digits_are_split_by_class_and_disjoint(digits: Dataset) -> None:
    train, test = (torch.bincount(split.labels) for split in (digits.train, digits.test))
    assert ((train + test) // 5 == test).all()  # every fifth of each class
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pool = sorted(
        (image.tobytes(), label)
        for image, label in zip(
            np.rint(bunch.images * 255 / 16).astype(np.uint8), bunch.target, strict=True
        )
    )
    ours = sorted(
        (image.numpy().tobytes(), int(label))
        for split in (digits.train, digits.test)
        for image, label in zip(split.images, split.labels, strict=True)
    )
    assert ours == pool  # each image once, with its own label: nothing lost, doubled or mixed up


def test_digits_come_with_the_package_and_are_those_of_the_committed_runs(digits: Dataset) -> None:
    note = (datasets.DIGITS.parent / "digits.LICENSE.txt").read_text()
    assert hashlib.sha256(datasets.DIGITS.read_bytes()).hexdigest() in note
    assert "CC BY 4.0" in note
    reference = Path(__file__).parents[1] / "results" / "reference" / "digits"
    (logged,) = {json.dumps(run.info["dataset"]) for run in store.read_study(reference).runs}
    assert json.loads(logged)["sha256"] == digits.describe()["sha256"]


def test_the_description_changes_with_a_pixel_a_label_and_the_split(digits: Dataset) -> None:
    said = digits.describe()
    assert said["shape"] == [1, 8, 8]
    assert (said["train"], said["validation"], said["test"]) == (1442, 0, 355)
    images, labels = digits.train.images.clone(), digits.train.labels.clone()
    images[0, 0, 0, 0] += 1
    labels[0] = (labels[0] + 1) % 10
    for other in (
        Split(images, digits.train.labels),
        Split(digits.train.images, labels),
    ):
        changed = Dataset(digits.label, digits.classes, other, digits.test)
        assert changed.describe()["sha256"] != said["sha256"]
    assert datasets.load(Data()).describe() == said
    assert datasets.load(Data(validation=10)).describe()["sha256"] != said["sha256"]


# --- the held-out part ------------------------------------------------------------------------


def rows(split: Split) -> list[bytes]:
    return [image.numpy().tobytes() for image in split.images]


def numbered(count: int, size: int = 8, channels: int = 1) -> Split:
    """Images that can be told apart: image i holds i in its first two pixels."""
    images = torch.zeros(count, channels, size, size, dtype=torch.uint8)
    images[:, 0, 0, 0] = (torch.arange(count) % 256).to(torch.uint8)
    images[:, 0, 0, 1] = (torch.arange(count) // 256).to(torch.uint8)
    return Split(images, torch.arange(count) % 2)


@given(st.integers(2, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1))))
def test_the_held_out_part_is_disjoint_and_nothing_is_lost(sizes: tuple[int, int]) -> None:
    total, held = sizes
    whole = numbered(total)
    train, validation = (whole.take(which) for which in datasets.held_out(total, held, "x"))
    assert (len(train), len(validation)) == (total - held, held)
    assert sorted(rows(train) + rows(validation)) == sorted(rows(whole))
    assert len(datasets.held_out(total, 0.1, "x")[1]) == max(1, round(0.1 * total))
    assert not set(rows(train)) & set(rows(validation))


def test_every_run_of_a_study_holds_out_the_same_images(digits: Dataset) -> None:
    # `load` knows no seed, so seeds are compared on one split; and it does not touch the global state.
    torch.manual_seed(1)
    first = datasets.load(Data(validation=144)).validation
    torch.manual_seed(2)
    second = datasets.load(Data(validation=144))
    assert first is not None
    assert second.validation is not None
    assert first is not second.validation  # read anew: nobody held the first
    assert torch.equal(first.images, second.validation.images)
    assert len(first.labels.unique()) == 10
    assert second.test.images.shape == digits.test.images.shape


@pytest.mark.parametrize("count", [1442, 1443, 10**9])
def test_a_held_out_part_that_takes_all_is_refused(count: int) -> None:
    with pytest.raises(UsageError, match="leaves no training image: digits has 1442"):
        datasets.load(Data(validation=count))


# --- the order --------------------------------------------------------------------------------


def recipe(**changes: Any) -> Recipe:
    return Recipe.parse({"pad": 4, "flip": True, "batch_size": 8} | changes)


def joined(blocks: list[Draws]) -> list[Tensor]:
    return [torch.cat(parts) for parts in zip(*blocks, strict=True)]


@given(st.integers(1, 60), st.integers(2, 25), st.integers(0, 5), st.integers(1, 4))
def test_every_image_comes_exactly_once_an_epoch(
    images: int, batch: int, seed: int, epochs: int
) -> None:
    order = Order(images, recipe(batch_size=batch), seed)
    steps = -(-epochs * images // batch)
    stream = order.draws(0, steps).which.flatten()
    for epoch in range(epochs):
        own = stream[epoch * images : (epoch + 1) * images]
        assert sorted(own.tolist()) == list(range(images))


def test_a_batch_straddles_two_epochs_and_stays_full() -> None:
    draws = Order(10, recipe(batch_size=8), 0).draws(0, 5)  # 40 images: four epochs of ten
    assert draws.which.shape == draws.dy.shape == draws.dx.shape == draws.flip.shape == (5, 8)
    assert torch.bincount(draws.which.flatten(), minlength=10).tolist() == [4] * 10


@given(
    st.integers(1, 40),
    st.integers(2, 50),
    st.lists(st.integers(0, 30), min_size=2, max_size=6, unique=True).map(sorted),
)
def test_what_a_step_sees_does_not_depend_on_where_blocks_begin(
    images: int, batch: int, cuts: list[int]
) -> None:
    own = recipe(batch_size=batch)
    whole = Order(images, own, 7).draws(cuts[0], cuts[-1])
    # A fresh Order for each block: a resumed process has no memory of the epochs before.
    pieces = [Order(images, own, 7).draws(a, b) for a, b in itertools.pairwise(cuts)]
    for one, other in zip(joined([whole]), joined(pieces), strict=True):
        assert torch.equal(one, other)
    from_zero = Order(images, own, 7).draws(0, cuts[-1])
    assert torch.equal(from_zero.which[cuts[0] :], whole.which)
    assert torch.equal(from_zero.flip[cuts[0] :], whole.flip)


def test_the_order_is_the_seeds_alone_and_leaves_the_global_state() -> None:
    before = torch.get_rng_state()
    first = Order(100, recipe(), 0).draws(0, 50)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.which, Order(100, recipe(), 0).draws(0, 50).which)
    other = Order(100, recipe(), 1).draws(0, 50)
    for name in ("which", "dy", "dx", "flip"):
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_epochs_differ_from_one_another() -> None:
    index = Order(64, recipe(batch_size=64), 0).draws(0, 3).which
    assert not torch.equal(index[0], index[1])
    assert not torch.equal(index[1], index[2])


def test_the_images_come_in_one_order_whatever_the_augmentation() -> None:
    # So that a run with and without augmentation differ in nothing else.
    plain = Order(50, recipe(pad=0, flip=False), 3).draws(0, 20)
    augmented = Order(50, recipe(), 3).draws(0, 20)
    assert torch.equal(plain.which, augmented.which)
    assert not plain.flip.any()
    assert not plain.dy.any()
    assert not plain.dx.any()


def test_all_81_offsets_and_both_mirrors_occur_equally_and_independently() -> None:
    draws = Order(8_100, recipe(batch_size=8_100), 0).draws(0, 4)
    cell = draws.dy * 9 + draws.dx
    counts = torch.bincount(cell.flatten(), minlength=81)
    assert len(counts) == 81
    # 32,400 draws in 81 cells: mean 400, standard deviation 20; six of those.
    assert ((counts - 400).abs() < 120).all()
    mirrored = torch.bincount(cell[draws.flip], minlength=81)
    assert ((mirrored - 200).abs() < 90).all()  # standard deviation 14: the mirror ignores the offset
    for name in ("dy", "dx", "flip"):  # within a batch each image has its own draw
        assert len(getattr(draws, name)[0].unique()) == (2 if name == "flip" else 9)


def test_generators_differ_by_seed_purpose_and_index() -> None:
    keys = [(0, "epoch", 0), (1, "epoch", 0), (0, "weights", 0), (0, "epoch", 1)]
    draws = [
        tuple(torch.randint(1 << 30, (4,), generator=feeds.generator(*key)).tolist()) for key in keys
    ]
    assert len(set(draws)) == len(keys)
    again = torch.randint(1 << 30, (4,), generator=feeds.generator(*keys[0]))
    assert tuple(again.tolist()) == draws[0]


# --- augmentation -----------------------------------------------------------------------------


def resident(split: Split, recipe: Recipe, dtype: torch.dtype, test: Split | None = None) -> Resident:
    return Resident(Dataset("x", ("a", "b"), split, test or split), Setting(recipe, 0, CPU, dtype))


def random_split(count: int = 12, channels: int = 3, size: int = 8) -> Split:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, channels, size, size), generator=random, dtype=torch.uint8)
    return Split(images, torch.randint(5, (count,), generator=random))


def slowly(split: Split, pad: int, index: int, dy: int, dx: int, flip: bool) -> np.ndarray[Any, Any]:
    """Sec. 4.2 in the paper's words, one image, float64: mean off, zeros around, crop, mirror."""
    pixels = split.images.numpy().astype(np.float64)
    image = (pixels[index] - pixels.mean(axis=0)) / 255
    size = image.shape[-1]
    padded = np.zeros((image.shape[0], size + 2 * pad, size + 2 * pad))
    padded[:, pad : pad + size, pad : pad + size] = image
    crop = padded[:, dy : dy + size, dx : dx + size]
    return crop[:, :, ::-1] if flip else crop


@pytest.mark.parametrize("device", ["meta", "cpu", "cuda"])  # meta: another device that is always there
def test_runs_of_one_process_share_what_lies_on_the_device(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    passes = list[str]()
    real = feeds.normalisation
    monkeypatch.setattr(
        feeds, "normalisation", lambda images, kind: (passes.append(kind), real(images, kind))[1]
    )
    dataset = Dataset("x", ("a", "b"), random_split(), random_split(5))
    runs = [
        Resident(dataset, Setting(recipe(mean=mean), seed, torch.device(device), torch.float32))
        for seed, mean in enumerate(("pixel", "channel", "pixel"))
    ]
    assert passes == ["pixel", "channel"]  # one each: what the feeds' normalisation is made of
    parts = [dataset.on(run.device) for run in runs]
    assert parts[0] is parts[1] is parts[2]
    assert parts[0].splits.keys() == {"train", "test"}
    images = parts[0].splits["train"].images
    assert images.device.type == device
    assert (images is dataset.train.images) == (device == "cpu")
    freed = weakref.ref(parts[0])
    del parts, images
    assert freed() is not None  # the runs hold it
    runs.pop()
    assert freed() is not None
    runs.clear()
    assert freed() is None  # though the data set is still here


def test_the_description_is_made_once_and_is_the_callers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset("x", ("a", "b"), random_split(), random_split(5))
    first = dataset.describe()
    monkeypatch.setattr(feeds, "in_both", None)
    first["sha256"] = "spoilt"
    assert dataset.describe()["sha256"] != "spoilt"


@pytest.mark.parametrize(("pad", "flip"), [(4, True), (4, False), (1, True), (0, True), (0, False)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_what_the_slow_reference_gives(
    pad: int, flip: bool, dtype: torch.dtype, tolerance: float, channels: int
) -> None:
    split, own = random_split(channels=channels), recipe(pad=pad, flip=flip)
    batches, draws = resident(split, own, dtype), Order(len(split), own, 0).draws(0, 6)
    for row in range(6):
        images, labels = batches.batch(draws, row)
        assert images.dtype == dtype
        assert images.shape == (8, channels, 8, 8)
        for i, image in enumerate(images):
            index, dy, dx = (int(getattr(draws, name)[row, i]) for name in ("which", "dy", "dx"))
            wanted = slowly(split, pad, index, dy, dx, bool(draws.flip[row, i]))
            assert np.abs(image.numpy() - wanted).max() <= tolerance
            assert labels[i] == split.labels[index]


def test_padding_is_zero_after_the_mean_not_before() -> None:
    split = Split(torch.full((4, 1, 8, 8), 200, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    split.images[0] = 100
    corner = Draws(*(torch.full((1, 4), v) for v in (1, 0, 0)), torch.zeros(1, 4, dtype=torch.bool))
    images, _ = resident(split, recipe(), torch.float32).batch(corner, 0)
    assert not images[:, :, :4].any()
    assert not images[:, :, :, :4].any()
    assert torch.allclose(images[:, :, 4:, 4:], torch.tensor(25 / 255))  # 200 less the mean of 175


def test_without_augmentation_a_training_batch_is_the_plain_image() -> None:
    split, own = random_split(), recipe(pad=0, flip=False)
    batches, draws = resident(split, own, torch.float32), Order(12, own, 0).draws(0, 3)
    plain = torch.cat([images for images, _ in batches.plain("train")])
    for row in range(3):
        images, _ = batches.batch(draws, row)
        assert torch.equal(images, plain[draws.which[row]])


def test_plain_passes_over_each_image_once_in_order_with_the_training_mean() -> None:
    train, test = random_split(size=96), random_split(25, size=96)
    batches = resident(train, recipe(), torch.float64, test)
    mean = train.images.to(torch.float64).mean(dim=0)
    parts = list(batches.plain("test"))
    assert [len(labels) for _, labels in parts] == [11, 11, 3]  # as many pixels as 100 of 32x32
    assert torch.equal(torch.cat([labels for _, labels in parts]), test.labels)
    wanted = (test.images.to(torch.float64) - mean) / 255
    torch.testing.assert_close(torch.cat([images for images, _ in parts]), wanted, atol=1e-15, rtol=0)


def test_the_mean_is_the_training_images_per_pixel() -> None:
    batches = resident(random_split(200), recipe(), torch.float64)
    images = torch.cat([images for images, _ in batches.plain("train")])
    assert images.mean(dim=0).abs().max() < 1e-14


# --- CIFAR ------------------------------------------------------------------------------------


@functools.cache
def cifar_archive(name: str) -> tuple[bytes, dict[str, bytes]]:
    """A tar.gz in the published python format with a few images, and its files."""
    random = np.random.default_rng(0)

    def part(count: int) -> bytes:
        pixels = random.integers(256, size=(count, 3072), dtype=np.uint8)
        key = "labels" if name == "cifar10" else "fine_labels"
        return pickle.dumps({"data": pixels, key: [int(i) % 3 for i in range(count)]})

    names = ["red", "green", "blue"]
    if name == "cifar10":
        files = {f"data_batch_{i}": part(4) for i in range(1, 6)} | {"test_batch": part(6)}
        files |= {"batches.meta": pickle.dumps({"label_names": names})}
        base = "cifar-10-batches-py"
    else:
        files = {"train": part(20), "test": part(6)}
        files |= {"meta": pickle.dumps({"fine_label_names": names})}
        base = "cifar-100-python"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for file, content in files.items():
            info = tarfile.TarInfo(f"{base}/{file}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue(), files


class Server:
    """A web server on 127.0.0.1 that gives `content`, and what is wrong with it on request."""

    def __init__(self) -> None:
        self.content = b""
        self.fault = ""
        self.requests = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                if outer.fault == "404":
                    self.send_error(404)
                    return
                if outer.fault == "nonsense":
                    self.wfile.write(b"this is not HTTP\r\n\r\n")
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.content)))
                self.end_headers()
                half = outer.fault == "breaks off"
                self.wfile.write(outer.content[: len(outer.content) // 2] if half else outer.content)

            def log_message(self, *words: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = Server()
    yield running
    running.close()


def offer(name: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Point torchvision's class at the small archive on the server, checksums and all."""
    archive, files = cifar_archive(name)
    server.content = archive
    reader = datasets._torchvision_class(name)

    def md5(file: str) -> str:
        return hashlib.md5(files[file]).hexdigest()

    train = [f for f in files if f.startswith(("data_batch", "train"))]
    test = [f for f in files if f.startswith("test")]
    meta = next(f for f in files if f.endswith("meta"))
    for attribute, value in {
        "url": f"{server.url}/{reader.filename}",
        "tgz_md5": hashlib.md5(archive).hexdigest(),
        "train_list": [[f, md5(f)] for f in train],
        "test_list": [[f, md5(f)] for f in test],
        "meta": reader.meta | {"md5": md5(meta)},
    }.items():
        monkeypatch.setattr(reader, attribute, value)
    return archive


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_downloaded_verified_and_read(
    name: str, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer(name, server, monkeypatch)
    folder = datasets.download(name, tmp_path)
    assert folder == tmp_path / name
    assert [item.name for item in tmp_path.iterdir()] == [name]  # no archive, no partial folder
    found = datasets.load(Data(name=name), tmp_path)
    assert found.classes == ("red", "green", "blue")
    assert found.train.images.shape == (20, 3, 32, 32)
    assert found.test.images.shape == (6, 3, 32, 32)
    assert found.train.images.dtype == torch.uint8
    assert found.train.labels.tolist()[:4] == [0, 1, 2, 0]
    assert found.label == name
    first = np.random.default_rng(0).integers(256, size=(4, 3072), dtype=np.uint8)
    assert np.array_equal(found.train.images[0].numpy().ravel(), first[0])  # (C, H, W), red plane first
    asked = server.requests
    assert datasets.download(name, tmp_path) == folder  # there already: not fetched again
    assert server.requests == asked


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # http.client keeps a nonsense answer's socket
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", ["breaks off", "404", "wrong checksum", "nonsense"])
def test_a_download_that_goes_wrong_leaves_nothing(
    fault: str, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer("cifar10", server, monkeypatch)
    server.fault = fault
    if fault == "wrong checksum":
        server.content = cifar_archive("cifar100")[0]
    with pytest.raises(DataError, match="nothing was kept") as caught:
        datasets.download("cifar10", tmp_path)
    assert "--data digits" in str(caught.value)
    assert "folder:PATH" in str(caught.value)
    assert server.url in str(caught.value)
    assert list(tmp_path.rglob("*")) == []
    with pytest.raises(DataError):
        datasets.load(Data(name="cifar10"), tmp_path)
    server.fault = ""  # and the next attempt succeeds
    server.content = cifar_archive("cifar10")[0]
    datasets.download("cifar10", tmp_path)
    assert len(datasets.load(Data(name="cifar10"), tmp_path).train) == 20
    gc.collect()


def test_no_network_says_what_works_without(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer("cifar10", server, monkeypatch)
    server.close()  # nobody listens any more
    with pytest.raises(DataError, match=r"refused.*--data digits"):
        datasets.download("cifar10", tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_a_half_download_of_a_killed_process_is_not_taken_for_the_data(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = offer("cifar10", server, monkeypatch)
    partial = tmp_path / "cifar10.partial"
    partial.mkdir()
    (partial / "cifar-10-python.tar.gz").write_bytes(archive[:100])
    with pytest.raises(DataError, match="data download cifar10"):
        datasets.load(Data(name="cifar10"), tmp_path)
    datasets.download("cifar10", tmp_path)
    assert not partial.exists()
    assert len(datasets.load(Data(name="cifar10"), tmp_path).train) == 20


def test_a_damaged_file_of_cifar_is_found_at_loading_and_never_unpickled(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer("cifar10", server, monkeypatch)
    folder = datasets.download("cifar10", tmp_path)
    victim = next(folder.rglob("data_batch_3"))

    class Hostile:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    victim.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(DataError, match="not whole"):
        datasets.load(Data(name="cifar10"), tmp_path)
    assert not (tmp_path / "executed").exists()
    datasets.download("cifar10", tmp_path)  # the same command mends it
    assert len(datasets.load(Data(name="cifar10"), tmp_path).train) == 20


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_missing_cifar_names_the_command_and_the_offline_choices(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"resnetlab data download {name}") as caught:
        datasets.load(Data(name=name), tmp_path)
    assert "digits" in str(caught.value)
    assert list(tmp_path.iterdir()) == []  # loading never downloads


def test_only_cifar_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'cifar10'"):
        datasets.download("cifar-10", tmp_path)
    with pytest.raises(UsageError, match="digits need no download"):
        datasets.download("digits", tmp_path)


# --- folders ----------------------------------------------------------------------------------

COLOURS = {"zebra": (200, 0, 0), "ant": (0, 200, 0), "cow": (0, 0, 200)}


def save(
    path: Path, colour: Any = (9, 9, 9), size: tuple[int, int] = (10, 10), mode: str = "RGB"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Three classes, made in no sorted order, four training images and two test images each."""
    folder = tmp_path / "pets"
    for split, count in (("train", 4), ("test", 2)):
        for name, colour in COLOURS.items():
            for i in range(count):
                save(folder / split / name / f"{i}.{'png' if i % 2 else 'jpg'}", colour)
    return folder


def read(folder: Path, root: Path | None = None) -> Dataset:
    return datasets.load(Data(name=f"folder:{folder}"), root or folder.parent / "root")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded from now on."""
    seen: list[Path] = []
    real = datasets.decode
    monkeypatch.setattr(datasets, "decode", lambda path: (seen.append(path), real(path))[1])
    return seen


def test_a_folder_is_read_with_sorted_classes_and_its_own_name(pets: Path) -> None:
    found = read(pets)
    assert found.label == "pets"
    assert found.classes == ("ant", "cow", "zebra")
    assert found.train.images.shape == (12, 3, 10, 10)
    assert found.test.images.shape == (6, 3, 10, 10)
    assert found.train.images.dtype == torch.uint8
    assert found.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for name, images in zip(found.classes, found.train.images.split(4), strict=True):
        wanted = torch.tensor(COLOURS[name]).view(3, 1, 1)
        assert (images.int() - wanted).abs().max() <= 2  # JPEG is not exact
        assert torch.equal(images[1], wanted.expand(3, 10, 10).to(torch.uint8))  # PNG is


def test_the_second_reading_decodes_nothing_and_gives_the_same(pets: Path, decoded: list[Path]) -> None:
    first = read(pets)
    described, images = first.describe(), first.train.images
    assert len(set(decoded)) == 18
    decoded.clear()
    del first
    second = read(pets)
    assert decoded == []
    assert second.train.images is not images
    assert second.describe() == described
    assert torch.equal(second.train.images, images)


def test_runs_of_one_process_share_the_images_while_one_of_them_holds_them(pets: Path) -> None:
    first, spec = read(pets), Data(name=f"folder:{pets}")
    again, other = read(pets), datasets.load(spec.model_copy(update={"validation": 2}), pets.parent)
    assert again is first
    assert other is not first
    assert len(other.train) == 10
    save(pets / "train" / "ant" / "1.png", (1, 2, 3))  # a study that begins now sees it, as ever
    changed = read(pets)
    assert changed is not first
    assert changed.train.images[1, :, 0, 0].tolist() == [1, 2, 3]
    assert first.train.images[1, 1, 0, 0] == 200  # and those under way go on with what they hold
    freed = weakref.ref(first)
    del first, again
    assert freed() is None


def test_cifar_is_read_again_once_a_file_of_it_is_another(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer("cifar10", server, monkeypatch)
    folder, spec = datasets.download("cifar10", tmp_path), Data(name="cifar10")
    held = datasets.load(spec, tmp_path)
    assert datasets.load(spec, tmp_path) is held
    victim = next(folder.rglob("data_batch_3"))
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="not whole"):
        datasets.load(spec, tmp_path)
    victim.write_bytes(whole)
    os.utime(victim, ns=(1, 1))
    assert datasets.load(spec, tmp_path) is not held
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere / "cifar10")  # with its times
    assert datasets.load(spec, elsewhere) is not datasets.load(spec, tmp_path)


def test_a_changed_and_an_added_file_are_decoded_anew(pets: Path, decoded: list[Path]) -> None:
    before = read(pets).describe()
    save(pets / "train" / "ant" / "1.png", (1, 2, 3))
    changed = read(pets)
    assert changed.train.images[1, :, 0, 0].tolist() == [1, 2, 3]
    assert changed.describe()["sha256"] != before["sha256"]
    save(pets / "test" / "cow" / "9.png")
    assert len(read(pets).test) == 7
    (pets / "test" / "cow" / "9.png").unlink()
    assert len(read(pets).test) == 6
    decoded.clear()
    read(pets)
    assert decoded == []
    assert len(list((pets.parent / "root" / "cache").iterdir())) == 1  # old arrays do not pile up


def test_a_file_of_equal_size_with_a_newer_time_is_decoded_anew(pets: Path) -> None:
    victim = pets / "train" / "ant" / "1.png"
    read(pets)
    size = victim.stat().st_size
    save(victim, (0, 201, 0))
    os.utime(victim, ns=(1, 1))
    assert victim.stat().st_size == size
    assert read(pets).train.images[1, 1, 0, 0] == 201


@pytest.mark.parametrize("damage", [b"", b"no zip at all", None, "half"])
def test_a_torn_cache_is_decoded_again(pets: Path, decoded: list[Path], damage: Any) -> None:
    described = read(pets).describe()
    cache = next((pets.parent / "root" / "cache").glob("*.npz"))
    content = cache.read_bytes()
    if damage is None:
        np.savez(cache, train_images=np.zeros(3))  # whole, but not ours
    else:
        cache.write_bytes(content[: len(content) // 2] if damage == "half" else damage)
    decoded.clear()
    assert read(pets).describe() == described
    assert len(set(decoded)) == 18
    assert cache.read_bytes() == content


def test_a_cache_with_pickles_is_not_executed(pets: Path, tmp_path: Path) -> None:
    read(pets)
    cache = next((tmp_path / "root" / "cache").glob("*.npz"))

    class Hostile:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    names = ("train_images", "train_labels", "test_images", "test_labels")
    hostile = np.array([Hostile()], dtype=object)
    np.savez(cache, **dict.fromkeys(names, hostile))  # type: ignore[arg-type]
    assert len(read(pets).train) == 12
    assert not (tmp_path / "executed").exists()


def test_a_cache_folder_that_cannot_be_written_is_only_slower(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    for _ in range(2):
        assert len(read(pets, tmp_path / "file" / "root").train) == 12
    assert "could not be written" in capsys.readouterr().err


def test_a_disk_that_fills_up_while_caching_leaves_no_half_cache(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert len(read(pets).train) == 12
    assert list((pets.parent / "root" / "cache").iterdir()) == []


def test_two_folders_of_one_name_do_not_share_a_cache(tmp_path: Path) -> None:
    for place, colour in (("a", (1, 1, 1)), ("b", (2, 2, 2))):
        for split in ("train", "test"):
            for name in ("x", "y"):
                save(tmp_path / place / "pets" / split / name / "0.png", colour)
                os.utime(tmp_path / place / "pets" / split / name / "0.png", ns=(5, 5))
    for place, value in (("a", 1), ("b", 2), ("a", 1)):
        found = read(tmp_path / place / "pets", tmp_path / "root")
        assert (found.train.images == value).all()


def test_every_kind_of_image_becomes_upright_rgb(pets: Path) -> None:
    """By the decoder of larger images too (test_pixels.py): upright, clear on white, 16 bits whole."""
    save(pets / "train" / "ant" / "a-grey.png", 77, mode="L")
    save(pets / "train" / "ant" / "b-clear.png", (1, 2, 3, 0), mode="RGBA")
    Image.fromarray(np.full((10, 10), 40_000, dtype=np.uint16)).save(
        pets / "train" / "ant" / "c-16.png"
    )
    half, exif = Image.new("L", (10, 10)), Image.Exif()
    half.paste(200, (0, 0, 10, 5))
    exif[0x0112] = 6  # turned by 90 degrees: what was above is at the right
    half.save(pets / "train" / "ant" / "d-turned.png", exif=exif)
    images = read(pets).train.images
    assert [images[index].unique().tolist() for index in (4, 5, 6)] == [[77], [255], [40_000 >> 8]]
    assert images[7, 0, 4].tolist() == [0] * 5 + [200] * 5
    assert images.shape[1:] == (3, 10, 10)


def test_other_files_and_hidden_ones_are_no_images(pets: Path) -> None:
    (pets / "train" / "notes.txt").write_text("x")
    (pets / "train" / ".hidden").mkdir()
    (pets / "train" / "ant" / "Thumbs.db").write_text("x")
    (pets / "train" / "ant" / "._0.png").write_text("x")
    save(pets / "train" / "ant" / "z.JPEG".replace("JPEG", "jpeg"))
    (pets / "train" / "ant" / "z.jpeg").rename(pets / "train" / "ant" / "z.JPG")
    assert read(pets).train.labels.tolist() == [0] * 5 + [1] * 4 + [2] * 4


def spoil_damaged(pets: Path) -> str:
    victim = pets / "train" / "cow" / "2.jpg"
    victim.write_bytes(victim.read_bytes()[:100])
    return r"cow/2\.jpg is damaged"


def spoil_text(pets: Path) -> str:
    (pets / "test" / "cow" / "1.png").write_text("no image")
    return r"cow/1\.png is damaged or no image"


def spoil_sizes(pets: Path) -> str:
    save(pets / "train" / "cow" / "3.png", size=(12, 10))
    return r"cow/3\.png is 12x10, the first image is 10x10"


def spoil_test_size(pets: Path) -> str:
    save(pets / "test" / "ant" / "0.jpg", size=(12, 12))
    return r"test/ant/0\.jpg is 12x12, the first image is 10x10"


def spoil_one_class(pets: Path) -> str:
    for split in ("train", "test"):
        for name in ("cow", "zebra"):
            (pets / split / name).rename(pets / f"{split}-{name}")
    return r"one class \(ant\)"


def spoil_empty(pets: Path) -> str:
    (pets / "train").rename(pets / "elsewhere")
    (pets / "train").mkdir()
    return r"train has no images"


def spoil_empty_class(pets: Path) -> str:
    (pets / "train" / "bee").mkdir()
    return r"train/bee has no images"


def spoil_no_test(pets: Path) -> str:
    (pets / "test").rename(pets / "elsewhere")
    return r"test is missing; a data folder holds train/CLASS"


def spoil_classes(pets: Path) -> str:
    (pets / "test" / "ant").rename(pets / "test" / "bee")
    return r"different classes: ant, bee"


def spoil_square(pets: Path) -> str:
    save(pets / "train" / "ant" / "0.jpg", size=(12, 10))
    return r"ant/0\.jpg is 12x10; images must be square"


def spoil_small(pets: Path) -> str:
    save(pets / "train" / "ant" / "0.jpg", size=(7, 7))
    return r"at least 8x8"


def spoil_link(pets: Path) -> str:
    (pets / "train" / "ant" / "5.png").symlink_to("nowhere.png")
    return r"ant/5\.png"


@pytest.mark.parametrize("spoil", [v for k, v in sorted(globals().items()) if k.startswith("spoil_")])
def test_what_is_wrong_with_a_folder_is_named_and_nothing_is_cached(
    spoil: Callable[[Path], str], pets: Path, tmp_path: Path
) -> None:
    said = spoil(pets)
    with pytest.raises(DataError, match=said):
        read(pets)
    assert not (tmp_path / "root").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        read(tmp_path / "nowhere")


def test_a_folder_too_large_for_memory_is_refused_before_it_is_decoded(
    pets: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[Path]
) -> None:
    monkeypatch.setattr(datasets, "MAX_BYTES", 18 * 300 - 1)
    with pytest.raises(DataError, match="GiB"):
        read(pets)
    assert len(decoded) == 1
    monkeypatch.setattr(datasets, "MAX_BYTES", 18 * 300)
    assert len(read(pets).train) == 12


def test_recipes_that_are_used_on_each_data_set_fit_its_images(digits: Dataset) -> None:
    for own in (PAPER_400, PAPER):
        batches = Resident(digits, Setting(own, 0, CPU, torch.float32))
        images, _ = batches.batch(Order(1442, own, 0).draws(0, 1), 0)
        assert images.shape == (own.batch_size, 1, 8, 8)
