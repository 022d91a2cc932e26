"""Dropout: random zeros, drawn from the seeded stream, which gives the same ones on every device."""

from __future__ import annotations

import math
from typing import Any

from ..backend import device_of, fused, lazy, random
from . import core
from .core import REGISTRY, as_tensors, op


@op(samples=lambda t: [(t(2, 3), t.bools(2, 3), 2.0), (t(), t.bools(), 1.25)], torch=None)
def masked_scale(xp, input, mask, /, scale):
    # What the mask keeps, times ``scale``, and zeros.
    out = REGISTRY["keep"].forward(xp, input, mask)
    out *= scale
    return out


masked_scale.rules(input=lambda F, g, mask, scale: F.masked_scale(g, mask, scale))
masked_scale.chain(lambda args, recording: lazy.apply("masked_scale", args[:2], args[2:]))


def _factor(p: float) -> float:
    """What is kept is multiplied by this."""
    return 1 / (1 - p) if p < 1 else 0.0


@op(aux=True, samples=lambda t: [(t(2, 3), 0.0), (t(), 1.0)], torch=None)
def dropout(xp, input, /, p, recording):
    # aux: the mask, or from the kernel, which keeps none, the place in the random stream that it was drawn from.
    mask = random.bernoulli_mask(input.shape, 1 - p, device_of(input))
    return masked_scale.forward(xp, input, mask, _factor(p)), (mask,)


def _numbers(p: float) -> tuple[int, float]:
    """The 32 random bits below which an element is kept, and what it is multiplied by then."""
    return round((1 - p) * 2**32), _factor(p)


def _reserved(input: Any) -> tuple[int, int, Any]:
    return random.reserve(-(-input.size // fused.dropout.BLOCK))


@dropout.kernel
def _dropout_kernel(input: Any, p: float, recording: bool) -> Any:
    if not fused.dropout.applies(input):
        return NotImplemented
    aux = _reserved(input)
    return fused.dropout.dropout(input, *aux, *_numbers(p)), aux


@dropout.chain
def _dropout_chain(args: tuple[Any, ...], recording: bool) -> Any:
    input, p = args
    if not lazy.can_drop(input):
        return NotImplemented
    aux = _reserved(input)
    return lazy.dropout(input, *aux[1:], *_numbers(p)), aux


def _dropout_rule(F: Any, g: Any, aux: Any, p: float) -> Any:
    if len(aux) == 1:
        return F.masked_scale(g, F.constant(aux[0]), _factor(p))
    return F.same_dropout(g, p, *aux)


dropout.rules(input=_dropout_rule)


@op(samples=lambda t: [(t(2, 3), 0.5, 7, 3, None), (t(), 0.25, 1, 0, None)], torch=None)
def same_dropout(xp, input, /, p, seed, offset, place):
    # What ``dropout`` did from this place in the random stream.
    mask = random.bernoulli_mask(input.shape, 1 - p, device_of(input), random.at(seed, offset, place))
    return masked_scale.forward(xp, input, mask, _factor(p))


@same_dropout.kernel
def _same_dropout_kernel(input: Any, p: float, seed: int, offset: int, place: Any) -> Any:
    if not fused.dropout.applies(input):
        return NotImplemented
    return fused.dropout.dropout(input, seed, offset, place, *_numbers(p))


@same_dropout.chain
def _same_dropout_chain(args: tuple[Any, ...], recording: bool) -> Any:
    input, p, _, offset, place = args
    if place is None or not lazy.can_drop(input):
        return NotImplemented
    return lazy.dropout(input, offset, place, *_numbers(p))


same_dropout.rules(
    input=lambda F, g, p, seed, offset, place: F.same_dropout(g, p, seed, offset, place),
)


@op(aux=True, samples=lambda t: [(t(2, 3), t(2, 3), 0.0), (t(), t(), 1.0)], torch=None)
def dropout_add(xp, input, residual, /, p, recording):
    # The dropout of ``input`` plus ``residual``, which has its shape and dtype; aux as there.
    out, aux = dropout.forward(xp, input, p, recording)
    out += residual
    return out, aux


@dropout_add.kernel
def _dropout_add_kernel(input: Any, residual: Any, p: float, recording: bool) -> Any:
    if not fused.dropout.applies(input, residual):
        return NotImplemented
    aux = _reserved(input)
    return fused.dropout.dropout(input, *aux, *_numbers(p), residual), aux


@dropout_add.chain
def _dropout_add_chain(args: tuple[Any, ...], recording: bool) -> Any:
    input, residual, p = args
    dropped = _dropout_chain((input, p), recording)
    return dropped if dropped is NotImplemented else (lazy.apply("add", (dropped[0], residual)), dropped[1])


dropout_add.rules(input=_dropout_rule, residual=lambda F, g: g)


def drop_and_add(input: Any, residual: Any, p: float, training: bool) -> Any:
    """``residual + drop("dropout", input, p, training, False)``, in one pass where they are alike."""
    alike = residual._data.shape == input._data.shape and residual.dtype == input.dtype
    if training and 0 < p <= 1 and alike and input.is_floating_point() and input._data.size:
        return dropout_add(input, residual, p)
    return residual + drop("dropout", input, p, training, False)


def drawn_mask(input: Any, shape: tuple[int, ...], p: float) -> Any:
    """A bool tensor beside ``input``, true with probability ``1 - p``."""
    return core.Tensor._wrap(random.bernoulli_mask(shape, 1 - p, device_of(input._data)))


def _channels(input: Any, mask: Any, dtype: Any) -> Any:
    noise = mask.to(dtype)
    return REGISTRY["reshape"](noise, (*noise.shape, *(1,) * (input.ndim - 2)))


def _zeroed_channels(input: Any, p: float) -> Any:
    noise = _channels(input, drawn_mask(input, input._data.shape[:2], p), input.dtype)
    return input * (noise * _factor(p))


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
        "dropout": dropout,
        "feature_dropout": _zeroed_channels,
        "alpha_dropout": _alpha,
        "feature_alpha_dropout": _alpha_channels,
    }[name]
    return core.inplace(f"{name}_", function, input, p) if inplace else function(input, p)
