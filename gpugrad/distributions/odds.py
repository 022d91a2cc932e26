"""What distributions of successes have in common: the probability of one, or its log-odds."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import constraints
from .distribution import Distribution
from .utils import broadcast_all, lazy_property, logits_to_probs, probs_to_logits


def only_one(probs: Any, logits: Any) -> tuple[str, Any]:
    """The one of the two that is given, and its name.

    Raises:
        ValueError: it is not just one.
    """
    if (probs is None) == (logits is None):
        raise ValueError("Either `probs` or `logits` must be specified, but not both.")
    return ("probs", probs) if logits is None else ("logits", logits)


class OddsDistribution(Distribution):
    """Made from ``probs`` or ``logits``, and computes the other when it is needed."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}

    def _set_odds(self, probs: Any, logits: Any, *others: Any) -> tuple[Tensor, ...]:
        """Store what is given; other parameters broadcast against it are returned after it."""
        name, given = only_one(probs, logits)
        found = broadcast_all(given, *others)
        setattr(self, name, found[0])
        return found

    @lazy_property
    def logits(self) -> Tensor:
        """The log-odds."""
        return probs_to_logits(self.probs, True)

    @lazy_property
    def probs(self) -> Tensor:
        """The probability of a success."""
        return logits_to_probs(self.logits, True)

    @property
    def param_shape(self) -> Any:
        """The shape of the parameters."""
        return self.batch_shape
