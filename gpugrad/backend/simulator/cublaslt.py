"""A stand-in for the library cuBLASLt: the same calls, decoded from their descriptors and computed with NumPy.

Enough of it to run ``backend/gemm.py``: strided batches, transposes, the epilogues
used there, an algorithm that works only with the alignment it was asked for.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from . import memory, runtime

_SUCCESS, _INVALID_VALUE, _NOT_SUPPORTED = 0, 7, 15
_TYPES: dict[int, np.dtype[Any]] = {0: np.dtype("f4"), 1: np.dtype("f8"), 2: np.dtype("f2"), 14: np.dtype("u2")}
_BFLOAT16 = 14
_RELU, _BIAS, _GELU, _BGRADB = 2, 4, 32, 512
_ALIGNMENTS = ctypes.c_uint32 * 4

_objects: dict[int, dict[Any, Any]] = {}


_numbers = itertools.count(1)


def _new(into: Any, **attributes: Any) -> int:
    number = next(_numbers)
    _objects[number] = attributes
    into._obj.value = number
    return _SUCCESS


def _value(handle: Any) -> dict[Any, Any]:
    return _objects[handle.value]


def _destroy(handle: Any) -> int:
    del _objects[handle.value]
    return _SUCCESS


class _Call:
    """A function of the library, to which ctypes types can be declared."""

    argtypes: Any = ()

    def __init__(self, function: Callable[..., int]):
        self._function = function

    def __call__(self, *args: Any) -> int:
        assert len(args) == len(self.argtypes), "declared otherwise"
        return self._function(*args)


def _set_attribute(handle: Any, attribute: int, value: Any, size: int) -> int:
    if ctypes.sizeof(value._obj) != size:
        return _INVALID_VALUE
    _value(handle)[attribute] = value._obj.value
    return _SUCCESS


def _layout_create(into: Any, dtype: int, rows: int, columns: int, leading: int) -> int:
    if dtype not in _TYPES or leading < rows:
        return _INVALID_VALUE
    return _new(into, dtype=dtype, rows=rows, columns=columns, leading=leading)


def _sizes(layout: dict[Any, Any], turned: bool) -> tuple[int, int]:
    return (layout["columns"], layout["rows"]) if turned else (layout["rows"], layout["columns"])


def _fit(desc: dict[Any, Any], a: dict[Any, Any], b: dict[Any, Any], d: dict[Any, Any]) -> bool:
    m, k = _sizes(a, desc.get(3, 0))
    k2, n = _sizes(b, desc.get(4, 0))
    return (m, n, k) == (d["rows"], d["columns"], k2) and len({x.get(5, 1) for x in (a, b, d)}) == 1


def _heuristic(
    handle: Any, desc: Any, a: Any, b: Any, c: Any, d: Any, preference: Any, asked: int, into: Any, count: Any
) -> int:
    if not _fit(_value(desc), _value(a), _value(b), _value(d)):
        return _INVALID_VALUE
    epilogue = _value(desc).get(7, 1)
    if epilogue != 1 and (_value(a)["dtype"] == 1 or (_value(d).get(5, 1) > 1 and epilogue == _BGRADB)):
        count._obj.value = 0
        return _NOT_SUPPORTED
    wanted = _value(preference)
    alignments = _ALIGNMENTS(*(wanted.get(5 + k, 256) for k in range(4)))
    ctypes.memmove(into, alignments, ctypes.sizeof(alignments))
    into._obj.workspace = min(wanted.get(1, 0), 1 << 20)
    count._obj.value = 1
    return _SUCCESS


def _block(address: int, size: int) -> Any:
    """The bytes at an address of device memory."""
    for block in list(memory.LIVE):
        if block.ptr <= address and address + size <= block.ptr + block.size:
            start = block.start + address - block.ptr
            return block.buffer[start : start + size]
    raise runtime.CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")


def _matrices(address: int, layout: dict[Any, Any]) -> np.ndarray:
    """The matrices of a layout, as (batch, rows, columns) in memory."""
    dtype = _TYPES[layout["dtype"]]
    rows, columns, leading = layout["rows"], layout["columns"], layout["leading"]
    batch, stride = layout.get(5, 1), layout.get(6, 0)
    last = (batch - 1) * stride + (columns - 1) * leading + rows
    flat = _block(address, last * dtype.itemsize).view(dtype)
    strides = tuple(n * dtype.itemsize for n in (stride, 1, leading))
    return np.lib.stride_tricks.as_strided(flat, (batch, rows, columns), strides)


def _decoded(stored: np.ndarray, dtype: int) -> np.ndarray:
    """Stored numbers, in the type they are computed in."""
    if dtype == _BFLOAT16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float64 if dtype == 1 else np.float32)


def _store(into: np.ndarray, values: np.ndarray, dtype: int) -> None:
    if dtype == _BFLOAT16:
        raw = np.ascontiguousarray(values, np.float32).view(np.uint32)
        into[...] = (raw + 0x7FFF + ((raw >> 16) & 1)) >> 16
    else:
        into[...] = values


def _tf32(values: np.ndarray) -> np.ndarray:
    """Rounded to the 10 bits of fraction that TF32 keeps."""
    raw = np.ascontiguousarray(values).view(np.uint32)
    return ((raw + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


def _matmul(
    handle: Any, desc: Any, alpha: Any, a: int, a_layout: Any, b: int, b_layout: Any, beta: Any, c: int, c_layout: Any,
    d: int, d_layout: Any, algo: Any, workspace: int, workspace_size: int, stream: int,
) -> int:  # fmt: skip
    how = dict(_value(desc))
    layouts = [dict(_value(layout)) for layout in (a_layout, b_layout, d_layout)]
    if not _fit(how, *layouts) or workspace_size < algo._obj.workspace:
        return _INVALID_VALUE
    wanted = _ALIGNMENTS.from_buffer_copy(bytes(algo._obj)[: ctypes.sizeof(_ALIGNMENTS)])
    if any(address % n for address, n in zip((a, b, c, d), wanted, strict=True)):
        return _NOT_SUPPORTED
    if stream != runtime.get_current_stream().ptr:
        return _INVALID_VALUE
    dtype = layouts[0]["dtype"]
    x, y, out = (_matrices(place, layout) for place, layout in zip((a, b, d), layouts, strict=True))
    epilogue, place = how.get(7, 1), how.get(8, 0)
    length = layouts[2]["columns" if epilogue == _BGRADB else "rows"]
    vector = _block(place, length * out.itemsize).view(out.dtype) if epilogue & (_BIAS | _BGRADB) else out[0, :, 0]
    factor = alpha._obj.value

    def step() -> None:
        left, right = _decoded(x, dtype), _decoded(y, dtype)
        left = left.swapaxes(1, 2) if how.get(3) else left
        right = right.swapaxes(1, 2) if how.get(4) else right
        if epilogue & _BGRADB:
            _store(vector, right[0].sum(axis=0), dtype)
        if how["compute"] == 77:
            left, right = _tf32(left), _tf32(right)
        result = factor * np.matmul(left, right)
        if epilogue & _BIAS:
            result = result + _decoded(vector, dtype)[:, None]
        if epilogue & _RELU:
            result = np.maximum(result, 0)
        if epilogue & _GELU:
            result = 0.5 * result * (1 + np.tanh(0.7978845608028654 * (result + 0.044715 * result**3)))
        _store(out, result, dtype)

    runtime.submit(step)
    return _SUCCESS


class Library:
    """What ``ctypes.CDLL`` of the real one offers."""

    cublasLtCreate = _Call(lambda into: _new(into))
    cublasLtMatmulDescCreate = _Call(lambda into, compute, scale: _new(into, compute=compute, scale=scale))
    cublasLtMatmulDescSetAttribute = _Call(_set_attribute)
    cublasLtMatrixLayoutCreate = _Call(_layout_create)
    cublasLtMatrixLayoutSetAttribute = _Call(_set_attribute)
    cublasLtMatmulPreferenceCreate = _Call(lambda into: _new(into))
    cublasLtMatmulPreferenceSetAttribute = _Call(_set_attribute)
    cublasLtMatmulPreferenceDestroy = _Call(_destroy)
    cublasLtMatmulDescDestroy = _Call(_destroy)
    cublasLtMatrixLayoutDestroy = _Call(_destroy)
    cublasLtMatmulAlgoGetHeuristic = _Call(_heuristic)
    cublasLtMatmul = _Call(_matmul)
