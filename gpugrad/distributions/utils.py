"""Parameters of distributions: made tensors of one shape, and probabilities turned into logits and back."""

from __future__ import annotations

from typing import Any

from ..creation import as_tensor, broadcast_shapes
from ..tensor import Tensor


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Tensors of one shape; numbers take the dtype and the device of the tensors beside them.

    Raises:
        RuntimeError: the shapes do not broadcast.
    """
    like = next((value for value in values if isinstance(value, Tensor)), as_tensor(0.0))
    found = [v if isinstance(v, Tensor) else as_tensor(v, dtype=like.dtype, device=like.device) for v in values]
    shape = broadcast_shapes(*[t.shape for t in found])
    return tuple([t.expand(shape) for t in found])


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """Logarithms of probabilities, or log-odds, finite at 0 and 1."""
    tiny = 2.0**-23 if probs.itemsize < 8 else 2.0**-52
    inner = probs.clamp(tiny, 1 - tiny)
    return inner.log() - (-inner).log1p() if is_binary else inner.log()


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """Probabilities from log-odds, or from logarithms up to a constant."""
    return logits.sigmoid() if is_binary else logits.softmax(-1)


def check(what: str, valid: Any) -> None:
    """Refuse parameters that are not all as they must be.

    Raises:
        ValueError: says what they must be.
    """
    if not bool(valid.all()):
        raise ValueError(f"{what}, but some are not")


def odds(probs: Any, logits: Any, validates: bool) -> tuple[Tensor, Tensor]:
    """The probability of success, and its log-odds, from the one of them that was given.

    Raises:
        ValueError: not just one was, or a probability is outside of [0, 1].
    """
    if (probs is None) == (logits is None):
        raise ValueError("Either `probs` or `logits` must be specified, but not both.")
    if probs is None:
        (logits,) = broadcast_all(logits)
        if validates:
            check("logits must be numbers", logits == logits)
        return logits_to_probs(logits, True), logits
    (probs,) = broadcast_all(probs)
    if validates:
        check("probs must be between 0 and 1", (probs >= 0) & (probs <= 1))
    return probs, probs_to_logits(probs, True)
