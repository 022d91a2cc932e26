"""The steps of optimizers over flat buffers, gradient norms and unscaling: ``kernels/optim.cu``.

What changes from step to step is read from device memory: learning rate and step
count (float64), loss scale and ``found_inf`` (float32, as in PyTorch) and the norm of
the gradients.  So a captured step can be replayed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import cuda
from .launch import C_TYPES, NULL, THREADS, alignment, run, width

_TOGETHER = 32  # arrays in a launch; EACH in the source
_PART = 16384  # elements of one that a block works on; PART in the source


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


def _update(name: str, flags: str, arrays: Sequence[Any], numbers: Any, *options: Any) -> None:
    params = arrays[0]
    across = width(params.dtype, alignment(*[a for a in arrays if a is not None]))
    grid = -(-params.size // (2 * across * THREADS))
    if grid:
        expression = f"{name}<{C_TYPES[params.dtype.name]}, {across}{flags}>"
        pointers = [_pointer(a) for a in arrays]
        run("optim", expression, grid, THREADS, *pointers, np.int64(params.size), numbers, *options)


def sgd(
    params: Any, gradients: Any, buffer: Any, numbers: Any, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    """A step of SGD on one-dimensional arrays of one dtype; ``buffer`` is None without momentum."""
    options = (float(momentum), float(weight_decay), np.bool_(nesterov))
    _update("sgd", _flag(buffer is not None), (params, gradients, buffer), numbers, *options)


def rmsprop(
    params: Any,
    gradients: Any,
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
    _update("rmsprop", flags, (params, gradients, square, buffer, average), numbers, *options)


def adam(
    params: Any,
    gradients: Any,
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
    _update("adam", _flag(largest is not None), (params, gradients, first, second, largest), numbers, *options)


def adagrad(params: Any, gradients: Any, total: Any, numbers: Any, eps: float, weight_decay: float) -> None:
    """A step of Adagrad."""
    _update("adagrad", "", (params, gradients, total), numbers, float(eps), float(weight_decay))


def adadelta(
    params: Any, gradients: Any, square: Any, delta: Any, numbers: Any, rho: float, eps: float, weight_decay: float
) -> None:
    """A step of Adadelta."""
    options = (float(rho), float(eps), float(weight_decay))
    _update("adadelta", "", (params, gradients, square, delta), numbers, *options)


def radam(
    params: Any,
    gradients: Any,
    first: Any,
    second: Any,
    numbers: Any,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """A step of RAdam, for which ``prepare`` needs ``rectify``."""
    options = (float(betas[0]), float(betas[1]), float(eps), float(weight_decay))
    _update("radam", "", (params, gradients, first, second), numbers, *options)


def _in_parts(name: str, arrays: Sequence[Any], types: str, rest: Callable[[int], Sequence[Any]]) -> int:
    """Launch a kernel over the parts of contiguous arrays, 32 of one dtype at a time.

    Args:
        types: the template's arguments after dtype and width.
        rest: the arguments after the arrays, of a launch whose first part has a number.

    Returns:
        The number of parts.
    """
    count = 0
    by_dtype: dict[str, list[Any]] = {}
    for array in arrays:
        if array.size:
            by_dtype.setdefault(array.dtype.name, []).append(array)
    for dtype, those in by_dtype.items():
        for chosen in (those[k : k + _TOGETHER] for k in range(0, len(those), _TOGETHER)):
            across = width(chosen[0].dtype, alignment(*chosen))
            pairs = [each for array in chosen for each in (array, np.int64(array.size))]
            pairs += [NULL, np.int64(0)] * (_TOGETHER - len(chosen))
            grid = sum(-(-array.size // _PART) for array in chosen)
            expression = f"{name}<{C_TYPES[dtype]}, {across}, {types}>"
            run("optim", expression, grid, THREADS, *pairs, *rest(count))
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
    count = _in_parts("norm_parts", arrays, str(kind), lambda start: (parts[start:],))
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
    _in_parts("rescale", [*taken.values()], "float" if norm is None else C_TYPES[norm.dtype.name], lambda start: rest)
    return left
