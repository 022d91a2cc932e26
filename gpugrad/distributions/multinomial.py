"""The multinomial distribution."""

from __future__ import annotations

import math
from typing import Any

from ..creation import arange, as_tensor, zeros
from ..ops import FUNCTIONS
from ..tensor import Tensor
from . import constraints
from .binomial import Binomial
from .categorical import Categorical
from .distribution import Distribution
from .utils import broadcast_all


class Multinomial(Distribution):
    """How often each of n categories comes up in ``total_count`` draws; a vector of n counts.

    Args:
        total_count: an int.
        probs, logits: as for ``Categorical``.

    Raises:
        ValueError: as for ``Categorical``.
        NotImplementedError: ``total_count`` is no int.
    """

    arg_constraints = Categorical.arg_constraints

    def __init__(
        self,
        total_count: int = 1,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported; give an int")
        if total_count < 0:
            raise ValueError(f"total_count must not be negative, but got {total_count}")
        self.total_count = total_count
        self._categorical = Categorical(probs, logits, validate_args)
        shape = self._categorical.param_shape
        super().__init__(shape[:-1], shape[-1:], validate_args=False)
        self._validate_args = self._categorical._validate_args

    def __repr__(self) -> str:
        return f"Multinomial(total_count: {self.total_count}, probs: {tuple(self.probs.shape)})"

    @property
    def probs(self) -> Tensor:
        """The probability of each category."""
        return self._categorical.probs

    @property
    def logits(self) -> Tensor:
        """Logarithms of the probabilities."""
        return self._categorical.logits

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.multinomial(self.total_count)

    @property
    def param_shape(self) -> Any:
        """The shape of ``probs``."""
        return self._categorical.param_shape

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        found = self._categorical.sample((self.total_count, *sample_shape)).movedim(0, -1)
        counts = zeros(self._extended_shape(sample_shape), dtype=self.probs.dtype, device=self.probs.device)
        return counts.scatter_add(-1, found, found.to(counts.dtype) * 0 + 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of the counts ``value``, ``(..., n)``, which may be of fewer draws."""
        logits, value = broadcast_all(self.logits, self._outcome(value, self.probs))
        value = value.to(logits.dtype)
        logits = logits.masked_fill((value == 0) & (logits == -math.inf), 0)
        ways = (value.sum(-1) + 1).lgamma() - (value + 1).lgamma().sum(-1)
        return ways + (logits * value).sum(-1)

    def entropy(self) -> Tensor:
        n = as_tensor(float(self.total_count), dtype=self.probs.dtype, device=self.probs.device)
        counts = arange(1, self.total_count + 1, dtype=n.dtype, device=n.device)
        counts = counts.reshape(-1, *(1,) * self.probs.ndim)
        chances = Binomial(self.total_count, self.probs, validate_args=False).log_prob(counts).exp()
        repeats = (chances * (counts + 1).lgamma()).sum((0, -1))
        return n * self._categorical.entropy() - FUNCTIONS["lgamma"](n + 1) + repeats
