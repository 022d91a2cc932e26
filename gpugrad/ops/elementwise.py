"""Elementwise ops: arithmetic, powers, exponentials, trigonometry, rounding, comparison, logic, selection.

Activations are in ``activation.py``, special functions in ``special.py``.
"""

from __future__ import annotations

import builtins
import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import cpu, dtypes, lazy, module_of
from ..engine import modes
from . import core, trace
from .core import FUNCTIONS, METHODS, as_tensors, op, public
from .pointwise import Elementwise, binary, binary_function, elementwise, inplace_method, unary

_NUMBERS = (bool, int, float)

BRANCHES = 2048
"""Elements up to which numpy.where is faster than bit operations, however random the mask."""


def _tensors(low: float = -2.0, high: float = 2.0) -> Callable[[Any], list[Any]]:
    """Samples of a two-input op that takes no numbers in PyTorch."""
    return lambda t: binary(low, high)(t)[:-1]


def zero(F: Any, g: Any) -> Any:
    """The gradient of a function that is constant almost everywhere."""
    array = F.array(g)
    return F.constant(module_of(array).zeros(array.shape, array.dtype))


def in_blocks(function: Callable[..., Any], *values: Any, row: int = 0) -> Any:
    """``function(*values)`` on parts of large NumPy arrays that stay in cache while it makes its passes over them.

    Args:
        function: gives an array of the shape and dtype of its first argument, element by element or row by row.
        values: arrays of one shape, and anything else, which goes with each part as it is.
        row: how many elements have to stay together; the parts have such rows then, else they are flat.
    """
    first = values[0]
    if first.__class__ is not np.ndarray or first.size < cpu.WHOLE:
        return function(*values)
    shape = (-1, row) if row else (-1,)
    cut = [v.__class__ is np.ndarray and v.ndim > 0 for v in values]
    flat = []
    for value, is_cut in zip(values, cut, strict=True):
        if is_cut and (value.shape != first.shape or not value.flags.c_contiguous):
            return function(*values)
        flat.append(value.reshape(shape) if is_cut else value)
    out = np.empty(first.shape, first.dtype)
    rows = out.reshape(shape)
    step = max(1, cpu.BLOCK // (row or 1))

    def task(start: int, stop: int) -> None:
        for i in range(start, stop, step):
            part = slice(i, min(i + step, stop))
            rows[part] = function(*[v[part] if is_cut else v for v, is_cut in zip(flat, cut, strict=True)])

    cpu.parallel(task, len(rows), step)
    return out


def blockwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """An elementwise forward, or a rule on raw arrays, that makes several passes: done ``in_blocks``.

    On a CUDA device a rule is one kernel.
    """

    @functools.wraps(function)
    def wrapper(where: Any, first: Any, *rest: Any) -> Any:
        if where is core.raw and first.__class__ is not np.ndarray and core.fuses() and not lazy.active():
            found = trace.run(function, first, *rest)
            if found is not NotImplemented:
                return found[0]
        if first.__class__ is not np.ndarray or first.size < cpu.WHOLE:
            return function(where, first, *rest)
        return in_blocks(functools.partial(function, where), first, *rest)

    wrapper.several_passes = True  # type: ignore[attr-defined]
    return wrapper


def fill_in_blocks(function: Callable[..., None], outs: Sequence[Any], *values: Any, step: int = 0) -> None:
    """``function(*outs, *values, scratch)``, which writes into ``outs``, on parts of large NumPy arrays.

    The parts stay in cache while it makes its passes over them, element by element. The scratch space is a part of
    the first value's shape and dtype.

    Args:
        outs: arrays of the shape of the first value, or None.
        step: elements in a part; as many as suit four arrays unless given.
    """
    first, step = values[0], step or cpu.BLOCK // 2
    arrays = (*outs, *values)

    def can_be_cut(a: Any) -> bool:
        return a is None or (a.__class__ is np.ndarray and a.shape == first.shape and a.flags.c_contiguous)

    if first.size <= step or not all(map(can_be_cut, arrays)):
        function(*arrays, module_of(first).empty_like(first))
        return
    flat = [None if a is None else a.reshape(-1) for a in arrays]

    def task(start: int, stop: int) -> None:
        scratch = cpu.empty(step, first.dtype)
        for i in range(start, stop, step):
            end = min(i + step, stop)
            function(*[None if a is None else a[i:end] for a in flat], scratch[: end - i])

    cpu.parallel(task, first.size, cpu.BLOCK)


def _bits(mask: Any, dtype: np.dtype) -> Any:
    """Integers of the dtype's size with all bits set where ``mask`` is."""
    return np.negative(mask.view(np.int8)).astype(f"i{dtype.itemsize}")


def _select(first: Any, second: Any, mask: Any) -> Any:
    kind = f"i{first.dtype.itemsize}"
    a, b = first.view(kind), second.view(kind)
    return (((a ^ b) & _bits(mask, first.dtype)) ^ b).view(first.dtype)


def select(xp: Any, mask: Any, first: Any, second: Any) -> Any:
    """``xp.where(mask, first, second)`` for arrays of one dtype.

    numpy.where mispredicts a branch for every other element of a random mask; bit operations are ten times faster.
    """
    if xp is not np:
        return _select_on_device(xp, mask, first, second)
    if mask.size <= BRANCHES:
        return xp.where(mask, first, second)
    return in_blocks(_select, first, second, mask)


def _select_on_device(xp: Any, mask: Any, first: Any, second: Any) -> Any:
    """``xp.where`` of arrays of one dtype and numbers; of bfloat16 by the bits, since CuPy makes float32 of it."""
    dtype = next(a.dtype for a in (first, second) if isinstance(a, xp.ndarray))
    if dtype.name != "bfloat16":
        return xp.where(mask, first, second)
    bits = [
        a.view(np.int16) if isinstance(a, xp.ndarray) else np.array(a, dtype).view(np.int16)[()]
        for a in (first, second)
    ]
    return xp.where(mask, *bits).view(dtype)


def _masked(out: Any, mask: Any, input: Any) -> None:
    """``input`` where the int8 ``mask`` has all bits set, 0 where it has none."""
    kind = f"i{input.dtype.itemsize}"
    bits = out.view(kind)
    bits[...] = mask
    np.bitwise_and(bits, input.view(kind), out=bits)


def _filled(function: Callable[..., None], input: Any, other: Any) -> Any:
    """What a function of few passes writes into an array: in blocks only where that is quicker."""
    out = np.empty(np.broadcast_shapes(input.shape, other.shape), input.dtype)
    if out.size < cpu.WHOLE:
        function(out, input, other)
    else:
        fill_in_blocks(function, (out,), input, other, step=cpu.BLOCK)
    return out


def _keep(out: Any, input: Any, mask: Any, scratch: Any = None) -> None:
    _masked(out, np.negative(mask.view(np.int8)), input)


def _where_positive(out: Any, input: Any, other: Any, scratch: Any = None) -> None:
    mask = (other <= 0).view(np.int8)
    mask -= 1
    _masked(out, mask, input)


def where_positive(F: Any, input: Any, other: Any) -> Any:
    """``input`` where ``other`` is above 0 or NaN, else 0; of one shape."""
    if input.__class__ is np.ndarray and input.size > BRANCHES:
        return _filled(_where_positive, input, other)
    return _kept_where_positive(F, input, other)


_kept_where_positive = blockwise(lambda F, input, other: F.keep(input, ~(other <= 0)))


@op(samples=lambda t: [(t(2, 3), t.bools(2, 3)), (t(2, 3), t.bools(3))], torch=None)
def keep(xp, input, mask, /):
    """``input`` where ``mask`` is true, else 0: exact for inf and NaN, which a product is not."""
    if xp is not np or mask.size <= BRANCHES:
        return select(xp, mask, input, input.dtype.type(0))
    return _filled(_keep, input, mask)


keep.rules(input=lambda F, g, mask: F.keep(g, mask))
keep.chain(lambda args, recording: lazy.apply("keep", args))


# Arithmetic


@elementwise(samples=binary(), public=False)
def add(xp, input, other, /):
    """``input + other``."""
    return xp.add(input, other)


add.rules(input=lambda F, g: g, other=lambda F, g: g)


def _no_bool_subtraction(array: Any) -> None:
    if array.dtype.kind == "b":
        raise RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported; use logical_xor or convert it"
        )


@elementwise(samples=binary(), public=False)
def sub(xp, input, other, /):
    """``input - other``."""
    _no_bool_subtraction(input)
    return xp.subtract(input, other)


sub.rules(input=lambda F, g: g, other=lambda F, g: -g)


@elementwise(samples=binary(), public=False)
def rsub(xp, input, other, /):
    """``other - input``."""
    _no_bool_subtraction(input)
    return xp.subtract(other, input)


rsub.rules(input=lambda F, g: -g, other=lambda F, g: g)


@elementwise(samples=binary(), aliases=("multiply",))
def mul(xp, input, other, /):
    """Elementwise product of ``input`` and ``other``, broadcast and promoted."""
    return xp.multiply(input, other)


mul.rules(input=lambda F, g, other: g * other, other=lambda F, g, input: g * input)


@elementwise(samples=binary(0.5, 2.0), promotes="float", name="div", result_may_change=True, public=False)
def true_divide(xp, input, other, /):
    """``input / other``."""
    return xp.true_divide(input, other)


true_divide.rules(
    input=lambda F, g, other: g / other,
    other=blockwise(lambda F, g, other, out: -g * (out / other)),
)


@elementwise(
    samples=binary(0.5, 2.0),
    promotes="float",
    result_may_change=True,
    public=False,
    torch=lambda torch, a, b: b / a,
)
def rdiv(xp, input, other, /):
    """``other / input``."""
    return xp.true_divide(other, input)


rdiv.rules(
    input=blockwise(lambda F, g, input, out: -g * (out / input)),
    other=lambda F, g, input: g / input,
)


def _no_zero_division(xp: Any, input: Any, other: Any) -> None:
    zeros = other == 0
    if not dtypes.is_floating(input.dtype) and bool(zeros if isinstance(zeros, bool) else xp.any(zeros)):
        raise RuntimeError("ZeroDivisionError: integer division or modulo by zero")


def _divisors(t: Any) -> list[Any]:
    return [(t(2, 3), t(2, 3, low=0.5)), (t(2, 1, 3), t(4, 1, low=-2.0, high=-0.5)), (t(2, 3), 0.75)]


def _opposed(rest: Any, other: Any) -> Any:
    """Where a remainder of ``fmod`` is not the one of the quotient rounded down."""
    return (rest != 0) & ((rest < 0) != (other < 0))


@elementwise(samples=_divisors, torch=lambda torch, a, b: torch.div(a, b, rounding_mode="floor"))
@blockwise
def floor_divide(xp, input, other, /):
    """``input / other`` rounded down, in the operands' common dtype; its gradient is zero.

    Raises:
        RuntimeError: an integer divided by zero.
    """
    _no_zero_division(xp, input, other)
    if xp is np or not dtypes.is_floating(input.dtype):
        return xp.floor_divide(input, other)
    # CuPy rounds the quotient before it rounds it down, so that 1 // 0.1 would be 10.
    rest, ratio = xp.fmod(input, other), xp.true_divide(input, other)
    quotient = xp.rint((input - rest) / other) - _opposed(rest, other)
    quotient = xp.where(quotient == 0, xp.copysign(xp.zeros_like(ratio), ratio), quotient)
    if isinstance(other, _NUMBERS):
        return quotient if other else ratio
    return xp.where(other == 0, ratio, quotient)


floor_divide.rules(input=zero, other=zero)


@elementwise(samples=_divisors, torch=lambda torch, a, b: torch.div(a, b, rounding_mode="trunc"), public=False)
def trunc_divide(xp, input, other, /):
    """``input / other`` rounded towards zero."""
    if dtypes.is_floating(input.dtype):
        return xp.trunc(xp.true_divide(input, other))
    _no_zero_division(xp, input, other)
    return xp.floor_divide(input - xp.fmod(input, other), other)


trunc_divide.rules(input=zero, other=zero)


@elementwise(samples=_divisors)
@blockwise
def remainder(xp, input, other, /):
    """The remainder of ``input / other``, with the sign of ``other`` (Python's ``%``).

    Raises:
        RuntimeError: an integer divided by zero.
    """
    _no_zero_division(xp, input, other)
    if xp is np or not dtypes.is_floating(input.dtype):
        return xp.remainder(input, other)
    # CuPy subtracts a product that was rounded.
    rest = xp.fmod(input, other)
    rest = xp.where(_opposed(rest, other), rest + other, rest)
    return xp.where(rest == 0, xp.copysign(xp.zeros_like(rest), other), rest)


remainder.rules(input=lambda F, g: g, other=lambda F, g, input, other: -g * F.floor_divide(input, other))


@elementwise(samples=_divisors)
def fmod(xp, input, other, /):
    """The remainder of ``input / other``, with the sign of ``input`` (C's ``fmod``).

    Raises:
        RuntimeError: an integer divided by zero.
    """
    _no_zero_division(xp, input, other)
    return xp.fmod(input, other)


fmod.rules(input=lambda F, g: g, other=lambda F, g, input, other: -g * F.trunc_divide(input, other))


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


@public()
def positive(input: Any) -> Any:
    """``input`` itself.

    Raises:
        RuntimeError: it is a bool tensor.
    """
    if input.dtype.kind == "b":
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


def _scaled(alpha: Any, other: Any) -> Any:
    return other if alpha == 1 else other * alpha


def _number_first(name: str) -> None:
    """Warn of a call with the number before the tensors that it multiplies, as optimizers were written until 2020."""
    warnings.warn(
        f"This overload of {name} is deprecated: {name}(number, tensors); give the number last, by keyword",
        stacklevel=6,
    )


@public()
def _add(input: Any, other: Any, *tensor: Any, alpha: float = 1) -> Any:
    """``input + alpha * other``, broadcast and promoted."""
    if tensor:
        _number_first("add")
        alpha, (other,) = other, tensor
    return add(input, _scaled(alpha, other))


@public()
def _sub(input: Any, other: Any, *tensor: Any, alpha: float = 1) -> Any:
    """``input - alpha * other``, broadcast and promoted."""
    if tensor:
        _number_first("sub")
        alpha, (other,) = other, tensor
    return sub(input, _scaled(alpha, other))


@public(method=False)
def _rsub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``other - alpha * input``, broadcast and promoted."""
    return rsub(_scaled(alpha, input), other)


@public()
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
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found {rounding_mode!r}"
        )
    return (floor_divide if rounding_mode == "floor" else trunc_divide)(input, other)


# Powers and roots

# Exponents for which there is something faster than numpy.power; PyTorch treats the same ones apart.
_POWERS: dict[float, Callable[[Any, Any], Any]] = {
    0: lambda xp, x: xp.ones_like(x),
    1: lambda xp, x: x.copy(),
    2: lambda xp, x: x * x,
    3: lambda xp, x: x * x * x,
    0.5: lambda xp, x: xp.sqrt(x),
    -0.5: lambda xp, x: 1 / xp.sqrt(x),
    -1: lambda xp, x: 1 / x,
    -2: lambda xp, x: 1 / (x * x),
}


def _powers(t: Any) -> list[Any]:
    exponents = (2, 3, 0.5, -0.5, -1, -2, 1, 0, 2.5)
    return [
        *[(t(2, 3, low=0.5), exponent) for exponent in exponents],
        (t(2, 3), 2),
        (t(2, 3, low=0.5), t(2, 3)),
        (t(2, 1, low=0.5), t(3)),
    ]


@elementwise(samples=_powers, public=False)
def pow(xp, input, other, /):
    """``input`` to the power ``other``."""
    if isinstance(other, _NUMBERS) and dtypes.is_floating(input.dtype) and other in _POWERS:
        return _POWERS[other](xp, input)
    if input.dtype.kind == "b":
        return xp.power(input, other).astype(input.dtype)
    if input.dtype.kind in "iu":
        return _integer_power(xp, input, xp.full((), other, input.dtype) if isinstance(other, _NUMBERS) else other)
    return xp.power(input, other)


def _integer_power(xp: Any, base: Any, exponent: Any) -> Any:
    # NumPy refuses negative exponents of integers; PyTorch gives the true result rounded towards zero.
    out = xp.power(base, xp.maximum(exponent, 0))
    if exponent.dtype.kind == "i" and bool(xp.any(exponent < 0)):
        reciprocal = xp.where(base == 1, 1, xp.where(base == -1, 1 - 2 * (exponent & 1), 0))
        out = xp.where(exponent < 0, reciprocal, out).astype(base.dtype)
    return out


def _pow_input(F: Any, g: Any, input: Any, other: Any) -> Any:
    if isinstance(other, _NUMBERS):
        if other == 0:
            return zero(F, g)
        return g * (other * (input if other == 2 else F.pow(input, other - 1)))
    return F.keep(g * (other * F.pow(input, other - 1)), other != 0)


def _pow_other(F: Any, g: Any, input: Any, other: Any, out: Any) -> Any:
    # At base 0 the power is constant for exponents above 0, and PyTorch counts 0 itself to them.
    return g * F.keep(out * F.log(input), ~((input == 0) & (other >= 0)))


pow.rules(input=blockwise(_pow_input), other=blockwise(_pow_other))


@public()
def _pow(input: Any, exponent: Any) -> Any:
    """``input`` to the power ``exponent``, each a tensor or a number, broadcast and promoted.

    Raises:
        RuntimeError: an integer tensor and a negative integer exponent.
    """
    if isinstance(exponent, int) and exponent < 0 and isinstance(input, core.Tensor) and input.dtype.kind in "iu":
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    return pow(input, exponent)


@public()
def float_power(input: Any, exponent: Any) -> Any:
    """``input`` to the power ``exponent``, each a tensor or a number, computed in float64."""
    double = [x.double() if isinstance(x, core.Tensor) else float(x) for x in (input, exponent)]
    return pow(*double)


@public(function=False, name="float_power_")
def float_power_(input: Any, exponent: Any) -> Any:
    """In-place version of ``float_power``.

    Raises:
        RuntimeError: the tensor is not float64.
    """
    if input.dtype != np.float64:
        raise RuntimeError(
            f"the base given to float_power_ has dtype {input.dtype} but the operation's result requires dtype float64"
        )
    return core.inplace("float_power_", float_power, input, exponent)


@public()
def ldexp(input: Any, other: Any) -> Any:
    """``input * 2**other``, broadcast and promoted; of integers in floating point."""
    return mul(input, pow(2.0, other))


@elementwise(samples=unary())
def square(xp, input, /):
    """The square of each element."""
    return xp.power(input, 2) if input.dtype.kind == "b" else xp.multiply(input, input)


square.rules(input=blockwise(lambda F, g, input: g * (2 * input)))


@elementwise(samples=unary(0.5), promotes="float")
def sqrt(xp, input, /):
    """The square root of each element; NaN below 0."""
    return xp.sqrt(input)


sqrt.rules(input=blockwise(lambda F, g, out: g / (2 * out)))


@elementwise(samples=unary(0.5), promotes="float")
@blockwise
def rsqrt(xp, input, /):
    """One over the square root of each element."""
    out = xp.sqrt(input, out=xp.empty_like(input))
    return xp.reciprocal(out, out=out)


rsqrt.rules(input=blockwise(lambda F, g, out: -0.5 * g * (out * out * out)))


@elementwise(samples=unary(0.5), promotes="float")
def reciprocal(xp, input, /):
    """One over each element."""
    return xp.reciprocal(input)


reciprocal.rules(input=blockwise(lambda F, g, out: -g * (out * out)))


@elementwise(samples=_tensors(0.5))
def hypot(xp, input, other, /):
    """``sqrt(input**2 + other**2)`` without overflow on the way."""
    return xp.hypot(input, other)


hypot.rules(
    input=blockwise(lambda F, g, input, out: g * (input / out)),
    other=blockwise(lambda F, g, other, out: g * (other / out)),
)


# Exponentials and logarithms


@elementwise(samples=unary(), promotes="float")
def exp(xp, input, /):
    """The exponential of each element."""
    return xp.exp(input)


exp.rules(input=lambda F, g, out: g * out)


@elementwise(samples=unary(), promotes="float")
def exp2(xp, input, /):
    """2 to the power of each element."""
    return xp.exp2(input)


exp2.rules(input=blockwise(lambda F, g, out: g * (out * math.log(2))))


@elementwise(samples=unary(), promotes="float")
def expm1(xp, input, /):
    """``exp(input) - 1``, accurate near 0."""
    return xp.expm1(input)


expm1.rules(input=blockwise(lambda F, g, out: g * (out + 1)))


@elementwise(samples=unary(0.5), promotes="float")
def log(xp, input, /):
    """The natural logarithm of each element: -inf at 0, NaN below."""
    return xp.log(input)


log.rules(input=lambda F, g, input: g / input)


@elementwise(samples=unary(0.5), promotes="float")
def log2(xp, input, /):
    """The logarithm of each element to the base 2."""
    return xp.log2(input)


log2.rules(input=blockwise(lambda F, g, input: g / (input * math.log(2))))


@elementwise(samples=unary(0.5), promotes="float")
def log10(xp, input, /):
    """The logarithm of each element to the base 10."""
    return xp.log10(input)


log10.rules(input=blockwise(lambda F, g, input: g / (input * math.log(10))))


@elementwise(samples=unary(-0.5), promotes="float")
def log1p(xp, input, /):
    """``log(1 + input)``, accurate near 0."""
    return xp.log1p(input)


log1p.rules(input=blockwise(lambda F, g, input: g / (input + 1)))


@elementwise(samples=_tensors(), promotes="float")
@blockwise
def logaddexp(xp, input, other, /):
    """``log(exp(input) + exp(other))`` without overflow on the way."""
    # In whole-array steps, which are vectorised where numpy.logaddexp is not.
    smaller = xp.exp(-xp.abs(input - other))
    # Two equal infinities differ by NaN, and fmax takes the 0 instead.
    return xp.maximum(input, other) + xp.log1p(xp.fmax(smaller, 0))


logaddexp.rules(
    input=blockwise(lambda F, g, input, other: g * F.sigmoid(input - other)),
    other=blockwise(lambda F, g, input, other: g * F.sigmoid(other - input)),
)


@elementwise(samples=_tensors(), promotes="float")
@blockwise
def logaddexp2(xp, input, other, /):
    """``log2(2**input + 2**other)`` without overflow on the way."""
    smaller = xp.exp2(-xp.abs(input - other))
    return xp.maximum(input, other) + xp.log1p(xp.fmax(smaller, 0)) * (1 / math.log(2))


logaddexp2.rules(
    input=blockwise(lambda F, g, input, other: g * F.sigmoid((input - other) * math.log(2))),
    other=blockwise(lambda F, g, input, other: g * F.sigmoid((other - input) * math.log(2))),
)


def _logits(t: Any) -> list[Any]:
    return [(t(2, 3, low=0.0, high=1.0), None), (t(2, 4, low=-0.5, high=1.5), 0.2), (t(low=0.0, high=1.0), 1e-6)]


@elementwise(samples=_logits, promotes="float", public=False)
@blockwise
def logit(xp, input, /, eps):
    """``log(p / (1 - p))``, p the element, kept between ``eps`` and ``1 - eps`` if that is given."""
    p = input if eps is None else xp.clip(input, eps, 1 - eps)
    return xp.log(p / (1 - p))


def _logit_rule(F: Any, g: Any, input: Any, eps: float | None) -> Any:
    slope = g / ((input + 0.0) * (1 - input))  # which makes 0 of -0.0
    return slope if eps is None else F.keep(slope, (input >= eps) & (input <= 1 - eps))


logit.rules(input=blockwise(_logit_rule))


@public()
def _logit(input: Any, eps: float | None = None) -> Any:
    """``log(p / (1 - p))``, p the element: NaN outside [0, 1], unless ``eps`` keeps it in ``[eps, 1 - eps]``."""
    return logit(input, eps)


@elementwise(
    samples=lambda t: [(t(2, 3), t(2, 3, low=0.5)), (t(2, 1), t(3, low=0.5)), (t(2, 3), 0.5)], promotes="float"
)
def xlogy(xp, input, other, /):
    """``input * log(other)``, and 0 where ``input`` is 0 unless ``other`` is NaN."""
    return xp.where(
        (input == 0) & (other == other),
        input.dtype.type(0),
        input * xp.log(other if hasattr(other, "dtype") else input.dtype.type(other)),
    )


xlogy.rules(
    input=blockwise(lambda F, g, input, other: F.keep(F.xlogy(g, other), ~((input == 0) & (other <= 0)))),
    other=blockwise(lambda F, g, input, other: g * (input / other)),
)


# Trigonometric and hyperbolic functions


@elementwise(samples=unary(), promotes="float")
def sin(xp, input, /):
    """The sine of each element, in radians."""
    return xp.sin(input)


sin.rules(input=blockwise(lambda F, g, input: g * F.cos(input)))


@elementwise(samples=unary(), promotes="float")
def cos(xp, input, /):
    """The cosine of each element, in radians."""
    return xp.cos(input)


cos.rules(input=blockwise(lambda F, g, input: -g * F.sin(input)))


@elementwise(samples=unary(-1.0, 1.0), promotes="float")
def tan(xp, input, /):
    """The tangent of each element, in radians."""
    return xp.tan(input)


tan.rules(input=blockwise(lambda F, g, out: g * (1 + out * out)))


@elementwise(samples=unary(-0.5, 0.5), promotes="float", aliases=("arcsin",))
def asin(xp, input, /):
    """The angle whose sine each element is; NaN outside [-1, 1]."""
    return xp.arcsin(input)


asin.rules(input=blockwise(lambda F, g, input: g * F.rsqrt(1 - input * input)))


@elementwise(samples=unary(-0.5, 0.5), promotes="float", aliases=("arccos",))
def acos(xp, input, /):
    """The angle whose cosine each element is; NaN outside [-1, 1]."""
    return xp.arccos(input)


acos.rules(input=blockwise(lambda F, g, input: -g * F.rsqrt(1 - input * input)))


def _scaled_angle(name: str, factor: float, text: str) -> None:
    def forward(xp, input, /):
        return input * factor

    forward.__doc__ = text
    elementwise(samples=unary(), promotes="float", name=name)(forward).rules(input=lambda F, g: g * factor)


_scaled_angle("deg2rad", math.pi / 180, "Each angle, given in degrees, in radians.")
_scaled_angle("rad2deg", 180 / math.pi, "Each angle, given in radians, in degrees.")


@elementwise(samples=lambda t: [*unary()(t), (t(2, 3, low=-0.03, high=0.03),)], promotes="float")
@blockwise
def sinc(xp, input, /):
    """``sin(pi x) / (pi x)``, and 1 at 0."""
    angle = xp.where(input == 0, 1e-20, input) * math.pi
    return (xp.sin(angle) / angle).astype(input.dtype)


def _sinc_rule(F: Any, g: Any, input: Any) -> Any:
    # Near 0 the difference of nearly equal numbers is replaced by its series, which can be differentiated at 0.
    small = F.abs(input) < 0.05
    near = F.keep(input, small) * math.pi
    square = near * near
    series = near * (((square / 45360 - 1 / 840) * square + 1 / 30) * square - 1 / 3) * math.pi
    far = input + F.to_dtype(small, input.dtype)
    slope = (F.cos(far * math.pi) - F.sinc(far)) / far
    return g * (series + F.keep(slope, ~small))


sinc.rules(input=blockwise(_sinc_rule))


@elementwise(samples=unary(), promotes="float", aliases=("arctan",))
def atan(xp, input, /):
    """The angle whose tangent each element is."""
    return xp.arctan(input)


atan.rules(input=blockwise(lambda F, g, input: g / (1 + input * input)))


def _square_sum(input: Any, other: Any) -> Any:
    # 1 at the origin, where the gradients of atan2 are 0.
    norm = input * input + other * other
    return norm + (norm == 0)


@elementwise(samples=_tensors(), promotes="float", aliases=("arctan2",))
def atan2(xp, input, other, /):
    """The angle of the point (``other``, ``input``) in (-pi, pi]."""
    return xp.arctan2(input, other)


atan2.rules(
    input=blockwise(lambda F, g, input, other: g * (other / _square_sum(input, other))),
    other=blockwise(lambda F, g, input, other: -g * (input / _square_sum(input, other))),
)


@elementwise(samples=unary(), promotes="float")
def sinh(xp, input, /):
    """The hyperbolic sine of each element."""
    return xp.sinh(input)


sinh.rules(input=blockwise(lambda F, g, input: g * F.cosh(input)))


@elementwise(samples=unary(), promotes="float")
def cosh(xp, input, /):
    """The hyperbolic cosine of each element."""
    return xp.cosh(input)


cosh.rules(input=blockwise(lambda F, g, input: g * F.sinh(input)))


@elementwise(samples=unary(), promotes="float")
def tanh(xp, input, /):
    """The hyperbolic tangent of each element."""
    return xp.tanh(input)


tanh.rules(input=blockwise(lambda F, g, out: g * (1 - out * out)))


@elementwise(samples=unary(), promotes="float", aliases=("arcsinh",))
def asinh(xp, input, /):
    """The inverse hyperbolic sine of each element."""
    return xp.arcsinh(input)


asinh.rules(input=blockwise(lambda F, g, input: g * F.rsqrt(input * input + 1)))


@elementwise(samples=unary(1.5, 3.0), promotes="float", aliases=("arccosh",))
def acosh(xp, input, /):
    """The inverse hyperbolic cosine of each element; NaN below 1."""
    return xp.arccosh(input)


acosh.rules(input=blockwise(lambda F, g, input: g * F.rsqrt(input * input - 1)))


@elementwise(samples=unary(-0.5, 0.5), promotes="float", aliases=("arctanh",))
def atanh(xp, input, /):
    """The inverse hyperbolic tangent of each element; NaN outside [-1, 1]."""
    return xp.arctanh(input)


atanh.rules(input=blockwise(lambda F, g, input: g / (1 - input * input)))


# Signs and rounding


@elementwise(samples=unary(), aliases=("absolute",))
def abs(xp, input, /):
    """The absolute value of each element; its gradient at 0 is 0."""
    return xp.abs(input)


abs.rules(input=blockwise(lambda F, g, input: g * F.sign(input)))


@elementwise(samples=unary(), aliases=("sgn",))
def sign(xp, input, /):
    """-1, 0 or 1, the sign of each element; 0 for NaN."""
    if input.dtype.kind == "b":
        return input.copy()
    out = xp.sign(input, out=xp.empty_like(input))
    if dtypes.is_floating(input.dtype):
        xp.copyto(out, 0, where=xp.isnan(out))
    return out


sign.rules(input=zero)


@elementwise(samples=binary(), promotes="float")
def copysign(xp, input, other, /):
    """The magnitude of ``input`` with the sign of ``other``; its gradient is 0 where ``input`` is."""
    return xp.copysign(input, other)


copysign.rules(input=blockwise(lambda F, g, input, out: g * (F.sign(out) * F.sign(input))), other=zero)


@elementwise(samples=lambda t: [*unary()(t), (t.ints(3, low=-2),), (t.bools(3),)], differentiable=False)
def signbit(xp, input, /):
    """Where the element is negative (-0.0 is), as a bool tensor."""
    return xp.signbit(input)


def _rounded(function: str) -> Callable[..., Any]:
    """A rounding forward, under which integers stay what they are."""

    def forward(xp, input, /):
        return getattr(xp, function)(input) if dtypes.is_floating(input.dtype) else input.copy()

    return forward


for _name, _aliases, _text in (
    ("floor", (), "Each element rounded down; its gradient is zero."),
    ("ceil", (), "Each element rounded up; its gradient is zero."),
    ("trunc", ("fix",), "Each element rounded towards zero; its gradient is zero."),
):
    _forward = _rounded(_name)
    _forward.__doc__ = _text
    elementwise(samples=unary(), name=_name, aliases=_aliases)(_forward).rules(input=zero)


@elementwise(
    samples=lambda t: [(t(2, 3), 0), (t(2, 3), 1), (t(2, 3, low=-40.0, high=40.0), -1)],
    torch=lambda torch, x, decimals: torch.round(x, decimals=decimals),
    inplace=False,
    public=False,
)
def round(xp, input, /, decimals):
    """Each element rounded to ``decimals`` places, halves to even."""
    if not dtypes.is_floating(input.dtype):
        if decimals:
            raise RuntimeError(f"round: decimals={decimals} needs a floating-point tensor, not {input.dtype}")
        return input.copy()
    if not decimals:
        return xp.rint(input)
    scale = 10.0 ** builtins.abs(decimals)
    return xp.rint(input * scale) / scale if decimals > 0 else xp.rint(input / scale) * scale


round.rules(input=zero)


@public()
def _round(input: Any, *, decimals: int = 0) -> Any:
    """Each element rounded to ``decimals`` places, halves to even; its gradient is zero."""
    return round(input, decimals)


@elementwise(samples=unary())
def frac(xp, input, /):
    """Each element less its integer part."""
    return input - xp.trunc(input)


frac.rules(input=lambda F, g: g)


# Bounds


@elementwise(samples=_tensors())
def maximum(xp, input, other, /):
    """The larger of two elements, NaN if one is; equal ones share the gradient."""
    return xp.maximum(input, other)


maximum.rules(
    input=blockwise(lambda F, g, input, other: F.keep(g, ~(input <= other)) + F.keep(0.5 * g, input == other)),
    other=blockwise(lambda F, g, input, other: F.keep(g, ~(other <= input)) + F.keep(0.5 * g, input == other)),
)


@elementwise(samples=_tensors())
def minimum(xp, input, other, /):
    """The smaller of two elements, NaN if one is; equal ones share the gradient."""
    return xp.minimum(input, other)


minimum.rules(
    input=blockwise(lambda F, g, input, other: F.keep(g, ~(input >= other)) + F.keep(0.5 * g, input == other)),
    other=blockwise(lambda F, g, input, other: F.keep(g, ~(other >= input)) + F.keep(0.5 * g, input == other)),
)


@elementwise(samples=_tensors())
def fmax(xp, input, other, /):
    """The larger of two elements, the number if one is NaN; of equal ones the first gets the gradient."""
    return xp.fmax(input, other)


fmax.rules(
    input=lambda F, g, input, other: F.keep(g, (input >= other) | (other != other)),
    other=lambda F, g, input, other: F.keep(g, ~((input >= other) | (other != other))),
)


@elementwise(samples=_tensors())
def fmin(xp, input, other, /):
    """The smaller of two elements, the number if one is NaN; of equal ones the first gets the gradient."""
    return xp.fmin(input, other)


fmin.rules(
    input=lambda F, g, input, other: F.keep(g, (input <= other) | (other != other)),
    other=lambda F, g, input, other: F.keep(g, ~((input <= other) | (other != other))),
)


def _clamps(t: Any) -> list[Any]:
    return [
        (t(2, 3), -1.0, 1.0),
        (t(2, 3), None, 0.5),
        (t(2, 3), -0.5, None),
        (t(2, 3), t(2, 3), t(3)),
        (t(2, 1), t(3), None),
        (t(2, 3), None, t(2, 3)),
    ]


@elementwise(samples=_clamps, public=False)
def clamp(xp, input, min, max, /):
    """``input`` raised to ``min``, then lowered to ``max``; either may be None."""
    if min is None:
        return xp.minimum(input, max)
    out = xp.maximum(input, min)
    return out if max is None else xp.minimum(out, max)


def _clamp_input(F: Any, g: Any, input: Any, min: Any, max: Any) -> Any:
    if min is None:
        return F.keep(g, input <= max)
    return F.keep(g, input >= min if max is None else (input >= min) & (input <= max))


def _clamp_min(F: Any, g: Any, input: Any, min: Any, max: Any) -> Any:
    return F.keep(g, input < min if max is None else (input < min) & (min < max))


def _clamp_max(F: Any, g: Any, input: Any, min: Any, max: Any) -> Any:
    return F.keep(g, input > max if min is None else (input > max) | (min > max))


clamp.rules(input=blockwise(_clamp_input), min=blockwise(_clamp_min), max=blockwise(_clamp_max))


# Dtypes that are left out where samples have NaN, infinities or fractional bounds.
_WHOLE = ("int64", "int32", "uint8", "bool")


@elementwise(samples=lambda t: _clamps(t)[:3], torch="clamp", public=False, tests={"not_in": _WHOLE})
@blockwise
def clamp_numbers(xp, input, /, min, max):
    """As ``clamp``, with bounds that are numbers."""
    return clamp.forward(xp, input, min, max)


clamp_numbers.rules(input=blockwise(_clamp_input))


@public()
def _clamp(input: Any, min: Any = None, max: Any = None) -> Any:
    """The elements kept between ``min`` and ``max`` (numbers, tensors or None); at the bounds the gradient passes.

    Raises:
        RuntimeError: both bounds are None.
    """
    if min is None and max is None:
        raise RuntimeError("clamp: at least one of 'min' or 'max' must not be None")
    plain = (float, int, type(None))
    if min.__class__ in plain and max.__class__ in plain and input.is_floating_point():
        return clamp_numbers(input, min, max)
    return clamp(input, min, max)


@public()
def clamp_min(input: Any, min: Any) -> Any:
    """The elements raised to ``min`` where they are below it."""
    return _clamp(input, min, None)


@public()
def clamp_max(input: Any, max: Any) -> Any:
    """The elements lowered to ``max`` where they are above it."""
    return _clamp(input, None, max)


# Selection and interpolation


@elementwise(
    samples=lambda t: [(t.bools(2, 3), t(2, 3), t(2, 3)), (t.bools(3), t(2, 1), t()), (t.bools(2, 3), t(2, 3), 0.25)],
    masks=("condition",),
    tests={"not_in": ("uint8",)},
    inplace=False,
    public=False,
)
def where(xp, condition, input, other, /):
    """``input`` where ``condition`` is true, else ``other``."""
    if condition.dtype.kind != "b":
        raise RuntimeError(
            f"where expected condition to be a boolean tensor, but got a tensor with dtype {condition.dtype}"
        )
    return select(xp, condition, input, other)


where.rules(
    input=lambda F, g, condition: F.keep(g, condition),
    other=lambda F, g, condition: F.keep(g, ~condition),
)


def _as_mask(condition: Any) -> Any:
    # Bytes were PyTorch's masks before it had bools, and it still takes them here.
    return condition.to(np.bool_) if getattr(condition, "dtype", None) == np.uint8 else condition


@public(method=False)
def _where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """``input`` where ``condition`` is true, else ``other`` (tensors or numbers), broadcast and promoted.

    With ``condition`` alone: the indices of its true elements, a tuple with one tensor for each dimension.

    Raises:
        TypeError: just one of ``input`` and ``other`` is given.
        RuntimeError: ``condition`` is not a bool tensor.
    """
    if input is None and other is None:
        (condition,) = as_tensors("where", (condition,))
        array = condition._data
        found = module_of(array).nonzero(array.reshape(1) if not array.ndim else array)
        return tuple(core.Tensor._wrap(index) for index in found)
    if input is None or other is None:
        raise TypeError("where() takes a condition alone, or a condition, input and other")
    return where(_as_mask(condition), input, other)


@public(name="where", function=False)
def _where_method(input: Any, condition: Any, other: Any) -> Any:
    """The elements where ``condition`` is true, else those of ``other``."""
    return where(_as_mask(condition), input, other)


@elementwise(
    samples=lambda t: [
        (t(2, 3), t.bools(2, 3), t()),
        (t(2, 1), t.bools(3), 0.5),
    ],
    masks=("mask",),
    tests={"not_in": ("int64", "int32", "uint8", "bool")},
    public=False,
)
def masked_fill(xp, input, mask, value, /):
    """``input`` with ``value`` where ``mask`` is true."""
    if mask.dtype.kind != "b":
        raise RuntimeError(f"masked_fill only supports boolean masks, but got mask with dtype {mask.dtype}")
    return select(xp, mask, value, input)


masked_fill.rules(
    input=lambda F, g, mask: F.keep(g, ~mask),
    value=lambda F, g, mask: F.keep(g, mask),
)


@public()
def _masked_fill(input: Any, mask: Any, value: Any) -> Any:
    """``input`` with ``value`` (a number or a 0-d tensor) where ``mask`` is true; the dtype is the input's.

    Raises:
        RuntimeError: the mask is not a bool tensor, or the value has dimensions or does not fit the dtype.
    """
    return masked_fill(input, mask, _as_fill(input, value))


def _as_fill(input: Any, value: Any) -> Any:
    """A number or a 0-d tensor in the dtype of ``input``."""
    dtype = input.dtype
    if isinstance(value, core.Tensor):
        if value.ndim:
            raise RuntimeError(
                f"only a 0-dimensional value tensor can be filled in, but got one with {value.ndim} dimension(s)"
            )
        return value if value.dtype == dtype else value.to(dtype)
    if dtype.kind == "f" and math.isfinite(value) and builtins.abs(value) > float(np.finfo(dtype).max):
        raise RuntimeError(f"value {value!r} cannot be converted to {dtype} without overflow")
    return value if dtypes.is_floating(dtype) else dtype.type(value).item()


@elementwise(samples=lambda t: [(t(2, 3), t()), (t(2, 3), 0.5)], torch=None, public=False)
def fill(xp, input, value, /):
    """``value`` in every element."""
    return xp.full_like(input, value)


fill.rules(input=zero, value=lambda F, g: g)


@public(method="fill_", function=False)
def fill_(input: Any, value: Any) -> Any:
    """Set every element to ``value``, a number or a 0-d tensor; what the tensor was computed from gets no gradient.

    Raises:
        RuntimeError: the value has dimensions, or the tensor may not be changed in place.
    """
    value = _as_fill(input, value)
    if modes.grad and (input._needs_grad or getattr(value, "_needs_grad", False)):
        return core.inplace("fill_", fill, input, value)
    core.check_inplace("fill_", input, False)
    if isinstance(value, core.Tensor):
        value = lazy.settled(value._data) if value.device == input.device else value.item()
    core.memory_to_change(input)[...] = value
    input._bump()
    return input


@public(name="fill", method=False)
def _fill(input: Any, value: Any) -> Any:
    """A tensor of the shape and dtype of ``input`` with ``value``, a number or a 0-d tensor, in every element.

    Raises:
        RuntimeError: the value has dimensions.
    """
    return fill(input, _as_fill(input, value))


@public(method="zero_", function=False)
def zero_(input: Any) -> Any:
    """Set every element to 0."""
    return fill_(input, 0)


@elementwise(
    samples=lambda t: [(t(2, 3), t(2, 3), t(2, 3, low=0.0, high=1.0)), (t(2, 1), t(3), 0.25), (t(3), t(2, 1), 0.75)]
)
def lerp(xp, input, end, weight, /):
    """``input + weight * (end - input)``, from whichever end is nearer."""
    step = end - input
    if isinstance(weight, _NUMBERS) or (xp is np and not weight.ndim):
        if weight >= 0.5:
            return end - step * (1 - weight)
        step *= weight
        step += input
        return step
    return xp.where(weight < 0.5, input + weight * step, end - step * (1 - weight))


lerp.rules(
    input=lambda F, g, weight: g * (1 - weight),
    end=lambda F, g, weight: g * weight,
    weight=lambda F, g, input, end: g * (end - input),
)


@elementwise(
    samples=lambda t: [(t(2, 3), t(2, 3), t(2, 3), 1), (t(2, 3), t(2, 1), t(3), 2)],
    torch=lambda torch, x, a, b, value: torch.addcmul(x, a, b, value=value),
    inplace=False,
    public=False,
)
def addcmul(xp, input, tensor1, tensor2, /, value):
    """``input + value * tensor1 * tensor2``."""
    product = xp.multiply(tensor1, tensor2)
    return input + (product if value == 1 else product * value)


addcmul.rules(
    input=lambda F, g: g,
    tensor1=lambda F, g, tensor2, value: g * (tensor2 * value),
    tensor2=lambda F, g, tensor1, value: g * (tensor1 * value),
)


@public()
def _addcmul(input: Any, tensor1: Any, tensor2: Any, *tensor: Any, value: float = 1) -> Any:
    """``input + value * tensor1 * tensor2``, broadcast and promoted."""
    if tensor:
        _number_first("addcmul")
        value, tensor1, (tensor2,) = tensor1, tensor2, tensor
    return addcmul(input, tensor1, tensor2, value)


@elementwise(
    samples=lambda t: [(t(2, 3), t(2, 3), t(2, 3, low=0.5), 1), (t(2, 3), t(2, 1), t(3, low=0.5), 0.5)],
    torch=lambda torch, x, a, b, value: torch.addcdiv(x, a, b, value=value),
    inplace=False,
    promotes="float",
    public=False,
)
def addcdiv(xp, input, tensor1, tensor2, /, value):
    """``input + value * tensor1 / tensor2``."""
    quotient = xp.true_divide(tensor1, tensor2)
    return input + (quotient if value == 1 else quotient * value)


addcdiv.rules(
    input=lambda F, g: g,
    tensor1=lambda F, g, tensor2, value: g * (value / tensor2),
    tensor2=lambda F, g, tensor1, tensor2, value: -g * (value * tensor1 / (tensor2 * tensor2)),
)


@public()
def _addcdiv(input: Any, tensor1: Any, tensor2: Any, *tensor: Any, value: float = 1) -> Any:
    """``input + value * tensor1 / tensor2``, broadcast and promoted."""
    if tensor:
        _number_first("addcdiv")
        value, tensor1, (tensor2,) = tensor1, tensor2, tensor
    return addcdiv(input, tensor1, tensor2, value)


@elementwise(
    samples=lambda t: [(t(2, 3), t(2, 3))],
    torch=lambda torch, x, values: torch.where(x == 0, values, (x > 0).to(values.dtype)),
)
def heaviside(xp, input, values, /):
    """0 below 0, 1 above and ``values`` at 0."""
    return xp.where(input == 0, values, (input > 0).astype(input.dtype))


heaviside.rules(input=zero, values=lambda F, g, input: F.keep(g, input == 0))


@elementwise(
    samples=lambda t: [
        (t(2, 3), 0.0, None, None),
        (t(2, 3) / 0.0, 1.0, 2.0, -2.0),
        (t(2, 3) * math.nan, 0.5, None, None),
    ],
    tests={"not_in": ("int64", "int32", "uint8", "bool")},
    public=False,
)
def nan_to_num(xp, input, /, nan, posinf, neginf):
    """``input`` with numbers in the place of NaN and infinities."""
    if not dtypes.is_floating(input.dtype):
        return input.copy()
    return xp.nan_to_num(input, nan=nan, posinf=posinf, neginf=neginf)


nan_to_num.rules(input=lambda F, g, input: F.keep(g, F.isfinite(input)))


@public()
def _nan_to_num(input: Any, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Any:
    """The elements with NaN replaced by ``nan`` (0) and infinities by ``posinf``, ``neginf`` (the largest numbers)."""
    return nan_to_num(input, 0.0 if nan is None else nan, posinf, neginf)


# Comparison and logic; none of these has a gradient


def _compared(t: Any) -> list[Any]:
    return [*binary()(t), (t.ints(2, 3), t.ints(2, 3)), (t.ints(3), 2)]


def _comparison(name: str, function: str, aliases: tuple[str, ...], text: str) -> Any:
    def forward(xp, input, other, /):
        return getattr(xp, function)(input, other)

    forward.__doc__ = text
    return elementwise(samples=_compared, differentiable=False, name=name, aliases=aliases)(forward)


eq = _comparison("eq", "equal", (), "Where ``input == other``, as a bool tensor.")
ne = _comparison("ne", "not_equal", ("not_equal",), "Where ``input != other``, as a bool tensor.")
lt = _comparison("lt", "less", ("less",), "Where ``input < other``, as a bool tensor.")
le = _comparison("le", "less_equal", ("less_equal",), "Where ``input <= other``, as a bool tensor.")
gt = _comparison("gt", "greater", ("greater",), "Where ``input > other``, as a bool tensor.")
ge = _comparison("ge", "greater_equal", ("greater_equal",), "Where ``input >= other``, as a bool tensor.")


def _flags(t: Any) -> list[Any]:
    return [(t.bools(2, 3), t.bools(2, 3)), (t.ints(2, 1), t(3)), (t.ints(3), t.ints(2, 3))]


def _logical(name: str, text: str, samples: Callable[..., Any] = _flags) -> Any:
    def forward(xp, input, other, /):
        return getattr(xp, name)(input, other)

    forward.__doc__ = text
    return elementwise(samples=samples, differentiable=False, promotes="none", name=name)(forward)


logical_and = _logical("logical_and", "Where both elements are nonzero, as a bool tensor.")
logical_or = _logical("logical_or", "Where at least one element is nonzero, as a bool tensor.")
logical_xor = _logical("logical_xor", "Where just one element is nonzero, as a bool tensor.")


@elementwise(samples=lambda t: [(t.bools(2, 3),), (t.ints(3, high=2),), (t(2),)], differentiable=False)
def logical_not(xp, input, /):
    """Where the element is zero, as a bool tensor."""
    return xp.logical_not(input)


def _integers(t: Any) -> list[Any]:
    return [(t.ints(2, 3), t.ints(2, 3)), (t.ints(2, 1), t.ints(3)), (t.ints(3), 2)]


def _bitwise(name: str, function: str, text: str, bools: bool = True) -> Any:
    kinds, known = ("biu", "integer and bool") if bools else ("iu", "integer")

    def forward(xp, input, other, /):
        if input.dtype.kind not in kinds:
            raise NotImplementedError(f"{name} is defined for {known} tensors, not for {input.dtype}")
        return getattr(xp, function)(input, other)

    forward.__doc__ = text
    samples = (lambda t: [*_integers(t), *_flags(t)[:1]]) if bools else _integers
    return elementwise(samples=samples, differentiable=False, name=name)(forward)


bitwise_and = _bitwise("bitwise_and", "bitwise_and", "The bits set in both integers; of bools, logical and.")
bitwise_or = _bitwise("bitwise_or", "bitwise_or", "The bits set in at least one integer; of bools, logical or.")
bitwise_xor = _bitwise("bitwise_xor", "bitwise_xor", "The bits set in just one integer; of bools, logical xor.")
bitwise_left_shift = _bitwise("bitwise_left_shift", "left_shift", "The bits of ``input`` moved up by ``other``.", False)
bitwise_right_shift = _bitwise(
    "bitwise_right_shift", "right_shift", "The bits of ``input`` moved down by ``other``.", False
)


def _divisor(name: str, text: str) -> None:
    def forward(xp, input, other, /):
        if input.dtype.kind not in "iu":
            raise NotImplementedError(f"{name} is defined for integer tensors, not for {input.dtype}")
        return getattr(xp, name)(input, other)

    forward.__doc__ = text
    elementwise(samples=lambda t: _integers(t)[:2], differentiable=False, name=name)(forward)


_divisor("gcd", "The greatest common divisor of two integers.")
_divisor("lcm", "The least common multiple of two integers, not negative.")


@elementwise(samples=lambda t: [(t.ints(2, 3),), (t.bools(3),)], differentiable=False)
def bitwise_not(xp, input, /):
    """Each integer's bits flipped; of bools, logical not.

    Raises:
        TypeError: ``input`` is a floating-point tensor.
    """
    if input.dtype.kind not in "biu":
        raise TypeError(
            f"~ (operator.invert) is only implemented on integer and Boolean-type tensors, not on {input.dtype}"
        )
    return xp.invert(input)


def _odd_values(t: Any) -> list[Any]:
    return [(t(2, 3),), (t(2, 3) / 0.0,), (t(2, 3) * math.nan,), (t.ints(3),)]


def _number_test(name: str, text: str) -> Any:
    def forward(xp, input, /):
        if not dtypes.is_floating(input.dtype):
            return xp.full(input.shape, name == "isfinite")
        return getattr(xp, name)(input)

    forward.__doc__ = text
    return elementwise(samples=_odd_values, differentiable=False, name=name, tests={"not_in": _WHOLE})(forward)


isnan = _number_test("isnan", "Where the element is NaN, as a bool tensor.")
isinf = _number_test("isinf", "Where the element is infinite, as a bool tensor.")
isfinite = _number_test("isfinite", "Where the element is neither infinite nor NaN, as a bool tensor.")
isposinf = _number_test("isposinf", "Where the element is positive infinity, as a bool tensor.")
isneginf = _number_test("isneginf", "Where the element is negative infinity, as a bool tensor.")


@public()
def isreal(input: Any) -> Any:
    """Where the element is a real number, as a bool tensor: everywhere."""
    array = input._data
    return core.Tensor._wrap(module_of(array).ones(array.shape, bool))


@public()
def is_nonzero(input: Any) -> bool:
    """Whether the only element is not 0; waits for the device.

    Raises:
        RuntimeError: there is not just one.
    """
    return bool(input)


@public()
def is_same_size(input: Any, other: Any) -> bool:
    """Whether two tensors have the same shape."""
    return input.shape == other.shape


@elementwise(
    samples=lambda t: [
        (t(2, 3), t(2, 3), 0.5, 0.1, False),
        (t(2, 3) / 0.0, t(3) / 0.0, 1e-5, 1e-8, False),
        (t(2, 3) * math.nan, t(3) * math.nan, 1e-5, 1e-8, True),
        (t.ints(2, 3), t.ints(3), 0.0, 1.0, False),
    ],
    tests={"not_in": _WHOLE},
    differentiable=False,
    public=False,
)
def isclose(xp, input, other, /, rtol, atol, equal_nan):
    """Where two elements are nearly equal."""
    kind = input.dtype if dtypes.is_floating(input.dtype) else np.dtype("float64")
    difference = xp.abs(xp.subtract(input, other, dtype=kind))
    near = (difference <= atol + xp.abs(rtol * other)) & xp.isfinite(difference) | (input == other)
    return near | (input != input) & (other != other) if equal_nan else near


@public()
def _isclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Where ``|input - other| <= atol + rtol * |other|``, as a bool tensor; equal infinities are close."""
    return isclose(input, other, rtol, atol, equal_nan)


@public()
def allclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close (see ``isclose``); waits for the device."""
    return bool(isclose(input, other, rtol, atol, equal_nan)._data.all())


@public()
def equal(input: Any, other: Any) -> bool:
    """Whether two tensors have the same shape and elements; waits for the device."""
    return input.shape == other.shape and bool((eq(input, other))._data.all())


# Operators


def _reversed(function: Any) -> Callable[..., Any]:
    def operator(self: Any, other: Any) -> Any:
        if not core.is_operand(other):
            return NotImplemented
        (left,) = as_tensors(function.name, (core.wrap_operand(function.name, other, self),))
        return function(left, self)

    return operator


def _power(self: Any, other: Any) -> Any:
    return _pow(self, other) if core.is_operand(other) else NotImplemented


def _symbol(function: Any) -> Callable[..., Any]:
    """What Python calls for an operator's symbol."""
    if not isinstance(function, Elementwise):
        return function
    symbol = binary_function(function, as_operator=True)
    symbol.__name__ = symbol.__qualname__ = function.name
    symbol.__doc__ = function.function.__doc__
    return symbol


def _itself(input: Any) -> Any:
    return input


for _name, _alias in (("sub", "subtract"), ("div", "divide"), ("div", "true_divide"), ("clamp", "clip")):
    FUNCTIONS[_alias] = METHODS[_alias] = FUNCTIONS[_name]

for _name in (
    *("add", "sub", "subtract", "div", "divide", "true_divide", "pow", "round", "masked_fill", "addcmul", "addcdiv"),
    *(
        "clamp",
        "clip",
        "clamp_min",
        "clamp_max",
        "nan_to_num",
        "logical_and",
        "logical_or",
        "logical_xor",
        "logical_not",
    ),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "bitwise_left_shift", "bitwise_right_shift"),
    *("eq", "ne", "lt", "le", "gt", "ge", "not_equal", "less", "less_equal", "greater", "greater_equal"),
    *("gcd", "lcm", "ldexp", "logit"),
):
    METHODS[f"{_name}_"] = inplace_method(_name, FUNCTIONS[_name])

for _name in (
    *("clamp_", "clip_", "clamp_min_", "clamp_max_", "round_", "nan_to_num_", "fill_", "zero_", "logit_", "xlogy_"),
    *("gcd_", "lcm_", "ldexp_"),
):
    FUNCTIONS[_name] = METHODS[_name]

for _name, _operator, _reflected, _inplace in (
    ("add", add, add, "add_"),
    ("sub", sub, rsub, "sub_"),
    ("mul", mul, mul, "mul_"),
    ("truediv", true_divide, rdiv, "div_"),
    ("floordiv", floor_divide, _reversed(floor_divide), "floor_divide_"),
    ("mod", remainder, _reversed(remainder), "remainder_"),
    ("pow", _power, _reversed(pow), "pow_"),
    ("and", bitwise_and, bitwise_and, "bitwise_and_"),
    ("or", bitwise_or, bitwise_or, "bitwise_or_"),
    ("xor", bitwise_xor, bitwise_xor, "bitwise_xor_"),
    ("lshift", bitwise_left_shift, _reversed(bitwise_left_shift), "bitwise_left_shift_"),
    ("rshift", bitwise_right_shift, _reversed(bitwise_right_shift), "bitwise_right_shift_"),
):
    METHODS[f"__{_name}__"], METHODS[f"__r{_name}__"] = _symbol(_operator), _symbol(_reflected)
    METHODS[f"__i{_name}__"] = METHODS[_inplace]

METHODS["__neg__"], METHODS["__pos__"], METHODS["__abs__"] = neg.function, _itself, abs.function
METHODS["__invert__"] = bitwise_not.function
for _compare in (eq, ne, lt, le, gt, ge):
    METHODS[f"__{_compare.name}__"] = _symbol(_compare)
