"""Convolution over any number of spatial dimensions, as matrix products over unrolled windows.

Three bilinear ops are each other's gradients: ``conv(x, w)``, ``conv_transpose(y, w)``,
its gradient by ``x``, and ``conv_weight(x, y)``, its gradient by ``w``.

Windows are unrolled for a few samples (or rows of one sample) at a time, so that they
stay in cache and need little memory (Chellapilla et al., "High performance convolutional
neural networks for document processing", 2006).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import core
from .core import as_tensors, op, public

Ints = tuple[int, ...]

_BLOCK_BYTES = 1 << 20  # of unrolled windows: half of a core's level-2 cache
_DEVICE_BLOCK_BYTES = 1 << 28
_LONG = 128  # positions from which a sample's own matrix product is worth it


def working_dtype(dtype: Any) -> Any:
    """The dtype to compute in: float32 for the half-precision ones."""
    return np.dtype(np.float32) if dtype.kind not in "iu" and dtype.itemsize < 4 else dtype


def output_size(size: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Ints:
    """How many windows fit along each dimension."""
    each = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in each)


def windows(xp: Any, x: Any, kernel: Ints, out: Ints, stride: Ints, dilation: Ints) -> Any:
    """A view of ``x`` (N, C, *size) as (N, C, *kernel, *out)."""
    outer, inner = x.strides[:2], x.strides[2:]
    steps = tuple(n * d for n, d in zip(inner, dilation, strict=True)) + tuple(
        n * s for n, s in zip(inner, stride, strict=True)
    )
    return xp.lib.stride_tricks.as_strided(x, (*x.shape[:2], *kernel, *out), (*outer, *steps))


def inside(padding: Ints, size: Ints) -> tuple[Any, ...]:
    """The index of the elements in a padded (N, C, *size)."""
    return (slice(None), slice(None), *(slice(p, p + n) for p, n in zip(padding, size, strict=True)))


def _blocks(xp: Any, batch: int, rows: int, row_bytes: int, row_length: int) -> Iterator[tuple[int, int, int, int]]:
    """Parts of the work, as first and last sample and first and last row of windows."""
    budget = _BLOCK_BYTES if xp is np else _DEVICE_BLOCK_BYTES
    samples = max(1, budget // max(1, rows * row_bytes), 2 * _LONG // max(1, rows * row_length))
    some = rows if rows * row_bytes <= 2 * budget else max(1, budget // row_bytes, 2 * _LONG // row_length)
    for start in range(0, batch, samples):
        for first in range(0, rows, some):
            yield start, min(start + samples, batch), first, min(first + some, rows)


def _columns(
    xp: Any, x: Any, kernel: Ints, out: Ints, stride: Ints, padding: Ints, dilation: Ints, by_sample: bool
) -> Iterator[tuple[int, int, slice, Any]]:
    """The windows of ``x`` unrolled, block by block.

    Yields:
        First and last sample, the slice of the window positions, and the windows as
        (N, C, K, positions) with ``by_sample``, else as (C, K, N, positions).  The next block overwrites them.
    """
    batch, channels = x.shape[:2]
    dtype = working_dtype(x.dtype)
    rest = math.prod(out[1:])
    count = math.prod(kernel)
    if by_sample and count == 1 and not any(padding) and out == x.shape[2:] and x.flags.c_contiguous and x.dtype == dtype:
        yield 0, batch, slice(0, out[0] * rest), x.reshape(batch, channels, 1, -1)
        return
    blocks = list(_blocks(xp, batch, out[0], channels * count * rest * dtype.itemsize, rest))
    samples = max((stop - start for start, stop, _, _ in blocks), default=0)
    height = max((last - first for _, _, first, last in blocks), default=0)
    buffer = xp.empty(samples * channels * count * height * rest, dtype)
    padded = None
    if any(padding):
        size = tuple(n + 2 * p for n, p in zip(x.shape[2:], padding, strict=True))
        padded = xp.zeros((samples, channels, *size), x.dtype)
    for start, stop, first, last in blocks:
        n = stop - start
        source = x[start:stop]
        if padded is not None:
            padded[:n][inside(padding, x.shape[2:])] = source
            source = padded[:n]
        here = (last - first, *out[1:])
        view = windows(xp, source[:, :, first * stride[0] :], kernel, here, stride, dilation)
        part = buffer[: n * channels * count * math.prod(here)]
        if by_sample:
            columns = part.reshape(view.shape)
            columns[...] = view
            columns = columns.reshape(n, channels, count, -1)
        else:
            columns = part.reshape(channels, *kernel, n, *here)
            xp.moveaxis(columns, 1 + len(kernel), 0)[...] = view
            columns = columns.reshape(channels, count, n, -1)
        yield start, stop, slice(first * rest, last * rest), columns


def _samples(t: Any) -> list[Any]:
    one = (1,)
    return [
        (t(2, 2, 6), t(3, 2, 3), t(3), one, one, one, 1),
        (t(2, 2, 7), t(2, 2, 2), None, (2,), (1,), (3,), 1),
        (t(2, 2, 4, 5), t(3, 2, 2, 3), t(3), (1, 1), (0, 0), (1, 1), 1),
        (t(1, 4, 5, 4), t(4, 2, 3, 2), t(4), (2, 1), (1, 1), (1, 2), 2),
        (t(2, 3, 3, 4), t(2, 3, 1, 1), t(2), (1, 1), (0, 0), (1, 1), 1),
        (t(1, 2, 3, 3, 4), t(2, 1, 2, 2, 2), t(2), (1, 2, 1), (1, 0, 1), (1, 1, 2), 2),
    ]


@op(
    samples=_samples,
    torch=lambda torch, x, w, b, s, p, d, g: torch.convolution(x, w, b, s, p, d, False, (0,) * len(s), g),
)
def conv(xp, input, weight, bias, /, stride, padding, dilation, groups):
    kernel = tuple(weight.shape[2:])
    out = output_size(input.shape[2:], kernel, stride, padding, dilation)
    batch, channels, length = input.shape[0], weight.shape[0], math.prod(out)
    dtype = working_dtype(input.dtype)
    w = weight.reshape(groups, channels // groups, -1).astype(dtype, copy=False)
    b = None if bias is None else bias.astype(dtype, copy=False).reshape(-1, 1)
    result = xp.empty((batch, channels, length), dtype)
    by_sample = length >= _LONG
    for start, stop, where, columns in _columns(xp, input, kernel, out, stride, padding, dilation, by_sample):
        n = stop - start
        target = result[start:stop, :, where]
        if by_sample:
            grouped = result.reshape(batch, groups, -1, length)[start:stop, :, :, where]
            xp.matmul(w, columns.reshape(n, groups, -1, columns.shape[-1]), out=grouped)
            if b is not None:
                target += b
        else:
            product = xp.matmul(w, columns.reshape(groups, w.shape[2], -1))
            product = product.reshape(channels, n, -1).swapaxes(0, 1)
            if b is None:
                target[...] = product
            else:
                xp.add(product, b, out=target)
    return result.reshape(batch, channels, *out).astype(input.dtype, copy=False)


def _extra(size: Ints, small: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Ints:
    """The output padding with which a transposed convolution leads back to ``size``."""
    each = zip(size, small, kernel, stride, padding, dilation, strict=True)
    return tuple(n - ((m - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, k, s, p, d in each)


def _conv_input(F: Any, g: Any, weight: Any, input_shape: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    extra = _extra(input_shape[2:], g.shape[2:], weight.shape[2:], stride, padding, dilation)
    return F.conv_transpose(g, weight, None, stride, padding, extra, dilation, groups)


def _bias(F: Any, g: Any) -> Any:
    return F.sum_channels(g)


conv.rules(
    input=_conv_input,
    weight=lambda F, g, input, weight_shape, stride, padding, dilation, groups: F.conv_weight(
        input, g, tuple(weight_shape[2:]), stride, padding, dilation, groups
    ),
    bias=_bias,
)


@op(samples=lambda t: [(t(2, 3),), (t(2, 3, 4),), (t(2, 3, 2, 2),)], torch=None)
def sum_channels(xp, input, /):
    # The sum over all dimensions but the second; as a product with ones it is one fast pass.
    batch, channels = input.shape[:2]
    length = math.prod(input.shape[2:])
    dtype = working_dtype(input.dtype)
    rows = input.reshape(batch * channels, length).astype(dtype, copy=False) @ xp.ones(length, dtype)
    return rows.reshape(batch, channels).sum(axis=0).astype(input.dtype, copy=False)


sum_channels.rules(
    input=lambda F, g, input_shape: F.expand(
        F.reshape(g, (g.shape[0],) + (1,) * (len(input_shape) - 2)), tuple(input_shape)
    )
)


def _transpose_samples(t: Any) -> list[Any]:
    return [
        (t(2, 3, 4), t(3, 2, 3), t(2), (2,), (1,), (1,), (1,), 1),
        (t(1, 2, 3, 3), t(2, 3, 2, 2), None, (1, 1), (0, 0), (0, 0), (1, 1), 1),
        (t(1, 3, 3, 2), t(3, 2, 3, 3), t(2), (1, 1), (1, 2), (0, 0), (1, 2), 1),
        (t(1, 4, 3, 2), t(4, 1, 3, 2), t(2), (2, 3), (1, 0), (1, 2), (1, 2), 2),
        (t(1, 2, 2, 2), t(2, 1, 2, 2), None, (1, 1), (0, 0), (1, 1), (2, 2), 1),
        (t(1, 2, 2, 2, 3), t(2, 1, 2, 2, 2), t(2), (2, 1, 2), (1, 0, 0), (0, 0, 1), (1, 1, 2), 2),
    ]


@op(
    samples=_transpose_samples,
    torch=lambda torch, x, w, b, s, p, o, d, g: torch.convolution(x, w, b, s, p, d, True, o, g),
)
def conv_transpose(xp, input, weight, bias, /, stride, padding, output_padding, dilation, groups):
    ins, kernel = weight.shape[0], tuple(weight.shape[2:])
    channels = weight.shape[1] * groups
    if (
        all(s == 1 for s in stride)
        and not any(output_padding)
        and all(p <= d * (k - 1) for p, d, k in zip(padding, dilation, kernel, strict=True))
        and (channels >= ins >= 32 or all(k == 1 for k in kernel))
    ):
        # With unit steps it is a convolution too, and the sums happen inside the matrix product.
        flipped = weight[(..., *(slice(None, None, -1),) * len(kernel))]
        flipped = flipped.reshape(groups, ins // groups, -1, *kernel).swapaxes(1, 2).reshape(channels, -1, *kernel)
        around = tuple(d * (k - 1) - p for p, d, k in zip(padding, dilation, kernel, strict=True))
        return conv.forward(xp, input, flipped, bias, stride, around, dilation, groups)
    return _scattered(xp, input, weight, bias, stride, padding, output_padding, dilation, groups)


def _scattered(
    xp: Any,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Ints,
    padding: Ints,
    output_padding: Ints,
    dilation: Ints,
    groups: int,
) -> Any:
    """The transposed convolution that multiplies first and adds the windows up afterwards.

    An output position ``q * stride + phase`` is kept at ``[phase, q]``.  So each kernel offset
    adds a shifted copy of its product, and with rows of equal length on both sides (the input's
    filled up with zeros) that is one contiguous run per sample and channel.
    """
    ins, kernel = weight.shape[0], tuple(weight.shape[2:])
    channels, batch, small = weight.shape[1] * groups, input.shape[0], tuple(input.shape[2:])
    dtype = working_dtype(input.dtype)
    each = list(zip(small, kernel, stride, padding, output_padding, dilation, strict=True))
    size = tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 + o for n, k, s, p, o, d in each)
    padded = tuple(-(-((n - 1) * s + d * (k - 1) + 1 + max(o, 0)) // s) for n, k, s, p, o, d in each)
    result = xp.empty((batch, channels, *size), dtype)
    b = 0 if bias is None else bias.astype(dtype, copy=False).reshape(-1, *(1,) * len(size))
    w = weight.reshape(groups, ins // groups, -1).swapaxes(1, 2).astype(dtype, copy=False)
    steps = [math.prod(padded[i + 1 :]) for i in range(len(padded))]
    offsets = []
    for index in itertools.product(*map(range, kernel)):
        at = [i * d for i, d in zip(index, dilation, strict=True)]
        phase = tuple(a % s for a, s in zip(at, stride, strict=True))
        offsets.append((phase, sum(a // s * step for a, s, step in zip(at, stride, steps, strict=True))))
    rest, total = steps[0], math.prod(padded)
    row_bytes = channels * len(offsets) * rest * dtype.itemsize
    for start, stop, first, last in _blocks(xp, batch, small[0], row_bytes, rest):
        n = stop - start
        if first == 0:
            sums = xp.zeros((channels, n, *stride, total), dtype)
        filled = xp.zeros((ins, n, last - first, *padded[1:]), dtype)
        filled[(..., *(slice(m) for m in small[1:]))] = input[start:stop, :, first:last].swapaxes(0, 1)
        products = xp.matmul(w, filled.reshape(groups, ins // groups, -1)).reshape(channels, len(offsets), n, -1)
        for k, (phase, shift) in enumerate(offsets):
            run = sums[(slice(None), slice(None), *phase)][..., shift + first * rest : shift + last * rest]
            run += products[:, k, :, : run.shape[-1]]
        if last == small[0]:
            axes = [1, 0]
            for i in range(len(size)):
                axes += [2 + len(size) + i, 2 + i]
            whole = sums.reshape(channels, n, *stride, *padded).transpose(axes)
            whole = whole.reshape(n, channels, *(q * s for q, s in zip(padded, stride, strict=True)))
            xp.add(whole[inside(padding, size)], b, out=result[start:stop])
    return result.astype(input.dtype, copy=False)


def _first(F: Any, value: Any, size: Ints) -> Any:
    """``value`` without what goes beyond ``size`` in its spatial dimensions."""
    if tuple(value.shape[2:]) == tuple(size):
        return value
    return F.getitem(value, (slice(None), slice(None), *(slice(n) for n in size)))


conv_transpose.rules(
    # With an output padding of a stride or more, which dilation allows, further windows fit in.
    input=lambda F, g, weight, input_shape, stride, padding, dilation, groups: _first(
        F, F.conv(g, weight, None, stride, padding, dilation, groups), input_shape[2:]
    ),
    weight=lambda F, g, input, weight_shape, stride, padding, dilation, groups: F.conv_weight(
        g, input, tuple(weight_shape[2:]), stride, padding, dilation, groups
    ),
    bias=_bias,
)


def _weight_samples(t: Any) -> list[Any]:
    return [
        (t(2, 2, 6), t(2, 3, 3), (3,), (2,), (1,), (1,), 1),
        (t(2, 2, 4, 5), t(2, 3, 3, 3), (2, 3), (1, 1), (0, 0), (1, 1), 1),
        (t(1, 4, 5, 4), t(1, 4, 3, 4), (3, 2), (2, 1), (1, 1), (1, 2), 2),
        (t(2, 2, 4), t(2, 1, 2), (2,), (1,), (0,), (1,), 1),
    ]


@op(samples=_weight_samples, torch=None)
def conv_weight(xp, input, other, /, kernel, stride, padding, dilation, groups):
    out = tuple(other.shape[2:])
    channels, dtype = other.shape[1], working_dtype(input.dtype)
    values = other.reshape(*other.shape[:2], -1)
    total = xp.zeros((groups, input.shape[1] // groups * math.prod(kernel), channels // groups), dtype)
    for start, stop, where, columns in _columns(xp, input, kernel, out, stride, padding, dilation, False):
        rows = values[start:stop, :, where].swapaxes(0, 1).reshape(groups, channels // groups, -1)
        total += xp.matmul(columns.reshape(groups, total.shape[1], -1), rows.swapaxes(1, 2).astype(dtype, copy=False))
    return total.swapaxes(1, 2).reshape(channels, -1, *kernel).astype(input.dtype, copy=False)


conv_weight.rules(
    input=lambda F, g, other, input_shape, kernel, stride, padding, dilation, groups: F.conv_transpose(
        other,
        g,
        None,
        stride,
        padding,
        _extra(input_shape[2:], other.shape[2:], kernel, stride, padding, dilation),
        dilation,
        groups,
    ),
    other=lambda F, g, input, other_shape, stride, padding, dilation, groups: _first(
        F, F.conv(input, g, None, stride, padding, dilation, groups), other_shape[2:]
    ),
)
