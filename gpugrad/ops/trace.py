"""Elementwise forwards and gradient rules as one CUDA kernel each.

A rule is run once on symbols in the place of arrays, with a vocabulary that notes
what it does; what was noted becomes a kernel.  So a rule that makes several passes
over memory on the CPU, block by block, makes one on a GPU, and is still written once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import dtypes
from ..backend.fused.pointwise import BOOL, C_TYPES, MASKS, TESTS, Fused, Node, can_fuse, fuse
from .core import REGISTRY

_NUMBERS = (bool, int, float)


class Untraceable(Exception):
    """A rule did something that cannot be part of a chain."""


class Symbol:
    """A value of a chain that is being noted; operators note themselves."""

    def __init__(self, trace: Trace, place: int):
        self._trace = trace
        self._place = place

    @property
    def dtype(self) -> np.dtype:
        return self._trace.nodes[self._place].dtype

    def __getattr__(self, name: str) -> Any:
        raise Untraceable(name)

    def __bool__(self) -> bool:
        raise Untraceable("a condition")


def _operator(name: str, reflected: bool = False) -> Callable[..., Symbol]:
    def operator(self: Symbol, *others: Any) -> Symbol:
        return self._trace.note(name, (*others, self) if reflected else (self, *others))

    return operator


for _name, _op in (("add", "add"), ("sub", "sub"), ("mul", "mul"), ("truediv", "div"), ("pow", "pow")):
    setattr(Symbol, f"__{_name}__", _operator(_op))
    setattr(Symbol, f"__r{_name}__", _operator(_op, True))
for _name, _op in (("and", "bitwise_and"), ("or", "bitwise_or"), ("xor", "bitwise_xor")):
    setattr(Symbol, f"__{_name}__", _operator(_op))
for _name in ("eq", "ne", "lt", "le", "gt", "ge", "neg", "abs"):
    setattr(Symbol, f"__{_name}__", _operator(_name))
setattr(Symbol, "__invert__", _operator("bitwise_not"))


class Trace:
    """The nodes noted so far; as a vocabulary, what rules call."""

    is_taped = False

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, *node: Any) -> Symbol:
        self.nodes.append(Node(*node))
        return Symbol(self, len(self.nodes) - 1)

    def value(self, value: Any) -> Symbol:
        """A number as a symbol; a symbol is one already."""
        if isinstance(value, Symbol):
            return value
        if not isinstance(value, _NUMBERS):
            raise Untraceable(type(value).__name__)
        return self.add("number", (), (value,), dtypes.of_scalar(value))

    def note(self, name: str, operands: tuple[Any, ...], params: tuple[Any, ...] = ()) -> Symbol:
        """The result of an elementwise op."""
        symbols = [self.value(operand) for operand in operands]
        nodes = [self.nodes[s._place] for s in symbols]
        given = [n for k, n in enumerate(nodes) if MASKS.get(name) != k]
        arrays = [n.dtype for n in given if n.op != "number"]
        if not arrays or not can_fuse(name, [n.dtype for n in nodes if n.op != "number"], params):
            raise Untraceable(name)
        dtype = functools.reduce(dtypes.promote, arrays)
        for n in given:
            if n.op == "number" and dtypes.category(n.dtype) > dtypes.category(dtype):
                dtype = n.dtype
        places = tuple(s._place for s in symbols)
        return self.add(name, places, params, BOOL if name in TESTS else dtype)

    def to_dtype(self, input: Symbol, dtype: Any) -> Symbol:
        dtype = np.dtype(dtype)
        if dtype.name not in C_TYPES:
            raise Untraceable(dtype.name)
        return self.add("cast", (self.value(input)._place,), (), dtype)

    def clamp(self, input: Symbol, min: Any, max: Any) -> Symbol:
        if isinstance(min, Symbol) or isinstance(max, Symbol):
            return self.note("clamp", (input, min, max))
        return self.note("clamp_numbers", (input,), (min, max))

    def __getattr__(self, name: str) -> Callable[..., Symbol]:
        found = REGISTRY.get(name)
        if found is None or found.variadic:
            raise Untraceable(name)
        count = len(found.inputs)
        return lambda *args: self.note(name, args[:count], args[count:])


def _plain(value: Any) -> Any:
    """An argument, a number on the host as Python's."""
    return value.item() if isinstance(value, np.ndarray | np.generic) and not value.ndim else value


def _slot(value: Any) -> Any:
    """What of an argument decides how a rule runs: an array's dtype, anything else itself."""
    return value.dtype if hasattr(value, "dtype") else (type(value), value)


@functools.lru_cache(maxsize=2048)
def _traced(function: Callable[..., Any], slots: tuple[Any, ...]) -> Fused | None:
    """The kernel of ``function(F, *arguments)``, which returns one value or several; None if there can be none."""
    trace = Trace()
    arguments: list[Any] = []
    count = 0
    for slot in slots:
        if isinstance(slot, tuple):
            arguments.append(slot[1])
        elif slot.name in C_TYPES:
            arguments.append(trace.add("input", (), (count,), slot))
            count += 1
        else:
            return None
    try:
        found = function(trace, *arguments)
        several = found if isinstance(found, tuple) else (found,)
        outputs = tuple(trace.value(symbol)._place for symbol in several)
    except (Untraceable, TypeError):
        return None
    # A constant is no chain, and an operand that is not used is not read.
    used = {place for node in trace.nodes for place in node.operands} | set(outputs)
    inputs = [place for place, node in enumerate(trace.nodes) if node.op == "input"]
    if not used.issuperset(inputs) or any(trace.nodes[place].op in ("input", "number") for place in outputs):
        return None
    return fuse(trace.nodes, outputs)


def run(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(F, *arguments)`` on CUDA arrays by one kernel, or NotImplemented: a tuple of its results."""
    arguments = tuple([_plain(a) for a in arguments])
    try:
        kernel = _traced(function, tuple([_slot(a) for a in arguments]))
    except TypeError:  # an argument that cannot be looked up
        return NotImplemented
    return NotImplemented if kernel is None else kernel([a for a in arguments if hasattr(a, "dtype")])


def _forward(op: Any, F: Trace, *args: Any) -> Any:
    count = len(op.inputs)
    return F.note(op.name, args[:count], args[count:])


def _forward_with_aux(op: Any, F: Trace, *args: Any) -> Any:
    named = dict(zip(op.inputs + op.params, args, strict=True))
    wanted = op.aux_of.__code__.co_varnames[1 : op.aux_of.__code__.co_argcount]
    return _forward(op, F, *args), op.aux_of(F, *[named[name] for name in wanted])


class ForwardKernel:
    """The fused forward of an elementwise op."""

    def __init__(self, op: Any):
        self._op = op
        self._plain = functools.partial(_forward, op)
        self._both = functools.partial(_forward_with_aux, op)

    def __call__(self, *args: Any) -> Any:
        if not self._op.aux:
            found = run(self._plain, *args)
            return found if found is NotImplemented else found[0]
        *args, recording = args
        found = run(self._both if recording else self._plain, *args)
        return found if found is NotImplemented or recording else (found[0], None)
