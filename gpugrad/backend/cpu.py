"""Elementwise work on the CPU: in blocks that stay in cache, shared between threads.

NumPy lets go of the interpreter lock inside a ufunc, so threads that each take
part of the blocks run side by side.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

BLOCK = 32768
"""Elements in a block: a handful of float32 blocks stay in a core's level-2 cache."""


class _Worker(threading.Thread):
    """A thread that runs what it is handed, one function at a time."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="gpugrad-worker")
        self.tasks: SimpleQueue[tuple[Callable[[], None], SimpleQueue[BaseException | None]]] = SimpleQueue()
        self.start()

    def run(self) -> None:
        while True:
            task, done = self.tasks.get()
            try:
                task()
            except BaseException as error:
                done.put(error)
            else:
                done.put(None)
            del task, done


def _usable_cores() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(int(asked), cores)) if asked.isdigit() and int(asked) > 0 else cores


_count = _usable_cores()
_workers: list[_Worker] = []
_busy = threading.Lock()


def get_num_threads() -> int:
    """How many threads share elementwise work on the CPU (BLAS has its own setting)."""
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


def parallel(task: Callable[[int, int], None], size: int, least: int = BLOCK) -> None:
    """Call ``task(start, stop)`` on parts of ``range(size)`` that are multiples of ``least``, side by side.

    Runs in the calling thread alone when there is little to share, or when the
    workers are taken (by another thread, or by a task that calls this again).
    """
    parts = min(_count, size // least)
    if parts < 2 or not _busy.acquire(blocking=False):
        task(0, size)
        return
    try:
        while len(_workers) < parts - 1:
            _workers.append(_Worker())
        step = -(-size // (parts * least)) * least
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        handed = 0
        for k in range(1, parts):
            if k * step < size:
                start, stop = k * step, min(size, (k + 1) * step)
                _workers[k - 1].tasks.put((lambda start=start, stop=stop: task(start, stop), done))  # type: ignore[misc]
                handed += 1
        failure: BaseException | None = None
        try:
            task(0, min(step, size))
        except BaseException as error:
            failure = error
        for _ in range(handed):
            failure = done.get() or failure
    finally:
        _busy.release()
    if failure is not None:
        raise failure
