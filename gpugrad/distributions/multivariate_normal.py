"""The multivariate normal distribution."""

from __future__ import annotations

import math
from typing import Any

from .. import linalg
from ..creation import broadcast_shapes, eye
from ..tensor import Tensor
from . import constraints
from .distribution import Distribution
from .utils import _standard_normal, lazy_property


def _lower_inverse(factor: Tensor) -> Tensor:
    identity = eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    return linalg.solve_triangular(factor, identity.expand(factor.shape), upper=False)


def squared_distance(factor: Tensor, difference: Tensor) -> Tensor:
    """The squared Mahalanobis distance for a covariance of which ``factor`` is the lower Cholesky factor."""
    return (difference.unsqueeze(-2) @ _lower_inverse(factor).mT).squeeze(-2).square().sum(-1)


def log_volume(factor: Tensor) -> Tensor:
    """Half the logarithm of the determinant of such a covariance."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


_MATRICES = ("covariance_matrix", "precision_matrix", "scale_tril")


class MultivariateNormal(Distribution):
    """The normal distribution of vectors.

    Args:
        loc: the mean, of shape ``(*batch, n)``.
        covariance_matrix, precision_matrix, scale_tril: one of the covariance, its inverse, and its lower Cholesky
            factor, of shape ``(*batch, n, n)``.

    Raises:
        ValueError: not just one of the three is given, a shape is wrong, or the matrix is not positive definite (not
            lower triangular with a positive diagonal).
        RuntimeError: the shapes do not broadcast.
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.real_vector
    has_rsample = True
    _unbatched = ("_factor",)

    def __init__(
        self,
        loc: Tensor,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        given = {
            name: matrix
            for name, matrix in zip(_MATRICES, (covariance_matrix, precision_matrix, scale_tril), strict=True)
            if matrix is not None
        }
        if loc.ndim < 1:
            raise ValueError("loc must be at least one-dimensional.")
        if len(given) != 1:
            raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
        (name, matrix), n = given.popitem(), loc.shape[-1]
        if matrix.ndim < 2 or tuple(matrix.shape[-2:]) != (n, n):
            raise ValueError(f"the matrix must have the shape (..., {n}, {n}), but got {tuple(matrix.shape)}")
        batch_shape = broadcast_shapes(matrix.shape[:-2], loc.shape[:-1])
        self.loc = loc.expand(*batch_shape, n)
        setattr(self, name, matrix.expand(*batch_shape, n, n))
        super().__init__(batch_shape, (n,), validate_args)
        if name == "scale_tril":
            self._factor = matrix
        elif name == "covariance_matrix":
            self._factor = linalg.cholesky(matrix)
        else:
            # The lower factor of an inverse is that of the reversed matrix, reversed, transposed and inverted.
            self._factor = _lower_inverse(linalg.cholesky(matrix.flip(-2, -1)).flip(-2, -1).mT)

    def _spread(self, matrix: Tensor) -> Tensor:
        return matrix.expand(*self.batch_shape, *self.event_shape, *self.event_shape)

    @lazy_property
    def scale_tril(self) -> Tensor:
        """The lower Cholesky factor of the covariance."""
        return self._spread(self._factor)

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        """The covariance."""
        return self._spread(self._factor @ self._factor.mT)

    @lazy_property
    def precision_matrix(self) -> Tensor:
        """The inverse of the covariance."""
        inverse = _lower_inverse(self._factor)
        return self._spread(inverse.mT @ inverse)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        """The diagonal of the covariance."""
        return self._factor.square().sum(-1).expand(*self.batch_shape, *self.event_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        draws = _standard_normal(self._extended_shape(sample_shape), self.loc.dtype, self.loc.device)
        return self.loc + (self._factor @ draws.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density at ``value``, of shape ``(..., n)``."""
        distance = squared_distance(self._factor, self._outcome(value, self.loc) - self.loc)
        return -0.5 * (self.event_shape[0] * math.log(2 * math.pi) + distance) - log_volume(self._factor)

    def entropy(self) -> Tensor:
        found = 0.5 * self.event_shape[0] * (1 + math.log(2 * math.pi)) + log_volume(self._factor)
        return found.expand(self.batch_shape)
