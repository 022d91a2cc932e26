"""The multivariate normal distribution."""

from __future__ import annotations

import math
from typing import Any

from .. import linalg
from ..creation import broadcast_shapes, eye
from ..random import randn
from ..tensor import Tensor
from .distribution import Distribution
from .utils import check


def _lower_inverse(factor: Tensor) -> Tensor:
    identity = eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    return linalg.solve_triangular(factor, identity.expand(factor.shape), upper=False)


def squared_distance(factor: Tensor, difference: Tensor) -> Tensor:
    """The squared Mahalanobis distance for a covariance of which ``factor`` is the lower Cholesky factor."""
    return (difference.unsqueeze(-2) @ _lower_inverse(factor).mT).squeeze(-2).square().sum(-1)


def log_volume(factor: Tensor) -> Tensor:
    """Half the logarithm of the determinant of such a covariance."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


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

    has_rsample = True
    _shown = ("loc", "scale_tril")

    def __init__(
        self,
        loc: Tensor,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        given = [m for m in (covariance_matrix, precision_matrix, scale_tril) if m is not None]
        if loc.ndim < 1:
            raise ValueError("loc must be at least one-dimensional.")
        if len(given) != 1:
            raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
        matrix, n = given[0], loc.shape[-1]
        if matrix.ndim < 2 or tuple(matrix.shape[-2:]) != (n, n):
            raise ValueError(f"the matrix must have the shape (..., {n}, {n}), but got {tuple(matrix.shape)}")
        batch_shape = broadcast_shapes(matrix.shape[:-2], loc.shape[:-1])
        if validate_args is not False:
            check("loc must be numbers", loc == loc)
        if scale_tril is not None:
            if validate_args is not False:
                check("scale_tril must be lower triangular", matrix.tril() == matrix)
                check("the diagonal of scale_tril must be positive", matrix.diagonal(dim1=-2, dim2=-1) > 0)
            self._factor = matrix
        else:
            if validate_args is not False:
                check("the matrix must be symmetric", (matrix - matrix.mT).abs() <= 1e-6 + 1e-5 * matrix.abs())
            try:
                # The lower factor of an inverse is that of the reversed matrix, reversed, transposed and inverted.
                self._factor = (
                    linalg.cholesky(matrix)
                    if precision_matrix is None
                    else _lower_inverse(linalg.cholesky(matrix.flip(-2, -1)).flip(-2, -1).mT)
                )
            except linalg.LinAlgError:
                if validate_args is False:
                    raise
                raise ValueError("the matrix must be positive definite, but is not") from None
        self.loc = loc.expand(*batch_shape, n)
        self._covariance, self._precision = covariance_matrix, precision_matrix
        super().__init__(batch_shape, (n,), validate_args)

    def _spread(self, matrix: Tensor) -> Tensor:
        return matrix.expand(*self.batch_shape, *self.event_shape, *self.event_shape)

    @property
    def scale_tril(self) -> Tensor:
        """The lower Cholesky factor of the covariance."""
        return self._spread(self._factor)

    @property
    def covariance_matrix(self) -> Tensor:
        """The covariance."""
        return self._spread(self._factor @ self._factor.mT if self._covariance is None else self._covariance)

    @property
    def precision_matrix(self) -> Tensor:
        """The inverse of the covariance."""
        if self._precision is not None:
            return self._spread(self._precision)
        inverse = _lower_inverse(self._factor)
        return self._spread(inverse.mT @ inverse)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """``loc``."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """``loc``."""
        return self.loc

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """The diagonal of the covariance."""
        return self._factor.square().sum(-1).expand(*self.batch_shape, *self.event_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape, n)`` through which gradients flow to the parameters."""
        draws = randn(self._extended(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (self._factor @ draws.unsqueeze(-1)).squeeze(-1)

    def _possible(self, value: Any) -> Any:
        return value == value

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density at ``value``, of shape ``(..., n)``."""
        distance = squared_distance(self._factor, self._outcome(value, self.loc) - self.loc)
        return -0.5 * (self.event_shape[0] * math.log(2 * math.pi) + distance) - log_volume(self._factor)

    def entropy(self) -> Tensor:
        """The entropy of each."""
        found = 0.5 * self.event_shape[0] * (1 + math.log(2 * math.pi)) + log_volume(self._factor)
        return found.expand(self.batch_shape)
