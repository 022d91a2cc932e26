"""The idx file format, in which MNIST is published.

A file is the bytes 0, 0, a code of the type and the number of dimensions; the size of
each dimension as a big-endian 32-bit integer; then the elements, big-endian.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES = {np.dtype(name).newbyteorder("="): code for code, name in _TYPES.items()}


def read_idx(path: Any) -> np.ndarray:
    """The array in an idx file, which may be gzipped; ``path`` may also be an open binary file or a package resource.

    Raises:
        ValueError: the file is no idx file, is truncated, or has bytes to spare; says which file,
            what was expected and what was found.
    """
    if hasattr(path, "read"):
        name, data = getattr(path, "name", type(path).__name__), path.read()
    else:
        name = Path(path) if isinstance(path, str) else path
        data = name.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{name}: truncated or corrupt gzip file: {error}") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise ValueError(
            f"{name}: not an idx file: expected it to begin with 00 00, a type of 08, 09, 0b, 0c, 0d or 0e and the "
            f"number of dimensions, but found {data[:4].hex(' ') or 'nothing'}"
        )
    dtype, ndim = np.dtype(_TYPES[data[2]]), data[3]
    start = 4 + 4 * ndim
    if len(data) < start:
        raise ValueError(
            f"{name}: truncated: expected the sizes of {ndim} dimensions, {start} bytes in all, but found {len(data)}"
        )
    shape = tuple(np.frombuffer(data, ">u4", ndim, 4).tolist())
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise ValueError(
            f"{name}: {'truncated' if len(data) < expected else 'too long'}: expected {expected} bytes, for "
            f"{dtype.name} of shape {shape}, but found {len(data)}"
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def write_idx(path: Any, array: Any) -> None:
    """Write an array to an idx file, gzipped if its name ends in ``.gz`` (the same bytes each time).

    Raises:
        TypeError: idx has no such type; it has uint8, int8, int16, int32, float32 and float64.
        ValueError: more than 255 dimensions, or one longer than 2**32 - 1.
    """
    array = np.asarray(array)
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        raise TypeError(
            f"an idx file cannot hold {array.dtype}; convert to one of {', '.join(dtype.name for dtype in _CODES)}"
        )
    if array.ndim > 255 or max(array.shape, default=0) >= 2**32:
        raise ValueError(f"an idx file cannot hold an array of shape {array.shape}")
    head = bytes((0, 0, code, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    data = head + array.astype(_TYPES[code]).tobytes()
    with open(path, "wb") as file:
        file.write(gzip.compress(data, mtime=0) if os.fspath(path).endswith(".gz") else data)
