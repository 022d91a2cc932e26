"""What programs say about how attention is computed; here it is always computed the same way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

__all__ = ["SDPBackend", "sdpa_kernel"]


class SDPBackend(IntEnum):
    """PyTorch's ways to compute ``scaled_dot_product_attention``."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4


@contextmanager
def sdpa_kernel(backends: Any, set_priority: bool = False) -> Iterator[None]:
    """Change nothing: in PyTorch, allow only some ways to compute attention, all of which give this result.

    Raises:
        AssertionError: ``backends`` is neither an SDPBackend nor a list of them.
    """
    if not all(isinstance(each, SDPBackend) for each in (backends if isinstance(backends, list) else [backends])):
        raise AssertionError(
            f"Backend must be an instance of SDPBackend or a list of SDPBackend instances, but got {backends!r}"
        )
    yield
