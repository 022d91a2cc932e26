"""The mechanism of elementwise ops: promotion, broadcasting errors, plain numbers, and a short path for the CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import dtypes, graph, lazy, module_of
from ..backend.quiet import hush, unhush
from ..engine import modes, profiling
from . import core
from .core import FIXED, FUNCTIONS, METHODS, Op, OpNode, as_tensors, is_operand, op, record, refresh_view, wrap_operand
from .trace import ForwardKernel

ndarray = np.ndarray
new = object.__new__
_F32, _F64 = np.dtype("float32"), np.dtype("float64")
_I64, _BOOL = np.dtype("int64"), np.dtype("bool")


class Elementwise(Op):
    """An op that maps elements to elements, with broadcasting and PyTorch's dtype promotion.

    Its samples may use numbers and arrays in the place of tensors.  ``promotes`` says how: "common" works in the
    operands' common dtype, "float" turns integers into the default dtype first, "none" leaves dtypes alone.
    ``masks`` names bool inputs that promotion leaves alone.

    Attributes:
        function: the op as a plain function of its inputs and parameters; what users call.
    """

    def __init__(self, forward: Callable[..., Any], name: str, **options: Any):
        self.promotes: str = options.pop("promotes", "common")
        self.inplace: bool = options.pop("inplace", True)
        self.masks: tuple[str, ...] = options.pop("masks", ())
        super().__init__(forward, name, **options)
        self.arity = len(self.inputs)
        self.chain(self._chain)
        if self.aux or getattr(forward, "several_passes", False):
            self.kernel(ForwardKernel(self))
        plain = not self.params and not self.aux
        if plain and self.inputs == ("input",):
            self.function = _unary_function(self)
        elif plain and self.inputs == ("input", "other"):
            self.function = binary_function(self)
        else:
            self.function = _function(self)
        self.function.__name__ = self.function.__qualname__ = name
        self.function.__doc__ = forward.__doc__
        self.function.__module__ = forward.__module__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def _chain(self, args: tuple[Any, ...], recording: bool) -> Any:
        count = len(self.inputs)
        out = lazy.apply(self.name, args[:count], args[count:])
        if out is NotImplemented or not self.aux:
            return out
        if not recording or self.aux_of is None:
            return out, None
        named = {name: lazy.lift(a) for name, a in zip(self.inputs + self.params, args, strict=True)}
        wanted = core.parameters_of(self.aux_of)[0][1:]
        return out, self.aux_of(core.raw, *[named[name] for name in wanted])

    def compute(self, args: tuple[Any, ...], xp: Any, recording: bool) -> Any:
        """As :meth:`Op.compute`, 16-bit floating point in float32, rounded once at the end."""
        if xp is not np:
            result = self.put_off(args, recording)
            if result is not NotImplemented:
                return result
            args = lazy.settled(args)
        half = core._first_array(args).dtype
        if half.itemsize != 2 or not dtypes.is_floating(half):
            return super().compute(args, xp, recording)
        if xp is not np:
            with core.beside(core._first_array(args)):
                result = self.by_kernel(args, recording)
            if result is not NotImplemented:
                return result
        wide = [a.astype(np.float32) if getattr(a, "dtype", None) == half else a for a in args]
        result = super().compute(tuple(wide), xp, recording)
        narrow = [
            a.astype(half) if getattr(a, "dtype", None) == np.float32 else a for a in (result if self.aux else [result])
        ]
        return tuple(narrow) if self.aux else narrow[0]

    def _compute(self, args: tuple[Any, ...], xp: Any, recording: bool) -> Any:
        if xp is not np and isinstance(args[0], core._NUMBERS):
            arrays = [
                a for k, a in enumerate(args[: self.arity]) if hasattr(a, "dtype") and self.inputs[k] not in self.masks
            ]
            dtype = dtypes.result_type((dtypes.of_scalar(args[0]), 0), (arrays[0].dtype, 2))
            args = (xp.full((), args[0], dtype), *args[1:])  # forwards ask their input for its dtype
        return super()._compute(args, xp, recording)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        names = self.inputs + self.params
        values = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names or name in values:
                raise TypeError(
                    f"{self.name}() got an unexpected or repeated argument {name!r}; it takes {', '.join(names)}"
                )
            values[name] = value
        if missing := [name for name in names if name not in values]:
            raise TypeError(f"{self.name}() is missing the argument(s) {', '.join(missing)}")
        return tuple(values[name] for name in names)

    def shape_error(self, args: tuple[Any, ...], error: Exception) -> Exception:
        shapes = [tuple(t.shape) for t in args if hasattr(t, "shape")]
        try:
            np.broadcast_shapes(*shapes)
        except ValueError:
            pairs = zip(shapes[0][::-1], shapes[-1][::-1], strict=False)
            where = next((k for k, (m, n) in enumerate(pairs) if m != n and 1 not in (m, n)), 0)
            dim = max(len(s) for s in shapes) - 1 - where
            return RuntimeError(
                f"{self.name}: the shapes {' and '.join(map(str, shapes))} do not broadcast: "
                f"they differ at non-singleton dimension {dim}"
            )
        return error

    def general(self, args: tuple[Any, ...]) -> Any:
        if len(args) != self.arity + len(self.params):
            raise TypeError(
                f"{self.name}() takes {self.arity + len(self.params)} arguments "
                f"({', '.join(self.inputs + self.params)}), but got {len(args)}"
            )
        recorder = profiling.recorder
        event = None if recorder is None else recorder.begin(self.name, "forward", args[: self.arity])
        operands: Sequence[Any] = args[: self.arity]
        params = args[self.arity :]
        plain = None if core.autocasting else self._alike(operands)
        if plain is not None:
            return self._apply(*plain, np, params, event)
        numbers: dict[int, Any] = {}
        like, others = None, []
        for k, value in enumerate(operands):
            if isinstance(value, core.Tensor) and value._data.__class__ is not ndarray:
                like = value
            elif value is not None:
                others.append(k)
        if like is not None and others:
            operands, numbers = self._with_numbers_on_the_host(operands, others, like)
        tensors = list(as_tensors(self.name, [None if k in numbers else a for k, a in enumerate(operands)]))
        for k, value in numbers.items():
            given = operands[k]
            tensors[k] = given if isinstance(given, core.Tensor) else wrap_operand(self.name, value)
        dtype = self.working_dtype([t for t in tensors if t is not None])
        arrays: list[Any] = []
        token = hush()
        try:
            for k, (name, t) in enumerate(zip(self.inputs, tensors, strict=True)):
                a: Any = None if t is None else t._data
                if k in numbers:
                    whole = dtype is not None and not dtypes.is_floating(dtype)
                    a = a.astype(dtype).item() if whole else numbers[k]
                    if not self.differentiable and a.__class__ is float and dtype is not None:
                        a = float(dtype.type(a))  # what is compared is of one precision
                elif a is not None and dtype is not None and a.dtype != dtype and name not in self.masks:
                    a = a.astype(dtype) if a.__class__ is ndarray else lazy.cast(a, dtype)
                arrays.append(a)
        finally:
            unhush(token)
        return self._apply(tensors, arrays, module_of(core._first_array(arrays)), params, event)

    def _alike(self, operands: Sequence[Any]) -> tuple[list[Any], list[Any]] | None:
        """CPU tensors of one floating-point dtype (but for masks), numbers among them made such, and their arrays.

        None if they are anything else, which ``general`` knows what to do with.
        """
        dtype, tensors, numbers = None, list(operands), []
        arrays: list[Any] = []
        for k, t in enumerate(tensors):
            if isinstance(t, core.Tensor):
                array = t._data
                if array.__class__ is not ndarray or t._is_number:
                    return None
                arrays.append(array)
                if self.inputs[k] not in self.masks:
                    if dtype is None:
                        dtype = array.dtype
                    if array.dtype is not dtype or dtype.kind != "f":
                        return None
                continue
            arrays.append(None)
            if t.__class__ is float or t.__class__ is int:
                numbers.append(k)
            elif t is not None:
                return None
        if dtype is None:
            return None
        if numbers:
            if self.masks and any(self.inputs[k] in self.masks for k in numbers):
                return None
            token = hush()
            try:
                for k in numbers:
                    arrays[k] = np.asarray(tensors[k], dtype)
                    tensors[k] = core.Tensor._wrap(arrays[k])
            finally:
                unhush(token)
        return tensors, arrays

    def _apply(self, tensors: Sequence[Any], arrays: list[Any], xp: Any, params: tuple[Any, ...], event: Any) -> Any:
        """The result for tensors whose arrays have the dtype to work in."""
        wanted = tuple([t is not None and t._needs_grad for t in tensors])
        recording = modes.grad and self.differentiable and True in wanted
        token = hush()
        try:
            result = self.compute((*arrays, *params), xp, recording)
        except ValueError as error:
            raise self.shape_error(tuple(tensors), error) from None
        finally:
            unhush(token)
        aux = None
        if self.aux:
            result, aux = result
        out = self._wrap(result, xp)
        if recording:
            record(self, tensors, tuple(arrays), wanted, params, [out], aux, False)
        elif modes.inference:
            out._inference = True
        if event is not None:
            event.finish((out,))
        return out

    def _with_numbers_on_the_host(
        self, operands: Sequence[Any], others: list[int], like: Any
    ) -> tuple[Sequence[Any], dict[int, Any]]:
        """What may stay on the host beside tensors on a device: to copy it takes longer than the op.

        Args:
            others: the positions of what is not on the device of ``like``.

        Returns:
            The operands; of those that are numbers, or CPU tensors without dimensions, the values by position. Such
            tensors mix with tensors on any device; those that must be on it are moved.
        """
        operands = list(operands)
        numbers: dict[int, Any] = {}
        for k in others:
            value = operands[k]
            if self.inputs[k] in self.masks:
                continue
            if isinstance(value, np.generic):
                value = value.item()
            elif isinstance(value, core.Tensor) and not value._data.ndim:
                if value._needs_grad and modes.grad and self.differentiable:
                    operands[k] = value.to(like.device)
                else:
                    tensor, value = value, value.item()
                    if (recording := graph.current()) is not None:
                        # It has the number, and is of no use when the tensor has another.
                        recording.guards.append(functools.partial(_holds, tensor, value))
            if isinstance(value, core._NUMBERS):
                numbers[k] = value
        if self.masks and numbers and all(k in numbers or name in self.masks for k, name in enumerate(self.inputs)):
            first = next(iter(numbers))  # has the result's dtype
            del numbers[first]
            if isinstance(operands[first], core.Tensor):
                operands[first] = operands[first].to(like.device)
        return operands, numbers

    def general_operator(self, args: tuple[Any, ...]) -> Any:
        """As ``general``; NotImplemented, so that Python asks the other operand, when that is nothing known here."""
        return self.general(args) if is_operand(args[1]) else NotImplemented

    def working_dtype(self, tensors: list[Any]) -> Any:
        """The dtype the forward computes in; None leaves each operand as it is."""
        if self.promotes == "none":
            return None
        if len(tensors) == 1 and not tensors[0]._is_number:
            dtype = tensors[0]._data.dtype
        else:
            dtype = dtypes.result_type(*[ranked(t) for t in tensors])
        if self.promotes == "float" and not dtypes.is_floating(dtype):
            dtype = dtypes.get_default_dtype()
        return dtype


def _holds(t: Any, number: Any) -> bool:
    found = t.item()
    return found == number or (found != found and number != number)


def ranked(t: Any) -> tuple[np.dtype, int]:
    """A tensor's dtype and rank class, as promotion counts them."""
    dtype = t._data.dtype
    if t._is_number:
        return (dtypes.get_default_dtype() if dtype.kind == "f" else dtype), 0
    return dtype, 2 if t._data.ndim else 1


def _function(op: Elementwise) -> Callable[..., Any]:
    def function(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is not None:
            return core.into(out, function, *args, **kwargs)
        return op.general(op.bind(args, kwargs) if kwargs else args)

    return function


def _discrete_function(op: Elementwise, general: Callable[[tuple[Any, ...]], Any]) -> Callable[..., Any]:
    """The function of an op without parameters for CPU tensors of int64 or of bool, which need no gradient.

    A second operand may be a number where it is of int64. All else is left to ``general``.
    """
    forward, keeps_dtype = op.forward, op.promotes != "float"

    def function(*operands: Any) -> Any:
        a = operands[0]._data
        dtype = a.dtype
        if (
            not keeps_dtype
            or a.__class__ is not ndarray
            or (dtype is not _I64 and dtype is not _BOOL)
            or modes.inference
            or core.autocasting
            or profiling.recorder is not None
        ):
            return general(operands)
        arrays: tuple[Any, ...] = (a,)
        for other in operands[1:]:
            if other.__class__ is int and dtype is _I64 and -(1 << 63) <= other < 1 << 63:
                arrays += (np.asarray(other, dtype),)
                continue
            b = getattr(other, "_data", None)
            if b.__class__ is not ndarray or b.dtype is not dtype:
                return general(operands)
            arrays += (b,)
        token = hush()
        try:
            out = forward(np, *arrays)
        except ValueError as error:
            raise op.shape_error(operands, error) from None
        finally:
            unhush(token)
        result = new(core.Tensor)
        result._data = out if out.__class__ is ndarray else np.asarray(out)
        return result

    return function


# The two functions below do what `Elementwise.general` and `core.record` do, unrolled for CPU tensors of one
# floating-point dtype: there a call costs the NumPy call and about two microseconds.


def _unary_function(op: Elementwise) -> Callable[..., Any]:
    forward, general, differentiable = op.forward, op.general, op.differentiable
    discrete = _discrete_function(op, general)
    recorded: Any = None

    def function(input: Any, *, out: Any = None) -> Any:
        nonlocal recorded
        if out is not None:
            return core.into(out, function, input)
        try:
            a = input._data
            dtype = a.dtype
        except AttributeError:
            return general((input,))
        if a.__class__ is not ndarray or (dtype is not _F32 and dtype is not _F64):
            return discrete(input)
        recorder = profiling.recorder
        event = None if recorder is None else recorder.begin(op.name, "forward", (input,))
        if not input._needs_grad or not modes.grad or not differentiable:
            if modes.inference:
                return general((input,))
            result = new(core.Tensor)
            token = hush()
            try:
                out = forward(np, a)
            finally:
                unhush(token)
            result._data = out if out.__class__ is ndarray else np.asarray(out)
            if event is not None:
                event.finish((result,))
            return result
        if modes.watch:
            return general((input,))
        if recorded is None:
            plan = op.plan((True,))
            recorded = (plan, bool(plan.saved_inputs), plan.saves_out, bool(plan.shapes))
        plan, saves_input, saves_out, saves_shape = recorded
        if input._base is not None:
            refresh_view(input)
        token = hush()
        try:
            out = forward(np, a)
        finally:
            unhush(token)
        if out.__class__ is not ndarray:
            out = np.asarray(out)
        node = OpNode(op, plan, (input._node or input,), out.shape, dtype)
        if input._slot:
            node.slots = (input._slot,)
        result = new(core.Tensor)
        result._data = out
        result._node = node
        result._needs_grad = True
        if saves_input:
            counter = input._version_counter or input._counter()
            if saves_out:
                mine = result._version_counter = [0]
                node.values, node.versions = (a, out), (counter, counter[0], mine, 0)
            else:
                node.values, node.versions = (a,), (counter, counter[0])
        elif saves_out:
            mine = result._version_counter = [0]
            node.values, node.versions = (out,), (mine, 0)
        if saves_shape:
            node.values = (*(node.values or ()), a.shape)
        if event is not None:
            event.finish((result,))
        return result

    return function


def binary_function(op: Elementwise, as_operator: bool = False) -> Callable[..., Any]:
    """The function of a two-input op; ``as_operator``, what stands behind its symbol."""
    forward, differentiable = op.forward, op.differentiable
    general = op.general_operator if as_operator else op.general
    discrete = _discrete_function(op, general)
    plans: list[Any] = [None] * 4

    def function(input: Any, other: Any, *, out: Any = None) -> Any:
        if out is not None:
            return core.into(out, function, input, other)
        try:
            a = input._data
            dtype = a.dtype
            if a.__class__ is not ndarray or (dtype is not _F32 and dtype is not _F64):
                return discrete(input, other)
            kind = other.__class__
            if kind is float or kind is int:
                b = other
                mask = 1 if input._needs_grad else 0
            else:
                b = other._data
                if b.__class__ is not ndarray or b.dtype is not dtype:
                    return general((input, other))
                mask = 1 if input._needs_grad else 0
                if other._needs_grad:
                    mask += 2
        except AttributeError:
            return general((input, other))
        if modes.watch:
            return general((input, other))
        recorder = profiling.recorder
        event = None if recorder is None else recorder.begin(op.name, "forward", (input, other))
        token = hush()
        try:
            out = forward(np, a, b)
        except ValueError as error:
            raise op.shape_error((input, other), error) from None
        finally:
            unhush(token)
        if out.__class__ is not ndarray:
            out = np.asarray(out)
        if not mask or not differentiable or not modes.grad:
            if modes.inference:
                return general((input, other))
            result = new(core.Tensor)
            result._data = out
            if event is not None:
                event.finish((result,))
            return result
        plan = plans[mask] or plans.__setitem__(mask, op.plan((mask & 1 == 1, mask > 1))) or plans[mask]
        first = second = None
        slots = None
        if mask & 1:
            if input._base is not None:
                refresh_view(input)
            first = input._node or input
            if input._slot:
                slots = (input._slot, 0)
        if mask & 2:
            if other._base is not None:
                refresh_view(other)
            second = other._node or other
            if other._slot:
                slots = (slots[0] if slots else 0, other._slot)
        node = OpNode(op, plan, (first, second), out.shape, dtype)
        if slots is not None:
            node.slots = slots
        result = new(core.Tensor)
        result._data = out
        result._node = node
        result._needs_grad = True
        saved = plan.saved_inputs
        values: tuple[Any, ...] = ()
        versions: tuple[Any, ...] = ()
        if saved:
            for i in saved:
                source, array = (other, b) if i else (input, a)
                if array.__class__ is ndarray:
                    if source._inference:
                        return general((input, other))
                    counter = source._version_counter or source._counter()
                    versions += (counter, counter[0])
                values += (array,)
            if len(versions) != 2 * len(values):
                versions = _with_numbers(values, versions)
        if plan.saves_out:
            counter = result._version_counter = [0]
            values += (out,)
            versions += (counter, 0)
        for i in plan.shapes:
            values += ((a, b)[i].shape,)
        if values:
            node.values = values
            node.versions = versions
        if event is not None:
            event.finish((result,))
        return result

    return function


def _with_numbers(values: tuple[Any, ...], versions: tuple[Any, ...]) -> tuple[Any, ...]:
    """Put the version that never changes in the place of saved Python numbers."""
    rest = iter(versions)
    found: tuple[Any, ...] = ()
    for value in values:
        found += (next(rest), next(rest)) if value.__class__ is ndarray else (FIXED, 0)
    return found


def elementwise(**options: Any) -> Callable[[Callable[..., Any]], Elementwise]:
    """Register an elementwise op and make it public: ``gg.<name>``, ``Tensor.<name>`` and ``Tensor.<name>_``."""
    shown = options.pop("public", True)
    aliases = options.pop("aliases", ())

    def register(forward: Callable[..., Any]) -> Elementwise:
        made: Elementwise = op(forward, kind=Elementwise, **options)
        if shown:
            for label in (made.name, *aliases):
                FUNCTIONS[label] = METHODS[label] = made.function
                if made.inplace and made.differentiable:
                    METHODS[f"{label}_"] = inplace_method(label, made.function)
                    if made.arity == 1:
                        FUNCTIONS[f"{label}_"] = METHODS[f"{label}_"]
        return made

    return register


def inplace_method(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The Tensor method ``name_`` that writes what ``function`` computes into the tensor itself."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return core.inplace(f"{name}_", function, self, *args, **kwargs)

    method.__name__ = method.__qualname__ = f"{name}_"
    method.__doc__ = f"In-place version of ``{name}``: changes this tensor and returns it."
    return method


def unary(low: float = -2.0, high: float = 2.0) -> Callable[[Any], list[Any]]:
    """Samples of a one-input op over an interval."""
    return lambda t: [(t(2, 3, low=low, high=high),), (t(low=low, high=high),)]


def binary(low: float = -2.0, high: float = 2.0) -> Callable[[Any], list[Any]]:
    """Samples of a two-input op over an interval: same shape, broadcasting both ways, a number."""
    return lambda t: [
        (t(2, 3, low=low, high=high), t(2, 3, low=low, high=high)),
        (t(2, 1, 3, low=low, high=high), t(4, 1, low=low, high=high)),
        (t(low=low, high=high), t(3, low=low, high=high)),
        (t(2, 3, low=low, high=high), 0.5 * (low + high) + 0.25 * (high - low)),
    ]
