"""Devices, streams, events, and the capture of work into graphs.

Streams run what they are given at once.  Captured work also runs at once, since
what comes after may depend on it, but on borrowed time: at the end of the capture
all device memory gets its old content back (garbage, where it is new), as if
nothing had run yet.  Launching the graph runs the recorded steps on that memory.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .memory import Memory, MemoryPool

DEVICE_COUNT = 2

memoryTypeUnregistered, memoryTypeHost, memoryTypeDevice, memoryTypeManaged = range(4)

streamCaptureModeGlobal, streamCaptureModeThreadLocal, streamCaptureModeRelaxed = range(3)


class CUDARuntimeError(RuntimeError):
    """An error of the CUDA runtime; CuPy's name for it."""


class _Local(threading.local):
    def __init__(self) -> None:
        self.device = 0
        self.streams: list[list[Stream]] = [[Stream.null] for _ in range(DEVICE_COUNT)]
        self.left: list[int] = []


def current_device() -> int:
    """The index of this thread's device."""
    return _local.device


def set_device(device: int) -> None:
    """Make a device this thread's.

    Raises:
        CUDARuntimeError: there is no such device.
    """
    if not 0 <= device < DEVICE_COUNT:
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
    _local.device = device


class Device:
    """A CUDA device; inside its block, and after ``use``, the current one."""

    def __init__(self, device: Any = None):
        self.id = current_device() if device is None else int(device)
        self._before: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __enter__(self) -> Device:
        self._before.append(current_device())
        set_device(self.id)
        return self

    def __exit__(self, *_: object) -> None:
        set_device(self._before.pop())

    def use(self) -> None:
        """Make it the current device of this thread."""
        set_device(self.id)

    def synchronize(self) -> None:
        """Wait for its work.

        Raises:
            CUDARuntimeError: a stream is being captured.
        """
        refuse_capture()

    @property
    def attributes(self) -> dict[str, int]:
        """What the device can do; few multiprocessors, so that grids sized by them stay small."""
        return {
            "MultiProcessorCount": 2,
            "MaxThreadsPerBlock": 1024,
            "WarpSize": 32,
            "MaxSharedMemoryPerBlock": 48 << 10,
            "MaxSharedMemoryPerBlockOptin": 227 << 10,
            "MaxSharedMemoryPerMultiprocessor": 228 << 10,
            "MaxRegistersPerBlock": 65536,
            "MaxThreadsPerMultiProcessor": 2048,
            "L2CacheSize": 50 << 20,
        }

    @property
    def compute_capability(self) -> str:
        """As a Hopper's."""
        return "90"

    @property
    def mem_info(self) -> tuple[int, int]:
        """Bytes free and in all."""
        from . import memory

        return memory.DEVICE_MEMORY - memory.reserved(self.id), memory.DEVICE_MEMORY


_numbers = itertools.count(2)


class Event:
    """A mark in a stream."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        self.ptr = next(_numbers)
        self.timed = not disable_timing
        self._time: float | None = None

    done = True

    def record(self, stream: Stream | None = None) -> None:
        """Set the mark here."""
        self._time = time.perf_counter()

    def synchronize(self) -> None:
        """Wait for the mark.

        Raises:
            CUDARuntimeError: a stream is being captured.
        """
        refuse_capture()


def get_elapsed_time(start: Event, end: Event) -> float:
    """Milliseconds between two marks.

    Raises:
        CUDARuntimeError: one was not recorded, or keeps no time.
    """
    if not (start.timed and end.timed) or start._time is None or end._time is None:
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    return (end._time - start._time) * 1e3


class Stream:
    """A queue of work."""

    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None):
        self.ptr = 0 if null else 1 if ptds else next(_numbers)
        self.device_id = -1 if null or ptds else current_device()
        self.recording: Recording | None = None
        self.is_non_blocking = non_blocking

    done = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return self.ptr

    def _check(self) -> int:
        device = current_device()
        if self.device_id not in (-1, device):
            raise RuntimeError(
                f"The device that the stream is created on ({self.device_id}) "
                f"does not match with the current device ({device})"
            )
        return device

    def __enter__(self) -> Stream:
        device = self._check()
        _local.streams[device].append(self)
        _local.left.append(device)
        return self

    def __exit__(self, *_: object) -> None:
        _local.streams[_local.left.pop()].pop()

    def use(self) -> Stream:
        """Make it the current stream of this thread."""
        _local.streams[self._check()][-1] = self
        return self

    def synchronize(self) -> None:
        """Wait for its work.

        Raises:
            CUDARuntimeError: it is being captured.
        """
        if self.recording is not None:
            refuse_capture()

    def record(self, event: Event | None = None) -> Event:
        """Set a mark here."""
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Work that follows waits for a mark."""

    def begin_capture(self, mode: int | None = None) -> None:
        """From here on, record work instead of running it.

        Raises:
            RuntimeError: it is the default stream, or is being captured already.
        """
        if self.ptr in (0, 1):
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.recording is not None:
            raise CUDARuntimeError("cudaErrorIllegalState: the operation cannot be performed in the present state")
        self.recording = Recording()

    def end_capture(self) -> Graph:
        """The graph of what was recorded.

        Raises:
            CUDARuntimeError: nothing is being captured, or something was called that cannot be.
        """
        recording, self.recording = self.recording, None
        if recording is None:
            raise CUDARuntimeError("cudaErrorIllegalState: the operation cannot be performed in the present state")
        recording.undo()
        if recording.invalid:
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture"
            )
        return Graph(recording)

    def is_capturing(self) -> bool:
        """Whether work is being recorded."""
        return self.recording is not None


Stream.null = Stream(null=True)
_local = _Local()


def get_current_stream(device_id: int = -1) -> Stream:
    """The stream of a device in this thread."""
    return _local.streams[current_device() if device_id == -1 else device_id][-1]


def recording() -> Recording | None:
    """The recording of this thread's stream, if it is being captured."""
    return _local.streams[_local.device][-1].recording


def submit(step: Callable[[], None]) -> None:
    """Do some work now and, if this thread's stream is being captured, at each replay."""
    step()
    found = recording()
    if found is not None:
        found.steps.append(step)


def refuse_capture(what: str = "") -> None:
    """Raise if this thread's stream is being captured, and spoil the capture, as the driver does.

    Raises:
        CUDARuntimeError: it is.
    """
    found = recording()
    if found is not None:
        found.invalid = True
        raise CUDARuntimeError(
            "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing"
            + (f" ({what})" if what else "")
        )


class Recording:
    """What a captured stream was given, and what the memory held before."""

    def __init__(self) -> None:
        from .memory import LIVE

        self.steps: list[Callable[[], None]] = []
        self.blocks: list[tuple[MemoryPool, Callable[[], Memory | None]]] = []
        self.invalid = False
        self._before = {memory: memory.bytes.copy() for memory in list(LIVE)}

    def undo(self) -> None:
        """Give the memory its old content back, and new memory none."""
        from .memory import LIVE

        for memory in list(LIVE):
            before = self._before.get(memory)
            memory.bytes[...] = 0xFF if before is None else before
        self._before.clear()


class Graph:
    """Recorded work, to be run as often as one likes."""

    def __init__(self, recording: Recording):
        self._steps = recording.steps
        # What was freed while capturing is in its pool again, though every launch writes there.
        self._lent = {pool: pool.eager for pool, block in recording.blocks if block() is None}
        self.graph = self.graphExec = next(_numbers)

    def launch(self, stream: Stream | None = None) -> None:
        """Run it.

        Raises:
            CUDARuntimeError: a stream is being captured.
            RuntimeError: other work may have been given memory that the graph uses; on a GPU nothing would tell.
        """
        refuse_capture()
        if any(pool.eager != count for pool, count in self._lent.items()):
            raise RuntimeError(
                "memory that was freed during the capture went back to its pool, which has served other work since: "
                "give each graph a pool of its own"
            )
        with np.errstate(all="ignore"):
            for step in self._steps:
                step()

    def upload(self, stream: Stream | None = None) -> None:
        """Prepare the launch."""


def getDeviceCount() -> int:
    """How many devices there are."""
    return DEVICE_COUNT


getDevice = current_device
setDevice = set_device


def driverGetVersion() -> int:
    """Of the CUDA that is simulated."""
    return 13000


runtimeGetVersion = driverGetVersion


def getDeviceProperties(device: int) -> dict[str, Any]:
    """Name, memory and limits of a device.

    Raises:
        CUDARuntimeError: there is no such device.
    """
    from .memory import DEVICE_MEMORY

    if not 0 <= device < DEVICE_COUNT:
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
    attributes = Device(device).attributes
    return {
        "name": b"simulated CUDA device",
        "totalGlobalMem": DEVICE_MEMORY,
        "multiProcessorCount": attributes["MultiProcessorCount"],
        "major": 9,
        "minor": 0,
        "warpSize": 32,
        "l2CacheSize": attributes["L2CacheSize"],
        "maxThreadsPerMultiProcessor": attributes["MaxThreadsPerMultiProcessor"],
        "regsPerMultiprocessor": 65536,
        "sharedMemPerBlock": attributes["MaxSharedMemoryPerBlock"],
        "sharedMemPerBlockOptin": attributes["MaxSharedMemoryPerBlockOptin"],
        "sharedMemPerMultiprocessor": attributes["MaxSharedMemoryPerMultiprocessor"],
        "integrated": 0,
        "isMultiGpuBoard": 0,
        "pciBusID": device,
        "pciDeviceID": 0,
        "pciDomainID": 0,
        "uuid": bytes([device] * 16),
    }


def memGetInfo() -> tuple[int, int]:
    """Bytes free and in all, of the current device."""
    return Device().mem_info


class PointerAttributes:
    """What kind of memory an address lies in."""

    def __init__(self, type: int):
        self.type = type


def pointerGetAttributes(ptr: int) -> PointerAttributes:
    """What the driver knows of an address."""
    from .memory import PINNED

    pinned = any(start <= ptr < start + len(memory) for start, memory in list(PINNED.items()))
    return PointerAttributes(memoryTypeHost if pinned else memoryTypeUnregistered)


def deviceSynchronize() -> None:
    """Wait for the current device."""
    Device().synchronize()
