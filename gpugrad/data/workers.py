"""Worker threads of the DataLoader."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any

from ..backend import get_default_device, set_default_device
from . import streams

_HEARTBEAT = 1.0
"""Seconds after which a thread that waits looks up: on some systems Ctrl-C does not interrupt a longer wait."""

Work = Callable[[], Any]

END: Any = object()
"""The result of work that found nothing left to do."""


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker knows of itself: its number, how many there are, the epoch's seed and the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


class _Here(threading.local):
    info: WorkerInfo | None = None


_here = _Here()


def get_worker_info() -> WorkerInfo | None:
    """In a worker thread of a DataLoader, what it knows of itself; elsewhere None."""
    return _here.info


class Epoch:
    """One pass over a dataset: its seed, how many batches it has given out, and whether it is over."""

    def __init__(self, seed: int, batches: int = 0):
        self.seed = seed
        self.batches = batches
        self.over = False

    def work(self, number: int, work: Work) -> Any:
        """Do the work of one batch, with that batch's random stream."""
        streams.enter(self.seed, number)
        try:
            return work()
        finally:
            streams.leave()


class Pool:
    """Threads that make batches ahead of time."""

    def __init__(self, count: int, ahead: int, dataset: Any, seed: int, init: Callable[[int], Any] | None):
        self.ahead = ahead
        self._queues: list[SimpleQueue[Any]] = [SimpleQueue() for _ in range(count)]
        self._threads = [
            threading.Thread(
                target=_serve,
                args=(queue, WorkerInfo(k, count, seed, dataset), init, get_default_device()),
                name=f"gpugrad-data-{k}",
                daemon=True,
            )
            for k, queue in enumerate(self._queues)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, epoch: Epoch, works: Iterator[tuple[int, int, Work]], timeout: float) -> Iterator[Any]:
        """The results of the ``(number, worker, work)`` in their order.

        Raises:
            RuntimeError: a result took longer than ``timeout`` seconds (0: no limit).
        """
        pending: deque[tuple[int, SimpleQueue[Any]]] = deque()
        while True:
            for number, worker, work in islice(works, self.ahead * len(self._queues) - len(pending)):
                reply: SimpleQueue[Any] = SimpleQueue()
                self._queues[worker].put((epoch, number, work, reply))
                pending.append((worker, reply))
            if not pending:
                return
            worker, reply = pending.popleft()
            result, error = self._wait(worker, reply, timeout)
            if error is not None:
                error.add_note(f"(raised in DataLoader worker {worker})")
                try:
                    raise error
                finally:
                    del error
            yield result
            del result

    def _wait(self, worker: int, reply: SimpleQueue[Any], timeout: float) -> tuple[Any, BaseException | None]:
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic() if timeout else _HEARTBEAT
            try:
                return reply.get(timeout=max(0.0, min(left, _HEARTBEAT)))
            except Empty:
                if timeout and left <= _HEARTBEAT:
                    raise RuntimeError(f"DataLoader timed out after {timeout} seconds") from None
                if not self._threads[worker].is_alive():
                    raise RuntimeError(f"DataLoader worker {worker} is gone (threads do not survive a fork)") from None

    def stop(self) -> None:
        """Let the threads end, and give them a moment for it."""
        for queue in self._queues:
            queue.put(None)
        deadline = time.monotonic() + _HEARTBEAT
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _serve(tasks: SimpleQueue[Any], info: WorkerInfo, init: Callable[[int], Any] | None, device: Any) -> None:
    _here.info = info
    set_default_device(device)
    failure: BaseException | None = None
    try:
        if init is not None:
            init(info.id)
    except BaseException as error:
        failure = error
    while (task := tasks.get()) is not None:
        epoch, number, work, reply = task
        if epoch.over:
            continue
        try:
            if failure is not None:
                raise failure
            reply.put((epoch.work(number, work), None))
        except BaseException as error:
            reply.put((None, error))
        # Waiting for the next task, hold on to nothing of this one.
        del task, epoch, work, reply
