"""The inverse gamma distribution."""

from __future__ import annotations

import math
from typing import Any

from ..ops import FUNCTIONS
from ..tensor import Tensor
from . import constraints
from .gamma import Gamma
from .transformed_distribution import TransformedDistribution
from .transforms import PowerTransform

where = FUNCTIONS["where"]


class InverseGamma(TransformedDistribution):
    """The reciprocal of draws from a gamma distribution.

    Raises:
        ValueError: a parameter is not positive.
    """

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None):
        base = Gamma(concentration, rate, validate_args=False)
        super().__init__(base, PowerTransform(-base.rate.new_ones(())), validate_args)

    @property
    def concentration(self) -> Tensor:
        """The shape parameter."""
        return self.base_dist.concentration

    @property
    def rate(self) -> Tensor:
        """The rate of the gamma distribution."""
        return self.base_dist.rate

    def _above(self, least: float) -> tuple[Tensor, Tensor]:
        """Whether the shape parameter is so large, and itself, made larger where it is not."""
        large = self.concentration > least
        return large, self.concentration.masked_fill(~large, least + 1)

    @property
    def mean(self) -> Tensor:
        """Infinite for a shape parameter of at most 1."""
        large, a = self._above(1.0)
        return where(large, self.rate / (a - 1), math.inf)

    @property
    def mode(self) -> Tensor:
        return self.rate / (self.concentration + 1)

    @property
    def variance(self) -> Tensor:
        """Infinite for a shape parameter of at most 2."""
        large, a = self._above(2.0)
        return where(large, self.rate**2 / ((a - 1) ** 2 * (a - 2)), math.inf)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a + self.rate.log() + a.lgamma() - (1 + a) * a.digamma()
