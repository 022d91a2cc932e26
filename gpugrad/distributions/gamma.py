"""The gamma distribution."""

from __future__ import annotations

from typing import Any

from ..autograd import Function
from ..autograd.function import once_differentiable
from ..random import standard_gamma
from ..tensor import Tensor
from .distribution import Distribution
from .utils import broadcast_all, check


def _slope(concentration: Tensor, value: Tensor) -> Tensor:
    """How fast a draw grows with the concentration where its cumulative probability P stays.

    That is ``-dP/da / p``; P is the sum over k of ``z**(a + k) exp(-z) / gamma(a + k + 1)``, divided here by p.
    """
    a, z = concentration.double(), value.double()
    log, psi, term = z.log(), (a + 1).digamma(), z / a
    total, size, k = term * (log - psi), term, 0
    while bool(((a + k < z) | (term > 1e-17 * size)).any()):
        for _ in range(8):
            k += 1
            psi = psi + 1 / (a + k)
            term = term * z / (a + k)
            total, size = total + term * (log - psi), size + term
    return -total.to(value.dtype)


class _Draws(Function):
    @staticmethod
    def forward(ctx: Any, concentration: Tensor) -> Tensor:
        value = standard_gamma(concentration)
        ctx.save_for_backward(concentration, value)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * _slope(*ctx.saved_tensors)


def gamma_draws(concentration: Tensor) -> Tensor:
    """Draws from gamma distributions of rate 1, with a gradient."""
    return _Draws.apply(concentration)


class Gamma(Distribution):
    """The gamma distribution.

    Args:
        concentration, rate: shape and inverse scale, tensors or numbers, which broadcast.

    Raises:
        ValueError: one of them is not positive.
    """

    has_rsample = True
    _shown = ("concentration", "rate")

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None):
        self.concentration, self.rate = broadcast_all(concentration, rate)
        if validate_args is not False:
            check("concentration must be positive", self.concentration > 0)
            check("rate must be positive", self.rate > 0)
        super().__init__(self.concentration.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """``concentration / rate``."""
        return self.concentration / self.rate

    @property
    def mode(self) -> Tensor:
        """``(concentration - 1) / rate``, or 0."""
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """``concentration / rate**2``."""
        return self.concentration / self.rate**2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws through which gradients flow to ``concentration`` and ``rate``, once."""
        shape = self._extended(sample_shape)
        return gamma_draws(self.concentration.expand(shape)) / self.rate

    def _possible(self, value: Any) -> Any:
        return value >= 0

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density at ``value``."""
        value, a = self._outcome(value, self.rate), self.concentration
        return a.xlogy(self.rate) + (a - 1).xlogy(value) - self.rate * value - a.lgamma()

    def entropy(self) -> Tensor:
        """The entropy of each."""
        a = self.concentration
        return a - self.rate.log() + a.lgamma() + (1 - a) * a.digamma()
