"""Softmax, log-softmax, logsumexp and cross-entropy: ``kernels/softmax.cu``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import cuda
from .launch import C_TYPES, INT64, NULL, THREADS, alignment, are_plain, rows, run, wide, width


def _are_rows(dim: int, *arrays: Any) -> bool:
    """Whether arrays hold rows along ``dim`` that kernels can take: there are some, one after the other."""
    first = arrays[0]
    return (
        first.size > 0
        and first.ndim > 0
        and math.prod(first.shape[dim % first.ndim + 1 :]) == 1
        and all(a.shape == first.shape for a in arrays)
        and are_plain(first.dtype, *arrays)
    )


def _by_rows(name: str, last: str, dim: int, held: int, *arrays: Any) -> Any:
    first = arrays[0]
    columns = first.shape[dim]
    count = first.size // columns
    how = rows(count, columns, first.dtype, alignment(*arrays), held)
    out = cuda.cupy().empty(first.shape, first.dtype)
    kind = C_TYPES[first.dtype.name]
    if how.packs:
        sizes: tuple[Any, ...] = (np.int64(count), np.int32(columns))
    else:
        name, sizes = f"{name}_long", (np.int64(columns),)
    run("softmax", f"{name}<{kind}, {how.template()}, {last}>", how.grid, how.block, *arrays, out, *sizes)
    return out


def softmax(input: Any, dim: int) -> Any:
    """The exponentials of each row, divided by their sum."""
    return _by_rows("softmax", "false", dim, 1, input) if _are_rows(dim, input) else NotImplemented


def log_softmax(input: Any, dim: int) -> Any:
    """Each row less the logarithm of the sum of its exponentials."""
    return _by_rows("softmax", "true", dim, 1, input) if _are_rows(dim, input) else NotImplemented


def softmax_slope(gradient: Any, result: Any, dim: int) -> Any:
    """A gradient taken back through a softmax with its result."""
    if not _are_rows(dim, gradient, result):
        return NotImplemented
    return _by_rows("softmax_slope", "false", dim, 2, gradient, result)


def log_softmax_slope(gradient: Any, result: Any, dim: int) -> Any:
    """A gradient taken back through a log-softmax with its result."""
    if not _are_rows(dim, gradient, result):
        return NotImplemented
    return _by_rows("softmax_slope", "true", dim, 2, gradient, result)


def logsumexp(input: Any, dim: tuple[int, ...], keepdim: bool) -> Any:
    """The logarithm of the sum of the exponentials of each row."""
    if len(dim) != 1 or not _are_rows(dim[0], input):
        return NotImplemented
    columns = input.shape[dim[0]]
    count = input.size // columns
    how = rows(count, columns, input.dtype, alignment(input))
    shape = tuple(1 if d == dim[0] else n for d, n in enumerate(input.shape) if keepdim or d != dim[0])
    out = cuda.cupy().empty(shape, input.dtype)
    kind = C_TYPES[input.dtype.name]
    if how.packs:
        sizes: tuple[Any, ...] = (np.int64(count), np.int32(columns))
        run("softmax", f"logsumexp<{kind}, {how.template()}>", how.grid, how.block, input, out, *sizes)
    else:
        run("softmax", f"logsumexp_long<{kind}, {how.template()}>", how.grid, how.block, input, out, np.int64(columns))
    return out


def cross_entropy(input: Any, target: Any, weight: Any, ignore_index: int, reduction: str, recording: bool) -> Any:
    """The loss of rows of logits with a class each, and the gradient of the logits if ``recording``.

    Returns:
        The loss, and what the gradient is made of: an array like the logits, and one number to multiply it by; both
        None when not recording.
    """
    if input.ndim < 2 or not _are_rows(1, input) or target.size != input.shape[0]:
        return NotImplemented
    if target.dtype != INT64 or not target.flags.c_contiguous:
        return NotImplemented
    count, columns = input.shape[:2]
    xp, kind, sums = cuda.cupy(), C_TYPES[input.dtype.name], wide(input.dtype)
    how = rows(count, columns, input.dtype, alignment(input))
    weights = NULL if weight is None else xp.ascontiguousarray(weight.astype(sums, copy=False))
    losses = xp.empty(target.shape, sums)
    gradient = xp.empty(input.shape, input.dtype) if recording else NULL
    name = "cross_entropy"
    sizes: tuple[Any, ...] = (np.int64(count), np.int32(columns))
    if not how.packs:
        name, sizes = "cross_entropy_long", (np.int64(columns),)
    args = (input, target, weights, np.int64(ignore_index), losses, gradient, *sizes)
    run("softmax", f"{name}<{kind}, {how.template()}>", how.grid, how.block, *args)
    if reduction == "none":
        factor, loss = None, losses.astype(input.dtype, copy=False)
    else:
        factor, loss = xp.empty((), sums), xp.empty((), input.dtype)
        sizes = (np.int64(count), np.int64(columns), np.bool_(reduction == "mean"))
        args = (losses, target, weights, np.int64(ignore_index), *sizes, loss, factor)
        run("softmax", f"cross_entropy_total<{kind}>", 1, 1024, *args)
    return loss, ((gradient, factor) if recording else None)


def scaled_rows(input: Any, scale: Any, factor: Any) -> Any:
    """Rows times ``scale``, one number or one for each, and times ``factor``, a number unless None."""
    if not (input.size and are_plain(input.dtype, input) and scale.dtype == input.dtype and scale.flags.c_contiguous):
        return NotImplemented
    if scale.size not in (1, len(input)) or (factor is not None and factor.dtype != wide(input.dtype)):
        return NotImplemented
    if input.size >= 2**32:
        return NotImplemented
    columns = input.size // len(input)
    across = width(input.dtype, alignment(input), columns)
    out = cuda.cupy().empty(input.shape, input.dtype)
    given = NULL if factor is None else factor
    sizes = (np.int64(input.size), np.uint32(columns), np.bool_(scale.size > 1))
    grid = -(-input.size // (4 * across * THREADS))
    kind = C_TYPES[input.dtype.name]
    run("softmax", f"scaled_rows<{kind}, {across}>", grid, THREADS, input, scale, given, out, *sizes)
    return out
