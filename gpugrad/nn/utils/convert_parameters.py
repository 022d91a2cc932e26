"""All parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from ...engine import no_grad
from ...ops import FUNCTIONS
from ...tensor import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The elements of all parameters in one new vector; gradients flow through it.

    Raises:
        TypeError: the parameters live on different devices.
    """
    tensors = list(parameters)
    if len({t.device for t in tensors}) > 1:
        raise TypeError("Found two parameters on different devices, this is currently not supported.")
    return FUNCTIONS["cat"]([t.reshape(-1) for t in tensors])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the values of a vector into the parameters, part by part.

    Raises:
        TypeError: ``vec`` is no tensor.
        RuntimeError: it has another number of elements than the parameters.
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected a Tensor, but got: {type(vec).__name__}")
    tensors = list(parameters)
    count = sum(t.numel() for t in tensors)
    if tuple(vec.shape) != (count,):
        raise RuntimeError(
            f"expected a vector of {count} elements, as the parameters have, but got shape {tuple(vec.shape)}"
        )
    start = 0
    with no_grad():
        for t in tensors:
            t.copy_(vec[start : start + t.numel()].reshape(t.shape))
            start += t.numel()
