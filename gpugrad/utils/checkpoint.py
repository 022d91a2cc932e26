"""Gradient checkpointing: memory for time, as in ``torch.utils.checkpoint``.

What a function saves for backward is dropped once it has returned, and computed anew from its arguments
when backward first needs it (Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost", 2016).
The graph itself stays, so ``autograd.grad``, ``create_graph`` and gradients of what the function closes over work
as without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Any

from .. import random
from ..autograd.function import _FunctionNode
from ..autograd.graph import without_packing
from ..engine import Node, Recomputed, enable_grad, modes
from ..ops.core import OpNode
from ..tensor import Tensor

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential", "noop_context_fn"]


class CheckpointError(RuntimeError):
    """The function did other things when it was run again."""


def noop_context_fn() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Two contexts that do nothing."""
    return nullcontext(), nullcontext()


@contextmanager
def _watching() -> Iterator[list[Node]]:
    """Collects the nodes made inside the block."""
    nodes: list[Node] = []
    before = modes.watch
    outer = without_packing(before)

    def watch(node: Node) -> None:
        nodes.append(node)
        if outer:
            outer(node)

    modes.watch = watch
    try:
        yield nodes
    finally:
        modes.watch = before


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _place(node: Node) -> str | None:
    """The attribute in which a node keeps what it saved, if that is more than plain parameters."""
    if isinstance(node, OpNode):
        return "values" if node.versions else None
    return "ctx" if isinstance(node, _FunctionNode) else None


def _facts(node: Node) -> tuple[Any, ...]:
    return node.name, node.shape, node.dtype


class _Saved(Recomputed):
    """What node number ``index`` of a segment saved."""

    def __init__(self, segment: _Segment, index: int):
        self.segment, self.index = segment, index

    def recall(self) -> Any:
        return self.segment.recall(self.index)


class _Segment:
    """One call of a function, ready to be repeated."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any,
        rng: Any,
        context: Any,
        check: bool,
        nodes: list[Node],
    ):
        self.function, self.args, self.kwargs = function, args, kwargs
        self.rng, self.context, self.check = rng, context, check
        self.versions = [(t._counter(), t._version) for t in _tensors([args, kwargs])]
        self.facts = [_facts(node) for node in nodes]
        self.saved: dict[int, Any] = {}

    def recall(self, index: int) -> Any:
        """What node number ``index`` saved, computed with that of all others when it is first asked for.

        Raises:
            RuntimeError: an argument was changed in place since the function was called.
            CheckpointError: the function did other things this time.
        """
        if index not in self.saved:
            self._run_again()
        return self.saved.pop(index)

    def _run_again(self) -> None:
        for counter, version in self.versions:
            if counter[0] != version:
                raise RuntimeError(
                    "checkpoint: a tensor given to the checkpointed function was modified by an inplace operation "
                    "since, so it cannot be computed again. Modify a clone instead, or after backward()"
                )
        with random.fork_rng(enabled=self.rng is not None), enable_grad(), self.context, _watching() as nodes:
            if self.rng is not None:
                random.set_rng_state(self.rng)
            self.function(*self.args, **self.kwargs)
        facts = [_facts(node) for node in nodes]
        if len(facts) != len(self.facts) or (self.check and facts != self.facts):
            pairs = zip(self.facts, facts, strict=False)
            k = next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(facts), len(self.facts)))
            first, second = (_named(found, k) for found in (self.facts, facts))
            raise CheckpointError(
                f"checkpoint: the function recorded {len(self.facts)} ops in forward and {len(facts)} when it was run "
                f"again for backward; number {k + 1} was {first} and then {second}. It must do the same both times"
            )
        self.saved = {k: getattr(node, place) for k, node in enumerate(nodes) if (place := _place(node))}


def _named(facts: list[tuple[Any, ...]], k: int) -> str:
    if k >= len(facts):
        return "missing"
    name, shape, dtype = facts[k]
    return f"{name!r} (shape {shape}, {dtype})"


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], tuple[AbstractContextManager[Any], AbstractContextManager[Any]]] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """Call ``function(*args, **kwargs)`` without keeping what it saves for backward, which runs it again instead.

    Args:
        function: whatever it does must be the same when it is run again: dropout is (the random stream is
            rewound), but buffers such as batch normalisation's running averages are updated twice.
        use_reentrant: accepted; there is one implementation, which does what PyTorch's non-reentrant one does.
            True refuses the arguments that PyTorch refuses with it.
        context_fn: gives two contexts, for the function and for running it again.
        determinism_check: "default" compares ops, shapes and dtypes of both runs; "none" only the number of ops.
        debug, early_stop: accepted; errors name the ops anyway, and the function is always run to its end.
        preserve_rng_state: (in ``kwargs``, default True) rewind the random stream for running the function again.

    Raises:
        ValueError: an argument that does not go with the others.
        CheckpointError: (in backward) the function did other things when it was run again.
        RuntimeError: (in backward) an argument was changed in place in between.
    """
    preserve = kwargs.pop("preserve_rng_state", True)
    if use_reentrant and kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    if use_reentrant and (context_fn is not noop_context_fn or debug):
        raise ValueError("Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
    if determinism_check not in ("default", "none"):
        raise ValueError(f"determinism_check should be one of ('default', 'none'), got {determinism_check!r}")
    first, second = context_fn()
    rng = random.get_rng_state() if preserve else None
    arguments = list(_tensors([args, kwargs]))
    before = [t._version for t in arguments]
    with first, _watching() as nodes:
        result = function(*args, **kwargs)
    places = [_place(node) for node in nodes]
    # With an argument changed in place by the function itself there is no second run: keep everything.
    if any(places) and [t._version for t in arguments] == before:
        segment = _Segment(function, args, kwargs, rng, second, determinism_check == "default", nodes)
        for index, (node, place) in enumerate(zip(nodes, places, strict=True)):
            if place:
                setattr(node, place, _Saved(segment, index))
    return result


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """Run functions one after the other, in ``segments`` parts of which all but the last are checkpointed.

    Args:
        functions: an ``nn.Sequential`` or a list of functions of one argument.
        segments: how many parts; about the square root of the number of functions takes the least memory.
        preserve_rng_state: (in ``kwargs``) as for :func:`checkpoint`.

    Raises:
        ValueError: another keyword argument, or more segments than functions.
    """
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    functions = list(functions.children() if hasattr(functions, "children") else functions)
    if not 1 <= segments <= len(functions):
        raise ValueError(f"{len(functions)} functions cannot be run in {segments} segments; give 1 to {len(functions)}")

    def part(start: int, stop: int) -> Callable[[Any], Any]:
        def run(input: Any) -> Any:
            for function in functions[start:stop]:
                input = function(input)
            return input

        return run

    size = len(functions) // segments
    bounds = [k * size for k in range(segments)]
    for start, stop in pairwise(bounds):
        input = checkpoint(part(start, stop), input, use_reentrant=use_reentrant, preserve_rng_state=preserve)
    return part(bounds[-1], len(functions))(input)
