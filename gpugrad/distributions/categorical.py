"""The categorical distribution."""

from __future__ import annotations

import math
from typing import Any

from ..creation import arange, broadcast_shapes, empty, finfo, full
from ..random import multinomial
from ..tensor import Tensor
from . import constraints
from .distribution import Distribution
from .odds import only_one
from .utils import lazy_property, logits_to_probs, probs_to_logits


class Categorical(Distribution):
    """One of the numbers ``0 .. n - 1``; give ``probs`` or ``logits`` of shape ``(*batch, n)``, which are normalised.

    Raises:
        ValueError: not just one of the two is given, it has no dimension, or a probability is negative or NaN.
    """

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True

    def __init__(self, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None):
        name, given = only_one(probs, logits)
        if given.ndim < 1:
            raise ValueError(f"`{name}` parameter must be at least one-dimensional.")
        if logits is None:
            self.probs = given / given.sum(-1, keepdim=True)
        else:
            self.logits = given.log_softmax(-1)
        self._num_events = given.shape[-1]
        super().__init__(given.shape[:-1], (), validate_args)

    @lazy_property
    def logits(self) -> Tensor:
        """Logarithms of the probabilities."""
        return probs_to_logits(self.probs)

    @lazy_property
    def probs(self) -> Tensor:
        """The probabilities."""
        return logits_to_probs(self.logits)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self._num_events - 1)

    @property
    def param_shape(self) -> Any:
        """The shape of ``probs``."""
        return (self.probs if "probs" in vars(self) else self.logits).shape

    def _undefined(self) -> Tensor:
        return full(self.batch_shape, math.nan, dtype=self.probs.dtype, device=self.probs.device)

    @property
    def mean(self) -> Tensor:
        """NaN: categories have none."""
        return self._undefined()

    @property
    def variance(self) -> Tensor:
        """NaN: categories have none."""
        return self._undefined()

    @property
    def mode(self) -> Tensor:
        """The likeliest category, int64."""
        return self.probs.argmax(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape)``, int64."""
        shape, count = self._extended_shape(sample_shape), math.prod(sample_shape)
        rows = self.probs.detach().reshape(-1, self._num_events)
        if not count * len(rows):
            return empty(shape, dtype="int64", device=rows.device)
        return multinomial(rows, count, replacement=True).t().reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._outcome(value, self.logits)
        shape = broadcast_shapes(value.shape, self.batch_shape)
        logits = self.logits.expand(*shape, self._num_events)
        return logits.gather(-1, value.long().expand(shape).unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        return -(self.logits.clamp(min=float(finfo(self.logits.dtype).min)) * self.probs).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        device = (self.probs if "probs" in vars(self) else self.logits).device
        return self._listed(arange(self._num_events, dtype="int64", device=device), expand)
