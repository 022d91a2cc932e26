"""Quantiles, histograms, covariances, differences, and which elements are among others."""

from __future__ import annotations

import builtins
import math
import operator
from typing import Any

import numpy as np

from ..backend import beside, dtypes, module_of
from . import core
from .core import as_tensors, normalize_dim, public, taped
from .pointwise import ranked
from .reduction import bincount, named, reduction

_MODES = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile(name: str, input: Any, q: Any, dim: int | None, keepdim: bool, interpolation: str, skip_nan: bool) -> Any:
    if interpolation not in _MODES:
        raise RuntimeError(f"{name}() interpolation must be one of {', '.join(_MODES)}, but got {interpolation!r}")
    if input.dtype not in (np.float32, np.float64):
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype, but got {input.dtype}")
    if not input._data.size:
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    if not isinstance(q, core.Tensor):
        if not isinstance(q, int | float | np.number):
            raise TypeError(f"{name}() q must be a number or a tensor, but got {type(q).__name__}")
        with beside(input._data):
            q = core.Tensor._wrap(module_of(input._data).full((), q, input.dtype))
    if q._data.ndim > 1:
        raise RuntimeError(f"{name}() q must be a scalar or 1D tensor, but got shape {tuple(q.shape)}")
    if q.dtype != input.dtype:
        raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor, but got {q.dtype}")
    if not bool(((q >= 0) & (q <= 1)).all()):
        raise RuntimeError(f"{name}() q must be in the range [0, 1], but got {q.tolist()}")
    ndim = input._data.ndim
    place = None if dim is None else normalize_dim(dim, ndim)
    rows = input.reshape(-1) if place is None or not ndim else input.movedim(place, -1)
    ordered, _ = rows.sort(-1)
    nan = taped.isnan(ordered)
    if skip_nan:
        ranks = q.reshape(-1) * ((~nan).sum(-1, keepdim=True) - 1).to(q.dtype)
        ranks = ranks.masked_fill(ranks < 0, 0)
    else:
        # NaN is sorted to the end.
        ranks = (q * (rows.shape[-1] - 1)).reshape(-1).masked_fill(nan[..., -1:], rows.shape[-1] - 1)
    rounding = {"lower": "floor", "higher": "ceil", "nearest": "round"}.get(interpolation)
    if rounding:
        ranks = getattr(ranks, rounding)()
    below = ranks.detach().floor()
    out = ordered.gather(-1, below.long())
    if not rounding:
        above = ordered.gather(-1, ranks.detach().ceil().long())
        out = taped.lerp(out, above, 0.5 if interpolation == "midpoint" else ranks - below)
    if keepdim:
        kept = [1 if place is None or d == place else n for d, n in enumerate(input._data.shape)]
        out = out.reshape(*kept, q._data.size)
    return out.movedim(-1, 0) if q._data.ndim else out.squeeze(-1)


@reduction()
def quantile(
    input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Any:
    """The q-quantiles of all elements, or along ``dim``; NaN where one of them is.

    Args:
        q: a number from 0 to 1, or a vector of them, which becomes the first dimension of the result.
        dim: the dimension to reduce; None for all.
        keepdim: keep the dimensions reduced, with size 1.
        interpolation: how to choose between the two nearest elements: "linear", "lower", "higher", "midpoint" or
            "nearest".

    Raises:
        RuntimeError: ``input`` is empty or neither float32 nor float64, ``q`` is of another dtype, no vector or out
            of its range, or the interpolation is unknown.
        IndexError: there is no such dimension.
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


@reduction()
def nanquantile(
    input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Any:
    """The q-quantiles of the elements that are not NaN; see ``quantile``."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)


def _limits(name: str, array: Any, low: float, high: float, margin: float) -> tuple[float, float]:
    """The ends of a histogram: those of the data where they are given as equal; widened if that is one number."""
    if low > high:
        raise RuntimeError(f"{name}(): max must be larger than min, but got min {low} and max {high}")
    if low == high and array.size:
        low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RuntimeError(f"{name}(): the range [{low}, {high}] is not finite")
    return (low - margin, high + margin) if low == high else (low, high)


def _floating(name: str, input: Any, bins: Any) -> Any:
    if not input.is_floating_point():
        raise NotImplementedError(f"{name}() is not implemented for {input.dtype}; convert it with .float()")
    if not isinstance(bins, core.Tensor) and operator.index(bins) <= 0:
        raise RuntimeError(f"{name}(): bins must be > 0, but got {bins}")
    return input._data.reshape(-1)


def _counted(array: Any, place: Any, inside: Any, bins: int, weight: Any = None) -> Any:
    """How many elements (or how much of their weight) fall into each bin; those outside are in none."""
    place = module_of(array).where(inside, place, bins).astype(np.int64)
    return bincount(core.Tensor._wrap(place), weight, bins + 1)[:bins]


@public()
def histc(input: Any, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    """How many elements fall into each of ``bins`` equal intervals from ``min`` to ``max``, in the input's dtype.

    Elements outside (and NaN) are in none. Equal bounds stand for the smallest and largest element.

    Raises:
        NotImplementedError: ``input`` is not floating point.
        RuntimeError: there are no bins, ``min`` is above ``max``, or a bound is not finite.
    """
    array = _floating("histc", input, bins)
    xp = module_of(array)
    with beside(array):
        low, high = _limits("histc", array, float(min), float(max), 1.0)
        inside = (array >= low) & (array <= high)
        place = xp.minimum((array - low) * bins / (high - low), bins - 1)
        return _counted(array, place, inside, bins).to(input.dtype)


_Histogram = named("histogram", "hist bin_edges")


@public()
def histogram(input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False) -> Any:
    """How many elements fall into each bin, and the bins' edges: a named pair ``(hist, bin_edges)``.

    A bin holds its lower edge, the last one both. Elements outside (and NaN) are in none.

    Args:
        bins: the number of equal bins, or a rising vector of edges.
        range: the outer edges of equal bins; those of the data unless given.
        weight: how much each element counts; of the shape and dtype of ``input``.
        density: divide by the total and the bins' widths.

    Raises:
        NotImplementedError: ``input`` is not floating point.
        RuntimeError: there are no bins, the edges do not rise or are of another dtype, the range is empty or not
            finite, or the weights do not fit.
    """
    array = _floating("histogram", input, bins)
    xp = module_of(array)
    if weight is not None and (weight.shape != input.shape or weight.dtype != input.dtype):
        raise RuntimeError(
            f"histogram(): weight must have the shape and dtype of input, {tuple(input.shape)} and {input.dtype}, "
            f"but got {tuple(weight.shape)} and {weight.dtype}"
        )
    with beside(array):
        if isinstance(bins, core.Tensor):
            edges = bins._data
            if edges.ndim != 1 or len(edges) < 2 or edges.dtype != array.dtype:
                raise RuntimeError(
                    f"histogram(): bins must be a vector of edges of dtype {input.dtype}, but got shape "
                    f"{tuple(bins.shape)} and dtype {bins.dtype}"
                )
            if range is not None:
                raise TypeError("histogram(): range goes with a number of bins, not with their edges")
            if not bool((edges[1:] >= edges[:-1]).all()):
                raise RuntimeError("histogram(): the edges in bins must rise")
        else:
            if range is not None and len(range) != 2:
                raise RuntimeError(f"histogram(): range should have 2 elements, but got {len(range)}")
            low, high = (0.0, 0.0) if range is None else map(float, range)
            if range is None and not array.size:
                high = 1.0
            edges = xp.linspace(*_limits("histogram", array, low, high, 0.5), bins + 1, dtype=array.dtype)
        count = len(edges) - 1
        place = xp.minimum(xp.searchsorted(edges, array, side="right") - 1, count - 1)
        inside = (array >= edges[0]) & (array <= edges[-1])
        hist = _counted(array, place, inside, count, None if weight is None else weight.detach().reshape(-1))
        hist = hist.to(input.dtype)
        if density:
            hist = hist / hist.sum() / core.Tensor._wrap(edges[1:] - edges[:-1])
        return _Histogram(hist, core.Tensor._wrap(edges.copy()))


@public(method=False)
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Any:
    """Which elements are among ``test_elements``: bools of the shape of ``elements``; one of the two may be a number.

    Args:
        assume_unique: accepted; it changes no result.
        invert: which are not.

    Raises:
        TypeError: neither is a tensor, or one is neither that nor a number.
    """
    given = (elements, test_elements)
    if not any(isinstance(value, core.Tensor) for value in given):
        names = " and ".join(type(value).__name__ for value in given)
        raise TypeError(f"isin() expects a tensor and a tensor or number, but got {names}")
    tensors = as_tensors("isin", given)
    dtype = dtypes.result_type(*map(ranked, tensors))
    arrays = [t.detach().to(dtype)._data for t in tensors]
    xp = module_of(arrays[0])
    with beside(arrays[0]):
        return core.Tensor._wrap(xp.asarray(xp.isin(*arrays, invert=invert)))


@public()
def cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Any:
    """The covariance matrix of the rows of ``input``, whose columns are observations.

    Args:
        correction: what is subtracted from the number of observations.
        fweights: how often each observation counts, whole numbers.
        aweights: how important each is.

    Raises:
        RuntimeError: ``input`` has more than two dimensions.
    """
    if input.ndim > 2:
        raise RuntimeError(
            f"cov(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions"
        )
    rows = input.reshape(1, -1) if input.ndim < 2 else input
    weights = [w for w in (fweights, aweights) if w is not None]
    if not weights:
        count = rows.shape[1]
        left, rows = count - correction, rows - rows.mean(1, keepdim=True)
        return ((rows @ rows.mT) / builtins.max(left, 0)).squeeze()
    weight = math.prod(weights[1:], start=weights[0])
    total = weight.sum()
    lost = correction if aweights is None else correction * (weight * aweights).sum() / total
    rows = rows - (rows * weight).sum(1, keepdim=True) / total
    return ((rows @ (rows * weight).mT) / (total - lost).clamp(min=0)).squeeze()


@public()
def corrcoef(input: Any) -> Any:
    """The correlation coefficients of the rows of ``input``, whose columns are observations.

    Raises:
        RuntimeError: ``input`` has more than two dimensions.
    """
    found = cov(input)
    if not found.ndim:
        return found / found
    scale = found.diagonal().sqrt()
    return (found / scale.unsqueeze(1) / scale).clamp(-1, 1)


@public()
def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """The differences of neighbours along ``dim``, taken ``n`` times.

    Args:
        prepend, append: tensors to join to ``input`` before.

    Raises:
        RuntimeError: ``input`` has no dimension, or ``n`` is negative.
    """
    if not input.ndim:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    dim = normalize_dim(dim, input.ndim)
    ends = [t for t in (prepend, input, append) if t is not None]
    out = core.FUNCTIONS["cat"](ends, dim) if len(ends) > 1 else input
    for _ in range(builtins.min(n, out.shape[dim])):
        count = out.shape[dim] - 1
        after, before = out.narrow(dim, 1, count), out.narrow(dim, 0, count)
        out = after != before if out.dtype == bool else after - before
    return out.clone() if out is input else out


@public(method=False)
def trapezoid(y: Any, x: Any = None, *, dx: float = 1, dim: int = -1) -> Any:
    """The integral of ``y`` along ``dim`` by the trapezoidal rule, at points ``x`` or ``dx`` apart."""
    dim = normalize_dim(dim, y.ndim)
    count = y.shape[dim] - 1
    heights = y.narrow(dim, 0, count) + y.narrow(dim, 1, count)
    if x is None:
        return heights.sum(dim) * (dx / 2)
    steps = diff(x) if x.ndim == 1 else diff(x, dim=dim)
    if x.ndim == 1:
        steps = steps.reshape(-1, *(1,) * (y.ndim - 1 - dim))
    return (heights * steps).sum(dim) / 2


core.FUNCTIONS["trapz"] = trapezoid
