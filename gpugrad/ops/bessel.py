"""The modified Bessel functions of the first kind, of the orders 0 and 1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .core import public
from .elementwise import blockwise, select
from .pointwise import elementwise, unary
from .special import polynomial

# Up to 20 by the power series, beyond by the asymptotic one: Abramowitz and Stegun, Handbook of mathematical functions
# (1964), 9.6.10 and 9.7.1, in float64.
_EDGE = 20.0
_SERIES = [[1 / (math.factorial(k) * math.factorial(k + n)) for k in range(44)] for n in (0, 1)]


def _asymptotic(n: int) -> list[float]:
    found = [1.0]
    for k in range(1, 28):
        found.append(found[-1] * ((2 * k - 1) ** 2 - 4 * n * n) / (8 * k))
    return found


_BEYOND = [_asymptotic(n) for n in (0, 1)]


def _scaled(xp: Any, x: Any, n: int) -> Any:
    """``exp(-|x|) I_n(x)``."""
    size = xp.abs(x.astype(np.float64))
    near, far = xp.minimum(size, _EDGE), xp.maximum(size, _EDGE)
    low = polynomial(xp, _SERIES[n], near * near / 4) * xp.exp(-near) * (near / 2) ** n
    high = polynomial(xp, _BEYOND[n], 1 / far) / xp.sqrt(2 * math.pi * far)
    out = select(xp, size <= _EDGE, low, high)
    return (xp.copysign(out, x) if n else out).astype(x.dtype)


@elementwise(
    samples=lambda t: [*unary()(t), (t(2, 3, low=-40.0, high=40.0),)],
    promotes="float",
    public=False,
    torch=lambda torch, x: torch.special.i0e(x),
)
@blockwise
def i0e(xp, input, /):
    """The modified Bessel function of order 0 of each element, times ``exp(-|x|)``."""
    return _scaled(xp, input, 0)


@elementwise(
    samples=lambda t: [*unary()(t), (t(2, 3, low=-40.0, high=40.0),)],
    promotes="float",
    public=False,
    torch=lambda torch, x: torch.special.i1e(x),
)
@blockwise
def i1e(xp, input, /):
    """The modified Bessel function of order 1 of each element, times ``exp(-|x|)``."""
    return _scaled(xp, input, 1)


def _i1e_slope(F: Any, input: Any, out: Any) -> Any:
    zero = F.constant((F.array(input) == 0).astype(F.array(input).dtype))
    return F.i0e(input) - out * F.sign(input) - (out / (input + zero) + 0.5 * zero)


i0e.rules(input=lambda F, g, input, out: g * (F.i1e(input) - F.sign(input) * out))
i1e.rules(input=lambda F, g, input, out: g * _i1e_slope(F, input, out))


@public(method=("i0",))
def i0(input: Any) -> Any:
    """The modified Bessel function of order 0 of each element."""
    return i0e(input) * input.abs().exp()
