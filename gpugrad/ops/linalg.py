"""Linear algebra: inverses, solutions, decompositions, determinants and norms of matrices and batches of them.

Gradients of decompositions: Giles, "Collected Matrix Derivative Results for Forward and Reverse Mode Algorithmic
Differentiation" (2008); of the SVD: Townsend, "Differentiating the Singular Value Decomposition" (2016); of QR:
Walter and Lehmann (2011) and Roberts and Roberts (2020); of the pseudo-inverse: Golub and Pereyra (1973).
"""

from __future__ import annotations

import math
import operator
from collections import namedtuple
from typing import Any

import numpy as np

from ..backend import checking, get_default_device, module_of, to_numpy, transfer
from . import core
from .core import as_tensors, normalize_dim, normalize_dims, op, public
from .core import taped as F
from .shape import diag_embed, diagonal, movedim, powers, reshape, zeros_like_gradient


class LinAlgError(RuntimeError):
    """A matrix is singular, not positive definite, or an algorithm did not converge."""


def _checked(message: str, function: Any, *args: Any, **options: Any) -> Any:
    """A function of ``xp.linalg``; if it fails, a :class:`LinAlgError` with this message."""
    try:
        with checking(args[0]):
            return function(*args, **options)
    except np.linalg.LinAlgError:
        raise LinAlgError(message) from None


def _t(F: Any, x: Any) -> Any:
    """The transpose of each matrix."""
    n = x.ndim
    return F.permute(x, (*range(n - 2), n - 1, n - 2))


def _low_precision(**more: Any) -> dict[str, Any]:
    return {"float16": False, "rtol32": 1e-3, **more}


def _regular(t: Any, *shape: int) -> Any:
    """A matrix (or a batch) that is far from singular."""
    return t(*shape) + 3 * np.eye(shape[-2], shape[-1])


def _definite(t: Any, *shape: int) -> Any:
    """A symmetric positive definite matrix with eigenvalues far apart."""
    x = t(*shape, low=-1.0, high=1.0)._data
    return core.Tensor._wrap(x @ np.swapaxes(x, -1, -2) + np.diag(np.arange(1.0, 2 * shape[-1], 2)))


@op(
    samples=lambda t: [(_regular(t, 3, 3),), (_regular(t, 2, 2, 2),)],
    torch=lambda torch, x: torch.linalg.inv(x),
    tests=_low_precision(),
)
def inv(xp, input, /):
    """The inverse of each matrix."""
    message = "linalg.inv: The inversion could not be completed because the input matrix is singular"
    return _checked(message, xp.linalg.inv, input)


inv.rules(input=lambda F, g, out: -F.matmul(F.matmul(_t(F, out), g), _t(F, out)))


@op(
    samples=lambda t: [
        (_regular(t, 3, 3), t(3, 2)),
        (_regular(t, 2, 2, 2), t(2, 1)),
        (_regular(t, 2, 2), t(2, 2, 3)),
    ],
    torch=lambda torch, a, b: torch.linalg.solve(a, b.expand(*a.shape[:-2], *b.shape[-2:]) if a.ndim > b.ndim else b),
    tests=_low_precision(),
)
def solve(xp, input, other, /):
    """X of ``input @ X = other`` for matrices, broadcast over batches."""
    if input.ndim + other.ndim > 4:  # which CuPy does not
        batch = np.broadcast_shapes(input.shape[:-2], other.shape[:-2])
        input, other = (xp.broadcast_to(a, batch + a.shape[-2:]) for a in (input, other))
    message = "linalg.solve: The solver failed because the input matrix is singular"
    return _checked(message, xp.linalg.solve, input, other)


@solve.joint_rule
def _solve_rule(F, g, wanted, input, out):
    g_other = F.solve(_t(F, input), g)
    return -F.matmul(g_other, _t(F, out)) if wanted[0] else None, g_other if wanted[1] else None


@op(
    samples=lambda t: [(_regular(t, 3, 3),), (_regular(t, 2, 2, 2),)],
    torch=lambda torch, x: torch.linalg.det(x),
    tests=_low_precision(),
)
def det(xp, input, /):
    """The determinant of each matrix."""
    return xp.linalg.det(input)


det.rules(input=lambda F, g, input: F.reshape(g, (*g.shape, 1, 1)) * F.cofactor(input))


@op(samples=lambda t: [(_regular(t, 3, 3),), (_regular(t, 2, 2, 2),)], torch=None, tests=_low_precision())
def cofactor(xp, input, /):
    """The matrix of cofactors, ``det(A)`` times the inverse of the transpose: the gradient of det.

    By singular values, so that it is right for singular matrices too.
    """
    n = input.shape[-1]
    u, s, vh = xp.linalg.svd(input)
    others = xp.where(xp.eye(n, dtype=bool), 1, s[..., None, :]).prod(axis=-1)
    sign = xp.sign(xp.linalg.det(u) * xp.linalg.det(vh))
    return (u * (others * sign[..., None])[..., None, :]) @ vh


@cofactor.joint_rule
def _cofactor_rule(F, g, wanted, input, out):
    inverse = _t(F, F.inv(input))
    return (F.sum(g * out, _last_two(g), True) * inverse - F.matmul(F.matmul(inverse, _t(F, g)), out),)


def _last_two(x: Any) -> tuple[int, int]:
    return x.ndim - 2, x.ndim - 1


@op(
    outputs=2,
    samples=lambda t: [(_regular(t, 3, 3),), (_regular(t, 2, 2, 2),)],
    torch=lambda torch, x: torch.linalg.slogdet(x),
    tests=_low_precision(),
)
def slogdet(xp, input, /):
    """The sign and the logarithm of the absolute value of the determinant of each matrix."""
    return tuple(xp.linalg.slogdet(input))


def _slogdet_rule(F: Any, g: Any, input: Any) -> Any:
    if g[1] is None:
        return zeros_like_gradient(F, g[0], tuple(input.shape))
    return F.reshape(g[1], (*g[1].shape, 1, 1)) * _t(F, F.inv(input))


slogdet.rules(input=_slogdet_rule)


@op(
    samples=lambda t: [(_definite(t, 3, 3),), (_definite(t, 2, 2, 2),)],
    torch=lambda torch, x: torch.linalg.cholesky(x),
    # The gradient is that among symmetric matrices, spread evenly over both triangles.
    tests=_low_precision(not_the_derivative=(0, 1)),
)
def cholesky(xp, input, /):
    """The lower triangle L of each symmetric positive definite matrix, ``L @ L.mT``; reads the lower triangle."""
    message = "linalg.cholesky: The factorization could not be completed because the input is not positive-definite"
    return _checked(message, xp.linalg.cholesky, input)


def _cholesky_rule(F: Any, g: Any, out: Any) -> Any:
    product = F.matmul(_t(F, out), g)
    half = 0.5 * (F.tril(product, 0) + F.tril(product, -1))
    inner = F.solve(_t(F, out), _t(F, F.solve(_t(F, out), _t(F, half))))
    return 0.5 * (inner + _t(F, inner))


cholesky.rules(input=_cholesky_rule)


def _signs(torch: Any, x: Any, vectors: Any, ours: Any) -> Any:
    """The signs that turn PyTorch's vectors into those found here, on the default device; both are right."""
    array = transfer(x.detach().numpy(), get_default_device())
    wanted = torch.tensor(to_numpy(ours(core.Tensor._wrap(array))._data))
    return torch.sign((vectors.detach() * wanted).sum(-2))


def _torch_eigh(torch: Any, x: Any) -> Any:
    values, vectors = torch.linalg.eigh(x)
    return values, vectors * _signs(torch, x, vectors, lambda x: eigh(x)[1]).unsqueeze(-2)


def _torch_svd(torch: Any, x: Any) -> Any:
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    signs = _signs(torch, x, u, lambda x: svd(x)[0])
    return u * signs.unsqueeze(-2), s, vh * signs.unsqueeze(-1)


@op(
    outputs=2,
    aux=True,
    samples=lambda t: [(_regular(t, 3, 3),), (_regular(t, 2, 4, 2),), (_regular(t, 2, 3),)],
    torch=lambda torch, x: torch.linalg.qr(x),
    tests=_low_precision(),
)
def qr(xp, input, /, recording):
    """The reduced QR decomposition of each matrix: orthonormal columns and an upper triangle."""
    found = tuple(xp.linalg.qr(input))
    return found, found


@qr.joint_rule
def _qr_rule(F, g, wanted, input, aux):
    q, r = aux
    g_q, g_r = (zeros_like_gradient(F, q, tuple(a.shape)) if x is None else x for x, a in zip(g, aux, strict=True))
    m, n = input.shape[-2:]
    if m >= n:
        return (_tall_qr(F, g_q, g_r, q, r),)
    square, wide = (..., slice(m)), (..., slice(m, None))
    g_q = g_q + F.matmul(F.getitem(input, wide), _t(F, F.getitem(g_r, wide)))
    left = _tall_qr(F, g_q, F.getitem(g_r, square), q, F.getitem(r, square))
    return (F.cat(left, F.matmul(q, F.getitem(g_r, wide)), input.ndim - 1),)


def _tall_qr(F: Any, g_q: Any, g_r: Any, q: Any, r: Any) -> Any:
    middle = F.matmul(r, _t(F, g_r)) - F.matmul(_t(F, g_q), q)
    symmetric = F.tril(middle, 0) + _t(F, F.tril(middle, -1))
    return _t(F, F.solve(r, _t(F, g_q + F.matmul(q, symmetric))))


qr.aux_rule(lambda F, input: F.qr(input))


@op(
    outputs=2,
    aux=True,
    samples=lambda t: [(_definite(t, 3, 3),), (_definite(t, 2, 2, 2),)],
    torch=lambda torch, x: _torch_eigh(torch, x),
    tests=_low_precision(not_the_derivative=(0, 1)),
)
def eigh(xp, input, /, recording):
    """Eigenvalues, rising, and orthonormal eigenvectors of each symmetric matrix; reads the lower triangle."""
    found = tuple(_checked("linalg.eigh: The algorithm failed to converge", xp.linalg.eigh, input))
    return found, found


@eigh.joint_rule
def _eigh_rule(F, g, wanted, aux):
    values, vectors = aux
    inner = 0 if g[0] is None else _on_diagonal(F, g[0])
    if g[1] is not None:
        inner = inner + F.matmul(_t(F, vectors), g[1]) * _inverse_gaps(F, values)
    found = F.matmul(F.matmul(vectors, inner), _t(F, vectors))
    return (0.5 * (found + _t(F, found)),)


eigh.aux_rule(lambda F, input: F.eigh(input))


def _on_diagonal(F: Any, x: Any) -> Any:
    """The last dimension as the diagonals of matrices."""
    return F.diagonal_put(x, (*x.shape, x.shape[-1]), 0, x.ndim - 1, x.ndim)


def _inverse_gaps(F: Any, values: Any) -> Any:
    """1 / (v_j - v_i), with zeros on the diagonal."""
    *batch, n = values.shape
    eye = F.constant(module_of(F.array(values)).eye(n, dtype=values.dtype))
    gaps = F.reshape(values, (*batch, 1, n)) - F.reshape(values, (*batch, n, 1))
    return (1 - eye) / (gaps + eye)


@op(
    outputs=3,
    aux=True,
    samples=lambda t: [
        (_definite(t, 3, 3) + t(3, 3, low=-0.2, high=0.2),),
        (_definite(t, 3, 3)[:2] * 1.0,),
        (_definite(t, 2, 3, 3)[:, :, :2] * 1.0,),
    ],
    torch=lambda torch, x: _torch_svd(torch, x),
    tests=_low_precision(),
)
def svd(xp, input, /, recording):
    """The reduced singular value decomposition U, S (falling) and V.mT of each matrix."""
    message = "linalg.svd: The algorithm failed to converge because the input has non-finite values"
    found = tuple(_checked(message, xp.linalg.svd, input, full_matrices=False))
    return found, found


@svd.joint_rule
def _svd_rule(F, g, wanted, aux):
    u, s, vh = aux
    g_u, g_s, g_vh = g
    v = _t(F, vh)
    row, column = F.reshape(s, (*s.shape[:-1], 1, s.shape[-1])), F.reshape(s, (*s.shape, 1))
    inner = 0 if g_s is None else _on_diagonal(F, g_s)
    gaps = None if g_u is None and g_vh is None else _inverse_gaps(F, s * s)
    outer = 0
    if g_u is not None:
        product = F.matmul(_t(F, u), g_u)
        inner = inner + gaps * (product - _t(F, product)) * row
        if u.shape[-2] > u.shape[-1]:
            outer = outer + F.matmul((g_u - F.matmul(u, product)) / row, vh)
    if g_vh is not None:
        g_v = _t(F, g_vh)
        product = F.matmul(vh, g_v)
        inner = inner + column * (gaps * (product - _t(F, product)))
        if v.shape[-2] > v.shape[-1]:
            outer = outer + F.matmul(u, _t(F, (g_v - F.matmul(v, product)) / row))
    return (F.matmul(F.matmul(u, inner), vh) + outer,)


svd.aux_rule(lambda F, input: F.svd(input))


@op(
    samples=lambda t: [(_regular(t, 3, 2), 1e-15), (_regular(t, 2, 2, 3), 1e-15)],
    torch=lambda torch, x, rcond: torch.linalg.pinv(x, rtol=rcond),
    tests=_low_precision(),
)
def pinv(xp, input, /, rcond):
    """The pseudo-inverse of each matrix; singular values below ``rcond`` times the largest count as zero."""
    return xp.linalg.pinv(input, rcond)


@pinv.joint_rule
def _pinv_rule(F, g, wanted, input, out):
    p, pt, gt = out, _t(F, out), _t(F, g)
    left = gt - F.matmul(input, F.matmul(p, gt))
    right = gt - F.matmul(F.matmul(gt, p), input)
    both = F.matmul(F.matmul(left, p), pt) + F.matmul(pt, F.matmul(p, right))
    return (both - F.matmul(F.matmul(pt, g), pt),)


# What users call.


def _matrices(name: str, a: Any, square: bool = True, dims: int = 2) -> Any:
    (a,) = as_tensors(name, (a,))
    shape = tuple(a._data.shape)
    if len(shape) < dims:
        raise RuntimeError(
            f"linalg.{name}: The input tensor A must have at least {dims} dimensions, got shape {shape}."
        )
    if square and shape[-1] != shape[-2]:
        raise RuntimeError(
            f"linalg.{name}: A must be batches of square matrices, but they are {shape[-2]} by {shape[-1]} matrices"
        )
    if not a.is_floating_point():
        raise RuntimeError(f"linalg.{name}: Expected a floating point or complex tensor as input. Got {a.dtype}")
    if a.dtype.itemsize < 4:
        raise RuntimeError(f"linalg.{name}: Low precision dtypes not supported. Got {a.dtype}; convert with .float()")
    return a


def _named(name: str, fields: str) -> Any:
    kind: Any = namedtuple(f"linalg_{name}", fields)  # type: ignore[misc]
    kind.__doc__ = f"The result of ``linalg.{name}``."
    return kind


_Slogdet, _Eigh, _QR = (
    _named("slogdet", "sign logabsdet"),
    _named("eigh", "eigenvalues eigenvectors"),
    _named("qr", "Q R"),
)
_SVD, _LegacySVD = _named("svd", "U S Vh"), _named("svd", "U S V")
_CholeskyEx, _InvEx = _named("cholesky_ex", "L info"), _named("inv_ex", "inverse info")
_Lstsq = _named("lstsq", "solution residuals rank singular_values")


@public(name="inverse")
def inv_(A: Any) -> Any:
    """The inverse of a square matrix, or of each in a batch.

    Raises:
        RuntimeError: ``A`` is not square or not floating point.
        LinAlgError: a matrix is singular.
    """
    return inv(_matrices("inv", A))


@public(name="det")
def det_(A: Any) -> Any:
    """The determinant of a square matrix, or of each in a batch.

    Raises:
        RuntimeError: ``A`` is not square or not floating point.
    """
    return det(_matrices("det", A))


@public(name="slogdet")
def slogdet_(A: Any) -> Any:
    """The sign and the logarithm of the absolute value of the determinant: ``(sign, logabsdet)``.

    Raises:
        RuntimeError: ``A`` is not square or not floating point.
    """
    return _Slogdet(*slogdet(_matrices("slogdet", A)))


@public()
def logdet(A: Any) -> Any:
    """The logarithm of the determinant: -inf where that is 0, NaN where it is negative.

    Raises:
        RuntimeError: ``A`` is not square or not floating point.
    """
    sign, logarithm = slogdet(_matrices("logdet", A))
    return logarithm + F.log(sign.detach())


def solve_(A: Any, B: Any, *, left: bool = True) -> Any:
    """X of ``A @ X = B``, or with ``left=False`` of ``X @ A = B``; ``B`` holds vectors if it lacks a dimension.

    Raises:
        RuntimeError: the shapes do not fit, or ``A`` is not square or not floating point.
        LinAlgError: a matrix is singular.
    """
    A, B = _matrices("solve", A), _matrices("solve", B, False, 1)
    vector = B.ndim == 1 or (B.ndim == A.ndim - 1 and tuple(B.shape) == tuple(A.shape[:-1]))
    b = reshape(B, (*B.shape, 1)) if vector else B
    n = A.shape[-1]
    if b.shape[-2 if left or vector else -1] != n or A.dtype != B.dtype:
        equation = "AX = B" if left else "XA = B"
        raise RuntimeError(
            f"linalg.solve: Incompatible shapes or dtypes of A and B for the equation {equation} ({n}x{n} {A.dtype} "
            f"and {b.shape[-2]}x{b.shape[-1]} {B.dtype})"
        )
    out = solve(A, b) if left else _t(F, solve(_t(F, A), b if vector else _t(F, b)))
    return (
        reshape(out, tuple(n for d, n in enumerate(out.shape) if d != out.ndim - (1 if left else 2))) if vector else out
    )


def solve_triangular(A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    """X of ``A @ X = B`` (or ``X @ A = B``), reading only one triangle of ``A``.

    Raises:
        As ``solve``.
    """
    A = _matrices("solve_triangular", A)
    part = F.triu(A, 0) if upper else F.tril(A, 0)
    if unitriangular:
        main = diagonal(part, 0, A.ndim - 2, A.ndim - 1)
        part = part - diag_embed(main) + diag_embed(main * 0 + 1)
    return solve_(part, B, left=left)


def cholesky_(A: Any, *, upper: bool = False) -> Any:
    """The lower triangle L with ``A = L @ L.mT`` of a symmetric positive definite matrix, or ``L.mT`` with ``upper``.

    Only that triangle of ``A`` is read.

    Raises:
        RuntimeError: ``A`` is not square or not floating point.
        LinAlgError: a matrix is not positive definite.
    """
    A = _matrices("cholesky", A)
    return _t(F, cholesky(_t(F, A))) if upper else cholesky(A)


@public(name="cholesky")
def _legacy_cholesky(input: Any, upper: bool = False) -> Any:
    """As ``linalg.cholesky``."""
    return cholesky_(input, upper=upper)


@public()
def cholesky_solve(B: Any, L: Any, upper: bool = False) -> Any:
    """X of ``A @ X = B``, given the Cholesky factor of A."""
    lower = _t(F, L) if upper else L
    return solve_(_t(F, lower), solve_(lower, B))


@public()
def cholesky_inverse(L: Any, upper: bool = False) -> Any:
    """The inverse of each symmetric positive definite matrix whose Cholesky factor is given.

    Raises:
        RuntimeError: ``L`` is not square or not floating point.
        LinAlgError: a matrix is singular.
    """
    L = _matrices("cholesky_inverse", L)
    half = inv(core.FUNCTIONS["triu" if upper else "tril"](L))
    return F.matmul(half, _t(F, half)) if upper else F.matmul(_t(F, half), half)


def _minor_not_positive(matrix: np.ndarray) -> int:
    """The order of the first leading minor that is not positive definite; 0 if there is none."""
    for k in range(1, len(matrix) + 1):
        try:
            np.linalg.cholesky(matrix[:k, :k])
        except np.linalg.LinAlgError:
            return k
    return 0


def _zero_pivot(matrix: np.ndarray) -> int:
    """Which pivot of Gaussian elimination is 0, counted from 1; 0 if there is none."""
    try:
        np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        rest = matrix.copy()
        for k in range(len(rest)):
            pivot = k + np.abs(rest[k:, k]).argmax()
            if rest[pivot, k] == 0:
                return k + 1
            rest[[k, pivot]] = rest[[pivot, k]]
            rest[k + 1 :] -= np.outer(rest[k + 1 :, k] / rest[k, k], rest[k])
        return len(rest)
    return 0


def _with_info(function: Any, A: Any, check_errors: bool, where_it_fails: Any) -> tuple[Any, Any]:
    """What a function of matrices gives, NaN where it fails, and what is wrong with each matrix; 0 for nothing."""
    xp = module_of(A._data)
    try:
        found = function(A)
        return found, core.Tensor._wrap(xp.zeros(A._data.shape[:-2], np.int32))
    except LinAlgError:
        if check_errors:
            raise
    matrices = to_numpy(A.detach()._data)
    info = np.array([where_it_fails(m) for m in matrices.reshape(-1, *matrices.shape[-2:])], np.int32)
    info = core.Tensor._wrap(xp.asarray(info.reshape(matrices.shape[:-2])))
    failed = (info > 0)[..., None, None]
    identity = core.Tensor._wrap(xp.eye(matrices.shape[-1], dtype=A.dtype))
    return function(F.where(failed, identity, A)).masked_fill(failed, math.nan), info


@core.beside_first
def cholesky_ex(A: Any, *, upper: bool = False, check_errors: bool = False) -> Any:
    """The Cholesky factor of each matrix and an int32 for it, ``(L, info)``; see ``linalg.cholesky``.

    ``info`` is 0, or the order of the first leading minor that is not positive definite. The factor is NaN then,
    where PyTorch has what it had computed until it failed.

    Raises:
        RuntimeError: ``A`` is not square or not floating point.
        LinAlgError: with ``check_errors``, a matrix is not positive definite.
    """
    A = _matrices("cholesky_ex", A)

    def first(matrix: np.ndarray) -> int:
        return _minor_not_positive(matrix.T if upper else matrix)

    return _CholeskyEx(*_with_info(lambda a: cholesky_(a, upper=upper), A, check_errors, first))


@core.beside_first
def inv_ex(A: Any, *, check_errors: bool = False) -> Any:
    """The inverse of each matrix and an int32 for it, ``(inverse, info)``; see ``linalg.inv``.

    ``info`` is 0, or which pivot of the elimination is 0, counted from 1. The inverse is NaN then.

    Raises:
        RuntimeError: ``A`` is not square or not floating point.
        LinAlgError: with ``check_errors``, a matrix is singular.
    """
    return _InvEx(*_with_info(inv_, _matrices("inv_ex", A), check_errors, _zero_pivot))


def vander(x: Any, *, N: int | None = None) -> Any:
    """The powers of each element from 0 to ``N - 1`` as a new last dimension.

    Args:
        N: how many; as many as the last dimension has elements unless given.

    Raises:
        RuntimeError: ``x`` is of bools, or ``N`` is not above 1.
    """
    if x.dtype.kind == "b":
        raise RuntimeError("linalg.vander supports floating point and integer tensors, but got bool")
    count = (x.shape[-1] if x._data.ndim else 1) if N is None else operator.index(N)
    if count <= 1:
        raise RuntimeError(f"N must be greater than 1, but got {count}")
    return powers(x, count)


@core.beside_first
def qr_(A: Any, mode: str = "reduced") -> Any:
    """The QR decomposition ``(Q, R)`` of a matrix, or of each in a batch.

    Args:
        mode: "reduced", "complete" (a square Q; differentiable where A is square) or "r" (an empty Q; no gradient).

    Raises:
        RuntimeError: an unknown mode, a gradient that the mode does not have, or ``A`` is not floating point.
    """
    A = _matrices("qr", A, False)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'"
        )
    if mode == "reduced" or (mode == "complete" and A.shape[-2] <= A.shape[-1]):
        return _QR(*qr(A))
    if A._needs_grad and core.modes.grad:
        raise RuntimeError(
            f"linalg.qr: mode={mode!r} has no gradient for a matrix of shape {list(A.shape)}; use 'reduced'"
        )
    linalg = module_of(A._data).linalg
    if mode == "r":
        return _QR(core.Tensor._wrap(A._data[:0].reshape(-1)[:0]), core.Tensor._wrap(linalg.qr(A._data, "r")))
    return _QR(*map(core.Tensor._wrap, linalg.qr(A._data, "complete")))


@public(name="qr")
def _legacy_qr(input: Any, some: bool = True) -> Any:
    """As ``linalg.qr`` with mode "reduced", or "complete" if not ``some``."""
    return qr_(input, "reduced" if some else "complete")


def eigh_(A: Any, UPLO: str = "L") -> Any:
    """Eigenvalues, rising, and orthonormal eigenvectors (as columns) of a symmetric matrix: ``(values, vectors)``.

    Only one triangle of ``A`` is read, the lower one or with ``UPLO="U"`` the upper one.

    Raises:
        RuntimeError: ``A`` is not square or not floating point, or ``UPLO`` is neither "L" nor "U".
    """
    A = _matrices("eigh", A)
    if UPLO not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    return _Eigh(*eigh(_t(F, A) if UPLO == "U" else A))


def eigvalsh(A: Any, UPLO: str = "L") -> Any:
    """The eigenvalues, rising, of a symmetric matrix; see ``eigh``."""
    return eigh_(A, UPLO)[0]


@core.beside_first
def svd_(A: Any, full_matrices: bool = True) -> Any:
    """The singular value decomposition ``(U, S, Vh)`` of a matrix, or of each in a batch: ``A = U @ diag(S) @ Vh``.

    Args:
        full_matrices: square U and Vh; differentiable where A is square.

    Raises:
        RuntimeError: ``A`` is not floating point, or a gradient is needed for the full matrices of one not square.
    """
    A = _matrices("svd", A, False)
    if not full_matrices or A.shape[-1] == A.shape[-2]:
        return _SVD(*svd(A))
    if A._needs_grad and core.modes.grad:
        raise RuntimeError(
            f"linalg.svd: the full matrices of a matrix of shape {list(A.shape)} have no gradient; "
            "use full_matrices=False"
        )
    return _SVD(*map(core.Tensor._wrap, module_of(A._data).linalg.svd(A._data)))


def svdvals(A: Any) -> Any:
    """The singular values, falling, of a matrix, or of each in a batch."""
    return svd(_matrices("svdvals", A, False))[1]


@public(name="svd")
def _legacy_svd(input: Any, some: bool = True, compute_uv: bool = True) -> Any:
    """As ``linalg.svd``, but with V in place of its transpose, and reduced by default."""
    u, s, vh = svd_(input, not some)
    if not compute_uv:
        u, vh = u.detach() * 0, vh.detach() * 0
    return _LegacySVD(u, s, _t(F, vh))


def pinv_(A: Any, *, atol: float | None = None, rtol: float | None = None, hermitian: bool = False) -> Any:
    """The pseudo-inverse of a matrix, or of each in a batch.

    Args:
        rtol: singular values below this times the largest count as zero; by default the larger size times epsilon.
        atol: as ``rtol``, absolute.

    Raises:
        RuntimeError: ``A`` is not floating point.
    """
    A = _matrices("pinv", A, False)
    rcond = max(A.shape[-2:]) * float(np.finfo(A.dtype).eps) if rtol is None and atol is None else rtol or 0.0
    if atol is not None and A._data.size:
        largest = float(module_of(A._data).linalg.norm(A._data, 2, axis=(-2, -1)).max())
        rcond = max(rcond, atol / largest) if largest else rcond
    return pinv(A, rcond)


@public()
def pinverse(input: Any, rcond: float = 1e-15) -> Any:
    """The pseudo-inverse; singular values below ``rcond`` times the largest count as zero."""
    return pinv_(input, rtol=rcond)


@core.beside_first
def lstsq(A: Any, B: Any, rcond: float | None = None) -> Any:
    """The X of least norm that minimises ``|A @ X - B|``: ``(solution, residuals, rank, singular_values)``."""
    A = _matrices("lstsq", A, False)
    vector = B.ndim == 1 or (B.ndim == A.ndim - 1 and tuple(B.shape) == tuple(A.shape[:-1]))
    b = reshape(B, (*B.shape, 1)) if vector else B
    x = F.matmul(pinv_(A, rtol=rcond), b)
    rank = matrix_rank(A)
    m, n = A.shape[-2:]
    if m > n and bool((rank._data == n).all()):
        difference = F.matmul(A, x) - b
        residuals = F.sum(difference * difference, (b.ndim - 2,), False)
    else:
        residuals = core.Tensor._wrap(A._data.reshape(-1)[:0])
    return _Lstsq(reshape(x, tuple(x.shape[:-1])) if vector else x, residuals, rank, svdvals(A.detach()))


@core.beside_first
def matrix_rank(A: Any, *, tol: Any = None, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Any:
    """The number of singular values that are not negligible, int64."""
    A = _matrices("matrix_rank", A, False).detach()
    values = svd(A)[1]._data
    most = values[..., :1]  # they are ordered
    if tol is None and atol is None and rtol is None:
        rtol = max(A.shape[-2:]) * float(np.finfo(A.dtype).eps)
    absolute = tol if tol is not None else atol or 0
    xp = module_of(values)
    return core.Tensor._wrap(xp.asarray((values > xp.maximum((rtol or 0) * most, absolute)).sum(axis=-1)))


@public()
def matrix_power(input: Any, n: int) -> Any:
    """The n-th power of a square matrix, or of each in a batch; negative powers are those of the inverse.

    Raises:
        RuntimeError: ``input`` is not square.
        LinAlgError: a negative power of a singular matrix.
    """
    a = _matrices("matrix_power", input)
    if n < 0:
        return matrix_power(inv(a), -n)
    result = None
    while n:
        if n % 2:
            result = a if result is None else F.matmul(result, a)
        n //= 2
        a = F.matmul(a, a) if n else a
    if result is None:
        xp = module_of(a._data)
        result = core.Tensor._wrap(xp.zeros(a._data.shape, a.dtype) + xp.eye(a.shape[-1], dtype=a.dtype))
    return result


# The coefficients of the diagonal Padé approximant of order 13 of exp, and the norm up to which it is exact in float64:
# Higham, "The Scaling and Squaring Method for the Matrix Exponential Revisited" (2005).
_PADE = [64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600]
_PADE += [670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1]
_PADE_NORM = 5.371920351148152


@public(method=("matrix_exp",))
def matrix_exp(input: Any) -> Any:
    """The exponential of a square matrix, or of each in a batch, by scaling and squaring.

    Raises:
        RuntimeError: ``input`` is not square or not floating point.
    """
    a = _matrices("matrix_exp", input)
    size = float(abs(a._data).sum(axis=-2).max()) if a._data.size else 0.0
    squarings = max(0, math.ceil(math.log2(size / _PADE_NORM))) if _PADE_NORM < size < math.inf else 0
    a = a * 0.5**squarings
    eye = core.Tensor._wrap(module_of(a._data).eye(a.shape[-1], dtype=a.dtype))
    powers = [eye, F.matmul(a, a)]
    for _ in range(5):
        powers.append(F.matmul(powers[-1], powers[1]))
    # Divided by the largest, so that float32 holds them.
    scale = [c / _PADE[0] for c in _PADE]
    even = sum(x * c for x, c in zip(powers, scale[::2], strict=True))
    odd = F.matmul(a, sum(x * c for x, c in zip(powers, scale[1::2], strict=True)))
    result = solve(even - odd, even + odd)
    for _ in range(squarings):
        result = F.matmul(result, result)
    return result


def multi_dot(tensors: Any) -> Any:
    """The product of several matrices (vectors at the ends), multiplied in the cheapest order.

    Raises:
        RuntimeError: fewer than two, or their shapes do not fit.
    """
    found = list(as_tensors("multi_dot", list(tensors)))
    if len(found) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(found)}")
    sizes = [(1 if t.ndim == 1 else t.shape[0], t.shape[-1]) for t in found]
    sizes[-1] = (found[-1].shape[0], 1 if found[-1].ndim == 1 else found[-1].shape[-1])
    best: dict[tuple[int, int], tuple[int, int]] = {(i, i): (0, i) for i in range(len(found))}
    for length in range(1, len(found)):
        for i in range(len(found) - length):
            j = i + length
            best[i, j] = min(
                (best[i, k][0] + best[k + 1, j][0] + sizes[i][0] * sizes[k][1] * sizes[j][1], k) for k in range(i, j)
            )

    def product(i: int, j: int) -> Any:
        k = best[i, j][1]
        return found[i] if i == j else core.FUNCTIONS["matmul"](product(i, k), product(k + 1, j))

    return product(0, len(found) - 1)


@public(method=False)
def chain_matmul(*matrices: Any) -> Any:
    """The product of several matrices, multiplied in the cheapest order."""
    return matrices[0] if len(matrices) == 1 else multi_dot(matrices)


def vecdot(x: Any, y: Any, *, dim: int = -1) -> Any:
    """The inner products of vectors along a dimension, broadcast."""
    product = x * y
    return F.sum(product, (normalize_dim(dim, product.ndim),), False)


def diagonal_(A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """A view of the diagonal of each matrix, as the last dimension."""
    return core.FUNCTIONS["diagonal"](A, offset, dim1, dim2)


def cross_(input: Any, other: Any, *, dim: int = -1) -> Any:
    """The vector product along a dimension of size 3."""
    return core.FUNCTIONS["cross"](input, other, dim)


# Norms.


def vector_norm(x: Any, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The norm of order ``ord`` of all elements, or over ``dim``.

    Raises:
        RuntimeError: ``x`` is not floating point.
    """
    (x,) = as_tensors("vector_norm", (x,))
    x = x if dtype is None else x.to(dtype)
    if not x.is_floating_point():
        raise RuntimeError(f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {x.dtype}")
    return F.norm(x, float(ord), normalize_dims(dim, x.ndim), keepdim)


def matrix_norm(A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The norm of each matrix.

    Args:
        ord: "fro", "nuc" (the sum of the singular values), 2 or -2 (the largest or smallest of them), 1 or -1 (the
            largest or smallest sum of a column's absolute values), inf or -inf (of a row's).

    Raises:
        RuntimeError: an unknown order, fewer than two dimensions, or not floating point.
    """
    A = A if dtype is None else A.to(dtype)
    rows, columns = normalize_dims(dim, _matrices_or_half(A).ndim)
    if ord == "fro":
        return F.norm(A, 2.0, (rows, columns), keepdim)
    if ord not in ("nuc", 1, -1, 2, -2, math.inf, -math.inf):
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    if ord in ("nuc", 2, -2):
        values = svdvals(movedim(A, (rows, columns), (-2, -1)))
        last = (values.ndim - 1,)
        out = F.sum(values, last, False) if ord == "nuc" else (F.amax if ord > 0 else F.amin)(values, last, False)
    else:
        over, then = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = F.norm(A, 1.0, (over,), True)
        out = (F.amax if ord > 0 else F.amin)(sums, (then,), True)
    shape = [1 if d in (rows, columns) else n for d, n in enumerate(A.shape)]
    return reshape(out, tuple(shape if keepdim else (n for d, n in enumerate(A.shape) if d not in (rows, columns))))


def _matrices_or_half(A: Any) -> Any:
    return A if A.dtype.itemsize == 2 and A.ndim > 1 else _matrices("matrix_norm", A, False)


def norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The norm of vectors or matrices, as the number of dimensions in ``dim`` says.

    Without ``ord`` and ``dim`` that of all elements; without ``dim`` that of a vector or a matrix.

    Raises:
        RuntimeError: an unknown order, or ``dim`` is needed to say what the matrices are.
    """
    if dim is not None:
        count = len(dim) if isinstance(dim, tuple | list) else 1
    elif ord is None or A.ndim == 1:
        count = 1
    elif A.ndim == 2:
        count, dim = 2, (0, 1)
    else:
        raise RuntimeError(
            f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {A.ndim}D."
        )
    if count == 2 and ord is not None:
        return matrix_norm(A, ord, dim, keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise RuntimeError(f"linalg.norm: order {ord!r} needs two dimensions, got dim={dim}")
    return vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype)


def cond(A: Any, p: Any = None) -> Any:
    """The condition number of each matrix, in the norm ``p``; by default the ratio of its extreme singular values."""
    if p in (None, 2, -2):
        values = svdvals(A)
        first, last = F.getitem(values, (..., 0)), F.getitem(values, (..., -1))
        return last / first if p == -2 else first / last
    return matrix_norm(A, p) * matrix_norm(inv_(A), p)


TriangularSolution = namedtuple("triangular_solve", ["solution", "cloned_coefficient"])  # type: ignore[name-match]


@public()
def triangular_solve(b: Any, A: Any, upper: bool = True, transpose: bool = False, unitriangular: bool = False) -> Any:
    """``linalg.solve_triangular`` under its old name: X of ``A @ X = b``, or ``A.mT @ X = b``, and a copy of A."""
    matrix = A.mT if transpose else A
    return TriangularSolution(
        solve_triangular(matrix, b, upper=upper != transpose, unitriangular=unitriangular), A.clone()
    )
