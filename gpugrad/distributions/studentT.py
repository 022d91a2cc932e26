"""Student's t-distribution."""

from __future__ import annotations

import math
from typing import Any

from ..ops import FUNCTIONS
from ..tensor import Tensor
from . import constraints
from .chi2 import Chi2
from .distribution import Distribution
from .utils import _standard_normal, broadcast_all

where = FUNCTIONS["where"]


class StudentT(Distribution):
    """Student's t-distribution with ``df`` degrees of freedom, around ``loc``, stretched by ``scale``.

    Raises:
        ValueError: ``df`` or a scale is not positive, or ``loc`` NaN.
    """

    arg_constraints = {"df": constraints.positive, "loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None):
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        self._chi2 = Chi2(self.df, validate_args=False)
        super().__init__(self.df.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        """``loc``, NaN for ``df <= 1``."""
        return where(self.df <= 1, math.nan, self.loc)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        """Infinite for ``df <= 2``, NaN for ``df <= 1``."""
        few = self.df <= 2
        df = self.df.masked_fill(few, 3.0)
        found = where(few, math.inf, self.scale**2 * df / (df - 2))
        return where(self.df <= 1, math.nan, found)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        draws = _standard_normal(self._extended_shape(sample_shape), self.df.dtype, self.df.device)
        return self.loc + self.scale * (draws * (self._chi2.rsample(sample_shape) / self.df).rsqrt())

    def log_prob(self, value: Tensor) -> Tensor:
        y, half = (self._outcome(value, self.loc) - self.loc) / self.scale, 0.5 * self.df
        size = self.scale.log() + 0.5 * (self.df.log() + math.log(math.pi)) + half.lgamma() - (half + 0.5).lgamma()
        return -(half + 0.5) * (y**2 / self.df).log1p() - size

    def entropy(self) -> Tensor:
        half = 0.5 * self.df
        size = half.lgamma() + math.lgamma(0.5) - (half + 0.5).lgamma()
        return self.scale.log() + (half + 0.5) * ((half + 0.5).digamma() - half.digamma()) + 0.5 * self.df.log() + size
