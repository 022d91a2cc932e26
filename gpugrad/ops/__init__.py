"""Every differentiable op, grouped by kind."""

from . import (
    activation,
    conv,
    dropout,
    einsum,
    elementwise,
    indexing,
    linalg,
    loss,
    matmul,
    norm,
    pool,
    recurrent,
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
    "dropout",
    "einsum",
    "elementwise",
    "indexing",
    "linalg",
    "loss",
    "matmul",
    "norm",
    "pool",
    "recurrent",
    "reduction",
    "shape",
    "softmax",
    "special",
]
