"""Functions that make tensors from data, shapes and ranges."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import backend
from .backend import dtypes
from .tensor import Tensor, _nested

__all__ = ["tensor"]


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Tensor:
    """A new tensor with a copy of ``data`` (numbers, nested sequences, arrays, tensors).

    Python floats become the default dtype (float32), ints int64, bools bool; arrays and
    tensors keep their dtype unless ``dtype`` is given.

    Raises:
        ValueError: nested sequences of unequal lengths.
        TypeError: the elements are no numbers or booleans.
        RuntimeError: ``requires_grad`` for an integer dtype, or a device that cannot be used.
    """
    where = data.device if isinstance(data, Tensor) and device is None else backend.resolve(device)
    source = data._data if isinstance(data, Tensor) else _nested(data)
    wanted = None if dtype is None else dtypes.as_dtype(dtype)
    if hasattr(source, "__cuda_array_interface__") or isinstance(source, np.ndarray | np.generic):
        array = backend.module_of(source).array(source, dtype=wanted, copy=True, order="C")
    else:
        try:
            array = np.array(source)
        except ValueError:
            raise ValueError("expected sequences of equal length at every level of nesting") from None
        if wanted is None and array.dtype == np.float64 and not _holds_arrays(source):
            wanted = dtypes.get_default_dtype()
        if wanted is not None:
            array = array.astype(wanted)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(
            f"can't make a tensor from {type(data).__name__} with elements of type {array.dtype}; expected numbers or booleans"
        )
    result = Tensor._wrap(backend.transfer(array, where))
    result.requires_grad = requires_grad
    return result


def _holds_arrays(source: Any) -> bool:
    while isinstance(source, list | tuple) and source:
        source = source[0]
    return isinstance(source, np.ndarray | np.generic)
