"""Elementwise work that is put off while a CUDA graph is recorded, to be done by few kernels.

A :class:`Lazy` stands for the result of elementwise ops that have not been launched.  When
something else needs its memory, it and what it is made of become one kernel, which reads
each array once and also writes those values on the way that are still referred to.  What
nobody refers to any more is never written.

Whoever is about to overwrite memory calls ``before_write``, so that what was put off
still reads the old contents.
"""

from __future__ import annotations

import math
import operator
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, NoReturn

import numpy as np

from . import cuda, dtypes
from .device import beside
from .fused import pointwise
from .fused.launch import C_TYPES as FLOATS
from .kernels import C_TYPES

MOST_OPS = 32
"""Values in a kernel, and about how many arrays it may read: beyond them, what there is gets written first."""
MOST_INPUTS = 12

_BOOL = np.dtype("bool")
_ON_BOOLS = pointwise.TESTS | {
    "where",
    "keep",
    "masked_fill",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_not",
}
# Exponents for which ops have something better than a power.
_POWERS = {2: "square", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}
_serial = count()


class _State(threading.local):
    enabled = True
    """Whether fused kernels are used."""
    pending: weakref.WeakValueDictionary[int, Lazy] | None = None
    """The values that have no memory yet but are referred to, by serial number; None when work is not put off."""


state = _State()


def active() -> bool:
    """Whether elementwise work of this thread is put off."""
    return state.pending is not None and state.enabled


class _Value:
    """An array, or an elementwise op that has not been done yet."""

    __slots__ = ("array", "device", "dtype", "op", "operands", "params", "serial", "shape")

    def __init__(
        self, op: str, operands: tuple[Any, ...], params: tuple[Any, ...], shape: tuple[int, ...], dtype: np.dtype
    ):
        self.op, self.operands, self.params = op, operands, params
        self.shape, self.dtype = shape, dtype
        self.array: Any = None
        self.device: Any = next((v.device for v in operands if isinstance(v, _Value)), None)
        self.serial = next(_serial)

    @classmethod
    def of(cls, array: Any) -> _Value:
        """The value that an array holds."""
        self = cls("", (), (), array.shape, array.dtype)
        self.array, self.device = array, array.device
        return self

    def pending(self) -> list[_Value]:
        """The operands that have no memory."""
        return [v for v in self.operands if isinstance(v, _Value) and v.array is None]


class _Layout:
    """How what has no memory yet will lie in it."""

    c_contiguous = forc = owndata = writeable = True
    f_contiguous = fnc = False


class Lazy:
    """A CUDA array that may have to be computed first; to gradient rules it is like any other.

    Whatever it does not know itself is asked of the array.
    """

    __slots__ = ("__weakref__", "_value")
    __array_priority__ = 1000
    __array_ufunc__ = None  # CuPy and NumPy leave operators to this class
    __hash__ = object.__hash__

    def __init__(self, value: _Value):
        self._value = value

    def settle(self) -> Any:
        """The array, which is computed now if it was not before.

        Raises:
            RuntimeError: the recording that it was part of has failed.
        """
        value = self._value
        if value.array is None:
            if state.pending is None:
                raise RuntimeError("this value was part of a capture that failed; compute it anew")
            _write(value)
        return value.array

    shape = property(lambda self: self._value.shape)
    dtype = property(lambda self: self._value.dtype)
    device = property(lambda self: self._value.device)
    ndim = property(lambda self: len(self._value.shape))
    size = property(lambda self: math.prod(self._value.shape))
    itemsize = property(lambda self: self._value.dtype.itemsize)
    nbytes = property(lambda self: self.size * self.itemsize)

    @property
    def base(self) -> Any:
        """The array whose memory this is a view of."""
        return None if self._value.array is None else self._value.array.base

    @property
    def flags(self) -> Any:
        """How it lies in memory."""
        return _Layout if self._value.array is None else self._value.array.flags

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one element to the next along each axis."""
        if self._value.array is not None:
            return self._value.array.strides
        return tuple(self.itemsize * math.prod(self.shape[d + 1 :]) for d in range(self.ndim))

    @property
    def __cuda_array_interface__(self) -> Any:
        return self.settle().__cuda_array_interface__

    def __getattr__(self, name: str) -> Any:
        return getattr(self.settle(), name)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def astype(self, dtype: Any, *args: Any, **options: Any) -> Any:
        """The elements converted."""
        return self.settle().astype(dtype, *args, **options) if args or options else cast(self, dtype)

    def __len__(self) -> int:
        return len(self.settle())

    def __iter__(self) -> Any:
        return iter(self.settle())

    def __getitem__(self, key: Any) -> Any:
        return self.settle()[settled(key)]

    def __setitem__(self, key: Any, value: Any) -> None:
        array, value = self.settle(), settled(value)
        before_write(array)
        array[settled(key)] = value

    def __bool__(self) -> bool:
        return bool(self.settle())

    def __int__(self) -> int:
        return int(self.settle())

    def __float__(self) -> float:
        return float(self.settle())

    def __index__(self) -> int:
        return operator.index(self.settle())

    def __repr__(self) -> str:
        return repr(self.settle())


def _unary(op: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Lazy) -> Any:
        found = apply(op, (self,)) if active() else NotImplemented
        return function(self.settle()) if found is NotImplemented else found

    return method


def _binary(op: str | None, function: Callable[..., Any], reflected: bool = False) -> Callable[..., Any]:
    def method(self: Lazy, other: Any) -> Any:
        pair = (other, self) if reflected else (self, other)
        found = apply(op, pair) if op is not None and active() else NotImplemented
        return function(*[settled(value) for value in pair]) if found is NotImplemented else found

    return method


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Lazy, other: Any) -> Any:
        array, other = self.settle(), settled(other)
        before_write(array)
        return function(array, other)

    return method


_OPERATORS = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "pow": "pow", "mod": "remainder"}
_OPERATORS |= {"floordiv": "floor_divide", "and_": "bitwise_and", "or_": "bitwise_or", "xor": "bitwise_xor"}
for _name, _op in (*_OPERATORS.items(), ("matmul", None), ("lshift", None), ("rshift", None)):
    _function, _bare = getattr(operator, _name), _name.strip("_")
    setattr(Lazy, f"__{_bare}__", _binary(_op, _function))
    setattr(Lazy, f"__r{_bare}__", _binary(_op, _function, True))
    setattr(Lazy, f"__i{_bare}__", _in_place(getattr(operator, f"i{_bare}")))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Lazy, f"__{_name}__", _binary(_name, getattr(operator, _name)))
for _name, _op in (("neg", "neg"), ("abs", "abs"), ("invert", "bitwise_not")):
    setattr(Lazy, f"__{_name}__", _unary(_op, getattr(operator, _name)))


def settled(value: Any) -> Any:
    """``value`` with the arrays in the place of what stands for them, also in tuples and lists."""
    if value.__class__ is Lazy:
        return value.settle()
    if value.__class__ is tuple or value.__class__ is list:
        return value.__class__([settled(item) for item in value])
    return value


def memory(value: Any) -> Any:
    """The array of a value that has been computed; None if it has not been."""
    return value._value.array if isinstance(value, Lazy) else value


def lift(value: Any) -> Any:
    """A CUDA array as a :class:`Lazy`, whose operators put work off; anything else as it is."""
    if isinstance(value, cuda.cupy().ndarray):
        return Lazy(_Value.of(value))
    return [lift(item) for item in value] if value.__class__ is list else value


def is_memory_of(value: Any, array: Any) -> bool:
    """Whether ``value`` is ``array``, or stands for it."""
    return value is array or (value.__class__ is Lazy and value._value.array is array)


def _operand(value: Any) -> Any:
    """A value or a plain number; NotImplemented for what cannot be part of a chain."""
    if value.__class__ is Lazy:
        return value._value
    if value.__class__ in (bool, int, float):
        return value
    return _Value.of(value) if isinstance(value, cuda.cupy().ndarray) else NotImplemented


def _result_dtype(op: str, operands: Sequence[Any]) -> np.dtype | None:
    """The dtype of an op's result; None where a kernel would not do what the op does."""
    mask = pointwise.MASKS.get(op)
    found: np.dtype | None = None
    numbers = []
    for k, v in enumerate(operands):
        if not isinstance(v, _Value):
            numbers.append(v)
        elif k == mask:
            if v.dtype != _BOOL:
                return None
        elif found is None:
            found = v.dtype
        elif found != v.dtype:
            # NumPy and PyTorch disagree about integers beside floating point, and about two kinds of 16 bits.
            if {1, 2} == {dtypes.category(found), dtypes.category(v.dtype)} or found.itemsize == v.dtype.itemsize:
                return None
            found = dtypes.promote(found, v.dtype)
    if found is None or (mask is not None and not isinstance(operands[mask], _Value)):
        return None
    kind = dtypes.category(found)
    if kind == 0 and op not in _ON_BOOLS:
        return None
    for number in numbers:
        if dtypes.category(dtypes.of_scalar(number)) > kind:
            return None
        # Numbers go to the kernel as float64.
        if kind == 1 and not max(-(2**53), np.iinfo(found).min) <= number <= min(2**53, np.iinfo(found).max):
            return None
    return _BOOL if op in pointwise.TESTS else found


def apply(op: str, operands: Sequence[Any], params: tuple[Any, ...] = ()) -> Any:
    """The result of an elementwise op, put off; NotImplemented where it cannot be.

    Args:
        operands: CUDA arrays, what stands for them, numbers; None for an absent bound.
        params: plain parameters.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    if op == "clamp" and any(v is None for v in operands):
        op = "minimum" if operands[1] is None else "maximum"
        operands = [v for v in operands if v is not None]
    if op == "pow" and operands[1].__class__ in (int, float) and operands[1] in _POWERS:
        op, operands = _POWERS[operands[1]], operands[:1]
    values = [_operand(v) for v in operands]
    plain = all(p is None or isinstance(p, bool | int | float | str) for p in params)
    if not plain or any(v is NotImplemented for v in values):
        return NotImplemented
    arrays = [v for v in values if isinstance(v, _Value)]
    dtype = _result_dtype(op, values)
    if dtype is None or not pointwise.can_fuse(op, [v.dtype for v in arrays], params):
        return NotImplemented
    return _put_off(op, values, params, np.broadcast_shapes(*[v.shape for v in arrays]), dtype)


def cast(array: Any, dtype: Any) -> Any:
    """The elements converted to another dtype."""
    dtype = np.dtype(dtype)
    if not active() or array.dtype.name not in C_TYPES or dtype.name not in C_TYPES:
        array = settled(array)
        with beside(array):
            return array.astype(dtype)
    value = _operand(array)
    return _put_off("cast", (value,), (), value.shape, dtype)


def can_drop(array: Any) -> bool:
    """Whether a dropout of this can be put off."""
    return _operand(array) is not NotImplemented and array.dtype.name in FLOATS


def dropout(array: Any, offset: int, place: Any, threshold: int, scale: float) -> Any:
    """What a random mask keeps of an array, times ``scale``, and zeros, put off.

    Args:
        array: for which ``can_drop``.
        offset, place: from ``random.reserve``.
        threshold: elements whose 32 random bits are below it are kept.
    """
    value = _operand(array)
    stream = [_Value.of(place[k : k + 1].reshape(())) for k in range(2)]
    return _put_off("dropout", (value, *stream), (offset, threshold, scale), value.shape, value.dtype)


def _put_off(
    op: str, operands: Sequence[Any], params: tuple[Any, ...], shape: tuple[int, ...], dtype: np.dtype
) -> Lazy:
    assert state.pending is not None
    value = _Value(op, tuple(operands), params, shape, dtype)
    if not _fits(_group([value], {})):
        for operand in value.pending():
            if operand.array is None:
                _write(operand)
    made = state.pending[value.serial] = Lazy(value)
    return made


def _group(stack: list[_Value], found: dict[_Value, None]) -> dict[_Value, None]:
    """``found`` with values without memory and what they are made of, operands first."""
    while stack:
        value = stack[-1]
        rest = [v for v in value.pending() if v not in found]
        if rest:
            stack += rest
        else:
            found[stack.pop()] = None
    return found


def _sources(group: Iterable[_Value]) -> set[int]:
    """The arrays that a group of values is computed from."""
    return {id(v.array) for each in group for v in each.operands if isinstance(v, _Value) and v.array is not None}


def _fits(group: dict[_Value, None]) -> bool:
    return len(group) <= MOST_OPS and len(_sources(group)) <= MOST_INPUTS


def _write(*targets: _Value) -> None:
    """Launch the kernel that computes some values of one shape."""
    pending = state.pending
    assert pending is not None
    shape = targets[0].shape
    # Smaller values that are referred to have kernels of their own, and those that draw for each of their elements.
    for value in _group(list(targets), {}):
        if value.shape != shape and (value.serial in pending or value.op == "dropout") and value.array is None:
            _write(value)
    group = _group(list(targets), {})
    kept = [v for v in group if v in targets or (v.shape == shape and v.serial in pending)]
    kept += [v for v in _needed_elsewhere(group) if v.shape == shape and v not in kept]
    nodes: list[pointwise.Node] = []
    places: dict[int, int] = {}
    arrays: list[Any] = []

    def place(operand: Any) -> int:
        key = id(operand.array) if isinstance(operand, _Value) and operand.array is not None else id(operand)
        if not isinstance(operand, _Value):
            nodes.append(pointwise.Node("number", (), (operand,), dtypes.of_scalar(operand)))
            return len(nodes) - 1
        if key not in places:
            nodes.append(pointwise.Node("input", (), (len(arrays),), operand.dtype))
            arrays.append(operand.array)
            places[key] = len(nodes) - 1
        return places[key]

    for value in group:
        operands = tuple([place(v) for v in value.operands])
        nodes.append(pointwise.Node(value.op, operands, value.params, value.dtype))
        places[id(value)] = len(nodes) - 1
    with beside(arrays[0]):
        results = pointwise.fuse(nodes, [places[id(v)] for v in kept])(arrays)
    for value, array in zip(kept, results, strict=True):
        value.array, value.operands = array, ()
        pending.pop(value.serial, None)


def _needed_elsewhere(group: dict[_Value, None]) -> Iterable[_Value]:
    """The values of a group that others are made of which would read two or more arrays to compute them again."""
    assert state.pending is not None
    others = [lazy._value for lazy in list(state.pending.values()) if lazy._value not in group]
    used: dict[_Value, None] = {}
    seen = set(others)
    while others:
        for value in others.pop().pending():
            if value in group:
                used[value] = None
            elif value not in seen:
                seen.add(value)
                others.append(value)
    return [v for v in used if len(_inputs(v)) > 1]


def _inputs(value: _Value) -> set[int]:
    """The arrays of its own shape that a value is computed from."""
    leaves = [v for each in _group([value], {}) for v in each.operands if isinstance(v, _Value)]
    return {id(v.array) for v in leaves if v.array is not None and v.shape == value.shape}


def _reads(value: _Value, start: int, stop: int) -> bool:
    for each in _group([value], {}):
        for v in each.operands:
            if isinstance(v, _Value) and v.array is not None:
                memory = v.array.data.mem
                if memory.ptr < stop and start < memory.ptr + memory.size:
                    return True
    return False


def before_write(array: Any) -> None:
    """Do what was put off and reads the memory of ``array``, which is about to change."""
    if state.pending:
        memory = array.data.mem
        _write_all(lambda value: _reads(value, memory.ptr, memory.ptr + memory.size))


def flush() -> None:
    """Do all that was put off and is still referred to."""
    if state.pending:
        _write_all(lambda value: True)


def _write_all(chosen: Callable[[_Value], bool]) -> None:
    assert state.pending is not None
    # The last ones first: their kernels write what they are made of as well.
    handles = sorted(state.pending.values(), key=lambda lazy: -lazy._value.serial)
    values = [lazy._value for lazy in handles if chosen(lazy._value)]
    for k, value in enumerate(values):
        if value.array is not None:
            continue
        targets = [value]
        group = _group([value], {})
        for other in values[k + 1 :]:
            # What reads the same arrays goes with it.
            if other.array is None and other.shape == value.shape and other not in group:
                both = _group([other], dict(group))
                if _fits(both) and _sources(group) & _sources(v for v in both if v not in group):
                    targets.append(other)
                    group = both
        _write(*targets)


def begin() -> None:
    """Put off elementwise work from here on."""
    state.pending = weakref.WeakValueDictionary()


def end(failed: bool = False) -> None:
    """Put off no more; what was is done, unless the recording has failed."""
    try:
        if not failed:
            flush()
    finally:
        state.pending = None
