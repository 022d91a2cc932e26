"""What runs along a dimension: differences, extremes so far, integrals, and ``logcumsumexp``."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import core
from .core import normalize_dim, op, public
from .core import taped as F
from .elementwise import logaddexp
from .reduction import accumulate, accumulated, along, named, ordered, reduction, wide
from .shape import at, zeros_like_gradient


def _extreme_so_far(name: str, function: str, what: str) -> Any:
    @op(
        samples=lambda t: [(t(2, 5), 1), (t(4, 2), 0), (t.ints(2, 6, high=3), 1), (t.bools(4), 0)],
        torch=lambda torch, x, dim: getattr(torch, name)(x, dim)[0],
        name=name,
        aux=True,
    )
    def primitive(xp, input, /, dim, recording):
        values = accumulate(xp, function, input, dim)
        places = xp.arange(input.shape[dim]).reshape(-1, *(1,) * (input.ndim - 1 - dim))
        # Where it is the extreme (or NaN) itself; else the last place before where that was so.
        index = xp.where((input == values) | (input != input), places, 0)
        return values, accumulate(xp, "maximum", index, dim)

    primitive.rules(input=lambda F, g, input_shape, aux, dim: F.scatter_sum(g, aux, dim, tuple(input_shape)))
    result = named(name, "values indices")

    def function_of_tensors(input: Any, dim: int) -> Any:
        return ordered(primitive, result, input, normalize_dim(dim, input._data.ndim))

    function_of_tensors.__name__ = function_of_tensors.__qualname__ = name
    function_of_tensors.__doc__ = f"""The {what} of the elements up to each along ``dim``, and where they are.

    NaN counts as the {what}. Of equal elements the last is meant, and gets the gradient.

    Raises:
        IndexError: there is no such dimension.
    """
    return reduction()(function_of_tensors)


cummax = _extreme_so_far("cummax", "maximum", "largest")
cummin = _extreme_so_far("cummin", "minimum", "smallest")


@op(samples=lambda t: [(t(2, 5), 1), (t(4, 2), 0), (t(3, 1), 1)])
@wide
def logcumsumexp(xp, input, /, dim):
    """The logarithm of the running sum of the exponentials along ``dim``."""
    if xp is np:
        return np.logaddexp.accumulate(input, axis=dim)
    return accumulated(xp, functools.partial(logaddexp.forward, xp), input, dim)


def _logcumsumexp_rule(F: Any, g: Any, input: Any, out: Any, dim: int) -> Any:
    # The sum of g[j] exp(input[i] - out[j]) over j >= i, as s[i] exp(input[i] - out[i]) with the recurrence
    # s[i] = g[i] + exp(out[i] - out[i + 1]) s[i + 1], none of whose factors is above 1. The difference of equal
    # infinities counts as 0.
    n = input.shape[dim]
    if n > 1:
        first, after = (F.getitem(out, at(dim, part)) for part in (slice(None, -1), slice(1, None)))
        last = zeros_like_gradient(F, g, (*g.shape[:dim], 1, *g.shape[dim + 1 :]))
        factor = F.cat(F.exp(F.keep(first - after, first != after)), last, dim)
        step = 1
        while step < n:
            head, tail, end = (at(dim, slice(*ends)) for ends in ((n - step,), (step, None), (n - step, None)))
            scale = F.getitem(factor, head)
            g = F.cat(F.getitem(g, head) + scale * F.getitem(g, tail), F.getitem(g, end), dim)
            factor = F.cat(scale * F.getitem(factor, tail), F.getitem(factor, end), dim)
            step *= 2
    return g * F.exp(F.keep(input - out, input != out))


logcumsumexp.rules(input=_logcumsumexp_rule)


@reduction()
def _logcumsumexp(input: Any, dim: int) -> Any:
    """The logarithm of the running sum of the exponentials of the elements along ``dim``.

    Raises:
        IndexError: there is no such dimension.
        NotImplementedError: ``input`` is not floating point.
    """
    if not input.is_floating_point():
        raise NotImplementedError(f"logcumsumexp is not implemented for {input.dtype}; convert it with .float()")
    return along(logcumsumexp, input, dim)


# Differences and integrals


def _neighbours(x: Any, dim: int) -> tuple[Any, Any]:
    """All along a dimension but the last, and all but the first."""
    return F.getitem(x, at(dim, slice(None, -1))), F.getitem(x, at(dim, slice(1, None)))


@reduction()
def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """Each element along ``dim`` less the one before it, ``n`` times over; of bools, whether the two differ.

    Args:
        prepend, append: what to put before and after ``input`` along ``dim`` first.

    Raises:
        RuntimeError: ``input`` has no dimensions, ``n`` is negative, or what is put beside does not fit.
    """
    if not input._data.ndim:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    dim = normalize_dim(dim, input._data.ndim)
    for other in (prepend, append):
        if other is not None and other._data.ndim != input._data.ndim:
            raise RuntimeError(
                f"diff expects prepend or append to be the same dimension as input, but got {other._data.ndim} and "
                f"{input._data.ndim} dimensions"
            )
    if n == 0:
        return input.clone()
    if prepend is not None or append is not None:
        input = core.FUNCTIONS["cat"]([x for x in (prepend, input, append) if x is not None], dim)
    for _ in range(min(n, input.shape[dim])):
        before, after = _neighbours(input, dim)
        input = after ^ before if input.dtype.kind == "b" else after - before
    return input


def _sample_points(name: str, y: Any, x: Any, dim: int) -> Any:
    """The distances between neighbouring points, broadcast along ``dim`` of ``y``."""
    if x._data.ndim == 1:
        if len(x) != y.shape[dim]:
            raise RuntimeError(
                f"{name}: There must be one `x` value for each sample point, but got {len(x)} for {y.shape[dim]}"
            )
        x = x.reshape(*(1,) * dim, -1, *(1,) * (y._data.ndim - 1 - dim))
    elif x._data.ndim < y._data.ndim:
        x = x.reshape((1,) * (y._data.ndim - x._data.ndim) + tuple(x.shape))
    left, right = _neighbours(x, dim)
    return right - left


def _integrand(name: str, y: Any, x: Any, dx: Any, dim: int) -> int:
    if x is not None and dx is not None:
        raise TypeError(f"{name}(): give the points x or their distance dx, not both")
    for label, t in (("y", y), ("x", x)):
        if t is not None and t.dtype.kind == "b":
            raise RuntimeError(f"{name}: received a bool input for `{label}`, but bool is not supported")
    if not y._data.ndim:
        raise IndexError(f"{name}: Dimension specified as {dim} but tensor has no dimensions")
    return normalize_dim(dim, y._data.ndim)


@public(method=False)
def trapezoid(y: Any, x: Any = None, *, dx: float | None = None, dim: int = -1) -> Any:
    """The integral along ``dim`` by the trapezoidal rule.

    Args:
        x: the points that ``y`` was sampled at: as many as along ``dim``, or a tensor that broadcasts with ``y``.
        dx: the distance between points without ``x``; 1 unless given.

    Raises:
        RuntimeError: there are not as many points as samples, or bools are given.
        TypeError: both ``x`` and ``dx`` are given.
    """
    dim = _integrand("trapezoid", y, x, dx, dim)
    if not y.shape[dim]:
        return y.sum(dim).to(y.dtype)
    if x is None:
        return (y.sum(dim) - (y.select(dim, 0) + y.select(dim, -1)) * 0.5) * (1.0 if dx is None else dx)
    left, right = _neighbours(y, dim)
    return ((left + right) * _sample_points("trapezoid", y, x, dim)).sum(dim) / 2.0


core.FUNCTIONS["trapz"] = trapezoid


@public(method=False)
def cumulative_trapezoid(y: Any, x: Any = None, *, dx: float | None = None, dim: int = -1) -> Any:
    """The integrals along ``dim`` up to each sample but the first, by the trapezoidal rule; see ``trapezoid``."""
    dim = _integrand("cumulative_trapezoid", y, x, dx, dim)
    left, right = _neighbours(y, dim)
    if x is None:
        return ((1.0 if dx is None else dx) / 2.0 * (left + right)).cumsum(dim)
    return ((left + right) * _sample_points("cumulative_trapezoid", y, x, dim)).cumsum(dim) / 2.0
