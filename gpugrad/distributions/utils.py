"""Parameters of distributions: made tensors of one shape, and probabilities turned into logits and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..creation import as_tensor, broadcast_shapes, finfo, full
from ..engine import enable_grad
from ..random import randn
from ..tensor import Tensor

euler_constant = 0.5772156649015329


def tensor_like(value: Any, like: Tensor) -> Tensor:
    """``value``, as a tensor of the dtype and on the device of another where it is none."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, int | float):  # to fill, unlike to copy from the host, can be captured
        return full((), value, dtype=like.dtype, device=like.device)
    return as_tensor(value, dtype=like.dtype, device=like.device)


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Tensors of one shape; numbers take the dtype and the device of the tensors beside them.

    Raises:
        RuntimeError: the shapes do not broadcast.
    """
    like = next((value for value in values if isinstance(value, Tensor)), as_tensor(0.0))
    found = [tensor_like(value, like) for value in values]
    shape = broadcast_shapes(*[t.shape for t in found])
    return tuple([t.expand(shape) for t in found])


def clamp_probs(probs: Tensor) -> Tensor:
    """Probabilities kept off 0 and 1, where their logarithms are infinite."""
    tiny = finfo(probs.dtype).eps
    return probs.clamp(tiny, 1 - tiny)


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """Logarithms of probabilities, or log-odds, finite at 0 and 1."""
    inner = clamp_probs(probs)
    return inner.log() - (-inner).log1p() if is_binary else inner.log()


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """Probabilities from log-odds, or from logarithms up to a constant."""
    return logits.sigmoid() if is_binary else logits.softmax(-1)


def _sum_rightmost(value: Tensor, count: int) -> Tensor:
    """The sum over the last ``count`` dimensions."""
    return value.sum(tuple(range(-count, 0))) if count else value


def _standard_normal(shape: Any, dtype: Any, device: Any) -> Tensor:
    """Standard normal draws; programs that define distributions of their own import it under this name."""
    return randn(shape, dtype=dtype, device=device)


class lazy_property:
    """An attribute that is computed when it is first asked for, with gradients, and kept."""

    def __init__(self, function: Callable[[Any], Any]):
        self._function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        with enable_grad():
            value = instance.__dict__[self._name] = self._function(instance)
        return value
