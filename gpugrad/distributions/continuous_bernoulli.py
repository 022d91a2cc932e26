"""The continuous Bernoulli distribution."""

from __future__ import annotations

import math
from typing import Any

from ..creation import broadcast_shapes
from ..nn import functional as F
from ..ops import FUNCTIONS
from ..random import rand
from ..tensor import Tensor
from . import constraints
from .odds import OddsDistribution
from .utils import clamp_probs

where = FUNCTIONS["where"]


class ContinuousBernoulli(OddsDistribution):
    """Numbers in [0, 1] with a density in proportion to ``p**x (1 - p)**(1 - x)``.

    Loaiza-Ganem and Cunningham, "The continuous Bernoulli: fixing a pervasive error in variational autoencoders", 2019.

    Args:
        probs, logits: p, or its log-odds; one of the two.
        lims: between them p is so near to one half that a Taylor series takes the place of differences that cancel.

    Raises:
        ValueError: not just one of the two is given, or a probability is outside of [0, 1].
    """

    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self,
        probs: Any = None,
        logits: Any = None,
        lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ):
        (given,) = self._set_odds(probs, logits)
        self._lims = lims
        super().__init__(given.shape, (), validate_args)

    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """p, where it is away from one half, and p and its log-odds there, something else elsewhere."""
        probs = clamp_probs(self.probs)
        away = (probs <= self._lims[0]) | (probs > self._lims[1])
        kept = where(away, probs, self._lims[0])
        return probs, away, kept, kept.log() - (-kept).log1p()

    @property
    def mean(self) -> Tensor:
        probs, away, p, odds = self._parts()
        x = probs - 0.5
        return where(away, p / (2 * p - 1) - 1 / odds, 0.5 + (1 / 3 + 16 / 45 * x**2) * x)

    @property
    def variance(self) -> Tensor:
        probs, away, p, odds = self._parts()
        x = (probs - 0.5) ** 2
        return where(away, p * (p - 1) / (1 - 2 * p) ** 2 + odds**-2, 1 / 12 - (1 / 15 - 128 / 945 * x) * x)

    def _log_size(self) -> Tensor:
        """The logarithm of what makes the density integrate to 1."""
        probs, away, p, odds = self._parts()
        x = (probs - 0.5) ** 2
        return where(away, (odds / (2 * p - 1)).log(), math.log(2) + (4 / 3 + 104 / 45 * x) * x)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        draws = rand(self._extended_shape(sample_shape), dtype=self.probs.dtype, device=self.probs.device)
        return self.icdf(draws)

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._outcome(value, self.logits)
        shape = broadcast_shapes(value.shape, self.batch_shape)
        loss = F.binary_cross_entropy_with_logits(self.logits.expand(shape), value.expand(shape), reduction="none")
        return self._log_size() - loss

    def cdf(self, value: Tensor) -> Tensor:
        value = self._outcome(value, self.probs)
        _, away, p, _ = self._parts()
        return where(away, (p**value * (1 - p) ** (1 - value) + p - 1) / (2 * p - 1), value).clamp(0, 1)

    def icdf(self, value: Tensor) -> Tensor:
        _, away, p, odds = self._parts()
        return where(away, ((-p + value * (2 * p - 1)).log1p() - (-p).log1p()) / odds, value)

    def entropy(self) -> Tensor:
        probs = clamp_probs(self.probs)
        rest = (-probs).log1p()
        return self.mean * (rest - probs.log()) - self._log_size() - rest
