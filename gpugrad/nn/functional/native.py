"""Functions that PyTorch has both here and as ``torch.<name>``, with the arguments that they take there.

``gg.batch_norm`` and the others of this module are these; those that take the same arguments in both places are
simply the functions of ``gg.nn.functional``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...ops.dropout import drop
from ...ops.pool import adaptive_max_pool1d as _adaptive_max_pool1d
from ...ops.shape import pad as _pad
from ...tensor import Tensor
from . import layers, losses

__all__ = [
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
]

_REDUCTIONS = {0: "none", 1: "mean", 2: "sum"}


def _numbered(function: Callable[..., Tensor], *names: str) -> Callable[..., Tensor]:
    """A loss whose arguments have the given order, and whose reduction is a number."""
    name = function.__name__
    order = (*names, "reduction")

    def loss(*args: Any, **given: Any) -> Tensor:
        if len(args) > len(order):
            raise TypeError(f"{name}() takes {len(order)} arguments ({', '.join(order)}), but got {len(args)}")
        values = {**dict(zip(order, args, strict=False)), **given}
        # PyTorch's headers say 1, but its bindings read that as 0.
        number = values.pop("reduction", 0)
        if number not in _REDUCTIONS:
            raise ValueError(f"{name}(): reduction must be 0 (none), 1 (mean) or 2 (sum), but got {number!r}")
        return function(reduction=_REDUCTIONS[number], **values)

    loss.__name__ = loss.__qualname__ = name
    loss.__doc__ = f"""As ``gg.nn.functional.{name}``, of ({", ".join(order)}).

    ``reduction`` is a number: 0 (unless given) for none, 1 for the mean, 2 for the sum.

    Raises:
        ValueError: there is no such reduction.
    """
    return loss


_PAIR = ("input1", "input2", "target", "margin")
binary_cross_entropy_with_logits = _numbered(
    losses.binary_cross_entropy_with_logits, "input", "target", "weight", "pos_weight"
)
cosine_embedding_loss = _numbered(losses.cosine_embedding_loss, *_PAIR)
hinge_embedding_loss = _numbered(losses.hinge_embedding_loss, "input", "target", "margin")
kl_div = _numbered(losses.kl_div, "input", "target")
margin_ranking_loss = _numbered(losses.margin_ranking_loss, *_PAIR)
poisson_nll_loss = _numbered(losses.poisson_nll_loss, "input", "target", "log_input", "full", "eps")
triplet_margin_loss = _numbered(
    losses.triplet_margin_loss, "anchor", "positive", "negative", "margin", "p", "eps", "swap"
)


def batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """As ``gg.nn.functional.batch_norm``; ``cudnn_enabled`` is accepted."""
    return layers.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """As ``gg.nn.functional.instance_norm``; ``cudnn_enabled`` is accepted."""
    return layers.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def embedding(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Tensor:
    """As ``gg.nn.functional.embedding``, with ``weight`` first; a negative ``padding_idx`` stands for none."""
    return layers.embedding(
        indices, weight, padding_idx if padding_idx >= 0 else None, scale_grad_by_freq=scale_grad_by_freq
    )


def _dropout(name: str, inplace: bool) -> Callable[..., Tensor]:
    def function(input: Tensor, p: float, train: bool) -> Tensor:
        if not 0 <= p <= 1:
            raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p}")
        return drop(name, input, p, train, inplace)

    function.__name__ = function.__qualname__ = f"{name}_" if inplace else name
    function.__doc__ = f"""The dropout ``{name}`` of ``input``{", in place" * inplace}, if ``train``.

    Raises:
        RuntimeError: ``p`` is not between 0 and 1.
    """
    return function


dropout, dropout_ = _dropout("dropout", False), _dropout("dropout", True)
alpha_dropout, alpha_dropout_ = _dropout("alpha_dropout", False), _dropout("alpha_dropout", True)
feature_dropout, feature_dropout_ = _dropout("feature_dropout", False), _dropout("feature_dropout", True)
feature_alpha_dropout = _dropout("feature_alpha_dropout", False)
feature_alpha_dropout_ = _dropout("feature_alpha_dropout", True)


def adaptive_max_pool1d(input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    """As ``gg.nn.functional.adaptive_max_pool1d`` with ``return_indices``."""
    return _adaptive_max_pool1d(input, output_size, return_indices=True)


def constant_pad_nd(input: Tensor, pad: Any, value: float = 0) -> Tensor:
    """As ``gg.nn.functional.pad`` in mode "constant"."""
    return _pad(input, pad, value=value)
