"""A softmax over very many classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ...creation import zeros
from ...ops import FUNCTIONS
from ...tensor import Tensor
from .. import functional as F
from .container import ModuleList, Sequential
from .linear import Linear
from .module import Module


class _ASMoutput(NamedTuple):
    """The log-probability of each target, and minus their mean."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """A softmax whose rare classes share, by clusters, one place among the frequent ones (Grave et al. 2017).

    On a CUDA device it waits for which targets lie in which cluster.

    Args:
        n_classes: the classes, frequent ones first.
        cutoffs: where clusters of rarer classes begin.
        div_value: by how much each cluster's inner size is smaller than that of the one before.
        head_bias: give the frequent classes and the clusters a bias.

    Raises:
        ValueError: the cutoffs are not rising numbers between 1 and ``n_classes - 1``.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        rising = [0, *cutoffs, n_classes]
        if any(a >= b for a, b in pairwise(rising)) or any(int(c) != c for c in cutoffs):
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where each "
                f"value is between 1 and n_classes-1, but got {cutoffs} for {n_classes} classes"
            )
        self.in_features, self.n_classes, self.cutoffs = in_features, n_classes, [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = cutoffs[0], len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        place = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **place)
        self.tail = ModuleList()
        for i, (low, high) in enumerate(pairwise(self.cutoffs)):
            inner = int(in_features // div_value ** (i + 1))
            layers = Linear(in_features, inner, bias=False, **place), Linear(inner, high - low, bias=False, **place)
            self.tail.append(Sequential(*layers))

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.head.reset_parameters()
        for layer in (layer for cluster in self.tail for layer in cluster.children()):
            layer.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> _ASMoutput:
        """The log-probabilities of targets, and minus their mean.

        Args:
            input_: (N, in_features), or (in_features).
            target_: (N), or ().

        Raises:
            RuntimeError: the shapes do not fit, or a target is no class.
        """
        if target_.ndim > 1 or input_.ndim != target_.ndim + 1 or input_.shape[:-1] != target_.shape:
            raise RuntimeError(
                "expected an input (N, in_features) and a target (N), or (in_features) and (), but found inputs with "
                f"size {list(input_.shape)} and a target of {list(target_.shape)}"
            )
        input, target = (input_, target_) if target_.ndim else (input_.unsqueeze(0), target_.unsqueeze(0))
        if target.numel() and not 0 <= int(target.min()) <= int(target.max()) < self.n_classes:
            raise RuntimeError(
                f"Target values should be in [0, {self.n_classes - 1}], but values in range [{int(target.min())}, "
                f"{int(target.max())}] were found."
            )
        inside = zeros(len(target), dtype=input.dtype, device=input.device)
        places = target
        for i, (low, high) in enumerate(pairwise(self.cutoffs)):
            rows = ((target >= low) & (target < high)).nonzero().squeeze(1)
            if rows.numel():
                found = F.log_softmax(self.tail[i](input[rows]), 1).gather(1, (target[rows] - low).unsqueeze(1))
                inside = inside.index_copy(0, rows, found.squeeze(1))
                places = places.index_fill(0, rows, self.shortlist_size + i)
        output = inside + F.log_softmax(self.head(input), 1).gather(1, places.unsqueeze(1)).squeeze(1)
        return _ASMoutput(output if target_.ndim else output.squeeze(0), -output.mean())

    def log_prob(self, input: Tensor) -> Tensor:
        """The log-probabilities of all classes: (N, in_features) to (N, n_classes)."""
        head = F.log_softmax(self.head(input), 1)
        parts = [head[:, : self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            parts.append(F.log_softmax(cluster(input), 1) + head[:, self.shortlist_size + i].unsqueeze(1))
        return FUNCTIONS["cat"](parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class of each row, as PyTorch has it: rare ones only where a cluster leads the head."""
        best = self.head(input).argmax(1)
        return best.where(best < self.shortlist_size, self.log_prob(input).argmax(1))
