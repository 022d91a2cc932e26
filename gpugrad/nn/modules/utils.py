"""Small helpers of the layers."""

from __future__ import annotations

from typing import Any


def ntuple(value: Any, n: int) -> tuple[Any, ...]:
    """One value for each of ``n`` dimensions: a single value repeated, or the values given.

    Raises:
        ValueError: another number of values is given.
    """
    if isinstance(value, tuple | list):
        if len(value) != n:
            raise ValueError(f"expected one value or {n}, one for each dimension, but got {value}")
        return tuple(value)
    return (value,) * n
