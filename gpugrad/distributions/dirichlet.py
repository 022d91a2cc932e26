"""The Dirichlet distribution."""

from __future__ import annotations

from typing import Any

from ..nn import functional as F
from ..ops import FUNCTIONS
from ..tensor import Tensor
from .distribution import Distribution
from .gamma import gamma_draws
from .utils import check


class Dirichlet(Distribution):
    """Probabilities of n outcomes, which sum to 1.

    Args:
        concentration: a tensor of shape ``(*batch, n)``.

    Raises:
        ValueError: it has no dimension, or an element is not positive.
    """

    has_rsample = True
    _shown = ("concentration",)

    def __init__(self, concentration: Tensor, validate_args: bool | None = None):
        if concentration.ndim < 1:
            raise ValueError("`concentration` parameter must be at least one-dimensional.")
        if validate_args is not False:
            check("concentration must be positive", concentration > 0)
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """The concentrations, normalised."""
        return self.concentration / self.concentration.sum(-1, True)

    @property
    def mode(self) -> Tensor:
        """The likeliest probabilities; those that are all below 1 are likeliest in a corner."""
        excess = (self.concentration - 1).clamp(min=0)
        corner = F.one_hot(excess.argmax(-1), excess.shape[-1]).to(excess.dtype)
        return FUNCTIONS["where"]((self.concentration < 1).all(-1, True), corner, excess / excess.sum(-1, True))

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """That of each probability."""
        total = self.concentration.sum(-1, True)
        return self.concentration * (total - self.concentration) / (total**2 * (total + 1))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to ``concentration``, once."""
        draws = gamma_draws(self.concentration.expand(self._extended(sample_shape)))
        return draws / draws.sum(-1, True)

    def _possible(self, value: Any) -> Any:
        return (value >= 0) & ((value.sum(-1, True) - 1).abs() < 1e-6)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density at ``value``, of shape ``(..., n)``."""
        value, a = self._outcome(value, self.concentration), self.concentration
        return (a - 1).xlogy(value).sum(-1) + a.sum(-1).lgamma() - a.lgamma().sum(-1)

    def entropy(self) -> Tensor:
        """The entropy of each."""
        a = self.concentration
        total = a.sum(-1)
        size = a.lgamma().sum(-1) - total.lgamma()
        return size - (a.shape[-1] - total) * total.digamma() - ((a - 1) * a.digamma()).sum(-1)
