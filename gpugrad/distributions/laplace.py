"""The Laplace distribution."""

from __future__ import annotations

from typing import Any

from ..random import rand
from ..tensor import Tensor
from .distribution import Distribution
from .utils import broadcast_all, check


class Laplace(Distribution):
    """The two-sided exponential distribution.

    Args:
        loc, scale: the middle and the mean distance from it, tensors or numbers, which broadcast.

    Raises:
        ValueError: a scale is not positive, or a middle NaN.
    """

    has_rsample = True
    _shown = ("loc", "scale")

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None):
        self.loc, self.scale = broadcast_all(loc, scale)
        if validate_args is not False:
            check("loc must be numbers", self.loc == self.loc)
            check("scale must be positive", self.scale > 0)
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """``loc``."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """``loc``."""
        return self.loc

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """``2 scale**2``."""
        return 2 * self.scale**2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to ``loc`` and ``scale``."""
        u = 1 - 2 * rand(self._extended(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        tiny = 2.0**-24 if u.itemsize < 8 else 2.0**-53
        return self.loc - self.scale * u.sign() * (-u.abs().clamp(max=1 - tiny)).log1p()

    def _possible(self, value: Any) -> Any:
        return value == value

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density at ``value``."""
        return -(2 * self.scale).log() - (self._outcome(value, self.loc) - self.loc).abs() / self.scale

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of at most ``value``."""
        distance = self._outcome(value, self.loc) - self.loc
        return 0.5 - 0.5 * distance.sign() * (-distance.abs() / self.scale).expm1()

    def entropy(self) -> Tensor:
        """The entropy of each."""
        return 1 + (2 * self.scale).log()
