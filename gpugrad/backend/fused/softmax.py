"""Softmax, log-softmax, logsumexp and cross-entropy: ``kernels/softmax.cu``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import cuda
from .launch import C_TYPES, INT64, NULL, THREADS, _power, alignment, are_plain, rows, run, wide, width
from .reduction import reduce_rows


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


def _totals(target: Any, weight: Any, ignore_index: int, columns: int, sums: np.dtype, mean: bool, smooth: bool) -> Any:
    """What a mean is divided by, and the sum of the classes' weights; only what is asked for is computed."""
    count, xp, kind = target.size, cuda.cupy(), C_TYPES[sums.name]
    totals = xp.empty(2, sums)
    if mean:
        parts = min(-(-count // 8192), 1024)
        part = -(-count // parts)
        found = totals[:1] if parts == 1 else xp.empty(parts, sums)
        args = (target, NULL if weight is None else weight, np.int64(ignore_index))
        sizes = (np.int64(count), np.int64(columns), np.int64(part))
        run("softmax", f"chosen_weights<{kind}>", parts, 1024, *args, *sizes, found)
        if parts > 1:
            reduce_rows(found, totals[:1], "Sum", 1, parts, 1.0)
    if smooth and weight is not None:
        reduce_rows(weight, totals[1:], "Sum", 1, columns, 1.0)
    return totals


def _classify(name: str, more: str, arrays: tuple[Any, ...], args: tuple[Any, ...]) -> None:
    """Run a kernel over rows of classes: of arrays (N, C, ...), the first of which shows how they lie.

    Args:
        more: the kernel's further template arguments.
    """
    input = arrays[0]
    kind, columns = C_TYPES[input.dtype.name], input.shape[1]
    count, aligned = input.size // columns, alignment(*arrays)
    if cuda.cupy().moveaxis(input, 1, -1).flags.c_contiguous:
        # Beside exponentials in double precision there is little room for two rows in the registers.
        tight = len(arrays) == 2 and input.dtype.itemsize == 8
        how = rows(count, columns, input.dtype, min(aligned, 8) if tight else aligned, 3 if tight else len(arrays))
        sizes: tuple[Any, ...] = (np.int64(count), np.int32(columns)) if how.packs else (np.int64(columns),)
        name = f"{name}<{kind}" if how.packs else f"{name}_long<{kind}"
        run("softmax", f"{name}, {how.template()}{more}>", how.grid, how.block, *args, *sizes)
        return
    length = count // input.shape[0]
    # Wider accesses would need more registers than there are.
    across = min(2, width(input.dtype, min(8, aligned), length))
    # At least eight classes for each thread.
    lanes = THREADS // max(1, min(32, _power(columns // 8)))
    sizes = (np.int64(count), np.int32(columns), np.int64(length), np.int32(lanes))
    grid = -(-count // (lanes * across))
    run("softmax", f"{name}_columns<{kind}, {across}{more}>", grid, THREADS, *args, *sizes)


def _together(losses: Any, reduction: str, dtype: np.dtype) -> Any:
    """The losses of rows, which add up to a mean or sum, as that."""
    if reduction == "none":
        return losses.astype(dtype, copy=False)
    loss = cuda.cupy().empty((), dtype)
    reduce_rows(losses, loss, "Sum", 1, losses.size, 1.0)
    return loss


NO_CLASS: cuda.Check = "Target {wrong} is out of bounds.", IndexError
"""How a target that is no class is refused."""


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    recording: bool,
) -> Any:
    """The loss of logits (N, C, ...) with a class for each row, and the gradient of the logits if ``recording``.

    Returns:
        The loss, and what the gradient is made of: an array like the logits, and one number to divide it by, or None
        where that has been done; no pair when not recording.
    """
    if input.ndim < 2 or not input.size or input.dtype.name not in C_TYPES or target.dtype.kind not in "iu":
        return NotImplemented
    xp, sums = cuda.cupy(), wide(input.dtype)
    mean = reduction == "mean"
    target = xp.ascontiguousarray(target.astype(INT64, copy=False))
    if not xp.moveaxis(input, 1, -1).flags.c_contiguous:
        input = xp.ascontiguousarray(input)
    last = xp.moveaxis(input, 1, -1)
    columns = input.shape[1]
    if weight is not None:
        weight = xp.ascontiguousarray(weight.astype(sums, copy=False))
    totals = _totals(target, weight, ignore_index, columns, sums, mean, label_smoothing > 0)
    losses = xp.empty(target.shape, sums)
    gradient: Any = NULL
    plain = input.flags.c_contiguous
    if recording:
        gradient = xp.empty(input.shape if plain else last.shape, input.dtype)
    options = (np.int64(ignore_index), sums.type(label_smoothing), np.bool_(mean))
    outputs = losses, gradient, *cuda.fault_site(NO_CLASS)
    args = (input, target, NULL if weight is None else weight, totals, *options, *outputs)
    _classify("cross_entropy", ", true" if label_smoothing else ", false", (input,), args)
    cuda.raise_faults_if_blocking()
    loss = _together(losses, reduction, input.dtype)
    if not recording:
        return loss, None
    if not plain:
        # Laid out as the logits are.
        gradient = xp.moveaxis(gradient, -1, 1)
    return loss, (gradient, totals[:1].reshape(()) if mean and input.dtype == np.float16 else None)


def soft_cross_entropy(
    input: Any, target: Any, weight: Any, reduction: str, label_smoothing: float, recording: bool
) -> Any:
    """The loss of logits (N, C, ...) with a probability for each class; what is returned is ``cross_entropy``'s."""
    if input.ndim < 2 or not input.size or input.dtype.name not in C_TYPES or target.dtype != input.dtype:
        return NotImplemented
    xp, sums = cuda.cupy(), wide(input.dtype)
    if not xp.moveaxis(input, 1, -1).flags.c_contiguous:
        input, target = xp.ascontiguousarray(input), xp.ascontiguousarray(target)
    last = xp.moveaxis(input, 1, -1)
    plain = input.flags.c_contiguous
    target = xp.ascontiguousarray(target if plain else xp.moveaxis(target, 1, -1))
    if weight is not None:
        weight = xp.ascontiguousarray(weight.astype(sums, copy=False))
    losses = xp.empty(last.shape[:-1], sums)
    gradient = xp.empty(target.shape, input.dtype) if recording else NULL
    count = losses.size if reduction == "mean" else 1
    options = (NULL if weight is None else weight, sums.type(label_smoothing), sums.type(1.0 / count))
    _classify("soft_cross_entropy", "", (input, target), (input, target, *options, losses, gradient))
    loss = _together(losses, reduction, input.dtype)
    if not recording:
        return loss, None
    if not plain:
        gradient = xp.moveaxis(gradient, -1, 1)
    return loss, (gradient, xp.full((), count, sums) if count > 1 and input.dtype == np.float16 else None)


def scaled_rows(input: Any, scale: Any, divisor: Any) -> Any:
    """Rows times ``scale``, one number or one for each, divided by ``divisor``, a number unless None or 0."""
    if not (input.size and are_plain(input.dtype, input) and scale.dtype == input.dtype and scale.flags.c_contiguous):
        return NotImplemented
    if scale.size not in (1, len(input)) or (divisor is not None and divisor.dtype != wide(input.dtype)):
        return NotImplemented
    if input.size >= 2**32:
        return NotImplemented
    columns = input.size // len(input)
    across = width(input.dtype, alignment(input), columns)
    out = cuda.cupy().empty(input.shape, input.dtype)
    given = NULL if divisor is None else divisor
    sizes = (np.int64(input.size), np.uint32(columns), np.bool_(scale.size > 1))
    grid = -(-input.size // (4 * across * THREADS))
    kind = C_TYPES[input.dtype.name]
    run("softmax", f"scaled_rows<{kind}, {across}>", grid, THREADS, input, scale, given, out, *sizes)
    return out
