"""Elementwise ops: arithmetic, comparison, powers, exponentials, trigonometry, activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import dtypes, module_of
from ..engine import modes
from . import core
from .core import (
    FUNCTIONS,
    METHODS,
    Op,
    OpNode,
    as_tensors,
    op,
    public,
    record,
    refresh_view,
)

ndarray = np.ndarray
_F32, _F64 = np.dtype("float32"), np.dtype("float64")
_FIXED = core._FIXED


class Elementwise(Op):
    """An op that maps elements to elements, with broadcasting and PyTorch's dtype promotion.

    Its samples may use numbers and arrays in the place of tensors.  ``promotes`` says how: "common" works in the
    operands' common dtype, "float" turns integers into the default dtype first, "none" leaves dtypes alone.
    """

    def __init__(self, forward: Callable[..., Any], name: str, **options: Any):
        self.promotes: str = options.pop("promotes", "common")
        self.inplace: bool = options.pop("inplace", True)
        super().__init__(forward, name, **options)
        self.arity = len(self.inputs)
        self._fast = not self.params and not self.aux and self.differentiable
        # Plans by which of at most two inputs need a gradient: bit 0 for the first, bit 1 for the second.
        self._by_mask: list[Any] = [None] * 4

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            args = self._bind(args, kwargs)
        if not self._fast or self.arity > 2 or len(args) != self.arity:
            return self._general(args)
        x = args[0]
        try:
            a = x._data
            dtype = a.dtype
            if dtype is not _F32 and dtype is not _F64:
                return self._general(args)
            if self.arity == 1:
                out = self.forward(np if a.__class__ is ndarray else module_of(a), a)
                y = b = None
                mask = 1 if x._needs_grad else 0
            else:
                y = args[1]
                kind = y.__class__
                if kind is float or kind is int:
                    b = y
                    mask = 1 if x._needs_grad else 0
                else:
                    b = y._data
                    if b.dtype is not dtype or b.__class__ is not a.__class__ or a.__class__ is not ndarray:
                        return self._general(args)
                    mask = (1 if x._needs_grad else 0) | (2 if y._needs_grad else 0)
                out = self.forward(np if a.__class__ is ndarray else module_of(a), a, b)
        except AttributeError:
            return self._general(args)
        except ValueError as error:
            raise self._shape_error(args, error) from None
        if out.__class__ is not a.__class__:
            out = module_of(a).asarray(out)
        result = core.Tensor.__new__(core.Tensor)
        result._data = out
        if not mask or not modes.grad:
            if modes.inference:
                result._inference = True
            return result
        if modes.anomaly or x._inference or (mask & 2 and y._inference):
            record(self, args, (a, b)[: self.arity], (mask & 1 == 1, mask & 2 == 2)[: self.arity], (), [result], None, False)
            return result
        plan = self._by_mask[mask]
        if plan is None:
            plan = self._by_mask[mask] = self.plan((mask & 1 == 1, mask & 2 == 2)[: self.arity])
        slots = None
        if mask & 1:
            if x._base is not None:
                refresh_view(x)
            first = x._node or x
            if x._slot:
                slots = (x._slot, 0)
        else:
            first = None
        if mask & 2:
            if y._base is not None:
                refresh_view(y)
            second = y._node or y
            if y._slot:
                slots = (slots[0] if slots else 0, y._slot)
        else:
            second = None
        node = OpNode(self, plan, (first,) if y is None else (first, second), out.shape, out.dtype)
        if slots is not None:
            node.slots = slots
        values = versions = ()
        for i in plan.saved_inputs:
            source = args[i]
            if source.__class__ is float or source.__class__ is int:
                values += (source,)
                versions += ((_FIXED, 0),)
            else:
                counter = source._version_counter or source._counter()
                values += (source._data,)
                versions += ((counter, counter[0]),)
        if plan.saves_out:
            counter = result._version_counter = [0]
            values += (out,)
            versions += ((counter, 0),)
        for i in plan.shapes:
            values += ((a, b)[i].shape,)
        node.values = values
        node.versions = versions
        result._node = node
        result._needs_grad = True
        return result

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        names = self.inputs + self.params
        values = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names or name in values:
                raise TypeError(f"{self.name}() got an unexpected or repeated argument {name!r}; it takes {', '.join(names)}")
            values[name] = value
        if missing := [name for name in names if name not in values]:
            raise TypeError(f"{self.name}() is missing the argument(s) {', '.join(missing)}")
        return tuple(values[name] for name in names)

    def _shape_error(self, args: tuple[Any, ...], error: Exception) -> Exception:
        shapes = [tuple(t.shape) for t in args if hasattr(t, "shape")]
        try:
            np.broadcast_shapes(*shapes)
        except ValueError:
            pairs = zip(shapes[0][::-1], shapes[-1][::-1], strict=False)
            where = next((k for k, (m, n) in enumerate(pairs) if m != n and 1 not in (m, n)), 0)
            dim = max(len(s) for s in shapes) - 1 - where
            return RuntimeError(
                f"{self.name}: the shapes {' and '.join(map(str, shapes))} do not broadcast: "
                f"they differ at non-singleton dimension {dim}"
            )
        return error

    def _general(self, args: tuple[Any, ...]) -> Any:
        if len(args) != self.arity + len(self.params):
            raise TypeError(
                f"{self.name}() takes {self.arity + len(self.params)} arguments ({', '.join(self.inputs + self.params)}), but got {len(args)}"
            )
        tensors = as_tensors(self.name, args[: self.arity])
        params = args[self.arity :]
        dtype = self.working_dtype([t for t in tensors if t is not None])
        arrays = []
        for t in tensors:
            a = None if t is None else t._data
            if a is not None and dtype is not None and a.dtype != dtype:
                a = a.astype(dtype)
            arrays.append(a)
        wanted = tuple(t is not None and t._needs_grad for t in tensors)
        recording = modes.grad and self.differentiable and True in wanted
        xp = module_of(arrays[0])
        try:
            result = self.compute((*arrays, *params), xp, recording)
        except ValueError as error:
            raise self._shape_error(tuple(tensors), error) from None
        aux = None
        if self.aux:
            result, aux = result
        out = self._wrap(result, xp)
        if recording:
            record(self, tensors, tuple(arrays), wanted, params, [out], aux, False)
        elif modes.inference:
            out._inference = True
        return out

    def working_dtype(self, tensors: list[Any]) -> Any:
        """The dtype the forward computes in; None leaves each operand as it is."""
        if self.promotes == "none":
            return None
        if len(tensors) == 1:
            dtype = tensors[0]._data.dtype
        else:
            dtype = dtypes.result_type(
                *[(t._data.dtype, 0 if t._is_number else 1 if t._data.ndim == 0 else 2) for t in tensors]
            )
        if self.promotes == "float" and not dtypes.is_floating(dtype):
            dtype = dtypes.get_default_dtype()
        return dtype


def elementwise(**options: Any) -> Callable[[Callable[..., Any]], Elementwise]:
    """Register an elementwise op and make it public: ``gg.<name>``, ``Tensor.<name>`` and ``Tensor.<name>_``."""
    shown = options.pop("public", True)
    aliases = options.pop("aliases", ())

    def register(forward: Callable[..., Any]) -> Elementwise:
        made: Elementwise = op(forward, kind=Elementwise, **options)
        if shown:
            for label in (made.name, *aliases):
                FUNCTIONS[label] = METHODS[label] = made
                if made.inplace and made.differentiable:
                    METHODS[f"{label}_"] = inplace_method(label, made)
        return made

    return register


def inplace_method(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The Tensor method ``name_`` that writes what ``function`` computes into the tensor itself."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return core.inplace(f"{name}_", function, self, *args, **kwargs)

    method.__name__ = method.__qualname__ = f"{name}_"
    method.__doc__ = f"In-place version of ``{name}``: changes this tensor and returns it."
    return method


def unary(low: float = -2.0, high: float = 2.0) -> Callable[[Any], list[Any]]:
    """Samples of a one-input op over an interval."""
    return lambda t: [(t(2, 3, low=low, high=high),), (t(low=low, high=high),)]


def binary(low: float = -2.0, high: float = 2.0) -> Callable[[Any], list[Any]]:
    """Samples of a two-input op over an interval: same shape, broadcasting both ways, a number."""
    return lambda t: [
        (t(2, 3, low=low, high=high), t(2, 3, low=low, high=high)),
        (t(2, 1, 3, low=low, high=high), t(4, 1, low=low, high=high)),
        (t(low=low, high=high), t(3, low=low, high=high)),
        (t(2, 3, low=low, high=high), 0.5 * (low + high) + 0.25 * (high - low)),
    ]


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


METHODS["__add__"] = METHODS["__radd__"] = add
METHODS["__mul__"] = METHODS["__rmul__"] = mul
METHODS["__sub__"], METHODS["__rsub__"] = sub, _reversed(sub)
METHODS["__truediv__"], METHODS["__rtruediv__"] = true_divide, _reversed(true_divide)
METHODS["__neg__"] = neg
METHODS["__gt__"] = gt
for _symbol, _target in (("__iadd__", "add_"), ("__isub__", "sub_"), ("__imul__", "mul_"), ("__itruediv__", "div_")):
    METHODS[_symbol] = METHODS[_target]
