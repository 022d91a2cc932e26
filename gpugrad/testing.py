"""Comparing tensors in tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from . import backend
from .backend import dtypes
from .tensor import Tensor

_TOLERANCES = {"float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """Raise unless ``|actual - expected| <= atol + rtol * |expected|`` everywhere.

    Takes tensors, arrays, numbers, and sequences and mappings of them. The tolerances
    depend on the dtype unless both are given.

    Raises:
        AssertionError: says how many elements differ, by how much and where.
        ValueError: one tolerance is given without the other.
    """
    if (rtol is None) != (atol is None):
        raise ValueError("rtol and atol must both be specified or both be left to their defaults")
    options: dict[str, Any] = {
        "rtol": rtol,
        "atol": atol,
        "equal_nan": equal_nan,
        "check_device": check_device,
        "check_dtype": check_dtype,
    }

    def fail(text: str) -> None:
        raise AssertionError(msg(text) if callable(msg) else msg or text)

    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if actual.keys() != expected.keys():
            fail(f"The keys of the mappings do not match: {sorted(actual)} and {sorted(expected)}")
        for key in actual:
            assert_close(actual[key], expected[key], msg=msg, **options)
        return
    if isinstance(actual, Sequence) and isinstance(expected, Sequence) and not isinstance(actual, str):
        if len(actual) != len(expected):
            fail(f"The length of the sequences mismatch: {len(actual)} != {len(expected)}")
        for mine, theirs in zip(actual, expected, strict=True):
            assert_close(mine, theirs, msg=msg, **options)
        return
    if (
        check_device
        and isinstance(actual, Tensor)
        and isinstance(expected, Tensor)
        and actual.device != expected.device
    ):
        fail(f"The values for attribute 'device' do not match: {actual.device} != {expected.device}.")
    a, b = _host(actual), _host(expected)
    if a.shape != b.shape:
        fail(f"The values for attribute 'shape' do not match: {a.shape} != {b.shape}.")
    if check_dtype and a.dtype != b.dtype:
        fail(f"The values for attribute 'dtype' do not match: {a.dtype} != {b.dtype}.")
    if rtol is None or atol is None:
        pairs = [_TOLERANCES.get(x.dtype.name, (0.0, 0.0)) for x in (a, b)]
        rtol, atol = max(p[0] for p in pairs), max(p[1] for p in pairs)
    x, y = (v.astype(np.float64) if dtypes.is_floating(v.dtype) else v for v in (a, b))
    if x.dtype.kind == "b" or y.dtype.kind == "b":
        x, y = x.astype(np.int64), y.astype(np.int64)
    close = np.isclose(x, y, rtol=rtol, atol=atol, equal_nan=equal_nan)
    if not close.all():
        with np.errstate(invalid="ignore"):
            off = np.where(close, 0, np.abs(x.astype(np.float64) - y))
        worst = np.unravel_index(np.argmax(np.nan_to_num(off, nan=np.inf)), off.shape)
        fail(
            f"Tensor-likes are not close!\n\nMismatched elements: {int((~close).sum())} / {close.size}\n"
            f"Greatest absolute difference: {off[worst]} at index {tuple(int(i) for i in worst)} "
            f"(up to {atol} allowed); "
            f"rtol is {rtol}"
        )


def _host(value: Any) -> np.ndarray:
    return backend.to_numpy(value._data) if isinstance(value, Tensor) else np.asarray(value)
