"""PyTorch's choice among its kernels for ``scaled_dot_product_attention``; here the function makes its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum


class SDPBackend(Enum):
    """PyTorch's ways to compute attention."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4


@contextmanager
def sdpa_kernel(backends: SDPBackend | Sequence[SDPBackend], set_priority: bool = False) -> Iterator[None]:
    """Change nothing: whatever kernels are named, the results are those of attention.

    Raises:
        TypeError: something else than backends is given.
    """
    named = [backends] if isinstance(backends, SDPBackend) else list(backends)
    if not all(isinstance(backend, SDPBackend) for backend in named):
        raise TypeError(f"sdpa_kernel: backends should be SDPBackend or a list of them, but got {backends}")
    yield
