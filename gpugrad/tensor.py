"""Tensor: an array, whether it needs a gradient, and where it came from.

Its arithmetic and most of its methods are the public ops (``gpugrad.ops``), put
on the class at the end of this file; what stands here is what a tensor is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backend, engine
from .backend import beside, cuda, device, device_of, dtypes, module_of, streams
from .backend.quiet import hush, unhush
from .engine import modes, profiling
from .ops import METHODS, core

_hook_ids = count()


class RemovableHandle:
    """Takes a hook off again: ``handle.remove()``, or at the end of a ``with`` block."""

    def __init__(self, hooks: dict[int, Any], key: int):
        self._hooks, self._key = hooks, key

    def remove(self) -> None:
        """Take the hook off; doing so twice is harmless."""
        self._hooks.pop(self._key, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def add_hook(hooks: dict[int, Any], hook: Callable[..., Any]) -> RemovableHandle:
    """Put a hook into a table of hooks; they run in the order in which they came."""
    key = next(_hook_ids)
    hooks[key] = hook
    return RemovableHandle(hooks, key)


class Size(tuple):
    """The shape of a tensor: a tuple with ``numel``."""

    __slots__ = ()

    def numel(self) -> int:
        """The product of the sizes."""
        return math.prod(self)

    def __repr__(self) -> str:
        return f"gpugrad.Size({list(self)})"


class Tensor:
    """An n-dimensional array that remembers how it was computed.

    Make one with :func:`gpugrad.tensor`, :func:`gpugrad.zeros` and the like;
    ``Tensor(data)`` makes a float tensor from nested sequences and ``Tensor(2, 3)``
    an uninitialised one of that shape, as in PyTorch.

    Attributes:
        shape, ndim, dtype, device: of the data.
        requires_grad: whether ``backward`` computes a gradient for it.
        grad: the gradient accumulated so far, a tensor of the same shape, or None.
        is_leaf: whether a user made it, rather than an op that was recorded.
        grad_fn: the node of the op that made it, or None.
    """

    __array_priority__ = 1000
    __hash__ = object.__hash__

    _data: Any
    _needs_grad = False
    _grad: Tensor | None = None
    _node: Any = None
    _slot = 0
    outputs = 1  # as a parent in the graph, like a node's
    _base: Tensor | None = None
    _view_op: Any = None
    _view_version = 0
    _layout = 0  # how often the shape was changed in place ...
    _base_layout = 0  # ... and the base's, when this view was made of it
    _views: list[Any] | None = None
    _version_counter: list[int] | None = None
    _inference = False
    _is_number = False
    _hooks: dict[int, Any] | None = None
    _accumulated_hooks: dict[int, Any] | None = None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = core.Operator()
        __matmul__ = __rmatmul__ = __pow__ = __rpow__ = __getitem__ = __neg__ = core.Operator()
        __lt__ = __le__ = __gt__ = __ge__ = core.Operator()

    def __init__(self, *data: Any, device: Any = None):
        where = backend.resolve(device)
        if len(data) == 1 and isinstance(data[0], Size):
            data = data[0]
        if len(data) == 1 and isinstance(data[0], float | str):
            raise TypeError(
                f"new(): data must be a sequence (got {type(data[0]).__name__}); use gg.tensor for a number"
            )
        if len(data) == 1 and not isinstance(data[0], int | np.integer):
            array = np.array(_nested(data[0]), dtype=dtypes.get_default_dtype())
        else:
            array = np.zeros(tuple(int(n) for n in data) if data else (0,), dtypes.get_default_dtype())
        self._data = backend.transfer(array, where)

    @staticmethod
    def _wrap(array: Any, node: Any = None, slot: int = 0) -> Tensor:
        """A tensor around a raw array, without a copy."""
        t = Tensor.__new__(Tensor)
        t._data = array
        if node is not None:
            t._node = node
            t._slot = slot
            t._needs_grad = True
        return t

    def _counter(self) -> list[int]:
        """The version counter, shared with the views of the same memory."""
        counter = self._version_counter
        if counter is None:
            counter = self._version_counter = [0]
        return counter

    def _bump(self) -> None:
        self._counter()[0] += 1

    @property
    def _version(self) -> int:
        return self._version_counter[0] if self._version_counter else 0

    # What it is.

    @property
    def shape(self) -> Size:
        """The size of each dimension."""
        return Size(self._data.shape)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._data.ndim

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements."""
        return self._data.dtype

    @property
    def device(self) -> device:
        """Where the elements live."""
        return device_of(self._data)

    @property
    def is_cuda(self) -> bool:
        """Whether the tensor lives on a CUDA device."""
        return self.device.type == "cuda"

    @property
    def is_cpu(self) -> bool:
        """Whether the tensor lives on the CPU."""
        return self.device.type == "cpu"

    @property
    def is_sparse(self) -> bool:
        """False: every element is in memory."""
        return False

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made the tensor."""
        return self.grad_fn is None

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self._data.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._data.nbytes

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        return self.shape if dim is None else self._data.shape[core.normalize_dim(dim, self.ndim)]

    def dim(self) -> int:
        """The number of dimensions."""
        return self._data.ndim

    ndimension = dim

    def numel(self) -> int:
        """The number of elements."""
        return self._data.size

    nelement = numel

    def element_size(self) -> int:
        """Bytes of one element."""
        return self._data.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """Elements between neighbours along each dimension, or along one."""
        strides = tuple(n // self._data.itemsize for n in self._data.strides)
        return strides if dim is None else strides[core.normalize_dim(dim, self.ndim)]

    def data_ptr(self) -> int:
        """The address of the first element."""
        return self._data.ctypes.data if isinstance(self._data, np.ndarray) else self._data.data.ptr

    def record_stream(self, stream: streams.Stream) -> None:
        """Note that a stream works with this memory, which was allocated on another.

        When it is freed, nothing else gets it before the stream has done all it was given till then.
        """
        streams.lend(self._data, stream)

    def is_contiguous(self) -> bool:
        """Whether the elements lie in C order without gaps."""
        return self._data.flags.c_contiguous

    def is_floating_point(self) -> bool:
        """Whether the elements are floating-point numbers."""
        return dtypes.is_floating(self._data.dtype)

    def is_complex(self) -> bool:
        """False: there are no complex tensors."""
        return False

    def is_signed(self) -> bool:
        """Whether the elements can be negative."""
        return self._data.dtype.kind not in "bu"

    def is_inference(self) -> bool:
        """Whether the tensor was made in inference mode: it is never part of a graph."""
        return self._inference

    def get_device(self) -> int:
        """The CUDA device's index, -1 on the CPU."""
        return -1 if self.device.index is None else self.device.index

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self._data.shape[0]

    def __iter__(self) -> Any:
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter(METHODS["unbind"](self))

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise RuntimeError(
                f"Boolean value of Tensor with {'no' if not self._data.size else 'more than one'} values is ambiguous; "
                f"this one has shape {tuple(self._data.shape)}"
            )
        return bool(backend.to_numpy(self._data).reshape(())[()])

    def __contains__(self, element: Any) -> bool:
        return bool((self._data == (element._data if isinstance(element, Tensor) else element)).any())

    def item(self) -> Any:
        """The only element as a Python number; waits for the device.

        Raises:
            RuntimeError: the tensor has not exactly one element.
        """
        if self._data.size != 1:
            raise RuntimeError(f"a Tensor with {self._data.size} elements cannot be converted to Scalar")
        recorder = profiling.recorder
        event = None if recorder is None else recorder.begin("item", "forward", (self,))
        value = backend.to_numpy(self._data).item()
        if event is not None:
            event.finish()
        return value

    def tolist(self) -> Any:
        """The elements as nested lists, or one number."""
        return backend.to_numpy(self._data).tolist()

    def _scalar(self) -> Any:
        if self._data.size != 1:
            raise ValueError(
                f"only one element tensors can be converted to Python scalars; this one has {self._data.size}"
            )
        return self.item()

    def __float__(self) -> float:
        return float(self._scalar())

    def __int__(self) -> int:
        return int(self._scalar())

    def __complex__(self) -> complex:
        return complex(self._scalar())

    def __index__(self) -> int:
        if self._data.size != 1 or self._data.dtype.kind not in "iub":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        plain = self._data.ndim == 0 and type(self) is Tensor
        return format(self.item(), spec) if plain else object.__format__(self, spec)

    # Interchange.

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The elements as a NumPy array that shares the tensor's memory.

        Args:
            force: detach and copy to the host if need be.

        Raises:
            RuntimeError: the tensor needs a gradient.
            TypeError: it is not on the CPU.
        """
        if not force:
            if self._needs_grad:
                raise RuntimeError(
                    "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
                )
            if self.is_cuda:
                raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first")
        return backend.to_numpy(self._data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"a copy is needed to convert {array.dtype} to {dtype}")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Tensor:
        return Tensor._wrap(np.asarray(array))

    def __dlpack__(self, **options: Any) -> Any:
        if self._needs_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        return self._data.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._data.__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> Any:
        if not self.is_cuda:
            raise AttributeError(f"Can't get __cuda_array_interface__ on a tensor on {self.device}; use .cuda() first")
        return self._data.__cuda_array_interface__

    # Gradients.

    @property
    def requires_grad(self) -> bool:
        """Whether ``backward`` computes a gradient for this tensor."""
        return self._needs_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._node is not None and not value:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in "
                "a subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
        if value and not self.is_floating_point():
            raise RuntimeError(f"only Tensors of floating point dtype can require gradients, not {self.dtype}")
        if value and self._inference and not modes.inference:
            raise RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.")
        self._needs_grad = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` and return the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def grad(self) -> Tensor | None:
        """The gradient accumulated by ``backward``, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got {type(value).__name__}")
            if value._data.shape != self._data.shape:
                raise RuntimeError(
                    f"assigned grad has data of shape {tuple(value.shape)}, expected {tuple(self.shape)}"
                )
            if value.dtype != self.dtype:
                raise RuntimeError(f"assigned grad has data of dtype {value.dtype}, expected {self.dtype}")
            if value.device != self.device:
                raise RuntimeError(f"assigned grad is on {value.device}, expected {self.device}")
            core.settle_tensors((value,))
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    @property
    def grad_fn(self) -> Any:
        """The node of the op that made this tensor; None for a leaf."""
        if self._base is not None:
            core.refresh_view(self)
        return self._node

    @property
    def data(self) -> Tensor:
        """The same memory as a tensor without history; assigning swaps the memory."""
        return Tensor._wrap(self._data)

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"data must be a Tensor, got {type(value).__name__}")
        self._data = value._data
        self._layout += 1

    def detach(self) -> Tensor:
        """The same memory as a tensor that needs no gradient; in-place changes are still noticed."""
        t = Tensor._wrap(self._data)
        t._version_counter = self._counter()
        t._inference = self._inference
        return t

    def detach_(self) -> Tensor:
        """Forget the history of this tensor."""
        if self._base is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead")
        self._node, self._slot, self._needs_grad = None, 0, False
        return self

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf tensor in ``.grad`` when it is computed.

        Raises:
            RuntimeError: the tensor needs no gradient.
        """
        import weakref

        if not self._needs_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        node = self.grad_fn
        if node is not None:
            node.retained = node.retained or {}
            node.retained[self._slot] = weakref.ref(self)

    @property
    def retains_grad(self) -> bool:
        """Whether this non-leaf tensor keeps its gradient."""
        kept = self._node.retained if self._node is not None else None
        return bool(kept and self._slot in kept and kept[self._slot]() is self)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call ``hook(grad)`` whenever this tensor's gradient is complete; what it returns replaces it.

        Raises:
            RuntimeError: the tensor needs no gradient.
        """
        if not self._needs_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        node = self.grad_fn
        if node is None:
            self._hooks = {} if self._hooks is None else self._hooks
            return add_hook(self._hooks, hook)
        node.hooks = {} if node.hooks is None else node.hooks
        return add_hook(node.hooks.setdefault(self._slot, {}), hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Call ``hook(tensor)`` each time a gradient has been added to this leaf's ``.grad``.

        Raises:
            RuntimeError: the tensor is no leaf or needs no gradient.
        """
        if self.grad_fn is not None or not self._needs_grad:
            raise RuntimeError(
                "post accumulate grad hooks cannot be registered on non-leaf tensors or without requires_grad"
            )
        self._accumulated_hooks = {} if self._accumulated_hooks is None else self._accumulated_hooks
        return add_hook(self._accumulated_hooks, hook)

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        """Add the gradient of this tensor to the ``.grad`` of the leaves it was computed from.

        Args:
            gradient: the gradient of this tensor, of its shape; 1 for a tensor of one element.
            retain_graph: keep what the graph saved, so that it can be walked again.
            create_graph: record the walk, for gradients of gradients.
            inputs: accumulate into these tensors only.

        Raises:
            RuntimeError: the tensor needs no gradient, has several elements and no
                ``gradient`` was given, the graph was freed by an earlier backward, or a value
                it needs was changed in place.
        """
        backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    # Copies and moves.

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """The tensor in another dtype and on another device: ``to(dtype)``, ``to(device)``, ``to(device, dtype)``,
        ``to(other)``; the tensor itself when nothing changes, unless ``copy`` is true.

        With ``non_blocking``, a copy from page-locked memory (``pin_memory``) to a CUDA device is only begun, on the
        current stream, and so is a copy to the CPU, into page-locked memory: wait (``gpugrad.cuda.synchronize()``)
        before the one is changed, or the other read.
        """
        where, dtype, non_blocking, copy = parse_to(args, kwargs)
        result = self
        if non_blocking and dtype is not None and dtype != self.dtype and self.is_cuda:
            result = core.REGISTRY["to_dtype"](result, dtype)  # on the host it might not have arrived yet
        if where is not None and backend.resolve(where) != self.device:
            result = core.REGISTRY["to_device"](result, backend.resolve(where), non_blocking, result.device)
        if dtype is not None and dtype != result.dtype:
            result = core.REGISTRY["to_dtype"](result, dtype)
        return core.REGISTRY["clone"](self) if copy and result is self else result

    def cpu(self) -> Tensor:
        """The tensor on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None, non_blocking: bool = False) -> Tensor:
        """The tensor on a CUDA device; see :meth:`to`."""
        return self.to("cuda" if device is None else backend.resolve(device), non_blocking=non_blocking)

    def type_as(self, other: Tensor) -> Tensor:
        """The tensor in the dtype and on the device of another."""
        return self.to(other)

    def pin_memory(self, device: Any = None) -> Tensor:
        """A copy in page-locked memory, which a CUDA device reads while the host goes on; itself if it lies there.

        Raises:
            RuntimeError: the tensor is not on the CPU, or CUDA cannot be used.
        """
        if self.is_pinned():
            return self
        array = cuda.pinned(self._data)
        if not (modes.grad and self._needs_grad):
            return Tensor._wrap(array)
        copy = core.REGISTRY["clone"](self)
        copy._data = array
        return copy

    def is_pinned(self, device: Any = None) -> bool:
        """Whether the tensor lies in page-locked memory."""
        return not self.is_cuda and cuda.diagnose().usable and cuda.is_pinned(self._data)

    def share_memory_(self) -> Tensor:
        """The tensor itself: data loading works in threads, which share memory anyway."""
        return self

    def __copy__(self) -> Tensor:
        t = type(self).__new__(type(self))
        t.__dict__.update(self.__dict__)
        return t

    def __deepcopy__(self, memo: dict[Any, Any]) -> Tensor:
        if self._node is not None:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol; use detach()"
            )
        t = type(self).__new__(type(self))
        memo[id(self)] = t
        t._data = self._data.copy()
        t._needs_grad = self._needs_grad
        if self._grad is not None:
            t._grad = self._grad.detach().clone()
        return t

    def __reduce__(self) -> Any:
        return _rebuild, (
            type(self),
            np.asarray(backend.to_numpy(self._data), order="C"),
            str(self.device),
            self._needs_grad,
        )

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *METHODS})

    def __repr__(self) -> str:
        from .printing import tensor_repr

        return tensor_repr(self)


def _rebuild(kind: type[Tensor], array: np.ndarray, where: str, requires_grad: bool) -> Tensor:
    t = kind.__new__(kind)
    t._data = backend.transfer(array, backend.resolve(where))
    t._needs_grad = requires_grad
    return t


def _nested(data: Any) -> Any:
    """Nested sequences with the tensors in them turned into arrays."""
    if isinstance(data, Tensor):
        return backend.to_numpy(data._data)
    if isinstance(data, list | tuple | deque):
        return [_nested(item) for item in data]
    return data


def parse_to(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, bool, bool]:
    """The device, the dtype and the flags ``non_blocking`` and ``copy`` that the arguments of ``to`` mean.

    Raises:
        TypeError: an argument is none of these.
    """
    where, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    flags = [arg for arg in args if isinstance(arg, bool)]
    non_blocking, copy = (
        bool(kwargs.pop(name, flags[k] if k < len(flags) else False)) for k, name in enumerate(("non_blocking", "copy"))
    )
    kwargs.pop("memory_format", None)
    if kwargs:
        raise TypeError(f"to() got unexpected argument(s) {', '.join(kwargs)}")
    for arg in args:
        if isinstance(arg, Tensor):
            where, dtype = arg.device, arg.dtype
        elif isinstance(arg, bool):
            continue
        elif isinstance(arg, device | int) or (isinstance(arg, str) and arg.startswith(("cpu", "cuda"))):
            where = arg
        elif arg is not None:
            dtype = arg
    return where, None if dtype is None else dtypes.as_dtype(dtype), non_blocking, copy


def _starting_gradient(output: Tensor, gradient: Any, taped: bool) -> Any:
    if gradient is None:
        if output._data.size != 1:
            raise RuntimeError(
                f"grad can be implicitly created only for scalar outputs; this one has shape {tuple(output.shape)}"
            )
        if not output.is_floating_point():
            raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {output.dtype}")
        with beside(output._data):
            ones = module_of(output._data).ones(output._data.shape, output.dtype)
        return Tensor._wrap(ones) if taped else ones
    if not isinstance(gradient, Tensor):
        (gradient,) = core.as_tensors("backward", (gradient,))
    if gradient._data.shape != output._data.shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output has a shape of {tuple(gradient.shape)} "
            f"and output has a shape of {tuple(output.shape)}."
        )
    if not gradient._data.ndim:
        gradient = gradient.to(output.device)
    core.check_same_device("backward", [output._data, gradient._data])
    if gradient.dtype != output.dtype:
        gradient = gradient.to(output.dtype)
    return gradient if taped else gradient._data


def _as_list(value: Any) -> list[Any]:
    return [value] if isinstance(value, Tensor) or not isinstance(value, Iterable) else list(value)


def _edge(t: Tensor) -> tuple[Any, int]:
    node = t.grad_fn
    return (t, 0) if node is None else (node, t._slot)


def _walk(outputs: Any, gradients: Any, retain_graph: Any, create_graph: bool, targets: Any, who: str) -> Any:
    outputs = _as_list(outputs)
    gradients = [None] * len(outputs) if gradients is None else _as_list(gradients)
    if len(gradients) != len(outputs):
        raise RuntimeError(f"{who}: got {len(outputs)} tensors and {len(gradients)} gradients")
    roots = []
    for output, gradient in zip(outputs, gradients, strict=True):
        if not isinstance(output, Tensor):
            raise TypeError(f"{who}: expected tensors, but got {type(output).__name__}")
        if not output._needs_grad:
            raise RuntimeError(
                "element 0 of tensors does not require grad and does not have a grad_fn: "
                "the result was not computed from a "
                "tensor with requires_grad=True, or under no_grad()"
            )
        roots.append((*_edge(output), _starting_gradient(output, gradient, create_graph)))
    retain = create_graph if retain_graph is None else retain_graph
    modes = engine.modes
    before = modes.grad, modes.one
    modes.grad = create_graph
    modes.one = roots[0][2] if gradients == [None] and not retain and not create_graph else None
    token = hush()
    try:
        return engine.run(roots, retain_graph=retain, taped=create_graph, targets=targets)
    finally:
        unhush(token)
        modes.grad, modes.one = before


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradients of ``tensors`` to the ``.grad`` of the leaves they were computed from.

    Args:
        tensors: one tensor or several.
        grad_tensors: the gradient of each; may be None for tensors of one element.
        retain_graph, create_graph, inputs: as for :meth:`Tensor.backward`.

    Raises:
        RuntimeError: as for :meth:`Tensor.backward`.
    """
    if inputs is None:
        _walk(tensors, grad_tensors, retain_graph, create_graph, None, "backward")
        return
    inputs = _as_list(inputs)
    if not inputs:
        raise RuntimeError("'inputs' argument to backward() cannot be empty.")
    edges = [_edge(t) for t in inputs]
    found = _walk(tensors, grad_tensors, retain_graph, create_graph, edges, "backward")
    for t, edge in zip(inputs, edges, strict=True):
        if edge in found:
            gradient = found[edge]
            engine.accumulate(t, gradient if create_graph else gradient.copy(), create_graph)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of ``outputs`` (summed) with respect to ``inputs``; no ``.grad`` is touched.

    Args:
        outputs: one tensor or several.
        inputs: the tensors to differentiate by; leaves or not.
        grad_outputs: the gradient of each output; may be None for tensors of one element.
        retain_graph: keep what the graph saved; the same as ``create_graph`` unless given.
        create_graph: record the walk, for gradients of gradients.
        only_inputs: accepted; no other gradient is ever computed.
        allow_unused: give None for an input that the outputs do not depend on, instead of raising.
        materialize_grads: give zeros instead of None.

    Returns:
        One tensor (or None) for each input.

    Raises:
        RuntimeError: an input needs no gradient or is not used, or as for :meth:`Tensor.backward`.
    """
    if is_grads_batched:
        raise RuntimeError("is_grads_batched is not supported: call grad once for each row of grad_outputs")
    inputs = _as_list(inputs)
    for t in inputs:
        if not isinstance(t, Tensor):
            raise TypeError(f"grad: inputs must be tensors, but got {type(t).__name__}")
        if not t._needs_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    edges = [_edge(t) for t in inputs]
    found = _walk(outputs, grad_outputs, retain_graph, create_graph, edges, "grad")
    answers: list[Any] = []
    given: dict[Any, Any] = {}
    for t, edge in zip(inputs, edges, strict=True):
        gradient = None
        if edge in found:
            gradient = given[edge] = found[edge] if create_graph else engine.take(found, edge)
        elif edge in given:
            gradient = engine.copy(given[edge])
        else:
            if materialize_grads:
                with beside(t._data):
                    gradient = module_of(t._data).zeros(t._data.shape, t.dtype)
                gradient = Tensor._wrap(gradient) if create_graph else gradient
            elif not allow_unused:
                raise RuntimeError(
                    "One of the differentiated Tensors appears to not have been used in the graph. "
                    "Set allow_unused=True if this is the desired behavior."
                )
        answers.append(gradient if create_graph or gradient is None else Tensor._wrap(gradient))
    return tuple(answers)


def _install() -> None:
    core.Tensor = Tensor
    for name, method in METHODS.items():
        if name not in Tensor.__dict__:
            setattr(Tensor, name, method)


_install()
