"""Rows picked by number, and sums of the rows that fall on one place: ``kernels/index.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import cuda
from .launch import C_TYPES, THREADS, alignment, are_plain, run, width

_INDICES = {"int64": "long long", "int32": "int"}
_TILE = 2048  # places that a block sorts; TILE in the source


def _blocks(size: int) -> int:
    return -(-size // THREADS)


def _sorted(places: Any, count: int) -> tuple[Any, Any]:
    """The places in order, and where each of them was."""
    xp, size = cuda.cupy(), np.int64(places.size)
    keys, order, other_keys, other_order = xp.empty((4, places.size), np.uint32)
    kind = _INDICES[places.dtype.name]
    run("index", f"sort_keys<{kind}>", _blocks(places.size), THREADS, places, size, np.int64(count), keys, order)
    tiles = -(-places.size // _TILE)
    counts = xp.empty(256 * tiles, np.uint32)
    for shift in range(0, count.bit_length(), 8):
        run("index", "sort_count", tiles, THREADS, keys, size, np.int32(shift), counts)
        run("index", "sort_scan", 1, 1024, counts, np.int64(counts.size))
        run("index", "sort_move", tiles, THREADS, keys, order, size, np.int32(shift), counts, other_keys, other_order)
        keys, order, other_keys, other_order = other_keys, other_order, keys, order
    return keys, order


def sum_rows(rows: Any, places: Any, count: int) -> Any:
    """Zeros of ``count`` rows with ``rows`` added at ``places``; negative places count from the end."""
    if not (rows.size and rows.dtype.name in C_TYPES and places.dtype.name in _INDICES and 0 < count < 2**31):
        return NotImplemented
    if rows.shape[1] >= 2**31 or places.size >= 2**31:
        return NotImplemented
    xp = cuda.cupy()
    # A copy costs less than atomics, and makes the order that of the rows.
    rows, places = xp.ascontiguousarray(rows), xp.ascontiguousarray(places)
    keys, order = _sorted(places, count)
    starts, stops = xp.zeros((2, count), np.uint32)
    run("index", "segments", _blocks(places.size), THREADS, keys, np.int64(places.size), np.int64(count), starts, stops)
    columns = rows.shape[1]
    across = width(rows.dtype, alignment(rows), columns)
    out = xp.empty((count, columns), rows.dtype)
    expression = f"sum_segments<{C_TYPES[rows.dtype.name]}, {across}>"
    run(
        "index",
        expression,
        _blocks(out.size // across),
        THREADS,
        rows,
        order,
        starts,
        stops,
        out,
        np.int64(count),
        np.uint32(columns),
    )
    return out


def take_rows(weight: Any, places: Any) -> Any:
    """The rows of a matrix that ``places`` name; NaN for one there is none of."""
    if not (weight.ndim == 2 and weight.size and places.size and are_plain(weight.dtype, weight)):
        return NotImplemented
    if places.dtype.name not in _INDICES or not places.flags.c_contiguous or weight.shape[1] >= 2**31:
        return NotImplemented
    count, columns = weight.shape
    across = width(weight.dtype, alignment(weight), columns)
    out = cuda.cupy().empty((*places.shape, columns), weight.dtype)
    expression = f"take_rows<{C_TYPES[weight.dtype.name]}, {_INDICES[places.dtype.name]}, {across}>"
    run(
        "index",
        expression,
        _blocks(out.size // across),
        THREADS,
        weight,
        places,
        out,
        np.int64(places.size),
        np.int64(count),
        np.uint32(columns),
    )
    return out
