"""Hooks around a module's forward and backward."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from ...engine import Node, set_grad_enabled
from ...ops.core import REGISTRY, mark_view
from ...tensor import Tensor

HookTable = OrderedDict[int, Callable[..., Any]]


class Hooks:
    """The hooks of one module."""

    def __init__(self) -> None:
        self.forward_pre: HookTable = OrderedDict()
        self.forward: HookTable = OrderedDict()
        self.backward_pre: HookTable = OrderedDict()
        self.backward: HookTable = OrderedDict()
        self.saving_pre: HookTable = OrderedDict()
        self.saving: HookTable = OrderedDict()
        self.loading_pre: HookTable = OrderedDict()
        self.loading: HookTable = OrderedDict()


class _Passage(Node):
    """A node that hands gradients on, after ``watch(gradients, taped)`` has seen and perhaps changed them."""

    name = "module_hook"

    def __init__(self, tensors: Sequence[Tensor], watch: Callable[[Sequence[Any], bool], Sequence[Any]]):
        self.parents = [t if t.grad_fn is None else t.grad_fn for t in tensors]
        self.slots = tuple(t._slot for t in tensors)
        self.outputs = len(tensors)
        shapes, types = [t._data.shape for t in tensors], [t.dtype for t in tensors]
        self.shape, self.dtype = (shapes, types) if self.outputs > 1 else (shapes[0], types[0])
        self._watch = watch

    def gradients(self, gradient: Any, taped: bool, skip: Any) -> Sequence[Any]:
        """The gradients that arrived, as the watch leaves them."""
        return self._watch(gradient if self.outputs > 1 else [gradient], taped)

    def release(self) -> None:
        """Nothing is saved."""


class BackwardWatch:
    """Runs a module's backward hooks during one backward through one of its calls."""

    def __init__(self, module: Any, hooks: Hooks):
        self._module, self._hooks = module, hooks
        self._grad_outputs: tuple[Any, ...] = ()
        self._input_places: list[int] = []
        self._output_places: list[int] = []
        self._input_count = self._output_count = 0

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, with the tensors that need gradients watched."""
        self._input_count = len(args)
        args, self._input_places = _watched(args, self._at_inputs)
        return args

    def outputs(self, result: Any) -> Any:
        """The result of the call, with its tensors watched."""
        several = isinstance(result, tuple)
        values = result if several else (result,)
        self._output_count = len(values)
        values, self._output_places = _watched(values, self._at_outputs)
        return values if several else values[0]

    def _at_outputs(self, gradients: Sequence[Any], taped: bool) -> Sequence[Any]:
        grad_outputs = _spread(gradients, self._output_places, self._output_count, taped)
        with set_grad_enabled(taped):
            for hook in list(self._hooks.backward_pre.values()):
                grad_outputs = _replaced(grad_outputs, hook(self._module, grad_outputs), "backward pre hook")
        self._grad_outputs = grad_outputs
        if not self._input_places:
            self._run((None,) * self._input_count, taped)
        return _gathered(grad_outputs, self._output_places, taped)

    def _at_inputs(self, gradients: Sequence[Any], taped: bool) -> Sequence[Any]:
        grad_inputs = _spread(gradients, self._input_places, self._input_count, taped)
        return _gathered(self._run(grad_inputs, taped), self._input_places, taped)

    def _run(self, grad_inputs: tuple[Any, ...], taped: bool) -> tuple[Any, ...]:
        with set_grad_enabled(taped):
            for hook in list(self._hooks.backward.values()):
                answer = hook(self._module, grad_inputs, self._grad_outputs)
                grad_inputs = _replaced(grad_inputs, answer, "backward hook")
        self._grad_outputs = ()
        return grad_inputs


def _watched(
    values: tuple[Any, ...], watch: Callable[[Sequence[Any], bool], Sequence[Any]]
) -> tuple[tuple[Any, ...], list[int]]:
    """The values with those that need a gradient led through a passage, and where these are."""
    places = [k for k, value in enumerate(values) if isinstance(value, Tensor) and value.requires_grad]
    if not places:
        return values, places
    node = _Passage([values[k] for k in places], watch)
    passed = list(values)
    for slot, k in enumerate(places):
        array = values[k]._data
        # A view of the tensor, so that in-place ops inside the module reach its history too.
        passed[k] = Tensor._wrap(array.reshape(array.shape), node, slot)
        mark_view(passed[k], values[k], REGISTRY["reshape"], (array.shape,), 0)
    return tuple(passed), places


def _spread(gradients: Sequence[Any], places: list[int], count: int, taped: bool) -> tuple[Any, ...]:
    """Gradients as tensors at their places among all values."""
    spread: list[Any] = [None] * count
    for k, gradient in zip(places, gradients, strict=True):
        spread[k] = gradient if taped or gradient is None else Tensor._wrap(gradient)
    return tuple(spread)


def _gathered(tensors: tuple[Any, ...], places: list[int], taped: bool) -> list[Any]:
    chosen = [tensors[k] for k in places]
    return chosen if taped else [None if t is None else t._data for t in chosen]


def _replaced(old: tuple[Any, ...], new: Any, who: str) -> tuple[Any, ...]:
    """What a hook returned in the place of the gradients it was shown.

    Raises:
        RuntimeError: it is of another length, or a gradient of another shape.
    """
    if new is None:
        return old
    new = new if isinstance(new, tuple) else (new,)
    if len(new) != len(old):
        raise RuntimeError(f"{who} returned an invalid number of grad, got {len(new)}, but expected {len(old)}")
    for before, after in zip(old, new, strict=True):
        if before is not None and after is not None and after.shape != before.shape:
            raise RuntimeError(f"{who} changed a gradient's shape from {tuple(before.shape)} to {tuple(after.shape)}")
    return new
