"""The launches of the CUDA kernels in ``kernels/``: on raw arrays, with the geometry and the one predicate of each.

A function returns NotImplemented where its kernel does not apply (dtype, layout,
axis, size); the op's generic forward, which works on every array, is used then.
"""

from . import dropout, indexing, joining, norm, optim, pointwise, reduction, softmax, window

__all__ = ["dropout", "indexing", "joining", "norm", "optim", "pointwise", "reduction", "softmax", "window"]
