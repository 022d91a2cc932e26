"""Parameters and buffers: the tensors that a module owns."""

from __future__ import annotations

from typing import Any

from ..creation import empty
from ..tensor import Tensor


class Parameter(Tensor):
    """A tensor that a module registers as a parameter when it is assigned to an attribute.

    Args:
        data: its values, shared and not copied; None for an empty tensor.
        requires_grad: whether ``backward`` computes a gradient for it.

    Raises:
        TypeError: ``data`` is no tensor.
        RuntimeError: ``data`` is not floating point and ``requires_grad`` is true.
    """

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True):
        if data is None:
            data = empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter expects a Tensor, but got {type(data).__name__}; convert it with gg.tensor")
        self._data = data._data
        self._version_counter = data._counter()
        self._inference = data._inference
        self.requires_grad = requires_grad

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        other = super().__deepcopy__(memo)
        other._grad = None  # as in PyTorch, a copy of a module starts without gradients
        return other


class Buffer(Tensor):
    """A tensor that a module registers as a buffer when it is assigned to an attribute.

    Args:
        data: its values, shared and not copied; None for an empty tensor.
        persistent: whether it is part of the module's state dict.
    """

    def __init__(self, data: Tensor | None = None, *, persistent: bool = True):
        data = empty(0) if data is None else data
        self._data = data._data
        self._version_counter = data._counter()
        self._needs_grad = data._needs_grad
        self.persistent = persistent


class _Uninitialized(Tensor):
    """A tensor whose shape is known only after the first call of its (lazy) module; using it before raises."""

    cls_to_become: type[Tensor]

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None):
        # Knows where and of which dtype the data will be.
        self._like = empty(0, device=device, dtype=dtype)
        self._needs_grad = requires_grad

    @property
    def _data(self) -> Any:
        raise ValueError(
            "Attempted to use an uninitialized parameter: its shape is not known yet. "
            "Call its lazy module once with a batch of data, then make the optimizer"
        )

    @property
    def device(self) -> Any:
        """Where the elements will be."""
        return self._like.device

    @property
    def shape(self) -> Any:
        """Not known yet.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(
            "Can't access the shape of an uninitialized parameter or buffer. "
            "Call `forward` to initialize the parameters before accessing their attributes"
        )

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Become an ordinary tensor of the given shape, with values that are not set yet."""
        where = self._like.device if device is None else device
        data = empty(tuple(shape), device=where, dtype=self._like.dtype if dtype is None else dtype)
        self.__class__ = self.cls_to_become  # type: ignore[assignment]
        del self._like
        self._data = data._data  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        other = type(self)(self._needs_grad, self._like.device, self._like.dtype)
        memo[id(self)] = other
        return other

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class UninitializedParameter(_Uninitialized, Parameter):
    """A parameter of a lazy module, before the module's first call; then it becomes a :class:`Parameter`."""

    cls_to_become = Parameter

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None):
        super().__init__(requires_grad, device, dtype)


class UninitializedBuffer(_Uninitialized):
    """A buffer of a lazy module, before the module's first call."""

    cls_to_become = Tensor


def is_lazy(tensor: Any) -> bool:
    """Whether a parameter or buffer still waits for its shape."""
    return isinstance(tensor, _Uninitialized)
