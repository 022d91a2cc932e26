"""Small helpers of the layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def ntuple(value: Any, n: int) -> tuple[Any, ...]:
    """One value for each of ``n`` dimensions: a single value, or the one in a sequence, repeated, or the values given.

    Raises:
        ValueError: another number of values is given.
    """
    if isinstance(value, tuple | list):
        if len(value) not in (1, n):
            raise ValueError(f"expected one value or {n}, one for each dimension, but got {value}")
        return tuple(value) * (n // len(value))
    return (value,) * n


def _ntuple(n: int, name: str = "parse") -> Callable[[Any], tuple[Any, ...]]:
    def parse(value: Any) -> tuple[Any, ...]:
        return tuple(value) if isinstance(value, Iterable) else (value,) * n

    parse.__name__ = name
    return parse


# Programs that write layers of their own import these by PyTorch's names.
_single, _pair, _triple, _quadruple = (
    _ntuple(n, name) for n, name in enumerate(("_single", "_pair", "_triple", "_quadruple"), 1)
)
