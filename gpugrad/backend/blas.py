"""Matrix products and vector updates through NumPy's BLAS, and how many threads they use.

OpenBLAS wakes all its threads for products that take a tenth of a millisecond.  Where
another process wants a core too, they then wait for each other for whole time slices: a
product of 6 million multiplications was measured to take 20 ms instead of 0.2.  Small
products therefore run in the calling thread.  Larger ones are cut into parts, one for each
thread, and handed to OpenBLAS as a batch, whose bits are the same in any number of threads:
so they can run in one for a while whenever several turn out to be slower.  How a product is
cut follows from its shape and the number of threads to use, never from how busy the machine is.
"""

from __future__ import annotations

import ctypes
import functools
import math
import threading
from collections.abc import Callable
from ctypes import addressof
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from . import cpu, gemm

_SMALL = 1 << 17  # multiplications up to which OpenBLAS itself uses one thread
MIDDLE = 1 << 24  # multiplications from which a product is shared between OpenBLAS's threads
_LARGE = 1 << 26  # multiplications from which OpenBLAS shares what cannot be cut here
_PART = 1 << 21  # multiplications in a part at least; OpenBLAS 0.3.31 crashes in batches of parts below 10**6
_TILE = 16  # rows or columns in the tiles of OpenBLAS's kernels
_ROWS_FIRST, _STRAIGHT, _TURNED = 101, 111, 112  # CBLAS's numbers
_start = ctypes.c_char.from_buffer


class _Library(NamedTuple):
    get_threads: Callable[[], int]
    set_threads: Callable[[int], None]
    integer: type[ctypes.c_int] | type[ctypes.c_int64]
    axpby: dict[str, Callable[..., None]]  # by the character of the dtype
    batch: dict[str, Callable[..., None]]


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
            get, set_ = (
                getattr(library, f"{prefix}openblas_{name}_num_threads{suffix}", None) for name in ("get", "set")
            )
            if get is None or set_ is None:
                continue
            index = ctypes.c_int64 if suffix else ctypes.c_int
            found = _Library(get, set_, index, {}, {})
            for number, letter in ((ctypes.c_float, "s"), (ctypes.c_double, "d")):
                for functions, name, arguments in (
                    (found.axpby, "axpby", [index, number, ctypes.c_void_p, index, number, ctypes.c_void_p, index]),
                    (found.batch, "gemm_batch", [ctypes.c_int, *[ctypes.c_void_p] * 13, index, ctypes.c_void_p]),
                ):
                    function = getattr(library, f"{prefix}cblas_{letter}{name}{suffix}", None)
                    if function is not None:
                        function.argtypes, function.restype = arguments, None
                        functions[np.dtype(number).char] = function
            return found
    return _Library(lambda: 1, lambda count: None, ctypes.c_int, {}, {})


class _OneThread:
    """A block in which BLAS works in the thread that calls it; several threads may be inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 1

    @property
    def others(self) -> int:
        """How many threads BLAS uses outside of such blocks."""
        return self._before if self._inside else _library().get_threads()

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


class _Watch:
    """Runs what OpenBLAS does in several threads; in one while others on the machine make several the slower way."""

    def __init__(self) -> None:
        self._trials = 3
        self._pace = math.inf  # the least number of seconds for a unit of work in one thread
        self._rest = cpu.Rest()

    def run(self, call: Callable[[], None], work: int) -> None:
        """``call()``, which does so much work."""
        begin = perf_counter()
        if self._trials or not self._rest.over(begin):
            with one_thread:
                call()
            self._trials = max(0, self._trials - 1)
            self._pace = min(self._pace, (perf_counter() - begin) / work)
            return
        call()
        took, alone = perf_counter() - begin, self._pace * work
        # One thread may be as slow as this for its own reasons: an awkward shape, a processor that slows down.
        if took > 2 * alone:
            self._rest.lost(begin + took, took - alone)
        else:
            self._rest.won()


_watch = _Watch()

Pair = tuple[int, int]
Layout = tuple[bool, int]
"""Whether a matrix lies column by column, and the elements from one row (or column) to the next."""


def _layout(shape: Pair, strides: Pair, size: int) -> Layout | None:
    """How a matrix with elements of so many bytes lies in memory; None where BLAS cannot read it."""
    (rows, columns), (down, right) = shape, strides
    for turned, near, far, length in ((False, right, down, columns), (True, down, right, rows)):
        if near == size and far >= length * size and far % size == 0:
            return turned, far // size
    return None


def _ranges(size: int, parts: int) -> list[tuple[int, int]]:
    """At most so many equal parts of ``range(size)``, cut at the edges of the kernels' tiles."""
    step = -(-size // (parts * _TILE)) * _TILE
    return [(start, min(size, start + step)) for start in range(0, size, step)]


class _Plan:
    """A product of one shape and layout, cut for several threads: a batch of products for OpenBLAS.

    Args:
        function: OpenBLAS's for batches.
        sizes: rows of the left operand, what is summed over, columns of the right operand.
        dtype: of the elements.
        layouts: of the operands; the result lies row by row.
        cut: the numbers of parts of the rows and of the columns.
    """

    def __init__(
        self,
        function: Callable[..., None],
        sizes: tuple[int, int, int],
        dtype: np.dtype,
        layouts: tuple[Layout, Layout],
        cut: Pair,
    ) -> None:
        rows, inner, columns = sizes
        (a_turned, a_lead), (b_turned, b_lead) = layouts
        parts = [(*row, *column) for row in _ranges(rows, cut[0]) for column in _ranges(columns, cut[1])]
        count, size = len(parts), dtype.itemsize
        number, index = np.ctypeslib.as_ctypes_type(dtype), _library().integer

        def array(kind: Any, *values: Any) -> Any:
            """One value for each part, or the same for all."""
            return (kind * count)(*(values if len(values) == count else values * count))

        self._function = function
        self._work = rows * inner * columns * size
        self._addresses = ctypes.c_void_p * count
        self._offsets = (
            [top * size * (1 if a_turned else a_lead) for top, _, _, _ in parts],
            [left * size * (b_lead if b_turned else 1) for _, _, left, _ in parts],
            [(top * columns + left) * size for top, _, left, _ in parts],
        )
        self._shapes = (
            _ROWS_FIRST,
            *(array(ctypes.c_int, _TURNED if turned else _STRAIGHT) for turned in (a_turned, b_turned)),
            array(index, *[bottom - top for top, bottom, _, _ in parts]),
            array(index, *[right - left for _, _, left, right in parts]),
            array(index, inner),
            array(number, 1),
        )
        self._leads = [array(index, lead) for lead in (a_lead, b_lead, columns)]
        self._zero = array(number, 0)
        self._groups = count, array(index, 1)

    def __call__(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        """``out = a @ b``."""
        x, y, z = (
            self._addresses(*[array.ctypes.data + offset for offset in offsets])
            for array, offsets in zip((a, b, out), self._offsets, strict=True)
        )
        i, j, k = self._leads
        _watch.run(lambda: self._function(*self._shapes, x, i, y, j, self._zero, z, k, *self._groups), self._work)


@functools.lru_cache(maxsize=512)
def _plan(dtype: np.dtype, threads: int, a: tuple[Pair, Pair], b: tuple[Pair, Pair]) -> _Plan | None:
    """How to make the product of operands of such ``(shape, strides)`` in parts; None where it cannot be."""
    function = _library().batch.get(dtype.char)
    (rows, inner), (height, columns) = a[0], b[0]
    parts = min(threads, rows * inner * columns // _PART)
    left, right = _layout(*a, dtype.itemsize), _layout(*b, dtype.itemsize)
    if not function or not left or not right or parts < 2 or min(rows, columns) < _TILE or inner != height:
        return None
    # Each part reads as few rows and columns as can be.
    cuts = [(n, parts // n) for n in range(1, parts + 1) if parts % n == 0]
    cut = min(cuts, key=lambda cut: rows / cut[0] + columns / cut[1])
    return _Plan(function, (rows, inner, columns), dtype, (left, right), cut)


def _few_rows(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether OpenBLAS makes the transpose of ``a @ b`` in less time: up to half where ``b`` lies column by column."""
    return (
        a.ndim == 2 == b.ndim
        and a.dtype == b.dtype == np.float32
        and a.shape[0] <= 64
        and b.shape[0] >= 256
        and b.shape[1] >= 96
        and b.strides[0] == 4
        and a.strides[1] == 4
    )


def matmul(xp: Any, a: Any, b: Any, out: Any = None) -> Any:
    """``a @ b`` of raw arrays, written into ``out``, of the product's shape and dtype, if it is given."""
    if xp is not np:
        return gemm.matmul(a, b, out)
    if not b.ndim or (work := a.size * b.shape[-1]) <= _SMALL:
        return np.matmul(a, b, out)
    if out is None and _few_rows(a, b):
        return np.ascontiguousarray(matmul(xp, b.T, a.T).T)
    if work >= MIDDLE:
        if a.ndim == 2 == b.ndim and a.dtype == b.dtype and a.dtype.isnative:
            plan = _plan(a.dtype, one_thread.others, (a.shape, a.strides), (b.shape, b.strides))
            if plan is not None and (out is None or out.flags.c_contiguous):
                out = np.empty((a.shape[0], b.shape[1]), a.dtype) if out is None else out
                plan(a, b, out)
                return out
        if work >= _LARGE:
            return np.matmul(a, b, out)
    with one_thread:
        return np.matmul(a, b, out)


def shares(dtype: np.dtype) -> bool:
    """Whether large products of this dtype are shared between threads."""
    return one_thread.others > 1 and dtype.char in _library().batch


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
