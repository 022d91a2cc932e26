"""Kernels of a compiled source, called as CuPy's are, with their arguments and geometry checked.

A GPU takes whatever bytes it is given; here a wrong number, size or type of
arguments is an error, and so is a geometry that the device does not have.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import compiler, memory, runtime

STATIC_SHARED = 48 << 10
LARGEST_SHARED = 227 << 10
_LARGEST_BLOCK = (1024, 1024, 64)
_LARGEST_GRID = (2**31 - 1, 65535, 65535)
_MAX_THREADS = 1024

# The kinds of sim_launch.h.
_OTHER, _BOOL, _SIGNED, _UNSIGNED, _FLOATING, _POINTER, _BFLOAT16 = range(7)
_KINDS = {"b": _BOOL, "i": _SIGNED, "u": _UNSIGNED, "f": _FLOATING}
_NAMES = {_OTHER: "struct", _BOOL: "bool", _SIGNED: "int", _UNSIGNED: "uint", _FLOATING: "float", _BFLOAT16: "bfloat"}


class LaunchError(RuntimeError):
    """A kernel could not be launched, or went wrong; on a GPU a driver error, or nothing at all."""


class _Launch(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("order", ctypes.c_uint64),
    ]


class _Parameter(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("size", "kind", "pointee_size", "pointee_kind")]

    def __str__(self) -> str:
        if self.kind == _POINTER:
            return f"a pointer to {_type_name(self.pointee_kind, self.pointee_size)}"
        return _type_name(self.kind, self.size)


def _type_name(kind: int, size: int) -> str:
    return "void" if size == 0 else "bool" if kind == _BOOL else f"{_NAMES.get(kind, 'pointer')}{8 * size}"


def _kind(dtype: np.dtype) -> int:
    return _BFLOAT16 if dtype.name == "bfloat16" else _KINDS.get(dtype.kind, _OTHER)


def order() -> int:
    """The seed of the order in which threads run: 0 ascending, 1 descending, else drawn from it."""
    return int(os.environ.get("GPUGRAD_CUDA_SIM_ORDER", "0"))


_one_at_a_time = threading.Lock()

_SECONDS = 0.3
"""How long a kernel runs in all, as it is fast to compile, before it is compiled once more, to run two times faster."""


class Function:
    """A kernel: ``function(grid, block, args, shared_mem=0)``.

    Attributes:
        ptr: CuPy's handle.
        max_dynamic_shared_size_bytes: how much dynamic shared memory a launch may ask for; 48 KiB unless set.
    """

    def __init__(self, build: Callable[[bool], ctypes.CDLL], number: int, name: str):
        self.name, self.ptr = name, id(self)
        self.max_dynamic_shared_size_bytes = STATIC_SHARED
        self._build, self._number, self._time_left = build, number, _SECONDS
        library = build(False)
        self._use(library)
        describe = getattr(library, f"cuda_sim_describe_{number}")
        self.parameters = (_Parameter * describe(None))()
        describe(self.parameters)

    def _use(self, library: ctypes.CDLL) -> None:
        self._launch = getattr(library, f"cuda_sim_launch_{self._number}")
        self._launch.restype = ctypes.c_char_p

    def _run(self, how: Any, pointers: Any) -> bytes | None:
        """Run the kernel, which is compiled anew, to run faster, once that is worth it."""
        if self._time_left <= 0:
            return self._launch(how, pointers)
        start = time.thread_time()
        error = self._launch(how, pointers)
        self._time_left -= time.thread_time() - start
        if self._time_left <= 0:
            self._use(self._build(True))
        return error

    @property
    def kernel(self) -> Function:
        """The compiled function; CuPy's RawKernel wraps one."""
        return self

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        stream: Any = None,
        enable_cooperative_groups: bool = False,
    ) -> None:
        """Run the kernel over a grid of blocks.

        Raises:
            LaunchError: the geometry, the number or a type of the arguments is wrong, or the kernel failed.
        """
        how = _Launch(self._sizes("grid", grid, _LARGEST_GRID), self._sizes("block", block, _LARGEST_BLOCK))
        threads = how.block[0] * how.block[1] * how.block[2]
        if threads > _MAX_THREADS:
            raise LaunchError(
                f"kernel {self.name!r}: a block of {threads} threads; at most {_MAX_THREADS} are possible"
            )
        if shared_mem > min(self.max_dynamic_shared_size_bytes, LARGEST_SHARED):
            raise LaunchError(
                f"kernel {self.name!r}: {shared_mem} bytes of dynamic shared memory, but "
                f"max_dynamic_shared_size_bytes is {self.max_dynamic_shared_size_bytes} (at most {LARGEST_SHARED})"
            )
        if stream is not None and stream != runtime.get_current_stream():
            raise NotImplementedError("the simulator launches on the current stream: enter the stream instead")
        how.shared, how.order = shared_mem, order()
        if len(args) != len(self.parameters):
            raise LaunchError(
                f"kernel {self.name!r} takes {len(self.parameters)} arguments, but {len(args)} were given"
            )
        held = [self._argument(k, value) for k, value in enumerate(args)]
        pointers = (ctypes.c_void_p * len(held))(*[array.ctypes.data for array in held])
        blocks = [array._memory for array in args if isinstance(getattr(array, "_memory", None), memory.Memory)]
        for value in args:
            if isinstance(value, np.ndarray):
                blocks += memory.blocks_at(value.tobytes())
        watched = [weakref.ref(block) for block in blocks]
        buffers = [block.buffer for block in blocks]
        del blocks  # as on a device, a graph keeps no memory from being freed

        def step(_alive: Any = (buffers, held)) -> None:
            with _one_at_a_time:
                error = self._run(ctypes.byref(how), pointers)
            if error is not None:
                raise LaunchError(f"kernel {self.name!r}: {error.decode()}")
            for reference in watched:
                try:
                    block = reference()
                    if block is not None:
                        block.check()
                except RuntimeError as found:
                    raise LaunchError(f"kernel {self.name!r}: {found}") from None

        runtime.submit(step)
        if runtime.recording() is not None:
            for reference in watched:
                if (used := reference()) is not None:
                    used.recorded = True

    def _sizes(self, what: str, given: Sequence[int], largest: Sequence[int]) -> Any:
        sizes = [int(n) for n in given] + [1] * (3 - len(given))
        if len(sizes) != 3 or not all(1 <= n <= most for n, most in zip(sizes, largest, strict=True)):
            raise LaunchError(
                f"kernel {self.name!r}: invalid {what} {tuple(given)}; each size is 1 to {tuple(largest)}"
            )
        return tuple(sizes)

    def _argument(self, k: int, value: Any) -> np.ndarray:
        """The bytes of one argument, in an array."""
        wanted = self.parameters[k]
        if value is None:
            value = np.uint64(0)
        if isinstance(value, bool | int | float):
            # As CuPy passes them.
            value = np.bool_(value) if isinstance(value, bool) else np.asarray(value)[()]
        if isinstance(value, np.generic):
            dtype, fits = value.dtype, value.dtype.itemsize == wanted.size
            if wanted.kind == _POINTER:
                fits &= dtype.kind in "iu"
            elif wanted.kind != _OTHER:
                integers = {_SIGNED, _UNSIGNED, _BOOL}
                fits &= _kind(dtype) == wanted.kind or {_kind(dtype), wanted.kind} <= integers
            if not fits:
                raise LaunchError(
                    f"kernel {self.name!r}: argument {k} is {wanted}, but {dtype} was given; "
                    "pass a NumPy scalar of the right type"
                )
            return np.array(value)
        if isinstance(value, np.ndarray) and wanted.kind == _OTHER:
            # A struct by value, in a NumPy array of one element.
            if value.size != 1 or value.itemsize != wanted.size:
                raise LaunchError(
                    f"kernel {self.name!r}: argument {k} is a struct of {wanted.size} bytes, but an array of "
                    f"{value.size} times {value.itemsize} bytes was given"
                )
            return value
        address, pointee = _place(value)
        block = getattr(value, "_memory", None)
        if block is not None and block.device_id != runtime.current_device():
            raise LaunchError(
                f"kernel {self.name!r}: argument {k} lives on device {block.device_id}, "
                f"but the current device is {runtime.current_device()}"
            )
        if address is None:
            raise TypeError(f"Unsupported type {type(value)}")
        if wanted.kind != _POINTER:
            raise LaunchError(f"kernel {self.name!r}: argument {k} is {wanted}, but an array of {pointee} was given")
        known = wanted.pointee_kind not in (_OTHER, _POINTER) and wanted.pointee_size
        if known and pointee is not None and not _matches(wanted, pointee):
            raise LaunchError(f"kernel {self.name!r}: argument {k} is {wanted}, but an array of {pointee} was given")
        return np.array(address, np.uint64)


def _matches(pointer: _Parameter, dtype: np.dtype) -> bool:
    return (pointer.pointee_kind, pointer.pointee_size) == (_kind(dtype), dtype.itemsize)


def _place(value: Any) -> tuple[int | None, np.dtype | None]:
    """The address and dtype of an array; an address alone for a memory pointer."""
    if isinstance(value, np.ndarray):
        return value.__array_interface__["data"][0], value.dtype
    if hasattr(getattr(value, "data", None), "ptr"):
        return value.data.ptr, value.dtype
    return getattr(value, "ptr", None), None


class RawModule:
    """CUDA C++ source, compiled when its first kernel is asked for.

    Args:
        code: the source.
        options: of NVRTC; ``-std``, ``-D`` and ``-U`` count here.
        name_expressions: the kernels that are not ``extern "C"``, such as ``"softmax<float>"``.
    """

    def __init__(
        self,
        *,
        code: str,
        options: Sequence[str] = (),
        backend: str = "nvrtc",
        name_expressions: Sequence[str] | None = None,
    ):
        self.code = code
        self.options = tuple(options)
        self.name_expressions = tuple(name_expressions or ())
        self._names = [*compiler.exported(code), *self.name_expressions]
        self._libraries: dict[bool, ctypes.CDLL] = {}
        self._functions: dict[str, Function] = {}

    def compile(self, log_stream: Any = None) -> None:
        """Compile now.

        Raises:
            CompileException: the compiler refuses the source.
        """
        self._build(False)

    def _build(self, optimized: bool) -> ctypes.CDLL:
        library = self._libraries.get(optimized)
        if library is None:
            library = compiler.build(self.code, self.options, self._names, optimized)
            self._libraries[optimized] = library
        return library

    def get_function(self, name: str) -> Function:
        """The kernel of a name, or of a name expression.

        Raises:
            LaunchError: there is none.
        """
        if name not in self._functions:
            if name not in self._names:
                raise LaunchError(f"CUDA_ERROR_NOT_FOUND: no kernel {name!r} among {', '.join(self._names) or 'none'}")
            self._functions[name] = Function(self._build, self._names.index(name), name)
        return self._functions[name]


def RawKernel(code: str, name: str, options: Sequence[str] = (), backend: str = "nvrtc") -> Function:
    """The one kernel of a source."""
    return RawModule(code=code, options=options).get_function(name)
