"""Padding of the last dimensions."""

from __future__ import annotations

from typing import Any

from ...tensor import Tensor
from .. import functional as F
from .module import Module
from .utils import ntuple


class _Pad(Module):
    """Adds elements at both ends of the last dimensions.

    Args:
        padding: one width for all ends, or (left, right, top, bottom, front, back), as many as the dimensions have.
    """

    _ndim: int
    _mode: str

    def __init__(self, padding: Any):
        super().__init__()
        self.padding = ntuple(padding, 2 * self._ndim)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, mode=self._mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    """Padding with one value.

    Args:
        padding: one width for all ends, or (left, right, top, bottom, front, back), as many as the dimensions have.
        value: what is put there.
    """

    _mode = "constant"

    def __init__(self, padding: Any, value: float):
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """Padding of the last dimension with one value."""

    _ndim = 1


class ConstantPad2d(_ConstantPad):
    """Padding of the last two dimensions with one value."""

    _ndim = 2


class ConstantPad3d(_ConstantPad):
    """Padding of the last three dimensions with one value."""

    _ndim = 3


class ZeroPad1d(_Pad):
    """Padding of the last dimension with zeros."""

    _ndim, _mode = 1, "constant"


class ZeroPad2d(_Pad):
    """Padding of the last two dimensions with zeros."""

    _ndim, _mode = 2, "constant"


class ZeroPad3d(_Pad):
    """Padding of the last three dimensions with zeros."""

    _ndim, _mode = 3, "constant"


class ReflectionPad1d(_Pad):
    """Padding of the last dimension with its mirror image, without the edge."""

    _ndim, _mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """Padding of the last two dimensions with their mirror image, without the edge."""

    _ndim, _mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """Padding of the last three dimensions with their mirror image, without the edge."""

    _ndim, _mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """Padding of the last dimension with its edge."""

    _ndim, _mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """Padding of the last two dimensions with their edges."""

    _ndim, _mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """Padding of the last three dimensions with their edges."""

    _ndim, _mode = 3, "replicate"


class CircularPad1d(_Pad):
    """Padding of the last dimension with its other end."""

    _ndim, _mode = 1, "circular"


class CircularPad2d(_Pad):
    """Padding of the last two dimensions with their other ends."""

    _ndim, _mode = 2, "circular"


class CircularPad3d(_Pad):
    """Padding of the last three dimensions with their other ends."""

    _ndim, _mode = 3, "circular"
