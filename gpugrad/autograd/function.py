"""Ops written by a user: a forward and a backward on tensors."""

from __future__ import annotations

import copy
import functools
import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from .. import engine
from ..backend import module_of
from ..engine import Node, Recomputed, modes, no_grad, profiling
from ..ops import core
from ..tensor import Tensor, _edge

__all__ = ["Function", "FunctionCtx", "once_differentiable"]


class FunctionCtx:
    """What a function's forward hands to its backward.

    Attributes:
        needs_input_grad: for each argument of forward whether its gradient is wanted.
    """

    needs_input_grad: tuple[bool, ...] = ()
    _materialize = True
    _to_save: tuple[Any, ...] = ()
    _dirty: tuple[Any, ...] = ()
    _non_differentiable: tuple[Any, ...] = ()
    _was_tensor: tuple[bool, ...] = ()
    _saved: tuple[Any, ...] = ()
    _freed = False
    _node: Any = None

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors (or None) for backward, where they are ``saved_tensors``; a later in-place change is noticed.

        Raises:
            TypeError: an argument is neither.
        """
        for k, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save tensors, but argument {k} is of type {type(t).__name__}"
                )
        self._to_save = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Name the inputs that forward changed in place; they must be among its outputs."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Name the outputs that have no gradient."""
        self._non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward is given zeros (the default) or None for outputs that no gradient reached."""
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors given to ``save_for_backward``.

        Raises:
            RuntimeError: they were freed by an earlier backward, or changed in place since.
        """
        if self._freed:
            raise RuntimeError(
                "Trying to backward through the graph a second time (or directly access saved tensors after they have "
                "already been freed). Specify retain_graph=True in the first backward() if you need to do so"
            )
        found = []
        for t, slot, version in self._saved:
            if t is not None and t._version != version:
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an inplace operation: "
                    f"the tensor of shape {tuple(t.shape)} saved by {self._node().name!r} is at version {t._version}; "
                    f"expected version {version}. Modify a clone instead, or after backward()"
                )
            if slot is not None:
                # The node holds no output that holds the node: that would be a cycle.
                t = core.alias(t)
                t._node, t._slot, t._needs_grad = self._node(), slot, True
            found.append(t)
        return tuple(found)

    def _keep(self, outputs: Sequence[Any], recorded: Sequence[bool]) -> None:
        saved = []
        for t in self._to_save:
            slot = next((k for k, out in enumerate(outputs) if out is t and recorded[k]), None)
            if t is not None:
                if t._inference:
                    raise RuntimeError(
                        "Inference tensors cannot be saved for backward; make a clone to get a normal tensor"
                    )
                if t._node is not None or not t._needs_grad:
                    t = core.alias(t)
            saved.append((t, slot, 0 if t is None else t._version))
        self._saved = tuple(saved)
        self._to_save = self._dirty = self._non_differentiable = ()

    def _release(self) -> None:
        if self._saved:
            self._saved, self._freed = (), True


class _FunctionNode(Node):
    """A recorded call of a user's function."""

    def __init__(self, function: type[Function], ctx: FunctionCtx, parents: Sequence[Any], slots: tuple[int, ...]):
        self.function = function
        self.ctx: Any = ctx
        self.parents = parents
        self.slots = slots if any(slots) else None

    @property
    def name(self) -> str:
        return f"{self.function.__name__}Backward"

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What forward saved for backward."""
        self._recall()
        return self.ctx.saved_tensors

    def release(self) -> None:
        if not isinstance(self.ctx, Recomputed):
            self.ctx._release()

    def _recall(self) -> None:
        while isinstance(self.ctx, Recomputed):
            self.ctx = self.ctx.recall()
            if not isinstance(self.ctx, Recomputed):
                self.ctx._node = weakref.ref(self)

    def _given(self, gradient: Any, taped: bool) -> list[Any]:
        several = self.outputs > 1
        given: list[Any] = []
        for k, value in enumerate(gradient if several else [gradient]):
            shape, dtype = (self.shape[k], self.dtype[k]) if several else (self.shape, self.dtype)
            if value is None and self.ctx._materialize and shape is not None:
                arrived = next(g for g in gradient if g is not None)
                given.append(Tensor._wrap(module_of(arrived._data if taped else arrived).zeros(shape, dtype)))
            else:
                given.append(value if taped or value is None else Tensor._wrap(value))
        return given

    def gradients(self, gradient: Any, taped: bool, skip: Any) -> Sequence[Any]:
        self._recall()
        ctx = self.ctx
        wanted = tuple(parent is not None and (skip is None or parent in skip) for parent in self.parents)
        if wanted != ctx.needs_input_grad:
            ctx = copy.copy(ctx)
            ctx.needs_input_grad = wanted
        given = self._given(gradient, taped)
        versions = [None if g is None else g._version for g in given]
        answers = self.function.backward(ctx, *given)
        answers = list(answers) if isinstance(answers, tuple | list) else [answers]
        if [None if g is None else g._version for g in given] != versions:
            raise RuntimeError(
                f"{self.name} changed the gradient it was given in place; others may be using it: work on a clone"
            )
        count = len(self.parents)
        if len(answers) < count or any(answer is not None for answer in answers[count:]):
            raise RuntimeError(
                f"function {self.name} returned an incorrect number of gradients (expected {count}, got {len(answers)})"
            )
        return [self._fitted(k, answer, taped, wanted[k]) for k, answer in enumerate(answers[:count])]

    def _fitted(self, k: int, answer: Any, taped: bool, wanted: bool) -> Any:
        if answer is None:
            return None
        if not isinstance(answer, Tensor):
            raise RuntimeError(
                f"{self.name}: expected a tensor or None as gradient {k}, but got {type(answer).__name__}"
            )
        if not self.ctx._was_tensor[k]:
            raise RuntimeError(
                f"function {self.name} returned a gradient different than None at position {k + 1}, but the "
                "corresponding forward input was not a tensor"
            )
        if not wanted:
            return None
        parent, slot = self.parents[k], self.slots[k] if self.slots else 0
        several = isinstance(parent, Node) and parent.outputs > 1
        shape, dtype = (parent.shape[slot], parent.dtype[slot]) if several else (parent.shape, parent.dtype)
        found, expected = tuple(answer.shape), tuple(shape)
        if len(found) < len(expected) or any(
            n not in (1, m) for n, m in zip(expected[::-1], found[::-1], strict=False)
        ):
            raise RuntimeError(
                f"Function {self.name} returned an invalid gradient at index {k} - got {list(found)} but expected "
                f"shape compatible with {list(expected)}"
            )
        return core.taped_fit(answer, expected, dtype) if taped else engine.fit(answer._data, shape, dtype)


class Function:
    """An op of one's own: subclass it, write two static methods, and call ``MyFunction.apply(...)``.

    ``forward(ctx, *args)`` computes the result, a tensor or a tuple of tensors;
    ``backward(ctx, *gradients)`` takes one gradient for each result and gives one for each
    argument, None where there is none.  ``forward`` without ``ctx`` goes with a third method,
    ``setup_context(ctx, inputs, output)``.  With ``create_graph=True`` backward is recorded like
    any other code, so its own gradient needs nothing more.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the result.

        Raises:
            NotImplementedError: the subclass has none.
        """
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """Keep what backward needs, when ``forward`` takes no ``ctx``."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The gradients of the arguments of forward.

        Raises:
            NotImplementedError: the subclass has none.
        """
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: a function is called by its ``apply``."""
        raise RuntimeError(f"call {type(self).__name__}.apply(...): a function is not instantiated")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run forward and record it.

        Raises:
            RuntimeError: a leaf that requires grad was changed in place, or a tensor marked dirty is not returned.
            TypeError: forward returned a list.
        """
        ctx = FunctionCtx()
        separate = cls.setup_context is not Function.setup_context
        if kwargs:
            bound = inspect.signature(cls.forward).bind(*(() if separate else (ctx,)), *args, **kwargs)
            bound.apply_defaults()
            args = bound.args if separate else bound.args[1:]
        recorder = profiling.recorder
        event = None if recorder is None else recorder.begin(cls.__name__, "forward", args)
        ctx._was_tensor = tuple(isinstance(a, Tensor) for a in args)
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a._needs_grad for a in args)
        recording = modes.grad and any(ctx.needs_input_grad)
        edges = [_edge(a) if needed else (None, 0) for a, needed in zip(args, ctx.needs_input_grad, strict=True)]
        with no_grad():
            if separate:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args)
        if event is not None:
            event.finish()
        if not recording:
            return result
        if isinstance(result, list) and any(isinstance(out, Tensor) for out in result):
            raise TypeError(f"{cls.__name__}.forward must return a tensor or a tuple of tensors, but returned a list")
        node = _FunctionNode(cls, ctx, [parent for parent, _ in edges], tuple(slot for _, slot in edges))
        outputs = _record(node, args, result if isinstance(result, tuple) else (result,))
        return outputs if isinstance(result, tuple) else outputs[0]


def _record(node: _FunctionNode, args: Sequence[Any], outputs: tuple[Any, ...]) -> tuple[Any, ...]:
    ctx = node.ctx
    ctx._node = weakref.ref(node)
    dirty, constant = {id(t) for t in ctx._dirty}, {id(t) for t in ctx._non_differentiable}
    if not dirty <= {id(out) for out in outputs}:
        raise RuntimeError(f"{node.name}: a tensor that was marked dirty in forward must be one of its outputs")
    shapes = [out._data.shape if isinstance(out, Tensor) else None for out in outputs]
    types = [out._data.dtype if isinstance(out, Tensor) else None for out in outputs]
    recorded = [isinstance(out, Tensor) and out.is_floating_point() and id(out) not in constant for out in outputs]
    node.outputs = len(outputs)
    node.shape, node.dtype = (shapes, types) if len(outputs) > 1 else (shapes[0], types[0])
    ctx._keep(outputs, recorded)
    if modes.watch:
        modes.watch(node)
    shared = [a._version_counter for a in args if isinstance(a, Tensor) and a._version_counter is not None]
    results: list[Any] = []
    for k, out in enumerate(outputs):
        if not recorded[k]:
            results.append(out)
        elif id(out) in dirty:
            core.check_inplace(node.name, out, True)
            core.rebase(out, Tensor._wrap(out._data, node, k))
            results.append(out)
        else:
            # An input given back is no longer that input: it gets memory of its own, as two tensors that
            # share memory would have to share their history too.
            same = any(out is a for a in args) or any(out._version_counter is counter for counter in shared)
            fresh = Tensor._wrap(engine.copy(out._data) if same else out._data, node, k)
            if not same:
                fresh._version_counter = out._counter()
            results.append(fresh)
    return tuple(results)


class _OnceNode(Node):
    """Stands behind the gradients of a backward that cannot be differentiated."""

    shape: Any = ()
    dtype: Any = None

    def __init__(self, parents: Sequence[Any], slots: tuple[int, ...], array: Any):
        self.parents, self.slots = parents, slots
        self.shape, self.dtype = array.shape, array.dtype

    @property
    def name(self) -> str:
        return "once_differentiable"

    def release(self) -> None:
        pass

    def gradients(self, gradient: Any, taped: bool, skip: Any) -> Sequence[Any]:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a ``backward`` whose own gradient would be wrong: asking for it raises."""

    @functools.wraps(backward)
    def wrapper(ctx: Any, *gradients: Any) -> Any:
        with no_grad():
            answers = backward(ctx, *gradients)
        sources = [t for t in (*gradients, *ctx.saved_tensors) if t is not None and t._needs_grad]
        if not modes.grad or not sources:
            return answers
        edges = [_edge(t) for t in sources]

        def guarded(answer: Any) -> Any:
            if not isinstance(answer, Tensor):
                return answer
            node = _OnceNode([parent for parent, _ in edges], tuple(slot for _, slot in edges), answer._data)
            return Tensor._wrap(answer._data, node)

        return tuple(map(guarded, answers)) if isinstance(answers, tuple | list) else guarded(answers)

    return wrapper
