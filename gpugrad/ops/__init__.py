"""Every differentiable op, grouped by kind."""

from . import activation, elementwise, indexing, shape, special
from .core import FUNCTIONS, METHODS, REGISTRY

__all__ = ["FUNCTIONS", "METHODS", "REGISTRY", "activation", "elementwise", "indexing", "shape", "special"]
