"""Gradients by hand: ``grad`` and ``backward``, modes, ops of one's own, and checks against finite differences."""

import warnings
from typing import Any

from ..engine import (
    detect_anomaly,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)
from ..tensor import Tensor, backward, grad
from . import function, functional, graph, profiler
from .function import Function
from .gradcheck import GradcheckError, gradcheck, gradgradcheck


class _VariableMeta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor)

    def __call__(cls, data: Any, requires_grad: bool = False, volatile: bool = False) -> Any:
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        if volatile:
            warnings.warn("volatile has no effect; use no_grad() instead", stacklevel=2)
        return data.detach().requires_grad_(requires_grad)


class Variable(metaclass=_VariableMeta):
    """The old name of a tensor: ``Variable(data, requires_grad)`` shares the memory of ``data``.

    Raises:
        TypeError: ``data`` is not a tensor.
    """


__all__ = [
    "Function",
    "GradcheckError",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "function",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "graph",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "profiler",
    "set_detect_anomaly",
    "set_grad_enabled",
]
