"""Multi-head attention."""

from __future__ import annotations

import math
from typing import Any

from ...creation import empty, zeros
from ...ops import FUNCTIONS
from ...tensor import Tensor
from .. import functional as F
from .. import init
from ..parameter import Parameter
from .linear import NonDynamicallyQuantizableLinear
from .module import Module


class MultiheadAttention(Module):
    """Attention by several heads at once (Vaswani et al. 2017).

    Args:
        embed_dim: the width of queries and results, divided between the heads.
        dropout: the share of attention weights dropped while training.
        add_bias_kv: append a learned key and value to the sequence.
        add_zero_attn: append a key and value of zeros.
        kdim, vdim: the width of keys and values; ``embed_dim`` unless given.
        batch_first: sequences are (N, L, E), not (L, N, E).

    Raises:
        ValueError: ``embed_dim`` or ``num_heads`` is not positive, or the one does not divide by the other.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and num_heads={num_heads}"
            )
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim must be divisible by num_heads, got {embed_dim} and {num_heads}")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == self.vdim == embed_dim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        place = {"device": device, "dtype": dtype}

        def parameter(present: bool, *shape: int) -> Parameter | None:
            return Parameter(empty(*shape, **place)) if present else None

        e, same = embed_dim, self._qkv_same_embed_dim
        self.register_parameter("in_proj_weight", parameter(same, 3 * e, e))
        self.register_parameter("q_proj_weight", parameter(not same, e, e))
        self.register_parameter("k_proj_weight", parameter(not same, e, self.kdim))
        self.register_parameter("v_proj_weight", parameter(not same, e, self.vdim))
        self.register_parameter("in_proj_bias", parameter(bias, 3 * e))
        self.out_proj = NonDynamicallyQuantizableLinear(e, e, bias=bias, **place)
        self.register_parameter("bias_k", parameter(add_bias_kv, 1, 1, e))
        self.register_parameter("bias_v", parameter(add_bias_kv, 1, 1, e))
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            query, key, value: (L, N, E), (S, N, E_k) and (S, N, E_v); (N, L, E) and so on with ``batch_first``;
                or without N.
            key_padding_mask: (N, S), true (or minus infinity) for keys to leave out.
            need_weights: also return the attention weights, which is slower.
            attn_mask: (L, S) or (N heads, L, S), true for pairs to leave out; floats are added.
            average_attn_weights: the returned weights are (N, L, S), not (N, heads, L, S).
            is_causal: says that ``attn_mask``, which must be given, is the causal one, so that it need not be read.

        Returns:
            The results, laid out as the queries, and the weights or None.

        Raises:
            RuntimeError: a shape does not fit, or ``is_causal`` comes without ``attn_mask``.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
        if query.ndim not in (2, 3) or key.ndim != query.ndim or value.ndim != query.ndim:
            raise RuntimeError(
                "query, key and value should all be 2D (unbatched) or 3D (batched), "
                f"but got {query.ndim}D, {key.ndim}D and {value.ndim}D"
            )
        single = query.ndim == 2
        q, k, v = self._projected(query, key, value)
        if single:
            q, k, v = (t.unsqueeze(0) for t in (q, k, v))
        elif not self.batch_first:
            q, k, v = (t.transpose(0, 1) for t in (q, k, v))
        count, steps = q.shape[0], q.shape[1]
        extended = self.bias_k is not None or self.add_zero_attn
        causal = is_causal and key_padding_mask is None and not need_weights and not extended
        mask = None if causal else self._mask(attn_mask, key_padding_mask, (count, steps, k.shape[1]), q)
        if self.bias_k is not None:
            k, v = (FUNCTIONS["cat"]([t, b.expand(count, 1, -1)], 1) for t, b in ((k, self.bias_k), (v, self.bias_v)))
        if self.add_zero_attn:
            k, v = (F.pad(t, (0, 0, 0, 1)) for t in (k, v))
        if mask is not None and (extra := k.shape[1] - mask.shape[-1]):
            mask = F.pad(mask, (0, extra))
        q, k, v = (t.reshape(count, t.shape[1], self.num_heads, self.head_dim).transpose(1, 2) for t in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * (1 / math.sqrt(self.head_dim))) @ k.transpose(-2, -1)
            weights = F.dropout(F.softmax(scores if mask is None else scores + mask, -1), dropout, dropout > 0)
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        result = self.out_proj(mixed.transpose(1, 2).reshape(count, steps, self.embed_dim))
        if single:
            return result.squeeze(0), None if weights is None else weights.squeeze(0)
        return result if self.batch_first else result.transpose(0, 1), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        bias = self.in_proj_bias
        if self._qkv_same_embed_dim and query is key and key is value:
            return list(F.linear(query, self.in_proj_weight, bias).chunk(3, -1))
        if self._qkv_same_embed_dim:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        return [F.linear(t, w, b) for t, w, b in zip((query, key, value), weights, biases, strict=True)]

    def _mask(self, attn_mask: Any, key_padding_mask: Any, sizes: tuple[int, int, int], like: Tensor) -> Tensor | None:
        """Both masks as one that is added to the scores (N, heads, L, S)."""
        count, steps, keys = sizes
        if attn_mask is not None:
            expected = (steps, keys) if attn_mask.ndim == 2 else (count * self.num_heads, steps, keys)
            if tuple(attn_mask.shape) != expected:
                raise RuntimeError(f"The shape of attn_mask is {tuple(attn_mask.shape)}, but should be {expected}.")
            attn_mask = _added(attn_mask, like)
            attn_mask = attn_mask if attn_mask.ndim == 2 else attn_mask.reshape(count, self.num_heads, steps, keys)
        if key_padding_mask is not None:
            if tuple(key_padding_mask.shape) not in ((count, keys), (keys,) if count == 1 else (count, keys)):
                raise RuntimeError(
                    f"The shape of key_padding_mask is {tuple(key_padding_mask.shape)}, but should be {(count, keys)}."
                )
            key_padding_mask = _added(key_padding_mask, like).reshape(count, 1, 1, keys)
            return key_padding_mask if attn_mask is None else attn_mask + key_padding_mask
        return attn_mask


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as what is added to scores: minus infinity where a boolean one is true."""
    if mask.is_floating_point():
        return mask
    if mask.dtype.kind != "b":
        raise RuntimeError(f"only bool and floating types of masks are supported, but got {mask.dtype}")
    return zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(mask, -math.inf)
