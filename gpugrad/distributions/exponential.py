"""The exponential distribution."""

from __future__ import annotations

from typing import Any

from ..random import rand
from ..tensor import Tensor
from .distribution import Distribution
from .utils import broadcast_all, check


class Exponential(Distribution):
    """The time until an event of which ``rate`` are expected in a unit of time.

    Raises:
        ValueError: a rate is not positive.
    """

    has_rsample = True
    _shown = ("rate",)

    def __init__(self, rate: Any, validate_args: bool | None = None):
        (self.rate,) = broadcast_all(rate)
        if validate_args is not False:
            check("rate must be positive", self.rate > 0)
        super().__init__(self.rate.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """``1 / rate``."""
        return self.rate.reciprocal()

    @property
    def mode(self) -> Tensor:
        """0."""
        return self.rate.detach() * 0

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """``rate**-2``."""
        return self.rate**-2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to ``rate``."""
        draws = rand(self._extended(sample_shape), dtype=self.rate.dtype, device=self.rate.device)
        return -(-draws).log1p() / self.rate

    def _possible(self, value: Any) -> Any:
        return value >= 0

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density at ``value``."""
        return self.rate.log() - self.rate * self._outcome(value, self.rate)

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of at most ``value``."""
        return -(-self.rate * self._outcome(value, self.rate)).expm1()

    def entropy(self) -> Tensor:
        """The entropy of each."""
        return 1 - self.rate.log()
