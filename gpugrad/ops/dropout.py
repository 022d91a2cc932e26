"""Dropout: random zeros, drawn from the seeded stream, which gives the same ones on every device."""

from __future__ import annotations

import math
from typing import Any

from ..backend import device_of, random
from . import core
from .core import REGISTRY, as_tensors, op


@op(samples=lambda t: [(t(2, 3), t.bools(2, 3), 2.0), (t(), t.bools(), 1.25)], torch=None)
def masked_scale(xp, input, mask, /, scale):
    # What the mask keeps, times ``scale``, and zeros.
    out = REGISTRY["keep"].forward(xp, input, mask)
    out *= scale
    return out


masked_scale.rules(input=lambda F, g, mask, scale: F.masked_scale(g, mask, scale))


def drawn_mask(input: Any, shape: tuple[int, ...], p: float) -> Any:
    """A bool tensor beside ``input``, true with probability ``1 - p``."""
    return core.Tensor._wrap(random.bernoulli_mask(shape, 1 - p, device_of(input._data)))


def _zeroed(input: Any, p: float) -> Any:
    return masked_scale(input, drawn_mask(input, input._data.shape, p), 1 / (1 - p) if p < 1 else 0.0)


def _channels(input: Any, mask: Any, dtype: Any) -> Any:
    noise = mask.to(dtype)
    return REGISTRY["reshape"](noise, (*noise.shape, *(1,) * (input.ndim - 2)))


def _zeroed_channels(input: Any, p: float) -> Any:
    noise = _channels(input, drawn_mask(input, input._data.shape[:2], p), input.dtype)
    return input * (noise * (1 / (1 - p) if p < 1 else 0.0))


# Klambauer et al., Self-normalizing neural networks (2017): the value SELU tends to on the left.
_ALPHA = 1.7580993408473766


def _selu_kept(input: Any, noise: Any, p: float) -> Any:
    """Where ``noise`` is 0 the lowest value of SELU, then scaled and shifted to keep mean and variance."""
    if p == 1:
        return input * 0.0
    a = 1 / math.sqrt((_ALPHA * _ALPHA * p + 1) * (1 - p))
    return input * (noise * a) + ((noise - 1) * (_ALPHA * a) + _ALPHA * a * p)


def _alpha(input: Any, p: float) -> Any:
    return _selu_kept(input, drawn_mask(input, input._data.shape, p).to(input.dtype), p)


def _alpha_channels(input: Any, p: float) -> Any:
    return _selu_kept(input, _channels(input, drawn_mask(input, input._data.shape[:2], p), input.dtype), p)


def drop(name: str, input: Any, p: float, training: bool, inplace: bool) -> Any:
    """One of the dropouts: "dropout", "feature_dropout", "alpha_dropout" or "feature_alpha_dropout".

    Raises:
        ValueError: ``p`` is not between 0 and 1.
        RuntimeError: whole channels are to be dropped from a tensor without them.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    (input,) = as_tensors(name, (input,))
    if name.startswith("feature") and input.ndim < 2:
        raise RuntimeError(f"Feature dropout requires at least 2 dimensions in the input, but got {input.ndim}")
    if not training or p == 0 or not input._data.size:
        return input
    function = {
        "dropout": _zeroed,
        "feature_dropout": _zeroed_channels,
        "alpha_dropout": _alpha,
        "feature_alpha_dropout": _alpha_channels,
    }[name]
    return core.inplace(f"{name}_", function, input, p) if inplace else function(input, p)
