"""einops on tensors: the package's functions under their own names, and its layers as modules.

``from gpugrad.einops import rearrange, Rearrange`` stands for ``from einops import rearrange`` and ``from
einops.layers.torch import Rearrange``. Once this is imported, functions taken from einops itself know tensors too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

try:
    from einops import einsum, pack, parse_shape, rearrange, reduce, repeat, unpack
    from einops._backends import AbstractBackend
    from einops.layers import RearrangeMixin, ReduceMixin
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("gpugrad.einops needs einops: pip install 'gpugrad[einops]'", name="einops") from error

from .backend import dtypes
from .nn import Module
from .ops import FUNCTIONS
from .tensor import Tensor

__all__ = ["Rearrange", "Reduce", "einsum", "pack", "parse_shape", "rearrange", "reduce", "repeat", "unpack"]


class _Backend(AbstractBackend):
    """How einops works on tensors; that the class exists is all it needs to find it."""

    framework_name = __package__

    def is_appropriate_type(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor)

    def is_float_type(self, x: Tensor) -> bool:
        return dtypes.is_floating(x.dtype)

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return x.permute(axes)

    def add_axis(self, x: Tensor, new_position: int) -> Tensor:
        return x.unsqueeze(new_position)

    def add_axes(self, x: Tensor, n_axes: int, pos2len: dict[int, int]) -> Tensor:
        for position in pos2len:
            x = x.unsqueeze(position)
        return x.expand([pos2len.get(k, -1) for k in range(n_axes)])

    def reduce(self, x: Tensor, operation: str, axes: Sequence[int]) -> Tensor:
        axes = tuple(sorted(axes))
        if operation in ("min", "max"):
            return getattr(x, f"a{operation}")(axes)
        if operation in ("sum", "mean"):
            return getattr(x, operation)(axes)
        for axis in reversed(axes):
            x = getattr(x, operation)(axis)
        return x

    def stack_on_zeroth_dimension(self, tensors: Sequence[Tensor]) -> Tensor:
        return FUNCTIONS["stack"](tensors)

    def concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        return FUNCTIONS["cat"](tensors, axis)

    def einsum(self, pattern: str, *x: Tensor) -> Tensor:
        return FUNCTIONS["einsum"](pattern, *x)


class Rearrange(RearrangeMixin, Module):
    """``rearrange`` as a layer: ``Rearrange("b c h w -> b (c h w)")``."""

    def forward(self, input: Tensor) -> Tensor:
        """The elements in the new order."""
        return self._apply_recipe(input)


class Reduce(ReduceMixin, Module):
    """``reduce`` as a layer: ``Reduce("b c h w -> b c", "mean")``."""

    def forward(self, input: Tensor) -> Tensor:
        """The elements in the new order, those of the dimensions left out reduced."""
        return self._apply_recipe(input)
