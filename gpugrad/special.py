"""Special functions under PyTorch's names (``gg.special``)."""

import math as _math
from typing import Any as _Any

from .ops import FUNCTIONS as _FUNCTIONS
from .ops.bessel import i0e as _i0e
from .ops.bessel import i1e as _i1e

digamma = psi = _FUNCTIONS["digamma"]
erf, erfc, erfinv = _FUNCTIONS["erf"], _FUNCTIONS["erfc"], _FUNCTIONS["erfinv"]
exp2, expit, expm1, log1p = (_FUNCTIONS[name] for name in ("exp2", "sigmoid", "expm1", "log1p"))
gammainc, gammaincc = _FUNCTIONS["igamma"], _FUNCTIONS["igammac"]
gammaln, logit, polygamma = _FUNCTIONS["lgamma"], _FUNCTIONS["logit"], _FUNCTIONS["polygamma"]
log_softmax, logsumexp, softmax = (_FUNCTIONS[name] for name in ("log_softmax", "logsumexp", "softmax"))
i0, i0e, i1e = _FUNCTIONS["i0"], _i0e.function, _i1e.function
round, xlogy = _FUNCTIONS["round"], _FUNCTIONS["xlogy"]


def entr(input: _Any) -> _Any:
    """``-x log(x)`` of each element, what it adds to an entropy; minus infinity for negative ones."""
    return _FUNCTIONS["where"](input < 0, -_math.inf, -_FUNCTIONS["xlogy"](input, input))


def i1(input: _Any) -> _Any:
    """The modified Bessel function of order 1 of each element."""
    return i1e(input) * input.abs().exp()


def ndtr(input: _Any) -> _Any:
    """How likely a standard normal number is at most each element."""
    return _FUNCTIONS["erfc"](input * -_math.sqrt(0.5)) / 2


def ndtri(input: _Any) -> _Any:
    """The number that a standard normal one stays below with the probability of each element."""
    return _FUNCTIONS["erfinv"](2 * input - 1) * _math.sqrt(2)


def xlog1py(input: _Any, other: _Any) -> _Any:
    """``input * log1p(other)``, 0 where ``input`` is 0."""
    return _FUNCTIONS["where"](input == 0, 0.0, input * _FUNCTIONS["log1p"](other))


__all__ = [
    "digamma",
    "entr",
    "erf",
    "erfc",
    "erfinv",
    "exp2",
    "expit",
    "expm1",
    "gammainc",
    "gammaincc",
    "gammaln",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "log1p",
    "log_softmax",
    "logit",
    "logsumexp",
    "ndtr",
    "ndtri",
    "polygamma",
    "psi",
    "round",
    "softmax",
    "xlog1py",
    "xlogy",
]
