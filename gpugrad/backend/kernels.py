"""Finds, compiles and launches the CUDA kernels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from . import cuda

_THREADS = 256


def source(name: str) -> str:
    """The text of ``kernels/<name>.cu``: inside the package when installed, beside it in a checkout.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    package = files("gpugrad")
    for folder in (package / "kernels", package / ".." / "kernels"):
        if (folder / f"{name}.cu").is_file():
            return (folder / f"{name}.cu").read_text(encoding="utf-8")
    raise FileNotFoundError(f"kernels/{name}.cu is neither in the gpugrad package nor beside it: reinstall gpugrad")


@functools.cache
def module(name: str) -> Any:
    """The kernels of ``kernels/<name>.cu``, compiled at their first use."""
    return cuda.cupy().RawModule(code=source(name), options=("--std=c++17",))


@functools.cache
def _resident_blocks(device: int) -> int:
    return cuda.cupy().cuda.Device(device).attributes["MultiProcessorCount"] * (2048 // _THREADS)


def launch(name: str, function: str, size: int, args: Sequence[Any]) -> None:
    """Run a grid-stride kernel of ``kernels/<name>.cu`` over ``size`` threads' work, on the current device."""
    if size:
        blocks = min(-(-size // _THREADS), _resident_blocks(cuda.current_device()))
        module(name).get_function(function)((blocks,), (_THREADS,), tuple(args))
