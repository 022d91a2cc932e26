"""The categorical distribution of one-hot vectors."""

from __future__ import annotations

from typing import Any

from ..nn import functional as F
from ..tensor import Tensor
from .categorical import Categorical
from .distribution import Distribution


class OneHotCategorical(Distribution):
    """One of n outcomes, as a vector of n numbers; give ``probs`` or ``logits`` as for ``Categorical``.

    Raises:
        ValueError: as ``Categorical``.
    """

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        self._categorical = Categorical(probs, logits, validate_args)
        super().__init__(self._categorical.batch_shape, self._categorical.probs.shape[-1:], validate_args)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(probs: {tuple(self.probs.shape)})"

    @property
    def probs(self) -> Tensor:
        """The probabilities of the outcomes."""
        return self._categorical.probs

    @property
    def logits(self) -> Tensor:
        """Their logarithms."""
        return self._categorical.logits

    @property
    def param_shape(self) -> Any:
        """The shape of ``probs``."""
        return self._categorical.param_shape

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """``probs``."""
        return self.probs

    @property
    def variance(self) -> Tensor:  # type: ignore[override]
        """``probs (1 - probs)``."""
        return self.probs * (1 - self.probs)

    @property
    def mode(self) -> Tensor:
        """The likeliest outcome."""
        return self._one_hot(self._categorical.mode)

    def _one_hot(self, index: Tensor) -> Tensor:
        return F.one_hot(index, self.event_shape[0]).to(self.probs.dtype)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape ``(*sample_shape, *batch_shape, n)``, in the dtype of ``probs``."""
        return self._one_hot(self._categorical.sample(sample_shape))

    def _possible(self, value: Any) -> Any:
        return ((value == 0) | (value == 1)) & (value.sum(-1, keepdim=True) == 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the probability of ``value``, one-hot vectors."""
        return self._categorical.log_prob(self._outcome(value, self.probs).argmax(-1))

    def entropy(self) -> Tensor:
        """The entropy of each."""
        return self._categorical.entropy()


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """One-hot vectors through which gradients flow as if they were the probabilities (Bengio et al., 2013)."""

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, with the gradient of ``probs``."""
        return self.sample(sample_shape) + (self.probs - self.probs.detach())
