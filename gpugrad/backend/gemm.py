"""Matrix products on CUDA devices, by cuBLASLt.

CuPy's own products cannot be captured in a graph, have no switch for TF32 and lack
bfloat16; cuBLASLt, called through ctypes, has all of it, and can add a bias, apply an
activation or sum an operand on the way.

cuBLASLt is column-major.  A row-major matrix, read by columns, is its transpose; so
``out = a @ b`` is asked for as ``out.T = b.T @ a.T``, with the operands exchanged and
nothing moved in memory.

Names and numbers are those of ``cublasLt.h``.
"""

from __future__ import annotations

import functools
import math
import threading
import warnings
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_double,
    c_float,
    c_int,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
    sizeof,
)
from typing import Any, NamedTuple

import numpy as np

from . import cuda, graph
from .fused.launch import are_plain
from .fused.reduction import reduce_columns

_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}  # cudaDataType
_COMPUTE_32F, _COMPUTE_64F, _COMPUTE_32F_FAST_TF32 = 68, 70, 77
_BATCH_COUNT, _STRIDED_BATCH_OFFSET = 5, 6  # cublasLtMatrixLayoutAttribute_t
_TRANSA, _TRANSB, _EPILOGUE, _BIAS_POINTER = 3, 4, 7, 8  # cublasLtMatmulDescAttributes_t
_MAX_WORKSPACE_BYTES, _MIN_ALIGNMENT_A_BYTES = 1, 5  # cublasLtMatmulPreferenceAttributes_t; B, C, D follow A
_NOT_SUPPORTED = 15
_REFUSALS = (7, 8)  # invalid, or not for this architecture: said of problems where it should not
_DEFAULT, _RELU, _BIAS, _GELU, _BGRADB = 1, 2, 4, 32, 512  # cublasLtEpilogue_t
_ACTIVATIONS = {"": 0, "relu": _RELU, "gelu": _GELU}
_LARGEST_ALIGNMENT = 256
_MOST_PLANS = 4096


class _Switches:
    """What may be traded for speed; PyTorch's ``torch.backends.cuda.matmul``.

    Attributes:
        allow_tf32: multiply float32 matrices with 10 bits of each factor's fraction, on tensor cores.
    """

    __slots__ = ("allow_tf32",)

    def __init__(self) -> None:
        self.allow_tf32 = False


switches = _Switches()


class _Heuristic(Structure):
    _fields_ = [
        ("algo", c_uint64 * 8),
        ("workspace", c_size_t),
        ("state", c_int),
        ("waves", c_float),
        ("reserved", c_int * 4),
    ]


_SIGNATURES: dict[str, list[Any]] = {
    "cublasLtCreate": [POINTER(c_void_p)],
    "cublasLtMatmulDescCreate": [POINTER(c_void_p), c_int, c_int],
    "cublasLtMatmulDescSetAttribute": [c_void_p, c_int, c_void_p, c_size_t],
    "cublasLtMatrixLayoutCreate": [POINTER(c_void_p), c_int, c_uint64, c_uint64, c_int64],
    "cublasLtMatrixLayoutSetAttribute": [c_void_p, c_int, c_void_p, c_size_t],
    "cublasLtMatmulDescDestroy": [c_void_p],
    "cublasLtMatrixLayoutDestroy": [c_void_p],
    "cublasLtMatmulPreferenceCreate": [POINTER(c_void_p)],
    "cublasLtMatmulPreferenceSetAttribute": [c_void_p, c_int, c_void_p, c_size_t],
    "cublasLtMatmulPreferenceDestroy": [c_void_p],
    "cublasLtMatmulAlgoGetHeuristic": [c_void_p] * 7 + [c_int, c_void_p, POINTER(c_int)],
    "cublasLtMatmul": [c_void_p] * 14 + [c_size_t, c_void_p],
}


@functools.cache
def _library() -> Any:
    """cuBLASLt, with the types of its arguments declared."""
    library = cuda.cublaslt()
    for name, arguments in _SIGNATURES.items():
        getattr(library, name).argtypes = arguments
    return library


def _check(status: int, what: str) -> None:
    if status:
        raise RuntimeError(f"cuBLASLt: {what} failed with status {status}")


def _created(what: str, *args: Any) -> c_void_p:
    handle = c_void_p()
    _check(getattr(_library(), f"cublasLt{what}Create")(byref(handle), *args), f"{what}Create")
    return handle


def _set(what: str, handle: c_void_p, attribute: int, value: Any) -> None:
    status = getattr(_library(), f"cublasLt{what}SetAttribute")(handle, attribute, byref(value), sizeof(value))
    _check(status, f"{what}SetAttribute({attribute})")


class _Operand(NamedTuple):
    """How a matrix, or a batch of them, lies in memory; ``turned`` if by columns."""

    rows: int
    columns: int
    leading: int
    turned: bool
    batch_stride: int
    alignment: int


class _Problem(NamedTuple):
    """All that the choice of an algorithm depends on."""

    device: int
    dtype: str
    a: _Operand
    b: _Operand
    out: _Operand
    batch: int
    epilogue: int
    bias_alignment: int
    tf32: bool


class _Plan:
    """The descriptors and the algorithm for one problem; ``supported`` is False where cuBLASLt has none."""

    def __init__(self, problem: _Problem, handle: c_void_p, workspace: int):
        self.handle = handle
        dtype = _TYPES[problem.dtype]
        double = problem.dtype == "float64"
        compute = _COMPUTE_64F if double else _COMPUTE_32F_FAST_TF32 if problem.tf32 else _COMPUTE_32F
        number = c_double if double else c_float
        self.one, self.zero = number(1), number(0)
        self.desc = _created("MatmulDesc", compute, _TYPES["float64" if double else "float32"])
        # The second operand is cuBLASLt's first.
        _set("MatmulDesc", self.desc, _TRANSA, c_int(problem.b.turned))
        _set("MatmulDesc", self.desc, _TRANSB, c_int(problem.a.turned))
        _set("MatmulDesc", self.desc, _EPILOGUE, c_uint32(problem.epilogue))
        if problem.bias_alignment:
            # The heuristic looks at the alignment of the pointer, nothing else.
            _set("MatmulDesc", self.desc, _BIAS_POINTER, c_uint64(problem.bias_alignment))
        self.layouts = [self._layout(operand, dtype, problem.batch) for operand in (problem.b, problem.a, problem.out)]
        found = _Heuristic()
        count = c_int()
        preference = _created("MatmulPreference")
        _set("MatmulPreference", preference, _MAX_WORKSPACE_BYTES, c_uint64(workspace))
        aligned = [problem.b.alignment, problem.a.alignment, problem.out.alignment, problem.out.alignment]
        for k, bytes_ in enumerate(aligned):
            _set("MatmulPreference", preference, _MIN_ALIGNMENT_A_BYTES + k, c_uint32(bytes_))
        b, a, out = self.layouts
        status = _library().cublasLtMatmulAlgoGetHeuristic(
            handle, self.desc, b, a, out, out, preference, 1, byref(found), byref(count)
        )
        _library().cublasLtMatmulPreferenceDestroy(preference)
        self.supported = status == 0 and count.value > 0
        if status in _REFUSALS:
            warnings.warn(f"cuBLASLt refuses {problem} with status {status}, so CuPy multiplies", stacklevel=2)
        elif status != _NOT_SUPPORTED:
            _check(status, f"MatmulAlgoGetHeuristic of {problem}")
        self.algorithm = found

    def free(self) -> None:
        """Give the descriptors back."""
        for layout in self.layouts:
            _library().cublasLtMatrixLayoutDestroy(layout)
        _library().cublasLtMatmulDescDestroy(self.desc)

    @staticmethod
    def _layout(operand: _Operand, dtype: int, batch: int) -> c_void_p:
        rows, columns = (operand.rows, operand.columns) if operand.turned else (operand.columns, operand.rows)
        layout = _created("MatrixLayout", dtype, rows, columns, operand.leading)
        if batch > 1:
            _set("MatrixLayout", layout, _BATCH_COUNT, c_int(batch))
            _set("MatrixLayout", layout, _STRIDED_BATCH_OFFSET, c_int64(operand.batch_stride))
        return layout

    def run(self, a: int, b: int, out: int, bias: int, workspace: Any, stream: int) -> None:
        if bias:
            _set("MatmulDesc", self.desc, _BIAS_POINTER, c_uint64(bias))
        b_layout, a_layout, out_layout = self.layouts
        status = _library().cublasLtMatmul(
            self.handle, self.desc, byref(self.one), b, b_layout, a, a_layout, byref(self.zero), out, out_layout,
            out, out_layout, byref(self.algorithm), workspace.data.ptr, workspace.nbytes, stream,
        )  # fmt: skip
        _check(status, "Matmul")


class _PerThread(threading.local):
    """Handles, plans and workspaces; a plan is changed when it is run, so threads have their own."""

    def __init__(self) -> None:
        self.handles: dict[int, c_void_p] = {}
        self.plans: dict[_Problem, _Plan] = {}
        self.workspaces: dict[tuple[int, int], Any] = {}


_mine = _PerThread()


def _workspace_size(device: int) -> int:
    """What NVIDIA recommends: 32 MiB from Hopper on, 4 MiB before."""
    return (32 if int(cuda.cupy().cuda.Device(device).compute_capability) >= 90 else 4) << 20


def workspace(device: int, stream: int) -> Any:
    """The scratch memory of products in a stream, or of a recording, which may run beside others; made at the first."""
    recording = graph.current()
    places = _mine.workspaces if recording is None else recording.scratch
    found = places.get((device, stream))
    if found is None:
        found = places[device, stream] = cuda.cupy().empty(_workspace_size(device), np.uint8)
    return found


def _plan(problem: _Problem) -> _Plan:
    plan = _mine.plans.get(problem)
    if plan is None:
        if len(_mine.plans) >= _MOST_PLANS:
            for old in _mine.plans.values():  # problems of ever new shapes
                old.free()
            _mine.plans.clear()
        plan = _mine.plans[problem] = _Plan(problem, _handle(problem.device), _workspace_size(problem.device))
    return plan


def _handle(device: int) -> c_void_p:
    found = _mine.handles.get(device)
    if found is None:
        found = _mine.handles[device] = _created("")
    return found


def prepare() -> None:
    """Start cuBLASLt on the current device, which is not for a capture."""
    _handle(cuda.current_device())


def _alignment(address: int) -> int:
    """The largest power of two, up to 256, that divides an address."""
    address |= _LARGEST_ALIGNMENT
    return address & -address


def _described(array: Any) -> _Operand | None:
    """How the matrices of a 2-d or 3-d array lie in memory; None if cuBLASLt cannot read them like that."""
    rows, columns = array.shape[-2:]
    down, along = (n // array.itemsize for n in array.strides[-2:])
    if rows == 1:
        down = max(columns, 1) if along == 1 or columns == 1 else down
    if columns == 1:
        along = 1 if down >= 1 else along
    stride = array.strides[0] // array.itemsize if array.ndim == 3 and array.shape[0] > 1 else 0
    if stride < 0:
        return None
    aligned = _alignment(array.data.ptr)
    if along == 1 and down >= max(1, columns):
        return _Operand(rows, columns, down, False, stride, aligned)
    if down == 1 and along >= max(1, rows):
        return _Operand(rows, columns, along, True, stride, aligned)
    return None


def _batched(xp: Any, array: Any, batch: tuple[int, ...]) -> Any:
    """An array as one batch of matrices, without a copy where its strides allow it."""
    if array.ndim == 2 and not batch:
        return array
    matrix = array.shape[-2:]
    if math.prod(array.shape[:-2]) == 1:
        return xp.broadcast_to(array.reshape(matrix), (math.prod(batch), *matrix))
    if array.shape[:-2] != batch:
        array = xp.broadcast_to(array, (*batch, *matrix))
    return array.reshape(math.prod(batch), *matrix)


def _laid_out(xp: Any, array: Any) -> tuple[Any, _Operand]:
    operand = _described(array)
    if operand is None:
        array = xp.ascontiguousarray(array)
        operand = _described(array)
        assert operand is not None
    return array, operand


def matmul(a: Any, b: Any, out: Any = None, *, bias: Any = None, activation: str = "", sums: Any = None) -> Any:
    """``activation(a @ b + bias)`` of raw arrays on the current CUDA device, batched and broadcast as NumPy's matmul.

    Args:
        out: where to write the result.
        bias: a vector, added to every row.
        activation: ``"relu"``, ``"gelu"`` (the tanh formula) or none.
        sums: a vector that gets the sums of the rows of ``a`` (a bias's gradient, where ``a`` is a gradient turned).

    Raises:
        ValueError: the shapes do not fit.
    """
    xp = cuda.cupy()
    if a.dtype.name not in _TYPES or a.dtype != b.dtype:
        return xp.matmul(a, b) if out is None else xp.matmul(a, b, out=out)
    if not (a.ndim and b.ndim):
        raise ValueError("matmul: Input operand does not have enough dimensions")
    a2 = a.reshape(1, -1) if a.ndim == 1 else a
    b2 = b.reshape(-1, 1) if b.ndim == 1 else b
    if a2.shape[-1] != b2.shape[-2]:
        raise ValueError(f"matmul: the inner sizes of {a.shape} and {b.shape} differ")
    batch = np.broadcast_shapes(a2.shape[:-2], b2.shape[:-2])
    shape = (*batch, *((a2.shape[-2],) if a.ndim > 1 else ()), *((b2.shape[-1],) if b.ndim > 1 else ()))
    if out is not None and not out.flags.c_contiguous:
        out[...] = matmul(a, b, bias=bias, activation=activation, sums=sums)
        return out
    if out is None:
        out = xp.empty(shape, a.dtype)
    if not out.size or not a.size:
        out[...] = 0
        if sums is not None:
            sums[...] = 0
        return out if bias is None and not activation else _afterwards(xp, out, a2, bias, activation, None)
    out3 = out.reshape(*((math.prod(batch),) if batch else ()), a2.shape[-2], b2.shape[-1])
    if not _run(xp, _batched(xp, a2, batch), _batched(xp, b2, batch), out3, bias, activation, sums):
        plain = bias is None and not activation and sums is None
        if plain or not _run(xp, _batched(xp, a2, batch), _batched(xp, b2, batch), out3, None, "", None):
            out[...] = xp.matmul(a, b)
        _afterwards(xp, out, a2, bias, activation, sums)
    return out


def _run(xp: Any, a: Any, b: Any, out: Any, bias: Any, activation: str, sums: Any) -> bool:
    """Multiply with cuBLASLt; False where it cannot."""
    if sums is not None and (bias is not None or activation):
        return False
    epilogue = _BGRADB if sums is not None else _ACTIVATIONS[activation] | (_BIAS if bias is not None else 0)
    a, a_operand = _laid_out(xp, a)
    b, b_operand = _laid_out(xp, b)
    out_operand = _described(out)
    assert out_operand is not None
    vector = sums if sums is not None else bias
    device = cuda.current_device()
    problem = _Problem(
        device,
        a.dtype.name,
        a_operand,
        b_operand,
        out_operand,
        a.shape[0] if a.ndim == 3 else 1,
        epilogue or _DEFAULT,
        0 if vector is None else _alignment(vector.data.ptr),
        switches.allow_tf32 and a.dtype.name == "float32",
    )
    plan = _plan(problem)
    if plan.supported:
        stream = cuda.cupy().cuda.get_current_stream().ptr
        pointer = 0 if vector is None else vector.data.ptr
        plan.run(a.data.ptr, b.data.ptr, out.data.ptr, pointer, workspace(device, stream), stream)
    return plan.supported


def _afterwards(xp: Any, out: Any, a: Any, bias: Any, activation: str, sums: Any) -> Any:
    """What the epilogue would have done."""
    if sums is not None:
        if a.ndim == 2 and are_plain(sums.dtype, a.T, sums):
            reduce_columns(a.T, sums, "Sum", a.shape[1], a.shape[0], 1.0)
        else:
            sums[...] = a.sum(axis=-1)
    if bias is not None:
        xp.add(out, bias, out=out)
    if activation == "relu":
        xp.maximum(out, 0, out=out)
    elif activation == "gelu":
        inner = xp.tanh(math.sqrt(2 / math.pi) * (out + 0.044715 * out * out * out))
        xp.multiply(out, 0.5 * (1 + inner), out=out)
    return out
