"""Concatenation that can be captured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from .. import cuda

_FEW = 8  # of more arrays CuPy copies the addresses from the host, which cannot be captured


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
