"""How matrices are multiplied on CUDA devices."""

from ..backend.gemm import switches as matmul

__all__ = ["matmul"]
