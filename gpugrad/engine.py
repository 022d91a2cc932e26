"""The autograd engine: graph nodes, grad modes, version counters and the backward walk.

A recorded op leaves a :class:`Node` that knows its parents: the nodes (or leaf
tensors) that made its inputs.  ``run`` walks from the roots to the leaves,
visiting a node once every gradient that flows into it has arrived.  The engine
knows no op: a node turns the gradient of its outputs into the gradients of its
inputs, whatever it stands for.

Gradients are raw arrays in an ordinary backward.  With ``create_graph=True``
they are tensors and every step of the walk is recorded again.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backend import beside, blas, device_of, lazy, module_of, use_device_of

Shape = tuple[int, ...]
Gradient = Any


class _Modes(threading.local):
    grad = True
    inference = False
    anomaly = False
    # Where backward notes the leaves it adds to, with the gradients they had, while it is recorded to be run again.
    leaves: list[tuple[Any, Any]] | None = None
    one: Any = None
    """The gradient of 1 that the backward going on started from, if it is such a one and frees the graph."""
    watch: Callable[[Any], None] | None = None
    """Called with each node that is made."""


modes = _Modes()


class _Profiling:
    recorder: Any = None


profiling = _Profiling()
"""Whose ``recorder`` is told of what is done, in all threads; it is None but while a profiler runs."""


class _Mode:
    """A switch of this thread's modes: a context manager and a decorator (of generators too)."""

    _settings: dict[str, Any] = {}

    def __init__(self) -> None:
        self._previous: list[dict[str, Any]] = []

    def __enter__(self) -> None:
        self._previous.append({name: getattr(modes, name) for name in self._settings})
        for name, value in self._settings.items():
            setattr(modes, name, value)

    def __exit__(self, *exc: object) -> None:
        for name, value in self._previous.pop().items():
            setattr(modes, name, value)

    def _clone(self) -> _Mode:
        return type(self)()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                inner = function(*args, **kwargs)
                resume, value = inner.send, None
                try:
                    while True:
                        try:
                            with self._clone():
                                item = resume(value)
                        except StopIteration as stop:
                            return stop.value
                        try:
                            resume, value = inner.send, (yield item)
                        except GeneratorExit:
                            raise
                        except BaseException as error:
                            resume, value = inner.throw, error
                finally:
                    with self._clone():
                        inner.close()

            return generator

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self._clone():
                return function(*args, **kwargs)

        return wrapper


class _BareMode(_Mode):
    """A mode that also decorates without being called: ``@no_grad``."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = super().__new__(cls)
        if function is None:
            return self
        self.__init__()  # type: ignore[misc]
        return self(function)


class no_grad(_BareMode):
    """Record nothing inside the block (or the decorated function), in this thread."""

    _settings = {"grad": False}


class enable_grad(_BareMode):
    """Record inside the block (or the decorated function), in this thread."""

    _settings = {"grad": True}


class set_grad_enabled(_Mode):
    """Switch recording on or off: at once when called, back again when used as a context manager."""

    def __init__(self, mode: bool):
        super().__init__()
        self._settings = {"grad": bool(mode)}
        self._before = modes.grad
        modes.grad = bool(mode)

    def __enter__(self) -> None:
        self._previous.append({"grad": self._before})
        modes.grad = self._settings["grad"]

    def _clone(self) -> _Mode:
        return set_grad_enabled(self._settings["grad"])

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        modes.grad = self._before
        return super().__call__(function)


class inference_mode(_Mode):
    """Record nothing inside the block, for good: its tensors can never be recorded later.

    Args:
        mode: False switches back to the ordinary mode inside the block.
    """

    def __new__(cls, mode: Any = True) -> Any:
        self = super().__new__(cls)
        if callable(mode):
            self.__init__(True)  # type: ignore[misc]
            return self(mode)
        return self

    def __init__(self, mode: bool = True):
        super().__init__()
        self._settings = {"grad": not mode, "inference": bool(mode)}

    def _clone(self) -> _Mode:
        return inference_mode(self._settings["inference"])


class set_detect_anomaly(_Mode):
    """Remember where each op was called, and stop a backward at its first NaN: at once when called."""

    def __init__(self, mode: bool):
        super().__init__()
        self._settings = {"anomaly": bool(mode), "watch": Node.remember_call if mode else None}
        self._before = {"anomaly": modes.anomaly, "watch": modes.watch}
        modes.anomaly, modes.watch = self._settings["anomaly"], self._settings["watch"]

    def __enter__(self) -> None:
        self._previous.append(self._before)
        modes.anomaly, modes.watch = self._settings["anomaly"], self._settings["watch"]


class detect_anomaly(_Mode):
    """Inside the block, a gradient that turns NaN raises and names the op and the line that called it."""

    def __init__(self) -> None:
        super().__init__()
        self._settings = {"anomaly": True, "watch": Node.remember_call}


def set_anomaly_enabled(mode: bool) -> None:
    """What ``set_detect_anomaly`` does when called."""
    set_detect_anomaly(mode)


def is_anomaly_enabled() -> bool:
    """Whether a backward looks for NaN, inside of ``detect_anomaly`` or after ``set_detect_anomaly(True)``."""
    return modes.anomaly


def is_grad_enabled() -> bool:
    """Whether ops are being recorded in this thread."""
    return modes.grad


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside ``inference_mode``."""
    return modes.inference


class Recomputed:
    """Stands in a node in the place of what it saved; a backward that needs that has it computed anew."""

    def recall(self) -> Any:
        """What the node saved, or another stand-in for it."""
        raise NotImplementedError


class Node:
    """One recorded op.

    Attributes:
        parents: for each input the node or leaf tensor that gets its gradient, else None.
        slots: for each input which output of its parent it was; None when all are output 0.
        shape, dtype: of the output; sequences of them when ``outputs`` is above 1.
        trace: where the op was called (kept in anomaly mode).
    """

    outputs = 1
    slots: tuple[int, ...] | None = None
    hooks: dict[int, dict[int, Callable[[Any], Any]]] | None = None
    retained: dict[int, Any] | None = None
    trace: str | None = None
    parents: Sequence[Any]
    shape: Any
    dtype: Any

    @property
    def name(self) -> str:
        """The name of the op, for messages."""
        raise NotImplementedError

    def gradients(self, gradient: Any, taped: bool, skip: Any) -> Sequence[Any]:
        """The gradients of the inputs, fitted to their shape and dtype; None where there is none.

        Args:
            gradient: of the output (a list, None where nothing arrived, when there are several).
            taped: whether gradients are tensors, to be recorded.
            skip: parents whose gradient is not wanted.
        """
        raise NotImplementedError

    def receive(self, gradient: Any) -> Any:
        """The gradient of the output, on a CUDA device, as ``gradients`` takes it: in memory."""
        return lazy.settled(gradient)

    def release(self) -> None:
        """Drop what was saved for backward."""
        raise NotImplementedError

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The parents with the number of their output, as PyTorch lists them."""
        slots = self.slots or (0,) * len(self.parents)
        return tuple(zip(self.parents, slots, strict=True))

    def __repr__(self) -> str:
        return f"<{''.join(part.capitalize() for part in self.name.split('_'))}Backward>"

    def remember_call(self) -> None:
        """Keep where the op was called, without the frames of this library."""
        frames = [frame for frame in traceback.extract_stack() if not frame.filename.startswith(_PACKAGE)]
        self.trace = "".join(traceback.format_list(frames))


_PACKAGE = __file__.rsplit("engine.py", 1)[0]


class Arithmetic:
    """What the walk does to gradients themselves; ``taped`` is set by the ops, which the engine does not know."""

    taped: Any = None


def sum_to(array: Any, shape: Shape) -> Any:
    """Sum a raw array over the axes along which ``shape`` was broadcast to it."""
    lead = array.ndim - len(shape)
    if lead > 0 and shape and array.shape[lead:] == shape and array.dtype.char in "fd":
        if array.size < 2048:
            return array.sum(axis=0 if lead == 1 else tuple(range(lead)))
        # A product with ones is two to ten times faster than a sum over leading axes, and no less exact.
        rows = array.reshape(-1, math.prod(shape))
        xp = module_of(array)
        return blas.matmul(xp, xp.ones(len(rows), array.dtype), rows).reshape(shape)
    axes = tuple(range(lead)) + tuple(lead + i for i, n in enumerate(shape) if n == 1 and array.shape[lead + i] != 1)
    if not axes:
        return array
    if array.dtype.itemsize == 2 and array.dtype.kind not in "iu":
        return array.sum(axis=axes, keepdims=True, dtype=np.float32).astype(array.dtype).reshape(shape)
    return array.sum(axis=axes, keepdims=True, dtype=array.dtype).reshape(shape)


def fit(gradient: Any, shape: Shape, dtype: np.dtype) -> Any:
    """Undo broadcasting and promotion: a raw gradient with the shape and dtype of its input."""
    if gradient.shape != shape:
        if gradient.shape[-len(shape) :] == shape:
            gradient = sum_to(gradient, shape)
        elif gradient.ndim < len(shape) or any(
            n not in (1, m) for n, m in zip(shape[::-1], gradient.shape[::-1], strict=False)
        ):
            gradient = module_of(gradient).broadcast_to(lazy.settled(gradient), shape)
        else:
            gradient = sum_to(gradient, shape)
    if gradient.dtype != dtype:
        gradient = gradient.astype(dtype)
    return gradient


def copy(array: Any) -> Any:
    """A raw array's elements in a buffer of their own, C-ordered."""
    if array.__class__ is not np.ndarray:
        array = lazy.settled(array)
    return module_of(array).array(array, copy=True, order="C")


def _references(value: Any) -> int:
    return sys.getrefcount(value)


def _calibrate() -> int:
    # How many references a value shows to `_references` when only one local variable holds it.
    value = object()
    return _references(value)


_SOLE_OWNER = _calibrate()


_accumulating = threading.Lock()


def accumulate(leaf: Any, gradient: Any, taped: bool) -> None:
    """Add a gradient to ``leaf.grad``, whose buffer belongs to the leaf alone."""
    with _accumulating:  # several threads may walk to the same leaf
        grad = leaf._grad
        if modes.leaves is not None:
            modes.leaves.append((leaf, grad))
        if taped:
            leaf._grad = Arithmetic.taped.clone(gradient) if grad is None else grad + gradient
            leaf._grad._data = lazy.settled(leaf._grad._data)
        elif grad is None:
            leaf._grad = leaf._wrap(gradient)
        elif grad._needs_grad:
            total = grad._data + gradient
            leaf._grad = leaf._wrap(copy(total) if isinstance(total, np.generic) else total)
        else:
            if gradient.__class__ is not np.ndarray:
                lazy.before_write(grad._data)
            grad._data += gradient
            grad._bump()


def take(found: dict[tuple[Any, int], Gradient], edge: tuple[Any, int]) -> Any:
    """Remove a raw gradient that ``run`` has found; in a buffer of its own, a new one if others refer to this."""
    gradient = found.pop(edge)
    if gradient.__class__ is not np.ndarray:
        gradient = lazy.settled(gradient)
    shared = _references(gradient) > _SOLE_OWNER or gradient.base is not None or not gradient.flags.c_contiguous
    # NumPy makes numbers of 0-d results.
    return copy(gradient) if shared or isinstance(gradient, np.generic) else gradient


def _reachable(roots: list[Any], targets: set[Any]) -> set[Any]:
    """The nodes and leaves on a path from a root to a target."""
    consumers: dict[Any, list[Any]] = {}
    stack = list(dict.fromkeys(roots))
    seen = set(stack)
    while stack:
        node = stack.pop()
        if not isinstance(node, Node):
            continue
        for parent in node.parents:
            if parent is None:
                continue
            consumers.setdefault(parent, []).append(node)
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    found = targets & seen
    stack = list(found)
    while stack:
        for consumer in consumers.get(stack.pop(), ()):
            if consumer not in found:
                found.add(consumer)
                stack.append(consumer)
    return found


def _merge(old: Any, new: Any, owned: bool, taped: bool) -> Any:
    if not taped and old.__class__ is not np.ndarray:
        if lazy.active():
            return lazy.lift(old) + new
        with beside(old):
            return _sum(old, new, owned, taped)
    return _sum(old, new, owned, taped)


def _sum(old: Any, new: Any, owned: bool, taped: bool) -> Any:
    if owned and not taped:
        old += new
        return old
    return old + new


def _complete(node: Any, slot: int, gradient: Any, taped: bool) -> Any:
    """Run the hooks of one output (or leaf) on its complete gradient, and keep it if it was asked for."""
    hooks = node.hooks.get(slot) if isinstance(node, Node) and node.hooks else getattr(node, "_hooks", None)
    if hooks:
        modes.one = None  # they may change what they are given
        for hook in list(hooks.values()):
            with (enable_grad if taped else no_grad)():
                answer = hook(gradient if taped else Arithmetic.taped.constant(gradient))
            if answer is None:
                continue
            shape = getattr(answer, "shape", None)
            if tuple(shape or ()) != tuple(gradient.shape):
                raise RuntimeError(f"a hook changed the gradient's shape from {tuple(gradient.shape)} to {shape}")
            gradient = answer if taped else answer._data
    return gradient


def run(
    roots: Sequence[tuple[Any, int, Gradient]],
    *,
    retain_graph: bool,
    taped: bool,
    targets: Sequence[tuple[Any, int]] | None = None,
) -> dict[tuple[Any, int], Gradient]:
    """Walk backward from ``roots``.

    Args:
        roots: ``(node or leaf, output number, gradient)``.
        retain_graph: keep what the nodes saved.
        taped: gradients are tensors and the walk is recorded.
        targets: the ``(node or leaf, output number)`` whose gradients are wanted; None
            accumulates into the leaves' ``.grad`` instead.

    Returns:
        The gradient of each target that was reached.
    """
    first = next((gradient for _, _, gradient in roots if gradient is not None), None)
    array = first._data if taped and first is not None else first
    if array is None or array.__class__ is np.ndarray:
        return _run(roots, retain_graph, taped, targets, False)
    with beside(array):
        return _run(roots, retain_graph, taped, targets, True)


def _run(
    roots: Sequence[tuple[Any, int, Gradient]],
    retain_graph: bool,
    taped: bool,
    targets: Sequence[tuple[Any, int]] | None,
    on_device: bool,
) -> dict[tuple[Any, int], Gradient]:
    wanted = set(targets) if targets is not None else set()
    needed = _reachable([root for root, _, _ in roots], {node for node, _ in wanted}) if targets is not None else None
    anomaly = modes.anomaly
    recorder = profiling.recorder
    walk = None if recorder is None else recorder.begin("autograd.backward", "backward")
    event = None

    missing: dict[Any, int] = {}  # how many gradients are still to come
    arrived: dict[Any, Any] = {}  # the sum of the others, for each output where there are several
    owned: set[tuple[Any, int]] = set()  # the outputs for which that has a buffer of its own
    stack: list[Any] = []
    for root, _, _ in roots:
        if root not in missing and (needed is None or root in needed):
            missing[root] = 0
            stack.append(root)
    while stack:
        node = stack.pop()
        if not isinstance(node, Node):
            continue
        for parent in node.parents:
            if parent is None or (needed is not None and parent not in needed):
                continue
            count = missing.get(parent)
            if count is None:
                missing[parent] = 1
                stack.append(parent)
            else:
                missing[parent] = count + 1

    for root, slot, gradient in roots:
        if root in missing:
            _arrive(arrived, owned, root, slot, gradient, taped)
    found: dict[tuple[Any, int], Gradient] = {}
    ready = [node for node in dict.fromkeys(root for root, _, _ in roots) if missing.get(node) == 0]

    while ready:
        node = ready.pop()
        del missing[node]
        gradient = arrived.pop(node, None)
        if on_device and gradient is not None:
            some = next(g for g in gradient if g is not None) if isinstance(gradient, list) else gradient
            use_device_of(some._data if taped else some)
            if not taped:
                gradient = node.receive(gradient) if isinstance(node, Node) else lazy.settled(gradient)
            some = None
        if not isinstance(node, Node):
            if gradient is None:
                continue
            if node._hooks:
                gradient = _complete(node, 0, gradient, taped)
            if targets is None:
                if recorder is not None:
                    event = recorder.begin("AccumulateGrad", "backward", (gradient,))
                if (
                    not taped
                    and node._grad is None
                    and (
                        _references(gradient) > _SOLE_OWNER
                        or gradient.base is not None
                        or not gradient.flags.c_contiguous
                        or isinstance(gradient, np.generic)  # as NumPy makes of 0-d results
                    )
                ):
                    gradient = copy(gradient)
                accumulate(node, gradient, taped)
                if event is not None:
                    event.finish()
                for hook in list((node._accumulated_hooks or {}).values()):
                    hook(node)
            elif (node, 0) in wanted:
                found[node, 0] = gradient
            gradient = None
            continue
        if node.hooks is not None or node.retained is not None or wanted:
            gradient = _watch(node, gradient, taped, wanted, found)
            if needed is not None and needed.isdisjoint(node.parents):
                # The walk ends here, and the graph behind may yet be used.
                gradient = None
                continue
        inputs: Sequence[Any]
        if gradient is None:
            inputs = (None,) * len(node.parents)
        else:
            if recorder is not None:
                event = recorder.begin_node(node, gradient)
            inputs = node.gradients(gradient, taped, needed)
            if event is not None:
                event.finish(() if taped else inputs, gradient)
            if anomaly:
                _check_nan(node, inputs)
        if not retain_graph:
            node.release()
        gradient = None
        slots = node.slots
        for i, parent in enumerate(node.parents):
            if parent is None:
                continue
            count = missing.get(parent)
            if count is None:
                continue
            contribution = inputs[i]
            if contribution is not None:
                if slots is None and parent.outputs == 1 and parent not in arrived:
                    arrived[parent] = contribution
                else:
                    _arrive(arrived, owned, parent, 0 if slots is None else slots[i], contribution, taped)
            missing[parent] = count - 1
            if count == 1:
                ready.append(parent)
        inputs = contribution = None  # type: ignore[assignment]
    if walk is not None:
        walk.finish()
    return found


def _arrive(
    arrived: dict[Any, Any], owned: set[tuple[Any, int]], node: Any, slot: int, gradient: Any, taped: bool
) -> None:
    """Add one gradient to those of ``node``: the first is borrowed, the second copied, later ones added in place."""
    if node.outputs == 1:
        sums, key, before = arrived, node, arrived.get(node)
    else:
        sums, key = arrived.setdefault(node, [None] * node.outputs), slot
        before = sums[slot]
    if before is None:
        sums[key] = gradient
    else:
        sums[key] = _merge(before, gradient, (node, slot) in owned, taped)
        owned.add((node, slot))


def _watch(node: Node, gradient: Any, taped: bool, wanted: set[Any], found: dict[Any, Any]) -> Any:
    """Hooks, ``retain_grad`` and the targets of ``grad`` on a node's outputs."""
    gradients = gradient if node.outputs > 1 and gradient is not None else [gradient]
    for slot, value in enumerate(gradients):
        if value is None:
            continue
        value = gradients[slot] = _complete(node, slot, value, taped)
        if node.retained and slot in node.retained:
            tensor = node.retained[slot]()
            if tensor is not None:
                kept = value if taped else tensor._wrap(copy(value))
                tensor._grad = kept if tensor._grad is None else tensor._grad + kept
        if (node, slot) in wanted:
            found[node, slot] = value
    return gradients if node.outputs > 1 else gradients[0]


def _check_nan(node: Node, gradients: Sequence[Any]) -> None:
    for i, gradient in enumerate(gradients):
        array = getattr(gradient, "_data", gradient)
        if array is not None and array.dtype.kind == "f" and bool((array != array).any()):
            where = f"; it was called here:\n{node.trace}" if node.trace else "; it was called outside detect_anomaly"
            raise RuntimeError(f"the gradient of {node.name!r} for its input {i} is NaN{where}")


def check_same_device(name: str, arrays: Sequence[Any]) -> None:
    """Raise if raw arrays live on different devices.

    Raises:
        RuntimeError: names the op and the devices.
    """
    places = list(dict.fromkeys(str(device_of(array)) for array in arrays))
    if len(places) > 1:
        raise RuntimeError(
            f"{name}: expected all tensors to be on the same device, but found at least two devices, "
            f"{' and '.join(places)}; move them with .to(device)"
        )
