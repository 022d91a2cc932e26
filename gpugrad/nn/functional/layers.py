"""Linear maps, embeddings, normalisation, dropout, distances and attention."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numpy as np

from ...backend import dtypes, graph, lazy, module_of, on
from ...creation import arange, full_like, ones_like
from ...engine import no_grad
from ...ops import FUNCTIONS, REGISTRY, core
from ...ops.core import as_tensors, autocasting
from ...ops.dropout import drop
from ...ops.matmul import checked_linear
from ...tensor import Tensor

__all__ = [
    "alpha_dropout",
    "batch_norm",
    "bilinear",
    "cosine_similarity",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "embedding",
    "embedding_bag",
    "feature_alpha_dropout",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "linear",
    "local_response_norm",
    "normalize",
    "one_hot",
    "pad",
    "pairwise_distance",
    "rms_norm",
    "scaled_dot_product_attention",
]

pad = FUNCTIONS["pad"]
linear = checked_linear


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x1 @ weight[k] @ x2 + bias[k]`` for each k: (..., A), (..., B) and (K, A, B) to (..., K).

    Raises:
        RuntimeError: the shapes do not fit.
    """
    input1, input2, weight = as_tensors("bilinear", (input1, input2, weight))
    if input1.shape[:-1] != input2.shape[:-1]:
        raise RuntimeError(
            f"bilinear(): input dimensions do not match: got {list(input1.shape)} and {list(input2.shape)}"
        )
    if weight.ndim != 3 or (input1.shape[-1], input2.shape[-1]) != tuple(weight.shape[1:]):
        raise RuntimeError(
            f"bilinear(): inputs of {input1.shape[-1]} and {input2.shape[-1]} features do not fit a weight of shape "
            f"{list(weight.shape)}"
        )
    count, first, second = weight.shape
    rows = input1.reshape(-1, first)
    mixed = (rows @ weight.permute(1, 0, 2).reshape(first, count * second)).reshape(-1, count, second)
    result = (mixed * input2.reshape(-1, 1, second)).sum(-1).reshape(*input1.shape[:-1], count)
    return result if bias is None else result + bias


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of ``weight`` that ``input`` names.

    Args:
        input: ints of any shape.
        weight: (rows, features).
        padding_idx: this row gets no gradient.
        max_norm: rows used that are longer are shortened to it first, in place, in the ``norm_type`` norm.
        scale_grad_by_freq: divide each row's gradient by how often the row was used.
        sparse: accepted for PyTorch programs; gradients are dense.

    Raises:
        IndexError: an index is out of range.
        RuntimeError: ``input`` holds no ints, or ``weight`` is no matrix.
        AssertionError: ``padding_idx`` is out of range.
    """
    input, weight = as_tensors("embedding", (input, weight))
    if input.dtype.kind not in "iu":
        raise RuntimeError(
            f"embedding: expected indices of an integer dtype, but got {input.dtype}; convert with .long()"
        )
    if weight.ndim != 2:
        raise RuntimeError(f"'weight' must be 2-D, but got a weight of shape {list(weight.shape)}")
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise AssertionError(f"Padding_idx must be within num_embeddings, but got {padding_idx} for {rows} rows")
        padding_idx %= rows
    if max_norm is not None:
        with no_grad():
            used = FUNCTIONS["unique"](input.detach().reshape(-1))
            values = weight.detach()[used]
            lengths = values.norm(norm_type, 1, True)
            weight[used] = values * (max_norm / (lengths + 1e-7)).clamp(max=1.0)
    return REGISTRY["embedding"](weight, input, padding_idx, bool(scale_grad_by_freq))


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or maximum of the rows of ``weight`` in each bag: (bags, features); zeros for an empty bag.

    Args:
        input: ints (bags, L), or (n), bag after bag.
        weight: (rows, features).
        offsets: (bags), where in an ``input`` of one dimension each bag begins.
        max_norm, norm_type, scale_grad_by_freq, sparse: as for :func:`embedding`; the last two not with "max".
        mode: "sum", "mean" or "max", for which the lengths of the bags are waited for on a CUDA device.
        per_sample_weights: of the shape of ``input``, what rows are multiplied by; for "sum".
        include_last_offset: the last of the offsets says where the last bag ends.
        padding_idx: this row counts for nothing.

    Raises:
        ValueError: shapes do not fit, or an option that the mode does not have.
        RuntimeError: ``input`` holds no ints, dtypes do not fit, or (on the CPU) the offsets do not fall into it in
            order, from 0 on.
        IndexError: an index is out of range (on the CPU).
        NotImplementedError: ``per_sample_weights`` with another mode than "sum".
    """
    name = "embedding_bag"
    input, weight, offsets, weights = as_tensors(name, (input, weight, offsets, per_sample_weights))
    if weights is not None and weights.shape != input.shape:
        raise ValueError(
            f"{name}: If per_sample_weights ({tuple(weights.shape)}) is not None, then it must have the same shape as "
            f"the input ({tuple(input.shape)})"
        )
    if weight.ndim != 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.ndim}")
    if input.ndim not in (1, 2):
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}")
    if input.ndim == 2 and offsets is not None:
        raise ValueError("if input is 2D, then offsets has to be None, as each of its rows is a bag")
    if input.ndim == 1 and (offsets is None or offsets.ndim != 1):
        raise ValueError(f"offsets has to be a 1D Tensor but got {None if offsets is None else list(offsets.shape)}")
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"mode has to be one of sum, mean or max, but got {mode!r}")
    if mode == "max" and (scale_grad_by_freq or sparse):
        what = "scaling the gradient by the frequency" if scale_grad_by_freq else "sparse weights"
        raise ValueError(f"max mode does not support {what}")
    if weights is not None and mode != "sum":
        raise NotImplementedError(f"{name}: per_sample_weights is only supported for mode='sum' (got mode={mode!r})")
    if weights is not None and weights.dtype != weight.dtype:
        raise RuntimeError(f"{name}: expected per_sample_weights of dtype {weight.dtype}, but got {weights.dtype}")
    kept = None
    if padding_idx is not None:
        count = weight.shape[0]
        if not -count <= padding_idx < count:
            raise RuntimeError(
                f"padding_idx must be within the number of embeddings, {-count} through {count - 1}, but got "
                f"{padding_idx}"
            )
        kept = input != padding_idx % count
    rows = embedding(input, weight, None, max_norm, norm_type, scale_grad_by_freq)
    if offsets is not None:
        _check_offsets(input, offsets, include_last_offset)
        bags = len(offsets) - include_last_offset
        if not bags:
            return rows[:0]
        if mode == "max":
            rows, kept = _apart(rows, offsets, kept)
    if mode == "max":
        if kept is not None:
            rows = rows.masked_fill(~kept.unsqueeze(2), -math.inf)
        found = rows.max(1)[0] if rows.shape[1] else rows.sum(1)
        found = found if kept is None else found.masked_fill(~kept.any(1, True), 0.0)
        return found if offsets is None else found[:bags]
    rows = rows if weights is None else rows * weights.unsqueeze(-1)
    rows = rows if kept is None else rows.masked_fill(~kept.unsqueeze(-1), 0.0)
    ones = None if mode == "sum" else (ones_like(input) if kept is None else kept).to(rows.dtype)
    if offsets is not None:
        places = arange(len(input), device=input.device)
        owners = FUNCTIONS["searchsorted"](offsets.to(places.dtype), places, right=True) - 1

    def in_bags(t: Tensor) -> Tensor:
        return t.sum(1) if offsets is None else REGISTRY["index_sum"](t, owners, 0, len(offsets))[:bags]

    return in_bags(rows) if ones is None else in_bags(rows) / in_bags(ones).clamp(min=1).unsqueeze(1)


def _check_offsets(input: Tensor, offsets: Tensor, include_last: bool) -> None:
    """Refuse offsets that do not cut ``input`` into bags; on a device their values are not waited for.

    Raises:
        RuntimeError: they do not.
    """
    if offsets.dtype.kind not in "iu":
        raise RuntimeError(f"embedding_bag: expected offsets of an integer dtype, but got {offsets.dtype}")
    if include_last and not len(offsets):
        raise RuntimeError("include_last_offset: number of offset should be at least 1")
    if offsets.is_cuda or not len(offsets):
        return
    values = offsets.numpy(force=True)
    if values[0] != 0 or values[-1] > len(input) or (np.diff(values) < 0).any():
        raise RuntimeError(
            f"embedding_bag: offsets[0] has to be 0, none can be less than the one before, and offsets[-1] can not be "
            f"greater than input's length {len(input)}; got {offsets.tolist()}"
        )


def _apart(rows: Tensor, offsets: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    """Bags that come one after the other as (bags, longest, features), and which rows count."""
    starts = offsets.to(dtypes.int64)
    ends = FUNCTIONS["cat"]([starts[1:], full_like(starts[:1], len(rows))])
    longest = int((ends - starts).max())
    places = starts.unsqueeze(1) + arange(longest, device=rows.device)
    inside = places < ends.unsqueeze(1)
    places = places.clamp(max=max(len(rows) - 1, 0))
    return rows[places], inside if kept is None else inside & kept[places]


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A new last dimension of int64 zeros with a 1 at each class.

    Args:
        num_classes: as many as the largest class asks for if -1.

    Raises:
        RuntimeError: the classes are not int64, negative, or too large.
    """
    (tensor,) = as_tensors("one_hot", (tensor,))
    if tensor.dtype != dtypes.int64:
        raise RuntimeError(f"one_hot is only applicable to index tensor of type int64, but got {tensor.dtype}")
    if num_classes == -1:
        if not tensor._data.size:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        num_classes = int(tensor._data.max()) + 1
    elif num_classes < 1 and tensor._data.size:
        raise RuntimeError(f"num_classes should be positive, but got {num_classes}")
    return REGISTRY["one_hot"](tensor, num_classes)


def _check_dtypes(name: str, input: Tensor, *others: Tensor | None) -> None:
    if not input.is_floating_point():
        raise NotImplementedError(f"{name} is not implemented for {input.dtype} tensors; convert them with .float()")
    for t in others:
        # Statistics and weights of 16-bit networks may stay in float32.
        if t is not None and t.dtype != input.dtype and not (input.itemsize == 2 and t.dtype == np.float32):
            raise RuntimeError(f"{name}: expected parameters of dtype {input.dtype}, the input's, but got {t.dtype}")


def _normalized_shape(name: str, input: Tensor, normalized_shape: Any, *parameters: Tensor | None) -> tuple[int, ...]:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(int(n) for n in normalized_shape)
    if not shape:
        raise RuntimeError(f"Expected normalized_shape to be at least 1-dimensional, but got {shape}")
    if tuple(input.shape[-len(shape) :]) != shape or input.ndim < len(shape):
        expected = ", ".join(map(str, ("*", *shape)))
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape [{expected}], but got input of "
            f"size{list(input.shape)}"
        )
    for t in parameters:
        if t is not None and tuple(t.shape) != shape:
            raise RuntimeError(
                f"{name}: Expected weight and bias to be of same shape as normalized_shape, but got one of shape "
                f"{list(t.shape)} and normalized_shape = {list(shape)}"
            )
    _check_dtypes(name, input, *parameters)
    return shape


def _standardized_rows(
    input: Tensor, shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float, centered: bool
) -> Tensor:
    if autocasting and centered:
        (input,) = autocasting[-1]("layer_norm", (input,))
    if input.ndim == len(shape):
        return _standardized_rows(input.unsqueeze(0), shape, weight, bias, eps, centered).squeeze(0)
    dims = tuple(range(input.ndim - len(shape), input.ndim))
    return REGISTRY["standardize"](input, weight, bias, dims, eps, centered)


def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Subtract the mean over the last dimensions and divide by the standard deviation (Ba, Kiros and Hinton 2016).

    Args:
        normalized_shape: of those dimensions, and of ``weight`` and ``bias``, which then scale and shift.
        eps: added to the variance.

    Raises:
        RuntimeError: the shapes or dtypes do not fit.
    """
    shape = _normalized_shape("layer_norm", input, normalized_shape, weight, bias)
    return _standardized_rows(input, shape, weight, bias, eps, True)


def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """Divide by the root of the mean square over the last dimensions (Zhang and Sennrich 2019).

    Args:
        normalized_shape: of those dimensions, and of ``weight``, which then scales.
        eps: added to the mean square; the dtype's epsilon unless given.

    Raises:
        RuntimeError: the shapes or dtypes do not fit.
    """
    shape = _normalized_shape("rms_norm", input, normalized_shape, weight)
    eps = float(np.finfo(input.dtype).eps) if eps is None else eps
    return _standardized_rows(input, shape, weight, None, eps, False)


def _per_channel(t: Tensor, ndim: int) -> Tensor:
    return t.reshape(1, -1, *(1,) * (ndim - 2))


def _affine(input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """A weight and a bias for each channel of (N, C, ...)."""
    if weight is not None and bias is not None:
        weight, bias = _per_channel(weight, input.ndim), _per_channel(bias, input.ndim)
        return FUNCTIONS["addcmul"](bias.to(input.dtype), input, weight.to(input.dtype))
    if weight is not None:
        return input * _per_channel(weight, input.ndim).to(input.dtype)
    return input if bias is None else input + _per_channel(bias, input.ndim).to(input.dtype)


def _check_channels(name: str, input: Tensor, channels: int, **parameters: Tensor | None) -> None:
    for label, t in parameters.items():
        if t is not None and tuple(t.shape) != (channels,):
            raise RuntimeError(f"{name}: {label} should contain {channels} elements not {t._data.size}")
    core.check_same_device(name, [t._data for t in (input, *parameters.values()) if t is not None])
    _check_dtypes(name, input, *parameters.values())


def _update(running: Tensor | None, value: Any, momentum: float) -> None:
    """Move running statistics towards new ones, in place."""
    if running is not None:
        data = core.memory_to_change(running)
        data *= 1 - momentum
        data += (lazy.settled(value).reshape(data.shape) * momentum).astype(data.dtype, copy=False)
        running._bump()


def _normalized_by_running(
    input: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    scale = (var.detach() + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -mean.detach() * scale
    return _affine(input, scale, shift if bias is None else shift + bias)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Subtract each channel's mean and divide by its standard deviation (Ioffe and Szegedy 2015).

    Args:
        input: (N, C) or (N, C, ...).
        running_mean, running_var: (C); used instead of the batch's unless ``training``, when they are moved
            towards the batch's (unbiased) ones, in place.
        weight, bias: (C), which then scale and shift.
        momentum: how far the running statistics move.
        eps: added to the variance.

    Raises:
        RuntimeError: shapes or dtypes do not fit, or statistics are missing.
        ValueError: ``training`` with a single value per channel.
    """
    name = "batch_norm"
    if input.ndim < 2:
        raise RuntimeError(f"{name}: expected an input (N, C) or (N, C, ...), but got one of shape {list(input.shape)}")
    channels = input.shape[1]
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    _check_channels(name, input, channels, **given)
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError("Expected running_mean and running_var to be defined when training=False")
        return _normalized_by_running(input, running_mean, running_var, weight, bias, eps)
    count = input._data.size // max(1, channels)
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(input.shape)}")
    dims = (0, *range(2, input.ndim))
    result, (mean, var) = REGISTRY["standardize"].apply_with_aux((input, weight, bias), (dims, eps, True))
    if input._data.size:
        _update(running_mean, mean, momentum)
        _update(running_var, var * (count / (count - 1)), momentum)
    return result


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As :func:`batch_norm`, with the statistics of each channel of each sample (Ulyanov et al. 2016).

    Args:
        input: (N, C, ...).
        use_input_stats: use the input's statistics, and move the running ones, if given, towards their means.

    Raises:
        RuntimeError: shapes or dtypes do not fit, or statistics are missing.
        ValueError: a single value per channel.
    """
    name = "instance_norm"
    if input.ndim < 3:
        raise RuntimeError(f"{name}: expected an input (N, C, ...), but got one of shape {list(input.shape)}")
    channels = input.shape[1]
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    _check_channels(name, input, channels, **given)
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError("Expected running_mean and running_var to be defined when use_input_stats=False")
        return _normalized_by_running(input, running_mean, running_var, weight, bias, eps)
    count = math.prod(input.shape[2:])
    if count == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {tuple(input.shape)}")
    params = (tuple(range(2, input.ndim)), eps, True)
    result, (mean, var) = REGISTRY["standardize"].apply_with_aux((input, None, None), params)
    if input._data.size:
        _update(running_mean, mean.mean(axis=0), momentum)
        _update(running_var, var.mean(axis=0) * (count / (count - 1)), momentum)
    return _affine(result, weight, bias)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalise each sample's groups of channels (Wu and He 2018).

    Args:
        input: (N, C, ...).
        weight, bias: (C), which then scale and shift.

    Raises:
        RuntimeError: shapes or dtypes do not fit, or C does not divide by ``num_groups``.
        ValueError: a single value per group.
    """
    if input.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}")
    batch, channels = input.shape[:2]
    if num_groups <= 0 or channels % num_groups:
        raise RuntimeError(
            "Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(input.shape)} and num_groups={num_groups}"
        )
    _check_channels("group_norm", input, channels, weight=weight, bias=bias)
    if batch * channels // num_groups * math.prod(input.shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(input.shape)}")
    if autocasting:
        (input,) = autocasting[-1]("group_norm", (input,))
    groups = input.reshape(batch, num_groups, channels // num_groups * math.prod(input.shape[2:]))
    result = REGISTRY["standardize"](groups, None, None, (2,), eps, True)
    return _affine(result.reshape(input.shape), weight, bias)


def local_response_norm(input: Tensor, size: int, alpha: float = 0.0001, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divide by ``(k + alpha * mean of squares over size neighbouring channels) ** beta`` (Krizhevsky et al. 2012).

    Raises:
        ValueError: ``input`` is not (N, C, ...).
    """
    if input.ndim < 3:
        raise ValueError(f"Expected 3D or higher dimensionality input (got {input.ndim} dimensions)")
    if not input._data.size:
        return input
    squares = (input * input).reshape(input.shape[0], input.shape[1], -1)
    around = pad(squares, (0, 0, size // 2, (size - 1) // 2))
    means = REGISTRY["avg_pool"](around.unsqueeze(1), (size, 1), (1, 1), (0, 0), tuple(squares.shape[1:]), True, None)
    return input / (means.reshape(input.shape) * alpha + k) ** beta


def normalize(input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    """``input`` divided by its p-norm along ``dim``, or by ``eps`` where that is larger.

    Raises:
        RuntimeError: ``out`` is given.
    """
    if out is not None:
        raise RuntimeError("normalize: the argument out is not supported; assign the result")
    return input / input.norm(p, dim, True).clamp(min=eps)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability ``p`` while training, and scale the rest by 1 / (1 - p).

    Raises:
        ValueError: ``p`` is not between 0 and 1.
    """
    return drop("dropout", input, p, training, inplace)


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout that keeps the mean and variance of what SELU gives (Klambauer et al. 2017); see :func:`dropout`."""
    return drop("alpha_dropout", input, p, training, inplace)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """:func:`alpha_dropout` of whole channels of (N, C, ...)."""
    return drop("feature_alpha_dropout", input, p, training, inplace)


def _drop_channels(name: str, dims: int, input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    if input.ndim == dims + 1:
        result = drop("feature_dropout", input.unsqueeze(0), p, training, inplace).squeeze(0)
        return input if inplace else result
    if input.ndim != dims + 2:
        raise RuntimeError(f"{name}: Expected {dims + 1}D or {dims + 2}D input, but received a {input.ndim}D input.")
    return drop("feature_dropout", input, p, training, inplace)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of (N, C, L) or (C, L) with probability ``p`` while training, and scale the rest.

    Raises:
        ValueError: ``p`` is not between 0 and 1.
        RuntimeError: another number of dimensions.
    """
    return _drop_channels("dropout1d", 1, input, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of (N, C, H, W) with probability ``p`` while training, and scale the rest.

    Three dimensions are taken as (N, C, L), and others too, with a warning, as in PyTorch.

    Raises:
        ValueError: ``p`` is not between 0 and 1.
    """
    if input.ndim != 4:
        warnings.warn(
            f"dropout2d: Received a {input.ndim}-D input; its first two dimensions are taken as samples and channels. "
            "Use dropout1d for (N, C, L), or dropout.",
            stacklevel=2,
        )
    return drop("feature_dropout", input, p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of (N, C, D, H, W) or (C, D, H, W) with probability ``p`` while training, and scale the rest.

    Raises:
        ValueError: ``p`` is not between 0 and 1.
        RuntimeError: another number of dimensions.
    """
    return _drop_channels("dropout3d", 3, input, p, training, inplace)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between ``x1`` and ``x2`` along ``dim``, with lengths of at least ``eps``."""
    x1, x2 = FUNCTIONS["broadcast_tensors"](*as_tensors("cosine_similarity", (x1, x2)))
    units = [x / x.norm(2, dim, True).clamp(min=eps) for x in (x1, x2)]
    return (units[0] * units[1]).sum(dim)


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of ``x1 - x2 + eps`` along the last dimension."""
    x1, x2 = as_tensors("pairwise_distance", (x1, x2))
    return (x1 - x2 + eps).norm(p, -1, keepdim)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``softmax(query @ key.T * scale + mask) @ value`` (Vaswani et al. 2017).

    Args:
        query, key, value: (..., L, E), (..., S, E) and (..., S, E_v).
        attn_mask: broadcast to (..., L, S): True where a query may look, or floats that are added.
        dropout_p: the share of attention weights dropped, always: pass 0 outside training.
        is_causal: a query looks only at its own position and those before.
        scale: 1 / sqrt(E) unless given.
        enable_gqa: repeat the heads (dimension -3) of key and value to the number of the query's.

    Queries that may look nowhere get zeros.

    Raises:
        RuntimeError: ``is_causal`` with a mask, dtypes or shapes that do not fit, or an integer mask.
    """
    name = "scaled_dot_product_attention"
    query, key, value = as_tensors(name, (query, key, value))
    if query.dtype != key.dtype or query.dtype != value.dtype:
        raise RuntimeError(
            f"Expected query, key, and value to have the same dtype, but got query.dtype: {query.dtype} key.dtype: "
            f"{key.dtype} and value.dtype: {value.dtype} instead."
        )
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise RuntimeError(f"{name}: Expected query, key, and value to all be at least 2 dimensional")
    if is_causal and attn_mask is not None:
        raise RuntimeError("Explicit attn_mask should not be set when is_causal=True")
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if key.is_cuda:
        # Else each product with them, forward and backward, would make copies of what has gaps.
        key, value = key.contiguous(), value.contiguous()
    scores = (query * scale) @ key.transpose(-2, -1)
    blind = None
    if is_causal:
        with on(query.device):
            later = graph.constant(module_of(query._data), _later(*scores.shape[-2:]))
        scores = scores.masked_fill(Tensor._wrap(later), -math.inf)
    elif attn_mask is not None:
        if attn_mask.dtype.kind != "b" and attn_mask.dtype != scores.dtype:
            raise RuntimeError(
                "Expected attn_mask dtype to be bool or to match query dtype, but got attn_mask.dtype: "
                f"{attn_mask.dtype} and query.dtype: {query.dtype} instead."
            )
        blind = _blind_rows(attn_mask)
        if blind is not None:
            attn_mask = attn_mask.masked_fill(blind, attn_mask.dtype.kind == "b")
        scores = (
            scores.masked_fill(attn_mask.logical_not(), -math.inf)
            if attn_mask.dtype.kind == "b"
            else scores + attn_mask
        )
    weights = FUNCTIONS["softmax"](scores, -1)
    weights = weights if blind is None else weights.masked_fill(blind, 0.0)
    return drop("dropout", weights, dropout_p, True, False) @ value


@functools.lru_cache(16)
def _later(queries: int, keys: int) -> np.ndarray:
    """Which keys come after each query."""
    return np.arange(keys) > np.arange(queries)[:, None]


def _blind_rows(mask: Tensor) -> Tensor | None:
    """The rows of an attention mask that let nothing through; None on the CPU when there are none."""
    seen = mask if mask.dtype.kind == "b" else mask.detach() > -math.inf
    blind = ~seen.any(-1, True)
    return blind if mask.is_cuda or bool(blind.any()) else None
