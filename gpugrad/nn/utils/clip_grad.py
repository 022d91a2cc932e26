"""Bounding gradients."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ...backend import device_of, dtypes, module_of, on, transfer
from ...backend.fused import optim as kernels
from ...backend.fused.joining import concatenate
from ...backend.lazy import settled
from ...backend.quiet import quiet
from ...engine import no_grad
from ...ops.core import fuses, memory_to_change
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


def _by_device(arrays: Iterable[Any]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {}
    for array in arrays:
        found.setdefault(device_of(array), []).append(array)
    return found


def _norm(arrays: Sequence[Any], p: float) -> Any:
    """The p-norm of all elements of some arrays on one device, 0-d; by kernels for all of them where there are."""
    xp = module_of(arrays[0])
    dtype = functools.reduce(dtypes.promote, [a.dtype for a in arrays])
    with on(device_of(arrays[0])):
        if xp is not np and fuses():
            found = kernels.norm(arrays, p, dtype)
            if found is not NotImplemented:
                return found
        parts = concatenate(xp, [xp.asarray(_power_sum(a, p)).reshape(1) for a in arrays], 0)
        total = parts.max() if p == math.inf else xp.sqrt(parts.sum()) if p == 2 else parts.sum() ** (1.0 / p)
        return xp.asarray(total, dtype=dtype)


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
    norms = [_norm(those, p) for those in _by_device(arrays).values()]
    # A norm of norms is that of everything.
    norm = Tensor._wrap(norms[0] if len(norms) == 1 else _norm([transfer(n, device_of(norms[0])) for n in norms], p))
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
    # Looking whether there is anything to do would wait for a device, but costs nothing on the CPU.
    if isinstance(total, np.ndarray) and _factor(total, max_norm) == 1.0:
        return
    gradients = _gradients(parameters)
    with quiet():  # a norm that is infinite makes inf * 0
        for place, arrays in _by_device(map(memory_to_change, gradients)).items():
            with on(place):
                _shorten(arrays, transfer(total, place), max_norm)
    for gradient in gradients:
        gradient._bump()


def _factor(total: Any, max_norm: float) -> Any:
    xp = module_of(total)
    return xp.asarray(xp.minimum(max_norm / (total + 1e-6), 1.0))


def _shorten(arrays: list[Any], total: Any, max_norm: float) -> None:
    """Scale arrays on one device, whose norm is ``total``, down to ``max_norm``."""
    xp = module_of(total)
    if xp is not np and fuses():
        arrays = kernels.rescale(arrays, norm=total, longest=max_norm)
    if arrays:
        factor = _factor(total, max_norm)
        for array in arrays:
            xp.multiply(array, factor.astype(array.dtype), out=array)


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
