"""Devices: names, the arrays that live on them, and what this machine has.

An array's Python type says where it lives: ``numpy.ndarray`` is the CPU,
``cupy.ndarray`` a CUDA device.  Everything above the backend asks here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np

Array = Any
DeviceLike = Any

_SPELLING = re.compile(r"(cpu|cuda)(?::(\d+))?")


class device:
    """A place where tensors live: ``device("cpu")``, ``device("cuda")``, ``device("cuda", 1)``.

    Compares equal to another device of the same type and index, and to its own
    spelling.  As a context manager it is the default device of new tensors.

    Raises:
        RuntimeError: the spelling names no device.
    """

    __slots__ = ("_previous", "index", "type")
    type: str
    index: int | None

    def __init__(self, type: str | device, index: int | None = None):
        if isinstance(type, device):
            self.type, self.index = type.type, type.index
        else:
            match = _SPELLING.fullmatch(type) if isinstance(type, str) else None
            if match is None or (match[2] and index is not None):
                raise RuntimeError(f"invalid device {type!r}: expected 'cpu', 'cuda' or 'cuda:N'")
            self.type = match[1]
            self.index = int(match[2]) if match[2] else index
        self._previous: list[device] = []

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type={self.type!r}{index})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return str(self) == other
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __enter__(self) -> device:
        self._previous.append(get_default_device())
        set_default_device(self)
        return self

    def __exit__(self, *exc: object) -> None:
        set_default_device(self._previous.pop())


CPU = device("cpu")


class _Defaults(threading.local):
    device = CPU


_defaults = _Defaults()


def get_default_device() -> device:
    """The device on which new tensors are made in this thread."""
    return _defaults.device


def set_default_device(new: DeviceLike) -> None:
    """Make ``new`` the device of new tensors in this thread."""
    _defaults.device = resolve(new)


def resolve(spec: DeviceLike = None) -> device:
    """The device that ``spec`` (None, a spelling, an index or a device) names.

    Raises:
        RuntimeError: the spelling is unknown, or CUDA cannot be used; the message says why.
    """
    if spec is None:
        return _defaults.device
    if isinstance(spec, int) and not isinstance(spec, bool):
        spec = device("cuda", spec)
    found = spec if isinstance(spec, device) else device(spec)
    if found.type == "cpu":
        if found.index:
            raise RuntimeError(f"invalid device {str(found)!r}: there is one CPU device, 'cpu'")
        return CPU
    from . import cuda

    count = cuda.require()
    index = cuda.current_device() if found.index is None else found.index
    if index >= count:
        raise RuntimeError(f"invalid device 'cuda:{index}': this machine has {count} CUDA device(s), 0 to {count - 1}")
    return device("cuda", index)


def device_of(array: Array) -> device:
    """The device on which a raw array lives."""
    if isinstance(array, np.ndarray | np.generic):
        return CPU
    return device("cuda", array.device.id)


def module_of(array: Array) -> ModuleType:
    """The array module (NumPy or CuPy) of a raw array."""
    if isinstance(array, np.ndarray | np.generic):
        return np
    from . import cuda

    return cuda.cupy()


def module_for(where: device) -> ModuleType:
    """The array module of a device."""
    if where.type == "cpu":
        return np
    from . import cuda

    return cuda.cupy()


class _On:
    """A block in which a CUDA device is the current one, and running out of its memory is explained."""

    __slots__ = ("_before", "_index")

    def __init__(self, index: int):
        self._index = index

    def __enter__(self) -> None:
        from . import cuda

        self._before = cuda.current_device()
        if self._before != self._index:
            cuda.set_device(self._index)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        from . import cuda

        explained = cuda.explained(error) if isinstance(error, MemoryError) else error
        if self._before != self._index:
            cuda.set_device(self._before)
        if explained is not error:
            raise explained from None  # type: ignore[misc]


def on(where: device) -> AbstractContextManager[Any]:
    """Make ``where`` the device on which raw arrays are created meanwhile."""
    if where.type == "cpu":
        return nullcontext()
    from . import cuda

    return _On(cuda.current_device() if where.index is None else where.index)


def beside(array: Array) -> AbstractContextManager[Any]:
    """Make the device of a raw array the current one: where work on it is to run."""
    return nullcontext() if isinstance(array, np.ndarray | np.generic) else _On(array.device.id)


def checking(array: Array) -> AbstractContextManager[Any]:
    """Let linear algebra on arrays like this one raise ``numpy.linalg.LinAlgError`` where it fails.

    NumPy's always does; CuPy, which has to wait for the device to know, goes on with garbage unless told.
    """
    if isinstance(array, np.ndarray | np.generic):
        return nullcontext()
    from . import cuda

    return cuda.cupyx().errstate(linalg="raise")


def use_device_of(array: Array) -> None:
    """Make the device of a raw array the current one, until something else does."""
    if not isinstance(array, np.ndarray | np.generic):
        from . import cuda

        cuda.set_device(array.device.id)


def same_memory(a: Array, b: Array) -> bool:
    """Whether two arrays of CUDA devices lie in the same allocation."""
    return a.data.mem is b.data.mem


def overlapping(array: Array) -> bool:
    """Whether elements of an array lie on top of each other, as those of an expanded one do."""
    if array.flags.c_contiguous:
        return False
    reach = array.itemsize
    for stride, n in sorted(zip(map(abs, array.strides), array.shape, strict=True)):
        if n > 1 and stride < reach:
            return True
        reach += (n - 1) * stride
    return False


def to_numpy(array: Array) -> np.ndarray:
    """The array on the host: itself when it is there already, else a copy (which waits for the device)."""
    if isinstance(array, np.ndarray | np.generic):
        return np.asarray(array)
    return _fetch(array)


def _fetch(array: Array, out: np.ndarray | None = None, non_blocking: bool = False) -> np.ndarray:
    from . import cuda

    with beside(array):
        return cuda.fetch(array, out, non_blocking)


def transfer(array: Array, where: device, non_blocking: bool = False) -> Array:
    """``array`` on device ``where``; no copy when it is there already.

    With ``non_blocking`` a copy from or to page-locked host memory is only begun, on the device's current stream; a
    copy to the host goes into such memory.
    """
    if device_of(array) == where:
        return array
    if where.type == "cpu":
        return _fetch(array, None, non_blocking)
    from . import cuda

    with on(where):
        if isinstance(array, np.ndarray | np.generic):
            return cuda.send(np.asarray(array), non_blocking)
        return cuda.move(array)


def copy_to_host(into: np.ndarray, array: Array, non_blocking: bool) -> None:
    """Write a CUDA device's array of the same shape and dtype into host memory; see :func:`transfer`."""
    if into.flags.c_contiguous:
        _fetch(array, into, non_blocking)
    else:
        into[...] = _fetch(array)


@contextmanager
def default_device(where: DeviceLike) -> Iterator[device]:
    """Make ``where`` the default device inside a ``with`` block."""
    with resolve(where) as found:
        yield found
