"""Arrays one after the other: ``kernels/join.cu``, and concatenation that can be captured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from .. import cuda
from .launch import C_TYPES, THREADS, are_plain, run

_MOST = 64  # arrays in a launch; MOST in the source
_TILE = 8 * THREADS  # elements of one that a block writes
_FEW = 8  # of more arrays CuPy copies the addresses from the host, which cannot be captured

# The struct Parts of the source; CuPy passes an array of one element by value.
_FIELDS = [("address", "u8", _MOST), ("start", "i8", _MOST + 1), ("block", "i4", _MOST), ("count", "i4")]
_PARTS = np.dtype(_FIELDS, align=True)


def concatenate(xp: Any, arrays: Sequence[Any], axis: int) -> Any:
    """``xp.concatenate`` of arrays of one dtype, which also a captured step can do with many."""
    if xp is np or len(arrays) <= _FEW or not cuda.is_capturing():
        return xp.concatenate(arrays, axis=axis)
    stops = [*accumulate(a.shape[axis] for a in arrays)]
    shape = arrays[0].shape
    out = xp.empty((*shape[:axis], stops[-1], *shape[axis + 1 :]), arrays[0].dtype)
    starts = [0, *stops]
    for k in range(0, len(arrays), _FEW):
        part = slice(starts[k], starts[min(k + _FEW, len(arrays))])
        xp.concatenate(arrays[k : k + _FEW], axis=axis, out=out[(slice(None),) * axis + (part,)])
    return out


def join(xp: Any, arrays: Sequence[Any], out: Any) -> Any:
    """Write one-dimensional arrays of one dtype one after the other into ``out``, of their joint size; returns it."""
    if xp is np or not are_plain(out.dtype, out, *arrays):
        return xp.concatenate(arrays, out=out)
    arrays = [a for a in arrays if a.size]
    start = 0
    for k in range(0, len(arrays), _MOST):
        chosen = arrays[k : k + _MOST]
        parts = np.zeros((), _PARTS)
        count = parts["count"][...] = len(chosen)
        parts["address"][:count] = [a.data.ptr for a in chosen]
        parts["start"][: count + 1] = [*accumulate((a.size for a in chosen), initial=start)]
        blocks = [*accumulate((-(-a.size // _TILE) for a in chosen), initial=0)]
        parts["block"][:count] = blocks[:-1]
        start = int(parts["start"][count])
        run("join", f"join<{C_TYPES[out.dtype.name]}>", blocks[-1], THREADS, parts, out)
    return out
