"""The normal distribution."""

from __future__ import annotations

import math
from typing import Any

from ..random import randn
from ..tensor import Tensor
from .distribution import Distribution
from .utils import broadcast_all, check


class Normal(Distribution):
    """The normal distribution.

    Args:
        loc, scale: the mean and the standard deviation, tensors or numbers, which broadcast.

    Raises:
        ValueError: a scale is not positive, or a mean NaN.
    """

    has_rsample = True
    _shown = ("loc", "scale")

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None):
        self.loc, self.scale = broadcast_all(loc, scale)
        if validate_args is not False:
            check("loc must be numbers", self.loc == self.loc)
            check("scale must be positive", self.scale > 0)
        super().__init__(self.loc.shape, (), validate_args)

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
        """``scale`` squared."""
        return self.scale**2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to ``loc`` and ``scale``."""
        draws = randn(self._extended(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self.scale * draws

    def _possible(self, value: Any) -> Any:
        return value == value

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density at ``value``."""
        distance = self._outcome(value, self.loc) - self.loc
        return -(distance**2) / (2 * self.variance) - self.scale.log() - 0.5 * math.log(2 * math.pi)

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of at most ``value``."""
        distance = self._outcome(value, self.loc) - self.loc
        return 0.5 * (1 + (distance / (self.scale * math.sqrt(2))).erf())

    def entropy(self) -> Tensor:
        """The entropy of each."""
        return 0.5 + 0.5 * math.log(2 * math.pi) + self.scale.log()
