"""What the launches share: names of types, widths of accesses, and how rows are shared among threads."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from .. import cuda, kernels
from ..kernels import C_TYPES as _ALL_TYPES

NULL = np.uint64(0)
"""A null pointer, as an argument."""

NO_CHECK = NULL, np.int64(0)

C_TYPES = {name: _ALL_TYPES[name] for name in ("float32", "float64", "float16", "bfloat16")}
FLOAT32, FLOAT64, INT64 = np.dtype("float32"), np.dtype("float64"), np.dtype("int64")

THREADS = 256
"""Of a block that works on flat arrays."""


def wide(dtype: np.dtype) -> np.dtype:
    """The dtype that sums are kept in: float32 for 16 bits."""
    return FLOAT64 if dtype.itemsize == 8 else FLOAT32


def alignment(*arrays: Any) -> int:
    """The largest power of two, up to 16, that divides the addresses of all arrays."""
    joined = 16
    for array in arrays:
        joined |= array.data.ptr
    return joined & -joined


def width(dtype: np.dtype, aligned: int, *sizes: int) -> int:
    """How many elements one access can take: the most that alignment and ``sizes`` are multiples of."""
    elements = aligned // dtype.itemsize
    for size in sizes:
        elements |= size
    return max(1, elements & -elements)


def run(name: str, expression: str, grid: int, block: int, *args: Any) -> None:
    """Launch a kernel of ``kernels/<name>.cu`` on the current device and stream."""
    kernels.function(name, expression)((grid,), (block,), args)


def run_checked(check: cuda.Check | None, name: str, expression: str, grid: int, block: int, *args: Any) -> None:
    """Launch a kernel that checks what it is given, as ``run`` does.

    Args:
        check: raised when the host next waits for the device, if the kernel finds something; None not to look.
    """
    run(name, expression, grid, block, *args, *(NO_CHECK if check is None else cuda.fault_site(check)))
    cuda.raise_faults_if_blocking()


def are_plain(dtype: np.dtype, *arrays: Any) -> bool:
    """Whether arrays are of this dtype, one that kernels are made for, and C-contiguous."""
    return dtype.name in C_TYPES and all(a.dtype == dtype and a.flags.c_contiguous for a in arrays)


class Rows(NamedTuple):
    """How rows are shared among threads; see ``Row`` in ``kernels/common.cuh``.

    ``packs`` is 0 for rows that do not fit into registers: a block works on one, part after part.
    """

    width: int
    packs: int
    group: int
    grid: int
    block: int

    def template(self) -> str:
        """The geometry as template arguments."""
        return f"{self.width}, {self.packs}, {self.group}" if self.packs else f"{self.width}, {self.group}"


LONG_GROUP = 1024


def block_of(group: int) -> int:
    """The threads of a block that works in groups, as ``kernels/common.cuh`` has it."""
    return group if group > 32 else 128


def _power(n: int) -> int:
    """The smallest power of two that is not below ``n``."""
    return 1 << max(0, n - 1).bit_length()


@functools.lru_cache(maxsize=4096)
def rows(
    count: int, columns: int, dtype: np.dtype, aligned: int, held: int = 1, most: int = 1024, elements: int = 0
) -> Rows:
    """The geometry for ``count`` rows.

    Short rows are left to a part of a warp, which needs no barriers. Longer ones go to as many
    threads as keep four packs each in flight, so that several blocks fit on a multiprocessor.

    Args:
        held: how many such rows a thread keeps in registers.
        most: the largest group of threads.
        elements: how many a thread may have of each row at most, if not 0.
    """
    across = width(dtype, aligned, columns)
    packs = -(-columns // across)
    # What leaves room for everything else in the 64 registers that 1024 threads have each.
    limit = min((8 if dtype.itemsize == 8 else 32) // across, 8) // held
    if elements:
        limit = min(limit, elements // across)
    in_flight = _power(-(-packs // min(limit, 4)))
    group = min(32, _power(packs)) if packs <= 32 * limit else min(most, max(64, in_flight))
    each = _power(-(-packs // group))
    if each > limit:
        return Rows(across, 0, LONG_GROUP, count, LONG_GROUP)
    block = block_of(group)
    return Rows(across, each, group, -(-count // (block // group)), block)
