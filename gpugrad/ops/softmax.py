"""Softmax, log-softmax and log-sum-exp: shifted by the maximum of each row, so that no exponential overflows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import cpu, dtypes, fused
from .core import normalize_dim, normalize_dims, op
from .elementwise import blockwise, in_blocks
from .reduction import _kept, reduction, total, wide


def _axis(x: Any, dim: int) -> tuple[int, ...]:
    # A 0-d tensor is a row of one element.
    return (dim % x.ndim,) if x.ndim else ()


def _row_sum(xp: Any, x: Any, dim: int) -> Any:
    return total(xp, x, _axis(x, dim), True)


def _row_product_sum(xp: Any, a: Any, b: Any, dim: int) -> Any:
    """The sums of ``a * b`` over rows; along the last dimension without the product in memory."""
    if xp is np and a.ndim and dim in (-1, a.ndim - 1):
        return np.vecdot(a, b)[..., None]
    return _row_sum(xp, a * b, dim)


def _by_rows(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Let a forward that works along ``dim``, its last parameter, take a few rows at a time where they lie together."""

    @functools.wraps(forward)
    def wrapper(xp: Any, *args: Any) -> Any:
        *arrays, dim = args
        first = arrays[0]
        if first.__class__ is not np.ndarray or first.size < cpu.WHOLE or dim % first.ndim != first.ndim - 1:
            return forward(xp, *args)
        return in_blocks(lambda *parts: forward(xp, *parts, 1), *arrays, row=first.shape[-1])

    return wrapper


def _shifted(xp: Any, input: Any, dim: int) -> Any:
    largest = input.max(axis=_axis(input, dim), keepdims=True) if input.size else input
    return xp.subtract(input, largest, out=xp.empty_like(input))


def _rows(t: Any) -> list[Any]:
    return [(t(2, 3), 1), (t(3, 2), 0), (t(2, 3, 2, low=-8.0, high=8.0), -1), (t(), 0)]


@op(samples=_rows)
@wide
@_by_rows
def softmax(xp, input, /, dim):
    """The exponentials of each row along ``dim``, divided by their sum."""
    out = _shifted(xp, input, dim)
    xp.exp(out, out=out)
    out /= _row_sum(xp, out, dim)
    return out


softmax.kernel(fused.softmax.softmax)
softmax.rules(input=lambda F, g, out, dim: F.softmax_slope(g, out, dim))


@op(samples=lambda t: [(t(2, 3), t(2, 3), 1), (t(3, 2), t(3, 2), 0), (t(), t(), 0)], torch=None)
@_by_rows
def softmax_slope(xp, input, result, /, dim):
    """The gradient ``input`` taken back through a softmax with its ``result``."""
    answer = xp.subtract(input, _row_product_sum(xp, input, result, dim), out=xp.empty_like(result))
    answer *= result
    return answer


def _slope_result(F: Any, g: Any, input: Any, result: Any, dim: int) -> Any:
    axis = _axis(result, dim)
    return g * (input - F.sum(input * result, axis, True)) - input * F.sum(g * result, axis, True)


softmax_slope.kernel(fused.softmax.softmax_slope)
softmax_slope.rules(input=lambda F, g, result, dim: F.softmax_slope(g, result, dim), result=_slope_result)


@op(samples=_rows)
@wide
@_by_rows
def log_softmax(xp, input, /, dim):
    """Each row along ``dim`` less the logarithm of the sum of its exponentials."""
    out = _shifted(xp, input, dim)
    out -= xp.log(_row_sum(xp, xp.exp(out), dim))
    return out


log_softmax.kernel(fused.softmax.log_softmax)
log_softmax.rules(input=lambda F, g, out, dim: F.log_softmax_slope(g, out, dim))


@op(samples=lambda t: [(t(2, 3), t(2, 3), 1), (t(3, 2), t(3, 2), 0), (t(), t(), 0)], torch=None)
@_by_rows
def log_softmax_slope(xp, input, result, /, dim):
    """The gradient ``input`` taken back through a log-softmax with its ``result``."""
    answer = xp.exp(result, out=xp.empty_like(result))
    answer *= _row_sum(xp, input, dim)
    return xp.subtract(input, answer, out=answer)


def _log_slope_input(F: Any, g: Any, result: Any, dim: int) -> Any:
    return g - F.sum(g * F.exp(result), _axis(result, dim), True)


def _log_slope_result(F: Any, g: Any, input: Any, result: Any, dim: int) -> Any:
    return -(g * F.exp(result)) * F.sum(input, _axis(result, dim), True)


log_softmax_slope.kernel(fused.softmax.log_softmax_slope)
log_softmax_slope.rules(input=_log_slope_input, result=_log_slope_result)


@op(samples=lambda t: [(t(2, 3), (0, 1), False), (t(2, 3, 2), (1,), True), (t(), (), False)])
@wide
def logsumexp(xp, input, /, dim, keepdim):
    """The logarithm of the sum of exponentials over ``dim``."""
    largest = xp.max(input, axis=dim, keepdims=True) if input.size else xp.zeros(_kept(input.shape, dim), input.dtype)
    largest = xp.where(xp.isfinite(largest), largest, input.dtype.type(0))
    shifted = xp.subtract(input, largest, out=xp.empty_like(input))
    out = xp.log(total(xp, xp.exp(shifted, out=shifted), dim, True)) + largest
    return out if keepdim else out.reshape([n for d, n in enumerate(input.shape) if d not in dim])


# Without operators on arrays, which a captured step would do at once, it is one kernel.
_shares = blockwise(lambda F, g, input, out: F.mul(g, F.exp(F.sub(input, out))))


def _logsumexp_rule(F: Any, g: Any, input: Any, out: Any, dim: tuple[int, ...], keepdim: bool) -> Any:
    if not keepdim:
        shape = _kept(tuple(input.shape), dim)
        g, out = F.reshape(g, shape), F.reshape(out, shape)
    return _shares(F, g, input, out)


logsumexp.kernel(fused.softmax.logsumexp)
logsumexp.rules(input=_logsumexp_rule)


def _rows_of(name: str, input: Any, dtype: Any) -> Any:
    input = input if dtype is None else input.to(dtype)
    if not input.is_floating_point():
        raise NotImplementedError(f"{name}: not implemented for {input.dtype}; give a floating-point tensor or dtype")
    return input


@reduction()
def _softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """The exponentials along ``dim`` divided by their sum: positive numbers that add up to 1.

    Args:
        dtype: convert to it first.

    Raises:
        IndexError: there is no such dimension.
        NotImplementedError: ``input`` is not floating point.
    """
    input = _rows_of("softmax", input, dtype)
    return softmax(input, normalize_dim(dim, input._data.ndim))


@reduction()
def _log_softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """The logarithm of the softmax along ``dim``, accurate where that is close to 0 or 1; see ``softmax``."""
    input = _rows_of("log_softmax", input, dtype)
    return log_softmax(input, normalize_dim(dim, input._data.ndim))


@reduction()
def _logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Any:
    """The logarithm of the sum of exponentials over ``dim``, a dimension or several; -inf of no elements.

    Raises:
        IndexError: there is no such dimension.
    """
    if not dtypes.is_floating(input.dtype):
        input = input.to(dtypes.get_default_dtype())
    return logsumexp(input, normalize_dims(dim, input._data.ndim), keepdim)
