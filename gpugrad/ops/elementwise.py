"""Elementwise ops: arithmetic, comparison, powers, exponentials, trigonometry, activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import core
from .core import FUNCTIONS, METHODS, as_tensors, op, public
from .pointwise import binary, elementwise, inplace_method, unary


@elementwise(samples=binary(), public=False)
def add(xp, input, other, /):
    return xp.add(input, other)


add.rules(input=lambda F, g: g, other=lambda F, g: g)


@elementwise(samples=binary(), public=False)
def sub(xp, input, other, /):
    if input.dtype.kind == "b":
        raise RuntimeError("Subtraction, the `-` operator, with a bool tensor is not supported; use logical_xor or convert it")
    return xp.subtract(input, other)


sub.rules(input=lambda F, g: g, other=lambda F, g: -g)


@elementwise(samples=binary(), aliases=("multiply",))
def mul(xp, input, other, /):
    """Elementwise product of ``input`` and ``other``, broadcast and promoted."""
    return xp.multiply(input, other)


mul.rules(input=lambda F, g, other: g * other, other=lambda F, g, input: g * input)


@elementwise(samples=binary(0.5, 2.0), promotes="float", name="div", public=False)
def true_divide(xp, input, other, /):
    return xp.true_divide(input, other)


true_divide.rules(
    input=lambda F, g, other: g / other,
    other=lambda F, g, other, out: -g * (out / other),
)


@elementwise(samples=unary(), aliases=("negative",))
def neg(xp, input, /):
    """The negative of each element.

    Raises:
        RuntimeError: ``input`` is a bool tensor.
    """
    if input.dtype.kind == "b":
        raise RuntimeError("Negation, the `-` operator, on a bool tensor is not supported; use `~` or logical_not")
    return xp.negative(input)


neg.rules(input=lambda F, g: -g)


@elementwise(samples=unary(), promotes="float")
def exp(xp, input, /):
    """e to the power of each element."""
    return xp.exp(input)


exp.rules(input=lambda F, g, out: g * out)


def _scaled(alpha: Any, other: Any) -> Any:
    return other if alpha == 1 else other * alpha


@public()
def _add(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input + alpha * other``, broadcast and promoted."""
    return add(input, _scaled(alpha, other))


@public(name="sub", method=("sub", "subtract"))
def _sub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input - alpha * other``, broadcast and promoted."""
    return sub(input, _scaled(alpha, other))


def _rounded_quotient(mode: str) -> Callable[..., Any]:
    return {"floor": FUNCTIONS["floor_divide"], "trunc": FUNCTIONS["trunc_divide"]}[mode]


@public(name="div", method=("div", "divide", "true_divide"))
def _div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """``input / other``, broadcast; integers divide to floating point.

    Args:
        rounding_mode: None for the true quotient, "floor" or "trunc" to round it, keeping integer dtypes.

    Raises:
        RuntimeError: the rounding mode is unknown.
    """
    if rounding_mode is None:
        return true_divide(input, other)
    if rounding_mode not in ("floor", "trunc"):
        raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found {rounding_mode!r}")
    return _rounded_quotient(rounding_mode)(input, other)


for _name, _function in (("add", _add), ("sub", _sub), ("div", _div)):
    METHODS[f"{_name}_"] = inplace_method(_name, _function)


@elementwise(samples=binary(), differentiable=False, torch="gt", aliases=("greater",))
def gt(xp, input, other, /):
    """Where ``input > other``, as a bool tensor."""
    return xp.greater(input, other)


@op(samples=lambda t: [(t(2, 3), t.bools(2, 3))], torch=None, name="keep")
def keep(xp, input, mask, /):
    # A product would turn inf * 0 into NaN, and numpy.where is ten times slower on random masks.
    bits = np.dtype(f"i{input.dtype.itemsize}")
    if input.shape != mask.shape:
        return xp.where(mask, input, input.dtype.type(0))
    chosen = xp.negative(xp.ascontiguousarray(mask).view(np.int8).astype(bits))
    chosen &= xp.ascontiguousarray(input).view(bits)
    return chosen.view(input.dtype)


keep.rules(input=lambda F, g, mask: F.keep(g, mask))


@elementwise(samples=unary())
def relu(xp, input, /):
    """max(0, x) of each element."""
    return xp.maximum(input, 0)


relu.rules(input=lambda F, g, out: F.keep(g, out > 0))


@elementwise(samples=unary(), promotes="float")
def tanh(xp, input, /):
    """Hyperbolic tangent of each element."""
    return xp.tanh(input)


tanh.rules(input=lambda F, g, out: g * (1 - out * out))


def _reversed(function: Any) -> Callable[..., Any]:
    def operator(self: Any, other: Any) -> Any:
        (left,) = as_tensors(function.name, (core.wrap_operand(function.name, other, self),))
        return function(left, self)

    return operator


def _operator(function: Any) -> Callable[..., Any]:
    def operator(self: Any, other: Any) -> Any:
        return function(self, other)

    return operator


METHODS["__add__"] = METHODS["__radd__"] = add.function
METHODS["__mul__"] = METHODS["__rmul__"] = mul.function
METHODS["__sub__"], METHODS["__rsub__"] = sub.function, _reversed(sub)
METHODS["__truediv__"], METHODS["__rtruediv__"] = true_divide.function, _reversed(true_divide)
METHODS["__neg__"] = neg.function
METHODS["__gt__"] = gt.function
for _symbol, _target in (("__iadd__", "add_"), ("__isub__", "sub_"), ("__imul__", "mul_"), ("__itruediv__", "div_")):
    METHODS[_symbol] = METHODS[_target]
