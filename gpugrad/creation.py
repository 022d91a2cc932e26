"""Functions that make tensors from data, shapes and ranges, and that answer questions about dtypes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import backend
from .backend import cuda, dtypes
from .engine import modes
from .ops import METHODS
from .ops.core import with_out
from .ops.shape import broadcast_shape, parse_ints, parse_size
from .tensor import Size, Tensor, _nested

# Making a tensor from data.


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Tensor:
    """A new tensor with a copy of ``data`` (numbers, nested sequences, arrays, tensors).

    Python floats become the default dtype (float32), ints int64, bools bool; arrays and
    tensors keep their dtype unless ``dtype`` is given.

    Raises:
        ValueError: nested sequences of unequal lengths, or ints that do not fit into 64 bits.
        TypeError: the elements have a type that tensors cannot hold.
        RuntimeError: the elements are no numbers or booleans or do not fit the dtype, ``requires_grad`` for an integer
            dtype, or a device that cannot be used.
    """
    where = data.device if isinstance(data, Tensor) and device is None else backend.resolve(device)
    source = data._data if isinstance(data, Tensor) else _nested(data)
    wanted = None if dtype is None else dtypes.as_dtype(dtype)
    if hasattr(source, "__cuda_array_interface__") or isinstance(source, np.ndarray | np.generic):
        _check_kind(data, source.dtype)
        with backend.beside(source):
            array = backend.module_of(source).array(source, dtype=wanted, copy=True, order="C")
    else:
        array = _from_sequence(data, source, wanted)
    return _finish(backend.transfer(array, where), requires_grad, pin_memory)


def _from_sequence(data: Any, source: Any, wanted: Any) -> np.ndarray:
    try:
        array = np.array(source)
    except ValueError:
        raise ValueError("expected sequences of equal length at every level of nesting") from None
    if array.dtype == np.uint64 or (array.dtype.kind == "O" and all(isinstance(x, int) for x in array.ravel())):
        raise ValueError(f"Overflow: an int in the data does not fit into 64 bits: {_shorten(data)}")
    if array.dtype.kind in "US":
        raise TypeError(f"can't make a tensor from strings: {_shorten(data)}")
    if array.dtype.kind in "OMmV" or (array.dtype.kind == "c" and wanted is None):
        raise RuntimeError(
            f"Could not infer dtype of {type(data).__name__} {_shorten(data)}: expected numbers or booleans"
        )
    if wanted is None:
        if array.dtype == np.float64:
            wanted = _float_dtype(source)
        elif not array.size and array.dtype.kind == "f":
            wanted = dtypes.get_default_dtype()
        _check_kind(data, array.dtype if wanted is None else wanted)
    if wanted is None or wanted == array.dtype:
        return array
    if wanted.kind in "iu" and array.dtype.kind in "iu" and array.size:
        limits = np.iinfo(wanted)
        low = limits.min if limits.min else -int(limits.max)  # PyTorch lets small negative numbers wrap around
        if array.max() > limits.max or array.min() < low:
            raise RuntimeError(f"value cannot be converted to type {wanted} without overflow: {_shorten(data)}")
    return array.astype(wanted)


def _shorten(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_kind(data: Any, dtype: np.dtype) -> None:
    try:
        dtypes.as_dtype(dtype)
    except TypeError:
        names = ", ".join(sorted({d.name for d in dtypes.BY_NAME.values()}))
        raise TypeError(
            f"can't make a tensor from {type(data).__name__} with elements of type {dtype}. The only supported types "
            f"are: {names}"
        ) from None


def _float_dtype(source: Any) -> np.dtype:
    """The dtype of nested sequences that hold floats: Python's have the default one, NumPy's their own."""
    found: set[Any] = set()
    stack = [source]
    while stack:
        item = stack.pop()
        if isinstance(item, list | tuple):
            kinds = set(map(type, item))
            if kinds & {list, tuple, np.ndarray}:
                stack += item
            else:
                found |= kinds
        else:
            found.add(item.dtype if isinstance(item, np.ndarray) else type(item))
    dtype = None
    for kind in found - {bool, int}:
        its = dtypes.get_default_dtype() if kind is float else np.dtype(kind)
        dtype = its if dtype is None else dtypes.promote(dtype, its)
    return dtypes.get_default_dtype() if dtype is None else dtype


def _finish(array: Any, requires_grad: bool, pin: bool = False) -> Tensor:
    result = Tensor._wrap(cuda.pinned(array) if pin else array)
    if modes.inference:
        result._inference = True
    if requires_grad:
        result.requires_grad = True
    return result


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``data`` as a tensor; it shares memory with arrays, and is ``data`` itself if that is such a tensor already.

    Raises:
        As :func:`tensor`.
    """
    if isinstance(data, np.ndarray):
        data = from_numpy(data)
        device = backend.get_default_device() if device is None else device
    if isinstance(data, Tensor):
        wanted = None if dtype is None else dtypes.as_dtype(dtype)
        return data.to(device=data.device if device is None else device, dtype=wanted)
    return tensor(data, dtype=dtype, device=device)


def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """``obj`` as a tensor that shares its memory where it can.

    Args:
        copy: True always copies, False never.

    Raises:
        ValueError: ``copy`` is False and a copy is needed.
        Otherwise as :func:`tensor`.
    """
    shares = isinstance(obj, np.ndarray | Tensor)
    result = tensor(obj, dtype=dtype, device=device) if copy else as_tensor(obj, dtype, device)
    if copy is False and not (shares and np.shares_memory(np.asarray(getattr(obj, "_data", obj)), result._data)):
        raise ValueError(f"asarray: cannot convert {type(obj).__name__} without a copy; leave out copy=False")
    if result is obj:
        result = obj.detach()
    return result.requires_grad_() if requires_grad else result.detach()


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor on the CPU that shares the memory of a NumPy array: changes to one show in the other.

    Raises:
        TypeError: it is no NumPy array, or of a dtype that tensors do not have.
        ValueError: its byte order is not this machine's.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    if not ndarray.dtype.isnative:
        raise ValueError(
            "given numpy array has byte order different from the native byte order; use array.astype(dtype)"
        )
    _check_kind(ndarray, ndarray.dtype)
    return _finish(ndarray.view(np.ndarray) if type(ndarray) is not np.ndarray else ndarray, False)


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor that shares the memory of another library's array or tensor.

    Raises:
        TypeError: it does not offer DLPack, or a dtype that tensors do not have.
        RuntimeError: it lives on a device that cannot be used.
    """
    if not hasattr(ext_tensor, "__dlpack__") or not hasattr(ext_tensor, "__dlpack_device__"):
        raise TypeError(f"from_dlpack expects an object with __dlpack__, but got {type(ext_tensor).__name__}")
    kind, index = (int(x) for x in ext_tensor.__dlpack_device__())
    where = backend.resolve("cpu" if kind == 1 else f"cuda:{index}")
    array = backend.module_for(where).from_dlpack(ext_tensor)
    _check_kind(ext_tensor, array.dtype)
    return _finish(array, False)


def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A 0-d tensor of the default dtype, unless another is given."""
    return tensor(s, dtype=dtype or dtypes.get_default_dtype(), device=device, requires_grad=requires_grad)


# Filling a shape.


def _filled(
    how: str, shape: tuple[int, ...], dtype: Any, device: Any, requires_grad: bool, *value: Any, pin: bool = False
) -> Tensor:
    if any(n < 0 for n in shape):
        raise RuntimeError(f"{how}: Dimension size must be non-negative, got {list(shape)}")
    where = backend.resolve(device)
    with backend.on(where):
        wanted = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
        array = getattr(backend.module_for(where), how)(shape, *value, dtype=wanted)
    return _finish(array, requires_grad, pin)


def _filler(how: str, what: str) -> tuple[Callable[..., Tensor], Callable[..., Tensor], Callable[..., Tensor]]:
    """The function that makes a tensor, its ``_like`` and its ``Tensor.new_``."""

    def plain(
        *size: Any,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        memory_format: Any = None,
        pin_memory: bool = False,
        **named: Any,
    ) -> Tensor:
        return _filled(how, parse_size(how, size, named), dtype, device, requires_grad, pin=pin_memory)

    def like(
        input: Tensor,
        *,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        memory_format: Any = None,
    ) -> Tensor:
        _check_tensor(f"{how}_like", input)
        dtype, device = input.dtype if dtype is None else dtype, input.device if device is None else device
        return _filled(how, input._data.shape, dtype, device, requires_grad)

    def method(
        self: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **named: Any
    ) -> Tensor:
        dtype, device = self.dtype if dtype is None else dtype, self.device if device is None else device
        return plain(*size, dtype=dtype, device=device, requires_grad=requires_grad, **named)

    names = (how, f"{how}_like", f"new_{how}")
    texts = (
        f"the given shape, ``{how}(2, 3)`` or ``{how}((2, 3))``",
        "the shape, dtype and device of ``input``",
        "the given shape and the dtype and device of this one",
    )
    for function, name, text in zip((plain, like, method), names, texts, strict=True):
        function.__name__ = function.__qualname__ = name
        function.__doc__ = (
            f"A tensor {what}, of {text}.\n\n"
            "Raises:\n    RuntimeError: a negative size, or a device that cannot be used."
        )
    return with_out(plain), like, method


def _check_tensor(name: str, input: Any) -> None:
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' must be Tensor, not {type(input).__name__}")


zeros, zeros_like, _new_zeros = _filler("zeros", "of zeros")
ones, ones_like, _new_ones = _filler("ones", "of ones")
empty, empty_like, _new_empty = _filler("empty", "whose elements have not been set")


@with_out
def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of one value; without ``dtype`` of that which PyTorch gives the value.

    Raises:
        TypeError: ``size`` is no sequence of ints.
        RuntimeError: a negative size, or a device that cannot be used.
    """
    if not isinstance(size, tuple | list):
        raise TypeError(f"full(): argument 'size' must be tuple of ints, not {type(size).__name__}")
    if isinstance(fill_value, Tensor):
        dtype, fill_value = fill_value.dtype if dtype is None else dtype, fill_value.item()
    dtype = dtypes.of_scalar(fill_value) if dtype is None else dtypes.as_dtype(dtype)
    fill = int(fill_value) if dtype.kind in "iu" else fill_value
    return _filled("full", parse_ints("full", (size,), {}, "size"), dtype, device, requires_grad, fill)


def full_like(
    input: Tensor,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """A tensor of one value, of the shape, dtype and device of ``input``."""
    _check_tensor("full_like", input)
    dtype, device = input.dtype if dtype is None else dtype, input.device if device is None else device
    return full(input._data.shape, fill_value, dtype=dtype, device=device, requires_grad=requires_grad)


def _new_full(
    self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of one value, of the given shape and the dtype and device of this one."""
    dtype, device = self.dtype if dtype is None else dtype, self.device if device is None else device
    return full(size, fill_value, dtype=dtype, device=device, requires_grad=requires_grad)


def _new_tensor(
    self: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A copy of ``data`` in the dtype and on the device of this tensor."""
    dtype, device = self.dtype if dtype is None else dtype, self.device if device is None else device
    return tensor(data, dtype=dtype, device=device, requires_grad=requires_grad)


def _new(self: Tensor, *data: Any) -> Tensor:
    """A tensor of the dtype and on the device of this one, from data or (uninitialised) of a shape."""
    return _from_data_or_sizes(data, self.dtype, self.device)


@with_out
def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """An ``n`` by ``m`` (or square) matrix with ones on the diagonal and zeros elsewhere.

    Raises:
        RuntimeError: a negative size.
    """
    rows, columns = parse_ints("eye", (n, n if m is None else m), {}, "n and m")
    if rows < 0 or columns < 0:
        raise RuntimeError(f"n and m must be greater or equal to 0, got {rows} and {columns}")
    where = backend.resolve(device)
    with backend.on(where):
        wanted = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
        return _finish(backend.module_for(where).eye(rows, columns, dtype=wanted), requires_grad)


# Ranges.


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor | np.generic | np.ndarray) else value


@with_out
def arange(
    start: Any = 0,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers from ``start`` up to but without ``end``, ``step`` apart; ``arange(end)`` starts at 0.

    int64 if all three are ints, else the default dtype.

    Raises:
        RuntimeError: ``step`` is 0 or leads away from ``end``.
    """
    start, end, step = (_number(x) for x in ((0, start, step) if end is None else (start, end, step)))
    if dtype is None:
        dtype = dtypes.get_default_dtype() if any(isinstance(x, float) for x in (start, end, step)) else dtypes.int64
    wanted = dtypes.as_dtype(dtype)
    if wanted.kind in "iu":
        start, end, step = int(start), int(end), int(step)
    if not step:
        raise RuntimeError("step must be nonzero")
    if not all(math.isfinite(x) for x in (start, end, step)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError(f"upper bound and lower bound inconsistent with step sign: from {start} to {end} by {step}")
    count = -((start - end) // step) if wanted.kind in "iu" else math.ceil((end - start) / step)
    return _sequence(count, lambda xp: xp.arange(count) * step + start, wanted, device, requires_grad)


def _sequence(count: int, values: Callable[[Any], Any], dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    where = backend.resolve(device)
    with backend.on(where):
        return _finish(values(backend.module_for(where)).astype(dtype, copy=False), requires_grad)


def range(
    start: Any = 0,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers from ``start`` to ``end``, which is included; prefer ``arange``."""
    start, end, step = (_number(x) for x in ((0, start, step) if end is None else (start, end, step)))
    if not step or (end - start) * step < 0:
        raise RuntimeError(f"range: step must be nonzero and lead from {start} to {end}, got {step}")
    count = math.floor((end - start) / step) + 1
    wanted = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    return _sequence(count, lambda xp: xp.arange(count) * step + start, wanted, device, requires_grad)


@with_out
def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``steps`` numbers from ``start`` to ``end``, both included, equally far apart.

    Raises:
        RuntimeError: ``steps`` is negative.
    """
    start, end = _number(start), _number(end)
    (count,) = parse_ints("linspace", (steps,), {}, "steps")
    if count < 0:
        raise RuntimeError(f"number of steps must be non-negative, got {count}")
    wanted = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if wanted.kind in "iu":
        start, end = int(start), int(end)

    def values(xp: Any) -> Any:
        # From both ends, as PyTorch does, so that the sequence is symmetric and ends exactly.
        step = (end - start) / max(count - 1, 1)
        k = xp.arange(count)
        return xp.where(k < max(count // 2, 1), start + step * k, end - step * (count - 1 - k))

    return _sequence(count, values, wanted, device, requires_grad)


@with_out
def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``base`` to the power of ``steps`` numbers from ``start`` to ``end``, equally far apart.

    Raises:
        RuntimeError: ``steps`` is negative.
    """
    wanted = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    exponents = linspace(start, end, steps, dtype=dtypes.float64, device=device)
    with backend.beside(exponents._data):
        return _finish((base**exponents._data).astype(wanted), requires_grad)


def _cosines(*weights: float) -> Callable[[np.ndarray, int], np.ndarray]:
    """``weights[0] - weights[1] cos(t) + weights[2] cos(2 t) ...`` over one turn."""

    def window(k: np.ndarray, last: int) -> np.ndarray:
        return sum((-1) ** n * w * np.cos(2 * np.pi * n / last * k) for n, w in enumerate(weights))

    return window


def _window(
    name: str, shape: Callable[[np.ndarray, int], np.ndarray], length: int, periodic: bool, options: dict[str, Any]
) -> Tensor:
    """``shape(k, last)`` for k from 0 on; periodic windows lack the last value, which the next period starts with."""
    if isinstance(length, bool) or not hasattr(length, "__index__"):
        raise TypeError(f"{name}(): window_length must be an int, not {type(length).__name__}")
    if length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={length}")
    unknown = set(options) - {"dtype", "device", "requires_grad", "layout", "pin_memory"}
    if unknown:
        raise TypeError(f"{name}() got unexpected argument(s) {', '.join(sorted(unknown))}")
    dtype = options.get("dtype")
    dtype = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if not dtypes.is_floating(dtype):
        raise RuntimeError(f"{name} expects floating point dtypes, got: {dtype}")
    count = length.__index__()
    values = np.ones(count) if count < 2 else shape(np.arange(count), count if periodic else count - 1)
    return tensor(values, dtype=dtype, device=options.get("device"), requires_grad=options.get("requires_grad", False))


def hann_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """The Hann window, a raised cosine.

    Args:
        window_length: how many values.
        periodic: for use in a row, as a spectrum needs it; else symmetric.
        options: ``dtype`` (floating point), ``device`` and ``requires_grad`` of the tensor.

    Raises:
        TypeError: ``window_length`` is no int.
        RuntimeError: it is negative, or the dtype is not floating point.
    """
    return _window("hann_window", _cosines(0.5, 0.5), window_length, periodic, options)


def hamming_window(
    window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, **options: Any
) -> Tensor:
    """The Hamming window, ``alpha - beta cos(t)``; see ``hann_window``."""
    return _window("hamming_window", _cosines(alpha, beta), window_length, periodic, options)


def blackman_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """The Blackman window, of two cosines; see ``hann_window``."""
    return _window("blackman_window", _cosines(0.42, 0.5, 0.08), window_length, periodic, options)


def bartlett_window(window_length: int, periodic: bool = True, **options: Any) -> Tensor:
    """The Bartlett window, a triangle; see ``hann_window``."""
    return _window("bartlett_window", lambda k, last: 1 - np.abs(2 * k / last - 1), window_length, periodic, options)


def kaiser_window(window_length: int, periodic: bool = True, beta: float = 12.0, **options: Any) -> Tensor:
    """The Kaiser window, whose width ``beta`` sets; see ``hann_window``."""

    def shape(k: np.ndarray, last: int) -> np.ndarray:
        return np.i0(beta * np.sqrt(np.maximum(0, 1 - (2 * k / last - 1) ** 2))) / np.i0(beta)

    return _window("kaiser_window", shape, window_length, periodic, options)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The row and column numbers of the elements on and below a diagonal of a matrix, row by row."""
    return tensor(np.stack(np.tril_indices(row, offset, col)), dtype=dtype or dtypes.int64, device=device)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The row and column numbers of the elements on and above a diagonal of a matrix, row by row."""
    return tensor(np.stack(np.triu_indices(row, offset, col)), dtype=dtype or dtypes.int64, device=device)


# Questions.


def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> bool:
    """Whether the elements of a tensor are floating-point numbers."""
    return input.is_floating_point()


def is_signed(input: Tensor) -> bool:
    """Whether the elements of a tensor can be negative."""
    return input.is_signed()


def is_inference(input: Tensor) -> bool:
    """Whether a tensor was made in inference mode."""
    return input.is_inference()


def get_device(input: Tensor) -> int:
    """The index of the CUDA device of a tensor, -1 on the CPU."""
    return input.get_device()


def is_complex(input: Tensor) -> bool:
    """Whether the elements of a tensor are complex: never, there are no complex tensors."""
    _check_tensor("is_complex", input)
    return False


def numel(input: Tensor) -> int:
    """The number of elements of a tensor."""
    _check_tensor("numel", input)
    return input.numel()


def detach(input: Tensor) -> Tensor:
    """The same memory as a tensor that needs no gradient."""
    _check_tensor("detach", input)
    return input.detach()


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that tensors of the given shapes broadcast to.

    Raises:
        RuntimeError: they do not broadcast.
    """
    return Size(broadcast_shape(*[(s,) if isinstance(s, int) else tuple(s) for s in shapes]))


def result_type(tensor1: Any, tensor2: Any) -> np.dtype:
    """The dtype of an arithmetic operation between two tensors or numbers."""
    operands = []
    for value in (tensor1, tensor2):
        is_tensor = isinstance(value, Tensor)
        operands.append((value.dtype, 2 if value.ndim else 1) if is_tensor else (dtypes.of_scalar(value), 0))
    return dtypes.result_type(*operands)


def promote_types(type1: Any, type2: Any) -> np.dtype:
    """The smallest dtype that both dtypes can be converted to."""
    return dtypes.promote(dtypes.as_dtype(type1), dtypes.as_dtype(type2))


def can_cast(from_: Any, to: Any) -> bool:
    """Whether promotion may convert one dtype to the other: not to a lower kind (bool < int < float)."""
    return dtypes.category(dtypes.as_dtype(from_)) <= dtypes.category(dtypes.as_dtype(to))


class finfo:
    """The limits of a floating-point dtype, the default one unless given.

    Attributes:
        bits, dtype: size and name.
        eps, max, min, tiny, smallest_normal, resolution: as Python floats.

    Raises:
        TypeError: the dtype is not floating point.
    """

    def __init__(self, type: Any = None):
        dtype = dtypes.get_default_dtype() if type is None else dtypes.as_dtype(type)
        if not dtypes.is_floating(dtype):
            raise TypeError(f"finfo() requires a floating point input type, got {dtype}. Use iinfo for integers")
        found = np.finfo(dtype)
        self.bits, self.dtype = found.bits, dtype.name
        self.eps, self.max, self.min = float(found.eps), float(found.max), float(found.min)
        self.tiny = self.smallest_normal = float(found.tiny)
        self.resolution = 10.0**-found.precision

    def __repr__(self) -> str:
        names = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        return f"finfo({', '.join(f'{name}={getattr(self, name):g}' for name in names)}, dtype={self.dtype})"


class iinfo:
    """The limits of an integer dtype.

    Attributes:
        bits, dtype: size and name.
        max, min: as Python ints.

    Raises:
        TypeError: the dtype is no integer.
    """

    def __init__(self, type: Any):
        dtype = dtypes.as_dtype(type)
        if dtype.kind not in "iu":
            raise TypeError(f"iinfo() requires an integer input type, got {dtype}. Use finfo for floating point")
        found = np.iinfo(dtype)
        self.bits, self.dtype, self.max, self.min = found.bits, dtype.name, int(found.max), int(found.min)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


# PyTorch's old constructors, one for each dtype.


def _from_data_or_sizes(data: tuple[Any, ...], dtype: np.dtype, device: Any) -> Tensor:
    """What ``FloatTensor(...)`` makes: zeros of the sizes in ``data``, or a tensor of the one thing in it."""
    sizes = data[0] if len(data) == 1 and isinstance(data[0], Size) else data
    if all(isinstance(n, int | np.integer) for n in sizes):
        return zeros(tuple(sizes) or (0,), dtype=dtype, device=device)
    if len(data) != 1 or isinstance(data[0], float | bool | str):
        raise TypeError(f"new(): expected sizes or one sequence, array or tensor, got {_shorten(data)}")
    if isinstance(data[0], Tensor) and data[0].dtype != dtype:
        raise TypeError(f"expected a tensor of {dtype}, got {data[0].dtype}; convert it with .to({dtype})")
    return tensor(data[0], dtype=dtype, device=device)


class LegacyType(type):
    """What ``FloatTensor`` and the like are: constructors, dtypes, and types for ``isinstance``."""

    dtype: np.dtype
    device_type: str

    def __call__(cls, *data: Any) -> Tensor:
        return _from_data_or_sizes(data, cls.dtype, cls.device_type)

    def __instancecheck__(cls, obj: Any) -> bool:
        return isinstance(obj, Tensor) and obj.dtype == cls.dtype and obj.device.type == cls.device_type

    def __repr__(cls) -> str:
        return f"<class 'gpugrad.{'cuda.' * (cls.device_type == 'cuda')}{cls.__name__}'>"


def legacy_types(device_type: str) -> dict[str, Any]:
    """The old constructors for one type of device, by name."""
    text = "Tensors of {} on {}: ``{}([1, 2])`` from data, ``{}(2, 3)`` of a shape."
    return {
        name: LegacyType(
            name,
            (),
            {"dtype": dtype, "device_type": device_type, "__doc__": text.format(dtype, device_type, name, name)},
        )
        for name, dtype in dtypes.BY_CONSTRUCTOR.items()
    }


def _old_type(t: Any) -> Any:
    """An old constructor from itself or its name; None for anything else."""
    if isinstance(t, str):
        return legacy_types("cuda" if ".cuda." in t else "cpu").get(t.rpartition(".")[2])
    return t if isinstance(t, LegacyType) else None


def _type(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The tensor in another dtype; without one, the name of its type.

    Args:
        dtype: a dtype, or an old constructor such as ``cuda.FloatTensor`` or its name, which also say the device.
        non_blocking: let the copy to a device run beside what follows.

    Raises:
        ValueError: there is no constructor of that name.
        TypeError: there is no such dtype.
    """
    if dtype is None:
        names = {found: name for name, found in dtypes.BY_CONSTRUCTOR.items()}
        return f"gpugrad.{'cuda.' * self.is_cuda}{names.get(self.dtype, 'BFloat16Tensor')}"
    old = _old_type(dtype)
    if old is None:
        if isinstance(dtype, str) and "." in dtype:
            raise ValueError(f"invalid type: {dtype!r}; expected a name such as 'torch.FloatTensor', or a dtype")
        return self.to(dtypes.as_dtype(dtype))
    where = self.device if self.device.type == old.device_type else old.device_type
    return self.to(where, old.dtype, non_blocking)


def set_default_tensor_type(t: Any) -> None:
    """Make an old constructor's dtype and device the default ones.

    Prefer ``set_default_dtype`` and ``set_default_device``.

    Args:
        t: a constructor such as ``DoubleTensor``, or its name.

    Raises:
        TypeError: it is neither.
        RuntimeError: the device cannot be used.
    """
    found = _old_type(t)
    if found is None:
        raise TypeError(f"invalid type object: {t!r}; expected a constructor such as DoubleTensor, or its name")
    dtypes.set_default_dtype(found.dtype)
    backend.set_default_device(found.device_type)


_legacy = legacy_types("cpu")
globals().update(_legacy)

for _name, _method in {
    "new_zeros": _new_zeros,
    "new_ones": _new_ones,
    "new_empty": _new_empty,
    "new_full": _new_full,
    "new_tensor": _new_tensor,
    "new": _new,
    "type": _type,
}.items():
    METHODS[_name] = _method
    setattr(Tensor, _name, _method)

__all__ = [
    "arange",
    "as_tensor",
    "asarray",
    "bartlett_window",
    "blackman_window",
    "broadcast_shapes",
    "can_cast",
    "detach",
    "empty",
    "empty_like",
    "eye",
    "finfo",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "get_device",
    "hamming_window",
    "hann_window",
    "iinfo",
    "is_complex",
    "is_floating_point",
    "is_inference",
    "is_signed",
    "is_tensor",
    "kaiser_window",
    "linspace",
    "logspace",
    "numel",
    "ones",
    "ones_like",
    "promote_types",
    "range",
    "result_type",
    "scalar_tensor",
    "set_default_tensor_type",
    "tensor",
    "tril_indices",
    "triu_indices",
    "zeros",
    "zeros_like",
    *_legacy,
]
