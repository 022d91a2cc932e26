"""The F-distribution."""

from __future__ import annotations

import math
from typing import Any

from ..creation import finfo
from ..tensor import Tensor
from . import constraints
from .distribution import Distribution
from .gamma import Gamma
from .utils import broadcast_all


class FisherSnedecor(Distribution):
    """The ratio of two mean squares of standard normal numbers, of ``df1`` and of ``df2`` of them.

    Raises:
        ValueError: ``df1`` or ``df2`` is not positive.
    """

    arg_constraints = {"df1": constraints.positive, "df2": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, df1: Any, df2: Any, validate_args: bool | None = None):
        self.df1, self.df2 = broadcast_all(df1, df2)
        self._gamma1 = Gamma(self.df1 * 0.5, self.df1, validate_args=False)
        self._gamma2 = Gamma(self.df2 * 0.5, self.df2, validate_args=False)
        super().__init__(self.df1.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        """NaN for ``df2 <= 2``."""
        df2 = self.df2.masked_fill(self.df2 <= 2, math.nan)
        return df2 / (df2 - 2)

    @property
    def mode(self) -> Tensor:
        """NaN for ``df1 <= 2``."""
        found = (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2)
        return found.masked_fill(self.df1 <= 2, math.nan)

    @property
    def variance(self) -> Tensor:
        """NaN for ``df2 <= 4``."""
        df2 = self.df2.masked_fill(self.df2 <= 4, math.nan)
        return 2 * df2**2 * (self.df1 + df2 - 2) / (self.df1 * (df2 - 2) ** 2 * (df2 - 4))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        tiny = finfo(self.df1.dtype).tiny
        return (self._gamma1.rsample(sample_shape) / self._gamma2.rsample(sample_shape)).clamp(min=tiny)

    def log_prob(self, value: Tensor) -> Tensor:
        a, b, ratio = self.df1 * 0.5, self.df2 * 0.5, self.df1 / self.df2
        value = self._outcome(value, self.df1)
        size = (a + b).lgamma() - a.lgamma() - b.lgamma()
        return size + a * ratio.log() + (a - 1) * value.log() - (a + b) * (ratio * value).log1p()
