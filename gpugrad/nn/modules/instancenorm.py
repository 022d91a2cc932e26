"""Instance normalisation."""

from __future__ import annotations

from typing import Any

from ...tensor import Tensor
from .. import functional as F
from .batchnorm import _LazyNorm, _NormBase


class _InstanceNorm(_NormBase):
    """Normalises each channel of each sample by itself (Ulyanov et al. 2016).

    Args:
        num_features: the number of channels.
        momentum: the weight of a new batch in the running statistics.
        affine: learn scale and shift; ``bias`` False leaves the shift out.
        track_running_stats: keep running statistics and use them in evaluation.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise.

        Raises:
            ValueError: the input has a wrong number of dimensions or channels.
        """
        self._check_input_dim(input)
        channels = input.shape[-self._ranks[0]]
        if self.affine and channels != self.num_features:
            raise ValueError(
                f"expected input's channels to match num_features ({self.num_features}), but got: {channels}"
            )
        single = input.ndim == self._ranks[0]
        result = F.instance_norm(
            input.unsqueeze(0) if single else input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return result.squeeze(0) if single else result


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of (N, C, L) or (C, L)."""

    _ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Instance normalisation of (N, C, H, W) or (C, H, W)."""

    _ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Instance normalisation of (N, C, D, H, W) or (C, D, H, W)."""

    _ranks = (4, 5)


class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):
    """An InstanceNorm1d that takes ``num_features`` from its first input."""

    _channels = -2
    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):
    """An InstanceNorm2d that takes ``num_features`` from its first input."""

    _channels = -3
    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):
    """An InstanceNorm3d that takes ``num_features`` from its first input."""

    _channels = -4
    cls_to_become = InstanceNorm3d
