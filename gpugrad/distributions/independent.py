"""Distributions of several independent numbers."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from .distribution import Distribution


class Independent(Distribution):
    """A distribution whose last batch dimensions are taken as parts of one draw.

    Raises:
        ValueError: it has fewer batch dimensions than ``reinterpreted_batch_ndims``.
    """

    def __init__(
        self, base_distribution: Distribution, reinterpreted_batch_ndims: int, validate_args: bool | None = None
    ):
        batch, count = base_distribution.batch_shape, reinterpreted_batch_ndims
        if count > len(batch):
            raise ValueError(
                "Expected reinterpreted_batch_ndims <= len(base_distribution.batch_shape), "
                f"actual {count} vs {len(batch)}"
            )
        self.base_dist, self.reinterpreted_batch_ndims = base_distribution, count
        kept = len(batch) - count
        super().__init__(batch[:kept], (*batch[kept:], *base_distribution.event_shape), validate_args)

    def __repr__(self) -> str:
        return f"Independent({self.base_dist}, {self.reinterpreted_batch_ndims})"

    def _sum(self, each: Tensor) -> Tensor:
        count = self.reinterpreted_batch_ndims
        return each.sum(tuple(range(-count, 0))) if count else each

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws have a gradient."""
        return self.base_dist.has_rsample

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """That of each number."""
        return self.base_dist.mean

    @property
    def mode(self) -> Tensor:
        """That of each number."""
        return self.base_dist.mode

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """That of each number."""
        return self.base_dist.variance

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape, *event_shape)``, without a gradient."""
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to the parameters."""
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density at ``value``."""
        return self._sum(self.base_dist.log_prob(value))

    def entropy(self) -> Tensor:
        """The entropy of each draw."""
        return self._sum(self.base_dist.entropy())
