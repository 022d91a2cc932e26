"""Continuous relaxations of the categorical distribution."""

from __future__ import annotations

import math
from typing import Any

from ..random import rand
from ..tensor import Tensor
from . import constraints
from .categorical import Categorical
from .distribution import Distribution
from .transformed_distribution import TransformedDistribution
from .transforms import ExpTransform
from .utils import broadcast_all, clamp_probs, tensor_like


class ExpRelaxedCategorical(Distribution):
    """The logarithms of ``RelaxedOneHotCategorical``: Maddison, Mnih and Teh, "The concrete distribution", 2017."""

    arg_constraints = Categorical.arg_constraints
    support = constraints.real_vector
    has_rsample = True
    _unbatched = ("temperature",)

    def __init__(
        self,
        temperature: Any,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        self._categorical = Categorical(probs, logits, validate_args)
        shape = self._categorical.param_shape
        self.temperature = tensor_like(temperature, probs if logits is None else logits)  # type: ignore[arg-type]
        super().__init__(shape[:-1], shape[-1:], validate_args=False)
        self._validate_args = self._categorical._validate_args

    @property
    def param_shape(self) -> Any:
        """The shape of ``probs``."""
        return self._categorical.param_shape

    @property
    def logits(self) -> Tensor:
        """Logarithms of the probabilities."""
        return self._categorical.logits

    @property
    def probs(self) -> Tensor:
        """The probability of each category."""
        return self._categorical.probs

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        draws = clamp_probs(rand(shape, dtype=self.logits.dtype, device=self.logits.device))
        return ((self.logits - (-draws.log()).log()) / self.temperature).log_softmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        logits, value = broadcast_all(self.logits, self._outcome(value, self.logits))
        n = self.event_shape[0]
        scores = (logits - value * self.temperature).log_softmax(-1).sum(-1)
        return scores + (math.lgamma(n) + (n - 1) * self.temperature.log())


class RelaxedOneHotCategorical(TransformedDistribution):
    """Probabilities of n categories that tend to a single one the more, the smaller the ``temperature``.

    Args:
        temperature: a tensor or a number.
        probs, logits: as for ``Categorical``.

    Raises:
        ValueError: as for ``Categorical``.
    """

    arg_constraints = Categorical.arg_constraints
    support = constraints.simplex
    has_rsample = True

    def __init__(
        self,
        temperature: Any,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args)
        super().__init__(base, ExpTransform(), validate_args=False)
        self._validate_args = base._validate_args

    @property
    def temperature(self) -> Tensor:
        """How far draws are from a single category."""
        return self.base_dist.temperature

    @property
    def logits(self) -> Tensor:
        """Logarithms of the probabilities."""
        return self.base_dist.logits

    @property
    def probs(self) -> Tensor:
        """The probability of each category."""
        return self.base_dist.probs
