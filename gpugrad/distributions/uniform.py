"""The uniform distribution."""

from __future__ import annotations

from typing import Any

from ..random import rand
from ..tensor import Tensor
from .distribution import Distribution
from .utils import broadcast_all, check


class Uniform(Distribution):
    """The uniform distribution on ``[low, high)``.

    Raises:
        ValueError: a ``low`` is not below its ``high``.
    """

    has_rsample = True
    _shown = ("low", "high")

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None):
        self.low, self.high = broadcast_all(low, high)
        if validate_args is not False:
            check("low must be below high", self.low < self.high)
        super().__init__(self.low.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """The middle."""
        return (self.low + self.high) / 2

    @property
    def mode(self) -> Tensor:
        """NaN: none is likelier than another."""
        return self.high * float("nan")

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """A twelfth of the width squared."""
        return (self.high - self.low) ** 2 / 12

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to ``low`` and ``high``."""
        draws = rand(self._extended(sample_shape), dtype=self.low.dtype, device=self.low.device)
        return self.low + draws * (self.high - self.low)

    def _possible(self, value: Any) -> Any:
        return (self.low <= value) & (value <= self.high)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density at ``value``."""
        value = self._outcome(value, self.low)
        inside = ((self.low <= value) & (value < self.high)).to(self.low.dtype)
        return inside.log() - (self.high - self.low).log()

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of at most ``value``."""
        return ((self._outcome(value, self.low) - self.low) / (self.high - self.low)).clamp(0, 1)

    def entropy(self) -> Tensor:
        """The entropy of each."""
        return (self.high - self.low).log()
