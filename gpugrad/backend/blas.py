"""Matrix products and vector updates through NumPy's BLAS, and how many threads they use.

OpenBLAS wakes all its threads for products that take a tenth of a millisecond.  Where
another process wants a core too, they then wait for each other for whole time slices: a
product of 6 million multiplications was measured to take 20 ms instead of 0.2.  Small
products therefore run in the calling thread, middling ones in halves in threads of our
own, which wait asleep.  How a product is cut follows from its shape alone, since the last
bits of the sums depend on it.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from ctypes import addressof
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from . import cpu, gemm

_SMALL = 1 << 17  # multiplications up to which OpenBLAS itself uses one thread
_MIDDLE = 1 << 24  # multiplications from which a product is worth waking a thread of our own
_WAKING = 1 << 21  # multiplications done while it wakes
_LARGE = 1 << 26  # multiplications from which it is left to OpenBLAS's threads, which share what they pack
_start = ctypes.c_char.from_buffer
_CUT = 16  # rows or columns in the tiles of OpenBLAS's kernels


class _Library(NamedTuple):
    get_threads: Callable[[], int]
    set_threads: Callable[[int], None]
    axpby: dict[str, Callable[..., None]]  # by the character of the dtype


@functools.cache
def _library() -> _Library:
    """What is used of the OpenBLAS that comes with NumPy; stand-ins that do nothing where NumPy uses something else."""
    package = Path(np.__file__).parent
    folders = (package.parent / "numpy.libs", package / ".dylibs")
    for path in sorted(file for folder in folders for file in folder.glob("*openblas*")):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue
        for prefix, suffix in (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")):
            get, set_, *axpby = (
                getattr(library, f"{prefix}{name}{suffix}", None)
                for name in ("openblas_get_num_threads", "openblas_set_num_threads", "cblas_saxpby", "cblas_daxpby")
            )
            if get is None or set_ is None:
                continue
            index = ctypes.c_int64 if suffix else ctypes.c_int
            functions: dict[str, Callable[..., None]] = {}
            for number, function in zip((ctypes.c_float, ctypes.c_double), axpby, strict=True):
                if function is not None:
                    function.argtypes = [index, number, ctypes.c_void_p, index, number, ctypes.c_void_p, index]
                    function.restype = None
                    functions[np.dtype(number).char] = function
            return _Library(get, set_, functions)
    return _Library(lambda: 1, lambda count: None, {})


class _OneThread:
    """A block in which BLAS works in the thread that calls it; several threads may be inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 1

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                library = _library()
                self._before = library.get_threads()
                if self._before > 1:
                    library.set_threads(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._before > 1:
                _library().set_threads(self._before)


one_thread = _OneThread()


def matmul(xp: Any, a: Any, b: Any, out: Any = None) -> Any:
    """``a @ b`` of raw arrays, written into ``out`` if it is given."""
    if xp is not np:
        return gemm.matmul(a, b, out)
    if not b.ndim or not _SMALL < (work := a.size * b.shape[-1]) < _LARGE:
        return np.matmul(a, b, out)
    with one_thread:
        if work < _MIDDLE or a.ndim != 2 or b.ndim != 2 or a.dtype != b.dtype:
            return np.matmul(a, b, out)
        rows, columns = a.shape[0], b.shape[1]
        if out is None:
            out = np.empty((rows, columns), a.dtype)
        head = max(rows, columns) * _WAKING // work
        if rows >= columns:
            cpu.parallel(lambda start, stop: np.matmul(a[start:stop], b, out[start:stop]), rows, _CUT, head, _CUT)
        else:
            cpu.parallel(
                lambda start, stop: np.matmul(a, b[:, start:stop], out[:, start:stop]), columns, _CUT, head, _CUT
            )
        return out


def product(xp: Any, a: Any, b: Any, out: Any = None) -> Any:
    """``xp.matmul`` as it is on the CPU; on a CUDA device by cuBLASLt, which can be captured."""
    return np.matmul(a, b, out) if xp is np else gemm.matmul(a, b, out)


def axpby(xp: Any, alpha: float, x: Any, beta: float, y: Any, scratch: Any) -> None:
    """``y = alpha * x + beta * y`` in place, in one pass over memory where BLAS has one.

    Args:
        xp: the array module.
        alpha, x, beta, y: factors and one-dimensional arrays of one dtype and size.
        scratch: an array like them that may be written to.
    """
    function = _library().axpby.get(y.dtype.char) if xp is np else None
    if function is not None and x.dtype is y.dtype and x.strides == y.strides == (y.itemsize,):
        try:
            function(y.size, alpha, addressof(_start(x)), 1, beta, addressof(_start(y)), 1)
            return
        except (TypeError, ValueError):  # read-only or empty
            pass
    xp.multiply(x, alpha, scratch)
    if beta != 1:
        xp.multiply(y, beta, y)
    xp.add(y, scratch, y)


def set_num_threads(count: int) -> None:
    """Set how many threads share work on the CPU, large matrix products included.

    Raises:
        RuntimeError: ``count`` is not a positive int.
    """
    cpu.set_num_threads(count)
    _library().set_threads(count)
