"""How matrices are multiplied, and attention is computed, on CUDA devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..backend.gemm import switches as matmul

__all__ = ["matmul", "sdp_kernel"]


@contextmanager
def sdp_kernel(
    enable_flash: bool = True, enable_math: bool = True, enable_mem_efficient: bool = True, enable_cudnn: bool = True
) -> Iterator[None]:
    """Change nothing, as ``nn.attention.sdpa_kernel``, whose older name this is."""
    yield
