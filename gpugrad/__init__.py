"""gpugrad: PyTorch-style autograd on NumPy (CPU) and CuPy (NVIDIA GPU).

``import gpugrad as gg`` gives PyTorch's names: ``gg.tensor``, ``gg.nn``,
``gg.optim``, ``gg.utils.data`` and so on.
"""

import importlib as _importlib
import math as _math
from typing import Any as _Any

from numpy import dtype

from . import creation as _creation
from . import random
from .backend import blas as _blas
from .backend import cpu as _cpu
from .backend import device, get_default_device, set_default_device
from .backend import dtypes as _dtypes
from .backend.dtypes import bool_ as bool
from .backend.dtypes import (
    double,
    float16,
    float32,
    float64,
    get_default_dtype,
    half,
    int8,
    int16,
    int32,
    int64,
    long,
    set_default_dtype,
    short,
    uint8,
)
from .backend.dtypes import float32 as float
from .backend.dtypes import int32 as int
from .engine import (
    enable_grad,
    inference_mode,
    is_anomaly_enabled,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_anomaly_enabled,
    set_grad_enabled,
)
from .ops import FUNCTIONS as _FUNCTIONS
from .printing import set_printoptions
from .tensor import Size, Tensor
from .version import __version__

detach, detach_ = Tensor.detach, Tensor.detach_
get_num_threads = _cpu.get_num_threads
set_num_threads = _blas.set_num_threads

# What programs pass as memory_format; it is accepted, and elements are in C order all the same.
preserve_format, contiguous_format, channels_last = "preserve_format", "contiguous_format", "channels_last"

inf, nan, pi, e = _math.inf, _math.nan, _math.pi, _math.e

globals().update({name: getattr(_creation, name) for name in _creation.__all__})
globals().update(_FUNCTIONS)
globals().update({name: getattr(random, name) for name in random.__all__})

_MODULES = {"accelerator", "amp", "autograd", "backends", "compiler", "cuda", "data", "distributions", "func", "io"}
_MODULES |= {"distributed", "linalg", "monitor", "nn", "optim", "profiler", "special", "testing", "utils", "viz", "xpu"}
_FROM = {
    "amp": ("autocast",),
    "amp.autocast_mode": ("get_autocast_dtype", "is_autocast_enabled"),
    "backends": (
        "are_deterministic_algorithms_enabled",
        "get_float32_matmul_precision",
        "is_deterministic_algorithms_warn_only_enabled",
        "set_float32_matmul_precision",
        "use_deterministic_algorithms",
    ),
    "capture": ("compile",),
    "func": ("vmap",),
    "io": ("save", "load"),
    "nn.functional": (
        "bilinear",
        "celu_",
        "channel_shuffle",
        "cosine_similarity",
        "group_norm",
        "hardshrink",
        "layer_norm",
        "pairwise_distance",
        "pixel_shuffle",
        "pixel_unshuffle",
        "prelu",
        "rms_norm",
        "rrelu",
        "rrelu_",
        "threshold_",
    ),
    "nn.functional.native": (
        "adaptive_max_pool1d",
        "alpha_dropout",
        "alpha_dropout_",
        "batch_norm",
        "binary_cross_entropy_with_logits",
        "constant_pad_nd",
        "cosine_embedding_loss",
        "dropout",
        "dropout_",
        "embedding",
        "feature_alpha_dropout",
        "feature_alpha_dropout_",
        "feature_dropout",
        "feature_dropout_",
        "hinge_embedding_loss",
        "instance_norm",
        "kl_div",
        "margin_ranking_loss",
        "poisson_nll_loss",
        "triplet_margin_loss",
    ),
}
_LAZY = {name: module for module, names in _FROM.items() for name in names}


def __getattr__(name: str) -> _Any:
    if name in _MODULES:
        return _importlib.import_module(f".{name}", __name__)
    if name == "bfloat16":
        value = globals()[name] = _dtypes.bfloat16()
        return value
    if name in _LAZY:
        value = globals()[name] = getattr(_importlib.import_module(f".{_LAZY[name]}", __name__), name)
        return value
    raise AttributeError(f"module 'gpugrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_LAZY})
