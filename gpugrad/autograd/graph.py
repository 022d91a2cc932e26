"""What ops save for backward, handed to functions of one's own: ``torch.autograd.graph``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import lazy
from ..engine import Node, Recomputed, copy, modes, no_grad
from ..ops.core import FIXED, REGISTRY, OpNode, record
from ..tensor import Tensor, _edge
from .function import FunctionCtx, _FunctionNode

__all__ = ["Node", "increment_version", "save_on_cpu", "saved_tensors_hooks"]


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, np.generic)


class _PackedTensor:
    """What a pack hook made of one saved tensor."""

    def __init__(self, t: Tensor, hooks: saved_tensors_hooks):
        self.facts = tuple(t.shape), t.dtype, t.device
        self.unpack = hooks.unpack_hook
        version = t._version
        # The hook's own work is not recorded, and what it saves not packed.
        before, modes.watch = modes.watch, None
        try:
            with no_grad():
                self.packed = hooks.pack_hook(t)
        finally:
            modes.watch = before
        if t._version != version:
            raise RuntimeError(
                "A saved tensor pack hook is modifying its input in place. Tensors provided as input to pack hook can "
                "not be modified by in-place operations as this can lead to unexpected side-effects: work on a clone"
            )

    def recall(self) -> Tensor:
        with no_grad():
            t = self.unpack(self.packed)
        if not isinstance(t, Tensor):
            raise TypeError(
                f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type {type(t).__name__}"
            )
        found = tuple(t.shape), t.dtype, t.device
        if found != self.facts:
            (shape, dtype, device), (given_shape, given_dtype, given_device) = self.facts, found
            raise RuntimeError(
                f"unpack_hook returned a tensor of shape {given_shape}, {given_dtype}, on {given_device}; expected the "
                f"shape {shape}, {dtype}, on {device} of the tensor that pack_hook was given"
            )
        return t


class _PackedValues(Recomputed):
    """Stands for what a recorded op saved."""

    def __init__(self, values: tuple[Any, ...]):
        self.values = values

    def recall(self) -> tuple[Any, ...]:
        return tuple([_unpacked(value) for value in self.values])


def _unpacked(value: Any) -> Any:
    if isinstance(value, _PackedTensor):
        return value.recall()._data
    return type(value)(map(_unpacked, value)) if type(value) in (tuple, list) else value


class _PackedContext(Recomputed):
    """Stands for the context of a user's function."""

    def __init__(self, ctx: FunctionCtx, hooks: saved_tensors_hooks):
        self.ctx = ctx
        self.saved: list[tuple[_PackedTensor | None, int | None, Any]] = []
        for t, slot, _ in ctx._saved:
            # Which of the function's results it is, or whose history it has.
            edge = _edge(t) if t is not None and t._needs_grad and slot is None else None
            kept = None if t is None else _PackedTensor(t if t.is_leaf else t.detach(), hooks)
            self.saved.append((kept, slot, edge))
        ctx._saved = ()

    def recall(self) -> FunctionCtx:
        saved = []
        for kept, slot, edge in self.saved:
            t = None if kept is None else kept.recall()
            if t is not None and edge is not None:
                t = _with_history(t._data, *edge)
            saved.append((t, slot, 0 if t is None else t._version))
        self.ctx._saved = tuple(saved)
        return self.ctx


def _with_history(data: Any, parent: Any, slot: int) -> Tensor:
    if isinstance(parent, Node):
        return Tensor._wrap(data, parent, slot)
    t = Tensor._wrap(data)
    record(REGISTRY["clone"], (parent,), (data,), (True,), (), [t], None, False)
    return t


class _Packing:
    """Hands what new nodes saved to hooks; ``outer`` is what else is told of them."""

    def __init__(self, hooks: saved_tensors_hooks, outer: Callable[[Any], None] | None):
        self.hooks, self.outer = hooks, outer

    def __call__(self, node: Node) -> None:
        if self.outer:
            self.outer(node)
        if isinstance(node, OpNode):
            self._pack_op(node)
        elif isinstance(node, _FunctionNode):
            self._pack_function(node)

    def _pack_op(self, node: OpNode) -> None:
        values, versions = list(node.values or ()), list(node.versions)
        plan = node.plan
        for k in range(len(values) - len(node.op.params)):
            parent = node.parents[plan.saved_inputs[k]] if k < len(plan.saved_inputs) else None
            leaf = parent if isinstance(parent, Tensor) else None
            if plan.saves_out and node.op.result_may_change and k == len(plan.saved_inputs):
                values[k] = copy(values[k])
            values[k] = self._packed(values[k], leaf)
            if leaf is None and 2 * k < len(versions):
                # Whether memory changes does not matter but for leaves, which a recorded backward reads themselves.
                versions[2 * k : 2 * k + 2] = FIXED, 0
        if any(new is not old for new, old in zip(values, node.values or (), strict=True)):
            node.values, node.versions = _PackedValues(tuple(values)), tuple(versions)

    def _packed(self, value: Any, leaf: Tensor | None = None) -> Any:
        if type(value) in (tuple, list):
            items = [self._packed(item) for item in value]
            return value if all(map(lambda new, old: new is old, items, value)) else type(value)(items)
        if not _is_array(value):
            return value
        return _PackedTensor(Tensor._wrap(lazy.settled(value)) if leaf is None else leaf, self.hooks)

    def _pack_function(self, node: _FunctionNode) -> None:
        if any(t is not None for t, _, _ in node.ctx._saved):
            node.ctx = _PackedContext(node.ctx, self.hooks)


def without_packing(watch: Callable[[Any], None] | None) -> Callable[[Any], None] | None:
    """What is told of new nodes, ``modes.watch``, but for the hooks, which give way to others inside of them."""
    return watch.outer if isinstance(watch, _Packing) else watch


class saved_tensors_hooks:
    """Inside the block, in this thread, what ops save for backward is packed; backward unpacks it.

    Args:
        pack_hook: called with each tensor that an op (or an ``autograd.Function``) saves, a parameter itself or a
            tensor without history, which it must not change; returns anything.
        unpack_hook: called with that when backward first needs it; returns a tensor of the same values, shape, dtype
            and device.

    Of several blocks inside each other the innermost counts, as does ``checkpoint``, which keeps nothing to be packed.
    A tensor that is changed in place after it was packed is packed as it was; a leaf must not be, as without hooks.

    Raises:
        TypeError: a hook cannot be called, or (in backward) ``unpack_hook`` returned no tensor.
        RuntimeError: ``pack_hook`` changed its argument in place, or (in backward) ``unpack_hook`` returned a tensor of
            another shape, dtype or device.
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]):
        for name, hook in (("pack_hook", pack_hook), ("unpack_hook", unpack_hook)):
            if not callable(hook):
                raise TypeError(f"{name} must be a function of one argument, but got {type(hook).__name__}")
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook
        self._before: list[Callable[[Any], None] | None] = []

    def __enter__(self) -> None:
        self._before.append(modes.watch)
        modes.watch = _Packing(self, without_packing(modes.watch))

    def __exit__(self, *exc: object) -> None:
        modes.watch = self._before.pop()


class save_on_cpu(saved_tensors_hooks):
    """Inside the block, what ops save for backward waits for it in the host's memory.

    Args:
        pin_memory: copy to page-locked memory.
        device_type: accepted for PyTorch's sake; tensors on the CPU stay as they are.
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda"):
        def pack(t: Tensor) -> tuple[Any, Tensor]:
            kept = t.cpu()
            return t.device, kept.pin_memory() if pin_memory and kept is not t else kept

        def unpack(packed: tuple[Any, Tensor]) -> Tensor:
            device, t = packed
            return t.to(device, non_blocking=pin_memory)

        super().__init__(pack, unpack)


def increment_version(tensor: Tensor | list[Tensor] | tuple[Tensor, ...]) -> None:
    """Note that tensors were changed in place by means that cannot be seen from here.

    Raises:
        RuntimeError: an inference tensor, which has no version.
    """
    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        if t._inference:
            raise RuntimeError("increment_version: inference tensors do not track versions; make a clone")
        t._bump()
