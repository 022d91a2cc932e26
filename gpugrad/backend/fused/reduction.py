"""Sums, means and extremes of rows and columns: ``kernels/reduce.cu``."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .. import cuda, kernels
from .launch import C_TYPES, THREADS, _power, alignment, are_plain, block_of, run, wide, width


@functools.lru_cache(maxsize=4096)
def _row_parts(rows: int, columns: int, across: int, processors: int) -> tuple[int, int]:
    """The threads that work on a part of a row, and how many elements such a part has.

    A row is cut only if there are too few rows to keep the device busy: into parts of at least four packs a thread.
    """
    group = min(256, _power(-(-columns // (4 * across))))
    if group < 256:
        return max(group, 1), columns
    parts = min(-(-columns // (1024 * across)), max(1, 8 * processors // rows))
    return 256, -(-columns // (parts * across)) * across


def reduce_rows(input: Any, out: Any, combine: str, rows: int, columns: int, factor: float) -> None:
    """Reduce each row of ``columns`` elements, into ``out``."""
    across = width(input.dtype, alignment(input), columns)
    group, part = _row_parts(rows, columns, across, kernels.multiprocessors(cuda.current_device()))
    parts = -(-columns // part)
    kind, result = C_TYPES[input.dtype.name], C_TYPES[out.dtype.name]
    if parts > 1:
        between = cuda.cupy().empty((rows, parts), wide(input.dtype))
        middle = C_TYPES[between.dtype.name]
        sizes = (np.int64(rows), np.int64(columns), np.int64(part), 1.0)
        run(
            "reduce",
            f"reduce_rows<{kind}, {middle}, {combine}, {across}, {group}>",
            rows * parts,
            group,
            input,
            between,
            *sizes,
        )
        reduce_rows(between, out, combine, rows, parts, factor)
        return
    block = block_of(group)
    sizes = (np.int64(rows), np.int64(columns), np.int64(part), float(factor))
    run(
        "reduce",
        f"reduce_rows<{kind}, {result}, {combine}, {across}, {group}>",
        -(-rows // (block // group)),
        block,
        input,
        out,
        *sizes,
    )


@functools.lru_cache(maxsize=4096)
def _column_parts(rows: int, columns: int, across: int, processors: int) -> tuple[int, int, int]:
    """The lanes that share a row, the blocks that share the columns, and those that share the rows.

    Of a few columns a warp takes several rows at a time, so that none of its lanes is idle.
    """
    packs = -(-columns // across)
    lanes = next((n for n in (2, 8) if packs <= n), 32)
    tiles = -(-packs // lanes)
    parts = min(rows * lanes // (8 * THREADS), 4 * processors // tiles, 1024)
    # To put fewer together would take another launch for little.
    return lanes, tiles, parts if parts > 3 else 1


def reduce_columns(input: Any, out: Any, combine: str, rows: int, columns: int, factor: float) -> None:
    """Reduce each of the columns of ``rows`` rows, into ``out``."""
    if columns == 1:
        reduce_rows(input, out, combine, 1, rows, factor)
        return
    across = width(input.dtype, alignment(input), columns)
    processors = kernels.multiprocessors(cuda.current_device())
    lanes, tiles, parts = _column_parts(rows, columns, across, processors)
    into = out if parts == 1 else cuda.cupy().empty((parts, columns), wide(input.dtype))
    types = f"{C_TYPES[input.dtype.name]}, {C_TYPES[into.dtype.name]}, {combine}, {across}, {lanes}"
    kernel = kernels.function("reduce", f"reduce_columns<{types}>")
    sizes = (np.int64(rows), np.int64(columns), float(factor) if parts == 1 else 1.0)
    kernel((tiles, parts), (THREADS,), (input, into, *sizes))
    if parts > 1:
        reduce_columns(into, out, combine, parts, columns, factor)


def _reduced(input: Any, dim: tuple[int, ...], keepdim: bool, combine: str, mean: bool = False) -> Any:
    ndim, count = input.ndim, len(dim)
    if not (input.size and count and are_plain(input.dtype, input)):
        return NotImplemented
    ordered = tuple(sorted(dim))
    last = ordered == tuple(range(ndim - count, ndim))
    if not last and ordered != tuple(range(count)):
        return NotImplemented
    shape = tuple(1 if d in dim else n for d, n in enumerate(input.shape) if keepdim or d not in dim)
    out = cuda.cupy().empty(shape, input.dtype)
    size = math.prod(input.shape[d] for d in dim)
    factor = 1.0 / size if mean else 1.0
    if last:
        reduce_rows(input, out, combine, input.size // size, size, factor)
    else:
        reduce_columns(input, out, combine, size, input.size // size, factor)
    return out


def sum(input: Any, dim: tuple[int, ...], keepdim: bool) -> Any:
    """The sum over the last or the first dimensions."""
    return _reduced(input, dim, keepdim, "Sum")


def mean(input: Any, dim: tuple[int, ...], keepdim: bool) -> Any:
    """The mean over the last or the first dimensions."""
    return _reduced(input, dim, keepdim, "Sum", True)


def amax(input: Any, dim: tuple[int, ...], keepdim: bool) -> Any:
    """The largest elements over the last or the first dimensions."""
    return _reduced(input, dim, keepdim, "Larger")


def amin(input: Any, dim: tuple[int, ...], keepdim: bool) -> Any:
    """The smallest elements over the last or the first dimensions."""
    return _reduced(input, dim, keepdim, "Smaller")
