"""Ops that move or view elements without changing them: reshape, transpose, expand, stack, split, pad."""

from __future__ import annotations

import copy
import itertools
import math
import operator
from typing import Any

import numpy as np

from .. import engine
from ..backend import dtypes, graph, lazy, module_of, transfer
from ..backend.fused.joining import concatenate
from . import core
from .core import FUNCTIONS, METHODS, normalize_dim, normalize_dims, op, public
from .core import taped as F


@op(samples=lambda t: [(t(2, 3),)])
def clone(xp, input, /):
    """A copy in C order."""
    return xp.array(input, copy=True, order="C")


clone.rules(input=lambda F, g: g)


@public(name="clone")
def _clone(input: Any, *, memory_format: Any = None) -> Any:
    """A copy of ``input`` with its own memory; gradients flow through it."""
    return clone(input)


@op(samples=lambda t: [(t(2, 3), np.dtype("float64"))], torch=None)
def to_dtype(xp, input, /, dtype):
    """The elements converted."""
    return input.astype(dtype)


to_dtype.rules(input=lambda F, g: g)
to_dtype.chain(lambda args, recording: lazy.cast(*args))


@op(torch=None)
def to_device(xp, input, /, device, non_blocking, source):
    """The elements on another device than ``source``, where they are."""
    return transfer(input, device, non_blocking)


to_device.rules(input=lambda F, g, device, source: F.to_device(g, source, False, device))


def _conversion(name: str, dtype: Any) -> Any:
    def method(self: Any, memory_format: Any = None) -> Any:
        return self if self.dtype == dtype else to_dtype(self, dtype)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"The tensor as {dtype.name}; itself if it is already."
    return method


def _to_bfloat16(self: Any, memory_format: Any = None) -> Any:
    """The tensor as bfloat16, itself if it is already; needs the package ``ml_dtypes``."""
    return self.to("bfloat16")


for _name in ("float", "double", "half", "long", "int", "short", "bool"):
    METHODS[_name] = _conversion(_name, dtypes.BY_NAME["float32" if _name == "float" else _name])
METHODS["bfloat16"] = _to_bfloat16
METHODS["byte"] = _conversion("byte", dtypes.uint8)
METHODS["char"] = _conversion("char", dtypes.int8)


@op(view=True, samples=lambda t: [(t(2, 3), (3, 2)), (t(4, 3), (2, 2, 3)), (t(), (1, 1)), (t(2, 3), (-1,))])
def reshape(xp, input, /, shape):
    """The elements under another shape: a view where memory allows it."""
    try:
        if min(shape, default=0) >= -1:  # NumPy infers the size for any negative number
            return input.reshape(shape)
    except ValueError:
        pass
    raise _reshape_error(input.size, shape)


reshape.rules(input=lambda F, g, input_shape: F.reshape(g, input_shape))


@op(
    view=True,
    samples=lambda t: [(t(3, 1), (3, 4)), (t(2), (3, 2)), (t(), (2, 2))],
    torch=lambda torch, input, shape: input.expand(shape),
)
def expand(xp, input, /, shape):
    """A view with dimensions of size 1 repeated."""
    return xp.broadcast_to(input, shape)


expand.rules(input=lambda F, g, input_shape: F.sum_to(g, input_shape))


@op(samples=lambda t: [(t(3, 4), (3, 1)), (t(3, 4), (4,)), (t(2, 3), ())], torch=None)
def sum_to(xp, input, /, shape):
    """The sum over the dimensions that ``shape`` was broadcast along: the gradient of expand."""
    return engine.sum_to(input, shape)


sum_to.rules(input=lambda F, g, input_shape: F.expand(g, input_shape))


@op(view=True, samples=lambda t: [(t(2, 3, 4), (2, 0, 1)), (t(2, 3), (1, 0))])
def permute(xp, input, /, dims):
    """A view with the dimensions in another order."""
    return input.transpose(dims)


permute.rules(input=lambda F, g, dims: F.permute(g, tuple(sorted(range(len(dims)), key=dims.__getitem__))))


@op(samples=None, torch=None)
def view_scatter(xp, input, src, /, view_op, params, slot):
    """``input`` with the part that ``view_op(input, *params)`` shows replaced by ``src``."""
    out = xp.array(input, copy=True, order="C")
    view = view_op.forward(xp, out, *params)
    view = view[slot] if view_op.outputs != 1 else view
    view[...] = src
    return out


def _view_of(F: Any, g: Any, view_op: Any, params: Any, slot: int) -> Any:
    view = getattr(F, view_op.name)(g, *params)
    return view[slot] if view_op.outputs != 1 else view


def _without_view(F: Any, g: Any, src_shape: Any, view_op: Any, params: Any, slot: int) -> Any:
    return F.view_scatter(g, zeros_like_gradient(F, g, src_shape), view_op, params, slot)


view_scatter.rules(
    input=_without_view,
    src=lambda F, g, view_op, params, slot: _view_of(F, g, view_op, params, slot),
)


def zeros_like_gradient(F: Any, g: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of a shape with the dtype and on the device of ``g``, as a value of ``F``; they take no memory."""
    xp = module_of(F.array(g))
    return F.constant(xp.broadcast_to(xp.zeros((), g.dtype), shape))


def at(dim: int, index: Any) -> tuple[Any, ...]:
    """The index that applies ``index`` along one dimension."""
    return (*(slice(None),) * dim, index, Ellipsis)


@op(
    aux=True,
    samples=lambda t: [(t(2, 3), t(1, 3), 0), (t(2, 1), t(2, 0), t(2, 2), 1)],
    torch=lambda torch, *args: torch.cat(args[:-1], args[-1]),
)
def cat(xp, *tensors, dim, recording):
    """Arrays one after the other along a dimension."""
    return concatenate(xp, tensors, dim), tuple(a.shape[dim] for a in tensors)


@cat.joint_rule
def _cat_rule(F, g, wanted, aux, dim):
    return [part if w else None for part, w in zip(F.split(g, aux, dim), wanted, strict=True)]


@op(view=True, outputs=None, samples=lambda t: [(t(5, 2), (2, 0, 3), 0), (t(2, 3), (3,), 1)])
def split(xp, input, /, sizes, dim):
    """Views of parts of the given sizes along a dimension.

    Raises:
        RuntimeError: the sizes are negative or do not sum to that of the dimension.
    """
    n = input.shape[dim]
    if sum(sizes) != n or min(sizes, default=0) < 0:
        raise RuntimeError(
            f"split_with_sizes expects split_sizes to be non-negative and sum exactly to {n} (input tensor's size "
            f"at dimension {dim}), but got split_sizes={list(sizes)}"
        )
    parts = []
    stop = 0
    for n in sizes:
        start, stop = stop, stop + n
        parts.append(input[at(dim, slice(start, stop))])
    return parts


@split.joint_rule
def _split_rule(F, g, wanted, input_shape, sizes, dim):
    g = g if isinstance(g, list) else [g]
    like = next(part for part in g if part is not None)
    shapes = [(*input_shape[:dim], n, *input_shape[dim + 1 :]) for n in sizes]
    parts = [zeros_like_gradient(F, like, s) if part is None else part for part, s in zip(g, shapes, strict=True)]
    return (F.cat(*parts, dim),)


@op(
    samples=lambda t: [(t(2, 3), t(2, 3), 0), (t(2), t(2), t(2), 1), (t(), t(), 0)],
    torch=lambda torch, *args: torch.stack(args[:-1], args[-1]),
)
def stack(xp, *tensors, dim):
    """Arrays one after the other along a new dimension."""
    return concatenate(xp, [a[at(dim, None)] for a in tensors], dim)


@stack.joint_rule
def _stack_rule(F, g, wanted, dim):
    return [part if w else None for part, w in zip(F.unbind(g, dim), wanted, strict=True)]


@op(view=True, outputs=None, samples=lambda t: [(t(3, 2), 0), (t(2, 1), 1), (t(2), 0)])
def unbind(xp, input, /, dim):
    """Views of the slices along a dimension."""
    return [input[at(dim, i)] for i in range(input.shape[dim])]


@unbind.joint_rule
def _unbind_rule(F, g, wanted, input_shape, dim):
    g = g if isinstance(g, list) else [g]
    like = next(part for part in g if part is not None)
    shape = (*input_shape[:dim], *input_shape[dim + 1 :])
    return (F.stack(*[zeros_like_gradient(F, like, shape) if part is None else part for part in g], dim),)


@op(samples=lambda t: [(t(2, 3), (1,)), (t(2, 3, 2), (0, 2)), (t(2), ())])
def flip(xp, input, /, dims):
    """A copy in reverse order along dimensions."""
    # PyTorch's flip is no view, so its memory must not be the input's.
    return xp.array(xp.flip(input, dims), copy=True, order="C")


flip.rules(input=lambda F, g, dims: F.flip(g, dims))


@op(samples=lambda t: [(t(2, 3), (2,), (1,)), (t(2, 3), (-1, 4), (0, 1)), (t(2, 3), (1,), None)])
def roll(xp, input, /, shifts, dims):
    """A copy with elements moved along dimensions, in a circle."""
    return xp.roll(input, shifts[0] if dims is None else shifts, dims)


roll.rules(input=lambda F, g, shifts, dims: F.roll(g, tuple(-n for n in shifts), dims))


@op(samples=lambda t: [(t(2, 3), ((0, 0), (1, 2)), 0.5), (t(2), ((0, 1),), 0)], torch=None)
def pad_constant(xp, input, /, widths, value):
    """A copy with a constant around it."""
    shape = tuple(n + before + after for n, (before, after) in zip(input.shape, widths, strict=True))
    out = xp.full(shape, value, input.dtype)
    out[tuple(slice(before, before + n) for n, (before, _) in zip(input.shape, widths, strict=True))] = input
    return out


pad_constant.rules(
    input=lambda F, g, input_shape, widths: F.getitem(
        g, tuple(slice(before, before + n) for n, (before, _) in zip(input_shape, widths, strict=True))
    )
)


@op(samples=lambda t: [(t(3, 3), 0), (t(2, 2, 4), 1), (t(4, 2), -2)])
def tril(xp, input, /, diagonal):
    """A copy with zeros above a diagonal."""
    return xp.tril(input, diagonal)


tril.rules(input=lambda F, g, diagonal: F.tril(g, diagonal))


@op(samples=lambda t: [(t(3, 3), 0), (t(2, 2, 4), 1), (t(4, 2), -2)])
def triu(xp, input, /, diagonal):
    """A copy with zeros below a diagonal."""
    return xp.triu(input, diagonal)


triu.rules(input=lambda F, g, diagonal: F.triu(g, diagonal))


@op(view=True, samples=lambda t: [(t(3, 4), 0, 0, 1), (t(2, 3, 4), 1, 2, 0), (t(3, 3), -2, 0, 1), (t(2, 2), 5, 0, 1)])
def diagonal(xp, input, /, offset, dim1, dim2):
    """A view of a diagonal over two dimensions, as the last dimension."""
    out = input.diagonal(offset, dim1, dim2)
    if xp is np and input.flags.writeable:
        out.flags.writeable = True  # NumPy protects its diagonals; writing through them is well defined
    return out


diagonal.rules(input=lambda F, g, input_shape, offset, dim1, dim2: F.diagonal_put(g, input_shape, offset, dim1, dim2))


@op(samples=lambda t: [(t(3), (3, 4), 0, 0, 1), (t(3, 2), (2, 3, 4), 1, 0, 2)], torch=None)
def diagonal_put(xp, input, /, shape, offset, dim1, dim2):
    """Zeros with ``input`` on a diagonal: the gradient of diagonal."""
    out = xp.zeros(shape, input.dtype)
    diagonal.forward(xp, out, offset, dim1, dim2)[...] = input
    return out


diagonal_put.rules(input=lambda F, g, offset, dim1, dim2: F.diagonal(g, offset, dim1, dim2))


@op(
    view=True,
    name="unfold",
    samples=lambda t: [(t(5), 0, 2, 1), (t(2, 6), 1, 3, 2), (t(5, 2), 0, 2, 3), (t(3), 0, 3, 1)],
    torch=lambda torch, input, dim, size, step: input.unfold(dim, size, step),
)
def unfold(xp, input, /, dim, size, step):
    """A view of sliding windows; the window is the last dimension.

    Raises:
        RuntimeError: the window is larger than the dimension.
    """
    count = _window_count(input.shape[dim], dim, size, step)
    shape = (*input.shape[:dim], count, *input.shape[dim + 1 :], size)
    strides = (*input.strides[:dim], input.strides[dim] * step, *input.strides[dim + 1 :], input.strides[dim])
    # CuPy does not note that this is a view, but of a slice of it.
    out = xp.lib.stride_tricks.as_strided(input, shape, strides)[...]
    if xp is np and step < size:
        out.flags.writeable = False
    return out


def _window_count(n: int, dim: int, size: int, step: int) -> int:
    if not 0 <= size <= n:
        raise RuntimeError(f"maximum size for tensor at dimension {dim} is {n} but size is {size}")
    return (n - size) // step + 1


unfold.rules(input=lambda F, g, input_shape, dim, size, step: F.unfold_sum(g, input_shape, dim, size, step))


@op(samples=lambda t: [(t(4, 2), (5,), 0, 2, 1), (t(2, 2, 3), (2, 6), 1, 3, 2)], torch=None)
def unfold_sum(xp, input, /, shape, dim, size, step):
    """Windows added up where they lay: the gradient of unfold.

    Raises:
        RuntimeError: there are not as many windows as the shape has.
    """
    count = _window_count(shape[dim], dim, size, step)
    if input.shape[dim] != count:
        raise RuntimeError(f"unfold_sum: expected {count} windows along dimension {dim}, got {input.shape[dim]}")
    out = xp.zeros(shape, input.dtype)
    span = (count - 1) * step + 1
    for k in range(size):
        out[at(dim, slice(k, k + span, step))] += input[..., k]
    return out


unfold_sum.rules(input=lambda F, g, dim, size, step: F.unfold(g, dim, size, step))


@op(view=True, samples=lambda t: [(t(3, 4), (2, 2), (4, 1), 1), (t(6), (3, 4), (1, 1), 0)])
def as_strided(xp, input, /, size, stride, storage_offset):
    """A view of the memory, which is in C order, with other strides.

    Raises:
        RuntimeError: it would reach outside the memory.
    """
    reach = storage_offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if 0 not in size else -1
    if storage_offset < 0 or reach >= input.size:
        raise RuntimeError(
            f"as_strided: sizes {list(size)}, strides {list(stride)} and storage offset {storage_offset} reach element "
            f"{reach}, out of bounds for an input of {input.size} elements"
        )
    flat = xp.ascontiguousarray(input).reshape(-1)[storage_offset:]
    out = xp.lib.stride_tricks.as_strided(flat, size, [n * input.itemsize for n in stride])[...]
    if xp is np and input.size and len(np.unique(_positions(size, stride))) < out.size:
        out.flags.writeable = False
    return out


def _positions(size: Any, stride: Any) -> np.ndarray:
    """Where the elements of a strided layout lie in the memory, seen as one row."""
    found = np.zeros(tuple(size), np.int64)
    for dim, (n, step) in enumerate(zip(size, stride, strict=True)):
        found += (np.arange(n) * step).reshape(-1, *(1,) * (len(size) - 1 - dim))
    return found


def _as_strided_rule(F: Any, g: Any, input_shape: Any, positions: Any) -> Any:
    index = F.constant(module_of(F.array(g)).asarray(positions.reshape(-1)))
    return F.reshape(F.index_sum(F.reshape(g, (-1,)), index, 0, math.prod(input_shape)), input_shape)


as_strided.rules(
    input=lambda F, g, input_shape, size, stride, storage_offset: _as_strided_rule(
        F, g, input_shape, _positions(size, stride) + storage_offset
    )
)


def parse_ints(name: str, args: tuple[Any, ...], named: dict[str, Any], label: str) -> tuple[int, ...]:
    """The ints of ``f(2, 3)``, ``f((2, 3))`` or ``f(label=(2, 3))``.

    Raises:
        TypeError: they are no ints, or the call fits none of these.
    """
    if named:
        if args or set(named) != {label}:
            raise TypeError(f"{name}() takes ints, a tuple of ints or {label}=; got {args} and {named}")
        args = (named[label],)
    if len(args) == 1 and isinstance(args[0], tuple | list):
        args = tuple(args[0])
    try:
        return tuple([n.__index__() for n in args])
    except (AttributeError, TypeError):
        raise TypeError(f"{name}(): {label} must be ints, but got {args}") from None


def parse_size(name: str, size: tuple[Any, ...], named: dict[str, Any]) -> tuple[int, ...]:
    """The shape meant by ``f(2, 3)``, ``f((2, 3))`` or ``f(size=(2, 3))``.

    Raises:
        TypeError: no size was given, or one that is not made of ints.
    """
    if not size and not named:
        raise TypeError(f'{name}() missing 1 required positional arguments: "size"')
    return parse_ints(name, size, named, "size")


def _reshape_error(count: int, shape: tuple[int, ...]) -> RuntimeError:
    for k, n in enumerate(shape):
        if n < -1:
            return RuntimeError(f"invalid shape dimension {n} at index {k} of shape {list(shape)}")
    if shape.count(-1) > 1:
        return RuntimeError("only one dimension can be inferred")
    if not count and -1 in shape and 0 in shape:
        return RuntimeError(
            f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension size -1 "
            "can be any value and is ambiguous"
        )
    return RuntimeError(f"shape '{list(shape)}' is invalid for input of size {count}")


@public(name="reshape")
def _reshape(input: Any, *shape: Any, **named: Any) -> Any:
    """``input`` with another shape, a view where memory allows it; one size may be -1, to be inferred.

    Raises:
        RuntimeError: the shape has another number of elements.
    """
    return reshape(input, parse_ints("reshape", shape, named, "shape"))


@public(name="view", function=False)
def _view(input: Any, *shape: Any, **named: Any) -> Any:
    """``input`` with another shape, sharing its memory; ``view(dtype)`` reads the same bytes as another dtype.

    Raises:
        RuntimeError: the shape has another number of elements, or memory does not allow a view.
    """
    if len(shape) == 1 and not isinstance(shape[0], int | tuple | list) and not hasattr(shape[0], "__index__"):
        return _reinterpret(input, dtypes.as_dtype(shape[0]))
    out = reshape(input, parse_ints("view", shape, named, "size"))
    if out._base is None and out._data.size:
        raise RuntimeError(
            f"view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            f"contiguous subspaces): the input of shape {tuple(input.shape)} has strides {input.stride()}. "
            "Use .reshape(...) instead."
        )
    return out


def _reinterpret(input: Any, dtype: Any) -> Any:
    if input._needs_grad and dtypes.is_floating(dtype):
        raise RuntimeError(
            f"view({dtype}) of a tensor that requires grad has no gradient; detach it, or use .to(dtype)"
        )
    try:
        out = core.Tensor._wrap(input._data.view(dtype))
    except ValueError as error:
        raise RuntimeError(f"view: cannot view {input.dtype} as {dtype}: {error}") from None
    out._version_counter = input._counter()
    return out


@public(function=False)
def storage_offset(input: Any) -> int:
    """How many elements lie before this tensor's first one in the memory that it views."""
    root = input._data
    while isinstance(getattr(root, "base", None), type(input._data)):
        root = root.base
    return (input.data_ptr() - core.Tensor._wrap(root).data_ptr()) // input._data.itemsize


@public(function=False)
def view_as(input: Any, other: Any) -> Any:
    """``input`` viewed with the shape of ``other``."""
    return _view(input, tuple(other.shape))


@public(function=False)
def reshape_as(input: Any, other: Any) -> Any:
    """``input`` reshaped to the shape of ``other``."""
    return reshape(input, tuple(other.shape))


@public()
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """``input`` with the dimensions from ``start_dim`` to ``end_dim`` made one.

    Raises:
        RuntimeError: ``start_dim`` comes after ``end_dim``.
    """
    shape = input._data.shape
    if not shape:
        return reshape(input, (1,))
    start, end = normalize_dim(start_dim, len(shape)), normalize_dim(end_dim, len(shape))
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    return (
        input
        if start == end
        else reshape(input, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))
    )


@public()
def unflatten(input: Any, dim: int, sizes: Any) -> Any:
    """``input`` with dimension ``dim`` split into several of the given sizes; one may be -1.

    Raises:
        RuntimeError: the sizes do not multiply up to that of the dimension.
    """
    shape = tuple(input.shape)
    dim = normalize_dim(dim, len(shape))
    sizes = parse_ints("unflatten", (sizes,), {}, "sizes")
    known = math.prod(n for n in sizes if n != -1)
    if sizes.count(-1) > 1 or (shape[dim] != known if -1 not in sizes else not known or shape[dim] % known):
        raise RuntimeError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {dim} ({shape[dim]}) in the "
            "input tensor"
        )
    return reshape(input, (*shape[:dim], *(n if n != -1 else shape[dim] // known for n in sizes), *shape[dim + 1 :]))


@public()
def ravel(input: Any) -> Any:
    """``input`` as one row, a view where memory allows it."""
    return reshape(input, (-1,))


@public(name="permute")
def _permute(input: Any, *dims: Any, **named: Any) -> Any:
    """A view of ``input`` with its dimensions in the order ``dims``.

    Raises:
        RuntimeError: ``dims`` is no permutation of the dimensions.
    """
    order = parse_ints("permute", dims, named, "dims")
    ndim = input._data.ndim
    if len(order) != ndim:
        raise RuntimeError(
            "permute(): number of dimensions in the tensor input does not match the length of the desired ordering of "
            f"dimensions i.e. input.dim() = {ndim} is not equal to len(dims) = {len(order)}"
        )
    order = tuple([normalize_dim(d, ndim) for d in order])
    if len(set(order)) != ndim:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return permute(input, order)


@public(method=("transpose", "swapaxes", "swapdims"))
def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """A view of ``input`` with two dimensions swapped."""
    ndim = input._data.ndim
    dim0, dim1 = normalize_dim(dim0, ndim), normalize_dim(dim1, ndim)
    order = list(range(ndim))
    if ndim:
        order[dim0], order[dim1] = dim1, dim0
    return permute(input, tuple(order))


FUNCTIONS["swapaxes"] = FUNCTIONS["swapdims"] = transpose


@public()
def t(input: Any) -> Any:
    """The transpose of a matrix; vectors and scalars as they are.

    Raises:
        RuntimeError: ``input`` has more than two dimensions.
    """
    ndim = input._data.ndim
    if ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {ndim}D")
    return permute(input, (1, 0)) if ndim == 2 else permute(input, tuple(range(ndim)))


def _reversed_dims(input: Any) -> Any:
    """The transpose of a matrix; in general all dimensions in reverse order."""
    return permute(input, tuple(range(input._data.ndim))[::-1])


def _matrix_transpose(name: str, only_2d: bool) -> Any:
    def get(input: Any) -> Any:
        ndim = input._data.ndim
        if ndim == 1 or (only_2d and ndim > 2):
            what = "matrices (2-D tensors)" if only_2d else "matrices or batches of matrices"
            raise RuntimeError(f"tensor.{name} is only supported on {what}. Got {ndim}-D tensor.")
        return transpose(input, -2, -1) if ndim else input

    get.__doc__ = "The transpose of a matrix." if only_2d else "The transpose of each matrix in a batch."
    return property(get)


METHODS["T"] = property(_reversed_dims)
METHODS["mT"], METHODS["mH"] = _matrix_transpose("mT", False), _matrix_transpose("mH", False)
METHODS["H"] = _matrix_transpose("H", True)
METHODS["real"] = property(lambda self: self, doc="The real part: the tensor itself.")


@public()
def adjoint(input: Any) -> Any:
    """A view of ``input`` with its last two dimensions swapped; of a tensor without dimensions, itself.

    Raises:
        RuntimeError: ``input`` has one dimension.
    """
    if input._data.ndim == 1:
        raise RuntimeError("tensor.adjoint() is only supported on matrices or batches of matrices. Got 1-D tensor.")
    return transpose(input, -2, -1) if input._data.ndim else input


@public(method=False)
def real(input: Any) -> Any:
    """The real part: the tensor itself."""
    return input


@public(method=("movedim", "moveaxis"))
def movedim(input: Any, source: Any, destination: Any) -> Any:
    """A view of ``input`` with the dimensions ``source`` moved to ``destination``, the others in order.

    Raises:
        RuntimeError: the two differ in length or repeat a dimension.
    """
    moved = [list(x) if isinstance(x, tuple | list) else [x] for x in (source, destination)]
    if len(moved[0]) != len(moved[1]):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({moved[0]} dims) should contain the same number of "
            f"dims as destination ({moved[1]} dims)"
        )
    ndim = input._data.ndim
    if not moved[0] or not ndim:
        return input
    sources, targets = normalize_dims(moved[0], ndim), normalize_dims(moved[1], ndim)
    rest = iter(d for d in range(ndim) if d not in sources)
    place = dict(zip(targets, sources, strict=True))
    return permute(input, tuple(place[d] if d in place else next(rest) for d in range(ndim)))


FUNCTIONS["moveaxis"] = movedim


@public()
def squeeze(input: Any, dim: Any = None, *, axis: Any = None) -> Any:
    """A view of ``input`` without its dimensions of size 1: all of them, or only those in ``dim``."""
    dim = axis if dim is None else dim
    shape = input._data.shape
    dims = range(len(shape)) if dim is None else normalize_dims(dim, len(shape)) if dim != () else ()
    return reshape(input, tuple([n for d, n in enumerate(shape) if n != 1 or d not in dims]))


@public()
def unsqueeze(input: Any, dim: int) -> Any:
    """A view of ``input`` with a dimension of size 1 inserted at ``dim``."""
    shape = input._data.shape
    dim = normalize_dim(dim, len(shape) + 1)
    return reshape(input, (*shape[:dim], 1, *shape[dim:]))


@public(name="expand", function=False)
def _expand(input: Any, *size: Any, **named: Any) -> Any:
    """A view of ``input`` with its dimensions of size 1 repeated to ``size``, without memory for it; -1 keeps a size.

    Raises:
        RuntimeError: a dimension whose size is not 1 would change.
    """
    return expand(input, _expanded_shape(input._data.shape, parse_ints("expand", size, named, "size")))


def _expanded_shape(old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, ...]:
    lead = len(new) - len(old)
    if lead < 0:
        raise RuntimeError(
            f"expand: the number of sizes provided ({len(new)}) must be greater or equal to the number of dimensions "
            f"in the tensor ({len(old)}); sizes {list(new)}, tensor of shape {list(old)}"
        )
    found = list(new)
    for d, n in enumerate(new):
        if d < lead:
            if n < 0:
                raise RuntimeError(
                    f"The expanded size of the tensor ({n}) isn't allowed in a leading, non-existing dimension {d}"
                )
        elif n == -1:
            found[d] = old[d - lead]
        elif old[d - lead] not in (1, n) or n < -1:
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({old[d - lead]}) at "
                f"non-singleton dimension {d}.  Target sizes: {list(new)}.  Tensor sizes: {list(old)}"
            )
    return tuple(found)


@public(function=False)
def expand_as(input: Any, other: Any) -> Any:
    """``input`` expanded to the shape of ``other``."""
    return _expand(input, tuple(other.shape))


@public()
def broadcast_to(input: Any, size: Any) -> Any:
    """``input`` expanded to ``size``."""
    return _expand(input, size)


def broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that shapes broadcast to.

    Raises:
        RuntimeError: they do not broadcast.
    """
    found: list[int] = [1] * max(map(len, shapes), default=0)
    for shape in shapes:
        for d, n in enumerate(shape, len(found) - len(shape)):
            if n != 1 and found[d] not in (1, n):
                raise RuntimeError(
                    f"The size of tensor a ({found[d]}) must match the size of tensor b ({n}) at non-singleton "
                    f"dimension {d}: the shapes {', '.join(str(tuple(s)) for s in shapes)} do not broadcast"
                )
            if n != 1:
                found[d] = n
    return tuple(found)


@public(method=False)
def broadcast_tensors(*tensors: Any) -> tuple[Any, ...]:
    """The tensors expanded to their common shape."""
    tensors = _sequence("broadcast_tensors", tensors)
    shape = broadcast_shape(*[t._data.shape for t in tensors])
    return tuple(expand(t, shape) for t in tensors)


@public(function=False)
def contiguous(input: Any, memory_format: Any = None) -> Any:
    """``input`` itself if its elements lie in C order, else a copy that does."""
    return input if input._data.flags.c_contiguous else clone(input)


@public(name="repeat", function=False)
def _repeat(input: Any, *repeats: Any, **named: Any) -> Any:
    """A copy of ``input`` repeated along each dimension; further repeats add dimensions in front.

    Raises:
        RuntimeError: fewer repeats than dimensions, or a negative one.
    """
    counts = parse_ints("repeat", repeats, named, "repeats")
    shape = input._data.shape
    if len(counts) < len(shape):
        raise RuntimeError(
            f"Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor: got "
            f"{list(counts)} for a tensor of shape {list(shape)}"
        )
    if any(n < 0 for n in counts):
        raise RuntimeError(f"repeat: the number of repeats must not be negative, got {list(counts)}")
    shape = (1,) * (len(counts) - len(shape)) + shape
    spread = expand(reshape(input, _interleaved((1,) * len(shape), shape)), _interleaved(counts, shape))
    out = reshape(spread, tuple(r * n for r, n in zip(counts, shape, strict=True)))
    return clone(out) if out._base is not None else out


def _interleaved(a: Any, b: Any) -> tuple[int, ...]:
    return tuple(n for pair in zip(a, b, strict=True) for n in pair)


@public()
def tile(input: Any, *dims: Any, **named: Any) -> Any:
    """A copy of ``input`` repeated along its last dimensions, as ``numpy.tile`` does."""
    counts = parse_ints("tile", dims, named, "dims")
    return _repeat(input, (1,) * (input._data.ndim - len(counts)) + counts)


@public()
def repeat_interleave(
    input: Any, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Any:
    """Each element (or slice along ``dim``) repeated ``repeats`` times in a row; flat without ``dim``.

    Given only a tensor of counts, the indices that repeat each position so often.

    Raises:
        RuntimeError: negative repeats, or a tensor of repeats that does not fit the dimension.
    """
    if repeats is None:
        return core.Tensor._wrap(_repeated_index(input._data, input._data.size))
    if dim is None:
        input, dim = reshape(input, (-1,)), 0
    shape = input._data.shape or (1,)
    dim = normalize_dim(dim, len(shape))
    if isinstance(repeats, core.Tensor | np.ndarray | list | tuple):
        (counts,) = core.as_tensors(
            "repeat_interleave", (np.asarray(repeats) if isinstance(repeats, list | tuple) else repeats,)
        )
        index = _repeated_index(counts._data, shape[dim])
        return F.index_select(reshape(input, shape), core.Tensor._wrap(index), dim)
    count = repeats.__index__()
    if count < 0:
        raise RuntimeError(f"Repeats must be non-negative, got {count}")
    spread = expand(
        reshape(input, (*shape[: dim + 1], 1, *shape[dim + 1 :])), (*shape[: dim + 1], count, *shape[dim + 1 :])
    )
    out = reshape(spread, (*shape[:dim], shape[dim] * count, *shape[dim + 1 :]))
    return clone(out) if out._base is not None else out


def _repeated_index(counts: Any, size: int) -> Any:
    xp = module_of(counts)
    if counts.dtype.kind not in "iu":
        raise RuntimeError(f"repeats has to be Long or Int tensor, got {counts.dtype}")
    if counts.size not in (1, size) or counts.ndim > 1:
        raise RuntimeError(
            "repeats must have the same size as input along dim, but got repeats of shape "
            f"{tuple(counts.shape)} and a size of {size}"
        )
    if (counts < 0).any():
        raise RuntimeError("repeats can not be negative")
    return xp.repeat(xp.arange(size), counts if counts.size == size else int(counts.reshape(-1)[0]))


def _sequence(name: str, tensors: Any) -> tuple[Any, ...]:
    """The tensors of ``f(a, b)`` or ``f([a, b])``."""
    if len(tensors) == 1 and isinstance(tensors[0], tuple | list):
        tensors = tensors[0]
    return tuple(core.as_tensors(name, tensors))


def _common(name: str, tensors: Any) -> list[Any]:
    """A sequence of tensors, in their common dtype."""
    if isinstance(tensors, core.Tensor) or not hasattr(tensors, "__iter__"):
        raise TypeError(
            f"{name}(): argument 'tensors' must be a tuple or list of Tensors, not {type(tensors).__name__}"
        )
    found = list(core.as_tensors(name, list(tensors)))
    if len({t._data.dtype for t in found}) > 1:
        dtype = dtypes.result_type(*[(t._data.dtype, 2 if t._data.ndim else 1) for t in found])
        found = [t if t._data.dtype == dtype else to_dtype(t, dtype) for t in found]
    return found


@public(name="cat", method=False)
def _cat(tensors: Any, dim: int = 0, *, axis: int | None = None) -> Any:
    """The tensors put one after the other along an existing dimension; all other sizes must agree.

    Empty tensors of shape (0,) are left out, as PyTorch does.

    Raises:
        ValueError: there are none.
        RuntimeError: their shapes do not fit.
    """
    found = _common("cat", tensors)
    dim = dim if axis is None else axis
    if not found:
        raise ValueError("cat(): expected a non-empty list of Tensors")
    kept = [t for t in found if t._data.shape != (0,)] or found[:1]
    first = kept[0]._data.shape
    for k, t in enumerate(found):
        if not t._data.ndim:
            raise RuntimeError(f"zero-dimensional tensor (at position {k}) cannot be concatenated; use stack")
    dim = normalize_dim(dim, len(first))
    for k, t in enumerate(found):
        shape = t._data.shape
        if shape == (0,):
            continue
        if len(shape) != len(first):
            raise RuntimeError(f"Tensors must have same number of dimensions: got {len(first)} and {len(shape)}")
        if shape[:dim] != first[:dim] or shape[dim + 1 :] != first[dim + 1 :]:
            d = next(d for d in range(len(first)) if d != dim and shape[d] != first[d])
            raise RuntimeError(
                f"Sizes of tensors must match except in dimension {dim}. Expected size {first[d]} but got size "
                f"{shape[d]} for tensor number {k} in the list (shapes {tuple(first)} and {tuple(shape)})."
            )
    return cat.apply(kept, (dim,))


FUNCTIONS["concat"] = FUNCTIONS["concatenate"] = _cat


@public(name="stack", method=False)
def _stack(tensors: Any, dim: int = 0, *, axis: int | None = None) -> Any:
    """Tensors of one shape put one after the other along a new dimension.

    Raises:
        RuntimeError: there are none, or their shapes differ.
    """
    found = _common("stack", tensors)
    dim = dim if axis is None else axis
    if not found:
        raise RuntimeError("stack expects a non-empty TensorList")
    first = found[0]._data.shape
    for k, t in enumerate(found):
        if t._data.shape != first:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(first)} at entry 0 and "
                f"{list(t._data.shape)} at entry {k}"
            )
    return stack.apply(found, (normalize_dim(dim, len(first) + 1),))


def _at_least(ndim: int) -> Any:
    # Where the new dimensions go: NumPy puts a matrix first in three dimensions, a row in the middle.
    shapes: dict[int, dict[int, Any]] = {
        1: {0: (1,)},
        2: {0: (1, 1), 1: (1, -1)},
        3: {0: (1, 1, 1), 1: (1, -1, 1)},
    }
    places = shapes[ndim]

    def function(*tensors: Any) -> Any:
        found = []
        for t in _sequence(function.__name__, tensors):
            shape = places.get(t._data.ndim)
            if shape is None and t._data.ndim < ndim:
                shape = (*t._data.shape, 1)
            found.append(t if shape is None else reshape(t, shape))
        single = len(tensors) == 1 and not isinstance(tensors[0], tuple | list)
        return found[0] if single else tuple(found)

    function.__name__ = function.__qualname__ = f"atleast_{ndim}d"
    function.__doc__ = f"Views of the tensors with at least {ndim} dimension{'s' * (ndim > 1)}."
    return public(method=False)(function)


atleast_1d, atleast_2d, atleast_3d = _at_least(1), _at_least(2), _at_least(3)


@public(method=False)
def hstack(tensors: Any) -> Any:
    """The tensors side by side: along dimension 1, or 0 for vectors."""
    found = atleast_1d(list(tensors))
    return _cat(found, 0 if found and found[0].ndim == 1 else 1)


@public(method=False)
def vstack(tensors: Any) -> Any:
    """The tensors one below the other: along dimension 0, vectors as rows."""
    return _cat(atleast_2d(list(tensors)), 0)


FUNCTIONS["row_stack"] = vstack


@public(method=False)
def dstack(tensors: Any) -> Any:
    """The tensors one behind the other: along dimension 2."""
    return _cat(atleast_3d(list(tensors)), 2)


@public(method=False)
def column_stack(tensors: Any) -> Any:
    """The tensors side by side along dimension 1, vectors as columns."""
    found = _common("column_stack", tensors)
    if not found:
        raise RuntimeError("column_stack expects a non-empty TensorList")
    return _cat([reshape(t, (t._data.size, 1)) if t._data.ndim < 2 else t for t in found], 1)


@public(method=False)
def block_diag(*tensors: Any) -> Any:
    """A matrix with the given matrices (vectors as rows) along its diagonal and zeros elsewhere.

    Raises:
        RuntimeError: one has more than two dimensions.
    """
    for k, t in enumerate(tensors):
        if isinstance(t, core.Tensor) and t._data.ndim > 2:
            raise RuntimeError(
                f"block_diag: Input tensors must have 2 or fewer dimensions. Input {k} has {t._data.ndim} dimensions"
            )
    if not tensors:
        return core.Tensor._wrap(np.zeros((1, 0), dtypes.get_default_dtype()))
    blocks = atleast_2d(_common("block_diag", list(tensors)))
    width = sum(t._data.shape[1] for t in blocks)
    rows, before = [], 0
    for t in blocks:
        after = width - before - t._data.shape[1]
        rows.append(pad_constant(t, ((0, 0), (before, after)), 0))
        before = width - after
    return cat.apply(rows, (0,))


@public(name="split", method=False)
def _split(tensor: Any, split_size_or_sections: Any, dim: int = 0) -> tuple[Any, ...]:
    """Views of ``tensor`` cut along ``dim``: into parts of one size (the last may be smaller), or of the given sizes.

    Raises:
        RuntimeError: the sizes are negative or do not sum to that of the dimension.
    """
    if not tensor._data.ndim:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    dim = normalize_dim(dim, tensor._data.ndim)
    n = tensor._data.shape[dim]
    if isinstance(split_size_or_sections, tuple | list):
        return split(tensor, parse_ints("split", (split_size_or_sections,), {}, "sizes"), dim)
    (size,) = parse_ints("split", (split_size_or_sections,), {}, "split_size")
    if size < 0:
        raise RuntimeError(f"split expects split_size be non-negative, but got split_size={size}")
    if not size and n:
        raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
    return split(tensor, (*(size,) * (n // size), *((n % size,) if n % size else ())) if n else (0,), dim)


@public(name="split", function=False)
def _split_method(self: Any, split_size: Any, dim: int = 0) -> tuple[Any, ...]:
    """``gg.split`` of this tensor."""
    return _split(self, split_size, dim)


@public()
def split_with_sizes(input: Any, split_sizes: Any, dim: int = 0) -> tuple[Any, ...]:
    """``gg.split`` into parts of the given sizes."""
    return _split(input, split_sizes, dim)


@public()
def chunk(input: Any, chunks: int, dim: int = 0, *, axis: int | None = None) -> tuple[Any, ...]:
    """At most ``chunks`` views of ``input`` of equal size along ``dim`` (the last may be smaller).

    Raises:
        RuntimeError: ``chunks`` is not positive.
    """
    chunks = operator.index(chunks)
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    dim = normalize_dim(dim if axis is None else axis, input._data.ndim)
    n = input.shape[dim]
    return split(input, (0,) * chunks, dim) if not n else _split(input, -(-n // chunks), dim)


@public()
def tensor_split(input: Any, indices_or_sections: Any, dim: int = 0) -> tuple[Any, ...]:
    """Views of ``input`` cut along ``dim``: into so many nearly equal parts, or before each of the given indices.

    Raises:
        RuntimeError: the number of parts is not positive.
    """
    dim = normalize_dim(dim, input._data.ndim)
    n = input.shape[dim]
    if isinstance(indices_or_sections, core.Tensor) and indices_or_sections.ndim:
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, tuple | list):
        cuts = [0, *[slice(None, i).indices(n)[1] for i in indices_or_sections], n]
        return tuple(F.getitem(input, at(dim, slice(a, max(a, b)))) for a, b in itertools.pairwise(cuts))
    (parts,) = parse_ints("tensor_split", (indices_or_sections,), {}, "sections")
    if parts <= 0:
        raise RuntimeError(f"number of sections must be larger than 0, got {parts}")
    return split(input, tuple(n // parts + (k < n % parts) for k in range(parts)), dim)


@public(name="unbind")
def _unbind(input: Any, dim: int = 0) -> tuple[Any, ...]:
    """Views of the slices of ``input`` along ``dim``.

    Raises:
        IndexError: ``input`` has no dimensions.
    """
    if not input._data.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    return unbind(input, normalize_dim(dim, input._data.ndim))


@public()
def narrow(input: Any, dim: int, start: int, length: int) -> Any:
    """A view of ``length`` slices of ``input`` along ``dim``, from ``start``.

    Raises:
        RuntimeError: they lie outside the dimension.
    """
    dim = normalize_dim(dim, input._data.ndim)
    (start,), (length,) = parse_ints("narrow", (start,), {}, "start"), parse_ints("narrow", (length,), {}, "length")
    n = input.shape[dim]
    if length < 0:
        raise RuntimeError(f"narrow(): length must be non-negative, got {length}")
    if not -n <= start <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
    start += n if start < 0 else 0
    if start + length > n:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return F.getitem(input, at(dim, slice(start, start + length)))


@public()
def select(input: Any, dim: int, index: int) -> Any:
    """A view of slice ``index`` of ``input`` along ``dim``, without that dimension.

    Raises:
        IndexError: the index is out of range.
    """
    if not input._data.ndim:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    dim = normalize_dim(dim, input._data.ndim)
    (index,) = parse_ints("select", (index,), {}, "index")
    if not -input.shape[dim] <= index < input.shape[dim]:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size {list(input.shape)} at dimension {dim}"
        )
    return F.getitem(input, at(dim, index))


@public(name="flip")
def _flip(input: Any, *dims: Any, **named: Any) -> Any:
    """A copy of ``input`` with the order of its elements reversed along ``dims``."""
    asked = parse_ints("flip", dims, named, "dims")
    return flip(input, normalize_dims(asked, input._data.ndim) if asked else ())


@public()
def fliplr(input: Any) -> Any:
    """A copy of ``input`` reversed along dimension 1.

    Raises:
        RuntimeError: ``input`` has fewer than two dimensions.
    """
    if input._data.ndim < 2:
        raise RuntimeError(f"fliplr: Input must be >= 2-d, got {input._data.ndim}-d.")
    return flip(input, (1,))


@public()
def flipud(input: Any) -> Any:
    """A copy of ``input`` reversed along dimension 0.

    Raises:
        RuntimeError: ``input`` has no dimensions.
    """
    if not input._data.ndim:
        raise RuntimeError("flipud: Input must be >= 1-d, got 0-d.")
    return flip(input, (0,))


@public(name="roll")
def _roll(input: Any, shifts: Any, dims: Any = None) -> Any:
    """A copy of ``input`` with elements moved along ``dims`` in a circle; along all elements without ``dims``.

    Raises:
        RuntimeError: as many shifts as dimensions are needed.
    """
    steps = parse_ints("roll", (shifts,), {}, "shifts")
    if dims is None or (isinstance(dims, tuple | list) and not dims):
        if len(steps) != 1:
            raise RuntimeError(f"shifts and dimensions must align. shifts: {len(steps)}, dims:0")
        return roll(input, steps, None)
    where = tuple(normalize_dim(d, input._data.ndim) for d in (dims if isinstance(dims, tuple | list) else (dims,)))
    if len(where) != len(steps):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(steps)}, dims:{len(where)}")
    return roll(input, steps, where) if input._data.ndim else clone(input)


@public()
def rot90(input: Any, k: int = 1, dims: Any = (0, 1)) -> Any:
    """A copy of ``input`` turned ``k`` times by 90 degrees, from the first to the second of two dimensions.

    Raises:
        RuntimeError: not two different dimensions.
    """
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    a, b = (normalize_dim(d, input._data.ndim) for d in dims)
    if a == b:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    k = operator.index(k)
    if k % 4 == 0:
        return clone(input)
    if k % 4 == 2:
        return flip(input, (a, b))
    return transpose(flip(input, (b if k % 4 == 1 else a,)), a, b)


def _triangle(name: str, primitive: Any, where: str) -> None:
    def function(input: Any, diagonal: int = 0) -> Any:
        if input._data.ndim < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions, got {input._data.ndim}")
        return primitive(input, operator.index(diagonal))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"A copy of each matrix in ``input`` with zeros {where} the given diagonal.\n\n"
        "Raises:\n    RuntimeError: ``input`` has fewer than two dimensions."
    )
    FUNCTIONS[name] = METHODS[name] = function
    METHODS[f"{name}_"] = lambda self, diagonal=0: core.inplace(f"{name}_", function, self, diagonal)


_triangle("tril", tril, "above")
_triangle("triu", triu, "below")


@public(name="diagonal")
def _diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """A view of the diagonals of ``input`` over two dimensions, as its last dimension.

    Raises:
        RuntimeError: the dimensions are the same.
    """
    dim1, dim2 = normalize_dim(dim1, input._data.ndim), normalize_dim(dim2, input._data.ndim)
    if dim1 == dim2:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return diagonal(input, offset, dim1, dim2)


@public()
def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """Zeros with the last dimension of ``input`` on the diagonals over two new dimensions.

    Raises:
        RuntimeError: the dimensions are the same.
    """
    ndim = input._data.ndim + 1
    dim1, dim2 = normalize_dim(dim1, ndim), normalize_dim(dim2, ndim)
    if dim1 == dim2:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    *rest, n = input._data.shape
    sizes = iter(rest)
    shape = tuple(n + abs(offset) if d in (dim1, dim2) else next(sizes) for d in range(ndim))
    return diagonal_put(input, shape, offset, dim1, dim2)


@public()
def diag(input: Any, diagonal: int = 0) -> Any:
    """A vector as the diagonal of a square matrix, or a copy of the diagonal of a matrix.

    Raises:
        RuntimeError: ``input`` is neither.
    """
    if input._data.ndim not in (1, 2):
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input._data.ndim}D")
    return diag_embed(input, diagonal) if input._data.ndim == 1 else clone(_diagonal(input, diagonal))


@public()
def diagflat(input: Any, offset: int = 0) -> Any:
    """The elements of ``input`` as the diagonal of a square matrix."""
    return diag_embed(reshape(input, (-1,)), offset)


@public(method=False)
def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Any, ...]:
    """Views of vectors expanded to a common grid, the k-th varying along dimension k.

    Args:
        indexing: "ij" (the default), or "xy" to swap the first two dimensions.

    Raises:
        RuntimeError: there are none, one has more than one dimension, or ``indexing`` is unknown.
    """
    found = _sequence("meshgrid", tensors)
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f'meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    if not found:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    if any(t._data.ndim > 1 for t in found):
        raise RuntimeError(f"meshgrid: Expected 0D or 1D tensors but got shapes {[tuple(t.shape) for t in found]}")
    shape = tuple(t._data.size for t in found)
    grids = [expand(reshape(t, (-1, *(1,) * (len(shape) - 1 - d))), shape) for d, t in enumerate(found)]
    return tuple(transpose(g, 0, 1) for g in grids) if indexing == "xy" and len(shape) > 1 else tuple(grids)


@public(method=False)
def cartesian_prod(*tensors: Any) -> Any:
    """All combinations of the elements of vectors, one in each row."""
    grids = meshgrid(*tensors, indexing="ij")
    rows = [reshape(g, (-1,)) for g in grids]
    return rows[0] if len(rows) == 1 else _stack(rows, 1)


@public(name="unfold", function=False)
def _unfold(input: Any, dimension: int, size: int, step: int) -> Any:
    """A view of the windows of ``size`` along a dimension, every ``step``; the window becomes the last dimension.

    Raises:
        RuntimeError: the window is larger than the dimension, or ``step`` is not positive.
    """
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    return unfold(input, normalize_dim(dimension, input._data.ndim), size, step)


@public(name="as_strided")
def _as_strided(input: Any, size: Any, stride: Any, storage_offset: int | None = None) -> Any:
    """A view of the memory of ``input`` with the given shape and strides, both counted in elements.

    Unlike PyTorch's, the offset counts from the first element of ``input`` and the view ends with its last.

    Raises:
        RuntimeError: the view would reach outside the memory of ``input``, or its memory is not in C order.
    """
    size, stride = parse_ints("as_strided", (size,), {}, "size"), parse_ints("as_strided", (stride,), {}, "stride")
    if len(size) != len(stride):
        raise RuntimeError(f"mismatch in length of strides and shape: {len(stride)} and {len(size)}")
    if any(n < 0 for n in stride):
        raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(stride)}")
    if not input._data.flags.c_contiguous:
        raise RuntimeError(
            f"as_strided: the memory of the input, with strides {input.stride()}, is not in C order; call contiguous()"
        )
    return as_strided(input, size, stride, storage_offset or 0)


@public(method=False)
def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """``input`` with elements added around it.

    Args:
        pad: how many to add before and after the last dimension, then the one before it, and so on;
            negative numbers take elements away.
        mode: "constant", "reflect" (mirrored, without the edge), "replicate" (the edge repeated) or
            "circular" (from the other side).
        value: what to add in mode "constant"; 0 if None.

    Raises:
        RuntimeError: an odd number of widths, more than the dimensions take, or wider than the mode can fill.
        NotImplementedError: the mode is unknown.
    """
    widths = parse_ints("pad", (pad,), {}, "pad")
    shape = input._data.shape
    if len(widths) % 2:
        raise RuntimeError(f"Padding length must be divisible by 2, got {list(widths)}")
    if len(widths) > 2 * len(shape):
        raise RuntimeError(
            f"Padding length should be less than or equal to two times the input dimension but got padding length "
            f"{len(widths)} and input of dimension {len(shape)}"
        )
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if mode != "constant" and value:
        raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    pairs = [(0, 0)] * (len(shape) - len(widths) // 2) + [*zip(widths[::2], widths[1::2], strict=True)][::-1]
    for (before, after), n in zip(pairs, shape, strict=True):
        if n + before + after < 0:
            raise RuntimeError(
                f"pad: the widths {list(widths)} take away more than there is in a tensor of shape {list(shape)}"
            )
    if mode in ("constant", "circular") and min(widths, default=0) < 0:
        input = F.getitem(
            input, tuple(slice(max(0, -b), n - max(0, -a)) for (b, a), n in zip(pairs, shape, strict=True))
        )
        shape = input._data.shape
        pairs = [(max(0, b), max(0, a)) for b, a in pairs]
    if mode == "constant":
        return pad_constant(input, tuple(pairs), 0 if value is None else value)
    xp = module_of(input._data)
    for dim, ((before, after), n) in enumerate(zip(pairs, shape, strict=True)):
        if before or after:
            most = {"reflect": n - 1, "circular": n}.get(mode)
            if (most is not None and max(before, after) > most) or not n:
                raise RuntimeError(
                    f"Padding size should be less than {'or equal to ' * (mode == 'circular')}the input "
                    f"dimension, but got: padding ({before}, {after}) at dimension {dim} of {list(shape)} ({mode})"
                )
            index = core.Tensor._wrap(graph.constant(xp, _padding_index(n, before, after, mode)))
            input = F.index_select(input, index, dim)
    return input


def _padding_index(n: int, before: int, after: int, mode: str) -> np.ndarray:
    index = np.arange(-before, n + after)
    if mode == "circular":
        return index % n
    if mode == "reflect":
        index = np.abs(index)
        return np.where(index < n, index, 2 * (n - 1) - index)
    return np.clip(index, 0, n - 1)


@public(function=False)
def sum_to_size(input: Any, *size: Any) -> Any:
    """``input`` summed over the dimensions that a tensor of the given size would be repeated along to its shape.

    Sums of integers and bools are int64.

    Raises:
        RuntimeError: such a tensor does not expand to the shape of ``input``.
    """
    shape = parse_ints("sum_to_size", size, {}, "size")
    old = input._data.shape
    lead = len(old) - len(shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, old[lead:], strict=True)):
        raise RuntimeError(f"size {list(shape)} is not expandable to size {list(old)}.")
    if shape == old:
        return input
    return sum_to(input if input.is_floating_point() else to_dtype(input, dtypes.int64), shape)


def _split_into_equal_parts(name: str, least: int, dim: int) -> None:
    def function(input: Any, indices_or_sections: Any) -> tuple[Any, ...]:
        ndim = input._data.ndim
        if ndim < least:
            raise RuntimeError(
                f"{name} requires a tensor with at least {least} dimension, but got a tensor with {ndim} dimensions!"
            )
        along = min(dim, ndim - 1)
        if isinstance(indices_or_sections, int):
            size = input._data.shape[along]
            if indices_or_sections == 0 or size % indices_or_sections:
                raise RuntimeError(
                    f"{name} attempted to split along dimension {along}, but the size of the dimension {size} is not "
                    f"divisible by the split_size {indices_or_sections}!"
                )
        return tensor_split(input, indices_or_sections, along)

    function.__name__ = function.__qualname__ = name
    where = "dimension 1, of a vector 0" if least == 1 else f"dimension {dim}"
    function.__doc__ = f"""Views of ``input`` cut along {where}; see ``tensor_split``.

    Raises:
        RuntimeError: ``input`` has too few dimensions, or cannot be cut into so many equal parts.
    """
    public()(function)


_split_into_equal_parts("hsplit", 1, 1)
_split_into_equal_parts("vsplit", 2, 0)
_split_into_equal_parts("dsplit", 3, 2)


def _put_back(input: Any, src: Any, view_op: Any, *params: Any) -> Any:
    """A copy of ``input`` with ``src`` in the place of a view of it."""
    shape = view_op(input.detach(), *params)._data.shape
    if src._data.shape != shape:
        raise RuntimeError(
            f"expected src to have a size equal to the slice of self. src size = {list(src._data.shape)}, "
            f"slice size = {list(shape)}"
        )
    return F.view_scatter(input, src, view_op, params, 0)


@public()
def select_scatter(input: Any, src: Any, dim: int, index: int) -> Any:
    """A copy of ``input`` with ``src`` as its slice ``index`` along ``dim``.

    Raises:
        RuntimeError: ``src`` does not have the shape of that slice.
        IndexError: there is no such slice.
    """
    select(input.detach(), dim, index)
    return _put_back(input, src, F.getitem, at(normalize_dim(dim, input._data.ndim), operator.index(index)))


@public()
def slice_scatter(
    input: Any, src: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    """A copy of ``input`` with ``src`` in the place of ``input[start:end:step]`` along ``dim``.

    Raises:
        RuntimeError: ``src`` does not have the shape of that part, or ``step`` is not positive.
    """
    if step <= 0:
        raise RuntimeError(f"slice step must be positive, but got {step}")
    return _put_back(input, src, F.getitem, at(normalize_dim(dim, input._data.ndim), slice(start, end, step)))


@public()
def diagonal_scatter(input: Any, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """A copy of ``input`` with ``src`` on the diagonals over two dimensions; see ``diagonal``.

    Raises:
        RuntimeError: ``src`` does not have the shape of those diagonals, or the dimensions are the same.
    """
    _diagonal(input.detach(), offset, dim1, dim2)
    dims = (normalize_dim(d, input._data.ndim) for d in (dim1, dim2))
    return _put_back(input, src, diagonal, offset, *dims)


@public()
def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:
    """The combinations of ``r`` elements of a vector, one in each row, in the order of ``itertools.combinations``.

    Raises:
        RuntimeError: ``input`` is no vector, or ``r`` is negative.
    """
    if input._data.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input._data.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        return input[:0]
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    index = np.array([*choose(range(len(input)), r)], np.int64).reshape(-1)
    return F.index_select(input, core.Tensor._wrap(graph.constant(module_of(input._data), index)), 0).reshape(-1, r)


@public(method=False)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """The powers of each element of a vector, from ``N - 1`` (or from 0, if ``increasing``), one row for each.

    Args:
        N: how many; as many as elements unless given.

    Raises:
        RuntimeError: ``x`` is no vector, or ``N`` is negative.
    """
    if x._data.ndim != 1:
        raise RuntimeError(f"x must be a one-dimensional tensor, but got shape {list(x._data.shape)}")
    count = len(x) if N is None else operator.index(N)
    if count < 0:
        raise RuntimeError(f"N must be non-negative, but got {count}")
    out = powers(x, count)
    return out if increasing else flip(out, (1,))


def powers(x: Any, count: int) -> Any:
    """The powers of each element from 0 on, as a new last dimension."""
    if dtypes.category(x.dtype) < 2:
        x = to_dtype(x, dtypes.int64)
    if not count:
        return x.unsqueeze(-1)[..., :0]
    rest = _expand(unsqueeze(x, -1), *x._data.shape, count - 1)
    return _cat([x.new_ones(*x._data.shape, 1), rest], -1).cumprod(-1)


@public(method=False)
def unravel_index(indices: Any, shape: Any) -> tuple[Any, ...]:
    """The place along each dimension of a tensor of the given shape for indices into its elements in a row.

    Raises:
        TypeError: the indices are no integer tensor, or the shape is not made of ints.
        ValueError: the shape has a negative size.
        RuntimeError: the shape has a size of 0.
    """
    if not isinstance(indices, core.Tensor) or indices.dtype.kind not in "iu":
        kind = indices.dtype if isinstance(indices, core.Tensor) else type(indices).__name__
        raise TypeError(f"unravel_index: expected 'indices' to be an integer tensor, but got {kind}")
    shape = parse_ints("unravel_index", (shape,), {}, "shape")
    if min(shape, default=0) < 0:
        raise ValueError(f"'shape' cannot have negative values, but got {shape}")
    indices = indices.long()
    return tuple(indices // math.prod(shape[d + 1 :]) % n for d, n in enumerate(shape))


def _inplace_view(name: str, function: Any) -> None:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        core.check_inplace(name, self, engine.modes.grad and self._needs_grad)
        # Its history has to have its shape, whether gradients are on or not.
        with engine.set_grad_enabled(engine.modes.grad or self.grad_fn is not None):
            result = function(copy.copy(self), *args, **kwargs)
        if result._data.shape == self._data.shape and result._data.strides == self._data.strides:
            return self
        layout = self._layout
        if self._base is None:
            self._data, self._node, self._slot = result._data, result._node, result._slot
        else:
            self.__dict__.update(result.__dict__)
            self._base_layout = layout  # its base is what it was before
        self._layout = layout + 1
        return self

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"In-place version of ``{name[:-1]}``: changes the shape of this tensor and returns it."
    METHODS[name] = method


for _name in ("squeeze", "unsqueeze", "t", "transpose", "swapaxes", "swapdims"):
    _inplace_view(f"{_name}_", METHODS[_name])


@public(function=False, name="resize_")
def resize_(input: Any, *sizes: Any, memory_format: Any = None) -> Any:
    """Give this tensor another shape in place: its first elements stay, further ones are zero.

    Raises:
        RuntimeError: it requires a gradient, or it would outgrow memory that it shares with other tensors.
    """
    shape = parse_ints("resize_", sizes, {}, "sizes")
    if input._needs_grad:
        raise RuntimeError("cannot resize variables that require grad")
    count = math.prod(shape)
    core.settle_tensors((input,))
    data = input._data
    if count > data.size and (data.base is not None or input._base is not None):
        raise RuntimeError(
            f"resize_: a tensor of shape {list(data.shape)} that shares its memory cannot grow to {list(shape)}"
        )
    if count > data.size:
        input._data = module_of(data).zeros(shape, data.dtype)  # of its own, so that it can grow again
        input._data.reshape(-1)[: data.size] = data.reshape(-1)
    else:
        input._data = data.reshape(-1)[:count].reshape(shape)
    input._bump()
    return input


@public(name="resize_as_")
def resize_as_(input: Any, the_template: Any, memory_format: Any = None) -> Any:
    """Give this tensor the shape of another in place; see ``resize_``."""
    return resize_(input, tuple(the_template.shape))
