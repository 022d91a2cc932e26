"""Work on a CUDA device that is recorded once, as a CUDA graph, and run many times.

Nothing runs while it is recorded.  Each recording has a memory pool of its own, which
lives as long as it does: what is freed while recording is reused within the recording,
and never by anything else.
"""

from __future__ import annotations

import functools
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from . import cuda, lazy
from .device import Array, device, on
from .random import default_generator

T = TypeVar("T")


class _Local(threading.local):
    current: Recording | None = None


_local = _Local()


def current() -> Recording | None:
    """The recording that this thread is making."""
    return _local.current


def constant(xp: Any, array: np.ndarray) -> Array:
    """A host array's values for the array module: copied to a CUDA device once, since recorded work cannot copy."""
    if xp is np:
        return array
    found = _constant(array.tobytes(), array.dtype, array.shape, cuda.current_device())
    if _local.current is not None:
        _local.current.kept.append(found)
    return found


@functools.lru_cache(1024)
def _constant(data: bytes, dtype: np.dtype, shape: tuple[int, ...], device: int) -> Array:
    return cuda.cupy().asarray(np.frombuffer(data, dtype).reshape(shape))


class Recording:
    """What is recorded of one piece of work.

    Attributes:
        before: called before each run: they put into device memory what changes from run to run.
        guards: each says whether what the recording takes for granted still holds.
        switches: the same, by who asks, of what is known to change and to change back: when only these differ,
            there is nothing to warm up before another recording.
        after: called after each run, when what was recorded has returned; may read from the device.
        kept: what it reads and nothing else may hold.
        scratch: memory that its products share, one after the other.
    """

    def __init__(self, where: device):
        self.device = where
        self.kept: list[Array] = []
        self.before: list[Callable[[], None]] = []
        self.guards: list[Callable[[], bool]] = []
        self.scratch: dict[Any, Array] = {}
        self.switches: dict[Any, Callable[[], bool]] = {}
        self.after: list[Callable[[], None]] = []
        self._allocate = cuda.counted(cuda.cupy().cuda.MemoryPool(cuda.allocate))
        self._graph: Any = None

    def record(self, work: Callable[[], T]) -> T:
        """Call ``work``, which only records what it gives the device to do; returns its result."""
        with self.block():
            return work()

    @contextmanager
    def block(self) -> Iterator[None]:
        """A block that only records what it gives the device to do."""
        from . import gemm

        xp = cuda.cupy()
        with on(self.device):
            gemm.prepare()
            cuda.synchronize()
            place = xp.zeros(2, np.uint64)
            stream = xp.cuda.Stream(non_blocking=True)
            with _no_collection(), stream, xp.cuda.using_allocator(self._allocate):
                stream.begin_capture()
                _local.current = self
                lazy.begin()
                try:
                    with default_generator.captured(place) as advance:
                        yield
                        lazy.end()
                except BaseException:
                    lazy.end(failed=True)
                    _abandon(stream)
                    raise
                finally:
                    _local.current = None
                self._graph = stream.end_capture()
        self.before.append(advance)

    def is_valid(self, switched: bool = False) -> bool:
        """Whether running it does what calling the recorded work would do now, but for switches if ``switched``."""
        return all(guard() for guard in self.guards) and (switched or all(same() for same in self.switches.values()))

    def run(self) -> None:
        """Run what was recorded, on the current stream."""
        for prepare in self.before:
            prepare()
        self._graph.launch()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect garbage before, not inside: what lies there may be graphs and memory, which no capture may free."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _abandon(stream: Any) -> None:
    try:
        stream.end_capture()
    except Exception:  # what cannot be recorded has spoiled the capture, and its end says so once more
        return
