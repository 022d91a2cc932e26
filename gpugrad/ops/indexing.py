"""Reading and writing parts of a tensor: slices, index arrays, masks, gather and scatter."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import module_of, to_numpy
from ..engine import modes
from . import core
from .core import METHODS, as_tensors, check_inplace, op, public, rebase, record, refresh_view

_BASIC = (int, slice, type(None), type(Ellipsis))


@op(view=True, samples=lambda t: [(t(3, 4), (slice(1, None), 2)), (t(3, 4), (..., None, slice(None, None, 2)))], torch=None)
def getitem(xp, input, /, index):
    return input[index]


getitem.rules(input=lambda F, g, input_shape, index: F.slice_add(g, tuple(input_shape), index))


@op(samples=lambda t: [(t(2), (3, 4), (slice(1, None), 2))], torch=None)
def slice_add(xp, input, /, shape, index):
    # Zeros with `input` at a basic index: the gradient of getitem.
    out = xp.zeros(shape, input.dtype)
    out[index] = input
    return out


slice_add.rules(input=lambda F, g, index: F.getitem(g, index))


@op(samples=lambda t: [(t(3, 4), (np.array([0, 2, 2]),)), (t(3, 4), (slice(None), np.array([[1], [1]])))], torch=None)
def take_index(xp, input, /, index):
    return input[index]


take_index.rules(input=lambda F, g, input_shape, index: F.index_add(g, tuple(input_shape), index))


@op(samples=lambda t: [(t(3, 4), (3, 4), (np.array([0, 2, 2]),))], torch=None, name="index_add")
def _index_add(xp, input, /, shape, index):
    # Zeros with `input` added at an advanced index, repeats adding up: the gradient of take_index.
    out = xp.zeros(shape, input.dtype)
    xp.add.at(out, index, input)
    return out


_index_add.rules(input=lambda F, g, index: F.take_index(g, index))


@op(samples=lambda t: [(t(3, 4), t(2, 4), (np.array([0, 2]),)), (t(3, 4), t(), (np.array([True, False, True]),))], torch=None)
def index_put(xp, input, src, /, index):
    out = xp.array(input, copy=True, order="C")
    out[index] = src
    return out


@index_put.joint_rule
def _index_put_rule(F, g, wanted, input_shape, src_shape, index):
    g_input = g_src = None
    if wanted[0]:
        zero = F.constant(module_of(F.array(g)).zeros((), g.dtype))
        g_input = F.index_put(g, zero, index)
    if wanted[1]:
        g_src = F.sum_to(F.take_index(g, index), tuple(src_shape))
    return g_input, g_src


@op(samples=lambda t: [(t(3, 4), t(4))], torch=None)
def copy(xp, input, src, /):
    return xp.array(xp.broadcast_to(src, input.shape), dtype=input.dtype, copy=True, order="C")


copy.rules(src=lambda F, g: g)


def parse_index(input: Any, index: Any) -> tuple[tuple[Any, ...], bool]:
    """The index as NumPy takes it, and whether it is basic (gives a view).

    Raises:
        IndexError: it is no valid index for the tensor.
    """
    parts = index if isinstance(index, tuple) else (index,)
    found: list[Any] = []
    basic = True
    for part in parts:
        if isinstance(part, core.Tensor):
            part = part._data
            if part.ndim == 0 and part.dtype.kind in "iu":
                part = int(part)
        elif isinstance(part, list | range):
            part = np.asarray(part) if len(part) else np.zeros(0, np.int64)
        if isinstance(part, np.generic) and part.dtype.kind in "iu":
            part = int(part)
        if isinstance(part, bool | np.bool_):
            part = np.asarray(part)
        if isinstance(part, slice):
            part = slice(*(None if x is None else _whole(x) for x in (part.start, part.stop, part.step)))
            if part.step is not None and part.step <= 0:
                raise ValueError("step must be greater than zero; use flip to reverse a dimension")
        elif not isinstance(part, _BASIC):
            if not hasattr(part, "dtype") or part.dtype.kind not in "iub":
                kind = getattr(part, "dtype", type(part).__name__)
                raise IndexError(f"tensors used as indices must be integer or bool tensors, or slices and ints, but got {kind}")
            if part.dtype.kind == "u":
                part = part.astype(bool if part.dtype.itemsize == 1 else np.int64)
            if module_of(part) is not module_of(input._data):
                part = module_of(input._data).asarray(to_numpy(part))
            basic = False
        found.append(part)
    if basic and not any(part is Ellipsis for part in found):
        found.append(Ellipsis)  # so that NumPy gives a 0-d view, not a scalar, when every dimension is indexed
    return tuple(found), basic


def _whole(value: Any) -> int:
    return int(value.item()) if isinstance(value, core.Tensor) else value.__index__()


@public(name="getitem", method="__getitem__", function=False)
def _getitem(input: Any, index: Any) -> Any:
    """Part of a tensor: a view for ints, slices, None and ..., a copy for index tensors and masks.

    Raises:
        IndexError: the index does not fit the tensor's shape.
    """
    parsed, basic = parse_index(input, index)
    try:
        return (getitem if basic else take_index)(input, parsed)
    except IndexError as error:
        raise IndexError(f"{error}; the tensor has shape {tuple(input.shape)}") from None


@public(name="setitem", method="__setitem__", function=False)
def _setitem(input: Any, index: Any, value: Any) -> None:
    """Write into part of a tensor, in place.

    Raises:
        IndexError: the index does not fit the tensor's shape.
        RuntimeError: the value does not broadcast to the part, or the tensor may not be changed in place.
    """
    parsed, basic = parse_index(input, index)
    (source,) = as_tensors("setitem", (value,)) if not isinstance(value, list | tuple) else as_tensors("setitem", (np.asarray(value),))
    recording = modes.grad and (input._needs_grad or source._needs_grad)
    check_inplace("setitem", input, recording)
    try:
        before = input._data if recording and not basic else None
        if basic and recording:
            METHODS["copy_"](_getitem(input, index), source)
            return
        src = source._data
        if src.ndim and basic is False and src.dtype != input._data.dtype:
            src = src.astype(input._data.dtype)
        input._data[parsed] = src
    except IndexError as error:
        raise IndexError(f"{error}; the tensor has shape {tuple(input.shape)}") from None
    except ValueError as error:
        raise RuntimeError(f"setitem: {error}; the tensor has shape {tuple(input.shape)}, the value {tuple(source.shape)}") from None
    if before is not None:
        if input._base is not None:
            refresh_view(input)
        old = core.alias(input)
        changed = core.Tensor._wrap(input._data)
        arrays = (old._data, source._data)
        record(index_put, (old, source), arrays, (old._needs_grad, source._needs_grad), (parsed,), [changed], None, False)
        input._bump()
        rebase(input, changed)
    else:
        input._bump()
        if input._base is not None:
            input._view_version = input._version_counter[0]


@public(method="copy_", function=False, name="copy_")
def _copy_(input: Any, src: Any, non_blocking: bool = False) -> Any:
    """Copy ``src``, broadcast and converted, into this tensor; from another device too.

    Raises:
        RuntimeError: ``src`` does not broadcast to this tensor's shape.
    """
    if not isinstance(src, core.Tensor):
        (src,) = as_tensors("copy_", (src,))
    if src.device != input.device:
        src = src.to(input.device)
    if src.dtype != input.dtype:
        src = src.to(input.dtype)
    try:
        np.broadcast_to(np.empty(0) if 0 in src.shape else np.broadcast_to(0, src.shape), input.shape)
    except ValueError:
        raise RuntimeError(
            f"copy_: the source of shape {tuple(src.shape)} does not broadcast to the target's shape {tuple(input.shape)}"
        ) from None
    return core.inplace("copy_", copy, input, src)
