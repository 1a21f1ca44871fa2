"""Larger images: decoding, crops, what a step sees, statistics, and folders that cannot be used."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from resnetlab import config
from resnetlab.config import UsageError, recipe_named
from resnetlab.images import datasets, feeds, photographs, streaming
from resnetlab.images.pixels import DataError, centre_crop, decode, resize, scaled_crop

CPU = torch.device("cpu")
RECIPE = recipe_named("imagenet-small").replace(batch_size=6, flip=True)


def pattern(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture: resampling two ways then gives nearly the same pixels."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, count in (("train", 10), ("val", 4)):
        for label in ("cat", "dog"):
            place = tmp_path / "pictures" / split / label
            place.mkdir(parents=True)
            for index in range(count):
                size = (48 + 7 * index % 30, 44 + 5 * index % 40)
                image = pattern(*size, seed=index + 50 * (label == "dog") + 100 * (split == "val"))
                image.save(place / f"{index}.jpg", quality=92)
    return tmp_path / "pictures"


def photos(folder: Path, root: Path, **changes: Any) -> photographs.Photos:
    return photographs.load(config.Data(name=f"folder:{folder}", **changes), root / "root")


def feed(
    found: photographs.Photos,
    recipe: config.Recipe = RECIPE,
    seed: int = 0,
    share: feeds.Share = feeds.ALONE,
) -> streaming.Streamed:
    return streaming.Streamed(found, feeds.Setting(recipe, seed, CPU, torch.float64, share))


def batches(of: streaming.Streamed, start: int, stop: int) -> list[tuple[Tensor, Tensor]]:
    return [(images.clone(), labels) for images, labels in of.batches(start, stop)]


def same(ours: list[tuple[Tensor, Tensor]], theirs: list[tuple[Tensor, Tensor]]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)


# --- one image (decoded: test_pixels.py) --------------------------------------------------------


def test_resize_is_pillows_and_rounds_as_torchvision(tmp_path: Path) -> None:
    from torchvision.transforms import functional

    image = pattern(75, 50)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    for side in (32, 37, 50, 64):
        found = resize(pixels, side)
        wanted = functional.resize(image, side)  # Pillow, bilinear, antialiased
        assert (found.shape[2], found.shape[1]) == wanted.size
        reference = torch.from_numpy(np.array(wanted)).permute(2, 0, 1)
        assert (found.int() - reference.int()).abs().max() <= 1


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.5, 0.25), (0.999999, 0.999999)])
def test_a_scaled_crop_is_that_part_of_the_resized_image(x: float, y: float) -> None:
    """Sec. 3.4 by hand: resize so that the shorter side is 60, cut 32 x 32 out of it."""
    image = pattern(150, 100)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    found = scaled_crop(pixels, 60, 32, x, y)
    assert found.shape == (3, 32, 32)
    resized = image.resize((90, 60), Image.Resampling.BILINEAR)
    left, top = int(x * (90 - 32 + 1)), int(y * (60 - 32 + 1))
    wanted = np.array(resized.crop((left, top, left + 32, top + 32)))
    inner = (found.permute(1, 2, 0).numpy().astype(int) - wanted.astype(int))[3:-3, 3:-3]
    assert abs(inner).mean() < 4  # less than a pixel apart on a smooth picture
    other = np.array(resized.crop((90 - 32 - left, 60 - 32 - top, 90 - left, 60 - top))).astype(int)
    if (left, top) != (90 - 32 - left, 60 - 32 - top):
        apart = (found.permute(1, 2, 0).numpy().astype(int) - other)[3:-3, 3:-3]
        assert abs(apart).mean() > 8, "the place matters"


# --- what a step sees -------------------------------------------------------------------------


def test_what_a_step_sees_depends_on_seed_and_step_alone(folder: Path, tmp_path: Path) -> None:
    whole = batches(feed(photos(folder, tmp_path)), 0, 8)  # 20 images, 6 a batch: epochs are straddled
    assert same(whole[5:], batches(feed(photos(folder, tmp_path)), 5, 8)), "after a resume"
    assert not same(whole, batches(feed(photos(folder, tmp_path), seed=1), 0, 8))
    halves = [feed(photos(folder, tmp_path), share=feeds.Share(rank, 2)) for rank in (0, 1)]
    parts = [batches(half, 0, 8) for half in halves]
    together = [(torch.cat([a, c]), torch.cat([b, d])) for (a, b), (c, d) in zip(*parts, strict=True)]
    assert same(whole, together), "two processes"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_worker_processes_change_nothing(workers: int, folder: Path, tmp_path: Path) -> None:
    here = photos(folder, tmp_path)
    assert here.workers_for(here.splits["train"]) == 0, "a tiny set is decoded in this process"
    there = photographs.Photos(here.label, here.classes, here.splits, here.root, workers=workers)
    assert same(batches(feed(here), 2, 6), batches(feed(there), 2, 6))
    stopped = feed(there).batches(0, 1000)
    next(stopped)
    stopped.close()  # a loop that ends early leaves no process behind
    import multiprocessing

    assert not multiprocessing.active_children()


def test_an_epoch_sees_every_image_once_in_another_order(folder: Path, tmp_path: Path) -> None:
    of = feed(photos(folder, tmp_path), RECIPE.replace(batch_size=10))
    epochs = [torch.cat([of.views(2 * e + i).which for i in (0, 1)]).tolist() for e in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_shorter_side_is_drawn_from_both_ends_of_the_scale(folder: Path, tmp_path: Path) -> None:
    of = feed(photos(folder, tmp_path), RECIPE.replace(batch_size=100, scale=(36, 39)))
    assert set(of.views(0).side.tolist()) == {36, 37, 38, 39}
    views = of.views(0)
    assert 0.3 < views.flip.double().mean() < 0.7
    assert 0.07 < float(views.colour.std()) < 0.13  # alpha is drawn from N(0, 0.1)
    unflipped = feed(photos(folder, tmp_path), RECIPE.replace(flip=False)).views(0)
    assert not unflipped.flip.any()


def test_augmentation_is_mirror_mean_and_colour_by_hand(folder: Path, tmp_path: Path) -> None:
    of = feed(photos(folder, tmp_path))
    (raw, _), (images, labels) = next(of.crops(3, 4)), next(of.batches(3, 4))
    views, statistics = of.views(3), streaming.measure(photos(folder, tmp_path), 32, RECIPE.scale[0])  # type: ignore[index]
    covariance = statistics.covariance.numpy()
    values, vectors = np.linalg.eigh(covariance)
    for index in range(6):
        pixels = raw[index].numpy().astype(float)
        if views.flip[index]:
            pixels = pixels[:, :, ::-1]
        vectors_signed = vectors * np.sign(vectors[abs(vectors).argmax(axis=0), range(3)])
        shift = vectors_signed @ (views.colour[index].numpy() * values)  # E (alpha * lambda), in 0..1
        wanted = (pixels - statistics.mean.numpy()) / 255 + shift[:, None, None]
        assert np.allclose(images[index].numpy(), wanted, atol=1e-9)
    assert labels.tolist() == [int(i >= 10) for i in views.which.tolist()]


@pytest.mark.parametrize("kind", ["pixel", "channel"])
def test_statistics_are_those_of_the_single_views(kind: str, folder: Path, tmp_path: Path) -> None:
    found = photos(folder, tmp_path)
    statistics = streaming.measure(found, 32, 37)
    files = found.splits["train"]
    views = torch.stack(
        [centre_crop(resize(decode(files.path(i)), 37), 32) for i in range(len(files))]
    ).double()  # (20, 3, 32, 32)
    assert torch.allclose(statistics.mean, views.mean(dim=0), atol=1e-9)
    flat = views.permute(1, 0, 2, 3).flatten(1).numpy() / 255
    assert np.allclose(statistics.covariance.numpy(), np.cov(flat, bias=True), atol=1e-9)
    normalise = statistics.normalise(kind)
    if kind == "channel":
        assert np.allclose(normalise.divisor.flatten().numpy(), 255 * flat.std(axis=1))
        assert np.allclose(normalise.mean.flatten().numpy(), 255 * flat.mean(axis=1))
    seen = torch.cat([images for images, _ in feed(found, RECIPE.replace(mean=kind)).plain("train")])
    assert torch.allclose(seen, normalise(views), atol=1e-6)
    assert streaming.measure(found, 32, 37).mean.equal(statistics.mean), "from the cache"
    for cache in (tmp_path / "root" / "cache").glob("statistics-*.npz"):
        cache.write_bytes(cache.read_bytes()[:-100])
    assert streaming.measure(found, 32, 37).mean.equal(statistics.mean), "a torn one is made again"


def test_a_test_sees_every_image_whole_and_in_order(folder: Path, tmp_path: Path) -> None:
    found = photos(folder, tmp_path)
    files, labels, count = found.splits["test"], [], 0
    for images, truth in streaming.resized(found, "test", 40):
        for image in images:
            assert torch.equal(image, resize(decode(files.path(count)), 40))
            count += 1
        labels += truth.tolist()
    assert labels == [0, 0, 0, 0, 1, 1, 1, 1]


# --- damage -----------------------------------------------------------------------------------


def test_a_damaged_file_ends_training_with_its_name(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "cat" / "3.jpg").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"3\.jpg is damaged or no image.*resnetlab data check"):
        feed(photos(folder, tmp_path))


# --- folders ----------------------------------------------------------------------------------


def test_folders_that_cannot_be_used_are_refused_with_the_reason(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 2 classes, ImageNet has 1000; use --data folder:"):
        photographs.load(config.Data(name=f"imagenet:{folder}"), tmp_path)
    with pytest.raises(UsageError, match="leaves no training image"):
        photos(folder, tmp_path, validation=20)
    with pytest.raises(UsageError, match="small images"):
        photographs.load(config.Data(), tmp_path)
    (folder / "test" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match=r"both test/ and val/"):
        photos(folder, tmp_path)
    shutil.rmtree(folder / "test")
    (folder / "val" / "dog").rename(folder / "val" / "wolf")
    with pytest.raises(DataError, match="different classes: dog, wolf"):
        photos(folder, tmp_path)
    (folder / "train").rename(folder / "training")
    with pytest.raises(DataError, match="train is missing"):
        photos(folder, tmp_path)


def test_a_held_out_part_is_not_trained_on(folder: Path, tmp_path: Path) -> None:
    found = photos(folder, tmp_path, validation=5)
    names = {split: set(files.names.tolist()) for split, files in found.splits.items()}
    assert len(names["train"]) == 15
    assert len(names["validation"]) == 5
    assert not names["train"] & names["validation"]
    assert found.describe()["validation"] == 5


def test_the_fingerprint_follows_names_and_sizes(folder: Path, tmp_path: Path) -> None:
    before = photos(folder, tmp_path).fingerprint
    assert photos(folder, tmp_path).fingerprint == before
    pattern(60, 60, seed=99).save(folder / "train" / "cat" / "0.jpg", quality=40)
    assert photos(folder, tmp_path).fingerprint != before


def test_large_digits_are_the_digits_made_once(tmp_path: Path) -> None:
    found = photographs.load(config.Data(name="digits-large"), tmp_path)
    digits = datasets.load(config.Data())
    counts = torch.bincount(torch.from_numpy(found.splits["test"].labels))
    assert torch.equal(counts, torch.bincount(digits.test.labels))
    assert len(found.splits["train"]) == len(digits.train)
    sizes = set()
    for index in range(0, 300, 20):
        sizes.add(tuple(decode(found.splits["train"].path(index)).shape[1:]))
    assert len(sizes) > 10
    assert all(40 <= side <= 80 for size in sizes for side in size)
    stamp = (tmp_path / "digits-large").stat().st_mtime_ns
    photographs.load(config.Data(name="digits-large"), tmp_path)
    assert (tmp_path / "digits-large").stat().st_mtime_ns == stamp
    assert not list(tmp_path.glob(".digits-large*"))


def test_large_digits_that_broke_off_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, real = [], Image.Image.save

    def save(image: Image.Image, *args: Any, **kwargs: Any) -> None:
        saved.append(1)
        if len(saved) == 50:
            raise OSError(28, "No space left on device")
        real(image, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(DataError, match=r"digits-large could not be made \(No space left"):
        photographs.load(config.Data(name="digits-large"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_dead_worker_is_a_clear_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(files: photographs.Files, index: int) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    monkeypatch.setattr(photographs.Files, "image", die)
    alone = dataclasses.replace(photos(folder, tmp_path), workers=1)
    with pytest.raises(DataError, match="a process that decodes images is gone"):
        list(streaming.resized(alone, "test", 40))
