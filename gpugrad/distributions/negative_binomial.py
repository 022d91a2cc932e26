"""The negative binomial distribution."""

from __future__ import annotations

from typing import Any

from ..engine import no_grad
from ..nn import functional as F
from ..random import poisson
from ..tensor import Tensor
from . import constraints
from .gamma import Gamma
from .odds import OddsDistribution


class NegativeBinomial(OddsDistribution):
    """The number of successes before ``total_count`` failures; give ``probs``, that of one, or ``logits``.

    Raises:
        ValueError: not just one of the two is given, a probability is outside of [0, 1), or a count is negative.
    """

    arg_constraints = {
        "total_count": constraints.greater_than_eq(0),
        "probs": constraints.half_open_interval(0.0, 1.0),
        "logits": constraints.real,
    }
    support = constraints.nonnegative_integer

    def __init__(self, total_count: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        given, total_count = self._set_odds(probs, logits, total_count)
        self.total_count = total_count.to(given.dtype)
        super().__init__(given.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.logits.exp()

    @property
    def mode(self) -> Tensor:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self) -> Tensor:
        return self.mean / (-self.logits).sigmoid()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            rate = Gamma(self.total_count, (-self.logits).exp(), validate_args=False).sample(sample_shape)
            return poisson(rate)

    def log_prob(self, value: Tensor) -> Tensor:
        value, n = self._outcome(value, self.logits), self.total_count
        ways = (n + value).lgamma() - (1.0 + value).lgamma() - n.lgamma()
        ways = ways.masked_fill(n + value == 0.0, 0.0)
        return n * F.logsigmoid(-self.logits) + value * F.logsigmoid(self.logits) + ways
