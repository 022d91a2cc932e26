"""Convolutions as matrix products over unrolled windows, maxima and means of windows: ``kernels/window.cu``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import cuda, gemm, lazy
from .launch import C_TYPES, NULL, THREADS, alignment, are_plain, run, wide, width
from .reduction import reduce_columns, reduce_rows

Ints = tuple[int, ...]

_ROOM = 1 << 28  # bytes of unrolled windows at a time
_MOST = 1 << 31  # elements that a 32-bit number can count
_DIMS = 3


def _axis(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> list[np.int32]:
    """How windows lie along one dimension, as the kernels take it."""
    # Steps that are larger than all else are never made.
    return [np.int32(n) for n in (size, out, kernel, min(stride, _MOST - 1), padding, min(dilation, _MOST - 1))]


class _Windows:
    """How the windows over some spatial dimensions lie, in the kernels' three."""

    def __init__(self, size: Ints, out: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints):
        self.places, self.count, self.offsets = math.prod(size), math.prod(out), math.prod(kernel)
        # Windows of one element, one on each place, are what they are windows of.
        self.trivial = size == out and self.offsets == 1 and not any(padding)
        each = list(zip(size, out, kernel, stride, padding, dilation, strict=True))
        axes = [(1, 1, 1, 1, 0, 1)] * (_DIMS - len(each)) + each
        self.axes = [n for axis in axes for n in _axis(*axis)]

    def unfold(self, x: Any, merged: bool) -> Any:
        """The windows of x (N, C, ...) as (N, C * offsets, windows), or ``merged`` as (C * offsets, N * windows)."""
        batch, channels = x.shape[:2]
        xp, rows = cuda.cupy(), channels * self.offsets
        if self.trivial:
            x = x.reshape(batch, channels, self.count)
            return xp.ascontiguousarray(x.swapaxes(0, 1)).reshape(rows, batch * self.count) if merged else x
        columns = xp.empty((rows, batch * self.count) if merged else (batch, rows, self.count), x.dtype)
        steps = (self.count, batch * self.count) if merged else (rows * self.count, self.count)
        self._run("unfold", x.dtype, batch * channels * self.count, channels, steps, x, columns)
        return columns

    def fold(self, columns: Any, channels: int, bias: Any, out: Any) -> None:
        """Sum windows (N, C * offsets, windows) into ``out`` (N, C, ...); a bias for each channel, unless None, too."""
        steps = (channels * self.offsets * self.count, self.count)
        given = NULL if bias is None else bias
        self._run("fold", columns.dtype, out.size, channels, steps, columns, given, out)

    def _run(self, name: str, dtype: np.dtype, count: int, channels: int, steps: Sequence[int], *arrays: Any) -> None:
        sizes = [np.uint32(n) for n in (count, channels, *steps)]
        run("window", f"{name}<{C_TYPES[dtype.name]}>", -(-count // THREADS), THREADS, *arrays, *sizes, *self.axes)


def _parts(batch: int, elements: int, dtype: np.dtype) -> Iterator[slice]:
    """The samples to work on at a time, when each takes so many elements of unrolled windows."""
    step = max(1, _ROOM // (elements * dtype.itemsize))
    return (slice(start, min(start + step, batch)) for start in range(0, batch, step))


def _are_fit(largest: int, *arrays: Any) -> bool:
    """Whether arrays are of one dtype there are kernels for, not empty, and a sample's elements can be counted."""
    dtype = arrays[0].dtype
    return dtype.name in C_TYPES and all(a.size and a.dtype == dtype for a in arrays) and largest < _MOST


def conv(
    input: Any, weight: Any, bias: Any, out: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Any:
    """The convolution of (N, C, ...) to spatial size ``out``."""
    arrays = (input, weight) if bias is None else (input, weight, bias)
    windows = _Windows(input.shape[2:], out, weight.shape[2:], stride, padding, dilation)
    channels, rows = weight.shape[0], input.shape[1] * windows.offsets
    if not (windows.count and _are_fit(max(rows, channels) * windows.count, *arrays)):
        return NotImplemented
    xp, batch = cuda.cupy(), len(input)
    input, kernels = xp.ascontiguousarray(input), weight.reshape(groups, channels // groups, rows // groups)
    result = xp.empty((batch, channels, *out), input.dtype)
    for part in _parts(batch, rows * windows.count, input.dtype):
        columns = windows.unfold(input[part], False)
        _multiply(kernels, columns, result[part].reshape(-1, channels, windows.count))
    if bias is None:
        return result
    bias = bias.reshape(channels, *(1,) * len(out))
    if lazy.active():
        return lazy.lift(result) + lazy.lift(bias)
    result += bias
    return result


def _multiply(matrices: Any, columns: Any, out: Any) -> None:
    """Multiply each group's matrix, of (groups, n, m), with its part of each sample of (N, groups * m, windows)."""
    groups, rows, inner = matrices.shape
    if groups == 1:
        gemm.matmul(matrices[0], columns, out)
    else:
        parted = columns.reshape(-1, groups, inner, columns.shape[-1])
        gemm.matmul(matrices, parted, out.reshape(-1, groups, rows, columns.shape[-1]))


def conv_transpose(
    input: Any, weight: Any, bias: Any, size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Any:
    """The transposed convolution of (N, C, ...) to spatial size ``size``."""
    arrays = (input, weight) if bias is None else (input, weight, bias)
    windows = _Windows(size, input.shape[2:], weight.shape[2:], stride, padding, dilation)
    ins, channels = weight.shape[0], weight.shape[1] * groups
    rows = channels * windows.offsets
    if not (windows.places and _are_fit(max(rows * windows.count, channels * windows.places), *arrays)):
        return NotImplemented
    xp, batch = cuda.cupy(), len(input)
    matrices = weight.reshape(groups, ins // groups, rows // groups).swapaxes(1, 2)
    values = xp.ascontiguousarray(input).reshape(batch, ins, windows.count)
    result = xp.empty((batch, channels, *size), input.dtype)
    for part in _parts(batch, max(rows * windows.count, channels * windows.places), input.dtype):
        columns = xp.empty((part.stop - part.start, rows, windows.count), input.dtype)
        _multiply(matrices, values[part], columns)
        windows.fold(columns, channels, None if bias is None else xp.ascontiguousarray(bias), result[part])
    return result


def conv_weight(input: Any, other: Any, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Any:
    """The gradient of a convolution by its weight: of (N, C, ...) and the result's gradient (N, channels, ...)."""
    windows = _Windows(input.shape[2:], other.shape[2:], kernel, stride, padding, dilation)
    channels, rows = other.shape[1], input.shape[1] * windows.offsets
    if not _are_fit(max(rows, channels) * windows.count, input, other):
        return NotImplemented
    xp, batch = cuda.cupy(), len(input)
    input = xp.ascontiguousarray(input)
    total: Any = None
    for part in _parts(batch, rows * windows.count, input.dtype):
        length = (part.stop - part.start) * windows.count
        columns = windows.unfold(input[part], True).reshape(groups, rows // groups, length)
        values = xp.ascontiguousarray(other[part].reshape(-1, channels, windows.count).swapaxes(0, 1))
        product = gemm.matmul(values.reshape(groups, channels // groups, length), columns.swapaxes(1, 2))
        if total is None:
            total = product
        else:
            total = total.astype(wide(total.dtype), copy=False)
            total += product
    return total.reshape(channels, input.shape[1] // groups, *kernel).astype(input.dtype, copy=False)


def sum_channels(input: Any) -> Any:
    """The sum of (N, C, ...) over all dimensions but the second."""
    if not (input.size and are_plain(input.dtype, input)):
        return NotImplemented
    batch, channels = input.shape[:2]
    between = cuda.cupy().empty((batch, channels), wide(input.dtype))
    out = cuda.cupy().empty(channels, input.dtype)
    reduce_rows(input, between, "Sum", batch * channels, input.size // between.size, 1.0)
    reduce_columns(between, out, "Sum", batch, channels, 1.0)
    return out


def _lines(name: str, input: Any, others: Sequence[Any], outs: Sequence[Any], dim: int, axis: Sequence[int]) -> None:
    """Run a kernel over the lines along a dimension."""
    after = math.prod(input.shape[dim + 1 :])
    sizes = (np.int64(outs[0].size), np.uint32(after), *_axis(*axis))
    grid = -(-outs[0].size // THREADS)
    run("window", f"{name}<{C_TYPES[input.dtype.name]}>", grid, THREADS, input, *others, *outs, *sizes)


def max_along(
    input: Any,
    dim: int,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    size: int,
    indices: bool,
    recording: bool,
) -> Any:
    """The maxima of ``size`` windows along a dimension, and the offset of each in its window or None."""
    if input.dtype.name not in C_TYPES or not input.size or not size or kernel > 255 or input.shape[dim] >= _MOST:
        return NotImplemented
    xp = cuda.cupy()
    shape = (*input.shape[:dim], size, *input.shape[dim + 1 :])
    out = xp.empty(shape, input.dtype)
    winners = xp.empty(shape, np.uint8) if indices or recording else None
    axis = (input.shape[dim], size, kernel, stride, padding, dilation)
    outs = (out, NULL if winners is None else winners)
    _lines("maxima", xp.ascontiguousarray(input), (), outs, dim, axis)
    return out, winners


def unpool_along(
    input: Any, winners: Any, dim: int, length: int, kernel: int, stride: int, padding: int, dilation: int
) -> Any:
    """Each element added to the place, of ``length`` along a dimension, that won in its window."""
    if input.dtype.name not in C_TYPES or not input.size or winners.dtype != np.uint8 or input.shape[dim] >= _MOST:
        return NotImplemented
    xp = cuda.cupy()
    out = xp.empty((*input.shape[:dim], length, *input.shape[dim + 1 :]), input.dtype)
    axis = (length, input.shape[dim], kernel, stride, padding, dilation)
    _lines("maxima_slope", xp.ascontiguousarray(input), (xp.ascontiguousarray(winners),), (out,), dim, axis)
    return out


class _Means:
    """How windows over the last dimensions, of ``size`` and so many of ``out``, are divided."""

    def __init__(
        self, size: Ints, out: Ints, kernel: Ints, stride: Ints, padding: Ints, include_pad: bool, by: float | None
    ):
        self.windows = _Windows(size, out, kernel, stride, padding, (1,) * len(kernel))
        self.largest = max(self.windows.places, self.windows.count) + max(kernel)
        self.include_pad = include_pad
        inside = all(
            not p and (o - 1) * s + k <= n for n, o, k, s, p in zip(size, out, kernel, stride, padding, strict=True)
        )
        # Where windows differ in size each is divided by its own, for which 0 stands.
        self.scale = 1.0 / by if by is not None else 1.0 / math.prod(kernel) if inside else 0.0
        self.is_one = inside and kernel == size

    def run(self, name: str, kind: str, across: int, inner: int, input: Any, out: Any) -> None:
        """Make ``out``, of so many elements in a plane, so many neighbours by each thread."""
        planes = out.size // inner
        input, out = input.reshape(planes, -1), out.reshape(planes, -1)
        step = (_MOST - 1) // inner
        options = (wide(out.dtype).type(self.scale), np.bool_(self.include_pad), *self.windows.axes)
        for start in range(0, planes, step):
            part = out[start : start + step]
            grid = -(-part.size // (across * THREADS))
            run(
                "window",
                f"{name}<{kind}>",
                grid,
                THREADS,
                input[start : start + step],
                part,
                np.uint32(part.size),
                *options,
            )


def avg_pool(input: Any, kernel: Ints, stride: Ints, padding: Ints, out: Ints, include_pad: bool, divisor: Any) -> Any:
    """The means of windows over the last dimensions."""
    dims = len(kernel)
    means = _Means(input.shape[-dims:], out, kernel, stride, padding, include_pad, divisor)
    if not (means.windows.count and _are_fit(means.largest, input)):
        return NotImplemented
    input = cuda.cupy().ascontiguousarray(input)
    result = cuda.cupy().empty((*input.shape[:-dims], *out), input.dtype)
    if means.is_one:
        reduce_rows(input, result, "Sum", result.size, means.windows.places, means.scale)
    else:
        means.run("averages", C_TYPES[input.dtype.name], 1, means.windows.count, input, result)
    return result


def avg_unpool(
    input: Any, size: Ints, kernel: Ints, stride: Ints, padding: Ints, include_pad: bool, divisor: Any
) -> Any:
    """Each element shared out over its window: the gradient of the means."""
    dims = len(kernel)
    means = _Means(size, input.shape[-dims:], kernel, stride, padding, include_pad, divisor)
    if not (means.windows.places and _are_fit(means.largest, input)):
        return NotImplemented
    input = cuda.cupy().ascontiguousarray(input)
    result = cuda.cupy().empty((*input.shape[:-dims], *size), input.dtype)
    across = width(input.dtype, alignment(result), size[-1])
    means.run("averages_slope", f"{C_TYPES[input.dtype.name]}, {across}", across, means.windows.places, input, result)
    return result
