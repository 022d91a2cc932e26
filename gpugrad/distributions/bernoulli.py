"""The Bernoulli distribution."""

from __future__ import annotations

import math
from typing import Any

from ..creation import broadcast_shapes
from ..nn import functional as F
from ..ops import FUNCTIONS
from ..random import bernoulli
from ..tensor import Tensor
from .distribution import Distribution
from .utils import odds


class Bernoulli(Distribution):
    """0 or 1; give ``probs``, that of 1, or ``logits``, its log-odds.

    Raises:
        ValueError: not just one of the two is given, or a probability is outside of [0, 1].
    """

    _shown = ("probs",)

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        self.probs, self.logits = odds(probs, logits, validate_args is not False)
        super().__init__(self.probs.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """``probs``."""
        return self.probs

    @property
    def mode(self) -> Tensor:
        """1 where that is likelier, NaN where both are as likely."""
        likelier = (self.probs >= 0.5).to(self.probs.dtype)
        return FUNCTIONS["where"](self.probs == 0.5, math.nan, likelier)

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """``probs (1 - probs)``."""
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape)``, in the dtype of ``probs``."""
        return bernoulli(self.probs.detach().expand(self._extended(sample_shape)))

    def _possible(self, value: Any) -> Any:
        return (value == 0) | (value == 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of ``value``."""
        value = self._outcome(value, self.probs).to(self.probs.dtype)
        shape = broadcast_shapes(value.shape, self.batch_shape)
        return -F.binary_cross_entropy_with_logits(self.logits.expand(shape), value.expand(shape), reduction="none")

    def entropy(self) -> Tensor:
        """The entropy of each."""
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")
