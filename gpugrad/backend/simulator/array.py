"""The array of the simulated device, and what may be done with it: what CuPy has, on NumPy's code.

Every function call passes through :func:`perform`, which looks at the operands as
CuPy does (arrays of the current device, no NumPy arrays), puts results into device
memory, and adds the call to the recording of a stream that is being captured.
"""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from . import api, memory, runtime
from .memory import MemoryPointer

_API = api.load()

# What needs the host to know the result, or is a call of cuBLAS or cuSOLVER: not while capturing. Sorting can be
# captured: CuPy 14 calls Thrust with ``par_nosync``, under which its sorts wait for nothing, and with an allocator of
# the current pool.
_NOT_CAPTURED = frozenset(
    [
        "nonzero",
        "argwhere",
        "flatnonzero",
        "unique",
        "unique_values",
        "unique_counts",
        "unique_inverse",
        "unique_all",
        "extract",
        "compress",
        "place",
        "matmul",
        "dot",
        "vdot",
        "inner",
        "outer",
        "tensordot",
        "einsum",
        "kron",
        "correlate",
        "convolve",
        "sort_complex",
        "median",
        "percentile",
        "quantile",
        "histogram",
        "bincount",
        "array_equal",
        "intersect1d",
        "union1d",
        "setdiff1d",
        "setxor1d",
        "delete",
        "trim_zeros",
    ]
)
_CHANGE_THEIR_ARGUMENT = frozenset(["copyto", "put", "place", "putmask", "fill_diagonal", "put_along_axis"])
_KEEP_ORDER = frozenset(
    ["astype", "copy", "array", "asfortranarray", "empty_like", "zeros_like", "ones_like", "full_like"]
)
_ARRAY_PARAMETERS = frozenset(["a", "x", "arr", "ary", "array", "condition", "m", "input"])


class Flags:
    """How an array lies in memory."""

    def __init__(self, array: ndarray):
        flags = array._host.flags
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.forc, self.fnc = flags.forc, flags.fnc
        self.owndata = array.base is None

    def __getitem__(self, name: str) -> bool:
        return getattr(self, name.lower())


class ndarray:
    """An array in device memory.

    Attributes:
        base: the array whose memory this one views; None if it has its own.
    """

    __array_priority__ = 100
    base: ndarray | None

    def __init__(
        self,
        shape: Any,
        dtype: Any = float,
        memptr: MemoryPointer | None = None,
        strides: Any = None,
        order: str = "C",
    ):
        shape = (shape,) if isinstance(shape, int | np.integer) else tuple(map(int, shape))
        dtype = np.dtype(dtype)
        if min(shape, default=0) < 0:
            raise ValueError("negative dimensions are not allowed")
        if memptr is None:
            memptr = memory.alloc(math.prod(shape) * dtype.itemsize)
            if dtype.kind == "f" or dtype.name == "bfloat16":
                memptr.mem.bytes[...] = 0xFF  # NaN; other memory holds the pattern of the guards
        block = memptr.mem
        self._host = np.ndarray(shape, dtype, block.buffer, block.start + memptr.offset, strides, order)  # type: ignore[arg-type]
        self._memory, self.base = block, None

    @classmethod
    def _view(cls, host: np.ndarray, source: ndarray) -> ndarray:
        if not host.flags.writeable and source._host.flags.writeable:
            host.flags.writeable = True  # CuPy's views always are
        self = cls.__new__(cls)
        self._host, self._memory = host, source._memory
        self.base = source if source.base is None else source.base
        return self

    # What it is.

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of its axes."""
        return self._host.shape

    @shape.setter
    def shape(self, new: Any) -> None:
        self._host.shape = new

    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(Flags)
    device = property(lambda self: runtime.Device(self._memory.device_id))

    @property
    def data(self) -> MemoryPointer:
        """A pointer to the first element."""
        return MemoryPointer(self._memory, self._host.__array_interface__["data"][0] - self._memory.ptr)

    @property
    def T(self) -> ndarray:
        """The axes reversed."""
        return perform("transpose", np.transpose, (self,), {})

    @property
    def mT(self) -> ndarray:
        """The last two axes exchanged."""
        return perform("swapaxes", np.swapaxes, (self, -1, -2), {})

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        host = self._host
        return {
            "shape": host.shape,
            "typestr": host.dtype.str,
            "descr": host.dtype.descr,
            "data": (self.data.ptr, False),
            "strides": None if host.flags.c_contiguous else host.strides,
            "version": 3,
            "stream": 1,
        }

    def __dlpack__(self, **options: Any) -> ndarray:
        return self

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self._memory.device_id

    # To the host: each of these waits for the device.

    def get(self, stream: Any = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True) -> Any:
        """A copy on the host."""
        runtime.refuse_capture("a copy to the host")
        if out is None:
            return np.array(self._host, order=order)  # type: ignore[call-overload]
        if out.dtype != self.dtype or out.shape != self.shape:
            raise (TypeError if out.dtype != self.dtype else ValueError)(
                f"{out.dtype} {out.shape} cannot be obtained from {self.dtype} {self.shape}"
            )
        if not out.flags.forc:
            raise RuntimeError("`out` cannot be specified when copying to non-contiguous ndarray")
        out[...] = self._host
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        """Copy from the host.

        Raises:
            TypeError, ValueError: it is no array of the same dtype and shape.
        """
        runtime.refuse_capture("a copy from the host")
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype or arr.shape != self.shape:
            raise (TypeError if arr.dtype != self.dtype else ValueError)(
                f"dtype or shape mismatch. Old: {self.dtype} {self.shape}, new: {arr.dtype} {arr.shape}"
            )
        self._host[...] = arr

    def item(self) -> Any:
        """The only element."""
        return self.get().item()

    def tolist(self) -> Any:
        """Nested lists."""
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        """The elements' bytes."""
        return self.get().tobytes(order)

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __index__(self) -> int:
        return operator.index(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __format__(self, spec: str) -> str:
        return format(self.get(), spec)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        found = UFUNCS.get(ufunc.__name__)
        if method != "__call__" or found is None:
            return NotImplemented
        if "out" in kwargs and len(kwargs["out"]) == 1:
            (kwargs["out"],) = kwargs["out"]
        return found(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        found = FUNCTIONS.get(function.__name__)
        if found is None:
            return NotImplemented
        return found(*args, **kwargs)

    # Elements.

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[ndarray]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> ndarray:
        key = _index(key)
        parts = key if isinstance(key, tuple) else (key,)
        if any(isinstance(part, ndarray) and part.dtype.kind == "b" for part in parts):
            runtime.refuse_capture("a boolean mask")
        if not any(isinstance(part, ndarray) for part in parts) and not any(part is Ellipsis for part in parts):
            key = (*parts, Ellipsis)  # a view, also of a single element
        return perform("getitem", lambda a, key: a[_within(a, key)], (self, key), {})

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, list | tuple):
            value = np.asarray(value)
        write = lambda a, key, value: operator.setitem(a, _within(a, key), value)  # noqa: E731
        perform("setitem", write, (self, _index(key), value), {}, changes=True)

    __hash__ = None  # type: ignore[assignment]


def _index(key: Any) -> Any:
    """An index with lists and NumPy arrays copied to the device."""
    if isinstance(key, tuple):
        return tuple(map(_index, key))
    if isinstance(key, list | np.ndarray):
        return array(np.asarray(key, None if len(key) else np.intp))
    return key


def _within(array: np.ndarray, key: Any) -> Any:
    """An index whose arrays of ints are taken modulo the size of their dimension, as CuPy does without a word."""
    parts = list(key) if isinstance(key, tuple) else [key]
    kinds = [part.dtype.kind if isinstance(part, np.ndarray) else "" for part in parts]
    if not any(kinds):
        return key
    taken = [
        part.ndim if kind == "b" else int(part is not None and part is not Ellipsis)
        for part, kind in zip(parts, kinds, strict=True)
    ]
    axis = 0
    for k, part in enumerate(parts):
        if kinds[k] in ("i", "u") and axis < array.ndim and array.shape[axis]:
            parts[k] = part % array.shape[axis]
        axis += array.ndim - sum(taken) if part is Ellipsis else taken[k]
    return tuple(parts)


def _host(value: Any, sources: list[ndarray]) -> Any:
    """An argument as NumPy takes it.

    Raises:
        TypeError: it is an array on the host, or one of another library.
        CUDARuntimeError: it is one of another library, and the stream is being captured.
    """
    if isinstance(value, ndarray):
        sources.append(value)
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if type(value) in (tuple, list):
        return type(value)(_host(item, sources) for item in value)
    if hasattr(type(value), "__cuda_array_interface__"):
        runtime.refuse_capture(f"CuPy waits for the stream of a {type(value).__name__}")
        raise TypeError(f"Unsupported type {type(value)}")
    return value


def _check_device(sources: list[ndarray]) -> None:
    device = runtime.current_device()
    for array in sources:
        if array._memory.device_id != device:
            raise ValueError(
                f"Array device must be same as the current device: "
                f"array device = {array._memory.device_id} while current = {device}"
            )


def _flat(value: Any) -> list[Any]:
    """The arrays of a result, in a fixed order."""
    if isinstance(value, tuple | list):
        return [array for item in value for array in _flat(item)]
    return [value] if isinstance(value, np.ndarray | np.generic) else []


def _root(host: np.ndarray) -> Any:
    """What owns the memory of an array."""
    found: Any = host
    while getattr(found, "base", None) is not None:
        found = found.base
    return found


class _Results:
    """Puts the results of a call into device memory, unless they are there already."""

    def __init__(self, sources: list[ndarray], keep_order: bool):
        self.sources, self.keep_order = sources, keep_order
        self.made: list[tuple[int, np.ndarray]] = []
        self._count = 0

    def wrap(self, value: Any) -> Any:
        if isinstance(value, tuple | list):
            found = [self.wrap(item) for item in value]
            return found if isinstance(value, list) else tuple(found)
        if not isinstance(value, np.ndarray | np.generic):
            return value
        self._count += 1
        if isinstance(value, np.ndarray):
            root = None if value.flags.owndata else _root(value)
            for source in self.sources:
                if value is source._host:
                    return source
                if root is source._memory.buffer:
                    return ndarray._view(value, source)
        order = "F" if self.keep_order and value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        fresh = ndarray(value.shape, value.dtype, order=order)
        fresh._host[...] = value
        self.made.append((self._count - 1, fresh._host))
        return fresh


def perform(name: str, function: Callable[..., Any], args: Any, kwargs: Any, changes: bool = False) -> Any:
    """Call a NumPy function on device arrays.

    Args:
        name: CuPy's, which decides whether it can be captured.
        changes: it changes an argument.

    Raises:
        TypeError: an argument is an array on the host.
        ValueError: an argument lives on another device.
        CUDARuntimeError: it cannot be captured, and the stream is being.
    """
    recording = runtime.recording()
    if recording is not None and (name in _NOT_CAPTURED or (name in _JOIN and _copies_addresses(args[0]))):
        runtime.refuse_capture(name)
    sources: list[ndarray] = []
    hosts = [_host(value, sources) for value in args]
    named = {key: _host(value, sources) for key, value in kwargs.items()} if kwargs else {}
    if changes:
        _check_device(sources)
    try:
        value = function(*hosts, **named)
    except MemoryError as error:
        raise memory.OutOfMemoryError(getattr(error, "_total_size", 0), memory.default_pool.total_bytes()) from None
    results = _Results(sources, name in _KEEP_ORDER)
    wrapped = results.wrap(value)
    if results.made:  # a view can be taken from anywhere
        _check_device(sources)
    if recording is not None and (results.made or changes):
        made = results.made  # not the arrays: as on a device, a graph keeps no memory from being freed

        def step() -> None:
            found = _flat(function(*hosts, **named))
            for number, into in made:
                into[...] = found[number]

        recording.steps.append(step)
        for source in sources:
            source._memory.recorded = True
    return wrapped


_JOIN = frozenset(["concatenate", "stack", "hstack", "vstack", "dstack", "column_stack"])


def _copies_addresses(arrays: Any) -> bool:
    """Whether CuPy joins arrays with a kernel that reads their addresses from device memory."""
    small = sum(a.nbytes for a in arrays) < len(arrays) * (2 << 20)
    return len(arrays) > 8 and small and len({a.dtype for a in arrays}) == 1


class _Checked:
    """A function that takes what CuPy's takes."""

    def __init__(self, name: str, parameters: str, function: Callable[..., Any]):
        self.__name__ = name
        self.name = name.rpartition(".")[2]
        self.signature = api.signature(parameters)
        self.function = function
        names = list(self.signature.parameters)
        self.array_first = bool(names) and names[0] in _ARRAY_PARAMETERS
        self.out = names.index("out") if "out" in names else len(names)
        self._known: set[Any] = set()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        shape = (len(args), *kwargs)
        if shape not in self._known:
            try:
                self.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"cupy.{self.__name__}(): {error}") from None
            self._known.add(shape)
        if self.array_first:
            first = args[0] if args else next(iter(kwargs.values()))
            if not isinstance(first, ndarray):
                raise TypeError(f"cupy.{self.__name__}(): expected a cupy.ndarray, got {type(first)}")
        changes = self.name in _CHANGE_THEIR_ARGUMENT or kwargs.get("out") is not None or len(args) > self.out
        return perform(self.name, self.function, args, kwargs, changes)


class ufunc:
    """An elementwise function of CuPy."""

    def __init__(self, function: Any, name: str):
        self._function = _ADAPTED.get(name, function)
        self.__name__ = name
        self.name = f"cupy_{name}"
        self.nin, self.nout = getattr(function, "nin", 1), getattr(function, "nout", 1)
        self.types = _API["ufuncs"][name]["types"]

    def __call__(
        self, *args: Any, out: Any = None, where: Any = None, dtype: Any = None, casting: str = "same_kind"
    ) -> Any:
        """Apply to arrays and numbers."""
        if len(args) > self.nin:
            if out is not None:
                raise TypeError(f"cupy.{self.__name__}(): out given twice")
            args, out = args[: self.nin], args[self.nin]
        if isinstance(out, tuple) and len(out) == 1:
            (out,) = out
        kwargs = {"out": out} if out is not None else {}
        if where is not None:
            kwargs["where"] = where
        if dtype is not None:
            kwargs["dtype"] = dtype
        if casting != "same_kind":
            kwargs["casting"] = casting
        return perform(self.__name__, self._function, args, kwargs, changes=out is not None)

    def reduce(self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        """Combine along axes.

        Raises:
            NotImplementedError: it is neither ``add`` nor ``multiply``.
        """
        functions: dict[str, Any] = {"add": np.sum, "multiply": np.prod}
        function = functions.get(self.__name__)
        if function is None:
            raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")
        options = {"axis": axis, "dtype": dtype, "keepdims": keepdims}
        return perform("sum", function, (array,), options | ({"out": out} if out is not None else {}), out is not None)

    def accumulate(self, array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        """Running results along an axis.

        Raises:
            NotImplementedError: it is neither ``add`` nor ``multiply``.
        """
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.name}.accumulate` is not supported yet")
        return perform("cumsum", self._function.accumulate, (array, axis, dtype), {})

    def outer(self, a: Any, b: Any) -> Any:
        """All pairs."""
        return perform(self.__name__, self._function.outer, (a, b), {})

    def at(self, a: Any, indices: Any, b: Any = None) -> None:
        """Change elements in place, repeated ones repeatedly.

        Raises:
            NotImplementedError: CuPy has no atomic version of it.
            TypeError: not for this dtype.
        """
        if not _API["ufuncs"][self.__name__]["at"]:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        if a.dtype.char not in ("fdLQIiFDe" if self.__name__ in ("add", "subtract") else "fdLQIi"):
            raise TypeError(f"`{self.name}.at` does not support {a.dtype}")
        perform(self.__name__, self._function.at, (a, _index(indices), b), {}, changes=True)


# Functions that NumPy has under another name or that take other arguments there.
def _take(a: Any, indices: Any, axis: Any = None, out: Any = None) -> Any:
    return np.take(a, indices, axis, out, mode="wrap")


def _widened(result: Any) -> Any:
    """What CuPy makes of bfloat16 where it has no loop for it."""
    return result.astype(np.float32) if result.dtype.name == "bfloat16" else result


def _clip(a: Any, a_min: Any, a_max: Any, out: Any = None) -> Any:
    return _widened(np.clip(a, a_min, a_max, out=out))


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    return np.where(condition) if x is None else _widened(np.where(condition, x, y))


def _unravel_index(indices: Any, dims: Any, order: str = "C") -> Any:
    return np.unravel_index(indices, dims, order)  # type: ignore[call-overload]


def _reshape(a: Any, newshape: Any, order: Any = "C", *, copy: Any = None) -> Any:
    return np.reshape(a, newshape, order=order)


def _floor_divide(x: Any, y: Any, **options: Any) -> Any:
    """Of floating point CuPy rounds the quotient first."""
    if np.result_type(x, y).kind != "f":
        return np.floor_divide(x, y, **options)
    return np.floor(np.true_divide(x, y), **options)


def _remainder(x: Any, y: Any, **options: Any) -> Any:
    """Of floating point CuPy makes it from that quotient."""
    if np.result_type(x, y).kind != "f":
        return np.remainder(x, y, **options)
    return np.subtract(x, _floor_divide(x, y) * y, **options)


_ADAPTED: dict[str, Callable[..., Any]] = {
    "take": _take,
    "floor_divide": _floor_divide,
    "remainder": _remainder,
    "clip": _clip,
    "where": _where,
    "unravel_index": _unravel_index,
    "reshape": _reshape,
}

FUNCTIONS: dict[str, Any] = {}
UFUNCS: dict[str, ufunc] = {}


def array(
    obj: Any,
    dtype: Any = None,
    copy: Any = True,
    order: str = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    """A new array on the current device, from an array anywhere or from numbers."""
    if isinstance(obj, ndarray):
        same = obj._memory.device_id == runtime.current_device()
        if same and not copy and (dtype is None or obj.dtype == dtype) and order in "KA":
            return obj
        if not same:
            runtime.refuse_capture("a copy between devices")
            host = obj._host
            with_order = ndarray(host.shape, dtype or host.dtype)
            with_order._host[...] = host
            return with_order
        return perform(
            "array", np.array, (obj,), {"dtype": dtype, "copy": copy or None, "order": order, "ndmin": ndmin}
        )
    runtime.refuse_capture("a copy from the host")
    if isinstance(obj, list | tuple) and any(isinstance(item, ndarray) for item in obj):
        return FUNCTIONS["stack"]([array(item, dtype) for item in obj])
    host = np.array(obj, dtype=dtype, copy=None, order=order, ndmin=ndmin)  # type: ignore[call-overload]
    if host.dtype.kind not in "biufc" and host.dtype.name != "bfloat16":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    fresh = ndarray(host.shape, host.dtype, order="F" if host.flags.fnc else "C")
    # CuPy fills in a single number, and clears the memory for one that equals 0.
    fresh._host[...] = host if host.ndim or host != 0 else 0
    if host.ndim and memory.is_pinned(host.ctypes.data):
        memory.watch(runtime.get_current_stream().record(), host)
    return fresh


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False) -> ndarray:
    """``a`` on the current device; itself if it is there."""
    return array(a, dtype, copy=bool(copy), order=order or "K", blocking=blocking)


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """New memory, which holds garbage."""
    return ndarray(shape, dtype, order=order)


def empty_like(prototype: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> ndarray:
    """New memory for an array like another, which holds garbage."""
    if not isinstance(prototype, ndarray):
        raise TypeError(f"cupy.empty_like(): expected a cupy.ndarray, got {type(prototype)}")
    host = prototype._host
    if order in "KA":
        order = "F" if host.flags.fnc else "C"
    return ndarray(host.shape if shape is None else shape, dtype or host.dtype, order=order)


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> np.ndarray:
    """A copy on the host."""
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a)


def from_dlpack(array: Any, *, device: Any = None, copy: Any = None) -> ndarray:
    """The memory of another library's array.

    Raises:
        TypeError: it does not lie on a simulated device.
    """
    if array.__dlpack_device__()[0] != 2:
        raise TypeError("CPU arrays cannot be directly imported to CuPy. Use `cupy.array(numpy.from_dlpack(input))`")
    found = array.__dlpack__()
    return ndarray._view(found._host, found)


def _as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    """A view that does not know whose memory it has."""
    host = x._host
    made = np.lib.stride_tricks.as_strided
    view = perform("as_strided", made, (x, host.shape if shape is None else shape, strides or host.strides), {})
    view.base = None
    return view


class _LinearAlgebra(threading.local):
    """Whether linear algebra in this thread says when it fails; ``cupyx.errstate`` sets it."""

    checks = False


linear_algebra = _LinearAlgebra()


def _unchecked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of ``numpy.linalg`` that makes NaN of what it fails for, unless that is to be said."""

    def apply(*args: Any, **options: Any) -> Any:
        if name == "solve" and args[0].ndim > 2 and args[0].shape[:-1] != args[1].shape[:-1]:
            raise ValueError("a must have (..., M, M) shape and b must have (..., M, K) for multidimensional b")
        try:
            return function(*args, **options)
        except np.linalg.LinAlgError:
            if linear_algebra.checks:
                raise
        regular = np.broadcast_to(np.eye(*args[0].shape[-2:], dtype=args[0].dtype), args[0].shape)
        found = function(regular, *args[1:], **options)
        if not isinstance(found, tuple):
            return np.full_like(found, np.nan)
        return type(found)(*(np.full_like(part, np.nan) for part in found))  # a named tuple

    return apply


def _fill() -> None:
    """Make the functions, ufuncs, methods and operators from the list of what CuPy has."""
    own = (array, asarray, empty, empty_like, asnumpy, from_dlpack)
    FUNCTIONS.update({function.__name__: function for function in own})
    FUNCTIONS["asanyarray"] = asarray
    FUNCTIONS["lib.stride_tricks.as_strided"] = _as_strided
    for where, functions in _API["functions"].items():
        place = operator.attrgetter(where)(np) if where else np
        for name, parameters in functions.items():
            full = f"{where}.{name}" if where else name
            function = _ADAPTED.get(full) or getattr(place, name, None)
            if function is not None and full not in FUNCTIONS:
                if where == "linalg":
                    function = _unchecked(name, function)
                    _NOT_CAPTURED_TOO.add(name)
                FUNCTIONS[full] = _Checked(full, parameters, function)
    for name in _API["ufuncs"]:
        if hasattr(np, name):
            UFUNCS[name] = FUNCTIONS[name] = ufunc(getattr(np, name), name)
    for name in ("ones_like", "zeros_like", "full_like"):
        FUNCTIONS[name].array_first = True
    for name, parameters in _API["methods"].items():
        if parameters is not None and name not in vars(ndarray) and hasattr(np.ndarray, name):
            setattr(ndarray, name, _method(name, parameters))
    for name in ("real", "imag"):
        setattr(ndarray, name, property(_part(name)))
    for name, its in _BINARY.items():
        setattr(ndarray, f"__{name}__", _operator(its, False, False))
        setattr(ndarray, f"__r{name}__", _operator(its, True, False))
        setattr(ndarray, f"__i{name}__", _operator(its, False, True))
    for name, its in _COMPARISONS.items():
        setattr(ndarray, f"__{name}__", _operator(its, False, False))
    for name, its in {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}.items():
        setattr(ndarray, f"__{name}__", _unary(its))


_NOT_CAPTURED_TOO: set[str] = set()
_IN_PLACE_METHODS = frozenset(("sort", "partition", "fill", "put"))
_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
}
_COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}


def _method(name: str, parameters: str) -> Callable[..., Any]:
    function = _ADAPTED.get(name) if name == "take" else getattr(np.ndarray, name)
    checked = _Checked(name, parameters, function)  # type: ignore[arg-type]
    in_place = name in _IN_PLACE_METHODS

    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        if in_place:
            return perform(name, function, (self, *args), kwargs, changes=True)  # type: ignore[arg-type]
        return checked(self, *args, **kwargs)

    method.__name__ = name
    return method


def _operator(name: str, swapped: bool, in_place: bool) -> Callable[[ndarray, Any], Any]:
    def apply(self: ndarray, other: Any) -> Any:
        # In place CuPy leaves nothing to the other operand.
        if not (in_place or isinstance(other, ndarray | np.ndarray | np.generic | bool | int | float | complex)):
            return NotImplemented
        pair = (other, self) if swapped else (self, other)
        return FUNCTIONS[name](*pair, out=self) if in_place else FUNCTIONS[name](*pair)

    return apply


def _part(name: str) -> Callable[[ndarray], Any]:
    return lambda self: perform(name, getattr(np, name), (self,), {})


def _unary(name: str) -> Callable[[ndarray], Any]:
    return lambda self: UFUNCS[name](self)


_fill()
_NOT_CAPTURED |= _NOT_CAPTURED_TOO
