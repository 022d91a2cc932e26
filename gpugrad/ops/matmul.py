"""Matrix products: matmul of any rank, the products named after their ranks, and the linear layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import blas, gemm, module_of
from ..engine import sum_to
from . import core
from .core import FUNCTIONS, METHODS, as_tensors, op, public
from .elementwise import add, mul
from .pointwise import inplace_method


def _swapped(F: Any, x: Any) -> Any:
    """The last two dimensions exchanged."""
    n = x.ndim
    return F.permute(x, (*range(n - 2), n - 1, n - 2))


def _rows(F: Any, x: Any) -> Any:
    """All dimensions but the last made one."""
    return x if x.ndim == 2 else F.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _product(xp: Any, a: Any, b: Any, out: Any = None) -> Any:
    """``a @ b``, of matrices also into ``out``, with few calls of BLAS, and float16 summed in float32."""
    if a.dtype != b.dtype:
        raise RuntimeError(
            f"expected m1 and m2 to have the same dtype, but got: {a.dtype} != {b.dtype}; convert one with .to()"
        )
    if a.ndim > 2 and b.ndim == 2:
        return _product(xp, a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[1])
    if xp is np and a.dtype.itemsize == 2 and a.dtype.kind not in "iu":
        return _product(xp, a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)
    return blas.matmul(xp, a, b, out)


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
    """The matrix product, batched and broadcast over all but the last two dimensions.

    Raises:
        RuntimeError: the shapes or dtypes do not fit.
        NotImplementedError: the elements are booleans.
    """
    if input.dtype.kind == "b":
        raise NotImplementedError("matmul is not implemented for bool tensors; convert them first")
    try:
        return _product(xp, input, other)
    except ValueError:
        raise _shape_error(input.shape, other.shape) from None


def _shape_error(x: tuple[int, ...], y: tuple[int, ...]) -> RuntimeError:
    if not x or not y:
        return RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {len(x)}D and {len(y)}D")
    if x[-1] == y[-2 if len(y) > 1 else -1]:
        return RuntimeError(f"matmul: the batch sizes of the shapes {x} and {y} do not broadcast")
    if len(x) > 2 and len(y) > 2:
        return RuntimeError(f"matmul: the inner sizes of the shapes {x} and {y} do not match")
    a, b = (math.prod(x[:-1]), x[-1]), (math.prod(y[:-1]) if len(y) != 1 else y[0], y[-1] if len(y) > 1 else 1)
    return RuntimeError(
        f"mat1 and mat2 shapes cannot be multiplied ({a[0]}x{a[1]} and {b[0]}x{b[1]}); the operands have the shapes "
        f"{tuple(x)} and {tuple(y)}"
    )


def _matmul_input(F, g, other, input_shape, other_shape):
    if len(other_shape) == 1:
        return g * other if len(input_shape) == 1 else F.reshape(g, (*g.shape, 1)) * other
    if len(input_shape) == 1:
        return F.reshape(F.matmul(other, F.reshape(g, (*g.shape, 1))), other_shape[:-1])
    return F.matmul(g, _swapped(F, other))


def _matmul_other(F, g, input, input_shape, other_shape):
    if len(input_shape) == 1:
        column = F.reshape(input, (input_shape[0], 1))
        return g * input if len(other_shape) == 1 else column * F.reshape(g, (*g.shape[:-1], 1, g.shape[-1]))
    if len(other_shape) == 1:
        return F.matmul(F.reshape(g, (math.prod(g.shape),)), _rows(F, input))
    if len(other_shape) == 2:
        return F.matmul(F.permute(_rows(F, input), (1, 0)), _rows(F, g))
    return F.matmul(_swapped(F, input), g)


matmul.rules(input=_matmul_input, other=_matmul_other)


def _operands(name: str, *operands: Any) -> Any:
    tensors = as_tensors(name, operands)
    dtype = tensors[0]._data.dtype
    for t in tensors:
        if t._data.dtype is not dtype and t._data.dtype != dtype:
            raise RuntimeError(
                f"{name}: expected m1 and m2 to have the same dtype, but got: {dtype} != {t.dtype}; convert with .to()"
            )
    return tensors


@public(name="matmul", method=("matmul", "__matmul__"))
def _matmul(input: Any, other: Any) -> Any:
    """The matrix product, batched and broadcast over all but the last two dimensions.

    A 1-d operand is a row on the left and a column on the right, and its dimension is gone in the result.

    Raises:
        RuntimeError: the inner sizes or the batch sizes do not match, an operand is 0-d, or the dtypes differ.
    """
    return matmul(input, other)


def _rmatmul(self: Any, other: Any) -> Any:
    return _matmul(other, self)


METHODS["__rmatmul__"] = _rmatmul


def _ranked(name: str, input: Any, other: Any, ranks: tuple[int, int]) -> Any:
    a, b = _operands(name, input, other)
    if (a.ndim, b.ndim) != ranks:
        raise RuntimeError(
            f"{name}: expected tensors of {ranks[0]} and {ranks[1]} dimensions, but got {a.ndim} and {b.ndim}"
        )
    if name == "bmm" and a.shape[0] != b.shape[0]:
        raise RuntimeError(
            f"bmm: expected batches of one size, but got the shapes {tuple(a.shape)} and {tuple(b.shape)}"
        )
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
            f"inconsistent tensor size, expected tensor [{a.shape[0]}] and src [{b.shape[0]}] "
            "to have the same number of elements"
        )
    return _ranked("dot", a, b, (1, 1))


METHODS["vdot"] = FUNCTIONS["vdot"] = dot


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


FUNCTIONS["ger"] = outer


def _plus_product(input: Any, product: Any, beta: float, alpha: float) -> Any:
    if core.autocasting:
        (input,) = core.autocasting[-1]("addmm", (input,))
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


@public()
def addbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha *`` the sum over the batch of ``batch1 @ batch2``; ``input`` broadcasts."""
    return _plus_product(input, core.REGISTRY["sum"](bmm(batch1, batch2), (0,), False), beta, alpha)


@public()
def addr(input: Any, vec1: Any, vec2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """``beta * input + alpha *`` the outer product of two vectors; ``input`` broadcasts."""
    return _plus_product(input, outer(vec1, vec2), beta, alpha)


for _name in ("addmm", "addmv", "baddbmm", "addbmm", "addr"):
    METHODS[f"{_name}_"] = inplace_method(_name, FUNCTIONS[_name])
FUNCTIONS["addmv_"], FUNCTIONS["ger"] = METHODS["addmv_"], outer


def _linear_samples(t: Any) -> list[Any]:
    return [(t(4, 3), t(2, 3), t(2)), (t(3), t(2, 3), None), (t(2, 4, 3), t(2, 3), t(2)), (t(0, 3), t(2, 3), t(2))]


@op(samples=_linear_samples, torch="nn.functional.linear")
def linear(xp, input, weight, bias, /):
    """``input @ weight.T + bias``: (..., in), (out, in) and (out,) to (..., out).

    Raises:
        RuntimeError: the shapes or dtypes do not fit.
    """
    x, w = input.shape, weight.shape
    if len(w) != 2 or not x or x[-1] != w[1]:
        shown = " and ".join(f"{math.prod(s[:-1])}x{s[-1] if s else 1}" for s in (x, w[::-1]))
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({shown}): "
            f"linear got an input of shape {x} and a weight of shape "
            f"{w}, (out, in)"
        )
    if bias is not None and ((bias.shape != (w[0],) and bias.shape not in ((1,), ())) or bias.dtype != input.dtype):
        raise RuntimeError(
            f"linear: expected a bias of shape ({w[0]},) and {input.dtype}, got {bias.shape}, {bias.dtype}"
        )
    out = _product(xp, input, weight.T)
    if bias is not None:
        out += bias
    return out


@linear.kernel
def _linear_kernel(input: Any, weight: Any, bias: Any) -> Any:
    """The product with the bias added by cuBLASLt."""
    x, w = input.shape, weight.shape
    if bias is None or not x or len(w) != 2 or x[-1] != w[1] or bias.shape != w[:1]:
        return NotImplemented
    if not input.size or not (input.dtype == weight.dtype == bias.dtype) or input.dtype.kind in "biu":
        return NotImplemented
    return gemm.matmul(input.reshape(math.prod(x[:-1]), w[1]), weight.T, bias=bias).reshape(*x[:-1], w[0])


@linear.joint_rule(input=("weight",), weight=("input",))
def _linear_rule(F, g, wanted, input, weight):
    answers = [F.matmul(g, weight) if wanted[0] else None, None, g if wanted[2] else None]
    if wanted[1] and wanted[2]:
        answers[1:] = F.linear_slopes(g, input)
    elif wanted[1]:
        answers[1] = F.matmul(F.permute(_rows(F, g), (1, 0)), _rows(F, input))
    return answers


@op(outputs=2, samples=lambda t: [(t(4, 2), t(4, 3)), (t(2), t(3)), (t(2, 4, 2), t(2, 4, 3))], torch=None)
def linear_slopes(xp, g, input, /):
    # The gradients of linear by its weight and its bias.
    rows = _rows_of(g)
    return _product(xp, rows.T, _rows_of(input)), sum_to(rows, rows.shape[1:])


@linear_slopes.kernel
def _linear_slopes_kernel(g: Any, input: Any) -> Any:
    """Both at once, by cuBLASLt."""
    if g.dtype != input.dtype or g.dtype.kind in "biu":
        return NotImplemented
    rows, sums = _rows_of(g), module_of(g).empty(g.shape[-1:], g.dtype)
    return gemm.matmul(rows.T, _rows_of(input), sums=sums), sums


def _rows_of(array: Any) -> Any:
    return array if array.ndim == 2 else array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


@linear_slopes.joint_rule(g=("input", "g_shape"), input=("g",))
def _linear_slopes_rule(F, slopes, wanted, g, input, g_shape):
    weight, bias = slopes
    answers = [None, None]
    if wanted[0]:
        answers[0] = F.expand(bias, g_shape) if weight is None else F.linear(input, weight, bias)
    if wanted[1] and weight is not None:
        answers[1] = F.matmul(g, weight)
    return answers


def checked_linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """``input @ weight.T + bias``: (..., in), (out, in) and (out,) to (..., out); with a weight of (in,), to (...).

    Raises:
        RuntimeError: the shapes or dtypes do not fit.
    """
    if getattr(weight, "ndim", 2) == 1:
        product = matmul(input, weight)
        return product if bias is None else add(product, bias)
    return linear(input, weight, bias)
