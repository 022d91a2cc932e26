"""Pictures of the recorded graph: ``gg.viz.graph(output)`` as DOT text, and as SVG with or without graphviz.

A box is an op with the shape and dtype of its result, or a leaf; an edge is a tensor that
one hands to the next.  Modules that repeat (the blocks of a deep network) are drawn once, and what is still
too large to read is summed up.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from graphlib import CycleError, TopologicalSorter
from html import escape
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .backend import to_numpy
from .engine import Node
from .ops.core import OpNode
from .tensor import Tensor, grad

# Fills from Okabe and Ito's palette, lightened: told apart by the colour-blind and in grey.
_FILLS = {"op": "#ffffff", "leaf": "#cfe8f7", "constant": "#eeeeee", "output": "#fde7b3", "group": "#d5efe4"}
_RECOMPUTE = 4096  # elements; larger results that the graph did not keep are not computed anew


@dataclass(eq=False)
class _Box:
    """What is drawn as one box: its lines of text, what flows into it, and the module it belongs to."""

    kind: str
    lines: list[str]
    inputs: list[_Box] = field(default_factory=list)
    module: str = ""
    op: str = ""


class Graph:
    """A drawn graph; made by :func:`graph`. A notebook shows it as a picture.

    Attributes:
        dot: the DOT text, for graphviz.
    """

    def __init__(self, boxes: list[_Box], direction: str):
        self._boxes, self._direction = boxes, direction
        self.dot = _dot(boxes, direction)

    def __str__(self) -> str:
        return self.dot

    def __repr__(self) -> str:
        edges = sum(len(box.inputs) for box in self._boxes)
        return f"<graph of {len(self._boxes)} boxes and {edges} edges>"

    def svg(self) -> str:
        """The picture as SVG: laid out by graphviz where it is installed, else by a simple layout of our own."""
        if shutil.which("dot"):
            return self._graphviz("svg").decode()
        return _svg(self._boxes, self._direction)

    def save(self, path: str | Path) -> Path:
        """Write the graph as its extension says: .dot or .gv text, .svg, or (with graphviz) .png, .pdf and others.

        Raises:
            RuntimeError: the format needs graphviz, which is not installed, or graphviz failed.
        """
        path = Path(path)
        kind = path.suffix[1:].lower()
        if kind in ("dot", "gv"):
            path.write_text(self.dot, encoding="utf-8")
        elif kind == "svg":
            path.write_text(self.svg(), encoding="utf-8")
        else:
            path.write_bytes(self._graphviz(kind))
        return path

    def _graphviz(self, kind: str) -> bytes:
        program = shutil.which("dot")
        if program is None:
            raise RuntimeError(
                f"{kind or 'this'} pictures of graphs need graphviz (its program 'dot'), which is not installed; "
                "save as .svg or .dot instead"
            )
        done = subprocess.run([program, f"-T{kind}"], input=self.dot.encode(), capture_output=True)
        if done.returncode:
            raise RuntimeError(f"graphviz cannot write {kind!r}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def _repr_svg_(self) -> str:
        return self.svg()


def graph(
    output: Tensor | Sequence[Tensor],
    params: Any = None,
    *,
    gradients: bool = False,
    max_nodes: int = 150,
    max_values: int = 6,
    direction: str | None = None,
) -> Graph:
    """Draw how ``output`` was computed.

    Values are those the graph has kept for backward, or that follow from them; call this before ``backward``, or
    after ``backward(retain_graph=True)``, to see all of them.

    Args:
        output: a tensor that needs a gradient, or several.
        params: names for tensors, leaves or not: a module, a dict of names and tensors, or ``named_parameters()``.
            Ops are grouped by the modules that dotted names tell of; repeated modules are drawn once.
        gradients: compute the gradient of ``output`` (one element) for every box; no ``.grad`` is touched.
            Otherwise those in ``.grad`` are shown.
        max_nodes: above this number, stretches of the graph become one box each.
        max_values: values and gradients of at most so many elements are shown.
        direction: "LR", from left to right, or "TB", from top to bottom (the default for deep graphs).

    Raises:
        TypeError: ``output`` or what ``params`` names is no tensor.
        ValueError: ``output`` has no graph, or an option makes no sense.
        RuntimeError: ``gradients`` are wanted of several elements, or of a graph that was freed.
    """
    outputs = [output] if isinstance(output, Tensor) else list(output)
    for t in outputs:
        if not isinstance(t, Tensor):
            raise TypeError(f"viz.graph: expected a tensor or tensors, but got {type(t).__name__}")
        if not t.requires_grad:
            raise ValueError(
                "viz.graph: the output needs no gradient, so nothing was recorded: "
                "none of its inputs has requires_grad=True, or it was computed under no_grad()"
            )
    if direction not in (None, "LR", "TB"):
        raise ValueError(f"viz.graph: direction must be 'LR' or 'TB', not {direction!r}")
    if max_nodes < 1 or max_values < 0:
        raise ValueError(f"viz.graph: max_nodes={max_nodes} and max_values={max_values} leave nothing to draw")
    drawing = _Drawing(outputs, _named(params), max_values)
    if gradients:
        drawing.compute_gradients(outputs)
    boxes = _summarised(_fold_modules(drawing.boxes()), max_nodes)
    return Graph(boxes, direction or ("LR" if max(_levels(boxes).values()) < 12 else "TB"))


def _named(params: Any) -> dict[str, Tensor]:
    if params is None:
        return {}
    if hasattr(params, "named_parameters"):
        params = params.named_parameters()
    named = dict(params.items() if isinstance(params, Mapping) else params)
    for name, t in named.items():
        if not isinstance(t, Tensor):
            raise TypeError(f"viz.graph: params must name tensors, but {name!r} is of type {type(t).__name__}")
    return named


def _edge(t: Tensor) -> tuple[Any, int]:
    return (t, 0) if t.grad_fn is None else (t.grad_fn, t._slot)


def _in_order(outputs: Sequence[Tensor]) -> list[Any]:
    """The nodes and leaves behind some tensors, inputs before what is made of them."""
    order: list[Any] = []
    seen: set[Any] = set()
    stack: list[tuple[Any, bool]] = [(_edge(t)[0], False) for t in reversed(outputs)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            if isinstance(node, Node):
                stack += [(p, False) for p in reversed(node.parents) if p is not None and p not in seen]
    return order


class _Drawing:
    """What is known about each node: names, values and gradients by ``(node or leaf, output number)``."""

    def __init__(self, outputs: Sequence[Tensor], named: dict[str, Tensor], max_values: int):
        self.max_values = max_values
        self.order = _in_order(outputs)
        self.outputs = {_edge(t)[0] for t in outputs}
        self.names = {_edge(t): name for name, t in named.items()}
        self.values: dict[Any, Any] = {}
        self.grads: dict[Any, Any] = {}
        self.constants: dict[tuple[Any, int], Any] = {}
        tensors = [*outputs, *named.values(), *(node for node in self.order if isinstance(node, Tensor))]
        for node in self.order:
            if isinstance(node, Node):
                self._note_saved(node)
                tensors += [t for each in (node.retained or {}).values() if (t := each()) is not None]
        for t in tensors:
            self.values[_edge(t)] = t._data
            if t.grad is not None:
                self.grads[_edge(t)] = t.grad._data
        for node in self.order:
            if isinstance(node, OpNode):
                self._compute(node)

    def _note_saved(self, node: Node) -> None:
        """Take note of the values that a node keeps for backward and that have not been changed since."""
        if not isinstance(node, OpNode) or not isinstance(node.values, tuple):
            return
        plan = node.plan
        keys: list[Any] = [self._input(node, i) for i in plan.saved_inputs]
        keys += [(node, 0)] if plan.saves_out else []
        for key, array, counter, version in zip(
            keys, node.values, node.versions[::2], node.versions[1::2], strict=False
        ):
            if array is None or counter[0] != version:
                continue
            if key[0] is None:
                self.constants[node, key[1]] = array
            else:
                self.values[key] = array

    def _input(self, node: Any, i: int) -> tuple[Any, int]:
        """Where input ``i`` came from: ``(parent, output number)``, or ``(None, i)`` for one without a gradient."""
        parent = node.parents[i]
        return (None, i) if parent is None else (parent, node.slots[i] if node.slots else 0)

    def _compute(self, node: OpNode) -> None:
        """Compute a small result that the graph did not keep from its inputs, where these are known."""
        op = node.op
        if (node, 0) in self.values or op.variadic or op.outputs != 1 or not isinstance(node.values, tuple):
            return
        if int(np.prod(node.shape)) > _RECOMPUTE or len(node.values) < len(op.params):
            return
        inputs = []
        for i in range(len(node.parents)):
            key = self._input(node, i)
            array = self.constants.get((node, i)) if key[0] is None else self.values.get(key)
            if array is None or np.size(array) > _RECOMPUTE:
                return
            inputs.append(array)
        params = node.values[len(node.values) - len(op.params) :]
        self.values[node, 0] = op.on_arrays(*inputs, *params)

    def compute_gradients(self, outputs: Sequence[Tensor]) -> None:
        """Find the gradient of every node and leaf, leaving ``.grad`` as it was."""
        targets = []
        kept = []
        for node in self.order:
            count = node.outputs if isinstance(node, Node) else 1
            for slot in range(count):
                t = Tensor._wrap(None, node, slot) if isinstance(node, Node) else node
                targets.append(((node, slot), t))
            kept += [t for each in (getattr(node, "retained", None) or {}).values() if (t := each()) is not None]
        before = [(t, t._grad) for t in kept]
        for t in kept:
            t._grad = None
        try:
            found = grad(list(outputs), [t for _, t in targets], retain_graph=True, allow_unused=True)
        finally:
            for t, gradient in before:
                t._grad = gradient
        self.grads = {key: g._data for (key, _), g in zip(targets, found, strict=True) if g is not None}

    def boxes(self) -> list[_Box]:
        """One box for each node, leaf and saved constant, inputs first."""
        made: dict[Any, _Box] = {}
        constants: dict[Any, _Box] = {}
        boxes: list[_Box] = []
        for node in self.order:
            if isinstance(node, Tensor):
                name = self.names.get((node, 0), "")
                box = _Box("leaf", self._lines(node, name or "leaf"), module=name.rpartition(".")[0], op="leaf")
            else:
                box = _Box("output" if node in self.outputs else "op", self._lines(node), op=node.name)
                name = self.names.get((node, 0), "")
                box.module = name.rpartition(".")[0]
                for i, parent in enumerate(node.parents):
                    if parent is not None:
                        box.inputs.append(made[parent])
                    elif (node, i) in self.constants:
                        array = self.constants[node, i]
                        # One box for an array that several ops keep, but one each for plain numbers.
                        key = id(array) if np.ndim(array) else (node, i)
                        if key not in constants:
                            constants[key] = _Box("constant", self._constant(array), op="constant")
                            boxes.append(constants[key])
                        box.inputs.append(constants[key])
            made[node] = box
            boxes.append(box)
        return boxes

    def _lines(self, node: Any, name: str = "") -> list[str]:
        several = isinstance(node, Node) and node.outputs > 1
        names = [n for slot in range(node.outputs) if (n := self.names.get((node, slot)))]
        lines = [name or (f"{', '.join(names)} = {node.name}" if names else node.name)]
        for slot in range(node.outputs):
            shape = node.shape[slot] if several else node.shape
            dtype = node.dtype[slot] if several else node.dtype
            if shape is None:
                continue
            lines.append(_kind(shape, dtype))
            lines += self._shown("value", self.values.get((node, slot)), shape)
            lines += self._shown("grad", self.grads.get((node, slot)), shape)
        return lines

    def _constant(self, array: Any) -> list[str]:
        if isinstance(array, bool | int | float):
            return [f"{array:.4g}"]
        return ["constant", _kind(array.shape, array.dtype), *self._shown("value", array, array.shape)]

    def _shown(self, what: str, array: Any, shape: Any) -> list[str]:
        if array is None or not 0 < int(np.prod(shape)) <= self.max_values:
            return []
        return [f"{what} {_text(to_numpy(array))}"]


def _kind(shape: Any, dtype: Any) -> str:
    return f"{dtype} {tuple(int(n) for n in shape)}" if len(shape) else str(dtype)


def _text(array: np.ndarray) -> str:
    if array.ndim == 0:
        return f"{array.item():.4g}"
    return "[" + ", ".join(_text(row) for row in array) + "]"


# Modules. Only parameters carry names; an op belongs where the parameters before and after it agree.


def _place(boxes: list[_Box]) -> None:
    """Give each box without a name the module that encloses the named ones just before and just after it."""
    consumers: dict[_Box, list[_Box]] = defaultdict(list)
    for box in boxes:
        for source in box.inputs:
            consumers[source].append(box)
    own: dict[_Box, str | None] = {}
    for box in boxes:
        named = [source.module for source in box.inputs if source.op == "leaf" and source.module]
        own[box] = named[0] if named else None
    before: dict[_Box, str | None] = {}
    for box in boxes:
        near = [before[s] for s in box.inputs if s.op != "leaf" and before[s] is not None]
        before[box] = own[box] if own[box] is not None else (near[-1] if near else None)
    after: dict[_Box, str | None] = {}
    for box in reversed(boxes):
        near = [after[c] for c in consumers[box] if after[c] is not None]
        after[box] = own[box] if own[box] is not None else (near[0] if near else None)
    for box in boxes:
        if box.op == "leaf":
            continue
        first, last = before[box], after[box]
        box.module = _between(first, last) if first is not None and last is not None else ""
    for box in boxes:
        if box.op == "constant":
            box.module = reduce(_common, (c.module for c in consumers[box]))


def _between(a: str, b: str) -> str:
    """The module of an op without parameters between an op of ``a`` and one of ``b``."""
    shared = _common(a, b)
    start = f"{shared}." if shared else ""
    first, second = (name.removeprefix(start).partition(".")[0] for name in (a, b))
    # What follows a module that the next number follows at once is its own; a gap in the numbers is another module.
    return start + first if first.isdigit() and second == str(int(first) + 1) else shared


def _common(a: str, b: str) -> str:
    shared = []
    for x, y in zip(a.split("."), b.split("."), strict=False):
        if x != y:
            break
        shared.append(x)
    return ".".join(shared)


def _fold_modules(boxes: list[_Box]) -> list[_Box]:
    """Draw the first of a run of equal modules (``blocks.0``, ``blocks.1``, ...) only; the others become one box."""
    if not any(box.module for box in boxes):
        return boxes
    _place(boxes)
    members: dict[str, list[_Box]] = defaultdict(list)
    for box in boxes:
        parts = box.module.split(".")
        for k, part in enumerate(parts):
            if part.isdigit():
                members[".".join(parts[: k + 1])].append(box)
    runs: dict[str, list[str]] = defaultdict(list)
    for path in members:
        runs[path.rpartition(".")[0]].append(path)
    gone: set[_Box] = set()
    for _parent, paths in sorted(runs.items(), key=lambda item: item[0].count(".")):
        paths.sort(key=lambda path: int(path.rpartition(".")[2]))
        for _signature, equal in groupby(paths, key=lambda path: _signature_of(members[path], path)):
            same = list(equal)
            inside = [box for path in same[1:] for box in members[path] if box not in gone]
            if len(same) < 3 or len(members[same[0]]) < 3 or not inside:
                continue
            span = f"{same[1]} to {same[-1]}"
            ops = sum(box.op not in ("leaf", "constant") for box in inside)
            group = _Box("group", [span, f"each like {same[0]}", f"{ops} ops"], op="group")
            try:
                boxes = _contracted(boxes, dict.fromkeys(inside, group))
            except CycleError:
                continue
            gone.update(inside)
    return boxes


def _signature_of(boxes: list[_Box], path: str) -> str:
    """What makes two modules equal: ops, shapes and how they hang together, but not the constants they meet."""
    drawn = [box for box in boxes if box.op != "constant"]
    index = {box: k for k, box in enumerate(drawn)}
    return repr(
        [
            (box.op, box.module.removeprefix(path), box.lines[1:2], [index[s] for s in box.inputs if s in index])
            for box in drawn
        ]
    )


def _contracted(boxes: list[_Box], replaced: dict[_Box, _Box]) -> list[_Box]:
    """The boxes, inputs in front, with some of them standing for others; edges inside one are dropped.

    Raises:
        CycleError: the boxes that one stands for depend on each other by way of a box outside.
    """
    inputs: dict[_Box, list[_Box]] = {}
    for box in boxes:
        target = replaced.get(box, box)
        sources = inputs.setdefault(target, [])
        for source in (replaced.get(s, s) for s in box.inputs):
            if source is not target and (target is box or source not in sources):
                sources.append(source)
    order = list(TopologicalSorter(inputs).static_order())
    for box, sources in inputs.items():
        box.inputs = sources
    return order


def _summarised(boxes: list[_Box], limit: int) -> list[_Box]:
    """At most about ``limit`` boxes: consecutive ones become one that counts their ops."""
    if len(boxes) <= limit:
        return boxes
    # Stretches of an order with inputs in front depend only on earlier ones, so the summary has no cycles either.
    length = -(-len(boxes) // max(1, min(limit, 40)))
    replaced = {}
    for start in range(0, len(boxes), length):
        part = boxes[start : start + length]
        if len(part) == 1:
            continue
        counts = Counter(box.op for box in part if box.op not in ("leaf", "constant", "group"))
        common = [f"{count} {name}" for name, count in counts.most_common(4)]
        if len(counts) > 4:
            common.append(f"{sum(counts.values()) - sum(n for _, n in counts.most_common(4))} others")
        leaves = sum(box.op == "leaf" for box in part)
        lines = [f"{sum(counts.values())} ops", *common, *([f"{leaves} leaves"] if leaves else [])]
        group = _Box("group", lines, op="group")
        replaced.update(dict.fromkeys(part, group))
    return _contracted(boxes, replaced)


# DOT


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _dot(boxes: list[_Box], direction: str) -> str:
    number = {box: f"n{k}" for k, box in enumerate(boxes)}
    lines = [
        "digraph gpugrad {",
        f"  rankdir={direction};",
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];',
    ]

    def emit(members: list[_Box], depth: int) -> None:
        pad = "  " * (depth + 1)
        for box in members:
            if _depth(box) == depth:
                label = "\\n".join(_quoted(line)[1:-1] for line in box.lines)
                lines.append(f'{pad}{number[box]} [label="{label}", fillcolor="{_FILLS[box.kind]}"];')
        deeper: dict[str, list[_Box]] = defaultdict(list)
        for box in members:
            if _depth(box) > depth:
                deeper[".".join(box.module.split(".")[: depth + 1])].append(box)
        for path, inside in deeper.items():
            lines.append(f"{pad}subgraph {_quoted(f'cluster_{path}')} {{")
            lines.append(f'{pad}  label={_quoted(path)}; color="#999999"; fontname="Helvetica"; fontsize=10;')
            emit(inside, depth + 1)
            lines.append(f"{pad}}}")

    emit(boxes, 0)
    lines += [f"  {number[source]} -> {number[box]};" for box in boxes for source in box.inputs]
    return "\n".join([*lines, "}", ""])


def _depth(box: _Box) -> int:
    return box.module.count(".") + 1 if box.module else 0


# A layout for where there is no graphviz: layers by longest path, ordered by barycentres (Sugiyama, Tagawa and Toda,
# "Methods for visual understanding of hierarchical system structures", 1981).

_CHARACTER, _LINE, _GAP, _LAYER_GAP = 6.4, 14.0, 14.0, 44.0


class _Point:
    """A box, or a bend of an edge that crosses a layer, with its place."""

    def __init__(self, box: _Box | None, along: float, across: float):
        self.box, self.along, self.across = box, along, across
        self.before: list[_Point] = []
        self.after: list[_Point] = []
        self.place = self.start = 0.0
        self.layer = (0.0, 0.0)


def _levels(boxes: list[_Box]) -> dict[_Box, int]:
    """How many boxes lie before each, along the longest path."""
    level: dict[_Box, int] = {}
    for box in boxes:
        level[box] = max((level[s] + 1 for s in box.inputs), default=0)
    return level


def _layers(boxes: list[_Box], flat: bool) -> tuple[list[list[_Point]], list[tuple[_Point, ...]]]:
    """The points of each layer, and the edges as chains of points."""
    level = _levels(boxes)
    consumers: dict[_Box, list[_Box]] = defaultdict(list)
    for box in boxes:
        for source in box.inputs:
            consumers[source].append(box)
    for box in boxes:  # what has no inputs stands just before its first use
        if not box.inputs and consumers[box]:
            level[box] = min(level[c] for c in consumers[box]) - 1
    points = {}
    layers: list[list[_Point]] = [[] for _ in range(max(level.values()) + 1)]
    for box in boxes:
        width = max(len(box.lines[0]) * 1.1, *map(len, box.lines)) * _CHARACTER + 16
        height = len(box.lines) * _LINE + 10
        points[box] = _Point(box, *((width, height) if flat else (height, width)))
        layers[level[box]].append(points[box])
    edges = []
    for box in boxes:
        for source in box.inputs:
            chain = [points[source]]
            for k in range(level[source] + 1, level[box]):
                chain.append(_Point(None, 0, 4))
                layers[k].append(chain[-1])
            chain.append(points[box])
            for a, b in pairwise(chain):
                a.after.append(b)
                b.before.append(a)
            edges.append(tuple(chain))
    return layers, edges


def _mean(points: Iterable[_Point], default: float) -> float:
    places = [p.place for p in points]
    return sum(places) / len(places) if places else default


def _arrange(layers: list[list[_Point]]) -> None:
    """Order the points of each layer and find their places across."""
    for layer in layers:
        for k, point in enumerate(layer):
            point.place = k
    for _ in range(6):
        for side, sweep in (("before", layers), ("after", layers[::-1])):
            for layer in sweep:
                layer.sort(key=lambda p: _mean(getattr(p, side), p.place))
                for k, point in enumerate(layer):
                    point.place = k
    for layer in layers:
        _pack(layer, [0.0] * len(layer))
    for _ in range(8):
        for side, sweep in (("before", layers), ("after", layers[::-1])):
            for layer in sweep:
                _pack(layer, [_mean(getattr(p, side), p.place) for p in layer])


def _pack(layer: list[_Point], wishes: list[float]) -> None:
    """Put each point as near to its wish as its neighbours let it: equal pushes from both sides."""
    up: list[float] = []
    down: list[float] = []
    for k, (point, wish) in enumerate(zip(layer, wishes, strict=True)):
        least = up[-1] + (layer[k - 1].across + point.across) / 2 + _GAP if up else wish
        up.append(max(wish, least))
    for k in range(len(layer) - 1, -1, -1):
        most = down[-1] - (layer[k + 1].across + layer[k].across) / 2 - _GAP if down else wishes[k]
        down.append(min(wishes[k], most))
    for point, a, b in zip(layer, up, reversed(down), strict=True):
        point.place = (a + b) / 2


def _svg(boxes: list[_Box], direction: str) -> str:
    flat = direction == "LR"
    layers, edges = _layers(boxes, flat)
    _arrange(layers)
    start = 10.0
    for layer in layers:
        thick = max(p.along for p in layer)
        for point in layer:
            point.start = start + (thick - point.along) / 2
            point.layer = (start, start + thick)
        start += thick + _LAYER_GAP
    everything = [p for layer in layers for p in layer]
    low = min(p.place - p.across / 2 for p in everything) - 10
    high = max(p.place + p.across / 2 for p in everything) + 10
    width, height = (start - _LAYER_GAP + 10, high - low) if flat else (high - low, start - _LAYER_GAP + 10)

    def at(along: float, across: float) -> str:
        x, y = (along, across - low) if flat else (across - low, along)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif" font-size="11">',
        '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        '<path d="M0,1 L7,4 L0,7 z" fill="#555555"/></marker></defs>',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for chain in edges:
        path = f"M{at(chain[0].start + chain[0].along, chain[0].place)}"
        for a, b in pairwise(chain):
            # Straight past the wider boxes of both layers; the bend is in the gap between them.
            leave, enter = a.layer[1], b.layer[0]
            bend = (leave + enter) / 2
            path += f" L{at(leave, a.place)} C{at(bend, a.place)} {at(bend, b.place)} {at(enter, b.place)}"
            if b.start > enter:
                path += f" L{at(b.start, b.place)}"
        parts.append(f'<path d="{path}" fill="none" stroke="#555555" marker-end="url(#head)"/>')
    for point in everything:
        if point.box is None:
            continue
        box = point.box
        wide, tall = (point.along, point.across) if flat else (point.across, point.along)
        x, y = map(float, at(point.start, point.place - point.across / 2).split(","))
        tip = f"<title>{escape(box.module)}</title>" if box.module else ""
        parts.append(
            f'<g>{tip}<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" rx="5" '
            f'fill="{_FILLS[box.kind]}" stroke="#555555"/>'
        )
        for k, line in enumerate(box.lines):
            weight = ' font-weight="bold"' if k == 0 else ""
            parts.append(
                f'<text x="{x + wide / 2:.1f}" y="{y + 5 + (k + 0.78) * _LINE:.1f}" text-anchor="middle"{weight}>'
                f"{escape(line)}</text>"
            )
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])
