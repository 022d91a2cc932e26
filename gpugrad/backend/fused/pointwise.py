"""Chains of elementwise ops as one kernel, whose source is generated.

A chain is a list of :class:`Node`, each of which names earlier ones as its
operands.  The kernel reads each input once and writes each output once, whatever
lies between: that is its traffic.  Broadcast inputs are read through strides of 0,
after dimensions that all arrays walk through alike have been joined.  What an op
computes is said in ``kernels/pointwise.cuh``.
"""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import cuda, dtypes, kernels
from ..kernels import C_TYPES
from .dropout import BLOCK as DRAWN
from .launch import FLOAT32, THREADS, alignment

BOOL = np.dtype("bool")


class Node(NamedTuple):
    """A value of a chain.

    Attributes:
        op: "input", "number", "cast", "dropout", or the name of an elementwise op. The operands of a dropout are what
            it is done to and where its random numbers start: seed and block; its parameters are a number to add to
            the block, the bits below which an element is kept, and a factor. Its shape is the chain's.
        operands: the places of its operands in the list.
        params: the op's plain parameters; of an input its number among the arrays, of a number its value.
        dtype: of the value. Between ops 16-bit values are kept in float32 and not rounded.
    """

    op: str
    operands: tuple[int, ...]
    params: tuple[Any, ...]
    dtype: np.dtype


# The operand that is a bool, whatever the others are.
MASKS = {"where": 0, "keep": 1, "masked_fill": 1, "masked_scale": 1}
TESTS = {"eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not"}
TESTS |= {"isnan", "isinf", "isfinite", "isposinf", "isneginf"}
# Ops that are only right for floating point; of integers they mean something else, or can fail.
_INTEGER = {"add", "sub", "rsub", "mul", "neg", "square", "abs", "sign", "maximum", "minimum", "fmax", "fmin", "relu"}
_INTEGER |= {"clamp", "where", "masked_fill", "keep", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"}
_INTEGER |= {"addcmul"} | TESTS


@functools.cache
def known_ops() -> frozenset[str]:
    """The names of the elementwise ops that can be part of a chain."""
    text = kernels.read("pointwise.cuh")
    return frozenset(re.findall(r"\bop_(\w+)\(", text) + re.findall(r"^(?:OP|TEST)[12]\((\w+),", text, re.M))


def can_fuse(op: str, operands: Sequence[np.dtype], params: Sequence[Any] = ()) -> bool:
    """Whether an op on operands of these dtypes, with these parameters, can be part of a chain."""
    if op not in known_ops() or any(d.name not in C_TYPES for d in operands):
        return False
    floating = [dtypes.is_floating(d) for k, d in enumerate(operands) if MASKS.get(op) != k]
    if not all(floating) if op not in _INTEGER else op.startswith("bitwise_") and any(floating):
        return False
    return op != "round" or params == (0,)


def _compute(dtype: np.dtype) -> np.dtype:
    """The dtype a value is kept in between ops."""
    return FLOAT32 if dtypes.is_floating(dtype) and dtype.itemsize == 2 else dtype


def _operand_dtype(node: Node, nodes: Sequence[Node]) -> np.dtype:
    """The dtype in which an op takes its operands."""
    given = [nodes[k] for i, k in enumerate(node.operands) if MASKS.get(node.op) != i]
    arrays = [n.dtype for n in given if n.op != "number"]
    found = functools.reduce(dtypes.promote, arrays) if arrays else node.dtype
    for n in given:
        # A number is weak: only its kind counts.
        if n.op == "number" and dtypes.category(n.dtype) > dtypes.category(found):
            found = n.dtype
    if node.op not in TESTS and dtypes.category(node.dtype) > dtypes.category(found):
        found = node.dtype
    return _compute(found)


def _parameter(value: Any, kind: str, numbers: list[float]) -> str:
    if value is None:
        return "Nothing()"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "true" if value == "tanh" else "false"
    numbers.append(value)
    return f"({kind})number{len(numbers) - 1}"


def _body(nodes: Sequence[Node], outputs: Sequence[int]) -> tuple[str, str, list[float]]:
    """The statements that compute one element, those before that draw for a pack of them, and the numbers that go to
    the kernel as arguments.
    """
    lines: list[str] = []
    draws: list[str] = []
    numbers: list[float] = []
    for k, node in enumerate(nodes):
        kind = C_TYPES[_compute(node.dtype).name]
        if node.op == "input":
            value = f"({kind})x{node.params[0]}"
        elif node.op == "number":
            continue
        elif node.op == "dropout":
            x, seed, block = node.operands
            first = len(numbers)
            numbers += node.params
            start = f"x{nodes[block].params[0]} + (u64)number{first} + (u64)at / {DRAWN}"
            draws.append(f"        const Block b{k} = philox({start}, x{nodes[seed].params[0]});")
            kept = f"half_word(b{k}, W == {DRAWN} ? i : (int)((at + i) % {DRAWN})) < (u64)number{first + 1}"
            value = f"{kept} ? v{x} * ({kind})number{first + 2} : ({kind})0"
        else:
            into = _operand_dtype(node, nodes) if node.op != "cast" else _compute(node.dtype)
            args = []
            for i, place in enumerate(node.operands):
                of = C_TYPES["bool" if MASKS.get(node.op) == i else into.name]
                operand = nodes[place]
                args.append(
                    _parameter(operand.params[0] * 1, of, numbers) if operand.op == "number" else f"({of})v{place}"
                )
            if node.op == "pow" and nodes[node.operands[1]].op == "number":
                args[1] = f"Plain<{C_TYPES[into.name]}>{{{args[1]}}}"
            if node.op == "cast":
                # A cast to 16 bits rounds, unlike the ops.
                value = f"({C_TYPES[node.dtype.name]}){args[0]}"
            elif node.op == "round":
                value = f"op_round({args[0]}, Nothing())"
            else:
                args += [_parameter(p, C_TYPES[into.name], numbers) for p in node.params]
                function = "short_gelu" if node.op == "gelu" and node.dtype.itemsize == 2 else f"op_{node.op}"
                value = f"{function}({', '.join(args)})"
        lines.append(f"            const {kind} v{k} = {value};")
    for n, place in enumerate(outputs):
        lines.append(f"            y{n}.value[i] = ({C_TYPES[nodes[place].dtype.name]})v{place};")
    return "\n".join(lines), "\n".join(draws), numbers


class _Layout(NamedTuple):
    """How a kernel walks through its arrays: what of it is in the source, and what are arguments."""

    width: int  # elements of a pack
    dims: int
    steps: tuple[
        int, ...
    ]  # of each input from one element to the next: 0, 1, 2 for a stride, 3 if it lies as results do
    size: int
    numbers: tuple[int, ...]  # sizes of all dimensions but the first, then the inputs' strides


def _layout(shape: tuple[int, ...], arrays: Sequence[tuple[Any, Any, int, int]], most: int) -> _Layout:
    """The layout for results of a shape.

    Args:
        arrays: shape, strides, itemsize and alignment of each input.
        most: elements of a pack.
    """
    strides = []
    for its_shape, its_strides, itemsize, _ in arrays:
        lead = (0,) * (len(shape) - len(its_shape))
        own = zip(its_shape, its_strides, strict=True)
        strides.append([*lead, *[0 if n == 1 else s // itemsize for n, s in own]])
    sizes: list[int] = []
    kept: list[list[int]] = [[] for _ in strides]
    for d, n in enumerate(shape):
        if n == 1:
            continue
        if sizes and all(k[-1] == s[d] * n for k, s in zip(kept, strides, strict=True)):
            sizes[-1] *= n
            for k, s in zip(kept, strides, strict=True):
                k[-1] = s[d]
        else:
            sizes.append(n)
            for k, s in zip(kept, strides, strict=True):
                k.append(s[d])
    if not sizes:
        sizes, kept = [1], [[0] for _ in kept]
    dense = [math.prod(sizes[d + 1 :]) for d in range(len(sizes))]
    steps = tuple(3 if k == dense else k[-1] if k[-1] in (0, 1) else 2 for k in kept)
    if 2 in steps:
        across = 1
    else:
        # A pack lies in one row, and starts at a multiple of its length in every array.
        joined = most | (sizes[-1] if len(sizes) > 1 else 0)
        for k, (_, _, itemsize, aligned) in zip(kept, arrays, strict=True):
            if k[-1] == 1:
                # At 16 bytes, any pack is aligned as it has to be.
                joined |= max(1, aligned // itemsize) if aligned < 16 else 0
                for stride in k[:-1]:
                    joined |= stride
        across = joined & -joined
    total = math.prod(sizes)
    flat = [s for k, step in zip(kept, steps, strict=True) for s in (k[:-1], k[:-1], k, ())[step]]
    return _Layout(across, len(sizes), steps, total, (*sizes[1:], *flat))


def _source(chain: _Chain, layout: _Layout) -> tuple[str, int]:
    """The text of the kernel ``fused`` for a layout, and how many elements a block of it computes."""
    dims, index = layout.dims, "i64" if layout.size >= 2**31 else "u32"
    inputs = [C_TYPES[d.name] for d in chain.inputs]
    results = [C_TYPES[chain.nodes[k].dtype.name] for k in chain.outputs]
    parameters = [f"const {t}* __restrict__ in{k}" for k, t in enumerate(inputs)]
    parameters += [f"{t}* __restrict__ out{k}" for k, t in enumerate(results)]
    parameters += ["i64 size", *[f"i64 n{d}" for d in range(1, dims)]]
    places, loads, elements = [], [], []
    if dims > 1:
        places.append(f"        {index} rest = ({index})at;")
        places += [
            f"        const i64 i{d} = rest % ({index})n{d}; rest /= ({index})n{d};" for d in range(dims - 1, 0, -1)
        ]
        places.append("        const i64 i0 = rest;")
    elif 2 in layout.steps:
        places.append("        const i64 i0 = at;")
    for k, (kind, step) in enumerate(zip(inputs, layout.steps, strict=True)):
        strided = (dims - 1, dims - 1, dims, 0)[step]
        parameters += [f"i64 s{k}_{d}" for d in range(strided)]
        terms = [f"i{d} * s{k}_{d}" for d in range(strided)] + [f"i{dims - 1}"] * (step == 1) + ["at"] * (step == 3)
        place = f"in{k} + {' + '.join(terms) or '0'}"
        if step in (1, 3):
            loads.append(f"        const Pack<{kind}, W> p{k} = load<W>({place});")
            elements.append(f"            const {kind} x{k} = p{k}.value[i];")
        else:
            loads.append(f"        const {kind} x{k} = *({place});")
    for k, kind in enumerate(results):
        loads.append(f"        Pack<{kind}, W> y{k};")
    stores = [f"        store<W>(out{k} + at, y{k});" for k in range(len(results))]
    parameters += [f"double number{k}" for k in range(chain.count)]
    # About 16 elements of each array in flight.
    packs = 1 if chain.draws else max(1, 16 // (layout.width * max(1, len(inputs) // 2)))
    parts = [
        '#include "common.cuh"',
        '#include "pointwise.cuh"',
        *(['#include "philox.cuh"'] if chain.draws else []),
        f'extern "C" __global__ void __launch_bounds__({THREADS}) fused({", ".join(parameters)}) {{',
        f"    over<{layout.width}, {packs}, {THREADS}>(size, [&](i64 at, auto width) {{",
        "        constexpr int W = decltype(width)::value;",
        *places,
        *loads,
        chain.draws,
        "#pragma unroll",
        "        for (int i = 0; i < W; ++i) {",
        *elements,
        chain.body,
        "        }",
        *stores,
        "    });",
        "}",
    ]
    return kernels.inlined("\n".join(parts) + "\n", "fused.cu"), layout.width * packs * THREADS


class _Chain:
    """What is the same for all numbers and shapes a chain is called with."""

    def __init__(self, nodes: tuple[Node, ...], outputs: tuple[int, ...]):
        self.nodes, self.outputs = nodes, outputs
        inputs = {n.params[0]: n.dtype for n in nodes if n.op == "input"}
        self.inputs = [inputs[k] for k in range(len(inputs))]
        self.results = [nodes[k].dtype for k in outputs]
        self.body, self.draws, numbers = _body(nodes, outputs)
        self.count = len(numbers)
        self.largest = max(d.itemsize for d in (*self.inputs, *self.results))
        self.plans: dict[Any, Any] = {}

    def plan(self, key: Any) -> Any:
        """Code, grid and arguments for arrays of these shapes, strides and alignments."""
        aligned, *given = key
        shape = np.broadcast_shapes(*[shape for shape, _, _ in given])
        arrays = [(s, t, d.itemsize, a) for (s, t, a), d in zip(given, self.inputs, strict=True)]
        # What one block of the random stream decides about is best done by one thread.
        most = DRAWN if self.draws and aligned == 16 else max(1, aligned // self.largest)
        layout = _layout(shape, arrays, most)
        code, tile = _source(self, layout)
        code = sys.intern(code)  # most shapes have that of another
        numbers = tuple(np.int64(n) for n in (layout.size, *layout.numbers))
        found = self.plans[key] = shape, code, -(-layout.size // tile), numbers
        return found


@functools.lru_cache(maxsize=4096)
def _chain(nodes: tuple[Node, ...], outputs: tuple[int, ...]) -> _Chain:
    return _Chain(nodes, outputs)


class Fused:
    """A chain of elementwise ops, ready to be called; made by ``fuse``."""

    def __init__(self, chain: _Chain, numbers: Sequence[float]):
        self._chain = chain
        self._numbers = tuple(float(n) for n in numbers)

    def __call__(self, arrays: Sequence[Any], outs: Sequence[Any] | None = None) -> tuple[Any, ...]:
        """The results for CUDA arrays of the inputs' dtypes, which broadcast.

        Args:
            outs: C-contiguous arrays to write to, of the results' shape and dtypes; may be among the inputs.
        """
        chain = self._chain
        aligned = 16 if outs is None else alignment(*outs)
        key = (aligned, *[(a.shape, a.strides, alignment(a)) for a in arrays])
        shape, code, grid, sizes = chain.plans.get(key) or chain.plan(key)
        if outs is None:
            xp = cuda.cupy()
            outs = [xp.empty(shape, d) for d in chain.results]
        if grid:
            kernels.compiled(code, "fused")((grid,), (THREADS,), (*arrays, *outs, *sizes, *self._numbers))
        return tuple(outs)


def fuse(nodes: Sequence[Node], outputs: Sequence[int]) -> Fused:
    """One kernel for a chain of elementwise ops.

    Args:
        nodes: the values, operands before what is made of them; ops for which ``can_fuse``.
        outputs: the places of those that are wanted.
    """
    plain = tuple(
        n._replace(params=(0.0 if dtypes.category(n.dtype) == 2 else 0,)) if n.op == "number" else n for n in nodes
    )
    *_, numbers = _body(nodes, outputs)
    shape = tuple(
        n._replace(params=tuple(_slot(p) for p in n.params)) if n.op not in ("input", "number") else n for n in plain
    )
    return Fused(_chain(shape, tuple(outputs)), numbers)


def _slot(value: Any) -> Any:
    """A parameter as far as it is part of the source: numbers are arguments."""
    return value if value is None or isinstance(value, bool | str) else 0.0
