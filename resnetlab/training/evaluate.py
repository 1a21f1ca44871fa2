"""Test protocols: single view, 10-crop, and fully convolutional at several scales (Sec. 3.4, 4.1)."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from resnetlab import config, nets, paper, store
from resnetlab.config import UsageError
from resnetlab.images import datasets, feeds, photographs, streaming
from resnetlab.images.pixels import centre_crop
from resnetlab.training.trained import Trained

Average = Literal["softmax", "logits"]
LARGEST_SIDE = 4096  # beyond, one image alone can take all of a machine's memory

# Pixels that run through the network together. On a CPU large batches are slower: eight crops of 224
# took 12 ms each and 64 took 19 ms, which made 10-crop more than 11 times a single view.
BATCH_PIXELS, CPU_BATCH_PIXELS = 64 * 224 * 224, 8 * 224 * 224
MOST_WAITING = 200  # images held back until there are enough of their shape

Batches = Iterable[tuple[Tensor, Tensor]]  # images (B, C, H, W) and labels (B,)


class Score(NamedTuple):
    """Errors in percent over `images` images; `top5_error` is None with five classes or fewer."""

    images: int
    top1_error: float
    top5_error: float | None


@torch.no_grad()
def single_view(
    network: nn.Module, batches: Batches, total: Callable[[Tensor], Tensor] = lambda sums: sums
) -> tuple[float, float]:
    """(error in percent, mean cross-entropy) over all batches, in evaluation mode.

    Training's own test (Sec. 4.2): normalised images, each seen once as it is. `total` adds up sums
    over the processes that each test a share. The network's mode is left as it was. Raises ValueError
    if there is no image.
    """
    # Sums stay on the device: no batch waits for the one before.
    wrong, loss = torch.zeros(2, dtype=torch.float64, device=next(network.parameters()).device)
    count = 0
    with nets.in_mode(network, training=False):
        for images, labels in batches:
            logits = network(images)
            wrong = wrong + (logits.argmax(dim=1) != labels).sum()
            loss = loss + cross_entropy(logits, labels, reduction="sum").double()
            count += len(labels)
    sums = total(torch.stack([wrong, loss, torch.full_like(loss, count)]))
    wrong_images, summed_loss, images_seen = sums.tolist()
    if images_seen == 0:
        raise ValueError("no images to test on")
    return 100 * wrong_images / images_seen, summed_loss / images_seen


# --- protocols --------------------------------------------------------------------------------


@torch.no_grad()
def view_scores(network: nn.Module, views: Tensor, average: Average = "softmax") -> Tensor:
    """Scores of images seen in several views: (B, V, C, H, W) -> (B, classes).

    The mean over views of the softmax, or, "logits", of what goes into it. The paper averages
    "scores"; a known peer sums logits, which can name another class. In float64: in float32 whatever
    is far below the best is 0, and which of the zeros are in the top five would be chance.
    """
    count, seen = views.shape[:2]
    logits = network(views.flatten(0, 1)).double().unflatten(0, (count, seen))  # (B, V, classes)
    scores: Tensor = (logits.softmax(dim=-1) if average == "softmax" else logits).mean(dim=1)
    return scores


def _views(pixels: Tensor, protocol: str, crop: int | None) -> Tensor:
    """What a protocol sees of images: (B, C, H, W) -> (B, V, C, S, S); whole ones without a crop.

    Ten crops are AlexNet's (Sec. 3.4): four corners, the centre, and the same of the mirror image.
    """
    if crop is None or protocol == "multi-scale":
        return pixels[:, None]
    if protocol == "single":
        return centre_crop(pixels, crop)[:, None]
    from torchvision.transforms import functional

    return torch.stack(functional.ten_crop(pixels, crop), dim=1)


@torch.no_grad()
def protocol_scores(
    subject: Trained,
    images_at: Callable[[int], Batches],
    protocol: str,
    crop: int | None,
    sides: Sequence[int],
    average: Average = "softmax",
) -> tuple[Tensor, Tensor]:
    """Scores (N, classes) and labels (N,) of all images under one of the paper's protocols.

    `images_at(s)` gives every image (uint8), always in the same order, whole, with its shorter side
    resized to s, one of `sides`. "single": the centre `crop` (Figure 4), or the whole image without
    one. "ten-crop": ten crops (Tables 2, 3). "multi-scale": the whole image at each side, fully
    convolutional: features pooled over all positions, classified, and then the softmax averaged over
    sides (Table 4; the paper does not say whether mirror images were averaged too: here they are not).
    The network's mode is left as it was.
    """
    scores, labels = torch.zeros(()), torch.zeros(())
    with nets.in_mode(subject.network, training=False):
        for side in sides:
            seen = ((_views(pixels, protocol, crop), truth) for pixels, truth in images_at(side))
            at_side, labels = _all_scores(subject, seen, average)
            scores = scores + at_side / len(sides)
    return scores, labels


def _all_scores(subject: Trained, seen: Batches, average: Average) -> tuple[Tensor, Tensor]:
    """Scores and labels of images in views (B, V, C, H, W), which run in batches of one shape."""
    weights = next(subject.network.parameters(), torch.zeros(()))
    most = CPU_BATCH_PIXELS if weights.device.type == "cpu" else BATCH_PIXELS
    scores: dict[int, Tensor] = {}
    labels: list[Tensor] = []
    waiting: dict[torch.Size, list[tuple[int, Tensor]]] = {}

    def run(batch: list[tuple[int, Tensor]]) -> None:
        views = torch.stack([view for _, view in batch]).to(weights.device)  # (B, V, C, H, W)
        ready = subject.normalise(views.flatten(0, 1)).unflatten(0, views.shape[:2])
        rows = view_scores(subject.network, ready, average).cpu()
        scores.update({index: row for (index, _), row in zip(batch, rows, strict=True)})

    count = 0
    for images, truth in seen:
        labels.append(truth.cpu())
        for view in images:  # (V, C, H, W)
            batch = waiting.setdefault(view.shape, [])
            batch.append((count, view))
            count += 1
            if len(batch) * view[:, 0].numel() >= most:
                run(waiting.pop(view.shape))
            elif sum(map(len, waiting.values())) >= MOST_WAITING:
                run(waiting.pop(max(waiting, key=lambda shape: len(waiting[shape]))))
    for batch in waiting.values():
        run(batch)
    if not count:
        raise ValueError("no images to test on")
    return torch.stack([scores[index] for index in range(count)]), torch.cat(labels)


def score(scores: Tensor, labels: Tensor) -> Score:
    """Top-1 and top-5 error in percent of scores (N, classes) against labels (N,).

    Raises RuntimeError if a score is not finite: such a network has no error to report.
    """
    if not torch.isfinite(scores).all():
        raise RuntimeError("the network's scores are not finite: it has no error to report")
    count, classes = scores.shape
    top1 = 100 * int((scores.argmax(dim=1) != labels).sum()) / count
    top5 = None
    if classes > 5:
        hit = (scores.topk(5, dim=1).indices == labels[:, None]).any(dim=1)
        top5 = 100 * int((~hit).sum()) / count
    return Score(count, top1, top5)


# --- what is tested ---------------------------------------------------------------------------


def some_test_images(run: config.Run, most: int = 256) -> Tensor:
    """Up to `most` test images of a run from all over its test set, uint8 (B, C, S, S), not normalised.

    In a single view; evenly spaced, because files are sorted by class. `Trained.normalise` makes of
    them what the network takes. UsageError for fewer than one.
    """
    if most < 1:
        raise UsageError(f"images: at least 1 is needed, got {most}")
    crop = run.recipe.crop
    if crop is None:
        test = datasets.load(run.data).test.images
        return test[_spread(len(test), most)]
    photos = photographs.load(run.data)
    files = photos.splits["test"]
    few = replace(photos, splits={"test": files.take(_spread(len(files), most))}, workers=0)
    side = run.recipe.scale[0] if run.recipe.scale else paper.VIEWS["single"].at(crop)[0]
    return torch.cat([centre_crop(pixels, crop) for pixels, _ in streaming.resized(few, "test", side)])


def _spread(count: int, most: int) -> Tensor:
    return torch.linspace(0, count - 1, min(most, count)).round().long()


def evaluate(
    subject: Trained,
    images: config.Data,
    protocol: str,
    *,
    crop: int | None,
    sides: Sequence[int] = (),
    average: Average = "softmax",
    root: Path | None = None,
) -> dict[str, Any]:
    """Test on the test split of `images`; returns the record that `store.add_evaluation` keeps.

    `crop` None is the single view of small images, each as it is (Sec. 4.2). Otherwise images are read
    from files; `sides` default to the paper's (`paper.VIEWS`) in proportion to `crop`. Raises
    UsageError for what the images or the network cannot do, and RuntimeError for a damaged image or
    scores that are not finite.
    """
    for word, known, what in (
        (protocol, tuple(paper.VIEWS), "protocol"),
        (average, get_args(Average), "average"),
    ):
        if word not in known:
            raise UsageError(f"unknown {what} {word!r}{config.did_you_mean(word, known)}")
    began, spec = time.perf_counter(), subject.network.spec
    tested: feeds.Dataset | photographs.Photos
    if crop is None:
        if protocol != "single" or sides:
            raise UsageError(
                f"{protocol if protocol != 'single' else 'a side or scales'} needs images larger than "
                f"the network's; {images.label} is tested in a single view, each image as it is, as in "
                "the paper"
            )
        if images.large:
            raise UsageError(
                f"{spec.name} was trained on small images as they are, {images.label} has larger ones"
            )
        tested = datasets.load(images, root)
        smallest = tested.size
        images_at = functools.partial(_as_they_are, tested.test)
    else:
        sides = list(sides) or paper.VIEWS[protocol].at(crop)
        _check_sides(spec, protocol, crop, sides)
        smallest = min(sides) if protocol == "multi-scale" else crop
        tested = photographs.load(images, root)
        images_at = functools.partial(streaming.resized, tested, "test")
    nets.check_size(spec, smallest, smallest)
    _check_fits(subject.network, tested)
    scores, labels = protocol_scores(subject, images_at, protocol, crop, sides or [smallest], average)
    return {
        "step": subject.step or 0,
        "protocol": protocol,
        "average": average,
        "crop": crop,
        "sides": list(sides),
        "data": images.label,
        "dataset_sha256": tested.describe()["sha256"],
        **score(scores, labels)._asdict(),
        "seconds": time.perf_counter() - began,
        "time": store.now(),
    }


def _as_they_are(split: feeds.Split, side: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Small images in batches, whatever `side` is asked for."""
    return zip(split.images.split(500), split.labels.split(500), strict=True)


def _check_sides(spec: config.Network, protocol: str, crop: int, sides: Sequence[int]) -> None:
    if protocol == "multi-scale" and spec.design != "imagenet":
        raise UsageError(
            f"multi-scale runs over whole images, {spec.name} takes square ones; use single or ten-crop"
        )
    if max(sides) > LARGEST_SIDE:
        raise UsageError(f"a shorter side of {max(sides)} is more than {LARGEST_SIDE} pixels")
    if protocol != "multi-scale" and min(sides) < crop:
        raise UsageError(f"images of shorter side {min(sides)} have no crop of {crop}")


def _check_fits(network: nets.Network, images: feeds.Dataset | photographs.Photos) -> None:
    known = network.classifier.out_features
    if len(images.classes) != known:
        raise UsageError(
            f"{network.spec.name} tells {known} classes apart, {images.label} has {len(images.classes)}"
        )
    if images.in_channels != network.in_channels:
        raise UsageError(
            f"{network.spec.name} takes images of {network.in_channels} channel(s), {images.label} has "
            f"{images.in_channels}"
        )
