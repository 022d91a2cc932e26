"""Every differentiable op, grouped by kind."""

from . import (
    activation,
    conv,
    einsum,
    elementwise,
    indexing,
    linalg,
    loss,
    matmul,
    pool,
    reduction,
    shape,
    softmax,
    special,
)
from .core import FUNCTIONS, METHODS, REGISTRY

__all__ = [
    "FUNCTIONS",
    "METHODS",
    "REGISTRY",
    "activation",
    "conv",
    "einsum",
    "elementwise",
    "indexing",
    "linalg",
    "loss",
    "matmul",
    "pool",
    "reduction",
    "shape",
    "softmax",
    "special",
]
