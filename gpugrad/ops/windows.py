"""The geometry of sliding windows, which convolution and pooling share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .core import public

Ints = tuple[int, ...]


def working_dtype(dtype: Any) -> Any:
    """The dtype to compute in: float32 for the half-precision ones."""
    return np.dtype(np.float32) if dtype.kind not in "iu" and dtype.itemsize < 4 else dtype


def output_size(size: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Ints:
    """How many windows fit along each dimension."""
    each = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in each)


@functools.lru_cache(4096)
def reach(size: int, out: int, offset: int, stride: int) -> tuple[slice, slice]:
    """The windows whose element at ``offset`` lies inside ``size``, and where those elements are."""
    low = max(0, -(offset // stride))
    high = max(low, min(out, (size - 1 - offset) // stride + 1))
    start = low * stride + offset
    return slice(low, high), slice(start, start + max(0, (high - low - 1) * stride + 1) * (high > low), stride)


def spatial(name: str, label: str, value: Any, dims: int) -> Ints:
    """A setting for each of ``dims`` dimensions, from one int or a sequence of one or ``dims`` ints.

    Raises:
        RuntimeError: it is a sequence of another length.
        TypeError: it holds something else than ints.
    """
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    if any(isinstance(v, bool) or not hasattr(v, "__index__") for v in values):
        raise TypeError(f"{name}(): {label} must be an int or a tuple of ints, but got {value!r}")
    if len(values) not in (1, dims):
        raise RuntimeError(
            f"{name}: expected {label} to be a single integer value or a list of {dims} values to match the "
            f"spatial dimensions, but got {label}={list(values)}"
        )
    return tuple(v.__index__() for v in values) * (dims if len(values) == 1 else 1)


def named(function: Callable[..., Any], name: str, text: str, shown: bool) -> Callable[..., Any]:
    """A function made for some number of dimensions, with its name and text; public as ``gg.<name>`` if ``shown``."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    return public(method=False)(function) if shown else function
