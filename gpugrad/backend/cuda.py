"""The only file that imports CuPy, and only when a CUDA device is asked for.

With ``GPUGRAD_CUDA_SIM=1`` it hands out the simulator's stand-in instead.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import sys
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

Allocator = Callable[[int], Any]


@dataclass(frozen=True)
class Diagnosis:
    """What this machine can do with CUDA, or why it can do nothing."""

    usable: bool
    device_count: int = 0
    reason: str = ""
    fix: str = ""
    cupy_version: str | None = None
    driver_version: str | None = None
    runtime_version: str | None = None

    def message(self) -> str:
        """One line: the cause and the fix."""
        return f"CUDA cannot be used: {self.reason}. {self.fix}"


def simulated() -> bool:
    """Whether CUDA devices are simulated on the CPU (``GPUGRAD_CUDA_SIM=1``), for tests."""
    return os.environ.get("GPUGRAD_CUDA_SIM", "") not in ("", "0")


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _driver_present() -> bool:
    import ctypes.util

    return os.path.exists("/dev/nvidiactl") or ctypes.util.find_library("cuda") is not None


@functools.cache
def diagnose() -> Diagnosis:
    """Find out, once, whether CUDA can be used; never raises."""
    if not simulated() and importlib.util.find_spec("cupy") is None:
        fix = (
            "Install it with pip install 'gpugrad[cuda13x]' (driver 580 or newer) "
            "or 'gpugrad[cuda12x]' (driver 525 or newer)"
        )
        if not _driver_present():
            return Diagnosis(
                False,
                reason="CuPy is not installed, and no NVIDIA driver was found either",
                fix=f"{fix}, on a machine with an NVIDIA GPU",
            )
        return Diagnosis(False, reason="CuPy is not installed", fix=fix)
    try:
        module = cupy()
    except Exception as error:  # a broken CuPy raises whatever its libraries raise
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Diagnosis(
            False,
            reason=f"CuPy is installed but does not import ({first_line})",
            fix="Reinstall it: exactly one of cupy-cuda12x and cupy-cuda13x, matching the driver",
        )
    known: dict[str, Any] = {"cupy_version": module.__version__}
    runtime = module.cuda.runtime
    try:
        driver = runtime.driverGetVersion()
        local = runtime.runtimeGetVersion()
    except Exception as error:
        return Diagnosis(
            False,
            reason=f"the CUDA runtime does not answer ({error})",
            fix="Reinstall CuPy and its CUDA libraries",
            **known,
        )
    known["runtime_version"] = _version(local)
    if driver == 0:
        return Diagnosis(
            False, reason="no NVIDIA driver is loaded", fix="Install the driver, or run with --device cpu", **known
        )
    known["driver_version"] = _version(driver)
    try:
        count = runtime.getDeviceCount()
    except Exception as error:
        name = str(error)
        if "InsufficientDriver" in name:
            return Diagnosis(
                False,
                reason=f"the NVIDIA driver supports CUDA {_version(driver)}, but CuPy was built for {_version(local)}",
                fix="Update the driver, or install cupy-cuda12x instead of cupy-cuda13x",
                **known,
            )
        return Diagnosis(
            False,
            reason=f"no CUDA device can be opened ({name})",
            fix="Check nvidia-smi and CUDA_VISIBLE_DEVICES",
            **known,
        )
    if count == 0:
        return Diagnosis(
            False, reason="the driver shows no CUDA device", fix="Check nvidia-smi and CUDA_VISIBLE_DEVICES", **known
        )
    return Diagnosis(True, count, **known)


def require() -> int:
    """The number of CUDA devices.

    Raises:
        RuntimeError: CUDA cannot be used; says why and what to do.
    """
    found = diagnose()
    if not found.usable:
        raise RuntimeError(found.message())
    return found.device_count


@functools.cache
def cupy() -> ModuleType:
    """The CuPy module."""
    if simulated():
        from .simulator.module import cupy as module
    else:
        module = importlib.import_module("cupy")
    _count_memory(module)
    return module


@functools.cache
def cupyx() -> ModuleType:
    """The module of CuPy's own additions to NumPy's functions."""
    if simulated():
        from .simulator import module

        return module.cupyx
    return importlib.import_module("cupyx")


def cublaslt() -> Any:
    """The library cuBLASLt that belongs to CuPy's CUDA."""
    if simulated():
        from .simulator.cublaslt import Library

        return Library()
    import ctypes

    from cuda.pathfinder import load_nvidia_dynamic_lib

    return ctypes.CDLL(load_nvidia_dynamic_lib("cublasLt").abs_path)


def current_device() -> int:
    """The index of the current CUDA device."""
    return cupy().cuda.runtime.getDevice()


def set_device(index: int) -> None:
    """Make a CUDA device the current one of this thread."""
    cupy().cuda.runtime.setDevice(index)


def synchronize() -> None:
    """Wait for the current CUDA device."""
    cupy().cuda.runtime.deviceSynchronize()
    raise_faults()


Check = tuple[str, type[Exception]]
"""How a kernel's finding is raised: the message, with places for what was ``wrong`` and its ``limit``, and its type."""

_sites: list[Check] = []
"""What kernels check, in the order in which they were first asked to."""

_sites_lock = threading.Lock()


@functools.cache
def _faults() -> np.ndarray:
    """Where kernels tell the host what they found: 1 + the number of the site (0 for nothing), the value, its limit.

    Page-locked memory, which all devices write to and the host reads without asking them.
    """
    words = cupyx().empty_pinned((3,), np.int64)
    words[:] = 0
    return words


@functools.cache
def fault_site(check: Check) -> tuple[np.uint64, np.int64]:
    """The last two arguments of a kernel that checks what it is given: see ``report`` in ``kernels/common.cuh``."""
    with _sites_lock:
        _sites.append(check)
        return np.uint64(_faults().ctypes.data), np.int64(len(_sites))


def raise_faults() -> None:
    """Raise what kernels have reported since the last call; for whoever has just waited for them."""
    if not _sites or not _faults()[0]:
        return
    site, wrong, limit = _faults().tolist()
    _faults()[0] = 0
    message, error = _sites[site - 1]
    raise error(
        f"{message.format(wrong=wrong, limit=limit)} (A CUDA device found this after the call had returned: what was "
        "computed since is invalid. With CUDA_LAUNCH_BLOCKING=1 in the environment the call itself raises it.)"
    )


def raise_faults_if_blocking() -> None:
    """Wait, and raise what kernels have reported, if ``CUDA_LAUNCH_BLOCKING=1`` in the environment asks for it."""
    if os.environ.get("CUDA_LAUNCH_BLOCKING") == "1" and not is_capturing():
        synchronize()


def properties(index: int) -> dict[str, Any]:
    """What the runtime says about a CUDA device."""
    return cupy().cuda.runtime.getDeviceProperties(index)


def device_name(index: int) -> str:
    """The marketing name of a CUDA device."""
    return properties(index)["name"].decode()


class OutOfMemoryError(RuntimeError):
    """A CUDA device has no room for a new array; says what was asked for, and what there was."""


def _mib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.2f} MiB"


def explained(error: MemoryError) -> Exception:
    """What to raise in the place of a failed allocation: on a CUDA device an ``OutOfMemoryError``."""
    if not isinstance(error, cupy().cuda.memory.OutOfMemoryError):
        return error
    free, total = memory_info()
    asked = re.search(r"allocating ([\d,]+) bytes", str(error))
    wanted = _mib(int(asked[1].replace(",", ""))) if asked else "memory"
    pool = cupy().get_default_memory_pool()
    limit = pool.get_limit()
    return OutOfMemoryError(
        f"CUDA out of memory. Tried to allocate {wanted}. GPU {current_device()} has a total capacity of {_mib(total)} "
        f"of which {_mib(free)} is free. Tensors take {_mib(pool.used_bytes())}, and {_mib(pool.free_bytes())} "
        f"are kept for reuse{f' (limited to {_mib(limit)})' if limit else ''}. "
        "Use a smaller batch, drop references to tensors, or call gpugrad.cuda.empty_cache()"
    )


def allocate(size: int) -> Any:
    """New memory of the current device, for the pool of a recording.

    Where there is none left, it takes what the default pool keeps. A pool by itself would free its own unused blocks,
    where recorded work writes.
    """
    memory = cupy().cuda.memory
    for _ in range(2):
        try:
            return memory.MemoryPointer(memory.Memory(size), 0)
        except cupy().cuda.runtime.CUDARuntimeError as error:
            if "MemoryAllocation" not in str(error):
                raise
            cupy().get_default_memory_pool().free_all_blocks()
    raise memory.OutOfMemoryError(size, memory_held())


def is_capturing() -> bool:
    """Whether this thread's work on the current device is being captured into a graph."""
    return cupy().cuda.get_current_stream().is_capturing()


_pools: weakref.WeakKeyDictionary[Allocator, Any] = weakref.WeakKeyDictionary()
"""The memory pools that are counted, by their allocators."""

_peaks: defaultdict[int, int] = defaultdict(int)
"""The most bytes of each device that the pools had handed out."""

_held_peaks: defaultdict[int, int] = defaultdict(int)
"""The most bytes of each device that the pools were seen to hold."""

_silent: defaultdict[int, int] = defaultdict(int)
"""How many bytes of each device the default pool can hand out without a new peak."""


def counted(pool: Any, silent: Mapping[int, int] | None = None) -> Allocator:
    """An allocator that takes memory from a pool, and notes when a device never had so much in use.

    CuPy's hooks would cost a microsecond at each allocation; this takes a fifth of one.
    """
    malloc, used = pool.malloc, pool.used_bytes
    quiet = defaultdict(lambda: -1) if silent is None else silent

    def allocate(size: int) -> Any:
        if _loans:
            reclaim()
        pointer = malloc(size)
        if used() > quiet[pointer.device_id]:
            _note_peak()
        return pointer

    _pools[allocate] = pool
    return allocate


class _Loan:
    """Memory that streams work with which are not the one it was allocated on, and the marks where they leave it."""

    def __init__(self, memory: Any):
        self.memory = memory
        self.streams: dict[int, Any] = {}
        self.marks: list[Any] | None = None

    def is_over(self) -> bool:
        """Whether nobody refers to the memory any more, and the streams have done what they had been given then."""
        if self.marks is None:
            if sys.getrefcount(self.memory) > 2:  # this object, and the call
                return False
            cuda = cupy().cuda
            with cuda.Device(self.memory.device_id):
                self.marks = [stream.record(cuda.Event(disable_timing=True)) for stream in self.streams.values()]
        return all(mark.done for mark in self.marks)


_loans: dict[int, _Loan] = {}
"""Memory that is lent, by the ids of the objects that stand for it."""


def lend(array: Any, stream: Any) -> None:
    """Let a stream work with an array's memory: when it is freed, nothing else gets it before that work is done.

    A pool takes freed memory back for the stream it was allocated on, which may be ahead of others. Captured work is
    all in one stream, and its memory belongs to it.
    """
    if not is_capturing():
        memory = array.data.mem
        _loans.setdefault(id(memory), _Loan(memory)).streams[stream.ptr] = stream


def reclaim() -> None:
    """Free the lent memory that is needed no more."""
    if is_capturing():
        return
    for key, loan in list(_loans.items()):
        if loan.is_over():
            _loans.pop(key, None)


def _count_memory(module: Any) -> None:
    """Count what CuPy allocates, unless another allocator was chosen for it already."""
    pool = module.get_default_memory_pool()
    if module.cuda.get_allocator() == pool.malloc:
        module.cuda.set_allocator(counted(pool, _silent))


def _note_peak() -> None:
    device, used = current_device(), memory_used()
    _peaks[device] = peak = max(_peaks[device], used)
    _held_peaks[device] = max(_held_peaks[device], memory_held())
    _silent[device] = peak - used + cupy().get_default_memory_pool().used_bytes()


def memory_used() -> int:
    """Bytes of the current device that the memory pools, those of captured graphs too, have handed out."""
    return sum(pool.used_bytes() for pool in list(_pools.values()))


def memory_held() -> int:
    """Bytes of the current device that the memory pools hold, handed out or not."""
    return sum(pool.total_bytes() for pool in list(_pools.values()))


def memory_held_peak() -> int:
    """The most bytes the pools were seen to hold on the current device since ``reset_peak``, or since the start.

    Seen whenever a new peak is handed out, and before pools give memory back.
    """
    _note_peak()
    return _held_peaks[current_device()]


def memory_peak() -> int:
    """The most bytes handed out on the current device since ``reset_peak``, or since the start."""
    _note_peak()
    return _peaks[current_device()]


def reset_peak() -> None:
    """Count the peak of the current device from here."""
    _peaks[current_device()] = _held_peaks[current_device()] = 0
    _note_peak()


def memory_info() -> tuple[int, int]:
    """Bytes of the current device: free ones, and all."""
    return cupy().cuda.runtime.memGetInfo()


def limit_memory(fraction: float) -> None:
    """Let the memory pools, with what those of captured graphs hold now, hold at most a fraction of a device's memory.

    The device is the current one; 0 stands for no limit.
    """
    pool = cupy().get_default_memory_pool()
    size = int(fraction * memory_info()[1]) - (memory_held() - pool.total_bytes())
    pool.set_limit(size=max(size, 1) if fraction else 0)


def empty_cache() -> None:
    """Free the blocks that CuPy's memory pools keep."""
    _note_peak()
    reclaim()
    cupy().get_default_memory_pool().free_all_blocks()
    cupy().get_default_pinned_memory_pool().free_all_blocks()


def is_pinned(array: Any) -> bool:
    """Whether a host array lies in page-locked memory, which a device reads and writes by itself."""
    runtime = cupy().cuda.runtime
    return runtime.pointerGetAttributes(array.ctypes.data).type == runtime.memoryTypeHost


def pinned(array: Any) -> Any:
    """A copy of a host array in page-locked memory.

    Raises:
        RuntimeError: it is an array of a CUDA device, or CUDA cannot be used.
    """
    require()
    if isinstance(array, cupy().ndarray):
        raise RuntimeError(f"cannot pin what lies on cuda:{array.device.id}: only dense CPU tensors can be pinned")
    copy = cupyx().empty_pinned(array.shape, array.dtype)
    copy[...] = array
    return copy


def send(array: Any, non_blocking: bool) -> Any:
    """A copy of a host array on the current device.

    CuPy copies pageable memory into a pinned buffer before it returns. Page-locked memory it copies from where it
    lies, keeping it alive till then, while the host goes on: without ``non_blocking`` that is waited for.
    """
    if not array.ndim:
        return send(array.reshape(1), non_blocking).reshape(())  # else CuPy fills in a number, 0.0 for -0.0
    return cupy().asarray(array, blocking=not non_blocking and is_pinned(array))


def move(array: Any) -> Any:
    """A copy on the current device of an array of another one, after what the streams of both have to do before."""
    cuda = cupy().cuda
    here = cuda.get_current_stream()
    with cuda.Device(array.device.id):
        array = cupy().ascontiguousarray(array)
        there = cuda.get_current_stream()
        ready = there.record()
    here.wait_event(ready)
    copy = cupy().asarray(array)
    there.wait_event(here.record())
    return copy


def fetch(array: Any, out: Any, non_blocking: bool) -> Any:
    """A copy of an array of the current device on the host, in ``out`` if given, in C order otherwise.

    With ``non_blocking`` it is only begun where its memory is page-locked, as new memory is then.
    """
    if non_blocking and out is None:
        out = cupyx().empty_pinned(array.shape, array.dtype)
    if not (non_blocking and is_pinned(out)):
        found = array.get(out=out)
        raise_faults()
        return found
    array.get(out=out, blocking=False)
    # The pool gives pinned memory to the next who asks as soon as it is freed, also when it is still written to.
    cupy().cuda.pinned_memory._add_to_watch_list(cupy().cuda.get_current_stream().record(), out)
    return out
