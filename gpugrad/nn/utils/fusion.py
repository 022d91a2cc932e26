"""Batch normalisation in evaluation as a part of the layer before it."""

from __future__ import annotations

import copy
from typing import Any

from ...creation import ones_like, zeros_like
from ...engine import no_grad
from ...tensor import Tensor
from ..parameter import Parameter


def _fused(
    weight: Tensor,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    scale: Tensor | None,
    shift: Tensor | None,
    dim: int,
) -> tuple[Parameter, Parameter]:
    """Weights, whose outputs lie along ``dim``, and biases with the normalisation of the outputs in them."""
    with no_grad():
        bias = zeros_like(mean) if bias is None else bias
        scale = ones_like(mean) if scale is None else scale
        shift = zeros_like(mean) if shift is None else shift
        factor = scale * (var + eps).rsqrt()
        shape = [1] * weight.ndim
        shape[dim] = -1
        new_weight, new_bias = weight * factor.reshape(shape).to(weight.dtype), (bias - mean) * factor + shift
    return Parameter(new_weight, weight.requires_grad), Parameter(new_bias.to(bias.dtype), bias.requires_grad)


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """The weight and bias of a convolution (transposed or not) that normalises what it gives by running statistics."""
    return _fused(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 1 if transpose else 0)


def fuse_linear_bn_weights(
    linear_w: Tensor,
    linear_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
) -> tuple[Parameter, Parameter]:
    """The weight and bias of a linear layer that normalises what it gives by running statistics."""
    return _fused(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 0)


def _check_fusion(layer: Any, bn: Any) -> None:
    if layer.training or bn.training:
        raise AssertionError("Fusion only for eval! Call eval() of both modules first")
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("Only support fusing BatchNorm with tracked statistics (track_running_stats=True)")


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A copy of a convolution that does what it and the batch normalisation after it do in evaluation.

    Args:
        transpose: the convolution is a transposed one.

    Raises:
        AssertionError: a module is in training mode.
        ValueError: the normalisation tracks no statistics.
    """
    _check_fusion(conv, bn)
    fused = copy.deepcopy(conv)
    statistics = (bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
    fused.weight, fused.bias = fuse_conv_bn_weights(fused.weight, fused.bias, *statistics, transpose=transpose)
    return fused


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A copy of a linear layer that does what it and the batch normalisation after it do in evaluation.

    Raises:
        AssertionError: a module is in training mode, or the sizes do not fit.
        ValueError: the normalisation tracks no statistics.
    """
    _check_fusion(linear, bn)
    if linear.out_features != bn.num_features and bn.num_features != 1:
        raise AssertionError(
            "To fuse, linear.out_features == bn.num_features or bn.num_features == 1, but they are "
            f"{linear.out_features} and {bn.num_features}"
        )
    fused = copy.deepcopy(linear)
    statistics = (bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
    fused.weight, fused.bias = fuse_linear_bn_weights(fused.weight, fused.bias, *statistics)
    return fused
