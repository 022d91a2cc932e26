"""The error function, and what is made of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .elementwise import blockwise, fill_in_blocks, select
from .pointwise import elementwise, unary

# erf and erfc are approximated as follows; the coefficients were computed with 50 digits, lowest power first.
#
# float64, |x| < 1/2:   erf(x) = x p(x^2), p the Chebyshev interpolant of degree 8.
# float64, otherwise:   erfc(x) = exp(-x^2) q(t) / (1 + 2x) for x > 0, t = (x - 3.5) / (x + 3.5), q of degree 22: the
#     form of Shepherd and Laframboise, Chebyshev approximation of (1 + 2x) exp(x^2) erfc(x), Math. Comp. 36 (1981).
# float32:              erf(x) = tanh(x r(x^2)), r of degree 7 fitted for the least relative error of erf up to 3.9,
#     beyond which erf rounds to 1.
#
# Against 50 digits: erf within 1 ulp in float64 and 3.1 in float32, erfc within 3 ulp in float64.
_NEAR = (
    *(1.1283791670955126, -0.37612638903183476, 0.11283791670925457, -0.026866170632921085, 0.005223977373542183),
    *(-0.0008548297798086192, 0.00012053337222877719, -1.4845900896375835e-05, 1.4726381680017032e-06),
)
_FAR = (
    *(1.2423492448711544, -0.14000918013761915, -0.010555596332218808, 0.09751909515322464, -0.1150895981601522),
    *(0.08798315382609365, -0.04882332582914234, 0.01909933092195432, -0.004215019887850694, -0.00030226768944847634),
    *(0.000564384232642309, -0.00012151346464470638, -4.278117436647687e-05, 2.426458115311136e-05),
    *(2.3244780890994226e-06, -3.822490704927412e-06, -3.5407139827692044e-08, 6.112618924822791e-07),
    *(-2.0452492005669084e-08, -1.015774719991025e-07, 1.052218395427089e-08, 1.3237516712233008e-08),
    -3.3871404693931424e-09,
)
_SINGLE = (
    *(1.1283792471919987, 0.10276986398766469, -0.00019528761669703517, -0.0006148389776369295),
    *(8.459700942103058e-05, -4.7947199296665825e-06, 2.7590068358254722e-08, 5.4209901195295626e-09),
)


def polynomial(xp: Any, coefficients: Sequence[float], x: Any) -> Any:
    """A polynomial, its coefficients lowest power first, at each element of an array."""
    out = xp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        out *= x
        out += c
    return out


def _near(xp: Any, x: Any) -> Any:
    return x * polynomial(xp, _NEAR, x * x)


def _far(xp: Any, a: Any, gauss: Any) -> Any:
    """erfc(a) for a >= 1/2, given ``gauss = exp(-a * a)``."""
    return gauss * polynomial(xp, _FAR, (a - 3.5) / (a + 3.5)) / (1 + 2 * a)


def _erf(xp: Any, x: Any) -> Any:
    if x.dtype.itemsize == 4:
        square = xp.minimum(x * x, 15.21)
        out = polynomial(xp, _SINGLE, square)
        out *= x
        return xp.tanh(out, out=out)
    a = xp.minimum(xp.abs(x), 28)
    return select(xp, a < 0.5, _near(xp, x), xp.copysign(1 - _far(xp, a, xp.exp(-a * a)), x))


def _erfc(xp: Any, x: Any) -> Any:
    if x.dtype.itemsize == 4:
        return _erfc(xp, x.astype(np.float64)).astype(x.dtype)
    a = xp.minimum(xp.abs(x), 28)
    # The square of `head` is exact, so that the exponent keeps its digits.
    head = a.astype(np.float32).astype(np.float64)
    tail = _far(xp, a, xp.exp(-head * head) * xp.exp((head - a) * (head + a)))
    return select(xp, a < 0.5, 1 - _near(xp, x), select(xp, x < 0, 2 - tail, tail))


@elementwise(samples=unary(), promotes="float")
@blockwise
def erf(xp, input, /):
    """The error function of each element."""
    return _erf(xp, input)


erf.rules(input=blockwise(lambda F, g, input: g * (F.exp(-(input * input)) * (2 / math.sqrt(math.pi)))))


@elementwise(samples=unary(), promotes="float")
@blockwise
def erfc(xp, input, /):
    """1 - erf(x) of each element, without the cancellation for large x."""
    return _erfc(xp, input)


erfc.rules(input=blockwise(lambda F, g, input: g * (F.exp(-(input * input)) * (-2 / math.sqrt(math.pi)))))

# erfinv, float32: for |y| <= 0.52 y p(y^2), p of degree 5, otherwise t q(s), q of degree 8, t = sqrt(-log(1 - |y|))
# and s = (t - 0.7) / (t + 0.7); Chebyshev interpolants within 7e-8 of the result. In float64 three terms of the
# inverse's Taylor series around there, from erf or erfc, make it good to a few ulp.
_MIDDLE = (0.8862269078, 0.2320183427, 0.1273578046, 0.08957454029, 0.04479120386, 0.1092099603)
_TAIL = (
    *(0.511460622179, 0.705400928408, 0.0748941599166, -0.251630548449, -0.222381379767, 0.230804701736),
    *(-0.00385275198162, -0.0404481569889, -0.00337753607275),
)


def _erfinv(xp: Any, y: Any) -> Any:
    size = xp.abs(y)
    rest, middle = 1 - size, size <= 0.52
    t = xp.sqrt(-xp.log(xp.minimum(rest, 0.48)))
    x = t * polynomial(xp, _TAIL, (t - 0.7) / (t + 0.7))
    x = select(xp, middle, size * polynomial(xp, _MIDDLE, size * size), x)
    if y.dtype.itemsize == 8:
        gauss = xp.exp(-x * x)
        step = select(xp, middle, size - _near(xp, x), _far(xp, x, gauss) - rest) / gauss * (math.sqrt(math.pi) / 2)
        x += step * (1 + step * (x + step * (1 + 4 * x * x) / 3))
    return xp.copysign(xp.where(size == 1, y.dtype.type(math.inf), x), y)


@elementwise(samples=unary(-1.0, 1.0), promotes="float")
@blockwise
def erfinv(xp, input, /):
    """The number whose error function each element is; NaN outside [-1, 1]."""
    return _erfinv(xp, input)


erfinv.rules(input=blockwise(lambda F, g, out: g * (F.exp(out * out) * (math.sqrt(math.pi) / 2))))

# float32: the normal distribution function is 1 / (1 + exp(x q(x^2))), q of degree 6 fitted for the least error, 4e-8.
# Then gelu is within 2.5 ulp for x > 0 and 3.5 ulp for -1 < x < 0.
_NORMAL = (
    *(-1.595769649, -0.07266729092, 6.644343764e-05, 0.0001100991116, -7.838759758e-06, 2.575573113e-07),
    -3.323798074e-09,
)
# The tanh form of the Gaussian error linear unit (Hendrycks and Gimpel, 2016): its inner function is
# _OUTER * (x + _CUBIC * x^3), and (1 + tanh(y)) / 2 is 1 / (1 + exp(-2 y)).
_OUTER, _CUBIC = math.sqrt(2 / math.pi), 0.044715


def _logistic(xp: Any, out: Any, x: Any, square: Any, coefficients: Sequence[float]) -> None:
    """1 + exp(x q(x^2)), q with the coefficients, lowest power first."""
    xp.multiply(square, coefficients[-1], out=out)
    for c in coefficients[-2:0:-1]:
        out += c
        out *= square
    out += coefficients[0]
    out *= x
    xp.exp(out, out=out)
    out += 1


def _normal_unit(xp: Any, out: Any, slope: Any, x: Any, scratch: Any) -> None:
    square = scratch if slope is None else slope
    xp.multiply(x, x, out=square)
    if x.dtype.itemsize == 4:
        _logistic(xp, out, x, square, _NORMAL)
        if slope is None:
            xp.divide(x, out, out=out)
            return
        xp.reciprocal(out, out=out)
    else:
        xp.add(_erf(xp, xp.multiply(x, math.sqrt(0.5), out=out)), 1, out=out)
        out *= 0.5
    if slope is not None:
        slope *= -0.5
        xp.exp(slope, out=slope)
        slope *= x
        slope *= _OUTER / 2
        slope += out
    out *= x


def _tanh_unit(xp: Any, out: Any, slope: Any, x: Any, scratch: Any) -> None:
    square = scratch if slope is None else slope
    xp.multiply(x, x, out=square)
    _logistic(xp, out, x, square, (-2 * _OUTER, -2 * _OUTER * _CUBIC))
    if slope is None:
        xp.divide(x, out, out=out)
        return
    gate = xp.reciprocal(out, out=scratch)
    xp.subtract(1, gate, out=out)
    slope *= 6 * _OUTER * _CUBIC
    slope += 2 * _OUTER
    slope *= x
    slope *= out
    slope += 1
    slope *= gate
    xp.multiply(x, gate, out=out)


@elementwise(
    samples=lambda t: [(t(2, 3), "none"), (t(2, 3), "tanh"), (t(), "tanh")],
    torch=lambda torch, x, approximate: torch.nn.functional.gelu(x, approximate=approximate),
    promotes="float",
    public=False,
    aux=True,
)
def gelu(xp, input, /, approximate, recording):
    """``x`` times the normal distribution function of x; ``approximate`` is "none" or "tanh".

    aux: its derivative, which shares most of the work with it.
    """
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu: approximate must be 'none' or 'tanh', but got {approximate!r}")
    out, slope = xp.empty_like(input), xp.empty_like(input) if recording else None
    unit = _normal_unit if approximate == "none" else _tanh_unit
    fill_in_blocks(functools.partial(unit, xp), (out, slope), input)
    return out, slope


@gelu.aux_rule
def _gelu_slope(F: Any, input: Any, approximate: str) -> Any:
    square = input * input
    if approximate == "none":
        return (F.erf(input * math.sqrt(0.5)) + 1) * 0.5 + input * F.exp(square * -0.5) * (_OUTER / 2)
    t = F.tanh(input * (square * (_OUTER * _CUBIC) + _OUTER))
    return (t + 1 + input * (1 - t * t) * (square * (3 * _OUTER * _CUBIC) + _OUTER)) * 0.5


gelu.rules(input=lambda F, g, aux: g * aux)
