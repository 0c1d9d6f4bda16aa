"""The rival: the training loop that the field's code bases share, for the benchmark only.

Images are PIL images that torchvision's transforms change in the workers of a DataLoader, started anew every epoch; the
network computes in fp32, NCHW, eagerly; loss and accuracy are read at every step. "single" has the shape of LDAM-DRW's
loop; "dual" that of BBN's, whose data set draws the second image of a pair with Python's own generator, and whose
optimiser has a group for each parameter.
"""

import os
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, RandomSampler

from lt_repro.bench.turn import Turn, synchronise
from lt_repro.data.images import Images
from lt_repro.errors import RequestError

WORKERS = max(0, min(4, (os.cpu_count() or 1) - 2))
"""LDAM-DRW has 4, BBN 16 + 8. Two cores are left to the step: workers that share them cost it 15 %, loading in the
training process 5 %, and the rival gets the faster way."""
TEST_BATCH = 100


def transform(train: bool) -> Any:
    """Returns torchvision's transform of a PIL image into a normalised (3, 32, 32) tensor.

    Raises:
        RequestError: torchvision is not installed.
    """
    try:
        from torchvision import transforms
    except ImportError as error:
        raise RequestError(
            "the benchmark's rival needs torchvision, which is not installed",
            "allowed: any torchvision that fits the installed torch",
            "pip install torchvision",
        ) from error
    changes = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if train else []
    normalise = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    return transforms.Compose([*changes, transforms.ToTensor(), normalise])


class PilImages(Dataset[Any]):
    """Images as PIL sees them, one by one: (image, label), or with `pairs` (image, label, second image, its label).

    Args:
        images: (N, 32, 32, 3) uint8.
        labels: (N,) int64.
        train: Whether to crop and flip.
        pairs: Whether each image comes with one of a class drawn by the reversed distribution.
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], train: bool, pairs: bool = False) -> None:
        self.images, self.labels, self.transform = images, labels, transform(train)
        counts = np.bincount(labels)
        self.members = [np.flatnonzero(labels == k).tolist() for k in range(len(counts))] if pairs else None
        self.weights = (counts.max() / counts).tolist()

    def __len__(self) -> int:
        """Returns N."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Returns one image, or one pair."""
        if self.members is None:
            return self._one(index)
        drawn, k = torch.rand(()).item() * sum(self.weights), 0
        while (drawn := drawn - self.weights[k]) > 0 and k < len(self.weights) - 1:
            k += 1
        return *self._one(index), *self._one(self.members[k][int(torch.randint(len(self.members[k]), ()))])

    def _one(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.stride, self.border = stride, (outside - inside) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.border, self.border))
        return functional.relu(out + x)


class TextbookNet(nn.Module):
    """ResNet-32 for CIFAR with one or two last blocks and a linear classifier on all their features.

    Args:
        classes: K.
        branches: 1 or 2.
    """

    def __init__(self, classes: int, branches: int) -> None:
        super().__init__()
        sizes = [(16, 16, 1)] * 5 + [(16, 32, 2)] + [(32, 32, 1)] * 4 + [(32, 64, 2)] + [(64, 64, 1)] * 3
        stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        self.trunk = nn.Sequential(*stem, *(_Block(*size) for size in sizes))
        self.branches = nn.ModuleList(_Block(64, 64, 1) for _ in range(branches))
        self.classifier = nn.Linear(64 * branches, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, *batches: Tensor, weights: tuple[float, ...] = ()) -> Tensor:
        """Returns (B, K) logits of a batch for each branch, or of one batch for all, features weighted by `weights`."""
        if len(batches) < len(self.branches):
            batches *= len(self.branches)
        pooled = [
            functional.adaptive_avg_pool2d(branch(self.trunk(x)), 1).flatten(1)
            for branch, x in zip(self.branches, batches, strict=True)
        ]
        weights = weights or (1 / len(pooled),) * len(pooled)
        parts = [len(pooled) * weight * x for weight, x in zip(weights, pooled, strict=True)]
        return self.classifier(torch.cat(parts, dim=1))  # type: ignore[no-any-return]


class Textbook:
    """The textbook loop, in turns.

    Args:
        images: What it trains and tests on.
        branches: 1 for LDAM-DRW's shape, 2 for BBN's.
        device: What it runs on.
        batch: Images of a step and branch.
        loader: Whether images come from the DataLoader; otherwise every step has the same batch: the raw step.
    """

    eval_every = 1

    def __init__(self, images: Images, branches: int, device: torch.device, batch: int, loader: bool = True) -> None:
        self.images, self.dual, self.device, self.batch = images, branches == 2, device, batch
        self.net = TextbookNet(len(images.split.counts), branches).to(device)
        parameters: Any = self.net.parameters()
        if self.dual:
            parameters = [{"params": [parameter]} for parameter in parameters]
        kind: dict[str, Any] = {"momentum": 0.9, "weight_decay": 2e-4, "nesterov": self.dual}
        self.optimizer = torch.optim.SGD(parameters, lr=0.01, **kind)
        self.train_set = PilImages(images.train_images, images.train_labels, True, self.dual)
        self.fixed = None if loader else next(iter(self._loader(self.train_set, 0, 1)))

    def turn(self, steps: int, tested: int) -> Turn:
        """Returns the times of a turn: starting an epoch, `steps` steps of it, and testing `tested` images."""
        self.net.train()
        start = time.perf_counter()
        batches = iter(self._loader(self.train_set, WORKERS, steps)) if self.fixed is None else None
        columns = next(batches) if batches else self.fixed
        ready = time.perf_counter()
        losses, right, seen = 0.0, 0.0, 0
        for step in range(steps):
            columns = next(batches) if batches and step else columns
            assert columns is not None
            loss, output, labels = self._loss([column.to(self.device) for column in columns])
            top5 = output.topk(5)[1] == labels[:, None]
            right += top5[:, 0].float().mean().item() + top5.float().sum(dim=1).mean().item()
            losses += loss.item()
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            seen += len(labels) * (1 + self.dual)
        synchronise(self.device)
        trained = time.perf_counter()
        del batches  # ends the workers
        between = time.perf_counter()
        if tested:
            self._test(tested)
        return Turn(ready - start, trained - ready, seen, time.perf_counter() - between, tested)

    def _loader(self, images: PilImages, workers: int, steps: int | None = None) -> DataLoader[Any]:
        batch = self.batch if steps else TEST_BATCH
        sampler = RandomSampler(images, num_samples=steps * batch) if steps else None
        return DataLoader(images, batch, sampler=sampler, num_workers=workers, pin_memory=self.device.type == "cuda")

    def _loss(self, columns: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns a step's loss, its logits, and the labels that its accuracy is counted by."""
        if not self.dual:
            x, labels = columns
            output = self.net(x)
            return functional.cross_entropy(output, labels), output, labels
        x_a, labels, x_b, others = columns
        alpha = 0.5
        output = self.net(x_a, x_b, weights=(alpha, 1 - alpha))
        pair = functional.cross_entropy(output, labels), functional.cross_entropy(output, others)
        return alpha * pair[0] + (1 - alpha) * pair[1], output, labels

    def _test(self, tested: int) -> None:
        self.net.eval()
        part = PilImages(self.images.test_images[:tested], self.images.test_labels[:tested], False)
        with torch.no_grad():
            for x, labels in self._loader(part, WORKERS):
                output = self.net(x.to(self.device))
                (output.argmax(dim=1) == labels.to(self.device)).float().mean().item()


def images_per_second(images: Images, number: int) -> float:
    """Returns the images/s of the PIL chain on one core: images one by one, stacked into batches of 128."""
    chain = PilImages(images.train_images, images.train_labels, True)
    start = time.perf_counter()
    for first in range(0, number, 128):
        torch.stack([chain[i % len(chain)][0] for i in range(first, first + 128)])
    return number / (time.perf_counter() - start)
