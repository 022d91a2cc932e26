"""Optimizers whose parameters and state live in flat buffers, updated in blocks that stay in cache.

An update reads and writes each number once per step.  On the CPU it runs block by
block, all its ufuncs on one block before the next: a block and its scratch space fit
into the level-2 cache.  On a CUDA device the block is the whole buffer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..backend import module_of, on
from ..backend.cpu import BLOCK
from ..backend.dtypes import float64, get_default_dtype
from ..backend.quiet import quiet
from ..engine import enable_grad
from ..tensor import Tensor
from .optimizer import Optimizer

Array = Any


def _holders(tensor: Tensor) -> tuple[int, int]:
    """The references to a tensor's array, and to the array whose memory that is a view of (0 if it is none)."""
    return sys.getrefcount(tensor._data), 0 if tensor._data.base is None else sys.getrefcount(tensor._data.base)


_SOLE_HOLDER = {_holders(Tensor._wrap(np.empty(1))), _holders(Tensor._wrap(np.empty(1)[:]))}


def _is_alone(tensor: Tensor) -> bool:
    """Whether nothing but the tensor refers to its memory, so that nobody notices when it moves."""
    base = tensor._data.base
    owns = base is None or getattr(base, "base", self_owned) is None
    return owns and _holders(tensor) in _SOLE_HOLDER


class _Block(NamedTuple):
    """A stretch of the buffers: the parameters ``first`` to ``last``, or a part of one."""

    first: int
    last: int
    part: slice | None
    values: Array
    state: tuple[Array, ...]
    length: int
