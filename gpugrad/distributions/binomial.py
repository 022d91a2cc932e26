"""The binomial distribution."""

from __future__ import annotations

from typing import Any

from ..creation import arange
from ..random import binomial
from ..tensor import Tensor
from . import constraints
from .odds import OddsDistribution


class Binomial(OddsDistribution):
    """The number of successes in ``total_count`` trials; give ``probs``, that of each, or ``logits``, its log-odds.

    Raises:
        ValueError: not just one of the two is given, a probability is outside of [0, 1], or a count is negative or
            no whole number.
    """

    arg_constraints = {"total_count": constraints.nonnegative_integer, **OddsDistribution.arg_constraints}
    has_enumerate_support = True

    def __init__(self, total_count: Any = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        given, total_count = self._set_odds(probs, logits, total_count)
        self.total_count = total_count.to(given.dtype)
        super().__init__(given.shape, (), validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def mode(self) -> Tensor:
        return ((self.total_count + 1) * self.probs).floor().clamp(max=self.total_count)

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return binomial(self.total_count.expand(shape), self.probs.detach().expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._outcome(value, self.logits)
        n, logits = self.total_count, self.logits
        # log(1 + exp(logits)), whose gradient at 0 is one half.
        size = (logits.clamp(min=0) + logits - logits.clamp(max=0)) / 2 + (-logits.abs()).exp().log1p()
        ways = (n + 1).lgamma() - (value + 1).lgamma() - (n - value + 1).lgamma()
        return ways + value * logits - n * size

    def _most(self, what: str) -> int:
        most = int(self.total_count.max())
        if int(self.total_count.min()) != most:
            raise NotImplementedError(f"Inhomogeneous total count not supported by `{what}`.")
        return most

    def entropy(self) -> Tensor:
        """The entropy of each.

        Raises:
            NotImplementedError: the batch has different counts.
        """
        counts = arange(self._most("entropy") + 1, dtype=self.logits.dtype, device=self.logits.device)
        logs = self.log_prob(counts.reshape(-1, *(1,) * len(self.batch_shape)))
        return -(logs.exp() * logs).sum(0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All counts; see ``Distribution``.

        Raises:
            NotImplementedError: the batch has different counts.
        """
        most = self._most("enumerate_support")
        return self._listed(arange(most + 1, dtype=self.logits.dtype, device=self.logits.device), expand)
