"""What an op is: one definition, from which recording, both backwards and the tests follow.

An op is a function on raw arrays, with the array module passed in::

    @op(samples=lambda t: [(t(2, 3), t(3))])
    def mul(xp, input, other, /):
        return xp.multiply(input, other)

    mul.rules(input=lambda F, g, other: g * other,
              other=lambda F, g, input: g * input)

The parameters before ``/`` (or ``*tensors``) are tensors, those after it plain
values.  A rule gives the gradient for one input.  Its parameters say what is
saved for it, and nothing else is: the name of an input, ``out`` for the result,
``input_shape`` for the shape of ``input``, ``aux`` for what the forward kept
besides its result, or the name of a plain parameter.

Rules are written once, with operators and the functions of ``F``: every op,
under its own name.  In an ordinary backward ``F`` is ``raw`` and works on arrays;
with ``create_graph=True`` it is ``taped``, works on tensors and records.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any
from weakref import ref

import numpy as np

from ..backend import beside, device_of, dtypes, lazy, module_of, overlapping, same_memory
from ..backend.quiet import hush, unhush
from ..engine import Arithmetic, Node, Recomputed, check_same_device, copy, enable_grad, fit, modes, profiling, run

ndarray = np.ndarray
new = object.__new__

REGISTRY: dict[str, Op] = {}
METHODS: dict[str, Any] = {}
FUNCTIONS: dict[str, Any] = {}

# The Tensor class, which is defined above this layer; tensor.py sets it.
Tensor: Any = None

_NUMBERS = (bool, int, float)


class Operator:
    """What type checkers see in the place of operators that are installed from the registry."""

    def __call__(self, *args: Any) -> Any:
        """Never called; the registry's op is."""


def fuses() -> bool:
    """Whether fused kernels are used in this thread."""
    return lazy.state.enabled


@contextmanager
def fusion(enabled: bool) -> Iterator[None]:
    """Use (or, with False, do without) the ops' fused kernels in this thread."""
    before, lazy.state.enabled = lazy.state.enabled, enabled
    try:
        yield
    finally:
        lazy.state.enabled = before


class Vocabulary:
    """The functions that gradient rules call, by op name: on arrays (``raw``) or on tensors (``taped``)."""

    def __init__(self, taped: bool):
        self.is_taped = taped

    def constant(self, array: Any) -> Any:
        """A raw array as a value of this vocabulary, without a gradient."""
        return Tensor._wrap(array) if self.is_taped else array

    def array(self, value: Any) -> Any:
        """The raw array of a value of this vocabulary, in memory."""
        array = value._data if self.is_taped else value
        return array if array.__class__ is ndarray else lazy.settled(array)

    def is_one(self, gradient: Any) -> bool:
        """Whether a gradient is the 1 that an ordinary backward starts from, passed on as it is.

        Only where the graph is freed on the way: what a rule gives then as it was saved, nobody else holds.
        """
        return not self.is_taped and gradient is modes.one

    def __getattr__(self, name: str) -> Any:
        try:
            found = REGISTRY[name]
        except KeyError:
            raise AttributeError(f"the gradient vocabulary has no op {name!r}") from None
        function = found if self.is_taped else found.raw_function()
        setattr(self, name, function)
        return function


raw = Vocabulary(False)
taped = Vocabulary(True)
Arithmetic.taped = taped


class _Plan:
    """How one op is recorded and differentiated when a given set of its inputs needs gradients."""

    __slots__ = ("rules", "saved_inputs", "saves_out", "shapes", "uses_aux")

    def __init__(self, op: Op, wanted: tuple[bool, ...]):
        names = op.inputs
        rules = [(i, *op._rules[name]) for i, name in enumerate(names) if wanted[i] and name in op._rules]
        used = {name for _, _, needs in rules for name in needs}
        if op._joint and any(wanted):
            if op._joint_needs is None:
                used |= set(op._joint[1])
            else:
                used |= {n for i, name in enumerate(names) if wanted[i] for n in op._joint_needs.get(name, ())}
        if "aux" in used and op.aux_of is not None:
            used |= set(parameters_of(op.aux_of)[0]) & set(names)
        self.saved_inputs = tuple(i for i, name in enumerate(names) if name in used)
        self.saves_out = "out" in used
        self.shapes = tuple(i for i, name in enumerate(names) if f"{name}_shape" in used)
        self.uses_aux = "aux" in used
        order = [names[i] for i in self.saved_inputs] + (["out"] if self.saves_out else [])
        order += [f"{names[i]}_shape" for i in self.shapes] + (["aux"] if self.uses_aux else []) + list(op.params)
        where = {name: k for k, name in enumerate(order)}
        self.rules: Any = tuple((i, rule, tuple(where[name] for name in needs)) for i, rule, needs in rules)
        if op._joint:
            self.rules = ((-1, op._joint[0], tuple(where.get(name) for name in op._joint[1])),)


class OpNode(Node):
    """A recorded call of a registered op."""

    values: Any = ()  # a tuple; None when it was released, or what computes it anew
    # For each saved array its version counter and then what that said, in one object for the garbage collector.
    versions: tuple[Any, ...] = ()

    def __init__(self, op: Op, plan: _Plan, parents: Sequence[Any], shape: Any, dtype: Any):
        self.op = op
        self.plan = plan
        self.parents = parents
        self.shape = shape
        self.dtype = dtype

    @property
    def name(self) -> str:
        return self.op.name

    def release(self) -> None:
        if self.versions:
            self.values = None

    def keep_copies_of(self, array: Any) -> None:
        """Copy a saved array that is about to be overwritten."""
        values = list(self.values or ())
        versions = list(self.versions)
        for k in range(len(versions) // 2):
            if lazy.is_memory_of(values[k], array):
                values[k], versions[2 * k : 2 * k + 2] = copy(array), (FIXED, 0)
        self.values, self.versions = tuple(values), tuple(versions)

    def receive(self, gradient: Any) -> Any:
        if self.op.chained is None or not lazy.active():
            return super().receive(gradient)
        self.values = tuple([lazy.lift(value) for value in self._recalled()])
        return lazy.lift(gradient)

    def _recalled(self) -> tuple[Any, ...]:
        while isinstance(self.values, Recomputed):
            self.values = self.values.recall()
        if self.values is None:
            raise RuntimeError(
                "Trying to backward through the graph a second time: "
                f"what {self.op.name!r} saved has already been freed. "
                "Specify retain_graph=True in the first backward() if you need to backward through it again"
            )
        return self.values

    def _check_versions(self) -> None:
        for k, (counter, version) in enumerate(zip(self.versions[::2], self.versions[1::2], strict=True)):
            if counter[0] != version:
                plan, names = self.plan, self.op.inputs
                which = f"input {names[plan.saved_inputs[k]]!r}" if k < len(plan.saved_inputs) else "result"
                values = self.values or ()
                raise RuntimeError(
                    f"one of the variables needed for gradient computation has been modified by an inplace operation: "
                    f"the {which} of {self.op.name!r}, of shape {tuple(np.shape(values[k]))}, "
                    f"is at version {counter[0]}; "
                    f"expected version {version}. Modify a clone instead, or after backward()"
                )

    def _taped_values(self) -> list[Any]:
        """The saved values as tensors that carry their history."""
        assert self.values is not None
        values = list(self.values)
        plan = self.plan
        for k, i in enumerate(plan.saved_inputs):
            if isinstance(values[k], _NUMBERS) or values[k] is None:
                continue
            parent = self.parents[i]
            slot = self.slots[i] if self.slots else 0
            if parent is None or isinstance(parent, Node):
                values[k] = Tensor._wrap(values[k], parent, slot)
            else:
                values[k] = parent
        if plan.saves_out:
            values[len(plan.saved_inputs)] = Tensor._wrap(values[len(plan.saved_inputs)], self)
        if plan.uses_aux and self.op.aux_of is not None:
            named = dict(zip([self.op.inputs[i] for i in plan.saved_inputs], values, strict=False))
            named.update(zip(self.op.params, values[len(values) - len(self.op.params) :], strict=True))
            wanted = parameters_of(self.op.aux_of)[0][1:]
            position = len(plan.saved_inputs) + plan.saves_out + len(plan.shapes)
            values[position] = self.op.aux_of(taped, *[named[name] for name in wanted])
        return values

    def gradients(self, gradient: Any, taped: bool, skip: Any) -> Sequence[Any]:
        values: Any = self.values
        if values.__class__ is not tuple:
            values = self._recalled()
        versions = self.versions
        for k in range(0, len(versions), 2):
            if versions[k][0] != versions[k + 1]:
                self._check_versions()
        if taped:
            return self._taped_gradients(gradient, skip)
        parents = self.parents
        answers: list[Any] = [None] * len(parents)
        for i, rule, needs in self.plan.rules:
            if i < 0:
                wanted = [parent is not None and (skip is None or parent in skip) for parent in parents]
                answers = list(rule(raw, gradient, wanted, *[None if k is None else values[k] for k in needs]))
                return [None if a is None or not wanted[k] else self._fit(a, k) for k, a in enumerate(answers)]
            parent = parents[i]
            if skip is not None and parent not in skip:
                continue
            if not needs:
                answer = rule(raw, gradient)
            elif len(needs) == 1:
                answer = rule(raw, gradient, values[needs[0]])
            else:
                answer = rule(raw, gradient, *[values[k] for k in needs])
            if parent.outputs != 1 or answer.shape != parent.shape or answer.dtype is not parent.dtype:
                answer = self._fit(answer, i)
            answers[i] = answer
        return answers

    def _meta(self, i: int) -> tuple[Any, Any]:
        """The shape and dtype of input ``i``."""
        parent = self.parents[i]
        if parent.outputs == 1:
            return tuple(parent.shape), parent.dtype
        slot = self.slots[i] if self.slots else 0
        return tuple(parent.shape[slot]), parent.dtype[slot]

    def _fit(self, gradient: Any, i: int) -> Any:
        return fit(gradient, *self._meta(i))

    def _taped_gradients(self, gradient: Any, skip: Any) -> Sequence[Any]:
        values = self._taped_values()
        parents = self.parents
        answers: list[Any] = [None] * len(parents)
        for i, rule, needs in self.plan.rules:
            if i < 0:
                wanted = [parent is not None and (skip is None or parent in skip) for parent in parents]
                answers = list(rule(taped, gradient, wanted, *[None if k is None else values[k] for k in needs]))
            elif skip is None or parents[i] in skip:
                answers[i] = rule(taped, gradient, *[values[k] for k in needs])
        return [
            None if answer is None or parents[i] is None else taped_fit(answer, *self._meta(i))
            for i, answer in enumerate(answers)
        ]


def taped_fit(gradient: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """``engine.fit`` on a tensor, recorded."""
    if gradient.dtype != dtype:
        gradient = taped.to_dtype(gradient, dtype)
    if tuple(gradient.shape) != shape:
        larger = gradient.ndim >= len(shape) and all(
            n in (1, m) for n, m in zip(shape[::-1], tuple(gradient.shape)[::-1], strict=False)
        )
        gradient = taped.sum_to(gradient, shape) if larger else taped.expand(gradient, shape)
    return gradient


def recorded_gradients(
    function: Callable[..., Any], inputs: Sequence[Any], grads: Sequence[Any], wanted: Sequence[bool]
) -> list[Any]:
    """The gradients of ``function(*inputs)``, a tuple of tensors, by the rules of the ops it calls, and recorded.

    For an op made of other ops whose own rule writes into arrays, and so cannot be recorded.

    Args:
        inputs: tensors, or None.
        grads: those of the results, None where there is none.
        wanted: the inputs whose gradients are returned; None for the others.
    """
    with enable_grad():
        # Copies, at which the walk ends even where one input was made from another.
        inputs = [None if t is None else taped.clone(t) for t in inputs]
        outs = function(*inputs)
        roots = [(out._node, out._slot, g) for out, g in zip(outs, grads, strict=True) if g is not None]
        edges = [(t._node, t._slot) if w else None for t, w in zip(inputs, wanted, strict=True)]
        found = run(roots, retain_graph=True, taped=True, targets=[edge for edge in edges if edge])
    return [found.get(edge) if edge else None for edge in edges]


def parameters_of(function: Any) -> tuple[tuple[str, ...], int, bool]:
    """The names of a function's parameters, how many come before ``/``, and whether ``*`` takes more.

    ``inspect.signature`` says so too, but asking it for every op and rule took a third of the time of importing them.
    """
    code = inspect.unwrap(function).__code__
    named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return named, code.co_posonlyargcount, bool(code.co_flags & inspect.CO_VARARGS)


class Op:
    """A differentiable operation; made by :func:`op`.

    Attributes:
        inputs: the names of the tensor inputs; empty for a variadic op, whose joint rule can name neither values
            nor shapes of inputs (``aux`` can hold what it needs).
        params: the names of the plain parameters.
        view: the result may share memory with the first input.
        result_may_change: in PyTorch backward does not read the result, which may thus be changed in place: what is
            read here is copied before.
        outputs: how many results the op has; None when it varies.
        aux: the forward gets a further parameter ``recording`` and returns ``(result, aux)``.
        aux_of: recomputes a differentiable aux: ``aux_of(F, <inputs and params by name>)``.
        samples: makes the arguments the tests call the op with.
    """

    def __init__(self, forward: Callable[..., Any], name: str, **options: Any):
        names, before_slash, self.variadic = parameters_of(forward)
        if before_slash < 2 and not self.variadic:
            raise TypeError(f"op {name!r}: mark its tensor parameters with '/' or '*tensors'")
        if names[:1] != ("xp",):
            raise TypeError(f"op {name!r}: the first parameter of its forward must be 'xp', the array module")
        self.inputs, self.params = names[1:before_slash], names[max(1, before_slash) :]
        self.forward = forward
        self.name = name
        self.params = tuple(p for p in self.params if p != "recording")
        self.view: bool = options.pop("view", False)
        self.result_may_change: bool = options.pop("result_may_change", False)
        self.outputs: int | None = options.pop("outputs", 1)
        self.aux: bool = options.pop("aux", False)
        self.samples: Callable[..., Any] | None = options.pop("samples", None)
        # The name of PyTorch's counterpart (None if it has none), or a function (torch, *args).
        self.torch: Any = options.pop("torch", name)
        self.differentiable: bool = options.pop("differentiable", True)
        self.tests: dict[str, Any] = options.pop("tests", {})
        if options:
            raise TypeError(f"op {name!r}: unknown options {sorted(options)}")
        if self.variadic:
            # Called with the tensors first and the plain parameters last, like any other op.
            tail = self.params + (("recording",) if self.aux else ())
            self.forward = lambda xp, *args: forward(
                xp, *args[: len(args) - len(tail)], **dict(zip(tail, args[len(args) - len(tail) :], strict=True))
            )
        self.aux_of: Callable[..., Any] | None = None
        self.fused: Callable[..., Any] | None = None
        self.chained: Callable[[tuple[Any, ...], bool], Any] | None = None
        self._rules: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {}
        self._joint: tuple[Callable[..., Any], tuple[str, ...]] | None = None
        self._joint_needs: dict[str, tuple[str, ...]] | None = None
        self._plans: dict[Any, _Plan] = {}
        self._is_simple = len(self.inputs) == 1 and self.outputs == 1 and not self.aux
        self.__name__ = self.__qualname__ = name
        self.__doc__ = forward.__doc__
        self.__module__ = forward.__module__

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def rules(self, **rules: Callable[..., Any]) -> None:
        """One gradient rule per input: ``rule(F, g, *what it saves)``."""
        for name, rule in rules.items():
            if name not in self.inputs:
                raise TypeError(f"op {self.name!r} has no input {name!r}")
            self._rules[name] = (rule, self._check_needs(rule, 2))

    def joint_rule(self, rule: Callable[..., Any] | None = None, **needs: tuple[str, ...]) -> Any:
        """One rule for all inputs: ``rule(F, g, wanted, *what it saves)`` returns a sequence of gradients.

        Args:
            needs: what the gradient of each input takes of that; only this is saved, and None handed over for the
                rest. Without it all is saved.
        """
        if rule is None:
            self._joint_needs = needs
            return self.joint_rule
        self._joint = (rule, self._check_needs(rule, 3))
        return rule

    def aux_rule(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Set how a differentiable aux is computed from inputs and parameters, in either vocabulary."""
        self.aux_of = function
        return function

    def kernel(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register a fused forward for CUDA arrays; it returns NotImplemented where it does not apply."""
        self.fused = function
        return function

    def chain(self, function: Callable[[tuple[Any, ...], bool], Any]) -> Callable[..., Any]:
        """Register how an elementwise op is put off: ``function(args, recording)`` gives what stands for the result.

        It returns NotImplemented where the op has to be done at once.
        """
        self.chained = function
        return function

    def _check_needs(self, rule: Callable[..., Any], skip: int) -> tuple[str, ...]:
        needs = parameters_of(rule)[0][skip:]
        if twice := {"out", "aux"}.intersection(needs, self.params):
            raise TypeError(f"op {self.name!r}: what its rule means by {twice} is open, as its parameters are named so")
        known = {*self.inputs, *(f"{name}_shape" for name in self.inputs), *self.params, "out", "aux"}
        if unknown := [name for name in needs if name not in known]:
            raise TypeError(f"op {self.name!r}: its rule asks for unknown {unknown}; known are {sorted(known)}")
        return needs

    def on_arrays(self, *args: Any) -> Any:
        """The forward on raw arrays, as gradient rules call it."""
        xp = module_of(_first_array(args))
        if xp is not np and self.chained is None:
            args = lazy.settled(args)
        result = self.compute(args, xp, False)
        return result[0] if self.aux else result

    def raw_function(self) -> Callable[..., Any]:
        """``on_arrays`` with a short way for plain forwards on the CPU; the walk has silenced NumPy already."""
        forward, general, aux = self.forward, self.on_arrays, self.aux

        def function(*args: Any) -> Any:
            first = args[0]
            if first.__class__ is ndarray and first.dtype.itemsize != 2 and not aux:
                return forward(np, *args)
            return general(*args)

        return function

    def compute(self, args: tuple[Any, ...], xp: Any, recording: bool) -> Any:
        """The result of the fused kernel where there is one and it applies, else of the generic forward."""
        if xp is not np:
            if self.chained is not None:
                result = self.put_off(args, recording)
                if result is not NotImplemented:
                    return result
            args = lazy.settled(args)  # the plain parameters too: an index holds arrays
            with beside(_first_array(args)):
                result = self.by_kernel(args, recording)
                return self._compute(args, xp, recording) if result is NotImplemented else result
        return self._compute(args, xp, recording)

    def put_off(self, args: tuple[Any, ...], recording: bool) -> Any:
        """What stands for the result of an elementwise op while work is put off; NotImplemented if that cannot be."""
        return self.chained(args, recording) if self.chained is not None and lazy.active() else NotImplemented

    def by_kernel(self, args: tuple[Any, ...], recording: bool) -> Any:
        """The result of the fused kernel, or NotImplemented where there is none or it does not apply."""
        if self.fused is None or not lazy.state.enabled:
            return NotImplemented
        return self.fused(*args, recording) if self.aux else self.fused(*args)

    def _compute(self, args: tuple[Any, ...], xp: Any, recording: bool) -> Any:
        token = hush()
        try:
            return self.forward(xp, *args, recording) if self.aux else self.forward(xp, *args)
        finally:
            unhush(token)

    def plan(self, wanted: tuple[bool, ...]) -> _Plan:
        """The recording plan for a set of inputs that need gradients."""
        found = self._plans.get(wanted)
        if found is None:
            found = self._plans[wanted] = _Plan(self, wanted)
        return found

    def __call__(self, *args: Any) -> Any:
        """Apply to tensors: inputs first, then the plain parameters."""
        if self._is_simple:
            try:
                array = args[0]._data
            except AttributeError:
                array = None
            if array.__class__ is ndarray and not autocasting and profiling.recorder is None:
                return self._apply_simply(args[0], array, args[1:])
        count = len(args) - len(self.params) if self.variadic else len(self.inputs)
        return self.apply_with_aux(args[:count], args[count:])[0]

    def _apply_simply(self, input: Any, array: np.ndarray, params: tuple[Any, ...]) -> Any:
        """``apply`` for one CPU tensor and one result, where most of the time is this module's."""
        token = hush()
        try:
            result = self.forward(np, array, *params)
        finally:
            unhush(token)
        out = self._wrap(result, np)
        if input._needs_grad and modes.grad and self.differentiable:
            record(self, (input,), (array,), _WANTED, params, [out], None, False)
        elif modes.inference:
            out._inference = True
        if self.view:
            mark_view(out, input, self, params, 0)
        return out

    def apply(self, inputs: Sequence[Any], params: tuple[Any, ...] = ()) -> Any:
        """Apply to tensors (or None for an absent optional input), recording if need be."""
        return self.apply_with_aux(inputs, params)[0]

    def apply_with_aux(self, inputs: Sequence[Any], params: tuple[Any, ...] = ()) -> tuple[Any, Any]:
        """As ``apply``; also returns what the forward kept besides its result."""
        recorder = profiling.recorder
        event = None if recorder is None else recorder.begin(self.name, "forward", inputs)
        if autocasting:
            inputs = autocasting[-1](self.name, inputs)
        xp: Any = np
        arrays: tuple[Any, ...] = ()
        wanted: tuple[bool, ...] = ()
        for t in inputs:
            if t is None:
                arrays += (None,)
                wanted += (False,)
                continue
            array = getattr(t, "_data", t)
            if array.__class__ is not ndarray or array is t:
                inputs = as_tensors(self.name, inputs)
                if self.chained is None:
                    settle_tensors(inputs)
                arrays = tuple(None if t is None else t._data for t in inputs)
                wanted = tuple(t is not None and t._needs_grad for t in inputs)
                xp = module_of(_first_array(arrays))
                break
            arrays += (array,)
            wanted += (t._needs_grad,)
        recording = True in wanted and self.differentiable and modes.grad
        result = self.compute(arrays + params, xp, recording)
        aux = None
        if self.aux:
            result, aux = result
        several = self.outputs != 1
        outs = [self._wrap(x, xp) for x in result] if several else [self._wrap(result, xp)]
        if recording and outs:
            record(self, inputs, arrays, wanted, params, outs, aux, several)
        elif modes.inference:
            for out in outs:
                out._inference = True
        if self.view and inputs[0] is not None:
            for k, out in enumerate(outs):
                mark_view(out, inputs[0], self, params, k)
        if event is not None:
            event.finish(outs)
        return (tuple(outs) if several else outs[0]), aux

    def _wrap(self, array: Any, xp: Any) -> Any:
        if array.__class__ is not ndarray and (isinstance(array, np.generic) or not hasattr(array, "dtype")):
            array = xp.asarray(array)
        out = new(Tensor)
        out._data = array
        return out


def settle_tensors(tensors: Sequence[Any]) -> None:
    """Give tensors, whose values may have been put off, their memory."""
    for t in tensors:
        if t is not None and t._data.__class__ is lazy.Lazy:
            t._data = t._data.settle()


def memory_to_change(t: Any) -> Any:
    """The array of a tensor that is about to be changed in place, when all that was put off has read it."""
    if t._data.__class__ is not ndarray:
        settle_tensors((t,))
        lazy.before_write(t._data)
    return t._data


def record(
    op: Op,
    inputs: Sequence[Any],
    arrays: tuple[Any, ...],
    wanted: tuple[bool, ...],
    params: tuple[Any, ...],
    outs: list[Any],
    aux: Any,
    several: bool,
) -> None:
    """Make the node of a call and hang it on its results."""
    plan = op._plans.get(wanted) or op.plan(wanted)
    parents: list[Any] = []
    slots: list[int] | None = None
    for k, t in enumerate(inputs):
        if not wanted[k]:
            parents.append(None)
            continue
        if t._base is not None:
            refresh_view(t)
        parents.append(t._node or t)
        if t._slot:
            slots = slots or [0] * len(inputs)
            slots[k] = t._slot
    first = outs[0]._data
    node = OpNode(op, plan, parents, first.shape, first.dtype)
    if slots:
        node.slots = tuple(slots)
    values: tuple[Any, ...] = ()
    versions: tuple[Any, ...] = ()
    for i in plan.saved_inputs:
        values += (arrays[i],)
        if arrays[i] is not None:
            source = inputs[i]
            counter = source._version_counter or source._counter()
            if source._inference:
                raise RuntimeError(
                    "Inference tensors cannot be saved for backward. "
                    "To work around you can make a clone to get a normal tensor"
                )
            versions += (counter, counter[0])
        else:
            versions += (FIXED, 0)
    if plan.saves_out:
        values += (first,)
        counter = outs[0]._counter()
        versions += (counter, counter[0])
    for i in plan.shapes:
        values += (arrays[i].shape,)
    if plan.uses_aux:
        values += (aux,)
        versions = versions or (FIXED, 0)
    node.values = values + params
    node.versions = versions
    if len(outs) > 1:
        node.outputs = len(outs)
        node.shape = [t._data.shape for t in outs]
        node.dtype = [t._data.dtype for t in outs]
    if modes.watch:
        modes.watch(node)
    for k, out in enumerate(outs):
        dtype = out._data.dtype
        if dtype.kind == "f" or dtype.name == "bfloat16":
            out._node = node
            out._needs_grad = True
            if k:
                out._slot = k


autocasting: list[Callable[[str, Sequence[Any]], Sequence[Any]]] = []
"""What casts the inputs of the op of a name; empty but inside of ``autocast`` blocks, one entry for each."""

_WANTED = (True,)

FIXED = [0]
"""The version counter of what cannot be changed in place."""


def mark_view(out: Any, base: Any, op: Op, params: tuple[Any, ...], slot: int) -> None:
    """Note that ``out`` shares memory with ``base``, if it does, so that in-place changes reach both histories."""
    memory, data = out._data.base, base._data
    if memory is None:
        return
    while memory is not None and memory is not data and memory is not data.base:
        memory = getattr(memory, "base", None)  # NumPy's as_strided puts objects of its own in between
    if memory is not None or (data.__class__ is not ndarray and same_memory(out._data, data)):
        counter = out._version_counter = base._counter()
        out._base = base
        out._view_op = (op, params, slot)
        out._view_version = counter[0]
        if base._layout:
            out._base_layout = base._layout
        if base._inference:
            out._inference = True
        elif not base._needs_grad:
            _remember_view(base, out)


def _remember_view(base: Any, view: Any) -> None:
    """Let ``base``, which needs no gradient yet, find its views should an in-place change give it a history."""
    views = base._views
    if views is None:
        views = base._views = []
    elif len(views) >= 64 and not len(views) & (len(views) - 1):
        views[:] = [each for each in views if each() is not None]
    views.append(ref(view))


def _wake_views(base: Any) -> None:
    """Note on the views of ``base``, which has just got a history, that they have one too."""
    bases = [base]
    while bases:
        views, bases[-1]._views = bases[-1]._views, None
        bases.pop()
        for each in views or ():
            view = each()
            if view is not None and view._base is not None:
                view._needs_grad = True
                bases.append(view)


def refresh_view(t: Any) -> None:
    """Give a view whose memory was changed through another tensor the history of its changed base."""
    chain = []
    while t._base is not None and t._view_version != t._version_counter[0]:
        chain.append(t)
        t = t._base
    for view in reversed(chain):
        op, params, slot = view._view_op
        base = view._base
        if view._needs_grad and base._needs_grad:
            _check_layout(view)
            with enable_grad():
                fresh = op.apply((base,), params)
            fresh = fresh[slot] if op.outputs != 1 else fresh
            view._node, view._slot, view._needs_grad = fresh._node, fresh._slot, fresh._needs_grad
        view._view_version = view._version_counter[0]


def _check_layout(view: Any) -> None:
    if view._base_layout != view._base._layout:
        raise RuntimeError(
            f"a view of shape {tuple(view.shape)} cannot be used: its base was reshaped in place (or got other data) "
            "after the view was made, and then one of them was changed; make the view anew"
        )


def check_inplace(name: str, target: Any, recording: bool) -> None:
    """Refuse an in-place change that would lose gradients or break inference mode.

    Raises:
        RuntimeError: ``target`` is (a view of) a leaf that needs a gradient, a view made under ``no_grad``,
            expanded or read-only memory, or an inference tensor.
    """
    if recording and target._needs_grad:
        root = target
        while root._base is not None:
            root = root._base
        if root._node is None and root._needs_grad:
            kind = "a leaf Variable" if root is target else "a view of a leaf Variable"
            raise RuntimeError(
                f"{name}: {kind} that requires grad is being used in an in-place operation; "
                "use no_grad() or work on a clone"
            )
    base = target._base
    while modes.grad and base is not None and not target._needs_grad:
        if base._needs_grad:
            raise RuntimeError(
                f"{name}: A view was created in no_grad mode and is being modified inplace with grad mode enabled; "
                "make both inside no_grad (if the change is not to be tracked) or both outside (if it is)"
            )
        base = base._base
    data = target._data
    if not data.flags.writeable if data.__class__ is ndarray else overlapping(data):
        raise RuntimeError(
            f"{name}: unsupported operation: the memory is read-only, "
            "or more than one element of the written-to tensor "
            "refers to a single memory location. Please clone() the tensor before performing the operation"
        )
    if target._inference and not modes.inference:
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed; "
            "make a clone to get a normal tensor"
        )
    while target._base is not None:
        target = target._base
    node = target._node
    if node.__class__ is OpNode and node.op.result_may_change and node.values.__class__ is tuple:
        node.keep_copies_of(target._data)


def alias(t: Any) -> Any:
    """Another tensor object with the memory, history and version of ``t`` as they are now."""
    other = Tensor._wrap(t._data, t._node, t._slot)
    other._needs_grad = t._needs_grad
    other._version_counter = t._counter()
    return other


def inplace(name: str, function: Callable[..., Any], target: Any, *args: Any, **kwargs: Any) -> Any:
    """Replace the value of ``target`` by ``function(target, ...)``, and its history with it.

    Raises:
        RuntimeError: the result does not fit the target's shape or dtype, or the change is not allowed.
    """
    recorder = profiling.recorder
    event = None if recorder is None else recorder.begin(name, "forward", (target,))
    others = (*args, *kwargs.values())
    recording = modes.grad and (target._needs_grad or any(getattr(a, "_needs_grad", False) for a in others))
    check_inplace(name, target, recording)
    if target._base is not None and recording:
        refresh_view(target)
    # Those who watch see the nodes when what backward needs of the old values has been copied.
    watch = modes.watch
    made: list[Any] = []
    if watch:
        modes.watch = made.append
    try:
        result = function(alias(target), *args, **kwargs)
    finally:
        modes.watch = watch
    new, data = result._data, target._data
    if data.__class__ is not ndarray or new.__class__ is not ndarray:
        check_same_device(name, (data, new))
        new, data = lazy.settled(new), memory_to_change(target)
    if new.shape != data.shape:
        raise RuntimeError(f"{name}: output with shape {data.shape} doesn't match the broadcast shape {new.shape}")
    if new.dtype != data.dtype and dtypes.category(new.dtype) > dtypes.category(data.dtype):
        raise RuntimeError(f"{name}: result type {new.dtype} can't be cast to the desired output type {data.dtype}")
    if data.__class__ is ndarray:
        _overwrite(data, new, result)
    else:
        with beside(data):
            _overwrite(data, new, result)
    target._bump()
    if watch:
        for node in made:
            watch(node)
    if recording and not result._needs_grad:
        result = REGISTRY["fill"](alias(target), 0)  # no gradient passes what has none, such as a comparison
    if result._needs_grad:
        rebase(target, result)
    if event is not None:
        event.finish()
    return target


def _overwrite(data: Any, new: Any, result: Any) -> None:
    """Write the array of ``result`` over that of a tensor; what backward needs of the old values is copied before."""
    if result._needs_grad and isinstance(result._node, OpNode):
        result._node.keep_copies_of(data)
    data[...] = new


def rebase(target: Any, result: Any) -> None:
    """Give ``target``, changed in place, the history of ``result``; its bases get theirs from it."""
    target._node, target._slot, target._needs_grad = result._node, result._slot, True
    _wake_views(target)
    child = target
    while child._base is not None:
        base = child._base
        _check_layout(child)
        child._view_version = child._version_counter[0]
        view_op, params, slot = child._view_op
        before = alias(base)
        changed = Tensor._wrap(base._data)
        wanted = (before._needs_grad, True)
        scatter = REGISTRY["view_scatter"]
        record(
            scatter,
            (before, child),
            (before._data, child._data),
            wanted,
            (view_op, params, slot),
            [changed],
            None,
            False,
        )
        base._node, base._slot, base._needs_grad = changed._node, 0, True
        _wake_views(base)
        child = base


def _first_array(args: Sequence[Any]) -> Any:
    for value in args:
        if hasattr(value, "dtype"):
            return value
    return np.empty(0)


def as_tensors(name: str, inputs: Sequence[Any]) -> Sequence[Any]:
    """The inputs as tensors on one device: arrays and numbers are wrapped, other things refused.

    Raises:
        TypeError: an input is no tensor, array or number.
        RuntimeError: they live on different devices.
    """
    if autocasting:
        inputs = autocasting[-1](name, inputs)
    tensors = None
    place = None
    for k, value in enumerate(inputs):
        if isinstance(value, Tensor):
            kind = type(value._data)
            if place is None:
                place = kind
            elif kind is not place or kind is not ndarray:
                check_same_device(name, [t._data for t in inputs if isinstance(t, Tensor)])
            continue
        if value is None:
            continue
        if tensors is None:
            tensors = list(inputs)
        like = next((t for t in inputs if isinstance(t, Tensor)), None)
        tensors[k] = wrap_operand(name, value, like)
    return inputs if tensors is None else tensors


def is_operand(value: Any) -> bool:
    """Whether ``value`` is a tensor, an array or a number."""
    return isinstance(value, (Tensor, ndarray, np.generic, *_NUMBERS)) or hasattr(value, "__cuda_array_interface__")


def wrap_operand(name: str, value: Any, like: Any = None) -> Any:
    """A number, NumPy array or list as a tensor, on the device of ``like`` where that is a plain number.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(value, _NUMBERS) or (isinstance(value, np.generic) and value.dtype.kind in "biuf"):
        dtype = dtypes.of_scalar(value)  # type: ignore[arg-type]
        # A float keeps its digits until the op's dtype is known.
        dtype = np.dtype(np.float64) if dtype.kind == "f" else dtype
        if like is None or like._data.__class__ is ndarray:
            tensor = Tensor._wrap(np.asarray(value, dtype))
        else:
            with beside(like._data):  # to fill, unlike to copy from the host, can be captured
                tensor = Tensor._wrap(module_of(like._data).full((), value, dtype))
        tensor._is_number = True
        return tensor
    if isinstance(value, ndarray) or hasattr(value, "__cuda_array_interface__"):
        if value.dtype.kind not in "biuf" and value.dtype.name != "bfloat16":
            raise TypeError(f"{name}(): can't use an array of dtype {value.dtype}; expected numbers or booleans")
        if like is not None and (like._data.__class__ is ndarray) != isinstance(value, ndarray):
            raise TypeError(
                f"{name}(): can't mix a tensor on {like.device} with an array on {device_of(value)}; "
                "make it a tensor there, with gg.tensor(array, device=...)"
            )
        return Tensor._wrap(value)
    raise TypeError(f"{name}(): expected a Tensor, an array or a number, but got {type(value).__name__}")


def op(function: Callable[..., Any] | None = None, *, kind: type[Op] | None = None, **options: Any) -> Any:
    """Register the decorated forward as an op; see the module's text and :class:`Op` for the options."""

    def register(forward: Callable[..., Any]) -> Op:
        name = options.pop("name", forward.__name__.strip("_"))
        if name in REGISTRY:
            raise ValueError(f"op {name!r} is registered twice")
        REGISTRY[name] = (kind or Op)(forward, name, **options)
        return REGISTRY[name]

    return register if function is None else register(function)


def public(*, method: bool | str | tuple[str, ...] = True, name: str | None = None, function: bool = True) -> Any:
    """Make the decorated function part of the API: as ``gg.<name>`` and as a Tensor method.

    Args:
        method: False for none, True for one of the same name, else its names.
        name: the public name, when the decorated one's does not serve.
        function: False for a method only.
    """

    def register(target: Any) -> Any:
        label = name or target.__name__.strip("_")
        called = beside_first(target)
        if function:
            FUNCTIONS[label] = called
        if method:
            names = (label,) if isinstance(method, bool) else (method,) if isinstance(method, str) else method
            for each in names:
                METHODS[each] = called
        return called

    return register


def beside_first(function: Any) -> Any:
    """A function of tensors with the CUDA device of its first one as the current one, and with an argument ``out``."""

    @functools.wraps(function)
    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is not None:
            return into(out, call, *args, **kwargs)
        data = getattr(args[0], "_data", None) if args else None
        if data is None or data.__class__ is ndarray:
            return function(*args, **kwargs)
        with beside(data):
            return function(*args, **kwargs)

    # In tracebacks, and where a step that cannot be captured says why, it goes by the function's name.
    code = call.__code__  # type: ignore[attr-defined]
    call.__code__ = code.replace(co_name=function.__name__, co_qualname=function.__qualname__)  # type: ignore[attr-defined]
    return call


def into(out: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What ``function`` returns, written to the tensor ``out`` (or several), which gets its shape and is returned.

    Raises:
        TypeError: ``out`` is not as many tensors as are returned.
        RuntimeError: a gradient would flow, or the dtype of ``out`` cannot hold the result.
    """
    name, results = function.__name__.strip("_"), function(*args, **kwargs)
    several = isinstance(results, tuple)
    targets, results = (out, results) if several else ((out,), (results,))
    if isinstance(targets, Tensor) or [isinstance(t, Tensor) for t in targets] != [True] * len(results):
        raise TypeError(
            f"{name}(): out must be {f'{len(results)} tensors' if several else 'a tensor'}, but got {out!r}"
        )
    if modes.grad and any(t._needs_grad for t in (*targets, *results)):
        raise RuntimeError(
            f"{name}(): functions with out=... arguments don't support automatic differentiation, "
            "but one of the arguments requires grad."
        )
    for target, result in zip(targets, results, strict=True):
        if target.shape != result.shape:
            if target.numel():
                warnings.warn(
                    f"{name}(): out, of shape {tuple(target.shape)}, is resized to {tuple(result.shape)}; "
                    "make it of that shape, or empty it with resize_(0), which PyTorch asks for too",
                    stacklevel=3,
                )
            METHODS["resize_"](target, tuple(result.shape))
        inplace(name, lambda _, result=result: result, target)
    return out


def with_out(function: Callable[..., Any]) -> Any:
    """A function that makes tensors, with an argument ``out`` for the one to fill, whose dtype and device it takes."""

    @functools.wraps(function)
    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is None:
            return function(*args, **kwargs)
        return into(out, function, *args, **{"dtype": out.dtype, "device": out.device} | kwargs)

    return call


def normalize_dim(dim: int, ndim: int) -> int:
    """A dimension counted from the front.

    Raises:
        IndexError: it is out of range.
    """
    if dim.__class__ is int and -ndim <= dim < ndim:
        return dim if dim >= 0 else dim + ndim
    span = max(ndim, 1)
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"dim must be an int, not {type(dim).__name__}")
    dim = dim.__index__()
    if not -span <= dim < span:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-span}, {span - 1}], but got {dim})")
    return dim % span


def normalize_dims(dim: Any, ndim: int) -> tuple[int, ...]:
    """Dimensions counted from the front; None or an empty list stands for all.

    Raises:
        IndexError: one is out of range.
        RuntimeError: one appears twice.
    """
    if dim.__class__ is int and ndim:
        return (normalize_dim(dim, ndim),)
    if dim is None or (isinstance(dim, tuple | list) and not dim):
        return tuple(range(ndim))
    dims = tuple(normalize_dim(d, ndim) for d in (dim if isinstance(dim, tuple | list) else (dim,)))
    if len(set(dims)) != len(dims):
        raise RuntimeError(
            f"dim {sorted(d for d in set(dims) if dims.count(d) > 1)[0]} appears multiple times in the list of dims"
        )
    return dims if ndim else ()
