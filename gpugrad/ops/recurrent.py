"""Recurrent networks: one time step of an LSTM and of a GRU, and all steps of one layer in one direction.

The ops on sequences take the steps' rows one after the other, (rows, in), of steps of the given falling batch sizes,
as a PackedSequence holds them.  Their gradients by the weights are one product over all steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from ..backend import blas, cpu, module_of
from .core import op, recorded_gradients
from .matmul import _product, linear
from .shape import zeros_like_gradient


def _sigmoid_(xp: Any, a: Any) -> None:
    """1 / (1 + exp(-a)), written into ``a``, as (tanh(a / 2) + 1) / 2: without overflow."""
    a *= 0.5
    xp.tanh(a, out=a)
    a += 1
    a *= 0.5


def _lstm_samples(t: Any) -> list[Any]:
    return [(t(2, 12), t(2, 3), t(2, 3), t(12, 3)), (t(2, 12), t(2, 2), t(2, 3), t(12, 2))]


def _torch_lstm(torch: Any, given: Any, h: Any, c: Any, weight: Any) -> Any:
    i, f, g, o = (given + h @ weight.T).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@op(outputs=2, aux=True, samples=_lstm_samples, torch=_torch_lstm)
def lstm_step(xp, given, h, c, weight, /, recording):
    """The next hidden and cell state (B, n): Hochreiter and Schmidhuber (1997), with forget gates (Gers et al. 2000).

    Inputs: what the input contributes to the gates i, f, g, o (B, 4n), the hidden state, the cell state, the hidden
    state's weight (4n, hidden). aux: the gates, and tanh of the new cell state.
    """
    n = c.shape[1]
    gates = _product(xp, h, weight.T)
    gates += given
    i, f, g, o = (gates[:, k * n : (k + 1) * n] for k in range(4))
    _sigmoid_(xp, gates[:, : 2 * n])
    xp.tanh(g, out=g)
    _sigmoid_(xp, o)
    new = f * c
    new += i * g
    bent = xp.tanh(new)
    return (o * bent, new), (gates, bent)


@lstm_step.aux_rule
def _lstm_aux(F, given, h, c, weight):
    n = c.shape[1]
    i, f, g, o = F.split(given + F.linear(h, weight, None), (n,) * 4, 1)
    i, f, g, o = F.sigmoid(i), F.sigmoid(f), F.tanh(g), F.sigmoid(o)
    return F.cat(i, f, g, o, 1), F.tanh(f * c + i * g)


@lstm_step.joint_rule
def _lstm_rule(F, grads, wanted, h, c, weight, aux):
    gates, bent = aux
    n = c.shape[1]
    i, f, g, o = (gates[:, k * n : (k + 1) * n] for k in range(4))
    g_h, g_c = grads
    if g_h is None:
        g_o = zeros_like_gradient(F, g_c, tuple(c.shape))
    else:
        g_o = g_h * bent * (o * (1 - o))
        through = g_h * o * (1 - bent * bent)
        g_c = through if g_c is None else g_c + through
    g_gates = F.cat(g_c * g * (i * (1 - i)), g_c * c * (f * (1 - f)), g_c * i * (1 - g * g), g_o, 1)
    return (
        g_gates if wanted[0] else None,
        F.matmul(g_gates, weight) if wanted[1] else None,
        g_c * f if wanted[2] else None,
        F.matmul(F.permute(g_gates, (1, 0)), h) if wanted[3] else None,
    )


def _gru_samples(t: Any) -> list[Any]:
    return [(t(2, 9), t(2, 3), t(9, 3), t(9)), (t(2, 9), t(2, 3), t(9, 3), None)]


def _torch_gru(torch: Any, given: Any, h: Any, weight: Any, bias: Any) -> Any:
    hidden = torch.nn.functional.linear(h, weight, bias)
    (r, z, n), (hidden_r, hidden_z, hidden_n) = given.chunk(3, 1), hidden.chunk(3, 1)
    z, n = (z + hidden_z).sigmoid(), (n + (r + hidden_r).sigmoid() * hidden_n).tanh()
    return n + z * (h - n)


@op(aux=True, samples=_gru_samples, torch=_torch_gru)
def gru_step(xp, given, h, weight, bias, /, recording):
    """The next hidden state (B, n): Cho et al. (2014), with the reset gate after the product.

    Inputs: what the input contributes to the gates r, z, n (B, 3n), the hidden state, its weight (3n, n) and bias.
    aux: the gates, and what the hidden state contributed to n.
    """
    n = h.shape[1]
    hidden = _product(xp, h, weight.T)
    if bias is not None:
        hidden += bias
    gates = given + hidden
    hidden = hidden[:, 2 * n :]
    _sigmoid_(xp, gates[:, : 2 * n])
    r, z, new = (gates[:, k * n : (k + 1) * n] for k in range(3))
    xp.multiply(r, hidden, out=new)
    new += given[:, 2 * n :]
    xp.tanh(new, out=new)
    out = h - new
    out *= z
    out += new
    return out, (gates, hidden)


@gru_step.aux_rule
def _gru_aux(F, given, h, weight, bias):
    n = h.shape[1]
    given_r, given_z, given_n = F.split(given, (n,) * 3, 1)
    hidden_r, hidden_z, hidden_n = F.split(F.linear(h, weight, bias), (n,) * 3, 1)
    r, z = F.sigmoid(given_r + hidden_r), F.sigmoid(given_z + hidden_z)
    return F.cat(r, z, F.tanh(given_n + r * hidden_n), 1), hidden_n


@gru_step.joint_rule
def _gru_rule(F, grad, wanted, h, weight, aux):
    gates, hidden = aux
    n = h.shape[1]
    r, z, new = (gates[:, k * n : (k + 1) * n] for k in range(3))
    g_new = grad * (1 - z) * (1 - new * new)
    g_r = g_new * hidden * (r * (1 - r))
    g_z = grad * (h - new) * (z * (1 - z))
    g_hidden = F.cat(g_r, g_z, g_new * r, 1)
    return (
        F.cat(g_r, g_z, g_new, 1) if wanted[0] else None,
        grad * z + F.matmul(g_hidden, weight) if wanted[1] else None,
        F.matmul(F.permute(g_hidden, (1, 0)), h) if wanted[2] else None,
        g_hidden if wanted[3] else None,
    )


# Sequences

_NOT_WITHOUT_ROWS = {"empty": (1,)}  # the batch sizes say how many there are


def _through_time(
    cat: Callable[[list[Any]], Any],
    sizes: Sequence[int],
    backward: bool,
    first: Sequence[Any],
    step: Callable[[slice, Any], Any],
) -> tuple[Any, ...]:
    """The last states of ``state = step(rows, state)``, called for each time step, or each from the last to the first.

    A sequence leaves at its end; it joins there, with its own first state, where the walk goes backward.
    """
    stops = list(accumulate(sizes))
    count = sizes[-1] if backward else sizes[0]
    state = tuple(first) if count == sizes[0] else tuple(s[:count] for s in first)
    left: list[tuple[Any, ...]] = []
    for t in reversed(range(len(sizes))) if backward else range(len(sizes)):
        before, count = count, sizes[t]
        if count < before:
            left.append(tuple(s[count:] for s in state))
            state = tuple(s[:count] for s in state)
        elif count > before:
            state = tuple(cat([s, s0[before:count]]) for s, s0 in zip(state, first, strict=True))
        state = step(slice(stops[t] - count, stops[t]), state)
    if left:
        state = tuple(cat(list(parts)) for parts in zip(state, *reversed(left), strict=True))
    return state


def _step_by_step(
    linear: Any, cat: Any, step: Any, input: Any, first: Any, weight: Any, bias: Any, sizes: Any, reverse: bool
) -> tuple[Any, ...]:
    """What the ops on sequences compute, as PyTorch and the recorded gradients do it."""
    given = linear(input, weight, bias)
    outputs: list[Any] = []

    def note(rows: slice, state: Any) -> Any:
        state = step(given[rows], *state)
        outputs.append(state[0])
        return state

    last = _through_time(cat, sizes, reverse, first, note)
    return (cat(outputs[::-1] if reverse else outputs), *last)


def _cat_of(F: Any) -> Callable[[list[Any]], Any]:
    return lambda parts: F.cat(*parts, 0)


def _working(*arrays: Any) -> list[Any]:
    """Arrays as they are computed with: NumPy multiplies matrices of half precision one element at a time."""
    return [a.astype(np.float32) if a.__class__ is np.ndarray and a.dtype.itemsize == 2 else a for a in arrays]


def _empty(xp: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """An uninitialised array that starts on a cache line."""
    return cpu.empty(math.prod(shape), dtype).reshape(shape) if xp is np else xp.empty(shape, dtype)


def _halves(xp: Any, like: Any, count: int, bent: int) -> Any:
    """Factors of the gates: 1/2 for those with a sigmoid, which is (tanh(a / 2) + 1) / 2, and 1 for number ``bent``."""
    factors = xp.full((count, 1, 1), 0.5, like.dtype)
    factors[bent] = 1
    return factors


def _by_gate(weight: Any, count: int) -> Any:
    """The weight (gates x n, in) of all gates as one matrix for each."""
    return weight.reshape(count, len(weight) // count, weight.shape[1])


def _contribution(xp: Any, input: Any, weight: Any, bias: Any, factors: Any) -> Any:
    """What the input contributes to the gates, (gates, rows, n).

    Each gate's numbers lie together: NumPy takes two to three times as long for the columns of a wide array.
    """
    count = len(factors)
    given = _product(xp, input, (_by_gate(weight, count) * factors).transpose(0, 2, 1))
    if bias is not None:
        given += bias.reshape(count, 1, -1) * factors
    return given


def _turned(xp: Any, weight: Any, factors: Any = None) -> Any:
    """The transpose of matrices in C order, in which BLAS multiplies few rows by them up to three times faster."""
    out = _empty(xp, (*weight.shape[:-2], *weight.shape[:-3:-1]), weight.dtype)
    out[...] = weight.swapaxes(-1, -2)
    if factors is not None:
        out *= factors
    return out


def _back(xp: Any, slopes: Any, weight: Any) -> Any:
    """The gradient by what all gates' weights were multiplied by: (gates, rows, n), (gates, n, in) to (rows, in)."""
    return blas.matmul(xp, slopes, weight).sum(axis=0)


def _weight_slopes(xp: Any, slopes: Any, input: Any) -> Any:
    """The gradient by the weights of all gates, (gates, n, in), for all steps at once."""
    return blas.matmul(xp, slopes.swapaxes(-1, -2), input)


def _bias_slopes(xp: Any, slopes: Any) -> Any:
    """The gradient by the biases of all gates, (gates, n)."""
    return blas.matmul(xp, xp.ones(slopes.shape[-2], slopes.dtype), slopes)


def _last_first(xp: Any, weight: Any, count: int) -> Any:
    """The rows of the last gate before those of the others."""
    n = len(weight) // count
    return xp.concatenate([weight[-n:], weight[:-n]])


def _first_last(xp: Any, by_gate: Any, like: Any) -> Any:
    """The gradient by what ``_last_first`` was given."""
    return xp.concatenate([by_gate[1:], by_gate[:1]]).reshape(like.shape)


def _arrived(xp: Any, gradients: Sequence[Any], states: Sequence[Any]) -> list[Any]:
    """The gradients of the last states; zeros where none came."""
    return [xp.zeros(s.shape, s.dtype) if g is None else g for g, s in zip(_working(*gradients), states, strict=True)]


def _exchanged(xp: Any, weight: Any) -> Any:
    """The weights of an LSTM's gates in the order g, f, i, o instead of i, f, g, o, or back, (gates, n, in)."""
    i, f, g, o = _by_gate(weight, 4)
    return xp.stack([g, f, i, o])


def _rows(by_gate: Any) -> Any:
    return by_gate.reshape(by_gate.shape[0] * by_gate.shape[1], by_gate.shape[2])


def _lstm_sequences(t: Any) -> list[Any]:
    weights = t(8, 3), t(8, 2), t(8), None
    return [
        (t(4, 3), t(2, 2), t(2, 2), *weights, (2, 2), False),
        (t(4, 3), t(2, 2), t(2, 2), *weights, (2, 1, 1), True),
        (t(3, 2), t(2, 1), t(2, 2), t(8, 2), t(8, 1), None, t(1, 2), (2, 1), False),
    ]


def _lstm_by_steps(
    linear: Any, cat: Any, step: Any, input: Any, h: Any, c: Any, weight_ih: Any, weight_hh: Any, bias: Any,
    projection: Any, sizes: Any, reverse: bool,
) -> tuple[Any, ...]:  # fmt: skip
    def projected(given: Any, h: Any, c: Any) -> Any:
        h, c = step(given, h, c, weight_hh)
        return (h if projection is None else linear(h, projection, None)), c

    return _step_by_step(linear, cat, projected, input, (h, c), weight_ih, bias, sizes, reverse)


@op(
    outputs=3,
    aux=True,
    samples=_lstm_sequences,
    tests=_NOT_WITHOUT_ROWS,
    torch=lambda torch, *args: _lstm_by_steps(
        torch.nn.functional.linear, torch.cat, partial(_torch_lstm, torch), *args
    ),
)
def lstm(xp, input, h, c, weight_ih, weight_hh, bias, projection, /, sizes, reverse, recording):
    """``lstm_step`` along sequences: the hidden states of all steps, the last hidden states and the last cell states.

    aux: the slopes of the hidden state by the cell, of the cell by the gates g, f, i and of the hidden state by o, each
    before its function; the forget gates; the hidden states before each step, and, with a projection, before that.
    """
    dtype, n = input.dtype, c.shape[1]
    input, h, c, weight_ih, weight_hh, bias, projection = _working(input, h, c, weight_ih, weight_hh, bias, projection)
    factors = _halves(xp, weight_hh, 4, 0)
    rows = len(input)
    # The gates become their slopes, which take the same memory; the first place is for the slope by the cell.
    slopes = _empty(xp, (5, rows, n), input.dtype)
    _product(xp, input, (_exchanged(xp, weight_ih) * factors).swapaxes(1, 2), slopes[1:])
    weight = _turned(xp, _exchanged(xp, weight_hh), factors)
    if bias is not None:
        bias = _exchanged(xp, bias[:, None]).swapaxes(1, 2) * factors
        for_rows = _empty(xp, (4, *c.shape), input.dtype)
        for_rows[...] = bias
        bias = for_rows
    down = None if projection is None else _turned(xp, projection)
    out = _empty(xp, (rows, h.shape[1]), input.dtype)
    raw = out if down is None else _empty(xp, (rows, n), input.dtype)
    forget: Any = _empty(xp, (rows, n), input.dtype) if recording else None
    before: Any = _empty(xp, out.shape, input.dtype) if recording else None
    # Of one step: the product, tanh of the cell with the gates, and what the sigmoids let through.
    products, values, passed = (_empty(xp, (k, *c.shape), input.dtype) for k in (4, 5, 3))

    def step(part: slice, state: Any) -> Any:
        h, c = state
        slope, product, value, through = (
            slopes[:, part],
            products[:, : len(h)],
            values[:, : len(h)],
            passed[:, : len(h)],
        )
        blas.matmul(xp, h, weight, product)
        if bias is not None:
            product += bias[:, : len(h)]
        bent, g, f, i, o = value
        xp.add(slope[1:], product, out=value[1:])
        xp.tanh(value[1:], out=value[1:])
        sigmoids = value[2:]
        sigmoids *= 0.5
        sigmoids += 0.5
        xp.multiply(f, c, out=through[0])
        xp.multiply(i, g, out=through[1])
        c = through[0] + through[1]
        xp.tanh(c, out=bent)
        xp.multiply(o, bent, out=through[2])
        raw[part] = through[2]
        if recording:
            # By the cell it is o (1 - bent^2), by g i (1 - g^2), by a sigmoid 1 - s times what it lets through.
            before[part], forget[part] = h, f
            functions = value[:2]
            functions *= through[:0:-1]
            xp.subtract(value[:2:-1], functions, out=slope[:2])
            sigmoids *= through
            xp.subtract(through, sigmoids, out=slope[2:])
        if down is not None:
            blas.matmul(xp, raw[part], down, out[part])
        return out[part], c

    h, c = _through_time(xp.concatenate, sizes, reverse, (h, c), step)
    outs = (out, xp.array(h, copy=True), c)
    return tuple(a.astype(dtype, copy=False) for a in outs), (slopes, forget, before, raw)


@lstm.joint_rule
def _lstm_sequence_rule(F, grads, wanted, input, h, c, weight_ih, weight_hh, bias, projection, aux, sizes, reverse):
    if F.is_taped:
        walk = partial(_lstm_by_steps, F.linear, _cat_of(F), F.lstm_step, sizes=sizes, reverse=reverse)
        return recorded_gradients(walk, (input, h, c, weight_ih, weight_hh, bias, projection), grads, wanted)
    slopes, forget, before, raw = aux
    xp = module_of(slopes)
    input, h, c, weight_ih, weight_hh, projection = _working(input, h, c, weight_ih, weight_hh, projection)
    (g_out,) = _working(grads[0])
    by_gates = _empty(xp, (4, *slopes.shape[1:]), slopes.dtype)
    arrived: Any = None if projection is None else _empty(xp, before.shape, slopes.dtype)
    weight = _exchanged(xp, weight_hh)

    def step(part: slice, state: Any) -> Any:
        g_h, g_c = state
        if g_out is not None:
            g_h = g_h + g_out[part]
        if projection is not None:
            arrived[part] = g_h
            g_h = blas.matmul(xp, g_h, projection)
        slope, by_gate = slopes[:, part], by_gates[:, part]
        g_new = g_h * slope[0]
        g_new += g_c
        xp.multiply(slope[1:4], g_new, out=by_gate[:3])
        xp.multiply(slope[4], g_h, out=by_gate[3])
        g_new *= forget[part]
        return _back(xp, by_gate, weight), g_new

    g_h, g_c = _through_time(xp.concatenate, sizes, not reverse, _arrived(xp, grads[1:], (h, c)), step)
    return (
        _back(xp, by_gates, _exchanged(xp, weight_ih)) if wanted[0] else None,
        g_h if wanted[1] else None,
        g_c if wanted[2] else None,
        _rows(_exchanged(xp, _rows(_weight_slopes(xp, by_gates, input)))) if wanted[3] else None,
        _rows(_exchanged(xp, _rows(_weight_slopes(xp, by_gates, before)))) if wanted[4] else None,
        _exchanged(xp, _bias_slopes(xp, by_gates).reshape(-1, 1)).reshape(-1) if wanted[5] else None,
        F.matmul(arrived.T, raw) if wanted[6] else None,
    )


def _gru_sequences(t: Any) -> list[Any]:
    return [
        (t(4, 3), t(2, 2), t(6, 3), t(6, 2), t(6), t(6), (2, 2), False),
        (t(4, 3), t(2, 2), t(6, 3), t(6, 2), None, None, (2, 1, 1), True),
    ]


def _gru_by_steps(
    linear: Any, cat: Any, step: Any, input: Any, h: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any,
    sizes: Any, reverse: bool,
) -> tuple[Any, ...]:  # fmt: skip
    def one(given: Any, h: Any) -> Any:
        return (step(given, h, weight_hh, bias_hh),)

    return _step_by_step(linear, cat, one, input, (h,), weight_ih, bias_ih, sizes, reverse)


@op(
    outputs=2,
    aux=True,
    samples=_gru_sequences,
    tests=_NOT_WITHOUT_ROWS,
    torch=lambda torch, *args: _gru_by_steps(torch.nn.functional.linear, torch.cat, partial(_torch_gru, torch), *args),
)
def gru(xp, input, h, weight_ih, weight_hh, bias_ih, bias_hh, /, sizes, reverse, recording):
    """``gru_step`` along sequences: the hidden states of all steps, and the last ones.

    aux: the slopes of the hidden state by the gates n, r, z before their functions and by what the hidden state before
    contributes to n, and by this state itself; and this state.
    """
    dtype, count = input.dtype, 3
    input, h, weight_ih, weight_hh, bias_ih, bias_hh = _working(input, h, weight_ih, weight_hh, bias_ih, bias_hh)
    n = h.shape[1]
    weight_ih, weight_hh = _last_first(xp, weight_ih, count), _last_first(xp, weight_hh, count)
    bias = None if bias_ih is None else _last_first(xp, bias_ih, count)
    inside = None
    if bias_hh is not None:
        added = _last_first(xp, bias_hh, count)
        inside = xp.array(added[:n], copy=True)
        added[:n] = 0
        bias = added if bias is None else bias + added
    factors = _halves(xp, weight_hh, count, 0)
    given = _contribution(xp, input, weight_ih, bias, factors)
    weight = _turned(xp, _by_gate(weight_hh, count), factors)
    out = _empty(xp, given.shape[1:], given.dtype)
    kept: Any = _empty(xp, (3, *out.shape), given.dtype) if recording else (None,) * 3
    by_inner, through, before = kept

    def step(part: slice, state: Any) -> Any:
        (h,) = state
        hidden = blas.matmul(xp, h, weight)
        new, r, z = gates = given[:, part]
        sigmoids, inner = gates[1:], hidden[0]
        sigmoids += hidden[1:]
        xp.tanh(sigmoids, out=sigmoids)
        sigmoids *= 0.5
        sigmoids += 0.5
        if inside is not None:
            inner += inside
        inner *= r
        new += inner
        xp.tanh(new, out=new)
        stays = h - new
        stays *= z
        after = xp.add(stays, new, out=out[part])
        if recording:
            # In place of the gates, while they are in cache.
            before[part], through[part] = h, z
            new *= new
            xp.subtract(1, new, out=new)
            new *= 1 - z
            xp.multiply(new, r, out=by_inner[part])
            r *= inner
            xp.subtract(inner, r, out=r)
            r *= new
            z *= stays
            xp.subtract(stays, z, out=z)
        return (after,)

    (h,) = _through_time(xp.concatenate, sizes, reverse, (h,), step)
    return (out.astype(dtype, copy=False), xp.array(h, dtype, copy=True)), (given, by_inner, through, before)


@gru.joint_rule
def _gru_sequence_rule(F, grads, wanted, input, h, weight_ih, weight_hh, bias_ih, bias_hh, aux, sizes, reverse):
    if F.is_taped:
        walk = partial(_gru_by_steps, F.linear, _cat_of(F), F.gru_step, sizes=sizes, reverse=reverse)
        return recorded_gradients(walk, (input, h, weight_ih, weight_hh, bias_ih, bias_hh), grads, wanted)
    slopes, by_inner, through, before = aux
    xp, count = module_of(slopes), 3
    input, h, weight_ih, weight_hh = _working(input, h, weight_ih, weight_hh)
    (g_out,) = _working(grads[0])
    # By n, r, z and what the hidden state contributes to n: so the three that the input contributes to lie together,
    # and so do the three that the hidden state contributes to.
    by_gates = _empty(xp, (4, *before.shape), slopes.dtype)
    weight = _by_gate(weight_hh, count)

    def step(part: slice, state: Any) -> Any:
        (g,) = state
        if g_out is not None:
            g = g + g_out[part]
        by_gate = by_gates[:, part]
        xp.multiply(slopes[:, part], g, out=by_gate[:3])
        xp.multiply(by_inner[part], g, out=by_gate[3])
        g_before = _back(xp, by_gate[1:], weight)
        g_before += g * through[part]
        return (g_before,)

    (g_h,) = _through_time(xp.concatenate, sizes, not reverse, _arrived(xp, grads[1:], (h,)), step)
    from_input, from_hidden = by_gates[:3], by_gates[1:]
    return (
        _back(xp, from_input, _by_gate(_last_first(xp, weight_ih, count), count)) if wanted[0] else None,
        g_h if wanted[1] else None,
        _first_last(xp, _weight_slopes(xp, from_input, input), weight_ih) if wanted[2] else None,
        _weight_slopes(xp, from_hidden, before).reshape(weight_hh.shape) if wanted[3] else None,
        _first_last(xp, _bias_slopes(xp, from_input), bias_ih) if wanted[4] else None,
        _bias_slopes(xp, from_hidden).reshape(-1) if wanted[5] else None,
    )


def _rnn_sequences(t: Any) -> list[Any]:
    return [
        (t(4, 3), t(2, 2), t(2, 3), t(2, 2), t(2), (2, 2), False, "tanh"),
        (t(4, 3), t(2, 2), t(2, 3), t(2, 2), None, (2, 1, 1), True, "relu"),
    ]


def _rnn_by_steps(
    linear: Any, cat: Any, functions: Any, input: Any, h: Any, weight_ih: Any, weight_hh: Any, bias: Any,
    sizes: Any, reverse: bool, nonlinearity: str,
) -> tuple[Any, ...]:  # fmt: skip
    function = getattr(functions, nonlinearity)

    def one(given: Any, h: Any) -> Any:
        return (function(given + linear(h, weight_hh, None)),)

    return _step_by_step(linear, cat, one, input, (h,), weight_ih, bias, sizes, reverse)


@op(
    outputs=2,
    aux=True,
    samples=_rnn_sequences,
    tests=_NOT_WITHOUT_ROWS,
    torch=lambda torch, *args: _rnn_by_steps(torch.nn.functional.linear, torch.cat, torch, *args),
)
def rnn(xp, input, h, weight_ih, weight_hh, bias, /, sizes, reverse, nonlinearity, recording):
    """h = f(W_ih x + bias + W_hh h) along sequences, f tanh or relu: the hidden states of all steps, and the last ones.

    aux: the hidden states before and after each step.
    """
    dtype = input.dtype
    input, h, weight_ih, weight_hh, bias = _working(input, h, weight_ih, weight_hh, bias)
    given = linear.on_arrays(input, weight_ih, bias)
    weight = _turned(xp, weight_hh)
    before: Any = _empty(xp, given.shape, given.dtype) if recording else None

    def step(part: slice, state: Any) -> Any:
        (h,) = state
        if recording:
            before[part] = h
        new = given[part]
        new += blas.matmul(xp, h, weight)
        if nonlinearity == "tanh":
            xp.tanh(new, out=new)
        else:
            xp.maximum(new, 0, out=new)
        return (new,)

    (h,) = _through_time(xp.concatenate, sizes, reverse, (h,), step)
    # The result may be changed in place before backward, which needs it.
    out = xp.array(given, dtype, copy=True) if recording else given.astype(dtype, copy=False)
    return (out, xp.array(h, dtype, copy=True)), (before, given)


@rnn.joint_rule
def _rnn_sequence_rule(F, grads, wanted, input, h, weight_ih, weight_hh, bias, aux, sizes, reverse, nonlinearity):
    if F.is_taped:
        walk = partial(_rnn_by_steps, F.linear, _cat_of(F), F, sizes=sizes, reverse=reverse, nonlinearity=nonlinearity)
        return recorded_gradients(walk, (input, h, weight_ih, weight_hh, bias), grads, wanted)
    before, after = aux
    xp = module_of(after)
    input, h, weight_ih, weight_hh = _working(input, h, weight_ih, weight_hh)
    (g_out,) = _working(grads[0])
    slopes = _empty(xp, after.shape, after.dtype)

    def step(part: slice, state: Any) -> Any:
        (g,) = state
        if g_out is not None:
            g = g + g_out[part]
        s = slopes[part]
        if nonlinearity == "tanh":
            xp.multiply(after[part], after[part], out=s)
            xp.subtract(1, s, out=s)
            s *= g
        else:
            s[...] = F.keep(g, ~(after[part] <= 0))
        return (blas.matmul(xp, s, weight_hh),)

    (g_h,) = _through_time(xp.concatenate, sizes, not reverse, _arrived(xp, grads[1:], (h,)), step)
    return (
        F.matmul(slopes, weight_ih) if wanted[0] else None,
        g_h if wanted[1] else None,
        _weight_slopes(xp, slopes, input) if wanted[2] else None,
        _weight_slopes(xp, slopes, before) if wanted[3] else None,
        _bias_slopes(xp, slopes) if wanted[4] else None,
    )
