"""``gg.compile``: a training step, or a model's forward, as one captured CUDA graph.

A small network's step is hundreds of launches of a few microseconds each, and Python
cannot issue them as fast as a GPU finishes them.  A captured step is one launch.

The first calls run as usual.  Then a call is captured: it goes through the function once
more, recording what it gives the device to do, and from then on the record is run.  What
the function reads from Python is fixed by that, except for what is known to change from
step to step: the learning rate and the step count of the optimizers, the state of the
random generator, the loss scale, and the contents of the tensors that are passed in.
Elementwise ops are put off while a call is captured and become few kernels
(``backend/lazy.py``).

What else a record takes for granted (shapes and dtypes, training or evaluation mode,
which gradients exist, an optimizer's other options, what the variables around the function
are bound to) is compared at each call, and where it has changed the call is captured anew.
"""

from __future__ import annotations

import functools
import inspect
import linecache
import os
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .amp.autocast_mode import get_autocast_dtype, is_autocast_enabled
from .backend import cuda, dtypes, graph, lazy, module_of
from .backend.device import device
from .engine import Node, modes, profiling
from .nn.modules.module import Module, watch_calls
from .optim.optimizer import Optimizer
from .tensor import Tensor

_MOST = 8
"""Records kept for one signature; the oldest makes room for another."""

_HERE = __file__
_PACKAGE = __file__.rsplit("capture.py", 1)[0]
_MODULES = _PACKAGE + os.path.join("nn", "modules")
_PLAIN = (int, float, complex, bool, str, bytes, type(None), device, np.dtype)
_BY_IDENTITY = (Module, Optimizer)


def compile(
    model: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = "cudagraphs",
    mode: str | None = None,
    options: dict[str, Any] | None = None,
    disable: bool = False,
    warmup: int = 2,
) -> Any:
    """Run ``model``, a function or a Module, as a captured CUDA graph; on the CPU as it is.

    Usable as a decorator, with and without arguments. A function, usually a whole training step (forward, loss,
    ``backward``, ``optimizer.step()``), is captured for each combination of shapes, dtypes and plain arguments. Of a
    Module the forward is captured where gradients are off; with gradients on it runs as usual.

    The tensors it returns are copies, without a history. A gradient that a captured step leaves in ``.grad`` is
    overwritten by the next run. Tensors that are passed in are copied to where the record reads them, unless they
    require gradients: those are part of it.

    Args:
        model: what to compile; None to get a decorator.
        fullgraph, dynamic, backend, mode, options: accepted for PyTorch's sake. A step is always one graph, and
            shapes are always those of the call.
        disable: return ``model`` as it is.
        warmup: how many calls run as usual before one is captured. At least one: optimizers make their state in it.

    Raises:
        TypeError: ``model`` cannot be called.
        ValueError: ``warmup`` is below 1.
        RuntimeError: when called, if the function does what cannot be captured, such as reading a value on the host.
            The message names the operation and the line.
    """
    if warmup < 1:
        raise ValueError(
            f"warmup must be at least 1, since optimizers make their state in the first step, got {warmup}"
        )
    if model is None:
        return functools.partial(compile, disable=disable, warmup=warmup)
    if not callable(model):
        raise TypeError(f"compile() expects a function or a Module, but got {type(model).__name__}")
    if disable:
        return model
    if isinstance(model, Module):
        model.__dict__["forward"] = Compiled(model.forward, warmup, only_without_grad=True)
        return model
    return Compiled(model, warmup)


class Compiled:
    """A function that is captured; see :func:`compile`."""

    def __init__(self, function: Callable[..., Any], warmup: int, only_without_grad: bool = False):
        self._function = function
        self._warmup = warmup
        self._only_without_grad = only_without_grad
        self._variants: dict[Any, _Variant] = {}
        functools.update_wrapper(self, function)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run a record of the function that fits the arguments, or the function itself."""
        if (
            not cuda.diagnose().usable
            or (self._only_without_grad and modes.grad)
            or modes.anomaly
            or graph.current() is not None
        ):
            return self._function(*args, **kwargs)
        tensors: list[Tensor] = []
        lower = get_autocast_dtype("cuda") if is_autocast_enabled("cuda") else None
        key = _signature((args, kwargs), tensors), modes.grad, modes.inference, dtypes.get_default_dtype(), lower
        variant = self._variants.get(key)
        if variant is None:
            variant = self._variants[key] = _Variant(self._warmup)
        for record in variant.records:
            if record.recording.is_valid():
                return record.run(tensors)
        if variant.calls_left and not any(record.recording.is_valid(switched=True) for record in variant.records):
            variant.calls_left -= 1
            with _Watch() as seen:
                result = self._function(*args, **kwargs)
            variant.watch = seen
            if variant.place(tensors) is None:
                variant.calls_left = -1  # nothing here is on a CUDA device
            return result
        where = variant.place(tensors)
        assert where is not None
        for t in tensors:
            if t.device != where:
                raise RuntimeError(
                    f"a compiled function that works on {where} was given a tensor of shape {tuple(t.shape)} on "
                    f"{t.device}, whose contents would be those of this call for ever; pass it on {where}"
                )
        record = _Record(self._function, args, kwargs, tensors, where, variant.watch)
        variant.records = [*variant.records[1 - _MOST :], record]
        variant.calls_left = 1  # should a guard fail, one call warms up what differs
        return record.run(tensors)


def _signature(value: Any, tensors: list[Tensor]) -> Any:
    """What a record takes for granted of an argument; appends the tensors whose contents may change."""
    if isinstance(value, Tensor):
        data = value._data
        if value._needs_grad:
            return Tensor, id(data), value.is_leaf
        tensors.append(value)
        return Tensor, data.shape, data.dtype, value.device
    if isinstance(value, tuple | list):
        return type(value), *[_signature(item, tensors) for item in value]
    if isinstance(value, dict):
        return dict, *[(name, _signature(item, tensors)) for name, item in value.items()]
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, _BY_IDENTITY) or callable(value):
        return type(value), id(value)
    raise TypeError(
        f"a compiled function was given a {type(value).__name__}, of which it cannot tell whether its contents change; "
        "pass tensors on the device, plain values, or tuples, lists and dicts of them"
    )


def _map(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """``value`` with ``function`` applied to what is of a ``kind`` in it."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, tuple | list):
        items = [_map(item, kind, function) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {name: _map(item, kind, function) for name, item in value.items()}
    return value


class _Watch:
    """Notes, inside its block, the modules that are called and the leaves that get gradients."""

    def __init__(self) -> None:
        self.modules: dict[Module, bool] = {}
        self.leaves: list[tuple[Any, Any]] = []

    def __enter__(self) -> _Watch:
        self._before, modes.leaves = modes.leaves, self.leaves
        self._calls = watch_calls(lambda module: self.modules.setdefault(module, module.training))
        self._calls.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._calls.__exit__(*exc)
        modes.leaves = self._before

    def tensors(self) -> Iterable[Tensor]:
        """The parameters and buffers of the modules, and the leaves."""
        for module in self.modules:
            yield from (t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None)
        yield from (leaf for leaf, _ in self.leaves)


class _Variant:
    """What is known of the calls of one signature."""

    def __init__(self, warmup: int):
        self.calls_left = warmup
        self.records: list[_Record] = []
        self.watch = _Watch()

    def place(self, tensors: list[Tensor]) -> device | None:
        """The one CUDA device that is worked on, if there is one."""
        places = dict.fromkeys(t.device for t in (*tensors, *self.watch.tensors()) if t.device.type == "cuda")
        if len(places) > 1:
            raise RuntimeError(
                f"a function that uses several devices ({', '.join(map(str, places))}) cannot be compiled; "
                "compile what runs on each"
            )
        return next(iter(places), None)


class _Record:
    """A captured call: where its inputs go, what it returned, and the gradients it leaves."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any,
        tensors: list[Tensor],
        where: device,
        before: _Watch,
    ):
        self.recording = recording = graph.Recording(where)
        self._name = f"CUDA graph of {getattr(function, '__name__', type(function).__name__)}"
        copies = iter([Tensor._wrap(module_of(t._data).array(t._data, order="C")) for t in tensors])
        taken: list[Any] = []

        def replace(t: Tensor) -> Tensor:
            if t._needs_grad:
                return t
            taken.append(next(copies))
            return taken[-1]

        args, kwargs = _map((args, kwargs), Tensor, replace)
        self._inputs = [t._data for t in taken]
        self._held = args, kwargs  # whose ids are in the signature
        start = {leaf: leaf._grad for leaf, _ in before.leaves}
        watch = _Watch()
        try:
            with watch:
                result = recording.record(lambda: function(*args, **kwargs))
        except Exception as error:
            for leaf, gradient in start.items():
                leaf._grad = gradient
            raise explained(error) from error
        self._outputs: list[Any] = []
        self._result = _map(result, Tensor, self._output)
        self._leave_gradients(watch, start)
        self._guard_modules(watch)
        recording.guards.append(_guard_names(function))

    def _output(self, t: Tensor) -> Any:
        if not t.is_cuda:
            return t
        self._outputs.append(lazy.settled(t._data))
        return _Slot(len(self._outputs) - 1)

    def _leave_gradients(self, watch: _Watch, start: dict[Any, Any]) -> None:
        first: dict[Any, Any] = {}
        for leaf, gradient in watch.leaves:
            first.setdefault(leaf, gradient)
        self._gradients = [(leaf, leaf._grad) for leaf in first]
        for leaf, gradient in first.items():
            # Where a gradient was there at first and gone when the step added to it, the step itself removed it.
            if gradient is not None or start.get(leaf) is None:
                self.recording.guards.append(functools.partial(_has_gradient, leaf, gradient))

    def _guard_modules(self, watch: _Watch) -> None:
        fixed = [(t, t._data) for t in dict.fromkeys(watch.tensors())]
        flags = list(watch.modules.items())
        self.recording.guards.append(
            lambda: all(t._data is data for t, data in fixed) and all(module.training is flag for module, flag in flags)
        )

    def run(self, tensors: list[Tensor]) -> Any:
        """Run it on the contents of ``tensors``."""
        xp = cuda.cupy()
        recorder = profiling.recorder
        event = None if recorder is None else recorder.begin(self._name, "forward", tensors, self.recording.device)
        for into, t in zip(self._inputs, tensors, strict=True):
            xp.copyto(into, t._data)
        self.recording.run()
        for leaf, gradient in self._gradients:
            leaf._grad = gradient
        tensors = [Tensor._wrap(array.copy()) for array in self._outputs]
        if event is not None:
            event.finish()
        for note in self.recording.after:
            note()
        if isinstance(self._result, _Slot):
            return tensors[0]
        return _map(self._result, _Slot, lambda slot: tensors[slot.number])


class _Slot:
    """Stands in a result for one of its tensors."""

    def __init__(self, number: int):
        self.number = number


def _guard_names(function: Any) -> Callable[[], bool]:
    """A guard that the variables around a function are bound to what they were; it keeps that alive."""
    function = inspect.unwrap(getattr(function, "__func__", function))
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    names = getattr(function, "__globals__", {})
    variables = [(name, names[name]) for name in getattr(code, "co_names", ()) if name in names]
    inner = [(cell, cell.cell_contents) for cell in cells if _is_bound(cell)]
    return lambda: (
        all(_is_same(names.get(name), value) for name, value in variables)
        and all(_is_bound(cell) and _is_same(cell.cell_contents, value) for cell, value in inner)
    )


def _is_bound(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _is_same(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, _PLAIN) and type(a) is type(b) and a == b)


def _has_gradient(leaf: Any, gradient: Any) -> bool:
    return leaf._grad is gradient


def explained(error: Exception) -> RuntimeError:
    """An error that says what could not be captured: the operation, and the line that called for it."""
    frames = [
        (frame, number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(_HERE)
    ]
    ours = [frame.f_code.co_filename.startswith(_PACKAGE) for frame, _ in frames]
    # The last line that is not of this package, and what of the package it led to.
    last = max((k for k, inside in enumerate(ours) if not inside and True in ours[k:]), default=None)
    if last is None:
        return RuntimeError(f"the function could not be captured into a CUDA graph: {error}")
    frame, number = frames[last]
    place = frame.f_code.co_filename
    rest = [frame for frame, _ in frames[last + 1 :]]
    outside_modules = [f for f in rest if not f.f_code.co_filename.startswith(_MODULES)]
    what = (outside_modules or rest)[0].f_code.co_name
    walked = [f for f in rest if isinstance(f.f_locals.get("self"), Node)]
    if walked:
        what = f"the gradient of {walked[0].f_locals['self'].name}"
    line = linecache.getline(place, number).strip()
    return RuntimeError(
        f"{what} cannot be captured into a CUDA graph ({str(error).splitlines()[0]}); it was called at "
        f"{place}:{number}: {line}\n"
        "Captured work must not wait for the device: read values after the step, index with integers instead of "
        "boolean masks, and move data to the device before it"
    )
