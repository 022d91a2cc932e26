"""Activation functions: elementwise ops that networks put between their layers.

Those that PyTorch has as ``torch.<name>`` are public; the others take the parameters
of ``torch.nn.functional.<name>`` in its order, all of them, for ``gpugrad.nn.functional``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .core import REGISTRY, public
from .elementwise import blockwise, fill_in_blocks, select, where_positive
from .pointwise import elementwise, unary


@elementwise(samples=unary())
def relu(xp, input, /):
    """max(0, x) of each element; its gradient at 0 is 0."""
    return xp.maximum(input, 0)


relu.rules(input=lambda F, g, out: where_positive(F, g, out))


@elementwise(samples=unary(), promotes="float")
@blockwise
def sigmoid(xp, input, /):
    """1 / (1 + exp(-x)) of each element."""
    out = xp.negative(input, out=xp.empty_like(input))
    xp.exp(out, out=out)
    out += 1
    return xp.reciprocal(out, out=out)


sigmoid.rules(input=blockwise(lambda F, g, out: g * (out * (1 - out))))


def _logits(t: Any) -> list[Any]:
    return [(t(2, 3, low=-4.0, high=4.0),), (t(),)]


@elementwise(samples=lambda t: [(t(2, 3), -1.25, 0.75), (t(2, 3), 0.0, 6.0)], public=False)
@blockwise
def hardtanh(xp, input, /, min_val, max_val):
    """The elements kept between two bounds; at and beyond them the gradient is 0."""
    low, high = input.dtype.type(min_val), input.dtype.type(max_val)
    out = xp.maximum(input, low, out=xp.empty_like(input))
    return xp.minimum(out, high, out=out)


hardtanh.rules(
    input=blockwise(lambda F, g, input, min_val, max_val: F.keep(g, ~((input <= min_val) | (input >= max_val))))
)


@elementwise(samples=lambda t: [(t(2, 3, low=-2.0, high=8.0),)], public=False)
@blockwise
def relu6(xp, input, /):
    """min(max(0, x), 6) of each element."""
    out = xp.maximum(input, 0, out=xp.empty_like(input))
    return xp.minimum(out, 6, out=out)


relu6.rules(input=blockwise(lambda F, g, input: F.keep(g, ~((input <= 0) | (input >= 6)))))


@elementwise(samples=lambda t: [(t(2, 3), 0.01), (t(2, 3), -0.5), (t(2, 3), 1.5), (t(2, 3), 0.0)], public=False)
@blockwise
def leaky_relu(xp, input, /, negative_slope):
    """``x`` above 0, ``negative_slope * x`` below."""
    if negative_slope == 0:
        return xp.maximum(input, 0)
    # The line of slope 1 lies above the other one where x > 0 and below where x < 0, or the other way round.
    return (xp.maximum if negative_slope <= 1 else xp.minimum)(input, input * negative_slope)


leaky_relu.rules(input=blockwise(lambda F, g, input, negative_slope: F.where(input > 0, g, g * negative_slope)))


def _elu(xp: Any, input: Any, alpha: float, scale: float, input_scale: float) -> Any:
    out = xp.minimum(input, 0, out=xp.empty_like(input))
    if input_scale != 1:
        out *= input_scale
    xp.expm1(out, out=out)
    out *= alpha * scale
    positive = xp.maximum(input, 0)
    out += positive if scale == 1 else positive * scale
    return out


def _elu_rule(F: Any, g: Any, input: Any, alpha: float, scale: float, input_scale: float) -> Any:
    # Not by way of the result, which is all rounding error where the exponential is small.
    slope = F.exp(F.clamp(input, None, 0.0) * input_scale) * (alpha * scale * input_scale)
    return F.where(input > 0, g * scale, g * slope)


@elementwise(samples=lambda t: [(t(2, 3), 1.0), (t(2, 3), 0.5), (t(2, 3), -1.5)], promotes="float", public=False)
@blockwise
def elu(xp, input, /, alpha):
    """``x`` above 0, ``alpha * (exp(x) - 1)`` below."""
    return _elu(xp, input, alpha, 1, 1)


elu.rules(input=blockwise(lambda F, g, input, alpha: _elu_rule(F, g, input, alpha, 1, 1)))


@elementwise(samples=lambda t: [(t(2, 3), 1.0), (t(2, 3), 0.5)], promotes="float", public=False)
@blockwise
def celu(xp, input, /, alpha):
    """``x`` above 0, ``alpha * (exp(x / alpha) - 1)`` below."""
    return _elu(xp, input, alpha, 1, 1 / alpha)


celu.rules(input=blockwise(lambda F, g, input, alpha: _elu_rule(F, g, input, alpha, 1, 1 / alpha)))

# Klambauer et al., Self-normalizing neural networks (2017).
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@elementwise(samples=unary(), promotes="float")
@blockwise
def selu(xp, input, /):
    """The scaled exponential linear unit, which keeps mean 0 and variance 1 through layers."""
    return _elu(xp, input, _SELU_ALPHA, _SELU_SCALE, 1)


selu.rules(input=blockwise(lambda F, g, input: _elu_rule(F, g, input, _SELU_ALPHA, _SELU_SCALE, 1)))


@public(method=False, name="celu")
def _celu(input: Any, alpha: float = 1.0) -> Any:
    """``x`` above 0, ``alpha * (exp(x / alpha) - 1)`` below.

    Raises:
        ZeroDivisionError: ``alpha`` is 0.
    """
    if alpha == 0:
        raise ZeroDivisionError("celu: alpha cannot be 0")
    return celu(input, alpha)


def _silu(xp: Any, out: Any, slope: Any, x: Any, scratch: Any) -> None:
    xp.negative(x, out=out)
    xp.exp(out, out=out)
    out += 1
    if slope is None:
        xp.divide(x, out, out=out)
        return
    gate = xp.reciprocal(out, out=scratch)
    xp.multiply(x, gate, out=out)
    xp.multiply(out, gate, out=slope)
    xp.subtract(out, slope, out=slope)
    slope += gate


@elementwise(samples=_logits, promotes="float", public=False, aux=True)
def silu(xp, input, /, recording):
    """``x`` * sigmoid(x) of each element.

    aux: its derivative, which shares most of the work with it.
    """
    out, slope = xp.empty_like(input), xp.empty_like(input) if recording else None
    fill_in_blocks(partial(_silu, xp), (out, slope), input)
    return out, slope


@silu.aux_rule
def _silu_slope(F: Any, input: Any) -> Any:
    gate = F.sigmoid(input)
    return gate + input * gate * (1 - gate)


silu.rules(input=lambda F, g, aux: g * aux)


def _mish_tanh(xp: Any, input: Any) -> Any:
    # tanh(log(1 + n)) = (n^2 + 2 n) / (n^2 + 2 n + 2) for n = exp(x); 1 beyond x = 20, to the last bit.
    out = xp.minimum(input, 20, out=xp.empty_like(input))
    xp.exp(out, out=out)
    out *= out + 2
    return xp.divide(out, out + 2, out=out)


@elementwise(samples=_logits, promotes="float", public=False)
@blockwise
def mish(xp, input, /):
    """``x`` * tanh(log(1 + exp(x))) of each element."""
    out = _mish_tanh(xp, input)
    out *= input
    return out


def _mish_rule(F: Any, g: Any, input: Any) -> Any:
    t = F.tanh(F.softplus(input, 1.0, 20.0))
    return g * (t + input * F.sigmoid(input) * (1 - t * t))


mish.rules(input=blockwise(_mish_rule))


@elementwise(
    samples=lambda t: [(t(2, 3), 1.0, 20.0), (t(2, 3), 2.0, 1.2), (t(2, 3), 0.5, 20.0)], promotes="float", public=False
)
@blockwise
def softplus(xp, input, /, beta, threshold):
    """log(1 + exp(beta * x)) / beta, and x itself where ``beta * x`` is above ``threshold``."""
    scaled = input * beta
    out = xp.minimum(scaled, threshold, out=xp.empty_like(input))
    xp.exp(out, out=out)
    xp.log1p(out, out=out)
    if beta != 1:
        out /= beta
    return select(xp, scaled > threshold, input, out)


softplus.rules(
    input=blockwise(
        lambda F, g, input, beta, threshold: F.where(input * beta > threshold, g, g * F.sigmoid(input * beta))
    )
)


@elementwise(samples=_logits, promotes="float", public=False)
@blockwise
def logsigmoid(xp, input, /):
    """log(sigmoid(x)) of each element."""
    out = xp.abs(input, out=xp.empty_like(input))
    xp.negative(out, out=out)
    xp.exp(out, out=out)
    xp.log1p(out, out=out)
    return xp.subtract(xp.minimum(input, 0), out, out=out)


logsigmoid.rules(input=blockwise(lambda F, g, input: g * F.sigmoid(-input)))


@elementwise(samples=_logits, promotes="float", public=False)
@blockwise
def softsign(xp, input, /):
    """``x`` / (1 + |x|) of each element."""
    out = xp.abs(input, out=xp.empty_like(input))
    out += 1
    return xp.divide(input, out, out=out)


def _softsign_rule(F: Any, g: Any, input: Any) -> Any:
    denominator = 1 + F.abs(input)
    return g / (denominator * denominator)


softsign.rules(input=blockwise(_softsign_rule))


@elementwise(samples=_logits, promotes="float", public=False)
@blockwise
def tanhshrink(xp, input, /):
    """``x`` - tanh(x) of each element."""
    return input - xp.tanh(input)


def _tanhshrink_rule(F: Any, g: Any, input: Any) -> Any:
    t = F.tanh(input)
    return g * (t * t)


tanhshrink.rules(input=blockwise(_tanhshrink_rule))


@elementwise(samples=lambda t: [(t(2, 3, low=-5.0, high=5.0),)], promotes="float", public=False)
@blockwise
def hardsigmoid(xp, input, /):
    """min(max(0, x / 6 + 1 / 2), 1) of each element."""
    return relu6.forward(xp, input + 3) / 6


hardsigmoid.rules(input=blockwise(lambda F, g, input: F.keep(g / 6, (input > -3) & (input < 3))))


@elementwise(samples=lambda t: [(t(2, 3, low=-5.0, high=5.0),)], promotes="float", public=False)
@blockwise
def hardswish(xp, input, /):
    """``x`` * hardsigmoid(x) of each element."""
    return input * relu6.forward(xp, input + 3) / 6


hardswish.rules(
    input=blockwise(lambda F, g, input: F.keep(F.where(input < 3, g * (input / 3 + 0.5), g), ~(input <= -3)))
)


@elementwise(samples=lambda t: [(t(2, 3), 0.1, 0.7)], public=False)
@blockwise
def threshold(xp, input, /, threshold, value):
    """``x`` where it is above ``threshold``, else ``value``."""
    return select(xp, input <= threshold, input.dtype.type(value), input)


threshold.rules(input=blockwise(lambda F, g, input, threshold: F.keep(g, ~(input <= threshold))))


@public(method=False, name="threshold")
def _threshold(input: Any, threshold: float, value: float) -> Any:
    """The elements above ``threshold``, ``value`` in the place of the others."""
    return REGISTRY["threshold"](input, threshold, value)
