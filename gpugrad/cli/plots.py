"""Pictures of a run, drawn with matplotlib where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import CommandError


def _figure(**options: Any) -> Any:
    try:
        from matplotlib.figure import (
            Figure,
        )  # not pyplot: it looks for a display and takes three times as long to import
    except ImportError:
        raise CommandError("pictures need matplotlib: pip install 'gpugrad[plot]'") from None
    return Figure(layout="constrained", **options)


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:  # ValueError: an extension matplotlib does not know
        raise CommandError(f"cannot draw {path}: {error}") from None


def draw_curves(records: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Draw loss and accuracy from the lines of metrics.jsonl.

    Raises:
        CommandError: matplotlib is not installed, or the file cannot be written.
    """
    epochs = [r for r in records if r["kind"] == "epoch"]
    steps = [r for r in records if r["kind"] == "step"]
    figure = _figure(figsize=(10, 4))
    loss, accuracy = figure.subplots(1, 2)
    number = [r["epoch"] for r in epochs]
    per_epoch = epochs[0]["step"] / epochs[0]["epoch"]
    loss.plot([r["step"] / per_epoch for r in steps], [r["loss"] for r in steps], color="C0", alpha=0.3, linewidth=1)
    for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
        # A training figure is the mean over its epoch, so it belongs in the middle of it.
        for k, (split, shift) in enumerate((("train", 0.5), ("test", 0.0))):
            values = [r[f"{split}_{quantity}"] for r in epochs]
            axes.plot([n - shift for n in number], values, marker="o", markersize=4, color=f"C{k}", label=split)
        axes.set(xlabel="epoch", title=quantity, xlim=(0, number[-1] + 0.3))
        axes.grid(alpha=0.3)
    loss.set_yscale("log")
    # 1, 2 and 5 of each power of ten, as plain numbers: more would run into each other.
    loss.yaxis.get_minor_locator().set_params(subs=(2, 5))
    for formatter in (loss.yaxis.set_major_formatter, loss.yaxis.set_minor_formatter):
        formatter(lambda value, _: f"{value:g}")
    best = max(epochs, key=lambda r: r["test_accuracy"])
    accuracy.axhline(best["test_accuracy"], color="C1", linestyle=":", linewidth=1)
    accuracy.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
    accuracy.legend(loc="lower right")
    figure.suptitle(f"{title}: best test accuracy {best['test_accuracy']:.2%} after epoch {best['epoch']}", fontsize=11)
    _save(figure, path)


def draw_predictions(images: Sequence[np.ndarray], titles: Sequence[str], path: Path) -> None:
    """Draw 28x28 images in a grid, each under its prediction.

    Raises:
        CommandError: matplotlib is not installed, or the file cannot be written.
    """
    columns = min(len(images), 8)
    rows = -(-len(images) // columns)
    figure = _figure(figsize=(1.6 * columns + 0.4, 1.9 * rows + 0.2))
    for k, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if k < len(images):
            axes.imshow(images[k], cmap="gray", vmin=0, vmax=255)
            axes.set_title(titles[k], fontsize=9)
    _save(figure, path)
