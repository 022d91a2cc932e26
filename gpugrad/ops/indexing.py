"""Reading and writing parts of a tensor: slices, index arrays, masks, gather and scatter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import copy_to_host, dtypes, fused, graph, lazy, module_of, to_numpy, transfer
from ..engine import modes, no_grad, profiling
from . import core
from .core import FUNCTIONS, METHODS, as_tensors, check_inplace, normalize_dim, op, public, rebase, record, refresh_view
from .core import taped as F
from .pointwise import inplace_method
from .shape import at, broadcast_shape, clone, expand, reshape, zeros_like_gradient


@op(
    view=True,
    samples=lambda t: [(t(3, 4), (slice(1, None), 2, ...)), (t(3, 4), (..., None, slice(None, None, 2)))],
    torch=lambda torch, input, index: input[index],
)
def getitem(xp, input, /, index):
    """A view of a part; the index holds ints, slices, None and one Ellipsis."""
    return input[index]


getitem.rules(input=lambda F, g, input_shape, index: F.slice_add(g, input_shape, index))


@op(samples=lambda t: [(t(2), (3, 4), (slice(1, None), 2))], torch=None)
def slice_add(xp, input, /, shape, index):
    """Zeros with ``input`` at a basic index: the gradient of getitem."""
    out = xp.zeros(shape, input.dtype)
    out[index] = input
    return out


slice_add.rules(input=lambda F, g, index: F.getitem(g, index))


@op(
    samples=lambda t: [
        (t(3, 4), (np.array([0, 2, 2]),)),
        (t(3, 4), (slice(None), np.array([[1], [-1]]))),
        (t(3, 4), (np.array([True, False, True]),)),
        (t(2, 3, 4), (np.array([0, 1, 1]), slice(None), np.array([2, 2, 2]))),
        (t(2, 3, 4), (..., np.array([0, 1, 1]), np.array([[3], [3]]))),
    ],
    torch=lambda torch, input, index: input[index],
)
def take_index(xp, input, /, index):
    """A copy of a part; the index holds integer arrays and masks, full slices and at most one Ellipsis."""
    _check_parts(input, index)
    return input[index]


@take_index.kernel
def _take_index_kernel(input: Any, index: Any) -> Any:
    if all(part.dtype.kind == "b" for part in index if hasattr(part, "dtype")) or not dtypes.is_floating(input.dtype):
        return NotImplemented
    axes, start, places = _indexed_places(module_of(input), index, input.shape)
    if axes != [*range(start, start + len(axes))]:
        input = input.transpose(axes + [d for d in range(input.ndim) if d not in axes])
    before, sizes, after = np.split(input.shape, [start, start + len(axes)])
    return fused.indexing.take_rows(input.reshape(*before, math.prod(sizes), *after), places, start)


take_index.rules(input=lambda F, g, input_shape, index: F.take_index_sum(g, input_shape, index))


@op(
    samples=lambda t: [
        (t(3, 4), (3, 4), (np.array([0, 2, 2]),)),
        (t(3, 2), (3, 4), (slice(None), np.array([1, 1]))),
        (t(2, 4), (3, 4), (np.array([True, False, True]),)),
        (t(3, 3), (2, 3, 4), (np.array([0, 1, 1]), slice(None), np.array([2, 2, 2]))),
        (t(2, 2, 3), (2, 3, 4), (..., np.array([0, 1, 1]), np.array([[3], [3]]))),
    ],
    torch=None,
)
def take_index_sum(xp, input, /, shape, index):
    """Zeros with ``input`` added at an advanced index, repeats adding up: the gradient of take_index."""
    if all(part.dtype.kind == "b" for part in index if hasattr(part, "dtype")):
        out = xp.zeros(shape, input.dtype)
        out[index] = input  # masks name no element twice
        return out
    axes, start, places = _indexed_places(xp, index, shape)
    sizes = [shape[a] for a in axes]
    rest = [d for d in range(len(shape)) if d not in axes]
    source = xp.moveaxis(input, range(start, start + places.ndim), range(places.ndim))
    width = math.prod(shape[d] for d in rest)
    out = core.raw.sum_rows(source.reshape(places.size, width), places.reshape(-1), math.prod(sizes))
    return out.reshape(*sizes, *[shape[d] for d in rest]).transpose([*np.argsort(axes + rest)])


take_index_sum.rules(input=lambda F, g, index: F.take_index(g, index))


@op(
    samples=lambda t: [(t.ints(4, low=-3, high=3), (3,)), (t.ints(2, 1, high=3), t.ints(5, low=-4, high=4), (3, 4))],
    torch=None,
    differentiable=False,
)
def ravel_index(xp, *parts, sizes):
    """Places counted through dimensions of some sizes, from those along each; negative ones count from the end."""
    found = [xp.where(part < 0, part + n, part) for part, n in zip(parts, sizes, strict=True)]
    if xp is np:
        return np.ravel_multi_index(found, sizes)
    places = found[0].astype(np.int64)
    for part, n in zip(found[1:], sizes[1:], strict=True):
        places = places * n + part
    return places


ravel_index.kernel(fused.indexing.ravel_index)


def _array_parts(index: Any, shape: tuple[int, ...]) -> list[tuple[int, Any]]:
    """The arrays of an advanced index, each with the (first) dimension it indexes.

    Raises:
        IndexError: there are more of them than dimensions, or a mask does not fit its own.
    """
    taken = sum(
        part.ndim if getattr(part, "dtype", None) == dtypes.bool_ else 1 for part in index if part is not Ellipsis
    )
    if taken > len(shape):
        raise IndexError(f"too many indices: {taken} dimensions were indexed")
    found: list[tuple[int, Any]] = []
    axis = 0
    for part in index:
        if part is Ellipsis:
            axis += len(shape) - taken
        elif isinstance(part, slice | int):
            axis += 1
        else:
            found.append((axis, part))
            mask = part.dtype.kind == "b"
            if mask and part.shape != shape[axis : axis + part.ndim]:
                raise IndexError(
                    f"the shape of the mask {list(part.shape)} at dimension {axis} does not match that of the tensor"
                )
            axis += part.ndim if mask else 1
    return found


def _indexed_places(xp: Any, index: Any, shape: tuple[int, ...]) -> tuple[list[int], int, Any]:
    """What an advanced index picks from an array of a shape.

    Returns:
        The indexed dimensions, where the result has the dimensions of the index in their place, and the places
        picked, counted through the indexed dimensions.
    """
    axes: list[int] = []
    parts: list[Any] = []
    for axis, part in _array_parts(index, shape):
        found = part.nonzero() if part.dtype.kind == "b" else (part,)
        axes += range(axis, axis + len(found))
        parts += [xp.asarray(each) for each in found]
    places = core.raw.ravel_index(*parts, tuple(shape[a] for a in axes))
    # Where indexed dimensions stand side by side NumPy leaves the new ones in their place, else it puts them first.
    return axes, axes[0] if axes == [*range(axes[0], axes[0] + len(axes))] else 0, places


def _last(positions: Any) -> Any:
    """Which of repeated positions come last, and stay where others are overwritten; None if none is repeated."""
    if module_of(positions) is not np:
        return None
    backwards = positions.reshape(-1)[::-1]
    found, first = np.unique(backwards, return_index=True)
    if found.size == backwards.size:
        return None
    last = np.zeros(backwards.size, bool)
    last[backwards.size - 1 - first] = True
    return last.reshape(positions.shape)


def _combine_at(xp: Any, how: str, out: Any, positions: Any, source: Any) -> None:
    """``out[positions] = how(out[positions], source)``, repeated positions one after the other."""
    function = getattr(xp, how)
    if xp is np:
        function.at(out, positions, source)
        return
    # CuPy's atomics come in whatever order and lack dtypes: all first occurrences, then all second ones, ...
    order = xp.argsort(positions)
    positions, source = positions[order], source[order]
    turn = xp.arange(positions.size) - xp.searchsorted(positions, positions)
    for k in range(int(turn.max()) + 1 if positions.size else 0):
        chosen = xp.nonzero(turn == k)[0]
        places = positions[chosen]
        out[places] = function(out[places], source[chosen])


@op(
    samples=lambda t: [
        (t(4), t(6), t.ints(6, high=3), "add"),
        (t(4), t(3), np.array([3, 3, 0]), "multiply"),
        (t(4), t(3), np.array([3, 3, 0]), "maximum"),
        (t(4), t(3), np.array([1, 3, 1]), "minimum"),
    ],
    torch=None,
    differentiable=False,
)
def combine_at(xp, input, source, positions, /, how):
    """A copy of a vector, each element combined by a ufunc with those of ``source`` that fall on its position."""
    out = xp.array(input, copy=True, order="C")
    _combine_at(xp, how, out, positions, source)
    return out


combine_at.kernel(fused.indexing.combine_at)


@op(
    samples=lambda t: [(t(6, 3), t.ints(6, high=4), 5), (t(4, 1), t.ints(4, high=2), 2)],
    torch=None,
    differentiable=False,
)
def sum_rows(xp, source, rows, /, count):
    """Zeros of ``count`` rows with the rows of ``source`` added at ``rows``, repeats adding up."""
    width = source.shape[1]
    if xp is not np:
        out = xp.zeros((count, width), source.dtype)
        _combine_at(xp, "add", out, rows, source)
        return out
    if width <= 64 or not rows.size:
        # numpy.add.at has a fast path for one dimension only.
        out = np.zeros(count * width, source.dtype)
        rows = rows.astype(np.intp, copy=False)
        flat = rows if width == 1 else np.add.outer(rows * width, np.arange(width)).reshape(-1)
        np.add.at(out, flat, source.reshape(-1))
        return out.reshape(count, width)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = np.diff(starts, append=len(ordered))
    falling = np.argsort(-counts, kind="stable")
    starts, counts = starts[falling], counts[falling]
    # All first occurrences, then all second ones, ...; once few rows are left, each of those at one go.
    total = source[order[starts]]
    k = 1
    while (left := int(np.searchsorted(-counts, -k))) > 32:
        total[:left] += source[order[starts[:left] + k]]
        k += 1
    for i in range(left):
        total[i] += np.add.reduce(source[order[starts[i] + k : starts[i] + counts[i]]], 0)
    out = np.zeros((count, width), source.dtype)
    out[ordered[starts]] = total
    return out


sum_rows.kernel(fused.indexing.sum_rows)


@op(
    samples=lambda t: [
        (t(3, 4), t(2, 4), (np.array([0, 2]),)),
        (t(3, 4), t(), (np.array([True, False, True]),)),
        (t(3, 4), t(3, 1), (slice(None), np.array([0, 3]))),
    ],
    torch=None,
)
def index_put(xp, input, src, /, index):
    """``input`` with ``src``, broadcast, at an index of any kind."""
    out = xp.array(input, copy=True, order="C")
    _put(out, index, src)
    return out


def _check_parts(array: Any, index: Any) -> None:
    """Refuse what is out of range in an advanced index of a device's arrays; NumPy does that by itself.

    Raises:
        IndexError: a dimension that is indexed has nothing in it.  The rest the device finds out, and the host is told
            when it next waits for it.
    """
    for axis, part in _array_parts(index, array.shape) if module_of(array) is not np else ():
        if part.dtype.kind != "i" or not part.size:
            continue
        size = array.shape[axis]
        if not size:
            raise IndexError(f"index is out of bounds for dimension {axis} with size 0")
        if module_of(part) is not np:
            fused.indexing.check_range(part, -size, size, (_outside(axis), IndexError))
        elif not -size <= part.min() <= part.max() < size:
            wrong = part[(part < -size) | (part >= size)][0]
            raise IndexError(_outside(axis).format(wrong=wrong, limit=size))


def _put(out: Any, index: Any, src: Any) -> None:
    """``out[index] = src`` for an advanced index.

    Raises:
        IndexError: an index is out of range; on a device as ``_check_parts`` says.
    """
    _check_parts(out, index)
    out[index] = src


@index_put.joint_rule
def _index_put_rule(F, g, wanted, input_shape, src_shape, index):
    g_input = g_src = None
    if wanted[0]:
        g_input = F.index_put(g, zeros_like_gradient(F, g, ()), index)
    if wanted[1]:
        g_src = F.take_index(g, index)
        if module_of(F.array(g)) is np and any(hasattr(part, "dtype") and part.dtype.kind == "i" for part in index):
            axes, start, places = _indexed_places(np, index, input_shape)
            last = _last(places)
            if last is not None:
                after = len(input_shape) - len(axes) - start
                g_src = F.keep(g_src, F.constant(last.reshape(*last.shape, *(1,) * after)))
        g_src = F.sum_to(g_src, src_shape)
    return g_input, g_src


@op(samples=lambda t: [(t(3, 4), t(4))], torch=None)
def copy(xp, input, src, /):
    """``src`` with the shape and dtype of ``input``."""
    return xp.array(xp.broadcast_to(src, input.shape), dtype=input.dtype, copy=True, order="C")


copy.rules(src=lambda F, g: g)


@op(
    samples=lambda t: [(t(3, 4), np.array([2, 0, 2]), 0), (t(2, 3), np.array([1]), 1)],
    torch=lambda torch, input, index, dim: torch.index_select(input, dim, index),
)
def index_select(xp, input, index, /, dim):
    """Slices along a dimension, picked by a vector of positions."""
    return xp.take(input, index, axis=dim)


index_select.kernel(fused.indexing.take_rows)


index_select.rules(input=lambda F, g, input_shape, index, dim: F.index_sum(g, index, dim, input_shape[dim]))


@op(samples=lambda t: [(t(3, 4), np.array([2, 0, 2]), 0, 3), (t(2, 3), np.array([1, 1, 0]), 1, 4)], torch=None)
def index_sum(xp, input, index, /, dim, size):
    """Zeros with slices added at positions along a dimension: the gradient of index_select."""
    source = xp.moveaxis(input, dim, 0)
    out = sum_rows.on_arrays(source.reshape(source.shape[0], math.prod(source.shape[1:])), index, size)
    return xp.moveaxis(out.reshape(size, *source.shape[1:]), 0, dim)


index_sum.rules(input=lambda F, g, index, dim: F.index_select(g, index, dim))


@op(
    samples=lambda t: [
        (t(5, 3), t.ints(2, 4), None, False),
        (t(5, 3), t.ints(6, high=2), 2, False),
        (t(5, 3), t.ints(6, high=3), 1, True),
    ],
    torch=lambda torch, weight, index, padding, by_frequency: torch.nn.functional.embedding(
        index, weight, padding, scale_grad_by_freq=by_frequency
    ),
    tests={"not_the_derivative": (2,)},
)
def embedding(xp, weight, index, /, padding_idx, by_frequency):
    """Rows of ``weight``; that of ``padding_idx`` gets no gradient, or each its own divided by how often it was used.

    Raises:
        IndexError: an index is negative or too large.
    """
    _check_range("embedding", index, weight.shape[0], 0)
    return xp.take(weight, index, axis=0)


@embedding.kernel
def _embedding_kernel(weight: Any, index: Any, padding_idx: int | None, by_frequency: bool) -> Any:
    return fused.indexing.take_rows(weight, index, 0, (f"embedding(): {_outside(0)}", IndexError))


embedding.rules(
    weight=lambda F, g, weight_shape, index, padding_idx, by_frequency: F.embedding_sum(
        g, index, weight_shape[0], padding_idx, by_frequency
    )
)


def _uses(xp: Any, index: Any, count: int, dtype: Any) -> Any:
    """How often each of ``count`` rows stands in ``index``, and 1 for those that do not, as a column."""
    return xp.maximum(sum_rows.on_arrays(xp.ones((index.size, 1), dtype), index.reshape(-1), count), 1)


@op(
    samples=lambda t: [
        (t(2, 4, 3), t.ints(2, 4), 5, None, False),
        (t(6, 3), t.ints(6, low=1, high=3), 4, 2, False),
        (t(6, 3), t.ints(6, high=3), 4, 1, True),
    ],
    torch=None,
)
def embedding_sum(xp, input, index, /, count, padding_idx, by_frequency):
    """Zeros of ``count`` rows with rows added at ``index``, except at ``padding_idx``: the gradient of embedding."""
    out = sum_rows.on_arrays(input.reshape(index.size, input.shape[-1]), index.reshape(-1), count)
    if by_frequency:
        out /= _uses(xp, index, count, out.dtype)
    if padding_idx is not None:
        out[padding_idx] = 0
    return out


@embedding_sum.joint_rule
def _embedding_sum_rule(F, g, wanted, index, padding_idx, by_frequency):
    if padding_idx is not None:
        g = F.index_put(g, zeros_like_gradient(F, g, ()), (padding_idx,))
    if by_frequency:
        places = F.array(index)
        g = g / F.constant(_uses(module_of(places), places, g.shape[0], g.dtype))
    return F.embedding(g, index, None, False), None


def _positions(xp: Any, index: Any, shape: tuple[int, ...], dim: int) -> Any:
    """Where ``index``, along a dimension, points in a C-ordered array of a shape, seen as one row."""
    strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    found = index.astype(np.int64, copy=False)
    found = found * strides[dim] if strides[dim] != 1 else found
    for d, n in enumerate(index.shape):
        if d != dim and n != 1:
            found = found + (xp.arange(n) * strides[d]).reshape(-1, *(1,) * (len(shape) - 1 - d))
    return found


@op(
    samples=lambda t: [
        (t(3, 4), t.ints(2, 4, high=3), 0),
        (t(3, 4), t.ints(3, 5, high=4), 1),
        (t(2, 3, 2), t.ints(1, 2, 2, high=2), 2),
    ],
    torch=lambda torch, input, index, dim: torch.gather(input, dim, index),
)
def gather(xp, input, index, /, dim):
    """Elements picked along a dimension, at positions of their own."""
    return xp.take(input.reshape(-1), _positions(xp, index, input.shape, dim))


gather.rules(input=lambda F, g, input_shape, index, dim: F.scatter_sum(g, index, dim, input_shape))


@op(
    samples=lambda t: [(t(2, 4), t.ints(2, 4, high=3), 0, (3, 4)), (t(3, 2), t.ints(3, 2, high=4), 1, (3, 4))],
    torch=lambda torch, input, index, dim, shape: input.new_zeros(shape).scatter_add(dim, index, input),
)
def scatter_sum(xp, input, index, /, dim, shape):
    """Zeros with elements added along a dimension, at positions of their own: the gradient of gather."""
    source = input[tuple(slice(n) for n in index.shape)]
    positions = _positions(xp, index, shape, dim).reshape(-1)
    return sum_rows.on_arrays(source.reshape(-1, 1), positions, math.prod(shape)).reshape(shape)


@scatter_sum.joint_rule
def _scatter_sum_rule(F, g, wanted, input_shape, index, dim):
    return _padded(F, F.gather(g, index, dim), input_shape), None


def _padded(F: Any, g: Any, shape: tuple[int, ...]) -> Any:
    """A gradient of the first elements of a tensor of a shape; the others get zero."""
    return g if tuple(g.shape) == shape else F.slice_add(g, shape, tuple(slice(n) for n in g.shape))


@op(
    samples=lambda t: [
        (t(3, 4), np.array([[2, 0, 1, 1]]), t(1, 4), 0),
        (t(3, 4), np.array([[3, 1], [0, 2]]), t(2, 2), 1),
    ],
    torch=lambda torch, input, index, src, dim: torch.scatter(input, dim, index, src),
)
def scatter(xp, input, index, src, /, dim):
    """``input`` with elements of ``src`` along a dimension, at positions of their own; of repeats the last stays."""
    out = xp.array(input, copy=True, order="C")
    source = src[tuple(slice(n) for n in index.shape)]
    out.reshape(-1)[_positions(xp, index, out.shape, dim)] = source
    return out


@scatter.joint_rule
def _scatter_rule(F, g, wanted, index, src_shape, dim):
    g_input = g_src = None
    if wanted[0]:
        g_input = F.scatter(g, index, zeros_like_gradient(F, g, tuple(index.shape)), dim)
    if wanted[2]:
        g_src = F.gather(g, index, dim)
        last = _last(_positions(module_of(F.array(g)), F.array(index), tuple(g.shape), dim))
        g_src = _padded(F, g_src if last is None else F.keep(g_src, F.constant(last)), src_shape)
    return g_input, None, g_src


@op(
    samples=lambda t: [
        (t(3, 4), np.array([[2, 0, 1, 1], [2, 0, 0, 1]]), t(2, 4), 0, "amax"),
        (t(4), np.array([3, 3, 0]), t(3), 0, "amin"),
    ],
    torch=lambda torch, input, index, src, dim, reduce: torch.scatter_reduce(input, dim, index, src, reduce),
)
def scatter_extreme(xp, input, index, src, /, dim, reduce):
    """The largest ("amax") or smallest ("amin") of each element of ``input`` and those of ``src`` that fall on it."""
    return _combined(xp, input, index, src, dim, "maximum" if reduce == "amax" else "minimum")


def _combined(xp: Any, input: Any, index: Any, src: Any, dim: int, how: str) -> Any:
    source = src[tuple(slice(n) for n in index.shape)].reshape(-1)
    positions = _positions(xp, index, input.shape, dim).reshape(-1)
    return combine_at.on_arrays(input.reshape(-1), source, positions, how).reshape(input.shape)


@scatter_extreme.joint_rule
def _scatter_extreme_rule(F, g, wanted, input, index, src, out, src_shape, dim):
    # Those that attain the extreme share the gradient, as in PyTorch.
    near = F.getitem(src, tuple(slice(n) for n in index.shape))
    hit_src, hit_input = near == F.gather(out, index, dim), input == out
    count = F.scatter_sum(F.to_dtype(hit_src, g.dtype), index, dim, tuple(g.shape)) + F.to_dtype(hit_input, g.dtype)
    share = g / count
    g_src = _padded(F, F.keep(F.gather(share, index, dim), hit_src), src_shape) if wanted[2] else None
    return F.keep(share, hit_input) if wanted[0] else None, None, g_src


@op(
    differentiable=False,
    samples=lambda t: [(t.ints(3, 2, high=4), 4), (t.ints(0), 3), (t.ints(high=4), 4)],
    torch=lambda torch, input, count: torch.nn.functional.one_hot(input, count),
)
def one_hot(xp, input, /, num_classes):
    """A new last dimension of int64 zeros with a 1 at each class.

    Raises:
        RuntimeError: a class is negative or too large.
    """
    _check_range("one_hot", input, num_classes, input.ndim, RuntimeError)
    out = xp.zeros((input.size, num_classes), xp.int64)
    out[xp.arange(input.size), input.reshape(-1)] = 1
    return out.reshape(*input.shape, num_classes)


@op(differentiable=False, samples=lambda t: [(t.ints(3, 2, high=2),), (t.bools(4),), (t(),)])
def nonzero(xp, input, /):
    """The indices of the elements that are not zero, one in each row."""
    if not input.ndim:
        return xp.zeros((int(input != 0), 0), xp.int64)
    return xp.stack(xp.nonzero(input), axis=1)


@op(differentiable=False, torch=None, samples=lambda t: [(np.array([1.0, 3.0, 5.0]), t(2, 3), True)])
def searchsorted(xp, sorted_sequence, input, /, right):
    """Where to insert values to keep a vector, or each row of an array, sorted."""
    side = "right" if right else "left"
    if sorted_sequence.ndim == 1:
        return xp.searchsorted(sorted_sequence, input, side)
    rows, values = (a.reshape(-1, a.shape[-1]) for a in (sorted_sequence, input))
    found = [xp.searchsorted(row, value, side) for row, value in zip(rows, values, strict=True)]
    return xp.stack(found).reshape(input.shape) if found else xp.zeros(input.shape, xp.int64)


# Basic and advanced indexing.


def parse_index(input: Any, index: Any) -> tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]:
    """An index in two steps: what gives a view (None if that is all of it), then index arrays and masks (None if none).

    PyTorch applies the ints, slices and None first and the arrays to what is left.  NumPy does it all at once, and
    where ints and arrays are apart its result has another order of dimensions.

    Raises:
        IndexError: it is no valid index.
        ValueError: a slice has a step that is not positive.
    """
    basic: list[Any] = []
    advanced: list[Any] = []
    arrays = False
    if isinstance(index, list) and any(p is None or isinstance(p, (*_INDEX_PARTS, core.Tensor)) for p in index):
        index = tuple(index)  # as PyTorch reads a list that holds more than numbers
    for part in index if isinstance(index, tuple) else (index,):
        part = _index_part(input, part)
        if part is None or part is Ellipsis or isinstance(part, slice):
            basic.append(part)
            advanced.append(Ellipsis if part is Ellipsis else slice(None))
        elif isinstance(part, int):
            basic.append(part)
        else:
            arrays = True
            mask = part.dtype.kind == "b"
            basic += [slice(None)] * (part.ndim if mask else 1) or [None]
            advanced.append(part.reshape(1) if mask and not part.ndim else part)
    if not arrays:
        # With an Ellipsis NumPy gives a 0-d view, not a scalar, where every dimension is indexed.
        return (*basic, *(() if Ellipsis in basic else (Ellipsis,))), None
    if Ellipsis in basic:
        # NumPy would take even one that stands for no dimension as a reason to put those of the arrays first.
        ndim = input._data.ndim - sum(isinstance(p, int) for p in basic) + sum(p is None for p in basic)
        taken = sum(p.ndim if getattr(p, "dtype", None) == dtypes.bool_ else 1 for p in advanced if p is not Ellipsis)
        k = next(k for k, part in enumerate(advanced) if part is Ellipsis)
        if ndim >= taken:
            advanced[k : k + 1] = [slice(None)] * (ndim - taken)
    trivial = all(part is Ellipsis or part == slice(None) for part in basic)
    return None if trivial else (*basic, *(() if Ellipsis in basic else (Ellipsis,))), tuple(advanced)


_INDEX_PARTS = (list, tuple, slice, type(Ellipsis))


def _index_part(input: Any, part: Any) -> Any:
    """One part of an index as an int, a slice, None, Ellipsis, or an array of ints or booleans."""
    if part is None or part is Ellipsis or (isinstance(part, int) and not isinstance(part, bool)):
        return part
    if isinstance(part, slice):
        start, stop, step = (None if x is None else _whole(x) for x in (part.start, part.stop, part.step))
        if step is not None and step <= 0:
            raise ValueError(f"step must be greater than zero, got {step}; use flip to reverse a dimension")
        return slice(start, stop, step)
    if isinstance(part, core.Tensor):
        part = part._data
    elif isinstance(part, list | range):
        part = np.asarray(part)
        part = part if part.size else part.astype(np.int64)
    elif isinstance(part, bool | np.bool_):
        part = np.asarray(part)
    kind = part.dtype.kind if hasattr(part, "dtype") else None
    if kind is None or kind not in "iub":
        given = getattr(part, "dtype", type(part).__name__)
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), None and long, int, byte or bool tensors are valid indices "
            f"(got {given})"
        )
    if kind == "u":
        part = part.astype(bool if part.dtype.itemsize == 1 else np.int64)
    if not part.ndim and kind == "i":
        return int(part)
    xp = module_of(input._data)
    if module_of(part) is not xp:
        if xp is np:
            raise RuntimeError(
                f"indices should be either on cpu or on the device of the indexed tensor ({input.device})"
            )
        part = xp.asarray(to_numpy(part))
    return part


def _whole(value: Any) -> int:
    return int(value.item()) if isinstance(value, core.Tensor) else value.__index__()


def _kept(index: tuple[Any, ...]) -> tuple[Any, ...]:
    """An index whose arrays nobody else can change before backward."""
    return tuple(part.copy() if hasattr(part, "dtype") else part for part in index)


def _index_error(input: Any, error: Exception) -> IndexError:
    text = str(error).replace("for axis", "for dimension").replace("along axis", "along dimension")
    return IndexError(f"{text}; the tensor has shape {tuple(input.shape)}")


@public(name="getitem", method="__getitem__", function=False)
def _getitem(input: Any, index: Any) -> Any:
    """Part of a tensor: a view for ints, slices, None and ..., a copy for index tensors and masks.

    Raises:
        IndexError: the index does not fit the tensor's shape.
    """
    basic, advanced = parse_index(input, index)
    try:
        part = input if basic is None else getitem(input, basic)
        if advanced is None:
            return part
        return take_index(part, _kept(advanced) if part._needs_grad and modes.grad else advanced)
    except (IndexError, ValueError) as error:  # CuPy's indices that do not broadcast
        raise _index_error(input, error) from None


@public(name="setitem", method="__setitem__", function=False)
def _setitem(input: Any, index: Any, value: Any) -> None:
    """Write into part of a tensor, in place.

    Raises:
        IndexError: the index does not fit the tensor's shape.
        RuntimeError: the value does not broadcast to the part, or the tensor may not be changed in place.
    """
    basic, advanced = parse_index(input, index)
    if isinstance(value, list | tuple):
        value = core.Tensor._wrap(transfer(np.asarray(value), input.device))
    (source,) = as_tensors("setitem", (value,))
    if source._data.ndim or source.is_cuda:
        core.check_same_device("setitem", [input._data, source._data])
    elif type(source._data) is not type(input._data):
        source = source.to(input.device)
    recording = modes.grad and (input._needs_grad or source._needs_grad)
    check_inplace("setitem", input, recording)
    loses = dtypes.category(source._data.dtype) > dtypes.category(input._data.dtype)
    if advanced is not None and source._data.ndim and loses:
        raise RuntimeError(
            f"Index put requires the source and destination dtypes match, got {input.dtype} for the destination and "
            f"{source.dtype} for the source."
        )
    try:
        if recording:
            _record_setitem(input, basic, advanced, source)
            return
        src = lazy.settled(source._data).astype(input._data.dtype, copy=False)
        data = core.memory_to_change(input)
        if advanced is None:
            data[basic] = src
        else:
            _put(data if basic is None else data[basic], advanced, src)
    except IndexError as error:
        raise _index_error(input, error) from None
    except ValueError as error:
        raise RuntimeError(
            f"setitem: shape mismatch: {error}; the tensor has shape {tuple(input.shape)}, the value "
            f"{tuple(source.shape)}"
        ) from None
    input._bump()


def _record_setitem(input: Any, basic: Any, advanced: Any, source: Any) -> None:
    part = input if basic is None else getitem(input, basic)
    if advanced is None:
        extra = source._data.ndim - part._data.ndim
        if extra > 0 and source._data.shape[:extra] == (1,) * extra:
            source = reshape(source, source._data.shape[extra:])
        METHODS["copy_"](part, source)
        return
    if part._base is not None:
        refresh_view(part)
    _put(core.memory_to_change(part), advanced, lazy.settled(source._data))
    old, changed = core.alias(part), core.Tensor._wrap(part._data)
    arrays, wanted = (old._data, source._data), (old._needs_grad, source._needs_grad)
    record(index_put, (old, source), arrays, wanted, (_kept(advanced),), [changed], None, False)
    part._bump()
    rebase(part, changed)


@public(method="copy_", function=False, name="copy_")
def _copy_(input: Any, src: Any, non_blocking: bool = False) -> Any:
    """Copy ``src``, broadcast and converted, into this tensor; from another device too.

    With ``non_blocking`` a copy between a CUDA device and a tensor in page-locked memory (``pin_memory``) is only
    begun, on the current stream; on the host wait for it before the target is read or the source changed.

    Raises:
        RuntimeError: ``src`` does not broadcast to this tensor's shape.
    """
    if not isinstance(src, core.Tensor):
        (src,) = as_tensors("copy_", (src,))
    data, new = input._data, src._data
    if (
        data.__class__ is np.ndarray is new.__class__
        and data.shape == new.shape
        and data.dtype == new.dtype
        and not (modes.grad and (input._needs_grad or src._needs_grad))
        and profiling.recorder is None
    ):
        check_inplace("copy_", input, False)
        data[...] = new
        input._bump()
        return input
    if src.device != input.device:
        recording = modes.grad and (input._needs_grad or src._needs_grad)
        if not input.is_cuda and not recording and src._data.shape == input._data.shape:
            check_inplace("copy_", input, False)
            copy_to_host(input._data, lazy.settled(src.to(input.dtype)._data), non_blocking)
            input._bump()
            return input
        src = src.to(input.device, non_blocking=non_blocking and input.is_cuda)
    if src.dtype != input.dtype:
        src = src.to(input.dtype)
    shape = input._data.shape
    try:
        fits = broadcast_shape(src._data.shape, shape) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise RuntimeError(
            f"copy_: the source of shape {tuple(src.shape)} does not broadcast to the target's shape {tuple(shape)}"
        )
    return core.inplace("copy_", copy, input, src)


# Picking and putting along one dimension.


def _outside(dim: int) -> str:
    return f"index {{wrong}} is out of bounds for dimension {dim} with size {{limit}}"


def _check_range(name: str, index: Any, size: int, dim: int, error: type[Exception] = IndexError) -> None:
    """Refuse positions outside a dimension; for a device's, unless it is empty, when the host next waits for it."""
    if not index.size:
        return
    message = f"{name}(): {_outside(dim)}"
    if size and module_of(index) is not np:
        fused.indexing.check_range(lazy.settled(index), 0, size, (message, error))
    # As unsigned numbers, negative ones are the largest.
    elif not size or index.view(np.dtype(f"u{index.dtype.itemsize}")).max() >= size:
        wrong = index[(index < 0) | (index >= size)][0]
        raise error(message.format(wrong=wrong, limit=size))


def _vector_index(name: str, input: Any, dim: int, index: Any) -> tuple[Any, int, Any]:
    """The operands of a function that picks slices: the tensor with at least one dimension, the dimension, the index.

    Raises:
        IndexError: the index is no vector, or out of range.
        RuntimeError: it does not hold ints.
    """
    input, index = as_tensors(name, (input, np.asarray(index) if isinstance(index, list | tuple) else index))
    if index._data.dtype.kind != "i":
        raise RuntimeError(f"{name}(): Expected dtype int32 or int64 for index, got {index.dtype}")
    if index._data.ndim > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector, got shape {tuple(index.shape)}")
    dim = normalize_dim(dim, input._data.ndim)
    input = input if input._data.ndim else reshape(input, (1,))
    index = index if index._data.ndim else reshape(index, (1,))
    _check_range(name, index._data, input._data.shape[dim], dim)
    return input, dim, index


@public(name="index_select")
def _index_select(input: Any, dim: int, index: Any) -> Any:
    """A copy of the slices of ``input`` along ``dim`` at the positions in the vector ``index``.

    Raises:
        IndexError: the index is no vector, or out of range.
        RuntimeError: the index does not hold ints.
    """
    scalar = not input._data.ndim
    input, dim, index = _vector_index("index_select", input, dim, index)
    out = index_select(input, index, dim)
    return reshape(out, ()) if scalar else out


def _same_slices(name: str, input: Any, dim: int, index: Any, source: Any) -> None:
    have, given = input._data.shape, source._data.shape
    if (
        len(given) != len(have)
        or index._data.size != given[dim]
        or given[:dim] + given[dim + 1 :] != have[:dim] + have[dim + 1 :]
    ):
        raise RuntimeError(
            f"{name}(): the source must have {index._data.size} slices along dimension {dim}, as many as the index has "
            f"elements, of the shape of those of self; self has shape {list(have)}, the source {list(given)}"
        )
    if source._data.dtype != input._data.dtype:
        raise RuntimeError(f"{name}(): self ({input.dtype}) and source ({source.dtype}) must have the same scalar type")


@public()
def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    """``input`` with ``alpha`` times the slices of ``source`` added along ``dim`` at positions ``index``.

    Raises:
        IndexError: the index is no vector, or out of range.
        RuntimeError: ``source`` has another dtype or slices of another shape.
    """
    shape = tuple(input.shape)
    input, dim, index = _vector_index("index_add", input, dim, index)
    source = source if source._data.ndim else reshape(source, (1,))
    _same_slices("index_add", input, dim, index, source)
    total = index_sum(source, index, dim, input._data.shape[dim])
    return reshape(input + (total if alpha == 1 else total * alpha), shape)


@public()
def index_copy(input: Any, dim: int, index: Any, source: Any) -> Any:
    """``input`` with the slices of ``source`` put along ``dim`` at positions ``index``.

    Raises:
        IndexError: the index is no vector, or out of range.
        RuntimeError: ``source`` has another dtype or slices of another shape.
    """
    shape = tuple(input.shape)
    input, dim, index = _vector_index("index_copy", input, dim, index)
    source = source if source._data.ndim else reshape(source, (1,))
    _same_slices("index_copy", input, dim, index, source)
    return reshape(index_put(input, source, at(dim, index._data.copy())), shape)


@public()
def index_fill(input: Any, dim: int, index: Any, value: Any) -> Any:
    """``input`` with ``value`` in the slices along ``dim`` at positions ``index``; negative ones count from the end.

    Raises:
        IndexError: the index is no vector, or out of range.
        RuntimeError: ``value`` is no number or 0-d tensor.
    """
    shape = tuple(input.shape)
    _, value = as_tensors("index_fill", (input, value))
    if value._data.ndim:
        raise RuntimeError(
            "index_fill_ only supports a 0-dimensional value tensor, but got tensor with "
            f"{value._data.ndim} dimension(s)."
        )
    n = (shape or (1,))[normalize_dim(dim, len(shape))]
    (index,) = as_tensors("index_fill", (index,))
    index = core.Tensor._wrap(module_of(index._data).where(index._data < 0, index._data + n, index._data))
    input, dim, index = _vector_index("index_fill", input, dim, index)
    return reshape(index_put(input, value, at(dim, index._data)), shape)


def _element_index(name: str, input: Any, dim: int, index: Any, src: Any = None) -> tuple[Any, int, Any]:
    """The operands of gather and scatter: the tensor with at least one dimension, the dimension, the index.

    Raises:
        RuntimeError: the index does not hold ints, is out of range or does not fit the tensor or the source.
    """
    input, index = as_tensors(name, (input, index))
    have, asked = input._data.shape, index._data.shape
    if index._data.dtype.kind != "i":
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index, got {index.dtype}")
    dim = normalize_dim(dim, len(have))
    # PyTorch takes a number for a vector of one element, and the other way round.
    have, asked = have or (1,), asked or (1,)
    if len(have) != len(asked) and index._data.size:
        raise RuntimeError(
            f"{name}(): Index tensor must have the same number of dimensions as input tensor, got {len(asked)} and "
            f"{len(have)}"
        )
    given = None if src is None or not src._data.ndim else src._data.shape
    for d, n in enumerate(asked if index._data.size else ()):
        if (d != dim and n > have[d]) or (given is not None and (len(given) != len(asked) or n > given[d])):
            beside = "" if given is None else f" and to be no larger than src {list(given)}"
            raise RuntimeError(
                f"{name}(): Size does not match at dimension {d}: expected index {list(asked)} to be no larger than "
                f"self {list(have)} apart from dimension {dim}{beside}"
            )
    _check_range(name, index._data, have[dim], dim, RuntimeError)
    return reshape(input, have) if not input._data.ndim else input, dim, index


@public(name="gather")
def _gather(input: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    """Elements of ``input`` picked along ``dim``: in two dimensions ``out[i][j] = input[index[i][j]][j]`` for dim 0.

    The index has as many dimensions as ``input`` and is nowhere larger, apart from ``dim``.

    Raises:
        RuntimeError: the index does not hold ints, is out of range or does not fit ``input``.
    """
    input, dim, index = _element_index("gather", input, dim, index)
    out = gather(input, index if index._data.ndim else reshape(index, (1,)), dim)
    return out if index._data.ndim else reshape(out, ())


def _source(name: str, input: Any, index: Any, src: Any) -> Any:
    """What is put into ``input``: a tensor of its dtype, or a number spread over the index."""
    if not isinstance(src, core.Tensor):
        _, src = as_tensors(name, (input, src))
        src = src if src.dtype == input.dtype else src.to(input.dtype)
    if src.dtype != input.dtype:
        raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype, got {input.dtype} and {src.dtype}")
    return src if src._data.ndim else expand(src, index._data.shape or (1,))


@public(name="scatter")
def _scatter(input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Any:
    """``input`` with elements of ``src`` (or a number) along ``dim``: ``out[index[i][j]][j] = src[i][j]`` for dim 0.

    Args:
        reduce: None to overwrite (of repeated positions the last stays), "add" or "multiply" to combine.

    Raises:
        RuntimeError: the index does not hold ints, is out of range or does not fit, the dtypes differ, or an
            unknown ``reduce``.
    """
    src = value if src is None else src
    if src is None:
        raise TypeError("scatter() needs src or value")
    if reduce not in (None, "add", "multiply"):
        raise RuntimeError(f"reduce argument must be either add or multiply, got {reduce!r}")
    if reduce is not None:
        return _scatter_reduce(input, dim, index, src, {"add": "sum", "multiply": "prod"}[reduce])
    src = _source("scatter", input, index, src)
    return _scattered("scatter", input, dim, index, src, scatter)


def _scattered(name: str, input: Any, dim: int, index: Any, src: Any, primitive: Any, *params: Any) -> Any:
    shape = tuple(input.shape)
    input, dim, index = _element_index(name, input, dim, index, src)
    index = index if index._data.ndim else reshape(index, (1,))
    if not index._data.size:
        return clone(input)
    return reshape(primitive(input, index, src, dim, *params), shape)


@public()
def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """``input`` with elements of ``src`` added along ``dim``, repeats adding up.

    Raises:
        RuntimeError: the index does not hold ints, is out of range or does not fit, or the dtypes differ.
    """
    src = _source("scatter_add", input, index, src)

    def add(input: Any, index: Any, src: Any, dim: int) -> Any:
        return input + scatter_sum(src, index, dim, input._data.shape)

    return _scattered("scatter_add", input, dim, index, src, add)


@public(name="scatter_reduce")
def _scatter_reduce(input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> Any:
    """``input`` with the elements of ``src`` that fall on each position combined with it.

    Args:
        reduce: "sum", "mean", "amax", "amin" or "prod" (which has no gradient).
        include_self: whether the elements of ``input`` take part where something falls on them.

    Raises:
        RuntimeError: as for ``scatter_add``, an unknown ``reduce``, or the gradient of "prod".
    """
    if reduce not in ("sum", "mean", "amax", "amin", "prod"):
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    src = _source("scatter_reduce", input, index, src)
    if not include_self and index._data.size:
        first = {"amax": _lowest(input.dtype), "amin": _highest(input.dtype), "prod": 1}.get(reduce, 0)
        input = _scatter(input, dim, index, value=first)
    if reduce == "sum":
        return scatter_add(input, dim, index, src)
    if reduce in ("amax", "amin"):
        return _scattered("scatter_reduce", input, dim, index, src, scatter_extreme, reduce)
    if reduce == "prod":
        if modes.grad and (input._needs_grad or src._needs_grad):
            raise RuntimeError("scatter_reduce: reduce='prod' has no gradient here; use no_grad() or detach()")
        return _scattered("scatter_reduce", input, dim, index, src, scatter_product)
    with no_grad():
        ones = src.new_ones(tuple(src.shape))
        counts = scatter_add(input.new_full(tuple(input.shape), int(include_self)), dim, index, ones)
        counts = counts.clamp(min=1)
    total = scatter_add(input, dim, index, src)
    return total / counts if dtypes.is_floating(total.dtype) else total // counts


@op(differentiable=False, torch=None, samples=lambda t: [(t(4), np.array([3, 3, 0]), t(3), 0)])
def scatter_product(xp, input, index, src, /, dim):
    """The product of each element of ``input`` and those of ``src`` that fall on it."""
    return _combined(xp, input, index, src, dim, "multiply")


def _lowest(dtype: Any) -> Any:
    return -math.inf if dtypes.is_floating(dtype) else np.iinfo(dtype).min


def _highest(dtype: Any) -> Any:
    return math.inf if dtypes.is_floating(dtype) else np.iinfo(dtype).max


@public()
def take(input: Any, index: Any) -> Any:
    """Elements of ``input``, seen as one row, in the shape of ``index``; negative indices count from the end.

    Raises:
        IndexError: an index is out of range.
    """
    input, index = as_tensors("take", (input, index))
    return reshape(index_select(reshape(input, (-1,)), _flat_index("take", input, index), 0), index._data.shape)


def _flat_index(name: str, input: Any, index: Any) -> Any:
    """The elements of an index into a flattened tensor as one row, without negative ones."""
    xp, n, flat = module_of(index._data), input._data.size, index._data.reshape(-1)
    if flat.dtype.kind != "i":
        raise RuntimeError(f"{name}(): Expected a long tensor for index, but got {index.dtype}")
    message = "out of range: tried to access index {wrong} on a tensor of {limit} elements."
    if xp is not np and n and flat.size:
        fused.indexing.check_range(lazy.settled(flat), -n, n, (message, IndexError))
    elif flat.size and not -n <= flat.min() <= flat.max() < n:
        wrong = flat[(flat < -n) | (flat >= n)][0]
        raise IndexError(message.format(wrong=wrong, limit=n))
    return core.Tensor._wrap(xp.where(flat < 0, flat + n, flat))


@public()
def put(input: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    """``input``, seen as one row, with the elements of ``source`` at (or, to accumulate, added at) positions ``index``.

    Raises:
        IndexError: an index is out of range.
        RuntimeError: ``index`` and ``source`` differ in size or ``input`` and ``source`` in dtype.
    """
    input, index, source = as_tensors("put", (input, index, source))
    if index._data.size != source._data.size or source.dtype != input.dtype:
        raise RuntimeError(
            f"put(): self and source must have one dtype, index and source one number of elements, but got "
            f"{input.dtype}, {source.dtype}, {index._data.size} and {source._data.size}"
        )
    positions, flat = _flat_index("put", input, index), reshape(source, (-1,))
    if accumulate:
        return input + reshape(index_sum(flat, positions, 0, input._data.size), input._data.shape)
    return reshape(index_put(reshape(input, (-1,)), flat, (positions._data,)), input._data.shape)


@public()
def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    """As ``gather``, with ``input`` and ``indices`` broadcast apart from ``dim``; flat without ``dim``.

    Raises:
        RuntimeError: they do not broadcast, or an index is out of range.
    """
    if dim is None:
        return _gather(reshape(input, (-1,)), 0, reshape(indices, (-1,)))
    dim = normalize_dim(dim, input._data.ndim)
    have, asked = list(input._data.shape), list(indices._data.shape)
    if len(have) != len(asked):
        raise RuntimeError(
            f"torch.take_along_dim(): input and indices should have the same number of dimensions, but got {len(have)} "
            f"dimensions for input, and {len(asked)} dimensions for indices"
        )
    n, m, have[dim], asked[dim] = have[dim], asked[dim], 1, 1
    shape = broadcast_shape(tuple(have), tuple(asked))
    rest = shape[dim + 1 :]
    return _gather(expand(input, (*shape[:dim], n, *rest)), dim, expand(indices, (*shape[:dim], m, *rest)))


@public(name="index_put")
def _index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """``input`` with ``values`` at (or, to accumulate, added at) the index made of the tensors ``indices``.

    Raises:
        IndexError: the index does not fit the tensor's shape.
        RuntimeError: the values do not broadcast to the part.
    """
    _, values = as_tensors("index_put", (input, values))
    if values.dtype != input.dtype:
        raise RuntimeError(
            f"Index put requires the source and destination dtypes match, got {input.dtype} for the destination and "
            f"{values.dtype} for the source."
        )
    _, advanced = parse_index(input, tuple(slice(None) if part is None else part for part in indices))
    try:
        if advanced is None:
            raise IndexError("index_put needs at least one index tensor")
        if not accumulate:
            return index_put(input, values, _kept(advanced))
        shape = input._data[advanced].shape
        return input + F.take_index_sum(expand(values, shape), input._data.shape, _kept(advanced))
    except IndexError as error:
        raise _index_error(input, error) from None
    except ValueError as error:
        raise RuntimeError(
            f"index_put: shape mismatch: {error}; the tensor has shape {tuple(input.shape)}, the values "
            f"{tuple(values.shape)}"
        ) from None


def _mask(name: str, mask: Any) -> Any:
    (mask,) = as_tensors(name, (mask,))
    if mask._data.dtype.kind != "b":
        raise RuntimeError(f"{name}: expected BoolTensor for mask, got {mask.dtype}")
    return mask


@public()
def masked_select(input: Any, mask: Any) -> Any:
    """The elements of ``input`` where ``mask``, broadcast, is true, as a vector.

    Raises:
        RuntimeError: the mask is not boolean, or the two do not broadcast.
    """
    mask = _mask("masked_select", mask)
    shape = broadcast_shape(input._data.shape, mask._data.shape)
    return _getitem(expand(input, shape), expand(mask, shape))


@public()
def masked_scatter(input: Any, mask: Any, source: Any) -> Any:
    """``input`` with the first elements of ``source``, in order, where ``mask``, broadcast, is true.

    Raises:
        RuntimeError: the mask is not boolean, the dtypes differ, or ``source`` has too few elements.
    """
    mask = _mask("masked_scatter", mask)
    if source.dtype != input.dtype:
        raise RuntimeError(
            f"masked_scatter: expected self and source to have same dtypes but got {input.dtype} and {source.dtype}"
        )
    shape = broadcast_shape(input._data.shape, mask._data.shape)
    where = expand(mask, shape)._data
    count = int(where.sum())
    if count > source._data.size:
        raise RuntimeError(
            f"masked_scatter: Number of elements of source ({source._data.size}) < number of ones in mask ({count})"
        )
    picked = F.getitem(reshape(source, (-1,)), (slice(count),))
    return reshape(index_put(expand(input, shape), reshape(picked, (count,)), (where.copy(),)), shape)


@public(name="nonzero")
def _nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    """The indices of the elements that are not zero, int64, one in each row; or one vector for each dimension."""
    if not as_tuple:
        return nonzero(input)
    rows = nonzero(input if input._data.ndim else reshape(input, (1,)))
    return tuple(rows[:, d] for d in range(rows._data.shape[1]))


@public()
def argwhere(input: Any) -> Any:
    """The indices of the elements that are not zero, int64, one in each row."""
    return nonzero(input)


@public(name="searchsorted", method=False)
def _searchsorted(
    sorted_sequence: Any,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Any:
    """Where to insert the values of ``input`` to keep ``sorted_sequence``, or each of its rows, sorted.

    Args:
        right: behind equal elements rather than before them; the same as ``side="right"``.
        sorter: the indices that sort an unsorted ``sorted_sequence``.

    Raises:
        RuntimeError: rows do not match, or ``right`` and ``side`` contradict.
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise RuntimeError(
            f"searchsorted(): side must be 'left' or 'right' and not contradict right; got {side!r} and {right}"
        )
    sequence, values = as_tensors("searchsorted", (sorted_sequence, input))
    if sorter is not None:
        sequence = _gather(sequence, -1, sorter)
    if not sequence._data.ndim or (sequence._data.ndim > 1 and sequence._data.shape[:-1] != values._data.shape[:-1]):
        raise RuntimeError(
            "searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor "
            f"and input value tensor must match, but we got boundaries tensor {list(sequence.shape)} and input value "
            f"tensor {list(values.shape)}"
        )
    found = searchsorted(sequence.detach(), values.detach(), right or side == "right")
    return found.to(dtypes.int32 if out_int32 else dtypes.int64)


@public(method=False)
def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    """The number of the interval between sorted boundaries that each value falls in.

    Raises:
        RuntimeError: ``boundaries`` is no vector.
    """
    if boundaries._data.ndim != 1:
        raise RuntimeError(f"bucketize: boundaries tensor must be 1 dimension, but got dim({boundaries._data.ndim})")
    return _searchsorted(boundaries, input, out_int32=out_int32, right=right)


for _name in (
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "put",
    "masked_scatter",
):
    METHODS[f"{_name}_"] = inplace_method(_name, FUNCTIONS[_name])
FUNCTIONS["index_put_"] = METHODS["index_put_"]


@public(function=False, name="fill_diagonal_")
def fill_diagonal_(input: Any, fill_value: Any, wrap: bool = False) -> Any:
    """Set the diagonal, where all indices are equal, to a number or a 0-d tensor, in place.

    Args:
        wrap: of a matrix with more rows than columns, go on with another diagonal a row below the end of one.

    Raises:
        RuntimeError: the tensor has less than two dimensions, or more of different sizes.
    """
    shape = input._data.shape
    if len(shape) < 2:
        raise RuntimeError(f"fill_diagonal_: dimensions must larger than 1, but got {len(shape)}")
    if len(shape) > 2 and len(set(shape)) > 1:
        raise RuntimeError(f"fill_diagonal_: all dimensions of input must be of equal length, but got {list(shape)}")
    index: Any = [np.arange(min(shape))] * len(shape)
    if wrap and len(shape) == 2 and shape[0] > shape[1] + 1:
        index = np.divmod(np.arange(0, math.prod(shape), shape[1] + 1), shape[1])
    xp = module_of(input._data)
    _setitem(input, tuple(core.Tensor._wrap(graph.constant(xp, part)) for part in index), fill_value)
    return input
