"""Dropout: zeros at random places while training."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ...ops.dropout import drop_and_add
from ...tensor import Tensor
from .. import functional as F
from .module import Module


class _Dropout(Module):
    """Zeros a share ``p`` of what it is given while training, and scales the rest up; does nothing otherwise.

    Raises:
        ValueError: ``p`` is no probability.
    """

    _function: Callable[..., Tensor]

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return self._function(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Beside(NamedTuple):
    """What a transformer's layer hands to its dropout: the input, and what the result is added to in the same pass."""

    input: Tensor
    residual: Tensor


class Dropout(_Dropout):
    """Zeros single elements with probability ``p`` while training, and scales the rest by 1 / (1 - p)."""

    _function = staticmethod(F.dropout)

    def forward(self, input: Tensor) -> Tensor:
        if isinstance(input, Beside):
            return drop_and_add(*input, self.p, self.training)
        return super().forward(input)


class Dropout1d(_Dropout):
    """Zeros whole channels of (N, C, L) with probability ``p`` while training."""

    _function = staticmethod(F.dropout1d)


class Dropout2d(_Dropout):
    """Zeros whole channels of (N, C, H, W) with probability ``p`` while training."""

    _function = staticmethod(F.dropout2d)


class Dropout3d(_Dropout):
    """Zeros whole channels of (N, C, D, H, W) with probability ``p`` while training."""

    _function = staticmethod(F.dropout3d)


class AlphaDropout(_Dropout):
    """Dropout that keeps the mean and variance of what SELU gives (Klambauer et al. 2017)."""

    _function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """AlphaDropout of whole channels."""

    _function = staticmethod(F.feature_alpha_dropout)
