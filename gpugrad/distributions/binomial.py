"""The binomial distribution."""

from __future__ import annotations

from typing import Any

from ..creation import arange
from ..random import binomial
from ..tensor import Tensor
from .distribution import Distribution
from .utils import broadcast_all, check, odds


class Binomial(Distribution):
    """The number of successes in ``total_count`` trials; give ``probs``, that of each, or ``logits``, its log-odds.

    Raises:
        ValueError: not just one of the two is given, a probability is outside of [0, 1], or a count is negative or
            no whole number.
    """

    _shown = ("total_count", "probs")

    def __init__(self, total_count: Any = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        validates = validate_args is not False
        total_count, self.probs, self.logits = broadcast_all(total_count, *odds(probs, logits, validates))
        self.total_count = total_count.to(self.probs.dtype)
        if validates:
            check("total_count must be whole numbers from 0", (total_count >= 0) & (total_count == total_count.floor()))
        super().__init__(self.probs.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """``total_count probs``."""
        return self.total_count * self.probs

    @property
    def mode(self) -> Tensor:
        """The likeliest number of successes."""
        return ((self.total_count + 1) * self.probs).floor().clamp(max=self.total_count)

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """``total_count probs (1 - probs)``."""
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape)``, in the dtype of ``probs``."""
        shape = self._extended(sample_shape)
        return binomial(self.total_count.expand(shape), self.probs.detach().expand(shape))

    def _possible(self, value: Any) -> Any:
        return (value % 1 == 0) & (value >= 0) & (value <= self.total_count)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of ``value`` successes."""
        value = self._outcome(value, self.probs)
        n, logits = self.total_count, self.logits
        # log(1 + exp(logits)), whose gradient at 0 is one half.
        size = (logits.clamp(min=0) + logits - logits.clamp(max=0)) / 2 + (-logits.abs()).exp().log1p()
        ways = (n + 1).lgamma() - (value + 1).lgamma() - (n - value + 1).lgamma()
        return ways + value * logits - n * size

    def entropy(self) -> Tensor:
        """The entropy of each.

        Raises:
            NotImplementedError: the batch has different counts.
        """
        most = int(self.total_count.max())
        if int(self.total_count.min()) != most:
            raise NotImplementedError("Inhomogeneous total count not supported by `entropy`.")
        counts = arange(most + 1, dtype=self.probs.dtype, device=self.probs.device)
        logs = self.log_prob(counts.reshape(-1, *(1,) * len(self.batch_shape)))
        return -(logs.exp() * logs).sum(0)
