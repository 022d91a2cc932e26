"""Devices, dtypes, random streams and kernels: everything that knows what an array is made of."""

from .device import (
    CPU,
    Array,
    DeviceLike,
    beside,
    checking,
    copy_to_host,
    device,
    device_of,
    get_default_device,
    module_for,
    module_of,
    on,
    overlapping,
    resolve,
    same_memory,
    set_default_device,
    to_numpy,
    transfer,
    use_device_of,
)
from .memory import keep_freed_memory

__all__ = [
    "CPU",
    "Array",
    "DeviceLike",
    "beside",
    "checking",
    "copy_to_host",
    "device",
    "device_of",
    "get_default_device",
    "module_for",
    "module_of",
    "on",
    "overlapping",
    "resolve",
    "same_memory",
    "set_default_device",
    "to_numpy",
    "transfer",
    "use_device_of",
]

keep_freed_memory()
