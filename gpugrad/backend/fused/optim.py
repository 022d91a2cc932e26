"""The steps of optimizers over flat buffers, gradient norms and unscaling: ``kernels/optim.cu``.

What changes from step to step is read from device memory: learning rate and step
count (float64), loss scale and ``found_inf`` (float32, as in PyTorch) and the factor
that clips gradients (float64).  So a captured step can be replayed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import cuda, kernels
from .launch import C_TYPES, NULL, THREADS, alignment, run, width


def _flag(value: Any) -> str:
    return "true" if value else "false"


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
    maximize: bool = False,
    scale: Any = None,
    found_inf: Any = None,
    clip: Any = None,
) -> None:
    """Count a step, and work out the numbers of it for the updates that follow.

    Args:
        into: from ``numbers``.
        step: float64, how many steps there were; one more afterwards, unless this one is left out.
        lr: float64.
        scale: float32, what the loss was multiplied by; gradients are divided by it.
        found_inf: float32; not 0 to leave out the step.
        clip: float64, what gradients are multiplied by.
    """
    options = (float(betas[0]), float(betas[1]), float(decoupled_decay), float(momentum), float(dampening))
    pointers = (step, lr, _pointer(scale), _pointer(found_inf), _pointer(clip))
    run("optim", "prepare", 1, 1, into, *pointers, *options, np.bool_(maximize))


def _update(name: str, flags: str, packs: int, arrays: Sequence[Any], numbers: Any, *options: Any) -> None:
    params = arrays[0]
    across = width(params.dtype, alignment(*[a for a in arrays if a is not None]))
    grid = -(-params.size // (packs * across * THREADS))
    if grid:
        expression = f"{name}<{C_TYPES[params.dtype.name]}, {across}, {flags}>"
        pointers = [_pointer(a) for a in arrays]
        run("optim", expression, grid, THREADS, *pointers, np.int64(params.size), numbers, *options)


def sgd(
    params: Any, gradients: Any, buffer: Any, numbers: Any, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    """A step of SGD on one-dimensional arrays of one dtype; ``buffer`` is None without momentum."""
    options = (float(momentum), float(weight_decay), np.bool_(nesterov))
    _update("sgd", _flag(buffer is not None), 2, (params, gradients, buffer), numbers, *options)


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
    flags = f"{_flag(buffer is not None)}, {_flag(average is not None)}"
    options = (float(alpha), float(eps), float(momentum), float(weight_decay))
    _update("rmsprop", flags, 2, (params, gradients, square, buffer, average), numbers, *options)


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
    _update("adam", _flag(largest is not None), 2, (params, gradients, first, second, largest), numbers, *options)


def norm(
    gradients: Sequence[Any],
    longest: float = math.inf,
    maximum: bool = False,
    scale: Any = None,
    found_inf: Any = None,
) -> Any:
    """The norm of several contiguous arrays together, and the factor that shortens it to ``longest``: two float64.

    Args:
        maximum: the largest magnitude instead of the root of the sum of squares.
        scale: float32, what the loss was multiplied by; the norm is that of the gradients divided by it.
        found_inf: float32; becomes 1 if the norm is infinite or NaN.
    """
    xp = cuda.cupy()
    most = 4 * kernels.multiprocessors(cuda.current_device())
    widths = [width(g.dtype, alignment(g)) for g in gradients]
    grids = [min(most, -(-g.size // (1024 * w))) for g, w in zip(gradients, widths, strict=True)]
    parts = xp.empty(max(1, sum(grids)), np.float64)
    start = 0
    for g, across, grid in zip(gradients, widths, grids, strict=True):
        if grid:
            expression = f"norm_parts<{C_TYPES[g.dtype.name]}, {across}, {_flag(maximum)}>"
            run("optim", expression, grid, THREADS, g, np.int64(g.size), parts[start : start + grid])
        start += grid
    out = xp.empty(2, np.float64)
    run(
        "optim",
        f"norm_total<{_flag(maximum)}>",
        1,
        THREADS,
        parts,
        np.int32(start),
        float(longest),
        _pointer(scale),
        out,
        _pointer(found_inf),
    )
    return out


def rescale(gradients: Any, scale: Any = None, clip: Any = None, found_inf: Any = None) -> None:
    """Divide a contiguous array by ``scale`` and multiply it by ``clip``, in place.

    ``found_inf`` (float32) becomes 1 if an element was infinite or NaN.
    """
    across = width(gradients.dtype, alignment(gradients))
    grid = -(-gradients.size // (4 * across * THREADS))
    if grid:
        pointers = (_pointer(scale), _pointer(clip), _pointer(found_inf))
        expression = f"rescale<{C_TYPES[gradients.dtype.name]}, {across}>"
        run("optim", expression, grid, THREADS, gradients, np.int64(gradients.size), *pointers)
