"""Finds, compiles and launches the CUDA kernels."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import cuda

_THREADS = 256

OPTIONS = ("--std=c++17",)
"""What kernels are compiled with."""

# Kernels that do what other kernels do one after the other: products and sums must round alike.
_CHAINS = ("fused", "dropout")

_INCLUDE = re.compile(r'^#include "([\w./]+)"\n', re.MULTILINE)

# The C++ types of the dtypes that kernels are made for.
C_TYPES = {
    "float16": "__half",
    "bfloat16": "__nv_bfloat16",
    "float32": "float",
    "float64": "double",
    "int8": "signed char",
    "uint8": "unsigned char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint64": "unsigned long long",
    "bool": "bool",
}


@functools.cache
def read(file: str) -> str:
    """The text of a file of ``kernels/``: inside the package when installed, beside it in a checkout.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    package = os.path.dirname(os.path.dirname(__file__))
    for folder in (package, os.path.dirname(package)):
        path = os.path.join(folder, "kernels", file)
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as opened:
                return opened.read()
    raise FileNotFoundError(f"kernels/{file} is neither in the gpugrad package nor beside it: reinstall gpugrad")


def inlined(text: str, file: str) -> str:
    """A source with what it includes in quotes in the place of the line, since CuPy's cache looks at the source alone.

    Args:
        file: what compilers are to call it in their messages.
    """

    def inline(match: re.Match[str]) -> str:
        line = text.count("\n", 0, match.start()) + 2
        return f'#line 1 "{match[1]}"\n{read(match[1])}#line {line} "{file}"\n'

    return f'#line 1 "{file}"\n' + _INCLUDE.sub(inline, text)


@functools.cache
def source(name: str) -> str:
    """The text of ``kernels/<name>.cu``, with what it includes in quotes.

    Raises:
        FileNotFoundError: a file is not there.
    """
    return inlined(read(f"{name}.cu"), f"{name}.cu")


def options(kernel: str) -> tuple[str, ...]:
    """What a kernel is compiled with."""
    return (*OPTIONS, "--fmad=false") if kernel.partition("<")[0] in _CHAINS else OPTIONS


@functools.cache
def _module(code: str, kernel: str) -> Any:
    expressions = (kernel,) if "<" in kernel else None
    return cuda.cupy().RawModule(code=code, options=options(kernel), name_expressions=expressions)


@functools.cache
def _function(device: int, code: str, kernel: str, shared: int) -> Callable[..., None]:
    found = _module(code, kernel).get_function(kernel)
    if shared > 48 << 10:
        found.max_dynamic_shared_size_bytes = shared
    # RawKernel's own call looks all of this up again each time.
    return found.kernel


def compiled(code: str, kernel: str, shared: int = 0) -> Callable[..., None]:
    """A kernel of some source, for the current device; compiled at its first use, as ``function`` says."""
    return _function(cuda.current_device(), code, kernel, shared)


def function(name: str, kernel: str, shared: int = 0) -> Callable[..., None]:
    """A kernel of ``kernels/<name>.cu``, for the current device; compiled at its first use.

    Call it with a grid and a block (tuples of ints), a sequence of arguments (arrays and NumPy scalars of
    exactly the parameters' types) and, if need be, ``shared_mem``, the bytes of dynamic shared memory.

    Args:
        kernel: an ``extern "C"`` name, or an instantiation of a template such as ``"softmax<float, 4>"``.
        shared: the most dynamic shared memory it will be called with.
    """
    return _function(cuda.current_device(), source(name), kernel, shared)


@functools.cache
def multiprocessors(device: int) -> int:
    """How many multiprocessors a CUDA device has."""
    return cuda.cupy().cuda.Device(device).attributes["MultiProcessorCount"]


@functools.lru_cache(maxsize=4096)
def resident(kernel: Any, block: int) -> int:
    """How many blocks of a kernel one multiprocessor of the current device works on at the same time."""
    return max(1, cuda.cupy().cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(kernel.ptr, block, 0))


def launch(name: str, kernel: str, size: int, args: Sequence[Any]) -> None:
    """Run a grid-stride kernel of ``kernels/<name>.cu`` over ``size`` threads' work, on the current device."""
    if size:
        resident = multiprocessors(cuda.current_device()) * (2048 // _THREADS)
        blocks = min(-(-size // _THREADS), resident)
        function(name, kernel)((blocks,), (_THREADS,), tuple(args))


def c_type(dtype: np.dtype) -> str:
    """The C++ type of a dtype's elements."""
    return C_TYPES[dtype.name]
