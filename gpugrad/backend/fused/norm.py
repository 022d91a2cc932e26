"""Layer, RMS and batch normalisation and their gradients: ``kernels/norm.cu``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import cuda, kernels
from .launch import C_TYPES, NULL, THREADS, Rows, alignment, are_plain, rows, run, wide, width
from .reduction import reduce_columns

_MOST_PARTS = 64


def _weights(dtype: np.dtype, *given: Any) -> str | None:
    """The C type of weight and bias (None where absent): the input's or float32; None if they are something else."""
    kinds = {w.dtype for w in given if w is not None} or {dtype}
    if len(kinds) > 1 or not kinds <= {dtype, wide(dtype)}:
        return None
    if not all(w is None or w.flags.c_contiguous for w in given):
        return None
    return C_TYPES.get(kinds.pop().name)


def _present(*arrays: Any) -> list[Any]:
    return [a for a in arrays if a is not None]


def _aligned(arrays: tuple[Any, ...], weights: list[Any]) -> int:
    """The alignment that counts: weights may be wider than what they multiply, and are read 16 bytes at a time."""
    own = [(alignment(w), w.itemsize) for w in weights]
    return min(alignment(*arrays), *[16 if a == 16 else a * arrays[0].itemsize // size for a, size in own], 16)


def _pointers(*arrays: Any) -> list[Any]:
    return [NULL if a is None else a for a in arrays]


def _persistent(expression: str, how: Rows) -> tuple[Any, int]:
    """A kernel that goes through the rows by itself, and as many blocks as the device works on at the same time."""
    kernel = kernels.function("norm", expression)
    together = kernels.multiprocessors(cuda.current_device()) * kernels.resident(kernel, how.block)
    return kernel, min(how.grid, together)


def standardize(
    input: Any, weight: Any, bias: Any, dims: tuple[int, ...], eps: float, centered: bool, recording: bool
) -> Any:
    """(x - mean) / sqrt(variance + eps) * weight + bias, and mean and variance."""
    kind = _weights(input.dtype, weight, bias)
    if not (input.size and are_plain(input.dtype, input) and kind):
        return NotImplemented
    xp = cuda.cupy()
    kept = tuple(1 if d in dims else n for d, n in enumerate(input.shape))
    sums = wide(input.dtype)
    mean, var = (xp.empty(kept, sums) if centered else None), xp.empty(kept, sums)
    out = xp.empty(input.shape, input.dtype)
    types = f"{C_TYPES[input.dtype.name]}, {kind}"
    if dims[0] == 0:
        _standardize_channels(input, weight, bias, mean, var, out, eps, types)
        return out, (mean, var)
    columns = math.prod(input.shape[d] for d in dims)
    count = input.size // columns
    how = rows(count, columns, input.dtype, _aligned((input,), _present(weight, bias)))
    flag = "true" if centered else "false"
    pointers = (input, *_pointers(weight, bias), out, *_pointers(mean), var)
    if how.packs:
        kernel, grid = _persistent(f"standardize<{types}, {how.template()}, {flag}>", how)
        kernel((grid,), (how.block,), (*pointers, np.int64(count), np.int32(columns), float(eps)))
    else:
        run(
            "norm",
            f"standardize_long<{types}, {how.template()}, {flag}>",
            how.grid,
            how.block,
            *pointers,
            np.int64(columns),
            float(eps),
        )
    return out, (mean, var)


def standardize_slope(
    gradient: Any, x: Any, weight: Any, mean: Any, rstd: Any, dims: tuple[int, ...], affine: bool
) -> Any:
    """The gradient of ``standardize``; with ``affine`` also those of weight and bias."""
    kind = _weights(x.dtype, weight)
    if not (x.size and gradient.shape == x.shape and are_plain(x.dtype, gradient, x) and kind):
        return NotImplemented
    if not are_plain(wide(x.dtype), *_present(mean), rstd):
        return NotImplemented
    xp = cuda.cupy()
    out = xp.empty(x.shape, x.dtype)
    of = x.dtype if weight is None else weight.dtype
    if dims[0] == 0:
        channels = x.shape[1]
        found = (xp.empty(channels, of), xp.empty(channels, of)) if affine else ()
        _slope_channels(gradient, x, weight, mean, rstd, out, found, kind)
        return out, *found
    columns = math.prod(x.shape[d] for d in dims)
    parts = _slope_rows(gradient, x, weight, mean, rstd, out, columns, affine, kind)
    if parts is None:
        return (out,)
    both = xp.empty((2, *x.shape[x.ndim - len(dims) :]), of)
    reduce_columns(parts, both, "Sum", len(parts), 2 * columns, 1.0)
    # Arrays in their own right rather than views, which the engine would copy before it hands them to leaves.
    return out, *(xp.ndarray(each.shape, of, each.data) for each in both)


def _slope_rows(
    gradient: Any, x: Any, weight: Any, mean: Any, rstd: Any, out: Any, columns: int, affine: bool, kind: str
) -> Any:
    """Write ``out``; returns the parts of the gradients of weight and bias that are still to be added, if asked for."""
    xp, sums, name = cuda.cupy(), wide(x.dtype), C_TYPES[x.dtype.name]
    count = x.size // columns
    aligned = _aligned((gradient, x), _present(weight))
    # Accumulators take registers too, of which half as many threads have twice as many.
    how = rows(count, columns, x.dtype, aligned, 2, 512, 8 if x.dtype.itemsize == 8 else 16)
    flag = "true" if mean is not None else "false"
    pointers = (gradient, x, *_pointers(weight, mean), rstd, out)
    if how.packs:
        expression = f"standardize_slope<{name}, {kind}, {how.template()}, {flag}, {'true' if affine else 'false'}>"
        kernel, grid = _persistent(expression, how)
        parts = xp.empty((grid, 2 * columns), sums) if affine else None
        kernel((grid,), (how.block,), (*pointers, *_pointers(parts), np.int64(count), np.int32(columns)))
        return parts
    run(
        "norm",
        f"standardize_slope_long<{name}, {kind}, {how.template()}, {flag}>",
        how.grid,
        how.block,
        *pointers,
        np.int64(columns),
    )
    if not affine:
        return None
    tiles = -(-columns // (256 * how.width))
    lines = min(count, max(1, 4 * kernels.multiprocessors(cuda.current_device()) // tiles))
    parts = xp.empty((lines, 2 * columns), sums)
    kernel = kernels.function("norm", f"standardize_parts<{name}, {how.width}, {flag}>")
    args = (gradient, x, *_pointers(mean), rstd, parts, np.int64(count), np.int64(columns))
    kernel((tiles, lines), (256,), args)
    return parts


def _channels(x: Any) -> tuple[int, int, int]:
    """The samples, channels and elements of each of (N, C, ...)."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def _over_channels(name: str, numbers: int, arrays: tuple[Any, ...], mean: Any) -> tuple[Any, int]:
    """Moments or sums of each channel, in parts, and in how many."""
    x = arrays[0]
    samples, channels, length = _channels(x)
    across = width(x.dtype, alignment(*arrays), length)
    blocks = -(-channels // 32) if length == 1 else channels
    # At least some thousand elements for each block, and no more blocks than keep the device busy.
    busy = 8 * kernels.multiprocessors(cuda.current_device()) // blocks
    enough = -(-samples // 64) if length == 1 else -(-samples * length // 4096)
    parts = max(1, min(busy, enough, _MOST_PARTS))
    found = cuda.cupy().empty((channels, parts, numbers), wide(x.dtype))
    columns = "true" if length == 1 else "false"
    kernel = kernels.function("norm", f"{name}<{C_TYPES[x.dtype.name]}, {across}, {columns}>")
    sizes = (np.int64(samples), np.int64(channels), np.uint32(length))
    kernel((blocks, parts), (256,), (*arrays, *_present(mean), found, *sizes))
    return found, parts


def _standardize_channels(
    input: Any, weight: Any, bias: Any, mean: Any, var: Any, out: Any, eps: float, types: str
) -> None:
    _, channels, length = _channels(input)
    found, parts = _over_channels("channel_moments", 3, (input,), None)
    sums = C_TYPES[wide(input.dtype).name]
    run(
        "norm",
        f"merge_moments<{sums}>",
        -(-channels // 128),
        128,
        found,
        np.int32(parts),
        np.int64(channels),
        mean,
        var,
    )
    across = width(input.dtype, alignment(input), channels if length == 1 else length)
    run(
        "norm",
        f"channel_standardize<{types}, {across}>",
        -(-input.size // (4 * across * THREADS)),
        THREADS,
        input,
        *_pointers(weight, bias),
        mean,
        var,
        out,
        np.int64(input.size),
        np.uint32(channels),
        np.uint32(length),
        float(eps),
    )


def _slope_channels(
    gradient: Any, x: Any, weight: Any, mean: Any, rstd: Any, out: Any, gradients: tuple[Any, ...], kind: str
) -> None:
    samples, channels, length = _channels(x)
    found, parts = _over_channels("channel_slopes", 2, (gradient, x), mean)
    sums = wide(x.dtype)
    slopes = cuda.cupy().empty((3, channels), sums)
    of_weight, of_bias = gradients or (NULL, NULL)
    run(
        "norm",
        f"merge_slopes<{C_TYPES[sums.name]}, {kind}>",
        -(-channels // 128),
        128,
        found,
        np.int32(parts),
        np.int64(channels),
        sums.type(samples * length),
        *_pointers(weight),
        rstd,
        slopes,
        of_weight,
        of_bias,
    )
    across = width(x.dtype, alignment(gradient, x), channels if length == 1 else length)
    run(
        "norm",
        f"channel_slope<{C_TYPES[x.dtype.name]}, {across}>",
        -(-x.size // ((1 if across == 8 else 2) * across * THREADS)),
        THREADS,
        gradient,
        x,
        mean,
        slopes,
        out,
        np.int64(x.size),
        np.uint32(channels),
        np.uint32(length),
    )
