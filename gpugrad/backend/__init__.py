"""Devices, dtypes, random streams and kernels: everything that knows what an array is made of."""

from .device import (
    CPU,
    Array,
    DeviceLike,
    device,
    device_of,
    get_default_device,
    module_for,
    module_of,
    on,
    resolve,
    set_default_device,
    to_numpy,
    transfer,
)
from .memory import keep_freed_memory

__all__ = [
    "CPU",
    "Array",
    "DeviceLike",
    "device",
    "device_of",
    "get_default_device",
    "module_for",
    "module_of",
    "on",
    "resolve",
    "set_default_device",
    "to_numpy",
    "transfer",
]

keep_freed_memory()
