"""The von Mises distribution."""

from __future__ import annotations

import math
from typing import Any

from .. import special
from ..creation import zeros
from ..engine import no_grad
from ..ops import FUNCTIONS
from ..random import rand
from ..tensor import Tensor
from . import constraints
from .distribution import Distribution
from .utils import broadcast_all


class VonMises(Distribution):
    """Angles around ``loc``, nearer to it the larger the ``concentration``.

    Raises:
        ValueError: a concentration is not positive, or ``loc`` NaN.
    """

    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None):
        self.loc, self.concentration = broadcast_all(loc, concentration)
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        """The mean direction."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        """The circular variance: 1 less the length of the mean of the directions."""
        return 1 - special.i1e(self.concentration) / special.i0e(self.concentration)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws from -pi to pi: Best and Fisher, "Efficient simulation of the von Mises distribution", 1979."""
        shape = self._extended_shape(sample_shape)
        with no_grad():
            loc, k = self.loc.double(), self.concentration.double()
            tau = 1 + (1 + 4 * k**2).sqrt()
            rho = (tau - (2 * tau).sqrt()) / (2 * k)
            wide = 1 / k + k  # what (1 + rho ** 2) / (2 * rho) tends to
            edge = FUNCTIONS["where"](k < 1e-5, wide, (1 + rho**2) / (2 * rho))
            angle = zeros(shape, dtype=loc.dtype, device=loc.device)
            left: Any = angle == 0
            while bool(left.any()):
                draws = rand((3, *shape), dtype=loc.dtype, device=loc.device)
                z = (math.pi * draws[0]).cos()
                f = (1 + edge * z) / (edge + z)
                c = k * (edge - f)
                accepted = (c * (2 - c) > draws[1]) | ((c / draws[1]).log() + 1 - c >= 0)
                side = (draws[2] - 0.5).sign() * f.clamp(-1, 1).acos()
                angle = FUNCTIONS["where"](left & accepted, side, angle)
                left = left & ~accepted
            return ((angle + math.pi + loc) % (2 * math.pi) - math.pi).to(self.loc.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        k = self.concentration
        fall = k * ((self._outcome(value, self.loc) - self.loc).cos() - 1)
        return fall - math.log(2 * math.pi) - special.i0e(k).log()
