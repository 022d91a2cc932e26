"""The beta distribution."""

from __future__ import annotations

from typing import Any

from ..ops import FUNCTIONS
from ..tensor import Tensor
from .dirichlet import Dirichlet
from .distribution import Distribution
from .utils import broadcast_all


class Beta(Distribution):
    """Numbers between 0 and 1.

    Args:
        concentration1, concentration0: how much draws are drawn to 1 and to 0; tensors or numbers, which broadcast.

    Raises:
        ValueError: one of them is not positive.
    """

    has_rsample = True
    _shown = ("concentration1", "concentration0")

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None):
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        both = FUNCTIONS["stack"]([self.concentration1, self.concentration0], -1)
        self._dirichlet = Dirichlet(both, validate_args)
        super().__init__(self.concentration1.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """``concentration1 / (concentration1 + concentration0)``."""
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self) -> Tensor:
        """The likeliest number."""
        return self._dirichlet.mode[..., 0]

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """That of each."""
        return self._dirichlet.variance[..., 0]

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to the concentrations, once."""
        return self._dirichlet.rsample(sample_shape)[..., 0]

    def _possible(self, value: Any) -> Any:
        return (value >= 0) & (value <= 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density at ``value``."""
        value = self._outcome(value, self.concentration1)
        a, b = self.concentration1, self.concentration0
        return (a - 1).xlogy(value) + (b - 1).xlogy(1 - value) + (a + b).lgamma() - a.lgamma() - b.lgamma()

    def entropy(self) -> Tensor:
        """The entropy of each."""
        return self._dirichlet.entropy()
