"""Rows picked by number, and rows that fall on one place combined: ``kernels/index.cu``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import cuda, dtypes, kernels
from .launch import C_TYPES, THREADS, alignment, are_plain, run, run_checked, wide, width

_INDICES = {"int64": "long long", "int32": "int"}
_TYPES = {name: c for name, c in kernels.C_TYPES.items() if name != "uint64"}
_TILE = 2048  # places that a block sorts; TILE in the source
_RUN = 64  # sorted places that a thread goes through; RUN in the source
_MANY = np.int64(64)  # such runs that a thread joins


def _blocks(size: int) -> int:
    return -(-size // THREADS)


def _sorted(places: Any, count: int) -> tuple[Any, Any]:
    """The places in order, and where each of them was."""
    xp, size = cuda.cupy(), np.int64(places.size)
    keys, order, other_keys, other_order = xp.empty((4, places.size), np.uint32)
    kind = _INDICES[places.dtype.name]
    run("index", f"sort_keys<{kind}>", _blocks(places.size), THREADS, places, size, np.int64(count), keys, order)
    tiles = -(-places.size // _TILE)
    counts, totals = xp.empty(256 * tiles, np.uint32), xp.empty(256, np.uint32)
    for shift in range(0, count.bit_length(), 8):
        run("index", "sort_count", tiles, THREADS, keys, size, np.int32(shift), counts)
        run("index", "sort_scan", 256, THREADS, counts, np.int64(tiles), totals)
        sums = np.int32(shift), counts, totals
        run("index", "sort_move", tiles, THREADS, keys, order, size, *sums, other_keys, other_order)
        keys, order, other_keys, other_order = other_keys, other_order, keys, order
    return keys, order


def _combine(how: str, rows: Any, places: Any, out: Any) -> Any:
    """Combine ``rows`` with those of ``out`` at ``places``, in place; negative places count from the end."""
    xp = cuda.cupy()
    count, columns = out.shape
    if not (rows.size and rows.dtype.name in _TYPES and 0 < count < 2**31 and places.size < 2**31 > columns):
        return NotImplemented
    if places.dtype.name not in _INDICES:
        places = places.astype(np.int64)
    keys, order = _sorted(xp.ascontiguousarray(places), count)
    # A copy costs less than atomics, and makes the order that of the rows.
    rows = xp.ascontiguousarray(rows)
    across = width(rows.dtype, alignment(rows, out), columns)
    types = f"{_TYPES[rows.dtype.name]}, {across}, {how}"
    tiles = -(-places.size // _RUN)
    parts = xp.empty(tiles * 2 * columns, wide(rows.dtype) if dtypes.is_floating(rows.dtype) else np.int64)
    grid, size, sizes = _blocks(tiles * columns // across), np.int64(places.size), (np.int64(count), np.uint32(columns))
    run("index", f"combine_tiles<{types}>", grid, THREADS, rows, order, keys, size, parts, out, *sizes)
    step = 1
    while step < tiles:
        run("index", f"join_tiles<{types}>", grid, THREADS, keys, size, parts, out, *sizes, np.int64(step), _MANY)
        step *= int(_MANY)
    return out


def sum_rows(rows: Any, places: Any, count: int) -> Any:
    """Zeros of ``count`` rows with ``rows`` added at ``places``; negative places count from the end."""
    return _combine("Add", rows, places, cuda.cupy().zeros((count, rows.shape[1]), rows.dtype))


def combine_at(input: Any, source: Any, places: Any, how: str) -> Any:
    """A copy of a vector whose elements at ``places`` are combined with those of ``source``, by NumPy's ``how``."""
    out = cuda.cupy().array(input, copy=True, order="C")
    done = _combine(how.title(), source.reshape(-1, 1), places, out.reshape(-1, 1))
    return done if done is NotImplemented else out


def check_range(index: Any, low: int, limit: int, check: cuda.Check, ignored: int | None = None) -> None:
    """Raise ``check`` (see ``run_checked``) if something in ``index`` is neither in [low, limit) nor ``ignored``."""
    if index.dtype.name not in _INDICES:
        index = index.astype(np.int64)
    index = cuda.cupy().ascontiguousarray(index)
    expression = f"check_range<{_INDICES[index.dtype.name]}>"
    numbers = np.int64(index.size), np.int64(low), np.int64(limit), np.int64(low if ignored is None else ignored)
    run_checked(check, "index", expression, _blocks(index.size), THREADS, index, *numbers)


_OUTSIDE: cuda.Check = "index {wrong} is out of bounds for a dimension with size {limit}", IndexError


def ravel_index(*args: Any) -> Any:
    """Places counted through dimensions of the sizes that come last, from those along each; -2**62 for one outside."""
    *parts, sizes = args
    xp, shape = cuda.cupy(), np.broadcast_shapes(*[part.shape for part in parts])
    places = xp.empty(shape, np.int64)
    for k, (part, n) in enumerate(zip(parts, sizes, strict=True) if places.size else ()):
        part = part if part.dtype.name in _INDICES else part.astype(np.int64)
        expression = f"ravel_index<{_INDICES[part.dtype.name]}>"
        part = xp.ascontiguousarray(xp.broadcast_to(part, shape))
        numbers = np.int64(places.size), np.int64(n)
        outputs = places, np.bool_(k == 0)
        run_checked(_OUTSIDE, "index", expression, _blocks(places.size), THREADS, part, *numbers, *outputs)
    return places


def take_rows(array: Any, places: Any, dim: int = 0, check: cuda.Check | None = None) -> Any:
    """The slices along ``dim`` that ``places`` name; where there is none NaN, and ``check`` (``run_checked``)."""
    if not (array.ndim and array.size and places.size and are_plain(array.dtype, array)):
        return NotImplemented
    count, columns = array.shape[dim], math.prod(array.shape[dim + 1 :])
    if places.dtype.name not in _INDICES or not places.flags.c_contiguous or columns >= 2**31:
        return NotImplemented
    across = width(array.dtype, alignment(array), columns)
    out = cuda.cupy().empty((*array.shape[:dim], *places.shape, *array.shape[dim + 1 :]), array.dtype)
    total = out.size // across
    counter = "u32" if total < 2**31 else "i64"
    expression = f"take_rows<{C_TYPES[array.dtype.name]}, {_INDICES[places.dtype.name]}, {counter}, {across}>"
    numbers = np.int64(total), np.int64(places.size), np.int64(count), np.uint32(columns)
    run_checked(check, "index", expression, _blocks(total), THREADS, array, places, out, *numbers)
    return out
