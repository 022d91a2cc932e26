"""Bounding gradients."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ...backend import device_of, dtypes, module_of, on, transfer
from ...backend.lazy import settled
from ...backend.quiet import quiet
from ...engine import no_grad
from ...ops.core import memory_to_change
from ...tensor import Tensor

watchers: list[Callable[[], None]] = []
"""Called before gradients are clipped."""


def _gradients(parameters: Any) -> list[Tensor]:
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [t.grad for t in tensors if t.grad is not None]


def _power_sum(array: Any, p: float) -> Any:
    """The sum of the p-th powers of an array's magnitudes (their maximum for p = inf), 0-d and on its device."""
    xp = module_of(array)
    if array.dtype.itemsize < 4:
        array = array.astype(dtypes.float32)
    if array.size == 0:
        return xp.zeros((), array.dtype)
    if p == math.inf:
        return xp.maximum(array.max(), -array.min())
    if p == 2 and xp is np:
        flat = array.ravel(order="K")
        return np.dot(flat, flat)
    return xp.square(array).sum() if p == 2 else (xp.abs(array) ** p).sum()


@no_grad()
def get_total_norm(
    tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Tensor:
    """The norm of the elements of some tensors, 0-d; found without waiting for the device.

    Args:
        norm_type: the p of the p-norm; may be inf.
        error_if_nonfinite: look whether the norm is finite (which waits for the device).
        foreach: accepted and ignored.

    Raises:
        RuntimeError: the norm is infinite or NaN, and ``error_if_nonfinite`` is true.
    """
    p = float(norm_type)
    arrays = [settled(t._data) for t in ([tensors] if isinstance(tensors, Tensor) else tensors)]
    if not arrays:
        return Tensor._wrap(np.zeros((), dtypes.get_default_dtype()))
    place, xp = device_of(arrays[0]), module_of(arrays[0])
    with on(place):
        parts = xp.stack([xp.asarray(transfer(_power_sum(a, p), place)) for a in arrays])
        total = parts.max() if p == math.inf else xp.sqrt(parts.sum()) if p == 2 else parts.sum() ** (1.0 / p)
    norm = Tensor._wrap(xp.asarray(total, dtype=arrays[0].dtype))
    if error_if_nonfinite and not math.isfinite(norm.item()):
        raise RuntimeError(
            f"The total norm of order {p} for gradients from `parameters` is non-finite, so it cannot be clipped. "
            "To scale the gradients by the non-finite norm anyway, set `error_if_nonfinite=False`"
        )
    return norm


@no_grad()
def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Tensor, foreach: bool | None = None) -> None:
    """Scale gradients of a known total norm down to ``max_norm``, in place.

    Args:
        foreach: accepted and ignored.
    """
    for watch in list(watchers):
        watch()
    total = settled(total_norm._data)
    xp = module_of(total)
    scale = xp.asarray(xp.minimum(max_norm / (total + 1e-6), 1.0))
    # Looking whether there is anything to do would wait for a device, but costs nothing on the CPU.
    if xp is np and scale == 1.0:
        return
    with quiet():  # a norm that is infinite makes inf * 0
        for gradient in _gradients(parameters):
            array = memory_to_change(gradient)
            module_of(array).multiply(array, transfer(scale, gradient.device).astype(array.dtype), out=array)
            gradient._bump()


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients of all parameters, in place, so that their common norm is at most ``max_norm``.

    Args:
        norm_type: the p of the p-norm; may be inf.
        error_if_nonfinite: raise if the norm is infinite or NaN (which waits for the device).
        foreach: accepted and ignored.

    Returns:
        The norm before, a 0-d tensor.

    Raises:
        RuntimeError: the norm is infinite or NaN, and ``error_if_nonfinite`` is true.
    """
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    total = get_total_norm(_gradients(tensors), norm_type, error_if_nonfinite)
    clip_grads_with_norm_(tensors, max_norm, total)
    return total


def clip_grad_norm(*args: Any, **kwargs: Any) -> Tensor:
    """The old name of :func:`clip_grad_norm_`."""
    warnings.warn("nn.utils.clip_grad_norm is deprecated in favor of clip_grad_norm_", FutureWarning, stacklevel=2)
    return clip_grad_norm_(*args, **kwargs)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Bound each element of the gradients to [-clip_value, clip_value], in place.

    Args:
        foreach: accepted and ignored.
    """
    for watch in list(watchers):
        watch()
    bound = float(clip_value)
    for gradient in _gradients(parameters):
        array = memory_to_change(gradient)
        module_of(array).clip(array, -bound, bound, out=array)
        gradient._bump()
