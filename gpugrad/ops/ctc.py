"""Connectionist temporal classification: the sum over all alignments of labels to time steps.

Graves et al., "Connectionist temporal classification: labelling unsegmented sequence data with recurrent neural
networks", 2006.  The recursions run over time, each step on all samples and labels at once, in logarithms.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import module_of
from .core import op, raw
from .windows import working_dtype


def _states(xp: Any, targets: Any, target_lengths: Any, blank: int) -> tuple[Any, Any]:
    """The labels (N, 2 S + 1) with a blank before, between and after them, and where the blank between may be left out.

    Labels beyond a sample's length are blanks: no path that ends within the length comes through them.
    """
    batch, longest = targets.shape
    labels = xp.full((batch, 2 * longest + 1), blank, np.int64)
    within = xp.arange(longest) < target_lengths[:, None]
    labels[:, 1::2] = xp.where(within, targets, blank)
    skips = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    return labels, skips


def _emitted(xp: Any, log_probs: Any, labels: Any) -> Any:
    """The log-probabilities (T, N, L) of the labels (N, L)."""
    classes = log_probs.shape[2]
    places = xp.arange(labels.shape[0])[:, None] * classes + labels
    return log_probs.reshape(log_probs.shape[0], -1)[:, places]


def _log_sum(xp: Any, terms: Any) -> Any:
    """The logarithm of the sum of exponentials along the first dimension; minus infinity for nothing but that."""
    highest = terms.max(axis=0)
    highest = xp.where(highest == -math.inf, 0, highest)
    return xp.log(xp.exp(terms - highest).sum(axis=0)) + highest


def _step(xp: Any, paths: Any, skips: Any) -> Any:
    """What a path's logarithm becomes when it stays where it is, moves on by one state, or by two."""
    terms = xp.full((3, *paths.shape), -math.inf, paths.dtype)
    terms[0] = paths
    terms[1, :, 1:] = paths[:, :-1]
    terms[2, :, 2:] = xp.where(skips, paths[:, :-2], -math.inf)
    return _log_sum(xp, terms)


def _ctc_samples(t: Any) -> list[Any]:
    targets, flat = np.array([[1, 2, 2], [3, 1, 0]]), np.array([[2, 0, 1, 1]])
    lengths = [np.array(each) for each in ([6, 5], [3, 2], [4], [4], [5, 0], [3, 0])]
    probs = [t(*shape).log_softmax(2) for shape in ((6, 2, 4), (5, 1, 4), (5, 2, 4))]
    return [
        (probs[0], targets, *lengths[:2], 0, False),
        (probs[1], flat, *lengths[2:4], 3, True),
        (probs[1], flat, np.array([2]), lengths[3], 3, True),
        (probs[2], targets, *lengths[4:], 0, False),
    ]


def _torch_ctc(torch: Any, *args: Any) -> Any:
    *given, blank, zero_infinity = args
    return torch.nn.functional.ctc_loss(*given, blank=blank, reduction="none", zero_infinity=zero_infinity)


@op(
    aux=True,
    samples=_ctc_samples,
    torch=_torch_ctc,
    tests={"not_the_derivative": (0, 1, 2, 3)},
)
def ctc_loss(xp, log_probs, targets, input_lengths, target_lengths, /, blank, zero_infinity, recording):
    # (T, N, C), (N, S), (N), (N) to (N). aux: the labels, the paths up to each state, and the losses.
    # The gradient is that of the logits, as PyTorch's: log_softmax hands it on as it is.
    steps, batch, classes = log_probs.shape
    labels, skips = _states(xp, targets, target_lengths, blank)
    if xp is np and labels.size and not (labels.min() >= 0 and labels.max() < classes):
        wrong = labels[(labels < 0) | (labels >= classes)][0]
        raise IndexError(f"ctc_loss: target {wrong} is out of bounds for {classes} classes")
    emitted = _emitted(xp, log_probs.astype(working_dtype(log_probs.dtype), copy=False), labels)
    paths = xp.empty(emitted.shape, emitted.dtype)
    if steps:
        paths[0] = -math.inf
        paths[0, :, :2] = emitted[0, :, :2]
    for k in range(1, steps):
        xp.add(_step(xp, paths[k - 1], skips), emitted[k], out=paths[k])
    rows = xp.arange(batch)
    # A path ends with the last label or the blank after it. Before the first step there is only the empty one.
    last = xp.maximum(input_lengths - 1, 0)
    end = 2 * target_lengths
    ends = xp.stack([paths[last, rows, end], paths[last, rows, xp.maximum(end - 1, 0)]])
    ends[1] = xp.where(target_lengths > 0, ends[1], -math.inf)
    before = xp.where(target_lengths == 0, 0.0, -math.inf).astype(paths.dtype)
    losses = -xp.where(input_lengths == 0, before, _log_sum(xp, ends))
    result = xp.where(losses == math.inf, 0, losses) if zero_infinity else losses
    return result.astype(log_probs.dtype, copy=False), (labels, paths, losses)


def _ctc_rule(
    F: Any, g: Any, log_probs: Any, input_lengths: Any, target_lengths: Any, blank: int, zero_infinity: bool, aux: Any
) -> Any:
    labels, paths, losses = (F.constant(each) for each in aux)
    return F.ctc_gradient(g, log_probs, labels, input_lengths, target_lengths, paths, losses, blank, zero_infinity)


ctc_loss.rules(log_probs=_ctc_rule)


def _gradient_samples(t: Any) -> list[Any]:
    found = []
    for args in _ctc_samples(t):
        arrays, params = [each if isinstance(each, np.ndarray) else each.numpy() for each in args[:4]], args[4:]
        _, aux = ctc_loss.compute((*arrays, *params), np, True)
        found.append((t(arrays[0].shape[1]), args[0], aux[0], *arrays[2:], *aux[1:], *params))
    return found


@op(samples=_gradient_samples, torch=None, tests={"constant": ("log_probs", "paths", "losses")})
def ctc_gradient(xp, input, log_probs, labels, input_lengths, target_lengths, paths, losses, /, blank, zero_infinity):
    # The gradient of logits: their softmax less how probable each class is, given the labels.
    steps, batch, classes = log_probs.shape
    states = labels.shape[1]
    wide = log_probs.astype(paths.dtype, copy=False)
    emitted = _emitted(xp, wide, labels)
    skips = ((labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2]))[:, ::-1]
    place = xp.arange(states)
    final = (place == 2 * target_lengths[:, None]) | (place == 2 * target_lengths[:, None] - 1)
    ends = xp.where(final, 0.0, -math.inf).astype(paths.dtype)
    hopeless = losses == math.inf
    shares = xp.empty((batch, states, steps), paths.dtype)
    rest = xp.full(ends.shape, -math.inf, paths.dtype)
    for k in reversed(range(steps)):
        # From a state's mirror image the way to the end is one from the beginning.
        onwards = _step(xp, (rest + emitted[k + 1])[:, ::-1], skips)[:, ::-1] if k + 1 < steps else rest
        rest = xp.where((input_lengths == k + 1)[:, None], ends, onwards)
        shares[:, :, k] = xp.exp(paths[k] + rest + xp.where(hopeless, 0, losses)[:, None])
    rows = (xp.arange(batch)[:, None] * classes + labels).reshape(-1)
    posterior = raw.sum_rows(shares.reshape(batch * states, steps), rows, batch * classes)
    posterior = posterior.reshape(batch, classes, steps).transpose(2, 0, 1)
    factor = xp.where(hopeless, 0.0 if zero_infinity else math.nan, input).astype(paths.dtype)
    found = (xp.exp(wide) - posterior) * factor[:, None]
    counts = (xp.arange(steps)[:, None] < input_lengths)[:, :, None]
    return xp.where(counts, found, 0).astype(log_probs.dtype, copy=False)


@ctc_gradient.joint_rule
def _ctc_gradient_rule(
    F, g, wanted, input, log_probs, labels, input_lengths, target_lengths, paths, losses, blank, zero_infinity
):
    if wanted[1]:
        raise RuntimeError(
            "derivative for the backward of ctc_loss is not implemented: its gradient cannot be differentiated again"
        )
    ones = F.constant(module_of(F.array(input)).ones_like(F.array(input)))
    each = F.ctc_gradient(ones, log_probs, labels, input_lengths, target_lengths, paths, losses, blank, zero_infinity)
    return (F.sum(g * each, (0, 2), False), *(None,) * 6)
