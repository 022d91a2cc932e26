"""The kind of device that computes faster than the CPU: CUDA where it can be used."""

from __future__ import annotations

from typing import Any

from . import cuda
from .backend import device


def is_available() -> bool:
    """Whether there is an accelerator that can be used."""
    return cuda.is_available()


def current_accelerator(check_available: bool = False) -> Any:
    """``device("cuda")`` where CUDA can be used, else None."""
    return device("cuda") if cuda.is_available() else None


def device_count() -> int:
    """The number of devices that can be used; 0 where there is none."""
    return cuda.device_count()


def current_device_index() -> int:
    """The index of the current device.

    Raises:
        RuntimeError: there is none.
    """
    return cuda.current_device()


def synchronize(device: Any = None) -> None:
    """Wait until a device (the current one) has done all it was given.

    Raises:
        RuntimeError: there is none.
    """
    cuda.synchronize(device)
