"""CUDA devices: whether they can be used, which there are, their memory, streams and events."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from . import backend
from .backend import cuda as _cuda
from .backend.cuda import OutOfMemoryError
from .backend.graph import Recording
from .backend.streams import Event, Stream, cuda_index, current_stream, default_stream, is_capturing, set_stream
from .creation import legacy_types
from .tensor import Tensor

__all__ = [
    "CUDAGraph",
    "DeviceProperties",
    "Event",
    "OutOfMemoryError",
    "Stream",
    "StreamContext",
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
    "get_rng_state",
    "get_rng_state_all",
    "graph",
    "init",
    "initial_seed",
    "is_available",
    "is_bf16_supported",
    "is_current_stream_capturing",
    "is_initialized",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "memory_summary",
    "reset_max_memory_allocated",
    "reset_peak_memory_stats",
    "seed",
    "seed_all",
    "set_device",
    "set_per_process_memory_fraction",
    "set_rng_state",
    "set_rng_state_all",
    "set_stream",
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


class StreamContext:
    """A block in which new work goes to a stream; None leaves the stream as it is."""

    def __init__(self, stream: Stream | None):
        self.stream = stream

    def __enter__(self) -> None:
        if self.stream is not None:
            self.stream.__enter__()

    def __exit__(self, *exc: Any) -> None:
        if self.stream is not None:
            self.stream.__exit__(*exc)


def stream(stream: Stream | None) -> StreamContext:
    """A block in which new work goes to a stream; None leaves the stream as it is."""
    return StreamContext(stream)


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


def max_memory_reserved(device: Any = None) -> int:
    """The most bytes of device memory that were seen held, in use or kept for reuse; 0 where CUDA cannot be used.

    Counted as ``max_memory_allocated``; looked at whenever that rises, and before memory is given back.
    """
    if not is_available():
        return 0
    with _on(device):
        return _cuda.memory_held_peak()


def memory_stats(device: Any = None) -> dict[str, int]:
    """Bytes that are allocated and reserved, now and at most, by PyTorch's names; empty where CUDA cannot be used."""
    if not is_available():
        return {}
    found = {
        "allocated": (memory_allocated(device), max_memory_allocated(device)),
        "reserved": (memory_reserved(device), max_memory_reserved(device)),
    }
    return {
        f"{what}_bytes.all.{when}": size
        for what, sizes in found.items()
        for when, size in zip(("current", "peak"), sizes, strict=True)
    }


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


def seed() -> None:
    """Seed the generator, which is the same for every device, with a number of the system's."""
    from . import random

    random.seed()


seed_all = seed


def initial_seed() -> int:
    """The number that the generator, which is the same for every device, was seeded with."""
    from . import random

    return random.initial_seed()


def get_rng_state(device: Any = "cuda") -> Tensor:
    """The state of the generator, which is the same for every device, as bytes."""
    from . import random

    return random.get_rng_state()


def get_rng_state_all() -> list[Tensor]:
    """The state of the generator, once for each device."""
    return [get_rng_state() for _ in range(device_count())]


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    """Set the state of the generator, which is the same for every device.

    Raises:
        RuntimeError, TypeError: it is no state.
    """
    from . import random

    random.set_rng_state(new_state)


def set_rng_state_all(new_states: Iterable[Tensor]) -> None:
    """Set the state of the generator to the last of those given, which ``get_rng_state_all`` makes all the same."""
    for state in new_states:
        set_rng_state(state)


# Graphs.


class CUDAGraph:
    """Work that is recorded once and run many times, always on the same memory; :func:`gpugrad.compile` does more.

    Args:
        keep_graph: accepted.
    """

    def __init__(self, keep_graph: bool = False):
        self._recording: Recording | None = None
        self._block: AbstractContextManager[Any] | None = None

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
        """Record from here on, what runs on the current device.

        Args:
            pool, capture_error_mode: accepted; each graph has memory of its own.

        Raises:
            RuntimeError: there is a graph already, or CUDA cannot be used.
        """
        if self._recording is not None:
            raise RuntimeError("This CUDAGraph instance already owns a captured graph: reset() it, or make another")
        self._recording = Recording(backend.resolve(current_device()))
        self._block = self._recording.block()
        self._block.__enter__()

    def capture_end(self) -> None:
        """Record no more.

        Raises:
            RuntimeError: nothing is being recorded.
        """
        self._end(None, None, None)

    def _end(self, *exc: Any) -> None:
        if self._block is None:
            raise RuntimeError("CUDAGraph.capture_end() was called without capture_begin()")
        block, self._block = self._block, None
        if exc[0] is not None:
            self._recording = None
        block.__exit__(*exc)

    def replay(self) -> None:
        """Run what was recorded, on the current stream.

        Raises:
            RuntimeError: nothing was recorded, or what the record takes for granted of an optimizer has changed.
        """
        if self._recording is None or self._block is not None:
            raise RuntimeError("Called CUDAGraph.replay without a preceding successful capture.")
        if not self._recording.is_valid():
            raise RuntimeError(
                "CUDAGraph.replay: the options or the state of what was captured, such as an optimizer's, changed; "
                "capture it anew"
            )
        with backend.on(self._recording.device):
            self._recording.run()
        for note in self._recording.after:
            note()

    def reset(self) -> None:
        """Forget what was recorded."""
        self._recording = None

    def pool(self) -> tuple[int, int]:
        """What stands for the graph's memory where PyTorch shares that."""
        return (0, id(self))


class graph:
    """A block that is recorded into a :class:`CUDAGraph`.

    Args:
        pool, stream, capture_error_mode: accepted; recording has a stream and memory of its own.
    """

    def __init__(
        self,
        cuda_graph: CUDAGraph,
        pool: Any = None,
        stream: Stream | None = None,
        capture_error_mode: str = "global",
    ):
        self.cuda_graph = cuda_graph

    def __enter__(self) -> None:
        synchronize()
        self.cuda_graph.capture_begin()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        from .capture import explained

        if error is None:
            self.cuda_graph.capture_end()
            return
        self.cuda_graph._end(kind, error, trace)
        if isinstance(error, Exception):
            raise explained(error) from error


from .amp import cuda as amp  # noqa: E402, F401  # at the end: it needs what stands above
