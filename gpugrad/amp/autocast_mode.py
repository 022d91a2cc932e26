"""Autocast: products in a half-precision dtype, what needs range or digits in float32, the rest as it comes.

Which op is which follows PyTorch's lists (its documentation, "Automatic Mixed Precision package: op reference").
Outside of any ``autocast`` block an op asks whether a list is empty, and that is all this costs.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import cuda, dtypes
from ..engine import modes
from ..ops.core import REGISTRY, autocasting
from ..tensor import Tensor

# By the names of ops and public functions.
_CONVOLUTIONS = {f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3)} | {"conv", "conv_transpose"}
_LOWER = _CONVOLUTIONS | {
    "matmul", "mm", "bmm", "mv", "addmm", "addr", "multi_dot", "linear", "contract", "prelu",
    "scaled_dot_product_attention", "lstm_step", "gru_step", "lstm", "gru", "rnn",
}  # fmt: skip
_LOSSES = {
    "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cross_entropy", "ctc_loss", "hinge_embedding_loss",
    "huber_loss", "kl_div", "l1_loss", "margin_ranking_loss", "mse_loss", "multi_margin_loss", "multilabel_margin_loss",
    "nll_loss", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss",
}  # fmt: skip
_FLOAT32 = {
    "cpu": _LOSSES | {
        "binary_cross_entropy", "cdist", "cholesky", "det", "eigh", "grid_sample", "inv", "pinv", "prod", "qr",
        "slogdet", "solve", "svd",
    },
    "cuda": _LOSSES | {
        "acos", "asin", "cdist", "cosh", "cosine_similarity", "cumprod", "cumsum", "dist", "erfinv", "exp", "expm1",
        "group_norm", "layer_norm", "log", "log10", "log1p", "log2", "log_softmax", "norm", "pdist", "pow", "prod",
        "rdiv", "reciprocal", "rsqrt", "sinh", "softmax", "softplus", "sum", "tan", "vector_norm",
    },
}  # fmt: skip
_PROMOTE = {
    "cpu": {"cat", "stack", "index_copy"},
    "cuda": {
        "addcdiv",
        "addcmul",
        "atan2",
        "bilinear",
        "cat",
        "cross",
        "grid_sample",
        "index_put",
        "scatter_sum",
        "stack",
    },
}


class _Mode:
    """What one ``with autocast`` asks for."""

    def __init__(self, device_type: str, dtype: np.dtype, enabled: bool, cache: bool):
        self.device_type, self.dtype, self.enabled, self.cache = device_type, dtype, enabled, cache


class _State(threading.local):
    def __init__(self) -> None:
        self.stack: list[_Mode] = []
        # Weights that were cast already, with their version: a weight used twice is cast once, as in PyTorch.
        self.cache: dict[Tensor, tuple[int, Tensor]] = {}

    def mode(self, device_type: str) -> _Mode | None:
        for mode in reversed(self.stack):
            if mode.device_type == device_type:
                return mode if mode.enabled else None
        return None


_state = _State()


def _kind(t: Any) -> str | None:
    """The device type of a floating-point tensor that may be cast."""
    if not isinstance(t, Tensor) or t._is_number or not dtypes.is_floating(t.dtype) or t.dtype == dtypes.float64:
        return None
    return "cpu" if isinstance(t._data, np.ndarray) else "cuda"


def _to(t: Tensor, dtype: np.dtype, mode: _Mode) -> Tensor:
    if t.dtype == dtype:
        return t
    if not (mode.cache and modes.grad and t._needs_grad and t._node is None and t.dtype == dtypes.float32):
        return REGISTRY["to_dtype"](t, dtype)
    found = _state.cache.get(t)
    if found is None or found[0] != t._version or found[1].dtype != dtype:
        found = _state.cache[t] = (t._version, REGISTRY["to_dtype"](t, dtype))
    return found[1]


def _cast(name: str, inputs: Sequence[Any]) -> Sequence[Any]:
    """The inputs of an op in the dtypes that the innermost block wants for it."""
    kinds = [_kind(t) for t in inputs]
    device_type = next(filter(None, kinds), None)
    mode = _state.mode(device_type) if device_type else None
    if mode is None or device_type is None:
        return inputs
    if name in _LOWER:
        dtype = mode.dtype
    elif name in _FLOAT32[device_type]:
        dtype = dtypes.float32
    elif name in _PROMOTE[device_type]:
        present = {t.dtype for t, kind in zip(inputs, kinds, strict=True) if kind}
        if len(present) < 2:
            return inputs
        dtype = dtypes.float32
    elif name == "binary_cross_entropy" and device_type == "cuda":
        raise RuntimeError(
            "binary_cross_entropy and BCELoss are unsafe to autocast: use binary_cross_entropy_with_logits or "
            "BCEWithLogitsLoss, which combine it with the sigmoid before"
        )
    else:
        return inputs
    return [_to(t, dtype, mode) if kind else t for t, kind in zip(inputs, kinds, strict=True)]


def is_autocast_available(device_type: str) -> bool:
    """Whether ``autocast`` knows a device type: "cpu" and "cuda".

    Raises:
        RuntimeError: ``device_type`` is no name.
    """
    if not isinstance(device_type, str):
        raise RuntimeError(f"expected a device type such as 'cpu', but got {type(device_type).__name__}")
    return device_type in ("cpu", "cuda")


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether this thread is inside an enabled ``autocast`` block for a device type."""
    return _state.mode(device_type) is not None


def get_autocast_dtype(device_type: str) -> np.dtype:
    """The dtype of products inside the innermost block for a device type, or its default.

    Raises:
        RuntimeError: the device type is unknown.
        ImportError: it is bfloat16, and ml_dtypes is not installed.
    """
    if not is_autocast_available(device_type):
        raise RuntimeError(f"unsupported autocast device_type {device_type!r}; expected 'cpu' or 'cuda'")
    mode = next((m for m in reversed(_state.stack) if m.device_type == device_type), None)
    if mode is not None:
        return mode.dtype
    return dtypes.float16 if device_type == "cuda" else dtypes.bfloat16()


class autocast:
    """Inside the block (or the decorated function), choose the dtype of each op; in this thread.

    Matrix products, convolutions and the like cast their float32 operands to ``dtype``; losses, powers and
    (on CUDA) exponentials, norms and sums are computed in float32; everything else takes what it is given. Run the
    forward pass and the loss inside, ``backward`` outside.

    Args:
        device_type: "cpu" or "cuda"; tensors on the other are left alone.
        dtype: float16 or bfloat16; the default is float16 on CUDA and bfloat16 on the CPU.
        enabled: False switches autocast off inside the block.
        cache_enabled: cast a weight once per outermost block; True unless given.

    Raises:
        ValueError: ``device_type`` is no string.
        RuntimeError: the device type is unknown.
        ImportError: the dtype is bfloat16, and ml_dtypes is not installed.
    """

    def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None):
        if not isinstance(device_type, str):
            raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        if not is_autocast_available(device_type):
            raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
        if enabled and device_type == "cuda" and not cuda.diagnose().usable:
            warnings.warn("CUDA is not available. Disabling autocast.", stacklevel=2)
            enabled = False
        if dtype is None:
            fast = get_autocast_dtype(device_type) if enabled else dtypes.float16
        else:
            fast = dtypes.as_dtype(dtype)
        if enabled and fast.name not in ("float16", "bfloat16"):
            warnings.warn(
                f"In {device_type.upper()} autocast, but the target dtype is not supported. Disabling autocast.\n"
                f"It supports float16 and bfloat16, not {fast}.",
                stacklevel=2,
            )
            enabled = False
        self.device, self.fast_dtype = device_type, fast
        self._mode = _Mode(device_type, fast, bool(enabled), cache_enabled is None or bool(cache_enabled))

    def __enter__(self) -> autocast:
        _state.stack.append(self._mode)
        autocasting.append(_cast)
        return self

    def __exit__(self, *exc: object) -> None:
        autocasting.pop()
        _state.stack.pop()
        if not _state.stack:
            _state.cache.clear()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function."""

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return wrapper


def _cast_tensors(value: Any, device_type: str, dtype: np.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype) if _kind(value) == device_type else value
    if isinstance(value, dict):
        return {key: _cast_tensors(item, device_type, dtype) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_cast_tensors(item, device_type, dtype) for item in value)
    return value


def custom_fwd(fwd: Callable[..., Any] | None = None, *, device_type: str, cast_inputs: Any = None) -> Any:
    """Decorate the ``forward`` of an ``autograd.Function`` that is used under autocast.

    Args:
        device_type: "cpu" or "cuda".
        cast_inputs: cast floating-point tensors to this dtype and run without autocast; None runs as called.
    """
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def wrapper(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        inside = is_autocast_enabled(device_type)
        ctx._dtype = get_autocast_dtype(device_type) if inside else None
        ctx._fwd_used_autocast = inside and cast_inputs is None
        if cast_inputs is None or not inside:
            return fwd(ctx, *args, **kwargs)
        dtype = dtypes.as_dtype(cast_inputs)
        with autocast(device_type, enabled=False):
            return fwd(ctx, *_cast_tensors(args, device_type, dtype), **_cast_tensors(kwargs, device_type, dtype))

    return wrapper


def custom_bwd(bwd: Callable[..., Any] | None = None, *, device_type: str) -> Any:
    """Decorate the ``backward`` that goes with a ``custom_fwd``: it runs under the autocast state of the forward."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def wrapper(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, dtype=ctx._dtype, enabled=ctx._fwd_used_autocast):
            return bwd(ctx, *args, **kwargs)

    return wrapper
