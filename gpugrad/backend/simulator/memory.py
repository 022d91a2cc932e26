"""Device memory: blocks with guards around them, pools that count them, pointers into them."""

from __future__ import annotations

import ctypes
import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from . import compiler, runtime

DEVICE_MEMORY = 4 << 30
ALIGNMENT = 512
GUARD = 256
POISON = 0xA5


class OutOfMemoryError(MemoryError):
    """A pool or the device has no room for an allocation; CuPy's name, arguments and text."""

    def __init__(self, size: int, total: int, limit: int = 0):
        suffix = f" (limit set to: {limit:,} bytes)" if limit else ""
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes{suffix}).")
        self._size, self._total, self._limit = size, total, limit

    def __reduce__(self) -> Any:
        return type(self), (self._size, self._total, self._limit)


class Memory:
    """A block of device memory: host bytes, aligned as on the device, between two guards of known content."""

    def __init__(self, size: int, device_id: int, pool: MemoryPool | None = None):
        self.size, self.device_id, self.pool = size, device_id, pool
        self.block = -(-size // ALIGNMENT) * ALIGNMENT
        self.buffer = np.full(size + ALIGNMENT + 2 * GUARD, POISON, np.uint8)
        address = self.buffer.__array_interface__["data"][0]
        self.start = GUARD + -(address + GUARD) % ALIGNMENT
        self.ptr = address + self.start
        self.recorded = False  # a graph works with it
        self._sanitizer = _sanitizer()
        if self._sanitizer is not None:
            self._sanitizer.poison(address, self.start)
            self._sanitizer.poison(self.ptr + size, len(self.buffer) - self.start - size)
        LIVE.add(self)

    def __del__(self) -> None:
        if self._sanitizer is not None:
            self._sanitizer.unpoison(self.ptr - self.start, len(self.buffer))
        if self.recorded:
            self.bytes[...] = 0xFF  # what a graph reads later is no number
        if self.pool is not None:
            self.pool._freed(self)

    @property
    def bytes(self) -> np.ndarray:
        """The block's own bytes."""
        return self.buffer[self.start : self.start + self.size]

    def check(self) -> None:
        """Raise if something was written just outside of the block.

        Raises:
            RuntimeError: it was.
        """
        if self._sanitizer is None:
            before, after = self.buffer[: self.start], self.buffer[self.start + self.size :]
            for where, guard in (("before the start", before), ("behind the end", after)):
                if (guard != POISON).any():
                    guard[...] = POISON
                    raise RuntimeError(f"memory was written {where} of an array of {self.size} bytes")


LIVE: weakref.WeakSet[Memory] = weakref.WeakSet()
"""All blocks in use."""


def blocks_at(data: bytes) -> list[Memory]:
    """The blocks that the addresses in a struct, given as its bytes, point into."""
    words = np.unique(np.frombuffer(data[: len(data) // 8 * 8], np.uint64))
    blocks = sorted(LIVE, key=lambda block: block.ptr)
    starts = np.array([block.ptr for block in blocks], np.uint64)
    places = np.searchsorted(starts, words, "right") - 1
    found = [(blocks[k], int(word)) for k, word in zip(places.tolist(), words, strict=True) if k >= 0]
    return [block for block, word in dict(found).items() if word < block.ptr + block.size]


class _Sanitizer(NamedTuple):
    poison: Callable[[int, int], None]
    unpoison: Callable[[int, int], None]


@functools.cache
def _sanitizer() -> _Sanitizer | None:
    """How AddressSanitizer is told what may not be touched, when kernels are compiled with it."""
    if not compiler.sanitizing():
        return None
    library = ctypes.CDLL(None)
    found = _Sanitizer(library["__asan_poison_memory_region"], library["__asan_unpoison_memory_region"])
    for function in found:
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t]  # type: ignore[attr-defined]
    return found


class MemoryPointer:
    """An address within a block."""

    def __init__(self, mem: Memory, offset: int):
        self.mem, self.offset = mem, offset

    @property
    def ptr(self) -> int:
        """The address."""
        return self.mem.ptr + self.offset

    @property
    def device_id(self) -> int:
        """The device of the block."""
        return self.mem.device_id

    def __int__(self) -> int:
        return self.ptr

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.offset + offset)


class MemoryPool:
    """CuPy's pool: it keeps what is freed, until ``free_all_blocks``."""

    def __init__(self, allocator: Any = None):
        self._lock = threading.RLock()
        self._used = [0] * runtime.DEVICE_COUNT
        self._total = [0] * runtime.DEVICE_COUNT
        self._limit = [0] * runtime.DEVICE_COUNT
        self.eager = 0  # allocations outside of captures
        POOLS.add(self)

    def malloc(self, size: int) -> MemoryPointer:
        """A block on the current device.

        Raises:
            OutOfMemoryError: it exceeds the pool's limit or the device's memory.
        """
        device = runtime.current_device()
        block = -(-size // ALIGNMENT) * ALIGNMENT
        with self._lock:
            used = self._used[device] + block
            total = max(self._total[device], used)
            limit = self._limit[device]
            if total > self._total[device]:
                if (limit and total > limit) or reserved(device) - self._total[device] + total > DEVICE_MEMORY:
                    raise OutOfMemoryError(block, self._total[device], limit)
                self._total[device] = total
            self._used[device] = used
        pointer = MemoryPointer(Memory(size, device, self), 0)
        recording = runtime.recording()
        if recording is None:
            self.eager += 1
        else:
            recording.blocks.append((self, weakref.ref(pointer.mem)))
        for hook in _local.hooks:
            hook.malloc_postprocess(
                device_id=device, size=size, mem_size=block, mem_ptr=pointer.ptr, pmem_id=id(pointer.mem)
            )
        return pointer

    def _freed(self, memory: Memory) -> None:
        with self._lock:
            self._used[memory.device_id] -= memory.block

    def used_bytes(self) -> int:
        """Bytes handed out on the current device."""
        return self._used[runtime.current_device()]

    def total_bytes(self) -> int:
        """Bytes held on the current device, handed out or not."""
        return self._total[runtime.current_device()]

    def free_bytes(self) -> int:
        """Bytes held but not handed out."""
        return self.total_bytes() - self.used_bytes()

    def free_all_blocks(self, stream: Any = None) -> None:
        """Give back what is not handed out."""
        with self._lock:
            self._total = list(self._used)

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        """Limit what is held on the current device; 0 stands for no limit."""
        self._limit[runtime.current_device()] = size if size is not None else int((fraction or 0) * DEVICE_MEMORY)

    def get_limit(self) -> int:
        """The limit on the current device; 0 if there is none."""
        return self._limit[runtime.current_device()]


POOLS: weakref.WeakSet[MemoryPool] = weakref.WeakSet()
default_pool = MemoryPool()


def reserved(device: int) -> int:
    """Bytes of a device that pools hold."""
    return sum(pool._total[device] for pool in POOLS)


class _Local(threading.local):
    def __init__(self) -> None:
        self.allocator: Callable[[int], MemoryPointer] | None = None
        self.hooks: list[MemoryHook] = []


_local = _Local()


_allocator: Callable[[int], MemoryPointer] = default_pool.malloc


def alloc(size: int) -> MemoryPointer:
    """Memory from this thread's allocator."""
    return get_allocator()(size)


def get_allocator() -> Callable[[int], MemoryPointer]:
    """The allocator of this thread."""
    return _local.allocator or _allocator


def set_allocator(allocator: Callable[[int], MemoryPointer]) -> None:
    """Allocate with ``allocator`` from now on.

    Raises:
        ValueError: inside of ``using_allocator``.
    """
    global _allocator
    if _local.allocator is not None:
        raise ValueError("Can't change the global allocator inside `using_allocator` context manager")
    _allocator = allocator


@contextmanager
def using_allocator(allocator: Callable[[int], MemoryPointer] | None = None) -> Iterator[None]:
    """Allocate with ``allocator`` in this thread, inside the block."""
    before, _local.allocator = _local.allocator, allocator
    try:
        yield
    finally:
        _local.allocator = before


class PinnedMemoryPointer(bytearray):
    """Host memory that a device reads and writes by itself."""

    def __init__(self, size: int):
        super().__init__(size)
        self.ptr = np.frombuffer(self, np.uint8).ctypes.data if size else 0
        PINNED[self.ptr] = self


PINNED: weakref.WeakValueDictionary[int, PinnedMemoryPointer] = weakref.WeakValueDictionary()
"""What is page-locked, by its address."""

_watched: list[tuple[runtime.Event, Any]] = []


def watch(event: runtime.Event, obj: Any) -> None:
    """Keep host memory alive until a mark is reached; noticed at the next such call, or allocation."""
    while _watched and _watched[0][0].done:
        del _watched[0]
    if not event.done:
        _watched.append((event, obj))


def alloc_pinned(size: int) -> PinnedMemoryPointer:
    """New page-locked memory."""
    watch(runtime.Event(), None)
    return PinnedMemoryPointer(size)


def is_pinned(ptr: int) -> bool:
    """Whether an address lies in page-locked memory."""
    return runtime.pointerGetAttributes(ptr).type == runtime.memoryTypeHost


class MemoryHook:
    """Called on every allocation of this thread inside its block."""

    def malloc_postprocess(self, **kwargs: Any) -> None:
        """Called with ``size``, ``device_id`` and more."""

    def __enter__(self) -> MemoryHook:
        _local.hooks.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _local.hooks.remove(self)
