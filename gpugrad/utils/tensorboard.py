"""Event files for TensorBoard, under PyTorch's name; tensorboardX writes them."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

from ..tensor import Tensor


def _plain(value: Any) -> Any:
    """A value with NumPy arrays in the place of tensors."""
    if isinstance(value, Tensor):
        return value.numpy(force=True)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


class SummaryWriter:
    """Writes what a run logs to event files: ``add_scalar(tag, value, step)`` and the others of tensorboardX's writer.

    Args:
        log_dir: the folder; None for a new one in ``runs``.
        comment: the end of that new folder's name.
        purge_step: forget what an earlier run wrote from this step on.
        max_queue, flush_secs: how much, and how long, is kept before it is written.
        filename_suffix: the end of the file's name.

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(
        self,
        log_dir: Any = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: int = 120,
        filename_suffix: str = "",
    ):
        try:
            package = import_module("tensorboardX")
        except ImportError:
            raise ImportError(
                "TensorBoard's event files need tensorboardX: pip install 'gpugrad[tensorboard]'"
            ) from None
        self._writer = package.SummaryWriter(
            log_dir if log_dir is None else str(log_dir),
            comment=comment,
            purge_step=purge_step,
            max_queue=max_queue,
            flush_secs=flush_secs,
            filename_suffix=filename_suffix,
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_writer":
            raise AttributeError(name)
        found = getattr(self._writer, name)
        if not callable(found):
            return found

        @functools.wraps(found)
        def method(*args: Any, **kwargs: Any) -> Any:
            return found(*[_plain(arg) for arg in args], **{name: _plain(value) for name, value in kwargs.items()})

        return method

    def add_graph(self, model: Any, input_to_model: Any = None, verbose: bool = False, **options: Any) -> None:
        """Not to be had: TensorBoard draws PyTorch's own graphs only.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(
            "add_graph draws traced PyTorch modules only; gpugrad.viz.graph draws what was recorded here"
        )

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._writer.close()
