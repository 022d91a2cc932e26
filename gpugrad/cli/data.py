"""A data set as tensors that stay on the device, and its batches."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import gpugrad as gg

from ..creation import tensor
from ..data import MNIST, FashionMNIST
from . import CommandError
from .config import Config

DATASETS = {"mnist": MNIST, "fashion-mnist": FashionMNIST}
SIDE = 28


class Split:
    """Normalised images and their labels on a device.

    Args:
        images: (N, 1, 28, 28).
        labels: (N,).
        shift: how far, in pixels, ``batch`` may move an image in either direction.
        background: what moves in at the edges.
    """

    def __init__(self, images: gg.Tensor, labels: gg.Tensor, device: Any, shift: int = 0, background: float = 0.0):
        self.device, self.shift = device, shift
        self._side = SIDE + 2 * shift
        if shift:
            images = gg.nn.functional.pad(images, (shift,) * 4, value=background)
            inside = gg.arange(SIDE)
            self._pattern = (inside.unsqueeze(1) * self._side + inside).reshape(-1).to(device)
        self.images, self.labels = images.to(device), labels.to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Any, corners: gg.Tensor | None = None) -> tuple[gg.Tensor, gg.Tensor]:
        """The images (n, 1, 28, 28) and labels (n,) of some rows, a slice or a tensor of indices.

        Args:
            corners: for moved images: where the upper left corner of each lies in its padded image.
        """
        if corners is None:
            return self.images[rows], self.labels[rows]
        starts = rows * self._side**2 + corners
        images = self.images.reshape(-1)[starts.unsqueeze(1) + self._pattern]
        return images.reshape(-1, 1, SIDE, SIDE), self.labels[rows]

    def epoch(self, seed: int, number: int) -> tuple[gg.Tensor, gg.Tensor | None]:
        """The order of the images in an epoch and, where they are moved, their corners.

        Both depend on the seed and the number of the epoch alone, so that it can be taken up again in its middle.
        """
        generator = gg.Generator()
        # The stream of the seed, far behind what initial weights and dropout take from it.
        generator.set_state(tensor([seed, (number + 1) << 44]))
        order = gg.randperm(len(self), generator=generator)
        if not self.shift:
            return order.to(self.device), None
        moves = gg.randint(2 * self.shift + 1, (2, len(self)), generator=generator)
        return order.to(self.device), (moves[0] * self._side + moves[1]).to(self.device)


@dataclass
class Data:
    """The images of a run.

    Attributes:
        origin: where they came from.
        fingerprint: a checksum of all of them.
    """

    train: Split
    test: Split
    origin: str
    fingerprint: str


def load_data(config: Config, device: Any) -> Data:
    """The images of a configuration, on a device.

    Raises:
        CommandError: they are not there, cannot be downloaded, or are damaged.
    """
    kind = DATASETS[config.dataset]
    total = 0
    splits = []
    for train, limit in ((True, config.train_limit), (False, config.test_limit)):
        try:
            dataset = kind(config.data_dir, train=train, source=config.source)
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            raise CommandError(str(error)) from None
        for part in (dataset.data, dataset.targets):
            total = zlib.crc32(part.numpy()[:limit].data, total)
        images, labels = dataset.as_tensors()
        if images.shape[1:] != (1, SIDE, SIDE) or not len(labels):
            raise CommandError(
                f"{dataset.origin} holds {len(labels)} images of shape {tuple(images.shape[2:])}; expected 28x28"
            )
        shift = config.shift if train else 0
        splits.append(Split(images[:limit], labels[:limit], device, shift, -kind.mean / kind.std))
    return Data(splits[0], splits[1], origin=dataset.origin, fingerprint=f"{total:08x}")
