"""Every differentiable op, grouped by kind."""

from . import elementwise, indexing, shape
from .core import FUNCTIONS, METHODS, REGISTRY

__all__ = ["FUNCTIONS", "METHODS", "REGISTRY", "elementwise", "indexing", "shape"]
