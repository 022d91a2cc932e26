"""Recurrent networks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from ...creation import empty, zeros
from ...ops import FUNCTIONS
from ...ops.recurrent import gru, gru_step, lstm, lstm_step, rnn
from ...tensor import Tensor
from .. import functional as F
from .. import init
from ..parameter import Parameter
from ..utils.rnn import PackedSequence
from .module import Module

State = tuple[Tensor, ...]

_GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "GRU": 3, "LSTM": 4}


def _step(mode: str, given: Tensor, state: State, weights: Sequence[Any]) -> State:
    """One time step.

    Args:
        given: what the input contributes to the gates, with all biases that can be added before.
        state: the hidden state, and the cell state of an LSTM.
        weights: the hidden state's weight; the bias that has to be added apart (GRU); the projection (LSTM).
    """
    weight, bias, projection = weights
    if mode == "LSTM":
        h, c = lstm_step(given, *state, weight)
        return (h if projection is None else F.linear(h, projection)), c
    if mode == "GRU":
        return (gru_step(given, state[0], weight, bias),)
    total = given + F.linear(state[0], weight)
    return (total.tanh() if mode == "RNN_TANH" else total.relu(),)


def _contribution(mode: str, input: Tensor, weight: Tensor, bias: Any, hidden_bias: Any) -> tuple[Tensor, Any]:
    """The input's part of the gates, for all time steps at once, and the bias left for the hidden state's part."""
    if bias is None or mode == "GRU":
        return F.linear(input, weight, bias), hidden_bias
    return F.linear(input, weight, bias + hidden_bias), None


class _Recurrent(Module):
    """A module with a hidden state."""

    hidden_size: int

    def reset_parameters(self) -> None:
        """Draw everything evenly from within 1 / sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)


class RNNBase(_Recurrent):
    """What RNN, LSTM and GRU have in common: layers, directions, weights, and the walk through time.

    The parameters of layer k are ``weight_ih_l{k}``, ``weight_hh_l{k}``, ``bias_ih_l{k}``, ``bias_hh_l{k}`` and, with
    projections, ``weight_hr_l{k}``; those of the backward direction end in ``_reverse``.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
            raise ValueError(
                "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=3,
            )
        for name, value in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(value, int):
                raise TypeError(f"{name} should be of type int, got: {type(value).__name__}")
            if value <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if not 0 <= proj_size < hidden_size:
            raise ValueError(f"proj_size should be between 0 and hidden_size ({hidden_size}), but got {proj_size}")
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        place = {"device": device, "dtype": dtype}
        gates, out = _GATES[mode] * hidden_size, proj_size or hidden_size
        for layer in range(num_layers):
            width = input_size if layer == 0 else out * (1 + bidirectional)
            for suffix in self._suffixes(layer):
                setattr(self, f"weight_ih{suffix}", Parameter(empty(gates, width, **place)))
                setattr(self, f"weight_hh{suffix}", Parameter(empty(gates, out, **place)))
                if bias:
                    setattr(self, f"bias_ih{suffix}", Parameter(empty(gates, **place)))
                    setattr(self, f"bias_hh{suffix}", Parameter(empty(gates, **place)))
                if proj_size:
                    setattr(self, f"weight_hr{suffix}", Parameter(empty(proj_size, hidden_size, **place)))
        self.reset_parameters()

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: 1 + self.bidirectional]

    def flatten_parameters(self) -> None:
        """Nothing: there is no format in which the weights would be faster."""

    def _names(self) -> list[list[str]]:
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        suffixes = [suffix for layer in range(self.num_layers) for suffix in self._suffixes(layer)]
        return [[kind + suffix for kind in kinds if hasattr(self, kind + suffix)] for suffix in suffixes]

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._names()]

    @property
    def _flat_weights_names(self) -> list[str]:
        # PyTorch's name for what programs walk through to give the weights their first values.
        return [name for names in self._names() for name in names]

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Walk through sequences.

        Args:
            input: (T, B, input_size), (B, T, input_size) with ``batch_first``, (T, input_size), or a PackedSequence.
            hx: the first states, (layers x directions, B, size); zeros unless given. An LSTM takes a pair.

        Returns:
            The last layer's outputs for all steps, as the input is laid out, and the last states.

        Raises:
            ValueError: the input has a wrong number of dimensions.
            RuntimeError: a size does not fit.
        """
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        if not packed and data.ndim not in (2, 3):
            raise ValueError(f"{self._get_name()}: Expected input to be 2D or 3D, got {data.ndim}D instead")
        single = not packed and data.ndim == 2
        if data.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {data.shape[-1]}"
            )
        if packed:
            sizes = input.batch_sizes.tolist()
        else:
            if single:
                data = data.unsqueeze(1)
            elif self.batch_first:
                data = data.transpose(0, 1)
            steps, batch = data.shape[:2]
            if steps == 0:
                raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
            sizes = [batch] * steps
            data = data.reshape(steps * batch, self.input_size)
        first = self._first_state(hx, sizes[0], single, data)
        if packed and hx is not None and input.sorted_indices is not None:
            first = tuple(s[:, input.sorted_indices] for s in first)
        data, last = self._layers(data, sizes, first)
        if packed:
            if input.unsorted_indices is not None:
                last = tuple(s[:, input.unsorted_indices] for s in last)
            output: Any = input._replace(data=data)
        else:
            output = data.reshape(len(sizes), sizes[0], data.shape[-1])
            if single:
                output, last = output.squeeze(1), tuple(s.squeeze(1) for s in last)
            elif self.batch_first:
                output = output.transpose(0, 1)
        return output, (last if self.mode == "LSTM" else last[0])

    def _first_state(self, hx: Any, batch: int, single: bool, like: Tensor) -> State:
        rows = self.num_layers * (1 + self.bidirectional)
        sizes = [self.proj_size or self.hidden_size, self.hidden_size][: 2 if self.mode == "LSTM" else 1]
        if hx is None:
            return tuple(zeros(rows, batch, n, dtype=like.dtype, device=like.device) for n in sizes)
        given = hx if self.mode == "LSTM" else (hx,)
        if not isinstance(given, tuple | list) or len(given) != len(sizes):
            raise RuntimeError(f"{self._get_name()}: expected hx to be a pair (h_0, c_0), but got {type(hx).__name__}")
        states = []
        for state, n in zip(given, sizes, strict=True):
            expected = (rows, n) if single else (rows, batch, n)
            if tuple(state.shape) != expected:
                raise RuntimeError(f"Expected hidden size {expected}, got {list(state.shape)}")
            if state.dtype != like.dtype:
                raise RuntimeError(
                    f"Input and hidden tensors are not the same dtype, found {like.dtype} and {state.dtype}"
                )
            states.append(state.unsqueeze(1) if single else state)
        return tuple(states)

    def _layers(self, data: Tensor, sizes: list[int], first: State) -> tuple[Tensor, State]:
        last: list[State] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                data = F.dropout(data, self.dropout, self.training)
            outputs = []
            for reverse, suffix in enumerate(self._suffixes(layer)):
                start = tuple(s[len(last)] for s in first)
                output, end = self._walk(data, sizes, start, suffix, bool(reverse))
                outputs.append(output)
                last.append(end)
            data = FUNCTIONS["cat"](outputs, 1) if self.bidirectional else outputs[0]
        return data, tuple(FUNCTIONS["stack"](list(states)) for states in zip(*last, strict=True))

    def _walk(self, data: Tensor, sizes: list[int], first: State, suffix: str, reverse: bool) -> tuple[Tensor, State]:
        """One layer in one direction, over steps of the given (falling) batch sizes."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        *matrices, bias, hidden_bias, projection = (getattr(self, name + suffix, None) for name in names)
        steps = tuple(sizes), reverse
        if self.mode == "GRU":
            output, *last = gru(data, *first, *matrices, bias, hidden_bias, *steps)
            return output, tuple(last)
        if bias is not None:
            bias = bias + hidden_bias
        if self.mode == "LSTM":
            output, *last = lstm(data, *first, *matrices, bias, projection, *steps)
        else:
            output, *last = rnn(data, *first, *matrices, bias, *steps, self.mode.removeprefix("RNN_").lower())
        return output, tuple(last)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.proj_size:
            text += f", proj_size={self.proj_size}"
        if self.num_layers != 1:
            text += f", num_layers={self.num_layers}"
        if not self.bias:
            text += ", bias=False"
        if self.batch_first:
            text += ", batch_first=True"
        if self.dropout:
            text += f", dropout={self.dropout}"
        if self.bidirectional:
            text += ", bidirectional=True"
        return text


class RNN(RNNBase):
    """h = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it, in several layers and one or both directions."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, device=device, dtype=dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), in several layers and one or both directions.

    Args:
        proj_size: if above 0, the hidden states are projected to this size (Sak et al. 2014).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            device, dtype,
        )  # fmt: skip


class GRU(RNNBase):
    """Gated recurrent units (Cho et al. 2014), in several layers and one or both directions."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            device=device, dtype=dtype,
        )  # fmt: skip


class RNNCellBase(_Recurrent):
    """What RNNCell, LSTMCell and GRUCell have in common: the weights, and one time step."""

    _mode: str

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ):
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        gates, place = num_chunks * hidden_size, {"device": device, "dtype": dtype}
        self.weight_ih = Parameter(empty(gates, input_size, **place))
        self.weight_hh = Parameter(empty(gates, hidden_size, **place))
        self.register_parameter("bias_ih", Parameter(empty(gates, **place)) if bias else None)
        self.register_parameter("bias_hh", Parameter(empty(gates, **place)) if bias else None)
        self.reset_parameters()

    def _next(self, input: Tensor, hx: Any) -> State:
        name = self._get_name()
        if input.ndim not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {input.shape[-1]} expected {self.input_size}")
        single = input.ndim == 1
        rows = input.unsqueeze(0) if single else input
        count = 2 if self._mode == "LSTM" else 1
        if hx is None:
            hx = (zeros(rows.shape[0], self.hidden_size, dtype=input.dtype, device=input.device),) * count
        else:
            hx = tuple(hx) if self._mode == "LSTM" else (hx,)
            expected = (*input.shape[:-1], self.hidden_size)
            if len(hx) != count or any(tuple(h.shape) != expected for h in hx):
                raise RuntimeError(f"{name}: expected hx of shape {expected}, got {[tuple(h.shape) for h in hx]}")
            if any(h.dtype != input.dtype for h in hx):
                raise RuntimeError(f"{name}: expected hx of dtype {input.dtype}, got {[str(h.dtype) for h in hx]}")
            hx = tuple(h.unsqueeze(0) for h in hx) if single else hx
        given, bias = _contribution(self._mode, rows, self.weight_ih, self.bias_ih, self.bias_hh)
        state = _step(self._mode, given, hx, (self.weight_hh, bias, None))
        return tuple(s.squeeze(0) for s in state) if single else state

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(RNNCellBase):
    """One step of an RNN: (B, input_size) and (B, hidden_size) to (B, hidden_size), or without B."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity
        self._mode = f"RNN_{nonlinearity.upper()}"

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._next(input, hx)[0]

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")


class LSTMCell(RNNCellBase):
    """One step of an LSTM: (B, input_size) and a pair of (B, hidden_size) to such a pair, or without B."""

    _mode = "LSTM"

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> State:
        return self._next(input, hx)


class GRUCell(RNNCellBase):
    """One step of a GRU: (B, input_size) and (B, hidden_size) to (B, hidden_size), or without B."""

    _mode = "GRU"

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._next(input, hx)[0]
