"""Switches that trade exactness for speed, and what else runs tensors, under PyTorch's names."""

from __future__ import annotations

from types import SimpleNamespace

from ..backend.gemm import switches
from . import cuda, cudnn, mps

__all__ = [
    "are_deterministic_algorithms_enabled",
    "cuda",
    "cudnn",
    "get_float32_matmul_precision",
    "is_deterministic_algorithms_warn_only_enabled",
    "mps",
    "set_float32_matmul_precision",
    "use_deterministic_algorithms",
]


def get_float32_matmul_precision() -> str:
    """How float32 matrices are multiplied on CUDA devices: "highest", or "high" when TF32 is allowed."""
    return "high" if switches.allow_tf32 else "highest"


def set_float32_matmul_precision(precision: str) -> None:
    """Set how float32 matrices are multiplied on CUDA devices: the switch ``backends.cuda.matmul.allow_tf32``.

    Args:
        precision: "highest" for float32 throughout; "high" or "medium" for TF32.

    Raises:
        RuntimeError: it is none of these.
    """
    if precision not in ("highest", "high", "medium"):
        raise RuntimeError(f"precision must be 'highest', 'high' or 'medium', but got {precision!r}")
    switches.allow_tf32 = precision != "highest"


_deterministic = SimpleNamespace(mode=False, warn_only=False)


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Ask for ops that give the same results each time. They do anyway, so that this changes nothing but the answers of
    ``are_deterministic_algorithms_enabled`` and ``is_deterministic_algorithms_warn_only_enabled``.
    """
    _deterministic.mode, _deterministic.warn_only = bool(mode), bool(warn_only)


def are_deterministic_algorithms_enabled() -> bool:
    """What ``use_deterministic_algorithms`` was last called with; False before."""
    return _deterministic.mode


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether ``use_deterministic_algorithms`` was last called with ``warn_only``."""
    return _deterministic.warn_only
