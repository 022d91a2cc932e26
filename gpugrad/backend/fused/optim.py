"""The steps of optimizers over flat buffers, gradient norms and unscaling: ``kernels/optim.cu``.

What changes from step to step is read from device memory: learning rate and step
count (float64), loss scale and ``found_inf`` (float32, as in PyTorch) and the norm of
the gradients.  So a captured step can be replayed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from .. import cuda, kernels
from .launch import C_TYPES, NULL, THREADS, alignment, run, width

GAP = 8
"""Parameters that are updated together start at multiples of this, so that accesses of 16 bytes fit all of them."""

Gradients = Sequence[tuple[Any, int]]

_MOST = 64  # arrays in a launch; MOST in the source
_PART = 16384  # elements of one that a block works on, at most

# The struct Parts of the source; CuPy passes an array of one element by value.
_FIELDS = [("address", "u8", _MOST), ("size", "i8", _MOST), ("start", "i8", _MOST), ("block", "i4", _MOST)]
_PARTS = np.dtype([*_FIELDS, ("count", "i4")], align=True)


def _flag(value: Any) -> str:
    return ", true" if value else ", false"


def _pointer(array: Any) -> Any:
    return NULL if array is None else array


def numbers() -> Any:
    """A place for what ``prepare`` works out."""
    return cuda.cupy().zeros(8, np.float64)


def prepare(
    into: Any,
    step: Any,
    lr: Any,
    *,
    betas: tuple[float, float] = (0.0, 0.0),
    decoupled_decay: float = 0.0,
    momentum: float = 0.0,
    dampening: float = 0.0,
    lr_decay: float = 0.0,
    rectify: bool = False,
    maximize: bool = False,
    scale: Any = None,
    found_inf: Any = None,
) -> None:
    """Count a step, and work out the numbers of it for the updates that follow.

    Args:
        into: from ``numbers``.
        step: float64, how many steps there were; one more afterwards, unless this one is left out.
        lr: float64.
        lr_decay: of Adagrad.
        rectify: as RAdam does.
        scale: float32, what the loss was multiplied by; gradients are divided by it.
        found_inf: float32; not 0 to leave out the step.
    """
    options = [float(number) for number in (*betas, decoupled_decay, momentum, dampening, lr_decay)]
    pointers = (step, lr, _pointer(scale), _pointer(found_inf))
    run("optim", "prepare", 1, 1, into, *pointers, *options, np.bool_(rectify), np.bool_(maximize))


def _parted(arrays: Sequence[tuple[Any, int]], each: int) -> Iterator[tuple[np.ndarray, int]]:
    """What tells a launch the parts of ``each`` elements of some arrays, and in how many blocks.

    Args:
        arrays: contiguous ones, and where what belongs to them starts in flat arrays.
    """
    arrays = [pair for pair in arrays if pair[0].size]
    for k in range(0, len(arrays), _MOST):
        chosen = arrays[k : k + _MOST]
        parts, count = np.zeros((), _PARTS), len(chosen)
        blocks = [*accumulate((-(-a.size // each) for a, _ in chosen), initial=0)]
        parts["address"][:count] = [a.data.ptr for a, _ in chosen]
        parts["size"][:count] = [a.size for a, _ in chosen]
        parts["start"][:count] = [start for _, start in chosen]
        parts["block"][:count] = blocks[:-1]
        parts["count"] = count
        yield parts, blocks[-1]


def _update(name: str, flags: str, arrays: Sequence[Any], gradients: Gradients, numbers: Any, *options: Any) -> None:
    """Launch an update of flat arrays; a gradient comes with where its parameter starts in them."""
    params = arrays[0]
    across = width(params.dtype, alignment(*[a for a in arrays if a is not None], *[g for g, _ in gradients]))
    # Large enough to be worth finding, small enough to keep all multiprocessors busy.
    each, busy = 2 * across * THREADS, 4 * kernels.multiprocessors(cuda.current_device())
    while each < _PART and params.size > 2 * each * busy:
        each *= 2
    expression = f"{name}<{C_TYPES[params.dtype.name]}, {across}{flags}>"
    pointers = [_pointer(a) for a in arrays]
    for parts, grid in _parted(gradients, each):
        run("optim", expression, grid, THREADS, parts, np.int64(each), *pointers, numbers, *options)


def sgd(
    params: Any, gradients: Gradients, buffer: Any, numbers: Any, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    """A step of SGD on one-dimensional arrays of one dtype; ``buffer`` is None without momentum.

    Gradients, here and below, are pairs of an array and where its parameter starts in the others, a multiple of GAP.
    """
    options = (float(momentum), float(weight_decay), np.bool_(nesterov))
    _update("sgd", _flag(buffer is not None), (params, buffer), gradients, numbers, *options)


def rmsprop(
    params: Any,
    gradients: Gradients,
    square: Any,
    buffer: Any,
    average: Any,
    numbers: Any,
    alpha: float,
    eps: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """A step of RMSprop; ``buffer`` is None without momentum, ``average`` unless centred."""
    flags = _flag(buffer is not None) + _flag(average is not None)
    options = (float(alpha), float(eps), float(momentum), float(weight_decay))
    _update("rmsprop", flags, (params, square, buffer, average), gradients, numbers, *options)


def adam(
    params: Any,
    gradients: Gradients,
    first: Any,
    second: Any,
    largest: Any,
    numbers: Any,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """A step of Adam or AdamW (by ``decoupled_decay`` of ``prepare``); ``largest`` is None unless AMSGrad."""
    options = (float(betas[0]), float(betas[1]), float(eps), float(weight_decay))
    _update("adam", _flag(largest is not None), (params, first, second, largest), gradients, numbers, *options)


def adagrad(params: Any, gradients: Gradients, total: Any, numbers: Any, eps: float, weight_decay: float) -> None:
    """A step of Adagrad."""
    _update("adagrad", "", (params, total), gradients, numbers, float(eps), float(weight_decay))


def adadelta(
    params: Any,
    gradients: Gradients,
    square: Any,
    delta: Any,
    numbers: Any,
    rho: float,
    eps: float,
    weight_decay: float,
) -> None:
    """A step of Adadelta."""
    options = (float(rho), float(eps), float(weight_decay))
    _update("adadelta", "", (params, square, delta), gradients, numbers, *options)


def radam(
    params: Any,
    gradients: Gradients,
    first: Any,
    second: Any,
    numbers: Any,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """A step of RAdam, for which ``prepare`` needs ``rectify``."""
    options = (float(betas[0]), float(betas[1]), float(eps), float(weight_decay))
    _update("radam", "", (params, first, second), gradients, numbers, *options)


def adamax(
    params: Any,
    gradients: Gradients,
    first: Any,
    largest: Any,
    numbers: Any,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """A step of Adamax."""
    options = (float(betas[0]), float(betas[1]), float(eps), float(weight_decay))
    _update("adamax", "", (params, first, largest), gradients, numbers, *options)


def nadam_numbers(into: Any, step: Any, product: Any, beta1: float, momentum_decay: float) -> None:
    """What NAdam needs besides what ``prepare`` has worked out; ``product``, of the momenta, goes on by this step's."""
    expression = f"nadam_numbers<{C_TYPES[product.dtype.name]}>"
    run("optim", expression, 1, 1, into, step, product, float(beta1), float(momentum_decay))


def nadam(
    params: Any,
    gradients: Gradients,
    first: Any,
    second: Any,
    numbers: Any,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """A step of NAdam, after ``nadam_numbers``."""
    options = (float(betas[0]), float(betas[1]), float(eps), float(weight_decay))
    _update("nadam", "", (params, first, second), gradients, numbers, *options)


def rprop(
    params: Any,
    gradients: Gradients,
    before: Any,
    size: Any,
    numbers: Any,
    etas: tuple[float, float],
    step_sizes: tuple[float, float],
) -> None:
    """A step of Rprop."""
    options = map(float, (*etas, *step_sizes))
    _update("rprop", "", (params, before, size), gradients, numbers, *options)


def asgd_numbers(into: Any, step: Any, eta: Any, mu: Any, lambd: float, alpha: float, t0: float) -> None:
    """What ASGD needs besides what ``prepare`` has worked out; ``eta`` and ``mu`` become those of the next step."""
    expression = f"asgd_numbers<{C_TYPES[eta.dtype.name]}>"
    run("optim", expression, 1, 1, into, step, eta, mu, float(lambd), float(alpha), float(t0))


def asgd(params: Any, gradients: Gradients, average: Any, numbers: Any, lambd: float, weight_decay: float) -> None:
    """A step of ASGD, after ``asgd_numbers``."""
    _update("asgd", "", (params, average), gradients, numbers, float(lambd), float(weight_decay))


def _in_parts(name: str, arrays: Sequence[Any], types: str, *rest: Any, sums: Any = None) -> int:
    """Launch a kernel over the parts of contiguous arrays, those of one dtype together.

    Args:
        types: the template's arguments after dtype and width.
        rest: the arguments after the arrays.
        sums: another such argument, an array with an element for each part.

    Returns:
        The number of parts.
    """
    count = 0
    by_dtype: dict[str, list[Any]] = {}
    for array in arrays:
        by_dtype.setdefault(array.dtype.name, []).append(array)
    for dtype, those in by_dtype.items():
        expression = f"{name}<{C_TYPES[dtype]}, {width(those[0].dtype, alignment(*those))}, {types}>"
        for parts, grid in _parted([(array, 0) for array in those], _PART):
            more = () if sums is None else (sums[count:],)
            run("optim", expression, grid, THREADS, parts, np.int64(_PART), *rest, *more)
            count += grid
    return count


def _dense(array: Any) -> Any:
    """An array or its transpose, whichever is C-contiguous; neither may be."""
    return array if array.flags.c_contiguous else array.T


def norm(arrays: Sequence[Any], p: float, dtype: np.dtype) -> Any:
    """The p-norm of all elements of some arrays together, 0-d; NotImplemented for a p other than 1, 2 and inf."""
    kind = {1: 1, 2: 2, math.inf: 0}.get(p)
    if kind is None or dtype.name not in C_TYPES or any(a.dtype.name not in C_TYPES for a in arrays):
        return NotImplemented
    xp = cuda.cupy()
    arrays = [xp.ascontiguousarray(_dense(a)) for a in arrays]
    parts = xp.empty(sum(-(-a.size // _PART) for a in arrays) or 1, np.float64)
    out = xp.empty((), dtype)
    count = _in_parts("norm_parts", arrays, str(kind), sums=parts)
    run("optim", f"norm_total<{C_TYPES[dtype.name]}, {kind}>", 1, THREADS, parts, np.int32(count), out)
    return out


def rescale(
    arrays: Sequence[Any], scale: Any = None, norm: Any = None, longest: float = math.inf, found_inf: Any = None
) -> list[Any]:
    """Divide arrays by ``scale``, and shorten them from ``norm`` to ``longest``, in place.

    ``found_inf`` (float32, as ``scale``) becomes 1 if an element was infinite or NaN.

    Returns:
        The arrays that are left as they are: those with gaps, those given before, those of a dtype without a kernel.
    """
    if norm is not None and norm.dtype.name not in C_TYPES:
        return [*arrays]
    taken: dict[int, Any] = {}
    left = []
    for array in arrays:
        dense = _dense(array)
        if dense.dtype.name in C_TYPES and dense.flags.c_contiguous and dense.data.ptr not in taken:
            taken[dense.data.ptr] = dense
        elif array.size:
            left.append(array)
    rest = (_pointer(scale), _pointer(norm), float(longest), _pointer(found_inf))
    _in_parts("rescale", [*taken.values()], "float" if norm is None else C_TYPES[norm.dtype.name], *rest)
    return left
