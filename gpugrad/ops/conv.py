"""Convolution over any number of spatial dimensions, as matrix products over unrolled windows.

Three bilinear ops are each other's gradients: ``conv(x, w)``, ``conv_transpose(y, w)``,
its gradient by ``x``, and ``conv_weight(x, y)``, its gradient by ``w``.

Windows are unrolled for a few samples (or rows of one sample) at a time, so that they
stay in cache and need little memory (Chellapilla et al., "High performance convolutional
neural networks for document processing", 2006).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..backend import blas, cpu, fused
from . import banded, core
from .core import as_tensors, op
from .windows import Ints, named, output_size, reach, spatial, working_dtype

_BLOCK_BYTES = 1 << 20  # of unrolled windows: half of a core's level-2 cache
_DEVICE_BLOCK_BYTES = 1 << 28
_WORTHWHILE = 1 << 20  # products that make up for handing them to another thread
_PRODUCT, _ELEMENT, _RUN, _SHORT_SUM = 0.03, 0.35, 12.0, 22.0
"""Nanoseconds for a multiplication, for an addition in a long run, to copy a short run and to add one to another."""
_LONG = 64  # positions from which a sample's own matrix product is worth it


def _blocks(xp: Any, batch: int, rows: int, row_bytes: int, row_length: int) -> Iterator[tuple[int, int, int, int]]:
    """Parts of the work, as first and last sample and first and last row of windows."""
    budget = _BLOCK_BYTES if xp is np else _DEVICE_BLOCK_BYTES
    samples = max(1, budget // max(1, rows * row_bytes), 4 * _LONG // max(1, rows * row_length))
    some = rows if rows * row_bytes <= 2 * budget else max(1, budget // row_bytes, 4 * _LONG // row_length)
    for start in range(0, batch, samples):
        for first in range(0, rows, some):
            yield start, min(start + samples, batch), first, min(first + some, rows)


def _columns(
    xp: Any, x: Any, kernel: Ints, out: Ints, stride: Ints, padding: Ints, dilation: Ints, by_sample: bool
) -> Iterator[tuple[int, int, slice, Any]]:
    """The windows of ``x`` unrolled, block by block.

    First along the last dimension, then the result along the others: only the first of
    the two copies has to be made in runs as short as a row.

    Yields:
        First and last sample, the slice of the window positions, and the windows as
        (N, C, K, positions) with ``by_sample``, else as (C, K, N, positions).  The next block overwrites them.
    """
    if len(kernel) == 1:
        x = x[:, :, None]
        kernel, out, stride, padding, dilation = (1, *kernel), (1, *out), (1, *stride), (0, *padding), (1, *dilation)
    (batch, channels), size = x.shape[:2], tuple(x.shape[2:])
    dtype = working_dtype(x.dtype)
    rest, count = math.prod(out[1:]), math.prod(kernel)
    if count == 1 and by_sample and out == size and not any(padding) and x.flags.c_contiguous and x.dtype == dtype:
        yield 0, batch, slice(0, out[0] * rest), x.reshape(batch, channels, 1, math.prod(out))
        return
    blocks = list(_blocks(xp, batch, out[0], channels * count * rest * dtype.itemsize, rest))
    samples = max((stop - start for start, stop, _, _ in blocks), default=0)
    height = max((last - first for _, _, first, last in blocks), default=0)
    whole = tuple(n + 2 * p for n, p in zip(size[:-1], padding, strict=False))

    def layout(n: int, *dims: int, spatial: int = len(kernel)) -> Ints:
        """The shape that holds ``n`` samples of ``dims``, of which the last ``spatial`` are positions."""
        if by_sample:
            return (n, channels, *dims)
        return (channels, *dims[:-spatial], n, *dims[-spatial:])

    def first_sample(array: Any) -> Any:
        return array if by_sample else xp.moveaxis(array, -1 - len(kernel), 0)

    make = xp.zeros if any(padding) else xp.empty
    rows = first_sample(make(layout(samples, kernel[-1], *whole, out[-1]), dtype))
    buffer = xp.empty(samples * channels * count * height * rest, dtype)
    interior = tuple(slice(p, p + n) for n, p in zip(size[:-1], padding, strict=False))

    @functools.cache
    def views(n: int, first: int, last: int) -> tuple[Any, Any, Any]:
        """The windows of a block in ``rows``, where they go in ``buffer``, and that as it is handed out."""
        part = rows[:n, :, :, first * stride[0] :]
        here = (last - first, *out[1:])
        outer, steps = part.strides[:2], part.strides[3:-1]
        strides = (
            *outer,
            *(a * d for a, d in zip(steps, dilation, strict=False)),
            part.strides[2],
            *(a * s for a, s in zip(steps, stride, strict=False)),
            part.strides[-1],
        )
        shape = layout(n, *kernel, *here)
        columns = buffer[: math.prod(shape)].reshape(shape)
        windows = xp.lib.stride_tricks.as_strided(part, (n, channels, *kernel, *here), strides)
        handed = columns.reshape(layout(n, count, (last - first) * rest, spatial=1))
        return windows, first_sample(columns), handed

    for start, stop, first, last in blocks:
        if first == 0 and not padding[-1]:
            part = x[start:stop]
            strides = (*part.strides[:2], part.strides[-1] * dilation[-1], *part.strides[2:-1])
            strides = (*strides, part.strides[-1] * stride[-1])
            windows = xp.lib.stride_tricks.as_strided(part, (*part.shape[:2], kernel[-1], *size[:-1], out[-1]), strides)
            rows[(slice(stop - start), slice(None), slice(None), *interior)] = windows
        elif first == 0:
            for j in range(kernel[-1]):
                to, of = reach(size[-1], out[-1], j * dilation[-1] - padding[-1], stride[-1])
                rows[(slice(stop - start), slice(None), j, *interior, to)] = x[start:stop, ..., of]
        windows, target, columns = views(stop - start, first, last)
        target[...] = windows
        yield start, stop, slice(first * rest, last * rest), columns


def _share(xp: Any, part: Callable[[int, int], None], batch: int, products: int) -> None:
    """Work on parts of the batch, on the CPU side by side; a sample takes so many ``products``."""
    if xp is np:
        with blas.one_thread:
            cpu.parallel(part, batch, max(1, _WORTHWHILE // max(1, products)))
    else:
        part(0, batch)


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
    tests={"empty": (0, 2)},
)
def conv(xp, input, weight, bias, /, stride, padding, dilation, groups):
    kernel = tuple(weight.shape[2:])
    out = output_size(input.shape[2:], kernel, stride, padding, dilation)
    batch, channels, length = input.shape[0], weight.shape[0], math.prod(out)
    dtype = working_dtype(input.dtype)
    depth = math.prod(weight.shape[1:])
    b = None if bias is None else bias.astype(dtype, copy=False).reshape(-1, 1)
    if banded.suits(xp, input, input.shape, channels, kernel, out, groups) and banded.finite(input):
        bands = banded.Bands(input.shape[2:], kernel, out, stride, padding, dilation)
        result = bands.forward(input, weight).reshape(batch, channels, length)
        if b is not None:
            result += b
        return result.reshape(batch, channels, *out)
    w = weight.reshape(groups, channels // groups, depth).astype(dtype, copy=False)
    result = xp.empty((batch, channels, length), dtype)
    by_sample = length >= _LONG

    def part(low: int, high: int) -> None:
        some, x = result[low:high], input[low:high]
        for start, stop, where, columns in _columns(xp, x, kernel, out, stride, padding, dilation, by_sample):
            n = stop - start
            target = some[start:stop, :, where]
            if by_sample:
                grouped = some.reshape(-1, groups, channels // groups, length)[start:stop, :, :, where]
                blas.product(xp, w, columns.reshape(n, groups, depth, columns.shape[-1]), out=grouped)
                if b is not None:
                    target += b
            else:
                product = blas.product(xp, w, columns.reshape(groups, depth, n * columns.shape[-1]))
                product = product.reshape(channels, n, columns.shape[-1]).swapaxes(0, 1)
                if b is None:
                    target[...] = product
                else:
                    xp.add(product, b, out=target)

    _share(xp, part, batch, channels * depth * length)
    return result.reshape(batch, channels, *out).astype(input.dtype, copy=False)


@conv.kernel
def _conv_kernel(input: Any, weight: Any, bias: Any, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Any:
    out = output_size(input.shape[2:], tuple(weight.shape[2:]), stride, padding, dilation)
    return fused.window.conv(input, weight, bias, out, stride, padding, dilation, groups)


def _extra(size: Ints, small: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Ints:
    """The output padding with which a transposed convolution leads back to ``size``."""
    each = zip(size, small, kernel, stride, padding, dilation, strict=True)
    return tuple(n - ((m - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, k, s, p, d in each)


def _conv_input(
    F: Any, g: Any, weight: Any, input_shape: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
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
    rows = blas.matmul(
        xp, input.reshape(batch * channels, length).astype(dtype, copy=False), xp.ones((length, 1), dtype)
    )
    return rows.reshape(batch, channels).sum(axis=0).astype(input.dtype, copy=False)


sum_channels.kernel(fused.window.sum_channels)
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
    # Kernel offsets along all dimensions but the last are summed inside a matrix product.  For that the input is
    # unrolled along them, once for each residue of the output position by the stride: each meets its own offsets.
    if len(stride) == 1:
        settings = (1, *stride), (0, *padding), (0, *output_padding), (1, *dilation)
        return conv_transpose.forward(xp, input[:, :, None], weight[:, :, None], bias, *settings, groups)[:, :, 0]
    ins, kernel = weight.shape[0], tuple(weight.shape[2:])
    channels, lead = weight.shape[1] * groups, len(kernel) - 1
    size = _transposed_size(input.shape[2:], kernel, stride, padding, output_padding, dilation)
    if math.prod(kernel) == 1 and size == tuple(input.shape[2:]) and not any(padding):
        turned = weight.reshape(groups, ins // groups, weight.shape[1]).swapaxes(1, 2)
        turned = turned.reshape(channels, ins // groups, *kernel)
        return conv.forward(xp, input, turned, bias, stride, padding, dilation, groups)
    dtype = working_dtype(input.dtype)
    shape = (input.shape[0], channels, *size)
    if banded.suits(xp, input, shape, ins, kernel, input.shape[2:], groups) and banded.finite(input):
        bands = banded.Bands(size, kernel, input.shape[2:], stride, padding, dilation)
        result = bands.transpose(input, weight)
        return result if bias is None else result + bias.reshape(-1, *(1,) * len(size))
    result = xp.zeros(shape, dtype)
    last = (stride[-1], padding[-1], dilation[-1])
    for residue in itertools.product(*(range(min(s, n)) for s, n in zip(stride[:lead], size, strict=False))):
        shifts: list[list[int]] = []
        chosen: list[list[int]] = []
        for i, r in enumerate(residue):
            offsets = [k * dilation[i] - padding[i] - r for k in range(kernel[i])]
            chosen.append([k for k, offset in enumerate(offsets) if offset % stride[i] == 0])
            shifts.append([offset // stride[i] for offset in offsets if offset % stride[i] == 0])
        if all(chosen):
            whole = math.prod(map(len, chosen)) == math.prod(kernel[:lead])
            part = weight if whole else weight[(slice(None), slice(None), *np.ix_(*chosen))]
            part = part.astype(dtype, copy=False)
            rows = tuple(slice(r, None, s) for r, s in zip(residue, stride, strict=False))
            target = result[(slice(None), slice(None), *rows)]

            def write(
                low: int, high: int, part: Any = part, target: Any = target, shifts: list[list[int]] = shifts
            ) -> None:
                _write_products(xp, input[low:high], part, target[low:high], shifts, last, groups)

            _share(xp, write, input.shape[0], part.size * math.prod(input.shape[2:]))
    if bias is not None:
        result += bias.astype(dtype, copy=False).reshape(-1, *(1,) * len(size))
    return result.astype(input.dtype, copy=False)


def _transposed_size(size: Ints, kernel: Ints, stride: Ints, padding: Ints, more: Ints, dilation: Ints) -> Ints:
    each = zip(size, kernel, stride, padding, more, dilation, strict=True)
    return tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 + o for n, k, s, p, o, d in each)


@conv_transpose.kernel
def _conv_transpose_kernel(
    input: Any,
    weight: Any,
    bias: Any,
    stride: Ints,
    padding: Ints,
    output_padding: Ints,
    dilation: Ints,
    groups: int,
) -> Any:
    size = _transposed_size(input.shape[2:], tuple(weight.shape[2:]), stride, padding, output_padding, dilation)
    return fused.window.conv_transpose(input, weight, bias, size, stride, padding, dilation, groups)


def _write_products(
    xp: Any, input: Any, weight: Any, result: Any, shifts: list[list[int]], settings: Ints, groups: int
) -> None:
    """Write to ``result`` the products of ``weight`` with ``input``, shifted along all dimensions but the last.

    Along the last one the products with each element of the kernel are shifted and added here.  Where that takes
    longer than more products, the rows end in so many zeros that nothing is shifted into the next row: then all rows
    of a sample are added in one run.  A weight that is not finite would make other values of the zeros.
    """
    (ins, per_group), width, dtype = weight.shape[:2], weight.shape[-1], result.dtype
    channels, count = per_group * groups, math.prod(weight.shape[2:-1])
    small, rows = input.shape[2:], result.shape[2:-1]
    stride, padding, dilation = settings
    w = weight.reshape(groups, ins // groups, per_group, count, width).transpose(0, 2, 4, 1, 3)
    w = w.reshape(groups, per_group * width, ins // groups * count)
    # The elements of the kernel that lead to each residue of the position by the stride, and how far they shift.
    moves: dict[int, list[tuple[int, int]]] = {}
    for j in range(width):
        shift, residue = divmod(j * dilation - padding, stride)
        moves.setdefault(residue, []).append((j, shift))
    sums = list(moves.items())
    zeros = max(steps[-1][1] - steps[0][1] for steps in moves.values())
    row = small[-1] + zeros
    more = _PRODUCT * (ins // groups * count * zeros) + _ELEMENT * row + _RUN * ins / max(1, channels * width)
    if more > _SHORT_SUM or (xp is np and not banded.finite(weight)):
        row = small[-1]
        sums = [(residue, [step]) for residue, steps in sums for step in steps]
    length = math.prod(rows[1:]) * row
    by_sample = rows[0] * length >= _LONG
    row_bytes = (ins * count + channels * width) * length * dtype.itemsize
    columns: Any = None
    before = (0, 0, 0)
    buffer = xp.empty(0, dtype)  # the products
    for start, stop, first, last in _blocks(xp, input.shape[0], rows[0], row_bytes, length):
        n, here = stop - start, (last - first, *rows[1:])
        if before != (n, first, last):  # else the same elements stay zero
            order = (n, ins, count) if by_sample else (ins, count, n)
            columns, before = xp.zeros((*order, *here, row), dtype), (n, first, last)
            spread = columns if by_sample else xp.moveaxis(columns, 2, 0)
            padded = xp.zeros((n, ins, *small[:-1], row), dtype)
        if row == small[-1]:
            padded = input[start:stop]
        else:
            padded[..., : small[-1]] = input[start:stop]
        for k, offsets in enumerate(itertools.product(*shifts)):
            to: list[slice] = []
            of: list[slice] = []
            for i, moved in enumerate(offsets):
                windows, elements = reach(small[i], here[i], (first if i == 0 else 0) - moved, 1)
                to.append(windows)
                of.append(elements)
            spread[(slice(None), slice(None), k, *to)] = padded[(slice(None), slice(None), *of)]
        run = math.prod(here) * row * (1 if by_sample else n)
        taken = channels * width * run * (n if by_sample else 1)
        if buffer.size < taken + width * run:
            buffer = xp.empty(taken + width * run, dtype)
        each = (n, groups) if by_sample else (groups,)
        products = buffer[:taken].reshape(*each, per_group * width, run)
        blas.product(xp, w, columns.reshape(*each, ins // groups * count, run), out=products)
        written = None
        for residue, steps in sums:
            least = steps[0][1]
            # Before a run lie the zeros that another one ends in; whole runs are added faster than parts of them.
            starts = [j * run - (shift - least) for j, shift in steps]
            total, *others = [buffer[at : at + taken].reshape(-1, width, run)[:, 0] for at in starts]
            total = total.copy() if others else total
            for other in others:
                total += other
            total = total.reshape(*((n, channels) if by_sample else (channels, n)), *here, row)
            total = total if by_sample else total.swapaxes(0, 1)
            target = result[start:stop, :, first:last]
            positions, elements = reach(target.shape[-1], row, least * stride + residue, stride)
            if residue == written:
                target[..., elements] += total[..., positions]
            else:  # the first to write to its positions
                target[..., elements] = total[..., positions]
            written = residue


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


# Emptied in another dimension, the input would no longer have the windows that ``other`` says.
@op(samples=_weight_samples, torch=None, tests={"empty": (0, 1)})
def conv_weight(xp, input, other, /, kernel, stride, padding, dilation, groups):
    (batch, channels), out = other.shape[:2], tuple(other.shape[2:])
    per_group, dtype = channels // groups, working_dtype(input.dtype)
    if banded.suits(xp, input, input.shape, channels, kernel, out, groups):
        return banded.Bands(input.shape[2:], kernel, out, stride, padding, dilation).weight(input, other)
    length, depth = math.prod(out), input.shape[1] // groups * math.prod(kernel)
    values = other.reshape(batch, channels, length).astype(dtype, copy=False)
    totals: dict[int, Any] = {}
    # Products of single samples take no room to speak of as long as they are smaller than the windows.
    by_sample = length >= max(2 * _LONG, per_group)

    def part(low: int, high: int) -> None:
        some, x = values[low:high], input[low:high]
        total = totals[low] = xp.zeros((groups, depth, per_group), dtype)
        for start, stop, where, columns in _columns(xp, x, kernel, out, stride, padding, dilation, by_sample):
            n, count = stop - start, where.stop - where.start
            chosen = some[start:stop, :, where]
            if by_sample:
                chosen = chosen.reshape(n, groups, per_group, count).swapaxes(2, 3)
                total += blas.product(xp, columns.reshape(n, groups, depth, count), chosen).sum(axis=0)
            else:
                chosen = chosen.swapaxes(0, 1).reshape(groups, per_group, n * count).swapaxes(1, 2)
                total += blas.product(xp, columns.reshape(groups, depth, n * count), chosen)

    _share(xp, part, batch, channels * depth * length)
    total = sum(totals[low] for low in sorted(totals))
    shape = (channels, input.shape[1] // groups, *kernel)
    return total.swapaxes(1, 2).reshape(shape).astype(input.dtype, copy=False)


conv_weight.kernel(fused.window.conv_weight)
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


def _positive(name: str, **settings: Ints) -> None:
    for label, values in settings.items():
        if min(values) <= 0:
            raise RuntimeError(f"{name}: non-positive {label} is not supported, got {label}={list(values)}")


def _checked(
    name: str, dims: int, input: Any, weight: Any, bias: Any, groups: int, transposed: bool
) -> tuple[Any, Any, Any]:
    """The operands of a convolution as tensors that fit each other.

    Raises:
        RuntimeError: they do not.
        NotImplementedError: they are bool tensors.
    """
    input, weight, bias = as_tensors(name, (input, weight, bias))
    shape, size = tuple(weight.shape), list(input.shape)
    if input.ndim not in (dims + 1, dims + 2):
        raise RuntimeError(
            f"Expected {dims + 1}D (unbatched) or {dims + 2}D (batched) input to {name}, but got input of size: {size}"
        )
    if weight.ndim != dims + 2:
        raise RuntimeError(f"{name}: expected a {dims + 2}-dimensional weight, but got one of size {list(shape)}")
    for label, t in (("weight", weight), ("bias", bias)):
        if t is not None and t.dtype != input.dtype:
            raise RuntimeError(f"{name}: Input type ({input.dtype}) and {label} type ({t.dtype}) should be the same")
    if input.dtype.kind == "b":
        raise NotImplementedError(f"{name} is not implemented for bool tensors; convert them with .float()")
    if groups <= 0:
        raise RuntimeError(f"{name}: non-positive groups is not supported, got groups={groups}")
    if shape[0] < groups or shape[0] % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be at least {groups} and divisible by {groups} at dimension 0, "
            f"but got weight of size {list(shape)} instead"
        )
    given, wanted = size[-1 - dims], shape[0] if transposed else shape[1] * groups
    if given != wanted:
        raise RuntimeError(
            f"Given {'transposed=1' if transposed else f'groups={groups}'}, weight of size {list(shape)}, expected "
            f"input{size} to have {wanted} channels, but got {given} channels instead"
        )
    channels = shape[1] * groups if transposed else shape[0]
    if bias is not None and tuple(bias.shape) != (channels,):
        raise RuntimeError(
            f"Given weight of size {list(shape)}, expected bias to be 1-dimensional with {channels} elements, "
            f"but got bias of size {list(bias.shape)} instead"
        )
    return input, weight, bias


def _times(size: Any) -> str:
    return f"({' x '.join(map(str, size))})"


def _convolution(dims: int) -> Any:
    name = f"conv{dims}d"

    def convolve(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        input, weight, bias = _checked(name, dims, input, weight, bias, groups, False)
        stride, dilation = spatial(name, "stride", stride, dims), spatial(name, "dilation", dilation, dims)
        _positive(name, stride=stride, dilation=dilation)
        kernel = tuple(weight.shape[2:])
        batched = input.ndim == dims + 2
        input = input if batched else core.FUNCTIONS["unsqueeze"](input, 0)
        if padding == "same":
            if any(s != 1 for s in stride):
                raise RuntimeError("padding='same' is not supported for strided convolutions")
            total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            padding = tuple(n // 2 for n in total)
            if any(n % 2 for n in total):
                odd = ((0, 0), (0, 0), *((0, n % 2) for n in total))
                input = core.REGISTRY["pad_constant"](input, odd, 0)
        elif padding == "valid":
            padding = (0,) * dims
        elif isinstance(padding, str):
            raise RuntimeError(f"Invalid padding string: {padding!r}; expected 'same' or 'valid'")
        padding = spatial(name, "padding", padding, dims)
        if min(padding) < 0:
            raise RuntimeError(f"{name}: negative padding is not supported, got padding={list(padding)}")
        size = tuple(n + 2 * p for n, p in zip(input.shape[2:], padding, strict=True))
        reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
        if any(n < r for n, r in zip(size, reach, strict=True)) or min(kernel) < 1:
            raise RuntimeError(
                f"Calculated padded input size per channel: {_times(size)}. Kernel size: {_times(reach)}. "
                "Kernel size can't be greater than actual input size"
            )
        result = conv(input, weight, bias, stride, padding, dilation, groups)
        return result if batched else core.FUNCTIONS["squeeze"](result, 0)

    letters = "DHW"[3 - dims :]
    sizes = ", ".join(letters)
    return named(
        convolve,
        name,
        f"""Slide kernels over {dims} dimension(s): (N, C, {sizes}) or (C, {sizes}) with weights (O, C / groups, k...).

    Args:
        bias: (O,), added to each output channel.
        stride, dilation: steps between windows and between the elements of a window; ints or one per dimension.
        padding: zeros around the input, an int or one per dimension; "same" keeps the size, "valid" is none.
        groups: how many parts the channels are divided into, each with kernels of its own.

    Raises:
        RuntimeError: shapes or dtypes do not fit, or a setting is out of range.
    """,
        True,
    )


def _transposed_convolution(dims: int) -> Any:
    name = f"conv_transpose{dims}d"

    def convolve(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Any:
        input, weight, bias = _checked(name, dims, input, weight, bias, groups, True)
        stride, dilation = spatial(name, "stride", stride, dims), spatial(name, "dilation", dilation, dims)
        padding, extra = spatial(name, "padding", padding, dims), spatial(name, "output_padding", output_padding, dims)
        _positive(name, stride=stride, dilation=dilation)
        if min(padding) < 0 or min(extra) < 0:
            raise RuntimeError(
                f"{name}: negative padding is not supported, got padding={list(padding)}, output_padding={list(extra)}"
            )
        if any(o >= max(s, d) for o, s, d in zip(extra, stride, dilation, strict=True)):
            raise RuntimeError(
                f"{name}: output padding must be smaller than either stride or dilation, but got output_padding="
                f"{list(extra)}, stride={list(stride)}, dilation={list(dilation)}"
            )
        batched = input.ndim == dims + 2
        input = input if batched else core.FUNCTIONS["unsqueeze"](input, 0)
        each = zip(input.shape[2:], weight.shape[2:], stride, padding, extra, dilation, strict=True)
        size = [(n - 1) * s - 2 * p + d * (k - 1) + 1 + o for n, k, s, p, o, d in each]
        if min(size) <= 0:
            raise RuntimeError(
                f"Given input size per channel: {_times(input.shape[2:])}. Calculated output size per channel: "
                f"{_times(size)}. Output size is too small"
            )
        result = conv_transpose(input, weight, bias, stride, padding, extra, dilation, groups)
        return result if batched else core.FUNCTIONS["squeeze"](result, 0)

    return named(
        convolve,
        name,
        f"""The transpose of ``conv{dims}d`` (its gradient by the input), which enlarges; weights (C, O / groups, k...).

    Args:
        bias: (O,), added to each output channel.
        stride, padding, dilation: those of the convolution it undoes the shape of.
        output_padding: added to one side of the output size.
        groups: how many parts the channels are divided into.

    Raises:
        RuntimeError: shapes or dtypes do not fit, or a setting is out of range.
    """,
        True,
    )


conv1d, conv2d, conv3d = (_convolution(n) for n in (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = (_transposed_convolution(n) for n in (1, 2, 3))
