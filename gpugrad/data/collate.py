"""Making one batch of many samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..creation import tensor
from ..ops import FUNCTIONS
from ..tensor import Tensor


def _is_array(value: Any) -> bool:
    """Whether it is a tensor, an array or an array scalar, of whichever library."""
    return isinstance(value, Tensor | np.ndarray | np.generic) or hasattr(value, "__array__")


def _stack(samples: Sequence[Any]) -> Tensor:
    if not isinstance(samples[0], Tensor):
        samples = [np.asarray(s) for s in samples]
    first = samples[0].shape
    for k, s in enumerate(samples):
        if s.shape != first:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(first)} at entry 0 and {list(s.shape)} at "
                f"entry {k}"
            )
    if isinstance(samples[0], np.ndarray):
        if samples[0].dtype.kind not in "biuf" and samples[0].dtype.name != "bfloat16":
            raise _no_batch(samples[0].dtype)
        if all(s.dtype == samples[0].dtype for s in samples):
            return Tensor._wrap(np.stack(samples))
        samples = [Tensor._wrap(s) for s in samples]
    return FUNCTIONS["stack"](samples)


def _no_batch(kind: Any) -> TypeError:
    return TypeError(
        f"default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {kind}. "
        "Give the DataLoader a collate_fn, or the dataset a transform such as transforms.ToTensor"
    )


def default_collate(batch: Sequence[Any]) -> Any:
    """One batch of samples: numbers and arrays are stacked, containers are batched entry by entry, strings stay a list.

    Arrays of any library that NumPy can read (PyTorch tensors among them) become tensors on the
    CPU; Python floats become float64 and ints int64.

    Raises:
        RuntimeError: samples differ in shape or length.
        TypeError: samples of a kind that cannot be batched.
    """
    first = batch[0]
    if _is_array(first):
        return _stack(batch)
    if isinstance(first, float):
        return tensor(batch, dtype=np.float64)
    if isinstance(first, int):
        return tensor(batch)
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, Mapping):
        merged = {key: default_collate([sample[key] for sample in batch]) for key in first}
        try:
            return type(first)(merged)  # type: ignore[call-arg]
        except TypeError:
            return merged
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        parts = [default_collate(entries) for entries in zip(*batch, strict=True)]
        if hasattr(first, "_fields"):
            return type(first)(*parts)
        if isinstance(first, tuple | list):
            return parts
        try:
            return type(first)(parts)  # type: ignore[call-arg]
        except TypeError:
            return parts
    raise _no_batch(type(first))


def default_convert(data: Any) -> Any:
    """The sample with the arrays in it turned into tensors."""
    return _rebuilt(data, _converted, list)


def _converted(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data
    if not _is_array(data):
        return NotImplemented
    array = np.asarray(data)
    return Tensor._wrap(array) if array.dtype.kind in "biuf" or array.dtype.name == "bfloat16" else data


def pin_memory(data: Any) -> Any:
    """The batch with all in it that has a ``pin_memory`` method replaced by what that returns.

    Raises:
        RuntimeError: a tensor lies on a CUDA device.
    """
    return _rebuilt(data, lambda item: item.pin_memory() if hasattr(item, "pin_memory") else NotImplemented)


def _rebuilt(data: Any, change: Callable[[Any], Any], sequence: Any = None) -> Any:
    """``data`` with what is in its containers changed.

    Args:
        change: gives the new value, or NotImplemented for what is left as it is or is a container.
        sequence: what sequences become; their own type if None.
    """
    changed = change(data)
    if changed is not NotImplemented:
        return changed
    if isinstance(data, Mapping):
        mapped = {key: _rebuilt(value, change, sequence) for key, value in data.items()}
        try:
            return type(data)(mapped)  # type: ignore[call-arg]
        except TypeError:
            return mapped
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*(_rebuilt(value, change, sequence) for value in data))
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        items = [_rebuilt(value, change, sequence) for value in data]
        try:
            return (sequence or type(data))(items)  # type: ignore[call-arg]
        except TypeError:
            return items
    return data
