"""Elementwise work on the CPU: in blocks that stay in cache, shared between threads.

NumPy lets go of the interpreter lock inside a ufunc, so threads that each take
part of the blocks run side by side.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter, thread_time
from types import CodeType
from typing import Any

import numpy as np

from .quiet import hush

_SC_LEVEL2_CACHE_SIZE = 194  # glibc's number; Python knows no name for it


def _level2_cache() -> int:
    """Bytes in a core's level-2 cache; 1 MiB where the system does not say."""
    try:
        found = os.sysconf(_SC_LEVEL2_CACHE_SIZE) if os.confstr("CS_GNU_LIBC_VERSION") else 0
    except (AttributeError, OSError, ValueError):
        found = 0
    return found if found > 0 else 1 << 20


BLOCK = 1 << (min(max(_level2_cache() >> 4, 1 << 15), 1 << 17).bit_length() - 1)
"""Elements in a block, of which four float32 ones fit into a core's level-2 cache."""

WHOLE = 2 * BLOCK
"""Elements below which several passes over all of an array are quicker than the same passes block by block."""

_PATIENCE = 20.0  # what several threads have lost is waited for so often before they are tried again; longer
_LONGEST = 2.0  # each time they lose again, up to so many seconds

_ALONE = 0.8  # of the processor's time that threads spend on work is what one thread would take

_LINE = 64
"""Bytes in a cache line, and in the widest vector register."""


def empty(size: int, dtype: Any) -> np.ndarray:
    """An uninitialised one-dimensional array that starts on a cache line.

    NumPy's own start 16 bytes into one; a product that is written there was measured to take
    twice as long, since every vector stored touches two lines.
    """
    count = size * np.dtype(dtype).itemsize
    memory = np.empty(count + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + count].view(dtype)


class Rest:
    """When to try several threads again after they were slower than one: later each time they lose again."""

    def __init__(self) -> None:
        self._until = 0.0
        self._patience = _PATIENCE

    def over(self, now: float) -> bool:
        """Whether it is time to try."""
        return now >= self._until

    def lost(self, now: float, seconds: float) -> None:
        """One thread would have taken so many seconds less."""
        rest = min(self._patience * seconds, _LONGEST)
        self._until = now + rest
        self._patience *= 2 if rest < _LONGEST else 1

    def won(self) -> None:
        """Several threads were the quicker way."""
        self._patience = max(0.9 * self._patience, _PATIENCE)


class _Worker(threading.Thread):
    """A thread that runs the functions it is handed, which raise nothing, one at a time."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="gpugrad-worker")
        self.tasks: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self.start()

    def run(self) -> None:
        hush()
        while True:
            task = self.tasks.get()
            task()
            del task


def _usable_cores() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(int(asked), cores)) if asked.isdigit() and int(asked) > 0 else cores


_count = _usable_cores()
_workers: list[_Worker] = []
_busy = threading.Lock()
_rests: dict[CodeType | None, Rest] = {}  # for each function that works on parts


def get_num_threads() -> int:
    """How many threads share work on the CPU."""
    return _count


def set_num_threads(count: int) -> None:
    """Set how many threads share elementwise work on the CPU.

    Raises:
        RuntimeError: ``count`` is not a positive int.
    """
    global _count
    if not isinstance(count, int) or count < 1:
        raise RuntimeError(f"set_num_threads expects a positive integer, got {count!r}")
    _count = count


def _forget_workers() -> None:
    # Threads do not survive a fork.
    global _busy
    _workers.clear()
    _busy = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


def parallel(task: Callable[[int, int], Any], size: int, least: int = BLOCK) -> None:
    """Call ``task(start, stop)`` on equal parts of ``range(size)``, none smaller than ``least``, side by side.

    The parts depend on nothing but the arguments and the number of threads.  Each thread takes
    the next one that nobody has begun, so a worker that wakes up too late has none left.  Where
    the workers are taken (by another thread, or by a task that calls this again), the parts are
    done one after the other; so they are for a while where the threads took more time than they
    spent working, because they waited for a core or for the interpreter lock.

    Args:
        task: does a part of the work.
        size, least: how much there is, and how much is worth waking a thread for.
    """
    parts = min(_count, size // least)
    if parts < 2:
        task(0, size)
        return
    step = -(-size // parts)
    ranges = [(start, min(size, start + step)) for start in range(0, size, step)]
    rest = _rests.setdefault(getattr(task, "__code__", None), Rest())
    begin = perf_counter()
    if not rest.over(begin) or not _busy.acquire(blocking=False):
        for start, stop in ranges:
            task(start, stop)
        return
    left, work = deque(ranges), [task]
    lock = threading.Lock()
    running = 0  # parts that the workers have begun
    worked = 0.0  # seconds of the processor
    ended: SimpleQueue[None] = SimpleQueue()
    failures: list[BaseException] = []

    def help_out() -> None:
        nonlocal running, worked
        while True:
            with lock:
                if not left:
                    return
                start, stop = left.popleft()
                running += 1
            before = thread_time()
            try:
                work[0](start, stop)
            except BaseException as error:
                failures.append(error)
            with lock:
                running -= 1
                worked += thread_time() - before
            ended.put(None)

    try:
        while len(_workers) < len(ranges) - 1:
            _workers.append(_Worker())
        for worker in _workers[: len(ranges) - 1]:
            worker.tasks.put(help_out)
        before = thread_time()
        try:
            while True:
                with lock:
                    if not left:
                        break
                    start, stop = left.popleft()
                task(start, stop)
        finally:
            own = thread_time() - before
            with lock:
                left.clear()
            while running:
                ended.get()
            work.clear()  # a worker that comes too late would keep alive what it refers to
    finally:
        _busy.release()
    if failures:
        raise failures[0]
    end = perf_counter()
    loss = end - begin - _ALONE * (own + worked)
    if loss > 0:
        rest.lost(end, loss)
    else:
        rest.won()
