"""CUDA devices: whether they can be used, which there are, and waiting for them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from . import backend
from .backend import cuda as _cuda


def is_available() -> bool:
    """Whether a CUDA device can be used; ``gpugrad info`` says why not."""
    return _cuda.diagnose().usable


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


def get_device_name(device: Any = None) -> str:
    """The name of a CUDA device.

    Raises:
        RuntimeError: CUDA cannot be used, or there is no such device.
    """
    return _cuda.device_name(backend.resolve("cuda" if device is None else device).index or 0)


def set_device(device: Any) -> None:
    """Make a CUDA device the current one.

    Raises:
        RuntimeError: CUDA cannot be used, or there is no such device.
    """
    _cuda.set_device(backend.resolve(device).index or 0)


def device(which: Any) -> AbstractContextManager[Any]:
    """A context in which a CUDA device is the current one."""
    return backend.on(backend.resolve(which))


def synchronize(device: Any = None) -> None:
    """Wait until a CUDA device has done all it was given.

    Raises:
        RuntimeError: CUDA cannot be used.
    """
    with backend.on(backend.resolve("cuda" if device is None else device)):
        _cuda.synchronize()


def memory_allocated(device: Any = None) -> int:
    """Bytes of device memory that tensors occupy; 0 where CUDA cannot be used."""
    return _cuda.memory_used() if is_available() else 0


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
