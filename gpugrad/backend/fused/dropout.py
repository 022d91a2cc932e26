"""Dropout with the mask drawn inside the kernel: ``kernels/dropout.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import cuda
from .launch import C_TYPES, NULL, THREADS, alignment, run, wide, width

BLOCK = 8
"""Elements that one block of the random stream decides about."""


def applies(*arrays: Any) -> bool:
    """Whether the kernel takes this array, or these two."""
    first = arrays[0]
    alike = all(a.shape == first.shape and a.dtype == first.dtype for a in arrays)
    return alike and first.size > 0 and first.dtype.name in C_TYPES


def dropout(input: Any, seed: int, offset: int, place: Any, threshold: int, scale: float, residual: Any = None) -> Any:
    """What the mask of a place in the random stream keeps, times ``scale``, and zeros; plus ``residual``.

    Args:
        input, residual: for which ``applies``.
        seed, offset, place: from ``random.reserve``.
        threshold: elements whose 32 random bits are below it are kept.
    """
    xp = cuda.cupy()
    out, input = xp.empty(input.shape, input.dtype), xp.ascontiguousarray(input)
    residual = None if residual is None else xp.ascontiguousarray(residual)
    across = width(input.dtype, alignment(input) if residual is None else alignment(input, residual))
    stream = (np.uint64(seed), np.uint64(offset), NULL if place is None else place)
    factor = wide(input.dtype).type(scale)
    run(
        "dropout",
        f"dropout<{C_TYPES[input.dtype.name]}, {across}>",
        -(-input.size // (BLOCK * THREADS)),
        THREADS,
        input,
        NULL if residual is None else residual,
        out,
        np.int64(input.size),
        *stream,
        np.uint64(threshold),
        factor,
    )
    return out
