"""The incomplete gamma function, and how gamma draws move with the shape parameter.

Both by quadrature: with ``x e^u`` in the place of the integration variable, the density ``t^(a-1) e^-t`` of the gamma
distribution is ``e(u) = exp(a u - x expm1(u))`` times its value at x. That is smooth, and for a >= 1 it falls without
a turn to either end from u = 0 on, below x where x < a and above it otherwise; 40 Gauss-Legendre nodes from there to
where it is ``exp(-38)`` give 13 digits. A smaller ``a`` is raised by one with ``gamma(a + 1) = a gamma(a)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import module_of
from .core import op, raw
from .elementwise import blockwise
from .pointwise import elementwise

_DEPTH = 38.0
_PLACES, _WEIGHTS = ((each * 0.5).tolist() for each in np.polynomial.legendre.leggauss(40))


def _reach(xp: Any, a: Any, x: Any) -> Any:
    """How far to integrate, negative for below x: where ``e`` is ``exp(-38)``, by Newton's method from beyond it."""
    below, gap = x < a, xp.abs(x - a)
    bend = 2 * gap - _DEPTH
    far = xp.where(
        below,
        -4 * _DEPTH / (bend + xp.sqrt(bend * bend + 8 * _DEPTH * a)),
        2 * _DEPTH / (gap + xp.sqrt(gap * gap + 2 * _DEPTH * x)),
    )
    for _ in range(3):
        rise = x * xp.expm1(far)
        far -= (rise - a * far - _DEPTH) / (rise + x - a)
    return far


def _integral(F: Any, a: Any, x: Any, shift: Any = None) -> Any:
    """The integral of ``e``, or of ``(shift + u) e``, from the point x on, upwards or (negative) downwards."""
    plain = F.array(a)
    reach = F.constant(_reach(module_of(plain), plain, F.array(x)))
    total = 0.0
    for place, weight in zip(_PLACES, _WEIGHTS, strict=True):
        u = reach * (0.5 + place)
        e = F.exp(a * u - x * F.expm1(u))
        total = total + (e if shift is None else e * (shift + u)) * weight
    return total * reach


def _raised(F: Any, a: Any) -> tuple[Any, Any]:
    """Whether ``a`` is below 1, as a number, and what it is raised to then."""
    plain = F.array(a)
    small = F.constant((plain < 1).astype(plain.dtype))
    return small, a + small


def _slope(F: Any, a: Any, log_x: Any) -> Any:
    """The derivative by ``a`` of the logarithm of a quantile of the gamma distribution that is ``exp(log_x)`` at a."""
    small, raised = _raised(F, a)
    x = F.exp(log_x)
    shift = log_x - F.digamma(raised)
    integral = _integral(F, raised, x, shift)
    return small * ((x * integral - shift) / a) + (1 - small) * integral


@op(
    samples=lambda t: [(t(2, 3, low=0.5, high=3.0), t(2, 3)), (t(low=5.0, high=6.0), t())],
    torch=None,
    tests={"not_the_derivative": (0, 1)},
)
def gamma_path(xp, input, draw, /):
    # ``draw``, the logarithm of a draw from the gamma distribution of shape ``input``, moving with ``input`` such
    # that its probability from below stays the same: Figurnov et al., "Implicit reparameterization gradients", 2018.
    return draw.copy()


def _path_slope(F: Any, input: Any, out: Any) -> Any:
    return _slope(F, F.to_dtype(input, np.float64), F.to_dtype(out, np.float64))


gamma_path.rules(input=lambda F, g, input, out: g * _path_slope(F, input, out))


def _shares(xp: Any, a: Any, x: Any) -> tuple[Any, Any]:
    """The probabilities from below and from above x, in float64; of the first or the second the other is the rest."""
    a, x = a.astype(np.float64), xp.minimum(x.astype(np.float64), 1e300)
    a = xp.where(a < 0, np.nan, a)
    small, raised = _raised(raw, a)
    log_x = xp.log(x)
    step = xp.exp(a * log_x - x - raw.lgamma(a + small))
    # Raised by one, the share below lacks a step, and that above has one too many.
    found = step * xp.abs(_integral(raw, raised, x)) * xp.where(small > 0, x, 1)
    found += small * xp.where(x < raised, step, -step)
    return xp.where(x < raised, found, 1 - found), xp.where(x < raised, 1 - found, found)


def _samples(t: Any) -> list[Any]:
    return [
        (t(2, 3, low=0.1, high=4.0), t(2, 3, low=0.1, high=5.0)),
        (t(2, 1, low=8.0, high=9.0), t(3, low=4, high=12)),
    ]


@elementwise(samples=_samples, promotes="float", torch=None)
@blockwise
def igamma(xp, input, other, /):
    """The share of the gamma function of ``input`` up to ``other``: the regularized lower incomplete gamma function.

    Both are not negative; the result is NaN where they are.
    """
    return _shares(xp, input, other)[0].astype(input.dtype)


@elementwise(samples=_samples, promotes="float", torch=None)
@blockwise
def igammac(xp, input, other, /):
    """The share of the gamma function of ``input`` from ``other`` on: the regularized upper incomplete one."""
    return _shares(xp, input, other)[1].astype(input.dtype)


def _moved(F: Any, input: Any, other: Any) -> Any:
    """The derivative of ``igamma`` by the shape parameter: what passes x as the quantile at x moves up."""
    input, other = F.to_dtype(input, np.float64), F.to_dtype(other, np.float64)
    log_x = F.log(other)
    return -F.exp(input * log_x - other - F.lgamma(input)) * _slope(F, input, log_x)


def _density(F: Any, input: Any, other: Any) -> Any:
    return F.exp(F.xlogy(input - 1, other) - other - F.lgamma(input))


igamma.rules(
    input=lambda F, g, input, other: g * _moved(F, input, other),
    other=lambda F, g, input, other: g * _density(F, input, other),
)
igammac.rules(
    input=lambda F, g, input, other: g * -_moved(F, input, other),
    other=lambda F, g, input, other: g * -_density(F, input, other),
)
