"""``gpugrad predict``: classify images with a trained network."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import gpugrad as gg

from .. import nn
from ..creation import tensor
from ..data.idx import read_idx
from . import CommandError
from .checkpoint import BEST, LAST, fitting, read_checkpoint
from .config import Config
from .data import DATASETS, SIDE
from .images import prepare, read_image
from .info import choose_device
from .models import build_model
from .plots import draw_predictions


def load_network(path: Path) -> tuple[nn.Module, Config]:
    """The network in a checkpoint file, or in the best checkpoint of a run's folder, ready to be used.

    Raises:
        CommandError: there is none, or it cannot be read.
    """
    if path.is_dir():
        found = next((path / name for name in (BEST, LAST) if (path / name).exists()), None)
        if found is None:
            raise CommandError(f"there is no checkpoint in {path}: expected {BEST} or {LAST}")
        path = found
    elif not path.exists():
        raise CommandError(f"there is no checkpoint {path}")
    state = read_checkpoint(path)
    with fitting(path):
        config = Config(**state["config"])
        model = build_model(config)
        model.load_state_dict(state["model"])
    return model.eval(), config


def load_images(path: Path, dataset: str, limit: int) -> list[tuple[str, np.ndarray, str]]:
    """The images of a file: name, (28, 28) uint8, and what was changed to make it so.

    Raises:
        CommandError: it cannot be read, or is no image.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(3)
        if head[:2] != b"\x1f\x8b" and head != b"\0\0\x08":
            image, changes = prepare(read_image(path), dataset)
            return [(str(path), image, changes)]
        array = read_idx(path)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise CommandError(f"cannot read {error}") from None
    if array.dtype != np.uint8 or array.shape[1:] != (SIDE, SIDE) or not len(array):
        raise CommandError(f"{path} holds {array.dtype} of shape {array.shape}; expected images of 28x28 bytes")
    return [(f"{path}[{k}]", image, "") for k, image in enumerate(array[:limit])]


def run(args: argparse.Namespace) -> int:
    """Print the most likely classes of each image.

    Raises:
        CommandError: the checkpoint or an image cannot be read.
    """
    model, config = load_network(Path(args.checkpoint))
    images = [item for path in args.images for item in load_images(Path(path), config.dataset, args.limit)]
    device = choose_device(args.device, quiet=True)
    model.to(device)
    kind = DATASETS[config.dataset]
    classes = [name.split(" - ")[0] for name in kind.classes]
    pixels = tensor(np.stack([image for _, image, _ in images]), device=device)
    with gg.no_grad():
        batch = (pixels.float().reshape(-1, 1, SIDE, SIDE) / 255 - kind.mean) / kind.std
        chances = model(batch).softmax(1).cpu().numpy()
    best = np.argsort(-chances, axis=1, kind="stable")[:, : args.top]
    for (name, _, changes), order, row in zip(images, best, chances, strict=True):
        listed = "  ".join(f"{classes[k]} {row[k]:.1%}" for k in order)
        print(f"{name}: {listed}{f'  ({changes})' if changes else ''}")
    if args.plot:
        titles = [f"{classes[order[0]]} {row[order[0]]:.0%}" for order, row in zip(best, chances, strict=True)]
        draw_predictions([image for _, image, _ in images], titles, Path(args.plot))
        print(f"drawn in {args.plot}")
    return 0
