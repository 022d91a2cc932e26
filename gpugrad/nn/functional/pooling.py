"""Pooling by a p-norm, and the undoing of maximum pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...backend import dtypes
from ...creation import zeros
from ...ops.core import as_tensors
from ...ops.pool import avg_pool1d, avg_pool2d, avg_pool3d
from ...ops.windows import spatial
from ...tensor import Tensor

__all__ = ["lp_pool1d", "lp_pool2d", "lp_pool3d", "max_unpool1d", "max_unpool2d", "max_unpool3d"]


def _lp_pool(dims: int, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Tensor:
    kernel = spatial(f"lp_pool{dims}d", "kernel_size", kernel_size, dims)
    pool: Any = (avg_pool1d, avg_pool2d, avg_pool3d)[dims - 1]
    means = pool(input**norm_type, kernel, stride, 0, ceil_mode)
    return (means.sign() * means.abs().relu() * math.prod(kernel)) ** (1.0 / norm_type)


def lp_pool1d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """``(sum of x**p) ** (1/p)`` over windows of (N, C, L) or (C, L), with p the ``norm_type``."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """``(sum of x**p) ** (1/p)`` over windows of (N, C, H, W) or (C, H, W), with p the ``norm_type``."""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """``(sum of x**p) ** (1/p)`` over windows of (N, C, D, H, W) or (C, D, H, W), with p the ``norm_type``."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


def _max_unpool(
    dims: int, input: Tensor, indices: Tensor, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Tensor:
    name = f"max_unpool{dims}d"
    input, indices = as_tensors(name, (input, indices))
    if indices.dtype != dtypes.int64:
        raise RuntimeError(f"elements in indices should be type int64 but got: {indices.dtype}")
    if input.ndim not in (dims + 1, dims + 2) or indices.shape != input.shape:
        raise RuntimeError(
            f"{name}: expected an input of {dims + 1} or {dims + 2} dimensions and indices of the same shape, but got "
            f"{list(input.shape)} and {list(indices.shape)}"
        )
    kernel = spatial(name, "kernel_size", kernel_size, dims)
    steps = kernel if stride is None else spatial(name, "stride", stride, dims)
    around = spatial(name, "padding", padding, dims)
    each = list(zip(input.shape[-dims:], kernel, steps, around, strict=True))
    size = tuple((n - 1) * s + k - 2 * p for n, k, s, p in each)
    if output_size is not None:
        wanted = tuple(output_size)[-dims:] if len(output_size) in (dims, dims + 2) else ()
        if len(wanted) != dims or any(abs(w - n) >= s for w, n, s in zip(wanted, size, steps, strict=True)):
            raise ValueError(
                f'invalid output_size "{tuple(output_size)}": it should have {dims} or {dims + 2} elements and differ '
                f"by less than the stride {list(steps)} from {list(size)}"
            )
        size = wanted
    count = math.prod(size)
    places = indices.flatten(-dims)
    if not places.is_cuda and places.numel() and not 0 <= int(places.min()) <= int(places.max()) < count:
        raise RuntimeError(f"{name}: found an invalid max index: one is not between 0 and {count - 1}")
    empty = zeros((*input.shape[:-dims], count), dtype=input.dtype, device=input.device)
    return empty.scatter(-1, places, input.flatten(-dims)).reshape(*input.shape[:-dims], *size)


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Zeros with maxima where they were: what :func:`max_pool1d` gave, with the indices it returned.

    Args:
        kernel_size, stride, padding: of the pooling.
        output_size: the size before the pooling, where the stride leaves it open.

    Raises:
        RuntimeError: shapes do not fit, or an index lies outside the result (on the CPU).
        ValueError: the output size cannot have been.
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """As :func:`max_unpool1d`, for images."""
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """As :func:`max_unpool1d`, for volumes."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)
