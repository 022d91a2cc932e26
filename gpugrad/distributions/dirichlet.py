"""The Dirichlet distribution."""

from __future__ import annotations

from typing import Any

from ..creation import finfo
from ..nn import functional as F
from ..ops import FUNCTIONS
from ..random import log_standard_gamma
from ..tensor import Tensor
from . import constraints
from .distribution import Distribution


class Dirichlet(Distribution):
    """Probabilities of n categories, of which ``concentration`` of shape ``(*batch, n)`` says how often each was seen.

    Raises:
        ValueError: ``concentration`` has no dimension, or is not positive.
    """

    arg_constraints = {"concentration": constraints.independent(constraints.positive, 1)}
    support = constraints.simplex
    has_rsample = True

    def __init__(self, concentration: Tensor, validate_args: bool | None = None):
        if concentration.ndim < 1:
            raise ValueError("`concentration` parameter must be at least one-dimensional.")
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.concentration.sum(-1, True)

    @property
    def mode(self) -> Tensor:
        """The likeliest probabilities; a corner where all of ``concentration`` is below 1."""
        rest = (self.concentration - 1).clamp(min=0.0)
        corner = (self.concentration < 1).all(-1, keepdim=True)
        first = F.one_hot(rest.argmax(-1), rest.shape[-1]).to(rest.dtype)
        return FUNCTIONS["where"](corner, first, rest / rest.sum(-1, True))

    @property
    def variance(self) -> Tensor:
        a, total = self.concentration, self.concentration.sum(-1, True)
        return a * (total - a) / (total**2 * (total + 1))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to ``concentration``: gamma draws in proportion to their sum."""
        limits = finfo(self.concentration.dtype)
        logs = log_standard_gamma(self.concentration.expand(self._extended_shape(sample_shape)))
        return logs.softmax(-1).to(self.concentration.dtype).clamp(limits.tiny, 1 - limits.eps / 2)

    def log_prob(self, value: Tensor) -> Tensor:
        value, a = self._outcome(value, self.concentration), self.concentration
        return (a - 1.0).xlogy(value).sum(-1) + a.sum(-1).lgamma() - a.lgamma().sum(-1)

    def entropy(self) -> Tensor:
        a, total = self.concentration, self.concentration.sum(-1)
        found = a.lgamma().sum(-1) - total.lgamma() - ((a - 1.0) * a.digamma()).sum(-1)
        return found + (total - a.shape[-1]) * total.digamma()
