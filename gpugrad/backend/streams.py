"""CUDA streams and events with PyTorch's methods, over CuPy's."""

from __future__ import annotations

from typing import Any

from . import cuda, lazy
from .device import DeviceLike, device, device_of, on, resolve


def cuda_index(which: DeviceLike = None) -> int:
    """The index of the CUDA device that ``which`` (None for the current one) names.

    Raises:
        RuntimeError: CUDA cannot be used, or there is no such device.
        ValueError: it is no CUDA device.
    """
    found = resolve("cuda" if which is None else which)
    if found.index is None:
        raise ValueError(f"Expected a cuda device, but got: {found}")
    return found.index


class Event:
    """A mark in a stream, to wait for or to measure time with.

    Args:
        enable_timing: keep the time, for ``elapsed_time``.
        blocking: let the processor sleep in ``synchronize``.
    """

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False):
        cuda.require()
        self._event = cuda.cupy().cuda.Event(blocking, not enable_timing, interprocess)

    def record(self, stream: Stream | None = None) -> None:
        """Set the mark in a stream (the current one)."""
        stream = current_stream() if stream is None else stream
        lazy.flush()
        with on(stream.device):
            self._event.record(stream._stream)

    def wait(self, stream: Stream | None = None) -> None:
        """Let a stream (the current one) wait for the mark."""
        (current_stream() if stream is None else stream).wait_event(self)

    def query(self) -> bool:
        """Whether all work before the mark is done."""
        return bool(self._event.done)

    def synchronize(self) -> None:
        """Wait until all work before the mark is done."""
        self._event.synchronize()
        cuda.raise_faults()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this mark to another.

        Raises:
            RuntimeError: one of them was not recorded, or keeps no time.
        """
        return cuda.cupy().cuda.get_elapsed_time(self._event, end_event._event)


class Stream:
    """A queue of work on a CUDA device; as a context manager, the one that new work goes to.

    Args:
        device: the current one if left out.
        priority: the lower, the sooner its work runs.
    """

    def __init__(self, device: DeviceLike = None, priority: int = 0, _stream: Any = None):
        index = cuda_index(device)
        self.device = _device(index)
        self.priority = priority
        if _stream is None:
            with on(self.device):
                _stream = cuda.cupy().cuda.Stream(non_blocking=True, priority=priority or None)
        self._stream = _stream
        self._entered: list[Any] = []

    @property
    def cuda_stream(self) -> int:
        """The handle that CUDA libraries take."""
        return self._stream.ptr

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and (self.device, self.cuda_stream) == (other.device, other.cuda_stream)

    def __hash__(self) -> int:
        return hash((self.device, self.cuda_stream))

    def __repr__(self) -> str:
        return f"<gpugrad.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"

    def query(self) -> bool:
        """Whether all its work is done."""
        return bool(self._stream.done)

    def synchronize(self) -> None:
        """Wait until all its work is done."""
        self._stream.synchronize()
        cuda.raise_faults()

    def record_event(self, event: Event | None = None) -> Event:
        """Set a mark here."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Work that follows waits for a mark."""
        lazy.flush()
        self._stream.wait_event(event._event)

    def wait_stream(self, stream: Stream) -> None:
        """Work that follows waits for all that another stream has been given."""
        self.wait_event(stream.record_event())

    def __enter__(self) -> Stream:
        lazy.flush()
        guard = on(self.device)
        guard.__enter__()
        self._entered.append(guard)
        self._stream.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        lazy.flush()
        self._stream.__exit__(*exc)
        self._entered.pop().__exit__(*exc)


def lend(array: Any, stream: Stream) -> None:
    """Let a stream work with the memory of an array of its device, also when that is freed; see ``cuda.lend``.

    Raises:
        TypeError: ``stream`` is no :class:`Stream`.
        NotImplementedError: the array is none of a CUDA device.
        ValueError: they are on different devices.
    """
    if not isinstance(stream, Stream):
        raise TypeError(f"record_stream(): expected a gpugrad.cuda.Stream, but got {type(stream).__name__}")
    array = lazy.settled(array)
    where = device_of(array)
    if where.type != "cuda":
        raise NotImplementedError(f"record_stream() needs a tensor on a CUDA device, but this one is on {where}")
    if where != stream.device:
        raise ValueError(f"record_stream(): the tensor is on {where}, but the stream on {stream.device}")
    cuda.lend(array, stream._stream)


def _device(index: int) -> device:
    return device("cuda", index)


def current_stream(where: DeviceLike = None) -> Stream:
    """The stream that new work on a device (the current one) goes to."""
    index = cuda_index(where)
    return Stream(index, _stream=cuda.cupy().cuda.get_current_stream(index))


def default_stream(where: DeviceLike = None) -> Stream:
    """The stream that a device (the current one) starts with."""
    return Stream(cuda_index(where), _stream=cuda.cupy().cuda.Stream.null)


def set_stream(stream: Stream | None) -> None:
    """Have new work of this thread go to a stream, on whose device it then is; None leaves all as it is."""
    if stream is not None:
        lazy.flush()
        cuda.set_device(cuda_index(stream.device))
        stream._stream.use()


def is_capturing() -> bool:
    """Whether work on the current stream is being captured."""
    return cuda.diagnose().usable and bool(cuda.cupy().cuda.get_current_stream().is_capturing())
