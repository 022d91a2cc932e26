"""How many threads NumPy's BLAS uses, by the size of a product.

OpenBLAS wakes all its threads for products that take a tenth of a millisecond.  Where
another process wants a core too, they then wait for each other for whole time slices: a
product of 6 million multiplications was measured to take 20 ms instead of 0.2.  Small
products therefore run in the calling thread.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from . import gemm

_SMALL = 1 << 17  # multiplications up to which OpenBLAS itself uses one thread
_LARGE = 1 << 26  # multiplications from which a product is worth several threads


class _Control(NamedTuple):
    get: Callable[[], int]
    set: Callable[[int], None]


@functools.cache
def _control() -> _Control | None:
    """The functions of the OpenBLAS that comes with NumPy; None where NumPy uses something else."""
    package = Path(np.__file__).parent
    folders = (package.parent / "numpy.libs", package / ".dylibs")
    for path in sorted(file for folder in folders for file in folder.glob("*openblas*")):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue
        for name in ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads"):
            if hasattr(library, name.format("set")):
                return _Control(getattr(library, name.format("get")), getattr(library, name.format("set")))
    return None


class _OneThread:
    """A block in which BLAS works in the thread that calls it; several threads may be inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 1

    def __enter__(self) -> None:
        control = _control()
        if control is not None:
            with self._lock:
                self._inside += 1
                if self._inside == 1:
                    self._before = control.get()
                    if self._before > 1:
                        control.set(1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        control = _control()
        if control is not None:
            with self._lock:
                self._inside -= 1
                if self._inside == 0 and self._before > 1:
                    control.set(self._before)


one_thread = _OneThread()


def matmul(xp: Any, a: Any, b: Any) -> Any:
    """``a @ b`` of raw arrays; on the CPU in one thread unless it is large."""
    if xp is not np:
        return gemm.matmul(a, b)
    if b.ndim and _SMALL < a.size * b.shape[-1] < _LARGE:
        with one_thread:
            return np.matmul(a, b)
    return np.matmul(a, b)


def set_threads(count: int) -> None:
    """Let BLAS use ``count`` threads for large products, where that can be set."""
    control = _control()
    if control is not None:
        control.set(count)
