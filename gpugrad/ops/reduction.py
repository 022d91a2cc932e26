"""Ops that reduce dimensions, run along one, or order elements: sum, var, max, norm, cumsum, sort, unique..."""

from __future__ import annotations

import functools
import math
import operator
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import cpu, dtypes, fused, module_of
from . import core
from .core import FUNCTIONS, METHODS, normalize_dim, normalize_dims, op, public, raw, taped
from .elementwise import maximum, minimum, zero
from .pointwise import inplace_method
from .shape import at

_SPELLINGS = {"axis": "dim", "keepdims": "keepdim"}


def reduction(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """As ``public``, for a function that also takes NumPy's names ``axis`` and ``keepdims``, as PyTorch's do."""

    def register(function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if kwargs:
                kwargs = {_SPELLINGS.get(name, name): value for name, value in kwargs.items()}
            return function(*args, **kwargs)

        return public(**options)(wrapper)

    return register


def named(name: str, fields: str) -> Any:
    """A class of named tuples."""
    return namedtuple(name, fields, module=__name__)


def wide(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Let a forward compute 16-bit floating point in float32 and round once, at the end."""

    @functools.wraps(forward)
    def wrapper(xp: Any, input: Any, *params: Any) -> Any:
        dtype = input.dtype
        if dtype.itemsize != 2 or not dtypes.is_floating(dtype):
            return forward(xp, input, *params)
        return forward(xp, input.astype(np.float32), *params).astype(dtype)

    return wrapper


def floating(name: str, input: Any) -> Any:
    """``input``, if it is a floating-point tensor.

    Raises:
        RuntimeError: it is not.
    """
    if not input.is_floating_point():
        raise RuntimeError(
            f"{name}(): expected a floating-point tensor, but got {input.dtype}; convert it with .float()"
        )
    return input


def _kept(shape: tuple[int, ...], dim: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if d in dim else n for d, n in enumerate(shape))


def _spread(F: Any, g: Any, shape: tuple[int, ...], dim: tuple[int, ...], keepdim: bool) -> Any:
    """A gradient or result of a reduction, spread again over the dimensions reduced."""
    shape = tuple(shape)
    return F.expand(g if keepdim else F.reshape(g, _kept(shape, dim)), shape)


def _count(shape: tuple[int, ...], dim: tuple[int, ...]) -> int:
    return math.prod(shape[d] for d in dim)


def _not_empty(name: str, input: Any, dim: tuple[int, ...]) -> None:
    """Refuse to reduce no elements where there is no neutral one.

    Raises:
        IndexError: a dimension to reduce has size 0.
    """
    for d in dim:
        if input._data.shape[d] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")


def _need_dim(name: str, input: Any, error: type[Exception] = RuntimeError) -> None:
    if not input._data.size:
        raise error(f"{name}(): Expected reduction dim to be specified for input.numel() == 0.")


# Sums


def _fold(x: Any, axis: int) -> Any:
    """Sum over one axis in groups of 16, then groups of groups: NumPy adds pairwise along the last axis only."""
    n = x.shape[axis]
    if n <= 128:
        return np.add.reduce(x, axis=axis)
    groups = n // 16
    lead = (slice(None),) * axis
    head = x[(*lead, slice(16 * groups))].reshape(*x.shape[:axis], groups, 16, *x.shape[axis + 1 :])
    out = _fold(np.add.reduce(head, axis=axis + 1), axis)
    return out + np.add.reduce(x[(*lead, slice(16 * groups, n))], axis=axis) if n % 16 else out


def total(xp: Any, x: Any, dim: tuple[int, ...], keepdim: bool) -> Any:
    """The sum over dimensions of a raw array, along each as accurate as NumPy's pairwise sum; int64 of integers."""
    if not dtypes.is_floating(x.dtype):
        return xp.sum(x, axis=dim, dtype=np.int64, keepdims=keepdim)
    if xp is np and x.size > 128:
        if len(dim) == x.ndim:
            out = np.add.reduce(x if x.flags.forc else x.reshape(-1), axis=None)
            return np.reshape(out, _kept(x.shape, dim)) if keepdim else out
        longest = max((d for d in dim if d != x.ndim - 1), key=x.shape.__getitem__, default=None)
        if longest is not None and x.shape[longest] > 128:
            rest = tuple(d - (d > longest) for d in dim if d != longest)
            out = _fold(x, longest)
            out = np.add.reduce(out, axis=rest) if rest else out
            return out.reshape(_kept(x.shape, dim)) if keepdim else out
    return xp.add.reduce(x, axis=dim, keepdims=keepdim) if xp is np else xp.sum(x, axis=dim, keepdims=keepdim)


def _dims(*more: Any) -> Callable[[Any], list[Any]]:
    """Samples of a reduction: all dimensions, some, none to reduce; ``more`` are further parameters."""
    return lambda t: [
        (t(2, 3), (0, 1), *more, False),
        (t(2, 3, 2), (1,), *more, False),
        (t(2, 3, 2), (0, 2), *more, True),
        (t(), (), *more, False),
    ]


@op(samples=lambda t: [*_dims()(t), (t.ints(2, 3), (1,), False), (t.bools(2, 3), (0, 1), False)])
@wide
def sum(xp, input, /, dim, keepdim):
    """The sum over ``dim``; of integers and bools in int64."""
    return total(xp, input, dim, keepdim)


sum.kernel(fused.reduction.sum)
sum.rules(input=lambda F, g, input_shape, dim, keepdim: _spread(F, g, input_shape, dim, keepdim))


@op(samples=_dims())
@wide
def mean(xp, input, /, dim, keepdim):
    """The mean over ``dim``."""
    count = _count(input.shape, dim)
    return total(xp, input, dim, keepdim) / (count or math.nan)


mean.kernel(fused.reduction.mean)
mean.rules(
    input=lambda F, g, input_shape, dim, keepdim: _spread(
        F, g / (_count(input_shape, dim) or math.nan), input_shape, dim, keepdim
    )
)


def _centered(xp: Any, x: Any, dim: tuple[int, ...]) -> Any:
    return x - total(xp, x, dim, True) / (_count(x.shape, dim) or math.nan)


def _variance(xp: Any, input: Any, dim: tuple[int, ...], correction: float, keepdim: bool) -> Any:
    centered = _centered(xp, input, dim)
    freedom = max(_count(input.shape, dim) - correction, 0)
    return total(xp, xp.square(centered), dim, keepdim) / input.dtype.type(freedom)


def _variance_rule(F: Any, g: Any, input: Any, dim: tuple[int, ...], correction: float, keepdim: bool) -> Any:
    freedom = _count(input.shape, dim) - correction
    g = g * (2 / freedom if freedom > 0 else math.inf)
    return (input - F.mean(input, dim, True)) * _spread(F, g, input.shape, dim, keepdim)


def _torch_spread(name: str) -> Callable[..., Any]:
    return lambda torch, x, dim, correction, keepdim: getattr(torch, name)(
        x, dim, correction=correction, keepdim=keepdim
    )


def _variances(t: Any) -> list[Any]:
    return [
        (t(2, 3), (0, 1), 1, False),
        (t(2, 3, 2), (1,), 0, False),
        (t(2, 3, 2), (0, 2), 1, True),
        (t(4, 3), (0,), 1.5, False),
    ]


@op(samples=_variances, torch=_torch_spread("var"))
@wide
def var(xp, input, /, dim, correction, keepdim):
    """The variance over ``dim``, with ``correction`` degrees of freedom less than elements."""
    return _variance(xp, input, dim, correction, keepdim)


var.rules(input=_variance_rule)


@op(samples=_variances, torch=_torch_spread("std"))
@wide
def std(xp, input, /, dim, correction, keepdim):
    """The standard deviation over ``dim``."""
    return xp.sqrt(_variance(xp, input, dim, correction, keepdim))


std.rules(
    input=lambda F, g, input, out, dim, correction, keepdim: _variance_rule(
        F, F.keep(g / (2 * out), out != 0), input, dim, correction, keepdim
    )
)


@reduction()
def _sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The sum of all elements, or over ``dim``.

    Args:
        dim: a dimension or several; None or () for all.
        keepdim: keep the dimensions reduced, with size 1.
        dtype: convert to it first; integers and bools are summed in int64 otherwise.

    Raises:
        IndexError: there is no such dimension.
    """
    input = input if dtype is None else input.to(dtype)
    return sum(input, normalize_dims(dim, input._data.ndim), keepdim)


@reduction()
def _mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The mean of all elements, or over ``dim``; NaN of no elements.

    Raises:
        RuntimeError: ``input`` is not floating point (give ``dtype``).
        IndexError: there is no such dimension.
    """
    input = input if dtype is None else input.to(dtype)
    if not input.is_floating_point():
        raise RuntimeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {input.dtype}"
        )
    return mean(input, normalize_dims(dim, input._data.ndim), keepdim)


def _spread_function(name: str, text: str) -> Any:
    primitive = core.REGISTRY[name]

    def function(
        input: Any,
        dim: Any = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        if unbiased is not None and correction is not None:
            raise TypeError(f"{name}(): give either unbiased or correction, not both")
        if correction is None:
            correction = 1 if unbiased is None else int(unbiased)
        dims = normalize_dims(dim, floating(name, input)._data.ndim)
        return primitive(input, dims, correction, keepdim)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{text} of all elements, or over ``dim``, computed in two passes.

    Args:
        dim: a dimension or several; None or () for all.
        unbiased: True for ``correction=1``, False for 0.
        keepdim: keep the dimensions reduced, with size 1.
        correction: what the number of elements is lessened by before dividing; 1 unless given.

    Raises:
        RuntimeError: ``input`` is not floating point.
    """
    return reduction()(function)


_var = _spread_function("var", "The variance")
_std = _spread_function("std", "The standard deviation")


@reduction(method=False)
def var_mean(
    input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
) -> Any:
    """The variance and the mean, a pair; see ``var``."""
    where = None if isinstance(dim, bool) else dim
    return _var(input, dim, unbiased, keepdim, correction=correction), _mean(input, where, keepdim)


@reduction(method=False)
def std_mean(
    input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: Any = None
) -> Any:
    """The standard deviation and the mean, a pair; see ``std``."""
    where = None if isinstance(dim, bool) else dim
    return _std(input, dim, unbiased, keepdim, correction=correction), _mean(input, where, keepdim)


@reduction()
def nansum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The sum of the elements that are not NaN; see ``sum``."""
    return _sum(taped.masked_fill(input, taped.isnan(input), 0), dim, keepdim, dtype=dtype)


@reduction()
def nanmean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The mean of the elements that are not NaN; see ``mean``."""
    floating("nanmean", input)
    numbers = ~taped.isnan(input)
    return nansum(input, dim, keepdim, dtype=dtype) / _sum(numbers, dim, keepdim)


@reduction()
def count_nonzero(input: Any, dim: Any = None) -> Any:
    """How many elements are not 0, in all or over ``dim``."""
    return _sum(taped.ne(input, 0), dim)


# Products


@op(
    samples=lambda t: [
        (t(2, 3), 1, False),
        (t(3, 2), 0, True),
        (t(2, 3) * _holes(2, 3), 1, False),
        (t.ints(3, high=4), 0, False),
    ]
)
@wide
def prod(xp, input, /, dim, keepdim):
    """The product over one dimension; of integers and bools in int64."""
    dtype = None if dtypes.is_floating(input.dtype) else np.int64
    size = input.shape[dim] if input.ndim else 0
    if xp is np and dim == input.ndim - 1 and size >= _LONG and not size % 8 and input.flags.c_contiguous:
        # NumPy multiplies along rows one element at a time, and whole rows with vector instructions.
        input, dim = xp.prod(input.reshape(*input.shape[:-1], 8, size // 8), axis=-2, dtype=dtype), -1
    return xp.prod(input, axis=dim, dtype=dtype, keepdims=keepdim)


_LONG = 256
"""Elements from which a row is multiplied in parts."""


def _holes(*shape: int) -> Any:
    """Zeros and ones for samples: no zero in the first row, one in the second, ..."""
    return core.Tensor._wrap(np.arange(shape[1]) >= np.arange(shape[0])[:, None] + 0.0)


def _zeros_in_turn(F: Any, input: Any, dim: int) -> list[Any]:
    """Masks of the first zero along ``dim``, of the second, ...

    A product of which one factor is 0 is no quotient.  The first zero alone decides a gradient; what the others
    contribute is 0 and matters only to its own gradient.
    """
    array = F.array(input)
    xp = module_of(array)
    zeros = array == 0
    if not zeros.any():
        return []
    rank = xp.cumsum(zeros, axis=dim)
    most = int(rank.max())
    return [zeros & (rank == k + 1) for k in range(most if F.is_taped else min(most, 1))]


def _without_zeros(F: Any, input: Any) -> Any:
    array = F.array(input)
    return F.where(array == 0, F.constant(module_of(array).ones_like(array)), input)


def _prod_rule(F: Any, g: Any, input: Any, out: Any, dim: int, keepdim: bool) -> Any:
    g, out = (_spread(F, x, input.shape, (dim,), keepdim) for x in (g, out))
    zeros = _zeros_in_turn(F, input, dim)
    factor = out / (_without_zeros(F, input) if zeros else input)
    for mask in zeros:
        ones = F.constant(module_of(mask).ones_like(F.array(input)))
        others = F.prod(F.where(mask, ones, input), dim, True)
        factor = F.where(mask, F.expand(others, tuple(input.shape)), factor)
    return g * factor


prod.rules(input=_prod_rule)


@reduction()
def _prod(input: Any, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The product of all elements, or over ``dim``; of integers and bools in int64.

    Raises:
        IndexError: there is no such dimension.
    """
    input = input if dtype is None else input.to(dtype)
    if dim is None or not input._data.ndim:
        normalize_dims(dim, input._data.ndim)
        return prod(input.reshape(-1), 0, False)
    return prod(input, normalize_dim(dim, input._data.ndim), keepdim)


# Running sums and products


def _run(xp: Any, function: str, input: Any, dim: int) -> Any:
    # Accumulated in twice the precision, as PyTorch does: rounding errors of all steps would add up.
    kind: Any = {"float32": np.float64, "float16": np.float32}.get(input.dtype.name)
    if not dtypes.is_floating(input.dtype):
        kind = np.int64
    run = functools.partial(getattr(xp, function), axis=dim, dtype=kind)
    if kind in (None, np.int64):
        return run(input)
    if xp is not np or input.ndim < 2 or input.size < cpu.BLOCK:
        return run(input).astype(input.dtype)
    # In parts, so that what is wider stays in cache.
    out = np.empty(input.shape, input.dtype)
    axis = 0 if dim else input.ndim - 1
    step = max(1, cpu.BLOCK // 4 * input.shape[axis] // input.size)

    def task(start: int, stop: int) -> None:
        for i in range(start, stop, step):
            part = at(axis, slice(i, min(i + step, stop)))
            out[part] = run(input[part])

    cpu.parallel(task, input.shape[axis], step)
    return out


@op(
    samples=lambda t: [(t(2, 3), 1, False), (t(3, 2), 0, True), (t.ints(3), 0, False)],
    torch=lambda torch, x, dim, reverse: x.flip(dim).cumsum(dim).flip(dim) if reverse else x.cumsum(dim),
)
def cumsum(xp, input, /, dim, reverse):
    """The running sum along ``dim``, from the end if ``reverse``."""
    if not reverse:
        return _run(xp, "cumsum", input, dim)
    return xp.flip(_run(xp, "cumsum", xp.flip(input, dim), dim), dim)


cumsum.rules(input=lambda F, g, dim, reverse: F.cumsum(g, dim, not reverse))


@op(samples=lambda t: [(t(2, 3), 1), (t(3, 2), 0), (t(3, 4) * _holes(3, 4), 1), (t.ints(3), 0)])
def cumprod(xp, input, /, dim):
    """The running product along ``dim``."""
    return _run(xp, "cumprod", input, dim)


def _cumprod_rule(F: Any, g: Any, input: Any, out: Any, dim: int) -> Any:
    zeros = _zeros_in_turn(F, input, dim)
    answer = F.cumsum(g * out, dim, True) / (_without_zeros(F, input) if zeros else input)
    for mask in zeros:
        ones = F.constant(module_of(mask).ones_like(F.array(input)))
        others = F.cumprod(F.where(mask, ones, input), dim)
        answer = F.where(mask, F.cumsum(g * others, dim, True), answer)
    return answer


cumprod.rules(input=_cumprod_rule)


def accumulated(xp: Any, function: Callable[[Any, Any], Any], x: Any, dim: int) -> Any:
    """``function``, an associative one, of all elements up to each: from spans of 1, 2, 4, ... (Hillis and Steele)."""
    n, step = x.shape[dim], 1
    while step < n:
        new, old = at(dim, slice(step, None)), at(dim, slice(None, n - step))
        x = xp.concatenate([x[at(dim, slice(None, step))], function(x[new], x[old])], axis=dim)
        step *= 2
    return x


def accumulate(xp: Any, function: str, x: Any, dim: int) -> Any:
    """``numpy.<function>.accumulate`` for either array module; CuPy's functions have no such method."""
    ufunc: Any = getattr(xp, function)
    return ufunc.accumulate(x, axis=dim) if xp is np else accumulated(xp, ufunc, x, dim)


def along(function: Callable[[Any, int], Any], input: Any, dim: int) -> Any:
    """Apply along a dimension, of a 0-d tensor as if it had one."""
    dim = normalize_dim(dim, input._data.ndim)
    return function(input, dim) if input._data.ndim else function(input.reshape(1), 0).reshape(())


@reduction()
def _cumsum(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """The running sum along ``dim``; of integers and bools in int64.

    Raises:
        IndexError: there is no such dimension.
    """
    return along(lambda x, d: cumsum(x, d, False), input if dtype is None else input.to(dtype), dim)


@reduction()
def _cumprod(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """The running product along ``dim``; of integers and bools in int64.

    Raises:
        IndexError: there is no such dimension.
    """
    return along(cumprod, input if dtype is None else input.to(dtype), dim)


# Extremes


def _share_rule(F: Any, g: Any, input: Any, out: Any, dim: tuple[int, ...], keepdim: bool) -> Any:
    """The gradient in equal parts to all elements that equal the result (are NaN, where that is)."""
    mask = (input == _spread(F, out, input.shape, dim, keepdim)) | (input != input)
    count = F.sum(F.to_dtype(mask, input.dtype), dim, keepdim)
    return F.keep(_spread(F, g / count, input.shape, dim, keepdim), mask)


def _ties(t: Any) -> list[Any]:
    return [*_dims()(t), (t.ints(2, 4, high=3), (1,), False)]


@op(samples=_ties)
def amax(xp, input, /, dim, keepdim):
    """The largest element over ``dim``; NaN if there is one."""
    return input.max(axis=dim, keepdims=keepdim)


amax.kernel(fused.reduction.amax)
amax.rules(input=_share_rule)


@op(samples=_ties)
def amin(xp, input, /, dim, keepdim):
    """The smallest element over ``dim``; NaN if there is one."""
    return input.min(axis=dim, keepdims=keepdim)


amin.kernel(fused.reduction.amin)
amin.rules(input=_share_rule)


def _scattered(F: Any, g: Any, input_shape: tuple[int, ...], aux: Any, dim: int, keepdim: bool) -> Any:
    """The gradient of picking the elements at ``aux``, one of each row along ``dim``."""
    return F.scatter_sum(g if keepdim else F.reshape(g, tuple(aux.shape)), aux, dim, tuple(input_shape))


def _pick(xp: Any, input: Any, index: Any, dim: int, keepdim: bool) -> tuple[Any, Any]:
    values = xp.take_along_axis(input, index, dim)
    return (values if keepdim else values.squeeze(dim)), index


def _found(xp: Any, input: Any, values: Any, dim: int, keepdim: bool) -> tuple[Any, Any]:
    """Values that were picked from rows along ``dim``, and where the first of each is."""
    same = input == values
    if dtypes.is_floating(input.dtype):
        same |= (input != input) & (values != values)
    index = xp.expand_dims(xp.argmax(same, axis=dim), dim)
    return (values if keepdim else values.squeeze(dim)), index


def _one_dim(name: str) -> dict[str, Any]:
    return {
        "samples": lambda t: [(t(2, 3), 1, False), (t(3, 2, 2), 0, True), (t.ints(2, 3), 1, False)],
        "torch": lambda torch, x, dim, keepdim: getattr(torch, name)(x, dim, keepdim)[0],
        "aux": True,
    }


@op(**_one_dim("max"))
def max_dim(xp, input, /, dim, keepdim, recording):
    """The largest element along ``dim``, and where the first of them is."""
    return input.max(axis=dim, keepdims=keepdim), input.argmax(axis=dim, keepdims=True)


max_dim.rules(input=_scattered)


@op(**_one_dim("min"))
def min_dim(xp, input, /, dim, keepdim, recording):
    """The smallest element along ``dim``, and where the first of them is."""
    return input.min(axis=dim, keepdims=keepdim), input.argmin(axis=dim, keepdims=True)


min_dim.rules(input=_scattered)


@op(**_one_dim("median"))
def median_dim(xp, input, /, dim, keepdim, recording):
    """The lower median along ``dim``, NaN if there is one, and where it is."""
    order = xp.argsort(input, axis=dim, kind="stable")
    middle = order[(slice(None),) * dim + (slice((input.shape[dim] - 1) // 2, (input.shape[dim] + 1) // 2),)]
    if dtypes.is_floating(input.dtype):
        nan = xp.isnan(input)
        first = xp.expand_dims(xp.argmax(nan, axis=dim), dim)
        middle = xp.where(xp.take_along_axis(nan, first, dim), first, middle)
    return _pick(xp, input, middle, dim, keepdim)


median_dim.rules(input=_scattered)


def _without_nan(t: Any) -> list[Any]:
    holes = core.Tensor._wrap(np.where(np.arange(8).reshape(2, 4) % 3, 1, math.nan))
    return [(t(2, 4) * holes, 1, False), (t(3, 2), 0, True), (t(2, 1) * math.nan, 1, False), (t.ints(2, 3), 1, False)]


@op(
    samples=_without_nan,
    torch=lambda torch, x, dim, keepdim: torch.nanmedian(x, dim, keepdim)[0],
    aux=True,
    tests={"not_the_derivative": (0, 2)},
)
def nanmedian_dim(xp, input, /, dim, keepdim, recording):
    """The lower median of what is not NaN along ``dim``, and where the first like it is; NaN if there is no other."""
    # NaN is sorted to the end.
    count = xp.sum(input == input, axis=dim, keepdims=True)
    return _found(
        xp, input, xp.take_along_axis(xp.sort(input, axis=dim), xp.maximum(count - 1, 0) // 2, dim), dim, keepdim
    )


nanmedian_dim.rules(input=_scattered)


@op(
    samples=lambda t: [(t(2, 4), 2, 1, False), (t(3, 2), 3, 0, True), (t.ints(2, 5), 3, 1, False)],
    torch=lambda torch, x, k, dim, keepdim: torch.kthvalue(x, k, dim, keepdim)[0],
    aux=True,
)
def kthvalue(xp, input, /, k, dim, keepdim, recording):
    """The k-th smallest element along ``dim``, and where the first like it is."""
    values = xp.partition(input, k - 1, axis=dim)[at(dim, slice(k - 1, k))]
    return _found(xp, input, values, dim, keepdim)


kthvalue.rules(input=_scattered)


@op(
    samples=lambda t: [(t(2, 3), 1, False), (t.ints(3, 7, high=3), 1, True), (t.ints(6, 2, high=3), 0, False)],
    torch=lambda torch, x, dim, keepdim: torch.mode(x, dim, keepdim)[0],
    aux=True,
)
def mode(xp, input, /, dim, keepdim, recording):
    """The smallest of the most frequent elements along ``dim``, and the last place where it is."""
    order = xp.argsort(input, axis=dim, kind="stable")
    ordered = xp.take_along_axis(input, order, dim)
    n = input.shape[dim]
    # How far each place is from the start of its run of equal elements: the furthest ends the longest run.
    places = xp.arange(n).reshape(-1, *(1,) * (input.ndim - 1 - dim))
    new = xp.ones(input.shape, bool)
    new[at(dim, slice(1, None))] = ordered[at(dim, slice(1, None))] != ordered[at(dim, slice(None, -1))]
    distance = places - accumulate(xp, "maximum", xp.where(new, places, 0), dim)
    last = xp.expand_dims(xp.argmax(distance, axis=dim), dim)
    return _pick(xp, input, xp.take_along_axis(order, last, dim), dim, keepdim)


mode.rules(input=_scattered)


def _wrapped(array: Any) -> Any:
    return core.Tensor._wrap(array)


def _indices(values: Any, index: Any) -> Any:
    """What a user may write into: the gradient rule keeps the indices too."""
    return core.Tensor._wrap(index.copy() if values._needs_grad else index)


def _picked(primitive: Any, result: Any, input: Any, dim: int, keepdim: bool, *params: Any) -> Any:
    """The named pair of values and indices along one dimension."""
    name = primitive.name.removesuffix("_dim")
    dim = normalize_dim(dim, input._data.ndim)
    if not input._data.ndim:
        values, index = primitive.apply_with_aux((input.reshape(1),), (*params, 0, False))
        return result(values, _indices(values, index.reshape(())))
    _not_empty(name, input, (dim,))
    values, index = primitive.apply_with_aux((input,), (*params, dim, keepdim))
    return result(values, _indices(values, index if keepdim else index.squeeze(dim)))


def _extreme(name: str, whole: Any, along: Any, between: Any, what: str) -> Any:
    result = named(name, "values indices")

    def function(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
        if isinstance(dim, core.Tensor):
            dim, other = None, dim
        if other is not None:
            return between(input, other)
        if dim is None:
            _need_dim(name, input)
            return whole(input, tuple(range(input._data.ndim)), False)
        return _picked(along, result, input, dim, keepdim)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""The {what} element; over ``dim``, those and their indices; of two tensors, that of each pair.

    NaN counts as the {what}.  Equal elements share the gradient, except over ``dim``: there the first gets it.

    Args:
        dim: the dimension to reduce, or the tensor to compare with.
        keepdim: keep the dimension reduced, with size 1.

    Raises:
        RuntimeError: there are no elements and no ``dim`` was given.
        IndexError: there is no such dimension, or its size is 0.
    """
    return reduction()(function)


_max = _extreme("max", amax, max_dim, maximum, "largest")
_min = _extreme("min", amin, min_dim, minimum, "smallest")


def _extreme_function(name: str, primitive: Any, what: str) -> Any:
    def function(input: Any, dim: Any = (), keepdim: bool = False) -> Any:
        dims = normalize_dims(dim, input._data.ndim)
        if dim is None or dim == ():
            _need_dim(name, input)
        _not_empty(name, input, dims)
        return primitive(input, dims, keepdim)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""The {what} element over ``dim`` (all dimensions unless given); equal ones share the gradient.

    Raises:
        IndexError: there is no such dimension, or its size is 0.
        RuntimeError: there are no elements and no ``dim`` was given.
    """
    return reduction()(function)


_amax = _extreme_function("amax", amax, "largest")
_amin = _extreme_function("amin", amin, "smallest")
_Aminmax = named("aminmax", "min max")
_Median = named("median", "values indices")
_Nanmedian, _Kth, _Mode = (named(name, "values indices") for name in ("nanmedian", "kthvalue", "mode"))


@reduction()
def aminmax(input: Any, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """The smallest and the largest element, in all or over ``dim``, a named pair ``(min, max)``."""
    dims = () if dim is None else dim
    return _Aminmax(_amin(input, dims, keepdim), _amax(input, dims, keepdim))


@op(samples=lambda t: [(t(5),), (t(4),)], name="median_all", torch="median")
def median_all(xp, input, /):
    """The lower median of a vector; NaN if it holds one, or nothing."""
    if not input.size:
        return xp.full((), math.nan, input.dtype)
    ordered = xp.sort(input)
    # NaN is sorted to the end.
    return xp.where(ordered[-1] != ordered[-1], ordered[-1], ordered[(input.size - 1) // 2])


median_all.rules(input=lambda F, g, input, out: _share_rule(F, g, input, out, (0,), False))


@reduction()
def _median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median, of an even number of elements the lower one; over ``dim``, the medians and their indices.

    Raises:
        IndexError: there is no such dimension, or its size is 0.
    """
    return median_all(input.reshape(-1)) if dim is None else _picked(median_dim, _Median, input, dim, keepdim)


@op(
    samples=lambda t: [(t(4),), (t(5) * core.Tensor._wrap(np.array([1, math.nan, 1, 1, math.nan])),)],
    torch="nanmedian",
    tests={"not_the_derivative": (1,)},
)
def nanmedian_all(xp, input, /):
    """The lower median of what is not NaN in a vector; NaN if there is nothing else."""
    if not input.size:
        return xp.full((), math.nan, input.dtype)
    return xp.sort(input)[xp.maximum(xp.sum(input == input) - 1, 0) // 2]


def _nanmedian_rule(F: Any, g: Any, input: Any, out: Any) -> Any:
    mask = (input == out) | (out != out)
    return F.keep(F.expand(g / F.sum(F.to_dtype(mask, input.dtype), (0,), False), tuple(input.shape)), mask)


nanmedian_all.rules(input=_nanmedian_rule)


def _no_bools(name: str, input: Any) -> None:
    if input.dtype.kind == "b":
        raise NotImplementedError(f"{name} is not implemented for bool tensors; convert it with .int()")


@reduction()
def nanmedian(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median of what is not NaN; over ``dim``, those and their indices; see ``median``."""
    _no_bools("nanmedian", input)
    if dim is None:
        return nanmedian_all(input.reshape(-1))
    return _picked(nanmedian_dim, _Nanmedian, input, dim, keepdim)


@reduction()
def _kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest elements along ``dim`` and their indices, a named pair; k counts from 1, NaN as the largest.

    Raises:
        RuntimeError: ``k`` is not between 1 and the dimension's size.
        IndexError: there is no such dimension, or its size is 0.
    """
    _no_bools("kthvalue", input)
    dim = normalize_dim(dim, input._data.ndim)
    k, size = operator.index(k), input._data.shape[dim] if input._data.ndim else 1
    if size and not 1 <= k <= size:
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {dim}: k is {k}, its size {size}")
    return _picked(kthvalue, _Kth, input, dim, keepdim, k)


@reduction()
def _mode(input: Any, dim: int = -1, keepdim: bool = False) -> Any:
    """The smallest of the most frequent elements along ``dim`` and the last places where they are, a named pair.

    Raises:
        IndexError: there is no such dimension, or its size is 0.
    """
    return _picked(mode, _Mode, input, dim, keepdim)


def _arg(name: str, what: str) -> Any:
    @op(
        samples=lambda t: [(t(2, 3), 1, False), (t(3, 2), 0, True), (t.ints(2, 4, high=3), 1, False)],
        name=name,
        differentiable=False,
    )
    def primitive(xp, input, /, dim, keepdim):
        return getattr(input, name)(axis=dim, keepdims=keepdim)

    def function(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
        if input.dtype.kind == "b":
            raise RuntimeError(f"{name}(): does not support bool input; convert it with .int()")
        ndim = input._data.ndim
        if dim is None or not ndim:
            normalize_dims(dim, ndim)
            _need_dim(name, input, IndexError)
            out = primitive(input.reshape(-1), 0, False)
            return out.reshape((1,) * ndim) if keepdim else out
        dim = normalize_dim(dim, ndim)
        _not_empty(name, input, (dim,))
        return primitive(input, dim, keepdim)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""The index of the first {what} element, in the flattened tensor or along ``dim``.

    Raises:
        IndexError: there is no such dimension, or there is nothing along it.
        RuntimeError: ``input`` is a bool tensor.
    """
    return reduction()(function)


argmax = _arg("argmax", "largest")
argmin = _arg("argmin", "smallest")


def _flags(t: Any) -> list[Any]:
    return [(t.bools(2, 3), (1,), False), (t.ints(3, 2, high=2), (0, 1), False), (t(3, 2, 2), (0, 2), True)]


@op(samples=_flags, differentiable=False)
def all(xp, input, /, dim, keepdim):
    """Whether all elements over ``dim`` are nonzero."""
    return (np.logical_and.reduce if xp is np else xp.all)(input, axis=dim, keepdims=keepdim)


@op(samples=_flags, differentiable=False)
def any(xp, input, /, dim, keepdim):
    """Whether an element over ``dim`` is nonzero."""
    return (np.logical_or.reduce if xp is np else xp.any)(input, axis=dim, keepdims=keepdim)


def _truth(name: str, what: str) -> Any:
    primitive = core.REGISTRY[name]

    def function(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
        out = primitive(input, normalize_dims(dim, input._data.ndim), keepdim)
        return out.to(dtypes.uint8) if input.dtype == dtypes.uint8 else out

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"""Whether {what} nonzero (true), in all or over ``dim``: a bool tensor, of uint8 a uint8 tensor."""
    )
    return reduction()(function)


_all = _truth("all", "all elements are")
_any = _truth("any", "any element is")


# Norms and distances


@op(
    samples=lambda t: [
        (t(2, 3), 2.0, (0, 1), False),
        (t(2, 3, 2), 1.0, (1,), True),
        (t(2, 3), math.inf, (1,), False),
        (t(2, 3), -math.inf, (0,), False),
        (t(2, 3), 3.0, (0, 1), False),
        (t(2, 3), 1.5, (1,), False),
        (t(2, 3), 0.5, (1,), False),
        (t(2, 3), 0.0, (1,), False),
        (t(), 2.0, (), False),
    ],
    torch=lambda torch, x, p, dim, keepdim: torch.linalg.vector_norm(x, p, dim, keepdim),
)
@wide
def norm(xp, input, /, p, dim, keepdim):
    """The p-norm of the elements over ``dim``."""
    if p == 2:
        return xp.sqrt(_square_sum(xp, input, dim, keepdim))
    size = xp.abs(input)
    if math.isinf(p):
        return (xp.max if p > 0 else xp.min)(size, axis=dim, keepdims=keepdim)
    if p == 0:
        return total(xp, (input != 0).astype(input.dtype), dim, keepdim)
    if p == 1:
        return total(xp, size, dim, keepdim)
    return total(xp, size**p, dim, keepdim) ** (1 / p)


def _square_sum(xp: Any, x: Any, dim: tuple[int, ...], keepdim: bool) -> Any:
    if xp is not np or len(dim) < x.ndim or not x.ndim or not x.flags.c_contiguous:
        return total(xp, xp.square(x), dim, keepdim)
    # Dot products of parts, added up in float64: one pass, and no squares in memory.
    flat = x.reshape(-1)
    parts = [float(np.dot(part, part)) for part in np.split(flat, range(cpu.BLOCK, x.size, cpu.BLOCK))]
    return np.full(_kept(x.shape, dim) if keepdim else (), math.fsum(parts), x.dtype)


def _norm_rule(F: Any, g: Any, input: Any, out: Any, p: float, dim: tuple[int, ...], keepdim: bool) -> Any:
    if p == 0:
        return zero(F, input)
    if p == 2:
        return input * _spread(F, F.keep(g / out, out != 0), input.shape, dim, keepdim)
    if p == 1:
        return F.sign(input) * _spread(F, g, input.shape, dim, keepdim)
    size = F.abs(input)
    if math.isinf(p):
        return F.sign(input) * _share_rule(F, g, size, out, dim, keepdim)
    # A norm of 0 has the gradient 0, and so has an element that is 0.
    scale = F.keep(g * F.pow(out, 1 - p), out != 0)
    power = F.keep(F.pow(size, p - 1), size != 0)
    return F.sign(input) * power * _spread(F, scale, input.shape, dim, keepdim)


norm.rules(input=_norm_rule)


@reduction()
def _norm(input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    """The p-norm of all elements, or over ``dim``; where it is 0, so is its gradient.

    Args:
        p: 2 (as "fro" is), 1, inf, -inf, 0 (counts nonzero elements) or any number.
        dim: a dimension or several; None for all.
        keepdim: keep the dimensions reduced, with size 1.
        dtype: convert to it first.

    Raises:
        RuntimeError: ``input`` is not floating point, or is empty and has no such norm; the norm is not known.
    """
    if p == "fro" or p is None:
        p = 2.0
    if not isinstance(p, int | float):
        raise RuntimeError(f"norm: p must be a number or 'fro', but got {p!r}; other matrix norms are in linalg")
    input = input if dtype is None else input.to(dtype)
    dims = normalize_dims(dim, floating("norm", input)._data.ndim)
    if (math.isinf(p) or p < 0) and not _count(input._data.shape, dims):
        raise RuntimeError(
            f"norm: cannot compute the {p} norm on an empty tensor because the operation does not have an identity"
        )
    return norm(input, float(p), dims, keepdim)


@public()
def dist(input: Any, other: Any, p: float = 2) -> Any:
    """The p-norm of ``input - other``."""
    return _norm(input - other, p)


@public()
def renorm(input: Any, p: float, dim: int, maxnorm: float) -> Any:
    """``input`` with each slice along ``dim`` scaled down to the p-norm ``maxnorm``, if it is longer.

    Raises:
        RuntimeError: ``input`` is not floating point or has less than two dimensions, ``p`` is not positive, or
            ``maxnorm`` is negative.
    """
    if not p > 0:
        raise RuntimeError(f"renorm: non-positive-norm not supported, got p={p}")
    if not maxnorm >= 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    ndim = floating("renorm", input)._data.ndim
    if ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {ndim} dimensions")
    dim = normalize_dim(dim, ndim)
    size = norm(input, float(p), tuple(d for d in range(ndim) if d != dim), True)
    return input * taped.where(size > maxnorm, maxnorm / (size + 1e-7), 1.0)


# Its steps need the old values, of which changing in place keeps no copy.
METHODS["renorm_"] = inplace_method("renorm", lambda input, *args, **named: renorm(input.clone(), *args, **named))


# Order


@op(
    samples=lambda t: [(t(2, 4), 1, False), (t(3, 2), 0, True), (t.ints(2, 6, high=3), 1, True)],
    torch=lambda torch, x, dim, descending: torch.sort(x, dim=dim, descending=descending, stable=True)[0],
    aux=True,
)
def sort(xp, input, /, dim, descending, recording):
    """The elements in order along ``dim``, NaN as the largest, and where they were; equal ones keep their order."""
    index = _argsort(xp, input, dim, descending)
    return xp.take_along_axis(input, index, dim), index


def _argsort(xp: Any, x: Any, dim: int, descending: bool) -> Any:
    if not descending:
        return xp.argsort(x, axis=dim, kind="stable")
    # Sorted backwards and read backwards, equal elements keep their order.
    return x.shape[dim] - 1 - xp.flip(xp.argsort(xp.flip(x, dim), axis=dim, kind="stable"), dim)


sort.rules(input=lambda F, g, input_shape, aux, dim: F.scatter_sum(g, aux, dim, tuple(input_shape)))


@op(
    samples=lambda t: [(t(2, 5), 2, 1, True), (t(4, 2), 3, 0, False), (t(3), 3, 0, True), (t(2, 3), 0, 1, True)],
    torch=lambda torch, x, k, dim, largest: torch.topk(x, k, dim, largest)[0],
    aux=True,
)
def topk(xp, input, /, k, dim, largest, recording):
    """The ``k`` largest (or smallest) elements along ``dim``, in order, and where they are."""
    n = input.shape[dim]
    index = None
    if 0 < k < n and n > 64:
        part = xp.argpartition(input, n - k if largest else k - 1, axis=dim)
        index = xp.sort(xp.take(part, xp.arange(n - k, n) if largest else xp.arange(k), axis=dim), axis=dim)
    candidates = input if index is None else xp.take_along_axis(input, index, dim)
    order = xp.take(_argsort(xp, candidates, dim, largest), xp.arange(k), axis=dim)
    index = order if index is None else xp.take_along_axis(index, order, dim)
    return xp.take_along_axis(input, index, dim), index


topk.rules(input=lambda F, g, input_shape, aux, dim: F.scatter_sum(g, aux, dim, tuple(input_shape)))

_Sort, _Topk = named("sort", "values indices"), named("topk", "values indices")


def ordered(primitive: Any, result: Any, input: Any, *params: Any) -> Any:
    scalar = not input._data.ndim
    values, index = primitive.apply_with_aux((input.reshape(1) if scalar else input,), params)
    index = _indices(values, index)
    return result(values.reshape(()), index.reshape(())) if scalar else result(values, index)


@reduction()
def _sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """The elements in order along ``dim`` and their indices, a named pair ``(values, indices)``.

    NaN counts as the largest; equal elements always keep their order.

    Raises:
        IndexError: there is no such dimension.
    """
    return ordered(sort, _Sort, input, normalize_dim(dim, input._data.ndim), bool(descending))


@reduction()
def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """The indices that put the elements in order along ``dim``; see ``sort``."""
    return _sort(input.detach(), dim, descending)[1]


@public()
def msort(input: Any) -> Any:
    """The elements in order along dimension 0."""
    return _sort(input, 0)[0]


@reduction()
def _topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The ``k`` largest elements along ``dim`` and their indices, a named pair ``(values, indices)``, in order.

    Args:
        largest: False for the smallest.
        sorted: they are in any case.

    Raises:
        TypeError: ``k`` is no int.
        RuntimeError: ``k`` is negative or above the dimension's size.
    """
    dim = normalize_dim(dim, input._data.ndim)
    k = operator.index(k)
    size = input._data.shape[dim] if input._data.ndim else 1
    if not 0 <= k <= size:
        raise RuntimeError(f"topk: selected index k out of range: k is {k}, dimension {dim} has size {size}")
    return ordered(topk, _Topk, input, k, dim, bool(largest))


@public()
def unique(
    input: Any, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The distinct elements in order, or the distinct slices along ``dim``; waits for the device.

    Args:
        sorted: they are in any case.
        return_inverse: also return, for each element, which of the distinct ones it is.
        return_counts: also return how often each occurs.

    Returns:
        A tensor, or a tuple of them if more was asked for.
    """
    array = input._data
    xp = module_of(array)
    axis = None if dim is None else normalize_dim(dim, array.ndim)
    values, inverse, counts = xp.unique(array, return_inverse=True, return_counts=True, axis=axis, equal_nan=False)
    inverse = inverse.reshape(array.shape if axis is None else -1)
    found = [values] + [inverse] * return_inverse + [counts] * return_counts
    wrapped = tuple(_wrapped(x) for x in found)
    return wrapped if len(wrapped) > 1 else wrapped[0]


@public()
def unique_consecutive(
    input: Any, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The elements, or the slices along ``dim``, without those equal to the one before; waits for the device.

    Args:
        return_inverse: also return, for each element, which of those found it is.
        return_counts: also return how long the run of each is.

    Returns:
        A tensor, or a tuple of them if more was asked for.
    """
    array = input._data
    xp = module_of(array)
    axis = 0 if dim is None else normalize_dim(dim, array.ndim)
    rows = array.reshape(-1) if dim is None or not array.ndim else xp.moveaxis(array, axis, 0)
    new = xp.ones(len(rows), bool)
    differs = rows[1:] != rows[:-1]
    new[1:] = xp.any(differs, axis=tuple(range(1, rows.ndim))) if rows.ndim > 1 else differs
    starts = xp.nonzero(new)[0]
    found = [xp.moveaxis(rows[starts], 0, axis)]
    if return_inverse:
        found.append((xp.cumsum(new) - 1).reshape(array.shape if dim is None else -1))
    if return_counts:
        found.append(xp.concatenate([starts[1:], xp.full(min(len(rows), 1), len(rows))]) - starts)
    wrapped = tuple(_wrapped(x) for x in found)
    return wrapped if len(wrapped) > 1 else wrapped[0]


@public()
def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Any:
    """How often each integer from 0 occurs in a vector, or the sums of their ``weights``.

    Raises:
        RuntimeError: ``input`` is no vector of non-negative integers, or the weights do not match it.
    """
    array = input._data
    if array.ndim != 1 or array.dtype.kind not in "iu" or (array.size and int(array.min()) < 0):
        raise RuntimeError(
            f"bincount only supports 1-d non-negative integral inputs, not shape {array.shape} of {array.dtype}"
        )
    if weights is None:
        return _wrapped(module_of(array).bincount(array, minlength=minlength).astype(np.int64))
    if weights._data.shape != array.shape:
        raise RuntimeError(
            f"bincount: weights of shape {weights._data.shape} do not match the input's shape {array.shape}"
        )
    count = max(minlength, int(array.max()) + 1 if array.size else 0)
    rows = weights._data.astype(np.float64).reshape(-1, 1)
    # CuPy's bincount adds weights in whatever order.
    out = raw.sum_rows(rows, array, count).reshape(-1)
    return _wrapped(out.astype(weights.dtype if weights.dtype == np.float32 else np.float64))


for _name in ("cumsum", "cumprod"):
    METHODS[f"{_name}_"] = inplace_method(_name, FUNCTIONS[_name])
