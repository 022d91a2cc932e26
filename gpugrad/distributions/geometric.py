"""The geometric distribution."""

from __future__ import annotations

from typing import Any

from ..creation import finfo, zeros_like
from ..nn import functional as F
from ..random import rand
from ..tensor import Tensor
from . import constraints
from .odds import OddsDistribution
from .utils import broadcast_all


class Geometric(OddsDistribution):
    """The number of failures before the first success; give ``probs``, that of one, or ``logits``, its log-odds.

    Raises:
        ValueError: not just one of the two is given, or a probability is outside of (0, 1].
    """

    support = constraints.nonnegative_integer

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        (given,) = self._set_odds(probs, logits)
        super().__init__(given.shape, (), validate_args)
        if self._validate_args and probs is not None:
            self._require("probs", given, given > 0, "probs > 0")

    @property
    def mean(self) -> Tensor:
        return 1.0 / self.probs - 1.0

    @property
    def mode(self) -> Tensor:
        return zeros_like(self.probs)

    @property
    def variance(self) -> Tensor:
        return (1.0 / self.probs - 1.0) / self.probs

    def sample(self, sample_shape: Any = ()) -> Tensor:
        probs = self.probs.detach()
        draws = rand(self._extended_shape(sample_shape), dtype=probs.dtype, device=probs.device)
        return (draws.clamp(min=finfo(probs.dtype).tiny).log() / (-probs).log1p()).floor()

    def log_prob(self, value: Tensor) -> Tensor:
        value, probs = broadcast_all(self._outcome(value, self.probs), self.probs)
        rest = probs.masked_fill((probs == 1) & (value == 0), 0)
        return value * (-rest).log1p() + self.probs.log()

    def entropy(self) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none") / self.probs
