"""The categorical distribution."""

from __future__ import annotations

import math
from typing import Any

from ..creation import broadcast_shapes, empty, full
from ..random import multinomial
from ..tensor import Tensor
from .distribution import Distribution
from .utils import check, probs_to_logits


class Categorical(Distribution):
    """One of the numbers ``0 .. n - 1``; give ``probs`` or ``logits`` of shape ``(*batch, n)``, which are normalised.

    Raises:
        ValueError: not just one of the two is given, it has no dimension, or a probability is negative or NaN.
    """

    def __init__(self, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None):
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        given = probs if logits is None else logits
        assert given is not None
        if given.ndim < 1:
            raise ValueError("`probs` or `logits` must be at least one-dimensional.")
        if logits is None:
            self.probs = given / given.sum(-1, keepdim=True)
            if validate_args is not False:
                check("probs must not be negative, nor all of them 0", self.probs >= 0)
            self.logits = probs_to_logits(self.probs)
        else:
            if validate_args is not False:
                check("logits must be numbers", given == given)
            self.logits, self.probs = given.log_softmax(-1), given.softmax(-1)
        super().__init__(self.probs.shape[:-1], (), validate_args)

    def __repr__(self) -> str:
        return f"Categorical(probs: {tuple(self.probs.shape)})"

    @property
    def param_shape(self) -> Any:
        """The shape of ``probs``."""
        return self.probs.shape

    def _undefined(self) -> Tensor:
        return full(self.batch_shape, math.nan, dtype=self.probs.dtype, device=self.probs.device)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """NaN: categories have none."""
        return self._undefined()

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """NaN: categories have none."""
        return self._undefined()

    @property
    def mode(self) -> Tensor:
        """The likeliest category, int64."""
        return self.probs.argmax(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape)``, int64."""
        shape, count = self._extended(sample_shape), math.prod(sample_shape)
        rows = self.probs.detach().reshape(-1, self.probs.shape[-1])
        if not count * len(rows):
            return empty(shape, dtype="int64", device=rows.device)
        return multinomial(rows, count, replacement=True).t().reshape(shape)

    def _possible(self, value: Any) -> Any:
        return (value % 1 == 0) & (value >= 0) & (value < self.probs.shape[-1])

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of ``value``, whole numbers that broadcast against the batch."""
        value = self._outcome(value, self.probs)
        shape = broadcast_shapes(value.shape, self.batch_shape)
        logits = self.logits.expand(*shape, self.logits.shape[-1])
        return logits.gather(-1, value.long().expand(shape).unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """The entropy of each."""
        return -(self.logits.clamp(min=-3e38) * self.probs).sum(-1)
