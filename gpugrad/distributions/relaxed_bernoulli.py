"""Continuous relaxations of the Bernoulli distribution."""

from __future__ import annotations

from typing import Any

from ..random import rand
from ..tensor import Tensor
from . import constraints
from .odds import OddsDistribution
from .transformed_distribution import TransformedDistribution
from .transforms import SigmoidTransform
from .utils import broadcast_all, clamp_probs, tensor_like


class LogitRelaxedBernoulli(OddsDistribution):
    """The log-odds of ``RelaxedBernoulli``: Maddison, Mnih and Teh, "The concrete distribution", 2017."""

    support = constraints.real
    has_rsample = True
    _unbatched = ("temperature",)

    def __init__(self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        (given,) = self._set_odds(probs, logits)
        self.temperature = tensor_like(temperature, given)
        super().__init__(given.shape, (), validate_args)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        probs = clamp_probs(self.probs.expand(shape))
        draws = clamp_probs(rand(shape, dtype=probs.dtype, device=probs.device))
        return (draws.log() - (-draws).log1p() + probs.log() - (-probs).log1p()) / self.temperature

    def log_prob(self, value: Tensor) -> Tensor:
        logits, value = broadcast_all(self.logits, self._outcome(value, self.logits))
        distance = logits - value * self.temperature
        return self.temperature.log() + distance - 2 * distance.exp().log1p()


class RelaxedBernoulli(TransformedDistribution):
    """Numbers between 0 and 1 that tend to be these two the more, the smaller the ``temperature``.

    Args:
        temperature: a tensor or a number.
        probs, logits: as for ``Bernoulli``.

    Raises:
        ValueError: as for ``Bernoulli``.
    """

    arg_constraints = OddsDistribution.arg_constraints
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        base = LogitRelaxedBernoulli(temperature, probs, logits, validate_args)
        super().__init__(base, SigmoidTransform(), validate_args=False)
        self._validate_args = base._validate_args

    @property
    def temperature(self) -> Tensor:
        """How far draws are from 0 and 1."""
        return self.base_dist.temperature

    @property
    def logits(self) -> Tensor:
        """The log-odds."""
        return self.base_dist.logits

    @property
    def probs(self) -> Tensor:
        """The probability of a success."""
        return self.base_dist.probs
