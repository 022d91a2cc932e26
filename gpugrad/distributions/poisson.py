"""The Poisson distribution."""

from __future__ import annotations

from typing import Any

from ..random import poisson
from ..tensor import Tensor
from .distribution import Distribution
from .utils import broadcast_all, check


class Poisson(Distribution):
    """The number of events of which ``rate`` are expected.

    Raises:
        ValueError: a rate is negative.
    """

    _shown = ("rate",)

    def __init__(self, rate: Any, validate_args: bool | None = None):
        (self.rate,) = broadcast_all(rate)
        if validate_args is not False:
            check("rate must not be negative", self.rate >= 0)
        super().__init__(self.rate.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """``rate``."""
        return self.rate

    @property
    def mode(self) -> Tensor:
        """``rate`` rounded down."""
        return self.rate.floor()

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """``rate``."""
        return self.rate

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape)``, in the dtype of ``rate``."""
        return poisson(self.rate.detach().expand(self._extended(sample_shape)))

    def _possible(self, value: Any) -> Any:
        return (value % 1 == 0) & (value >= 0)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of ``value`` events."""
        rate, value = broadcast_all(self.rate, self._outcome(value, self.rate))
        return value.xlogy(rate) - rate - (value + 1).lgamma()
