"""Pooling over any number of spatial dimensions, one dimension after another.

The maximum (or sum) over a window is that over its columns of those over its rows,
which needs fewer and longer passes over memory than going through whole windows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import blas, cpu, fused, graph, module_of
from . import core
from .core import REGISTRY, as_tensors, op
from .windows import Ints, named, reach, spatial, working_dtype

_SHORT = 48  # elements up to which NumPy spends more time on starting a run than on the run


def _lines(array: Any, dim: int) -> Any:
    """The array as (before, along, after) one dimension."""
    shape = array.shape
    return array.reshape(math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :]))


def _by_parts(xp: Any, lines: Any, work: Callable[[slice], None]) -> None:
    """Call ``work`` on slices of the first of three dimensions: small enough for the cache and shared, on the CPU."""
    count = lines.shape[0]
    if xp is not np:
        work(slice(0, count))
        return
    step = max(1, cpu.BLOCK // max(1, lines.shape[1] * lines.shape[2]))

    def task(start: int, stop: int) -> None:
        for first in range(start, stop, step):
            work(slice(first, min(first + step, stop)))

    cpu.parallel(task, count, step)


def _complete(length: int, size: int, kernel: int, stride: int, padding: int, dilation: int) -> bool:
    """Whether all windows lie inside."""
    return padding == 0 and (size - 1) * stride + (kernel - 1) * dilation < length


def _replaced(array: Any, dim: int, size: int) -> Ints:
    shape = tuple(array.shape)
    return (*shape[:dim], size, *shape[dim + 1 :])


def _max_samples(t: Any) -> list[Any]:
    return [
        (t(2, 3, 6), 2, 2, 2, 0, 1, 3, False),
        (t(2, 7, 2), 1, 3, 2, 1, 1, 4, False),
        (t(8, 2), 0, 2, 3, 1, 2, 3, False),
        (t(1, 5), 1, 3, 1, 0, 1, 3, False),
    ]


@op(aux=True, samples=_max_samples, torch=None)
def max_along(xp, input, /, dim, kernel, stride, padding, dilation, size, indices, recording):
    # The maxima of windows along one dimension; aux is the offset of each window's first maximum.
    x = _lines(input, dim)
    lines = (x.shape[0], size, x.shape[2])
    out = xp.empty(lines, x.dtype)
    winners = xp.empty(lines, np.min_scalar_type(kernel)) if recording or indices else None
    settings = (kernel, stride, padding, dilation)
    complete = _complete(x.shape[1], size, *settings)

    def work(part: slice) -> None:
        chosen = None if winners is None else winners[part]
        # A NaN in the maxima says that one has to be looked for; on a device, asking would mean waiting.
        look = xp is not np and x.dtype.kind == "f"
        _maxima(xp, x[part], out[part], chosen, settings, complete, look)
        if chosen is not None and not look and x.dtype.kind == "f" and chosen.size and np.isnan(out[part].max()):
            _maxima(xp, x[part], out[part], chosen, settings, complete, True)

    _by_parts(xp, x, work)
    shape = _replaced(input, dim, size)
    return out.reshape(shape), None if winners is None else winners.reshape(shape)


def _maxima(xp: Any, x: Any, out: Any, winners: Any, settings: Any, complete: bool, look_for_nan: bool) -> None:
    kernel, stride, padding, dilation = settings
    length, size = x.shape[1], out.shape[1]
    whole = complete and kernel == stride == 2 and dilation == 1 and length == 2 * size
    if xp is np and whole and x.flags.c_contiguous and not look_for_nan:
        if winners is not None:
            _of_pairs(np.greater, x, winners.view(np.bool_))
        _of_pairs(np.maximum, x, out)
        return
    if complete and kernel > 1:
        first = 1
        best = x[:, reach(length, size, 0, stride)[1]]
    else:
        first = 0
        out[...] = -np.inf if out.dtype.kind == "f" else np.iinfo(out.dtype).min
        best = out
        if winners is not None:
            starts = padding - np.arange(size) * stride
            winners[...] = graph.constant(xp, np.maximum(0, -(-starts // dilation)).astype(winners.dtype))[:, None]
    for j in range(first, kernel):
        windows, elements = reach(length, size, j * dilation - padding, stride)
        new = x[:, elements]
        old = best if best is not out else out[:, windows]
        if winners is not None:
            larger = xp.greater(new, old)
            if look_for_nan:
                larger |= new != new
            if best is not out:
                winners[...] = larger
            else:
                # Offsets grow, so the largest noted is the latest.
                chosen = winners[:, windows]
                xp.maximum(chosen, larger * winners.dtype.type(j), out=chosen)
        xp.maximum(old, new, out=out[:, windows])
        best = out


def _of_pairs(ufunc: np.ufunc, x: np.ndarray, out: np.ndarray) -> None:
    """``ufunc`` of the second and the first of each pair along dimension 1.

    NumPy works on all neighbours in one long run and drops those of different pairs more
    quickly than on many short runs, or than it compares every second element.
    """
    after = x.shape[2]
    if after > _SHORT or (after == 1 and ufunc is np.maximum):
        ufunc(x[:, 1::2], x[:, ::2], out=out)
        return
    flat = x.reshape(-1)
    neighbours = np.empty(flat.size, out.dtype)
    ufunc(flat[after:], flat[:-after], out=neighbours[:-after])
    out[...] = neighbours.reshape(*out.shape[:2], 2, after)[:, :, 0]


def _bits(array: Any) -> np.dtype:
    return np.dtype(f"i{array.dtype.itemsize}")


@op(
    samples=lambda t: [
        (t(2, 3), t.ints(2, 3, low=0, high=2).byte(), 1, 6, 2, 2, 0, 1),
        (t(4, 2), t.ints(4, 2, low=1, high=2).byte(), 0, 7, 3, 2, 1, 1),
    ],
    torch=None,
)
def unpool_along(xp, input, winners, /, dim, length, kernel, stride, padding, dilation):
    # Each element goes to the place in its window that won: the gradient of max_along.
    g, w = _lines(xp.ascontiguousarray(input), dim), _lines(winners, dim)
    size, bits = g.shape[1], _bits(g)
    disjoint = stride > (kernel - 1) * dilation
    covering = padding == 0 and dilation == 1 and kernel == stride and length == size * kernel
    result = (xp.empty if covering else xp.zeros)((g.shape[0], length, g.shape[2]), g.dtype)

    def work(part: slice) -> None:
        target, values, won = result[part], g[part], w[part]
        if kernel == 2 and covering:
            second = xp.negative(won.view(np.int8), dtype=bits)
            second &= values.view(bits)
            target.view(bits)[:, 1::2] = second
            second ^= values.view(bits)
            target.view(bits)[:, 0::2] = second
            return
        for j in range(kernel):
            windows, elements = reach(length, size, j * dilation - padding, stride)
            # Masking the bits is faster than a product, and right for inf and NaN.
            chosen = xp.negative((won[:, windows] == j).view(np.int8), dtype=bits)
            chosen &= values[:, windows].view(bits)
            if disjoint:
                target.view(bits)[:, elements] = chosen
            else:
                target[:, elements] += chosen.view(g.dtype)

    _by_parts(xp, result, work)
    return result.reshape(_replaced(input, dim, length))


def _winning(xp: Any, winners: Any, dim: int, stride: int, padding: int, dilation: int) -> Any:
    """The positions along ``dim`` that won."""
    starts = xp.arange(winners.shape[dim]) * stride - padding
    return winners.astype(np.int64) * dilation + starts.reshape(-1, *(1,) * (winners.ndim - dim - 1))


@op(samples=lambda t: [(t(2, 6), t.ints(2, 3, low=0, high=2).byte(), 1, 2, 2, 0, 1)], torch=None)
def pick_along(xp, input, winners, /, dim, kernel, stride, padding, dilation):
    # From each window the element that won: the gradient of unpool_along.
    return xp.take_along_axis(input, _winning(xp, winners, dim, stride, padding, dilation), axis=dim)


max_along.kernel(fused.window.max_along)
max_along.rules(
    input=lambda F, g, aux, input_shape, dim, kernel, stride, padding, dilation: F.unpool_along(
        g, aux, dim, input_shape[dim], kernel, stride, padding, dilation
    )
)
unpool_along.kernel(fused.window.unpool_along)
unpool_along.rules(
    input=lambda F, g, winners, dim, kernel, stride, padding, dilation: F.pick_along(
        g, winners, dim, kernel, stride, padding, dilation
    )
)
pick_along.rules(
    input=lambda F, g, input_shape, winners, dim, kernel, stride, padding, dilation: F.unpool_along(
        g, winners, dim, input_shape[dim], kernel, stride, padding, dilation
    )
)


def _window_sums(xp: Any, x: Any, out: Any, kernel: int, stride: int, padding: int, part: slice) -> None:
    x, out = x[part], out[part]
    length, size = x.shape[1], out.shape[1]
    if kernel == stride and padding == 0 and length == size * kernel and kernel > 4:
        x.reshape(x.shape[0], size, kernel, x.shape[2]).sum(axis=2, dtype=out.dtype, out=out)
        return
    complete = _complete(length, size, kernel, stride, padding, 1) and kernel > 1
    if complete:
        xp.add(*(x[:, reach(length, size, j, stride)[1]] for j in (0, 1)), out=out)
    else:
        out[...] = 0
    for j in range(2 if complete else 0, kernel):
        windows, elements = reach(length, size, j - padding, stride)
        out[:, windows] += x[:, elements]


def _spread(xp: Any, g: Any, out: Any, kernel: int, stride: int, padding: int, part: slice) -> None:
    """Add each element to all places of its window."""
    g, out = g[part], out[part]
    length, size = out.shape[1], g.shape[1]
    covering = kernel == stride and padding == 0 and length == size * kernel
    if covering and kernel > 4:
        out.reshape(out.shape[0], size, kernel, out.shape[2])[...] = g[:, :, None]
        return
    if not covering:
        out[...] = 0
    for j in range(kernel):
        windows, elements = reach(length, size, j - padding, stride)
        if covering:
            out[:, elements] = g
        else:
            out[:, elements] += g[:, windows]


def _scale(
    xp: Any, size: Ints, out: Ints, kernel: Ints, stride: Ints, padding: Ints, include_pad: bool, divisor: Any
) -> Any:
    """What the window sums are multiplied by: a number, or an array where windows differ."""
    if divisor is not None:
        return 1.0 / divisor
    each = list(zip(size, out, kernel, stride, padding, strict=True))
    if all(_complete(n, o, k, s, p if not include_pad else 0, 1) for n, o, k, s, p in each):
        return 1.0 / math.prod(kernel)
    counts = np.ones(())
    for n, o, k, s, p in each:
        starts = np.arange(o) * s - p
        ends = np.minimum(starts + k, n + p)
        count = ends - starts if include_pad else np.minimum(ends, n) - np.maximum(starts, 0)
        counts = counts[..., None] * count
    return graph.constant(xp, 1.0 / counts)


def _avg_samples(t: Any) -> list[Any]:
    return [
        (t(2, 3, 6), (2,), (2,), (0,), (3,), True, None),
        (t(2, 7, 5), (3, 2), (2, 1), (1, 0), (4, 4), False, None),
        (t(1, 5, 6), (3, 3), (2, 2), (1, 1), (3, 3), True, None),
        (t(2, 6, 10), (6, 5), (6, 5), (0, 0), (1, 2), True, 7),
    ]


@op(samples=_avg_samples, torch=None)
def avg_pool(xp, input, /, kernel, stride, padding, out, include_pad, divisor):
    dims = len(kernel)
    size = tuple(input.shape[-dims:])
    total = input.astype(working_dtype(input.dtype), copy=False)
    for i in reversed(range(dims)):
        dim = input.ndim - dims + i
        x = _lines(total, dim)
        sums = xp.empty((x.shape[0], out[i], x.shape[2]), x.dtype)
        _by_parts(xp, x, functools.partial(_window_sums, xp, x, sums, kernel[i], stride[i], padding[i]))
        total = sums.reshape(_replaced(total, dim, out[i]))
    scale = _scale(xp, size, out, kernel, stride, padding, include_pad, divisor)
    total *= scale if isinstance(scale, float) else scale.astype(total.dtype)
    return total.astype(input.dtype, copy=False)


@op(
    samples=lambda t: [
        (*(t(*shape),), *rest)
        for shape, rest in [
            ((2, 3), ((6,), (2,), (2,), (0,), True, None)),
            ((1, 3, 3), ((5, 6), (3, 3), (2, 2), (1, 1), False, None)),
        ]
    ],
    torch=None,
)
def avg_unpool(xp, input, /, size, kernel, stride, padding, include_pad, divisor):
    # Each element shared out over its window: the gradient of avg_pool.
    dims = len(kernel)
    out = tuple(input.shape[-dims:])
    scale = _scale(xp, size, out, kernel, stride, padding, include_pad, divisor)
    dtype = working_dtype(input.dtype)
    total = input.astype(dtype, copy=False)
    total = total * (scale if isinstance(scale, float) else scale.astype(dtype))
    for i in range(dims):
        dim = input.ndim - dims + i
        g = _lines(total, dim)
        spread = xp.empty((g.shape[0], size[i], g.shape[2]), dtype)
        _by_parts(xp, spread, functools.partial(_spread, xp, g, spread, kernel[i], stride[i], padding[i]))
        total = spread.reshape(_replaced(total, dim, size[i]))
    return total.astype(input.dtype, copy=False)


avg_pool.kernel(fused.window.avg_pool)
avg_pool.rules(
    input=lambda F, g, input_shape, kernel, stride, padding, include_pad, divisor: F.avg_unpool(
        g, tuple(input_shape[-len(kernel) :]), kernel, stride, padding, include_pad, divisor
    )
)
avg_unpool.kernel(fused.window.avg_unpool)
avg_unpool.rules(
    input=lambda F, g, input_shape, kernel, stride, padding, include_pad, divisor: F.avg_pool(
        g, kernel, stride, padding, tuple(input_shape[-len(kernel) :]), include_pad, divisor
    )
)


@op(
    samples=lambda t: [(t(2, 3, 4), np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]]), 1), (t(2, 3), np.eye(3)[:2], 1)],
    torch=None,
)
def apply_along(xp, input, /, matrix, dim):
    # The product of a constant matrix with each line along one dimension.
    x = _lines(input, dim)
    dtype = working_dtype(input.dtype)
    m = graph.constant(xp, np.asarray(matrix, dtype=dtype))
    x = x.astype(dtype, copy=False)
    result = blas.product(xp, x[:, :, 0], m.T) if x.shape[2] == 1 else blas.product(xp, m, x)
    return result.reshape(_replaced(input, dim, m.shape[0])).astype(input.dtype, copy=False)


apply_along.rules(input=lambda F, g, matrix, dim: F.apply_along(g, matrix.T, dim))


def _input(name: str, dims: int, input: Any, floating: bool) -> Any:
    """The input of a pooling function.

    Raises:
        RuntimeError: it has not ``dims`` spatial dimensions, or one but the batch dimension is empty.
        NotImplementedError: its dtype cannot be pooled.
    """
    (input,) = as_tensors(name, (input,))
    if input.ndim not in (dims + 1, dims + 2) or 0 in input.shape[-dims - 1 :]:
        raise RuntimeError(
            f"{name}: Expected {dims + 1}D or {dims + 2}D (batch mode) tensor with optional 0 dim batch size for "
            f"input, but got: {list(input.shape)}"
        )
    if input.dtype.kind == "b" or (floating and not input.is_floating_point()):
        raise NotImplementedError(f"{name} is not implemented for {input.dtype} tensors; convert them with .float()")
    return input


def _geometry(
    name: str, dims: int, input: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Kernel, stride, padding, dilation and output size of a pooling, for each dimension.

    Raises:
        RuntimeError: one is out of range, or no window fits.
    """
    kernel = spatial(name, "kernel_size", kernel, dims)
    stride = kernel if stride is None or stride == [] or stride == () else spatial(name, "stride", stride, dims)
    padding, dilation = spatial(name, "padding", padding, dims), spatial(name, "dilation", dilation, dims)
    if min(kernel) < 1 or min(stride) < 1 or min(dilation) < 1:
        raise RuntimeError(
            f"{name}: kernel size, stride and dilation should be greater than zero, but got "
            f"kernel_size={list(kernel)}, stride={list(stride)}, dilation={list(dilation)}"
        )
    if any(not 0 <= 2 * p <= k for p, k in zip(padding, kernel, strict=True)):
        raise RuntimeError(
            f"{name}: pad should be at least zero and at most half of kernel size, but got pad={list(padding)} and "
            f"kernel_size={list(kernel)}"
        )
    out = []
    for n, k, s, p, d in zip(input.shape[-dims:], kernel, stride, padding, dilation, strict=True):
        count = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)) // s + 1
        # The last window must start inside the input or the padding before it.
        out.append(count - 1 if ceil_mode and (count - 1) * s >= n + p else count)
    if min(out) < 1:
        sizes = ("x".join(map(str, (input.shape[-dims - 1], *each))) for each in (input.shape[-dims:], out))
        raise RuntimeError(
            "Given input size: ({}). Calculated output size: ({}). Output size is too small".format(*sizes)
        )
    return kernel, stride, padding, dilation, tuple(out)


def _max_pooled(input: Any, geometry: Any, return_indices: bool) -> Any:
    kernel, stride, padding, dilation, out = geometry
    dims = len(kernel)
    size = tuple(input.shape[-dims:])
    places: list[Any] = []
    result = input
    for i in reversed(range(dims)):
        dim = input.ndim - dims + i
        settings = (dim, kernel[i], stride[i], padding[i], dilation[i], out[i], return_indices)
        result, winners = max_along.apply_with_aux((result,), settings)
        if return_indices:
            xp = module_of(winners)
            here = _winning(xp, winners, dim, stride[i], padding[i], dilation[i])
            places = [here, *(xp.take_along_axis(place, here, axis=dim) for place in places)]
    if not return_indices:
        return result
    index = places[0]
    for n, place in zip(size[1:], places[1:], strict=True):
        index = index * n + place
    return result, core.Tensor._wrap(index)


def _sizes(dims: int) -> str:
    return f"(N, C, {', '.join('DHW'[3 - dims :])})"


def _max_pool(dims: int) -> Any:
    name = f"max_pool{dims}d"

    def pool(
        input: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        input = _input(name, dims, input, False)
        geometry = _geometry(name, dims, input, kernel_size, stride, padding, dilation, ceil_mode)
        return _max_pooled(input, geometry, return_indices)

    text = f"""The maximum over windows of {_sizes(dims)}; of equal ones the first gets the gradient; NaN is largest.

    Args:
        kernel_size: of the windows; this and the others an int or one per dimension.
        stride: steps between windows; ``kernel_size`` unless given.
        padding: places around the input that never win, at most half of a window.
        dilation: steps between the elements of a window.
        ceil_mode: keep a last window that goes beyond the input.
        return_indices: also return where each maximum was, counted through the spatial dimensions.

    Raises:
        RuntimeError: a setting is out of range, or no window fits into the input.
    """
    return named(pool, name, text, True)


def _avg_pool(dims: int) -> Any:
    name = f"avg_pool{dims}d"

    def pool(
        input: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        input = _input(name, dims, input, True)
        if divisor_override == 0:
            raise RuntimeError(f"{name}: divisor must be not zero")
        kernel, steps, around, _, out = _geometry(name, dims, input, kernel_size, stride, padding, 1, ceil_mode)
        return avg_pool(input, kernel, steps, around, out, count_include_pad, divisor_override)

    def pool_line(
        input: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> Any:
        return pool(input, kernel_size, stride, padding, ceil_mode, count_include_pad)

    text = f"""The mean over windows of {_sizes(dims)}.

    Args:
        kernel_size: of the windows; this and the others an int or one per dimension.
        stride: steps between windows; ``kernel_size`` unless given.
        padding: zeros around the input, at most half of a window.
        ceil_mode: keep a last window that goes beyond the input.
        count_include_pad: divide by the size of the window with the padding in it, else without.
        {"" if dims == 1 else "divisor_override: divide by this instead."}

    Raises:
        RuntimeError: a setting is out of range, or no window fits into the input.
    """
    return named(pool_line if dims == 1 else pool, name, text, dims == 1)


def _targets(name: str, dims: int, input: Any, output_size: Any) -> Ints:
    """The output size of an adaptive pooling; None stands for the input's.

    Raises:
        RuntimeError: it has the wrong length, or a negative size.
    """
    wanted = tuple(output_size) if isinstance(output_size, tuple | list) else (output_size,) * dims
    if len(wanted) == 1:
        wanted *= dims
    if len(wanted) != dims:
        raise RuntimeError(f"{name}: output_size must be an int or {dims} of them, but got {output_size}")
    sizes = tuple(n if w is None else w.__index__() for w, n in zip(wanted, input.shape[-dims:], strict=True))
    if min(sizes) < 0:
        raise RuntimeError(
            f"{name}: elements of output_size must be greater than or equal to 0 but received {list(sizes)}"
        )
    return sizes


def _spans(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the windows of an adaptive pooling start and end."""
    steps = np.arange(size)
    return steps * length // size, -(-(steps + 1) * length // size)


def _adaptive_avg_pool(dims: int) -> Any:
    name = f"adaptive_avg_pool{dims}d"

    def pool(input: Any, output_size: Any) -> Any:
        input = _input(name, dims, input, True)
        wanted = _targets(name, dims, input, output_size)
        result = input
        for i, size in enumerate(wanted):
            dim = input.ndim - dims + i
            length = input.shape[dim]
            if size and length % size:
                starts, ends = _spans(length, size)
                places = np.arange(length)
                inside = (places >= starts[:, None]) & (places < ends[:, None])
                result = apply_along(result, inside / (ends - starts)[:, None], dim)
        kernel = tuple(
            n // max(1, w) if w == 0 or n % w == 0 else 1 for n, w in zip(input.shape[-dims:], wanted, strict=True)
        )
        if any(k > 1 for k in kernel) or 0 in wanted:
            result = avg_pool(result, kernel, kernel, (0,) * dims, wanted, True, None)
        return result if result is not input else core.FUNCTIONS["clone"](input)

    text = f"""The mean over the windows that divide {_sizes(dims)} as evenly as possible into ``output_size``.

    Args:
        output_size: an int or one per dimension; None keeps the input's size.

    Raises:
        RuntimeError: the output size has the wrong length or is negative.
    """
    return named(pool, name, text, dims == 1)


def _adaptive_max_pool(dims: int) -> Any:
    name = f"adaptive_max_pool{dims}d"

    def pool(input: Any, output_size: Any, return_indices: bool = False) -> Any:
        input = _input(name, dims, input, True)
        wanted = _targets(name, dims, input, output_size)
        result, kernel, maps = input, [], []
        for i, size in enumerate(wanted):
            dim = input.ndim - dims + i
            length = input.shape[dim]
            if not size or length % size == 0:
                kernel.append(length // max(1, size))
                maps.append(np.arange(length))
                continue
            # Windows that differ in length are filled up with their last element.
            starts, ends = _spans(length, size)
            kernel.append(int((ends - starts).max()))
            places = np.minimum(starts[:, None] + np.arange(kernel[-1]), ends[:, None] - 1).reshape(-1)
            maps.append(places)
            result = REGISTRY["take_index"](
                result, (slice(None),) * dim + (graph.constant(module_of(input._data), np.asarray(places)),)
            )
        steps = tuple(kernel)
        geometry = (steps, steps, (0,) * dims, (1,) * dims, wanted)
        sizes = tuple(result.shape[-dims:])
        result = _max_pooled(result, geometry, return_indices)
        if not return_indices:
            return result
        xp = module_of(input._data)
        index: Any = 0
        for i, place in enumerate(xp.unravel_index(result[1]._data, sizes)):
            index = index * input.shape[input.ndim - dims + i] + graph.constant(xp, np.asarray(maps[i]))[place]
        return result[0], core.Tensor._wrap(index)

    text = f"""The maximum over the windows that divide {_sizes(dims)} as evenly as possible into ``output_size``.

    Args:
        output_size: an int or one per dimension; None keeps the input's size.
        return_indices: also return where each maximum was, counted through the spatial dimensions.

    Raises:
        RuntimeError: the output size has the wrong length or is negative.
    """
    return named(pool, name, text, False)


max_pool1d, max_pool2d, max_pool3d = (_max_pool(n) for n in (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = (_avg_pool(n) for n in (1, 2, 3))
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (_adaptive_avg_pool(n) for n in (1, 2, 3))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (_adaptive_max_pool(n) for n in (1, 2, 3))
