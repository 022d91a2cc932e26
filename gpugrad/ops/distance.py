"""Distances between all rows of two matrices, or of one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import cpu, graph, module_of
from . import core
from .core import as_tensors, op, public
from .core import taped as F
from .elementwise import zero
from .matmul import matmul
from .reduction import total
from .shape import at, broadcast_shape, expand, transpose


def _rows_at_once(xp: Any, batch: tuple[int, ...], columns: int, features: int) -> int:
    """How many rows' differences to the other matrix are in memory at a time."""
    most = cpu.BLOCK if xp is np else 1 << 25
    return max(1, most // max(1, math.prod(batch) * columns * features))


def _columns(F: Any, x: Any) -> Any:
    """(..., P, M) to (M, ..., P) in C order: with the features in front, what is reduced are long vectors."""
    n = x.ndim
    return F.clone(F.permute(x, (n - 1, *range(n - 1))))


def _differences(F: Any, ours: Any, theirs: Any) -> Any:
    """Of columns: (M, ..., P) and (M, ..., R) to (M, ..., P, R)."""
    ours = F.reshape(ours, (*ours.shape, 1))
    return ours - F.reshape(theirs, (*theirs.shape[:-1], 1, theirs.shape[-1]))


def _reduced(xp: Any, difference: Any, p: float) -> Any:
    if p == 2:
        return xp.sqrt(total(xp, xp.multiply(difference, difference, out=difference), (0,), False))
    if p == 0:
        return total(xp, (difference != 0).astype(difference.dtype), (0,), False)
    size = xp.abs(difference, out=difference)
    if math.isinf(p):
        return size.max(axis=0)
    return total(xp, size, (0,), False) if p == 1 else total(xp, size**p, (0,), False) ** (1 / p)


def _pairs(t: Any) -> list[Any]:
    shapes = ((t(4, 3), t(2, 3)), (t(2, 3, 1), t(2, 2, 1)))
    return [(*pair, p) for pair in shapes for p in (2.0, 1.0, math.inf, 3.0, 1.5, 0.5, 0.0)]


@op(
    samples=_pairs,
    torch=lambda torch, a, b, p: torch.cdist(a, b, p, compute_mode="donot_use_mm_for_euclid_dist"),
    tests={"float16": False, "empty": ()},
)
def cdist(xp, input, other, /, p):
    """The p-norm of each row of ``input`` less each row of ``other``: (..., P, M) and (..., R, M) to (..., P, R)."""
    *batch, count, features = input.shape
    out = xp.empty((*batch, count, other.shape[-2]), input.dtype)
    step = _rows_at_once(xp, tuple(batch), other.shape[-2], features)
    ours, theirs = _columns(core.raw, input), _columns(core.raw, other)
    for i in range(0, count, step):
        part = slice(i, i + step)
        out[at(len(batch), part)] = _reduced(xp, _differences(core.raw, ours[..., part], theirs), p)
    return out


def _slope(F: Any, difference: Any, g: Any, out: Any, p: float) -> Any:
    """The gradient of the differences: 0 where the distance is, though its slope has no limit there."""
    if p == 1:
        return g * F.sign(difference)
    size = F.abs(difference)
    if math.isinf(p):
        return F.keep(g * F.sign(difference), size == out)
    # Zeros are replaced before they are divided by, so that second gradients are numbers as well.
    g = F.keep(g, out != 0)
    out = out + F.to_dtype(out == 0, out.dtype)
    if p == 2:
        return difference * (g / out)
    size = size + F.to_dtype(size == 0, size.dtype)
    return F.sign(difference) * F.pow(size, p - 1) * (g / F.pow(out, p - 1))


@cdist.joint_rule
def _cdist_rule(F, g, wanted, input, other, out, p):
    if p == 0:
        return [zero(F, x) if w else None for x, w in zip((input, other), wanted, strict=True)]
    *batch, count, features = input.shape
    n = len(batch)
    step = count if F.is_taped else _rows_at_once(module_of(F.array(g)), tuple(batch), other.shape[-2], features)
    ours, theirs = _columns(F, input), _columns(F, other)
    g_ours, g_theirs = [], None
    for i in range(0, count, step):
        part = at(n, slice(i, i + step))
        difference = _differences(F, F.getitem(ours, at(n + 1, part[n])), theirs)
        slope = _slope(F, difference, F.getitem(g, part), F.getitem(out, part), p)
        if wanted[0]:
            g_ours.append(F.sum(slope, (n + 2,), False))
        if wanted[1]:
            of_part = F.sum(slope, (n + 1,), False)
            g_theirs = of_part if g_theirs is None else g_theirs + of_part
    last = (*range(1, n + 2), 0)
    return (
        F.permute(F.cat(*g_ours, n + 1), last) if wanted[0] else None,
        -F.permute(g_theirs, last) if wanted[1] else None,
    )


@op(
    samples=lambda t: [(t(4, 3), t(2, 3)), (t(2, 2, 2), t(2, 3, 2))],
    torch=lambda torch, a, b: torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist"),
    tests={"float16": False, "empty": (), "rtol32": 1e-4},
)
def euclidean(xp, input, other, /):
    """As ``cdist`` with p = 2, from ``|x - y|^2 = |x|^2 - 2 x y + |y|^2``: quick, and good for what is not close."""
    out = matmul.forward(xp, input * -2, xp.swapaxes(other, -1, -2))
    out += total(xp, xp.square(input), (input.ndim - 1,), True)
    out += total(xp, xp.square(other), (other.ndim - 1,), False)[..., None, :]
    return xp.sqrt(xp.maximum(out, 0, out=out), out=out)


@euclidean.joint_rule
def _euclidean_rule(F, g, wanted, input, other, out):
    n = input.ndim
    ratio = F.keep(g, out != 0) / (out + F.to_dtype(out == 0, out.dtype))
    turned = F.permute(ratio, (*range(n - 2), n - 1, n - 2))
    return (
        input * F.sum(ratio, (n - 1,), True) - F.matmul(ratio, other) if wanted[0] else None,
        other * F.sum(turned, (n - 1,), True) - F.matmul(turned, input) if wanted[1] else None,
    )


_MANY = 25
"""Rows above which PyTorch takes a matrix product for Euclidean distances."""

_MODES = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")


@public(name="cdist", method=False)
def _cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: str = _MODES[0]) -> Any:
    """The p-norm of each row of ``x1`` less each row of ``x2``: (..., P, M) and (..., R, M) to (..., P, R).

    Where a distance is 0, so is its gradient.

    Args:
        p: the norm; 0 counts the elements that differ.
        compute_mode: whether Euclidean distances come from a matrix product, which is much faster but has an error
            as large as the digits of the squared norms: "use_mm_for_euclid_dist",
            "use_mm_for_euclid_dist_if_necessary" (for more than 25 rows) or "donot_use_mm_for_euclid_dist".

    Raises:
        RuntimeError: the shapes do not fit, the tensors are not of one floating-point dtype, or ``p`` is negative.
        NotImplementedError: the dtype has 16 bits.
        ValueError: there is no such mode.
    """
    if compute_mode not in _MODES:
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode; expected one of {', '.join(_MODES)}")
    x1, x2 = as_tensors("cdist", (x1, x2))
    for name, x in (("X1", x1), ("X2", x2)):
        if not x.is_floating_point():
            raise RuntimeError(f"cdist only supports floating-point dtypes, {name} got: {x.dtype}")
        if x._data.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {name} got: {x._data.ndim}D")
    if x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}")
    if not p >= 0:
        raise RuntimeError(f"cdist only supports non-negative p values, but got {p}")
    if x1.dtype != x2.dtype:
        raise RuntimeError(f"cdist: expected both tensors to be {x1.dtype}, but found {x2.dtype}; convert with .to()")
    if x1.dtype.itemsize == 2:
        raise NotImplementedError(f"cdist is not implemented for {x1.dtype}; convert the tensors with .float()")
    batch = broadcast_shape(x1._data.shape[:-2], x2._data.shape[:-2])
    x1, x2 = (x if x._data.shape[:-2] == batch else expand(x, (*batch, *x._data.shape[-2:])) for x in (x1, x2))
    if not x1._data.size or not x2._data.size:
        return matmul(x1, transpose(x2, -2, -1))  # zeros, if any
    large = max(x1.shape[-2], x2.shape[-2]) > _MANY
    if p == 2 and (compute_mode == _MODES[1] or (compute_mode == _MODES[0] and large)):
        return euclidean(x1, x2)
    return cdist(x1, x2, float(p))


@public(method=False)
def pdist(input: Any, p: float = 2) -> Any:
    """The p-norms of each row less each later one: of N rows, a vector of N (N - 1) / 2.

    Raises:
        RuntimeError: ``input`` is no floating-point matrix, or ``p`` is negative.
    """
    (input,) = as_tensors("pdist", (input,))
    if input._data.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input._data.ndim}D")
    if not input.is_floating_point():
        raise RuntimeError(f"pdist only supports floating-point dtypes, but got {input.dtype}")
    if not p >= 0:
        raise RuntimeError(f"pdist only supports non-negative p values, but got {p}")
    n = len(input)
    rows, columns = np.triu_indices(n, 1)
    places = core.Tensor._wrap(graph.constant(module_of(input._data), rows * n + columns))
    return F.index_select(_cdist(input, input, p, _MODES[2]).reshape(-1), places, 0)
