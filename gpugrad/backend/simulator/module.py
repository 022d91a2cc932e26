"""The stand-in for the module ``cupy``: what the library uses of it, under CuPy's names."""

from __future__ import annotations

import math
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from . import api, array, compiler, launch, memory, runtime


def _make(name: str, doc: str, **names: Any) -> Any:
    module = ModuleType(name, doc)
    vars(module).update(names)
    return module


def _functions(where: str) -> dict[str, Any]:
    prefix = f"{where}." if where else ""
    names = (name for name in array.FUNCTIONS if name.startswith(prefix) and "." not in name[len(prefix) :])
    return {name[len(prefix) :]: array.FUNCTIONS[name] for name in names}


class _Pinned(memory.MemoryPool):
    """Host memory that a GPU can read while the host goes on; here any memory is."""

    def n_free_blocks(self) -> int:
        return 0


def _empty_pinned(shape: Any, dtype: Any = float, order: str = "C") -> np.ndarray:
    memory_of_it = memory.alloc_pinned(math.prod(shape) * np.dtype(dtype).itemsize)
    return np.ndarray(shape, dtype, memory_of_it, order=order)  # type: ignore[arg-type]


@contextmanager
def _errstate(*, linalg: str | None = None) -> Any:
    before, array.linear_algebra.checks = array.linear_algebra.checks, linalg == "raise"
    try:
        yield
    finally:
        array.linear_algebra.checks = before


def _scatter_add(a: array.ndarray, slices: Any, value: Any) -> None:
    array.UFUNCS["add"].at(a, slices, value)


def _get_array_module(*args: Any) -> ModuleType:
    return cupy if any(isinstance(arg, array.ndarray) for arg in args) else np


# A multiprocessor works on 1024 threads here, whatever their kernel.
_occupancy = {"occupancyMaxActiveBlocksPerMultiprocessor": lambda function, block, shared: 1024 // block}
_pinned_pool = _Pinned()

cuda = _make(
    "cupy.cuda",
    "Devices, streams, memory.",
    Device=runtime.Device,
    Event=runtime.Event,
    Graph=runtime.Graph,
    MemoryHook=memory.MemoryHook,
    MemoryPointer=memory.MemoryPointer,
    MemoryPool=memory.MemoryPool,
    PinnedMemoryPool=_Pinned,
    Stream=runtime.Stream,
    alloc=memory.alloc,
    alloc_pinned_memory=memory.alloc_pinned,
    compiler=_make("cupy.cuda.compiler", "NVRTC.", CompileException=compiler.CompileException),
    driver=_make("cupy.cuda.driver", "The driver.", CUDADriverError=launch.LaunchError, **_occupancy),
    get_allocator=memory.get_allocator,
    get_current_stream=runtime.get_current_stream,
    get_elapsed_time=runtime.get_elapsed_time,
    is_available=lambda: True,
    memory=_make("cupy.cuda.memory", "Memory.", OutOfMemoryError=memory.OutOfMemoryError),
    pinned_memory=_make(
        "cupy.cuda.pinned_memory",
        "Page-locked host memory.",
        _add_to_watch_list=memory.watch,
        alloc_pinned_memory=memory.alloc_pinned,
        is_memory_pinned=memory.is_pinned,
    ),
    runtime=runtime,
    set_allocator=memory.set_allocator,
    using_allocator=memory.using_allocator,
)

cupy = _make(
    "cupy",
    __doc__ or "",
    **_functions(""),
    **{name: getattr(np, name) for name in api.load()["constants"] if hasattr(np, name)},
    RawKernel=launch.RawKernel,
    RawModule=launch.RawModule,
    __version__=api.load()["version"],
    cuda=cuda,
    get_array_module=_get_array_module,
    get_default_memory_pool=lambda: memory.default_pool,
    get_default_pinned_memory_pool=lambda: _pinned_pool,
    lib=_make("cupy.lib", "", stride_tricks=_make("cupy.lib.stride_tricks", "", **_functions("lib.stride_tricks"))),
    linalg=_make("cupy.linalg", "", **_functions("linalg"), LinAlgError=np.linalg.LinAlgError),
    ndarray=array.ndarray,
    ufunc=array.ufunc,
)

cupyx = _make(
    "cupyx",
    "CuPy's own additions to NumPy's functions.",
    empty_pinned=_empty_pinned,
    errstate=_errstate,
    scatter_add=_scatter_add,
)
