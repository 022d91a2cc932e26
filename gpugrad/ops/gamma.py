"""The logarithm of the gamma function, and its derivatives."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from .core import METHODS, public
from .elementwise import blockwise, select
from .pointwise import elementwise, inplace_method, unary
from .special import polynomial

# All is computed in float64; the coefficients were computed with 60 digits, lowest power first.
#
# lgamma(2 + y) = y p(y) for |y| <= 1/2, p the Chebyshev interpolant of degree 17; other x up to 8 by the recurrence
#     gamma(x + 1) = x gamma(x), beyond by Stirling's series.
# digamma(x) = (x - r) q(x - 3/2) for 1 <= x <= 2, r its root (the sum of two float64), q of degree 21; other x up to 10
#     by the recurrence, beyond by the asymptotic series.
# polygamma by the Hurwitz zeta function, that by the Euler-Maclaurin formula.
# Below 0 by reflection, whose terms cancel where the functions cross 0: the error is small beside 1 there.
# The series are those of Abramowitz and Stegun, Handbook of mathematical functions (1964), 6.1.41, 6.3.18, 6.4.7 and
# 23.2.
_LOG_GAMMA = (
    *(0.42278433509846713, 0.3224670334241132, -0.06735230105319563, 0.02058080842778338, -0.007385551028935545),
    *(0.002890510330865901, -0.0011927539009983087, 0.0005096695196526673, -0.00022315497746292723),
    *(9.945761692157133e-05, -4.4923727564247656e-05, 2.050601970174762e-05, -9.45628851510172e-06),
    *(4.3828545383846665e-06, -1.9743106888421067e-06, 9.242852225162277e-07, -5.811277768921246e-07),
    2.7475390051909663e-07,
)
_ROOT = 1.4616321449683622, 9.549995429965697e-17
_DIGAMMA = (
    *(0.951055876031833, -0.4236274212814605, 0.2405424842407742, -0.14840492305390884, 0.09498872445494122),
    *(-0.061922133273064534, 0.04076083381242074, -0.02697579675613825, 0.0179072524394512, -0.011908218001568644),
    *(0.007926944646403797, -0.005279964873257405, 0.003519006401502276, -0.002345267632540769, 0.0015566317474486838),
    *(-0.0010376374098418604, 0.0007233266279287554, -0.0004821990530566789, 0.0002272331660987376),
    *(-0.00015148586836773365, 0.00025968482126430747, -0.00017312261802727394),
)
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
_STIRLING = [b / (2 * k * (2 * k - 1)) for k, b in enumerate(_BERNOULLI, 1)]
_ASYMPTOTIC = [b / (2 * k) for k, b in enumerate(_BERNOULLI, 1)]

# What PyTorch's polygamma gives at the poles below 0 is no infinity, but rounding errors.
_TESTS = {"poles": (-1.0, -2.0)}


def _wide(xp: Any, function: Any, x: Any, *params: Any) -> Any:
    return function(xp, x.astype(np.float64), *params).astype(x.dtype)


def _lgamma(xp: Any, x: Any) -> Any:
    mirrored = x < -0.5
    z = select(xp, mirrored, -x, x)
    near = xp.clip(xp.rint(z), 0, 8)
    y = z - near
    product = xp.ones_like(y)
    for k in range(2, 8):
        product *= xp.where(near > k, y + k, 1)
    low = y * polynomial(xp, _LOG_GAMMA, y) + xp.log(product)
    low -= xp.where(near < 2, xp.log1p(y), 0) + xp.where(near < 1, xp.log(xp.abs(y)), 0)
    high = (z - 0.5) * (xp.log(z) - 1) + polynomial(xp, _STIRLING, 1 / (z * z)) / z
    out = select(xp, z < 8.5, low, high + (0.5 * math.log(2 * math.pi) - 0.5))
    sine = xp.abs(xp.sin(math.pi * (z - xp.rint(z))))
    out = select(xp, mirrored, xp.log(math.pi / (z * sine)) - out, out)
    return select(xp, xp.isinf(x), xp.abs(x), out)


def _digamma(xp: Any, x: Any) -> Any:
    z = select(xp, x < 0, 1 - x, x)
    steps = xp.clip(xp.floor(z), 0, 9) - 1
    y = z - steps
    low = (y - _ROOT[0] - _ROOT[1]) * polynomial(xp, _DIGAMMA, y - 1.5)
    low -= xp.where(steps < 0, 1 / z, 0)
    for k in range(1, 9):
        low += xp.where(steps >= k, 1 / (z - k), 0)
    inverse = 1 / (z * z)
    high = xp.log(z) - 0.5 / z - inverse * polynomial(xp, _ASYMPTOTIC, inverse)
    out = select(xp, z < 10, low, high)
    # At the poles, where r is 0, r / r makes it NaN.
    r = xp.rint(x) - x
    return select(xp, x < 0, out + math.pi / xp.tan(math.pi * r) * (r / r), out)


def _zeta(xp: Any, s: int, x: Any) -> Any:
    """The sum of ``(x + k) ** -s`` over k from 0 on, for x >= 0 and s > 1."""
    out = x**-s
    for k in range(1, 10):
        out += (x + k) ** -s
    a = x + 10
    term = a ** (1 - s)
    out += term / (s - 1) + 0.5 * term / a
    inverse = 1 / (a * a)
    factor = 1.0
    for k, b in enumerate(_BERNOULLI, 1):
        factor *= (s + 2 * k - 2) * (s + 2 * k - 3 if k > 1 else 1) / (2 * k * (2 * k - 1))
        term *= inverse
        out += term * (b * factor)
    return out


def _cotangent(n: int) -> list[int]:
    """The coefficients of P with ``P(cot x)`` the n-th derivative of ``cot x``, lowest power first."""
    found = [0, 1]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(found)][1:]
        found = [-a - b for a, b in zip([*slope, 0, 0], [0, 0, *slope], strict=True)]
    return found


def _derivative(xp: Any, x: Any, n: int) -> Any:
    negative = x < 0
    out = _zeta(xp, n + 1, select(xp, negative, 1 - x, xp.abs(x))) * ((-1.0) ** (n + 1) * math.factorial(n))
    cotangent = 1 / xp.tan(math.pi * (x - xp.rint(x)))
    reflected = polynomial(xp, _cotangent(n), cotangent) * math.pi ** (n + 1)
    return select(xp, negative, (-1) ** n * out - reflected, out)


@elementwise(samples=lambda t: [*unary(0.1, 12.0)(t), (t(2, 4, low=-4.0, high=0.0),)], promotes="float", tests=_TESTS)
@blockwise
def lgamma(xp, input, /):
    """The logarithm of the absolute value of the gamma function of each element; infinite at its poles."""
    return _wide(xp, _lgamma, input)


@elementwise(samples=lambda t: [*unary(0.1, 12.0)(t), (t(2, 4, low=-4.0, high=0.0),)], promotes="float", tests=_TESTS)
@blockwise
def digamma(xp, input, /):
    """The derivative of ``lgamma`` of each element; infinite at 0, NaN at the poles below."""
    return _wide(xp, _digamma, input)


def _orders(t: Any) -> list[Any]:
    return [(t(2, 3, low=0.5, high=12.0), 1), (t(2, 4, low=-3.0, high=0.0), 2), (t(low=1.0, high=2.0), 3)]


@elementwise(
    samples=_orders,
    promotes="float",
    public=False,
    tests={"poles": (-1.0, -2.0, math.inf, -math.inf), "rtol32": 1e-4},
    torch=lambda torch, x, n: torch.polygamma(n, x),
)
@blockwise
def polygamma(xp, input, /, n):
    """The n-th derivative of ``digamma``, n > 0."""
    return _wide(xp, _derivative, input, n)


lgamma.rules(input=lambda F, g, input: g * F.digamma(input))
digamma.rules(input=lambda F, g, input: g * F.polygamma(input, 1))
polygamma.rules(input=lambda F, g, input, n: g * F.polygamma(input, n + 1))


@public(method=False)
def _polygamma(n: int, input: Any) -> Any:
    """The n-th derivative of ``digamma`` of each element, itself for ``n = 0``.

    Raises:
        RuntimeError: ``n`` is negative.
        TypeError: ``n`` is no int.
    """
    n = operator.index(n)
    if n < 0:
        raise RuntimeError(f"polygamma(n, x) does not support negative n, but got {n}")
    return digamma(input) if n == 0 else polygamma(input, n)


@public(function=False, name="polygamma")
def _polygamma_of(input: Any, n: int) -> Any:
    """The n-th derivative of ``digamma`` of each element; see ``gpugrad.polygamma``."""
    return _polygamma(n, input)


METHODS["polygamma_"] = inplace_method("polygamma", _polygamma_of)
