"""Quantiles, histograms, covariances, and which elements are among others."""

from __future__ import annotations

import math
import operator
import warnings
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


def _at_most_a_matrix(name: str, input: Any) -> None:
    if input._data.ndim > 2:
        raise RuntimeError(
            f"{name}(): expected input to have two or fewer dimensions but got an input with {input._data.ndim} "
            "dimensions"
        )


def _weights(name: str, weights: Any, floats: bool, count: int) -> Any:
    if weights._data.ndim > 1 or weights._data.size != count:
        raise RuntimeError(
            f"cov(): expected {name} to have one element for each of the {count} observations, but got shape "
            f"{tuple(weights.shape)}"
        )
    if dtypes.category(weights.dtype) != (2 if floats else 1):
        kind = "floating point" if floats else "integral"
        raise RuntimeError(f"cov(): expected {name} to have {kind} dtype but got {weights.dtype}")
    if bool((weights < 0).any()):
        raise RuntimeError(f"cov(): {name} cannot be negative")
    return weights


@public()
def cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Any:
    """The covariances of variables, one in each row of ``input``, a column for each observation.

    Args:
        correction: what the number of observations is lessened by before dividing.
        fweights: how often each observation counts, integers.
        aweights: how much each observation weighs, floating point.

    Raises:
        RuntimeError: ``input`` has more than two dimensions or is of bools, or the weights do not fit, are negative or
            sum to 0.
    """
    _at_most_a_matrix("cov", input)
    if input.dtype.kind == "b":
        raise RuntimeError("cov(): bool dtype is not supported for input")
    rows = input.reshape(1, -1) if input._data.ndim < 2 else input
    count = rows.shape[1]
    weights = None if fweights is None else _weights("fweights", fweights, False, count)
    if aweights is not None:
        aweights = _weights("aweights", aweights, True, count)
        weights = aweights if weights is None else weights * aweights
    if weights is None:
        total, freedom = count, count - correction
        mean = rows.sum(1) / (total or math.nan)
    else:
        total = weights.sum()
        if not bool(total):
            raise RuntimeError("cov(): weights sum to zero, can't be normalized")
        lost = correction if aweights is None else correction * (weights * aweights).sum() / total
        mean, freedom = (rows * weights).sum(1) / total, total - lost
    if float(freedom) <= 0:
        warnings.warn(
            "cov(): degrees of freedom is <= 0. Correction should be strictly less than the number of observations.",
            stacklevel=3,
        )
        freedom = 0
    centered = rows - mean.unsqueeze(1)
    return (centered @ (centered if weights is None else centered * weights).t() / freedom).squeeze()


@public()
def corrcoef(input: Any) -> Any:
    """The correlation coefficients of variables, one in each row of ``input``; see ``cov``."""
    _at_most_a_matrix("corrcoef", input)
    out = cov(input)
    if not out._data.ndim:
        return out / out
    deviation = out.diagonal().sqrt()
    return (out / deviation.unsqueeze(1) / deviation).clamp(-1, 1)
