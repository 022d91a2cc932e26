"""Softmax and layer norm as one writes them in Triton: a program for each row, held on the chip where it fits."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

LONGEST = 16384  # elements of a row that a program holds


@triton.jit
def _softmax(x, out, columns: tl.constexpr, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * columns
    at = tl.arange(0, BLOCK)
    inside = at < columns
    values = tl.load(x + start + at, mask=inside, other=-float("inf")).to(tl.float32)
    raised = tl.exp(values - tl.max(values, 0))
    tl.store(out + start + at, (raised / tl.sum(raised, 0)).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _softmax_long(x, out, columns: tl.constexpr, BLOCK: tl.constexpr):
    # Rows have at least BLOCK elements, so that no element of `highest` stays infinite.
    start = tl.program_id(0).to(tl.int64) * columns
    at = tl.arange(0, BLOCK)
    highest = tl.full((BLOCK,), -float("inf"), tl.float32)
    sums = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, columns, BLOCK):
        inside = first + at < columns
        values = tl.load(x + start + first + at, mask=inside, other=-float("inf")).to(tl.float32)
        new = tl.maximum(highest, values)
        sums = sums * tl.exp(highest - new) + tl.exp(values - new)
        highest = new
    top = tl.max(highest, 0)
    total = tl.sum(sums * tl.exp(highest - top), 0)
    for first in range(0, columns, BLOCK):
        inside = first + at < columns
        values = tl.load(x + start + first + at, mask=inside, other=-float("inf")).to(tl.float32)
        tl.store(out + start + first + at, (tl.exp(values - top) / total).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _layer_norm(x, weight, bias, out, columns: tl.constexpr, eps, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * columns
    at = tl.arange(0, BLOCK)
    inside = at < columns
    values = tl.load(x + start + at, mask=inside, other=0.0).to(tl.float32)
    centred = tl.where(inside, values - tl.sum(values, 0) / columns, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / columns + eps)
    w = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(bias + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + start + at, (centred * scale * w + b).to(out.dtype.element_ty), mask=inside)


def _warps(block: int) -> int:
    return min(16, max(4, block // 512))


def softmax(x: Any) -> Any:
    """The softmax of the rows of a contiguous tensor."""
    out, (rows, columns) = x.new_empty(x.shape), x.shape
    if columns > LONGEST:
        _softmax_long[(rows,)](x, out, columns, BLOCK=8192, num_warps=16)
    else:
        block = triton.next_power_of_2(columns)
        _softmax[(rows,)](x, out, columns, BLOCK=block, num_warps=_warps(block))
    return out


def layer_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    """The layer norm of the rows of a contiguous tensor, of at most ``LONGEST`` elements each."""
    out, (rows, columns) = x.new_empty(x.shape), x.shape
    block = triton.next_power_of_2(columns)
    _layer_norm[(rows,)](x, weight, bias, out, columns, eps, BLOCK=block, num_warps=_warps(block))
    return out
