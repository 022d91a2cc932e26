"""Matrix products: matmul of any rank, the products named after their ranks, and the linear layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import core
from .core import METHODS, as_tensors, op, public
from .elementwise import add, mul


def _swapped(F: Any, x: Any) -> Any:
    """The last two dimensions exchanged."""
    n = x.ndim
    return F.permute(x, (*range(n - 2), n - 1, n - 2))


def _product(xp: Any, a: Any, b: Any) -> Any:
    """``a @ b`` with few calls of BLAS, and float16 summed in float32."""
    if a.dtype.itemsize == 2 and a.dtype.kind not in "iub":
        wide = np.dtype("float32")
        return _product(xp, a.astype(wide), b.astype(wide)).astype(a.dtype)
    if b.ndim == 2 and a.ndim > 2:
        return (a.reshape(-1, a.shape[-1]) @ b).reshape(*a.shape[:-1], b.shape[1])
    return xp.matmul(a, b)


def _matmul_samples(t: Any) -> list[Any]:
    return [
        (t(2, 3), t(3, 4)),
        (t(3), t(3)),
        (t(3), t(3, 4)),
        (t(2, 3), t(3)),
        (t(2, 4, 3), t(3, 2)),
        (t(3), t(2, 3, 2)),
        (t(2, 2, 3), t(3)),
        (t(2, 1, 2, 3), t(3, 3, 2)),
        (t(2, 3), t(2, 3, 2)),
        (t(3, 3), t(3, 3)),
    ]


@op(samples=_matmul_samples)
def matmul(xp, input, other, /):
    if input.dtype.kind == "b":
        raise RuntimeError("matmul is not implemented for bool tensors; convert them first")
    if not input.shape[-1]:
        # NumPy's product over nothing is right, its shape included, but for flattened batches.
        return xp.matmul(input, other)
    return _product(xp, input, other)


def _matmul_input(F, g, other, input_shape, other_shape):
    if len(other_shape) == 1:
        return g * other if len(input_shape) == 1 else F.reshape(g, (*g.shape, 1)) * other
    if len(input_shape) == 1:
        return F.matmul(other, F.reshape(g, (*g.shape, 1))).reshape((*other_shape[:-2], other_shape[-2]))
    return F.matmul(g, _swapped(F, other))


def _matmul_other(F, g, input, input_shape, other_shape):
    if len(input_shape) == 1:
        column = F.reshape(input, (input_shape[0], 1))
        return g * input if len(other_shape) == 1 else column * F.reshape(g, (*g.shape[:-1], 1, g.shape[-1]))
    if len(other_shape) == 1:
        return F.matmul(F.reshape(g, (-1,)), F.reshape(input, (-1, input_shape[-1])))
    if len(other_shape) == 2 and len(input_shape) > 2:
        input, g = F.reshape(input, (-1, input_shape[-1])), F.reshape(g, (-1, other_shape[-1]))
    return F.matmul(_swapped(F, input), g)


matmul.rules(input=_matmul_input, other=_matmul_other)


def _operands(name: str, *operands: Any) -> list[Any]:
    tensors = list(as_tensors(name, operands))
    first = tensors[0]
    for t in tensors[1:]:
        if t.dtype != first.dtype:
            raise RuntimeError(
                f"{name}: expected m1 and m2 to have the same dtype, but got: {first.dtype} != {t.dtype}; convert one with .to()"
            )
    return tensors


@public(name="matmul", method=("matmul", "__matmul__"))
def _matmul(input: Any, other: Any) -> Any:
    """The matrix product, batched and broadcast over all but the last two dimensions.

    A 1-d operand is a row on the left and a column on the right, and its dimension is gone in the result.

    Raises:
        RuntimeError: the inner sizes or the batch sizes do not match, an operand is 0-d, or the dtypes differ.
    """
    a, b = _operands("matmul", input, other)
    x, y = a._data.shape, b._data.shape
    if not x or not y:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {len(x)}D and {len(y)}D")
    if x[-1] != y[-2 if len(y) > 1 else -1]:
        if len(x) <= 2 and len(y) <= 2 and len(x) + len(y) > 2:
            shown = ["x".join(map(str, s)) for s in (x, y)]
            raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({shown[0]} and {shown[1]})")
        raise RuntimeError(f"matmul: the inner sizes of the shapes {x} and {y} do not match")
    if len(x) > 2 and len(y) > 2:
        try:
            np.broadcast_shapes(x[:-2], y[:-2])
        except ValueError:
            raise RuntimeError(f"matmul: the batch sizes of the shapes {x} and {y} do not broadcast") from None
    return matmul(a, b)


def _rmatmul(self: Any, other: Any) -> Any:
    return _matmul(other, self)


METHODS["__rmatmul__"] = _rmatmul


def _ranked(name: str, input: Any, other: Any, ranks: tuple[int, int]) -> Any:
    a, b = _operands(name, input, other)
    if (a.ndim, b.ndim) != ranks:
        raise RuntimeError(f"{name}: expected tensors of {ranks[0]} and {ranks[1]} dimensions, but got {a.ndim} and {b.ndim}")
    if name == "bmm" and a.shape[0] != b.shape[0]:
        raise RuntimeError(f"bmm: expected batches of one size, but got the shapes {tuple(a.shape)} and {tuple(b.shape)}")
    return _matmul(a, b)


@public()
def mm(input: Any, mat2: Any) -> Any:
    """The product of two matrices.

    Raises:
        RuntimeError: an operand is no matrix, or they do not fit.
    """
    return _ranked("mm", input, mat2, (2, 2))


@public()
def bmm(input: Any, mat2: Any) -> Any:
    """The products of two batches of matrices, (b, n, m) and (b, m, p).

    Raises:
        RuntimeError: an operand is not 3-d, or they do not fit.
    """
    return _ranked("bmm", input, mat2, (3, 3))


@public()
def mv(input: Any, vec: Any) -> Any:
    """The product of a matrix and a vector.

    Raises:
        RuntimeError: the ranks or sizes do not fit.
    """
    return _ranked("mv", input, vec, (2, 1))


@public()
def dot(input: Any, tensor: Any) -> Any:
    """The inner product of two vectors.

    Raises:
        RuntimeError: an operand is no vector, or their sizes differ.
    """
    a, b = _operands("dot", input, tensor)
    if a.ndim == b.ndim == 1 and a.shape != b.shape:
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor [{a.shape[0]}] and src [{b.shape[0]}] to have the same number of elements"
        )
    return _ranked("dot", a, b, (1, 1))


@public(method=("outer", "ger"))
def outer(input: Any, vec2: Any) -> Any:
    """The outer product of two vectors.

    Raises:
        RuntimeError: an operand is no vector.
    """
    a, b = as_tensors("outer", (input, vec2))
    if a.ndim != 1 or b.ndim != 1:
        raise RuntimeError(f"outer: expected 1-D tensors, but got {a.ndim}-D and {b.ndim}-D tensors")
    return mul(core.REGISTRY["reshape"](a, (a.shape[0], 1)), b)


def _plus_product(input: Any, product: Any, beta: float, alpha: float) -> Any:
    if alpha != 1:
        product = mul(product, alpha)
    return product if beta == 0 else add(input if beta == 1 else mul(input, beta), product)


@public()
def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha * (mat1 @ mat2)`` of matrices; ``input`` broadcasts."""
    return _plus_product(input, mm(mat1, mat2), beta, alpha)


@public()
def addmv(input: Any, mat: Any, vec: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha * (mat @ vec)``; ``input`` broadcasts."""
    return _plus_product(input, mv(mat, vec), beta, alpha)


@public()
def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha * (batch1 @ batch2)`` of batches of matrices; ``input`` broadcasts."""
    return _plus_product(input, bmm(batch1, batch2), beta, alpha)


def _linear_samples(t: Any) -> list[Any]:
    return [(t(4, 3), t(2, 3), t(2)), (t(3), t(2, 3), None), (t(2, 4, 3), t(2, 3), t(2)), (t(0, 3), t(2, 3), t(2))]


@op(samples=_linear_samples, torch="nn.functional.linear")
def linear(xp, input, weight, bias, /):
    out = _product(xp, input, weight.T) if input.shape[-1] else xp.matmul(input, weight.T)
    if bias is not None:
        out += bias
    return out


def _linear_weight(F, g, input):
    if g.ndim != 2:
        g, input = F.reshape(g, (-1, g.shape[-1])), F.reshape(input, (-1, input.shape[-1]))
    return F.matmul(F.permute(g, (1, 0)), input)


linear.rules(input=lambda F, g, weight: F.matmul(g, weight), weight=_linear_weight, bias=lambda F, g: g)


def checked_linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """``input @ weight.T + bias``: (..., in), (out, in) and (out,) to (..., out).

    Raises:
        RuntimeError: the shapes or dtypes do not fit.
    """
    operands = (input, weight) if bias is None else (input, weight, bias)
    tensors = _operands("linear", *operands)
    x, w = tensors[0]._data.shape, tensors[1]._data.shape
    if len(w) != 2 or not x or x[-1] != w[1]:
        shown = f"{'x'.join(map(str, x[:-1])) or '1'}x{x[-1] if x else 1}"
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({shown} and {'x'.join(map(str, w[::-1]))}): "
            f"linear got an input of shape {x} and a weight of shape {w}, (out, in)"
        )
    if bias is not None and tensors[2]._data.shape not in ((w[0],), (1,), ()):
        raise RuntimeError(f"linear: expected a bias of shape ({w[0]},), but got {tensors[2]._data.shape}")
    return linear(tensors[0], tensors[1], None if bias is None else tensors[2])
