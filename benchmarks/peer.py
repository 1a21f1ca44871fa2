"""The training loop that most people run, as the named baseline: eager, fp32, images one by one.

PIL images, torchvision's per-image transforms, a DataLoader with worker processes, `.item()` of loss
and error after every step: the loop of the widely used CIFAR ResNet trainers, written down plainly.
It trains the same networks with the same optimizer settings, so only the loop differs. On a GPU it
has what such loops have there: TF32 in convolutions, as torch comes, cuDNN's search for algorithms,
pinned memory, and as many workers as the cores allow.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from resnetlab import machine

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def workers(device: str, cores: int) -> int:
    """Processes that load images: beside a CPU that trains two, with a GPU cores - 2, at most 8."""
    return 2 if device == "cpu" else max(2, min(8, cores - 2))


class Pictures(Dataset[tuple[Tensor, int]]):
    """uint8 (N, 3 or 1, S, S) as PIL images, each cropped and flipped by itself."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        arrays = [image.permute(1, 2, 0).squeeze(2).numpy() for image in images]
        self.pictures = [Image.fromarray(array) for array in arrays]
        self.labels = labels.tolist()
        channels = images.shape[1]
        self.transform = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomCrop(images.shape[-1], 4),
                transforms.ToTensor(),
                transforms.Normalize(MEAN[:channels], DEVIATION[:channels]),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


class Loop:
    """`step()` is one step of the reference loop, data included."""

    def __init__(
        self, network: nn.Module, images: Tensor, labels: Tensor, device: torch.device
    ) -> None:
        self.network, self.device = network.to(device).train(), device
        torch.backends.cudnn.benchmark = True
        self.optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        self.loader = DataLoader(
            Pictures(images, labels),
            batch_size=128,
            shuffle=True,
            drop_last=True,
            num_workers=workers(device.type, machine.usable_cores()),
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
        self.batches = self._endless()
        self.loss = self.error = 0.0

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def step(self) -> None:
        images, labels = next(self.batches)
        images, labels = images.to(self.device), labels.to(self.device)
        logits = self.network(images)
        loss = cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.loss = loss.item()
        self.error = 100.0 - 100.0 * (logits.argmax(dim=1) == labels).float().mean().item()
