"""Ops that move or view elements without changing them: reshape, transpose, expand, stack, split, pad."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import engine
from ..backend import device_of, dtypes, module_of, transfer
from .core import METHODS, REGISTRY, normalize_dim, op, public


@op(samples=lambda t: [(t(2, 3),)])
def clone(xp, input, /):
    return xp.array(input, copy=True, order="C")


clone.rules(input=lambda F, g: g)


@public(name="clone")
def _clone(input: Any, *, memory_format: Any = None) -> Any:
    """A copy of ``input`` with its own memory; gradients flow through it."""
    return clone(input)


@op(samples=lambda t: [(t(2, 3), np.dtype("float64"))], torch=None)
def to_dtype(xp, input, /, dtype):
    return input.astype(dtype)


to_dtype.rules(input=lambda F, g: g)


@op(torch=None, aux=True)
def to_device(xp, input, /, device, recording):
    return transfer(input, device), device_of(input)


# The gradient goes back to where the input lives.
to_device.joint_rule(lambda F, g, wanted, aux: (F.to_device(g, aux),))


def _conversion(name: str, dtype: Any) -> Any:
    def method(self: Any, memory_format: Any = None) -> Any:
        return self if self.dtype == dtype else to_dtype(self, dtype)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"The tensor as {dtype.name}; itself if it is already."
    return method


for _name in ("float", "double", "half", "long", "int", "short", "bool"):
    METHODS[_name] = _conversion(_name, dtypes.BY_NAME["float32" if _name == "float" else _name])
METHODS["byte"] = _conversion("byte", dtypes.uint8)
METHODS["char"] = _conversion("char", dtypes.int8)


@op(view=True, samples=lambda t: [(t(2, 3), (3, 2)), (t(4, 3), (2, 2, 3)), (t(), (1, 1))])
def reshape(xp, input, /, shape):
    return input.reshape(shape)


reshape.rules(input=lambda F, g, input_shape: F.reshape(g, tuple(input_shape)))


@op(view=True, samples=lambda t: [(t(3, 1), (3, 4)), (t(2), (3, 2)), (t(), (2, 2))])
def expand(xp, input, /, shape):
    return xp.broadcast_to(input, shape)


expand.rules(input=lambda F, g, input_shape: F.sum_to(g, tuple(input_shape)))


@op(samples=lambda t: [(t(3, 4), (3, 1)), (t(3, 4), (4,)), (t(2, 3), ())], torch=None)
def sum_to(xp, input, /, shape):
    return engine.sum_to(input, shape)


sum_to.rules(input=lambda F, g, input_shape: F.expand(g, tuple(input_shape)))


@op(view=True, samples=lambda t: [(t(2, 3, 4), (2, 0, 1)), (t(2, 3), (1, 0))])
def permute(xp, input, /, dims):
    return input.transpose(dims)


permute.rules(input=lambda F, g, dims: F.permute(g, tuple(int(i) for i in np.argsort(dims))))


@op(samples=None, torch=None)
def view_scatter(xp, input, src, /, view_op, params, slot):
    # `input` with the part that `view_op(input, *params)` shows replaced by `src`.
    out = xp.array(input, copy=True, order="C")
    view = view_op.forward(xp, out, *params)
    view = view[slot] if view_op.outputs != 1 else view
    view[...] = src
    return out


def _view_of(F: Any, g: Any, view_op: Any, params: Any, slot: int) -> Any:
    view = getattr(F, view_op.name)(g, *params)
    return view[slot] if view_op.outputs != 1 else view


def _without_view(F: Any, g: Any, src_shape: Any, view_op: Any, params: Any, slot: int) -> Any:
    zeros = F.constant(module_of(F.array(g)).zeros(src_shape, g.dtype))
    return F.view_scatter(g, zeros, view_op, params, slot)


view_scatter.rules(
    input=_without_view,
    src=lambda F, g, view_op, params, slot: _view_of(F, g, view_op, params, slot),
)
