"""Losses."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ...backend import dtypes, graph, module_of, on
from ...creation import zeros_like
from ...ops import FUNCTIONS, REGISTRY
from ...ops.core import as_tensors
from ...tensor import Tensor
from .activations import logsigmoid
from .layers import pairwise_distance

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "ctc_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def _reduction(reduction: str, size_average: bool | None = None, reduce: bool | None = None, *more: str) -> str:
    """The reduction asked for, in the present way or in PyTorch's old one.

    Raises:
        ValueError: there is no such reduction.
    """
    if size_average is not None or reduce is not None:
        size_average = True if size_average is None else size_average
        reduction = "none" if reduce is False else "mean" if size_average else "sum"
        warnings.warn(
            f"size_average and reduce args will be deprecated, please use reduction={reduction!r} instead.",
            stacklevel=3,
        )
    if reduction not in ("none", "mean", "sum", *more):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def _reduced(values: Tensor, reduction: str) -> Tensor:
    return values.mean() if reduction == "mean" else values.sum() if reduction == "sum" else values


def _floats(name: str, *tensors: Any) -> list[Any]:
    """Tensors, in their common dtype.

    Raises:
        NotImplementedError: that is not a floating-point dtype.
    """
    found = list(as_tensors(name, tensors))
    dtype = dtypes.result_type(*[(t.dtype, 2) for t in found])
    if not dtypes.is_floating(dtype):
        raise NotImplementedError(f"{name} is not implemented for {dtype} tensors; convert them with .float()")
    return [t if t.dtype == dtype else t.to(dtype) for t in found]


def _pair(name: str, input: Any, target: Any) -> list[Any]:
    input, target = _floats(name, input, target)
    if input.shape != target.shape:
        warnings.warn(
            f"{name}: Using a target size ({tuple(target.shape)}) that is different to the input size "
            f"({tuple(input.shape)}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=3,
        )
        try:
            input, target = FUNCTIONS["broadcast_tensors"](input, target)
        except RuntimeError as error:
            raise RuntimeError(f"{name}: {error}") from None
    return [input, target]


def _weighted(values: Tensor, weight: Tensor, reduction: str) -> Tensor:
    """Losses with a weight for each: their mean is divided by the weights' sum.

    Raises:
        ValueError: there is not one weight for each.
    """
    if weight.shape != values.shape:
        raise ValueError(
            f"Weights and input must have the same size, but got {tuple(weight.shape)} and {tuple(values.shape)}."
        )
    values = values * weight
    return values.sum() / weight.sum() if reduction == "mean" else _reduced(values, reduction)


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """The squared difference of ``input`` and ``target``.

    Args:
        reduction: "mean" or "sum" over all elements, or "none".
        weight: of each element; "mean" then divides by their sum.

    Raises:
        RuntimeError: the shapes do not fit.
        ValueError: the reduction is unknown, or the weights have another shape.
    """
    reduction = _reduction(reduction, size_average, reduce)
    input, target = _pair("mse_loss", input, target)
    if weight is None:
        return REGISTRY["mse_loss"](input, target, reduction)
    return _weighted(REGISTRY["mse_loss"](input, target, "none"), weight, reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """The absolute difference of ``input`` and ``target``; for the arguments see :func:`mse_loss`."""
    reduction = _reduction(reduction, size_average, reduce)
    input, target = _pair("l1_loss", input, target)
    if weight is None:
        return REGISTRY["l1_loss"](input, target, reduction)
    return _weighted(REGISTRY["l1_loss"](input, target, "none"), weight, reduction)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """Half the squared difference where that is at most ``delta``, beyond that a straight line (Huber 1964).

    Raises:
        RuntimeError: ``delta`` is not positive, or the shapes do not fit.
        ValueError: the reduction is unknown, or the weights have another shape.
    """
    reduction = _reduction(reduction)
    if delta <= 0:
        raise RuntimeError(f"huber_loss does not support non-positive values for delta, got {delta}.")
    input, target = _pair("huber_loss", input, target)
    if weight is None:
        return REGISTRY["huber_loss"](input, target, delta, reduction)
    if weight.shape != input.shape:
        raise ValueError(
            f"Weights and input must have the same size, but got {tuple(weight.shape)} and {tuple(input.shape)}."
        )
    return _reduced(REGISTRY["huber_loss"](input, target, delta, "none") * weight, reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """:func:`huber_loss` with ``delta=beta``, divided by ``beta``; with ``beta=0`` the absolute difference.

    Raises:
        RuntimeError: ``beta`` is negative, or the shapes do not fit.
        ValueError: the reduction is unknown.
    """
    reduction = _reduction(reduction, size_average, reduce)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss does not support negative values for beta, got {beta}.")
    input, target = _pair("smooth_l1_loss", input, target)
    if beta == 0:
        return REGISTRY["l1_loss"](input, target, reduction)
    loss = REGISTRY["huber_loss"](input, target, beta, reduction)
    return loss if beta == 1 else loss / beta


def _class_rows(name: str, input: Any, target: Any, weight: Any) -> tuple[Any, Any, Any, bool]:
    """Scores as (N, C, ...) and the classes or probabilities that belong to them; and whether N had to be added.

    Raises:
        ValueError, RuntimeError: they do not fit each other.
    """
    input, target, weight = as_tensors(name, (input, target, weight))
    shape, places = input._data.shape, target._data.shape
    if not input.is_floating_point():
        raise NotImplementedError(f"{name} is not implemented for {input.dtype} scores; convert them with .float()")
    if not shape:
        raise RuntimeError(f"{name}: expected scores (C), (N, C) or (N, C, ...), but got a 0-d tensor")
    single = len(shape) == 1
    classes = shape[0 if single else 1]
    if weight is not None:
        if tuple(weight.shape) != (classes,):
            raise RuntimeError(
                f"weight tensor should be defined either for all {classes} classes or no classes but got weight tensor "
                f"of shape: {list(weight.shape)}"
            )
        if weight.requires_grad:
            raise RuntimeError(f"{name} is not differentiable with respect to weight; give it weight.detach()")
        if weight.dtype != input.dtype:
            raise RuntimeError(f"{name}: expected weight of dtype {input.dtype}, but found {weight.dtype}")
    if places == shape:
        return (input.unsqueeze(0), target.unsqueeze(0), weight, True) if single else (input, target, weight, False)
    if target.dtype not in (dtypes.int64, dtypes.uint8):
        raise RuntimeError(
            f"expected target dtype to be int64 or uint8, but got {target.dtype}; convert it with .long()"
        )
    if single:
        if target._data.size != 1 or len(places) > 1:
            raise ValueError(f"Expected one target for scores of shape {shape}, got {places}.")
        return input.unsqueeze(0), target.reshape(1), weight, not places
    if not places or places[0] != shape[0]:
        raise ValueError(
            f"Expected input batch_size ({shape[0]}) to match target batch_size ({places[0] if places else 1})."
        )
    expected = (shape[0], *shape[2:])
    if len(shape) == 2 and len(places) > 1:
        raise RuntimeError(
            f"0D or 1D target tensor expected, multi-target not supported; got a target of shape {places}"
        )
    if places != expected:
        raise RuntimeError(f"Expected target size {list(expected)}, got {list(places)}")
    return input, target, weight, False


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """How badly scores predict classes: minus the log-softmax of the right one.

    Args:
        input: scores (C), (N, C) or (N, C, ...), unnormalised.
        target: the right class of each row, (), (N) or (N, ...) of int64; or probabilities in the shape of ``input``.
        weight: (C), of each class; "mean" then divides by the sum of the targets' weights.
        ignore_index: rows with this target do not count.
        reduction: "mean" or "sum" over the rows, or "none".
        label_smoothing: this share of each target is spread evenly over all classes.

    Raises:
        IndexError: a target is no class (on the CPU).
        ValueError, RuntimeError: shapes or dtypes do not fit, or an argument is out of range.
    """
    reduction = _reduction(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    rows, target, weight, single = _class_rows("cross_entropy", input, target, weight)
    if target._data.shape == rows._data.shape:
        loss = _probabilities_loss(rows, target, weight, ignore_index, reduction, label_smoothing)
    else:
        loss = REGISTRY["cross_entropy"](rows, target, weight, ignore_index, reduction, float(label_smoothing))
    return loss.squeeze(0) if single and reduction == "none" else loss


def _probabilities_loss(
    rows: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    if not target.is_floating_point():
        raise RuntimeError(f"Expected floating point type for target with class probabilities, got {target.dtype}")
    if ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    dtype = dtypes.promote(rows.dtype, target.dtype)
    inputs = [None if t is None else t.to(dtype) for t in (rows, target, weight)]
    return REGISTRY["soft_cross_entropy"](*inputs, reduction, float(smoothing))


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability of the right class; for the arguments see :func:`cross_entropy`.

    Args:
        input: log-probabilities (C), (N, C) or (N, C, ...).
    """
    reduction = _reduction(reduction, size_average, reduce)
    rows, target, weight, single = _class_rows("nll_loss", input, target, weight)
    if target.ndim == rows.ndim:
        raise RuntimeError(
            f"nll_loss expects classes as targets, but got {target.dtype} of shape {tuple(target.shape)}"
        )
    loss = REGISTRY["nll_loss"](rows, target, weight, ignore_index, reduction)
    return loss.squeeze(0) if single and reduction == "none" else loss


def _lengths(name: str, lengths: Any, count: int, most: int, like: Tensor) -> tuple[Tensor, list[int] | None]:
    """The length of each sample, beside ``like``, and as numbers where these are known without waiting for a device.

    Raises:
        RuntimeError: they are no ints, not one for each sample, or (where known) not between 0 and ``most``.
        TypeError: they are neither a tensor nor a sequence of ints.
    """
    if not isinstance(lengths, Tensor):
        if not isinstance(lengths, tuple | list) or any(not hasattr(n, "__index__") for n in lengths):
            raise TypeError(f"ctc_loss(): {name} must be a tensor or a tuple of ints, but got {lengths!r}")
        with on(like.device):
            array = np.array([n.__index__() for n in lengths], np.int64)
            lengths, known = Tensor._wrap(graph.constant(module_of(like._data), array)), array.tolist()
    else:
        if lengths.dtype.kind not in "iu":
            raise RuntimeError(f"{name} must be integral, but got {lengths.dtype}")
        known = None if lengths.is_cuda else lengths.reshape(-1).tolist()
        lengths = lengths.reshape(-1).to(like.device, dtypes.int64)
    if tuple(lengths.shape) != (count,):
        raise RuntimeError(f"{name} must be of size batch_size: expected {count}, but got {lengths.numel()}")
    for n in known or ():
        if not 0 <= n <= most:
            raise RuntimeError(f"Expected {name} to have value at least 0 and at most {most}, but got value {n}")
    return lengths, known


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Minus the log-probability of label sequences, in any alignment to the time steps (Graves et al. 2006).

    The gradient is that of the scores before ``log_softmax``, as in PyTorch: ``log_softmax`` hands it on as it is.
    It cannot be differentiated again.

    Args:
        log_probs: (T, N, C), or (T, C) for a single sample: log-probabilities, from ``log_softmax``.
        targets: classes (N, S), padded; or (sum of the lengths), one after the other; or (S) for a single sample.
        input_lengths, target_lengths: (N), or () for a single sample; tensors or tuples of ints. Where targets come
            one after the other and their lengths are on a CUDA device, these are waited for.
        blank: the class that stands for no label.
        reduction: "mean" divides each loss by its target length (if that is not 0), and averages; or "sum" or "none".
        zero_infinity: count samples whose target fits no alignment as 0, with no gradient, instead of as infinite.

    Raises:
        RuntimeError: shapes, lengths or the blank do not fit.
        IndexError: a target is no class (on the CPU).
        NotImplementedError: ``log_probs`` are no floats.
        ValueError: the reduction is unknown.
    """
    name = "ctc_loss"
    reduction = _reduction(reduction)
    if isinstance(input_lengths, Tensor) != isinstance(target_lengths, Tensor):
        raise TypeError("ctc_loss(): input_lengths and target_lengths must both be tensors or both tuples of ints")
    (log_probs,), (targets,) = as_tensors(name, (log_probs,)), as_tensors(name, (targets,))
    if not log_probs.is_floating_point():
        raise NotImplementedError(
            f"{name} is not implemented for {log_probs.dtype} tensors; convert them with .float()"
        )
    single = log_probs.ndim == 2
    rows = log_probs.unsqueeze(1) if single else log_probs
    if rows.ndim != 3:
        raise RuntimeError(f"{name}: expected log_probs (T, N, C) or (T, C), but got shape {list(log_probs.shape)}")
    if not rows.numel():
        raise RuntimeError(f"{name}: log_probs tensor must not be empty, but got shape {list(log_probs.shape)}")
    steps, count, classes = rows.shape
    if not 0 <= blank < classes:
        raise RuntimeError(f"blank must be in label range: expected 0 to {classes - 1}, but got {blank}")
    if targets.ndim not in (1, 2):
        raise RuntimeError(f"{name}: expected targets of 1 or 2 dimensions, but got shape {list(targets.shape)}")
    targets = targets.to(log_probs.device, dtypes.int64)
    # A row of its own for each sample, in which there is room for all that could be meant.
    joined, room = targets.ndim == 1, targets.shape[-1]
    input_lengths, _ = _lengths("input_lengths", input_lengths, count, steps, rows)
    target_lengths, known = _lengths("target_lengths", target_lengths, count, room, rows)
    if joined:
        known = target_lengths.tolist() if known is None else known
        if sum(known) != room:
            raise RuntimeError(
                f"{name}: expected targets of size {sum(known)}, the target lengths' sum, but got {room}"
            )
        places = np.concatenate([[0], np.cumsum(known)])[:-1, None] + np.arange(max(known))
        with on(rows.device):
            index = graph.constant(module_of(rows._data), np.minimum(places, max(room - 1, 0)))
        targets = targets[Tensor._wrap(index)] if room else targets.reshape(1, 0).expand(count, 0)
    if targets.shape[0] != count:
        raise RuntimeError(f"{name}: expected targets of {count} samples, but got shape {list(targets.shape)}")
    losses = REGISTRY[name](rows, targets, input_lengths, target_lengths, blank, bool(zero_infinity))
    if reduction == "mean":
        return (losses / target_lengths.clamp(min=1).to(losses.dtype)).mean()
    return losses.squeeze(0) if single and reduction == "none" else _reduced(losses, reduction)


def _between(name: str, what: str, t: Tensor) -> None:
    # On a CUDA device looking would mean waiting for it.
    if t._data.size and not t.is_cuda and not (t._data.min() >= 0 and t._data.max() <= 1):
        raise RuntimeError(f"{name}: all elements of {what} should be between 0 and 1")


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``-(t log(x) + (1 - t) log(1 - x))``, the logarithms not below -100.

    Args:
        input, target: probabilities, of one shape.
        weight: of each element, broadcast.
        reduction: "mean" or "sum" over all elements, or "none".

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
        RuntimeError: the dtypes differ, or an element is not between 0 and 1 (on the CPU).
    """
    name = "binary_cross_entropy"
    reduction = _reduction(reduction, size_average, reduce)
    input, target, weight = as_tensors(name, (input, target, weight))
    if target.shape != input.shape:
        raise ValueError(
            f"{name}: Using a target size ({tuple(target.shape)}) that is different to the input size "
            f"({tuple(input.shape)}) is deprecated. Please ensure they have the same size."
        )
    if not input.is_floating_point() or target.dtype != input.dtype:
        raise RuntimeError(f"{name}: Found dtype {target.dtype} but expected {input.dtype}; convert it with .to()")
    _between(name, "input", input)
    _between(name, "target", target)
    if weight is None:
        return REGISTRY[name](input, target, reduction)
    return _reduced(REGISTRY[name](input, target, "none") * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """:func:`binary_cross_entropy` of the sigmoid of ``input``, stable wherever that is 0 or 1.

    Args:
        input: scores, unnormalised.
        target: probabilities, of the same shape.
        weight: of each element, broadcast.
        reduction: "mean" or "sum" over all elements, or "none".
        pos_weight: of the ``t log(x)`` part, broadcast: above 1 for more recall.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    name = "binary_cross_entropy_with_logits"
    reduction = _reduction(reduction, size_average, reduce)
    input, target = _floats(name, input, target)
    if target.shape != input.shape:
        raise ValueError(f"Target size ({tuple(target.shape)}) must be the same as input size ({tuple(input.shape)})")
    if weight is None and pos_weight is None:
        return REGISTRY[name](input, target, reduction)
    if pos_weight is None:
        values = REGISTRY[name](input, target, "none")
    else:
        values = (1 - target) * input - (1 + (pos_weight - 1) * target) * logsigmoid(input)
    return _reduced(values if weight is None else values * weight, reduction)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """The Kullback-Leibler divergence ``t (log(t) - x)``.

    Args:
        input: log-probabilities.
        target: probabilities, or their logarithms with ``log_target``.
        reduction: "batchmean" divides the sum by the first dimension's size, which is what the definition says;
            else "mean" or "sum" over all elements, or "none".

    Raises:
        ValueError: the reduction is unknown.
    """
    reduction = _reduction(reduction, size_average, reduce, "batchmean")
    if reduction == "mean" and size_average is None and reduce is None:
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size. 'batchmean' divides "
            "only by the batch size, and aligns with the KL div math definition.",
            stacklevel=2,
        )
    input, target = _floats("kl_div", input, target)
    values = target.exp() * (target - input) if log_target else target.xlogy(target) - target * input
    if reduction == "batchmean":
        return values.sum() / input.shape[0] if input.ndim else values.sum()
    return _reduced(values, reduction)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-likelihood of counts ``target`` under a Poisson distribution.

    Args:
        input: the logarithm of the distribution's mean, or the mean itself without ``log_input``.
        full: add Stirling's approximation of log(target!) for targets above 1.
        eps: added to a mean before its logarithm is taken.

    Raises:
        ValueError: the reduction is unknown.
    """
    reduction = _reduction(reduction, size_average, reduce)
    input, target = _floats("poisson_nll_loss", input, target)
    values = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        values = values + stirling.masked_fill(target <= 1, 0.0)
    return _reduced(values, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-likelihood of ``target`` under a normal distribution of mean ``input`` and variance ``var``.

    Args:
        var: the variance: a number, a tensor of the input's shape, or one that has size 1 in one dimension or
            lacks the last one.
        full: add the constant term.
        eps: variances count as at least this (their gradients ignore it).

    Raises:
        ValueError: a variance is negative, ``var`` has another shape, or the reduction is unknown.
    """
    reduction = _reduction(reduction)
    input, target = _floats("gaussian_nll_loss", input, target)
    spread = var if isinstance(var, Tensor) else input.detach() * 0 + var
    if not spread.is_cuda and bool((spread._data < 0).any()):
        raise ValueError("var has negative entry/entries")
    if spread.shape != input.shape:
        if input.shape[:-1] == spread.shape:
            spread = spread.unsqueeze(-1)
        elif input.ndim != spread.ndim or sum(a != b for a, b in zip(input.shape, spread.shape, strict=True)) != 1:
            raise ValueError(f"var is of incorrect size: {tuple(spread.shape)} for an input of {tuple(input.shape)}")
    spread = spread + (spread.detach().clamp(min=eps) - spread.detach())
    values = 0.5 * (spread.log() + (input - target) ** 2 / spread)
    return _reduced(values + 0.5 * math.log(2 * math.pi) if full else values, reduction)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``input`` where the target is 1, ``max(0, margin - input)`` where it is -1."""
    reduction = _reduction(reduction, size_average, reduce)
    input, target = _floats("hinge_embedding_loss", input, target)
    far = (margin - input).clamp(min=0).masked_fill(target == 1, 0.0)
    return _reduced(far + input.masked_fill(target == -1, 0.0), reduction)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``log(1 + exp(-t x))`` for targets 1 and -1."""
    reduction = _reduction(reduction, size_average, reduce)
    input, target = _floats("soft_margin_loss", input, target)
    return _reduced(-logsigmoid(target * input), reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """:func:`binary_cross_entropy_with_logits`, averaged over the classes in the last dimension.

    Args:
        weight: of each class.
    """
    reduction = _reduction(reduction, size_average, reduce)
    values = binary_cross_entropy_with_logits(input, target, weight, reduction="none")
    return _reduced(values.mean(-1), reduction)


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The sum over right classes r and wrong ones w of ``max(0, 1 - x[r] + x[w])``, divided by the number of classes.

    Args:
        input: scores (C) or (N, C).
        target: the right classes, in the same shape; what comes after the first -1 does not count.

    Raises:
        RuntimeError: the shapes do not fit, or the targets are not int64.
        ValueError: the reduction is unknown.
    """
    name = "multilabel_margin_loss"
    reduction = _reduction(reduction, size_average, reduce)
    input, target = as_tensors(name, (input, target))
    if input.shape != target.shape or input.ndim not in (0, 1, 2):
        raise RuntimeError(
            f"{name}: expected scores (C) or (N, C) and targets of the same shape, but got {list(input.shape)} and "
            f"{list(target.shape)}"
        )
    if target.dtype != dtypes.int64:
        raise RuntimeError(
            f"{name}: expected targets of dtype int64, but got {target.dtype}; convert them with .long()"
        )
    rows, classes = (t if t.ndim == 2 else t.reshape(1, t.numel()) for t in (input, target))
    counted = (classes >= 0).cumprod(1)
    right = classes.clamp(min=0) * counted
    wrong = zeros_like(classes).scatter_add(1, right, counted) == 0
    values = (1 - rows.gather(1, right).unsqueeze(2) + rows.unsqueeze(1)).clamp(min=0)
    values = values.masked_fill(~(counted.bool().unsqueeze(2) & wrong.unsqueeze(1)), 0.0).sum((1, 2)) / rows.shape[1]
    return _reduced(values.squeeze(0) if input.ndim < 2 else values, reduction)


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over the wrong classes of ``max(0, margin - x[right] + x[wrong]) ** p``.

    Args:
        input: scores (C) or (N, C).
        target: the right classes, () or (N).
        p: 1 or 2.
        weight: (C), of the right classes.

    Raises:
        ValueError: ``p`` is neither 1 nor 2, or the reduction is unknown.
        RuntimeError, ValueError: the shapes do not fit.
    """
    reduction = _reduction(reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    rows, target, weight, single = _class_rows("multi_margin_loss", input, target, weight)
    right = rows.gather(1, target.unsqueeze(1))
    values = (margin - right + rows).clamp(min=0) ** p
    if weight is not None:
        values = values * weight[target].unsqueeze(1)
    values = values.scatter(1, target.unsqueeze(1), 0.0).sum(1) / rows.shape[1]
    return _reduced(values.squeeze(0) if single else values, reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``max(0, -t (x1 - x2) + margin)``: 1 says that ``input1`` should be the larger, -1 the smaller.

    Raises:
        RuntimeError: the tensors differ in their number of dimensions.
        ValueError: the reduction is unknown.
    """
    reduction = _reduction(reduction, size_average, reduce)
    input1, input2, target = _floats("margin_ranking_loss", input1, input2, target)
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(
            f"margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: "
            f"{tuple(input1.shape)}, input2: {tuple(input2.shape)}, target: {tuple(target.shape)}"
        )
    return _reduced((-target * (input1 - input2) + margin).clamp(min=0), reduction)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``1 - cos(x1, x2)`` where the target is 1, ``max(0, cos(x1, x2) - margin)`` where it is -1.

    Args:
        input1, input2: (N, D), or (D).
        target: (N), or ().

    Raises:
        RuntimeError: the shapes do not fit.
        ValueError: the reduction is unknown.
    """
    reduction = _reduction(reduction, size_average, reduce)
    input1, input2 = _floats("cosine_embedding_loss", input1, input2)
    if target.ndim not in (0, 1) or input1.ndim != target.ndim + 1 or input2.ndim != target.ndim + 1:
        raise RuntimeError(
            f"cosine_embedding_loss: {target.ndim}D target tensor expects {target.ndim + 1}D input tensors, but found "
            f"inputs with sizes {list(input1.shape)} and {list(input2.shape)}."
        )
    tiny = 1e-12
    lengths = ((input1 * input1).sum(-1) + tiny) * ((input2 * input2).sum(-1) + tiny)
    cosine = (input1 * input2).sum(-1) / lengths.sqrt()
    near = (1 - cosine).masked_fill(target != 1, 0.0)
    far = (cosine - margin).clamp(min=0).masked_fill(target != -1, 0.0)
    return _reduced(near + far, reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``max(0, |anchor - positive| - |anchor - negative| + margin)``, the lengths in the p-norm.

    Args:
        swap: count the smaller of the distances of ``negative`` to the other two.

    Raises:
        ValueError: the margin is not positive, or the reduction is unknown.
    """
    reduction = _reduction(reduction, size_average, reduce)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = far.minimum(pairwise_distance(positive, negative, p, eps))
    return _reduced((near - far + margin).clamp(min=0), reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """As :func:`triplet_margin_loss`, for any distance of two tensors; :func:`pairwise_distance` unless given.

    Raises:
        ValueError: the margin is not positive, or the reduction is unknown.
        RuntimeError: the tensors differ in their number of dimensions.
    """
    reduction = _reduction(reduction)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
            f"anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs"
        )
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    return _reduced((margin + near - far).clamp(min=0), reduction)
