"""Batch and instance normalisation."""

from __future__ import annotations

from typing import Any

from ...creation import empty, ones, zeros
from ...creation import tensor as make_tensor
from ...ops.core import memory_to_change
from ...tensor import Tensor
from .. import functional as F
from .. import init
from ..parameter import Parameter, UninitializedBuffer, UninitializedParameter, is_lazy
from .lazy import LazyModuleMixin
from .module import Module


class _NormBase(Module):
    """What batch and instance normalisation have in common: scale and shift, running mean and variance."""

    _ranks: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: Any,
        dtype: Any,
        bias: bool,
    ):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._make_tensors(bias, device, dtype)

    def _make_tensors(self, bias: bool, device: Any, dtype: Any) -> None:
        n, place = self.num_features, {"device": device, "dtype": dtype}
        self.register_parameter("weight", Parameter(empty(n, **place)) if self.affine else None)
        self.register_parameter("bias", Parameter(empty(n, **place)) if self.affine and bias else None)
        tracks = self.track_running_stats
        self.register_buffer("running_mean", zeros(n, **place) if tracks else None)
        self.register_buffer("running_var", ones(n, **place) if tracks else None)
        self.register_buffer("num_batches_tracked", make_tensor(0, device=device) if tracks else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget the batches seen so far."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Set scale to 1 and shift to 0, and forget the batches seen so far."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in self._ranks:
            expected = " or ".join(f"{rank}D" for rank in self._ranks)
            raise ValueError(f"expected {expected} input (got {input.ndim}D input)")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_NormBase):
    """Normalises each channel over the batch (Ioffe and Szegedy 2015), then scales and shifts it.

    Args:
        num_features: the number of channels, dimension 1 of the input.
        momentum: the weight of a new batch in the running statistics; None takes the mean over all batches.
        affine: learn scale and shift; ``bias`` False leaves the shift out.
        track_running_stats: keep running statistics and use them in evaluation.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise.

        Raises:
            ValueError: the input has a wrong number of dimensions.
        """
        self._check_input_dim(input)
        mean, var, count, weight = self.running_mean, self.running_var, self.num_batches_tracked, self.momentum
        training = self.training
        if training and self.track_running_stats and count is not None:
            # As count.add_(1), at a tenth of its cost: it is done in every step of every such layer.
            number = memory_to_change(count)
            number += 1
            count._bump()
            if weight is None:
                weight = 1.0 / count.item()
        if training and not self.track_running_stats:
            mean = var = None
        return F.batch_norm(
            input,
            mean,
            var,
            self.weight,
            self.bias,
            training or mean is None,
            0.0 if weight is None else weight,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L)."""

    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W)."""

    _ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W)."""

    _ranks = (5,)


class _LazyNorm(LazyModuleMixin, _NormBase):
    """A normalisation that takes ``num_features`` from its first input."""

    _channels = 1

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__(0, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def _make_tensors(self, bias: bool, device: Any, dtype: Any) -> None:
        super()._make_tensors(bias, device, dtype)
        for name in ("weight", "bias"):
            if getattr(self, name) is not None:
                setattr(self, name, UninitializedParameter(device=device, dtype=dtype))
        for name in ("running_mean", "running_var") if self.track_running_stats else ():
            setattr(self, name, UninitializedBuffer(device=device, dtype=dtype))

    def infer_shapes(self, input: Tensor) -> None:
        """Take ``num_features`` from the input's dimension of channels.

        Raises:
            ValueError: the input has a wrong number of dimensions.
        """
        self._check_input_dim(input)
        self.num_features = input.shape[self._channels]
        for tensor in [*self._parameters.values(), *self._buffers.values()]:
            if is_lazy(tensor):
                tensor.materialize((self.num_features,))


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    """A BatchNorm1d that takes ``num_features`` from its first input."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    """A BatchNorm2d that takes ``num_features`` from its first input."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    """A BatchNorm3d that takes ``num_features`` from its first input."""

    cls_to_become = BatchNorm3d
