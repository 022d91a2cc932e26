"""Mixtures of distributions of one kind."""

from __future__ import annotations

from typing import Any

from ..creation import broadcast_shapes
from ..engine import no_grad
from ..tensor import Tensor
from . import constraints
from .categorical import Categorical
from .distribution import Distribution


class MixtureSameFamily(Distribution):
    """Draws from one of the k distributions along the last dimension of a batch, chosen with some probabilities.

    Args:
        mixture_distribution: a ``Categorical`` of k categories.
        component_distribution: of batch shape ``(*batch, k)``.

    Raises:
        ValueError: they are no such things, or do not fit together.
    """

    has_rsample = False

    def __init__(
        self,
        mixture_distribution: Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ):
        if not isinstance(mixture_distribution, Categorical):
            raise ValueError(f"The Mixture distribution needs to be a Categorical, but got {mixture_distribution!r}")
        if not isinstance(component_distribution, Distribution):
            raise ValueError(f"The Component distribution needs to be one, but got {component_distribution!r}")
        batch, kinds = component_distribution.batch_shape[:-1], component_distribution.batch_shape[-1:]
        if mixture_distribution.param_shape[-1:] != kinds:
            raise ValueError(
                f"`mixture_distribution component` ({mixture_distribution.param_shape[-1]}) does not equal "
                f"`component_distribution.batch_shape[-1]` ({tuple(kinds)})"
            )
        try:
            fits = broadcast_shapes(mixture_distribution.batch_shape, batch) == batch
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"`mixture_distribution.batch_shape` ({tuple(mixture_distribution.batch_shape)}) is not compatible with"
                f" `component_distribution.batch_shape`({tuple(batch)})"
            )
        self.mixture_distribution = mixture_distribution.expand(batch)
        self.component_distribution = component_distribution
        super().__init__(batch, component_distribution.event_shape, validate_args)

    def __repr__(self) -> str:
        return f"MixtureSameFamily(\n  {self.mixture_distribution!r},\n  {self.component_distribution!r})"

    @constraints.dependent_property
    def support(self) -> Any:
        return constraints.MixtureSameFamilyConstraint(self.component_distribution.support)

    def _each(self, value: Tensor) -> Tensor:
        return value.unsqueeze(-1 - len(self.event_shape))

    def _average(self, values: Tensor) -> Tensor:
        probs = self.mixture_distribution.probs
        probs = probs.reshape(*probs.shape, *(1,) * len(self.event_shape))
        return (probs * values).sum(-1 - len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        return self._average(self.component_distribution.mean)

    @property
    def variance(self) -> Tensor:
        parts = self.component_distribution
        return self._average(parts.variance) + self._average((parts.mean - self._each(self.mean)) ** 2)

    def cdf(self, value: Tensor) -> Tensor:
        return (self.component_distribution.cdf(self._each(value)) * self.mixture_distribution.probs).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        parts = self.component_distribution.log_prob(self._each(value))
        return (parts + self.mixture_distribution.logits.log_softmax(-1)).logsumexp(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            draws = self.component_distribution.sample(sample_shape)
            dim = draws.ndim - len(self.event_shape) - 1
            chosen = self.mixture_distribution.sample(sample_shape)
            chosen = chosen.reshape(*chosen.shape, 1, *(1,) * len(self.event_shape))
            return draws.gather(dim, chosen.expand(*draws.shape[:dim], 1, *self.event_shape)).squeeze(dim)
