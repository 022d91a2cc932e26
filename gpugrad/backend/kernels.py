"""Finds, compiles and launches the CUDA kernels."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

from . import cuda

_THREADS = 256


def source(name: str) -> str:
    """The text of ``kernels/<name>.cu``: inside the package when installed, beside it in a checkout.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    package = os.path.dirname(os.path.dirname(__file__))
    for folder in (package, os.path.dirname(package)):
        path = os.path.join(folder, "kernels", f"{name}.cu")
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                return file.read()
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
