"""CUDA devices: whether they can be used, which there are, their memory, streams and events."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from . import backend
from .backend import cuda as _cuda
from .backend.cuda import OutOfMemoryError
from .backend.streams import Event, Stream, cuda_index, current_stream, default_stream, is_capturing
from .creation import legacy_types

__all__ = [
    "DeviceProperties",
    "Event",
    "OutOfMemoryError",
    "Stream",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "device_of",
    "empty_cache",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "init",
    "is_available",
    "is_bf16_supported",
    "is_current_stream_capturing",
    "is_initialized",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_summary",
    "reset_max_memory_allocated",
    "reset_peak_memory_stats",
    "set_device",
    "set_per_process_memory_fraction",
    "stream",
    "synchronize",
]

is_current_stream_capturing = is_capturing

globals().update(legacy_types("cuda"))


def is_available() -> bool:
    """Whether a CUDA device can be used; ``gpugrad info`` says why not."""
    return _cuda.diagnose().usable


def init() -> None:
    """Make sure that CUDA can be used; done by itself when it is first needed.

    Raises:
        RuntimeError: it cannot; says why and what to do.
    """
    _cuda.require()


is_initialized = is_available


def device_count() -> int:
    """The number of CUDA devices that can be used."""
    return _cuda.diagnose().device_count


def current_device() -> int:
    """The index of the current CUDA device.

    Raises:
        RuntimeError: CUDA cannot be used.
    """
    _cuda.require()
    return _cuda.current_device()


def set_device(device: Any) -> None:
    """Make a CUDA device the current one of this thread.

    Raises:
        RuntimeError: CUDA cannot be used, or there is no such device.
        ValueError: it is no CUDA device.
    """
    _cuda.set_device(cuda_index(device))


def device(device: Any) -> AbstractContextManager[Any]:
    """A block in which a CUDA device is the current one; None or a negative index leaves it as it is."""
    if device is None or (isinstance(device, int) and device < 0):
        return nullcontext()
    return backend.on(backend.resolve(cuda_index(device)))


def device_of(obj: Any) -> AbstractContextManager[Any]:
    """A block in which the device of a tensor is the current one; nothing happens for one on the CPU."""
    return device(obj.device.index if obj.device.type == "cuda" else None)


def stream(stream: Stream | None) -> AbstractContextManager[Any]:
    """A block in which new work goes to a stream; None leaves the stream as it is."""
    return nullcontext() if stream is None else stream


def synchronize(device: Any = None) -> None:
    """Wait until a CUDA device has done all it was given.

    Raises:
        RuntimeError: CUDA cannot be used.
    """
    with _on(device):
        _cuda.synchronize()


def _on(device: Any) -> AbstractContextManager[Any]:
    return backend.on(backend.resolve(cuda_index(device)))


# What devices are.


@dataclass(frozen=True)
class DeviceProperties:
    """What a CUDA device is called and has."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    warp_size: int
    L2_cache_size: int
    max_threads_per_multi_processor: int


def get_device_properties(device: Any = None) -> DeviceProperties:
    """Name, compute capability, memory and multiprocessors of a CUDA device.

    Raises:
        RuntimeError: CUDA cannot be used, or there is no such device.
    """
    found = _cuda.properties(cuda_index(device))
    return DeviceProperties(
        found["name"].decode(),
        found["major"],
        found["minor"],
        found["totalGlobalMem"],
        found["multiProcessorCount"],
        found["warpSize"],
        found["l2CacheSize"],
        found["maxThreadsPerMultiProcessor"],
    )


def get_device_name(device: Any = None) -> str:
    """The name of a CUDA device.

    Raises:
        RuntimeError: CUDA cannot be used, or there is no such device.
    """
    return get_device_properties(device).name


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability of a CUDA device: major and minor number.

    Raises:
        RuntimeError: CUDA cannot be used, or there is no such device.
    """
    found = get_device_properties(device)
    return found.major, found.minor


# Memory.


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the current device computes with bfloat16.

    Args:
        including_emulation: count devices older than those with units of their own for it (compute capability 8.0).

    Raises:
        RuntimeError: CUDA cannot be used.
    """
    return including_emulation or get_device_capability()[0] >= 8


def memory_allocated(device: Any = None) -> int:
    """Bytes of device memory that tensors occupy; 0 where CUDA cannot be used."""
    if not is_available():
        return 0
    with _on(device):
        return _cuda.memory_used()


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes of device memory that tensors occupied; 0 where CUDA cannot be used.

    Counted from the last ``reset_peak_memory_stats``, or else from the start of the process.
    """
    if not is_available():
        return 0
    with _on(device):
        return _cuda.memory_peak()


def reset_peak_memory_stats(device: Any = None) -> None:
    """Count ``max_memory_allocated`` from here.

    Raises:
        RuntimeError: CUDA cannot be used.
    """
    with _on(device):
        _cuda.reset_peak()


reset_max_memory_allocated = reset_peak_memory_stats
"""The old name of ``reset_peak_memory_stats``."""


def memory_reserved(device: Any = None) -> int:
    """Bytes of device memory that are held, in use or kept for reuse; 0 where CUDA cannot be used."""
    if not is_available():
        return 0
    with _on(device):
        return _cuda.memory_held()


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """A table for people: the device memory that tensors occupy and occupied at most, that is held, and that is free.

    Args:
        abbreviated: accepted; the table is short.

    Raises:
        RuntimeError: CUDA cannot be used.
    """
    free, total = mem_get_info(device)
    rows = {
        "occupied by tensors": memory_allocated(device),
        "occupied at most": max_memory_allocated(device),
        "held, in use or not": memory_reserved(device),
        "free on the device": free,
        "on the device in all": total,
    }
    lines = [f"Memory of CUDA device {cuda_index(device)}"]
    lines += [f"  {name:<22}{size / 2**20:>12,.1f} MiB" for name, size in rows.items()]
    return "\n".join(lines)


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Bytes of a device's memory that are free for any process, and all.

    Raises:
        RuntimeError: CUDA cannot be used.
    """
    with _on(device):
        return _cuda.memory_info()


def set_per_process_memory_fraction(fraction: float, device: Any = None) -> None:
    """Let tensors take at most a fraction of a device's memory.

    Raises:
        RuntimeError: CUDA cannot be used.
        ValueError: ``fraction`` is not between 0 and 1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0 to 1")
    with _on(device):
        _cuda.limit_memory(fraction)


def empty_cache() -> None:
    """Give memory that is kept for reuse back to the driver."""
    if is_available():
        _cuda.empty_cache()


def manual_seed(seed: int) -> None:
    """Seed the generator, which is the same for every device."""
    from . import random

    random.manual_seed(seed)


manual_seed_all = manual_seed

from .amp import cuda as amp  # noqa: E402, F401  # at the end: it needs what stands above
