"""dtypes and PyTorch's promotion rules, over NumPy's dtype objects."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

float16 = half = np.dtype("float16")
float32 = np.dtype("float32")
float64 = double = np.dtype("float64")
uint8 = np.dtype("uint8")
int8 = np.dtype("int8")
int16 = short = np.dtype("int16")
int32 = np.dtype("int32")
int64 = long = np.dtype("int64")
bool_ = np.dtype("bool")

DType = Any

BY_NAME: dict[str, np.dtype] = {
    "float16": float16,
    "half": float16,
    "float32": float32,
    "float": float32,
    "float64": float64,
    "double": float64,
    "uint8": uint8,
    "int8": int8,
    "int16": int16,
    "short": int16,
    "int32": int32,
    "int": int32,
    "int64": int64,
    "long": int64,
    "bool": bool_,
}

_SUPPORTED = frozenset(BY_NAME.values())

# By the names of PyTorch's old constructors.
BY_CONSTRUCTOR = {
    "FloatTensor": float32,
    "DoubleTensor": float64,
    "HalfTensor": float16,
    "ByteTensor": uint8,
    "CharTensor": int8,
    "ShortTensor": int16,
    "IntTensor": int32,
    "LongTensor": int64,
    "BoolTensor": bool_,
}
_default = float32


def get_default_dtype() -> np.dtype:
    """The dtype of new floating-point tensors (float32 unless set)."""
    return _default


def set_default_dtype(dtype: DType) -> None:
    """Make ``dtype`` the dtype of new floating-point tensors.

    Raises:
        TypeError: ``dtype`` is not a floating-point dtype.
    """
    global _default
    found = as_dtype(dtype)
    if not is_floating(found):
        raise TypeError(f"only floating-point types are supported as the default type, got {found}")
    _default = found
    promote.cache_clear()


def bfloat16() -> np.dtype:
    """The dtype that ml_dtypes adds to NumPy.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError("bfloat16 needs ml_dtypes: pip install 'gpugrad[bfloat16]'") from None
    return np.dtype(ml_dtypes.bfloat16)


def as_dtype(dtype: DType) -> np.dtype:
    """The supported dtype that ``dtype`` (a dtype, a Python type or a name) means.

    Raises:
        TypeError: there is no such dtype here.
    """
    if isinstance(dtype, str) and dtype in BY_NAME:
        return BY_NAME[dtype]
    try:
        found = bfloat16() if isinstance(dtype, str) and dtype == "bfloat16" else np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or (found not in _SUPPORTED and found.name != "bfloat16"):
        raise TypeError(
            f"unsupported dtype {dtype!r}: expected one of {', '.join(sorted({d.name for d in _SUPPORTED}))}"
        )
    return found


def is_floating(dtype: np.dtype) -> bool:
    """Whether a dtype is floating point (float16, bfloat16, float32, float64)."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def of_scalar(value: bool | int | float) -> np.dtype:
    """The dtype PyTorch gives a tensor made from one Python number."""
    if isinstance(value, bool | np.bool_):
        return bool_
    return int64 if isinstance(value, int | np.integer) else _default


def category(dtype: np.dtype) -> int:
    """0 for booleans, 1 for integers, 2 for floating point."""
    if dtype.kind == "b":
        return 0
    return 1 if dtype.kind in "iu" else 2


@functools.cache
def promote(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype of an operation between two tensors of the same rank class."""
    if a == b:
        return a
    if category(a) != category(b):
        return a if category(a) > category(b) else b
    if {a.name, b.name} == {"float16", "bfloat16"}:
        return float32
    return np.promote_types(a, b)


def result_type(*operands: tuple[np.dtype, int]) -> np.dtype:
    """PyTorch's promotion over ``(dtype, rank class)`` pairs.

    The rank class is 2 for a tensor with dimensions, 1 for a 0-d tensor, 0 for a
    Python number; a lower class matters only if its kind (bool < int < float) is higher.
    """
    best: np.dtype | None = None
    for rank in (2, 1, 0):
        level: np.dtype | None = None
        for dtype, its in operands:
            if its == rank:
                level = dtype if level is None else promote(level, dtype)
        if level is not None and (best is None or category(level) > category(best)):
            best = level
    assert best is not None
    return best
