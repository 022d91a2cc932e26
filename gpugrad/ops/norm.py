"""Normalisation: layers, batches, groups and root mean squares, all by one op.

Mean and variance take a pass each (Chan, Golub and LeVeque, 1983): subtracting the square
of the mean from the mean of the squares would lose the variance of data far from 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..backend import blas, fused
from .core import REGISTRY, op
from .windows import working_dtype

_MANY = 8  # samples for which it pays to write out what is the same for all
_TILE = 1 << 16  # elements at a time, which stay in a core's cache


def _channelwise(dims: tuple[int, ...]) -> bool:
    """Whether statistics are taken for each of the channels (N, C, ...), not over the last dimensions."""
    return dims[0] == 0


def _flat(array: Any, dims: tuple[int, ...]) -> Any:
    """(N, C, L) when each channel has its statistics, else (rows, columns) when each row has."""
    if _channelwise(dims):
        return array.reshape(*array.shape[:2], math.prod(array.shape[2:]))
    lead = array.ndim - len(dims)
    return array.reshape(math.prod(array.shape[:lead]), math.prod(array.shape[lead:]))


def _tiles(xp: Any, x: Any) -> Iterator[tuple[slice, ...]]:
    """Parts of a flat array that stay in cache: rows, or samples, or channels of one sample."""
    if xp is not np:
        yield (slice(None),) * (x.ndim - 1)
        return
    batch, width = x.shape[0], math.prod(x.shape[1:])
    step = max(1, _TILE // max(1, width))
    channels = x.shape[1] if x.ndim == 3 else 1
    some = channels if x.ndim == 2 or width <= 2 * _TILE else max(1, _TILE // x.shape[2])
    for start in range(0, batch, step):
        for first in range(0, channels, some):
            yield (slice(start, start + step), slice(first, first + some))[: x.ndim - 1]


def _products(xp: Any, a: Any, b: Any) -> Any:
    """The sums of ``a * b`` over rows, or for each channel."""
    if xp is not np:
        return (a * b).sum(axis=-1 if a.ndim == 2 else (0, 2))
    if a.ndim == 3 and a.shape[2] < 16:  # dot products have something to do before they start
        return np.einsum("ncl,ncl->c", a, b)
    found = np.vecdot(a, b)
    return found if a.ndim == 2 else found.sum(axis=0)


def _column_products(xp: Any, a: Any, b: Any) -> Any:
    """The sums of ``a * b`` over columns."""
    # CuPy's einsum is a product of cuBLAS, which it refuses while a stream is captured.
    return np.einsum("rc,rc->c", a, b) if xp is np else (a * b).sum(axis=0)


def _column(values: Any) -> Any:
    """One value for each row or channel, ready to broadcast."""
    return values.reshape(-1, 1)


def _per_channel(xp: Any, values: Any, x: Any) -> Any:
    """One value for each channel of ``x`` (N, C, L), ready to combine with samples of it.

    For many samples as (C, L): NumPy takes whole arrays two to three times as fast as it broadcasts.
    """
    column = _column(values)
    return column.repeat(x.shape[2], axis=1) if xp is np and x.shape[0] >= _MANY else column


def _samples(t: Any) -> list[Any]:
    return [
        (t(2, 3, 4), t(4), t(4), (2,), 1e-5, True),
        (t(2, 2, 3), None, None, (1, 2), 0.1, True),
        (t(3, 5), t(5), None, (1,), 1e-3, False),
        (t(3, 2, 2), t(2), t(2), (0, 2), 1e-5, True),
        (t(4, 2), None, None, (0,), 1e-5, True),
    ]


@op(aux=True, samples=_samples, torch=None)
def standardize(xp, input, weight, bias, /, dims, eps, centered, recording):
    # (x - mean) / sqrt(variance + eps) * weight + bias; without ``centered`` the mean counts as 0.
    dtype = working_dtype(input.dtype)
    x = _flat(input.astype(dtype, copy=False), dims)
    out = xp.empty(x.shape, dtype)
    weight, bias = (None if v is None else v.astype(dtype, copy=False).reshape(-1) for v in (weight, bias))
    if _channelwise(dims):
        mean, var = _standardize_channels(xp, x, out, weight, bias, eps)
    else:
        mean, var = _standardize_rows(xp, x, out, weight, bias, eps, centered)
    kept = tuple(1 if d in dims else n for d, n in enumerate(input.shape))
    aux = (mean.reshape(kept) if centered else None, var.reshape(kept))
    return out.reshape(input.shape).astype(input.dtype, copy=False), aux


def _standardize_rows(xp: Any, x: Any, out: Any, weight: Any, bias: Any, eps: float, centered: bool) -> tuple[Any, Any]:
    rows, width = x.shape
    mean, var = xp.zeros(rows, x.dtype), xp.empty(rows, x.dtype)
    for (part,) in _tiles(xp, x):
        values, result = x[part], out[part]
        if centered:
            mean[part] = values.sum(axis=1) / (width or math.nan)
            values = xp.subtract(values, _column(mean[part]), out=result)
        var[part] = _products(xp, values, values) / (width or math.nan)
        xp.multiply(values, _column(1 / xp.sqrt(var[part] + eps)), out=result)
        if weight is not None:
            result *= weight
        if bias is not None:
            result += bias
    return mean, var


def _standardize_channels(xp: Any, x: Any, out: Any, weight: Any, bias: Any, eps: float) -> tuple[Any, Any]:
    count = x.shape[0] * x.shape[2] or math.nan
    mean = REGISTRY["sum_channels"].forward(xp, x) / count
    var = xp.zeros_like(mean)
    shift = _per_channel(xp, mean, x)
    for part in _tiles(xp, x):
        values = xp.subtract(x[part], shift[part[1]], out=out[part])
        var[part[1]] += _products(xp, values, values)
    var /= count
    scale = 1 / xp.sqrt(var + eps)
    scale = _per_channel(xp, scale if weight is None else scale * weight, x)
    shift = None if bias is None else _per_channel(xp, bias, x)
    for part in _tiles(xp, x):
        result = out[part]
        result *= scale[part[1]]
        if shift is not None:
            result += shift[part[1]]
    return mean, var


standardize.kernel(fused.norm.standardize)


@standardize.aux_rule
def _statistics(F, input, dims, centered):
    x = F.to_dtype(input, working_dtype(input.dtype))
    if not centered:
        return None, F.mean(x * x, dims, True)
    mean = F.mean(x, dims, True)
    x = x - mean
    return mean, F.mean(x * x, dims, True)


@standardize.joint_rule
def _standardize_rule(F, g, wanted, input, weight, aux, dims, eps):
    mean, var = aux
    affine = wanted[1] or wanted[2]
    gradients = F.standardize_slope(g, input, weight, mean, F.rsqrt(F.add(var, eps)), dims, affine)
    return [gradients[i] if wanted[i] else None for i in range(3)]


def _slope_samples(t: Any) -> list[Any]:
    return [
        (t(2, 3), t(2, 3), t(3), t(2, 1), t(2, 1, low=0.5), (1,), True),
        (t(2, 3), t(2, 3), t(3), None, t(2, 1, low=0.5), (1,), True),
        (t(2, 2, 3), t(2, 2, 3), None, t(2, 1, 1), t(2, 1, 1, low=0.5), (1, 2), False),
        (t(3, 2, 2), t(3, 2, 2), t(2), t(1, 2, 1), t(1, 2, 1, low=0.5), (0, 2), True),
    ]


@op(outputs=None, samples=_slope_samples, torch=None)
def standardize_slope(xp, input, x, weight, mean, rstd, /, dims, affine):
    # The gradient ``input`` taken back through a standardisation of ``x``; with ``affine`` also to weight and bias.
    dtype = working_dtype(x.dtype)
    g, values = (_flat(v.astype(dtype, copy=False), dims) for v in (input, x))
    w = None if weight is None else weight.astype(dtype, copy=False).reshape(-1)
    m = None if mean is None else mean.reshape(-1)
    out = xp.empty(g.shape, dtype)
    slope = _slope_channels if _channelwise(dims) else _slope_rows
    sums = slope(xp, g, values, w, m, rstd.reshape(-1), out, affine)
    result = out.reshape(x.shape).astype(x.dtype, copy=False)
    if not affine:
        return (result,)
    shape = x.shape[1:2] if _channelwise(dims) else x.shape[x.ndim - len(dims) :]
    return (result, *(v.reshape(shape).astype(x.dtype, copy=False) for v in sums))


standardize_slope.kernel(fused.norm.standardize_slope)


def _slope_rows(xp: Any, g: Any, x: Any, w: Any, mean: Any, rstd: Any, out: Any, affine: bool) -> Any:
    width = g.shape[1] or math.nan
    products, sums = xp.zeros(g.shape[1], g.dtype), xp.zeros(g.shape[1], g.dtype)
    for (part,) in _tiles(xp, g):
        given, scale, result = g[part], _column(rstd[part]), out[part]
        standard = x[part] * scale if mean is None else x[part] - _column(mean[part])
        if mean is not None:
            standard *= scale
        if affine:
            products += _column_products(xp, given, standard)
            sums += blas.matmul(xp, xp.ones(len(given), g.dtype), given)
        weighted = given if w is None else given * w
        xp.multiply(standard, _column(_products(xp, weighted, standard) / -width), out=result)
        result += weighted
        if mean is not None:
            result -= weighted.sum(axis=1, keepdims=True) / width
        result *= scale
    return products, sums


def _slope_channels(xp: Any, g: Any, x: Any, w: Any, mean: Any, rstd: Any, out: Any, affine: bool) -> Any:
    count = g.shape[0] * g.shape[2] or math.nan
    sums = REGISTRY["sum_channels"].forward(xp, g)
    products = xp.zeros_like(sums)
    shift = _per_channel(xp, mean, g)
    for part in _tiles(xp, g):
        centred = xp.subtract(x[part], shift[part[1]], out=out[part])
        products[part[1]] += _products(xp, g[part], centred)
    products *= rstd
    share, shift, scale = (
        _per_channel(xp, values, g)
        for values in (products * rstd / -count, sums / count, rstd if w is None else rstd * w)
    )
    for part in _tiles(xp, g):
        result = out[part]
        result *= share[part[1]]
        result += g[part]
        result -= shift[part[1]]
        result *= scale[part[1]]
    return products, sums


def _shaped(F: Any, weight: Any, x: Any, dims: tuple[int, ...]) -> Any:
    """A weight in a shape that broadcasts against ``x``."""
    return F.reshape(weight, (-1,) + (1,) * (x.ndim - 2)) if _channelwise(dims) else weight


@standardize_slope.joint_rule
def _standardize_slope_rule(F, u, wanted, input, x, weight, mean, rstd, dims):
    u_x, u_weight, u_bias = u if isinstance(u, list) else (u, None, None)
    centred = x if mean is None else x - mean
    standard = centred * rstd
    g_input = g_weight = g_standard = g_rstd = None

    def plus(a: Any, b: Any) -> Any:
        return b if a is None else a + b

    if u_x is not None:
        w = None if weight is None else _shaped(F, weight, x, dims)
        weighted = input if w is None else input * w
        along, along_u = F.mean(weighted * standard, dims, True), F.mean(u_x * standard, dims, True)
        back = u_x - standard * along_u
        rest = weighted - standard * along
        if mean is not None:
            back = back - F.mean(u_x, dims, True)
            rest = rest - F.mean(weighted, dims, True)
        g_rstd = u_x * rest
        g_standard = -(u_x * along + weighted * along_u) * rstd
        g_input = back * rstd
        if w is not None:
            g_weight = F.reshape(F.sum_to(g_input * input, tuple(w.shape)), tuple(weight.shape))
            g_input = g_input * w
    if u_weight is not None:
        u_weight = _shaped(F, u_weight, x, dims)
        g_input = plus(g_input, u_weight * standard)
        g_standard = plus(g_standard, u_weight * input)
    if u_bias is not None:
        g_input = plus(g_input, F.expand(_shaped(F, u_bias, x, dims), tuple(x.shape)))
    if g_standard is None:
        answers = [g_input, None, None, None, None]
    else:
        g_x = g_standard * rstd
        answers = [g_input, g_x, g_weight, -g_x, plus(g_rstd, g_standard * centred)]
    return [answer if want else None for answer, want in zip(answers, wanted, strict=True)]
