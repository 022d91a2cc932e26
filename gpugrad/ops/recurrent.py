"""One time step of an LSTM and of a GRU: the hidden state's product and all gates in one op."""

from __future__ import annotations

from typing import Any

from .core import op
from .matmul import _product
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
