"""Finds, compiles and launches the CUDA kernels."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from typing import Any

from . import cuda

_THREADS = 256


OPTIONS = ("--std=c++17",)

_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.M)


@functools.cache
def _text(file: str) -> str:
    package = os.path.dirname(os.path.dirname(__file__))
    for folder in (package, os.path.dirname(package)):
        path = os.path.join(folder, "kernels", file)
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as opened:
                return opened.read()
    raise FileNotFoundError(f"kernels/{file} is neither in the gpugrad package nor beside it: reinstall gpugrad")


def with_includes(text: str) -> str:
    """A source with the files of ``kernels/`` that it includes in their place.

    CuPy finds compiled kernels by their text, which is to change when an included file does.
    """
    return _INCLUDE.sub(lambda line: _text(line[1]), text)


def source(name: str) -> str:
    """The text of ``kernels/<name>.cu``: inside the package when installed, beside it in a checkout.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    return with_includes(_text(f"{name}.cu"))


@functools.cache
def module(name: str) -> Any:
    """The kernels of ``kernels/<name>.cu``, compiled at their first use."""
    return cuda.cupy().RawModule(code=source(name), options=OPTIONS)


@functools.cache
def function(name: str, expression: str, device: int) -> Any:
    """One kernel of ``kernels/<name>.cu``, compiled for a device: called with grid, block and arguments.

    Args:
        expression: its name, with template arguments if it has any. Each is compiled by itself, when first used.
    """
    names = (expression,) if "<" in expression else ()
    made = cuda.cupy().RawModule(code=source(name), options=OPTIONS, name_expressions=names)
    return made.get_function(expression).kernel


@functools.cache
def _resident_blocks(device: int) -> int:
    return cuda.cupy().cuda.Device(device).attributes["MultiProcessorCount"] * (2048 // _THREADS)


def launch(name: str, function: str, size: int, args: Sequence[Any]) -> None:
    """Run a grid-stride kernel of ``kernels/<name>.cu`` over ``size`` threads' work, on the current device."""
    if size:
        blocks = min(-(-size // _THREADS), _resident_blocks(cuda.current_device()))
        module(name).get_function(function)((blocks,), (_THREADS,), tuple(args))
