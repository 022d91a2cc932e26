"""Distributions of what a function makes of random numbers."""

from __future__ import annotations

from typing import Any

from ..engine import no_grad
from ..tensor import Tensor
from .distribution import Distribution
from .transforms import Transform


class TransformedDistribution(Distribution):
    """The distribution of the values of transforms, one after the other, of draws from another distribution.

    Raises:
        ValueError: ``transforms`` are none.
    """

    def __init__(self, base_distribution: Distribution, transforms: Any, validate_args: bool | None = None):
        self.transforms = [transforms] if isinstance(transforms, Transform) else transforms
        if not isinstance(self.transforms, list) or not all(isinstance(t, Transform) for t in self.transforms):
            raise ValueError(f"transforms must be a Transform or list, but was {transforms!r}")
        self.base_dist = base_distribution
        super().__init__(base_distribution.batch_shape, base_distribution.event_shape, validate_args)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws have a gradient."""
        return self.base_dist.has_rsample

    def _transformed(self, value: Tensor) -> Tensor:
        for transform in self.transforms:
            value = transform(value)
        return value

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape, *event_shape)``, without a gradient."""
        with no_grad():
            return self._transformed(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to the parameters."""
        return self._transformed(self.base_dist.rsample(sample_shape))

    def _possible(self, value: Any) -> Any:
        return self.transforms[-1].codomain.check(value) if self.transforms else value == value

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density at ``value``."""
        dims = tuple(range(-len(self.event_shape), 0))
        y, stretch = self._outcome(value, value), 0.0
        for transform in reversed(self.transforms):
            x = transform._inv_call(y)
            jacobian = transform.log_abs_det_jacobian(x, y)
            summed = getattr(transform, "event_dim", transform.codomain.event_dim)
            stretch = stretch + (jacobian.sum(dims[: len(dims) - summed]) if dims[summed:] else jacobian)
            y = x
        return self.base_dist.log_prob(y) - stretch
