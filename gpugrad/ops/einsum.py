"""Sums of products over any dimensions: einsum and its relatives, reduced to one matrix product each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from . import core
from .core import as_tensors, normalize_dim, normalize_dims, op, public
from .core import taped as F
from .matmul import matmul
from .shape import diagonal, permute, reshape


@op(
    samples=lambda t: [
        (t(2, 3), t(3, 4), "ij", "jk", "ik"),
        (t(3, 2), t(4, 3), "ji", "kj", "ki"),
        (t(2, 3, 2), t(2, 2, 4), "bij", "bjk", "bik"),
        (t(2, 3), t(2), "ij", "i", "ji"),
        (t(2, 3), t(2, 3), "ij", "ij", ""),
        (t(2), t(3), "i", "j", "ji"),
        (t(2, 3, 2, 2), t(3, 4, 2), "abcd", "bkc", "dak"),
    ],
    torch=lambda torch, a, b, left, right, out: torch.einsum(f"{left},{right}->{out}", a, b),
)
def contract(xp, input, other, /, left, right, result):
    """The product of two arrays whose dimensions have labels, summed over the labels that ``result`` lacks.

    Each label is at most once in each of the three, and in at least two of them: then so it is for the gradients.
    """
    summed = [c for c in (left if input.size >= other.size else right) if c in left and c in right and c not in result]
    if not summed:
        return _aligned(input, left, result) * _aligned(other, right, result)
    batch = [c for c in result if c in left and c in right]
    rest = [c for c in result if c not in batch]
    if rest and rest[0] not in left:
        # The dimensions of the first operand come first in the result.
        input, other, left, right = other, input, right, left
    rows, columns = [c for c in rest if c in left], [c for c in rest if c in right]
    size = {**dict(zip(left, input.shape, strict=True)), **dict(zip(right, other.shape, strict=True))}
    b, m, k, n = ([size[c] for c in group] for group in (batch, rows, summed, columns))
    stacks = [math.prod(b)] if b else []
    a2 = _ordered(input, left, batch + rows + summed).reshape((*stacks, math.prod(m), math.prod(k)))
    b2 = _ordered(other, right, batch + summed + columns).reshape((*stacks, math.prod(k), math.prod(n)))
    found = matmul.forward(xp, a2, b2).reshape((*b, *m, *n))
    return _ordered(found, batch + rows + columns, result)


contract.rules(
    input=lambda F, g, other, left, right, result: F.contract(g, other, result, right, left),
    other=lambda F, g, input, left, right, result: F.contract(g, input, result, left, right),
)


def _ordered(array: Any, labels: Sequence[str], wanted: Sequence[str]) -> Any:
    return array.transpose([labels.index(c) for c in wanted])


def _aligned(array: Any, labels: str, out: str) -> Any:
    """The dimensions in the order of ``out``, with a size of 1 for those that the array lacks."""
    present = _ordered(array, labels, [c for c in out if c in labels])
    sizes = iter(present.shape)
    return present.reshape([next(sizes) if c in labels else 1 for c in out])


def _same_dtype(name: str, tensors: Sequence[Any]) -> None:
    for t in tensors[1:]:
        if t.dtype != tensors[0].dtype:
            raise RuntimeError(
                f"{name}: expected tensors of one dtype, but got {tensors[0].dtype} and {t.dtype}; convert with .to()"
            )


def _letter(code: int) -> str:
    return chr(ord("A") + code) if code < 26 else chr(ord("a") + code - 26)


def _equation(args: tuple[Any, ...]) -> tuple[str, Sequence[Any]]:
    """The equation and operands of ``einsum("ij,jk", a, b)`` or ``einsum(a, [0, 1], b, [1, 2], [0, 2])``."""
    if isinstance(args[0], str):
        operands = args[1:]
        single = len(operands) == 1 and isinstance(operands[0], list | tuple)
        return args[0].replace(" ", ""), operands[0] if single else operands

    def subscripts(codes: Any) -> str:
        return "".join("..." if c is Ellipsis else _letter(c) for c in codes)

    equation = ",".join(subscripts(codes) for codes in args[1::2])
    return equation + (f"->{subscripts(args[-1])}" if len(args) % 2 else ""), args[: len(args) - len(args) % 2 : 2]


def _parse(equation: str, operands: Sequence[Any]) -> tuple[list[str], str]:
    """The labels of each operand and of the result; those of an ellipsis are control characters.

    Raises:
        RuntimeError: the equation is malformed or does not fit the operands.
    """
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        fewer = "fewer" if len(operands) < len(terms) else "more"
        raise RuntimeError(
            f"einsum(): {fewer} operands were provided than specified in the equation: {len(operands)} for {equation!r}"
        )
    for term in (*terms, right):
        for c in term.replace("...", "", 1):
            if not (c.isascii() and c.isalpha()):
                raise RuntimeError(
                    f"einsum(): invalid subscript {c!r} given in {equation!r}, subscripts must be in [a-zA-Z] or ..."
                )
    labels = []
    most = 0
    for k, (term, t) in enumerate(zip(terms, operands, strict=True)):
        hidden = t._data.ndim - len(term.replace("...", ""))
        if hidden < 0 or (hidden and "..." not in term):
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation ({len(term.replace('...', ''))}) does not match "
                f"the number of dimensions ({t._data.ndim}) for operand {k}"
                + " and no ellipsis was given"
                * (hidden > 0)
            )
        most = max(most, hidden)
        # Dimensions under an ellipsis are aligned at the last.
        labels.append(term.replace("...", "".join(chr(hidden - i) for i in range(hidden))))
    ellipsis = "".join(chr(most - i) for i in range(most))
    joined = "".join(labels)
    if not arrow:
        return labels, ellipsis + "".join(sorted(c for c in set(joined) if joined.count(c) == 1 and c.isalpha()))
    for c in right.replace("...", ""):
        if right.count(c) > 1:
            raise RuntimeError(f"einsum(): output subscript {c} appears more than once in the output of {equation!r}")
        if c not in joined:
            raise RuntimeError(
                f"einsum(): output subscript {c} does not appear in the equation for any input operand: {equation!r}"
            )
    return labels, right.replace("...", ellipsis)


def _without_repeats(t: Any, labels: str) -> tuple[Any, str]:
    """An operand with the diagonal taken where a label is repeated."""
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            first = labels.index(c)
            second = labels.index(c, first + 1)
            if t.shape[first] != t.shape[second]:
                raise RuntimeError(
                    f"einsum(): subscript {c} is repeated for an operand but the sizes don't match, "
                    f"{t.shape[second]} != {t.shape[first]}"
                )
            t = diagonal(t, 0, first, second)
            labels = labels[:first] + labels[first + 1 : second] + labels[second + 1 :] + c
    return t, labels


def _summed(t: Any, labels: str, keep: str) -> tuple[Any, str]:
    """An operand summed over the labels that nothing else needs."""
    dims = tuple(d for d, c in enumerate(labels) if c not in keep)
    return (F.sum(t, dims, False), "".join(c for c in labels if c in keep)) if dims else (t, labels)


@public(method=False)
def einsum(*args: Any) -> Any:
    """Sums of products of tensors over dimensions named by an equation: ``einsum("ij,jk->ik", a, b)``.

    Repeated labels in one operand take its diagonal, labels that the result lacks are summed over, an ellipsis stands
    for the dimensions that have no label, and without ``->`` the result has the labels that occur once, in order.

    Raises:
        RuntimeError: the equation is malformed, or does not fit the operands' shapes; or their dtypes differ.
    """
    equation, operands = _equation(args)
    if not operands:
        raise ValueError("einsum(): must provide at least one operand")
    operands = list(as_tensors("einsum", operands))
    _same_dtype("einsum", operands)
    labels, out = _parse(equation, operands)
    sizes: dict[str, int] = {}
    terms = []
    for k, (t, label) in enumerate(zip(operands, labels, strict=True)):
        t, label = _without_repeats(t, label)
        for c, n in zip(label, t._data.shape, strict=True):
            if sizes.get(c, 1) not in (1, n) and n != 1:
                raise RuntimeError(
                    f"einsum(): subscript {c} has size {n} for operand {k} which does not broadcast with previously "
                    f"seen size {sizes[c]}"
                )
            sizes[c] = n if sizes.get(c, 1) == 1 else sizes[c]
        terms.append((t, label))
    # A dimension of size 1 that stands for a larger one takes no part.
    for k, (t, label) in enumerate(terms):
        kept = [d for d, c in enumerate(label) if t._data.shape[d] == sizes[c]]
        if len(kept) < len(label):
            terms[k] = reshape(t, tuple(t._data.shape[d] for d in kept)), "".join(label[d] for d in kept)
    while len(terms) > 1:
        i, j = _cheapest(terms, out, sizes)
        second, first = terms.pop(j), terms.pop(i)
        keep = out + "".join(label for _, label in terms)
        a, left = _summed(*first, keep + second[1])
        b, right = _summed(*second, keep + left)
        shared = [c for c in left if c in right and c in keep]
        rest = [c for c in left + right if c in keep and c not in shared]
        result = "".join(shared + rest) if terms else "".join(c for c in out if c in left + right)
        terms.append((contract(a, b, left, right, result), result))
    t, label = _summed(*terms[0], out)
    return permute(t, tuple(label.index(c) for c in out)) if label != out else t


def _cheapest(terms: list[Any], out: str, sizes: dict[str, int]) -> tuple[int, int]:
    """The two operands to contract next: those whose product has the fewest elements more than they have."""

    def cost(pair: tuple[int, int]) -> int:
        others = out + "".join(label for k, (_, label) in enumerate(terms) if k not in pair)
        both = set(terms[pair[0]][1] + terms[pair[1]][1])
        return math.prod(sizes[c] for c in both if c in others) - sum(terms[k][0]._data.size for k in pair)

    pairs = [(i, j) for j in range(len(terms)) for i in range(j)]
    return min(pairs, key=cost) if len(pairs) > 1 else pairs[0]


def _labels(count: int, start: int = 0) -> str:
    return "".join(map(chr, range(start, start + count)))


@public(method=False)
def tensordot(a: Any, b: Any, dims: Any = 2) -> Any:
    """The product of two tensors, summed over dimensions of both.

    Args:
        dims: how many of the last of ``a`` and first of ``b``, or a pair of lists of dimensions.

    Raises:
        RuntimeError: the dimensions do not match in number or size, or the dtypes differ.
    """
    a, b = as_tensors("tensordot", (a, b))
    _same_dtype("tensordot", (a, b))
    if isinstance(dims, core.Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise RuntimeError(f"tensordot expects 0 <= dims <= ndim_a or ndim_b, but got dims={dims}")
        of_a, of_b = tuple(range(a.ndim - dims, a.ndim)), tuple(range(dims))
    else:
        pair = [tuple(x) if isinstance(x, list | tuple) else (x,) for x in dims]
        of_a, of_b = (normalize_dims(x, t.ndim) if x else () for x, t in zip(pair, (a, b), strict=True))
    if len(of_a) != len(of_b):
        raise RuntimeError(f"both dimension lists should have same length, got {len(of_a)} and {len(of_b)}")
    for i, j in zip(of_a, of_b, strict=True):
        if a.shape[i] != b.shape[j]:
            raise RuntimeError(
                f"contracted dimensions need to match, but first has size {a.shape[i]} in dim {i} and second has size "
                f"{b.shape[j]} in dim {j}"
            )
    left, right = list(_labels(a.ndim)), list(_labels(b.ndim, a.ndim))
    for i, j in zip(of_a, of_b, strict=True):
        right[j] = left[i]
    out = [c for c in left + right if (c in left) != (c in right)]
    return contract(a, b, "".join(left), "".join(right), "".join(out))


@public()
def inner(input: Any, other: Any) -> Any:
    """The product summed over the last dimension of both; of a scalar, the plain product.

    Raises:
        RuntimeError: the last dimensions differ in size, or the dtypes differ.
    """
    input, other = as_tensors("inner", (input, other))
    if not input.ndim or not other.ndim:
        return input * other
    if input.shape[-1] != other.shape[-1]:
        raise RuntimeError(
            "inner() the last dimension must match on both input tensors but got shapes "
            f"{list(input.shape)} and {list(other.shape)}"
        )
    return tensordot(input, other, ([-1], [-1]))


@public()
def kron(input: Any, other: Any) -> Any:
    """The Kronecker product: each element of ``input`` replaced by its product with ``other``."""
    input, other = as_tensors("kron", (input, other))
    ndim = max(input.ndim, other.ndim)
    a, b = ((1,) * (ndim - t.ndim) + tuple(t.shape) for t in (input, other))
    spread = [reshape(input, tuple(k for n in a for k in (n, 1))), reshape(other, tuple(k for n in b for k in (1, n)))]
    return reshape(spread[0] * spread[1], tuple(m * n for m, n in zip(a, b, strict=True)))


@public(method=False)
def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """``x1 @ W[k] @ x2 + b[k]`` for each k: (..., n), (..., m), (out, n, m) and (out,) to (..., out).

    Raises:
        RuntimeError: the shapes do not fit.
    """
    if input1.shape[:-1] != input2.shape[:-1]:
        raise RuntimeError(
            f"bilinear(): input batch dimensions do not match: got {list(input1.shape)} and {list(input2.shape)}"
        )
    out = einsum("...i,kij,...j->...k", input1, weight, input2)
    return out if bias is None else out + bias


@op(
    samples=lambda t: [(t(3, 2), t(3, 2), 0), (t(2, 3), t(2, 3), 1), (t(3), t(3), 0)],
    torch=lambda torch, a, b, dim: torch.linalg.cross(a, b, dim=dim),
)
def cross(xp, input, other, /, dim):
    """The vector product along a dimension of size 3."""
    return xp.cross(input, other, axis=dim)


cross.rules(
    input=lambda F, g, other, dim: F.cross(other, g, dim),
    other=lambda F, g, input, dim: F.cross(g, input, dim),
)


@public(name="cross")
def _cross(input: Any, other: Any, dim: int | None = None) -> Any:
    """The vector product along ``dim``, by default the first dimension of size 3.

    Raises:
        RuntimeError: the dimension has not size 3 in both, or the ranks differ.
    """
    input, other = as_tensors("cross", (input, other))
    if dim is None:
        dim = next((d for d, n in enumerate(input.shape) if n == 3), None)
        if dim is None:
            raise RuntimeError(f"no dimension of size 3 in input of shape {list(input.shape)}")
    if input.ndim != other.ndim:
        raise RuntimeError(
            f"linalg.cross: inputs must have the same number of dimensions, got {input.ndim} and {other.ndim}"
        )
    dim = normalize_dim(dim, input.ndim)
    if input.shape[dim] != 3 or other.shape[dim] != 3:
        raise RuntimeError(
            f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[dim]} and {other.shape[dim]}"
        )
    _same_dtype("cross", (input, other))
    return cross(input, other, dim)


@public()
def trace(input: Any) -> Any:
    """The sum of the diagonal of a matrix.

    Raises:
        RuntimeError: ``input`` is no matrix.
    """
    if input.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
    return F.sum(diagonal(input, 0, 0, 1), (0,), False)
