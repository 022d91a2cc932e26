"""Activations and softmax."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ...backend import device_of, random
from ...ops import FUNCTIONS, REGISTRY, core
from ...ops.core import as_tensors, normalize_dim
from ...tensor import Tensor

__all__ = [
    "celu",
    "celu_",
    "elu",
    "elu_",
    "gelu",
    "glu",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hardtanh_",
    "leaky_relu",
    "leaky_relu_",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "relu_",
    "rrelu",
    "rrelu_",
    "selu",
    "selu_",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
    "threshold_",
]


def _apply(name: str, input: Any, inplace: bool, *params: Any) -> Tensor:
    """An elementwise op of the registry, out of place or in place."""
    function: Any = REGISTRY[name]
    if inplace:
        return core.inplace(f"{name}_", function, input, *params)
    return function(input, *params)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(0, x)."""
    return _apply("relu", input, inplace)


def relu_(input: Tensor) -> Tensor:
    """max(0, x), in place."""
    return relu(input, True)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(0, x), 6)."""
    return _apply("relu6", input, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """``x`` above 0, ``negative_slope * x`` below."""
    return _apply("leaky_relu", input, inplace, negative_slope)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """As :func:`leaky_relu`, in place."""
    return leaky_relu(input, negative_slope, True)


def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """Leaky ReLU with slopes drawn evenly from [lower, upper] while training, their mean otherwise.

    Raises:
        ValueError: the bounds are the wrong way round.
    """
    if lower > upper:
        raise ValueError(f"rrelu: expected lower <= upper, but got {lower} and {upper}")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    data = input._data
    slope = Tensor._wrap(random.uniform(data.shape, lower, upper, data.dtype, device_of(data)))

    def randomized(x: Tensor) -> Tensor:
        return x.where(x >= 0, x * slope)

    return core.inplace("rrelu_", randomized, input) if inplace else randomized(input)


def rrelu_(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> Tensor:
    """:func:`rrelu`, in place."""
    return rrelu(input, lower, upper, training, True)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """``x`` above 0, ``weight * x`` below.

    Args:
        weight: one element, or one for each channel (dimension 1).

    Raises:
        RuntimeError: the number of weights is another one.
    """
    input, weight = as_tensors("prelu", (input, weight))
    if weight._data.size != 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.ndim != 1 or weight.shape[0] != channels:
            raise RuntimeError(
                f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {weight._data.size} "
                f"and channel size = {channels}."
            )
        weight = weight.reshape(-1, *(1,) * (input.ndim - 2))
    elif input.ndim == 0:
        weight = weight.reshape(())
    return input.where(input > 0, input * weight)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``x`` above 0, ``alpha * (exp(x) - 1)`` below."""
    return _apply("elu", input, inplace, alpha)


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """As :func:`elu`, in place."""
    return elu(input, alpha, True)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """The scaled exponential linear unit (Klambauer et al. 2017)."""
    return _apply("selu", input, inplace)


def selu_(input: Tensor) -> Tensor:
    """As :func:`selu`, in place."""
    return selu(input, True)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``x`` above 0, ``alpha * (exp(x / alpha) - 1)`` below.

    Raises:
        ZeroDivisionError: ``alpha`` is 0.
    """
    if alpha == 0:
        raise ZeroDivisionError("celu: alpha cannot be 0")
    return _apply("celu", input, inplace, alpha)


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """As :func:`celu`, in place."""
    return celu(input, alpha, True)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """``x`` times the normal distribution's share below x; "tanh" approximates it (Hendrycks and Gimpel 2016)."""
    return _apply("gelu", input, False, approximate)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """``x * sigmoid(x)``."""
    return _apply("silu", input, inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """``x * tanh(softplus(x))``."""
    return _apply("mish", input, inplace)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta, and x itself where ``beta * x`` is above ``threshold``."""
    return _apply("softplus", input, False, beta, threshold)


def softsign(input: Tensor) -> Tensor:
    """``x / (1 + |x|)``."""
    return _apply("softsign", input, False)


def tanhshrink(input: Tensor) -> Tensor:
    """``x - tanh(x)``."""
    return _apply("tanhshrink", input, False)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """The elements kept between two bounds.

    Raises:
        ValueError: the bounds are the wrong way round.
    """
    if min_val > max_val:
        raise ValueError(f"min_val cannot be greater than max_val, got {min_val} and {max_val}")
    return _apply("hardtanh", input, inplace, min_val, max_val)


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """As :func:`hardtanh`, in place."""
    return hardtanh(input, min_val, max_val, True)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(0, x / 6 + 1 / 2), 1)."""
    return _apply("hardsigmoid", input, inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """``x * hardsigmoid(x)``."""
    return _apply("hardswish", input, inplace)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """``x``, and 0 where it is within ``lambd`` of 0."""
    return input.masked_fill((input >= -lambd) & (input <= lambd), 0.0)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """``x`` moved towards 0 by ``lambd``, not beyond it.

    Raises:
        RuntimeError: ``lambd`` is negative.
    """
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return (input - input.sign() * lambd).masked_fill((input >= -lambd) & (input <= lambd), 0.0)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """``x`` where it is above ``threshold``, else ``value``."""
    return _apply("threshold", input, inplace, threshold, value)


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """As :func:`threshold`, in place."""
    return _apply("threshold", input, True, threshold, value)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x))."""
    return _apply("logsigmoid", input, False)


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return _apply("tanh", input, False)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return _apply("sigmoid", input, False)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half of ``input`` along ``dim`` times the sigmoid of the second.

    Raises:
        RuntimeError: there is no such half.
    """
    if not input.ndim:
        raise RuntimeError("glu does not support scalars because halving size must be even")
    dim = normalize_dim(dim, input.ndim)
    if input.shape[dim] % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size {input.shape[dim]}")
    first, second = input.chunk(2, dim)
    return first * second.sigmoid()


def _softmax_dim(name: str, ndim: int) -> int:
    """The dimension PyTorch's softmax chose before it asked for one."""
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
        stacklevel=4,
    )
    return 0 if ndim in (0, 1, 3) else 1


def _softmax(name: str, input: Tensor, dim: int | None, dtype: Any) -> Tensor:
    (input,) = as_tensors(name, (input,))
    return FUNCTIONS[name](input, _softmax_dim(name, input.ndim) if dim is None else dim, dtype=dtype)


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """The exponentials along ``dim`` divided by their sum.

    Args:
        dtype: convert to it first.
    """
    return _softmax("softmax", input, dim, dtype)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """The logarithm of :func:`softmax`, accurate where that is close to 0 or 1."""
    return _softmax("log_softmax", input, dim, dtype)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """The softmax of ``-input``."""
    return _softmax("softmax", -input, dim, dtype)


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """Samples from the softmax of ``logits`` that gradients flow through (Jang, Gu and Poole 2017).

    Args:
        tau: the temperature: near 0 the samples are almost one-hot.
        hard: one-hot samples, with the gradients of the soft ones.
    """
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=2)
    data = logits._data
    # Of 1 - u, which is never 0.
    draws = Tensor._wrap(random.uniform(data.shape, 0.0, 1.0, data.dtype, device_of(data)))
    gumbels = -(-(1 - draws).log()).clamp(min=math.ulp(0.0) if data.dtype.itemsize == 8 else 1e-30).log()
    soft = FUNCTIONS["softmax"]((logits + gumbels) / tau, dim)
    if not hard:
        return soft
    index = soft.argmax(dim, keepdim=True)
    ones = (soft.detach() * 0).scatter(dim, index, 1.0)
    return ones - soft.detach() + soft
