"""Losses that training spends its time in, each as one op; ``gpugrad.nn.functional`` has all of them."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..backend import fused, module_of
from .core import op
from .reduction import total
from .softmax import _row_product_sum
from .windows import working_dtype

_FEW = 64
"""Classes up to which NumPy's passes are quicker over a matrix that lies class by class than along its short rows."""

# Classes: losses whose target says which class is right, one for each row of (N, C, ...).


def _places(xp: Any, index: Any, classes: int) -> Any:
    """Where the classes ``index`` (N, ...) lie in a flattened (N, C, ...)."""
    batch = index.shape[0]
    rest = math.prod(index.shape[1:])
    if rest == 1:
        return xp.arange(batch) * classes + index.reshape(-1)
    return xp.arange(batch)[:, None] * (classes * rest) + index.reshape(batch, rest) * rest + xp.arange(rest)


def _at_classes(xp: Any, array: Any, index: Any) -> tuple[Any, Any]:
    """The memory of an (N, C, ...) in one dimension, and where in it the classes ``index`` (N, ...) lie."""
    if array.flags.c_contiguous:
        return array.reshape(-1), _places(xp, index, array.shape[1])
    return array.T.reshape(-1), index * len(index) + xp.arange(len(index))


def _choice(
    xp: Any, target: Any, weight: Any, classes: int, ignore_index: int, reduction: str, dtype: Any
) -> tuple[Any, Any, Any, Any]:
    """The class of each row (0 for an ignored one), what its loss is multiplied by, that without the class's weight,
    and which rows count.

    The multipliers are one number when all rows are alike; which rows count is None when all do.

    Raises:
        IndexError: a target is no class; from a CUDA device when the host next waits for it.
    """
    index = target.astype(np.int64, copy=False)
    mean = reduction == "mean"
    if xp is np:
        # As unsigned numbers, negative ones are out of bounds too: one pass finds both.
        within = not index.size or index.view(np.uint64).max() < classes
        if not within:
            wrong = index[(index != ignore_index) & ((index < 0) | (index >= classes))]
            if wrong.size:
                message, error = fused.softmax.NO_CLASS
                raise error(message.format(wrong=wrong[0]))
        if within and not 0 <= ignore_index < classes:
            if weight is None:
                share = 1.0 / max(1, index.size) if mean else 1.0
                return index, share, share, None
            factors = weight[index]
            total = factors.sum()
            return index, factors / total if mean else factors, 1 / total if mean else 1.0, None
    elif index.size:
        fused.indexing.check_range(index, 0, classes, fused.softmax.NO_CLASS, ignore_index)
    counted = index != ignore_index
    index = xp.where(counted, index, 0)
    share = counted.astype(dtype)
    factors = share if weight is None else share * weight[index]
    if mean:
        count = factors.sum()
        # Where no row counts the mean is NaN, but its gradient is 0.
        factors, share = (xp.where(counted, each / count, each) for each in (factors, share))
    return index, factors, share, counted


def _combined(xp: Any, values: Any, factors: Any, counted: Any, reduction: str) -> Any:
    if counted is not None:
        # Not by the factor 0: an ignored row may hold anything.
        values = xp.where(counted, values, 0)
    if reduction == "none":
        return values if isinstance(factors, float) else values * factors
    if reduction == "mean" and not values.size:
        return math.nan
    dims = tuple(range(values.ndim))
    if isinstance(factors, float):
        return total(xp, values, dims, False) * factors
    found = total(xp, values * factors, dims, False)
    return found / counted.any() if reduction == "mean" and counted is not None else found


def _class_samples(t: Any) -> list[Any]:
    weight = t(3, low=0.5, high=2.0)
    return [
        (t(4, 3), t.ints(4, high=3), None, -100, "mean"),
        (t(4, 3), t.ints(4, high=3), weight, 1, "sum"),
        (t(2, 3, 2), t.ints(2, 2, high=3), weight, -100, "mean"),
        (t(2, 3, 2, 2), t.ints(2, 2, 2, high=3), None, 0, "none"),
    ]


def _torch_call(function: Any, input: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    return function(input, target, weight, ignore_index=ignore_index, reduction=reduction)


def _smoothed_samples(t: Any) -> list[Any]:
    plain = _class_samples(t)
    return [(*args, 0.0) for args in plain] + [(*args, 0.25) for args in plain]


def _torch_cross_entropy(torch: Any, *args: Any) -> Any:
    *given, label_smoothing = args
    entropy = functools.partial(torch.nn.functional.cross_entropy, label_smoothing=label_smoothing)
    return _torch_call(entropy, *given)


@op(aux=True, samples=_smoothed_samples, torch=_torch_cross_entropy, tests={"constant": ("weight",)})
def cross_entropy(xp, input, target, weight, /, ignore_index, reduction, label_smoothing, recording):
    # aux: exponentials, their sums, classes and factors, from which the gradient is one pass.
    dtype = working_dtype(input.dtype)
    index, factors, share, counted = _choice(xp, target, weight, input.shape[1], ignore_index, reduction, dtype)
    wide = input.astype(dtype, copy=False)
    if xp is np and wide.ndim == 2 and wide.shape[1] <= _FEW:
        shifted = xp.empty(wide.shape[::-1], dtype).T
        shifted[...] = wide
        wide = shifted
    else:
        shifted = xp.empty(wide.shape, dtype)
    highest = xp.max(wide, axis=1, keepdims=True) if wide.size else 0
    xp.subtract(wide, highest, out=shifted)
    memory, places = _at_classes(xp, shifted, index)
    values = memory.take(places).reshape(index.shape)
    if label_smoothing:
        classes = xp.ones(input.shape[1], dtype) if weight is None else weight.astype(dtype, copy=False)
        rest = total(xp, shifted if weight is None else shifted * _over_classes(classes, shifted), (1,), False)
    exponentials = xp.exp(shifted, out=shifted)
    sums = total(xp, exponentials, (1,), False)
    logarithms = xp.log(sums)
    xp.subtract(logarithms, values, out=values)
    result = _combined(xp, values, factors, counted, reduction)
    if label_smoothing:
        even = _combined(xp, classes.sum() * logarithms - rest, share, counted, reduction)
        result = (1 - label_smoothing) * result + (label_smoothing / input.shape[1]) * even
    return xp.asarray(result, dtype=input.dtype), (exponentials, sums, index, factors, share)


def _over_classes(weight: Any, like: Any) -> Any:
    """A number for each class as something to multiply an array or tensor (N, C, ...) by."""
    return weight.reshape((-1,) + (1,) * (like.ndim - 2))


@cross_entropy.aux_rule
def _cross_entropy_aux(F, input, target, weight, ignore_index, reduction):
    array, weights = F.array(input), None if weight is None else F.array(weight)
    xp, dtype = module_of(array), working_dtype(array.dtype)
    index, factors, share, _ = _choice(xp, F.array(target), weights, array.shape[1], ignore_index, reduction, dtype)
    wide = F.to_dtype(input, dtype)
    highest = xp.max(F.array(wide), axis=1, keepdims=True) if array.size else F.array(wide)
    exponentials = F.exp(wide - F.constant(highest))
    factors, share = (each if isinstance(each, float) else F.constant(xp.asarray(each)) for each in (factors, share))
    return exponentials, F.sum(exponentials, (1,), False), F.constant(index), factors, share


def _scaled(F: Any, g: Any, made: tuple[Any, Any]) -> Any:
    """The gradient of logits that the fused kernel has made already, for a loss of gradient 1."""
    gradient, divisor = made
    return gradient if divisor is None and F.is_one(g) else F.scaled_rows(gradient, g, divisor)


def _cross_entropy_rule(F: Any, g: Any, weight: Any, label_smoothing: float, aux: Any) -> Any:
    if len(aux) == 2:
        return _scaled(F, g, aux)
    exponentials, sums, index, factors, share = aux
    rows = g * factors
    # In a backward after which nobody needs the exponentials, the gradient takes their memory.
    slope = _over if F.is_one(g) else F.class_gradient
    if not label_smoothing:
        return slope(exponentials, rows / sums, rows, index)
    rows = rows * (1 - label_smoothing)
    even = g * share * (label_smoothing / exponentials.shape[1])
    spread = F.reshape(even, _beside(even)) if even.ndim else even
    if weight is None:
        count: Any = exponentials.shape[1]
    else:
        weight = F.to_dtype(weight, exponentials.dtype)
        count, spread = F.sum(weight, (0,), False), spread * _over_classes(weight, exponentials)
    return slope(exponentials, (rows + even * count) / sums, rows, index) - spread


cross_entropy.kernel(fused.softmax.cross_entropy)
cross_entropy.rules(input=_cross_entropy_rule)


def _probable_samples(t: Any) -> list[Any]:
    weight = t(3, low=0.5, high=2.0)
    return [
        (t(4, 3), t(4, 3, low=0.0, high=1.0), None, "mean", 0.0),
        (t(4, 3), t(4, 3, low=0.0, high=1.0), weight, "sum", 0.25),
        (t(2, 3, 2), t(2, 3, 2, low=0.0, high=1.0), weight, "mean", 0.0),
        (t(2, 3, 2, 2), t(2, 3, 2, 2, low=0.0, high=1.0), None, "none", 0.25),
    ]


def _torch_soft(torch: Any, input: Any, target: Any, weight: Any, reduction: str, label_smoothing: float) -> Any:
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    return torch.nn.functional.cross_entropy(input, target, weight, **options)


def _shares(target: Any, weight: Any, label_smoothing: float) -> Any:
    """What the logarithms of the classes' probabilities are multiplied by, but for the sign."""
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / max(1, target.shape[1])
    return target if weight is None else target * _over_classes(weight, target)


@op(aux=True, samples=_probable_samples, torch=_torch_soft, tests={"constant": ("weight",)})
def soft_cross_entropy(xp, input, target, weight, /, reduction, label_smoothing, recording):
    # The target (N, C, ...) says how probable each class is. aux: exponentials, their sums and those of the shares.
    dtype = working_dtype(input.dtype)
    shares = _shares(target.astype(dtype, copy=False), weight, label_smoothing)
    shifted = input.astype(dtype, copy=False)
    highest = xp.max(shifted, axis=1, keepdims=True) if shifted.size else 0
    shifted = xp.subtract(shifted, highest, out=xp.empty(shifted.shape, dtype))
    rest = _row_product_sum(xp, shares, shifted, 1).reshape(shifted.shape[:1] + shifted.shape[2:])
    exponentials = xp.exp(shifted, out=shifted)
    sums, whole = (total(xp, each, (1,), False) for each in (exponentials, shares))
    values = whole * xp.log(sums) - rest if input.size or reduction == "mean" else sums
    return _reduced(xp, values, reduction, input.dtype), (exponentials, sums, whole)


@soft_cross_entropy.aux_rule
def _soft_aux(F, input, target, weight, label_smoothing):
    wide = F.to_dtype(input, working_dtype(input.dtype))
    highest = F.constant(module_of(F.array(wide)).max(F.array(wide), axis=1, keepdims=True)) if wide.size else wide
    exponentials = F.exp(wide - highest)
    shares = _shares(F.to_dtype(target, wide.dtype), weight, label_smoothing)
    return exponentials, F.sum(exponentials, (1,), False), F.sum(shares, (1,), False)


def _by_row(F: Any, g: Any, shape: tuple[int, ...], reduction: str) -> Any:
    """The gradient of each row's own loss, to multiply (N, C, ...) with."""
    if reduction == "none":
        return F.reshape(g, _beside(g))
    return g * (1.0 / max(1, math.prod(shape) // max(1, shape[1]))) if reduction == "mean" else g


def _soft_input_rule(
    F: Any, g: Any, input_shape: Any, target: Any, weight: Any, reduction: str, label_smoothing: float, aux: Any
) -> Any:
    if len(aux) == 2:
        return _scaled(F, g, aux)
    exponentials, sums, whole = aux
    g = _by_row(F, F.to_dtype(g, exponentials.dtype), input_shape, reduction)
    shares = _shares(F.to_dtype(target, exponentials.dtype), weight, label_smoothing)
    return exponentials * (F.reshape(whole / sums, _beside(sums)) * g) - shares * g


def _soft_target_rule(F: Any, g: Any, input: Any, weight: Any, reduction: str, label_smoothing: float) -> Any:
    g = _by_row(F, g, tuple(input.shape), reduction) * (label_smoothing - 1)
    found = F.log_softmax(input, 1) * g
    return found if weight is None else found * _over_classes(weight, found)


soft_cross_entropy.kernel(fused.softmax.soft_cross_entropy)
soft_cross_entropy.rules(input=_soft_input_rule, target=_soft_target_rule)


@op(
    samples=lambda t: [(t(4, 3), t(4), t()), (t(4, 3), t(), None), (t(2, 3, 2), t(2, 2), None)],
    torch=None,
    differentiable=False,
)
def scaled_rows(xp, input, scale, divisor, /):
    # (N, C, ...) times ``scale``, one number or one for each row, divided by ``divisor``, one number unless None or 0.
    by = scale if divisor is None else scale / xp.where(divisor == 0, 1, divisor)
    return xp.asarray(input * (by.reshape(_beside(by)) if by.ndim else by), input.dtype)


scaled_rows.kernel(fused.softmax.scaled_rows)


def _beside(array: Any) -> tuple[int, ...]:
    """The shape of (N, ...) with a dimension for classes."""
    return (array.shape[0], 1, *array.shape[1:])


@op(
    samples=lambda t: [(t(4, 3), t(4), t(4), t.ints(4, high=3)), (t(2, 3, 2), t(2, 2), t(), t.ints(2, 2, high=3))],
    torch=None,
)
def class_gradient(xp, input, scale, rows, index, /):
    # Each row times its scale, less ``rows`` at its class.
    by_class = input.ndim == 2 and input.flags.f_contiguous
    return _sloped(xp, input, scale, rows, index, xp.empty(input.shape, input.dtype, order="F" if by_class else "C"))


def _sloped(xp: Any, input: Any, scale: Any, rows: Any, index: Any, out: Any) -> Any:
    xp.multiply(input, scale.reshape(_beside(scale)), out=out)
    memory, places = _at_classes(xp, out, index)
    memory[places] -= rows.reshape(places.shape) if rows.shape == index.shape else rows
    return out


def _over(input: Any, scale: Any, rows: Any, index: Any) -> Any:
    """``class_gradient`` in the memory of its input."""
    return _sloped(module_of(input), input, scale, rows, index, input)


def _at_class(F: Any, g: Any, index: Any) -> Any:
    return F.reshape(F.gather(g, F.reshape(index, _beside(index)), 1), tuple(index.shape))


class_gradient.rules(
    input=lambda F, g, scale: g * F.reshape(scale, _beside(scale)),
    scale=lambda F, g, input: F.sum(g * input, (1,), False),
    rows=lambda F, g, index: -_at_class(F, g, index),
)


@op(
    aux=True,
    samples=_class_samples,
    torch=lambda torch, *args: _torch_call(torch.nn.functional.nll_loss, *args),
    tests={"constant": ("weight",)},
)
def nll_loss(xp, input, target, weight, /, ignore_index, reduction, recording):
    index, factors, _, counted = _choice(xp, target, weight, input.shape[1], ignore_index, reduction, input.dtype)
    values = -input.reshape(-1).take(_places(xp, index, input.shape[1])).reshape(index.shape)
    result = _combined(xp, values, factors, counted, reduction)
    return xp.asarray(result, dtype=input.dtype), (index, factors)


def _nll_rule(F: Any, g: Any, input_shape: Any, aux: Any) -> Any:
    index, factors = aux
    return F.at_class(
        -g * (factors if isinstance(factors, float) else F.constant(factors)), F.constant(index), input_shape[1]
    )


nll_loss.rules(input=_nll_rule)


@op(samples=lambda t: [(t(4), t.ints(4, high=3), 3), (t(), t.ints(2, 2, high=3), 3)], torch=None)
def at_class(xp, input, index, /, classes):
    # Zeros with ``input`` at the class of each row.
    out = xp.zeros((index.shape[0], classes, *index.shape[1:]), input.dtype)
    places = _places(xp, index, classes)
    out.reshape(-1)[places] = xp.broadcast_to(input, index.shape).reshape(places.shape)
    return out


at_class.rules(input=lambda F, g, index: _at_class(F, g, index))


# Losses between two tensors of one shape.


def _pair_samples(*params: Any) -> Any:
    return lambda t: [(t(2, 3), t(2, 3), *params, reduction) for reduction in ("mean", "sum", "none")]


def _torch_pair(name: str, *names: str) -> Any:
    def call(torch: Any, input: Any, target: Any, *params: Any) -> Any:
        return getattr(torch.nn.functional, name)(
            input, target, **dict(zip((*names, "reduction"), params, strict=True))
        )

    return call


def _reduced(xp: Any, values: Any, reduction: str, dtype: Any) -> Any:
    if reduction != "none":
        count = values.size
        values = total(xp, values, tuple(range(values.ndim)), False)
        if reduction == "mean":
            values = values / (count or math.nan)
    return xp.asarray(values, dtype=dtype)


def _difference(xp: Any, input: Any, target: Any) -> Any:
    return xp.asarray(xp.subtract(input, target, dtype=working_dtype(input.dtype)))


def _share(g: Any, input: Any, target: Any, reduction: str) -> Any:
    """The gradient of each element's own loss."""
    if reduction != "mean":
        return g
    count = math.prod(np.broadcast_shapes(tuple(input.shape), tuple(target.shape)))
    return g * (1.0 / count) if count else g


@op(samples=_pair_samples(), torch=_torch_pair("mse_loss"))
def mse_loss(xp, input, target, /, reduction):
    values = _difference(xp, input, target)
    values *= values
    return _reduced(xp, values, reduction, input.dtype)


# Each of these losses is the same both ways round, and so are its rules.
mse_loss.rules(
    input=lambda F, g, input, target, reduction: (input - target) * (_share(g, input, target, reduction) * 2),
    target=lambda F, g, input, target, reduction: (target - input) * (_share(g, input, target, reduction) * 2),
)


@op(samples=_pair_samples(), torch=_torch_pair("l1_loss"))
def l1_loss(xp, input, target, /, reduction):
    values = _difference(xp, input, target)
    return _reduced(xp, xp.abs(values, out=values), reduction, input.dtype)


l1_loss.rules(
    input=lambda F, g, input, target, reduction: F.sign(input - target) * _share(g, input, target, reduction),
    target=lambda F, g, input, target, reduction: F.sign(target - input) * _share(g, input, target, reduction),
)


@op(samples=_pair_samples(0.75), torch=_torch_pair("huber_loss", "delta"))
def huber_loss(xp, input, target, /, delta, reduction):
    values = _difference(xp, input, target)
    xp.abs(values, out=values)
    near = xp.minimum(values, delta)
    values -= near / 2
    values *= near
    return _reduced(xp, values, reduction, input.dtype)


def _huber(F: Any, g: Any, input: Any, target: Any, delta: float, reduction: str) -> Any:
    return F.clamp(input - target, -delta, delta) * _share(g, input, target, reduction)


huber_loss.rules(
    input=_huber,
    target=lambda F, g, input, target, delta, reduction: _huber(F, g, target, input, delta, reduction),
)


def _probable(*params: Any) -> Any:
    return lambda t: [
        (t(2, 3, low=0.1, high=0.9), t(2, 3, low=0.1, high=0.9), "mean"),
        (t(4, low=0.1, high=0.9), t(4, low=0.1, high=0.9), "sum"),
        (t(2, 3, low=0.1, high=0.9), t(2, 3, low=0.1, high=0.9), "none"),
    ]


@op(samples=_probable(), torch=_torch_pair("binary_cross_entropy"))
def binary_cross_entropy(xp, input, target, /, reduction):
    wide = input.astype(working_dtype(input.dtype), copy=False)
    values = xp.maximum(xp.log1p(-wide), -100) * (target - 1) - xp.maximum(xp.log(wide), -100) * target
    return _reduced(xp, values, reduction, input.dtype)


binary_cross_entropy.rules(
    input=lambda F, g, input, target, reduction: (
        (input - target) / F.clamp((1 - input) * input, 1e-12, None) * _share(g, input, target, reduction)
    ),
    target=lambda F, g, input, reduction: (F.log1p(-input) - F.log(input)) * _share(g, input, input, reduction),
)


@op(samples=_pair_samples(), torch=_torch_pair("binary_cross_entropy_with_logits"))
def binary_cross_entropy_with_logits(xp, input, target, /, reduction):
    # max(x, 0) - x t + log(1 + exp(-|x|)): no exponential overflows.
    wide = input.astype(working_dtype(input.dtype), copy=False)
    values = xp.abs(wide, out=xp.empty_like(wide))
    xp.negative(values, out=values)
    xp.exp(values, out=values)
    xp.log1p(values, out=values)
    values += xp.maximum(wide, 0)
    values -= wide * target
    return _reduced(xp, values, reduction, input.dtype)


binary_cross_entropy_with_logits.rules(
    input=lambda F, g, input, target, reduction: (F.sigmoid(input) - target) * _share(g, input, target, reduction),
    target=lambda F, g, input, target_shape, reduction: -input * _share(g, input, np.empty(target_shape), reduction),
)
