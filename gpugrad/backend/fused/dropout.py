"""Dropout with the mask drawn inside the kernel: ``kernels/dropout.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import cuda
from .launch import C_TYPES, NULL, THREADS, alignment, are_plain, run, wide, width


BLOCK = 8
"""Elements that one block of the random stream decides about."""


def applies(input: Any) -> bool:
    """Whether the kernel takes this array."""
    return input.size > 0 and are_plain(input.dtype, input)


def dropout(input: Any, seed: int, offset: int, place: Any, threshold: int, scale: float) -> Any:
    """What the mask of a place in the random stream keeps, times ``scale``, and zeros.

    Args:
        input: for which ``applies``.
        seed, offset, place: from ``random.reserve``.
        threshold: elements whose 32 random bits are below it are kept.
    """
    out = cuda.cupy().empty(input.shape, input.dtype)
    across = width(input.dtype, alignment(input))
    stream = (np.uint64(seed), np.uint64(offset), NULL if place is None else place)
    factor = wide(input.dtype).type(scale)
    run(
        "dropout",
        f"dropout<{C_TYPES[input.dtype.name]}, {across}>",
        -(-input.size // (BLOCK * THREADS)),
        THREADS,
        input,
        out,
        np.int64(input.size),
        *stream,
        np.uint64(threshold),
        factor,
    )
    return out
