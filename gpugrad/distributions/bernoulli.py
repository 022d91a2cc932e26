"""The Bernoulli distribution."""

from __future__ import annotations

import math
from typing import Any

from ..creation import arange, broadcast_shapes
from ..nn import functional as F
from ..ops import FUNCTIONS
from ..random import bernoulli
from ..tensor import Tensor
from . import constraints
from .odds import OddsDistribution


class Bernoulli(OddsDistribution):
    """0 or 1; give ``probs``, that of 1, or ``logits``, its log-odds.

    Raises:
        ValueError: not just one of the two is given, or a probability is outside of [0, 1].
    """

    support = constraints.boolean
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        (given,) = self._set_odds(probs, logits)
        super().__init__(given.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        """1 where that is likelier, NaN where both are as likely."""
        likelier = (self.probs >= 0.5).to(self.probs.dtype)
        return FUNCTIONS["where"](self.probs == 0.5, math.nan, likelier)

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return bernoulli(self.probs.detach().expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._outcome(value, self.logits).to(self.logits.dtype)
        shape = broadcast_shapes(value.shape, self.batch_shape)
        return -F.binary_cross_entropy_with_logits(self.logits.expand(shape), value.expand(shape), reduction="none")

    def entropy(self) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return self._listed(arange(2, dtype=self.logits.dtype, device=self.logits.device), expand)
